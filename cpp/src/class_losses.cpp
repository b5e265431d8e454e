// Losses over classes, with gradients and Hessians: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what targets, weights and reductions mean. Must not: SIMD, OpenMP, NumPy.
//
// Two ways. Logits against class indices without smoothing, the usual case, go to the class_loss kernels, a batch of rows
// at a time. All else goes row by row in double, through a distribution q over the classes that holds soft targets,
// smoothing and class weights alike: loss = sum of q (-log p).
#include <atomic>
#include <utility>

#include "operands.hpp"

namespace softloss {
namespace {

enum class Scores { logits, log_probs, probs };

/// Rows of one task, and of one partial sum: a fixed number, so that sums do not depend on the tasks.
constexpr int64_t kRows = 1024;

struct Gradients {
    const MutableTensorView* grad = nullptr;
    const MutableTensorView* hess = nullptr;
    HessianOptions hessian;
};

/// Targets are class indices (one for each row) or class probabilities; both as operands of the plan.
struct ClassLoss {
    Scores kind;
    const char* name;
    const TensorView& x;
    const TensorView& target;
    const ClassLossOptions& options;
    Gradients gradients;
    int axis = 0;
    int64_t rows = 0;
    Plan plan{};  ///< operands: x, row index (double), grad, target, sample_weight, hess
    std::vector<double> weight{};
    double denominator = 1;  ///< of the gradient

