// The losses as methods of _core: without derivatives, with the gradient, with gradient and Hessian.
//
// Lives here: which argument is which option, the shape of each result. Must not: how arguments are read
// (arguments.hpp), defaults and documentation (functional.py).
#include <optional>

#include "call.hpp"

namespace softloss::python {
namespace {

/// The kind of input of a loss. focal: the logits of a focal loss.
enum class InputKind { logits, log_probs, probs, focal };

constexpr const char* name_of(InputKind kind) {
    switch (kind) {
        case InputKind::logits:
        case InputKind::focal: return "logits";
        case InputKind::log_probs: return "log_probs";
        case InputKind::probs: return "probs";
    }
    return "";
}

// ---- arguments -------------------------------------------------------------------------------------------

/// Arguments of losses over classes: x, target, axis, then, from `at` on, weight, sample_weight,
/// ignore_index; then `rest`.
struct ClassOperands {
    using Options = ClassLossOptions;

    Array x, target;
    Optional weight, sample_weight;
    Options options;
    Arguments rest;

    ClassOperands(InputKind kind, Arguments a, int at = 3)
        : x(name_of(kind), a[0]),
          target("target", a[1]),
          weight("weight", a[at]),
          sample_weight("sample_weight", a[at + 1]),
          rest(a + at + 3) {
        options.axis = axis_of(a[2]);
        options.ignore_index = ignore_index_of(a[at + 2]);
    }
    Shape shape_of_losses() const { return shape_of_rows(x, options.axis); }
    /// Call it only when no more Python code runs that could change a shape.
    void view_weights() {
        options.weight = weight.get();
        options.sample_weight = sample_weight.get();
    }
};

/// `rest`: label_smoothing and temperature, only of logits; then the arguments that every loss has.
struct ClassLoss : ClassOperands {
    ClassLoss(InputKind kind, Arguments a) : ClassOperands(kind, a) {
        check_class_target(x, target, options.axis, Targets::indices_or_probabilities);
        if (kind != InputKind::logits) return;
        options.label_smoothing = number("label_smoothing", rest[0]);
        options.temperature = number("temperature", rest[1]);
        rest += 2;
    }
};

/// gamma comes before the weights. `rest`: as of every loss, or Hessian.
struct ClassFocal : ClassOperands {
    explicit ClassFocal(InputKind, Arguments a) : ClassOperands(InputKind::focal, a, 4) {
        check_class_target(x, target, options.axis, Targets::indices);
        options.gamma = number("gamma", a[3]);
    }
    explicit ClassFocal(Arguments a) : ClassFocal(InputKind::focal, a) {}
};

/// `rest`: label_smoothing; then as of every Hessian.
struct ClassHessian : ClassOperands {
    explicit ClassHessian(Arguments a) : ClassOperands(InputKind::logits, a) {
        check_class_target(x, target, options.axis, Targets::indices_or_probabilities);
        options.label_smoothing = number("label_smoothing", rest[0]);
        rest += 1;
    }
};

/// Arguments of the Brier score: logits, target, axis, temperature, sample_weight, ignore_index, reduction,
/// empty.
struct Brier {
    using Options = ClassLossOptions;

    Array x, target;
    Optional sample_weight;
    Options options;

    explicit Brier(Arguments a)
        : x("logits", a[0]), target("target", a[1]), sample_weight("sample_weight", a[4]) {
        options.axis = axis_of(a[2]);
        check_class_target(x, target, options.axis, Targets::indices);
        options.temperature = number("temperature", a[3]);
        options.ignore_index = ignore_index_of(a[5]);
        options.reduction = reduction_of(a[6]);
        options.empty = number("empty", a[7]);
        options.compute_dtype = loss_dtype(x, py::none());
    }
    Shape shape_of_losses() const { return shape_of_rows(x, options.axis); }
};

/// Arguments of divergences: logits, target_logits, axis, sample_weight, temperature; then `rest`.
struct Divergence {
    using Options = DivergenceOptions;

    Array x, target;
    Optional sample_weight;
    Options options;
    Arguments rest;

    Divergence(InputKind kind, Arguments a)
        : x(name_of(kind), a[0]),
          target("target_logits", a[1]),
          sample_weight("sample_weight", a[3]),
          rest(a + 5) {
        options.axis = axis_of(a[2]);
        options.temperature = number("temperature", a[4]);
    }
    Shape shape_of_losses() const { return shape_of_rows(x, options.axis); }
    void view_weights() { options.sample_weight = sample_weight.get(); }
};

/// Arguments of binary losses: x, target, then, from `at` on, weight; pos_weight for logits; then `rest`.
struct BinaryLoss {
    using Options = BinaryLossOptions;

