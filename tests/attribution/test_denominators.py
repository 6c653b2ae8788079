"""Denominators that are no more than rounding: what they stand for is lost, and said to be."""

import numpy as np
import pytest
import torch
from torch import nn

from geoxai.attribution import attribute
from geoxai.attribution.result import unaccounted
from tests.attribution.networks import inputs


def dense(weights, bias=None, dtype=torch.float32):
    layer = nn.Linear(len(weights), 1, bias=bias is not None).to(dtype).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        if bias is not None:
            layer.bias.fill_(bias)
    return layer


@pytest.mark.parametrize("rules", ["alpha1_beta0", "z_plus", "alpha2_beta1"])
@pytest.mark.parametrize("tiny", [1e-39, 1e-30, 1e-9])
def test_a_positive_part_that_is_nothing_takes_nothing(rules, tiny):
    """A neuron of -2 with a positive term of 1e-39: there is no evidence for it, and what it got is lost."""
    found = attribute(dense([1.0, tiny]), torch.tensor([[-2.0, 3.0]]), rules=rules, target=0)
    alpha = 2.0 if rules == "alpha2_beta1" else 1.0
    assert float(found.lost) == pytest.approx(-2.0 * alpha)
    assert float(found.relevance[0, 1]) == 0
    assert float(unaccounted(found).abs().max()) < 1e-6


@pytest.mark.parametrize("rules", ["alpha1_beta0", "alpha2_beta1", "gamma", "epsilon", "zero"])
def test_small_parts_that_are_more_than_rounding_are_shared_out(rules):
    """Ten thousand times the rounding: an explicit loop in double precision says the same."""
    x, w = torch.tensor([[-2.0, 3.0, 1.5]]), [1.0, 1e-3, 1.3]
    found = attribute(dense(w), x, rules=rules, target=0)
    wanted = attribute(dense(w, dtype=torch.float64), x.double(), rules=rules, target=0)
    torch.testing.assert_close(found.relevance.double(), wanted.relevance, rtol=1e-4, atol=1e-7)
    assert float(found.lost) == 0


@pytest.mark.parametrize("rules", ["zero", "epsilon"])
@pytest.mark.parametrize("kind", ["dense", "conv", "transposed", "grouped", "matmul", "norm", "sum", "mean", "gated"])
def test_plain_sums_that_cancel_are_lost_in_every_kind_of_map(rules, kind):
    """Terms of 1e4 of both signs that cancel up to rounding: 1e-3 of a sum of 3e4 has no correct digit in float32."""
    big = 1e4
    x = torch.zeros(2, 4, 3, 3)
    x[:, 0], x[:, 1] = big, -big
    x[1, 0, 1, 1] += 5.0  # one output of one sample is no rounding
    weights = torch.ones(2, 4, 1, 1)

    def network(x):
        if kind == "dense":
            return torch.nn.functional.linear(x.movedim(1, -1), weights[:1, :, 0, 0]).flatten(1)
        if kind == "conv":
            return torch.nn.functional.conv2d(x, weights[:1]).flatten(1)
        if kind == "transposed":
            return torch.nn.functional.conv_transpose2d(x, weights[:1].movedim(0, 1)).flatten(1)
        if kind == "grouped":
            return torch.nn.functional.conv2d(x, weights[:, :2], groups=2)[:, :1].flatten(1)
        if kind == "matmul":
            return (x.movedim(1, -1) @ weights[0, :, :1, 0]).flatten(1)
        if kind == "norm":
            one = torch.ones(1)
            return torch.nn.functional.batch_norm(x[:, :1].clone(), big * one, one, one, 0 * one).flatten(1)
        if kind == "sum":
            return (x[:, 0] + x[:, 1]).flatten(1)
        if kind == "mean":
            return x[:, :2].mean(1).flatten(1)
        gates = torch.softmax(x.sum((2, 3))[:, None, :2] * 0, -1)
        return (gates @ x[:, :2].flatten(2))[:, 0]

    x[0, 0] += 1e-3  # float32 holds it as 0.00098: a multiple of the spacing
    with torch.no_grad():
        z = network(x)
    found = attribute(network, x, rules=rules, target=np.ones(9))
    rounding = z[0].double()
    assert 0 < float(rounding.sum()) < 0.1
    assert float(found.lost[0]) == pytest.approx(float(rounding.sum()), rel=1e-5)
    assert float(found.relevance[0].abs().sum()) == 0
    assert abs(float(found.lost[1])) < 0.01  # what a norm adds to its variance
    assert float(found.relevance[1].abs().sum()) > 0.4 * big


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mask", [-20.0, -60.0, -90.0, -100.0])
@pytest.mark.parametrize("rules", ["epsilon_plus", "alpha1_beta0", "z_plus", "epsilon", "gamma"])
def test_a_masked_token_gets_nothing(mask, rules, dtype):
    """All values but the masked one are negative: where only positive terms count, the masked one had everything."""
    values = -inputs(2, 4, 3, dtype=dtype).abs()
    values[:, 2] = 1.0
    scores = torch.zeros(4, 4, dtype=dtype)
    scores[:, 2] = mask

    def network(x):
        return (torch.softmax(x.mean(-1, keepdim=True) * 0 + scores, -1) @ x).mean(1)

    found = attribute(network, values, rules=rules, target=0)
    assert bool(torch.isfinite(found.relevance).all())
    share = found.relevance[:, 2].abs().sum() / found.relevance.abs().sum()
    assert float(share) < 1e-7
    assert float((found.lost / found.target_value).abs().max()) < 1e-6