    bool indices() const { return !is_floating(target.dtype); }
    bool weighted() const { return !weight.empty() || options.sample_weight; }
    bool plain() const { return kind == Scores::logits && indices() && options.label_smoothing == 0; }
};

/// Losses of all rows, weighted, in C order (or their partial sums alone), and what the rows count for in the mean.
struct RowLosses {
    std::vector<double> loss, norm, loss_sums, norm_sums;
    std::atomic<int64_t> counted{0};
    std::atomic<bool> bad_label{false}, bad_prob{false};
};

// ---- labels -----------------------------------------------------------------------------------------------------------

struct LabelCounts {
    int64_t ignored = 0;
    bool bad = false;  ///< one is out of range (0 stands in its place)
};

/// The labels of `rows` rows, -1 where ignored.
LabelCounts gather_labels(const ClassLoss& c, const Strides& at, int64_t rows, int64_t* label) {
    return visit(c.target.dtype, [&]<class U>(U) {
        LabelCounts counts;
        if constexpr (std::is_integral_v<U>) {
            const char* const data = static_cast<const char*>(c.target.data) + at[3];
            const int64_t n = c.plan.n, stride = c.plan.row[3];
            const bool swapped = c.target.swapped, ignoring = c.options.ignore_index.has_value();
            const int64_t ignore = c.options.ignore_index.value_or(0);
            const bool ignores_a_class = ignoring && 0 <= ignore && ignore < n;
            const bool adjacent = stride == sizeof(U) && !swapped && is_aligned<U>(data);
            if (adjacent && !ignores_a_class && copy_labels(reinterpret_cast<const U*>(data), rows, n, label))
                return counts;
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t y = to_label(read<U>(data + r * stride, swapped));
                const bool ignored = ignoring && y == ignore, outside = y < 0 || y >= n;
                counts.ignored += ignored;
                counts.bad |= outside && !ignored;
                label[r] = ignored ? -1 : outside ? 0 : y;
            }
        }
        return counts;
    });
}

/// The weight of each row's sample, 0 where ignored, and what the row counts for: that times its class's weight.
void fill_norms(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label, double* sample,
                double* norm) {
    if (c.options.sample_weight) {
        const TensorView& view = *c.options.sample_weight;
        gather(static_cast<const char*>(view.data) + at[4], c.plan.row[4], rows, view.dtype, view.swapped,
               sample);
    } else {
        std::fill(sample, sample + rows, 1);
    }
    for (int64_t r = 0; r < rows; ++r) {
        const bool kept = !c.indices() || label[r] >= 0;
        if (!kept) sample[r] = 0;
        const double w = kept && c.indices() && !c.weight.empty() ? c.weight[label[r]] : 1;
        norm[r] = w == 0 ? 0 : w * sample[r];
    }
}

// ---- logits against class indices ---------------------------------------------------------------------------------------

template <class T>
void plain_batch(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label,
                 const double* factor, T* loss, void* scratch) {
    const KernelTable& table = active_table();
    const auto is_native = [](const auto* view) {
        return !view || (!view->swapped && is_floating(view->dtype) &&
                         (view->dtype == DType::float64) == (sizeof(T) == 8));
    };
    const auto* grad = c.gradients.grad;
    const auto* hess = c.gradients.hess;
    const int64_t item = size_of(c.x.dtype);
    const bool adjacent =
        c.plan.axis[0] == item && (!grad || c.plan.axis[2] == item) && (!hess || c.plan.axis[5] == item);
    const bool direct = is_native(&c.x) && is_native(grad) && is_native(hess) &&
                        (!grad || grad->dtype == c.x.dtype) && (!hess || hess->dtype == c.x.dtype) &&
                        (adjacent || c.plan.n <= kMaxTile);
    const RowOptions options{c.options.temperature, grad && streams(*grad), scratch};
    ClassRows batch{};
    batch.hess_scale = c.gradients.hessian.scale;
    batch.hess_min = c.gradients.hessian.floor;
    if (direct) {
        batch.x = {static_cast<const char*>(c.x.data) + at[0], c.plan.row[0], c.plan.axis[0]};
        batch.label = label;
        batch.loss = loss;
        batch.factor = factor;
        if (grad) batch.grad = {static_cast<char*>(grad->data) + at[2], c.plan.row[2], c.plan.axis[2]};
        if (hess) batch.hess = {static_cast<char*>(hess->data) + at[5], c.plan.row[5], c.plan.axis[5]};
        return table.of(c.x.dtype).class_loss(batch, rows, c.plan.n, options);
    }
    const Staging<T> staging(c.x, nullptr, c.plan);
    T* const memory = Staging<T>::memory(scratch);
    T* const second = memory + staging.rows * c.plan.n;
    const int64_t pitch = c.plan.n * int64_t{sizeof(T)};
    for (int64_t first = 0; first < rows; first += staging.rows) {
        const int64_t here = std::min(staging.rows, rows - first);
        for (int64_t r = 0; r < here; ++r)
            staging.read_row(row_at(at, c.plan, first + r), memory + r * c.plan.n);
        batch.x = {reinterpret_cast<char*>(memory), pitch, sizeof(T)};
        batch.label = label + first;
        batch.loss = loss + first;
        batch.factor = factor ? factor + first : nullptr;
        if (grad) batch.grad = {reinterpret_cast<char*>(memory), pitch, sizeof(T)};
        if (hess) batch.hess = {reinterpret_cast<char*>(second), pitch, sizeof(T)};
        table.of(dtype_of<T>).class_loss(batch, here, c.plan.n, options);
        const auto put = [&](const MutableTensorView* to, const T* from, int operand) {
            for (int64_t r = 0; to && r < here; ++r) {
                scatter(from + r * c.plan.n, c.plan.n,
                        static_cast<char*>(to->data) + row_at(at, c.plan, first + r)[operand],
                        c.plan.axis[operand], to->dtype, to->swapped);
            }
        };
        put(grad, memory, 2);
        put(hess, second, 5);
    }
}

// ---- everything else: a distribution q over the classes -------------------------------------------------------------------

/// One row the general way. memory: 4 n doubles.
///
/// The target's part and the smoothing's are summed apart, since their sum would round each weight:
/// loss = (1 - e) sum of w q cost + e / C sum of w cost, with cost = -log p.
struct GeneralRow {
    const ClassLoss& c;
    const Strides& at;
    int64_t n;
    double *x, *q, *u, *g;  ///< scores, w q, w, gradient
    void* scratch;
    const KernelTable& table = active_table();

    GeneralRow(const ClassLoss& loss, const Strides& at_, int64_t label, double* memory, void* scratch_)
        : c(loss), at(at_), n(loss.plan.n), x(memory), q(x + n), u(q + n), g(u + n), scratch(scratch_) {
        gather(static_cast<const char*>(c.x.data) + at[0], c.plan.axis[0], n, c.x.dtype, c.x.swapped, x);
        if (c.indices()) {
            std::fill(q, q + n, 0);
            q[label] = 1;
        } else {
            gather(static_cast<const char*>(c.target.data) + at[3], c.plan.axis[3], n, c.target.dtype,
                   c.target.swapped, q);
        }
        for (int64_t i = 0; i < n && !c.weight.empty(); ++i) q[i] *= c.weight[i];
        if (c.weight.empty()) std::fill(u, u + n, 1);
        else std::copy(c.weight.begin(), c.weight.end(), u);
    }

