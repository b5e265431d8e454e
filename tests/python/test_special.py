"""softloss.special against scipy.special: signatures, defaults, shapes, dtypes and values of every kind of call.

Lives here: comparisons with SciPy. Must not: exact accuracy, which is that of the functions beneath.
"""

import inspect
import itertools

import numpy as np
import pytest
from softloss import special

pytest.importorskip("scipy", "1.17", reason="softloss.special follows SciPy 1.17")
scipy_special = pytest.importorskip("scipy.special")

INF, NAN = np.inf, np.nan
SHAPES = [(), (1,), (5,), (3, 4), (2, 3, 4), (1, 1, 1), (2, 1, 3, 2)]
DTYPES = [np.float16, np.float32, np.float64, np.int64, np.uint64, bool]
TOLERANCE = {np.dtype(np.float16): 4e-3, np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}


def axes_of(ndim):
    """None, every axis, and every tuple of axes, including negative axes and other orders."""
    yield None
    yield from range(-ndim, ndim)
    for count in range(1, ndim + 1):
        yield from itertools.permutations(range(ndim), count)
        yield tuple(range(-count, 0))


def array(shape, dtype, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape) * 3
    return np.asarray(abs(x) if np.dtype(dtype).kind == "u" else x).astype(dtype)


def assert_like(actual, expected, context=""):
    """The same type, shape and dtype; values as close as the errors of both libraries allow."""
    assert np.ndim(actual) == np.ndim(expected), context
    assert isinstance(actual, np.ndarray) == isinstance(expected, np.ndarray), context
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, context
    assert actual.dtype == expected.dtype, context
    tolerance = TOLERANCE[actual.dtype]
    wide = actual.astype(float), expected.astype(float)
    np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance / 4, err_msg=str(context))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_signatures_are_scipys(name):
    def plain(function):
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert plain(getattr(special, name)) == plain(getattr(scipy_special, name))


