"""Types of the C++ extension: every argument is positional and given. Users call softloss.functional instead.

Lives here: what ``_core`` offers. Must not: defaults and documentation, which are in functional.py.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_F = TypeVar("_F", bound=Callable[..., Any])
_R = TypeVar("_R", bound=tuple[Any, ...])

__version__: str

def direct(function: _F, /) -> _F: ...
def direct_with(last: object, function: _F, /) -> _F: ...
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
    hess_scale: float,
    hess_min: float,
    grad_out: NDArray[Any] | None,
    hess_out: NDArray[Any] | None,
    result: type[_R],
    /,
) -> _R: ...
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
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def set_cache_limit(nbytes: int, /) -> None: ...
def empty_cache() -> None: ...
def cached_bytes() -> int: ...
def config() -> dict[str, Any]: ...

# Switches for the tests.
def usable_isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str, /) -> None: ...
