"""Targets: which outputs are explained, and what value that is."""

import numpy as np
import pytest
import torch
import torch.nn as nn

from geoxai.attribution import attribute
from geoxai.errors import InputError, OptionError
from tests.attribution.networks import ConvNet, Mlp, UNet, inputs, seeded


@pytest.fixture(scope="module")
def unet():
    return seeded(UNet())


@pytest.fixture(scope="module")
def mlp():
    return seeded(Mlp())


def test_index_mask_weights_and_per_sample_targets_agree(unet):
    x = inputs(3, 3, 8, 8)
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2, 5] = True
    forms = [
        (0, 2, 5),
        (0, -6, -3),
        mask,
        mask.astype(float),
        torch.as_tensor(mask),
        np.array([[0, 2, 5]] * 3),
        np.stack([mask] * 3),
    ]
    maps = [attribute(unet, x, target=form) for form in forms]
    with torch.no_grad():
        value = unet(x)[:, 0, 2, 5]
    for got in maps:
        torch.testing.assert_close(got.relevance, maps[0].relevance, rtol=0, atol=0)
        torch.testing.assert_close(got.target_value, value)
        assert got.confidence is None
        assert got.prediction.shape == (3, 1, 8, 8)


def test_a_list_of_targets_shares_one_forward(unet):
    x = inputs(2, 3, 8, 8)
    calls = []

    def counted(t):
        calls.append(1)
        return unet(t)

    region = np.zeros((1, 8, 8))
    region[0, :4] = 0.25
    targets = [(0, 1, 1), region, (0, 7, 0)]
    attribute(counted, x, target=targets, rules="alpha2_beta1")
    assert len(calls) == 2  # once per network it is looked at for what it hides
    got = attribute(counted, x, target=targets, rules="alpha2_beta1")
    assert len(calls) == 3
    assert got.relevance.shape == (3, 2, 3, 8, 8)
    assert got.target_value.shape == got.bias.shape == got.nonpositive_target.shape == (3, 2)
    for number, target in enumerate(targets):
        single = attribute(unet, x, target=target, rules="alpha2_beta1")
        torch.testing.assert_close(got.relevance[number], single.relevance, rtol=0, atol=0)
        torch.testing.assert_close(got.lost[number], single.lost, rtol=0, atol=0)


def test_per_sample_targets_in_batches(unet):
    x = inputs(5, 3, 8, 8)
    where = np.array([[0, i, 7 - i] for i in range(5)])
    whole = attribute(unet, x, target=where)
    for batch in (1, 2, 5):
        parts = attribute(unet, x, target=where, batch_size=batch)
        torch.testing.assert_close(parts.relevance, whole.relevance, rtol=1e-9, atol=1e-12)
        padded = attribute(unet, x, target=where, batch_size=batch, fixed_batch=True)
        torch.testing.assert_close(padded.target_value, whole.target_value, rtol=1e-9, atol=1e-12)
        assert padded.prediction.shape[0] == 5


def test_contrast_is_the_folded_difference(mlp):
    """Explaining the contrast equals explaining a net whose last layer is the difference of two rows."""
    x = inputs(4, 3, 2, 2)
    with torch.no_grad():
        logits = mlp(x)
    order = logits.argsort(1, descending=True)
    for preset in ("alpha1_beta0", "epsilon", "gamma", "flat", "alpha2_beta1"):
        got = attribute(mlp, x, rules=preset)
        for n in range(4):
            one, two = order[n, :2]
            last = nn.Linear(8, 1).double()
            with torch.no_grad():
                last.weight[:] = mlp[5].weight[one] - mlp[5].weight[two]
                last.bias[:] = mlp[5].bias[one] - mlp[5].bias[two]
            twin = nn.Sequential(*list(mlp)[:5], last).eval()
            single = attribute(twin, x[n : n + 1], rules=preset, target=0)
            torch.testing.assert_close(got.relevance[n : n + 1], single.relevance, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(got.bias[n : n + 1], single.bias)
        assert bool((got.target_value > 0).all())
    torch.testing.assert_close(got.prediction, logits.argmax(1))
    torch.testing.assert_close(got.confidence, logits.softmax(1).amax(1))


def test_scores_and_class_names(mlp):
    x = inputs(4, 3, 2, 2)
    with torch.no_grad():
        logits = mlp(x)
    names = ("la_nina", "neutral", "el_nino")
    rows = torch.arange(4)
    labels = np.array([2, 0, 1, 2])
    got = attribute(mlp, x, target="label", labels=labels, score="logit", batch_size=3)
    torch.testing.assert_close(got.target_value, logits[rows, torch.as_tensor(labels)])
    named = attribute(mlp, x, target="el_nino", classes=names, score="logit")
    torch.testing.assert_close(named.relevance, attribute(mlp, x, target=2).relevance)
    unit = attribute(mlp, x, score="one", rules="epsilon")
    torch.testing.assert_close(unit.target_value, torch.ones(4, dtype=torch.float64))
    rest = 1 - unit.relevance.flatten(1).sum(1) - unit.bias - unit.stabiliser - unit.lost
    assert float(rest.abs().max()) < 1e-10


def test_one_logit_speaks_for_both_classes():
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 1), nn.Sigmoid()))
    x = inputs(8, 3, 2, 2)
    with torch.no_grad():
        logits = network[:4](x)[:, 0]
    assert bool((logits > 0).any())
    assert bool((logits < 0).any())
    for net in (network, nn.Sequential(network, nn.Flatten(0))):
        got = attribute(net.eval(), x)
        torch.testing.assert_close(got.target_value, logits.abs())
        torch.testing.assert_close(got.prediction, (logits > 0).long())
        torch.testing.assert_close(got.confidence, logits.abs().sigmoid())
        assert not got.nonpositive_target.any()
        rest = got.target_value - got.relevance.flatten(1).sum(1) - got.bias - got.lost
        assert float(rest.abs().max()) < 1e-10


