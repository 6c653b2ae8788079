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
    if _same_places(result, target):
        return target  # it is already there, such as after dropout in eval mode
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


def _same_places(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same elements of the same memory."""
    steps = ((n, a, b) for n, a, b in zip(one.shape, one.stride(), other.stride()))
    alike = one.shape == other.shape and all(n == 1 or a == b for n, a, b in steps)
    return alike and one.dtype == other.dtype and one.data_ptr() == other.data_ptr()


def _write_through_view(tape: Tape, target: Tensor, base: Tensor, result: Tensor) -> Value | None:
    """The base's new value: the old one outside the view, ``result`` inside it."""
    size, stride, offset = target.size(), target.stride(), target.storage_offset() - base.storage_offset()
    if tape.value(result) is None and size.numel() == base.numel():
        return None
    value = tape.value(base)
    sample = None if value is None or tape.value(result) is not None else value.sample  # only constants are put in

    def scatter(whole: Tensor, part: Tensor) -> Tensor:
        copy = torch.empty_strided(base.size(), base.stride(), dtype=whole.dtype, device=whole.device).copy_(whole)
        copy.as_strided(size, stride, offset).copy_(part)
        return copy

    return tape.value(record_index(tape, "write", scatter, (base, result), {}, constants=True, sample=sample))


def view_of_base(tape: Tape, tensor: Tensor, base: Tensor) -> Value:
    """The value of a view whose base was written since the view was made."""
    offset = int(tensor.storage_offset() - base.storage_offset())
    value = tape.value(look(tape, "view", base, tensor.size(), tensor.stride(), offset))
    assert value is not None  # the base depends on the input
    return value


def look(tape: Tape, op: str, base: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """A view of ``base`` by places in its memory, put on the tape; ``offset`` counts from where the base begins."""

    def view(whole: Tensor) -> Tensor:
        if whole.stride() != base.stride():  # sample numbers come expanded
            whole = torch.empty_strided(base.size(), base.stride(), dtype=whole.dtype, device=whole.device).copy_(whole)
        return whole.as_strided(size, stride, offset + whole.storage_offset())

    seen: Tensor = record_index(tape, op, view, (base,), {})
    return seen
