"""A sum of weighted maps is one neuron: ``W x + b + U h + c`` is the same map as one of ``x`` and ``h`` joined.

The pre-activation of a recurrent cell written by hand is such a sum, one term perhaps behind a constant gate. Rules
that distinguish signs, or have a stabiliser, see the same as if it were written as one layer of ``[x, h]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geoxai.attribution.lrp.arithmetic import Crossing
from geoxai.attribution.lrp.convolution import Convolution
from geoxai.attribution.lrp.dense import Dense, Product
from geoxai.attribution.lrp.further_maps import Composed
from geoxai.attribution.lrp.gates import GateNode
from geoxai.attribution.lrp.graph import Value
from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.maps import LinearMap, per_channel
from geoxai.attribution.lrp.nodes import WEIGHTED, DerivativeNode, MapNode, record_index
from geoxai.attribution.lrp.rules import Rule, ZBox
from geoxai.attribution.lrp.tape import Tape


@dataclass(frozen=True)
class Term:
    """One map of a sum, of an input of ``shape``; the gate (>= 0), if any, is constant."""

    map: LinearMap
    shape: torch.Size
    gate: Tensor | None = None

    def gated(self, values: Tensor, part: str) -> Tensor:
        """Values of the output's shape behind the gate; its square if weights are squared."""
        if self.gate is None or part == "ones":
            return values
        return values * (self.gate.square() if part == "square" else self.gate)


@dataclass
class Joined(Composed):
    """The sum of several maps of one input each, which lie one after the other along ``axis`` of the joined input."""

    terms: tuple[Term, ...]
    axis: int
    bias: Tensor | None
    signed: bool = True

    def _apply(self, x: Tensor, part: str) -> Tensor:
        outputs = [term.gated(term.map.apply(piece, part), part) for term, piece in zip(self.terms, self.split(x))]
        return torch.stack(torch.broadcast_tensors(*outputs)).sum(0)

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        return self.joined([term.map.transpose(term.gated(values, part), part) for term in self.terms])

    def joined(self, pieces: Sequence[Tensor]) -> Tensor:
        """Inputs of the terms as one."""
        return torch.cat([piece if self.axis < 0 else piece.flatten(1) for piece in pieces], self.axis)

    def split(self, x: Tensor) -> list[Tensor]:
        """The joined input as inputs of the terms."""
        if self.axis < 0:
            return list(x.split([term.shape[-1] for term in self.terms], -1))
        pieces = x.split([term.shape[1:].numel() for term in self.terms], 1)
        return [piece.reshape(-1, *term.shape[1:]) for piece, term in zip(pieces, self.terms)]


