"""kl_divergence, js_divergence, softmax_entropy and log_normalize: against exact arithmetic, PyTorch and SciPy; the
rules for infinities and NaN; the smallest divergences.

Every option, dtype and layout is in test_matrix.py, errors that all functions share are in test_errors.py.
"""

import inspect
import itertools
import math

import exact
import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, HALVES, SPECIAL_VALUES, VALUES, arrays, values

INF, NAN = np.inf, np.nan
LIMITS = {np.float32: 1, np.float64: 8}
both = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)


@pytest.mark.parametrize(
    "name, signature",
    {
        "kl_divergence": "(logits, target_logits, /, *, axis=-1, sample_weight=None, temperature=1.0, "
        "reduction='mean', empty=nan, dtype=None)",
        "js_divergence": "(logits, target_logits, /, *, axis=-1, sample_weight=None, temperature=1.0, "
        "reduction='mean', empty=nan, dtype=None)",
        "kl_divergence_and_grad": "(logits, target_logits, /, *, axis=-1, sample_weight=None, temperature=1.0, "
        "reduction='mean', empty=nan, dtype=None, grad_out=None)",
        "softmax_entropy": "(logits, /, *, axis=-1, temperature=1.0, dtype=None)",
        "log_normalize": "(x, /, axis=-1, *, out=None, dtype=None)",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(plain)) == signature


# ---- accuracy ---------------------------------------------


def _neighbours(rng, a):
    return np.nextafter(a, np.where(rng.random(a.shape) < 0.5, INF, -INF).astype(a.dtype))


def _flat_and_peaked(rng, a):
    a[:, 0] += 20
    return rng.standard_normal(a.shape).astype(a.dtype)


def _apart(rng, a):
    b = rng.uniform(-40, 40, a.shape).astype(a.dtype)
    b[:, -1] += 80
    return b


# name -> (spread of the target's logits, the other logits from them)
PAIRS = {
    "independent": (1, lambda rng, a: rng.standard_normal(a.shape)),
    "close": (1, lambda rng, a: a + 1e-3 * rng.standard_normal(a.shape)),
    "neighbours": (3, _neighbours),
    "neighbours near 0": (1e-3, _neighbours),
    "wide": (30, lambda rng, a: a + 30 * rng.standard_normal(a.shape)),
    "wide and close": (30, lambda rng, a: a + rng.standard_normal(a.shape)),
    "shifted": (5, lambda rng, a: a + 1e-2 * rng.standard_normal(a.shape) + 300),
    "far": (1, lambda rng, a: a + rng.standard_normal(a.shape) - 1e5),
    "flat and peaked": (1, _flat_and_peaked),
    "apart": (1, _apart),
    "one class differs": (2, lambda rng, a: a + np.where(np.arange(a.shape[-1]) == 0, 1e-4, 0)),
    "beyond float32": (300, lambda rng, a: 0.5 * a),
}
LENGTHS = (1, 2, 3, 10, 33, 64, 65, 300)


def pairs(name, n, dtype, rows=3):
    spread, other = PAIRS[name]
    rng = np.random.default_rng(n)
    target = (spread * rng.standard_normal((rows, n))).astype(dtype)
    return np.asarray(other(rng, target)).astype(dtype), target


def assert_within(limit, actual, true, what, scale=0.0):
    actual = np.asarray(actual)
    error = reference.ulp_error(actual, true, actual.dtype, scale)
    assert error.max() <= limit, f"{error.max():.3g} ULP; {what}"


@both
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("name", PAIRS)
def test_accuracy(name, temperature, dtype):
    for n in LENGTHS:
        x, target = pairs(name, n, dtype)
        true = exact.Pairs(x, target, temperature)
        options = {"temperature": temperature, "reduction": "none"}
        what = f"{name}, n = {n}"
        kl = softloss.kl_divergence(x, target, **options)
        assert_within(LIMITS[dtype], kl, true.kl_divergence(), f"KL, {what}")
        assert_within(LIMITS[dtype], softloss.js_divergence(x, target, **options), true.js_divergence(), f"JS, {what}")
        entropy = softloss.softmax_entropy(x, temperature=temperature)
        assert_within(LIMITS[dtype], entropy, true.entropy(), f"entropy, {what}")
        loss, grad = softloss.kl_divergence_and_grad(x, target, **options)
        np.testing.assert_array_equal(loss, kl)
        difference, scale = true.gradient()
        assert_within(3, grad, difference, f"gradient, {what}", scale)


def test_the_smallest_divergences():
    """Of logits that differ in their last digits: 1e-13 for float32, 1e-31 for float64."""
    for dtype, most in ((np.float32, 1e-12), (np.float64, 1e-30)):
        x, target = pairs("neighbours", 300, dtype)
        kl, js = (f(x, target, reduction="none") for f in (softloss.kl_divergence, softloss.js_divergence))
        assert np.all((0 < js) & (js < kl) & (kl < most))
        np.testing.assert_allclose(js, kl / 4, rtol=1e-5)  # of distributions that are close


@both
def test_long_rows(dtype):
    """Those whose exponentials are not kept for the gradient, too."""
    for n in (5000, 40_000, 70_001):
        rng = np.random.default_rng(n)
        x, target = (4 * rng.standard_normal((2, n)).astype(dtype) for _ in range(2))
        target[1] = x[1] + dtype(1e-3) * rng.standard_normal(n).astype(dtype)
        true = reference.kl_divergence_and_grad(x, target, reduction="none")
        loss, grad = softloss.kl_divergence_and_grad(x, target, reduction="none")
        reference.assert_ulps(loss, true.loss, LIMITS[dtype], f"n = {n}")
        reference.assert_ulps(grad, true.grad, 3, f"n = {n}", true.scale)
        np.testing.assert_array_equal(softloss.kl_divergence(x, target, reduction="none"), loss)
        js = softloss.js_divergence(x, target, reduction="none")
        reference.assert_ulps(js[:1], reference.js_divergence(x, target, reduction="none")[:1], LIMITS[dtype])
        reference.assert_ulps(softloss.softmax_entropy(x), reference.softmax_entropy(x), LIMITS[dtype])


@given(data=st.data())
def test_any_values(data):
    """Infinities, NaN and huge values in the same places as the oracle; a row does not depend on the others."""
    x, axis = data.draw(arrays())
    name, seed = data.draw(st.sampled_from(sorted(VALUES))), data.draw(st.integers(0, 2**32))
    target = values(name, x.shape, x.dtype.newbyteorder("="), seed)
    temperature = data.draw(st.sampled_from([1.0, 0.5, 7.0]))
    options = {"axis": axis, "temperature": temperature, "reduction": "none"}
    loss, grad = softloss.kl_divergence_and_grad(x, target, **options)
    js = softloss.js_divergence(x, target, **options)
    true = reference.kl_divergence_and_grad(x, target, **options)
    true_js = reference.js_divergence(x, target, **options)
    for each, expected in ((loss, true.loss), (js, true_js)):
        with np.errstate(over="ignore"):
            rounded = expected.astype(each.dtype)
        np.testing.assert_array_equal(np.isnan(each), np.isnan(rounded))
        np.testing.assert_array_equal(each == INF, rounded == INF)
        assert not np.any(each < 0)
    np.testing.assert_array_equal(np.isnan(grad), np.isnan(np.asarray(true.grad, np.float64)))
    alone = np.moveaxis(np.empty_like(grad), axis, -1)
    rows, of_target = (np.moveaxis(np.asarray(a), axis, -1) for a in (x, target))
    single = np.empty(loss.shape, loss.dtype)
    for place in np.ndindex(loss.shape):
        single[place], alone[place] = softloss.kl_divergence_and_grad(
            rows[place], of_target[place], temperature=temperature, reduction="none"
        )
    np.testing.assert_array_equal(single, loss)
    np.testing.assert_array_equal(np.moveaxis(alone, -1, axis), grad)


# ---- rules ---------------------------------------------


def kl(x, target, dtype, **options):
    return softloss.kl_divergence(np.asarray(x, dtype), np.asarray(target, dtype), reduction="none", **options).tolist()


def js(x, target, dtype, **options):
    return softloss.js_divergence(np.asarray(x, dtype), np.asarray(target, dtype), reduction="none", **options).tolist()


@both
@pytest.mark.parametrize("n", [3, 100])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_classes_of_minus_infinity(temperature, n, dtype):
    zeros = np.zeros(n)
    masked, other = zeros.copy(), zeros.copy()
    masked[0], other[-1] = -INF, -INF
    options = {"temperature": temperature}
    # In the target it counts 0: p is uniform over n - 1 classes, q over n.
    np.testing.assert_allclose(kl([zeros], [masked], dtype, **options), [math.log(n / (n - 1))], rtol=1e-6)
    # In the logits alone: infinitely far; in both: no difference.
    assert kl([masked], [zeros], dtype, **options) == [INF]
    assert kl([masked, other], [masked, masked], dtype, **options) == [0, INF]
    p, q = np.full(n, 1 / n), np.where(np.arange(n) == 0, 0, 1 / (n - 1))
    mean = (p + q) / 2
    expected = [0.5 * np.sum(p * np.log(p / mean)) + 0.5 * np.sum(q[1:] * np.log(q[1:] / mean[1:])), 0]
    np.testing.assert_allclose(js([masked, masked], [zeros, masked], dtype, **options), expected, rtol=1e-5)
    np.testing.assert_allclose(js([zeros], [masked], dtype, **options), expected[:1], rtol=1e-5)


@both
def test_disjoint_distributions(dtype):
    """js_divergence is log 2, and not above."""
    x, target = [[0.0, -INF, 0.0]], [[-INF, 0.0, -INF]]
    assert js(x, target, dtype) == [dtype(math.log(2))]
    assert kl(x, target, dtype) == [INF]
    x, target = [[0.0, -3000.0]], [[-3000.0, 0.0]]
    assert js(x, target, dtype) == [dtype(math.log(2))]
    assert kl(x, target, dtype) == [3000]


@both
def test_the_gradient_of_an_infinite_divergence(dtype):
    x, target = np.array([[0, -INF, 1]], dtype), np.array([[0.5, 0, 1]], dtype)
    loss, grad = softloss.kl_divergence_and_grad(x, target, temperature=2)
    assert loss == INF
    expected = (softloss.softmax(x, temperature=2) - softloss.softmax(target, temperature=2)) / 2
    np.testing.assert_allclose(grad, expected, rtol=1e-6)


@both
@pytest.mark.parametrize("n", [2, 17, 200])
def test_rows_without_a_distribution(n, dtype):
    usual = np.random.default_rng(0).standard_normal((6, n)).astype(dtype)
    bad = usual.copy()
    bad[0, 1], bad[1, 0], bad[2], bad[3, 0] = NAN, INF, -INF, -INF
    for x, target in ((bad, usual), (usual, bad), (bad, bad)):
        loss, grad = softloss.kl_divergence_and_grad(x, target, reduction="none")
        for divergences in (loss, softloss.js_divergence(x, target, reduction="none")):
            assert np.isnan(divergences[:3]).all() and not np.isnan(divergences[3:]).any()
        assert np.isnan(grad[:3]).all() and np.isfinite(grad[3:]).all()
    entropy = softloss.softmax_entropy(bad)
    assert np.isnan(entropy[:3]).all() and np.isfinite(entropy[3:]).all()
    log_prob, total = softloss.log_normalize(bad)
    assert np.isnan(log_prob[:3]).all() and not np.isnan(log_prob[3:]).any()
    np.testing.assert_array_equal(total, softloss.logsumexp(bad))
    assert np.isnan(total[0]) and total[1] == INF and total[2] == -INF


@both
def test_nan_beside_classes_that_count_nothing(dtype):
    assert np.isnan(kl([[NAN, 0]], [[-INF, 0]], dtype)).all()
    assert np.isnan(kl([[0, 0, -INF]], [[0, NAN, 0]], dtype)).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_equal_rows(dtype):
    """Exactly 0, and so is the gradient; also with classes far below the others, and masked ones."""
    for name, n in itertools.product(("normal", "wide", "huge", "equal", "masked", "signed zeros"), (1, 3, 64, 1000)):
        x = values(name, (5, n), np.float64, seed=n)
        if dtype in HALVES:
            x = np.where(abs(x) < 6e4, x, 0)
        x = x.astype(dtype)
        x[:, 0] = 0
        x[1, n // 2 :] = -3000
        x[1, 0] = 2
        loss, grad = softloss.kl_divergence_and_grad(x, x.copy(), reduction="none", temperature=1.7)
        assert not loss.any() and not grad.any()
        assert not softloss.js_divergence(x, x.copy(), reduction="none").any()


@both
def test_masks_of_the_lowest_number(dtype):
    """Masked by finfo.min instead of -inf."""
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 4, 50)).astype(dtype)
    close = target + dtype(1e-4) * x
    for second in (x, close):
        lowest, infinite = ([a.copy(), b.copy()] for a, b in [(second, target)] * 2)
        for a, value in ((lowest, np.finfo(dtype).min), (infinite, -INF)):
            for each in a:
                each[:, ::3] = value
        np.testing.assert_array_equal(softloss.kl_divergence(*lowest), softloss.kl_divergence(*infinite))
        np.testing.assert_array_equal(softloss.js_divergence(*lowest), softloss.js_divergence(*infinite))


