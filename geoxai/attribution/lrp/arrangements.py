"""Operations that put every value in another place and do nothing else: reshapes, permutations, flips.

What is done to a map's result behind them (a bias added, a sign changed, relevance started) is done to the map itself:
a layer is one neuron per output however its result is arranged on the way.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoxai.attribution.calls import names_in
from geoxai.attribution.lrp.graph import Value
from geoxai.attribution.lrp.nodes import DerivativeNode

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape

KEEP_ORDER = names_in(
    "squeeze unsqueeze view reshape flatten unflatten ravel contiguous clone to float double detach dropout alias"
)

Chain = tuple[DerivativeNode, ...]


def arranged(value: Value) -> tuple[Chain, Value]:
    """What arranged ``value``, last first, and the value that was arranged. The chain is empty where nothing did."""
    chain: list[DerivativeNode] = []
    while isinstance(value.node, DerivativeNode) and _one_to_one(value.node):
        chain.append(value.node)
        value = value.node.inputs[0]
    return tuple(chain), value


def put_back(chain: Chain, tensor: Tensor) -> Tensor:
    """``tensor``, which broadcasts to the arranged values, as it was before; it broadcasts still. May be a view."""
    for node in chain:
        shape = node.outputs[0].shape
        tensor = tensor.reshape((1,) * (len(shape) - tensor.ndim) + tensor.shape)
        if node.order is not None:
            tensor = tensor.permute([node.order.index(axis) for axis in range(len(shape))])
        elif node.op in KEEP_ORDER:
            tensor = tensor.reshape(node.leaves[0].shape) if tensor.numel() == shape.numel() else _spread(node, tensor)
        else:
            tensor = _back(node, tensor.expand(shape))
    return tensor


def arrange_again(tape: Tape, chain: Chain, value: Value) -> Value:
    """``value`` through the same operations, which are recorded once more."""
    for node in reversed(chain):
        again = copy(node)
        again.inputs = (value,)
        path = again.path
        tape.add(again)
        again.path = path
        value = Value(again, 0, again.outputs[0].shape, again.samples[0])
    return value


def compressed(tensor: Tensor, keep: int) -> Tensor:
    """``tensor`` with the axes along which it does not vary shrunk to one, but for the axis ``keep``."""
    for axis in range(tensor.ndim):
        first = tensor.narrow(axis, 0, 1) if tensor.shape[axis] else tensor
        if axis != keep % tensor.ndim and torch.equal(tensor, first.expand_as(tensor)):
            tensor = first
    return tensor


def _one_to_one(node: DerivativeNode) -> bool:
    if node.born is not None or node.how != "index map" or len(node.leaves) != 1 or len(node.outputs) != 1:
        return False
    if node.outputs[0].numel() != node.leaves[0].numel():
        return False
    if node.order is not None or node.op in KEEP_ORDER:
        return True
    return bool((_back(node, torch.ones_like(node.outputs[0])) == 1).all())


def _spread(node: DerivativeNode, tensor: Tensor) -> Tensor:
    return tensor.expand(node.outputs[0].shape).reshape(node.leaves[0].shape)


def _back(node: DerivativeNode, tensor: Tensor) -> Tensor:
    leaf, output = node.leaves[0], node.outputs[0]
    return torch.autograd.grad(output, leaf, tensor.to(output.dtype), retain_graph=True)[0]
