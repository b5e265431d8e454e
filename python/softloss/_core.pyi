"""Types of the C++ extension: every argument is positional and given. Users call softloss.functional instead.

Lives here: what ``_core`` offers. Must not: defaults and documentation, which are in functional.py.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__version__: str

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
def binary_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    reduction: str,
    empty: float,
    dtype: DTypeLike | None,
    /,
) -> NDArray[Any] | np.floating[Any]: ...
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
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def config() -> dict[str, Any]: ...

# Switches for the tests.
def usable_isas() -> list[str]: ...
def isa() -> str: ...
def set_isa(name: str, /) -> None: ...
