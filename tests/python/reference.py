"""The oracle: every function of softloss from its definition, in extended precision, and the measure of error.

Lives here: plain NumPy on longdouble and ULP arithmetic. Must not: softloss itself, checks of arguments, rounding to
the result's dtype, speed.

Class indices and class probabilities are one case: the indices become one-hot rows. Class weights, label smoothing and
the denominators of the mean follow PyTorch's formulas, infinite rows SciPy's values. Gradients come with the scale of
their error: the larger of the two terms whose difference they are, 0 where there is no such difference.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

LONG = np.longdouble
NAN, INF = LONG("nan"), LONG("inf")
# Some platforms have no type wider than double. There the oracle itself is off by a few units of float64.
ORACLE_ULPS = {np.dtype(np.float32): 0.0, np.dtype(np.float64): 0.1 if np.finfo(LONG).nmant > 52 else 16.0}


def quiet(function):
    """Infinities and NaN are ordinary values: NumPy must not warn."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return wrapper


def exact(x):
    """The values that softloss computes with: float64 for integers and bool, otherwise the values themselves."""
    return np.asarray(x).astype(np.float64).astype(LONG)


def product(a, b):
    """a * b with 0 * inf = 0."""
    return np.where(np.isnan(a * b) & ~np.isnan(a) & ~np.isnan(b), 0, a * b)


# ---- transforms ---------------------------------------------


def _row_statistics(x, axis, where, temperature=1.0):
    """d = (x - max) / temperature, the maximum, and the sum of exp(d) without one maximum; NaN if there is none."""
    x = exact(x)
    if where is not None:
        x = np.where(where, x, -INF)
    maximum = x.max(axis, keepdims=True, initial=-INF)
    d = (x - maximum) / LONG(temperature)
    at_maximum = d == 0
    others = np.where(at_maximum, 0, np.exp(d)).sum(axis, keepdims=True) + (at_maximum.sum(axis, keepdims=True) - 1)
    return d, maximum, np.where(np.isfinite(maximum), others, NAN)


@quiet
def softmax(x, axis=-1, where=None, temperature=1.0):
    d, _, others = _row_statistics(x, axis, where, temperature)
    y = np.exp(d) / (1 + others)
    return y if where is None else np.where(where, y, 0)


@quiet
def log_softmax(x, axis=-1, where=None, temperature=1.0):
    d, _, others = _row_statistics(x, axis, where, temperature)
    y = d - np.log1p(others)
    return y if where is None else np.where(where, y, -INF)


@quiet
def logsumexp(x, axis=-1, b=None, where=None, keepdims=False):
    if b is None:
        _, maximum, others = _row_statistics(x, axis, where)
        y = np.where(np.isfinite(maximum), maximum + np.log1p(others), maximum)
    else:
        y = _weighted_logsumexp(exact(x), axis, exact(b), where)
    return y if keepdims else y.squeeze(axis) if y.ndim else y


class LogNormalized(NamedTuple):
    log_prob: Any
    logsumexp: Any


def log_normalize(x, axis=-1):
    return LogNormalized(log_softmax(x, axis), logsumexp(x, axis))


def _weighted_logsumexp(x, axis, b, where):
    used = np.broadcast_to(b != 0, x.shape)
    if where is not None:
        used = used & where
    maximum = np.where(used, x, -INF).max(axis, keepdims=True, initial=-INF)
    shift = np.where(np.isfinite(maximum), maximum, 0)
    return shift + np.log(np.where(used, b * np.exp(x - shift), 0).sum(axis, keepdims=True))


def _without_largest(y, x, axis):
    """x, 0 at the largest class of y, the first of equals; and x there."""
    place = np.expand_dims(y.argmax(axis), axis)
    others = x.copy()
    np.put_along_axis(others, place, 0, axis)
    return others, np.take_along_axis(x, place, axis)


def _softmax_backward(y, dy, axis, of_term):
    _, top = _without_largest(y, dy, axis)
    all_terms = of_term(y * (top - dy)).sum(axis, keepdims=True)
    return y * (of_term(dy - top) + all_terms)


