"""Every public function on arrays as a record, from which tests are generated.

Lives here: how to make the operands of each function, the options it has and values for them, the arrays it can be
told to write to. Must not: assertions, expected values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
import softloss
from strategies import probabilities, values


@dataclass(frozen=True)
class Operation:
    """`operands(shape, dtype, axis)` makes the positional arguments; `options[name](shape, axis)` lists values."""

    name: str
    operands: Callable[..., tuple[Any, ...]]
    options: dict[str, Callable[..., list[Any]]]
    outputs: tuple[str, ...] = ()  # arguments that receive a result: those of written()
    kind: str = ""  # of the target
    has_axis: bool = True
    fixed: dict[str, Any] = field(default_factory=dict)  # options of every call

    def __str__(self):
        return f"{self.name}-{self.kind}" if self.kind else self.name

    def __call__(self, *operands, axis, **options):
        """All results, as a tuple of arrays."""
        return _all(self._call(softloss, operands, axis, options))

    def raw(self, *operands, axis, **options):
        return self._call(softloss, operands, axis, options)

    def oracle(self, *operands, axis, **options):
        """The results of the oracle; each gradient is followed by the scale of its error."""
        return _all(self._call(reference, operands, axis, options))

    def _call(self, module, operands, axis, options):
        along = {"axis": axis} if self.has_axis else {}
        with warnings.catch_warnings():
            if self.name == "fit_temperature":  # of few rows, the minimum is often at an end
                warnings.simplefilter("ignore", RuntimeWarning)
            return self._result(module, operands, along, options)

    def _result(self, module, operands, along, options):
        return getattr(module, self.name)(*operands, **along, **self.fixed, **options)

    def written(self, results):
        """The results that `outputs` receive: the last ones; of log_normalize, the first."""
        count = len(self.outputs)
        return results[:count] if self.name == "log_normalize" else results[-count:]

    def cases(self, shape, axis):
        """No option, every value of each option alone, and the last value of every option at once."""
        yield {}
        chosen = {name: values_of(shape, axis) for name, values_of in self.options.items()}
        for name, several in chosen.items():
            for value in several:
                yield {name: value}
        yield {name: several[-1] for name, several in chosen.items()}

    def shapes(self):
        return SHAPES if self.has_axis else ELEMENTWISE_SHAPES


SHAPES = [((5,), 0), ((3, 17), 1), ((40, 3), -1), ((20, 6), 0), ((2, 33, 3), 1), ((2, 3, 2, 5), -3)]
ELEMENTWISE_SHAPES = [((), -1), ((5,), -1), ((9, 17), -1), ((2, 3, 2, 5), -1)]


def _all(results):
    return tuple(results) if isinstance(results, tuple) else (results,)


def _rows(shape, axis):
    return tuple(np.delete(shape, axis))


def _random(*salt):
    return np.random.default_rng([11, *salt])


# ---- operands ---------------------------------------------


def logits(shape, dtype, axis=-1):
    return values("normal", shape, dtype, 1)


def scores_of(name, shape, dtype, axis):
    if name.startswith("categorical"):
        return (0.9 * probabilities(shape, np.float64, 2, axis) + 0.1 / shape[axis]).astype(dtype)
    x = values("normal", shape, np.float64, 1)
    return (reference.log_softmax(x, axis) if name.startswith("nll") else x).astype(dtype)


def labels(shape, axis):
    """Class indices, including the one of the option ignore_index."""
    return _random(len(shape)).integers(0, shape[axis], _rows(shape, axis))


def _binary_scores(name, shape, dtype):
    x = values("normal", shape, np.float64, 3)
    return (x if "logits" in name else np.clip(x / 12 + 0.5, 0.01, 0.99)).astype(dtype)


def _binary_target(kind, shape, dtype):
    rng = _random(5)
    if kind == "hard":
        return np.asarray(rng.integers(0, 2, shape[-1:]), np.int8)
    return np.clip(rng.uniform(-0.3, 1.3, shape), 0, 1).astype(dtype)


def _backward(name):
    def operands(shape, dtype, axis):
        y = getattr(reference, name.removesuffix("_backward"))(values("normal", shape, np.float64, 4), axis)
        return y.astype(dtype), values("normal", shape, dtype, 6)

    return operands


# ---- options ---------------------------------------------


def _where(shape, axis):
    return [_random(7).random(shape) < 0.7, np.asarray(_random(8).random(shape[-1:]) < 0.6)]


def _weight(shape, axis):
    w = _random(9).uniform(0.25, 2, shape[axis])
    w[-1] = 0 if shape[axis] > 1 else 1
    return [w, w.astype(np.float32)]


def _sample_weight(shape, axis):
    return [_random(10).uniform(0, 2, _rows(shape, axis)), _random(11).integers(0, 3, _rows(shape, axis))]


def _broadcast_weight(shape, axis):
    return [2, _random(12).uniform(0, 2, shape[-1:]), np.asarray(_random(13).uniform(0, 2, shape))]


def _constant(*several):
    return lambda shape, axis: list(several)


TEMPERATURE = {"temperature": _constant(0.5, 3.0)}
REDUCTION = {"reduction": _constant("sum", "none"), "empty": _constant(0.0)}
DTYPE = {"dtype": _constant(np.float64)}
WEIGHTS = {"weight": _weight, "sample_weight": _sample_weight}
IGNORE = {"ignore_index": _constant(None, 1)}
BINARY_WEIGHTS = {"weight": _broadcast_weight}
POS_WEIGHT = {"pos_weight": _broadcast_weight}
HESSIAN = {"hess_scale": _constant(2.0), "hess_min": _constant(-np.inf, 0.05)}
GAMMA = {"gamma": _constant(0.0, 1.0, 3.25)}
ALPHA = {"alpha": _constant(1.0, 0.25)}


def _transforms():
    for name in ("softmax", "log_softmax"):
        yield Operation(name, lambda s, d, a: (logits(s, d),), {"where": _where} | TEMPERATURE | DTYPE, ("out",))
    options = {"b": _broadcast_weight, "where": _where, "keepdims": _constant(True)} | DTYPE
    yield Operation("logsumexp", lambda s, d, a: (logits(s, d),), options, ("out",))
    yield Operation("log_normalize", lambda s, d, a: (logits(s, d),), DTYPE, ("out",))
    for name in ("sigmoid", "log_sigmoid"):
        yield Operation(name, lambda s, d, a: (logits(s, d),), DTYPE, ("out",), has_axis=False)
    for name in ("softmax_backward", "log_softmax_backward"):
        yield Operation(name, _backward(name), {}, ("out",))


def _class_losses():
    for name in ("cross_entropy", "categorical_cross_entropy", "nll_loss"):
        options = WEIGHTS | IGNORE | REDUCTION | DTYPE
        if name == "cross_entropy":
            options = options | {"label_smoothing": _constant(1.0, 0.1)} | TEMPERATURE
        for kind in ("indices", "probabilities"):

            def operands(shape, dtype, axis, name=name, kind=kind):
                soft = kind == "probabilities"
                target = probabilities(shape, dtype, 3, axis) if soft else labels(shape, axis)
                return scores_of(name, shape, dtype, axis), target

            yield Operation(name, operands, options, kind=kind)
            yield Operation(f"{name}_and_grad", operands, options, ("grad_out",), kind)
    for kind in ("indices", "probabilities"):

        def operands(shape, dtype, axis, kind=kind):
            soft = kind == "probabilities"
            return logits(shape, dtype), probabilities(shape, dtype, 3, axis) if soft else labels(shape, axis)

        options = WEIGHTS | IGNORE | {"label_smoothing": _constant(1.0, 0.1)} | HESSIAN
        yield Operation("cross_entropy_grad_hess", operands, options, ("grad_out", "hess_out"), kind)


def _divergences():
    def operands(shape, dtype, axis):
        return logits(shape, dtype), values("normal", shape, dtype, 14)

    options = {"sample_weight": _sample_weight} | TEMPERATURE | REDUCTION | DTYPE
    for name in ("kl_divergence", "js_divergence"):
        yield Operation(name, operands, options)
    yield Operation("kl_divergence_and_grad", operands, options, ("grad_out",))


def _binary_losses():
    for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        weights = BINARY_WEIGHTS | (POS_WEIGHT if "logits" in name else {})
        for kind in ("hard", "soft"):

            def operands(shape, dtype, axis, name=name, kind=kind):
                return _binary_scores(name, shape, dtype), _binary_target(kind, shape, dtype)

            options = weights | REDUCTION | DTYPE
            yield Operation(name, operands, options, kind=kind, has_axis=False)
            yield Operation(f"{name}_and_grad", operands, options, ("grad_out",), kind, has_axis=False)
            if "logits" in name:
                outputs = ("grad_out", "hess_out")
                yield Operation(f"{name}_grad_hess", operands, weights | HESSIAN, outputs, kind, has_axis=False)


def _focal_losses():
    def rows(shape, dtype, axis):
        return logits(shape, dtype), labels(shape, axis)

    def elements(shape, dtype, axis):
        return logits(shape, dtype), _binary_target("hard", shape, dtype)

    for name, operands, options in (
        ("softmax_focal_loss", rows, WEIGHTS | IGNORE | GAMMA),
        ("sigmoid_focal_loss", elements, BINARY_WEIGHTS | ALPHA | GAMMA),
    ):
        has_axis = name.startswith("softmax")
        yield Operation(name, operands, options | REDUCTION | DTYPE, has_axis=has_axis)
        yield Operation(f"{name}_and_grad", operands, options | REDUCTION | DTYPE, ("grad_out",), has_axis=has_axis)
        yield Operation(f"{name}_grad_hess", operands, options | HESSIAN, ("grad_out", "hess_out"), has_axis=has_axis)


def _scores():
    k = {"k": lambda shape, axis: [1, 2, shape[axis]]}
    yield Operation("softmax_topk", lambda s, d, a: (logits(s, d),), k | TEMPERATURE)
    options = {"top_k": lambda shape, axis: [1, shape[axis]]} | TEMPERATURE | IGNORE
    yield Operation("token_logprobs", lambda s, d, a: (logits(s, d), labels(s, a)), options)
    filters = {
        "top_k": lambda shape, axis: [0, 1, (shape[axis] + 1) // 2],
        "top_p": lambda shape, axis: [0.75, 0.95],
        "min_p": lambda shape, axis: [1.0, 0.01],
    }
    yield Operation(
        "sample",
        lambda s, d, a: (logits(s, d), _random(7).random(_rows(s, a))),
        TEMPERATURE | filters | {"where": _where},
    )
    yield Operation("softmax_entropy", lambda s, d, a: (logits(s, d),), TEMPERATURE | DTYPE)


def _calibration():
    def operands(shape, dtype, axis):
        return logits(shape, dtype), labels(shape, axis)

    sample_weight = {"sample_weight": _sample_weight}
    yield Operation("fit_temperature", operands, WEIGHTS | IGNORE)
    options = {"bins": _constant(1, 10), "norm": _constant("l2", "max")}
    yield Operation("calibration_error", operands, options | TEMPERATURE | sample_weight | IGNORE)
    yield Operation("brier_score", operands, TEMPERATURE | sample_weight | IGNORE | REDUCTION)


OPERATIONS = [
    *_transforms(),
    *_class_losses(),
    *_divergences(),
    *_binary_losses(),
    *_focal_losses(),
    *_scores(),
    *_calibration(),
]
