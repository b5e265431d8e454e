"""Operation x dtype x layout x axis x option, generated from operations.py: values, dtypes, and the same bits from
every layout of every operand and result.

Lives here: what holds for every function alike. Must not: lists of calls, edge cases of one function.
"""

import inspect

import numpy as np
import pytest
import reference
import softloss
from operations import OPERATIONS
from strategies import FLOATS, HALVES, INTEGERS, LAYOUTS

NAMES = [name for name in softloss.functional.__all__ if name[0].islower()]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
WRITEABLE = {name: lay_out for name, lay_out in LAYOUTS.items() if name != "read-only"}
ENTROPY_ULPS = 4


def test_every_function_is_in_the_matrix():
    assert sorted({operation.name for operation in OPERATIONS}) == sorted(NAMES)


@each_operation
def test_every_option_is_in_the_matrix(operation):
    keywords = {
        p.name
        for p in inspect.signature(getattr(softloss, operation.name)).parameters.values()
        if p.kind is not p.POSITIONAL_ONLY
    }
    assert keywords == {*operation.options, *operation.outputs, *(["axis"] if operation.has_axis else [])}


def bits(results):
    """Dtypes, shapes and bytes; all NaN are equal."""
    arrays = [np.where(np.isnan(y), np.nan, y).astype(y.dtype) for y in map(np.asarray, results)]
    return [(y.dtype, y.shape, y.tobytes()) for y in arrays]


def calls(operation, dtype):
    """(operands, axis, options) of every shape, axis and option."""
    for shape, axis in operation.shapes():
        operands = [np.asarray(x) for x in operation.operands(shape, dtype, axis)]
        for options in operation.cases(shape, axis):
            yield operands, axis, options


# ---- values ---------------------------------------------


def loss_ulps(operation, options):
    """2 ULP for the loss of a row, more for the rounding of a factor and of a sum over rows."""
    factors = sum(name in options for name in ("weight", "sample_weight", "pos_weight", "label_smoothing"))
    factors += (options.get("temperature", 1.0) != 1) + (operation.kind in ("probabilities", "soft"))
    if is_divergence(operation):
        return 8 + factors / 2
    return 2 + factors / 2 + (options.get("reduction") != "none")


def is_divergence(operation):
    return "divergence" in operation.name or operation.name in ("softmax_entropy", "brier_score")


def gradient_ulps(operation, options):
    """Weights of single elements are rounded to the dtype of the computation."""
    elementwise = not operation.has_axis
    weights = sum(name in options for name in ("weight", "pos_weight")) if elementwise else 0
    return 3 + weights / 2


def assert_values(operation, operands, axis, options):
    actual = operation(*operands, axis=axis, **options)
    true = operation.oracle(*operands, axis=axis, **{k: v for k, v in options.items() if k != "dtype"})
    context = f"{operation}, shape {np.shape(operands[0])}, axis {axis}, {options}"
    name = operation.name
    if name.endswith("_and_grad"):
        loss, grad, scale = true
        reference.assert_ulps(actual[0], loss, loss_ulps(operation, options), context)
        reference.assert_ulps(actual[1], grad, gradient_ulps(operation, options), context, scale)
    elif name.endswith("_grad_hess"):
        grad, hess, scale, hess_scale = true
        reference.assert_ulps(actual[0], grad, gradient_ulps(operation, options), context, scale)
        reference.assert_ulps(actual[1], hess, gradient_ulps(operation, options) + 1, context, hess_scale)
    elif name.endswith("_backward"):
        scale = getattr(reference, f"{name}_scale")(*operands, axis)
        reference.assert_ulps(actual[0], true[0], 3, context, scale)
    elif name in ("softmax_topk", "token_logprobs", "sample"):
        for place, (y, expected) in enumerate(zip(actual, true, strict=True)):
            if y.dtype == np.int64:
                np.testing.assert_array_equal(y, expected, err_msg=context)
            else:
                limit = ENTROPY_ULPS if place == 3 else 8 if name == "sample" and y.dtype == np.float64 else 2
                reference.assert_ulps(y, expected, limit, context)
    elif name in ("fit_temperature", "calibration_error"):
        limit = 1e-8 if operands[0].dtype == np.float64 else 1e-5
        assert all(y.dtype == np.float64 for y in actual)
        np.testing.assert_allclose(actual, [float(y) for y in true], limit, limit**2, err_msg=context)
    elif is_loss(operation):
        reference.assert_ulps(actual[0], true[0], loss_ulps(operation, options), context)
    else:
        scale = np.abs(operands[0]).max(initial=0) if name == "logsumexp" else 0
        reference.assert_ulps(actual[0], true[0], 2, context, scale)
        if name == "log_normalize":
            reference.assert_ulps(actual[1], true[1], 2, context, np.abs(operands[0]).max(initial=0))


def is_loss(operation):
    return any(word in operation.name for word in ("entropy", "loss", "divergence", "brier"))


@each_operation
@pytest.mark.parametrize("dtype", FLOATS)
def test_values(operation, dtype):
    for operands, axis, options in calls(operation, dtype):
        assert_values(operation, operands, axis, options)


# ---- dtypes ---------------------------------------------


@each_operation
@pytest.mark.parametrize("half", HALVES)
def test_half_results_are_those_of_float32_rounded_once(operation, half):
    """Losses and scores stay float32; transforms, gradients and Hessians are rounded to the input's dtype."""
    for operands, axis, options in calls(operation, half):
        if "dtype" in options:
            continue
        wide = [x.astype(np.float32) if x.dtype == half else x for x in operands]
        narrow, expected = operation(*operands, axis=axis, **options), operation(*wide, axis=axis, **options)
        kept = kept_dtype(operation, len(narrow))
        rounded = [
            np.asarray(y).astype(half) if keeps and np.asarray(y).dtype == np.float32 else y
            for y, keeps in zip(expected, kept, strict=True)
        ]
        assert bits(narrow) == bits(rounded), (str(operation), np.shape(operands[0]), axis, options)


