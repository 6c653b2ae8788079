"""Results damaged by a disk, a copy or a person: detected, reported once, and recomputed to the same bytes."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from geoxai.cli import app
from tests.integration.conftest import CONFIG, ROOT

OF_THE_RUN = {"run.json", "run.log", "report.html", "config.yaml", "config.resolved.yaml", ".lock", ".geoxai"}


def geoxai(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A config, with its finished run beside it in ``good``."""
    folder = tmp_path_factory.mktemp("damage")
    data = ROOT / "data_samples" / "sst_*.nc"
    text = CONFIG.format(run=folder / "good", data=data, executor="serial", workers=1, epochs=2)
    text += "  netcdf: {use: write.netcdf, from: composite}\n"
    (folder / "c.yaml").write_text(text)
    done = geoxai("run", folder / "c.yaml")
    assert done.exit_code == 0, done.stderr
    assert geoxai("verify", folder / "good").exit_code == 0
    return folder / "c.yaml"


@pytest.fixture
def damaged(finished: Path, tmp_path: Path) -> Callable:
    """Copies the finished run, has it damaged, and runs the config there again."""

    class Damaged:
        good, run = finished.parent / "good", tmp_path / "run"

        def __init__(self):
            shutil.copytree(self.good, self.run)

        def again(self, *options):
            return geoxai("run", finished, "--set", f"output.dir={self.run}", *options)

        def plan(self):
            return geoxai("plan", finished, "--set", f"output.dir={self.run}")

        def other_files(self) -> list[str]:
            """The files that are not as in the undamaged run, to the byte."""
            own, good = results(self.run), results(self.good)
            for name in {*own, *good}:  # HDF5 writes the same in other bytes
                if name.endswith(".nc") and same(self.run / name, self.good / name):
                    own[name] = good[name]
            return [name for name in sorted({*own, *good}) if own.get(name) != good.get(name)]

    return Damaged


def results(run: Path) -> dict[str, bytes]:
    """Every byte of what a run made, without its record and its ledger."""
    files = (p for p in run.rglob("*") if p.is_file() and p.name not in OF_THE_RUN)
    return {str(p.relative_to(run)): p.read_bytes() for p in files if "ledger" not in p.parts}


def same(one: Path, other: Path) -> bool:
    try:
        with xr.open_dataset(one) as a, xr.open_dataset(other) as b:
            return a.identical(b)
    except (OSError, ValueError):
        return False


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def truncate(path: Path, at: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(at * path.stat().st_size)])


def delete(path: Path, at: float = 0.0) -> None:
    path.unlink()


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def told(outcome) -> list[str]:
    """The warnings of damage that a run gave."""
    return [line for line in outcome.stderr.splitlines() if line.startswith("warning: damaged")]


@pytest.mark.slow
@pytest.mark.parametrize("how", [flip, truncate, delete])
def test_any_file_of_a_finished_run(damaged, how):
    moments = random.Random(f"{how.__name__} 20261124")
    some = damaged()
    files = sorted(p.relative_to(some.run) for p in some.run.rglob("*") if p.is_file() and p.name not in OF_THE_RUN)
    for kind in (".json", "c", ".pt", ".png"):
        of_kind = [f for f in files if (kind in f.parts if kind == "c" else f.suffix == kind)]
        for file in moments.sample(of_kind, min(5, len(of_kind))):
            if not (some.run / file).stat().st_size:
                continue
            how(some.run / file, moments.random())
            outcome = some.again()
            assert outcome.exit_code == 0, (file, outcome.stderr)
            assert "Traceback" not in outcome.stderr
            if not some.other_files():
                continue
            assert how is flip, file  # the size is as it was: known when it is read, or by
            verified = geoxai("verify", some.run)
            assert verified.exit_code == 1
            assert f"{file} is not what was written" in verified.stdout
            shutil.copy(some.good / file, some.run / file)


def test_swapped_weights(damaged):
    some = damaged()
    swap(some.run / "network" / "network-0.pt", some.run / "network" / "network-1.pt")
    outcome = some.again("--force", "composite")
    assert outcome.exit_code == 0, outcome.stderr
    (line,) = told(outcome)
    assert "network/network-0.pt is not what was written (network, unit 0)" in line
    assert "network/network-1.pt is not what was written (network, unit 1)" in line
    assert some.other_files() == []


