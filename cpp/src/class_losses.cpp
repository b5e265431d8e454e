// Losses over classes, with gradients and Hessians: checks, plan, table look-up, parallel loop, reduction.
//
// Lives here: what targets, weights and reductions mean. Must not: SIMD, OpenMP, NumPy.
//
// There are three paths, each a batch of rows at a time.
//   plain       logits against class indices without smoothing, the usual case: the class_loss kernels, or
//               focal_loss
//   soft        a distribution over the classes (soft targets, labels with smoothing, or that of other
//               logits; of the Brier score, labels): the kernels of two operands, soft_loss, prob_loss,
//               log_prob_loss, brier_score, those of divergences
//   label only  probabilities or log-probabilities against class indices: a loss needs only the element at the
//               label. The gradient, 0 at all other classes, comes from the kernels of two operands
//
// The order of things: every check that can fail comes before a byte is written. What is reduced to one
// number writes nothing, so there labels and probabilities are checked in the pass that reads them, and the
// error follows.
#include <atomic>
#include <cmath>
#include <optional>
#include <type_traits>

#include "checks.hpp"
#include "class_rows.hpp"

namespace softloss {
namespace {

/// Cross-entropies by what they are computed from; the focal loss; the Brier score; divergences, whose target
/// is an array of logits.
enum class LossKind { logits, log_probs, probs, focal, brier, kl_divergence, js_divergence };

bool is_divergence(LossKind kind) {
    return kind == LossKind::kl_divergence || kind == LossKind::js_divergence;
}
const char* target_name(LossKind kind) {
    return is_divergence(kind) ? "target_logits" : "target";
}

/// The operands of a plan, which index its strides and offsets. kRow is the array of losses, or else a double
/// for each row in C order: its offset divided by 8 is the index of the row.
enum Operands { kLogits, kRow, kGrad, kTarget, kSampleWeight, kHess };

struct Gradients {
    const MutableTensorView* grad = nullptr;
    const MutableTensorView* hess = nullptr;
    HessianOptions hessian;
};

/// The arguments of one call, and what is derived from them. Targets are class indices (one per row), class
/// probabilities or, of a divergence, logits.
struct ClassLoss {
    LossKind kind;
    const char* name;
    const TensorView& x;
    const TensorView& target;
    const ClassLossOptions& options;
    Gradients gradients;
    const MutableTensorView* losses =
        nullptr;  ///< where each batch writes its losses; null: they are kept or summed
    int axis = 0;
    int64_t rows = 0;
    Plan plan{};         ///< of Operands
    Sum denominator{1};  ///< of the mean, for the gradient
    /// Class weights in double, for the kernels of two operands, with the elements that these may read behind
    /// them.
    std::vector<double> weights{};
    Sum weight_sum{};
    bool zero_weights = false;  ///< some class weight is 0
    bool sums_norms = false;    ///< the weights of the rows in the mean are summed beside their losses

    bool indices() const { return !is_divergence(kind) && !is_floating(target.dtype); }
    bool weighted() const { return options.weight || options.sample_weight; }
    /// Only the element at the label of each row counts.
    bool label_only() const { return (kind == LossKind::log_probs || kind == LossKind::probs) && indices(); }
    /// How far a probability may lie outside [0, 1]. Losses of probabilities compute in double.
    double slack() const { return unit_slack(x.dtype, DType::float64); }
    bool plain() const {
        return kind == LossKind::focal ||
               (kind == LossKind::logits && indices() && options.label_smoothing == 0);
    }
    /// The exponent of the focal loss; with 0 it is the cross-entropy.
    double gamma() const { return kind == LossKind::focal ? options.gamma : 0; }
    /// The target is a distribution over the classes.
    bool soft() const { return !plain() && !label_only(); }
    /// True if rows are computed in double. That is so for targets in double, too, which are not to be
    /// rounded, and for logits that are integers.
    bool wide() const {
        return options.compute_dtype == DType::float64 ||
               (!indices() && compute_dtype_of(target.dtype) == DType::float64);
    }
};

/// The factor of the gradient of a row whose weight in the mean is `norm`.
Sum factor_of(const ClassLoss& c, const Sum& norm) {
    return quotient(quotient(norm, c.denominator), {c.options.temperature});
}

/// Partial sums, one for every kRows rows. A single one needs no allocation.
class PartialSums {
  public:
    void resize(std::size_t size) {
        size_ = size;
        if (size > 1) many_.resize(size);
    }
    std::size_t size() const { return size_; }
    Sum& operator[](std::size_t block) { return size_ > 1 ? many_[block] : one_; }