def test_names():
    assert set(special.__all__) == {"softmax", "log_softmax", "logsumexp", "expit", "log_expit"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_transforms(name, shape, dtype):
    ours, theirs = getattr(special, name), getattr(scipy_special, name)
    x = array(shape, dtype)
    like = as_computed(x)
    assert_like(ours(x), theirs(like))
    for axis in axes_of(len(shape)):
        assert_like(ours(x, axis), theirs(like, axis), axis)
        assert_like(ours(x, axis=axis), theirs(like, axis=axis), axis)


def as_computed(x):
    """softloss computes integers and bool in float64; SciPy computes small integers in less."""
    return x.astype(float) if x.dtype.kind in "iub" else x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_logsumexp(shape, dtype):
    a = array(shape, dtype)
    like = as_computed(a)
    for axis in axes_of(len(shape)):
        for keepdims in (False, True):
            assert_like(special.logsumexp(a, axis, None, keepdims), scipy_special.logsumexp(like, axis, None, keepdims))
            for y, expected in zip(
                special.logsumexp(a, axis, keepdims=keepdims, return_sign=True),
                scipy_special.logsumexp(like, axis, keepdims=keepdims, return_sign=True),
                strict=True,
            ):
                assert_like(y, expected, (axis, keepdims))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_logsumexp_with_factors(sign, dtype):
    for shape, factors in [((3, 4), (4,)), ((3, 4), (3, 1)), ((2, 3, 4), (2, 3, 4)), ((4,), (3, 1)), ((3, 4), ())]:
        a, b = array(shape, dtype), np.asarray(array(factors, dtype, 1))
        b = abs(b) + 1 if sign > 0 else b
        for axis in axes_of(max(len(shape), len(factors))):
            for keepdims in (False, True):
                both = [
                    function(a, axis, b, keepdims, True) for function in (special.logsumexp, scipy_special.logsumexp)
                ]
                for y, expected in zip(*both, strict=True):
                    assert_like(y, expected, (shape, factors, axis, keepdims))
                with np.errstate(all="ignore"):
                    expected = scipy_special.logsumexp(a, axis, b, keepdims)
                assert_like(special.logsumexp(a, axis, b, keepdims), expected, (shape, factors, axis))


def test_logsumexp_promotes_as_scipy_does():
    for a, b in itertools.product([np.float16, np.float32, np.float64], repeat=2):
        x, factors = array((3, 4), a), abs(array((3, 4), b, 1)) + b(1)
        assert_like(special.logsumexp(x, 1, factors), scipy_special.logsumexp(x, 1, factors), (a, b))
    x = array((3, 4), np.float32)
    for b in (2, 2.0, True):
        assert_like(special.logsumexp(x, b=b), scipy_special.logsumexp(x, b=b), b)


@pytest.mark.parametrize("b", DTYPES)
@pytest.mark.parametrize("a", DTYPES)
def test_logsumexp_has_the_promotion_of_both(a, b):
    """Arrays and scalars: in NumPy 1 the dtype of an array would otherwise override that of a scalar."""
    forms = [np.ones((3, 4)), np.ones(4), np.ones((1, 1)), np.array(1.0), np.float64(1)]
    expected = np.result_type(np.promote_types(a, b), 1.0)
    for x, factors in itertools.product(forms, repeat=2):
        of_a, of_b = x.astype(a), factors.astype(b)
        assert special.logsumexp(of_a, b=of_b).dtype == expected
        assert {y.dtype for y in special.logsumexp(of_a, b=of_b, return_sign=True)} == {expected}
        assert special.logsumexp(of_a, b=of_b).dtype == scipy_special.logsumexp(of_a, b=of_b).dtype


EDGES = [
    [0.0],
    [INF, 1.0],
    [-INF, -INF],
    [-INF, 2.0],
    [NAN, 1.0],
    [1e3, -1e3],
    [INF, -INF],
    [1e300, 1e300],
]


@pytest.mark.parametrize("row", EDGES, ids=str)
def test_edges(row):
    with np.errstate(all="ignore"):
        assert_like(special.logsumexp(row), scipy_special.logsumexp(row))
        for y, expected in zip(
            special.logsumexp(row, return_sign=True), scipy_special.logsumexp(row, return_sign=True), strict=True
        ):
            assert_like(y, expected)
        assert_like(special.softmax(row), scipy_special.softmax(row))
        if INF not in row:  # there SciPy gives -inf beside the NaN
            assert_like(special.log_softmax(row), scipy_special.log_softmax(row))


def test_factors_of_zero_and_opposite_signs():
    for a, b in (
        ([1.0, 1.0], [1.0, -1.0]),
        ([1.0, 2.0], [1.0, -1.0]),
        ([INF, 1.0], [0.0, 1.0]),
        ([NAN, 1.0], [0.0, 1.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([-INF, 0.0], [-1.0, -2.0]),
    ):
        with np.errstate(all="ignore"):
            expected = scipy_special.logsumexp(a, b=b, return_sign=True)
        for y, true in zip(special.logsumexp(a, b=b, return_sign=True), expected, strict=True):
            assert_like(y, true, (a, b))


def widened(x):
    """The dtype of the result; float16 gives float64, as in SciPy up to 1.17 (later versions give float32)."""
    x = np.asarray(x)
    return x.astype(float) if x.dtype == np.float16 else as_computed(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["expit", "log_expit"])
def test_elementwise(name, dtype):
    ours, theirs = getattr(special, name), getattr(scipy_special, name)
    for shape in SHAPES:
        x = array(shape, dtype)
        assert_like(ours(x), theirs(widened(x)), shape)
    x = np.array([-INF, INF, NAN, 0.0, -0.0, 700, -700])
    assert_like(ours(x), theirs(x))
    for scalar in (0.5, 2, np.float32(1.5), np.float16(1.5)):
        assert_like(ours(scalar), theirs(widened(scalar)), repr(scalar))


@pytest.mark.parametrize("name", ["expit", "log_expit"])
def test_out(name):
    ours, theirs = getattr(special, name), getattr(scipy_special, name)
    for dtype in (np.float32, np.float64):
        x = array((3, 4), dtype)
        out, expected = np.zeros_like(x), np.zeros_like(x)
        assert ours(x, out) is out
        theirs(x, expected)
        assert_like(out, expected)
        assert ours(x, out=x) is x
        assert_like(x, expected)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_bad_axes(name):
    ours, theirs = getattr(special, name), getattr(scipy_special, name)
    for axis in (2, -3, (0, 2), (0, 0), (1, -1)):
        for function in (theirs, ours):
            with pytest.raises((ValueError, IndexError)):
                function(np.zeros((3, 4)), axis)


def test_lists_and_layouts():
    nested = [[1.0, 2.0], [3.0, 4.5]]
    for name in ("softmax", "log_softmax", "logsumexp"):
        ours, theirs = getattr(special, name), getattr(scipy_special, name)
        assert_like(ours(nested), theirs(nested))
        assert_like(ours(nested, 1), theirs(nested, 1))
        x = array((4, 6, 5), np.float32)
        for view in (x[::-1, ::2], np.asfortranarray(x), x.transpose(2, 0, 1)):
            for axis in axes_of(3):
                assert_like(ours(view, axis), theirs(view, axis), axis)
