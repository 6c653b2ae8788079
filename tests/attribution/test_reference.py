"""Explaining f - f_ref: what is conserved, and where the reference goes."""

import numpy as np
import pytest
import torch
from torch import nn

from geoxai.attribution import attribute
from geoxai.errors import InputError, OptionError
from tests.attribution.networks import Mlp, UNet, inputs, seeded


def closes(result, expected):
    total = result.relevance.double().flatten(1).sum(1)
    account = total + result.bias + result.stabiliser + result.lost
    torch.testing.assert_close(result.target_value, expected, rtol=1e-12, atol=1e-12)
    scale = torch.maximum(expected.abs(), result.relevance.double().abs().flatten(1).sum(1)).max()
    assert float((account - expected).abs().max()) <= 1e-9 * float(scale)
    return total


NETS = {
    "dense": (lambda: Mlp(12, 1), (4, 3, 2, 2), 0),
    "u-net": (UNet, (4, 3, 8, 8), (0, 3, 4)),
    "behind a relu": (lambda: nn.Sequential(Mlp(12, 1), nn.ReLU()), (4, 3, 2, 2), 0),
}


@pytest.mark.parametrize("rules", ["zero", "epsilon", "alpha1_beta0", "alpha2_beta1", "gamma", "flat"])
@pytest.mark.parametrize("name", NETS)
def test_the_account_closes_for_the_difference(name, rules):
    build, shape, target = NETS[name]
    network, x = seeded(build()), inputs(*shape)
    x0 = inputs(*shape[1:], seed=5)
    with torch.no_grad():
        f, f0 = (network(t).reshape(len(t), -1) for t in (x, x0[None]))
    place = 0 if target == 0 else 3 * 8 + 4
    f, f0 = f[:, place], f0[:, place]
    if rules == "zero" and name == "behind a relu":
        rules = "epsilon"  # 0/0 behind a closed ReLU is another matter
    each = np.array([0.5, -0.5, 1.0, 2.0])
    for reference, number in ((0.7, 0.7), ({"value": -2}, -2), (each, torch.tensor(each)), ({"input": x0}, f0)):
        result = attribute(network, x, target=target, rules=rules, reference=reference)
        closes(result, f - number)


def test_without_bias_the_map_alone_is_the_difference():
    network, x = seeded(Mlp(12, 1)), inputs(6, 3, 2, 2).abs()
    with torch.no_grad():
        f = network(x)[:, 0]
    result = attribute(network, x, target=0, rules="alpha1_beta0", bias="ignore", reference=-20.0)
    total = closes(result, f + 20)
    lost = result.lost.abs() < 1e-12
    torch.testing.assert_close(total[lost], (f + 20)[lost])
    assert lost.any()


def test_linear_rules_keep_the_map_and_put_the_reference_with_the_bias():
    network, x = seeded(UNet()), inputs(2, 3, 8, 8)
    plain = attribute(network, x, target=(0, 1, 1), rules="zero")
    against = attribute(network, x, target=(0, 1, 1), rules="zero", reference=0.25)
    torch.testing.assert_close(against.relevance, plain.relevance)
    torch.testing.assert_close(against.bias, plain.bias - 0.25)


def test_positive_evidence_is_shared_for_what_exceeds_the_reference():
    """By hand: z = 3 * 1 + 1 * 2 + 0.5 against 2: bias below the reference, so 3.5 is shared 3 : 2."""
    network = nn.Linear(2, 1).double().eval()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, 2.0]]))
        network.bias.fill_(0.5)
    x = torch.ones(1, 2, dtype=torch.float64)
    result = attribute(network, x, target=0, rules="alpha1_beta0", reference=2.0)
    torch.testing.assert_close(result.relevance[0], torch.tensor([2.1, 1.4], dtype=torch.float64))
    assert float(result.bias) == 0
    result = attribute(network, x, target=0, rules="alpha1_beta0", reference=0.2)
    torch.testing.assert_close(result.bias, torch.tensor([0.3], dtype=torch.float64))


def test_references_of_regions_and_several_targets():
    network, x = seeded(UNet()), inputs(3, 3, 8, 8)
    mean = np.zeros((1, 8, 8))
    mean[0, :4] = 1 / 32
    x0 = torch.zeros(3, 8, 8, dtype=torch.float64)
    targets = [mean, (0, 5, 5)]
    result = attribute(network, x, target=targets, rules="epsilon", reference={"input": x0})
    with torch.no_grad():
        f, f0 = network(x), network(x0[None])
    expected = torch.stack([f[:, 0, :4].mean((1, 2)) - f0[0, 0, :4].mean(), f[:, 0, 5, 5] - f0[0, 0, 5, 5]])
    torch.testing.assert_close(result.target_value, expected)
    total = result.relevance.flatten(2).sum(2) + result.bias + result.stabiliser + result.lost
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-9)
    gradient = attribute(network, x, target=targets, method="gradient", reference=0.1)
    torch.testing.assert_close(gradient.target_value[1], f[:, 0, 5, 5] - 0.1)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("climatology", OptionError, "must be a number"),
        ({"climatology": 1}, OptionError, "must be a number"),
        (np.zeros(3), OptionError, "not one number for each of 2"),
        (float("nan"), OptionError, "NaN"),
        ({"input": np.zeros((3, 4, 4))}, InputError, r"shape \(3, 4, 4\), expected \(3, 8, 8\)"),
    ],
)
def test_references_that_do_not_fit(reference, error, message):
    with pytest.raises(error, match=message):
        attribute(seeded(UNet()), inputs(2, 3, 8, 8), target=(0, 1, 1), reference=reference)


def test_classes_have_contrasts_instead():
    with pytest.raises(OptionError, match="score: contrast"):
        attribute(seeded(Mlp()), inputs(2, 3, 2, 2), reference=1.0)
    weights = np.zeros((1, 8, 8))
    weights[0, 1, 1], weights[0, 2, 2] = 1, -1
    with pytest.raises(OptionError, match="sum to 0"):
        attribute(seeded(UNet()), inputs(2, 3, 8, 8), target=weights, reference=1.0)
