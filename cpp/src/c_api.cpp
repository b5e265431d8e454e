// The C API: each function converts plain structs to views and options, calls the C++ function of the same
// name, and converts its exception to a status.
//
// Lives here: that conversion. Must not: checks that the C++ functions make.
#include <cmath>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "softloss/softloss.h"
#include "softloss/softloss.hpp"

namespace {

using namespace softloss;

std::string& last_error() {
    thread_local std::string message;
    return message;
}

/// Runs f and converts an exception to a status and a message.
template <class F>
softloss_status guarded(F f) noexcept {
    try {
        try {
            f();
            return SOFTLOSS_OK;
        } catch (const std::out_of_range& error) {
            last_error() = error.what();
            return SOFTLOSS_OUT_OF_RANGE;
        } catch (const std::bad_alloc&) {
            last_error() = "out of memory";
            return SOFTLOSS_OUT_OF_MEMORY;
        } catch (const std::exception& error) {
            last_error() = error.what();
            return SOFTLOSS_INVALID_ARGUMENT;
        }
    } catch (...) {  // no memory even for the message
        return SOFTLOSS_OUT_OF_MEMORY;
    }
}

static_assert(static_cast<int>(DType::float64) == SOFTLOSS_FLOAT64);
static_assert(static_cast<int>(DType::uint64) == SOFTLOSS_UINT64);

std::optional<DType> compute_dtype_of_c(std::int32_t dtype) {
    if (dtype == SOFTLOSS_AUTO) return std::nullopt;
    if (dtype == SOFTLOSS_FLOAT32 || dtype == SOFTLOSS_FLOAT64) return static_cast<DType>(dtype);
    throw std::invalid_argument(
        "compute_dtype must be SOFTLOSS_FLOAT32, SOFTLOSS_FLOAT64 or SOFTLOSS_AUTO, got " +
        std::to_string(dtype));
}
Reduction reduction_of_c(std::int32_t reduction) {
    if (reduction < SOFTLOSS_REDUCTION_NONE || reduction > SOFTLOSS_REDUCTION_SUM) {
        throw std::invalid_argument("reduction = " + std::to_string(reduction) +
                                    " is not a softloss_reduction");
    }
    return static_cast<Reduction>(reduction);
}
static_assert(static_cast<int>(Reduction::none) == SOFTLOSS_REDUCTION_NONE);
static_assert(static_cast<int>(Reduction::sum) == SOFTLOSS_REDUCTION_SUM);

/// The view of a C array; none if the pointer is NULL. What a view cannot represent is checked here,
/// everything else by the C++ functions.
template <class View, class Struct>
class Viewed {
  public:
    Viewed(const char* name, const Struct* array) {
        if (!array) return;
        const auto refuse = [&](const char* member, std::int32_t value, const char* why) {
            throw std::invalid_argument(std::string(name) + " has " + member + " = " + std::to_string(value) +
                                        why);
        };
        if (array->ndim < 0) refuse("ndim", array->ndim, ", which is negative");
        if (array->dtype < SOFTLOSS_FLOAT16 || array->dtype > SOFTLOSS_UINT64)
            refuse("dtype", array->dtype, ", which is not a softloss_dtype");
        if (array->ndim > 0 && !array->shape)
            throw std::invalid_argument(std::string(name) + " has no shape: its pointer is NULL");
        const auto ndim = static_cast<std::size_t>(array->ndim);
        view_ = View{
            array->data, static_cast<DType>(array->dtype), {array->shape, ndim}, {}, array->swapped != 0};
        if (array->strides) view_->strides = {array->strides, ndim};
    }
    Viewed(const Viewed&) = delete;
    const View* get() const { return view_ ? &*view_ : nullptr; }

