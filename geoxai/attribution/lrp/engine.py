"""Layer-wise relevance propagation: one forward pass onto a tape, a rule for every operation, one pass back per
target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geoxai.attribution.lrp.arrangements import arranged, put_back
from geoxai.attribution.lrp.automatic import decided
from geoxai.attribution.lrp.checking import nodes_are_checked
from geoxai.attribution.lrp.conservation import Conservation
from geoxai.attribution.lrp.dense import Dense, PerSampleDense
from geoxai.attribution.lrp.graph import Node, Value
from geoxai.attribution.lrp.keras_paths import keras_paths
from geoxai.attribution.lrp.layers import flattened
from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.mode import LrpMode
from geoxai.attribution.lrp.nodes import WEIGHTED, MapNode, RefusedNode
from geoxai.attribution.lrp.offsets import offsets, with_offset
from geoxai.attribution.lrp.presets import RuleList
from geoxai.attribution.lrp.rules import Fold, Rule
from geoxai.attribution.lrp.tape import Replay, Tape
from geoxai.attribution.lrp.unseen import Trail, check_unseen
from geoxai.attribution.lrp.weights import WeightCache
from geoxai.attribution.reading import PLAIN, Reading
from geoxai.attribution.steady import is_known, remember
from geoxai.attribution.targets import Objective, Output
from geoxai.errors import GeoxaiError, OptionError


@dataclass(frozen=True)
class RuleRow:
    """One line of the table of rules: what runs at one operation, and why."""

    op: str
    path: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    rule: str
    why: str


@dataclass(frozen=True)
class Forward:
    """A recorded forward pass."""

    tape: Tape
    output: Output
    value: Value


@dataclass(frozen=True)
class Plan:
    """How one target is propagated back: where relevance starts, and the rule of every operation it crosses."""

    start: Value
    relevance: Tensor
    active: frozenset[Node]
    rules: dict[Node, tuple[Rule, str]]
    folded: tuple[Node, MapNode] | None
    preset: str
    notes: tuple[str, ...] = ()

    def nodes(self, tape: Tape) -> list[Node]:
        """The nodes that are crossed, in forward order."""
        original, combined = self.folded or (None, None)
        nodes = [combined if node is original and combined is not None else node for node in tape.nodes]
        return [node for node in nodes if node in self.active]


def module_paths(model: object) -> dict[int, str]:
    """Dotted names of modules, parameters and buffers by id."""
    if not isinstance(model, torch.nn.Module):
        return {}
    paths = {id(module): name for name, module in model.named_modules()}
    paths.update({id(tensor): name for name, tensor in model.named_parameters()})
    paths.update({id(tensor): name for name, tensor in model.named_buffers()})
    paths.update(keras_paths(model))
    return paths


def forward(
    model: Callable,
    inputs: tuple[Tensor, ...],
    cache: WeightCache,
    start: str,
    rules: RuleList,
    reading: Reading = PLAIN,
    norms: Sequence[float | None] = (),
) -> Forward:
    """Run the network on a batch and record what happens to its inputs. Of ``rules`` those that join operations to one
    are applied here, all others in ``plan``. ``norms`` are no less than the Euclidean norms of the inputs.
    """
    known = is_known(model, inputs, "unseen")

    def record() -> tuple[Tape, LrpMode, Tensor]:
        try:
            return _run(model, inputs, cache, rules, reading, norms, None if known else Trail(), plain=False)
        except Replay:
            return _run(model, inputs, cache, rules, reading, norms, None if known else Trail(), plain=True)

    tape, mode, raw = record()
    closing = mode.before(raw) if start == "logit" else None
    output = Output(raw, raw) if closing is None else Output(closing[1], raw, closing[0])
    value = tape.value(output.values)
    if value is None:
        raise GeoxaiError(
            "the network's output does not depend on its input through torch operations",
            fix="TorchScript, torch.vmap and computations outside torch cannot be followed: use the plain module or"
            " torch.export",
        )
    if not output.values.ndim or len(output.values) != len(inputs[0]):
        raise OptionError(
            f"the network's output has shape {tuple(raw.shape)}, expected {len(inputs[0])} samples along its first"
            " axis",
            fix="say along which axis the network expects samples: sample_axis",
            option="sample_axis",
        )
    row = torch.arange(len(output.values), device=value.sample.device).reshape(-1, *[1] * (value.sample.ndim - 1))
    if bool(((value.sample != row) & (value.sample >= 0)).any()):
        raise GeoxaiError(
            "the network's output does not have its samples in the order of its input",
            fix="keep samples in their order, or give the network one at a time: batch_size: 1",
        )
    if mode.trail is not None:
        check_unseen(model, inputs, reading, raw, mode.trail, tape.paths, lambda: record()[1].trail or Trail())
        remember(model, inputs, "unseen")
    return Forward(tape, output, value)


def _run(
    model: Callable,
    inputs: tuple[Tensor, ...],
    cache: WeightCache,
    rules: RuleList,
    reading: Reading,
    norms: Sequence[float | None],
    trail: Trail | None,
    plain: bool,
) -> tuple[Tape, LrpMode, Tensor]:
    channels = inputs[0].shape[1] if inputs[0].ndim > 1 else 1
    tape = Tape(len(inputs[0]), cache, module_paths(model), channels, plain, rules)
    watched = [tape.watch(x, norm) for x, norm in zip(inputs, norms or [None] * len(inputs))]
    mode = LrpMode(tape, trail)
    try:
        with torch.no_grad(), mode:
            output = reading.run(model, watched)
    except Exception as error:
        if not type(error).__module__.startswith("torch._dynamo"):
            raise
        raise GeoxaiError(
            f"the network compiles a part of itself, which cannot be followed: {str(error).splitlines()[0]}",
            fix="write torch.cond and its like as Python's own control flow, flex_attention as"
            " scaled_dot_product_attention, and leave torch.compile out",
        ) from error
    tape.check_unwritten()
    tape.parts.clear()
    return tape, mode, output


def plan(recorded: Forward, objective: Objective, rules: RuleList, flat_below: str | None = None) -> Plan:
    """Where relevance of ``objective`` starts and which rule each operation gets; an error if one cannot be crossed.

    From the output of the module ``flat_below`` on down to the input, every operation with a choice gets rule flat.
    """
    tape, values = recorded.tape, recorded.output.values
    coefficients = objective.coefficients
    notes: tuple[str, ...] = ()
    start, folded = recorded.value, None
    relevance = coefficients if objective.unit else values * coefficients
    if objective.fold:
        folded = _fold(recorded.value, coefficients, values, tape.cache)
        if folded is None:
            notes = ("contrast: no dense layer or convolution is last, so relevance starts at both logits",)
        else:
            start = Value(folded[1], 0, folded[1].crossing.z.shape, folded[1].crossing.sample)
            relevance = torch.ones_like(folded[1].crossing.z) if objective.unit else folded[1].crossing.z
    if objective.reference is not None:
        start, z, folded = with_offset(tape, recorded.value, values, offsets(objective))
        relevance = coefficients.reshape(z.shape) * z
    active = _reached(start, tape, folded)
    listed = decided(rules, [node for node in tape.nodes if node in active or node is (folded and folded[0])])
    chosen = _choose(tape, active, folded, listed, "" if listed is rules else f", chosen by {rules.name}")
    if flat_below is not None:
        chosen |= flattened(tape, active, folded, chosen, flat_below)
    return Plan(start, relevance, active, chosen, folded, listed.name, notes)


def backward(
    recorded: Forward, planned: Plan, ledger: Ledger, last: bool, kept: dict[Node, Tensor] | None = None
) -> list[Tensor]:
    """Relevance of each input; ``last`` frees the tape on the way. Relevance at the output of the nodes that are keys
    of ``kept`` is put there.
    """
    tape = recorded.tape
    pending: dict[Node, list[Tensor | None]] = {}
    arrived: list[Tensor | None] = [None] * len(tape.inputs)
    check = Conservation(ledger) if nodes_are_checked() and not tape.cache.shortens else None

    def give(value: Value, relevance: Tensor | None) -> None:
        if relevance is None:
            return
        if check is not None:
            check.arrives(value, relevance)
        place = (
            arrived if value.node is None else pending.setdefault(value.node, [None] * len(value.node.output_shapes))
        )
        before = place[value.index]
        place[value.index] = relevance if before is None else before.add_(relevance)

    nodes = planned.nodes(tape)
    if last:
        tape.nodes.clear()
    with torch.no_grad():
        give(planned.start, planned.relevance.clone())
        while nodes:
            node = nodes.pop()
            relevances = pending.pop(node, None)
            if relevances is None:
                continue
            if kept is not None and node in kept and relevances[0] is not None:
                kept[node] = relevances[0].clone()  # rules overwrite the memory of what they pass on
            rule = planned.rules[node][0] if node in planned.rules else None
            if check is not None:
                check.starts(node)
            given = _apart(node.backward(relevances, rule, ledger))
            if check is not None:
                check.ends(node, given)
            for value, relevance in zip(node.inputs, given):
                give(value, relevance)
            if last:
                node.release()
    ledger.close()
    return [
        torch.zeros(value.shape, dtype=planned.relevance.dtype, device=planned.relevance.device) if r is None else r
        for value, r in zip(tape.inputs, arrived)
    ]


def _apart(relevances: list[Tensor | None]) -> list[Tensor | None]:
    """Relevance of several inputs, each in its own memory, so that the receiver may overwrite it."""
    seen: set[int] = set()
    apart: list[Tensor | None] = []
    for relevance in relevances:
        shared = relevance is not None and (
            relevance.data_ptr() in seen
            or any(n > 1 and step == 0 for n, step in zip(relevance.shape, relevance.stride()))
        )
        if relevance is not None:
            relevance = relevance.contiguous().clone() if shared else relevance
            seen.add(relevance.data_ptr())
        apart.append(relevance)
    return apart


def table(recorded: Forward, planned: Plan) -> tuple[RuleRow, ...]:
    """What runs at every operation that relevance crosses, in forward order."""
    rows = []
    for node in planned.nodes(recorded.tape):
        rule, why = planned.rules.get(node, (None, f"{node.how}: no choice of rule"))
        shapes = tuple(node.input_shape), tuple(node.output_shapes[0])
        rows.append(RuleRow(node.op, node.path, *shapes, node.how if rule is None else str(rule), why))
    return tuple(rows)


def _fold(value: Value, coefficients: Tensor, values: Tensor, cache: WeightCache) -> tuple[Node, MapNode] | None:
    """The last weighted map and its combination by ``coefficients`` of the output's ``values``, one output per sample;
    None where there is none.
    """
    chain, source = arranged(value)
    node = source.node
    if not isinstance(node, MapNode) or not node.weighted or len(node.inputs) > 1:
        return None
    crossing, samples = node.crossing, len(values)
    below = node.inputs[0].sample
    if len(crossing.a) != samples or any(size > 1 for size in below.shape[1:]):
        return None  # its samples lie along another axis
    back = put_back(chain, coefficients.to(crossing.z.dtype)).expand(crossing.z.shape)
    bias = crossing.map.bias
    if bias is not None:
        numbers = crossing.sample.expand(back.shape).flatten()
        bias = bias.new_zeros(samples).index_add_(0, numbers, (back * bias).flatten()).unsqueeze(1)
    weight, connected = crossing.map.transpose(back.contiguous()), None
    if not isinstance(crossing.map, Dense):
        connected = (crossing.map.transpose((back != 0).to(back.dtype), "ones") != 0).to(back.dtype)
    z = (coefficients * values).to(crossing.z.dtype).reshape(samples, -1).sum(1, keepdim=True)
    sample = torch.arange(samples, device=z.device).unsqueeze(1)
    linear = PerSampleDense(weight, bias, cache, connected)
    combined = MapNode(
        node.op,
        next(iter(node.groups & WEIGHTED)),
        node.inputs,
        replace(crossing, map=linear, z=z, sample=sample, rectified=False),
    )
    combined.path = node.path
    return node, combined


def _reached(start: Value, tape: Tape, folded: tuple[Node, MapNode] | None) -> frozenset[Node]:
    """The nodes that relevance from ``start`` reaches."""
    reached = set() if start.node is None else {start.node}
    for node in reversed(tape.nodes):
        if folded is not None and node is folded[0]:
            node = folded[1]
        if node not in reached:
            continue
        if isinstance(node, RefusedNode):
            shape = tuple(node.input_shape)
            raise GeoxaiError(
                f"relevance cannot cross {node.op} at {node.path or 'the network itself'}, input shape {shape}:"
                f" {node.refusal}",
                fix=node.remedy,
            )
        reached.update(value.node for value in node.inputs if value.node is not None)
    return frozenset(reached)


def _choose(
    tape: Tape, active: frozenset[Node], folded: tuple[Node, MapNode] | None, rules: RuleList, how: str
) -> dict[Node, tuple[Rule, str]]:
    """The rule of every active operation that has a choice, by the first line that matches; ``how`` ends the reason."""
    nodes = [folded[1] if folded is not None and node is folded[0] else node for node in tape.nodes]
    nodes = [node for node in nodes if node in active]
    with_map_above: set[Node] = set()
    for node in nodes:
        if node.recurs or any(v.node in with_map_above or _is_weighted(v.node) for v in node.inputs):
            with_map_above.add(node)
    with_map_below: set[Node] = set()
    for node in reversed(nodes):
        if node in with_map_below or _is_weighted(node):
            with_map_below.update(v.node for v in node.inputs if v.node is not None)
    chosen = {}
    for node in nodes:
        if not node.groups:
            continue
        groups = node.groups
        if _is_weighted(node):
            groups |= {
                name for name, other in (("first", with_map_above), ("last", with_map_below)) if node not in other
            }
        line = rules.find(groups, node.path)
        if line is None:
            raise OptionError(
                f"no line of rules matches {node.op} at {node.path or 'the network itself'}",
                fix="end the list with a line {match: all, rule: ...}",
                option="rules",
            )
        if not node.allows(line.rule):
            raise OptionError(
                f"rule {line.rule.name!r} does not apply to {node.op} at {node.path or 'the network itself'}",
                fix="fold is for batch norms in eval right behind a dense layer or convolution: drop it"
                if isinstance(line.rule, Fold)
                else "give sums, averages and norms another rule, such as {match: all, rule: z_plus}",
                option="rules",
            )
        chosen[node] = (line.rule, f"{line} of {rules.name}{how}")
    return chosen


def _is_weighted(node: Node | None) -> bool:
    return isinstance(node, MapNode) and node.weighted
