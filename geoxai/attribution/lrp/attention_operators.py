"""Attention: its weights are gates held constant, relevance goes through the values they mix.

Signal-take-all on ``softmax(q k) @ v``: queries and keys get nothing, the values get everything, in the
shares the weights give, so attention is a conserving average (Arras et al. 2019; Ali et al. 2022). With preset
``attnlrp`` relevance crosses the weights as well, see ``products``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.gates import mix
from geoxai.attribution.lrp.graph import Refusal
from geoxai.attribution.lrp.operators import Call, operator
from geoxai.attribution.lrp.products import explains

STANDS = (
    "its values do not depend on the input, only its weights do",
    "use rules attnlrp, which explain the weights, or method gradient",
)


@operator("scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu")
def attention(call: Call) -> Any:
    """``softmax(q k / sqrt(d) + mask) @ v``."""

    def functional(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: Any = None, enable_gqa: bool = False,
    ) -> tuple:  # fmt: skip
        return query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa

    def flash(
        query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *,
        attn_mask: Any = None, scale: Any = None,
    ) -> tuple:  # fmt: skip
        return query, key, value, attn_mask, dropout_p, is_causal, scale, False

    plain = call.name.startswith("scaled")
    q, k, v, mask, dropout, causal, scale, shared_heads = call.bind(functional if plain else flash)
    if dropout > 0:
        raise Refusal("its dropout is in training mode", "call model.eval() first")
    if call.value(v) is None and not explains(call, "softmax"):
        raise Refusal(*STANDS)
    if shared_heads and v.shape[-3] != q.shape[-3]:
        times = q.shape[-3] // v.shape[-3]
        k, v = (call.through(torch.repeat_interleave, t, times, -3) for t in (k, v))
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    mixed, weights = _mixed(call, q, k, v, mask, scale)
    return mixed if plain else (mixed, weights.new_zeros(weights.shape[:-1]))


def _mixed(
    call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    """Values mixed by attention weights, and these."""
    if not explains(call, "softmax"):
        weights = _weights(q, k, mask, scale)
        return mix(call, v, weights, weights @ v), weights
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    scores = call.through(torch.mul, call.through(torch.matmul, q, call.through(torch.transpose, k, -1, -2)), factor)
    if mask is not None:
        hidden = ~mask if mask.dtype == torch.bool else torch.isneginf(mask)
        scores = call.through(torch.masked_fill, scores, hidden, -torch.inf)
        if mask.dtype != torch.bool:
            scores = call.through(torch.add, scores, mask.masked_fill(hidden, 0))
    weights = call.through(torch.softmax, scores, -1)
    return call.through(torch.matmul, weights, v), weights


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Attention weights; a boolean mask is True where a key takes part."""
    scores = (q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).nan_to_num(0.0)


@operator("multi_head_attention_forward")
def multi_head_attention(call: Call) -> Any:
    """What ``nn.MultiheadAttention`` computes, (length, batch, features), unless it adds keys of its own."""

    def parameters(
        query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any,
        in_proj_bias: Any, bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor,
        out_proj_bias: Any, training: bool = True, key_padding_mask: Any = None, need_weights: bool = True,
        attn_mask: Any = None, use_separate_proj_weight: bool = False, q_proj_weight: Any = None,
        k_proj_weight: Any = None, v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple:  # fmt: skip
        if any(t is not None for t in (bias_k, bias_v, static_k, static_v)) or add_zero_attn:
            raise Refusal("it adds keys and values of its own", "use bias_k=None and add_zero_attn=False")
        if training and dropout_p > 0:
            raise Refusal("its dropout is in training mode", "call model.eval() first")
        projections = (
            (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)
        )
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        masks = attn_mask, key_padding_mask
        out = out_proj_weight, out_proj_bias
        return (query, key, value), num_heads, projections, biases, out, masks, need_weights, average_attn_weights

    signals, heads, projections, biases, out, (mask, padding), need_weights, average = call.bind(parameters)
    if call.value(signals[2]) is None and not explains(call, "softmax"):
        raise Refusal(*STANDS)

    crossed = (call.through if explains(call, "softmax") else _plainly,) * 2 + (call.through,)

    def projected(run: Callable, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_heads = run(torch.unflatten, run(F.linear, x, weight, bias), -1, (heads, -1))
        return run(torch.movedim, of_heads, 0, -2)

    q, k, v = (projected(*each) for each in zip(crossed, signals, projections, biases))
    mixed, weights = _mixed(call, q, k, v, _joint_mask(q, k, mask, padding), None)
    mixed = call.through(torch.movedim, mixed, -2, 0)
    result = call.through(F.linear, call.through(torch.flatten, mixed, -2), *out)
    if not need_weights:
        return result, None
    return result, call.through(torch.mean, weights, -3) if average else weights


def _plainly(func: Callable, *args: Any) -> Any:
    return func(*args)


def _joint_mask(q: Tensor, k: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """What is added to scores ([batch,] heads, queries, keys). Boolean masks are True where a key takes no part."""
    shapes = (
        (*q.shape[:-2], q.shape[-2], k.shape[-2])
        if mask is not None and mask.ndim == 3
        else (q.shape[-2], k.shape[-2]),
        (*q.shape[:-3], 1, 1, k.shape[-2]),
    )
    total = None
    for given, shape in zip((mask, padding), shapes):
        if given is None:
            continue
        if given.dtype == torch.bool:
            given = torch.zeros_like(given, dtype=q.dtype).masked_fill_(given, -torch.inf)
        given = given.reshape(shape)
        total = given if total is None else total + given
    return total
