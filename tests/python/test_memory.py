"""Memory beyond input and output: at most 1 MiB and 16 bytes for each row, for every loss, transform and layout, on
one thread and on two. Where rows are long, it may hold one row of each operand that is staged, and the class weights.

A child process counts the pages that a call touches for the first time: no page is counted that was there before, none
is missed that is given back before the call returns. Every call runs once beforehand, for its code, and in a thread of
its own, since threads keep their scratch memory; small calls first touch its stack, and its team's.
Must not: values.
"""

import ctypes
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import softloss
from workload import own_allocator

resource = pytest.importorskip("resource")
pytestmark = [own_allocator, pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")]

ROWS, CLASSES = 4, 128256
MANY = 300_000
# 16 bytes for 1024 rows, which are pages in use in part for the few here; two rows, and the class weights, in float64.
LIMIT = (1 << 20) + 16 * 1024 + 3 * 8 * CLASSES
SMALL = np.zeros((2, 3), np.float32)
TEAM = np.zeros((1 << 12, 1 << 5), np.float32)[:, ::2]  # work for two threads
LAYOUTS = {
    "native": lambda x: x,
    "swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "strided": lambda x: np.repeat(x, 2, -1)[..., ::2],
}


def with_and_without(**options):
    """No option, each alone, all at once."""
    return [{}, *({k: v} for k, v in options.items()), options]


def calls(dtype, lay_out):
    """(name, call) of everything, on operands of this dtype and layout."""
    rng = np.random.default_rng(1)
    numbers = rng.standard_normal((ROWS, CLASSES))
    x = lay_out(numbers.astype(dtype))
    p = lay_out(softloss.softmax(numbers).astype(dtype))
    labels, mask = lay_out(rng.integers(0, CLASSES, ROWS)), numbers < 1
    weight = lay_out(rng.uniform(0.5, 2, CLASSES))
    weights = {"weight": weight, "sample_weight": lay_out(rng.uniform(0.5, 2, ROWS))}
    smoothing = {"label_smoothing": 0.1, "temperature": 2.0}
    f = softloss

    for target, (loss, scores, options) in itertools.product(
        (labels, p),
        [
            ("cross_entropy", x, with_and_without(**weights, **smoothing)),
            ("categorical_cross_entropy", p, with_and_without(**weights)),
            ("nll_loss", x, with_and_without(**weights)),
        ],
    ):
        for name, given in itertools.product((loss, f"{loss}_and_grad"), options):
            yield (
                f"{name} {target.dtype} {sorted(given)}",
                lambda a=(name, scores, target, given): getattr(f, a[0])(*a[1:3], **a[3]),
            )
    for name, scores, options in [
        ("binary_cross_entropy", p, with_and_without(weight=weight)),
        ("binary_cross_entropy_with_logits", x, with_and_without(weight=weight, pos_weight=weight)),
    ]:
        for given in options:
            yield f"{name} {sorted(given)}", lambda a=(name, scores, given): getattr(f, a[0])(a[1], p, **a[2])
            yield f"{name}_and_grad", lambda a=(name, scores, given): getattr(f, a[0] + "_and_grad")(a[1], p, **a[2])
    yield "cross_entropy_grad_hess", lambda: f.cross_entropy_grad_hess(x, labels, **weights)
    yield "cross_entropy_grad_hess of probabilities", lambda: f.cross_entropy_grad_hess(x, p, **weights)
    yield "binary grad_hess", lambda: f.binary_cross_entropy_with_logits_grad_hess(x, p, weight=weight)
    hits = lay_out((numbers > 0).astype(numbers.dtype))
    yield "sigmoid focal grad_hess", lambda: f.sigmoid_focal_loss_grad_hess(x, hits, weight=weight, alpha=0.25)
    yield "softmax focal grad_hess", lambda: f.softmax_focal_loss_grad_hess(x, labels, **weights)
    for name in ("softmax", "log_softmax"):
        for given in with_and_without(where=mask, temperature=2.0, dtype=np.float64):
            yield f"{name} {sorted(given)}", lambda a=(name, given): getattr(f, a[0])(x, **a[1])
    for given in with_and_without(where=mask, b=weight, dtype=np.float64):
        yield f"logsumexp {sorted(given)}", lambda given=given: f.logsumexp(x, **given)
    integers = lay_out((10 * numbers).astype(np.int32))
    yield "softmax of integers", lambda: f.softmax(integers)
    yield "sigmoid", lambda: f.sigmoid(x)
    yield "softmax_backward", lambda: f.softmax_backward(p, x)
    yield "log_softmax_backward", lambda: f.log_softmax_backward(x, p)
    yield "log_normalize", lambda: f.log_normalize(x)
    yield "softmax_entropy", lambda: f.softmax_entropy(x)
    yield "js_divergence", lambda: f.js_divergence(x, p)
    yield "kl_divergence", lambda: f.kl_divergence(x, p)
    yield "kl_divergence_and_grad", lambda: f.kl_divergence_and_grad(x, p)
    held = {k: v for k, v in weights.items() if k == "sample_weight"}
    for given in ({}, weights):
        yield f"fit_temperature {sorted(given)}", lambda given=given: f.fit_temperature(x, labels, **given)
    for given in ({}, held):
        yield f"calibration_error {sorted(given)}", lambda given=given: f.calibration_error(x, labels, **given)
        yield f"brier_score {sorted(given)}", lambda given=given: f.brier_score(x, labels, **given)
    for k in (5, 200):
        yield f"token_logprobs {k}", lambda k=k: f.token_logprobs(x, labels, top_k=k)
        yield f"softmax_topk {k}", lambda k=k: f.softmax_topk(x, k)
        yield f"sample {k}", lambda k=k: f.sample(x, np.full(len(x), 0.5), top_k=k, top_p=0.9)


def calls_on_many_rows():
    """(name, call) of losses that need memory for every row."""
    rows = MANY
    x = np.broadcast_to(np.linspace(0.001, 0.019, 100, dtype=np.float32), (rows, 100))
    labels, sample_weight = np.arange(rows) % 100, np.ones(rows)
    grad, hess = np.ones((2, rows, 100), np.float32)
    for loss in (softloss.cross_entropy, softloss.categorical_cross_entropy, softloss.nll_loss):
        and_grad = getattr(softloss, f"{loss.__name__}_and_grad")
        for reduction, target in itertools.product(("mean", "sum", "none"), (labels, x)):
            options = {"reduction": reduction, "weight": x[0], "sample_weight": sample_weight}
            name = f"{loss.__name__} {reduction} {target.dtype}"
            yield name, lambda a=(loss, target, options): a[0](x, a[1], **a[2])
            yield (
                f"{name} and gradient",
                lambda a=(and_grad, target, options): a[0](x, a[1], grad_out=grad, **a[2]).loss,
            )

    def gradient_and_hessian():
        softloss.cross_entropy_grad_hess(x, labels, sample_weight=sample_weight, grad_out=grad, hess_out=hess)
        return ()

    yield "cross_entropy_grad_hess", gradient_and_hessian
    apart = x.reshape(-1, 3, 100), labels.reshape(-1, 3), sample_weight.reshape(-1, 3)
    for name in ("fit_temperature", "calibration_error", "brier_score"):
        f = getattr(softloss, name)
        yield name, lambda f=f: f(x, labels, sample_weight=sample_weight)
        yield f"{name}, axis 1", lambda f=f: f(apart[0].swapaxes(1, 2), apart[1], axis=1, sample_weight=apart[2])


def touched(call):
    """Bytes of memory that the call uses for the first time, without those of the results."""
    result = []

    def work():
        softloss.cross_entropy_and_grad(SMALL, [0, 1], sample_weight=[1, 1])
        softloss.cross_entropy_grad_hess(TEAM, np.zeros(len(TEAM), int))
        softloss.cross_entropy_and_grad(TEAM, np.zeros(len(TEAM), int), sample_weight=np.ones(len(TEAM)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        results = call()
        pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        sizes = [np.asarray(y).nbytes for y in (results if isinstance(results, tuple) else (results,))]
        result.append(pages * resource.getpagesize() - sum(sizes))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return result[0]


def report(several, limit, threads):
    """Runs in the child process: prints the calls that use too much memory."""
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: large pages would be counted as one
    softloss.set_num_threads(threads)
    softloss.set_cache_limit(0)
    if not 4 << 20 <= touched(lambda: np.ones(4 << 20, np.uint8).any()) <= 5 << 20:
        print("not counted here")
        return
    for name, call in several:
        call()
        extra = touched(call)
        if extra > limit:
            print(f"{name}: {extra} bytes")


def child(*arguments):
    """The output of this file as a program. Freed memory returns to the system at once."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_within(*arguments):
    offenders = child(*arguments)
    if "not counted" in offenders:
        pytest.skip(offenders)
    assert not offenders


on_one_and_two = pytest.mark.parametrize("threads", [1, 2])


@on_one_and_two
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_memory_of_long_rows(dtype, layout, threads):
    assert_within(threads, dtype, layout)


@on_one_and_two
def test_memory_of_many_rows(threads):
    assert_within(threads, "rows")


if __name__ == "__main__":
    team, *what = sys.argv[1:]
    if what == ["rows"]:
        report(calls_on_many_rows(), (1 << 20) + 16 * MANY, int(team))
    else:
        report(calls(what[0], LAYOUTS[what[1]]), LIMIT, int(team))