@both
def test_mean_is_over_rows(dtype):
    x, target = values("normal", (7, 5), dtype, 1), values("normal", (7, 5), dtype, 2)
    rows = softloss.kl_divergence(x, target, reduction="none").astype(np.float64)
    np.testing.assert_allclose(softloss.kl_divergence(x, target), rows.mean(), rtol=1e-6)
    np.testing.assert_allclose(softloss.kl_divergence(x, target, reduction="sum"), rows.sum(), rtol=1e-6)
    weight = np.array([1, 0, 2, 0.5, 3, 0, 1])
    weighted = softloss.kl_divergence(x, target, sample_weight=weight)
    np.testing.assert_allclose(weighted, (rows * weight).sum() / weight.sum(), rtol=1e-6)
    x[1] = NAN  # a row of weight 0 counts 0, whatever it holds
    loss, grad = softloss.kl_divergence_and_grad(x, target, sample_weight=weight)
    assert loss == weighted
    assert not grad[1].any() and np.isfinite(grad).all()


def test_no_factor_of_the_temperature():
    x, target = values("normal", (3, 8), seed=1), values("normal", (3, 8), seed=2)
    for t in (0.5, 3.0):
        scaled = softloss.kl_divergence(x, target, temperature=t)
        np.testing.assert_allclose(scaled, softloss.kl_divergence(x / t, target / t), rtol=1e-13)


