"""Calls from many threads at once, with the GIL and without it.

Lives here: what the interpreter allows. Must not: the number of the core's own threads.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import softloss
from numpy.typing import NDArray


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_the_gil_stays_off() -> None:
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined]


def calls(x: NDArray[Any], labels: NDArray[Any]) -> list[NDArray[Any]]:
    """Results of functions that use each part: kernels, recycled memory, errors."""
    results = [softloss.softmax(x), softloss.logsumexp(x), softloss.softmax(x.astype(np.float16))]
    results += softloss.cross_entropy_and_grad(x, labels)
    results += softloss.token_logprobs(x, labels, top_k=3)
    with pytest.raises(IndexError):
        softloss.cross_entropy(x, labels + x.shape[1])
    return results


def test_threads_get_what_one_gets() -> None:
    rng = np.random.default_rng(0)
    inputs = [(rng.normal(size=(400, 700)).astype(np.float32), rng.integers(700, size=400)) for _ in range(8)]
    serial = [calls(*arguments) for arguments in inputs]
    start = Barrier(8)

    def task(i: int) -> None:
        start.wait()
        for _ in range(5):
            for result, expected in zip(calls(*inputs[i]), serial[i], strict=True):
                np.testing.assert_array_equal(result, expected)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(task, range(8)))


def test_the_first_calls_come_at_once() -> None:
    """Objects that the first call creates are created once, even if several threads make it at the same time."""
    code = """
import threading
import ml_dtypes, numpy as np, softloss
x = np.random.default_rng(0).normal(size=(300, 1000)).astype(ml_dtypes.bfloat16)
start, results = threading.Barrier(8), []
def first():
    start.wait()
    results.append((softloss.cross_entropy(x, x[:, 0].astype(int) % 1000), softloss.softmax(x.astype(float)).tobytes()))
threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(results), len(set(results)))
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, "8 1\n"), done.stderr
