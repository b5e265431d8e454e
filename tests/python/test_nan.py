"""NaN: in the same places, in one bit pattern, on every instruction set; and not in rows that count for nothing.

Lives here: every function with NaN of any bits and infinities in each of its operands and weights. Must not: which
results are NaN (test_transforms.py, test_losses.py and the others of values).
"""

import ml_dtypes
import numpy as np
import pytest
import softloss
from operations import OPERATIONS
from softloss import _core
from workload import as_bytes, isa  # noqa: F401  (isa: a fixture; each test runs all instruction sets itself)

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SHAPES = [((5,), 0), ((40, 3), -1), ((5, 130), -1), ((130, 5), 0)]
ONE = {"float16": 0x7E00, "bfloat16": 0x7FC0, "float32": 0x7FC00000, "float64": 0x7FF8000000000000}


def bits(x):
    return np.ascontiguousarray(x).reshape(-1).view(f"u{x.itemsize}")


def _nans(sign, payload):
    """NaN with these bits: signaling ones, too, whose first bit of the fraction is not set."""

    def put(x, where, rng):
        top = ONE[x.dtype.name] if payload == 0 else int(bits(np.array(np.inf, x.dtype))[0])
        bits_of_nan = top | sign << (8 * x.itemsize - 1) | payload
        x.view(f"u{x.itemsize}")[where] = bits_of_nan

    return put


def _mixed(x, where, rng):
    x[where] = rng.choice([np.inf, -np.inf, np.nan, -0.0, 0.0], where.sum()).astype(x.dtype)


KINDS = {
    "NaN": _nans(0, 0),
    "negative NaN": _nans(1, 0),
    "signaling NaN": _nans(0, 5),
    "mixed": _mixed,
    "all -inf": lambda x, where, rng: x.fill(-np.inf),
}


def spoiled(array, kind):
    """A copy with a fifth of the elements replaced; the array itself if it is none of floats."""
    if getattr(array, "ndim", 0) == 0 or array.dtype.kind not in "fV":
        return array
    rng, copy = np.random.default_rng(3), array.copy()
    KINDS[kind](copy, rng.random(copy.shape) < 0.2, rng)
    return copy


def calls(operation, shape, axis, dtype, kind):
    """(operands, options) with one operand spoiled, or all weights; probabilities outside [0, 1] are errors."""
    operands = operation.operands(shape, dtype, axis)
    for options in operation.cases(shape, axis):
        for i, operand in enumerate(operands):
            bad = spoiled(operand, kind)
            if bad is not operand:
                yield (*operands[:i], bad, *operands[i + 1 :]), options
        weights = {k: spoiled(v, kind) for k, v in options.items() if isinstance(v, np.ndarray)}
        if weights:
            yield operands, options | weights


def results_on_each_isa(operation, operands, axis, options):
    """Name of each instruction set -> results, or the text of the error."""
    before, found = _core.isa(), {}
    for name in _core.usable_isas():
        _core.set_isa(name)
        try:
            found[name] = [np.asarray(y) for y in operation(*operands, axis=axis, **options)]
        except ValueError as error:
            found[name] = str(error)
    _core.set_isa(before)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_nan_has_one_bit_pattern(operation, dtype, kind):
    for shape, axis in SHAPES if operation.has_axis else [((5,), -1), ((9, 17), -1)]:
        for operands, options in calls(operation, shape, axis, dtype, kind):
            found = results_on_each_isa(operation, operands, axis, options)
            first = found[_core.usable_isas()[-1]]
            for name, results in found.items():
                if isinstance(first, str):
                    assert results == first, name
                    continue
                for y, expected in zip(results, first, strict=True):
                    nan = (y != y).reshape(-1)
                    assert set(bits(y)[nan]) <= {ONE.get(y.dtype.name)}, (name, shape, sorted(options))
                    if name == "baseline":  # has its own last bits
                        np.testing.assert_array_equal(nan, (expected != expected).reshape(-1))
                    else:
                        assert y.tobytes() == expected.tobytes(), (name, shape, sorted(options))


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("n", [3, 5, 17, 130])
def test_a_row_of_weight_0_has_gradient_0_whatever_it_holds(n, dtype):
    """Whether other rows are NaN, too, or not."""
    x = np.random.default_rng(0).standard_normal((40, n)).astype(dtype)
    p = softloss.softmax(x)
    sample_weight = np.where(np.arange(40) % 4 == 1, 0.0, 1.0)
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = x.copy()
        spoilt[1::4, ::2] = bad
        for target in (np.arange(40) % n, p):
            for options in ({}, {"label_smoothing": 0.1}, {"weight": np.linspace(0.5, 2, n)}):
                options = options | {"sample_weight": sample_weight, "reduction": "sum"}
                grad = softloss.cross_entropy_and_grad(spoilt, target, **options).grad
                assert not grad[1::4].any(), options
                kept = np.arange(40) % 4 != 1
                expected = softloss.cross_entropy_and_grad(x, target, **options).grad
                assert as_bytes(grad[kept]) == as_bytes(expected[kept])
        hess = softloss.cross_entropy_grad_hess(spoilt, np.arange(40) % n, sample_weight=sample_weight, hess_min=0.5)
        assert not hess.grad[1::4].any()
        assert np.all(hess.hess[1::4] == 0.5)
