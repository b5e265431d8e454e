"""JAX: expressions compiled by XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax as library
import jax.numpy as jnp
from cases import POS_WEIGHT, SMOOTHING, TEMPERATURE, Case, Data
from jax import nn
from jax.scipy.special import logsumexp, rel_entr

from .statement import Statements, statements


def compute(case: Case, data: Data, threads: int) -> Statements:
    library.config.update("jax_enable_x64", True)
    if case.op.endswith("_hess"):
        return {}
    functions = {**losses(case, data), **transforms(case, data), **backward(case), **scores(case)}
    function = functions.get(case.base)
    if function is None:
        return {}
    if case.op.endswith("_and_grad"):
        function = with_grad(case, function)
    names = {"x": jnp.asarray(data.x), "y": jnp.asarray(data.target), "ready": library.block_until_ready}
    return statements("ready(f(x, y))" if case.takes_target else "ready(f(x))", f=library.jit(function), **names)


def losses(case: Case, data: Data) -> dict[str, Callable[..., Any]]:
    axis, smoothing = case.axis, SMOOTHING * ("smoothing" in case.options)
    weights = jnp.asarray(data.weights) if "weights" in case.options else None

    def reduced(loss: Any) -> Any:
        return loss if "none" in case.options else loss.mean()

    def at_label(x: Any, y: Any) -> Any:
        return jnp.take_along_axis(x, jnp.expand_dims(y, axis), axis).squeeze(axis)

    def cross_entropy(x: Any, y: Any) -> Any:
        if "temperature" in case.options:
            x = x / TEMPERATURE
        if case.soft:
            return reduced(-(y * nn.log_softmax(x, axis)).sum(axis))
        loss = logsumexp(x, axis) - at_label(x, y)
        if smoothing:
            loss = (1 - smoothing) * loss + smoothing * (logsumexp(x, axis) - x.mean(axis))
        if weights is not None and "none" in case.options:
            return loss * weights[y]
        if weights is not None:
            return (loss * weights[y]).sum() / weights[y].sum()
        return reduced(loss)

    def nll_loss(logp: Any, y: Any) -> Any:
        return -(y * logp).sum(axis).mean() if case.soft else -at_label(logp, y).mean()

    def categorical_cross_entropy(p: Any, y: Any) -> Any:
        return nll_loss(jnp.log(p), y) if case.soft else -jnp.log(at_label(p, y)).mean()

    def kl_divergence(x: Any, y: Any) -> Any:
        logp = nn.log_softmax(y, axis)
        return (jnp.exp(logp) * (logp - nn.log_softmax(x, axis))).sum(axis).mean()

    def js_divergence(x: Any, y: Any) -> Any:
        q, p = nn.softmax(x, axis), nn.softmax(y, axis)
        return (rel_entr(p, (p + q) / 2) + rel_entr(q, (p + q) / 2)).sum(axis).mean() / 2

    def softmax_focal_loss(x: Any, y: Any) -> Any:
        logp = at_label(nn.log_softmax(x, axis), y)
        return ((1 - jnp.exp(logp)) ** 2 * -logp).mean()

    def sigmoid_focal_loss(x: Any, t: Any) -> Any:
        logp = nn.log_sigmoid(jnp.where(t == 1, x, -x))
        return ((1 - jnp.exp(logp)) ** 2 * -logp).mean()

    def brier_score(x: Any, y: Any) -> Any:
        return ((nn.softmax(x, axis) - nn.one_hot(y, x.shape[axis], axis=axis)) ** 2).sum(axis).mean()

    def binary_cross_entropy(p: Any, t: Any) -> Any:
        return -(t * jnp.log(p) + (1 - t) * jnp.log1p(-p)).mean()

    def binary_cross_entropy_with_logits(x: Any, t: Any) -> Any:
        if "pos-weight" in case.options:
            return (POS_WEIGHT * t * nn.softplus(-x) + (1 - t) * nn.softplus(x)).mean()
        return (jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))).mean()

    return {
        "cross_entropy": cross_entropy,
        "kl_divergence": kl_divergence,
        "js_divergence": js_divergence,
        "softmax_focal_loss": softmax_focal_loss,
        "sigmoid_focal_loss": sigmoid_focal_loss,
        "brier_score": brier_score,
        "nll_loss": nll_loss,
        "categorical_cross_entropy": categorical_cross_entropy,
        "binary_cross_entropy": binary_cross_entropy,
        "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    }


def with_grad(case: Case, loss: Callable[..., Any]) -> Callable[..., Any]:
    if "none" not in case.options:
        return library.value_and_grad(loss)

    def of_rows(x: Any, y: Any) -> Any:
        values, backward = library.vjp(lambda x: loss(x, y), x)
        return values, backward(jnp.ones_like(values))[0]

    return of_rows


def transforms(case: Case, data: Data) -> dict[str, Callable[..., Any]]:
    axis = case.axis
    where = jnp.asarray(data.where) if "where" in case.options else None
    b = jnp.asarray(data.b) if "b" in case.options else None
    scale = 1 / TEMPERATURE if "temperature" in case.options else None

    def scaled(x: Any) -> Any:
        return x if scale is None else x * scale

    return {
        "softmax": lambda x: nn.softmax(scaled(x), axis, where=where),
        "log_softmax": lambda x: nn.log_softmax(scaled(x), axis, where=where),
        "logsumexp": lambda x: logsumexp(x, axis, b, where=where),
        "sigmoid": nn.sigmoid,
        "log_normalize": lambda x: (nn.log_softmax(x, axis), logsumexp(x, axis)),
        "softmax_entropy": lambda x: -(nn.softmax(x, axis) * nn.log_softmax(x, axis)).sum(axis),
    }


def backward(case: Case) -> dict[str, Callable[..., Any]]:
    axis = case.axis
    return {
        "softmax_backward": lambda y, dy: y * (dy - (y * dy).sum(axis, keepdims=True)),
        "log_softmax_backward": lambda logy, dy: dy - jnp.exp(logy) * dy.sum(axis, keepdims=True),
    }


def scores(case: Case) -> dict[str, Callable[..., Any]]:
    axis = case.axis

    def softmax_topk(x: Any) -> Any:
        return tuple(library.lax.top_k(nn.softmax(x, axis), case.k))

    def token_logprobs(x: Any, y: Any) -> Any:
        logp = nn.log_softmax(x, axis)
        at_label = jnp.take_along_axis(logp, jnp.expand_dims(y, axis), axis)
        rank, entropy = 1 + (logp > at_label).sum(axis), -(jnp.exp(logp) * logp).sum(axis)
        if not case.k:
            return at_label.squeeze(axis), logp.argmax(axis), rank, entropy
        top, place = library.lax.top_k(logp, case.k)
        return at_label.squeeze(axis), place[..., 0], rank, entropy, top, place

    return {"softmax_topk": softmax_topk, "token_logprobs": token_logprobs}
