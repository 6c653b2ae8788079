"""Constants added after a layer, put back into the layer they belong to, and norms written out as one map.

A bias may be added behind reshapes and permutations, as exported programs and Keras on torch do; a batch norm written
out subtracts, multiplies and adds. Rules that tell signs apart see one neuron with one bias only if the parts are one
map again. A difference ``x - c`` behind a layer is the layer's bias, unless a product by channels follows: then it
begins a norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoxai.attribution.lrp.arithmetic import Crossing
from geoxai.attribution.lrp.arrangements import Chain, arrange_again, arranged, compressed, put_back
from geoxai.attribution.lrp.convolution import Convolution
from geoxai.attribution.lrp.dense import Dense, Product
from geoxai.attribution.lrp.further_maps import Contraction
from geoxai.attribution.lrp.graph import Value
from geoxai.attribution.lrp.maps import Diagonal, LinearMap, channel_shape
from geoxai.attribution.lrp.nodes import MapNode

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape

Order = tuple[int, ...]
MOST_AXES = 8


@dataclass(frozen=True)
class PartOfNorm:
    """A value that may be a part of a norm written out: ``x * scale + shift`` of a tensor ``a`` with value ``value``;
    a difference ``x - mean`` has no scale yet, a product no shift.
    """

    value: Value
    a: Tensor
    scale: Tensor | None
    shift: Tensor | None


def order_of(func: Callable, args: tuple, kwargs: dict, axes: int) -> Order | None:
    """The order of axes that a permutation, whose first argument is a tensor of ``axes`` axes, leaves behind."""
    if not args or axes > MOST_AXES:
        return None
    probe = torch.empty(tuple(range(1, axes + 1)), device="meta")
    return tuple(size - 1 for size in func(probe, *args[1:], **kwargs).shape)


def with_constant(tape: Tape, x: Tensor, constant: Tensor, z: Tensor, difference: bool = False) -> Value | None:
    """The value of ``z = x + constant`` as one map with what made ``x``; None where that is no map to merge with.

    ``difference``: it was written ``x - c``, which may be the beginning of a norm written out.
    """
    value = tape.value(x)
    assert value is not None
    before = None if value.node is None else tape.parts.get(value.node)
    if before is not None and before.scale is not None:
        shift = constant if before.shift is None else before.shift + constant
        return _norm_of_parts(tape, replace(before, shift=shift), z)
    merged = _bias_of_layer(tape, value, constant, z)
    if merged is not None and difference:
        note_difference(tape, merged, x, constant)
    return merged


def negated(tape: Tape, value: Value, z: Tensor) -> Value | None:
    """The value of ``z = -x`` as one map with the layer that made ``x``: its weights and bias change sign."""
    chain, source = arranged(value)
    node = source.node
    if not isinstance(node, MapNode) or not node.weighted or node.crossing.z.dtype != z.dtype:
        return None
    before = node.crossing.map
    if not isinstance(before, Dense | Product | Convolution | Contraction):
        return None
    linear = replace(before, weight=-before.weight, bias=None if before.bias is None else -before.bias)
    return _in_place_of(tape, node, chain, linear, z, node.recurs)


def _bias_of_layer(tape: Tape, value: Value, constant: Tensor, z: Tensor) -> Value | None:
    """Behind a weighted map, whether its result was arranged in another way or not."""
    chain, source = arranged(value)
    node = source.node
    if not isinstance(node, MapNode) or not node.weighted or node.crossing.z.dtype != z.dtype:
        return None
    bias = put_back(chain, constant)
    if any(link.order is None for link in chain):
        bias = compressed(bias, node.crossing.channel_axis if "conv" in node.groups else -1)
    before = node.crossing.map.bias
    linear = replace(node.crossing.map, bias=bias if before is None else before + bias)  # type: ignore[type-var]
    return _in_place_of(tape, node, chain, linear, z, node.recurs or constant in tape.standing)


def _in_place_of(tape: Tape, node: MapNode, chain: Chain, linear: LinearMap, z: Tensor, recurs: bool) -> Value:
    """The value of ``z`` with another map in place of that of ``node``, whose result ``chain`` arranged."""
    back = put_back(chain, z)
    crossing = replace(node.crossing, map=linear, z=tape.keep(back), rectified=False)
    merged = node.remade(crossing)
    tape.add(merged)
    merged.path, merged.recurs = node.path, recurs
    return arrange_again(tape, chain, Value(merged, 0, crossing.z.shape, crossing.sample))


def note_difference(tape: Tape, value: Value, x: Tensor, constant: Tensor) -> None:
    """Remember that ``value`` is ``x + constant``, written ``x - c``: it may begin a norm written out."""
    below = tape.value(x)
    assert below is not None
    assert value.node is not None
    tape.parts[value.node] = PartOfNorm(below, tape.keep(x), None, constant)


def note_scale(tape: Tape, value: Value, x: Tensor, factor: Tensor) -> None:
    """Remember that ``value`` is ``x * factor``: behind a layer it may begin a norm written out."""
    below = tape.value(x)
    assert below is not None
    assert value.node is not None
    before = None if below.node is None else tape.parts.get(below.node)
    if before is not None and before.scale is not None and before.shift is None:
        tape.parts[value.node] = replace(before, scale=before.scale * factor)
        return
    node = arranged(below)[1].node
    if isinstance(node, MapNode) and node.weighted:
        tape.parts[value.node] = PartOfNorm(below, tape.keep(x), factor, None)


def scaled(tape: Tape, value: Value, factor: Tensor, z: Tensor) -> Value | None:
    """The value of ``z = x * factor`` where ``x`` is a difference ``y - mean`` or a norm written out already; None
    where it is neither.
    """
    before = None if value.node is None else tape.parts.get(value.node)
    if before is None or before.shift is None:
        return None
    scale = factor if before.scale is None else before.scale * factor
    return _norm_of_parts(tape, replace(before, scale=scale, shift=before.shift * factor), z)


def _norm_of_parts(tape: Tape, part: PartOfNorm, z: Tensor) -> Value | None:
    """A norm written out, ``z = x * scale + shift``, as one map; None where it is none."""
    scale, shift, below = part.scale, part.shift, part.value
    if (
        scale is None
        or shift is None
        or below.shape != z.shape
        or part.a.dtype != z.dtype
        or not _of_channels(scale, shift, z.ndim)
    ):
        return None
    path = tape.module_path()
    value = _folded(tape, below, scale, shift, z, path) if tape.rules.folds(path) else None
    if value is None:
        crossing = Crossing(
            Diagonal(scale, shift.reshape((1,) * (z.ndim - shift.ndim) + shift.shape), tape.cache), part.a,
            tape.keep(z), below.sample, below.nonnegative, tape.input_channels, channel_axis=z.ndim - 1,
            norm=below.norm,
        )  # fmt: skip
        node = MapNode("batch_norm", "norm", (below,), crossing)
        tape.add(node)
        node.path = path
        value = Value(node, 0, z.shape, below.sample)
    assert value.node is not None
    tape.parts[value.node] = part
    return value


def _of_channels(scale: Tensor, shift: Tensor, axes: int) -> bool:
    """Whether both vary along one and the same axis of a tensor with so many axes."""
    if max(scale.ndim, shift.ndim) > axes:
        return False
    varying = [{axis - t.ndim for axis, size in enumerate(t.shape) if size > 1} for t in (scale, shift)]
    return len(varying[0]) == 1 and varying[1] <= varying[0]


def _folded(tape: Tape, below: Value, scale: Tensor, shift: Tensor, z: Tensor, path: str) -> Value | None:
    """A norm written out as one map with the layer before it, whose result may be arranged in another way."""
    chain, source = arranged(below)
    node = source.node
    if any(link.order is None for link in chain) or not isinstance(node, MapNode):
        return None
    channels = node.crossing.z.shape[axis := 1 if "conv" in node.groups else -1]
    wholes = [put_back(chain, t.reshape((1,) * (z.ndim - t.ndim) + t.shape)) for t in (scale, shift)]
    if any(whole.numel() not in (1, whole.shape[axis]) for whole in wholes):
        return None
    factors, shifts = (whole.reshape(-1).expand(channels) for whole in wholes)
    value = with_norm(tape, source, factors, shifts, put_back(chain, z), path)
    return None if value is None else arrange_again(tape, chain, value)


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
