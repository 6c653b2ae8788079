"""Operations beyond the common ones: accounts close, relevance is conserved, forms and layouts give one result."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute, rule_table
from geoxai.attribution.lrp.rules import Epsilon
from geoxai.errors import GeoxaiError
from tests.attribution.networks import inputs, seeded
from tests.attribution.test_account import gap
from tests.attribution.test_operators import same

SMALL = Epsilon(eps=1e-9, bias="ignore")
INDEX = torch.tensor([3, 0, 0, 2])


class Block(nn.Module):
    """A residual net with any norm."""

    def __init__(self, norm):
        super().__init__()
        self.stem, self.conv, self.norms = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.ModuleList()
        self.norms.extend([norm(), norm()])
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.norms[0](self.stem(x)).relu_()
        x = F.relu(x + self.norms[1](self.conv(x)))
        return self.head(x.mean((2, 3)))


class Unet(nn.Module):
    """A U-Net with group norm, SiLU, LP pooling, pixel shuffle and bicubic interpolation."""

    def __init__(self):
        super().__init__()
        self.down, self.norm = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), nn.GroupNorm(2, 4)
        self.bottom = nn.Conv2d(4, 8, 3, padding=1, padding_mode="replicate")
        self.merge, self.out = nn.Conv2d(10, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        skip = F.silu(self.norm(self.down(x)))
        deep = F.gelu(self.bottom(F.lp_pool2d(skip, 2, 2)))
        fine = F.pixel_shuffle(deep, 2)
        smooth = F.interpolate(deep, scale_factor=2, mode="bicubic", align_corners=False)[:, :4]
        return self.out(F.mish(self.merge(torch.cat([skip, fine, smooth], 1))))


class LayerNormChannels(nn.Module):
    """Layer norm over channels as ConvNeXt has it, statistics written out."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ScaledRunning(nn.InstanceNorm2d):
    def __init__(self):
        super().__init__(6, affine=True, track_running_stats=True)


