"""Every rule on every weighted operation equals the explicit loop over contributions."""

import itertools
import re

import numpy as np
import pytest
import torch
import torch.nn as nn

from geoxai.attribution import attribute
from geoxai.attribution.lrp import PRESET_NAMES, make_rule, parse_rules, rules
from geoxai.attribution.lrp.presets import PRESET_ADVICE
from geoxai.attribution.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, Zero, ZPlus
from geoxai.errors import OptionError
from tests.attribution.oracle import dense_matrix, relevance

LAYERS = {
    "linear": (lambda bias: nn.Linear(7, 4, bias=bias), (7,)),
    "linear on axes": (lambda bias: nn.Linear(3, 2, bias=bias), (4, 3)),
    "conv1d stride": (lambda bias: nn.Conv1d(2, 3, 3, stride=2, padding=1, bias=bias), (2, 7)),
    "conv2d padding": (lambda bias: nn.Conv2d(2, 3, 3, padding=1, bias=bias), (2, 4, 5)),
    "conv2d dilation": (lambda bias: nn.Conv2d(2, 2, 2, dilation=2, padding=(1, 0), bias=bias), (2, 4, 5)),
    "conv2d groups": (lambda bias: nn.Conv2d(4, 4, 3, groups=2, padding=1, stride=(1, 2), bias=bias), (4, 3, 4)),
    "conv2d depthwise": (lambda bias: nn.Conv2d(3, 6, (3, 2), groups=3, bias=bias), (3, 4, 4)),
    "conv2d same": (lambda bias: nn.Conv2d(2, 2, (2, 4), padding="same", bias=bias), (2, 4, 4)),
    "conv2d circular": (lambda bias: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", bias=bias), (2, 4, 4)),
    "conv2d reflect": (lambda bias: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect", bias=bias), (2, 4, 4)),
    "conv3d": (lambda bias: nn.Conv3d(1, 2, 2, padding=(1, 0, 1), bias=bias), (1, 2, 3, 3)),
    "transposed 1d": (
        lambda bias: nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1, bias=bias),
        (2, 4),
    ),
    "transposed 2d": (lambda bias: nn.ConvTranspose2d(2, 2, 3, stride=2, dilation=2, groups=2, bias=bias), (2, 2, 3)),
    "transposed 3d": (lambda bias: nn.ConvTranspose3d(2, 1, 2, stride=(1, 2, 1), bias=bias), (2, 2, 2, 2)),
}
RULES = [Zero, Epsilon, lambda bias: Epsilon(eps=0.3, bias=bias), lambda bias: Gamma(gamma=0.7, bias=bias), AlphaBeta,
         lambda bias: AlphaBeta(alpha=2, beta=1, bias=bias), ZPlus, Flat, WSquare]  # fmt: skip


def with_ones(layer):
    """The layer with weights one: its connectivity."""
    copy = type(layer).__new__(type(layer))
    copy.__dict__.update(layer.__dict__)
    copy._parameters = dict(layer._parameters)
    copy.weight = nn.Parameter(torch.ones_like(layer.weight))
    return copy


def without_bias(layer):
    def run(x):
        zero = layer(torch.zeros_like(x[:1]))
        return layer(x) - zero

    return run


def loop(layer, x, rule, low=None, high=None):
    with torch.no_grad():
        matrix = dense_matrix(without_bias(layer), x.shape[1:])
        connectivity = dense_matrix(without_bias(with_ones(layer)), x.shape[1:])
        bias = layer(torch.zeros_like(x[:1])).numpy().ravel()
        upper = layer(x).reshape(len(x), -1).numpy()
    box = {}
    if low is not None:
        box = {"low": np.broadcast_to(low, x.shape[1:]).ravel(), "high": np.broadcast_to(high, x.shape[1:]).ravel()}
    rows = [relevance(a.numpy().ravel(), matrix, bias, rule, r, connectivity, **box) for a, r in zip(x, upper)]
    return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])


def compare(layer, x, rule, low=None, high=None):
    with torch.no_grad():
        output_shape = layer(x).shape[1:]
    got = attribute(layer, x, rules=rule, target=np.ones(output_shape))
    wanted, account = loop(layer, x, rule, low, high)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(got.relevance.flatten(1).numpy(), wanted, rtol=1e-8, atol=1e-10 * scale)
    terms = np.stack([got.bias.numpy(), got.stabiliser.numpy(), got.lost.numpy()], axis=1)
    np.testing.assert_allclose(terms, account, rtol=1e-7, atol=1e-9 * scale)


def seeded_layer(name, bias):
    torch.manual_seed(len(name))
    make, shape = LAYERS[name]
    layer = make(bias).double().eval()
    return layer, torch.empty(2, *shape, dtype=torch.float64).uniform_(-2, 2)


