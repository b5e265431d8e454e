"""The oracle: every function of softloss from its definition, in extended precision, and the measure of error.

Lives here: plain NumPy on longdouble and ULP arithmetic. Must not: softloss itself, checks of arguments, rounding to
the result's dtype, speed.

Class indices and class probabilities are one case: the indices become one-hot rows. Class weights, label smoothing and
the denominators of the mean follow PyTorch's formulas, infinite rows SciPy's values.
"""

from __future__ import annotations

import functools

import numpy as np

LONG = np.longdouble
NAN, INF = LONG("nan"), LONG("inf")
# Some platforms have no type wider than double. There the oracle itself is off by a few units of float64.
ORACLE_ULPS = {np.dtype(np.float32): 0.0, np.dtype(np.float64): 0.1 if np.finfo(LONG).nmant > 52 else 16.0}


def quiet(function):
    """Infinities and NaN are values here, not mistakes."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return wrapper


def exact(x):
    """What softloss computes with: float64 for integers and bool, otherwise the value itself."""
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


def _weighted_logsumexp(x, axis, b, where):
    used = np.broadcast_to(b != 0, x.shape)
    if where is not None:
        used = used & where
    maximum = np.where(used, x, -INF).max(axis, keepdims=True, initial=-INF)
    shift = np.where(np.isfinite(maximum), maximum, 0)
    return shift + np.log(np.where(used, b * np.exp(x - shift), 0).sum(axis, keepdims=True))


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


@quiet
def _expected_cost(
    cost,
    target,
    axis,
    weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    reduction="mean",
    empty=np.nan,
):
    """Rows of cost[class] = -log p(class), averaged with the target's distribution."""
    cost = np.moveaxis(cost, axis, -1)
    classes = cost.shape[-1]
    class_weight = np.ones(classes, LONG) if weight is None else exact(weight)
    target = np.asarray(target)
    if target.dtype.kind in "iu":
        kept = np.full(target.shape, True) if ignore_index is None else target != ignore_index
        label = np.where(kept, target, 0).astype(np.int64)
        share = (np.arange(classes) == label[..., None]).astype(LONG)
        row_weight = np.where(kept, class_weight[label], 0)
        if not label_smoothing:
            cost = np.where(share == 0, 0, cost)  # the other classes are not read
    else:
        share = np.moveaxis(exact(target), axis, -1)
        kept = np.full(share.shape[:-1], True)
        row_weight = np.ones(share.shape[:-1], LONG)
    if label_smoothing:
        share = share * (1 - LONG(label_smoothing)) + LONG(label_smoothing) / classes
    loss = np.where(kept, product(class_weight * share, cost).sum(-1), 0)
    if sample_weight is not None:
        loss, row_weight = loss * exact(sample_weight), row_weight * exact(sample_weight)
    return reduce(loss, reduction, row_weight.sum() if kept.any() else None, empty)


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


@quiet
def reduce(loss, reduction, denominator, empty):
    """`denominator` is None when there is nothing to average."""
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return LONG(empty) if denominator is None else loss.sum() / denominator


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


def assert_ulps(actual, true, limit, context="", scale=0.0):
    """Every element within `limit` ULP of the oracle's, in the shape of the oracle's."""
    actual = np.asarray(actual)
    assert actual.shape == np.shape(true), f"shape {actual.shape}, not {np.shape(true)}; {context}"
    error = ulp_error(actual, true, actual.dtype, scale)
    if np.any(error > limit + ORACLE_ULPS[actual.dtype]):
        place = np.unravel_index(error.argmax(), error.shape)
        raise AssertionError(f"{error.max():.4g} ULP at {place}: {actual[place]!r}, not {true[place]!r}; {context}")
