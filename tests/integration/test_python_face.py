"""``geoxai.run`` from Python: values set, failures raised, plain scripts, and several outputs per sample."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import geoxai
from geoxai.errors import GeoxaiError
from tests.integration.fields import field, geoxai_, store, write_fields

CONFIG = """\
version: 1
compute: {executor: local, workers: 2}
stages:
  sst: {use: load.netcdf, path: sst.nc}
  labels: {use: labels.table, path: labels.csv}
  samples: {use: samples, inputs: [sst], labels: labels, target: value, scale: none, chunk: 12}
  network:
    {use: model, path: net.pt, architecture: "torch.nn:Linear", args: {in_features: 96, out_features: 3}, layout: flat}
  relevance: {use: explain.lrp, target: 2, rules: zero, chunk: 12}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    torch.manual_seed(0)
    torch.save(nn.Linear(96, 3).state_dict(), "net.pt")
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def expected(folder):
    weights = torch.load(folder / "net.pt", weights_only=True)["weight"][2].reshape(8, 12).numpy()
    return xr.open_dataset(folder / "sst.nc")["sst"].values * weights


def test_one_of_several_values_of_a_network_is_explained(folder):
    done = geoxai_("run", "c.yaml", "--set", "compute.executor=serial")
    assert done.exit_code == 0, done.output
    found = store(folder / "runs/c", "relevance")
    np.testing.assert_allclose(found["relevance"].squeeze("channel").values, expected(folder), rtol=1e-4, atol=1e-6)
    beyond = geoxai_("plan", "c.yaml", "--set", "stages.relevance.target=3")
    assert beyond.exit_code == 2
    assert "target 3 is outside the network's output, which has 3 values per sample" in beyond.output
    planned = geoxai_("plan", "c.yaml", "--set", "stages.predictions={use: predict}")
    assert planned.exit_code == 2
    assert "3 values per sample; these can be explained (target: 0, 1, ...) but not stored" in planned.output


def test_values_are_set_and_failures_raised(folder):
    values = {"compute.executor": "serial", "output.dir": folder / "elsewhere", "stages.relevance.target": np.int64(1)}
    result = geoxai.run("c.yaml", set=values, check=True)
    assert result.exit_code == 0
    assert geoxai.open_run(folder / "elsewhere")["relevance"].attrs["target"] == "1"
    missing = {"stages.sst.path": "none.nc"}
    assert geoxai.run("c.yaml", set=missing).exit_code == 3
    with pytest.raises(GeoxaiError, match=r"none\.nc") as failed:
        geoxai.run("c.yaml", set=missing, check=True)
    assert failed.value.exit_code == failed.value.result.exit_code == 3
    with pytest.raises(GeoxaiError, match=r"stages\.network\.epoks"):
        geoxai.run("c.yaml", set={"stages.network.epoks": 1}, check=True)
    assert geoxai.run("c.yaml", set=["a=1"]).exit_code == 2


@pytest.mark.parametrize("guarded", [False, True])
def test_a_plain_script_runs(folder, guarded):
    call = 'result = geoxai.run("c.yaml", check=True)\nprint("times", len(open("count").readlines()))\n'
    body = f"if __name__ == '__main__':\n    {call.replace(chr(10), chr(10) + '    ')}" if guarded else call
    (folder / "script.py").write_text(f"import geoxai\nopen('count', 'a').write('x\\n')\n{body}\n")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert ("outside of `if __name__ == '__main__':`" in done.stderr) is not guarded
    assert "script.py:3" in done.stderr or guarded
    if not guarded:
        assert "times 1" in done.stdout
    assert store(folder / "runs/c", "relevance").sizes["sample"] == 48