@pytest.mark.parametrize("close", [lambda: nn.Softmax(dim=-1), lambda: nn.LogSoftmax(dim=1)])
@pytest.mark.parametrize("method", ["lrp", "gradient"])
def test_closing_softmax_is_stepped_over_and_noted(mlp, close, method):
    x = inputs(3, 3, 2, 2)
    plain = attribute(mlp, x, method=method)
    closed = attribute(nn.Sequential(mlp, close()).eval(), x, method=method)
    torch.testing.assert_close(closed.relevance, plain.relevance)
    torch.testing.assert_close(closed.confidence, plain.confidence)
    assert any("softmax was stepped over" in note for note in closed.notes)


def test_start_output_explains_the_probability(mlp):
    network = nn.Sequential(mlp, nn.Softmax(dim=-1)).eval()
    x = inputs(3, 3, 2, 2)
    got = attribute(network, x, method="gradient", start="output", target=1)
    torch.testing.assert_close(got.target_value, network(x)[:, 1].detach())


def test_contrast_without_a_dense_last_layer_starts_at_both_logits():
    network = seeded(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    got = attribute(network, inputs(2, 2, 5, 5), rules="epsilon")
    assert any("relevance starts at both logits" in note for note in got.notes)
    rest = got.target_value - got.relevance.flatten(1).sum(1) - got.bias - got.stabiliser - got.lost
    assert float(rest.abs().max()) < 1e-10


def test_several_inputs_give_several_relevances():
    one, two = seeded(nn.Linear(3, 4)), seeded(nn.Linear(5, 4), seed=1)

    def network(a, b):
        return (one(a) + two(b)).relu().sum(1, keepdim=True)

    a, b = inputs(3, 3), inputs(3, 5)
    got = attribute(network, (a, b), rules="epsilon", target=0)
    assert [r.shape for r in got.relevance] == [a.shape, b.shape]
    total = sum(r.sum(1) for r in got.relevance) + got.bias + got.stabiliser + got.lost
    torch.testing.assert_close(total, got.target_value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, "outside one sample's output"),
        ((0, 8, 0), "outside one sample's output"),
        (np.zeros((1, 8, 8), bool), "mask is empty"),
        (np.ones((2, 8, 8)), "fits neither"),
        (np.zeros((1, 3), int), "fewer rows"),
        ("predicted", "needs a classifier"),
        (True, "neither an index nor a mask"),
        (1.5, "of type float"),
    ],
)
def test_targets_that_do_not_fit_a_dense_output(unet, target, message):
    with pytest.raises(OptionError, match=message):
        attribute(unet, inputs(2, 3, 8, 8), target=target)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "label"}, OptionError, "needs labels"),
        ({"target": "label", "labels": [0, -1]}, OptionError, "1 samples have no label"),
        ({"target": "el_nino", "classes": ("la_nina", "neutral", "el_nnno")}, OptionError, "did you mean 'el_nnno'"),
        ({"score": "logits"}, OptionError, "did you mean 'logit'"),
        ({"method": "gradients"}, OptionError, "did you mean 'gradient'"),
        ({"batch_size": 0}, OptionError, "positive integer"),
        ({"method": "gradient", "eps": 1}, OptionError, "unknown option 'eps'"),
        ({"rules": "epsilon", "epss": 1}, OptionError, "did you mean 'eps'"),
    ],
)
def test_options_that_do_not_fit_a_classifier(mlp, options, error, message):
    with pytest.raises(error, match=message):
        attribute(mlp, inputs(2, 3, 2, 2), **options)


def test_inputs_that_cannot_be_explained(mlp):
    for x, message in (
        (torch.ones(2, 3, 2, 2, dtype=torch.int32), "expected floats"),
        (inputs(2, 3, 2, 2).masked_fill(torch.eye(2).bool(), float("nan")), "12 of 24 input values are NaN"),
        (torch.ones(0, 3, 2, 2), "at least one sample"),
    ):
        with pytest.raises(InputError, match=message):
            attribute(mlp, x)


def test_nonpositive_targets_are_flagged_once(caplog):
    network = seeded(ConvNet())
    x = inputs(6, 2, 8, 8)
    with torch.no_grad():
        value = network(x)[:, 1]
    got = attribute(network, x, target=1, batch_size=2)
    assert got.nonpositive_target.tolist() == (value <= 0).tolist()
    assert 0 < int(got.nonpositive_target.sum()) < 6
    assert len(caplog.records) == 1
    assert not attribute(network, x, target=1, rules="epsilon").nonpositive_target.any()
