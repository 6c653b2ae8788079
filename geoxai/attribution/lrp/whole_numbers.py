"""Values cast to integers. Computed with and cast back they are steps, which have no derivative and no rule.

Used as an index they only select: a constant for the explanation, which is worth a note. Facts about values, such as
comparisons and the positions of maxima, are not casts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geoxai.attribution.calls import names_in
from geoxai.attribution.lrp.graph import Refusal, Value, tensors_in
from geoxai.attribution.lrp.operators import READS, mark_refused
from geoxai.errors import GeoxaiError

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape

CASTS = names_in("int long short char byte to type type_as view copy setitem convert_element_type ceil floor round")
LOOKUPS = names_in(
    "embedding embedding_bag one_hot getitem index index_select gather take take_along_dim setitem index_put "
    "index_fill index_copy index_add scatter scatter_add"
)
INDEX_FIRST = names_in("embedding embedding_bag one_hot")
VALUE_LAST = names_in("setitem index_put index_copy index_add scatter scatter_add")

STEPS = Refusal(
    "it computes with values that were cast to integers, which have no derivative",
    "leave values as they are, or explain with method gradient, which is 0 there",
)


def cast(tape: Tape, name: str, args: Any, result: Any) -> None:
    """Remember integers of ``result`` that values in ``args`` were cast to."""
    if name not in CASTS:
        return
    values = (*(v for t in tape.depending(args) if (v := tape.value(t)) is not None), *values_of_integers(tape, args))
    for tensor in tensors_in(result) if values else ():
        if _counts(tensor):
            tape.integers[tensor] = values


def values_of_integers(tape: Tape, args: Any) -> tuple[Value, ...]:
    """What integers among (nested) arguments were cast from."""
    if not len(tape.integers):
        return ()
    return tuple(value for t in tensors_in(args) for value in tape.integers.get(t, ()))


def only_choose(tape: Tape, name: str, args: tuple) -> bool:
    """Whether integers that were cast from values are but an index here, which is noted."""
    data = () if name in INDEX_FIRST else (args[:1], args[-1:] if name in VALUE_LAST else ())
    if name not in LOOKUPS or values_of_integers(tape, data):
        return False
    note = f"{name}: a value of the network was used as an index and is a constant for the explanation"
    if note not in tape.notes:
        tape.notes.append(note)
    return True


def follow(tape: Tape, name: str, args: tuple, kwargs: dict[str, Any], target: Tensor | None, result: Any) -> None:
    """What an operation on no values but integers cast from some gave: integers again, or what nothing can cross."""
    values = values_of_integers(tape, (args, kwargs))
    if not values or name in READS or only_choose(tape, name, args):
        return
    floats = [t for t in tensors_in(result) if t.is_floating_point() or t.is_complex()]
    if floats and target is not None:
        raise GeoxaiError(
            f"relevance cannot cross {name}_ at {tape.module_path() or 'the network itself'}: {STEPS.reason}",
            fix=STEPS.remedy,
        )
    for tensor in tensors_in(result):
        if _counts(tensor):
            tape.integers[tensor] = values
    if floats:
        mark_refused(tape, name, values, floats, STEPS)


def _counts(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