  private:
    std::optional<View> view_;
};
using Array = Viewed<TensorView, softloss_array>;
using MutableArray = Viewed<MutableTensorView, softloss_mutable_array>;

/// A required array: NULL is an error.
template <class Array>
struct Needed : Array {
    Needed(const char* name, const auto* array) : Array(name, array) {
        if (!array) throw std::invalid_argument(std::string(name) + " is NULL");
    }
    const auto& operator*() const { return *this->get(); }
};
using In = Needed<Array>;
using Out = Needed<MutableArray>;

/// The given options, or the defaults if they are NULL.
template <class T>
T given(const T* options, void (*init)(T*)) {
    if (options) return *options;
    T defaults;
    init(&defaults);
    return defaults;
}

using Transform = void (*)(const TensorView&, const MutableTensorView&, const TransformOptions&);
softloss_status transform(Transform f, const softloss_array* x, const softloss_mutable_array* out,
                          const softloss_transform_options* options) {
    return guarded([&] {
        const In in("x", x);
        const Out to("out", out);
        const auto o = given(options, softloss_transform_options_init);
        const Array where("where", o.where);
        f(*in, *to, {.axis = o.axis, .where = where.get(), .temperature = o.temperature});
    });
}

using Map = void (*)(const TensorView&, const MutableTensorView&);
softloss_status map(Map f, const softloss_array* x, const softloss_mutable_array* out) {
    return guarded([&] { f(*In("x", x), *Out("out", out)); });
}

using Backward = void (*)(const TensorView&, const TensorView&, const MutableTensorView&, int);
softloss_status backward(Backward f, const char* name, const softloss_array* y, const softloss_array* dy,
                         const softloss_mutable_array* out, std::int32_t axis) {
    return guarded([&] { f(*In(name, y), *In("dy", dy), *Out("out", out), axis); });
}

std::optional<std::int64_t> ignored(std::int32_t ignore, std::int64_t index) {
    return ignore ? std::optional(index) : std::nullopt;
}

/// The C++ options of C options, with the views that they point to.
struct ClassOptions {
    static constexpr const char* kTarget = "target";
    softloss_class_loss_options c;
    Array weight, sample_weight;
    ClassLossOptions options;

    explicit ClassOptions(const softloss_class_loss_options* given_)
        : c(given(given_, softloss_class_loss_options_init)),
          weight("weight", c.weight),
          sample_weight("sample_weight", c.sample_weight),
          options{.axis = c.axis,
                  .weight = weight.get(),
                  .sample_weight = sample_weight.get(),
                  .ignore_index = ignored(c.ignore, c.ignore_index),
                  .label_smoothing = c.label_smoothing,
                  .temperature = c.temperature,
                  .reduction = reduction_of_c(c.reduction),
                  .empty = c.empty,
                  .compute_dtype = compute_dtype_of_c(c.compute_dtype),
                  .gamma = c.gamma} {}
};
struct BinaryOptions {
    static constexpr const char* kTarget = "target";
    softloss_binary_loss_options c;
    Array weight, pos_weight;
    BinaryLossOptions options;

    explicit BinaryOptions(const softloss_binary_loss_options* given_)
        : c(given(given_, softloss_binary_loss_options_init)),
          weight("weight", c.weight),
          pos_weight("pos_weight", c.pos_weight),
          options{.weight = weight.get(),
                  .pos_weight = pos_weight.get(),
                  .reduction = reduction_of_c(c.reduction),
                  .empty = c.empty,
                  .compute_dtype = compute_dtype_of_c(c.compute_dtype),
                  .alpha = std::isnan(c.alpha) ? std::nullopt : std::optional(c.alpha),
                  .gamma = c.gamma} {}
};
struct DivergenceOptionsOfC {
    static constexpr const char* kTarget = "target_logits";
    softloss_divergence_options c;
    Array sample_weight;
    DivergenceOptions options;

