"""NumPy: array expressions without superfluous copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import BACKWARD, POS_WEIGHT, SMOOTHING, TEMPERATURE, TOP, TOP_P, Case, Data

from .statement import Statements, statements


def softmax(x, axis=-1, out=None):
    out = np.subtract(x, x.max(axis, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis, keepdims=True)
    return out


def log_softmax(x, axis=-1, out=None):
    out = np.subtract(x, x.max(axis, keepdims=True), out=out)
    out -= np.log(np.exp(out).sum(axis, keepdims=True))
    return out


def logsumexp(x, axis=-1):
    maximum = x.max(axis, keepdims=True)
    e = x - maximum
    np.exp(e, out=e)
    return np.log(e.sum(axis)) + maximum.squeeze(axis)


def log_normalize(x, axis=-1, out=None):
    total = logsumexp(x, axis)
    return np.subtract(x, np.expand_dims(total, axis), out=out), total


def softmax_entropy(x, axis=-1):
    logp = log_softmax(x, axis)
    return -(np.exp(logp) * logp).sum(axis)


def kl_divergence(x, y, axis=-1):
    logp = log_softmax(y, axis)
    return (np.exp(logp) * (logp - log_softmax(x, axis))).sum(axis).mean()


def kl_divergence_and_grad(x, y, axis=-1, out=None):
    logp, logq = log_softmax(y, axis), log_softmax(x, axis)
    p = np.exp(logp)
    loss = (p * (logp - logq)).sum(axis).mean()
    out = np.subtract(np.exp(logq), p, out=out)
    out /= out.size // out.shape[axis]
    return loss, out


def js_divergence(x, y, axis=-1):
    q, p = softmax(x, axis), softmax(y, axis)
    mean = (p + q) / 2
    return (p * np.log(p / mean) + q * np.log(q / mean)).sum(axis).mean() / 2


def nll_loss(logp, y, axis=-1):
    return -np.take_along_axis(logp, np.expand_dims(y, axis), axis).mean()


def cross_entropy(x, y, axis=-1):
    d = x - x.max(axis, keepdims=True)
    of_label = np.take_along_axis(d, np.expand_dims(y, axis), axis).squeeze(axis)
    np.exp(d, out=d)
    return (np.log(d.sum(axis)) - of_label).mean()


def cross_entropy_and_grad(x, y, axis=-1, out=None):
    label = np.expand_dims(y, axis)
    out = np.subtract(x, x.max(axis, keepdims=True), out=out)
    of_label = np.take_along_axis(out, label, axis)
    np.exp(out, out=out)
    total = out.sum(axis, keepdims=True)
    loss = (np.log(total) - of_label).mean()
    out /= total * y.size
    np.put_along_axis(out, label, np.take_along_axis(out, label, axis) - 1 / y.size, axis)
    return loss, out


def cross_entropy_grad_hess(x, y, axis=-1):
    p = softmax(x, axis)
    hess = p * (1 - p)
    label = np.expand_dims(y, axis)
    np.put_along_axis(p, label, np.take_along_axis(p, label, axis) - 1, axis)
    return p, hess


def top(x, axis):
    """The largest elements of each row, largest first, and their indices."""
    index = np.argpartition(x, -TOP, axis).take(range(-TOP, 0), axis)
    value = np.take_along_axis(x, index, axis)
    order = np.argsort(-value, axis)
    return np.take_along_axis(value, order, axis), np.take_along_axis(index, order, axis)


def softmax_topk(x, axis=-1):
    return top(softmax(x, axis), axis)


def token_logprobs(x, y, axis=-1):
    logp = log_softmax(x, axis)
    at_label = np.take_along_axis(logp, np.expand_dims(y, axis), axis)
    rank = 1 + (logp > at_label).sum(axis)
    entropy = -(np.exp(logp) * logp).sum(axis)
    return (at_label.squeeze(axis), logp.argmax(axis), rank, entropy, *top(logp, axis))


def sample(x, u):
    """The class at which the running sum exceeds u, as Generator.choice finds it."""
    running = softmax(x).cumsum(-1, dtype=np.float64)
    running /= running[..., -1:]
    index = (running <= u[..., None]).sum(-1)
    return index, np.take_along_axis(log_softmax(x), index[..., None], -1).squeeze(-1)


def sample_top_p(x, u):
    """The same among the most likely classes, found by a sort."""
    order = np.argsort(-x, -1)
    running = np.take_along_axis(softmax(x), order, -1).cumsum(-1, dtype=np.float64)
    dropped = np.zeros(x.shape, bool)
    dropped[..., 1:] = running[..., :-1] >= TOP_P * running[..., -1:]
    kept = x.copy()
    np.put_along_axis(kept, order, np.where(dropped, -np.inf, np.take_along_axis(x, order, -1)), -1)
    return sample(kept, u)


def sorted_pairs(x, y):
    """The most likely tokens of a row, as in llama-cpp-python: Python sorts all tokens with their indices."""
    for row, label in zip(log_softmax(x).tolist(), y.tolist(), strict=True):
        ranked = sorted(zip(row, range(len(row)), strict=True), reverse=True)
        yield row[label], ranked[:TOP]


def sigmoid(x, out=None):
    out = np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def binary_cross_entropy(p, t):
    return -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean()


def binary_cross_entropy_and_grad(p, t, out=None):
    loss = binary_cross_entropy(p, t)
    out = np.subtract(p, t, out=out)
    out /= p * (1 - p) * p.size
    return loss, out


def binary_cross_entropy_with_logits(x, t):
    e = np.abs(x)
    np.negative(e, out=e)
    np.exp(e, out=e)
    np.log1p(e, out=e)
    e += np.maximum(x, 0)
    e -= x * t
    return e.mean()


def binary_cross_entropy_with_logits_and_grad(x, t, out=None):
    loss = binary_cross_entropy_with_logits(x, t)
    out = sigmoid(x, out)
    out -= t
    out /= x.size
    return loss, out


def binary_cross_entropy_with_logits_grad_hess(x, t):
    p = sigmoid(x)
    hess = p * (1 - p)
    p -= t
    return p, hess


def sigmoid_focal_loss(x, t):
    """gamma = 2, the power of every published formula."""
    p = np.where(t == 1, sigmoid(x), sigmoid(-x))
    return ((1 - p) ** 2 * -np.log(p)).mean()


def softmax_focal_loss(x, y, axis=-1):
    logp = np.take_along_axis(log_softmax(x, axis), np.expand_dims(y, axis), axis)
    return ((1 - np.exp(logp)) ** 2 * -logp).mean()


def brier_score(x, y, axis=-1):
    p = softmax(x, axis)
    label = np.expand_dims(y, axis)
    np.put_along_axis(p, label, np.take_along_axis(p, label, axis) - 1, axis)
    return np.square(p, out=p).sum(axis).mean()


def calibration_error(x, y, axis=-1):
    """The usual 15 bins, by counting."""
    p = softmax(x, axis)
    confidence, right = p.max(axis), p.argmax(axis) == y
    place = np.ceil(confidence * 15).astype(np.intp)
    return abs(np.bincount(place.ravel(), (right - confidence).ravel())).sum() / y.size


# ---- options, and operations that have them: into fresh memory only ------------------------------------------------


def softmax_backward(y, dy, axis=-1):
    return y * (dy - (y * dy).sum(axis, keepdims=True))


def log_softmax_backward(logy, dy, axis=-1):
    return dy - np.exp(logy) * dy.sum(axis, keepdims=True)


def row_losses(case: Case, data: Data) -> Callable[..., Any]:
    """cross_entropy and its gradient, with the options of the case: f(x, y)"""
    axis, smoothing = case.axis, SMOOTHING * ("smoothing" in case.options)
    weights = data.weights if "weights" in case.options else None

    def reduced(loss, norm):
        return loss if "none" in case.options else loss.sum() / norm

    def shifted(x):
        d = x - x.max(axis, keepdims=True)
        if "temperature" in case.options:
            d /= TEMPERATURE
        return d

    def of_rows(d, log_sum, y):
        """Losses, and the denominator of their mean."""
        if case.soft:
            loss = (y * (log_sum - d)).sum(axis)
            return loss, loss.size
        loss = (log_sum - np.take_along_axis(d, np.expand_dims(y, axis), axis)).squeeze(axis)
        if smoothing:
            loss *= 1 - smoothing
            loss += smoothing * (log_sum.squeeze(axis) - d.mean(axis))
        if weights is None:
            return loss, loss.size
        loss *= weights[y]
        return loss, weights[y].sum()

    def loss(x, y):
        d = shifted(x)
        return reduced(*of_rows(d, np.log(np.exp(d).sum(axis, keepdims=True)), y))

    def loss_and_grad(x, y):
        d = shifted(x)
        p = np.exp(d)
        total = p.sum(axis, keepdims=True)
        loss, norm = of_rows(d, np.log(total), y)
        p /= total
        if case.soft:
            p -= y
        else:
            label = np.expand_dims(y, axis)
            p -= smoothing / case.classes
            np.put_along_axis(p, label, np.take_along_axis(p, label, axis) - (1 - smoothing), axis)
        if weights is not None:
            p *= np.expand_dims(weights[y], axis)
        scale = TEMPERATURE if "temperature" in case.options else 1
        p /= scale if "none" in case.options else scale * norm
        return reduced(loss, norm), p

    return loss_and_grad if case.op.endswith("_and_grad") else loss


def soft_losses(case: Case) -> Callable[..., Any]:
    """Losses of probabilities, or of their logarithms, against probabilities: f(x, y)"""
    axis = case.axis

    def soft_nll_loss(logp, q):
        return -(q * logp).sum(axis).mean()

    def soft_categorical_cross_entropy(p, q):
        return -(q * np.log(p)).sum(axis).mean()

    def soft_categorical_cross_entropy_and_grad(p, q):
        return soft_categorical_cross_entropy(p, q), q / p / -(p.size // case.classes)

    return {
        "nll_loss": soft_nll_loss,
        "categorical_cross_entropy": soft_categorical_cross_entropy,
        "categorical_cross_entropy_and_grad": soft_categorical_cross_entropy_and_grad,
    }[case.op]


def masked(case: Case, data: Data) -> Callable[..., Any]:
    """A transform of the elements inside a mask; softmax is 0 outside: f(x)"""
    plain = {"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp}[case.op]
    return lambda x: plain(np.where(data.where, x, -np.inf), case.axis)


def weighted_logsumexp(x, b, axis=-1):
    maximum = x.max(axis, keepdims=True)
    return np.log((b * np.exp(x - maximum)).sum(axis)) + maximum.squeeze(axis)


def positives_weighted(x, t):
    """binary_cross_entropy_with_logits with a weight of the positives."""
    rest = np.log1p(np.exp(-np.abs(x)))
    return (POS_WEIGHT * t * (rest + np.maximum(-x, 0)) + (1 - t) * (rest + np.maximum(x, 0))).mean()


def likeliest(case: Case) -> Callable[..., Any]:
    """The most likely class, and its probability: f(x)"""

    def softmax_top(x):
        d = x - x.max(case.axis, keepdims=True)
        place = d.argmax(case.axis, keepdims=True)
        return 1 / np.exp(d).sum(case.axis, keepdims=True), place

    return softmax_top if case.k == 1 else lambda x: softmax_topk(x, case.axis)


def label_scores(x, y, axis=-1):
    """token_logprobs without the best tokens."""
    logp = log_softmax(x, axis)
    at_label = np.take_along_axis(logp, np.expand_dims(y, axis), axis)
    entropy = -(np.exp(logp) * logp).sum(axis)
    return at_label.squeeze(axis), logp.argmax(axis), 1 + (logp > at_label).sum(axis), entropy


def with_arguments(case: Case, data: Data) -> Statements | None:
    """The statements of a case with options that are arguments, or None."""
    names: dict[str, Any] = {"x": data.x, "y": data.target}
    if case.base == "cross_entropy" and case.arguments:
        return statements("f(x, y)", f=row_losses(case, data), **names)
    if "pos-weight" in case.options:
        return statements("f(x, y)", f=positives_weighted, **names)
    if case.soft:
        return statements("f(x, y)", f=soft_losses(case), **names)
    if "where" in case.options:
        return statements("f(x)", f=masked(case, data), **names)
    if "temperature" in case.options:
        return statements(f"f(x / {TEMPERATURE}, {case.axis})", f=softmax, **names)
    if "b" in case.options:
        return statements(f"f(x, b, {case.axis})", f=weighted_logsumexp, b=data.b, **names)
    if case.op == "sample":
        return statements("f(x, y)", f=sample_top_p if "top-p" in case.options else sample, **names)
    if case.op == "softmax_topk":
        return statements("f(x)", f=likeliest(case), **names)
    if case.op == "token_logprobs" and not case.k:
        return statements(f"f(x, y, {case.axis})", f=label_scores, **names)
    return None


# ---- statements ---------------------------------------------------------------------------------------------------


def compute(case: Case, data: Data, threads: int) -> Statements:
    if (found := with_arguments(case, data)) is not None:
        return found
    function = globals().get(case.op)
    if function is None:
        return {}
    return call(case, data, function, has_out=case.writes == 1 and case.op not in BACKWARD)


def call(case: Case, data: Data, function: Callable[..., Any], has_out: bool) -> Statements:
    """f(x, [target], [axis], [out=])"""
    elementwise = case.op == "sigmoid" or case.base.startswith(("binary", "sigmoid_focal"))
    arguments = "x, y" if case.takes_target else "x"
    arguments += "" if elementwise else f", {case.axis}"
    names = {"f": function, "x": data.x, "y": data.target, "o": data.out if has_out else None}
    return statements(f"f({arguments})", f"f({arguments}, out=o)" if has_out else None, **names)