  private:
    std::size_t size_ = 0;
    Sum one_;
    std::vector<Sum> many_;
};

/// The losses of all rows in C order, times their weights, and these weights in the mean; or only partial
/// sums of both. counted: rows that are not ignored. bad_label, bad_prob: an argument is wrong; the error is
/// thrown after the parallel loop, which exceptions must not leave.
struct RowLosses {
    std::vector<double> loss, norm;
    PartialSums loss_sums, norm_sums;
    std::atomic<int64_t> counted{0};
    std::atomic<bool> bad_label{false}, bad_prob{false};
};

// ---- labels ----------------------------------------------------------------------------------------------

/// Reads the labels of `rows` rows; ignored ones become -1.
LabelCounts gather_labels(const ClassLoss& c, const Strides& at, int64_t rows, int64_t* label) {
    return softloss::gather_labels(c.target, at[kTarget], c.plan.row_stride[kTarget], c.plan.n,
                                   c.options.ignore_index, rows, label);
}

/// The weights of rows (softloss::fill_norms).
void fill_norms(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label, double* sample,
                double* norm, double* rest) {
    softloss::fill_norms({c.options.weight, c.options.sample_weight, c.plan.row_stride[kSampleWeight]},
                         at[kSampleWeight], rows, c.indices() ? label : nullptr, sample, norm, rest);
}

/// Probabilities outside [0, 1] by rounding become 0 or 1; NaN stays.
double in_unit(double p) {
    return p > 1 ? 1 : p < 0 ? 0 : p;
}

// ---- logits against class indices ------------------------------------------------------------------------

/// Arrays of a task, one number per row. low: rounding errors of the losses; sample, norm, rest: see
/// fill_norms; factor: of the gradient.
struct Batch {
    int64_t label[kRows];
    double loss[kRows], low[kRows], sample[kRows], norm[kRows], rest[kRows], factor[kRows];
};

/// True if rounding errors in double can reach a result that is computed in T.
template <class T>
constexpr bool kWide = std::is_same_v<T, double>;

/// True if the kernels can work in place on the rows of the logits and of the results.
template <class T>
bool is_direct(const ClassLoss& c) {
    const auto fits = [&](const MutableTensorView* out, int operand) {
        return !out ||
               (out->dtype == c.x.dtype && !out->swapped && is_dense(c.plan, operand, size_of(out->dtype)));
    };
    // There are no Hessian kernels for float16 and bfloat16.
    return is_readable<T>(c.x, nullptr, c.plan) && fits(c.gradients.grad, kGrad) &&
           fits(c.gradients.hess, kHess) && !(c.gradients.hess && size_of(c.x.dtype) < 4);
}

/// How many stages a batch needs: one for the logits, and `others` for other operands. Without others, the
/// logits need none if they are staged in the memory of the gradient.
template <class T>
int stages_of(const ClassLoss& c, int others) {
    const bool in_gradient = c.gradients.grad && OutputRows<T>::takes_stage(*c.gradients.grad, c.plan, kGrad);
    return others > 0 ? 1 + others : in_gradient ? 0 : 1;
}
/// True if the Hessian needs a stage.
template <class T>
bool stages_hessian(const ClassLoss& c) {
    return c.gradients.hess && !OutputRows<T>::is_direct(*c.gradients.hess, c.plan, kHess);
}

ClassKernel plain_kernel(const ClassLoss& c, const StorageKernels& kernels) {
    return c.gamma() > 0 ? kernels.focal_loss : kernels.class_loss;
}

/// How many stages plain_batch needs.
template <class T>
int plain_stages(const ClassLoss& c) {
    return is_direct<T>(c) ? 0 : stages_of<T>(c, stages_hessian<T>(c));
}

/// Losses, gradients and Hessians of a batch of rows by the class_loss kernels, in place or staged.
template <class T>
void plain_batch(const ClassLoss& c, const Staging<T>& staging, const Strides& at, int64_t rows,
                 int64_t blocks, Batch& b, void* scratch) {
    const KernelTable& table = active_table();
    const auto* grad = c.gradients.grad;
    const auto* hess = c.gradients.hess;
    ClassRows batch{};
    batch.hess_scale = c.gradients.hessian.hess_scale;
    batch.hess_min = c.gradients.hessian.hess_min;
    batch.gamma = c.gamma();
    const auto put_arrays = [&](int64_t first) {  // those of rows from `first` on
        batch.label = b.label + first;
        batch.loss = b.loss + first;
        batch.loss_low = b.low + first;
        batch.factor = b.factor + first;
    };
    if (is_direct<T>(c)) {
        put_arrays(0);
        batch.x = {static_cast<const char*>(c.x.data) + at[kLogits], c.plan.row_stride[kLogits],
                   c.plan.element_stride[kLogits]};
        if (grad)
            batch.grad = {static_cast<char*>(grad->data) + at[kGrad], c.plan.row_stride[kGrad],
                          c.plan.element_stride[kGrad]};
        if (hess)
            batch.hess = {static_cast<char*>(hess->data) + at[kHess], c.plan.row_stride[kHess],
                          c.plan.element_stride[kHess]};
        const RowOptions options{c.options.temperature, grad && wants_nontemporal(*grad), scratch, blocks,
                                 run_blocks};
        return plain_kernel(c, table.of(c.x.dtype))(batch, rows, c.plan.n, options);
    }
    const RowsOut staged = staging.stage(scratch, 0);
    std::optional<OutputRows<T>> grads, hessians;
    if (grad) grads.emplace(*grad, c.plan, kGrad, staged, !hess && wants_nontemporal(*grad));
    if (hess) hessians.emplace(*hess, c.plan, kHess, staging.stage(scratch, 1), false);
    for (int64_t first = 0; first < rows; first += staging.rows) {
        const int64_t count = std::min(staging.rows, rows - first);
        const Strides here = row_at(at, c.plan, first);
        const RowsOut x = grads ? grads->stage(here) : staged;
        staging.read_rows(here, count, x);
        put_arrays(first);
        batch.x = in(x);
        if (grads) batch.grad = grads->at(here);
        if (hessians) batch.hess = hessians->at(here);
        plain_kernel(c, table.of(dtype_of<T>))(
            batch, count, c.plan.n, {c.options.temperature, grads && grads->nontemporal(), scratch});
        if (grads) grads->put(here, count);
        if (hessians) hessians->put(here, count);
    }
}

// ---- a distribution over the classes ---------------------------------------------------------------------

/// True if the kernels can work in place on the rows of logits, target, gradient and Hessian.
template <class T>
bool is_soft_direct(const ClassLoss& c) {
    const auto fits = [&](const auto& view, int operand) {
        return view.dtype == c.x.dtype && !view.swapped && is_dense(c.plan, operand, size_of(view.dtype));
    };
    const auto* const hess = c.gradients.hess;
    return is_readable<T>(c.x, nullptr, c.plan) && (c.indices() || fits(c.target, kTarget)) &&
           (!c.gradients.grad || fits(*c.gradients.grad, kGrad)) &&
           (!hess || (fits(*hess, kHess) && size_of(c.x.dtype) >= 4));  // no kernels for float16, bfloat16
}

/// How many stages soft_batch needs. The gradient needs none: its results replace the staged logits.
template <class T>
int soft_stages(const ClassLoss& c) {
    return is_soft_direct<T>(c) ? 0 : stages_of<T>(c, !c.indices() + stages_hessian<T>(c));
}

PairedKernel kernel_of(const StorageKernels& kernels, LossKind kind) {
    switch (kind) {
        case LossKind::logits: return kernels.soft_loss;
        case LossKind::log_probs: return kernels.log_prob_loss;
        case LossKind::probs: return kernels.prob_loss;
        case LossKind::kl_divergence: return kernels.kl_divergence;
        case LossKind::js_divergence: return kernels.js_divergence;
        case LossKind::brier: return kernels.brier_score;
        case LossKind::focal: break;  // has no distribution over the classes
    }
    return nullptr;
}

/// The fields of a batch that do not depend on the row. The kernels set `outside` if a probability that
/// counts lies outside [0, 1].
PairedRows soft_rows(const ClassLoss& c, std::atomic<bool>& outside) {
    const double smoothing = c.options.label_smoothing, kept = 1 - smoothing;
    PairedRows batch{};
    batch.slack = c.slack();
    batch.outside = &outside;
    if (c.label_only()) return batch;  // the weights of the labels are in the rows' factors
    batch.kept = {kept, (1 - kept) - smoothing};
    batch.even = quotient({smoothing}, {static_cast<double>(c.plan.n)});
    batch.weight = c.options.weight ? c.weights.data() : nullptr;
    batch.zero_weights = c.zero_weights;
    batch.weight_sum = c.options.weight ? c.weight_sum : Sum{static_cast<double>(c.plan.n)};
    batch.hess_scale = c.gradients.hessian.hess_scale;
    batch.hess_min = c.gradients.hessian.hess_min;
    return batch;
}

/// Arrays with one number per row. label: valid classes, null if the target is an array of probabilities.
/// loss, sample: may be null, see PairedRows. factor: of the gradient, null without one.
struct SoftRows {
    const int64_t* label;
    double* loss;
    const double *sample, *factor;
    int64_t count;

