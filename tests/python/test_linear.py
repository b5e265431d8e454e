"""The last layer and its loss in bounded memory: against the two steps apart, PyTorch's autograd, and measured memory.

Logits of small integers are the same in blocks of every size, since all their sums are exact; other logits differ by
the rounding of the products. Losses and scores of logits themselves are tested elsewhere. Must not: speed.
"""

import inspect
import itertools
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import reference
import softloss
from strategies import FLOATS, HALVES, LAYOUTS, probabilities

INF, NAN = np.inf, np.nan
ROWS, FEATURES, CLASSES = 23, 7, 30
SMALL = 6000  # bytes of working memory, for which these need several blocks


def operands(dtype=np.float32, rows=ROWS, features=FEATURES, classes=CLASSES, seed=0):
    """x, w, bias, of small integers: their logits are exact in every dtype."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(-2, 3, shape).astype(dtype) for shape in ((rows, features), (classes, features), classes))


def rounded(dtype, rows=ROWS, features=FEATURES, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((rows, features), (classes, features), classes)
    return tuple((rng.standard_normal(shape) / 2).astype(dtype) for shape in shapes)


def labels(rows=ROWS, classes=CLASSES, seed=1):
    return np.random.default_rng(seed).integers(0, classes, rows)


def two_steps(x, w, target, bias=None, dtype=np.float32, **options):
    """Loss and gradients from all logits at once."""
    x, w = x.astype(dtype), w.astype(dtype)
    logits = x @ w.T
    if bias is not None:
        logits += bias.astype(dtype)
    loss, grad = softloss.cross_entropy_and_grad(logits, target, **options)
    flat = grad.reshape(-1, grad.shape[-1])
    grad_w = flat.T @ x.reshape(-1, x.shape[-1])
    return softloss.LinearGrad(loss, grad @ w, grad_w, None if bias is None else flat.sum(0))


def of_float64(x, w, target, bias=None, **options):
    """The same in float64, from what the arguments hold."""
    return two_steps(*(np.asarray(a, np.float64) for a in (x, w)), target, bias, np.float64, **options)


def assert_close(actual, expected, eps):
    """Within the errors of sums of some dozen products, each about 1, and the rounding to the dtype of each result."""
    for field, y, true in zip(softloss.LinearGrad._fields, actual, expected, strict=True):
        if true is None:
            assert y is None
            continue
        bound = 40 * eps + float(ml_dtypes.finfo(y.dtype).eps)
        np.testing.assert_allclose(
            np.asarray(y, np.float64), true, rtol=bound, atol=bound * max(1, np.abs(true).max()), err_msg=field
        )


OPTIONS = {
    "none": lambda: {},
    "sum": lambda: {"reduction": "sum"},
    "rows": lambda: {"reduction": "none"},
    "weight": lambda: {"weight": np.linspace(0, 2, CLASSES)},
    "sample_weight": lambda: {"sample_weight": np.arange(ROWS) % 3},
    "ignore_index": lambda: {"ignore_index": 4},
    "smoothing": lambda: {"label_smoothing": 0.1},
    "temperature": lambda: {"temperature": 2.5},
    "all": lambda: {
        "weight": np.linspace(0, 2, CLASSES),
        "sample_weight": np.arange(ROWS) % 3,
        "ignore_index": 4,
        "label_smoothing": 0.2,
        "temperature": 0.5,
    },
}

SIGNATURES = {
    "linear_cross_entropy": "(x, w, target, /, *, bias=None, weight=None, sample_weight=None, ignore_index=-100, "
    "label_smoothing=0.0, temperature=1.0, reduction='mean', empty=nan, memory=67108864)",
    "linear_token_logprobs": "(x, w, target, /, *, bias=None, top_k=0, temperature=1.0, ignore_index=-100, "
    "memory=67108864)",
    "linear_softmax_topk": "(x, w, /, k=1, *, bias=None, temperature=1.0, memory=67108864)",
}
SIGNATURES["linear_cross_entropy_and_grad"] = SIGNATURES["linear_cross_entropy"]


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(actual.replace(parameters=plain, return_annotation=inspect.Signature.empty)) == SIGNATURES[name]


# ---- values ---------------------------------------------


@pytest.mark.parametrize("memory", [0, SMALL, 1 << 30])
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@pytest.mark.parametrize("name", OPTIONS)
def test_is_that_of_two_steps(name, soft, memory):
    x, w, bias = rounded(np.float64)
    target = probabilities((ROWS, CLASSES)) if soft else labels()
    options = OPTIONS[name]()
    expected = of_float64(x, w, target, bias, **options)
    actual = softloss.linear_cross_entropy_and_grad(x, w, target, bias=bias, memory=memory, **options)
    assert_close(actual, expected, np.finfo(float).eps)
    loss = softloss.linear_cross_entropy(x, w, target, bias=bias, memory=memory, **options)
    assert type(loss) is type(expected.loss)
    np.testing.assert_allclose(loss, actual.loss, rtol=1e-14)


@pytest.mark.parametrize("memory", [0, SMALL, 1 << 30])
@pytest.mark.parametrize("w_dtype", [*FLOATS, *HALVES, np.int8])
@pytest.mark.parametrize("x_dtype", [*FLOATS, *HALVES, np.int8])
def test_dtypes(x_dtype, w_dtype, memory):
    x, w, bias = operands()
    x, w = x.astype(x_dtype), w.astype(w_dtype)
    bias = bias.astype(ml_dtypes.bfloat16)
    wide = np.float64 if {x_dtype, w_dtype} & {np.float64, np.int8} else np.float32
    actual = softloss.linear_cross_entropy_and_grad(x, w, labels(), bias=bias, memory=memory)
    assert_close(actual, of_float64(x, w, labels(), bias), np.finfo(wide).eps)
    of = {np.int8: np.float64}
    assert [y.dtype for y in actual] == [wide, of.get(x_dtype, x_dtype), of.get(w_dtype, w_dtype), bias.dtype]
    assert softloss.linear_softmax_topk(x, w).prob.dtype == wide
    assert softloss.linear_token_logprobs(x, w, labels()).logprob.dtype == wide


def test_a_wide_bias_widens_the_logits():
    x, w, bias = operands()
    assert softloss.linear_cross_entropy(x, w, labels(), bias=bias.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("memory", [0, SMALL, 1 << 30])
@pytest.mark.parametrize("of_w", LAYOUTS)
@pytest.mark.parametrize("of_x", LAYOUTS)
def test_layouts(of_x, of_w, memory):
    x, w, bias = rounded(np.float64)
    x = x[:20].reshape(4, 5, FEATURES)
    target = labels()[:20].reshape(4, 5)
    actual = softloss.linear_cross_entropy_and_grad(
        LAYOUTS[of_x](x), LAYOUTS[of_w](w), LAYOUTS[of_w](target), bias=LAYOUTS[of_x](bias), memory=memory
    )
    assert_close(actual, of_float64(x, w, target, bias), np.finfo(float).eps)
    assert actual.grad_x.shape == x.shape
    scores = softloss.linear_token_logprobs(LAYOUTS[of_x](x), LAYOUTS[of_w](w), target, memory=memory, top_k=2)
    assert scores.top_index.shape == (4, 5, 2)
    np.testing.assert_array_equal(scores.argmax, (x @ w.T).argmax(-1))


def test_gradient_of_w_lies_as_w():
    x, w, _ = rounded(np.float32)
    for given in (w, np.asfortranarray(w)):
        grad_w = softloss.linear_cross_entropy_and_grad(x, given, labels(), memory=SMALL).grad_w
        assert grad_w.flags.f_contiguous == given.flags.f_contiguous


@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
def test_class_probabilities_in_every_layout(soft):
    x, w, _ = rounded(np.float64)
    x, weights = x[:20].reshape(4, 5, FEATURES), np.arange(20).reshape(4, 5) % 2
    target = probabilities((4, 5, CLASSES)) if soft else labels()[:20].reshape(4, 5)
    for name, memory in itertools.product(LAYOUTS, (0, SMALL, 1 << 30)):
        for options in ({}, {"sample_weight": weights}):
            actual = softloss.linear_cross_entropy_and_grad(x, w, LAYOUTS[name](target), memory=memory, **options)
            assert_close(actual, of_float64(x, w, target, **options), np.finfo(float).eps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_one_block_has_the_bits_of_two_steps(reduction, dtype):
    x, w, bias = rounded(dtype)
    expected = two_steps(x, w, labels(), bias, dtype, reduction=reduction)
    actual = softloss.linear_cross_entropy_and_grad(x, w, labels(), bias=bias, reduction=reduction)
    reference.assert_identical(actual.grad_x, expected.grad_x)
    reference.assert_identical(actual.grad_w, expected.grad_w)
    np.testing.assert_allclose(actual.grad_bias, expected.grad_bias, rtol=ROWS * np.finfo(dtype).eps, atol=1e-6)
    if reduction == "none":
        reference.assert_identical(actual.loss, expected.loss)
    else:  # the losses of rows are rounded before their sum
        np.testing.assert_allclose(actual.loss, expected.loss, rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_blocks_have_the_bits_of_the_same_blocks_apart(dtype):
    """Rows that are computed together are those of the ranges that the block of logits says."""
    x, w, bias = rounded(dtype, rows=100)
    target = labels(100)
    memory = 32 * (100 + CLASSES) + 11 * CLASSES * np.dtype(dtype).itemsize
    rows = softloss.linear_cross_entropy(x, w, target, bias=bias, reduction="none", memory=memory)
    for first in range(0, 100, 10):  # ten blocks of ten
        some = slice(first, first + 10)
        logits = x[some] @ w.T + bias
        np.testing.assert_array_equal(rows[some], softloss.cross_entropy(logits, target[some], reduction="none"))


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_results_do_not_depend_on_memory(dtype):
    """Where the logits do not."""
    x, w, bias = operands(dtype)
    target = labels()
    for call in (
        lambda memory: [softloss.linear_cross_entropy(x, w, target, bias=bias, memory=memory)],
        lambda memory: softloss.linear_cross_entropy_and_grad(x, w, target, bias=bias, memory=memory)[:1],
        lambda memory: softloss.linear_token_logprobs(x, w, target, bias=bias, top_k=3, memory=memory),
        lambda memory: softloss.linear_softmax_topk(x, w, 3, bias=bias, memory=memory),
    ):
        expected = call(1 << 30)
        for memory in (0, 1, 1000, SMALL, 20_000):
            for y, true in zip(call(memory), expected, strict=True):
                reference.assert_identical(y, true)


@pytest.mark.parametrize("memory", [0, SMALL, 1 << 30])
def test_scores_are_those_of_two_steps(memory):
    x, w, bias = operands(np.float32)
    logits, target = x @ w.T + bias, labels()
    target[::5] = -100
    options = {"top_k": 4, "temperature": 0.5}
    expected = softloss.token_logprobs(logits, target, **options)
    actual = softloss.linear_token_logprobs(x, w, target, bias=bias, memory=memory, **options)
    for field, y, true in zip(softloss.TokenScores._fields, actual, expected, strict=True):
        reference.assert_identical(y, true, field)
    expected = softloss.softmax_topk(logits, 4, temperature=0.5)
    for y, true in zip(
        softloss.linear_softmax_topk(x, w, 4, bias=bias, temperature=0.5, memory=memory), expected, strict=True
    ):
        reference.assert_identical(y, true)


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_those_of_autograd(reduction, kind, memory):
    torch = pytest.importorskip("torch")
    x, w, bias = rounded(np.float64)
    target = labels() if kind == "indices" else probabilities((ROWS, CLASSES))
    weight = np.linspace(0.5, 2, CLASSES)
    options = {"label_smoothing": 0.1, "reduction": reduction}
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, bias)]
    logits = torch.nn.functional.linear(*tensors)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target), weight=torch.tensor(weight), **options)
    loss.backward()
    actual = softloss.linear_cross_entropy_and_grad(x, w, target, bias=bias, weight=weight, memory=memory, **options)
    np.testing.assert_allclose(actual.loss, loss.item(), rtol=1e-13)
    for gradient, tensor in zip(actual[1:], tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-12, atol=1e-13)


# ---- rows that do not count ---------------------------------------------


def assert_rest_is_as_without(actual, kept, expected):
    for name in ("loss", "grad_w", "grad_bias"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(actual.grad_x[kept], expected.grad_x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(actual.grad_x[~kept], 0)


@pytest.mark.parametrize("memory", [0, SMALL, 1 << 30])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("why", ["ignore_index", "sample_weight", "weight", "soft"])
def test_ignored_rows_add_nothing_whatever_they_hold(why, value, reduction, memory):
    x, w, bias = rounded(np.float32)
    kept = np.arange(ROWS) % 3 > 0
    x[~kept] = value
    target = probabilities((ROWS, CLASSES), np.float32) if why == "soft" else np.where(kept, labels() % 29 + 1, 0)
    if why == "soft":
        target[~kept] = NAN
    weight = np.where(np.arange(CLASSES) == 0, 0.0, 1.5)
    options = {
        "ignore_index": {"ignore_index": 0},
        "sample_weight": {"sample_weight": np.where(kept, 2.0, 0.0)},
        "weight": {"weight": weight},
        "soft": {"sample_weight": kept.astype(int)},
    }[why]
    actual = softloss.linear_cross_entropy_and_grad(
        x, w, target, bias=bias, reduction=reduction, memory=memory, **options
    )
    if "sample_weight" in options:
        options = {"sample_weight": options["sample_weight"][kept]}
    assert_rest_is_as_without(actual, kept, two_steps(x[kept], w, target[kept], bias, reduction=reduction, **options))


def test_an_infinite_weight_does_not_reach_ignored_rows():
    x, w, _ = rounded(np.float32)
    w[3] = -INF
    kept = np.arange(ROWS) > 0
    grad_x = softloss.linear_cross_entropy_and_grad(x, w, np.where(kept, 1, -100)).grad_x
    np.testing.assert_array_equal(grad_x[0], 0)


def test_smoothing_counts_rows_of_class_weight_0():
    x, w, bias = rounded(np.float64)
    options = {"weight": (np.arange(CLASSES) > 5).astype(float), "label_smoothing": 0.3}
    expected = of_float64(x, w, labels(), bias, **options)
    actual = softloss.linear_cross_entropy_and_grad(x, w, labels(), bias=bias, **options)
    assert_close(actual, expected, np.finfo(float).eps)


def test_a_row_with_nan_that_counts_is_nan():
    x, w, _ = rounded(np.float32)
    x[2, 0] = NAN
    loss = softloss.linear_cross_entropy(x, w, labels(), reduction="none", memory=0)
    np.testing.assert_array_equal(np.isnan(loss), np.arange(ROWS) == 2)
    assert np.isnan(softloss.linear_cross_entropy_and_grad(x, w, labels(), memory=0).grad_w).all()


def test_a_bias_masks_classes():
    x, w, _ = rounded(np.float32)
    bias = np.where(np.arange(CLASSES) == 5, -INF, 0).astype(np.float32)
    result = softloss.linear_cross_entropy_and_grad(x, w, np.zeros(ROWS, int), bias=bias, memory=SMALL)
    assert np.isfinite(result.loss)
    np.testing.assert_array_equal(result.grad_w[5], 0)
    np.testing.assert_array_equal(result.grad_bias[5], 0)


# ---- shapes ---------------------------------------------


def test_one_row():
    x, w, bias = rounded(np.float64)
    loss, grad_x, grad_w, grad_bias = softloss.linear_cross_entropy_and_grad(x[0], w, 3, bias=bias, reduction="none")
    expected = of_float64(x[:1], w, [3], bias)
    assert type(loss) is np.float64
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-14)
    np.testing.assert_allclose(grad_x, expected.grad_x[0], rtol=1e-13)
    np.testing.assert_allclose(grad_w, expected.grad_w, rtol=1e-13)
    np.testing.assert_allclose(grad_bias, expected.grad_bias, rtol=1e-13)
    assert type(softloss.linear_token_logprobs(x[0], w, 3).rank) is np.int64
    assert softloss.linear_softmax_topk(x[0], w, 2).index.shape == (2,)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nothing_to_average(dtype):
    x, w, bias = operands(dtype)
    for rows, target in ((ROWS, np.full(ROWS, -100)), (0, np.empty(0, int))):
        result = softloss.linear_cross_entropy_and_grad(x[:rows], w, target, bias=bias, empty=7.0)
        assert result.loss == 7
        for gradient, of in zip(result[1:], (x[:rows], w, bias), strict=True):
            reference.assert_identical(gradient, np.zeros_like(of))
        assert softloss.linear_cross_entropy(x[:rows], w, target, reduction="sum") == 0
        assert np.isnan(softloss.linear_cross_entropy(x[:rows], w, target))


def test_weights_that_cancel_leave_nothing_to_average():
    x, w, _ = rounded(np.float32)
    options = {"sample_weight": [1, -1], "empty": 2.0}
    result = softloss.linear_cross_entropy_and_grad(x[:2], w, [1, 2], **options)
    assert result.loss == 2
    assert not result.grad_x.any()


def test_no_features_no_rows_no_classes():
    w = np.zeros((4, 0), np.float32)
    result = softloss.linear_cross_entropy_and_grad(np.zeros((3, 0), np.float32), w, [0, 1, 2])
    np.testing.assert_allclose(result.loss, np.log(4), rtol=1e-6)
    assert (result.grad_x.shape, result.grad_w.shape) == ((3, 0), (4, 0))
    scores = softloss.linear_token_logprobs(np.zeros((0, 2, 5)), np.zeros((3, 5)), np.zeros((0, 2), int), top_k=2)
    assert (scores.rank.shape, scores.top_logprob.shape) == ((0, 2), (0, 2, 2))
    assert softloss.linear_softmax_topk(np.zeros((0, 5)), np.zeros((3, 5)), 2).prob.shape == (0, 2)
    assert np.isnan(softloss.linear_cross_entropy(np.zeros((0, 5)), np.zeros((0, 5)), np.zeros(0, int)))


def test_lists():
    assert softloss.linear_softmax_topk([[1, 0], [0, 1]], [[2, 0], [0, 3], [0, 0]]).index.tolist() == [[0], [1]]


# ---- memory ---------------------------------------------


def peak_beyond_results(call):
    """Bytes that NumPy and Python had allocated at most, without those of the results."""
    call()
    softloss.empty_cache()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    results = call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (
        peak - before - sum(y.nbytes for y in (results if isinstance(results, tuple) else [results]) if y is not None)
    )


BIG = {"rows": 1500, "features": 50, "classes": 1000}  # 6 MB of logits in float32
MEMORY = 1 << 20  # bytes


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("w_dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("x_dtype", [np.float32, np.float16])
def test_peak_memory(x_dtype, w_dtype, order):
    x, w, bias = rounded(np.float32, **BIG)
    lay_out = LAYOUTS["strided"] if order == "strided" else lambda a: np.array(a, order=order)
    x, w = lay_out(x.astype(x_dtype)), lay_out(w.astype(w_dtype))
    target = labels(BIG["rows"], BIG["classes"])
    for ignored in (0, 500):
        target[:ignored] = -100
        for call in (
            lambda: softloss.linear_cross_entropy_and_grad(x, w, target, bias=bias, memory=MEMORY),
            lambda: softloss.linear_cross_entropy(x, w, target, bias=bias, memory=MEMORY),
            lambda: softloss.linear_token_logprobs(x, w, target, bias=bias, top_k=5, memory=MEMORY),
            lambda: softloss.linear_softmax_topk(x, w, 5, bias=bias, memory=MEMORY),
        ):
            assert peak_beyond_results(call) <= 1.1 * MEMORY


@pytest.mark.parametrize("dtype", FLOATS)
def test_peak_memory_of_class_probabilities(dtype):
    x, w, _ = rounded(np.float32, **BIG)
    target = np.broadcast_to(probabilities(BIG["classes"], dtype), (BIG["rows"], BIG["classes"]))
    turned = x.reshape(3, 500, -1).transpose(1, 0, 2), target.reshape(3, 500, -1).transpose(1, 0, 2)
    options = {"memory": MEMORY, "label_smoothing": 0.1}
    for call in (
        lambda: softloss.linear_cross_entropy(x, w, target, **options),
        lambda: softloss.linear_cross_entropy(x, w, target, sample_weight=np.arange(BIG["rows"]) % 2, **options),
        lambda: softloss.linear_cross_entropy_and_grad(turned[0], w, turned[1], **options),
    ):
        assert peak_beyond_results(call) <= 1.1 * MEMORY


def test_without_memory_it_is_that_of_one_row():
    x, w, _ = rounded(np.float32, **BIG)
    target = labels(BIG["rows"], BIG["classes"])
    row, numbers = 4 * BIG["classes"], 32 * (BIG["rows"] + BIG["classes"])
    peak = peak_beyond_results(lambda: softloss.linear_cross_entropy_and_grad(x[:50], w, target[:50], memory=0))
    assert peak <= 3 * row + numbers


# ---- errors ---------------------------------------------

X, W, Y = np.zeros((3, 4), np.float32), np.zeros((5, 4), np.float32), np.zeros(3, int)
loss, scores, topk = softloss.linear_cross_entropy, softloss.linear_token_logprobs, softloss.linear_softmax_topk
ERRORS = {
    "x must have at least one dimension (the features)": (ValueError, lambda f: f(np.float32(1), W, Y)),
    "w must have shape (C, 4) for x of shape (3, 4), got (5, 3)": (ValueError, lambda f: f(X, W[:, :3], Y)),
    "w must have shape (C, 4) for x of shape (3, 4), got (4,)": (ValueError, lambda f: f(X, W[0], Y)),
    "w of shape (0, 4) has no classes: axis 0 has length 0": (ValueError, lambda f: f(X, W[:0], Y)),
    "bias must have shape (5,), one per class, got (4,)": (ValueError, lambda f: f(X, W, Y, bias=W[0])),
    "bias must have shape (5,), one per class, got ()": (ValueError, lambda f: f(X, W, Y, bias=1)),
    "memory must be an integer, got float": (TypeError, lambda f: f(X, W, Y, memory=1e6)),
    "memory must be an integer, got bool": (TypeError, lambda f: f(X, W, Y, memory=True)),
    "memory must be at least 0, got -1": (ValueError, lambda f: f(X, W, Y, memory=-1)),
    "x has unsupported dtype complex64; pass x.real or abs(x)": (TypeError, lambda f: f(X.astype("F"), W, Y)),
    "w has unsupported dtype object; pass numpy.asarray(w, numpy.float64)": (
        TypeError,
        lambda f: f(X, W.astype(object), Y),
    ),
    "bias has unsupported dtype <U1; pass numpy.asarray(bias, numpy.float64)": (
        TypeError,
        lambda f: f(X, W, Y, bias=list("abcde")),
    ),
    "w must be array_like, got set; pass list(w)": (TypeError, lambda f: f(X, {1}, Y)),
    "temperature must be positive and finite, got -1": (ValueError, lambda f: f(X, W, Y, temperature=-1)),
    "temperature must be a number, got str": (TypeError, lambda f: f(X, W, Y, temperature="1")),
    "target[1] = 5 is out of range for axis of 5 classes (2 bad labels in all); valid are 0..4 or ignore_index=-100": (
        IndexError,
        lambda f: f(X, W, [0, 5, -1]),
    ),
    "target of class indices must have shape (3,) for logits of shape (3, 5) and axis 1, got (4,)": (
        ValueError,
        lambda f: f(X, W, [0, 1, 2, 3]),
    ),
}
ERRORS_OF_LOSSES = {
    "target has unsupported dtype bool; for class indices pass numpy.asarray(target, numpy.int64)": (
        TypeError,
        lambda f: f(X, W, Y > 0),
    ),
    "target of class probabilities must have shape (3, 5) for logits of shape (3, 5) and axis 1, got (3, 4)": (
        ValueError,
        lambda f: f(X, W, X),
    ),
    "weight must have shape (5,), one per class, got (4,)": (ValueError, lambda f: f(X, W, Y, weight=W[0])),
    "sample_weight must have shape (3,), got (4,)": (ValueError, lambda f: f(X, W, Y, sample_weight=W[0])),
    "label_smoothing must be between 0 and 1, got 2": (ValueError, lambda f: f(X, W, Y, label_smoothing=2)),
    "reduction must be 'none', 'mean' or 'sum', got 'avg'": (ValueError, lambda f: f(X, W, Y, reduction="avg")),
    "ignore_index must be an integer or None, got float": (TypeError, lambda f: f(X, W, Y, ignore_index=1.0)),
    "empty must be a number, got str": (TypeError, lambda f: f(X, W, Y, empty="0")),
    "weight has unsupported dtype complex128; pass weight.real or abs(weight)": (
        TypeError,
        lambda f: f(X, W, Y, weight=np.zeros(5, complex)),
    ),
}


def assert_raises(expected, message, call):
    with pytest.raises(expected) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("function", [loss, softloss.linear_cross_entropy_and_grad], ids=lambda f: f.__name__)
@pytest.mark.parametrize("message", [*ERRORS, *ERRORS_OF_LOSSES])
def test_errors_of_losses(message, function):
    expected, call = (ERRORS | ERRORS_OF_LOSSES)[message]
    assert_raises(expected, message, lambda: call(function))


@pytest.mark.parametrize("message", ERRORS)
def test_errors_of_scores(message):
    expected, call = ERRORS[message]
    assert_raises(expected, message, lambda: call(scores))
    if "target" not in message:
        assert_raises(expected, message, lambda: call(lambda x, w, _, **options: topk(x, w, **options)))


def test_counts_out_of_range():
    for call in (lambda: scores(X, W, Y, top_k=6), lambda: topk(X, W, 6)):
        assert_raises(ValueError, "5 (the number of classes), got 6", call)
    assert_raises(
        TypeError, "target must hold class indices (integers), got dtype float32", lambda: scores(X, W, X[:, 0])
    )


def test_nothing_is_computed_on_an_error(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a product was computed")

    monkeypatch.setattr(np, "matmul", refuse)
    for call in ERRORS | ERRORS_OF_LOSSES:
        expected, with_function = (ERRORS | ERRORS_OF_LOSSES)[call]
        assert_raises(expected, call, lambda f=with_function: f(softloss.linear_cross_entropy_and_grad))