    explicit DivergenceOptionsOfC(const softloss_divergence_options* given_)
        : c(given(given_, softloss_divergence_options_init)),
          sample_weight("sample_weight", c.sample_weight),
          options{.axis = c.axis,
                  .sample_weight = sample_weight.get(),
                  .temperature = c.temperature,
                  .reduction = reduction_of_c(c.reduction),
                  .empty = c.empty,
                  .compute_dtype = compute_dtype_of_c(c.compute_dtype)} {}
};

HessianOptions hessian_of_c(const softloss_hessian_options* options) {
    const auto c = given(options, softloss_hessian_options_init);
    return {.hess_scale = c.hess_scale, .hess_min = c.hess_min};
}
TopKOptions topk_of_c(const softloss_topk_options* options) {
    const auto c = given(options, softloss_topk_options_init);
    return {.axis = c.axis, .k = c.k, .temperature = c.temperature};
}
TokenOptions tokens_of_c(const softloss_token_options* options) {
    const auto c = given(options, softloss_token_options_init);
    return {.axis = c.axis,
            .top_k = c.top_k,
            .temperature = c.temperature,
            .ignore_index = ignored(c.ignore, c.ignore_index)};
}

CalibrationNorm norm_of_c(std::int32_t norm) {
    if (norm < SOFTLOSS_NORM_L1 || norm > SOFTLOSS_NORM_MAX)
        throw std::invalid_argument("norm = " + std::to_string(norm) + " is not a softloss_calibration_norm");
    return static_cast<CalibrationNorm>(norm);
}
static_assert(static_cast<int>(CalibrationNorm::l1) == SOFTLOSS_NORM_L1);
static_assert(static_cast<int>(CalibrationNorm::max) == SOFTLOSS_NORM_MAX);

/// Calls f(x, target, options, losses), for losses over classes, divergences, and binary losses.
template <class Options, class F, class COptions>
softloss_status loss_of(F f, const char* name, const softloss_array* x, const softloss_array* target,
                        const COptions* options, double* loss, const softloss_mutable_array* losses) {
    return guarded([&] {
        const In in(name, x), labels(Options::kTarget, target);
        const Options o(options);
        const MutableArray out("losses", losses);
        if (!loss && o.options.reduction != Reduction::none) throw std::invalid_argument("loss is NULL");
        const double value = f(*in, *labels, o.options, out.get());
        if (loss) *loss = value;
    });
}

/// Calls f(x, target, grad_out, options, losses).
template <class Options, class F, class COptions>
softloss_status gradient_of(F f, const char* name, const softloss_array* x, const softloss_array* target,
                            const softloss_mutable_array* grad_out, const COptions* options, double* loss,
                            const softloss_mutable_array* losses) {
    return guarded([&] {
        const In in(name, x), labels(Options::kTarget, target);
        const Out to("grad_out", grad_out);
        const Options o(options);
        const MutableArray out("losses", losses);
        const double value = f(*in, *labels, *to, o.options, out.get());
        if (loss) *loss = value;
    });
}

/// Calls f(x, target, grad_out, hess_out, options, hessian).
template <class Options, class F, class COptions>
softloss_status hessian_of(F f, const softloss_array* x, const softloss_array* target,
                           const softloss_mutable_array* grad_out, const softloss_mutable_array* hess_out,
                           const COptions* options, const softloss_hessian_options* hessian) {
    return guarded([&] {
        const In in("logits", x), labels("target", target);
        const Out grad("grad_out", grad_out), hess("hess_out", hess_out);
        const Options o(options);
        f(*in, *labels, *grad, *hess, o.options, hessian_of_c(hessian));
    });
}

// Types of the functions over views. They select these functions among the overloads of a name.
using ClassLoss = double (*)(const TensorView&, const TensorView&, const ClassLossOptions&,
                             const MutableTensorView*);
using BinaryLoss = double (*)(const TensorView&, const TensorView&, const BinaryLossOptions&,
                              const MutableTensorView*);
using Divergence = double (*)(const TensorView&, const TensorView&, const DivergenceOptions&,
                              const MutableTensorView*);
using DivergenceGradient = double (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                      const DivergenceOptions&, const MutableTensorView*);
using ClassGradient = double (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                 const ClassLossOptions&, const MutableTensorView*);
using BinaryGradient = double (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                  const BinaryLossOptions&, const MutableTensorView*);
using ClassHessian = void (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                              const MutableTensorView&, const ClassLossOptions&, const HessianOptions&);
using BinaryHessian = void (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                               const MutableTensorView&, const BinaryLossOptions&, const HessianOptions&);

}  // namespace