    /// Lets `batch` begin at row `first`.
    void put(PairedRows& batch, int64_t first) const {
        batch.label = label ? label + first : nullptr;
        batch.loss = loss ? loss + first : nullptr;
        batch.sample = sample ? sample + first : nullptr;
        batch.factor = factor ? factor + first : nullptr;
    }
};

/// Losses and gradients of a batch of rows by the kernels of two operands, in place or staged.
template <class T>
void soft_batch(const ClassLoss& c, const Staging<T>& staging, const Strides& at, const SoftRows& rows,
                std::atomic<bool>& outside, void* scratch) {
    const KernelTable& table = active_table();
    const MutableTensorView *const grad = c.gradients.grad, *const hess = c.gradients.hess;
    const auto rows_of = [&](const TensorView& view, const Strides& from, int operand) {
        return RowsIn{static_cast<const char*>(view.data) + from[operand], c.plan.row_stride[operand],
                      c.plan.element_stride[operand]};
    };
    const auto results_of = [&](const MutableTensorView& view, int operand) {
        return RowsOut{static_cast<char*>(view.data) + at[operand], c.plan.row_stride[operand],
                       c.plan.element_stride[operand]};
    };
    PairedRows batch = soft_rows(c, outside);
    if (is_soft_direct<T>(c)) {
        rows.put(batch, 0);
        batch.x = rows_of(c.x, at, kLogits);
        if (!c.indices()) batch.second = rows_of(c.target, at, kTarget);
        if (grad) batch.grad = results_of(*grad, kGrad);
        if (hess) batch.hess = results_of(*hess, kHess);
        return kernel_of(table.of(c.x.dtype), c.kind)(
            batch, rows.count, c.plan.n, {c.options.temperature, grad && wants_nontemporal(*grad), scratch});
    }
    const RowsOut staged = staging.stage(scratch, 0);
    std::optional<OutputRows<T>> grads, hessians;
    if (grad) grads.emplace(*grad, c.plan, kGrad, staged, !hess && wants_nontemporal(*grad));
    if (hess) hessians.emplace(*hess, c.plan, kHess, staging.stage(scratch, c.indices() ? 1 : 2), false);
    for (int64_t first = 0; first < rows.count; first += staging.rows) {
        const int64_t count = std::min(staging.rows, rows.count - first);
        const Strides here = row_at(at, c.plan, first);
        const RowsOut x = grads ? grads->stage(here) : staged;
        staging.read_rows(here, count, x);
        rows.put(batch, first);
        batch.x = in(x);
        if (grads) batch.grad = grads->at(here);
        if (hessians) batch.hess = hessians->at(here);
        if (!c.indices()) {
            const RowsOut targets = staging.stage(scratch, 1);
            read_rows<T>(c.target, rows_of(c.target, here, kTarget), count, c.plan.n, targets);
            batch.second = in(targets);
        }
        kernel_of(table.of(dtype_of<T>), c.kind)(
            batch, count, c.plan.n, {c.options.temperature, grads && grads->nontemporal(), scratch});
        if (grads) grads->put(here, count);
        if (hessians) hessians->put(here, count);
    }
}

/// The class weights in double, padded as the kernels require, and their sum.
void prepare_weights(ClassLoss& c) {
    constexpr int64_t kMostLanes = 16;
    const TensorView& view = *c.options.weight;
    c.weights.resize(c.plan.n + kMostLanes);
    gather(static_cast<const char*>(view.data), view.strides[0], c.plan.n, view.dtype, view.swapped,
           c.weights.data());
    Sum sum;
    for (int64_t i = 0; i < c.plan.n; ++i) {
        add(sum, {c.weights[i]});
        c.zero_weights |= c.weights[i] == 0;
    }
    c.weight_sum.value = total(sum);
    c.weight_sum.error = std::isfinite(total(sum)) ? (sum.value - total(sum)) + sum.error : 0;
}

// ---- elements at the labels ------------------------------------------------------------------------------

/// Losses of (log-)probabilities against class indices, from the elements at the labels. bad: set if a
/// probability lies outside [0, 1].
void losses_at_labels(const ClassLoss& c, const Strides& at, int64_t rows, const int64_t* label, double* loss,
                      std::atomic<bool>& bad) {
    const bool probs = c.kind == LossKind::probs;
    read_at_labels(
        c.x, static_cast<const char*>(c.x.data) + at[kLogits], c.plan.row_stride[kLogits],
        c.plan.element_stride[kLogits], label, rows, loss, [probs](double score, int64_t y) {
            return y < 0 ? probs : probs ? score : 0 - score;  // never -0; ignored: loss 0, as log(1)
        });
    if (!probs) return;
    if (active_table().f64.outside_unit(loss, rows, c.slack())) bad = true;
    for (int64_t r = 0; r < rows; ++r) loss[r] = in_unit(loss[r]);
    active_table().log(loss, loss, rows);
    for (int64_t r = 0; r < rows; ++r) loss[r] = 0 - loss[r];
}

// ---- all rows --------------------------------------------------------------------------------------------

/// The plain path: losses of a batch, times the weights of the rows, and gradients.
template <class T>
void plain_losses(const ClassLoss& c, const Staging<T>& staging, const Strides& at, int64_t rows,
                  int64_t blocks, Batch& b, void* scratch) {
    const bool gradient = c.gradients.grad || c.gradients.hess;
    const double share = gradient ? total(factor_of(c, {1})) : 0;
    for (int64_t r = 0; gradient && r < rows; ++r) {
        b.factor[r] = !c.weighted()    ? share
                      : b.norm[r] == 0 ? 0
                      : kWide<T>       ? total(factor_of(c, {b.norm[r], b.rest[r]}))
                                       : b.norm[r] / c.denominator.value / c.options.temperature;
    }
    plain_batch<T>(c, staging, at, rows, blocks, b, scratch);
    for (int64_t r = 0; c.weighted() && r < rows; ++r) {
        const double loss = b.loss[r], weighted = b.norm[r] * loss;
        b.loss[r] = b.norm[r] == 0 ? 0 : weighted;
        if (!kWide<T> || b.norm[r] == 0 || !std::isfinite(weighted)) continue;
        b.loss[r] += std::fma(b.norm[r], loss, -weighted) + (b.norm[r] * b.low[r] + b.rest[r] * loss);
    }
}

/// NaN in its one bit pattern: which of two NaN a sum returns differs between CPUs.
double canonical(double x) {
    return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x;
}

/// Multiplies losses by sample weights. A row of weight 0 contributes 0, whatever it holds.
void weigh_by_sample(const double* sample, int64_t rows, double* loss) {
    for (int64_t r = 0; r < rows; ++r) loss[r] = sample[r] == 0 ? 0 : sample[r] * loss[r];
}

/// The soft path: losses of a batch, times the sample weights, and gradients. The kernels take class weights
/// into account. An ignored row has sample weight 0; the kernels see label 0 there.
template <class T>
void soft_losses(const ClassLoss& c, const Staging<T>& staging, const Strides& at, int64_t rows, Batch& b,
                 std::atomic<bool>& outside, void* scratch) {
    const bool logits = c.kind == LossKind::logits;
    for (int64_t r = 0; c.indices() && r < rows; ++r) b.label[r] = std::max<int64_t>(b.label[r], 0);
    const double unweighted = total(factor_of(c, {1}));
    for (int64_t r = 0; c.gradients.grad && r < rows; ++r)
        b.factor[r] = b.sample[r] == 1 ? unweighted : total(factor_of(c, {b.sample[r]}));
    soft_batch<T>(c, staging, at,
                  {c.indices() ? b.label : nullptr, b.loss, logits ? b.sample : nullptr,
                   c.gradients.grad ? b.factor : nullptr, rows},
                  outside, scratch);
    if (!logits && (c.weighted() || c.indices())) weigh_by_sample(b.sample, rows, b.loss);
}

/// The label-only path: losses of a batch, and gradients, which are 0 except at the labels and written by the
/// kernels of two operands. Class weights are part of the factors.
template <class T>
void label_only_losses(const ClassLoss& c, const Staging<T>& staging, const Strides& at, int64_t rows,
                       Batch& b, std::atomic<bool>& outside, void* scratch) {
    losses_at_labels(c, at, rows, b.label, b.loss, outside);
    if (!c.gradients.grad) return;
    const double unweighted = total(factor_of(c, {1}));
    for (int64_t r = 0; r < rows; ++r) {
        const bool counts = b.label[r] >= 0;
        b.factor[r] = !counts ? 0 : !c.weighted() ? unweighted : total(factor_of(c, {b.norm[r]}));
        b.label[r] = std::max<int64_t>(b.label[r], 0);
    }
    soft_batch<T>(c, staging, at, {b.label, nullptr, nullptr, b.factor, rows}, outside, scratch);
}

/// Writes the losses of a batch.
void put_losses(const ClassLoss& c, const Strides& at, int64_t rows, const double* loss) {
    char* const to = static_cast<char*>(c.losses->data) + at[kRow];
    scatter(loss, rows, to, c.plan.row_stride[kRow], c.losses->dtype, c.losses->swapped);
}

/// Losses of all rows, to where c and `result` want them, and gradients.
template <class T>
void row_losses(const ClassLoss& c, RowLosses& result) {
    const bool plain = c.plain();
    const bool label_only = c.label_only();
    // If each task is kRows rows in C order, it forms their partial sum. Otherwise losses are kept and summed
    // later.
    const bool in_order = result.loss_sums.size() > 0;
    // Reading one element of each row is little work, however long the rows are.
    const int64_t task_rows =
        in_order || (label_only && !c.gradients.grad) ? kRows : std::min(rows_per_task(c.plan), kRows);
    const Staging<T> staging(c.x, nullptr, c.plan);
    const std::size_t bytes = plain                          ? staging.bytes(plain_stages<T>(c))
                              : c.soft() || c.gradients.grad ? staging.bytes(soft_stages<T>(c))
                                                             : 0;
    const int64_t blocks = plain && is_direct<T>(c) ? blocks_of_row(c.plan, c.x.dtype) : 1;
    const auto batch = [&](const Strides& at, int64_t rows, Batch& b, void* scratch) {
        const LabelCounts labels = c.indices() ? gather_labels(c, at, rows, b.label) : LabelCounts();
        if (labels.bad) result.bad_label = true;
        result.counted += rows - labels.ignored;
        if (c.weighted() || !(plain || label_only))
            fill_norms(c, at, rows, b.label, b.sample, b.norm, plain && kWide<T> ? b.rest : nullptr);
        if (plain) plain_losses<T>(c, staging, at, rows, blocks, b, scratch);
        else if (label_only) label_only_losses<T>(c, staging, at, rows, b, result.bad_prob, scratch);
        else soft_losses<T>(c, staging, at, rows, b, result.bad_prob, scratch);
        for (int64_t r = 0; c.weighted() && label_only && r < rows; ++r)
            b.loss[r] = b.norm[r] == 0 ? 0 : b.norm[r] * b.loss[r];
        for (int64_t r = 0; r < rows; ++r) b.loss[r] = canonical(b.loss[r]);
        if (c.losses) return put_losses(c, at, rows, b.loss);
        if (in_order) {
            const int64_t block = at[kRow] / int64_t{sizeof(double)} / kRows;
            result.loss_sums[block] = sum_of(b.loss, rows);
            if (c.sums_norms) result.norm_sums[block] = sum_of(b.norm, rows);
            return;
        }
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t index = (at[kRow] + r * c.plan.row_stride[kRow]) / int64_t{sizeof(double)};
            result.loss[index] = b.loss[r];
            if (c.sums_norms) result.norm[index] = b.norm[r];
        }
    };
    for_each_batch_with<Batch>(c.plan, task_rows, bytes, batch, blocks);
}

/// The total of all rows: `sums`, one for every kRows rows in C order, formed from `values` unless these are
/// empty.
Sum sum_in_blocks(const std::vector<double>& values, PartialSums& sums) {
    const auto rows = static_cast<int64_t>(values.size());
    if (rows > 0) sums.resize((rows + kRows - 1) / kRows);
    for (int64_t first = 0; first < rows; first += kRows)
        sums[first / kRows] = sum_of(values.data() + first, std::min(kRows, rows - first));
    Sum all;
    for (std::size_t block = 0; block < sums.size(); ++block) add(all, sums[block]);
    return all;
}

/// The sum of the weights of the rows in the mean, which is its denominator.
Sum total_norm(const ClassLoss& c, int64_t ignored) {
    if (!c.weighted()) return {static_cast<double>(c.rows - ignored)};
    std::vector<double> norms(c.rows);
    for_each_batch_with<Batch>(
        c.plan, std::min(rows_per_task(c.plan), kRows), 0,
        [&](const Strides& at, int64_t rows, Batch& b, void*) {
            if (c.indices()) gather_labels(c, at, rows, b.label);
            fill_norms(c, at, rows, b.label, b.sample, b.norm, nullptr);
            for (int64_t r = 0; r < rows; ++r)
                norms[(at[kRow] + r * c.plan.row_stride[kRow]) / int64_t{sizeof(double)}] = b.norm[r];
        });
    PartialSums sums;
    return sum_in_blocks(norms, sums);
}

// ---- checks ----------------------------------------------------------------------------------------------

/// Rejects probabilities outside [0, 1] that the loss reads: those at the labels, or, against class
/// probabilities, all.
void check_probs(const ClassLoss& c) {
    if (c.indices()) check_unit_at_labels(c.name, c.x, c.axis, c.target, c.options.ignore_index);
    else check_unit(c.name, c.x, DType::float64);
}

void check_gradient(const ClassLoss& c, const MutableTensorView* out, const char* name) {
    if (!out) return;
    check_like(c.x, c.name, *out, name);
}

/// Checks shapes and ranges, and makes the plan; labels are checked later.
void prepare(ClassLoss& c, const MutableTensorView* losses) {
    const TensorView& x = c.x;
    const ClassLossOptions& options = c.options;
    if (x.ndim() == 0) fail(std::string(c.name) + " must have at least one dimension (the classes)");
    c.axis = normalize_axis(options.axis, x.ndim());
    const int64_t classes = x.shape[c.axis];
    if (is_divergence(c.kind)) {
        check_same_shape(x, c.name, c.target, target_name(c.kind));
    } else {
        if (c.target.dtype == DType::boolean)
            fail("target must hold class indices or probabilities, got bool");
        if ((c.kind == LossKind::focal || c.kind == LossKind::brier) && !c.indices())
            fail("target must hold class indices (integers), got class probabilities");
        check_target_shape(x, c.target, c.axis, c.name);
    }
    if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
        fail("label_smoothing must be between 0 and 1, got " + text_of(options.label_smoothing));
    }
    check_temperature(options.temperature);
    const Dims row_shape = without_axis(x.shape, c.axis);
    c.rows = checked_size(row_shape);
    check_weights(options.weight, classes, options.sample_weight, row_shape);
    check_losses(losses, row_shape);
    check_gradient(c, c.gradients.grad, "grad_out");
    check_gradient(c, c.gradients.hess, "hess_out");
    check_memory({{c.name, &x, c.gradients.grad},
                  {target_name(c.kind), &c.target},
                  {"weight", options.weight},
                  {"sample_weight", options.sample_weight}},
                 {{"grad_out", c.gradients.grad}, {"hess_out", c.gradients.hess}, {"losses", losses}});
    if (c.rows == 0) return;
    check_classes(x, c.axis, c.name);
    const Dims in_order = contiguous_strides(row_shape, sizeof(double));
    const Operand operands[] = {x.strides,
                                {c.losses ? c.losses->strides : std::span<const int64_t>(in_order), true},
                                strides_of(c.gradients.grad),
                                {c.target.strides, c.indices()},
                                {strides_of(options.sample_weight), true},
                                strides_of(c.gradients.hess)};
    c.plan = make_plan(x.shape, c.axis, operands);
}

