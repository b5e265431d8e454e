"""binary_cross_entropy and binary_cross_entropy_with_logits: every option against the oracle, every edge.

Errors are in test_errors.py, exact accuracy in test_accuracy.py.
"""

import inspect
import itertools

import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from softloss import binary_cross_entropy as bce
from softloss import binary_cross_entropy_with_logits as bce_logits
from strategies import FLOATS, HALVES, INTEGERS, LAYOUTS, arrays, values

INF, NAN = np.inf, np.nan
LOSSES = {bce: reference.binary_cross_entropy, bce_logits: reference.binary_cross_entropy_with_logits}
both = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def scores(loss, shape, dtype, seed=0):
    """The first argument of the loss: logits, or probabilities that include 0 and 1."""
    x = values("normal", shape, np.float64, seed)
    return (x if loss is bce_logits else np.clip(x / 6 + 0.5, 0, 1)).astype(dtype)


def soft_targets(shape, dtype=np.float64, seed=0):
    """Targets in [0, 1], including both ends."""
    return np.clip(np.random.default_rng(seed).uniform(-0.5, 1.5, shape), 0, 1).astype(dtype)


@pytest.mark.parametrize(
    "name, signature",
    {
        "binary_cross_entropy": "(probs, target, /, *, weight=None, reduction='mean', empty=nan, dtype=None)",
        "binary_cross_entropy_with_logits": "(logits, target, /, *, weight=None, pos_weight=None, reduction='mean', "
        "empty=nan, dtype=None)",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(plain)) == signature


# ---- every combination of options ---------------------------------------------


@both
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(7,), (3, 5, 20), (300, 4)])
def test_option_matrix(loss, shape, dtype):
    rng = np.random.default_rng(0)
    factors = [None, rng.uniform(0.1, 3, shape), rng.uniform(0.1, 3, shape[-1]), 2, np.arange(shape[-1])]
    choices = {"weight": factors, "reduction": ["mean", "sum", "none"], "empty": [NAN, 0.0]}
    if loss is bce_logits:
        choices["pos_weight"] = factors
    x = scores(loss, shape, dtype)
    targets = {
        "float": soft_targets(shape, dtype),
        "int": rng.integers(0, 2, shape),
        "bool": rng.integers(0, 2, shape[-1:]).astype(bool),
        "scalar": 1,
    }
    for combination in itertools.product(*choices.values()):
        options = dict(zip(choices, combination, strict=True))
        limit = 2.5 + sum(options.get(name) is not None for name in ("weight", "pos_weight"))
        for kind, target in targets.items():
            y = loss(x, target, **options)
            assert np.asarray(y).dtype == dtype
            assert isinstance(y, np.generic) == (options["reduction"] != "none")
            reference.assert_ulps(y, LOSSES[loss](x, target, **options), limit, context=f"{kind}, {options}")


@given(data=st.data())
def test_logits_of_any_values_and_layout(data):
    x, _ = data.draw(arrays(min_dims=0))
    target = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2, x.shape)
    y = bce_logits(x, target, reduction="none")
    reference.assert_ulps(
        y, reference.binary_cross_entropy_with_logits(x, target, reduction="none"), 2, context=repr(x)
    )


@both
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_length(loss, dtype):
    for n in [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 32_769, 200_003]:
        x, target = scores(loss, n, dtype, n), soft_targets(n, dtype, n)
        for reduction in ("mean", "sum", "none"):
            y, true = loss(x, target, reduction=reduction), LOSSES[loss](x, target, reduction=reduction)
            reference.assert_ulps(y, true, 3, context=f"n = {n}, {reduction}")


def test_known_values():
    assert bce(0.5, 1) == np.log(2)
    assert bce_logits(0.0, 0) == np.log(2)
    np.testing.assert_allclose(bce([0.9, 0.2], [1, 0], reduction="none"), -np.log([0.9, 0.8]), rtol=1e-15)
    np.testing.assert_allclose(bce_logits([2.0], [1.0], pos_weight=3), 3 * np.log1p(np.exp(-2)), rtol=1e-15)


def test_probabilities_are_the_sigmoid_of_logits():
    for dtype in FLOATS:
        logits, target = scores(bce_logits, 200, dtype), soft_targets(200, dtype)
        from_probs = bce(softloss.sigmoid(logits.astype(np.float64)), target, reduction="none")
        np.testing.assert_allclose(bce_logits(logits, target, reduction="none"), from_probs, rtol=1e-6)


# ---- targets and weights ---------------------------------------------


@both
@pytest.mark.parametrize("kind", [*FLOATS, *HALVES, *INTEGERS, bool])
def test_targets_of_any_dtype(loss, kind):
    for dtype in FLOATS:
        x, target = scores(loss, (6, 50), dtype), np.random.default_rng(0).integers(0, 2, (6, 50))
        y = loss(x, target.astype(kind), reduction="none")
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, loss(x, target.astype(dtype), reduction="none"))


