"""Count the instructions of the kernels: python benchmarks/instructions.py [BUILD]

Instructions for 16 elements of float32 (one logical vector, two of AVX2), by valgrind's callgrind on AVX2: it knows no
AVX-512. With BUILD, a folder in which CMake has built softloss: the loops of the AVX-512 kernels that compute an
exponential, each with its instructions and, as llvm-mca models them, its cycles and busiest pipes.

Lives here: the calls that are counted, the search for loops, the tables. Must not: times, which are run.py's.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

OBJECT = "CMakeFiles/softloss_avx512.dir/cpp/src/kernels/isa.cpp.o"
CALLS = [  # of softloss: function, shape
    ("softmax", (64, 1000)),
    ("softmax", (6400, 10)),
    ("cross_entropy", (64, 1000)),
    ("cross_entropy", (6400, 10)),
    ("cross_entropy_and_grad", (64, 1000)),
    ("cross_entropy_and_grad", (6400, 10)),
    ("sigmoid", (64000,)),
    ("binary_cross_entropy_with_logits", (64000,)),
]
REPEAT = 4
CODE = """
import numpy as np, softloss
rng = np.random.default_rng(0)
x = 3 * rng.standard_normal({shape}, np.float32)
target = (rng.random({shape}, np.float32) if "binary" in "{name}" else rng.integers(0, {shape}[-1], {shape}[:-1]),)
for _ in range({repeat}):
    softloss.{name}(x, *target[: {takes_target}])
"""


def instructions(name: str, shape: tuple[int, ...]) -> float:
    """Instructions of one call per 16 elements, including those before and after the kernel."""
    code = CODE.format(name=name, shape=shape, repeat=REPEAT, takes_target="cross_entropy" in name)
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect=softloss::{name}(*"]
    environment = os.environ | {"SOFTLOSS_ISA": "avx2", "SOFTLOSS_NUM_THREADS": "1"}
    run = subprocess.run([*command, sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not collected:
        sys.exit(run.stderr)
    elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return int(collected[1]) / REPEAT / (elements / 16)


# ---- loops of AVX-512 -----------------------------------------------------------------------------------------------


def functions(path: Path) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The functions of an object file, each as (address, instruction) pairs."""
    text = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", path], check=True, capture_output=True, text=True)
    for block in text.stdout.split("\n\n"):
        name = re.search(r"^[0-9a-f]+ <(.*)>:$", block, re.M)
        if name:
            lines = re.findall(r"^\s+([0-9a-f]+):\s+([^#<\n]*[^#<\s])", block, re.M)
            yield name[1].replace("softloss::(anonymous namespace)::", ""), [(int(at, 16), code) for at, code in lines]


def loops(code: list[tuple[int, str]]) -> list[list[str]]:
    """The innermost loops: the code between a backward jump and its target, without returns."""
    place = {at: i for i, (at, _) in enumerate(code)}
    jumps = [(re.match(r"j\w+\s+([0-9a-f]+)", text), i) for i, (_, text) in enumerate(code)]
    spans = [(place.get(int(jump[1], 16), i + 1), i) for jump, i in jumps if jump]
    spans = [(first, last) for first, last in spans if first <= last]
    inner = [(a, b) for a, b in spans if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)]
    found = [[text for _, text in code[a : b + 1]] for a, b in inner]
    return [loop for loop in found if not any(re.match("ret|call", text) for text in loop)]


def simulated(loop: list[str], cpu: str) -> tuple[float, str]:
    """Cycles of one iteration, and the three busiest resources with their cycles."""
    text = "\n".join(line for line in loop if not line.startswith("j"))
    mca = shutil.which("llvm-mca-19") or "llvm-mca"
    run = subprocess.run(
        [mca, f"-mcpu={cpu}", "-mtriple=x86_64"], input=text, capture_output=True, text=True, check=True
    )
    turns, cycles = (int(re.search(rf"^{key}:\s+(\d+)", run.stdout, re.M)[1]) for key in ("Iterations", "Total Cycles"))
    names = dict(re.findall(r"^\[([\d.]+)\]\s+- (\S+)", run.stdout, re.M))
    heading, values = re.search(r"Resource pressure per iteration:\n(.*)\n(.*)", run.stdout).groups()
    keys = re.findall(r"\[([\d.]+)\]", heading)
    busy = {names[key]: float(value.replace("-", "0")) for key, value in zip(keys, values.split(), strict=True)}
    busiest = sorted(busy, key=busy.__getitem__, reverse=True)[:3]
    return cycles / turns, ", ".join(f"{name} {busy[name]:.1f}" for name in busiest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", nargs="?", type=Path, help="a folder in which CMake has built softloss")
    parser.add_argument("--cpus", default="znver4,sapphirerapids", metavar="A,B", help="that llvm-mca models")
    parser.add_argument("--functions", default="<float|, float>", metavar="REGEX", help="whose loops are shown")
    options = parser.parse_args()
    counts = [instructions(*call) for call in track(CALLS, "counting")]
    print("AVX2: instructions for 16 elements of float32")
    for (name, shape), count in zip(CALLS, counts, strict=True):
        print(f"  {count:6.1f}  {name} {'x'.join(map(str, shape))}")
    if not options.build:
        return
    print("AVX-512: loops: instructions, FMA, cycles of one turn, busiest pipes")
    for name, code in functions(options.build / OBJECT):
        for loop in loops(code) if re.search(options.functions, name) else []:
            fma = sum(bool(re.match(r"vfn?m.*ps.*zmm", text)) for text in loop)
            if fma >= 6:  # an exponential has as many
                print(f"{len(loop):4d} {fma:3d}  {name.split('(')[0]}")
                for cpu in options.cpus.split(","):
                    cycles, pipes = simulated(loop, cpu)
                    print(f"          {cpu}: {cycles:.1f} cycles; {pipes}")


if __name__ == "__main__":
    main()
