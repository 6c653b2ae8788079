"""The table of local operations against the support of the gradient: no input that matters may be missing."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geoxai.attribution.fields import trace as tracing
from geoxai.attribution.fields.table import TABLE
from geoxai.attribution.lrp.operators import ACTIVATIONS
from tests.attribution.networks import inputs

aten = torch.ops.aten
generator = torch.Generator().manual_seed(0)
weight2 = torch.randn(4, 4, 3, 3, generator=generator, dtype=torch.float64)
weight1, weight3 = weight2[..., 0], torch.randn(4, 4, 2, 1, 3, generator=generator, dtype=torch.float64)
matrix, four = weight2[:, :, 1, 1], weight2[:, 0, 0, 0]
like = torch.empty(2, 4, 12, 16)
places = torch.tensor([2, 0, 1])

# Functions of a field (2, 4, 12, 16), and the axes along which they are local. Elsewhere they must count as global.
FIELDS = {
    "conv": (lambda x: F.conv2d(x, weight2, stride=(2, 1), padding=(2, 0), dilation=(1, 2)), (2, 3)),
    "conv same": (lambda x: F.conv2d(x, weight2, padding="same"), (2, 3)),
    "transposed": (lambda x: F.conv_transpose2d(x, weight2, stride=2, padding=1, output_padding=1), (2, 3)),
    "aten conv": (lambda x: aten.convolution(x, weight2, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1), (2, 3)),
    "aten conv, transposed": (
        lambda x: aten.convolution(x, weight2, None, [2, 1], [1, 1], [1, 1], True, [0, 0], 1),
        (2, 3),
    ),
    "max pool": (lambda x: F.max_pool2d(x, 3, stride=2, padding=1, dilation=2), (2, 3)),
    "max pool with places": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], (2, 3)),
    "average pool": (lambda x: F.avg_pool2d(x, (3, 2), stride=(1, 2), padding=1, ceil_mode=True), (2, 3)),
    "lp pool": (lambda x: F.lp_pool2d(x, 2, 3, stride=2), (2, 3)),
    "average pool of one axis": (lambda x: F.adaptive_avg_pool2d(x, (None, 1)), (2,)),
    "maximum pool of one axis": (lambda x: F.adaptive_max_pool2d(x, (1, None)), (3,)),
    "average pool to a size": (lambda x: F.adaptive_avg_pool2d(x, (6, 8)), ()),
    "nearest": (lambda x: F.interpolate(x, scale_factor=(2, 3)), (2, 3)),
    "nearest by size": (lambda x: F.interpolate(x, size=(24, 32)), (2, 3)),
    "nearest of old": (lambda x: F.upsample_nearest(x, scale_factor=2), (2, 3)),
    "nearest exact": (lambda x: F.interpolate(x, scale_factor=3, mode="nearest-exact"), (2, 3)),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (2, 3)),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=(4, 2), mode="bicubic"), (2, 3)),
    "bilinear by three": (lambda x: F.interpolate(x, scale_factor=3, mode="bilinear"), ()),
    "bilinear, corners aligned": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        (),
    ),
    "nearest by a scale of its own": (lambda x: F.interpolate(x, scale_factor=2.05), ()),
    "bilinear, smoothed": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", antialias=True), ()),
    "area": (lambda x: F.interpolate(x, scale_factor=2, mode="area"), ()),
    "aten nearest": (lambda x: aten.upsample_nearest2d(x, [24, 32], 2.0, 2.0), (2, 3)),
    "aten nearest exact": (lambda x: aten._upsample_nearest_exact2d(x, [24, 32]), (2, 3)),
    "aten bilinear": (lambda x: aten.upsample_bilinear2d(x, [24, 32], False, 2.0, 2.0), (2, 3)),
    "aten bicubic": (lambda x: aten.upsample_bicubic2d(x, [24, 32], False, None, None), (2, 3)),
    "aten bilinear, corners": (lambda x: aten.upsample_bilinear2d(x, [24, 32], True), ()),
    "zeros around": (lambda x: F.pad(x, (1, 2, -1, 3)), (2, 3)),
    "reflected": (lambda x: F.pad(x, (2, 3, 1, 0), mode="reflect"), (2, 3)),
    "circular": (lambda x: F.pad(x, (2, 3, 0, 0), mode="circular"), (2, 3)),
    "replicated": (lambda x: F.pad(x, (2, 3, 1, 0), mode="replicate"), (2, 3)),
    "aten pad": (lambda x: aten.constant_pad_nd(x, [1, 2]), (2, 3)),
    "aten reflection": (lambda x: aten.reflection_pad2d(x, [1, 2, 0, 3]), (2, 3)),
    "aten replication": (lambda x: aten.replication_pad2d(x, [1, 2, 0, 3]), (2, 3)),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), (2, 3)),
    "pixel unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (2, 3)),
    "shuffle by reshapes": (
        lambda x: x.view(2, 1, 2, 2, 12, 16).permute(0, 1, 4, 2, 5, 3).reshape(2, 1, 24, 32),
        (2, 3),
    ),
    "patches by reshapes": (
        lambda x: x.view(2, 4, 3, 4, 8, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 32, 3, 8),
        (2, 3),
    ),
    "copies by expand": (
        lambda x: x[:, :, :, None].expand(2, 4, 12, 3, 16).reshape(2, 4, 36, 16),
        (2, 3),
    ),
    "copies": (lambda x: x.repeat_interleave(3, dim=3).repeat_interleave(2, 2), (2, 3)),
    "tiles": (lambda x: x.repeat(1, 2, 1, 3), (2,)),
    "tiles of tile": (lambda x: torch.tile(x, (2, 1, 1)), (2, 3)),
    "rows as channels": (lambda x: x.reshape(2, 48, 16), (3,)),
    "columns cut elsewhere": (lambda x: x.reshape(2, 4, 16, 12), ()),
    "flat": (lambda x: x.flatten(1), ()),
    "unflat": (lambda x: x.unflatten(2, (3, 4)).sum(3), (2, 3)),
    "ravel of one": (lambda x: torch.ravel(x[0, 0, 0]), (3,)),
    "joined": (lambda x: torch.cat([x[..., 1:], x[..., :-1]], 1), (2, 3)),
    "joined along": (lambda x: torch.cat([x, x], 2), (3,)),
    "stacked": (lambda x: torch.stack([x, 2 * x], 2), (2, 3)),
    "hstack": (lambda x: torch.hstack([x, x]), (2, 3)),
    "column stack": (lambda x: torch.column_stack([x, x]), (2, 3)),
    "dstack": (lambda x: torch.dstack([x, x]), (3,)),
    "chunks": (lambda x: x.chunk(2, 1)[1] * torch.split(x, 3, 1)[0][:, :2], (2, 3)),
    "chunks along": (lambda x: torch.tensor_split(x, 2, 2)[1], (3,)),
    "split sizes": (lambda x: x.split_with_sizes([1, 3], 1)[1] + x.hsplit(4)[0] + x.unbind(1)[0][:, None], (2, 3)),
    "rows apart": (lambda x: torch.dsplit(x, 2)[0], (3,)),
    "unsafe": (
        lambda x: torch.unsafe_chunk(x, 2, 1)[0] + torch.unsafe_split(x, 2, 1)[1]
        + torch.unsafe_split_with_sizes(x, [2, 2], 1)[0],
        (2, 3),
    ),
    "permuted": (lambda x: x.permute(0, 3, 1, 2).transpose(1, 2).movedim(1, -1).mT.swapaxes(1, 2), (2, 3)),
    "swapped": (lambda x: x.swapdims(1, 2).swapdims(2, 3), (2, 3)),
    "moved": (lambda x: torch.moveaxis(x, (1, 2), (3, 1)), (2, 3)),
    "adjoint": (lambda x: x.adjoint(), (2, 3)),
    "squeezed": (lambda x: x[:, :1].squeeze(1).unsqueeze(-1), (2, 3)),
    "squeezed along": (lambda x: x[:, :, :1].squeeze(2), (3,)),
    "views": (lambda x: x.view_as(like).reshape_as(like) + torch.atleast_3d(x), (2, 3)),
    "views of lines": (lambda x: torch.atleast_1d(torch.atleast_2d(x)), (2, 3)),
    "channels shuffled": (lambda x: F.channel_shuffle(x, 2), (2, 3)),
    "sliced": (lambda x: x[:, None, 1:3, 2::3, ..., :-2], (2, 3)),
    "one row": (lambda x: x[:, :, 4], (3,)),
    "narrowed": (lambda x: x.narrow(2, 3, 5).narrow(1, 0, 2).select(1, 1), (2, 3)),
    "aten slices": (lambda x: aten.slice(aten.select(x, 1, 2), 2, 3, 9, 2), (2, 3)),
    "channels by list": (lambda x: x[:, [2, 0]] + x[:, places[:2]], (2, 3)),
    "channels by index": (lambda x: x.index_select(1, places), (2, 3)),
    "rows by list": (lambda x: x[:, :, [3, 5]], (3,)),
    "flipped": (lambda x: x.flip(1) + torch.flip(x, [1]), (2, 3)),
    "flipped along": (lambda x: x.flip(2), (3,)),
    "flipped left and right": (lambda x: torch.fliplr(x), (2, 3)),
    "rolled": (lambda x: torch.roll(x, (2, -3, 1), (2, 3, 1)), (2, 3)),
    "rolled by name": (lambda x: x.roll(shifts=1, dims=3), (2, 3)),
    "rolled flat": (lambda x: x.roll(3), ()),
    "unfolded": (lambda x: x.unfold(2, 3, 2), (2, 3)),
    "unfolded flat": (lambda x: F.unfold(x, 3), ()),
    "batch norm": (lambda x: F.batch_norm(x, four, four.abs(), four, four), (2, 3)),
    "aten batch norm": (
        lambda x: aten._native_batch_norm_legit_no_training(x, four, four, four, four.abs(), 0.1, 1e-5)[0],
        (2, 3),
    ),
    "torch batch norm": (lambda x: torch.batch_norm(x, four, four, four, four.abs(), False, 0.1, 1e-5, False), (2, 3)),
    "instance norm in eval": (lambda x: F.instance_norm(x, four, four.abs(), use_input_stats=False), (2, 3)),
    "instance norm": (lambda x: F.instance_norm(x), ()),
    "group norm": (lambda x: F.group_norm(x, 2), ()),
    "layer norm of channels": (lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)), (2, 3)),
    "aten layer norm": (lambda x: aten.native_layer_norm(x, [16], None, None, 1e-5)[0], (2,)),
    "root mean square norm": (lambda x: F.rms_norm(x, (12, 16)), ()),
    "root mean square norm of rows": (lambda x: F.rms_norm(x, (16,)), (2,)),
    "dense over channels": (lambda x: F.linear(x.permute(0, 2, 3, 1), matrix), (2, 3)),
    "matrix": (lambda x: x.permute(0, 2, 3, 1) @ matrix, (2, 3)),
    "matrix from the left": (lambda x: torch.matmul(torch.ones(5, 12).double(), x), (3,)),
    "einsum": (lambda x: torch.einsum("oc,bchw->bowh", matrix, x), (2, 3)),
    "einsum of a list": (lambda x: torch.einsum("bchw,h->bcw", [x, torch.ones(12).double()]), (3,)),
    "einsum of squares": (lambda x: torch.einsum("bchw,bchw->bhw", x, x), ()),
    "softmax of channels": (lambda x: F.softmax(x, 1) + F.log_softmax(x, 1) + F.softmin(x, 1), (2, 3)),
    "softmax of a row": (lambda x: F.softmax(x, 3), (2,)),
    "running sum": (lambda x: x.cumsum(2), (3,)),
    "gated": (lambda x: F.glu(x, 1), (2, 3)),
    "gated along": (lambda x: F.glu(x), (2,)),
    "mean": (lambda x: x.mean(1) + x.sum((1,), keepdim=False) + x.amax(1) + x.amin(1), (2, 3)),
    "mean of rows": (lambda x: x.mean((1, 2), keepdim=True), (3,)),
    "mean of all": (lambda x: x.mean() * x, ()),
    "log of sums": (lambda x: x.logsumexp(1) + torch.logsumexp(x, (1,)), (2, 3)),
    "extremes": (lambda x: x.max(1)[0] + x.min(dim=1).values, (2, 3)),
    "extremes of two": (lambda x: torch.max(x, -x) + torch.min(x, x / 2), (2, 3)),
    "extreme of all": (lambda x: x.max() + x, ()),
    "prelu": (lambda x: F.prelu(x, four), (2, 3)),
    "constants": (lambda x: x * four[:, None, None] + 1.0, (2, 3)),
    "a constant along rows": (lambda x: x + torch.arange(12.0)[:, None].double(), (3,)),
    "constants like it": (lambda x: torch.zeros_like(x) + x + torch.ones_like(x) - torch.full_like(x, 3.0), (2, 3)),
    "expanded": (lambda x: x[:, None].expand(2, 3, 4, 12, 16) + x.broadcast_to(3, *x.shape)[0, :, None], (2, 3)),
    "every other cell and half of them": (lambda x: x[..., ::2] + x[..., :8], (2,)),
    "one column added to all": (lambda x: x + x[..., 3:4], (2,)),
    "conditions": (
        lambda x: torch.where(
            (x > 0) & ~(x >= 1) | (x < -1).logical_or(x <= -2).logical_and(x != 3), x, x.masked_fill(x.isnan(), 0.0)
        ),
        (2, 3),
    ),
}  # fmt: skip
LINES = {
    "conv": lambda x: F.conv1d(x, weight1, stride=2, padding=1),
    "transposed": lambda x: F.conv_transpose1d(x, weight1, stride=3),
    "pools": lambda x: F.max_pool1d(x, 2) + F.avg_pool1d(x, 3, 2, 1) + F.lp_pool1d(x, 2, 2),
    "linear": lambda x: F.interpolate(x, scale_factor=4, mode="linear"),
    "copies": lambda x: F.interpolate(x, scale_factor=3),
    "reflected": lambda x: aten.reflection_pad1d(x, [2, 1]) + aten.replication_pad1d(x, [1, 2]),
    "aten": lambda x: aten.upsample_linear1d(x, [32], False) + aten.upsample_nearest1d(x, [32]),
}
VOLUMES = {
    "conv": lambda x: F.conv3d(x, weight3, stride=(1, 2, 1), padding=1),
    "transposed": lambda x: F.conv_transpose3d(x, weight3, stride=(1, 2, 1)),
    "pools": lambda x: F.max_pool3d(x, 2) + F.avg_pool3d(x, 2) + F.lp_pool3d(x.abs(), 2.0, 2),
    "trilinear": lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"),
    "reflected": lambda x: aten.reflection_pad3d(x, [1, 1, 0, 1, 1, 2]) + aten.replication_pad3d(x, [1, 1, 0, 1, 1, 2]),
    "aten": lambda x: aten.upsample_trilinear3d(x, [8, 12, 10], False) + aten.upsample_nearest3d(x, [8, 12, 10]),
}
CASES = {f"field: {name}": (function, (2, 4, 12, 16), axes) for name, (function, axes) in FIELDS.items()}
CASES |= {f"line: {name}": (function, (2, 4, 16), (2,)) for name, function in LINES.items()}
CASES |= {f"volume: {name}": (function, (2, 4, 4, 6, 5), (2, 3, 4)) for name, function in VOLUMES.items()}
NAMED = {"threshold": (0.1, 0.0), "clamp": (-1.0, 1.0), "clip": (-1.0, 1.0), "clamp_min": (0.0,), "clamp_max": (0.5,)}
NAMED |= {"prelu": (four,)}


class Whole(nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def support(function, x, out_axis, axis):
    """Which indices of ``x`` along ``axis`` each index of the output along ``out_axis`` depends on, by the gradient."""
    found = []
    for seed in range(4):
        leaf = (x + inputs(*x.shape, seed=seed)).requires_grad_()
        output = function(leaf)
        weights = inputs(*output.shape, seed=seed + 10)
        rows = []
        for index in range(output.shape[out_axis]):
            part = (output * weights).select(out_axis, index).sum()
            (gradient,) = torch.autograd.grad(part, leaf, retain_graph=True)
            rows.append(gradient.abs().amax([a for a in range(x.ndim) if a != axis]) > 0)
        found.append(torch.stack(rows))
    return torch.stack(found).any(0)


@pytest.mark.filterwarnings("ignore:`nn.functional.upsample_nearest` is deprecated")
@pytest.mark.parametrize("name", CASES)
def test_no_input_that_matters_is_missing(name):
    function, shape, axes = CASES[name]
    trace = tracing.run(Whole(function), shape, torch.float64)
    assert tuple(axis for axis in trace.axes if axis > 1) == axes  # channels may be local too
    for axis in trace.axes:
        seen = support(function, inputs(*shape, seed=9), trace.output.axes[axis], axis)
        for index, row in enumerate(seen):
            low, high = trace.needs(axis, (index, index))[0]
            matters = row.nonzero().flatten().tolist()
            if not matters:  # gaps of a strided transposed convolution
                continue
            assert low <= matters[0]
            assert matters[-1] <= high
            alone = any(word in name for word in ("reflect", "circular", "rolled"))  # with what is at the other end
            inside = matters[0] > 0 and matters[-1] < shape[axis] - 1 and not alone
            assert not inside or high - low <= matters[-1] - matters[0] + 1 + 2 * ("cubic" in name)


@pytest.mark.filterwarnings("ignore:`nn.functional.upsample_nearest` is deprecated")
def test_every_rule_of_the_table_is_tried():
    tried = set()
    for function, shape, _ in CASES.values():
        tried |= {
            TABLE[step.op] for step in tracing.run(Whole(function), shape, torch.float64).steps if step.op in TABLE
        }
    assert tried == set(TABLE.values())


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_seen_as_they_are_called(name):
    """Also in place, where the result is the argument itself; shapes are not left to torch there."""
    found = [getattr(place, name + end, None) for place in (F, torch, aten) for end in ("", "_")]
    shape, arguments = (2, 4, 5, 6), NAMED.get(name, ())
    x = inputs(*shape)
    for function in filter(None, found):
        expected = function(x.clone(), *arguments)
        trace = tracing.run(Whole(partial(after_a_sum, function, arguments)), shape, torch.float64)
        assert tuple(trace.axes[-2:]) == (2, 3)
        assert trace.output.shape == expected.shape
        assert trace.recording.output.dtype == expected.dtype
        if name not in ("prelu", "rrelu", "logsigmoid", "log_sigmoid"):  # torch itself orders these another way
            turned = tracing.run(Whole(partial(turned_before, function, arguments)), shape, torch.float64)
            assert turned.recording.output.stride() == turned_before(function, arguments, x).stride()


def after_a_sum(function, arguments, x):
    return function(x + 0, *arguments)


def turned_before(function, arguments, x):
    return function((x + 0).permute(0, 2, 3, 1), *arguments)
