"""Parts of the weights of linear maps: what the rules keep of them, computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "full": lambda w: w,
    "positive": lambda w: w.clamp(min=0),
    "negative": lambda w: w.clamp(max=0),
    "absolute": torch.abs,
    "square": lambda w: w * w,
    "ones": torch.ones_like,
}

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by number of axes

Part = str | tuple[str, float]
Signs = tuple[Part, Part]  # the parts that positive and that negative inputs meet


def favoured(sign: str, gamma: float) -> tuple[str, float]:
    """The part of weights in which those of one sign count ``1 + gamma`` times."""
    return sign, gamma


def opposite(sign: str) -> str:
    """The other of ``positive`` and ``negative``."""
    return "negative" if sign == "positive" else "positive"


class WeightCache:
    """Parts of weights, computed once per call of the engine. Weights are kept alive so that their ids remain valid.

    ``short`` is the type of single-precision weights for maps that need less precision.
    """

    def __init__(self, short: torch.dtype = torch.float32) -> None:
        self._parts: dict[tuple, tuple[Tensor, Tensor]] = {}
        self._short = short

    @property
    def shortens(self) -> bool:
        """Whether maps may compute in less than the weights' precision."""
        return self._short != torch.float32

    def part(self, weight: Tensor, part: Part, channels_last: bool = False) -> Tensor:
        """``part`` of ``weight``."""
        return self.joined(weight, ((part,),), (0, 1), channels_last)

    def joined(
        self,
        weight: Tensor,
        parts: tuple[tuple[Part, ...], ...],
        axes: tuple[int, int],
        channels_last: bool = False,
        span: tuple[int, int] | None = None,
        short: bool = False,
    ) -> Tensor:
        """Several parts of ``weight`` as one: rows of ``parts`` follow each other along the first of ``axes`` (of the
        outputs), the parts of a row along the second (of the inputs; from the second part on, only those of ``span``).
        ``short``: in the cache's shorter type.
        """
        dtype = self._short if short and weight.dtype == torch.float32 else weight.dtype
        if parts == (("full",),) and not channels_last and dtype == weight.dtype:
            return weight
        version = 0 if weight.is_inference() else weight._version
        key = (id(weight), version, parts, axes, channels_last, span, dtype)
        if key not in self._parts:
            joined = join_parts(weight, parts, axes, span)
            if channels_last:
                joined = joined.contiguous(memory_format=CHANNELS_LAST[joined.ndim])
            self._parts[key] = (weight, joined.to(dtype))
        return self._parts[key][1]

    def largest_row(self, weight: Tensor, axis: int) -> float:
        """The largest Euclidean norm of the weights at one place of ``axis``, that of the outputs."""
        version = 0 if weight.is_inference() else weight._version
        key = (id(weight), version, "largest row", axis)
        if key not in self._parts:
            others = [a for a in range(weight.ndim) if a != axis]
            self._parts[key] = (weight, torch.linalg.vector_norm(weight, dim=others).amax())
        return float(self._parts[key][1])

    def forget_computed(self) -> None:
        """Drop the parts of weights that are not parameters: the next forward pass computes such weights again."""
        self._parts = {key: pair for key, pair in self._parts.items() if isinstance(pair[0], torch.nn.Parameter)}


def join_parts(
    weight: Tensor, parts: tuple[tuple[Part, ...], ...], axes: tuple[int, int], span: tuple[int, int] | None = None
) -> Tensor:
    """Several parts of ``weight`` as one, see ``WeightCache.joined``; nothing is kept."""
    some = weight if span is None else weight.narrow(axes[1], span[0], span[1] - span[0])
    rows = [_joined([_part(some if n else weight, part) for n, part in enumerate(row)], axes[1]) for row in parts]
    return _joined(rows, axes[0])


def _joined(tensors: list[Tensor], axis: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, axis)


def _part(weight: Tensor, part: Part) -> Tensor:
    if isinstance(part, str):
        return PARTS[part](weight)
    sign, gamma = part
    return weight.add(PARTS[sign](weight), alpha=gamma)
