"""Maps of whole networks against gradient x input with gates detached, which no line of the engine is used for."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.attribution.detached import check
from tests.attribution.networks import NETWORKS, inputs, seeded


class Tokens(nn.Module):
    """A transformer's block on patches: attention, layer norm, GELU."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(2, 8, 2, stride=2)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x).flatten(2).mT).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers, self.head = kind(3, 6, num_layers=2, batch_first=True, bidirectional=True), nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.layers(x)[0][:, -1])


class Gated(nn.Module):
    """Squeeze and excitation, SiLU, group and instance norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.GroupNorm(2, 6)
        self.gate, self.other = nn.Conv2d(6, 6, 1), nn.InstanceNorm2d(6, affine=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = F.silu(self.norm(self.conv(x)))
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        return self.head(self.other(x).amax((2, 3)))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_field(name):
    make, shape, target = NETWORKS[name]
    check(seeded(make()), inputs(*shape), 0 if target == "predicted" else target)


@pytest.mark.parametrize(
    ("network", "shape"),
    [(Tokens, (3, 2, 6, 6)), (lambda: Recurrent(nn.LSTM), (3, 5, 3)), (lambda: Recurrent(nn.GRU), (3, 5, 3)),
     (Gated, (3, 2, 6, 6))],
    ids=["attention", "lstm", "gru", "gates"],
)  # fmt: skip
def test_gated_networks(network, shape):
    check(seeded(network()), inputs(*shape))
