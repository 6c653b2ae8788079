"""Keras networks on torch: real ones explain and close, and twins in torch and the explicit loop give the same maps."""

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import geoxai
from geoxai.attribution import attribute, rule_table
from geoxai.attribution.lrp.rules import AlphaBeta
from geoxai.models.load import load_network
from tests.attribution.networks import inputs
from tests.attribution.oracle import dense_matrix, relevance
from tests.attribution.test_account import gap

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="keras runs on another backend here")
layers = keras.layers


def seeded(network):
    """The network with weights of a seed, batch norm statistics included."""
    generator = torch.Generator().manual_seed(1)
    for variable in network.weights:
        values = torch.randn(tuple(variable.shape), generator=generator, dtype=torch.float64)
        fan_in = max(int(np.prod(variable.shape[:-1])), 1)
        scale = (2 / fan_in) ** 0.5 if len(variable.shape) > 1 else 0.1
        variable.assign(values * scale + ("variance" in variable.path))
    return network.eval()


@pytest.fixture
def float64():
    """Keras in float64: its convolutions are, its matrix products still compute in float32."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def gremlin(width, size):
    """The layer list of GREMLIN (science notes 3c) at another width."""
    x = entry = layers.Input((size, size, 2))
    for _ in range(3):
        x = layers.MaxPooling2D()(layers.Conv2D(width, 3, padding="same", activation="relu")(x))
    for _ in range(3):
        x = layers.UpSampling2D()(layers.Conv2D(width, 3, padding="same", activation="relu")(x))
    return keras.Model(entry, layers.Conv2D(1, 1)(x))


class Twin(nn.Module):
    """The same in torch, channels first, with the weights of the Keras network."""

    def __init__(self, network):
        super().__init__()
        self.convs = nn.ModuleList()
        for layer in network.layers:
            if isinstance(layer, layers.Conv2D):
                kernel, bias = (v.value.detach() for v in layer.weights)
                conv = nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[0], padding=kernel.shape[0] // 2)
                conv.weight, conv.bias = nn.Parameter(kernel.permute(3, 2, 0, 1)), nn.Parameter(bias)
                self.convs.append(conv)

    def forward(self, x):
        for number, conv in enumerate(self.convs[:-1]):
            x = conv(x).relu()
            x = F.max_pool2d(x, 2) if number < 3 else F.interpolate(x, scale_factor=2)
        return self.convs[-1](x)


def loop(twin, x, target, rule):
    """Relevance of one sample by explicit sums, layer by layer, and that of the biases."""
    seen = []
    with torch.no_grad():
        for number, conv in enumerate(twin.convs):
            seen.append((conv, x, conv(x)))
            x = conv(x).relu()
            if number < 3:
                x, winners = F.max_pool2d(x, 2, return_indices=True)
                seen[-1] += (winners,)
            elif number < 6:
                x = F.interpolate(x, scale_factor=2)
    upper, account = torch.zeros_like(seen[-1][2]), np.zeros(3)
    upper[(0, *target)] = seen[-1][2][(0, *target)]
    for number, (conv, a, z, *winners) in reversed(list(enumerate(seen))):
        if winners:
            moved = torch.zeros_like(z)
            moved.flatten(2).scatter_(2, winners[0].flatten(2), upper.flatten(2))
            upper = moved
        elif number < 6:
            upper = F.avg_pool2d(upper, 2) * 4

        def linear(u, conv=conv):
            return F.conv2d(u, conv.weight, padding=conv.padding).detach()

        shape = a.shape[1:]
        matrix = dense_matrix(linear, shape)
        bias = conv.bias.detach()[:, None, None].expand(z.shape[1:]).numpy().ravel()
        active = upper.numpy().ravel() != 0  # the loop over neurons without relevance adds nothing
        lower, taken = relevance(
            a.numpy().ravel(), matrix[active], bias[active], rule, upper.numpy().ravel()[active], matrix[active] != 0
        )
        account += taken
        upper = torch.tensor(lower).reshape(a.shape)
    return upper[0].numpy(), account


@pytest.mark.parametrize("policy", ["absorb", "ignore"])
def test_gremlin_through_keras_twin_and_loop(tmp_path, float64, policy):
    network = seeded(gremlin(4, 16))
    network.save(tmp_path / "net.keras")
    loaded, twin = load_network(tmp_path / "net.keras").module, Twin(network).eval()
    x, pixel, rule = inputs(1, 2, 16, 16).abs(), (0, 5, 9), AlphaBeta(bias=policy)
    with torch.no_grad():
        assert float(twin(x)[(0, *pixel)]) != 0
    of_twin = attribute(twin, x, rules="alpha1_beta0", bias=policy, target=pixel)
    of_keras = attribute(
        loaded, x.permute(0, 2, 3, 1), rules="alpha1_beta0", bias=policy, target=(*pixel[1:], pixel[0])
    )
    torch.testing.assert_close(of_keras.relevance.permute(0, 3, 1, 2), of_twin.relevance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(of_keras.bias, of_twin.bias)
    wanted, account = loop(twin, x, pixel, rule)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(of_twin.relevance[0].numpy(), wanted, rtol=1e-8, atol=1e-10 * scale)
    np.testing.assert_allclose(float(of_twin.bias), account[0], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(float(of_twin.lost), account[2], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("rules", ["alpha2_beta1", "epsilon_plus", "gamma"])
def test_batch_norm_and_dense_biases_equal_their_torch_twins(rules):
    network = seeded(
        keras.Sequential(
            [layers.Input((6,)), layers.Dense(5), layers.BatchNormalization(), layers.ReLU(), layers.Dense(2)]
        )
    )
    dense, norm, _, head = network.layers
    twin = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, eps=1e-3), nn.ReLU(), nn.Linear(5, 2)).eval()
    with torch.no_grad():
        for mine, theirs in ((twin[0], dense), (twin[3], head)):
            mine.weight.copy_(theirs.weights[0].value.T)
            mine.bias.copy_(theirs.weights[1].value)
        for mine, theirs in zip(
            (twin[1].weight, twin[1].bias, twin[1].running_mean, twin[1].running_var), norm.weights
        ):
            mine.copy_(theirs.value)
    x = inputs(4, 6, dtype=torch.float32)
    a, b = (attribute(n, x, rules=rules, target=1) for n in (network, twin))
    torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-4, atol=1e-5)
    for term in ("bias", "stabiliser", "lost"):
        torch.testing.assert_close(getattr(a, term), getattr(b, term), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "target", "path"),
    [
        ("sub-sevir-unet-class-2d.h5", (20, 30, 0), "unet_up1_conv_after_concat_0"),
        ("sub-sevir-cnn-class-1d.h5", 0, "conv2d_1"),
    ],
)
def test_published_networks_explain_and_close(shared_data, name, target, path):
    network = load_network(shared_data / "pretrained_keras_cc0" / name).module
    x = torch.rand(2, 48, 48, 4, generator=torch.Generator().manual_seed(0)) * 2
    for rules in ("alpha1_beta0", "alpha2_beta1", "epsilon", "gamma", "epsilon_plus_flat"):
        got = attribute(network, x, rules=rules, target=target)
        assert gap(got) < 1e-5, rules
        assert bool(torch.isfinite(got.relevance).all())
    rows = {row.path: row for row in rule_table(network, x, "alpha1_beta0", target=target) if row.op == "conv2d"}
    assert rows[path].rule.startswith("alpha_beta")
    assert not any(row.op == "add" for row in rule_table(network, x, "epsilon", target=target))


STACKS = {
    "lstm": ((6, 3), lambda: [layers.LSTM(4, return_sequences=True), layers.Bidirectional(layers.GRU(3))]),
    "convlstm": ((3, 5, 5, 2), lambda: [layers.ConvLSTM2D(3, 3, padding="same"), layers.GlobalAveragePooling2D()]),
    "norms": ((5, 4), lambda: [layers.Dense(4), layers.LayerNormalization(), layers.GroupNormalization(2),
                               layers.Flatten()]),
    "resampling": ((6, 6, 3), lambda: [layers.SeparableConv2D(4, 3), layers.PReLU(), layers.Conv2DTranspose(3, 2, 2),
                                       layers.UpSampling2D(interpolation="bicubic"), layers.AveragePooling2D(2),
                                       layers.GlobalMaxPooling2D()]),
    "frames": ((3, 6, 6, 2), lambda: [layers.TimeDistributed(layers.Conv2D(3, 3, activation="swish")),
                                      layers.Conv3D(2, 2), layers.Flatten(), layers.Dropout(0.5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_layers_of_keras(name):
    shape, make = STACKS[name]
    network = seeded(keras.Sequential([layers.Input(shape), *make(), layers.Dense(2)]))
    for rules in ("epsilon", "alpha1_beta0", "gamma", "flat"):
        assert gap(attribute(network, inputs(2, *shape, dtype=torch.float32), rules=rules, target=1)) < 1e-5


def test_attention_of_keras():
    entry = layers.Input((5, 8))
    x = layers.LayerNormalization()(layers.Add()([layers.MultiHeadAttention(2, 4)(entry, entry), entry]))
    network = seeded(keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))))
    got = attribute(network, inputs(2, 5, 8, dtype=torch.float32), rules="epsilon", target=1)
    assert gap(got) < 1e-5
    assert any(row.path.endswith("/value") for row in got.table)


def image_to_image(*shape):
    """GREMLIN's kind of layers, narrower."""
    entry = x = layers.Input(shape)
    for closing in (layers.MaxPooling2D, layers.MaxPooling2D, layers.UpSampling2D, layers.UpSampling2D):
        x = closing()(layers.Conv2D(5, 3, padding="same", activation="relu")(x))
    return seeded(keras.Model(entry, layers.Conv2D(1, 1)(x)))


def test_a_keras_net_of_any_size_has_windows():
    """And one of a fixed size, which refuses others, has none; its receptive field is told all the same."""
    x, target = inputs(2, 64, 96, 2, dtype=torch.float32), (30, 41, 0)
    for shape, expected in (((None, None, 2), True), ((64, 96, 2), False)):
        network = image_to_image(*shape)
        network(x)  # keras remembers that a network was called
        got = attribute(network, x, target=target, rules="epsilon")
        assert any(note.startswith("window: of inputs of 64 x 96 x 2") for note in got.notes) is expected
        full = attribute(network, x, target=target, rules="epsilon", window="never")
        torch.testing.assert_close(got.relevance, full.relevance, rtol=0, atol=1e-6 * float(full.relevance.abs().max()))
        assert geoxai.receptive_field(network, (1, 64, 96, 2)).axes[1].exact == (22,)
