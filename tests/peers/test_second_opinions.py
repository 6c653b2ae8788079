"""Other LRP libraries agree where they are right: on single layers, in float64, with the same stabiliser.

Where they deviate by design is in ``zennit``'s, ``captum``'s and ``autolrp``'s own choices: stabilisers in every rule,
z+ of positive inputs only, a split of the bias before the rule, equal shares in average pooling.
"""

import pytest
import torch
import torch.nn as nn

from geoxai.attribution import attribute
from geoxai.attribution.lrp.rules import AlphaBeta, Epsilon, Gamma, WSquare, ZBox, ZPlus

LAYERS = {
    "linear": (lambda bias: nn.Linear(7, 4, bias=bias), (7,)),
    "conv1d": (lambda bias: nn.Conv1d(2, 3, 3, stride=2, padding=1, bias=bias), (2, 9)),
    "conv2d": (lambda bias: nn.Conv2d(2, 3, 3, padding=1, bias=bias), (2, 5, 6)),
    "conv3d": (lambda bias: nn.Conv3d(2, 2, 2, bias=bias), (2, 3, 4, 3)),
    "transposed": (lambda bias: nn.ConvTranspose2d(2, 3, 2, stride=2, bias=bias), (2, 3, 3)),
}


def layer_and_input(name, bias=True):
    torch.manual_seed(len(name))
    make, shape = LAYERS[name]
    return make(bias).double().eval(), torch.randn(3, *shape, dtype=torch.float64)


def ours(network, x, rule):
    with torch.no_grad():
        target = torch.ones(network(x).shape[1:])
    return attribute(network, x, rules=rule, target=target).relevance


def close(got, wanted, tolerance=1e-8):
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", ["epsilon", "epsilon 0.25", "alpha1_beta0", "alpha2_beta1", "z_plus", "gamma"])
def test_zennit(name, rule):
    rules = pytest.importorskip("zennit.rules", reason="zennit is not installed (make peers)")
    from zennit.composites import LayerMapComposite

    tiny = {"stabilizer": 1e-12}
    mine, theirs = {
        "epsilon": (Epsilon(eps=1e-6), rules.Epsilon(1e-6)),
        "epsilon 0.25": (Epsilon(eps=0.25), rules.Epsilon(0.25)),
        "alpha1_beta0": (AlphaBeta(alpha=1, beta=0), rules.AlphaBeta(1, 0, **tiny)),
        "alpha2_beta1": (AlphaBeta(alpha=2, beta=1), rules.AlphaBeta(2, 1, **tiny)),
        "z_plus": (ZPlus(), rules.ZPlus(**tiny)),
        "gamma": (Gamma(gamma=0.25), rules.Gamma(0.25, **tiny)),
    }[rule]
    network, x = layer_and_input(name)
    leaf = x.clone().requires_grad_()
    with LayerMapComposite([(type(network), theirs)]).context(network) as hooked:
        output = hooked(leaf)
        wanted = torch.autograd.grad(output, leaf, output.detach())[0]
    close(ours(network, x, mine), wanted, 1e-7)


@pytest.mark.parametrize("rule", ["z_box", "w_square"])
def test_zennit_first_layer_rules(rule):
    """Without bias: zennit squares it in w2."""
    rules = pytest.importorskip("zennit.rules", reason="zennit is not installed (make peers)")
    from zennit.composites import LayerMapComposite

    network, x = layer_and_input("conv2d", bias=False)
    low, high = -5.0, 6.0
    mine, theirs = {
        "z_box": (ZBox(low=low, high=high), rules.ZBox(low, high, stabilizer=1e-12)),
        "w_square": (WSquare(), rules.WSquare(stabilizer=1e-12)),
    }[rule]
    leaf = x.clone().requires_grad_()
    with LayerMapComposite([(type(network), theirs)]).context(network) as hooked:
        output = hooked(leaf)
        wanted = torch.autograd.grad(output, leaf, output.detach())[0]
    close(ours(network, x, mine), wanted, 1e-7)


@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
def test_captum(rule):
    """Its gamma is Montavon's: the same for inputs >= 0 and outputs > 0, without bias."""
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra peers)")
    from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=rule == "epsilon"), nn.ReLU()).double().eval()
    x = torch.rand(2, 2, 5, 5, dtype=torch.float64)

    network[0].rule = EpsilonRule(1e-6) if rule == "epsilon" else GammaRule(0.25)
    wanted = attr.LRP(network).attribute(x.clone(), target=(1, 2, 2)).detach()
    mine = Epsilon(eps=1e-6) if rule == "epsilon" else Gamma(gamma=0.25)
    close(attribute(network, x, rules=mine, target=(1, 2, 2)).relevance, wanted, 1e-5)


@pytest.mark.parametrize("rule", ["epsilon", "z_plus", "alpha2_beta1", "gamma"])
def test_autolrp(rule):
    """Biases 0, one output; it starts at 1, so its map times the output is ours."""
    autolrp = pytest.importorskip("autolrp", reason="autolrp is not installed (extra peers)")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(75, 2, bias=False)
    )
    network = network.double().eval()
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    theirs = {
        "epsilon": "epsilon",
        "z_plus": "zplus",
        "alpha2_beta1": ("alpha_beta", {"alpha": 2.0, "beta": 1.0}),
        "gamma": ("gamma", {"gamma": 0.25}),
    }[rule]
    mine = {
        "epsilon": Epsilon(eps=1e-11),
        "z_plus": ZPlus(),
        "alpha2_beta1": AlphaBeta(alpha=2, beta=1),
        "gamma": Gamma(gamma=0.25),
    }[rule]
    table = {**autolrp.BASE, "ConvolutionBackward": theirs, "AddmmBackward": theirs, "MmBackward": theirs}
    leaf = autolrp.tensor(x)
    output = network(leaf)
    output[0, 1].lrp(config=autolrp.LRPConfig(rule=table))
    wanted = torch.as_tensor(leaf.relevance).as_subclass(torch.Tensor) * network(x)[0, 1].detach()
    close(attribute(network, x, rules=mine, target=1).relevance, wanted, 1e-6)


@pytest.mark.parametrize("rules", ["attnlrp", "epsilon"])
def test_autolrp_on_attention(rules):
    """Its ATTNLRP is preset attnlrp, its CPLRP what other presets do: attention weights are gates."""
    autolrp = pytest.importorskip("autolrp", reason="autolrp is not installed (extra peers)")
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(8, 8, generator=generator, dtype=torch.float64) / 8**0.5 for _ in range(3)]
    x = torch.randn(1, 5, 8, generator=generator, dtype=torch.float64)

    def attention(x):
        q, k, v = (x @ w for w in weights)
        return torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)) * 8**-0.5, -1), v)

    leaf = autolrp.tensor(x)
    theirs = autolrp.ATTNLRP if rules == "attnlrp" else autolrp.CPLRP
    attention(leaf)[0, 2, 3].lrp(config=autolrp.LRPConfig(rule={**autolrp.BASE, **theirs}))
    wanted = torch.as_tensor(leaf.relevance).as_subclass(torch.Tensor) * attention(x)[0, 2, 3]
    close(attribute(attention, x, rules=rules, eps=1e-11, target=(2, 3)).relevance, wanted, 1e-7)
