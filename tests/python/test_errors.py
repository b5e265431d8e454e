"""Bad arguments: type and text of the error (argument, its value, what is allowed); nothing is written.

Lives here: calls that fail. Must not: values.
"""

import re
import sys

import ml_dtypes
import numpy as np
import pytest
import softloss
from softloss import binary_cross_entropy as bce
from softloss import binary_cross_entropy_with_logits as bce_logits
from softloss import categorical_cross_entropy, cross_entropy, log_softmax, logsumexp, nll_loss, softmax

pytestmark = pytest.mark.filterwarnings("ignore:the cross-entropy has no minimum")  # of fit_temperature

X = np.arange(12.0).reshape(3, 4) / 66  # rows of probabilities, roughly; just as well logits
LABELS = np.array([1, 0, 3])
CLASS_LOSSES = {"logits": cross_entropy, "probs": categorical_cross_entropy, "log_probs": nll_loss}
BINARY_LOSSES = {"probs": bce, "logits": bce_logits}
ROWWISE = [softmax, log_softmax, logsumexp]
TRANSFORMS = [*ROWWISE, softloss.sigmoid, softloss.log_sigmoid]


def and_grad(loss):
    return getattr(softloss, f"{loss.__name__}_and_grad")


# name of the first argument, call of that argument alone
FUNCTIONS = [
    *[pytest.param("x", f, id=f.__name__) for f in [*TRANSFORMS, softloss.softmax_topk]],
    pytest.param("x", softloss.log_normalize, id="log_normalize"),
    pytest.param("logits", softloss.softmax_entropy, id="softmax_entropy"),
    *[
        pytest.param("logits", lambda x, f=f: f(x, LABELS), id=f.__name__)
        for f in (softloss.fit_temperature, softloss.calibration_error, softloss.brier_score)
    ],
    *[
        pytest.param(name, call, id=f"{f.__name__}, {name}")
        for f in (softloss.kl_divergence, softloss.js_divergence, softloss.kl_divergence_and_grad)
        for name, call in (("logits", lambda x, f=f: f(x, X)), ("target_logits", lambda x, f=f: f(X, x)))
    ],
    pytest.param("y", lambda y: softloss.softmax_backward(y, X), id="softmax_backward"),
    pytest.param("dy", lambda dy: softloss.softmax_backward(X, dy), id="softmax_backward, dy"),
    pytest.param("logy", lambda y: softloss.log_softmax_backward(y, X), id="log_softmax_backward"),
    pytest.param("logits", lambda x: softloss.token_logprobs(x, LABELS), id="token_logprobs"),
    pytest.param("logits", lambda x: softloss.cross_entropy_grad_hess(x, LABELS), id="cross_entropy_grad_hess"),
    pytest.param(
        "logits",
        lambda x: softloss.binary_cross_entropy_with_logits_grad_hess(x, 1),
        id="binary_cross_entropy_with_logits_grad_hess",
    ),
    *[
        pytest.param(name, lambda x, f=f: f(x, LABELS), id=f.__name__)
        for name, loss in CLASS_LOSSES.items()
        for f in (loss, and_grad(loss))
    ],
    *[
        pytest.param(name, lambda x, f=f: f(x, 1), id=f.__name__)
        for name, loss in BINARY_LOSSES.items()
        for f in (loss, and_grad(loss))
    ],
]


def of_losses(losses):
    """Each loss, without and with its gradient, and the name of its first argument."""
    both = [(name, f) for name, loss in losses.items() for f in (loss, and_grad(loss))]
    return pytest.mark.parametrize("name, loss", both, ids=lambda v: getattr(v, "__name__", ""))


class_losses = of_losses(CLASS_LOSSES)
binary_losses = of_losses(BINARY_LOSSES)
losses = pytest.mark.parametrize(
    "loss",
    [
        *(lambda *a, f=f, **k: f(X, LABELS, **k) for loss in CLASS_LOSSES.values() for f in (loss, and_grad(loss))),
        *(lambda *a, f=f, **k: f(X, 1, **k) for loss in BINARY_LOSSES.values() for f in (loss, and_grad(loss))),
    ],
    ids=[f.__name__ for loss in (*CLASS_LOSSES.values(), *BINARY_LOSSES.values()) for f in (loss, and_grad(loss))],
)
# the functions that take class indices alone
index_functions = pytest.mark.parametrize(
    "function",
    [
        softloss.token_logprobs,
        softloss.fit_temperature,
        softloss.calibration_error,
        softloss.brier_score,
        softloss.softmax_focal_loss_and_grad,
        softloss.softmax_focal_loss_grad_hess,
    ],
    ids=lambda f: f.__name__,
)