def test_dtypes():
    x = np.zeros((2, 3))
    for first, second, expected in [
        (np.float32, np.float64, np.float32),
        (np.float64, np.float32, np.float64),
        (np.float16, np.float32, np.float32),
        (np.int32, np.float32, np.float64),
        (np.float32, np.int32, np.float32),
        (bool, bool, np.float64),
    ]:
        for reduction in ("mean", "none"):
            loss = softloss.kl_divergence(x.astype(first), x.astype(second), reduction=reduction)
            assert loss.dtype == expected
    loss, grad = softloss.kl_divergence_and_grad(x.astype(np.float16), x.astype(np.float16))
    assert loss.dtype == np.float32 and grad.dtype == np.float16
    assert softloss.softmax_entropy(x.astype(np.float16)).dtype == np.float32
    assert softloss.softmax_entropy(x.astype(np.float16), dtype=np.float64).dtype == np.float64
    assert [y.dtype for y in softloss.log_normalize(x.astype(np.float16))] == [np.float16] * 2


def test_operands_in_double_are_not_rounded_first():
    """target_logits of float64, or integers, against logits of float32."""
    x = np.zeros((1, 3), np.float32)
    for target in (np.array([[1e-12, 0, 0]]), np.array([[2**30 + 1, 2**30, 2**30]])):
        expected = softloss.kl_divergence(x.astype(np.float64), target)
        assert softloss.kl_divergence(x, target) == np.float32(expected) > 0


