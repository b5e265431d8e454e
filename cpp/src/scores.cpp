// softmax_topk and token_logprobs: checks, plan, table look-up, parallel loop.
//
// Lives here: what their arguments mean. Must not: SIMD, OpenMP, NumPy.
//
// A list holds the k largest elements of a row. Kernels that take many rows compute all scores, and the lists
// of short rows. Lists of longer rows are made row by row, so that every pass over a row except the first
// finds it in the caches. No memory of the size of the input is allocated.
#include <functional>
#include <optional>
#include <vector>

#include "batches.hpp"
#include "checks.hpp"

namespace softloss {
namespace {

/// Up to this k, the largest elements are kept in a sorted list while the row is read; beyond it, in a heap.
constexpr int64_t kShortList = 128;

constexpr int64_t kRows = 256;  ///< most rows of a task

/// Memory of a task: staged rows (staging.hpp) if the kernels cannot read the array in place; then the lists,
/// of all rows of the task if these are short, otherwise of one row.
///   staged rows | padding to 64 bytes | index (entries) | values (entries) | probs (entries)
/// Tasks with lists of short rows have fewer rows, a multiple of 16: their lists stay near 1024 entries.
template <class T>
struct Workspace {
    Staging<T> staging;
    int64_t k, rows;
    std::size_t lists, bytes;
    Workspace(const TensorView& x, const Plan& plan, int64_t k_)
        : staging(x, nullptr, plan),
          k(k_),
          rows(k > 0 && is_short() ? std::clamp<int64_t>(1024 / k / 16 * 16, 16, kRows) : kRows),
          lists((staging.bytes(!holds_rows<T>(x, plan, 0)) + 63) / 64 * 64),
          bytes(lists + 3 * entries() * sizeof(double)) {}

    bool is_short() const { return staging.plan.n < kShortRow; }
    int64_t task_rows() const { return std::min(rows_per_task(staging.plan), rows); }
    /// One row as adjacent elements.
    const T* row(const Strides& at, void* scratch) const {
        if (holds_rows<T>(staging.x, staging.plan, 0))
            return reinterpret_cast<const T*>(static_cast<const char*>(staging.x.data) + at[0]);
        staging.read(at, 0, staging.plan.n, Staging<T>::memory(scratch));
        return Staging<T>::memory(scratch);
    }
    int64_t* index(void* scratch) const {
        return reinterpret_cast<int64_t*>(static_cast<char*>(scratch) + lists);
    }
    /// The k largest elements of a long row; put_long_rows replaces them by their log-probabilities.
    double* values(void* scratch) const { return reinterpret_cast<double*>(index(scratch) + entries()); }
    T* probs(void* scratch) const { return reinterpret_cast<T*>(values(scratch) + entries()); }

