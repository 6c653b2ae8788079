"""Constants that some frameworks add after a layer, put back into the layer they belong to.

Keras on torch convolves channels first, permutes, then adds the bias; its batch norm subtracts, multiplies and adds.
Rules that tell signs apart see one neuron with one bias only if the parts are one map again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoxai.attribution.lrp.arithmetic import Crossing
from geoxai.attribution.lrp.convolution import Convolution
from geoxai.attribution.lrp.dense import Dense
from geoxai.attribution.lrp.graph import Value
from geoxai.attribution.lrp.maps import Diagonal, channel_shape
from geoxai.attribution.lrp.nodes import DerivativeNode, MapNode, ScaleNode

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape

Order = tuple[int, ...]
MOST_AXES = 8


def order_of(func: Callable, args: tuple, kwargs: dict, axes: int) -> Order | None:
    """The order of axes that a permutation, whose first argument is a tensor of ``axes`` axes, leaves behind."""
    if not args or axes > MOST_AXES:
        return None
    probe = torch.empty(tuple(range(1, axes + 1)), device="meta")
    return tuple(size - 1 for size in func(probe, *args[1:], **kwargs).shape)


def with_constant(tape: Tape, value: Value, constant: Tensor, z: Tensor) -> Value | None:
    """The value of ``z = x + constant`` as one map with what made ``x``; None where that is no map to merge with."""
    return _bias_of_layer(tape, value, constant, z) or _shift_of_norm(tape, value, constant, z)


def _bias_of_layer(tape: Tape, value: Value, constant: Tensor, z: Tensor) -> Value | None:
    """Right after a weighted map without bias, axes permuted or not."""
    permuted, node = None, value.node
    if isinstance(node, DerivativeNode) and node.order is not None:
        permuted, node = node, node.inputs[0].node
    if not isinstance(node, MapNode) or not node.weighted:
        return None
    if permuted is not None and node.crossing.map.bias is not None:
        return None
    if node.crossing.z.dtype != z.dtype:
        return None
    order = tuple(range(z.ndim)) if permuted is None or permuted.order is None else permuted.order
    back = [order.index(axis) for axis in range(z.ndim)]
    bias = constant.reshape((1,) * (z.ndim - constant.ndim) + constant.shape).permute(back)
    if permuted is None:
        bias = constant if node.crossing.map.bias is None else node.crossing.map.bias + constant
    crossing = replace(
        node.crossing,
        map=replace(node.crossing.map, bias=bias),  # type: ignore[type-var]
        z=tape.keep(z.permute(back)),
        rectified=False,
    )
    merged = node.remade(crossing)
    tape.add(merged)
    merged.path = node.path
    merged.recurs = node.recurs or constant in tape.standing
    result = Value(merged, 0, crossing.z.shape, crossing.sample)
    if permuted is None:
        return result
    moved = DerivativeNode(
        permuted.op, permuted.how, (result,), permuted.leaves, permuted.outputs, permuted.samples, permuted.born
    )
    tape.add(moved)
    moved.path = permuted.path
    return Value(moved, 0, z.shape, value.sample)


def _shift_of_norm(tape: Tape, value: Value, constant: Tensor, z: Tensor) -> Value | None:
    """After ``(x - mean) * scale``: the three are one diagonal map, as batch norm is."""
    scaled = value.node
    if type(scaled) is not ScaleNode or not isinstance(scaled.constant, Tensor):
        return None
    shifted = scaled.inputs[0].node
    if not isinstance(shifted, MapNode) or not isinstance(shifted.crossing.map, Diagonal):
        return None
    before = shifted.crossing.map
    if before.bias is None or before.weight is not None or shifted.crossing.z.shape != z.shape:
        return None
    diagonal = Diagonal(scaled.constant, before.bias * scaled.constant + constant, tape.cache)
    crossing: Crossing = replace(shifted.crossing, map=diagonal, z=tape.keep(z), rectified=False)
    merged = MapNode("batch_norm", "norm", shifted.inputs, crossing)
    tape.add(merged)
    merged.path = scaled.path
    return Value(merged, 0, z.shape, value.sample)


def with_norm(tape: Tape, value: Value, scale: Tensor, shift: Tensor, z: Tensor, path: str) -> Value | None:
    """The value of a batch norm's result ``z = x * scale + shift`` as one map with the layer that made ``x``; None
    where no dense layer or convolution did.
    """
    node = value.node
    if not isinstance(node, MapNode) or not isinstance(node.crossing.map, Dense | Convolution):
        return None
    before = node.crossing.map
    if isinstance(before, Convolution):
        weight = _scaled(before, scale)
        shift = shift.reshape(channel_shape(z.ndim, 1))
        bias = shift if before.bias is None else before.bias * scale.reshape(channel_shape(z.ndim, 1)) + shift
    elif z.ndim == 2:
        weight, bias = before.weight * scale[:, None], shift if before.bias is None else before.bias * scale + shift
    else:
        return None
    crossing = replace(node.crossing, map=replace(before, weight=weight, bias=bias), z=tape.keep(z), rectified=False)
    folded = node.remade(crossing)
    tape.add(folded)
    folded.path = f"{node.path} > {path}"
    return Value(folded, 0, z.shape, crossing.sample)


def _scaled(layer: Convolution, scale: Tensor) -> Tensor:
    """Weights of a convolution times a factor per output channel."""
    if not layer.transposed:
        return layer.weight * scale.reshape(channel_shape(layer.weight.ndim, 0))
    inside = layer.weight.unflatten(0, (layer.groups, -1))
    factors = scale.reshape(layer.groups, 1, -1, *[1] * (layer.weight.ndim - 2))
    return (inside * factors).flatten(0, 1)
