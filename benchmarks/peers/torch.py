"""PyTorch: its functions, and autograd for gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch as library
import torch.nn.functional as F
from cases import BACKWARD, DIVERGENCES, GATHERED, POS_WEIGHT, SMOOTHING, TEMPERATURE, TOP, TOP_P, Case, Data

from .statement import Statements, statements


def compute(case: Case, data: Data, threads: int) -> Statements:
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
    made = partial(statements, to_numpy=to_numpy, **names)
    if case.op in ("softmax", "log_softmax") and not case.arguments:
        return made(f"torch.{case.op}(x, {axis})", f"torch.{case.op}(x, {axis}, out=o)")
    if case.op in ("softmax", "log_softmax", "logsumexp"):
        return transform_with_arguments(case, data, made)
    if case.op == "sigmoid":
        return made("torch.sigmoid(x)", "torch.sigmoid(x, out=o)")
    if case.op in BACKWARD:
        return made(f"torch._{case.op}_data(y, x, {axis}, x.dtype)")
    if case.op == "softmax_topk":
        return made(f"tuple(torch.topk(torch.softmax(x, {axis}), {case.k}, {axis}))")
    if case.op == "token_logprobs":
        return made("f(x, y)", f=token_logprobs if case.k else label_scores)
    if case.op == "sample":
        return made("f(x, y)", f=sample_top_p if "top-p" in case.options else sample)
    if case.op == "log_normalize":
        return made(f"(torch.log_softmax(x, {axis}), torch.logsumexp(x, {axis}))")
    if case.op == "softmax_entropy":
        return made(f"torch.special.entr(torch.softmax(x, {axis})).sum({axis})")
    if case.op in GATHERED and case.soft:
        logarithm = "x" if case.op == "nll_loss" else "torch.log(x)"
        return made(f"(y * {logarithm}).sum({axis}).mean().neg()")
    loss, names = loss_of(case, data, names, tensor)
    if loss is None or case.op.endswith("_hess"):
        return {}
    if case.op.endswith("_and_grad"):
        return and_grad(case, loss, names, to_numpy)
    return statements("f(x, y)", None, to_numpy, f=loss, **names)


def loss_of(case: Case, data: Data, names: dict[str, Any], tensor: Callable[[Any], Any]) -> tuple[Any, dict[str, Any]]:
    """The loss as a function of logits and target, in the form that F's functions take: their class axis is fixed."""
    if case.base in DIVERGENCES:
        return {"kl_divergence": kl_divergence, "js_divergence": js_divergence}[case.base], names
    loss = {
        "sigmoid_focal_loss": sigmoid_focal_loss,
        "softmax_focal_loss": softmax_focal_loss,
        "fit_temperature": fit_temperature,
        "calibration_error": calibration_error,
        "brier_score": brier_score,
    }.get(case.base)
    if loss is not None:
        return loss, names
    loss = getattr(F, case.base, None)
    options: dict[str, Any] = {}
    if "smoothing" in case.options:
        options["label_smoothing"] = SMOOTHING
    if "weights" in case.options:
        options["weight"] = tensor(data.weights)
    if "none" in case.options:
        options["reduction"] = "none"
    if "pos-weight" in case.options:
        options["pos_weight"] = library.tensor(POS_WEIGHT, dtype=names["x"].dtype)
    if "temperature" in case.options:
        return lambda x, y: F.cross_entropy(x / TEMPERATURE, y, **options), names
    if case.axis == 0 and len(case.shape) == 2:
        names = names | {"x": names["x"].T}
    return partial(loss, **options) if options else loss, names


def kl_divergence(x, y):
    return F.kl_div(F.log_softmax(x, -1), F.log_softmax(y, -1), log_target=True, reduction="batchmean")


def js_divergence(x, y):
    q, p = F.softmax(x, -1), F.softmax(y, -1)
    mean = ((p + q) / 2).log()
    return (F.kl_div(mean, p, reduction="batchmean") + F.kl_div(mean, q, reduction="batchmean")) / 2