def fails(error, *fragments):
    """Expect the error with a message that contains all of these words, in any order."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(str(f))})" for f in fragments) + "(?s:.*)")


# ---- the words -----------------------------------------------------------

IMAGES = np.zeros((2, 5, 3, 4))
MASKED = np.ma.masked_array(X)
MEMORY = np.arange(13.0)
HERE, THERE = MEMORY[:12].reshape(3, 4), MEMORY[1:].reshape(3, 4)
READ_ONLY = np.broadcast_to(0.0, (3, 4))
LONG = f"dtype {np.dtype(np.longdouble)}"
MASK_INSTEAD = ".filled(value), and the mask as where= or sample_weight="
SINGLE, with_grad = np.zeros((3, 4), np.float32), and_grad(cross_entropy)
ABOVE_ONE = np.nextafter(1, 2)
ONE_HOT = np.eye(4, dtype=int)[LABELS]

# The whole text of every error of the contract: each names the argument, what came and what fits. Those of labels are
# further below.
TEXTS = {
    TypeError: {
        f"x has unsupported {LONG}; pass numpy.asarray(x, numpy.float64)": lambda: softmax(X.astype(np.longdouble)),
        "x has unsupported dtype complex128; pass x.real or abs(x)": lambda: softmax(X.astype(complex)),
        "x has unsupported dtype object; pass numpy.asarray(x, numpy.float64)": lambda: softmax([[None]]),
        "x has unsupported dtype <U8; pass numpy.asarray(x, numpy.float64)": lambda: softmax(X.astype("<U8")),
        f"x is a masked array; pass x{MASK_INSTEAD}": lambda: softmax(MASKED),
        "sample_weight is a masked array; pass sample_weight.filled(value)": lambda: cross_entropy(
            X, LABELS, sample_weight=MASKED[:, 0]
        ),
        "weight has unsupported dtype complex64; pass weight.real or abs(weight)": lambda: bce(
            X, 1, weight=np.complex64(1)
        ),
        "x must be array_like, got a ragged list; pass rows of equal length": lambda: softmax([[1.0, 2.0], [3.0]]),
        "x must be array_like, got NoneType": lambda: softmax(None),
        "x must be array_like, got set; pass list(x)": lambda: softmax({1.0, 2.0}),
        "x must be array_like, got dict; pass list(x.values())": lambda: softmax({"a": 1.0, "b": 2.0}),
        f"x must fit into 64 bits, got {2**70}": lambda: softmax(2**70),
        "x has unsupported dtype datetime64[s]; pass numpy.asarray(x, numpy.int64)": lambda: softmax(
            np.zeros(3, "M8[s]")
        ),
        "x has unsupported dtype [('p', '<f8')]; pass one of its fields, such as x['p']": lambda: softmax(
            np.zeros(3, [("p", "f8")])
        ),
        "target has unsupported dtype <U1; pass numpy.unique(target, return_inverse=True)[1]": lambda: cross_entropy(
            X, ["a", "b", "c"]
        ),
        "target has unsupported dtype object; pass numpy.asarray(target, numpy.int64)": lambda: nll_loss(
            X, LABELS.astype(object)
        ),
        "out has dtype float32, but the result has dtype float64": lambda: softmax(X, out=SINGLE),
        "grad_out has dtype float32, but the result has dtype float64": lambda: with_grad(X, LABELS, grad_out=SINGLE),
        "out must be a numpy.ndarray, got list": lambda: softmax(X, out=[0.0]),
        "out is a masked array; pass out.data": lambda: softmax(X, out=MASKED.copy()),
        "target has unsupported dtype bool; for class indices pass numpy.argmax(target, axis=-1), for class "
        "probabilities numpy.asarray(target, numpy.float64)": lambda: nll_loss(X, X > 0),
        "target must hold class indices (integers), got dtype bool; pass numpy.asarray(target, numpy.int64)": lambda: (
            softloss.token_logprobs(X, LABELS > 0)
        ),
        "axis must be an integer, got float": lambda: softmax(X, 1.0),
        "ignore_index must be an integer or None, got float": lambda: cross_entropy(X, LABELS, ignore_index=1.0),
        "empty must be a number, got NoneType": lambda: cross_entropy(X, LABELS, empty=None),
        "dtype must be float16, bfloat16, float32 or float64, got bool": lambda: softmax(X, dtype=bool),
        "dtype of a loss must be float32 or float64, got float16": lambda: cross_entropy(X, LABELS, dtype=np.float16),
        "where must be an array of bool, got dtype float64; pass numpy.asarray(where, bool)": lambda: softmax(
            X, where=X
        ),
        "where must be an array of bool, got a masked array; pass where.filled(False)": lambda: softmax(
            X, where=MASKED > 0
        ),
    },
    ValueError: {
        "out has shape (4,), but x has shape (3, 4)": lambda: softmax(X, out=np.zeros(4)),
        "out has shape (4,), but the result has shape (3,)": lambda: logsumexp(X, out=np.zeros(4)),
        "grad_out has shape (4,), but logits has shape (3, 4)": lambda: with_grad(X, LABELS, grad_out=np.zeros(4)),
        "out is read-only": lambda: softmax(X, out=READ_ONLY),
        "out overlaps x in part; it must be x itself or share no memory with it": lambda: softmax(HERE, out=THERE),
        "grad_out overlaps logits in part; it must be logits itself or share no memory with it": lambda: with_grad(
            HERE, LABELS, grad_out=THERE
        ),
        "out overlaps x": lambda: logsumexp(HERE, out=HERE[:, 0]),
        "hess_out overlaps logits": lambda: softloss.cross_entropy_grad_hess(HERE, LABELS, hess_out=HERE),
        "target of class indices must have shape (3,) for logits of shape (3, 4) and axis 1, got (4,)": lambda: (
            cross_entropy(X, np.zeros(4, int))
        ),
        "target of class probabilities must have shape (3, 4) for probs of shape (3, 4) and axis 1, "
        "got (4, 3)": lambda: categorical_cross_entropy(X, X.T),
        "target of class indices must have shape (2, 5, 3) for logits of shape (2, 5, 3, 4) and axis 3, got (2, 3, 4); "
        "the shapes fit axis=1": lambda: cross_entropy(IMAGES, np.zeros((2, 3, 4), int)),
        "target of dtype float64 holds class probabilities and must have shape (3, 4), got (3,); for class indices "
        "pass numpy.asarray(target, numpy.int64)": lambda: cross_entropy(X, LABELS.astype(float)),
        "target of dtype int64 holds class indices and must have shape (3,), got (3, 4); for class probabilities pass "
        "numpy.asarray(target, numpy.float64), for the class of each one-hot row pass numpy.argmax(target, axis=-1)": (
            lambda: cross_entropy(X, ONE_HOT)
        ),
        "axis 2 is out of bounds for array of dimension 2": lambda: softmax(X, 2),
        "logits must have at least one dimension (the classes)": lambda: cross_entropy(1.0, 0),
        "label_smoothing must be between 0 and 1, got -0.1": lambda: cross_entropy(X, LABELS, label_smoothing=-0.1),
        f"label_smoothing must be between 0 and 1, got {ABOVE_ONE}": lambda: cross_entropy(
            X, LABELS, label_smoothing=ABOVE_ONE
        ),
        "temperature must be positive and finite, got 0; for the limit at 0, take argmax or a small "
        "temperature": lambda: softmax(X, temperature=0),
        "reduction must be 'none', 'mean' or 'sum', got 'avg'": lambda: cross_entropy(X, LABELS, reduction="avg"),
        "weight must have shape (4,), one per class, got (3,)": lambda: cross_entropy(X, LABELS, weight=LABELS),
        "sample_weight must have shape (3,), got (4,)": lambda: cross_entropy(X, LABELS, sample_weight=X[0]),
        "hess_min must be finite or -inf, got nan": lambda: softloss.cross_entropy_grad_hess(
            X, LABELS, hess_min=np.nan
        ),
        "gamma must be finite and at least 0, got -1": lambda: softloss.softmax_focal_loss(X, LABELS, gamma=-1),
        f"alpha must be between 0 and 1, got {ABOVE_ONE}": lambda: softloss.sigmoid_focal_loss(X, 1, alpha=ABOVE_ONE),
        "target[0, 2] = 0.5 is neither 0 nor 1": lambda: softloss.sigmoid_focal_loss(X, [[1, 0, 0.5, 0.25]] * 3),
        "k must be between 1 and 4 (the number of classes), got 5": lambda: softloss.softmax_topk(X, 5),
        "where of shape (3,) does not broadcast to shape (3, 4)": lambda: softmax(X, where=LABELS > 0),
        "target of shape (3,) does not broadcast to shape (3, 4)": lambda: bce(X, LABELS),
        "target[1] = 1.5 is outside [0, 1]": lambda: bce_logits(X, [0, 1.5, -1, 1]),
        "probs[0] = 1.000000000000001 is outside [0, 1]": lambda: bce([1 + 5 * 2**-52], 1),
        "probs[1] = -1e-15 is outside [0, 1]": lambda: categorical_cross_entropy([0.5, -1e-15], 1),
        "logits of shape (3, 0) has no classes: axis 1 has length 0": lambda: cross_entropy(np.zeros((3, 0)), LABELS),
    },
}


if np.lib.NumpyVersion(np.__version__) < "1.24.0":  # makes an array of lists of them, and warns
    del TEXTS[TypeError]["x must be array_like, got a ragged list; pass rows of equal length"]


@pytest.mark.parametrize("kind, text", [(kind, text) for kind, texts in TEXTS.items() for text in texts])
def test_whole_texts(kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        TEXTS[kind][text]()


# ---- dtypes that are refused ---------------------------------------------

REFUSED = {
    "longdouble": (X.astype(np.longdouble), [str(np.dtype(np.longdouble))]),
    "complex64": (X.astype(np.complex64), ["complex64"]),
    "complex128": (X.astype(np.complex128), ["complex128"]),
    "object": (X.astype(object), ["object"]),
    "string": (X.astype("U8"), ["U"]),
    "bytes": (X.astype("S8"), ["S"]),
    "datetime": (np.zeros((3, 4), "M8[s]"), ["datetime64"]),
    "timedelta": (np.zeros((3, 4), "m8[s]"), ["timedelta64"]),
    "structured": (np.zeros((3, 4), [("p", "f8")]), []),
    "float8": (X.astype(ml_dtypes.float8_e4m3fn), ["float8_e4m3fn"]),
    "masked": (np.ma.masked_array(X, X > 0.1), ["masked"]),
    "masked, no mask": (np.ma.masked_array(X), ["masked"]),
    "list of strings": ([["a"] * 4] * 3, ["U"]),
    "list of None": ([[None] * 4] * 3, ["object"]),
    "None": (None, ["NoneType"]),
    "list of complex": ([[1j] * 4] * 3, ["complex128"]),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name, function", FUNCTIONS)
def test_refused_dtypes(name, function, kind):
    x, fragments = REFUSED[kind]
    with fails(TypeError, name, *fragments):
        function(x)


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind != "None"])
def test_refused_dtypes_of_the_other_arguments(kind):
    bad = REFUSED[kind][0]
    row = bad[0]
    for loss in CLASS_LOSSES.values():
        with fails(TypeError, "target"):
            loss(X, bad)
        with fails(TypeError, "weight"):
            loss(X, LABELS, weight=row)
        with fails(TypeError, "sample_weight"):
            loss(X, LABELS, sample_weight=row[:3])
    for loss in BINARY_LOSSES.values():
        with fails(TypeError, "target"):
            loss(X, bad)
        with fails(TypeError, "weight"):
            loss(X, 1, weight=bad)
    with fails(TypeError, "pos_weight"):
        bce_logits(X, 1, pos_weight=bad)
    with fails(TypeError, "b"):
        logsumexp(X, b=bad)
    for transform in ROWWISE:
        with fails(TypeError, "where", "bool"):
            transform(X, where=bad)


@class_losses
def test_targets_of_bool_are_refused(name, loss):
    for target in (np.array([True, False, True]), X > 0.1):
        with fails(TypeError, "target", "bool"):
            loss(X, target)


def test_where_takes_bool_alone():
    for transform in ROWWISE:
        for where in (np.ones((3, 4), int), np.ones(4), [1, 0, 1, 1], 1):
            with fails(TypeError, "where", "bool"):
                transform(X, where=where)


# ---- ways out: the line that a message ends with is taken ---------------------------------------------


def line_of(error):
    """The lines of code in a message, in order."""
    return re.findall(
        r"(?:numpy\.\w+\(.*?\)(?:\[1\])?|\w+\.toarray\(\)|list\(\w+(?:\.values\(\))?\))(?=,|;|$)", str(error)
    )


def solved(argument, value, call):
    """The results of the call with each of the arguments that its error suggests."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(value)
    lines = line_of(caught.value)
    assert lines, caught.value
    return [call(eval(line, {"numpy": np, argument: value})) for line in lines]


