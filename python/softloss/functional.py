"""The functions on arrays.

Lives here: signatures, defaults and documentation; each body is one call of ``_core``.

Must not: check, convert or compute anything. ``_core`` does that, in C++, and raises every error.

Rules that hold for all of them
-------------------------------
Arguments
    Anything that ``numpy.asarray`` takes, of any strides, byte order and alignment. Arrays are
    positional-only, options keyword-only. Complex, longdouble, object, string and masked arrays are refused
    with a TypeError.
dtype
    Work and results are in float32 or float64 as the input is. float16 and bfloat16 (of ml_dtypes) are
    computed in float32: transforms round the result once to the input's dtype, losses stay float32. Integers
    and bool compute in float64. ``dtype=`` asks for another dtype of the result.
axis
    The classes lie along one axis, the last by default; every other position is a row of its own.
out
    An ndarray of the exact shape and dtype of the result, which is returned. It may be the input itself. It does
    not fit, a ValueError, where it has another shape, is read-only, or overlaps itself or an argument in part. So
    with `grad_out` and `hess_out`.
Losses
    In nats (natural logarithm). ``reduction`` is "mean", "sum" or "none"; ``empty`` is the mean of no rows.
Scalars
    Results without dimensions are NumPy scalars.
Errors
    Raised before a byte is written; they name the argument, what came and what fits.
Bits
    For one input the result is the same at any number of threads and on every CPU that has FMA.

ULP is the unit in the last place of the result, against exact arithmetic. The bounds of gradients and Hessians hold
for weights up to 1, and for larger ones where no probability lies below the smallest normal number.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, overload

from softloss import _core

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray
    from typing_extensions import TypeVar

    Loss = TypeVar("Loss", bound=NDArray[Any] | np.floating[Any], default=Any)

__all__ = [
    "GradHess",
    "LossGrad",
    "TokenScores",
    "TopK",
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "binary_cross_entropy_with_logits_grad_hess",
    "categorical_cross_entropy",
    "categorical_cross_entropy_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "cross_entropy_grad_hess",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "softmax_topk",
    "token_logprobs",
]


if TYPE_CHECKING:

    class LossGrad(NamedTuple, Generic[Loss]):
        loss: Loss
        grad: NDArray[Any]

else:  # before Python 3.11 a named tuple cannot be generic; LossGrad[...] works, as it does for any tuple

    class LossGrad(NamedTuple):
        """A loss and its gradient with respect to the first argument.

        To type checkers it is generic: the loss of ``reduction="none"`` is an ndarray, any other a NumPy scalar.
        """

        loss: Any
        grad: NDArray[Any]


class GradHess(NamedTuple):
    """Gradient and diagonal of the Hessian of each row's loss."""

    grad: NDArray[Any]
    hess: NDArray[Any]


class TopK(NamedTuple):
    """The largest probabilities of each row, largest first, and their classes."""

    prob: NDArray[Any]
    index: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.index


class TokenScores(NamedTuple):
    """What `token_logprobs` tells of each row."""

    logprob: Any
    argmax: Any
    rank: Any
    entropy: Any
    top_logprob: NDArray[Any]
    top_index: NDArray[np.int64]


