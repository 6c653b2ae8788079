"""Recurrent layers: taken apart, they equal cells, networks written by hand, and the explicit loop of Arras et al."""

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute, rule_table
from geoxai.attribution.lrp.rules import Epsilon
from geoxai.errors import GeoxaiError
from tests.attribution.networks import inputs, seeded
from tests.attribution.test_account import gap

SMALL = Epsilon(eps=1e-9, bias="ignore")


class Layers(nn.Module):
    """A recurrent layer with a dense head on its last step."""

    def __init__(self, kind, **options):
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, batch_first=True, **options)
        self.head = nn.LazyLinear(2)
        self.head(self.layer(torch.zeros(1, 2, 3))[0][:, -1])

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Cells(nn.Module):
    """The same as one layer of it, stepped by hand with the layer's weights."""

    def __init__(self, network):
        super().__init__()
        layer = network.layer
        self.cell = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}[type(layer).__name__](3, 4).double()
        self.cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
        self.head = network.head

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class ByHand(nn.Module):
    """An LSTM as people write it: two dense layers, chunks, sigmoids."""

    def __init__(self, network):
        super().__init__()
        self.x, self.h = nn.Linear(3, 16).double(), nn.Linear(4, 16).double()
        weights = network.layer.state_dict()
        self.x.load_state_dict({"weight": weights["weight_ih_l0"], "bias": weights["bias_ih_l0"]})
        self.h.load_state_dict({"weight": weights["weight_hh_l0"], "bias": weights["bias_hh_l0"]})
        self.head = network.head

    def forward(self, x):
        h = c = torch.zeros(len(x), 4, dtype=x.dtype)
        for step in range(x.shape[1]):
            i, f, g, o = (self.x(x[:, step]) + self.h(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = c.tanh() * torch.sigmoid(o)
        return self.head(h)


class ConvLstm(nn.Module):
    """Frames (N, time, channel, y, x) to a map."""

    def __init__(self):
        super().__init__()
        self.gates, self.out = nn.Conv2d(2 + 3, 12, 3, padding=1), nn.Conv2d(3, 1, 1)

    def forward(self, x):
        h = c = x.new_zeros(len(x), 3, *x.shape[-2:])
        for frame in x.unbind(1):
            i, f, o, g = torch.split(self.gates(torch.cat([frame, h], 1)), 3, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


def arras(network, x, target, eps):
    """Relevance (time, feature), of biases, and of stabilisers: the loop of Arras et al. 2017, one sample, float64."""
    w_ih, w_hh, b_ih, b_hh = (p.detach().numpy() for p in network.layer.parameters())
    size = w_hh.shape[1]
    h, c, states = np.zeros(size), np.zeros(size), []
    for step in x:
        z = w_ih @ step + b_ih + w_hh @ h + b_hh
        i, f, o = (1 / (1 + np.exp(-z[k * size : (k + 1) * size])) for k in (0, 1, 3))
        g = z[2 * size : 3 * size]
        before, c = (h, c), f * c + i * np.tanh(g)
        states.append((step, *before, i, f, g, c))
        h = o * np.tanh(c)
    account = np.zeros(2)

    def linear(below, weights, bias, z, upper):
        stable = z + eps * np.where(z >= 0, 1, -1)
        account[0] += (bias / stable * upper).sum()
        account[1] += (eps * np.where(z >= 0, 1, -1) / stable * upper).sum()
        return (below[None] * weights / stable[:, None] * upper[:, None]).sum(0)

    weights, bias = network.head.weight.detach().numpy(), network.head.bias.detach().numpy()
    value = weights[target] @ h + bias[target]
    of_h = linear(h, weights[target : target + 1], bias[target : target + 1], np.array([value]), np.array([value]))
    of_c, found = np.zeros(size), []
    part = slice(2 * size, 3 * size)
    for step, h, c_before, i, f, g, c in reversed(states):
        of_c = of_c + of_h
        stable = c + eps * np.where(c >= 0, 1, -1)
        if np.any(c_before):
            account[1] += (eps * np.where(c >= 0, 1, -1) / stable * of_c).sum()
            of_g, of_c = i * np.tanh(g) / stable * of_c, f * c_before / stable * of_c
        else:
            of_g, of_c = of_c, 0 * of_c
        joined = linear(np.concatenate([step, h]), np.hstack([w_ih[part], w_hh[part]]), (b_ih + b_hh)[part], g, of_g)
        found.append(joined[: len(step)])
        of_h = joined[len(step) :]
    return np.stack(found[::-1]), account


@pytest.mark.parametrize("eps", [1e-3, 0.2])
def test_lstm_equals_the_explicit_loop(eps):
    network, x = seeded(Layers("LSTM")), inputs(2, 5, 3)
    got = attribute(network, x, rules=Epsilon(eps=eps), target=1)
    for number in range(2):
        wanted, account = arras(network, x[number].numpy(), 1, eps)
        np.testing.assert_allclose(got.relevance[number].numpy(), wanted, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose([float(got.bias[number]), float(got.stabiliser[number])], account, rtol=1e-8)


@pytest.mark.parametrize("rules", ["epsilon", "alpha1_beta0", "gamma", "flat"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_layer_equals_its_cell_stepped_by_hand(kind, rules):
    network, x = seeded(Layers(kind)), inputs(3, 4, 3)
    a, b = (attribute(n, x, rules=rules, target=0) for n in (network, Cells(network).eval()))
    torch.testing.assert_close(a.relevance, b.relevance)
    torch.testing.assert_close(a.bias, b.bias)


class LstmSteps(ByHand):
    """The input's part of all steps at once, and the cell state written in place."""

    def forward(self, x):
        h = c = torch.zeros(len(x), 4, dtype=x.dtype)
        of_x = self.x(x)
        for step in range(x.shape[1]):
            i, f, g, o = (of_x[:, step] + self.h(h)).split(4, -1)
            c = (torch.sigmoid(f) * c).add_(torch.sigmoid(i).mul(torch.tanh(g)))
            h = o.sigmoid() * torch.tanh(c)
        return self.head(h)


class GruByHand(nn.Module):
    """A GRU as people write it; ``after`` joins the candidate and the state before."""

    def __init__(self, network, after):
        super().__init__()
        self.x, self.h, self.after = nn.Linear(3, 12).double(), nn.Linear(4, 12).double(), after
        weights = network.layer.state_dict()
        self.x.load_state_dict({"weight": weights["weight_ih_l0"], "bias": weights["bias_ih_l0"]})
        self.h.load_state_dict({"weight": weights["weight_hh_l0"], "bias": weights["bias_hh_l0"]})
        self.head = network.head

    def forward(self, x):
        h = torch.zeros(len(x), 4, dtype=x.dtype)
        for step in x.unbind(1):
            reset, update, new = self.x(step).chunk(3, -1)
            reset_h, update_h, new_h = self.h(h).chunk(3, -1)
            update = torch.sigmoid(update + update_h)
            h = self.after(h, torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h), update)
        return self.head(h)


BY_HAND = {
    "LSTM": ("LSTM", ByHand),
    "LSTM by steps": ("LSTM", LstmSteps),
    "GRU": ("GRU", lambda n: GruByHand(n, lambda h, new, z: (1 - z) * new + z * h)),
    "GRU turned": ("GRU", lambda n: GruByHand(n, lambda h, new, z: z * h + new * (1 - z))),
    "GRU by difference": ("GRU", lambda n: GruByHand(n, lambda h, new, z: new + z * (h - new))),
    "GRU in place": ("GRU", lambda n: GruByHand(n, lambda h, new, z: (h - new).mul_(z).add_(new))),
    "GRU by lerp": ("GRU", lambda n: GruByHand(n, lambda h, new, z: torch.lerp(new, h, z))),
}


@pytest.mark.parametrize("policy", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("name", BY_HAND)
def test_written_by_hand_it_is_the_same_under_every_rule(name, policy):
    """The pre-activation of a step is one neuron, however many layers, slices and sums it is written in."""
    kind, by_hand = BY_HAND[name]
    network, x = seeded(Layers(kind)), inputs(2, 3, 3)
    for preset in ("zero", "epsilon", "gamma", "alpha2_beta1", "z_plus", "w_square", "epsilon_plus_flat"):
        a, b = (attribute(n, x, rules=preset, target=0, bias=policy) for n in (network, by_hand(network).eval()))
        torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-9, atol=1e-12, msg=preset)
        for term in ("bias", "stabiliser", "lost"):
            torch.testing.assert_close(getattr(a, term), getattr(b, term), rtol=1e-9, atol=1e-12, msg=preset)


def test_the_table_names_every_layer_of_a_sum():
    network, x = ByHand(seeded(Layers("LSTM"))).eval(), inputs(1, 2, 3)
    lines = [{"match": "linear", "path": "h", "rule": "zero"}, {"match": "all", "rule": "epsilon"}]
    rows = [(row.path, row.rule, row.why) for row in rule_table(network, x, lines) if row.op == "linear"]
    assert rows[0] == ("x", "epsilon(bias=absorb, eps=1e-06)", "match all of custom")  # the first state is a constant
    assert rows[1] == ("x + h", "zero(bias=absorb)", "match linear, path h of custom")


def test_a_layer_that_sees_a_first_state_adds_a_bias():
    """``r * (U h + c)`` with a first state h of zeros is a gate on a constant: r takes nothing, the constant all."""
    network, x = seeded(Layers("GRU")), inputs(2, 1, 3)
    w_ih, _, b_ih, b_hh = (p.detach() for p in network.layer.parameters())
    r, z = ((x[:, 0] @ w_ih.T + b_ih + b_hh)[:, k : k + 4].sigmoid() for k in (0, 4))
    new = (x[:, 0] @ w_ih[8:].T + b_ih[8:] + r * b_hh[8:]).unsqueeze(-1)
    gates = torch.tanh(new) / new * (1 - z)[..., None] * network.head.weight.detach().T[None]
    wanted = torch.einsum("nio,ik->nko", gates, w_ih[8:])[..., 1] * x[:, 0]
    for form in (network, GruByHand(network, lambda h, new, z: (1 - z) * new + z * h).eval()):
        torch.testing.assert_close(attribute(form, x, rules="zero", target=1).relevance[:, 0], wanted)


def test_two_ways_to_write_a_convlstm_are_one():
    network, x = seeded(ConvLstm()), inputs(2, 3, 2, 5, 5)
    weight = network.gates.weight

    def apart(x):
        h = c = x.new_zeros(len(x), 3, 5, 5)
        for frame in x.unbind(1):
            gates = F.conv2d(frame, weight[:, :2], network.gates.bias, padding=1) + F.conv2d(
                h, weight[:, 2:], padding=1
            )
            i, f, o, g = gates.split(3, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return network.out(h)

    for preset in ("zero", "epsilon", "gamma", "alpha2_beta1", "z_plus"):
        a, b = (attribute(n, x, rules=preset, target=(0, 2, 2)) for n in (network, apart))
        torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(a.bias, b.bias)


def test_what_torch_takes_apart_itself_agrees_where_steps_are_proportional():
    """``run_decompositions`` writes a step as a batched product, reshapes and sums: two maps, each a step of its own.

    LRP-0 is the same for any such splitting. A stabiliser enters at every step, which shows only where a sum is near 0;
    rules that tell signs apart see the signs of the partial sums, so their maps differ.
    """
    for kind in ("LSTM", "GRU"):
        network, x = seeded(Layers(kind)), inputs(3, 3, 3)
        parts = torch.export.export(network, (x,)).run_decompositions().module()
        difference = {}
        for preset in ("zero", "epsilon", "alpha2_beta1"):
            a, b = (attribute(n, x, rules=preset, target=0).relevance for n in (network, parts))
            difference[preset] = float((a - b).abs().max() / a.abs().max())
            assert gap(attribute(parts, x, rules=preset, target=0)) < 1e-10
        assert difference["zero"] < 1e-12
        assert difference["epsilon"] < 1e-3
        assert difference["alpha2_beta1"] > 1e-3


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"proj_size": 2}])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_account_and_conservation(kind, options):
    if kind != "LSTM" and "proj_size" in options:
        options = {"num_layers": 2, "bias": False}
    network, x = seeded(Layers(kind, **options)), inputs(3, 5, 3)
    for rules in ("epsilon", "alpha1_beta0", "gamma", "alpha2_beta1", "epsilon_plus_flat"):
        assert gap(attribute(network, x, rules=rules)) < 1e-10, rules
        assert gap(attribute(network.float(), x.float(), rules=rules)) < 1e-5, rules
        network.double()
    conserved(network, x, "predicted")


def conserved(network, x, target):
    got = attribute(network, x, rules=SMALL, target=target)
    torch.testing.assert_close(got.relevance.flatten(1).sum(1), got.target_value, rtol=1e-4, atol=0)
    assert not got.bias.any()


def test_convlstm_written_by_hand():
    network, x = seeded(ConvLstm()), inputs(2, 3, 2, 5, 5)
    for rules in ("epsilon", "alpha1_beta0", "gamma"):
        assert gap(attribute(network, x, rules=rules, target=(0, 2, 2))) < 1e-10
    conserved(network, x, (0, 2, 2))
    rows = rule_table(network, x, "epsilon")
    assert {row.rule for row in rows if row.op == "mul"} == {"signal takes all"}
    assert not any(row.op == "sigmoid" for row in rows)


def test_an_exported_lstm_equals_the_module():
    network, x = seeded(Layers("LSTM", bidirectional=True)), inputs(2, 3, 3)
    program = torch.export.export(network, (x,))
    wanted = attribute(network, x, rules="zero", target=0).relevance
    torch.testing.assert_close(attribute(program.module(), x, rules="zero", target=0).relevance, wanted)
    parts = program.run_decompositions().module()
    torch.testing.assert_close(attribute(parts, x, rules="zero", target=0).relevance, wanted, rtol=1e-6, atol=1e-9)


def test_bad_recurrent_cases_are_answered():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, [4] * len(x), batch_first=True)
            return self.layer(packed)[1][0][0]

    with pytest.raises(GeoxaiError, match=r"at layer|_pack_padded_sequence") as caught:
        attribute(seeded(Packed()), inputs(2, 4, 3), target=0)
    assert caught.value.fix
    with pytest.raises(GeoxaiError, match="mixes samples"):
        attribute(lambda x: seeded(nn.RNN(2, 4))(x.movedim(0, -1))[0].movedim(1, 0)[:2], inputs(2, 4, 2), target=(0, 0))


class Marked(nn.Module):
    """The network of the toy with known truth."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def marked_series(number, generator):
    """Series (N, 20, 4) with two steps marked in the last channel, the sum of the first there, and the steps."""
    x = torch.randn(number, 20, 4, generator=generator)
    steps = torch.rand(number, 20, generator=generator).topk(2, 1).indices
    x[..., 3] = torch.zeros(number, 20).scatter(1, steps, 1.0)
    return x, x[..., 0].gather(1, steps).sum(1, keepdim=True), steps


def test_relevance_finds_the_marked_steps():
    """Science notes 3g: the output is the sum of two marked values, so that is what relevance must find."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network, steps = Marked(), 900
    optimiser = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    for _ in range(steps):
        x, y, _ = marked_series(128, generator)
        loss = (network(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    assert loss.item() < 0.05
    x, _, at = marked_series(300, generator)
    network, x = network.double().eval(), x.double()
    got = attribute(network, x, rules=Epsilon(eps=1e-3), target=0)
    by_step = got.relevance.sum(-1)
    found, truth = by_step.gather(1, at), x[..., 0].gather(1, at)
    assert np.corrcoef(found.flatten(), truth.flatten())[0, 1] > 0.97
    assert float(found.abs().sum() / by_step.abs().sum()) > 0.65
    spread = attribute(network, x, rules=Epsilon(eps=1e-3, bias="distribute"), target=0)
    total = spread.relevance.flatten(1).sum(1) + spread.bias  # what the first state, a constant, got
    torch.testing.assert_close(total, spread.target_value, rtol=1e-6, atol=1e-9)
    assert not spread.stabiliser.any()
