// Losses over classes: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what targets, weights and reductions mean. Must not: SIMD, OpenMP, NumPy.
#include <atomic>

#include "operands.hpp"

namespace softloss {
namespace {

enum class Scores { logits, log_probs, probs };

/// Weighted losses of all rows in C order, and what they count for in the mean.
struct RowLosses {
    std::vector<double> loss, norm;
    int64_t counted = 0;
};

/// Targets are class indices (one for each row) or class probabilities; both as operands of the plan.
struct ClassLoss {
    Scores kind;
    const TensorView& x;
    const TensorView& target;
    const ClassLossOptions& options;
    int axis;
    Plan plan;  ///< operands: x, losses (double), where (unused), target, sample_weight
    std::vector<double> weight;

    bool indices() const { return !is_floating(target.dtype); }
    bool ignored(int64_t label) const { return options.ignore_index && label == *options.ignore_index; }
};

void check_labels(const TensorView& target, int64_t classes, const ClassLossOptions& options) {
    int64_t bad = 0, first = 0, first_label = 0;
    int64_t first_offset = 0;
    for_each_element(target.shape, target.strides, [&](int64_t i, int64_t offset) {
        const int64_t label = label_at(target, offset);
        if ((label < 0 || label >= classes) && !(options.ignore_index && label == *options.ignore_index)) {
            if (bad++ == 0) {
                first = i;
                first_label = label;
                first_offset = offset;
            }
        }
        return true;
    });
    if (bad == 0) return;
    const std::string range = "0.." + std::to_string(classes - 1);
    throw std::out_of_range(
        "target" + place_of(first, target.shape) + " = " +
        (target.dtype == DType::uint64
             ? std::to_string(
                   read<std::uint64_t>(static_cast<const char*>(target.data) + first_offset, target.swapped))
             : std::to_string(first_label)) +
        " is out of range for axis of " + std::to_string(classes) + " classes (" + std::to_string(bad) +
        " bad label" + (bad == 1 ? "" : "s") + " in all); valid are " + range +
        (options.ignore_index ? " or ignore_index=" + std::to_string(*options.ignore_index) : ""));
}

/// The weights q of one row: soft targets, smoothing and class weights in one distribution (not normalised).
void fill_weights(const ClassLoss& c, const Strides& at, int64_t label, double* q) {
    const int64_t n = c.plan.n;
    const double smoothing = c.options.label_smoothing, uniform = smoothing / static_cast<double>(n);
    if (c.indices()) {
        std::fill(q, q + n, uniform);
        q[label] += 1 - smoothing;
    } else {
        gather(static_cast<const char*>(c.target.data) + at[3], c.plan.axis[3], n, c.target.dtype,
               c.target.swapped, q);
        if (smoothing != 0) {
            for (int64_t i = 0; i < n; ++i) q[i] = (1 - smoothing) * q[i] + uniform;
        }
    }
    for (int64_t i = 0; i < n && !c.weight.empty(); ++i) q[i] *= c.weight[i];
}

/// loss = sum of q (logsumexp(x) - x), by class.
template <class T>
double soft_loss(const ClassLoss& c, const Strides& at, int64_t label, double maximum, double rest,
                 double* memory, std::atomic<bool>& bad) {
    const int64_t n = c.plan.n;
    const KernelTable& table = active_table();
    T* const row = reinterpret_cast<T*>(memory);
    gather(static_cast<const char*>(c.x.data) + at[0], c.plan.axis[0], n, c.x.dtype, c.x.swapped, row);
    if constexpr (sizeof(T) == 4) {
        for (int64_t i = n; i-- > 0;) {  // widened in place, from the end
            float value;
            std::memcpy(&value, reinterpret_cast<char*>(memory) + i * sizeof(float), sizeof value);
            const double wide = value;
            std::memcpy(reinterpret_cast<char*>(memory) + i * sizeof(double), &wide, sizeof wide);
        }
    }
    double* const q = memory + n;
    fill_weights(c, at, label, q);
    if (c.kind == Scores::probs) {
        for (int64_t i = 0; i < n; ++i) bad = bad || memory[i] < 0 || memory[i] > 1;
        return table.weighted.surprisal(memory, q, n);
    }
    if (c.kind == Scores::log_probs) return table.weighted.gap(memory, q, n, 0);
    return table.weighted.gap(memory, q, n, maximum) / c.options.temperature + rest * table.f64.sum(q, n);
}

template <class T>
void row_losses(const ClassLoss& c, RowLosses& result) {
    const bool soft = !c.indices() || c.options.label_smoothing != 0;
    const Staging<T> staging(c.x, nullptr, c.plan);
    const std::size_t soft_offset = (staging.bytes + 63) / 64 * 64;
    const std::size_t bytes = soft_offset + (soft ? 2 * c.plan.n * sizeof(double) : 0);
    std::atomic<int64_t> counted{0};
    std::atomic<bool> bad{false};
    for_each_batch(
        c.plan, std::min<int64_t>(rows_per_task(c.plan), 1024), bytes,
        [&](const Strides& at, int64_t rows, void* scratch) {
            double maximum[1024], rest[1024], value[1024];
            if (c.kind == Scores::logits) {
                partition<T>(c.x, nullptr, c.plan, at, rows, c.options.temperature, maximum, rest, scratch);
            }
            if (!soft) {
                for (int64_t r = 0; r < rows; ++r) {
                    const Strides here = row_at(at, c.plan, r);
                    const int64_t label = label_at(c.target, here[3]);
                    value[r] = c.ignored(label) ? 1 : element<T>(c.x, here[0] + label * c.plan.axis[0]);
                }
                if (c.kind == Scores::probs) {
                    if (active_table().f64.outside_unit(value, rows)) bad = true;
                    active_table().weighted.log(value, value, rows);
                }
            }
            int64_t count = 0;
            for (int64_t r = 0; r < rows; ++r) {
                const Strides here = row_at(at, c.plan, r);
                const int64_t label = c.indices() ? label_at(c.target, here[3]) : 0;
                const int64_t index = here[1] / static_cast<int64_t>(sizeof(double));
                if (c.indices() && c.ignored(label)) continue;
                ++count;
                double loss = -value[r], norm = 1;
                if (soft) {
                    double* const memory =
                        reinterpret_cast<double*>(static_cast<char*>(scratch) + soft_offset);
                    loss = soft_loss<T>(c, here, label, maximum[r], rest[r], memory, bad);
                } else if (c.kind == Scores::logits) {
                    loss = (maximum[r] - value[r]) / c.options.temperature + rest[r];
                }
                if (c.indices() && !c.weight.empty()) norm = c.weight[label];
                double factor = soft ? 1 : norm;  // soft losses hold the class weights already
                if (c.options.sample_weight) {
                    const double s = element<double>(*c.options.sample_weight, here[4]);
                    norm *= s;
                    factor *= s;
                }
                result.loss[index] = factor == 0 ? 0 : factor * loss;
                if (!result.norm.empty()) result.norm[index] = norm;
            }
            counted += count;
        });
    if (bad) fail_outside("probs", c.x);
    result.counted = counted;
}

void check_target_shape(const TensorView& x, const TensorView& target, int axis, const char* name) {
    const std::vector<int64_t> rows = without_axis(x.shape, axis);
    const std::vector<int64_t> expected =
        is_floating(target.dtype) ? std::vector<int64_t>(x.shape.begin(), x.shape.end()) : rows;
    if (same_shape(target.shape, expected)) return;
    std::string hint;
    if (!is_floating(target.dtype) && x.ndim() > 2 && axis != 1 &&
        same_shape(target.shape, without_axis(x.shape, 1))) {
        hint = "; the shapes fit axis=1";
    }
    fail(std::string("target of ") + (is_floating(target.dtype) ? "class probabilities" : "class indices") +
         " must have shape " + to_string(expected) + " for " + name + " of shape " + to_string(x.shape) +
         " and axis " + std::to_string(axis) + ", got " + to_string(target.shape) + hint);
}

double reduce(const RowLosses& rows, Reduction reduction, double empty) {
    const auto sum = active_table().f64.sum;
    const double total = sum(rows.loss.data(), static_cast<int64_t>(rows.loss.size()));
    if (reduction == Reduction::sum) return total;
    const double norm = rows.norm.empty() ? static_cast<double>(rows.counted)
                                          : sum(rows.norm.data(), static_cast<int64_t>(rows.norm.size()));
    return rows.counted == 0 || norm == 0 ? empty : total / norm;
}

double class_loss(Scores kind, const char* name, const TensorView& x, const TensorView& target,
                  const ClassLossOptions& options, const MutableTensorView* losses) {
    if (x.ndim() == 0) fail(std::string(name) + " must have at least one dimension, the classes");
    const int axis = normalize_axis(options.axis, x.ndim());
    const int64_t classes = x.shape[axis];
    if (target.dtype == DType::boolean) fail("target must hold class indices or probabilities, got bool");
    check_target_shape(x, target, axis, name);
    if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
        fail("label_smoothing must lie in [0, 1], got " + std::to_string(options.label_smoothing));
    }
    check_temperature(options.temperature);
    const std::vector<int64_t> row_shape = without_axis(x.shape, axis);
    const int64_t rows = checked_size(row_shape);
    if (options.weight && !(options.weight->ndim() == 1 && options.weight->shape[0] == classes)) {
        fail("weight must have shape (" + std::to_string(classes) + ",), one for each class, got " +
             to_string(options.weight->shape));
    }
    if (options.sample_weight && !same_shape(options.sample_weight->shape, row_shape)) {
        fail("sample_weight must have shape " + to_string(row_shape) + ", got " +
             to_string(options.sample_weight->shape));
    }
    if (losses && !same_shape(losses->shape, row_shape))
        fail("losses must have shape " + to_string(row_shape));
    if (classes == 0 && rows > 0)
        fail(std::string(name) + " of shape " + to_string(x.shape) + " has no classes: axis " +
             std::to_string(axis) + " has length 0");
    if (!is_floating(target.dtype)) check_labels(target, classes, options);

