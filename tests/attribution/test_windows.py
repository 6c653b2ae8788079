"""Windows: the maps of a few outputs of a large field, computed where they can come from and nowhere else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geoxai.attribution import attribute
from tests.attribution.networks import UNet, inputs, seeded


def gremlin(width=6):
    """The published layer list of GREMLIN (science 3c), narrower."""
    layers, channels = [], 2
    for closing in [nn.MaxPool2d(2)] * 3 + [nn.Upsample(scale_factor=2)] * 3:
        layers += [nn.Conv2d(channels, width, 3, padding="same"), nn.ReLU(inplace=True), closing]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 1))


class Function(nn.Module):
    """A network written as a function of its input and two convolutions."""

    def __init__(self, function, channels=2, dims=2, padding_mode="zeros"):
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.first = conv(channels, 3, 3, padding=1, padding_mode=padding_mode)
        self.second = conv(3, 2, 3, padding=1)
        self.field = nn.Parameter(torch.zeros(1, 1, 96, 1))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def windowed(result):
    return any(note.startswith("window:") for note in result.notes)


def compare(network, x, targets, rules="alpha2_beta1", expected=True, tolerance=1e-12, **options):
    """Attribute with and without windows; every number that both give must agree."""
    targets = targets if isinstance(targets, list) else [targets]
    fast = attribute(network, x, target=targets, rules=rules, **options)
    full = attribute(network, x, target=targets, rules=rules, window="never", **options)
    assert windowed(fast) is expected
    scale = float(full.relevance.abs().max()) or 1.0
    assert float((fast.relevance - full.relevance).abs().max()) <= tolerance * scale
    for name in ("target_value", "bias", "stabiliser", "lost"):
        torch.testing.assert_close(getattr(fast, name), getattr(full, name), rtol=0, atol=tolerance * scale * 100)
    assert torch.equal(fast.nonpositive_target, full.nonpositive_target)
    known = ~fast.prediction.isnan()
    assert known.any()
    torch.testing.assert_close(fast.prediction[known], full.prediction[known], rtol=0, atol=tolerance * 100)
    return fast


def encoder(self, x):
    return self.second(F.max_pool2d(F.relu(self.first(x)), 2, ceil_mode=True))


def odd_ends(self, x):
    x = F.avg_pool2d(F.relu(self.first(x)), 3, stride=2, padding=1, ceil_mode=True)
    return self.second(x)


def valid_crop(self, x):
    """A skip cropped to the size of its other branch, as the first U-Net does."""
    skip = F.relu(self.first(x))
    inner = F.relu(F.conv2d(skip, self.second.weight))
    height, width = inner.shape[-2:]
    top, left = (skip.shape[-2] - height) // 2, (skip.shape[-1] - width) // 2
    return torch.cat([inner, skip[:, :, top : top + height, left : left + width]], 1)


def reflected(self, x):
    x = F.relu(F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.first.weight, self.first.bias))
    return self.second(F.pad(x, (1, 0, 0, 2), mode="replicate"))


def channels_last(self, x):
    """Grid first, channels last, as Keras has it; the head is a dense layer over channels."""
    x = self.first(x.permute(0, 3, 1, 2))
    return F.linear(F.relu(x).permute(0, 2, 3, 1), self.second.weight[:, :, 1, 1], self.second.bias)


def dilated(self, x):
    x = F.relu(F.conv2d(x, self.first.weight, self.first.bias, stride=2, padding=3, dilation=3))
    x = F.conv_transpose2d(x, self.second.weight.transpose(0, 1), stride=2, padding=1, output_padding=1)
    return x[..., ::2, 1:]


def residual(self, x):
    x = F.elu(self.first(x))
    y = self.second(x)
    y += x[:, :2]
    return F.interpolate(F.pixel_unshuffle(y, 2), scale_factor=2, mode="bilinear")


LOCAL = {
    "gremlin": (gremlin, (2, 96, 96)),
    "u-net": (lambda: UNet(2), (2, 64, 96)),
    "pool with ceil mode": (lambda: Function(encoder), (2, 63, 65)),
    "average pool with padding": (lambda: Function(odd_ends), (2, 61, 66)),
    "valid convolutions and a cropped skip": (lambda: Function(valid_crop), (2, 50, 41)),
    "reflect and replicate padding": (lambda: Function(reflected), (2, 60, 50)),
    "channels last": (lambda: Function(channels_last), (50, 40, 2)),
    "dilated, strided, transposed, sliced": (lambda: Function(dilated), (2, 80, 72)),
    "residual, pixel shuffle, bilinear": (lambda: Function(residual), (2, 64, 64)),
    "one dimension": (lambda: Function(lambda m, x: m.second(F.relu(m.first(x))), dims=1), (2, 80)),
    "frames": (lambda: Function(lambda m, x: m.second(F.relu(m.first(x))), dims=3), (2, 6, 30, 30)),
}


def places(shape, seed, count=6):
    """Random outputs, and the corners."""
    rng = np.random.default_rng(seed)
    inside = [tuple(int(rng.integers(n)) for n in shape) for _ in range(count)]
    return [*inside, (0,) * len(shape), tuple(n - 1 for n in shape)]


@pytest.mark.parametrize("name", LOCAL)
def test_a_window_gives_what_the_field_gives(name):
    build, shape = LOCAL[name]
    network = seeded(build())
    x = inputs(2, *shape)
    with torch.no_grad():
        output = tuple(network(x).shape[1:])
    for target in places(output, seed=3):
        compare(network, x, target)


@pytest.mark.parametrize("rules", ["alpha1_beta0", "epsilon", "flat", "w_square", "epsilon_plus_flat"])
def test_every_rule_in_single_precision(rules):
    network = seeded(gremlin(), dtype=torch.float32)
    x = inputs(2, 2, 96, 96, dtype=torch.float32)
    compare(network, x, [(0, 48, 49), (0, 0, 95), (0, 95, 3)], rules, tolerance=1e-6)


@pytest.mark.parametrize("method", ["gradient", "gradient_squared", "gradient_x_input"])
def test_gradients_have_windows_too(method):
    network, x = seeded(gremlin()), inputs(2, 2, 96, 96)
    fast = attribute(network, x, method=method, target=(0, 30, 61))
    assert windowed(fast)
    assert fast.bias is None
    full = attribute(network, x, method=method, target=(0, 30, 61), window="never")
    torch.testing.assert_close(fast.relevance, full.relevance, rtol=0, atol=1e-12)


def test_targets_of_every_kind_and_batches():
    network, x = seeded(gremlin()), inputs(5, 2, 96, 96)
    box = np.zeros((1, 96, 96), bool)
    box[0, 40:44, 70:73] = True
    rng = np.random.default_rng(0)
    pixels = np.stack([np.zeros(5, int), rng.integers(0, 96, 5), rng.integers(0, 96, 5)], 1)
    each = np.zeros((5, 1, 96, 96))
    for sample, (channel, row, column) in enumerate(pixels):
        each[sample, channel, row, max(column - 1, 0) : column + 1] = 0.5
    targets = [(0, 10, 90), box, pixels, each, (0, -1, -1)]
    whole = compare(network, x, targets)
    split = compare(network, x, targets, batch_size=2)
    torch.testing.assert_close(whole.relevance, split.relevance, rtol=0, atol=1e-14)
    alone = attribute(network, x, target=pixels, rules="alpha2_beta1")
    torch.testing.assert_close(alone.relevance, whole.relevance[2], rtol=0, atol=1e-14)
    assert alone.relevance.shape == x.shape
    assert alone.bias.shape == (5,)


def test_a_reference_and_a_depth_go_through_windows():
    network, x = seeded(gremlin()), inputs(3, 2, 96, 96)
    for reference in (0.3, np.array([0.1, -0.2, 0.3]), {"input": inputs(2, 96, 96, seed=7)}):
        compare(network, x, [(0, 50, 40), (0, 3, 90)], "alpha1_beta0", reference=reference)
    compare(network, x, (0, 50, 40), flat_below="6")


BLOCKED = {
    "a global mean": lambda m, x: m.second(F.relu(m.first(x)) + x.mean((2, 3), keepdim=True)[:, :1]),
    "a parameter along the axis": lambda m, x: m.second(F.relu(m.first(x) + m.field)).mean(-1, keepdim=True) * 2,
    "a constant made of sizes": lambda m, x: m.second(
        F.relu(m.first(x)) + torch.ones(x.shape[-2], x.shape[-1], dtype=x.dtype)
    ),
    "a size in a product": lambda m, x: m.second(F.relu(m.first(x)) * (4.0 / x.shape[-1])) / x.shape[-2],
    "a size in a scalar tensor": lambda m, x: m.second(F.relu(m.first(x)) * torch.tensor(1.0 / x.shape[-1]).to(x)),
    "a size in a branch": lambda m, x: m.second(F.relu(m.first(x)) if x.shape[-1] > 90 else m.first(x)),
    "a size in the choice of a channel": lambda m, x: m.second(F.relu(m.first(x)))[:, x.shape[-1] // 96 : 2],
    "a fixed reshape": lambda m, x: m.second(F.relu(m.first(x)).reshape(-1, 3, 96, 96)),
    "a fixed size": lambda m, x: F.interpolate(m.second(F.max_pool2d(F.relu(m.first(x)), 2)), size=(96, 96)),
    "a dense layer over cells": lambda m, x: m.second(F.relu(m.first(x)).flatten(2).flip(2).reshape(-1, 3, 96, 96)),
    "places counted from the far end": lambda m, x: m.second(F.relu(m.first(x)))[..., -90:, -90:],
    "a value read": lambda m, x: m.second(F.relu(m.first(x)) * float(x.shape[0] * 0 + 2 + (x.detach().max() > 99))),
    "aligned corners": lambda m, x: F.interpolate(
        m.second(F.relu(m.first(x))), scale_factor=2, mode="bilinear", align_corners=True
    ),
    "a softmax over cells": lambda m, x: m.second(F.relu(m.first(x))) + torch.cumsum(m.second(m.first(x)), 2).detach(),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_no_window_where_a_window_would_be_something_else(name):
    network = seeded(Function(BLOCKED[name]))
    with torch.no_grad():
        network.field.copy_(torch.linspace(-1, 1, 96).reshape(1, 1, 96, 1))
    x = inputs(2, 2, 96, 96)
    try:
        got = attribute(network, x, target=(0, 40, 0), method="gradient")
    except RuntimeError:
        pytest.fail("the network itself must run")
    full = attribute(network, x, target=(0, 40, 0), method="gradient", window="never")
    assert not windowed(got)
    torch.testing.assert_close(got.relevance, full.relevance, rtol=0, atol=0)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda m, x: m.second(F.relu(m.first(x - x.mean(0, keepdim=True)))),
        lambda m, x: m.second(F.relu(m.first(x.flip(0)))),
        lambda m, x: m.second(F.relu(m.first(torch.cat([x[1:], x[:1]])))),
        lambda m, x: torch.softmax(m.second(F.relu(m.first(x))), 0),
    ],
)
def test_a_window_is_a_sample_so_samples_must_not_mix(mixing):
    network, x = seeded(Function(mixing)), inputs(3, 2, 96, 96)
    got = attribute(network, x, target=(0, 40, 30), method="gradient")
    assert not windowed(got)
    full = attribute(network, x, target=(0, 40, 30), method="gradient", window="never")
    torch.testing.assert_close(got.relevance, full.relevance, rtol=0, atol=0)


def test_an_axis_with_a_global_operation_stays_whole():
    network = seeded(Function(lambda m, x: m.second(F.relu(m.first(x)) + x.mean(3, keepdim=True)[:, :1])))
    got = compare(network, inputs(2, 2, 96, 96), (1, 50, 60), "epsilon")
    assert any("windows of 2 x 6 x 96" in note or "windows of 2 x 5 x 96" in note for note in got.notes)


def test_circular_padding_has_windows_away_from_the_seam_only():
    network = seeded(Function(lambda m, x: m.second(F.relu(m.first(x))), padding_mode="circular"))
    x = inputs(1, 2, 60, 60)
    inside = compare(network, x, (0, 30, 30))
    seam = compare(network, x, (0, 30, 0))
    assert any("2 x 5 x 5" in note for note in inside.notes)
    assert any("2 x 5 x 60" in note for note in seam.notes)
    compare(network, x, (0, 0, 0), expected=False)


def test_an_exported_program_of_fixed_size_has_no_window():
    network = seeded(gremlin())
    x = inputs(2, 2, 64, 64)
    program = torch.export.export(network, (x,)).module()
    got = attribute(program, x, target=(0, 30, 30))
    assert not windowed(got)
    torch.testing.assert_close(got.relevance, attribute(network, x, target=(0, 30, 30)).relevance, rtol=0, atol=1e-12)


class Remembers(nn.Module):
    """Keeps a tensor made from its input's size, as positional codes are cached."""

    def __init__(self):
        super().__init__()
        self.conv, self.code, self.calls = nn.Conv2d(2, 1, 3, padding=1), None, 0

    def forward(self, x):
        self.calls += 1
        if self.code is None:
            self.code = x.new_ones(1)
        return self.conv(x) * self.code


