"""Networks that nobody here trained, and what identifies a network."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from geoxai.errors import GeoxaiError
from geoxai.models.load import load_network
from geoxai.models.networks import digest_of


def test_the_digest_is_of_the_weights_not_of_the_file(tmp_path):
    net = nn.Linear(3, 2)
    torch.save(net.state_dict(), tmp_path / "a.pt")
    torch.save({"epoch": 7, "state_dict": net.state_dict()}, tmp_path / "b.pth")
    args = {"in_features": 3, "out_features": 2}
    a, b = (load_network(tmp_path / f, architecture="torch.nn:Linear", args=args) for f in ("a.pt", "b.pth"))
    assert a.digest == b.digest == digest_of([net])
    with torch.no_grad():
        net.weight[0, 0] += 1e-6
    assert digest_of([net]) != a.digest
    assert digest_of([nn.BatchNorm2d(2)]) == digest_of([nn.BatchNorm2d(2)])


def test_an_architecture_beside_the_config_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_network_for_a_test.py").write_text(
        "from torch import nn\n\ndef make(width):\n    return nn.Linear(width, 1)\n"
    )
    torch.save(nn.Linear(4, 1).state_dict(), tmp_path / "net.pt")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    loaded = load_network("net.pt", architecture="my_network_for_a_test:make", args={"width": 4})
    assert loaded.module.in_features == 4
    assert sys.path == path


def test_dropout_and_batch_norm_are_in_evaluation_mode(tmp_path):
    torch.save(nn.Sequential(nn.BatchNorm2d(1), nn.Dropout()), tmp_path / "net.pt")
    loaded = load_network(tmp_path / "net.pt", trust=True)
    assert not any(module.training for module in loaded.module.modules())


def test_keras_is_asked_for_where_it_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "net.keras").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(GeoxaiError, match="keras is not installed") as error:
        load_network(tmp_path / "net.keras")
    assert "geoxai-pipeline[keras]" in error.value.fix


@pytest.mark.parametrize(
    ("name", "weights", "output"),
    [("sub-sevir-unet-class-2d.h5", 69_921, (2, 48, 48, 1)), ("sub-sevir-cnn-class-1d.h5", None, (2, 1))],
)
def test_published_keras_networks_run_on_torch(shared_data, name, weights, output):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend here")
    loaded = load_network(shared_data / "pretrained_keras_cc0" / name)
    if weights:
        assert sum(p.numel() for p in loaded.module.parameters()) == weights
    x = torch.rand(2, 48, 48, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = loaded.module(x)
    assert y.shape == output
    assert ((y > 0) & (y < 1)).all()
    assert loaded.fixed_batch is None


def test_the_options_start_without_torch():
    code = "import sys, geoxai.stages.train, geoxai.stages.model, geoxai.stages.predict; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
