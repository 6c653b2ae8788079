"""A known trace is checked instead of being made again.

Python decides what a network does, and may decide differently at every call: by an attribute, a global, a file. So a
known trace is never trusted. The network's code runs again, without values, at the same size; every call must be the
one on record, with the same tensors, weights and numbers, and gets the result on record. Only torch's work, and ours,
on what each operation does to shapes and axes is saved. At the first call that differs, a new trace is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from geoxai.attribution.calls import names_in, operation
from geoxai.attribution.fields.blank import (
    Stopped,
    blank,
    blank_result,
    home,
    plain_arguments,
    run_blank,
    same_constant,
)
from geoxai.attribution.lrp.graph import replace_tensors, tensors_in
from geoxai.attribution.lrp.operators import ACTIVATIONS

# In-place operations that change nothing in a tensor without values: not its shape, order in memory or flags.
WRITES_VALUES = frozenset(ACTIVATIONS) | names_in("add sub mul div")


@dataclass(frozen=True)
class Recorded:
    """One call; ``follows`` if a tensor that depends on the input was among its arguments."""

    func: Callable
    plain: Any
    given: tuple[Tensor, ...]
    shapes: list[
        tuple[torch.Size, torch.dtype]
    ]  # of the arguments: a weight may change them and remain the same tensor
    result: Any
    follows: bool


def shapes_of(tensors: tuple[Tensor, ...]) -> list[tuple[torch.Size, torch.dtype]]:
    """What an operation's result depends on if there are no values."""
    return [(t.shape, t.dtype) for t in tensors]


@dataclass
class Recording:
    """The calls of a run without values, from its input ``x`` to its output."""

    x: Tensor
    device: torch.device  # where the network's weights are
    calls: list[Recorded] = field(default_factory=list)
    output: Any = None

    def usable(self) -> bool:
        """Whether the tensors on record are still as torch made them."""
        written = [operation(call.func) for call in self.calls if call.follows]
        return all(name in WRITES_VALUES for name, in_place in written if in_place)


class _Differs(Stopped):
    """The network does something different from before."""


def repeats(model: torch.nn.Module, recording: Recording) -> bool:
    """Whether the network does what is on record. Raises ``Unfollowed`` if it does not run."""
    if recording.device != home(model) or not recording.usable():
        return False
    mode = _ReplayMode(recording)
    try:
        with mode:
            result = run_blank(model, recording.x)
    except _Differs:
        return False
    return result is recording.output and mode.at == len(recording.calls)


class _ReplayMode(TorchFunctionMode):
    """Answers calls from the record, and raises an error at the first that differs."""

    def __init__(self, recording: Recording):
        super().__init__()
        self.calls = recording.calls
        self.device = recording.device
        self.at = 0
        self.recorded = {id(t) for call in recording.calls for t in tensors_in(call.result)} | {id(recording.x)}
        self.stands: dict[int, tuple[Tensor, Tensor]] = {}  # constants computed now, and on record

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tuple(tensors_in((args, kwargs)))
        call = self.calls[self.at] if self.at < len(self.calls) else None
        if call is not None and not (
            call.func is func
            and len(call.given) == len(given)
            and all(map(self._same, call.given, given))
            and call.shapes == shapes_of(given)
            and call.plain == plain_arguments((args, kwargs))
        ):
            call = None
        if call is not None and call.follows:
            self.at += 1
            return list(call.result) if isinstance(call.result, list) else call.result
        name, in_place = operation(func)
        blanks = replace_tensors(args, blank), replace_tensors(kwargs, blank)
        result = blank_result(func, name, in_place, *blanks, self.device)
        made = tuple(tensors_in(result))
        if not made and not in_place:
            return result  # sizes and other facts of tensors on record
        before = () if call is None else tuple(tensors_in(call.result))
        if call is None or len(before) != len(made) or not all(map(same_constant, before, made)):
            raise _Differs
        self.stands.update((id(new), (new, old)) for new, old in zip(made, before))
        self.at += 1
        return result

    def _same(self, before: Tensor, now: Tensor) -> bool:
        if id(now) in self.stands:
            return self.stands[id(now)][1] is before
        if id(now) in self.recorded or id(before) in self.recorded:
            return now is before
        return same_constant(before, now)
