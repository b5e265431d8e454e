"""softmax_topk and token_logprobs: against the oracle and against log_softmax and a sort, ties, NaN, every length.

Every option, dtype and layout is in test_matrix.py, errors are in test_errors.py.
"""

import inspect

import numpy as np
import pytest
import reference
import softloss
from hypothesis import given
from hypothesis import strategies as st
from strategies import FINITE_VALUES, FLOATS, HALVES, INTEGERS, arrays, values

INF, NAN = np.inf, np.nan
COUNTS = ("argmax", "rank", "top_index")


def assert_scores(scores, true, context=""):
    for name, y, expected in zip(softloss.TokenScores._fields, scores, true, strict=True):
        if name in COUNTS:
            assert np.asarray(y).dtype == np.int64
            np.testing.assert_array_equal(y, expected, err_msg=f"{name}; {context}")
        else:
            reference.assert_ulps(y, expected, 4 if name == "entropy" else 2, f"{name}; {context}")


@pytest.mark.parametrize(
    "name, signature",
    {
        "softmax_topk": "(x, /, k=1, axis=-1, *, temperature=1.0)",
        "token_logprobs": "(logits, target, /, *, axis=-1, top_k=0, temperature=1.0, ignore_index=-100)",
    }.items(),
)
def test_signature(name, signature):
    actual = inspect.signature(getattr(softloss, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(actual.replace(parameters=plain, return_annotation=inspect.Signature.empty)) == signature


# ---- values ---------------------------------------------


@given(data=st.data())
def test_topk_of_any_values(data):
    x, axis = data.draw(arrays(names=tuple(FINITE_VALUES)))
    k = data.draw(st.integers(1, x.shape[axis]))
    prob, index = softloss.softmax_topk(x, k, axis)
    true_prob, true_index = reference.softmax_topk(x, k, axis)
    np.testing.assert_array_equal(index, true_index, err_msg=repr(x))
    reference.assert_ulps(prob, true_prob, 2, repr(x))
    whole = softloss.softmax(x, axis)
    reference.assert_identical(prob, np.take_along_axis(whole, index, axis))


@given(data=st.data())
def test_tokens_of_any_values(data):
    x, axis = data.draw(arrays(names=tuple(FINITE_VALUES)))
    target = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, x.shape[axis], np.delete(x.shape, axis))
    top_k = data.draw(st.integers(0, x.shape[axis]))
    actual = softloss.token_logprobs(x, target, axis=axis, top_k=top_k)
    assert_scores(actual, reference.token_logprobs(x, target, axis, top_k), f"{x!r}, {target!r}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["normal", "ties", "dominant", "equal", "masked"])
def test_every_length_and_k(kind, dtype):
    """k near the length of the short list (128) and of the row; row lengths near those of vectors."""
    for n in [1, 2, 7, 8, 9, 16, 17, 63, 64, 65, 127, 128, 129, 130, 300, 1000]:
        x = values(kind, (4, n), dtype, seed=n)
        target = np.random.default_rng(n).integers(0, n, 4)
        x[np.arange(4), target] = np.maximum(x[np.arange(4), target], -30)  # a label that can be
        for k in sorted({1, 2, 5, 127, 128, 129, n - 1, n}):
            if not 1 <= k <= n:
                continue
            prob, index = softloss.softmax_topk(x, k)
            true_prob, true_index = reference.softmax_topk(x, k)
            np.testing.assert_array_equal(index, true_index, err_msg=f"n = {n}, k = {k}")
            reference.assert_ulps(prob, true_prob, 2, f"n = {n}, k = {k}")
            actual = softloss.token_logprobs(x, target, top_k=k)
            assert_scores(actual, reference.token_logprobs(x, target, top_k=k), f"n = {n}, k = {k}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_large_vocabulary(dtype):
    """Against the code that a user would write: log_softmax, a sort and the mean."""
    x = values("normal", (3, 128_256), dtype)
    target = np.array([5, 128_255, 77_000])
    scores = softloss.token_logprobs(x, target, top_k=5)
    logp = softloss.log_softmax(x)
    order = np.argsort(-logp, -1, kind="stable")
    np.testing.assert_array_equal(scores.argmax, order[:, 0])
    np.testing.assert_array_equal(scores.top_index, order[:, :5])
    np.testing.assert_array_equal(scores.rank, 1 + (order == target[:, None]).argmax(-1))
    np.testing.assert_allclose(scores.logprob, logp[np.arange(3), target], rtol=4 * np.finfo(dtype).eps)
    assert_scores(scores, reference.token_logprobs(x, target, top_k=5))
    np.testing.assert_array_equal(softloss.softmax_topk(x, 200).index, order[:, :200])


def test_known_values():
    prob, index = softloss.softmax_topk([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], 2)
    np.testing.assert_array_equal(index, [[0, 1], [1, 0]])
    np.testing.assert_allclose(prob, [[0.65900114, 0.24243297], [0.71133182, 0.15871958]], rtol=1e-7)
    scores = softloss.token_logprobs(np.log([[0.5, 0.25, 0.125, 0.125]]), [2], top_k=2)
    np.testing.assert_allclose(scores.logprob, [np.log(0.125)], rtol=1e-15)
    np.testing.assert_allclose(scores.entropy, [1.75 * np.log(2)], rtol=1e-15)
    assert (scores.argmax, scores.rank) == (0, 3)
    np.testing.assert_array_equal(scores.top_index, [[0, 1]])
    np.testing.assert_allclose(scores.top_logprob, [[np.log(0.5), np.log(0.25)]], rtol=1e-15)


def test_the_mean_of_the_logprobs_is_the_cross_entropy():
    for dtype in (*FLOATS, *HALVES):
        x, target = values("normal", (50, 300), dtype), np.arange(50)
        scores = softloss.token_logprobs(x, target)
        expected = softloss.cross_entropy(x, target, reduction="none")
        assert scores.logprob.dtype == scores.entropy.dtype == scores.top_logprob.dtype == expected.dtype
        np.testing.assert_allclose(-scores.logprob, expected, rtol=2e-6 if expected.dtype == np.float32 else 2e-15)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_entropy_of_certainty_and_of_ignorance(dtype):
    for n in (2, 10, 1000):
        certain = np.zeros((1, n), dtype)
        certain[0, 0] = 40
        entropy = softloss.token_logprobs(certain, [0]).entropy
        reference.assert_ulps(entropy, reference.token_logprobs(certain, [0])[3], 4)
        assert 0 < entropy < 1e-10
        entropy = softloss.token_logprobs(np.full((1, n), 3, dtype), [0]).entropy
        reference.assert_ulps(entropy, np.log(np.array([n], np.longdouble)), 2)
    assert softloss.token_logprobs(np.array([[5]], dtype), [0]).entropy == 0


# ---- ties, infinities, NaN, ignored tokens ---------------------------------------------


@pytest.mark.parametrize("n", [4, 40, 400])
def test_the_first_of_equal_logits_comes_first(n):
    for dtype in (*FLOATS, *HALVES):
        x = np.zeros((1, n), dtype)
        np.testing.assert_array_equal(softloss.softmax_topk(x, n).index[0], np.arange(n))
        scores = softloss.token_logprobs(x, [n - 1], top_k=3)
        np.testing.assert_array_equal(scores.top_index[0], [0, 1, 2])
        assert (scores.argmax, scores.rank) == (0, 1)
    x = np.array([[1.0, 0.0, -0.0, 1.0]])
    np.testing.assert_array_equal(softloss.softmax_topk(x, 4).index, [[0, 3, 1, 2]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_masked_classes_come_last(dtype):
    for repeat in (1, 60):
        x = np.tile(np.array([[-INF, 1, -INF, 2]], dtype), repeat)
        n = 4 * repeat
        prob, index = softloss.softmax_topk(x, n)
        true_prob, true_index = reference.softmax_topk(x, n)
        np.testing.assert_array_equal(index, true_index)
        assert np.all(prob[0, n // 2 :] == 0)
        scores = softloss.token_logprobs(x, [0], top_k=n)
        assert scores.logprob == -INF and scores.rank == n // 2 + 1
        assert np.isfinite(scores.entropy)
        np.testing.assert_array_equal(scores.top_logprob[0, n // 2 :], -INF)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_without_a_distribution_are_nan(dtype):
    for n in (2, 50):
        x = np.zeros((4, n), dtype)
        x[0, 1], x[1, 1], x[2] = NAN, INF, -INF
        prob, index = softloss.softmax_topk(x, n)
        assert np.all(np.isnan(prob[:3])) and np.all(np.isfinite(prob[3]))
        assert np.all(np.sort(index, -1) == np.arange(n))  # every class once, whatever the order
        scores = softloss.token_logprobs(x, [0, 0, 0, 0], top_k=n)
        for y in (scores.logprob, scores.entropy):
            assert np.all(np.isnan(y[:3])) and np.isfinite(y[3])
        assert np.all(np.isnan(scores.top_logprob[:3]))
        np.testing.assert_array_equal(scores.argmax, x.argmax(-1))


def test_ignored_tokens():
    x = values("normal", (4, 30), np.float32)
    scores = softloss.token_logprobs(x, [3, -100, 29, -100], top_k=2)
    whole = softloss.token_logprobs(x, [3, 0, 29, 0], top_k=2)
    np.testing.assert_array_equal(scores.logprob, np.where([1, 0, 1, 0], whole.logprob, 0))
    np.testing.assert_array_equal(scores.rank, np.where([1, 0, 1, 0], whole.rank, 0))
    for name in ("argmax", "entropy", "top_logprob", "top_index"):
        np.testing.assert_array_equal(getattr(scores, name), getattr(whole, name))
    np.testing.assert_array_equal(softloss.token_logprobs(x, [7] * 4, ignore_index=7).rank, [0] * 4)


# ---- rows in the lanes of vectors ------------------------------------


def mixed_rows(n, dtype):
    """37 rows: ties, masked classes, NaN, infinities, values far from 0."""
    rng = np.random.default_rng(n)
    x = np.round(rng.standard_normal((37, n)) * 4, 1)
    x[5:10] = np.round(x[5:10])
    x[10:15][rng.random((5, n)) < 0.4] = -INF
    x[15, 0], x[16, n - 1], x[17, n // 2], x[18] = NAN, INF, -INF, -INF
    x[19, [0, n - 1]] = INF, NAN
    x[20:25] = x[20:25] * 50 + 3000
    target = rng.integers(0, n, 37)
    target[::6] = -100
    return x.astype(dtype), target


def bits(y):
    return np.ascontiguousarray(y).tobytes()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_bits_do_not_depend_on_the_other_rows_nor_on_the_layout(dtype, temperature):
    """Rows of less than 64 lie across the vectors, of more where adjacent along them."""
    for n in (2, 3, 7, 8, 9, 16, 17, 33, 63, 64, 65, 130, 600):
        x, target = mixed_rows(n, dtype)
        doubled = np.repeat(x, 2, 1)
        layouts = [x[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray(x), doubled[:, ::2]]
        if dtype in FLOATS:
            layouts.append(x.astype(x.dtype.newbyteorder("S")))
        for k in sorted({1, min(5, n), min(n, 63)}):
            top = softloss.softmax_topk(x, k, temperature=temperature)
            scores = softloss.token_logprobs(x, target, top_k=k, temperature=temperature)
            for r in range(37):
                alone = softloss.softmax_topk(x[r], k, temperature=temperature)
                assert [bits(y) for y in alone] == [bits(y[r]) for y in top], f"n = {n}, k = {k}, row {r}"
                alone = softloss.token_logprobs(x[r], target[r], top_k=k, temperature=temperature)
                assert [bits(y) for y in alone] == [bits(y[r]) for y in scores], f"n = {n}, k = {k}, row {r}"
            for i, view in enumerate(layouts):
                other = softloss.softmax_topk(view, k, temperature=temperature)
                assert [bits(y) for y in other] == [bits(y) for y in top], f"n = {n}, k = {k}, layout {i}"
                other = softloss.token_logprobs(view, target, top_k=k, temperature=temperature)
                assert [bits(y) for y in other] == [bits(y) for y in scores], f"n = {n}, k = {k}, layout {i}"
            other = softloss.token_logprobs(x.T, target, axis=0, top_k=k, temperature=temperature)
            assert [bits(y) for y in other] == [bits(y) for y in scores], f"n = {n}, k = {k}, axis 0"
            other = softloss.softmax_topk(x.T, k, 0, temperature=temperature)
            assert [bits(y.T) for y in other] == [bits(y) for y in top], f"n = {n}, k = {k}, axis 0"


@pytest.mark.parametrize("dtype", FLOATS)
def test_short_rows_of_every_kind_against_the_oracle(dtype):
    for n in (2, 7, 16, 33, 63):
        x, target = mixed_rows(n, dtype)
        proper = np.isfinite(x).any(-1) & ~np.isnan(x).any(-1) & ~(x == INF).any(-1) & (target >= 0)
        actual = softloss.token_logprobs(x, target, top_k=2)
        np.testing.assert_array_equal(actual.argmax, x.argmax(-1))
        assert np.all(actual.rank[target < 0] == 0) and np.all(actual.logprob[target < 0] == 0)
        true = reference.token_logprobs(x[proper], target[proper], top_k=2)
        assert_scores([y[proper] for y in actual], true, f"n = {n}")


# ---- shapes and types ---------------------------------------------


@pytest.mark.parametrize("integer", INTEGERS)
def test_targets_of_any_integer_dtype(integer):
    x, target = values("normal", (5, 100), np.float32), np.array([0, 99, 5, 17, 50])
    expected = softloss.token_logprobs(x, target)
    for each in (target.astype(integer), target.astype(np.dtype(integer).newbyteorder("S")), target.tolist()):
        np.testing.assert_array_equal(softloss.token_logprobs(x, each).logprob, expected.logprob)


def test_shapes():
    x = values("normal", (2, 6, 3), np.float32)
    prob, index = softloss.softmax_topk(x, 4, 1)
    assert prob.shape == index.shape == (2, 4, 3)
    assert index.dtype == np.int64
    scores = softloss.token_logprobs(x, np.zeros((2, 3), int), axis=1, top_k=4)
    assert [y.shape for y in scores] == [(2, 3)] * 4 + [(2, 3, 4)] * 2
    assert softloss.token_logprobs(x, np.zeros((2, 3), int), axis=1).top_index.shape == (2, 3, 0)
    np.testing.assert_array_equal(softloss.softmax_topk(x).index[..., 0], x.argmax(-1))


def test_one_row_gives_scalars():
    scores = softloss.token_logprobs(np.zeros(4, np.float32), 2, top_k=2)
    assert isinstance(scores.logprob, np.float32) and isinstance(scores.entropy, np.float32)
    assert isinstance(scores.argmax, np.int64) and isinstance(scores.rank, np.int64)
    assert scores.top_index.shape == (2,)
    assert softloss.softmax_topk(np.zeros(4)).prob.shape == (1,)


def test_no_rows():
    assert softloss.softmax_topk(np.zeros((0, 3)), 2).prob.shape == (0, 2)
    scores = softloss.token_logprobs(np.zeros((0, 3)), np.zeros(0, int), top_k=2)
    assert [y.shape for y in scores] == [(0,)] * 4 + [(0, 2)] * 2


def test_perplexity_of_a_padded_text():
    """As the documentation computes it: padded positions have the log-probability 0 and must not count."""
    logits, target = np.random.default_rng(3).standard_normal((6, 50)), np.array([4, 17, 0, 49, -100, -100])
    scores = softloss.token_logprobs(logits, target)
    p = np.exp(logits[:4]) / np.exp(logits[:4]).sum(-1, keepdims=True)
    expected = np.prod(p[np.arange(4), target[:4]]) ** (-1 / 4)
    np.testing.assert_allclose(np.exp(softloss.cross_entropy(logits, target)), expected, rtol=1e-13)
    np.testing.assert_allclose(np.exp(-scores.logprob[target != -100].mean()), expected, rtol=1e-13)
    assert np.all(scores.logprob[4:] == 0)
