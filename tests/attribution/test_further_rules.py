"""Every rule on linear operations beyond dense layers and convolutions equals the explicit loop over contributions.

Where an operation is linear only once statistics, gates or attention stand, the loop gets the matrix of that.
"""

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.attribution.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, Zero, ZPlus
from tests.attribution.networks import inputs
from tests.attribution.oracle import dense_matrix, relevance

RULES = [Zero, lambda bias: Epsilon(eps=0.3, bias=bias), lambda bias: Gamma(gamma=0.7, bias=bias),
         lambda bias: AlphaBeta(alpha=2, beta=1, bias=bias), ZPlus, Flat]  # fmt: skip
W = inputs(4, 5, seed=3)
B = inputs(5, seed=4)
SCALE, SHIFT = inputs(4, seed=5), inputs(4, seed=6)


def deviation(x, axes):
    return (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()


def layer_norm(x):
    """The operation, and what it is with its standard deviation standing: (linear part, bias)."""
    by = deviation(x, -1)
    return lambda u: (u - u.mean(-1, keepdim=True)) / by * SCALE, SHIFT.expand(x.shape[1:])


def group_norm(x):
    by = deviation(x.reshape(1, 2, -1), -1)

    def linear(u):
        grouped = u.reshape(len(u), 2, -1)
        return ((grouped - grouped.mean(-1, keepdim=True)) / by).reshape(u.shape) * SCALE[:, None, None]

    return linear, SHIFT[:, None, None].expand(x.shape[1:])


def instance_norm(x):
    by = deviation(x, (2, 3))
    return lambda u: (u - u.mean((2, 3), keepdim=True)) / by * SCALE[:, None, None], SHIFT[:, None, None]


def rms_norm(x):
    by = (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return lambda u: u / by * SCALE, torch.zeros(4, dtype=x.dtype)


def attention(x):
    weights = (x @ x.mT / 2).softmax(-1)
    return lambda u: weights @ u, torch.zeros(1, dtype=x.dtype)


def constant(linear, bias=None):
    return lambda x: (linear, torch.zeros(1, dtype=x.dtype) if bias is None else bias)


OPERATIONS = {
    "layer norm": (lambda x: F.layer_norm(x, (4,), SCALE, SHIFT), layer_norm, (3, 4), "norm"),
    "group norm": (lambda x: F.group_norm(x, 2, SCALE, SHIFT), group_norm, (4, 2, 2), "norm"),
    "instance norm": (lambda x: F.instance_norm(x, weight=SCALE, bias=SHIFT), instance_norm, (4, 2, 2), "norm"),
    "rms norm": (lambda x: F.rms_norm(x, (4,), SCALE, 1e-6), rms_norm, (3, 4), "norm"),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), attention, (3, 4), "average"),
    "bicubic": (lambda x: F.interpolate(x, size=(5, 3), mode="bicubic"),
                constant(lambda x: F.interpolate(x, size=(5, 3), mode="bicubic")), (1, 3, 4), "upsample"),
    "einsum": (lambda x: torch.einsum("...ci,io->...co", x, W), constant(lambda x: x @ W), (3, 4), "linear"),
    "einsum left": (lambda x: torch.einsum("oi,bic->boc", W.T, x), constant(lambda x: W.T @ x), (4, 3), "linear"),
    "einsum method order": (lambda x: torch.einsum("io,bic->bco", W, x), constant(lambda x: x.mT @ W), (4, 2),
                            "linear"),
    "tensordot": (lambda x: torch.tensordot(x, W, ([1], [0])), constant(lambda x: x.mT @ W), (4, 3), "linear"),
    "bmm": (lambda x: torch.bmm(x, W.expand(len(x), 4, 5)), constant(lambda x: x @ W), (3, 4), "linear"),
    "baddbmm": (lambda x: torch.baddbmm(B.expand(len(x), 3, 5), x, W.expand(len(x), 4, 5)),
                constant(lambda x: x @ W, B.expand(3, 5)), (3, 4), "linear"),
    "matmul and bias": (lambda x: (x @ W).add_(B), constant(lambda x: x @ W, B.expand(3, 5)), (3, 4), "linear"),
    "permuted bias": (lambda x: F.conv1d(x, W.T[:, :, None]).permute(0, 2, 1) + B,
                      constant(lambda x: (x.mT @ W), B.expand(3, 5)), (4, 3), "conv"),
    "replicate": (lambda x: F.conv1d(F.pad(x, (1, 1), mode="replicate"), W[:, :4, None]),
                  constant(lambda x: F.conv1d(F.pad(x, (1, 1), mode="replicate"), W[:, :4, None])), (4, 3), "conv"),
    "cumsum": (lambda x: x.cumsum(1), constant(lambda x: x.cumsum(1)), (5,), "average"),
    "index add": (lambda x: x.new_zeros(len(x), 3).index_add(1, torch.tensor([0, 2, 2, 0, 1]), x),
                  constant(lambda x: x.new_zeros(len(x), 3).index_add(1, torch.tensor([0, 2, 2, 0, 1]), x)), (5,),
                  "average"),
}  # fmt: skip


@pytest.mark.parametrize("policy", ["absorb", "ignore", "distribute"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_rule_equals_explicit_loop(name, policy):
    operation, standing, shape, group = OPERATIONS[name]
    x = inputs(2, *shape, seed=len(name))
    rules = [make(bias=policy) for make in RULES] + ([WSquare(bias=policy)] if group in ("linear", "conv") else [])
    for rule in rules:
        weights = inputs(*operation(x).shape[1:], seed=7)  # of both signs: sums of what a norm centred are 0
        got = attribute(operation, x, rules=rule, target=weights)
        for number in range(len(x)):
            one = x[number : number + 1]
            linear, bias = standing(one)
            matrix = dense_matrix(linear, shape)
            connected = matrix if group == "average" else (matrix != 0).astype(float)
            upper = operation(one)[0] * weights
            wanted, account = relevance(
                one.numpy().ravel(), matrix, bias.expand(upper.shape).numpy().ravel(), rule, upper.numpy().ravel(),
                connected, relative=group not in ("linear", "conv"),
            )  # fmt: skip
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(
                got.relevance[number].numpy().ravel(), wanted, rtol=1e-8, atol=1e-10 * scale, err_msg=str(rule)
            )
            terms = [float(t[number]) for t in (got.bias, got.stabiliser, got.lost)]
            np.testing.assert_allclose(terms, account, rtol=1e-7, atol=1e-9 * scale, err_msg=str(rule))


@pytest.mark.parametrize("policy", ["absorb", "ignore", "distribute"])
def test_a_recurrent_step_is_one_map_of_input_and_state(policy):
    cell = nn.RNNCell(4, 3).double().eval()
    x, h = inputs(2, 4), inputs(2, 3, seed=1)
    matrix = torch.cat([cell.weight_ih, cell.weight_hh], 1).detach().numpy()
    bias = (cell.bias_ih + cell.bias_hh).detach().numpy()
    for make in [*RULES, WSquare]:
        rule = make(bias=policy)
        got = attribute(cell, (x, h), rules=rule, target=torch.ones(3))
        for number in range(2):
            joined = torch.cat([x[number], h[number]]).numpy()
            upper = np.tanh(matrix @ joined + bias)
            wanted, account = relevance(joined, matrix, bias, rule, upper, np.ones_like(matrix))
            found = torch.cat([r[number] for r in got.relevance]).numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10, err_msg=str(rule))
            terms = [float(t[number]) for t in (got.bias, got.stabiliser, got.lost)]
            np.testing.assert_allclose(terms, account, rtol=1e-7, atol=1e-9, err_msg=str(rule))
