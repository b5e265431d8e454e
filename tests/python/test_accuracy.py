"""The accuracy that is promised, against exact arithmetic: see docs/numerics.rst for the table.

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
    """Subnormal results are right to the units of the smallest normal number, as all others are to theirs."""
    for n in LENGTHS:
        x, _, _ = rows(name, n, dtype)
        assert_within(2, softloss.softmax(x), truth(name, n, dtype, "softmax"), f"softmax, n = {n}")
        assert_within(2, softloss.log_softmax(x), truth(name, n, dtype, "log_softmax"), f"log_softmax, n = {n}")


@both
@every_row
def test_logsumexp(name, dtype):
    """It may pass through zero: there its unit is that of the largest logit."""
    for n in LENGTHS:
        x, _, _ = rows(name, n, dtype)
        assert_within(2, softloss.logsumexp(x), truth(name, n, dtype, "logsumexp"), f"n = {n}", abs(x).max(-1))


@both
@every_row
def test_cross_entropy(name, dtype):
    """Down to the smallest losses: those of a label far above all others."""
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
    """They are differences, dy minus a weighted sum: their unit is that of the larger part."""
    for n in LENGTHS:
        x, _, _ = rows(name, n, dtype)
        dy = np.random.default_rng(0).uniform(-3, 3, x.shape).astype(dtype)
        y, logy = softloss.softmax(x), softloss.log_softmax(x)
        part = y * np.maximum(abs(dy), abs((y * dy).sum(-1, keepdims=True)))
        assert_within(3, softloss.softmax_backward(y, dy), exact.softmax_backward(y, dy), f"n = {n}", part)
        part = np.maximum(abs(dy), np.exp(logy) * abs(dy.sum(-1, keepdims=True)))
        true = exact.log_softmax_backward(logy, dy)
        assert_within(3, softloss.log_softmax_backward(logy, dy), true, f"n = {n}", part)


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
def test_long_equal_rows_beside_one_logit(dtype):
    """Rounding errors of equal terms all have one sign, and the loss shows them when the others are few beside 1."""
    n = 30_000
    for log2_others in np.arange(-30, 4, 0.37):
        fill = dtype(0.8)
        top = dtype(0.8 + math.log(n) - log2_others * math.log(2))
        x = np.full((1, n + 1), fill)
        x[0, 7] = top
        loss = softloss.cross_entropy(x, [7], reduction="none", dtype=dtype)
        others = n * np.exp(LONG(fill) - LONG(top))
        assert_within(2, loss, exact.pair(np.log1p(others)[None]), f"others: 2^{log2_others:.2f}")
        assert_within(2, softloss.softmax(x)[0, 7], exact.pair(1 / (1 + others)), f"others: 2^{log2_others:.2f}")


# ---- elements ---------------------------------------------


@functools.cache
def logits(dtype):
    """Every exponent, and the numbers where results end: at the smallest normal and at the smallest of all."""
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
    assert_within(2, softloss.log_sigmoid(x), exact.log_sigmoid(x))


@both
def test_binary_cross_entropy_with_logits(dtype):
    x = logits(dtype)
    for z in (0.0, 1.0, 0.25, np.random.default_rng(1).random(x.size)):
        z = np.broadcast_to(np.asarray(z, dtype), x.shape)
        loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none")
        assert_within(2, loss, exact.binary_cross_entropy_with_logits(x, z), f"target {z[0]}")


@both
def test_gradient_of_binary_cross_entropy_with_logits(dtype):
    x = logits(dtype)
    for z in (0.0, 1.0):
        z = np.broadcast_to(np.asarray(z, dtype), x.shape)
        _, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, z, reduction="sum")
        assert_within(3, grad, exact.binary_cross_entropy_with_logits_grad(x, z), f"target {z[0]}")


def weights(size, dtype, seed):
    """Weights and positive weights: numbers of many digits, each of a size of its own."""
    rng = np.random.default_rng(seed)
    return {name: np.exp2(rng.uniform(-4, 4, size)).astype(dtype) for name in ("weight", "pos_weight")}


@both
@pytest.mark.parametrize("seed", range(4))
def test_weighted_binary_cross_entropy_with_logits(seed, dtype):
    """Weights take part before the result is rounded, soft targets too where nothing cancels."""
    x = np.random.default_rng(seed).uniform(-30, 30, 2000).astype(dtype)
    hard = (np.arange(x.size) % 2).astype(dtype)
    soft = np.random.default_rng(seed).random(x.size).astype(dtype)
    both = weights(x.size, dtype, seed)
    for given in (both, {"weight": both["weight"]}, {"pos_weight": both["pos_weight"]}):
        for z in (hard, soft):
            loss = softloss.binary_cross_entropy_with_logits(x, z, reduction="none", **given)
            assert_within(2, loss, exact.binary_cross_entropy_with_logits(x, z, **given), f"loss, {sorted(given)}")
            _, hess = softloss.binary_cross_entropy_with_logits_grad_hess(x, z, hess_scale=2 / 3, **given)
            assert_within(3, hess, exact.binary_cross_entropy_with_logits_hess(x, z, 2 / 3, **given), sorted(given))
        for reduction, factor in (("sum", 1), ("mean", exact.MP.mpf(1) / x.size)):
            _, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, hard, reduction=reduction, **given)
            true = exact.binary_cross_entropy_with_logits_grad(x, hard, factor, **given)
            assert_within(3, grad, true, f"{reduction}, {sorted(given)}")


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
    """Where the logarithm is added to the maximum before the logit is taken off, log 2 is lost."""
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
    """Calls f on 1, 2, 3 and 7 threads: the result, which must be the same."""

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
    """nll_loss adds what it is given, of very different sizes: the sum is math.fsum's."""
    rng = np.random.default_rng(0)
    losses = np.exp(rng.uniform(-18, 18, MANY)).astype(dtype)
    log_probs, label = np.stack([-losses, np.zeros(MANY, dtype)], -1), np.zeros(MANY, np.int64)
    total = math.fsum(losses)
    for reduction, true in (("sum", total), ("mean", total / MANY)):
        result = each_number_of_threads(lambda r=reduction: softloss.nll_loss(log_probs, label, reduction=r))
        assert result.dtype == dtype
        assert_within(_sum_limit(dtype), [result], (np.array([true]), np.zeros(1)), reduction)


@needs_long
@both
@pytest.mark.parametrize("shift", [0, 20], ids=["plain", "easy"])
def test_sum_and_mean_of_cross_entropy(shift, dtype, each_number_of_threads):
    """Against the exact sum of the exact losses; easy rows have losses near 1e-8."""
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
