"""Forked processes: after a parallel call of the parent, each kind of child gets the right bits and never hangs.

Lives here: fork, by every way that Python offers; each child has a limit of time. Must not: threads alone.
"""

import functools
import multiprocessing
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import softloss
import workload
from workload import Child, isa, results, wrong  # noqa: F401  (isa: a fixture)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),  # Python's own warning of what is tested here
]
LIMIT = 60  # seconds until a child counts as hung


@pytest.fixture(scope="module")
def expected():
    """The parent's results, by parallel calls."""
    with softloss.threads(4):
        return results()


def test_a_child(expected):
    for _ in range(5):
        assert Child(functools.partial(wrong, expected)).result() == []
    assert wrong(expected) == []


def test_many_children_at_once_as_servers_have_them(expected):
    """Each worker serves several requests, in several threads."""

    def worker():
        failed = []
        pool = [threading.Thread(target=lambda: failed.append(wrong(expected))) for _ in range(3)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return failed

    for child in [Child(worker) for _ in range(6)]:
        assert child.result() == [[], [], []]


def test_grandchildren(expected):
    def parent():
        return wrong(expected) + Child(functools.partial(wrong, expected), 40).result()

    assert Child(parent).result() == []


def test_children_that_set_the_number_of_threads(expected):
    def child(n):
        softloss.set_num_threads(n)
        return softloss.get_num_threads(), wrong(expected)

    for n in (1, 2, 7):
        assert Child(functools.partial(child, n)).result() == (n, [])


def test_forks_while_threads_are_in_calls(expected):
    """The child must not wait for the mutex of the pool or for memory, whoever holds them during the fork."""
    stop = threading.Event()

    def call():
        while not stop.is_set():
            softloss.softmax(workload.X)
            softloss.cross_entropy(workload.X, workload.LABELS)
            softloss.empty_cache()

    pool = [threading.Thread(target=call) for _ in range(3)]
    for thread in pool:
        thread.start()
    try:
        with softloss.threads(3):
            for _ in range(40):
                assert Child(lambda: workload.as_bytes(softloss.softmax(workload.X))).result() == expected["softmax"]
    finally:
        stop.set()
        for thread in pool:
            thread.join()
    assert wrong(expected) == []


def test_multiprocessing(expected):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map_async(wrong, [expected] * 6).get(LIMIT) == [[]] * 6


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_other_ways_to_start_processes(method):
    x = workload.X[:200]
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(softloss.softmax, (x,)).get(LIMIT).tobytes() == softloss.softmax(x).tobytes()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend, expected):
    joblib = pytest.importorskip("joblib")
    x = workload.X
    parallel = joblib.Parallel(n_jobs=2, backend=backend, timeout=LIMIT)
    for y in parallel(joblib.delayed(softloss.softmax)(x) for _ in range(4)):
        assert y.tobytes() == expected["softmax"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_of_another_user_of_the_same_openmp():
    """Another library, but not softloss, has used the shared OpenMP before the fork: run in its own process."""
    with open("/proc/self/maps") as file:
        library = next(iter(re.findall(r"\S*/lib[gi]?omp\S*", file.read())), None)
    if library is None:
        pytest.skip("no OpenMP library is loaded")
    code = f"""
import ctypes, softloss, numpy as np
from workload import Child
task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: None)
ctypes.CDLL({library!r}).GOMP_parallel(task, None, 4, 0)
x = np.zeros((1000, 1000), np.float32)
softloss.set_num_threads(4)
print(Child(lambda: float(softloss.softmax(x).sum()), 30).result())
"""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * LIMIT)
    assert done.stdout.startswith("1000."), done.stderr


def test_parents_with_pytorch():
    """PyTorch's parallel calls before the fork do not stop softloss in the child."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.tile(workload.X, (4, 1)))
    torch.softmax(x, -1)
    expected = results()
    assert Child(functools.partial(wrong, expected)).result() == []
