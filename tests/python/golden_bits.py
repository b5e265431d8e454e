"""Golden bits, hashes of results: python tests/python/golden_bits.py renews tests/golden_bits.json.

Lives here: the list of cases, how a case's name becomes a call, the hash. Must not: comparisons; test_bits.py and
tests/cpp/test_bits.cpp make them, each with its own reading of the names.

A name is an operation, a dtype, a shape and options: "cross_entropy float32 7x1000 label_smoothing=0.1 weight". Its
inputs come from a linear congruential generator, with as many bits as the dtype holds, so that they are the same
everywhere. Where the x86-64 baseline, which has no fma, differs, a second line that begins with "baseline" says so.
"""

import json
import platform
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import softloss

FILE = Path(__file__).parents[1] / "golden_bits.json"
BITS = {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}
CLASS_LOSSES = ("cross_entropy", "nll_loss", "categorical_cross_entropy")
CALIBRATION = ("fit_temperature", "calibration_error", "brier_score")
DIVERGENCES = ("kl_divergence", "js_divergence")

# ---- cases ---------------------------------------------


def _names():
    for dtype in ("float32", "float64"):
        for shape in ("7x1", "7x3", "300x10", "5x100", "7x1000", "2x40000", "1000x7 axis=0", "33x70 axis=0"):
            for op in ("softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_and_grad"):
                yield f"{op} {dtype} {shape}"
        for shape in ("7x1", "7x3", "300x10", "5x100", "7x1000", "2x80000", "1000x7 axis=0", "33x70 axis=0"):
            for op in ("kl_divergence_and_grad", "js_divergence", "softmax_entropy", "log_normalize"):
                yield f"{op} {dtype} {shape}"
        for shape in ("7x3", "5x100", "2x80000", "5000x7", "1000x7 axis=0", "33x70 axis=0"):
            for op in CALIBRATION:
                yield f"{op} {dtype} {shape}"
        for shape in ("300x10", "7x1000"):
            for options in ("", " temperature=0.7", " scale=1024", " sample_weight reduction=mean"):
                yield f"kl_divergence {dtype} {shape}{options}"
                yield f"js_divergence {dtype} {shape}{options}"
            yield f"kl_divergence_and_grad {dtype} {shape} temperature=0.7"
            yield f"softmax_entropy {dtype} {shape} temperature=0.7"
        for shape in ("300x10", "7x1000"):
            for options in ("temperature=0.7", "where", "scale=64", "scale=1024", "offset=4096", "offset=-1048576"):
                yield f"softmax {dtype} {shape} {options}"
                yield f"log_softmax {dtype} {shape} {options}"
            yield f"logsumexp {dtype} {shape} b"
            yield f"softmax_backward {dtype} {shape}"
            yield f"log_softmax_backward {dtype} {shape}"
            for kind in ("", "_and_grad"):
                for options in ("", " soft", " weight", " sample_weight", " reduction=mean", " weight reduction=mean"):
                    for op in CLASS_LOSSES:
                        yield f"{op}{kind} {dtype} {shape}{options}"
                for options in ("temperature=0.7", "label_smoothing=0.125", "label_smoothing=0.125 weight", "scale=64"):
                    yield f"cross_entropy{kind} {dtype} {shape} {options}"
            for options in ("", " soft", " label_smoothing=0.125 weight"):
                yield f"cross_entropy_grad_hess {dtype} {shape}{options}"
            for options in ("", " gamma=3.25 weight", " gamma=0.5 scale=64"):
                for kind in ("", "_and_grad", "_grad_hess"):
                    yield f"softmax_focal_loss{kind} {dtype} {shape}{options}"
            for options in ("", " temperature=0.7 sample_weight", " scale=64"):
                yield f"calibration_error {dtype} {shape}{options}"
                yield f"brier_score {dtype} {shape}{options}"
            for options in ("", " weight sample_weight"):
                yield f"fit_temperature {dtype} {shape}{options}"
            yield f"softmax_topk {dtype} {shape} k=5"
            yield f"token_logprobs {dtype} {shape} k=5"
            for options in ("", " temperature=0.7 where", " top_k=5 min_p=0.001", " top_p=0.9", " scale=1024"):
                yield f"sample {dtype} {shape}{options}"
        for options in ("", " top_p=0.9", " top_k=20000 top_p=0.9 scale=2", " axis=0 min_p=0.1"):
            yield f"sample {dtype} {'40000x2' if 'axis' in options else '2x40000'}{options}"
        for options in ("", " scale=128", " scale=1024"):
            yield f"sigmoid {dtype} 5003{options}"
            yield f"log_sigmoid {dtype} 5003{options}"
        for kind in ("", "_and_grad"):
            for options in ("", " weight", " reduction=mean"):
                yield f"binary_cross_entropy{kind} {dtype} 5003{options}"
                yield f"binary_cross_entropy_with_logits{kind} {dtype} 5003{options}"
            yield f"binary_cross_entropy_with_logits{kind} {dtype} 5003 pos_weight scale=128"
        yield f"binary_cross_entropy_with_logits_grad_hess {dtype} 5003"
        for options in ("", " alpha=0.25 gamma=3.25", " alpha=0.25 weight", " scale=128 gamma=0.5"):
            for kind in ("", "_and_grad", "_grad_hess"):
                yield f"sigmoid_focal_loss{kind} {dtype} 5003{options}"
        for reduction in ("mean", "sum"):  # several blocks of rows, on any number of threads
            yield f"cross_entropy {dtype} 100003x2 reduction={reduction}"
            yield f"binary_cross_entropy_with_logits {dtype} 200003 reduction={reduction}"
    for dtype in ("float16", "bfloat16"):
        for shape in ("7x3", "300x10", "7x1000", "33x70 axis=0"):
            for op in ("softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_and_grad"):
                yield f"{op} {dtype} {shape}"
            for op in ("kl_divergence_and_grad", "js_divergence", "softmax_entropy", "log_normalize", *CALIBRATION):
                yield f"{op} {dtype} {shape}"
        for op in ("sigmoid", "log_sigmoid", "binary_cross_entropy_with_logits"):
            yield f"{op} {dtype} 5003"


