"""Threads: concurrent calls, changes of the setting during calls, threads of other libraries in the process.

Lives here: concurrency within a process, and the number of threads. Must not: fork, times.
"""

import concurrent.futures
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import softloss
import workload
from workload import CALLS, as_bytes, isa, results, wrong  # noqa: F401  (isa: a fixture)


@pytest.fixture(scope="module")
def expected():
    with softloss.threads(1):
        return results()


def together(functions):
    """Run the functions concurrently, each in its own thread, and return their results."""
    start = threading.Barrier(len(functions))

    def run(function):
        start.wait()
        return function()

    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(timeout=300) for future in [pool.submit(run, f) for f in functions]]


LONG_ROWS = {
    "softmax": lambda x, label: softloss.softmax(x),
    "logsumexp": lambda x, label: softloss.logsumexp(x),
    "softmax_entropy": lambda x, label: softloss.softmax_entropy(x),
    "cross_entropy": lambda x, label: softloss.cross_entropy(x, label, reduction="none"),
    "smoothing": lambda x, label: softloss.cross_entropy(x, label, label_smoothing=0.1, reduction="none"),
    "cross_entropy_and_grad": lambda x, label: softloss.cross_entropy_and_grad(x, label).grad,
    "kl_divergence": lambda x, label: softloss.kl_divergence(x, x[::-1], reduction="none"),
    "softmax_topk": lambda x, label: softloss.softmax_topk(x).prob,
    "sample": lambda x, label: softloss.sample(x, label / len(x.T), top_p=0.9).index,
    "token_logprobs": lambda x, label: softloss.token_logprobs(x, label).logprob,
    "softmax_backward": lambda x, label: softloss.softmax_backward(x, x),
}


@pytest.mark.parametrize("call", LONG_ROWS.values(), ids=LONG_ROWS)
def test_stages_of_long_rows_fit_into_each_threads_memory(call):
    """How many rows along a strided axis are staged depends on the number of threads, as it was before the loop."""
    rows, classes = 1100, 16_400
    x = np.random.default_rng(0).standard_normal((classes, rows), np.float32).T
    label = np.arange(rows) % classes
    with softloss.threads(1):
        alone = call(x, label)
    with softloss.threads(8):
        np.testing.assert_array_equal(call(x, label), alone)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_many_threads_at_once(expected, n):
    with softloss.threads(n):
        assert together([lambda: wrong(expected)] * 8) == [[]] * 8


def test_the_number_of_threads_changes_meanwhile(expected):
    before = softloss.get_num_threads()
    done = threading.Event()

    def change():
        for n in range(100_000):
            softloss.set_num_threads(1 + n % 9)
            if done.is_set():
                return n
        return n

    def call():
        failed = [name for _ in range(3) for name in wrong(expected)]
        done.set()
        return failed

    changes, *failed = together([change, call, call])
    softloss.set_num_threads(before)
    assert changes > 0 and failed == [[], []]


def test_memory_for_results_changes_hands(expected):
    """Buffers of the pool move between threads while its limit changes; no two live results share memory."""

    def call():
        kept = []
        for i in range(30):
            kept.append(softloss.softmax(workload.X))
            if i % 3 == 0:
                kept.clear()
            if i % 7 == 0:
                softloss.empty_cache()
        return all(as_bytes(y) == expected["softmax"] for y in kept)

    def limit():
        for i in range(300):
            softloss.set_cache_limit((i % 5) << 21)
        softloss.set_cache_limit(64 << 20)
        return True

    assert together([call, call, call, limit]) == [True] * 4


def test_a_thread_that_fails_disturbs_no_other(expected):
    bad = workload.LABELS.copy()
    bad[-1] = 300

    def fail():
        for _ in range(20):
            with pytest.raises(IndexError, match=r"target\[1499\] = 300"):
                softloss.cross_entropy_and_grad(workload.X, bad)
        return []

    assert together([fail, fail, lambda: wrong(expected), lambda: wrong(expected)]) == [[]] * 4


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL")
@pytest.mark.parametrize("name", CALLS)
def test_the_gil_is_released(name):
    """Another thread runs during a call: in this test Python itself never takes the GIL from a thread."""
    seen, turns = threading.Event(), []

    def call():
        end = time.monotonic() + 60
        while not seen.is_set() and time.monotonic() < end:
            CALLS[name]()
        turns.append(seen.is_set())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=call)
        thread.start()
        seen.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert turns == [True]


