"""What torch calls do not show is refused by name, and what is right is not."""

import random
import threading

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute, rule_table
from geoxai.errors import GeoxaiError
from tests.attribution.detached import check
from tests.attribution.networks import ConvNet, UNet, inputs, seeded


def scripted(function):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        return torch.jit.trace(function, torch.ones(3, 6, dtype=torch.float64))


TRACED = scripted(lambda h: torch.relu(h) * 2)
TRACED_IN_PLACE = scripted(lambda h: h.mul_(2))


@torch.library.custom_op("geoxai_tests::double_", mutates_args={"x"})
def double_(x: torch.Tensor) -> None:
    x.numpy()[...] *= 2


@torch.library.custom_op("geoxai_tests::relu", mutates_args=())
def custom_relu(x: torch.Tensor) -> torch.Tensor:
    return x.square()


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        x.data.numpy()[...] *= 2
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Copying(torch.autograd.Function):
    """Writes what it computes into a buffer that it is given."""

    @staticmethod
    def forward(ctx, x, buffer):
        buffer.numpy()[...] = np.tanh(x.detach().numpy())
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2, None


def in_thread(function, *args):
    found = []
    worker = threading.Thread(target=lambda: found.append(function(*args)))
    worker.start()
    worker.join()
    return found[0]


def into_buffer(h):
    buffer = torch.zeros_like(h)
    return Copying.apply(h, buffer) + buffer


def written_by_a_thread(h):
    in_thread(lambda: h.mul_(2))
    return h


def through_numpy_memory(h):
    h.numpy()[...] *= 2
    return h


def set_to(h):
    other = torch.zeros(0, dtype=h.dtype)
    other.set_(h.untyped_storage(), 0, h.shape, h.stride())
    return other


def in_place(function):
    def run(h):
        h = h * 1
        function(h)
        return h

    return run


HIDDEN = {
    "TorchScript": TRACED,
    "TorchScript in place": in_place(TRACED_IN_PLACE),
    "vmap": torch.vmap(torch.tanh),
    "vmap over a closure": lambda h: torch.vmap(lambda i: (h * i).sum(0))(torch.arange(1.0, 4.0, dtype=h.dtype)),
    "custom operation of a known name": custom_relu,
    "custom operation in place": in_place(double_),
    "autograd function in place": Doubling.apply,
    "autograd function into a buffer": into_buffer,
    "another thread": lambda h: in_thread(torch.tanh, h),
    "written by another thread": lambda h: written_by_a_thread(h * 1),
    "numpy": lambda h: torch.from_numpy(np.tanh(h.numpy())),
    "numpy's memory": lambda h: through_numpy_memory(h * 1),
    "lists": lambda h: torch.tensor(h.tolist(), dtype=h.dtype),
    "torch.tensor": lambda h: torch.tensor(h),
    "parameter": lambda h: nn.Parameter(h),
    "set_": set_to,
    "cast to integers and back": lambda h: (h * 8).int().double() / 8,
    "cast by to": lambda h: (h * 8).to(torch.int64) * torch.ones((), dtype=h.dtype).expand(6),
    "integers added": lambda h: torch.ones_like(h) + (h * 8).long(),
    "integers in between": lambda h: torch.stack([(h * 8).short(), (h * 8).short() + 1]).sum(0).to(h.dtype),
    "integers copied": lambda h: torch.zeros_like(h).copy_((h * 8).int()),
    "copied to integers": lambda h: torch.zeros_like(h, dtype=torch.int32).copy_(h * 8).double(),
    "bits": lambda h: h.view(torch.int64).view(torch.float64),
    "functorch gradient": lambda h: torch.func.grad(lambda t: t.square().sum())(h),
}


class Beside(nn.Module):
    """A branch that is followed closes the account of one that is not."""

    def __init__(self, branch):
        super().__init__()
        self.before, self.after, self.branch = nn.Linear(5, 6), nn.Linear(6, 2), branch

    def forward(self, x):
        h = self.before(x)
        return self.after(self.branch(h)) + self.after(h)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_in_a_branch_is_refused(name):
    network = seeded(Beside(HIDDEN[name]))
    for rules in ("epsilon", "alpha1_beta0"):
        with pytest.raises(GeoxaiError) as error:
            attribute(network, inputs(3, 5), target=0, rules=rules)
        assert error.value.fix


