"""Memory layouts: all give the same bits, and none copies the whole input.

Lives here: strides, byte order, alignment, read-only memory, files, memory use. Must not: accuracy.
"""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import softloss
from hypothesis import given
from hypothesis import strategies as st
from operations import OPERATIONS
from softloss import _core
from strategies import FLOATS, HALVES, LAYOUTS, masks, probabilities, shapes, values

ROWWISE = ["softmax", "log_softmax", "logsumexp"]
ELEMENTWISE = ["sigmoid", "log_sigmoid"]
CLASS_LOSSES = ["cross_entropy", "categorical_cross_entropy", "nll_loss"]


def bits(y):
    """Dtype, shape and bytes."""
    y = np.asarray(y)
    return y.dtype, y.shape, y.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("name", ROWWISE + ELEMENTWISE)
def test_transforms_of_any_layout(name, dtype, layout):
    function = getattr(softloss, name)
    for shape in [(5,), (100,), (3, 17), (20, 70), (4, 5, 6), (2, 3, 4, 33)]:
        x = values("masked", shape, dtype)
        for axis in [None] if name in ELEMENTWISE else range(len(shape)):
            options = {} if axis is None else {"axis": axis}
            assert bits(function(LAYOUTS[layout](x), **options)) == bits(function(x, **options)), (shape, axis)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_losses_of_any_layout(name, dtype, layout):
    loss, lay_out = getattr(softloss, name), LAYOUTS[layout]
    for shape, axis in [((7, 3), 1), ((40, 90), 1), ((90, 40), 0), ((3, 10, 5), 1), ((2, 3, 4, 5), -3)]:
        x = probabilities(shape, dtype, 1, axis) if name != "nll_loss" else -probabilities(shape, dtype, 2, axis)
        rows = np.delete(shape, axis)
        weight, sample_weight = np.linspace(0.5, 2, shape[axis]), np.random.default_rng(0).random(rows)
        for target in (
            np.random.default_rng(1).integers(0, shape[axis], rows),
            probabilities(shape, np.float32, 3, axis),
        ):
            options = {"axis": axis, "reduction": "none"}
            assert bits(loss(lay_out(x), lay_out(target), **options)) == bits(loss(x, target, **options)), (shape, axis)
            everywhere = {"weight": lay_out(weight), "sample_weight": lay_out(sample_weight)}
            plain = {"weight": weight, "sample_weight": sample_weight}
            actual = loss(lay_out(x), lay_out(target), axis=axis, **everywhere)
            assert bits(actual) == bits(loss(x, target, axis=axis, **plain)), (shape, axis)


@given(data=st.data())
def test_every_operand_has_its_own_layout(data):
    shape = data.draw(shapes())
    axis = data.draw(st.integers(0, len(shape) - 1))
    dtype = data.draw(st.sampled_from((*FLOATS, *HALVES)))
    layouts = [LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))] for _ in range(3)]
    x, where = values("normal", shape, dtype), data.draw(masks(shape))
    b = np.random.default_rng(0).random(shape)
    expected = softloss.logsumexp(x, axis, b=b, where=where)
    out = np.zeros_like(expected, subok=False)
    softloss.logsumexp(layouts[0](x), axis, b=layouts[1](b), where=layouts[2](where), out=out)
    assert bits(out) == bits(expected)
    out = np.zeros(shape[::-1], dtype).T
    softloss.softmax(layouts[0](x), axis, where=layouts[2](where), out=out)
    assert bits(out) == bits(softloss.softmax(x, axis, where=where))


