"""The exact oracle: the functions of softloss from their definitions, with mpmath and negligible rounding.

Lives here: formulas that cancel nothing, on arrays of numbers of 400 bits; and the same on longdouble, for rows
too long for mpmath. Must not: softloss itself, options of the functions (reference.py has them), inputs.

Results are pairs (hi, lo) of float64 arrays whose sum is meant, as `reference.ulp_error` takes them: 106 bits.
"""

import mpmath
import numpy as np
from reference import LONG

MP = mpmath.MPContext()
MP.prec = 400

# Longdouble is off by 2^-63 for each operation, and by |d| 2^-64 where exp takes a rounded d. Where it has 64 bits and
# |d| <= MAX_LONG, that is less than 0.05 units of float64.
HAS_LONG = np.finfo(LONG).nmant >= 63
MAX_LONG = 40

_of_number = np.frompyfunc(MP.mpf, 1, 1)
_functions = {f: np.frompyfunc(getattr(MP, f), 1, 1) for f in ("exp", "expm1", "log", "log1p")}


def _apply(name, x):
    return _functions[name](x) if x.dtype == object else getattr(np, name)(x)


def numbers(x):
    """The same values as exact numbers."""
    return np.asarray(_of_number(np.asarray(x, np.float64)))


def pair(true):
    """Round numbers to 106 bits."""
    hi = np.asarray(true, np.float64)
    lo = np.where(np.isfinite(hi), true - hi if true.dtype == LONG else true - numbers(hi), 0).astype(np.float64)
    return hi, lo


def logarithms(x):
    return _apply("log", numbers(x))


def smoothed(target, smoothing):
    """(1 - smoothing) target + smoothing / n."""
    epsilon = MP.mpf(smoothing)
    return (1 - epsilon) * numbers(target) + epsilon / target.shape[-1]


class Rows:
    """Quantities that all functions of the rows of x / temperature (rows, n) share; `long` computes in longdouble."""

    def __init__(self, x, long=False, temperature=1.0):
        top = x.argmax(-1)[:, None]
        self.x = x.astype(LONG) if long else numbers(x) / MP.mpf(temperature)
        self.maximum = np.take_along_axis(self.x, top, -1)
        self.d = self.x - self.maximum
        assert not long or (HAS_LONG and self.d.min() >= -MAX_LONG)
        self.e = _apply("exp", self.d)
        self.others = self._sum_without(top)
        self.log_total = _apply("log1p", self.others)

    def _sum_without(self, column):
        rest = np.where(np.arange(self.e.shape[-1]) == column, 0 * self.e, self.e)
        return rest.sum(-1, keepdims=True)

    def softmax(self):
        return pair(self.e / (1 + self.others))

    def log_softmax(self):
        return pair(self.d - self.log_total)

    def logsumexp(self):
        return pair((self.maximum + self.log_total)[:, 0])

    def cross_entropy(self, label, weight=1.0):
        return pair(weight * np.take_along_axis(self.log_total - self.d, label[:, None], -1)[:, 0])

    def soft_cross_entropy(self, target, weight=1.0):
        return self.shared_cross_entropy(numbers(weight) * numbers(target))

    def shared_cross_entropy(self, share):
        """Of exact shares of the classes, which are weights times targets."""
        return pair((share * (self.log_total - self.d)).sum(-1))

    def shared_grad(self, share, factor=1):
        """Its gradient, and the larger of its two parts."""
        of_p, of_share = factor * share.sum(-1, keepdims=True) * self.e / (1 + self.others), factor * share
        return pair(of_p - of_share), np.asarray(np.maximum(of_p, of_share), np.float64)

    def cross_entropy_grad(self, label, factor=1):
        """Gradient of the sum of the losses; p - 1 at the label is minus the probability of all other classes."""
        at_label = np.arange(self.e.shape[-1]) == label[:, None]
        return pair(factor * np.where(at_label, -self._sum_without(label[:, None]), self.e) / (1 + self.others))

    def brier_score(self, label):
        """1 - p of the label is the sum of the others."""
        at = np.arange(len(self.e)), label
        others = self.e.copy()
        others[at] = 0 * others[at]
        total = self.e.sum(-1)
        return pair(((others**2).sum(-1) + others.sum(-1) ** 2) / total**2)

    def hessian(self, factor=1):
        """factor p (1 - p) of each class."""
        total = 1 + self.others
        rest = np.where(self.d == 0, self.others, total - self.e)  # of the maximum, 1 - p would cancel
        return pair(factor * self.e * rest / total**2)


