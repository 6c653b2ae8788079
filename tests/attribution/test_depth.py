"""Relevance at layers on the way, and decomposition that stops at one."""

import pytest
import torch
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.errors import OptionError
from tests.attribution.networks import ConvNet, Mlp, UNet, inputs, seeded


def test_relevance_at_a_layer_is_that_of_the_rest_of_the_network():
    network, x = seeded(Mlp()), inputs(4, 3, 2, 2)
    result = attribute(network, x, target="predicted", rules="epsilon", layers=["2", "4"])
    with torch.no_grad():
        hidden = torch.nn.Sequential(*list(network)[:3])(x)
    rest = attribute(torch.nn.Sequential(*list(network)[3:]).eval(), hidden, target="predicted", rules="epsilon")
    torch.testing.assert_close(result.layers["2"], rest.relevance)
    assert result.layers["4"].shape == (4, 8)


def test_layers_of_several_targets_and_batches():
    network, x = seeded(UNet()), inputs(5, 3, 8, 8)
    targets = [(0, 1, 1), (0, 6, 2)]
    whole = attribute(network, x, target=targets, rules="epsilon", layers=["bottom", "merge2"])
    split = attribute(network, x, target=targets, rules="epsilon", layers=["bottom", "merge2"], batch_size=2)
    assert whole.layers["bottom"].shape == (2, 5, 8, 2, 2)
    torch.testing.assert_close(whole.layers["bottom"], split.layers["bottom"])
    alone = attribute(network, x, target=targets[1], rules="epsilon", layers=["merge2"])
    torch.testing.assert_close(alone.layers["merge2"], whole.layers["merge2"][1])


@pytest.mark.parametrize("layer", ["features.0", "features.4", "features.7"])
def test_flat_below_conserves_and_depends_on_the_layer_only(layer):
    """Sum of the map = sum at the layer; below it nothing of the inputs' values matters but the winners of pools."""
    network, x = seeded(ConvNet()), inputs(4, 2, 8, 8)
    result = attribute(network, x, rules="epsilon", layers=[layer], flat_below=layer)
    sums = result.relevance.flatten(1).sum(1)
    torch.testing.assert_close(sums, result.layers[layer].flatten(1).sum(1))
    rows = [row for row in result.table if row.why == f"below {layer}"]
    assert {row.rule for row in rows} == {"flat(bias=absorb)"}
    if layer == "features.0":
        relevance = result.layers[layer].sum(1, keepdim=True)
        counts = F.conv2d(torch.ones(1, 2, 8, 8).double(), torch.ones(1, 2, 3, 3).double(), padding=1)
        expected = F.conv_transpose2d(relevance / counts, torch.ones(1, 1, 3, 3).double(), padding=1)
        torch.testing.assert_close(result.relevance, expected.expand(-1, 2, -1, -1))


def test_layers_that_are_not_there():
    network, x = seeded(Mlp()), inputs(2, 3, 2, 2)
    for options in ({"layers": ["conv"]}, {"flat_below": "conv"}):
        with pytest.raises(OptionError, match="no layer of that name: unknown layer 'conv'"):
            attribute(network, x, rules="epsilon", **options)
    with pytest.raises(OptionError, match="list of module paths"):
        attribute(network, x, layers="2")
    with pytest.raises(OptionError, match="for method lrp"):
        attribute(network, x, method="gradient", layers=["2"])
    with pytest.raises(OptionError, match="unknown window 'always'"):
        attribute(network, x, window="always")
