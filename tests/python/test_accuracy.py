"""The promised accuracy, against exact arithmetic: docs/numerics.rst has the table.

SOFTLOSS_LONG=1 pytest tests/python/test_accuracy.py takes rows and batches of ten million instead of one.
"""

import functools
import math
import os

import exact
import numpy as np
import pytest
import softloss
from reference import LONG, ulp_error
from strategies import FLOATS, HALVES

INF = np.inf
MANY = 10_000_000 if os.environ.get("SOFTLOSS_LONG") else 1_000_000

needs_long = pytest.mark.skipif(not exact.HAS_LONG, reason="needs a longdouble of 64 bits")
FAITHFUL = {np.float32: 1, np.float64: 1.5}  # units in the last place; below 1: one of the two nearest numbers
both = pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.__name__)


def assert_within(limit, actual, true, what="", scale=0.0):
    actual = np.asarray(actual)
    error = ulp_error(actual, true, actual.dtype, scale)
    place = np.unravel_index(error.argmax(), error.shape)
    assert error[place] <= limit, (
        f"{error[place]:.4g} ULP at {place}: {actual[place]!r}, not {true[0][place]!r}; {what}"
    )


def both_signs(values):
    return np.concatenate([values, -np.asarray(values)])


# ---- rows ---------------------------------------------


def _uniform(spread):
    def rows(n, dtype):
        return np.random.default_rng(n).uniform(-spread, spread, (3, n))

    return rows


def _offset(offset):
    def rows(n, dtype):
        return offset + 3 * np.random.default_rng(n).standard_normal((3, n))

    return rows


def _dominant(n, dtype):
    """One logit far above equal others; 700 is beyond float32."""
    tops = np.array([16.0, 20.0, 40.0, 80.0, 100.0, 700.0])
    x = np.zeros((tops.size, n))
    x[np.arange(tops.size), tops.astype(int) % n] = tops
    return x


def _to_the_smallest(n, dtype, top=0.0):
    """Probabilities from 1 down to the smallest normal number and below it."""
    span = -math.log(np.finfo(dtype).smallest_subnormal)
    return np.random.default_rng(n).permuted(np.tile(np.linspace(top - span, top, n), (3, 1)), axis=-1)


ROWS = {
    **{f"spread {s}": _uniform(s) for s in (1, 3, 10, 20, 40, 80)},
    **{f"offset {o:g}": _offset(o) for o in (300.0, -1e3, 1e4, -1e6, 1e6)},
    "equal": lambda n, dtype: np.repeat([[0.0], [-1.5], [88.0], [1e6], [1e8]], n, -1),
    "dominant": _dominant,
    "to the smallest": _to_the_smallest,
    "to the smallest from 1100": functools.partial(_to_the_smallest, top=1100.1),  # small beside it, not beside 1
    "ties": lambda n, dtype: np.random.default_rng(n).integers(-2, 3, (3, n)).astype(float),
}
LENGTHS = (1, 2, 3, 10, 17, 65, 500)


@functools.cache
def rows(name, n, dtype):
    """(x, a label for each row, the exact rows); labels are the largest, the smallest and others in turn."""
    x = ROWS[name](n, dtype).astype(dtype)
    label = np.where(np.arange(len(x)) % 3 == 0, x.argmax(-1), np.arange(len(x)) % n)
    label = np.where(np.arange(len(x)) % 3 == 1, x.argmin(-1), label)
    return x, label, exact.Rows(x)


@functools.cache
def truth(name, n, dtype, function):
    x, label, true = rows(name, n, dtype)
    return getattr(true, function)(label) if function.startswith("cross") else getattr(true, function)()


every_row = pytest.mark.parametrize("name", ROWS)


@both
@every_row
def test_transforms(name, dtype):
    """The unit of subnormal results is that of the smallest normal number."""
    for n in LENGTHS:
        x, _, _ = rows(name, n, dtype)
        assert_within(2, softloss.softmax(x), truth(name, n, dtype, "softmax"), f"softmax, n = {n}")
        assert_within(2, softloss.log_softmax(x), truth(name, n, dtype, "log_softmax"), f"log_softmax, n = {n}")


EQUAL_LENGTHS = (1, 2, 3, 6, 10, 17, 49, 63, 64, 65, 100, 127, 1000, 5000, 70_000)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_equal_logits_share_exactly(temperature, dtype):
    """Of n equal logits each has 1 / n, rounded; a single class has 1. In every layout, and by softmax_topk."""
    for n in EQUAL_LENGTHS:
        logits = np.random.default_rng(n).uniform(-90, 90, 12 if n < 2000 else 2).astype(dtype)
        x = np.repeat(logits[:, None], n, 1)
        share = np.float32(1 / n).astype(dtype) if dtype in HALVES else dtype(1 / n)
        for layout in (x, np.asfortranarray(x)):
            y = softloss.softmax(layout, temperature=temperature)
            assert np.all(y == share), f"n = {n}: {y[y != share]}, not {share}"
        assert np.all(softloss.softmax_topk(x, 1, temperature=temperature).prob == share), f"softmax_topk, n = {n}"


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES], ids=lambda dtype: dtype.__name__)
def test_a_class_that_is_all_that_counts_has_one(dtype):
    for n in EQUAL_LENGTHS[1:]:
        x = np.random.default_rng(n).uniform(-5, 5, (50, n)).astype(dtype)
        rows = np.arange(50)
        x[rows, rows % n] = np.linspace(60, 90, 50).astype(dtype)
        y = softloss.softmax(x)
        assert np.all(y[rows, rows % n] == 1), f"n = {n}"
        assert np.all(softloss.softmax_topk(x, 1).prob == 1), f"softmax_topk, n = {n}"


@both
def test_ties_beside_classes_that_hardly_count(dtype):
    """Around the size at which others change the result, and with logits that differ in the last bit."""
    for n in (2, 3, 5, 6, 7, 9, 33, 100):
        rng = np.random.default_rng(n)
        x = np.repeat(rng.uniform(-8, 8, (60, 1)), n, 1).astype(dtype)
        x[:30, 0] -= (-math.log(np.finfo(dtype).eps) + rng.uniform(-1, 2, 30)).astype(dtype)
        x[30:, 0] = np.nextafter(x[30:, 0], dtype(-100))
        assert_within(2, softloss.softmax(x), exact.Rows(x).softmax(), f"n = {n}")


@both
@every_row
def test_logsumexp(name, dtype):
    """The result may pass through zero; its unit is then that of the largest logit."""
    for n in LENGTHS:
        x, _, _ = rows(name, n, dtype)
        assert_within(2, softloss.logsumexp(x), truth(name, n, dtype, "logsumexp"), f"n = {n}", abs(x).max(-1))


