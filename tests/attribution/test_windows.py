"""Windows: the maps of a few outputs of a large field, computed where they can come from and nowhere else."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import geoxai
from geoxai.attribution import attribute
from geoxai.attribution.fields import trace as tracing
from geoxai.attribution.fields.table import TABLE
from geoxai.errors import GeoxaiError
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
        self.mixing = nn.Parameter(torch.zeros(32, 32))
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


def copied(self, x):
    """Copies as Keras writes them, by expanding and by interleaving."""
    x = F.max_pool2d(F.relu(self.first(x)), 4)
    batch, channels, height, width = x.shape
    x = x[:, :, :, None].expand(batch, channels, height, 2, width).reshape(batch, channels, 2 * height, width)
    return self.second(x.repeat_interleave(2, dim=2).repeat_interleave(4, dim=3))


def patched(self, x):
    """Patches as vision transformers cut them, mixed cell by cell, and put together by a shuffle."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 1, 3, 5).flatten(3)
    x = torch.einsum("bhwc,kc->bkhw", x, self.mixing)
    return self.second(self.first(F.pixel_shuffle(F.relu(x), 4)))


def rolled(self, x):
    x = torch.roll(F.relu(self.first(x)), (3, -2, 1), (2, 3, 1))[:, [2, 0, 1]].flip(1)
    return F.interpolate(self.second(x), scale_factor=2, mode="bicubic")


def differences(self, x):
    x = F.relu(self.first(x))
    return self.second(x[..., 1:, :] - x[..., :-1, :] + torch.zeros_like(x[..., 1:, :])).unfold(3, 2, 2).sum(-1)


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
    "copies": (lambda: Function(copied), (2, 64, 64)),
    "patches": (lambda: Function(patched), (2, 64, 64)),
    "differences and sums": (lambda: Function(differences), (2, 60, 60)),
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
    "a size in the choice of a channel": lambda m, x: m.second(F.relu(m.first(x)))[
        :, x.shape[-1] // 96 : x.shape[-1] // 96 + 1
    ],
    "a fixed reshape": lambda m, x: m.second(F.relu(m.first(x)).reshape(-1, 3, 96, 96)),
    "a fixed size": lambda m, x: F.interpolate(m.second(F.max_pool2d(F.relu(m.first(x)), 2)), size=(96, 96)),
    "a dense layer over cells": lambda m, x: m.second(F.relu(m.first(x)).flatten(2).flip(2).reshape(-1, 3, 96, 96)),
    "places counted from the far end": lambda m, x: m.second(F.relu(m.first(x)))[..., -90:, -90:],
    "a value read": lambda m, x: m.second(F.relu(m.first(x)) * float(x.shape[0] * 0 + 2 + (x.detach().max() > 99))),
    "aligned corners": lambda m, x: F.interpolate(
        m.second(F.relu(m.first(x))), scale_factor=2, mode="bilinear", align_corners=True
    ),
    "running sums over cells": lambda m, x: m.second(F.relu(m.first(x))).cumsum(2).cumsum(3),
    "a norm over cells": lambda m, x: m.second(F.group_norm(F.relu(m.first(x)), 1)),
    "rows by a list": lambda m, x: m.second(F.relu(m.first(x))[..., [*range(90, 96), *range(90)], :])[
        ..., [*range(96)]
    ],
    "a flip": lambda m, x: m.second(F.relu(m.first(x)).flip(2, 3)),
    "a pool to a size": lambda m, x: m.second(F.adaptive_avg_pool2d(F.relu(m.first(x)), (96, 96))),
    "attention over cells": lambda m, x: m.second(
        F.relu(m.first(x)) + F.softmax(m.first(x).flatten(2), 2).reshape(-1, 3, *x.shape[2:])
    ),
    "a part set to a constant": lambda m, x: m.second(written(m.first(x), 0.0)),
    "a part set to the input": lambda m, x: m.second(written(m.first(x), x[:, :1, :, :44])),
    "a part changed in place": lambda m, x: m.second(added(m.first(x))),
    "a part filled in place": lambda m, x: m.second(filled(m.first(x))),
    "a constant written by a size": lambda m, x: m.second(F.relu(m.first(x)) * written_by_size(x)),
    "a choice of computed constants by a size": lambda m, x: m.second(
        m.first(x) * [m.first.bias * 2, m.first.bias * -1][x.shape[-1] > 90].reshape(3, 1, 1)
    ),
    "a choice of weights by a size": lambda m, x: (
        m.second(m.first(x)) * (m.second.bias, m.first.bias[:2])[x.shape[-1] > 90].reshape(2, 1, 1)
    ),
    "a choice of tensors by a size": lambda m, x: m.second(m.first(x)) * CONSTANTS[x.shape[-1] > 90],
    "a part scaled in place": lambda m, x: m.second(scaled(m.first(x))),
    "a view that sees what is added": lambda m, x: m.second(seen_through_a_view(m.first(x), x)),
    "every other cell and half of them": lambda m, x: twice(lambda y: y[..., ::2] + y[..., :48], m.second(m.first(x))),
    "one column added to all": lambda m, x: twice(lambda y: y + y[..., 3:4], m.second(m.first(x))),
    "a result put into a tensor": lambda m, x: m.second(torch.mul(m.first(x), m.field, out=x.new_empty(2, 3, 96, 96))),
    "an error at a size": lambda m, x: m.second(F.relu(m.first(x))) * (1.0 if fits(x) else 2.0),
}


