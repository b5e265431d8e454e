"""Bad input, exhaustively: a table made from the signatures, of every argument of every function with every value that
does not fit it. Each gives the error of its kind, names the argument, writes nothing and leaks nothing.

Lives here: the table and what holds for all of it. Must not: the words of single errors (test_errors.py).
"""

import functools
import gc
import inspect
import itertools
import sys

import ml_dtypes
import numpy as np
import pytest
import softloss
from strategies import LAYOUTS
from workload import isa, own_allocator  # noqa: F401  (isa: a fixture)

N, C = 3, 4
FUNCTIONS = {name: getattr(softloss, name) for name in softloss.functional.__all__ if name[0].islower()}

# ---- a call that is right ---------------------------------------------


def is_binary(function):
    return function.startswith(("binary_cross_entropy", "sigmoid_focal_loss"))


def is_class_loss(function):
    return function.startswith(("cross_entropy", "nll_loss", "categorical_cross_entropy", "softmax_focal_loss"))


def good_value(function, parameter):
    """A valid array or number; None if the argument may be omitted."""
    shape = (N,) if function == "logsumexp" and parameter == "out" else (N, C)
    if parameter in ("out", "grad_out", "hess_out"):
        return np.full(shape, 7.0)
    if parameter in ("x", "logits", "target_logits", "probs", "log_probs", "y", "logy", "dy"):
        return np.full((N, C), 0.25)
    if parameter == "target":
        return np.ones((N, C)) if is_binary(function) else np.arange(N)
    if parameter == "where":
        return np.ones((N, C), bool)
    if parameter in ("weight", "pos_weight", "b"):
        return np.ones(C)
    if parameter == "sample_weight":
        return np.ones(N)
    if parameter == "u":
        return np.full(N, 0.5)
    return None


def good_call(function):
    """(positional arguments, options): all arrays are passed, numbers have their defaults."""
    positional, options = [], {}
    for p in inspect.signature(FUNCTIONS[function]).parameters.values():
        value = good_value(function, p.name)
        if p.default is p.empty:
            positional.append(value)
        elif value is not None:
            options[p.name] = value
    return positional, options


# ---- values that fit nothing ---------------------------------------------


class Raises:
    """An object whose conversions all fail."""

    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("no array")

    def __index__(self):
        raise ZeroDivisionError("no index")

    __float__ = __bool__ = __index__


BAD_DTYPES = {
    "longdouble": np.longdouble,
    "complex64": "c8",
    "complex128": "c16",
    "object": object,
    "string": "U3",
    "bytes": "S3",
    "datetime": "M8[s]",
    "timedelta": "m8[s]",
    "record": [("p", "f8")],
    "void": "V8",
    "float8": ml_dtypes.float8_e4m3fn,
    "int4": ml_dtypes.int4,
}
NOT_ARRAYS = {
    "a module": sys,
    "a class": object,
    "None in a list": [[None] * C] * N,
    "ragged": [[1.0], [1.0, 2.0]],
    "text": "text",
    "complex": 1j,
    "a set": {1.0},
    "a dictionary": {"a": 1.0},
    "a masked array": np.ma.masked_array(np.zeros((N, C))),
}
NOT_NUMBERS = ["1", b"1", None, 1j, [1.0], (1.0,), {}, np.zeros(2), object(), np.datetime64("2020-01-01")]
NOT_INTEGERS = [0.0, 1.5, "0", b"0", (0,), [0], 1j, {}, np.float64(0), np.zeros(2), object(), True, False]
SHAPES = [(), (1,), (N + 1,), (C + 1,), (N, C + 1), (N + 1, C), (C, N), (1, N, C), (N, C, 1), (2, N, C), (0,), (N, 0)]
TYPE, VALUE, INDEX = (TypeError,), (ValueError,), (IndexError,)


def accepted_shapes(function, parameter):
    """The shapes that the argument may have: some of SHAPES, and the right one."""
    if parameter in ("where", "b") or (is_binary(function) and parameter in ("target", "weight", "pos_weight")):

        def fits(shape):
            try:
                return np.broadcast_shapes(shape, (N, C)) == (N, C)
            except ValueError:
                return False

        return [shape for shape in SHAPES if fits(shape)]
    return [np.shape(good_value(function, parameter))]