@both
@every_row
def test_cross_entropy(name, dtype):
    """Also the smallest losses: those of a label far above all other logits."""
    for n in LENGTHS:
        x, label, _ = rows(name, n, dtype)
        loss = softloss.cross_entropy(x, label, reduction="none", dtype=dtype)
        assert_within(2, loss, truth(name, n, dtype, "cross_entropy"), f"n = {n}")


@both
@every_row
def test_gradient_of_cross_entropy(name, dtype):
    for n in LENGTHS:
        x, label, _ = rows(name, n, dtype)
        true = truth(name, n, dtype, "cross_entropy_grad")
        _, grad = softloss.cross_entropy_and_grad(x, label, reduction="sum", dtype=dtype)
        assert_within(3, grad, true, f"sum, n = {n}")
        _, grad = softloss.cross_entropy_and_grad(x, label, dtype=dtype)
        hi, lo = true
        assert_within(3, grad, exact.pair((exact.numbers(hi) + exact.numbers(lo)) / len(x)), f"mean, n = {n}")


@both
@every_row
def test_gradients_of_transforms(name, dtype):
    for n in LENGTHS:
        x, _, _ = rows(name, n, dtype)
        dy = np.random.default_rng(0).uniform(-3, 3, x.shape).astype(dtype)
        check_backward(x, dy, f"n = {n}")


def check_backward(x, dy, what):
    """Within 3 units of the sum of the absolute terms."""
    y, logy = softloss.softmax(x), softloss.log_softmax(x)
    true, terms = exact.softmax_backward(y, dy)
    assert_within(3, softloss.softmax_backward(y, dy), true, f"softmax, {what}", terms)
    true, terms = exact.log_softmax_backward(logy, dy)
    assert_within(3, softloss.log_softmax_backward(logy, dy), true, f"log_softmax, {what}", terms)


@both
@pytest.mark.parametrize("seed", range(6))
def test_gradients_of_transforms_at_random(seed, dtype):
    """Gradients of every size, of one size but for a few, and equal logits."""
    rng = np.random.default_rng(seed)
    for n in (1, 2, 3, 10, 63, 64, 65, 130):
        x = rng.uniform(-1, 1, (4, n)) * np.array([1, 10, 40, 80])[:, None]
        if seed % 3 == 0:
            x = x.round(-1)
        dy = rng.standard_normal((4, n)) * 10.0 ** rng.uniform(-4, 4, (4, n)) + rng.choice([0, 1000])
        check_backward(x.astype(dtype), dy.astype(dtype), f"n = {n}")


@both
@pytest.mark.parametrize("largest", [0.4, 1e-20, 1e-37])
def test_gradients_of_transforms_at_the_ends_of_the_range(largest, dtype):
    """Sums of dy overflow, or products of dy and y underflow, in some rows and not in their neighbours."""
    rng = np.random.default_rng(1)
    scale = np.float64(np.finfo(dtype).max) if largest > 0.1 else 1.0
    for n in (3, 63, 64, 65, 200):
        x, dy = rng.uniform(-5, 5, (8, n)), rng.uniform(-1, 1, (8, n))
        dy[::2] *= largest * scale
        y = softloss.softmax(x.astype(dtype))
        with np.errstate(over="ignore"):
            dy = dy.astype(dtype)
        true, terms = exact.softmax_backward(y, dy)
        fits = terms < scale if scale > 1 else terms > np.finfo(dtype).tiny
        dx = softloss.softmax_backward(y, dy)
        assert_within(3, dx[fits], (true[0][fits], true[1][fits]), f"n = {n}", terms[fits])
        np.testing.assert_array_equal(dx, softloss.softmax_backward(y.copy("F"), dy.copy("F")))


@both
def test_gradients_of_transforms_lose_no_component(dtype):
    """The class that has nearly all the probability, and each of the others, where all is far below dy."""
    for gap in (20, 37.43, 60, 80):
        y, dy = softloss.softmax(np.array([gap, 0], dtype)), np.array([1, 0], dtype)
        product = y[0] * y[1]
        np.testing.assert_allclose(softloss.softmax_backward(y, dy), [product, -product], 3e-7)
        logy = softloss.log_softmax(np.array([gap, 0], dtype))
        np.testing.assert_allclose(softloss.log_softmax_backward(logy, dy), [y[1], -y[1]], 3e-7)
    # What is the same for all classes has no gradient.
    x = np.random.default_rng(0).standard_normal((3, 100)).astype(dtype)
    assert not softloss.softmax_backward(softloss.softmax(x), np.full_like(x, 1 / 3)).any()


FOCAL_LIMITS = {np.float32: (2, 3, 4), np.float64: (8, 3, 4)}  # of loss, gradient and Hessian


def assert_focal(name, x, target, gamma, true, what):
    """The Hessian's error is relative to the sum of the absolute terms."""
    loss, grad, hess, scale = true
    limits = FOCAL_LIMITS[x.dtype.type]
    actual = getattr(softloss, f"{name}_and_grad")(x, target, gamma=gamma, reduction="none")
    derivatives = getattr(softloss, f"{name}_grad_hess")(x, target, gamma=gamma, hess_min=-INF)
    assert_within(limits[0], actual.loss, exact.pair(loss), f"loss, {what}")
    assert_within(limits[1], actual.grad, exact.pair(grad), f"gradient, {what}")
    assert_within(limits[2], derivatives.hess, exact.pair(hess), f"Hessian, {what}", scale.astype(np.float64))


@both
@every_row
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_loss(gamma, name, dtype):
    for n in (1, 2, 3, 10, 17, 65):
        x, label, _ = rows(name, n, dtype)
        true = exact.softmax_focal_loss(x, label, gamma)
        assert_focal("softmax_focal_loss", x, label, gamma, true, f"n = {n}")


@both
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_loss(gamma, dtype):
    """Logits to where the loss, or the probability, is the smallest number."""
    far = 100 if dtype == np.float32 else 740
    x = both_signs(np.concatenate([np.linspace(1e-6, far, 300), [0, 1e-30]])).astype(dtype)
    hit = np.arange(x.size) % 3 != 0
    true = exact.sigmoid_focal_loss(x, hit, gamma)
    assert_focal("sigmoid_focal_loss", x, hit, gamma, true, f"gamma = {gamma}")


@both
@every_row
def test_brier_score(name, dtype):
    for n in LENGTHS:
        x, label, true = rows(name, n, dtype)
        score = softloss.brier_score(x, label, reduction="none")
        assert_within(1 if dtype == np.float32 else 8, score, true.brier_score(label), f"n = {n}")


@both
@every_row
def test_scores(name, dtype):
    for n in LENGTHS:
        x, label, _ = rows(name, n, dtype)
        hi, lo = truth(name, n, dtype, "softmax")
        top = softloss.softmax_topk(x, k=1)
        chosen = tuple(np.take_along_axis(part, top.index, -1) for part in (hi, lo))
        assert_within(2, top.prob, chosen, f"softmax_topk, n = {n}")
        hi, lo = truth(name, n, dtype, "cross_entropy")
        assert_within(2, softloss.token_logprobs(x, label).logprob, (-hi, -lo), f"token_logprobs, n = {n}")


