"""How a network is called and which part of its output is explained: one of several outputs, and the sample axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.networks import call
from geoxai.errors import OptionError


@dataclass(frozen=True)
class Reading:
    """``output`` selects one tensor if the network returns several: an index of a tuple, a key of a dict, the name of
    a field, or a tuple of these, one per level. ``sample_axis`` is the axis of samples in the network's own inputs and
    output; everywhere else they come first.
    """

    output: int | str | tuple[int | str, ...] | None = None
    sample_axis: int = 0

    def run(self, model: Callable, inputs: Sequence[Tensor]) -> Tensor:
        """The output to explain, samples first."""
        if self.sample_axis:
            inputs = [torch.movedim(x, 0, self.sample_axis) for x in inputs]
        found = call(model, inputs)
        for key in self.output if isinstance(self.output, tuple) else (self.output,) if self.output is not None else ():
            found = _part(found, key)
        while isinstance(found, tuple | list) and len(found) == 1 and self.output is None:
            found = found[0]
        if not isinstance(found, Tensor):
            raise OptionError(
                f"the network returns {_described(found)}, expected one tensor",
                fix=f"say which to explain: output: {_example(found)}"
                if isinstance(found, Mapping | tuple | list) or hasattr(found, "_fields")
                else "let its forward return a torch tensor",
                option="output",
            )
        if not found.is_floating_point():
            raise OptionError(
                f"the network returns {found.dtype}, which has no relevance",
                fix="let it return the numbers that decide, such as logits before an argmax",
                option="output",
            )
        if not self.sample_axis:
            return found
        if found.ndim <= self.sample_axis:
            raise OptionError(
                f"the output has shape {tuple(found.shape)}, so samples cannot lie along its axis {self.sample_axis}",
                option="sample_axis",
            )
        return torch.movedim(found, self.sample_axis, 0)


PLAIN = Reading()  # one output, samples first


def _part(found: Any, key: int | str) -> Any:
    if isinstance(found, Mapping) and key in found:
        return found[key]
    if isinstance(found, tuple | list) and isinstance(key, int) and -len(found) <= key < len(found):
        return found[key]
    if isinstance(key, str) and not isinstance(found, Tensor | Mapping) and hasattr(found, key):
        return getattr(found, key)
    raise OptionError(
        f"output {key!r} is not in what the network returns: {_described(found)}",
        fix=f"for instance output: {_example(found)}" if not isinstance(found, Tensor) else "leave output out",
        option="output",
    )


def _described(found: Any) -> str:
    """A description of what a network returned."""
    if isinstance(found, Tensor):
        return f"one tensor of shape {tuple(found.shape)}"
    if isinstance(found, Mapping):
        return "a dict of " + ", ".join(f"{key!r}: {_described(value)}" for key, value in found.items())
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}: " + ", ".join(map(_described, found))
    return f"a {type(found).__name__}"


def _example(found: Any) -> str:
    """A value of ``output`` that would fit."""
    if isinstance(found, Mapping) and found:
        return str(next(iter(found)))
    return "0" if isinstance(found, tuple | list) else "the name of a field"
