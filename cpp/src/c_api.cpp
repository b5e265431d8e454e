// The C API: each function turns plain structs into views and options, calls its C++ namesake, and turns what that
// throws into a status.
//
// Lives here: that translation. Must not: checks of what the C++ functions check.
#include <exception>
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

/// Runs f; what it throws becomes a status and a message.
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

DType dtype_of_c(std::int32_t dtype) {
    if (dtype < SOFTLOSS_FLOAT16 || dtype > SOFTLOSS_UINT64) {
        throw std::invalid_argument("dtype = " + std::to_string(dtype) + " is not a softloss_dtype");
    }
    return static_cast<DType>(dtype);
}
static_assert(static_cast<int>(DType::float64) == SOFTLOSS_FLOAT64);
static_assert(static_cast<int>(DType::uint64) == SOFTLOSS_UINT64);

Reduction reduction_of_c(std::int32_t reduction) {
    if (reduction < SOFTLOSS_REDUCTION_NONE || reduction > SOFTLOSS_REDUCTION_SUM) {
        throw std::invalid_argument("reduction = " + std::to_string(reduction) +
                                    " is not a softloss_reduction");
    }
    return static_cast<Reduction>(reduction);
}
static_assert(static_cast<int>(Reduction::none) == SOFTLOSS_REDUCTION_NONE);
static_assert(static_cast<int>(Reduction::sum) == SOFTLOSS_REDUCTION_SUM);

/// The views of a softloss_array, and the strides of C order where it gives none.
class Array {
  public:
    Array(const char* name, const softloss_array* array) {
        if (!array) return;
        if (array->ndim < 0) {
            throw std::invalid_argument(std::string(name) + " has ndim = " + std::to_string(array->ndim));
        }
        const auto ndim = static_cast<std::size_t>(array->ndim);
        const std::span shape(array->shape, ndim);
        const DType dtype = dtype_of_c(array->dtype);
        if (!array->strides) {
            c_order_.resize(ndim);
            std::uint64_t step = size_of(dtype);  // which may wrap: shapes that do are refused later
            for (std::size_t d = ndim; d-- > 0; step *= static_cast<std::uint64_t>(shape[d]))
                c_order_[d] = static_cast<std::int64_t>(step);
        }
        const std::span strides(array->strides ? array->strides : c_order_.data(), ndim);
        in_.emplace(array->data, dtype, shape, strides, array->swapped != 0);
        out_.emplace(array->data, dtype, shape, strides, array->swapped != 0);
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    const TensorView* in() const { return in_ ? &*in_ : nullptr; }
    const MutableTensorView* out() const { return out_ ? &*out_ : nullptr; }

  private:
    std::vector<std::int64_t> c_order_;
    std::optional<TensorView> in_;
    std::optional<MutableTensorView> out_;
};

/// One that must be there.
struct Needed : Array {
    Needed(const char* name, const softloss_array* array) : Array(name, array) {
        if (!array) throw std::invalid_argument(std::string(name) + " is NULL");
    }
};

template <class T>
T given(const T* options, void (*init)(T*)) {
    if (options) return *options;
    T defaults;
    init(&defaults);
    return defaults;
}

using Transform = void (*)(const TensorView&, const MutableTensorView&, const TransformOptions&);
softloss_status transform(Transform f, const softloss_array* x, const softloss_array* y,
                          const softloss_transform_options* options) {
    return guarded([&] {
        const Needed in("x", x), out("y", y);
        const auto o = given(options, softloss_transform_options_init);
        const Array where("where", o.where);
        f(*in.in(), *out.out(), {.axis = o.axis, .where = where.in(), .temperature = o.temperature});
    });
}

using Map = void (*)(const TensorView&, const MutableTensorView&);
softloss_status map(Map f, const softloss_array* x, const softloss_array* y) {
    return guarded([&] { f(*Needed("x", x).in(), *Needed("y", y).out()); });
}

using Backward = void (*)(const TensorView&, const TensorView&, const MutableTensorView&, int);
softloss_status backward(Backward f, const softloss_array* y, const softloss_array* dy,
                         const softloss_array* dx, std::int32_t axis) {
    return guarded([&] { f(*Needed("y", y).in(), *Needed("dy", dy).in(), *Needed("dx", dx).out(), axis); });
}

std::optional<std::int64_t> ignored(std::int32_t ignore, std::int64_t index) {
    return ignore ? std::optional(index) : std::nullopt;
}

/// The C++ options of C's, with the views that they point to.
struct ClassOptions {
    softloss_class_loss_options c;
    Array weight, sample_weight;
    ClassLossOptions options;

