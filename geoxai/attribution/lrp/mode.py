"""The mode: while a network runs, every torch call that touches the explained input goes through the table of
operators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
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
from geoxai.attribution.lrp.graph import Refusal, replace_tensors, tensors_in
from geoxai.attribution.lrp.operators import OPERATORS, READS, VALUE_READS, WRITE_OUT, Call, mark_refused, refuse
from geoxai.attribution.lrp.tape import LOOKS, Tape
from geoxai.attribution.lrp.unseen import Trail
from geoxai.attribution.lrp.whole_numbers import STEPS, cast, follow, only_choose, values_of_integers
from geoxai.errors import GeoxaiError

LAYERS = names_in("linear addmm matmul conv1d conv2d conv3d convolution _convolution")
IN_PLACE_UNKNOWN = frozenset({"resize", "set", "swap_tensors", "resize_as", "data.set"})
PRECISE = LAYERS | names_in(
    "bmm baddbmm einsum conv_transpose1d conv_transpose2d conv_transpose3d lstm gru prelu layer_norm "
    "group_norm scaled_dot_product_attention multi_head_attention_forward"
)
AUTOCAST = "autocast: what the network computes at lower precision is explained as it is at full precision"
FURTHER = Refusal("of its results, only the first has a rule", WRITE_OUT)


class LrpMode(Closing):
    """Records on ``tape`` what happens to the explained input. Nothing outside the running thread sees this mode."""

    def __init__(self, tape: Tape, trail: Trail | None = None):
        super().__init__()
        self.tape = tape
        self.trail = trail

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.trail is None:
            return super().__torch_function__(func, types, args, kwargs)
        self.trail.enters(self.tape, func, args, kwargs)
        result = super().__torch_function__(func, types, args, kwargs)
        self.trail.leaves(self.tape, func, args, kwargs, result)
        return result

    def compute(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
        if kinds:
            return self._at_full_precision(kinds[0], func, args, kwargs)
        if (
            torch.is_inference_mode_enabled()
        ):  # set by the network itself: its tensors would not show which is a view of which
            with torch.inference_mode(False), torch.no_grad():
                return self._compute(func, args, kwargs)
        with torch.no_grad():
            return self._compute(func, args, kwargs)

    def _at_full_precision(self, kind: str, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call under the network's own autocast, without it: rules want values and weights of one type."""
        if AUTOCAST not in self.tape.notes:
            self.tape.notes.append(AUTOCAST)
        with torch.autocast(kind, enabled=False):
            types = {t.dtype for t in tensors_in((args, kwargs)) if t.is_floating_point()}
            if len(types) > 1 and operation(func)[0] in PRECISE:
                widest = reduce(torch.promote_types, types)

                def widened(tensor: Tensor) -> Tensor:
                    if not tensor.is_floating_point() or tensor.dtype == widest:
                        return tensor
                    return self.compute(torch.Tensor.to, (tensor, widest), {})

                args, kwargs = replace_tensors(args, widened), replace_tensors(kwargs, widened)
            return self.compute(func, args, kwargs)

    def _compute(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        name, in_place = operation(func)
        args, kwargs = plainly_named(func, args, kwargs)
        tape = self.tape
        out = kwargs.get("out")
        target = args[0] if in_place and args and isinstance(args[0], Tensor) else out
        if name in LOOKS and args and isinstance(args[0], Tensor):
            args = (tape.in_order(args[0], name), *args[1:])
        if name in READS and not in_place:
            result = func(*args, **kwargs)
            cast(tape, name, args, result)
            return result
        if next(tape.depending((args, kwargs)), None) is None:
            if isinstance(target, Tensor):
                tape.protect(target)
            result = self._constant(func, name, args, kwargs)
            follow(tape, name, args, kwargs, target if isinstance(target, Tensor) else None, result)
            return result
        if name in VALUE_READS:
            note = f"{name}: a value of the network was read into Python and is a constant for the explanation"
            if note not in tape.notes:
                tape.notes.append(note)
            return func(*args, **kwargs)
        if in_place and name in ("requires_grad", "retain_grad", "share_memory", "pin_memory", "rename"):
            return args[0]
        if isinstance(target, Tensor):
            if not target.is_floating_point() and not target.is_complex():
                return self._into_integers(func, name, args, kwargs, target)
            return tape.write(target, self._replacement(func, name, args, kwargs, in_place))
        flagged, args, kwargs = without_flag(func, args, kwargs)
        result = self._cross(func, name, args, kwargs)
        if flagged:
            return tape.write(args[0] if args else kwargs["input"], result)
        return result

    def _into_integers(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any], target: Tensor) -> Any:
        """Values written into a tensor of integers."""
        result = func(*args, **kwargs)
        cast(self.tape, "copy", args, target)
        return result

    def _constant(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A result that does not depend on the input; for layers, such as those of a first state, this is recorded."""
        result = func(*args, **kwargs)
        standing = self.tape.standing
        before = [t for t in tensors_in((args, kwargs)) if t in standing] if len(standing) else []
        if name in LAYERS or before:
            for tensor in tensors_in(result):
                standing[tensor] = any(standing[t] for t in before)
        return result

    def _cross(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        call = Call(self.tape, name, func, args, kwargs, self._compute)
        try:
            complex_ones = [t for t in self.tape.depending((args, kwargs)) if t.is_complex()]
            if complex_ones:
                made = self.tape.value(complex_ones[0])
                origin = made.node.op if made is not None and made.node is not None else "the input"
                raise Refusal(f"complex numbers, here of {origin}, have no rule", "explain with method gradient")
            if values_of_integers(self.tape, (args, kwargs)) and not only_choose(self.tape, name, args):
                raise STEPS
            if name not in OPERATORS:
                raise Refusal("it has no relevance rule", WRITE_OUT)
            result = OPERATORS[name](call)
            self._further(name, args, kwargs, result)
        except Refusal as refusal:
            result = refuse(call, refusal)
        cast(self.tape, name, args, result)
        return result

    def _further(self, name: str, args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        """Results besides the one that has a rule, such as the weights of an attention, are gates or refused."""
        tape = self.tape
        if isinstance(result, Tensor) or name == "broadcast_tensors":
            return
        others = [t for t in tensors_in(result) if t.is_floating_point() and tape.value(t) is None]
        if others and len(others) < len(list(tensors_in(result))):
            values = tuple(v for t in tape.depending((args, kwargs)) if (v := tape.value(t)) is not None)
            mark_refused(tape, "softmax" if "attention" in name else name, values, others, FURTHER)

    def _replacement(self, func: Callable, name: str, args: tuple, kwargs: dict[str, Any], in_place: bool) -> Tensor:
        """The result of an in-place operation, or of one with ``out=``, as a tensor of its own."""
        if not in_place:
            return self._cross(func, name, args, {key: value for key, value in kwargs.items() if key != "out"})
        if name in ("zero", "fill"):
            number = args[1] if len(args) > 1 else kwargs.get("value", 0)
            if isinstance(number, Tensor) and self.tape.value(number) is not None:
                return self._compute(torch.clone, (self._compute(torch.Tensor.expand_as, (number, args[0]), {}),), {})
            return torch.full_like(args[0], number)
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
        return result if result.dtype == args[0].dtype else self._compute(torch.Tensor.to, (result, args[0].dtype), {})
