"""What is measured, and what each measurement must reach.

Lives here: the cases (operation, shape, axis, dtype), their inputs, and the one table of targets. Must not: timing,
peers, printing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

# Operations by what they read and write, in arrays of the case's shape.
READS = {"binary_cross_entropy": 2, "binary_cross_entropy_with_logits": 2}
TRANSFORMS = ("softmax", "log_softmax", "sigmoid")
SCORES = ("softmax_topk", "token_logprobs")  # a few numbers for each row
TOP = 5  # of them


@dataclass(frozen=True)
class Case:
    """One operation on one array: `op` is the name of the function in softloss."""

    op: str
    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float32"

    def __str__(self) -> str:
        axis = "" if self.axis == -1 else f"@{self.axis}"
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{self.op} {'x'.join(map(str, self.shape))}{axis}{dtype}"

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def classes(self) -> int:
        return self.shape[self.axis]

    @property
    def base(self) -> str:
        """The operation without what is computed beside the loss."""
        return self.op.removesuffix("_and_grad").removesuffix("_grad_hess")

    @property
    def takes_target(self) -> bool:
        return self.op not in (*TRANSFORMS, "logsumexp", "softmax_topk")

    @property
    def reads(self) -> int:
        """Arrays of the case's shape that must be read."""
        return READS.get(self.base, 1)

    @property
    def writes(self) -> int:
        """Arrays of the case's shape that must be written."""
        return 1 if self.op in TRANSFORMS or self.op.endswith("_and_grad") else 2 * self.op.endswith("_hess")

    @property
    def has_roof(self) -> bool:
        """Whether bytes and exponentials bound it: gathering labels is neither."""
        return self.op != "nll_loss"

    @property
    def variants(self) -> tuple[str, ...]:
        """fresh: the call allocates its result; out: it writes into a given array."""
        return ("fresh", "out") if self.writes else ("fresh",)

    @property
    def nbytes(self) -> int:
        """Bytes that must move: arrays read and written once (labels and scalars are left out)."""
        if self.op == "nll_loss":
            return self.size // self.classes * np_dtype(self.dtype).itemsize
        return (self.reads + self.writes) * self.size * np_dtype(self.dtype).itemsize


def np_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


class Data:
    """Inputs of a case: `x`, and where the operation takes one, `target`; `out` is memory for a result."""

    def __init__(self, case: Case) -> None:
        rng = np.random.default_rng(0)
        dtype = np_dtype(case.dtype)
        x = 3 * rng.standard_normal(case.shape, np.float32)
        if case.base == "binary_cross_entropy":
            x = np.clip(1 / (1 + np.exp(-x)), 1e-3, 1 - 1e-3)
        if case.op == "nll_loss":
            x = -np.abs(x)
        self.case = case
        self.x = x.astype(dtype, copy=False)
        if case.base.startswith("binary"):
            self.target = (rng.random(case.shape, np.float32) < 0.5).astype(dtype)
        else:
            rows = [n for i, n in enumerate(case.shape) if i != case.axis % len(case.shape)]
            self.target = rng.integers(0, case.classes, rows)

    @cached_property
    def out(self) -> np.ndarray[Any, Any]:
        return np.zeros_like(self.x)


# ---- cases --------------------------------------------------------------------------------------------------------

TINY = (10,)
SMALL = ((1, 1000), (64, 1000), (1, 128256))
LONG_ROWS = ((128, 50257), (2048, 32000), (1024, 128256), (6144, 512), (49152, 128), (100000, 100))
SHORT_ROWS = ((1000000, 3), (1000000, 10))
OTHER_AXES = (((32, 81, 8732), 1), ((8, 21, 512, 512), 1), ((1000, 4096), 0))
ELEMENTWISE = ((1000,), (1000000,), (50000000,))
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
    cases += [Case("nll_loss", shape) for shape in ((64, 1000), (2048, 32000), (1000000, 10))]
    cases += [Case("cross_entropy_grad_hess", shape) for shape in ((1000000, 10), (100000, 100))]
    for op in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        cases += [Case(op + kind, shape) for kind in ("", "_and_grad") for shape in ELEMENTWISE]
    cases += [Case("binary_cross_entropy_with_logits_grad_hess", (1000000,))]
    cases += [Case("sigmoid", shape) for shape in ELEMENTWISE]
    for dtype in ("float64", "float16", "bfloat16"):
        cases += [Case(op, shape, dtype=dtype) for op in ("softmax", "cross_entropy") for shape in OTHER_DTYPES]
    return cases


