"""The checks, one session each: nox -s NAME; `nox --list` shows them.

Sessions run in the environment that is active, which has the package and its tools (CONTRIBUTING.md, "Set up"). .ci/run
runs those that a change must pass, from a clean checkout.

Lives here: the commands of the checks. Must not: settings, which are pyproject.toml's and CMakePresets.json's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.3.2"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "python", "cpp(dev)"]

JOBS = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
PRESETS = ["dev", "benchmarks", "clang", "asan", "serial", "aarch64", "riscv64", "s390x"]  # with a test preset


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def build(session: nox.Session, preset: str, *options: str) -> Path:
    """Configure and build a preset of CMakePresets.json; its folder."""
    session.run("cmake", "--preset", preset, *options)
    session.run("cmake", "--build", "--preset", preset, "--parallel", JOBS)
    return Path("build") / preset


@nox.session
def lint(session: nox.Session) -> None:
    """Layout, lint, types, spelling: what pre-commit runs before every commit, on all files."""
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure")


@nox.session
def tidy(session: nox.Session) -> None:
    """clang-tidy on the library and the Python extension; .clang-tidy says what it looks for."""
    pybind11 = output_of(sys.executable, "-m", "pybind11", "--cmakedir")
    session.run("cmake", "--preset", "tidy", f"-Dpybind11_DIR={pybind11}", f"-DPython_EXECUTABLE={sys.executable}")
    sources = sorted(str(path) for folder in ("cpp/src", "python/src") for path in Path(folder).glob("*.cpp"))
    command = ["xargs", "-P", JOBS, "-n", "1", "clang-tidy-19", "--quiet", "-p", "build/tidy"]
    subprocess.run(command, input="\n".join(sources), text=True, check=True)


@nox.session
def python(session: nox.Session) -> None:
    """The Python tests; what comes after -- goes to pytest."""
    session.run("pytest", *session.posargs)


@nox.session
@nox.parametrize("preset", PRESETS, ids=PRESETS)
def cpp(session: nox.Session, preset: str) -> None:
    """The C++ tests of a preset of CMakePresets.json."""
    folder = build(session, preset)
    session.run("ctest", "--preset", preset)
    if preset == "benchmarks":  # that they run
        program = str(folder / "benchmarks/cpp/softloss_benchmarks")
        session.run(program, "--benchmark_min_time=0", "--benchmark_filter=/64x1000")


@nox.session
def tsan(session: nox.Session) -> None:
    """The C++ tests under TSan; libomp itself is built without it."""
    program = build(session, "tsan") / "tests/cpp/softloss_tests"
    environment = {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    session.run(str(program), "--test-case-exclude=*more scratch memory*", env=environment)


@nox.session
def fuzz(session: nox.Session) -> None:
    """The C++ API on arbitrary bytes, for FUZZ_SECONDS (20); fails at the first input that breaks a property."""
    program = build(session, "fuzz") / "tests/fuzz/softloss_fuzz"
    corpus = Path("build/fuzz/corpus")
    corpus.mkdir(exist_ok=True)
    found = os.environ.get("FUZZ_ARTIFACTS", "")  # the folder for inputs that break a property, with its /
    limits = ["-timeout=60", "-seed=1", "-len_control=0", "-max_len=512"]
    seconds = f"-max_total_time={os.environ.get('FUZZ_SECONDS') or 20}"
    session.run(str(program), seconds, *limits, "-print_final_stats=1", f"-artifact_prefix={found}fuzz-", str(corpus))


@nox.session
def asan(session: nox.Session) -> None:
    """The Python tests under ASan and UBSan, in an environment of their own; Python itself is built without them."""
    home = Path("build/asan-python")
    session.run(sys.executable, "-m", "venv", str(home))
    defines = ["CMAKE_CXX_COMPILER=clang++-19", "SOFTLOSS_SANITIZE=address,undefined"]
    options = [part for define in defines for part in ("-C", f"cmake.define.{define}")]
    session.run(str(home / "bin/pip"), "install", "-q", ".[test]", *options)
    runtime = output_of("clang++-19", f"-print-file-name=libclang_rt.asan-{os.uname().machine}.so")
    libraries = f"{runtime} {output_of('g++', '-print-file-name=libstdc++.so')}"
    environment = {"LD_PRELOAD": libraries, "ASAN_OPTIONS": "detect_leaks=0"}
    session.run(str(home / "bin/pytest"), *session.posargs, env=environment)


@nox.session
def consumers(session: nox.Session) -> None:
    """Programs in C++ and C that use softloss in every way."""
    session.run("pytest", "tests/cpp/consumer")


@nox.session
def docs(session: nox.Session) -> None:
    """Every example in the docstrings, the documentation and README; the documentation without a warning."""
    texts = ["--doctest-modules", "--doctest-glob=*.rst", "--doctest-glob=*.md", "--pyargs", "softloss"]
    session.run("pytest", *texts, "README.md", "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build")


@nox.session
def examples(session: nox.Session) -> None:
    """Every example, from start to end, on small sizes."""
    session.run("pytest", "tests/examples")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """A short run of every benchmark."""
    session.run("pytest", "tests/benchmarks")


@nox.session
def limits(session: nox.Session) -> None:
    """Functions above 60 lines or 8 parameters that .lizard-exceptions does not name; headers above 650 lines."""
    folders = ["cpp", "python/src"]
    long = [str(path) for folder in folders for path in Path(folder).rglob("*.hpp") if lines_of(path) > 650]
    session.run("lizard", "-l", "cpp", "-w", "-L", "60", "-a", "8", "-C", "999", "-W", ".lizard-exceptions", *folders)
    if long:
        session.error(f"more than 650 lines: {', '.join(long)}")
