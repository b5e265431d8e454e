"""Numba: loops over rows, compiled with fastmath."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba as library
import numpy as np
from cases import SMOOTHING, Case, Data
from numba import prange

from .statement import Statements, statements

FORMS = {  # the loops of cases with options
    ("cross_entropy", ("none",)): "cross_entropy_none",
    ("cross_entropy", ("soft-targets",)): "cross_entropy_soft",
    ("cross_entropy", ("smoothing",)): "cross_entropy_smoothing",
    ("cross_entropy_and_grad", ("soft-targets",)): "cross_entropy_and_grad_soft",
    ("nll_loss", ("soft-targets",)): "nll_loss_soft",
    ("categorical_cross_entropy", ("soft-targets",)): "categorical_cross_entropy_soft",
    ("softmax_topk", ("k=1",)): "softmax_top",
}


@lru_cache
def functions(parallel: bool) -> dict[str, Any]:
    """Loops over rows of a C-ordered 2-D array, compiled once for each setting of `parallel`."""
    jit = library.njit(parallel=parallel, fastmath=True, nogil=True)

    @jit
    def softmax(x, out):
        for r in prange(x.shape[0]):
            row, to = x[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                e = math.exp(row[i] - m)
                to[i] = e
                s += e
            s = 1 / s
            for i in range(row.size):
                to[i] *= s
        return out

    @jit
    def log_softmax(x, out):
        for r in prange(x.shape[0]):
            row, to = x[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            s = m + math.log(s)
            for i in range(row.size):
                to[i] = row[i] - s
        return out

    @jit
    def logsumexp(x, out):
        for r in prange(x.shape[0]):
            row = x[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            out[r] = m + math.log(s)
        return out

    @jit
    def cross_entropy(x, y):
        loss = 0.0
        for r in prange(x.shape[0]):
            row = x[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            loss += m + math.log(s) - row[y[r]]
        return loss / x.shape[0]

    @jit
    def cross_entropy_and_grad(x, y, out):
        loss = 0.0
        rows = x.shape[0]
        for r in prange(rows):
            row, to = x[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                e = math.exp(row[i] - m)
                to[i] = e
                s += e
            loss += m + math.log(s) - row[y[r]]
            s = 1 / (s * rows)
            for i in range(row.size):
                to[i] *= s
            to[y[r]] -= row.dtype.type(1 / rows)
        return loss / rows, out

    @jit
    def cross_entropy_none(x, y):
        losses = np.empty(x.shape[0], x.dtype)
        for r in prange(x.shape[0]):
            row = x[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            losses[r] = m + math.log(s) - row[y[r]]
        return losses

    @jit
    def cross_entropy_soft(x, q):
        loss = 0.0
        for r in prange(x.shape[0]):
            row, to = x[r], q[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            of_target = row.dtype.type(0)
            total = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
                of_target += to[i] * (row[i] - m)
                total += to[i]
            loss += total * math.log(s) - of_target
        return loss / x.shape[0]

    @jit
    def cross_entropy_smoothing(x, y):
        loss = 0.0
        for r in prange(x.shape[0]):
            row = x[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            plain = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
                plain += row[i] - m
            loss += math.log(s) - (1 - SMOOTHING) * (row[y[r]] - m) - SMOOTHING * plain / row.size
        return loss / x.shape[0]

    @jit
    def cross_entropy_and_grad_soft(x, q, out):
        loss = 0.0
        rows = x.shape[0]
        for r in prange(rows):
            row, target, to = x[r], q[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            of_target = row.dtype.type(0)
            total = row.dtype.type(0)
            for i in range(row.size):
                e = math.exp(row[i] - m)
                to[i] = e
                s += e
                of_target += target[i] * (row[i] - m)
                total += target[i]
            loss += total * math.log(s) - of_target
            s = total / (s * rows)
            share = row.dtype.type(1 / rows)
            for i in range(row.size):
                to[i] = to[i] * s - target[i] * share
        return loss / rows, out

    @jit
    def softmax_backward(y, dy, out):
        for r in prange(y.shape[0]):
            row, d, to = y[r], dy[r], out[r]
            s = row.dtype.type(0)
            for i in range(row.size):
                s += row[i] * d[i]
            for i in range(row.size):
                to[i] = row[i] * (d[i] - s)
        return out

    @jit
    def log_softmax_backward(logy, dy, out):
        for r in prange(logy.shape[0]):
            row, d, to = logy[r], dy[r], out[r]
            s = row.dtype.type(0)
            for i in range(row.size):
                s += d[i]
            for i in range(row.size):
                to[i] = d[i] - math.exp(row[i]) * s
        return out

    @jit
    def nll_loss_soft(logp, q):
        loss = 0.0
        for r in prange(logp.shape[0]):
            row, target = logp[r], q[r]
            s = row.dtype.type(0)
            for i in range(row.size):
                s += target[i] * row[i]
            loss -= s
        return loss / logp.shape[0]

    @jit
    def categorical_cross_entropy_soft(p, q):
        loss = 0.0
        for r in prange(p.shape[0]):
            row, target = p[r], q[r]
            s = row.dtype.type(0)
            for i in range(row.size):
                s += target[i] * math.log(row[i])
            loss -= s
        return loss / p.shape[0]

    @jit
    def softmax_top(x):
        value, place = np.empty(x.shape[0], x.dtype), np.empty(x.shape[0], np.int64)
        for r in prange(x.shape[0]):
            row = x[r]
            at = 0
            for i in range(row.size):
                if row[i] > row[at]:
                    at = i
            m = row[at]
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            value[r], place[r] = 1 / s, at
        return value, place

    @jit
    def nll_loss(logp, y):
        loss = 0.0
        for r in prange(logp.shape[0]):
            loss -= logp[r, y[r]]
        return loss / logp.shape[0]

    @jit
    def sigmoid(x, out):
        for i in prange(x.size):
            out[i] = 1 / (1 + math.exp(-x[i]))
        return out

    @jit
    def binary_cross_entropy(p, t):
        loss = 0.0
        for i in prange(p.size):
            loss -= t[i] * math.log(p[i]) + (1 - t[i]) * math.log1p(-p[i])
        return loss / p.size

    @jit
    def binary_cross_entropy_and_grad(p, t, out):
        loss, n = 0.0, p.dtype.type(p.size)
        for i in prange(p.size):
            loss -= t[i] * math.log(p[i]) + (1 - t[i]) * math.log1p(-p[i])
            out[i] = (p[i] - t[i]) / (p[i] * (1 - p[i]) * n)
        return loss / p.size, out

    @jit
    def binary_cross_entropy_with_logits(x, t):
        loss = 0.0
        for i in prange(x.size):
            loss += max(x[i], 0) - x[i] * t[i] + math.log1p(math.exp(-abs(x[i])))
        return loss / x.size

    @jit
    def binary_cross_entropy_with_logits_and_grad(x, t, out):
        loss, scale = 0.0, x.dtype.type(1 / x.size)
        for i in prange(x.size):
            e = math.exp(-abs(x[i]))
            loss += max(x[i], 0) - x[i] * t[i] + math.log1p(e)
            p = 1 / (1 + e)
            out[i] = ((p if x[i] >= 0 else 1 - p) - t[i]) * scale
        return loss / x.size, out

    return {name: f for name, f in locals().items() if isinstance(f, library.core.dispatcher.Dispatcher)}


def compute(case: Case, data: Data, threads: int) -> Statements:
    """Rows of float32 and float64; on other axes the libraries with array expressions are ahead."""

    library.set_num_threads(threads)
    name = FORMS.get((case.op, case.options))
    f = functions(threads > 1).get(name or case.op)
    if (case.arguments and not name) or f is None or case.axis != -1 or case.dtype not in ("float32", "float64"):
        return {}
    rows = case.base.startswith("binary") or case.op == "sigmoid"
    x = data.x if rows or data.x.ndim > 1 else data.x[None]
    y = data.target if data.target.ndim else data.target[None]
    arguments = "x, y" if case.takes_target else "x"
    names = {"f": f, "x": x, "y": y, "empty": np.empty, "like": np.empty_like}
    if case.op == "logsumexp":
        return statements("f(x, empty(x.shape[0], x.dtype))", None, **names)
    if not case.writes:
        return statements(f"f({arguments})", None, **names)
    names["o"] = data.out.reshape(x.shape)
    return statements(f"f({arguments}, like(x))", f"f({arguments}, o)", **names)
