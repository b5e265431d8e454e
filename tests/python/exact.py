"""The exact oracle: the functions of softloss from their definitions, without rounding that matters, by mpmath.

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
_functions = {f: np.frompyfunc(getattr(MP, f), 1, 1) for f in ("exp", "log", "log1p")}


def _apply(name, x):
    return _functions[name](x) if x.dtype == object else getattr(np, name)(x)


def numbers(x):
    """The same values as exact numbers."""
    return np.asarray(_of_number(np.asarray(x, np.float64)))


def pair(true):
    """Numbers as their first 106 bits."""
    hi = np.asarray(true, np.float64)
    lo = np.where(np.isfinite(hi), true - hi if true.dtype == LONG else true - numbers(hi), 0).astype(np.float64)
    return hi, lo


class Rows:
    """What all functions of the rows of x (rows, n) rest on; `long` computes in longdouble."""

    def __init__(self, x, long=False):
        top = x.argmax(-1)[:, None]
        self.x = x.astype(LONG) if long else numbers(x)
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

    def cross_entropy(self, label):
        return pair(np.take_along_axis(self.log_total - self.d, label[:, None], -1)[:, 0])

    def cross_entropy_grad(self, label):
        """Of the sum of the losses: p - 1 at the label, written as the probability of all others."""
        at_label = np.arange(self.e.shape[-1]) == label[:, None]
        return pair(np.where(at_label, -self._sum_without(label[:, None]), self.e) / (1 + self.others))


def softmax_backward(y, dy):
    y, dy = numbers(y), numbers(dy)
    return pair(y * (dy - (y * dy).sum(-1, keepdims=True)))


def log_softmax_backward(logy, dy):
    logy, dy = numbers(logy), numbers(dy)
    return pair(dy - _apply("exp", logy) * dy.sum(-1, keepdims=True))


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
    """Of factor times the sum of the losses: sigmoid(x) - z where nothing has a weight."""
    x, z, weight, pos_weight = map(numbers, (x, z, weight, pos_weight))
    up, down = _sigmoids(x)
    return pair(factor * weight * ((1 - z) * up - pos_weight * z * down))


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
