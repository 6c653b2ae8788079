"""Every way of writing into every kind of view of every kind of result, against torch's own derivatives."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.errors import GeoxaiError
from tests.attribution.detached import check
from tests.attribution.networks import inputs, seeded

SHAPE = 4, 6  # of each result, after its samples


def weights(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / 2


keras = pytest.importorskip("keras")


def images(x):
    return x.reshape(-1, 4, 2, 3)


LSTM, GRU = seeded(nn.LSTM(6, 6, batch_first=True)), seeded(nn.GRU(6, 6))
ATTENTION = seeded(nn.MultiheadAttention(6, 2, batch_first=True))


def keras_dense():
    layer = keras.layers.Dense(6, dtype="float64")
    layer.build((None, 4, 6))
    layer.set_weights([weights(6, 6).numpy(), weights(6).numpy()])
    return layer


KERAS = keras_dense()

# (N, 4, 6) -> (N, 4, 6)
RESULTS = {
    "dense": lambda x: F.linear(x, weights(6, 6), weights(6)),
    "dense without bias": lambda x: F.linear(x, weights(6, 6)),
    "dense on rows": lambda x: F.linear(x.flatten(0, 1), weights(6, 6), weights(6)).unflatten(0, (-1, 4)),
    "matmul": lambda x: x @ weights(6, 6),
    "matmul from the left": lambda x: weights(4, 4) @ x,
    "bmm": lambda x: torch.bmm(x, weights(6, 6).expand(len(x), 6, 6)),
    "baddbmm": lambda x: torch.baddbmm(weights(6), x, weights(6, 6).expand(len(x), 6, 6)),
    "einsum": lambda x: torch.einsum("ntc,oc->nto", x, weights(6, 6)),
    "einsum of other axes": lambda x: torch.einsum("ntc,to->noc", x, weights(4, 4)),
    "einsum permutes": lambda x: torch.einsum("ntc->nct", x).reshape(-1, 4, 6),
    "tensordot": lambda x: torch.tensordot(x, weights(6, 6), ([2], [1])),
    "conv1d": lambda x: F.conv1d(x, weights(4, 4, 3), weights(4), padding=1),
    "conv2d": lambda x: F.conv2d(images(x), weights(4, 4, 3, 3), weights(4), padding=1).flatten(2),
    "conv2d of (N, H, W)": lambda x: F.conv2d(x[:, None], weights(1, 1, 3, 3), padding=1).squeeze(1),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x[:, :, ::2], weights(4, 4, 2), stride=2),
    "batch norm": lambda x: F.batch_norm(x, weights(4), weights(4).abs() + 1, weights(4), weights(4)),
    "layer norm": lambda x: F.layer_norm(x, (6,), weights(6), weights(6)),
    "group norm": lambda x: F.group_norm(x, 2, weights(4), weights(4)),
    "instance norm": lambda x: F.instance_norm(x, weight=weights(4), bias=weights(4)),
    "rms norm": lambda x: F.rms_norm(x, (6,), weights(6)),
    "lstm": lambda x: LSTM(x)[0][:, :, :6],
    "gru, sequence first": lambda x: GRU(x.transpose(0, 1))[0].transpose(0, 1),
    "attention layer": lambda x: ATTENTION(x, x, x)[0],
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "attention written out": lambda x: (x @ x.mT / 2).softmax(-1) @ x,
    "pool to one": lambda x: F.adaptive_avg_pool1d(x.repeat_interleave(6, 1), 1).reshape(-1, 4, 6),
    "pool to one 2d": lambda x: F.adaptive_avg_pool2d(x.reshape(-1, 24, 1, 1).repeat(1, 1, 2, 2), 1).view(-1, 4, 6),
    "average pool": lambda x: F.avg_pool1d(x.repeat_interleave(2, 2), 2),
    "max pool": lambda x: F.max_pool1d(x.repeat_interleave(3, 2), 4, stride=3, padding=1),
    "mean": lambda x: torch.stack([x, 2 * x], 1).mean(1),
    "sum": lambda x: torch.stack([x, 2 * x], 1).sum(1),
    "amax": lambda x: torch.stack([x, 2 * x], 1).amax(1),
    "sort": lambda x: x.sort(-1)[0],
    "top k": lambda x: x.topk(6, -1)[0],
    "cumsum": lambda x: x.cumsum(1),
    "nearest": lambda x: F.interpolate(x[:, :, ::2], size=6),
    "bilinear": lambda x: F.interpolate(images(x), scale_factor=2, mode="bilinear")[:, :, ::2, ::2].flatten(2),
    "bicubic": lambda x: F.interpolate(images(x), size=(2, 3), mode="bicubic").flatten(2),
    "relu": F.relu,
    "gelu": F.gelu,
    "clamp": lambda x: x.clamp(min=-0.5),
    "sum of two": lambda x: x + x.flip(-1) * 2,
    "sum with a constant": lambda x: x + weights(4, 6),
    "product with a constant": lambda x: x * weights(6),
    "gated": lambda x: x * torch.sigmoid(x.flip(-1)),
    "glu": lambda x: F.glu(torch.cat([x, x.flip(-1)], -1)),
    "cat": lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
    "stack": lambda x: torch.stack(list(x.unbind(1))[::-1], 1),
    "cat with constants": lambda x: torch.cat([x[:, :2], torch.ones_like(x[:, :2])], 1),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "circular padding": lambda x: F.pad(x[:, :, :4], (1, 1), mode="circular"),
    "padding": lambda x: F.pad(x[:, :, :4], (1, 1)),
    "roll": lambda x: x.roll(1, 1),
    "flip": lambda x: x.flip(1),
    "repeat": lambda x: x[:, :2].repeat(1, 2, 1),
    "gather": lambda x: x.gather(1, torch.ones(len(x), 4, 6).long()),
    "index": lambda x: x[:, [3, 2, 1, 0]],
    "index behind slices": lambda x: x[..., [5, 4, 3, 2, 1, 0]],
    "index_select": lambda x: x.index_select(2, torch.arange(6)),
    "pixel shuffle": lambda x: F.pixel_shuffle(x.reshape(-1, 4, 2, 3), 2).reshape(-1, 4, 6),
    "patches": lambda x: F.unfold(x[:, None], (2, 3), stride=(2, 3)).reshape(-1, 4, 6),
    "folded": lambda x: F.fold(x.reshape(-1, 6, 4), (4, 6), (2, 3), stride=(2, 3)).squeeze(1),
    "index_add": lambda x: x.index_add(1, torch.tensor([1]), x[:, :1]),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "clone": torch.clone,
    "contiguous": torch.Tensor.contiguous,
    "to itself": lambda x: (x * 1).to(x.dtype).double(),
    "dropout": lambda x: F.dropout(x * 1, training=False),
    "detached": lambda x: (x * 1).detach(),
    "data": lambda x: (x * 1).data,
    "reshaped": lambda x: (x * 1).reshape(x.shape),
    "permuted": lambda x: (x * 1).permute(0, 2, 1).reshape(-1, 4, 6),
    "in place": lambda x: (x * 1).add_(1).mul_(2),
    "buffer": lambda x: torch.zeros_like(x).copy_(x),
    "buffer by parts": lambda x: _filled(x),
    "the input": lambda x: x,
    "keras": lambda x: KERAS(x),
}  # fmt: skip


def _filled(x):
    out = torch.zeros_like(x)
    for place in range(4):
        out[:, place] = x[:, 3 - place]
    return out


VIEWS = {
    "itself": lambda h: h,
    "slice": lambda h: h[..., :4],
    "steps": lambda h: h[:, ::2, 1::2],
    "select": lambda h: h[:, 1],
    "first sample": lambda h: h[0],
    "last sample": lambda h: h[-1:],
    "narrow": lambda h: h.narrow(2, 1, 3),
    "chunk": lambda h: h.chunk(2, -1)[1],
    "split": lambda h: h.split([1, 3], 1)[1],
    "unbind": lambda h: h.unbind(1)[2],
    "view": lambda h: h.view(h.shape) if not h.is_contiguous() else h.view(len(h), -1),
    "reshape": lambda h: h.reshape(h.shape)[:, 1:],
    "flatten": lambda h: h[:, :, None].flatten(2, 3),
    "transpose": lambda h: h.transpose(1, 2)[:, :3],
    "permute": lambda h: h.permute(2, 0, 1)[1:],
    "unsqueeze": lambda h: h.unsqueeze(1)[:, :, 1],
    "squeeze": lambda h: h[:, :1].squeeze(1),
    "diagonal": lambda h: h.diagonal(dim1=1, dim2=2),
    "unfold": lambda h: h.unfold(2, 2, 3),
    "as_strided": lambda h: h.as_strided((len(h), 2), (h.stride(0), h.stride(2)), h.storage_offset()),
    "view of a view": lambda h: h[:, 1:].transpose(1, 2)[..., 1:][:, 2],
    "detached": lambda h: h.detach()[:, 1],
    "alias": lambda h: h.view_as(h)[:, :2],
    "movedim": lambda h: h.movedim(-1, 0)[2:4],
}


def _out(v, other):
    torch.mul(other, 2, out=v)


def _item(v, other):
    v[..., 0] = other[..., -1]


def _constant_item(v, other):
    v[..., 0] = 3


def _plus(v, other):
    v += 1


def _minus(v, other):
    v -= other


def _masked_item(v, other):
    v[v > 0] = 0.5


WRITES = {
    "+= 1": _plus,
    "-= signal": _minus,
    "setitem": _item,
    "setitem of a constant": _constant_item,
    "setitem by a mask": _masked_item,
    "add_": lambda v, other: v.add_(other, alpha=2),
    "mul_": lambda v, other: v.mul_(1.5),
    "div_": lambda v, other: v.div_(2),
    "neg_": lambda v, other: v.neg_(),
    "relu_": lambda v, other: v.relu_(),
    "torch.relu_": lambda v, other: torch.relu_(v),
    "F.relu": lambda v, other: F.relu(v, inplace=True),
    "F.relu, by place": lambda v, other: F.relu(v, True),
    "F.leaky_relu": lambda v, other: F.leaky_relu(v, 0.2, inplace=True),
    "nn.ELU": lambda v, other: nn.ELU(inplace=True)(v),
    "tanh_": lambda v, other: v.tanh_(),
    "clamp_": lambda v, other: v.clamp_(min=-0.2),
    "copy_": lambda v, other: v.copy_(other),
    "copy_ of constants": lambda v, other: v.copy_(torch.ones_like(v)),
    "fill_": lambda v, other: v.fill_(2),
    "zero_": lambda v, other: v.zero_(),
    "masked_fill_": lambda v, other: v.masked_fill_(v > 0, 1),
    "masked_scatter_": lambda v, other: v.masked_scatter_(torch.ones_like(v) > 0, other),
    "index_put_": lambda v, other: v.index_put_((torch.tensor([0]),), other[:1] * 2),
    "index_fill_": lambda v, other: v.index_fill_(-1, torch.tensor([0]), 2),
    "index_copy_": lambda v, other: v.index_copy_(-1, torch.tensor([0]), other[..., -1:]),
    "index_add_": lambda v, other: v.index_add_(-1, torch.tensor([0]), other[..., -1:]),
    "scatter_": lambda v, other: v.scatter_(-1, torch.zeros_like(v[..., :1]).long(), other[..., -1:]),
    "scatter_ of a number": lambda v, other: v.scatter_(-1, torch.zeros_like(v[..., :1]).long(), 2),
    "out=": _out,
    "swap with itself": lambda v, other: v.copy_(v.flip(-1)),
    "lerp_": lambda v, other: v.lerp_(other, 0.25),
    "addcmul_": lambda v, other: v.addcmul_(other, torch.full_like(v, 2)),
    "dropout in eval": lambda v, other: F.dropout(v, 0.5, False, True),
    "torch.add, out by place": lambda v, other: torch.add(v, other, out=v),
    "aten": lambda v, other: torch.ops.aten.mul_.Tensor(v, torch.full_like(v, 2)),
}


def written(result, view, write):
    head = weights(3, 24 + 12, seed=5)

    def network(x):
        h = RESULTS[result](x)
        seen, other = h[:, 1:3], F.linear(x, weights(6, 6, seed=7))  # a view made before, and another signal
        WRITES[write](VIEWS[view](h), VIEWS[view](other))
        return F.linear(torch.cat([h.flatten(1), seen.flatten(1)], 1), head) + F.linear(x, weights(3, 6))[:, 0]

    return network


def compare(result, view, write, samples=3):
    try:
        tolerance = 1e-5 if result == "keras" else 1e-9  # its dense layer computes in single precision
        check(written(result, view, write), inputs(samples, *SHAPE), 1, tolerance)
    except Exception as error:
        raise AssertionError(f"{write} into {view} of {result}, {samples} samples") from error


@pytest.mark.parametrize("result", RESULTS)
def test_writes_into_views_of_each_result(result):
    writes = list(WRITES)
    first = list(RESULTS).index(result)
    for number, view in enumerate(VIEWS):
        if (first + number) % 3 == 0:
            compare(result, view, writes[(7 * first + number) % len(writes)], 1 + number % 2)


@pytest.mark.parametrize("view", VIEWS)
def test_each_write_into_each_view(view):
    for number, write in enumerate(WRITES):
        compare("dense", view, write, 1 if number % 5 == 0 else 3)


def test_an_expanded_view_is_refused_as_torch_does():
    with pytest.raises(GeoxaiError, match="more than one element of the written-to tensor"):
        check(lambda x: F.linear(x, weights(6, 6))[:, :1].expand(-1, 4, -1).add_(1).flatten(1), inputs(2, 4, 6))