class Pairs:
    """Divergences of the rows of two arrays of logits: p of the second, q of the first."""

    def __init__(self, x, target, temperature=1.0):
        self.temperature = MP.mpf(temperature)
        self.of_x, self.of_target = Rows(x, temperature=temperature), Rows(target, temperature=temperature)
        self.q, self.p = (rows.e / (1 + rows.others) for rows in (self.of_x, self.of_target))
        self.ratio = (self.of_x.d - self.of_x.log_total) - (self.of_target.d - self.of_target.log_total)

    def kl_divergence(self):
        return pair((self.p * (_apply("expm1", self.ratio) - self.ratio)).sum(-1))

    def js_divergence(self):
        of_mean = _apply("log1p", _apply("expm1", self.ratio) / 2)
        return pair((self.q * (self.ratio - of_mean) - self.p * of_mean).sum(-1) / 2)

    def entropy(self):
        return pair((self.q * (self.of_x.log_total - self.of_x.d)).sum(-1))

    def gradient(self):
        """Of the sum of the divergences, and the larger of its two terms."""
        larger = np.where(self.q < self.p, self.p, self.q)
        return pair((self.q - self.p) / self.temperature), np.asarray(larger / self.temperature, np.float64)


def _largest(y):
    """True at the largest class of each row, the first of equals."""
    return np.arange(y.shape[-1]) == y.argmax(-1)[:, None]


def _sum(terms, mask=True):
    return np.where(mask, terms, 0 * terms).sum(-1, keepdims=True)


def softmax_backward(y, dy):
    """The gradient, and the sum of its absolute terms."""
    largest = _largest(y)
    y, dy = numbers(y), numbers(dy)
    d = dy - _sum(dy, largest)
    return pair(y * (d + _sum(-y * d))), np.asarray(y * (abs(d) + _sum(abs(y * d))), np.float64)


def log_softmax_backward(logy, dy):
    largest = _largest(logy)
    p, dy = _apply("exp", numbers(logy)), numbers(dy)

    def gradient(dy, sign):
        others = dy * _sum(p, ~largest) + sign * p * _sum(dy, ~largest)
        return np.where(largest, others, dy + sign * p * _sum(dy))

    return pair(gradient(dy, -1)), np.asarray(gradient(abs(dy), 1), np.float64)


def _softplus(x):
    return np.maximum(x, 0) + _apply("log1p", _apply("exp", -abs(x)))


def sigmoid(x):
    e = _apply("exp", -numbers(x))
    return pair(1 / (1 + e))


def log_sigmoid(x):
    return pair(-_softplus(-numbers(x)))


def binary_cross_entropy_with_logits(x, z, weight=1.0, pos_weight=1.0):
    x, z, weight, pos_weight = map(numbers, (x, z, weight, pos_weight))
    return pair(weight * (pos_weight * z * _softplus(-x) + (1 - z) * _softplus(x)))


def _sigmoids(x):
    """sigmoid(x), sigmoid(-x)"""
    e = _apply("exp", -abs(x))
    return np.where(x < 0, e, 1) / (1 + e), np.where(x < 0, 1, e) / (1 + e)


def binary_cross_entropy_with_logits_grad(x, z, factor=1.0, weight=1.0, pos_weight=1.0):
    """Gradient of factor times the sum of the losses: sigmoid(x) - z without weights."""
    x, z, weight, pos_weight = map(numbers, (x, z, weight, pos_weight))
    up, down = _sigmoids(x)
    return pair(factor * weight * ((1 - z) * up - pos_weight * z * down))


