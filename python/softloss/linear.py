"""The last layer of a model and what follows it, without an array of all logits.

A model's logits are ``x @ w.T + bias``: N rows of C classes, computed from N rows of D features. With many rows and a
large vocabulary they do not fit into memory. These functions compute the logits in blocks of rows and pass each block
to the functions of `softloss.functional`. For gradients, they multiply the gradient of the block by `w` and `x`. The
working memory is at most `memory` bytes.

Lives here: which rows and classes are computed together, the products, the sums over blocks. Must not: what softmax and
losses are, which is `softloss.functional`'s.

How the working memory is divided. If all arrays have the dtype of the computation, and BLAS reads and writes them in
place, a block of rows needs memory only for its logits. With gradients, a block of classes also needs memory for one
product, which is added to the gradient of w. Otherwise, the rows of x and of w, their gradients, and the sums of these
gradients are copied. `_sizes` computes how many are copied at a time. Numbers per row and per class (losses, indices,
the bias) count as 32 bytes each.
"""

from __future__ import annotations

import operator
from math import nan, prod
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, overload

import numpy as np

from softloss import _core, functional
from softloss.functional import TokenScores, TopK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import TypedDict, TypeVar, Unpack

    Loss = TypeVar("Loss", bound=NDArray[Any] | np.floating[Any], default=Any)
    Which = slice | NDArray[np.intp]  # rows: all in a range, or some by their index

    class Weights(TypedDict):
        weight: NDArray[Any] | None
        sample_weight: NDArray[Any] | None

    class LinearOptions(TypedDict, total=False):
        """Options of the losses, without `reduction`, which decides the type of the result."""

        bias: ArrayLike | None
        weight: ArrayLike | None
        sample_weight: ArrayLike | None
        ignore_index: int | None
        label_smoothing: float
        temperature: float
        empty: float
        memory: int


__all__ = [
    "LinearGrad",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "linear_softmax_topk",
    "linear_token_logprobs",
]

MEMORY = 64 << 20
PRODUCT = 4 << 20  # most bytes of a product that is added to a sum: it stays in the caches between the two
COPY = 1 << 18  # bytes that are copied at a time where indexing makes an array of its own


if TYPE_CHECKING:

    class LinearGrad(NamedTuple, Generic[Loss]):
        loss: Loss
        grad_x: NDArray[Any]
        grad_w: NDArray[Any]
        grad_bias: NDArray[Any] | None

else:  # before Python 3.11 a named tuple cannot be generic, but LinearGrad[...] works at run time

    class LinearGrad(NamedTuple):
        """A loss and its gradients with respect to `x`, `w` and `bias`; ``grad_bias`` is None without a bias.

        For type checkers it is generic: with ``reduction="none"`` the loss is an ndarray, otherwise a NumPy scalar.
        """

        loss: Any
        grad_x: NDArray[Any]
        grad_w: NDArray[Any]
        grad_bias: NDArray[Any] | None


