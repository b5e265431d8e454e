"""The focal losses: mpmath, PyTorch's autograd, the cross-entropies that gamma = 0 leaves, and every edge.

Lives here: what holds for sigmoid_focal_loss and softmax_focal_loss alone. Must not: options with each other
(test_matrix.py), errors (test_errors.py).
"""

import exact
import numpy as np
import pytest
import reference
import softloss
from exact import MP
from strategies import FLOATS, HALVES, values

INF, NAN = np.inf, np.nan
GAMMAS = (0.02, 0.5, 1.0, 2.0, 3.25, 8.0)
LIMITS = {np.float32: (2, 3, 4), np.float64: (8, 3, 4)}  # ULP of loss, gradient and Hessian


def assert_results(actual, true, dtype, context):
    """(loss, gradient, Hessian) against exact numbers; the terms of the Hessian have both signs."""
    loss, grad, hess, scale = true
    for y, number, limit, unit in zip(actual, (loss, grad, hess), LIMITS[dtype], (0, 0, scale), strict=True):
        error = reference.ulp_error(y, exact.pair(number), dtype, np.asarray(unit, np.float64))
        assert error.max() <= limit, (
            f"{error.max():.3g} ULP at {np.unravel_index(error.argmax(), error.shape)}; {context}"
        )


def all_results(name, *operands, **options):
    loss, grad = getattr(softloss, f"{name}_and_grad")(*operands, reduction="none", **options)
    derivatives = getattr(softloss, f"{name}_grad_hess")(*operands, hess_min=-INF, **options)
    np.testing.assert_array_equal(derivatives.grad, grad)
    return loss, grad, derivatives.hess


# ---- mpmath ---------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_elements_are_mpmaths(gamma, dtype):
    """Logits from 0 to where the loss is the smallest number, and to where the probability is."""
    rng = np.random.default_rng(1)
    far = 104 if dtype == np.float32 else 740
    u = np.concatenate([rng.uniform(-r, r, 300) for r in (1e-3, 4, 40, far)] + [[0, 1e-30, -1e-6]]).astype(dtype)
    hit = rng.random(u.size) < 0.5
    x = np.where(hit, u, -u).astype(dtype)
    loss, grad, hess, scale = exact.sigmoid_focal_loss(x, hit, gamma)
    assert_results(all_results("sigmoid_focal_loss", x, hit, gamma=gamma), (loss, grad, hess, scale), dtype, "plain")
    several = {"alpha": 0.3, "weight": np.full(1, 0.7, dtype)}
    factor = MP.mpf(float(several["weight"][0])) * np.where(hit, MP.mpf(0.3), 1 - MP.mpf(0.3))
    true = [factor * each for each in (loss, grad, hess, scale)]
    assert_results(all_results("sigmoid_focal_loss", x, hit, gamma=gamma, **several), true, dtype, "weighted")


