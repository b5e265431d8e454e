"""The targets of the measurements.

Lives here: a measurement as it is stored, and the one table of targets. Must not: timing, printing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cases import BACKWARD, DIVERGENCES, MANY_THREADS_FROM, NEIGHBOURS, SCORES, Case
from peers import PEERS


@dataclass
class Row:
    """One measurement, as printed and stored: a case, a variant, a number of threads."""

    case: Case
    variant: str
    threads: int
    seconds: dict[str, float]  # best time of each subject; "softloss" is one of them
    ratio: dict[str, float]  # median over the rounds of subject's time / softloss's time
    roof: dict[str, float]  # median over the rounds of roof's parts / softloss's time: "move", "exp", "call"
    cache: int  # bytes of the last-level cache

    @property
    def best_peer(self) -> str | None:
        return min((name for name in self.ratio if name in PEERS), key=self.ratio.__getitem__, default=None)

    @property
    def x_roof(self) -> float:
        """The time of softloss as a multiple of the roof."""
        return 1 / (max(self.roof["move"], self.roof["exp"]) + self.roof["call"])

    @property
    def beyond_cache(self) -> bool:
        return self.case.nbytes > self.cache

    def against(self, reference: str) -> float | None:
        """Speed of softloss relative to `reference`; for avx2, softloss's own kernels, the inverse."""
        if reference == "roof":
            return 1 / self.x_roof
        if reference == "avx2":
            return 1 / self.ratio["avx2"] if "avx2" in self.ratio else None
        if reference == "best peer":
            return self.ratio[self.best_peer] if self.best_peer else None
        if reference == "neighbours":
            near = [self.ratio[name] for name in NEIGHBOURS if name in self.ratio]
            return sum(near) / len(near) if near else None
        return self.ratio.get(reference)


@dataclass(frozen=True)
class Target:
    """If `applies`, softloss must be at least `factor` times as fast as `reference`."""

    reference: str
    factor: float
    applies: Callable[[Row], bool]


def _rows(row: Row, *ops: str, dtype: str = "float32") -> bool:
    case = row.case
    return case.op in ops and case.dtype == dtype and case.size > 10 and not case.options


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
    """The bandwidth of many threads varies on shared machines, and page faults do not depend on the kernel."""
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
    Target("best peer", 3.0, lambda r: _rows(r, "kl_divergence", "kl_divergence_and_grad")),
    Target("cross_entropy", 1 / 2.2, lambda r: _rows(r, "kl_divergence")),
    Target("best peer", 1.0, lambda r: _rows(r, *DIVERGENCES, "softmax_entropy", "log_normalize")),
    Target("best peer", 5.0, lambda r: _rows(r, "fit_temperature")),
    Target("best peer", 2.0, lambda r: _rows(r, "calibration_error", "brier_score")),
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
    Target("best peer", 1.0, lambda r: bool(r.case.options) or r.case.op in BACKWARD),
    Target("neighbours", 1 / 1.1, lambda r: r.threads == 1 and r.variant == r.case.variants[-1]),
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
