"""Products and softmaxes whose factors both get relevance, if a rule list asks for it (preset ``attnlrp``).

After Achtibat et al. 2024, AttnLRP: each factor of a product gets half of its relevance (proposition 3.3),
a softmax its Taylor expansion at the scores (3.1). So queries and keys are explained as well as values, and both sides
of a gated unit with SiLU. The rest is as everywhere else: a standard deviation is held constant, relevance passes
activations, a gate that came through a sigmoid takes nothing (recurrent layers, squeeze and excitation). The expansion
depends on where scores have their 0: subtracting their maximum first, which changes no weight, changes the maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.graph import Node, Refusal, Value
from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.operators import ALONE, Call
from geoxai.attribution.lrp.rules import Rule, Taylor, Uniform

MIXES = "it mixes samples, so there is no relevance of one sample", f"keep samples apart, {ALONE}"


class ProductNode(Node):
    """``function(a, b)``, linear in both: element by element, or a sum of products."""

    groups = frozenset({"product", "all"})

    def __init__(self, op: str, function: Callable, values: tuple[Value, ...], factors: tuple[Tensor, ...], z: Tensor,
                 sample: Tensor):  # fmt: skip
        super().__init__(op, values, values[0].shape, [z.shape])
        self.function, self.factors, self.z, self.sample = function, factors, z, sample

    def release(self) -> None:
        super().release()
        del self.factors, self.z

    def allows(self, rule: Rule) -> bool:
        return isinstance(rule, Uniform)

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        (relevance,) = relevances
        assert relevance is not None
        assert isinstance(rule, Uniform)
        if self.op == "mul":
            return [(relevance / 2).sum_to_size(value.shape) for value in self.inputs]
        stable = 2 * self.z + torch.copysign(self.z.new_tensor(rule.eps), self.z)
        share = torch.where(stable == 0, 0, relevance / stable)
        kept = relevance - 2 * self.z * share
        ledger.add("lost" if rule.eps == 0 else "stabiliser", kept, self.sample)
        leaves = [factor.detach().requires_grad_() for factor in self.factors]
        with torch.enable_grad():
            output = self.function(*leaves)
        return [g * f for g, f in zip(torch.autograd.grad(output, leaves, share), self.factors)]


class SoftmaxNode(Node):
    """A softmax of scores along an axis. What is masked (weight 0) gets nothing."""

    groups = frozenset({"softmax", "all"})

    def __init__(self, value: Value, scores: Tensor, weights: Tensor, axis: int):
        super().__init__("softmax", (value,), value.shape, [weights.shape])
        self.scores, self.weights, self.axis = scores, weights, axis

    def release(self) -> None:
        super().release()
        del self.scores, self.weights

    def allows(self, rule: Rule) -> bool:
        return isinstance(rule, Taylor)

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        (relevance,) = relevances
        assert relevance is not None
        total = relevance.sum(self.axis, keepdim=True)
        scores = torch.where(self.weights > 0, self.scores, 0)
        below = scores * (relevance - self.weights * total)
        ledger.add("bias", relevance - below, self.inputs[0].sample)
        return [below]


def record_product(call: Call, function: Callable, factors: tuple[Tensor, ...], sample: Tensor) -> Tensor:
    """Put ``function(*factors)`` on the tape; ``sample`` is of the result."""
    values = tuple(value for factor in factors if (value := call.value(factor)) is not None)
    z = call.run()
    kept = tuple(call.tape.keep(factor) for factor in factors)
    node = ProductNode(call.name, function, values, kept, call.tape.keep(z), sample)
    call.tape.add(node)
    nonnegative = all(value.nonnegative for value in values)
    call.tape.track(z, Value(node, 0, z.shape, sample, nonnegative))
    return z


def record_softmax(call: Call) -> Any:
    """Put a softmax on the tape."""

    def parameters(input: Tensor, dim: Any = None, *_: Any, **__: Any) -> tuple:
        return input, dim

    scores, axis = call.bind(parameters)
    value = call.value(scores)
    assert value is not None
    if axis is None or value.sample.shape[axis] > 1:
        raise Refusal(*MIXES)
    weights = call.run()
    node = SoftmaxNode(value, call.tape.keep(scores), call.tape.keep(weights), axis)
    call.tape.add(node)
    call.tape.track(weights, Value(node, 0, weights.shape, value.sample, True))
    return weights


def explains(call: Call, group: str) -> bool:
    """Whether the rule list has a line for products or softmaxes here."""
    return call.tape.rules.explains(group, call.tape.module_path())
