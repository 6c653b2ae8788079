"""Batch norm in eval: a map of its own, let through, or one map with the layer before it."""

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from geoxai.attribution import attribute, rule_table
from geoxai.attribution.lrp import parse_rules
from geoxai.errors import OptionError
from tests.attribution.networks import ConvNet, Residual, inputs, seeded
from tests.attribution.test_account import gap
from tests.attribution.test_untouched import same as unchanged
from tests.attribution.test_untouched import snapshot


class Wide(nn.Module):
    """Norms after a transposed convolution with groups, a strided one whose own result is used too, a dense layer."""

    def __init__(self):
        super().__init__()
        self.up, self.norm1 = nn.ConvTranspose2d(2, 4, 2, stride=2, groups=2, bias=False), nn.BatchNorm2d(4)
        self.down, self.norm2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, padding_mode="circular"), nn.BatchNorm2d(6)
        self.dense, self.norm3 = nn.Linear(6, 5), nn.BatchNorm1d(5)
        self.head = nn.Linear(11, 3)

    def forward(self, x):
        return self.run(x, lambda x: self.norm1(self.up(x)), lambda x: self.norm2(self.down(x)),
                        lambda x: self.norm3(self.dense(x)))  # fmt: skip

    def run(self, x, up, down, dense):
        x = F.relu(up(x), inplace=True)
        deep = torch.tanh(dense(F.relu(down(x)).mean((2, 3))))
        return self.head(torch.cat([deep, self.down(x).amax((2, 3))], 1))


def merged_wide(network):
    up, norm = network.up, network.norm1
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = (up.weight.unflatten(0, (2, 1)) * scale.reshape(2, 1, 2, 1, 1)).flatten(0, 1).detach()
    bias = (norm.bias - norm.running_mean * scale).detach()
    down, dense = fuse_conv_bn_eval(network.down, network.norm2), fuse_linear_bn_eval(network.dense, network.norm3)
    return lambda x: network.run(x, lambda x: F.conv_transpose2d(x, weight, bias, 2, groups=2), down, dense)


def merged_residual(network):
    network = copy.deepcopy(network)
    network.stem, network.norm = fuse_conv_bn_eval(network.stem, network.norm), nn.Identity()
    return network.eval()


def merged_conv_net(network):
    network = copy.deepcopy(network)
    for place in (0, 4):
        network.features[place] = fuse_conv_bn_eval(*network.features[place : place + 2])
        network.features[place + 1] = nn.Identity()
    return network.eval()


NETWORKS = {"wide": (Wide, merged_wide, (3, 2, 4, 4)), "residual": (Residual, merged_residual, (3, 2, 8, 8)),
            "conv net": (ConvNet, merged_conv_net, (3, 2, 8, 8))}  # fmt: skip


@pytest.mark.parametrize("policy", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("name", NETWORKS)
def test_folded_is_the_network_with_merged_weights(name, policy):
    make, merged, shape = NETWORKS[name]
    network, x = seeded(make()), inputs(*shape)
    wanted = merged(network)
    before = snapshot(network, x)
    for preset in ("zero", "epsilon", "gamma", "alpha2_beta1", "z_plus", "w_square", "epsilon_plus_flat"):
        a = attribute(network, x, rules=preset, target=1, norm="fold", bias=policy)
        b = attribute(wanted, x, rules=preset, target=1, bias=policy)
        scale = float(b.relevance.abs().max())
        torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-10, atol=1e-10 * scale, msg=preset)
        for term in ("bias", "stabiliser", "lost"):
            torch.testing.assert_close(getattr(a, term), getattr(b, term), rtol=1e-9, atol=1e-10 * scale, msg=preset)
        assert gap(a) < 1e-10
    unchanged(before, snapshot(network, x))


