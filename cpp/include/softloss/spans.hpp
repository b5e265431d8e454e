// The functions of softloss.hpp over ranges that lie in memory in C order: std::span, std::vector, std::array, C arrays of
// float or double, labels of any integer type.
//
// Lives here: thin overloads that make views. Must not: what softloss.hpp documents, computation. Included by softloss.hpp.
//
// Where rows matter, `classes` is their length: a range of rows * classes elements. The element type of the first argument
// is that of the computation (options.dtype is not used) and of every result. Options that point to views take these:
//
//     const softloss::Contiguous weight(weights);                  // std::vector<float> weights
//     softloss::cross_entropy(logits, labels, 1000, {.weight = &weight});
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "softloss/softloss.hpp"

namespace softloss {

template <class R>
concept Elements = std::ranges::contiguous_range<R> && std::ranges::sized_range<R>;
template <class R>
using ElementOf = std::ranges::range_value_t<std::remove_cvref_t<R>>;
template <class R>
concept Reals = Elements<R> && (std::same_as<ElementOf<R>, float> || std::same_as<ElementOf<R>, double>);
/// Class indices, or class probabilities.
template <class R>
concept Targets =
    Reals<R> || (Elements<R> && std::integral<ElementOf<R>> && !std::same_as<ElementOf<R>, bool>);

/// A view of a range, with shape and strides of its own: (rows, classes), or one axis if `classes` is not given.
template <class View>
struct BasicContiguous : View {
    template <Elements R>
    explicit BasicContiguous(R&& range, std::optional<std::int64_t> classes = std::nullopt) {
        using T = ElementOf<R>;
        const auto size = static_cast<std::int64_t>(std::ranges::size(range));
        const std::int64_t columns = classes.value_or(1);
        if (columns < 1 || size % columns != 0) {
            throw std::invalid_argument("a range of " + std::to_string(size) + " elements has no rows of " +
                                        std::to_string(columns));
        }
        extents_ = {size / columns, columns};
        steps_ = {columns * std::int64_t{sizeof(T)}, std::int64_t{sizeof(T)}};
        const std::size_t ndim = classes ? 2 : 1;
        this->data = std::ranges::data(range);
        this->dtype = dtype_of<T>;
        this->shape = std::span<const std::int64_t>(extents_).first(ndim);
        this->strides = std::span<const std::int64_t>(steps_).first(ndim);
    }
    BasicContiguous(const BasicContiguous&) = delete;
    BasicContiguous& operator=(const BasicContiguous&) = delete;