    double smoothing() const { return c.options.label_smoothing; }
    double uniform() const { return smoothing() / static_cast<double>(n); }

    double loss_of_logits(double factor) const {
        const auto& kernels = table.of(DType::float64);
        const RowsIn in{reinterpret_cast<const char*>(x), 0, sizeof(double)};
        const RowOptions options{c.options.temperature, false, scratch};
        double maximum, rest;
        kernels.partition(in, 1, n, &maximum, &rest, options);
        const auto part = [&](const double* w) {
            return table.weighted.gap(x, w, n, maximum) / c.options.temperature + rest * table.f64.sum(w, n);
        };
        const double loss = smoothing() == 0 ? part(q) : (1 - smoothing()) * part(q) + uniform() * part(u);
        if (!c.gradients.grad || factor == 0) return loss;
        kernels.softmax(in, {reinterpret_cast<char*>(g), 0, sizeof(double)}, 1, n, options);
        const int64_t top = std::max_element(x, x + n) - x;
        const double largest = std::exchange(g[top], 0);
        const double others = table.f64.sum(g, n);  // 1 - p of the maximum, without cancelling
        g[top] = largest;
        for (int64_t i = 0; i < n && smoothing() != 0; ++i)
            q[i] = (1 - smoothing()) * q[i] + uniform() * u[i];
        table.weighted.gradient(x, g, q, g, n, x[top], others, table.f64.sum(q, n),
                                factor / c.options.temperature);
        return loss;
    }

    double loss(double factor, std::atomic<bool>& bad) const {
        if (c.kind == Scores::logits) return loss_of_logits(factor);
        if (c.kind == Scores::probs && table.f64.outside_unit(x, n)) bad = true;
        for (int64_t i = 0; c.gradients.grad && i < n; ++i)
            g[i] = q[i] == 0 ? 0 : factor * (c.kind == Scores::log_probs ? -q[i] : -q[i] / x[i]);
        return c.kind == Scores::probs ? table.weighted.surprisal(x, q, n) : table.weighted.gap(x, q, n, 0);
    }

