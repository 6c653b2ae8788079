"""The kinds of nodes on the tape, and how an operation is put on it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.arithmetic import Crossing, propagate
from geoxai.attribution.lrp.graph import Node, Refusal, Value, owned, replace_tensors, tensors_in
from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.maps import LinearMap, Sum, room_like
from geoxai.attribution.lrp.rules import Rule, WSquare, ZBox

WEIGHTED = frozenset({"linear", "conv"})

if TYPE_CHECKING:
    from geoxai.attribution.lrp.tape import Tape


class MapNode(Node):
    """A linear map of one input: what the rules apply to."""

    def __init__(self, op: str, group: str, inputs: tuple[Value, ...], crossing: Crossing):
        super().__init__(op, inputs, inputs[0].shape, [crossing.z.shape])
        self.crossing = crossing
        self.groups = frozenset({group, "all"} | ({"weighted"} if group in WEIGHTED else set()))
        crossing.relative = group not in WEIGHTED

    def release(self) -> None:
        super().release()
        del self.crossing

    def remade(self, crossing: Crossing) -> MapNode:
        """The same node with another bias and output."""
        node = copy(self)
        node.crossing = crossing
        return node

    def rectify(self, z: Tensor) -> None:
        """Keep the result of a ReLU on the output instead of the output: the next operation keeps that anyway."""
        if not self.crossing.rectified:
            self.crossing.z, self.crossing.rectified = z, True

    @property
    def weighted(self) -> bool:
        """Whether this is a weighted map, which can be first or last."""
        return "weighted" in self.groups

    def allows(self, rule: Rule) -> bool:
        return rule.of_linear_maps and (self.weighted or not isinstance(rule, WSquare | ZBox))

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        (relevance,) = relevances
        assert rule is not None
        assert relevance is not None
        relevance = relevance.to(self.crossing.z.dtype)  # it may come from a sum with a constant of higher precision
        return [propagate(rule, self.crossing, relevance, ledger)]


class SumNode(MapNode):
    """A sum of tensors that depend on the input; its inputs are stacked as the terms of one linear map."""

    def __init__(
        self, op: str, inputs: tuple[Value, ...], terms: list[Tensor], z: Tensor, sample: Tensor, nonnegative: bool
    ):
        super().__init__(op, "sum", inputs, Crossing(Sum(len(terms)), z, z, sample, nonnegative))
        self.terms = terms

    def release(self) -> None:
        super().release()
        self.terms = []

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        (relevance,) = relevances
        assert rule is not None
        assert relevance is not None
        z = self.crossing.z
        terms = [term.expand_as(z) for term in self.terms]
        shares = [room_like(z) for _ in terms]
        begin = 0
        for block in self.crossing.blocks():
            rows = slice(begin, begin + len(block.z)) if block is not self.crossing else slice(None)
            begin += len(block.z)
            of_block = replace(block, a=torch.stack([term[rows] for term in terms]))
            for share, part in zip(shares, propagate(rule, of_block, relevance[rows], ledger)):
                share[rows] = part
        return [share.sum_to_size(value.shape) for share, value in zip(shares, self.inputs)]


class PassNode(Node):
    """An activation: relevance passes unchanged."""

    how = "pass"

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        return relevances


class ScaleNode(Node):
    """A product with a constant: relevance passes, except where the constant is 0; there it is lost."""

    how = "pass"

    def __init__(self, op: str, value: Value, constant: Tensor | float, z_shape: torch.Size, sample: Tensor):
        super().__init__(op, (value,), value.shape, [z_shape])
        self.constant = constant
        self.sample = sample

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        (relevance,) = relevances
        assert relevance is not None
        zero = torch.as_tensor(self.constant == 0, device=relevance.device)
        if bool(zero.any()):
            ledger.add("lost", relevance * zero, self.sample)
            relevance = relevance * ~zero
        return [relevance.sum_to_size(self.inputs[0].shape)]


class DerivativeNode(Node):
    """An operation that only moves or selects values: relevance follows its derivative.

    ``born`` computes, per output, where values come from the input (1) and where from constants (0), for operations
    that join both; relevance of constants is bias relevance.
    """

    def __init__(
        self,
        op: str,
        how: str,
        inputs: tuple[Value, ...],
        leaves: list[Tensor],
        outputs: list[Tensor],
        samples: list[Tensor],
        born: Callable[[], list[Tensor]] | None,
    ):
        super().__init__(op, inputs, inputs[0].shape, [output.shape for output in outputs])
        self.how = how
        self.leaves = leaves
        self.outputs = outputs
        self.samples = samples
        self.born = born
        self.order: tuple[int, ...] | None = None  # of axes, where the operation permutes them and nothing else
        self.again: Callable | None = None  # the same selection from another tensor, see ``joining``

    def release(self) -> None:
        super().release()
        self.leaves, self.outputs = [], []

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        present = [i for i, relevance in enumerate(relevances) if relevance is not None]
        given = [relevances[i] for i in present]
        if self.born is not None:
            born = self.born()
            for i in present:
                relevance = relevances[i]
                assert relevance is not None
                ledger.add("bias", relevance * (1 - born[i]).to(relevance.dtype), self.samples[i])
        outputs = [self.outputs[i] for i in present]
        return list(torch.autograd.grad(outputs, self.leaves, given, retain_graph=True, allow_unused=True))


class RefusedNode(Node):
    """An operation that relevance cannot cross; an error only if it would have to."""

    def __init__(self, op: str, inputs: tuple[Value, ...], outputs: list[Tensor], refusal: str, remedy: str):
        super().__init__(op, inputs, inputs[0].shape, [output.shape for output in outputs])
        self.refusal = refusal
        self.remedy = remedy


def record_index(
    tape: Tape,
    op: str,
    func: Callable,
    args: tuple,
    kwargs: dict[str, Any],
    *,
    how: str = "index map",
    constants: bool = False,
    sample: Tensor | None = None,
    nonnegative: bool | None = None,
    values_needed: bool = False,
    born: Callable[[], list[Tensor]] | None = None,
) -> Any:
    """Run an operation that moves, selects or joins values and put it on the tape.

    ``constants``: its result may hold values that do not come from the input. ``sample``: the sample numbers of the
    output where the caller knows them; else they are moved like the values. ``born``: where they come from the input,
    see ``DerivativeNode``, where that depends on the values.
    """
    tracked = list({id(t): t for t in tensors_in((args, kwargs)) if t.is_floating_point() and tape.value(t)}.values())
    values = [tape.value(t) for t in tracked]
    inputs = tuple(value for value in values if value is not None)
    # .data, not detach(): an alias that later in-place operations on the original do not invalidate. Nothing but
    # shapes and indices is read from it in the derivative, unless ``values_needed`` says so.
    leaf = {id(t): t.detach().clone() if values_needed else t.data for t in tracked}
    with torch.enable_grad():
        for alias in leaf.values():
            alias.requires_grad_()
        result = func(
            *replace_tensors(args, lambda t: leaf.get(id(t), t)),
            **replace_tensors(kwargs, lambda t: leaf.get(id(t), t)),
        )
    outputs = [t for t in tensors_in(result) if t.requires_grad]
    if not outputs:
        if any(t.is_floating_point() for t in tensors_in(result)):
            raise Refusal("its result has no derivative", "write it with other operations")
        return func(*args, **kwargs)  # integers that count or order
    if sample is not None:
        samples = [sample] * len(outputs)
    else:
        known = {id(t): v for t, v in zip(tracked, inputs)}
        samples = _moved_samples(tape, func, args, kwargs, known, outputs, constants)
    if not constants:
        born = None
    elif born is None:
        born = _origin(func, args, kwargs, {id(t): t.shape for t in tracked})
    leaves = [leaf[id(t)] for t in tracked]
    node = DerivativeNode(op, how, inputs, leaves, outputs, samples, born)
    tape.add(node)
    is_nonnegative = all(v.nonnegative for v in inputs) and not constants if nonnegative is None else nonnegative
    itself = {id(t) for t in leaves}
    views = any(output._is_view() or id(output) in itself for output in outputs)
    # the network must not overwrite what a derivative needs
    plain = (
        owned(func(*args, **kwargs), (args, kwargs))
        if views
        else replace_tensors(result, lambda t: t.detach().clone() if values_needed else t.detach())
    )
    given = [t for t, made in zip(tensors_in(plain), tensors_in(result)) if made.requires_grad]
    for index, (tensor, numbers) in enumerate(zip(given, samples, strict=True)):
        tape.track(tensor, Value(node, index, tensor.shape, numbers, is_nonnegative))
    return plain


def _moved_samples(
    tape: Tape,
    func: Callable,
    args: tuple,
    kwargs: dict[str, Any],
    values: dict[int, Value],
    outputs: list[Tensor],
    constants: bool,
) -> list[Tensor]:
    """Sample numbers of an operation's outputs: the operation done to the sample numbers of its inputs.

    If constants may be among the results, it is repeated with all numbers raised by the same amount:
    what has not risen by that is a constant and belongs to no sample, whether it came as a tensor or a number.
    """

    def moved(shift: int) -> list[Tensor]:
        def numbers(tensor: Tensor) -> Tensor:
            value = values.get(id(tensor))
            if value is not None:
                return (value.sample + shift).to(torch.float64).expand(value.shape)
            return torch.full_like(tensor, -1, dtype=torch.float64) if tensor.is_floating_point() else tensor

        result = func(*replace_tensors(args, numbers), **replace_tensors(kwargs, numbers))
        found = [t for t in tensors_in(result) if t.is_floating_point()]
        if [t.shape for t in found] != [t.shape for t in outputs]:
            raise Refusal("which sample its results belong to cannot be followed", "write it with other operations")
        return found

    found = moved(0)
    if constants:
        shift = 1 + max((int(v.sample.amax()) for v in values.values() if v.sample.numel()), default=0)
        for place, further in enumerate(moved(shift)):
            added = further - found[place]
            if not bool(((added == shift) | (added == 0)).all()):
                raise Refusal(
                    "it mixes samples, so there is no relevance of one sample", "keep samples apart, or batch_size: 1"
                )
            found[place] = torch.where(added == 0, -1, found[place])
    return [compress(t, tape.samples == 1).to(torch.int64) for t in found]


def compress(numbers: Tensor, single: bool = False) -> Tensor:
    """Sample numbers with every axis along which they do not vary shrunk to one; -1 (unknown) yields to what is
    known. ``single``: there is only one sample.
    """
    for axis, stride in enumerate(numbers.stride()):
        if stride == 0 and numbers.shape[axis]:
            numbers = numbers.narrow(axis, 0, 1)
    if not numbers.numel():  # of nobody: no axis is the samples'
        return numbers[(slice(1),) * numbers.ndim]
    if numbers.numel() == 1:
        return numbers
    lowest, highest = numbers.aminmax()
    if bool((lowest == highest) | single):  # one sample, wherever its values lie
        return highest.reshape((1,) * numbers.ndim)
    if sum(size > 1 for size in numbers.shape) == 1:
        return numbers
    for axis in range(numbers.ndim):
        along = numbers.amax([a for a in range(numbers.ndim) if a != axis], keepdim=True)
        if bool(((numbers == along) | (numbers < 0)).all()):
            return along
    return numbers


def _origin(
    func: Callable, args: tuple, kwargs: dict[str, Any], shapes: dict[int, torch.Size]
) -> Callable[[], list[Tensor]]:
    """A function that gives, per output, 1 where values come from the input and 0 where from constants."""
    probes = replace_tensors((args, kwargs), lambda t: _Probe(t) if id(t) in shapes else t)

    def born() -> list[Tensor]:
        ends = []
        for end in (1.0, 0.0):
            filled, named = _fill(probes, end)
            ends.append([t for t in tensors_in(func(*filled, **named)) if t.is_floating_point()])
        return [(one - zero).nan_to_num(0.0) for one, zero in zip(*ends)]

    return born


class _Probe:
    """Takes the place of a tensor in arguments that are kept without its values."""

    def __init__(self, tensor: Tensor):
        self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, tensor.device


def _fill(args: Any, number: float) -> Any:
    if isinstance(args, _Probe):
        return torch.full(args.shape, number, dtype=args.dtype, device=args.device)
    if isinstance(args, list):
        return [_fill(item, number) for item in args]
    if isinstance(args, tuple):
        return tuple(_fill(item, number) for item in args)
    if isinstance(args, dict):
        return {key: _fill(item, number) for key, item in args.items()}
    return args


def record_map(
    tape: Tape,
    op: str,
    group: str,
    tensor: Tensor,
    linear: LinearMap,
    z: Tensor,
    sample: Tensor,
    nonnegative: bool = False,
    kept: Tensor | None = None,
) -> Tensor:
    """Put a linear map of ``tensor`` with result ``z`` on the tape; ``kept`` is a copy of ``tensor`` to keep in its
    place.
    """
    value = tape.value(tensor)
    assert value is not None
    axis = 1 if group == "conv" else tensor.ndim - 1
    a = tape.keep(tensor) if kept is None else kept
    crossing = Crossing(
        linear, a, tape.keep(z), sample, value.nonnegative, tape.input_channels, channel_axis=axis, norm=value.norm
    )
    node = MapNode(op, group, (value,), crossing)
    tape.add(node)
    tape.track(z, Value(node, 0, z.shape, sample, nonnegative))
    return z


def record_pass(tape: Tape, op: str, tensor: Tensor, z: Tensor, nonnegative: bool) -> Tensor:
    """Put an activation of ``tensor`` with result ``z`` on the tape."""
    value = tape.value(tensor)
    assert value is not None
    if op == "relu" and isinstance(value.node, MapNode) and not isinstance(value.node, SumNode):
        value.node.rectify(tape.keep(z))
    node = PassNode(op, (value,), value.shape, [z.shape])
    tape.add(node)
    tape.track(z, Value(node, 0, z.shape, value.sample, nonnegative))
    return z