@overload
def linear_cross_entropy(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[LinearOptions],
) -> np.floating[Any]: ...
@overload
def linear_cross_entropy(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    **options: Unpack[LinearOptions],
) -> NDArray[Any]: ...
def linear_cross_entropy(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    memory: int = MEMORY,
) -> NDArray[Any] | np.floating[Any]:
    """`cross_entropy` of the logits ``x @ w.T + bias``, which are never all in memory.

    Parameters
    ----------
    x : array_like
        Features, shape (..., D).
    w : array_like
        Weights of the last layer, shape (C, D): one row for each class.
    target : array_like
        Class indices (any integer dtype, shape of `x` without its last axis), or class probabilities (any floating
        dtype, the same shape with a last axis of length C).
    bias : array_like, optional
        Added to the logits, shape (C,).
    weight, sample_weight, ignore_index, label_smoothing, temperature, reduction, empty
        As in `cross_entropy`.
    memory : int, default 64 MiB
        Bytes of working memory, at most; at least one row of logits is computed at a time.

    Returns
    -------
    scalar or ndarray
        As `cross_entropy` returns it: float32 if `x`, `w` and `bias` are float32, float16 or bfloat16, else float64.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `cross_entropy`, for logits of shape (..., C); also if `w` or `bias` does not fit, or if `memory` is
        negative.

    See Also
    --------
    cross_entropy : the loss of logits.

    Notes
    -----
    Blocks of rows of the logits are computed by NumPy's ``matmul`` in float32 or float64; float16 and bfloat16 are
    widened. Ignored rows, and rows of weight 0, are left out, whatever they hold. The losses are those of
    `cross_entropy` on these logits. They depend on `memory` only because BLAS may round the same logit differently in
    blocks of different sizes. Working memory of BLAS itself is not counted.

    Examples
    --------
    >>> import softloss
    >>> x = [[1.0, 0.0], [0.0, 1.0]]
    >>> w = [[2.0, 0.5], [1.0, 2.0], [0.1, 0.3]]
    >>> print(softloss.linear_cross_entropy(x, w, [0, 1]).round(4))
    0.3788
    """
    layer = _checked_layer(x, w, bias, memory)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "temperature": temperature}
    loss = _Loss(layer, target, weight, sample_weight, options, reduction, empty)
    work = _Work(layer, loss.kept, loss.copied_target)
    losses = np.zeros(layer.count, layer.dtype)
    with np.errstate(all="ignore"):
        for which in work.blocks():
            losses[which] = loss.of(which, work.logits(which))
    result: NDArray[Any] | np.floating[Any] = loss.reduced(losses)
    return result


@overload
def linear_cross_entropy_and_grad(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[LinearOptions],
) -> LinearGrad[np.floating[Any]]: ...
@overload
def linear_cross_entropy_and_grad(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    **options: Unpack[LinearOptions],
) -> LinearGrad[NDArray[Any]]: ...
def linear_cross_entropy_and_grad(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    memory: int = MEMORY,
) -> LinearGrad[Any]:
    """`linear_cross_entropy` and its gradients with respect to `x`, `w` and `bias`.

    Parameters
    ----------
    x, w, target, bias, weight, sample_weight, ignore_index, label_smoothing, temperature, reduction, empty, memory
        As in `linear_cross_entropy`.

    Returns
    -------
    LinearGrad
        ``loss`` as `linear_cross_entropy` returns it. ``grad_x``, ``grad_w`` and ``grad_bias`` (None without a bias)
        are the derivatives of the reduced loss or, for "none", of the sum of the losses, in the shapes and dtypes of
        `x`, `w` and `bias`; float64 for integers and bool. An ignored row of `x`, and one of weight 0, has the gradient
        0 and adds nothing to the other two.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `linear_cross_entropy`.

    See Also
    --------
    cross_entropy_and_grad : the gradient with respect to the logits.

    Notes
    -----
    With the gradient G of the logits, ``grad_x = G @ w``, ``grad_w = G.T @ x`` and ``grad_bias = G.sum(0)``, computed
    in blocks of rows: G overwrites the logits. The sums over blocks are in float32 or float64 and rounded once to the
    dtype of the result. If `w` is float16 or bfloat16, the sums for ``grad_w`` take a quarter of `memory`. If the sums
    of all classes, 4 C D bytes, do not fit there, they are computed for some classes at a time. The logits are then
    computed again for each of these groups of classes.

    Examples
    --------
    >>> import softloss
    >>> x = [[1.0, 0.0], [0.0, 1.0]]
    >>> w = [[2.0, 0.5], [1.0, 2.0], [0.1, 0.3]]
    >>> loss, grad_x, grad_w, _ = softloss.linear_cross_entropy_and_grad(x, w, [0, 1])
    >>> grad_w.round(4)
    array([[-0.1705,  0.0794],
           [ 0.1212, -0.1443],
           [ 0.0493,  0.065 ]])
    """
    layer = _checked_layer(x, w, bias, memory)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "temperature": temperature}
    loss = _Loss(layer, target, weight, sample_weight, options, reduction, empty)
    losses = np.zeros(layer.count, layer.dtype)
    grad_x = (np.empty if loss.kept is None else np.zeros)(layer.x.shape, _gradient_dtype(layer.x))
    grad_w = np.empty_like(layer.w, _gradient_dtype(layer.w))
    work = _Work(layer, loss.kept, loss.copied_target, (grad_x, grad_w))
    with np.errstate(all="ignore"):
        for part in work.parts:
            for block, which in enumerate(work.blocks()):
                if part.start == 0:
                    losses[which] = loss.and_grad(which, work.logits(which))
                    work.put_grad_x(which)
                    work.add_grad_bias()
                elif work.count > work.sizes.rows:  # else the gradient of the only block is still there
                    loss.and_grad(which, work.logits(which))
                work.add_grad_w(part, first=block == 0)
            work.put_grad_w(part)
    grad_bias = None if layer.bias is None else work.grad_bias.astype(_gradient_dtype(layer.bias), copy=False)
    return LinearGrad(loss.reduced(losses), grad_x.reshape((*layer.rows, layer.x.shape[-1])), grad_w, grad_bias)