def written(x, value):
    x[:, :, :, :44] = value
    return x


def added(x):
    x[:, :, :, :44] += 1.0
    return x


def scaled(x):
    x[:, :, :, :44].mul_(3.0)
    return x


def seen_through_a_view(y, x):
    view = y[:, :]
    y += F.avg_pool2d(x[:, :1], 31, 1, 15)
    return view


def twice(function, y):
    """Along both axes of the field."""
    return function(function(y).transpose(2, 3)).transpose(2, 3)


CONSTANTS = torch.tensor(2.0), torch.tensor(3.0)


def filled(x):
    x[:, :, :44].zero_()
    return x


def written_by_size(x):
    constant = torch.zeros(3, 1, 1, dtype=x.dtype)
    constant[0] = float(x.shape[-1])
    return constant


def fits(x):
    try:
        x.reshape(-1, 2, 96, 96)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("name", BLOCKED)
def test_no_window_where_a_window_would_be_something_else(name):
    network = seeded(Function(BLOCKED[name]))
    with torch.no_grad():
        network.field.copy_(torch.linspace(-1, 1, 96).reshape(1, 1, 96, 1))
    x = inputs(2, 2, 96, 96)
    target = (0, 40, 0 if "mean" in name or "parameter" in name else 45)
    method = "lrp" if "put into" in name else "gradient"  # autograd has none there
    full = attribute(network, x, target=target, method=method, window="never")
    got = attribute(network, x, target=target, method=method)
    assert not windowed(got)
    torch.testing.assert_close(got.relevance, full.relevance, rtol=0, atol=0)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda m, x: m.second(F.relu(m.first(x - x.mean(0, keepdim=True)))),
        lambda m, x: m.second(F.relu(m.first(x.flip(0)))),
        lambda m, x: m.second(F.relu(m.first(torch.cat([x[1:], x[:1]])))),
        lambda m, x: torch.softmax(m.second(F.relu(m.first(x))), 0),
        lambda m, x: m.second(F.relu(m.first(x.roll(1, 0)))),
        lambda m, x: F.relu(m.first(x)).transpose(0, 1),
        lambda m, x: m.second(F.relu(m.first(x))).squeeze(),
        lambda m, x: m.second(F.relu(m.first(x))).squeeze(0),
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


