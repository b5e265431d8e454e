"""softloss: each case as a user writes it."""

from __future__ import annotations

import numpy as np
import softloss as library
from cases import BACKWARD, POS_WEIGHT, SCORES, SMOOTHING, TEMPERATURE, TOP_P, Case, Data
from softloss import special

from .statement import Statements, statements

KEYWORDS = {  # of each option that is an argument
    "smoothing": f"label_smoothing={SMOOTHING}",
    "weights": "weight=w",
    "none": "reduction='none'",
    "where": "where=m",
    "temperature": f"temperature={TEMPERATURE}",
    "b": "b=b",
    "pos-weight": f"pos_weight={POS_WEIGHT}",
    "top-p": f"top_p={TOP_P}",
}


def compute(case: Case, data: Data, threads: int) -> Statements:
    home = special if "special" in case.options else library
    if not hasattr(home, case.op):
        raise NotImplementedError(f"softloss has no {case.op}")
    names = {"f": getattr(home, case.op), "x": data.x, "y": data.target, "o": data.out if case.writes else None}
    inputs = {"weights": ("w", "weights"), "where": ("m", "where"), "b": ("b", "b")}
    names |= {name: getattr(data, input) for option, (name, input) in inputs.items() if option in case.options}
    arguments = ["x, y" if case.takes_target else "x"]
    if case.op in SCORES:
        arguments.append(f"{'k' if case.op == 'softmax_topk' else 'top_k'}={case.k}")
    if case.axis != -1:
        arguments.append(f"axis={case.axis}")
    arguments += [KEYWORDS[option] for option in case.options if option in KEYWORDS]
    call = f"f({', '.join(arguments)}"
    if case.op.endswith("_hess"):
        names["h"] = np.empty_like(data.x)
        return statements(f"{call})", f"{call}, grad_out=o, hess_out=h)", **names)
    keyword = "grad_out" if case.takes_target and case.op not in BACKWARD else "out"
    return statements(f"{call})", f"{call}, {keyword}=o)" if case.writes else None, **names)