  private:
    int64_t entries() const { return k * (is_short() ? rows : 1); }
};

/// x: (n) adjacent elements -> value, index: (k), largest first, ties by index. NaN and -inf come last, in
/// the order of their indices.
template <class T>
void find_top(const T* x, int64_t n, int64_t k, double* value, int64_t* index) {
    int64_t held = 0;
    if (k <= kShortList) {
        held = active_table().compute<T>().top(x, n, k, value, index);
    } else {
        // A heap of (value, -index), the smallest on top: of equal values, the one with the lower index
        // counts as larger.
        std::vector<std::pair<double, int64_t>> heap;
        heap.reserve(k);
        double least = -std::numeric_limits<double>::infinity();  // the smallest of the k largest so far
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
    // Fewer than k elements are above -inf: the rest of the list is the other elements, which count as -inf.
    std::vector<int64_t> taken(index, index + held);
    std::sort(taken.begin(), taken.end());
    for (int64_t i = 0; held < k; ++i) {
        if (std::binary_search(taken.begin(), taken.end(), i)) continue;
        value[held] = -std::numeric_limits<double>::infinity();
        index[held++] = i;
    }
}

/// Writes n numbers to an output, from byte offset `at` on, `stride` bytes apart; nothing if it is null.
template <class Value>
void put(const MutableTensorView* view, int64_t at, int64_t stride, int64_t n, const Value* values) {
    if (view) scatter(values, n, static_cast<char*>(view->data) + at, stride, view->dtype, view->swapped);
}

int checked_axis(const TensorView& x, const auto& options, const char* name) {
    if (x.ndim() == 0) fail(std::string(name) + " must have at least one dimension (the classes)");
    const int axis = normalize_axis(options.axis, x.ndim());
    check_temperature(options.temperature);
    return axis;
}
void check_result(const MutableTensorView* view, std::span<const int64_t> shape, bool index,
                  const char* name) {
    if (!view) return;
    if (!same_shape(view->shape, shape))
        fail(std::string(name) + " must have shape " + to_string(shape) + ", got " + to_string(view->shape));
    if (!index) check_floats(*view, name);
    else if (view->dtype != DType::int64) fail(std::string(name) + " must be an array of int64");
}

/// Rejects two outputs with different strides: both are one operand of the plan, which has one set of
/// strides.
void check_strides(const MutableTensorView* a, const char* a_name, const MutableTensorView* b,
                   const char* b_name) {
    for (int d = 0; a && b && d < a->ndim(); ++d) {
        if (a->shape[d] > 1 && a->strides[d] != b->strides[d])
            fail(std::string(a_name) + " and " + b_name + " must have the same strides, got " +
                 to_string(a->strides) + " and " + to_string(b->strides));
    }
}

template <class T>
void topk_rows(const TensorView& x, const MutableTensorView& prob, const MutableTensorView& index,
               const TopKOptions& options, const Plan& plan, int axis) {
    const int64_t k = options.k, n = plan.n;
    const Workspace<T> space(x, plan, k);
    // Operands: x, prob, index.
    const int64_t prob_stride = prob.strides[axis], index_stride = index.strides[axis];
    const auto short_rows = [&](const Strides& at, int64_t rows, void* scratch) {
        int64_t* const places = space.index(scratch);
        T* const p = space.probs(scratch);
        for_each_readable<T>(
            space.staging, at, rows, scratch,
            [&](const StorageKernels& kernels, const RowsIn& from, int64_t first, int64_t count) {
                kernels.top_rows({from, k, nullptr, p + first, places + first, rows}, count, n,
                                 {options.temperature, false, scratch});
            });
        for (int64_t j = 0; j < k; ++j) {
            put(&prob, at[1] + j * prob_stride, plan.row_stride[1], rows, p + j * rows);
            put(&index, at[2] + j * index_stride, plan.row_stride[2], rows, places + j * rows);
        }
    };
    const auto long_rows = [&](const Strides& at, int64_t rows, void* scratch) {
        int64_t* const places = space.index(scratch);
        T* const p = space.probs(scratch);
        for (int64_t r = 0; r < rows; ++r) {
            const Strides here = row_at(at, plan, r);
            const T* const row = space.row(here, scratch);
            find_top(row, n, k, space.values(scratch), places);
            active_table().compute<T>().softmax_at(row, n, places, k, p,
                                                   {options.temperature, false, scratch});
            put(&prob, here[1], prob_stride, k, p);
            put(&index, here[2], index_stride, k, places);
        }
    };
    for_each_batch(plan, space.task_rows(), space.bytes, [&](const Strides& at, int64_t rows, void* scratch) {
        if (space.is_short()) short_rows(at, rows, scratch);
        else long_rows(at, rows, scratch);
    });
}

struct Tokens {
    const TensorView &x, &target;
    const TokenScoreViews& out;
    const TokenOptions& options;
    /// Operands: x, target, float outputs of a row, int64 outputs of a row, top_logprob, top_index.
    Plan plan;
};

/// The labels of `rows` rows, -1 where ignored.
void load_targets(const Tokens& t, const Strides& at, int64_t rows, int64_t* label) {
    const std::optional<int64_t>& ignore = t.options.ignore_index;
    load_labels(t.target, at[1], t.plan.row_stride[1], rows, ignore, label);
    if (all_classes(label, rows, t.plan.n, ignore)) return;
    for (int64_t r = 0; r < rows; ++r) {
        // check_labels has passed, but another thread may have written the array since: never read outside
        // the row.
        const bool inside = label[r] >= 0 && label[r] < t.plan.n;
        label[r] = label[r] == ignore ? -1 : inside ? label[r] : 0;
    }
}

int64_t last_stride(const MutableTensorView* view) {
    return view ? view->strides.back() : 0;
}

/// Labels and scores of the rows of a task.
template <class T>
struct TokenBatch {
    int64_t label[kRows], argmax[kRows], rank[kRows];
    double logprob[kRows], entropy[kRows];
    T maximum[kRows], rest[kRows];
};

/// The lists of a task's rows: log-probabilities and indices of the k largest. The scores of these rows, b,
/// must be there before the lists are written: log-probabilities are made from their maximum and log_rest.
template <class T>
class TokenLists {
  public:
    TokenLists(const Tokens& t, const TokenBatch<T>& b, const Workspace<T>& space, void* scratch)
        : t_(t), b_(b), space_(space), index_(space.index(scratch)), scratch_(scratch) {}

    void of_short_rows(const StorageKernels& kernels, const RowsIn& from, int64_t first, int64_t count,
                       int64_t rows) const {
        T* const values = space_.probs(scratch_);
        kernels.top_rows({from, k(), values + first, nullptr, index_ + first, rows}, count, t_.plan.n,
                         {t_.options.temperature, false, scratch_});
    }
    void put_short_rows(const Strides& at, int64_t rows) const {
        const T* const values = space_.probs(scratch_);
        double logprob[kRows];
        for (int64_t j = 0; j < k(); ++j) {
            for (int64_t r = 0; r < rows; ++r) logprob[r] = logprob_of(values[j * rows + r], r);
            put(t_.out.top_logprob, at[4] + j * last_stride(t_.out.top_logprob), t_.plan.row_stride[4], rows,
                logprob);
            put(t_.out.top_index, at[5] + j * last_stride(t_.out.top_index), t_.plan.row_stride[5], rows,
                index_ + j * rows);
        }
    }
    void put_long_rows(const Strides& at, int64_t rows) const {
        double* const values = space_.values(scratch_);
        for (int64_t r = 0; r < rows; ++r) {
            const Strides here = row_at(at, t_.plan, r);
            find_top(space_.row(here, scratch_), t_.plan.n, k(), values, index_);
            for (int64_t j = 0; j < k(); ++j) values[j] = logprob_of(values[j], r);
            put(t_.out.top_logprob, here[4], last_stride(t_.out.top_logprob), k(), values);
            put(t_.out.top_index, here[5], last_stride(t_.out.top_index), k(), index_);
        }
    }

  private:
    int64_t k() const { return space_.k; }
    double logprob_of(double x, int64_t r) const {
        const double maximum = b_.maximum[r], t = t_.options.temperature;
        const double gap = std::isinf(maximum - x) ? maximum / t - x / t : (maximum - x) / t;
        const double y = -(gap + static_cast<double>(b_.rest[r]));
        return std::isnan(y) ? std::numeric_limits<double>::quiet_NaN() : y;  // NaN has one bit pattern
    }

    const Tokens& t_;
    const TokenBatch<T>& b_;
    const Workspace<T>& space_;
    int64_t* index_;
    void* scratch_;
};

template <class T>
void token_rows(const Tokens& t) {
    const bool wanted = t.out.top_logprob || t.out.top_index;
    const Workspace<T> space(t.x, t.plan, wanted ? t.options.top_k : 0);
    const bool lists = space.k > 0, short_lists = lists && space.is_short();
    for_each_batch_with<TokenBatch<T>>(
        t.plan, space.task_rows(), space.bytes,
        [&](const Strides& at, int64_t rows, TokenBatch<T>& b, void* scratch) {
            const TokenLists<T> top(t, b, space, scratch);
            load_targets(t, at, rows, b.label);
            for_each_readable<T>(
                space.staging, at, rows, scratch,
                [&](const StorageKernels& kernels, const RowsIn& from, int64_t first, int64_t count) {
                    kernels.scores({from, b.label + first, b.maximum + first, b.rest + first,
                                    b.logprob + first, b.entropy + first, b.argmax + first, b.rank + first},
                                   count, t.plan.n, {t.options.temperature, false, scratch});
                    if (short_lists) top.of_short_rows(kernels, from, first, count, rows);
                });
            put(t.out.logprob, at[2], t.plan.row_stride[2], rows, b.logprob);
            put(t.out.argmax, at[3], t.plan.row_stride[3], rows, b.argmax);
            put(t.out.rank, at[3], t.plan.row_stride[3], rows, b.rank);
            put(t.out.entropy, at[2], t.plan.row_stride[2], rows, b.entropy);
            if (short_lists) top.put_short_rows(at, rows);
            else if (lists) top.put_long_rows(at, rows);
        });
}

}  // namespace

void softmax_topk(const TensorView& x_, const MutableTensorView& prob_, const MutableTensorView& index_,
                  const TopKOptions& options) {
    const DefaultFloatMode mode;
    const Input x_in("x", x_);
    const Output prob_out("prob", prob_), index_out("index", index_);
    const TensorView& x = *x_in;
    const MutableTensorView &prob = *prob_out, &index = *index_out;
    const int axis = checked_axis(x, options, "x");
    Dims shape(x.shape);
    detail::check_count("k", options.k, 1, shape[axis]);
    shape[axis] = options.k;
    check_result(&prob, shape, false, "prob");
    check_result(&index, shape, true, "index");
    check_memory({{"x", &x}}, {{"prob", &prob}, {"index", &index}});
    if (checked_size(shape) == 0) return;
    const Operand operands[] = {x.strides, prob.strides, index.strides};
    const Plan plan = make_plan(x.shape, axis, operands);
    if (compute_dtype_of(x.dtype) == DType::float64) topk_rows<double>(x, prob, index, options, plan, axis);
    else topk_rows<float>(x, prob, index, options, plan, axis);
}

void token_logprobs(const TensorView& logits_, const TensorView& target_, const TokenScoreViews& given,
                    const TokenOptions& options) {
    const DefaultFloatMode mode;
    const Input logits_in("logits", logits_), target_in("target", target_);
    const Output logprob("logprob", given.logprob), argmax("argmax", given.argmax), rank("rank", given.rank),
        entropy("entropy", given.entropy), top_logprob("top_logprob", given.top_logprob),
        top_index("top_index", given.top_index);
    const TensorView &logits = *logits_in, &target = *target_in;
    const TokenScoreViews out{logprob.get(), argmax.get(),      rank.get(),
                              entropy.get(), top_logprob.get(), top_index.get()};
    const int axis = checked_axis(logits, options, "logits");
    const int64_t classes = logits.shape[axis];
    const Dims rows = without_axis(logits.shape, axis);
    if (is_floating(target.dtype) || target.dtype == DType::boolean)
        fail("target must hold class indices (integers)");
    check_target_shape(logits, target, axis, "logits");
    detail::check_count("top_k", options.top_k, 0, classes);
    Dims lists = rows;
    lists.push_back(options.top_k);
    check_result(out.logprob, rows, false, "logprob");
    check_result(out.argmax, rows, true, "argmax");
    check_result(out.rank, rows, true, "rank");
    check_result(out.entropy, rows, false, "entropy");
    check_result(out.top_logprob, lists, false, "top_logprob");
    check_result(out.top_index, lists, true, "top_index");
    check_memory({{"logits", &logits}, {"target", &target}}, {{"logprob", out.logprob},
                                                              {"argmax", out.argmax},
                                                              {"rank", out.rank},
                                                              {"entropy", out.entropy},
                                                              {"top_logprob", out.top_logprob},
                                                              {"top_index", out.top_index}});
    if (checked_size(rows) == 0) return;
    check_classes(logits, axis, "logits");
    check_labels(target, classes, options.ignore_index);
    const auto per_row = [&](const MutableTensorView* a, const MutableTensorView* b) {
        return Operand(strides_of(a ? a : b), true);
    };
    const auto per_list = [&](const MutableTensorView* view) {
        if (!view || options.top_k == 0) return Operand();
        return Operand(view->strides.first(view->strides.size() - 1), true);
    };
    const Operand operands[] = {logits.strides,
                                {target.strides, true},
                                per_row(out.logprob, out.entropy),
                                per_row(out.argmax, out.rank),
                                per_list(out.top_logprob),
                                per_list(out.top_index)};
    check_strides(out.logprob, "logprob", out.entropy, "entropy");
    check_strides(out.argmax, "argmax", out.rank, "rank");
    const Tokens tokens{logits, target, out, options, make_plan(logits.shape, axis, operands)};
    if (compute_dtype_of(logits.dtype) == DType::float64) token_rows<double>(tokens);
    else token_rows<float>(tokens);
}

}  // namespace softloss
