"""Gradients and Hessians: against PyTorch's autograd, hard inputs against mpmath, and edge cases.

Every option, dtype and layout is in test_matrix.py, errors are in test_errors.py.
"""

import inspect
import itertools

import mpmath
import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from operations import OPERATIONS
from strategies import FINITE_VALUES, FLOATS, HALVES, SPECIAL_VALUES, arrays, probabilities, values

INF, NAN = np.inf, np.nan
CLASS_LOSSES = ["cross_entropy", "categorical_cross_entropy", "nll_loss"]
BINARY_LOSSES = ["binary_cross_entropy", "binary_cross_entropy_with_logits"]


def with_grad(name, *args, **options):
    return getattr(softloss, f"{name}_and_grad")(*args, **options)


def labels(rows, classes, seed=0):
    return np.random.default_rng(seed).integers(0, classes, rows)


def class_scores(name, shape, dtype, seed=0):
    x = values("normal", shape, np.float64, seed)
    if name == "categorical_cross_entropy":
        x = reference.softmax(x)
    return (reference.log_softmax(x) if name == "nll_loss" else x).astype(dtype)


def binary_scores(name, shape, dtype, seed=0):
    x = values("normal", shape, np.float64, seed)
    return (x if "logits" in name else reference.sigmoid(x)).astype(dtype)


def parameters(name):
    return [(p.name, p.kind, p.default) for p in inspect.signature(getattr(softloss, name)).parameters.values()]


@pytest.mark.parametrize("name", [*CLASS_LOSSES, *BINARY_LOSSES])
def test_signature_is_that_of_the_loss_and_grad_out(name):
    keyword = inspect.Parameter.KEYWORD_ONLY
    assert parameters(f"{name}_and_grad") == [*parameters(name), ("grad_out", keyword, None)]