@functools.cache
def long_rows(n, dtype):
    x = np.random.default_rng(n).uniform(-16, 16, (1, n)).astype(dtype)
    return x, exact.Rows(x, long=True)


@needs_long
def test_longdouble_is_exact_enough():
    x, estimate = long_rows(3000, np.float64)
    true, label = exact.Rows(x), np.array([int(x.argmax())])
    for function in (exact.Rows.softmax, exact.Rows.log_softmax, lambda rows: rows.cross_entropy(label)):
        (hi, lo), (true_hi, true_lo) = function(estimate), function(true)
        assert np.max(abs((hi - true_hi) + (lo - true_lo)) / np.spacing(abs(true_hi))) < 0.05


@needs_long
@both
@pytest.mark.parametrize("n", [10_000, 32_768, 32_769, 100_003, MANY])
def test_long_rows(n, dtype):
    x, true = long_rows(n, dtype)
    assert_within(2, softloss.softmax(x), true.softmax(), "softmax")
    assert_within(2, softloss.log_softmax(x), true.log_softmax(), "log_softmax")
    for label in (x.argmax(-1), x.argmin(-1)):
        loss = softloss.cross_entropy(x, label, reduction="none", dtype=dtype)
        assert_within(2, loss, true.cross_entropy(label), "cross_entropy")


@needs_long
@both
@pytest.mark.parametrize("n", [10_000, 32_769, MANY])
def test_gradient_on_long_rows(n, dtype):
    x, true = long_rows(n, dtype)
    for label in (x.argmax(-1), x.argmin(-1)):
        _, grad = softloss.cross_entropy_and_grad(x, label, dtype=dtype)
        assert_within(3, grad, true.cross_entropy_grad(label))


@needs_long
@both
@pytest.mark.parametrize("n", [30_000, 200_000, 1_000_000])
def test_long_equal_rows_beside_one_logit(n, dtype):
    """The rounding errors of equal terms have the same sign, and show in the loss if the sum of the others is small."""
    x = np.empty((1, n + 1), dtype)
    for log2_others in np.arange(-30, 4, 0.37 if n < 100_000 else 1.37):
        fill = dtype(0.8)
        top = dtype(0.8 + math.log(n) - log2_others * math.log(2))
        x[0] = fill
        x[0, 7] = top
        losses = []
        for threads in (1, 2, 3):
            with softloss.threads(threads):
                losses.append(softloss.cross_entropy(x, [7], reduction="none", dtype=dtype))
        np.testing.assert_array_equal(losses[1:], losses[:1] * 2)
        loss = losses[0]
        others = n * np.exp(LONG(fill) - LONG(top))
        assert_within(FAITHFUL[dtype], loss, exact.pair(np.log1p(others)[None]), f"others: 2^{log2_others:.2f}")
        assert_within(2, softloss.softmax(x)[0, 7], exact.pair(1 / (1 + others)), f"others: 2^{log2_others:.2f}")


# ---- losses with options drawn at random ---------------------------------------------


