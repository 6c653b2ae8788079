"""What a network does along the axes of its input, from running it once on tensors without values.

A trace follows every torch call, as the engine does, but only asks where each axis of the input goes and how far an
operation reaches along it. An axis along which something is global, or not known to be local, is ``whole``: no window
is ever cut along it.

Sizes that the network reads into Python could make it behave differently on a window. This is not guessed: the
network is traced at the size of the window too, and every call, constant and number in the two traces must be the same
(``same_computation``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from geoxai.attribution.calls import names_in, operation, without_flag
from geoxai.attribution.fields.blank import (
    Fault,
    Stopped,
    blank,
    blank_result,
    home,
    plain_arguments,
    run_blank,
    same_constant,
)
from geoxai.attribution.fields.reach import Interval, Reach, union
from geoxai.attribution.fields.replay import Recorded, Recording, repeats, shapes_of
from geoxai.attribution.lrp.engine import module_paths
from geoxai.attribution.lrp.graph import replace_tensors, tensors_in
from geoxai.attribution.lrp.tape import running_module


@dataclass(frozen=True)
class Place:
    """A tensor that depends on the input. ``axes`` maps axes of the input, the sample's too, to its own; ``scale``:
    indices per index.
    """

    number: int
    shape: tuple[int, ...]
    axes: dict[int, int]
    scale: dict[int, Fraction]


@dataclass(frozen=True)
class Step:
    """One operation: how far its output reaches into its inputs along each axis of the network's input."""

    op: str
    path: str
    inputs: tuple[int, ...]
    output: int
    reaches: dict[int, Reach]


class NotLocal(Stopped):
    """An operation that is not known to be local along any axis."""


@dataclass
class Trace:
    """The steps of one forward pass; ``whole`` gives the reason for axes without windows."""

    recording: Recording
    places: list[Place] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    whole: dict[int, str] = field(default_factory=dict)
    calls: list[tuple] = field(default_factory=list)
    output: Place | None = None

    @property
    def axes(self) -> list[int]:
        """Axes of the input along which windows can be cut."""
        axes = self.output.axes if self.output is not None else ()
        return [axis for axis in axes if axis > 0 and axis not in self.whole]

    @property
    def keeps_samples_apart(self) -> bool:
        """Whether every output depends on its own sample only: a window is a sample of its own."""
        assert self.output is not None
        apart = all(step.reaches.get(0) == Reach() for step in self.steps)
        return apart and self.output.axes.get(0) == 0

    def period(self, axis: int) -> int:
        """A window may start at multiples of this, so that strides and pools are aligned as in the field."""
        period = 1
        for place in self.places:
            period = int(np.lcm(period, place.scale[axis].denominator)) if axis in place.scale else period
        return period

    def needs(
        self, axis: int, outputs: Interval, number: int | None = None, bounded: bool = True
    ) -> dict[int, Interval]:
        """Which indices of every tensor (by number; 0 is the input) the outputs, or indices of another tensor, depend
        on; not ``bounded``: as if axes had no ends.
        """
        assert self.output is not None
        needed: dict[int, Interval] = {self.output.number if number is None else number: outputs}
        for step in reversed(self.steps):
            if step.output in needed:
                reach = step.reaches[axis]
                for number in step.inputs:
                    place = self.places[number]
                    size = place.shape[place.axes[axis]]
                    found = reach.read(needed[step.output], size) if bounded else reach.beyond(needed[step.output])
                    needed[number] = union(needed.get(number), found)
        return needed

    def same_computation(self, other: Trace) -> bool:
        """Whether both traces did the same operations with the same numbers and constants."""
        return len(self.calls) == len(other.calls) and all(_same(a, b) for a, b in zip(self.calls, other.calls))