@_core.direct
def softmax(
    x: ArrayLike,
    /,
    axis: int = -1,
    *,
    where: ArrayLike | None = None,
    temperature: float = 1.0,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Probabilities of each row: positive numbers that sum to 1 along `axis`.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    axis : int, default -1
        Axis of the classes.
    where : array_like of bool, optional
        Broadcast to `x`; an element where it is False takes no part and gives 0.
    temperature : float, default 1.0
        Positive divisor of the logits: above 1 evens the probabilities out, below 1 sharpens them.
    out : ndarray, optional
        Receives the result; may be `x` itself.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray
        Shape of `x`; its dtype, float64 for integers and bool. A row masked whole is 0; a row that is all
        -inf, or holds +inf or NaN, is NaN.

    Raises
    ------
    TypeError
        `x` has a dtype that is refused, `where` is not boolean, or `out` is not an ndarray of the result's
        dtype.
    ValueError
        `axis` is out of range, `where` does not broadcast to `x`, `temperature` is not positive, or `out` does
        not fit.

    See Also
    --------
    log_softmax : its logarithm, without loss where the probability underflows.
    softloss.special.softmax : SciPy's signature.

    Notes
    -----
    ``softmax(x)[i] = exp(x[i] / T) / sum(exp(x / T))`` [1]_, with the temperature T of [2]_. Error: at most 2
    ULP in float32 and float64 where the result is a normal number.

    References
    ----------
    .. [1] J. S. Bridle, Probabilistic interpretation of feedforward classification network outputs,
       Neurocomputing (1990).
    .. [2] G. Hinton, O. Vinyals, J. Dean, Distilling the knowledge in a neural network, arXiv:1503.02531
       (2015).

    Examples
    --------
    >>> import softloss
    >>> softloss.softmax([2.0, 1.0, 0.1]).round(4)
    array([0.659 , 0.2424, 0.0986])
    >>> softloss.softmax([[1.0, 5.0], [1.0, 5.0]], axis=0)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    return _core.softmax(x, axis, where, temperature, out, dtype)


@_core.direct
def log_softmax(
    x: ArrayLike,
    /,
    axis: int = -1,
    *,
    where: ArrayLike | None = None,
    temperature: float = 1.0,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Logarithm of `softmax`, accurate for every probability from 1 down to far below underflow.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    axis : int, default -1
        Axis of the classes.
    where : array_like of bool, optional
        Broadcast to `x`; an element where it is False takes no part and gives -inf.
    temperature : float, default 1.0
        Positive divisor of the logits.
    out : ndarray, optional
        Receives the result; may be `x` itself.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray
        Shape of `x`; its dtype, float64 for integers and bool. A row masked whole is -inf; a row that is all
        -inf, or holds +inf or NaN, is NaN.

    Raises
    ------
    TypeError
        `x` has a dtype that is refused, `where` is not boolean, or `out` is not an ndarray of the result's
        dtype.
    ValueError
        `axis` is out of range, `where` does not broadcast to `x`, `temperature` is not positive, or `out` does
        not fit.

    See Also
    --------
    nll_loss : the loss on these values.
    cross_entropy : the same loss in one step.

    Notes
    -----
    ``log_softmax(x)[i] = x[i] / T - logsumexp(x / T)`` [1]_, computed as ``(x[i] - m) / T - log1p(s)`` with
    the row's maximum m and the sum s of the other exponentials, so that nothing cancels. Error: at most 2 ULP
    in float32 and float64, down to the smallest results.

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, Accurately computing the log-sum-exp and softmax
       functions, IMA J. Numer. Anal. 41 (2021), 2311-2330.

    Examples
    --------
    >>> import softloss
    >>> softloss.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return _core.log_softmax(x, axis, where, temperature, out, dtype)


@_core.direct
def logsumexp(
    x: ArrayLike,
    /,
    axis: int = -1,
    *,
    b: ArrayLike | None = None,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> Any:
    """Logarithm of the sum of the exponentials of each row, without overflow.

    Parameters
    ----------
    x : array_like
        Exponents, of any shape.
    axis : int, default -1
        Axis that is summed over.
    b : array_like, optional
        Factors of the exponentials, broadcast to `x`, of any sign. Where one is 0 the element of `x` does not
        matter.
    where : array_like of bool, optional
        Broadcast to `x`; an element where it is False takes no part.
    keepdims : bool, default False
        Keep `axis` with length 1.
    out : ndarray, optional
        Receives the result.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray or scalar
        Shape of `x` without `axis`; the dtype of `x`, float64 for integers and bool. -inf for a sum of
        nothing, NaN for a negative sum.

    Raises
    ------
    TypeError
        `x` or `b` has a dtype that is refused, `where` is not boolean, or `out` is not an ndarray of the
        result's dtype.
    ValueError
        `axis` is out of range, `b` or `where` does not broadcast to `x`, or `out` does not fit.

    See Also
    --------
    softloss.special.logsumexp : SciPy's signature, several axes and the sign of the sum.

    Notes
    -----
    ``logsumexp(x) = log(sum(b * exp(x)))``, computed as ``m + log1p(s)`` with the row's maximum m and the sum
    s of the other exponentials [1]_. Error without `b`: at most 2 ULP of the larger of the result and max(abs(x)).

    References
    ----------
    .. [1] P. Blanchard, D. J. Higham, N. J. Higham, Accurately computing the log-sum-exp and softmax
       functions, IMA J. Numer. Anal. 41 (2021), 2311-2330.

    Examples
    --------
    >>> import softloss
    >>> print(softloss.logsumexp([1000.0, 1000.0]).round(4))
    1000.6931
    >>> softloss.logsumexp([[0.0, 0.0], [1.0, 1.0]], keepdims=True).round(4)
    array([[0.6931],
           [1.6931]])
    """
    return _core.logsumexp(x, axis, b, where, keepdims, out, dtype)


@_core.direct
def sigmoid(x: ArrayLike, /, *, out: NDArray[Any] | None = None, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Logistic sigmoid of each element: the probability whose logit is `x`.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    out : ndarray, optional
        Receives the result; may be `x` itself.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray
        Shape of `x`; its dtype, float64 for integers and bool.

    Raises
    ------
    TypeError
        `x` has a dtype that is refused, or `out` is not an ndarray of the result's dtype.
    ValueError
        `out` does not fit.

    Notes
    -----
    ``sigmoid(x) = 1 / (1 + exp(-x))`` [1]_. Error: at most 2 ULP in float32 and float64 where the result is a
    normal number.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.59.

    Examples
    --------
    >>> import softloss
    >>> softloss.sigmoid([-1.0, 0.0, 1.0]).round(4)
    array([0.2689, 0.5   , 0.7311])
    """
    return _core.sigmoid(x, out, dtype)


@_core.direct
def log_sigmoid(x: ArrayLike, /, *, out: NDArray[Any] | None = None, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Logarithm of `sigmoid`, accurate where the probability is nearly 1 and where it underflows.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    out : ndarray, optional
        Receives the result; may be `x` itself.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray
        Shape of `x`; its dtype, float64 for integers and bool.

    Raises
    ------
    TypeError
        `x` has a dtype that is refused, or `out` is not an ndarray of the result's dtype.
    ValueError
        `out` does not fit.

    Notes
    -----
    ``log_sigmoid(x) = min(x, 0) - log1p(exp(-abs(x)))`` [1]_. Error: at most 2 ULP in float32 and float64.

    References
    ----------
    .. [1] Martin Maechler, Accurately computing log(1 - exp(-abs(a))), vignette of the R package Rmpfr (2012).

    Examples
    --------
    >>> import softloss
    >>> softloss.log_sigmoid([-1000.0, 0.0]).round(4)
    array([-1.000e+03, -6.931e-01])
    """
    return _core.log_sigmoid(x, out, dtype)


@_core.direct
def softmax_backward(
    y: ArrayLike, dy: ArrayLike, /, axis: int = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Gradient of `softmax`: from the gradient of what follows it, that of its input.

    Parameters
    ----------
    y : array_like
        The result of ``softmax(x, axis)``.
    dy : array_like
        Gradient with respect to `y`, of its shape.
    axis : int, default -1
        Axis of the classes.
    out : ndarray, optional
        Receives the result; may be `dy`.

    Returns
    -------
    ndarray
        Shape and dtype of `y`, float64 for integers.

    Raises
    ------
    TypeError
        A dtype is refused.
    ValueError
        Shapes differ, `axis` is out of range, or `out` does not fit.

    Notes
    -----
    ``dx = y * (dy - sum(y * dy))`` [1]_, the sum in double precision. Error: at most 3 ULP
    of ``y * max(abs(dy), abs(sum))``.

    References
    ----------
    .. [1] J. S. Bridle, Probabilistic interpretation of feedforward classification network outputs,
       Neurocomputing (1990).

    Examples
    --------
    >>> import softloss
    >>> y = softloss.softmax([0.0, 0.0])
    >>> softloss.softmax_backward(y, [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    return _core.softmax_backward(y, dy, axis, out)


@_core.direct
def log_softmax_backward(
    logy: ArrayLike, dy: ArrayLike, /, axis: int = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Gradient of `log_softmax`: from the gradient of what follows it, that of its input.

    Parameters
    ----------
    logy : array_like
        The result of ``log_softmax(x, axis)``.
    dy : array_like
        Gradient with respect to `logy`, of its shape.
    axis : int, default -1
        Axis of the classes.
    out : ndarray, optional
        Receives the result; may be `dy`.

    Returns
    -------
    ndarray
        Shape and dtype of `logy`, float64 for integers.

    Raises
    ------
    TypeError
        A dtype is refused.
    ValueError
        Shapes differ, `axis` is out of range, or `out` does not fit.

    Notes
    -----
    ``dx = dy - exp(logy) * sum(dy)`` [1]_, the sum in double precision. Error: at most 3 ULP of the
    larger term.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.109.

    Examples
    --------
    >>> import softloss
    >>> logy = softloss.log_softmax([0.0, 0.0])
    >>> softloss.log_softmax_backward(logy, [1.0, 0.0])
    array([ 0.5, -0.5])
    """
    return _core.log_softmax_backward(logy, dy, axis, out)


@overload
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    label_smoothing: float = ...,
    temperature: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> np.floating[Any]: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    label_smoothing: float = ...,
    temperature: float = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> NDArray[Any]: ...
@_core.direct
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Cross-entropy of the softmax of `logits` against `target`, in nats.

    Parameters
    ----------
    logits : array_like
        Scores before the softmax, of any shape, with the C classes along `axis`.
    target : array_like
        Class indices, of any integer dtype and the shape of `logits` without `axis`; or class probabilities,
        of a floating dtype and the shape of `logits`. bool is refused.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : array_like, optional
        Weight of each row, shape of `logits` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are left out; None leaves none out. Without effect on class probabilities.
    label_smoothing : float, default 0.0
        Share of the target, between 0 and 1, that is spread evenly over the classes [2]_.
    temperature : float, default 1.0
        Positive divisor of the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the sum of the weights: weight times sample_weight of each row's class for class
        indices, sample_weight alone for probabilities.
    empty : float, default nan
        The mean when there is nothing to average.
    dtype : dtype, optional
        float32 or float64, in which the loss is computed.

    Returns
    -------
    scalar or ndarray
        The reduced loss; for "none" the loss of each row, shape of `logits` without `axis`, 0 where ignored.
        The dtype of `logits`, float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither within 0..C-1 nor `ignore_index`; the message names the first and counts
        them.
    TypeError
        An argument has a dtype that is refused.
    ValueError
        Shapes do not fit (the message suggests ``axis=1`` when that would), `axis` is out of range,
        `reduction` is unknown, `label_smoothing` is outside [0, 1], `temperature` is not positive, or there
        are rows but no classes.

    See Also
    --------
    nll_loss : on log-probabilities.
    categorical_cross_entropy : on probabilities.

    Notes
    -----
    ``loss = sum_c w[c] * q[c] * -log_softmax(logits / T)[c]`` [1]_ with q the target (1 at the class index)
    after smoothing, ``(1 - e) * q + e / C``, and ``0 * inf = 0``. Defaults and formulas are those of
    ``torch.nn.functional.cross_entropy``. It is summed from terms that are all >= 0, so small losses are as
    accurate as large ones. Error: at most 2 ULP of each row's loss in float32 and float64; mean and sum, at
    most 1 ULP (float32) or 2 ULP (float64) of the sum of the row losses.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108.
    .. [2] C. Szegedy et al., Rethinking the Inception architecture for computer vision, arXiv:1512.00567
       (2015), section 7.

    Examples
    --------
    >>> import softloss
    >>> logits = [[0.1, 1.0, 2.1], [2.0, 1.0, 0.1], [0.1, 3.0, 0.1]]
    >>> print(softloss.cross_entropy(logits, [2, 0, 1]).round(4))
    0.3018
    >>> softloss.cross_entropy(logits, [2, 0, 1], reduction="none").round(4)
    array([0.384 , 0.417 , 0.1044])
    """
    return _core.cross_entropy(
        logits,
        target,
        axis,
        weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        temperature,
        reduction,
        empty,
        dtype,
    )


@overload
def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    label_smoothing: float = ...,
    temperature: float = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[np.floating[Any]]: ...
@overload
def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    label_smoothing: float = ...,
    temperature: float = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.direct_with, LossGrad)
def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`cross_entropy` and its gradient, in one pass over `logits`.

    Parameters
    ----------
    logits, target, axis, weight, sample_weight, ignore_index, label_smoothing, temperature, reduction, empty, dtype
        As in `cross_entropy`.
    grad_out : ndarray, optional
        Receives the gradient; may be `logits` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `cross_entropy` returns it. ``grad``, shape of `logits`: the derivative of the
        reduced loss, for "none" that of the sum of the losses; 0 where a row is ignored or there is nothing to
        average. Its dtype is `dtype`, by default that of `logits`, float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `cross_entropy`, and where `grad_out` does not fit.

    Notes
    -----
    For one row ``grad = f * (softmax(logits / T) - q) / T`` [1]_ with the target q and the row's share f of the
    reduced loss. Against class indices: at most 3 ULP of each element in float32 and float64, the label's
    included, however small the loss. Against class probabilities, and with label smoothing, the difference may
    cancel: at most 3 ULP of the larger of its terms.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4.

    Examples
    --------
    >>> import softloss
    >>> loss, grad = softloss.cross_entropy_and_grad([[2.0, 1.0, 0.1]], [0])
    >>> grad.round(4)
    array([[-0.341 ,  0.2424,  0.0986]])
    """
    return _core.cross_entropy_and_grad(
        logits,
        target,
        axis,
        weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        temperature,
        reduction,
        empty,
        dtype,
        grad_out,
        LossGrad,
    )


@partial(_core.direct_with, GradHess)
def cross_entropy_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    hess_scale: float = 1.0,
    hess_min: float = 0.0,
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> GradHess:
    """Gradient and diagonal Hessian of each row's cross-entropy: what gradient boosting asks of an objective.

    Parameters
    ----------
    logits, axis, weight, sample_weight, ignore_index
        As in `cross_entropy`.
    target : array_like
        Class indices, of any integer dtype and the shape of `logits` without `axis`.
    hess_scale : float, default 1.0
        Factor of the Hessian. XGBoost's own objective has 2.
    hess_min : float, default 0.0
        Least value of the Hessian. XGBoost's own objective has 1e-16.
    grad_out, hess_out : ndarray, optional
        Receive the results; `grad_out` may be `logits` itself.

    Returns
    -------
    GradHess
        ``grad`` and ``hess``, both of the shape and dtype of `logits`, float64 for integers and bool. An ignored
        row has the gradient 0 and the Hessian `hess_min`.

    Raises
    ------
    IndexError
        A class index is neither within 0..C-1 nor `ignore_index`.
    TypeError
        A dtype is refused; `target` holds no integers.
    ValueError
        Shapes do not fit, `axis` is out of range, or an output does not fit.

    Notes
    -----
    With p = softmax(logits) and w = weight * sample_weight of the row: ``grad = w * (p - one_hot)`` and
    ``hess = max(hess_scale * w * p * (1 - p), hess_min)`` [1]_, where 1 - p of a probability near 1 is the sum
    of the others. Error: at most 3 ULP (gradient) and 4 ULP (Hessian) of each element.

    References
    ----------
    .. [1] Tianqi Chen, Carlos Guestrin, XGBoost: a scalable tree boosting system, KDD (2016), section 2.2.

    Examples
    --------
    >>> import softloss
    >>> grad, hess = softloss.cross_entropy_grad_hess([[2.0, 1.0, 0.1]], [0])
    >>> hess.round(4)
    array([[0.2247, 0.1837, 0.0889]])
    """
    return _core.cross_entropy_grad_hess(
        logits, target, axis, weight, sample_weight, ignore_index, hess_scale, hess_min, grad_out, hess_out, GradHess
    )


@overload
def categorical_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> np.floating[Any]: ...
@overload
def categorical_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> NDArray[Any]: ...
@_core.direct
def categorical_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Cross-entropy of probabilities against `target`, in nats.

    Where there are logits, `cross_entropy` on them is more accurate.

    Parameters
    ----------
    probs : array_like
        Probabilities, of any shape, with the C classes along `axis`.
    target : array_like
        Class indices, of any integer dtype and the shape of `probs` without `axis`; or class probabilities
        (one-hot rows among them), of a floating dtype and the shape of `probs`. bool is refused.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : array_like, optional
        Weight of each row, shape of `probs` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are left out; None leaves none out. Without effect on class probabilities.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`.
    empty : float, default nan
        The mean when there is nothing to average.
    dtype : dtype, optional
        float32 or float64, in which the loss is computed.

    Returns
    -------
    scalar or ndarray
        The reduced loss; for "none" the loss of each row, shape of `probs` without `axis`, 0 where ignored.
        The dtype of `probs`, float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither within 0..C-1 nor `ignore_index`; the message names the first and counts
        them.
    TypeError
        An argument has a dtype that is refused.
    ValueError
        A probability is outside [0, 1], shapes do not fit, `axis` is out of range, `reduction` is unknown, or
        there are rows but no classes.

    See Also
    --------
    cross_entropy : on logits.
    nll_loss : on log-probabilities.

    Notes
    -----
    ``loss = sum_c w[c] * q[c] * -log(probs[c])`` [1]_ with q the target (1 at the class index) and ``0 * inf
    = 0``. Error of mean and sum: at most 1 ULP (float32) or 2 ULP (float64) of the sum of the row losses.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108.

    Examples
    --------
    >>> import softloss
    >>> print(softloss.categorical_cross_entropy([[0.7, 0.2, 0.1]], [[1.0, 0.0, 0.0]]).round(4))
    0.3567
    >>> print(softloss.categorical_cross_entropy([[0.1, 0.3, 0.6]], [0]).round(4))
    2.3026
    """
    return _core.categorical_cross_entropy(
        probs, target, axis, weight, sample_weight, ignore_index, reduction, empty, dtype
    )


@overload
def categorical_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[np.floating[Any]]: ...
@overload
def categorical_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.direct_with, LossGrad)
def categorical_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`categorical_cross_entropy` and its gradient, in one pass over `probs`.

    Parameters
    ----------
    probs, target, axis, weight, sample_weight, ignore_index, reduction, empty, dtype
        As in `categorical_cross_entropy`.
    grad_out : ndarray, optional
        Receives the gradient; may be `probs` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `categorical_cross_entropy` returns it. ``grad``, shape of `probs`: the derivative of the
        reduced loss, for "none" that of the sum of the losses; 0 where a row is ignored or there is nothing to
        average. Its dtype is `dtype`, by default that of `probs`, float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `categorical_cross_entropy`, and where `grad_out` does not fit.

    Notes
    -----
    For one row ``grad = -f * q / probs`` [1]_ with the target q and the row's share f of the reduced loss; 0
    where q is 0.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4.

    Examples
    --------
    >>> import softloss
    >>> softloss.categorical_cross_entropy_and_grad([[0.5, 0.25, 0.25]], [0]).grad
    array([[-2.,  0.,  0.]])
    """
    return _core.categorical_cross_entropy_and_grad(
        probs, target, axis, weight, sample_weight, ignore_index, reduction, empty, dtype, grad_out, LossGrad
    )


@overload
def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> np.floating[Any]: ...
@overload
def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> NDArray[Any]: ...
@_core.direct
def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Negative log-likelihood of `target` under log-probabilities such as `log_softmax` gives, in nats.

    Parameters
    ----------
    log_probs : array_like
        Log-probabilities, of any shape, with the C classes along `axis`.
    target : array_like
        Class indices, of any integer dtype and the shape of `log_probs` without `axis`; or class
        probabilities, of a floating dtype and the shape of `log_probs`. bool is refused.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : array_like, optional
        Weight of each row, shape of `log_probs` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are left out; None leaves none out. Without effect on class probabilities.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`.
    empty : float, default nan
        The mean when there is nothing to average.
    dtype : dtype, optional
        float32 or float64, in which the loss is computed.

    Returns
    -------
    scalar or ndarray
        The reduced loss; for "none" the loss of each row, shape of `log_probs` without `axis`, 0 where
        ignored. The dtype of `log_probs`, float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither within 0..C-1 nor `ignore_index`; the message names the first and counts
        them.
    TypeError
        An argument has a dtype that is refused.
    ValueError
        Shapes do not fit, `axis` is out of range, `reduction` is unknown, or there are rows but no classes.

    See Also
    --------
    cross_entropy : on logits, in one pass.

    Notes
    -----
    ``loss = sum_c w[c] * q[c] * -log_probs[c]`` [1]_ with q the target (1 at the class index) and ``0 * inf =
    0``. Error of mean and sum: at most 1 ULP (float32) or 2 ULP (float64) of the sum of the row losses.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.108.

    Examples
    --------
    >>> import softloss
    >>> log_probs = softloss.log_softmax([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]])
    >>> softloss.nll_loss(log_probs, [0, 0], reduction="none").round(4)
    array([0.417 , 1.8406])
    """
    return _core.nll_loss(log_probs, target, axis, weight, sample_weight, ignore_index, reduction, empty, dtype)


@overload
def nll_loss_and_grad(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[np.floating[Any]]: ...
@overload
def nll_loss_and_grad(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = ...,
    weight: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    ignore_index: int | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.direct_with, LossGrad)
def nll_loss_and_grad(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`nll_loss` and its gradient, in one pass over `log_probs`.

    Parameters
    ----------
    log_probs, target, axis, weight, sample_weight, ignore_index, reduction, empty, dtype
        As in `nll_loss`.
    grad_out : ndarray, optional
        Receives the gradient; may be `log_probs` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `nll_loss` returns it. ``grad``, shape of `log_probs`: the derivative of the
        reduced loss, for "none" that of the sum of the losses; 0 where a row is ignored or there is nothing to
        average. Its dtype is `dtype`, by default that of `log_probs`, float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `nll_loss`, and where `grad_out` does not fit.

    Notes
    -----
    For one row ``grad = -f * q`` [1]_ with the target q and the row's share f of the reduced loss.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.4.

    Examples
    --------
    >>> import softloss
    >>> loss, grad = softloss.nll_loss_and_grad([[-0.5, -1.0], [-2.0, -0.1]], [0, 1])
    >>> grad.sum(axis=-1)
    array([-0.5, -0.5])
    """
    return _core.nll_loss_and_grad(
        log_probs,
        target,
        axis,
        weight,
        sample_weight,
        ignore_index,
        reduction,
        empty,
        dtype,
        grad_out,
        LossGrad,
    )


@overload
def binary_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> np.floating[Any]: ...
@overload
def binary_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> NDArray[Any]: ...
@_core.direct
def binary_cross_entropy(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Binary cross-entropy of probabilities, in nats.

    Where there are logits, `binary_cross_entropy_with_logits` on them is more accurate.

    Parameters
    ----------
    probs : array_like
        Probabilities of class 1, of any shape.
    target : array_like
        0 and 1, or values between, of any dtype that is not refused (bool too); broadcast to `probs`.
    weight : array_like, optional
        Weight of each element, broadcast to `probs`.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the number of elements, whatever their weights.
    empty : float, default nan
        The mean when there is nothing to average.
    dtype : dtype, optional
        float32 or float64, in which the loss is computed.

    Returns
    -------
    scalar or ndarray
        The reduced loss; for "none" the loss of each element, shape of `probs`. The dtype of `probs`, float32
        for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has a dtype that is refused.
    ValueError
        `probs` or `target` is outside [0, 1] (the message names the place), shapes do not broadcast, or
        `reduction` is unknown.

    Notes
    -----
    ``loss = -w * (t * log(p) + (1 - t) * log(1 - p))`` [1]_, each logarithm not less than -100 as in
    ``torch.nn.functional.binary_cross_entropy``. Error: at most 2 ULP of each element's loss; mean and sum, at most
    1 ULP (float32) or 2 ULP (float64) of the sum of the elements' losses.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.90.

    Examples
    --------
    >>> import softloss
    >>> softloss.binary_cross_entropy([0.9, 0.2], [1, 0], reduction="none").round(4)
    array([0.1054, 0.2231])
    """
    return _core.binary_cross_entropy(probs, target, weight, reduction, empty, dtype)


@overload
def binary_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[np.floating[Any]]: ...
@overload
def binary_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.direct_with, LossGrad)
def binary_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`binary_cross_entropy` and its gradient, in one pass over `probs`.

    Parameters
    ----------
    probs, target, weight, reduction, empty, dtype
        As in `binary_cross_entropy`.
    grad_out : ndarray, optional
        Receives the gradient; may be `probs` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `binary_cross_entropy` returns it. ``grad``, shape of `probs`: the
        derivative of the reduced loss, for "none" that of the sum of the losses. Its dtype is `dtype`, by
        default that of `probs`, float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy`, and where `grad_out` does not fit.

    Notes
    -----
    ``grad = f * w * (p - t) / (p * (1 - p))`` [1]_ with the element's share f of the reduced loss; the
    denominator is at least 1e-12, as in PyTorch.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.91.

    Examples
    --------
    >>> import softloss
    >>> softloss.binary_cross_entropy_and_grad([0.5, 0.25], [1, 0], reduction="sum").grad.round(4)
    array([-2.    ,  1.3333])
    """
    return _core.binary_cross_entropy_and_grad(probs, target, weight, reduction, empty, dtype, grad_out, LossGrad)


@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    pos_weight: ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> np.floating[Any]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    pos_weight: ArrayLike | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
) -> NDArray[Any]: ...
@_core.direct
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Binary cross-entropy of the sigmoid of `logits`, in nats.

    Parameters
    ----------
    logits : array_like
        Scores before the sigmoid, of any shape.
    target : array_like
        0 and 1, or values between, of any dtype that is not refused (bool too); broadcast to `logits`.
    weight : array_like, optional
        Weight of each element, broadcast to `logits`.
    pos_weight : array_like, optional
        Weight of the positive part of each element, broadcast to `logits`: above 1 favours recall, below 1
        precision.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the number of elements, whatever their weights.
    empty : float, default nan
        The mean when there is nothing to average.
    dtype : dtype, optional
        float32 or float64, in which the loss is computed.

    Returns
    -------
    scalar or ndarray
        The reduced loss; for "none" the loss of each element, shape of `logits`. The dtype of `logits`,
        float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has a dtype that is refused.
    ValueError
        `target` is outside [0, 1] (the message names the place), shapes do not broadcast, or `reduction` is
        unknown.

    Notes
    -----
    ``loss = -w * (v * t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))`` [1]_ with the pos_weight v. A logit
    of +-inf gives the limit: a product of 0 and inf is 0. Error: at most 2 ULP of each element's loss in
    float32 and float64; mean and sum, at most 1 ULP (float32) or 2 ULP (float64) of the sum of the elements'
    losses.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equations 4.59 and 4.90.

    Examples
    --------
    >>> import softloss
    >>> softloss.binary_cross_entropy_with_logits([0.0, 100.0], [1, 0], reduction="none").round(4)
    array([  0.6931, 100.    ])
    """
    return _core.binary_cross_entropy_with_logits(logits, target, weight, pos_weight, reduction, empty, dtype)


@overload
def binary_cross_entropy_with_logits_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    pos_weight: ArrayLike | None = ...,
    reduction: Literal["mean", "sum"] = ...,
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[np.floating[Any]]: ...
@overload
def binary_cross_entropy_with_logits_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = ...,
    pos_weight: ArrayLike | None = ...,
    reduction: Literal["none"],
    empty: float = ...,
    dtype: DTypeLike | None = ...,
    grad_out: NDArray[Any] | None = ...,
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.direct_with, LossGrad)
def binary_cross_entropy_with_logits_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`binary_cross_entropy_with_logits` and its gradient, in one pass over `logits`.

    Parameters
    ----------
    logits, target, weight, pos_weight, reduction, empty, dtype
        As in `binary_cross_entropy_with_logits`.
    grad_out : ndarray, optional
        Receives the gradient; may be `logits` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `binary_cross_entropy_with_logits` returns it. ``grad``, shape of `logits`: the
        derivative of the reduced loss, for "none" that of the sum of the losses. Its dtype is `dtype`, by
        default that of `logits`, float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy_with_logits`, and where `grad_out` does not fit.

    Notes
    -----
    ``grad = f * w * ((1 - t) * sigmoid(x) - v * t * sigmoid(-x))`` [1]_ with the pos_weight v and the element's
    share f of the reduced loss. Error: at most 3 ULP of each element for targets 0 and 1, of the larger term for
    targets between.

    References
    ----------
    .. [1] Christopher M. Bishop, Pattern Recognition and Machine Learning (2006), equation 4.91.

    Examples
    --------
    >>> import softloss
    >>> softloss.binary_cross_entropy_with_logits_and_grad([0.0, 0.0], [1, 0], reduction="sum").grad
    array([-0.5,  0.5])
    """
    return _core.binary_cross_entropy_with_logits_and_grad(
        logits, target, weight, pos_weight, reduction, empty, dtype, grad_out, LossGrad
    )


@partial(_core.direct_with, GradHess)
def binary_cross_entropy_with_logits_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    hess_scale: float = 1.0,
    hess_min: float = 0.0,
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> GradHess:
    """Gradient and second derivative of each element's loss: what gradient boosting asks of an objective.

    Parameters
    ----------
    logits, target, weight, pos_weight
        As in `binary_cross_entropy_with_logits`.
    hess_scale : float, default 1.0
        Factor of the second derivative.
    hess_min : float, default 0.0
        Its least value. XGBoost's own objective has 1e-16.
    grad_out, hess_out : ndarray, optional
        Receive the results; `grad_out` may be `logits` itself.

    Returns
    -------
    GradHess
        ``grad`` and ``hess``, both of the shape and dtype of `logits`, float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy_with_logits`, and where an output does not fit.

    Notes
    -----
    With s = sigmoid(logits): ``grad = w * ((1 - t) * s - v * t * (1 - s))`` and
    ``hess = max(hess_scale * w * (v * t + 1 - t) * s * (1 - s), hess_min)`` [1]_ with the pos_weight v.

    References
    ----------
    .. [1] Tianqi Chen, Carlos Guestrin, XGBoost: a scalable tree boosting system, KDD (2016), section 2.2.

    Examples
    --------
    >>> import softloss
    >>> softloss.binary_cross_entropy_with_logits_grad_hess([0.0], [1]).hess
    array([0.25])
    """
    return _core.binary_cross_entropy_with_logits_grad_hess(
        logits, target, weight, pos_weight, hess_scale, hess_min, grad_out, hess_out, GradHess
    )


@partial(_core.direct_with, TopK)
def softmax_topk(x: ArrayLike, /, k: int = 1, axis: int = -1, *, temperature: float = 1.0) -> TopK:
    """The `k` largest probabilities of each row and their classes, without the other probabilities.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    k : int, default 1
        How many, from 1 to the number of classes.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive divisor of the logits.

    Returns
    -------
    TopK
        ``prob``, largest first, in the dtype of `x` (float64 for integers and bool), and ``index``, int64; both of
        the shape of `x` with `k` along `axis`. Of equal logits the one with the smaller index comes first.

    Raises
    ------
    TypeError
        `x` has a dtype that is refused.
    ValueError
        `k` is not within 1..C, `axis` is out of range, or `temperature` is not positive.

    Notes
    -----
    The same bits as ``softmax(x)`` at these places [1]_: at most 2 ULP. `x` is read once, and nothing of its size
    is allocated.

    References
    ----------
    .. [1] J. S. Bridle, Probabilistic interpretation of feedforward classification network outputs,
       Neurocomputing (1990).

    Examples
    --------
    >>> import softloss
    >>> prob, index = softloss.softmax_topk([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], 2)
    >>> index
    array([[0, 1],
           [1, 0]])
    """
    return _core.softmax_topk(x, k, axis, temperature, TopK)


@partial(_core.direct_with, TokenScores)
def token_logprobs(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    top_k: int = 0,
    temperature: float = 1.0,
    ignore_index: int | None = -100,
) -> TokenScores:
    """Scores of the tokens of a text under a language model's logits, in one read of the logits.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, the vocabulary along `axis`.
    target : array_like
        The token at each position: class indices, of any integer dtype and the shape of `logits` without `axis`.
    axis : int, default -1
        Axis of the vocabulary.
    top_k : int, default 0
        How many of the likeliest tokens to return.
    temperature : float, default 1.0
        Positive divisor of the logits.
    ignore_index : int or None, default -100
        Positions with this token have the log-probability 0 and the rank 0; None ignores none.

    Returns
    -------
    TokenScores
        ``logprob`` of the target, in nats; ``argmax``, the likeliest token; ``rank`` of the target, 1 for the
        likeliest; ``entropy`` of the distribution, in nats; ``top_logprob`` and ``top_index``, with `top_k` along
        their last axis, likeliest first. All but the last two have the shape of `target`. float32 for float16,
        bfloat16 and float32, else float64; tokens and ranks are int64.

    Raises
    ------
    IndexError
        A target is neither within 0..C-1 nor `ignore_index`.
    TypeError
        A dtype is refused; `target` holds no integers.
    ValueError
        Shapes do not fit, `axis` is out of range, `top_k` is not within 0..C, or `temperature` is not positive.

    Notes
    -----
    ``logprob = log_softmax(logits / T)[target]``: at most 2 ULP. ``entropy = -sum(p * log(p))`` [1]_, summed from
    terms that are all >= 0. The perplexity of a text is ``exp(-logprob.mean())``.

    References
    ----------
    .. [1] C. E. Shannon, A mathematical theory of communication, Bell System Technical Journal (1948).

    Examples
    --------
    >>> import softloss
    >>> scores = softloss.token_logprobs([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], [1, 1])
    >>> scores.rank
    array([2, 1])
    >>> scores.logprob.round(4)
    array([-1.417 , -0.3406])
    """
    return _core.token_logprobs(logits, target, axis, top_k, temperature, ignore_index, TokenScores)