def random_rows(seed, dtype):
    """(x, label, temperature) of a random length, spread, tail and offset."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([2, 3, 5, 10, 17, 64, 100]))
    draw = (rng.standard_normal, rng.standard_cauchy, lambda shape: np.exp(1.5 * rng.standard_normal(shape)))[seed % 3]
    x = 10 ** rng.uniform(-3, 1.5) * draw((24, n)) + rng.choice([0, 0, 1, -3, 30, 1e4])
    return x.astype(dtype), rng.integers(0, n, 24), float(rng.choice([1, 1, 0.7, 3.1, 1e-3]))


@both
@pytest.mark.parametrize("seed", range(24))
def test_log_softmax_and_cross_entropy_with_random_options(seed, dtype):
    x, label, temperature = random_rows(seed, dtype)
    true = exact.Rows(x, temperature=temperature)
    limit = FAITHFUL[dtype]
    what = f"n = {x.shape[-1]}, temperature {temperature}"
    assert_within(limit, softloss.log_softmax(x, temperature=temperature), true.log_softmax(), what)
    assert_within(2, softloss.softmax(x, temperature=temperature), true.softmax(), what)
    top, (hi, lo) = softloss.softmax_topk(x, 2, temperature=temperature), true.softmax()
    chosen = tuple(np.take_along_axis(part, top.index, -1) for part in (hi, lo))
    assert_within(2, top.prob, chosen, f"softmax_topk, {what}")
    logprob = softloss.token_logprobs(x, label, temperature=temperature).logprob
    assert_within(limit, -logprob, true.cross_entropy(label), f"token_logprobs, {what}")
    options = {"reduction": "none", "temperature": temperature, "dtype": dtype}
    assert_within(limit, softloss.cross_entropy(x, label, **options), true.cross_entropy(label), what)
    rng = np.random.default_rng(seed)
    weight, sample = rng.uniform(0.1, 3, x.shape[-1]), rng.uniform(0.1, 3, len(x))
    loss = softloss.cross_entropy(x, label, weight=weight, sample_weight=sample, **options)
    factor = exact.numbers(weight[label]) * exact.numbers(sample)
    assert_within(limit, loss, true.cross_entropy(label, factor), f"weighted, {what}")
    target = rng.dirichlet(np.ones(x.shape[-1]), len(x)).astype(dtype)
    loss = softloss.cross_entropy(x, target, weight=weight, **options)
    assert_within(limit, loss, true.soft_cross_entropy(target, weight), f"soft targets, {what}")
    smoothing = rng.uniform()
    for aim, share in (
        (label, smoothed(label, x.shape[-1], weight, smoothing)),
        (target, exact.numbers(weight) * exact.smoothed(target, smoothing)),
    ):
        loss = softloss.cross_entropy(x, aim, weight=weight, label_smoothing=smoothing, **options)
        assert_within(limit, loss, true.shared_cross_entropy(share), f"smoothing {smoothing}, {what}")
    loss = softloss.cross_entropy(x, target, sample_weight=sample, **options)
    factor = exact.numbers(sample)[:, None]
    assert_within(limit, loss, true.soft_cross_entropy(target, factor), f"soft targets, sample weights, {what}")
    score = softloss.token_logprobs(x, label, temperature=temperature).logprob
    hi, lo = true.cross_entropy(label)
    assert_within(limit, score, (-hi, -lo), f"token_logprobs, {what}")


def smoothed(label, n, weight, smoothing):
    """The exact shares of the classes: weight ((1 - smoothing) [label] + smoothing / n)."""
    epsilon = exact.MP.mpf(smoothing)
    hit = np.arange(n) == np.asarray(label)[:, None]
    return exact.numbers(weight) * np.where(hit, 1 - epsilon + epsilon / n, epsilon / n)


@both
def test_cross_entropy_where_it_was_worst(dtype):
    x, label = np.array([[-4.211177779318201, 4.130518367639372]], dtype), np.array([0])
    for options in ({}, {"weight": [3.0, 1.0]}, {"temperature": 0.7}, {"weight": [3.0, 1.0], "temperature": 0.7}):
        true = exact.Rows(x, temperature=options.get("temperature", 1.0))
        weight = np.array(options.get("weight", [1.0, 1.0]))
        loss = softloss.cross_entropy(x, label, reduction="none", dtype=dtype, **options)
        assert_within(FAITHFUL[dtype], loss, true.cross_entropy(label, exact.numbers(weight[:1])), f"{options}")
        loss = softloss.cross_entropy(x, label, label_smoothing=0.1, reduction="none", dtype=dtype, **options)
        share = smoothed(label, 2, weight, 0.1)
        assert_within(FAITHFUL[dtype], loss, true.shared_cross_entropy(share), f"label smoothing, {options}")
    score = softloss.token_logprobs(np.array([[29.98, 70.26384854809025]], dtype), [0], temperature=1.3478).logprob
    hi, lo = exact.Rows(np.array([[29.98, 70.26384854809025]], dtype), temperature=1.3478).cross_entropy(np.array([0]))
    assert_within(FAITHFUL[dtype], score, (-hi, -lo))


@both
def test_weighted_losses_far_below_one(dtype):
    """Of confident rows: a weight shows what the loss before it has lost. Down to subnormal ones in float32."""
    rng = np.random.default_rng(0)
    gap = np.linspace(5, 103 if dtype is np.float32 else 700, 300)
    x = np.stack([np.zeros_like(gap), -gap, -gap - rng.uniform(0, 3, gap.size)], -1).astype(dtype)
    label, weight, sample = np.zeros(gap.size, int), np.array([55.307, 1, 1]), rng.uniform(1, 8, gap.size)
    true = exact.Rows(x)
    options = {"weight": weight, "sample_weight": sample, "reduction": "none", "dtype": dtype}
    factor = exact.numbers(weight[0]) * exact.numbers(sample)
    for layout in (x, np.asfortranarray(x)):
        loss = softloss.cross_entropy(layout, label, **options)
        assert_within(FAITHFUL[dtype], loss, true.cross_entropy(label, factor))
    target = np.tile(np.array([1, 0, 0], dtype), (gap.size, 1))
    assert_within(FAITHFUL[dtype], softloss.cross_entropy(x, target, **options), true.cross_entropy(label, factor))


@both
def test_hessian_where_it_was_worst(dtype):
    x = np.array([[-1.703874111175537, 4.419152736663818]], dtype)
    weight, scale = 0.30100155978243204, 0.7
    hess = softloss.cross_entropy_grad_hess(x, [0], sample_weight=[weight], hess_scale=scale).hess
    assert_within(4, hess, exact.Rows(x).hessian(exact.MP.mpf(weight) * exact.MP.mpf(scale)))


def normal_alone(actual, true, parts):
    """0 where a part of the result is subnormal: units would be those of other numbers."""
    (hi, lo), kept = true, abs(parts) >= np.finfo(actual.dtype).smallest_normal
    return np.where(kept, actual, 0), (np.where(kept, hi, 0), np.where(kept, lo, 0))


@both
@pytest.mark.parametrize("seed", range(24))
def test_gradients_and_hessians_with_random_options(seed, dtype):
    """Factors up to 1, as docs/numerics.rst has it; against classes, soft targets and with smoothing."""
    x, label, temperature = random_rows(seed, dtype)
    n, rng = x.shape[-1], np.random.default_rng([seed, 1])
    weight, sample = 2 ** rng.uniform(-6, 0, n), 2 ** rng.uniform(-6, 0, len(x))
    smoothing, scale = rng.uniform(), rng.uniform(0.1, 1)
    temperature = max(temperature, 1.0)
    target = rng.dirichlet(np.ones(n), len(x)).astype(dtype)
    true, what = exact.Rows(x, temperature=temperature), f"n = {n}, temperature {temperature}"
    p, _ = true.softmax()
    factor = exact.numbers(sample)[:, None] / exact.MP.mpf(temperature)
    weights = {"weight": weight, "sample_weight": sample}
    options = {"temperature": temperature, "dtype": dtype, **weights}

    of_label = exact.numbers(weight[label])[:, None] * factor
    total = (exact.numbers(weight[label]) * exact.numbers(sample)).sum()
    for reduction, norm in (("sum", 1), ("none", 1), ("mean", total)):
        grad = softloss.cross_entropy_and_grad(x, label, reduction=reduction, **options).grad
        expected = true.cross_entropy_grad(label, of_label / norm)
        assert_within(3, *normal_alone(grad, expected, np.minimum(abs(expected[0]), p)), f"{reduction}, {what}")

    for kind, aim, share, more in (
        ("soft", target, exact.numbers(weight) * exact.numbers(target), {}),
        ("smoothed", label, smoothed(label, n, weight, smoothing), {"label_smoothing": smoothing}),
    ):
        grad = softloss.cross_entropy_and_grad(x, aim, reduction="sum", **options, **more).grad
        expected, larger = true.shared_grad(share, factor)
        got, expected = normal_alone(grad, expected, np.minimum(larger, p))
        assert_within(3, got, expected, f"{kind}, {what}", larger)

    of_label = exact.numbers(weight[label])[:, None] * exact.numbers(sample)[:, None] * exact.MP.mpf(scale)
    true = exact.Rows(x)
    expected = true.hessian(of_label)
    hess = softloss.cross_entropy_grad_hess(x, label, hess_scale=scale, **weights).hess
    assert_within(4, *normal_alone(hess, expected, np.minimum(expected[0], true.softmax()[0])), f"Hessian, {what}")


@both
@pytest.mark.parametrize("seed", range(8))
def test_losses_of_probabilities_with_random_options(seed, dtype):
    """nll_loss, categorical_cross_entropy and their gradients, against classes and soft targets."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([2, 3, 10, 65, 100]))
    p = rng.dirichlet(np.full(n, rng.choice([0.3, 1, 10])), 24).astype(dtype)
    p = np.clip(p, 1e-20, 1).astype(dtype)
    label, target = rng.integers(0, n, 24), rng.dirichlet(np.ones(n), 24).astype(dtype)
    weight, sample = 2 ** rng.uniform(-6, 6, n), 2 ** rng.uniform(-6, 6, 24)
    of_sample = exact.numbers(sample)[:, None]
    weights = {"weight": weight, "sample_weight": sample}
    hard = exact.numbers(np.arange(n) == label[:, None])
    for name, x, cost, slope in (
        ("nll_loss", np.log(p), lambda x: -exact.numbers(x), lambda x: exact.numbers(-np.ones_like(x))),
        ("categorical_cross_entropy", p, lambda x: -exact.logarithms(x), lambda x: -1 / exact.numbers(x)),
    ):
        for aim, q in ((label, hard), (target, exact.numbers(target))):
            share, what = exact.numbers(weight) * q * of_sample, f"{name}, n = {n}, {aim.ndim - 1} soft"
            loss = getattr(softloss, name)(x, aim, reduction="none", dtype=dtype, **weights)
            assert_within(2, loss, exact.pair((share * cost(x)).sum(-1)), what)
            grad = getattr(softloss, f"{name}_and_grad")(x, aim, reduction="sum", dtype=dtype, **weights).grad
            assert_within(3, grad, exact.pair(share * slope(x)), f"gradient, {what}")


