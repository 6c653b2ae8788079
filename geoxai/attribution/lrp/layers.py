"""Layers by module path: the operation at a layer's output, for relevance there and for stopping the rules there."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from geoxai.attribution.lrp.graph import Node
from geoxai.attribution.lrp.nodes import MapNode
from geoxai.attribution.lrp.rules import Flat, Rule
from geoxai.attribution.lrp.tape import Tape
from geoxai.errors import OptionError
from geoxai.names import unknown


def layer_output(nodes: Collection[Node], path: str, option: str) -> Node:
    """The last operation among ``nodes`` (in forward order) that ran in the module at ``path``.

    Raises OptionError, naming what was likely meant, where relevance crosses no operation of such a module.
    """
    found = None
    for node in nodes:
        own = node.path.rpartition(" > ")[2]  # for a layer with a norm folded into it, the output is the norm's
        if own == path or own.startswith(f"{path}."):
            found = node
    if found is None or not path:
        crossed = dict.fromkeys(node.path for node in nodes if node.path)
        raise OptionError(
            f"relevance crosses no layer of that name: {unknown('layer', path, crossed)}",
            fix="name modules as model.named_modules() does",
            option=option,
        )
    return found


def flattened(
    tape: Tape,
    active: frozenset[Node],
    folded: tuple[Node, MapNode] | None,
    chosen: dict[Node, tuple[Rule, str]],
    path: str,
) -> dict[Node, tuple[Rule, str]]:
    """Rule flat for every operation with a choice that the output of the layer depends on, and for the layer's own."""
    original, combined = folded or (None, None)
    nodes = [combined if node is original and combined is not None else node for node in tape.nodes]
    nodes = [node for node in nodes if node in active]
    below = {layer_output(nodes, path, "flat_below")}
    for node in reversed(nodes):
        if node in below:
            below.update(_feeding(node))
    return {node: (Flat(), f"below {path}") for node in below if node in chosen}


def _feeding(node: Node) -> Iterable[Node]:
    return (value.node for value in node.inputs if value.node is not None)
