"""Convolutions as linear maps, several parts of their weights as one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.maps import Shares, channels_last, rows_of, times
from geoxai.attribution.lrp.weights import CHANNELS_LAST, Part, Signs, WeightCache

PATCHED = 2**22  # values of patches that are processed together
FAST_FROM = 20480  # values along the first four axes (torch 2.13, ConvParams::use_mkldnn)


@dataclass
class Convolution(Shares):
    """Convolution or transposed convolution in 1, 2 or 3 dimensions, zero padding included.

    ``margin`` is zero padding on the far side only, which ``padding="same"`` with an even kernel needs. ``sums``,
    ``share`` and ``shares`` are computed in the cache's shorter type, if it has one.
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

    @property
    def stacks(self) -> int | None:  # type: ignore[override]
        """The axis of channels, unless groups keep them apart."""
        return None if self.groups > 1 else -len(self.stride) - 1

    def of_rows(self, rows: slice, ndim: int) -> Convolution:
        return self if self.bias is None else replace(self, bias=rows_of(self.bias, rows, ndim))

    def fewest_rows(self, shape: torch.Size) -> int:
        """The smallest batch that torch convolves on a processor by its fast way, whatever the number of threads."""
        return FAST_FROM // shape[1:4].numel() + 1

    def reach(self) -> float | None:
        return None if self.transposed else self.cache.largest_row(self.weight, 0)

    def magnitudes(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        if self.transposed:
            return Shares.magnitudes(self, x, places)
        sample, channel, *cells = places
        patch = self.weight.shape[1:].numel()
        found = []
        for begin in range(0, len(sample), step := max(1, PATCHED // patch)):
            some = slice(begin, begin + step)
            found.append(self._magnitudes(x, sample[some], channel[some], [cell[some] for cell in cells]))
        return torch.cat(found)

    def _magnitudes(self, x: Tensor, sample: Tensor, channel: Tensor, cells: Sequence[Tensor]) -> Tensor:
        """Sums of |terms| at a few positions, from the patches of the input that they see."""
        spatial = len(cells)
        per_group = self.weight.shape[1]
        group = channel // (self.weight.shape[0] // self.groups)
        shape = (-1, *[1] * (spatial + 1))
        channels = group.reshape(shape) * per_group + torch.arange(per_group, device=x.device).reshape(
            1, -1, *[1] * spatial
        )
        inside, index = torch.ones((), dtype=torch.bool, device=x.device), [sample.reshape(shape), channels]
        for axis, cell in enumerate(cells):
            taps = torch.arange(self.weight.shape[2 + axis], device=x.device) * self.dilation[axis]
            along = (
                cell.reshape(shape) * self.stride[axis]
                - self.padding[axis]
                + taps.reshape(1, 1, *[-1 if a == axis else 1 for a in range(spatial)])
            )
            inside = inside & (along >= 0) & (along < x.shape[2 + axis])
            index.append(along.clamp(0, x.shape[2 + axis] - 1))
        return (x[tuple(index)] * self.weight[channel] * inside).abs().flatten(1).sum(1)

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self.margin):
            return x
        return F.pad(x, [side for extent in reversed(self.margin) for side in (0, extent)])

    def apply(self, x: Tensor, part: Part = "full") -> Tensor:
        return self._convolve(x, self.cache.part(self.weight, part, channels_last(x)))

    def sums(self, x: Tensor, signs: Sequence[Signs], mixed: bool) -> Tensor:
        if self.groups > 1:
            return Shares.sums(self, x, signs, mixed)
        if not mixed:
            return self._convolve(x, self._joined(signs, None, x))
        first, last = span = _with_negatives(x)
        both = torch.cat([x.clamp(min=0), x[:, first:last].clamp(max=0)], 1)
        return self._convolve(both, self._joined(signs, span, both))

    def share(self, values: Tensor, x: Tensor, room: Tensor | None = None) -> Tensor:
        return times(self._carry_back(values, self._joined([("full", "full")], None, values), x.shape[1]), x, room)

    def shares(
        self, values: Tensor, x: Tensor, signs: Sequence[Signs], mixed: bool, room: Tensor | None = None
    ) -> Tensor:
        if self.groups > 1:
            return Shares.shares(self, values, x, signs, mixed, room)
        channels = x.shape[1]
        if not mixed:
            return times(self._carry_back(values, self._joined(signs, None, values), channels), x, room)
        first, last = span = _with_negatives(x)
        carried = self._carry_back(values, self._joined(signs, span, values), channels + last - first)
        back = times(carried[:, :channels], x.clamp(min=0), room)
        back[:, first:last].addcmul_(carried[:, channels:], x[:, first:last].clamp(max=0))
        return back

    def _joined(self, signs: Sequence[Signs], span: tuple[int, int] | None, like: Tensor) -> Tensor:
        """Weights of one convolution for all ``signs``; negative values of the channels ``span`` are channels of their
        own.
        """
        parts = tuple((plus,) if span is None else (plus, minus) for plus, minus in signs)
        axes = (1, 0) if self.transposed else (0, 1)
        return self.cache.joined(self.weight, parts, axes, channels_last(like), span, short=True)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        output_padding = self.output_padding or (0,) * len(self.stride)
        return torch.convolution(
            self._padded(x.to(weight.dtype)),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            output_padding,
            self.groups,
        ).to(x.dtype)

    def transpose(self, values: Tensor, part: Part = "full") -> Tensor:
        weight = self.cache.part(self.weight, part, channels_last(values))
        return self._carry_back(values, weight, self.input_shape[1])

    def _carry_back(self, values: Tensor, weight: Tensor, channels: int) -> Tensor:
        spatial = self.input_shape[2:]
        margin = self.margin or (0,) * len(spatial)
        shape = (len(values), channels, *(size + extent for size, extent in zip(spatial, margin)))
        layout = CHANNELS_LAST[len(shape)] if channels_last(values) else torch.contiguous_format
        back = torch.ops.aten.convolution_backward(
            values.to(weight.dtype),
            torch.empty(shape, dtype=weight.dtype, device=values.device, memory_format=layout),  # it is not read
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding or (0,) * len(spatial),
            self.groups,
            (True, False, False),
        )[0].to(values.dtype)
        if any(margin):
            for axis, size in enumerate(spatial, start=-len(spatial)):
                back = back.narrow(axis, 0, size)
        return back


def _with_negatives(x: Tensor) -> tuple[int, int]:
    """The first channel of ``x`` that holds a negative value, and the one after the last."""
    channels = (x.amin([axis for axis in range(x.ndim) if axis != 1]) < 0).nonzero().flatten().tolist()
    return (channels[0], channels[-1] + 1) if channels else (0, 0)