@both
@pytest.mark.parametrize("factor", [1e-25, 1e-30, 1e-36, 3e-38])
def test_gradient_for_tiny_factors(factor, dtype):
    """As long as the results are normal numbers."""
    factor = factor if dtype is np.float32 else factor**8
    x = np.random.default_rng(0).standard_normal((40, 5)).astype(dtype)
    label = np.arange(40) % 5
    weight = np.full(40, factor)
    weight[::3] = 1
    _, grad = softloss.cross_entropy_and_grad(x, label, sample_weight=weight, reduction="sum", dtype=dtype)
    hi, lo = exact.Rows(x).cross_entropy_grad(label)
    true = (exact.numbers(hi) + exact.numbers(lo)) * exact.numbers(weight)[:, None]
    normal = abs(grad) >= np.finfo(dtype).smallest_normal
    assert normal.mean() > 0.4
    hi, lo = exact.pair(true)
    assert_within(3, np.where(normal, grad, 0), (np.where(normal, hi, 0), np.where(normal, lo, 0)), f"{factor}")


@both
def test_gradient_and_hessian_for_large_factors(dtype):
    """Up to the largest number, and infinity, of which the gradient is infinite where it is not 0."""
    info = np.finfo(dtype)
    x, label = np.array([[0, -20, -40], [0, 0, -25]], dtype), np.array([0, 1])
    whole = softloss.cross_entropy_grad_hess(x, label)
    for factor in (2.0**20, 0.3 * float(info.max), float(info.max)):
        weight = np.full(2, factor)
        scaled = softloss.cross_entropy_grad_hess(x, label, sample_weight=weight)
        grad = softloss.cross_entropy_and_grad(x, label, sample_weight=weight, reduction="sum").grad
        np.testing.assert_array_equal(grad, scaled.grad)
        for y, one in zip(scaled, whole, strict=True):
            np.testing.assert_allclose(y, one.astype(np.longdouble) * factor, rtol=8 * info.eps)
    for sign in (1, -1):
        scaled = softloss.cross_entropy_grad_hess(x, label, sample_weight=np.full(2, sign * INF), hess_min=0)
        np.testing.assert_array_equal(scaled.grad, sign * INF * np.sign(whole.grad))
        np.testing.assert_array_equal(scaled.hess, INF if sign > 0 else 0)


@both
@pytest.mark.parametrize("function", ["indices", "soft", "smoothed", "nll", "categorical", "binary", "with_logits"])
def test_every_gradient_for_tiny_weights(function, dtype):
    """The gradient is that of weight 1, times the weight, down to the smallest normal number."""
    rng = np.random.default_rng(0)
    x, label = rng.standard_normal((40, 5)).astype(dtype), np.arange(40) % 5
    p = softloss.softmax(x)
    calls = {
        "indices": lambda w: softloss.cross_entropy_and_grad(x, label, sample_weight=w, reduction="sum"),
        "soft": lambda w: softloss.cross_entropy_and_grad(x, p[::-1], sample_weight=w, reduction="sum"),
        "smoothed": lambda w: softloss.cross_entropy_and_grad(
            x, label, sample_weight=w, label_smoothing=0.1, reduction="sum"
        ),
        "nll": lambda w: softloss.nll_loss_and_grad(x, p, sample_weight=w, reduction="sum"),
        "categorical": lambda w: softloss.categorical_cross_entropy_and_grad(
            p, label, sample_weight=w, reduction="sum"
        ),
        "binary": lambda w: softloss.binary_cross_entropy_and_grad(p, p[::-1], weight=w[:, None], reduction="sum"),
        "with_logits": lambda w: softloss.binary_cross_entropy_with_logits_and_grad(
            x, p, weight=w[:, None], reduction="sum"
        ),
    }
    info = np.finfo(dtype)
    whole = calls[function](np.ones(40)).grad.astype(np.float64)
    for power in (0.3, 0.7, 0.9, 0.97):
        weight = np.full(40, float(info.smallest_normal) ** power)
        weight[::3] = 1
        true = whole * weight[:, None]
        grad = calls[function](weight).grad
        normal = abs(true) >= info.smallest_normal
        assert normal[1::3].any()
        larger = p.max() * weight[:, None] if function in ("soft", "smoothed") else abs(true)
        assert np.all(abs(grad - true)[normal] <= 8 * info.eps * np.broadcast_to(larger, true.shape)[normal])


@needs_long
def test_logsumexp_of_log_probabilities():
    """Long rows whose result is the rounding error of their elements."""
    for n in (1000, 5000, 70_000):
        for spread in (1, 5):
            x = spread * np.random.default_rng(n).standard_normal((3, n))
            x = softloss.log_softmax(x).astype(np.float32)
            total = np.exp(x.astype(LONG)).sum(-1)
            for layout in (x, np.asfortranarray(x)):
                assert_within(1, softloss.logsumexp(layout), exact.pair(np.log1p(total - 1)), f"n = {n}")


def test_logsumexp_that_cancels():
    """Where the logarithm is nearly minus the largest logit."""
    rows_ = [np.array([[-0.7, -0.69]], np.float32)]
    for n in (2, 3, 10, 64, 100):
        x = np.random.default_rng(n).standard_normal((200, n))
        x -= np.log(np.exp(x).sum(-1, keepdims=True)) * (1 + np.random.default_rng(n).uniform(-1e-4, 0.4, (200, 1)))
        rows_.append(x.astype(np.float32))
    for x in rows_:
        true = exact.Rows(x).logsumexp()
        for layout in (x, np.asfortranarray(x)):
            assert_within(1, softloss.logsumexp(layout), true, f"n = {x.shape[-1]}")


# ---- temperatures of every size ---------------------------------------------


def test_differences_that_overflow_before_the_temperature():
    x = np.array([[3e38, -3e38, 1e38]], np.float32)
    true = exact.Rows(x, temperature=1e38)
    assert_within(1, softloss.log_softmax(x, temperature=1e38), true.log_softmax())
    assert_within(2, softloss.softmax(x, temperature=1e38), true.softmax())
    x = np.array([[1.7e308, -1.7e308]])
    loss = softloss.cross_entropy(x, [1], temperature=10, reduction="none")
    assert_within(1.5, loss, exact.Rows(x, temperature=10).cross_entropy(np.array([1])))


