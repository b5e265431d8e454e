"""The bits of every operation are those of tests/golden_bits.json on every instruction set and number of threads, and
those of long rows are the same whether threads share them or not.

tests/cpp/test_bits.cpp checks the same file in C++, with every layout in memory; golden_bits.py says what is in it.
"""

import json

import golden_bits
import ml_dtypes
import numpy as np
import pytest
import softloss
from workload import as_bytes

LINES = json.loads(golden_bits.FILE.read_text())


def test_all_cases_are_written_down():
    assert [name for name in LINES if not name.startswith("baseline ")] == golden_bits.names()


@pytest.mark.parametrize("name", golden_bits.names())
def test_bits(name, isa):
    for threads in (1, 2, 5):
        with softloss.threads(threads):
            digest = golden_bits.digest(golden_bits.result(name))
        assert digest == golden_bits.golden(name, isa, LINES)


LONG_ROWS = {
    "softmax": lambda x, label: softloss.softmax(x),
    "softmax in place": lambda x, label: softloss.softmax(x, out=x),
    "log_softmax": lambda x, label: softloss.log_softmax(x, temperature=1.7),
    "logsumexp": lambda x, label: softloss.logsumexp(x),
    "cross_entropy": lambda x, label: softloss.cross_entropy(x, label, reduction="none"),
    "gradient in place": lambda x, label: softloss.cross_entropy_and_grad(x, label, grad_out=x, temperature=0.7),
    "Hessian": lambda x, label: softloss.cross_entropy_grad_hess(x, label),
    "focal Hessian": lambda x, label: softloss.softmax_focal_loss_grad_hess(x, label, hess_min=-np.inf),
}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", ["normal", "one large", "equal", "nan", "inf", "-inf"])
def test_a_long_row_is_shared(kind, dtype):
    """Fewer rows than threads: the bits are those of one thread."""
    n, rows = 300_007, 2 if dtype == "f4" else 1
    x = 4 * np.random.default_rng(0).standard_normal((rows, n))
    x[:, n // 3] = {"one large": 60, "nan": np.nan, "inf": np.inf}.get(kind, 0)
    if kind in ("equal", "-inf"):
        x[:] = 1.5 if kind == "equal" else -np.inf
    x = x.astype(dtype)
    label = np.array([n // 3, n - 1][:rows])
    for name, function in LONG_ROWS.items():
        with softloss.threads(1):
            alone = as_bytes(function(x.copy(), label))
        for threads in (2, 3, 7):
            with softloss.threads(threads):
                assert as_bytes(function(x.copy(), label)) == alone, (name, threads)


@pytest.mark.parametrize("n, dtype", [(2_500_123, "f4"), (8_000_001, "f4"), (2_500_123, "f8")])
def test_the_longest_rows_are_shared(n, dtype):
    """More chunks in a block than it keeps sums of; results that are stored non-temporally."""
    x = 4 * np.random.default_rng(0).standard_normal(n).astype(dtype)
    for name, function in LONG_ROWS.items():
        with softloss.threads(1):
            alone = as_bytes(function(x.copy(), n - 1))
        with softloss.threads(2):
            assert as_bytes(function(x.copy(), n - 1)) == alone, name