extern "C" {

void softloss_transform_options_init(softloss_transform_options* options) {
    if (!options) return;
    const TransformOptions d;
    *options = {nullptr, d.temperature, d.axis};
}
void softloss_logsumexp_options_init(softloss_logsumexp_options* options) {
    if (!options) return;
    *options = {nullptr, nullptr, LogsumexpOptions{}.axis};
}
void softloss_class_loss_options_init(softloss_class_loss_options* options) {
    if (!options) return;
    const ClassLossOptions d;
    *options = {nullptr,
                nullptr,
                d.ignore_index.value(),
                d.label_smoothing,
                d.temperature,
                d.empty,
                d.axis,
                1,
                static_cast<std::int32_t>(d.reduction),
                SOFTLOSS_AUTO,
                d.gamma};
}
void softloss_binary_loss_options_init(softloss_binary_loss_options* options) {
    if (!options) return;
    const BinaryLossOptions d;
    const double no_alpha = std::numeric_limits<double>::quiet_NaN();
    *options = {nullptr,       nullptr,  d.empty, static_cast<std::int32_t>(d.reduction),
                SOFTLOSS_AUTO, no_alpha, d.gamma};
}
void softloss_divergence_options_init(softloss_divergence_options* options) {
    if (!options) return;
    const DivergenceOptions d;
    *options = {nullptr,      d.temperature, d.empty, d.axis, static_cast<std::int32_t>(d.reduction),
                SOFTLOSS_AUTO};
}

void softloss_temperature_options_init(softloss_temperature_options* options) {
    if (!options) return;
    const TemperatureOptions d;
    *options = {nullptr, nullptr, d.ignore_index.value(), d.axis, 1};
}
void softloss_calibration_options_init(softloss_calibration_options* options) {
    if (!options) return;
    const CalibrationOptions d;
    *options = {nullptr, d.bins, d.ignore_index.value(),           d.temperature,
                d.axis,  1,      static_cast<std::int32_t>(d.norm)};
}
void softloss_hessian_options_init(softloss_hessian_options* options) {
    if (!options) return;
    const HessianOptions d;
    *options = {d.hess_scale, d.hess_min};
}
void softloss_topk_options_init(softloss_topk_options* options) {
    if (!options) return;
    const TopKOptions d;
    *options = {d.k, d.temperature, d.axis};
}
void softloss_entropy_options_init(softloss_entropy_options* options) {
    if (!options) return;
    const EntropyOptions d;
    *options = {d.temperature, d.axis};
}
void softloss_sample_options_init(softloss_sample_options* options) {
    if (!options) return;
    const SampleOptions d;
    *options = {nullptr, d.top_k, d.temperature, d.top_p, d.min_p, d.axis};
}
void softloss_token_options_init(softloss_token_options* options) {
    if (!options) return;
    const TokenOptions d;
    *options = {d.top_k, d.ignore_index.value(), d.temperature, d.axis, 1};
}

softloss_array softloss_as_input(const softloss_mutable_array* array) {
    if (!array) return {};
    return {array->data, array->shape, array->strides, array->ndim, array->dtype, array->swapped};
}

const char* softloss_last_error(void) {
    return last_error().c_str();
}

softloss_status softloss_softmax(const softloss_array* x, const softloss_mutable_array* out,
                                 const softloss_transform_options* options) {
    return transform(softmax, x, out, options);
}
softloss_status softloss_log_softmax(const softloss_array* x, const softloss_mutable_array* out,
                                     const softloss_transform_options* options) {
    return transform(log_softmax, x, out, options);
}
softloss_status softloss_logsumexp(const softloss_array* x, const softloss_mutable_array* out,
                                   const softloss_logsumexp_options* options) {
    return guarded([&] {
        const In in("x", x);
        const Out to("out", out);
        const auto o = given(options, softloss_logsumexp_options_init);
        const Array b("b", o.b), where("where", o.where);
        logsumexp(*in, *to, {.axis = o.axis, .b = b.get(), .where = where.get()});
    });
}
softloss_status softloss_log_normalize(const softloss_array* x, const softloss_mutable_array* out,
                                       const softloss_mutable_array* logsumexp, std::int32_t axis) {
    return guarded([&] {
        const In in("x", x);
        const Out to("out", out), sums("logsumexp", logsumexp);
        log_normalize(*in, *to, *sums, axis);
    });
}
softloss_status softloss_sigmoid(const softloss_array* x, const softloss_mutable_array* out) {
    return map(sigmoid, x, out);
}
softloss_status softloss_log_sigmoid(const softloss_array* x, const softloss_mutable_array* out) {
    return map(log_sigmoid, x, out);
}

softloss_status softloss_softmax_backward(const softloss_array* y, const softloss_array* dy,
                                          const softloss_mutable_array* out, std::int32_t axis) {
    return backward(softmax_backward, "y", y, dy, out, axis);
}
softloss_status softloss_log_softmax_backward(const softloss_array* logy, const softloss_array* dy,
                                              const softloss_mutable_array* out, std::int32_t axis) {
    return backward(log_softmax_backward, "logy", logy, dy, out, axis);
}

softloss_status softloss_cross_entropy(const softloss_array* logits, const softloss_array* target,
                                       const softloss_class_loss_options* options, double* loss,
                                       const softloss_mutable_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(cross_entropy), "logits", logits, target, options, loss, losses);
}
softloss_status softloss_nll_loss(const softloss_array* log_probs, const softloss_array* target,
                                  const softloss_class_loss_options* options, double* loss,
                                  const softloss_mutable_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(nll_loss), "log_probs", log_probs, target, options, loss, losses);
}
softloss_status softloss_categorical_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                                   const softloss_class_loss_options* options, double* loss,
                                                   const softloss_mutable_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(categorical_cross_entropy), "probs", probs, target, options, loss,
                                 losses);
}
softloss_status softloss_binary_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                              const softloss_binary_loss_options* options, double* loss,
                                              const softloss_mutable_array* losses) {
    return loss_of<BinaryOptions>(BinaryLoss(binary_cross_entropy), "probs", probs, target, options, loss,
                                  losses);
}
softloss_status softloss_binary_cross_entropy_with_logits(const softloss_array* logits,
                                                          const softloss_array* target,
                                                          const softloss_binary_loss_options* options,
                                                          double* loss,
                                                          const softloss_mutable_array* losses) {
    return loss_of<BinaryOptions>(BinaryLoss(binary_cross_entropy_with_logits), "logits", logits, target,
                                  options, loss, losses);
}
softloss_status softloss_kl_divergence(const softloss_array* logits, const softloss_array* target_logits,
                                       const softloss_divergence_options* options, double* loss,
                                       const softloss_mutable_array* losses) {
    return loss_of<DivergenceOptionsOfC>(Divergence(kl_divergence), "logits", logits, target_logits, options,
                                         loss, losses);
}
softloss_status softloss_js_divergence(const softloss_array* logits, const softloss_array* target_logits,
                                       const softloss_divergence_options* options, double* loss,
                                       const softloss_mutable_array* losses) {
    return loss_of<DivergenceOptionsOfC>(Divergence(js_divergence), "logits", logits, target_logits, options,
                                         loss, losses);
}

