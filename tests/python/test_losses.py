"""cross_entropy, categorical_cross_entropy, nll_loss: all combinations of options against the oracle; edge cases.

Errors are in test_errors.py, exact accuracy in test_accuracy.py, the binary losses in test_binary.py.
"""

import inspect
import itertools

import ml_dtypes
import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, HALVES, INTEGERS, arrays, probabilities, values

INF, NAN = np.inf, np.nan
LOSSES = ["cross_entropy", "categorical_cross_entropy", "nll_loss"]
COMMON = "axis=-1, weight=None, sample_weight=None, ignore_index=-100, {}reduction='mean', empty=nan, dtype=None"


def call(name, *args, **kwargs):
    return getattr(softloss, name)(*args, **kwargs)


def oracle(name, *args, **kwargs):
    return getattr(reference, name)(*args, **kwargs)


def scores(name, shape, dtype, seed=0, axis=-1):
    """The first argument of the loss."""
    if name == "categorical_cross_entropy":
        return probabilities(shape, dtype, seed, axis) * dtype(0.99) + dtype(0.01 / shape[axis])
    x = values("normal", shape, dtype, seed)
    return x if name == "cross_entropy" else reference.log_softmax(x, axis).astype(dtype)


def labels(shape, classes, dtype=np.int64, seed=0):
    return np.random.default_rng(seed).integers(0, classes, shape).astype(dtype)


