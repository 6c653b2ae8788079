"""How far a run is: what is said of it while it goes on, and what is left of that in run.log."""

import io
import logging
import os
import pty
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from geoxai.config import load
from geoxai.pipeline import run
from geoxai.pipeline.executors import executor
from geoxai.pipeline.progress import Lines, progress
from geoxai.pipeline.units import begin
from geoxai.pipeline.workspace import bind


def test_off_a_terminal_progress_is_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    shown = Lines(lambda: now)
    with caplog.at_level(logging.INFO, "geoxai.pipeline"):
        for done in range(301):
            shown.units("explain", done, 300)
            now += 1.0
    assert len(caplog.messages) == 300 // 60
    assert caplog.messages[0] == "explain: 60 of 300 units, about 4 min left"


def test_a_unit_that_says_how_far_it_is_shares_that_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    shown = Lines(lambda: now)
    with caplog.at_level(logging.INFO, "geoxai.pipeline"):
        shown.units("network", 0, 2)
        for epoch in range(1, 102):
            now += 1.0
            shown.inside("network", 0, epoch, 200, f"epoch {epoch} of 200, loss 0.5")
        shown.ended("network", 0)
        shown.units("network", 1, 2)
        now += 30.0
        shown.inside("network", 1, 1, 200, "epoch 1 of 200, loss 0.7")
    assert caplog.messages == [
        "network, unit 0: epoch 60 of 200, loss 0.5, about 2 min left",
        "network, unit 1: epoch 1 of 200, loss 0.7",
    ]


def test_on_a_terminal_it_is_a_bar_with_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress() as shown:
        shown.units("network", 0, 1)
        for epoch in (1, 2):
            shown.inside("network", 0, epoch, 4, f"epoch {epoch} of 4, loss 0.25 [x]")
    said = sys.stderr.getvalue()
    assert "network" in said
    assert "0: epoch 2 of 4, loss 0.25 [x]" in said
    assert "2/4" in said


def test_what_a_worker_says_after_its_unit_ended_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    with progress() as shown:
        shown.units("network", 0, 1)
        shown.ended("network", 0)
        shown.inside("network", 0, 3, 4, "too late")
    assert "too late" not in terminal.getvalue()


@pytest.mark.slow
def test_run_log_is_the_same_on_a_terminal_and_off_it(small: Callable[..., Path], tmp_path: Path) -> None:
    quiet, watched = small("quiet", epochs=3), small("watched", epochs=3)
    command = [sys.executable, "-m", "geoxai", "run"]
    os.spawnv(os.P_WAIT, sys.executable, [*command, str(quiet)])
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*command, str(watched)])
    with suppress(OSError):  # the other end is closed
        while os.read(terminal, 4096):
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    said = [_info(tmp_path / name / "run.log") for name in ("quiet", "watched")]
    assert said[1] == [line.replace("quiet", "watched") for line in said[0]]
    assert any("network: 2 of 2 units" in line for line in said[1])


def test_training_says_epoch_and_loss(small: Callable[..., Path]) -> None:
    heard = _heard(small(epochs=5))
    assert [(unit, done, total) for _, unit, done, total, _ in heard] == [
        (u, e, 5) for u in (0, 1) for e in range(1, 6)
    ]
    assert all(note.startswith(f"epoch {done} of 5, loss 0.") for _, _, done, _, note in heard)


@pytest.mark.slow
def test_so_it_does_from_worker_processes(small: Callable[..., Path]) -> None:
    heard = _heard(small(executor="local", workers=2, epochs=1000))
    assert heard
    assert {(stage, total) for stage, _, _, total, _ in heard} == {("network", 1000)}
    assert {unit for _, unit, *_ in heard} <= {0, 1}
    assert len(heard) < 2000  # not at every epoch


def _heard(path: Path) -> list[tuple[str, int, int, int, str]]:
    """What the units of the stage `network` report."""
    assert run(path, only=["samples"], check=True).exit_code == 0
    workspace, heard = bind(load(path)), []
    entry = begin(workspace, "network")
    with executor(workspace, lambda *said: heard.append(said)) as execute:
        assert [one.error for one in execute("network", range(entry.units))] == [None, None]
    return heard


def _info(path: Path) -> list[str]:
    """The INFO lines of a log, without their times."""
    return [line.split(" INFO ")[1] for line in path.read_text().splitlines() if " INFO " in line]
