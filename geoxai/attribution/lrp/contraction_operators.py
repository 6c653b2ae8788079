"""Contractions with constant weights (einsum, tensordot), batched sums of products, and sums by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.further_maps import Contraction
from geoxai.attribution.lrp.gates import signal_first
from geoxai.attribution.lrp.graph import Refusal, tensors_in
from geoxai.attribution.lrp.maps import Fixed
from geoxai.attribution.lrp.nodes import record_index, record_map
from geoxai.attribution.lrp.operators import ALONE, Call, broadcast_samples, operator
from geoxai.attribution.lrp.products import explains, record_product

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MIXES = "it mixes samples, so there is no relevance of one sample", f"keep samples apart, {ALONE}"


@operator("einsum")
def einsum(call: Call) -> Any:
    """A product of two factors, one of them constant weights or gates; or a rearrangement and sum of one."""

    def parameters(equation: Any, *operands: Any) -> tuple:
        return equation, list(operands[0]) if isinstance(operands[0], list | tuple) else list(operands)

    equation, operands = call.bind(parameters)
    if not isinstance(equation, str) or len(operands) > 2:
        raise Refusal("its form has no rule", "write it as products of two factors with an equation in letters")
    labels, result = _labels(equation, [t.ndim for t in operands])
    return _contract(call, operands, labels, result)


@operator("tensordot")
def tensordot(call: Call) -> Any:
    """A contraction over several axes with constant weights."""

    def parameters(a: Tensor, b: Tensor, dims: Any = 2, out: Any = None) -> tuple:
        return a, b, dims

    a, b, dims = call.bind(parameters)
    if isinstance(dims, int):
        dims = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    first, second = ([axes] if isinstance(axes, int) else list(axes) for axes in dims)
    left, right = LETTERS[: a.ndim], list(LETTERS[a.ndim : a.ndim + b.ndim])
    for axis, other in zip(first, second):
        right[other] = left[axis % a.ndim]
    summed = {left[axis % a.ndim] for axis in first}
    result = "".join(c for c in (*left, *right) if c not in summed)
    return _contract(call, [a, b], [left, "".join(right)], result)


def _contract(call: Call, operands: list[Tensor], labels: list[str], result: str) -> Tensor:
    signals = [t for t in operands if call.value(t)]
    if len(signals) == 2 and explains(call, "product"):
        samples = [_arranged(v.sample, own, result) for t, own in zip(operands, labels) if (v := call.value(t))]
        equation = f"{labels[0]},{labels[1]}->{result}"
        return record_product(
            call, lambda a, b: torch.einsum(equation, a, b), tuple(operands),
            broadcast_samples(call, samples, len(result)),
        )  # fmt: skip
    signal = signal_first(call, *operands)[0] if len(signals) == 2 else signals[0]
    place = next(i for i, t in enumerate(operands) if t is signal)
    value = call.value(signal)
    assert value is not None
    if len(set(labels[place])) < len(labels[place]):
        raise Refusal("it takes a diagonal of its signal", "take the diagonal first")
    sample = _arranged(value.sample, labels[place], result)
    z = call.run()
    if len(operands) == 1:
        equation = f"{labels[0]}->{result}"
        if len(result) == len(labels[0]):
            return record_index(call.tape, call.name, torch.einsum, (equation, signal), {}, sample=sample)
        leaf = signal.data.requires_grad_()
        with torch.enable_grad():
            output = torch.einsum(equation, leaf)
        plain = Fixed(lambda x: torch.einsum(equation, x), leaf, output)
        return record_map(call.tape, call.name, "average", signal, plain, z, sample, value.nonnegative)
    other = operands[1 - place]
    equation = f"{labels[place]},{labels[1 - place]}->{result}"
    depends = call.value(other) is not None
    gated = depends and not bool((other < 0).any())
    weight = call.tape.keep(other) if depends else call.constant(other)
    contraction = Contraction(
        lambda x, w: torch.einsum(equation, x, w), weight, signal.shape, call.tape.cache, signed=not gated
    )
    group = "average" if gated else "linear"
    return record_map(call.tape, call.name, group, signal, contraction, z, sample)


def _labels(equation: str, axes: list[int]) -> tuple[list[str], str]:
    """One label per axis for each operand and the result, ellipses written out."""
    equation = equation.replace(" ", "")
    left, arrow, result = equation.partition("->")
    parts = left.split(",")
    free = [c for c in LETTERS if c not in equation]
    hidden = max((n - len(part.replace("...", "")) for part, n in zip(parts, axes) if "..." in part), default=0)
    extra = "".join(free[:hidden])
    labels = []
    for part, n in zip(parts, axes):
        own = n - len(part.replace("...", ""))
        labels.append(part.replace("...", extra[len(extra) - own :] if own else ""))
    if not arrow:
        every = "".join(parts).replace("...", "")
        return labels, extra + "".join(sorted(c for c in set(every) if every.count(c) == 1))
    return labels, result.replace("...", extra)


def _arranged(sample: Tensor, labels: str, result: str) -> Tensor:
    """Sample numbers of the result from those of the signal, whose axes are labelled."""
    varying = [axis for axis, size in enumerate(sample.shape) if size > 1]
    if any(labels[axis] not in result for axis in varying):
        raise Refusal(*MIXES)
    order = sorted(varying, key=lambda axis: result.index(labels[axis]))
    rest = [axis for axis in range(sample.ndim) if axis not in varying]
    shape = [sample.shape[labels.index(c)] if c in labels else 1 for c in result]
    return sample.permute(*order, *rest).reshape(shape)


@operator("baddbmm addbmm addmv")
def add_product(call: Call) -> Any:
    """``beta * input + alpha * (a @ b)``."""

    def parameters(input: Any, *factors: Tensor, beta: float = 1, alpha: float = 1, **named: Tensor) -> tuple:
        a, b = (*factors, *(named[key] for key in ("batch1", "mat", "batch2", "vec") if key in named))
        return input, a, b, beta, alpha

    constant, a, b, beta, alpha = call.bind(parameters)
    product = call.through(torch.matmul, a, b)
    if call.name == "addbmm":
        product = call.through(torch.sum, product, 0)
    if alpha != 1:
        product = call.through(torch.mul, product, alpha)
    if beta == 0:
        return product
    return call.through(torch.add, product, constant if beta == 1 else call.through(torch.mul, constant, beta))


@operator("index_add scatter_add")
def add_at_index(call: Call) -> Any:
    """Values added to those of another tensor at constant positions: the sums of a graph network."""

    def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> tuple:
        return input, dim, index, source, alpha

    def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> tuple:
        return input, dim, index, src, 1

    onto, dim, index, source, alpha = call.bind(index_add if call.name == "index_add" else scatter_add)
    function: Callable = torch.index_add if call.name == "index_add" else torch.scatter_add
    value = call.value(source)
    added = source if alpha == 1 else call.through(torch.mul, source, alpha)
    if value is not None and source.numel():
        if value.sample.shape[dim] > 1:
            raise Refusal(*MIXES)
        zeros = torch.zeros_like(onto)
        leaf = added.data.requires_grad_()
        with torch.enable_grad():
            output = function(zeros, dim, index, leaf)
        sums = Fixed(lambda x: function(zeros, dim, index, x.expand(leaf.shape)), leaf, output)
        known = call.value(added)
        assert known is not None
        z = output.detach()
        added = record_map(call.tape, call.name, "average", added, sums, z, known.sample, known.nonnegative)
    else:
        added = function(torch.zeros_like(onto), dim, index, added)
    if call.value(onto) is None and not any(bool(t.any()) for t in tensors_in(onto)):
        return added
    return call.through(torch.add, onto, added)


@operator("cumsum")
def running_sum(call: Call) -> Any:
    """A running sum along an axis: a linear map with weights of one."""

    def parameters(input: Tensor, dim: int, **_: Any) -> tuple:
        return input, dim

    x, dim = call.bind(parameters)
    value = call.value(x)
    assert value is not None
    if value.sample.shape[dim] > 1:
        raise Refusal(*MIXES)
    leaf = x.data.requires_grad_()
    with torch.enable_grad():
        output = torch.cumsum(leaf, dim)
    sums = Fixed(lambda t: torch.cumsum(t, dim), leaf, output)
    return record_map(call.tape, call.name, "average", x, sums, output.detach(), value.sample, value.nonnegative)
