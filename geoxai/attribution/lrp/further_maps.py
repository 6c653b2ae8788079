"""Linear maps beyond dense layers and convolutions: centring, contractions, separable resampling, recurrent steps.

Norms, einsum, bicubic interpolation and recurrent cells are such maps once statistics, weights and gates are constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.maps import Shares
from geoxai.attribution.lrp.weights import Part, WeightCache


class Composed(Shares):
    """A map that knows the named parts of its weights; a favoured sign is the sum of all of them and that part."""

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        if isinstance(part, str):
            return self._apply(x, part)
        sign, gamma = part
        return self._apply(x, "full") + gamma * self._apply(x, sign)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        if isinstance(part, str):
            return self._transpose(values, part)
        sign, gamma = part
        return self._transpose(values, "full") + gamma * self._transpose(values, sign)

    def _apply(self, x: Tensor, part: str) -> Tensor:
        raise NotImplementedError

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        raise NotImplementedError


@dataclass
class Centred(Composed):
    """``scale * (x - mean(x)) + bias`` with the mean over ``axes`` of ``x`` seen as ``shape``: a norm with a constant
    standard deviation. Weights: ``scale_k (1 - 1/n)`` to itself, ``-scale_k / n`` to every other of its group.

    ``scale`` broadcasts to ``shape``, ``bias`` to the input's own.
    """

    scale: Tensor
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    bias: Tensor | None
    signed: bool = True

    def _apply(self, x: Tensor, part: str) -> Tensor:
        grouped = x.reshape(len(x), *self.shape[1:])
        own, others = self._weights(part)
        return (own * grouped + others * (grouped.sum(self.axes, keepdim=True) - grouped)).reshape(-1, *x.shape[1:])

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        grouped = values.reshape(len(values), *self.shape[1:])
        own, others = self._weights(part)
        weighted = (others * grouped).expand_as(grouped)
        return (own * grouped + weighted.sum(self.axes, keepdim=True) - weighted).reshape(-1, *values.shape[1:])

    def _weights(self, part: str) -> tuple[Tensor, Tensor]:
        """Weight of a value for itself and for each other value of its group."""
        number = 1
        for axis in self.axes:
            number *= self.shape[axis]
        own, others = self.scale * (1 - 1 / number), self.scale / -number
        if part == "positive":
            return own.clamp(min=0), others.clamp(min=0)
        if part == "negative":
            return own.clamp(max=0), others.clamp(max=0)
        if part == "square":
            return own.square(), others.square()
        if part == "absolute":
            return own.abs(), others.abs()
        return (torch.ones_like(own), torch.ones_like(others)) if part == "ones" else (own, others)


@dataclass
class Contraction(Composed):
    """A product with weights that is linear in both, such as einsum: ``function(x, weight)``.

    Gates are weights too (>= 0, not ``signed``); as in ``Mixture`` they take the place of ``ones``.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    input_shape: torch.Size
    cache: WeightCache = field(repr=False)
    bias: Tensor | None = None
    signed: bool = True

    def _apply(self, x: Tensor, part: str) -> Tensor:
        return self.function(x, self._part(part))

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        weight = self._part(part).detach()
        leaf = values.new_zeros(self.input_shape).requires_grad_()
        with torch.enable_grad():
            output = self.function(leaf, weight)
        return torch.autograd.grad(output, leaf, values)[0]

    def _part(self, part: str) -> Tensor:
        return self.cache.part(self.weight, part if self.signed or part == "square" else "full")


@dataclass
class Mixture(Composed):
    """``gate @ x`` or, with ``right``, ``x @ gate``: values mixed by weights >= 0 that differ between samples, as
    attention mixes them. ``ones`` are the gates themselves: relevance spread "flat" follows attention.
    """

    gate: Tensor
    input_shape: torch.Size
    right: bool = False
    bias: Tensor | None = None
    signed: bool = False

    def _apply(self, x: Tensor, part: str) -> Tensor:
        return x @ self.gate if self.right else self.gate @ x

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        back = values @ self.gate.mT if self.right else self.gate.mT @ values
        return back.sum_to_size(self.input_shape)


@dataclass
class Separable(Composed):
    """Resampling of the last two axes by one matrix each, ``rows @ x @ columns.T``, of either sign (bicubic)."""

    rows: Tensor
    columns: Tensor
    bias: Tensor | None = None
    signed: bool = True

    def _apply(self, x: Tensor, part: str) -> Tensor:
        return self._sum(lambda rows, columns: rows @ x @ columns.mT, part)

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        return self._sum(lambda rows, columns: rows.mT @ values @ columns, part)

    def _sum(self, product: Callable[[Tensor, Tensor], Tensor], part: str) -> Tensor:
        rows, columns = self.rows, self.columns
        if part == "full":
            return product(rows, columns)
        if part == "square":
            return product(rows.square(), columns.square())
        if part == "absolute":
            return product(rows.abs(), columns.abs())
        if part == "ones":
            return product((rows != 0).to(rows.dtype), (columns != 0).to(rows.dtype))
        up, down = (rows.clamp(min=0), rows.clamp(max=0)), (columns.clamp(min=0), columns.clamp(max=0))
        other = down if part == "positive" else (down[1], down[0])
        return product(up[0], other[0]) + product(up[1], other[1])


@dataclass
class RecurrentStep(Composed):
    """The signal of a recurrent cell: ``x @ input_weight.T + gate * (h @ hidden_weight.T) + bias`` of the joined
    input ``[x, h]``; the gate (>= 0) is constant, None is 1 (Arras et al. 2017, the cell's candidate).
    """

    input_weight: Tensor
    hidden_weight: Tensor
    gate: Tensor | None
    bias: Tensor | None
    cache: WeightCache = field(repr=False)
    signed: bool = True

    def _apply(self, x: Tensor, part: str) -> Tensor:
        below, before = x.split([self.input_weight.shape[1], self.hidden_weight.shape[1]], dim=-1)
        recurrent = F.linear(before, self.cache.part(self.hidden_weight, part))
        return F.linear(below, self.cache.part(self.input_weight, part)) + self._gated(recurrent, part)

    def _transpose(self, values: Tensor, part: str) -> Tensor:
        below = values @ self.cache.part(self.input_weight, part)
        before = self._gated(values, part) @ self.cache.part(self.hidden_weight, part)
        return torch.cat([below, before], dim=-1)

    def _gated(self, values: Tensor, part: str) -> Tensor:
        if self.gate is None or part == "ones":
            return values
        return values * (self.gate.square() if part == "square" else self.gate)
