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
    """The ledger's entries of finished units, also while a run adds to them and removes others."""
    while True:
        try:
            return {p: p.read_bytes() for p in (run_dir / "ledger").glob("*/[0-9]*.json") if p.stem.isdigit()}
        except FileNotFoundError:
            continue


def killed(config: Path, run_dir: Path, units: int, seconds: float) -> bool:
    """Start a run, wait for some more finished units and then some seconds, kill it with all its workers.

    Whether it was still going.
    """
    wanted = len(entries(run_dir)) + units
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command("run", config), start_new_session=True, env=environment(), **silent) as process:
        while process.poll() is None and len(entries(run_dir)) < wanted:
            time.sleep(0.01)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_killed_at_random_moments(small: Callable[..., Path], tmp_path: Path, executor: str) -> None:
    assert geoxai("run", small("whole", executor="serial", epochs=200)).returncode == 0
    config, run_dir = small("killed", executor=executor, workers=2, epochs=200), tmp_path / "killed"
    moments = random.Random(20261121)
    before: dict[Path, bytes] = {}
    kills = 0
    for _ in range(5):
        kills += killed(config, run_dir, units=moments.randint(0, 3), seconds=moments.uniform(0.02, 0.3))
        after = entries(run_dir)
        assert {path: after.get(path) for path in before} == before, "a finished unit was computed again"
        before = after
    assert kills == 5
    last = geoxai("run", config)
    assert last.returncode == 0, last.stderr
    after = entries(run_dir)
    assert {path: after[path] for path in before} == before
    assert 0 < len(before) < len(after)
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
