"""Products and quotients of two signals: one of them is a gate, held constant, the other takes all the relevance.

Signal-take-all (Arras et al. 2017, 2019): in ``gate * signal`` relevance goes to the signal, so nothing is lost and
what the gate depends on gets none. Which factor is the gate is decided by its origin, never by its values: it
came through a sigmoid, a hard sigmoid or a softmax, or through a function that relevance cannot cross and that is
positive (exp, rsqrt, reciprocal), and since then only through index operations, constants, averages and sums of gates.
Attention weights are gates by that rule. Where neither factor is such a gate, one that came through a function that
saturates or is positive (tanh, relu6, clamp to positive values, softplus) is, if the other did not: a hard sigmoid
written out, tanh scores. A factor that is made of the other element by element makes the product an activation of
that (``x * tanh(softplus(x))``). Where both factors are gates or neither is, which takes the relevance is not defined
and the product is refused. In a quotient the divisor is the gate: the standard deviation of a norm written out (the
LN-rule of Ali et al. 2022).

Under a rule list with lines for products and softmaxes (preset ``attnlrp``) attention weights are no gates, and
products without a gate are not refused: see ``products``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.calls import names_in
from geoxai.attribution.lrp.dense import Product
from geoxai.attribution.lrp.further_maps import Mixture
from geoxai.attribution.lrp.graph import Refusal, Value
from geoxai.attribution.lrp.maps import Diagonal
from geoxai.attribution.lrp.nodes import DerivativeNode, MapNode, PassNode, RefusedNode, ScaleNode, SumNode, record_map
from geoxai.attribution.lrp.operators import Call, broadcast_samples, operator
from geoxai.attribution.lrp.products import MIXES, explains, record_product, record_softmax

GATES = names_in("sigmoid hardsigmoid softmax softmin rsqrt reciprocal exp")
SHIFTED = names_in("tanh erf")  # one plus these is a gate: a sigmoid by another name, as GELU writes it
BY_ELEMENT = names_in("exp expm1 log log1p erf where mul")  # besides activations and constants
SATURATED = names_in("tanh hardtanh relu6 softplus")  # gates beside what is none; clamp to values >= 0 as well
CLAMPED = names_in("clamp clip hardtanh")
UNDEFINED = (
    "put a line {match: product, rule: uniform} first in the list of rules, or use rules attnlrp: both factors then"
    " take half"
)
ARRANGED = frozenset({"average", "upsample"})


class GateNode(ScaleNode):
    """A product of a signal with a gate: the signal takes all."""

    how = "signal takes all"


def is_gate(value: Value | None, saturated: bool = False) -> bool:
    """Whether a value came through a gating function, see the top of this module; one that only saturates counts with
    ``saturated``.
    """
    node = None if value is None else value.node
    if node is None or value is None:
        return False
    if node.op in GATES and isinstance(node, PassNode | RefusedNode):
        return True
    if saturated and isinstance(node, PassNode):
        return node.op in SATURATED or (node.op in CLAMPED and value.nonnegative)
    if isinstance(node, RefusedNode):
        return node.op == "mul" and _are_gates(node.inputs, saturated)
    if isinstance(node, SumNode):
        return node.op == "add" and _are_gates(node.inputs, saturated)
    if isinstance(node, MapNode):
        if isinstance(node.crossing.map, Diagonal):
            bias = node.crossing.map.bias
            below = node.inputs[0].node
            if bias is not None and below is not None and below.op in SHIFTED:
                return bool((bias >= 1).all())
            return is_gate(node.inputs[0], saturated)
        return bool(node.groups & ARRANGED) and is_gate(node.inputs[0], saturated)
    return isinstance(node, DerivativeNode | ScaleNode) and _are_gates(node.inputs, saturated)


def _are_gates(values: tuple[Value, ...], saturated: bool) -> bool:
    return all(is_gate(value, saturated) for value in values)


def signal_first(call: Call, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(signal, gate) of two factors that depend on the input."""
    for saturated in (False, True):
        gates = is_gate(call.value(a), saturated), is_gate(call.value(b), saturated)
        if gates[0] != gates[1]:
            return (b, a) if gates[0] else (a, b)
        if all(gates):
            break
    which = "both factors are gates" if all(gates) else "both factors depend on the input and neither is a gate"
    raise Refusal(f"{which}, so which takes the relevance is not defined", UNDEFINED)


def _is_made_of(value: Value | None, other: Value | None) -> bool:
    """Whether ``value`` is ``other`` after functions of one element, and constants."""
    if value is None or value is other:
        return value is other
    node = value.node
    by_element = (
        isinstance(node, PassNode | ScaleNode)
        or (isinstance(node, MapNode) and isinstance(node.crossing.map, Diagonal))
        or (isinstance(node, RefusedNode | DerivativeNode) and node.op in BY_ELEMENT)
    )
    if node is None or not by_element:
        return False
    return all(below.shape == value.shape and _is_made_of(below, other) for below in node.inputs)


