"""Calls of every function, large enough for several threads, and their results as bytes; child processes under a limit.

Lives here: what the tests of processes and threads share. Must not: tests.
"""

import os
import pickle
import selectors
import signal
import time

import numpy as np
import pytest
import softloss

_RNG = np.random.default_rng(7)
X = (3 * _RNG.standard_normal((1500, 300))).astype(np.float32)  # 1.7 MiB: results come from the pool
LABELS = _RNG.integers(0, 300, 1500)
P = _RNG.random((1500, 300), np.float32)
LONG = X.reshape(-1)[:130_001]  # a row that threads share
Y = np.exp(X) / np.exp(X).sum(-1, keepdims=True)  # not by softloss: importing this file starts no thread

CALLS = {
    "softmax": lambda: softloss.softmax(X),
    "softmax of axis 0": lambda: softloss.softmax(X, 0),
    "softmax of a long row": lambda: softloss.softmax(LONG),
    "log_softmax of float64": lambda: softloss.log_softmax(X, dtype=np.float64),
    "logsumexp": lambda: softloss.logsumexp(X),
    "sigmoid": lambda: softloss.sigmoid(X),
    "log_sigmoid": lambda: softloss.log_sigmoid(X),
    "softmax_backward": lambda: softloss.softmax_backward(Y, X),
    "log_softmax_backward": lambda: softloss.log_softmax_backward(X, Y),
    "cross_entropy": lambda: softloss.cross_entropy(X, LABELS, reduction="none"),
    "cross_entropy_and_grad": lambda: softloss.cross_entropy_and_grad(X, LABELS, label_smoothing=0.1),
    "cross_entropy_and_grad of a long row": lambda: softloss.cross_entropy_and_grad(LONG, 130_000),
    "cross_entropy_grad_hess": lambda: softloss.cross_entropy_grad_hess(X, LABELS),
    "kl_divergence": lambda: softloss.kl_divergence(X, Y, temperature=2.0),
    "kl_divergence_and_grad": lambda: softloss.kl_divergence_and_grad(X, Y),
    "js_divergence": lambda: softloss.js_divergence(X, Y, reduction="none"),
    "softmax_entropy": lambda: softloss.softmax_entropy(X, axis=0),
    "log_normalize": lambda: softloss.log_normalize(X),
    "categorical_cross_entropy": lambda: softloss.categorical_cross_entropy(Y, LABELS),
    "categorical_cross_entropy_and_grad": lambda: softloss.categorical_cross_entropy_and_grad(P, LABELS),
    "nll_loss": lambda: softloss.nll_loss(X, LABELS, sample_weight=P[:, 0]),
    "nll_loss_and_grad": lambda: softloss.nll_loss_and_grad(X, LABELS),
    "binary_cross_entropy": lambda: softloss.binary_cross_entropy(P, P),
    "binary_cross_entropy_and_grad": lambda: softloss.binary_cross_entropy_and_grad(P, P),
    "binary_cross_entropy_with_logits": lambda: softloss.binary_cross_entropy_with_logits(X, P),
    "binary_cross_entropy_with_logits_and_grad": lambda: softloss.binary_cross_entropy_with_logits_and_grad(X, P),
    "binary_cross_entropy_with_logits_grad_hess": lambda: softloss.binary_cross_entropy_with_logits_grad_hess(X, P),
    "cross_entropy_grad_hess of probabilities": lambda: softloss.cross_entropy_grad_hess(X, Y),
    "softmax_focal_loss": lambda: softloss.softmax_focal_loss(X, LABELS),
    "softmax_focal_loss_and_grad": lambda: softloss.softmax_focal_loss_and_grad(X, LABELS),
    "softmax_focal_loss_grad_hess": lambda: softloss.softmax_focal_loss_grad_hess(X, LABELS, gamma=1.5),
    "sigmoid_focal_loss": lambda: softloss.sigmoid_focal_loss(X, X > 0),
    "sigmoid_focal_loss_and_grad": lambda: softloss.sigmoid_focal_loss_and_grad(X, X > 0, gamma=1.5),
    "sigmoid_focal_loss_grad_hess": lambda: softloss.sigmoid_focal_loss_grad_hess(X, X > 0, alpha=0.25),
    "softmax_topk": lambda: softloss.softmax_topk(X, 5),
    "sample": lambda: softloss.sample(X, P[:, 0], top_p=0.9),
    "token_logprobs": lambda: softloss.token_logprobs(X, LABELS, top_k=3),
    "fit_temperature": lambda: softloss.fit_temperature(X, X.argmax(-1) * (P[:, 0] < 0.7)),
    "calibration_error": lambda: softloss.calibration_error(X, LABELS),
    "brier_score": lambda: softloss.brier_score(X, LABELS),
}

# AddressSanitizer keeps freed memory, and ends the process where there is none.
own_allocator = pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="memory is the sanitizer's")


def as_bytes(result):
    """The bits of an array, a scalar, or a tuple of them."""
    if isinstance(result, tuple):
        return b"".join(map(as_bytes, result))
    return np.asarray(result).tobytes()


def results():
    """Name of each call -> its bits."""
    return {name: as_bytes(call()) for name, call in CALLS.items()}


def wrong(expected):
    """The calls that do not give these bits."""
    return [name for name, call in CALLS.items() if as_bytes(call()) != expected[name]]


class Child:
    """A forked process that runs a function; result() is what it returned. At the limit it is killed."""

    def __init__(self, function, limit=60.0):
        self.limit = limit
        self.pipe, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.pipe)
                with os.fdopen(writer, "wb") as file:
                    pickle.dump(function(), file)
            finally:
                os._exit(0)
        os.close(writer)

    def result(self):
        end, data, done = time.monotonic() + self.limit, b"", False
        with selectors.DefaultSelector() as selector:
            selector.register(self.pipe, selectors.EVENT_READ)
            while not done and selector.select(max(0.0, end - time.monotonic())):
                chunk = os.read(self.pipe, 1 << 16)
                data, done = data + chunk, not chunk
        os.close(self.pipe)
        if not done:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        assert done, f"the child hangs: no answer within {self.limit} s"
        assert status == 0, f"the child ended with status {status}"
        assert data, "the child ended by an exception"
        return pickle.loads(data)


@pytest.fixture(scope="session", autouse=True)
def isa():
    """Processes and threads behave alike on all instruction sets: these tests run on one, not on each (conftest.py)."""