@pytest.mark.parametrize("policy", ["none", "absorb", "ignore", "distribute"])
@pytest.mark.parametrize("name", LAYERS)
def test_rule_equals_explicit_loop(name, policy):
    layer, x = seeded_layer(name, policy != "none")
    for make in RULES:
        rule = make(bias="absorb" if policy == "none" else policy)
        if "reflect" in name and (policy == "distribute" or rule.name not in ("zero", "epsilon")):
            continue  # one input has several connections to a neuron: the dense matrix sums what the rule keeps apart
        compare(layer, x, rule)
        if name in ("linear", "conv2d padding", "transposed 2d"):
            compare(layer, x.clamp(min=0), rule)


@pytest.mark.parametrize("name", ["linear", "conv2d padding", "conv2d groups", "transposed 2d", "conv3d"])
def test_z_box_equals_explicit_loop(name):
    layer, x = seeded_layer(name, True)
    compare(layer, x, ZBox(low=-2.5, high=3.0), -2.5, 3.0)
    if x.ndim > 2:
        low = np.linspace(-3, -2.1, x.shape[1])
        high = np.linspace(2.1, 4, x.shape[1])
        channels = (-1, *[1] * (x.ndim - 2))
        compare(layer, x, ZBox(low=tuple(low), high=tuple(high)), low.reshape(channels), high.reshape(channels))


def test_z_box_per_channel_holds_for_a_dense_first_layer():
    torch.manual_seed(0)
    dense = nn.Linear(2 * 3 * 2, 4).double().eval().eval()
    x = torch.empty(3, 2, 3, 2, dtype=torch.float64).uniform_(-2, 2)
    low, high = (-2.0, -3.0), (2.0, 5.0)
    flat = attribute(
        dense, x.flatten(1), rules=ZBox(low=(-2.0,) * 6 + (-3.0,) * 6, high=(2.0,) * 6 + (5.0,) * 6), target=1
    )
    shaped = attribute(nn.Sequential(nn.Flatten(), dense).eval(), x, rules=ZBox(low=low, high=high), target=1)
    torch.testing.assert_close(shaped.relevance.flatten(1), flat.relevance, rtol=0, atol=0)


def test_z_box_per_channel_holds_for_a_sum_of_layers():
    first, second = seeded_layer("conv2d padding", True)[0], seeded_layer("conv2d padding", False)[0]
    both = nn.Conv2d(4, 3, 3, padding=1).double().eval()
    with torch.no_grad():
        both.weight[:], both.bias[:] = torch.cat([first.weight, second.weight], 1), first.bias
    x = torch.empty(3, 2, 4, 5, dtype=torch.float64).uniform_(-2, 2)
    low, high = (-2.0, -3.0), (2.0, 5.0)
    joined = attribute(lambda t: first(t) + second(t), x, rules=ZBox(low=low, high=high), target=(1, 2, 2))
    twin = attribute(lambda t: both(torch.cat([t, t], 1)), x, rules=ZBox(low=low * 2, high=high * 2), target=(1, 2, 2))
    torch.testing.assert_close(joined.relevance, twin.relevance)


def test_special_cases_of_z_box():
    layer, x = seeded_layer("linear", False)
    x = x.abs()
    plain = attribute(layer, x, rules="zero", target=0).relevance
    plus = attribute(layer, x, rules="z_plus", target=0).relevance
    torch.testing.assert_close(
        attribute(layer, x, rules=ZBox(low=-0.0, high=2.0), target=0).relevance.sum(1), plain.sum(1)
    )
    box = ZBox(low=0.0, high=tuple(x[0].tolist()))
    torch.testing.assert_close(attribute(layer, x[:1], rules=box, target=0).relevance, plus[:1])


def test_z_box_refuses_inputs_outside_the_box():
    layer, x = seeded_layer("linear", True)
    with pytest.raises(OptionError, match=r"inputs lie outside \[-1.0, 1.0\]"):
        attribute(layer, x, rules=[{"rule": "z_box", "low": -1, "high": 1}], target=0)


def test_unit_case_of_alpha_beta_with_bias():
    """w = (1, -1), b = -1, x = (1, 1), f = -1: iNNvestigate gives -1e7 here (science notes, trap 2)."""
    layer = nn.Linear(2, 1).double().eval().eval()
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, -1.0]])
        layer.bias[:] = -1
    x = torch.ones(1, 2, dtype=torch.float64)
    for preset, wanted in (("alpha1_beta0", [-1.0, 0.0]), ("alpha2_beta1", [-2.0, 0.5])):
        got = attribute(layer, x, rules=preset, target=0)
        np.testing.assert_allclose(got.relevance[0].numpy(), wanted)
        assert bool(got.nonpositive_target[0])


def test_alpha_beta_counts_relevance_without_receiver_as_lost():
    """Only positive contributions: alpha 2 hands out 2 R, and beta's -R has no receiver (science notes, trap 3)."""
    layer = nn.Linear(2, 1, bias=False).double().eval().eval()
    with torch.no_grad():
        layer.weight[:] = 1
    got = attribute(layer, torch.ones(1, 2, dtype=torch.float64), rules="alpha2_beta1", target=0)
    assert float(got.relevance.sum()) == pytest.approx(4)
    assert float(got.lost[0]) == pytest.approx(-2)


