"""The floating-point mode: results are the same in every mode that a thread may have, and the mode stays as it was.

Lives here: modes set through the C library, as other libraries set them. Must not: what the results are.
"""

import concurrent.futures
import contextlib
import ctypes
import platform
import struct
import sys

import numpy as np
import pytest
import softloss
import workload
from workload import CALLS, as_bytes, isa, results  # noqa: F401  (isa: a fixture)

if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
    pytest.skip("knows the layout of the C library's fenv_t on Linux alone", allow_module_level=True)

X86 = platform.machine() == "x86_64"
MODES = {  # bits of the control register
    "flush to zero": 0x8040 if X86 else 1 << 24,  # and, of x86, subnormal operands are zero
    "toward zero": 0x6000 if X86 else 3 << 22,
    "upward": 0x4000 if X86 else 1 << 22,
    "flush to zero, downward": 0xA040 if X86 else 1 << 24 | 2 << 22,
}
LIBM = ctypes.CDLL("libm.so.6")
OFFSET = 28 if X86 else 0  # of MXCSR or FPCR in fenv_t
RECORDED = 0x3F if X86 else 0  # exceptions that have happened


def control():
    """The control register of the calling thread."""
    state = ctypes.create_string_buffer(64)
    LIBM.fegetenv(state)
    return struct.unpack_from("<I", state, OFFSET)[0] & ~RECORDED


@contextlib.contextmanager
def mode(bits):
    before = ctypes.create_string_buffer(64)
    LIBM.fegetenv(before)
    state = ctypes.create_string_buffer(bytes(before))
    struct.pack_into("<I", state, OFFSET, control() | bits)
    LIBM.fesetenv(state)
    try:
        yield
    finally:
        LIBM.fesetenv(before)


F32 = np.float32
SMALL = {  # results that modes change: too small for normal numbers, or between two
    "softmax": (softloss.softmax, F32([0, -90, -100, 1])),
    "softmax of subnormal numbers": (softloss.softmax, np.float64([5e-324, 1e-310, 0])),
    "softmax of float16": (softloss.softmax, np.float16([0, -9, -16, 0.1])),
    "log_softmax": (softloss.log_softmax, F32([99, 0, 0.1])),
    "logsumexp": (softloss.logsumexp, np.float64([0.1, 0.2, -745])),
    "sigmoid": (softloss.sigmoid, F32([-90, -100, 0.3])),
    "log_sigmoid": (softloss.log_sigmoid, F32([90, 100, 0.3])),
    "cross_entropy": (softloss.cross_entropy, F32([92, 0, 0]), 0),
    "cross_entropy of rows": (softloss.cross_entropy, F32([[0.1, 0.2], [0.3, 0.1], [0, 0.7]]), [0, 1, 1]),
    "cross_entropy_and_grad": (softloss.cross_entropy_and_grad, F32([92, 0, 0.1]), 0),
    "cross_entropy_grad_hess": (softloss.cross_entropy_grad_hess, F32([92, 0, 0.1]), 0),
    "nll_loss": (softloss.nll_loss, F32([[-1e-42, 0], [0, -1e-42]]), [0, 1]),
    "categorical_cross_entropy": (softloss.categorical_cross_entropy, F32([[0.1, 0.9], [0.3, 0.7]]), [0, 1]),
    "binary_cross_entropy": (softloss.binary_cross_entropy, F32([1e-42, 0.3]), F32([0, 0.7])),
    "with_logits": (softloss.binary_cross_entropy_with_logits_and_grad, F32([-95, 0.3]), F32([0, 0.7])),
    "softmax_topk": (softloss.softmax_topk, F32([0, -90, -100]), 3),
    "token_logprobs": (softloss.token_logprobs, F32([[92, 0, 0.1]]), [0]),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("bits", MODES.values(), ids=MODES)
def test_small_calls(name, bits):
    function, *arguments = SMALL[name]
    expected = as_bytes(function(*arguments))
    with mode(bits):
        got = as_bytes(function(*arguments))
    assert got == expected


@pytest.fixture(scope="module")
def expected():
    with softloss.threads(1):
        return results()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bits", MODES.values(), ids=MODES)
def test_every_function_on_one_thread_and_more(expected, bits, threads):
    with softloss.threads(threads), mode(bits):
        got = results()
    assert [name for name in CALLS if got[name] != expected[name]] == []


@pytest.mark.parametrize("bits", MODES.values(), ids=MODES)
def test_workers_in_another_mode_than_the_caller(bits):
    """The first call of a thread starts its workers, in the mode that the thread has at that time."""
    x = 12 * workload.X  # many results are subnormal
    with softloss.threads(1):
        expected = as_bytes(softloss.softmax(x))

    def call():
        first = as_bytes(softloss.softmax(x))
        with mode(bits):
            other = as_bytes(softloss.softmax(x))
        return first, other

    def call_first_in_the_mode():
        with mode(bits):
            first = as_bytes(softloss.softmax(x))
        return first, as_bytes(softloss.softmax(x))

    for function in (call, call_first_in_the_mode):
        with softloss.threads(2), concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert pool.submit(function).result() == (expected, expected)


@pytest.mark.parametrize("bits", MODES.values(), ids=MODES)
def test_the_mode_stays_as_it_was(bits):
    with mode(bits):
        before = control()
        assert before & bits == bits
        for name, call in CALLS.items():
            call()
            assert control() == before, name
        with pytest.raises(IndexError):
            softloss.cross_entropy(workload.X, workload.LABELS + 300)
        assert control() == before


def test_checks_see_subnormal_numbers():
    """A temperature above 0 is above 0 in every mode."""
    with mode(MODES["flush to zero"]):
        y = softloss.softmax(np.float64([0, 1]), temperature=5e-324)
    assert list(y) == [0, 1]


def test_pytorch_flushes_to_zero():
    torch = pytest.importorskip("torch")
    x = 12 * workload.X
    expected = as_bytes(softloss.softmax(x))
    if not torch.set_flush_denormal(True):
        pytest.skip("PyTorch cannot set it here")
    try:
        assert as_bytes(softloss.softmax(x)) == expected
    finally:
        torch.set_flush_denormal(False)
