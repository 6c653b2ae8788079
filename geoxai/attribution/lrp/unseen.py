"""What a network computes unseen: with TorchScript, vmap, NumPy, other threads or custom code.

The tape follows calls of torch functions. What is computed in another way comes back as a constant, and the account
closes all the same. So the network runs once more on a slightly different input: what enters the recorded calls as
constants must be the same as before. Once per network and shape of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from geoxai.attribution.calls import names_in, operation
from geoxai.attribution.lrp.graph import tensors_in
from geoxai.attribution.lrp.operators import READS, VALUE_READS
from geoxai.attribution.lrp.tape import Tape, running_module
from geoxai.attribution.reading import Reading
from geoxai.attribution.steady import differ, refuse_unsteady
from geoxai.errors import GeoxaiError

NEAR = {torch.float64: 1e-3, torch.float32: 1e-3}  # of each value, towards 0; else 0.02
MUCH = 50  # times that, of the largest output: no small change of the input makes this of it
SAME = 1e-9  # of the sum of magnitudes

# facts about values, which do not change gradually
FACTS = READS & names_in(
    "argmax argmin argsort isnan isinf isfinite eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ isclose "
    "any all nonzero count_nonzero sign heaviside bucketize searchsorted signbit histc bincount logical_not "
    "logical_and logical_or bool"
)

# the contents of new memory are undefined
UNSET = names_in("empty empty_like new_empty empty_strided new_empty_strided empty_permuted")

Mark = tuple[float, ...]


@dataclass
class Trail:
    """The calls of one recorded pass, and what entered those on the tape as constants."""

    names: list[str] = field(default_factory=list)
    constants: dict[int, dict[int, Mark]] = field(default_factory=dict)  # call -> place among its arguments -> mark
    discrete: Any = field(default_factory=WeakTensorKeyDictionary)  # what comparisons, orders and counts gave
    unset: Any = field(default_factory=WeakTensorKeyDictionary)  # memory that is there to be written to

    def enters(self, tape: Tape, func: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
        """A call is about to run."""
        name, in_place = operation(func)
        if name in READS or name in VALUE_READS:
            return
        target = args[0] if in_place and args else kwargs.get("out")
        self.names.append(name)
        if next(tape.depending((args, kwargs)), None) is None:
            return
        marks = {}
        for place, leaf in enumerate(_leaves((args, kwargs))):
            if isinstance(leaf, Tensor) and (leaf in self.discrete or tape.value(leaf) is not None):
                continue
            if isinstance(leaf, Tensor) and leaf.ndim == 0 and tape.notes:  # a value that was read, as the notes say
                continue
            if isinstance(leaf, Tensor) and tape.standing.get(leaf):  # a constant behind a gate, which stands
                continue
            if isinstance(leaf, Tensor) and leaf in self.unset and (leaf is target or (name == "copy" and place == 0)):
                continue  # it is written to, not read
            mark = _mark(leaf, tape.paths)
            if mark is not None:
                marks[place] = mark
        self.constants[len(self.names) - 1] = marks

    def leaves(self, tape: Tape, func: Callable, args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        """A call has run. Facts that it gave, such as where values are positive, do not change gradually."""
        name, _ = operation(func)
        depends = next(tape.depending((args, kwargs)), None) is not None
        of_facts = not depends and any(t in self.discrete for t in tensors_in((args, kwargs)))
        if name in UNSET or (not depends and any(t in self.unset for t in tensors_in((args, kwargs)))):
            for tensor in tensors_in(result):
                self.unset[tensor] = True
        for tensor in tensors_in(result):
            counts = not tensor.is_floating_point() and not tensor.is_complex()
            if of_facts or (depends and (name in FACTS or (counts and name not in READS))):
                self.discrete[tensor] = True


class Following(TorchFunctionMode):
    """Runs a network and compares the constants of its calls with those of a trail."""

    def __init__(self, trail: Trail, paths: dict[int, str]):
        super().__init__()
        self.trail, self.paths = trail, paths
        self.number = 0
        self.aligned = True
        self.changed: dict[tuple[int, int], tuple[str, str, Any]] = {}  # call and place -> operation, path and constant

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, _ = operation(func)
        if name not in READS and name not in VALUE_READS:
            self._compare(name, args, kwargs)
        return func(*args, **kwargs)

    def _compare(self, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        names, number = self.trail.names, self.number
        self.number += 1
        self.aligned = self.aligned and number < len(names) and names[number] == name
        marks = self.trail.constants.get(number)
        if not self.aligned or not marks:
            return
        leaves = list(_leaves((args, kwargs)))
        for place, mark in marks.items():
            now = _mark(leaves[place], self.paths) if place < len(leaves) else None
            if now is None or not _same(mark, now):
                leaf = leaves[place] if place < len(leaves) else None
                shape = tuple(leaf.shape) if isinstance(leaf, Tensor) and id(leaf) not in self.paths else None
                self.changed[number, place] = name, running_module(self.paths), shape


def _leaves(args: Any) -> Iterator[Tensor | float]:
    """Tensors and numbers with a fraction in nested arguments."""
    if isinstance(args, Tensor | float):
        yield args
    elif isinstance(args, tuple | list):
        for item in args:
            yield from _leaves(item)
    elif isinstance(args, dict):
        for item in args.values():
            yield from _leaves(item)


def _mark(leaf: Tensor | float, paths: dict[int, str]) -> Mark | None:
    """Numbers that tell a constant from another: a sum with odd weights, and of magnitudes. None of what counts."""
    if isinstance(leaf, float):
        return leaf, abs(leaf)
    if id(leaf) in paths:  # a weight or buffer, which may be written to
        return (0.0 if leaf.is_inference() else float(leaf._version),)
    if torch._C._functorch.is_functorch_wrapped_tensor(leaf) or leaf.layout != torch.strided:
        return None
    if not leaf.is_floating_point() and not leaf.is_complex():
        return None
    with torch.no_grad():
        flat = leaf.detach().reshape(-1)
        flat = (torch.view_as_real(flat) if flat.is_complex() else flat).reshape(-1).to(torch.float64)
        flat = flat.nan_to_num(0.0, 1.0, -1.0)
        weights = torch.arange(1, len(flat) + 1, dtype=torch.float64, device=flat.device).cos_()
        return float(flat @ weights), float(flat.abs().sum())


def _same(one: Mark, other: Mark) -> bool:
    if len(one) != len(other) or one == other:
        return one == other
    return len(one) == 2 and abs(one[0] - other[0]) <= SAME * max(one[1], other[1])


def check_unseen(
    model: Callable,
    inputs: Sequence[Tensor],
    reading: Reading,
    output: Tensor,
    trail: Trail,
    paths: dict[int, str],
    again: Callable[[], Trail],
) -> None:
    """Raise GeoxaiError where the network hides a computation, or is not the same twice. ``again`` records anew."""

    def follow(trail: Trail, given: Sequence[Tensor]) -> tuple[Following, Tensor]:
        mode, copies = Following(trail, paths), [x.clone() for x in given]  # which networks may change in place
        with torch.no_grad(), mode:
            return mode, reading.run(model, copies)

    def same_input() -> Tensor:
        with torch.no_grad():
            return reading.run(model, [x.clone() for x in inputs])

    near = [_nearby(x) for x in inputs]
    try:
        there, other = follow(trail, near)
    except Exception:  # such as a check of the input: without the trial, only what is the same input is known
        _compare_outputs(output, refuse_unsteady(model, same_input))
        return
    much = MUCH * max(NEAR.get(x.dtype, 0.02) for x in inputs) * float(output.detach().abs().amax())
    calm = output.shape == other.shape and not bool((output.detach() - other).abs().amax() > much)
    if there.aligned and not there.changed and calm:
        return
    alone = refuse_unsteady(model, same_input)
    if not there.aligned:
        here, _ = follow(trail, inputs)
        if not here.aligned:  # the first pass was longer, such as by tables that are made once
            trail = again()
            there, _ = follow(trail, near)
    here, _ = follow(trail, inputs)
    hidden = [found for key, found in there.changed.items() if found[2] is not None and key not in here.changed]
    if hidden:
        name, path, shape = hidden[0]
        raise GeoxaiError(
            f"what {name} at {path or 'the network itself'} takes as a constant, of shape {shape}, changes with the"
            " input: it was computed where it cannot be followed",
            fix="write it with torch operations (TorchScript, torch.vmap, NumPy, other threads, custom operations,"
            " torch.tensor(...) and nn.Parameter(...) of values hide what they compute), or explain with method"
            " gradient",
        )
    _compare_outputs(output, alone)


def _compare_outputs(followed: Tensor, alone: Tensor) -> None:
    if differ(followed, alone, 10.0):
        raise GeoxaiError(
            "the network gives a different output when its torch calls are followed",
            fix="derivatives inside a network (torch.func, torch.autograd) are not followed: write them out, or explain"
            " with method gradient",
        )


def _nearby(x: Tensor) -> Tensor:
    """Each value a little nearer to 0, each by a different fraction."""
    generator = torch.Generator(x.device).manual_seed(0)
    part = torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32).to(x.dtype)
    return x * (1 - NEAR.get(x.dtype, 0.02) * part)
