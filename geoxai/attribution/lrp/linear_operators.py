"""Operators that are linear in the input: dense layers, convolutions, averages, sums and products with
constants.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.convolution import Convolution
from geoxai.attribution.lrp.dense import Dense, Product
from geoxai.attribution.lrp.gates import between, gated_matmul, gated_product, is_gate, take_all
from geoxai.attribution.lrp.graph import Refusal, Value, owned, replace_tensors
from geoxai.attribution.lrp.joining import sum_of_maps
from geoxai.attribution.lrp.maps import Diagonal, Fixed, channel_shape
from geoxai.attribution.lrp.merging import negated, note_difference, note_scale, scaled, with_constant
from geoxai.attribution.lrp.nodes import ScaleNode, SumNode, record_index, record_map
from geoxai.attribution.lrp.operators import ALONE, Call, broadcast_samples, check_cells, operator, reduced_sample
from geoxai.attribution.lrp.resampling_operators import bicubic

MIXES = "it mixes samples, so there is no relevance of one sample"


@operator("linear")
def linear(call: Call) -> Any:
    """``x @ weight.T + bias``."""

    def parameters(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple:
        return input, weight, bias

    x, weight, bias = call.bind(parameters)
    return _dense(call, x, weight, bias)


@operator("addmm")
def addmm(call: Call) -> Any:
    """``beta * input + mat1 @ mat2``."""

    def parameters(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> tuple:
        return input, mat1, mat2, beta, alpha

    bias, x, weight, beta, alpha = call.bind(parameters)
    if call.value(bias) or call.value(weight) or not call.value(x):
        raise Refusal("more than its first factor depends on the input", "use a linear layer and a sum")
    plain = weight.T if alpha == 1 else weight.T * alpha
    return _dense(call, x, plain, bias if beta == 1 else bias * beta)


def _dense(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    value = call.value(x)
    if value is None or call.value(weight) or call.value(bias):
        raise Refusal("its weights depend on the input", "only products with constant weights can be crossed")
    if value.sample.shape[-1] > 1:
        raise Refusal(MIXES, f"keep samples apart, {ALONE}")
    dense = Dense(call.constant(weight), call.constant(bias), call.tape.cache)
    return record_map(call.tape, call.name, "linear", x, dense, call.run(), value.sample)


@operator("matmul rmatmul")
def matmul(call: Call) -> Any:
    """A product with a constant matrix on either side."""

    def parameters(input: Tensor, other: Any = None, mat2: Any = None, vec: Any = None) -> tuple:
        return input, next(t for t in (other, mat2, vec) if t is not None)

    a, b = call.bind(parameters)
    if call.name == "rmatmul":
        a, b = b, a
    if call.value(a) and call.value(b):
        return gated_matmul(call, a, b)
    left = call.value(a) is None
    x, weight = (b, a) if left else (a, b)
    value = call.value(x)
    assert value is not None
    contracted = -2 if left and x.ndim > 1 else -1
    if value.sample.shape[contracted] > 1:
        raise Refusal(MIXES, f"keep samples apart, {ALONE}")
    z = call.run()
    sample = value.sample
    if x.ndim == 1 or weight.ndim == 1:
        sample = sample.squeeze(contracted)
    sample = sample.reshape((1,) * (z.ndim - sample.ndim) + sample.shape)
    linear_map = Product(call.constant(weight), x.shape, left, call.tape.cache)
    if x.ndim == 1 and weight.ndim > 1:
        raise Refusal("its signal has one axis", "add a sample axis")
    return record_map(call.tape, call.name, "linear", x, linear_map, z, sample)


@operator("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution")
def convolution(call: Call) -> Any:
    """Convolutions and transposed convolutions with constant weights."""
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = call.bind(
        _convolution_parameters(call)
    )
    value = call.value(x)
    if value is None or call.value(weight) or call.value(bias):
        raise Refusal("its weights depend on the input", "only convolutions with constant weights can be crossed")
    spatial = weight.ndim - 2
    if x.ndim == spatial + 1 and value.sample.numel() == 1:
        return _without_batch_axis(call, x)
    if x.ndim == spatial + 1 or any(size > 1 for size in value.sample.shape[1:]):
        raise Refusal("samples do not lie along its batch axis", "keep the batch axis first")
    stride, dilation = _tuple(stride, spatial), _tuple(dilation, spatial)
    margin: tuple[int, ...] = ()
    if isinstance(padding, str):
        whole = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:])]
        padding = tuple(total // 2 for total in whole)
        margin = tuple(total - 2 * (total // 2) for total in whole)
    linear_map = Convolution(
        call.constant(weight),
        None if bias is None else call.constant(bias).reshape(channel_shape(spatial + 2, 1)),
        x.shape,
        stride,
        _tuple(padding, spatial),
        dilation,
        groups,
        call.tape.cache,
        transposed,
        _tuple(output_padding, spatial) if transposed else (),
        margin if any(margin) else (),
    )
    laid = call.tape.laid_out(x)
    if laid is x:
        return record_map(call.tape, call.name, "conv", x, linear_map, call.run(), value.sample)
    z = owned(call.func(*replace_tensors(call.args, lambda t: laid if t is x else t), **call.kwargs), laid)
    return record_map(call.tape, call.name, "conv", x, linear_map, z, value.sample, kept=laid)


def _without_batch_axis(call: Call, x: Tensor) -> Any:
    """The convolution of the only sample, given without a batch axis."""
    args = tuple(call.through(torch.unsqueeze, a, 0) if a is x else a for a in call.args)
    kwargs = {key: call.through(torch.unsqueeze, a, 0) if a is x else a for key, a in call.kwargs.items()}
    return call.through(torch.squeeze, call.through(call.func, *args, **kwargs), 0)


def _convolution_parameters(call: Call) -> Any:
    def conv(
        input: Tensor,
        weight: Tensor,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> tuple:
        return input, weight, bias, stride, padding, dilation, False, 0, groups

    def transposed(
        input: Tensor,
        weight: Tensor,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> tuple:
        return input, weight, bias, stride, padding, dilation, True, output_padding, groups

    def general(
        input: Tensor,
        weight: Tensor,
        bias: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        transposed: bool,
        output_padding: Any,
        groups: int,
        *_: Any,
    ) -> tuple:
        return input, weight, bias, stride, padding, dilation, transposed, output_padding, groups

    if call.name.endswith("convolution"):
        return general
    return transposed if "transpose" in call.name else conv


def _tuple(value: Any, length: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * length if len(values) == 1 else values


@operator(
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d"
)
def average_pool(call: Call) -> Any:
    """Average pooling: shares by activation."""
    return _fixed(call, "average")


@operator(
    "interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
    "upsample_bilinear2d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d upsample_nearest upsample_bilinear"
)
def interpolate(call: Call) -> Any:
    """Nearest neighbour copies; linear interpolation is a map with weights >= 0."""
    mode = call.kwargs.get("mode", call.args[3] if len(call.args) > 3 and call.name == "interpolate" else None)
    if call.name not in ("interpolate", "upsample"):
        mode = "nearest" if "nearest" in call.name else "linear"
    if mode is None or mode.startswith("nearest"):
        value = call.value(call.first)
        assert value is not None
        check_cells(call, value)
        return record_index(call.tape, call.name, call.func, call.args, call.kwargs, sample=value.sample)
    if mode == "bicubic":
        return bicubic(call)
    if mode not in ("linear", "bilinear", "trilinear", "area"):
        raise Refusal(f"mode {mode!r} has no rule", "use mode bicubic, bilinear or nearest")
    return _fixed(call, "upsample")


@operator("mean sum")
def reduction(call: Call) -> Any:
    """Mean or sum over axes: a linear map with equal weights."""

    def parameters(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None, **_: Any) -> tuple:
        return input, axis if dim is None else dim, keepdim

    x, dims, keepdim = call.bind(parameters)
    value = call.value(x)
    assert value is not None
    return _fixed(call, "average", reduced_sample(call, value, dims, keepdim))


def _fixed(call: Call, group: str, sample: Tensor | None = None) -> Any:
    x = call.first
    value = call.value(x)
    assert value is not None
    if sample is None:
        sample = value.sample
        check_cells(call, value)
    place = next((i for i, argument in enumerate(call.args) if argument is x), None)
    if place is None:
        raise Refusal("its input is not a plain argument", "pass the input first")

    def forward(tensor: Tensor) -> Tensor:
        return call.func(*call.args[:place], tensor, *call.args[place + 1 :], **call.kwargs)

    leaf = x.data.requires_grad_()
    with torch.enable_grad():
        output = forward(leaf)
    return record_map(
        call.tape, call.name, group, x, Fixed(forward, leaf, output), output.detach(), sample, value.nonnegative
    )


@operator("add sub rsub")
def add(call: Call) -> Any:
    """A sum or difference; constants in it are a bias."""

    def parameters(input: Any, other: Any, *, alpha: float = 1) -> tuple:
        return input, other, alpha

    a, b, alpha = call.bind(parameters)
    signs = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[call.name]
    terms = [(t, sign) for t, sign in zip((a, b), signs) if call.value(t)]
    z = call.run()
    if len(terms) == 1:
        constant, sign = (b, signs[1]) if call.value(a) else (a, signs[0])
        return _add_constant(call, terms[0], constant if sign == 1 else constant * sign, z)
    values = tuple(value for t, _ in terms if (value := call.value(t)))
    if all(sign == 1 for _, sign in terms):
        apart = between(call, a, b) or between(call, b, a)
        if apart is not None:
            return call.through(torch.add, *apart)
        joined = sum_of_maps(call.tape, values, z)
        if joined is not None:
            call.tape.track(z, joined)
            return z
    sample = broadcast_samples(call, [value.sample for value in values], z.ndim)
    kept = [call.tape.keep(t) if sign == 1 else t * sign for t, sign in terms]
    nonnegative = all(sign > 0 for _, sign in terms) and all(value.nonnegative for value in values)
    node = SumNode(call.name, values, kept, call.tape.keep(z), sample, nonnegative)
    call.tape.add(node)
    call.tape.track(z, Value(node, 0, z.shape, sample, nonnegative))
    return z


def _add_constant(call: Call, term: tuple[Tensor, float], constant: Any, z: Tensor) -> Tensor:
    """``sign * x + constant``. Right after a weighted map it is that map's bias, as the layers of some
    frameworks write it.
    """
    tape = call.tape
    x, sign = term
    value = call.value(x)
    assert value is not None
    standing = tape.standing.get(constant) if isinstance(constant, Tensor) else None
    constant = call.constant(torch.as_tensor(constant, dtype=z.dtype, device=z.device))
    if standing is not None:
        tape.standing[constant] = standing
    if bool(torch.isneginf(constant).any()) and sign == 1:  # a mask of scores
        hidden = torch.isneginf(constant)
        shown = call.through(torch.masked_fill, x, hidden, -torch.inf)
        return call.through(torch.add, shown, constant.masked_fill(hidden, 0))
    sample = value.sample.reshape((1,) * (z.ndim - len(value.shape)) + value.sample.shape)
    if sign == -1 and z.shape == x.shape and (turned := negated(tape, value, minus := -x)) is not None:
        tape.track(minus, turned)
        return _add_constant(call, (minus, 1), constant, z)
    if sign == 1 and z.shape == x.shape:
        if not bool(constant.any()):  # such as a first state behind a gate
            tape.track(z, value)
            return z
        merged = with_constant(tape, x, constant, z, call.name == "sub") or sum_of_maps(tape, (value,), z, constant)
        if merged is not None:
            tape.track(z, merged)
            return z
    if z.shape != x.shape:
        x = record_index(tape, "expand", torch.Tensor.expand, (x, z.shape), {}, sample=sample)
    weight = None if sign == 1 else torch.full((1,) * z.ndim, float(sign), dtype=z.dtype, device=z.device)
    nonnegative = value.nonnegative and sign > 0 and constant.numel() == 1 and bool(constant >= 0)
    bias = constant if constant.ndim else constant.reshape((1,) * z.ndim)
    record_map(tape, call.name, "sum", x, Diagonal(weight, bias, tape.cache), z, sample, nonnegative)
    if call.name == "sub" and sign == 1 and (shifted := tape.value(z)) is not None:
        note_difference(tape, shifted, x, bias)
    return z


@operator("mul div neg")
def scale(call: Call) -> Any:
    """A product or quotient with a constant."""
    if call.name == "neg":
        tensor, constant = call.first, torch.tensor(-1.0)
    else:

        def parameters(input: Any, other: Any, *, rounding_mode: Any = None) -> tuple:
            return input, other, rounding_mode

        a, b, rounding = call.bind(parameters)
        if call.value(a) and call.value(b):
            return gated_product(call, a, b) if call.name == "mul" else take_all(call, a, b)
        if rounding is not None or (call.name == "div" and call.value(a) is None):
            raise Refusal("it divides by the input or rounds", "only quotients by constants can be crossed")
        tensor, constant = (a, b) if call.value(a) else (b, a)
    value = call.value(tensor)
    assert value is not None
    z = call.run()
    if isinstance(constant, Tensor) and is_gate(value) and (constant in call.tape.standing or not bool(constant.any())):
        call.tape.standing[z] = True
        return z  # a gate on zeros or on a layer's constant, such as the first state of a recurrence
    sample = value.sample.reshape((1,) * (z.ndim - tensor.ndim) + value.sample.shape)
    if call.name == "neg" and (turned := negated(call.tape, value, z)) is not None:
        call.tape.track(z, turned)
        return z
    kept = call.tape.keep(constant) if isinstance(constant, Tensor) else constant
    factor = None
    if isinstance(constant, Tensor) and constant.numel() > 1 and z.shape == tensor.shape:
        factor = call.constant(constant) if call.name == "mul" else constant.reciprocal()
        norm = scaled(call.tape, value, factor, z)
        if norm is not None:
            call.tape.track(z, norm)
            return z
    node = ScaleNode(call.name, value, kept if call.name == "mul" else 1.0, z.shape, sample)
    call.tape.add(node)
    nonnegative = value.nonnegative and bool(torch.as_tensor(constant >= 0).all())
    product = Value(node, 0, z.shape, sample, nonnegative)
    call.tape.track(z, product)
    if factor is not None:
        note_scale(call.tape, product, tensor, factor)
    return z
