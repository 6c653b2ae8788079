"""Rules work block by block of samples on large tensors; the maps must not tell."""

import pytest
import torch
from torch import nn

from geoxai.attribution import attribute
from geoxai.attribution.lrp import arithmetic, convolution, dense, maps
from geoxai.errors import OptionError


class Skip(nn.Module):
    """Mixed signs, norms, sums, concatenation and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.norm, self.up = nn.BatchNorm2d(3).eval(), nn.ConvTranspose2d(3, 3, 2, stride=2)
        self.last, self.dense = nn.Conv2d(6, 4, 1), nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        nn.init.constant_(self.second.bias, 0.2)  # no denominator is 0: relevance is divided where it is

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.first(x)))
        y = y + self.second(torch.tanh(y - 0.5))
        y = torch.cat([self.up(nn.functional.avg_pool2d(y, 2)), y], 1)
        return self.dense(torch.relu(self.last(y)).amax((2, 3)))


@pytest.mark.parametrize("bias", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("rules", ["zero", "epsilon", "gamma", "alpha1_beta0", "alpha2_beta1", "flat", "w_square"])
def test_blocks_of_samples_give_the_maps_of_all_at_once(rules: str, bias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network, x = Skip().double().eval(), torch.randn(5, 2, 6, 8, dtype=torch.float64)
    options = {} if rules in ("flat", "w_square") else {"bias": bias}
    whole = attribute(network, x, rules=rules, target=1, **options)
    monkeypatch.setattr(arithmetic, "BLOCK", 2 * 3 * 6 * 8 // torch.get_num_threads())
    monkeypatch.setattr(convolution, "FAST_FROM", 0)
    monkeypatch.setattr(maps, "LARGE", 1)
    monkeypatch.setattr(dense, "KEPT", 8)
    pieces = attribute(network, x, rules=rules, target=1, **options)
    scale = float(whole.relevance.abs().max())
    torch.testing.assert_close(pieces.relevance, whole.relevance, rtol=1e-12, atol=1e-12 * scale)
    for term in ("bias", "stabiliser", "lost"):
        torch.testing.assert_close(getattr(pieces, term), getattr(whole, term), rtol=1e-10, atol=1e-10 * scale)


def test_dense_sums_by_sign_that_cancel_are_computed_apart() -> None:
    """One tiny positive contribution among large negative ones: half of (sum + magnitudes) has no digit of it."""
    network = nn.Linear(3, 1).eval()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 1.0, 1.0]]))
        network.bias.fill_(0.0)
    x = torch.tensor([[1e-4, -3.0, -5.0]])
    found = attribute(network, x, rules="alpha2_beta1", target=0)
    value = float(x.double().sum())
    expected = torch.tensor([[2 * value, -(value * 3 / 8), -(value * 5 / 8)]])
    torch.testing.assert_close(found.relevance, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("bias", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("rules", ["zero", "epsilon", "gamma", "alpha1_beta0", "alpha2_beta1"])
def test_outputs_kept_as_a_relu_left_them_give_the_same_maps(rules: str, bias: str, dense: bool) -> None:
    """The engine knows less of what a clamp does, and keeps the sums before it as they are."""
    torch.manual_seed(5)
    layer = nn.Linear(3, 40) if dense else nn.Conv2d(2, 20, 3)
    last, x = nn.LazyLinear(2), torch.randn(30, *((3,) if dense else (2, 4, 4)), dtype=torch.float64)
    with torch.no_grad():
        layer.bias.mul_(5)  # of either sign: often it alone decides the sign of the sum

    def network(activation: nn.Module) -> nn.Module:
        return nn.Sequential(layer, activation, nn.Flatten(), last).double().eval()

    network(nn.ReLU())(x)
    rectified = attribute(network(nn.ReLU()), x, rules=rules, bias=bias, target=1)
    plain = attribute(network(nn.Hardtanh(0, 1e9)), x, rules=rules, bias=bias, target=1)
    scale = float(plain.relevance.abs().max())
    torch.testing.assert_close(rectified.relevance, plain.relevance, rtol=1e-9, atol=1e-11 * scale)
    torch.testing.assert_close(rectified.lost, plain.lost, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize("rules", ["epsilon", "gamma", "alpha1_beta0", "alpha2_beta1"])
def test_products_in_bfloat16_change_little_and_say_so(rules: str) -> None:
    torch.manual_seed(7)
    network, x = Skip().eval(), torch.randn(4, 2, 16, 16)
    full = attribute(network, x, rules=rules, target=1)
    short = attribute(network, x, rules=rules, target=1, precision="bfloat16")
    off = float((short.relevance - full.relevance).abs().max() / full.relevance.abs().max())
    assert 0 < off < 0.03
    assert (full.account, short.account) == ("closed", "approximate")
    gap = short.target_value - short.relevance.flatten(1).sum(1, dtype=torch.float64) - short.bias
    size = torch.maximum(short.relevance.abs().flatten(1).sum(1, dtype=torch.float64), short.target_value.abs())
    gap = (gap - short.stabiliser - short.lost).abs() / size
    stated = float(short.notes[-1].rpartition(" ")[2])
    assert float(gap.max()) == pytest.approx(stated, rel=0.06)  # two digits are stated
    torch.testing.assert_close(short.target_value, full.target_value, rtol=0, atol=0)


def test_a_shorter_type_is_for_lrp() -> None:
    x = torch.randn(2, 2, 4, 4)
    with pytest.raises(OptionError, match="'bfloat16' is for method lrp, found 'gradient'"):
        attribute(nn.Flatten().eval(), x, method="gradient", target=1, precision="bfloat16")
    with pytest.raises(OptionError, match="float16"):
        attribute(nn.Flatten().eval(), x, target=1, precision="float16")