@both
def test_targets_and_weights_broadcast(loss):
    x = scores(loss, (4, 3, 20), np.float32)
    for shape in [(), (1,), (20,), (3, 1), (4, 1, 1), (1, 1, 1), (4, 1, 20)]:
        target, weight = soft_targets(shape, np.float32, 1), soft_targets(shape, np.float64, 2) + 1
        y = loss(x, target, weight=weight, reduction="none")
        full = loss(x, np.broadcast_to(target, x.shape), weight=np.broadcast_to(weight, x.shape), reduction="none")
        np.testing.assert_array_equal(y, full)
        if loss is bce_logits:
            y = loss(x, target, pos_weight=weight)
            assert y == loss(x, target, pos_weight=np.broadcast_to(weight, x.shape))


@both
def test_operands_of_any_layout(loss):
    for dtype in FLOATS:
        x, target, weight = scores(loss, (30, 40), dtype), soft_targets((30, 40), dtype), soft_targets((30, 40), seed=9)
        expected = loss(x, target, weight=weight, reduction="none")
        for lay_out, other in itertools.product(LAYOUTS.values(), repeat=2):
            y = loss(lay_out(x), other(target), weight=lay_out(weight), reduction="none")
            np.testing.assert_array_equal(y, expected)


@both
def test_mean_divides_by_elements_whatever_their_weights(loss):
    x, weight = scores(loss, 5, np.float64), np.array([0.0, 1, 2, 3, 40])
    rows = loss(x, 1, weight=weight, reduction="none")
    np.testing.assert_allclose(loss(x, 1, weight=weight), rows.sum() / 5, rtol=1e-15)


