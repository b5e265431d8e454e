"""Recycled memory of large results: ordinary arrays, one per buffer, without stale data, within the limit.

Lives here: the pool of python/src/pool.cpp seen from outside. Must not: values of results beyond what tells stale ones.
"""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref

import ml_dtypes
import numpy as np
import pytest
import softloss
from operations import OPERATIONS
from softloss import _core
from workload import own_allocator

MIB = 1 << 20
LARGE = (512, 1024)  # 2 MiB of float32


@pytest.fixture(autouse=True)
def limit():
    """An empty pool of 64 MiB. Afterwards the setting of the session is restored, as far as it is known."""
    softloss.empty_cache()
    softloss.set_cache_limit(64 * MIB)
    yield 64 * MIB
    softloss.empty_cache()
    softloss.set_cache_limit(64 * MIB)


def logits(seed=0, shape=LARGE, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def address(array):
    return array.__array_interface__["data"][0]


# ---- plain arrays ---------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_results_are_plain_arrays(dtype):
    x = logits(dtype=dtype, shape=(1024, 1024))
    expected = softloss.softmax(x[:100])
    for _ in range(3):  # fresh, then recycled
        y = softloss.softmax(x)
        assert type(y) is np.ndarray
        assert y.dtype == dtype and y.shape == x.shape
        assert y.flags.c_contiguous and y.flags.writeable and y.flags.aligned
        assert address(y) % 64 == 0
        np.testing.assert_array_equal(y[:100], expected)
        y[...] = 0  # the owner may do with it what he likes
        assert y.reshape(-1).base is not None
        assert y.flags.owndata
        del y


def test_results_can_be_pickled_transposed_viewed_and_resized_to_a_copy():
    import pickle

    y = softloss.softmax(logits())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)), y)
    np.testing.assert_array_equal(y.T.copy().T, y)
    np.testing.assert_array_equal(np.resize(y, (2, 3)), y.ravel()[:6].reshape(2, 3))
    assert memoryview(y).nbytes == y.nbytes


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_results_can_be_set_read_only_and_writeable_again(operation):
    for y in operation(*operation.operands((256, 1100), np.float64, 1), axis=1):
        if y.ndim:
            y.flags.writeable = False
            y.flags.writeable = True
            y[...] = 0


@pytest.mark.parametrize("rows", [1, 400, 513, 600, 5000])
def test_results_can_be_resized(rows):
    y = softloss.softmax(logits())
    expected = y.copy()
    y.resize((rows, LARGE[1]))
    kept = min(rows, LARGE[0])
    np.testing.assert_array_equal(y[:kept], expected[:kept])
    assert not y[kept:].any()
    other = softloss.softmax(logits(1))  # takes none of its memory
    np.testing.assert_array_equal(y[:kept], expected[:kept])
    del y
    assert _core.cached_bytes() > 0
    del other


def test_the_size_of_results_is_known():
    """sys.getsizeof and tracemalloc report the size of large results, as of small ones."""
    small = softloss.softmax(np.zeros((2, 2)))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(2):  # fresh, then recycled
            y = softloss.softmax(logits())
            assert sys.getsizeof(y) - y.nbytes == sys.getsizeof(small) - small.nbytes
            assert tracemalloc.get_traced_memory()[0] - before > y.nbytes
            del y
            assert tracemalloc.get_traced_memory()[0] - before < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_recycled_memory_never_shows(operation):
    """Buffers are full of NaN before every call, so an element that is not written would show."""
    shape, axis = ((256, 1100), 1) if operation.has_axis else ((256, 1100), -1)
    operands = operation.operands(shape, np.float64, axis)
    softloss.set_cache_limit(0)
    expected = [np.copy(y) for y in operation(*operands, axis=axis)]
    softloss.set_cache_limit(64 * MIB)
    for _ in range(2):
        poison()
        for y, true in zip(operation(*operands, axis=axis), expected, strict=True):
            np.testing.assert_array_equal(y, true)


