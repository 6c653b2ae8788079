"""One network written in many ways gives one map: a linear map and its bias are one neuron however they are written."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from tests.attribution.detached import check
from tests.attribution.networks import ConvNet, ConvNet3d, Residual, inputs, seeded

RULES = {
    "epsilon_plus": {"rules": "epsilon_plus"},
    "epsilon": {"rules": "epsilon", "eps": 0.05},
    "epsilon distributes": {"rules": "epsilon", "bias": "distribute"},
    "epsilon ignores": {"rules": "epsilon", "bias": "ignore"},
    "zero": {"rules": "zero"},
    "gamma": {"rules": "gamma", "gamma": 0.5},
    "gamma ignores": {"rules": "gamma", "bias": "ignore"},
    "z_plus distributes": {"rules": "z_plus", "bias": "distribute"},
    "alpha1_beta0": {"rules": "alpha1_beta0"},
    "alpha2_beta1": {"rules": "alpha2_beta1"},
    "alpha2_beta1 distributes": {"rules": "alpha2_beta1", "bias": "distribute"},
    "alpha2_beta1 ignores": {"rules": "alpha2_beta1", "bias": "ignore"},
    "flat": {"rules": "flat"},
    "w_square": {"rules": "w_square"},
    "epsilon_plus_flat": {"rules": "epsilon_plus_flat"},
    "epsilon_alpha2_beta1": {"rules": "epsilon_alpha2_beta1"},
    "z_box": {"rules": "z_box", "low": -5.0, "high": 5.0},
    "deep_taylor": {"rules": "deep_taylor", "low": -5.0, "high": 5.0},
    "attnlrp": {"rules": "attnlrp"},
    "reference": {"rules": "epsilon_plus", "reference": 0.3},
    "contrast": {"rules": "epsilon_plus", "score": "contrast"},
}
FEW = ("epsilon_plus", "alpha2_beta1", "gamma ignores", "flat", "reference", "contrast")


def same(network, written, x, rules=tuple(RULES), targets=(1,), tolerance=1e-9):
    """Map and account of ``written`` are those of ``network``."""
    torch.testing.assert_close(written(x.clone()), network(x.clone()), rtol=1e-12, atol=1e-12)
    for name in rules:
        for target in targets:
            wanted = attribute(network, x, target=target, **RULES[name])
            found = attribute(written, x, target=target, **RULES[name])
            size = max(float(wanted.relevance.abs().max()), 1e-30)
            off = float((found.relevance - wanted.relevance).abs().max()) / size
            assert off < tolerance, f"{name}: the map is off by {off:.2g} of its largest value"
            for part in ("bias", "stabiliser", "lost"):
                torch.testing.assert_close(
                    getattr(found, part), getattr(wanted, part), rtol=tolerance, atol=tolerance * size,
                    msg=lambda text, name=name, part=part: f"{name}, {part}: {text}",
                )  # fmt: skip


# --- dense layers on tokens (N, T, C), weight (outputs, inputs)

DENSE = {
    "linear": lambda x, w, b: F.linear(x, w, b),
    "matmul": lambda x, w, b: x @ w.T + b,
    "bias first": lambda x, w, b: b + torch.matmul(x, w.T),
    "difference": lambda x, w, b: x @ w.T - (-b),
    "torch.sub": lambda x, w, b: torch.sub(x @ w.T, b, alpha=-1),
    "difference the other way": lambda x, w, b: b - x @ -w.T,
    "alpha": lambda x, w, b: torch.add(x @ w.T, b / 2, alpha=2),
    "in place": lambda x, w, b: (x @ w.T).add_(b),
    "twice": lambda x, w, b: F.linear(x, w, b / 4) + b * 0.75,
    "negated": lambda x, w, b: -(x @ -w.T - b),
    "einsum": lambda x, w, b: torch.einsum("nti,oi->nto", x, w) + b,
    "einsum turned": lambda x, w, b: (torch.einsum("nti,oi->ont", x, w) + b[:, None, None]).permute(1, 2, 0),
    "tensordot": lambda x, w, b: torch.tensordot(x, w, dims=([2], [1])) + b,
    "bias behind a view": lambda x, w, b: ((x @ w.T).view(-1, len(w)) + b).view(*x.shape[:2], -1),
    "bias before a view": lambda x, w, b: (x.reshape(-1, x.shape[-1]) @ w.T + b).view(*x.shape[:2], -1),
    "bias between views": lambda x, w, b: (x.reshape(-1, x.shape[-1]) @ w.T).view(*x.shape[:2], -1) + b,
    "flat bias": lambda x, w, b: ((x @ w.T).flatten(1) + b.repeat(x.shape[1])).unflatten(1, (x.shape[1], -1)),
    "unsqueezed": lambda x, w, b: ((x @ w.T).unsqueeze(1) + b).squeeze(1),
    "expanded bias": lambda x, w, b: x @ w.T + b.expand(*x.shape[:2], -1),
    "bias of views": lambda x, w, b: x @ w.T + b.view(1, 1, -1).expand(1, x.shape[1], -1),
    "transposed": lambda x, w, b: ((x @ w.T).transpose(1, 2) + b[:, None]).transpose(1, 2),
    "transposed and flat": lambda x, w, b: (
        ((x @ w.T).transpose(1, 2).flatten(1) + b.repeat_interleave(x.shape[1])).unflatten(1, (len(w), -1)).mT
    ),
    "flipped": lambda x, w, b: ((x @ w.T).flip(2) + b.flip(0)).flip(2),
    "rolled": lambda x, w, b: ((x @ w.T).roll(1, 2) + b.roll(1)).roll(-1, 2),
    "from the left": lambda x, w, b: (w @ x.mT + b[:, None]).mT,
    "addmm": lambda x, w, b: torch.addmm(b, x.reshape(-1, x.shape[-1]), w.T).view(*x.shape[:2], -1),
    "addmm with factors": lambda x, w, b: torch.addmm(
        b * 2, x.flatten(0, 1), w.T / 3, beta=0.5, alpha=3
    ).reshape(*x.shape[:2], -1),
    "mm": lambda x, w, b: torch.mm(x.flatten(0, 1), w.T).unflatten(0, x.shape[:2]) + b,
    "bmm": lambda x, w, b: torch.bmm(x, w.T.expand(len(x), -1, -1)) + b,
    "baddbmm": lambda x, w, b: torch.baddbmm(b[None, None], x, w.T.expand(len(x), -1, -1)),
    "bmm as exports": lambda x, w, b: torch.bmm(
        x.expand(x.shape).view(x.shape), w.T.expand(len(x), -1, -1).reshape(len(x), *w.T.shape)
    ).view(*x.shape[:2], -1) + b,
    "convolution": lambda x, w, b: F.conv1d(x.mT, w[..., None], b).mT,
    "convolution and bias": lambda x, w, b: (F.conv1d(x.mT, w[..., None]) + b[:, None]).mT,
    "stacked": lambda x, w, b: torch.stack([t @ w.T + b for t in x.unbind(1)], 1),
}  # fmt: skip


class Tokens(nn.Module):
    """A small mixer of tokens: dense layers, a residual sum, an average, a head."""

    def __init__(self, dense):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.dense = dense

    def forward(self, x):
        h = F.relu(self.dense(x, self.first.weight, self.first.bias))
        h = h + F.gelu(self.dense(h, self.second.weight, self.second.bias))
        return self.dense(h, self.last.weight, self.last.bias).mean(1)


class Single(Tokens):
    """Dense layers on (N, C), which forms for tokens see as (N, 1, C)."""

    def forward(self, x):
        h = F.relu(self.dense(x.unsqueeze(1), self.first.weight, self.first.bias))
        h = F.relu(self.dense(h, self.second.weight, self.second.bias))
        return self.dense(h, self.last.weight, self.last.bias).squeeze(1)


@pytest.mark.parametrize("form", [name for name in DENSE if name != "linear"])
@pytest.mark.parametrize("made", [Tokens, Single])
def test_a_dense_layer_in_any_form(made, form):
    network, written = seeded(made(DENSE["linear"])), seeded(made(DENSE[form]))
    x = inputs(2, 3, 4) if made is Tokens else inputs(3, 4)
    rules = RULES if made is Tokens else FEW
    rules = [r for r in rules if not form.startswith("convolution") or r in CONV_IS_DENSE]
    same(network, written, x, rules)
    check(written, x, 1)


CONV_IS_DENSE = ("epsilon", "epsilon distributes", "zero", "gamma", "alpha1_beta0", "alpha2_beta1 ignores", "flat")


@pytest.mark.parametrize("made", [Tokens, Single])
@pytest.mark.parametrize(
    "form", ["linear", "matmul", "einsum", "bmm", "baddbmm", "bias behind a view", "from the left"]
)
def test_a_dense_layer_exported(made, form):
    network, written = seeded(made(DENSE["linear"])), seeded(made(DENSE[form]))
    x = inputs(2, 3, 4) if made is Tokens else inputs(3, 4)
    program = torch.export.export(written, (x,))
    same(network, program.module(), x, FEW)
    same(network, program.run_decompositions().module(), x, FEW)


# --- convolutions

CONVOLUTIONS = {
    "module": lambda x, w, b: F.conv2d(x, w, b, padding=1),
    "bias": lambda x, w, b: F.conv2d(x, w, padding=1) + b[:, None, None],
    "difference": lambda x, w, b: F.conv2d(x, w, padding=1) - (-b)[:, None, None],
    "channels last": lambda x, w, b: (F.conv2d(x, w, padding=1).permute(0, 2, 3, 1) + b).permute(0, 3, 1, 2),
    "flat": lambda x, w, b: (F.conv2d(x, w, padding=1).flatten(2) + b[:, None]).unflatten(2, x.shape[2:]),
    "flat last": lambda x, w, b: (
        (F.conv2d(x, w, padding=1).flatten(2).mT + b).mT.reshape(len(x), -1, *x.shape[2:])
    ),
    "tokens": lambda x, w, b: (
        (F.conv2d(x, w, padding=1).permute(0, 2, 3, 1).reshape(-1, len(w)) + b)
        .reshape(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
    ),
    "unsqueezed": lambda x, w, b: (F.conv2d(x, w, padding=1).unsqueeze(2) + b[:, None, None, None]).squeeze(2),
    "same": lambda x, w, b: F.conv2d(x, w, b, padding="same"),
    "padded": lambda x, w, b: F.conv2d(F.pad(x, (1, 1, 1, 1)), w) + b.view(1, -1, 1, 1),
    "one more axis": lambda x, w, b: (
        F.conv3d(x.unsqueeze(2), w.unsqueeze(2), padding=(0, 1, 1)) + b.view(-1, 1, 1, 1)
    ).squeeze(2),
    "aten": lambda x, w, b: torch.ops.aten.convolution(
        x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1
    ) + b.view(1, -1, 1, 1).expand(1, -1, *x.shape[2:]),
}  # fmt: skip


class Images(nn.Module):
    """Convolutions with and without a norm, then a dense head."""

    def __init__(self, convolve, norm=None):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(3, 3)
        self.convolve, self.normalise = convolve, norm

    def forward(self, x):
        h = self.convolve(x, self.one.weight, self.one.bias)
        if self.normalise is not None:
            n = self.norm
            h = self.normalise(h, n.running_mean, n.running_var, n.weight, n.bias, n.eps)
        h = F.relu(h)
        h = F.relu(self.convolve(h, self.two.weight, self.two.bias))
        return self.head(h.mean((2, 3)))


# rules that give relevance also where the input is 0, as it is in a margin
PADDING_SEEN = ("flat", "w_square", "z_box", "deep_taylor", "distributes")


@pytest.mark.parametrize("form", [name for name in CONVOLUTIONS if name != "module"])
def test_a_convolution_in_any_form(form):
    network, written = seeded(Images(CONVOLUTIONS["module"])), seeded(Images(CONVOLUTIONS[form]))
    rules = [
        r
        for r in RULES
        if form != "padded" or not r.endswith(("flat", "z_box", "deep_taylor", "distributes", "square"))
    ]
    same(network, written, inputs(2, 2, 5, 4), rules)
    check(written, inputs(2, 2, 5, 4), 1)


def shaped(t):
    return t.view(1, -1, 1, 1)


NORMS = {
    "module": lambda x, m, v, w, b, e: F.batch_norm(x, m, v, w, b, eps=e),
    "written out": lambda x, m, v, w, b, e: (
        (x - shaped(m)) * shaped((v + e).rsqrt()) * shaped(w) + shaped(b)
    ),
    "divided": lambda x, m, v, w, b, e: (x - shaped(m)) / shaped((v + e).sqrt()) * shaped(w) + shaped(b),
    "without weights": lambda x, m, v, w, b, e: (x - shaped(m - b / w * (v + e).sqrt())) * shaped(w / (v + e).sqrt()),
    "scale by scale": lambda x, m, v, w, b, e: (
        x * shaped(w) / shaped((v + e).sqrt()) + shaped(b - m * w / (v + e).sqrt())
    ),
    "scale first": lambda x, m, v, w, b, e: (x - shaped(m)) * shaped(w / (v + e).sqrt()) + shaped(b),
    "scale and shift": lambda x, m, v, w, b, e: (
        x * shaped(w / (v + e).sqrt()) + shaped(b - m * w / (v + e).sqrt())
    ),
    "difference": lambda x, m, v, w, b, e: x * shaped(w / (v + e).sqrt()) - shaped(m * w / (v + e).sqrt() - b),
    "channels last": lambda x, m, v, w, b, e: (
        ((x.permute(0, 2, 3, 1) - m) * (w / (v + e).sqrt()) + b).permute(0, 3, 1, 2)
    ),
}  # fmt: skip


def of_images(convolve, norm):
    """The network with a norm that scales each channel by another factor, one of them negative."""
    network = seeded(Images(convolve, norm))
    with torch.no_grad():
        network.norm.weight.copy_(torch.tensor([0.5, -1.2, 2.0, 0.8]))
    return network


@pytest.mark.parametrize("options", [{}, {"norm": "fold"}, {"norm": "pass"}])
@pytest.mark.parametrize("form", [name for name in NORMS if name != "module"])
def test_a_batch_norm_in_any_form(form, options, monkeypatch):
    convolve = CONVOLUTIONS["module"]
    network, written = of_images(convolve, NORMS["module"]), of_images(convolve, NORMS[form])
    x = inputs(2, 2, 5, 4)
    for name, given in RULES.items():
        monkeypatch.setitem(RULES, name, given | options)
    same(network, written, x, FEW if options else RULES)
    check(written, x, 1)


@pytest.mark.parametrize("form", ["module", "channels last", "flat last", "bias"])
@pytest.mark.parametrize("norm", [None, "module", "divided"])
def test_a_convolution_exported(form, norm):
    normalise = None if norm is None else NORMS[norm]
    network = of_images(CONVOLUTIONS["module"], normalise and NORMS["module"])
    written = of_images(CONVOLUTIONS[form], normalise)
    x = inputs(2, 2, 5, 4)
    program = torch.export.export(written, (x,))
    same(network, program.module(), x, FEW)
    same(network, program.run_decompositions().module(), x, FEW)


class Block(nn.Module):
    """Attention and a feed-forward part behind layer norms, on patches with positions."""

    def __init__(self):
        super().__init__()
        self.patches, self.positions = nn.Conv2d(2, 8, 2, 2), nn.Parameter(torch.zeros(4, 8))
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT + self.positions
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


class Cell(nn.Module):
    """A recurrent cell by hand."""

    def __init__(self):
        super().__init__()
        self.below, self.before, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = torch.zeros(len(x), 5, dtype=x.dtype)
        for step in x.unbind(1):
            h = torch.tanh(self.below(step) + self.before(h))
        return self.head(h)


WHOLE = {
    "block": (Block, (2, 2, 4, 4)),
    "cell": (Cell, (2, 3, 4)),
    "residual": (Residual, (2, 2, 8, 8)),
    "conv net": (ConvNet, (2, 2, 8, 8)),
    "conv net 3d": (ConvNet3d, (2, 1, 3, 6, 6)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_decomposed_exports_give_the_map_of_the_module(name):
    make, shape = WHOLE[name]
    network, x = seeded(make()), inputs(*shape)
    written = torch.export.export(network, (x,)).run_decompositions().module()
    same(network, written, x, [rules for rules in RULES if rules != "attnlrp" or name != "block"])
    if name == "block":  # scores are scaled before or after their product: its stabiliser weighs otherwise
        same(network, written, x, ["attnlrp"], tolerance=1e-4)