def test_empty_arrays():
    for name in ("kl_divergence", "js_divergence"):
        function = getattr(softloss, name)
        x = np.zeros((0, 3), np.float32)
        assert np.isnan(function(x, x)) and function(x, x, empty=0.0) == 0 and function(x, x, reduction="sum") == 0
        assert function(x, x, reduction="none").shape == (0,)
        with pytest.raises(ValueError, match=r"logits of shape \(3, 0\) has no classes: axis 1 has length 0"):
            function(x.T, x.T)
        with pytest.raises(ValueError, match="logits must have at least one dimension"):
            function(1.0, 1.0)
    x = np.zeros((0, 3), np.float32)
    assert softloss.softmax_entropy(x).shape == (0,)
    with pytest.raises(ValueError, match=r"logits of shape \(3, 0\) has no classes"):
        softloss.softmax_entropy(x.T)
    with pytest.raises(ValueError, match="logits must have at least one dimension"):
        softloss.softmax_entropy(1.0)
    log_prob, total = softloss.log_normalize(x.T)
    assert log_prob.shape == (3, 0) and np.all(total == -INF) and total.dtype == np.float32
    log_prob, total = softloss.log_normalize(2.5)
    assert log_prob == 0 and total == 2.5 and np.shape(total) == ()


def test_bad_arguments():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"target_logits has shape \(3, 2\), but logits has shape \(2, 3\)"):
        softloss.kl_divergence(x, x.T)
    with pytest.raises(ValueError, match=r"target_logits has shape \(2,\), but logits has shape \(2, 3\)"):
        softloss.js_divergence(x, np.array([1, 2]))  # no class indices
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(2,\), got \(3,\)"):
        softloss.kl_divergence(x, x, sample_weight=np.ones(3))
    with pytest.raises(TypeError, match="target_logits"):
        softloss.kl_divergence(x, x.astype(complex))
    with pytest.raises(ValueError, match="grad_out overlaps target_logits"):
        softloss.kl_divergence_and_grad(x.copy(), x, grad_out=x)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        softloss.softmax_entropy(x, temperature=0)
    with pytest.raises(ValueError, match=r"out has shape \(3, 2\), but x has shape \(2, 3\)"):
        softloss.log_normalize(x, out=np.empty((3, 2), np.float32))
    assert not x.any()


