"""``rules: auto``: which preset suits a network, by the signs that its activations can have.

Decided once for a network and the output that is explained, from the operations alone and never from values, so that
all batches, units and windows of a run go by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable

from geoxai.attribution.lrp.graph import Node, Value
from geoxai.attribution.lrp.nodes import DerivativeNode, MapNode
from geoxai.attribution.lrp.presets import Automatic, RuleList


def decided(rules: RuleList, active: Iterable[Node]) -> RuleList:
    """The list that runs: ``rules``, or of an ``Automatic`` its choice for the operations that relevance crosses.

    That is ``nonnegative`` where layers lie behind layers and none of these takes a value that can be below 0, apart
    from the network's own input; else ``signed``. ``active`` are the operations, in forward order.
    """
    if not isinstance(rules, Automatic):
        return rules
    behind: set[Node] = set()  # a layer, at the operation itself or before it
    layers = 0
    for node in active:
        inner = any(value.node in behind for value in node.inputs)
        if _is_layer(node):
            layers += inner
            if any(_can_be_negative(value, behind) for value in node.inputs):
                return rules.signed
        if inner or _is_layer(node):
            behind.add(node)
    return rules.nonnegative if layers else rules.signed


def _can_be_negative(value: Value, behind: set[Node]) -> bool:
    """Whether an activation can be below 0. Values that no layer made are the network's input, not activations."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if one.nonnegative or one.node not in behind or id(one) in seen:
            continue
        seen.add(id(one))
        if not isinstance(one.node, DerivativeNode):
            return True
        waiting += one.node.inputs  # it moves or joins values: activations beside the input itself
    return False


def _is_layer(node: Node) -> bool:
    return isinstance(node, MapNode) and node.weighted
