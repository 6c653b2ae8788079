"""Preset attnlrp: relevance crosses attention weights and products (Achtibat et al. 2024), checked against explicit
loops and against the gradient x input it amounts to.
"""

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute, rule_table
from geoxai.attribution.lrp import Rule, parse_rules
from geoxai.errors import GeoxaiError, OptionError
from tests.attribution.networks import inputs, seeded
from tests.attribution.test_account import gap
from tests.attribution.test_gates import SelfAttention, VisionTransformer
from tests.attribution.test_operators import same

EXACT = [{"match": "softmax", "rule": "taylor"}, {"match": "product", "rule": "uniform", "eps": 0},
         {"match": "all", "rule": "zero"}]  # fmt: skip


def attention_loop(q, k, v, upper, eps):
    """Relevance of queries, keys and values of one head, and of the softmax' constants, term by term (float64)."""
    queries, keys, size = len(q), len(k), q.shape[1]
    scores = np.array([[sum(q[i] * k[j]) / size**0.5 for j in range(keys)] for i in range(queries)])
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    of_weights, of_v = np.zeros_like(weights), np.zeros_like(v)
    of_q, of_k = np.zeros_like(q), np.zeros_like(k)
    for i in range(queries):
        for p in range(v.shape[1]):
            z = sum(weights[i, j] * v[j, p] for j in range(keys))
            for j in range(keys):
                share = weights[i, j] * v[j, p] / (2 * z + eps * (1 if z >= 0 else -1)) * upper[i, p]
                of_weights[i, j] += share
                of_v[j, p] += share
    bias = 0.0
    for i in range(queries):
        for j in range(keys):
            of_score = scores[i, j] * (of_weights[i, j] - weights[i, j] * of_weights[i].sum())
            bias += of_weights[i, j] - of_score
            z = scores[i, j] * size**0.5
            for d in range(size):
                share = q[i, d] * k[j, d] / (2 * z + eps * (1 if z >= 0 else -1)) * of_score
                of_q[i, d] += share
                of_k[j, d] += share
    return of_q, of_k, of_v, bias


@pytest.mark.parametrize("form", ["fused", "matmul", "einsum"])
@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_attention_equals_the_explicit_loop(form, eps):
    q, k, v = inputs(1, 4, 3), inputs(1, 5, 3, seed=1), inputs(1, 5, 2, seed=2)
    weights = inputs(4, 2, seed=3)

    def attention(q, k, v):
        if form == "fused":
            return F.scaled_dot_product_attention(q, k, v)
        if form == "matmul":
            return (q @ k.mT / 3**0.5).softmax(-1) @ v
        return torch.einsum("bij,bjp->bip", F.softmax(torch.einsum("bid,bjd->bij", q, k) * 3**-0.5, -1), v)

    got = attribute(attention, (q, k, v), rules="attnlrp", eps=eps, target=weights)
    upper = (attention(q, k, v)[0] * weights).numpy()
    *wanted, bias = attention_loop(q[0].numpy(), k[0].numpy(), v[0].numpy(), upper, eps)
    for found, truth in zip(got.relevance, wanted):
        np.testing.assert_allclose(found[0].numpy(), truth, rtol=1e-9, atol=1e-12)
    assert float(got.bias[0]) == pytest.approx(bias, rel=1e-9)
    total = sum(r.sum() for r in got.relevance) + got.bias + got.stabiliser
    torch.testing.assert_close(total, got.target_value)


class AsGradient(nn.Module):
    """An encoder layer whose gradient x input is what attnlrp gives without stabilisers: gradients of products halved,
    of activations the ratio of output and input, standard deviations standing.
    """

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def norm(self, x, norm):
        deviation = (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias

    def forward(self, x):
        own = self.layer
        y = self.norm(x, own.norm1)
        attention = own.self_attn
        q, k, v = F.linear(y, attention.in_proj_weight, attention.in_proj_bias).unflatten(-1, (3, 2, 4)).permute(
            2, 0, 3, 1, 4)  # fmt: skip
        scores = halved(q @ k.mT) / 2
        mixed = halved(scores.softmax(-1) @ v)
        x = x + attention.out_proj(mixed.transpose(1, 2).flatten(2))
        y = own.linear1(self.norm(x, own.norm2))
        return x + own.linear2(y * (F.gelu(y) / y).detach())


def halved(product):
    return product / 2 + (product / 2).detach()


def test_without_stabilisers_it_is_a_gradient_x_input():
    layer = seeded(nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=True))
    x, weights = inputs(3, 5, 8), inputs(5, 8, seed=1)
    got = attribute(layer, x, rules=EXACT, target=weights)
    wanted = attribute(AsGradient(layer).eval(), x, method="gradient_x_input", target=weights)
    torch.testing.assert_close(got.relevance, wanted.relevance, rtol=1e-8, atol=1e-10)
    assert gap(got) < 1e-10
    gates = attribute(layer, x, rules="zero", target=weights)
    assert not torch.allclose(gates.relevance, got.relevance, rtol=1e-2)


