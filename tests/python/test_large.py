"""Arrays of more than 2^31 elements: elements beyond that are read and written correctly.

Lives here: calls on 4 GiB of float16, which take seconds each. On demand: SOFTLOSS_TEST_LARGE=1 pytest -k large
Must not: anything that a smaller array shows as well.
"""

import os

import numpy as np
import pytest
import softloss

pytestmark = pytest.mark.skipif(not os.environ.get("SOFTLOSS_TEST_LARGE"), reason="on demand: SOFTLOSS_TEST_LARGE=1")

CLASSES = 4096
ROWS = (1 << 31) // CLASSES + 3
TAIL = 5  # of the last rows


@pytest.fixture
def x():
    """float16 zeros, except for the first row and the last rows."""
    array = np.zeros((ROWS, CLASSES), np.float16)
    rng = np.random.default_rng(0)
    array[0], array[-TAIL:] = rng.standard_normal(CLASSES), rng.standard_normal((TAIL, CLASSES))
    assert array.size > 1 << 31
    return array


def ends(array):
    """The first row, one row of the middle, and the last rows."""
    return np.concatenate([array[:1], array[-TAIL - 1 :]])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid", "log_sigmoid"])
def test_large_transforms_in_place(name, x):
    function = getattr(softloss, name)
    expected = function(ends(x))
    assert function(x, out=x) is x
    np.testing.assert_array_equal(ends(x), expected)


def test_large_transform_along_the_first_axis(x):
    columns = x.reshape(-1, 8)  # 2^28 classes in each of 8 rows
    total = softloss.logsumexp(columns, 0)
    head, tail = x[0].reshape(-1, 8), x[-TAIL:].reshape(-1, 8)
    exceptional = np.concatenate([head, tail]).astype(np.float64)
    true = np.log(np.exp(exceptional).sum(0) + len(columns) - len(exceptional))
    np.testing.assert_allclose(total.astype(float), true, rtol=1e-3)


def test_large_losses(x):
    target = np.arange(ROWS) % CLASSES
    some = ends(target)
    for loss in (softloss.cross_entropy, softloss.nll_loss):
        rows = loss(x, target, reduction="none")
        np.testing.assert_array_equal(ends(rows), loss(ends(x), some, reduction="none"))
        np.testing.assert_allclose(loss(x, target), rows.mean(dtype=np.float64), rtol=1e-6)
    elements = softloss.binary_cross_entropy_with_logits(x, 1, reduction="sum")
    parts = softloss.binary_cross_entropy_with_logits(ends(x), 1, reduction="sum")
    rest = (x.size - ends(x).size) * np.log(2)
    np.testing.assert_allclose(elements, parts + rest, rtol=1e-6)


def test_large_bad_label(x):
    target = np.zeros(ROWS, int)
    target[-1] = CLASSES
    with pytest.raises(IndexError, match=rf"target\[{ROWS - 1}\] = {CLASSES} is out of range"):
        softloss.cross_entropy(x, target)


def test_large_gradients_in_place(x):
    target = np.arange(ROWS) % CLASSES
    expected = softloss.cross_entropy_and_grad(ends(x), ends(target), reduction="sum").grad
    softloss.cross_entropy_and_grad(x, target, reduction="sum", grad_out=x)
    np.testing.assert_array_equal(ends(x), expected)


def test_large_scores(x):
    target = np.arange(ROWS) % CLASSES
    scores = softloss.token_logprobs(x, target, top_k=3)
    for y, expected in zip(scores, softloss.token_logprobs(ends(x), ends(target), top_k=3), strict=True):
        np.testing.assert_array_equal(ends(y), expected)
    prob, index = softloss.softmax_topk(x, 2)
    np.testing.assert_array_equal(ends(index), softloss.softmax_topk(ends(x), 2).index)
    np.testing.assert_array_equal(ends(prob), softloss.softmax_topk(ends(x), 2).prob)


def test_one_large_row():
    """Labels and indices beyond 2^31."""
    n = (1 << 31) + 100
    x = np.zeros(n, np.float16)
    x[-1], x[-50] = 16, 8
    true = np.log(np.exp(np.float64(16)) + np.exp(np.float64(8)) + n - 2)
    np.testing.assert_allclose(float(softloss.logsumexp(x)), true, rtol=1e-3)
    np.testing.assert_allclose(softloss.cross_entropy(x, n - 1), true - 16, rtol=1e-6)
    np.testing.assert_array_equal(softloss.softmax_topk(x, 3).index, [n - 1, n - 50, 0])
    scores = softloss.token_logprobs(x, n - 50, top_k=1)
    assert (scores.argmax, scores.rank, scores.top_index[0]) == (n - 1, 2, n - 1)
    np.testing.assert_allclose(scores.logprob, 8 - true, rtol=1e-6)
    with pytest.raises(IndexError, match=f"out of range for {n} classes"):
        softloss.cross_entropy(x, n)