    explicit ClassOptions(const softloss_class_loss_options* given_)
        : c(given(given_, softloss_class_loss_options_init)),
          weight("weight", c.weight),
          sample_weight("sample_weight", c.sample_weight),
          options{.axis = c.axis,
                  .weight = weight.in(),
                  .sample_weight = sample_weight.in(),
                  .ignore_index = ignored(c.ignore, c.ignore_index),
                  .label_smoothing = c.label_smoothing,
                  .temperature = c.temperature,
                  .reduction = reduction_of_c(c.reduction),
                  .empty = c.empty,
                  .dtype = dtype_of_c(c.dtype)} {}
};
struct BinaryOptions {
    softloss_binary_loss_options c;
    Array weight, pos_weight;
    BinaryLossOptions options;

    explicit BinaryOptions(const softloss_binary_loss_options* given_)
        : c(given(given_, softloss_binary_loss_options_init)),
          weight("weight", c.weight),
          pos_weight("pos_weight", c.pos_weight),
          options{.weight = weight.in(),
                  .pos_weight = pos_weight.in(),
                  .reduction = reduction_of_c(c.reduction),
                  .empty = c.empty,
                  .dtype = dtype_of_c(c.dtype)} {}
};

HessianOptions hessian_of_c(const softloss_hessian_options* options) {
    const auto c = given(options, softloss_hessian_options_init);
    return {.scale = c.scale, .floor = c.floor};
}
ScoreOptions scores_of_c(const softloss_score_options* options) {
    const auto c = given(options, softloss_score_options_init);
    return {.axis = c.axis,
            .k = c.k,
            .temperature = c.temperature,
            .ignore_index = ignored(c.ignore, c.ignore_index)};
}

/// f(x, target, options, losses), for losses over classes and for binary ones.
template <class Options, class F, class COptions>
softloss_status loss_of(F f, const char* name, const softloss_array* x, const softloss_array* target,
                        const COptions* options, double* loss, const softloss_array* losses) {
    return guarded([&] {
        const Needed in(name, x), labels("target", target);
        const Options o(options);
        const Array out("losses", losses);
        const double value = f(*in.in(), *labels.in(), o.options, out.out());
        if (loss) *loss = value;
    });
}

/// The same of f(x, target, grad, options, losses).
template <class Options, class F, class COptions>
softloss_status gradient_of(F f, const char* name, const softloss_array* x, const softloss_array* target,
                            const softloss_array* grad, const COptions* options, double* loss,
                            const softloss_array* losses) {
    return guarded([&] {
        const Needed in(name, x), labels("target", target), to("grad", grad);
        const Options o(options);
        const Array out("losses", losses);
        const double value = f(*in.in(), *labels.in(), *to.out(), o.options, out.out());
        if (loss) *loss = value;
    });
}

/// The same of f(x, target, grad, hess, options, hessian).
template <class Options, class F, class COptions>
softloss_status hessian_of(F f, const softloss_array* x, const softloss_array* target,
                           const softloss_array* grad, const softloss_array* hess, const COptions* options,
                           const softloss_hessian_options* hessian) {
    return guarded([&] {
        const Needed in("logits", x), labels("target", target), grad_to("grad", grad), hess_to("hess", hess);
        const Options o(options);
        f(*in.in(), *labels.in(), *grad_to.out(), *hess_to.out(), o.options, hessian_of_c(hessian));
    });
}

// What the overloads of a name have in common with these types is the function over views.
using ClassLoss = double (*)(const TensorView&, const TensorView&, const ClassLossOptions&,
                             const MutableTensorView*);
using BinaryLoss = double (*)(const TensorView&, const TensorView&, const BinaryLossOptions&,
                              const MutableTensorView*);
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
    const TransformOptions d;
    *options = {nullptr, d.temperature, d.axis};
}
void softloss_logsumexp_options_init(softloss_logsumexp_options* options) {
    *options = {nullptr, nullptr, LogsumexpOptions{}.axis};
}
void softloss_class_loss_options_init(softloss_class_loss_options* options) {
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
                static_cast<std::int32_t>(d.dtype)};
}
void softloss_binary_loss_options_init(softloss_binary_loss_options* options) {
    const BinaryLossOptions d;
    *options = {nullptr, nullptr, d.empty, static_cast<std::int32_t>(d.reduction),
                static_cast<std::int32_t>(d.dtype)};
}

