"""softmax, log_softmax, logsumexp and cross_entropy of dask arrays whose class axis may be cut into chunks, too.

Needs ``pip install 'softloss[dask]'``. Where the class axis is one chunk, nothing of this is needed: every function of
softloss works there block by block, as ``x.map_blocks(softloss.softmax, dtype=x.dtype)``.

How it works. A *share* is what is known of a row from some of its classes: the largest logit m; the sum s of
exp((x - m) / T) over these classes, without one of the largest; the mass q of the target that falls on them; and their
gap, the sum of q_c (m - x_c) / T. Shares have a few numbers for a row, and merge in a tree::

    m = max m_i    s = sum of e_i (1 + s_i) without the 1 of the largest,  e_i = exp((m_i - m) / T)
    q = sum q_i    gap = sum of gap_i + q_i (m - m_i) / T

In the end, logsumexp = m + log1p(s) and cross-entropy = gap + q log1p(s), a sum of terms >= 0: nothing cancels, as in
the kernels. Shares are kept in longdouble. The errors are those of the functions on NumPy arrays, at most 2 ULP for
float32 and float64 (4 ULP for float64 where longdouble is no wider). Bits may depend on the chunks.

Lives here: shares, how they merge, and the four functions. Must not: what softloss has a function for, scheduling,
files.
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
SHARE = np.dtype([("largest", LONG), ("others", LONG), ("mass", LONG), ("gap", LONG)])
quiet = partial(np.errstate, all="ignore")  # infinities and NaN are values here, as in the kernels


def softmax(x: Any, /, axis: int = -1, *, temperature: float = 1.0) -> Any:
    """Probabilities along `axis`, as `softloss.softmax`.

    Parameters
    ----------
    x : dask.array.Array
        Logits of any shape and chunks.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive divisor of the logits.

    Returns
    -------
    dask.array.Array
        Lazy, with the shape, chunks and dtype that fit `x`.

    Notes
    -----
    Each block is needed twice, before and after the sums over its rows are known: cut the rows so that the blocks of
    a group of rows fit into memory together.

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
        Positive divisor of the logits.

    Returns
    -------
    dask.array.Array
        Lazy, with the shape, chunks and dtype that fit `x`.

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
        Axis that is summed over.
    keepdims : bool, default False
        Keep `axis` with length 1.

    Returns
    -------
    dask.array.Array
        Lazy, the shape of `x` without `axis`.

    Examples
    --------
    >>> import dask.array as da
    >>> from softloss.dask import logsumexp
    >>> print(logsumexp(da.from_array([1000.0, 1000.0], chunks=1)).compute().round(4))
    1000.6931
    """
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
    """Cross-entropy of the softmax of `logits` against `target`, in nats, as `softloss.cross_entropy`.

    Parameters
    ----------
    logits : dask.array.Array
        Scores before the softmax, of any shape and chunks, with the C classes along `axis`.
    target : dask.array.Array or array_like
        Class indices of the shape of `logits` without `axis`, or class probabilities of the shape of `logits`.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : dask.array.Array or array_like, optional
        Weight of each row, shape of `logits` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are left out; None leaves none out.
    label_smoothing : float, default 0.0
        Share of the target, between 0 and 1, that is spread evenly over the classes.
    temperature : float, default 1.0
        Positive divisor of the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides as that of `softloss.cross_entropy` does.
    empty : float, default nan
        The mean when there is nothing to average.

    Returns
    -------
    dask.array.Array
        Lazy: a number, or for "none" the loss of each row. Each block of the logits is read once.

    Raises
    ------
    IndexError
        When it is computed: a class index is neither within 0..C-1 nor `ignore_index`.
    TypeError, ValueError
        At once: a dtype is refused, shapes do not fit, or an option is out of its range.

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
    row_weight = da.ones(rows, chunks=row_chunks)
    if target.dtype.kind in "iu":
        target = target.rechunk(row_chunks)
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
    loss = _merged(shares, temperature).map_blocks(_row_loss, dtype=LONG, meta=_nothing(x.ndim, LONG))[..., 0]
    if sample_weight is not None:
        sample_weight = da.asanyarray(sample_weight)
        if sample_weight.shape != rows:
            raise ValueError(f"sample_weight must have shape {rows}, got {sample_weight.shape}")
        sample_weight = sample_weight.rechunk(row_chunks)
        loss = da.where(sample_weight == 0, 0, sample_weight * loss)
        row_weight = sample_weight * row_weight
    if reduction == "none":
        return loss.map_blocks(_rounded, dtype, dtype=dtype, meta=_nothing(loss.ndim, dtype))
    total = loss.sum(dtype=LONG)
    if reduction == "mean":
        norm = row_weight.sum(dtype=LONG)
        total = da.where(norm == 0, empty, total / da.where(norm == 0, 1, norm))
    return total.map_blocks(_rounded, dtype, dtype=dtype, meta=_nothing(0, dtype))


# ---- shares ---------------------------------------------------------------------------------------------------------


