"""Measure the errors of softloss and of every installed peer against exact arithmetic: python benchmarks/accuracy.py

Prints a table of the largest and the mean error in ULP (units in the last place of the exact result), and writes
benchmarks/results/<cpu>-<date>-accuracy.json.

Lives here: the inputs, the errors, the table. Must not: how a library computes (peers), the exact results
(tests/python/exact.py), promises (the tests check them), how pictures look (pictures.py).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers
from cases import POS_WEIGHT, SMOOTHING, TEMPERATURE, Case, np_dtype
from rich.progress import track
from rich.table import Table
from run import RESULTS, bind, console, cpu_name, stem, versions

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "python"))
import exact
import reference

LONG_ROW = 1_000_000


class Inputs:
    """Inputs of one call, in the form that peers expects."""

    def __init__(self, case: Case, x: np.ndarray[Any, Any], target: np.ndarray[Any, Any] | None = None) -> None:
        self.case = case
        self.x = x
        self.target = np.zeros(1, np.int64) if target is None else target
        self.out = np.zeros_like(x)
        self.weights = np.random.default_rng(1).uniform(0.5, 2, x.shape[-1]).astype(x.dtype)


@dataclass
class Measurement:
    """Calls of one operation, and their exact results, concatenated, as pairs of float64."""

    name: str
    calls: list[Inputs]
    true: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    dtype: str

    def errors(self, library: str) -> np.ndarray[Any, Any] | None:
        """Error in ULP of each normal result; None if the library does not have the operation."""
        results = [_result(library, call) for call in self.calls]
        if any(result is None for result in results):
            return None
        dtype = np_dtype(self.dtype)
        errors = [reference.ulp_error(r, true, dtype) for r, true in zip(results, self.true, strict=True)]
        normal = [abs(hi) >= np.finfo(dtype).smallest_normal for hi, _ in self.true]
        return np.concatenate([np.ravel(e[n]) for e, n in zip(errors, normal, strict=True)])


def _result(library: str, call: Inputs) -> Any:
    """The result of the library; for a loss with its gradient, the gradient."""
    try:
        statement = peers.compute(library, call.case, call, 1).get("fresh")
    except NotImplementedError:
        return None
    if statement is None:
        return None
    value = statement.to_numpy(eval(statement.code, dict(statement.names)))
    return value[1] if isinstance(value, tuple) else value


# ---- what is measured ---------------------------------------------------------------------------------------------


def _transform(op: str, x: np.ndarray[Any, Any], dtype: str) -> tuple[list[Inputs], list[Any]]:
    x = x.astype(dtype)
    rows = exact.Rows(x, long=x.size >= LONG_ROW)
    return [Inputs(Case(op, x.shape, dtype=dtype), x)], [getattr(rows, op)()]


def _each_row(x: np.ndarray[Any, Any], label: np.ndarray[Any, Any], dtype: str) -> tuple[list[Inputs], list[Any]]:
    """The loss of each single row, as a mean over one row."""
    calls, true = [], []
    for row, at in zip(x.astype(dtype), label, strict=True):
        one, only = row[None, :], np.array([at])
        calls.append(Inputs(Case("cross_entropy", one.shape, dtype=dtype), one, only))
        true.append(exact.Rows(one).cross_entropy(only))
    return calls, true


def _losses(x: np.ndarray[Any, Any], target: np.ndarray[Any, Any], dtype: str, option: str) -> Any:
    """The loss of each row, with one option of cases.py; target: labels or distributions."""
    x = x.astype(dtype)
    soft = option == "soft-targets"
    call = Inputs(Case("cross_entropy", x.shape, dtype=dtype, options=(option, "none")), x, target)
    call.target = target.astype(dtype) if soft else target
    rows = exact.Rows(x, temperature=TEMPERATURE if option == "temperature" else 1)
    if soft:
        return [call], [rows.soft_cross_entropy(call.target)]
    if option == "smoothing":
        share = exact.smoothed(np.eye(x.shape[-1])[target], SMOOTHING)
        return [call], [rows.shared_cross_entropy(share)]
    weight = exact.numbers(call.weights[target]) if option == "weights" else 1
    return [call], [rows.cross_entropy(target, weight)]


def _gradient(x: np.ndarray[Any, Any], label: np.ndarray[Any, Any], dtype: str) -> tuple[list[Inputs], list[Any]]:
    """Gradient of the mean loss over a power of two of rows, so that the division is exact."""
    x = x.astype(dtype)
    hi, lo = exact.Rows(x).cross_entropy_grad(label)
    call = Inputs(Case("cross_entropy_and_grad", x.shape, dtype=dtype), x, label)
    return [call], [(hi / len(x), lo / len(x))]


def _mean(x: np.ndarray[Any, Any], label: np.ndarray[Any, Any], dtype: str) -> tuple[list[Inputs], list[Any]]:
    x = x.astype(dtype)
    hi, lo = exact.Rows(x, long=True).cross_entropy(label)
    mean = (math.fsum(hi) + math.fsum(lo)) / len(x)
    return [Inputs(Case("cross_entropy", x.shape, dtype=dtype), x, label)], [(np.array(mean), np.zeros(()))]


def _divergence(
    op: str, x: np.ndarray[Any, Any], target: np.ndarray[Any, Any], dtype: str
) -> tuple[list[Inputs], list[Any]]:
    """Each single row, as a mean over one row."""
    calls, true = [], []
    for one, other in zip(x.astype(dtype)[:, None], target.astype(dtype)[:, None], strict=True):
        calls.append(Inputs(Case(op, one.shape, dtype=dtype), one, other))
        true.append(getattr(exact.Pairs(one, other), op)())
    return calls, true


def _sigmoid(x: np.ndarray[Any, Any], dtype: str) -> tuple[list[Inputs], list[Any]]:
    x = x.astype(dtype)
    return [Inputs(Case("sigmoid", x.shape, dtype=dtype), x)], [exact.sigmoid(x)]


def _each_binary(x: np.ndarray[Any, Any], target: float, dtype: str, *options: str) -> tuple[list[Inputs], list[Any]]:
    """Single logits with one target."""
    case = Case("binary_cross_entropy_with_logits", (1,), dtype=dtype, options=options)
    calls = [Inputs(case, x[i : i + 1].astype(dtype), np.full(1, target, dtype)) for i in range(x.size)]
    pos_weight = POS_WEIGHT if "pos-weight" in options else 1.0
    return calls, [exact.binary_cross_entropy_with_logits(c.x, c.target, pos_weight=pos_weight) for c in calls]


def _focal(
    op: str, x: np.ndarray[Any, Any], target: np.ndarray[Any, Any], dtype: str
) -> tuple[list[Inputs], list[Any]]:
    """Each single row or logit, as a mean over one of them; gamma is 2."""
    calls, true = [], []
    for one, at in zip(x.astype(dtype), target, strict=True):
        of_rows = op.startswith("softmax")
        alone, only = (one[None], np.array([at])) if of_rows else (np.array([one]), np.array([at], dtype))
        calls.append(Inputs(Case(op, alone.shape, dtype=dtype), alone, only))
        true.append(exact.pair(getattr(exact, op)(alone, only if of_rows else only == 1, 2)[0]))
    return calls, true


def _dominant(n: int, top: float) -> np.ndarray[Any, Any]:
    return np.concatenate([[top], np.zeros(n - 1)])[None, :]


def _measurements() -> dict[str, Callable[[str], tuple[list[Inputs], list[Any]]]]:
    rng = np.random.default_rng(0)
    normal = 3 * rng.standard_normal((64, 1000))
    narrow = 3 * rng.standard_normal((1024, 10))
    many = 3 * rng.standard_normal((LONG_ROW, 10))
    some_label, any_label = rng.integers(0, 1000, 64), rng.integers(0, 10, LONG_ROW)
    easy = np.clip(many + 15 * (np.arange(10) == any_label[:, None]), -10, 20)
    few = normal[:12]
    cauchy, log_normal = rng.standard_cauchy((32, 100)), np.exp(1.5 * rng.standard_normal((32, 100)))
    log_probs = cauchy - np.log(np.exp(cauchy - cauchy.max(-1, keepdims=True)).sum(-1, keepdims=True))
    log_probs -= cauchy.max(-1, keepdims=True)
    label, shares = rng.integers(0, 100, 32), rng.dirichlet(np.full(100, 0.1), 32)
    return {
        "softmax, 1000 wide, normal x 3": lambda t: _transform("softmax", normal, t),
        "softmax, 1000 wide, spread 20": lambda t: _transform("softmax", 20 / 3 * normal[:16], t),
        "softmax, 1000 wide, normal x 3 + 1e4": lambda t: _transform("softmax", normal[:16] + 1e4, t),
        "softmax, one row of 1e6": lambda t: _transform("softmax", many.reshape(1, -1)[:, :LONG_ROW], t),
        "log_softmax, 10 wide, normal x 3": lambda t: _transform("log_softmax", narrow, t),
        "log_softmax [20, 0 x 9]": lambda t: _transform("log_softmax", _dominant(10, 20), t),
        "log_softmax [16, 0 x 1e6]": lambda t: _transform("log_softmax", _dominant(LONG_ROW + 1, 16), t),
        "logsumexp, 1000 wide, normal x 3": lambda t: _transform("logsumexp", normal, t),
        "cross-entropy of the largest logit": lambda t: _each_row(few, few.argmax(-1), t),
        "cross-entropy of the largest logit, + 1e4": lambda t: _each_row(few + 1e4, few.argmax(-1), t),
        "cross-entropy of label 0, [20, 0 x 9]": lambda t: _each_row(_dominant(10, 20), np.array([0]), t),
        "gradient of cross-entropy, normal x 3": lambda t: _gradient(normal, some_label, t),
        "gradient, label the largest, + 10": lambda t: _gradient(
            normal + 10 * (np.arange(1000) == normal.argmax(-1)[:, None]), normal.argmax(-1), t
        ),
        "mean cross-entropy, 1e6 rows, normal x 3": lambda t: _mean(np.clip(many, -15, 15), any_label, t),
        "mean cross-entropy, 1e6 rows, easy": lambda t: _mean(easy, any_label, t),
        "KL, 10 wide, normal x 3": lambda t: _divergence("kl_divergence", narrow[:64], narrow[64:128], t),
        "KL of logits that differ by 1e-3": lambda t: _divergence(
            "kl_divergence", narrow[:64], narrow[:64] + 1e-3 * narrow[64:128], t
        ),
        "JS, 10 wide, normal x 3": lambda t: _divergence("js_divergence", narrow[:64], narrow[64:128], t),
        "softmax focal, 10 wide, normal x 3": lambda t: _focal("softmax_focal_loss", narrow[:64], any_label[:64], t),
        "softmax focal of the largest logit": lambda t: _focal("softmax_focal_loss", few, few.argmax(-1), t),
        "sigmoid focal, -12 to 12": lambda t: _focal("sigmoid_focal_loss", np.linspace(-12, 12, 49), np.ones(49), t),
        "sigmoid, normal x 3": lambda t: _sigmoid(normal.ravel()[:20000], t),
        "sigmoid, -80 to 80": lambda t: _sigmoid(np.linspace(-80, 80, 20001), t),
        "BCE with logits, target 0, -20 to 3": lambda t: _each_binary(np.linspace(-20, 3, 24), 0, t),
        "softmax, 100 wide, Cauchy": lambda t: _transform("softmax", cauchy, t),
        "log_softmax, 100 wide, Cauchy": lambda t: _transform("log_softmax", cauchy, t),
        "log_softmax, 100 wide, log-normal": lambda t: _transform("log_softmax", log_normal, t),
        "logsumexp of log-probabilities": lambda t: _transform("logsumexp", log_probs, t),
        "cross-entropy, soft targets, Cauchy": lambda t: _losses(cauchy, shares, t, "soft-targets"),
        "cross-entropy, soft targets, log-normal": lambda t: _losses(log_normal, shares, t, "soft-targets"),
        "cross-entropy, smoothing, log-normal": lambda t: _losses(log_normal, label, t, "smoothing"),
        "cross-entropy, weights, Cauchy": lambda t: _losses(cauchy, cauchy.argmax(-1), t, "weights"),
        "cross-entropy, temperature, Cauchy": lambda t: _losses(cauchy, cauchy.argmax(-1), t, "temperature"),
        "BCE with logits, pos_weight, Cauchy": lambda t: _each_binary(cauchy[0], 1, t, "pos-weight"),
    }


# ---- report -------------------------------------------------------------------------------------------------------


def measure(name: str, dtype: str, libraries: list[str]) -> dict[str, Any]:
    measurement = Measurement(name, *_measurements()[name](dtype), dtype)
    row: dict[str, Any] = {"name": name, "dtype": dtype, "max": {}, "mean": {}}
    for library in libraries:
        errors = measurement.errors(library)
        if errors is not None:
            row["max"][library] = float(errors.max())
            row["mean"][library] = float(errors.mean())
    return row


def _ulp(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}" if value < 10000 else f"{value:.0e}".replace("e+0", "e")


def print_table(rows: list[dict[str, Any]], libraries: list[str]) -> None:
    table = Table(title="largest (mean) error in ULP against exact arithmetic", title_justify="left")
    table.add_column("dtype")
    table.add_column("case", no_wrap=True)
    for library in libraries:
        table.add_column(peers.NAMES[library], justify="right", no_wrap=True)
    for row in rows:
        cells = [
            f"{_ulp(row['max'][library])} ({_ulp(row['mean'][library])})" if library in row["max"] else "-"
            for library in libraries
        ]
        table.add_row(row["dtype"], row["name"], *cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = peers.installed()
    parser.add_argument("--cases", default="", metavar="REGEX", help="only the cases whose name matches")
    parser.add_argument("--peers", default=",".join(here), metavar="A,B", help="default: those installed")
    parser.add_argument("--dtypes", default="float32,float64", metavar="A,B")
    parser.add_argument("--json", type=Path, default=None, help="where to write; default: benchmarks/results/")
    options = parser.parse_args()
    bind(1)
    libraries = ["softloss", *(name for name in options.peers.split(",") if name)]
    names = [name for name in _measurements() if re.search(options.cases, name)]
    work = [(name, dtype) for dtype in options.dtypes.split(",") for name in names]
    rows = [measure(*item, libraries) for item in track(work, "measuring", console=console, transient=True)]
    rows = [row for row in rows if "softloss" in row["max"]]
    print_table(rows, libraries)
    import softloss

    path = options.json or RESULTS / f"{stem()}-accuracy.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "cpu": cpu_name(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(libraries[1:]),
        "softloss": softloss.show_config("dicts"),
        "rows": rows,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"written: {path}; its picture: python benchmarks/pictures.py")


if __name__ == "__main__":
    main()
