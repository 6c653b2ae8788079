"""Every rule on every linear operation, in every form people write it in, equals the explicit float64 loop.

The loop gets the operation as a dense matrix. Where an operation is an index map (padding, patches) and then a linear
map, or two linear maps, the loop does one after the other: a dense matrix would add up what the rules keep apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.attribution.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus
from tests.attribution.networks import inputs
from tests.attribution.oracle import dense_matrix, relevance
from tests.attribution.test_account import gap

LOW, HIGH = -9.0, 8.0
W, B = inputs(4, 5, seed=3), inputs(5, seed=4)
K, KB = inputs(2, 2, 3, 3, seed=1), inputs(2, seed=2)
AREA = torch.linspace(0.2, 1, 4, dtype=torch.float64)[:, None].expand(4, 5) / 12.0


def fixed(layer, seed=1):
    """The layer in eval mode with weights, biases and statistics of a seed."""
    layer, generator = layer.double().eval().requires_grad_(False), torch.Generator().manual_seed(seed)
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator) if "running_var" in name else tensor.normal_(
                generator=generator
            )
    return layer


@dataclass
class Case:
    """``operation`` of inputs of ``shape`` is linear, or ``before`` and then ``after``, where given.

    ``group``: ``weighted`` maps take every rule; of an ``average`` the weights say how relevance spreads flat; an
    ``index`` map and a ``scale`` have no choice of rule.
    """

    operation: Callable
    shape: tuple[int, ...]
    group: str = "weighted"
    before: Callable | None = None
    after: Callable | None = None
    twice: bool = False


def padded(layer, pad, **options):
    """A convolution with padding, and the two apart."""
    spatial = layer.weight.ndim - 2
    plain = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    shape = (layer.in_channels, *(4, 5, 3)[:spatial])
    return Case(
        layer, shape, before=lambda x: F.pad(x, pad, **options),
        after=lambda x: plain(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation),
    )  # fmt: skip


def column_by_column(x):
    out = x.new_empty(len(x), 3)
    for column in range(3):
        out[:, column] = x @ W[:, column]
    return out


def into_a_buffer(x):
    out = torch.zeros(len(x), 6, dtype=x.dtype)
    out[:, 1:5] = x
    return out @ inputs(6, 3, seed=2)


def with_weights_changed_afterwards(x):
    weight, bias = W.T.clone(), B.clone()
    out = F.linear(x, weight, bias)
    weight.zero_()
    bias += 7
    return out


class Standardised(nn.Conv2d):
    def forward(self, x):
        mean, deviation = self.weight.mean((1, 2, 3), True), self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (deviation + 1e-5), self.bias)


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).T


def parametrised():
    layer = fixed(nn.Linear(4, 4))
    nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric().eval())
    return layer


SQUARE, CONV, NORM = fixed(nn.Linear(4, 4)), fixed(nn.Conv2d(2, 2, 3)), fixed(nn.BatchNorm2d(3))
CASES = {
    "linear": Case(fixed(nn.Linear(4, 5)), (4,)),
    "linear without bias": Case(fixed(nn.Linear(4, 5, bias=False)), (3, 4)),
    "F.linear by name": Case(lambda x: F.linear(input=x, weight=W.T, bias=B), (4,)),
    "@ and +": Case(lambda x: x @ W + B, (4,)),
    "constant @": Case(lambda x: W.T @ x, (4, 3)),
    "mm": Case(lambda x: torch.mm(x, W), (4,)),
    "mv": Case(lambda x: x.mv(W[:, 0])[:, None], (4,)),
    "matmul into out": Case(lambda x: torch.matmul(x, W, out=torch.empty(len(x), 5, dtype=x.dtype)), (4,)),
    "addmm": Case(lambda x: torch.addmm(B, x, W, beta=0.5, alpha=2.0), (4,)),
    "addmm in place": Case(lambda x: B.expand(len(x), 5).clone().addmm_(x, W), (4,)),
    "bmm": Case(lambda x: x.bmm(W.expand(len(x), 4, 5)), (3, 4)),
    "baddbmm": Case(lambda x: torch.baddbmm(B.expand(len(x), 3, 5), x, W.expand(len(x), 4, 5)), (3, 4)),
    "einsum": Case(lambda x: torch.einsum("bci,io->bco", x, W), (3, 4)),
    "tensordot": Case(lambda x: torch.tensordot(x, W, 1), (3, 4)),
    "inner": Case(lambda x: torch.inner(x, W.T), (3, 4)),
    "multi_dot": Case(lambda x: torch.linalg.multi_dot([x, W, W.T]), (4,), before=lambda x: x @ W,
                      after=lambda x: x @ W.T, twice=True),
    "sample by sample": Case(lambda x: torch.stack([F.linear(row, W.T, B) for row in x]), (4,)),
    "weights changed afterwards": Case(with_weights_changed_afterwards, (4,)),
    "column by column": Case(column_by_column, (4,)),
    "conv1d": Case(fixed(nn.Conv1d(2, 3, 2, stride=2, dilation=2, padding=1)), (2, 8)),
    "conv1d groups": Case(fixed(nn.Conv1d(4, 4, 3, groups=2, padding=1)), (4, 5)),
    "conv1d depthwise": Case(fixed(nn.Conv1d(2, 6, 2, groups=2)), (2, 5)),
    "conv1d same": Case(fixed(nn.Conv1d(2, 2, 4, padding="same")), (2, 5)),
    "conv1d valid": Case(fixed(nn.Conv1d(2, 2, 4, padding="valid")), (2, 5)),
    "conv2d": Case(fixed(nn.Conv2d(4, 4, 2, groups=2, stride=(2, 1), dilation=(1, 2), padding=(1, 0))), (4, 4, 4)),
    "F.conv2d": Case(lambda x: F.conv2d(x, K, KB, 1, 1), (2, 4, 4)),
    "torch.conv2d": Case(lambda x: torch.conv2d(x, K, bias=KB, padding="same"), (2, 4, 4)),
    "conv3d": Case(fixed(nn.Conv3d(1, 2, 2, stride=(1, 2, 1), padding=1)), (1, 2, 3, 3)),
    "conv3d groups": Case(fixed(nn.Conv3d(2, 2, 2, groups=2, dilation=(1, 1, 2))), (2, 2, 2, 3)),
    "transposed 1d": Case(fixed(nn.ConvTranspose1d(4, 4, 3, 2, 1, 1, groups=2)), (4, 3)),
    "transposed 2d": Case(fixed(nn.ConvTranspose2d(2, 4, 2, groups=2, dilation=2)), (2, 3, 3)),
    "transposed 2d stride": Case(fixed(nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1)), (2, 3, 3)),
    "F.conv_transpose2d": Case(lambda x: F.conv_transpose2d(x, K, KB, 2, 1, 1), (2, 3, 3)),
    "transposed 3d": Case(fixed(nn.ConvTranspose3d(2, 2, 2, (2, 1, 2), 0, (1, 0, 0), groups=2)), (2, 1, 2, 2)),
    **{f"conv{n}d {mode}": padded(fixed(layer(2, 2, 3, padding=1, padding_mode=mode)), (1, 1) * n, mode=mode)
       for n, layer in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d)) for mode in ("circular", "reflect", "replicate")
       if n < 3 or mode == "circular"},
    "conv2d circular dilation": padded(
        fixed(nn.Conv2d(2, 2, 2, stride=2, dilation=2, padding=1, padding_mode="circular")), (1,) * 4, mode="circular"),
    "padding by cat": Case(lambda x: CONV(torch.cat([x[..., -1:], x, x[..., :1]], -1)), (2, 3, 4),
                           before=lambda x: F.pad(x, (1, 1, 0, 0), mode="circular"), after=CONV),
    "padding by roll": Case(lambda x: CONV(x.roll((1, 2), (2, 3))), (2, 3, 4), before=lambda x: x.roll((1, 2), (2, 3)),
                            after=CONV),
    "patches and matmul": Case(lambda x: W[:2] @ F.unfold(x, 2)[:, :5], (2, 3, 3),
                               before=lambda x: F.unfold(x, 2)[:, :5], after=lambda x: W[:2] @ x),
    "one layer twice": Case(lambda x: SQUARE(SQUARE(x)), (4,), before=SQUARE, after=SQUARE, twice=True),
    "one weight, two forms": Case(lambda x: F.linear(x @ SQUARE.weight.T + SQUARE.bias, SQUARE.weight, SQUARE.bias),
                                  (4,), before=SQUARE, after=SQUARE, twice=True),
    "sum of two layers": Case(lambda x: SQUARE(x[:, :4]) + F.linear(x[:, 4:], W[:, :3], B[:4]), (7,)),
    "sum in place": Case(lambda x: SQUARE(x[:, :4]).add_(F.linear(x[:, 4:], W[:, :3])), (7,)),
    "layers and constants": Case(lambda x: SQUARE(x[..., :4]) + B[:4] + (F.linear(x[..., 4:], W[:, :3]) + 1.0), (2, 7)),
    "sum of three layers": Case(lambda x: SQUARE(x[:, :4]) + (x[:, 4:6] @ W[:2, :4] + B[:4]) +
                                F.linear(x[:, 6:], W[:, :1]), (7,)),
    "a shortcut of another kernel": Case(lambda x: CONV(x[:, :2]) + F.conv2d(x[:, 2:, 1:-1, 1:-1], K[:, :1, :1, :1]),
                                         (3, 4, 4)),
    "features of a layer": Case(lambda x: SQUARE(x[:, :4]).chunk(2, 1)[1] + F.linear(x[:, 4:], W[:, :3]).split(2, 1)[0],
                                (7,)),
    "steps of a layer": Case(lambda x: SQUARE(x[..., :4])[:, 1] + F.linear(x[:, 0, 4:], W[:, :3], B[:4]), (2, 7)),
    "unbound steps of a layer": Case(lambda x: (lambda s: s[0] + F.linear(x[:, 1, 4:], W[:, :3]))(
        (x[..., :4] @ W[:, :4] + B[:4]).unbind(1)), (2, 7)),
    "weight norm": Case(nn.utils.parametrizations.weight_norm(fixed(nn.Conv1d(2, 3, 3))).eval(), (2, 5)),
    "spectral norm": Case(nn.utils.parametrizations.spectral_norm(fixed(nn.Linear(4, 3))).eval(), (4,)),
    "parametrised": Case(parametrised().eval(), (4,)),
    "standardised": Case(fixed(Standardised(2, 2, 3)), (2, 4, 3)),
    "batch norm 1d": Case(fixed(nn.BatchNorm1d(3)), (3, 4), "norm"),
    "batch norm 2d": Case(NORM, (3, 2, 2), "norm"),
    "batch norm 3d": Case(fixed(nn.BatchNorm3d(2, affine=False)), (2, 2, 2, 1), "norm"),
    "F.batch_norm": Case(lambda x: F.batch_norm(x, NORM.running_mean, NORM.running_var, NORM.weight, eps=0.1),
                         (3, 2, 2), "norm"),
    "running instance norm": Case(fixed(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)), (3, 2, 2),
                                  "norm"),
    "avg_pool1d": Case(lambda x: F.avg_pool1d(x, 2, 1), (2, 5), "average"),
    "avg_pool2d": Case(nn.AvgPool2d(3, 2, 1, ceil_mode=True).eval(), (2, 4, 5), "average"),
    "avg_pool2d of cells": Case(lambda x: F.avg_pool2d(x, 3, 2, 1, False, False), (1, 5, 5), "average"),
    "avg_pool2d divisor": Case(nn.AvgPool2d(2, divisor_override=3).eval(), (1, 4, 4), "average"),
    "avg_pool3d": Case(nn.AvgPool3d(2).eval(), (1, 2, 4, 2), "average"),
    "adaptive 1d": Case(lambda x: F.adaptive_avg_pool1d(x, 3), (2, 5), "average"),
    "adaptive 2d": Case(nn.AdaptiveAvgPool2d((3, 1)).eval(), (2, 5, 4), "average"),
    "adaptive 3d": Case(nn.AdaptiveAvgPool3d(1).eval(), (2, 2, 3, 2), "average"),
    "linear interpolation": Case(lambda x: F.interpolate(x, size=7, mode="linear"), (2, 3), "average"),
    "bilinear": Case(nn.Upsample(scale_factor=2, mode="bilinear").eval(), (1, 3, 3), "average"),
    "bilinear corners": Case(lambda x: F.interpolate(x, size=(5, 4), mode="bilinear", align_corners=True), (1, 3, 4),
                             "average"),
    "bilinear antialias": Case(lambda x: F.interpolate(x, size=(2, 3), mode="bilinear", antialias=True), (1, 5, 4),
                               "average"),
    "trilinear": Case(lambda x: F.interpolate(x, size=(3, 2, 4), mode="trilinear"), (1, 2, 2, 2), "average"),
    "area": Case(lambda x: F.interpolate(x, size=(2, 2), mode="area"), (1, 4, 4), "average"),
    "bicubic": Case(lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic", align_corners=True), (1, 4, 3),
                    "norm"),
    "bicubic antialias": Case(lambda x: F.interpolate(x, size=(3, 3), mode="bicubic", antialias=True), (1, 5, 5),
                              "norm"),
    "grid_sample": Case(lambda x: F.grid_sample(x, inputs(1, 2, 3, 2).tanh().expand(len(x), -1, -1, -1),
                                                align_corners=False), (1, 4, 4), "average"),
    "fold": Case(lambda x: F.fold(x, (3, 3), 2), (4, 4), "average"),
    "mean": Case(lambda x: x.mean((2, 3)), (2, 3, 4), "average"),
    "torch.mean by axis": Case(lambda x: torch.mean(x, axis=1, keepdim=True), (2, 4), "average"),
    "sum": Case(lambda x: x.sum(-1), (2, 4), "average"),
    "nanmean": Case(lambda x: x.nanmean(-1), (2, 4), "average"),
    "cumsum": Case(lambda x: x.cumsum(1), (4,), "average"),
    "area mean by einsum": Case(lambda x: torch.einsum("bcij,ij->bc", x, AREA), (2, 4, 5)),
    "area mean by tensordot": Case(lambda x: torch.tensordot(x, AREA, 2), (2, 4, 5)),
    "add": Case(lambda x: 1.5 + x, (4,), "norm"),
    "add alpha": Case(lambda x: torch.add(x, B[:4], alpha=0.5), (4,), "norm"),
    "add in place": Case(lambda x: x.clone().add_(0.5), (4,), "norm"),
    "sub": Case(lambda x: x - 0.7, (4,), "norm"),
    "constant minus": Case(lambda x: 0.7 - x, (4,), "norm"),
    "sub a tensor": Case(lambda x: x.sub(B[:4]), (3, 4), "norm"),
    "sum of two": Case(lambda x: x[:, :2] + x[:, 2:], (4,), "norm"),
    "difference of two": Case(lambda x: x[:, :2] - x[:, 2:], (4,), "norm"),
    "diff": Case(lambda x: x.diff(dim=-1), (4,), "norm"),
    "addcmul": Case(lambda x: torch.addcmul(B[:4], x, torch.ones(4, dtype=x.dtype)), (4,), "norm"),
    "slice assignment": Case(into_a_buffer, (4,), "scale"),
    "area mean by mul and sum": Case(lambda x: (x * AREA).sum((2, 3)) / AREA.sum(), (2, 4, 5), "scale"),
    "vecdot": Case(lambda x: torch.linalg.vecdot(x, W[:, :1].T), (3, 4), "scale"),
    "mul": Case(lambda x: x * -2.5 * W[:, 0], (4,), "scale"),
    "mul in place, div, neg": Case(lambda x: -(x.clone().mul_(2.0) / 3), (4,), "scale"),
    "lerp": Case(lambda x: torch.lerp(x, x.flip(1), 0.3), (4,), "scale"),
    "nearest": Case(lambda x: F.interpolate(x, scale_factor=2), (1, 3, 3), "index"),
    "nearest-exact": Case(lambda x: F.interpolate(x, size=(5, 4), mode="nearest-exact"), (1, 3, 3), "index"),
    "pixel shuffle": Case(nn.PixelShuffle(2).eval(), (4, 2, 2), "index"),
    "pixel unshuffle": Case(nn.PixelUnshuffle(2).eval(), (1, 4, 4), "index"),
}  # fmt: skip


def rules(group, policy):
    made = [Zero(policy), Epsilon(policy, 1e-6), Epsilon(policy, 0.3), Gamma(policy, 0.7), AlphaBeta(policy, 1, 0),
            AlphaBeta(policy, 2, 1), ZPlus(policy), Flat(policy)]  # fmt: skip
    return made + ([WSquare(policy), ZBox(policy, LOW, HIGH)] if group == "weighted" else [])


@lru_cache
def matrix_of(operation, shape):
    """(matrix, bias) of a linear operation."""
    bias = operation(torch.zeros(1, *shape, dtype=torch.float64))
    return dense_matrix(lambda x: torch.cat([operation(row[None]) for row in x]) - bias, shape), bias.numpy().ravel()


def loop(operation, x, upper, rule, group):
    """Relevance of ``x`` (one sample) and the account, contribution by contribution."""
    matrix, bias = matrix_of(operation, tuple(x.shape[1:]))
    connected = matrix if group == "average" else (matrix != 0).astype(float)
    box = {"low": np.full(x.numel(), LOW), "high": np.full(x.numel(), HIGH)} if rule.name == "z_box" else {}
    return relevance(x.numpy().ravel(), matrix, bias, rule, upper, connected, relative=group != "weighted", **box)


def truth(case, x, upper, rule):
    if case.before is None:
        return loop(case.operation, x, upper, rule, case.group)
    middle, account = loop(case.after, case.before(x), upper, rule, case.group)
    if case.twice:
        lower, more = loop(case.before, x, middle, rule, case.group)
        return lower, account + more
    return matrix_of(case.before, case.shape)[0].T @ middle, account


@pytest.mark.parametrize("policy", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("name", CASES)
def test_rule_equals_explicit_loop(name, policy):
    case = CASES[name]
    x = inputs(1, *case.shape, seed=len(name))
    with torch.no_grad():
        z = case.operation(x)
    weights = inputs(*z.shape[1:], seed=7)
    upper = (z[0] * weights).numpy().ravel()
    biased = case.twice or bool(case.operation(torch.zeros_like(x)).any())
    for rule in rules(case.group, policy):
        if policy != "absorb" and not biased and rule.name != "epsilon":
            continue  # only a stabiliser could make a difference
        if case.twice and rule.name == "z_box":
            continue  # bounds hold for the input alone
        got = attribute(case.operation, x, rules=[{"rule": rule}], target=weights)
        assert gap(got) < 1e-10, rule
        found = got.relevance[0].numpy().ravel()
        if case.group in ("index", "scale"):
            continue
        wanted, account = truth(case, x, upper, rule)
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11 * scale, err_msg=str(rule))
        terms = [float(t) for t in (got.bias, got.stabiliser, got.lost)]
        np.testing.assert_allclose(terms, account, rtol=1e-8, atol=1e-10 * scale, err_msg=str(rule))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.group in ("index", "scale")])
def test_index_maps_and_constants_share_by_value(name):
    """Under LRP-0 what has no choice of rule gives every input its contributions."""
    case = CASES[name]
    x = inputs(1, *case.shape, seed=len(name))
    weights = inputs(*case.operation(x).shape[1:], seed=7)
    got = attribute(case.operation, x, rules="zero", target=weights)
    matrix, _ = matrix_of(case.operation, case.shape)
    wanted = (weights.numpy().ravel() @ matrix) * x.numpy().ravel()
    np.testing.assert_allclose(got.relevance[0].numpy().ravel(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_samples_of_a_batch_are_explained_apart(name):
    case = CASES[name]
    x = inputs(3, *case.shape, seed=1)
    weights = inputs(*case.operation(x).shape[1:], seed=7)
    for rule in ("epsilon", "alpha2_beta1"):
        whole = attribute(case.operation, x, rules=rule, target=weights)
        for number in range(3):
            alone = attribute(case.operation, x[number : number + 1], rules=rule, target=weights)
            torch.testing.assert_close(whole.relevance[number], alone.relevance[0], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(whole.bias[number], alone.bias[0])
