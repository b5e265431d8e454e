"""ONNX Runtime: a graph of one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as library
from cases import Case, Data
from onnx import TensorProto, helper

from .statement import Statements, statements

LOSSES = {"cross_entropy": "SoftmaxCrossEntropyLoss", "nll_loss": "NegativeLogLikelihoodLoss"}


def nodes(case: Case) -> tuple[list[Any], list[str], list[str]]:
    """The graph of a case, with the names of its inputs and outputs; nothing where an operator is missing."""
    inputs, outputs = ["x"], ["z"]
    transforms: dict[str, tuple[str, dict[str, Any]]] = {
        "softmax": ("Softmax", {"axis": case.axis}),
        "log_softmax": ("LogSoftmax", {"axis": case.axis}),
        "logsumexp": ("ReduceLogSumExp", {"axes": [case.axis], "keepdims": 0}),
        "sigmoid": ("Sigmoid", {}),
    }
    if case.op == "softmax_topk":
        graph = [
            helper.make_node("Softmax", ["x"], ["p"], axis=case.axis),
            helper.make_node("TopK", ["p", "k"], ["z", "index"], axis=case.axis),
        ]
        return graph, inputs, ["z", "index"]
    if case.op in LOSSES and case.axis != 0 and len(case.shape) > 1:
        if not set(case.options) <= {"weights", "none", "order=F", "stride=2", "page"}:
            return [], [], []
        inputs += ["y", *(["w"] if "weights" in case.options else [])]
        reduction = "none" if "none" in case.options else "mean"
        return [helper.make_node(LOSSES[case.op], inputs, outputs, reduction=reduction)], inputs, outputs
    if case.op in transforms and not case.arguments:
        operator, attributes = transforms[case.op]
        return [helper.make_node(operator, inputs, outputs, **attributes)], inputs, outputs
    return [], [], []


def compute(case: Case, data: Data, threads: int) -> Statements:
    graph, inputs, outputs = nodes(case)
    if not graph or case.dtype == "bfloat16":
        return {}
    arrays = {"x": data.x, "y": data.target, "w": data.weights if "w" in inputs else None}
    session = session_of(graph, {name: arrays[name] for name in inputs}, outputs, case.k, threads)
    feed = {name: np.ascontiguousarray(arrays[name]) for name in inputs}  # the form that it keeps arrays in
    names: dict[str, Any] = {"run": session.run, "feed": feed, "fetch": outputs}
    if not data.x.flags.c_contiguous:  # a caller who has the array in another layout must copy it
        names |= {"contiguous": np.ascontiguousarray, "x": data.x}
        run = "run(fetch, {**feed, 'x': contiguous(x)})"
        return statements(f"{run}[0]" if len(outputs) == 1 else f"tuple({run})", None, **names)
    if case.writes:
        out = np.zeros(case.shape, data.x.dtype)
        binding = session.io_binding()
        binding.bind_cpu_input("x", feed["x"])
        binding.bind_output("z", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
        names |= {"run_bound": session.run_with_iobinding, "binding": binding, "o": out}
    return statements(
        "run(fetch, feed)[0]" if len(outputs) == 1 else "tuple(run(fetch, feed))",
        "run_bound(binding) or o" if case.writes else None,
        **names,
    )


def session_of(graph: list[Any], arrays: dict[str, Any], outputs: list[str], k: int, threads: int) -> Any:
    def declared(name: str, dtype: Any, shape: Any) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)

    results = [declared(name, np.dtype(np.int64) if name == "index" else arrays["x"].dtype, None) for name in outputs]
    constants = [helper.make_tensor("k", TensorProto.INT64, [1], [k])] if "index" in outputs else []
    declared_inputs = [declared(name, array.dtype, array.shape) for name, array in arrays.items()]
    made = helper.make_graph(graph, "case", declared_inputs, results, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return library.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