/// Runs the loop over all rows, then throws the error of bad labels or probabilities that it met. keep_rows:
/// each loss is wanted, not their sum.
void run(ClassLoss& c, RowLosses& result, bool keep_rows) {
    if (c.rows == 0) return;
    const bool whole_blocks = c.plan.batches == 1 || c.plan.rows % kRows == 0;
    const bool in_order =
        !keep_rows &&
        (c.rows == 1 ||
         (whole_blocks && c.plan.row_stride[kRow] == sizeof(double) &&
          (c.plan.n <= 64 ||
           (c.label_only() && !c.gradients.grad))));  // kRows longer rows are too much for a task
    if (in_order) {
        result.loss_sums.resize((c.rows + kRows - 1) / kRows);
        if (c.sums_norms) result.norm_sums.resize(result.loss_sums.size());
    } else if (!c.losses) {
        result.loss.resize(c.rows);
        if (c.sums_norms) result.norm.resize(c.rows);
    }
    if (c.soft() && c.options.weight) prepare_weights(c);
    if (c.wide()) row_losses<double>(c, result);
    else row_losses<float>(c, result);
    if (result.bad_label) check_labels(c.target, c.x.shape[c.axis], c.options.ignore_index);
    if (result.bad_prob) check_probs(c);
}

/// Writes the losses of all rows, which are in C order.
void put_in_order(const std::vector<double>& loss, const MutableTensorView& losses) {
    const int outer = std::max(losses.ndim() - 1, 0);
    const int64_t inner = outer < losses.ndim() ? losses.shape[outer] : 1,
                  step = outer < losses.ndim() ? losses.strides[outer] : 0;
    for_each_element(losses.shape.first(outer), losses.strides.first(outer), [&](int64_t i, int64_t offset) {
        scatter(loss.data() + i * inner, inner, static_cast<char*>(losses.data) + offset, step, losses.dtype,
                losses.swapped);
        return true;
    });
}

