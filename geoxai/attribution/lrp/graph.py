"""The parts of a tape: nodes, the values between them, tensors in nested arguments and whose memory they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.rules import Rule


class Node:
    """One operation on the tape. ``groups`` are what a rule list may match it by; empty if it has no choice of rule."""

    groups: frozenset[str] = frozenset()
    how: str = ""  # what happens without a choice of rule, for the table of rules
    refusal: str | None = None
    recurs: bool = False  # one of several steps with the same weights, whose input holds results of earlier steps

    def __init__(self, op: str, inputs: tuple[Value, ...], input_shape: torch.Size, output_shapes: list[torch.Size]):
        self.op = op
        self.inputs = inputs
        self.path = ""
        self.input_shape = input_shape
        self.output_shapes = output_shapes

    def allows(self, rule: Rule) -> bool:
        """Whether the operation may take this rule."""
        return True

    def release(self) -> None:
        """Release what was kept for the backward pass, which this node will not do again."""
        self.inputs = ()

    def backward(self, relevances: list[Tensor | None], rule: Rule | None, ledger: Ledger) -> list[Tensor | None]:
        """Relevance of each input from that of each output (None where there is none)."""
        raise NotImplementedError


@dataclass(eq=False)
class Value:
    """A tensor that depends on the explained input: output ``index`` of ``node`` (None: the input itself)."""

    node: Node | None
    index: int
    shape: torch.Size
    sample: Tensor  # integer, broadcasts to shape: the sample each element belongs to
    nonnegative: bool = False
    norm: float | None = None  # at least the tensor's Euclidean norm, if known


class Refusal(Exception):
    """Raised by an operator that relevance cannot cross; an error for the user only if relevance would have to."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def tensors_in(args: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if isinstance(args, Tensor):
        yield args
    elif isinstance(args, tuple | list):
        for item in args:
            yield from tensors_in(item)
    elif isinstance(args, dict):
        yield from tensors_in(list(args.values()))


def replace_tensors(args: Any, replace: Callable[[Tensor], Any]) -> Any:
    """Nested arguments with every tensor replaced."""
    if isinstance(args, Tensor):
        return replace(args)
    if isinstance(args, list):
        return [replace_tensors(item, replace) for item in args]
    if type(args) is tuple:
        return tuple(replace_tensors(item, replace) for item in args)
    if isinstance(args, tuple):  # named and structured tuples
        items = [replace_tensors(item, replace) for item in args]
        return type(args)(*items) if hasattr(args, "_fields") else type(args)(items)
    if isinstance(args, dict):
        return {key: replace_tensors(item, replace) for key, item in args.items()}
    return args


def owned(result: Any, args: Any) -> Any:
    """``result``, in which tensors that are views of an otherwise hidden tensor become independent tensors.

    Some of torch's functions compute in another shape and return a view of that, such as dense layers on (N, T, C):
    writing into views of such a result would appear as writing into a tensor that is not on the tape.
    """
    views = [t for t in tensors_in(result) if t._is_view() and not t.requires_grad]
    if not views:
        return result
    seen = {t.untyped_storage().data_ptr() for t in tensors_in(args)}
    hidden = {id(t) for t in views if t.untyped_storage().data_ptr() not in seen}
    return replace_tensors(result, lambda t: t.detach() if id(t) in hidden else t) if hidden else result
