"""A short run of every benchmark, so that none of them rots: pytest tests/benchmarks

Needs the packages of the extras `test` and `pictures`, and rich. Lives here: that they run, and what they write. Must
not: speed, which no test can judge.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import softloss

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import peers  # noqa: E402
from cases import CASES, Case, Data  # noqa: E402
from run import agree  # noqa: E402
from targets import Row, judge  # noqa: E402

TINY = [replace(case, shape=tuple(min(n, 5) for n in case.shape)) for case in CASES]


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, BENCHMARKS / f"{name}.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_names_of_cases_are_unique() -> None:
    assert len(set(map(str, CASES))) == len(CASES)


def values(library: str, case: Case, data: Data) -> list[Any]:
    """What each variant of the statement gives."""
    statements = peers.compute(library, case, data, 1)
    return [each.to_numpy(eval(each.code, dict(each.names))) for each in statements.values()]


@pytest.mark.parametrize("case", dict.fromkeys(TINY), ids=str)
def test_every_case_is_a_call_of_softloss_and_of_numpy(case: Case) -> None:
    data = Data(case)
    results = values("softloss", case, data)
    assert len(results) == len(case.variants)
    for result in (results[-1], *values("numpy", case, data)):
        assert agree(results[0], result, case.dtype)


def test_rows_of_a_power_of_two_are_judged_by_their_neighbours() -> None:
    case = Case("softmax", (131072, 128), options=("page",))
    assert {name: plain.shape for name, plain in case.plain.items()} == {
        "0.9x columns": (145888, 115),
        "1.1x columns": (118987, 141),
    }
    roof = {"move": 1.0, "exp": 0.0, "call": 0.0}
    for slower, met in ((1.05, True), (1.2, False)):
        ratio = {"0.9x columns": 0.9 / slower, "1.1x columns": 1.1 / slower}
        assert judge(Row(case, "out", 1, {"softloss": 1.0}, ratio, roof, 1 << 20))[0] is met


def test_speed(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    options = (
        "--cases",
        "^softmax (10|64x1000)$",
        "--threads",
        1,
        "--seconds",
        0.01,
        "--peers",
        "numpy",
        "--json",
        path,
    )
    text = run("run", *options)
    assert "softmax 64x1000" in text
    document = json.loads(path.read_text())
    assert [row["name"] for row in document["rows"]] == ["softmax 10"] * 2 + ["softmax 64x1000"] * 2
    assert all(row["seconds"]["softloss"] > 0 and row["ratio"]["numpy"] > 0 for row in document["rows"])


def test_every_length(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    isas = ",".join(softloss.show_config("dicts")["usable_isas"])
    options = ("--longest", 9, "--ratio", 4, "--seconds", 0, "--places", "cache", "--dtypes", "float32", "--isas", isas)
    run("sweep", *options, "--json", path)
    curves = json.loads(path.read_text())["curves"]
    assert {curve["isa"] for curve in curves} == set(isas.split(","))
    assert {curve["operation"] for curve in curves} == set(importlib.import_module("sweep").OPERATIONS)
    for curve in curves:
        assert list(curve["nanoseconds"]) == ["2", "3", "4", "5", "7", "8", "9"]


def test_a_slow_length_is_found() -> None:
    sweep = importlib.import_module("sweep")
    curve = {2: 1.0, 3: 1.0, 4: 1.4, 5: 1.0, 7: 1.0, 8: 1.35, 9: 1.35}
    assert sweep.cliffs(curve) == [4]
    assert sweep.steps(curve) == [4, 8]


def test_threads(tmp_path: Path) -> None:
    if softloss.get_num_threads() == 1:
        pytest.skip("one thread is all there is")
    path = tmp_path / "threads.json"
    run("threads", "--seconds", 0, "--after", "nothing", "matmul", "--json", path)
    rows = json.loads(path.read_text())["rows"]
    assert {row["after"] for row in rows} == {"nothing", "matmul"}
    assert all(min(pair) > 0 for row in rows for pair in row["milliseconds"].values())


def test_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    run("accuracy", "--cases", "^sigmoid", "--peers", "numpy", "--dtypes", "float32", "--json", path)
    assert json.loads(path.read_text())["rows"]


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_the_kernels_compile_without_each_step(tmp_path: Path) -> None:
    steps = importlib.import_module("steps")
    options = ["-std=c++20", "-fsyntax-only", "-Icpp/include", "-Icpp/src"]
    options += ["-DSOFTLOSS_ISA=any", '-DSOFTLOSS_ISA_NAME="any"']
    for name, edits in steps.STEPS.items():
        folder = tmp_path / name
        folder.mkdir()
        steps.edited(folder, edits)
        subprocess.run(["c++", *options, "cpp/src/kernels/isa.cpp"], check=True, cwd=folder)
