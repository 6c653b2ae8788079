"""Parts of a network that are empty for some batches, such as an expert that no sample goes to, cross as others do."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from tests.attribution.detached import check
from tests.attribution.networks import inputs

RULES = ["epsilon", "gamma", "alpha2_beta1", "epsilon_plus", "z_plus", "flat", "attnlrp"]


def added(part):
    return lambda net, h, none: torch.cat([h, part(net, none)])


EMPTY = {
    "linear": added(lambda net, none: net.mix(none)),
    "convolution": added(lambda net, none: net.conv(none)),
    "doubled": added(lambda net, none: none * 2),
    "doubled in place": added(lambda net, none: (none * 1).mul_(2)),
    "constant added": added(lambda net, none: none + 1),
    "sum": added(lambda net, none: none + none.relu()),
    "difference": added(lambda net, none: none - none.flip(1)),
    "activation": added(lambda net, none: F.gelu(none)),
    "gated": added(lambda net, none: none * none.sigmoid()),
    "gated by another": added(lambda net, none: none * net.mix(none).sigmoid()),
    "softmax": added(lambda net, none: none.softmax(1) @ none),
    "product": added(lambda net, none: none @ none.softmax(-1)),
    "layer norm": added(lambda net, none: F.layer_norm(none, (4,))),
    "average": added(lambda net, none: none.mean(1, keepdim=True).expand(-1, 4, -1)),
    "largest": added(lambda net, none: none.amax(1, keepdim=True).expand(-1, 4, -1)),
    "pooling": added(lambda net, none: F.max_pool1d(none, 3, 1, 1)),
    "masked": added(lambda net, none: torch.where(none > 0, none, 0.0)),
    "stacked": lambda net, h, none: torch.cat([h, torch.stack([none, none]).sum(0)]),
    "written": lambda net, h, none: torch.cat([h, none]).index_put((torch.arange(0),), none),
    "a slice doubled": lambda net, h, none: net.written(h, lambda t: t[len(h) :].mul_(2)),
    "a slice rectified": lambda net, h, none: net.written(h, lambda t: F.relu(t[len(h) :], inplace=True)),
    "a slice replaced": lambda net, h, none: net.written(h, lambda t: t.__setitem__(slice(len(h), None), none)),
    "a slice of a slice": lambda net, h, none: net.written(h, lambda t: t[len(h) :, :2].add_(t[len(h) :, 2:])),
    "along another axis": lambda net, h, none: net.written(h, lambda t: t[:, 4:].mul_(2)),
    "split off": lambda net, h, none: torch.cat([t.relu() + t for t in h.split([4, 0], 1)], 1),
    "expert without samples": lambda net, h, none: h.index_add(0, torch.arange(0), net.mix(none)),
}


class Beside(nn.Module):
    """A branch of which a part is empty."""

    def __init__(self, branch):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mix, self.conv = nn.Conv1d(2, 4, 3), nn.Linear(4, 4), nn.Conv1d(4, 4, 1)
        self.head = nn.Linear(16, 2)
        self.branch = branch

    def written(self, h, write):
        h = h * 1
        write(h)
        return h

    def forward(self, x):
        h = self.first(x)
        return self.head(self.branch(self, h, h[len(h) :]).flatten(1))


@pytest.mark.parametrize("name", EMPTY)
def test_empty_parts_cross(name):
    model, x = Beside(EMPTY[name]).double().eval(), inputs(3, 2, 6)
    check(model, x)
    check(model, x[:1])
    for rules in RULES:
        found = attribute(model, x, rules=rules, target=0, start="output", score="logit")
        account = found.relevance.flatten(1).sum(1) + found.bias + found.stabiliser + found.lost
        torch.testing.assert_close(account, found.target_value)