NETWORKS = {
    "batch norm": (lambda: Block(lambda: nn.BatchNorm2d(6)), (2, 2, 7, 7), "predicted"),
    "group norm": (lambda: Block(lambda: nn.GroupNorm(3, 6)), (2, 2, 7, 7), "predicted"),
    "instance norm": (lambda: Block(lambda: nn.InstanceNorm2d(6, affine=True)), (2, 2, 7, 7), "predicted"),
    "running instance norm": (lambda: Block(ScaledRunning), (2, 2, 7, 7), "predicted"),
    "layer norm": (lambda: Block(lambda: nn.LayerNorm([6, 5, 5])), (2, 2, 7, 7), "predicted"),
    "layer norm written out": (lambda: Block(LayerNormChannels), (2, 2, 7, 7), "predicted"),
    "u-net": (Unet, (2, 2, 8, 8), (0, 3, 4)),
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
    torch.testing.assert_close(got.relevance.flatten(1).sum(1), got.target_value, rtol=1e-4, atol=0)
    assert not got.bias.any()
    program = torch.export.export(network, (x,))
    same(network, program.module(), x, target, presets=["epsilon", "alpha1_beta0"])
    parts = attribute(program.run_decompositions().module(), x, rules="zero", target=target).relevance
    torch.testing.assert_close(parts, attribute(network, x, rules="zero", target=target).relevance)


def test_bicubic_taken_apart_by_torch_agrees_where_steps_are_proportional():
    """Torch writes it as sixteen gathered products and their pairwise sums. LRP-0 is the same for any such splitting;
    alpha-beta of one map tells signs of contributions apart, that of a chain the signs of its partial sums.
    """
    network = nn.Upsample(size=(5, 7), mode="bicubic").eval()
    x, weights = inputs(2, 1, 4, 4), inputs(1, 5, 7, seed=1)
    parts = torch.export.export(network, (x,)).run_decompositions().module()
    apart = {}
    for rules in ("zero", "alpha1_beta0"):
        a, b = (attribute(n, x, rules=rules, target=weights).relevance for n in (network, parts))
        apart[rules] = float((a - b).abs().max() / a.abs().max())
    assert apart["zero"] < 1e-9
    assert apart["alpha1_beta0"] > 1e-2


def scattered(x):
    out = torch.zeros(len(x), 6, 4, dtype=x.dtype)
    out.scatter_(1, torch.tensor([3, 0, 5, 2]).reshape(1, -1, 1).expand(len(x), 4, 4), x[:, :4])
    return out


def assigned(x):
    out = x.clone()
    out[:, 1:3] = x[:, :2] * 2
    out[..., -1] += 1
    return out


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x.index_select(1, INDEX), lambda x: x[:, INDEX]),
        (lambda x: torch.gather(x, 1, INDEX.reshape(1, -1, 1).expand(len(x), 4, 4)), lambda x: x[:, INDEX]),
        (lambda x: torch.take_along_dim(x, INDEX.reshape(1, -1, 1), 1), lambda x: x[:, INDEX]),
        (scattered, lambda x: torch.stack([x[:, 1], 0 * x[:, 0], x[:, 3], x[:, 0], 0 * x[:, 0], x[:, 2]], 1)),
        (assigned, lambda x: torch.cat([x[:, :1], x[:, :2] * 2, x[:, 3:]], 1) + torch.eye(4, dtype=x.dtype)[3]),
        (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x[:, :4, None], 2), 2).flatten(2), lambda x: x[:, :4]),
        (lambda x: x.new_zeros(len(x), 5, 4).index_add_(1, INDEX, x[:, :4]),
         lambda x: torch.stack([x[:, 1] + x[:, 2], 0 * x[:, 0], x[:, 3], x[:, 0], 0 * x[:, 0]], 1)),
        (lambda x: torch.einsum("bij->bji", x), lambda x: x.mT),
        (lambda x: torch.einsum("bij->bi", x)[..., None], lambda x: x.sum(2, keepdim=True)),
        (lambda x: F.layer_norm(x, (4,)), lambda x: F.group_norm(x.flatten(0, 1)[:, :, None], 1)[..., 0].view_as(x)),
        (lambda x: F.glu(x, 2), lambda x: x[..., :2] * x[..., 2:].sigmoid()),
        (lambda x: x.sort(1).values, lambda x: torch.take_along_dim(x, x.argsort(1), 1)),
        (lambda x: x.topk(2, 1)[0], lambda x: torch.take_along_dim(x, x.argsort(1, descending=True)[:, :2], 1)),
        (lambda x: torch.kthvalue(x, 2, 2).values, lambda x: torch.sort(x).values[..., 1]),
        (lambda x: F.max_unpool1d(*F.max_pool1d(x[..., :4], 2, return_indices=True), 2).sum(2),
         lambda x: (x * (x[..., ::2].maximum(x[..., 1::2]).repeat_interleave(2, 2) == x)).sum(2)),
        (lambda x: F.normalize(x, dim=1), lambda x: x / x.square().sum(1, keepdim=True).sqrt()),
        (lambda x: torch.linalg.vector_norm(x, dim=1), lambda x: x.norm(2, 1)),
        (lambda x: x.norm(dim=1), lambda x: x.square().sum(1).sqrt()),
        (lambda x: (x - torch.var_mean(x, 2, keepdim=True)[1]) / torch.var_mean(x, 2, keepdim=True)[0].sqrt(),
         lambda x: (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True)),
        (lambda x: torch.nan_to_num(x), lambda x: x.absolute() * x.sign()),
        (lambda x: torch.addcdiv(x, x * 2, torch.ones(4, dtype=x.dtype) * 4), lambda x: x + x * 2 / 4),
        (lambda x: torch.lerp(x, 2 * x, x.sigmoid()), lambda x: x * (1 - x.sigmoid()) + 2 * x * x.sigmoid()),
        (lambda x: x.diff(2, prepend=x[..., :1]), lambda x: torch.cat([x[..., :1], x], -1).diff().diff()),
        (lambda x: F.fold(F.unfold(x[:, None], 2), (5, 4), 2), lambda x: F.conv_transpose2d(
            F.unfold(x[:, None], 2).unflatten(2, (4, 3)), torch.eye(4, dtype=x.dtype).reshape(4, 1, 2, 2))),
    ],
)  # fmt: skip
def test_two_forms_of_one_operation(one, other):
    dense, x = seeded(nn.Linear(3, 20)), inputs(3, 3)

    def after(form):
        return lambda t: form(dense(t).unflatten(1, (5, 4))).flatten(1)

    size = one(torch.ones(1, 5, 4, dtype=torch.float64)).numel()
    for target in (1, min(9, size - 1)):
        a, b = (attribute(after(form), x, rules="zero", target=target) for form in (one, other))
        torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(a.bias, b.bias)
        assert gap(a) < 1e-10