def test_a_roll_has_windows_away_from_its_seam_only():
    network, x = seeded(Function(rolled)), inputs(1, 2, 48, 48)
    compare(network, x, (0, 40, 50))
    compare(network, x, (1, 95, 40))
    compare(network, x, (1, 0, 0))
    compare(network, x, (1, 0, 95), expected=False)


def test_an_exported_program_of_fixed_size_has_no_window():
    network = seeded(gremlin())
    x = inputs(2, 2, 64, 64)
    program = torch.export.export(network, (x,)).module()
    got = attribute(program, x, target=(0, 30, 30))
    assert not windowed(got)
    torch.testing.assert_close(got.relevance, attribute(network, x, target=(0, 30, 30)).relevance, rtol=0, atol=1e-12)


def test_an_exported_program_of_any_size_has_windows():
    network, x = seeded(gremlin()), inputs(2, 2, 96, 96)
    rows, columns = (8 * torch.export.Dim(name, min=3, max=64) for name in ("rows", "columns"))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (x,), dynamic_shapes={"input": {0: batch, 2: rows, 3: columns}}).module()
    got = compare(program, x, (0, 30, 41))
    torch.testing.assert_close(
        got.relevance[0], attribute(network, x, target=(0, 30, 41), rules="alpha2_beta1").relevance, rtol=0, atol=1e-12
    )


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
    assert network.calls == 2  # one to explain, and one to see whether it hides something
    assert not network.code.is_meta
    hooked = seeded(gremlin())
    seen = []
    hooked[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    assert not windowed(attribute(hooked, inputs(1, 2, 64, 64), target=(0, 30, 30)))
    assert seen == [(1, 6, 64, 64)] * 2


class Chosen(nn.Module):
    """Does what its attributes say, and what a name outside says."""

    def __init__(self):
        super().__init__()
        self.conv, self.mode, self.constant = nn.Conv2d(2, 2, 3, padding="same"), "local", torch.ones(1)
        self.other = nn.Parameter(torch.ones(2, 1, 1))

    def forward(self, x):
        y = self.conv(x) * self.constant
        if self.mode == "global" and x.shape[-1] > 90:
            return y + x.mean((2, 3), keepdim=True)
        if self.mode == "size" and x.shape[-1] > 90:
            y = y * 3.0
        if self.mode == "computed":
            return y * (self.other * 2, self.other * -1)[x.shape[-1] > 90]
        if self.mode == "list":
            return y * torch.tensor([OUTSIDE["number"] if x.shape[-1] > 90 else 1.0]).to(y)
        if self.mode == "reused":
            return self.conv(y)
        return y


OUTSIDE = {"number": 1.0}


def test_a_trace_that_is_known_is_not_believed():
    """What changes between two calls is seen: attributes, names outside, other weights, a kernel of another size."""
    network, x = seeded(Chosen()), inputs(2, 2, 96, 96)
    x[:, :, 40:60, 40:60].abs_()

    def check(expected):
        for _ in range(2):
            compare(network, x, (0, 50, 45), "epsilon", expected=expected)

    check(True)
    for mode, expected in (("global", False), ("local", True), ("size", False), ("computed", False), ("reused", True)):
        network.mode = mode
        check(expected)
    network.mode = "list"
    check(True)
    OUTSIDE["number"] = 2.0
    check(False)
    network.mode = "local"
    network.constant = torch.full((1,), 2.0)
    check(True)
    network.constant = torch.linspace(1, 2, 96)
    check(True)  # along rows
    network.constant = torch.ones(1)
    network.conv.weight.data = inputs(2, 2, 7, 7, seed=3)
    check(True)
    network.conv = seeded(nn.Conv2d(2, 2, 3, stride=2, padding=1))
    got = compare(network, x, (0, 30, 20), "epsilon")
    assert any("2 x 3 x 3" in note or "2 x 4 x 4" in note for note in got.notes)


class Switched(nn.Module):
    """Does one thing or another."""

    def __init__(self, function):
        super().__init__()
        self.one, self.other = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.function, self.switched = function, False

    def forward(self, x):
        return self.function(self, x, self.switched)


SWITCHES = {
    "nothing": (lambda m, x, on: m.one(x), False),
    "a weight": (lambda m, x, on: F.conv2d(x, (m.one.weight, m.other.weight)[on]), True),
    "a number": (lambda m, x, on: m.one(x) * (2.0, 3.0)[on], True),
    "a function": (lambda m, x, on: (torch.tanh, torch.sigmoid)[on](m.one(x)), True),
    "a further call": (lambda m, x, on: m.one(x).relu() if on else m.one(x), True),
    "a call less": (lambda m, x, on: m.one(x) if on else m.one(x).relu(), True),
    "a computed constant": (lambda m, x, on: m.one(x) * (m.one.weight * 2, m.other.weight * 2)[on].mean(), True),
    "a choice of those computed": (lambda m, x, on: m.one(x) * chosen(m.one.bias * 2, m.one.bias * -1, on), True),
    "a choice of signals": (lambda m, x, on: F.relu(chosen(m.one(x), m.other(x), on)), True),
    "the signal that is returned": (lambda m, x, on: chosen(m.one(x), m.other(x), on, shaped=False), True),
    "values of a new constant": (lambda m, x, on: m.one(x) * torch.tensor((2.0, 3.0)[on]), True),
    "random numbers": (lambda m, x, on: m.one(x) * torch.rand(1).double(), True),
    "a value written into a constant": (lambda m, x, on: m.one(x) * put((2.0, 3.0)[on]), True),
    "what is in a list": (lambda m, x, on: m.one(x) * len(m.one(x).unbind(1)[on:]), True),
    "another shape in place": (lambda m, x, on: m.one(x).clone().unsqueeze_(0).squeeze(0), True),
}


def chosen(a, b, on, shaped=True):
    found = (a, b)[on]
    return found.reshape(-1, 2, *found.shape[2:]) if shaped and found.ndim > 1 else found.mean() if shaped else found


def put(value):
    constant = torch.ones(1, dtype=torch.float64)
    constant[0] = value
    return constant


@pytest.mark.parametrize("name", SWITCHES)
def test_a_known_trace_holds_for_the_same_computation_only(name):
    function, differs = SWITCHES[name]
    network = seeded(Switched(function))
    trace = tracing.run(network, (2, 2, 12, 12), torch.float64)
    lasting = name not in ("random numbers", "another shape in place")
    assert tracing.holds(trace, network) is lasting
    network.switched = True
    assert tracing.holds(trace, network) is not differs
    network.switched = False
    assert tracing.holds(trace, network) is lasting


def test_a_known_trace_ends_with_its_weights():
    """A weight that stays the same tensor with another shape, or goes elsewhere."""
    network = seeded(Switched(SWITCHES["nothing"][0]))
    trace = tracing.run(network, (2, 2, 12, 12), torch.float64)
    earlier = network.one.weight.data
    network.one.weight.data = inputs(2, 2, 5, 5)
    assert not tracing.holds(trace, network)
    network.one.weight.data = earlier.float()
    assert not tracing.holds(trace, network)
    network.one.weight.data = earlier
    assert tracing.holds(trace, network)
    network.to("meta")
    assert not tracing.holds(trace, network)


def test_a_known_trace_saves_work_and_holds_nothing(monkeypatch):
    """The second explanation makes no trace; a network that is gone is not kept."""
    network, x = seeded(gremlin()), inputs(1, 2, 96, 96)
    attribute(network, x, target=(0, 50, 45))
    made = []
    run = tracing.run
    monkeypatch.setattr(tracing, "run", lambda *args: made.append(args) or run(*args))
    assert windowed(attribute(network, x, target=(0, 50, 45)))
    assert not made
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


def test_the_log_says_why_there_is_no_window(caplog):
    caplog.set_level("DEBUG", "geoxai.attribution")
    network, x = seeded(Function(BLOCKED["a norm over cells"])), inputs(1, 2, 96, 96)
    attribute(network, x, target=(0, 50, 45), method="gradient")
    assert "group_norm at the network itself" in caplog.text
    caplog.clear()
    attribute(seeded(Function(BLOCKED["a value read"])), x, target=(0, 50, 45), method="gradient")
    assert "no window for inputs of 2 x 96 x 96" in caplog.text


def test_a_fault_of_geoxai_costs_the_window_and_is_logged(monkeypatch, caplog):
    """A warning, and the right map; the fixture of this folder makes it an error elsewhere."""
    monkeypatch.setitem(TABLE, "relu", lambda call: 1 / 0)
    network, x = seeded(gremlin()), inputs(1, 2, 96, 96)
    got = attribute(network, x, target=(0, 50, 45))
    assert not windowed(got)
    assert "geoxai failed to follow the network (the maps are right): relu: ZeroDivisionError" in caplog.text
    caplog.clear()
    torch.testing.assert_close(got.relevance, attribute(network, x, target=(0, 50, 45), window="never").relevance)
    with pytest.raises(GeoxaiError, match="cannot be found: relu: ZeroDivisionError"):
        geoxai.receptive_field(network, x.shape)


def test_hooks_of_all_modules_see_no_tensors_without_values():
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: seen.append(output))
    try:
        attribute(seeded(gremlin()), inputs(1, 2, 64, 64), target=(0, 30, 30))
    finally:
        handle.remove()
    assert seen
    assert not any(output.is_meta for output in seen)


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def copies(x, times):
    batch, channels, size = x.shape
    return x[..., None].expand(batch, channels, size, times).reshape(batch, channels, size * times)


