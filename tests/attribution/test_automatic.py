"""``rules: auto``: which preset a network gets, and that nothing but its operations decides."""

import numpy as np
import pytest
import torch
import torch.nn as nn
import xarray as xr

from benchmarks.styles import STYLES
from geoxai import explain
from geoxai.attribution import attribute, rule_table
from geoxai.errors import OptionError
from tests.attribution.networks import ConvNet, Mlp, inputs, seeded

NONNEGATIVE = ("ReLU MLP", "ReLU CNN, batch norm", "ResNet (ReLU after sums)", "U-Net, ReLU")


def network_of(name):
    build, shape = STYLES[name]
    torch.manual_seed(1)
    return build().double().eval(), inputs(3, *shape)


def chain(*layers, width=6):
    return seeded(nn.Sequential(nn.Linear(width, 5), *layers, nn.Linear(5, 2)))


@pytest.mark.parametrize("name", STYLES)
def test_the_default_is_the_preset_that_suits(name):
    """ReLU networks keep alpha1_beta0 to the bit, all others get epsilon; the table and the result say so."""
    network, x = network_of(name)
    wanted = "alpha1_beta0" if name in NONNEGATIVE else "epsilon"
    got, same = attribute(network, x, target=1), attribute(network, x, target=1, rules=wanted)
    assert got.preset == wanted
    assert torch.equal(got.relevance, same.relevance)
    assert torch.equal(got.nonpositive_target, same.nonpositive_target)
    assert all(f"of {wanted}, chosen by auto" in row.why for row in got.table if "no choice" not in row.why)
    if name not in NONNEGATIVE:
        assert bool((got.lost.abs() <= 1e-6 * got.target_value.abs()).all())


@pytest.mark.parametrize("name", ["ReLU CNN, batch norm", "SiLU CNN", "ViT", "LSTM", "ConvLSTM"])
def test_exported_programs_get_the_rules_of_their_module(name):
    network, x = network_of(name)
    program = torch.export.export(network, (x,))
    for given in (program, program.run_decompositions()):
        got, wanted = attribute(given, x, target=1), attribute(network, x, target=1)
        assert got.preset == wanted.preset
        # steps of an exported LSTM have a stabiliser each where the layer's have one
        off = float((got.relevance - wanted.relevance).abs().max() / wanted.relevance.abs().max())
        assert off < (1e-3 if name == "LSTM" else 1e-9)


def written(function):
    class Own(nn.Module):
        def forward(self, x):
            return function(x)

    return Own()


@pytest.mark.parametrize(
    ("act", "wanted"),
    [
        (nn.ReLU(), "alpha1_beta0"),
        (nn.ReLU6(), "alpha1_beta0"),
        (nn.Softplus(), "alpha1_beta0"),
        (written(lambda x: x.clamp(min=0)), "alpha1_beta0"),
        (written(lambda x: torch.maximum(x, torch.zeros_like(x))), "alpha1_beta0"),
        (written(lambda x: torch.maximum(x, torch.full_like(x, -1.0))), "epsilon"),
        (written(lambda x: x.abs()), "alpha1_beta0"),
        (written(lambda x: x**2), "alpha1_beta0"),
        (written(lambda x: x**3), "epsilon"),
        (nn.LeakyReLU(), "epsilon"),
        (nn.Hardtanh(), "epsilon"),
        (nn.Identity(), "epsilon"),
        (nn.Sequential(nn.ReLU(), nn.LayerNorm(5)), "epsilon"),
        (nn.Sequential(nn.ReLU(), nn.Dropout()), "alpha1_beta0"),
    ],
)
def test_activations_decide_by_what_they_can_give(act, wanted):
    assert attribute(chain(act).eval(), inputs(3, 6), target=1).preset == wanted


@pytest.mark.parametrize("act", [written(lambda x: x**3), nn.Tanh(), written(lambda x: x.abs())])
def test_values_do_not_decide(act):
    """Samples whose activations are all positive get the rules of those whose are not."""
    network = chain(act)
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.zero_()
    positive, negative = torch.ones(1, 6, dtype=torch.float64), -torch.ones(1, 6, dtype=torch.float64)
    both = [attribute(network, x, target=1).preset for x in (positive, negative, torch.cat([positive, negative]))]
    assert len(set(both)) == 1


