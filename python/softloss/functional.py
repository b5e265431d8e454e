"""The functions on arrays.

Lives here: signatures, defaults and documentation; each body is one call of ``_core``.

Must not: check, convert or compute anything. ``_core`` does that, in C++, and raises every error.

Rules for all functions
-----------------------
Arguments
    Anything that ``numpy.asarray`` accepts, with any strides, byte order and alignment. Arrays are positional-only,
    options are keyword-only. Complex, longdouble, object, string and masked arrays raise a TypeError.
dtype
    float32 input is computed in float32 and gives float32; float64 likewise. float16 and bfloat16 (of ml_dtypes)
    are computed in float32: a transform rounds its result once to the dtype of the input, a loss stays float32.
    Integers and bool are computed in float64. ``dtype=`` sets another dtype of the result.
axis
    The classes are along one axis, by default the last. The elements along this axis form a *row*.
out
    An ndarray with the shape and dtype of the result; it is filled and returned. It may be the input itself. A wrong
    shape, a read-only array, and an array that overlaps itself or part of an argument raise a ValueError. The same
    holds for `grad_out` and `hess_out`.
Losses
    In nats (natural logarithm). ``reduction`` is "mean", "sum" or "none"; ``empty`` is the value of the mean if there
    are no rows.
Scalars
    Results without dimensions are NumPy scalars.
Errors
    They are raised before anything is written. They name the argument, its value, and what is valid.
Bits
    The same input gives the same bits with any number of threads and on every CPU that has FMA.

Errors of results are given in ULP, the unit in the last place of the result, against exact arithmetic. The bounds of
gradients and Hessians hold for weights up to 1. They also hold for larger weights if no probability is below the
smallest normal number.
"""

from __future__ import annotations

from functools import partial
from math import nan
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, overload

from softloss import _core

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray
    from typing_extensions import TypedDict, TypeVar, Unpack

    Loss = TypeVar("Loss", bound=NDArray[Any] | np.floating[Any], default=Any)

    class BinaryOptions(TypedDict, total=False):
        """Options of every loss, without `reduction`, which decides the type of the result."""

        weight: ArrayLike | None
        empty: float
        dtype: DTypeLike | None

    class BinaryLogitsOptions(BinaryOptions, total=False):
        pos_weight: ArrayLike | None

    class ClassOptions(BinaryOptions, total=False):
        axis: int
        sample_weight: ArrayLike | None
        ignore_index: int | None

    class LogitsOptions(ClassOptions, total=False):
        label_smoothing: float
        temperature: float

    class DivergenceOptions(TypedDict, total=False):
        axis: int
        sample_weight: ArrayLike | None
        temperature: float
        empty: float
        dtype: DTypeLike | None

    class BrierOptions(TypedDict, total=False):
        axis: int
        temperature: float
        sample_weight: ArrayLike | None
        ignore_index: int | None
        empty: float

    class FocalOptions(ClassOptions, total=False):
        gamma: float

    class BinaryFocalOptions(BinaryOptions, total=False):
        alpha: float | None
        gamma: float


__all__ = [
    "GradHess",
    "LogNormalized",
    "LossGrad",
    "Sample",
    "TemperatureFit",
    "TokenScores",
    "TopK",
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "binary_cross_entropy_with_logits_grad_hess",
    "brier_score",
    "calibration_error",
    "categorical_cross_entropy",
    "categorical_cross_entropy_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "cross_entropy_grad_hess",
    "fit_temperature",
    "js_divergence",
    "kl_divergence",
    "kl_divergence_and_grad",
    "log_normalize",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "sample",
    "sigmoid",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_and_grad",
    "sigmoid_focal_loss_grad_hess",
    "softmax",
    "softmax_backward",
    "softmax_entropy",
    "softmax_focal_loss",
    "softmax_focal_loss_and_grad",
    "softmax_focal_loss_grad_hess",
    "softmax_topk",
    "token_logprobs",
]


if TYPE_CHECKING:

    class LossGrad(NamedTuple, Generic[Loss]):
        loss: Loss
        grad: NDArray[Any]

else:  # before Python 3.11 a named tuple cannot be generic, but LossGrad[...] works at run time

    class LossGrad(NamedTuple):
        """A loss and its gradient with respect to the first argument.

        For type checkers it is generic: with ``reduction="none"`` the loss is an ndarray, otherwise a NumPy scalar.
        """

        loss: Any
        grad: NDArray[Any]


class GradHess(NamedTuple):
    """Gradient and diagonal of the Hessian of each row's loss."""

    grad: NDArray[Any]
    hess: NDArray[Any]


class LogNormalized(NamedTuple):
    """Logarithms of probabilities, and the logarithm of each row's normaliser."""

    log_prob: NDArray[Any]
    logsumexp: Any


class TemperatureFit(NamedTuple):
    """The temperature with the smallest mean cross-entropy, and that cross-entropy."""

    temperature: np.float64
    loss: np.float64


class TopK(NamedTuple):
    """The largest probabilities of each row, largest first, and their classes."""

    prob: NDArray[Any]
    index: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.index


class Sample(NamedTuple):
    """A class drawn from each row, and its log-probability."""

    index: Any
    logprob: Any


class TokenScores(NamedTuple):
    """The results of `token_logprobs`, one per row."""

    logprob: Any
    argmax: Any
    rank: Any
    entropy: Any
    top_logprob: NDArray[Any]
    top_index: NDArray[np.int64]


@_core.frameless
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
    """Softmax: the probabilities of each row, which are positive and sum to 1 along `axis`.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    axis : int, default -1
        Axis of the classes.
    where : array_like of bool, optional
        Mask, broadcast to `x`. An element where it is False is excluded; its result is 0.
    temperature : float, default 1.0
        Positive number that divides the logits. A value above 1 makes the probabilities more even, a value below 1 more
        extreme.
    out : ndarray, optional
        Receives the result; may be `x` itself.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray
        Shape and dtype of `x`; float64 for integers and bool. A fully masked row gives 0. A row with +inf or NaN, or
        with nothing but -inf, gives NaN.

    Raises
    ------
    TypeError
        `x` has an unsupported dtype, `where` is not boolean, or `out` is not an ndarray of the result's
        dtype.
    ValueError
        `axis` is out of range, `where` does not broadcast to `x`, `temperature` is not positive, or `out` does
        not fit.

    See Also
    --------
    log_softmax : the logarithm, which stays accurate if a probability underflows.
    softloss.special.softmax : with SciPy's signature.

    Notes
    -----
    ``softmax(x)[i] = exp(x[i] / T) / sum(exp(x / T))`` [1]_, with the temperature T of [2]_. Error: at most 2
    ULP in float32 and float64 if the result is a normal number.

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


@_core.frameless
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
    """Logarithm of `softmax`, accurate for all probabilities, also near 1 or so small that `softmax` returns 0.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    axis : int, default -1
        Axis of the classes.
    where : array_like of bool, optional
        Mask, broadcast to `x`. An element where it is False is excluded; its result is -inf.
    temperature : float, default 1.0
        Positive number that divides the logits.
    out : ndarray, optional
        Receives the result; may be `x` itself.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray
        Shape and dtype of `x`; float64 for integers and bool. A fully masked row gives -inf. A row with +inf or NaN,
        or with nothing but -inf, gives NaN.

    Raises
    ------
    TypeError
        `x` has an unsupported dtype, `where` is not boolean, or `out` is not an ndarray of the result's
        dtype.
    ValueError
        `axis` is out of range, `where` does not broadcast to `x`, `temperature` is not positive, or `out` does
        not fit.

    See Also
    --------
    nll_loss : the loss of log-probabilities.
    cross_entropy : the same loss from logits, in one step.

    Notes
    -----
    ``log_softmax(x)[i] = x[i] / T - logsumexp(x / T)`` [1]_, computed as ``(x[i] - m) / T - log1p(s)`` with
    the maximum m of the row and the sum s of the other ``exp((x - m) / T)``, so that nothing cancels. Error: at most
    2 ULP in float32 and float64, also for the smallest results.

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