CASES = _all_cases()
QUICK = [
    *(Case(op, shape) for op in ("softmax", "cross_entropy") for shape in (TINY, (64, 1000), (6144, 512))),
    *(Case(op, (100000, 10)) for op in ("softmax", "cross_entropy", "cross_entropy_and_grad", "logsumexp")),
    Case("softmax", (1000, 4096), 0),
    *(Case(op, (1000000,)) for op in ("binary_cross_entropy_with_logits", "sigmoid")),
]
MANY_THREADS_FROM = 64000  # elements: smaller cases are measured on one thread only


# ---- targets ------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One measurement, as it is printed and stored: a case, a variant, a number of threads."""

    case: Case
    variant: str
    threads: int
    seconds: dict[str, float]  # best time of each subject; "softloss" is one of them
    ratio: dict[str, float]  # median over the rounds of subject's time / softloss's time
    roof: dict[str, float]  # median over the rounds of roof's parts / softloss's time: "move", "exp", "call"
    cache: int  # bytes of the last-level cache

    @property
    def best_peer(self) -> str | None:
        from peers import PEERS

        return min((name for name in self.ratio if name in PEERS), key=self.ratio.__getitem__, default=None)

    @property
    def x_roof(self) -> float:
        """softloss's time as a multiple of the roof."""
        return 1 / (max(self.roof["move"], self.roof["exp"]) + self.roof["call"])

    @property
    def beyond_cache(self) -> bool:
        return self.case.nbytes > self.cache

    def against(self, reference: str) -> float | None:
        """How many times as fast softloss is as `reference`; for avx2, our own kernels, the other way round."""
        if reference == "roof":
            return 1 / self.x_roof
        if reference == "avx2":
            return 1 / self.ratio["avx2"] if "avx2" in self.ratio else None
        if reference == "best peer":
            return self.ratio[self.best_peer] if self.best_peer else None
        return self.ratio.get(reference)


@dataclass(frozen=True)
class Target:
    """Where `applies`, softloss must be at least `factor` times as fast as `reference`."""

    reference: str
    factor: float
    applies: Callable[[Row], bool]


def _rows(row: Row, *ops: str, dtype: str = "float32") -> bool:
    return row.case.op in ops and row.case.dtype == dtype and row.case.size > 10


def _long(row: Row, variant: str) -> bool:
    case = row.case
    return _rows(row, "softmax", "log_softmax") and row.variant == variant and case.axis == -1 and case.classes >= 100


def _short(row: Row) -> bool:
    return _rows(row, "softmax") and row.case.axis == -1 and row.case.classes <= 10


def _other_axis(row: Row) -> bool:
    return _rows(row, "softmax") and row.case.axis != -1


def _large_binary(row: Row) -> bool:
    return row.case.base.startswith("binary") and row.case.size >= 1000000 and not row.case.op.endswith("hess")


def _large_sigmoid(row: Row) -> bool:
    return row.case.op == "sigmoid" and row.case.size >= 1000000


def _half(row: Row) -> bool:
    return row.case.dtype in ("float16", "bfloat16")


def _judged_by_roof(row: Row) -> bool:
    """Bandwidth of many threads swings on shared machines, and page faults are not the kernel's."""
    return row.threads == 1 and row.variant == row.case.variants[-1]


def _peer_is_far_from_roof(row: Row) -> bool:
    ratio = row.against("best peer")
    return ratio is not None and ratio * row.x_roof > 2


