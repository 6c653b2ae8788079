"""Relevance relative to a reference: the offset of an output as a bias of the last weighted map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoxai.attribution.lrp.arithmetic import Crossing
from geoxai.attribution.lrp.arrangements import arrange_again, arranged, put_back
from geoxai.attribution.lrp.graph import Node, Value
from geoxai.attribution.lrp.maps import Diagonal
from geoxai.attribution.lrp.nodes import MapNode
from geoxai.attribution.targets import Objective
from geoxai.errors import OptionError

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape


def offsets(objective: Objective) -> Tensor:
    """What to subtract from each output to reduce their weighted sum by the reference, shaped like the output."""
    assert objective.reference is not None
    weights = objective.coefficients.to(torch.float64)
    total = weights.reshape(len(weights), -1).sum(1)
    if bool((total == 0).any()):
        raise OptionError("the weights of the target sum to 0, so no reference can be set", option="reference")
    each = (objective.reference / total).reshape(-1, *[1] * (weights.ndim - 1))
    return (each * (weights != 0)).to(objective.coefficients.dtype)


def with_offset(
    tape: Tape, value: Value, z: Tensor, offset: Tensor
) -> tuple[Value, Tensor, tuple[Node, MapNode] | None]:
    """Where relevance of ``z - offset`` starts: its value, its numbers, and the last map with what stands for it.

    If no weighted map is last, such as behind a ReLU, the offset is an operation of its own.
    """
    chain, source = arranged(value)
    node, shape = source.node, put_back(chain, offset)
    if isinstance(node, MapNode) and node.weighted and node.crossing.z.shape == shape.shape:
        crossing = node.crossing
        bias = -shape if crossing.map.bias is None else crossing.map.bias - shape
        linear = replace(crossing.map, bias=bias)  # type: ignore[type-var]
        moved = node.remade(
            replace(crossing, map=linear, z=crossing.exact_z(torch.ones_like(crossing.z)) - shape, rectified=False)
        )
        start = arrange_again(tape, chain, Value(moved, 0, crossing.z.shape, crossing.sample))
        return start, z - offset, (node, moved)
    after = Crossing(Diagonal(None, -offset, tape.cache), z, z - offset, value.sample, value.nonnegative)
    added = MapNode("reference", "sum", (value,), after)
    tape.add(added)
    added.path = ""
    return Value(added, 0, z.shape, value.sample), after.z, None