@both
def test_the_gradient_may_replace_the_logits(dtype):
    for shape, axis in (((5, 7), -1), ((3, 200), -1), ((200, 3), 0), ((2, 70_000), -1)):
        x, target = values("normal", shape, dtype, 1), values("normal", shape, dtype, 2)
        expected = softloss.kl_divergence_and_grad(x, target, axis=axis)
        loss, grad = softloss.kl_divergence_and_grad(x, target, axis=axis, grad_out=x)
        assert grad is x and loss == expected.loss
        np.testing.assert_array_equal(grad, expected.grad)


@both
@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e12, 1e30])
def test_gradients_of_any_size(factor, dtype):
    x, target = values("normal", (4, 30), dtype, 1), values("normal", (4, 30), dtype, 2)
    weight = np.full(4, factor)
    _, plain = softloss.kl_divergence_and_grad(x, target, reduction="sum")
    _, grad = softloss.kl_divergence_and_grad(x, target, reduction="sum", sample_weight=weight)
    np.testing.assert_allclose(grad, plain * dtype(factor), rtol=1e-5)


# ---- other implementations ---------------------------------------------


@both
def test_kl_divergence_is_autograds(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    for shape, axis in (((6, 4), -1), ((3, 500), -1), ((2, 7, 5), 1)):
        x, target = values("normal", shape, dtype, 1), values("normal", shape, dtype, 2)
        for t, reduction in itertools.product((1.0, 4.0), ("mean", "sum")):
            student, teacher = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)
            expected = functional.kl_div(
                functional.log_softmax(student / t, axis),
                functional.log_softmax(teacher / t, axis),
                log_target=True,
                reduction="sum",
            )
            if reduction == "mean":
                expected = expected * shape[axis] / x.size
            expected.backward()
            loss, grad = softloss.kl_divergence_and_grad(x, target, axis=axis, temperature=t, reduction=reduction)
            tolerance = 1e-5 if dtype is np.float32 else 1e-13
            np.testing.assert_allclose(loss, expected.item(), rtol=tolerance)
            np.testing.assert_allclose(grad, student.grad.numpy(), rtol=tolerance, atol=tolerance * abs(grad).max())


