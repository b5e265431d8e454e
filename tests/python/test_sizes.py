"""Sizes: more than 2^31 elements and rows, one row of 5e8, no memory left, shapes whose product overflows.

Most of what is large here is a broadcast array: many elements, few bytes. What truly takes gigabytes runs where
SOFTLOSS_TEST_LARGE is set: SOFTLOSS_TEST_LARGE=1 pytest tests/python/test_sizes.py (16 GiB, 5 minutes).
Must not: accuracy.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import softloss
from workload import isa, own_allocator  # noqa: F401  (isa: a fixture)

large = pytest.mark.skipif(not os.environ.get("SOFTLOSS_TEST_LARGE"), reason="takes gigabytes: SOFTLOSS_TEST_LARGE=1")
ROWS = 2**31 + 5


def spread(value, shape, dtype=np.float32):
    """An array of this shape and one element."""
    return np.broadcast_to(np.asarray(value, dtype), shape)


# ---- no memory ---------------------------------------------


@own_allocator
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_allocation_failure_is_a_memory_error():
    """With any memory limit a call succeeds or raises MemoryError, and the next small call is right."""
    code = """
import resource, sys
import numpy as np, softloss
softloss.set_num_threads(2)
small = softloss.softmax(np.zeros((100, 10)))
x = np.zeros((2000, 2000), np.float32)
labels, weight, k = np.zeros(2000, int), np.ones(2000), 1000
out = softloss.softmax(x)  # and OpenMP's threads, which it does not live without
calls = [
    lambda: softloss.softmax(x), lambda: softloss.softmax(x.T, out=out.T), lambda: softloss.softmax(x[::-1], out=out),
    lambda: softloss.softmax(x, dtype=np.float64), lambda: softloss.logsumexp(x.T), lambda: softloss.sigmoid(x),
    lambda: softloss.cross_entropy(x, labels, reduction="none"), lambda: softloss.cross_entropy(x, x + 1 / 2000),
    lambda: softloss.cross_entropy_and_grad(x, labels, weight=weight), lambda: softloss.softmax_topk(x, k),
    lambda: softloss.cross_entropy_grad_hess(x, labels), lambda: softloss.token_logprobs(x, labels, top_k=k),
    lambda: softloss.binary_cross_entropy_with_logits_and_grad(x, 1), lambda: softloss.softmax_backward(x, x),
]
softloss.set_cache_limit(0)
failed = passed = 0
for call in calls:
    for kib in (64, 256, 1024, 2048, 4096, 8192, 16384, 24576, 32768, 65536, 131072, 262144):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (kib << 10), resource.RLIM_INFINITY))
        try:
            call()
            passed += 1
        except MemoryError:
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert softloss.softmax(np.zeros((100, 10))).tobytes() == small.tobytes()
print(failed > 0, passed > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


@own_allocator
def test_results_too_large_for_any_memory():
    x = spread(0, (2**40, 2**10))
    for call in (softloss.softmax, softloss.log_softmax, softloss.sigmoid, softloss.logsumexp):
        with pytest.raises(MemoryError):
            call(x)
    for reduction in ("none", "sum", "mean"):
        with pytest.raises(MemoryError):
            softloss.binary_cross_entropy_with_logits_and_grad(x, 1, reduction=reduction)
    labels = spread(0, 2**40, int)
    with pytest.raises(MemoryError):
        softloss.cross_entropy(x, labels, reduction="none")
    with pytest.raises(MemoryError):
        softloss.softmax_topk(x, 2)
    with pytest.raises(MemoryError):
        softloss.token_logprobs(x, labels, top_k=2)


@own_allocator
def test_one_row_too_long_for_its_scratch_memory():
    """A row that must be staged needs memory of its length."""
    for x in (spread(0, 2**47), spread(0, 2**47, np.float16), spread(0, 2**48, np.int8)):
        with pytest.raises(MemoryError):
            softloss.logsumexp(x)
        with pytest.raises(MemoryError):
            softloss.cross_entropy(x, 0)


@own_allocator
def test_rows_whose_bytes_cannot_be_counted():
    """The number of elements fits into 63 bits, but the scratch memory in bytes does not."""
    labels = spread(0, 2**61, np.int8)
    for shape in [(2**61,), (2**62,), (2**62, 1), (1, 2**62), (2**31, 2**31)]:
        x = spread(0, shape, np.int8)
        calls = [softloss.logsumexp, softloss.softmax, softloss.sigmoid, lambda x: softloss.softmax_topk(x, 1)]
        calls += [lambda x: softloss.softmax_backward(x, x), lambda x: softloss.binary_cross_entropy(x, 1)]
        for call in calls:
            with pytest.raises((MemoryError, ValueError)):
                call(x)
        for target in (labels, spread(0, shape[:-1], np.int8)):
            for reduction in ("mean", "none"):
                with pytest.raises((MemoryError, ValueError)):
                    softloss.cross_entropy(x, target, reduction=reduction)


def test_shapes_whose_product_overflows():
    """In NumPy only empty arrays can have such shapes."""
    for shape in [(2**40, 2**40, 0), (0, 2**62, 2**62), (2**62, 0), (0, 2**62)]:
        try:
            x = np.ndarray(shape, np.int8, b"")
        except ValueError:
            continue
        try:
            assert softloss.sigmoid(x).size == 0
        except (ValueError, MemoryError):
            pass


# ---- more than 31 bits ---------------------------------------------


@large
def test_more_than_2_31_rows_of_one_element():
    x, labels = spread(1, (ROWS, 1), np.float16), spread(0, ROWS, np.int8)
    assert softloss.cross_entropy(x, labels, reduction="sum") == 0
    y = softloss.softmax(x)
    assert y.shape == (ROWS, 1) and y[0, 0] == y[-1, 0] == 1 and y[2**31 - 1 : 2**31 + 2].tolist() == [[1]] * 3
    assert int(np.count_nonzero(y == 1)) == ROWS


@large
def test_bad_labels_beyond_2_31():
    labels = np.zeros(ROWS, np.int8)
    labels[-1] = 9
    with pytest.raises(IndexError, match=rf"target\[{ROWS - 1}\] = 9"):
        softloss.cross_entropy(spread(1, (ROWS, 1), np.float16), labels)


@large
def test_more_than_2_31_elements():
    x = np.zeros((3, 2**30 - 1), np.float16)
    x[:, -1] = np.log(2**30 - 1)
    for shape in [(3, 2**30 - 1), (2**30 - 1, 3)]:
        y = x.reshape(shape)
        softloss.sigmoid(y, out=y)
        assert y.flat[0] == np.float16(0.5) and y.flat[2**31 + 7] == np.float16(0.5) and y.flat[-1] > 0.99
        x[:] = 0
        x[:, -1] = 20
    y = x.reshape(2**30 - 1, 3)
    softloss.softmax(y, out=y)
    assert y[0].tolist() == [float(np.float16(1 / 3))] * 3 and y[-1, -1] == 1


@large
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_row_of_5e8(dtype):
    n = 500_000_000
    x = np.zeros(n, dtype)
    x[-1] = np.log(n)
    assert softloss.logsumexp(x) == pytest.approx(np.log(2 * n - 1), rel=1e-6)
    assert softloss.cross_entropy(x, n - 1) == pytest.approx(np.log(2), rel=1e-6)
    top = softloss.softmax_topk(x, 2)
    assert top.index.tolist() == [n - 1, 0]
    softloss.softmax(x, out=x)
    assert x[-1] == pytest.approx(0.5, rel=1e-6) and x[0] == x[n // 2] == pytest.approx(1 / (2 * n), rel=1e-6)


@large
def test_an_axis_of_5e8_that_is_not_the_last():
    n = 250_000_000
    x = np.zeros((n, 2), np.float32)
    assert softloss.logsumexp(x, 0).tolist() == pytest.approx([np.log(n)] * 2, rel=1e-6)
    softloss.softmax(x, 0, out=x)
    assert x[0].tolist() == x[-1].tolist() == pytest.approx([1 / n] * 2, rel=1e-6)