@dataclass(frozen=True)
class TracedCall:
    """One call with a tensor among its arguments that depends on the input; ``result`` is a tensor or has some."""

    trace: Trace
    func: Callable
    name: str
    args: tuple
    kwargs: dict[str, Any]
    sources: tuple[tuple[Tensor, Place], ...]
    constants: tuple[Tensor, ...]
    result: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) result."""
        return tuple(next(tensors_in(self.result)).shape)

    def named(self, names: str, **defaults: Any) -> dict[str, Any]:
        """The arguments by name, from the names in the operation's order."""
        return defaults | dict(zip(names.split(), self.args)) | self.kwargs

    def live(self, place: Place) -> dict[int, int]:
        """The axes of the input in a tensor, without those that are whole."""
        return {axis: at for axis, at in place.axes.items() if axis not in self.trace.whole}


Geometry = dict[int, tuple[int, Reach]]  # axis of the input -> axis of the result, and reach


def run(model: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Trace:
    """Trace the network for an input of this shape (samples first).

    Raises ``Unfollowed`` if the network does not run like that, and ``NotLocal`` if nothing is known about what it
    does.
    """
    x = torch.empty(shape, dtype=dtype, device="meta")
    mode = _TraceMode(Trace(Recording(x, home(model))), module_paths(model), home(model))
    axes = {axis: axis for axis in range(len(shape))}
    mode.place(x, axes, dict.fromkeys(axes, Fraction(1)))
    before = _state(model)
    try:
        with mode:
            result = run_blank(model, x)
    finally:
        changed = _restore(before)
    trace = mode.trace
    if not isinstance(result, Tensor) or result not in mode.places:
        raise NotLocal("the network does not return one tensor that depends on its input")
    if changed:
        raise NotLocal(f"{changed} keeps values of its own from one call to the next")
    trace.output, trace.recording.output = mode.places[result], result
    return trace


def holds(trace: Trace, model: torch.nn.Module) -> bool:
    """Whether the network still does what the trace says. Raises ``Unfollowed`` if it does not even run."""
    before = _state(model)
    try:
        same = repeats(model, trace.recording)
    finally:
        changed = _restore(before)
    return same and not changed


# Constants that take dtype and device, but no values, from another tensor.
MADE_LIKE = names_in("new_zeros new_ones new_full new_empty new_tensor")
CONVERTED = names_in("to type_as")


class _TraceMode(TorchFunctionMode):
    """Runs every call without values and notes what it does to the axes of the input."""

    def __init__(self, trace: Trace, paths: dict[int, str], device: torch.device):
        super().__init__()
        self.trace = trace
        self.device = device
        self.paths = paths
        self.places: Any = WeakTensorKeyDictionary()
        self._viewed: Any = WeakTensorKeyDictionary()
        self._constants: Any = WeakTensorKeyDictionary()
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}

    def place(self, tensor: Tensor, axes: dict[int, int], scale: dict[int, Fraction]) -> Place:
        """Follow a tensor from now on."""
        found = Place(len(self.trace.places), tuple(tensor.shape), axes, scale)
        self.trace.places.append(found)
        self.places[tensor] = found
        return found

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, in_place = operation(func)
        in_place = in_place or without_flag(func, args, kwargs)[0]
        blanks = replace_tensors(args, self._twin), replace_tensors(kwargs, self._twin)
        result = blank_result(func, name, in_place, *blanks, self.device)
        try:
            self._note(func, name, args, kwargs, in_place, result)
        except Stopped:
            raise
        except Exception as error:
            raise Fault(f"{name}: {type(error).__name__}: {error}") from error
        return result

    def _note(
        self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any], in_place: bool, result: Any
    ) -> None:
        """Record what a call did."""
        given = tuple(tensors_in((args, kwargs)))
        sources = tuple((t, self.places[t]) for t in given if t in self.places)
        constants = tuple(t for t in given if t not in self.places)
        if name in MADE_LIKE or (
            name in CONVERTED and args and isinstance(args[0], Tensor) and args[0] not in self.places
        ):
            sources = ()
        made = tuple(tensors_in(result))
        writes = kwargs.get("out") is not None or (in_place and not made)
        if sources and writes:
            raise NotLocal(f"{name} writes into a tensor")
        if not made and not writes:
            return
        plain = plain_arguments((args, kwargs))
        recorded = Recorded(func, plain, given, shapes_of(given), result, bool(sources))
        self.trace.recording.calls.append(recorded)
        if not sources:
            self._constants.update((t, len(self.trace.calls)) for t in made)
            self.trace.calls.append((name, plain, self._known(constants)))
        else:
            self._follow(TracedCall(self.trace, func, name, args, kwargs, sources, constants, result), in_place, plain)

    def _known(self, constants: tuple[Tensor, ...]) -> tuple[tuple[Tensor, int | None], ...]:
        """Constants with the number of the call that made them, None for weights and others from outside."""
        return tuple((t, self._constants.get(t)) for t in constants)

    def _follow(self, call: TracedCall, in_place: bool, plain: Any) -> None:
        from geoxai.attribution.fields import operations  # noqa: F401  (enters them in the table)
        from geoxai.attribution.fields.moving import SIZED, untold
        from geoxai.attribution.fields.table import geometry

        path = running_module(self.paths)
        where = f"{call.name} at {path or 'the network itself'}"
        try:
            target = call.args[0] if in_place and call.args and isinstance(call.args[0], Tensor) else None
            if target is not None and (target not in self.places or self._shared(target, call)):
                raise NotLocal("it writes into memory that other tensors see")
            found = geometry(call)
        except NotLocal as reason:
            found = {}
            where = f"{where}: {reason}" if str(reason) else where
        for axis in {axis for _, place in call.sources for axis in call.live(place)} - set(found):
            self.trace.whole.setdefault(axis, where)
        found = {axis: pair for axis, pair in found.items() if axis not in self.trace.whole}
        shapes = []
        numbers = tuple(place.number for _, place in call.sources)
        first = call.sources[0][1]
        for index, tensor in enumerate(tensors_in(call.result)):
            if tensor._base is not None:
                self._viewed[tensor._base] = True
            lasting = found
            if index and call.name.endswith("with_indices"):  # positions of winners, counted over the whole field
                lasting = {axis: pair for axis, pair in found.items() if axis == 0}
            axes = {axis: at for axis, (at, _) in lasting.items()}
            scale = {axis: reach.rescaled(first.scale[axis]) for axis, (_, reach) in lasting.items()}
            reaches = {axis: reach for axis, (_, reach) in lasting.items()}
            output = self.place(tensor, axes, scale)
            self.trace.steps.append(Step(call.name, path, numbers, output.number, reaches))
            shapes.append(tuple("*" if at in axes.values() else size for at, size in enumerate(tensor.shape)))
        numbers_given = untold(call, found) if call.name in SIZED else plain
        self.trace.calls.append((call.name, (numbers, found, shapes, numbers_given), self._known(call.constants)))

    def _shared(self, target: Tensor, call: TracedCall) -> bool:
        """Whether other tensors see an in-place operation on part of their memory, or what it brings in."""
        return target._base is not None or (len(call.sources) > 1 and target in self._viewed)

    def _twin(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape without values, always the same one."""
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._twins:
            self._twins[id(tensor)] = (tensor, blank(tensor))
        return self._twins[id(tensor)][1]


def _same(a: tuple, b: tuple) -> bool:
    """Whether two calls are the same; constants without values are the same if the same call made them."""
    return (
        a[:2] == b[:2]
        and len(a[2]) == len(b[2])
        and all(m == n and same_constant(x, y) for (x, m), (y, n) in zip(a[2], b[2]))
    )


def _state(model: torch.nn.Module) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The state of modules, to detect and undo what a pass without values leaves in them."""
    held = []
    for name, module in model.named_modules():
        for content in (module.__dict__, module._buffers, module._parameters):
            held.append((name or type(module).__name__, content, dict(content)))
    return held


def _restore(before: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> str:
    """Undo changes; returns the first module that had one."""
    changed = ""
    for name, content, earlier in before:
        if content.keys() != earlier.keys() or any(content[key] is not value for key, value in earlier.items()):
            changed = changed or name
            content.clear()
            content.update(earlier)
    return changed
