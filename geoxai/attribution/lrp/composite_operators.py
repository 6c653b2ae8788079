"""Operations that are shorthand for a chain of others, each of which has its rule."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.graph import Refusal
from geoxai.attribution.lrp.operators import WRITE_OUT, Call, operator


@operator("addcmul addcdiv")
def add_product_or_quotient(call: Call) -> Any:
    """``input + value * tensor1 * tensor2`` or ``/ tensor2``."""

    def parameters(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> tuple:
        return input, tensor1, tensor2, value

    onto, a, b, factor = call.bind(parameters)
    product = call.through(torch.mul if call.name == "addcmul" else torch.div, a, b)
    return call.through(torch.add, onto, product if factor == 1 else call.through(torch.mul, product, factor))


@operator("lerp")
def interpolation_of_two(call: Call) -> Any:
    """``start * (1 - weight) + end * weight`` with a constant weight, or one that is a gate."""

    def parameters(input: Tensor, end: Tensor, weight: Any) -> tuple:
        return input, end, weight

    start, end, weight = call.bind(parameters)
    rest = call.through(torch.sub, 1, weight) if isinstance(weight, Tensor) else 1 - weight
    return call.through(torch.add, call.through(torch.mul, start, rest), call.through(torch.mul, end, weight))


@operator("diff")
def difference(call: Call) -> Any:
    """Differences of neighbours."""

    def parameters(input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> tuple:
        return input, n, dim, prepend, append

    x, times, dim, before, after = call.bind(parameters)
    parts = [t for t in (before, x, after) if t is not None]
    x = parts[0] if len(parts) == 1 else call.through(torch.cat, parts, dim)
    for _ in range(times):
        length = x.shape[dim] - 1
        above, below = (call.through(torch.narrow, x, dim, start, length) for start in (1, 0))
        x = call.through(torch.sub, above, below)
    return x


@operator("inner linalg_vecdot")
def inner_product(call: Call) -> Any:
    """Products summed over the last axis."""

    def inner(input: Tensor, other: Tensor) -> tuple:
        return input, other, -1

    def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> tuple:
        return x, y, dim

    if call.name == "inner":
        a, b, _ = call.bind(inner)
        return call.through(torch.matmul, a, b) if b.ndim < 2 else call.through(torch.tensordot, a, b, ([-1], [-1]))
    a, b, dim = call.bind(vecdot)
    return call.through(torch.sum, call.through(torch.mul, a, b), dim)


@operator("linalg_multi_dot chain_matmul")
def chain_of_products(call: Call) -> Any:
    """Products of matrices, from the left."""
    factors = call.args[0] if isinstance(call.args[0], list | tuple) else call.args
    return reduce(lambda a, b: call.through(torch.matmul, a, b), factors)


@operator("norm linalg_norm linalg_vector_norm frobenius_norm")
def euclidean_norm(call: Call) -> Any:
    """The root of the sum of squares, such as a wind speed: shares are proportional to the squares."""

    def parameters(x: Any = None, p: Any = 2, dim: Any = None, keepdim: bool = False, **options: Any) -> tuple:
        x, p = options.pop("input", options.pop("A", x)), options.pop("ord", p)
        return x, p, dim, keepdim

    x, power, dim, keepdim = call.bind(parameters)
    matrix = call.name == "linalg_norm" and power is not None and not isinstance(dim, int)
    if power not in (None, 2, 2.0, "fro") or dim is None or matrix:
        raise Refusal("it is not the root of a sum of squares over named axes", WRITE_OUT)
    return call.through(torch.sqrt, call.through(torch.sum, call.through(torch.square, x), dim, keepdim))


@operator("normalize")
def unit_length(call: Call) -> Any:
    """A quotient by the norm of the same, which is a gate."""

    def parameters(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> tuple:
        return input, p, dim, eps

    x, power, dim, eps = call.bind(parameters)
    length = call.through(torch.linalg.vector_norm, x, power, dim, True)
    return call.through(torch.div, x, call.through(torch.clamp_min, length, eps))


@operator("var_mean std_mean")
def spread_and_mean(call: Call) -> Any:
    """Variance or standard deviation, a gate where something is divided by it, and the mean."""
    spread = call.through(torch.var if call.name == "var_mean" else torch.std, *call.args, **call.kwargs)
    options = {key: value for key, value in call.kwargs.items() if key in ("input", "dim", "keepdim")}
    if len(call.args) > 3:  # (input, dim, unbiased, keepdim)
        options["keepdim"] = call.args[3]
    return spread, call.through(torch.mean, *call.args[:2], **options)


@operator("nan_to_num nansum nanmean")
def without_nan(call: Call) -> Any:
    """If there is no NaN, the same as without the precaution."""
    x = call.first
    if not bool(torch.isfinite(x).all()):
        raise Refusal("its input holds NaN or infinite values", "mask them before they arise, such as with torch.where")
    if call.name == "nan_to_num":
        return call.through(torch.clone, x)
    return call.through(torch.sum if call.name == "nansum" else torch.mean, *call.args, **call.kwargs)