def test_the_refusal_says_where_and_what_to_do():
    with pytest.raises(
        GeoxaiError, match=r"what add at the network itself takes as a constant, of shape \(3, 2\)"
    ) as error:
        attribute(seeded(Beside(TRACED)), inputs(3, 5), target=0)
    assert "TorchScript" in str(error.value.fix)
    with pytest.raises(GeoxaiError, match="integers"):
        attribute(seeded(Beside(HIDDEN["cast to integers and back"])), inputs(3, 5), target=0)


RIGHT = {
    "control by a value": lambda h: h * 2 if h.max() > 0 else h,
    "control by an item": lambda h: h * 2 if h.abs().mean().item() > 1e9 else h,
    "mask of a comparison": lambda h: h * (h > 0).to(h.dtype),
    "mask by integers": lambda h: h * (h > 0).int(),
    "sign": lambda h: h * h.sign(),
    "argmax": lambda h: h + F.one_hot(h.argmax(-1), 6).to(h.dtype),
    "argsort": lambda h: h.gather(1, h.argsort(1)),
    "shape": lambda h: h / h.shape[-1] + torch.arange(h.shape[-1], dtype=h.dtype),
    "constants by vmap": lambda h: h + torch.vmap(torch.tanh)(torch.ones(1, 6, dtype=h.dtype)),
    "constants by numpy": lambda h: h + torch.from_numpy(np.linspace(0, 1, 6)),
    "constants by a thread": lambda h: h + in_thread(torch.ones, 6),
    "new_tensor": lambda h: h.new_tensor([1.0] * 6) + h,
    "copy by new_tensor": lambda h: h.new_tensor(h),
    "autograd function that returns its argument": Same.apply,
    "detached statistics": lambda h: h / (1 + h.detach().square().mean(-1, keepdim=True).sqrt()),
    "no_grad": torch.no_grad()(lambda h: h * 2),
    "rows chosen by value": lambda h: torch.where(h.isnan(), torch.zeros_like(h), h),
    "table": lambda h: h + seeded(nn.Embedding(4, 6)).weight.detach()[(h > 0).sum(-1) % 4],
    "seeded noise": lambda h: h + torch.randn(6, dtype=h.dtype, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_not_refused(name):
    network, x = seeded(Beside(RIGHT[name])), inputs(3, 5)
    got = attribute(network, x, target=0, rules="epsilon")
    account = got.relevance.sum(1) + got.bias + got.stabiliser + got.lost
    torch.testing.assert_close(account, got.target_value)
    if name in ("copy by new_tensor", "autograd function that returns its argument", "no_grad"):
        scale = 2.0 if name == "no_grad" else 1.0
        plain = attribute(seeded(Beside(lambda h: h * scale)), x, target=0, rules="epsilon")
        torch.testing.assert_close(got.relevance, plain.relevance)


def test_a_value_used_as_an_index_is_noted():
    table = torch.linspace(0, 1, 12, dtype=torch.float64).reshape(2, 6)
    network = seeded(Beside(lambda h: h + table[(h[:, 0] > 0).long()] + F.embedding(h[:, 0].long().clamp(0, 1), table)))
    got = attribute(network, inputs(3, 5), target=0, rules="epsilon")
    assert any("embedding" in note and "index" in note for note in got.notes)


class Counting(nn.Module):
    """Counts how often it runs."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x):
        self.calls += 1
        return self.network(x)


@pytest.mark.parametrize("method", ["lrp", "gradient"])
def test_a_network_is_looked_at_once(method):
    network = Counting(seeded(ConvNet())).eval()
    x = inputs(4, 2, 8, 8)
    attribute(network, x, target=0, method=method, batch_size=1)
    assert network.calls == 4 + 1
    attribute(network, x[:3], target=1, method=method)
    assert network.calls == 4 + 1 + 1
    if method == "lrp":
        rule_table(network, x, "epsilon")
        assert network.calls == 4 + 1 + 1 + 1
    attribute(network, inputs(1, 2, 9, 9), target=0, method=method)  # another shape
    assert network.calls == (9 if method == "lrp" else 8)


class Caching(nn.Module):
    """Makes a table at its first call, from its weights."""

    def __init__(self):
        super().__init__()
        self.before, self.after, self.table = nn.Linear(5, 6), nn.Linear(6, 2), None

    def forward(self, x):
        if self.table is None:
            self.table = torch.sin(self.before.weight.sum(1)).exp() * 2
        return self.after(self.before(x) * self.table)


def test_a_table_that_is_made_once_is_right():
    attribute(seeded(Caching()), inputs(3, 5), target=0)


class CachingAndHiding(Caching):
    def forward(self, x):
        return super().forward(x) + self.after(TRACED(self.before(x)))


def test_what_hides_behind_a_table_that_is_made_once_is_found():
    with pytest.raises(GeoxaiError, match="takes as a constant"):
        attribute(seeded(CachingAndHiding()), inputs(3, 5), target=0)


class Unsteady(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.before, self.after, self.how = nn.Linear(5, 6), nn.Linear(6, 2), how
        self.register_buffer("average", torch.zeros(6, dtype=torch.float64))
        self.state = 0.0

    def forward(self, x):
        h = self.before(x)
        if self.how == "noise":
            h = h + 0.1 * torch.randn_like(h)
        elif self.how == "little noise":
            h = h + 1e-5 * torch.randn_like(h)
        elif self.how == "dropout by hand":
            h = h * (torch.rand_like(h) > 0.5) * 2
        elif self.how == "number":
            h = h * random.random()
        elif self.how == "numpy noise":
            h = h + torch.from_numpy(np.random.default_rng().normal(size=6))
        elif self.how == "skipped":
            h = torch.tanh(h) if random.random() < 0.5 else h
        elif self.how == "buffer":
            self.average.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
            h = h + self.average
        elif self.how == "state":
            self.state = 0.5 * self.state + h.detach().mean(0)
            h = h + self.state
        return self.after(h)


@pytest.mark.parametrize("method", ["lrp", "gradient"])
@pytest.mark.parametrize(
    "how", ["noise", "little noise", "dropout by hand", "number", "numpy noise", "skipped", "buffer", "state"]
)
def test_a_network_that_is_not_the_same_twice_is_refused(how, method):
    random.seed(0)

    def explain():
        for _ in range(20 if how == "skipped" else 1):
            attribute(seeded(Unsteady(how)), inputs(3, 5), target=0, method=method)

    with pytest.raises(GeoxaiError) as error:
        explain()
    assert "eval()" in error.value.fix
    if how == "buffer":
        assert "'average'" in str(error.value)


def test_a_plain_network_passes():
    check(seeded(Unsteady("no")), inputs(3, 5))
    check(seeded(UNet()), inputs(2, 3, 8, 8), (0, 1, 1))


class Mixed(nn.Module):
    """Runs in low precision by autocast, some of it by its own casts."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.token, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = torch.relu(self.norm(self.conv(x)))
            h = self.token(h.flatten(2).mT.to(torch.bfloat16))
            return self.head(F.scaled_dot_product_attention(h, h, h).mean(1) + h.mean(1))


def test_autocast_inside_a_network_is_left_out_and_noted():
    network, x = seeded(Mixed(), dtype=torch.float32), inputs(3, 2, 5, 5, dtype=torch.float32)
    for rules in ("epsilon", "alpha1_beta0"):
        got = attribute(network, x, target=0, rules=rules)
        assert any(note.startswith("autocast") for note in got.notes)
        account = got.relevance.sum((1, 2, 3)) + got.bias + got.stabiliser + got.lost
        torch.testing.assert_close(account.double(), got.target_value.double(), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(got.target_value, network(x)[:, 0].double(), rtol=0.05, atol=0.05)


def conditional(h):
    return torch.cond(h.sum() > 0, lambda t: t * 2, lambda t: t * 3, (h,))


def flexible(h):
    from torch.nn.attention.flex_attention import flex_attention

    heads = h.reshape(len(h), 1, 3, 2)
    return flex_attention(heads, heads, heads).flatten(1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("branch", [conditional, flexible])
def test_what_torch_compiles_inside_a_network_is_refused_in_words(branch):
    with pytest.raises(GeoxaiError, match="compiles a part of itself"):
        attribute(seeded(Beside(branch)), inputs(3, 5), target=0)


@pytest.mark.filterwarnings("ignore")
def test_an_exported_condition_is_refused_by_name():
    program = torch.export.export(seeded(Beside(conditional)), (inputs(3, 5),))
    with pytest.raises(GeoxaiError, match="cannot cross cond"):
        attribute(program.module(), inputs(3, 5), target=0)


@pytest.mark.filterwarnings("ignore")
def test_channels_last_pooling_in_an_exported_program():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = seeded(network, dtype=torch.float32).to(memory_format=torch.channels_last)
    x = inputs(3, 2, 5, 5, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    program = torch.export.export(network, (x,)).run_decompositions()
    assert any("as_strided" in str(node.target) for node in program.graph.nodes)
    got = attribute(program.module(), x, target=0, rules="epsilon")
    torch.testing.assert_close(got.relevance, attribute(network, x, target=0, rules="epsilon").relevance)