def poison():
    """Leave buffers of several sizes in the pool, each full of NaN."""
    held = [softloss.sigmoid(np.zeros(n * MIB // 8)) for n in (1, 2, 3, 3, 4)]
    for y in held:
        y[...] = np.nan
    del held, y
    assert _core.cached_bytes() > 0


def test_errors_do_not_use_memory_up():
    before = _core.cached_bytes()
    x, target = logits(), np.full(LARGE[0], LARGE[1])
    for _ in range(3):
        with pytest.raises(IndexError):
            softloss.cross_entropy_and_grad(x, target)
        with pytest.raises(ValueError):
            softloss.softmax(x, temperature=-1)
    assert _core.cached_bytes() <= before + 2 * (x.nbytes + 2 * MIB)


# ---- one buffer, one array ---------------------------------------------


def test_memory_is_recycled():
    x = logits()
    first = softloss.softmax(x)
    where = address(first)
    assert _core.cached_bytes() == 0
    del first
    assert _core.cached_bytes() >= x.nbytes
    second = softloss.softmax(x)
    assert address(second) == where
    assert _core.cached_bytes() == 0


def test_living_arrays_never_share_memory():
    x = logits()
    rng = np.random.default_rng(0)
    living = {}
    for i in range(200):
        if living and rng.random() < 0.45:
            living.pop(rng.choice(list(living)))
        else:
            living[i] = (softloss.softmax(x + np.float32(i % 3)), i)
            living[i][0][:] = i
    for array, i in living.values():
        assert np.all(array == i)
    spans = sorted((address(array), array.nbytes) for array, _ in living.values())
    assert all(a + size <= b for (a, size), (b, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    "view_of",
    [
        lambda y: y[1:],
        lambda y: y.T,
        lambda y: y.reshape(-1),
        lambda y: y.view(np.int32),
        lambda y: memoryview(y),
        lambda y: np.frombuffer(y, np.float32),
        lambda y: np.lib.stride_tricks.sliding_window_view(y, (2, 2)),
    ],
    ids=["slice", "transposed", "flat", "view", "memoryview", "frombuffer", "windows"],
)
def test_a_view_keeps_its_buffer(view_of):
    view = view_of(softloss.softmax(logits()))
    gc.collect()
    before = np.array(view)
    others = [softloss.softmax(logits(seed)) for seed in (1, 2, 3)]
    np.testing.assert_array_equal(np.array(view), before)
    del others


def test_a_cycle_of_arrays_is_collected():
    class Holder:
        pass

    holder = Holder()
    holder.array, holder.itself = softloss.softmax(logits()), holder
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None
    assert _core.cached_bytes() > 0


# ---- the limit ---------------------------------------------


def test_small_results_are_not_kept():
    del_me = softloss.softmax(np.zeros((100, 100)))
    del del_me
    assert _core.cached_bytes() == 0


def test_the_limit_is_kept(limit):
    softloss.set_cache_limit(8 * MIB)
    arrays = [softloss.sigmoid(np.zeros(MIB // 2)) for _ in range(6)]  # 4 MiB each, and a header
    del arrays
    assert 4 * MIB <= _core.cached_bytes() <= 8 * MIB
    softloss.set_cache_limit(5 * MIB)
    assert _core.cached_bytes() <= 5 * MIB
    large = softloss.sigmoid(np.zeros(2 * MIB))
    held = _core.cached_bytes()
    del large  # larger than the limit: given back to the system, nothing else is pushed out
    assert _core.cached_bytes() == held


def test_zero_turns_it_off():
    softloss.softmax(logits())
    softloss.set_cache_limit(0)
    assert _core.cached_bytes() == 0
    np.testing.assert_array_equal(softloss.softmax(logits()), softloss.softmax(logits()))
    assert _core.cached_bytes() == 0


def test_an_array_made_before_the_limit_was_lowered_is_freed():
    y = softloss.softmax(logits())
    softloss.set_cache_limit(0)
    del y
    assert _core.cached_bytes() == 0


def test_empty_cache_frees():
    softloss.softmax(logits())
    living = softloss.softmax(logits(1))
    expected = living.copy()
    softloss.softmax(logits())
    assert _core.cached_bytes() > 0
    softloss.empty_cache()
    assert _core.cached_bytes() == 0
    np.testing.assert_array_equal(living, expected)


def test_a_small_result_does_not_take_a_large_buffer():
    del_me = softloss.sigmoid(np.zeros(4 * MIB))  # 32 MiB
    del del_me
    held = _core.cached_bytes()
    small = softloss.sigmoid(np.zeros(MIB // 4))  # 2 MiB
    assert _core.cached_bytes() == held
    del small


@pytest.mark.parametrize("bad", [-1, -(2**40)])
def test_limits_are_not_negative(bad):
    with pytest.raises(ValueError, match=f"nbytes must be at least 0, got {bad}"):
        softloss.set_cache_limit(bad)


@pytest.mark.parametrize("bad", [1.5, "1", None])
def test_limits_are_integers(bad):
    with pytest.raises(TypeError, match="nbytes must be an integer"):
        softloss.set_cache_limit(bad)
    softloss.set_cache_limit(np.int64(1 << 40))


CACHED = """
import numpy as np, softloss
from softloss import _core
softloss.softmax(np.zeros((2048, 1024)))  # 16 MiB
print(_core.cached_bytes())
"""


def run(script, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "SOFTLOSS_CACHE_BYTES"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean | environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("value, kept", [("0", False), (str(4 * MIB), False), (str(64 * MIB), True), (None, True)])
def test_environment(value, kept):
    cached = int(run(CACHED, **({} if value is None else {"SOFTLOSS_CACHE_BYTES": value})))
    assert cached >= 16 * MIB if kept else cached == 0


@pytest.mark.parametrize("value", ["", "many", "-5", "1e9", "512M"])
def test_an_environment_that_is_no_number_of_bytes_leaves_the_default(value):
    assert int(run(CACHED, SOFTLOSS_CACHE_BYTES=value)) >= 16 * MIB


# ---- memory that is short ---------------------------------------------

LIMITED = """
import resource, sys
import numpy as np, softloss
from softloss import _core
MIB = 1 << 20
softloss.set_num_threads(1)
softloss.set_cache_limit(1 << 40)
x = np.broadcast_to(np.float32(0), (64 * MIB, 1))  # no memory of its own
labels = np.broadcast_to(np.int64(0), len(x))
softloss.cross_entropy(x[:8], labels[:8])
def mapped():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
def grant(size):
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + size, resource.RLIM_INFINITY))
"""

needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


@own_allocator
@needs_limits
@pytest.mark.parametrize(
    "call",
    [
        "softloss.sigmoid(x[: 40 * MIB])",  # 160 MiB: not enough beside what lies idle, no fit for it
        "softloss.sigmoid(x[: 40 * MIB].astype(np.float16))",
        "softloss.logsumexp(x[: 40 * MIB])",
        "softloss.cross_entropy_and_grad(x[: 20 * MIB], labels[: 20 * MIB])",
        "softloss.cross_entropy(x[: 15 * MIB], labels[: 15 * MIB], sample_weight=x[: 15 * MIB, 0], reduction='none')",
        "softloss.softmax([0.0] * (8 * MIB))",  # memory of NumPy's conversion, too
        "y.resize(40 * MIB)",
    ],
)
def test_idle_memory_is_given_back_before_an_allocation_fails(call):
    script = f"""
y = softloss.sigmoid(x[:MIB, 0].copy())
grant(220 * MIB)
softloss.sigmoid(x[: 25 * MIB])  # 100 MiB
assert _core.cached_bytes() >= 100 * MIB
result = {call}
assert _core.cached_bytes() < 100 * MIB
print("good")
"""
    assert run(LIMITED + script).strip() == "good"


@own_allocator
@needs_limits
@pytest.mark.parametrize(
    "call, text",
    [
        (
            "softloss.sigmoid(x)",
            "Unable to allocate 256. MiB for an array with shape (67108864, 1) and data type float32",
        ),
        (
            "softloss.logsumexp(np.zeros((2**40, 0)))",
            "Unable to allocate 8.00 TiB for an array with shape (1099511627776,) and data type float64",
        ),
        (
            "softloss.sigmoid(np.broadcast_to(np.int8(0), 2**62))",
            "Unable to allocate 2**63 bytes or more for an array with shape (4611686018427387904,) and data type "
            "float64",
        ),
        (
            "softloss.nll_loss_and_grad(x, labels, sample_weight=x[:, 0], grad_out=grad)",
            "Unable to allocate the working memory of a call on 67108864 elements, up to 1 MiB and 16 bytes "
            "for each row",
        ),
    ],
)
def test_a_memory_error_says_how_much_was_asked_for(call, text):
    script = f"""
grad = np.zeros(x.shape, np.float32)
grant(64 * MIB)
try:
    {call}
except MemoryError as error:
    print(error)
"""
    assert run(LIMITED + script).strip() == text


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"memory.max": "268435456\n"}, 256 * MIB),
        ({"memory/memory.limit_in_bytes": "268435456\n"}, 256 * MIB),
        ({"memory.max": "max\n"}, 2**63 - 1),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2**63 - 4096),
        ({}, 2**63 - 1),
    ],
    ids=str,
)
def test_the_memory_that_a_container_grants(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _core.container_memory(str(tmp_path)) == expected


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="no sysconf")
def test_the_default_limit_is_a_part_of_the_memory_that_is_granted():
    memory = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _core.container_memory("/sys/fs/cgroup"))
    limit = int(run("from softloss import _core; print(_core.cache_limit())"))
    assert limit == min(memory // 16, 1 << 30)


# ---- threads and processes ---------------------------------------------


def test_many_threads():
    """Threads create, exchange, check and free arrays concurrently."""
    inputs = [logits(seed) for seed in range(4)]
    expected = [softloss.softmax(x) for x in inputs]
    failures, shared = [], []

    def work(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(40):
                which = int(rng.integers(4))
                y = softloss.softmax(inputs[which])
                shared.append((which, y))
                if len(shared) > 6:
                    which, y = shared.pop(int(rng.integers(3)))
                if not np.array_equal(y, expected[which]):
                    failures.append(which)
                if rng.random() < 0.05:
                    softloss.empty_cache()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shared.clear()
    assert 0 <= _core.cached_bytes() <= 64 * MIB


FORK = """
import os, threading
import numpy as np, softloss
from softloss import _core
x = np.random.default_rng(0).standard_normal((512, 1024))
expected = softloss.softmax(x).copy()
living, stop = softloss.softmax(x), threading.Event()
def churn():
    while not stop.is_set():
        softloss.softmax(x)
thread = threading.Thread(target=churn)
thread.start()
for _ in range(10):  # while another thread takes and gives
    child = os.fork()
    if child == 0:
        good = np.array_equal(softloss.softmax(x), expected) and np.array_equal(living, expected)
        softloss.empty_cache()
        os._exit(0 if good and _core.cached_bytes() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
assert np.array_equal(living, expected)
print("good")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_children():
    assert run(f"import warnings; warnings.simplefilter('ignore')\n{FORK}").strip() == "good"


def test_arrays_outlive_the_module():
    script = "import numpy as np, softloss, builtins; builtins.kept = softloss.softmax(np.zeros((1024, 1024)))"
    assert run(script) == ""
