"""Stepping over the function that closes a network: the values before a last softmax, log-softmax or sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from geoxai.attribution.calls import names_in, operation

CLOSING = frozenset({"softmax", "log_softmax", "sigmoid"})
RESHAPING = names_in(
    "reshape view flatten squeeze unsqueeze getitem select permute transpose movedim contiguous clone float to slice "
    "alias detach"
)


class Closing(TorchFunctionMode):
    """Runs a network and keeps, for each result of a closing function, the values before it.

    Index operations after the closing function are applied to those values too, so that they keep the output's shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: Any = WeakTensorKeyDictionary()

    def before(self, output: Tensor) -> tuple[str, Tensor] | None:
        """(name of the closing function, the values before it), or None if nothing closes ``output``."""
        return self._before.get(output)

    def compute(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """One torch call; subclasses say how it is done."""
        if torch.is_inference_mode_enabled():  # set by the network itself; what is explained needs a derivative
            with torch.inference_mode(False), torch.enable_grad():
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = self.compute(func, args, kwargs)
        name, in_place = operation(func)
        source, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
        if not isinstance(source, Tensor) or not isinstance(result, Tensor):
            return result
        if name in CLOSING and not in_place and result.shape == source.shape:
            self._before[result] = (name, source)
        elif name in RESHAPING and args and source in self._before and result is not source:
            closing, before = self._before[source]
            self._before[result] = (closing, self.compute(func, (before, *rest), kwargs))
        return result
