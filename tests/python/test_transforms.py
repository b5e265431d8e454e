"""softmax, log_softmax, logsumexp, sigmoid, log_sigmoid: values against the oracle, all options, edge cases.

Errors are in test_errors.py, memory layouts in test_layouts.py, exact accuracy in test_accuracy.py.
"""

import inspect

import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from strategies import FINITE_VALUES, FLOATS, HALVES, INTEGERS, VALUES, arrays, masks, values

INF, NAN = np.inf, np.nan
ROWWISE = ["softmax", "log_softmax"]
ELEMENTWISE = ["sigmoid", "log_sigmoid"]
TRANSFORMS = [*ROWWISE, "logsumexp", *ELEMENTWISE]


def call(name, *args, **kwargs):
    return getattr(softloss, name)(*args, **kwargs)


def oracle(name, *args, **kwargs):
    return getattr(reference, name)(*args, **kwargs)


def assert_transform(name, actual, true, x, context="", least=0.0):
    """<= 2 ULP. logsumexp may pass through zero; its unit is then that of the largest input, or of `least`."""
    scale = np.max(abs(x), initial=least, where=np.isfinite(x)) if name == "logsumexp" else 0
    reference.assert_ulps(actual, true, 2, context, scale)


def assert_same(actual, expected):
    """The same bits, dtype and shape; the sign of NaN does not matter."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    reference.assert_identical(actual.astype(np.float64), expected.astype(np.float64))


@pytest.mark.parametrize(
    "name, signature",
    {
        "softmax": "(x, /, axis=-1, *, where=None, temperature=1.0, out=None, dtype=None)",
        "log_softmax": "(x, /, axis=-1, *, where=None, temperature=1.0, out=None, dtype=None)",
        "logsumexp": "(x, /, axis=-1, *, b=None, where=None, keepdims=False, out=None, dtype=None)",
        "sigmoid": "(x, /, *, out=None, dtype=None)",
        "log_sigmoid": "(x, /, *, out=None, dtype=None)",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(plain)) == signature


# ---- values ---------------------------------------------


@pytest.mark.parametrize("name", [*ROWWISE, "logsumexp"])
@given(data=st.data())
def test_rows_are_the_oracles(name, data):
    x, axis = data.draw(arrays())
    y = call(name, x, axis)
    assert y.dtype == x.dtype.newbyteorder("=")
    assert_transform(name, y, oracle(name, x, axis), x, context=repr(x))


@pytest.mark.parametrize("name", ELEMENTWISE)
@given(data=st.data())
def test_elements_are_the_oracles(name, data):
    x, _ = data.draw(arrays(min_dims=0))
    assert_transform(name, call(name, x), oracle(name, x), x, context=repr(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("values_name", VALUES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_kind_of_values_in_every_length(name, values_name, dtype):
    """Lengths around the vectors' 8 and 16 lanes, around 64 and beyond several unrolled steps."""
    for n in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 257, 1000]:
        x = values(values_name, (3, n), dtype, seed=n)
        assert_transform(name, call(name, x), oracle(name, x), x, context=f"n = {n}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*ROWWISE, "logsumexp"])
def test_long_rows(name, dtype):
    for n in [32768, 32769, 100_003, 600_000]:
        x = values("normal", (n,), dtype, seed=n)
        assert_transform(name, call(name, x), oracle(name, x), x, context=f"n = {n}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*ROWWISE, "logsumexp"])
def test_every_axis(name, dtype):
    x = values("normal", (3, 4, 70, 5), dtype)
    for axis in range(-4, 4):
        assert_transform(name, call(name, x, axis=axis), oracle(name, x, axis), x, context=f"axis = {axis}")
        assert_same(call(name, x, np.int8(axis)), call(name, x, axis=axis))


def test_known_values():
    np.testing.assert_allclose(softloss.softmax([2, 1, 0.1]), [0.65900114, 0.24243297, 0.09856589], atol=5e-9)
    assert softloss.logsumexp([1e8, 1e8]) == 1e8 + np.log(2)
    assert np.all(softloss.log_softmax([1e8, 1e8]) == -np.log(2))
    assert softloss.sigmoid(0.0) == 0.5
    assert softloss.log_sigmoid(0.0) == -np.log(2)


# ---- infinities and NaN ---------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("repeat", [1, 50])
def test_infinite_rows(dtype, repeat):
    rows = np.repeat([[-INF, -INF], [INF, 0], [INF, INF], [INF, -INF], [-INF, 2], [NAN, 0], [NAN, INF]], repeat, axis=1)
    x = rows.astype(dtype)
    finite = np.array([False, False, False, False, True, False, False])
    for name in ROWWISE:
        assert np.isnan(call(name, x)[~finite]).all()
    half = np.repeat([[0, 1 / repeat]], repeat, axis=1)
    np.testing.assert_allclose(softloss.softmax(x)[finite], half, rtol=1e-6)
    np.testing.assert_array_equal(softloss.log_softmax(x)[finite] == -INF, half == 0)
    lse = softloss.logsumexp(x)
    np.testing.assert_array_equal(lse[:4], [-INF, INF, INF, INF])
    assert np.isfinite(lse[4]) and np.isnan(lse[5:]).all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*ROWWISE, "logsumexp"])
