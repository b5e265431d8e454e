"""Look for lengths of rows that are slower than their neighbours: python benchmarks/sweep.py

Times softloss on one thread over row lengths from 2 to 32000: powers of two with their neighbours, and a geometric
grid. Prints the lengths that take more than 1.3 times as long for each element as both neighbours ("cliff"), after
measuring the three once more, or as the one before ("step"). Writes benchmarks/results/<cpu>-sweep.json, one file for
each CPU: curves measured before stay there until they are measured again. `python benchmarks/pictures.py` draws them.

Lives here: the lengths, the timing, the search for cliffs. Must not: how a case is called (peers/softloss.py), how the
picture looks (pictures.py).
"""

from __future__ import annotations

import argparse
import json
import time
import timeit
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import peers
import roof
from cases import BACKWARD, Case, np_dtype
from rich.progress import track
from run import RESULTS, bind, console, cpu_name, cpu_stem

LONGEST = 32000
CLIFF = 1.3  # times as long as both neighbours
IN_CACHE = 256 << 10  # bytes of an input that stays in the second-level cache, with a result
SAMPLES = 3  # at the least; the best counts
OPERATIONS = (
    "softmax",
    "cross_entropy",
    "cross_entropy_and_grad",
    "cross_entropy soft-targets",
    "cross_entropy smoothing",
)
DTYPES = ("float32", "float64", "float16")
PLACES = ("cache", "memory")


def row_lengths(longest: int, ratio: float) -> list[int]:
    """Powers of two, their neighbours, and numbers that grow by `ratio`."""
    powers = [1 << i for i in range(1, longest.bit_length())]
    grid = [round(2 * ratio**i) for i in range(int(np.log(longest / 2) / np.log(ratio)) + 1)]
    near = {power + step for power in powers for step in (-1, 0, 1)}
    return sorted(n for n in {*near, *grid, longest} if 2 <= n <= longest)


@lru_cache(maxsize=2)
def memory(dtype: str, size: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Logits, probabilities and room for a result; the rows of all lengths are cut from them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(size, np.float32)
    return tuple(array.astype(np_dtype(dtype)) for array in (3 * x, 1 / (1 + np.exp(-x)), np.zeros_like(x)))


class Rows:
    """Inputs of a case, in the form that peers takes, without memory of their own."""

    def __init__(self, case: Case, size: int) -> None:
        x, probabilities, out = (array[: case.size].reshape(case.shape) for array in memory(case.dtype, size))
        self.x, self.out = x, out
        self.weights = probabilities.ravel()[: case.classes]
        if case.soft or case.op in BACKWARD:
            self.target = probabilities
        else:
            self.target = np.random.default_rng(0).integers(0, case.classes, case.shape[0])


def nanoseconds(name: str, dtype: str, place: str, length: int, budget: float) -> float:
    """Best time for one element."""
    nbytes = IN_CACHE if place == "cache" else 2 * roof.last_level_cache()
    size = nbytes // np_dtype(dtype).itemsize
    op, *options = name.split()
    case = Case(op, (max(1, size // length), length), dtype=dtype, options=tuple(options))
    statement = peers.compute("softloss", case, Rows(case, size), 1)[case.variants[-1]]
    timed = timeit.Timer(statement.code, globals=statement.names).timeit
    timed(1)
    start, samples = time.perf_counter(), []
    while len(samples) < SAMPLES or time.perf_counter() - start < budget:
        samples.append(timed(1))
    return min(samples) * 1e9 / case.size


def cliffs(curve: dict[int, float]) -> list[int]:
    """Lengths that are slower than both neighbours."""
    lengths = sorted(curve)
    triples = zip(lengths, lengths[1:], lengths[2:], strict=False)
    return [n for before, n, after in triples if curve[n] > CLIFF * max(curve[before], curve[after])]


def steps(curve: dict[int, float]) -> list[int]:
    """Lengths from which on the time is longer than just before: where another path begins too early, or too late."""
    lengths = sorted(curve)
    return [n for before, n in zip(lengths, lengths[1:], strict=False) if curve[n] > CLIFF * curve[before]]


def measure(curve: dict[int, float], lengths: list[int], timed: Callable[[int], float]) -> list[int]:
    """Fill the curve; what looks like a cliff is measured again, with its neighbours, before it is believed."""
    for length in lengths:
        curve[length] = timed(length)
    for length in cliffs(curve):
        at = lengths.index(length)
        for near in lengths[at - 1 : at + 2]:
            curve[near] = min(curve[near], timed(near))
    return cliffs(curve)


def store(path: Path, curves: list[dict[str, Any]]) -> None:
    """Put the curves in the place of those of the same operation, dtype, place and ISA."""

    def key(curve: dict[str, Any]) -> tuple[str, ...]:
        return curve["isa"], curve["operation"], curve["dtype"], curve["place"]

    stored = json.loads(path.read_text())["curves"] if path.exists() else []
    merged = {key(curve): curve for curve in [*stored, *curves]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cpu": cpu_name(), "curves": list(merged.values())}, indent=1) + "\n")
    console.print(f"written: {path}; its picture: python benchmarks/pictures.py")


def parse() -> argparse.Namespace:
    import softloss

    usable = softloss._core.usable_isas()

    def several(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operations", type=several, default=list(OPERATIONS), metavar="A,B")
    parser.add_argument("--dtypes", type=several, default=list(DTYPES), metavar="A,B")
    parser.add_argument("--places", type=several, default=list(PLACES), metavar="A,B")
    parser.add_argument("--isas", type=several, default=[softloss._core.isa()], metavar="A,B", help=f"of {usable}")
    parser.add_argument("--longest", type=int, default=LONGEST, metavar="N", help="the longest row")
    parser.add_argument("--ratio", type=float, default=1.15, help="by which the lengths of the grid grow")
    parser.add_argument("--seconds", type=float, default=0.02, help="time for each length")
    parser.add_argument("--json", type=Path, default=None, help="where to write; default: benchmarks/results/")
    return parser.parse_args()


def main() -> None:
    bind(1)
    import softloss

    options = parse()
    lengths = row_lengths(options.longest, options.ratio)
    combinations = [
        (isa, operation, dtype, place)
        for dtype in options.dtypes
        for place in options.places
        for isa in options.isas
        for operation in options.operations
    ]
    curves = []
    for isa, operation, dtype, place in track(combinations, "measuring", console=console, transient=True):
        softloss._core.set_isa(isa)
        curve: dict[int, float] = {}
        timed = lambda n: nanoseconds(operation, dtype, place, n, options.seconds)  # noqa: B023, E731
        found = measure(curve, lengths, timed)
        for n in sorted({*found, *steps(curve)}):
            at = lengths.index(n)
            around = ", ".join(f"{near}: {curve[near]:.2f}" for near in lengths[at - 1 : at + 2])
            kind = "cliff" if n in found else "step"
            console.print(f"[red]{kind}[/]: {operation} {dtype}, {place}, {isa}: ns by length: {around}")
        curves.append(
            {
                "isa": isa,
                "operation": operation,
                "dtype": dtype,
                "place": place,
                "date": time.strftime("%Y-%m-%d"),
                "nanoseconds": {str(n): round(curve[n], 4) for n in lengths},
                "cliffs": found,
                "steps": steps(curve),
            }
        )
    console.print(f"{sum(len(curve['cliffs']) for curve in curves)} cliffs in {len(curves)} curves")
    store(options.json or RESULTS / f"{cpu_stem()}-sweep.json", curves)


if __name__ == "__main__":
    main()
