"""SciPy: scipy.special, and NumPy for the mean of a loss."""

from __future__ import annotations

from cases import Case, Data
from scipy import special

from .numpy import call, nll_loss
from .statement import Statements, statements


def compute(case: Case, data: Data, threads: int) -> Statements:
    def cross_entropy(x, y, axis):
        return nll_loss(special.log_softmax(x, axis), y, axis)

    def binary_cross_entropy_with_logits(x, t):
        return ((1 - t) * x - special.log_expit(x)).mean()

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
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    }
    return call(case, data, functions[case.op], has_out=False) if case.op in functions else {}