def bad_values(function, parameter):
    """(what, value, errors) for every value that the argument must reject."""
    good = good_value(function, parameter)
    output = parameter in ("out", "grad_out", "hess_out")
    first = next(iter(inspect.signature(FUNCTIONS[function]).parameters))
    if good is not None:
        for name, dtype in BAD_DTYPES.items():
            for layout in ("C", "Fortran", "strided", "reversed", "read-only"):
                yield f"{name}, {layout}", LAYOUTS[layout](np.zeros(good.shape, dtype)), TYPE
        for name, value in NOT_ARRAYS.items():
            yield name, value, TYPE
        if parameter != first:  # any shape of the first argument is right; the others must follow it
            for shape in SHAPES:
                if shape in accepted_shapes(function, parameter):
                    continue
                for layout, lay_out in LAYOUTS.items():
                    yield f"{shape}, {layout}", lay_out(np.zeros(shape, good.dtype)), VALUE
    if output:
        for dtype in ("f4", "f2", ml_dtypes.bfloat16, "i4", "i8", "u1", "?"):
            for layout in LAYOUTS:
                yield f"{np.dtype(dtype)}, {layout}", LAYOUTS[layout](good.astype(dtype)), TYPE
        for value in ([0.0] * C, 1.0, "out", (good,), np.float64(1), good.tolist(), memoryview(good)):
            yield f"{type(value).__name__} as output", value, TYPE
        read_only = good.copy()
        read_only.flags.writeable = False
        yield "read-only", read_only, VALUE
        yield "read-only, reversed", read_only[::-1], VALUE
        yield "masked", np.ma.masked_array(good), TYPE
    elif good is not None:
        yield "an __array__ that raises", Raises(), (ZeroDivisionError,)
    if parameter == "where":
        for dtype in ("f4", "f8", "i8", "u1"):
            yield f"where of {dtype}", np.ones((N, C), dtype), TYPE
    if parameter == "target":
        if is_binary(function):
            values = (1.5, -0.25, np.inf, -np.inf, 2.0, 1 + 2**-49, -(2**-49))
            for value, layout in ((v, lay) for v in values for lay in LAYOUTS):
                bad = np.ones((N, C))
                bad[1, 2] = value
                yield f"{value}, {layout}", LAYOUTS[layout](bad), VALUE
        else:
            for layout in LAYOUTS:
                yield f"bool, {layout}", LAYOUTS[layout](np.ones(N, bool)), TYPE
            for label in (C, C + 1, -1, -99, -101, 2**31, -(2**31), 2**62, -(2**63), 2**63 - 1):
                for layout, dtype in ((lay, d) for lay in LAYOUTS for d in ("i1", "i2", "i4", "i8")):
                    if np.iinfo(dtype).min <= label <= np.iinfo(dtype).max:
                        yield f"{label} of {dtype}, {layout}", LAYOUTS[layout](np.array([0, label, 0], dtype)), INDEX
            for dtype in ("u1", "u2", "u4", "u8"):
                yield f"largest {dtype}", np.array([0, np.iinfo(dtype).max, 0], dtype), INDEX
    if parameter == "probs":
        for value, layout in ((v, lay) for v in (1.5, -0.25, np.inf, 2.0, -(2**-49)) for lay in LAYOUTS):
            bad = np.full((N, C), 0.5)
            bad[:, 2] = bad[0, 0] = bad[1, 1] = value  # wherever a label points
            yield f"{value}, {layout}", LAYOUTS[layout](bad), VALUE
    if parameter in ("axis", "k", "top_k", "bins", "ignore_index"):
        for value in NOT_INTEGERS:
            yield f"{value!r}", value, TYPE
        yield "an __index__ that raises", Raises(), (ZeroDivisionError,)
    if parameter == "ignore_index":
        for value in (2**63, 2**64, 2**70, -(2**63) - 1, np.uint64(2**63)):
            yield f"{value}", value, VALUE
    if parameter in ("axis", "k", "top_k", "bins"):
        outside = {
            "axis": (2, -3, 100, -100, 2**31, -(2**31), 2**40, 2**70, -(2**70)),
            "bins": (0, -1, -(2**31), 2**24 + 1, 2**31, 2**63, 2**70, -(2**70)),
        }
        for value in outside.get(parameter, (-1, -(2**31), C + 1, 2**31, 2**63, 2**70, -(2**70))):
            yield f"{value}", value, VALUE
        yield "None", None, TYPE
    if parameter == "u":
        for value, layout in ((v, lay) for v in (1.0, -0.25, np.inf, -np.inf, np.nan, -5e-324) for lay in LAYOUTS):
            yield f"{value}, {layout}", LAYOUTS[layout](np.array([0.5, value, 0.5])), VALUE
    if parameter in ("top_p", "min_p"):
        for value in (-0.1, -5e-324, np.nextafter(1, 2), 2, np.nan, np.inf, -np.inf):
            yield f"{value}", value, VALUE
    if parameter == "top_p":
        yield "0", 0, VALUE
    numbers = ("temperature", "label_smoothing", "hess_scale", "hess_min", "empty", "alpha", "gamma", "top_p", "min_p")
    if parameter in numbers:
        for value in NOT_NUMBERS:
            if not (parameter == "alpha" and value is None):
                yield f"{value!r}", value, TYPE
        yield "too large", 10**400, VALUE
        yield "a __float__ that raises", Raises(), (ZeroDivisionError,)
    if parameter == "temperature":
        for value in (0, 0.0, -0.0, -1, -1e-300, np.nan, np.inf, -np.inf):
            if not (function == "sample" and value == 0):  # the argmax
                yield f"{value}", value, VALUE
    if parameter == "label_smoothing":
        for value in (-0.1, -5e-324, np.nextafter(1, 2), 2, np.nan, np.inf, -np.inf):
            yield f"{value}", value, VALUE
    if parameter in ("alpha", "gamma"):
        for value in (-0.1, -5e-324, np.nan, np.inf, -np.inf):
            yield f"{value}", value, VALUE
    if parameter == "reduction":
        for value in ("", "MEAN", "batchmean", " mean", "mean ", "sum\0", "\ud800", b"mean", None, 1, True, ["mean"]):
            yield f"{value!r}", value, (ValueError, TypeError)
    if parameter == "norm":
        for value in ("", "L1", "l3", " l1", "l1 ", "max\0", "\ud800", b"l1", None, 1, True, ["l1"], np.inf):
            yield f"{value!r}", value, (ValueError, TypeError)
    if parameter == "keepdims":
        yield "a __bool__ that raises", Raises(), (ZeroDivisionError,)
        yield "an array", np.zeros(2), (TypeError, ValueError)
    if parameter == "dtype":
        for value in (*BAD_DTYPES.values(), int, bool, "i4", "no dtype", 1, [], "f3", object()):
            yield f"{value!r}", value, TYPE


