# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""A user's file, for the type checkers of test_typing.py: right calls with their types, and wrong ones.

Lives here: what mypy and pyright should say. Each wrong call is ignored by a comment, which both checkers refuse
where there is nothing to ignore. Must not: values; nobody runs this.
"""

from typing import Any, Literal

import numpy as np
import softloss
from numpy.typing import NDArray
from softloss import special
from typing_extensions import assert_type

logits: NDArray[np.float32] = np.zeros((3, 4), np.float32)
target = np.zeros(3, np.int64)
out: NDArray[Any] = np.zeros((3, 4), np.float32)

# Transforms: anything that numpy.asarray takes.
assert_type(softloss.softmax(logits), "NDArray[Any]")
assert_type(softloss.softmax([[1.0, 2.0], [3.0, 4.0]], 0, where=[True, False], temperature=2, out=out), "NDArray[Any]")
assert_type(softloss.log_softmax(logits, axis=0, dtype=np.float64), "NDArray[Any]")
assert_type(softloss.sigmoid(logits, dtype="float32"), "NDArray[Any]")
assert_type(softloss.softmax_backward(logits, logits, 1, out=out), "NDArray[Any]")
softloss.logsumexp(logits, b=2.0, where=logits > 0, keepdims=True).max()

# The type of a loss depends on reduction.
assert_type(softloss.cross_entropy(logits, target), "np.floating[Any]")
assert_type(softloss.cross_entropy(logits, target, reduction="sum", label_smoothing=0.1), "np.floating[Any]")
assert_type(softloss.cross_entropy(logits, target, reduction="none"), "NDArray[Any]")
assert_type(softloss.nll_loss(logits, target, ignore_index=None, weight=[1, 2, 3, 4]), "np.floating[Any]")
assert_type(softloss.nll_loss(logits, target, reduction="none"), "NDArray[Any]")
assert_type(softloss.categorical_cross_entropy(logits, logits), "np.floating[Any]")
assert_type(softloss.categorical_cross_entropy(logits, logits, reduction="none"), "NDArray[Any]")
assert_type(softloss.binary_cross_entropy(logits, True), "np.floating[Any]")
assert_type(softloss.binary_cross_entropy(logits, 1, reduction="none"), "NDArray[Any]")
assert_type(softloss.binary_cross_entropy_with_logits(logits, 1, pos_weight=2.0), "np.floating[Any]")
assert_type(softloss.binary_cross_entropy_with_logits(logits, 1, reduction="none"), "NDArray[Any]")
assert_type(softloss.brier_score(logits, target, temperature=2), "np.floating[Any]")
assert_type(softloss.brier_score(logits, target, reduction="none", empty=0.0), "NDArray[Any]")
assert_type(softloss.calibration_error(logits, target, bins=10, norm="max"), "np.float64")
as_float: float = float(softloss.cross_entropy(logits, target))


def chosen(reduction: Literal["mean", "sum", "none"]) -> None:
    assert_type(softloss.cross_entropy(logits, target, reduction=reduction), "np.floating[Any] | NDArray[Any]")
    both = softloss.cross_entropy_and_grad(logits, target, reduction=reduction)
    assert_type(both.loss, "np.floating[Any] | NDArray[Any]")


# Named tuples.
assert_type(softloss.fit_temperature(logits, target, sample_weight=[1, 2, 3]), "softloss.TemperatureFit")
temperature, mean = softloss.fit_temperature(logits, target, axis=-1, weight=None)
assert_type(temperature, "np.float64")
assert_type(softloss.fit_temperature(logits, target).loss, "np.float64")
loss, grad = softloss.cross_entropy_and_grad(logits, target, grad_out=out)
assert_type(grad, "NDArray[Any]")
assert_type(loss, "np.floating[Any]")
assert_type(softloss.cross_entropy_and_grad(logits, target, reduction="none").loss, "NDArray[Any]")
assert_type(softloss.nll_loss_and_grad(logits, target, reduction="sum").loss, "np.floating[Any]")
assert_type(softloss.nll_loss_and_grad(logits, target, reduction="none").loss, "NDArray[Any]")
assert_type(softloss.categorical_cross_entropy_and_grad(logits, logits).loss, "np.floating[Any]")
assert_type(softloss.categorical_cross_entropy_and_grad(logits, logits, reduction="none").loss, "NDArray[Any]")
assert_type(softloss.binary_cross_entropy_and_grad(logits, 1).loss, "np.floating[Any]")
assert_type(softloss.binary_cross_entropy_and_grad(logits, 1, reduction="none").loss, "NDArray[Any]")
assert_type(softloss.binary_cross_entropy_with_logits_and_grad(logits, 1), "softloss.LossGrad[np.floating[Any]]")
assert_type(softloss.binary_cross_entropy_with_logits_and_grad(logits, 1, reduction="none").loss, "NDArray[Any]")
last = softloss.linear_cross_entropy_and_grad(logits, logits, target, bias=[0, 0, 0], memory=1 << 20)
assert_type(last, "softloss.LinearGrad[np.floating[Any]]")
assert_type(last.grad_bias, "NDArray[Any] | None")
assert_type(softloss.linear_cross_entropy(logits, logits, target, reduction="none"), "NDArray[Any]")
assert_type(softloss.linear_token_logprobs(logits, logits, target, top_k=2), "softloss.TokenScores")
assert_type(softloss.linear_softmax_topk(logits, logits, 2).index, "NDArray[np.int64]")
any_loss: softloss.LossGrad = softloss.cross_entropy_and_grad(logits, target)
assert_type(softloss.cross_entropy_grad_hess(logits, target, hess_scale=2.0).hess, "NDArray[Any]")
prob, index = softloss.softmax_topk(logits, 2)
assert_type(softloss.softmax_topk(logits).index, "NDArray[np.int64]")
assert_type(softloss.token_logprobs(logits, target, top_k=5).top_index, "NDArray[np.int64]")

# Settings.
with softloss.threads(2):
    softloss.set_cache_limit(1 << 30)
assert_type(softloss.get_num_threads(), int)
assert_type(softloss.show_config(), None)
assert_type(softloss.show_config("dicts"), dict[str, Any])

# SciPy's signatures.
assert_type(special.softmax(logits, (0, 1)), "NDArray[Any]")
assert_type(special.logsumexp(logits, return_sign=True), tuple[Any, Any])
assert_type(special.logsumexp(logits, 1, None, False, True), tuple[Any, Any])
assert_type(special.expit(logits), "NDArray[Any]")

# Wrong calls.
softloss.softmax(x=logits)  # type: ignore
softloss.softmax(logits, axis="last")  # type: ignore
softloss.softmax(logits, 0, None)  # type: ignore
softloss.cross_entropy(logits, target, reduction="average")  # type: ignore
softloss.cross_entropy(logits, target, -1)  # type: ignore
softloss.cross_entropy(logits)  # type: ignore
missing = softloss.softmax_topk(logits).probs  # type: ignore
softloss.cross_entropy_and_grad(logits, target, grad_out=[0.0])  # type: ignore
softloss.cross_entropy_and_grad(logits, target, reduction="average")  # type: ignore
len(softloss.cross_entropy_and_grad(logits, target).loss)  # type: ignore
softloss.linear_cross_entropy(logits, logits, target, -1)  # type: ignore
softloss.softmax_topk(logits, k=1.5)  # type: ignore
softloss.calibration_error(logits, target, norm="l3")  # type: ignore
softloss.set_num_threads("two")  # type: ignore
