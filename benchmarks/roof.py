"""The roof: how fast this machine can move the bytes of a case and compute its exponentials.

Lives here: the kernels of cpp/roof.cpp, compiled when the benchmark starts, and what NumPy can measure in their place
where there is no compiler. Must not: softloss, its peers, printing.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).parent / "cpp" / "roof.cpp"
FLAGS = "-std=c++20 -O3 -march=native -fopenmp-simd -funroll-loops -fno-signed-zeros -ffinite-math-only".split()
EXPS = 1 << 20  # elements of one unit of exp work
Timed = Callable[[int], float]  # repeats -> seconds in all


def last_level_cache() -> int:
    """Bytes of the largest cache of the first CPU; 32 MiB if it is unknown."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes), default=32 << 20)


def compiled() -> ctypes.CDLL | None:
    """cpp/roof.cpp as a library, or None without a compiler."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "roof.so"
        flags = [*FLAGS, "-shared", "-fPIC", "-o", str(library)]
        for openmp in (["-fopenmp"], []):
            try:
                subprocess.run([*compiler, *flags, *openmp, str(SOURCE)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return ctypes.CDLL(str(library))
    return None


class Roof:
    """Kernels of the compiled library, on `threads` threads."""

    name = "compiled"

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self._threads = threads
        self._move, self._exp = library.roof_move, library.roof_exp
        size = ctypes.c_int64
        self._move.argtypes = [*[ctypes.c_void_p] * 3, size, ctypes.c_int, size, ctypes.c_int]
        self._exp.argtypes = [ctypes.c_int, size, ctypes.c_int]

    def moves(self, reads: list[np.ndarray[Any, Any]], write: np.ndarray[Any, Any] | None) -> dict[str, Timed]:
        """Ways to read all of `reads` (at most two) and to write `write`; the fastest one counts."""
        a, b, y = ([array.ctypes.data for array in reads] + [None, None])[:2] + [
            None if write is None else write.ctypes.data
        ]
        nbytes = (reads[0] if reads else write).nbytes

        def way(non_temporal: int) -> Timed:
            return lambda repeat: _seconds(self._move, a, b, y, nbytes, non_temporal, repeat, self._threads)

        return {"regular": way(0)} if write is None else {"regular": way(0), "non-temporal": way(1)}

    def exps(self, itemsize: int) -> Timed:
        return lambda repeat: _seconds(self._exp, itemsize, repeat, self._threads)


class NumpyRoof:
    """The same with NumPy on one thread: an estimate, slower than compiled code."""

    name = "NumPy"

    def moves(self, reads: list[np.ndarray[Any, Any]], write: np.ndarray[Any, Any] | None) -> dict[str, Timed]:
        def once() -> None:
            if write is None:
                for array in reads:
                    array.max()
            elif len(reads) == 2:
                np.maximum(*reads, out=write)
            elif reads:
                np.copyto(write, reads[0])
            else:
                write.fill(0)

        return {"regular": lambda repeat: _seconds(lambda: [once() for _ in range(repeat)])}

    def exps(self, itemsize: int) -> Timed:
        x = np.linspace(-8, 0, 8192 // itemsize, dtype=f"f{itemsize}")
        y = np.empty_like(x)
        blocks = EXPS // x.size
        return lambda repeat: _seconds(lambda: [np.exp(x, out=y) for _ in range(blocks * repeat)])


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def machine(roof: Roof | NumpyRoof) -> dict[str, float]:
    """Bandwidths in GB/s of memory and caches, and exponentials per ns; the best of several."""
    figures = {}
    for place, nbytes in (("512 MiB", 512 << 20), ("512 KiB", 512 << 10)):
        x, y = np.ones(nbytes // 4, np.float32), np.ones(nbytes // 4, np.float32)
        repeat = max(1, (64 << 20) // nbytes)
        for name, reads, write in (("read", [x], None), ("write", [], y), ("copy", [x], y)):
            moved = nbytes * (len(reads) + (write is not None)) * repeat / 1e9
            for way, timed in roof.moves(reads, write).items():
                figures[f"{name}, {way}, {place}"] = moved / min(timed(repeat) for _ in range(7))
    for itemsize in (4, 8):
        timed = roof.exps(itemsize)
        figures[f"exp, float{8 * itemsize}"] = 8 * EXPS / 1e9 / min(timed(8) for _ in range(7))
    return figures