void softloss_hessian_options_init(softloss_hessian_options* options) {
    const HessianOptions d;
    *options = {d.scale, d.floor};
}
void softloss_score_options_init(softloss_score_options* options) {
    const ScoreOptions d;
    *options = {1, d.ignore_index.value(), d.temperature, d.axis, 1};
}

const char* softloss_last_error(void) {
    return last_error().c_str();
}

softloss_status softloss_softmax(const softloss_array* x, const softloss_array* y,
                                 const softloss_transform_options* options) {
    return transform(softmax, x, y, options);
}
softloss_status softloss_log_softmax(const softloss_array* x, const softloss_array* y,
                                     const softloss_transform_options* options) {
    return transform(log_softmax, x, y, options);
}
softloss_status softloss_logsumexp(const softloss_array* x, const softloss_array* y,
                                   const softloss_logsumexp_options* options) {
    return guarded([&] {
        const Needed in("x", x), out("y", y);
        const auto o = given(options, softloss_logsumexp_options_init);
        const Array b("b", o.b), where("where", o.where);
        logsumexp(*in.in(), *out.out(), {.axis = o.axis, .b = b.in(), .where = where.in()});
    });
}
softloss_status softloss_sigmoid(const softloss_array* x, const softloss_array* y) {
    return map(sigmoid, x, y);
}
softloss_status softloss_log_sigmoid(const softloss_array* x, const softloss_array* y) {
    return map(log_sigmoid, x, y);
}

softloss_status softloss_softmax_backward(const softloss_array* y, const softloss_array* dy,
                                          const softloss_array* dx, std::int32_t axis) {
    return backward(softmax_backward, y, dy, dx, axis);
}
softloss_status softloss_log_softmax_backward(const softloss_array* y, const softloss_array* dy,
                                              const softloss_array* dx, std::int32_t axis) {
    return backward(log_softmax_backward, y, dy, dx, axis);
}

softloss_status softloss_cross_entropy(const softloss_array* logits, const softloss_array* target,
                                       const softloss_class_loss_options* options, double* loss,
                                       const softloss_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(cross_entropy), "logits", logits, target, options, loss, losses);
}
softloss_status softloss_nll_loss(const softloss_array* log_probs, const softloss_array* target,
                                  const softloss_class_loss_options* options, double* loss,
                                  const softloss_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(nll_loss), "log_probs", log_probs, target, options, loss, losses);
}
softloss_status softloss_categorical_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                                   const softloss_class_loss_options* options, double* loss,
                                                   const softloss_array* losses) {
    return loss_of<ClassOptions>(ClassLoss(categorical_cross_entropy), "probs", probs, target, options, loss,
                                 losses);
}
softloss_status softloss_binary_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                              const softloss_binary_loss_options* options, double* loss,
                                              const softloss_array* losses) {
    return loss_of<BinaryOptions>(BinaryLoss(binary_cross_entropy), "probs", probs, target, options, loss,
                                  losses);
}
softloss_status softloss_binary_cross_entropy_with_logits(const softloss_array* logits,
                                                          const softloss_array* target,
                                                          const softloss_binary_loss_options* options,
                                                          double* loss, const softloss_array* losses) {
    return loss_of<BinaryOptions>(BinaryLoss(binary_cross_entropy_with_logits), "logits", logits, target,
                                  options, loss, losses);
}

