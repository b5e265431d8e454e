"""What holds for all tests: each runs on every instruction set that this machine can run, and hypothesis's profile.

SOFTLOSS_ISA=avx2 pytest runs them on that instruction set alone.
"""

import os

import pytest
from hypothesis import settings
from softloss import _core

settings.register_profile("softloss", deadline=None, max_examples=40, derandomize="CI" in os.environ)
settings.load_profile("softloss")


ISAS = [os.environ["SOFTLOSS_ISA"]] if os.environ.get("SOFTLOSS_ISA") else _core.usable_isas()


@pytest.fixture(scope="session", autouse=True, params=ISAS)
def isa(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)
