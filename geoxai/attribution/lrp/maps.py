"""Linear maps as the rules see them: ``z_j = sum_i a_i w_ij + b_j`` with parts of the weights.

A map knows how to apply a *part* of its weights (``full``, ``positive``, ``negative``, ``square``, ``ones``) to an
input and how to carry values back through that part. All rule arithmetic is written on these two, and on ``sums`` and
``shares``, for which a map may have a faster way: they distinguish positive and negative inputs and may combine several
maps at once, whose outputs lie one after the other along ``stacks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geoxai.attribution.lrp.weights import CHANNELS_LAST, Part, Signs, WeightCache
from geoxai.errors import OptionError

LARGE = 2**25  # bytes from which the C library returns memory to the system each time


def own_memory(values: Tensor) -> bool:
    """Whether each element has its own memory, without gaps, so that it can be overwritten."""
    return values.is_contiguous() or channels_last(values)


def channels_last(values: Tensor) -> bool:
    """Whether channels of (N, C, lat, lon) or (N, C, level, lat, lon) lie together in memory, without gaps."""
    layout = CHANNELS_LAST.get(values.ndim)
    return layout is not None and not values.is_contiguous() and values.is_contiguous(memory_format=layout)


def rows_of(values: Tensor | None, rows: slice, ndim: int) -> Tensor | None:
    """The rows of what broadcasts to a tensor of ``ndim`` axes."""
    return values[rows] if values is not None and values.ndim == ndim and len(values) > 1 else values


def room_like(values: Tensor) -> Tensor:
    """Memory for a tensor like ``values``. That of large ones on a processor is numpy's, which asks the system for
    large pages: first writes into these are about four times faster.
    """
    if values.device.type != "cpu" or values.numel() * values.element_size() < LARGE or not own_memory(values):
        return torch.empty_like(values)
    if values.dtype not in (torch.float32, torch.float64):
        return torch.empty_like(values)
    axes = sorted(range(values.ndim), key=values.stride, reverse=True)  # as they lie in memory
    numbers = torch.zeros((), dtype=values.dtype).numpy()
    room = torch.from_numpy(np.empty([values.shape[axis] for axis in axes], numbers.dtype))
    return room.permute([axes.index(axis) for axis in range(values.ndim)])


def times(values: Tensor, factor: Tensor, room: Tensor | None = None) -> Tensor:
    """Their product, in ``room`` if there is some that fits, else in the memory of ``values`` where that is its own and
    laid out like ``factor``.
    """
    if room is not None and room.shape == values.shape == factor.shape and room.dtype == values.dtype == factor.dtype:
        return torch.mul(values, factor, out=room)
    if values.shape == factor.shape and values.dtype == factor.dtype:
        if values.stride() == factor.stride() and own_memory(values):
            return values.mul_(factor)
        return torch.mul(values, factor, out=torch.empty_like(factor))
    return values * factor


class LinearMap(Protocol):
    """What the rules need of a linear map. ``bias`` broadcasts to the output; ``signed`` is False if no weight
    is < 0; ``stacks`` is the axis of the output along which ``sums`` stacks, None where it takes one map at a time.
    """

    bias: Tensor | None

    @property
    def signed(self) -> bool:
        """Whether some weight may be negative."""

    @property
    def stacks(self) -> int | None:
        """Axis of the outputs, counted from the end."""

    def of_rows(self, rows: slice, ndim: int) -> LinearMap | None:
        """The map of some rows of its input of ``ndim`` axes, None if rows cannot be separated."""

    def fewest_rows(self, shape: torch.Size) -> int:
        """The minimum number of rows of an input of ``shape`` that is worth separating."""

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        """The map of ``x`` without bias, with ``part`` of the weights."""

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        """``values``, of the output's shape, carried back to the input's shape with ``part`` of the weights."""

    def reach(self) -> float | None:
        """No output's sum of |a_i w_ij| is larger than this times the Euclidean norm of the input; None if unknown."""

    def magnitudes(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        """Sums of |a_i w_ij| of the outputs at ``places``, one index per axis."""

    def sums(self, x: Tensor, signs: Sequence[Signs], mixed: bool) -> Tensor:
        """The maps of ``x`` with the parts that each of ``signs`` has for its positive and for its negative values;
        unless ``mixed``, there are none negative.
        """

    def shares(
        self, values: Tensor, x: Tensor, signs: Sequence[Signs], mixed: bool, room: Tensor | None = None
    ) -> Tensor:
        """``values``, as ``sums`` gives them, carried back and added up, times ``x``; ``room`` as for ``share``."""

    def share(self, values: Tensor, x: Tensor, room: Tensor | None = None) -> Tensor:
        """``values`` carried back, times ``x``; in the memory of ``room`` where the map can write there."""


class Shares:
    """``sums`` and ``shares`` of a map that has no faster way: one map at a time."""

    stacks: int | None = None

    def of_rows(self, rows: slice, ndim: int) -> LinearMap | None:
        """By default the rows of a map belong together."""
        return None

    def fewest_rows(self, shape: torch.Size) -> int:
        """See ``LinearMap``."""
        return 1

    def reach(self) -> float | None:
        """See ``LinearMap``."""
        return None

    def magnitudes(self: LinearMap, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        """See ``LinearMap``."""
        return self.apply(x.abs(), "absolute")[places]

    def share(self: LinearMap, values: Tensor, x: Tensor, room: Tensor | None = None) -> Tensor:
        """See ``LinearMap``."""
        return times(self.transpose(values), x, room)

    def sums(self: LinearMap, x: Tensor, signs: Sequence[Signs], mixed: bool) -> Tensor:
        """See ``LinearMap``."""
        ((plus, minus),) = signs
        if not mixed:
            return self.apply(x, plus)
        return self.apply(x.clamp(min=0), plus).add_(self.apply(x.clamp(max=0), minus))

    def shares(
        self: LinearMap, values: Tensor, x: Tensor, signs: Sequence[Signs], mixed: bool, room: Tensor | None = None
    ) -> Tensor:
        """See ``LinearMap``."""
        ((plus, minus),) = signs
        if not mixed:
            return times(self.transpose(values, plus), x, room)
        below = times(self.transpose(values, minus), x.clamp(max=0))  # first: room may be the memory of values
        return times(self.transpose(values, plus), x.clamp(min=0), room).add_(below)


@dataclass
class Diagonal(Shares):
    """``x * weight`` element by element: batch norm in eval, or a constant added (weight one). Input and output
    have one shape.
    """

    weight: Tensor | None
    bias: Tensor | None
    cache: WeightCache = field(repr=False)

    @property
    def signed(self) -> bool:
        return self.weight is not None

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return x if self.weight is None else x * self.cache.part(self.weight, part)

    def reach(self) -> float:
        return 1.0 if self.weight is None else float(self.weight.abs().amax())

    def magnitudes(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        terms = x[places] if self.weight is None else x[places] * self.weight.expand(x.shape)[places]
        return terms.abs()

    def of_rows(self, rows: slice, ndim: int) -> Diagonal:
        return replace(self, weight=rows_of(self.weight, rows, ndim), bias=rows_of(self.bias, rows, ndim))

    def sums(self, x: Tensor, signs: Sequence[Signs], mixed: bool) -> Tensor:
        ((part, _),) = signs
        terms = self.apply(x)
        if isinstance(part, str):
            return terms.clamp_(min=0) if part == "positive" else terms.clamp_(max=0)
        of_sign = terms.clamp(min=0) if part[0] == "positive" else terms.clamp(max=0)
        return terms.add_(of_sign, alpha=part[1])

    def shares(
        self, values: Tensor, x: Tensor, signs: Sequence[Signs], mixed: bool, room: Tensor | None = None
    ) -> Tensor:
        return times(self.sums(x, signs, mixed), values, room)

    transpose = apply


@dataclass
class Fixed(Shares):
    """A map with implicit weights, none negative: average pooling, mean, sum, linear interpolation.

    ``forward`` computes it; its transpose is its derivative. ``ones`` stands for the map itself: relevance spread
    "flat" over an average follows the weights of the average.
    """

    forward: Callable[[Tensor], Tensor]
    leaf: Tensor
    output: Tensor
    bias: Tensor | None = None
    signed: bool = False

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return self.forward(x)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        return torch.autograd.grad(self.output, self.leaf, values, retain_graph=True)[0]


@dataclass
class Sum(Shares):
    """The sum of a stack of terms along its first axis: the terms of ``a + b`` are its inputs. ``rows`` are those of
    the sum.
    """

    terms: int
    bias: Tensor | None = None
    signed: bool = False

    def reach(self) -> float:
        return self.terms**0.5

    def magnitudes(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        return torch.stack([term[places] for term in x]).abs().sum(0)

    def of_rows(self, rows: slice, ndim: int) -> Sum:
        return self

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        first, *others = x  # one by one: many times faster than a sum over the first axis
        total = first.clone()
        for term in others:
            total.add_(term)
        return total

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        return values.expand(self.terms, *values.shape)


def channel_shape(ndim: int, axis: int) -> tuple[int, ...]:
    """Shape that puts a vector along ``axis`` of a tensor of ``ndim`` axes."""
    return tuple(-1 if a == axis else 1 for a in range(ndim))


def per_channel(bound: float | tuple[float, ...], x: Tensor, channels_of_input: int, axis: int) -> Tensor:
    """A bound as a tensor that broadcasts to ``x``, the input of a first layer with channels along ``axis``.

    A dense first layer sees (N, channel * cells): there each channel's bound holds for its block of cells.
    """
    values = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if values.ndim == 0:
        return values
    size = x.shape[axis]
    if len(values) != size and size % len(values) == 0 and len(values) == channels_of_input:
        values = values.repeat_interleave(size // len(values))
    if len(values) != size:
        raise OptionError(
            f"z_box has bounds for {len(values)} channels, but its input of shape {tuple(x.shape)} has {size}",
            option="low",
        )
    return values.reshape(channel_shape(x.ndim, axis))


def elements(shape: torch.Size) -> int:
    """Number of elements of a shape."""
    return prod(shape)
