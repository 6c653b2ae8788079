"""Workers that die, and runs that are interrupted, with the stages of another package."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from geoxai.pipeline.ledger import Ledger
from tests.integration.running import command, environment, geoxai

STAGES = '''
import os, signal, time
from typing import Annotated, ClassVar
import dask.array as da, numpy as np, xarray as xr
from pydantic import Field
from geoxai.stages.stage import Layout, LazyStage, Reference, StoredStage

class Numbers(LazyStage):
    """Numbers."""
    use: ClassVar[str] = "my.numbers"
    gives: ClassVar[str] = "grid"
    def open(self, context):
        return xr.Dataset({"v": ("time", np.arange(8.0))})

class Work(StoredStage):
    """Units that do as they are told."""
    use: ClassVar[str] = "my.work"
    gives: ClassVar[str] = "samples"
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(None, alias="from")
    kill: tuple[int, ...] = ()
    kill_once: tuple[int, ...] = ()
    seconds: float = 0.0
    def layout(self, context):
        return Layout(xr.Dataset({"w": ("sample", da.zeros(8, chunks=1))}), "sample", 1)
    def compute(self, context, start, stop):
        before = context.run_dir / f"died-{start}"
        if start in self.kill or (start in self.kill_once and not before.exists()):
            before.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return xr.Dataset({"w": ("sample", context.sources["from"]["v"].values[start:stop])})
'''


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a config of stages that an installed package offers: its code and its metadata are on the path."""
    (tmp_path / "my_stages.py").write_text(STAGES)
    metadata = tmp_path / "my_stages-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-stages\nVersion: 1.0\n")
    points = "[geoxai.stages]\nmy.numbers = my_stages:Numbers\nmy.work = my_stages:Work\n"
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))

    def write(work: str, executor: str = "local") -> Path:
        path = tmp_path / "my.yaml"
        compute = f"{{executor: {executor}, workers: 2, device: cpu}}"
        stages = f"{{numbers: {{use: my.numbers}}, work: {{use: my.work, {work}}}}}"
        path.write_text(f"version: 1\noutput: {{dir: {tmp_path / 'run'}}}\ncompute: {compute}\nstages: {stages}\n")
        return path

    return write


def test_only_the_unit_that_kills_its_worker_fails(config: Callable[..., Path], tmp_path: Path) -> None:
    done = geoxai("run", config("kill: [1], kill_once: [4]"))
    assert done.returncode == 4, done.stderr
    assert "unit 1 killed the workers that tried it, most likely out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    ledger = Ledger(tmp_path / "run", "work")
    assert list(ledger.failures()) == [1]
    found = ledger.read()
    assert found is not None
    assert ledger.done(found.fingerprint) == {0, 2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_ctrl_c_ends_at_once_and_quietly(config: Callable[..., Path], tmp_path: Path, executor: str) -> None:
    path = config("seconds: 60", executor)
    process = subprocess.Popen(
        command("run", path),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    while not (tmp_path / "run" / "ledger" / "work" / "stage.json").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    time.sleep(2 if executor == "serial" else 5)
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - begun < 30  # a few seconds on a quiet machine
    assert told.splitlines() == [f"interrupted; go on with: geoxai run {path}"]
    assert not [p for p in Path("/proc").glob("[0-9]*/stat") if _alive_in(p, process.pid)]


def _alive_in(stat: Path, session: int) -> bool:
    try:
        state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return False
    return int(sid) == session and state != "Z"