  private:
    std::array<std::int64_t, 2> extents_, steps_;
};
using Contiguous = BasicContiguous<TensorView>;
using MutableContiguous = BasicContiguous<MutableTensorView>;

template <class T>
struct LossGrad {
    double loss;
    std::vector<T> grad;
};
template <class T>
struct GradHess {
    std::vector<T> grad, hess;
};
template <class T>
struct TopK {
    std::vector<T> prob;              ///< rows * k, largest first
    std::vector<std::int64_t> index;  ///< their classes
};
/// As TokenScoreViews.
template <class T>
struct TokenScores {
    std::vector<T> logprob;
    std::vector<std::int64_t> argmax, rank;
    std::vector<T> entropy, top_logprob;
    std::vector<std::int64_t> top_index;
};

namespace detail {

/// The view of a target: a row's label, or a row of probabilities.
template <Targets Y>
Contiguous target_view(const Y& target, std::int64_t classes) {
    if constexpr (Reals<Y>) return Contiguous(target, classes);
    else return Contiguous(target);
}

template <class T, class Options>
Options computing_in(Options options) {
    options.dtype = dtype_of<T>;
    return options;
}

/// Calls f(losses), with null for a range that is empty.
template <class T, class F>
double with_losses(std::span<T> losses, F f) {
    if (losses.empty()) return f(nullptr);
    const MutableContiguous view(losses);
    return f(&view);
}

}  // namespace detail

// ---- transforms -------------------------------------------------------------------------------------------------------

template <Reals X, Reals Y>
void softmax(const X& x, Y&& y, std::int64_t classes, const TransformOptions& options = {}) {
    softmax(Contiguous(x, classes), MutableContiguous(y, classes), options);
}
template <Reals X, Reals Y>
void log_softmax(const X& x, Y&& y, std::int64_t classes, const TransformOptions& options = {}) {
    log_softmax(Contiguous(x, classes), MutableContiguous(y, classes), options);
}
template <Reals X, Reals Y>
void logsumexp(const X& x, Y&& y, std::int64_t classes, const LogsumexpOptions& options = {}) {
    logsumexp(Contiguous(x, classes), MutableContiguous(y), options);
}
template <Reals X, Reals Y>
void sigmoid(const X& x, Y&& y) {
    sigmoid(Contiguous(x), MutableContiguous(y));
}
template <Reals X, Reals Y>
void log_sigmoid(const X& x, Y&& y) {
    log_sigmoid(Contiguous(x), MutableContiguous(y));
}
template <Reals Y, Reals DY, Reals DX>
void softmax_backward(const Y& y, const DY& dy, DX&& dx, std::int64_t classes) {
    softmax_backward(Contiguous(y, classes), Contiguous(dy, classes), MutableContiguous(dx, classes));
}
template <Reals Y, Reals DY, Reals DX>
void log_softmax_backward(const Y& y, const DY& dy, DX&& dx, std::int64_t classes) {
    log_softmax_backward(Contiguous(y, classes), Contiguous(dy, classes), MutableContiguous(dx, classes));
}

// ---- losses; `losses` is for Reduction::none ----------------------------------------------------------------------------

template <Reals X, Targets Y>
double cross_entropy(const X& logits, const Y& target, std::int64_t classes,
                     const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(losses, [&](const MutableTensorView* out) {
        return cross_entropy(Contiguous(logits, classes), detail::target_view(target, classes),
                             detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Targets Y>
double nll_loss(const X& log_probs, const Y& target, std::int64_t classes,
                const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(losses, [&](const MutableTensorView* out) {
        return nll_loss(Contiguous(log_probs, classes), detail::target_view(target, classes),
                        detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Targets Y>
double categorical_cross_entropy(const X& probs, const Y& target, std::int64_t classes,
                                 const ClassLossOptions& options = {}, std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(losses, [&](const MutableTensorView* out) {
        return categorical_cross_entropy(Contiguous(probs, classes), detail::target_view(target, classes),
                                         detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double binary_cross_entropy(const X& probs, const Y& target, const BinaryLossOptions& options = {},
                            std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy(Contiguous(probs), Contiguous(target),
                                    detail::computing_in<ElementOf<X>>(options), out);
    });
}
template <Reals X, Elements Y>
double binary_cross_entropy_with_logits(const X& logits, const Y& target,
                                        const BinaryLossOptions& options = {},
                                        std::span<ElementOf<X>> losses = {}) {
    return detail::with_losses(losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy_with_logits(Contiguous(logits), Contiguous(target),
                                                detail::computing_in<ElementOf<X>>(options), out);
    });
}

// ---- losses with their gradients ------------------------------------------------------------------------------------------

template <Reals X, Targets Y>
LossGrad<ElementOf<X>> cross_entropy_and_grad(const X& logits, const Y& target, std::int64_t classes,
                                              const ClassLossOptions& options = {},
                                              std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(logits));
    const double loss = detail::with_losses(losses, [&](const MutableTensorView* out) {
        return cross_entropy_and_grad(Contiguous(logits, classes), detail::target_view(target, classes),
                                      MutableContiguous(grad, classes),
                                      detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Targets Y>
LossGrad<ElementOf<X>> nll_loss_and_grad(const X& log_probs, const Y& target, std::int64_t classes,
                                         const ClassLossOptions& options = {},
                                         std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(log_probs));
    const double loss = detail::with_losses(losses, [&](const MutableTensorView* out) {
        return nll_loss_and_grad(Contiguous(log_probs, classes), detail::target_view(target, classes),
                                 MutableContiguous(grad, classes),
                                 detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Targets Y>
LossGrad<ElementOf<X>> categorical_cross_entropy_and_grad(const X& probs, const Y& target,
                                                          std::int64_t classes,
                                                          const ClassLossOptions& options = {},
                                                          std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(probs));
    const double loss = detail::with_losses(losses, [&](const MutableTensorView* out) {
        return categorical_cross_entropy_and_grad(
            Contiguous(probs, classes), detail::target_view(target, classes),
            MutableContiguous(grad, classes), detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}
template <Reals X, Elements Y>
LossGrad<ElementOf<X>> binary_cross_entropy_and_grad(const X& probs, const Y& target,
                                                     const BinaryLossOptions& options = {},
                                                     std::span<ElementOf<X>> losses = {}) {
    std::vector<ElementOf<X>> grad(std::ranges::size(probs));
    const double loss = detail::with_losses(losses, [&](const MutableTensorView* out) {
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
    const double loss = detail::with_losses(losses, [&](const MutableTensorView* out) {
        return binary_cross_entropy_with_logits_and_grad(Contiguous(logits), Contiguous(target),
                                                         MutableContiguous(grad),
                                                         detail::computing_in<ElementOf<X>>(options), out);
    });
    return {loss, std::move(grad)};
}

template <Reals X, Targets Y>
GradHess<ElementOf<X>> cross_entropy_grad_hess(const X& logits, const Y& target, std::int64_t classes,
                                               const ClassLossOptions& options = {},
                                               const HessianOptions& hessian = {}) {
    GradHess<ElementOf<X>> result;
    result.grad.resize(std::ranges::size(logits));
    result.hess.resize(std::ranges::size(logits));
    cross_entropy_grad_hess(Contiguous(logits, classes), detail::target_view(target, classes),
                            MutableContiguous(result.grad, classes), MutableContiguous(result.hess, classes),
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

// ---- scores -----------------------------------------------------------------------------------------------------------------

template <Reals X>
TopK<ElementOf<X>> softmax_topk(const X& x, std::int64_t classes, const ScoreOptions& options = {.k = 1}) {
    const Contiguous in(x, classes);
    const auto size = static_cast<std::size_t>(in.shape[0] * std::max<std::int64_t>(options.k, 0));
    TopK<ElementOf<X>> top{std::vector<ElementOf<X>>(size), std::vector<std::int64_t>(size)};
    softmax_topk(in, MutableContiguous(top.prob, options.k), MutableContiguous(top.index, options.k),
                 options);
    return top;
}

template <Reals X, Targets Y>
TokenScores<ElementOf<X>> token_logprobs(const X& logits, const Y& target, std::int64_t classes,
                                         const ScoreOptions& options = {}) {
    using T = ElementOf<X>;
    const Contiguous in(logits, classes);
    const auto rows = static_cast<std::size_t>(in.shape[0]);
    TokenScores<T> s{std::vector<T>(rows),
                     std::vector<std::int64_t>(rows),
                     std::vector<std::int64_t>(rows),
                     std::vector<T>(rows),
                     {},
                     {}};
    const MutableContiguous logprob(s.logprob), argmax(s.argmax), rank(s.rank), entropy(s.entropy);
    TokenScoreViews views{&logprob, &argmax, &rank, &entropy};
    if (options.k < 1) {
        token_logprobs(in, detail::target_view(target, classes), views, options);
        return s;
    }
    s.top_logprob.resize(rows * static_cast<std::size_t>(options.k));
    s.top_index.resize(s.top_logprob.size());
    const MutableContiguous top_logprob(s.top_logprob, options.k), top_index(s.top_index, options.k);
    views.top_logprob = &top_logprob;
    views.top_index = &top_index;
    token_logprobs(in, detail::target_view(target, classes), views, options);
    return s;
}

}  // namespace softloss
