"""The cases that are measured.

Lives here: the cases (operation, shape, axis, dtype) and their inputs. Must not: how a library computes them (peers),
targets (targets.py), timing, printing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

# Operations by what they read and write, in arrays of the case's shape.
BACKWARD = ("softmax_backward", "log_softmax_backward")  # of a result and the gradient with respect to it
DIVERGENCES = ("kl_divergence", "js_divergence")  # of two arrays of logits
TWO_READS = ("binary_cross_entropy", "binary_cross_entropy_with_logits", *BACKWARD, *DIVERGENCES)
TRANSFORMS = ("softmax", "log_softmax", "sigmoid")
CALIBRATION = ("fit_temperature", "calibration_error", "brier_score")  # one number of all rows
SCORES = ("softmax_topk", "token_logprobs")  # a few numbers for each row
GATHERED = ("nll_loss", "categorical_cross_entropy")  # with labels, they read one element of each row
TOP = 5  # numbers of a score, without the option k=N
SMOOTHING, TEMPERATURE, POS_WEIGHT, TOP_P = 0.1, 2.0, 3.0, 0.9
NEIGHBOURS = {"0.9x columns": 0.9, "1.1x columns": 1.1}

# Options of a case, the words that its name ends with:
#   soft-targets, smoothing, weights (of classes), none (reduction), where, temperature, b (of logsumexp),
#   pos-weight (of a binary loss)
#   k=N: of scores, how many numbers
#   top-p: of sample
#   order=F, stride=2: how the inputs lie in memory: in Fortran's order; as every other column of a larger array
#   special: the call goes through softloss.special
#   page: rows of a power of two bytes, where a load may wait for an earlier store to the same place of another page of
#       4 KiB; compared with rows a tenth shorter and longer


@dataclass(frozen=True)
class Case:
    """One operation on one array: `op` is the name of the function in softloss."""

    op: str
    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float32"
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        axis = "" if self.axis == -1 else f"@{self.axis}"
        dtype = () if self.dtype == "float32" else (self.dtype,)
        return " ".join((self.op, "x".join(map(str, self.shape)) + axis, *dtype, *self.options))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def classes(self) -> int:
        return self.shape[self.axis]

    @property
    def base(self) -> str:
        """The operation that computes only the loss."""
        return self.op.removesuffix("_and_grad").removesuffix("_grad_hess")

    @property
    def takes_target(self) -> bool:
        return self.op not in (*TRANSFORMS, "logsumexp", "softmax_topk", "softmax_entropy", "log_normalize")

    @property
    def soft(self) -> bool:
        return "soft-targets" in self.options

    @property
    def k(self) -> int:
        """How many numbers a score returns."""
        return next((int(option[2:]) for option in self.options if option.startswith("k=")), TOP)

    @property
    def arguments(self) -> bool:
        """Whether any option is another computation, not another place in memory."""
        return any(option not in ("order=F", "stride=2", "special", "page") for option in self.options)

    @property
    def reads(self) -> int:
        """Arrays of the shape of the case that must be read."""
        return 2 if self.base in TWO_READS or self.soft or "b" in self.options else 1

    @property
    def writes(self) -> int:
        """Arrays of the shape of the case that must be written."""
        if self.op in (*TRANSFORMS, *BACKWARD, "log_normalize") or self.op.endswith("_and_grad"):
            return 1
        return 2 * self.op.endswith("_hess")

    @property
    def gathers(self) -> bool:
        """Whether only the elements at the labels are read."""
        return self.op in GATHERED and not self.soft

    @property
    def has_roof(self) -> bool:
        """Whether bytes and exponentials limit the case: not if labels are gathered or elements are strided, or if the
        array is read several times."""
        return not self.gathers and "stride=2" not in self.options and self.op != "fit_temperature"

    @property
    def exponentials(self) -> int:
        """Exponentials, or logarithms, that must be computed."""
        return 0 if self.op in ("softmax_backward", "nll_loss") else (1 + (self.base in DIVERGENCES)) * self.size

    @property
    def variants(self) -> tuple[str, ...]:
        """fresh: the call allocates its result; out: it writes into a given array."""
        return ("fresh", "out") if self.writes else ("fresh",)

    @property
    def nbytes(self) -> int:
        """Bytes that must move: arrays read and written once (labels, masks and scalars are left out)."""
        itemsize = np_dtype(self.dtype).itemsize
        if self.gathers:
            return self.size // self.classes * itemsize
        return (self.reads + self.writes) * self.size * itemsize

    @property
    def plain(self) -> dict[str, Case]:
        """Calls of softloss to compare with: without each of the options; for a score, the loss of each row; for a
        divergence, the loss of one array."""
        if self.base in DIVERGENCES:
            return {"cross_entropy": replace(self, op=self.op.replace(self.base, "cross_entropy"))}
        if self.op in SCORES:
            return {"cross_entropy none": replace(self, op="cross_entropy", options=("none",))}
        if "page" in self.options:
            lengths = {name: round(factor * self.classes) for name, factor in NEIGHBOURS.items()}
            return {name: replace(self, shape=(self.size // n, n), options=()) for name, n in lengths.items()}
        removable = [option for option in self.options if option != "special"]
        return {
            f"without {option}": replace(self, options=tuple(other for other in self.options if other != option))
            for option in removable
        }


def np_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


class Data:
    """Inputs of a case: `x`, and `target` if the operation has one; `out` is memory for a result."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._rng = np.random.default_rng(0)
        x = 3 * self._rng.standard_normal(case.shape, np.float32)
        if case.base == "binary_cross_entropy":
            x = np.clip(1 / (1 + np.exp(-x)), 1e-3, 1 - 1e-3)
        if case.op == "nll_loss":
            x = -np.abs(x)
        if case.base == "categorical_cross_entropy" or case.op in BACKWARD:
            x = self._probabilities(x)
        if case.op == "log_softmax_backward":
            x = np.log(x)
        self.x = self._laid_out(x)
        self.target = self._target()

    def _probabilities(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        e = np.exp(x - x.max(self.case.axis, keepdims=True))
        return e / e.sum(self.case.axis, keepdims=True)

    def _target(self) -> np.ndarray[Any, Any]:
        case = self.case
        if case.base.startswith(("binary", "sigmoid_focal")):
            return (self._rng.random(case.shape, np.float32) < 0.5).astype(self.x.dtype)
        if case.op in BACKWARD:
            return self._laid_out(self._rng.standard_normal(case.shape, np.float32))
        if case.base in DIVERGENCES:
            return self._laid_out(3 * self._rng.standard_normal(case.shape, np.float32))
        if case.soft:
            return self._laid_out(self._probabilities(self._rng.standard_normal(case.shape, np.float32)))
        if case.op in CALIBRATION:  # labels that the logits foretell, as those of a classifier: T is about 2
            return (self.x + 2 * self._rng.gumbel(size=case.shape)).argmax(case.axis)
        rows = [n for i, n in enumerate(case.shape) if i != case.axis % len(case.shape)]
        if case.op == "sample":
            return self._rng.random(rows)
        return self._rng.integers(0, case.classes, rows)

    def _laid_out(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The array in the dtype and the memory layout of the case."""
        x = x.astype(np_dtype(self.case.dtype), copy=False)
        if "order=F" in self.case.options:
            return np.asfortranarray(x)
        return np.repeat(x, 2, axis=-1)[..., ::2] if "stride=2" in self.case.options else x

    @cached_property
    def out(self) -> np.ndarray[Any, Any]:
        return np.zeros_like(self.x)

    @cached_property
    def weights(self) -> np.ndarray[Any, Any]:
        """Weights of the classes."""
        return self._rng.uniform(0.5, 2, self.case.classes).astype(self.x.dtype)

    @cached_property
    def where(self) -> np.ndarray[Any, Any]:
        """A mask of nine elements of ten, at least one in each row."""
        where = self._rng.random(self.case.shape, np.float32) < 0.9
        np.moveaxis(where, self.case.axis, 0)[0] = True
        return where

    @cached_property
    def b(self) -> np.ndarray[Any, Any]:
        return self._laid_out(self._rng.uniform(0.5, 2, self.case.shape))


# ---- cases --------------------------------------------------------------------------------------------------------

TINY = (10,)
SMALL = ((1, 1000), (64, 1000), (1, 128256))
LONG_ROWS = ((128, 50257), (2048, 32000), (1024, 128256), (6144, 512), (49152, 128), (100000, 100))
SHORT_ROWS = ((1000000, 3), (1000000, 10))
OTHER_AXES = (((32, 81, 8732), 1), ((8, 21, 512, 512), 1), ((1000, 4096), 0))
ELEMENTWISE = ((1000,), (1000000,), (50000000,))
WITH_OPTIONS = ((64, 1000), (6144, 512), (128, 50257), (1000000, 10), (1000000, 2))
SCORED = ((1000000, 2), (1000000, 3), (1000000, 10), (100000, 63), (64, 1000), (128, 50257))
SEGMENTATION = (4, 21, 128, 128)
STATISTICS = (((1000000, 3), -1), ((4000,), -1), ((4000, 1000), 0), ((20, 200000), 0))  # of logsumexp in float64
PAGES = tuple(((1 << 24) // n, n) for n in (128, 256, 512, 1024, 2048, 4096))  # 64 MiB of float32
OTHER_DTYPES = ((64, 1000), (128, 50257), (2048, 32000), (1000000, 10))


def _all_cases() -> list[Case]:
    cases = []
    for op in ("softmax", "cross_entropy", "cross_entropy_and_grad"):
        cases += [Case(op, shape) for shape in (TINY, *SMALL, *LONG_ROWS, *SHORT_ROWS)]
        cases += [Case(op, shape, axis) for shape, axis in OTHER_AXES]
    for op, shapes in (
        ("log_softmax", (TINY, *SMALL, *LONG_ROWS, (1000000, 10))),
        ("logsumexp", (TINY, *SMALL, (128, 50257), (2048, 32000), (1000000, 10))),
    ):
        cases += [Case(op, shape) for shape in shapes] + [Case(op, (1000, 4096), 0)]
    cases += [Case(op, shape) for op in SCORES for shape in ((1, 128256), (128, 50257))]
    for shape in ((1, 128256), (64, 50257), (64, 1000), (100000, 10)):
        cases += [Case("sample", shape), Case("sample", shape, options=("top-p",))]
    for op in (*DIVERGENCES, "kl_divergence_and_grad", "softmax_entropy", "log_normalize"):
        cases += [Case(op, shape) for shape in ((64, 1000), (2048, 32000), (100000, 10))]
    cases += [Case("nll_loss", shape) for shape in ((64, 1000), (2048, 32000), (1000000, 10))]
    cases += [Case("cross_entropy_grad_hess", shape) for shape in ((1000000, 10), (100000, 100))]
    for op in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        cases += [Case(op + kind, shape) for kind in ("", "_and_grad") for shape in ELEMENTWISE]
    cases += [Case("binary_cross_entropy_with_logits_grad_hess", (1000000,))]
    cases += [Case(f"sigmoid_focal_loss{kind}", (1000000,)) for kind in ("", "_and_grad", "_grad_hess")]
    cases += [Case(f"softmax_focal_loss{kind}", (100000, 10)) for kind in ("", "_and_grad", "_grad_hess")]
    cases += [Case(op, shape) for op in CALIBRATION for shape in ((100000, 100), (1000000, 10), (64, 1000))]
    cases += [Case("sigmoid", shape) for shape in ELEMENTWISE]
    for dtype in ("float64", "float16", "bfloat16"):
        cases += [Case(op, shape, dtype=dtype) for op in ("softmax", "cross_entropy") for shape in OTHER_DTYPES]
    return cases + _with_options()


def _with_options() -> list[Case]:
    losses = ("cross_entropy", "cross_entropy_and_grad")
    cases = [
        Case(op, shape, options=(option,))
        for option in ("soft-targets", "smoothing", "weights", "none", "temperature")
        for op in losses
        for shape in WITH_OPTIONS
    ]
    for option, ops in (("temperature", ("softmax",)), ("where", ("softmax", "log_softmax", "logsumexp"))):
        cases += [Case(op, shape, options=(option,)) for op in ops for shape in WITH_OPTIONS]
    cases += [Case(op, shape) for op in BACKWARD for shape in WITH_OPTIONS]
    for op, option in (("softmax_topk", "k=1"), ("token_logprobs", "k=0")):
        cases += [Case(op, shape, options=(option,)) for shape in SCORED]
    for op in ("softmax", *losses):
        cases += [Case(op, shape, options=("order=F",)) for shape in ((2048, 32000), (4096, 512))]
        cases += [Case(op, (4096, 512)), Case(op, (4096, 512), options=("stride=2",))]
        cases += [Case(op, SEGMENTATION, 1)]
    cases += [Case(op, SEGMENTATION, 1, options=("smoothing",)) for op in losses]
    cases += [Case(op, shape, options=("soft-targets",)) for op in GATHERED for shape in WITH_OPTIONS]
    cases += [Case("categorical_cross_entropy_and_grad", shape, options=("soft-targets",)) for shape in WITH_OPTIONS]
    cases += [Case("logsumexp", shape, options=("b",)) for shape in ((100000, 10), (64, 1000), (128, 50257))]
    cases += [Case("logsumexp", shape, axis, "float64") for shape, axis in STATISTICS]
    cases += [Case(op, shape, options=("page",)) for op in ("softmax", "cross_entropy_and_grad") for shape in PAGES]
    return [*cases, Case("logsumexp", (2,), dtype="float64", options=("special",))]


CASES = _all_cases()
QUICK = [
    *(Case(op, shape) for op in ("softmax", "cross_entropy") for shape in (TINY, (64, 1000), (6144, 512))),
    *(Case(op, (100000, 10)) for op in ("softmax", "cross_entropy", "cross_entropy_and_grad", "logsumexp")),
    Case("softmax", (1000, 4096), 0),
    *(Case(op, (1000000,)) for op in ("binary_cross_entropy_with_logits", "sigmoid")),
]
MANY_THREADS_FROM = 64000  # elements: smaller cases are measured on one thread only