def blocks(x, size):
    """Every block of cells as channels, and back."""
    batch, channels, length = x.shape
    x = x[..., : length // size * size]
    return x.reshape(batch, channels, -1, size).roll(1, 3).flatten(2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_stack_of_local_layers(data):
    """Layers drawn at random, on fields of any size, at any output."""
    layers, channels = [], 1
    kinds = [
        "conv",
        "pool",
        "up",
        "transposed",
        "pad",
        "average",
        "slice",
        "roll",
        "copies",
        "blocks",
        "unfold",
        "skip",
    ]
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(kinds))
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
        elif kind == "slice":
            layers += [Applied(lambda x, p=p, s=s: x[..., p::s])]
        elif kind == "roll":
            by = data.draw(st.integers(-3, 3))
            layers += [Applied(lambda x, by=by: x.roll(by, 2))]
        elif kind == "copies":
            layers += [Applied(lambda x, s=s: copies(x, s))]
        elif kind == "blocks":
            layers += [Applied(lambda x, k=k: blocks(x, k))]
        elif kind == "unfold":
            layers += [Applied(lambda x, k=k, s=s: x.unfold(2, k, s).mean(-1))]
        elif kind == "skip":
            layers += [Applied(lambda x, k=k: x[..., k:] - x[..., :-k])]
        else:
            layers += [data.draw(st.sampled_from([nn.ZeroPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d]))((p, s))]
    network = seeded(nn.Sequential(*layers, nn.Conv1d(channels, 1, 1)), seed=data.draw(st.integers(0, 99)))
    x = inputs(2, 1, data.draw(st.integers(60, 400)))
    with torch.no_grad():
        size = network(x).shape[-1]
    assume(size > 0)
    target = (0, data.draw(st.integers(0, size - 1)))
    fast = attribute(network, x, target=target, rules="alpha2_beta1")
    full = attribute(network, x, target=target, rules="alpha2_beta1", window="never")
    scale = float(full.relevance.abs().max()) or 1.0
    assert float((fast.relevance - full.relevance).abs().max()) <= 1e-12 * scale
    torch.testing.assert_close(fast.target_value, full.target_value, rtol=1e-12, atol=1e-12)