def test_gamma_runs_from_zero_to_z_plus():
    layer, x = seeded_layer("conv2d padding", False)
    x = x.abs()
    start = (1, 1, 1)
    small, none = (attribute(layer, x, rules=r, target=start).relevance for r in (Gamma(gamma=0), Zero()))
    torch.testing.assert_close(small, none)
    large, plus = (attribute(layer, x, rules=r, target=start) for r in (Gamma(gamma=1e6), ZPlus()))
    positive = plus.target_value > 0
    assert bool(positive.any())
    torch.testing.assert_close(large.relevance[positive], plus.relevance[positive], rtol=1e-4, atol=1e-4)


def test_w_square_does_not_depend_on_the_input():
    layer, x = seeded_layer("linear", False)
    maps = attribute(layer, x, rules="w_square", target=0)
    shares = maps.relevance / maps.target_value[:, None]
    torch.testing.assert_close(shares[0], shares[1])


def test_average_pooling_and_sums_share_by_activation():
    x = torch.tensor([[[1.0, 3.0, 0.0, 4.0]]], dtype=torch.float64)
    pooled = attribute(nn.AvgPool1d(2).eval(), x, rules="zero", target=np.ones((1, 2)))
    torch.testing.assert_close(pooled.relevance[0, 0], torch.tensor([0.5, 1.5, 0.0, 2.0], dtype=torch.float64))
    added = attribute(lambda t: t[:, :, :2] + t[:, :, 2:], x, rules="zero", target=np.ones((1, 2)))
    torch.testing.assert_close(added.relevance, x)
    equal = attribute(lambda t: t[:, :, :2] + t[:, :, 2:], x, rules="flat", target=np.ones((1, 2)))
    torch.testing.assert_close(equal.relevance[0, 0], torch.tensor([0.5, 3.5, 0.5, 3.5], dtype=torch.float64))


def test_batch_norm_is_a_diagonal_map_with_its_own_bias():
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(3).double().eval()
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    norm.eval()
    x = torch.randn(4, 3, dtype=torch.float64)
    got = attribute(norm, x, rules="zero", target=np.ones(3))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(got.relevance, (x * scale).detach())
    torch.testing.assert_close(got.bias, (norm(x) - x * scale).sum(1).detach())


@pytest.mark.parametrize(
    ("alpha", "beta", "fix"),
    [
        (2, -1, "alpha: 2, beta: 1"),
        (-1, 2, "alpha: 2, beta: 1"),
        (1, 1, "alpha 1 with beta 0"),
        (0.5, -0.5, "usual choices"),
    ],
)
def test_other_alpha_beta_conventions_are_refused_with_the_conversion(alpha, beta, fix):
    with pytest.raises(OptionError, match="alpha - beta = 1") as caught:
        AlphaBeta(alpha=alpha, beta=beta)
    assert fix in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("epsilom", "did you mean 'epsilon'"),
        ([{"match": "konv", "rule": "zero"}], "did you mean 'conv'"),
        ([{"rule": "gama"}], "did you mean 'gamma'"),
        ([{"rule": "epsilon", "epps": 1}], "did you mean 'eps'"),
        ([{"match": "all"}], "names no rule"),
        ([{"rule": "epsilon", "eps": -1}], "eps >= 0"),
        ([{"rule": "epsilon", "bias": "absorbed"}], "did you mean 'absorb'"),
        ([{"rule": "z_box", "low": 0.5, "high": 1}], "low <= 0 <= high"),
        ([{"rule": "z_box", "low": 0}], "needs 'high'"),
        ("z_box", "needs 'low'"),
        ([], "preset name or a list"),
        (["epsilon"], "must be a mapping"),
    ],
)
def test_bad_rule_lists_say_what_is_wrong(spec, message):
    with pytest.raises(OptionError, match=message):
        parse_rules(spec)


def test_rules_are_hashable_printable_and_picklable():
    import pickle

    rules = [
        make_rule(name) for name in ("zero", "epsilon", "gamma", "alpha_beta", "z_plus", "flat", "w_square", "pass")
    ]
    rules.append(make_rule("z_box", low=[0, -1], high=1))
    assert len(set(rules)) == len(rules)
    assert pickle.loads(pickle.dumps(rules)) == rules
    assert all(rule.name in str(rule) for rule in rules)
    assert all(a != b for a, b in itertools.combinations(rules, 2))


def test_every_rule_says_when_to_use_it_and_cites_its_paper():
    advice = {name: rule.advice for name, rule in rules.RULES.items()} | PRESET_ADVICE
    assert {name for name, words in advice.items() if not rules.papers([words])} == {"pass", "fold"}
    assert set(PRESET_ADVICE) <= set(PRESET_NAMES)
    assert all(re.fullmatch(r"doi:10\.\d{4,5}/\S+|arXiv:\d{4}\.\d{5}", doi) for doi in rules.PAPERS.values())