def names():
    """All cases, once each."""
    return list(dict.fromkeys(_names()))


# ---- inputs ---------------------------------------------


def _uniform(size, seed, dtype):
    """Numbers in [0, 1) with the bits of the dtype: state_k = a^k state_0 + c (1 + a + ... + a^(k-1)), modulo 2^64."""
    a, c = np.uint64(6364136223846793005), np.uint64(1442695040888963407)
    powers = np.multiply.accumulate(np.full(size, a))
    sums = np.add.accumulate(np.concatenate([np.ones(1, np.uint64), powers[:-1]]))
    state = powers * np.uint64(2 * seed + 1) + c * sums
    bits = BITS[dtype]
    return np.ldexp((state >> np.uint64(64 - bits)).astype(np.float64), -bits)


def _parse(name):
    op, dtype, shape, *options = name.split()
    values = dict(option.partition("=")[::2] for option in options)
    return op, dtype, tuple(map(int, shape.split("x"))), values


def result(name):
    """The results of the case, as arrays."""
    op, dtype, shape, options = _parse(name)
    np_dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    function, base = getattr(softloss, op), op.removesuffix("_and_grad").removesuffix("_grad_hess")
    axis = int(options.get("axis", -1))
    classes, row_shape = shape[axis], np.delete(shape, axis)

    def uniform(shape, seed):
        return _uniform(int(np.prod(shape)), seed, dtype).reshape(shape)

    def array(values):
        return values.astype(np_dtype)

    def logits(seed):
        return array((2 * uniform(shape, seed) - 1) * float(options.get("scale", 16)) + float(options.get("offset", 0)))

    unit, x = uniform(shape, 1), logits(1)
    if base in ("categorical_cross_entropy", "binary_cross_entropy"):
        x = array(unit)
    if base == "nll_loss":
        x = array(-16 * unit)
    rowwise = base in (*CLASS_LOSSES, *CALIBRATION, "softmax_focal_loss", "token_logprobs")
    keywords = {}
    if rowwise or base.startswith(("binary", "sigmoid_focal")) or base in DIVERGENCES:
        if base in DIVERGENCES:
            target = logits(2)
        elif rowwise and "soft" not in options:
            target = (np.arange(np.prod(row_shape, dtype=int)) * 7 % classes).reshape(row_shape)
        else:
            target = array(uniform(shape, 2))
            if base == "sigmoid_focal_loss":
                target = np.rint(target)
        arguments = [x, target]
        if not op.endswith("_grad_hess") and base not in ("token_logprobs", "fit_temperature", "calibration_error"):
            keywords["reduction"] = options.get("reduction", "sum" if op.endswith("_and_grad") else "none")
    elif base == "sample":
        arguments = [x, array(uniform(row_shape, 8))]
    elif base.endswith("_backward"):
        arguments = [x if base == "log_softmax_backward" else array(unit), array(8 * uniform(shape, 2) - 4)]
    else:
        arguments = [x]
    if "axis" in options:
        keywords["axis"] = axis
    if "top_k" in options:
        keywords["top_k"] = int(options["top_k"])
    for number in ("temperature", "top_p", "min_p", "label_smoothing", "alpha", "gamma"):
        if number in options:
            keywords[number] = float(options[number])
    if "k" in options:
        keywords["top_k" if base == "token_logprobs" else "k"] = int(options["k"])
    if "where" in options:
        keywords["where"] = uniform(shape, 3) < 0.5
    if "weight" in options:
        keywords["weight"] = array(uniform(classes if rowwise else shape, 4))
    if "sample_weight" in options:
        keywords["sample_weight"] = array(uniform(row_shape, 5))
    if "pos_weight" in options:
        keywords["pos_weight"] = array(uniform(shape, 6))
    if "b" in options:
        keywords["b"] = array(uniform(shape, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of fit_temperature, whose labels here have little to say
        value = function(*arguments, **keywords)
    return list(map(np.asarray, value)) if isinstance(value, tuple) else [np.asarray(value)]


# ---- hash ---------------------------------------------


def digest(arrays):
    """Sum over all elements of splitmix64(bits of the element ^ place * golden ratio), in hexadecimal."""
    bits = np.concatenate([a.ravel().view(f"u{a.itemsize}").astype(np.uint64) for a in arrays])
    z = bits ^ (np.arange(1, bits.size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return f"{int(np.sum(z ^ (z >> np.uint64(31)), dtype=np.uint64)):016x}"


def golden(name, isa, lines):
    """The stored hash of the case for an instruction set."""
    without_fma = isa == "baseline" and platform.machine() in ("x86_64", "AMD64")
    return lines.get(f"baseline {name}", lines[name]) if without_fma else lines[name]


def main():
    isas = softloss._core.usable_isas()
    lines = {}
    for name in names():
        found = {}
        for isa in isas:
            softloss._core.set_isa(isa)
            found[isa] = digest(result(name))
        lines[name] = found[isas[-1]]
        if "baseline" in found and found["baseline"] != lines[name]:
            lines[f"baseline {name}"] = found["baseline"]
    FILE.write_text(json.dumps(lines, indent=0) + "\n")
    print(f"{len(lines)} lines, of {', '.join(isas)}: {FILE}")


if __name__ == "__main__":
    main()