@pytest.mark.parametrize(
    "layer",
    [nn.ReLU, nn.ReLU6, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
     nn.Hardtanh, nn.Hardshrink, nn.Softshrink, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid, nn.Sigmoid,
     nn.Tanh, nn.PReLU, nn.LeakyReLU, lambda: nn.Threshold(0.1, 0.0), lambda: nn.GELU("tanh"), nn.Identity,
     nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, torch.log1p, torch.expm1, torch.erf, torch.asinh, torch.atan],
)  # fmt: skip
def test_relevance_goes_through_every_activation(layer):
    """Its result is explained as if it were a value of its own: the input gets it whole."""
    function = layer().double().eval() if isinstance(layer, type) or layer.__name__ == "<lambda>" else layer
    x = inputs(3, 4).abs()
    for form in (function, lambda t: function(t.clone()), lambda t: function(t * 1.0)):
        got = attribute(form, x, rules="alpha2_beta1", target=1, start="output")
        torch.testing.assert_close(got.relevance[:, 1], function(x)[:, 1])
        assert not got.relevance[:, [0, 2, 3]].any()


def test_the_only_sample_is_one_wherever_its_values_lie():
    """What moves or joins values leaves a single sample's axis of any length: nothing is mixed."""
    weight, x = inputs(6, 2, seed=1), inputs(1, 6)
    for move in (
        lambda t: t.roll(1, 1), lambda t: torch.cat([t, t.flip(1)], 1)[:, 3:9], lambda t: t.squeeze().roll(1)[None],
        lambda t: torch.cat([t.T, t.T])[:6].T, lambda t: torch.zeros(1, 6, dtype=t.dtype).index_copy(
            1, torch.arange(6), t), lambda t: torch.stack(list(t[0])).flip(0)[None],
    ):  # fmt: skip
        got = attribute(lambda t, move=move: move(t) @ weight, x, rules="epsilon", target=1)
        two = attribute(lambda t, move=move: move(t[:1]) @ weight, torch.cat([x]), rules="epsilon", target=1)
        assert gap(got) < 1e-12
        torch.testing.assert_close(got.relevance.sum(1) + got.stabiliser, got.target_value)
        torch.testing.assert_close(got.relevance, two.relevance)


def test_maxout_gives_all_to_the_winner():
    dense, x = seeded(nn.Linear(4, 9)), inputs(5, 4)
    for maximum in (lambda t: t.max(-1).values, lambda t: t.amax(-1), lambda t: torch.max(t, -1)[0],
                    lambda t: F.max_pool1d(t, 3)[..., 0],
                    lambda t: torch.maximum(t[..., 0], torch.maximum(t[..., 1], t[..., 2]))):  # fmt: skip
        got = attribute(
            lambda t, maximum=maximum: maximum(dense(t).unflatten(1, (3, 3))), x, rules="alpha1_beta0", target=1
        )
        winner = dense(x)[:, 3:6].argmax(1) + 3
        wanted = attribute(dense, x, rules="alpha1_beta0", target=winner)
        torch.testing.assert_close(got.relevance, wanted.relevance)
        torch.testing.assert_close(got.bias, wanted.bias)


@pytest.mark.parametrize("kind", ["pow", "norm pool"])
def test_power_pooling_shares_by_powers(kind):
    x = torch.tensor([[[3.0, 4.0, 0.0, 2.0]]], dtype=torch.float64)
    got = attribute(nn.LPPool1d(2, 2).eval(), x, rules="zero", target=(0, 0))
    torch.testing.assert_close(got.relevance[0, 0], torch.tensor([9 / 5, 16 / 5, 0, 0], dtype=torch.float64))
    speed = attribute(lambda t: t.square().sum(1, keepdim=True).sqrt(), x[0], rules="zero", target=0)
    torch.testing.assert_close(speed.relevance[0], x[0, 0] ** 2 / 29**0.5)


