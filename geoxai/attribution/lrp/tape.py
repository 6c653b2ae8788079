"""The tape: what a forward pass did to the explained input, and which tensors depend on it.

A tensor that depends on the explained input has a ``Value``: the node that made it, and what the rules and the account
need to know about it. Nodes are on the tape in the order they ran, so relevance goes back by reading it from its end.
Nothing requires grad, and no tensor, weight or module of the user's is marked or changed.

In-place operations are computed out of place and then written back. Torch knows each view's base, so the tape keeps one
value per base and derives that of a view whose memory was written since. A tensor that a node keeps is an alias; before
its memory is overwritten, it gets memory of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from geoxai.attribution.calls import names_in
from geoxai.attribution.lrp import memory
from geoxai.attribution.lrp.graph import Node, Value, tensors_in
from geoxai.attribution.lrp.maps import channels_last
from geoxai.attribution.lrp.presets import RuleList
from geoxai.attribution.lrp.weights import CHANNELS_LAST, WeightCache
from geoxai.errors import GeoxaiError

# Operations that make a view where the order of elements in memory allows it, and others that show that order; through
# the last ones memory could be written from outside torch.
RESHAPES = names_in("view reshape flatten unflatten ravel view_as reshape_as contiguous")
EXPOSES = names_in("data_ptr untyped_storage storage numpy __array__ __dlpack__")
LOOKS = RESHAPES | EXPOSES | names_in("as_strided stride storage_offset is_contiguous")


class Replay(Exception):
    """The network looks at memory in a way that needs a plain forward pass."""


@dataclass
class Tape:
    """What one forward pass did. ``samples`` is their number, ``paths`` names modules and parameters by id.

    Unless ``plain``, memory is saved and convolutions lay out their results channels last, which is twice as fast on
    a processor. Where a network could tell, ``Replay`` asks for a plain pass.
    """

    samples: int
    cache: WeightCache
    paths: dict[int, str]
    input_channels: int
    plain: bool = False
    rules: RuleList = field(default_factory=lambda: RuleList("none", ()))  # of these, those that say what is recorded
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    standing: Any = field(default_factory=WeakTensorKeyDictionary)  # results of layers of constants: behind a gate?
    integers: Any = field(default_factory=WeakTensorKeyDictionary)  # of values cast to them, see ``whole_numbers``
    chosen: dict[Node, Any] = field(default_factory=dict)  # selections from a layer's output, made from its input
    parts: dict[Node, Any] = field(default_factory=dict)  # what may be parts of norms written out, see ``merging``
    _values: Any = field(default_factory=WeakTensorKeyDictionary)
    _writes: Any = field(default_factory=WeakTensorKeyDictionary)  # base -> number of writes
    _versions: Any = field(default_factory=WeakTensorKeyDictionary)  # base -> torch's own number of writes
    _exposed: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # what may be written to, and as it was
    _viewed: Any = field(default_factory=WeakTensorKeyDictionary)  # bases with views
    _aliases: Any = field(default_factory=WeakTensorKeyDictionary)  # base -> aliases that nodes keep
    _unwritable: Any = field(default_factory=WeakTensorKeyDictionary)  # bases: the caller's, or a copy stands for them

    def watch(self, x: Tensor, norm: float | None = None) -> Tensor:
        """An alias (a copy if ``plain``) of an input, from which dependence is followed; samples along axis 0."""
        x = x.detach().clone() if self.plain else x.detach()
        sample = torch.arange(len(x), device=x.device).reshape(-1, *[1] * (x.ndim - 1))
        value = Value(None, len(self.inputs), x.shape, sample, norm=norm)
        self.inputs.append(value)
        self.track(x, value)
        self._unwritable[x] = not self.plain
        return x

    def laid_out(self, x: Tensor) -> Tensor:
        """``x`` in the layout best for convolutions: single-precision images on a CPU with channels last."""
        if self.plain or x.device.type != "cpu" or x.ndim not in CHANNELS_LAST or x.dtype != torch.float32:
            return x
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])

    def in_order(self, tensor: Tensor, name: str) -> Tensor:
        """``tensor`` with its elements in memory as in a plain pass, for an operation ``name`` that looks there."""
        if name in EXPOSES and self._unwritable.get(_base(tensor)):
            raise Replay
        if name in EXPOSES and self.value(tensor) is not None:
            self._exposed.append((self.keep(tensor), tensor.clone()))
        if self.plain or not channels_last(tensor) or (value := self.value(tensor)) is None:
            return tensor
        if name not in RESHAPES:
            raise Replay
        if self.owns(tensor):
            tensor.data = tensor.contiguous()
            return tensor
        copy = tensor.contiguous()  # a plain pass would look at the same memory: nobody may write to either
        self._unwritable[copy] = self._unwritable[_base(tensor)] = True
        self.track(copy, value)
        return copy

    def value(self, tensor: Tensor) -> Value | None:
        """The value of a tensor, None if it does not depend on the input."""
        value, writes = self._values.get(tensor, (None, 0))
        base = tensor._base
        if value is not None:
            self._check_unwritten(tensor if base is None else base)
        if base is None or base not in self._writes or (value is not None and writes == self._writes[base]):
            return value
        if base not in self._values:
            return None
        seen = memory.view_of_base(self, tensor, base)
        self.track(tensor, seen)
        return seen

    def move_aliases(self, result: Tensor, target: Tensor) -> None:
        """``target`` has taken over the memory of ``result``, and with it the aliases that nodes keep of it."""
        self._unwritable.pop(target, None)
        self._aliases[target] = self._aliases.pop(result, [])

    def track(self, tensor: Tensor, value: Value) -> None:
        """Let ``tensor`` have ``value`` from now on. The sample of each of its elements must be known."""
        numbers = value.sample.shape
        fits = len(numbers) == tensor.ndim and all(n in (1, size) for n, size in zip(numbers, tensor.shape))
        assert fits, f"sample numbers of shape {tuple(numbers)} do not fit a tensor of shape {tuple(tensor.shape)}"
        base = tensor._base
        if base is not None:
            assert base in self._values, "a view of memory that is not on the tape"
            self._viewed[base] = True
        whole = tensor if base is None else base
        self._versions[whole] = _version(whole)
        self._values[tensor] = (value, 0 if base is None else self._writes.get(base, 0))

    def written(self, base: Tensor, value: Value | None) -> None:
        """The memory of ``base`` was written and holds ``value`` now; what its views held is outdated."""
        self._writes[base] = self._writes.get(base, 0) + 1
        self._versions[base] = _version(base)
        if value is None:
            self._values.pop(base, None)
        else:
            self._values[base] = (value, 0)

    def check_unwritten(self) -> None:
        """Raise GeoxaiError if memory that nodes keep was written to unseen."""
        for base in list(self._versions):
            self._check_unwritten(base)
        for now, before in self._exposed:
            if not torch.equal(now.nan_to_num(), before.nan_to_num()):
                self._refuse_write(now)

    def _check_unwritten(self, base: Tensor) -> None:
        if self._versions.get(base, -1) != _version(base):
            self._refuse_write(base)

    def _refuse_write(self, tensor: Tensor) -> None:
        raise GeoxaiError(
            f"values of shape {tuple(tensor.shape)} were written over at or before"
            f" {self.module_path() or 'the end of the network'} by something other than torch calls",
            fix="TorchScript, NumPy, other threads and custom operations must not write into values: write with torch"
            " operations, or explain with method gradient",
        )

    def owns(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` depends on the input and no other tensor sees its memory."""
        return tensor._base is None and tensor in self._values and tensor not in self._viewed

    def add(self, node: Node) -> None:
        """Put a node on the tape."""
        node.path = self._path(node)
        self.nodes.append(node)

    def keep(self, tensor: Tensor) -> Tensor:
        """An alias of ``tensor`` for a node to keep; it survives in-place operations on the original."""
        alias = tensor.detach()
        self._aliases.setdefault(_base(tensor), []).append(alias)
        return alias

    def protect(self, tensor: Tensor) -> None:
        """Before the memory of ``tensor`` is written: give aliases kept by nodes memory of their own."""
        if self._unwritable.get(_base(tensor)):
            raise Replay
        for alias in self._aliases.pop(_base(tensor), ()):
            alias.data = alias.clone()

    def write(self, target: Tensor, result: Tensor) -> Tensor:
        """Let ``target`` hold ``result``, as the original in-place operation would have done."""
        return memory.write(self, target, result)

    def depending(self, args: Any) -> Iterator[Tensor]:
        """The tensors among (nested) arguments that depend on the input."""
        return (t for t in tensors_in(args) if self.value(t) is not None)

    def _path(self, node: Node) -> str:
        weight = getattr(getattr(getattr(node, "crossing", None), "map", None), "weight", None)
        name = self.paths.get(id(weight)) if weight is not None else None
        return name.rpartition(".")[0] if name is not None else self.module_path()

    def module_path(self) -> str:
        """Path of the innermost module whose code is running."""
        return running_module(self.paths)


def running_module(paths: dict[int, str]) -> str:
    """Path of the innermost module whose code is running, from the interpreter's own stack: no hooks needed."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            path = paths.get(id(frame.f_locals.get("self")))
            if path is not None:
                return path
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _base(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base
