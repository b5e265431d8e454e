"""softmax, log_softmax, logsumexp and cross_entropy for dask arrays whose class axis may have several chunks.

Needs ``pip install 'softloss[dask]'``. If the class axis is one chunk, this module is not needed: every function of
softloss can be applied to each block, as in ``x.map_blocks(softloss.softmax, dtype=x.dtype)``.

How it works. A *share* summarizes some of the classes of a row: the largest logit m; the sum s of exp((x - m) / T) over
these classes, without one of the largest; the total q of their target; and their gap, the sum of q_c (m - x_c) / T. A
share is a few numbers per row, and shares are merged in a tree::

    m = max m_i    s = sum of e_i (1 + s_i) without the 1 of the largest,  e_i = exp((m_i - m) / T)
    q = sum q_i    gap = sum of gap_i + q_i (m - m_i) / T

At the end, logsumexp = m + log1p(s) and cross-entropy = gap + q log1p(s). These are sums of terms >= 0, so nothing
cancels, as in the kernels. Shares are in float64 for float32, float16 and bfloat16, and in longdouble for all others.
The errors are those of the functions on NumPy arrays: at most 2 ULP for float32 and float64 (4 ULP for float64 if
longdouble is no wider). The last bits may depend on the chunks.

Lives here: shares, their merging, and the four functions. Must not: computations that softloss has a function for,
scheduling, files.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import TYPE_CHECKING, Any, Literal

import dask.array as da
import numpy as np

from softloss import functional

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "softmax"]

LONG = np.longdouble
quiet = partial(np.errstate, all="ignore")  # infinities and NaN are ordinary values, as in the kernels


def softmax(x: Any, /, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Probabilities along `axis`, as `softloss.softmax`.

    Parameters
    ----------
    x : dask.array.Array
        Logits of any shape and chunks.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive number that divides the logits.

    Returns
    -------
    dask.array.Array
        Lazy, with the shape and chunks of `x`, and the dtype of `softloss.softmax`.

    Notes
    -----
    Each block is read twice: for the sums over its rows, and for the results. Choose chunks so that all blocks of a
    group of rows fit into memory together.

    Examples
    --------
    >>> import dask.array as da
    >>> from softloss.dask import softmax
    >>> x = da.from_array([[2.0, 1.0, 0.1]], chunks=(1, 2))
    >>> softmax(x).compute().round(4)
    array([[0.659 , 0.2424, 0.0986]])
    """
    return _transform(functional.softmax, _softmax_block, x, axis, temperature)


