// The public C++ API of softloss: softmax-family transforms and losses over arrays of any layout.
//
// Lives here: declarations, options, their documentation. Must not: SIMD, OpenMP, pybind11.
//
// Conventions.
//
// - Arguments have the names that they have in Python.
// - Results have the same bits on every CPU and with any number of threads.
// - `out` may be the same array as x, and `grad_out` the same as the logits. Apart from that, an output must
//   not share memory with an input or with another output, and its own elements must not overlap.
// - Errors: std::invalid_argument (shapes, values, dtypes) and std::out_of_range (labels). When one is
//   thrown, nothing has been written.
// - A function ignores options that do not apply to it.
// - ULP bounds are for float32 and float64, against exact arithmetic. Those of gradients and Hessians assume
//   the factors that docs/numerics.rst names.
#pragma once

#include "softloss/requirements.hpp"

#ifndef SOFTLOSS_UNUSABLE

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "softloss/export.h"
#include "softloss/types.hpp"

namespace softloss {

namespace detail {

/// Throws std::invalid_argument unless least <= value <= most, where most is the number of classes.
SOFTLOSS_API void check_count(const char* name, std::int64_t value, std::int64_t least, std::int64_t most);
/// Functions over ranges take rows along the last axis: throws std::invalid_argument if `axis` is another
/// one.
SOFTLOSS_API void check_last_axis(int axis);
/// The number of rows of `classes` elements in a range of `size`. Throws std::invalid_argument if `size` is
/// not a multiple of `classes`.
SOFTLOSS_API std::int64_t rows_of(const char* name, std::int64_t size, std::int64_t classes);

}  // namespace detail

// ---- transforms ------------------------------------------------------------------------------------------

struct TransformOptions {
    int axis = -1;
    const TensorView* where = nullptr;  ///< boolean, broadcast to x: false excludes an element
    double temperature = 1.0;           ///< x is divided by it
};

/// out = exp(x / t) / sum(exp(x / t)) along the axis. out: the shape of x, any floating dtype. Integer x is
/// computed in the dtype of out. Masked elements give 0. A row with +inf or NaN, or with nothing but -inf,
/// gives NaN. <= 2 ULP.
SOFTLOSS_API void softmax(const TensorView& x, const MutableTensorView& out,
                          const TransformOptions& options = {});

/// out = x / t - log(sum(exp(x / t))) along the axis; masked elements give -inf. <= 2 ULP, results near zero
/// included.
SOFTLOSS_API void log_softmax(const TensorView& x, const MutableTensorView& out,
                              const TransformOptions& options = {});

struct LogsumexpOptions {
    int axis = -1;
    const TensorView* b = nullptr;      ///< weights of the exponentials, broadcast to x
    const TensorView* where = nullptr;  ///< boolean, broadcast to x
};

/// out = log(sum(b exp(x))) along the axis. out: the shape of x without the axis. An empty sum gives -inf.
/// Without b: <= 2 ULP of the larger of out and max |x|.
SOFTLOSS_API void logsumexp(const TensorView& x, const MutableTensorView& out,
                            const LogsumexpOptions& options = {});

/// The logarithms of the probabilities of each row, and the logarithm of its normaliser, in one pass over x:
/// out = x - logsumexp, logsumexp = log(sum(exp(x))). out: the shape of x, and may be x; logsumexp: that
/// shape without the axis; any floating dtypes. The results are those of log_softmax and logsumexp.
SOFTLOSS_API void log_normalize(const TensorView& x, const MutableTensorView& out,
                                const MutableTensorView& logsumexp, int axis = -1);

/// out = 1 / (1 + exp(-x)), element by element. <= 2 ULP.
SOFTLOSS_API void sigmoid(const TensorView& x, const MutableTensorView& out);

/// out = log(sigmoid(x)), element by element. <= 2 ULP.
SOFTLOSS_API void log_sigmoid(const TensorView& x, const MutableTensorView& out);

// ---- losses ----------------------------------------------------------------------------------------------

enum class Reduction { none, mean, sum };

/// The dtype that a loss of x computes in by default, as in Python: float64 for float64, integers and bool;
/// float32 for float32, float16 and bfloat16.
constexpr DType compute_dtype_of(DType x) noexcept {
    return x == DType::float64 || !is_floating(x) ? DType::float64 : DType::float32;
}

/// Options of a loss over classes. logits, log_probs and probs have shape (..., C, ...), with the C classes
/// along the axis.
struct ClassLossOptions {
    int axis = -1;
    const TensorView* weight = nullptr;         ///< (C), one per class
    const TensorView* sample_weight = nullptr;  ///< the shape of the losses
    std::optional<std::int64_t> ignore_index = -100;
    double label_smoothing = 0.0;  ///< only cross_entropy
    double temperature = 1.0;      ///< only cross_entropy and brier_score
    Reduction reduction = Reduction::mean;
    double empty = std::numeric_limits<double>::quiet_NaN();  ///< the mean if there is no loss
    std::optional<DType> compute_dtype = std::nullopt;  ///< float32 or float64; default: compute_dtype_of
    double gamma = 2.0;                                 ///< only softmax_focal_loss
};

/// The loss is returned. With Reduction::none, the losses are written to `losses` instead (float32 or
/// float64, the shape of the logits without the axis), and NaN is returned. target: integer class indices of
/// that shape, or class probabilities of the shape of the logits. <= 2 ULP per row, however small the loss.
SOFTLOSS_API double cross_entropy(const TensorView& logits, const TensorView& target,
                                  const ClassLossOptions& options = {},
                                  const MutableTensorView* losses = nullptr);
/// The cross-entropy of log-probabilities: -log_probs[target].
SOFTLOSS_API double nll_loss(const TensorView& log_probs, const TensorView& target,
                             const ClassLossOptions& options = {}, const MutableTensorView* losses = nullptr);
/// The cross-entropy of probabilities: -log(probs[target]).
SOFTLOSS_API double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                              const ClassLossOptions& options = {},
                                              const MutableTensorView* losses = nullptr);