def test_a_map_of_its_own_differs_from_folded_where_signs_are_distinguished():
    network, x = seeded(ConvNet()), inputs(3, 2, 8, 8)
    same, other = (
        [attribute(network, x, rules=rule, target=1, **norm).relevance for norm in ({}, {"norm": "fold"})]
        for rule in ("zero", "alpha2_beta1")
    )
    torch.testing.assert_close(*same, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(*other, rtol=1e-2)


@pytest.mark.parametrize("rules", ["pass preset", "pass line"])
def test_pass_lets_relevance_through(rules):
    norm = seeded(nn.BatchNorm2d(2))
    lines = [{"match": "norm", "rule": "pass"}, {"match": "all", "rule": "epsilon"}]
    spec = ("epsilon", {"norm": "pass"}) if rules == "pass preset" else (lines, {})
    x, weights = inputs(2, 2, 3, 3), inputs(2, 3, 3, seed=1)
    got = attribute(norm, x, rules=spec[0], target=weights, **spec[1])
    torch.testing.assert_close(got.relevance, norm(x).detach() * weights)
    assert not got.bias.any()
    for make in (ConvNet, Residual):
        network, x = seeded(make()), inputs(3, 2, 8, 8)
        got = attribute(network, x, rules=spec[0], **spec[1])
        assert gap(got) < 1e-10
        assert {row.rule for row in got.table if row.op == "batch_norm"} == {"pass(bias=absorb)"}
        assert {row.why for row in got.table if row.op == "batch_norm"} <= {
            "match norm of epsilon",
            "match norm of custom",
        }


def test_a_line_can_stand_for_the_lines_of_a_preset():
    network, x = seeded(ConvNet()), inputs(3, 2, 8, 8)
    lines = [{"match": "norm", "rule": "fold"}, {"preset": "epsilon_plus", "bias": "ignore"}]
    got = attribute(network, x, rules=lines, target=1)
    wanted = attribute(network, x, rules="epsilon_plus", norm="fold", bias="ignore", target=1)
    torch.testing.assert_close(got.relevance, wanted.relevance, rtol=0, atol=0)
    with pytest.raises(OptionError, match=r"line 2 of rules: .*did you mean 'epsilon_plus'") as caught:
        parse_rules([lines[0], {"preset": "epsilon_pluss"}])
    assert caught.value.option == "rules.1.preset"
    with pytest.raises(OptionError, match="did you mean 'eps'"):
        parse_rules([{"preset": "epsilon", "epps": 1}])


def test_what_cannot_be_folded_is_answered():
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    network, x = seeded(nn.Sequential(layers, nn.Flatten())), inputs(2, 2, 3, 3)
    with pytest.raises(OptionError, match=r"rule 'fold' does not apply to batch_norm at 0\.2") as caught:
        attribute(network, x, target=0, rules="epsilon", norm="fold")
    assert caught.value.fix
    lines = [{"match": "norm", "path": "0.4", "rule": "fold"}, {"match": "all", "rule": "epsilon"}]
    ops = [(row.op, row.path) for row in rule_table(network, x, lines)]
    assert ("batch_norm", "0.2") in ops
    assert ("batch_norm", "0.4") not in ops
    assert ("conv2d", "0.3 > 0.4") in ops
    zero = [{"match": "conv", "path": "0.3", "rule": "zero"}, *lines]
    why = {row.path: row.why for row in rule_table(network, x, zero)}
    assert why["0.3 > 0.4"] == "match conv, path 0.3 of custom"
    at = attribute(network, x, rules=zero, target=0, layers=["0.4"]).layers["0.4"]
    torch.testing.assert_close(at.flatten(1).sum(1), attribute(network, x, rules=zero, target=0).target_value)
    with pytest.raises(OptionError, match="does not apply to layer_norm"):
        attribute(nn.LayerNorm(3).double().eval(), inputs(2, 3), target=0, rules="epsilon", norm="fold")
    with pytest.raises(OptionError, match="did you mean 'fold'"):
        parse_rules("epsilon", norm="fould")