softloss_status softloss_brier_score(const softloss_array* logits, const softloss_array* target,
                                     const softloss_class_loss_options* options, double* loss,
                                     const softloss_mutable_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(brier_score), "logits", logits, target, options, loss, losses);
}

softloss_status softloss_cross_entropy_and_grad(const softloss_array* logits, const softloss_array* target,
                                                const softloss_mutable_array* grad_out,
                                                const softloss_class_loss_options* options, double* loss,
                                                const softloss_mutable_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(cross_entropy_and_grad), "logits", logits, target,
                                     grad_out, options, loss, losses);
}
softloss_status softloss_nll_loss_and_grad(const softloss_array* log_probs, const softloss_array* target,
                                           const softloss_mutable_array* grad_out,
                                           const softloss_class_loss_options* options, double* loss,
                                           const softloss_mutable_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(nll_loss_and_grad), "log_probs", log_probs, target,
                                     grad_out, options, loss, losses);
}
softloss_status softloss_categorical_cross_entropy_and_grad(
    const softloss_array* probs, const softloss_array* target, const softloss_mutable_array* grad_out,
    const softloss_class_loss_options* options, double* loss, const softloss_mutable_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(categorical_cross_entropy_and_grad), "probs", probs,
                                     target, grad_out, options, loss, losses);
}
softloss_status softloss_binary_cross_entropy_and_grad(const softloss_array* probs,
                                                       const softloss_array* target,
                                                       const softloss_mutable_array* grad_out,
                                                       const softloss_binary_loss_options* options,
                                                       double* loss, const softloss_mutable_array* losses) {
    return gradient_of<BinaryOptions>(BinaryGradient(binary_cross_entropy_and_grad), "probs", probs, target,
                                      grad_out, options, loss, losses);
}
softloss_status softloss_binary_cross_entropy_with_logits_and_grad(
    const softloss_array* logits, const softloss_array* target, const softloss_mutable_array* grad_out,
    const softloss_binary_loss_options* options, double* loss, const softloss_mutable_array* losses) {
    return gradient_of<BinaryOptions>(BinaryGradient(binary_cross_entropy_with_logits_and_grad), "logits",
                                      logits, target, grad_out, options, loss, losses);
}
softloss_status softloss_kl_divergence_and_grad(const softloss_array* logits,
                                                const softloss_array* target_logits,
                                                const softloss_mutable_array* grad_out,
                                                const softloss_divergence_options* options, double* loss,
                                                const softloss_mutable_array* losses) {
    return gradient_of<DivergenceOptionsOfC>(DivergenceGradient(kl_divergence_and_grad), "logits", logits,
                                             target_logits, grad_out, options, loss, losses);
}