def test_the_input_itself_may_be_negative_wherever_it_is_joined():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 5), nn.Linear(11, 2)

        def forward(self, x):
            return self.last(torch.cat([torch.relu(self.first(x)), x], 1))

    assert attribute(seeded(Joined()), inputs(3, 6), target=1).preset == "alpha1_beta0"


def test_only_what_leads_to_the_explained_output_counts():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.one, self.other, self.end = (
                nn.Linear(6, 6),
                nn.Linear(6, 2),
                nn.Linear(6, 6),
                nn.Linear(6, 2),
            )

        def forward(self, x):
            h = torch.relu(self.first(x))
            return {"one": self.one(h), "other": self.end(torch.tanh(self.other(h)))}

    network, x = seeded(Heads()), inputs(3, 6)
    found = {head: attribute(network, x, target=0, output=head).preset for head in ("one", "other")}
    assert found == {"one": "alpha1_beta0", "other": "epsilon"}


def test_several_inputs_targets_layers_batches_and_references():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.end = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(10, 2)

        def forward(self, a, b):
            return self.end(torch.relu(torch.cat([self.a(a), self.b(b)], 1)))

    network, x = seeded(Two()), (inputs(5, 4), inputs(5, 3, seed=1))
    for options in (
        {"target": [0, 1]},
        {"target": 0, "batch_size": 2},
        {"target": 0, "layers": ["end"]},
        {"target": "predicted"},
    ):
        got, same = attribute(network, x, **options), attribute(network, x, rules="alpha1_beta0", **options)
        assert got.preset == "alpha1_beta0"
        assert all(map(torch.equal, got.relevance, same.relevance))
    got = attribute(network, x, target=0, reference=2.0)
    assert got.preset == "alpha1_beta0"


@pytest.mark.parametrize(("act", "wanted"), [(nn.ReLU, "alpha1_beta0"), (nn.SiLU, "epsilon")])
def test_windows_choose_what_the_whole_field_does(act, wanted):
    network = seeded(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), act(), nn.Conv2d(4, 1, 3, padding=1)))
    x = inputs(2, 2, 40, 40)
    cut, whole = (attribute(network, x, target=(0, 3, 20), window=window) for window in ("auto", "never"))
    assert any("window" in note for note in cut.notes)
    assert cut.preset == whole.preset == wanted
    torch.testing.assert_close(cut.relevance, whole.relevance, rtol=1e-9, atol=1e-12)


def test_options_go_to_the_rules_that_have_them():
    relu, gelu, x = chain(nn.ReLU()), chain(nn.GELU()), inputs(3, 6)
    for network, rules, options in (
        (relu, "alpha1_beta0", {"bias": "ignore", "eps": 0.5}),
        (gelu, "epsilon", {"bias": "ignore", "eps": 0.5}),
    ):
        own = options if rules == "epsilon" else {"bias": "ignore"}
        wanted = attribute(network, x, rules=rules, target=0, **own)
        assert torch.equal(attribute(network, x, target=0, **options).relevance, wanted.relevance)
    with pytest.raises(OptionError, match="unknown option 'gamma'"):
        attribute(relu, x, target=0, gamma=0.1)
    with pytest.raises(OptionError, match="auto chooses between presets") as caught:
        attribute(relu, x, target=0, rules=[{"preset": "auto"}])
    assert caught.value.option == "rules.0.preset"


def test_a_batch_norm_can_be_folded_under_either_choice():
    network, x = seeded(ConvNet()), inputs(2, 2, 8, 8)
    got = attribute(network, x, norm="fold")
    assert torch.equal(got.relevance, attribute(network, x, rules="alpha1_beta0", norm="fold").relevance)


def test_the_choice_is_named_in_attributes_and_tables():
    x = xr.DataArray(np.ones((2, 12), np.float32), dims=("sample", "cell"))
    found = explain(seeded(Mlp(), dtype=torch.float32), x, target=0)
    assert (found.attrs["rules"], found.attrs["rules_chosen"]) == ("auto", "alpha1_beta0")
    assert "rules_chosen" not in explain(seeded(Mlp(), dtype=torch.float32), x, target=0, rules="epsilon").attrs
    rows = rule_table(seeded(Mlp()), inputs(1, 12), "auto", target=0)
    assert rows[-1].why.endswith("of alpha1_beta0, chosen by auto")
