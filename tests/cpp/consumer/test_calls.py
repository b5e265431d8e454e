"""Some hundred calls drawn at random, made in C++, in C and in Python: the same bits.

Lives here: the calls, and what Python computes. Must not: ways to build (test_consumer.py).
"""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import softloss
from test_consumer import cmake, numbers, run

CLASS_LOSSES = ("cross_entropy", "nll_loss", "categorical_cross_entropy")
DIVERGENCES = ("kl_divergence", "js_divergence", "kl_divergence_and_grad")
BINARY_LOSSES = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
LOSSES = (*CLASS_LOSSES, *BINARY_LOSSES)
FUNCTIONS = (
    *("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid", "softmax_backward", "log_softmax_backward"),
    *(*LOSSES, *(f"{loss}_and_grad" for loss in LOSSES)),
    *("cross_entropy_grad_hess", "binary_cross_entropy_with_logits_grad_hess", "softmax_topk", "token_logprobs"),
    *(*DIVERGENCES, "softmax_entropy", "log_normalize", "sample"),
    "softmax_focal_loss_grad_hess",
    *("fit_temperature", "calibration_error", "brier_score"),
)
REDUCTIONS = ("none", "mean", "sum")


def draw(chance: random.Random, function: str) -> dict:
    rows, classes, axis = chance.randint(1, 9), chance.randint(1, 40), chance.choice((-1, 0, 1))
    return {
        "function": function,
        "dtype": chance.choice(("float32", "float64")),
        "rows": rows,
        "classes": classes,
        "axis": axis,
        "columns": chance.randint(0, 1),
        "temperature": chance.choice((1.0, 0.5, 3.0)),
        "smoothing": chance.choice((0.0, 0.25)) if function.startswith("cross_entropy") else 0.0,
        "weighted": chance.randint(0, 1),
        "reduction": chance.randint(0, 2),
        "k": chance.randint(1, rows if axis == 0 else classes),
        "seed": chance.randint(0, 10**6),
    }


def expected(call: dict) -> list[str]:
    """The lines that calls.cpp must print."""
    function, dtype, seed, axis = call["function"], call["dtype"], call["seed"], call["axis"]
    shape = (call["rows"], call["classes"])
    n, others = (shape[0], shape[1]) if axis == 0 else (shape[1], shape[0])
    x, probs = numbers(shape, seed, -20, 20, dtype), numbers(shape, seed + 1, 0, 1, dtype)
    weight, b = numbers((n,), seed + 2, 0, 2, dtype), numbers(shape, seed + 3, 0, 1, dtype)
    labels = np.array([(7 * i + seed) % n for i in range(others)])
    temperature = {"temperature": call["temperature"]}
    loss = {"axis": axis, "weight": weight if call["weighted"] else None, "reduction": REDUCTIONS[call["reduction"]]}
    base = function.removesuffix("_and_grad").removesuffix("_grad_hess")
    scores = probs if base in ("categorical_cross_entropy", "binary_cross_entropy") else x
    if function in ("softmax", "log_softmax"):
        results = {"out": getattr(softloss, function)(x, axis, **temperature)}
    elif function == "logsumexp":
        results = {"out": softloss.logsumexp(x, axis, b=b if call["weighted"] else None)}
    elif function in ("sigmoid", "log_sigmoid"):
        results = {"out": getattr(softloss, function)(x)}
    elif function == "softmax_backward":
        results = {"out": softloss.softmax_backward(probs, x, axis)}
    elif function == "log_softmax_backward":
        results = {"out": softloss.log_softmax_backward(x, probs, axis)}
    elif base in LOSSES and not function.endswith("_grad_hess"):
        if base == "cross_entropy":
            loss |= {**temperature, "label_smoothing": call["smoothing"]}
        if base in BINARY_LOSSES:
            loss = {"weight": b if call["weighted"] else None, "reduction": loss["reduction"]}
        result = getattr(softloss, function)(scores, probs if base in BINARY_LOSSES else labels, **loss)
        results = result._asdict() if function.endswith("_and_grad") else {"loss": result}
    elif function == "binary_cross_entropy_with_logits_grad_hess":
        options = {"weight": b if call["weighted"] else None, "hess_scale": 2}
        results = softloss.binary_cross_entropy_with_logits_grad_hess(x, probs, **options)._asdict()
    elif function == "cross_entropy_grad_hess":
        smoothing = {"label_smoothing": call["smoothing"]}
        options = {"axis": axis, "weight": loss["weight"], "hess_scale": 2, **smoothing}
        results = softloss.cross_entropy_grad_hess(x, labels, **options)._asdict()
    elif function == "softmax_focal_loss_grad_hess":
        options = {"axis": axis, "weight": loss["weight"], "gamma": call["temperature"]}
        results = softloss.softmax_focal_loss_grad_hess(x, labels, **options)._asdict()
    elif function in DIVERGENCES:
        sample_weight = numbers((others,), seed + 3, 0, 1, dtype) if call["weighted"] else None
        options = {"axis": axis, "sample_weight": sample_weight, "reduction": loss["reduction"], **temperature}
        result = getattr(softloss, function)(x, b, **options)
        results = result._asdict() if function.endswith("_and_grad") else {"loss": result}
    elif function == "softmax_entropy":
        results = {"out": softloss.softmax_entropy(x, axis=axis, **temperature)}
    elif function == "log_normalize":
        results = softloss.log_normalize(x, axis)._asdict()
    elif function == "sample":
        filters = {"top_k": call["k"] if call["weighted"] else 0, "top_p": 1 - call["reduction"] / 4, "min_p": 1e-6}
        u = numbers((others,), seed + 3, 0, 1, dtype)
        results = softloss.sample(x, u, axis=axis, **temperature, **filters)._asdict()
    elif function == "brier_score":
        options = {"axis": axis, "reduction": loss["reduction"], **temperature}
        results = {"loss": softloss.brier_score(x, labels, **options)}
    elif function == "fit_temperature":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the minimum may be at an end
            results = softloss.fit_temperature(x, labels, axis=axis, weight=loss["weight"])._asdict()
    elif function == "calibration_error":
        options = {"bins": call["k"], "norm": ("l1", "l2", "max")[call["reduction"]], **temperature}
        results = {"error": softloss.calibration_error(x, labels, axis=axis, **options)}
    elif function == "softmax_topk":
        results = softloss.softmax_topk(x, call["k"], axis, **temperature)._asdict()
    else:
        results = softloss.token_logprobs(x, labels, axis=axis, top_k=call["k"], **temperature)._asdict()
    return [f"{name} {np.ascontiguousarray(value).tobytes().hex()}" for name, value in results.items()]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("calls")
    cmake(build, f"-Dsoftloss_DIR={run(sys.executable, '-m', 'softloss', '--cmakedir').strip()}")
    return build / "calls"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_calls_have_the_same_bits_in_every_language(program: Path, function: str) -> None:
    chance = random.Random(function)
    calls = [draw(chance, function) for _ in range(25)]
    lines = "\n".join(" ".join(map(str, call.values())) for call in calls)
    printed = subprocess.run([program], input=lines, text=True, capture_output=True, check=True).stdout.splitlines()
    for call in calls:
        wanted = expected(call)
        assert printed[: len(wanted)] == wanted, call
        del printed[: len(wanted)]
    assert not printed