def test_nan_stays_in_its_row(name, dtype, axis):
    hit = np.isin(np.arange(37), [0, 5, 20, 36])
    for n in [1, 3, 10, 100, 1000]:
        clean = values("normal", (37, n) if axis else (n, 37), dtype, seed=n)
        x = clean.copy()
        np.moveaxis(x, axis, -1)[hit, n // 2] = NAN
        y, expected = call(name, x, axis), call(name, clean, axis)
        if axis == 0:
            y, expected = y.T, expected.T
        assert np.isnan(y[hit]).all()
        assert_same(y[~hit], expected[~hit])


@pytest.mark.parametrize("dtype", FLOATS)
def test_elementwise_limits(dtype):
    x = np.array([-INF, INF, NAN, 0.0, -0.0, np.finfo(dtype).max, -np.finfo(dtype).max], dtype)
    assert_same(softloss.sigmoid(x), np.array([0, 1, NAN, 0.5, 0.5, 1, 0], dtype))
    log_half = -np.log(dtype(2))
    expected = np.array([-INF, 0, NAN, log_half, log_half, 0, -np.finfo(dtype).max], dtype)
    assert_same(softloss.log_sigmoid(x), expected)


# ---- where, temperature, b, keepdims ---------------------------------------------


@pytest.mark.parametrize("name", [*ROWWISE, "logsumexp"])
@given(data=st.data())
def test_where(name, data):
    x, axis = data.draw(arrays())
    where = data.draw(masks(x.shape))
    y = call(name, x, axis, where=where)
    assert_transform(name, y, oracle(name, x, axis, where=where), x, context=f"{x!r}, where={where!r}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_masked_does_not_count(dtype):
    for n in (3, 20, 300):
        x = values("normal", (4, n), dtype)
        where = np.arange(n) != 1
        poisoned = x.copy()
        poisoned[:, 1] = [NAN, INF, -INF, 1e30]
        assert_same(softloss.softmax(poisoned, where=where), softloss.softmax(x, where=where))
        assert_same(softloss.log_softmax(poisoned, where=where), softloss.log_softmax(x, where=where))
        assert_same(softloss.logsumexp(poisoned, where=where), softloss.logsumexp(x, where=where))
        assert np.all(softloss.softmax(poisoned, where=where)[:, 1] == 0)
        assert np.all(softloss.log_softmax(poisoned, where=where)[:, 1] == -INF)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_masked_whole(dtype):
    x = values("infinite", (6, 5), dtype)
    assert_same(softloss.softmax(x, where=False), np.zeros((6, 5), dtype))
    assert_same(softloss.log_softmax(x, where=np.zeros(5, bool)), np.full((6, 5), -INF, dtype))
    assert_same(softloss.logsumexp(x, where=np.zeros((6, 1), bool)), np.full(6, -INF, dtype))


@pytest.mark.parametrize("name", TRANSFORMS[:3])
def test_a_true_mask_changes_nothing(name):
    for dtype in FLOATS:
        x = values("nan", (5, 40), dtype)
        assert_same(call(name, x, where=True), call(name, x))
        assert_same(call(name, x, where=np.ones((5, 40), bool)), call(name, x))


@pytest.mark.parametrize("name", ROWWISE)
@given(
    x_axis=arrays(names=[name for name in VALUES if name != "huge"]),
    temperature=st.one_of(st.sampled_from([1, 0.5, 2.0, 4, 1e3]), st.floats(0.01, 100)),
)
def test_temperature(name, x_axis, temperature):
    x, axis = x_axis
    y = call(name, x, axis, temperature=temperature)
    assert_transform(name, y, oracle(name, x, axis, temperature=temperature), x, f"{x!r}, T = {temperature}")


@pytest.mark.parametrize("name", ROWWISE)
@given(data=st.data())
def test_temperature_and_where(name, data):
    x, axis = data.draw(arrays(names=("normal", "wide", "masked", "nan")))
    options = {"where": data.draw(masks(x.shape)), "temperature": data.draw(st.sampled_from([0.3, 1.0, 7.0]))}
    assert_transform(name, call(name, x, axis, **options), oracle(name, x, axis, **options), x, f"{x!r}, {options}")


@pytest.mark.parametrize("name", ROWWISE)
def test_temperature_of_any_type(name):
    x = values("normal", (4, 100), np.float32)
    assert_same(call(name, x, temperature=1), call(name, x))
    for temperature in (2, np.float32(2), np.int64(2)):
        assert_same(call(name, x, temperature=temperature), call(name, x, temperature=2.0))


@given(data=st.data())
def test_logsumexp_b(data):
    x, axis = data.draw(arrays(names=("normal", "wide", "offset", "equal", "masked", "infinite")))
    b = data.draw(masks(x.shape)) * np.random.default_rng(0).uniform(0, 2, x.shape[-1:])
    where = data.draw(st.one_of(st.none(), masks(x.shape)))
    y = softloss.logsumexp(x, axis, b=b, where=where)
    true = oracle("logsumexp", x, axis, b=b, where=where)
    # Where weighted exponentials sum to almost 1, their rounding shows in the logarithm.
    assert_transform("logsumexp", y, true, x, context=f"{x!r}, b={b!r}, where={where!r}", least=0.5)


def test_logsumexp_of_signed_and_zero_b():
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(softloss.logsumexp(x, b=[-1, 1, 1]), np.log(-np.exp(1) + np.exp(2) + np.exp(3)))
    np.testing.assert_allclose(softloss.logsumexp(x, b=2), softloss.logsumexp(x) + np.log(2))
    np.testing.assert_allclose(softloss.logsumexp([INF, NAN, 1.0], b=[0, 0, 1]), 1)
    assert softloss.logsumexp(x, b=np.zeros(3)) == -INF
    assert np.isnan(softloss.logsumexp(x, b=-1))
    assert softloss.logsumexp([1000.0, 1000.0], b=[1, -1]) == -INF


def test_keepdims():
    x = values("normal", (3, 4, 5), np.float32)
    for axis in range(-3, 3):
        kept = softloss.logsumexp(x, axis, keepdims=True)
        assert kept.shape == x.max(axis, keepdims=True).shape
        assert_same(kept.squeeze(axis), softloss.logsumexp(x, axis, keepdims=False))
    assert softloss.logsumexp(x[0, 0], keepdims=True).shape == (1,)


# ---- dtypes ---------------------------------------------


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_half_is_the_float32_result_rounded_once(name, half):
    for kind in FINITE_VALUES:
        for shape, axis in (((3, 10), -1), ((3, 200), -1), ((40, 7), 0)):
            x = values(kind, shape, half)
            options = {} if name in ELEMENTWISE else {"axis": axis}
            wide = call(name, x.astype(np.float32), **options)
            with np.errstate(over="ignore", under="ignore"):
                assert_same(call(name, x, **options), wide.astype(half))


@pytest.mark.parametrize("dtype", [*INTEGERS, bool])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_integers_and_bool_compute_in_float64(name, dtype):
    x = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]]).astype(dtype) * np.array(1 if dtype is bool else 100, dtype)
    assert_same(call(name, x), call(name, x.astype(np.float64)))