struct BinaryLossOptions {
    const TensorView* weight = nullptr;      ///< broadcast to the input
    const TensorView* pos_weight = nullptr;  ///< broadcast to the input; only for logits
    Reduction reduction = Reduction::mean;
    double empty = std::numeric_limits<double>::quiet_NaN();
    std::optional<DType> compute_dtype = std::nullopt;  ///< as for losses over classes
    std::optional<double> alpha =
        std::nullopt;    ///< weight of target 1; that of 0 is 1 - alpha; only sigmoid_focal_loss
    double gamma = 2.0;  ///< only sigmoid_focal_loss
};

/// -weight (z log p + (1 - z) log(1 - p)), logarithms clamped at -100. The target z is in [0, 1] and
/// broadcast to the input.
SOFTLOSS_API double binary_cross_entropy(const TensorView& probs, const TensorView& target,
                                         const BinaryLossOptions& options = {},
                                         const MutableTensorView* losses = nullptr);
/// The same for p = sigmoid(x), computed without p itself. pos_weight multiplies the term of z.
SOFTLOSS_API double binary_cross_entropy_with_logits(const TensorView& logits, const TensorView& target,
                                                     const BinaryLossOptions& options = {},
                                                     const MutableTensorView* losses = nullptr);

/// Options of a divergence of two arrays of logits, with the classes along the axis.
struct DivergenceOptions {
    int axis = -1;
    const TensorView* sample_weight = nullptr;  ///< the shape of the divergences
    double temperature = 1.0;                   ///< of both arrays
    Reduction reduction = Reduction::mean;
    double empty = std::numeric_limits<double>::quiet_NaN();  ///< the mean if there is no row
    std::optional<DType> compute_dtype = std::nullopt;        ///< as for losses over classes; of logits
};

/// KL(p || q) of each row, p = softmax(target_logits / t), q = softmax(logits / t), in one read of both.
/// Both have one shape, of any dtypes. The mean is over rows; it is not multiplied by t^2. The result is
/// returned, or the divergences of the rows are written, as for losses over classes. A class with -inf in
/// target_logits adds 0. A class with -inf only in logits makes the result infinite. A row with +inf or NaN,
/// or all -inf, gives NaN. The result is never negative. Error: < 1 ULP (float64: <= 8), also for the
/// smallest results.
SOFTLOSS_API double kl_divergence(const TensorView& logits, const TensorView& target_logits,
                                  const DivergenceOptions& options = {},
                                  const MutableTensorView* losses = nullptr);
/// Jensen-Shannon divergence: (KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2; 0 .. log 2. Its square root is
/// a metric.
SOFTLOSS_API double js_divergence(const TensorView& logits, const TensorView& target_logits,
                                  const DivergenceOptions& options = {},
                                  const MutableTensorView* losses = nullptr);
