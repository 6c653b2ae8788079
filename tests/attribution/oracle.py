"""The slow truth: every rule as an explicit float64 sum over contributions, on an operation's dense matrix.

Nothing of the package is used here but the rules' names. A linear operation becomes a matrix by running it on unit
vectors, its connectivity by running it with weights of one.
"""

import numpy as np
import torch


def dense_matrix(operation, input_shape):
    """Matrix (outputs, inputs) of a linear operation without bias, from unit vectors."""
    size = int(np.prod(input_shape))
    columns = operation(torch.eye(size, dtype=torch.float64).reshape(size, *input_shape))
    return columns.reshape(size, -1).T.numpy()


def sign(z):
    return 1.0 if z >= 0 else -1.0


def ratio(a, b):
    return a / b if b != 0 else 0.0


def shares(a, w, b, rule, connected, low=None, high=None, relative=False):
    """Shares of one neuron's relevance: (per input, bias, stabiliser). ``relative``: signs are told relative to the
    output's, as at sums, averages and norms.
    """
    z_i = a * w
    number = connected.sum() or 1.0  # a neuron in a gap of a strided transposed convolution has no input
    if rule.bias == "ignore":
        b = 0.0
    z = z_i.sum() + b
    bias_share = stabiliser_share = 0.0
    if rule.name in ("zero", "epsilon"):
        stabiliser = getattr(rule, "eps", 0.0) * sign(z)
        share = np.array([ratio(c, z + stabiliser) for c in z_i])
        bias_share, stabiliser_share = ratio(b, z + stabiliser), ratio(stabiliser, z + stabiliser)
    elif rule.name == "gamma":
        favoured = (lambda c: c > 0) if z > 0 else (lambda c: c < 0)
        weighted = [c * (1 + rule.gamma * favoured(c)) for c in z_i]
        weighted_bias = b * (1 + rule.gamma * favoured(b))
        total = 0.0 if z == 0 else sum(weighted) + weighted_bias
        share = np.array([ratio(c, total) for c in weighted])
        bias_share = ratio(weighted_bias, total)
    elif rule.name in ("alpha_beta", "z_plus"):
        alpha, beta = getattr(rule, "alpha", 1.0), getattr(rule, "beta", 0.0)
        of_output = sign(z) if relative else 1.0
        z_i, b = z_i * of_output, b * of_output
        up = sum(c for c in z_i if c > 0) + max(b, 0)
        down = sum(c for c in z_i if c < 0) + min(b, 0)
        share = np.array([alpha * ratio(max(c, 0), up) - beta * ratio(min(c, 0), down) for c in z_i])
        bias_share = alpha * ratio(max(b, 0), up) - beta * ratio(min(b, 0), down)
    elif rule.name == "flat":
        share = connected / number
    elif rule.name == "w_square":
        share = np.array([ratio(v * v, (w * w).sum()) for v in w])
    elif rule.name == "z_box":
        terms = [c - lo * max(v, 0) - hi * min(v, 0) for c, v, lo, hi in zip(z_i, w, low, high)]
        share = np.array([ratio(t, sum(terms)) for t in terms])
    else:
        raise ValueError(rule.name)
    if rule.bias == "distribute":
        share = share + (bias_share + stabiliser_share) * connected / number
        bias_share = stabiliser_share = 0.0
    return share, bias_share, stabiliser_share


def relevance(a, matrix, bias, rule, upper, connectivity, low=None, high=None, relative=False):
    """Relevance of the inputs and the account (bias, stabiliser, lost) of one sample."""
    lower = np.zeros_like(a)
    account = np.zeros(3)
    for j, row in enumerate(matrix):
        share, of_bias, of_stabiliser = shares(a, row, bias[j], rule, connectivity[j], low, high, relative)
        lower += share * upper[j]
        account += np.array([of_bias, of_stabiliser, 1 - share.sum() - of_bias - of_stabiliser]) * upper[j]
    return lower, account