    RowLosses result;
    result.loss.assign(rows, 0);
    if (options.weight || options.sample_weight) result.norm.assign(rows, 0);
    if (rows > 0) {
        std::vector<std::vector<int64_t>> operands{
            strides_of(x), with_axis(contiguous_strides(row_shape, sizeof(double)), axis),
            std::vector<int64_t>(x.ndim(), 0)};
        operands.push_back(is_floating(target.dtype) ? strides_of(target)
                                                     : with_axis(strides_of(target), axis));
        if (options.sample_weight) operands.push_back(with_axis(strides_of(*options.sample_weight), axis));
        ClassLoss c{kind, x, target, options, axis, make_plan(x.shape, axis, operands), {}};
        if (options.weight) {
            c.weight.resize(classes);
            gather(static_cast<const char*>(options.weight->data), options.weight->strides[0], classes,
                   options.weight->dtype, options.weight->swapped, c.weight.data());
        }
        if (options.dtype == DType::float64) row_losses<double>(c, result);
        else row_losses<float>(c, result);
    }
    if (options.reduction != Reduction::none) return reduce(result, options.reduction, options.empty);
    if (!losses) fail("reduction none needs an array for the losses");
    for_each_element(losses->shape, losses->strides, [&](int64_t i, int64_t offset) {
        scatter(&result.loss[i], 1, static_cast<char*>(losses->data) + offset, 0, losses->dtype,
                losses->swapped);
        return true;
    });
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

double cross_entropy(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                     const MutableTensorView* losses) {
    return class_loss(Scores::logits, "logits", logits, target, options, losses);
}

double nll_loss(const TensorView& log_probs, const TensorView& target, const ClassLossOptions& options,
                const MutableTensorView* losses) {
    return class_loss(Scores::log_probs, "log_probs", log_probs, target, options, losses);
}

double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                 const ClassLossOptions& options, const MutableTensorView* losses) {
    return class_loss(Scores::probs, "probs", probs, target, options, losses);
}

}  // namespace softloss