/// The options with the defaults of this kind of loss, which may have neither smoothing nor temperature.
ClassLossOptions options_of(LossKind kind, const TensorView& x, const ClassLossOptions& given) {
    ClassLossOptions options = given;
    options.compute_dtype = resolved(given.compute_dtype, x);
    if (kind == LossKind::log_probs || kind == LossKind::probs || kind == LossKind::focal)
        options.label_smoothing = 0, options.temperature = 1;
    if (kind == LossKind::brier) options.label_smoothing = 0;
    if (kind == LossKind::focal) check_gamma(given.gamma);
    return options;
}

[[gnu::noinline]] double class_loss(LossKind kind, const char* name, const TensorView& x_,
                                    const TensorView& target_, const ClassLossOptions& given,
                                    const MutableTensorView* losses_, const MutableTensorView* grad_) {
    const bool keep_rows = given.reduction == Reduction::none, mean = given.reduction == Reduction::mean;
    check_reduction(given.reduction, losses_);
    const Input x_in(name, x_), target_in(target_name(kind), target_),
        weight("weight", kind == LossKind::brier ? nullptr : given.weight),
        sample_weight("sample_weight", given.sample_weight);
    const Output losses_out("losses", keep_rows ? losses_ : nullptr), grad_out("grad_out", grad_);
    const TensorView &x = *x_in, &target = *target_in;
    const MutableTensorView *const losses = losses_out.get(), *const grad = grad_out.get();
    ClassLossOptions options = options_of(kind, x, given);
    options.weight = weight.get();
    options.sample_weight = sample_weight.get();
    ClassLoss c{kind, name, x, target, options, {grad, nullptr, {}}};
    // Losses of probabilities without a gradient check the probabilities in the same pass. Their losses are
    // written afterwards; all others are written at once.
    const bool at_once = keep_rows && (grad || kind != LossKind::probs);
    if (at_once) c.losses = losses;
    double norm = 0;
    prepare(c, losses);
    if ((grad || at_once) && c.rows > 0) {
        // The pass over the rows will write: everything must be known to be right before.
        const int64_t ignored = c.indices() ? check_labels(target, x.shape[c.axis], options.ignore_index) : 0;
        if (kind == LossKind::probs) check_probs(c);
        if (mean) {
            c.denominator = total_norm(c, ignored);
            norm = total(c.denominator);
            if (norm == 0) c.denominator = {std::numeric_limits<double>::infinity()};
        }
    }
    c.sums_norms = mean && !grad && c.weighted();
    RowLosses result;
    run(c, result, keep_rows);
    if (keep_rows) {
        if (!at_once && c.rows > 0) put_in_order(result.loss, *losses);
        return std::numeric_limits<double>::quiet_NaN();
    }
    const Sum sum = sum_in_blocks(result.loss, result.loss_sums);
    if (!mean) return canonical(total(sum));
    if (!grad) {
        c.denominator = c.weighted() ? sum_in_blocks(result.norm, result.norm_sums)
                                     : Sum{static_cast<double>(result.counted.load())};
        norm = total(c.denominator);
    }
    return norm == 0 ? options.empty : canonical(total(quotient(sum, c.denominator)));
}

