"""The account closes: explained value = relevance + bias + stabiliser + lost, on whole networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai import explaining
from geoxai.attribution import attribute
from geoxai.attribution.lrp import PRESET_NAMES
from geoxai.attribution.lrp.rules import Epsilon
from tests.attribution.networks import NETWORKS, ConvNet, Mlp, Residual, UNet, inputs, seeded

PRESETS = [p for p in PRESET_NAMES if p not in ("pass", "z_box")]


def gap(result):
    """Largest difference of the account, relative to max(|f|, sum |R|)."""
    relevance = result.relevance.to(torch.float64).flatten(1)
    missing = result.target_value - relevance.sum(1) - result.bias - result.stabiliser - result.lost
    return float((missing.abs() / torch.maximum(result.target_value.abs(), relevance.abs().sum(1))).max())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("policy", ["absorb", "ignore", "distribute"])
def test_account_closes_in_float64(name, policy):
    make, shape, target = NETWORKS[name]
    network, x = seeded(make()), inputs(*shape)
    for preset in PRESETS:
        assert gap(attribute(network, x, rules=preset, target=target, bias=policy)) < 1e-10, preset


@pytest.mark.parametrize("name", NETWORKS)
def test_account_closes_in_float32(name):
    make, shape, target = NETWORKS[name]
    network, x = seeded(make(), dtype=torch.float32), inputs(*shape, dtype=torch.float32)
    for preset in PRESETS:
        assert gap(attribute(network, x, rules=preset, target=target)) < 1e-5, preset


@pytest.mark.parametrize("make", [Mlp, Residual, ConvNet])
def test_relevance_is_conserved_without_bias(make):
    shape = next(s for m, s, _ in NETWORKS.values() if m is make)
    network, x = seeded(make()), inputs(*shape)
    for preset in ("zero", Epsilon(eps=1e-9, bias="ignore")):
        options = {"bias": "ignore"} if isinstance(preset, str) else {}
        got = attribute(network, x, rules=preset, **options)
        total = got.relevance.flatten(1).sum(1) + got.lost
        torch.testing.assert_close(total, got.target_value, rtol=1e-4, atol=0)
        assert not got.bias.any()


@pytest.mark.parametrize("preset", ["alpha1_beta0", "deep_taylor", "z_plus", "epsilon_plus_flat"])
def test_maps_of_positive_evidence_are_nonnegative(preset):
    network, x = seeded(Residual()), inputs(6, 2, 8, 8)
    got = attribute(network, x, rules=preset)
    assert bool((got.target_value > 0).all())
    if preset != "epsilon_plus_flat":  # epsilon in the dense layer gives both signs
        assert float(got.relevance.min()) >= 0


@pytest.mark.parametrize("make", [lambda: Mlp(bias=False)])
def test_lrp_zero_is_gradient_x_input_without_bias(make):
    network, x = seeded(make()), inputs(5, 3, 2, 2)
    for target in ("predicted", 1):
        lrp = attribute(network, x, rules="zero", target=target)
        gradient = attribute(network, x, method="gradient_x_input", target=target)
        torch.testing.assert_close(lrp.relevance, gradient.relevance, rtol=1e-9, atol=1e-12)
        assert lrp.account == "closed"
        assert gradient.account == "none"
        assert gradient.bias is None


def test_lrp_zero_is_gradient_x_input_also_with_bias_skips_and_pools():
    """With the bias in the denominator LRP-0 is gradient x input on every ReLU net (science notes, trap 4)."""
    for network, shape, target in ((ConvNet(), (3, 2, 8, 8), "predicted"), (Residual(), (3, 2, 8, 8), 2)):
        network, x = seeded(network), inputs(*shape)
        lrp = attribute(network, x, rules="zero", target=target)
        gradient = attribute(network, x, method="gradient_x_input", target=target)
        torch.testing.assert_close(lrp.relevance, gradient.relevance, rtol=1e-6, atol=1e-9)


def test_squared_gradient_sums_to_the_squared_norm():
    network, x = seeded(Mlp()), inputs(4, 3, 2, 2)
    gradient = attribute(network, x, method="gradient", target=0).relevance
    squared = attribute(network, x, method="gradient_squared", target=0).relevance
    torch.testing.assert_close(squared.flatten(1).sum(1), gradient.flatten(1).norm(dim=1) ** 2)


def test_gradient_equals_finite_differences():
    network, x = seeded(UNet()), inputs(2, 3, 8, 8)
    weights = np.zeros((1, 8, 8))
    weights[0, 2:5, 3:6] = 0.5
    got = attribute(network, x, method="gradient", target=weights).relevance
    direction = inputs(2, 3, 8, 8, seed=5)
    with torch.no_grad():
        ends = [(network(x + h * direction) * torch.as_tensor(weights)).flatten(1).sum(1) for h in (1e-6, -1e-6)]
    torch.testing.assert_close((got * direction).flatten(1).sum(1), (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    preset=st.sampled_from(PRESETS),
    policy=st.sampled_from(["absorb", "ignore", "distribute"]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_account_closes_on_any_convolutional_net(data, widths, preset, policy, bias, seed):
    layers, channels = [], 2
    for width in widths:
        kernel = data.draw(st.integers(1, 3))
        options = {"padding": kernel // 2, "dilation": data.draw(st.integers(1, 2)), "bias": bias}
        layers += [
            nn.Conv2d(channels, width, kernel, **options),
            data.draw(st.sampled_from([nn.ReLU(), nn.Tanh(), nn.ELU()])),
        ]
        channels = width
    network = seeded(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)), seed)
    got = attribute(network, inputs(2, 2, 9, 9, seed=seed), rules=preset, target=1, bias=policy)
    scale = torch.maximum(got.target_value.abs(), got.relevance.flatten(1).abs().sum(1))
    rest = got.target_value - got.relevance.flatten(1).sum(1) - got.bias - got.stabiliser - got.lost
    taken = torch.maximum(scale, got.bias.abs() + got.lost.abs())
    assert bool((rest.abs() <= 1e-9 * taken).all())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.1, 10))
def test_relevance_of_weighted_targets_is_linear_in_the_weights(seed, factor):
    network, x = seeded(UNet(), seed), inputs(1, 3, 8, 8, seed=seed)
    first, second = inputs(2, 1, 8, 8, seed=seed + 1).numpy()
    got = attribute(network, x, target=[first, second, first + factor * second]).relevance
    scale = float(got.abs().max())
    torch.testing.assert_close(got[2], got[0] + factor * got[1], rtol=0, atol=1e-10 * scale * 10)


def test_an_account_that_does_not_close_is_reported(monkeypatch, caplog):
    """A rule that went wrong in silence must not stay silent."""
    network = seeded(Mlp(), dtype=torch.float32)
    x = xr.DataArray(np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32), dims=("sample", "cell"))
    explaining.explain(network, x, rules="epsilon", target=0)
    assert "does not close" not in caplog.text

    def wrong(*args, **kwargs):
        found = attribute(*args, **kwargs)
        return replace(found, relevance=tuple(2 * relevance for relevance in found.relevance))

    monkeypatch.setattr(explaining, "attribute", wrong)
    explaining.explain(network, x, rules="epsilon", target=0)
    assert "the account of 3 of 3 explained values does not close" in caplog.text
