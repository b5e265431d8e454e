"""SciPy: scipy.special, and NumPy for the mean of a loss."""

from __future__ import annotations

from cases import Case, Data
from scipy import optimize, special

from .numpy import call, nll_loss
from .statement import Statements, statements


def compute(case: Case, data: Data, threads: int) -> Statements:
    def cross_entropy(x, y, axis):
        return nll_loss(special.log_softmax(x, axis), y, axis)

    def binary_cross_entropy_with_logits(x, t):
        return ((1 - t) * x - special.log_expit(x)).mean()

    def fit_temperature(x, y, axis):
        """Brent's method on the loss, between the temperatures that a classifier may have."""

        def loss(t):
            return cross_entropy(x / t, y, axis)

        found = optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6})
        return found.x, found.fun

    if "b" in case.options:
        return statements(f"f(x, {case.axis}, b)", f=special.logsumexp, x=data.x, b=data.b)
    if case.options == ("special",):
        return statements("f(x)", f=special.logsumexp, x=data.x)
    if case.arguments:
        return {}
    if case.op == "sigmoid":
        return call(case, data, special.expit, has_out=True)
    functions = {
        "softmax": special.softmax,
        "log_softmax": special.log_softmax,
        "logsumexp": special.logsumexp,
        "cross_entropy": cross_entropy,
        "fit_temperature": fit_temperature,
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    }
    return call(case, data, functions[case.op], has_out=False) if case.op in functions else {}
