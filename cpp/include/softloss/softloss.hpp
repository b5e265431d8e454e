// The public C++ API of softloss: softmax-family transforms and losses over arrays of any layout.
//
// Lives here: declarations, options, their documentation. Must not: SIMD, OpenMP, pybind11.
//
// Conventions. Results have the same bits on every CPU, at any thread count. x and y may be the same array; they must not
// overlap in another way. Errors: std::invalid_argument (shapes, values, dtypes), std::out_of_range (labels); nothing has
// been written when one is thrown. ULP bounds hold against exact arithmetic for float32 and float64.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "softloss/types.hpp"

#if defined(_WIN32)
#define SOFTLOSS_API
#else
#define SOFTLOSS_API __attribute__((visibility("default")))
#endif

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

/// y = log(sum(b exp(x))) along the axis. y: x's shape without the axis. The empty sum gives -inf.
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

// ---- threads, build ---------------------------------------------------------------------------------------------------

SOFTLOSS_API void set_num_threads(int n);
SOFTLOSS_API int get_num_threads();
SOFTLOSS_API bool has_openmp();

/// The instruction sets that can run here, slowest first; the one in use; choosing one (for tests).
SOFTLOSS_API std::vector<std::string_view> usable_isas();
SOFTLOSS_API std::string_view isa();
SOFTLOSS_API void set_isa(std::string_view name);

}  // namespace softloss