# ---- edges ---------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_logits_give_the_limit(dtype):
    logits = np.array([INF, INF, INF, -INF, -INF, -INF], dtype)
    target = np.array([1, 0, 0.5, 1, 0, 0.5], dtype)
    expected = np.array([0, INF, INF, INF, 0, INF], dtype)
    np.testing.assert_array_equal(bce_logits(logits, target, reduction="none"), expected)
    np.testing.assert_array_equal(
        bce_logits(np.tile(logits, 20), np.tile(target, 20), reduction="none"), np.tile(expected, 20)
    )
    np.testing.assert_array_equal(bce_logits(logits, target, weight=0, reduction="none"), np.zeros(6))
    without_positives = np.array([0, INF, INF, 0, 0, 0], dtype)
    np.testing.assert_array_equal(bce_logits(logits, target, pos_weight=0, reduction="none"), without_positives)
    assert bce_logits(logits[[0, 4]], target[[0, 4]]) == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_logarithms_of_probabilities_are_clamped(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    probs, target = np.array([0, 1, 0, 1, tiny], dtype), np.array([1, 0, 0, 1, 1], dtype)
    np.testing.assert_array_equal(bce(probs, target, reduction="none"), [100, 100, 0, 0, 100])
    assert bce(dtype(0), 0.25) == 25
    with np.errstate(under="ignore"):
        above = dtype(1e-38)
    reference.assert_ulps(bce(above, 1), reference.binary_cross_entropy(above, 1), 2)


@both
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_stays_in_its_place(loss, dtype):
    for n in (1, 5, 16, 100):
        x, target = scores(loss, n, dtype), soft_targets(n, dtype)
        clean = loss(x, target, reduction="none")
        x[n // 2] = NAN
        y = loss(x, target, reduction="none")
        np.testing.assert_array_equal(np.isnan(y), np.arange(n) == n // 2)
        np.testing.assert_array_equal(np.delete(y, n // 2), np.delete(clean, n // 2))
        assert np.isnan(loss(x, target))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("at", [0, 70, 1000, 5001])
@pytest.mark.parametrize("p, z", [(0.3, 0.4), (0, 1), (1, 0), (1e-310, 1), (1e-40, 1), (NAN, 1), (NAN, 0), (-0.0, 0)])
def test_a_rare_element_changes_no_other(dtype, at, p, z):
    rng = np.random.default_rng(0)
    probs, target = rng.uniform(0.01, 0.99, 5003).astype(dtype), (rng.random(5003) < 0.5).astype(dtype)
    losses, grad = softloss.binary_cross_entropy_and_grad(probs, target, reduction="none")
    probs[at], target[at] = p, z
    new_losses, new_grad = softloss.binary_cross_entropy_and_grad(probs, target, reduction="none")
    lone = softloss.binary_cross_entropy_and_grad(probs[at : at + 1], target[at : at + 1], reduction="none")
    losses[at], grad[at] = lone.loss[0], lone.grad[0]
    np.testing.assert_array_equal(new_losses, losses)
    np.testing.assert_array_equal(new_grad, grad)
    np.testing.assert_allclose(bce(probs, target), new_losses.mean(dtype=float), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rare", [33, -33, 100, -800, INF, -INF, NAN])
def test_a_rare_logit_changes_no_other(dtype, rare):
    rng = np.random.default_rng(0)
    x, target = rng.normal(0, 3, 5003).astype(dtype), (rng.random(5003) < 0.5).astype(dtype)
    at = [0, 200, 201, 1400, 5002]
    functions = {
        "sigmoid": softloss.sigmoid,
        "log_sigmoid": softloss.log_sigmoid,
        "loss": lambda x: bce_logits(x, target[: x.size], reduction="none"),
        "grad": lambda x: softloss.binary_cross_entropy_with_logits_grad_hess(x, target[: x.size]).grad,
        "hess": lambda x: softloss.binary_cross_entropy_with_logits_grad_hess(x, target[: x.size]).hess,
    }
    expected = {name: f(x) for name, f in functions.items()}
    target[at] = target[0]
    x[at] = rare
    for name, f in functions.items():
        expected[name][at] = f(x[:1])
        np.testing.assert_array_equal(f(x), expected[name], err_msg=name)


@both
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_in_place_of_what_is_no_plain_number(loss, dtype):
    x, target = scores(loss, 5003, dtype), soft_targets(5003, dtype).round()
    x[[3, 4000]], x[17], target[5] = NAN, -0.0, -0.0
    and_grad = getattr(softloss, loss.__name__ + "_and_grad")
    expected = and_grad(x, target)
    actual = and_grad(x, target, grad_out=x)
    np.testing.assert_equal(actual.loss, expected.loss)
    np.testing.assert_array_equal(actual.grad, expected.grad)


def test_a_loss_of_nothing_is_positive():
    losses = bce(np.float32([1, 0, 1]), np.float32([1, 0, 1]), reduction="none")
    assert not np.signbit(losses).any()
    assert not np.signbit(bce(np.float32([1, 0]), np.float32([1, 0])))


@both
@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_to_average(loss, dtype):
    for shape in [(0,), (3, 0), (0, 3)]:
        x = np.zeros(shape, dtype)
        assert np.isnan(loss(x, x))
        assert loss(x, x, empty=0.0) == 0
        assert loss(x, 1, reduction="sum", empty=5) == 0
        rows = loss(x, x, reduction="none")
        assert rows.dtype == dtype and rows.shape == shape
        assert isinstance(loss(x, x, empty=0.0), dtype)


@both
def test_zero_dimensions(loss):
    for dtype in FLOATS:
        for x in (dtype(0.25), np.array(0.25, dtype)):
            for reduction in ("mean", "sum", "none"):
                y = loss(x, 1, reduction=reduction)
                assert isinstance(y, dtype)
                reference.assert_ulps(y, LOSSES[loss](x, 1, reduction=reduction), 2)
    assert isinstance(loss(0.25, True), np.float64)


# ---- dtypes ---------------------------------------------


@both
@pytest.mark.parametrize("half", HALVES)
def test_half_input_gives_the_float32_losses(loss, half):
    x, target = scores(loss, (9, 50), half), soft_targets((9, 50), half)
    for reduction in ("mean", "sum", "none"):
        y = loss(x, target, reduction=reduction)
        assert np.asarray(y).dtype == np.float32
        np.testing.assert_array_equal(y, loss(x.astype(np.float32), target.astype(np.float32), reduction=reduction))


@both
def test_half_losses_do_not_overflow(loss):
    x = np.full(70_000, 10.0 if loss is bce_logits else 0.0, np.float16)
    mean = loss(x, loss is bce)
    assert np.isfinite(mean)
    assert np.isclose(loss(x, loss is bce, reduction="sum"), 70_000 * float(mean))


@both
def test_integers_compute_in_float64(loss):
    for dtype in (*INTEGERS, bool):
        x = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
        y = loss(x, [0.5, 1, 0], reduction="none")
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y, loss(x.astype(np.float64), [0.5, 1, 0], reduction="none"))


@both
def test_dtype_is_the_dtype_of_the_loss(loss):
    for source in (*HALVES, *FLOATS):
        x = scores(loss, (4, 30), HALVES[1]).astype(source)
        for dtype in FLOATS:
            for reduction in ("mean", "none"):
                y = loss(x, 1, dtype=dtype, reduction=reduction)
                assert np.asarray(y).dtype == dtype
                reference.assert_ulps(y, LOSSES[loss](x, 1, reduction=reduction), 3)


@both
def test_array_like(loss):
    assert loss([0.5, 0.25], (1, False), weight=[1, 2]) == loss(
        np.array([0.5, 0.25]), np.array([1.0, 0]), weight=np.array([1.0, 2])
    )


@both
def test_the_input_is_left_alone(loss):
    x, target = scores(loss, 1000, np.float32), soft_targets(1000, np.float32)
    before = x.tobytes(), target.tobytes()
    loss(x, target, weight=target)
    assert (x.tobytes(), target.tobytes()) == before
