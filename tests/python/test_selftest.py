"""``python -m softloss --selftest``: passes here, and fails if a value or a bit is wrong.

Lives here: tests of the self-test. Must not: other tests of the numerics.
"""

import subprocess
import sys

import numpy as np
import pytest
import softloss
from softloss import _core, _selftest


@pytest.fixture(autouse=True)
def once(isa):
    if isa != _core.usable_isas()[-1]:
        pytest.skip("the self-test goes through the instruction sets itself")


def test_it_passes_on_this_machine():
    run = subprocess.run([sys.executable, "-m", "softloss", "--selftest"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("verdict: softloss keeps its promises here\n")
    assert run.stderr == ""


def test_it_sees_an_error_of_three_units(monkeypatch):
    true = softloss.softmax
    monkeypatch.setattr(softloss, "softmax", lambda x, **options: true(x, **options) * (1 + 4 * np.finfo(x.dtype).eps))
    worst = _selftest.check_values(np.float32, lambda what: None)
    assert worst["softmax"] > 2
    assert worst["log_softmax"] <= 2


def test_it_sees_a_changed_bit(monkeypatch, capsys):
    true = softloss.logsumexp
    monkeypatch.setattr(softloss, "logsumexp", lambda x: np.nextafter(true(x), x.dtype.type(np.inf)))
    monkeypatch.setattr(_selftest, "hard_rows", lambda dtype: iter(()))
    monkeypatch.setattr(_selftest, "check_values", lambda dtype, advance: {"softmax": 0.5})
    assert not _selftest.run()
    assert "NOT" in capsys.readouterr().out.splitlines()[-1]
