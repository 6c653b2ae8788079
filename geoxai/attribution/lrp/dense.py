"""Dense layers and products with constant matrices as linear maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.maps import Shares, rows_of, times
from geoxai.attribution.lrp.weights import Part, Signs, WeightCache, join_parts

KEPT = 2**22  # layers with up to this many weights keep parts of them; for more, parts are made piece by piece


@dataclass
class Dense(Shares):
    """``x @ weight.T``; ``weight`` (outputs, inputs)."""

    weight: Tensor
    bias: Tensor | None
    cache: WeightCache = field(repr=False)
    signed: bool = True
    stacks = -1

    def of_rows(self, rows: slice, ndim: int) -> Dense:
        return self if self.bias is None else replace(self, bias=rows_of(self.bias, rows, ndim))

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return F.linear(x, self.weight) if part == "full" else self.sums(x, [(part, part)], False)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        return values @ self.cache.part(self.weight, part)

    def reach(self) -> float:
        return self.cache.largest_row(self.weight, 0)

    def magnitudes(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        *rows, outputs = places
        found = []
        for begin in range(0, len(outputs), step := max(1, KEPT // x.shape[-1])):
            some = slice(begin, begin + step)
            found.append((x[tuple(axis[some] for axis in rows)] * self.weight[outputs[some]]).abs().sum(-1))
        return torch.cat(found)

    def sums(self, x: Tensor, signs: Sequence[Signs], mixed: bool) -> Tensor:
        sums: Tensor | None = None
        for inputs in self._pieces():
            some = x[..., inputs]
            above = some.clamp(min=0) if mixed else some
            piece = F.linear(above, self._joined(signs, 0, inputs))
            if mixed:
                piece.add_(F.linear(some - above, self._joined(signs, 1, inputs)))
            sums = piece if sums is None else sums.add_(piece)
        assert sums is not None  # there is an input
        return sums

    def share(self, values: Tensor, x: Tensor, room: Tensor | None = None) -> Tensor:
        return times(torch.matmul(values, self.weight, out=_apart(room, values)), x, room)

    def shares(
        self, values: Tensor, x: Tensor, signs: Sequence[Signs], mixed: bool, room: Tensor | None = None
    ) -> Tensor:
        room, pieces = _apart(room, values), self._pieces()
        if len(pieces) == 1:
            return self._shares(values, x, signs, mixed, pieces[0], room)
        back = torch.empty_like(x) if room is None else room
        for inputs in pieces:
            back[..., inputs] = self._shares(values, x[..., inputs], signs, mixed, inputs, None)
        return back

    def _shares(
        self, values: Tensor, x: Tensor, signs: Sequence[Signs], mixed: bool, inputs: slice, room: Tensor | None
    ) -> Tensor:
        back = torch.matmul(values, self._joined(signs, 0, inputs), out=room)
        if not mixed:
            return times(back, x, room)
        above = x.clamp(min=0)
        return times(back, above, room).addcmul_(values @ self._joined(signs, 1, inputs), above.sub_(x), value=-1)

    def _pieces(self) -> list[slice]:
        """The inputs, in pieces if there are many weights."""
        outputs, inputs = self.weight.shape
        if self.weight.numel() <= KEPT:
            return [slice(None)]
        step = max(1, KEPT // 8 // outputs)
        return [slice(begin, begin + step) for begin in range(0, inputs, step)]

    def _joined(self, signs: Sequence[Signs], which: int, inputs: slice) -> Tensor:
        parts = tuple((sign[which],) for sign in signs)
        if inputs == slice(None):
            return self.cache.joined(self.weight, parts, (0, 1))
        return join_parts(self.weight[:, inputs], parts, (0, 1))


@dataclass
class PerSampleDense(Shares):
    """One output per sample, each with weights of its own, shaped like the input: the sum of ``x * weight``.
    ``connected`` is 1 where there is a weight, where that is not everywhere.
    """

    weight: Tensor
    bias: Tensor | None
    cache: WeightCache = field(repr=False)
    connected: Tensor | None = None
    signed: bool = True

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return (x * self._part(part)).flatten(1).sum(1, keepdim=True)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        weight = self._part(part)
        return values.reshape(-1, *[1] * (weight.ndim - 1)) * weight

    def _part(self, part: Part) -> Tensor:
        if part == "ones" and self.connected is not None:
            return self.connected
        return self.cache.part(self.weight, part)


@dataclass
class Product(Shares):
    """``x @ weight`` or, with ``left``, ``weight @ x``, with batch axes that may broadcast."""

    weight: Tensor
    input_shape: torch.Size
    left: bool
    cache: WeightCache = field(repr=False)
    bias: Tensor | None = None
    signed: bool = True

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        weight = self.cache.part(self.weight, part)
        return weight @ x if self.left else x @ weight

    def reach(self) -> float | None:
        return None if self.left or self.weight.ndim != 2 else self.cache.largest_row(self.weight, 1)

    def magnitudes(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        if self.left or self.weight.ndim != 2:
            return Shares.magnitudes(self, x, places)
        return Dense(self.weight.T, None, self.cache).magnitudes(x, places)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        weight = self.cache.part(self.weight, part)
        if weight.ndim == 1:  # the contracted axis is gone from the output
            back = values.unsqueeze(-2 if self.left else -1) * (weight.unsqueeze(-1) if self.left else weight)
        elif self.left:
            back = weight.mT @ values
        else:
            back = values @ weight.mT
        return back.sum_to_size(self.input_shape)


def _apart(room: Tensor | None, values: Tensor) -> Tensor | None:
    """``room``, unless it is the memory of ``values``."""
    if room is None or room.untyped_storage().data_ptr() == values.untyped_storage().data_ptr():
        return None
    return room
