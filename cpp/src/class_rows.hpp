// Rows with class labels: labels, weights, sums over rows.
//
// Lives here: what losses over classes and calibration share. Must not: what is computed for a row, checks of
// arguments (checks.hpp).
#pragma once

#include <cmath>
#include <optional>

#include "batches.hpp"

namespace softloss {

/// Most rows that a task takes, and that keep a partial sum: a fixed number, so that totals do not depend on
/// the number of threads.
constexpr int64_t kRows = 1024;

// ---- labels and weights ----------------------------------------------------------------------------------

struct LabelCounts {
    int64_t ignored = 0;
    bool bad = false;  ///< a label is out of range; it is replaced by 0
};

/// Reads the labels of `rows` rows, `stride` bytes apart; ignored ones become -1.
inline LabelCounts gather_labels(const TensorView& target, int64_t offset, int64_t stride, int64_t classes,
                                 const std::optional<int64_t>& ignore, int64_t rows, int64_t* label) {
    LabelCounts counts;
    load_labels(target, offset, stride, rows, ignore, label);
    if (all_classes(label, rows, classes, ignore)) return counts;
    for (int64_t r = 0; r < rows; ++r) {
        const bool ignored = label[r] == ignore, outside = label[r] < 0 || label[r] >= classes;
        counts.ignored += ignored;
        counts.bad |= outside && !ignored;
        label[r] = ignored ? -1 : outside ? 0 : label[r];
    }
    return counts;
}

/// result[r] = f(element at the label of row r, label), for rows at data + r * row_stride whose elements are
/// `axis_stride` bytes apart. A row without a label (-1) gives its element of class 0.
template <class F>
void read_at_labels(const TensorView& view, const char* data, int64_t row_stride, int64_t axis_stride,
                    const int64_t* label, int64_t rows, double* result, F f) {
    // Prefetch distance: 64 rows if rows are no further apart than a cache line, each of which is then
    // needed; else the elements at the labels, 32 rows ahead.
    const bool adjacent = std::abs(row_stride) <= 64;
    const auto at = [&](int64_t r) {
        return data + r * row_stride + std::max<int64_t>(label[r], 0) * axis_stride;
    };
    const auto read_with = [&](auto element) {
        for (int64_t r = 0; r < rows; ++r) {
            const char* const p = at(r);
            if (adjacent) __builtin_prefetch(p + 64 * row_stride);
            else if (r + 32 < rows) __builtin_prefetch(at(r + 32));
            result[r] = f(element(p), label[r]);
        }
    };
    if (view.dtype == DType::float32 && !view.swapped)
        return read_with([](const char* p) { return static_cast<double>(read<float>(p, false)); });
    if (view.dtype == DType::float64 && !view.swapped)
        return read_with([](const char* p) { return read<double>(p, false); });
    read_with([&](const char* p) {
        double value;
        gather(p, 0, 1, view.dtype, view.swapped, &value);
        return value;
    });
}

/// The weights of rows. classes: one for each class, of the label; samples: one for each row, `stride` bytes
/// apart. Both may be null.
struct RowWeights {
    const TensorView *classes, *samples;
    int64_t stride;
};
/// sample: the sample weight of each row from byte offset `at` on, 0 if ignored. norm: the row's weight in
/// the mean, sample weight times class weight of the label. rest: the rounding error of norm; may be null.
/// label: null if the rows have none.
inline void fill_norms(const RowWeights& weights, int64_t at, int64_t rows, const int64_t* label,
                       double* sample, double* norm, double* rest) {
    if (!weights.classes && !weights.samples) {
        for (int64_t r = 0; r < rows; ++r) sample[r] = norm[r] = label && label[r] < 0 ? 0 : 1;
        return;  // nobody asks for `rest` then
    }
    if (weights.samples) {
        const TensorView& view = *weights.samples;
        gather(static_cast<const char*>(view.data) + at, weights.stride, rows, view.dtype, view.swapped,
               sample);
    } else {
        std::fill(sample, sample + rows, 1);
    }
    if (label && weights.classes) {
        const TensorView& view = *weights.classes;
        read_at_labels(view, static_cast<const char*>(view.data), 0, view.strides[0], label, rows, norm,
                       [](double weight, int64_t) { return weight; });
    } else {
        std::fill(norm, norm + rows, 1);
    }
    for (int64_t r = 0; r < rows; ++r) {
        const bool kept = !label || label[r] >= 0;
        if (!kept) sample[r] = 0;
        const double weight = norm[r];
        norm[r] = weight == 0 || sample[r] == 0 ? 0 : weight * sample[r];
        if (rest) rest[r] = norm[r] == 0 ? 0 : std::fma(weight, sample[r], -norm[r]);
    }
}

// ---- sums over rows --------------------------------------------------------------------------------------

/// The sum kernel, without its call for a single value: the result is the same.
inline Sum sum_of(const double* x, int64_t n) {
    return n == 1 ? Sum{0 + *x} : active_table().f64.sum(x, n);
}

}  // namespace softloss
