// softmax_topk and token_logprobs: checks, plan, table look-up, parallel loop.
//
// Lives here: what their arguments mean. Must not: SIMD, OpenMP, NumPy.
//
// Rows go one at a time, so that all passes over a row but the first find it in the cache. Nothing of the size of the
// input is allocated.
#include <functional>
#include <optional>
#include <vector>

#include "operands.hpp"

namespace softloss {
namespace {

/// Up to this many, the largest are kept sorted while the row is read; more are kept in a heap.
constexpr int64_t kShortList = 128;

/// Memory of a task: a staged row (operands.hpp) where the kernels cannot read the array's own, then k values and k indices.
template <class T>
struct Workspace {
    Staging<T> staging;
    std::size_t lists, bytes;
    Workspace(const TensorView& x, const Plan& plan, int64_t k)
        : staging(x, nullptr, plan),
          lists((staging.bytes(!holds_rows<T>(x, plan, 0)) + 63) / 64 * 64),
          bytes(lists + 2 * k * sizeof(double)) {}

    /// One row as adjacent elements.
    const T* row(const Strides& at, void* scratch) const {
        if (holds_rows<T>(staging.x, staging.plan, 0))
            return reinterpret_cast<const T*>(static_cast<const char*>(staging.x.data) + at[0]);
        staging.read(at, 0, staging.plan.n, Staging<T>::memory(scratch));
        return Staging<T>::memory(scratch);
    }
    double* values(void* scratch) const {
        return reinterpret_cast<double*>(static_cast<char*>(scratch) + lists);
    }
};

/// The k largest of a row of n; NaN and -inf come last, in order of index.
template <class T>
void find_top(const T* x, int64_t n, int64_t k, double* value, int64_t* index) {
    int64_t held = 0;
    if (k <= kShortList) {
        held = active_table().compute<T>().top(x, n, k, value, index);
    } else {
        // Values with the negative of their index: of equal ones the first is the larger. The least lies on top.
        std::vector<std::pair<double, int64_t>> heap;
        heap.reserve(k);
        double least = -std::numeric_limits<double>::infinity();  // of the k so far
        for (int64_t i = 0; i < n; ++i) {
            if (!(static_cast<double>(x[i]) > least)) continue;
            if (static_cast<int64_t>(heap.size()) == k) {
                std::pop_heap(heap.begin(), heap.end(), std::greater<>());
                heap.pop_back();
            }
            heap.emplace_back(x[i], -i);
            std::push_heap(heap.begin(), heap.end(), std::greater<>());
            if (static_cast<int64_t>(heap.size()) == k) least = heap.front().first;
        }
        std::sort_heap(heap.begin(), heap.end(), std::greater<>());
        for (const auto& [largest, place] : heap) {
            value[held] = largest;
            index[held++] = -place;
        }
    }
    if (held == k) return;
    std::vector<int64_t> taken(index, index + held);
    std::sort(taken.begin(), taken.end());
    for (int64_t i = 0; held < k; ++i) {
        if (std::binary_search(taken.begin(), taken.end(), i)) continue;
        value[held] = -std::numeric_limits<double>::infinity();
        index[held++] = i;
    }
}

/// Writes element `place` of what `at` points to in an optional output.
template <class Value>
void put(const MutableTensorView* view, const Strides& at, int operand, int64_t stride, int64_t place,
         Value value) {
    if (!view) return;
    char* const p = static_cast<char*>(view->data) + at[operand] + place * stride;
    if (view->dtype == DType::int64) {
        write(p, static_cast<int64_t>(value), view->swapped);
    } else {
        const double wide = static_cast<double>(value);
        scatter(&wide, 1, p, 0, view->dtype, view->swapped);
    }
}

int checked_axis(const TensorView& x, const ScoreOptions& options, const char* name) {
    if (x.ndim() == 0) fail(std::string(name) + " must have at least one dimension, the classes");
    const int axis = normalize_axis(options.axis, x.ndim());
    check_temperature(options.temperature);
    checked_size(x.shape);
    return axis;
}
void check_k(int64_t k, int64_t least, int64_t classes, const char* what) {
    if (k < least || k > classes)
        fail(std::string(what) + " must lie in " + digits_of(least) + ".." + digits_of(classes) +
             ", the number of classes, got " + digits_of(k));
}
void check_result(const MutableTensorView* view, std::span<const int64_t> shape, bool index,
                  const TensorView& x, const char* name) {
    if (!view) return;
    if (!same_shape(view->shape, shape))
        fail(std::string(name) + " must have shape " + to_string(shape) + ", got " + to_string(view->shape));
    if (!index) check_floats(*view, name);
    else if (view->dtype != DType::int64) fail(std::string(name) + " must be an array of int64");
    if (overlaps(x, *view)) fail(std::string(name) + " overlaps the input");
    check_distinct(*view, name);
}

constexpr int64_t kRows = 256;  ///< of a task at the most

template <class T>
void topk_rows(const TensorView& x, const MutableTensorView& prob, const MutableTensorView& index,
               const ScoreOptions& options, const Plan& plan, int axis) {
    const int64_t k = options.k;
    const ComputeKernels<T>& kernels = active_table().compute<T>();
    const Workspace<T> space(x, plan, k);
    for_each_batch(plan, std::min(rows_per_task(plan), kRows), space.bytes + k * sizeof(T),
                   [&](const Strides& at, int64_t rows, void* scratch) {
                       double* const value = space.values(scratch);
                       int64_t* const places = reinterpret_cast<int64_t*>(value + k);
                       T* const p = reinterpret_cast<T*>(static_cast<char*>(scratch) + space.bytes);
                       for (int64_t r = 0; r < rows; ++r) {
                           const Strides here = row_at(at, plan, r);
                           const T* const row = space.row(here, scratch);
                           find_top(row, plan.n, k, value, places);
                           kernels.softmax_at(row, plan.n, places, k, p,
                                              {options.temperature, false, scratch});
                           for (int64_t i = 0; i < k; ++i) {
                               put(&prob, here, 1, prob.strides[axis], i, p[i]);
                               put(&index, here, 2, index.strides[axis], i, places[i]);
                           }
                       }
                   });
}

struct Tokens {
    const TensorView &x, &target;
    const TokenScoreViews& out;
    const ScoreOptions& options;
    /// Operands: x, target, float outputs of a row, int64 outputs of a row, top_logprob, top_index.
    Plan plan;
};

/// target of the row that starts at `at`; std::nullopt where ignored.
std::optional<int64_t> label_of(const Tokens& t, const Strides& at) {
    int64_t label;
    load_labels(t.target, at[1], 0, 1, t.options.ignore_index, &label);
    if (label == t.options.ignore_index) return std::nullopt;
    return label >= 0 && label < t.plan.n ? label : 0;  // checked before; but somebody may write it meanwhile
}

template <class T>
void token_rows(const Tokens& t) {
    const int64_t k = t.options.k, n = t.plan.n;
    const KernelTable& table = active_table();
    const double temperature = t.options.temperature;
    const Workspace<T> space(t.x, t.plan, k);
    for_each_batch(
        t.plan, std::min(rows_per_task(t.plan), kRows), space.bytes,
        [&](const Strides& at, int64_t rows, void* scratch) {
            double* const value = space.values(scratch);
            int64_t* const places = reinterpret_cast<int64_t*>(value + k);
            for (int64_t r = 0; r < rows; ++r) {
                const Strides here = row_at(at, t.plan, r);
                const T* const row = space.row(here, scratch);
                const RowOptions options{temperature, false, scratch};
                T maximum, rest;
                table.of(dtype_of<T>)
                    .partition({reinterpret_cast<const char*>(row), 0, sizeof(T)}, 1, n,
                               {&maximum, &rest, nullptr}, options);
                const auto logprob = [&](double x) {
                    return -((static_cast<double>(maximum) - x) / temperature + static_cast<double>(rest));
                };
                const std::optional<int64_t> label = label_of(t, here);
                const double x = label ? element<double>(t.x, here[0] + *label * t.plan.axis[0])
                                       : static_cast<double>(maximum);
                RowScores scores = table.compute<T>().describe(row, n, maximum, x, temperature);
                // The first NaN is the maximum, as in NumPy.
                for (int64_t i = 0; rest != rest && i < n; ++i) {
                    const double v = element<double>(t.x, here[0] + i * t.plan.axis[0]);
                    if (v == v) continue;
                    scores.argmax = i;
                    break;
                }
                put(t.out.logprob, here, 2, 0, 0, label ? logprob(x) : 0.0);
                put(t.out.argmax, here, 3, 0, 0, scores.argmax < n ? scores.argmax : 0);
                put(t.out.rank, here, 3, 0, 0, label ? 1 + scores.greater : int64_t{0});
                put(t.out.entropy, here, 2, 0, 0, static_cast<double>(rest) + scores.gap);
                if (k == 0) continue;
                find_top(row, n, k, value, places);
                for (int64_t i = 0; i < k; ++i) {
                    put(t.out.top_logprob, here, 4, t.out.top_logprob->strides.back(), i, logprob(value[i]));
                    put(t.out.top_index, here, 5, t.out.top_index->strides.back(), i, places[i]);
                }
            }
        });
}

}  // namespace

void softmax_topk(const TensorView& x, const MutableTensorView& prob, const MutableTensorView& index,
                  const ScoreOptions& options) {
    const int axis = checked_axis(x, options, "x");
    Dims shape(x.shape);
    check_k(options.k, 1, shape[axis], "k");
    shape[axis] = options.k;
    check_result(&prob, shape, false, x, "prob");
    check_result(&index, shape, true, x, "index");
    if (checked_size(shape) == 0) return;
    const Operand operands[] = {x.strides, prob.strides, index.strides};
    const Plan plan = make_plan(x.shape, axis, operands);
    if (compute_dtype(x) == DType::float64) topk_rows<double>(x, prob, index, options, plan, axis);
    else topk_rows<float>(x, prob, index, options, plan, axis);
}

void token_logprobs(const TensorView& logits, const TensorView& target, const TokenScoreViews& out,
                    const ScoreOptions& options) {
    const int axis = checked_axis(logits, options, "logits");
    const int64_t classes = logits.shape[axis];
    const Dims rows = without_axis(logits.shape, axis);
    if (is_floating(target.dtype) || target.dtype == DType::boolean)
        fail("target must hold class indices (integers)");
    check_target_shape(logits, target, axis, "logits");
    check_k(options.k, 0, classes, "top_k");
    Dims lists = rows;
    lists.push_back(options.k);
    check_result(out.logprob, rows, false, logits, "logprob");
    check_result(out.argmax, rows, true, logits, "argmax");
    check_result(out.rank, rows, true, logits, "rank");
    check_result(out.entropy, rows, false, logits, "entropy");
    check_result(out.top_logprob, lists, false, logits, "top_logprob");
    check_result(out.top_index, lists, true, logits, "top_index");
    if (checked_size(rows) == 0) return;
    check_classes(logits, axis, "logits");
    check_labels(target, classes, options.ignore_index);
    const auto per_row = [&](const MutableTensorView* a, const MutableTensorView* b) {
        return Operand(strides_of(a ? a : b), true);
    };
    const auto per_list = [&](const MutableTensorView* view) {
        if (!view || options.k == 0) return Operand();
        return Operand(view->strides.first(view->strides.size() - 1), true);
    };
    const Operand operands[] = {logits.strides,
                                {target.strides, true},
                                per_row(out.logprob, out.entropy),
                                per_row(out.argmax, out.rank),
                                per_list(out.top_logprob),
                                per_list(out.top_index)};
    for (const auto& [a, b] : {std::pair{out.logprob, out.entropy}, std::pair{out.argmax, out.rank}}) {
        if (a && b && !std::ranges::equal(a->strides, b->strides))
            fail("outputs of one type must have the same strides");
    }
    const Tokens tokens{logits, target, out, options, make_plan(logits.shape, axis, operands)};
    if (compute_dtype(logits) == DType::float64) token_rows<double>(tokens);
    else token_rows<float>(tokens);
}

}  // namespace softloss