@pytest.mark.parametrize(
    "name, signature",
    {
        "cross_entropy_grad_hess": "(logits, target, /, *, axis=-1, weight=None, sample_weight=None, "
        "ignore_index=-100, label_smoothing=0.0, hess_scale=1.0, hess_min=0.0, grad_out=None, hess_out=None)",
        "binary_cross_entropy_with_logits_grad_hess": "(logits, target, /, *, weight=None, pos_weight=None, "
        "hess_scale=1.0, hess_min=0.0, grad_out=None, hess_out=None)",
        "softmax_backward": "(y, dy, /, axis=-1, *, out=None)",
        "log_softmax_backward": "(logy, dy, /, axis=-1, *, out=None)",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(plain)) == signature


# ---- PyTorch ---------------------------------------------


def torch_gradient(function, x, *operands, **options):
    """(loss, gradient) of the sum of function(x, ...) by autograd; arrays become tensors."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in (x, *operands)]
    tensors[0].requires_grad_()
    options = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = getattr(torch.nn.functional, function)(*tensors, **options)
    (grad,) = torch.autograd.grad(loss.sum(), tensors[0])
    return loss.detach().numpy(), grad.numpy()


def assert_near(actual, expected, dtype, context=""):
    """The error of PyTorch itself is several units of the largest element."""
    tolerance = {np.float32: 1e-5, np.float64: 1e-13}[dtype]
    atol = tolerance * np.max(np.abs(expected), initial=0, where=np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=atol, err_msg=str(context))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
def test_cross_entropy_is_autograds(soft, dtype):
    for shape in [(6, 4), (3, 50), (2, 7, 5)]:
        x = values("normal", shape, dtype)
        rows = (shape[0], *shape[2:])
        if soft:
            p = np.random.default_rng(0).random(shape)
            target = (p / p.sum(1, keepdims=True)).astype(dtype)
        else:
            target = np.where(labels(rows, 4, seed=2) == 0, -100, labels(rows, shape[1]))
        weight = np.random.default_rng(1).uniform(0.2, 3, shape[1]).astype(dtype)
        for w, e, reduction in itertools.product([None, weight], [0.0, 0.1, 1.0], ["mean", "sum", "none"]):
            options = {"weight": w, "label_smoothing": e, "reduction": reduction}
            loss, grad = with_grad("cross_entropy", x, target, axis=1, **options)
            expected = torch_gradient("cross_entropy", x, target, **options)
            assert_near(loss, expected[0], dtype, options)
            assert_near(grad, expected[1], dtype, options)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nll_loss_is_autograds(dtype):
    x = class_scores("nll_loss", (9, 5), dtype)
    target = np.where(np.arange(9) % 4 == 0, 2, labels(9, 5))
    weight = np.array([1, 2, 0.5, 3, 0.25], dtype)
    for w, reduction, ignored in itertools.product([None, weight], ["mean", "sum", "none"], [-100, 2]):
        options = {"weight": w, "reduction": reduction, "ignore_index": ignored}
        loss, grad = with_grad("nll_loss", x, target, **options)
        expected = torch_gradient("nll_loss", x, target, **options)
        assert_near(loss, expected[0], dtype, options)
        assert_near(grad, expected[1], dtype, options)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY_LOSSES)
def test_binary_losses_are_autograds(name, dtype):
    rng = np.random.default_rng(3)
    x = binary_scores(name, (7, 30), dtype)
    weights = [None, rng.uniform(0.2, 3, (7, 30)).astype(dtype)]
    positives = [None, rng.uniform(0.2, 3, 30).astype(dtype)] if "logits" in name else [None]
    for target in (rng.integers(0, 2, (7, 30)).astype(dtype), rng.random((7, 30)).astype(dtype)):
        for weight, positive, reduction in itertools.product(weights, positives, ["mean", "sum", "none"]):
            options = {"weight": weight, "reduction": reduction}
            if positive is not None:
                options["pos_weight"] = positive
            loss, grad = with_grad(name, x, target, **options)
            expected = torch_gradient(name, x, target, **options)
            assert_near(loss, expected[0], dtype, options.keys())
            assert_near(grad, expected[1], dtype, options.keys())


@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_cross_entropy_at_the_ends_is_autograds(dtype):
    probs = np.array([0, 0, 1, 1, 1e-30, 0.25], dtype)
    target = np.array([0, 1, 0, 1, 1, 0.5], dtype)
    _, grad = with_grad("binary_cross_entropy", probs, target, reduction="sum")
    np.testing.assert_allclose(grad, torch_gradient("binary_cross_entropy", probs, target)[1] * 6, rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_backward_is_autograds(name, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for shape, axis in [((5, 40), 1), ((40, 5), 0), ((3, 4, 5), 1)]:
        x, dy = values("normal", shape, dtype), values("normal", shape, dtype, 1)
        tensor = torch.from_numpy(x).requires_grad_()
        y = getattr(torch, name)(tensor, axis)
        (expected,) = torch.autograd.grad(y, tensor, torch.from_numpy(dy))
        dx = getattr(softloss, f"{name}_backward")(getattr(softloss, name)(x, axis), dy, axis)
        assert_near(dx, expected.numpy(), dtype)


def torch_diagonal(function, x, *operands):
    """Diagonal of the Hessian of the summed loss by autograd, twice."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rest = [torch.from_numpy(each) for each in operands]

    def loss(tensor):
        return getattr(torch.nn.functional, function)(tensor, *rest, reduction="sum")

    hessian = torch.autograd.functional.hessian(loss, torch.from_numpy(x))
    return hessian.numpy().reshape(x.size, x.size).diagonal().reshape(x.shape)


@pytest.mark.parametrize("dtype", FLOATS)
def test_hessians_are_autograds(dtype):
    for shape in [(4, 3), (2, 20)]:
        x, target = values("normal", shape, dtype), labels(shape[0], shape[1])
        grad, hess = softloss.cross_entropy_grad_hess(x, target)
        assert_near(hess, torch_diagonal("cross_entropy", x, target), dtype)
        assert_near(grad, torch_gradient("cross_entropy", x, target, reduction="sum")[1], dtype)
        z = np.random.default_rng(4).random(shape).astype(dtype)
        grad, hess = softloss.binary_cross_entropy_with_logits_grad_hess(x, z)
        name = "binary_cross_entropy_with_logits"
        assert_near(hess, torch_diagonal(name, x, z), dtype)
        assert_near(grad, torch_gradient(name, x, z, reduction="sum")[1], dtype)


# ---- mpmath ---------------------------------------------

HARD_ROWS = {
    "a loss of 1e-8": [20.0, *[0.0] * 9],
    "a loss of 1e-42": [100.0, *[0.0] * 9],
    "a loss of 1e-303": [700.0, *[0.0] * 9],
    "far from zero": [1e4 + 1, 1e4, 1e4 - 3, 1e4 + 0.5],
    "far below zero": [-1e4 - 1, -1e4, -1e4 - 30, -1e4 + 0.5],
    "equal": [0.1] * 30,
    "equal and large": [1e6] * 3,
    "two at the maximum": [5.0, 5.0, -1.0, 0.0, 3.0],
    "all but one at the maximum": [7.0] * 20 + [-90.0],
    "one class": [3.0],
    "wide": [80.0, -80.0, 79.5, 0.0, -40.0],
    "almost certain": [0.0, -16.0, -17.5, -33.0],
}


def exact_class_row(row, label):
    """Gradient and diagonal Hessian of the cross-entropy of one row, as pairs of float64."""
    with mpmath.workdps(700):
        e = [mpmath.exp(mpmath.mpf(float(x))) for x in row]
        total = mpmath.fsum(e)
        p = [each / total for each in e]
        grad = [each - (i == label) for i, each in enumerate(p)]
        return as_pairs(grad), as_pairs([each * (1 - each) for each in p])


def as_pairs(numbers):
    hi = [float(x) for x in numbers]
    return np.array(hi), np.array([float(x - h) for x, h in zip(numbers, hi, strict=True)])


def assert_pairs(actual, true, dtype, limit, context):
    error = reference.ulp_error(actual, true, dtype)
    assert error.max() <= limit, f"{error.max():.3g} ULP at {error.argmax()}; {context}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", HARD_ROWS)