@both
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-39, 1e39, 1e300, 1e308])
def test_every_positive_temperature_is_taken(temperature, dtype):
    """The largest alone below, all alike above; what lies at -inf counts for nothing."""
    x = np.array([[1.0, 0.5, 1.0, -INF]] * 20, dtype)
    share = [0.5, 0, 0.5, 0] if temperature < 1 else [1 / 3, 1 / 3, 1 / 3, 0]
    for layout in (x, np.tile(x, 1)[:, ::-1]):
        y = softloss.softmax(layout, temperature=temperature)
        np.testing.assert_array_equal(np.sort(y), np.sort(np.array([share] * 20, dtype)))
    loss = softloss.cross_entropy(x, np.zeros(20, int), temperature=temperature, reduction="none", dtype=dtype)
    np.testing.assert_array_equal(loss, dtype(math.log(2 if temperature < 1 else 3)))
    target = np.array([[1, 0, 0, 0]] * 20, dtype)
    soft = softloss.cross_entropy(x, target, temperature=temperature, reduction="none", dtype=dtype)
    np.testing.assert_array_equal(soft, loss)
    logs = softloss.log_softmax(x, temperature=temperature)
    np.testing.assert_array_equal(logs[:, 3], -INF)
    np.testing.assert_array_equal(logs[:, 0], dtype(-math.log(2 if temperature < 1 else 3)))


@both
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-39, 1e39, 1e300, 1e308])
def test_every_function_takes_every_temperature(temperature, dtype):
    x, label = np.array([[1.0, 0.5, 1.0, -INF]] * 20, dtype), np.zeros(20, int)
    share = np.array([0.5, 0, 0.5, 0] if temperature < 1 else [1 / 3, 1 / 3, 1 / 3, 0])
    entropy = math.log(2 if temperature < 1 else 3)
    top = softloss.softmax_topk(x, 2, temperature=temperature)
    np.testing.assert_array_equal(top.prob, [share[[0, 2]].astype(dtype)] * 20)
    scores = softloss.token_logprobs(x, label, top_k=1, temperature=temperature)
    for logprob in (scores.logprob, scores.top_logprob[:, 0], -scores.entropy):
        np.testing.assert_allclose(logprob, -entropy, rtol=2 * np.finfo(dtype).eps)
    target = np.array([[0.5, 0, 0.5, 0]] * 20, dtype)
    for aim, p in ((label, np.eye(4)[0]), (target, target[0])):
        loss, grad = softloss.cross_entropy_and_grad(x, aim, temperature=temperature, reduction="none", dtype=dtype)
        np.testing.assert_allclose(loss, entropy, rtol=2 * np.finfo(dtype).eps)
        with np.errstate(over="ignore", under="ignore"):
            expected = np.clip((share - p) / temperature, -np.finfo(dtype).max, np.finfo(dtype).max)
        np.testing.assert_array_equal(np.sign(grad), [np.sign(expected.astype(dtype))] * 20)


@both
def test_scores_and_soft_targets_where_differences_overflow(dtype):
    large, temperature = (3e38, 1e38) if dtype is np.float32 else (1.7e308, 1e308)
    x = np.array([[large, -large, large / 3]], dtype)
    true = exact.Rows(x, temperature=temperature)
    hi, lo = true.cross_entropy(np.array([1]))
    scores = softloss.token_logprobs(x, [1], top_k=3, temperature=temperature)
    assert_within(2, scores.logprob, (-hi, -lo))
    every, (p, _) = true.log_softmax(), true.softmax()
    np.testing.assert_allclose(scores.entropy, -(p * every[0]).sum(-1), rtol=4 * np.finfo(dtype).eps)
    assert_within(2, scores.top_logprob, tuple(np.take_along_axis(part, scores.top_index, -1) for part in every))
    target = np.array([[0.25, 0.5, 0.25]], dtype)
    for options in ({}, {"weight": [1.0, 2.0, 0.5]}):
        loss = softloss.cross_entropy(x, target, temperature=temperature, reduction="none", dtype=dtype, **options)
        assert_within(2, loss, true.soft_cross_entropy(target, np.array(options.get("weight", 1.0))), f"{options}")
    loss = softloss.cross_entropy(x, [1], label_smoothing=0.25, temperature=temperature, reduction="none", dtype=dtype)
    assert_within(2, loss, true.shared_cross_entropy(smoothed([1], 3, 1.0, 0.25)))


def test_a_temperature_of_zero_says_what_to_do():
    with pytest.raises(ValueError, match="argmax"):
        softloss.softmax([1.0, 2.0], temperature=0)


# ---- elements ---------------------------------------------


@functools.cache
def logits(dtype):
    """Every exponent, and the inputs where results become subnormal, and 0."""
    info = np.finfo(dtype)
    exponents = np.ldexp(1.37, np.arange(info.minexp, 11))
    ends = -np.log([LONG(info.smallest_normal), LONG(info.smallest_subnormal)]).astype(np.float64)
    near = np.concatenate([end * np.linspace(0.98, 1.02, 100) for end in ends])
    even = np.random.default_rng(0).uniform(0, 1.1 * ends[1], 1500)
    return both_signs(np.concatenate([exponents, near, even])).astype(dtype)


@both
def test_sigmoid(dtype):
    x = logits(dtype)
    assert_within(2, softloss.sigmoid(x), exact.sigmoid(x))
    assert_within(FAITHFUL[dtype], softloss.log_sigmoid(x), exact.log_sigmoid(x))


@both
def test_logarithms_of_sigmoids_near_zero(dtype):
    """Where the result is near log 2, and was 1.24 ULP off."""
    x = np.concatenate([[-0.0002805122, -0.000833979], 10 ** np.random.default_rng(0).uniform(-6, 0, 2000)])
    x = both_signs(x).astype(dtype)
    assert_within(FAITHFUL[dtype], softloss.log_sigmoid(x), exact.log_sigmoid(x))
    z = np.random.default_rng(1).random(x.size).astype(dtype)
    z[1] = 0.2025278
    loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none")
    assert_within(FAITHFUL[dtype], loss, exact.binary_cross_entropy_with_logits(x, z))


@both
def test_binary_cross_entropy_with_logits(dtype):
    x = logits(dtype)
    for z in (0.0, 1.0, 0.25, np.random.default_rng(1).random(x.size)):
        z = np.broadcast_to(np.asarray(z, dtype), x.shape)
        loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none")
        assert_within(FAITHFUL[dtype], loss, exact.binary_cross_entropy_with_logits(x, z), f"target {z[0]}")


@both
def test_gradient_of_binary_cross_entropy_with_logits(dtype):
    x = logits(dtype)
    for z in (0.0, 1.0):
        z = np.broadcast_to(np.asarray(z, dtype), x.shape)
        _, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, z, reduction="sum")
        assert_within(3, grad, exact.binary_cross_entropy_with_logits_grad(x, z), f"target {z[0]}")