    /// The loss, not yet weighted by sample; its gradient times `factor` is written where there is one.
    double operator()(double factor, std::atomic<bool>& bad) const {
        const double value = loss(factor, bad);
        if (!c.gradients.grad) return value;
        if (factor == 0) std::fill(g, g + n, 0);
        const MutableTensorView& to = *c.gradients.grad;
        scatter(g, n, static_cast<char*>(to.data) + at[2], c.plan.axis[2], to.dtype, to.swapped);
        return value;
    }
};

/// The scores at the labels: all that losses of (log-)probabilities against class indices read.
template <class T>
void picked_losses(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label, double* loss,
                   std::atomic<bool>& bad) {
    const char* const data = static_cast<const char*>(c.x.data) + at[0];
    visit(c.x.dtype, [&]<class U>(U) {
        for (int64_t r = 0; r < rows; ++r) {
            const char* const p = data + r * c.plan.row[0] + std::max<int64_t>(label[r], 0) * c.plan.axis[0];
            if constexpr (is_half<U>) gather(p, 0, 1, c.x.dtype, c.x.swapped, loss + r);
            else loss[r] = static_cast<double>(read<U>(p, c.x.swapped));
            if (label[r] < 0) loss[r] = 1;
        }
    });
    if (c.kind == Scores::probs) {
        if (active_table().f64.outside_unit(loss, rows)) bad = true;
        active_table().weighted.log(loss, loss, rows);
    }
    for (int64_t r = 0; r < rows; ++r) loss[r] = label[r] < 0 ? 0 : 0 - loss[r];  // never -0
}

// ---- all rows ---------------------------------------------------------------------------------------------------------------

/// A task's rows, on its stack.
struct Batch {
    int64_t label[kRows];
    double loss[kRows], sample[kRows], norm[kRows], factor[kRows];
};

/// Logits against class indices: losses and gradients of a batch by the kernels.
template <class T>
void plain_losses(const ClassLoss& c, const Strides& at, int64_t rows, Batch& b, void* scratch) {
    const bool gradient = c.gradients.grad || c.gradients.hess;
    const double share = 1 / c.denominator / c.options.temperature;
    for (int64_t r = 0; gradient && r < rows; ++r) {
        b.factor[r] = !c.weighted()    ? share
                      : b.norm[r] == 0 ? 0
                                       : b.norm[r] / c.denominator / c.options.temperature;
    }
    T raw[kRows];
    plain_batch<T>(c, at, rows, b.label, gradient ? b.factor : nullptr, raw, scratch);
    std::copy(raw, raw + rows, b.loss);
}

/// Row by row, by a distribution over the classes that holds the class weights: the sample's weight is left.
void general_losses(const ClassLoss& c, const Strides& at, int64_t rows, Batch& b, std::atomic<bool>& bad,
                    void* scratch) {
    double* const memory = reinterpret_cast<double*>(static_cast<char*>(scratch) + kScratchBytes);
    for (int64_t r = 0; r < rows; ++r) {
        const Strides here = row_at(at, c.plan, r);
        const GeneralRow row(c, here, c.indices() ? std::max<int64_t>(b.label[r], 0) : 0, memory, scratch);
        const double loss = row(b.sample[r] / c.denominator, bad);
        b.loss[r] = b.sample[r] == 0 ? 0 : b.sample[r] * loss;
    }
}

template <class T>
void row_losses(const ClassLoss& c, RowLosses& result) {
    const bool plain = c.plain();
    const bool picked = c.kind != Scores::logits && c.indices() && !c.gradients.grad;
    // Rows of a task in C order give their partial sum at once; otherwise all losses are kept and summed later.
    const bool in_order = result.loss.empty();
    const int64_t task_rows = in_order ? kRows : std::min(rows_per_task(c.plan), kRows);
    const Staging<T> staging(c.x, nullptr, c.plan);
    const std::size_t bytes =
        picked  ? 0
        : plain ? staging.bytes + (c.gradients.hess ? staging.rows * c.plan.n * sizeof(T) : 0)
                : kScratchBytes + 4 * c.plan.n * sizeof(double);
    for_each_batch(c.plan, task_rows, bytes, [&](const Strides& at, int64_t rows, void* scratch) {
        Batch b;
        const LabelCounts labels = c.indices() ? gather_labels(c, at, rows, b.label) : LabelCounts();
        if (labels.bad) result.bad_label = true;
        result.counted += rows - labels.ignored;
        if (c.weighted() || !(plain || picked)) fill_norms(c, at, rows, b.label, b.sample, b.norm);
        if (plain) plain_losses<T>(c, at, rows, b, scratch);
        else if (picked) picked_losses<T>(c, at, rows, b.label, b.loss, result.bad_prob);
        else general_losses(c, at, rows, b, result.bad_prob, scratch);
        for (int64_t r = 0; c.weighted() && (plain || picked) && r < rows; ++r)
            b.loss[r] = b.norm[r] == 0 ? 0 : b.norm[r] * b.loss[r];
        if (in_order) {
            const int64_t block = at[1] / int64_t{sizeof(double)} / kRows;
            result.loss_sums[block] = active_table().f64.sum(b.loss, rows);
            if (c.weighted()) result.norm_sums[block] = active_table().f64.sum(b.norm, rows);
            return;
        }
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t index = (at[1] + r * c.plan.row[1]) / int64_t{sizeof(double)};
            result.loss[index] = b.loss[r];
            if (c.weighted()) result.norm[index] = b.norm[r];
        }
    });
}

/// Sums of blocks of kRows, in C order of the rows.
double sum_in_blocks(const std::vector<double>& values, std::vector<double>& sums) {
    const auto sum = active_table().f64.sum;
    if (!values.empty()) {
        sums.clear();
        for (std::size_t i = 0; i < values.size(); i += kRows)
            sums.push_back(sum(values.data() + i,
                               static_cast<int64_t>(std::min<std::size_t>(kRows, values.size() - i))));
    }
    return sum(sums.data(), static_cast<int64_t>(sums.size()));
}

