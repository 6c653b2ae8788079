"""Built-in networks: shapes, sizes counted by hand, and what their options promise."""

import pytest
import torch

from geoxai.errors import OptionError
from geoxai.models.architectures import build, weighted_layers


def network(architecture, options=None, *, channels=2, grid=(6, 8), outputs=(3,), init="default", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return build(
        architecture, options or {}, channels=channels, grid=grid, outputs=outputs, init=init, generator=generator
    ).eval()


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_the_dense_network_of_toms_2020_has_its_number_of_weights():
    """64,800 inputs, 8-8-2: science notes 3a."""
    module = network("mlp", {"hidden": [8, 8]}, channels=1, grid=(180, 360), outputs=(2,))
    assert size(module) == (64800 + 1) * 8 + 9 * 8 + 9 * 2 == 518_498


@pytest.mark.parametrize(
    ("architecture", "options", "outputs"),
    [
        ("mlp", {"hidden": []}, (1,)),
        ("mlp", {"activation": "tanh"}, (2, 6, 8)),
        ("cnn", {}, (3,)),
        ("cnn", {"head": "global", "pool": "max", "batch_norm": True, "longitude": "cyclic"}, (2,)),
        ("unet", {}, (1, 6, 8)),
        ("unet", {"filters": [4, 8], "skip": False, "upsample": "bilinear", "convolutions": 2}, (2, 6, 8)),
    ],
)
def test_outputs_have_the_shape_asked_for(architecture, options, outputs):
    module = network(architecture, options, outputs=outputs)
    assert module(torch.randn(5, 2, 6, 8)).shape == (5, *outputs)


def test_unet_filters_are_counted_by_hand():
    module = network("unet", {"filters": [4, 8]}, outputs=(1, 6, 8))
    down = (2 * 9 + 1) * 4 + (4 * 9 + 1) * 8
    up = ((8 + 4) * 9 + 1) * 4
    assert size(module) == down + up + 4 + 1


@pytest.mark.parametrize(("architecture", "outputs"), [("cnn", (2,)), ("unet", (1, 8, 16))])
def test_cyclic_networks_do_not_know_where_the_date_line_is(architecture, outputs):
    options = {"filters": [4, 4], "longitude": "cyclic"} | ({"head": "global"} if architecture == "cnn" else {})
    x = torch.randn(2, 2, 8, 16, generator=torch.Generator().manual_seed(0))
    rolled = x.roll(4, dims=-1)
    cyclic = network(architecture, options, grid=(8, 16), outputs=outputs)
    expected = cyclic(x) if architecture == "cnn" else cyclic(x).roll(4, dims=-1)
    torch.testing.assert_close(cyclic(rolled), expected)
    zeros = network(architecture, options | {"longitude": "zeros"}, grid=(8, 16), outputs=outputs)
    expected = zeros(x) if architecture == "cnn" else zeros(x).roll(4, dims=-1)
    assert (zeros(rolled) - expected).abs().max() > 1e-4


def test_padding_of_an_undivisible_grid_touches_no_output_beyond_its_reach():
    """On a divisible grid the padded network is the plain one."""
    plain = network("unet", {"filters": [4, 4]}, grid=(8, 8), outputs=(1, 8, 8))
    assert plain.padding == (0, 0)
    padded = network("unet", {"filters": [4, 4]}, grid=(7, 8), outputs=(1, 7, 8))
    padded.load_state_dict(plain.state_dict())
    x = torch.randn(1, 2, 7, 8)
    whole = torch.cat([x, torch.zeros(1, 2, 1, 8)], dim=2)
    torch.testing.assert_close(padded(x), plain(whole)[:, :, :7])


@pytest.mark.parametrize(
    ("init", "variance"), [("he", 2 / 1200), ("glorot", 2 / (1200 + 400)), ("default", 1 / 1200 / 3)]
)
def test_initial_weights_have_the_variance_of_their_name(init, variance):
    module = network("mlp", {"hidden": [400]}, channels=1, grid=(30, 40), init=init)
    first = weighted_layers(module)[0][1]
    assert first.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert (first.bias == 0).all() == (init != "default")


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(0)
    a = network("cnn", seed=3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    b, c = network("cnn", seed=3), network("cnn", seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("resnet", {}, "resnet"),
        ("cnn", {"filters": [2] * 4}, "too often"),
        ("cnn", {"kernel": 2}, "odd"),
        ("cnn", {"kernel": 21, "longitude": "cyclic"}, "longitudes"),
        ("unet", {}, "images"),
    ],
)
def test_what_cannot_be_built_is_refused(architecture, options, message):
    with pytest.raises(OptionError, match=message) as error:
        network(architecture, options)
    assert error.value.option.startswith("architecture")


def test_layers_are_listed_from_input_to_output():
    names = [name for name, _ in weighted_layers(network("unet", {"filters": [2, 2]}, outputs=(1, 6, 8)))]
    assert names == ["down.0.0", "down.1.0", "up.0.0", "last"]
    assert len(weighted_layers(network("mlp", {"hidden": [4, 4]}))) == 3


@pytest.mark.parametrize(
    ("architecture", "options", "outputs"),
    [
        ("mlp", {}, (2,)),
        ("mlp", {}, (1, 6, 8)),
        ("cnn", {"longitude": "cyclic", "batch_norm": True}, (2,)),
        ("cnn", {"head": "global", "pool": "max"}, (2,)),
        ("unet", {"filters": [4, 4, 4], "longitude": "cyclic"}, (1, 6, 8)),
        ("unet", {"filters": [4, 4], "upsample": "bilinear", "skip": False}, (1, 6, 8)),
    ],
)
def test_every_built_in_network_can_be_explained(architecture, options, outputs):
    from geoxai.attribution import attribute

    module = network(architecture, options, outputs=outputs)
    x = torch.randn(3, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    target = "predicted" if len(outputs) == 1 else (0, 2, 3)
    for rules in ("epsilon", "alpha1_beta0"):
        found = attribute(module, x, rules=rules, target=target)
        relevance, value, *rest = (
            torch.as_tensor(part).double()
            for part in (found.relevance, found.target_value, found.bias, found.stabiliser, found.lost)
        )
        remainder = value - relevance.sum(dim=(1, 2, 3)) - sum(rest)
        scale = torch.maximum(value.abs(), relevance.abs().sum(dim=(1, 2, 3)))
        assert (remainder.abs() <= 1e-5 * scale).all()
        assert relevance.abs().sum() > 0 or rules == "alpha1_beta0"