softloss_status softloss_cross_entropy_grad_hess(const softloss_array* logits, const softloss_array* target,
                                                 const softloss_mutable_array* grad_out,
                                                 const softloss_mutable_array* hess_out,
                                                 const softloss_class_loss_options* options,
                                                 const softloss_hessian_options* hessian) {
    return hessian_of<ClassOptions>(ClassHessian(cross_entropy_grad_hess), logits, target, grad_out, hess_out,
                                    options, hessian);
}
softloss_status softloss_binary_cross_entropy_with_logits_grad_hess(
    const softloss_array* logits, const softloss_array* target, const softloss_mutable_array* grad_out,
    const softloss_mutable_array* hess_out, const softloss_binary_loss_options* options,
    const softloss_hessian_options* hessian) {
    return hessian_of<BinaryOptions>(BinaryHessian(binary_cross_entropy_with_logits_grad_hess), logits,
                                     target, grad_out, hess_out, options, hessian);
}

softloss_status softloss_softmax_focal_loss(const softloss_array* logits, const softloss_array* target,
                                            const softloss_class_loss_options* options, double* loss,
                                            const softloss_mutable_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(softmax_focal_loss), "logits", logits, target, options, loss,
                                 losses);
}
softloss_status softloss_sigmoid_focal_loss(const softloss_array* logits, const softloss_array* target,
                                            const softloss_binary_loss_options* options, double* loss,
                                            const softloss_mutable_array* losses) {
    return loss_of<BinaryOptions>(BinaryLoss(sigmoid_focal_loss), "logits", logits, target, options, loss,
                                  losses);
}
softloss_status softloss_softmax_focal_loss_and_grad(const softloss_array* logits,
                                                     const softloss_array* target,
                                                     const softloss_mutable_array* grad_out,
                                                     const softloss_class_loss_options* options, double* loss,
                                                     const softloss_mutable_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(softmax_focal_loss_and_grad), "logits", logits, target,
                                     grad_out, options, loss, losses);
}
softloss_status softloss_sigmoid_focal_loss_and_grad(const softloss_array* logits,
                                                     const softloss_array* target,
                                                     const softloss_mutable_array* grad_out,
                                                     const softloss_binary_loss_options* options,
                                                     double* loss, const softloss_mutable_array* losses) {
    return gradient_of<BinaryOptions>(BinaryGradient(sigmoid_focal_loss_and_grad), "logits", logits, target,
                                      grad_out, options, loss, losses);
}
softloss_status softloss_softmax_focal_loss_grad_hess(const softloss_array* logits,
                                                      const softloss_array* target,
                                                      const softloss_mutable_array* grad_out,
                                                      const softloss_mutable_array* hess_out,
                                                      const softloss_class_loss_options* options,
                                                      const softloss_hessian_options* hessian) {
    return hessian_of<ClassOptions>(ClassHessian(softmax_focal_loss_grad_hess), logits, target, grad_out,
                                    hess_out, options, hessian);
}
softloss_status softloss_sigmoid_focal_loss_grad_hess(const softloss_array* logits,
                                                      const softloss_array* target,
                                                      const softloss_mutable_array* grad_out,
                                                      const softloss_mutable_array* hess_out,
                                                      const softloss_binary_loss_options* options,
                                                      const softloss_hessian_options* hessian) {
    return hessian_of<BinaryOptions>(BinaryHessian(sigmoid_focal_loss_grad_hess), logits, target, grad_out,
                                     hess_out, options, hessian);
}

