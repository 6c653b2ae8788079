"""How tensors lie in memory is the engine's business: networks that look at it or write through it get right maps."""

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.errors import GeoxaiError
from tests.attribution.networks import inputs, seeded


class Looking(nn.Module):
    """Does something to memory between two layers."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.head, self.how = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(75, 2), how

    def forward(self, x):
        return self.head(getattr(self, self.how)(x))

    def view(self, x):
        return F.relu(self.conv(x)).view(len(x), -1)

    def write_through_reshape(self, x):
        y = F.relu(self.conv(x))
        y.reshape(len(x), -1)[:, ::2] = 0.0
        return y.flatten(1)

    def write_through_reshape_of_view(self, x):
        y = F.relu(self.conv(x))
        y[:].flatten(1)[:, ::2] *= 0.5
        return y.flatten(1)

    def write_after_reshape_of_view(self, x):
        y = F.relu(self.conv(x))
        flat = y[:].flatten(1)
        y[:, 1] = 0.0
        return flat

    def reshape_of_dropout(self, x):
        return F.dropout(F.relu(self.conv(x)), training=False).flatten(1)

    def write_to_input(self, x):
        x[:, 0, 1:3] = 0.0
        return F.relu(self.conv(x)).flatten(1)

    def write_to_input_from_outside(self, x):
        x.numpy()[:, 0, 1:3] = 0.0
        return F.relu(self.conv(x)).flatten(1)

    def write_to_rectified(self, x):
        y = self.conv(x)
        y.relu_()
        y[:, :2].mul_(0.5)
        return y.flatten(1)


OUTSIDE = "write_to_input_from_outside"
WAYS = [name for name in vars(Looking) if not name.startswith("_") and name not in ("forward", OUTSIDE)]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("rules", ["epsilon", "alpha2_beta1"])
def test_single_precision_equals_double_precision(how, rules):
    x = inputs(2, 2, 5, 5)
    single = x.to(torch.float32)
    before = single.clone()
    wanted = attribute(seeded(Looking(how)), x.clone(), rules=rules, target=1)
    got = attribute(seeded(Looking(how), dtype=torch.float32), single, rules=rules, target=1)
    scale = float(wanted.relevance.abs().max())
    torch.testing.assert_close(got.relevance.double(), wanted.relevance, rtol=1e-3, atol=1e-4 * scale)
    assert torch.equal(single, before)
    assert got.relevance.is_contiguous()


def test_what_is_written_from_outside_torch_is_refused_and_changes_nothing():
    x = inputs(2, 2, 5, 5)
    before = x.clone()
    with pytest.raises(GeoxaiError, match="were written over"):
        attribute(seeded(Looking(OUTSIDE)), x, rules="epsilon", target=1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("rules", ["epsilon", "zero", "gamma"])
def test_relevance_that_starts_where_a_relu_is_shut_meets_the_true_sums(rules):
    """Score ``one`` starts at units whose ReLU is shut; their sums are < 0 and not the ReLU's 0."""
    layer, x = seeded(nn.Linear(4, 3)), inputs(5, 4)
    assert bool((layer(x) < 0).any())
    shut = attribute(nn.Sequential(layer, nn.ReLU()).eval(), x, rules=rules, target="predicted", score="one")
    still = attribute(layer, x, rules=rules, target=shut.prediction.numpy())
    share = still.relevance / still.target_value[:, None]
    torch.testing.assert_close(shut.relevance, share, rtol=1e-4, atol=1e-9)
