"""A job that is killed goes on where it stopped, and ends with the same bytes."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import command, environment, geoxai, stored


def entries(run_dir: Path) -> dict[Path, bytes]:
    """The ledger's entries of finished units."""
    return {p: p.read_bytes() for p in (run_dir / "ledger").glob("*/[0-9]*.json") if p.stem.isdigit()}


def killed_after(seconds: float, config: Path) -> bool:
    """Start a run and kill it with all its workers; whether it was still going."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command("run", config), start_new_session=True, env=environment(), **silent) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_killed_at_random_moments(small: Callable[..., Path], tmp_path: Path, executor: str) -> None:
    whole = small("whole", executor="serial", epochs=60)
    begun = time.monotonic()
    assert geoxai("run", whole).returncode == 0
    seconds = time.monotonic() - begun

    config, run_dir = small("killed", executor=executor, workers=2, epochs=60), tmp_path / "killed"
    moments = random.Random(20261121)
    kills, before = 0, {}
    for _ in range(5):
        kills += killed_after(moments.uniform(0.3, 0.9) * seconds, config)
        after = entries(run_dir)
        assert {path: after.get(path) for path in before} == before, "a finished unit was computed again"
        before = after
    assert kills >= 2
    last = geoxai("run", config)
    assert last.returncode == 0, last.stderr
    after = entries(run_dir)
    assert {path: after[path] for path in before} == before
    assert stored(run_dir) == stored(tmp_path / "whole")


def test_a_terminated_run_ends_cleanly(small: Callable[..., Path], tmp_path: Path) -> None:
    config = small(epochs=3000)
    process = subprocess.Popen(command("run", config), env=environment(), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "ledger" / "network").exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    time.sleep(1)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "go on with: geoxai run" in message
    assert "Traceback" not in message
