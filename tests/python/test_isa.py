"""The instruction set chosen is the best one that this CPU has.

Lives here: what the operating system says of the CPU, beside what softloss says. Must not: results of functions.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from softloss import show_config

CPUINFO = Path("/proc/cpuinfo")
AVX2 = {"avx", "avx2", "fma", "f16c"}
AVX512 = AVX2 | {"avx512f", "avx512dq", "avx512bw", "avx512vl"}


def usable_isas() -> list[str]:
    """The instruction sets that this machine can run, slowest first."""
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return ["neon"]
    if machine not in ("x86_64", "amd64"):
        return ["baseline"]
    if not CPUINFO.exists():
        pytest.skip("only Linux lists the CPU's features")
    features = set(CPUINFO.read_text().split())
    return ["baseline", *["avx2"] * (AVX2 <= features), *["avx512"] * (AVX512 <= features)]


def config_with(**environment: str) -> str:
    """The instruction set that a new process reports."""
    code = "import softloss; print(softloss.show_config('dicts')['isa'])"
    without = {name: value for name, value in os.environ.items() if name != "SOFTLOSS_ISA"}
    return subprocess.run(
        [sys.executable, "-c", code], env=without | environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_usable_isas_are_those_of_the_cpu() -> None:
    assert show_config("dicts")["usable_isas"] == usable_isas()


def test_the_fastest_is_chosen() -> None:
    assert config_with() == usable_isas()[-1]


def test_the_environment_chooses_another() -> None:
    for name in usable_isas():
        assert config_with(SOFTLOSS_ISA=name) == name
    assert config_with(SOFTLOSS_ISA="none such") == usable_isas()[-1]
