"""The receptive field of a network: how much of its input an output can see, layer by layer, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from geoxai.attribution.fields import trace as tracing
from geoxai.attribution.fields.blank import Stopped, Unfollowed
from geoxai.attribution.fields.trace import Trace
from geoxai.attribution.networks import as_callable
from geoxai.errors import GeoxaiError, OptionError


@dataclass(frozen=True)
class AxisField:
    """The receptive field along one axis of the input.

    ``nominal`` is the textbook number (r += (k - 1) * j over strides j); ``exact`` are the sizes that occur away from
    the borders, one for each phase of an output among strides, sorted. ``whole`` says why it is the whole axis, None
    if it is not.
    """

    size: int
    nominal: float
    exact: tuple[int, ...]
    whole: str | None = None


@dataclass(frozen=True)
class LayerField:
    """The receptive field after one operation, by axis of the input; axes that no longer exist are missing."""

    op: str
    path: str
    nominal: dict[int, float]
    exact: dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class ReceptiveField:
    """``axes`` by number of the input's axis (0 is the sample), and ``layers`` in the order they ran."""

    axes: dict[int, AxisField]
    layers: tuple[LayerField, ...]


def receptive_field(model: torch.nn.Module, input_shape: Sequence[int]) -> ReceptiveField:
    """The theoretical receptive field, from the operations of the network on an input of this shape.

    Parameters
    ----------
    model
        A module; only shapes are computed.
    input_shape
        Shape of the input with its sample axis, such as ``(1, 4, 256, 256)``.

    Returns
    -------
    ReceptiveField
        In cells of the input. A dense layer, a mean over cells or an operation that is not known to be local make it
        the whole axis; ``layers`` still shows how it grew before.

    Raises
    ------
    OptionError
        The shape has no sample axis, or the network does not accept it.
    GeoxaiError
        The network makes decisions by values, or keeps a state, and cannot be followed without computing.
    """
    model = as_callable(model)
    shape = tuple(int(n) for n in input_shape)
    if len(shape) < 3:
        raise OptionError(f"input_shape {shape} must have a sample axis and at least two more", option="input_shape")
    weights = [w.dtype for w in [*model.parameters(), *model.buffers()] if w.is_floating_point()]
    try:
        trace = tracing.run(model, shape, weights[0] if weights else torch.float32)
    except Unfollowed as error:
        cause = error.__cause__
        told = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise OptionError(
            f"the network cannot be followed on an input of shape {shape}: {told}",
            fix="give the shape of the input it was made for, with the sample axis",
            option="input_shape",
        ) from cause
    except Stopped as reason:
        raise GeoxaiError(f"the receptive field cannot be found: {reason}") from reason.__cause__
    nominal = _nominal(trace)
    layers = []
    for step in trace.steps:
        there = [axis for axis in trace.places[step.output].axes if axis > 0]
        exact = {axis: _exact(trace, axis, step.output) for axis in there}
        layers.append(LayerField(step.op, step.path, {axis: nominal[step.output][axis] for axis in there}, exact))
    assert trace.output is not None
    axes = {}
    for axis in range(1, len(shape)):
        if axis in trace.output.axes:
            number = trace.output.number
            axes[axis] = AxisField(shape[axis], nominal[number][axis], _exact(trace, axis, number))
        else:
            axes[axis] = AxisField(shape[axis], shape[axis], (shape[axis],), trace.whole.get(axis))
    return ReceptiveField(axes, tuple(layers))


def _nominal(trace: Trace) -> dict[int, dict[int, float]]:
    """The nominal field of every tensor by number: r += (k - 1) * j, along the longest branch if several meet."""
    found = {0: dict.fromkeys(trace.places[0].axes, Fraction(1))}
    for step in trace.steps:
        found[step.output] = {
            axis: max(found[n][axis] + reach.growth / trace.places[n].scale[axis] for n in step.inputs)
            for axis, reach in step.reaches.items()
        }
    return {number: {axis: float(size) for axis, size in sizes.items()} for number, sizes in found.items()}


def _exact(trace: Trace, axis: int, number: int) -> tuple[int, ...]:
    """Sizes of what one index of a tensor depends on, over the phases of its position among strides."""
    phases = max(1, int(trace.period(axis) * trace.places[number].scale[axis]))
    reads = (trace.needs(axis, (phase, phase), number, bounded=False)[0] for phase in range(phases))
    return tuple(sorted({high - low + 1 for low, high in reads}))
