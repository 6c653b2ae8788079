"""A map may add up and say nothing: where most is lost, or far more is shared out than there is, a warning says so."""

import numpy as np
import pytest
import torch
import torch.nn as nn
import xarray as xr

from geoxai import explain
from tests.attribution.networks import Mlp, inputs, seeded


def negative_first_layer(act):
    """A network whose last layer sees values below 0 alone, with weights above 0: no positive contribution."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), act, nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        network[1].bias.fill_(-0.5)
        network[1].weight.mul_(0.1)
        network[3].weight.abs_()
    return network.eval()


def data(*shape, seed=0):
    x = inputs(*shape, seed=seed, dtype=torch.float32).numpy()
    return xr.DataArray(x, dims=("sample", *(f"axis{n}" for n in range(1, len(shape)))))


@pytest.mark.parametrize("act", [nn.GELU(), nn.SiLU()])
def test_loss_of_more_than_half_is_told_with_numbers_and_a_remedy(act, caplog):
    found = explain(negative_first_layer(act), data(5, 6), rules="alpha1_beta0", target=0, score="logit")
    share = abs(found["lost_relevance"] / found["target_value"])
    assert (share > 0.5).all()
    (told,) = [r.getMessage() for r in caplog.records if "lost" in r.getMessage()]
    assert f"lost in 5 of 5 (at worst {100 * float(share.max()):.3g} %)" in told
    assert "rules alpha1_beta0" in told
    assert "epsilon" in told


def exploding():
    """Many layers whose values have both signs, so that sums nearly cancel somewhere on every way back."""
    layers = [layer for _ in range(24) for layer in (nn.Linear(8, 8), nn.Tanh())]
    return seeded(nn.Sequential(*layers, nn.Linear(8, 2)), 3, torch.float32)


def test_maps_far_larger_than_the_value_are_told(caplog):
    found = explain(exploding(), data(4, 8), rules="epsilon_plus", target=0, score="logit")
    size = abs(found["relevance"]).sum("axis1", dtype="float64")
    np.testing.assert_allclose(found["absolute_relevance"], size, rtol=1e-5)
    times = size / abs(found["target_value"])
    assert (times > 100).any()
    (told,) = [r.getMessage() for r in caplog.records if "100 times" in r.getMessage()]
    assert f"{int((times > 100).sum())} of 4 (at worst {float(times.max()):.3g} times)" in told


def test_sound_maps_and_other_methods_are_not_warned_of(caplog):
    network = seeded(Mlp(), dtype=torch.float32)
    explain(network, data(4, 12), rules="epsilon", target="predicted")
    found = explain(exploding(), data(4, 8), method="gradient_x_input", target=0)
    assert "absolute_relevance" not in found
    assert not [r for r in caplog.records if "say little" in r.getMessage()]


def test_several_targets_are_counted_together(caplog):
    explain(negative_first_layer(nn.GELU()), data(5, 6), rules="alpha1_beta0", target=[0, 1], score="logit")
    assert "lost in 10 of 10" in caplog.text


def test_residual_blocks_with_layer_norms_that_lose_most_are_told(caplog):
    """A block as transformers have it, behind a layer that gives values below 0 alone."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = negative_first_layer(nn.SiLU())[:3]
            self.norm, self.inner = nn.LayerNorm(8), nn.Linear(8, 8)
            self.last = nn.Linear(8, 2, bias=False)
            with torch.no_grad():
                self.inner.weight.mul_(0.01)
                self.inner.bias.fill_(-0.2)
                self.last.weight.abs_()

        def forward(self, x):
            y = self.first(x)
            return self.last(y + self.inner(self.norm(y)))

    torch.manual_seed(0)
    explain(Block().eval(), data(5, 6), rules="alpha1_beta0", target=0, score="logit")
    assert "lost in 5 of 5" in caplog.text
