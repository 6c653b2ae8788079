"""The check of every node finds the one that errs, and names it."""

import pytest
import torch
from torch import nn

from geoxai.attribution import attribute
from geoxai.attribution.lrp.arithmetic import Crossing
from geoxai.attribution.lrp.checking import CHECK_NODES
from geoxai.attribution.lrp.nodes import DerivativeNode, MapNode, PassNode
from geoxai.errors import GeoxaiError
from tests.attribution.networks import inputs


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(2, 3, 3)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.body(x).relu().flatten(1))


def erring(factor):
    """A node's way back that makes or loses relevance, of the second sample alone."""

    def wrap(backward):
        def wrong(self, relevances, rule, ledger):
            given = backward(self, relevances, rule, ledger)
            return [None if r is None else torch.cat([r[:1], r[1:] * factor]) for r in given]

        return wrong

    return wrap


@pytest.mark.parametrize(
    ("node", "named"),
    [(PassNode, "relu at the network itself"), (DerivativeNode, "flatten at"), (MapNode, "linear at head")],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_node_that_errs_is_named(monkeypatch, node, named, dtype):
    """By a thousandth, in one sample; without the check nothing is noticed here."""
    model, x = Two().to(dtype).eval(), inputs(2, 2, 4, 4).to(dtype)
    monkeypatch.setattr(node, "backward", erring(1.001)(node.backward))
    with pytest.raises(GeoxaiError, match=f"not conserved at {named}.*sample 1: "):
        attribute(model, x, rules="epsilon", target=0)
    monkeypatch.setenv(CHECK_NODES, "0")
    attribute(model, x, rules="epsilon", target=0)


def test_errors_that_cancel_are_found(monkeypatch):
    """Two nodes that err in opposite ways leave the account of the network closed."""
    model, x = Two().double().eval(), inputs(2, 2, 4, 4)
    right = attribute(model, x, rules="alpha1_beta0", target=0)
    monkeypatch.setattr(PassNode, "backward", erring(0.5)(PassNode.backward))
    monkeypatch.setattr(DerivativeNode, "backward", erring(2.0)(DerivativeNode.backward))
    with pytest.raises(GeoxaiError, match="not conserved at flatten"):
        attribute(model, x, rules="alpha1_beta0", target=0)
    monkeypatch.setenv(CHECK_NODES, "")
    assert torch.allclose(attribute(model, x, rules="alpha1_beta0", target=0).relevance, right.relevance)


def test_a_share_that_is_entered_twice_is_found(monkeypatch):
    """The bias of a layer, absorbed and given on as well."""
    model, x = Two().double().eval(), inputs(2, 2, 4, 4)
    monkeypatch.setattr(Crossing, "shares", lambda self, signs, s, gamma=None, room=None: 2 * self.map.share(s, self.a))
    with pytest.raises(GeoxaiError, match="not conserved at linear at head"):
        attribute(model, x, rules="z_plus", target=0)


@pytest.mark.parametrize("rules", ["zero", "epsilon", "alpha1_beta0", "epsilon_plus"])
def test_little_relevance_after_much_was_entered_is_no_fault(rules):
    """What comes to the account of a thousand has its rounding, however little that is given on."""
    model, x = Two().double().eval(), inputs(2, 2, 4, 4)
    with torch.no_grad():
        model.head.weight *= 1e-18
        model.head.bias.fill_(1000.0)
    found = attribute(model, x, rules=rules, target=0, start="output", score="logit")
    torch.testing.assert_close(found.bias + found.lost + found.relevance.flatten(1).sum(1), found.target_value)
