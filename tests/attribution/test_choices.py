"""Choices between values and constants, such as a land mask, in every form; and arguments by keyword."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.attribution.lrp.graph import Value
from geoxai.attribution.lrp.presets import RuleList
from geoxai.attribution.lrp.tape import Tape
from geoxai.attribution.lrp.weights import WeightCache
from tests.attribution.detached import check
from tests.attribution.networks import inputs, seeded

aten = torch.ops.aten
ZERO = torch.zeros((), dtype=torch.float64)
FIELD = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(4, 6)  # does not vary over samples

CHOICES = {
    "where float": lambda c, h: torch.where(c, h, 0.0),
    "where integer": lambda c, h: torch.where(c, h, 0),
    "where number first": lambda c, h: torch.where(c, 2.5, h),
    "where 0-dim": lambda c, h: torch.where(c, h, ZERO),
    "where 0-dim float32": lambda c, h: torch.where(c, h, ZERO.float()),
    "where 0-dim integer": lambda c, h: torch.where(c, h, torch.tensor(1)),
    "where field": lambda c, h: torch.where(c, h, FIELD),
    "where field of float32": lambda c, h: torch.where(c, FIELD.float(), h),
    "where keywords": lambda c, h: torch.where(condition=c, input=h, other=0.0),
    "where keyword other": lambda c, h: torch.where(c, h, other=0.0),
    "method": lambda c, h: h.where(c, 0.0),
    "method integer": lambda c, h: h.where(c, 0),
    "method of a constant": lambda c, h: torch.ones_like(h).where(c, h),
    "two signals": lambda c, h: torch.where(c, h, h.flip(-1)),
    "of 0-dim signal": lambda c, h: torch.where(c, h, h.amax(-1, keepdim=True)),
    "mask broadcasts": lambda c, h: torch.where(c[:, :1, :1], h, 0.0),
    "missing": lambda c, h: torch.where(torch.isnan(h), 0.0, h),
    "missing integer": lambda c, h: torch.where(torch.isnan(h), 0, h),
    "aten self": lambda c, h: aten.where.self(c, h, ZERO),
    "aten scalar": lambda c, h: aten.where.ScalarOther(c, h, 0.0),
    "aten integer scalar": lambda c, h: aten.where.ScalarOther(c, h, 0),
    "aten scalar first": lambda c, h: aten.where.ScalarSelf(c, 1, h),
    "permuted": lambda c, h: torch.where(c.permute(1, 0, 2), h.permute(1, 0, 2), 0).permute(1, 0, 2),
    "samples folded away": lambda c, h: torch.where(c.flatten(0, 1), h.flatten(0, 1), 0).unflatten(0, (-1, 4)),
    "masked_fill": lambda c, h: h.masked_fill(c, 0.0),
    "masked_fill integer": lambda c, h: h.masked_fill(c, 0),
    "masked_fill tensor": lambda c, h: torch.masked_fill(h, c, ZERO),
    "masked_fill keyword": lambda c, h: torch.masked_fill(input=h, mask=c, value=3),
    "masked_fill_": lambda c, h: h.masked_fill_(c, 2),
    "masked_scatter": lambda c, h: h.masked_scatter(c, torch.ones_like(h)),
    "masked_scatter into a constant": lambda c, h: torch.ones_like(h).masked_scatter(torch.ones_like(c), h),
    "setitem by a mask": lambda c, h: _set(h, c, 0),
    "setitem of a column": lambda c, h: _set(h, (slice(None), 1), 4),
    "index_fill": lambda c, h: h.index_fill(1, torch.tensor([0, 2]), 7),
    "index_put": lambda c, h: h.index_put((torch.arange(len(h)), torch.tensor([1])), torch.ones((), dtype=h.dtype)),
    "scatter number": lambda c, h: h.scatter(2, c.long(), 2),
    "scatter values": lambda c, h: h.scatter(2, c.long(), torch.ones_like(h)),
    "select_scatter": lambda c, h: h.select_scatter(torch.ones_like(h[:, 0]), 1, 0),
    "slice_scatter": lambda c, h: h.slice_scatter(torch.zeros_like(h[:, :2]), 1, 0, 2),
    "nan_to_num": lambda c, h: torch.nan_to_num(h),
    "nan_to_num with numbers": lambda c, h: torch.nan_to_num(input=h, nan=0, posinf=1),
    "clamp": lambda c, h: torch.clamp(input=h, min=0),
    "clamp_": lambda c, h: h.clamp_(min=0),
    "tril": lambda c, h: h.tril(),
    "cat with constants": lambda c, h: torch.cat([h, FIELD.expand_as(h)], 1),
    "stack with constants": lambda c, h: torch.stack([h, FIELD.expand_as(h)], 1),
    "maximum": lambda c, h: torch.maximum(h, ZERO),
    "maximum with a field": lambda c, h: torch.maximum(FIELD, other=h),
    "minimum with a field": lambda c, h: torch.fmin(h, FIELD),
    "maximum of two": lambda c, h: torch.fmax(h, h.flip(1)),
    "like another": lambda c, h: h + FIELD.reshape_as(h[0]).expand_as(h) + FIELD.view_as(h[1]),
}


def _set(h, key, value):
    h[key] = value
    return h


class Choosing(nn.Module):
    def __init__(self, choose):
        super().__init__()
        self.before, self.after, self.choose = nn.Linear(5, 6), nn.LazyLinear(2), choose

    def forward(self, x):
        h = self.before(x)
        mask = x.mean(-1, keepdim=True) + FIELD > 0.1
        # a branch beside it would close the account of a choice that was lost
        return self.after((self.choose(mask, h * 1)).flatten(1)) + self.before(x)[:, 0, :2]


def choosing(name, dtype=torch.float64):
    network = Choosing(CHOICES[name]).double()
    network(inputs(3, 4, 5))
    return seeded(network, dtype=dtype)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_keeps_the_signal(name):
    check(choosing(name), inputs(3, 4, 5), 1)


@pytest.mark.parametrize("name", ["where float", "where integer", "method", "missing", "masked_fill", "two signals"])
def test_a_choice_in_an_exported_program(name):
    network, x = choosing(name), inputs(3, 4, 5)
    program = torch.export.export(network, (x,))
    for written in (network, program.module(), program.run_decompositions().module()):
        found = attribute(written, x, rules="epsilon", target=1).relevance
        torch.testing.assert_close(found, attribute(network, x, rules="epsilon", target=1).relevance)


def test_a_choice_in_keras():
    keras = pytest.importorskip("keras")
    dense = seeded(nn.Linear(5, 6))
    for other in (0.0, 0):
        check(lambda x, o=other: keras.ops.where(x.mean(-1, keepdim=True) > 0, dense(x), o).flatten(1), inputs(3, 4, 5))


def test_single_precision_keeps_every_sample():
    network = choosing("where integer", torch.float32)
    x = inputs(300, 4, 5, dtype=torch.float32)  # more samples than half precision counts
    whole = attribute(network, x, rules="epsilon", target=0)
    each = attribute(network, x, rules="epsilon", target=0, batch_size=50)
    torch.testing.assert_close(whole.relevance, each.relevance, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.bias, each.bias, rtol=1e-4, atol=1e-5)


def test_a_value_without_a_sample_for_every_element_is_an_error():
    tape = Tape(3, WeightCache(), {}, 1, rules=RuleList("none", ()))
    x = tape.watch(torch.ones(3, 2))
    for sample in (torch.arange(3), torch.arange(2).reshape(2, 1), torch.tensor(0)):
        with pytest.raises(AssertionError, match="do not fit"):
            tape.track(torch.ones(3, 2), Value(None, 0, x.shape, sample))


KEYWORDS = {
    "sum": lambda h: torch.sum(input=h, axis=-1),
    "sum keepdims": lambda h: torch.sum(h, axis=(1,), keepdims=True),
    "sum method": lambda h: h.sum(axis=1, keepdims=True),
    "mean": lambda h: torch.mean(input=h, axis=1, keepdims=True),
    "mean x": lambda h: torch.mean(x=h, dim=1),
    "nansum": lambda h: torch.nansum(h, axis=1, keepdims=True),
    "amax": lambda h: torch.amax(input=h, axis=-1, keepdims=True),
    "amin": lambda h: h.amin(axis=1),
    "max": lambda h: torch.max(input=h, axis=1, keepdims=True).values,
    "max positional": lambda h: torch.max(h, 1, True)[0],
    "min": lambda h: h.min(axis=-1)[0],
    "maximum": lambda h: torch.maximum(x1=h, x2=h.flip(-1)),
    "median": lambda h: torch.median(input=h, axis=1, keepdims=True).values,
    "kthvalue": lambda h: torch.kthvalue(input=h, k=2, axis=1, keepdims=True).values,
    "sort": lambda h: torch.sort(input=h, axis=1)[0],
    "msort": lambda h: torch.msort(input=h.transpose(0, 1)).transpose(0, 1),
    "topk": lambda h: torch.topk(input=h, k=2, dim=1)[0],
    "cumsum": lambda h: torch.cumsum(input=h, axis=1),
    "cat": lambda h: torch.cat(tensors=(h, h), axis=1),
    "concat": lambda h: torch.concat((h, h), axis=1),
    "stack": lambda h: torch.stack(tensors=(h, h), axis=1),
    "hstack": lambda h: torch.hstack(tensors=(h, h)),
    "split": lambda h: torch.split(tensor=h, split_size_or_sections=2, dim=1)[1],
    "chunk": lambda h: torch.chunk(input=h, chunks=2, axis=1)[1],
    "unbind": lambda h: torch.unbind(input=h, axis=1)[1],
    "tensor_split": lambda h: torch.tensor_split(input=h, sections=2, dim=1)[0],
    "select": lambda h: torch.select(input=h, axis=1, index=1),
    "narrow": lambda h: torch.narrow(input=h, axis=1, start=1, length=2),
    "squeeze": lambda h: torch.squeeze(input=h[:, :1], axis=1),
    "unsqueeze": lambda h: torch.unsqueeze(input=h, axis=1),
    "flatten": lambda h: torch.flatten(input=h, start_dim=1),
    "reshape": lambda h: torch.reshape(input=h, shape=(len(h), -1)),
    "permute": lambda h: torch.permute(input=h, dims=(0, 2, 1)),
    "transpose": lambda h: torch.transpose(input=h, dim0=1, dim1=2),
    "movedim": lambda h: torch.movedim(input=h, source=1, destination=2),
    "flip": lambda h: torch.flip(input=h, dims=(1,)),
    "roll": lambda h: torch.roll(input=h, shifts=1, dims=1),
    "tile": lambda h: torch.tile(input=h, dims=(1, 2, 1)),
    "repeat_interleave": lambda h: torch.repeat_interleave(input=h, repeats=2, axis=1),
    "index_select": lambda h: torch.index_select(input=h, axis=1, index=torch.tensor([0, 2])),
    "gather": lambda h: torch.gather(input=h, axis=1, index=torch.zeros(len(h), 1, 6, dtype=torch.long)),
    "take_along_dim": lambda h: torch.take_along_dim(input=h, indices=torch.zeros(len(h), 1, 6).long(), axis=1),
    "diagonal": lambda h: torch.diagonal(input=h, dim1=1, dim2=2),
    "diff": lambda h: torch.diff(input=h, axis=1),
    "add": lambda h: torch.add(input=h, other=h.flip(1), alpha=2),
    "add x": lambda h: torch.add(x1=h, x2=h.flip(1)),
    "sub": lambda h: torch.sub(input=h, other=2),
    "mul": lambda h: torch.mul(input=h, other=2),
    "mul x": lambda h: torch.mul(x1=h, x2=2.0),
    "div": lambda h: torch.div(input=h, other=2),
    "neg": lambda h: torch.neg(input=h),
    "matmul": lambda h: torch.matmul(input=h, other=FIELD.T),
    "bmm": lambda h: torch.bmm(input=h, mat2=FIELD.T.expand(len(h), 6, 4)),
    "baddbmm": lambda h: torch.baddbmm(input=ZERO, batch1=h, batch2=FIELD.T.expand(len(h), 6, 4), beta=1, alpha=2),
    "addmm": lambda h: torch.addmm(input=ZERO, mat1=h.flatten(0, 1), mat2=FIELD.T).unflatten(0, (-1, 4)),
    "tensordot": lambda h: torch.tensordot(a=h, b=FIELD, dims=([2], [1])),
    "einsum": lambda h: torch.einsum("ntc,oc->nto", [h, FIELD]),
    "linear": lambda h: F.linear(input=h, weight=FIELD),
    "conv1d": lambda h: F.conv1d(input=h, weight=FIELD[:, :4, None] * 1.5),
    "relu": lambda h: F.relu(input=h),
    "relu in place": lambda h: F.relu(input=h, inplace=True),
    "torch.relu": lambda h: torch.relu(input=h),
    "leaky_relu": lambda h: F.leaky_relu(input=h, negative_slope=0.2, inplace=True),
    "gelu": lambda h: F.gelu(input=h, approximate="tanh"),
    "tanh": lambda h: torch.tanh(input=h),
    "abs": lambda h: torch.abs(input=h),
    "pow": lambda h: torch.pow(input=h, exponent=2),
    "softmax": lambda h: torch.softmax(input=h, dim=-1) * h.flip(1),
    "layer_norm": lambda h: F.layer_norm(input=h, normalized_shape=(6,)),
    "group_norm": lambda h: F.group_norm(input=h, num_groups=2),
    "instance_norm": lambda h: F.instance_norm(input=h),
    "avg_pool1d": lambda h: F.avg_pool1d(input=h, kernel_size=2),
    "max_pool1d": lambda h: F.max_pool1d(input=h, kernel_size=2),
    "adaptive_avg_pool1d": lambda h: F.adaptive_avg_pool1d(input=h, output_size=2),
    "adaptive_max_pool1d": lambda h: F.adaptive_max_pool1d(input=h, output_size=2),
    "interpolate": lambda h: F.interpolate(input=h, scale_factor=2, mode="linear"),
    "interpolate nearest": lambda h: F.interpolate(input=h, scale_factor=2),
    "pad": lambda h: F.pad(input=h, pad=(1, 1), value=2.0),
    "dropout": lambda h: F.dropout(input=h, p=0.5, training=False),
    "unfold": lambda h: F.unfold(input=h[:, None], kernel_size=2),
    "vector norm": lambda h: h / torch.linalg.vector_norm(x=h, dim=1, keepdim=True),
    "std": lambda h: h / torch.std(input=h, axis=-1, keepdims=True),
    "index_add": lambda h: torch.index_add(input=h, dim=1, index=torch.tensor([1]), source=h[:, :1]),
    "glu": lambda h: F.glu(input=h, dim=-1),
    "normalize": lambda h: F.normalize(input=h, dim=-1),
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_arguments_by_keyword(name):
    before = seeded(nn.Linear(5, 6))

    def network(x):
        return KEYWORDS[name](before(x)).flatten(1)

    check(network, inputs(3, 4, 5), 1)