STRINGS = ["b", "a", "d"]  # classes 1, 0, 2
OTHER_KINDS = {  # of target, and the class indices that are meant
    "float64": (LABELS.astype(float), LABELS),
    "list of floats": (LABELS.astype(float).tolist(), LABELS),
    "float16": (LABELS.astype("f2"), LABELS),
    "object": (LABELS.astype(object), LABELS),
    "bool": (LABELS > 0, [1, 0, 1]),
    "list of bool": ([True, False, True], [1, 0, 1]),
    "one-hot": (ONE_HOT, LABELS),
    "list of one-hot": (ONE_HOT.tolist(), LABELS),
    "one-hot of uint8": (ONE_HOT.astype("u1"), LABELS),
    "one-hot of bool": (ONE_HOT > 0, LABELS),
    "strings": (STRINGS, [1, 0, 2]),
    "bytes": (np.array(STRINGS, "S"), [1, 0, 2]),
    "objects that are strings": (np.array(STRINGS, object), [1, 0, 2]),
    "dictionary": ({"x": 1, "y": 0, "z": 3}, LABELS),
}


@class_losses
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_labels_of_another_kind(name, loss, kind):
    target, indices = OTHER_KINDS[kind]
    expected = np.asarray(loss(X + 0.1, indices)[0] if "_and_grad" in loss.__name__ else loss(X + 0.1, indices))
    for result in solved("target", target, lambda y: loss(X + 0.1, y)):
        np.testing.assert_allclose(result[0] if "_and_grad" in loss.__name__ else result, expected, rtol=1e-14)


@index_functions
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_labels_of_another_kind_for_index_functions(function, kind):
    target, indices = OTHER_KINDS[kind]
    [result] = solved("target", target, lambda y: function(X, y))
    expected = function(X, indices)
    if not isinstance(expected, tuple):
        result, expected = (result,), (expected,)
    for ours, true in zip(result, expected, strict=True):
        np.testing.assert_array_equal(ours, true)


@pytest.mark.parametrize(
    "value",
    [
        X.astype(object),
        X.astype("U8"),
        X.astype(np.longdouble),
        np.zeros((3, 4), "m8[s]"),
        X.astype(ml_dtypes.float8_e4m3fn),
        {"a": 1.0, "b": 2.0},
        {1.0, 2.0},
    ],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_numbers_of_another_kind(value):
    assert len(solved("x", value, softmax)) == 1
    if isinstance(value, np.ndarray):
        solved("weight", value[0], lambda w: cross_entropy(X, LABELS, weight=w))
        solved("b", value, lambda b: logsumexp(X, b=b))
        solved("pos_weight", value, lambda w: bce_logits(X, 1, pos_weight=w))
        solved("where", value, lambda w: softmax(X, where=w)) if value.dtype.kind in "gV" else None


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix):
        x = kind(X)
        [result] = solved("x", x, softmax)
        np.testing.assert_array_equal(result, softmax(X))
        [result] = solved("target", x, lambda q: cross_entropy(X, q))
        assert result == cross_entropy(X, X)
        with fails(TypeError, "logits must be array_like, got", kind.__name__, "; pass logits.toarray()"):
            cross_entropy(x, LABELS)


# ---- objects of other libraries ---------------------------------------------


class WithoutName(type):
    def __getattribute__(cls, name):
        raise AttributeError(f"type object has no attribute {name!r}")


