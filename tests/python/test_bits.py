"""The bits of every operation are those of tests/golden_bits.json, on every instruction set and number of threads.

tests/cpp/test_bits.cpp checks the same file in C++, with every layout in memory; golden_bits.py says what is in it.
"""

import json

import golden_bits
import pytest
import softloss

LINES = json.loads(golden_bits.FILE.read_text())


def test_all_cases_are_written_down():
    assert [name for name in LINES if not name.startswith("baseline ")] == golden_bits.names()


@pytest.mark.parametrize("name", golden_bits.names())
def test_bits(name, isa):
    for threads in (1, 2, 5):
        with softloss.threads(threads):
            digest = golden_bits.digest(golden_bits.result(name))
        assert digest == golden_bits.golden(name, isa, LINES)
