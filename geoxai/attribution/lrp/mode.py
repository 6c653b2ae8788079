"""The mode: while a network runs, every torch call that touches the explained input goes through the table of
operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.calls import names_in, operation, out_of_place, plainly_named, without_flag
from geoxai.attribution.closing import Closing
from geoxai.attribution.lrp import (  # noqa: F401  (enter their operators in the table)
    attention_operators,
    composite_operators,
    contraction_operators,
    gates,
    linear_operators,
    norm_operators,
    recurrent_operators,
    resampling_operators,
    selection_operators,
)
from geoxai.attribution.lrp.graph import Refusal, tensors_in
from geoxai.attribution.lrp.operators import OPERATORS, READS, VALUE_READS, WRITE_OUT, Call, refuse
from geoxai.attribution.lrp.tape import LOOKS, Tape
from geoxai.errors import GeoxaiError

LAYERS = names_in("linear addmm matmul conv1d conv2d conv3d convolution _convolution")
IN_PLACE_UNKNOWN = frozenset({"resize", "set", "swap_tensors", "resize_as", "data.set"})


class LrpMode(Closing):
    """Records on ``tape`` what happens to the explained input. Nothing outside the running thread sees this mode."""

    def __init__(self, tape: Tape):
        super().__init__()
        self.tape = tape

    def compute(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        if torch.is_inference_mode_enabled():  # the network's own: its tensors would not tell what is a view of what
            with torch.inference_mode(False), torch.no_grad():
                return self._compute(func, args, kwargs)
        with torch.no_grad():
            return self._compute(func, args, kwargs)

    def _compute(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        name, in_place = operation(func)
        args, kwargs = plainly_named(func, args, kwargs)
        tape = self.tape
        out = kwargs.get("out")
        target = args[0] if in_place and args and isinstance(args[0], Tensor) else out
        if name in LOOKS and args and isinstance(args[0], Tensor):
            args = (tape.in_order(args[0], name), *args[1:])
        if name in READS and not in_place:
            return func(*args, **kwargs)
        if next(tape.depending((args, kwargs)), None) is None:
            if isinstance(target, Tensor):
                tape.protect(target)
            return self._constant(func, name, args, kwargs)
        if name in VALUE_READS:
            note = f"{name}: a value of the network was read into Python and is a constant for the explanation"
            if note not in tape.notes:
                tape.notes.append(note)
            return func(*args, **kwargs)
        if in_place and name in ("requires_grad", "retain_grad", "share_memory", "pin_memory", "rename"):
            return args[0]
        if isinstance(target, Tensor):
            return tape.write(target, self._replacement(func, name, args, kwargs, in_place))
        flagged, args, kwargs = without_flag(func, args, kwargs)
        result = self._cross(func, name, args, kwargs)
        if flagged:
            return tape.write(args[0] if args else kwargs["input"], result)
        return result

    def _constant(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What does not depend on the input; of layers, such as those that see a first state, it is remembered."""
        result = func(*args, **kwargs)
        standing = self.tape.standing
        if name in LAYERS or (len(standing) and any(t in standing for t in tensors_in((args, kwargs)))):
            for tensor in tensors_in(result):
                standing[tensor] = True
        return result

    def _cross(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        call = Call(self.tape, name, func, args, kwargs, self._compute)
        try:
            complex_ones = [t for t in self.tape.depending((args, kwargs)) if t.is_complex()]
            if complex_ones:
                made = self.tape.value(complex_ones[0])
                origin = made.node.op if made is not None and made.node is not None else "the input"
                raise Refusal(f"complex numbers, here of {origin}, have no rule", "explain with method gradient")
            if name not in OPERATORS:
                raise Refusal("it has no relevance rule", WRITE_OUT)
            return OPERATORS[name](call)
        except Refusal as refusal:
            return refuse(call, refusal)

    def _replacement(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any], in_place: bool) -> Tensor:
        """The result of an in-place operation, or of one with ``out=``, as a tensor of its own."""
        if not in_place:
            return self._cross(func, name, args, {key: value for key, value in kwargs.items() if key != "out"})
        if name in ("zero", "fill"):
            return torch.full_like(args[0], args[1] if len(args) > 1 else kwargs.get("value", 0))
        free = None if name in IN_PLACE_UNKNOWN else out_of_place(func)
        if free is None:
            where = self.tape.module_path() or "the network itself"
            raise GeoxaiError(
                f"relevance cannot cross the in-place operation {name}_ at {where}, shape {tuple(args[0].shape)}",
                fix="write it out of place",
            )
        result = self._cross(free, name, args, kwargs)
        if any(t is args[0] for t in tensors_in(result)):
            return args[0].clone()
        return result if result.dtype == args[0].dtype else result.to(args[0].dtype)
