// The public C++ API of softloss: softmax-family transforms and losses over arrays of any layout.
//
// Lives here: declarations, options, their documentation. Must not: SIMD, OpenMP, pybind11.
//
// Conventions. Results have the same bits on every CPU, at any thread count. x and y may be the same array; they must not
// overlap in another way, nor may elements of y. Errors: std::invalid_argument (shapes, values, dtypes),
// std::out_of_range (labels); nothing has been written when one is thrown. ULP bounds hold against exact arithmetic for
// float32 and float64; those of gradients and Hessians for the factors that docs/numerics.rst names.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "softloss/export.h"
#include "softloss/types.hpp"

namespace softloss {

// ---- transforms ---------------------------------------------------------------------------------------------------

struct TransformOptions {
    int axis = -1;
    const TensorView* where = nullptr;  ///< boolean, broadcast to x: elements that are false count as absent
    double temperature = 1.0;           ///< x is divided by it
};

/// y = exp(x / t) / sum(exp(x / t)) along the axis. x, y: same shape, any floating dtype; integer x computes in y's dtype.
/// Masked elements give 0. A row with +inf, NaN, or -inf only is NaN. <= 2 ULP.
SOFTLOSS_API void softmax(const TensorView& x, const MutableTensorView& y,
                          const TransformOptions& options = {});

/// y = x / t - log(sum(exp(x / t))) along the axis; masked elements give -inf. <= 2 ULP, results near zero included.
SOFTLOSS_API void log_softmax(const TensorView& x, const MutableTensorView& y,
                              const TransformOptions& options = {});

struct LogsumexpOptions {
    int axis = -1;
    const TensorView* b = nullptr;      ///< weights of the exponentials, broadcast to x
    const TensorView* where = nullptr;  ///< boolean, broadcast to x
};

/// y = log(sum(b exp(x))) along the axis. y: x's shape without the axis. The empty sum gives -inf. Without b: <= 2 ULP of
/// the larger of y and max |x|.
SOFTLOSS_API void logsumexp(const TensorView& x, const MutableTensorView& y,
                            const LogsumexpOptions& options = {});

/// y = 1 / (1 + exp(-x)), element by element. <= 2 ULP.
SOFTLOSS_API void sigmoid(const TensorView& x, const MutableTensorView& y);

/// y = log(sigmoid(x)), element by element. <= 2 ULP.
SOFTLOSS_API void log_sigmoid(const TensorView& x, const MutableTensorView& y);

// ---- losses ---------------------------------------------------------------------------------------------------------

enum class Reduction { none, mean, sum };

/// What a loss over classes takes; logits, log_probs and probs have shape (..., C, ...), C at the axis.
struct ClassLossOptions {
    int axis = -1;
    const TensorView* weight = nullptr;         ///< (C)
    const TensorView* sample_weight = nullptr;  ///< the shape of the losses
    std::optional<std::int64_t> ignore_index = -100;
    double label_smoothing = 0.0;  ///< cross_entropy alone
    double temperature = 1.0;      ///< cross_entropy alone
    Reduction reduction = Reduction::mean;
    double empty = std::numeric_limits<double>::quiet_NaN();  ///< the mean of no losses
    DType dtype = DType::float32;                             ///< float64 to compute in double
};

/// A loss reduces to the returned number, or, with Reduction::none, is written to `losses` (float32 or float64, the
/// shape of the logits without the axis; NaN is returned). target: integer class indices of that shape, or class
/// probabilities of the logits' shape. <= 2 ULP per row, the smallest losses included.
SOFTLOSS_API double cross_entropy(const TensorView& logits, const TensorView& target,
                                  const ClassLossOptions& options = {},
                                  const MutableTensorView* losses = nullptr);
/// The same of log-probabilities: -log_probs[target].
SOFTLOSS_API double nll_loss(const TensorView& log_probs, const TensorView& target,
                             const ClassLossOptions& options = {}, const MutableTensorView* losses = nullptr);
/// The same of probabilities: -log(probs[target]).
SOFTLOSS_API double categorical_cross_entropy(const TensorView& probs, const TensorView& target,
                                              const ClassLossOptions& options = {},
                                              const MutableTensorView* losses = nullptr);

struct BinaryLossOptions {
    const TensorView* weight = nullptr;      ///< broadcast
    const TensorView* pos_weight = nullptr;  ///< broadcast; logits alone
    Reduction reduction = Reduction::mean;
    double empty = std::numeric_limits<double>::quiet_NaN();
    DType dtype = DType::float32;
};

/// -weight (z log p + (1 - z) log(1 - p)), logs clamped at -100; target z is broadcast and lies in [0, 1].
SOFTLOSS_API double binary_cross_entropy(const TensorView& probs, const TensorView& target,
                                         const BinaryLossOptions& options = {},
                                         const MutableTensorView* losses = nullptr);
/// The same of p = sigmoid(x), without ever forming p; pos_weight multiplies the positive part.
SOFTLOSS_API double binary_cross_entropy_with_logits(const TensorView& logits, const TensorView& target,
                                                     const BinaryLossOptions& options = {},
                                                     const MutableTensorView* losses = nullptr);

// ---- losses with their gradients --------------------------------------------------------------------------------------

/// The loss, and in `grad` (shape of the input, any floating dtype; it may be the input) its gradient with respect to the
/// input. With Reduction::none, `losses` is written and the gradient is that of their sum. Where there is nothing to
/// average the gradient is 0. Against class indices: <= 3 ULP of each element, the label's included, however small
/// the loss; against class probabilities, and with label smoothing, p - q may cancel: <= 3 ULP of the larger of p and q.
SOFTLOSS_API double cross_entropy_and_grad(const TensorView& logits, const TensorView& target,
                                           const MutableTensorView& grad,
                                           const ClassLossOptions& options = {},
                                           const MutableTensorView* losses = nullptr);
SOFTLOSS_API double nll_loss_and_grad(const TensorView& log_probs, const TensorView& target,
                                      const MutableTensorView& grad, const ClassLossOptions& options = {},
                                      const MutableTensorView* losses = nullptr);
SOFTLOSS_API double categorical_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                                       const MutableTensorView& grad,
                                                       const ClassLossOptions& options = {},
                                                       const MutableTensorView* losses = nullptr);