TABLE = [
    (function, parameter, what, value, errors)
    for function, call in FUNCTIONS.items()
    for parameter in inspect.signature(call).parameters
    for what, value, errors in bad_values(function, parameter)
]


def call_with(function, parameter, value):
    """The call with one argument replaced, as a function, and its outputs."""
    positional, options = good_call(function)
    names = list(inspect.signature(FUNCTIONS[function]).parameters)
    if names.index(parameter) < len(positional):
        positional[names.index(parameter)] = value
    else:
        options[parameter] = value
    if parameter == "dtype":
        options = {k: v for k, v in options.items() if k not in ("out", "grad_out")}
    outputs = [v for k, v in options.items() if k in ("out", "grad_out", "hess_out") and k != parameter]
    return functools.partial(FUNCTIONS[function], *positional, **options), outputs


def fingerprint(value):
    """The properties of an argument that must not change."""
    return value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else None


def test_the_calls_that_are_varied_are_right():
    for function in FUNCTIONS:
        positional, options = good_call(function)
        FUNCTIONS[function](*positional, **options)


@pytest.mark.filterwarnings("ignore")  # NumPy's own, of conversions
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_bad_argument_of(function):
    rows = [row for row in TABLE if row[0] == function]
    assert len({row[1] for row in rows}) == len(inspect.signature(FUNCTIONS[function]).parameters)
    failures = []
    for _, parameter, what, value, errors in rows:
        call, outputs = call_with(function, parameter, value)
        before, references = fingerprint(value), sys.getrefcount(value)
        try:
            call()
        except errors as error:
            if not isinstance(error, ZeroDivisionError) and parameter not in str(error):
                failures.append((parameter, what, f"does not name the argument: {error}"))
        except Exception as error:
            failures.append((parameter, what, f"{type(error).__name__}: {error}"))
        else:
            failures.append((parameter, what, "is accepted"))
        if any(np.any(out != 7) for out in outputs):
            failures.append((parameter, what, "an output was written"))
        if fingerprint(value) != before:
            failures.append((parameter, what, "the argument was written"))
        if value is not None and sys.getrefcount(value) != references:
            failures.append((parameter, what, f"{sys.getrefcount(value) - references} references too many"))
    assert not failures, f"{len(failures)} of {len(rows)}:\n" + "\n".join(map(str, failures))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError("use detach()"), ImportError])
