"""Runs with an unusual terminal, pipe, log, locale or neighbour, and the signals that end them."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import command, environment, geoxai

SHELL_FREE = {"closed": lambda number: os.close(number), "full": lambda number: os.dup2(_full(), number)}


def _full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def run_with(streams: dict[int, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line with standard streams that are closed, or on a disk that is full."""

    def prepare() -> None:
        for number, state in streams.items():
            SHELL_FREE[state](number)

    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), preexec_fn=prepare, check=False
    )


@pytest.mark.parametrize("streams", [{2: "closed"}, {2: "full"}, {1: "closed"}, {1: "full"}, {1: "full", 2: "full"}])
def test_a_run_ends_well_whoever_listens(plugged: Callable[..., Path], tmp_path: Path, streams: dict[int, str]) -> None:
    done = run_with(streams, "run", plugged("seconds: 0", "serial"))
    assert done.returncode == 0, done.stderr
    assert done.stderr in ("", "work: 8 of 8 units\n")
    assert (tmp_path / "run" / "work.zarr").exists()


def test_a_reader_that_has_gone_ends_nothing(plugged: Callable[..., Path], tmp_path: Path) -> None:
    """``geoxai run ... 2>&1 | head``, and listings into a pipe that nobody reads."""
    for arguments in (("run", plugged("seconds: 0", "serial")), ("stages",), ("schema",)):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(command(*arguments), stdout=writing, stderr=writing, env=environment(), check=False)
        os.close(writing)
        assert done.returncode == 0
    assert (tmp_path / "run" / "work.zarr").exists()


def test_output_that_is_all_that_was_asked_for_is_missed() -> None:
    done = run_with({1: "full"}, "schema")
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device\n"


def test_a_log_that_cannot_be_written_gives_no_traceback(plugged: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").symlink_to("/dev/full")
    (tmp_path / "run" / ".geoxai").touch()
    done = geoxai("run", plugged("seconds: 0", "serial"))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda number: number.name)
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_signals_that_end_a_run(
    plugged: Callable[..., Path], tmp_path: Path, number: signal.Signals, executor: str
) -> None:
    path = plugged("seconds: 60", executor)
    process = subprocess.Popen(command("run", path), env=environment(), stderr=subprocess.PIPE, text=True)
    _wait_for_units(tmp_path, process)
    for _ in range(2):  # a terminal that is closed sends several
        process.send_signal(number)
        time.sleep(0.05)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert told.splitlines() == [f"terminated; go on with: geoxai run {path}"]
    assert f"INFO geoxai.pipeline: stopped by {number.name}\n" in (tmp_path / "run" / "run.log").read_text()


def test_a_run_under_nohup_survives_its_terminal(plugged: Callable[..., Path], tmp_path: Path) -> None:
    path = plugged("seconds: 0.2", "serial")
    process = subprocess.Popen(
        command("run", path),
        env=environment(),
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    _wait_for_units(tmp_path, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_what_libraries_say_is_in_the_log_alone(plugged: Callable[..., Path], tmp_path: Path, executor: str) -> None:
    done = geoxai("run", plugged("raw: old habits", executor))
    assert done.returncode == 0, done.stderr
    assert "old habits" not in done.stderr + done.stdout
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert "warned of old habits" in log
    assert "logged of old habits" in log


def test_the_port_of_dasks_dashboard_may_be_taken(plugged: Callable[..., Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("", 8787))
            taken.listen()
        except OSError:
            pass  # by somebody else: as good
        done = geoxai("run", plugged("seconds: 0"))
    assert done.returncode == 0
    assert "8787" not in done.stderr + (tmp_path / "run" / "run.log").read_text(encoding="utf-8")


def test_files_are_utf8_whatever_the_locale(plugged: Callable[..., Path], tmp_path: Path) -> None:
    path = plugged("raw: Größe °C", "serial")
    ascii_only = {**environment(), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for word in ("run", "check", "plan"):
        done = subprocess.run(command(word, path), env=ascii_only, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    listed = subprocess.run(command("stages", "load.netcdf"), env=ascii_only, capture_output=True, check=False)
    assert listed.returncode == 0, listed.stderr
    for name in ("run.log", "report.html", "config.yaml", "config.resolved.yaml"):
        assert "Größe" in (tmp_path / "run" / name).read_text(encoding="utf-8"), name


def _wait_for_units(folder: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not (folder / "run" / "ledger" / "work" / "stage.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
