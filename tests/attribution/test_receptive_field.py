"""The receptive field: the numbers of the published layer lists, and the support of the gradient."""

import pytest
import torch
from torch import nn

import geoxai
from geoxai.errors import GeoxaiError, OptionError
from tests.attribution.networks import Mlp, UNet, inputs


def network(text, pool=nn.MaxPool2d):
    """Layers by letter: C3 a convolution of 3, P2 a pool, U2 nearest copies."""
    layers = []
    for word in text.split():
        kind, size = word[0], int(word[1:])
        if kind == "C":
            layers.append(nn.Conv2d(1, 1, size, padding="same"))
        else:
            layers.append(pool(size) if kind == "P" else nn.Upsample(scale_factor=size))
    return nn.Sequential(*layers)


GREMLIN = "C3 P2 C3 P2 C3 P2 C3 U2 C3 U2 C3 U2 C1"


def test_gremlin_layer_by_layer():
    field = geoxai.receptive_field(network(GREMLIN), (1, 1, 256, 256))
    assert [layer.nominal[2] for layer in field.layers] == [3, 4, 8, 10, 18, 22, 38, 38, 46, 46, 50, 50, 50]
    exact = [(3,), (4,), (8,), (10,), (18,), (22,), (38,), (38,), (46,), (46,), (46, 54), (46, 54), (46, 54)]
    assert [layer.exact[3] for layer in field.layers] == exact
    assert [layer.path for layer in field.layers] == [str(i) for i in range(13)]
    assert field.axes[2].nominal == 50
    assert field.axes[2].exact == (46, 54)
    assert field.axes[2].whole is None
    assert field.axes[1].whole.startswith("conv2d at 0")


@pytest.mark.parametrize("text", ["C3 P2 C3 P2 C3 P2 C3 U2 C3 U2 U2 C3", "C3 P2 C3 P2 C3 P2 C3 U2 C3 U2 C2 U2"])
def test_lists_that_give_38_46_48(text):
    field = geoxai.receptive_field(network(text), (1, 1, 256, 256))
    nominal = [layer.nominal[2] for layer in field.layers]
    assert list(dict.fromkeys(nominal))[-3:] == [38, 46, 48]


@pytest.mark.parametrize(("blocks", "size"), [(1, 8), (2, 22), (3, 50)])
def test_encoder_blocks(blocks, size):
    text = "C3 P2 " * blocks + "C3 U2 " * blocks
    assert geoxai.receptive_field(network(text), (1, 1, 64, 64)).axes[2].nominal == size


def test_exact_sizes_are_the_support_of_the_gradient():
    net = network(GREMLIN, nn.AvgPool2d).double()  # a mean has a gradient everywhere, a maximum at its winner only
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    sizes = set()
    for column in range(60, 68):
        x = inputs(1, 1, 128, 128).requires_grad_()
        net(x)[0, 0, 64, column].backward()
        columns = x.grad[0, 0].abs().sum(0).nonzero()
        sizes.add(int(columns.max() - columns.min() + 1))
    assert tuple(sorted(sizes)) == geoxai.receptive_field(net, (1, 1, 128, 128)).axes[3].exact


def test_a_dense_layer_sees_everything_and_earlier_layers_are_reported():
    net = nn.Sequential(network("C3 P2 C3"), nn.Flatten(), nn.Linear(64, 2))
    field = geoxai.receptive_field(net, (1, 1, 16, 16))
    assert field.axes[3].exact == (16,)
    assert field.axes[3].whole.startswith("flatten at 1")
    assert field.layers[2].nominal == {2: 8.0, 3: 8.0}
    assert geoxai.receptive_field(Mlp(), (1, 3, 2, 2)).axes[3].size == 2


def test_branches_take_the_longer_one():
    field = geoxai.receptive_field(UNet(), (1, 3, 64, 64))
    assert field.axes[2].nominal == max(layer.nominal[2] for layer in field.layers)


def test_what_cannot_be_followed_is_refused():
    with pytest.raises(OptionError, match="cannot be followed on an input of shape"):
        geoxai.receptive_field(network("C3"), (1, 5, 8, 8))
    with pytest.raises(OptionError, match="sample axis"):
        geoxai.receptive_field(network("C3"), (8, 8))

    class Chosen(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) if x.mean() > 0 else x

    with pytest.raises((OptionError, GeoxaiError), match="cannot be"):
        geoxai.receptive_field(Chosen(1, 1, 3), (1, 1, 8, 8))
    assert not any(p.is_meta for p in torch.nn.Linear(1, 1).parameters())