def test_errors_of_a_conversion_are_its_own(error):
    class Lazy:
        def __array__(self, dtype=None, copy=None):
            raise error

        def __bool__(self):
            raise error

    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind):
        softloss.softmax(Lazy())
    with pytest.raises(kind):
        softloss.logsumexp(0.0, keepdims=Lazy())


@pytest.mark.parametrize("error", [TypeError("on the GPU: use get()"), ValueError("closed file")])
def test_what_a_conversion_refuses_is_told_as_the_cause(error):
    class Elsewhere:
        def __array__(self, dtype=None, copy=None):
            raise error

    with pytest.raises(
        TypeError, match="^target must be array_like, got Elsewhere, which NumPy cannot convert; "
    ) as caught:
        softloss.cross_entropy(np.zeros((N, C)), Elsewhere())
    assert caught.value.__cause__ is error


# ---- outputs that share memory ---------------------------------------------


def outputs_of(function):
    return [p for p in ("out", "grad_out", "hess_out") if p in inspect.signature(FUNCTIONS[function]).parameters]


@pytest.mark.parametrize(
    "function, output", [(f, o) for f in FUNCTIONS for o in outputs_of(f)], ids=lambda value: str(value)
)
def test_outputs_that_share_memory_with_an_argument(function, output):
    """The call raises an error, or gives the result of the same call on copies."""
    positional, options = good_call(function)
    names = list(inspect.signature(FUNCTIONS[function]).parameters)
    arrays = dict(zip(names, positional, strict=False)) | options
    shape = arrays[output].shape
    for other, argument in arrays.items():
        if other == output:
            continue
        for shift in (0, 1, 3, 8, 16):
            room = np.zeros(4096, np.uint8)
            a = np.ndarray(argument.shape, argument.dtype, room, 1024)
            a[...] = argument
            mine = np.ndarray(shape, np.float64, room, 1024 + shift)
            call = arrays | {other: a, output: mine}
            separate = {name: value.copy() for name, value in call.items()}
            before = room.copy()

            def run(values):
                n = len(positional)
                return FUNCTIONS[function](*list(values.values())[:n], **dict(list(values.items())[n:]))

            try:
                run(call)
            except ValueError as error:
                assert output in str(error) and np.array_equal(room, before), (other, shift)
                continue
            run(separate)
            assert mine.tobytes() == separate[output].tobytes(), (other, shift)


# ---- arguments that change while they are read ---------------------------------------------


class Changes:
    """A number that runs code when it is read."""

    def __init__(self, value, action):
        self.value, self.action = value, action

    def __index__(self):
        self.action()
        return int(self.value)

    def __float__(self):
        self.action()
        return float(self.value)

    @property
    def dtype(self):
        self.action()
        return np.dtype(self.value)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize("option, value", [("axis", -1), ("temperature", 1.0), ("dtype", "f8")])
