"""How each library computes each case, in the best plain form that a good user of it writes.

Lives here: for each peer, the statements that compute a case, with a fresh result and into given memory, and how many
threads it uses; the names of the libraries. Must not: timing, targets, printing.

A peer is a function (case, data, threads) -> {variant: Statement}, empty where the library lacks the operation. All use
the same inputs, in the form the library keeps its own arrays in: no conversion is timed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from cases import SCORES, TOP, Case, Data


def _arrays(value: Any) -> Any:
    return tuple(map(np.asarray, value)) if isinstance(value, tuple) else np.asarray(value)


@dataclass(frozen=True)
class Statement:
    """Python code that is timed, the names it uses, and how to see its result as NumPy arrays."""

    code: str
    names: dict[str, Any]
    to_numpy: Callable[[Any], Any] = _arrays


Statements = dict[str, Statement]


def _statements(fresh: str, out: str | None, to_numpy: Callable[[Any], Any] = _arrays, **names: Any) -> Statements:
    codes = {"fresh": fresh, "out": out}
    return {variant: Statement(code, names, to_numpy) for variant, code in codes.items() if code}


# ---- softloss -----------------------------------------------------------------------------------------------------


def softloss(case: Case, data: Data, threads: int) -> Statements:
    import softloss as library

    if not hasattr(library, case.op):
        raise NotImplementedError(f"softloss has no {case.op}")
    names = {"f": getattr(library, case.op), "x": data.x, "y": data.target, "o": data.out if case.writes else None}
    arguments = "x, y" if case.takes_target else "x"
    if case.op in SCORES:
        arguments += f", {'k' if case.op == 'softmax_topk' else 'top_k'}={TOP}"
    if case.axis != -1:
        arguments += f", axis={case.axis}"
    if case.op.endswith("_hess"):
        names["h"] = np.empty_like(data.x)
        return _statements(f"f({arguments})", f"f({arguments}, grad_out=o, hess_out=h)", **names)
    keyword = "grad_out" if case.takes_target else "out"
    return _statements(f"f({arguments})", f"f({arguments}, {keyword}=o)" if case.writes else None, **names)


# ---- NumPy --------------------------------------------------------------------------------------------------------


def _np_softmax(x, axis=-1, out=None):
    out = np.subtract(x, x.max(axis, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis, keepdims=True)
    return out


def _np_log_softmax(x, axis=-1, out=None):
    out = np.subtract(x, x.max(axis, keepdims=True), out=out)
    out -= np.log(np.exp(out).sum(axis, keepdims=True))
    return out


def _np_logsumexp(x, axis=-1):
    maximum = x.max(axis, keepdims=True)
    e = x - maximum
    np.exp(e, out=e)
    return np.log(e.sum(axis)) + maximum.squeeze(axis)


def _np_nll_loss(logp, y, axis=-1):
    return -np.take_along_axis(logp, np.expand_dims(y, axis), axis).mean()


def _np_cross_entropy(x, y, axis=-1):
    d = x - x.max(axis, keepdims=True)
    of_label = np.take_along_axis(d, np.expand_dims(y, axis), axis).squeeze(axis)
    np.exp(d, out=d)
    return (np.log(d.sum(axis)) - of_label).mean()


def _np_cross_entropy_and_grad(x, y, axis=-1, out=None):
    label = np.expand_dims(y, axis)
    out = np.subtract(x, x.max(axis, keepdims=True), out=out)
    of_label = np.take_along_axis(out, label, axis)
    np.exp(out, out=out)
    total = out.sum(axis, keepdims=True)
    loss = (np.log(total) - of_label).mean()
    out /= total * y.size
    np.put_along_axis(out, label, np.take_along_axis(out, label, axis) - 1 / y.size, axis)
    return loss, out


def _np_cross_entropy_grad_hess(x, y, axis=-1):
    p = _np_softmax(x, axis)
    hess = p * (1 - p)
    label = np.expand_dims(y, axis)
    np.put_along_axis(p, label, np.take_along_axis(p, label, axis) - 1, axis)
    return p, hess


def _np_top(x, axis):
    """The largest elements of each row, largest first, and their places."""
    index = np.argpartition(x, -TOP, axis).take(range(-TOP, 0), axis)
    value = np.take_along_axis(x, index, axis)
    order = np.argsort(-value, axis)
    return np.take_along_axis(value, order, axis), np.take_along_axis(index, order, axis)


def _np_softmax_topk(x, axis=-1):
    return _np_top(_np_softmax(x, axis), axis)


def _np_token_logprobs(x, y, axis=-1):
    logp = _np_log_softmax(x, axis)
    at_label = np.take_along_axis(logp, np.expand_dims(y, axis), axis)
    rank = 1 + (logp > at_label).sum(axis)
    entropy = -(np.exp(logp) * logp).sum(axis)
    return (at_label.squeeze(axis), logp.argmax(axis), rank, entropy, *_np_top(logp, axis))


def sorted_pairs(x, y):
    """How llama-cpp-python finds the most likely tokens of a row: Python sorts all of them, with their places."""
    for row, label in zip(_np_log_softmax(x).tolist(), y.tolist(), strict=True):
        ranked = sorted(zip(row, range(len(row)), strict=True), reverse=True)
        yield row[label], ranked[:TOP]


def _np_sigmoid(x, out=None):
    out = np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def _np_binary_cross_entropy(p, t):
    return -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean()


def _np_binary_cross_entropy_and_grad(p, t, out=None):
    loss = _np_binary_cross_entropy(p, t)
    out = np.subtract(p, t, out=out)
    out /= p * (1 - p) * p.size
    return loss, out


def _np_binary_cross_entropy_with_logits(x, t):
    e = np.abs(x)
    np.negative(e, out=e)
    np.exp(e, out=e)
    np.log1p(e, out=e)
    e += np.maximum(x, 0)
    e -= x * t
    return e.mean()


def _np_binary_cross_entropy_with_logits_and_grad(x, t, out=None):
    loss = _np_binary_cross_entropy_with_logits(x, t)
    out = _np_sigmoid(x, out)
    out -= t
    out /= x.size
    return loss, out


def _np_binary_cross_entropy_with_logits_grad_hess(x, t):
    p = _np_sigmoid(x)
    hess = p * (1 - p)
    p -= t
    return p, hess


def numpy(case: Case, data: Data, threads: int) -> Statements:
    function = globals()[f"_np_{case.op}"]
    return _call(case, data, function, has_out=case.writes == 1)


def _call(case: Case, data: Data, function: Callable[..., Any], has_out: bool) -> Statements:
    """f(x, [target], [axis], [out=])"""
    elementwise = case.op == "sigmoid" or case.base.startswith("binary")
    arguments = "x, y" if case.takes_target else "x"
    arguments += "" if elementwise else f", {case.axis}"
    names = {"f": function, "x": data.x, "y": data.target, "o": data.out if has_out else None}
    return _statements(f"f({arguments})", f"f({arguments}, out=o)" if has_out else None, **names)


# ---- SciPy --------------------------------------------------------------------------------------------------------


def scipy(case: Case, data: Data, threads: int) -> Statements:
    from scipy import special

    def cross_entropy(x, y, axis):
        return _np_nll_loss(special.log_softmax(x, axis), y, axis)

    def binary_cross_entropy_with_logits(x, t):
        return ((1 - t) * x - special.log_expit(x)).mean()

    if case.op == "sigmoid":
        return _call(case, data, special.expit, has_out=True)
    functions = {
        "softmax": special.softmax,
        "log_softmax": special.log_softmax,
        "logsumexp": special.logsumexp,
        "cross_entropy": cross_entropy,
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    }
    return _call(case, data, functions[case.op], has_out=False) if case.op in functions else {}


# ---- PyTorch ------------------------------------------------------------------------------------------------------


def torch(case: Case, data: Data, threads: int) -> Statements:
    import torch as library
    import torch.nn.functional as F

    library.set_num_threads(threads)

    def tensor(array: np.ndarray[Any, Any]) -> Any:
        if array.dtype.name == "bfloat16":
            return library.from_numpy(array.view(np.int16)).view(library.bfloat16)
        return library.from_numpy(array)

    def to_numpy(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(to_numpy, value))
        return (value.float() if value.dtype == library.bfloat16 else value).detach().numpy()

    x, y, axis = tensor(data.x), tensor(data.target), case.axis
    names: dict[str, Any] = {"x": x, "y": y, "F": F, "torch": library}
    if case.writes:
        names["o"] = tensor(data.out)
    statements = partial(_statements, to_numpy=to_numpy, **names)
    if case.op in ("softmax", "log_softmax"):
        return statements(f"torch.{case.op}(x, {axis})", f"torch.{case.op}(x, {axis}, out=o)")
    if case.op == "sigmoid":
        return statements("torch.sigmoid(x)", "torch.sigmoid(x, out=o)")
    if case.op == "logsumexp":
        return statements(f"torch.logsumexp(x, {axis})", None)
    if case.op == "softmax_topk":
        return statements(f"tuple(torch.topk(torch.softmax(x, {axis}), {TOP}, {axis}))", None)
    if case.op == "token_logprobs":
        return statements("f(x, y)", None, f=_torch_token_logprobs)
    if not case.op.endswith(("_and_grad", "_hess")):
        if axis == 0 and x.ndim == 2:
            names["x"] = x.T  # the class axis of F.cross_entropy is fixed
            statements = partial(_statements, to_numpy=to_numpy, **names)
        return statements(f"F.{case.op}(x, y)", None)
    return _torch_and_grad(case, names, to_numpy)


def _torch_token_logprobs(x, y):
    logp = x.log_softmax(-1)
    at_label = logp.gather(-1, y.unsqueeze(-1))
    top, place = logp.topk(TOP, -1)
    entropy = -(logp.exp() * logp).sum(-1)
    return at_label.squeeze(-1), place[..., 0], 1 + (logp > at_label).sum(-1), entropy, top, place


def _torch_and_grad(case: Case, names: dict[str, Any], to_numpy: Callable[[Any], Any]) -> Statements:
    """The fresh form is autograd's; the one with out= computes the same by hand, without autograd's memory."""
    F, x, y, library = names["F"], names["x"], names["y"], names["torch"]
    if case.op.endswith("_hess"):
        return {}
    loss_of = getattr(F, case.base)
    leaf = x.detach().requires_grad_()
    logits = leaf.T if case.axis == 0 else leaf

    def fresh() -> Any:
        leaf.grad = None
        loss = loss_of(logits, y)
        loss.backward()
        return loss, leaf.grad

    def cross_entropy(out: Any) -> Any:
        with library.no_grad():
            label = y.unsqueeze(case.axis)
            p = library.softmax(x, case.axis, out=out)
            loss = -p.gather(case.axis, label).log_().mean()
            p.div_(y.numel())
            p.scatter_add_(case.axis, label, library.full_like(label, -1 / y.numel(), dtype=p.dtype))
        return loss, p

    def binary_cross_entropy_with_logits(out: Any) -> Any:
        with library.no_grad():
            loss = loss_of(x, y)
            library.sigmoid(x, out=out).sub_(y).div_(y.numel())
        return loss, out

    by_hand = {
        "cross_entropy": cross_entropy,
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    }.get(case.base)
    return _statements("f()", "g(o)" if by_hand else None, to_numpy, f=fresh, g=by_hand, o=names["o"])


# ---- numba --------------------------------------------------------------------------------------------------------


@lru_cache
def _numba_functions(parallel: bool) -> dict[str, Any]:
    """Loops over rows of a C-ordered 2-D array, compiled once for each setting of `parallel`."""
    import math

    import numba
    from numba import prange

    jit = numba.njit(parallel=parallel, fastmath=True, nogil=True)

    @jit
    def softmax(x, out):
        for r in prange(x.shape[0]):
            row, to = x[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                e = math.exp(row[i] - m)
                to[i] = e
                s += e
            s = 1 / s
            for i in range(row.size):
                to[i] *= s
        return out

    @jit
    def log_softmax(x, out):
        for r in prange(x.shape[0]):
            row, to = x[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            s = m + math.log(s)
            for i in range(row.size):
                to[i] = row[i] - s
        return out

    @jit
    def logsumexp(x, out):
        for r in prange(x.shape[0]):
            row = x[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            out[r] = m + math.log(s)
        return out

    @jit
    def cross_entropy(x, y):
        loss = 0.0
        for r in prange(x.shape[0]):
            row = x[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                s += math.exp(row[i] - m)
            loss += m + math.log(s) - row[y[r]]
        return loss / x.shape[0]

    @jit
    def cross_entropy_and_grad(x, y, out):
        loss = 0.0
        rows = x.shape[0]
        for r in prange(rows):
            row, to = x[r], out[r]
            m = row[0]
            for i in range(row.size):
                m = max(m, row[i])
            s = row.dtype.type(0)
            for i in range(row.size):
                e = math.exp(row[i] - m)
                to[i] = e
                s += e
            loss += m + math.log(s) - row[y[r]]
            s = 1 / (s * rows)
            for i in range(row.size):
                to[i] *= s
            to[y[r]] -= row.dtype.type(1 / rows)
        return loss / rows, out

    @jit
    def nll_loss(logp, y):
        loss = 0.0
        for r in prange(logp.shape[0]):
            loss -= logp[r, y[r]]
        return loss / logp.shape[0]

    @jit
    def sigmoid(x, out):
        for i in prange(x.size):
            out[i] = 1 / (1 + math.exp(-x[i]))
        return out

    @jit
    def binary_cross_entropy(p, t):
        loss = 0.0
        for i in prange(p.size):
            loss -= t[i] * math.log(p[i]) + (1 - t[i]) * math.log1p(-p[i])
        return loss / p.size

    @jit
    def binary_cross_entropy_and_grad(p, t, out):
        loss, n = 0.0, p.dtype.type(p.size)
        for i in prange(p.size):
            loss -= t[i] * math.log(p[i]) + (1 - t[i]) * math.log1p(-p[i])
            out[i] = (p[i] - t[i]) / (p[i] * (1 - p[i]) * n)
        return loss / p.size, out

    @jit
    def binary_cross_entropy_with_logits(x, t):
        loss = 0.0
        for i in prange(x.size):
            loss += max(x[i], 0) - x[i] * t[i] + math.log1p(math.exp(-abs(x[i])))
        return loss / x.size

    @jit
    def binary_cross_entropy_with_logits_and_grad(x, t, out):
        loss, scale = 0.0, x.dtype.type(1 / x.size)
        for i in prange(x.size):
            e = math.exp(-abs(x[i]))
            loss += max(x[i], 0) - x[i] * t[i] + math.log1p(e)
            p = 1 / (1 + e)
            out[i] = ((p if x[i] >= 0 else 1 - p) - t[i]) * scale
        return loss / x.size, out

    return {name: f for name, f in locals().items() if isinstance(f, numba.core.dispatcher.Dispatcher)}


def numba(case: Case, data: Data, threads: int) -> Statements:
    """Rows of float32 and float64; on other axes the libraries with array expressions are ahead."""
    import numba as library

    library.set_num_threads(threads)
    f = _numba_functions(threads > 1).get(case.op)
    if f is None or case.axis != -1 or case.dtype not in ("float32", "float64"):
        return {}
    rows = case.base.startswith("binary") or case.op == "sigmoid"
    x = data.x if rows or data.x.ndim > 1 else data.x[None]
    y = data.target if data.target.ndim else data.target[None]
    arguments = "x" if case.op in ("softmax", "log_softmax", "logsumexp", "sigmoid") else "x, y"
    names = {"f": f, "x": x, "y": y, "empty": np.empty, "like": np.empty_like}
    if case.op == "logsumexp":
        return _statements("f(x, empty(x.shape[0], x.dtype))", None, **names)
    if not case.writes:
        return _statements(f"f({arguments})", None, **names)
    names["o"] = data.out.reshape(x.shape)
    return _statements(f"f({arguments}, like(x))", f"f({arguments}, o)", **names)


# ---- JAX ----------------------------------------------------------------------------------------------------------


def jax(case: Case, data: Data, threads: int) -> Statements:
    import jax as library
    import jax.numpy as jnp
    from jax import nn
    from jax.scipy.special import logsumexp

    library.config.update("jax_enable_x64", True)
    axis = case.axis

    def cross_entropy(x, y):
        of_label = jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).squeeze(axis)
        return (logsumexp(x, axis) - of_label).mean()

    def nll_loss(logp, y):
        return -jnp.take_along_axis(logp, jnp.expand_dims(y, axis), axis).mean()

    def binary_cross_entropy(p, t):
        return -(t * jnp.log(p) + (1 - t) * jnp.log1p(-p)).mean()

    def binary_cross_entropy_with_logits(x, t):
        return (jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))).mean()

    def softmax_topk(x):
        return tuple(library.lax.top_k(nn.softmax(x, axis), TOP))

    def token_logprobs(x, y):
        logp = nn.log_softmax(x, axis)
        at_label = jnp.take_along_axis(logp, jnp.expand_dims(y, axis), axis)
        top, place = library.lax.top_k(logp, TOP)
        entropy = -(jnp.exp(logp) * logp).sum(axis)
        return at_label.squeeze(axis), place[..., 0], 1 + (logp > at_label).sum(axis), entropy, top, place

    transforms = {
        "softmax_topk": softmax_topk,
        "softmax": partial(nn.softmax, axis=axis),
        "log_softmax": partial(nn.log_softmax, axis=axis),
        "logsumexp": partial(logsumexp, axis=axis),
        "sigmoid": nn.sigmoid,
    }
    losses = {
        "cross_entropy": cross_entropy,
        "nll_loss": nll_loss,
        "binary_cross_entropy": binary_cross_entropy,
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
        "token_logprobs": token_logprobs,
    }
    if case.op in transforms:
        f, code = transforms[case.op], "ready(f(x))"
    elif case.op in losses:
        f, code = losses[case.op], "ready(f(x, y))"
    elif case.op.endswith("_and_grad"):
        f, code = library.value_and_grad(losses[case.base]), "ready(f(x, y))"
    else:
        return {}
    names = {"x": jnp.asarray(data.x), "y": jnp.asarray(data.target), "ready": library.block_until_ready}
    return _statements(code, None, f=library.jit(f), **names)


# ---- ONNX Runtime -------------------------------------------------------------------------------------------------


def onnxruntime(case: Case, data: Data, threads: int) -> Statements:
    import onnxruntime as library
    from onnx import TensorProto, helper

    x, ndim = data.x, data.x.ndim
    operators = {
        "softmax": ("Softmax", {"axis": case.axis}),
        "log_softmax": ("LogSoftmax", {"axis": case.axis}),
        "logsumexp": ("ReduceLogSumExp", {"axes": [case.axis], "keepdims": 0}),
        "sigmoid": ("Sigmoid", {}),
        "cross_entropy": ("SoftmaxCrossEntropyLoss", {"reduction": "mean"}),
        "nll_loss": ("NegativeLogLikelihoodLoss", {"reduction": "mean"}),
    }
    losses = ("cross_entropy", "nll_loss")
    if case.op not in operators or case.dtype == "bfloat16" or (case.op in losses and (case.axis == 0 or ndim < 2)):
        return {}
    operator, attributes = operators[case.op]
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    inputs = [helper.make_tensor_value_info("x", element, x.shape)]
    if case.op in losses:
        inputs.append(helper.make_tensor_value_info("y", TensorProto.INT64, data.target.shape))
    node = helper.make_node(operator, [value.name for value in inputs], ["z"], **attributes)
    graph = helper.make_graph([node], "case", inputs, [helper.make_tensor_value_info("z", element, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = library.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    feed = {"x": x, "y": data.target} if len(inputs) > 1 else {"x": x}
    names: dict[str, Any] = {"run": session.run, "feed": feed, "fetch": ["z"]}
    if case.writes:
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("z", "cpu", 0, x.dtype.type, data.out.shape, data.out.ctypes.data)
        names |= {"run_bound": session.run_with_iobinding, "binding": binding, "o": data.out}
    return _statements(
        "run(fetch, feed)[0]",
        "run_bound(binding) or o" if case.writes else None,
        **names,
    )


PEERS: dict[str, Callable[[Case, Data, int], Statements]] = {
    "numpy": numpy,
    "scipy": scipy,
    "torch": torch,
    "numba": numba,
    "jax": jax,
    "onnxruntime": onnxruntime,
}
NAMES = {  # as they are written in tables and pictures
    "softloss": "softloss",
    "numpy": "NumPy",
    "scipy": "SciPy",
    "torch": "PyTorch",
    "numba": "Numba",
    "jax": "JAX",
    "onnxruntime": "ONNX Runtime",
}


def installed() -> list[str]:
    return [name for name in PEERS if importlib.util.find_spec(name)]