def linear_token_logprobs(
    x: ArrayLike,
    w: ArrayLike,
    target: ArrayLike,
    /,
    *,
    bias: ArrayLike | None = None,
    top_k: int = 0,
    temperature: float = 1.0,
    ignore_index: int | None = -100,
    memory: int = MEMORY,
) -> TokenScores:
    """`token_logprobs` of the logits ``x @ w.T + bias``, which are never all in memory.

    Parameters
    ----------
    x : array_like
        Hidden states, shape (..., D).
    w : array_like
        Output matrix, shape (C, D): one row for each token of the vocabulary.
    target : array_like
        The token at each position: any integer dtype, shape of `x` without its last axis.
    bias : array_like, optional
        Added to the logits, shape (C,).
    top_k, temperature, ignore_index
        As in `token_logprobs`.
    memory : int, default 64 MiB
        Bytes of working memory, at most; at least one row of logits is computed at a time.

    Returns
    -------
    TokenScores
        As `token_logprobs` returns it; floats are float32 if `x`, `w` and `bias` are float32, float16 or bfloat16, else
        float64.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `token_logprobs`, for logits of shape (..., C); also if `w` or `bias` does not fit, or if `memory` is
        negative.

    See Also
    --------
    token_logprobs : the same from logits.
    linear_cross_entropy : the mean of the negative log-probabilities.

    Notes
    -----
    The logits are computed in blocks of rows, as in `linear_cross_entropy`. The results depend on `memory` only because
    BLAS may round the same logit differently in blocks of different sizes.

    Examples
    --------
    >>> import softloss
    >>> scores = softloss.linear_token_logprobs([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.5], [1.0, 2.0], [0.1, 0.3]], [1, 1])
    >>> scores.rank
    array([2, 1])
    """
    layer = _checked_layer(x, w, bias, memory)
    tokens = _array("target", target)
    options: dict[str, Any] = {"top_k": top_k, "temperature": temperature, "ignore_index": ignore_index}
    if tokens.shape != layer.rows or tokens.dtype.kind not in "iu":
        functional.token_logprobs(layer.like_logits(), tokens, **options)  # raises the error
    empty = functional.token_logprobs(layer.no_logits(), np.empty(0, tokens.dtype), **options)
    functional.nll_loss(layer.like_logits(), tokens, ignore_index=ignore_index)  # raises that of a bad label
    scores = TokenScores(*(np.empty((layer.count, *like.shape[1:]), like.dtype) for like in empty))
    work = _Work(layer)
    labels = tokens.reshape(-1)
    with np.errstate(all="ignore"):
        for which in work.blocks():
            block = functional.token_logprobs(work.logits(which), labels[which], **options)
            for whole, part in zip(scores, block, strict=True):
                whole[which] = part
    return TokenScores(*(whole.reshape((*layer.rows, *whole.shape[1:]))[()] for whole in scores))