/// The sum of what the rows count for: the denominator of the gradient of a mean.
double total_norm(const ClassLoss& c, int64_t ignored) {
    if (!c.weighted()) return static_cast<double>(c.rows - ignored);
    std::vector<double> norms(c.rows), sums;
    for_each_batch(c.plan, std::min(rows_per_task(c.plan), kRows), 0,
                   [&](const Strides& at, int64_t rows, void*) {
                       int64_t label[kRows];
                       double sample[kRows], norm[kRows];
                       if (c.indices()) gather_labels(c, at, rows, label);
                       fill_norms(c, at, rows, label, sample, norm);
                       for (int64_t r = 0; r < rows; ++r)
                           norms[(at[1] + r * c.plan.row[1]) / int64_t{sizeof(double)}] = norm[r];
                   });
    return sum_in_blocks(norms, sums);
}

// ---- checks -------------------------------------------------------------------------------------------------------------------

void check_gradient(const ClassLoss& c, const MutableTensorView* out, const char* name) {
    if (!out) return;
    check_output(c.x, *out, name, c.name);
    check_separate({&c.target, c.options.weight, c.options.sample_weight}, *out, name, c.name);
}

/// Shapes, ranges, the plan; labels are checked later.
void prepare(ClassLoss& c, const MutableTensorView* losses) {
    const TensorView& x = c.x;
    const ClassLossOptions& options = c.options;
    const std::string name = c.name;
    if (x.ndim() == 0) fail(name + " must have at least one dimension, the classes");
    c.axis = normalize_axis(options.axis, x.ndim());
    const int64_t classes = x.shape[c.axis];
    if (c.target.dtype == DType::boolean) fail("target must hold class indices or probabilities, got bool");
    check_target_shape(x, c.target, c.axis, c.name);
    if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
        fail("label_smoothing must lie in [0, 1], got " + std::to_string(options.label_smoothing));
    }
    check_temperature(options.temperature);
    const Dims row_shape = without_axis(x.shape, c.axis);
    c.rows = checked_size(row_shape);
    checked_size(x.shape);
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
    if (losses && !is_floating(losses->dtype)) fail("losses must be an array of floats");
    check_gradient(c, c.gradients.grad, "grad_out");
    check_gradient(c, c.gradients.hess, "hess_out");
    if (classes == 0 && c.rows > 0) {
        fail(name + " of shape " + to_string(x.shape) + " has no classes: axis " + std::to_string(c.axis) +
             " has length 0");
    }
    if (c.rows == 0) return;
    const Dims none(x.ndim(), 0);
    const auto optional = [&](const MutableTensorView* view) { return view ? strides_of(*view) : none; };
    const Dims operands[] = {
        strides_of(x),
        with_axis(contiguous_strides(row_shape, sizeof(double)), c.axis),
        optional(c.gradients.grad),
        c.indices() ? with_axis(strides_of(c.target), c.axis) : strides_of(c.target),
        options.sample_weight ? with_axis(strides_of(*options.sample_weight), c.axis) : none,
        optional(c.gradients.hess)};
    c.plan = make_plan(x.shape, c.axis, operands);
    if (options.weight) {
        c.weight.resize(classes);
        gather(static_cast<const char*>(options.weight->data), options.weight->strides[0], classes,
               options.weight->dtype, options.weight->swapped, c.weight.data());
    }
}

void run(ClassLoss& c, RowLosses& result, bool keep_rows) {
    if (c.rows == 0) return;
    const bool whole_blocks = c.plan.batches == 1 || c.plan.rows % kRows == 0;
    const bool in_order = !keep_rows && whole_blocks && c.plan.row[1] == sizeof(double) &&
                          c.plan.n <= 64;  // else kRows rows are much for one task
    if (in_order) {
        result.loss_sums.resize((c.rows + kRows - 1) / kRows);
        if (c.weighted()) result.norm_sums.resize(result.loss_sums.size());
    } else {
        result.loss.resize(c.rows);
        if (c.weighted()) result.norm.resize(c.rows);
    }
    const bool wide = c.options.dtype == DType::float64;
    if (wide) row_losses<double>(c, result);
    else row_losses<float>(c, result);
    if (result.bad_label) check_labels(c.target, c.x.shape[c.axis], c.options.ignore_index);
    if (result.bad_prob) fail_outside("probs", c.x);
}

