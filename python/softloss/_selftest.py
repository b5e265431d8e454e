"""``python -m softloss --selftest``: checks accuracy and bits on this machine, in seconds.

Values: results for numerically hard rows, against 60-digit decimal arithmetic, in units in the last place. Bits: a
digest of many results, for each usable instruction set and several numbers of threads, against the one stored here.

Lives here: these checks and their report. Must not: anything that a program would call; packages other than NumPy.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

import softloss
from softloss import _core

# To renew after a deliberate change of the bits (say so in CHANGELOG.md): copy the digest that the failure prints.
DIGEST = "20cf6ade90ab80ad46fb75c5836712fc"
DIGITS = 60
THREADS = (1, 2, 3, 7)
BAR = 30


# ---- inputs ---------------------------------------------------------------------------------------------------------


def uniform(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Return numbers in [-1, 1), the same on every machine and with every version of NumPy (splitmix64)."""
    with np.errstate(over="ignore"):
        z = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(12)).astype(np.float64) / 2.0**51 - 1.0).reshape(shape)


def hard_rows(dtype: type) -> Iterator[np.ndarray[Any, Any]]:
    """Yield rows of several lengths: spread, shifted far from zero, with one dominant class, with ties."""
    for seed, n in enumerate((2, 3, 10, 67, 300) * 3):
        x = uniform((n,), seed)
        dominant = np.zeros(n)
        dominant[n // 2] = 40.0
        for row in (3 * x, 80 * x, 20 * x + 1e4, 5 * x - 1e6, dominant, np.round(2 * x)):
            yield row.astype(dtype)


# ---- exact values ---------------------------------------------------------------------------------------------------


def log1p(s: Decimal) -> Decimal:
    """Return log(1 + s); for small s, from its series."""
    if s < Decimal("1e-12"):
        return s - s * s / 2 + s**3 / 3 - s**4 / 4
    return (1 + s).ln()


def exact_row(row: np.ndarray[Any, Any]) -> dict[str, list[Decimal]]:
    """Return the exact results of the row functions: the loss for each label, its gradient for three labels."""
    x = [Decimal(float(v)) for v in row]
    largest = max(x)
    e = [(v - largest).exp() for v in x]
    first = x.index(largest)
    others = sum((v for i, v in enumerate(e) if i != first), Decimal(0))
    log_rest = log1p(others)
    total = 1 + others
    gradient = [
        -sum((w for j, w in enumerate(e) if j != i), Decimal(0)) / total if i == label else v / total
        for label in some_labels(len(x))
        for i, v in enumerate(e)
    ]
    return {
        "softmax": [v / total for v in e],
        "log_softmax": [(v - largest) - log_rest for v in x],
        "logsumexp": [largest + log_rest],
        "cross_entropy": [(largest - v) + log_rest for v in x],
        "cross_entropy_and_grad": gradient,
    }


def some_labels(classes: int) -> list[int]:
    """Return the first, the middle and the last class."""
    return [0, classes // 2, classes - 1]


def exact_elements(row: np.ndarray[Any, Any]) -> dict[str, list[Decimal]]:
    """Return the exact results of the elementwise functions: the loss for target 0, its gradient for target 1."""
    x = [Decimal(float(v)) for v in row]
    log_sigmoid = [min(v, Decimal(0)) - log1p((-abs(v)).exp()) for v in x]
    return {
        "sigmoid": [v.exp() / (1 + v.exp()) if v < 0 else 1 / (1 + (-v).exp()) for v in x],
        "log_sigmoid": log_sigmoid,
        "binary_cross_entropy_with_logits": [v - log for v, log in zip(x, log_sigmoid, strict=True)],
        "binary_cross_entropy_with_logits_and_grad": [-1 / (1 + v.exp()) for v in x],
    }


def computed(name: str, row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the results of softloss for the row."""
    function = getattr(softloss, name)
    if name == "cross_entropy":
        return np.asarray(function(np.tile(row, (row.size, 1)), np.arange(row.size), reduction="none"))
    if name == "cross_entropy_and_grad":
        labels = some_labels(row.size)
        return np.asarray(function(np.tile(row, (len(labels), 1)), labels, reduction="sum").grad).ravel()
    if name == "binary_cross_entropy_with_logits":
        return np.asarray(function(row, 0, reduction="none"))
    if name == "binary_cross_entropy_with_logits_and_grad":
        return np.asarray(function(row, 1, reduction="sum").grad)
    return np.atleast_1d(function(row))


def worst_error(got: np.ndarray[Any, Any], exact: list[Decimal]) -> float:
    """Return the largest error in units in the last place; results below the smallest normal number are left out."""
    worst = 0.0
    for value, true in zip(got, exact, strict=True):
        rounded = got.dtype.type(float(true))
        if abs(rounded) >= np.finfo(got.dtype).tiny:
            error = abs(Decimal(float(value)) - true) / Decimal(float(np.spacing(abs(rounded))))
            worst = max(worst, float(error)) if error == error else float("inf")
    return worst


# ---- checks ---------------------------------------------------------------------------------------------------------


def check_values(dtype: type, advance: Callable[[str], None]) -> dict[str, float]:
    """Return the worst error of each function."""
    worst: dict[str, float] = {}
    for row in hard_rows(dtype):
        advance(f"values, {np.dtype(dtype)}")
        with localcontext() as context:
            context.prec = DIGITS
            for name, exact in {**exact_row(row), **exact_elements(row)}.items():
                worst[name] = max(worst.get(name, 0.0), worst_error(computed(name, row), exact))
    return worst


def digest() -> str:
    """Return the digest of results of many shapes, layouts and options."""
    state = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        for seed, shape in enumerate(((1001, 3), (257, 10), (65, 100), (7, 1000), (3, 40000))):
            x = (30 * uniform(shape, seed)).astype(dtype)
            label = np.arange(shape[0]) % shape[1]
            results = [
                softloss.softmax(x),
                softloss.softmax(x.T, axis=0).T,
                softloss.log_softmax(x, temperature=0.7),
                softloss.logsumexp(x),
                softloss.sigmoid(x),
                softloss.log_sigmoid(x),
                softloss.cross_entropy(x, label, reduction="none"),
                softloss.cross_entropy(x, label, label_smoothing=0.1),
                *softloss.cross_entropy_and_grad(x, label),
                *softloss.cross_entropy_grad_hess(x, label),
                *softloss.softmax_topk(x, 3),
                *softloss.token_logprobs(x, label, top_k=2),
                softloss.binary_cross_entropy_with_logits(x, np.greater(x, 0)),
                *softloss.binary_cross_entropy_with_logits_and_grad(x, np.greater(x, 0)),
            ]
            for result in results:
                array = np.ascontiguousarray(result)
                state.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return state.hexdigest()[:32]


def check_bits(advance: Callable[[str], None]) -> dict[str, str]:
    """Return the digest for each instruction set and each number of threads."""
    isa, digests = _core.isa(), {}
    try:
        for name in _core.usable_isas():
            _core.set_isa(name)
            for threads in THREADS:
                advance(f"bits, {name}, {threads} threads")
                with softloss.threads(threads):
                    digests[f"{name}, {threads} threads"] = digest()
    finally:
        _core.set_isa(isa)
    return digests


# ---- report ---------------------------------------------------------------------------------------------------------


def progress(total: int) -> Callable[[str], None]:
    """Return a function that advances a progress bar; it prints nothing if standard error is not a terminal."""
    done = 0

    def advance(what: str) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            filled = BAR * done // total
            line = f"\r[{'#' * filled}{'.' * (BAR - filled)}] {100 * done // total:3d} %  {what:<40}"
            sys.stderr.write(line if done < total else f"\r{' ' * len(line)}\r")
            sys.stderr.flush()

    return advance


def run() -> bool:
    """Run all checks, print figures and verdict, and return whether all passed."""
    softloss.show_config()
    dtypes = (np.float32, np.float64)
    rows = sum(1 for dtype in dtypes for _ in hard_rows(dtype))
    advance = progress(rows + len(_core.usable_isas()) * len(THREADS))
    worst = {np.dtype(dtype).name: check_values(dtype, advance) for dtype in dtypes}
    digests = check_bits(advance)

    failures = []
    print(f"\n{'worst error in units in the last place':44}" + "".join(f"{name:>9}" for name in worst) + "  promised")
    for name in worst["float32"]:
        errors = [worst[dtype][name] for dtype in worst]
        limit = 3 if name.endswith("_and_grad") else 2
        print(f"{name:44}" + "".join(f"{error:9.2f}" for error in errors) + f"{limit:10}")
        if max(errors) > limit:
            failures.append(f"{name} is off by {max(errors):.3g} ULP")
    same = sum(value == DIGEST for value in digests.values())
    print(f"\nexpected bits: {same} of {len(digests)} combinations of instruction set and number of threads")
    failures += [f"{name}: digest {value}, not {DIGEST}" for name, value in digests.items() if value != DIGEST]
    for failure in failures:
        print(f"FAILED: {failure}")
    print("\nverdict:", "softloss does NOT keep its promises here" if failures else "softloss keeps its promises here")
    return not failures