@_core.frameless
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
        Exponents of any shape.
    axis : int, default -1
        Axis to sum over.
    b : array_like, optional
        Factors of the exponentials, of any sign, broadcast to `x`. If a factor is 0, its element of `x` is ignored.
    where : array_like of bool, optional
        Mask, broadcast to `x`. An element where it is False is excluded.
    keepdims : bool, default False
        Keep `axis` with length 1.
    out : ndarray, optional
        Receives the result.
    dtype : dtype, optional
        dtype of the result.

    Returns
    -------
    ndarray or scalar
        Shape of `x` without `axis`, dtype of `x`; float64 for integers and bool. An empty sum gives -inf, a negative
        sum NaN.

    Raises
    ------
    TypeError
        `x` or `b` has an unsupported dtype, `where` is not boolean, or `out` is not an ndarray of the
        result's dtype.
    ValueError
        `axis` is out of range, `b` or `where` does not broadcast to `x`, or `out` does not fit.

    See Also
    --------
    softloss.special.logsumexp : with SciPy's signature, several axes and the sign of the sum.

    Notes
    -----
    ``logsumexp(x) = log(sum(b * exp(x)))``, computed as ``m + log1p(s)`` with the maximum m of the row and
    the sum s of the other ``exp(x - m)`` [1]_. Error without `b`: at most 2 ULP of the larger of the result and
    max(abs(x)).

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


@partial(_core.frameless_with, LogNormalized)
def log_normalize(
    x: ArrayLike, /, axis: int = -1, *, out: NDArray[Any] | None = None, dtype: DTypeLike | None = None
) -> LogNormalized:
    """Normalise the logarithms of weights: `log_softmax` and `logsumexp` in one pass.

    Parameters
    ----------
    x : array_like
        Logarithms of weights, of any shape.
    axis : int, default -1
        Axis along which the exponentials of the result sum to 1.
    out : ndarray, optional
        Receives the logarithms of the probabilities; may be `x` itself.
    dtype : dtype, optional
        Dtype of both results: float16, bfloat16, float32 or float64.

    Returns
    -------
    LogNormalized
        ``log_prob = x - logsumexp``, in the shape of `x`, and ``logsumexp``, in that shape without `axis`. Dtype: that
        of `x`, or float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        `axis` is out of range, or `out` does not fit.

    See Also
    --------
    log_softmax, logsumexp : the two results, with the same bits.

    Notes
    -----
    Mixture models: `x` holds the log-prior plus the log-likelihood of each component. ``log_prob`` is then the
    logarithm of the responsibilities, and the sum of ``logsumexp`` is the log-likelihood. Importance sampling:
    ``exp(log_prob)`` are the normalised weights, and ``logsumexp - log(n)`` is the logarithm of the evidence.

    Examples
    --------
    >>> import softloss
    >>> log_prob, total = softloss.log_normalize([[-1050.0, -1051.0], [-990.0, -993.0]])
    >>> log_prob.round(4)
    array([[-0.3133, -1.3133],
           [-0.0486, -3.0486]])
    >>> total.round(4)
    array([-1049.6867,  -989.9514])
    """
    return _core.log_normalize(x, axis, out, dtype, LogNormalized)


@_core.frameless
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
        Shape and dtype of `x`; float64 for integers and bool.

    Raises
    ------
    TypeError
        `x` has an unsupported dtype, or `out` is not an ndarray of the result's dtype.
    ValueError
        `out` does not fit.

    Notes
    -----
    ``sigmoid(x) = 1 / (1 + exp(-x))`` [1]_. Error: at most 2 ULP in float32 and float64 if the result is a
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