@pytest.mark.parametrize("dtype", FLOATS)
def test_strides_of_zero(dtype):
    """np.broadcast_to along the rows and along the axis."""
    for shape, source in [((30, 40), (1, 40)), ((30, 40), (30, 1)), ((30, 40), (1, 1)), ((3, 4, 5), (4, 1))]:
        x = np.broadcast_to(values("normal", source, dtype), shape)
        for axis in range(len(shape)):
            for name in ROWWISE:
                function = getattr(softloss, name)
                assert bits(function(x, axis)) == bits(function(x.copy(), axis))
            rows = np.zeros(np.delete(shape, axis), int)
            assert bits(softloss.cross_entropy(x, rows, axis=axis)) == bits(
                softloss.cross_entropy(x.copy(), rows, axis=axis)
            )


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_columns_of_a_wider_table(dtype):
    """Rows of adjacent elements with every row stride, and from every first column."""
    table = values("normal", (20, 100), dtype)
    for first, count in itertools.product((0, 1, 2, 3, 7), (1, 2, 5, 16, 33, 64, 70)):
        view = table[:, first : first + count]
        for name in ROWWISE + ELEMENTWISE:
            function = getattr(softloss, name)
            assert bits(function(view)) == bits(function(view.copy())), (name, first, count)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_records_and_complex_parts(dtype):
    """Strides that are not a multiple of the item size, as of fields of packed records."""
    records = np.zeros((9, 50), [("tag", "u1"), ("x", dtype), ("more", "u2")])
    records["x"] = values("normal", (9, 50), dtype)
    for name in ROWWISE + ELEMENTWISE:
        function = getattr(softloss, name)
        assert bits(function(records["x"])) == bits(function(records["x"].copy()))
    target = np.zeros(9, int)
    assert softloss.cross_entropy(records["x"], target) == softloss.cross_entropy(records["x"].copy(), target)


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.outputs], ids=str)
def test_outputs_beside_their_inputs(operation):
    """Columns of one table and fields of one record share no element, though their extents cross."""
    shape, axis = (7, 5), 1 if operation.has_axis else -1
    operands = operation.operands(shape, np.float64, axis)
    expected = operation(*operands, axis=axis)
    shapes = [y.shape for y in operation.written(expected)]
    floats = [i for i, x in enumerate(operands) if x.shape == shape and x.dtype == np.float64]
    of_one = shapes[0] == shape

    columns = np.zeros((7, 5 * (len(floats) + len(shapes))))
    places = [columns[:, 5 * k : 5 * k + 5] for k in range(len(floats) + len(shapes))]
    names = [f"f{k}" for k in range(len(floats) + len(shapes))]
    record = np.zeros(shape, [("tag", "u1"), *((name, "f8") for name in names)])
    for arrays in (places, places[::-1], [record[name] for name in names]):
        given = list(operands)
        for i, x in zip(floats, arrays, strict=False):
            x[...] = operands[i]
            given[i] = x
        outputs = [x if of_one else x[:, 0] for x in arrays[len(floats) :]]
        options = dict(zip(operation.outputs, outputs, strict=True))
        for y, true in zip(operation(*given, axis=axis, **options), expected, strict=True):
            assert bits(y) == bits(true)
        assert all(bits(x) == bits(operands[i]) for i, x in zip(floats, arrays, strict=False))


def test_many_dimensions():
    shape = (2, 1, 2, 1, 1, 3, 1, 2, 1, 1, 2, 1, 1, 1, 2, 1)
    x = values("normal", shape)
    for axis in range(-len(shape), len(shape)):
        moved = np.moveaxis(x, axis, -1).copy()
        assert bits(softloss.softmax(x, axis)) == bits(np.moveaxis(softloss.softmax(moved), -1, axis).copy())


# Rows longer than the kernels take unless their elements are adjacent, in several blocks and a rest.
LONG = (35, 16384 + 77)
OTHER_LAYOUTS = sorted(set(LAYOUTS) - {"C", "read-only", "memmap"})


def long_case(dtype):
    rng = np.random.default_rng(5)
    x = values("normal", LONG, dtype)
    x[3, 5] = np.nan
    x[4, :] = -np.inf
    x[5, -1] = np.inf
    return x, rng.integers(LONG[1], size=LONG[0]), rng.random(LONG) < 0.9


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_transforms_of_long_rows_of_any_layout(dtype, layout):
    x, _, mask = long_case(dtype)
    mask[6], mask[:, 9] = False, False
    lay_out = LAYOUTS[layout]
    for name in ROWWISE:
        function = getattr(softloss, name)
        assert bits(function(lay_out(x))) == bits(function(x)), name
        expected = function(x, where=mask)
        for where in (mask, lay_out(mask)):
            assert bits(function(lay_out(x), where=where)) == bits(expected), name
        if name != "logsumexp":
            for out in (np.zeros_like(x), np.zeros_like(x, order="F"), np.zeros((LONG[0], 2 * LONG[1]), dtype)[:, ::2]):
                function(lay_out(x), where=lay_out(mask), out=out)
                assert bits(out) == bits(expected), name
                function(lay_out(x), out=out)
                assert bits(out) == bits(function(x)), name


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_gradients_of_long_rows_of_any_layout(dtype, layout):
    x, label, _ = long_case(dtype)
    label[7] = -100
    soft = probabilities(LONG, dtype, 3, 1)
    lay_out = LAYOUTS[layout]
    for target, options in ((label, {}), (label, {"label_smoothing": 0.1}), (soft, {})):
        expected = softloss.cross_entropy_and_grad(x, target, reduction="none", **options)
        for order in "CF":
            out = np.zeros_like(x, order=order)
            loss, _ = softloss.cross_entropy_and_grad(
                lay_out(x), lay_out(target), reduction="none", grad_out=out, **options
            )
            assert bits(loss) == bits(expected.loss), (order, options)
            assert bits(out) == bits(expected.grad), (order, options)
    if np.dtype(dtype).itemsize >= 4:
        expected = softloss.cross_entropy_grad_hess(x, label)
        actual = softloss.cross_entropy_grad_hess(lay_out(x), label)
        for a, b in zip(actual, expected, strict=True):
            assert bits(a) == bits(b)


