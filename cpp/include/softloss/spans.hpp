// The functions of softloss.hpp over contiguous ranges in C order: std::span, std::vector, std::array and C
// arrays of float or double, with labels of any integer type.
//
// Lives here: thin overloads that make views. Must not: what softloss.hpp documents, computation. Included by
// softloss.hpp.
//
// Functions over rows take `classes`, the length of a row: the range has rows * classes elements, and the
// axis is the last one. The element type of the first argument is the dtype of the computation
// (options.compute_dtype is ignored) and of all results. Options that are pointers to views can point to a
// Contiguous:
//
//     const softloss::Contiguous weight(weights);                  // std::vector<float> weights
//     softloss::cross_entropy(logits, labels, 1000, {.weight = &weight});
#pragma once

#include "softloss/requirements.hpp"

#ifndef SOFTLOSS_UNUSABLE

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <ranges>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "softloss/softloss.hpp"

namespace softloss {

/// A contiguous range. dtype_of says which element types it may have.
template <class R>
concept Elements = std::ranges::contiguous_range<R> && std::ranges::sized_range<R>;
template <class R>
using ElementOf = std::ranges::range_value_t<std::remove_cvref_t<R>>;
template <class R>
concept Reals = Elements<R> && (std::same_as<ElementOf<R>, float> || std::same_as<ElementOf<R>, double>);
/// A range that results can be written to.
template <class R>
concept WritableReals =
    Reals<R> && !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<R>>>;

/// A view of a range. It stores its own shape: (rows, classes), or one axis if `classes` is not given. A
/// range that would be destroyed before the view, such as a vector that a function returns, does not compile.
/// Error messages call the range `name`.
template <class View>
struct BasicContiguous : View {
    template <Elements R>
        requires(std::is_lvalue_reference_v<R> || std::ranges::borrowed_range<R>)
    explicit BasicContiguous(R&& range, std::optional<std::int64_t> classes = std::nullopt,
                             const char* name = "a range") {
        const auto size = static_cast<std::int64_t>(std::ranges::size(range));
        extents_ = {classes ? detail::rows_of(name, size, *classes) : size, classes.value_or(1)};
        this->data = std::ranges::data(range);
        this->dtype = dtype_of<ElementOf<R>>;
        this->shape = std::span<const std::int64_t>(extents_).first(classes ? 2 : 1);
    }
    BasicContiguous(const BasicContiguous&) = delete;
    BasicContiguous& operator=(const BasicContiguous&) = delete;