def linear_softmax_topk(
    x: ArrayLike,
    w: ArrayLike,
    /,
    k: int = 1,
    *,
    bias: ArrayLike | None = None,
    temperature: float = 1.0,
    memory: int = MEMORY,
) -> TopK:
    """`softmax_topk` of the logits ``x @ w.T + bias``, which are never all in memory.

    Parameters
    ----------
    x : array_like
        Features, shape (..., D).
    w : array_like
        Weights of the last layer, shape (C, D): one row for each class.
    k : int, default 1
        Number of classes to return, from 1 to C.
    bias : array_like, optional
        Added to the logits, shape (C,).
    temperature : float, default 1.0
        Positive number that divides the logits.
    memory : int, default 64 MiB
        Bytes of working memory, at most; at least one row of logits is computed at a time.

    Returns
    -------
    TopK
        ``prob``, largest first, and ``index``, int64, of shape (..., k). ``prob`` is float32 if `x`, `w` and `bias` are
        float32, float16 or bfloat16, else float64.

    Raises
    ------
    TypeError, ValueError
        As in `softmax_topk`, for logits of shape (..., C); also if `w` or `bias` does not fit, or if `memory` is
        negative.

    See Also
    --------
    softmax_topk : the same from logits.

    Notes
    -----
    The logits are computed in blocks of rows, as in `linear_cross_entropy`. The results depend on `memory` only because
    BLAS may round the same logit differently in blocks of different sizes.

    Examples
    --------
    >>> import softloss
    >>> softloss.linear_softmax_topk([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.5], [1.0, 2.0], [0.1, 0.3]]).index
    array([[0],
           [1]])
    """
    layer = _checked_layer(x, w, bias, memory)
    empty = functional.softmax_topk(layer.no_logits(), k, temperature=temperature)
    top = TopK(*(np.empty((layer.count, *like.shape[1:]), like.dtype) for like in empty))
    work = _Work(layer)
    with np.errstate(all="ignore"):
        for which in work.blocks():
            block = functional.softmax_topk(work.logits(which), k, temperature=temperature)
            top.prob[which], top.index[which] = block
    return TopK(*(whole.reshape((*layer.rows, *whole.shape[1:])) for whole in top))


# ---- arguments ------------------------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """Arrays that fit each other."""

    x: NDArray[Any]  # (..., D), with at least two dimensions
    rows: tuple[int, ...]  # the shape of x as it was given, without D
    w: NDArray[Any]  # (C, D)
    bias: NDArray[Any] | None  # (C,)
    dtype: np.dtype[Any]  # of the logits
    memory: int

    @property
    def count(self) -> int:  # type: ignore[override]  # hides tuple.count
        return prod(self.rows)

    def like_logits(self) -> NDArray[Any]:
        """Return an array of the shape and dtype of the logits that takes no memory."""
        return np.broadcast_to(self.dtype.type(-1), (*self.rows, len(self.w)))

    def no_logits(self) -> NDArray[Any]:
        """Return logits of no rows: with them, functions check their options and compute nothing."""
        return np.empty((0, len(self.w)), self.dtype)


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    return np.asarray(_core.checked_array(name, value))


def _checked_layer(x_: ArrayLike, w_: ArrayLike, bias_: ArrayLike | None, memory: int) -> _Layer:
    x, w = _array("x", x_), _array("w", w_)
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension (the features)")
    if w.ndim != 2 or w.shape[1] != x.shape[-1]:
        raise ValueError(f"w must have shape (C, {x.shape[-1]}) for x of shape {x.shape}, got {w.shape}")
    bias = None if bias_ is None else _array("bias", bias_)
    if bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"bias must have shape ({len(w)},), one per class, got {bias.shape}")
    try:
        if isinstance(memory, bool):
            raise TypeError
        limit = operator.index(memory)
    except TypeError:
        raise TypeError(f"memory must be an integer, got {type(memory).__name__}") from None
    if limit < 0:
        raise ValueError(f"memory must be at least 0, got {limit}")
    if len(w) == 0 and prod(x.shape[:-1]) > 0:
        raise ValueError(f"w of shape {w.shape} has no classes: axis 0 has length 0")
    dtype = np.result_type(*(_loss_dtype(a) for a in (x, w, bias) if a is not None))
    return _Layer(np.atleast_2d(x), x.shape[:-1], w, bias, dtype, limit)


def _loss_dtype(a: NDArray[Any]) -> np.dtype[Any]:
    """Return the dtype in which softloss computes losses of logits with the dtype of `a`."""
    return functional.cross_entropy(np.empty((0, 1), a.dtype), np.empty(0, np.int8)).dtype


def _gradient_dtype(a: NDArray[Any]) -> np.dtype[Any]:
    return functional.softmax(np.empty(0, a.dtype)).dtype


