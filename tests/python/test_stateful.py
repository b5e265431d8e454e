"""Sequences of calls against a model: live results never change, whatever is computed, freed or set.

Lives here: a hypothesis state machine. The model is a copy of every live array and the settings. Must not: accuracy to
the last bits, errors one by one.
"""

import numpy as np
import pytest
import reference
import softloss
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from strategies import LAYOUTS, values
from workload import isa  # noqa: F401  (a fixture)

SHAPES = [(7,), (3, 5), (2, 3, 4), (300, 1000), (1000, 300), (2, 70, 1500)]  # the large ones come from the pool
TRANSFORMS = ["softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"]
LOSSES = ["cross_entropy", "nll_loss", "categorical_cross_entropy"]
indices = st.integers(0, 2**16)


def same(x, y):
    """Equal, including the signs of zeros and NaN, in any byte order."""
    return np.array_equal(x, y, equal_nan=True) and np.array_equal(np.signbit(x), np.signbit(y))


class Calls(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.live = []  # (array, its bytes when it was made)
        self.limit = None

    @initialize()
    def settings(self):
        self.threads, self.cache = softloss.get_num_threads(), 64 << 20
        self.change_cache_limit(self.cache)

    def teardown(self):
        softloss.set_num_threads(self.threads)
        softloss.set_cache_limit(self.cache)

    def keep(self, array):
        self.live = [*self.live[-11:], (array, array.tobytes())]

    def pick(self, i):
        return self.live[i % len(self.live)][0]

    some = precondition(lambda self: self.live)

    @rule(
        shape=st.sampled_from(SHAPES),
        dtype=st.sampled_from(["f2", "f4", "f8"]),
        layout=st.sampled_from(sorted(LAYOUTS)),
        seed=indices,
    )
    def make(self, shape, dtype, layout, seed):
        self.keep(LAYOUTS[layout](values("normal", shape, dtype, seed)))

    @some
    @rule(i=indices, name=st.sampled_from(TRANSFORMS), axis=indices)
    def transform(self, i, name, axis):
        x = self.pick(i)
        if x.ndim == 0:
            return
        options = {} if "sigmoid" in name else {"axis": axis % x.ndim}
        y = getattr(softloss, name)(x, **options)
        with softloss.threads(1):
            assert same(getattr(softloss, name)(x.copy(), **options), y)
        if x.size < 1000:
            expected = getattr(reference, name)(x, **options).astype(float)
            tolerance = 1e-3 if x.dtype.itemsize == 2 else 1e-5
            assert np.allclose(y.astype(float), expected, tolerance, tolerance)
        self.keep(np.asarray(y))

    @some
    @rule(i=indices, name=st.sampled_from(LOSSES), axis=indices, reduction=st.sampled_from(["mean", "sum", "none"]))
    def loss(self, i, name, axis, reduction):
        """A loss has the same bits without and with its gradient."""
        x = self.pick(i)
        if x.ndim == 0:
            return
        axis %= x.ndim
        x = softloss.softmax(x, axis) if name == "categorical_cross_entropy" else x
        target = np.zeros(x.shape[:axis] + x.shape[axis + 1 :], np.int32)
        target.flat[:] = np.arange(target.size) % x.shape[axis]
        alone = getattr(softloss, name)(x, target, axis=axis, reduction=reduction)
        both = getattr(softloss, name + "_and_grad")(x, target, axis=axis, reduction=reduction)
        assert alone.tobytes() == both.loss.tobytes()
        assert both.grad.shape == x.shape and both.grad.dtype == x.dtype.newbyteorder("=")
        self.keep(both.grad)

    @some
    @rule(i=indices, axis=indices)
    def in_place(self, i, axis):
        """A result in place has the same bits as one in a new array."""
        index = i % len(self.live)
        x = self.live[index][0]
        if x.ndim == 0 or not x.flags.writeable or any(np.may_share_memory(x, y) for y, _ in self.live if y is not x):
            return
        fresh = softloss.softmax(x, axis % x.ndim)
        assert softloss.softmax(x, axis % x.ndim, out=x) is x
        assert same(x, fresh)
        self.live[index] = (x, x.tobytes())

    @some
    @rule(i=indices)
    def view(self, i):
        """A view outlives its base."""
        x = self.pick(i)
        self.keep(x[..., ::-2] if x.ndim else x[...])

    @some
    @rule(i=indices)
    def drop(self, i):
        del self.live[i % len(self.live)]

    @some
    @rule(i=indices)
    def refuse(self, i):
        x = self.pick(i)
        with pytest.raises(ValueError, match="axis"):
            softloss.softmax(x, x.ndim + 1)
        with pytest.raises(TypeError, match="out"):
            softloss.sigmoid(x, out=np.empty(x.shape, np.int8))
        if x.ndim:
            with pytest.raises(IndexError, match="target"):
                softloss.cross_entropy_and_grad(x, np.full(x.shape[:-1], x.shape[-1]))

    @rule(n=st.integers(1, 5))
    def change_threads(self, n):
        softloss.set_num_threads(n)
        assert softloss.get_num_threads() == n

    @rule(limit=st.sampled_from([0, 1 << 20, 5 << 20, 64 << 20]))
    def change_cache_limit(self, limit):
        self.limit = limit
        softloss.set_cache_limit(limit)

    @rule()
    def empty_cache(self):
        softloss.empty_cache()
        assert softloss._core.cached_bytes() == 0

    @invariant()
    def live_arrays_have_not_changed(self):
        assert all(array.tobytes() == before for array, before in self.live)

    @invariant()
    def the_cache_keeps_its_limit(self):
        assert self.limit is None or softloss._core.cached_bytes() <= self.limit


def test_sequences_of_calls():
    run_state_machine_as_test(Calls, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))
