"""What cannot be explained is answered in one sentence with a remedy, by ``attribute`` and on the command line; what
can be, whatever mode it runs in, is explained.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from geoxai.attribution import attribute
from geoxai.errors import GeoxaiError
from tests.attribution.networks import inputs, seeded
from tests.integration.running import geoxai

NET = seeded(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)))
X = inputs(3, 4)
WITH_NAN = torch.where(torch.eye(3, 4).bool(), torch.nan, X)


class Packed(nn.Module):
    def __init__(self, ends):
        super().__init__()
        self.lstm, self.ends = nn.LSTM(3, 4, batch_first=True), ends

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, [4, 2], batch_first=True)
        outputs, (state, _) = self.lstm(packed)
        return state[0] if self.ends == "state" else nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0]


def scripted():
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        return torch.jit.trace(NET, X)


def one_sentence(error):
    assert error.message
    assert "\n" not in error.message
    assert len(error.message) < 250
    assert not error.message.endswith(".")


@pytest.mark.parametrize(
    ("network", "x", "options", "words", "remedy"),
    [
        (lambda: nn.Sequential(NET, nn.Softmax(1)).eval(), X, {"start": "output"}, "softmax at 1, input shape (3, 3)",
         "start: logit"),
        (lambda: nn.Sequential(NET, nn.Softmax(1), NET[2]).eval(), X, {}, "softmax inside the network", "attnlrp"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout()), X, {}, "training mode (first at", "model.eval()"),
        (lambda: nn.BatchNorm1d(4, track_running_stats=False).double().eval(), X, {}, "statistics of the batch",
         "model.eval()"),
        (lambda: NET, torch.ones(3, 4, dtype=torch.int64), {}, "torch.int64, expected floats", "x.float()"),
        (lambda: NET, np.ones((3, 4), bool), {}, "torch.bool, expected floats", "x.float()"),
        (lambda: NET, X.to(torch.complex128), {}, "complex128, expected floats", "x.float()"),
        (lambda: NET, X[0], {}, "expected (samples, ...)", ""),
        (lambda: NET, X[:0], {}, "at least one sample", ""),
        (lambda: NET, X, {"target": np.zeros(3, bool)}, "mask is empty", ""),
        (lambda: NET, WITH_NAN, {}, "3 of 12 input values are NaN", "fill missing values"),
        (lambda: lambda x: NET(x.sqrt()), X, {}, "explained values are NaN", "roots and logarithms"),
        (lambda: lambda x: F.linear(x, WITH_NAN), X, {}, "explained values are NaN", "weights that are NaN"),
        (lambda: nn.Sequential(NET, nn.Flatten(), Sorted()).eval(), X, {}, "logcumsumexp at 2, input shape (3, 3)",
         "other operations"),
        (lambda: lambda x: torch.fft.rfft(x).abs(), X, {}, "complex numbers, here of fft_rfft", "method gradient"),
        (lambda: lambda x: torch.fft.irfft(torch.fft.rfft(x), n=4), X, {}, "fft_irfft", "method gradient"),
        (lambda: lambda x: torch.view_as_real(torch.view_as_complex(x.view(3, 2, 2)) * 1j).flatten(1), X, {},
         "complex numbers", "method gradient"),
        (lambda: Packed("state").double().eval(), inputs(2, 4, 3), {}, "sequences are packed", "padded"),
        (lambda: Packed("outputs").double().eval(), inputs(2, 4, 3), {"target": (1, 0)}, "sequences are packed",
         "padded"),
        (scripted, X, {}, "TorchScript hides", "torch.export"),
        (lambda: nn.Sequential(scripted()).eval(), X, {}, "TorchScript hides", "torch.export"),
        (lambda: (lambda script: lambda x: script(x))(scripted()), X, {}, "through torch operations", "torch.export"),
        (lambda: lambda x: torch.vmap(NET)(x), X, {}, "through torch operations", "vmap"),
        (lambda: lambda x: NET(x).argmax(1), X, {}, "torch.int64, which has no relevance", "before an argmax"),
        (lambda: lambda x: NET(x).numpy(), X, {}, "returns a ndarray", "torch tensor"),
        (lambda: lambda x: NET(x).sum(), X, {}, "has shape (), expected 3 samples", "sample_axis"),
        (lambda: NET.state_dict(), X, {}, "OrderedDict, which cannot be called", ""),
    ],
)  # fmt: skip
def test_bad_cases_are_answered(network, x, options, words, remedy):
    with pytest.raises(GeoxaiError) as caught:
        attribute(network(), x, **{"target": 0, **options})
    assert words in caught.value.message
    assert remedy in (caught.value.fix or "")
    one_sentence(caught.value)


class Sorted(nn.Module):
    def forward(self, x):
        return torch.logcumsumexp(x, 1)


class Inference(nn.Module):
    """A network whose own code runs in inference mode, wholly or in parts, in place and through views."""

    def __init__(self, parts):
        super().__init__()
        self.first, self.last, self.parts = NET[0], NET[2], parts

    def forward(self, x):
        if not self.parts:
            with torch.inference_mode():
                return self.last(self.first(x).relu_())
        with torch.inference_mode():
            y = self.first(x)
            y[:, :2].relu_()
            y[:, 2] = y[:, 2].clamp(min=0)
        return self.last(y)


@pytest.mark.parametrize("rules", ["epsilon", "alpha2_beta1"])
def test_inference_mode_changes_nothing(rules):
    wanted = attribute(NET, X, rules=rules, target=1).relevance
    for parts in (False, True):
        got = attribute(Inference(parts).eval(), X, rules=rules, target=1)
        torch.testing.assert_close(got.relevance, wanted, rtol=0, atol=0)
    with torch.inference_mode():
        made_there = X.clone()
        torch.testing.assert_close(attribute(NET, X, rules=rules, target=1).relevance, wanted)
        gradient = attribute(NET, X, method="gradient", target=1)
    torch.testing.assert_close(attribute(NET, made_there, rules=rules, target=1).relevance, wanted)
    torch.testing.assert_close(attribute(NET, made_there, method="gradient", target=1).relevance, gradient.relevance)
    got = attribute(Inference(False).eval(), X, method="gradient", target=1)
    torch.testing.assert_close(got.relevance, gradient.relevance)
    with pytest.raises(GeoxaiError, match="overwrites values in place") as caught:
        attribute(Inference(True).eval(), X, method="gradient", target=1)
    assert "out of place" in caught.value.fix


def test_a_batch_of_one_is_explained_as_in_a_batch():
    whole = attribute(NET, X, rules="alpha2_beta1", target=1)
    for number in range(3):
        alone = attribute(NET, X[number : number + 1], rules="alpha2_beta1", target=1)
        torch.testing.assert_close(alone.relevance[0], whole.relevance[number], rtol=1e-12, atol=1e-14)


def test_a_fused_softmax_is_stepped_over_and_noted():
    got = attribute(nn.Sequential(NET, nn.Softmax(1)).eval(), X)
    torch.testing.assert_close(got.relevance, attribute(NET, X).relevance)
    assert any("closing softmax was stepped over" in note for note in got.notes)


def test_an_output_that_is_not_positive_is_flagged_and_warned_of(caplog):
    values = NET(X).detach()[:, 0]
    got = attribute(NET, X - 10 * X.sign() * (values > 0)[:, None], rules="alpha1_beta0", target=0)
    flagged = got.target_value <= 0
    assert bool(flagged.any())
    torch.testing.assert_close(got.nonpositive_target, flagged)
    assert [record.name for record in caplog.records] == ["geoxai.attribution"]
    assert f"{int(flagged.sum())} of 3 explained values are not positive" in caplog.text


CODE = """import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 9, stride=9), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(torch.logcumsumexp(self.conv(x).mean((2, 3)), 1))
"""
CONFIG = """version: 1
output: {{dir: {folder}/run}}
stages:
  sst: {{use: load.netcdf, path: "{data}", variables: {{sst: {{units: degC}}}}}}
  anomaly: {{use: anomaly, fit: [2000, 2015]}}
  enso: {{use: index.oni, from: sst}}
  samples: {{use: samples, inputs: [anomaly], labels: enso, classes: [la_nina, el_nino], scale: none}}
  network: {{use: model, path: {folder}/net.pt, architecture: "nets:Network", task: classification}}
  relevance: {{use: explain.lrp}}
"""


def test_the_command_line_says_it_at_the_stage(tmp_path):
    (tmp_path / "nets.py").write_text(CODE)
    layers = nn.ModuleDict({"conv": nn.Conv2d(1, 2, 9, stride=9), "head": nn.Linear(2, 2)})
    torch.save(layers.state_dict(), tmp_path / "net.pt")
    data = Path(__file__).resolve().parents[2] / "data_samples" / "sst_2000-2022.nc"
    (tmp_path / "c.yaml").write_text(CONFIG.format(folder=tmp_path, data=data))
    done = geoxai("run", tmp_path / "c.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "stage 'relevance': relevance cannot cross logcumsumexp at the network itself, input shape" in done.stderr
    assert "write it with other operations, or explain with method gradient" in done.stderr
