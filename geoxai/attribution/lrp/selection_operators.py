"""Operations that select values by order or position: sorting, unpooling, patches, sampling at points."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.graph import Refusal, replace_tensors
from geoxai.attribution.lrp.maps import Fixed
from geoxai.attribution.lrp.nodes import record_index, record_map
from geoxai.attribution.lrp.operators import ALONE, Call, index_map, operator

MIXES = "it mixes samples, so there is no relevance of one sample", f"keep samples apart, {ALONE}"


@operator("sort msort topk kthvalue median")
def by_order(call: Call) -> Any:
    """Values selected by their order along an axis: relevance goes to where they came from."""

    def ordered(input: Tensor, dim: int = -1, *_: Any, **__: Any) -> tuple:
        return input, dim

    def best(input: Tensor, k: Any, dim: int = -1, *_: Any, **__: Any) -> tuple:
        return input, dim

    x, dim = call.bind(best if call.name in ("topk", "kthvalue") else ordered)
    value = call.value(x)
    if value is None or (call.name == "median" and len(call.args) + len(call.kwargs) < 2):
        raise Refusal("it leaves no axis for samples", "name the axis it works along")
    dim = 0 if call.name == "msort" else dim
    if value.sample.shape[dim] > 1:
        raise Refusal(*MIXES)
    result_axes = call.run()
    gone = (result_axes if isinstance(result_axes, Tensor) else result_axes[0]).ndim < x.ndim
    return record_index(
        call.tape, call.name, call.func, call.args, call.kwargs, how="winner", values_needed=True,
        sample=value.sample.squeeze(dim) if gone else value.sample, nonnegative=value.nonnegative,
    )  # fmt: skip


@operator("max_unpool1d max_unpool2d max_unpool3d")
def unpool(call: Call) -> Any:
    """Values put back where a max pooling took them from, zeros elsewhere."""
    value = call.value(call.first)
    assert value is not None
    return record_index(
        call.tape, call.name, call.func, call.args, call.kwargs, sample=value.sample, constants=True,
        nonnegative=value.nonnegative,
    )  # fmt: skip


@operator("unfold im2col")
def patches(call: Call) -> Any:
    """Patches of images as columns; ``Tensor.unfold``, of windows along an axis, has the same name."""
    if call.name == "unfold" and call.func is not F.unfold:
        return index_map(call)
    x = call.first
    value = call.value(x)
    assert value is not None
    return record_index(
        call.tape, "unfold", call.func, call.args, call.kwargs, sample=_columns(call), constants=True,
        nonnegative=value.nonnegative,
    )  # fmt: skip


def _columns(call: Call) -> Tensor:
    """Sample numbers of columns and images alike, samples first."""
    x = call.first
    value = call.value(x)
    assert value is not None
    if any(size > 1 for size in value.sample.shape[1:]):
        raise Refusal("samples do not lie along its batch axis", "keep the batch axis first")
    if x.ndim == (3 if call.name in ("unfold", "im2col") else 2):
        raise Refusal("it has no batch axis", "keep the batch axis first")
    return value.sample.reshape(-1, 1, *[1] * (1 if x.ndim == 4 else 2))


@operator("fold col2im")
def overlapping_patches(call: Call) -> Any:
    """Columns put back as patches of an image, summed where they overlap."""
    return _linear(call, "average", _columns(call))


@operator("grid_sample grid_sampler grid_sampler_2d grid_sampler_3d")
def sample_at_points(call: Call) -> Any:
    """Values at constant points, by linear interpolation: weights >= 0, as in upsampling."""
    x = call.first
    if x is not (call.args[0] if call.args else call.kwargs["input"]):
        raise Refusal("its points depend on the input", "keep them constant, or explain with method gradient")
    value = call.value(x)
    assert value is not None
    mode = call.kwargs.get("mode", call.kwargs.get("interpolation_mode", [*call.args, 0, 0][2]))
    if len(list(call.tape.depending((call.args, call.kwargs)))) > 1 or mode in ("bicubic", 2):
        raise Refusal("its points depend on the input, or it is bicubic", "use mode bilinear at constant points")
    if any(size > 1 for size in value.sample.shape[1:]):
        raise Refusal("samples do not lie along its batch axis", "keep the batch axis first")
    return _linear(call, "upsample", value.sample)


def _linear(call: Call, group: str, sample: Tensor) -> Tensor:
    """A map of the first argument with implicit weights >= 0."""
    x = call.first
    value = call.value(x)
    assert value is not None
    others = (call.args[1:] if call.args else (), {k: given for k, given in call.kwargs.items() if given is not x})
    rest, kwargs = replace_tensors(others, torch.clone)  # the network may write into them later

    def forward(tensor: Tensor) -> Tensor:
        return call.func(tensor, *rest, **kwargs)

    leaf = x.data.requires_grad_()
    with torch.enable_grad():
        output = forward(leaf)
    spread = Fixed(forward, leaf, output)
    return record_map(call.tape, call.name, group, x, spread, output.detach(), sample, value.nonnegative)