    Array x, target;
    Optional weight, pos_weight;
    Options options;
    Arguments rest;

    BinaryLoss(InputKind kind, Arguments a, int at = 2)
        : x(name_of(kind), a[0]),
          target("target", a[1]),
          weight("weight", a[at]),
          pos_weight("pos_weight", kind == InputKind::logits ? a[at + 1] : Py_None),
          rest(a + at + (kind == InputKind::logits ? 2 : 1)) {}
    Shape shape_of_losses() const { return {x.shape().begin(), x.shape().end()}; }
    void view_weights() {
        options.weight = weight.get();
        options.pos_weight = pos_weight.get();
    }
};

struct BinaryHessian : BinaryLoss {
    explicit BinaryHessian(Arguments a) : BinaryLoss(InputKind::logits, a) {}
};

/// alpha and gamma come before the weight.
struct BinaryFocal : BinaryLoss {
    explicit BinaryFocal(InputKind, Arguments a) : BinaryLoss(InputKind::focal, a, 4) {
        if (a[2] != Py_None) options.alpha = number("alpha", a[2]);
        options.gamma = number("gamma", a[3]);
    }
    explicit BinaryFocal(Arguments a) : BinaryFocal(InputKind::focal, a) {}
};

// ---- calls -----------------------------------------------------------------------------------------------

/// The result of a loss: all losses if the reduction is none, else a scalar. run(losses) writes the losses to
/// its argument or, if that is null, returns their reduction.
template <class Loss, class Run>
py::object loss_of(const Loss& l, Run run) {
    if (l.options.reduction == Reduction::none) {
        Result losses(py::none(), *l.options.compute_dtype, as_span(l.shape_of_losses()));
        const MutableTensorView view = losses.view();
        without_gil(l.x.size(), [&] { return run(&view); });
        return losses.object();
    }
    return scalar(without_gil(l.x.size(), [&] { return run(nullptr); }), *l.options.compute_dtype);
}

/// Where a gradient goes: the array `out`, the argument `name`, or a new one. It has the dtype of the
/// argument dtype, or of a transform of x if that is None.
Result gradient_of(const Array& x, py::handle dtype, const char* name, py::handle out) {
    return {out, result_dtype(x, dtype), x.shape(), name};
}

/// Reads the arguments that every loss has: reduction, empty, dtype.
template <class Loss>
void read_reduction(Loss& l) {
    l.options.reduction = reduction_of(l.rest[0]);
    l.options.empty = number("empty", l.rest[1]);
    l.options.compute_dtype = loss_dtype(l.x, l.rest[2]);
}

template <class Options>
using LossFunction = double (*)(const TensorView&, const TensorView&, const Options&,
                                const MutableTensorView*);
template <class Options>
using GradientFunction = double (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                    const Options&, const MutableTensorView*);
template <class Options>
using HessianFunction = void (*)(const TensorView&, const TensorView&, const MutableTensorView&,
                                 const MutableTensorView&, const Options&, const HessianOptions&);

/// Arguments: those of Loss.
template <class Loss, InputKind kind, LossFunction<typename Loss::Options> function>
py::object loss(Arguments a) {
    Loss l(kind, a);
    read_reduction(l);
    l.view_weights();
    const TensorView x = l.x.view(), target = l.target.view();
    return loss_of(l,
                   [&](const MutableTensorView* losses) { return function(x, target, l.options, losses); });
}

/// Arguments: those of Brier.
py::object brier_score_(Arguments a) {
    Brier b(a);
    b.options.sample_weight = b.sample_weight.get();
    const TensorView x = b.x.view(), target = b.target.view();
    return loss_of(
        b, [&](const MutableTensorView* losses) { return brier_score(x, target, b.options, losses); });
}

/// Arguments: those of Loss, grad_out, and the type of the result, LossGrad.
template <class Loss, InputKind kind, GradientFunction<typename Loss::Options> function>
py::object loss_and_grad(Arguments a) {
    Loss l(kind, a);
    read_reduction(l);
    Result grad = gradient_of(l.x, l.rest[2], "grad_out", l.rest[3]);
    l.view_weights();
    const TensorView x = l.x.view(), target = l.target.view();
    const MutableTensorView to = grad.view();
    const py::object loss = loss_of(
        l, [&](const MutableTensorView* losses) { return function(x, target, to, l.options, losses); });
    return named(l.rest[4], loss, grad.object());
}

/// Arguments: those of Hessian, hess_scale, hess_min, grad_out, hess_out, and the type of the result,
/// GradHess.
template <class Hessian, HessianFunction<typename Hessian::Options> function>
py::object grad_hess(Arguments a) {
    Hessian h(a);
    h.options.compute_dtype = loss_dtype(h.x, py::none());
    const HessianOptions hessian{number("hess_scale", h.rest[0]), number("hess_min", h.rest[1])};
    Result grad = gradient_of(h.x, py::none(), "grad_out", h.rest[2]);
    Result hess = gradient_of(h.x, py::none(), "hess_out", h.rest[3]);
    h.view_weights();
    const TensorView x = h.x.view(), target = h.target.view();
    const MutableTensorView to_grad = grad.view(), to_hess = hess.view();
    without_gil(h.x.size(), [&] { function(x, target, to_grad, to_hess, h.options, hessian); });
    return named(h.rest[4], grad.object(), hess.object());
}

constexpr auto kLogits = InputKind::logits, kLogProbs = InputKind::log_probs, kProbs = InputKind::probs,
               kFocal = InputKind::focal;

PyMethodDef kMethods[] = {
    method<loss<ClassLoss, kLogits, cross_entropy>, 11>("cross_entropy"),
    method<loss<ClassLoss, kLogProbs, nll_loss>, 9>("nll_loss"),
    method<loss<ClassLoss, kProbs, categorical_cross_entropy>, 9>("categorical_cross_entropy"),
    method<loss_and_grad<ClassLoss, kLogits, cross_entropy_and_grad>, 13>("cross_entropy_and_grad"),
    method<loss_and_grad<ClassLoss, kLogProbs, nll_loss_and_grad>, 11>("nll_loss_and_grad"),
    method<loss_and_grad<ClassLoss, kProbs, categorical_cross_entropy_and_grad>, 11>(
        "categorical_cross_entropy_and_grad"),
    method<grad_hess<ClassHessian, cross_entropy_grad_hess>, 12>("cross_entropy_grad_hess"),
    method<brier_score_, 8>("brier_score"),
    method<loss<Divergence, kLogits, kl_divergence>, 8>("kl_divergence"),
    method<loss<Divergence, kLogits, js_divergence>, 8>("js_divergence"),
    method<loss_and_grad<Divergence, kLogits, kl_divergence_and_grad>, 10>("kl_divergence_and_grad"),
    method<loss<BinaryLoss, kProbs, binary_cross_entropy>, 6>("binary_cross_entropy"),
    method<loss<BinaryLoss, kLogits, binary_cross_entropy_with_logits>, 7>(
        "binary_cross_entropy_with_logits"),
    method<loss_and_grad<BinaryLoss, kProbs, binary_cross_entropy_and_grad>, 8>(
        "binary_cross_entropy_and_grad"),
    method<loss_and_grad<BinaryLoss, kLogits, binary_cross_entropy_with_logits_and_grad>, 9>(
        "binary_cross_entropy_with_logits_and_grad"),
    method<grad_hess<BinaryHessian, binary_cross_entropy_with_logits_grad_hess>, 9>(
        "binary_cross_entropy_with_logits_grad_hess"),
    method<loss<ClassFocal, kFocal, softmax_focal_loss>, 10>("softmax_focal_loss"),
    method<loss_and_grad<ClassFocal, kFocal, softmax_focal_loss_and_grad>, 12>("softmax_focal_loss_and_grad"),
    method<grad_hess<ClassFocal, softmax_focal_loss_grad_hess>, 12>("softmax_focal_loss_grad_hess"),
    method<loss<BinaryFocal, kFocal, sigmoid_focal_loss>, 8>("sigmoid_focal_loss"),
    method<loss_and_grad<BinaryFocal, kFocal, sigmoid_focal_loss_and_grad>, 10>(
        "sigmoid_focal_loss_and_grad"),
    method<grad_hess<BinaryFocal, sigmoid_focal_loss_grad_hess>, 10>("sigmoid_focal_loss_grad_hess"),
    kEndOfMethods,
};

}  // namespace

PyMethodDef* loss_methods() {
    return kMethods;
}

}  // namespace softloss::python
