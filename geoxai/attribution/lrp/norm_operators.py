"""Norms: batch norm, and norms with statistics of the sample itself: layer, group, instance, root-mean-square norm.

In the latter, the standard deviation is held constant as a gate without relevance (the LN-rule of Ali et al. 2022);
the rest, centring and scaling, is a linear map with its own bias, so that relevance is conserved.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.further_maps import Centred
from geoxai.attribution.lrp.graph import Refusal
from geoxai.attribution.lrp.maps import Diagonal, LinearMap, channel_shape
from geoxai.attribution.lrp.merging import with_norm
from geoxai.attribution.lrp.nodes import record_map
from geoxai.attribution.lrp.operators import Call, operator

STANDS = "its statistics run over samples", "normalise over other axes than the sample's"


@operator("layer_norm native_layer_norm")
def layer_norm(call: Call) -> Any:
    """Norm over the last axes."""

    def parameters(
        input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
    ) -> tuple:
        return input, normalized_shape, weight, bias, eps

    x, over, weight, bias, eps = call.bind(parameters)
    axes = tuple(range(x.ndim - len(over), x.ndim))
    if not x.numel():  # torch warns of statistics of nothing
        return call.through(torch.mul, x, 1.0)
    shape = (1,) * (x.ndim - len(over)) + tuple(over)
    deviation = (x.var(axes, correction=0, keepdim=True) + eps).sqrt()
    scale = (1 if weight is None else weight.reshape(shape)) / deviation
    return _norm(call, x, Centred(scale, axes, tuple(x.shape), None if bias is None else bias.reshape(shape)), axes)


@operator("group_norm native_group_norm")
def group_norm(call: Call) -> Any:
    """Norm over groups of channels and all cells."""

    def functional(
        input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
    ) -> tuple:
        return input, num_groups, weight, bias, eps

    def native(input: Tensor, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int, eps: float) -> tuple:
        return input, group, weight, bias, eps

    x, groups, weight, bias, eps = call.bind(native if call.name.startswith("native") else functional)
    return _grouped(call, x, groups, weight, bias, eps)


@operator("instance_norm")
def instance_norm(call: Call) -> Any:
    """Norm of each channel over all cells; with running statistics a diagonal map, as batch norm."""

    def functional(
        input: Tensor, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
        use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5, *_: Any,
    ) -> tuple:  # fmt: skip
        return input, running_mean, running_var, weight, bias, use_input_stats, eps

    def native(
        input: Tensor, weight: Any, bias: Any, running_mean: Any, running_var: Any, use_input_stats: bool,
        momentum: float, eps: float, cudnn_enabled: bool = True,
    ) -> tuple:  # fmt: skip
        return input, running_mean, running_var, weight, bias, use_input_stats, eps

    is_functional = getattr(call.func, "__module__", None) == "torch.nn.functional"
    x, mean, variance, weight, bias, own, eps = call.bind(functional if is_functional else native)
    if own or mean is None:
        return _grouped(call, x, x.shape[1], weight, bias, eps)
    shape = channel_shape(x.ndim, 1)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    return _norm(call, x, Diagonal(scale.reshape(shape), shift.reshape(shape), call.tape.cache), ())


@operator("_native_batch_norm_legit")
def own_statistics_norm(call: Call) -> Any:
    """Instance norm as exported programs write it: a norm of each channel, samples and channels on one axis."""

    def parameters(input: Tensor, weight: Any, bias: Any, training: bool, momentum: float, eps: float) -> tuple:
        return input, weight, bias, eps

    if len(call.args) + len(call.kwargs) != 6:
        raise Refusal(*STANDS)
    x, weight, bias, eps = call.bind(parameters)
    axes = (0, *range(2, x.ndim))
    shape = channel_shape(x.ndim, 1)
    deviation = (x.var(axes, correction=0, keepdim=True) + eps).sqrt()
    scale = (1 if weight is None else weight.reshape(shape)) / deviation
    return _norm(call, x, Centred(scale, axes, tuple(x.shape), None if bias is None else bias.reshape(shape)), axes)


@operator("rms_norm _fused_rms_norm")
def root_mean_square_norm(call: Call) -> Any:
    """Division by the root mean square over the last axes: a diagonal map."""

    def parameters(input: Tensor, normalized_shape: Any, weight: Any = None, eps: Any = None) -> tuple:
        return input, normalized_shape, weight, eps

    x, over, weight, eps = call.bind(parameters)
    axes = tuple(range(x.ndim - len(over), x.ndim))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    scale = (x.square().mean(axes, keepdim=True) + eps).rsqrt() * (1 if weight is None else weight)
    return _norm(call, x, Diagonal(scale, None, call.tape.cache), axes)


def _grouped(call: Call, x: Tensor, groups: int, weight: Any, bias: Any, eps: float) -> Any:
    shape = (len(x), groups, x.shape[1] // groups, prod(x.shape[2:]))
    deviation = (x.reshape(shape).var((2, 3), correction=0, keepdim=True) + eps).sqrt()
    scale = (1 if weight is None else weight.reshape(1, groups, -1, 1)) / deviation
    shift = None if bias is None else bias.reshape(channel_shape(x.ndim, 1))
    return _norm(call, x, Centred(scale, (2, 3), shape, shift), tuple(range(1, x.ndim)))


def _norm(call: Call, x: Tensor, linear: LinearMap, axes: tuple[int, ...]) -> Any:
    value = call.value(x)
    if value is None or len(list(call.tape.depending((call.args, call.kwargs)))) > 1:
        raise Refusal("its weights depend on the input", "keep them constant")
    if any(value.sample.shape[axis] > 1 for axis in axes):
        raise Refusal(*STANDS)
    result = call.run()
    z = result if isinstance(result, Tensor) else result[0]
    record_map(call.tape, call.name, "norm", x, linear, z, value.sample)
    return result


@operator("batch_norm torch_batch_norm native_batch_norm")
def batch_norm(call: Call) -> Any:
    """Batch norm in eval mode: a diagonal linear map with its own bias."""

    def functional(
        input: Any,
        running_mean: Any,
        running_var: Any,
        weight: Any = None,
        bias: Any = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple:
        return input, running_mean, running_var, weight, bias, training, eps

    def native(
        input: Any,
        weight: Any,
        bias: Any,
        running_mean: Any,
        running_var: Any,
        training: bool,
        momentum: float,
        eps: float,
        cudnn_enabled: bool = True,
    ) -> tuple:
        return input, running_mean, running_var, weight, bias, training, eps

    def no_training(input: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float) -> tuple:
        return input, mean, var, weight, bias, False, eps

    forms: dict[str, Callable] = {"batch_norm": functional, "torch_batch_norm": native}
    parameters = forms.get(call.name, no_training)
    x, mean, variance, weight, bias, training, eps = call.bind(parameters)
    value = call.value(x)
    if value is None or training or mean is None or variance is None:
        raise Refusal("it normalises with statistics of the batch, which mixes samples", "call model.eval() first")
    shape = channel_shape(x.ndim, 1)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    diagonal = Diagonal(scale.reshape(shape), shift.reshape(shape), call.tape.cache)
    result = call.run()
    z = result if isinstance(result, Tensor) else result[0]
    path = call.tape.paths.get(id(weight), call.tape.module_path() + ".weight").rpartition(".")[0]
    if call.tape.rules.folds(path):
        folded = with_norm(call.tape, value, scale, shift, z, path)
        if folded is not None:
            call.tape.track(z, folded)
            return result
    record_map(call.tape, "batch_norm", "norm", x, diagonal, z, value.sample)
    call.tape.nodes[-1].path = path
    return result