@pytest.mark.parametrize("executor", ["serial", "local"])
@pytest.mark.parametrize("how", [flip, truncate])
def test_samples_that_another_process_reads(damaged, how, executor):
    some = damaged()
    how(some.run / "samples.zarr" / "inputs" / "c" / "3" / "0" / "0" / "0")
    options = ("--set", f"compute.executor={executor}", "--set", "compute.workers=2")
    outcome = some.again("--force", "forecast", "--only", "forecast", *options)
    assert outcome.exit_code == 0, outcome.stderr
    (line,) = told(outcome)
    assert "samples.zarr/inputs/c/3/0/0/0" in line
    assert "(samples, unit 3)" in line
    assert "error" not in outcome.stderr
    assert some.other_files() == []


def silently_changed(some, *, recorded: bool) -> str:
    """Changes a map as memory may before it is written: checksums and sizes agree, and, if ``recorded``, the ledger."""
    file, entry = "relevance.zarr/relevance/c/0/2/0/0/0", some.run / "ledger" / "relevance" / "000002.json"
    store = xr.open_zarr(some.run / "relevance.zarr", consolidated=False)
    whole = store[["relevance"]].isel(sample=slice(64, 96)).drop_vars(list(store.coords)).load()
    whole["relevance"][0, 3] = whole["relevance"][0, 3] * 2 + np.float32(0.5)
    whole.to_zarr(some.run / "relevance.zarr", region={"sample": slice(64, 96)}, mode="r+", consolidated=False)
    noted = json.loads(entry.read_text())
    (file,) = (name for name in noted["files"] if name.startswith("relevance.zarr/relevance/c/"))
    noted["files"][file][0] = (some.run / file).stat().st_size
    if recorded:
        noted["files"][file][1] = hashlib.sha256((some.run / file).read_bytes()).hexdigest()[:32]
    entry.write_text(json.dumps(noted))
    return file


def test_a_composite_checks_the_account_of_what_it_reads(damaged):
    some = damaged()
    file = silently_changed(some, recorded=False)
    outcome = some.again("--force", "composite")
    assert outcome.exit_code == 0, outcome.stderr
    assert file in told(outcome)[0]
    assert some.other_files() == []


def test_an_account_that_does_not_close_is_refused_by_store_and_sample(damaged):
    some = damaged()
    silently_changed(some, recorded=True)
    verified = geoxai("verify", some.run)
    assert verified.exit_code == 1
    assert "relevance.zarr: the account of sample" in verified.stdout
    outcome = some.again("--force", "composite")
    assert outcome.exit_code in (1, 4)
    sample = int(xr.open_zarr(some.run / "relevance.zarr", consolidated=False)["sample"][67])
    assert f"relevance.zarr: the account of sample {sample}, network 0 does not close" in outcome.stderr
    assert "compute them anew with --force relevance" in outcome.stderr
    assert some.again("--force", "relevance").exit_code == 0
    assert some.other_files() == []


@pytest.mark.parametrize("lost", ["zarr.json", "relevance/zarr.json", "lat/c/0", ""])
def test_a_store_that_lost_its_frame(damaged, lost):
    some = damaged()
    path = some.run / "relevance.zarr" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "damaged: relevance.zarr" in some.plan().stdout
    outcome = some.again()
    assert outcome.exit_code == 0, outcome.stderr
    assert f"{path.relative_to(some.run)} is gone (relevance)" in told(outcome)[0]
    assert some.other_files() == []


def test_a_fit_of_a_complete_stage_whose_frame_is_not_json(damaged):
    some = damaged()
    flip(some.run / "samples.fit.zarr" / "split" / "zarr.json")
    (some.run / "samples.fit.zarr" / "zarr.json").write_text("{")
    outcome = some.again()
    assert outcome.exit_code == 0, outcome.stderr
    assert "(samples (fit))" in told(outcome)[0]
    assert some.other_files() == []


def test_an_emptied_fit(damaged):
    some = damaged()
    for path in (some.run / "anomaly.fit.zarr").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome = some.again("--force", "samples")
    assert outcome.exit_code == 0, outcome.stderr
    assert "(anomaly (fit))" in told(outcome)[0]
    assert some.other_files() == []
