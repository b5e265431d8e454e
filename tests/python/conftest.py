"""Settings of all tests: each runs on the instruction sets that are usable here; the profile of hypothesis.

SOFTLOSS_ISA=avx2 pytest runs the tests on that instruction set only. The x86-64 baseline has the bits of all others,
which test_bits.py and the C++ tests of the kernels show. Where there is another, it takes the tests of BASELINE_TOO
alone.
"""

import os

import pytest
from hypothesis import settings
from softloss import _core

settings.register_profile("softloss", deadline=None, max_examples=40, derandomize="CI" in os.environ)
settings.load_profile("softloss")


BASELINE_TOO = {"test_bits", "test_gradients", "test_isa", "test_losses", "test_scores", "test_transforms"}
ISAS = [os.environ["SOFTLOSS_ISA"]] if os.environ.get("SOFTLOSS_ISA") else _core.usable_isas()


@pytest.fixture(scope="session", autouse=True, params=ISAS)
def isa(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def pytest_collection_modifyitems(config, items):
    def is_left_out(item):
        isa = item.callspec.params.get("isa") if hasattr(item, "callspec") else None
        return isa == "baseline" and len(ISAS) > 1 and item.path.stem not in BASELINE_TOO

    left_out = [item for item in items if is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_left_out(item)]