def test_large_integers_are_converted_like_numpys():
    x = np.array([2**63 - 1, 2**62 + 1, -(2**63)], np.int64)
    assert_same(softloss.log_softmax(x), softloss.log_softmax(x.astype(np.float64)))
    u = np.array([2**64 - 1, 2**63 + 1025], np.uint64)
    assert_same(softloss.logsumexp(u), softloss.logsumexp(u.astype(np.float64)))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_dtype_is_the_dtype_of_the_result(name):
    """The input is exact in every dtype, so no rounding of it changes the result."""
    grid = (np.arange(-30, 34).reshape(4, 16) * 5 % 61).astype(np.float64) / 8
    for source in (np.float16, HALVES[1], np.float32, np.float64, np.int64):
        x = grid.astype(source)
        for result in FLOATS:
            y = call(name, x, dtype=result)
            assert y.dtype == result
            assert_transform(name, y, oracle(name, x), x, context=f"{source} -> {result}")
        for half in HALVES:
            narrow = call(name, x, dtype=half)
            assert narrow.dtype == half
            unit = 2 * np.finfo(np.float16).eps if half is np.float16 else 2.0**-7
            np.testing.assert_allclose(narrow.astype(float), oracle(name, x).astype(float), rtol=unit, atol=1e-7)
    assert_same(call(name, grid, dtype="float32"), call(name, grid, dtype=np.float32))


