"""However a network is written, the same computation gives the same relevance; what has no rule is refused by name."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute, rule_table
from geoxai.errors import GeoxaiError, OptionError
from tests.attribution.networks import NETWORKS, ConvNet, Residual, UNet, inputs, seeded

PRESETS = ["epsilon", "alpha2_beta1", "gamma", "epsilon_plus_flat"]


def same(one, other, x, target=0, presets=PRESETS, **options):
    for preset in presets:
        a = attribute(one, x, rules=preset, target=target, **options)
        b = attribute(other, x, rules=preset, target=target, **options)
        scale = float(a.relevance.abs().max())
        torch.testing.assert_close(a.relevance, b.relevance, rtol=1e-9, atol=1e-11 * scale)
        for term in ("target_value", "bias", "stabiliser", "lost"):
            torch.testing.assert_close(getattr(a, term), getattr(b, term), rtol=1e-8, atol=1e-10 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_program_equals_the_module(name):
    make, shape, target = NETWORKS[name]
    network, x = seeded(make()), inputs(*shape)
    program = torch.export.export(network, (x,))
    same(network, program.module(), x, target)
    same(network, program.run_decompositions().module(), x, target)


def test_functional_method_and_operator_forms_are_one():
    network = seeded(ConvNet())
    first, norm1, _, _, second, norm2, *_ = network.features

    def written_out(x):
        x = torch.conv2d(x, first.weight, first.bias, padding=1)
        x = F.batch_norm(x, norm1.running_mean, norm1.running_var, norm1.weight, norm1.bias, False, 0.1, norm1.eps)
        x = torch.max_pool2d(torch.relu(x), 2)
        x = F.pad(x, (1, 1, 1, 1), mode="circular")
        x = F.conv2d(x, second.weight, second.bias)
        x = F.batch_norm(x, norm2.running_mean, norm2.running_var, norm2.weight, norm2.bias, eps=norm2.eps).clamp(min=0)
        x = F.avg_pool2d(x, 2).reshape(len(x), -1)
        return x @ network.head.weight.T + network.head.bias

    same(network, written_out, inputs(3, 2, 8, 8), 1)
    same(network, written_out, inputs(3, 2, 8, 8), "predicted")


def test_in_place_operations_equal_their_twins():
    conv, dense = seeded(nn.Conv2d(2, 4, 3, padding=1)), seeded(nn.Linear(4 * 36, 2))

    def plain(x):
        y = F.relu(conv(x * 2))
        y = torch.cat([y[:, :2] + 0.5, y[:, 2:]], 1)
        y = torch.cat([y[:, :, 1:2], y[:, :, 1:]], 2)
        return dense((y - y[:, :1].expand_as(y) * 0.25).flatten(1))

    def in_place(x):
        x *= 2
        y = conv(x)
        y.relu_()
        half = y[:, :2]
        half += 0.5  # through a view
        y[:, :, 0] = y[:, :, 1]
        out = torch.zeros(len(x), 4, 6, 6, dtype=x.dtype)
        view = out[:, 1:]
        out.copy_(y)
        torch.sub(y, y[:, :1] * 0.25, out=out)
        assert view.abs().sum() > 0
        return dense(out.flatten(1))

    same(plain, in_place, inputs(3, 2, 6, 6))


def test_a_view_sees_what_is_written_to_its_base_and_the_other_way_round():
    dense = seeded(nn.Linear(6, 2))

    def plain(x):
        y = dense(x)
        both = torch.stack([y[:, 0] * 3, y[:, 1]], 1)
        return torch.cat([both, both[:, :1]], 1)

    def viewed(x):
        y = dense(x)
        first = y[:, 0]
        last = y[:, :1]
        first.mul_(3)
        return torch.cat([y, last], 1)

    for target in (0, 1, 2):
        same(plain, viewed, inputs(3, 6), target)


def test_saved_values_survive_later_writes():
    dense, after = seeded(nn.Linear(5, 4)), seeded(nn.Linear(4, 1), seed=2)

    def viewed(x):
        y = dense(x)
        keep = y.view(2, -1, 4)[:1]  # y has a view, so its memory is written, not swapped
        z = after(y)
        y.zero_()
        assert not keep.any()
        return z

    same(lambda x: after(dense(x)), viewed, inputs(2, 5))


def test_slice_assignment_into_a_buffer():
    dense = seeded(nn.Linear(3, 4))

    def buffered(x):
        out = torch.zeros(len(x), 2, 4, dtype=x.dtype)
        for step in range(2):
            out[:, step] = dense(x[:, step]).tanh()
        return out.flatten(1)

    same(lambda x: dense(x).tanh().flatten(1), buffered, inputs(3, 2, 3), 5)


def test_partly_written_buffer_keeps_its_account():
    def buffered(x):
        out = torch.ones(len(x), 6, dtype=x.dtype)
        out[:, :4] = x
        return out.sum(1, keepdim=True)

    x = inputs(3, 4).abs()
    got = attribute(buffered, x, rules="zero", target=0)
    torch.testing.assert_close(got.relevance, x)
    torch.testing.assert_close(got.bias, torch.full((3,), 2.0, dtype=torch.float64))


def test_reused_module_equals_its_unrolled_twin():
    shared = seeded(nn.Conv2d(2, 2, 3, padding=1))
    twin = seeded(nn.Conv2d(2, 2, 3, padding=1))
    same(
        lambda x: shared(shared(x).relu()).relu().flatten(1),
        lambda x: twin(shared(x).relu()).relu().flatten(1),
        inputs(2, 2, 5, 5),
        7,
    )


def test_samples_are_followed_through_permutes_and_reshapes():
    """Time steps folded into the batch: the account is still one value per sample."""
    dense, head = seeded(nn.Linear(3, 4)), seeded(nn.Linear(5 * 4, 2), seed=1)

    def folded(x):  # (N, T, C) -> (T * N, C)
        y = dense(x.permute(1, 0, 2).reshape(-1, 3)).relu()
        return head(y.reshape(5, -1, 4).transpose(0, 1).flatten(1))

    same(lambda x: head(dense(x).relu().flatten(1)), folded, inputs(4, 5, 3), 1)
    same(lambda x: head(dense(x).relu().flatten(1)), folded, inputs(4, 5, 3), "predicted")


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.flip(-1), lambda x: x.roll(2, dims=2), lambda x: x.transpose(2, 3), lambda x: x[..., ::2],
        lambda x: F.pixel_shuffle(x, 2), lambda x: torch.stack(x.unbind(1), 2), lambda x: x.repeat(1, 2, 1, 1),
        lambda x: x[:, [3, 0, 0]], lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), lambda x: F.pad(x, (1, 2, 0, 1)),
        lambda x: F.interpolate(x, scale_factor=2), lambda x: x.masked_fill(torch.eye(4).bool(), 0.0),
        lambda x: x.squeeze().unsqueeze(1), lambda x: x.gather(1, torch.zeros(2, 1, 4, 4, dtype=torch.int64)),
        lambda x: torch.where(torch.eye(4).bool(), x, torch.zeros((), dtype=x.dtype)),
        lambda x: x.to(torch.float32).double(),
        lambda x: x.clone(), lambda x: x.movedim(1, -1).contiguous(), lambda x: F.max_pool2d(x, 2),
    ],
)  # fmt: skip
def test_index_operations_carry_relevance_to_its_origin(move):
    """Relevance of the moved values summed per origin is value times multiplicity: the input times its derivative."""
    x = inputs(2, 4, 4, 4)
    with torch.no_grad():
        moved = move(x)
    got = attribute(move, x, rules="zero", target=torch.ones(moved.shape[1:]))
    wanted = torch.autograd.functional.vjp(move, x, torch.ones_like(moved))[1] * x
    torch.testing.assert_close(got.relevance, wanted, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(got.relevance.flatten(1).sum(1) + got.bias, got.target_value, rtol=1e-6, atol=1e-6)


def test_detached_values_are_explained_like_any_other():
    x = inputs(2, 3)
    torch.testing.assert_close(
        attribute(lambda t: t.detach() * 2 + t.data, x, rules="zero", target=1).relevance[:, 1], 3 * x[:, 1]
    )


def test_operations_that_share_by_constant_weights():
    x = inputs(2, 3, 4, 4).abs()
    for average in (
        lambda t: F.interpolate(t, size=(7, 5), mode="bilinear"), lambda t: F.adaptive_avg_pool2d(t, (3, 2)),
        lambda t: F.avg_pool2d(t, 3, stride=2, padding=1), lambda t: t.mean((2, 3)), lambda t: t.sum(1),
        lambda t: torch.matmul(t, torch.ones(4, 2, dtype=t.dtype)), lambda t: torch.ones(2, 4, dtype=t.dtype) @ t,
        lambda t: t @ torch.ones(4, dtype=t.dtype), lambda t: t * 3 / 2 - 0.0, lambda t: -(t.neg()),
    ):  # fmt: skip
        shape = average(x).shape[1:]
        for preset in ("zero", "epsilon", "alpha1_beta0", "gamma", "flat"):
            got = attribute(average, x, rules=preset, target=torch.ones(shape))
            rest = got.target_value - got.relevance.flatten(1).sum(1) - got.bias - got.stabiliser - got.lost
            assert float(rest.abs().max()) < 1e-9
            if preset != "flat":
                leaf = x.clone().requires_grad_()
                average(leaf).sum().backward()
                torch.testing.assert_close(got.relevance, leaf.grad * x, rtol=1e-5, atol=1e-6)


def test_relevance_on_masked_and_padded_cells_is_accounted():
    mask = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    dense = seeded(nn.Linear(3, 1))
    got = attribute(lambda x: dense(x * mask), inputs(2, 3), rules="flat", target=0)
    assert not got.relevance[:, 1].any()
    torch.testing.assert_close(got.lost, got.target_value / 3)
    padded = attribute(lambda x: dense(F.pad(x, (0, 2))), inputs(2, 1), rules="flat", target=0)
    torch.testing.assert_close(padded.bias, padded.target_value * 2 / 3)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (lambda x: x * x.flip(1), "mul"),
        (lambda x: torch.exp(x), "exp"),
        (lambda x: torch.logcumsumexp(x, 1), "logcumsumexp"),
        (lambda x: F.softmax(x, 1) * 2, "softmax"),
        (lambda x: 1 / x, "reciprocal|rdiv|div"),
        (lambda x: torch.cumprod(x, 1), "cumprod"),
        (lambda x: F.dropout(x), "dropout"),
        (lambda x: x @ x.T, "matmul"),
        (lambda x: x.exp_(), "exp"),
    ],
)
def test_operations_without_a_rule_are_refused_by_name(network, names):
    with pytest.raises(GeoxaiError, match=names) as caught:
        attribute(network, inputs(3, 3), target=0)
    assert caught.value.fix


def test_the_refusal_names_module_path_shape_and_remedy():
    class Inner(nn.Module):
        def forward(self, x):
            return torch.exp(x)

    network = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.ReLU(), Inner())).eval()
    with pytest.raises(GeoxaiError) as caught:
        attribute(network, torch.ones(2, 4), target=0)
    for part in ("exp", "1.1", "(2, 3)", "rule", "gradient"):
        assert part in str(caught.value)


def test_what_relevance_need_not_cross_is_not_refused():
    dense = seeded(nn.Linear(4, 2))

    def network(x):
        scale = torch.exp(x).sum()  # looked at, not part of the output
        assert bool(scale > 0)
        return dense(x)

    same(dense, network, inputs(2, 4))


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x - x.mean(0),
        lambda x: x.sum(0, keepdim=True).expand(3, -1),
        lambda x: (x.T @ torch.ones(3, 3, dtype=x.dtype)).T,
    ],
)
def test_mixing_samples_is_refused(mix):
    with pytest.raises(GeoxaiError, match="mixes samples"):
        attribute(mix, inputs(3, 4), target=0)


def test_batch_statistics_and_training_mode_are_refused():
    network = nn.Sequential(nn.Flatten(), nn.Dropout()).eval()
    network[1].train()
    with pytest.raises(OptionError, match=r"training mode \(first at 1"):
        attribute(network, inputs(2, 3), target=0)
    with pytest.raises(OptionError, match="training mode"):
        attribute(Residual(), inputs(2, 2, 4, 4), target=0)
    with pytest.raises(GeoxaiError, match="statistics of the batch"):
        attribute(nn.BatchNorm1d(3, track_running_stats=False).eval(), torch.ones(4, 3), target=0)


def test_values_read_into_python_are_noted():
    dense = seeded(nn.Linear(4, 2))
    got = attribute(lambda x: dense(x) * float(x.abs().max().item()), inputs(2, 4), target=0)
    assert any("read into Python" in note for note in got.notes)


def test_script_modules_are_refused_with_the_way_out():
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        script = torch.jit.trace(nn.Linear(3, 2).eval(), torch.ones(1, 3))
    with pytest.raises(OptionError, match="TorchScript") as caught:
        attribute(script, torch.ones(1, 3), target=0)
    assert "torch.export" in caught.value.fix


def test_table_names_op_path_shapes_rule_and_why():
    network = seeded(UNet())
    rules = [
        {"match": "first", "rule": "w_square"},
        {"match": "conv", "path": "merge*", "rule": "gamma", "gamma": 0.5},
        {"match": "last", "rule": "epsilon", "eps": 0.1},
        {"match": "all", "rule": "z_plus"},
    ]
    rows = {row.path + ":" + row.op: row for row in rule_table(network, inputs(1, 3, 8, 8), rules)}
    assert rows["down1:conv2d"].rule.startswith("w_square")
    assert rows["merge1:conv2d"].rule == "gamma(bias=absorb, gamma=0.5)"
    assert rows["merge1:conv2d"].why == "match conv, path merge* of custom"
    assert rows["merge1:conv2d"].input_shape == (1, 10, 8, 8)
    assert rows["out:conv2d"].rule == "epsilon(bias=absorb, eps=0.1)"
    assert rows["up2:conv_transpose2d"].rule.startswith("z_plus")
    assert rows[":interpolate"].rule.startswith("z_plus")
    assert rows[":max_pool2d"].rule == "winner"
    assert rows[":relu"].rule == "pass"


def test_rule_that_does_not_fit_an_operation_is_refused():
    network = seeded(Residual())
    with pytest.raises(OptionError, match="w_square' does not apply to"):
        attribute(network, inputs(1, 2, 4, 4), rules=[{"rule": "w_square"}])
    with pytest.raises(OptionError, match="no line of rules matches"):
        attribute(network, inputs(1, 2, 4, 4), rules=[{"match": "conv", "rule": "z_plus"}])
    with pytest.raises(OptionError, match="keeps the shape"):
        attribute(network, inputs(1, 2, 4, 4), rules="pass")


@pytest.mark.parametrize("like", [lambda c, y: c.to(y), lambda c, y: c.type_as(y), lambda c, y: c.to(y, copy=True)])
def test_a_constant_made_like_a_signal_stays_a_constant(like):
    class Shifted(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y + like(torch.tensor([2.0, -1.0]), y)

    network, x = seeded(Shifted(3, 2, bias=False)), inputs(4, 3)
    plain = nn.Linear(3, 2)
    plain.weight.data, plain.bias.data = network.weight.data, torch.tensor([2.0, -1.0], dtype=torch.float64)
    same(network, plain.eval(), x)
    torch.testing.assert_close(attribute(network, x, target=0).target_value, network(x)[:, 0].detach())


def test_a_threshold_is_an_activation():
    network, x = seeded(nn.Sequential(nn.Linear(3, 4), nn.Threshold(0.0, 0.0), nn.Linear(4, 2))), inputs(4, 3)
    same(network, nn.Sequential(network[0], nn.ReLU(), network[2]).eval(), x)