def binary_cross_entropy_with_logits_parts(x, z, weight=1.0, pos_weight=1.0):
    """The gradient of the sum of the losses, and the larger of its two parts."""
    x, z, weight, pos_weight = map(numbers, (x, z, weight, pos_weight))
    up, down = _sigmoids(x)
    of_zero, of_one = weight * (1 - z) * up, weight * pos_weight * z * down
    return pair(of_zero - of_one), np.asarray(np.maximum(of_zero, of_one), np.float64)


def binary_cross_entropy_with_logits_hess(x, z, factor=1.0, weight=1.0, pos_weight=1.0):
    x, z, weight, pos_weight = map(numbers, (x, z, weight, pos_weight))
    up, down = _sigmoids(x)
    return pair(factor * weight * (1 - z + pos_weight * z) * up * down)


def binary_cross_entropy(p, z, weight=1.0):
    p, z, weight = map(numbers, (p, z, weight))
    return pair(-weight * (z * _apply("log", p) + (1 - z) * _apply("log1p", -p)))


def binary_cross_entropy_grad(p, z, weight=1.0):
    p, z, weight = map(numbers, (p, z, weight))
    return pair(weight * (p - z) / (p * (1 - p)))


# ---- focal losses ---------------------------------------------


def _focal_terms(p, q, cost, power, gamma):
    """Loss, slope, and the terms of the second derivative, with respect to the logit of p; q = 1 - p."""
    factors = (2 * gamma + 1) * q * p, gamma**2 * p * p * cost, -gamma * p * q * cost
    return power * cost, -power * (gamma * p * cost + q), [power * each for each in factors]


def sigmoid_focal_loss(x, hit, gamma):
    """Loss, gradient, Hessian and the scale of its error, as exact numbers, of logits x with targets 0 and 1."""
    true, gamma = [], MP.mpf(gamma)
    for each in map(MP.mpf, np.where(hit, x, -x).astype(np.float64).tolist()):
        e = MP.exp(-abs(each))
        p, q = (1 / (1 + e), e / (1 + e)) if each > 0 else (e / (1 + e), 1 / (1 + e))
        cost = MP.log1p(e) + max(-each, 0)
        power = MP.exp(-gamma * (MP.log1p(e) + max(each, 0)))
        loss, slope, parts = _focal_terms(p, q, cost, power, gamma)
        true.append((loss, slope, sum(parts), sum(map(abs, parts))))
    loss, grad, hess, scale = (np.array(each, object) for each in zip(*true, strict=True))
    return loss, np.where(hit, grad, -grad), hess, scale


def _focal_row(row, label, gamma):
    top = int(row.argmax())
    e = [MP.exp(MP.mpf(float(x)) - MP.mpf(float(row[top]))) for x in row]
    total, of_others = MP.fsum(e), MP.fsum(e[:top] + e[top + 1 :])
    rest = [of_others if i == top else total - each for i, each in enumerate(e)]
    p, q, cost = e[label] / total, rest[label] / total, MP.log1p(rest[label] / e[label])
    if q == 0:
        return (MP.mpf(0),) + ([MP.mpf(0)] * len(row),) * 3
    power = q**gamma
    loss, slope, parts = _focal_terms(p, q, cost, power, gamma)
    outer = [gamma * p * power / q**2 * each for each in (2 * q, (gamma - 1) * p * cost, -q * cost)]
    grad, hess, scale = [], [], []
    for i, each in enumerate(e):
        share = each / total
        own = parts if i == label else [*(a * share**2 for a in outer), -slope / q * share * rest[i] / total]
        grad.append(slope if i == label else -slope / q * share)
        hess.append(sum(own))
        scale.append(sum(map(abs, own)))
    return loss, grad, hess, scale


def softmax_focal_loss(x, label, gamma):
    """Loss (rows), gradient, Hessian and the scale of its error (rows, n), as exact numbers."""
    true = [_focal_row(row, int(at), MP.mpf(gamma)) for row, at in zip(x, label, strict=True)]
    return tuple(np.array(each, object) for each in zip(*true, strict=True))
