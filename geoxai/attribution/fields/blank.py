"""Running a network on tensors without values: shapes only.

Torch answers most operations on meta tensors in microseconds, but runs some through Python references of several
hundred (activations, batch norm) to ten thousand (linear interpolation). Their results have the shape of an argument,
or of a cheaper operation. To the network such tensors seem to be where its weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.calls import names_in
from geoxai.attribution.lrp.graph import tensors_in
from geoxai.attribution.lrp.operators import ACTIVATIONS
from geoxai.attribution.networks import call

LIKE_INPUT = frozenset(ACTIVATIONS) | names_in("batch_norm torch_batch_norm")
SMOOTH = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}  # ways to interpolate, and axes they take


class Stopped(Exception):
    """Raised by geoxai inside a network's forward pass to end it."""


class Unfollowed(Exception):
    """The network itself does not run without values, or not on an input of this shape."""


class Fault(Stopped):
    """geoxai's own code failed at an operation: a fault, but no reason for the explanation to fail."""


def run_blank(model: torch.nn.Module, x: Tensor) -> Any:
    """The network's result. Raises ``Unfollowed`` from whatever the network raises."""
    try:
        with torch.no_grad():
            return call(model, (x,))
    except Stopped:
        raise
    except Exception as error:
        raise Unfollowed(f"{type(error).__name__}: {error}") from error


def home(model: torch.nn.Module) -> torch.device:
    """The device of the network's weights."""
    weight = next((w for w in [*model.parameters(), *model.buffers()]), None)
    return torch.device("cpu") if weight is None else weight.device


def blank_result(
    func: Callable, name: str, in_place: bool, args: tuple, kwargs: dict[str, Any], device: torch.device
) -> Any:
    """What ``func`` returns for tensors without values that seem to be on ``device``."""
    if args and isinstance(args[0], Tensor) and args[0].is_meta:
        if name == "device":
            return device
        if name == "is_meta":
            return False
        if name in ("to", "cpu", "cuda"):
            return _moved(name, args[0], *args[1:], **kwargs)
        if name in LIKE_INPUT and _is_like_input(name, args, kwargs):
            return args[0] if in_place else torch.empty(args[0].shape, dtype=args[0].dtype, device="meta")
    if func is F.interpolate and 1 <= len(args) <= 3 and SMOOTH.get(kwargs.get("mode", "")) == args[0].ndim:
        return func(*args, **kwargs | {"mode": "nearest", "align_corners": None, "antialias": False})
    return func(*args, **kwargs)


def _moved(name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``x`` on another device, still without values, and of another dtype."""
    given = [*args, *kwargs.values()] if name == "to" else []
    like = next((a.dtype for a in given if isinstance(a, Tensor)), x.dtype)
    dtype = next((a for a in given if isinstance(a, torch.dtype)), like)
    return x if dtype == x.dtype and not kwargs.get("copy") else torch.empty_like(x, dtype=dtype)


def _is_like_input(name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether the result surely has the shape and dtype of the first argument; torch handles what it may refuse."""
    x, others = args[0], list(tensors_in((args[1:], kwargs)))
    if not x.is_floating_point() or not x.is_contiguous() or "out" in kwargs:
        return False
    if name in ACTIVATIONS:
        return not others
    return x.ndim > 1 and all(t.shape == x.shape[1:2] and t.dtype == x.dtype for t in others)


def blank(tensor: Tensor) -> Tensor:
    """A tensor of the same shape without values."""
    return tensor if tensor.is_meta else torch.empty_like(tensor, device="meta")


def plain_arguments(args: Any) -> Any:
    """Arguments without their tensors, for comparison."""
    if isinstance(args, Tensor):
        return None
    if isinstance(args, tuple | list):
        return tuple(plain_arguments(item) for item in args)
    if isinstance(args, dict):
        return tuple((key, plain_arguments(item)) for key, item in args.items() if key != "device")
    if isinstance(args, slice):
        return ("slice", args.start, args.stop, args.step)
    if isinstance(args, np.ndarray):
        return (args.shape, args.tobytes())
    return args


def same_constant(a: Tensor, b: Tensor) -> bool:
    """Whether two constants are identical or equal; without values, whether they have the same shape."""
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype or a.is_meta != b.is_meta:
        return False
    return a.is_meta or bool(torch.equal(a, b))
