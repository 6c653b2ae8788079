"""Explaining through windows: batches of windows of one size, their relevance put back in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geoxai.attribution.fields.windows import Cut, Windows

if TYPE_CHECKING:
    from geoxai.attribution.result import Attribution

PER_VALUE = ("target_value", "bias", "stabiliser", "lost", "nonpositive_target", "target_output")

# Explains inputs (P, ...) with weights (P, *output) of their outputs and, if there are any, references (P,).
Explain = Callable[[Tensor, Tensor, Tensor | None], "Attribution"]


def explain_windows(
    windows: Windows,
    cuts: list[Cut],
    x: Tensor,
    targets: int,
    explain: Explain,
    references: Tensor | None = None,
) -> Attribution:
    """The attribution of a batch ``x`` with a leading target axis, computed in the windows of ``cuts``.

    ``prediction`` holds the explained outputs (the smallest box around them) and NaN where nothing was computed.
    ``references`` are (target, sample).
    """
    samples = len(x)
    relevance = x.new_zeros((targets, *x.shape))
    values: dict[str, Tensor] = {}
    first: Attribution | None = None
    prediction = x.new_full((samples, *windows.output_shape), torch.nan)
    for group in _groups(cuts, samples * x[0].numel()):
        pieces = torch.stack([x[cut.pick.sample][_slices(cut)] for cut in group])
        weights, boxes = _weights(windows, group, pieces)
        at = torch.tensor([cut.pick.target for cut in group]), torch.tensor([cut.pick.sample for cut in group])
        part = explain(pieces, weights, None if references is None else references[at])
        first = first or part
        for name in PER_VALUE:
            found = getattr(part, name)
            if found is not None:
                values.setdefault(name, found.new_zeros((targets, samples)))[at] = found
        for number, (cut, box) in enumerate(zip(group, boxes)):
            relevance[cut.pick.target, cut.pick.sample][_slices(cut)] = part.relevance[0][number]
            there = tuple(slice(low, high + 1) for low, high in cut.pick.box)
            prediction[cut.pick.sample][there] = part.prediction[number][box]
    assert first is not None
    sizes = sorted({" x ".join(map(str, cut.sizes)) for cut in cuts})
    field = " x ".join(map(str, x.shape[1:]))
    note = f"window: of inputs of {field} only windows of {', '.join(sizes)} that can reach the target were computed"
    per_value: dict[str, Any] = {name: values.get(name) for name in PER_VALUE}
    return replace(first, relevance=(relevance,), prediction=prediction, notes=(*first.notes, note), **per_value)


def _groups(cuts: list[Cut], cells: int) -> Iterator[list[Cut]]:
    """Windows of one size, together no larger than the batch they are from."""
    by_size: dict[tuple[int, ...], list[Cut]] = {}
    for cut in cuts:
        by_size.setdefault(cut.sizes, []).append(cut)
    for sizes, group in by_size.items():
        most = max(1, cells // max(1, int(torch.Size(sizes).numel())))
        for begin in range(0, len(group), most):
            yield group[begin : begin + most]


def _slices(cut: Cut) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in cut.spans)


def _weights(windows: Windows, group: list[Cut], pieces: Tensor) -> tuple[Tensor, list[tuple[slice, ...]]]:
    """Weights of the windows' outputs, and where in them the explained boxes lie."""
    small = windows.trace_of(group[0].sizes)
    output = windows.whole.output
    assert small is not None
    assert small.output is not None
    assert output is not None
    weights = pieces.new_zeros((len(group), *small.output.shape[1:]))
    boxes = []
    for number, cut in enumerate(group):
        offsets = [0] * len(cut.pick.box)
        for axis in windows.whole.axes:
            offset = windows.offset(axis, output.number, cut.spans[axis - 1][0])
            assert offset is not None
            offsets[output.axes[axis] - 1] = offset
        box = tuple(slice(low - o, high + 1 - o) for (low, high), o in zip(cut.pick.box, offsets))
        weights[number][box] = 1 if cut.pick.weights is None else cut.pick.weights.to(weights)
        boxes.append(box)
    return weights, boxes
