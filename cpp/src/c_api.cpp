// The C API: each function turns plain structs into views and options, calls its C++ namesake, and turns what that
// throws into a status.
//
// Lives here: that translation. Must not: checks of what the C++ functions check.
#include <exception>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
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
            std::int64_t step = size_of(dtype);
            for (std::size_t d = ndim; d-- > 0; step *= shape[d]) c_order_[d] = step;
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

/// Hands the loss of f to the caller.
template <class F>
void give_loss(double* loss, F f) {
    const double value = f();
    if (loss) *loss = value;
}

using ClassLoss = double (*)(const TensorView&, const TensorView&, const ClassLossOptions&,
                             const MutableTensorView*);
softloss_status class_loss(ClassLoss f, const char* name, const softloss_array* x,
                           const softloss_array* target, const softloss_class_loss_options* options,
                           double* loss, const softloss_array* losses) {
    return guarded([&] {
        const Needed in(name, x), labels("target", target);
        const auto o = given(options, softloss_class_loss_options_init);
        const Array weight("weight", o.weight), sample_weight("sample_weight", o.sample_weight);
        const Array out("losses", losses);
        const ClassLossOptions options_{
            .axis = o.axis,
            .weight = weight.in(),
            .sample_weight = sample_weight.in(),
            .ignore_index = o.ignore ? std::optional(o.ignore_index) : std::nullopt,
            .label_smoothing = o.label_smoothing,
            .temperature = o.temperature,
            .reduction = reduction_of_c(o.reduction),
            .empty = o.empty,
            .dtype = dtype_of_c(o.dtype)};
        give_loss(loss, [&] { return f(*in.in(), *labels.in(), options_, out.out()); });
    });
}

using BinaryLoss = double (*)(const TensorView&, const TensorView&, const BinaryLossOptions&,
                              const MutableTensorView*);
softloss_status binary_loss(BinaryLoss f, const char* name, const softloss_array* x,
                            const softloss_array* target, const softloss_binary_loss_options* options,
                            double* loss, const softloss_array* losses) {
    return guarded([&] {
        const Needed in(name, x), labels("target", target);
        const auto o = given(options, softloss_binary_loss_options_init);
        const Array weight("weight", o.weight), pos_weight("pos_weight", o.pos_weight);
        const Array out("losses", losses);
        const BinaryLossOptions options_{.weight = weight.in(),
                                         .pos_weight = pos_weight.in(),
                                         .reduction = reduction_of_c(o.reduction),
                                         .empty = o.empty,
                                         .dtype = dtype_of_c(o.dtype)};
        give_loss(loss, [&] { return f(*in.in(), *labels.in(), options_, out.out()); });
    });
}

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

softloss_status softloss_cross_entropy(const softloss_array* logits, const softloss_array* target,
                                       const softloss_class_loss_options* options, double* loss,
                                       const softloss_array* losses) {
    return class_loss(cross_entropy, "logits", logits, target, options, loss, losses);
}
softloss_status softloss_nll_loss(const softloss_array* log_probs, const softloss_array* target,
                                  const softloss_class_loss_options* options, double* loss,
                                  const softloss_array* losses) {
    return class_loss(nll_loss, "log_probs", log_probs, target, options, loss, losses);
}
softloss_status softloss_categorical_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                                   const softloss_class_loss_options* options, double* loss,
                                                   const softloss_array* losses) {
    return class_loss(categorical_cross_entropy, "probs", probs, target, options, loss, losses);
}
softloss_status softloss_binary_cross_entropy(const softloss_array* probs, const softloss_array* target,
                                              const softloss_binary_loss_options* options, double* loss,
                                              const softloss_array* losses) {
    return binary_loss(binary_cross_entropy, "probs", probs, target, options, loss, losses);
}
softloss_status softloss_binary_cross_entropy_with_logits(const softloss_array* logits,
                                                          const softloss_array* target,
                                                          const softloss_binary_loss_options* options,
                                                          double* loss, const softloss_array* losses) {
    return binary_loss(binary_cross_entropy_with_logits, "logits", logits, target, options, loss, losses);
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
const char* softloss_isa(void) {
    return isa().data();  // a literal, ended by 0
}

}  // extern "C"
