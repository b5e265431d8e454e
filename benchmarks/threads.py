"""Measure whether threads pay after other libraries' calls: python benchmarks/threads.py

Idle workers of ONNX Runtime, of OpenBLAS and of PyTorch spin for a while after each parallel call, on the CPUs that the
next call of softloss wants; a thread that finds no CPU makes the call wait. So calls are timed, one by one, on the
default number of threads and on one: alone, and right after a parallel call of each of these libraries in the same
process. The two settings take turns, ten calls each, so that both see the same machine. Prints the median, the 90th
percentile and the mean of both; writes benchmarks/results/<cpu>-<date>-threads.json.

Lives here: the calls, their neighbours, the table. Must not: other measurements of speed, which are run.py's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import softloss
from rich.table import Table
from run import RESULTS, console, cpu_name, stem

LIMIT = 1.1  # times as long as on one thread: more is a loss
IN_TURN = 10  # calls
TURNS = 4  # at the least; the first is thrown away
RNG = np.random.default_rng(1)
STATISTICS: dict[str, Callable[[list[int]], Any]] = {
    "median": np.median,
    "90th percentile": lambda taken: np.percentile(taken, 90),
    "mean": np.mean,
}


def nothing() -> Callable[[], Any]:
    return lambda: None


def numpy_matmul() -> Callable[[], Any]:
    a = RNG.standard_normal((512, 512), np.float32)
    return lambda: a @ a


def torch_softmax() -> Callable[[], Any]:
    import torch

    a = torch.from_numpy(RNG.standard_normal((2048, 1024), np.float32))
    return lambda: torch.softmax(a, -1)


def onnxruntime_softmax() -> Callable[[], Any]:
    import onnxruntime
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], "softmax", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    a = RNG.standard_normal((2048, 512), np.float32)
    return lambda: session.run(None, {"x": a})


NEIGHBOURS = {  # name -> (modules that it needs, call)
    "nothing": ((), nothing),
    "matmul": ((), numpy_matmul),
    "torch": (("torch",), torch_softmax),
    "onnxruntime": (("onnx", "onnxruntime"), onnxruntime_softmax),
}


def softmax(*shape: int) -> Callable[[], Any]:
    x = RNG.standard_normal(shape, np.float32)
    y = np.empty_like(x)
    return lambda: softloss.softmax(x, out=y)


def cross_entropy(*shape: int) -> Callable[[], Any]:
    x, labels = RNG.standard_normal(shape, np.float32), RNG.integers(0, shape[1], shape[0])
    return lambda: softloss.cross_entropy(x, labels)


def gradient(*shape: int) -> Callable[[], Any]:
    x, labels = RNG.standard_normal(shape, np.float32), RNG.integers(0, shape[1], shape[0])
    g = np.empty_like(x)
    return lambda: softloss.cross_entropy_and_grad(x, labels, grad_out=g)


def calls() -> dict[str, Callable[[], Any]]:
    return {
        "cross_entropy (64, 1000)": cross_entropy(64, 1000),
        "softmax (512, 512)": softmax(512, 512),
        "cross_entropy (6144, 512)": cross_entropy(6144, 512),
        "gradient (2000, 1000)": gradient(2000, 1000),
        "softmax (1, 500000)": softmax(1, 500000),
    }


def nanoseconds(
    call: Callable[[], Any], before: Callable[[], Any], counts: tuple[int, int], seconds: float
) -> dict[int, list[int]]:
    """Times of the calls, by the number of threads."""
    times: dict[int, list[int]] = {count: [] for count in counts}
    end = time.perf_counter() + seconds
    turns = 0
    while time.perf_counter() < end or turns < TURNS:
        for count, taken in times.items():
            with softloss.threads(count):
                for _ in range(IN_TURN):
                    before()
                    start = time.perf_counter_ns()
                    call()
                    taken.append(time.perf_counter_ns() - start)
        turns += 1
    return {count: taken[IN_TURN:] for count, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="time for each call after each neighbour")
    parser.add_argument("--after", nargs="+", default=list(NEIGHBOURS), choices=list(NEIGHBOURS))
    parser.add_argument("--json", type=Path, default=None, help="where to write; default: benchmarks/results/")
    options = parser.parse_args()
    default = softloss.get_num_threads()
    if default == 1:
        raise SystemExit("the default is one thread here: nothing to compare")
    table = Table(title=f"milliseconds on {default} threads / on one, and the ratio", title_justify="left")
    for heading in ("after", "call"):
        table.add_column(heading)
    for heading in STATISTICS:
        table.add_column(heading, justify="right")
    table.add_column("")
    rows = []
    for after in options.after:
        modules, neighbour = NEIGHBOURS[after]
        if not all(map(importlib.util.find_spec, modules)):
            continue
        before = neighbour()
        for name, call in calls().items():
            times = nanoseconds(call, before, (default, 1), options.seconds)
            figures = {
                statistic: [float(of(taken)) / 1e6 for taken in times.values()] for statistic, of in STATISTICS.items()
            }
            cells = [f"{many:.3f} / {one:.3f}  {many / one:.2f}" for many, one in figures.values()]
            loses = any(figures[statistic][0] > LIMIT * figures[statistic][1] for statistic in list(figures)[:2])
            table.add_row(after, name, *cells, "[red]loses[/]" if loses else "[green]gains[/]")
            rows.append({"after": after, "call": name, "threads": [default, 1], "milliseconds": figures})
    console.print(table)
    path = options.json or RESULTS / f"{stem()}-threads.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"cpu": cpu_name(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"written: {path}")


if __name__ == "__main__":
    main()