softloss_status softloss_softmax_topk(const softloss_array* x, const softloss_mutable_array* prob,
                                      const softloss_mutable_array* index,
                                      const softloss_topk_options* options) {
    return guarded(
        [&] { softmax_topk(*In("x", x), *Out("prob", prob), *Out("index", index), topk_of_c(options)); });
}
softloss_status softloss_token_logprobs(const softloss_array* logits, const softloss_array* target,
                                        const softloss_token_scores* out,
                                        const softloss_token_options* options) {
    return guarded([&] {
        if (!out) throw std::invalid_argument("out is NULL");
        const In in("logits", logits), labels("target", target);
        const MutableArray logprob("logprob", out->logprob), argmax("argmax", out->argmax),
            rank("rank", out->rank), entropy("entropy", out->entropy),
            top_logprob("top_logprob", out->top_logprob), top_index("top_index", out->top_index);
        token_logprobs(*in, *labels,
                       {.logprob = logprob.get(),
                        .argmax = argmax.get(),
                        .rank = rank.get(),
                        .entropy = entropy.get(),
                        .top_logprob = top_logprob.get(),
                        .top_index = top_index.get()},
                       tokens_of_c(options));
    });
}
softloss_status softloss_softmax_entropy(const softloss_array* logits, const softloss_mutable_array* out,
                                         const softloss_entropy_options* options) {
    return guarded([&] {
        const In in("logits", logits);
        const Out to("out", out);
        const auto o = given(options, softloss_entropy_options_init);
        softmax_entropy(*in, *to, {.axis = o.axis, .temperature = o.temperature});
    });
}
softloss_status softloss_sample(const softloss_array* logits, const softloss_array* u,
                                const softloss_mutable_array* index, const softloss_mutable_array* logprob,
                                const softloss_sample_options* options) {
    return guarded([&] {
        const In in("logits", logits), numbers("u", u);
        const Out place("index", index), log("logprob", logprob);
        const auto o = given(options, softloss_sample_options_init);
        const Array where("where", o.where);
        sample(*in, *numbers, *place, *log,
               {.axis = o.axis,
                .temperature = o.temperature,
                .top_k = o.top_k,
                .top_p = o.top_p,
                .min_p = o.min_p,
                .where = where.get()});
    });
}

softloss_status softloss_fit_temperature(const softloss_array* logits, const softloss_array* target,
                                         const softloss_temperature_options* options,
                                         softloss_temperature_fit* fit) {
    return guarded([&] {
        if (!fit) throw std::invalid_argument("fit is NULL");
        const In in("logits", logits), labels("target", target);
        const auto o = given(options, softloss_temperature_options_init);
        const Array weight("weight", o.weight), sample_weight("sample_weight", o.sample_weight);
        const TemperatureFit found = fit_temperature(*in, *labels,
                                                     {.axis = o.axis,
                                                      .weight = weight.get(),
                                                      .sample_weight = sample_weight.get(),
                                                      .ignore_index = ignored(o.ignore, o.ignore_index)});
        *fit = {found.temperature, found.loss, found.at_bound};
    });
}
softloss_status softloss_calibration_error(const softloss_array* logits, const softloss_array* target,
                                           const softloss_calibration_options* options, double* error) {
    return guarded([&] {
        if (!error) throw std::invalid_argument("error is NULL");
        const In in("logits", logits), labels("target", target);
        const auto o = given(options, softloss_calibration_options_init);
        const Array sample_weight("sample_weight", o.sample_weight);
        *error = calibration_error(*in, *labels,
                                   {.axis = o.axis,
                                    .bins = o.bins,
                                    .norm = norm_of_c(o.norm),
                                    .temperature = o.temperature,
                                    .sample_weight = sample_weight.get(),
                                    .ignore_index = ignored(o.ignore, o.ignore_index)});
    });
}

softloss_status softloss_set_num_threads(std::int32_t n) {
    return guarded([&] { set_num_threads(n); });
}
std::int32_t softloss_get_num_threads(void) {
    return get_num_threads();
}
std::int32_t softloss_has_openmp(void) {
    return has_openmp();
}
const char* const* softloss_usable_isas(void) {
    static const std::vector<const char*> names = [] {
        std::vector<const char*> list;
        for (std::string_view name : usable_isas())
            list.push_back(name.data());  // names are literals, so they end with 0
        list.push_back(nullptr);
        return list;
    }();
    return names.data();
}
const char* softloss_isa(void) {
    return isa().data();
}
softloss_status softloss_set_isa(const char* name) {
    return guarded([&] {
        if (!name) throw std::invalid_argument("name is NULL");
        set_isa(name);
    });
}

}  // extern "C"
