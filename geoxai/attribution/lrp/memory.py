"""Writing in place: what a tensor, its base and its other views hold afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoxai.attribution.lrp.graph import Value
from geoxai.attribution.lrp.nodes import record_index

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape


def write(tape: Tape, target: Tensor, result: Tensor) -> Tensor:
    """Let ``target`` hold ``result``; both may or may not depend on the input."""
    value = tape.value(result)
    if tape.owns(target) and value is not None and result._base is None and result.dtype == target.dtype:
        target.data = result  # no other tensor sees this memory: no copy is needed
        tape.move_aliases(result, target)
        tape.track(target, value)
        return target
    tape.protect(target)
    base = target._base
    if base is not None and (value is not None or tape.value(base) is not None):
        value = _write_through_view(tape, target, base, result)
    with torch.no_grad():
        target.copy_(result)
    tape.written(target if base is None else base, value)
    return target


def _write_through_view(tape: Tape, target: Tensor, base: Tensor, result: Tensor) -> Value | None:
    """The base's new value: the old one outside the view, ``result`` inside."""
    size, stride, offset = target.size(), target.stride(), target.storage_offset() - base.storage_offset()

    def scatter(whole: Tensor, part: Tensor) -> Tensor:
        copy = torch.empty_strided(base.size(), base.stride(), dtype=whole.dtype, device=whole.device).copy_(whole)
        copy.as_strided(size, stride, offset).copy_(part)
        return copy

    return tape.value(record_index(tape, "write", scatter, (base, result), {}, constants=True))


def view_of_base(tape: Tape, tensor: Tensor, base: Tensor) -> Value:
    """The value of a view whose base was written since the view was made."""
    size, stride, offset = tensor.size(), tensor.stride(), tensor.storage_offset() - base.storage_offset()

    def look(whole: Tensor) -> Tensor:
        if whole.stride() != base.stride():  # sample numbers come expanded
            whole = torch.empty_strided(base.size(), base.stride(), dtype=whole.dtype, device=whole.device).copy_(whole)
        return whole.as_strided(size, stride, offset + whole.storage_offset())

    value = tape.value(record_index(tape, "view", look, (base,), {}))
    assert value is not None  # the base depends on the input
    return value