def weights(size, dtype, seed):
    """Weights and positive weights with many digits, of different magnitudes."""
    rng = np.random.default_rng(seed)
    return {name: np.exp2(rng.uniform(-4, 4, size)).astype(dtype) for name in ("weight", "pos_weight")}


@both
@pytest.mark.parametrize("seed", range(4))
def test_weighted_binary_cross_entropy_with_logits(seed, dtype):
    """The result is rounded once, after weights; also with soft targets, if nothing cancels."""
    x = np.random.default_rng(seed).uniform(-30, 30, 2000).astype(dtype)
    hard = (np.arange(x.size) % 2).astype(dtype)
    soft = np.random.default_rng(seed).random(x.size).astype(dtype)
    both = weights(x.size, dtype, seed)
    for given in (both, {"weight": both["weight"]}, {"pos_weight": both["pos_weight"]}):
        for z in (hard, soft):
            loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none", **given)
            assert_within(
                FAITHFUL[dtype], loss, exact.binary_cross_entropy_with_logits(x, z, **given), f"loss, {sorted(given)}"
            )
            _, hess = softloss.binary_cross_entropy_with_logits_grad_hess(x, z, hess_scale=2 / 3, **given)
            assert_within(3, hess, exact.binary_cross_entropy_with_logits_hess(x, z, 2 / 3, **given), sorted(given))
        _, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, soft, reduction="sum", **given)
        true, larger = exact.binary_cross_entropy_with_logits_parts(x, soft, **given)
        assert_within(3, grad, true, f"soft, {sorted(given)}", larger)
        for reduction, factor in (("sum", 1), ("mean", exact.MP.mpf(1) / x.size)):
            _, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, hard, reduction=reduction, **given)
            true = exact.binary_cross_entropy_with_logits_grad(x, hard, factor, **given)
            assert_within(3, grad, true, f"{reduction}, {sorted(given)}")


@both
def test_binary_cross_entropy_with_logits_where_it_was_worst(dtype):
    x, z, pos_weight = (np.array([v], dtype) for v in (-0.0026009942, 0.46545762, 4.8378096))
    for w in (pos_weight, pos_weight.astype(np.float64), np.array([4.8378096])):
        loss = softloss.binary_cross_entropy_with_logits(x, z, pos_weight=w, reduction="none")
        assert_within(FAITHFUL[dtype], loss, exact.binary_cross_entropy_with_logits(x, z, pos_weight=w))


@both
def test_weights_of_binary_losses_below_the_smallest_normal_number(dtype):
    """The product with the weights keeps the digits that a subnormal number has not."""
    top = -math.log(np.finfo(dtype).smallest_normal)
    x = np.linspace(top - 3, top + 6, 300).astype(dtype)
    given = {"weight": np.full_like(x, 54.236637), "pos_weight": np.full_like(x, 15.296093)}
    for z, logits in ((np.ones_like(x), x), (np.zeros_like(x), -x)):
        loss = softloss.binary_cross_entropy_with_logits(logits, z, reduction="none", **given)
        assert_within(FAITHFUL[dtype], loss, exact.binary_cross_entropy_with_logits(logits, z, **given))


def test_binary_cross_entropy_with_weights_of_float64():
    """They are not rounded to float32 first."""
    x = np.array([-0.0026009942, *np.random.default_rng(0).uniform(-8, 8, 500)], np.float32)
    z = np.array([0.46545762, *np.random.default_rng(1).random(500)], np.float32)
    for seed in range(3):
        given = {name: np.exp2(np.random.default_rng(seed).uniform(-4, 4, x.size)) for name in ("weight", "pos_weight")}
        given["pos_weight"][0] = 4.8378096
        loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none", **given)
        assert_within(1, loss, exact.binary_cross_entropy_with_logits(x, z, **given))


@functools.cache
def probabilities(dtype):
    tiny = np.ldexp(1.37, np.arange(np.finfo(dtype).minexp, 0)).astype(dtype)
    tiny = tiny[tiny > 1e-43]  # below exp(-100) the logarithm is cut off
    return np.concatenate([tiny, np.asarray(1, dtype) - tiny[tiny > np.finfo(dtype).eps]]).astype(dtype)


@both
def test_binary_cross_entropy(dtype):
    p = probabilities(dtype)
    for z in (0.0, 1.0, 0.25):
        z = np.full_like(p, z)
        loss = softloss.binary_cross_entropy(p, z, reduction="none")
        assert_within(2, loss, exact.binary_cross_entropy(p, z), f"target {z[0]}")
        weight = weights(p.size, dtype, 0)["weight"]
        loss = softloss.binary_cross_entropy(p, z, weight=weight, reduction="none")
        assert_within(2, loss, exact.binary_cross_entropy(p, z, weight), f"weighted, target {z[0]}")


@both
def test_gradient_of_binary_cross_entropy(dtype):
    """(p - z) / (p (1 - p)); PyTorch and softloss replace a denominator below 1e-12 by it."""
    p = probabilities(dtype)
    p = p[(p > 2e-12) & (p < 1 - 2e-12)]
    for z in (0.0, 1.0):
        z = np.full_like(p, z)
        _, grad = softloss.binary_cross_entropy_and_grad(p, z, reduction="sum")
        assert_within(3, grad, exact.binary_cross_entropy_grad(p, z), f"target {z[0]}")
        weight = weights(p.size, dtype, 0)["weight"]
        _, grad = softloss.binary_cross_entropy_and_grad(p, z, weight=weight, reduction="sum")
        assert_within(3, grad, exact.binary_cross_entropy_grad(p, z, weight), f"weighted, target {z[0]}")


# ---- halves ---------------------------------------------


@pytest.mark.parametrize("dtype", HALVES, ids=lambda dtype: dtype.__name__)
def test_halves_are_the_float32_result_rounded_once(dtype):
    x = np.random.default_rng(0).uniform(-20, 20, (50, 130)).astype(dtype)
    wide = x.astype(np.float32)
    for function in (softloss.softmax, softloss.log_softmax, softloss.sigmoid, softloss.log_sigmoid):
        np.testing.assert_array_equal(function(x).view(np.uint16), function(wide).astype(dtype).view(np.uint16))
    label = np.arange(50)
    loss = softloss.cross_entropy(x, label, reduction="none")
    assert loss.dtype == np.float32
    np.testing.assert_array_equal(loss, softloss.cross_entropy(wide, label, reduction="none"))


# ---- inputs that are known to break others ---------------------------------------------


