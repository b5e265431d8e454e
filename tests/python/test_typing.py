"""Types: mypy --strict and pyright on the package and on a user's file, and the stub against the extension.

Lives here: runs of the checkers. Must not: the user's file, which is user_types.py.

Types do not depend on the instruction set: each check runs once and is remembered.
"""

import ast
import functools
import importlib.util
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import pytest
import softloss
from softloss import _core

USER = pathlib.Path(__file__).with_name("user_types.py")
PACKAGE = pathlib.Path(softloss.__file__).parent
# dask is an extra, only partly typed: dask.py is checked with the settings of pyproject.toml, which know it
SOURCES = sorted(path for pattern in ("*.py", "*.pyi") for path in PACKAGE.glob(pattern) if path.name != "dask.py")

needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
needs_pyright = pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")


@functools.cache
def run(module, *arguments, path=""):
    """(exit status, output) of python -m module, away from the source tree; `path` comes first on Python's path."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=folder,
            env=os.environ | {"MYPYPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr


@needs_mypy
def test_mypy():
    modules = ["softloss" if path.stem == "__init__" else f"softloss.{path.stem}" for path in SOURCES]
    for what in (itertools.chain(*(("-m", module) for module in modules)), [USER]):
        status, output = run("mypy", "--strict", *what)
        assert status == 0, output


@needs_pyright
def test_pyright():
    status, output = run("pyright", "--outputjson", "--pythonpath", sys.executable, USER, *SOURCES)
    found = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert status == 0, json.dumps(found["generalDiagnostics"], indent=1)
    assert found["summary"]["filesAnalyzed"] > 5


@needs_mypy
def test_wrong_types_are_found(tmp_path):
    """The checkers see the package: without its comments the user's file has an error for each wrong call."""
    text = USER.read_text()
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace("  # type: ignore", ""))
    expected = text.count("  # type: ignore")
    _, output = run("mypy", "--strict", wrong)
    assert len(set(re.findall(r"wrong\.py:(\d+): error", output))) == expected, output


@needs_mypy
def test_stub_has_what_the_extension_has():
    status, output = run("mypy.stubtest", "softloss._core")
    assert status == 0, output


@needs_mypy
def test_stubtest_sees_the_stub(tmp_path):
    """The check must fail with an additional and with a missing function: without a stub it reports success."""
    copy = tmp_path / "softloss"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    stub = (copy / "_core.pyi").read_text()
    (copy / "_core.pyi").write_text(stub.replace("def cached_bytes(", "def held_bytes("))
    status, output = run("mypy.stubtest", "softloss._core", path=str(tmp_path))
    assert status == 1
    assert "held_bytes" in output and "cached_bytes" in output, output


def test_stub_has_as_many_arguments_as_the_extension():
    """C functions have no signature, but reject a wrong number of arguments."""
    counted = 0
    for function in ast.parse((PACKAGE / "_core.pyi").read_text()).body:
        if not isinstance(function, ast.FunctionDef) or function.name not in softloss.functional.__all__:
            continue
        try:
            getattr(_core, function.name)(*[None] * 20)
        except TypeError as error:
            if expected := re.match(r"expected (\d+) positional arguments, got 20", str(error)):
                assert len(function.args.posonlyargs) == int(expected[1]), function.name
                counted += 1
    assert counted == len([name for name in softloss.functional.__all__ if name[0].islower()])