/// The cross-entropy of a probability p of the target, times (1 - p)^gamma: -weight (1 - p)^gamma log p.
/// gamma >= 0; with 0 it is the cross-entropy, bit for bit. <= 2 ULP in float32 and <= 8 ULP in float64 for
/// gamma up to 8, however small the loss. softmax_focal_loss takes class indices, and a weight for each
/// class.
SOFTLOSS_API double softmax_focal_loss(const TensorView& logits, const TensorView& target,
                                       const ClassLossOptions& options = {},
                                       const MutableTensorView* losses = nullptr);
/// p is sigmoid(x) where the target is 1, and sigmoid(-x) where it is 0. Other targets are an error. alpha:
/// 0 to 1.
SOFTLOSS_API double sigmoid_focal_loss(const TensorView& logits, const TensorView& target,
                                       const BinaryLossOptions& options = {},
                                       const MutableTensorView* losses = nullptr);

/// The Brier score of p = softmax(logits / t): the sum over classes of (p - q)^2, where q is 1 at the label
/// and 0 elsewhere. 0 .. 2; of two classes, twice the binary score. target: class indices. The mean is over
/// rows, or weighted by sample_weight. No array of probabilities is made. <= 8 ULP, down to the smallest.
/// Options: axis, sample_weight, ignore_index, temperature, reduction, empty, compute_dtype.
SOFTLOSS_API double brier_score(const TensorView& logits, const TensorView& target,
                                const ClassLossOptions& options = {},
                                const MutableTensorView* losses = nullptr);

// ---- losses with their gradients -------------------------------------------------------------------------

/// Returns the loss and writes its gradient with respect to the input to `grad_out` (shape of the input, any
/// floating dtype; it may be the input). With Reduction::none, `losses` is written, and the gradient is that
/// of their sum. If there is nothing to average, the gradient is 0. Error against class indices: <= 3 ULP of
/// each element, also at the label, however small the loss. Against class probabilities, or with label
/// smoothing, p - q may cancel: <= 3 ULP of the larger of p and q.
SOFTLOSS_API double cross_entropy_and_grad(const TensorView& logits, const TensorView& target,
                                           const MutableTensorView& grad_out,
                                           const ClassLossOptions& options = {},
                                           const MutableTensorView* losses = nullptr);
SOFTLOSS_API double nll_loss_and_grad(const TensorView& log_probs, const TensorView& target,
                                      const MutableTensorView& grad_out, const ClassLossOptions& options = {},
                                      const MutableTensorView* losses = nullptr);
SOFTLOSS_API double categorical_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                                       const MutableTensorView& grad_out,
                                                       const ClassLossOptions& options = {},
                                                       const MutableTensorView* losses = nullptr);
SOFTLOSS_API double binary_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                                  const MutableTensorView& grad_out,
                                                  const BinaryLossOptions& options = {},
                                                  const MutableTensorView* losses = nullptr);
SOFTLOSS_API double binary_cross_entropy_with_logits_and_grad(const TensorView& logits,
                                                              const TensorView& target,
                                                              const MutableTensorView& grad_out,
                                                              const BinaryLossOptions& options = {},
                                                              const MutableTensorView* losses = nullptr);

/// The gradient with respect to logits is (q - p) / t, divided by the number of rows for the mean. grad_out
/// may be logits, but not target_logits. <= 3 ULP of the larger of p and q.
SOFTLOSS_API double kl_divergence_and_grad(const TensorView& logits, const TensorView& target_logits,
                                           const MutableTensorView& grad_out,
                                           const DivergenceOptions& options = {},
                                           const MutableTensorView* losses = nullptr);
SOFTLOSS_API double softmax_focal_loss_and_grad(const TensorView& logits, const TensorView& target,
                                                const MutableTensorView& grad_out,
                                                const ClassLossOptions& options = {},
                                                const MutableTensorView* losses = nullptr);
SOFTLOSS_API double sigmoid_focal_loss_and_grad(const TensorView& logits, const TensorView& target,
                                                const MutableTensorView& grad_out,
                                                const BinaryLossOptions& options = {},
                                                const MutableTensorView* losses = nullptr);

struct HessianOptions {
    double hess_scale = 1.0;  ///< factor of the Hessian
    double hess_min = 0.0;    ///< its smallest value: max(hess_scale * h, hess_min); -infinity: none
};

/// Gradient and diagonal Hessian (<= 4 ULP) of the loss of each row, not reduced. Let t = temperature, p =
/// softmax(logits / t), w = weight, and q the target's distribution after smoothing, which need not sum to 1.
/// The gradient is (p sum(w q) - w q) / t. The Hessian is sum(w q) p (1 - p) / t^2. Both are multiplied by
/// sample_weight. A class index means q = 1 at that class and 0 elsewhere. An ignored row gives 0. The
/// options reduction, empty and compute_dtype are ignored. grad_out and hess_out: shape of the logits, any
/// floating dtype; grad_out may be the logits.
SOFTLOSS_API void cross_entropy_grad_hess(const TensorView& logits, const TensorView& target,
                                          const MutableTensorView& grad_out,
                                          const MutableTensorView& hess_out,
                                          const ClassLossOptions& options = {},
                                          const HessianOptions& hessian = {});