@both
def test_near_zero(dtype):
    """scipy/scipy#18295: logsumexp([0, -40]) was 0. pytorch/pytorch#113708: log_softmax of the largest logit is 0 from
    a gap of 17 on (float32), though it has 2^-126 to 2^-1022 to go."""
    for gap in (17.0, 40.0, 80.0, 1 - math.log(np.finfo(dtype).smallest_normal / np.finfo(dtype).eps)):
        x = np.array([[0, -gap]], dtype)
        true = exact.Rows(x)
        assert softloss.logsumexp(x)[0] > 0
        assert_within(2, softloss.logsumexp(x), true.logsumexp(), f"gap {gap}")
        assert_within(2, softloss.log_softmax(x), true.log_softmax(), f"gap {gap}")
        loss = softloss.cross_entropy(x, [0], dtype=dtype)
        assert loss > 0
        assert_within(2, [loss], true.cross_entropy(np.array([0])), f"gap {gap}")


@both
def test_large_equal_logits(dtype):
    """If the logarithm is added to the maximum before the logit is subtracted, log 2 is lost."""
    for large in (1e8, -1e8, 1e30):
        x = np.array([[large, large]], dtype)
        assert softloss.cross_entropy(x, [0]) == dtype(math.log(2))
        np.testing.assert_array_equal(softloss.log_softmax(x), dtype(-math.log(2)))
        np.testing.assert_array_equal(softloss.softmax(x), 0.5)


def infinite_logits(dtype):
    return np.array([INF, -INF, INF, -INF, INF, -INF], dtype), np.array([1, 0, 0, 1, 0.5, 0.5], dtype)


@both
def test_infinite_logits_of_binary_cross_entropy(dtype):
    x, z = infinite_logits(dtype)
    loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none")
    np.testing.assert_array_equal(loss, [0, 0, INF, INF, INF, INF])


@both
def test_gradient_at_infinite_logits_of_binary_cross_entropy(dtype):
    x, z = infinite_logits(dtype)
    _, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, z, reduction="sum")
    np.testing.assert_array_equal(grad, [0, 0, 1, -1, 0.5, -0.5])


@both
def test_zero_times_infinity_in_probability_targets(dtype):
    x = np.array([[1.0, 2.0, -INF], [-INF, 0.0, -INF]], dtype)
    q = np.array([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0]], dtype)
    loss = softloss.cross_entropy(x, q, reduction="none", dtype=dtype)
    log_total = math.log1p(math.exp(-1))
    assert_within(2, loss, (np.array([0.25 + log_total, 0.0]), np.zeros(2)))
    np.testing.assert_array_equal(softloss.nll_loss(softloss.log_softmax(x), q, reduction="none")[1], 0)
    np.testing.assert_array_equal(softloss.categorical_cross_entropy(softloss.softmax(x), q, reduction="none")[1], 0)


# ---- sums and means over many rows ---------------------------------------------


@pytest.fixture
def each_number_of_threads():
    """Call f on 1, 2, 3 and 7 threads, and return the result, which must be the same."""

    def run(f):
        results = []
        for threads in (1, 2, 3, 7):
            with softloss.threads(threads):
                results.append(f())
        assert len(set(map(np.ndarray.tobytes, map(np.asarray, results)))) == 1, results
        return results[0]

    return run


def _sum_limit(dtype):
    return 1 if dtype is np.float32 else 2


@both
def test_sum_and_mean_of_given_losses(dtype, each_number_of_threads):
    """The sum of nll_loss over losses of very different magnitudes is that of math.fsum."""
    rng = np.random.default_rng(0)
    losses = np.exp(rng.uniform(-18, 18, MANY)).astype(dtype)
    log_probs, label = np.stack([-losses, np.zeros(MANY, dtype)], -1), np.zeros(MANY, np.int64)
    total = math.fsum(losses)
    for reduction, true in (("sum", total), ("mean", total / MANY)):
        result = each_number_of_threads(lambda r=reduction: softloss.nll_loss(log_probs, label, reduction=r))
        assert result.dtype == dtype
        assert_within(_sum_limit(dtype), [result], (np.array([true]), np.zeros(1)), reduction)


@both
@pytest.mark.parametrize("seed", range(40))
def test_mean_with_weights(seed, dtype):
    """Sum and denominator are divided before either is rounded."""
    x, label, temperature = random_rows(seed, dtype)
    count = 1 + seed % 8  # with few rows, each rounding shows
    x, label = x[:count], label[:count]
    rng = np.random.default_rng(seed)
    weight, sample = np.exp(rng.uniform(-3, 3, x.shape[-1])), np.exp(rng.uniform(-3, 3, count))
    for options, factor in (
        ({"weight": weight}, exact.numbers(weight[label])),
        ({"sample_weight": sample}, exact.numbers(sample)),
        ({"weight": weight, "sample_weight": sample}, exact.numbers(weight[label]) * exact.numbers(sample)),
    ):
        loss = softloss.cross_entropy(x, label, temperature=temperature, dtype=dtype, **options)
        hi, lo = exact.Rows(x, temperature=temperature).cross_entropy(label, factor)
        mean = (exact.numbers(hi) + exact.numbers(lo)).sum() / factor.sum()
        assert_within(_sum_limit(dtype), [loss], exact.pair(exact.numbers([0.0]) + mean), f"{options.keys()}")


@needs_long
@both
@pytest.mark.parametrize("shift", [0, 20], ids=["plain", "easy"])
def test_sum_and_mean_of_cross_entropy(shift, dtype, each_number_of_threads):
    """Against the exact sum of the exact losses; the losses of confident rows are near 1e-8."""
    x = 3 * np.random.default_rng(0).standard_normal((MANY, 3)).astype(dtype)
    label = np.arange(MANY) % 3
    x[np.arange(MANY), label] += shift
    hi, lo = exact.Rows(np.clip(x, -15, 25), long=True).cross_entropy(label)
    total = math.fsum(hi) + math.fsum(lo)
    x = np.clip(x, -15, 25)
    for reduction, true in (("sum", total), ("mean", total / MANY)):
        result = each_number_of_threads(lambda r=reduction: softloss.cross_entropy(x, label, reduction=r))
        assert_within(_sum_limit(dtype), [result], (np.array([true]), np.zeros(1)), reduction)


@both
def test_sum_and_mean_of_binary_cross_entropy(dtype, each_number_of_threads):
    x = 3 * np.random.default_rng(0).standard_normal(MANY).astype(dtype)
    z = (np.arange(MANY) % 2).astype(dtype)
    cost = np.where(z == 1, -x, x).astype(LONG)
    losses = np.maximum(cost, 0) + np.log1p(np.exp(-abs(cost)))
    hi = losses.astype(np.float64)
    total = math.fsum(hi) + math.fsum((losses - hi).astype(np.float64))
    for reduction, true in (("sum", total), ("mean", total / MANY)):
        result = each_number_of_threads(
            lambda r=reduction: softloss.binary_cross_entropy_with_logits(x, z, reduction=r)
        )
        assert_within(_sum_limit(dtype), [result], (np.array([true]), np.zeros(1)), reduction)
