"""What holds for all tests: each runs on every instruction set that this machine can run, and hypothesis's profile."""

import os

import pytest
from hypothesis import settings
from softloss import _core

settings.register_profile("softloss", deadline=None, max_examples=40, derandomize="CI" in os.environ)
settings.load_profile("softloss")


@pytest.fixture(scope="session", autouse=True, params=_core.usable_isas())
def isa(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)
