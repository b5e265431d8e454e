"""Measure the cost of each step of the numerics: python benchmarks/steps.py

Takes one step at a time out of a copy of the kernels, compiles it, and prints the time with the step over the time
without it: float32, one thread, data in the cache, the best of rounds in which all take turns. Needs what the C++
micro-benchmarks need; compiling takes a few minutes.

Lives here: the steps, as edits of the sources; their times. Must not: the calls, which are cpp/kernels.cpp's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.progress import track

ROOT = Path(__file__).parents[1]
KERNELS = "cpp/src/kernels"
STEPS = {  # name: (file, text, what stands there without the step)
    "no rounded x - max": [
        (
            f"{KERNELS}/exp_shift.hpp",
            "const auto far = less(splat<V>(kFar<T>), abs(z));",
            "const auto far = equal(z, z);",
        ),
        (
            f"{KERNELS}/exp_shift.hpp",
            "if constexpr (R == Range::near) return x;",
            "if constexpr (R == Range::near) return x - repeat<N>(offset);",
        ),
    ],
    "remainders of the sum": [
        (f"{KERNELS}/reduce.hpp", "error = error + (e.scale - (s - head));", ""),
        (f"{KERNELS}/reduce.hpp", "error = error + s.lo;\n        fraction", "fraction"),
    ],
    "second part of the reciprocal": [
        (
            f"{KERNELS}/softmax.hpp",
            "max_result, fma(e, inverse.hi, e * inverse.lo));",
            "max_result, e * inverse.hi);",
        ),
    ],
}
OPERATIONS = ["softmax", "log_softmax"]
SHAPES = ["64x1000", "1x32768", "1000x10"]


def edited(folder: Path, edits: list[tuple[str, str, str]]) -> None:
    """Copies the sources, and edits the copy."""
    for name in ("cpp", "benchmarks/cpp"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "CMakeLists.txt", folder)
    for name, text, instead in edits:
        source = (folder / name).read_text()
        if source.count(text) != 1:
            raise SystemExit(f"{name} no longer has: {text}")
        (folder / name).write_text(source.replace(text, instead))


def build(folder: Path, edits: list[tuple[str, str, str]]) -> Path:
    """The micro-benchmarks, compiled from edited sources."""
    edited(folder, edits)
    options = ["-DSOFTLOSS_BENCHMARKS=ON", "-DSOFTLOSS_INSTALL=OFF"]
    subprocess.run(["cmake", "-S", folder, "-B", folder / "build", *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", folder / "build"], check=True, capture_output=True)
    return folder / "build/benchmarks/cpp/softloss_benchmarks"


def times(program: Path, isa: str) -> dict[str, float]:
    """Results of one round: benchmark -> nanoseconds."""
    wanted = f"^{isa}/({'|'.join(OPERATIONS)})/float32/({'|'.join(SHAPES)})$"
    command = [program, f"--benchmark_filter={wanted}", "--benchmark_min_time=0.02", "--benchmark_format=json"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return {row["name"]: row["cpu_time"] for row in json.loads(run.stdout)["benchmarks"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default="avx512", help="whose kernels are measured")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        variants = {"": [], **STEPS}
        programs = {
            name: build(Path(scratch) / str(i), variants[name])
            for i, name in enumerate(track(variants, "compiling", transient=True))
        }
        best: dict[str, dict[str, float]] = {name: {} for name in variants}
        for _ in track(range(options.rounds), "measuring", transient=True):
            for name, program in programs.items():
                for benchmark, time in times(program, options.isa).items():
                    best[name][benchmark] = min(time, best[name].get(benchmark, time))
    print(f"{options.isa}: time with the step over time without it")
    for name in STEPS:
        for benchmark, time in best[""].items():
            print(f"  {time / best[name][benchmark]:.2f}  {name}: {benchmark}")


if __name__ == "__main__":
    main()