class _Loss:
    """A target and its options: which rows count, and what the loss of a block of rows is called with."""

    def __init__(
        self,
        layer: _Layer,
        target: ArrayLike,
        weight: ArrayLike | None,
        sample_weight: ArrayLike | None,
        options: dict[str, Any],
        reduction: Any,
        empty: float,
    ) -> None:
        self.layer, self.reduction, self.empty = layer, reduction, empty
        self.target = _array("target", target)
        weights: Weights = {
            "weight": None if weight is None else _array("weight", weight),
            "sample_weight": None if sample_weight is None else _array("sample_weight", sample_weight),
        }
        self.soft = self.target.dtype.kind not in "iub"
        self._check(weights, options)
        self.options = {**options, "weight": weights["weight"], "reduction": "none"}
        self.norm = self._norm(weights, options["ignore_index"])
        self.sample_weight = None if weights["sample_weight"] is None else weights["sample_weight"].reshape(-1)
        self.target = np.atleast_2d(self.target) if self.soft else self.target.reshape(-1)
        self.kept = self._kept()
        # Indexed rows of class probabilities are a copy, as are those that lie in more than one distance.
        adjacent = self.target.ndim <= 2 or self.target.flags.c_contiguous
        copied = self.soft and (self.kept is not None or not adjacent)
        self.copied_target = self.target.itemsize if copied else 0

    def _check(self, weights: Weights, options: dict[str, Any]) -> None:
        """Let `functional` raise the error of arguments that do not fit. Nothing is computed: there are no rows."""
        rows, like = self.layer.rows, self.layer.like_logits()
        sample_weight = weights["sample_weight"]
        expected = like.shape if self.soft else rows
        if self.target.shape != expected or (sample_weight is not None and sample_weight.shape != rows):
            functional.cross_entropy(like, self.target, sample_weight=sample_weight)
        functional.cross_entropy(
            self.layer.no_logits(),
            np.empty((0, len(self.layer.w)) if self.soft else 0, self.target.dtype),
            weight=weights["weight"],
            reduction=self.reduction,
            empty=self.empty,
            **options,
        )

    def _norm(self, weights: Weights, ignore_index: int | None) -> float:
        """Return the sum of the weights of the rows, as the loss of log-probabilities that are all -1."""
        like, sample_weight = self.layer.like_logits(), weights["sample_weight"]
        if self.soft:
            first = np.broadcast_to(np.int8(0), self.layer.rows)
            total = functional.nll_loss(
                like[..., :1], first, sample_weight=sample_weight, reduction="sum", dtype=np.float64
            )
        else:
            total = functional.nll_loss(
                like, self.target, **weights, ignore_index=ignore_index, reduction="sum", dtype=np.float64
            )
        return float(total)

    def _kept(self) -> NDArray[np.intp] | None:
        """Return the rows that count, None if all do."""
        kept = np.ones(self.layer.count, bool)
        if self.reduction == "mean" and self.norm == 0:
            kept[:] = False
        if self.sample_weight is not None:
            kept &= self.sample_weight != 0
        if not self.soft and self.options["ignore_index"] is not None:
            kept &= self.target != operator.index(self.options["ignore_index"])
        if not self.soft and self.options["weight"] is not None and self.options["label_smoothing"] == 0:
            kept &= self.options["weight"].take(self.target, mode="clip") != 0
        return None if kept.all() else np.flatnonzero(kept)

    def of(self, which: Which, logits: NDArray[Any]) -> NDArray[Any]:
        """Return the losses of rows, which add up to the result."""
        target, options = self._arguments(which)
        losses: NDArray[Any] = functional.cross_entropy(logits, target, **options)
        return losses

    def and_grad(self, which: Which, logits: NDArray[Any]) -> NDArray[Any]:
        """Return the losses of rows, and replace the logits with the gradient of the result."""
        target, options = self._arguments(which)
        losses: NDArray[Any] = functional.cross_entropy_and_grad(logits, target, grad_out=logits, **options).loss
        return losses

    def _arguments(self, which: Which) -> tuple[NDArray[Any], dict[str, Any]]:
        target = _rows(self.target, which) if self.soft else self.target[which]
        sample_weight = None if self.sample_weight is None else self.sample_weight[which].astype(np.float64)
        if self.reduction == "mean":
            one = np.broadcast_to(1.0, len(target)) if sample_weight is None else sample_weight
            sample_weight = one / self.norm
        return target, {"sample_weight": sample_weight, **self.options}

    def reduced(self, losses: NDArray[Any]) -> Any:
        if self.reduction == "none":
            return losses.reshape(self.layer.rows)[()]
        if self.reduction == "mean" and self.norm == 0:
            return losses.dtype.type(self.empty)
        first = np.broadcast_to(np.int8(0), len(losses))
        total = functional.nll_loss(losses[:, None], first, reduction="sum", dtype=np.float64)
        return losses.dtype.type(0 - total)


