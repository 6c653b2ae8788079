"""Local operations that compute: activations, convolutions, pools, interpolation, norms, dense layers over channels."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from geoxai.attribution.fields.reach import Reach
from geoxai.attribution.fields.table import aligned, each, kept, local, spatial
from geoxai.attribution.fields.trace import Geometry, TracedCall
from geoxai.attribution.lrp.operators import ACTIVATIONS


@local(
    " ".join(sorted(set(ACTIVATIONS) - {"prelu"})) + " add sub rsub mul div neg pow square sqrt rsqrt abs exp "
    "log log1p expm1 sin cos reciprocal maximum minimum fmax fmin where lerp addcmul addcdiv erf dropout "
    "alpha_dropout feature_dropout dropout1d dropout2d dropout3d feature_alpha_dropout contiguous clone to float "
    "double half bfloat16 type type_as convert_element_type detach detach_copy data alias identity lift_fresh "
    "lift_fresh_copy masked_fill zeros_like ones_like full_like eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ "
    "__ge__ logical_and logical_or logical_not bitwise_and __and__ __or__ __invert__ bool isnan isfinite sign expand "
    "expand_as broadcast_to"
)
def _elementwise(call: TracedCall) -> Geometry:
    """Each result depends on the values at its own position; constants may not vary along an axis."""
    if not all(len(place.shape) <= len(call.shape) for _, place in call.sources):
        return {}
    return aligned(call, tuple(call.shape))


@local("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution")
def _convolution(call: TracedCall) -> Geometry:
    plain = "input weight bias stride padding dilation groups"
    names = "input weight bias stride padding output_padding groups dilation" if "transpose" in call.name else plain
    if call.name.endswith("convolution"):
        names = "input weight bias stride padding dilation transposed output_padding groups"
    given = call.named(names, stride=1, padding=0, dilation=1, transposed="transpose" in call.name)
    if len(call.sources) != 1 or call.sources[0][0] is not given["input"]:
        return {}
    count = given["weight"].ndim - 2
    kernel = tuple(given["weight"].shape[2:])
    stride, dilation = each(given["stride"], count), each(given["dilation"], count)
    span = [d * (k - 1) for d, k in zip(dilation, kernel)]
    padding = given["padding"]
    if isinstance(padding, str):
        padding = tuple(s // 2 if padding == "same" else 0 for s in span)
    padding = each(padding, count)

    def reach(i: int) -> Reach:
        if given["transposed"]:
            return Reach(1, stride[i], padding[i] - span[i] + stride[i] - 1, padding[i])
        return Reach(stride[i], 1, -padding[i], span[i] - padding[i])

    return spatial(call, call.sources[0][1], reach, count)


@local(
    "max_pool1d max_pool2d max_pool3d _max_pool1d _max_pool2d _max_pool3d max_pool1d_with_indices "
    "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d"
)
def _pool(call: TracedCall) -> Geometry:
    names = "input kernel_size stride padding dilation ceil_mode return_indices"
    if "avg" in call.name:
        names = "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
    if call.name.startswith("lp"):
        names = "input norm_type kernel_size stride ceil_mode"
    given = call.named(names, stride=None, padding=0, dilation=1)
    count = int(next(letter for letter in call.name if letter.isdigit()))
    kernel, dilation, padding = (each(given[key], count) for key in ("kernel_size", "dilation", "padding"))
    stride = each(given["stride"] or kernel, count)
    return spatial(
        call,
        call.sources[0][1],
        lambda i: Reach(stride[i], 1, -padding[i], dilation[i] * (kernel[i] - 1) - padding[i]),
        count,
    )


@local(
    "interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
    "upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d upsample_nearest _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d _upsample_nearest_exact3d"
)
def _interpolation(call: TracedCall) -> Geometry:
    """Enlarging by a whole factor; linear and cubic by powers of two, whose weights are exact at every position."""
    place = call.sources[0][1]
    if call.name in ("interpolate", "upsample"):
        given = call.named(
            "input size scale_factor mode align_corners recompute_scale_factor antialias",
            mode="nearest",
            align_corners=None,
            antialias=False,
        )
        mode, corners = given["mode"], given["align_corners"] or given["antialias"]
    else:
        mode = next(m for m in ("nearest", "linear", "cubic") if m in call.name)
        corners = mode != "nearest" and (call.args[2] if len(call.args) > 2 else call.kwargs.get("align_corners"))

    count = len(call.shape) - 2
    given_scales = [value for argument in (*call.args[1:], *call.kwargs.values()) for value in each(argument, 1)]
    scales = [value for value in given_scales if isinstance(value, float)]

    def reach(i: int) -> Reach | None:
        factor, rest = divmod(call.shape[i + 2], place.shape[i + 2])
        if rest or corners or (scales and each(scales, count)[i] != factor):
            return None  # an explicit scale places values elsewhere than the sizes imply
        if mode.startswith("nearest"):
            exact = (
                float(np.float32(1 / factor)) * factor >= 1
            )  # otherwise rounding selects other cells far from the origin
            return Reach(1, factor) if exact else None
        if factor & (factor - 1) or mode == "area":
            return None
        more = 2 * factor if "cubic" in mode else 0
        return Reach(2, 2 * factor, 1 - factor - more, 1 - factor + 2 * factor + more)

    return spatial(call, place, reach, count)


@local("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d")
def _adaptive_pool(call: TracedCall) -> Geometry:
    """To a given size, except along axes that keep theirs."""
    count = int(call.name[-2])
    sizes = each(call.named("input output_size")["output_size"], count)
    return spatial(call, call.sources[0][1], lambda i: Reach() if sizes[i] is None else None, count)


@local("batch_norm torch_batch_norm native_batch_norm instance_norm prelu")
def _channelwise(call: TracedCall) -> Geometry:
    """Constants along the channel axis."""
    given = call.named("input mean variance weight bias training")
    own = {"prelu": False, "instance_norm": given.get("use_input_stats", given.get("training", True))}
    if own.get(call.name, given.get("training") is True):
        return {}
    return kept(call, lambda at: None if at == 1 else at)


@local("linear")
def _linear(call: TracedCall) -> Geometry:
    last = len(call.sources[0][1].shape) - 1
    return kept(call, lambda at: None if at == last else at)


@local("matmul")
def _product(call: TracedCall) -> Geometry:
    """A constant matrix on either side mixes one axis."""
    (tensor, place), *_ = call.sources
    if len(call.constants) != 1 or call.constants[0].ndim != 2 or len(place.shape) < 2:
        return {}
    mixed = len(place.shape) - (1 if call.args[0] is tensor else 2)
    return kept(call, lambda at: None if at == mixed else at)


@local("einsum")
def _einsum(call: TracedCall) -> Geometry:
    """A product with constants that have other axes."""
    equation, *given = call.args
    operands = given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else given
    terms, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation:
        return {}
    letters = terms.split(",")
    (term,) = [word for word, operand in zip(letters, operands) if operand is call.sources[0][0]][:1]

    def move(at: int) -> int | None:
        return result.index(term[at]) if term[at] in result and terms.count(term[at]) == 1 else None

    return kept(call, move)


@local("layer_norm native_layer_norm rms_norm")
def _layer_norm(call: TracedCall) -> Geometry:
    given = call.named("input normalized_shape")
    first = len(call.sources[0][1].shape) - len(each(given["normalized_shape"], 1))
    return kept(call, lambda at: at if at < first else None)


@local("softmax log_softmax softmin cumsum glu")
def _along(call: TracedCall) -> Geometry:
    """Global along one axis, element by element along the others."""
    dim = call.named("input dim", dim=None)["dim"]
    dim = -1 if call.name == "glu" and dim is None else dim
    ndim = len(call.shape)
    return {} if dim is None else kept(call, lambda at: None if at == dim % ndim else at)


@local("max min")
def _extremum(call: TracedCall) -> Geometry:
    """Of two tensors, or along one axis, with the positions of the winners."""
    second = call.named("input other").get("other")
    return _elementwise(call) if isinstance(second, Tensor) else _reduction(call)


@local("mean sum amax amin logsumexp")
def _reduction(call: TracedCall) -> Geometry:
    given = call.named("input dim keepdim", dim=None, keepdim=False)
    dims = given.get("axis", given["dim"])
    ndim = len(call.sources[0][1].shape)
    gone = range(ndim) if dims is None or dims == () else [d % ndim for d in each(dims, 1)]

    def move(at: int) -> int | None:
        return None if at in gone else at if given["keepdim"] else at - sum(g < at for g in gone)

    return kept(call, move)
