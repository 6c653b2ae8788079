"""Outputs of layers that are picked, turned, or looked at on the side before they go on."""

import pytest
import torch
from torch import nn

from geoxai.attribution import attribute
from geoxai.attribution.lrp import arithmetic

NEIGHBOURS = torch.tensor([2, 0, 3, 1])


class Graph(nn.Module):
    """Each node hears of itself and, by ``pick``, of another one."""

    def __init__(self, pick):
        super().__init__()
        self.own, self.other, self.out = (nn.Linear(i, o, bias=False) for i, o in ((3, 4), (3, 4), (16, 2)))
        self.pick = pick

    def forward(self, x):
        return self.out(torch.relu(self.own(x) + self.pick(self.other(x))).flatten(1))


def seeded(network):
    torch.manual_seed(1)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -1, 1)
    return network.double().eval()


PICKS = {
    "by index": lambda y: y[:, NEIGHBOURS],
    "by list": lambda y: y[:, [2, 0, 3, 1]],
    "backwards": lambda y: y[:, torch.arange(3, -1, -1)],
    "features": lambda y: y[..., NEIGHBOURS],
    "places and features": lambda y: y[:, torch.arange(4)[:, None], torch.stack([NEIGHBOURS] * 4)],
    "a feature of its own for each place": lambda y: y.gather(
        2, (torch.arange(4)[:, None] + NEIGHBOURS) % 4 + 0 * y.long()
    ),
}


@pytest.mark.parametrize("name", PICKS)
def test_picked_outputs_of_a_layer_keep_their_places(name):
    """Under rule zero a bias-free ReLU network's relevance is gradient x input."""
    network, x = seeded(Graph(PICKS[name])), torch.randn(5, 4, 3, dtype=torch.float64)
    found = attribute(network, x, rules="zero", target=1)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(found.relevance, gradient * x, rtol=1e-9, atol=1e-12)
    rest = found.target_value - found.relevance.flatten(1).sum(1) - found.lost
    assert float(rest.abs().max()) < 1e-10


@pytest.mark.parametrize("rules", ["alpha1_beta0", "gamma", "epsilon"])
def test_picking_by_an_index_is_turning(rules):
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    one, other = (seeded(Graph(pick)) for pick in (PICKS["backwards"], lambda y: y.flip(1)))
    by_index, by_flip = (attribute(network, x, rules=rules, target=0) for network in (one, other))
    torch.testing.assert_close(by_index.relevance, by_flip.relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rules", ["zero", "epsilon", "gamma", "alpha2_beta1"])
@pytest.mark.parametrize("length", [5, 6])
def test_sequences_first_may_be_as_long_as_the_batch(rules, length, monkeypatch):
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(torch.relu(self.inner(x.transpose(0, 1))).mean(0))

    network, x = seeded(Sequence()), torch.randn(6, length, 3, dtype=torch.float64)
    whole = attribute(network, x, rules=rules, target=1)
    monkeypatch.setattr(arithmetic, "BLOCK", 1)
    blocks = attribute(network, x, rules=rules, target=1)
    torch.testing.assert_close(blocks.relevance, whole.relevance, rtol=1e-9, atol=1e-12)


class Side(nn.Module):
    """A last layer whose output, with ``looks``, is also rectified on the side."""

    def __init__(self, looks):
        super().__init__()
        self.first, self.last, self.looks = nn.Linear(5, 8), nn.Linear(8, 3), looks

    def forward(self, x):
        y = self.last(torch.relu(self.first(x)))
        if self.looks:
            torch.relu(y)
        return y


@pytest.mark.parametrize("rules", ["epsilon", "gamma", "alpha1_beta0"])
@pytest.mark.parametrize("asked", [{"target": 1, "reference": 0.1}, {"target": "predicted"}], ids=str)
def test_a_relu_on_the_side_changes_nothing(rules, asked):
    x = torch.randn(6, 5, dtype=torch.float64)
    plain, looked = (attribute(seeded(Side(looks)), x, rules=rules, **asked) for looks in (False, True))
    torch.testing.assert_close(looked.relevance, plain.relevance, rtol=1e-10, atol=1e-12)
    assert looked.notes == plain.notes


def test_inner_products_with_weights_of_three_axes():
    weight = torch.randn(3, 3, 4, dtype=torch.float64)

    class Inner(nn.Module):
        def forward(self, x):
            return torch.inner(x, weight).flatten(1)

    x = torch.randn(3, 4, dtype=torch.float64)
    found = attribute(Inner().eval(), x, rules="zero", target=4)
    torch.testing.assert_close(found.target_value, (x @ weight.reshape(9, 4).T)[:, 4])
    torch.testing.assert_close(found.relevance, x * weight.reshape(9, 4)[4])
