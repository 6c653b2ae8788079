"""The table of local operations: where each axis goes, and how far an operation reaches along it.

A function of the table returns the axes of the network's input that survive an operation. What is missing from its
answer, and every operation missing from the table, counts as global.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoxai.attribution.fields.reach import Reach
from geoxai.attribution.fields.trace import Geometry, NotLocal, Place, TracedCall

Local = Callable[[TracedCall], Geometry]
TABLE: dict[str, Local] = {}


def geometry(call: TracedCall) -> Geometry:
    """Where the axes go; raises NotLocal if the operation is unknown."""
    if call.name not in TABLE:
        raise NotLocal("")
    return TABLE[call.name](call)


def local(names: str) -> Callable[[Local], Local]:
    def enter(function: Local) -> Local:
        TABLE.update(dict.fromkeys(names.split(), function))
        return function

    return enter


def aligned(call: TracedCall, shape: tuple[int, ...], constants: bool = True) -> Geometry:
    found: Geometry = {}
    first = call.sources[0][1]
    for axis, at in call.live(first).items():
        right = at - len(first.shape)
        agree = all(
            axis in place.axes
            and place.axes[axis] - len(place.shape) == right
            and place.scale[axis] == first.scale[axis]
            and place.shape[right] == shape[right]
            for _, place in call.sources
        )
        uniform = all(t.ndim < -right or t.shape[right] == 1 for t in call.constants if t.ndim)
        if agree and (uniform or not constants):
            found[axis] = (len(shape) + right, Reach())
    return found


def kept(call: TracedCall, move: Callable[[int], int | None]) -> Geometry:
    """Axes that stay as they are; ``move`` gives their position in the result, None if they do not survive."""
    (_, place), *others = call.sources
    if others:
        return {}
    moved = {axis: move(at) for axis, at in call.live(place).items()}
    return {axis: (at, Reach()) for axis, at in moved.items() if at is not None}


def spatial(call: TracedCall, place: Place, reach: Callable[[int], Reach | None], count: int) -> Geometry:
    """Operations on the last ``count`` axes, samples and channels before them."""
    if len(place.shape) != count + 2:
        return {}
    reaches = {axis: (at, reach(at - 2) if at else Reach()) for axis, at in call.live(place).items() if at != 1}
    return {axis: (at, found) for axis, (at, found) in reaches.items() if found is not None}


def each(value: Any, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * count if len(values) == 1 else values