def _log_softmax_backward(logy, dy, axis, of_term):
    p = np.exp(logy)
    other_p, p_top = _without_largest(logy, p, axis)
    other_dy, top = _without_largest(logy, dy, axis)
    dx = of_term(dy) + of_term(-p) * of_term(dy).sum(axis, keepdims=True)
    at_top = of_term(top) * other_p.sum(axis, keepdims=True) + of_term(-p_top) * of_term(other_dy).sum(
        axis, keepdims=True
    )
    np.put_along_axis(dx, np.expand_dims(logy.argmax(axis), axis), at_top, axis)
    return dx


def _of_rows(formula, y, dy, axis, of_term):
    y, dy = exact(y), exact(dy)
    if 0 in y.shape:
        return y
    shape = y.shape
    return formula(np.atleast_1d(y), np.atleast_1d(dy), axis, of_term).reshape(shape)


def softmax_backward(y, dy, axis=-1):
    return _of_rows(_softmax_backward, y, dy, axis, lambda x: x)


def log_softmax_backward(logy, dy, axis=-1):
    return _of_rows(_log_softmax_backward, logy, dy, axis, lambda x: x)


def softmax_backward_scale(y, dy, axis=-1):
    """The same, with the absolute value of every term."""
    return _of_rows(_softmax_backward, y, dy, axis, abs)


def log_softmax_backward_scale(logy, dy, axis=-1):
    return _of_rows(_log_softmax_backward, logy, dy, axis, abs)


