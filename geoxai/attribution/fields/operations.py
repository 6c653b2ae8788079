"""The table of local operations: where each axis goes, and how far an operation reaches along it.

A function of the table returns the axes of the network's input that survive an operation. What is missing from its
answer, and every operation missing from the table, counts as global.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from geoxai.attribution.calls import names_in
from geoxai.attribution.fields.reach import Reach
from geoxai.attribution.fields.trace import Geometry, NotLocal, Place, TracedCall
from geoxai.attribution.lrp.merging import order_of
from geoxai.attribution.lrp.operators import ACTIVATIONS

# Operations whose sizes and places are compared through axes, reaches and shapes, not number by number.
SIZED = names_in(
    "view reshape expand expand_as view_as reshape_as broadcast_to unflatten interpolate upsample upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d getitem slice "
    "narrow _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_bicubic2d"
)

Local = Callable[[TracedCall], Geometry]
TABLE: dict[str, Local] = {}


def geometry(call: TracedCall) -> Geometry:
    """Where the axes go; raises NotLocal where nothing is known of the operation."""
    if call.name not in TABLE:
        raise NotLocal("")
    return TABLE[call.name](call)


def _local(names: str) -> Callable[[Local], Local]:
    def enter(function: Local) -> Local:
        TABLE.update(dict.fromkeys(names.split(), function))
        return function

    return enter


@_local(
    " ".join(sorted(set(ACTIVATIONS) - {"prelu", "rrelu"})) + " add sub rsub mul div neg pow square sqrt rsqrt abs exp "
    "log log1p expm1 sin cos reciprocal maximum minimum fmax fmin where lerp addcmul addcdiv erf dropout "
    "alpha_dropout feature_dropout dropout1d dropout2d dropout3d feature_alpha_dropout contiguous clone to float "
    "double half bfloat16 type type_as convert_element_type detach data alias identity lift_fresh masked_fill eq ne "
    "lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ logical_and logical_or logical_not bitwise_and __and__ "
    "__or__ __invert__ bool isnan isfinite sign expand expand_as broadcast_to"
)
def _elementwise(call: TracedCall) -> Geometry:
    """Each result from the values at its own place; constants may not vary along an axis."""
    if not all(len(place.shape) <= len(call.shape) for _, place in call.sources):
        return {}
    return _aligned(call, tuple(call.shape))


def _aligned(call: TracedCall, shape: tuple[int, ...], constants: bool = True) -> Geometry:
    found: Geometry = {}
    first = call.sources[0][1]
    for axis, at in call.live(first).items():
        right = at - len(first.shape)
        agree = all(
            axis in place.axes
            and place.axes[axis] - len(place.shape) == right
            and place.scale[axis] == first.scale[axis]
            and place.shape[right] == shape[right]
            for _, place in call.sources
        )
        uniform = all(t.ndim < -right or t.shape[right] == 1 for t in call.constants if t.ndim)
        if agree and (uniform or not constants):
            found[axis] = (len(shape) + right, Reach())
    return found


def _kept(call: TracedCall, move: Callable[[int], int | None]) -> Geometry:
    """Axes that stay as they are; ``move`` gives their place in the result, None where they do not survive."""
    (_, place), *others = call.sources
    if others:
        return {}
    moved = {axis: move(at) for axis, at in call.live(place).items()}
    return {axis: (at, Reach()) for axis, at in moved.items() if at is not None}


def _spatial(call: TracedCall, place: Place, reach: Callable[[int], Reach | None], count: int) -> Geometry:
    """Operations on the last ``count`` axes, samples and channels before them."""
    if len(place.shape) != count + 2:
        return {}
    reaches = {axis: (at, reach(at - 2) if at else Reach()) for axis, at in call.live(place).items() if at != 1}
    return {axis: (at, found) for axis, (at, found) in reaches.items() if found is not None}


def _each(value: Any, count: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * count if len(values) == 1 else values


@_local("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution")
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
    stride, dilation = _each(given["stride"], count), _each(given["dilation"], count)
    span = [d * (k - 1) for d, k in zip(dilation, kernel)]
    padding = given["padding"]
    if isinstance(padding, str):
        padding = tuple(s // 2 if padding == "same" else 0 for s in span)
    padding = _each(padding, count)

    def reach(i: int) -> Reach:
        if given["transposed"]:
            return Reach(1, stride[i], padding[i] - span[i] + stride[i] - 1, padding[i])
        return Reach(stride[i], 1, -padding[i], span[i] - padding[i])

    return _spatial(call, call.sources[0][1], reach, count)


@_local(
    "max_pool1d max_pool2d max_pool3d _max_pool1d _max_pool2d _max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d "
    "lp_pool2d lp_pool3d"
)
def _pool(call: TracedCall) -> Geometry:
    names = "input kernel_size stride padding dilation ceil_mode return_indices"
    if "avg" in call.name:
        names = "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
    if call.name.startswith("lp"):
        names = "input norm_type kernel_size stride ceil_mode"
    given = call.named(names, stride=None, padding=0, dilation=1, return_indices=False)
    if given["return_indices"] or len(call.sources) != 1:
        return {}
    count = int(call.name[-2])
    kernel, dilation, padding = (_each(given[key], count) for key in ("kernel_size", "dilation", "padding"))
    stride = _each(given["stride"] or kernel, count)
    return _spatial(
        call,
        call.sources[0][1],
        lambda i: Reach(stride[i], 1, -padding[i], dilation[i] * (kernel[i] - 1) - padding[i]),
        count,
    )


@_local(
    "interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
    "upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d"
)
def _interpolation(call: TracedCall) -> Geometry:
    """Enlarging by a whole factor; linear and cubic by powers of two, whose weights are exact at every place."""
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

    def reach(i: int) -> Reach | None:
        factor, rest = divmod(call.shape[i + 2], place.shape[i + 2])
        if rest or corners:
            return None
        if mode.startswith("nearest"):
            exact = float(np.float32(1 / factor)) * factor >= 1  # else rounding picks other cells far from the origin
            return Reach(1, factor) if exact else None
        if factor & (factor - 1) or mode == "area":
            return None
        more = 2 * factor if "cubic" in mode else 0
        return Reach(2, 2 * factor, 1 - factor - more, 1 - factor + 2 * factor + more)

    return _spatial(call, place, reach, len(call.shape) - 2)


@_local(
    "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d"
)
def _padding(call: TracedCall) -> Geometry:
    given = call.named("input pad mode", mode="constant", padding=())
    amounts = tuple(given.get("pad") or given["padding"])
    mode = given["mode"] if call.name == "pad" else ("reflect" if "reflect" in call.name else "constant")
    border = mode if mode in ("reflect", "circular") else "edge"
    (_, place), *others = call.sources
    found: Geometry = {}
    for axis, at in () if others else call.live(place).items():
        before = 2 * (len(place.shape) - 1 - at)
        left, right = amounts[before : before + 2] or (0, 0)
        if border == "edge" or (left >= 0 and right >= 0):
            found[axis] = (at, Reach(low=-left, high=-left, border=border if left or right else "edge"))
    return found


@_local("pixel_shuffle pixel_unshuffle")
def _pixels(call: TracedCall) -> Geometry:
    place, n = call.sources[0][1], int(call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values())))
    reach = Reach(1, n) if call.name == "pixel_shuffle" else Reach(n, 1, 0, n - 1)
    return _spatial(call, place, lambda i: reach, 2)


@_local("cat stack")
def _joined(call: TracedCall) -> Geometry:
    dim = call.named("tensors dim", dim=0)
    at = dim.get("axis", dim["dim"]) % len(call.shape)
    first = call.sources[0][1]
    shape = first.shape
    found = _aligned(call, shape)
    if call.name == "stack":
        return {axis: (place + (place >= at), reach) for axis, (place, reach) in found.items()}
    return {axis: pair for axis, pair in found.items() if pair[0] != at}


@_local("chunk split split_with_sizes tensor_split unbind")
def _parted(call: TracedCall) -> Geometry:
    given = call.named("input sections dim", dim=0) if call.name != "unbind" else call.named("input dim", dim=0)
    cut = given["dim"] % len(call.sources[0][1].shape)
    gone = call.name == "unbind"
    return _kept(call, lambda at: None if at == cut else at - (gone and at > cut))


@_local("permute transpose t T mT H mH adjoint movedim moveaxis swapaxes swapdims")
def _permuted(call: TracedCall) -> Geometry:
    order = order_of(call.func, call.args, call.kwargs, len(call.shape))
    return {} if order is None else _kept(call, order.index)


@_local(
    "view reshape flatten unflatten ravel view_as reshape_as squeeze unsqueeze atleast_1d atleast_2d atleast_3d "
    "channel_shuffle native_channel_shuffle"
)
def _reshaped(call: TracedCall) -> Geometry:
    """Axes that come out whole, merged with axes right behind them or split: the cells behind tell which they are."""
    (_, place), *others = call.sources
    if others:
        return {}
    live = call.live(place)
    if call.name == "squeeze":  # an axis that may be squeezed has one cell, of which no window can be cut
        dims = call.named("input dim", dim=None)["dim"]
        gone = range(len(place.shape)) if dims is None else [dim % len(place.shape) for dim in _each(dims, 1)]
        live = {axis: at for axis, at in live.items() if at not in gone}
    behind = [prod(call.shape[i + 1 :]) for i in range(len(call.shape))]
    found = {axis: _arrived(place.shape, at, call.shape, behind, set(live.values())) for axis, at in live.items()}
    return {axis: pair for axis, pair in found.items() if pair is not None}


def _arrived(
    shape: tuple[int, ...], at: int, after: tuple[int, ...], behind: list[int], live: set[int]
) -> tuple[int, Reach] | None:
    """Where axis ``at`` of a tensor is after a reshape, None where it is not a whole axis or part of one."""
    size, rest = shape[at], prod(shape[at + 1 :])
    for i, length in enumerate(after):
        if length == size and behind[i] == rest:
            return i, Reach()
    inner, merged = 1, at + 1
    while merged < len(shape) and merged not in live:  # (H, k) becomes H * k
        inner, merged = inner * shape[merged], merged + 1
        for i, length in enumerate(after):
            if inner > 1 and length == size * inner and behind[i] * inner == rest:
                return i, Reach(1, inner)
    for i, length in enumerate(after):  # H becomes (H / k, k)
        parts, over = divmod(size, length)
        if parts > 1 and not over and behind[i] == rest * parts and rest in behind[i:]:
            return i, Reach(parts, 1, 0, parts - 1)
    return None


@_local("batch_norm torch_batch_norm prelu")
def _channelwise(call: TracedCall) -> Geometry:
    """Constants along the channel axis."""
    if call.name != "prelu" and call.named("input mean variance weight bias training").get("training"):
        return {}
    return _kept(call, lambda at: None if at == 1 else at)


@_local("linear")
def _linear(call: TracedCall) -> Geometry:
    last = len(call.sources[0][1].shape) - 1
    return _kept(call, lambda at: None if at == last else at)


@_local("matmul")
def _product(call: TracedCall) -> Geometry:
    """A constant matrix on either side mixes one axis."""
    (tensor, place), *_ = call.sources
    if len(call.constants) != 1 or call.constants[0].ndim != 2 or len(place.shape) < 2:
        return {}
    mixed = len(place.shape) - (1 if call.args[0] is tensor else 2)
    return _kept(call, lambda at: None if at == mixed else at)


@_local("layer_norm")
def _layer_norm(call: TracedCall) -> Geometry:
    given = call.named("input normalized_shape")
    first = len(call.sources[0][1].shape) - len(_each(given["normalized_shape"], 1))
    return _kept(call, lambda at: at if at < first else None)


@_local("softmax log_softmax")
def _softmax(call: TracedCall) -> Geometry:
    dim = call.named("input dim", dim=None)["dim"]
    ndim = len(call.shape)
    return {} if dim is None else _kept(call, lambda at: None if at == dim % ndim else at)


@_local("mean sum amax amin")
def _reduction(call: TracedCall) -> Geometry:
    given = call.named("input dim keepdim", dim=None, keepdim=False)
    dims = given.get("axis", given["dim"])
    ndim = len(call.sources[0][1].shape)
    gone = range(ndim) if dims is None or dims == () else [d % ndim for d in _each(dims, 1)]

    def move(at: int) -> int | None:
        return None if at in gone else at if given["keepdim"] else at - sum(g < at for g in gone)

    return _kept(call, move)


@_local("getitem slice narrow select")
def _slices(call: TracedCall) -> Geometry:
    """Basic indexing: steps and first places along axes that stay."""
    (_, place), *others = call.sources
    if others or call.constants:
        return {}
    found: Geometry = {}
    live = {at: axis for axis, at in call.live(place).items()}
    taken = out = 0
    for key in _keys(call, len(place.shape)):
        if key is None:
            out += 1
            continue
        if taken in live and isinstance(key, slice):
            start, stop, step = key.indices(place.shape[taken])
            if step > 0 and stop > start:
                found[live[taken]] = (out, Reach(num=step, low=start, high=start))
        taken += 1
        out += isinstance(key, slice)
    return found


def _keys(call: TracedCall, ndim: int) -> list[Any]:
    """One index or slice for every axis, and None for new ones."""
    if call.name == "getitem":
        keys = list(call.args[1]) if isinstance(call.args[1], tuple) else [call.args[1]]
        if not all(k is None or k is Ellipsis or type(k) in (int, slice) for k in keys):
            raise NotLocal("it picks by an array of indices")
        missing = ndim - sum(k is not None and k is not Ellipsis for k in keys)
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), None)
        rest: list[Any] = [slice(None)] * missing
        return keys + rest if at is None else keys[:at] + rest + keys[at + 1 :]
    keys = [slice(None)] * ndim
    names = {"slice": "input dim start end step", "narrow": "input dim start length", "select": "input dim index"}
    given = call.named(names[call.name], dim=0, start=None, end=None, step=1)
    if call.name == "select":
        keys[given["dim"]] = given["index"]
    elif call.name == "narrow":
        start = given["start"] % call.sources[0][1].shape[given["dim"]]
        keys[given["dim"]] = slice(start, start + given["length"])
    else:
        keys[given["dim"]] = slice(given["start"], given["end"], given["step"])
    return keys


def untold(call: TracedCall, found: Geometry) -> tuple:
    """What of the arguments of an operation in ``SIZED`` neither axes, reaches nor shapes tell."""
    if call.name not in ("getitem", "slice", "narrow", "select"):
        return tuple(v for v in (*call.args[3:], *call.kwargs.values()) if isinstance(v, str | bool))
    told = {call.live(call.sources[0][1])[axis] for axis in found}
    axis, rest = 0, []
    for key in _keys(call, len(call.sources[0][1].shape)):
        if axis not in told:
            rest.append((key.start, key.stop, key.step) if isinstance(key, slice) else key)
        axis += key is not None
    return tuple(rest)