def test_the_only_sample_may_come_without_its_batch_axis():
    conv, head = seeded(nn.Conv2d(2, 3, 3)), seeded(nn.Linear(3, 2))

    def unbatched(x):
        return head(F.avg_pool2d(conv(x[0]).relu(), 3).flatten(1).mean(1)[None])

    same(lambda x: head(F.avg_pool2d(conv(x).relu(), 3).flatten(2).mean(2)), unbatched, inputs(1, 2, 5, 5))


def test_pooling_where_samples_lie_on_the_channel_axis():
    conv = seeded(nn.Conv2d(2, 3, 3))
    for pool in (lambda t: F.max_pool2d(t, 2), lambda t: F.avg_pool2d(t, 2),
                 lambda t: F.interpolate(t, scale_factor=2), lambda t: F.interpolate(t, size=(3, 3), mode="bicubic"),
                 lambda t: F.interpolate(t, size=(3, 3), mode="bilinear")):  # fmt: skip
        same(
            lambda x, pool=pool: pool(conv(x)).flatten(1),
            lambda x, pool=pool: pool(conv(x).transpose(0, 1)).transpose(0, 1).flatten(1),
            inputs(4, 2, 6, 6),
            presets=["epsilon", "gamma"],
        )
    with pytest.raises(GeoxaiError, match="samples lie along an axis of its cells"):
        attribute(
            lambda x: F.max_pool2d(conv(x).movedim(0, -1), 3, 1, 1).movedim(-1, 0), inputs(4, 2, 6, 6), target=(0, 0, 0)
        )


def test_graph_sums_and_running_sums():
    nodes, edges = torch.tensor([0, 1, 1, 2, 0]), seeded(nn.Linear(4, 3))

    def messages(x):  # (N, nodes, features): sums of messages over edges
        sent = edges(x[:, nodes]).relu()
        return torch.zeros(len(x), 3, 3, dtype=x.dtype).index_add(1, nodes.flip(0), sent).cumsum(1).flatten(1)

    x = inputs(2, 3, 4)
    for rules in ("epsilon", "alpha1_beta0", "flat"):
        assert gap(attribute(messages, x, rules=rules, target=4)) < 1e-10
    got = attribute(messages, x, rules=SMALL, target=4)
    torch.testing.assert_close(got.relevance.flatten(1).sum(1), got.target_value, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
        (lambda x: F.layer_norm(x.T, (3,)).T, "statistics run over samples"),
        (lambda x: torch.einsum("bi,bj->ij", x, torch.ones(3, 3, dtype=x.dtype)), "mixes samples"),
        (lambda x: torch.einsum("bi,ij,jk->bk", x, torch.eye(3).double(), torch.eye(3).double()), "two factors"),
        (lambda x: x.cumsum(0), "mixes samples"),
        (lambda x: 2.0**x, "pow"),
        (lambda x: x**-1, "positive number"),
        (lambda x: F.interpolate(x[:, None], size=5, mode="nope"), "nope"),
        (lambda x: torch.fft.rfft(x).abs(), "fft"),
        (lambda x: x.sort(0).values, "mixes samples"),
        (lambda x: x + x.sum(), "sum at the network itself.*mixes samples"),
        (lambda x: torch.nan_to_num(1 / (x - x)) + x, "NaN or infinite"),
        (
            lambda x: F.grid_sample(x[None, None], torch.stack([x, x], -1)[None], align_corners=False)[0, 0],
            "points depend|batch axis",
        ),
        (lambda x: x + torch.linalg.norm(x), "sum of squares"),
    ],
)
def test_bad_cases_are_answered(network, words):
    with pytest.raises((GeoxaiError, NotImplementedError), match=words) as caught:
        attribute(network, inputs(3, 3), target=0)
    assert isinstance(caught.value, NotImplementedError) or caught.value.fix


def test_the_table_names_norms():
    rows = rule_table(seeded(NETWORKS["group norm"][0]()), inputs(1, 2, 7, 7), "epsilon_plus")
    paths = [row.path for row in rows if row.op == "group_norm"]
    assert paths == ["norms.0", "norms.1"]