@quiet
def sigmoid(x):
    x = exact(x)
    e = np.exp(-abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@quiet
def log_sigmoid(x):
    x = exact(x)
    return np.minimum(x, 0) - np.log1p(np.exp(-abs(x)))


# ---- losses ---------------------------------------------


def cross_entropy(logits, target, axis=-1, label_smoothing=0.0, temperature=1.0, **options):
    cost = -log_softmax(logits, axis, temperature=temperature)
    return _expected_cost(cost, target, axis, label_smoothing=label_smoothing, **options)


@quiet
def categorical_cross_entropy(probs, target, axis=-1, **options):
    return _expected_cost(-np.log(exact(probs)), target, axis, **options)


def nll_loss(log_probs, target, axis=-1, **options):
    return _expected_cost(-exact(log_probs), target, axis, **options)


class Targets(NamedTuple):
    """What a loss over classes makes of its target, classes last."""

    share: Any  # of each class in a row's loss: the target's distribution after smoothing, times the class weights
    kept: Any  # False for ignored rows
    sample: Any  # weight of each row
    count: Any  # what each row counts for in the mean
    hard: bool  # class indices without smoothing: one class has all of the share


def _targets(
    classes, target, axis, weight=None, sample_weight=None, ignore_index=-100, label_smoothing=0.0, **_reduction
):
    class_weight = np.ones(classes, LONG) if weight is None else exact(weight)
    target = np.asarray(target)
    hard = target.dtype.kind in "iu"
    if hard:
        kept = np.full(target.shape, True) if ignore_index is None else target != ignore_index
        label = np.where(kept, target, 0).astype(np.int64)
        share = (np.arange(classes) == label[..., None]).astype(LONG)
        count = np.where(kept, class_weight[label], 0)
    else:
        share = np.moveaxis(exact(target), axis, -1)
        kept = np.full(share.shape[:-1], True)
        count = np.ones(share.shape[:-1], LONG)
    if label_smoothing:
        share = share * (1 - LONG(label_smoothing)) + LONG(label_smoothing) / classes
    sample = np.where(kept, LONG(1) if sample_weight is None else exact(sample_weight), 0)
    return Targets(class_weight * share, kept, sample, count * sample, hard and not label_smoothing)


@quiet
def _expected_cost(cost, target, axis, reduction="mean", empty=np.nan, **options):
    """The average of cost[class] = -log p(class) over the distribution of the target, for each row."""
    cost = np.moveaxis(cost, axis, -1)
    t = _targets(cost.shape[-1], target, axis, **options)
    if t.hard:
        cost = np.where(t.share == 0, 0, cost)  # the other classes are not read
    loss = np.where(t.kept, product(t.share, cost).sum(-1) * t.sample, 0)
    return reduce(loss, reduction, t.count.sum() if t.kept.any() else None, empty)


def binary_cross_entropy(probs, target, weight=None, **options):
    p = exact(probs)
    with np.errstate(divide="ignore"):
        cost_of_one, cost_of_zero = np.minimum(-np.log(p), 100), np.minimum(-np.log1p(-p), 100)
    return _expected_binary_cost(cost_of_one, cost_of_zero, target, weight, **options)


def binary_cross_entropy_with_logits(logits, target, weight=None, pos_weight=None, **options):
    cost_of_one, cost_of_zero = -log_sigmoid(logits), -log_sigmoid(-exact(logits))
    if pos_weight is not None:
        with np.errstate(invalid="ignore"):
            cost_of_one = product(exact(pos_weight), cost_of_one)
    return _expected_binary_cost(cost_of_one, cost_of_zero, target, weight, **options)


@quiet
def _expected_binary_cost(cost_of_one, cost_of_zero, target, weight, reduction="mean", empty=np.nan):
    z = exact(target)
    loss = product(z, cost_of_one) + product(1 - z, cost_of_zero)
    if weight is not None:
        loss = product(exact(weight), loss)
    return reduce(loss, reduction, LONG(loss.size) if loss.size else None, empty)


class Divergence(NamedTuple):
    """Two distributions of each row, classes last, and the logarithm of their ratio q / p."""

    p: Any
    q: Any
    ratio: Any
    infinite: Any  # classes that q lacks, however small p is


@quiet
def _divergence(logits, target_logits, axis, temperature):
    x, second = (np.moveaxis(exact(y), axis, -1) for y in (logits, target_logits))
    logp, logq = log_softmax(second, temperature=temperature), log_softmax(x, temperature=temperature)
    return Divergence(np.exp(logp), np.exp(logq), logq - logp, np.isneginf(x) & np.isfinite(second))


@quiet
def _reduced_rows(rows, sample_weight=None, reduction="mean", empty=np.nan):
    sample = np.ones(rows.shape, LONG) if sample_weight is None else exact(sample_weight)
    return reduce(np.where(sample == 0, 0, sample * rows), reduction, sample.sum() if rows.size else None, empty)


@quiet
def kl_divergence(logits, target_logits, axis=-1, temperature=1.0, **options):
    """The sum of q - p - p log(q / p), in which no term is negative."""
    p, q, ratio, infinite = _divergence(logits, target_logits, axis, temperature)
    terms = np.where((p == 0) & ~np.isnan(q), q, p * (np.expm1(ratio) - ratio))
    terms = np.where(infinite & ~np.isnan(p + q), INF, terms)
    return _reduced_rows(terms.sum(-1), **options)


@quiet
def js_divergence(logits, target_logits, axis=-1, temperature=1.0, **options):
    p, q, *_ = _divergence(logits, target_logits, axis, temperature)
    mean = (p + q) / 2
    terms = [np.where(each == 0, 0, each * np.log(each / mean)).sum(-1) for each in (p, q)]
    return _reduced_rows(sum(terms) / 2, **options)


@quiet
def reduce(loss, reduction, denominator, empty):
    """`denominator` is None if there is nothing to average."""
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return LONG(empty) if denominator is None else loss.sum() / denominator


# ---- gradients and Hessians ---------------------------------------------


class LossGrad(NamedTuple):
    loss: Any
    grad: Any
    scale: Any


class GradHess(NamedTuple):
    grad: Any
    hess: Any
    scale: Any  # of the gradient's error
    hess_scale: Any = 0.0  # of the Hessian's: the sum of its absolute terms, where they have both signs


@quiet
def _at_least(hess, least):
    return np.where(np.isnan(hess), hess, np.maximum(hess, LONG(least)))


def _complement(x, axis, temperature=1.0):
    """1 - softmax, without cancelling."""
    d, _, others = _row_statistics(x, axis, None, temperature)
    return np.where(d == 0, others, (1 + others) - np.exp(d)) / (1 + others)


def _class_gradient(slopes, target, axis, reduction="mean", **options):
    """(gradient, scale) of the reduced loss. slopes(targets) gives them for each row, with the classes last."""
    target = np.asarray(target)
    t = _targets(slopes.classes, target, axis, **options)
    total = t.count.sum() if reduction == "mean" else LONG(1)
    factor = np.where(total == 0, 0, t.sample / total)[..., None]
    if t.hard:
        factor = np.where((t.share * t.kept[..., None]).sum(-1, keepdims=True) == 0, 0, factor)
    return [np.moveaxis(np.where(factor == 0, 0, factor * each), -1, axis) for each in slopes(t)]


@quiet
def cross_entropy_and_grad(logits, target, axis=-1, temperature=1.0, **options):
    loss = cross_entropy(logits, target, axis, temperature=temperature, **options)
    x = np.moveaxis(exact(logits), axis, -1)
    p, complement = softmax(x, temperature=temperature), _complement(x, -1, temperature)

    def slopes(t):
        total = t.share.sum(-1, keepdims=True)
        grad = np.where(t.share != 0, -complement, p) * total if t.hard else p * total - t.share
        scale = np.zeros_like(grad) if t.hard else np.maximum(p * abs(total), abs(t.share))
        return grad / LONG(temperature), scale / LONG(temperature)

    slopes.classes = x.shape[-1]
    return LossGrad(loss, *_class_gradient(slopes, target, axis, **_without_empty(options)))


@quiet
def kl_divergence_and_grad(
    logits, target_logits, axis=-1, temperature=1.0, sample_weight=None, reduction="mean", **options
):
    loss = kl_divergence(
        logits, target_logits, axis, temperature, sample_weight=sample_weight, reduction=reduction, **options
    )
    p, q, *_ = _divergence(logits, target_logits, axis, temperature)
    sample = np.ones(p.shape[:-1], LONG) if sample_weight is None else exact(sample_weight)
    factor = (sample / (sample.sum() if reduction == "mean" else LONG(1)) / LONG(temperature))[..., None]
    grad, scale = (np.where(factor == 0, 0, factor * each) for each in (q - p, np.maximum(p, q)))
    return LossGrad(loss, np.moveaxis(grad, -1, axis), np.moveaxis(scale, -1, axis))


@quiet
def categorical_cross_entropy_and_grad(probs, target, axis=-1, **options):
    loss = categorical_cross_entropy(probs, target, axis, **options)
    p = np.moveaxis(exact(probs), axis, -1)

    def slopes(t):
        return np.where(t.share == 0, 0, -t.share / p), np.zeros_like(p)

    slopes.classes = p.shape[-1]
    return LossGrad(loss, *_class_gradient(slopes, target, axis, **_without_empty(options)))


@quiet
def nll_loss_and_grad(log_probs, target, axis=-1, **options):
    loss = nll_loss(log_probs, target, axis, **options)

    def slopes(t):
        return -t.share, np.zeros_like(t.share)

    slopes.classes = np.shape(log_probs)[axis]
    return LossGrad(loss, *_class_gradient(slopes, target, axis, **_without_empty(options)))


def _without_empty(options):
    return {name: value for name, value in options.items() if name != "empty"}


@quiet
def cross_entropy_grad_hess(logits, target, axis=-1, hess_scale=1.0, hess_min=0.0, **options):
    grad = cross_entropy_and_grad(logits, target, axis, reduction="sum", **options)
    x = np.moveaxis(exact(logits), axis, -1)
    t = _targets(x.shape[-1], target, axis, **options)
    row = (t.sample * np.where(t.sample == 0, 0, t.share.sum(-1)))[..., None]
    hess = np.where(row == 0, 0, LONG(hess_scale) * row * softmax(x) * _complement(x, -1))
    return GradHess(grad.grad, np.moveaxis(_at_least(hess, hess_min), -1, axis), grad.scale)


def _binary_factors(x, weight, pos_weight, reduction="sum"):
    factor = LONG(1) if reduction != "mean" else 1 / LONG(max(np.size(x), 1))
    if weight is not None:
        factor = factor * exact(weight)
    return factor, LONG(1) if pos_weight is None else exact(pos_weight)


@quiet
def binary_cross_entropy_and_grad(probs, target, weight=None, reduction="mean", **options):
    loss = binary_cross_entropy(probs, target, weight, reduction=reduction, **options)
    p, z = exact(probs), exact(target)
    factor, _ = _binary_factors(p, weight, None, reduction)
    grad = product(factor, (p - z) / np.maximum(p * (1 - p), LONG(1e-12)))
    return LossGrad(loss, grad, np.zeros_like(grad))


@quiet
def binary_cross_entropy_with_logits_and_grad(
    logits, target, weight=None, pos_weight=None, reduction="mean", **options
):
    loss = binary_cross_entropy_with_logits(logits, target, weight, pos_weight, reduction=reduction, **options)
    factor, positive = _binary_factors(logits, weight, pos_weight, reduction)
    z = exact(target)
    up, down = (1 - z) * sigmoid(logits), z * positive * sigmoid(-exact(logits))
    grad, scale = product(factor, up - down), abs(product(factor, np.maximum(abs(up), abs(down))))
    return LossGrad(loss, grad, np.where((z == 0) | (z == 1), 0, scale))


@quiet
def binary_cross_entropy_with_logits_grad_hess(
    logits, target, weight=None, pos_weight=None, hess_scale=1.0, hess_min=0.0
):
    grad = binary_cross_entropy_with_logits_and_grad(logits, target, weight, pos_weight, reduction="sum")
    factor, positive = _binary_factors(logits, weight, pos_weight)
    z = exact(target)
    hess = LONG(hess_scale) * factor * (z * positive + 1 - z) * sigmoid(logits) * sigmoid(-exact(logits))
    return GradHess(grad.grad, _at_least(hess, hess_min), grad.scale)


# ---- focal losses ---------------------------------------------


class Focal(NamedTuple):
    """What a probability p of the target, with logit u, makes of a loss."""

    loss: Any
    slope: Any  # its derivative with respect to u
    terms: Any  # those of its second derivative
    outer: Any  # the terms of its second derivative with respect to log p, times (1 - p)^2


@quiet
def _focal(p, q, cost, gamma):
    gamma, power, p_cost = LONG(gamma), q ** LONG(gamma), product(p, cost)
    factors = (2 * gamma + 1) * q * p, gamma**2 * p * p_cost, -gamma * q * p_cost
    outer = 2 * gamma * p * q, gamma * (gamma - 1) * p * p_cost, -gamma * q * p_cost
    return Focal(
        product(power, cost),
        -power * (gamma * p_cost + q),
        [power * each for each in factors],
        [power * each for each in outer],
    )


def _binary_focal(logits, target, gamma):
    x, hit = exact(logits), np.broadcast_to(exact(target) == 1, np.shape(logits))
    u = np.where(hit, x, -x)
    return hit, _focal(sigmoid(u), sigmoid(-u), -log_sigmoid(u), gamma)


def _binary_focal_factor(hit, weight, alpha):
    factor = LONG(1) if weight is None else exact(weight)
    return factor if alpha is None else factor * np.where(hit, LONG(alpha), 1 - LONG(alpha))


@quiet
def sigmoid_focal_loss(logits, target, alpha=None, gamma=2.0, weight=None, reduction="mean", empty=np.nan):
    hit, focal = _binary_focal(logits, target, gamma)
    loss = product(_binary_focal_factor(hit, weight, alpha), focal.loss)
    return reduce(loss, reduction, LONG(loss.size) if loss.size else None, empty)


@quiet
def sigmoid_focal_loss_and_grad(logits, target, alpha=None, gamma=2.0, weight=None, reduction="mean", empty=np.nan):
    loss = sigmoid_focal_loss(logits, target, alpha, gamma, weight, reduction, empty)
    hit, focal = _binary_focal(logits, target, gamma)
    factor = _binary_focal_factor(hit, weight, alpha) / (max(np.size(logits), 1) if reduction == "mean" else 1)
    grad = product(factor, np.where(hit, focal.slope, -focal.slope))
    return LossGrad(loss, grad, np.zeros_like(grad))


@quiet
def sigmoid_focal_loss_grad_hess(logits, target, alpha=None, gamma=2.0, weight=None, hess_scale=1.0, hess_min=0.0):
    grad = sigmoid_focal_loss_and_grad(logits, target, alpha, gamma, weight, "sum")
    hit, focal = _binary_focal(logits, target, gamma)
    factor = LONG(hess_scale) * _binary_focal_factor(hit, weight, alpha)
    hess, scale = product(factor, sum(focal.terms)), product(factor, sum(map(abs, focal.terms)))
    return GradHess(grad.grad, _at_least(hess, hess_min), grad.scale, scale)


class _FocalRows:
    """Rows, classes last, and what the probability of the label makes of each."""

    def __init__(self, logits, target, axis, gamma, options):
        x = np.moveaxis(exact(logits), axis, -1)
        self.t = _targets(x.shape[-1], target, axis, **options)
        self.label = self.t.share != 0
        target = np.asarray(target)
        ignored = options.get("ignore_index", -100)
        kept = np.full(target.shape, True) if ignored is None else target != ignored
        self.at_label = np.arange(x.shape[-1]) == np.where(kept, target, -1)[..., None]
        self.p, self.rest = softmax(x), _complement(x, -1)
        cost = np.where(self.at_label, -log_softmax(x), 0).sum(-1)
        p, q = (np.where(self.at_label, each, 0).sum(-1) for each in (self.p, self.rest))
        self.focal, self.q = _focal(p, q, cost, gamma), q[..., None]

    def row(self, values):
        """One number of each row, 0 where it does not count, whatever it holds."""
        return np.where(self.t.count == 0, 0, values)[..., None]


@quiet
def softmax_focal_loss(logits, target, axis=-1, gamma=2.0, reduction="mean", empty=np.nan, **options):
    rows = _FocalRows(logits, target, axis, gamma, options)
    loss = rows.row(rows.t.count * rows.focal.loss)[..., 0]
    return reduce(loss, reduction, rows.t.count.sum() if rows.t.kept.any() else None, empty)


@quiet
def softmax_focal_loss_and_grad(logits, target, axis=-1, gamma=2.0, reduction="mean", empty=np.nan, **options):
    loss = softmax_focal_loss(logits, target, axis, gamma, reduction, empty, **options)
    rows = _FocalRows(logits, target, axis, gamma, options)
    total = rows.t.count.sum() if reduction == "mean" else LONG(1)
    slope = rows.row(rows.t.count * rows.focal.slope / np.where(total == 0, np.inf, total))
    others = np.where(rows.q == 0, 0, -slope / np.where(rows.q == 0, 1, rows.q) * rows.p)
    grad = np.where(slope == 0, 0, np.where(rows.at_label, slope, others))
    return LossGrad(loss, np.moveaxis(grad, -1, axis), np.zeros_like(np.moveaxis(grad, -1, axis)))


@quiet
def softmax_focal_loss_grad_hess(logits, target, axis=-1, gamma=2.0, hess_scale=1.0, hess_min=0.0, **options):
    grad = softmax_focal_loss_and_grad(logits, target, axis, gamma, "sum", **options)
    rows = _FocalRows(logits, target, axis, gamma, options)
    share = np.where(rows.q == 0, 0, rows.p / np.where(rows.q == 0, 1, rows.q))

    def hessian(of):
        at_label = rows.row(rows.t.count * sum(map(of, rows.focal.terms)))
        outer, slope = (
            rows.row(rows.t.count * sum(map(of, rows.focal.outer))),
            rows.row(-rows.t.count * rows.focal.slope),
        )
        others = outer * share**2 + slope * share * rows.rest
        hess = LONG(hess_scale) * np.where(rows.at_label, at_label, np.where(rows.row(1) == 0, 0, others))
        return np.moveaxis(hess, -1, axis)

    return GradHess(grad.grad, _at_least(hessian(lambda x: x), hess_min), grad.scale, hessian(abs))


# ---- scores ---------------------------------------------


def _order(x, axis):
    """Indices from the largest to the smallest element; equal ones in index order."""
    return np.argsort(-exact(x), axis, kind="stable")


def softmax_topk(x, k=1, axis=-1, temperature=1.0):
    index = np.take(_order(x, axis), range(k), axis)
    return np.take_along_axis(softmax(x, axis, temperature=temperature), index, axis), index


@quiet
def sample(logits, u, axis=-1, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, where=None):
    x = np.moveaxis(exact(logits) if where is None else np.where(where, exact(logits), -INF), axis, -1)
    order = _order(x, -1)
    p = np.take_along_axis(softmax(x, temperature=temperature), order, -1)  # largest first
    if top_k:
        p[..., top_k:] = 0
    before = p.cumsum(-1) - p
    p[before >= LONG(top_p) * p.sum(-1, keepdims=True)] = 0
    p[p < LONG(min_p) * p[..., :1]] = 0
    p = np.take_along_axis(p, np.argsort(order, -1), -1)
    running = (p / p.sum(-1, keepdims=True)).cumsum(-1)
    index = (running <= exact(u)[..., None]).sum(-1)[..., None]
    d = np.where(p > 0, (x - x.max(-1, keepdims=True)) / LONG(temperature), -INF)
    return index[..., 0], np.take_along_axis(log_softmax(d), index, -1)[..., 0]


@quiet
def softmax_entropy(logits, axis=-1, temperature=1.0):
    logp = log_softmax(logits, axis, temperature=temperature)
    return product(np.exp(logp), -logp).sum(axis)


@quiet
def token_logprobs(logits, target, axis=-1, top_k=0, temperature=1.0, ignore_index=-100):
    x = np.moveaxis(exact(logits), axis, -1)
    target = np.asarray(target)
    kept = np.full(target.shape, True) if ignore_index is None else target != ignore_index
    label = np.where(kept, target, 0).astype(np.int64)[..., None]
    logp = log_softmax(x, temperature=temperature)
    top = _order(x, -1)[..., :top_k]
    return (
        np.where(kept, np.take_along_axis(logp, label, -1)[..., 0], 0),
        x.argmax(-1),
        np.where(kept, 1 + (x > np.take_along_axis(x, label, -1)).sum(-1), 0),
        product(np.exp(logp), -logp).sum(-1),
        np.take_along_axis(logp, top, -1),
        top,
    )


# ---- calibration ---------------------------------------------


def _labelled(logits, target, axis, ignore_index, weight=None, sample_weight=None):
    """Rows, classes last, that count: their logits, labels and weights."""
    x = np.moveaxis(exact(logits), axis, -1).reshape(-1, np.shape(logits)[axis])
    label = np.asarray(target).ravel()
    kept = np.full(label.shape, True) if ignore_index is None else label != ignore_index
    w = np.ones(label.shape, LONG) if sample_weight is None else exact(sample_weight).ravel()
    w, x, label = w[kept], x[kept], label[kept].astype(np.int64)
    if weight is not None:
        w = w * exact(weight)[label]
    return x[w != 0], label[w != 0], w[w != 0]


class TemperatureFit(NamedTuple):
    temperature: Any
    loss: Any


@quiet
def fit_temperature(logits, target, axis=-1, weight=None, sample_weight=None, ignore_index=-100):
    """Bisection of the derivative with respect to log T, between the bounds."""
    x, label, w = _labelled(logits, target, axis, ignore_index, weight, sample_weight)
    d = x.max(-1, keepdims=True) - x if x.size else x
    if not w.size or not np.isfinite(x.max(-1)).all():
        return TemperatureFit(NAN, NAN)
    at_label = d[np.arange(len(d)), label]

    def slope(log_t):  # with respect to log T
        p = softmax(x, temperature=np.exp(log_t))
        mean = np.where(p == 0, 0, p * np.where(np.isinf(d), 0, d)).sum(-1)
        return np.sum(w * (mean - at_label)) / w.sum()

    low, high = np.log(LONG("1e-3")), np.log(LONG("1e3"))
    if slope(low) == slope(high) == 0:
        low = high = LONG(0)
    elif slope(high) < 0 or np.isinf(at_label).any():
        low = high
    elif slope(low) >= 0:
        high = low
    while high - low > 1e-17:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    t = np.exp((low + high) / 2)
    loss = -log_softmax(x, temperature=t)[np.arange(len(x)), label]
    return TemperatureFit(t, np.sum(w * loss) / w.sum())


@quiet
def calibration_error(
    logits, target, axis=-1, bins=15, norm="l1", temperature=1.0, sample_weight=None, ignore_index=-100
):
    """A loop over the bins (b / bins, (b + 1) / bins]."""
    x, label, w = _labelled(logits, target, axis, ignore_index, None, sample_weight)
    if not w.size:
        return NAN
    p, right = softmax(x, temperature=temperature).max(-1), x.argmax(-1) == label
    if np.isnan(p).any():
        return NAN
    share, gap = [], []
    for b in range(bins):
        inside = (p.astype(np.float64) > b / bins) & (p.astype(np.float64) <= (b + 1) / bins)
        if inside.any():
            share.append(w[inside].sum() / w.sum())
            gap.append(abs(np.sum((w * (right - p))[inside]) / w[inside].sum()))
    share, gap = np.array(share), np.array(gap)
    return {"l1": np.sum(share * gap), "l2": np.sqrt(np.sum(share * gap**2)), "max": gap.max()}[norm]


@quiet
def brier_score(
    logits, target, axis=-1, temperature=1.0, sample_weight=None, ignore_index=-100, reduction="mean", empty=np.nan
):
    x = np.moveaxis(exact(logits), axis, -1)
    t = _targets(x.shape[-1], target, axis, sample_weight=sample_weight, ignore_index=ignore_index)
    p, rest = softmax(x, temperature=temperature), _complement(x / LONG(temperature), -1)
    score = (np.where(t.share != 0, rest, p) ** 2).sum(-1)
    score = np.where(t.count == 0, 0, t.count * score)
    return reduce(score, reduction, t.count.sum() if t.kept.any() else None, empty)


# ---- error ---------------------------------------------


@quiet
def ulp_error(actual, true, dtype, scale=0.0):
    """|actual - true| in units in the last place of `dtype` at the true value or at `scale`, whichever is larger.

    Subnormals have the unit of the smallest normal number. `true` is longdouble, or a pair (hi, lo) of float64 arrays
    whose sum is meant. Two NaNs, or an infinity where the true value rounds to it, are no error; a NaN or an infinity
    on one side alone is an infinite one.
    """
    hi, lo = true if isinstance(true, tuple) else (np.asarray(true).astype(np.float64), None)
    if lo is None:
        lo = (true - hi).astype(np.float64)
    actual = np.asarray(actual).astype(np.float64)
    rounded = hi.astype(dtype)
    unit = np.spacing(np.maximum(abs(rounded), np.asarray(scale, dtype)))
    error = abs((actual - hi) - lo) / unit.astype(np.float64)
    same = (np.isnan(actual) & np.isnan(hi)) | (np.isinf(actual) & (actual == rounded))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def assert_identical(actual, expected, context=""):
    """The same values in the same dtype and shape; NumPy's own option `strict` is younger than NumPy 1.23."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), context
    np.testing.assert_array_equal(actual, expected, err_msg=context)


def assert_ulps(actual, true, limit, context="", scale=0.0):
    """Every element is within `limit` ULP of the oracle, and the shape is that of the oracle."""
    actual = np.asarray(actual)
    assert actual.shape == np.shape(true), f"shape {actual.shape}, not {np.shape(true)}; {context}"
    error = ulp_error(actual, true, actual.dtype, scale)
    if np.any(error > limit + ORACLE_ULPS[actual.dtype]):
        place = np.unravel_index(error.argmax(), error.shape)
        raise AssertionError(f"{error.max():.4g} ULP at {place}: {actual[place]!r}, not {true[place]!r}; {context}")
