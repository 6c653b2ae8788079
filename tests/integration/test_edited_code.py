"""Results of code that was edited later are recomputed: networks, stages of other packages, what these import."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr

import geoxai
from geoxai.config import load
from geoxai.pipeline.units import perform_in_worker
from geoxai.pipeline.workspace import bind
from tests.integration.fields import field, write_fields
from tests.integration.running import geoxai as command

NETWORK = """from torch import nn

from parts.scales import SCALE


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(96, 2)

    def forward(self, x):
        from late import shift  # only now

        return self.linear(x.flatten(1) * SCALE) + shift(x)
"""
STAGE = """from typing import Annotated, ClassVar

from pydantic import Field

from doubled_by import FACTOR
from geoxai.stages.stage import LazyStage, Reference


class Doubled(LazyStage):
    \"\"\"Twice the fields.\"\"\"

    use: ClassVar[str] = "doubled"
    gives: ClassVar[str] = "grid"
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(None, alias="from", description="Fields.")

    def open(self, context):
        return context.sources["from"] * FACTOR
"""
CONFIG = """version: 1
output: {dir: run}
compute: {executor: serial, workers: 2}
stages:
  data: {use: load.netcdf, path: t.nc}
  doubled: {use: doubled}
  labels: {use: labels.table, path: labels.csv, from: data}
  samples: {use: samples, inputs: [doubled], labels: labels, target: class, scale: none}
  network: {use: model, path: net.pt, architecture: "nets:Network"}
  relevance: {use: explain.lrp, rules: epsilon, target: warm, score: logit, chunk: 12, batch_size: 12}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment with a network and a stage of the user's own, in packages and a namespace package."""
    write_fields(tmp_path, t=field("t", 1))
    for name, text in {
        "nets.py": NETWORK,
        "parts/scales.py": "SCALE = 1.0\n",  # a namespace package
        "late.py": "from parts import scales as _\n\n\ndef shift(x):\n    return 0.0 * x.flatten(1)[:, :1]\n",
        "other.py": "UNUSED = 1\n",
        "installed/doubling.py": STAGE,
        "installed/doubled_by.py": "FACTOR = 2.0\n",
        "installed/doubling-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: doubling\nVersion: 1.0\n",
        "installed/doubling-1.0.dist-info/entry_points.txt": "[geoxai.stages]\ndoubled = doubling:Doubled\n",
        "c.yaml": CONFIG,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    weight = torch.sin(torch.arange(192.0)).reshape(2, 96)
    torch.save({"linear.weight": weight, "linear.bias": torch.zeros(2)}, tmp_path / "net.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def run(*arguments: str) -> Any:
    done = command("run", "c.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    return xr.open_zarr("run/relevance.zarr").relevance.load()


def edit(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def computed() -> set[str]:
    """Stages whose units the last run computed."""
    stages = json.loads(Path("run/run.json").read_text())["stages"]
    return {name for name, stage in stages.items() if stage.get("computed")}


@pytest.mark.slow
def test_edited_code_computes_again(folder: Path) -> None:
    before = run()
    assert computed() == {"samples", "relevance"}
    edit("other.py", "1", "2")
    run()
    assert computed() == set()
    for file, old, new, stages, factor in [
        ("nets.py", "* SCALE", "* SCALE * 3", {"relevance"}, 3),
        ("parts/scales.py", "1.0", "2.0", {"relevance"}, 2),
        ("late.py", "0.0 * x.flatten(1)[:, :1]", "2.0 * x.flatten(1)[:, :1]", {"relevance"}, None),
        ("installed/doubling.py", "* FACTOR", "* FACTOR * 3", {"samples", "relevance"}, 3),
        ("installed/doubled_by.py", "2.0", "6.0", {"samples", "relevance"}, 3),
    ]:
        edit(file, old, new)
        after = run()
        assert computed() == stages, file
        assert not after.equals(before), file
        if factor is not None:
            xr.testing.assert_allclose(after, before * factor, rtol=1e-4, atol=1e-4)
        before = after


@pytest.mark.slow
def test_a_network_edited_between_plan_and_run_runs_as_edited(folder: Path) -> None:
    before = run()
    edit("parts/scales.py", "1.0", "2.0")
    plan = command("plan", "c.yaml").stdout
    assert "to be fitted: code.parts.scales changed" in plan
    assert "stages above.model changed" in next(line for line in plan.splitlines() if line.startswith("relevance"))
    edit("parts/scales.py", "2.0", "3.0")
    xr.testing.assert_allclose(run(), before * 3, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_workers_compute_with_the_edited_code(folder: Path) -> None:
    plain = run("--set", "compute.executor=local")
    edit("parts/scales.py", "1.0", "3.0")
    xr.testing.assert_allclose(run("--set", "compute.executor=local"), plain * 3, rtol=1e-4, atol=1e-4)


def test_a_worker_refuses_other_code_than_the_run_began_with(folder: Path, forgotten: Callable[[], None]) -> None:
    run()
    forgotten()
    workspace = bind(load("c.yaml"))
    began = workspace.fingerprint("relevance"), workspace.code_hash("relevance")
    edit("late.py", "0.0", "1.0")
    outcome = perform_in_worker(str(folder / "run"), "relevance", 1, *began)
    assert "has changed since the run started" in str(outcome.error)
    assert "run the same command again" in str(outcome.error)


@pytest.fixture
def forgotten(folder: Path) -> Any:
    """The modules of the experiment, found in this process and forgotten afterwards."""
    names = ("nets", "parts", "parts.scales", "late", "doubling", "doubled_by")

    def forget() -> None:
        for name in names:
            sys.modules.pop(name, None)
        geoxai.stages.discovered.cache_clear()

    sys.path.append(str(folder / "installed"))
    sys.path.append(str(folder))
    yield forget
    sys.path.remove(str(folder / "installed"))
    sys.path.remove(str(folder))
    forget()


def test_in_one_process_an_edited_network_is_loaded_anew(folder: Path, forgotten: Callable[[], None]) -> None:
    forgotten()
    assert geoxai.run("c.yaml").exit_code == 0
    before = xr.open_zarr("run/relevance.zarr").relevance.load()
    edit("parts/scales.py", "1.0", "3.0")
    assert geoxai.run("c.yaml").exit_code == 0
    xr.testing.assert_allclose(xr.open_zarr("run/relevance.zarr").relevance.load(), before * 3, rtol=1e-4, atol=1e-4)


def test_in_one_process_an_edited_stage_is_refused(folder: Path, forgotten: Callable[[], None]) -> None:
    forgotten()
    assert geoxai.run("c.yaml").exit_code == 0
    edit("installed/doubled_by.py", "2.0", "6.0")
    again = geoxai.run("c.yaml")
    assert again.exit_code == 1
    assert "the source of doubled_by has changed since this process loaded it" in again.message
    assert "start Python again" in again.message
