"""Gates and attention: in a product the signal takes all, however the network is written."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute, rule_table
from geoxai.attribution.lrp.rules import Epsilon
from geoxai.attribution.result import unaccounted
from geoxai.errors import GeoxaiError
from tests.attribution.networks import inputs, seeded
from tests.attribution.test_account import gap

SMALL = Epsilon(eps=1e-9, bias="ignore")


class SelfAttention(nn.Module):
    """One network, written in several ways by ``form``; (N, tokens, 8)."""

    def __init__(self, form="module"):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.form = form

    def forward(self, x):
        if self.form == "module":
            return self.attention(x, x, x)[0]
        own = self.attention
        q, k, v = F.linear(x, own.in_proj_weight, own.in_proj_bias).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        if self.form == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.form == "einsum":
            weights = torch.einsum("bhqd,bhkd->bhqk", q * 0.5, k).softmax(-1)
            mixed = torch.einsum("bhqk,bhkd->bhqd", weights, v)
        elif self.form == "bmm":
            q, k, v = (t.reshape(-1, *t.shape[2:]) for t in (q, k, v))
            scores = torch.bmm(q, k.transpose(1, 2)).mul_(0.5)
            scores = (scores - scores.amax(-1, keepdim=True)).exp_()
            mixed = torch.bmm(scores / scores.sum(-1, keepdim=True), v).reshape(len(x), 2, *v.shape[1:])
        else:
            mixed = F.dropout(torch.softmax(q @ k.mT / 2, -1), 0.1, False) @ v
        return own.out_proj(mixed.transpose(1, 2).flatten(2))


class VisionTransformer(nn.Module):
    """Patches of maps, a class token, positions, two encoder layers."""

    def __init__(self, norm_first=True):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.position
        return self.head(self.encoder(tokens)[:, 0])


class Excited(nn.Module):
    """Squeeze and excitation, channels gated by their means."""

    def __init__(self):
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(2, 4, 3), nn.Linear(4, 2), nn.Linear(2, 4)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = F.silu(self.norm(self.conv(x)))
        gate = torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3))).relu()))
        x = x * gate[:, :, None, None]
        return self.head(x.mean((2, 3)))


NETWORKS = {
    "attention": (SelfAttention, (2, 5, 8), (1, 3)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8), (1, 3)),
    "vision transformer": (VisionTransformer, (2, 3, 8, 8), "predicted"),
    "norm last": (lambda: VisionTransformer(norm_first=False), (2, 3, 8, 8), "predicted"),
    "squeeze and excite": (Excited, (2, 2, 6, 6), "predicted"),
    "gated linear unit": (lambda: nn.Sequential(nn.Linear(4, 8), nn.GLU(), nn.Linear(4, 2)), (3, 4), 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_account_conservation_and_export(name):
    make, shape, target = NETWORKS[name]
    network, x = seeded(make()), inputs(*shape)
    for rules in ("epsilon", "alpha1_beta0", "gamma", "alpha2_beta1", "epsilon_plus_flat"):
        assert gap(attribute(network, x, rules=rules, target=target)) < 1e-10, rules
        assert gap(attribute(network.float(), x.float(), rules=rules, target=target)) < 1e-5, rules
        network.double()
    got = attribute(network, x, rules=SMALL, target=target)
    # positions and the class token are constants of the network, not biases: what they take stays theirs
    torch.testing.assert_close(got.relevance.flatten(1).sum(1) + got.bias, got.target_value, rtol=1e-4, atol=0)
    program = torch.export.export(network, (x,))
    for exported in (program.module(), program.run_decompositions().module()):
        again = attribute(exported, x, rules=SMALL, target=target).relevance
        torch.testing.assert_close(again, got.relevance, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", ["fused", "einsum", "bmm", "matmul"])
@pytest.mark.parametrize("rules", ["epsilon", "alpha2_beta1", "flat"])
def test_attention_is_the_same_however_it_is_written(form, rules):
    x = inputs(3, 5, 8)
    wanted, got = (attribute(seeded(SelfAttention(f)), x, rules=rules, target=(2, 3)) for f in ("module", form))
    torch.testing.assert_close(got.relevance, wanted.relevance)
    torch.testing.assert_close(got.bias, wanted.bias)


def test_relevance_goes_through_the_values_alone():
    """With queries, keys and values of their own: attention is an average of the values, what sets it gets nothing."""
    q, k, v = (inputs(2, 4, 3, seed=s) for s in range(3))
    got = attribute(F.scaled_dot_product_attention, (q, k, v), rules="zero", target=(1, 2))
    weights = (q @ k.mT / 3**0.5).softmax(-1)[:, 1, :]
    torch.testing.assert_close(got.relevance[2][..., 2], weights * v[..., 2])
    assert not got.relevance[0].any()
    assert not got.relevance[1].any()


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask and attn_mask is deprecated")
@pytest.mark.parametrize("masked", [{"attn_mask": torch.ones(5, 5).triu(1).bool()},
                                    {"key_padding_mask": torch.eye(3, 5).bool()},
                                    {"attn_mask": torch.ones(6, 5, 5).triu(1) * -1e9,
                                     "key_padding_mask": torch.eye(3, 5).bool()}])  # fmt: skip
def test_masked_attention_computes_what_torch_does(masked):
    network, x = seeded(nn.MultiheadAttention(8, 2, batch_first=True)), inputs(3, 5, 8)
    if "key_padding_mask" in masked and "attn_mask" in masked:
        masked = {**masked, "attn_mask": masked["attn_mask"].double()}
    got = attribute(lambda t: network(t, t, t, **masked)[0], x, rules="zero", target=(4, 1))
    with torch.no_grad():
        torch.testing.assert_close(got.prediction, network(x, x, x, **masked)[0])
    torch.testing.assert_close(got.relevance.flatten(1).sum(1) + got.bias, got.target_value)
    if "key_padding_mask" in masked:
        assert not got.relevance[0, 0].any()


@pytest.mark.parametrize(
    "gated",
    [
        lambda a, b: a * torch.sigmoid(b), lambda a, b: torch.sigmoid(b).mul(a), lambda a, b: a * (1 - b.sigmoid()),
        lambda a, b: a.clone().mul_(F.hardsigmoid(b)), lambda a, b: F.softmax(b, -1) * a * 2,
        lambda a, b: a / b.exp().sum(1, keepdim=True), lambda a, b: a * torch.rsqrt(b * b),
        lambda a, b: a * (b.sigmoid() * a.sigmoid()), lambda a, b: a * 0.5 * (1 + torch.erf(b)),
        lambda a, b: F.glu(torch.cat([a, b], 1)), lambda a, b: a / (b.abs() + 1), lambda a, b: a * b.sigmoid()[:, :1],
        lambda a, b: a * F.relu6(a + 3) / 6, lambda a, b: a * a,
    ],
)  # fmt: skip
def test_the_gate_is_what_came_through_a_gating_function(gated):
    a, b = inputs(3, 4), inputs(3, 4, seed=1)
    got = attribute(gated, (a, b), rules="zero", target=2)
    with torch.no_grad():
        torch.testing.assert_close(got.relevance[0][:, 2], gated(a, b)[:, 2])
    assert not got.relevance[1].any()


@pytest.mark.parametrize(
    "product",
    [lambda a, b: a * b, lambda a, b: a.tanh() * b.tanh(), lambda a, b: a.sigmoid() * b.sigmoid(),
     lambda a, b: (a[:, None] @ b[:, :, None])[:, 0], lambda a, b: torch.einsum("bi,bi->bi", a, b),
     lambda a, b: (a[:, None].expand(-1, 3, -1) @ a[:, None].expand(-1, 3, -1).relu())[:, 0]],
)  # fmt: skip
def test_products_without_a_gate_are_refused(product):
    with pytest.raises(GeoxaiError, match="gate") as caught:
        attribute(product, (inputs(2, 3), inputs(2, 3, seed=1)), target=0)
    assert "(2, " in str(caught.value)
    assert caught.value.fix


def test_a_softmax_that_is_not_a_gate_is_refused():
    dense = seeded(nn.Linear(4, 2))
    with pytest.raises(GeoxaiError, match="softmax inside the network is a gate") as caught:
        attribute(nn.Sequential(nn.Softmax(1), dense).eval(), inputs(2, 4), target=0)
    assert "start: logit" in caught.value.fix


def test_the_table_says_what_gates_do():
    rows = rule_table(seeded(VisionTransformer()), inputs(1, 3, 8, 8), "epsilon_plus")
    by_op = {row.op: row for row in rows}
    assert by_op["multi_head_attention_forward"].rule.startswith("z_plus")
    assert by_op["multi_head_attention_forward"].path.startswith("encoder.layers.1.self_attn")
    assert by_op["layer_norm"].path == "encoder.norm"
    assert "softmax" not in by_op


@pytest.mark.parametrize(
    "mix", [lambda w, v: w @ v, lambda w, v: torch.einsum("bij,bjk->bik", w, v), lambda w, v: (v.mT @ w.mT).mT]
)
def test_gates_of_both_signs_are_weights(mix):
    """Attention less its mean, as differential attention has it: alpha-beta must see the negative weights."""
    v, scores = inputs(2, 3, 4), inputs(2, 3, 3, seed=1)
    weights = scores.softmax(-1) - 1 / 3
    got = attribute(lambda a, b: mix(b.softmax(-1) - 1 / 3, a), (v, scores), rules="alpha2_beta1", target=(1, 2))
    terms = weights[:, 1, :] * v[..., 2]
    up, down = terms.clamp(min=0), terms.clamp(max=0)
    shares = 2 * up / up.sum(1, keepdim=True) - down / down.sum(1, keepdim=True)
    wanted = shares * terms.sum(1, keepdim=True)
    torch.testing.assert_close(got.relevance[0][..., 2], wanted)


GATE_FORMS = {
    "sigmoid": lambda y, x: torch.sigmoid(y),
    "expand_as": lambda y, x: torch.sigmoid(y[:, :1]).expand_as(x),
    "view_as": lambda y, x: torch.sigmoid(y.reshape(y.shape[0], -1)).view_as(x),
    "views and squeezes": lambda y, x: torch.sigmoid(y.flatten(1)).view(len(y), 4, 3, 1).squeeze(-1).contiguous(),
    "pooled": lambda y, x: torch.sigmoid(y).amax(-1, keepdim=True),
    "sum of sigmoids": lambda y, x: (torch.sigmoid(y) + torch.sigmoid(2 * y)) / 2,
    "hard sigmoid written out": lambda y, x: torch.nn.functional.relu6(y + 3) / 6,
    "clamped": lambda y, x: (y / 6 + 0.5).clamp(0, 1),
    "tanh": lambda y, x: torch.tanh(y),
    "softplus": lambda y, x: torch.nn.functional.softplus(y),
}


@pytest.mark.parametrize("form", GATE_FORMS)
def test_a_gate_is_recognised_however_it_is_written(form):
    """The signal takes all: its relevance is that of the network in which the gate is a constant."""
    torch.manual_seed(0)
    one, two = torch.nn.Linear(3, 3).double().eval(), torch.nn.Linear(3, 3).double().eval()
    x = inputs(2, 4, 3)
    with torch.no_grad():
        gate = GATE_FORMS[form](two(x), x)
    weights = inputs(4, 3, seed=3)
    found = attribute(lambda x: one(x) * GATE_FORMS[form](two(x), x), x, rules="zero", target=weights)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((one(leaf) * gate * weights).sum(), leaf)
    torch.testing.assert_close(found.relevance, gradient * x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "product",
    [lambda a, b: a * b, lambda a, b: torch.tanh(a) * torch.tanh(b), lambda a, b: torch.sigmoid(a) * torch.sigmoid(b),
     lambda a, b: a.relu() * b.relu()],
)  # fmt: skip
def test_the_remedies_for_products_work(product):
    torch.manual_seed(0)
    one, two = torch.nn.Linear(3, 3).double().eval(), torch.nn.Linear(3, 3).double().eval()
    x = inputs(2, 3)
    network = lambda x: product(one(x), two(x))  # noqa: E731
    with pytest.raises(GeoxaiError, match="takes the relevance is not defined") as caught:
        attribute(network, x, rules="epsilon", target=0)
    assert "{match: product, rule: uniform}" in caught.value.fix
    assert "attnlrp" in caught.value.fix
    for rules in ("attnlrp", [{"match": "product", "rule": "uniform"}, {"match": "all", "rule": "epsilon"}]):
        found = attribute(network, x, rules=rules, target=0)
        assert float(unaccounted(found).abs().max()) < 1e-9


@pytest.mark.parametrize(
    "network",
    [lambda x: x - x.mean(0, keepdim=True), lambda x: x @ torch.ones(3, 3).double() + x.flip(0),
     lambda x: torch.ones(1, len(x)).double() @ x + x],
)  # fmt: skip
def test_the_remedy_for_mixed_samples_works(network):
    x = inputs(2, 3)
    with pytest.raises(GeoxaiError, match="it mixes samples") as caught:
        attribute(network, x, rules="epsilon", target=0)
    assert "batch_size: 1" in caught.value.fix
    attribute(network, x, rules="epsilon", target=0, batch_size=1)
