"""One name for each torch operation, however it is called: function, method, operator, property or aten overload."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

DUNDER = {
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__truediv__": "div",
    "__rtruediv__": "rdiv",
    "__neg__": "neg",
    "__matmul__": "matmul",
    "__rmatmul__": "rmatmul",
    "__pow__": "pow",
    "__getitem__": "getitem",
    "__iadd__": "add_",
    "__isub__": "sub_",
    "__imul__": "mul_",
    "__itruediv__": "div_",
    "__setitem__": "setitem_",
}
SYNONYMS = {
    "concat": "cat",
    "concatenate": "cat",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "negative": "neg",
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "special_expit": "sigmoid",
    "expit": "sigmoid",
    "_native_batch_norm_legit_no_training": "native_batch_norm",
    "_unsafe_view": "view",
    "_threshold": "threshold",
    "to_copy": "to",
    "_to_copy": "to",
}


def names_in(text: str) -> frozenset[str]:
    """The names in space-separated text."""
    return frozenset(text.split())


@lru_cache(maxsize=4096)
def operation(func: Callable) -> tuple[str, bool]:
    """(name, in place) of a torch function; the name is without the trailing underscore of in-place variants."""
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        whole = func._schema.name if isinstance(func, torch._ops.OpOverload) else func._qualified_op_name
        name = whole.removeprefix("aten::")  # other libraries keep their namespace: their relu may be anything
    else:
        name = getattr(func, "__name__", repr(func))
        if name in ("__get__", "__set__"):
            attribute = getattr(getattr(func, "__self__", None), "__name__", "property")
            name = attribute if name == "__get__" else f"{attribute}.set_"
    name = DUNDER.get(name, name)
    in_place = name.endswith("_") and not name.endswith("__")
    name = name.rstrip("_") if in_place else name
    name = SYNONYMS.get(name, name)
    if name == "batch_norm" and getattr(func, "__module__", None) != "torch.nn.functional":
        name = "torch_batch_norm"  # other order of arguments than the functional one
    return name, in_place


# numpy's names of arguments, which torch's compiled functions accept too
NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}
FIRST = ("input", "self", "tensors", "tensor")


def plainly_named(func: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call, the first by position and numpy's names replaced by torch's own."""
    if not kwargs:
        return args, kwargs
    name, _ = operation(func)
    if signature(func) is None and not name.startswith("linalg"):
        kwargs = {NUMPY_NAMES.get(key, key): value for key, value in kwargs.items()}
    if args:
        return args, kwargs
    kwargs = dict(kwargs)
    if name == "where" and "condition" in kwargs:
        return tuple(kwargs.pop(key) for key in ("condition", "input", "self", "other") if key in kwargs), kwargs
    first = next((key for key in FIRST if key in kwargs), None)
    if first is None or _first_parameter(func) not in (first, None):
        return args, kwargs
    return (kwargs.pop(first),), kwargs


@lru_cache(maxsize=4096)
def _first_parameter(func: Callable) -> str | None:
    """Name of a function's first parameter, None if unknown."""
    if isinstance(func, torch._ops.OpOverload):
        return func._schema.arguments[0].name if func._schema.arguments else None
    known = signature(func)
    first = None if known is None else next(iter(known.parameters.values()), None)
    return None if first is None or first.kind is first.VAR_POSITIONAL else first.name


@lru_cache(maxsize=4096)
def out_of_place(func: Callable) -> Callable | None:
    """The out-of-place variant of an in-place function, or None if torch has none."""
    name, _ = operation(func)
    if name == "setitem":
        return _set_item
    if name == "copy":
        return copy_of
    if isinstance(func, torch._ops.OpOverload):
        packet = getattr(torch.ops.aten, name, None)
        return getattr(packet, func._overloadname, None)
    for place in (Tensor, torch, F):
        found = getattr(place, name, None)
        if callable(found):
            return found
    return None


@lru_cache(maxsize=4096)
def signature(func: Callable) -> inspect.Signature | None:
    """The signature of a function written in Python, None for builtins."""
    try:
        return inspect.signature(func)
    except (TypeError, ValueError):
        return None


def without_flag(func: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[bool, tuple, dict[str, Any]]:
    """Whether a functional call asks for ``inplace``, and its arguments with it switched off."""
    if kwargs.get("inplace"):
        return True, args, {**kwargs, "inplace": False}
    if len(args) > 1 and getattr(func, "__module__", None) == F.__name__:
        known = signature(func)
        names = list(known.parameters) if known is not None else []
        place = names.index("inplace") if "inplace" in names else len(args)
        if place < len(args) and args[place] is True:
            return True, (*args[:place], False, *args[place + 1 :]), kwargs
    return False, args, kwargs


def _set_item(tensor: Tensor, key: Any, value: Any) -> Tensor:
    result = tensor.clone()
    result[key] = value
    return result


def copy_of(tensor: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What ``tensor.copy_(source)`` leaves in ``tensor``."""
    return source.to(tensor.dtype).expand_as(tensor).clone()