def test_what_a_network_remembers_is_left_alone():
    network, x = seeded(Remembers()), inputs(1, 2, 64, 64)
    got = attribute(network, x, target=(0, 30, 30))
    assert not windowed(got)
    assert network.calls == 1
    assert not network.code.is_meta
    hooked = seeded(gremlin())
    seen = []
    hooked[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    assert not windowed(attribute(hooked, inputs(1, 2, 64, 64), target=(0, 30, 30)))
    assert seen == [(1, 6, 64, 64)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_stack_of_local_layers(data):
    """Layers drawn at random, on fields of any size, at any output."""
    layers, channels = [], 1
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["conv", "pool", "up", "transposed", "pad", "average"]))
        k, p, s = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2)), data.draw(st.integers(1, 3))
        if kind == "conv":
            layers += [nn.Conv1d(channels, 2, k, stride=s, padding=p, dilation=data.draw(st.integers(1, 2))), nn.ReLU()]
            channels = 2
        elif kind == "pool":
            layers += [nn.MaxPool1d(k, s, min(p, k // 2), ceil_mode=data.draw(st.booleans()))]
        elif kind == "average":
            layers += [nn.AvgPool1d(k, s, min(p, k // 2), ceil_mode=data.draw(st.booleans()))]
        elif kind == "up":
            linear = data.draw(st.booleans())
            layers += [nn.Upsample(scale_factor=2 if linear else s, mode="linear" if linear else "nearest")]
        elif kind == "transposed":
            layers += [nn.ConvTranspose1d(channels, 2, k, stride=s, padding=min(p, (k - 1) // 2))]
            channels = 2
        else:
            layers += [data.draw(st.sampled_from([nn.ZeroPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d]))((p, s))]
    network = seeded(nn.Sequential(*layers, nn.Conv1d(channels, 1, 1)), seed=data.draw(st.integers(0, 99)))
    x = inputs(1, 1, data.draw(st.integers(60, 400)))
    with torch.no_grad():
        size = network(x).shape[-1]
    target = (0, data.draw(st.integers(0, size - 1)))
    fast = attribute(network, x, target=target, rules="alpha2_beta1")
    full = attribute(network, x, target=target, rules="alpha2_beta1", window="never")
    scale = float(full.relevance.abs().max()) or 1.0
    assert float((fast.relevance - full.relevance).abs().max()) <= 1e-12 * scale
    torch.testing.assert_close(fast.target_value, full.target_value, rtol=1e-12, atol=1e-12)
