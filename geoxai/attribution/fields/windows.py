"""Windows: only the part of a large field that can reach the explained outputs is computed.

A window starts at a multiple of all strides and ends at the border of the domain if an operation on the way reads
beyond it. Outputs of the window that are cut off from their inputs are wrong, but no explained output depends on them.
Every condition is checked for every window, see ``Windows.fits``; if one fails, the window is not used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules import module as torch_modules

from geoxai.attribution.fields import trace as tracing
from geoxai.attribution.fields.blank import Fault, Unfollowed
from geoxai.attribution.fields.reach import Interval
from geoxai.attribution.fields.trace import NotLocal, Trace
from geoxai.attribution.targets import coefficients_of
from geoxai.errors import OptionError

log = logging.getLogger("geoxai.attribution")

WORTH = 0.75  # windows are worthwhile if they cost less than this share of the field

EXPORTED = "torch.export._unlift"
MOST_KNOWN = 16  # traces of one network, by size of its input

# Traces of networks in use; each is only used after a check that the network still does the same (``tracing.holds``).
_KNOWN: WeakKeyDictionary[torch.nn.Module, dict[tuple[tuple[int, ...], torch.dtype], Trace]] = WeakKeyDictionary()
_LOCK = Lock()

Span = tuple[int, int]  # start and stop


@dataclass(frozen=True)
class Pick:
    """One target of one sample: the box of outputs it weighs, and the weights in it (None: 1)."""

    target: int
    sample: int
    box: tuple[Interval, ...]
    weights: Tensor | None = None


@dataclass(frozen=True)
class Cut:
    """A pick and its window: a span for each axis of the input after the sample's."""

    pick: Pick
    spans: tuple[Span, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size of the window."""
        return tuple(stop - start for start, stop in self.spans)


@dataclass
class Windows:
    """The windows of one network and size of field."""

    model: torch.nn.Module
    shape: tuple[int, ...]  # of one sample
    dtype: torch.dtype
    whole: Trace  # of the field
    smaller: dict[tuple[int, ...], Trace | None] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one sample's output."""
        assert self.whole.output is not None
        return self.whole.output.shape[1:]

    def offset(self, axis: int, number: int, start: int) -> int | None:
        """First index of a window in a tensor of the trace, None if it is not a whole number."""
        first = start * self.whole.places[number].scale[axis]
        return int(first) if first.denominator == 1 else None

    def cuts(self, picks: Sequence[Pick]) -> list[Cut] | None:
        """A window for every pick, of one size if the border allows it; None if not worthwhile or not fitting."""
        output = self.whole.output
        assert output is not None
        spans: dict[tuple[int, Interval], Span] = {}
        for axis in self.whole.axes:
            at = output.axes[axis] - 1
            spans.update(self._spans(axis, sorted({pick.box[at] for pick in picks})))
        cuts = []
        for pick in picks:
            spans_of: list[Span] = [(0, size) for size in self.shape]
            for axis in self.whole.axes:
                spans_of[axis - 1] = spans[axis, pick.box[output.axes[axis] - 1]]
            cuts.append(Cut(pick, tuple(spans_of)))
        samples, targets = len({pick.sample for pick in picks}), len({pick.target for pick in picks})
        passes = (1 + targets) / 2  # targets share the field's forward pass
        if sum(np.prod(cut.sizes) for cut in cuts) > WORTH * passes * samples * np.prod(self.shape):
            return None
        known: dict[tuple[Any, ...], bool] = {}
        for cut in cuts:
            key = (cut.spans, cut.pick.box)
            if key not in known:
                known[key] = self.fits(cut)
            if not known[key]:
                return None
        return cuts

    def _spans(self, axis: int, outputs: list[Interval]) -> dict[tuple[int, Interval], Span]:
        size, period = self.shape[axis - 1], self.whole.period(axis)
        bounds: dict[Interval, tuple[int, int, bool, bool]] = {}
        for interval in outputs:
            needed = self.whole.needs(axis, interval)
            before, past = self._ends(axis, needed)
            start, stop = self._covering(axis, needed)
            bounds[interval] = (0 if before else start // period * period, size if past else stop, before, past)
        longest = max(
            (stop - start for start, stop, before, past in bounds.values() if not (before and past)), default=0
        )
        longest = max(longest, 2 * period if period > 1 else 1)  # single blocks are hard to distinguish from none
        length = min(size, -(-longest // period) * period)
        spans: dict[tuple[int, Interval], Span] = {}
        for interval, (start, _, before, past) in bounds.items():
            if before and past:
                spans[axis, interval] = (0, size)
            elif past or start + length > size:
                spans[axis, interval] = (max(0, (size - length) // period * period), size)
            else:
                spans[axis, interval] = (start, start + length)
        return spans

    def _covering(self, axis: int, needed: dict[int, Interval]) -> Span:
        """The shortest span whose window has everything needed of every tensor: shifts need more than they read."""
        size = self.shape[axis - 1]
        spans = []
        for number, (low, high) in needed.items():
            place = self.whole.places[number]
            num, den = place.scale[axis].as_integer_ratio()
            missing = place.shape[place.axes[axis]] - 1 - high  # up to the tensor's end
            spans.append((low * den // num, size - missing * den // num))
        return max(0, min(start for start, _ in spans)), min(size, max(stop for _, stop in spans))

    def _ends(self, axis: int, needed: dict[int, Interval]) -> tuple[bool, bool]:
        """Whether some operation reads beyond the start, or the end, of an axis."""
        before = past = False
        for step in self.whole.steps:
            if step.output in needed:
                low, high = step.reaches[axis].beyond(needed[step.output])
                for number in step.inputs:
                    place = self.whole.places[number]
                    before, past = before or low < 0, past or high >= place.shape[place.axes[axis]]
        return before, past

    def fits(self, cut: Cut) -> bool:
        """Whether the window gives its outputs the same values as the field does.

        The network does the same on it; at every operation, all values needed lie inside, at whole offsets; and where
        an operation reads beyond an end of the field, the window ends there too.
        """
        small = self.trace_of(cut.sizes)
        if small is None:
            return False
        output = self.whole.output
        assert output is not None
        for axis in self.whole.axes:
            start, stop = cut.spans[axis - 1]
            if (start, stop) == (0, self.shape[axis - 1]):
                continue
            needed = self.whole.needs(axis, cut.pick.box[output.axes[axis] - 1])
            for step in self.whole.steps:
                if step.output in needed and not all(
                    self._reads_alike(axis, start, small, number, step.reaches[axis].beyond(needed[step.output]))
                    for number in step.inputs
                ):
                    return False
            for number, (low, high) in needed.items():
                place = self.whole.places[number]
                first = self.offset(axis, number, start)
                if first is None or low < first or high >= first + small.places[number].shape[place.axes[axis]]:
                    return False
        return True

    def _reads_alike(self, axis: int, start: int, small: Trace, number: int, read: Interval) -> bool:
        place = self.whole.places[number]
        size, length = place.shape[place.axes[axis]], small.places[number].shape[place.axes[axis]]
        first = self.offset(axis, number, start)
        if first is None:
            return False
        return (read[0] >= 0 or first == 0) and (read[1] < size or first + length == size)

    def trace_of(self, sizes: tuple[int, ...]) -> Trace | None:
        """The trace of a window of these sizes, None if the network does something different on it."""
        if sizes not in self.smaller:
            found = traced(self.model, sizes, self.dtype)
            if found is not None and not self.whole.same_computation(found):
                log.debug("no window: the network does something different on %s", " x ".join(map(str, sizes)))
                found = None
            self.smaller[sizes] = found
        return self.smaller[sizes]


def find_windows(model: Callable, inputs: tuple[Tensor, ...], targets: Sequence[Any]) -> Windows | None:
    """The windows of a network, None if none can be cut."""
    if len(inputs) != 1 or inputs[0].ndim < 3 or not isinstance(model, torch.nn.Module):
        return None
    if any(isinstance(target, str) for target in targets):
        return None
    shape = tuple(inputs[0].shape[1:])
    found = traced(model, shape, inputs[0].dtype)
    if found is None or found.output is None or len(found.output.shape) < 3:
        return None
    if not found.axes or not found.keeps_samples_apart:
        log.debug("no window for inputs of %s: %s", " x ".join(map(str, shape)), found.whole)
        return None
    return Windows(model, shape, inputs[0].dtype, found)


def traced(model: Callable, shape: tuple[int, ...], dtype: torch.dtype) -> Trace | None:
    """The trace of a network for inputs of this shape (one sample's), None if it cannot be followed.

    The log says why, as a warning if the fault is geoxai's. Only modules are traced, not plain functions, which may do
    more than compute, and no module whose hooks would see tensors without values.
    """
    if not isinstance(model, torch.nn.Module) or _hooked(model):
        return None
    with _LOCK:
        known = _KNOWN.setdefault(model, {})
    trace = known.pop((shape, dtype), None)
    try:
        if trace is None or not tracing.holds(trace, model):
            trace = tracing.run(model, (2, *shape), dtype)
    except Fault as fault:
        log.warning("windows are not used, geoxai failed to follow the network (the maps are right): %s", fault)
        return None
    except (NotLocal, Unfollowed) as reason:
        log.debug("no window for inputs of %s: %s", " x ".join(map(str, shape)), reason)
        return None
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[shape, dtype] = trace
    return trace


def _hooked(model: torch.nn.Module) -> bool:
    """Whether a hook of the user's would run; exported programs check their input's shape by hooks of torch's."""
    hooks = [torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks]
    for module in model.modules():
        hooks += [module._forward_hooks, module._forward_pre_hooks]
    return any(getattr(hook, "__module__", "") != EXPORTED for those in hooks for hook in those.values())


def picks_of(targets: Sequence[Any], shape: tuple[int, ...], rows: slice) -> list[Pick] | None:
    """Where targets of outputs lie, for the samples ``rows``; None if one is of another kind, or wrong."""
    picks = []
    for number, target in enumerate(targets):
        try:
            found = _boxes(target, shape, rows)
        except OptionError:
            return None
        if found is None:
            return None
        picks += [Pick(number, sample, box, weights) for sample, (box, weights) in enumerate(found)]
    return picks


def _boxes(target: Any, shape: tuple[int, ...], rows: slice) -> list[tuple[tuple[Interval, ...], Tensor | None]] | None:
    samples = rows.stop - rows.start
    if isinstance(target, tuple):
        return _points([target] * samples, shape)
    if not isinstance(target, np.ndarray | Tensor):
        return None
    array = np.asarray(target.detach().cpu() if isinstance(target, Tensor) else target)
    if array.dtype.kind in "iu" and array.shape[1:] == (len(shape),):
        return _points(array[rows].tolist(), shape) if len(array) >= rows.stop else None
    template = torch.zeros(1, dtype=torch.float64).expand(samples, *shape)
    weights = coefficients_of(array, template, rows)
    if array.shape == shape:
        return [_bounded(weights[0])] * samples
    return [_bounded(row) for row in weights]


def _points(indices: list[Any], shape: tuple[int, ...]) -> list[tuple[tuple[Interval, ...], Tensor | None]] | None:
    found: list[tuple[tuple[Interval, ...], Tensor | None]] = []
    for index in indices:
        if len(index) != len(shape) or any(not -n <= i < n for i, n in zip(index, shape)):
            return None
        found.append((tuple((int(i) % n, int(i) % n) for i, n in zip(index, shape)), None))
    return found


def _bounded(weights: Tensor) -> tuple[tuple[Interval, ...], Tensor]:
    """The smallest box that contains all weights that are not 0."""
    where = weights.nonzero()
    if not len(where):
        where = torch.zeros(1, weights.ndim, dtype=torch.long)
    box = tuple((int(low), int(high)) for low, high in zip(where.amin(0), where.amax(0)))
    return box, weights[tuple(slice(low, high + 1) for low, high in box)]