def test_pytorch_in_the_same_process(expected):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(workload.X)
    y = torch.softmax(x, -1)

    def call_torch():
        return [] if all(torch.equal(torch.softmax(x, -1), y) for _ in range(30)) else ["torch"]

    assert together([call_torch, call_torch, lambda: wrong(expected), lambda: wrong(expected)]) == [[]] * 4
    for _ in range(5):
        assert call_torch() == [] and wrong(expected) == []


def test_scikit_learn_in_the_same_process(expected):
    cluster = pytest.importorskip("sklearn.cluster")
    x = workload.X[:, :10]
    fit = lambda: cluster.KMeans(3, n_init=1, random_state=0, max_iter=5).fit(x).inertia_  # noqa: E731
    inertia = fit()
    calls = [lambda: [fit() == pytest.approx(inertia) for _ in range(3)], lambda: wrong(expected)]
    assert together(calls) == [[True] * 3, []]


# ---- how many ---------------------------------------------


def in_a_process(code, prepare=None, **environment):
    """The output of the code in a process whose environment sets only these thread variables."""
    clean = {k: v for k, v in os.environ.items() if k not in ("SOFTLOSS_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW = "import softloss; print(softloss.get_num_threads())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_cpu_affinity_is_respected():
    cpus = sorted(os.sched_getaffinity(0))
    assert in_a_process(SHOW, lambda: os.sched_setaffinity(0, cpus[:1])) == "1"
    assert int(in_a_process(SHOW)) <= len(cpus)


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")
@pytest.mark.parametrize("quota, most", [("50000 100000", 1), ("100001 100000", 2), ("max 100000", 1024)])
def test_the_quota_of_a_container_is_respected(quota, most, tmp_path):
    """Run in a mount namespace where the file of the CPU quota has this content; needs root."""
    (tmp_path / "cpu.max").write_text(quota)
    enter = f"mount -t tmpfs quota /sys/fs/cgroup && cp {tmp_path}/cpu.max /sys/fs/cgroup/"
    if subprocess.run(["unshare", "--mount", "sh", "-c", enter], capture_output=True).returncode:
        pytest.skip("cannot make a mount namespace here")
    inside = ["unshare", "--mount", "sh", "-c", enter + ' && exec "$0" -c "$1"', sys.executable, SHOW]
    clean = {k: v for k, v in os.environ.items() if k not in ("SOFTLOSS_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(inside, env=clean, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) == min(most, int(in_a_process(SHOW))), done.stderr


@pytest.mark.parametrize(
    "environment, threads",
    [
        ({"OMP_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "3", "SOFTLOSS_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "4,2"}, "4"),
        ({"SOFTLOSS_NUM_THREADS": "1000000"}, "1024"),
        *(({"SOFTLOSS_NUM_THREADS": bad, "OMP_NUM_THREADS": "3"}, "3") for bad in ("0", "-2", "", "many")),
    ],
)
def test_the_environment_sets_the_threads(environment, threads):
    assert in_a_process(SHOW, **environment) == threads


def test_an_absurd_number_of_threads_is_harmless(expected):
    with softloss.threads(10**9):
        assert softloss.get_num_threads() <= 1024
        assert wrong(expected) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_thread_starts_no_others():
    code = """
import os
import numpy as np, softloss
softloss.set_num_threads(1)
before = len(os.listdir("/proc/self/task"))
softloss.softmax(np.zeros((2000, 2000)))
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert in_a_process(code) == "0"


def test_every_function_is_called():
    functions = {name for name in softloss.functional.__all__ if name[0].islower()}
    assert functions - {name.split(" ")[0] for name in CALLS} == set()