SOFTLOSS_API void binary_cross_entropy_with_logits_grad_hess(const TensorView& logits,
                                                             const TensorView& target,
                                                             const MutableTensorView& grad_out,
                                                             const MutableTensorView& hess_out,
                                                             const BinaryLossOptions& options = {},
                                                             const HessianOptions& hessian = {});

/// The same for the focal losses. The Hessian can be negative; its error is <= 4 ULP of the sum of the
/// absolute terms.
SOFTLOSS_API void softmax_focal_loss_grad_hess(const TensorView& logits, const TensorView& target,
                                               const MutableTensorView& grad_out,
                                               const MutableTensorView& hess_out,
                                               const ClassLossOptions& options = {},
                                               const HessianOptions& hessian = {});
SOFTLOSS_API void sigmoid_focal_loss_grad_hess(const TensorView& logits, const TensorView& target,
                                               const MutableTensorView& grad_out,
                                               const MutableTensorView& hess_out,
                                               const BinaryLossOptions& options = {},
                                               const HessianOptions& hessian = {});

/// Vector-Jacobian product of softmax, computed from its result y: out = y (dy - sum(y dy)). All arrays have
/// the same shape; out may be dy or y. Error: <= 3 ULP of the sum of the absolute terms, without those of the
/// largest class, so no component is lost where they nearly cancel.
SOFTLOSS_API void softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& out,
                                   int axis = -1);
/// Vector-Jacobian product of log_softmax, from its result: out = dy - exp(logy) sum(dy). Error and arrays as
/// for softmax_backward.
SOFTLOSS_API void log_softmax_backward(const TensorView& logy, const TensorView& dy,
                                       const MutableTensorView& out, int axis = -1);

// ---- scores ----------------------------------------------------------------------------------------------

struct TopKOptions {
    int axis = -1;
    std::int64_t k = 1;  ///< how many probabilities, 1 to the number of classes
    double temperature = 1.0;
};

/// The k largest probabilities of each row, largest first (equal ones by index), and their classes (int64).
/// prob, index: the shape of x with k along the axis. Reads x once and allocates nothing of its size. The
/// bits are those of softmax.
SOFTLOSS_API void softmax_topk(const TensorView& x, const MutableTensorView& prob,
                               const MutableTensorView& index, const TopKOptions& options = {});

struct EntropyOptions {
    int axis = -1;
    double temperature = 1.0;
};

/// out = -sum(p log p), the entropy in nats of p = softmax(logits / t) of each row. out: the shape of the
/// logits without the axis, any floating dtype. A row with +inf or NaN, or all -inf, gives NaN. Error: < 1
/// ULP (float64: <= 8), also for the smallest results.
SOFTLOSS_API void softmax_entropy(const TensorView& logits, const MutableTensorView& out,
                                  const EntropyOptions& options = {});

struct TokenOptions {
    int axis = -1;
    std::int64_t top_k = 0;  ///< how many log-probabilities, 0 to the number of classes
    double temperature = 1.0;
    std::optional<std::int64_t> ignore_index = -100;
};

/// Outputs of token_logprobs; any may be null. Shape: that of the logits without the axis; the last two also
/// have top_k at the end. logprob and entropy must have equal strides, and so must argmax and rank; else
/// std::invalid_argument.
struct TokenScoreViews {
    const MutableTensorView* logprob = nullptr;      ///< log-probability of the target; 0 if ignored
    const MutableTensorView* argmax = nullptr;       ///< int64: the class with the largest logit
    const MutableTensorView* rank = nullptr;         ///< int64: 1 + number of larger logits; 0 if ignored
    const MutableTensorView* entropy = nullptr;      ///< of the row's distribution, in nats
    const MutableTensorView* top_logprob = nullptr;  ///< the top_k largest log-probabilities
    const MutableTensorView* top_index = nullptr;    ///< int64: their classes
};
/// Scores of the target, class indices of the shape of the logits without the axis. Log-probabilities: <= 2
/// ULP.
SOFTLOSS_API void token_logprobs(const TensorView& logits, const TensorView& target,
                                 const TokenScoreViews& out, const TokenOptions& options = {});

