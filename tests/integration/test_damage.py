"""Results that a disk, a copy or a person has damaged: known, told once, and computed anew to the same bytes."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
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

        def healed(self) -> bool:
            return results(self.run) == results(self.good)

    return Damaged


def results(run: Path) -> dict[str, bytes]:
    """Every byte of what a run made, without its record and its ledger."""
    files = (p for p in run.rglob("*") if p.is_file() and p.name not in OF_THE_RUN)
    return {str(p.relative_to(run)): p.read_bytes() for p in files if "ledger" not in p.parts}


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
            if some.healed():
                continue
            assert how is flip, file  # the size is as it was: known when it is read, or by
            verified = geoxai("verify", some.run)
            assert verified.exit_code == 1
            assert f"{file} is not what was written" in verified.stdout
            shutil.copy(some.good / file, some.run / file)
