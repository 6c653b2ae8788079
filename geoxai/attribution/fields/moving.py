"""Local operations that only move values: padding, joining, splitting, reshapes, slices, copies."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.calls import names_in
from geoxai.attribution.fields.blank import plain_arguments
from geoxai.attribution.fields.reach import Reach
from geoxai.attribution.fields.table import aligned, each, kept, local, spatial
from geoxai.attribution.fields.trace import Geometry, NotLocal, TracedCall
from geoxai.attribution.lrp.merging import order_of

# Operations whose sizes and positions are compared by axes, reaches and shapes, not number by number.
SIZED = names_in(
    "view reshape expand expand_as view_as reshape_as broadcast_to unflatten interpolate upsample upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d getitem slice "
    "narrow _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_bicubic2d"
)


@local(
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


@local("pixel_shuffle pixel_unshuffle")
def _pixels(call: TracedCall) -> Geometry:
    place, n = call.sources[0][1], int(call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values())))
    reach = Reach(1, n) if call.name == "pixel_shuffle" else Reach(n, 1, 0, n - 1)
    return spatial(call, place, lambda i: reach, 2)


@local("hstack vstack dstack column_stack row_stack")
def _joined_along(call: TracedCall) -> Geometry:
    """Joined along the axis that the name implies, if there are that many axes."""
    along = {"hstack": 1, "column_stack": 1, "dstack": 2}.get(call.name, 0)
    if any(len(place.shape) < 3 for _, place in call.sources):
        return {}
    return {axis: pair for axis, pair in aligned(call, call.sources[0][1].shape).items() if pair[0] != along}


@local("cat stack")
def _joined(call: TracedCall) -> Geometry:
    dim = call.named("tensors dim", dim=0)
    at = dim.get("axis", dim["dim"]) % len(call.shape)
    first = call.sources[0][1]
    shape = first.shape
    found = aligned(call, shape)
    if call.name == "stack":
        return {axis: (place + (place >= at), reach) for axis, (place, reach) in found.items()}
    return {axis: pair for axis, pair in found.items() if pair[0] != at}


@local(
    "chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split unsafe_split_with_sizes unbind hsplit vsplit "
    "dsplit"
)
def _parted(call: TracedCall) -> Geometry:
    along = {"hsplit": 1, "vsplit": 0, "dsplit": 2}.get(call.name)
    given = call.named("input dim" if call.name == "unbind" else "input sections dim", dim=0)
    cut = given["dim"] % len(call.sources[0][1].shape) if along is None else along
    gone = call.name == "unbind"
    return kept(call, lambda at: None if at == cut else at - (gone and at > cut))


@local("flip fliplr flipud channel_shuffle native_channel_shuffle index_select")
def _reordered(call: TracedCall) -> Geometry:
    """Other positions along some axes, the same along the others."""
    ndim = len(call.shape)
    if call.name == "flip":
        along = _listed(call)
    else:
        named = {"flipud": 0, "fliplr": 1, "channel_shuffle": 1, "native_channel_shuffle": 1}
        along = (named[call.name] if call.name in named else call.named("input dim index")["dim"],)
    gone = {dim % ndim for dim in along}
    return kept(call, lambda at: None if at in gone else at)


def _listed(call: TracedCall) -> tuple[int, ...]:
    """Axes given one by one or as a list."""
    dims: Any = call.args[1:] or (call.kwargs["dims"],)
    return tuple(dims[0]) if isinstance(dims[0], list | tuple) else tuple(dims)


@local("roll")
def _rolled(call: TracedCall) -> Geometry:
    """A cyclic shift: what leaves at one end enters at the other."""
    given = call.named("input shifts dims", dims=None)
    (_, place), *others = call.sources
    if others or given["dims"] in (None, (), []):
        return {}
    ndim = len(place.shape)
    shifts = {dim % ndim: shift for dim, shift in zip(each(given["dims"], 1), each(given["shifts"], 1))}
    by = {axis: -shifts.get(at, 0) for axis, at in call.live(place).items()}
    return {
        axis: (at, Reach(low=by[axis], high=by[axis], border="circular" if by[axis] else "edge"))
        for axis, at in call.live(place).items()
    }


@local("repeat tile")
def _repeated(call: TracedCall) -> Geometry:
    """Copies of the whole tensor, side by side along other axes."""
    (_, place), *_ = call.sources
    more = len(call.shape) - len(place.shape)
    return kept(call, lambda at: at + more if call.shape[at + more] == place.shape[at] else None)


@local("repeat_interleave")
def _copied(call: TracedCall) -> Geometry:
    """Each value repeated in place."""
    given = call.named("input repeats dim", dim=None)
    if given["dim"] is None or isinstance(given["repeats"], Tensor):
        return {}
    dim, found = given["dim"] % len(call.shape), kept(call, lambda at: at)
    return {axis: (at, Reach(1, given["repeats"]) if at == dim else reach) for axis, (at, reach) in found.items()}


@local("unfold")
def _unfolded(call: TracedCall) -> Geometry:
    """Windows along one axis, their cells on a new last axis; not the function of that name, which flattens."""
    if len(call.shape) != len(call.sources[0][1].shape) + 1:
        return {}
    given = call.named("input dimension size step")
    dim, found = given["dimension"] % (len(call.shape) - 1), kept(call, lambda at: at)
    reach = Reach(given["step"], 1, 0, given["size"] - 1)
    return {axis: (at, reach if at == dim else one) for axis, (at, one) in found.items()}


@local("permute transpose t T mT H mH adjoint movedim moveaxis swapaxes swapdims")
def _permuted(call: TracedCall) -> Geometry:
    order = order_of(call.func, call.args, call.kwargs, len(call.shape))
    return {} if order is None else kept(call, order.index)


@local("view reshape flatten unflatten ravel view_as reshape_as squeeze unsqueeze atleast_1d atleast_2d atleast_3d")
def _reshaped(call: TracedCall) -> Geometry:
    """Axes that stay whole, are merged with the axes right behind them, or are split: the cells behind tell which."""
    (_, place), *others = call.sources
    if others:
        return {}
    live = call.live(place)
    if call.name == "squeeze":  # an axis that may be squeezed has one cell, so no window can be cut along it
        dims = call.named("input dim", dim=None)["dim"]
        gone = range(len(place.shape)) if dims is None else [dim % len(place.shape) for dim in each(dims, 1)]
        live = {axis: at for axis, at in live.items() if at not in gone}
    behind = [prod(call.shape[i + 1 :]) for i in range(len(call.shape))]
    found = {axis: _arrived(place.shape, at, call.shape, behind, set(live.values())) for axis, at in live.items()}
    return {axis: pair for axis, pair in found.items() if pair is not None}


def _arrived(
    shape: tuple[int, ...], at: int, after: tuple[int, ...], behind: list[int], live: set[int]
) -> tuple[int, Reach] | None:
    """Where axis ``at`` of a tensor is after a reshape, None if it is not a whole axis or part of one."""
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


@local("getitem slice narrow select")
def _slices(call: TracedCall) -> Geometry:
    """Basic indexing: steps and first positions along axes that remain; along one other axis a list of positions."""
    (_, place), *others = call.sources
    if others:
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
        out += type(key) is not int
    return found


def _keys(call: TracedCall, ndim: int) -> list[Any]:
    """One index or slice for every axis, and None for new ones."""
    if call.name == "getitem":
        keys = list(call.args[1]) if isinstance(call.args[1], tuple) else [call.args[1]]
        picks = [k for k in keys if not (k is None or k is Ellipsis or type(k) in (int, slice))]
        if picks and (len(picks) > 1 or not _is_list(call, picks[0]) or any(type(k) is int for k in keys)):
            raise NotLocal("it indexes with an array")
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


def _is_list(call: TracedCall, key: Any) -> bool:
    """Whether an index is a list of positions that does not depend on the input."""
    if isinstance(key, Tensor):
        return key.ndim == 1 and key.dtype == torch.int64 and any(key is constant for constant in call.constants)
    return isinstance(key, list) and all(type(place) is int for place in key)


def untold(call: TracedCall, found: Geometry) -> tuple:
    """The arguments of an operation in ``SIZED`` that do not follow from axes, reaches and shapes."""
    if call.name not in ("getitem", "slice", "narrow", "select"):
        return tuple(v for v in (*call.args[3:], *call.kwargs.values()) if isinstance(v, str | bool))
    told = {call.live(call.sources[0][1])[axis] for axis in found}
    axis, rest = 0, []
    for key in _keys(call, len(call.sources[0][1].shape)):
        if axis not in told:
            rest.append(None if isinstance(key, Tensor) else plain_arguments(key))  # constants are compared themselves
        axis += key is not None
    return tuple(rest)