ROWS = {
    "almost certain": [20.0, *[0.0] * 9],
    "a loss of 1e-29": [22.0, 0.0, -3.0],
    "the largest weights nothing": [700.0, *[0.0] * 9],
    "far from zero": [1e4 + 1, 1e4, 1e4 - 3, 1e4 + 0.5],
    "equal": [0.1] * 30,
    "two at the maximum": [5.0, 5.0, -1.0, 0.0, 3.0],
    "one class": [3.0],
    "wide": [80.0, -80.0, 79.5, 0.0, -40.0],
    "two classes": [0.3, -0.2],
    "along the vectors": list(np.random.default_rng(2).uniform(-6, 6, 70)),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_mpmaths(kind, gamma, dtype):
    """Each label, at the maximum or not."""
    row = np.array(ROWS[kind], dtype)
    labels = range(len(row)) if len(row) < 20 else (0, int(row.argmax()), int(row.argmin()))
    x = np.tile(row, (len(labels), 1))
    true = exact.softmax_focal_loss(x, labels, gamma)
    assert_results(all_results("softmax_focal_loss", x, list(labels), gamma=gamma), true, dtype, kind)


# ---- PyTorch ---------------------------------------------


def torch_focal(x, target, gamma, alpha=None):
    """Loss, gradient and diagonal Hessian by autograd, in float64."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = torch.from_numpy(np.asarray(target))

    def loss(x):
        if alpha is None:
            log_p = torch.log_softmax(x, -1).gather(-1, t[:, None])
            return (-((1 - log_p.exp()) ** gamma) * log_p).sum()
        log_p = torch.nn.functional.logsigmoid(torch.where(t, x, -x))
        return (-torch.where(t, alpha, 1 - alpha) * (1 - log_p.exp()) ** gamma * log_p).sum()

    x = torch.from_numpy(x).requires_grad_()
    (grad,) = torch.autograd.grad(loss(x), x)
    hess = torch.autograd.functional.hessian(loss, x).reshape(x.numel(), -1).diagonal().reshape(x.shape)
    return loss(x).item(), grad.numpy(), hess.numpy()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.25])
def test_focal_losses_are_autograds(gamma):
    x = values("normal", (9, 5), np.float64)
    label, hit = np.arange(9) % 5, x > 0.5
    for name, target, options in (
        ("softmax_focal_loss", label, {}),
        ("sigmoid_focal_loss", hit, {"alpha": 0.25}),
    ):
        loss, grad, hess = torch_focal(x, target, gamma, **options)
        actual = getattr(softloss, f"{name}_and_grad")(x, target, gamma=gamma, reduction="sum", **options)
        np.testing.assert_allclose(actual.loss, loss, rtol=1e-12)
        np.testing.assert_allclose(actual.grad, grad, rtol=1e-9, atol=1e-14)
        derivatives = getattr(softloss, f"{name}_grad_hess")(x, target, gamma=gamma, hess_min=-INF, **options)
        np.testing.assert_allclose(derivatives.hess, hess, rtol=1e-9, atol=1e-13)


# ---- gamma = 0 ---------------------------------------------


def as_bytes(results):
    return [np.asarray(y).tobytes() for y in (results if isinstance(results, tuple) else (results,))]


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES, np.int32])
def test_gamma_0_is_the_cross_entropy_bit_for_bit(dtype):
    rng = np.random.default_rng(0)
    x = (6 * rng.standard_normal((40, 70))).astype(dtype)
    label, hit = rng.integers(0, 70, 40), rng.random((40, 70)) < 0.5
    label[::7] = -100
    class_options = {"weight": rng.random(70), "sample_weight": rng.random(40)}
    binary_options = {"weight": rng.random(70)}
    for kind, several in (
        ("", ("mean", "sum", "none")),
        ("_and_grad", ("mean", "sum", "none")),
        ("_grad_hess", (None,)),
    ):
        for reduction in several:
            given = {"reduction": reduction} if reduction else {"hess_scale": 2.0, "hess_min": 1e-3}
            for options in ({}, class_options):
                expected = getattr(softloss, f"cross_entropy{kind}")(x, label, **given, **options)
                actual = getattr(softloss, f"softmax_focal_loss{kind}")(x, label, gamma=0, **given, **options)
                assert as_bytes(actual) == as_bytes(expected)
            for options in ({}, binary_options):
                name = f"binary_cross_entropy_with_logits{kind}"
                expected = getattr(softloss, name)(x, hit, **given, **options)
                actual = getattr(softloss, f"sigmoid_focal_loss{kind}")(x, hit, gamma=0, **given, **options)
                assert as_bytes(actual) == as_bytes(expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gamma_0_with_alpha_weighs_the_cross_entropy(dtype):
    x, hit = values("normal", (500,), dtype), np.arange(500) % 3 == 0
    weight = np.where(hit, 0.25, 0.75)
    for kind in ("", "_and_grad", "_grad_hess"):
        given = {} if kind == "_grad_hess" else {"reduction": "none"}
        expected = getattr(softloss, f"binary_cross_entropy_with_logits{kind}")(x, hit, weight=weight, **given)
        actual = getattr(softloss, f"sigmoid_focal_loss{kind}")(x, hit, gamma=0, alpha=0.25, **given)
        for a, b in zip(np.atleast_2d(actual), np.atleast_2d(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=4 * np.finfo(dtype).eps)


# ---- edges ---------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 1e9, 1e300])
def test_infinite_logits_give_the_limit(gamma, dtype):
    x = np.array([INF, INF, -INF, -INF, NAN], dtype)
    target = [1, 0, 1, 0, 1]
    for alpha in (None, 1.0):
        weight = np.array([1, 0, 1, 0, 1]) if alpha else np.ones(5)
        loss, grad = softloss.sigmoid_focal_loss_and_grad(x, target, gamma=gamma, alpha=alpha, reduction="none")
        np.testing.assert_array_equal(loss, np.where(weight == 0, 0, [0, INF, INF, 0, NAN]))
        np.testing.assert_array_equal(grad, weight * [0, 1, -1, 0, NAN])
        hess = softloss.sigmoid_focal_loss_grad_hess(x, target, gamma=gamma, alpha=alpha, hess_min=-INF).hess
        np.testing.assert_array_equal(hess, [0, 0, 0, 0, NAN])
    rows = np.array([[0, -INF, -1], [-INF, 0, -INF], [INF, 0, 0], [-INF] * 3, [0, NAN, 0]], dtype)
    loss, grad = softloss.softmax_focal_loss_and_grad(rows, [1, 1, 0, 0, 0], gamma=gamma, reduction="none")
    np.testing.assert_array_equal(loss, [INF, 0, NAN, NAN, NAN])
    np.testing.assert_array_equal(grad[1], [0, 0, 0])
    assert grad[0, 1] == -1 and np.isnan(grad[2:]).all()
    hess = softloss.softmax_focal_loss_grad_hess(rows, [1, 1, 0, 0, 0], gamma=gamma, hess_min=-INF).hess
    np.testing.assert_array_equal(hess[1], [0, 0, 0])
    assert hess[0, 1] == 0 and np.isnan(hess[2:]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_class_that_is_all_that_counts_has_no_loss(dtype):
    """Also where q^(gamma - 1) and q^(gamma - 2) are larger than every number."""
    gap = 100 if dtype == np.float32 else 740
    for gamma in (1e-3, 0.5, 1.0, 2.0, 100.0):
        for row in ([gap, 0.0, -1.0], [4 * gap, 0.0, 0.0]):
            results = all_results("softmax_focal_loss", np.array([row] * 3, dtype), [0, 1, 2], gamma=gamma)
            assert all(np.isfinite(y).all() for y in results)
            loss, grad, hess = results
            assert loss[0] < 1e-30 and abs(grad[0]).max() < 1e-30 and abs(hess[0]).max() < 1e-30
            assert loss[1] == pytest.approx(row[0])


def test_hessians_are_negative_where_the_target_is_unlikely():
    hess = softloss.sigmoid_focal_loss_grad_hess([-4.0, 4.0], [1, 1], hess_min=-INF).hess
    assert hess[0] < 0 < hess[1]
    np.testing.assert_array_equal(softloss.sigmoid_focal_loss_grad_hess([-4.0], [1]).hess, [0.0])
    np.testing.assert_array_equal(softloss.sigmoid_focal_loss_grad_hess([-4.0], [1], hess_min=-1e-3).hess, [-1e-3])
    rows = softloss.softmax_focal_loss_grad_hess([[6.0, 0.0, 0.0]], [1], hess_min=-INF).hess
    assert rows[0, 1] < 0


def test_classes_that_are_told_apart_well_count_less():
    x = np.array([[4.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    share = softloss.softmax_focal_loss(x, [0, 0, 0], reduction="none") / softloss.cross_entropy(
        x, [0, 0, 0], reduction="none"
    )
    np.testing.assert_allclose(share, (1 - softloss.softmax(x)[:, 0]) ** 2, rtol=1e-14)
    assert np.all(np.diff(share) > 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_neighbours_change_no_bit(gamma, dtype):
    """Far logits take another path, with all that share their vectors."""
    x = np.random.default_rng(5).uniform(-30, 30, 3000).astype(dtype)
    target = np.arange(3000) % 2
    alone = all_results("sigmoid_focal_loss", x, target, gamma=gamma, alpha=0.3)
    x[::67] = 300
    beside = all_results("sigmoid_focal_loss", x, target, gamma=gamma, alpha=0.3)
    kept = x != 300
    for a, b in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(a[kept], b[kept])