def kept_dtype(operation, count):
    """The results whose dtype is that of the input, even for float16 and bfloat16."""
    name = operation.name
    if name.endswith("_and_grad"):
        return [False, True]
    if name in ("token_logprobs", "sample"):
        return [False] * count
    return [name.endswith(("_grad_hess", "_backward")) or not is_loss(operation)] * count


@each_operation
@pytest.mark.parametrize("integer", [*INTEGERS, bool])
def test_integers_and_bool_compute_in_float64(operation, integer):
    for operands, axis, options in calls(operation, np.float64):
        x = np.clip(np.abs(operands[0]), 0, 1 if "prob" in parameter(operation) or integer is bool else 100)
        x = x.round()
        rest = [y.round() if operation.name.endswith("_backward") else y for y in operands[1:]]
        expected = operation(x, *rest, axis=axis, **options)
        assert bits(operation(x.astype(integer), *rest, axis=axis, **options)) == bits(expected), (x, options)


def parameter(operation):
    """Name of the first argument."""
    return next(iter(inspect.signature(getattr(softloss, operation.name)).parameters))


# ---- layouts ---------------------------------------------


@each_operation
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_layouts(operation, dtype, layout):
    lay_out = LAYOUTS[layout]
    for operands, axis, options in calls(operation, dtype):
        expected = operation(*operands, axis=axis, **options)
        elsewhere = {k: lay_out(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        actual = operation(*map(lay_out, operands), axis=axis, **elsewhere)
        assert bits(actual) == bits(expected), (str(operation), np.shape(operands[0]), axis, options)


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.has_axis], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_long_rows(operation, dtype):
    """Rows that are read in several pieces, or fit into one stage."""
    shape, axis = (2, 9001), -1
    operands = [np.asarray(x) for x in operation.operands(shape, dtype, axis)]
    for options in operation.cases(shape, axis):
        assert_values(operation, operands, axis, options)
        expected = operation(*operands, axis=axis, **options)
        for lay_out in (LAYOUTS["strided"], LAYOUTS["byte-swapped"]):
            elsewhere = {k: lay_out(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
            actual = operation(*map(lay_out, operands), axis=axis, **elsewhere)
            assert bits(actual) == bits(expected), (str(operation), options)


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.outputs], ids=str)
@pytest.mark.parametrize("layout", WRITEABLE)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_layouts_of_results(operation, dtype, layout):
    """Results in arrays of any layout, from operands of another one."""
    for operands, axis, options in calls(operation, dtype):
        expected = operation(*operands, axis=axis, **options)
        outs = [WRITEABLE[layout](np.full_like(y, 7, subok=False)) for y in operation.written(expected)]
        columns = [x.copy("F") for x in operands]
        results = operation(*columns, axis=axis, **options, **dict(zip(operation.outputs, outs, strict=True)))
        assert all(result is out for result, out in zip(operation.written(results), outs, strict=True))
        native = [np.asarray(y, np.asarray(y).dtype.newbyteorder("=")) for y in results]
        assert bits(native) == bits(expected), (str(operation), np.shape(operands[0]), axis, options)


@each_operation
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_strides_of_zero(operation, dtype):
    """Operands that np.broadcast_to made from one slice."""
    for operands, axis, options in calls(operation, dtype):
        for repeated in range(np.ndim(operands[0])):
            constant = [
                np.broadcast_to(x[(slice(None),) * repeated + (slice(1),)], x.shape) if np.ndim(x) > repeated else x
                for x in operands
            ]
            expected = operation(*[x.copy() for x in constant], axis=axis, **options)
            assert bits(operation(*constant, axis=axis, **options)) == bits(expected), (
                str(operation),
                np.shape(operands[0]),
                axis,
                options,
            )


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.outputs], ids=str)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_in_place(operation, dtype):
    """The first output may be the first operand; for the *_backward functions, either."""
    if operation.name == "logsumexp":
        return
    for operands, axis, options in calls(operation, dtype):
        if "dtype" in options:
            continue
        expected = operation(*operands, axis=axis, **options)
        for place in range(1 + operation.name.endswith("_backward")):
            own = [x.copy() for x in operands]
            own_options = options | {operation.outputs[0]: own[place]}
            context = (str(operation), place, np.shape(operands[0]), axis, options)
            assert bits(operation(*own, axis=axis, **own_options)) == bits(expected), context
            assert bits([own[place]]) == bits([operation.written(expected)[0]]), context


@each_operation
def test_operands_are_left_alone(operation):
    for dtype in (*FLOATS, *HALVES):
        for operands, axis, options in calls(operation, dtype):
            before = [x.tobytes() for x in operands]
            operation(*operands, axis=axis, **options)
            assert [x.tobytes() for x in operands] == before


@each_operation
def test_array_likes_and_subclasses(operation):
    class Tagged(np.ndarray):
        pass

    for operands, axis, options in calls(operation, np.float64):
        expected = operation(*operands, axis=axis, **options)
        lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in options.items()}
        assert bits(operation(*[x.tolist() for x in operands], axis=axis, **lists)) == bits(expected)
        results = operation(*[x.view(Tagged) for x in operands], axis=axis, **options)
        assert bits(results) == bits(expected)
        assert all(type(y) is np.ndarray or isinstance(y, np.generic) for y in results)