softloss_status softloss_cross_entropy_and_grad(const softloss_array* logits, const softloss_array* target,
                                                const softloss_array* grad,
                                                const softloss_class_loss_options* options, double* loss,
                                                const softloss_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(cross_entropy_and_grad), "logits", logits, target, grad,
                                     options, loss, losses);
}
softloss_status softloss_nll_loss_and_grad(const softloss_array* log_probs, const softloss_array* target,
                                           const softloss_array* grad,
                                           const softloss_class_loss_options* options, double* loss,
                                           const softloss_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(nll_loss_and_grad), "log_probs", log_probs, target, grad,
                                     options, loss, losses);
}
softloss_status softloss_categorical_cross_entropy_and_grad(const softloss_array* probs,
                                                            const softloss_array* target,
                                                            const softloss_array* grad,
                                                            const softloss_class_loss_options* options,
                                                            double* loss, const softloss_array* losses) {
    return gradient_of<ClassOptions>(ClassGradient(categorical_cross_entropy_and_grad), "probs", probs,
                                     target, grad, options, loss, losses);
}
softloss_status softloss_binary_cross_entropy_and_grad(const softloss_array* probs,
                                                       const softloss_array* target,
                                                       const softloss_array* grad,
                                                       const softloss_binary_loss_options* options,
                                                       double* loss, const softloss_array* losses) {
    return gradient_of<BinaryOptions>(BinaryGradient(binary_cross_entropy_and_grad), "probs", probs, target,
                                      grad, options, loss, losses);
}
softloss_status softloss_binary_cross_entropy_with_logits_and_grad(
    const softloss_array* logits, const softloss_array* target, const softloss_array* grad,
    const softloss_binary_loss_options* options, double* loss, const softloss_array* losses) {
    return gradient_of<BinaryOptions>(BinaryGradient(binary_cross_entropy_with_logits_and_grad), "logits",
                                      logits, target, grad, options, loss, losses);
}

softloss_status softloss_cross_entropy_grad_hess(const softloss_array* logits, const softloss_array* target,
                                                 const softloss_array* grad, const softloss_array* hess,
                                                 const softloss_class_loss_options* options,
                                                 const softloss_hessian_options* hessian) {
    return hessian_of<ClassOptions>(ClassHessian(cross_entropy_grad_hess), logits, target, grad, hess,
                                    options, hessian);
}
softloss_status softloss_binary_cross_entropy_with_logits_grad_hess(
    const softloss_array* logits, const softloss_array* target, const softloss_array* grad,
    const softloss_array* hess, const softloss_binary_loss_options* options,
    const softloss_hessian_options* hessian) {
    return hessian_of<BinaryOptions>(BinaryHessian(binary_cross_entropy_with_logits_grad_hess), logits,
                                     target, grad, hess, options, hessian);
}

softloss_status softloss_softmax_topk(const softloss_array* x, const softloss_array* prob,
                                      const softloss_array* index, const softloss_score_options* options) {
    return guarded([&] {
        softmax_topk(*Needed("x", x).in(), *Needed("prob", prob).out(), *Needed("index", index).out(),
                     scores_of_c(options));
    });
}
softloss_status softloss_token_logprobs(const softloss_array* logits, const softloss_array* target,
                                        const softloss_token_scores* out,
                                        const softloss_score_options* options) {
    return guarded([&] {
        if (!out) throw std::invalid_argument("out is NULL");
        const Needed in("logits", logits), labels("target", target);
        const Array logprob("logprob", out->logprob), argmax("argmax", out->argmax), rank("rank", out->rank),
            entropy("entropy", out->entropy), top_logprob("top_logprob", out->top_logprob),
            top_index("top_index", out->top_index);
        token_logprobs(*in.in(), *labels.in(),
                       {.logprob = logprob.out(),
                        .argmax = argmax.out(),
                        .rank = rank.out(),
                        .entropy = entropy.out(),
                        .top_logprob = top_logprob.out(),
                        .top_index = top_index.out()},
                       scores_of_c(options));
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
        for (std::string_view name : usable_isas()) list.push_back(name.data());  // literals, ended by 0
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