def sample(x, u):
    """By the given numbers; torch.multinomial would draw its own."""
    running = library.softmax(x, -1).double().cumsum(-1)
    index = library.searchsorted(running, u[:, None] * running[:, -1:], right=True)
    return index.squeeze(-1), library.log_softmax(x, -1).gather(-1, index).squeeze(-1)


def sample_top_p(x, u):
    """The usual way: sort, drop what follows the sum, draw from what is left."""
    value, order = library.sort(x, -1, descending=True)
    running = library.softmax(value, -1).cumsum(-1)
    value = value.masked_fill(running - library.softmax(value, -1) >= TOP_P, -library.inf)
    return sample(library.empty_like(x).scatter_(-1, order, value), u)


def sigmoid_focal_loss(x, y):
    """With gamma = 2 and without alpha, by the formula that is usual in PyTorch."""
    p = library.sigmoid(x)
    cost = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    return (cost * (1 - (p * y + (1 - p) * (1 - y))) ** 2).mean()


def softmax_focal_loss(x, y):
    logp = x.log_softmax(-1).gather(-1, y.unsqueeze(-1))
    return ((1 - logp.exp()) ** 2 * -logp).mean()


def fit_temperature(x, y):
    """L-BFGS on autograd's gradient, as temperature scaling is usually written."""
    t = library.ones(1, requires_grad=True)
    optimizer = library.optim.LBFGS([t], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(x / t, y)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    return t, loss


def calibration_error(x, y):
    """The usual 15 bins."""
    confidence, answer = library.softmax(x, -1).max(-1)
    place = library.ceil(confidence * 15).long()
    return library.bincount(place, (answer == y).to(x.dtype) - confidence).abs().sum() / y.numel()


def brier_score(x, y):
    p = library.softmax(x, -1)
    return (p - F.one_hot(y, x.shape[-1])).square().sum(-1).mean()


def transform_with_arguments(case: Case, data: Data, made: Callable[..., Statements]) -> Statements:
    function = f"torch.{case.op}"
    if "where" in case.options:
        hidden = library.from_numpy(~data.where)
        return made(f"{function}(x.masked_fill(hidden, float('-inf')), {case.axis})", hidden=hidden)
    if "temperature" in case.options:
        return made(f"{function}(x / {TEMPERATURE}, {case.axis})")
    if "b" in case.options:
        log_b = library.from_numpy(data.b).log()  # PyTorch has no weights: their logarithms are added
        return made(f"{function}(x + log_b, {case.axis})", log_b=log_b)
    return made(f"{function}(x, {case.axis})")


def token_logprobs(x, y):
    logp = x.log_softmax(-1)
    at_label = logp.gather(-1, y.unsqueeze(-1))
    top, place = logp.topk(TOP, -1)
    entropy = -(logp.exp() * logp).sum(-1)
    return at_label.squeeze(-1), place[..., 0], 1 + (logp > at_label).sum(-1), entropy, top, place


def label_scores(x, y):
    """token_logprobs without the best tokens."""
    logp = x.log_softmax(-1)
    at_label = logp.gather(-1, y.unsqueeze(-1))
    entropy = -(logp.exp() * logp).sum(-1)
    return at_label.squeeze(-1), logp.argmax(-1), 1 + (logp > at_label).sum(-1), entropy


def and_grad(
    case: Case, loss_of: Callable[..., Any], names: dict[str, Any], to_numpy: Callable[[Any], Any]
) -> Statements:
    """The form without out= uses autograd; the one with out= computes the same by hand, in less memory."""
    x, y = names["x"], names["y"]
    turned = case.axis == 0 and len(case.shape) == 2
    leaf = (x.T if turned else x).detach().requires_grad_()
    logits = leaf.T if turned else leaf

    def fresh() -> Any:
        leaf.grad = None
        loss = loss_of(logits, y)
        (loss.sum() if loss.ndim else loss).backward()
        return loss, leaf.grad

    def cross_entropy(out: Any) -> Any:
        with library.no_grad():
            x = leaf.detach()
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
    }.get("" if case.arguments else case.base)
    return statements("f()", "g(o)" if by_hand else None, to_numpy, f=fresh, g=by_hand, o=names["o"])