def test_hard_rows_are_mpmaths(kind, dtype):
    """Every label, at the maximum or not: each element of the gradient is accurate relative to itself."""
    row = np.array(HARD_ROWS[kind], dtype)
    for label in range(len(row)):
        grad, hess = exact_class_row(row, label)
        actual = softloss.cross_entropy_and_grad(row[None], [label], reduction="sum").grad[0]
        assert_pairs(actual, grad, dtype, 3, f"{kind}, label {label}")
        actual = softloss.cross_entropy_grad_hess(row[None], [label])
        assert_pairs(actual.grad[0], grad, dtype, 3, f"{kind}, label {label}")
        assert_pairs(actual.hess[0], hess, dtype, 4, f"Hessian, {kind}, label {label}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_soft_hessians_are_mpmaths(smoothing, dtype):
    """Rows of the target that do not sum to 1, and class weights: hess = sum(w q) p (1 - p)."""
    rng = np.random.default_rng(3)
    for kind, row in HARD_ROWS.items():
        x, n = np.array(row, dtype), len(row)
        target, weight = (rng.random(n) / n).astype(dtype), rng.uniform(0.5, 1, n).astype(dtype)
        with mpmath.workdps(700):
            q = [mpmath.mpf(float(each)) * (1 - mpmath.mpf(smoothing)) + mpmath.mpf(smoothing) / n for each in target]
            total = mpmath.fsum(mpmath.mpf(float(w)) * each for w, each in zip(weight, q, strict=True))
            e = [mpmath.exp(mpmath.mpf(float(each))) for each in x]
            p = [each / mpmath.fsum(e) for each in e]
            hess = as_pairs([total * each * (1 - each) for each in p])
        actual = softloss.cross_entropy_grad_hess(x[None], target[None], weight=weight, label_smoothing=smoothing)
        assert_pairs(actual.hess[0], hess, dtype, 4, kind)
        true = reference.cross_entropy_grad_hess(x[None], target[None], weight=weight, label_smoothing=smoothing)
        reference.assert_ulps(actual.grad, true.grad, 3, kind, true.scale)


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_hot_targets_have_the_hessian_of_their_labels(dtype):
    x, target = values("normal", (50, 7), dtype), labels(50, 7)
    one_hot, weight = np.eye(7, dtype=dtype)[target], np.arange(1, 8)
    expected = softloss.cross_entropy_grad_hess(x, target, weight=weight)
    actual = softloss.cross_entropy_grad_hess(x, one_hot, weight=weight)
    assert_near(actual.grad, expected.grad, dtype)
    np.testing.assert_allclose(actual.hess, expected.hess, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
def test_hard_logits_of_binary_losses_are_mpmaths(dtype):
    x = np.array([0, 1e-30, -1e-6, 1, -1, 17, -17, 40, -40, 87, -87, 100, -100, 700, -700, 1e4, -1e4], dtype)
    for target in (0, 1):
        with mpmath.workdps(700):
            s = [1 / (1 + mpmath.exp(-mpmath.mpf(float(each)))) for each in x]
            grad, hess = as_pairs([each - target for each in s]), as_pairs([each * (1 - each) for each in s])
        name = "binary_cross_entropy_with_logits"
        assert_pairs(with_grad(name, x, target, reduction="sum").grad, grad, dtype, 3, f"target {target}")
        actual = softloss.binary_cross_entropy_with_logits_grad_hess(x, target)
        assert_pairs(actual.grad, grad, dtype, 3, f"target {target}")
        assert_pairs(actual.hess, hess, dtype, 4, f"Hessian, target {target}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_tiny_gradients_keep_their_relative_accuracy(dtype):
    """If the loss is nearly 0, the gradient at the label is minus the loss, to first order."""
    for gap in (15.0, 20.0, 40.0, 80.0):
        for classes in (2, 10, 1000):
            logits = np.zeros((1, classes), dtype)
            logits[0, classes // 2] = gap
            loss, grad = softloss.cross_entropy_and_grad(logits, [classes // 2], reduction="sum")
            assert 0 < loss < 1
            others = (classes - 1) * np.exp(-np.longdouble(gap))
            reference.assert_ulps(grad[0, classes // 2], np.asarray(-others / (1 + others)), 3)


# ---- values of every kind ---------------------------------------------


@given(data=st.data())
def test_class_gradients_of_any_values(data):
    x, axis = data.draw(arrays(names=tuple(FINITE_VALUES)))
    target = labels(np.delete(x.shape, axis), x.shape[axis], data.draw(st.integers(0, 1000)))
    true = reference.cross_entropy_and_grad(x, target, axis, reduction="sum")
    actual = softloss.cross_entropy_and_grad(x, target, axis=axis, reduction="sum")
    reference.assert_ulps(actual.grad, true.grad, 3, context=f"{x!r}, {target!r}")


@given(data=st.data())
def test_soft_class_gradients_of_any_values(data):
    x, axis = data.draw(arrays(names=tuple(FINITE_VALUES)))
    target = probabilities(x.shape, x.dtype.newbyteorder("="), data.draw(st.integers(0, 1000)), axis)
    true = reference.cross_entropy_and_grad(x, target, axis, reduction="sum")
    actual = softloss.cross_entropy_and_grad(x, target, axis=axis, reduction="sum")
    reference.assert_ulps(actual.grad, true.grad, 3, f"{x!r}, {target!r}", true.scale)


@given(data=st.data())
def test_binary_gradients_of_any_values(data):
    x, _ = data.draw(arrays(min_dims=0))
    target = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2, x.shape)
    true = reference.binary_cross_entropy_with_logits_and_grad(x, target, reduction="sum")
    actual = with_grad("binary_cross_entropy_with_logits", x, target, reduction="sum")
    reference.assert_ulps(actual.grad, true.grad, 3, context=repr(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", FINITE_VALUES)
def test_every_length(kind, dtype):
    """Lengths around the vectors' 8 and 16 lanes, around 64 and beyond several unrolled steps, on both axes."""
    for n in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 257, 1000, 5000]:
        for shape, axis in (((3, n), 1), ((n, 20), 0)):
            x = values(kind, shape, dtype, seed=n)
            target = labels(np.delete(shape, axis), n, seed=n)
            true = reference.cross_entropy_grad_hess(x, target, axis)
            grad = softloss.cross_entropy_and_grad(x, target, axis=axis, reduction="sum").grad
            reference.assert_ulps(grad, true.grad, 3, context=f"shape {shape}")
            actual = softloss.cross_entropy_grad_hess(x, target, axis=axis)
            reference.assert_ulps(actual.grad, true.grad, 3, context=f"shape {shape}")
            reference.assert_ulps(actual.hess, true.hess, 4, context=f"Hessian, shape {shape}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_rows(dtype):
    for n in (32_769, 300_001):
        x, target = values("normal", (2, n), dtype), np.array([1, n - 1])
        true = reference.cross_entropy_and_grad(x, target)
        reference.assert_ulps(softloss.cross_entropy_and_grad(x, target).grad, true.grad, 3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_of_many_rows_add_no_error(reduction, seed):
    """Weights, temperature and the denominator of the mean are one factor. float64, the dtype of the computation."""
    rng = np.random.default_rng(seed)
    x, target = 3 * rng.standard_normal((3000, 5)), labels(3000, 5, seed)
    several = {"weight": rng.random(5), "sample_weight": rng.random(3000), "temperature": 1.3}
    for options in (*({name: value} for name, value in several.items()), several):
        for t in (target, reference.softmax(x[::-1]).astype(np.float64)):
            true = reference.cross_entropy_and_grad(x, t, reduction=reduction, **options)
            actual = softloss.cross_entropy_and_grad(x, t, reduction=reduction, **options)
            reference.assert_ulps(actual.grad, true.grad, 3, f"{list(options)}, {t.dtype}", true.scale)


@pytest.mark.parametrize("dtype", FLOATS)
def test_weights_that_add_up_to_nothing_leave_no_gradient(dtype):
    x = np.zeros((2, 2), dtype)
    for options in (
        {"weight": [1.5, -1.5]},
        {"weight": [0, 0], "label_smoothing": 0.5},
        {"sample_weight": [1.5, -1.5]},
    ):
        assert not softloss.cross_entropy_and_grad(x, [0, 1], **options).grad.any()
    assert not softloss.cross_entropy_and_grad(x, [-100, -100]).grad.any()


def test_options_of_soft_targets_add_no_error():
    """Each multiplies p, the target or both, which may partly cancel. float64, the dtype of the computation."""
    rng = np.random.default_rng(2)
    x, target = rng.uniform(-4, 4, (1000, 100)), rng.random((1000, 100))
    target /= target.sum(-1, keepdims=True)
    several = {"weight": rng.uniform(0.25, 2, 100), "label_smoothing": 0.1, "temperature": 3.0}
    for options in (*({name: value} for name, value in several.items()), several):
        for sample_weight in (None, rng.uniform(0, 2, 1000)):
            options = {**options, "sample_weight": sample_weight}
            true = reference.cross_entropy_and_grad(x, target, **options)
            actual = softloss.cross_entropy_and_grad(x, target, **options)
            reference.assert_ulps(actual.grad, true.grad, 3, str(list(options)), true.scale)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("options", [{"sample_weight": [np.inf]}, {"sample_weight": [1e300], "temperature": 1e-10}])
def test_gradients_of_soft_targets_beyond_all_numbers(options, dtype):
    x, target = np.array([[1, 2, 3]], dtype), np.array([[0.2, 0.3, 0.5]])
    grad = softloss.cross_entropy_and_grad(x, target, reduction="sum", **options).grad
    np.testing.assert_array_equal(grad, [[-np.inf, -np.inf, np.inf]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", SPECIAL_VALUES)
def test_infinities_and_nan(kind, dtype):
    for n in (2, 5, 40, 300):
        x, target = values(kind, (50, n), dtype, seed=n), labels(50, n)
        for soft in (False, True):
            t = probabilities((50, n), dtype) if soft else target
            true = reference.cross_entropy_and_grad(x, t, reduction="sum")
            actual = softloss.cross_entropy_and_grad(x, t, reduction="sum")
            reference.assert_ulps(actual.grad, true.grad, 3, f"{n} classes, soft: {soft}", true.scale)
        true = reference.cross_entropy_grad_hess(x, target)
        actual = softloss.cross_entropy_grad_hess(x, target)
        reference.assert_ulps(actual.grad, true.grad, 3)
        reference.assert_ulps(actual.hess, true.hess, 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_logits_of_binary_losses(dtype):
    x = np.array([-INF, -INF, INF, INF, NAN], dtype)
    target = [0, 1, 0, 1, 1]
    _, grad = with_grad("binary_cross_entropy_with_logits", x, target, reduction="sum")
    np.testing.assert_array_equal(grad, [0, -1, 1, 0, NAN])
    grad, hess = softloss.binary_cross_entropy_with_logits_grad_hess(x, target, hess_min=0.5)
    np.testing.assert_array_equal(grad, [0, -1, 1, 0, NAN])
    np.testing.assert_array_equal(hess, [0.5, 0.5, 0.5, 0.5, NAN])


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_probabilities_of_class_losses(dtype):
    loss, grad = with_grad("categorical_cross_entropy", np.array([[0, 1], [1, 0]], dtype), [0, 0], reduction="sum")
    assert loss == INF
    np.testing.assert_array_equal(grad, [[-INF, 0], [-1, 0]])
    loss, grad = with_grad("nll_loss", np.array([[-INF, 0], [0, -INF]], dtype), [0, 0], reduction="sum")
    assert loss == INF
    np.testing.assert_array_equal(grad, [[-1, 0], [-1, 0]])


# ---- what the gradient is of ---------------------------------------------


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.name.endswith("_and_grad")], ids=str)
def test_the_loss_is_that_of_the_function_without_gradient(operation):
    loss = getattr(softloss, operation.name.removesuffix("_and_grad"))
    for dtype in (*FLOATS, *HALVES):
        for shape, axis in operation.shapes():
            operands = operation.operands(shape, dtype, axis)
            for options in operation.cases(shape, axis):
                along = {"axis": axis} if operation.has_axis else {}
                both = operation.raw(*operands, axis=axis, **options)
                alone = loss(*operands, **along, **options)
                assert type(both) is softloss.LossGrad
                assert type(both.loss) is type(alone)
                assert np.asarray(both.loss).dtype == np.asarray(alone).dtype
                np.testing.assert_array_equal(both.loss, alone, err_msg=f"{shape}, {options}")


@pytest.mark.parametrize("name", [*CLASS_LOSSES, *BINARY_LOSSES])
def test_the_gradient_of_none_is_that_of_the_sum(name):
    for dtype in FLOATS:
        if name in BINARY_LOSSES:
            x, target = binary_scores(name, (6, 4), dtype), labels((6, 4), 2)
        else:
            x, target = class_scores(name, (6, 4), dtype), labels(6, 4)
        of_rows, of_sum = (with_grad(name, x, target, reduction=r).grad for r in ("none", "sum"))
        np.testing.assert_array_equal(of_rows, of_sum)
        np.testing.assert_allclose(with_grad(name, x, target).grad, of_sum / (24 if name in BINARY_LOSSES else 6), 1e-6)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_ignored_rows_have_no_gradient(name):
    for dtype in FLOATS:
        x = class_scores(name, (6, 40), dtype)
        target = labels(6, 40)
        target[[1, 4]] = -100
        poisoned = x.copy()
        poisoned[[1, 4]] = NAN if name != "categorical_cross_entropy" else 0
        for options in ({}, {"reduction": "sum"}, {"weight": np.linspace(1, 2, 40)}):
            grad = with_grad(name, poisoned, target, **options).grad
            assert np.all(grad[[1, 4]] == 0)
            kept = with_grad(name, np.delete(x, [1, 4], 0), np.delete(target, [1, 4]), **options).grad
            np.testing.assert_array_equal(np.delete(grad, [1, 4], 0), kept)
    for least, expected in ((0.125, 0.125), (-INF, 0)):
        for function in (softloss.cross_entropy_grad_hess, softloss.softmax_focal_loss_grad_hess):
            hess = function(poisoned, target, hess_min=least).hess
            assert np.all(hess[[1, 4]] == expected)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_nothing_to_average_has_the_gradient_zero(name):
    x = class_scores(name, (3, 4), np.float32)
    for target, options in (([-100] * 3, {}), ([1, 1, 1], {"sample_weight": [0, 0, 0]})):
        for empty in (NAN, 0.0):
            loss, grad = with_grad(name, x, target, empty=empty, **options)
            assert np.isnan(loss) if np.isnan(empty) else loss == 0
            reference.assert_identical(grad, np.zeros((3, 4), np.float32))


@pytest.mark.parametrize("name", [*CLASS_LOSSES, *BINARY_LOSSES])
def test_no_rows(name):
    for shape in ((0, 3), (0, 0), (2, 0, 4)):
        target = np.zeros(shape) if name in BINARY_LOSSES else np.zeros(shape[:-1], int)
        loss, grad = with_grad(name, np.zeros(shape, np.float32), target)
        assert np.isnan(loss)
        reference.assert_identical(grad, np.zeros(shape, np.float32))
    if name in BINARY_LOSSES:
        assert softloss.binary_cross_entropy_with_logits_grad_hess(np.zeros((0, 3)), 1).hess.shape == (0, 3)
    else:
        assert softloss.cross_entropy_grad_hess(np.zeros((0, 3)), np.zeros(0, int)).hess.shape == (0, 3)


@pytest.mark.parametrize("name", [*CLASS_LOSSES, *BINARY_LOSSES])
def test_dtype_is_that_of_loss_and_gradient(name):
    for source, dtype in itertools.product((np.float32, np.float64, *HALVES), FLOATS):
        if name in BINARY_LOSSES:
            x, target = np.full((3, 4), 0.25, source), labels((3, 4), 2)
        else:
            x, target = np.full((3, 4), 0.25, source), labels(3, 4)
        loss, grad = with_grad(name, x, target, dtype=dtype)
        assert loss.dtype == grad.dtype == dtype
        out = np.zeros((3, 4), dtype)
        assert with_grad(name, x, target, dtype=dtype, grad_out=out).grad is out
        np.testing.assert_array_equal(out, grad)


def test_one_row_and_one_element():
    loss, grad = softloss.cross_entropy_and_grad([0.0, 0.0], 1)
    assert isinstance(loss, np.float64)
    np.testing.assert_array_equal(grad, [0.5, -0.5])
    loss, grad = softloss.binary_cross_entropy_with_logits_and_grad(0.0, 1)
    assert isinstance(loss, np.float64) and isinstance(grad, np.float64)
    assert grad == -0.5
    grad, hess = softloss.binary_cross_entropy_with_logits_grad_hess(0.0, 1)
    assert isinstance(grad, np.float64) and hess == 0.25


def test_known_hessians():
    """XGBoost's objectives: softprob has hess_scale 2 and hess_min 1e-16."""
    p = np.array([0.5, 0.25, 0.25])
    grad, hess = softloss.cross_entropy_grad_hess(np.log(p)[None], [1], hess_scale=2.0, hess_min=1e-16)
    np.testing.assert_allclose(grad, [[0.5, -0.75, 0.25]], rtol=1e-15)
    np.testing.assert_allclose(hess, [[0.5, 0.375, 0.375]], rtol=1e-15)
    hess = softloss.cross_entropy_grad_hess([[1000.0, 0.0]], [0], hess_min=1e-16).hess
    np.testing.assert_array_equal(hess, [[1e-16, 1e-16]])
    hess = softloss.cross_entropy_grad_hess([[0.0, 0.0]] * 2, [0, 1], weight=[2, 4], sample_weight=[3, 5]).hess
    np.testing.assert_array_equal(hess, [[1.5, 1.5], [5, 5]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradients_of_the_transforms_sum_to_zero(name, dtype):
    """Softmax does not change if a constant is added to all inputs."""
    for n in (1, 5, 100):
        x, dy = values("normal", (4, n), dtype), values("normal", (4, n), dtype, 1)
        dx = getattr(softloss, f"{name}_backward")(getattr(softloss, name)(x), dy)
        assert np.all(abs(dx.sum(-1)) <= 20 * np.finfo(dtype).eps * abs(dy).sum(-1))


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_backward_of_empty_arrays_and_scalars(name):
    function = getattr(softloss, name)
    for shape in ((0,), (3, 0), (0, 3)):
        reference.assert_identical(function(np.zeros(shape), np.zeros(shape)), np.zeros(shape))
    assert function(1.0 if name == "softmax_backward" else 0.0, 3.0) == 0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("n", [1, 3, 40, 64, 200])
def test_backward_of_nan(name, n, dtype):
    """A NaN in a row of either argument makes that row NaN, along and across the vectors, and no other."""
    x, dy = values("normal", (40, n), dtype), values("normal", (40, n), dtype, 1)
    y, backward = getattr(softloss, name)(x), getattr(softloss, f"{name}_backward")
    expected = backward(y, dy)
    places = [(0, 0), (7, n // 2), (20, int(y[20].argmax())), (39, n - 1)]
    for argument in (y, dy):
        for row, column in places:
            before, argument[row, column] = argument[row, column], np.nan
            for dx in (backward(y, dy), backward(y.copy("F"), dy.copy("F"))):
                assert np.isnan(dx[row]).all(), (row, column)
                np.testing.assert_array_equal(np.delete(dx, row, 0), np.delete(expected, row, 0))
            argument[row, column] = before