/// A divergence has no weights of classes, no labels, no smoothing.
double divergence(LossKind kind, const TensorView& logits, const TensorView& target_logits,
                  const DivergenceOptions& given, const MutableTensorView* losses,
                  const MutableTensorView* grad) {
    const DefaultFloatMode mode;
    ClassLossOptions options;
    options.axis = given.axis;
    options.sample_weight = given.sample_weight;
    options.ignore_index = std::nullopt;
    options.temperature = given.temperature;
    options.reduction = given.reduction;
    options.empty = given.empty;
    options.compute_dtype = given.compute_dtype;
    return class_loss(kind, "logits", logits, target_logits, options, losses, grad);
}

void class_hessian(LossKind kind, const TensorView& logits, const TensorView& target,
                   const MutableTensorView& grad, const MutableTensorView& hess,
                   const ClassLossOptions& given, const HessianOptions& hessian) {
    const Input x("logits", logits), labels("target", target), weight("weight", given.weight),
        sample_weight("sample_weight", given.sample_weight);
    const Output grad_to("grad_out", grad), hess_to("hess_out", hess);
    ClassLossOptions options = options_of(kind, *x, given);
    options.weight = weight.get();
    options.sample_weight = sample_weight.get();
    options.compute_dtype = compute_dtype_of(logits.dtype);
    check_hessian(hessian);
    check_temperature(options.temperature);
    HessianOptions scaled = hessian;  // the gradient has one factor 1 / temperature, the Hessian two
    scaled.hess_scale /= options.temperature;
    ClassLoss c{kind, "logits", *x, *labels, options, {grad_to.get(), hess_to.get(), scaled}};
    prepare(c, nullptr);
    if (c.rows == 0) return;
    if (c.indices()) check_labels(*labels, logits.shape[c.axis], options.ignore_index);
    RowLosses result;
    run(c, result, false);
}

}  // namespace