@pytest.mark.parametrize("shape", [(100, 1), (100, 5), (1030, 7), (50, 100), (3, 200), (2, 20000), (20, 20000)])
@pytest.mark.parametrize("dtype", ["i1", "u2", ">i4", "i8", ">u8", "?", "u1"])
def test_integers_of_any_layout(dtype, shape):
    x = np.random.default_rng(2).integers(0, 9, shape).astype(dtype)
    label = np.random.default_rng(3).integers(shape[1], size=shape[0])
    plain = x.astype(np.float64)
    for view in (x, np.asfortranarray(x), x[::-1, ::-1].copy()[::-1, ::-1], np.repeat(x, 2, 1)[:, ::2]):
        assert bits(softloss.logsumexp(view)) == bits(softloss.logsumexp(plain))
        assert bits(softloss.softmax(view)) == bits(softloss.softmax(plain))
        assert bits(softloss.cross_entropy(view, label)) == bits(softloss.cross_entropy(plain, label))


MEMORY_SCRIPT = """
import resource, sys
import numpy as np, softloss
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
rows, classes = 4000, 4096
x = np.zeros((rows, classes), np.float32)
x[...] = np.arange(classes) % 7
target, weight = np.zeros(rows, int), np.ones(classes)
out, columns = np.ones_like(x), np.ones(10 * classes, np.float32)
views = [x, x[::-1, ::-1], x.T, x.view(">f4"), x.view(np.int32), x.reshape(40960, -1).T]
for small in (view[:20, :20] for view in views):
    softloss.cross_entropy(small, target[:20])
before = peak()
for view in views:
    n = len(view)
    softloss.cross_entropy(view, np.zeros(n, int), label_smoothing=0.1)
    softloss.cross_entropy(view, np.zeros(n, int), reduction="none")
    softloss.logsumexp(view)
    softloss.binary_cross_entropy_with_logits(view, 1)
    if view.dtype != np.int32:
        softloss.softmax(view, out=out.reshape(view.shape))
        softloss.softmax(view, out=out.reshape(view.shape), where=columns[: view.shape[1]] > 0)
softloss.cross_entropy(x, out)
print((peak() - before) / x.nbytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is POSIX's")
def test_memory_beyond_input_and_output_is_small(isa):
    """64 MiB of logits in every layout: the process grows by less than a quarter of them."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT],
        env=os.environ | {"SOFTLOSS_ISA": isa},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 0.25


@pytest.mark.parametrize("dtype", ("float16", "float32", "float64"))
@pytest.mark.parametrize("n", (700, 20011), ids=("short rows", "long rows"))
def test_results_written_past_the_caches(n, dtype):
    """Results whose rows begin anywhere in a line: the bits of each row alone."""
    rows = _core.nontemporal_bytes // (n * np.dtype(dtype).itemsize) + 1
    rng = np.random.default_rng(n)
    x = rng.normal(scale=4, size=(rows, n)).astype(dtype)
    x[3, 5] = x[rows // 2, -1] = x[-1, 0] = np.nan
    labels = rng.integers(n, size=rows)
    labels[7] = -100
    memory = np.zeros(rows * n + 3, dtype)
    out = memory[3:].reshape(rows, n)
    softloss.softmax(x, out=out)
    for r in (0, 1, 2, 3, 4, rows // 2, rows // 2 + 1, rows - 2, rows - 1):
        np.testing.assert_array_equal(out[r], softloss.softmax(x[r]))
    softloss.cross_entropy_and_grad(x, labels, reduction="sum", grad_out=out)
    for r in (0, 1, 2, 3, 4, 7, 8, rows // 2, rows // 2 + 1, rows - 2, rows - 1):
        alone = softloss.cross_entropy_and_grad(x[r : r + 1], labels[r : r + 1], reduction="sum")
        np.testing.assert_array_equal(out[r], alone.grad[0])
    assert not memory[:3].any()
    expected = softloss.softmax(x)
    softloss.softmax(x, out=x)
    np.testing.assert_array_equal(x, expected)