class Gated(nn.Module):
    """A transformer's gated unit, and a product of two signals."""

    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


@pytest.mark.parametrize(
    ("make", "shape", "target"),
    [(VisionTransformer, (2, 3, 8, 8), "predicted"), (lambda: VisionTransformer(False), (2, 3, 8, 8), 1),
     (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8), (1, 3)), (Gated, (3, 4), 0),
     (SelfAttention, (2, 5, 8), (0, 1)),
     (lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), ((2, 4, 8), (2, 5, 8)), (1, 3))],
)  # fmt: skip
def test_the_account_closes_and_forms_agree(make, shape, target):
    network = seeded(make())
    x = tuple(inputs(*s) for s in shape) if isinstance(shape[0], tuple) else inputs(*shape)
    got = attribute(network, x, rules="attnlrp", target=target)
    relevance = got.relevance if isinstance(x, tuple) else (got.relevance,)
    rest = got.target_value - sum(r.flatten(1).sum(1) for r in relevance) - got.bias - got.stabiliser - got.lost
    assert float((rest / got.target_value.abs().clamp(min=1)).abs().max()) < 1e-10
    if not isinstance(x, tuple):
        program = torch.export.export(network, (x,))
        again = attribute(program.module(), x, rules="attnlrp", target=target)
        scale = float(got.relevance.abs().max())  # stabilisers enter before or after scores are scaled
        torch.testing.assert_close(again.relevance, got.relevance, rtol=1e-4, atol=1e-5 * scale)


def test_masks_hide_scores_however_they_are_written():
    x, hidden = inputs(2, 5, 8), torch.ones(5, 5).triu(1).bool()
    attention = seeded(nn.MultiheadAttention(8, 2, batch_first=True))
    infinite = torch.zeros(5, 5, dtype=torch.float64).masked_fill(hidden, -torch.inf)

    def by_hand(x, mask):
        q, k, v = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).unflatten(-1, (3, 2, 4)).permute(
            2, 0, 3, 1, 4)  # fmt: skip
        mixed = mask(q @ k.mT / 2).softmax(-1) @ v
        return attention.out_proj(mixed.transpose(1, 2).flatten(2))

    for other in (
        lambda x: attention(x, x, x, attn_mask=infinite)[0],
        lambda x: by_hand(x, lambda scores: scores.masked_fill(hidden, -torch.inf)),
        lambda x: by_hand(x, lambda scores: scores + infinite),
    ):
        same(lambda x: attention(x, x, x, attn_mask=hidden)[0], other, x, (3, 1), presets=["attnlrp"])
    got = attribute(lambda x: attention(x, x, x, attn_mask=hidden)[0], x, rules="attnlrp", target=(1, 2))
    assert not got.relevance[:, 2:].any()


def test_gates_stand_and_a_softmax_in_parts_is_refused():
    a, b = inputs(3, 4), inputs(3, 4, seed=1)
    for gated in (lambda a, b: a * b.sigmoid(), lambda a, b: a * torch.rsqrt(b.square().mean(1, keepdim=True))):
        got = attribute(gated, (a, b), rules="attnlrp", target=1)
        torch.testing.assert_close(got.relevance[0][:, 1], gated(a, b)[:, 1])
        assert not got.relevance[1].any()
    with pytest.raises(GeoxaiError, match="exp at the network"):
        attribute(seeded(SelfAttention("bmm")), inputs(2, 5, 8), rules="attnlrp", target=(0, 0))


def test_products_are_halved_and_the_table_says_so():
    a, b = inputs(3, 4), inputs(3, 4, seed=1)
    got = attribute(lambda a, b: a * b, (a, b), rules="attnlrp", target=1)
    for relevance in got.relevance:
        torch.testing.assert_close(relevance[:, 1], a[:, 1] * b[:, 1] / 2)
    rows = rule_table(seeded(SelfAttention("matmul")), inputs(1, 5, 8), "attnlrp")
    why = {row.op: (row.rule, row.why) for row in rows}
    assert why["softmax"] == ("taylor(bias=absorb)", "match softmax of attnlrp")
    assert why["matmul"][1] == "match product of attnlrp"


def test_what_does_not_fit_is_answered():
    network, x = seeded(SelfAttention("matmul")), inputs(1, 5, 8)
    products = [{"match": "product", "rule": "uniform"}, {"match": "all", "rule": "epsilon"}]
    with pytest.raises(GeoxaiError, match="softmax inside the network is a gate") as caught:
        attribute(network, x, rules=products, target=(0, 0))
    assert "attnlrp" in caught.value.fix
    for line in ({"match": "product", "rule": "epsilon"}, {"match": "linear", "rule": "uniform"},
                 {"match": "softmax", "rule": "uniform"}):  # fmt: skip
        lines = [line, {"match": "softmax", "rule": "taylor"}, *products]
        with pytest.raises(OptionError, match="does not apply to"):
            attribute(network, x, rules=lines, target=(0, 0))
    assert isinstance(parse_rules("attnlrp").lines[0].rule, Rule)