  private:
    std::array<std::int64_t, 2> extents_;
};
using Contiguous = BasicContiguous<TensorView>;
using MutableContiguous = BasicContiguous<MutableTensorView>;

template <class T>
struct [[nodiscard]] LossGrad {
    double loss;
    std::vector<T> grad;
};
template <class T>
struct [[nodiscard]] GradHess {
    std::vector<T> grad, hess;
};
template <class T>
struct [[nodiscard]] TopK {
    std::vector<T> prob;              ///< rows * k, largest first
    std::vector<std::int64_t> index;  ///< their classes
};
template <class T>
struct [[nodiscard]] Sample {
    std::vector<std::int64_t> index;  ///< one class per row
    std::vector<T> logprob;           ///< their log-probabilities
};
/// The members are those of TokenScoreViews.
template <class T>
struct [[nodiscard]] TokenScores {
    std::vector<T> logprob;
    std::vector<std::int64_t> argmax, rank;
    std::vector<T> entropy, top_logprob;
    std::vector<std::int64_t> top_index;
};

namespace detail {

/// The view of rows. Their classes lie along the last axis: another one in the options is an error.
template <Elements R>
Contiguous rows_in(const char* name, const R& range, std::int64_t classes, int axis = -1) {
    check_last_axis(axis);
    return Contiguous(range, classes, name);
}

/// The view of a target: one label per row, or one row of probabilities per row.
template <Elements Y>
Contiguous target_view(const Y& target, std::int64_t classes) {
    static_assert(std::integral<ElementOf<Y>> || Reals<Y>,
                  "a target holds class indices (integers) or class probabilities (float, double)");
    static_assert(!std::same_as<ElementOf<Y>, bool>,
                  "a target of bool could be class indices or probabilities: use integers");
    if constexpr (Reals<Y>) return rows_in("target", target, classes);
    else return Contiguous(target);
}

template <class T, class Options>
Options computing_in(Options options) {
    options.compute_dtype = dtype_of<T>;
    return options;
}

/// Calls f(losses), with null if the losses are reduced.
template <class T, class F>
double with_losses(Reduction reduction, std::span<T> losses, F f) {
    if (reduction != Reduction::none) return f(nullptr);
    const MutableContiguous view(losses);
    return f(&view);
}

}  // namespace detail

// ---- transforms ------------------------------------------------------------------------------------------

template <Reals X, WritableReals Out>
void softmax(const X& x, Out&& out, std::int64_t classes, const TransformOptions& options = {}) {
    softmax(detail::rows_in("x", x, classes, options.axis), MutableContiguous(out, classes, "out"), options);
}
template <Reals X, WritableReals Out>
void log_softmax(const X& x, Out&& out, std::int64_t classes, const TransformOptions& options = {}) {
    log_softmax(detail::rows_in("x", x, classes, options.axis), MutableContiguous(out, classes, "out"),
                options);
}
template <Reals X, WritableReals Out>
void logsumexp(const X& x, Out&& out, std::int64_t classes, const LogsumexpOptions& options = {}) {
    logsumexp(detail::rows_in("x", x, classes, options.axis), MutableContiguous(out), options);
}
template <Reals X, WritableReals Out, WritableReals Sums>
void log_normalize(const X& x, Out&& out, Sums&& logsumexp, std::int64_t classes) {
    log_normalize(detail::rows_in("x", x, classes), MutableContiguous(out, classes, "out"),
                  MutableContiguous(logsumexp));
}
template <Reals X, WritableReals Out>
void sigmoid(const X& x, Out&& out) {
    sigmoid(Contiguous(x), MutableContiguous(out));
}
template <Reals X, WritableReals Out>
void log_sigmoid(const X& x, Out&& out) {
    log_sigmoid(Contiguous(x), MutableContiguous(out));
}
template <Reals Y, Reals DY, WritableReals Out>
void softmax_backward(const Y& y, const DY& dy, Out&& out, std::int64_t classes) {
    softmax_backward(detail::rows_in("y", y, classes), detail::rows_in("dy", dy, classes),
                     MutableContiguous(out, classes, "out"));
}
template <Reals Y, Reals DY, WritableReals Out>
void log_softmax_backward(const Y& logy, const DY& dy, Out&& out, std::int64_t classes) {
    log_softmax_backward(detail::rows_in("logy", logy, classes), detail::rows_in("dy", dy, classes),
                         MutableContiguous(out, classes, "out"));
}

// ---- losses; `losses` is for Reduction::none -------------------------------------------------------------

template <Reals X, Elements Y>
double cross_entropy(const X& logits, const Y& target, std::int64_t classes,
                     const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return cross_entropy(detail::rows_in("logits", logits, classes, options.axis),
                             detail::target_view(target, classes),
                             detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double nll_loss(const X& log_probs, const Y& target, std::int64_t classes,
                const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return nll_loss(detail::rows_in("log_probs", log_probs, classes, options.axis),
                        detail::target_view(target, classes), detail::computing_in<ElementOf<X>>(options),
                        out);
    });
}
template <Reals X, Elements Y>
double categorical_cross_entropy(const X& probs, const Y& target, std::int64_t classes,
                                 const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return categorical_cross_entropy(detail::rows_in("probs", probs, classes, options.axis),
                                         detail::target_view(target, classes),
                                         detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double binary_cross_entropy(const X& probs, const Y& target, const BinaryLossOptions& options = {},
                            std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy(Contiguous(probs), Contiguous(target),
                                    detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double binary_cross_entropy_with_logits(const X& logits, const Y& target,
                                        const BinaryLossOptions& options = {},
                                        std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy_with_logits(Contiguous(logits), Contiguous(target),
                                                detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Reals Y>
double kl_divergence(const X& logits, const Y& target_logits, std::int64_t classes,
                     const DivergenceOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return kl_divergence(detail::rows_in("logits", logits, classes, options.axis),
                             detail::rows_in("target_logits", target_logits, classes),
                             detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Reals Y>
double js_divergence(const X& logits, const Y& target_logits, std::int64_t classes,
                     const DivergenceOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return js_divergence(detail::rows_in("logits", logits, classes, options.axis),
                             detail::rows_in("target_logits", target_logits, classes),
                             detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double softmax_focal_loss(const X& logits, const Y& target, std::int64_t classes,
                          const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return softmax_focal_loss(detail::rows_in("logits", logits, classes, options.axis),
                                  detail::target_view(target, classes),
                                  detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double sigmoid_focal_loss(const X& logits, const Y& target, const BinaryLossOptions& options = {},
                          std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return sigmoid_focal_loss(Contiguous(logits), Contiguous(target),
                                  detail::computing_in<ElementOf<X>>(options), out);
    });
}

template <Reals X, Elements Y>
double brier_score(const X& logits, const Y& target, std::int64_t classes,
                   const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return brier_score(detail::rows_in("logits", logits, classes, options.axis),
                           detail::target_view(target, classes), detail::computing_in<ElementOf<X>>(options),
                           out);
    });
}

// ---- losses with their gradients -------------------------------------------------------------------------

template <Reals X, Elements Y>
LossGrad<ElementOf<X>> cross_entropy_and_grad(const X& logits, const Y& target, std::int64_t classes,
                                              const ClassLossOptions& options = {},
                                              std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(logits));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
        return cross_entropy_and_grad(in, detail::target_view(target, classes),
                                      MutableContiguous(grad, classes),
                                      detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> nll_loss_and_grad(const X& log_probs, const Y& target, std::int64_t classes,
                                         const ClassLossOptions& options = {},
                                         std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(log_probs));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        const Contiguous in = detail::rows_in("log_probs", log_probs, classes, options.axis);
        return nll_loss_and_grad(in, detail::target_view(target, classes), MutableContiguous(grad, classes),
                                 detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> categorical_cross_entropy_and_grad(const X& probs, const Y& target,
                                                          std::int64_t classes,
                                                          const ClassLossOptions& options = {},
                                                          std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(probs));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        const Contiguous in = detail::rows_in("probs", probs, classes, options.axis);
        return categorical_cross_entropy_and_grad(in, detail::target_view(target, classes),
                                                  MutableContiguous(grad, classes),
                                                  detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> binary_cross_entropy_and_grad(const X& probs, const Y& target,
                                                     const BinaryLossOptions& options = {},
                                                     std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(probs));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy_and_grad(Contiguous(probs), Contiguous(target), MutableContiguous(grad),
                                             detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> binary_cross_entropy_with_logits_and_grad(const X& logits, const Y& target,
                                                                 const BinaryLossOptions& options = {},
                                                                 std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(logits));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy_with_logits_and_grad(Contiguous(logits), Contiguous(target),
                                                         MutableContiguous(grad),
                                                         detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> softmax_focal_loss_and_grad(const X& logits, const Y& target, std::int64_t classes,
                                                   const ClassLossOptions& options = {},
                                                   std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(logits));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
        return softmax_focal_loss_and_grad(in, detail::target_view(target, classes),
                                           MutableContiguous(grad, classes),
                                           detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> sigmoid_focal_loss_and_grad(const X& logits, const Y& target,
                                                   const BinaryLossOptions& options = {},
                                                   std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(logits));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        return sigmoid_focal_loss_and_grad(Contiguous(logits), Contiguous(target), MutableContiguous(grad),
                                           detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}

template <Reals X, Reals Y>
LossGrad<ElementOf<X>> kl_divergence_and_grad(const X& logits, const Y& target_logits, std::int64_t classes,
                                              const DivergenceOptions& options = {},
                                              std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(logits));
    const double loss = detail::with_losses(options.reduction, losses, [&](const MutableTensorView* out) {
        const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
        return kl_divergence_and_grad(in, detail::rows_in("target_logits", target_logits, classes),
                                      MutableContiguous(grad, classes),
                                      detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}

template <Reals X, Elements Y>
GradHess<ElementOf<X>> cross_entropy_grad_hess(const X& logits, const Y& target, std::int64_t classes,
                                               const ClassLossOptions& options = {},
                                               const HessianOptions& hessian = {}) {
    GradHess<ElementOf<X>> result;
    result.grad.resize(std::ranges::size(logits));
    result.hess.resize(std::ranges::size(logits));
    const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
    cross_entropy_grad_hess(in, detail::target_view(target, classes), MutableContiguous(result.grad, classes),
                            MutableContiguous(result.hess, classes),
                            detail::computing_in<ElementOf<X>>(options), hessian);
    return result;
}
template <Reals X, Elements Y>
GradHess<ElementOf<X>> binary_cross_entropy_with_logits_grad_hess(const X& logits, const Y& target,
                                                                  const BinaryLossOptions& options = {},
                                                                  const HessianOptions& hessian = {}) {
    GradHess<ElementOf<X>> result;
    result.grad.resize(std::ranges::size(logits));
    result.hess.resize(std::ranges::size(logits));
    binary_cross_entropy_with_logits_grad_hess(Contiguous(logits), Contiguous(target),
                                               MutableContiguous(result.grad), MutableContiguous(result.hess),
                                               detail::computing_in<ElementOf<X>>(options), hessian);
    return result;
}
template <Reals X, Elements Y>
GradHess<ElementOf<X>> softmax_focal_loss_grad_hess(const X& logits, const Y& target, std::int64_t classes,
                                                    const ClassLossOptions& options = {},
                                                    const HessianOptions& hessian = {}) {
    GradHess<ElementOf<X>> result;
    result.grad.resize(std::ranges::size(logits));
    result.hess.resize(std::ranges::size(logits));
    const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
    softmax_focal_loss_grad_hess(
        in, detail::target_view(target, classes), MutableContiguous(result.grad, classes),
        MutableContiguous(result.hess, classes), detail::computing_in<ElementOf<X>>(options), hessian);
    return result;
}
template <Reals X, Elements Y>
GradHess<ElementOf<X>> sigmoid_focal_loss_grad_hess(const X& logits, const Y& target,
                                                    const BinaryLossOptions& options = {},
                                                    const HessianOptions& hessian = {}) {
    GradHess<ElementOf<X>> result;
    result.grad.resize(std::ranges::size(logits));
    result.hess.resize(std::ranges::size(logits));
    sigmoid_focal_loss_grad_hess(Contiguous(logits), Contiguous(target), MutableContiguous(result.grad),
                                 MutableContiguous(result.hess), detail::computing_in<ElementOf<X>>(options),
                                 hessian);
    return result;
}

// ---- scores ----------------------------------------------------------------------------------------------

template <Reals X>
TopK<ElementOf<X>> softmax_topk(const X& x, std::int64_t classes, const TopKOptions& options = {}) {
    const Contiguous in = detail::rows_in("x", x, classes, options.axis);
    detail::check_count("k", options.k, 1, classes);
    const auto size = static_cast<std::size_t>(in.shape[0] * options.k);
    TopK<ElementOf<X>> top{std::vector<ElementOf<X>>(size), std::vector<std::int64_t>(size)};
    softmax_topk(in, MutableContiguous(top.prob, options.k), MutableContiguous(top.index, options.k),
                 options);
    return top;
}

/// out: one entropy per row.
template <Reals X, WritableReals Out>
void softmax_entropy(const X& logits, Out&& out, std::int64_t classes, const EntropyOptions& options = {}) {
    softmax_entropy(detail::rows_in("logits", logits, classes, options.axis), MutableContiguous(out),
                    options);
}

/// u: one number in [0, 1) for each row.
template <Reals X, Reals U>
Sample<ElementOf<X>> sample(const X& logits, const U& u, std::int64_t classes,
                            const SampleOptions& options = {}) {
    const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
    const auto rows = static_cast<std::size_t>(in.shape[0]);
    Sample<ElementOf<X>> drawn{std::vector<std::int64_t>(rows), std::vector<ElementOf<X>>(rows)};
    sample(in, Contiguous(u), MutableContiguous(drawn.index), MutableContiguous(drawn.logprob), options);
    return drawn;
}

template <Reals X, Elements Y>
TokenScores<ElementOf<X>> token_logprobs(const X& logits, const Y& target, std::int64_t classes,
                                         const TokenOptions& options = {}) {
    using T = ElementOf<X>;
    const Contiguous in = detail::rows_in("logits", logits, classes, options.axis);
    detail::check_count("top_k", options.top_k, 0, classes);
    const auto rows = static_cast<std::size_t>(in.shape[0]);
    TokenScores<T> s{std::vector<T>(rows),
                     std::vector<std::int64_t>(rows),
                     std::vector<std::int64_t>(rows),
                     std::vector<T>(rows),
                     {},
                     {}};
    const MutableContiguous logprob(s.logprob), argmax(s.argmax), rank(s.rank), entropy(s.entropy);
    TokenScoreViews views{&logprob, &argmax, &rank, &entropy};
    if (options.top_k == 0) {
        token_logprobs(in, detail::target_view(target, classes), views, options);
        return s;
    }
    s.top_logprob.resize(rows * static_cast<std::size_t>(options.top_k));
    s.top_index.resize(s.top_logprob.size());
    const MutableContiguous top_logprob(s.top_logprob, options.top_k), top_index(s.top_index, options.top_k);
    views.top_logprob = &top_logprob;
    views.top_index = &top_index;
    token_logprobs(in, detail::target_view(target, classes), views, options);
    return s;
}

// ---- calibration -----------------------------------------------------------------------------------------

template <Reals X, Elements Y>
[[nodiscard]] TemperatureFit fit_temperature(const X& logits, const Y& target, std::int64_t classes,
                                             const TemperatureOptions& options = {}) {
    return fit_temperature(detail::rows_in("logits", logits, classes, options.axis),
                           detail::target_view(target, classes), options);
}
template <Reals X, Elements Y>
[[nodiscard]] double calibration_error(const X& logits, const Y& target, std::int64_t classes,
                                       const CalibrationOptions& options = {}) {
    return calibration_error(detail::rows_in("logits", logits, classes, options.axis),
                             detail::target_view(target, classes), options);
}

}  // namespace softloss

#endif