# ---- what comes in, what goes out ---------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMS)
def test_array_like(name):
    nested = [[1.0, 2.0, 4.5], [0.0, -1.0, 3.0]]
    expected = call(name, np.array(nested))
    assert_same(call(name, nested), expected)
    assert_same(call(name, tuple(map(tuple, nested))), expected)
    assert_same(call(name, [[1, 2], [3, 5]]), call(name, np.array([[1.0, 2.0], [3.0, 5.0]])))
    assert_same(call(name, memoryview(np.array(nested))), expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_subclasses_of_ndarray_give_plain_arrays(name):
    class Tagged(np.ndarray):
        pass

    x = values("normal", (3, 4))
    y = call(name, x.view(Tagged))
    assert type(y) is np.ndarray
    assert_same(y, call(name, x))


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_dimensions(name, dtype):
    expected = {"softmax": 1, "log_softmax": 0, "logsumexp": 3, "sigmoid": 1 / (1 + np.exp(-3)), "log_sigmoid": None}[
        name
    ]
    y = call(name, dtype(3))
    assert isinstance(y, dtype)
    assert_same(call(name, np.array(3, dtype)), y)
    if expected is not None:
        np.testing.assert_allclose(y, expected, rtol=1e-6)
    for axis in () if name in ELEMENTWISE else (0, -1):
        assert_same(call(name, dtype(3), axis), y)


def test_python_scalars_are_float64():
    for name in TRANSFORMS:
        for x in (2, 2.0, True):
            assert isinstance(call(name, x), np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_empty(name, dtype):
    for shape in [(0,), (0, 3), (3, 0), (2, 0, 4), (0, 0)]:
        x = np.zeros(shape, dtype)
        for axis in [None] if name in ELEMENTWISE else range(-len(shape), len(shape)):
            y = call(name, x, **({} if axis is None else {"axis": axis}))
            expected = np.full_like(x.max(axis, initial=-INF), -INF) if name == "logsumexp" else x
            assert_same(y, np.asarray(expected, dtype))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_input_is_left_alone(name):
    for dtype in (*FLOATS, *HALVES):
        x = values("infinite", (30, 50), dtype)
        before = x.tobytes()
        call(name, x)
        assert x.tobytes() == before


# ---- out ---------------------------------------------


def out_of(name, x):
    return np.full(x.shape[:-1] if name == "logsumexp" else x.shape, 7, x.dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_out_is_filled_and_returned(name, dtype):
    x = values("normal", (9, 100), dtype)
    expected = call(name, x)
    out = out_of(name, x).astype(expected.dtype)
    assert call(name, x, out=out) is out
    assert_same(out, expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_out_of_any_strides(name):
    for dtype in FLOATS:
        for shape in [(5, 7), (40, 100)]:
            x = values("normal", shape, dtype)
            expected = call(name, x)
            for view in (np.s_[::2], np.s_[::-1], np.s_[1::3]):
                room = np.full([3 * n for n in expected.shape], 7, dtype)
                inside = np.zeros(room.shape, bool)
                out, marked = room, inside
                for axis, n in enumerate(expected.shape):
                    out = np.moveaxis(np.moveaxis(out, axis, 0)[view][:n], 0, axis)
                    marked = np.moveaxis(np.moveaxis(marked, axis, 0)[view][:n], 0, axis)
                marked[...] = True
                assert call(name, x, out=out) is out
                assert_same(out, expected)
                assert np.all(room[~inside] == 7), "written between the elements of out"
            fortran = np.zeros(expected.shape, dtype, order="F")
            call(name, x, out=fortran)
            assert_same(fortran, expected)


@pytest.mark.parametrize("name", [*ROWWISE, *ELEMENTWISE])
def test_in_place(name):
    for dtype in (*FLOATS, *HALVES):
        for shape in [(3, 5), (50, 7), (4, 300), (2, 40_000)]:
            x = values("normal", shape, dtype)
            for axis in (None,) if name in ELEMENTWISE else (0, 1):
                options = {} if axis is None else {"axis": axis}
                y = x.copy()
                assert call(name, y, out=y, **options) is y
                assert_same(y, call(name, x, **options))


def test_in_place_with_options():
    x = values("normal", (6, 50), np.float32)
    where = np.arange(50) % 3 > 0
    for name in ROWWISE:
        y = x.copy()
        call(name, y, out=y, where=where, temperature=2.0)
        assert_same(y, call(name, x, where=where, temperature=2.0))


OVERLAPS = {
    "shifted by one element": (np.s_[:-1], np.s_[1:]),
    "shifted back": (np.s_[1:], np.s_[:-1]),
    "reversed": (np.s_[:], np.s_[::-1]),
    "shifted by half": (np.s_[:-200], np.s_[200:]),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("name", [*ROWWISE, *ELEMENTWISE])
def test_partial_overlap_is_handled_or_refused(name, overlap):
    source, target = OVERLAPS[overlap]
    for dtype in FLOATS:
        buffer = values("normal", (400,), dtype)
        before, expected = buffer.copy(), call(name, buffer[source].copy())
        try:
            call(name, buffer[source], out=buffer[target])
        except ValueError as error:
            assert "out" in str(error)
            assert_same(buffer, before)
        else:
            assert_same(buffer[target], expected)


def test_overlap_of_rows_is_handled_or_refused():
    for name in ROWWISE:
        buffer = values("normal", (9, 20), np.float32)
        before, expected = buffer.copy(), call(name, buffer[:8].copy())
        try:
            call(name, buffer[:8], out=buffer[1:])
        except ValueError as error:
            assert "out" in str(error)
            assert_same(buffer, before)
        else:
            assert_same(buffer[1:], expected)


def test_logsumexp_into_its_own_input():
    x = values("normal", (8, 8), np.float64)
    before, expected = x.copy(), softloss.logsumexp(x)
    try:
        softloss.logsumexp(x, out=x[0])
    except ValueError as error:
        assert "out" in str(error)
        assert_same(x, before)
    else:
        assert_same(x[0], expected)


def test_where_may_overlap_out():
    """A mask in the memory of out must be read before out is written, or rejected."""
    out = np.zeros((4, 8), np.float32)
    where = out.view(np.bool_)[:, :8]
    where[...] = np.arange(8) % 2 == 0
    x = values("normal", (4, 8), np.float32)
    expected = softloss.softmax(x, where=where.copy())
    try:
        softloss.softmax(x, where=where, out=out)
    except ValueError as error:
        assert "out" in str(error)
    else:
        assert_same(out, expected)


def test_logsumexp_out_of_one_row_and_with_keepdims():
    x = values("normal", (3, 4), np.float64)
    out = np.zeros((), np.float64)
    assert softloss.logsumexp(x[0], out=out) is out
    assert_same(out, softloss.logsumexp(x[0]))
    kept = np.zeros((3, 1))
    assert softloss.logsumexp(x, keepdims=True, out=kept) is kept
    assert_same(kept, softloss.logsumexp(x, keepdims=True))
