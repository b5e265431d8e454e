"""fit_temperature, calibration_error and brier_score: against bisection on longdouble, a loop over bins and exact
arithmetic; ends of bins, ties, and what has no minimum.

Every option, dtype and layout is in test_matrix.py, NaN in test_nan.py, errors that all functions share are in
test_errors.py.
"""

import inspect
import itertools
import warnings

import exact
import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from softloss import _core
from strategies import FINITE_VALUES, FLOATS, HALVES, LAYOUTS, values

INF, NAN = np.inf, np.nan
LENGTHS = (2, 3, 10, 63, 64, 65, 300)
both = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)
no_minimum = pytest.warns(RuntimeWarning, match=r"no minimum at a temperature within 0\.001 \.\. 1000")


@pytest.mark.parametrize(
    "name, signature",
    {
        "fit_temperature": "(logits, target, /, *, axis=-1, weight=None, sample_weight=None, ignore_index=-100)",
        "calibration_error": "(logits, target, /, *, axis=-1, bins=15, norm='l1', temperature=1.0, sample_weight=None, "
        "ignore_index=-100)",
        "brier_score": "(logits, target, /, *, axis=-1, temperature=1.0, sample_weight=None, ignore_index=-100, "
        "reduction='mean', empty=nan)",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(plain)) == signature


def drawn(n, temperature, dtype=np.float64, rows=400, spread=2.0, seed=0):
    """Logits, and labels that softmax(logits / temperature) draws."""
    rng = np.random.default_rng([n, seed])
    x = (spread * rng.standard_normal((rows, n))).astype(dtype)
    return x, (x.astype(np.float64) + temperature * rng.gumbel(size=x.shape)).argmax(-1)


def quiet_fit(*args, **options):
    """fit_temperature of so few rows that the minimum may be at an end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return softloss.fit_temperature(*args, **options)


def assert_fitted(x, label, dtype=np.float64, **options):
    fit = softloss.fit_temperature(x, label, **options)
    true = reference.fit_temperature(x, label, **options)
    limit = 1e-8 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(fit, [float(y) for y in true], limit)
    return fit


# ---- temperature ---------------------------------------------


@both
@pytest.mark.parametrize("n", LENGTHS)
def test_fit(n, dtype):
    for temperature in (0.3, 1.0, 1.7, 8.0):
        x, label = drawn(n, temperature, dtype)
        fit = assert_fitted(x, label, dtype)
        assert fit.temperature.dtype == fit.loss.dtype == np.float64
        loss = softloss.cross_entropy(x, label, temperature=fit.temperature, dtype=np.float64)
        np.testing.assert_allclose(fit.loss, loss, 1e-7 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("half", HALVES)
def test_halves(half):
    x, label = drawn(30, 1.7, half)
    assert softloss.fit_temperature(x, label) == softloss.fit_temperature(x.astype(np.float32), label)
    assert_fitted(x, label, half)


@both
def test_the_derivative_at_the_minimum_is_0(dtype):
    """Independently of any search: by what the gradient of the cross-entropy makes of it."""
    x, label = drawn(50, 3.0, dtype, rows=2000)
    t = float(softloss.fit_temperature(x, label).temperature)

    def slope(t):
        grad = softloss.cross_entropy_and_grad(x.astype(np.float64), label, temperature=t).grad
        return np.sum(grad * x.astype(np.float64))

    step = 1e-4 if dtype == np.float32 else 1e-7
    assert slope(t * (1 + step)) * slope(t * (1 - step)) < 0
    assert abs(slope(t)) < 0.2 * abs(slope(t * (1 + step)))


@both
@pytest.mark.parametrize("offset", [-1e6, 1e4, 1e6])
def test_offsets(offset, dtype):
    x, label = drawn(20, 1.5)
    shifted = (x + offset).astype(dtype)
    assert_fitted(shifted, label, dtype)


@both
def test_scaling_the_logits_scales_the_temperature(dtype):
    x, label = drawn(20, 1.0, dtype)
    t, loss = softloss.fit_temperature(x, label)
    for scale in (2.0**-9, 2.0**-4, 2.0**6, 2.0**9):
        scaled = softloss.fit_temperature(x * dtype(scale), label)
        np.testing.assert_allclose(scaled, (t * scale, loss), 1e-8 if dtype == np.float64 else 1e-6)


def test_hard_searches():
    """One wrong answer among many certain ones; minima near the ends; gaps of different size."""
    rng = np.random.default_rng(3)
    for gap, rows in ((5.0, 10_000), (50.0, 300), (700.0, 50)):
        x = np.zeros((rows, 2))
        x[:, 0] = gap * rng.uniform(0.5, 1.5, rows)
        label = np.zeros(rows, int)
        label[::97] = 1
        assert_fitted(x, label)
    for temperature in (0.0012, 0.1, 300.0, 900.0):
        x, label = drawn(5, temperature, spread=3 * temperature, rows=2000)
        assert_fitted(x, label)
    x = np.concatenate([drawn(4, 1.0)[0] * 1e-3, drawn(4, 1.0)[0] * 100])
    assert_fitted(x, np.concatenate([np.arange(400) % 4, drawn(4, 1.0)[1]]))


@given(
    rows=st.integers(1, 40),
    n=st.integers(2, 20),
    kind=st.sampled_from(sorted(FINITE_VALUES)),
    dtype=st.sampled_from(FLOATS),
    seed=st.integers(0, 1000),
)
def test_any_values(rows, n, kind, dtype, seed):
    x = values(kind, (rows, n), dtype, seed)
    label = np.random.default_rng(seed).integers(0, n, rows)
    fit = quiet_fit(x, label)
    at = [1e-3, 1e3, fit.temperature * 0.999, fit.temperature * 1.001]
    others = [softloss.cross_entropy(x, label, temperature=t, dtype=np.float64) for t in at if 1e-3 <= t <= 1e3]
    assert 1e-3 <= fit.temperature <= 1e3
    assert all(fit.loss <= other * (1 + 1e-6) + 1e-300 for other in others)


@both
@pytest.mark.parametrize("n", [2, 100])
def test_separable_rows(n, dtype):
    """A classifier that is always right: the loss falls towards T = 0."""
    x = np.random.default_rng(0).standard_normal((50, n)).astype(dtype)
    for factor in (1, 1e-3, 1e3, 1e30):
        scaled = (x * dtype(factor)).astype(dtype)
        with no_minimum:
            fit = softloss.fit_temperature(scaled, scaled.argmax(-1))
        assert fit.temperature == 1e-3
        loss = softloss.cross_entropy(scaled, scaled.argmax(-1), temperature=1e-3, dtype=np.float64)
        np.testing.assert_allclose(fit.loss, loss, 1e-6, 1e-30)


@both
@pytest.mark.parametrize("n", [2, 100])
def test_rows_that_know_nothing(n, dtype):
    """Always the smallest: the loss falls towards T = infinity. Logits so small that no T in range suffices."""
    x = np.random.default_rng(0).standard_normal((50, n)).astype(dtype)
    for factor in (1, 1e3, 1e30):
        with no_minimum:
            fit = softloss.fit_temperature((x * dtype(factor)).astype(dtype), x.argmin(-1))
        assert fit.temperature == 1e3
    y, label = drawn(n, 1.0, dtype)
    with no_minimum:
        fit = softloss.fit_temperature(y * dtype(1e-30), label)
    assert fit.temperature == 1e-3
    np.testing.assert_allclose(fit.loss, np.log(n), 1e-6)
    with no_minimum:
        fit = softloss.fit_temperature([[-INF, 0.0], [1.0, 0.0]], [0, 0])
    assert fit == (1e3, INF)


def test_the_warning_can_be_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="no minimum"):
            softloss.fit_temperature([[1.0, 0.0]], [0])


@both
def test_no_slope(dtype):
    """Nothing depends on the temperature: 1, without a warning."""
    for x, label in (
        (np.full((7, 5), 3.5, dtype), np.arange(7) % 5),
        (np.ones((7, 1), dtype), np.zeros(7, int)),
        (np.array([[0, -INF, -INF], [-INF, 5, 5]], dtype), np.array([0, 1])),
    ):
        fit = softloss.fit_temperature(x, label)
        assert fit.temperature == 1
        np.testing.assert_allclose(fit.loss, softloss.cross_entropy(x, label), 1e-6)


@both
def test_nothing_to_fit(dtype):
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype)
    label = np.array([0, 1, 2, 2])
    for case in (
        lambda: softloss.fit_temperature(np.empty((0, 3), dtype), np.empty(0, int)),
        lambda: softloss.fit_temperature(np.empty((0, 0), dtype), np.empty(0, int)),
        lambda: softloss.fit_temperature(x, np.full(4, -100)),
        lambda: softloss.fit_temperature(x, label, ignore_index=None, sample_weight=np.zeros(4)),
        lambda: softloss.fit_temperature(x, label, weight=np.zeros(3)),
    ):
        assert np.isnan(case()).all()
    for bad in (NAN, INF):
        spoilt = x.copy()
        spoilt[1, 1] = bad
        assert np.isnan(softloss.fit_temperature(spoilt, label)).all()
        assert np.isnan(softloss.calibration_error(spoilt, label))
        weight = [1, 0, 1, 1]
        kept = [0, 2, 3]
        for f in (quiet_fit, softloss.calibration_error):
            np.testing.assert_array_equal(f(spoilt, label, sample_weight=weight), f(x[kept], label[kept]))
            np.testing.assert_array_equal(f(spoilt, label, ignore_index=1), f(x[kept], label[kept]))
    assert np.isnan(softloss.fit_temperature(np.full((2, 3), -INF), [0, 1])).all()
    assert np.isnan(softloss.calibration_error(np.full((2, 3), -INF), [0, 1]))
    assert np.isnan(softloss.calibration_error(np.empty((0, 3), dtype), np.empty(0, int)))
    assert np.isnan(softloss.calibration_error(x, np.full(4, -100)))
    assert np.isnan(softloss.brier_score(x, np.full(4, -100)))
    assert softloss.brier_score(x, np.full(4, -100), empty=0.5) == 0.5
    assert softloss.brier_score(x, np.full(4, -100), reduction="sum") == 0


@both
def test_weights_are_repeated_rows(dtype):
    x, label = drawn(7, 2.0, dtype, rows=60)
    times = np.random.default_rng(5).integers(0, 4, 60)
    repeated = np.repeat(x, times, 0), np.repeat(label, times)
    for name, limit in (("fit_temperature", 1e-9), ("calibration_error", 1e-12), ("brier_score", 1e-6)):
        f = getattr(softloss, name)
        np.testing.assert_allclose(f(x, label, sample_weight=times), f(*repeated), limit)
    class_weight = np.array([1, 2, 0, 3, 1, 1, 2])
    by_class = softloss.fit_temperature(x, label, weight=class_weight)
    np.testing.assert_allclose(by_class, softloss.fit_temperature(x, label, sample_weight=class_weight[label]), 1e-12)


# ---- bins ---------------------------------------------


@both
@pytest.mark.parametrize("n", LENGTHS)
def test_calibration_error(n, dtype):
    x, label = drawn(n, 2.0, dtype)
    weight = np.random.default_rng(1).uniform(0, 2, len(x))
    for bins, norm, temperature, given_weight in itertools.product(
        (1, 7, 15, 100), ("l1", "l2", "max"), (1.0, 2.5), (None, weight)
    ):
        options = {"bins": bins, "norm": norm, "temperature": temperature, "sample_weight": given_weight}
        actual = softloss.calibration_error(x, label, **options)
        assert actual.dtype == np.float64
        true = float(reference.calibration_error(x, label, **options))
        np.testing.assert_allclose(actual, true, 1e-6 if dtype == np.float32 else 1e-12)


@both
@pytest.mark.parametrize("k", range(1, 70))
def test_ends_of_bins_belong_to_the_bin_below(k, dtype):
    """k equal logits have the probability 1/k, which is the end of a bin where k divides their number."""
    row = np.full(k + 1, -INF, dtype)
    row[:k] = 2.5
    x = np.stack([row, row])
    for factor in (1, 2, 3):
        bins, p = factor * k, 1 / k
        # Alone in its bin: the distance is |0.5 - p|. A row just above the end is in the bin above it.
        alone = softloss.calibration_error(x, [0, k], bins=bins, norm="max")
        np.testing.assert_allclose(alone, abs(0.5 - p), 1e-14)
        if k == 1:
            continue
        above = row.copy()
        above[0] += dtype(0.01)
        both_rows = np.stack([row, above])
        q = softloss.softmax(above.astype(np.float64))[0]
        for norm, true in (("max", max(1 - p, q)), ("l1", (1 - p + q) / 2)):
            actual = softloss.calibration_error(both_rows, [0, k], bins=bins, norm=norm)
            np.testing.assert_allclose(actual, true, 1e-6)


@both
@pytest.mark.parametrize("n", [3, 20, 64, 100])
def test_of_equal_largest_logits_the_first_is_the_answer(n, dtype):
    x = np.zeros((n, n), dtype)
    label = np.arange(n)
    # The confidence is 1 / n, and one row of n is right.
    np.testing.assert_allclose(softloss.calibration_error(x, label), 0, atol=1e-15)
    x[:, 0] = -1
    p = softloss.softmax(x[0].astype(np.float64))[1]
    np.testing.assert_allclose(softloss.calibration_error(x, np.ones(n, int)), 1 - p, 1e-6)
    np.testing.assert_allclose(softloss.calibration_error(x, np.full(n, n - 1)), p, 1e-6)
    for half in HALVES:
        wide = softloss.calibration_error(x, np.ones(n, int))
        np.testing.assert_allclose(softloss.calibration_error(x.astype(half), np.ones(n, int)), wide, 1e-6)


def test_calibrated_rows():
    """Labels that are drawn from the probabilities: the error is small, and smaller than that of sharper logits."""
    x, label = drawn(10, 1.0, rows=20_000)
    right = softloss.calibration_error(x, label)
    assert right < 0.02
    assert softloss.calibration_error(3 * x, label) > 5 * right
    t = softloss.fit_temperature(3 * x, label).temperature
    assert abs(t - 3) < 0.1
    assert softloss.calibration_error(3 * x, label, temperature=t) < 0.02


def test_many_bins_and_bad_options():
    x, label = drawn(3, 1.0)
    fine = softloss.calibration_error(x, label, bins=1 << 20)
    np.testing.assert_allclose(fine, np.mean(abs((x.argmax(-1) == label) - softloss.softmax(x).max(-1))), 1e-3)
    for bins in (0, -1, (1 << 24) + 1):
        with pytest.raises(ValueError, match=rf"bins must be between 1 and 16777216, got {bins}"):
            softloss.calibration_error(x, label, bins=bins)
    with pytest.raises(TypeError, match="bins must be an integer, got float"):
        softloss.calibration_error(x, label, bins=2.0)
    for norm in ("L1", 1, None, "\ud800"):
        with pytest.raises(ValueError, match="norm must be 'l1', 'l2' or 'max', got "):
            softloss.calibration_error(x, label, norm=norm)
    with pytest.raises(ValueError, match="temperature must be positive"):
        softloss.calibration_error(x, label, temperature=0)
    weight = np.ones(400)
    weight[7] = -0.5
    for f in (softloss.fit_temperature, softloss.calibration_error):
        with pytest.raises(ValueError, match=r"sample_weight\[7\] = -0.5 is negative"):
            f(x, label, sample_weight=weight)
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(400,\), got \(3,\)"):
            f(x, label, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match=r"weight\[2\] = -1 is negative"):
        softloss.fit_temperature(x, label, weight=[1, 1, -1])
    with pytest.raises(ValueError, match=r"weight must have shape \(3,\), one per class, got \(2,\)"):
        softloss.fit_temperature(x, label, weight=[1, 1])


# ---- Brier score ---------------------------------------------


@both
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("n", (1, *LENGTHS))
def test_brier_score(n, temperature, dtype):
    rng = np.random.default_rng(n)
    for spread in (1e-3, 1.0, 10.0, 60.0):
        x = (spread * rng.standard_normal((3, n))).astype(dtype)
        for label in (x.argmax(-1), x.argmin(-1), np.array([0, n // 2, n - 1])):
            score = softloss.brier_score(x, label, temperature=temperature, reduction="none")
            assert score.dtype == dtype
            error = reference.ulp_error(score, exact.Rows(x, temperature=temperature).brier_score(label), dtype)
            assert error.max() <= (1 if dtype == np.float32 else 8), (n, spread, error)


def test_scores_near_0_keep_their_digits():
    for dtype in FLOATS:
        for gap in (20.0, 40.0):
            score = softloss.brier_score(np.array([[gap, 0.0]], dtype), [0])
            np.testing.assert_allclose(score, 2 * (np.exp(-gap) / (1 + np.exp(-gap))) ** 2, 1e-6)


@both
def test_special_scores(dtype):
    score = softloss.brier_score(
        np.array([[0, -INF], [0, -INF], [2, 2], [1e30, -1e30], [NAN, 0], [INF, 0], [-INF, -INF]], dtype),
        [0, 1, 0, 1, 0, 0, 0],
        reduction="none",
    )
    np.testing.assert_array_equal(score, [0, 2, 0.5, 2, NAN, NAN, NAN])
    assert softloss.brier_score(np.array([[5.0]], dtype), [0]) == 0


def test_two_classes_have_twice_the_binary_score():
    z = np.linspace(-5, 5, 21)
    label = np.arange(21) % 2
    two = softloss.brier_score(np.stack([np.zeros(21), z], -1), label, reduction="none")
    np.testing.assert_allclose(two, 2 * (softloss.sigmoid(z) - label) ** 2, 1e-12)


def test_reductions_of_scores():
    x, label = drawn(5, 1.0, rows=3000)
    score = softloss.brier_score(x, label, reduction="none")
    np.testing.assert_allclose(softloss.brier_score(x, label), score.mean(), 1e-12)
    np.testing.assert_allclose(softloss.brier_score(x, label, reduction="sum"), score.sum(), 1e-12)
    weight = np.random.default_rng(0).uniform(0, 2, 3000)
    weighted = softloss.brier_score(x, label, sample_weight=weight)
    np.testing.assert_allclose(weighted, np.average(score, weights=weight), 1e-12)


# ---- all three ---------------------------------------------

CALLS = {
    "fit_temperature": softloss.fit_temperature,
    "calibration_error": softloss.calibration_error,
    "brier_score": softloss.brier_score,
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize(
    "shape, axis",
    # At least 32768 elements each: smaller calls run on one thread.
    [((140, 9, 33), 1), ((9, 5000), 0), ((5, 9, 1024), 1), ((5000, 9), 1), ((160, 100, 3), 1), ((8, 9, 5, 130), -1)],
)
def test_layouts_and_threads(name, dtype, shape, axis):
    """The same bits from every layout, whether tasks are whole blocks of rows or not, on any number of threads."""
    f, rng = CALLS[name], np.random.default_rng(2)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    rows = np.delete(shape, axis)
    label = (x.astype(np.float64) + 4 * rng.gumbel(size=shape)).argmax(axis)
    weight = rng.uniform(0, 1, rows)
    expected = f(x, label, axis=axis, sample_weight=weight)
    for threads in (1, 2, 3):
        with softloss.threads(threads):
            for lay_out in LAYOUTS.values():
                actual = f(lay_out(x), lay_out(label), axis=axis, sample_weight=lay_out(weight))
                np.testing.assert_array_equal(actual, expected)
    along = np.moveaxis(x, axis, -1).copy()
    np.testing.assert_array_equal(f(along, label, sample_weight=weight), expected)


@pytest.mark.parametrize("name", CALLS)
def test_isas(name):
    """The same bits on all; on the x86-64 baseline, without fma, nearly."""
    before, found = _core.isa(), {}
    for isa in _core.usable_isas():
        _core.set_isa(isa)
        found[isa] = [
            CALLS[name](*drawn(n, 1.5, dtype)) for n in LENGTHS for dtype in (np.float32, np.float64, np.float16)
        ]
    _core.set_isa(before)
    for isa, results in found.items():
        if isa == "baseline":
            np.testing.assert_allclose(results, found[_core.usable_isas()[-1]], 1e-6)
        else:
            assert results == found[_core.usable_isas()[-1]]


@pytest.mark.parametrize("name", CALLS)
def test_labels(name):
    f = CALLS[name]
    x, label = drawn(5, 1.0, rows=2000)
    for integer in (np.int8, np.uint8, np.int32, np.uint64):
        assert f(x, label.astype(integer)) == f(x, label)
    bad = label.copy()
    bad[[1500, 1600]] = 5, -3
    message = (
        r"target\[1500\] = 5 is out of range for axis of 5 classes \(2 bad labels in all\); "
        r"valid are 0..4 or ignore_index=-100"
    )
    with pytest.raises(IndexError, match=message):
        f(x, bad)
    with pytest.raises(TypeError, match="target must hold class indices"):
        f(x, label.astype(float))
    with pytest.raises(ValueError, match="no classes"):
        f(np.empty((3, 0)), np.zeros(3, int))
    with pytest.raises(ValueError, match="dimension"):
        f(1.0, 0)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_no_mean_over_weights_whose_sum_overflows(norm):
    x, label = [[1.0, 2, 3], [3, 2, 1]], [0, 1]
    assert np.isnan(softloss.calibration_error(x, label, norm=norm, sample_weight=[1e308, 1e308]))
    assert np.isnan(softloss.calibration_error(x, label, norm=norm, sample_weight=[np.inf, 1]))