class JoinedNode(MapNode):
    """A sum of weighted maps as one map of all their inputs."""

    def __init__(self, op: str, group: str, inputs: tuple[Value, ...], crossing: Crossing):
        super().__init__(op, group, inputs, crossing)
        self.input_shape = crossing.a.shape

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        if isinstance(rule, ZBox):
            rule = replace(rule, low=self._bounds(rule.low), high=self._bounds(rule.high))
        (joined,) = super().backward(relevances, rule, ledger)
        assert joined is not None
        return list(self.map.split(joined))

    @property
    def map(self) -> Joined:
        """Its map, whose parts are the layers."""
        assert isinstance(self.crossing.map, Joined)
        return self.crossing.map

    def _bounds(self, bound: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        """Bounds per channel as bounds of each joined value."""
        if not isinstance(bound, tuple):
            return bound
        crossing = self.crossing
        each = [crossing.a.new_zeros(1, *term.shape[1:]) for term in self.map.terms]
        of_terms = [t + per_channel(bound, t, crossing.channels, crossing.channel_axis) for t in each]
        joined = self.map.joined(of_terms)
        return tuple(joined.reshape(-1, joined.shape[-1])[0].tolist())


@dataclass(frozen=True)
class Layer:
    """A weighted map as a term of a sum: its input, where that came from, and the node that represents it."""

    map: LinearMap
    a: Tensor
    inputs: tuple[Value, ...]
    node: MapNode
    gate: Tensor | None = None

    @property
    def bias(self) -> Tensor | None:
        """Its bias, behind the gate."""
        bias = self.map.bias
        return bias if bias is None or self.gate is None else bias * self.gate


def sum_of_maps(tape: Tape, values: Sequence[Value], z: Tensor, constant: Tensor | None = None) -> Value | None:
    """The value of ``z``, the sum of ``values`` and a constant, if each is a layer's result or a selection of it, all
    but one perhaps behind a gate; None where it is no such sum.
    """
    layers = [_layer(tape, value, z.shape) for value in values]
    if any(layer is None for layer in layers):
        return None
    found = [layer for layer in layers if layer is not None]
    nodes = [layer.node for layer in found]
    if any(node.crossing.z.dtype != z.dtype for node in nodes):
        return None
    group = next(iter(nodes[0].groups & WEIGHTED))
    if any(group not in node.groups for node in nodes) or all(layer.gate is not None for layer in found):
        return None
    samples = [node.crossing.sample for node in nodes]
    if any(sample.ndim != z.ndim or not torch.equal(sample, samples[0]) for sample in samples):
        return None
    bias = constant
    for layer in found:
        bias = layer.bias if bias is None else bias if layer.bias is None else bias + layer.bias
    linear, a = _joined(found, -1 if group == "linear" else 1, bias)
    if a is None:
        return None
    inputs = tuple(value for layer in found for value in layer.inputs)
    known = all(value.nonnegative for value in inputs)
    crossing = replace(
        nodes[0].crossing, map=linear, a=a, z=tape.keep(z), nonnegative=known, rectified=False, norm=None
    )
    joined = (
        JoinedNode(nodes[0].op, group, inputs, crossing)
        if isinstance(linear, Joined)
        else MapNode(nodes[0].op, group, inputs, crossing)
    )
    tape.add(joined)
    joined.path = " + ".join(dict.fromkeys(node.path for node in nodes))
    joined.recurs = any(node.recurs for node in nodes) or (constant is not None and constant in tape.standing)
    return Value(joined, 0, z.shape, crossing.sample)


def _joined(layers: Sequence[Layer], axis: int, bias: Tensor | None) -> tuple[LinearMap, Tensor | None]:
    """One map of the layers' inputs joined, and these; no input where they do not fit together."""
    terms: list[Term] = []
    pieces: list[Tensor] = []
    for layer in layers:
        if isinstance(layer.map, Joined):
            terms.extend(layer.map.terms)
            pieces.extend(layer.map.split(layer.a))
        else:
            terms.append(Term(layer.map, layer.a.shape, layer.gate))
            pieces.append(layer.a)
    if len(layers) == 1:
        return replace(layers[0].map, bias=bias), layers[0].a  # type: ignore[type-var]
    linear = Joined(tuple(terms), axis, bias)
    same = (piece.shape[:-1] == pieces[0].shape[:-1] if axis < 0 else len(piece) == len(pieces[0]) for piece in pieces)
    return linear, linear.joined(pieces) if all(same) else None


def _layer(tape: Tape, value: Value, shape: torch.Size) -> Layer | None:
    """What made ``value`` as a layer, if it did."""
    node, gate = value.node, None
    if isinstance(node, GateNode):
        gate = node.constant if isinstance(node.constant, Tensor) else None
        if gate is None or node.output_shapes[0] != node.input_shape or bool((gate < 0).any()):
            return None
        value = node.inputs[0]
        node = value.node
    selected = isinstance(node, DerivativeNode) and node.again is not None
    source = node.inputs[0].node if selected else node  # type: ignore[union-attr]
    if value.shape != shape or not isinstance(source, MapNode) or not source.weighted:
        return None
    crossing = source.crossing
    if not selected:
        fits = isinstance(crossing.map, Convolution) or _features(crossing.map) is not None
        fits = fits or (isinstance(crossing.map, Joined) and gate is None)
        return Layer(crossing.map, crossing.a, source.inputs, source, gate) if fits else None
    return _selected(tape, node, value.index, source, gate)  # type: ignore[arg-type]


def _selected(tape: Tape, node: DerivativeNode, index: int, source: MapNode, gate: Tensor | None) -> Layer | None:
    """A selection from the output of a dense layer: of its features, or of places along its other axes."""
    crossing, again = source.crossing, node.again
    weight = _features(crossing.map)
    if weight is None or again is None:
        return None
    features = torch.arange(crossing.z.shape[-1], device=crossing.z.device)
    picked = _all(again(features.expand(crossing.z.shape)))[index]
    if picked.ndim == crossing.z.ndim and picked.shape[:-1] == crossing.z.shape[:-1]:
        rows = picked[(0,) * (picked.ndim - 1)]
        number = torch.arange(crossing.z.shape[:-1].numel(), device=features.device).reshape(*crossing.z.shape[:-1], 1)
        places = _all(again(number.expand(crossing.z.shape)))[index]
        if not torch.equal(picked, rows.expand_as(picked)) or not torch.equal(places, number.expand_as(places)):
            return None  # other features at other places, or places moved
        bias = crossing.map.bias
        dense = Dense(weight[rows], None if bias is None else bias[..., rows], tape.cache)
        return Layer(dense, crossing.a, source.inputs, _standing_for(source, crossing.sample), gate)
    if picked.shape[-1:] != features.shape or not torch.equal(picked, features.expand(picked.shape)):
        return None
    if crossing.map.bias is not None and crossing.map.bias.numel() != len(features):
        return None
    below = tape.chosen.get(node)
    if below is None:  # the same selection from the layer's input, once for all its parts
        alias = crossing.a.detach()
        tape.track(alias, source.inputs[0])
        below = tape.chosen[node] = _all(record_index(tape, node.op, again, (alias,), {}))
    part = tape.value(below[index])
    if part is None:
        return None
    dense = crossing.map if isinstance(crossing.map, Dense) else Dense(weight, crossing.map.bias, tape.cache)
    return Layer(dense, below[index], (part,), _standing_for(source, part.sample), gate)


def _features(linear: LinearMap) -> Tensor | None:
    """Weights (outputs, inputs) of a dense layer; None for any other map."""
    if isinstance(linear, Dense):
        return linear.weight
    return linear.weight.T if isinstance(linear, Product) and not linear.left and linear.weight.ndim == 2 else None


def _standing_for(source: MapNode, sample: Tensor) -> MapNode:
    return source.remade(replace(source.crossing, sample=sample))


def _all(result: object) -> Sequence[Tensor]:
    return (result,) if isinstance(result, Tensor) else tuple(result)  # type: ignore[arg-type]