@pytest.mark.parametrize(
    "name, signature",
    {
        "cross_entropy": f"(logits, target, /, *, {COMMON.format('label_smoothing=0.0, temperature=1.0, ')})",
        "categorical_cross_entropy": f"(probs, target, /, *, {COMMON.format('')})",
        "nll_loss": f"(log_probs, target, /, *, {COMMON.format('')})",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(plain)) == signature


# ---- every combination of options ---------------------------------------------


def option_matrix(name, rows, classes):
    rng = np.random.default_rng(1)
    choices = {
        "weight": [None, rng.uniform(0.1, 3, classes)],
        "sample_weight": [None, rng.uniform(0.1, 3, rows)],
        "ignore_index": [-100, None, 1, -1],
        "reduction": ["mean", "sum", "none"],
        "empty": [NAN, 0.0],
    }
    if name == "cross_entropy":
        choices |= {"label_smoothing": [0.0, 0.1, 1.0], "temperature": [1.0, 2.5]}
    for combination in itertools.product(*choices.values()):
        yield dict(zip(choices, combination, strict=True))


def limit(options, soft_target):
    """2 ULP for the loss of a row, more for the rounding of a factor and of a sum over rows."""
    factors = sum(options.get(name) is not None for name in ("weight", "sample_weight"))
    factors += bool(options.get("label_smoothing")) + (options.get("temperature", 1.0) != 1) + soft_target
    return 2 + factors / 2 + (options["reduction"] != "none")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, axis", [((5, 3), -1), ((2, 70, 4), 1), ((130,), 0)])
@pytest.mark.parametrize("target_kind", ["indices", "ignored", "probabilities"])
@pytest.mark.parametrize("name", LOSSES)
def test_option_matrix(name, target_kind, shape, axis, dtype):
    rows = np.zeros(shape).max(axis).shape
    x = scores(name, shape, dtype, axis=axis)
    for options in option_matrix(name, rows, shape[axis]):
        if target_kind == "probabilities":
            target = probabilities(shape, dtype, axis=axis)
        else:
            target = labels(rows, shape[axis])
            if target_kind == "ignored" and options["ignore_index"] is not None:
                target = np.where(labels(rows, 2, seed=3) == 1, options["ignore_index"], target)
        y = call(name, x, target, axis=axis, **options)
        assert np.asarray(y).dtype == dtype
        assert isinstance(y, np.generic) == (np.ndim(y) == 0)
        true = oracle(name, x, target, axis=axis, **options)
        reference.assert_ulps(y, true, limit(options, target_kind == "probabilities"), context=f"{options}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_length_and_axis(name, dtype):
    for n in [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 257, 1000, 40_000]:
        for shape, axis in (((3, n), 1), ((n, 20), 0), ((n,), 0)):
            x, rows = scores(name, shape, dtype, n, axis), np.zeros(shape).max(axis).shape
            for target in (labels(rows, n, seed=n), probabilities(shape, dtype, n, axis)):
                y = call(name, x, target, axis=axis, reduction="none")
                true = oracle(name, x, target, axis=axis, reduction="none")
                reference.assert_ulps(y, true, 2.5, context=f"shape {shape}, axis {axis}, target {target.dtype}")


@pytest.mark.parametrize("soft", [False, True])
@given(data=st.data())
def test_cross_entropy_of_any_values(soft, data):
    x, axis = data.draw(arrays())
    rows, classes = np.delete(x.shape, axis), x.shape[axis]
    seed = data.draw(st.integers(0, 1000))
    target = probabilities(x.shape, x.dtype.newbyteorder("="), seed, axis) if soft else labels(rows, classes, seed=seed)
    y = softloss.cross_entropy(x, target, axis=axis, reduction="none")
    true = oracle("cross_entropy", x, target, axis=axis, reduction="none")
    reference.assert_ulps(y, true, 2.5 if soft else 2, context=f"{x!r}, {target!r}")


def test_known_values():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    one_hot = np.array([[1.0, 0, 0], [1, 0, 0]])
    for target in (one_hot, [0, 0]):
        loss = softloss.categorical_cross_entropy(probs, target, reduction="none")
        np.testing.assert_allclose(loss, [0.35667494393873245, 2.302585092994046], rtol=1e-15)
    assert softloss.cross_entropy([2, 1, 0.1], 0).round(4) == 0.4170
    assert softloss.cross_entropy([0.5, 2, 0.3], 0).round(4) == 1.8406
    logits, target = [[0.1, 1, 2.1], [2, 1, 0.1], [0.1, 3, 0.1]], [2, 0, 1]
    assert softloss.cross_entropy(logits, target).round(4) == 0.3018
    assert softloss.nll_loss(softloss.log_softmax(logits), target).round(4) == 0.3018


def test_losses_of_one_class_are_zero():
    """And so are their gradients and Hessians, the log-probability and the entropy."""
    for dtype in FLOATS:
        for n in (1, 5, 100):
            x, labels_ = values("offset", (n, 1), dtype), np.zeros(n, int)
            for target in (labels_, np.ones((n, 1), dtype)):
                for options in ({}, {"label_smoothing": 0.3}, {"temperature": 0.7}, {"weight": [0.3]}):
                    loss, grad = softloss.cross_entropy_and_grad(x, target, reduction="none", **options)
                    assert not loss.any(), options
                    assert target is not labels_ and "weight" in options or not grad.any(), options
            assert not np.any(softloss.cross_entropy_grad_hess(x, labels_, sample_weight=np.full(n, 0.3)))
            scores_ = softloss.token_logprobs(x, labels_, top_k=1)
            assert not scores_.logprob.any() and not scores_.entropy.any() and not scores_.top_logprob.any()
            assert not softloss.log_softmax(x).any()
            np.testing.assert_array_equal(softloss.logsumexp(x), x[:, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_probabilities_are_the_indices(name):
    for dtype in FLOATS:
        x, target = scores(name, (40, 9), dtype), labels(40, 9)
        hard = call(name, x, target, reduction="none")
        soft = call(name, x, np.eye(9, dtype=dtype)[target], reduction="none")
        np.testing.assert_allclose(soft, hard, rtol=2 * np.finfo(dtype).eps)


# ---- targets ---------------------------------------------


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("name", LOSSES)
def test_any_integer_dtype_of_target(name, integer):
    x, target = scores(name, (50, 100), np.float32), labels(50, 100)
    assert call(name, x, target.astype(integer)) == call(name, x, target)
    assert call(name, x, target.astype(np.dtype(integer).newbyteorder("S"))) == call(name, x, target)
    assert call(name, x, target.tolist()) == call(name, x, target)
    assert call(name, x, np.repeat(target.astype(integer), 3)[::3]) == call(name, x, target)


def test_labels_of_uint64_and_uint8_may_be_the_ignored_one():
    x = scores("cross_entropy", (3, 4), np.float64)
    for dtype, ignored in ((np.uint8, 255), (np.uint64, 2**62), (np.int64, -(2**62)), (np.int8, -128)):
        target = np.array([1, ignored, 2], dtype)
        assert softloss.cross_entropy(x, target, ignore_index=ignored) == softloss.cross_entropy(x[::2], [1, 2])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("soft", [*FLOATS, *HALVES])
def test_any_float_dtype_of_target_the_result_follows_the_first_argument(name, soft):
    for dtype in FLOATS:
        x, target = scores(name, (6, 20), dtype), probabilities((6, 20), soft)
        y = call(name, x, target, reduction="none")
        assert y.dtype == dtype
        reference.assert_ulps(y, oracle(name, x, target, reduction="none"), 3)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_any_dtype_leave_the_dtype_of_the_result(name):
    x, target = scores(name, (6, 4), np.float32), labels(6, 4)
    for weight in (
        [1, 2, 3, 4],
        np.array([1, 2, 3, 4], np.float16),
        np.arange(1.0, 5.0),
        np.arange(1, 5, dtype=np.uint8),
    ):
        y = call(name, x, target, weight=weight, sample_weight=[1, 2, 1, 1, 1, 3], reduction="none")
        expected = oracle(name, x, target, weight=weight, sample_weight=[1, 2, 1, 1, 1, 3], reduction="none")
        assert y.dtype == np.float32
        reference.assert_ulps(y, expected, 3)


def test_weights_of_any_strides():
    x, target = scores("cross_entropy", (6, 4), np.float32), labels(6, 4)
    w, s = np.arange(1.0, 5.0), np.arange(1.0, 7.0)
    expected = softloss.cross_entropy(x, target, weight=w, sample_weight=s)
    swapped = w.astype(">f8"), s.astype(">f8")
    for weight, sample_weight in (swapped, (np.repeat(w, 2)[::2], np.repeat(s, 3)[::3]), (w[::-1].copy()[::-1], s)):
        assert softloss.cross_entropy(x, target, weight=weight, sample_weight=sample_weight) == expected


def test_weights_for_several_row_dimensions():
    x = scores("cross_entropy", (3, 5, 2, 4), np.float64, axis=1)
    target, s = labels((3, 2, 4), 5), np.arange(24.0).reshape(3, 2, 4)
    options = {"axis": 1, "weight": np.arange(1.0, 6.0), "sample_weight": s}
    for reduction in ("mean", "sum", "none"):
        y = softloss.cross_entropy(x, target, reduction=reduction, **options)
        reference.assert_ulps(y, oracle("cross_entropy", x, target, reduction=reduction, **options), 4)


@pytest.mark.parametrize("name", LOSSES)
def test_mean_with_class_probabilities_divides_by_rows_or_by_sample_weights(name):
    x, target = scores(name, (4, 3), np.float64), probabilities((4, 3))
    w, s = np.array([1.0, 5, 2]), np.array([1.0, 0, 2, 4])
    rows = call(name, x, target, weight=w, reduction="none")
    np.testing.assert_allclose(call(name, x, target, weight=w), rows.sum() / 4, rtol=1e-15)
    np.testing.assert_allclose(call(name, x, target, weight=w, sample_weight=s), (rows * s).sum() / s.sum(), rtol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_mean_with_class_indices_divides_by_the_weights_of_the_targets(name):
    x, target = scores(name, (4, 3), np.float64), np.array([0, 2, -100, 1])
    w, s = np.array([1.0, 5, 2]), np.array([1.0, 3, 2, 4])
    rows = call(name, x, target, weight=w, sample_weight=s, reduction="none")
    assert rows[2] == 0
    mean = call(name, x, target, weight=w, sample_weight=s)
    np.testing.assert_allclose(mean, rows.sum() / (1 * 1 + 2 * 3 + 5 * 4), rtol=1e-15)


# ---- infinities and NaN ---------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_times_infinity_is_zero(dtype):
    for repeat in (1, 40):
        target = np.repeat([[0, 0.5 / repeat, 0.5 / repeat]], repeat, axis=1).astype(dtype)
        hot = np.repeat(np.array([[-INF, 1, 1]], dtype), repeat, axis=1)
        expected = np.log(2.0 * repeat)
        np.testing.assert_allclose(softloss.cross_entropy(hot, target), expected, rtol=1e-5)
        np.testing.assert_allclose(softloss.nll_loss(softloss.log_softmax(hot), target), expected, rtol=1e-5)
        probs = softloss.softmax(hot)
        np.testing.assert_allclose(softloss.categorical_cross_entropy(probs, target), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_impossible_labels_cost_infinity(dtype):
    logits = np.array([[-INF, 0, 0], [0, 0, -INF]], dtype)
    np.testing.assert_array_equal(softloss.cross_entropy(logits, [0, 2], reduction="none"), [INF, INF])
    np.testing.assert_array_equal(softloss.nll_loss(logits, [0, 2], reduction="none"), [INF, INF])
    probs = np.array([[0, 0.5, 0.5], [0.5, 0.5, 0]], dtype)
    np.testing.assert_array_equal(softloss.categorical_cross_entropy(probs, [0, 2], reduction="none"), [INF, INF])
    assert softloss.cross_entropy(logits, [0, 1]) == INF
    assert softloss.cross_entropy(logits, [1, 0], label_smoothing=0.1) == INF
    for target in ([0, 1], np.full(logits.shape, 1 / 3, dtype)):
        assert softloss.cross_entropy(logits, target, label_smoothing=1) == INF  # of which none is the target's


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_and_nan_rows(dtype):
    rows = [[-INF, -INF, -INF], [INF, 0, 0], [NAN, 0, 0], [0, 0, NAN], [1, 1, 1]]
    for repeat in (1, 30):
        logits = np.repeat(np.array(rows, dtype), repeat, axis=1)
        loss = softloss.cross_entropy(logits, np.full(5, repeat), reduction="none")
        assert np.isnan(loss[:4]).all() and np.isfinite(loss[4])
        smoothed = softloss.cross_entropy(logits, np.full(5, repeat), reduction="none", label_smoothing=0.9)
        assert smoothed[:4].tobytes() == np.full(4, NAN, dtype).tobytes()  # one NaN for all
        soft = softloss.cross_entropy(logits, np.full(logits.shape, 1 / (3 * repeat), dtype), reduction="none")
        assert np.isnan(soft[:4]).all() and np.isfinite(soft[4])


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_rows_are_not_read(name):
    for dtype in FLOATS:
        for n in (3, 100):
            x, target = scores(name, (7, n), dtype), labels(7, n)
            target[[2, 5]] = -100
            expected = call(name, x, target), call(name, x, target, reduction="none")
            x[2] = NAN
            x[5] = 0 if name == "categorical_cross_entropy" else -INF
            loss = call(name, x, target, reduction="none")
            assert loss[2] == 0 and loss[5] == 0
            np.testing.assert_array_equal(loss, expected[1])
            assert call(name, x, target) == expected[0]


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_probabilities_a_rounding_outside_0_and_1(dtype):
    """As averages of classifiers, and mixed targets in float32, have them; with and without a gradient."""
    eps = np.finfo(dtype).eps if dtype in FLOATS else ml_dtypes.finfo(dtype).eps
    for units in (1, 4):
        rough, exact = (
            np.array([[1 + units * float(eps), -units * float(eps)]]).astype(dtype),
            np.eye(2, dtype=dtype)[:1],
        )
        for name, rounded, meant in (
            ("categorical_cross_entropy", (rough, [0]), (exact, [0])),
            ("binary_cross_entropy", (rough, exact), (exact, exact)),
            ("binary_cross_entropy", (exact, rough), (exact, exact)),
            ("binary_cross_entropy_with_logits", (exact, rough), (exact, exact)),
        ):
            loss, true = (getattr(softloss, name)(*a, reduction="none") for a in (rounded, meant))
            np.testing.assert_allclose(loss, true, rtol=1e-6, atol=8 * float(eps))
            both = getattr(softloss, f"{name}_and_grad")(*rounded, reduction="none")
            assert both.loss.tobytes() == loss.tobytes()
    assert softloss.categorical_cross_entropy([1.0000000000000002, 0.0], 0) == 0


def test_probabilities_of_other_classes_than_the_labels_are_not_looked_at():
    """One rule with and without a gradient."""
    for probs, label in (([[1.5, 0.5]], [1]), ([[np.nan, 0.25]], [1]), ([[-3, 0.5]], [1])):
        loss = softloss.categorical_cross_entropy(probs, label)
        assert loss == softloss.categorical_cross_entropy_and_grad(probs, label).loss
        for function in (softloss.categorical_cross_entropy, softloss.categorical_cross_entropy_and_grad):
            if not np.isnan(probs[0][0]):
                with pytest.raises(ValueError, match=r"^probs\[0, 0\] = .* is outside \[0, 1\]$"):
                    function(probs, [0])


def test_losses_of_indices_read_the_label_alone():
    for dtype in FLOATS:
        log_probs = np.array([[NAN, -2, INF], [-1, NAN, NAN]], dtype)
        np.testing.assert_array_equal(softloss.nll_loss(log_probs, [1, 0], reduction="none"), [2, 1])


@pytest.mark.parametrize(
    "name, certain", [("nll_loss", 0.0), ("nll_loss", -0.0), ("categorical_cross_entropy", 1.0), ("cross_entropy", 5.0)]
)
def test_certainty_costs_zero_never_minus_zero(name, certain):
    x, target = np.full((3, 1), certain), np.zeros(3, int)
    for loss in (call(name, x, target, reduction="none"), call(name + "_and_grad", x, target, reduction="none").loss):
        assert loss.tobytes() == bytes(24)


def test_a_nan_makes_its_own_row_nan():
    for dtype in FLOATS:
        target = probabilities((6, 30), dtype)
        for name in LOSSES:
            x = scores(name, (6, 30), dtype)
            clean = call(name, x, target, reduction="none")
            x[3, 17] = NAN
            loss = call(name, x, target, reduction="none")
            assert np.isnan(loss[3])
            np.testing.assert_array_equal(np.delete(loss, 3), np.delete(clean, 3))


def test_nan_in_a_probability_target():
    for name in LOSSES:
        x, target = scores(name, (3, 4), np.float64), probabilities((3, 4))
        target[1, 2] = NAN
        np.testing.assert_array_equal(np.isnan(call(name, x, target, reduction="none")), [False, True, False])


# ---- nothing to average ---------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_average(name, dtype):
    none_left = scores(name, (3, 4), dtype), np.full(3, -100)
    no_rows = np.zeros((0, 4), dtype), np.zeros(0, int)
    no_soft_rows = np.zeros((0, 4), dtype), np.zeros((0, 4), dtype)
    no_rows_no_classes = np.zeros((0, 0), dtype), np.zeros(0, int)
    for x, target in (none_left, no_rows, no_soft_rows, no_rows_no_classes):
        assert np.isnan(call(name, x, target))
        assert call(name, x, target, empty=0.0) == 0
        assert call(name, x, target, empty=-3) == -3
        assert call(name, x, target, reduction="sum") == 0
        assert call(name, x, target, reduction="sum", empty=5) == 0
        rows = call(name, x, target, reduction="none")
        assert rows.dtype == dtype
        np.testing.assert_array_equal(rows, np.zeros(len(x)))
        assert isinstance(call(name, x, target, empty=0.0), dtype)


@pytest.mark.parametrize("name", LOSSES)
def test_empty_has_no_say_when_there_is_something(name):
    x, target = scores(name, (3, 4), np.float64), np.array([1, -100, 2])
    assert call(name, x, target, empty=99.0) == call(name, x, target)


@pytest.mark.parametrize("name", LOSSES)
def test_empty_shapes(name):
    loss = call(name, np.zeros((2, 4, 0, 3)), np.zeros((2, 0, 3), int), axis=1, reduction="none")
    assert loss.shape == (2, 0, 3)


def test_mean_of_weights_that_sum_to_zero_is_nan():
    x = scores("cross_entropy", (3, 4), np.float64)
    assert np.isnan(softloss.cross_entropy(x, [0, 1, 2], sample_weight=np.zeros(3)))
    assert softloss.cross_entropy(x, [0, 1, 2], sample_weight=np.zeros(3), reduction="sum") == 0


# ---- dtypes ---------------------------------------------


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_half_input_gives_the_float32_losses(name, reduction, half):
    for shape in [(5, 3), (6, 130), (300, 10)]:
        x = scores(name, shape, np.float32).astype(half)
        for target in (labels(shape[0], shape[1]), probabilities(shape, np.float32)):
            y = call(name, x, target, reduction=reduction)
            assert np.asarray(y).dtype == np.float32
            np.testing.assert_array_equal(y, call(name, x.astype(np.float32), target, reduction=reduction))


def test_half_losses_do_not_overflow():
    x = np.zeros((70_000, 3), np.float16)
    x[:, 0] = 10
    target = np.ones(70_000, int)
    assert abs(softloss.cross_entropy(x, target) - 10.0001) < 1e-3
    assert abs(softloss.cross_entropy(x, target, reduction="sum") / 70_000 - 10.0001) < 1e-3


@pytest.mark.parametrize("integer", [*INTEGERS, bool])
def test_integer_logits_compute_in_float64(integer):
    x = np.array([[1, 0, 1], [0, 0, 1]]).astype(integer)
    for name in LOSSES:
        y = call(name, x, [2, 2])
        assert isinstance(y, np.float64)
        assert y == call(name, x.astype(np.float64), [2, 2])


@pytest.mark.parametrize("name", LOSSES)
def test_dtype_is_the_dtype_of_the_loss(name):
    x32, target = scores(name, (7, 12), np.float32), labels(7, 12)
    for source in (*HALVES, *FLOATS):
        x = x32.astype(HALVES[1]).astype(source)  # exact in float32 and float64
        for dtype in FLOATS:
            for reduction in ("mean", "none"):
                y = call(name, x, target, dtype=dtype, reduction=reduction)
                assert np.asarray(y).dtype == dtype
                reference.assert_ulps(y, oracle(name, x, target, reduction=reduction), 3)


# ---- what comes in ---------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_array_like(name):
    x, target = scores(name, (3, 4), np.float64), labels(3, 4)
    expected = call(name, x, target, weight=[1.0, 2, 3, 4], sample_weight=[1, 2, 3])
    actual = call(name, x.tolist(), target.tolist(), weight=(1, 2, 3, 4), sample_weight=np.array([1, 2, 3], np.int8))
    assert actual == expected


@pytest.mark.parametrize("name", LOSSES)
def test_one_row_is_a_scalar(name):
    for dtype in FLOATS:
        x = scores(name, (10,), dtype)
        for target in (3, np.int32(3), np.array(3, np.uint8), np.eye(10, dtype=dtype)[3]):
            for reduction in ("mean", "sum", "none"):
                y = call(name, x, target, reduction=reduction)
                assert isinstance(y, dtype)
                reference.assert_ulps(y, oracle(name, x, target, reduction=reduction), 2)


@pytest.mark.parametrize("name", LOSSES)
def test_the_input_is_left_alone(name):
    for dtype in FLOATS:
        x, target = scores(name, (30, 50), dtype), probabilities((30, 50), dtype)
        before = x.tobytes(), target.tobytes()
        call(name, x, target, weight=np.ones(50), sample_weight=np.ones(30))
        assert (x.tobytes(), target.tobytes()) == before