def _compute_binds(row: Row) -> bool:
    return row.roof["exp"] > row.roof["move"] and row.case.size >= 1000000


def _roof(limit: float, applies: Callable[[Row], bool]) -> Target:
    return Target("roof", 1 / limit, lambda row: _judged_by_roof(row) and applies(row))


SLACK = 0.97  # what counts as equal, given the noise
TARGETS = [
    Target("best peer", 1.0, lambda r: _long(r, "out")),
    Target("best peer", 1.5, lambda r: _long(r, "out") and _peer_is_far_from_roof(r)),
    _roof(1.25, lambda r: _long(r, "out")),
    Target("best peer", 1.0, lambda r: _long(r, "fresh")),
    Target("best peer", 1.3, lambda r: _long(r, "fresh") and r.beyond_cache),
    Target("np.copyto", 1.2, lambda r: str(r.case) == "softmax 2048x32000" and r.variant == "out" and r.threads == 2),
    Target("best peer", 8.0, _short),
    _roof(2.0, _short),
    Target("best peer", 4.0, _other_axis),
    _roof(1.6, _other_axis),
    Target("best peer", 3.0, lambda r: _rows(r, "cross_entropy") and r.case.classes > 10),
    Target("best peer", 8.0, lambda r: _rows(r, "cross_entropy") and r.case.classes <= 10),
    _roof(1.4, lambda r: _rows(r, "cross_entropy") and r.case.classes > 10),
    _roof(2.0, lambda r: _rows(r, "cross_entropy") and r.case.classes <= 10),
    Target("torch", 4.0, lambda r: _rows(r, "cross_entropy_and_grad")),
    Target("best peer", 3.0, lambda r: _rows(r, "cross_entropy_and_grad")),
    _roof(1.6, lambda r: _rows(r, "cross_entropy_and_grad")),
    Target("best peer", 4.0, lambda r: _rows(r, "logsumexp")),
    _roof(1.4, lambda r: _rows(r, "logsumexp")),
    Target("best peer", 1.0, lambda r: _rows(r, *SCORES)),
    Target("sorted pairs", 100.0, lambda r: str(r.case) == "token_logprobs 1x128256"),
    Target("best peer", 3.0, _large_binary),
    _roof(1.6, _large_binary),
    Target("best peer", 1.4, _large_sigmoid),
    _roof(1.3, _large_sigmoid),
    Target("best peer", 2.5, lambda r: _rows(r, "softmax", "cross_entropy", dtype="float64")),
    _roof(2.0, lambda r: _rows(r, "softmax", "cross_entropy", dtype="float64")),
    Target("best peer", 4.0, _half),
    Target("float32", 1.0, lambda r: _half(r) and r.beyond_cache),
    Target("best peer", 1.0, lambda r: r.case.size <= 10),
    Target("np.exp", 1 / 1.5, lambda r: r.case.size <= 10 and r.case.op == "softmax" and r.variant == "fresh"),
    Target("one thread", SLACK, lambda r: r.threads > 1),
    Target("one thread", 1.8, lambda r: r.threads == 2 and _compute_binds(r)),
    Target("avx2", 0.75, lambda r: r.threads == 1 and r.case.size >= MANY_THREADS_FROM),
]


def _miss(target: Target, got: float) -> str:
    if target.reference == "roof":
        return f"{1 / got:.2f}x roof > {1 / target.factor:.2f}x"
    if target.reference == "avx2":
        return f"avx2 {got:.2f} < {target.factor:.2f} of our speed"
    return f"{got:.2f}x {target.reference} < {target.factor:.2f}x"


def judge(row: Row) -> tuple[bool | None, list[str]]:
    """Whether the row meets all its targets (None: it has none), and which it misses."""
    checked, missed = 0, []
    for target in TARGETS:
        got = row.against(target.reference) if target.applies(row) else None
        if got is None:
            continue
        checked += 1
        if got < target.factor:
            missed.append(_miss(target, got))
    return (not missed if checked else None), missed