@pytest.mark.parametrize("victim", ["x", "where", "out"])
def test_options_that_reshape_an_array(victim, option, value):
    """The shape of an array is read after the last Python code that a call may run."""
    for shape in [(C, N), (N * C,), (1,) * 20 + (N * C,)]:
        arrays = {"x": np.full((N, C), 0.25), "where": np.ones((N, C), bool), "out": np.full((N, C), 7.0)}

        def reshape(arrays=arrays, shape=shape):
            arrays[victim].shape = shape

        try:
            softloss.softmax(arrays["x"], where=arrays["where"], out=arrays["out"], **{option: Changes(value, reshape)})
        except ValueError:
            assert np.all(arrays["out"] == 7)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize("function", ["softmax", "log_softmax", "sigmoid", "log_sigmoid", "logsumexp"])
def test_a_dtype_that_reshapes_the_input(function):
    """The result has the current shape, not one read from memory that NumPy has freed."""
    x = np.full((N, C), 0.25)

    def reshape():
        x.shape = (1,) * 20 + (N * C,)
        for _ in range(20):
            np.zeros((1, 1)).copy()  # takes the memory of the former shape

    result = None
    try:
        result = getattr(softloss, function)(x, dtype=Changes("f8", reshape))
    except ValueError:
        assert function == "logsumexp"  # its shape came before
    assert result is None or result.shape == x.shape


# ---- leaks ---------------------------------------------


def resident_bytes():
    """Private memory of the process in bytes; pages of files do not count."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))


def grown_over(calls, count, rounds=4):
    """Bytes by which the process has grown over `count` alternating calls, after a warm-up.

    The least of some rounds: a leak grows the process in each, an allocator or a huge page now and then.
    """

    def repeat(n):
        for i in range(n):
            try:
                calls[i % len(calls)]()
            except (TypeError, ValueError, IndexError, ZeroDivisionError):
                pass
        gc.collect()

    repeat(max(count // 10, len(calls)))
    sizes = [resident_bytes()]
    for _ in range(rounds):
        repeat(count)
        sizes.append(resident_bytes())
    return min(after - before for before, after in itertools.pairwise(sizes))


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
DTYPES = [np.dtype(d) for d in ("f2", "f4", "f8", "i8", "?", ml_dtypes.bfloat16)]


def reference_counts():
    gc.collect()  # else what an earlier test left behind is counted now and gone later
    return [sys.getrefcount(dtype) for dtype in DTYPES]


@own_allocator
@needs_proc
@pytest.mark.filterwarnings("ignore")
def test_a_hundred_thousand_bad_calls_leak_nothing():
    calls = [call_with(*row[:2], row[3])[0] for row in TABLE[:: max(1, len(TABLE) // 2500)]]
    references = reference_counts()
    assert grown_over(calls, 100_000) < 1 << 20
    assert reference_counts() == pytest.approx(references, abs=100)


@own_allocator
@needs_proc
def test_a_hundred_thousand_good_calls_leak_nothing():
    calls = []
    for function in FUNCTIONS:
        positional, options = good_call(function)
        calls.append(functools.partial(FUNCTIONS[function], *positional, **options))
        without = {k: v for k, v in options.items() if k not in ("out", "grad_out", "hess_out")}
        calls.append(functools.partial(FUNCTIONS[function], *positional, **without))
        for dtype in ("f2", "f4", ml_dtypes.bfloat16):
            narrow = [positional[0].astype(dtype), *positional[1:]]
            calls.append(functools.partial(FUNCTIONS[function], *narrow, **without))
    references = reference_counts()
    assert grown_over(calls, 100_000) < 1 << 20
    assert reference_counts() == pytest.approx(references, abs=100)


@own_allocator
@needs_proc
def test_large_results_leak_nothing():
    """Results from the pool of recycled memory: the pool stays within its limit."""
    x = np.zeros((400, 1000))
    assert (
        grown_over([lambda: softloss.softmax(x), lambda: softloss.cross_entropy_and_grad(x, x + 1e-3)], 300) < 8 << 20
    )
    softloss.empty_cache()
    assert softloss._core.cached_bytes() == 0
