"""sample: against an enumeration in whole numbers, and against float64 away from the edges; filters, ties, rows without
a distribution, errors, frequencies, the same class in every layout.

What all functions share (dtypes, layouts, threads, bad input) is also tested through operations.py.
"""

import inspect
import math
from fractions import Fraction

import exact
import numpy as np
import pytest
import reference
import softloss
import whole_weights
from strategies import FLOATS

INF, NAN = np.inf, np.nan
BELOW_ONE = np.nextafter(1, 0)
both = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
FILTERS = [
    {},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 150},
    {"top_p": 0.9},
    {"top_p": 0.5},
    {"top_p": 1e-6},
    {"top_p": BELOW_ONE},
    {"min_p": 1.0},
    {"min_p": 0.05},
    {"min_p": 1e-12},
    {"top_k": 7, "top_p": 0.9},
    {"top_k": 150, "top_p": 0.8, "min_p": 0.01},
    {"top_p": 0.99, "min_p": 0.3},
]


def test_signature():
    plain = [
        p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(softloss.sample).parameters.values()
    ]
    assert str(inspect.Signature(plain)) == (
        "(logits, u, /, *, axis=-1, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, where=None)"
    )
    assert softloss.Sample._fields == ("index", "logprob")


def rows(dtype, n, seed=0):
    """Rows of n logits of several kinds, by name."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(n)
    peaked = normal.copy()
    peaked[n // 3] = np.log(19 * np.exp(normal).sum())
    sparse = np.where(rng.random(n) < 0.9, -INF, np.round(normal * 4) / 4)
    sparse[n // 2] = 0.25
    all_rows = {
        "normal": normal,
        "wide": 3 * normal,
        "very wide": 20 * normal,
        "peaked": peaked,
        "equal": np.full(n, 0.7),
        "two levels": rng.integers(0, 2, n) * 1.5,
        "steps": np.round(normal * 2) / 2,
        "sparse": sparse,
        "ascending": np.sort(normal),
        "descending": -np.sort(normal) - 300,
        "far": normal + 900,
    }
    return {name: row.astype(dtype) for name, row in all_rows.items()}


def filters_of(n):
    for options in FILTERS:
        if options.get("top_k", 0) <= n:
            yield options


# ---- the class ---------------------------------------------


@both
@pytest.mark.parametrize("n", [1, 2, 3, 10, 16, 17, 63, 64, 65, 300, 1100])
def test_classes_are_those_of_an_enumeration(n, dtype):
    u = np.concatenate([np.linspace(0, 1, 12, endpoint=False), [BELOW_ONE, 1e-17, 5e-324]])
    for name, row in rows(dtype, n, n).items():
        weight = whole_weights.weights(row)
        for options in filters_of(n):
            classes = whole_weights.kept(row, weight, **options)
            # The edges themselves, as closely as float64 has them, and their neighbours.
            total = sum(weight[i] for i in classes)
            edges = np.cumsum([weight[i] / total for i in classes])[:: max(1, len(classes) // 10)]
            near = np.concatenate([u, edges, np.nextafter(edges, 0), np.nextafter(edges, 1)])
            near = near[near < 1]
            index = softloss.sample(np.broadcast_to(row, (near.size, n)), near, **options).index
            expected = [whole_weights.drawn(weight, classes, number) for number in near]
            np.testing.assert_array_equal(index, expected, f"{name}, {options}")


@both
def test_classes_of_long_rows_are_those_of_an_enumeration(dtype):
    n = 9001  # a sample of the row suggests where to look
    u = np.linspace(0, BELOW_ONE, 9)
    for name, row in rows(dtype, n).items():
        row = (np.round(row * 256) / 256).astype(dtype)  # fewer values, of which each has one weight
        weight = whole_weights.weights(row)
        for options in [*filters_of(n), {"top_k": 3000}, {"top_k": 8000, "top_p": 0.95}, {"top_k": n}]:
            classes = whole_weights.kept(row, weight, **options)
            index = softloss.sample(np.broadcast_to(row, (u.size, n)), u, **options).index
            expected = [whole_weights.drawn(weight, classes, number) for number in u]
            np.testing.assert_array_equal(index, expected, f"{name}, {options}")


def in_float64(row, temperature, top_k=0, top_p=1.0, min_p=0.0):
    """Probabilities of the classes that the filters keep, 0 for the others; how far the filters are from an edge."""
    x = row.astype(np.float64) / temperature
    order = np.argsort(-x, kind="stable")
    p = np.exp(x - x.max())
    margin = INF
    if top_k:
        order = order[:top_k]
    if top_p < 1:
        running = p[order].cumsum() / p[order].sum()
        margin = np.abs(running - top_p).min()
        order = order[: np.searchsorted(running, top_p) + 1]
    if min_p > 0:
        margin = min(margin, np.abs(p - min_p).min())
        order = order[p[order] >= min_p]
    kept = np.zeros(x.size)
    kept[order] = p[order] / p[order].sum()
    return kept, margin


@both
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
@pytest.mark.parametrize("n", [5, 40, 100, 3000, 20000, 128256])
def test_classes_are_those_of_float64_away_from_edges(n, temperature, dtype):
    rng = np.random.default_rng(1)
    repeats = 40 if n <= 3000 else 4
    checked = 0
    for name, row in rows(dtype, n).items():
        for options in filters_of(n) if n <= 3000 else FILTERS[3::3]:
            kept, margin = in_float64(row, temperature, **options)
            if margin < 1e-6 / n**0.5:
                continue
            u = rng.random(repeats)
            running = kept.cumsum()
            expected = np.searchsorted(running, u, "right")
            # The edges of the class that is expected: the sums before it and with it.
            clear = (running[expected] - u > 1e-6) & (u - (running[expected] - kept[expected]) > 1e-6)
            index = softloss.sample(np.broadcast_to(row, (repeats, n)), u, temperature=temperature, **options).index
            np.testing.assert_array_equal(index[clear], expected[clear], f"{name}, {options}")
            assert (kept[index] > 0).all()
            checked += clear.sum()
    assert checked > 100


@both
def test_frequencies(dtype):
    draws, n = 1_000_000, 20
    row = np.random.default_rng(3).standard_normal(n).astype(dtype)
    for temperature, options in ((1, {}), (1, {"top_p": 0.9}), (0.5, {"top_k": 5})):
        kept, _ = in_float64(row, temperature, **options)
        u = np.random.default_rng(4).random(draws)
        index = softloss.sample(np.broadcast_to(row, (draws, n)), u, temperature=temperature, **options).index
        count = np.bincount(index, minlength=n)
        assert (count[kept == 0] == 0).all()
        expected = draws * kept[kept > 0]
        chi = ((count[kept > 0] - expected) ** 2 / expected).sum()
        freedom = len(expected) - 1
        assert chi < freedom + 5 * math.sqrt(2 * freedom), chi  # five standard deviations


# ---- the log-probability ---------------------------------------------


@both
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("n", [1, 2, 10, 63, 64, 300, 5000])
def test_logprob(n, temperature, dtype):
    limit = 1 if dtype == np.float32 else 8
    u = np.linspace(0, BELOW_ONE, 12)
    for name, row in rows(dtype, n).items():
        x = exact.numbers(row) / exact.MP.mpf(temperature)
        e = np.where(
            row == -INF,
            exact.MP.mpf(0),
            np.vectorize(exact.MP.exp, otypes=[object])(np.where(row == -INF, 0, x - x.max())),
        )
        for options in filters_of(n):
            # The drawn classes say what was kept: those of the enumeration, which other tests show.
            wide = in_float64(row, temperature, **options)
            if wide[1] < 1e-6 / n**0.5:
                continue
            index, logprob = softloss.sample(np.broadcast_to(row, (12, n)), u, temperature=temperature, **options)
            kept = np.flatnonzero(wide[0] > 0) if options else np.arange(n)
            total = sum(e[kept])
            log = exact.MP.log
            for i, got in zip(index, logprob, strict=True):
                others = total - e[i]
                true = -exact.MP.log1p(others / e[i]) if others < e[i] else log(e[i] / total)
                error = reference.ulp_error(np.asarray(got), exact.pair(np.asarray([true], object))[0], dtype)
                assert error.max() <= limit, f"{error.max():.3} ULP: {name}, n = {n}, {options}"


@both
def test_logprob_of_all_classes_is_that_of_token_logprobs(dtype):
    for n in (5, 64, 3000, 40000):
        x = np.stack(list(rows(dtype, n).values()))
        index, logprob = softloss.sample(x, np.linspace(0, 0.99, len(x)))
        reference.assert_ulps(logprob, softloss.token_logprobs(x, index).logprob.astype(np.float64), 3)


# ---- filters at their limits ---------------------------------------------


@both
@pytest.mark.parametrize("n", [2, 20, 64, 500, 10000])
def test_limits_of_filters_keep_everything_or_one_class(n, dtype):
    x = np.stack(list(rows(dtype, n).values()))
    u = np.random.default_rng(0).random(len(x))
    everything = softloss.sample(x, u)
    for options in ({"top_k": n}, {"top_p": 1.0}, {"min_p": 0.0}, {"top_k": n, "top_p": 1, "min_p": 0}):
        reference.assert_identical(softloss.sample(x, u, **options), everything)
    first = x.argmax(-1)
    for options in ({"top_k": 1}, {"top_p": 1e-300}, {"temperature": 0}, {"temperature": 1e-300}):
        index, logprob = softloss.sample(x, np.zeros(len(x)), **options)
        np.testing.assert_array_equal(index, first)
        if options != {"temperature": 1e-300}:
            assert (logprob == 0).all()
            np.testing.assert_array_equal(softloss.sample(x, np.full(len(x), BELOW_ONE), **options).index, first)
    # min_p = 1 keeps all that equal the largest.
    index, logprob = softloss.sample(x, np.full(len(x), BELOW_ONE), min_p=1)
    last = [np.flatnonzero(row == row.max())[-1] for row in x]
    np.testing.assert_array_equal(index, last)
    counts = (x == x.max(-1, keepdims=True)).sum(-1)
    np.testing.assert_allclose(logprob, -np.log(counts), rtol=1e-6)


@both
@pytest.mark.parametrize("n", [10, 100, 1000, 20000])
def test_equal_logits_are_kept_in_the_order_of_their_index(n, dtype):
    u = np.array([0.0, BELOW_ONE])
    x = np.zeros((2, n), dtype)
    for k in (1, 3, n // 2, n - 1, n):
        index, logprob = softloss.sample(x, u, top_k=k)
        assert index.tolist() == [0, k - 1]
        np.testing.assert_allclose(logprob, -np.log(k), rtol=1e-6)
        # The k-th of n equal classes reaches the sum k / n, or the next one if the quotient was rounded up.
        assert softloss.sample(x, u, top_p=k / n).index.tolist() == [0, math.ceil(Fraction(k / n) * n) - 1]
    x[:, n // 2] = 1
    assert softloss.sample(x, u, top_k=3).index.tolist() == [0, n // 2]
    x[:, : n // 2] = -INF
    assert softloss.sample(x, u, top_k=3).index.tolist() == [n // 2, n // 2 + 2]


@both
def test_huge_temperatures_make_all_finite_logits_equal(dtype):
    x = np.array([[1.0, -50.0, 3.0, -INF]] * 3, dtype)
    index, logprob = softloss.sample(x, [0.1, 0.4, 0.9], temperature=1e300)
    assert index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(logprob, -np.log(3), rtol=1e-6)


@both
def test_extreme_logits(dtype):
    most = np.finfo(dtype).max
    index, logprob = softloss.sample(np.array([[-most, most, most], [-most, -most, -most]], dtype), [0.7, 0.5])
    assert index.tolist() == [2, 1]
    np.testing.assert_allclose(logprob, -np.log([2, 3]), rtol=1e-6)


# ---- rows without a distribution ---------------------------------------------


@both
@pytest.mark.parametrize("n", [1, 2, 16, 63, 64, 700, 9000])
@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_p": 0.5, "min_p": 0.1}, {"temperature": 0}], ids=str)
def test_rows_without_a_distribution(n, options, dtype):
    good = np.random.default_rng(0).standard_normal(n).astype(dtype)
    for bad in (NAN, -NAN, INF):
        for place in {0, n // 2, n - 1}:
            row = good.copy()
            row[place] = bad
            index, logprob = softloss.sample(np.stack([row, good]), [0.5, 0.5], **options)
            assert index[0] == 0 and np.isnan(logprob[0]), (bad, place)
            assert np.isfinite(logprob[1])
    index, logprob = softloss.sample(np.full(n, -INF, dtype), 0.5, **options)
    assert index == 0 and np.isnan(logprob)
    index, logprob = softloss.sample(good, 0.5, where=np.zeros(n, bool), **options)
    assert index == 0 and np.isnan(logprob)


@both
@pytest.mark.parametrize("n", [2, 20, 100, 7000])
def test_where_excludes_classes_like_minus_infinity(n, dtype):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((6, n)).astype(dtype)
    where = rng.random((6, n)) < 0.5
    where[:, 0] = True
    u = rng.random(6)
    for options in filters_of(n):
        masked = softloss.sample(x, u, where=where, **options)
        reference.assert_identical(masked, softloss.sample(np.where(where, x, -INF).astype(dtype), u, **options))
        assert where[np.arange(6), masked.index].all()
    spread = softloss.sample(x, u, where=where[0])  # broadcast
    reference.assert_identical(spread, softloss.sample(x, u, where=np.broadcast_to(where[0], x.shape)))


# ---- the same everywhere ---------------------------------------------


@pytest.mark.parametrize("n", [3, 37, 64, 1000, 20000])
def test_layouts_and_dtypes_do_not_matter(n):
    rng = np.random.default_rng(n)
    x, u = rng.integers(-8, 8, (20, n)), rng.random(20)  # whole numbers, which every dtype holds
    for options in filters_of(n):
        expected = softloss.sample(x, u, **options)
        assert expected.index.dtype == np.int64 and expected.logprob.dtype == np.float64
        narrow = softloss.sample(x.astype(np.float32), u, **options)
        assert narrow.logprob.dtype == np.float32
        for same in (
            x.astype(np.int8),
            x.astype(np.float64),
            x.astype(">f8"),
            np.asfortranarray(x.astype(np.float64)),
            x.astype(np.float64)[::-1][::-1],
        ):
            reference.assert_identical(softloss.sample(same, u, **options), expected)
        wide = np.zeros((20, 2 * n + 1), np.float32)
        wide[:, 1::2] = x
        for same in (x.astype(np.float16), x.astype(">f4"), wide[:, 1::2], np.asfortranarray(x.astype(np.float32))):
            reference.assert_identical(softloss.sample(same, u, **options), narrow)
        reference.assert_identical(softloss.sample(x.T, u, axis=0, **options), expected)
        reference.assert_identical(
            softloss.sample(x.reshape(4, 5, n), u.reshape(4, 5), **options).index.ravel(), expected.index
        )


def test_threads_do_not_matter():
    x = np.random.default_rng(0).standard_normal((50, 3000)).astype(np.float32)
    u = np.random.default_rng(1).random(50)
    with softloss.threads(1):
        expected = softloss.sample(x, u, top_p=0.9)
    with softloss.threads(3):
        reference.assert_identical(softloss.sample(x, u, top_p=0.9), expected)


def test_u_may_have_any_dtype_and_strides():
    x = np.random.default_rng(0).standard_normal((6, 30))
    u = np.arange(6) / 8
    expected = softloss.sample(x, u)
    for same in (u.astype(np.float16), u.astype(">f8"), np.repeat(u, 2)[::2], list(u)):
        reference.assert_identical(softloss.sample(x, same), expected)
    assert softloss.sample(x, np.zeros(6, int)).index.tolist() == [0] * 6


# ---- errors ---------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -1}, "temperature must be finite and at least 0"),
        ({"temperature": NAN}, "temperature"),
        ({"temperature": INF}, "temperature"),
        ({"top_k": -1}, r"top_k must be between 0 and 4 \(the number of classes\), got -1"),
        ({"top_k": 5}, r"top_k must be between 0 and 4 \(the number of classes\), got 5"),
        ({"top_p": 0}, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"top_p": NAN}, "top_p"),
        ({"min_p": -0.1}, "min_p must be between 0 and 1, got -0.1"),
        ({"min_p": 1.1}, "min_p must be between 0 and 1, got 1.1"),
        ({"min_p": NAN}, "min_p"),
        ({"axis": 2}, "axis"),
        ({"where": np.ones(3, bool)}, "where"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        softloss.sample(np.zeros((2, 4)), [0.5, 0.5], **options)


@pytest.mark.parametrize("bad", [1, -1e-9, NAN, INF, 1.5])
def test_random_numbers_outside_the_interval(bad):
    u = np.full((3, 5), 0.5)
    u[1, 2] = bad
    with pytest.raises(ValueError, match=r"u\[1, 2\] = .* is outside \[0, 1\)"):
        softloss.sample(np.zeros((3, 5, 4)), u)
    with pytest.raises(ValueError, match=r"u = .* is outside \[0, 1\)"):
        softloss.sample(np.zeros(4), bad)


def test_wrong_shapes_and_dtypes():
    with pytest.raises(ValueError, match=r"u must have shape \(2,\)"):
        softloss.sample(np.zeros((2, 4)), [0.5] * 4)
    with pytest.raises(ValueError, match="at least one dimension"):
        softloss.sample(1.0, 0.5)
    with pytest.raises(TypeError, match="top_k"):
        softloss.sample(np.zeros(4), 0.5, top_k=1.5)
    with pytest.raises(TypeError, match="where"):
        softloss.sample(np.zeros(4), 0.5, where=np.ones(4))


def test_empty_arrays():
    index, logprob = softloss.sample(np.zeros((0, 4), np.float32), np.zeros(0))
    assert index.shape == logprob.shape == (0,)
    with pytest.raises(ValueError, match="no classes"):
        softloss.sample(np.zeros((3, 0)), np.zeros(3))