def gated_product(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """``a * b`` of two signals."""
    first, second = call.value(a), call.value(b)
    if _is_made_of(second, first):
        signal, gate = a, b
    elif _is_made_of(first, second):
        signal, gate = b, a
    elif explains(call, "product") and is_gate(first) == is_gate(second):
        samples = [value.sample for value in (first, second) if value is not None]
        return record_product(call, torch.mul, (a, b), broadcast_samples(call, samples, max(a.ndim, b.ndim)))
    else:
        signal, gate = signal_first(call, a, b)
    return take_all(call, signal, gate)


def take_all(call: Call, signal: Tensor, gate: Tensor) -> Tensor:
    """The result of an elementwise product or quotient; relevance of it is the signal's."""
    value, other = call.value(signal), call.value(gate)
    assert value is not None
    assert other is not None
    z = call.run()
    known = [v.sample for v in (value, other) if not bool((v.sample < 0).all())]
    sample = broadcast_samples(call, known or [value.sample], z.ndim)
    node = GateNode(call.name, value, call.tape.keep(gate) if call.name == "mul" else 1.0, z.shape, sample)
    call.tape.add(node)
    call.tape.track(z, Value(node, 0, z.shape, sample, value.nonnegative and other.nonnegative))
    return z


def between(call: Call, one: Tensor, gated: Tensor) -> tuple[Tensor, Tensor] | None:
    """The summands ``gate * other`` and ``(1 - gate) * one`` of what is written ``one + gate * (other - one)``, as some
    recurrent cells are; None for any other sum. Rules that distinguish signs would see a difference that is not there.
    """
    value, node = call.value(one), getattr(call.value(gated), "node", None)
    if not isinstance(node, GateNode) or not isinstance(node.constant, Tensor) or node.constant.shape != one.shape:
        return None
    gate, difference = node.constant, node.inputs[0].node
    if isinstance(difference, SumNode):
        if difference.inputs[-1] is not value or not torch.equal(difference.terms[-1], -one):
            return None
        other = difference.terms[0].detach()
        call.tape.track(other, difference.inputs[0])
        of_other = call.through(torch.mul, other, gate)
    elif isinstance(difference, MapNode) and isinstance(difference.crossing.map, Diagonal):
        negative = difference.crossing.map
        if difference.inputs[0] is not value or negative.weight is None or negative.bias is None:
            return None
        if bool((negative.weight != -1).any()):
            return None
        of_other = negative.bias * gate  # a first state
    else:
        return None
    return of_other, call.through(torch.mul, one, 1 - gate)


def mix(call: Call, values: Tensor, gate: Tensor, z: Tensor, right: bool = False) -> Tensor:
    """``z = gate @ values`` (or ``values @ gate``): the values take the relevance, in the shares the gates give."""
    value = call.value(values)
    assert value is not None
    axis = -1 if right else -2
    if values.ndim < 2 or gate.ndim < 2 or value.sample.shape[axis] > 1:
        raise Refusal(*MIXES)
    sample = value.sample.reshape((1,) * (z.ndim - values.ndim) + value.sample.shape)
    stands = call.tape.keep(gate)
    if bool((gate < 0).any()):  # a constant was subtracted from the gate
        product = Product(stands, values.shape, not right, call.tape.cache)
        return record_map(call.tape, call.name, "linear", values, product, z, sample)
    mixture = Mixture(stands, values.shape, right)
    return record_map(call.tape, call.name, "average", values, mixture, z, sample, value.nonnegative)


def gated_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of two signals, one of them attention weights."""
    if explains(call, "product"):
        samples = [value.sample for value in (call.value(a), call.value(b)) if value is not None]
        if min(a.ndim, b.ndim) < 2 or any(size > 1 for sample in samples for size in sample.shape[-2:]):
            raise Refusal(*MIXES)
        return record_product(call, torch.matmul, (a, b), broadcast_samples(call, samples, max(a.ndim, b.ndim)))
    values, gate = signal_first(call, a, b)
    return mix(call, values, gate, call.run(), right=values is a)


@operator("softmax log_softmax logsumexp softmin")
def softmax(call: Call) -> Any:
    """Stepped over at the end of a network (see ``closing``); inside it, a gate, which relevance does not cross unless
    a rule list has a line for softmaxes.
    """
    if call.name == "softmax" and explains(call, "softmax"):
        return record_softmax(call)
    raise Refusal(
        "a softmax inside the network is a gate: relevance goes through what it multiplies, not through itself",
        "explain the values before it (start: logit), or use rules attnlrp",
    )


@operator("glu")
def gated_linear_unit(call: Call) -> Any:
    """``a * sigmoid(b)`` of the two halves of one axis."""

    def parameters(input: Tensor, dim: int = -1) -> tuple[Tensor, int]:
        return input, dim

    x, dim = call.bind(parameters)
    signal, gate = call.through(torch.chunk, x, 2, dim)
    return call.through(torch.mul, signal, call.through(torch.sigmoid, gate))
