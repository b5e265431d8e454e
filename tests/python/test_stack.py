"""Small stacks: every function runs where NumPy does, on the smallest that Python gives a thread.

Lives here: how much stack calls use, measured; threads and OpenMP's workers with small ones. Must not: results.
"""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
import softloss
import workload
from workload import CALLS, isa  # noqa: F401  (isa: a fixture)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="makes threads by glibc's pthread_attr_setstack"),
    pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer's frames are larger"),
]
LIMIT = 32 << 10  # bytes, with Python's own frames: the smallest that threading.stack_size takes

HALVES = workload.X.astype(np.float16)
DOUBLES = workload.X.astype(np.float64)
COLUMNS = np.asfortranarray(DOUBLES)
SWAPPED = workload.X.astype(workload.X.dtype.newbyteorder())
MASK = workload.X > 0
WEIGHT, SAMPLE_WEIGHT = workload.P[0], workload.P[:, 0]
MORE = {  # other ways through the library
    "softmax with where": lambda: softloss.softmax(DOUBLES, where=MASK),
    "softmax of columns": lambda: softloss.softmax(COLUMNS, 0),
    "softmax of swapped bytes": lambda: softloss.softmax(SWAPPED),
    "softmax of float16": lambda: softloss.softmax(HALVES),
    "logsumexp of float64": lambda: softloss.logsumexp(DOUBLES, axis=0),
    "logsumexp with b": lambda: softloss.logsumexp(DOUBLES, b=DOUBLES),
    "logsumexp with where": lambda: softloss.logsumexp(DOUBLES, where=MASK),
    "cross_entropy of float64": lambda: softloss.cross_entropy(DOUBLES, workload.LABELS, weight=WEIGHT),
    "cross_entropy of columns": lambda: softloss.cross_entropy(COLUMNS.T, workload.LABELS, axis=0),
    "cross_entropy of probabilities": lambda: softloss.cross_entropy_and_grad(DOUBLES, DOUBLES, weight=WEIGHT),
    "cross_entropy, weighted": lambda: softloss.cross_entropy_and_grad(
        DOUBLES, workload.LABELS, weight=WEIGHT, sample_weight=SAMPLE_WEIGHT
    ),
    "cross_entropy_grad_hess of float16": lambda: softloss.cross_entropy_grad_hess(HALVES, workload.LABELS),
    "cross_entropy_grad_hess of columns": lambda: softloss.cross_entropy_grad_hess(
        COLUMNS.T, workload.LABELS, axis=0, sample_weight=SAMPLE_WEIGHT
    ),
    "categorical_cross_entropy of probabilities": lambda: softloss.categorical_cross_entropy(
        workload.P, workload.P, weight=WEIGHT
    ),
    "binary_cross_entropy_with_logits of columns": lambda: softloss.binary_cross_entropy_with_logits(
        COLUMNS, workload.P, weight=DOUBLES, pos_weight=WEIGHT
    ),
    "softmax_topk of float64": lambda: softloss.softmax_topk(COLUMNS, 200),
    "token_logprobs of float16": lambda: softloss.token_logprobs(HALVES, workload.LABELS, top_k=20),
    "cross_entropy of a short row": lambda: softloss.cross_entropy(workload.X[0, :10], 3),
    "an error": lambda: pytest.raises(IndexError, softloss.cross_entropy, workload.X, workload.LABELS + 300),
}


def stack_used(call, size=1 << 20, paint=0xA5):
    """Bytes of its stack that a thread has written which runs the call, those of Python's frames among them."""
    libc = ctypes.CDLL(None)
    memory = np.full(size + 4096, paint, np.uint8)
    offset = -memory.ctypes.data % 4096
    failed = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def run(_):
        try:
            call()
        except BaseException as error:
            failed.append(error)

    attributes, thread = ctypes.create_string_buffer(128), ctypes.c_ulong()
    libc.pthread_attr_init(attributes)
    stack = ctypes.c_void_p(memory.ctypes.data + offset)
    assert libc.pthread_attr_setstack(attributes, stack, ctypes.c_size_t(size)) == 0
    assert libc.pthread_create(ctypes.byref(thread), attributes, run, None) == 0
    libc.pthread_join(thread, None)
    assert failed == []
    return size - int(np.argmax(memory[offset:] != paint))


ALL = CALLS | MORE


def run_all():
    for call in ALL.values():
        call()


@pytest.mark.parametrize("name", ALL)
def test_stack_of_a_call(name):
    with softloss.threads(1):
        ALL[name]()  # what a first call alone does is not of interest
        assert stack_used(ALL[name]) <= LIMIT


def run_in_a_process(prepare, **environment):
    code = f"""
import threading, softloss, test_stack
{prepare}
thread = threading.Thread(target=test_stack.run_all)
thread.start()
thread.join()
print("done")
"""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": path} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", f"status {done.returncode}: {done.stderr}"


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_with_small_stacks(threads):
    run_in_a_process(f"softloss.set_num_threads({threads}); threading.stack_size({2 * LIMIT})")


def test_workers_with_small_stacks():
    run_in_a_process("softloss.set_num_threads(4)", OMP_STACKSIZE="64k")
