"""softmax, log_softmax, logsumexp, expit and log_expit with the signatures and defaults of ``scipy.special``.

For real input, shapes, dtypes and values are those of SciPy 1.17, with these exceptions. Complex, longdouble, object
and masked arrays raise a TypeError. All integers and bool are computed in float64. An empty array gives an empty
array, and an empty sum has the sign 0. A row of `log_softmax` with +inf is all NaN. `expit` and `log_expit` are plain
functions, not ufuncs. Errors and accuracy are those of the functions of `softloss.functional`, which these call.

Lives here: what SciPy's signatures add to those of softloss: several axes at a time and the sign of a sum.
Must not: arithmetic on the elements of the input.
"""

from __future__ import annotations

from math import nan, prod
from operator import index
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from softloss import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["expit", "log_expit", "log_softmax", "logsumexp", "softmax"]


def softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray[Any]:
    """Softmax over `axis`: one, several, or (None) all of them.

    Examples
    --------
    >>> from softloss import special
    >>> special.softmax([[0.0, 0.0], [0.0, 0.0]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    return _transform(functional.softmax, x, axis)


def log_softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = None) -> NDArray[Any]:
    """Logarithm of the softmax over `axis`: one, several, or (None) all of them.

    Examples
    --------
    >>> from softloss import special
    >>> special.log_softmax([1000.0, 1.0])
    array([   0., -999.])
    """
    return _transform(functional.log_softmax, x, axis)


@overload
def logsumexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    return_sign: Literal[False] = ...,
) -> Any: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    *,
    return_sign: Literal[True],
) -> tuple[Any, Any]: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None,
    b: ArrayLike | None,
    keepdims: bool,
    return_sign: Literal[True],
) -> tuple[Any, Any]: ...
def logsumexp(
    a: ArrayLike,
    axis: int | tuple[int, ...] | None = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
) -> Any:
    """Logarithm of the sum of ``b * exp(a)`` over `axis`: one, several, or (None) all of them.

    Parameters
    ----------
    a, b : array_like
        Exponents, and the factors of their exponentials; broadcast against each other. Where `b` is 0, `a` is ignored.
    axis : int, tuple of ints or None, default None
        Axes to sum over.
    keepdims : bool, default False
        Keep these axes with length 1.
    return_sign : bool, default False
        Return the logarithm of the magnitude of the sum, and its sign (1, 0 or -1). Without it, a negative sum gives
        NaN.

    Returns
    -------
    ndarray or scalar, or a tuple of two
        The dtype is that to which NumPy promotes `a`, `b` and a Python float.

    Examples
    --------
    >>> from softloss import special
    >>> print(special.logsumexp([[0.0, 0.0], [0.0, 0.0]]).round(4))
    1.3863
    >>> magnitude, sign = special.logsumexp([1.0, 2.0], b=[1.0, -1.0], return_sign=True)
    >>> print(magnitude.round(4), sign)
    1.5413 -1.0
    """
    dtype = None
    if b is not None:
        a, b = (np.asanyarray(v) if np.iterable(v) else v for v in (a, b))
        # Python's numbers promote weakly; NumPy 1 would do so with its own scalars, too
        dtype = np.result_type(*(getattr(v, "dtype", v) for v in (a, b)), 1.0)
        a, b = np.broadcast_arrays(a, b, subok=True)
        b = np.atleast_1d(b)
    a = np.atleast_1d(a)
    axes = tuple(range(a.ndim)) if axis is None else axis if isinstance(axis, tuple) else (index(axis),)
    rows = _merged(_last(a, axes), len(axes))

    def log_of_sum(factors: NDArray[Any] | None) -> Any:
        if factors is not None:
            factors = _merged(_last(factors, axes), len(axes))
        result = functional.logsumexp(rows, b=factors, dtype=dtype)
        return np.expand_dims(result, axes) if keepdims else result

    total = log_of_sum(b)
    if not return_sign:
        return total
    opposite = nan if b is None else log_of_sum(np.negative(b, dtype=dtype))  # NaN where the sum is positive
    magnitude = np.fmax(total, opposite)
    sign = np.subtract(total > -np.inf, opposite > -np.inf, dtype=np.int8).astype(magnitude.dtype)
    return magnitude, np.where(np.isnan(magnitude), magnitude, sign)[()]


def expit(x: ArrayLike, /, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Logistic sigmoid; float16 gives float64, as in SciPy 1.17.

    Examples
    --------
    >>> from softloss import special
    >>> special.expit([0.0, 100.0])
    array([0.5, 1. ])
    """
    return functional.sigmoid(x, out=out, dtype=_ufunc_dtype(x, out))


def log_expit(x: ArrayLike, /, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Logarithm of the logistic sigmoid; float16 gives float64, as in SciPy 1.17.

    Examples
    --------
    >>> from softloss import special
    >>> special.log_expit([-1000.0, 0.0]).round(4)
    array([-1.000e+03, -6.931e-01])
    """
    return functional.log_sigmoid(x, out=out, dtype=_ufunc_dtype(x, out))


def _transform(function: Callable[..., NDArray[Any]], x: ArrayLike, axis: int | tuple[int, ...] | None) -> NDArray[Any]:
    """Apply a function of rows over any set of axes."""
    if isinstance(axis, tuple):
        moved = _last(np.asanyarray(x), axis)
        result = function(_merged(moved, len(axis))).reshape(moved.shape)
        return np.moveaxis(result, range(-len(axis), 0), axis)[()]
    if axis is None:
        x = np.asanyarray(x)
        return function(x.reshape(-1)).reshape(x.shape)[()]
    return function(x, axis)


def _last(x: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of `x` with `axes` moved to the end."""
    return np.moveaxis(x, axes, range(-len(axes), 0))


def _merged(x: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `x` with its last `count` axes merged into one, copied only if the strides require it."""
    rows = x.ndim - count
    return x.reshape(*x.shape[:rows], prod(x.shape[rows:]))


def _ufunc_dtype(x: ArrayLike, out: NDArray[Any] | None) -> DTypeLike | None:
    """Return the dtype of a SciPy ufunc's result: that of `out`, or float64 for float16, or else softloss's own."""
    if out is not None:
        return getattr(out, "dtype", None)
    dtype = getattr(x, "dtype", None)  # in a table it may be a column
    return np.float64 if isinstance(dtype, np.dtype) and dtype == np.float16 else None