class Tensor(metaclass=WithoutName):
    """Of a class whose own class answers nothing, and whose conversion fails."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("no such dtype in NumPy")


@pytest.mark.parametrize("name, function", FUNCTIONS)
def test_a_conversion_that_fails_names_the_argument_and_the_way_out(name, function):
    text = f"^{name} must be array_like, got Tensor, which NumPy cannot convert; pass a numeric array$"
    with pytest.raises(TypeError, match=text) as caught:
        function(Tensor())
    assert str(caught.value.__cause__) == "no such dtype in NumPy"


def test_other_arguments_whose_conversion_fails():
    for name in ("weight", "sample_weight"):
        with fails(TypeError, f"{name} must be array_like, got Tensor"):
            cross_entropy(X, LABELS, **{name: Tensor()})
    with fails(TypeError, "where must be array_like, got Tensor"):
        softmax(X, where=Tensor())
    for option in ("axis", "temperature"):
        with fails(TypeError, option, "got Tensor"):
            softmax(X, **{option: Tensor()})
    with fails(TypeError, "out must be a numpy.ndarray, got Tensor"):
        softmax(X, out=Tensor())


class Table:
    """A table with columns as attributes, like a DataFrame; none of them means what it means for an array."""

    def __array__(self, dtype=None, copy=None):
        return X

    def __getattr__(self, column):
        if column in ("filled", "mask", "dtype", "names", "toarray", "detach"):
            return np.zeros(3)
        raise AttributeError(column)


def test_tables_with_columns_of_any_name():
    for function in (softmax, softloss.special.softmax, softloss.sigmoid, softloss.special.expit):
        np.testing.assert_array_equal(function(Table()), function(X))
    assert cross_entropy(X, Table()) == cross_entropy(X, X)
    assert logsumexp(X, b=Table()).shape == (3,)


def test_a_data_frame_with_a_column_named_filled():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"filled": X[:, 0], "mask": X[:, 1], "dtype": X[:, 2]})
    np.testing.assert_array_equal(softmax(table), softmax(X[:, :3]))


def test_tensors_of_bfloat16_are_read_where_they_are():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(24.0).reshape(4, 6).to(torch.bfloat16)
    values = tensor.float().numpy().astype(ml_dtypes.bfloat16)
    for part in (np.s_[:], np.s_[1:, ::2], np.s_[2], np.s_[2, 3], np.s_[:0]):
        result = softmax(tensor[part]) if tensor[part].ndim else softloss.sigmoid(tensor[part])
        expected = softmax(values[part]) if values[part].ndim else softloss.sigmoid(values[part])
        assert result.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(softmax(tensor.T, 0), softmax(values.T, 0))
    assert cross_entropy(tensor, [0, 1, 2, 3]) == cross_entropy(values, [0, 1, 2, 3])
    references = sys.getrefcount(tensor)
    softmax(tensor)
    assert sys.getrefcount(tensor) == references


def test_tensors_that_numpy_cannot_read():
    torch = pytest.importorskip("torch")
    with fails(TypeError, "x must be array_like, got Tensor", "pass x.detach().cpu().float().numpy()") as caught:
        softmax(torch.zeros(2, dtype=torch.float8_e4m3fn))
    assert isinstance(caught.value.__cause__, TypeError)


# ---- axis ---------------------------------------------


@pytest.mark.parametrize("axis", [2, -3, 100, 2**40])
def test_axis_out_of_range(axis):
    for transform in ROWWISE:
        with fails(ValueError, "axis", axis):
            transform(X, axis)
    for loss in CLASS_LOSSES.values():
        with fails(ValueError, "axis", axis):
            loss(X, LABELS, axis=axis)
    for transform in ROWWISE:
        with fails(ValueError, "axis"):
            transform(1.0, axis)


@pytest.mark.parametrize("axis", [1.0, "0", (0, 1), [0], 1j])
def test_axis_is_an_integer(axis):
    for transform in ROWWISE:
        with fails(TypeError, "axis"):
            transform(X, axis)
    for loss in CLASS_LOSSES.values():
        with fails(TypeError, "axis"):
            loss(X, LABELS, axis=axis)


@class_losses
def test_logits_without_an_axis(name, loss):
    with pytest.raises(ValueError, match=f"{name}|axis"):
        loss(1.0, 0)


# ---- shapes ---------------------------------------------


@class_losses
def test_shapes_of_targets(name, loss):
    for shape in [(4,), (2,), (3, 1), (1, 3), (3, 4), (), (1,)]:
        with fails(ValueError, "target", shape, (3,)):
            loss(X, np.zeros(shape, int))
    for shape in [(3,), (4, 3), (3, 5), (1, 4), (4,), ()]:
        with fails(ValueError, "target", shape):
            loss(X, np.zeros(shape))


@class_losses
def test_class_axis_one_is_suggested_where_it_fits(name, loss):
    with fails(ValueError, "target", "axis=1"):
        loss(np.zeros((2, 5, 3, 4)), np.zeros((2, 3, 4), int))
    with fails(ValueError, "target", "axis=1"):
        loss(np.zeros((2, 5, 7)), np.zeros((2, 7), int))
    with pytest.raises(ValueError, match="^(?!.*axis=1)"):
        loss(np.zeros((2, 5, 7)), np.zeros((2, 6), int))


@class_losses
def test_shapes_of_weights(name, loss):
    for shape in [(3,), (5,), (), (1,), (3, 4), (1, 4)]:
        with fails(ValueError, "weight", shape, "(4,)"):
            loss(X, LABELS, weight=np.ones(shape))
    for shape in [(4,), (2,), (3, 4), (3, 1)]:
        with fails(ValueError, "sample_weight", shape, "(3,)"):
            loss(X, LABELS, sample_weight=np.ones(shape))


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 4), (2, 3, 4), (3, 4, 1)])
def test_what_does_not_broadcast(shape):
    for transform in ROWWISE:
        with fails(ValueError, "where", shape, "(3, 4)"):
            transform(X, where=np.ones(shape, bool))
    with fails(ValueError, "b", shape, "(3, 4)"):
        logsumexp(X, b=np.ones(shape))
    for loss in BINARY_LOSSES.values():
        with fails(ValueError, "target", shape, "(3, 4)"):
            loss(X, np.ones(shape))
        with fails(ValueError, "weight", shape, "(3, 4)"):
            loss(X, 1, weight=np.ones(shape))
    with fails(ValueError, "pos_weight", shape, "(3, 4)"):
        bce_logits(X, 1, pos_weight=np.ones(shape))


@class_losses
def test_rows_without_classes(name, loss):
    for reduction in ("mean", "sum", "none"):
        with fails(ValueError, name, "(3, 0)"):
            loss(np.zeros((3, 0)), np.zeros(3, int), reduction=reduction)
        with fails(ValueError, name, "(3, 0)"):
            loss(np.zeros((3, 0)), np.zeros((3, 0)), reduction=reduction)


# ---- labels ---------------------------------------------


@class_losses
def test_bad_labels(name, loss):
    x = np.full((5, 20, 50257), 0.5, np.float32)
    target = np.zeros((5, 20), int)
    target[3, 17], target[4, 2] = 50257, -1
    text = (
        "target[3, 17] = 50257 is out of range for axis of 50257 classes (2 bad labels in all); "
        "valid are 0..50256 or ignore_index=-100"
    )
    with pytest.raises(IndexError, match=f"^{re.escape(text)}$"):
        loss(x, target)


@class_losses
def test_bad_labels_without_ignore_index(name, loss):
    text = "target[0] = -100 is out of range for axis of 4 classes (3 bad labels in all); valid are 0..3"
    with pytest.raises(IndexError, match=f"^{re.escape(text)}$"):
        loss(X, np.array([-100, -1, 4]), ignore_index=None)


@class_losses
def test_one_bad_label(name, loss):
    for bad in (4, -1, 2**31, -(2**63)):
        with fails(
            IndexError,
            f"target[1] = {bad} is out of range for axis of 4 classes",
            "valid are 0..3 or ignore_index=2",
        ):
            loss(X, np.array([0, bad, 2]), ignore_index=2)
    with fails(IndexError, "target = 12 is out of range for axis of 4 classes"):
        loss(X[0], 12)
    with fails(IndexError, "target[0] = 9223372036854775813"):
        loss(X, np.array([2**63 + 5, 0, 0], np.uint64))
    with fails(IndexError, "target[0, 1] = 7", "out of range for axis of 3 classes"):
        loss(np.full((2, 3, 2), 0.5), np.array([[0, 7], [1, 1]]), axis=1)


@pytest.mark.parametrize("ignore_index", [2**63 - 1, -(2**63), -1])
def test_labels_beyond_int64_are_never_ignored(ignore_index):
    for loss in (*CLASS_LOSSES.values(), softloss.token_logprobs):
        for label in (2**63, 2**64 - 1):
            with fails(IndexError, f"target[1] = {label} is out of range", f"ignore_index={ignore_index}"):
                loss(X, np.array([0, label, 0], np.uint64), ignore_index=ignore_index)
    ignored = np.array([0, 2**63 - 1, 0], np.uint64)
    assert cross_entropy(X, ignored, ignore_index=2**63 - 1) == cross_entropy(X[::2], [0, 0])


@class_losses
def test_labels_do_not_count_from_the_end(name, loss):
    with fails(IndexError, "target[2] = -1"):
        loss(X, [0, 0, -1])


@class_losses
def test_unsigned_labels_are_not_the_ignored_negative_one(name, loss):
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        wrapped = np.iinfo(dtype).max - 99
        with fails(IndexError, f"target[2] = {wrapped}"):
            loss(X, np.array([0, 0, wrapped], dtype))


@class_losses
def test_bad_labels_are_found_in_any_layout(name, loss):
    target = np.zeros((6, 4), int)
    target[2, 3] = 9
    for view in (np.asfortranarray(target), target[::-1, ::-1].copy()[::-1, ::-1], target.astype(">i2")):
        with fails(IndexError, "target[2, 3] = 9"):
            loss(np.full((6, 4, 5), 0.2), view)


# ---- options ---------------------------------------------


@losses
def test_reduction(loss):
    for reduction in ("batchmean", "MEAN", "", "avg"):
        with fails(ValueError, "reduction", reduction, "mean", "sum", "none"):
            loss(reduction=reduction)
    for reduction in (None, 1, True, ["mean"]):
        with fails((TypeError, ValueError), "reduction"):
            loss(reduction=reduction)


@pytest.mark.parametrize("temperature", [0, 0.0, -1, -0.5, np.nan, -np.inf, np.inf])
def test_temperature_is_positive_and_finite(temperature):
    for call in (softmax, log_softmax, lambda x, **options: cross_entropy(x, LABELS, **options)):
        with fails(ValueError, "temperature"):
            call(X, temperature=temperature)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0001, 2, np.nan, np.inf])
def test_label_smoothing_is_between_zero_and_one(label_smoothing):
    for target in (LABELS, X):
        with fails(ValueError, "label_smoothing", "between 0 and 1"):
            cross_entropy(X, target, label_smoothing=label_smoothing)


@pytest.mark.parametrize("bad", ["1", None, 1j, [1.0, 2.0]])
def test_numbers_are_numbers(bad):
    for call in (softmax, log_softmax, lambda x, **options: cross_entropy(x, LABELS, **options)):
        with fails(TypeError, "temperature"):
            call(X, temperature=bad)
    with fails(TypeError, "label_smoothing"):
        cross_entropy(X, LABELS, label_smoothing=bad)


def test_numbers_fit_into_a_float():
    with pytest.raises((OverflowError, ValueError), match="^temperature is too large for a float$"):
        softmax(X, temperature=10**400)


def test_keepdims_is_a_bool():
    with fails(TypeError, "keepdims must be a bool, got ndarray"):
        logsumexp(X, keepdims=np.ones(2))


@losses
def test_losses_are_float32_or_float64(loss):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        with fails(TypeError, "dtype of a loss must be float32 or float64, got", np.dtype(dtype)):
            loss(dtype=dtype)


@losses
def test_empty_is_a_number(loss):
    for bad in ("nan", None, 1j, [0.0]):
        with fails(TypeError, "empty"):
            loss(empty=bad)


@class_losses
def test_ignore_index_is_an_integer_or_none(name, loss):
    for bad in (1.0, "1", [1]):
        with fails(TypeError, "ignore_index"):
            loss(X, LABELS, ignore_index=bad)


@pytest.mark.parametrize("dtype", [np.longdouble, complex, int, bool, object, "U3", np.int8, "M8[s]"])
def test_dtype_is_a_float_that_is_kept(dtype):
    for transform in TRANSFORMS:
        with fails(TypeError, "dtype", "float64"):
            transform(X, dtype=dtype)
    for loss in CLASS_LOSSES.values():
        with fails(TypeError, "dtype", "float64"):
            loss(X, LABELS, dtype=dtype)
    for loss in BINARY_LOSSES.values():
        with fails(TypeError, "dtype", "float64"):
            loss(X, 1, dtype=dtype)


def test_options_are_keywords_and_arrays_positional():
    for call in (
        lambda: softmax(x=X),
        lambda: softmax(X, -1, None),
        lambda: softloss.sigmoid(X, X),
        lambda: cross_entropy(X, LABELS, -1),
        lambda: cross_entropy(X, target=LABELS),
        lambda: cross_entropy(X),
        lambda: bce(X, X, X),
        lambda: softmax(X, no_such_option=1),
    ):
        with pytest.raises(TypeError):
            call()


# ---- values outside [0, 1] ---------------------------------------------


@binary_losses
def test_binary_targets_lie_in_the_unit_interval(name, loss):
    for bad in (1.5, -0.25, 2, -1, np.inf):
        target = np.zeros((3, 4))
        target[1, 2] = target[2, 0] = bad
        with fails(ValueError, "target[1, 2] = ", bad, "[0, 1]"):
            loss(X, target)
    with fails(ValueError, "target[2] = 7", "[0, 1]"):
        loss(X, np.array([0, 1, 7, 1]))
    with fails(ValueError, "target = 2", "[0, 1]"):
        loss(X, 2)
    with fails(ValueError, "target[399999]", "[0, 1]"):
        loss(np.full(400_000, 0.5), np.r_[np.zeros(399_999), 1.5])


def test_probabilities_lie_in_the_unit_interval():
    for dtype in (np.float32, np.float64):
        for bad in (1.5, -0.25, -np.inf, 1 + 5 * np.finfo(dtype).eps, -5 * np.finfo(dtype).eps):
            probs = np.full((3, 4), 0.5, dtype)
            probs[1, 2] = probs[2, 0] = bad
            with fails(ValueError, "probs[1, 2] = ", "[0, 1]"):
                bce(probs, 1)
            with fails(ValueError, "probs[1, 2] = ", "[0, 1]"):
                categorical_cross_entropy(probs, np.zeros((3, 4)))


def test_minus_zero_lies_in_the_unit_interval():
    assert bce([-0.0, 1.0], [-0.0, 1.0]) == 0
    assert categorical_cross_entropy([-0.0, 1.0], 1) == 0


# ---- out, and that nothing is written ---------------------------------------------


def result_of(transform):
    return np.full(3 if transform is logsumexp else (3, 4), 7.0)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_out_has_the_exact_shape_and_dtype(transform):
    good = result_of(transform)
    for shape in [(4,), (3, 1), (3, 4, 1), (1, *good.shape), (), (4, 3)]:
        out = np.full(shape, 7.0)
        with fails(ValueError, "out", shape, good.shape):
            transform(X, out=out)
        assert np.all(out == 7)
    for dtype in (np.float32, np.float16, np.int64, np.longdouble, complex, object):
        out = good.astype(dtype)
        with fails(TypeError, "out", np.dtype(dtype), "float64"):
            transform(X, out=out)
        assert np.all(out == 7)
    out = good.astype(np.float32)
    with fails(TypeError, "out", "float32", "float64"):
        transform(X.astype(np.float32), out=out, dtype=np.float64)
    with fails(TypeError, "out", "float64", "float32"):
        transform(X, out=good, dtype=np.float32)
    for bad in ([0.0] * 4, 1.0, "out", (good,)):
        with fails(TypeError, "out"):
            transform(X, out=bad)
    with fails(TypeError, "out", "masked"):
        transform(X, out=np.ma.masked_array(good))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_out_is_writeable(transform):
    out = result_of(transform)
    out.flags.writeable = False
    with fails(ValueError, "out", "read-only"):
        transform(X, out=out)
    assert np.all(out == 7)


def test_out_of_logsumexp_is_memory_of_its_own():
    x, b = X.copy(), np.ones((3, 4))
    with fails(ValueError, "out overlaps x"):
        logsumexp(x, out=x[:, 0])
    with fails(ValueError, "out overlaps"):
        logsumexp(x, b=b, out=b[:, 0])
    for stride in (0, 1):
        tangled = np.lib.stride_tricks.as_strided(np.zeros(3), (3,), (stride,))
        with fails(ValueError, "out has elements that overlap each other"):
            logsumexp(x, out=tangled)


@pytest.mark.parametrize("transform", ROWWISE)
def test_nothing_is_written_on_error(transform):
    out = result_of(transform)
    bad_options = [
        {"axis": 5},
        {"axis": 0.0},
        {"where": np.ones(3, bool)},
        {"where": np.ones(4)},
        {"dtype": np.float32},
        *([{"b": np.ones(3)}, {"b": "b"}] if transform is logsumexp else [{"temperature": 0}, {"temperature": None}]),
    ]
    for options in bad_options:
        with pytest.raises((TypeError, ValueError)):
            transform(X, out=out, **options)
        assert np.all(out == 7), options


def test_an_error_leaves_no_trace():
    """After an error, the next call on the same threads is right."""
    target = np.zeros(5000, int)
    target[4321] = 200
    logits = np.random.default_rng(0).standard_normal((5000, 100)).astype(np.float32)
    expected = cross_entropy(logits, np.zeros(5000, int))
    before = logits.tobytes()
    for _ in range(3):
        with fails(IndexError, "target[4321] = 200"):
            cross_entropy(logits, target)
        assert cross_entropy(logits, np.zeros(5000, int)) == expected
    assert logits.tobytes() == before


# ---- gradients and Hessians: grad_out, hess_out ---------------------------------------------


def with_grad_out(loss):
    """The loss as a call of (logits or probabilities, grad_out)."""
    target = LABELS if loss in CLASS_LOSSES.values() else 1
    return lambda x, grad_out, **options: and_grad(loss)(x, target, grad_out=grad_out, **options)


GRADIENTS = {f.__name__: with_grad_out(f) for f in (*CLASS_LOSSES.values(), *BINARY_LOSSES.values())}
HESSIANS = {
    "cross_entropy_grad_hess": LABELS,
    "binary_cross_entropy_with_logits_grad_hess": 1,
    "softmax_focal_loss_grad_hess": LABELS,
    "sigmoid_focal_loss_grad_hess": 1,
}  # and a target
each_hessian = pytest.mark.parametrize("name, target", HESSIANS.items(), ids=HESSIANS)


def with_output(name, output):
    """The Hessian as a call of (logits, output)."""
    return lambda x, out: getattr(softloss, name)(x, HESSIANS[name], **{output: out})


BACKWARD = {
    name: lambda x, out, name=name: getattr(softloss, name)(x, X, out=out)
    for name in ("softmax_backward", "log_softmax_backward")
}
OUTPUTS = [
    *[pytest.param("grad_out", f, id=name) for name, f in GRADIENTS.items()],
    *[
        pytest.param(out, with_output(name, out), id=f"{name}, {out}")
        for name in HESSIANS
        for out in ("grad_out", "hess_out")
    ],
    *[pytest.param("out", f, id=name) for name, f in BACKWARD.items()],
]
outputs = pytest.mark.parametrize("name, call", OUTPUTS)


@outputs
def test_outputs_have_the_exact_shape_and_dtype(name, call):
    for shape in [(4,), (3, 1), (3, 4, 1), (1, 3, 4), (), (4, 3)]:
        out = np.full(shape, 7.0)
        with fails(ValueError, name, shape, "(3, 4)"):
            call(X, out)
        assert np.all(out == 7)
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.longdouble, complex, object):
        out = np.full((3, 4), 7).astype(dtype)
        with fails(TypeError, name, np.dtype(dtype), "float64"):
            call(X, out)
        assert np.all(out == 7)
    for bad in ([[0.0] * 4] * 3, 1.0, "out", (X.copy(),)):
        with fails(TypeError, f"{name} must be a numpy.ndarray, got {type(bad).__name__}"):
            call(X, bad)
    with fails(TypeError, name, "masked"):
        call(X, np.ma.masked_array(X.copy()))


@outputs
def test_outputs_are_writeable(name, call):
    out = np.full((3, 4), 7.0)
    out.flags.writeable = False
    with fails(ValueError, f"{name} is read-only"):
        call(X, out)
    assert np.all(out == 7)


OVERLAPS = {"shifted by one": (np.s_[:12], np.s_[1:]), "shifted back": (np.s_[1:], np.s_[:12])}


@outputs
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_outputs_that_overlap_in_part_are_refused(name, call, overlap):
    source, target = OVERLAPS[overlap]
    memory = np.arange(13.0) / 78
    before = memory.copy()
    with fails(ValueError, name, "overlaps"):
        call(memory[source].reshape(3, 4), memory[target].reshape(3, 4))
    np.testing.assert_array_equal(memory, before)


@outputs
def test_outputs_reversed_in_the_memory_of_the_input_are_refused(name, call):
    x = X.copy()
    with fails(ValueError, name, "overlaps"):
        call(x, x[::-1, ::-1])
    np.testing.assert_array_equal(x, X)


TRANSFORMED = [
    pytest.param("out", lambda x, out, f=f: f(x, out=out), id=f.__name__)
    for f in (softmax, log_softmax, softloss.sigmoid, softloss.log_sigmoid)
]
# Arrays of shape (3, 4) whose elements lie on one another: from a memory, by strides in units of 8 bytes.
TANGLES = {"one row": (0, 1), "one column": (1, 0), "one element": (0, 0), "windows": (1, 1), "half a row": (2, 1)}


@pytest.mark.parametrize("tangle", TANGLES)
@pytest.mark.parametrize("name, call", [*TRANSFORMED, *OUTPUTS])
def test_outputs_whose_elements_overlap_are_refused(name, call, tangle):
    memory = np.full(13, 7.0)
    strides = [8 * stride for stride in TANGLES[tangle]]
    for memory_order in (1, -1):
        out = np.lib.stride_tricks.as_strided(memory[::memory_order], (3, 4), [memory_order * s for s in strides])
        with fails(ValueError, f"{name} has elements that overlap each other"):
            call(X, out)
    assert np.all(memory == 7)


def test_outputs_of_any_order_have_elements_of_their_own():
    memory = np.empty((6, 4, 10))
    for out in [memory[:3, :, 0], memory[::-2, ::-1, 5], memory[:4, 0, ::4].T, np.empty((3, 4), order="F")]:
        np.testing.assert_array_equal(softmax(X, out=out), softmax(X))
    for shape, strides in [((1, 4), (0, 8)), ((3, 1), (8, 0)), ((1, 1), (0, 0)), ((0, 4), (0, 0))]:  # 0 plays no part
        out = np.lib.stride_tricks.as_strided(np.empty(4), shape, strides)
        np.testing.assert_array_equal(softmax(np.ones(shape), out=out), softmax(np.ones(shape)))


@each_hessian
def test_hess_out_is_memory_of_its_own(name, target):
    x = X.copy()
    for options in ({"hess_out": x}, {"grad_out": x, "hess_out": x}):
        with fails(ValueError, "hess_out overlaps"):
            getattr(softloss, name)(x, target, **options)
        np.testing.assert_array_equal(x, X)
    both = np.full((3, 4), 7.0)
    with fails(ValueError, "hess_out overlaps"):
        getattr(softloss, name)(x, target, grad_out=both, hess_out=both)
    assert np.all(both == 7)


def test_grad_out_does_not_overlap_other_arguments():
    soft, weight = X.copy(), np.ones((3, 4))
    samples, classes = weight[:, 0], weight[0]
    for loss in CLASS_LOSSES.values():
        with fails(ValueError, "grad_out overlaps"):
            and_grad(loss)(X, soft, grad_out=soft)
        with fails(ValueError, "grad_out overlaps"):
            and_grad(loss)(X, LABELS, weight=classes, grad_out=weight)
        with fails(ValueError, "grad_out overlaps"):
            and_grad(loss)(X, LABELS, sample_weight=samples, grad_out=weight)
    for loss in BINARY_LOSSES.values():
        with fails(ValueError, "grad_out overlaps"):
            and_grad(loss)(X, soft, grad_out=soft)
        with fails(ValueError, "grad_out overlaps"):
            and_grad(loss)(X, 1, weight=weight, grad_out=weight)
    with fails(ValueError, "grad_out overlaps"):
        and_grad(bce_logits)(X, 1, pos_weight=weight, grad_out=weight)
    np.testing.assert_array_equal(soft, X)
    assert np.all(weight == 1)


BAD_OPTIONS = [
    {"axis": 5},
    {"axis": 0.0},
    {"weight": np.ones(3)},
    {"weight": "heavy"},
    {"sample_weight": np.ones(4)},
    {"reduction": "average"},
    {"ignore_index": 1.5},
    {"empty": None},
    {"dtype": np.float32},
    {"dtype": int},
]


@pytest.mark.parametrize("options", [*BAD_OPTIONS, {"temperature": 0}, {"label_smoothing": 2}], ids=str)
def test_no_gradient_is_written_on_error(options):
    out = np.full((3, 4), 7.0)
    for loss in CLASS_LOSSES.values():
        with pytest.raises((TypeError, ValueError)):
            and_grad(loss)(X, LABELS, grad_out=out, **options)
    binary = {k: v for k, v in options.items() if k in ("reduction", "empty", "dtype")}
    for loss in BINARY_LOSSES.values() if binary else ():
        with pytest.raises((TypeError, ValueError)):
            and_grad(loss)(X, 1, grad_out=out, **binary)
    assert np.all(out == 7)


def test_no_gradient_is_written_when_a_late_label_is_bad():
    """In place: after an error, the logits have not changed."""
    rng = np.random.default_rng(0)
    target = np.zeros(5000, int)
    target[4999] = 100
    for scores in (rng.standard_normal((5000, 100)), np.full((5000, 100), 0.01)):
        for f in (
            *map(and_grad, CLASS_LOSSES.values()),
            softloss.cross_entropy_grad_hess,
            softloss.softmax_focal_loss_grad_hess,
        ):
            x, hess = scores.copy(), {"hess_out": np.full(scores.shape, 7.0)} if f.__name__.endswith("hess") else {}
            if f is and_grad(categorical_cross_entropy):
                x = np.full((5000, 100), 0.01)
            before = x.copy()
            with fails(IndexError, "target[4999] = 100"):
                f(x, target, grad_out=x, **hess)
            np.testing.assert_array_equal(x, before)
            assert all(np.all(h == 7) for h in hess.values())


def test_no_gradient_is_written_when_a_late_value_is_bad():
    bad = np.zeros(300_000)
    bad[-1] = 1.5
    functions = [*map(and_grad, BINARY_LOSSES.values()), softloss.binary_cross_entropy_with_logits_grad_hess]
    for f in functions:
        x = np.full(300_000, 0.25)
        with fails(ValueError, "target[299999] = 1.5", "[0, 1]"):
            f(x, bad, grad_out=x)
        assert np.all(x == 0.25)
    x = bad.copy()
    with fails(ValueError, "probs[299999] = 1.5", "[0, 1]"):
        and_grad(bce)(x, 1, grad_out=x)
    rows = x.reshape(-1, 3)
    with fails(ValueError, "probs[99999, 2] = 1.5", "[0, 1]"):
        and_grad(categorical_cross_entropy)(rows, np.full(100_000, 2), grad_out=rows)
    np.testing.assert_array_equal(x, bad)


@each_hessian
@pytest.mark.parametrize("option", ["hess_scale", "hess_min"])
def test_options_of_hessians_are_numbers(option, name, target):
    for bad in ("1", None, 1j, [1.0, 2.0]):
        with fails(TypeError, f"{option} must be a number"):
            getattr(softloss, name)(X, target, **{option: bad})


@each_hessian
def test_ranges_of_the_options_of_hessians(name, target):
    function = getattr(softloss, name)
    for bad in (-1, -np.inf, np.inf, np.nan):
        with fails(ValueError, "hess_scale must be finite and at least 0, got"):
            function(X, target, hess_scale=bad)
    for bad in (np.inf, np.nan):
        with fails(ValueError, "hess_min must be finite or -inf, got"):
            function(X, target, hess_min=bad)


FOCAL_CALLS = {
    f"{name}{kind}": lambda name=name, kind=kind, target=target, **o: getattr(softloss, f"{name}{kind}")(X, target, **o)
    for name, target in (("softmax_focal_loss", LABELS), ("sigmoid_focal_loss", 1))
    for kind in ("", "_and_grad", "_grad_hess")
}


@pytest.mark.parametrize("name", FOCAL_CALLS)
def test_ranges_of_gamma_and_alpha(name):
    for bad in (-1e-9, -np.inf, np.inf, np.nan):
        with fails(ValueError, "gamma must be finite and at least 0, got"):
            FOCAL_CALLS[name](gamma=bad)
    if name.startswith("softmax"):
        return
    for bad in (-1e-9, np.nextafter(1, 2), np.nan):
        with fails(ValueError, "alpha must be between 0 and 1, got"):
            FOCAL_CALLS[name](alpha=bad)


@pytest.mark.parametrize("kind", ["", "_and_grad", "_grad_hess"])
def test_targets_of_the_sigmoid_focal_loss_are_0_or_1(kind):
    function = getattr(softloss, f"sigmoid_focal_loss{kind}")
    for dtype, bad in ((np.float32, np.nextafter(np.float32(1), np.float32(0))), (np.float64, 1 + 1e-15), (np.int8, 2)):
        target = np.zeros((3, 4), dtype)
        target[1:, 2] = bad
        for options in ({}, {"gamma": 0.0}):
            x = X.copy()
            with fails(ValueError, "target[1, 2] = ", "is neither 0 nor 1"):
                function(x, target, **({"grad_out": x} if kind else {}), **options)
            np.testing.assert_array_equal(x, X)
    with fails(ValueError, "target = nan is neither 0 nor 1"):
        function(X, np.nan)
    function(X, np.float64(-0.0))


# ---- gradients of the transforms ---------------------------------------------


@pytest.mark.parametrize("name, first", [("softmax_backward", "y"), ("log_softmax_backward", "logy")])
def test_backward(name, first):
    function = getattr(softloss, name)
    for shape in [(3,), (4,), (4, 3), (1, 4), ()]:
        with fails(ValueError, f"dy has shape {shape}", f"{first} has shape (3, 4)"):
            function(X, np.ones(shape))
    for axis in (2, -3, 2**40):
        with fails(ValueError, "axis", axis):
            function(X, X, axis)
    for axis in (1.0, "0", (0, 1), None):
        with fails(TypeError, "axis"):
            function(X, X, axis)
    dy, y = X.copy(), X.copy()
    assert function(y, dy, out=dy) is dy  # may be dy


# ---- scores ---------------------------------------------


@index_functions
def test_targets_are_class_indices(function):
    for target in (X, LABELS.astype(float), LABELS > 0):
        with fails(TypeError, "target must hold class indices (integers), got dtype", target.dtype):
            function(X, target)
    for kind in ("complex64", "object", "string", "masked"):
        with fails(TypeError, "target"):
            function(X, REFUSED[kind][0][:, 0])


@index_functions
def test_shapes_and_axes_of_index_functions(function):
    for shape in [(4,), (3, 1), (3, 4), ()]:
        with fails(ValueError, "class indices", "must have shape (3,)", "got", shape):
            function(X, np.zeros(shape, int))
    with fails(ValueError, "axis=1"):
        function(np.zeros((2, 5, 7)), np.zeros((2, 7), int))
    with fails(ValueError, "axis", 2):
        function(X, LABELS, axis=2)
    with fails(TypeError, "axis"):
        function(X, LABELS, axis=1.0)
    with fails(ValueError, "logits must have at least one dimension"):
        function(1.0, 0)
    with fails(ValueError, "logits of shape (3, 0) has no classes: axis 1 has length 0"):
        function(np.zeros((3, 0)), LABELS)


@index_functions
def test_bad_labels_of_index_functions(function):
    text = (
        "target[1, 2] = 7 is out of range for axis of 4 classes (2 bad labels in all); "
        "valid are 0..3 or ignore_index=-100"
    )
    target = np.zeros((2, 3), int)
    target[1, 2], target[1, 1] = 7, -100
    with pytest.raises(IndexError, match=f"^{re.escape(text.replace('2 bad labels', '1 bad label'))}$"):
        function(np.zeros((2, 3, 4)), target)
    target[1, 1] = 8
    with fails(IndexError, "target[1, 1] = 8", "(2 bad labels in all)"):
        function(np.zeros((2, 3, 4)), target)
    with fails(IndexError, "target = -100 is out of range for axis of 4 classes"):
        function(np.zeros(4), -100, ignore_index=None)
    with fails(TypeError, "ignore_index"):
        function(X, LABELS, ignore_index=1.0)


def test_k_lies_within_the_classes():
    for k in (0, -1, 5, 2**40):
        with fails(ValueError, "k must be between 1 and 4 (the number of classes), got", k):
            softloss.softmax_topk(X, k)
    for k in (-1, 5, 2**40):
        with fails(ValueError, "top_k must be between 0 and 4 (the number of classes), got", k):
            softloss.token_logprobs(X, LABELS, top_k=k)
    for k in (2**63, 2**64 + 1, -(2**63), -(10**30)):  # as it came, not as the nearest number of 64 bits
        with fails(ValueError, f"k must fit into int64, got {k}"):
            softloss.softmax_topk(X, k)
        with fails(ValueError, f"top_k must fit into int64, got {k}"):
            softloss.token_logprobs(X, LABELS, top_k=k)
    for bad in (1.0, "1", None, True, [1]):
        with fails(TypeError, "k must be an integer, got", type(bad).__name__):
            softloss.softmax_topk(X, bad)
        with fails(TypeError, "top_k must be an integer, got", type(bad).__name__):
            softloss.token_logprobs(X, LABELS, top_k=bad)


def test_options_of_scores():
    for call in (softloss.softmax_topk, lambda x, **options: softloss.token_logprobs(x, LABELS, **options)):
        for bad in (0, -1, np.nan, np.inf):
            with fails(ValueError, "temperature must be positive and finite"):
                call(X, temperature=bad)
        with fails(TypeError, "temperature must be a number"):
            call(X, temperature="warm")
    for axis in (2, -3):
        with fails(ValueError, "axis", axis):
            softloss.softmax_topk(X, 1, axis)
    with fails(TypeError, "axis"):
        softloss.softmax_topk(X, 1, 0.5)
    with fails(ValueError, "x must have at least one dimension"):
        softloss.softmax_topk(1.0)