# ---- products -------------------------------------------------------------------------------------------------------


def _rows(a: NDArray[Any], which: Which) -> NDArray[Any]:
    """Return rows along the last axis; a view if `which` is a slice and the rows are at one distance."""
    if a.ndim == 2 or a.flags.c_contiguous:
        return a.reshape(prod(a.shape[:-1]), a.shape[-1])[which]
    index = np.arange(which.start, which.stop) if isinstance(which, slice) else which
    return a[np.unravel_index(index, a.shape[:-1])]


def _fits_blas(a: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Tell whether NumPy hands the rows of an array to BLAS as they lie, and does not copy or multiply them itself."""
    if a.dtype != dtype or not a.flags.aligned or not (a.ndim == 2 or a.flags.c_contiguous):
        return False
    if a.size == 0:
        return True
    a = a.reshape(-1, a.shape[-1])
    (rows, columns), (down, along), item = a.shape, a.strides, a.itemsize
    return (along == item and down >= columns * item) or (down == item and along >= rows * item)


def _ranges(stop: int, step: int) -> list[slice]:
    return [slice(first, min(first + step, stop)) for first in range(0, stop, step)]


class _Sizes(NamedTuple):
    """How many rows and classes are computed at a time; 0 where no array is needed."""

    rows: int
    copied_x: int  # rows of copies, as BLAS takes them
    copied_grad: int
    added_grad: int  # rows of products for the gradient of x, of which there are several
    copied_w: int  # classes of copies
    product: int  # classes of products for the gradient of w
    wide_grad: int  # classes of sums of these products in a dtype wider than that of the gradient


def _sizes(layer: _Layer, count: int, some: bool, target_bytes: int, grads: list[np.dtype[Any]]) -> _Sizes:
    """Divide the memory for `count` rows, `some` of all. `grads` are the dtypes of the gradients of x and w."""
    classes, features, item = len(layer.w), layer.x.shape[-1], layer.dtype.itemsize
    width: int = item * max(features, 1)
    free = max(layer.memory - 32 * (layer.count + classes), 0)

    def classes_in(memory: int) -> int:
        most: int = max(memory // width, item * classes // width, 1)  # at least as much as a row of logits
        return min(classes, most)

    copies_w = not _fits_blas(layer.w, layer.dtype)
    copied_w = classes_in(free // 2) if copies_w else 0
    if copied_w < classes:  # then w is converted again for each block of rows, and a smaller copy does as well
        copied_w = classes_in(free // 8) if copies_w else 0
    product = classes_in(min(PRODUCT, free // 8)) if grads else 0
    wide_grad = classes_in(free // 4) if grads and grads[1] != layer.dtype else 0
    copies_x = some or not _fits_blas(layer.x, layer.dtype)
    copies_grad = bool(grads) and (some or grads[0] != layer.dtype)
    adds_grad = bool(grads) and copied_w not in (0, classes)
    row = width * (copies_x + copies_grad + adds_grad) + (item + target_bytes) * classes
    most = max(1, (free - width * (copied_w + product + wide_grad)) // max(row, 1))
    rows = -(-count // -(-count // most)) if count else 0
    return _Sizes(
        rows, rows * copies_x, rows * copies_grad, rows * adds_grad, copied_w, product if rows < count else 0, wide_grad
    )


class _Work:
    """The working memory: arrays that are allocated once and hold one block of rows, or of classes, at a time.

    `logits` fills in a block of rows. The caller then replaces the block with its gradient, which the other methods
    read.
    """

    def __init__(
        self,
        layer: _Layer,
        kept: NDArray[np.intp] | None = None,
        target_bytes: int = 0,
        gradients: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ) -> None:
        self.layer, self.kept = layer, kept
        self.count = layer.count if kept is None else len(kept)
        classes, features = layer.w.shape
        grads = [] if gradients is None else [gradient.dtype for gradient in gradients]
        sizes = self.sizes = _sizes(layer, self.count, kept is not None, target_bytes, grads)
        self.bias = None if layer.bias is None else layer.bias.astype(layer.dtype, copy=False)
        self.block = self.current = np.empty((sizes.rows, classes), layer.dtype)
        self.x = layer.x[:0]  # the rows that the block was made of
        self.copied_x, self.copied_grad, self.added_grad = (
            np.empty((rows, features), layer.dtype) for rows in (sizes.copied_x, sizes.copied_grad, sizes.added_grad)
        )
        self.copied_w, self.product, self.wide_grad = (
            np.empty_like(layer.w[:rows], layer.dtype) for rows in (sizes.copied_w, sizes.product, sizes.wide_grad)
        )
        self.copied = slice(0, 0)  # classes that the copy of w holds
        self.parts = _ranges(classes, sizes.wide_grad or max(classes, 1))
        if gradients is not None:
            self.grad_x, self.grad_w = gradients[0].reshape(layer.count, features), gradients[1]
            self.grad_bias = np.zeros(0 if self.bias is None else classes, layer.dtype)

    def blocks(self) -> Iterator[Which]:
        """Yield the rows of each block."""
        for which in _ranges(self.count, self.sizes.rows or 1):
            yield which if self.kept is None else self.kept[which]

    def logits(self, which: Which) -> NDArray[Any]:
        """Return the logits of some rows, in memory that the next call overwrites."""
        self.x = self._rows_of_x(which)
        self.current = self.block[: len(self.x)]
        for classes, w in self._blocks_of_w():
            np.matmul(self.x, w.T, out=self.current[:, classes])
        if self.bias is not None:
            self.current += self.bias
        return self.current

    def _rows_of_x(self, which: Which) -> NDArray[Any]:
        if not self.sizes.copied_x:
            return _rows(self.layer.x, which)
        count = which.stop - which.start if isinstance(which, slice) else len(which)
        step = max(1, COPY // max(self.layer.x.itemsize * self.layer.x.shape[-1], 1))
        for part in _ranges(count, step):
            some = slice(which.start + part.start, which.start + part.stop) if isinstance(which, slice) else which[part]
            self.copied_x[part] = _rows(self.layer.x, some)
        return self.copied_x[:count]

    def _blocks_of_w(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield classes and their rows of w."""
        if not self.sizes.copied_w:
            yield slice(0, len(self.layer.w)), self.layer.w
            return
        for classes in _ranges(len(self.layer.w), self.sizes.copied_w):
            copy = self.copied_w[: classes.stop - classes.start]
            if classes != self.copied:
                copy[...] = self.layer.w[classes]
                self.copied = classes
            yield classes, copy

    def put_grad_x(self, which: Which) -> None:
        grad = self.copied_grad[: len(self.x)] if self.sizes.copied_grad else self.grad_x[which]
        for classes, w in self._blocks_of_w():
            logits = self.current[:, classes]
            if classes.start == 0:
                np.matmul(logits, w, out=grad)
            else:
                grad += np.matmul(logits, w, out=self.added_grad[: len(self.x)])
        if self.sizes.copied_grad:
            self.grad_x[which] = grad

    def add_grad_bias(self) -> None:
        if len(self.grad_bias):
            self.grad_bias += np.ones(len(self.x), self.layer.dtype) @ self.current

    def add_grad_w(self, part: slice, first: bool) -> None:
        """Add the products of a block to the gradients of some classes; those of the first block begin the sums."""
        total = self.wide_grad[: part.stop - part.start] if self.sizes.wide_grad else self.grad_w
        logits = self.current[:, part].T
        if first:
            np.matmul(logits, self.x, out=total)
            return
        for some in _ranges(len(total), self.sizes.product):
            total[some] += np.matmul(logits[some], self.x, out=self.product[: some.stop - some.start])

    def put_grad_w(self, part: slice) -> None:
        if self.count == 0:
            self.grad_w[part] = 0
        elif self.sizes.wide_grad:
            self.grad_w[part] = self.wide_grad[: part.stop - part.start]
