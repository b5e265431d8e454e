"""Objectives for gradient boosting: softloss's losses as callables that XGBoost and LightGBM take.

Lives here: how each library lays out scores and labels, and scales the Hessian of a loss over classes. Must not: losses
and their derivatives (functional.py), trees.

>>> import softloss
>>> objective = softloss.boosting.objective("sigmoid_focal_loss", library="xgboost", gamma=1.5)

Neither library is imported before it calls an objective.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from softloss import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["objective"]

_CLASS_LOSSES = ("cross_entropy", "softmax_focal_loss")
_BINARY_LOSSES = ("binary_cross_entropy_with_logits", "sigmoid_focal_loss")
_LIBRARIES = ("xgboost", "lightgbm")
_OF_EACH_CALL = ("logits", "target", "axis", "sample_weight", "grad_out", "hess_out")


@lru_cache(maxsize=64)
def _scale_of_xgboost(classes: int) -> float:
    """Return the factor by which the installed XGBoost multiplies the Hessian p (1 - p) of `classes` classes.

    One leaf of one row, without regularisation, has the value -gradient / Hessian: (1 - p) / (scale p (1 - p)) for the
    row's class, with p = 1 / classes.
    """
    xgboost: Any = import_module("xgboost")  # not there for who uses LightGBM, nor for type checkers
    row = xgboost.DMatrix(np.zeros((1, 1)), np.zeros(1))
    row.set_base_margin(np.zeros((1, classes)))
    parameters = {
        "objective": "multi:softprob",
        "num_class": classes,
        "learning_rate": 1,
        "lambda": 0,
        "min_child_weight": 0,
        "nthread": 1,
        "verbosity": 0,
    }
    leaf = xgboost.train(parameters, row, 1).predict(row, output_margin=True)[0, 0]
    return float(f"{classes / float(leaf):.6g}")  # the leaf is a float32


def _scale_of(library: str, classes: int) -> float:
    if library == "lightgbm":
        return classes / (classes - 1) if classes > 1 else 1.0
    return _scale_of_xgboost(classes)


@dataclass(frozen=True)
class _Objective:
    """The callable: plain values, so that models that hold it can be copied and pickled."""

    loss: str
    library: str
    options: dict[str, Any]

    # XGBoost looks for the name of the last argument, LightGBM at the number of arguments.
    def __call__(
        self, y_true: ArrayLike, y_pred: Any, sample_weight: ArrayLike | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        if hasattr(y_pred, "get_label"):  # (scores, data)
            return self.derivatives(y_true, y_pred.get_label(), y_pred.get_weight())
        return self.derivatives(y_pred, y_true, sample_weight)

    def derivatives(self, scores: Any, labels: Any, weight: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return gradient and Hessian in the layout of the scores."""
        scores, labels = np.asarray(scores), np.asarray(labels)
        weight = None if weight is None or np.size(weight) == 0 else np.asarray(weight)
        options = dict(self.options)
        if self.library == "xgboost":
            options.setdefault("hess_min", 1e-16)
        if self.loss in _CLASS_LOSSES:
            if scores.ndim != 2:
                raise ValueError(
                    f"{self.loss} needs scores of shape (rows, classes), got {scores.shape}: "
                    "pass num_class to the booster"
                )
            options.setdefault("hess_scale", _scale_of(self.library, scores.shape[1]))
            options["sample_weight"] = weight
            labels = labels.reshape(scores.shape) if labels.size > scores.shape[0] else _indices(labels)
        else:
            labels = labels.reshape(scores.shape)
            if weight is not None:
                weight = weight.reshape(weight.shape[:1] + (1,) * (scores.ndim - 1))
                options["weight"] = weight * options["weight"] if options.get("weight") is not None else weight
        # LightGBM's scores are in Fortran order, and so are the results then.
        results = {name: np.empty_like(scores) for name in ("grad_out", "hess_out")}
        grad, hess = getattr(functional, f"{self.loss}_grad_hess")(scores, labels, **options, **results)
        return grad, hess


def _indices(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Class indices, which the libraries hold as floats."""
    indices = labels.reshape(-1).astype(np.int64)
    if not np.array_equal(indices, labels.reshape(-1)):
        raise ValueError("labels must be whole numbers, the indices of the classes")
    return indices


def objective(
    loss: str | Callable[..., Any], *, library: Literal["xgboost", "lightgbm"], **options: Any
) -> Callable[..., tuple[NDArray[Any], NDArray[Any]]]:
    """Return a loss as a custom objective of XGBoost or LightGBM.

    Parameters
    ----------
    loss : str or function
        ``"cross_entropy"``, ``"softmax_focal_loss"`` (several classes), ``"binary_cross_entropy_with_logits"``,
        ``"sigmoid_focal_loss"``, or that function.
    library : {"xgboost", "lightgbm"}
        The library that the objective is for. It decides the layout of the scores and the scale of the Hessian.
    **options
        Options of the loss's ``_grad_hess`` function, such as `gamma`, `alpha`, `weight`, `label_smoothing`.
        `hess_scale` and `hess_min` are by default what the library's own objective uses.

    Returns
    -------
    callable
        ``objective(scores, data)``, with a DMatrix or a Dataset, and
        ``objective(y_true, y_pred, sample_weight=None)``, as the scikit-learn classes call it. It returns gradient and
        Hessian, and takes the weights of the data into account.

    Raises
    ------
    TypeError
        `loss` has no option of that name.
    ValueError
        There is no such loss or library. When called: the labels are not whole numbers, or the scores have no axis of
        classes.

    Notes
    -----
    LightGBM multiplies the Hessian of C classes by C / (C - 1). The scale of the installed XGBoost is measured by
    training one leaf, when an objective is first called with a given number of classes. XGBoost takes class
    probabilities as labels of shape (rows, classes), without num_class. XGBoost's scores start at `base_score`; 0 suits
    these losses.

    Examples
    --------
    >>> import numpy as np, softloss
    >>> objective = softloss.boosting.objective("binary_cross_entropy_with_logits", library="lightgbm")
    >>> grad, hess = objective(np.array([1.0, 0.0]), np.zeros(2))
    >>> grad, hess
    (array([-0.5,  0.5]), array([0.25, 0.25]))
    """
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", repr(loss))
    known = _CLASS_LOSSES + _BINARY_LOSSES
    if name not in known:
        raise ValueError(f"loss must be one of {', '.join(known)}, got {name!r}")
    if library not in _LIBRARIES:
        raise ValueError(f"library must be 'xgboost' or 'lightgbm', got {library!r}")
    parameters = inspect.signature(getattr(functional, f"{name}_grad_hess")).parameters
    allowed = [each for each in parameters if each not in _OF_EACH_CALL]
    for option in options:
        if option not in allowed:
            raise TypeError(f"{name} has no option {option!r} as an objective; it has {', '.join(allowed)}")
    return _Objective(name, library, options)
