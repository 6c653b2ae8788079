"""Linear maps as the rules see them: ``z_j = sum_i a_i w_ij + b_j`` with parts of the weights.

A map knows how to apply a *part* of its weights (``full``, ``positive``, ``negative``, ``square``, ``ones``) to an
input and how to carry values back through that part. All rule arithmetic is written on these two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.errors import OptionError

PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "full": lambda w: w,
    "positive": lambda w: w.clamp(min=0),
    "negative": lambda w: w.clamp(max=0),
    "square": lambda w: w * w,
    "ones": torch.ones_like,
}


def favoured(sign: str, gamma: float) -> tuple[str, float]:
    """The part of weights in which those of one sign count ``1 + gamma`` times."""
    return sign, gamma


Part = str | tuple[str, float]


BLOCK = 2**18  # elements of one block: a few of them fit a processor's cache


class WeightCache:
    """Parts of weights, computed once per call of the engine. Weights are kept alive so that ids stay theirs."""

    def __init__(self) -> None:
        self._parts: dict[tuple, tuple[Tensor, Tensor]] = {}

    def part(self, weight: Tensor, *parts: Part, axis: int = 0, channels_last: bool = False) -> Tensor:
        """``part`` of ``weight``; several of them are joined along ``axis``."""
        if parts == ("full",) and not channels_last:
            return weight
        key = (id(weight), weight._version, parts, channels_last)
        if key not in self._parts:
            taken = [_part(weight, part) for part in parts]
            joined = taken[0] if len(taken) == 1 else torch.cat(taken, axis)
            if channels_last:
                joined = joined.contiguous(memory_format=torch.channels_last)
            self._parts[key] = (weight, joined)
        return self._parts[key][1]

    def forget_computed(self) -> None:
        """Drop the parts of weights that are no parameters: the next forward computes such weights anew."""
        self._parts = {key: pair for key, pair in self._parts.items() if isinstance(pair[0], torch.nn.Parameter)}


def _part(weight: Tensor, part: Part) -> Tensor:
    if isinstance(part, str):
        return PARTS[part](weight)
    sign, gamma = part
    return weight.add(PARTS[sign](weight), alpha=gamma)


def own_memory(values: Tensor) -> bool:
    """Whether each element has memory of its own, without gaps, so that it can be overwritten."""
    return values.is_contiguous() or (values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last))


def channels_last(values: Tensor) -> bool:
    """Whether channels of (N, C, lat, lon) lie together in memory."""
    return values.ndim == 4 and values.stride(1) == 1 and not values.is_contiguous()


def blocks(values: Tensor) -> list[slice]:
    """Slices along the first axis that fit a processor's cache, so that steps on one block need no fresh memory."""
    if values.device.type != "cpu" or values.ndim < 2:
        return [slice(None)]
    rows = max(1, BLOCK * len(values) // max(values.numel(), 1))
    return [slice(begin, begin + rows) for begin in range(0, len(values), rows)]


def times(values: Tensor, factor: Tensor) -> Tensor:
    """Their product, in the memory of ``values`` where that is its own and laid out like ``factor``."""
    if values.shape == factor.shape and values.dtype == factor.dtype:
        if values.stride() == factor.stride() and own_memory(values):
            return values.mul_(factor)
        return torch.mul(values, factor, out=torch.empty_like(factor))
    return values * factor


class Shares:
    """What rules ask of a map beyond applying it and carrying back, for a map that has no faster way."""

    def share(self: LinearMap, values: Tensor, x: Tensor, part: Part = "full") -> Tensor:
        """``values`` carried back, times ``x``."""
        return times(self.transpose(values, part), x)

    def apply_by_sign(self: LinearMap, x: Tensor, plus: Part, minus: Part) -> Tensor:
        """The map with part ``plus`` of the positive part of ``x``, and with part ``minus`` of its negative part."""
        return self.apply(x.clamp(min=0), plus).add_(self.apply(x.clamp(max=0), minus))

    def share_by_sign(self: LinearMap, values: Tensor, x: Tensor, plus: Part, minus: Part) -> Tensor:
        """``values`` carried back, times ``x``, with part ``plus`` where ``x`` > 0, with part ``minus`` where < 0."""
        above = times(self.transpose(values, plus), x.clamp(min=0))
        return above.add_(times(self.transpose(values, minus), x.clamp(max=0)))


class LinearMap(Protocol):
    """What the rules need of a linear map. ``bias`` broadcasts to the output; ``signed`` is False if no weight
    is < 0.
    """

    bias: Tensor | None

    @property
    def signed(self) -> bool:
        """Whether some weight may be negative."""

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        """The map of ``x`` without bias, with ``part`` of the weights."""

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        """``values``, of the output's shape, carried back to the input's shape with ``part`` of the weights."""

    def apply_by_sign(self, x: Tensor, plus: Part, minus: Part) -> Tensor:
        """The map with part ``plus`` of the positive part of ``x``, and with part ``minus`` of its negative part."""

    def share(self, values: Tensor, x: Tensor, part: Part = "full") -> Tensor:
        """``values`` carried back, times ``x``."""

    def share_by_sign(self, values: Tensor, x: Tensor, plus: Part, minus: Part) -> Tensor:
        """``values`` carried back, times ``x``, with part ``plus`` where ``x`` > 0, with part ``minus`` where < 0."""


@dataclass
class Dense(Shares):
    """``x @ weight.T``; ``weight`` (outputs, inputs)."""

    weight: Tensor
    bias: Tensor | None
    cache: WeightCache = field(repr=False)
    signed: bool = True

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return F.linear(x, self.cache.part(self.weight, part))

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        return values @ self.cache.part(self.weight, part)

    def share(self, values: Tensor, x: Tensor, part: Part = "full") -> Tensor:
        if x.ndim != 2 or not values.is_contiguous():
            return Shares.share(self, values, x, part)
        weight, back = self.cache.part(self.weight, part), torch.empty_like(x)
        for rows in blocks(x):
            torch.mm(values[rows], weight, out=back[rows]).mul_(x[rows])
        return back

    def apply_by_sign(self, x: Tensor, plus: Part, minus: Part) -> Tensor:
        above, below = self.cache.part(self.weight, plus), self.cache.part(self.weight, minus)
        sums = [F.linear(x[rows].clamp(min=0), above).add_(F.linear(x[rows].clamp(max=0), below)) for rows in blocks(x)]
        return torch.cat(sums)

    def share_by_sign(self, values: Tensor, x: Tensor, plus: Part, minus: Part) -> Tensor:
        if x.ndim != 2 or not values.is_contiguous():
            return Shares.share_by_sign(self, values, x, plus, minus)
        above, below = self.cache.part(self.weight, plus), self.cache.part(self.weight, minus)
        back = torch.empty_like(x)
        for rows in blocks(x):
            torch.mm(values[rows], above, out=back[rows]).mul_(x[rows].clamp(min=0))
            back[rows].add_((values[rows] @ below).mul_(x[rows].clamp(max=0)))
        return back

    def combined(self, coefficients: Tensor) -> PerSampleDense:
        """The map to one output per sample that is ``coefficients`` (N, outputs) times this map's outputs."""
        bias = None
        if self.bias is not None:
            bias = (coefficients * self.bias).sum(-1, keepdim=True)
        return PerSampleDense(coefficients @ self.weight, bias, self.cache)


@dataclass
class PerSampleDense(Shares):
    """One output per sample, each with weights of its own: ``(x * weight).sum(-1)``; ``weight`` (N, inputs)."""

    weight: Tensor
    bias: Tensor | None
    cache: WeightCache = field(repr=False)
    signed: bool = True

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return (x * self.cache.part(self.weight, part)).sum(-1, keepdim=True)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        return values * self.cache.part(self.weight, part)


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

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        weight = self.cache.part(self.weight, part)
        if weight.ndim == 1:  # the contracted axis is gone from the output
            back = values.unsqueeze(-2 if self.left else -1) * (weight.unsqueeze(-1) if self.left else weight)
        elif self.left:
            back = weight.mT @ values
        else:
            back = values @ weight.mT
        return back.sum_to_size(self.input_shape)

    def combined(self, coefficients: Tensor) -> PerSampleDense:
        """See ``Dense.combined``; only for ``x @ weight`` with a matrix."""
        bias = None
        if self.bias is not None:
            bias = (coefficients * self.bias).sum(-1, keepdim=True)
        return PerSampleDense(coefficients @ self.weight.mT, bias, self.cache)


@dataclass
class Convolution(Shares):
    """Convolution or transposed convolution in 1, 2 or 3 dimensions, zero padding included.

    ``margin`` is zero padding on the far side only, which ``padding="same"`` with an even kernel needs.
    """

    weight: Tensor
    bias: Tensor | None
    input_shape: torch.Size
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    cache: WeightCache = field(repr=False)
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    margin: tuple[int, ...] = ()
    signed: bool = True

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self.margin):
            return x
        return F.pad(x, [side for extent in reversed(self.margin) for side in (0, extent)])

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return self._convolve(x, self.cache.part(self.weight, part, channels_last=channels_last(x)))

    def apply_by_sign(self, x: Tensor, plus: Part, minus: Part) -> Tensor:
        if self.groups > 1:
            return Shares.apply_by_sign(self, x, plus, minus)
        signs = torch.cat([x.clamp(min=0), x.clamp(max=0)], 1)
        return self._convolve(signs, self._both(plus, minus, signs))

    def share_by_sign(self, values: Tensor, x: Tensor, plus: Part, minus: Part) -> Tensor:
        if self.groups > 1:
            return Shares.share_by_sign(self, values, x, plus, minus)
        shape = torch.Size((x.shape[0], 2 * x.shape[1], *x.shape[2:]))
        above, below = self._carry_back(values, self._both(plus, minus, values), shape).chunk(2, 1)
        return above.mul_(x.clamp(min=0)).add_(below.mul_(x.clamp(max=0)))

    def _both(self, plus: Part, minus: Part, like: Tensor) -> Tensor:
        """Weights of one convolution of the positive and the negative part of an input as twice its channels."""
        axis = 0 if self.transposed else 1
        return self.cache.part(self.weight, plus, minus, axis=axis, channels_last=channels_last(like))

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        output_padding = self.output_padding or (0,) * len(self.stride)
        return torch.convolution(
            self._padded(x),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            output_padding,
            self.groups,
        )

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        weight = self.cache.part(self.weight, part, channels_last=channels_last(values))
        return self._carry_back(values, weight, self.input_shape)

    def _carry_back(self, values: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        spatial = shape[-len(self.stride) :]
        margin = self.margin or (0,) * len(spatial)
        padded = [size + extent for size, extent in zip(spatial, margin)]
        like = values.new_empty(1).expand(*shape[: -len(spatial)], *padded)  # its values are not read
        back = torch.ops.aten.convolution_backward(
            values,
            like,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding or (0,) * len(spatial),
            self.groups,
            (True, False, False),
        )[0]
        if any(margin):
            for axis, size in enumerate(spatial, start=-len(spatial)):
                back = back.narrow(axis, 0, size)
        return back


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

    def apply_by_sign(self, x: Tensor, plus: Part, minus: Part) -> Tensor:
        return self.share_by_sign(torch.ones_like(x[:1]), x, plus, minus)

    def share_by_sign(self, values: Tensor, x: Tensor, plus: Part, minus: Part) -> Tensor:
        terms = self.apply(x)
        if isinstance(plus, str):
            terms = terms.clamp_(min=0) if plus == "positive" else terms.clamp_(max=0)
        else:
            of_sign = terms.clamp(min=0) if plus[0] == "positive" else terms.clamp(max=0)
            terms = terms.add_(of_sign, alpha=plus[1])
        return terms.mul_(values)

    transpose = apply


@dataclass
class Fixed(Shares):
    """A map with weights of its own making, none negative: average pooling, mean, sum, linear interpolation.

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
    """The sum of a stack of terms along its first axis: the terms of ``a + b`` are its inputs."""

    terms: int
    bias: Tensor | None = None
    signed: bool = False

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return x.sum(0)

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
            f"z_box has bounds for {len(values)} channels, its input of shape {tuple(x.shape)} has {size}", option="low"
        )
    return values.reshape(channel_shape(x.ndim, axis))


def elements(shape: torch.Size) -> int:
    """Number of elements of a shape."""
    return prod(shape)
