"""Nothing of the user's model changes, also when something goes wrong, and threads can share a model."""

import threading

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.errors import GeoxaiError
from tests.attribution.networks import ConvNet, Residual, inputs, seeded


def snapshot(model, x):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    modules = {}
    for name, module in model.named_modules():
        modules[name] = (module.training, sorted(vars(module)), [len(getattr(module, h)) for h in hooks])
    state = model.state_dict(keep_vars=True)
    return {
        "state": {name: (id(tensor), tensor._version, tensor.clone()) for name, tensor in state.items()},
        "modules": modules,
        "grad": {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
        "x": (x.clone(), x.requires_grad, x._version),
        "global hooks": len(nn.modules.module._global_forward_hooks) + len(nn.modules.module._global_forward_pre_hooks),
        "grad mode": torch.is_grad_enabled(),
    }


def same(one, other):
    for name, (place, version, tensor) in one.pop("state").items():
        now = other["state"][name]
        assert (place, version) == now[:2]
        assert torch.equal(tensor, now[2])
    other.pop("state")
    assert torch.equal(one["x"][0], other["x"][0])
    assert one.pop("x")[1:] == other.pop("x")[1:]
    assert one == other


class Failing(nn.Module):
    """Works in place on its input, then fails on request."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(2, 3, 3), how

    def forward(self, x):
        x *= 2
        y = F.relu(self.conv(x), inplace=True)
        if self.how == "raises":
            raise ValueError("a bug in the network")
        return torch.exp(y).flatten(1) if self.how == "refused" else y.flatten(1)


@pytest.mark.parametrize("method", ["lrp", "gradient"])
@pytest.mark.parametrize("how", ["works", "raises", "refused"])
def test_nothing_of_the_model_or_input_changes(how, method):
    model, x = seeded(Failing(how)), inputs(2, 2, 5, 5)
    before = snapshot(model, x)
    if how == "raises" or (how == "refused" and method == "lrp"):
        with pytest.raises((ValueError, GeoxaiError)):
            attribute(model, x, target=0, method=method)
    else:
        attribute(model, x, target=[0, 1], method=method)
    same(before, snapshot(model, x))


def test_the_networks_own_no_grad_does_not_hide_it():
    model, x = seeded(ConvNet()), inputs(2, 2, 8, 8)

    class Quiet(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            return model(x)

    torch.testing.assert_close(attribute(Quiet().eval(), x).relevance, attribute(model, x).relevance)


def test_frozen_and_parametrised_weights():
    plain = seeded(nn.Conv2d(2, 3, 3))
    x = inputs(2, 2, 5, 5)
    wanted = attribute(plain, x, target=(0, 1, 1)).relevance
    normed = nn.utils.parametrizations.weight_norm(seeded(nn.Conv2d(2, 3, 3)))
    torch.testing.assert_close(attribute(normed.eval(), x, target=(0, 1, 1), batch_size=1).relevance, wanted)
    frozen = seeded(nn.Conv2d(2, 3, 3)).requires_grad_(False)
    torch.testing.assert_close(attribute(frozen, x, target=(0, 1, 1)).relevance, wanted)


def test_two_threads_share_one_model():
    model = seeded(Residual())
    x = [inputs(4, 2, 8, 8, seed=s) for s in range(4)]
    wanted = [attribute(model, a, rules=r).relevance for a in x for r in ("alpha2_beta1", "epsilon")]
    got = [None] * 8
    errors = []

    def work(first):
        try:
            for _ in range(3):
                for number in range(first, 8, 2):
                    rules = ("alpha2_beta1", "epsilon")[number % 2]
                    got[number] = attribute(model, x[number // 2], rules=rules).relevance
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for one, other in zip(wanted, got):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_repeated_calls_are_bit_identical_and_leave_no_memory_behind():
    import gc

    model, x = seeded(ConvNet()), inputs(2, 2, 8, 8)
    first = attribute(model, x, rules="gamma").relevance
    gc.collect()
    before = sum(type(o) is torch.Tensor for o in gc.get_objects())
    for _ in range(3):
        assert torch.equal(attribute(model, x, rules="gamma").relevance, first)
    gc.collect()
    assert sum(type(o) is torch.Tensor for o in gc.get_objects()) <= before


class Sequence(nn.Module):
    """Recurrence and attention, which torch runs as single calls."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 8, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.encoder(self.lstm(x)[0])


@pytest.mark.parametrize("rules", ["epsilon", [{"match": "conv", "rule": "zero"}]])
def test_recurrent_and_attention_layers_do_not_change(rules):
    model, x = seeded(Sequence()), inputs(2, 4, 3)
    before = snapshot(model, x)
    if isinstance(rules, str):
        attribute(model, x, target=[(0, 0), (3, 7)], rules=rules)
    else:
        with pytest.raises(GeoxaiError, match="no line of rules matches"):
            attribute(model, x, target=(0, 0), rules=rules)
    same(before, snapshot(model, x))