def log_softmax(x: Any, /, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Logarithm of `softmax`, as `softloss.log_softmax`.

    Parameters
    ----------
    x : dask.array.Array
        Logits of any shape and chunks.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive number that divides the logits.

    Returns
    -------
    dask.array.Array
        Lazy, with the shape and chunks of `x`, and the dtype of `softloss.softmax`.

    Examples
    --------
    >>> import dask.array as da
    >>> from softloss.dask import log_softmax
    >>> log_softmax(da.from_array([1000.0, 0.0], chunks=1)).compute()
    array([    0., -1000.])
    """
    return _transform(functional.log_softmax, _log_softmax_block, x, axis, temperature)


def logsumexp(x: Any, /, axis: int = -1, *, keepdims: bool = False) -> Any:
    """Logarithm of the sum of the exponentials of each row, as `softloss.logsumexp`.

    Parameters
    ----------
    x : dask.array.Array
        Exponents of any shape and chunks.
    axis : int, default -1
        Axis to sum over.
    keepdims : bool, default False
        Keep `axis` with length 1.

    Returns
    -------
    dask.array.Array
        Lazy, with the shape of `x` without `axis`.

    Examples
    --------
    >>> import dask.array as da
    >>> from softloss.dask import logsumexp
    >>> print(logsumexp(da.from_array([1000.0, 1000.0], chunks=1)).compute().round(4))
    1000.6931
    """
    x = _dask_array("x", x)
    dtype = functional.logsumexp(np.zeros(1, x.dtype)).dtype
    x = da.moveaxis(x, axis, -1)
    total = _merged(x.map_blocks(_share, 1.0, **_like_shares(x)), 1.0)
    result = total.map_blocks(_logarithm, dtype, dtype=dtype, meta=np.empty((0,) * x.ndim, dtype))
    return da.moveaxis(result, -1, axis) if keepdims else result[..., 0]


def cross_entropy(
    logits: Any,
    target: Any,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
) -> Any:
    """Cross-entropy between the softmax of `logits` and `target`, in nats, as `softloss.cross_entropy`.

    Parameters
    ----------
    logits : dask.array.Array
        Scores before the softmax, of any shape and chunks, with C classes along `axis`.
    target : dask.array.Array or array_like
        Class indices of the shape of `logits` without `axis`, or class probabilities of the shape of `logits`.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : dask.array.Array or array_like, optional
        Weight of each row, shape of `logits` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are ignored; None ignores no row.
    label_smoothing : float, default 0.0
        Fraction of the target, from 0 to 1, that is spread evenly over the classes.
    temperature : float, default 1.0
        Positive number that divides the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `softloss.cross_entropy`.
    empty : float, default nan
        Value of the mean if there is nothing to average.

    Returns
    -------
    dask.array.Array
        Lazy: a number or, for "none", the loss of each row. Each block of the logits is read once.

    Raises
    ------
    IndexError
        During the computation: a class index is neither between 0 and C - 1 nor `ignore_index`.
    TypeError, ValueError
        At the call: a dtype is not supported, shapes do not fit, or an option is out of range. Chunks may have an
        unknown size along all axes except that of the classes. Then `target` and `sample_weight` must have as many
        blocks along these axes as the logits.

    Examples
    --------
    >>> import dask.array as da
    >>> from softloss.dask import cross_entropy
    >>> logits = da.from_array([[0.1, 1.0, 2.1], [2.0, 1.0, 0.1], [0.1, 3.0, 0.1]], chunks=(2, 2))
    >>> print(cross_entropy(logits, [2, 0, 1]).compute().round(4))
    0.3018
    """
    dtype, x, target = _checked(logits, target, axis, label_smoothing, temperature, reduction)
    rows, classes, row_chunks = x.shape[:-1], x.shape[-1], x.chunks[:-1]
    class_weight = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    if class_weight.shape != (classes,):
        raise ValueError(f"weight must have shape ({classes},), got {class_weight.shape}")
    row_weight = None
    if target.dtype.kind in "iu":
        target = target.map_blocks(_checked_labels, classes, ignore_index, dtype=np.int64, meta=_nothing(target.ndim))
        row_weight = target.map_blocks(_weight_of_label, class_weight, dtype=np.float64)
        target = target[..., None]
    shares = da.map_blocks(
        _share_with_target,
        x,
        target,
        da.from_array(class_weight, chunks=(x.chunks[-1],)),
        da.arange(classes, chunks=(x.chunks[-1],)),
        classes,
        label_smoothing,
        temperature,
        **_like_shares(x),
    )
    wide = _wide(x.dtype)
    loss = _merged(shares, temperature).map_blocks(_row_loss, dtype=wide, meta=_nothing(x.ndim, wide))[..., 0]
    if sample_weight is not None:
        sample_weight = da.asanyarray(sample_weight)
        if not _same_shape(sample_weight.shape, rows):
            raise ValueError(f"sample_weight must have shape {rows}, got {sample_weight.shape}")
        sample_weight = _in_chunks("sample_weight", sample_weight, row_chunks)
        loss = da.where(sample_weight == 0, 0, sample_weight * loss)
        row_weight = sample_weight if row_weight is None else sample_weight * row_weight
    if reduction == "none":
        return loss.map_blocks(_rounded, dtype, dtype=dtype, meta=_nothing(loss.ndim, dtype))
    total = loss.sum(dtype=wide)
    if reduction == "mean":
        if row_weight is None:
            row_weight = loss.map_blocks(np.ones_like, dtype=wide, meta=_nothing(loss.ndim, wide))
        norm = row_weight.sum(dtype=wide)
        total = da.where(norm == 0, empty, total / da.where(norm == 0, 1, norm))
    return total.map_blocks(_rounded, dtype, dtype=dtype, meta=_nothing(0, dtype))


# ---- shares ---------------------------------------------------------------------------------------------------------


def _wide(dtype: np.dtype[Any]) -> Any:
    """Return the type of the shares of an array: one in which several roundings do not change the result."""
    return np.float64 if dtype.itemsize <= 4 and dtype.kind not in "iub" else LONG


def _share_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the shares of an array."""
    return np.dtype([(name, _wide(dtype)) for name in ("largest", "others", "mass", "gap")])


def _share(x: NDArray[Any], temperature: float) -> NDArray[Any]:
    """Return the share of the classes of a block, which are along the last axis; without a target."""
    share = np.zeros((*x.shape[:-1], 1), _share_dtype(x.dtype))
    share["largest"] = -np.inf
    if x.size == 0:
        return share
    p, place = functional.softmax_topk(x, temperature=temperature)
    largest = np.take_along_axis(x, place, -1)
    surprisal = functional.cross_entropy(
        x, place[..., 0], ignore_index=None, temperature=temperature, reduction="none", dtype=np.float64
    )
    with quiet():
        others = np.expm1(surprisal[..., None].astype(_wide(x.dtype)))
        if _wide(x.dtype) is LONG:
            # For a large s, the last bit of log(1 + s) is several bits of s: 1 / p is more accurate.
            others = np.where(p < 0.5, 1 / p.astype(LONG) - 1, others)
    share["largest"] = largest
    share["others"] = np.where(largest == -np.inf, 0, others)
    return share


def _share_with_target(
    x: NDArray[Any],
    target: NDArray[Any],
    weight: NDArray[Any],
    classes: NDArray[Any],
    count: int,
    smoothing: float,
    temperature: float,
) -> NDArray[Any]:
    """Return the share of a block with its target: class indices (-1 if ignored), or probabilities.

    `weight` and `classes` belong to the block, `count` is the number of all classes.
    """
    share = _share(x, temperature)
    if x.size == 0:
        return share
    is_index = target.dtype.kind == "i"
    wide = _wide(x.dtype)
    largest = share["largest"]
    origin = np.where(largest == -np.inf, 0, largest)  # so that the gaps of a row of -inf are inf instead of NaN
    at_target = _at_label(x, origin, target, weight, classes) if is_index else _expected(x, origin, target, weight)
    parts = [(1 - wide(smoothing), at_target)]
    if smoothing:
        parts.append((wide(smoothing) / count, _expected(x, origin, np.broadcast_to(1.0, x.shape), weight)))
    for factor, (mass, gap) in parts:
        if factor:  # 0 * inf must not arise
            share["mass"] += factor * mass
            share["gap"] += factor * gap / wide(temperature)
    if is_index:
        share["mass"], share["gap"] = (np.where(target < 0, 0, share[name]) for name in ("mass", "gap"))
    return share


def _at_label(
    x: NDArray[Any], origin: NDArray[Any], label: NDArray[Any], weight: NDArray[Any], classes: NDArray[Any]
) -> Any:
    """Return mass and gap (for temperature 1) of class indices; 0 if the label of a row is in another block."""
    here = (label >= classes[0]) & (label <= classes[-1])
    place = np.where(here, label - classes[0], 0)
    mass = np.where(here, weight[place], 0)
    with quiet():
        gap = mass * (origin - np.take_along_axis(x, place, -1))
    return mass, np.where(mass == 0, 0, gap)


def _expected(x: NDArray[Any], origin: NDArray[Any], q: NDArray[Any], weight: NDArray[Any]) -> Any:
    """Return mass and gap (for temperature 1) of class probabilities."""
    with quiet():
        below = np.subtract(x, origin, dtype=np.float64)
    gap = functional.nll_loss(below, q.astype(np.float64, copy=False), weight=weight, reduction="none")
    return (q * weight).sum(-1, keepdims=True, dtype=_wide(x.dtype)), gap[..., None]


def _merge(shares: NDArray[Any], axis: Any, keepdims: bool, temperature: float) -> NDArray[Any]:
    """Merge the shares along the last axis into one, by the formulas at the head of this file."""
    largest = shares["largest"].max(-1, keepdims=True)
    merged = np.empty(largest.shape, shares.dtype)
    merged["largest"] = largest
    with quiet():
        distance = (largest - shares["largest"]) / largest.dtype.type(temperature)
        e = np.exp(-distance)
        ones = e.copy()
        np.put_along_axis(ones, shares["largest"].argmax(-1)[..., None], 0, -1)
        merged["others"] = (ones + e * shares["others"]).sum(-1, keepdims=True)
        moved = np.where(shares["mass"] == 0, 0, shares["mass"] * distance)
    merged["mass"] = shares["mass"].sum(-1, keepdims=True)
    merged["gap"] = (shares["gap"] + moved).sum(-1, keepdims=True)
    return merged


def _merged(shares: Any, temperature: float) -> Any:
    """Merge all shares of each row in a tree of tasks."""
    merge = partial(_merge, temperature=temperature)
    return da.reduction(
        shares,
        _as_it_is,
        merge,
        axis=-1,
        keepdims=True,
        combine=merge,
        dtype=shares.dtype,
        meta=_nothing(shares.ndim, shares.dtype),
    )


def _as_it_is(shares: NDArray[Any], axis: Any, keepdims: bool) -> NDArray[Any]:
    return shares


def _like_shares(x: Any) -> dict[str, Any]:
    """Return dtype, chunks and meta of the shares of the blocks of `x`."""
    chunks = (*x.chunks[:-1], (1,) * x.numblocks[-1])
    dtype = _share_dtype(x.dtype)
    return {"dtype": dtype, "chunks": chunks, "meta": _nothing(x.ndim, dtype)}


def _nothing(ndim: int, dtype: Any = np.int64) -> NDArray[Any]:
    return np.empty((0,) * ndim, dtype)


# ---- results from shares --------------------------------------------------------------------------------------------


def _logarithm(total: NDArray[Any], dtype: Any) -> NDArray[Any]:
    with quiet():
        result = total["largest"] + np.log1p(total["others"])
    return _rounded(np.where(np.isfinite(total["largest"]), result, total["largest"]), dtype)


def _row_loss(total: NDArray[Any]) -> NDArray[Any]:
    with quiet():
        return np.where(total["mass"] == 0, 0, total["gap"] + total["mass"] * np.log1p(total["others"]))


def _rounded(x: Any, dtype: Any) -> NDArray[Any]:
    with quiet():
        return np.asarray(x).astype(dtype)


def _transform(function: Any, finish: Any, x: Any, axis: int, temperature: float) -> Any:
    """Apply softmax or log_softmax: block by block if the classes are in one chunk, else by shares and `finish`."""
    x = _dask_array("x", x)
    dtype = function(np.zeros(1, x.dtype), temperature=temperature).dtype
    x = da.moveaxis(x, axis, -1)
    kind: dict[str, Any] = {"temperature": temperature, "dtype": dtype, "meta": _nothing(x.ndim, dtype)}
    if x.numblocks[-1] == 1:
        result = x.map_blocks(function, **kind)
    else:
        shares = x.map_blocks(_share, temperature, **_like_shares(x))
        result = da.map_blocks(finish, x, shares, _merged(shares, temperature), result_dtype=dtype, **kind)
    return da.moveaxis(result, -1, axis)


def _softmax_block(
    x: NDArray[Any], own: NDArray[Any], total: NDArray[Any], temperature: float, result_dtype: Any
) -> NDArray[Any]:
    """Return the softmax of a block with two additional logits, which stand for the classes of all other blocks.

    The rounding of a single logit would affect every probability; the second one represents the remainder.
    """
    largest = total["largest"]
    t = largest.dtype.type(temperature)
    with quiet():
        e = np.exp((own["largest"] - largest) / t)
        rest = np.maximum((1 + total["others"]) - e * (1 + own["others"]), 0)
        first = np.nextafter((largest + t * np.log(rest)).astype(np.float64), -np.inf)
        left = np.maximum(rest - np.exp((first - largest) / t), 0)
        second = (largest + t * np.log(left)).astype(np.float64)
    with_rest = np.concatenate([x, first, second], -1)
    return _rounded(functional.softmax(with_rest, temperature=temperature, dtype=np.float64)[..., :-2], result_dtype)


def _log_softmax_block(
    x: NDArray[Any], own: NDArray[Any], total: NDArray[Any], temperature: float, result_dtype: Any
) -> NDArray[Any]:
    """Return (x - m) / T - log1p(s), a sum of two terms <= 0."""
    with quiet():
        y = np.subtract(x, total["largest"].astype(np.float64), dtype=np.float64)
        y /= temperature
        y -= np.log1p(total["others"]).astype(np.float64)
    return _rounded(y, result_dtype)


# ---- targets --------------------------------------------------------------------------------------------------------


def _checked(
    logits: Any, target: Any, axis: int, smoothing: float, temperature: float, reduction: Any
) -> tuple[Any, Any, Any]:
    """Return the dtype of the loss, the logits with the classes last, and the target in chunks that fit."""
    logits, target = _dask_array("logits", logits), da.asanyarray(target)
    is_index = target.dtype.kind in "iu"
    tried = functional.cross_entropy(  # one row of one class: softloss itself checks dtypes and options
        np.zeros((1, 1), logits.dtype),
        np.zeros((1,) if is_index else (1, 1), target.dtype),
        label_smoothing=smoothing,
        temperature=temperature,
        reduction=reduction,
    )
    x = da.moveaxis(logits, axis, -1)
    if np.isnan(x.shape[-1]):
        raise ValueError(f"logits has chunks of unknown size along axis {axis}; call logits.compute_chunk_sizes()")
    if not _same_shape(target.shape, x.shape[:-1] if is_index else logits.shape):
        raise ValueError(f"target of shape {target.shape} does not fit logits of shape {logits.shape} and axis {axis}")
    if x.shape[-1] == 0 and 0 not in x.shape[:-1]:
        raise ValueError(f"logits of shape {logits.shape} have rows but no classes along axis {axis}")
    if is_index:
        return tried.dtype, x, _in_chunks("target", target, x.chunks[:-1])
    return tried.dtype, x, _in_chunks("target", da.moveaxis(target, axis, -1), x.chunks)


def _dask_array(name: str, x: Any) -> Any:
    """Return `x` if it is a dask array; else raise an error that says how to make one."""
    if isinstance(x, da.Array):
        return x
    if isinstance(getattr(x, "data", None), da.Array):  # of xarray
        line = f"{name}.data"
    elif hasattr(x, "to_dask_array"):  # a data frame of dask
        line = f"{name}.to_dask_array(lengths=True)"
    else:
        line = f"dask.array.asarray({name})"
    raise TypeError(f"{name} must be a dask.array.Array, got {type(x).__name__}; pass {line}")


def _same_shape(shape: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Compare shapes; an unknown extent (NaN) fits any other."""
    return len(shape) == len(other) and all(a == b or a != a or b != b for a, b in zip(shape, other, strict=True))


def _in_chunks(name: str, x: Any, chunks: tuple[tuple[float, ...], ...]) -> Any:
    """Return `x` rechunked to `chunks`; along axes of unknown sizes it must have as many chunks already."""
    wanted = {}
    for axis, (own, other) in enumerate(zip(x.chunks, chunks, strict=True)):
        if np.isnan((*own, *other)).any():
            if len(own) != len(other):
                raise ValueError(
                    f"{name} has {len(own)} chunks along axis {axis}, but logits has {len(other)}, and their sizes are "
                    "unknown; call compute_chunk_sizes() on both"
                )
        elif own != other:
            wanted[axis] = other
    return x.rechunk(wanted) if wanted else x


def _checked_labels(
    target: NDArray[Any], classes: int, ignore_index: int | None, block_info: Any = None
) -> NDArray[Any]:
    """Return class indices, -1 if ignored; a bad one raises softloss's IndexError."""
    scores = np.broadcast_to(0.0, (*target.shape, classes))
    try:
        functional.nll_loss(scores, target, ignore_index=ignore_index)
    except IndexError as error:
        start = tuple(first for first, _ in block_info[0]["array-location"])
        block = f"that starts at {start}" if np.isfinite(start).all() else f"{block_info[0]['chunk-location']}"
        raise IndexError(f"in the block of target {block}: {error}") from None
    labels = target.astype(np.int64)
    return labels if ignore_index is None else np.where(labels == ignore_index, -1, labels)


def _weight_of_label(labels: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    return np.where(labels < 0, 0, weight[labels])