struct SampleOptions {
    int axis = -1;
    double temperature = 1.0;  ///< >= 0; with 0 the class is the first of the largest
    std::int64_t top_k = 0;    ///< keeps this many of the largest; 0: all
    double top_p = 1.0;        ///< then keeps the largest whose probabilities sum up to it; in (0, 1]
    double min_p = 0.0;        ///< then keeps p >= min_p * max(p); in [0, 1]
    const TensorView* where = nullptr;  ///< boolean, broadcast to the logits: false excludes a class
};

/// Draws a class of each row from softmax(logits / temperature), renormalised over the classes that the
/// filters keep: top_k, then top_p, then min_p. Of equal classes, those with the lower index are kept. u: one
/// number in [0, 1) for each row; the class is the first, by index, whose running sum of probabilities
/// exceeds u. index: int64; logprob: the log-probability of the class among those kept, < 1 ULP (float64: 8).
/// All have the shape of the logits without the axis. A row with NaN or +inf, all -inf or masked: index 0,
/// logprob NaN.
///
/// The probabilities that are summed are whole numbers: round(2^s e), where e is the exponential as a share
/// of the largest (to a constant factor in [0.75, 1.54]) and s = min(50, 62 - ceil(log2(classes))). A class
/// below 2^-(s + 2) of the largest is therefore never drawn. All sums are exact, so that the same class is
/// drawn on every CPU, on any number of threads and in every layout.
SOFTLOSS_API void sample(const TensorView& logits, const TensorView& u, const MutableTensorView& index,
                         const MutableTensorView& logprob, const SampleOptions& options = {});

// ---- calibration -----------------------------------------------------------------------------------------

struct TemperatureOptions {
    int axis = -1;
    const TensorView* weight = nullptr;         ///< (C), one per class, none negative
    const TensorView* sample_weight = nullptr;  ///< the shape of target, none negative
    std::optional<std::int64_t> ignore_index = -100;
};
struct TemperatureFit {
    double temperature;  ///< NaN if there is no row, or a row has no loss
    double loss;         ///< the mean cross-entropy at this temperature
    bool at_bound =
        false;  ///< there is no minimum within 0.001 .. 1000: temperature is the end that is lower
};
/// The temperature t at which the mean of cross_entropy(logits, target, {.temperature = t}) is smallest. It
/// is convex in 1 / t; each step of Newton's method reads the logits once, usually 3 to 6 in all. target:
/// class indices of the shape of the logits without the axis. Where no temperature makes a difference, it is
/// 1. Error of the temperature: <= 1e-8 of it, 1e-5 for logits of float32, float16 and bfloat16.
[[nodiscard]] SOFTLOSS_API TemperatureFit fit_temperature(const TensorView& logits, const TensorView& target,
                                                          const TemperatureOptions& options = {});

/// How calibration_error averages over bins: the mean of the distances (ECE), the root of their mean square
/// (RMSCE), the largest (MCE).
enum class CalibrationNorm { l1, l2, max };

struct CalibrationOptions {
    int axis = -1;
    std::int64_t bins = 15;  ///< 1 .. 2^24
    CalibrationNorm norm = CalibrationNorm::l1;
    double temperature = 1.0;
    const TensorView* sample_weight = nullptr;  ///< the shape of target, none negative
    std::optional<std::int64_t> ignore_index = -100;
};
/// The distance between confidence and accuracy. The confidence of a row is its largest probability; of equal
/// ones the first class is the answer. Row by row it falls into one of the bins ((b - 1) / B, b / B]; each
/// bin counts by the weight of its rows, with the distance between their mean confidence and their accuracy.
/// NaN if there is no row, or a row has no largest probability. No array of probabilities is made.
[[nodiscard]] SOFTLOSS_API double calibration_error(const TensorView& logits, const TensorView& target,
                                                    const CalibrationOptions& options = {});

// ---- threads, build --------------------------------------------------------------------------------------

SOFTLOSS_API void set_num_threads(int n);  ///< n >= 1; above 1024 it is 1024
[[nodiscard]] SOFTLOSS_API int get_num_threads();
[[nodiscard]] SOFTLOSS_API bool has_openmp();

/// usable_isas: the instruction sets that can run here, slowest first. isa: the one in use. set_isa selects
/// one, for tests.
[[nodiscard]] SOFTLOSS_API std::span<const std::string_view> usable_isas();
[[nodiscard]] SOFTLOSS_API std::string_view isa();
SOFTLOSS_API void set_isa(std::string_view name);

}  // namespace softloss

#include "softloss/spans.hpp"

#endif