def test_js_divergence_is_scipys():
    distance = pytest.importorskip("scipy.spatial.distance", reason="SciPy is not installed")
    x, target = values("normal", (20, 9), seed=1), values("normal", (20, 9), seed=2)
    expected = distance.jensenshannon(softloss.softmax(x), softloss.softmax(target), axis=-1) ** 2
    np.testing.assert_allclose(softloss.js_divergence(x, target, reduction="none"), expected, rtol=1e-12)


@both
def test_relations(dtype):
    """Cross-entropy is KL and entropy; JS is symmetric, and the mean of two KL."""
    x, target = values("normal", (50, 20), dtype, 1), values("normal", (50, 20), dtype, 2)
    kl = softloss.kl_divergence(x, target, reduction="none")
    p = softloss.softmax(target)
    cross = softloss.cross_entropy(x, p, reduction="none") - softloss.softmax_entropy(target)
    np.testing.assert_allclose(kl, cross, rtol=1e-4)
    js = softloss.js_divergence(x, target, reduction="none")
    np.testing.assert_allclose(js, softloss.js_divergence(target, x, reduction="none"), rtol=1e-6)
    middle = np.log((softloss.softmax(x) + p) / 2)
    halves = softloss.kl_divergence(middle, x, reduction="none") + softloss.kl_divergence(
        middle, target, reduction="none"
    )
    np.testing.assert_allclose(js, halves / 2, rtol=1e-4)
    np.testing.assert_allclose(
        softloss.softmax_entropy(x), softloss.token_logprobs(x, np.zeros(50, int)).entropy, rtol=1e-5
    )


@both
def test_entropy_of_known_distributions(dtype):
    for n in (1, 2, 10, 64, 1000):
        equal = softloss.softmax_entropy(np.full((2, n), 3.5, dtype))
        np.testing.assert_array_equal(equal, np.full(2, math.log(n)).astype(dtype))
        certain = np.full(n, -INF)
        certain[n // 2] = 7
        assert softloss.softmax_entropy(certain.astype(dtype)) == 0


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_log_normalize_is_two_functions(dtype):
    """The same bits, in every driver: across the vectors, along them, shared by threads; in place, too."""
    for name, shape in itertools.product(("normal", "offset", *SPECIAL_VALUES), ((9, 5), (4, 100), (1, 200_000))):
        x = values(name, shape, dtype, seed=3)
        for axis in (-1, 0):
            expected = softloss.log_softmax(x, axis), softloss.logsumexp(x, axis)
            own = x.copy()
            in_place = softloss.log_normalize(own, axis, out=own)
            assert in_place.log_prob is own
            for result in (softloss.log_normalize(x, axis), in_place):
                for y, each in zip(result, expected, strict=True):
                    np.testing.assert_array_equal(np.asarray(y, np.float64), np.asarray(each, np.float64))


def test_log_probabilities_have_a_normaliser_near_1():
    """Rows of log-probabilities, whose logsumexp cancels to nearly 0."""
    x = softloss.log_softmax(values("normal", (5, 40), np.float32))
    log_prob, total = softloss.log_normalize(x)
    np.testing.assert_array_equal(total, softloss.logsumexp(x))
    assert np.all(abs(total) < 1e-6) and np.all(log_prob <= 0)