@_core.frameless
def log_sigmoid(x: ArrayLike, /, *, out: NDArray[Any] | None = None, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Logarithm of `sigmoid`, accurate also if the probability is nearly 1 or underflows.

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
        Shape and dtype of `x`; float64 for integers and bool.

    Raises
    ------
    TypeError
        `x` has an unsupported dtype, or `out` is not an ndarray of the result's dtype.
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


@_core.frameless
def softmax_backward(
    y: ArrayLike, dy: ArrayLike, /, axis: int = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Gradient with respect to the input of `softmax`, given the gradient with respect to its result.

    Parameters
    ----------
    y : array_like
        The result of ``softmax(x, axis)``.
    dy : array_like
        Gradient with respect to `y`; same shape.
    axis : int, default -1
        Axis of the classes.
    out : ndarray, optional
        Receives the result; may be `y` or `dy`.

    Returns
    -------
    ndarray
        Shape and dtype of `y`; float64 for integers.

    Raises
    ------
    TypeError
        A dtype is not supported.
    ValueError
        Shapes differ, `axis` is out of range, or `out` does not fit.

    Notes
    -----
    ``dx = y * (dy - sum(y * dy))`` [1]_. It is computed as ``y * ((dy - dy[m]) + a)`` with
    ``a = sum(y * (dy[m] - dy))``, so that no component is lost. Here m is the class with the largest `y`, the first one
    if several are equal. This form treats `y` as if its sum were exactly 1. Error: at most 3 ULP of the sum of the
    absolute terms of this form. A NaN in a row of either argument makes that row NaN. So does an infinity in `dy`, if
    two infinities are subtracted.

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
    >>> softloss.softmax_backward(softloss.softmax([37.43, 0.0]), [1.0, 0.0])  # the first is not 0
    array([ 5.55082...e-17, -5.55082...e-17])
    """
    return _core.softmax_backward(y, dy, axis, out)


@_core.frameless
def log_softmax_backward(
    logy: ArrayLike, dy: ArrayLike, /, axis: int = -1, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Gradient with respect to the input of `log_softmax`, given the gradient with respect to its result.

    Parameters
    ----------
    logy : array_like
        The result of ``log_softmax(x, axis)``.
    dy : array_like
        Gradient with respect to `logy`; same shape.
    axis : int, default -1
        Axis of the classes.
    out : ndarray, optional
        Receives the result; may be `logy` or `dy`.

    Returns
    -------
    ndarray
        Shape and dtype of `logy`; float64 for integers.

    Raises
    ------
    TypeError
        A dtype is not supported.
    ValueError
        Shapes differ, `axis` is out of range, or `out` does not fit.

    Notes
    -----
    ``dx = dy - p * sum(dy)`` with ``p = exp(logy)`` [1]_. At the largest class m (the first one if several are equal),
    this would be a difference of two numbers near ``dy``. There, ``dy[m] * sum(p[j]) - p[m] * sum(dy[j])`` is computed
    instead, with sums over all other classes j. Error: at most 3 ULP of the sum of the absolute terms. A NaN in a row
    of either argument makes that row NaN. So does an infinity in `dy`, if two infinities are subtracted.

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
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[LogitsOptions],
) -> np.floating[Any]: ...
@overload
def cross_entropy(
    logits: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[LogitsOptions]
) -> NDArray[Any]: ...
@_core.frameless
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
    """Cross-entropy between the softmax of `logits` and `target`, in nats.

    Parameters
    ----------
    logits : array_like
        Scores before the softmax, of any shape, with C classes along `axis`.
    target : array_like
        Class indices (any integer dtype, shape of `logits` without `axis`), or class probabilities (any floating
        dtype, shape of `logits`). bool raises a TypeError.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : array_like, optional
        Weight of each row, shape of `logits` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are ignored; None ignores no row. It has no effect on class probabilities.
    label_smoothing : float, default 0.0
        Fraction of the target, from 0 to 1, that is spread evenly over the classes [2]_.
    temperature : float, default 1.0
        Positive number that divides the logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is the weighted sum of the losses, divided by the sum of the row weights. For class indices, the weight
        of a row is ``sample_weight * weight[target]``; for class probabilities, it is `sample_weight`.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the loss is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each row, in the shape of `logits` without `axis`; 0 for ignored
        rows. The dtype is that of `logits`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither between 0 and C - 1 nor `ignore_index`. The message names the first such index
        and counts them.
    TypeError
        An argument has an unsupported dtype.
    ValueError
        Shapes do not fit (the message suggests ``axis=1`` if that fits), `axis` is out of range,
        `reduction` is unknown, `label_smoothing` is outside [0, 1], `temperature` is not positive, or there
        are rows but no classes.

    See Also
    --------
    nll_loss : the loss of log-probabilities.
    categorical_cross_entropy : the loss of probabilities.

    Notes
    -----
    ``loss = sum_c w[c] * q[c] * -log_softmax(logits / T)[c]`` [1]_ with the class weights w and the target q.
    A class index means q = 1 at that class and 0 elsewhere. Label smoothing e replaces q by ``(1 - e) * q + e / C``.
    ``0 * inf`` counts as 0. Defaults and formulas are those of ``torch.nn.functional.cross_entropy``. All terms of the
    sum are >= 0, so small losses are as accurate as large ones. Error: at most 2 ULP of the loss of each row in
    float32 and float64; for mean and sum, at most 1 ULP (float32) or 2 ULP (float64) of the sum of the losses.

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
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[LogitsOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def cross_entropy_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[LogitsOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
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
        ``loss`` as `cross_entropy` returns it. ``grad``, in the shape of `logits`, is the derivative of the
        reduced loss or, for "none", of the sum of the losses. It is 0 for ignored rows, and everywhere if there is
        nothing to average. Its dtype is `dtype`, or else that of `logits`; float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `cross_entropy`; also if `grad_out` does not fit.

    Notes
    -----
    For one row, ``grad = f * (softmax(logits / T) - q) / T`` [1]_, with the target q and the derivative f
    of the reduced loss with respect to the loss of the row. Error for class indices: at most 3 ULP of each element in
    float32 and float64, also at the label, however small the loss. With class probabilities or label smoothing the
    difference may cancel; the error is then at most 3 ULP of the larger of its two terms.

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


@partial(_core.frameless_with, GradHess)
def cross_entropy_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    hess_scale: float = 1.0,
    hess_min: float = 0.0,
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> GradHess:
    """Gradient and diagonal Hessian of the cross-entropy of each row, as gradient boosting needs them.

    Parameters
    ----------
    logits, target, axis, weight, sample_weight, ignore_index, label_smoothing
        As in `cross_entropy`.
    hess_scale : float, default 1.0
        Factor of the Hessian. XGBoost's own objective uses 2.
    hess_min : float, default 0.0
        Lower bound of the Hessian; -inf for none. XGBoost's own objective uses 1e-16.
    grad_out, hess_out : ndarray, optional
        Receive the results; `grad_out` may be `logits` itself.

    Returns
    -------
    GradHess
        ``grad`` and ``hess``, both in the shape and dtype of `logits`; float64 for integers and bool. An ignored row
        has the gradient 0 and the Hessian 0, or `hess_min`.

    Raises
    ------
    IndexError
        A class index is neither between 0 and C - 1 nor `ignore_index`.
    TypeError
        A dtype is not supported.
    ValueError
        Shapes do not fit, `axis` or an option is out of range, or an output does not fit.

    Notes
    -----
    With p = softmax(logits), the class weights w, the target's distribution q (after smoothing; its rows need not
    sum to 1) and W = sum(w * q), ``grad = s * (p * W - w * q)`` and ``hess = max(hess_scale * s * W * p * (1 - p),
    hess_min)`` [1]_, with the sample weight s. For a class index W is the weight of that class. For a probability
    near 1, 1 - p is computed as the sum of the others. Error: at most 4 ULP of each element of the Hessian; that of
    the gradient is as in `cross_entropy_and_grad`.

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
        logits,
        target,
        axis,
        weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        hess_scale,
        hess_min,
        grad_out,
        hess_out,
        GradHess,
    )


@overload
def kl_divergence(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[DivergenceOptions],
) -> np.floating[Any]: ...
@overload
def kl_divergence(
    logits: ArrayLike, target_logits: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[DivergenceOptions]
) -> NDArray[Any]: ...
@_core.frameless
def kl_divergence(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Kullback-Leibler divergence KL(p || q), in nats, of two distributions that are given as logits.

    ``p = softmax(target_logits / temperature)``, ``q = softmax(logits / temperature)``. Neither is formed: both arrays
    are read once.

    Parameters
    ----------
    logits : array_like
        Logits of q, the approximation (in distillation, those of the student), with the classes along `axis`.
    target_logits : array_like
        Logits of p, the reference (those of the teacher), in the shape of `logits`.
    axis : int, default -1
        Axis of the classes.
    sample_weight : array_like, optional
        Weight of each row, shape of `logits` without `axis`.
    temperature : float, default 1.0
        Positive number that divides both arrays.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over rows: the sum of the weighted divergences, divided by the sum of the weights.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the divergence is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced divergence. For "none", that of each row, in the shape of `logits` without `axis`. The dtype is that
        of `logits`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        Shapes do not fit, `axis` is out of range, `reduction` is unknown, `temperature` is not positive, or there are
        rows but no classes.

    See Also
    --------
    js_divergence : symmetric, and at most log 2.
    cross_entropy : for a target of probabilities; it is the divergence plus the entropy of the target.

    Notes
    -----
    ``KL(p || q) = sum(p * log(p / q))`` [1]_ is computed as ``sum(p * (q / p - 1 - log(q / p)))``: no term is negative,
    and nothing cancels. So the result is never negative, and it is 0 for equal rows. It is accurate even if the logits
    of two models differ only in the last digits. Error: below 1 ULP of each row in float32, at most 8 ULP in float64.

    A class with ``target_logits = -inf`` counts 0. ``logits = -inf`` where the other logit is finite makes the
    divergence of the row infinite. A row with +inf or nan in either array, or with nothing but -inf, gives nan.

    The result is not multiplied by ``temperature ** 2``. In distillation [2]_, this factor keeps the gradients at the
    same scale for all temperatures. Multiply by it yourself if you need it.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, On information and sufficiency, Annals of Mathematical Statistics (1951).
    .. [2] G. Hinton, O. Vinyals and J. Dean, Distilling the knowledge in a neural network, arXiv:1503.02531 (2015).

    Examples
    --------
    >>> import softloss
    >>> teacher, student = [[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], [[1.8, 1.2, 0.1], [0.5, 1.0, 0.3]]
    >>> softloss.kl_divergence(student, teacher, reduction="none").round(4)
    array([0.0153, 0.1141])
    """
    return _core.kl_divergence(logits, target_logits, axis, sample_weight, temperature, reduction, empty, dtype)


@overload
def kl_divergence_and_grad(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[DivergenceOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def kl_divergence_and_grad(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[DivergenceOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
def kl_divergence_and_grad(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`kl_divergence` and its gradient with respect to `logits`, in one pass over both arrays.

    Parameters
    ----------
    logits, target_logits, axis, sample_weight, temperature, reduction, empty, dtype
        As in `kl_divergence`.
    grad_out : ndarray, optional
        Receives the gradient; may be `logits` itself, but not `target_logits`.

    Returns
    -------
    LossGrad
        ``loss`` as `kl_divergence` returns it. ``grad``, in the shape of `logits`, is the derivative of the reduced
        divergence or, for "none", of the sum of the divergences. Its dtype is `dtype`, or else that of `logits`;
        float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `kl_divergence`; also if `grad_out` does not fit.

    Notes
    -----
    For one row, ``grad = f * (q - p) / T``, with the derivative f of the reduced divergence with respect to that of the
    row. This also holds if the divergence is infinite. The gradient is 0 for equal rows. Error: at most 3 ULP of the
    larger of the two terms.

    Examples
    --------
    >>> import softloss
    >>> loss, grad = softloss.kl_divergence_and_grad([[1.8, 1.2, 0.1]], [[2.0, 1.0, 0.1]])
    >>> grad.round(4)
    array([[-0.0815,  0.0745,  0.0069]])
    """
    return _core.kl_divergence_and_grad(
        logits, target_logits, axis, sample_weight, temperature, reduction, empty, dtype, grad_out, LossGrad
    )


@overload
def js_divergence(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[DivergenceOptions],
) -> np.floating[Any]: ...
@overload
def js_divergence(
    logits: ArrayLike, target_logits: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[DivergenceOptions]
) -> NDArray[Any]: ...
@_core.frameless
def js_divergence(
    logits: ArrayLike,
    target_logits: ArrayLike,
    /,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Jensen-Shannon divergence, in nats, of two distributions that are given as logits.

    The mean of KL(p || m) and KL(q || m), where ``m = (p + q) / 2`` [1]_. It is symmetric and between 0 and log 2; its
    square root is a metric.

    Parameters
    ----------
    logits, target_logits : array_like
        Logits of q and of p, of one shape, with the classes along `axis`.
    axis, sample_weight, temperature, reduction, empty, dtype
        As in `kl_divergence`.

    Returns
    -------
    scalar or ndarray
        As in `kl_divergence`.

    Raises
    ------
    TypeError, ValueError
        As in `kl_divergence`.

    See Also
    --------
    kl_divergence : not symmetric, unbounded.

    Notes
    -----
    No term of the sum is negative, and nothing cancels. Error: below 1 ULP of each row in float32, at most 8 ULP in
    float64, also for the smallest results. A class with -inf has the probability 0. A row with +inf or nan in either
    array, or with nothing but -inf, gives nan.

    References
    ----------
    .. [1] J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory (1991).

    Examples
    --------
    >>> import math, softloss
    >>> p, q = [[2.0, 1.0, 0.1], [0.0, -math.inf, 0.0]], [[1.8, 1.2, 0.1], [-math.inf, 0.0, -math.inf]]
    >>> softloss.js_divergence(p, q, reduction="none").round(4)
    array([0.0039, 0.6931])
    """
    return _core.js_divergence(logits, target_logits, axis, sample_weight, temperature, reduction, empty, dtype)


@overload
def categorical_cross_entropy(
    probs: ArrayLike, target: ArrayLike, /, *, reduction: Literal["mean", "sum"] = ..., **options: Unpack[ClassOptions]
) -> np.floating[Any]: ...
@overload
def categorical_cross_entropy(
    probs: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[ClassOptions]
) -> NDArray[Any]: ...
@_core.frameless
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
    """Cross-entropy between probabilities and `target`, in nats.

    If you have logits, `cross_entropy` is more accurate.

    Parameters
    ----------
    probs : array_like
        Probabilities of any shape, with C classes along `axis`.
    target : array_like
        Class indices (any integer dtype, shape of `probs` without `axis`), or class probabilities such as one-hot rows
        (any floating dtype, shape of `probs`). bool raises a TypeError.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : array_like, optional
        Weight of each row, shape of `probs` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are ignored; None ignores no row. It has no effect on class probabilities.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the loss is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each row, in the shape of `probs` without `axis`; 0 for ignored rows.
        The dtype is that of `probs`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither between 0 and C - 1 nor `ignore_index`. The message names the first such index
        and counts them.
    TypeError
        An argument has an unsupported dtype.
    ValueError
        A probability is outside [0, 1], shapes do not fit, `axis` is out of range, `reduction` is unknown, or
        there are rows but no classes.

    See Also
    --------
    cross_entropy : the loss of logits.
    nll_loss : the loss of log-probabilities.

    Notes
    -----
    ``loss = sum_c w[c] * q[c] * -log(probs[c])`` [1]_ with the class weights w and
    the target q. A class index means q = 1 at that class and 0 elsewhere. ``0 * inf`` counts as 0. Error of mean and
    sum: at most 1 ULP (float32) or 2 ULP (float64) of the sum of the losses.

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
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[ClassOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def categorical_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[ClassOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
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
        ``loss`` as `categorical_cross_entropy` returns it. ``grad``, in the shape of `probs`, is the derivative of the
        reduced loss or, for "none", of the sum of the losses. It is 0 for ignored rows, and everywhere if there is
        nothing to average. Its dtype is `dtype`, or else that of `probs`; float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `categorical_cross_entropy`; also if `grad_out` does not fit.

    Notes
    -----
    For one row, ``grad = -f * q / probs`` [1]_, with the target q and the derivative f of the reduced loss
    with respect to the loss of the row. It is 0 where q is 0.

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
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[ClassOptions],
) -> np.floating[Any]: ...
@overload
def nll_loss(
    log_probs: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[ClassOptions]
) -> NDArray[Any]: ...
@_core.frameless
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
    """Negative log-likelihood of `target` under log-probabilities, such as the result of `log_softmax`, in nats.

    Parameters
    ----------
    log_probs : array_like
        Log-probabilities of any shape, with C classes along `axis`.
    target : array_like
        Class indices (any integer dtype, shape of `log_probs` without `axis`), or class probabilities (any floating
        dtype, shape of `log_probs`). bool raises a TypeError.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,).
    sample_weight : array_like, optional
        Weight of each row, shape of `log_probs` without `axis`.
    ignore_index : int or None, default -100
        Rows with this class index are ignored; None ignores no row. It has no effect on class probabilities.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the loss is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each row, in the shape of `log_probs` without `axis`; 0 for ignored
        rows. The dtype is that of `log_probs`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither between 0 and C - 1 nor `ignore_index`. The message names the first such index
        and counts them.
    TypeError
        An argument has an unsupported dtype.
    ValueError
        Shapes do not fit, `axis` is out of range, `reduction` is unknown, or there are rows but no classes.

    See Also
    --------
    cross_entropy : the loss of logits, in one pass.

    Notes
    -----
    ``loss = sum_c w[c] * q[c] * -log_probs[c]`` [1]_ with the class weights w and the
    target q. A class index means q = 1 at that class and 0 elsewhere. ``0 * inf`` counts as 0. Error of mean and sum:
    at most 1 ULP (float32) or 2 ULP (float64) of the sum of the losses.

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
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[ClassOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def nll_loss_and_grad(
    log_probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[ClassOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
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
        ``loss`` as `nll_loss` returns it. ``grad``, in the shape of `log_probs`, is the derivative of the
        reduced loss or, for "none", of the sum of the losses. It is 0 for ignored rows, and everywhere if there is
        nothing to average. Its dtype is `dtype`, or else that of `log_probs`; float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `nll_loss`; also if `grad_out` does not fit.

    Notes
    -----
    For one row, ``grad = -f * q`` [1]_, with the target q and the derivative f of the reduced loss with respect to the
    loss of the row.

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
    probs: ArrayLike, target: ArrayLike, /, *, reduction: Literal["mean", "sum"] = ..., **options: Unpack[BinaryOptions]
) -> np.floating[Any]: ...
@overload
def binary_cross_entropy(
    probs: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[BinaryOptions]
) -> NDArray[Any]: ...
@_core.frameless
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

    If you have logits, `binary_cross_entropy_with_logits` is more accurate.

    Parameters
    ----------
    probs : array_like
        Probabilities of class 1, of any shape.
    target : array_like
        0, 1, or values between them, of any supported dtype, also bool; broadcast to `probs`.
    weight : array_like, optional
        Weight of each element, broadcast to `probs`.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the number of elements, not by the sum of their weights.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the loss is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each element, in the shape of `probs`. The dtype is that of
        `probs`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        `probs` or `target` is outside [0, 1] (the message names the element), shapes do not broadcast, or
        `reduction` is unknown.

    Notes
    -----
    ``loss = -w * (t * log(p) + (1 - t) * log(1 - p))`` [1]_, with logarithms clamped at -100 as in
    ``torch.nn.functional.binary_cross_entropy``. Error: at most 2 ULP of the loss of each element; for mean and sum,
    at most 1 ULP (float32) or 2 ULP (float64) of the sum of the losses.

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
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[BinaryOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def binary_cross_entropy_and_grad(
    probs: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[BinaryOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
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
        ``loss`` as `binary_cross_entropy` returns it. ``grad``, in the shape of `probs`, is the
        derivative of the reduced loss or, for "none", of the sum of the losses. Its dtype is `dtype`, or else that
        of `probs`; float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy`; also if `grad_out` does not fit.

    Notes
    -----
    ``grad = f * w * (p - t) / (p * (1 - p))`` [1]_, with the derivative f of the reduced loss with respect to the
    loss of the element. The denominator is at least 1e-12, as in PyTorch.

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
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[BinaryLogitsOptions],
) -> np.floating[Any]: ...
@overload
def binary_cross_entropy_with_logits(
    logits: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[BinaryLogitsOptions]
) -> NDArray[Any]: ...
@_core.frameless
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
        0, 1, or values between them, of any supported dtype, also bool; broadcast to `logits`.
    weight : array_like, optional
        Weight of each element, broadcast to `logits`.
    pos_weight : array_like, optional
        Weight of the term of the positive class, broadcast to `logits`. A value above 1 favours recall, a value below
        1 precision.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the number of elements, not by the sum of their weights.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the loss is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each element, in the shape of `logits`. The dtype is that of
        `logits`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        `target` is outside [0, 1] (the message names the element), shapes do not broadcast, or `reduction` is
        unknown.

    Notes
    -----
    ``loss = -w * (v * t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))`` [1]_, with the pos_weight v. A logit
    of +-inf gives the limit, as ``0 * inf`` counts as 0. Error: at most 2 ULP of the loss of each element in float32
    and float64; for mean and sum, at most 1 ULP (float32) or 2 ULP (float64) of the sum of the losses.

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
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[BinaryLogitsOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def binary_cross_entropy_with_logits_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[BinaryLogitsOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
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
        ``loss`` as `binary_cross_entropy_with_logits` returns it. ``grad``, in the shape of `logits`, is the
        derivative of the reduced loss or, for "none", of the sum of the losses. Its dtype is `dtype`, or else that
        of `logits`; float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy_with_logits`; also if `grad_out` does not fit.

    Notes
    -----
    ``grad = f * w * ((1 - t) * sigmoid(x) - v * t * sigmoid(-x))`` [1]_, with the pos_weight v and the
    derivative f of the reduced loss with respect to the loss of the element. Error: at most 3 ULP of each element for
    targets 0 and 1, and of the larger term for targets between them.

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


@partial(_core.frameless_with, GradHess)
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
    """Gradient and second derivative of the loss of each element, as gradient boosting needs them.

    Parameters
    ----------
    logits, target, weight, pos_weight
        As in `binary_cross_entropy_with_logits`.
    hess_scale : float, default 1.0
        Factor of the second derivative.
    hess_min : float, default 0.0
        Lower bound of the second derivative. XGBoost's own objective uses 1e-16.
    grad_out, hess_out : ndarray, optional
        Receive the results; `grad_out` may be `logits` itself.

    Returns
    -------
    GradHess
        ``grad`` and ``hess``, both in the shape and dtype of `logits`; float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy_with_logits`; also if an output does not fit.

    Notes
    -----
    With s = sigmoid(logits), ``grad = w * ((1 - t) * s - v * t * (1 - s))`` and
    ``hess = max(hess_scale * w * (v * t + 1 - t) * s * (1 - s), hess_min)`` [1]_, with the pos_weight v.

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


@overload
def sigmoid_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[BinaryFocalOptions],
) -> np.floating[Any]: ...
@overload
def sigmoid_focal_loss(
    logits: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[BinaryFocalOptions]
) -> NDArray[Any]: ...
@_core.frameless
def sigmoid_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Focal loss of the sigmoid of `logits`: binary cross-entropy with less weight on well-classified elements.

    Parameters
    ----------
    logits : array_like
        Scores before the sigmoid, of any shape.
    target : array_like
        0 or 1, of any supported dtype, also bool; broadcast to `logits`.
    alpha : float, optional
        Weight of the positive class, from 0 to 1; that of the negative class is ``1 - alpha``. Without it both are 1.
    gamma : float, default 2.0
        Focusing parameter, at least 0. The larger it is, the less well-classified elements count. 0 gives
        `binary_cross_entropy_with_logits`.
    weight : array_like, optional
        Weight of each element, broadcast to `logits`.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the number of elements, not by the sum of their weights.
    empty : float, default nan
        Value of the mean if there is nothing to average.
    dtype : dtype, optional
        float32 or float64: the dtype that the loss is computed in.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each element, in the shape of `logits`. The dtype is that of
        `logits`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        An element of `target` is neither 0 nor 1 (the message names it), shapes do not broadcast, or an option is out
        of range.

    See Also
    --------
    softmax_focal_loss : the same for several classes.

    Notes
    -----
    ``loss = -w * a * (1 - p)**gamma * log(p)`` [1]_, where p is the probability of the target, sigmoid(logits) or
    1 - sigmoid(logits), and a is `alpha` or ``1 - alpha``. 1 - p and log(p) are computed from the logit, so nothing
    cancels, and a small loss is as accurate as a large one. Error for gamma up to 8: at most 2 ULP of the loss of each
    element in float32, 8 ULP in float64.

    References
    ----------
    .. [1] Tsung-Yi Lin et al., Focal loss for dense object detection, arXiv:1708.02002 (2017), equation 5.

    Examples
    --------
    >>> import softloss
    >>> softloss.sigmoid_focal_loss([2.0, -1.0, 0.5], [1, 0, 0], alpha=0.25, reduction="none").round(4)
    array([0.0005, 0.017 , 0.2831])
    """
    return _core.sigmoid_focal_loss(logits, target, alpha, gamma, weight, reduction, empty, dtype)


@overload
def sigmoid_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[BinaryFocalOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def sigmoid_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[BinaryFocalOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
def sigmoid_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`sigmoid_focal_loss` and its gradient, in one pass over `logits`.

    Parameters
    ----------
    logits, target, alpha, gamma, weight, reduction, empty, dtype
        As in `sigmoid_focal_loss`.
    grad_out : ndarray, optional
        Receives the gradient; may be `logits` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `sigmoid_focal_loss` returns it. ``grad``, in the shape of `logits`, is the derivative of the
        reduced loss or, for "none", of the sum of the losses. Its dtype is `dtype`, or else that of `logits`; float64
        for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `sigmoid_focal_loss`; also if `grad_out` does not fit.

    Notes
    -----
    ``grad = -f * w * a * s * q**gamma * (gamma * p * -log(p) + q)``, with the probability p of the target, q = 1 -
    p, the sign s of the target (1 or -1) and the derivative f of the reduced loss with respect to the loss of the
    element. Both terms have the same sign. Error: at most 3 ULP of each element.

    Examples
    --------
    >>> import softloss
    >>> softloss.sigmoid_focal_loss_and_grad([2.0, -1.0, 0.5], [1, 0, 0], reduction="sum").grad.round(4)
    array([-0.0049,  0.0526,  0.5262])
    """
    return _core.sigmoid_focal_loss_and_grad(
        logits, target, alpha, gamma, weight, reduction, empty, dtype, grad_out, LossGrad
    )


@partial(_core.frameless_with, GradHess)
def sigmoid_focal_loss_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    hess_scale: float = 1.0,
    hess_min: float = 0.0,
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> GradHess:
    """Gradient and second derivative of the focal loss of each element, as gradient boosting needs them.

    Parameters
    ----------
    logits, target, alpha, gamma, weight
        As in `sigmoid_focal_loss`.
    hess_scale : float, default 1.0
        Factor of the second derivative.
    hess_min : float, default 0.0
        Lower bound of the second derivative, which is negative where the probability of the target is small; -inf for
        none.
    grad_out, hess_out : ndarray, optional
        Receive the results; `grad_out` may be `logits` itself.

    Returns
    -------
    GradHess
        ``grad`` and ``hess``, both in the shape and dtype of `logits`; float64 for integers and bool.

    Raises
    ------
    TypeError, ValueError
        As in `sigmoid_focal_loss`; also if an output does not fit.

    Notes
    -----
    The gradient is that of `sigmoid_focal_loss_and_grad`, not reduced. With the same p and q,
    ``hess = max(hess_scale * w * a * p * q**gamma * ((2*gamma + 1) * q + gamma * (gamma*p - q) * -log(p)), hess_min)``.
    Error of the Hessian: at most 4 ULP of the sum of its absolute terms.

    Examples
    --------
    >>> import softloss
    >>> softloss.sigmoid_focal_loss_grad_hess([2.0, -4.0], [1, 1], hess_min=-float("inf")).hess.round(4)
    array([ 0.0127, -0.0467])
    """
    return _core.sigmoid_focal_loss_grad_hess(
        logits, target, alpha, gamma, weight, hess_scale, hess_min, grad_out, hess_out, GradHess
    )


@overload
def softmax_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[FocalOptions],
) -> np.floating[Any]: ...
@overload
def softmax_focal_loss(
    logits: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[FocalOptions]
) -> NDArray[Any]: ...
@_core.frameless
def softmax_focal_loss(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
) -> NDArray[Any] | np.floating[Any]:
    """Focal loss of the softmax of `logits`: cross-entropy with less weight on well-classified rows.

    Parameters
    ----------
    logits, axis, weight, sample_weight, ignore_index, reduction, empty, dtype
        As in `cross_entropy`.
    target : array_like
        Class indices: any integer dtype, shape of `logits` without `axis`.
    gamma : float, default 2.0
        Focusing parameter, at least 0. The larger it is, the less well-classified rows count. 0 gives `cross_entropy`.

    Returns
    -------
    scalar or ndarray
        The reduced loss. For "none", the loss of each row, in the shape of `logits` without `axis`; 0 for ignored
        rows. The dtype is that of `logits`; float32 for float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A class index is neither between 0 and C - 1 nor `ignore_index`.
    TypeError
        A dtype is not supported, or `target` does not hold integers.
    ValueError
        Shapes do not fit, `axis` or `gamma` is out of range, `reduction` is unknown, or there are rows but no classes.

    See Also
    --------
    sigmoid_focal_loss : the same for binary targets.

    Notes
    -----
    ``loss = -w * (1 - p)**gamma * log(p)`` [1]_, where p is the probability of the target and w is its weight. 1 -
    p is the sum of the other probabilities where p is large, so nothing cancels, and a small loss is as accurate as
    a large one. Error for gamma up to 8: at most 2 ULP of the loss of each row in float32, 8 ULP in float64.

    References
    ----------
    .. [1] Tsung-Yi Lin et al., Focal loss for dense object detection, arXiv:1708.02002 (2017), equation 4.

    Examples
    --------
    >>> import softloss
    >>> softloss.softmax_focal_loss([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], [0, 2], reduction="none").round(4)
    array([0.0485, 1.5447])
    """
    return _core.softmax_focal_loss(
        logits, target, axis, gamma, weight, sample_weight, ignore_index, reduction, empty, dtype
    )


@overload
def softmax_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[FocalOptions],
) -> LossGrad[np.floating[Any]]: ...
@overload
def softmax_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["none"],
    grad_out: NDArray[Any] | None = ...,
    **options: Unpack[FocalOptions],
) -> LossGrad[NDArray[Any]]: ...
@partial(_core.frameless_with, LossGrad)
def softmax_focal_loss_and_grad(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
    dtype: DTypeLike | None = None,
    grad_out: NDArray[Any] | None = None,
) -> LossGrad[Any]:
    """`softmax_focal_loss` and its gradient, in one pass over `logits`.

    Parameters
    ----------
    logits, target, axis, gamma, weight, sample_weight, ignore_index, reduction, empty, dtype
        As in `softmax_focal_loss`.
    grad_out : ndarray, optional
        Receives the gradient; may be `logits` itself.

    Returns
    -------
    LossGrad
        ``loss`` as `softmax_focal_loss` returns it. ``grad``, in the shape of `logits`, is the derivative of the
        reduced loss or, for "none", of the sum of the losses. It is 0 for ignored rows, and everywhere if there is
        nothing to average. Its dtype is `dtype`, or else that of `logits`; float64 for integers and bool.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `softmax_focal_loss`; also if `grad_out` does not fit.

    Notes
    -----
    For one row, ``grad = f * g * (softmax(logits) - one_hot)``: that of the cross-entropy times the slope
    ``g = (1 - p)**gamma + gamma * p * (1 - p)**(gamma - 1) * -log(p)`` of the row, with the probability p of the target
    and the derivative f of the reduced loss with respect to the loss of the row. Error: at most 3 ULP of each element.

    Examples
    --------
    >>> import softloss
    >>> softloss.softmax_focal_loss_and_grad([[2.0, 1.0, 0.1]], [0]).grad.round(4)
    array([[-0.1036,  0.0736,  0.0299]])
    """
    return _core.softmax_focal_loss_and_grad(
        logits,
        target,
        axis,
        gamma,
        weight,
        sample_weight,
        ignore_index,
        reduction,
        empty,
        dtype,
        grad_out,
        LossGrad,
    )


@partial(_core.frameless_with, GradHess)
def softmax_focal_loss_grad_hess(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    gamma: float = 2.0,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    hess_scale: float = 1.0,
    hess_min: float = 0.0,
    grad_out: NDArray[Any] | None = None,
    hess_out: NDArray[Any] | None = None,
) -> GradHess:
    """Gradient and diagonal Hessian of the focal loss of each row, as gradient boosting needs them.

    Parameters
    ----------
    logits, target, axis, gamma, weight, sample_weight, ignore_index
        As in `softmax_focal_loss`.
    hess_scale : float, default 1.0
        Factor of the Hessian.
    hess_min : float, default 0.0
        Lower bound of the Hessian, whose elements can be negative; -inf for none.
    grad_out, hess_out : ndarray, optional
        Receive the results; `grad_out` may be `logits` itself.

    Returns
    -------
    GradHess
        ``grad`` and ``hess``, both in the shape and dtype of `logits`; float64 for integers and bool. An ignored row
        has the gradient 0 and the Hessian 0, or `hess_min`.

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `softmax_focal_loss`; also if an output does not fit.

    Notes
    -----
    The gradient is that of `softmax_focal_loss_and_grad`, not reduced. The Hessian is the exact diagonal: with the
    probability p of the target, q = 1 - p, c = -log(p), the slope g of the row and ``k = gamma * p * q**(gamma - 2)
    * (2*q + (gamma - 1) * p * c - q * c)``, it is ``k * u**2 + g * v * (1 - v)`` for a class with probability v,
    where u is q for the target and v for the others. Error: at most 4 ULP of the sum of the absolute terms.

    Examples
    --------
    >>> import softloss
    >>> softloss.softmax_focal_loss_grad_hess([[2.0, 1.0, 0.1]], [0]).hess.round(4)
    array([[0.1931, 0.1189, 0.0374]])
    """
    return _core.softmax_focal_loss_grad_hess(
        logits,
        target,
        axis,
        gamma,
        weight,
        sample_weight,
        ignore_index,
        hess_scale,
        hess_min,
        grad_out,
        hess_out,
        GradHess,
    )


@partial(_core.frameless_with, TopK)
def softmax_topk(x: ArrayLike, /, k: int = 1, axis: int = -1, *, temperature: float = 1.0) -> TopK:
    """The `k` largest probabilities of each row and their classes.

    Parameters
    ----------
    x : array_like
        Logits of any shape.
    k : int, default 1
        Number of classes to return, from 1 to C.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive number that divides the logits.

    Returns
    -------
    TopK
        ``prob``, largest first, in the dtype of `x` (float64 for integers and bool), and ``index``, int64. Both have
        the shape of `x` with length `k` along `axis`. Equal logits are in the order of their indices.

    Raises
    ------
    TypeError
        `x` has an unsupported dtype.
    ValueError
        `k` is not between 1 and C, `axis` is out of range, or `temperature` is not positive.

    Notes
    -----
    ``prob`` has the same bits as ``softmax(x)`` [1]_ at these indices, so its error is at most 2 ULP. `x`
    is read once, and no memory of its size is allocated.

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


@partial(_core.frameless_with, TokenScores)
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
    """Log-probability, rank and entropy of each token of a text, from the logits of a language model.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, with the vocabulary of C tokens along `axis`.
    target : array_like
        The token at each position, as class indices: any integer dtype, shape of `logits` without `axis`.
    axis : int, default -1
        Axis of the vocabulary.
    top_k : int, default 0
        Number of most likely tokens to return.
    temperature : float, default 1.0
        Positive number that divides the logits.
    ignore_index : int or None, default -100
        Positions with this token are ignored: their log-probability and rank are 0. None ignores no position.

    Returns
    -------
    TokenScores
        ``logprob``, the log-probability of the target, in nats; ``argmax``, the most likely token; ``rank``, the rank
        of the target, 1 for the most likely token; ``entropy`` of the distribution, in nats; ``top_logprob`` and
        ``top_index``, the `top_k` most likely tokens along an additional last axis, most likely first. All but the
        last two have the shape of `target`. Tokens and ranks are int64. The others are float32 for float16, bfloat16
        and float32 logits, else float64.

    Raises
    ------
    IndexError
        A target is neither between 0 and C - 1 nor `ignore_index`.
    TypeError
        A dtype is not supported, or `target` does not hold integers.
    ValueError
        Shapes do not fit, `axis` is out of range, `top_k` is not between 0 and C, or `temperature` is not positive.

    Notes
    -----
    ``logprob = log_softmax(logits / T)[target]``, with an error of at most 2 ULP.
    ``entropy = -sum(p * log(p))`` [1]_, a sum of terms >= 0. The perplexity of a text is
    ``exp(cross_entropy(logits, target))``, or ``exp(-logprob[target != ignore_index].mean())``: ignored positions, such
    as padding, must not count.

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


@partial(_core.frameless_with, Sample)
def sample(
    logits: ArrayLike,
    u: ArrayLike,
    /,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    where: ArrayLike | None = None,
) -> Sample:
    """Draw a class from the softmax of each row, restricted to its most likely classes.

    The filters apply in the order of the parameters: the logits are divided by `temperature`; `top_k`, `top_p` and
    `min_p` each keep the most likely of the classes that are left; a class is drawn from those in proportion to their
    probabilities.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, with the C classes along `axis`.
    u : array_like
        The random numbers, one for each row: uniform in [0, 1), in the shape of `logits` without `axis`, such as
        ``numpy.random.default_rng(seed).random(shape)``. Equal numbers draw equal classes.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Number >= 0 that divides the logits. With 0 the class is the first of the largest logits, whatever `u` and the
        filters.
    top_k : int, default 0
        Keep the `top_k` largest logits, up to C; 0 keeps all.
    top_p : float, default 1.0
        Keep the most likely classes up to and with the first one at which the sum of their probabilities reaches
        `top_p`, above 0 and at most 1. The probabilities are those of the classes that `top_k` left.
    min_p : float, default 0.0
        Keep the classes whose probability is at least `min_p` times the largest one, in [0, 1].
    where : array_like of bool, optional
        False excludes a class. It is broadcast to `logits`.

    Returns
    -------
    Sample
        ``index``, int64: the classes; ``logprob``: the logarithms of their probabilities among the classes that are
        kept, in the dtype of `logits` (float32 for float16 and bfloat16, float64 for integers and bool). Both have
        the shape of `logits` without `axis`. A row with nan or +inf, or in which nothing but -inf is left, gives index
        0 and logprob nan.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        An element of `u` is outside [0, 1), an option is out of range, `top_k` is above C, shapes do not fit, or
        there are rows but no classes.

    See Also
    --------
    softmax_topk : the most likely classes.
    token_logprobs : log-probabilities of given classes.

    Notes
    -----
    The class is the first one, by index, at which the running sum of the probabilities exceeds `u` [1]_; of equal
    logits, filters keep those with the lower index. `top_p` is nucleus sampling [2]_.

    Sums are formed of whole numbers, ``round(2**s * e)``, where ``e`` is the exponential of the logit as a share of the
    largest one, up to a factor between 0.75 and 1.54 that all classes of the row have in common, and ``s = min(50, 62 -
    ceil(log2(C)))``. They are exact, so that the class does not depend on the CPU, the number of threads or the layout.
    A class whose probability is below ``2**-(s + 2)`` times the largest is never drawn.

    Error of ``logprob``: below 1 ULP in float32, at most 8 ULP in float64.

    References
    ----------
    .. [1] L. Devroye, Non-Uniform Random Variate Generation, chapter III.2, Springer (1986).
    .. [2] A. Holtzman, J. Buys, L. Du, M. Forbes, Y. Choi, The curious case of neural text degeneration, ICLR (2020).

    Examples
    --------
    >>> import numpy as np
    >>> import softloss
    >>> logits = np.log([0.5, 0.3, 0.2])
    >>> softloss.sample(logits, 0.6).index
    np.int64(1)
    >>> index, logprob = softloss.sample([logits] * 3, [0.1, 0.6, 0.9], top_k=2)
    >>> index
    array([0, 0, 1])
    >>> np.exp(logprob).round(3)
    array([0.625, 0.625, 0.375])
    """
    return _core.sample(logits, u, axis, temperature, top_k, top_p, min_p, where, Sample)


@_core.frameless
def softmax_entropy(
    logits: ArrayLike, /, *, axis: int = -1, temperature: float = 1.0, dtype: DTypeLike | None = None
) -> NDArray[Any] | np.floating[Any]:
    """Entropy of the softmax of each row, in nats, in one read of the logits.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, with the classes along `axis`.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive number that divides the logits.
    dtype : dtype, optional
        float32 or float64: the dtype that the entropy is computed in.

    Returns
    -------
    ndarray or scalar
        The entropies, in the shape of `logits` without `axis`: from 0 if one class has the probability 1 to ``log(C)``
        if all C classes are equally likely. Dtype: that of `logits`; float32 for float16 and bfloat16, float64 for
        integers and bool.

    Raises
    ------
    TypeError
        An argument has an unsupported dtype.
    ValueError
        `axis` is out of range, `temperature` is not positive, `logits` has no dimension, or there are rows but no
        classes.

    See Also
    --------
    token_logprobs : the entropy beside the scores of a target.

    Notes
    -----
    ``-sum(p * log(p))`` [1]_ with ``p = softmax(logits / temperature)``, a sum of terms >= 0. Error: below 1 ULP in
    float32, at most 8 ULP in float64, also for rows that are nearly certain. A class with -inf counts 0. A row with
    +inf or nan, or with nothing but -inf, gives nan.

    References
    ----------
    .. [1] C. E. Shannon, A mathematical theory of communication, Bell System Technical Journal (1948).

    Examples
    --------
    >>> import softloss
    >>> print(softloss.softmax_entropy([2.0, 1.0, 0.1]).round(4))
    0.8467
    >>> print(f"{softloss.softmax_entropy([50.0, 0.0, 0.0]):.5}")
    1.9673e-20
    """
    return _core.softmax_entropy(logits, axis, temperature, dtype)


@partial(_core.frameless_with, TemperatureFit)
def fit_temperature(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
) -> TemperatureFit:
    """The temperature at which the mean cross-entropy is smallest: temperature scaling of a classifier.

    Dividing all logits by one temperature changes the confidence of a classifier, but none of its answers. Fit the
    temperature on data that the classifier has not seen.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, with C classes along `axis`.
    target : array_like
        Class indices: any integer dtype, shape of `logits` without `axis`.
    axis : int, default -1
        Axis of the classes.
    weight : array_like, optional
        Weight of each class, shape (C,), none negative.
    sample_weight : array_like, optional
        Weight of each row, shape of `target`, none negative.
    ignore_index : int or None, default -100
        Rows with this target do not count. None ignores no row.

    Returns
    -------
    TemperatureFit
        ``temperature`` and, as `cross_entropy` returns it for that temperature, ``loss``. Both are float64, for logits
        of any dtype. They are nan if no row counts, or if a row that counts has no loss: if it holds nan or +inf, or
        nothing but -inf. The temperature is 1 where it makes no difference: for rows of equal logits, or of one class.

    Raises
    ------
    IndexError
        A target is neither between 0 and C - 1 nor `ignore_index`.
    TypeError
        A dtype is not supported, or `target` does not hold integers.
    ValueError
        Shapes do not fit, `axis` is out of range, a weight is negative, or there are rows but no classes.

    Warns
    -----
    RuntimeWarning
        The loss has no minimum between 0.001 and 1000. The result is the one of these two temperatures that has the
        lower loss: 0.001 if the classifier is always right, 1000 if it is no better than chance.

    See Also
    --------
    calibration_error : how far confidence and accuracy are apart.
    cross_entropy : the loss at a temperature.

    Notes
    -----
    The loss [1]_ is convex in 1 / temperature. Each step of Newton's method reads `logits` once, for the loss and both
    of its derivatives: usually 3 to 6 times in all. The minimum is kept within a bracket, so the search cannot diverge.
    Error of the temperature, relative to exact arithmetic: at most 1e-8, and 1e-5 for float32, float16 and bfloat16.
    No array of probabilities is made.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, On calibration of modern neural networks, ICML (2017).

    Examples
    --------
    >>> import softloss
    >>> logits, labels = [[9.0, 1.0], [2.0, 8.0], [7.0, 1.0], [5.0, 6.0]], [0, 1, 1, 0]
    >>> temperature, loss = softloss.fit_temperature(logits, labels)
    >>> print(temperature.round(4), loss.round(4))
    9.3569 0.6474
    """
    return _core.fit_temperature(logits, target, axis, weight, sample_weight, ignore_index, TemperatureFit)


@_core.frameless
def calibration_error(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    bins: int = 15,
    norm: Literal["l1", "l2", "max"] = "l1",
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
) -> np.float64:
    """How far the confidence of a classifier and its accuracy are apart: ECE, RMSCE or MCE.

    The confidence of a row is its largest probability. Of equal ones, the first class is the answer.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, with C classes along `axis`.
    target : array_like
        Class indices: any integer dtype, shape of `logits` without `axis`.
    axis : int, default -1
        Axis of the classes.
    bins : int, default 15
        Number of bins of equal width, B: bin b holds the rows with a confidence in ((b - 1) / B, b / B].
    norm : {"l1", "l2", "max"}, default "l1"
        "l1": the mean distance, the expected calibration error (ECE). "l2": the root of the mean square (RMSCE). "max":
        the largest distance of a bin (MCE).
    temperature : float, default 1.0
        Positive number that divides the logits.
    sample_weight : array_like, optional
        Weight of each row, shape of `target`, none negative.
    ignore_index : int or None, default -100
        Rows with this target do not count. None ignores no row.

    Returns
    -------
    float64
        From 0 to 1. It is nan if no row counts, or if a row that counts holds nan or +inf, or nothing but -inf.

    Raises
    ------
    IndexError
        A target is neither between 0 and C - 1 nor `ignore_index`.
    TypeError
        A dtype is not supported, or `target` does not hold integers.
    ValueError
        Shapes do not fit, `axis` is out of range, `bins` is not between 1 and 2**24, `norm` is unknown, `temperature`
        is not positive, a weight is negative, or there are rows but no classes.

    See Also
    --------
    fit_temperature : the temperature with the smallest cross-entropy.
    brier_score : a proper score, without bins.

    Notes
    -----
    The distance of a bin is abs(accuracy - mean confidence) [1]_ [2]_. Means over bins are weighted by the rows of
    each; empty bins count nothing. Confidences are float64 for logits of any dtype, and exactly 1/k for k equal logits
    beside which no other counts. `logits` is read once, and no array of probabilities is made.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
       AAAI (2015).
    .. [2] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, On calibration of modern neural networks, ICML (2017).

    Examples
    --------
    >>> import softloss
    >>> logits, labels = [[9.0, 1.0], [2.0, 8.0], [7.0, 1.0], [5.0, 6.0]], [0, 1, 1, 0]
    >>> print(softloss.calibration_error(logits, labels).round(4))
    0.4314
    """
    return _core.calibration_error(logits, target, axis, bins, norm, temperature, sample_weight, ignore_index)


@overload
def brier_score(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    reduction: Literal["mean", "sum"] = ...,
    **options: Unpack[BrierOptions],
) -> np.floating[Any]: ...
@overload
def brier_score(
    logits: ArrayLike, target: ArrayLike, /, *, reduction: Literal["none"], **options: Unpack[BrierOptions]
) -> NDArray[Any]: ...
@_core.frameless
def brier_score(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    empty: float = nan,
) -> NDArray[Any] | np.floating[Any]:
    """Brier score: the squared distance between the probabilities of each row and its label.

    Parameters
    ----------
    logits : array_like
        Logits of any shape, with C classes along `axis`.
    target : array_like
        Class indices: any integer dtype, shape of `logits` without `axis`.
    axis : int, default -1
        Axis of the classes.
    temperature : float, default 1.0
        Positive number that divides the logits.
    sample_weight : array_like, optional
        Weight of each row, shape of `target`.
    ignore_index : int or None, default -100
        Rows with this target do not count; with "none" their score is 0. None ignores no row.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is the sum of the weighted scores, divided by the sum of the weights.
    empty : float, default nan
        Value of the mean if there is nothing to average.

    Returns
    -------
    scalar or ndarray
        The reduced score. For "none", that of each row, in the shape of `target`. Dtype: that of `logits`; float32 for
        float16 and bfloat16, float64 for integers and bool.

    Raises
    ------
    IndexError
        A target is neither between 0 and C - 1 nor `ignore_index`.
    TypeError
        A dtype is not supported, or `target` does not hold integers.
    ValueError
        Shapes do not fit, `axis` is out of range, `reduction` is unknown, `temperature` is not positive, or there are
        rows but no classes.

    See Also
    --------
    cross_entropy : the other proper score.
    calibration_error : confidence against accuracy, in bins.

    Notes
    -----
    ``sum((p - q) ** 2)`` over the classes [1]_, with ``p = softmax(logits / temperature)`` and q = 1 at the label, 0
    elsewhere: from 0 to 2. Of two classes it is twice the binary score ``(p - q) ** 2``. 1 - p of the label is the sum
    of the other probabilities, so that nothing cancels, and a score near 0 keeps its digits. Error: below 1 ULP of each
    row in float32, at most 8 ULP in float64. A row with +inf or nan, or with nothing but -inf, gives nan. No array of
    probabilities is made.

    References
    ----------
    .. [1] G. W. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review (1950).

    Examples
    --------
    >>> import softloss
    >>> softloss.brier_score([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], [0, 1], reduction="none").round(4)
    array([0.1848, 0.1254])
    """
    return _core.brier_score(logits, target, axis, temperature, sample_weight, ignore_index, reduction, empty)
