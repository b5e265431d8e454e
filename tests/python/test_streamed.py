"""Results too large for the caches, stored non-temporally in whole cache lines: the same bits as small calls.

Lives here: large rows of every kind of line (whole, shared by rows, beside a row of NaN), along any axis.
Must not: values, which the other tests check on small arrays.
"""

import numpy as np
import pytest
import softloss
from softloss import _core

# Outputs of nontemporal_bytes and more are written with non-temporal stores; a test may leave out a few columns.
BYTES = _core.nontemporal_bytes * 25 // 24
PIECES = 3  # each goes through them


def logits(n, dtype):
    rows = BYTES // (n * np.dtype(dtype).itemsize) + 1
    x = np.random.default_rng(n).standard_normal((rows, n), np.float32).astype(dtype)
    x[[0, rows // 2, -1], [1, n // 2, n - 1]] = np.nan  # the first row, one amid others, the last
    x[1, :] = -np.inf
    return x


def memory(shape, dtype, offset):
    """An array that starts `offset` elements after the start of a cache line."""
    size = int(np.prod(shape))
    room = np.full(size + 256, 7, dtype)
    first = -room.ctypes.data % 64 // room.itemsize + offset
    return room[first : first + size].reshape(shape), room, first


def check_transform(function, x, offset):
    """Into separate memory, and in place."""
    expected = np.concatenate([function(part) for part in np.array_split(x, PIECES)])
    out, room, first = memory(x.shape, x.dtype, offset)
    with softloss.threads(3):
        function(x, out=out)
    assert out.tobytes() == expected.tobytes()
    assert (room[:first] == 7).all() and (room[first + x.size :] == 7).all()
    out[...] = x
    function(out, out=out)
    assert out.tobytes() == expected.tobytes()


CASES = [
    (np.float32, 200, 3),
    (np.float32, 256, 0),
    (np.float32, 1001, 5),
    (np.float32, 70_001, 2),
    (np.float64, 1001, 1),
    (np.float16, 1001, 1),
]


SHORT = [(np.float32, 128, 0), (np.float32, 128, 4), (np.float32, 100, 4), (np.float32, 65, 3), (np.float64, 65, 2)]


@pytest.mark.parametrize("dtype, n, offset", [*CASES, *SHORT])
def test_streamed_transforms(dtype, n, offset):
    x = logits(n, dtype)
    for function in (softloss.softmax, softloss.log_softmax):
        check_transform(function, x, offset)


@pytest.mark.parametrize("dtype, n, offset", [*CASES, *SHORT])
def test_streamed_gradients(dtype, n, offset):
    x = logits(n, dtype)
    target = np.random.default_rng(0).integers(0, n, len(x))
    target[::2] = np.where(target[::2] % 3 == 0, n - 1, 0)  # labels in the lines that rows share
    target[5] = -100
    expected = [
        softloss.cross_entropy_and_grad(rows, labels, reduction="none")
        for rows, labels in zip(np.array_split(x, PIECES), np.array_split(target, PIECES), strict=True)
    ]
    out, room, first = memory(x.shape, dtype, offset)
    for scores in (x, out):  # the gradient in memory of its own, and in that of the logits
        out[...] = x
        loss, grad = softloss.cross_entropy_and_grad(scores, target, reduction="none", grad_out=out)
        assert loss.tobytes() == np.concatenate([part.loss for part in expected]).tobytes()
        assert grad.tobytes() == np.concatenate([part.grad for part in expected]).tobytes()
    assert (room[:first] == 7).all() and (room[first + x.size :] == 7).all()


def in_page(shape, dtype, place):
    """An array that starts `place` bytes after the start of a page of 4 KiB."""
    size = int(np.prod(shape))
    room = np.empty(size + 8192 // np.dtype(dtype).itemsize, dtype)
    first = (-room.ctypes.data % 4096 + place) // room.itemsize
    return room[first : first + size].reshape(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [64, 100, 128, 1024, 2056, 4096])
def test_streamed_at_every_distance_in_a_page(dtype, n):
    """The order of the stores depends on the distance of input and result modulo 4 KiB, the results do not."""
    values = logits(n, dtype)
    x = in_page(values.shape, dtype, 1040)
    x[...] = values
    labels = np.random.default_rng(n).integers(0, n, len(x))
    parts = [(x[i], labels[i]) for i in np.array_split(np.arange(len(x)), PIECES)]
    results = {
        "softmax": lambda x, labels, out=None: softloss.softmax(x, out=out),
        "gradient": lambda x, labels, out=None: (
            softloss.cross_entropy_and_grad(x, labels, reduction="sum", grad_out=out).grad
        ),
    }
    for name, of in results.items():
        expected = np.concatenate([of(*part) for part in parts]).tobytes()
        for distance in (-136, -128, -64, -8, 0, 8, 56, 64, 504, 512, 520, 2048):
            out = in_page(x.shape, dtype, 1040 + distance)
            out.fill(7)
            assert of(x, labels, out).tobytes() == expected, (name, distance)


@pytest.mark.parametrize("dtype, n, offset", [(np.float32, 256, 0), (np.float32, 1001, 5), (np.float64, 1001, 1)])
def test_streamed_hessians(dtype, n, offset):
    x = logits(n, dtype)
    target = np.random.default_rng(0).integers(0, n, len(x))
    expected = [
        softloss.cross_entropy_grad_hess(rows, labels)
        for rows, labels in zip(np.array_split(x, PIECES), np.array_split(target, PIECES), strict=True)
    ]
    grad, hess = (memory(x.shape, dtype, offset)[0] for _ in range(2))
    grad[...] = x
    softloss.cross_entropy_grad_hess(grad, target, grad_out=grad, hess_out=hess)
    assert grad.tobytes() == np.concatenate([part.grad for part in expected]).tobytes()
    assert hess.tobytes() == np.concatenate([part.hess for part in expected]).tobytes()


@pytest.mark.parametrize("function", [softloss.sigmoid, softloss.log_sigmoid])
@pytest.mark.parametrize("dtype, offset", [(np.float32, 0), (np.float32, 5), (np.float64, 3), (np.float16, 1)])
def test_streamed_elements(function, dtype, offset):
    x = logits(1001, dtype).reshape(-1)
    x[x.size // 3] = 100  # not beside others
    check_transform(function, x, offset)


def test_streamed_from_rows_apart():
    """Results share cache lines, and the memory next to a row of logits belongs to another array."""
    x = logits(104, np.float32)[:, 1:102]
    expected = np.concatenate([softloss.log_softmax(part) for part in np.array_split(x, PIECES)])
    out, room, first = memory(x.shape, np.float32, 5)
    softloss.log_softmax(x, out=out)
    assert out.tobytes() == expected.tobytes()
    softloss.log_softmax(x[::-1], out=out)
    assert out.tobytes() == expected[::-1].tobytes()
    assert (room[:first] == 7).all() and (room[first + x.size :] == 7).all()


def test_streamed_rows_apart():
    x = logits(1000, np.float32)
    room = np.full((len(x), 1003), 7, np.float32)
    softloss.softmax(x, out=room[:, 1:1001])
    expected = np.concatenate([softloss.softmax(part) for part in np.array_split(x, PIECES)])
    np.testing.assert_array_equal(room[:, 1:1001], expected)
    assert (room[:, 0] == 7).all() and (room[:, 1001:] == 7).all()


@pytest.mark.parametrize(
    "dtype, columns, offset",
    [
        (np.float32, 4096, 0),  # whole lines
        (np.float32, 1040, 0),  # the same, of which groups of rows take a part
        (np.float32, 4096, 5),  # lines that rows share
        (np.float32, 1041, 0),
        (np.float64, 1032, 0),
    ],
)
def test_streamed_columns(dtype, columns, offset):
    """Classes along an axis that is not the last."""
    classes = 21
    x = logits(columns, dtype)
    x = x[: len(x) // classes * classes].reshape(-1, classes, columns)
    x = np.concatenate([x, x[:3]])
    target = np.random.default_rng(0).integers(0, classes, (len(x), columns))
    target[2, ::3] = -100
    parts = [(x[i], target[i]) for i in range(len(x))]
    out, room, first = memory(x.shape, dtype, offset)

    def check(result, expected):
        assert result.tobytes() == np.stack(expected).tobytes()
        assert (room[:first] == 7).all() and (room[first + x.size :] == 7).all()

    check(softloss.log_softmax(x, 1, out=out), [softloss.log_softmax(part, 0) for part, _ in parts])
    out[...] = x
    check(softloss.softmax(out, 1, out=out), [softloss.softmax(part, 0) for part, _ in parts])
    one = softloss.cross_entropy_and_grad(x, target, axis=1, reduction="none", grad_out=out)
    many = [softloss.cross_entropy_and_grad(a, b, axis=0, reduction="none") for a, b in parts]
    check(one.grad, [each.grad for each in many])
    assert one.loss.tobytes() == np.stack([each.loss for each in many]).tobytes()


@pytest.mark.parametrize("dtype, n, offset", [*CASES, *SHORT, (np.float32, 3, 0), (np.float32, 64, 0)])
def test_streamed_gradients_of_transforms(dtype, n, offset):
    """Into memory of its own, and in place of either argument."""
    x = logits(n, dtype)
    dy = np.resize(x[3 : 3 + max(1, 1001 // n)], x.shape)
    for name in ("softmax", "log_softmax"):
        backward, y = getattr(softloss, f"{name}_backward"), getattr(softloss, name)(x)
        pieces = zip(np.array_split(y, PIECES), np.array_split(dy, PIECES), strict=True)
        expected = np.concatenate([backward(*piece) for piece in pieces])
        out, room, first = memory(x.shape, dtype, offset)
        with softloss.threads(3):
            backward(y, dy, out=out)
        assert out.tobytes() == expected.tobytes()
        assert (room[:first] == 7).all() and (room[first + x.size :] == 7).all()
        for given in (y, dy):
            out[...] = given
            operands = [out if operand is given else operand for operand in (y, dy)]
            backward(*operands, out=out)
            assert out.tobytes() == expected.tobytes()


def test_streamed_gradients_along_another_axis():
    shape = (2, 5, 640 * 1100)
    x, dy = (np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in (0, 1))
    for name in ("softmax", "log_softmax"):
        backward, y = getattr(softloss, f"{name}_backward"), getattr(softloss, name)(x, 1)
        expected = np.moveaxis(backward(np.moveaxis(y, 1, -1).copy(), np.moveaxis(dy, 1, -1).copy()), -1, 1)
        for offset in (0, 3):
            out, _, _ = memory(shape, np.float32, offset)
            backward(y, dy, 1, out=out)
            assert out.tobytes() == expected.tobytes()
