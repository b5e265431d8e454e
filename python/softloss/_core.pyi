"""Types of the C++ extension. All arguments are positional and required. Users call softloss.functional instead.

Lives here: the functions of ``_core``. Must not: defaults and documentation, which are in functional.py.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_F = TypeVar("_F", bound=Callable[..., Any])
_R = TypeVar("_R", bound=tuple[Any, ...])

__version__: str
nontemporal_bytes: int

def checked_array(name: str, value: ArrayLike, /) -> ArrayLike: ...
def frameless(function: _F, /) -> _F: ...
def frameless_with(last: object, function: _F, /) -> _F: ...
def softmax(
    x: ArrayLike,
    axis: int,
    where: ArrayLike | None,
    temperature: float,
    out: NDArray[Any] | None,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any]: ...
def log_softmax(
    x: ArrayLike,
    axis: int,
    where: ArrayLike | None,
    temperature: float,
    out: NDArray[Any] | None,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any]: ...
def logsumexp(
    x: ArrayLike,
    axis: int,
    b: ArrayLike | None,
    where: ArrayLike | None,
    keepdims: bool,
    out: NDArray[Any] | None,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def log_normalize(
    x: ArrayLike, axis: int, out: NDArray[Any] | None, dtype: DTypeLike | None, result: type[_R], /
) -> _R: ...
def sigmoid(x: ArrayLike, out: NDArray[Any] | None, dtype: DTypeLike | None, /) -> NDArray[Any]: ...
def log_sigmoid(x: ArrayLike, out: NDArray[Any] | None, dtype: DTypeLike | None, /) -> NDArray[Any]: ...
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    label_smoothing: float,
    temperature: float,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    label_smoothing: float,
    temperature: float,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def categorical_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def categorical_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def nll_loss_and_grad(
    log_probs: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def cross_entropy_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    label_smoothing: float,
    hess_scale: float,
    hess_min: float,
    grad_out: NDArray[Any] | None,
    hess_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def brier_score(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    temperature: float,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def kl_divergence(
    logits: ArrayLike,
    target_logits: ArrayLike,
    axis: int,
    sample_weight: ArrayLike | None,
    temperature: float,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def kl_divergence_and_grad(
    logits: ArrayLike,
    target_logits: ArrayLike,
    axis: int,
    sample_weight: ArrayLike | None,
    temperature: float,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def js_divergence(
    logits: ArrayLike,
    target_logits: ArrayLike,
    axis: int,
    sample_weight: ArrayLike | None,
    temperature: float,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def binary_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def binary_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def binary_cross_entropy_with_logits_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def binary_cross_entropy_with_logits_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    hess_scale: float,
    hess_min: float,
    grad_out: NDArray[Any] | None,
    hess_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def sigmoid_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    alpha: float | None,
    gamma: float,
    weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def sigmoid_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    alpha: float | None,
    gamma: float,
    weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def sigmoid_focal_loss_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    alpha: float | None,
    gamma: float,
    weight: ArrayLike | None,
    hess_scale: float,
    hess_min: float,
    grad_out: NDArray[Any] | None,
    hess_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def softmax_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    gamma: float,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
def softmax_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    gamma: float,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    grad_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def softmax_focal_loss_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    gamma: float,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    hess_scale: float,
    hess_min: float,
    grad_out: NDArray[Any] | None,
    hess_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
def softmax_backward(y: ArrayLike, dy: ArrayLike, axis: int, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def log_softmax_backward(logy: ArrayLike, dy: ArrayLike, axis: int, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def softmax_topk(x: ArrayLike, k: int, axis: int, temperature: float, result: type[_R], /) -> _R: ...
def token_logprobs(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    top_k: int,
    temperature: float,
    ignore_index: int | None,
    result: type[_R],
    /,
) -> _R: ...
def sample(
    logits: ArrayLike,
    u: ArrayLike,
    axis: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    where: ArrayLike | None,
    result: type[_R],
    /,
) -> _R: ...
def softmax_entropy(
    logits: ArrayLike, axis: int, temperature: float, dtype: DTypeLike | None, /
) -> NDArray[Any] | np.floating[Any]: ...
def fit_temperature(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    result: type[_R],
    /,
) -> _R: ...
def calibration_error(
    logits: ArrayLike,
    target: ArrayLike,
    axis: int,
    bins: int,
    norm: str,
    temperature: float,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    /,
) -> np.float64: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def set_cache_limit(nbytes: int, /) -> None: ...
def empty_cache() -> None: ...
def config() -> dict[str, Any]: ...

# For the tests.
def cached_bytes() -> int: ...
def cache_limit() -> int: ...
def container_memory(cgroup: str, /) -> int: ...
def usable_isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str, /) -> None: ...