double class_loss(Scores kind, const char* name, const TensorView& x, const TensorView& target,
                  const ClassLossOptions& options, const MutableTensorView* losses,
                  const MutableTensorView* grad) {
    ClassLoss c{kind, name, x, target, options, {grad, nullptr, {}}};
    const bool keep_rows = options.reduction == Reduction::none;
    if (keep_rows && !losses) fail("reduction none needs an array for the losses");
    prepare(c, losses);
    if (grad && c.rows > 0) {
        // The gradient is written in the same pass as the losses: everything must be known to be good before.
        const int64_t ignored = c.indices() ? check_labels(target, x.shape[c.axis], options.ignore_index) : 0;
        if (kind == Scores::probs) check_unit("probs", x);
        if (options.reduction == Reduction::mean) c.denominator = total_norm(c, ignored);
        if (c.denominator == 0) c.denominator = std::numeric_limits<double>::infinity();
    }
    RowLosses result;
    run(c, result, keep_rows);
    if (keep_rows) {
        for_each_element(losses->shape, losses->strides, [&](int64_t i, int64_t offset) {
            scatter(&result.loss[i], 1, static_cast<char*>(losses->data) + offset, 0, losses->dtype,
                    losses->swapped);
            return true;
        });
        return std::numeric_limits<double>::quiet_NaN();
    }
    const double total = sum_in_blocks(result.loss, result.loss_sums);
    if (options.reduction == Reduction::sum) return total;
    const double norm = c.weighted() ? sum_in_blocks(result.norm, result.norm_sums)
                                     : static_cast<double>(result.counted.load());
    return result.counted == 0 || norm == 0 ? options.empty : total / norm;
}

}  // namespace

double cross_entropy(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                     const MutableTensorView* losses) {
    return class_loss(Scores::logits, "logits", logits, target, options, losses, nullptr);
}
double nll_loss(const TensorView& log_probs, const TensorView& target, const ClassLossOptions& options,
                const MutableTensorView* losses) {
    return class_loss(Scores::log_probs, "log_probs", log_probs, target, options, losses, nullptr);
}
double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                 const ClassLossOptions& options, const MutableTensorView* losses) {
    return class_loss(Scores::probs, "probs", probs, target, options, losses, nullptr);
}

double cross_entropy_and_grad(const TensorView& logits, const TensorView& target,
                              const MutableTensorView& grad, const ClassLossOptions& options,
                              const MutableTensorView* losses) {
    return class_loss(Scores::logits, "logits", logits, target, options, losses, &grad);
}
double nll_loss_and_grad(const TensorView& log_probs, const TensorView& target, const MutableTensorView& grad,
                         const ClassLossOptions& options, const MutableTensorView* losses) {
    return class_loss(Scores::log_probs, "log_probs", log_probs, target, options, losses, &grad);
}
double categorical_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                          const MutableTensorView& grad, const ClassLossOptions& options,
                                          const MutableTensorView* losses) {
    return class_loss(Scores::probs, "probs", probs, target, options, losses, &grad);
}

void cross_entropy_grad_hess(const TensorView& logits, const TensorView& target,
                             const MutableTensorView& grad, const MutableTensorView& hess,
                             const ClassLossOptions& options, const HessianOptions& hessian) {
    ClassLossOptions plain = options;
    plain.label_smoothing = 0;
    plain.dtype = compute_dtype(logits);
    check_hessian(hessian);
    ClassLoss c{Scores::logits, "logits", logits, target, plain, {&grad, &hess, hessian}};
    if (is_floating(target.dtype)) fail("target must hold class indices, got class probabilities");
    prepare(c, nullptr);
    if (overlaps(grad, hess) || overlaps(logits, hess)) fail("hess_out overlaps grad_out or logits");
    if (c.rows == 0) return;
    check_labels(target, logits.shape[c.axis], options.ignore_index);
    RowLosses result;
    run(c, result, false);
}

}  // namespace softloss