SOFTLOSS_API double binary_cross_entropy_and_grad(const TensorView& probs, const TensorView& target,
                                                  const MutableTensorView& grad,
                                                  const BinaryLossOptions& options = {},
                                                  const MutableTensorView* losses = nullptr);
SOFTLOSS_API double binary_cross_entropy_with_logits_and_grad(const TensorView& logits,
                                                              const TensorView& target,
                                                              const MutableTensorView& grad,
                                                              const BinaryLossOptions& options = {},
                                                              const MutableTensorView* losses = nullptr);

struct HessianOptions {
    double scale = 1.0;  ///< factor of the Hessian
    double floor = 0.0;  ///< and its least value: max(scale * h, floor)
};

/// Gradient and diagonal Hessian (<= 4 ULP) of each row's loss against class indices, unreduced: w (p - [label]) and
/// w p (1 - p), with w = weight * sample_weight; 0 (and the floor) where a row is ignored. reduction, label_smoothing,
/// empty and dtype of the options are not used. grad and hess: shape and dtype of logits; grad may be the logits.
SOFTLOSS_API void cross_entropy_grad_hess(const TensorView& logits, const TensorView& target,
                                          const MutableTensorView& grad, const MutableTensorView& hess,
                                          const ClassLossOptions& options = {},
                                          const HessianOptions& hessian = {});
SOFTLOSS_API void binary_cross_entropy_with_logits_grad_hess(
    const TensorView& logits, const TensorView& target, const MutableTensorView& grad,
    const MutableTensorView& hess, const BinaryLossOptions& options = {}, const HessianOptions& hessian = {});

/// Vector-Jacobian product of softmax from its result: dx = y (dy - sum(y dy)). All of one shape; dx may be dy. <= 3 ULP of
/// y max(|dy|, |sum|): where dy and the sum cancel, the difference is no better than they are.
SOFTLOSS_API void softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx,
                                   int axis = -1);
/// The same of log_softmax: dx = dy - exp(y) sum(dy), <= 3 ULP of the larger term.
SOFTLOSS_API void log_softmax_backward(const TensorView& y, const TensorView& dy, const MutableTensorView& dx,
                                       int axis = -1);

// ---- scores -------------------------------------------------------------------------------------------------------------

struct ScoreOptions {
    int axis = -1;
    std::int64_t k = 0;  ///< how many of the largest
    double temperature = 1.0;
    std::optional<std::int64_t> ignore_index = -100;  ///< token_logprobs alone
};

/// The k largest probabilities of each row, largest first (ties by index), and their classes (int64). prob, index: shape
/// of x with k at the axis. Reads x once and allocates nothing of its size. The same bits as softmax.
SOFTLOSS_API void softmax_topk(const TensorView& x, const MutableTensorView& prob,
                               const MutableTensorView& index, const ScoreOptions& options = {.k = 1});

/// Where token_logprobs puts what; any may be null. Shape of logits without the axis; the last two with k at the end.
/// logprob and entropy must have the same strides, argmax and rank too: std::invalid_argument otherwise.
struct TokenScoreViews {
    const MutableTensorView* logprob = nullptr;      ///< log-probability of the target, 0 where ignored
    const MutableTensorView* argmax = nullptr;       ///< int64: the class with the largest logit
    const MutableTensorView* rank = nullptr;         ///< int64: 1 + number of larger logits, 0 where ignored
    const MutableTensorView* entropy = nullptr;      ///< of the row's distribution, in nats
    const MutableTensorView* top_logprob = nullptr;  ///< the k largest log-probabilities
    const MutableTensorView* top_index = nullptr;    ///< int64: their classes
};
/// Scores of target: class indices, shape of logits without the axis. Log-probabilities: <= 2 ULP.
SOFTLOSS_API void token_logprobs(const TensorView& logits, const TensorView& target,
                                 const TokenScoreViews& out, const ScoreOptions& options = {});

// ---- threads, build ---------------------------------------------------------------------------------------------------

SOFTLOSS_API void set_num_threads(int n);  ///< n >= 1; above 1024 it is 1024
SOFTLOSS_API int get_num_threads();
SOFTLOSS_API bool has_openmp();

/// The instruction sets that can run here, slowest first; the one in use; choosing one (for tests).
SOFTLOSS_API std::vector<std::string_view> usable_isas();
SOFTLOSS_API std::string_view isa();
SOFTLOSS_API void set_isa(std::string_view name);

}  // namespace softloss

#include "softloss/spans.hpp"
