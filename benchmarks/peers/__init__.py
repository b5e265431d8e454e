"""How each library computes each case, in the best plain form that an experienced user writes.

Each module of this package is one library, softloss among them, and has a function

    compute(case, data, threads) -> {variant: Statement}

which is empty where the library lacks the operation. All use the same inputs, in the form the library keeps its own
arrays in: no conversion is timed. A library is imported when its module is.

Lives here: the names of the libraries. Must not: timing, targets, printing.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from .statement import Statement, Statements

__all__ = ["NAMES", "PEERS", "Statement", "Statements", "compute", "installed"]

NAMES = {  # as they are written in tables and pictures
    "softloss": "softloss",
    "numpy": "NumPy",
    "scipy": "SciPy",
    "torch": "PyTorch",
    "numba": "Numba",
    "jax": "JAX",
    "onnxruntime": "ONNX Runtime",
}
PEERS = [name for name in NAMES if name != "softloss"]


def compute(library: str, case: Any, data: Any, threads: int) -> Statements:
    """The statements of one library for a case."""
    statements: Statements = importlib.import_module(f"peers.{library}").compute(case, data, threads)
    return statements


def installed() -> list[str]:
    return [name for name in PEERS if importlib.util.find_spec(name)]