def _share(x: NDArray[Any], temperature: float) -> NDArray[Any]:
    """Return the share of a block's classes, which lie along the last axis; without a target."""
    share = np.zeros((*x.shape[:-1], 1), SHARE)
    share["largest"] = -np.inf
    if x.size == 0:
        return share
    place = x.argmax(-1)
    largest = np.take_along_axis(x, place[..., None], -1)
    surprisal = functional.cross_entropy(
        x, place, ignore_index=None, temperature=temperature, reduction="none", dtype=np.float64
    )
    with quiet():
        others = np.expm1(surprisal[..., None].astype(LONG))
        if x.dtype.kind != "f" or x.dtype == np.float64:
            # The last bit of log(1 + s) is several bits of s where s is large: there 1 / p is more accurate.
            p = functional.softmax_topk(x, temperature=temperature).prob
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
    """Return the share of a block with its target: class indices (-1 where ignored), or probabilities.

    `weight` and `classes` are those of the block, `count` is the number of all classes.
    """
    share = _share(x, temperature)
    if x.size == 0:
        return share
    is_index = target.dtype.kind == "i"
    parts = [(1 - LONG(smoothing), _at_label(x, target, weight, classes) if is_index else _expected(x, target, weight))]
    if smoothing:
        parts.append((LONG(smoothing) / count, _expected(x, np.broadcast_to(1.0, x.shape), weight)))
    for factor, (mass, gap) in parts:
        if factor:  # 0 * inf must not arise
            share["mass"] += factor * mass
            share["gap"] += factor * gap / LONG(temperature)
    if is_index:
        share["mass"], share["gap"] = (np.where(target < 0, 0, share[name]) for name in ("mass", "gap"))
    return share


def _at_label(x: NDArray[Any], label: NDArray[Any], weight: NDArray[Any], classes: NDArray[Any]) -> Any:
    """Return mass and gap (temperature 1) of class indices, 0 in rows whose label is in another block."""
    here = (label >= classes[0]) & (label <= classes[-1])
    place = np.where(here, label - classes[0], 0)
    mass = np.where(here, weight[place], 0)
    with quiet():
        gap = mass * (_origin(x).astype(LONG) - np.take_along_axis(x, place, -1))
    return mass, np.where(mass == 0, 0, gap)


def _expected(x: NDArray[Any], q: NDArray[Any], weight: NDArray[Any]) -> Any:
    """Return mass and gap (temperature 1) of class probabilities."""
    with quiet():
        below = np.subtract(x, _origin(x), dtype=np.float64)
    gap = functional.nll_loss(below, q.astype(np.float64, copy=False), weight=weight, reduction="none")
    return (q * weight).sum(-1, keepdims=True, dtype=LONG), gap[..., None]


def _origin(x: NDArray[Any]) -> NDArray[Any]:
    """Return the largest of each row; 0 where all are -inf, whose gaps are then inf instead of NaN."""
    largest = x.max(-1, keepdims=True)
    return np.where(largest == -np.inf, 0, largest)


def _merge(shares: NDArray[Any], axis: Any, keepdims: bool, temperature: float) -> NDArray[Any]:
    """Merge the shares along the last axis into one; see the head of this file."""
    largest = shares["largest"].max(-1, keepdims=True)
    merged = np.empty(largest.shape, SHARE)
    merged["largest"] = largest
    with quiet():
        distance = (largest - shares["largest"]) / LONG(temperature)
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
        shares, _as_it_is, merge, axis=-1, keepdims=True, combine=merge, dtype=SHARE, meta=_nothing(shares.ndim, SHARE)
    )


def _as_it_is(shares: NDArray[Any], axis: Any, keepdims: bool) -> NDArray[Any]:
    return shares


def _like_shares(x: Any) -> dict[str, Any]:
    """Return what dask must know of the shares of x's blocks."""
    chunks = (*x.chunks[:-1], (1,) * x.numblocks[-1])
    return {"dtype": SHARE, "chunks": chunks, "meta": _nothing(x.ndim, SHARE)}


def _nothing(ndim: int, dtype: Any = np.int64) -> NDArray[Any]:
    return np.empty((0,) * ndim, dtype)


# ---- what becomes of them -------------------------------------------------------------------------------------------


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
    """softmax or log_softmax: block by block if the classes are in one chunk, otherwise shares, then `finish`."""
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
    """Softmax of the block beside two more logits, which stand for the classes of all other blocks.

    One logit alone would carry its rounding into every probability; the second one holds what the first leaves over.
    """
    largest, t = total["largest"], LONG(temperature)
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
    """(x - m) / T - log1p(s): two terms <= 0."""
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
    target = da.asanyarray(target)
    is_index = target.dtype.kind in "iu"
    tried = functional.cross_entropy(  # one row of one class: every refusal of dtypes and options is softloss's own
        np.zeros((1, 1), logits.dtype),
        np.zeros((1,) if is_index else (1, 1), target.dtype),
        label_smoothing=smoothing,
        temperature=temperature,
        reduction=reduction,
    )
    x = da.moveaxis(logits, axis, -1)
    if target.shape != (x.shape[:-1] if is_index else logits.shape):
        raise ValueError(f"target of shape {target.shape} does not fit logits of shape {logits.shape} and axis {axis}")
    if x.size == 0 and x.shape[-1] == 0 and 0 not in x.shape[:-1]:
        raise ValueError(f"logits of shape {logits.shape} have rows but no classes along axis {axis}")
    if not is_index:
        target = da.moveaxis(target, axis, -1).rechunk(x.chunks)
    return tried.dtype, x, target


def _checked_labels(
    target: NDArray[Any], classes: int, ignore_index: int | None, block_info: Any = None
) -> NDArray[Any]:
    """Return class indices, with -1 where they are ignored; a bad one is softloss's IndexError."""
    scores = np.broadcast_to(0.0, (*target.shape, classes))
    try:
        functional.nll_loss(scores, target, ignore_index=ignore_index)
    except IndexError as error:
        start = tuple(first for first, _ in block_info[0]["array-location"])
        raise IndexError(f"in the block of target that starts at {start}: {error}") from None
    labels = target.astype(np.int64)
    return labels if ignore_index is None else np.where(labels == ignore_index, -1, labels)


def _weight_of_label(labels: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    return np.where(labels < 0, 0, weight[labels])
