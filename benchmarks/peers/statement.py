"""A timed statement: Python code, the names it uses, and how to get its result.

Lives here: Statement and how it is made. Must not: libraries, timing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def _arrays(value: Any) -> Any:
    return tuple(map(np.asarray, value)) if isinstance(value, tuple) else np.asarray(value)


@dataclass(frozen=True)
class Statement:
    """Python code to time, the names it uses, and how to get its result as NumPy arrays."""

    code: str
    names: dict[str, Any]
    to_numpy: Callable[[Any], Any] = _arrays


Statements = dict[str, Statement]  # "fresh": the call allocates its result; "out": it writes into given memory


def statements(
    fresh: str, out: str | None = None, to_numpy: Callable[[Any], Any] = _arrays, **names: Any
) -> Statements:
    codes = {"fresh": fresh, "out": out}
    return {variant: Statement(code, names, to_numpy) for variant, code in codes.items() if code}