double cross_entropy(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                     const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::logits, "logits", logits, target, options, losses, nullptr);
}
double nll_loss(const TensorView& log_probs, const TensorView& target, const ClassLossOptions& options,
                const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::log_probs, "log_probs", log_probs, target, options, losses, nullptr);
}
double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                 const ClassLossOptions& options, const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::probs, "probs", probs, target, options, losses, nullptr);
}

double cross_entropy_and_grad(const TensorView& logits, const TensorView& target,
                              const MutableTensorView& grad, const ClassLossOptions& options,
                              const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::logits, "logits", logits, target, options, losses, &grad);
}
double nll_loss_and_grad(const TensorView& log_probs, const TensorView& target, const MutableTensorView& grad,
                         const ClassLossOptions& options, const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::log_probs, "log_probs", log_probs, target, options, losses, &grad);
}
double categorical_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                          const MutableTensorView& grad, const ClassLossOptions& options,
                                          const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::probs, "probs", probs, target, options, losses, &grad);
}

double brier_score(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                   const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::brier, "logits", logits, target, options, losses, nullptr);
}

double kl_divergence(const TensorView& logits, const TensorView& target_logits,
                     const DivergenceOptions& options, const MutableTensorView* losses) {
    return divergence(LossKind::kl_divergence, logits, target_logits, options, losses, nullptr);
}
double js_divergence(const TensorView& logits, const TensorView& target_logits,
                     const DivergenceOptions& options, const MutableTensorView* losses) {
    return divergence(LossKind::js_divergence, logits, target_logits, options, losses, nullptr);
}
double kl_divergence_and_grad(const TensorView& logits, const TensorView& target_logits,
                              const MutableTensorView& grad, const DivergenceOptions& options,
                              const MutableTensorView* losses) {
    return divergence(LossKind::kl_divergence, logits, target_logits, options, losses, &grad);
}

void cross_entropy_grad_hess(const TensorView& logits, const TensorView& target,
                             const MutableTensorView& grad, const MutableTensorView& hess,
                             const ClassLossOptions& options, const HessianOptions& hessian) {
    const DefaultFloatMode mode;
    class_hessian(LossKind::logits, logits, target, grad, hess, options, hessian);
}

double softmax_focal_loss(const TensorView& logits, const TensorView& target, const ClassLossOptions& options,
                          const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::focal, "logits", logits, target, options, losses, nullptr);
}
double softmax_focal_loss_and_grad(const TensorView& logits, const TensorView& target,
                                   const MutableTensorView& grad, const ClassLossOptions& options,
                                   const MutableTensorView* losses) {
    const DefaultFloatMode mode;
    return class_loss(LossKind::focal, "logits", logits, target, options, losses, &grad);
}
void softmax_focal_loss_grad_hess(const TensorView& logits, const TensorView& target,
                                  const MutableTensorView& grad, const MutableTensorView& hess,
                                  const ClassLossOptions& options, const HessianOptions& hessian) {
    const DefaultFloatMode mode;
    class_hessian(LossKind::focal, logits, target, grad, hess, options, hessian);
}

}  // namespace softloss
