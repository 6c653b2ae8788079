"""Workers that die, and runs that are interrupted, with the stages of another package."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from geoxai.pipeline.ledger import Ledger
from tests.integration.running import command, environment, geoxai


@pytest.mark.slow
def test_only_the_unit_that_kills_its_worker_fails(plugged: Callable[..., Path], tmp_path: Path) -> None:
    done = geoxai("run", plugged("kill: [1], kill_once: [4]"))
    assert done.returncode == 4, done.stderr
    assert "unit 1 killed the workers that tried it, most likely out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    ledger = Ledger(tmp_path / "run", "work")
    assert list(ledger.failures()) == [1]
    found = ledger.read()
    assert found is not None
    assert ledger.done(found.fingerprint) == {0, 2, 3, 4, 5, 6, 7}


# Run by every Python process that has it on its path.
CUSTOMIZED = """
import atexit, os, signal, sys, time
from pathlib import Path
words = " ".join(sys.orig_argv)
here = Path(__file__).parent
if "resource_tracker" in words and (here / "slow tracker").exists():
    atexit.register(time.sleep, 1)
if "spawn_main" in words and (doomed := sorted(here.glob("doomed worker *"))):
    doomed[0].unlink()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("executor", "seconds"), [("serial", 2), ("local", 5), ("local", 0.5)], ids=["serial", "local", "starting"]
)
def test_ctrl_c_ends_at_once_and_quietly(
    plugged: Callable[..., Path], tmp_path: Path, executor: str, seconds: float
) -> None:
    path = plugged("seconds: 60", executor)
    process = begun(path, tmp_path)
    time.sleep(seconds)
    before = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - before < 30  # a second on a quiet machine
    assert told.splitlines() == [f"interrupted; go on with: geoxai run {path}"]
    assert "INFO geoxai.pipeline: stopped by SIGINT\n" in (tmp_path / "run" / "run.log").read_text()
    assert alive_in(process.pid) == []


def test_nothing_of_a_run_outlives_it(plugged: Callable[..., Path], tmp_path: Path) -> None:
    """Not even the process that Python itself starts beside workers, however long that takes to end."""
    (tmp_path / "sitecustomize.py").write_text(CUSTOMIZED)
    (tmp_path / "slow tracker").touch()
    process = begun(plugged("seconds: 0.1"), tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert alive_in(process.pid) == []


def test_ctrl_c_on_a_terminal_leaves_no_traceback_of_the_workers(plugged: Callable[..., Path], tmp_path: Path) -> None:
    path = plugged("seconds: 60")
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvpe(sys.executable, command("run", path), environment())
    wait_for_units(tmp_path)
    time.sleep(4)
    os.write(terminal, b"\x03")
    said = b""
    with suppress(OSError):  # the other end is closed
        while block := os.read(terminal, 4096):
            said += block
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert alive_in(pid) == []
    assert b"interrupted; go on with" in said
    assert b"Traceback" not in said
    assert b"Error" not in said


def test_workers_that_die_while_starting_are_started_again(plugged: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CUSTOMIZED)
    (tmp_path / "doomed worker 1").touch()
    (tmp_path / "doomed worker 2").touch()
    done = geoxai("run", plugged("seconds: 0"))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("doomed*"))


def test_workers_that_cannot_start_are_given_up(plugged: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CUSTOMIZED)
    for number in range(20):
        (tmp_path / f"doomed worker {number:02}").touch()
    done = geoxai("run", plugged("seconds: 0"))
    assert done.returncode == 1
    assert "the worker processes died while starting, 3 times" in done.stderr
    assert "Traceback" not in done.stderr


def begun(path: Path, folder: Path) -> subprocess.Popen[str]:
    """A run in a session of its own that has started on its units."""
    process = subprocess.Popen(
        command("run", path),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    wait_for_units(folder, process)
    return process


def wait_for_units(folder: Path, process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not (folder / "run" / "ledger" / "work" / "stage.json").exists():
        assert process is None or process.poll() is None, process.stderr.read() if process and process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.05)


def alive_in(session: int) -> list[str]:
    """What is still alive in a session, by command line."""
    found = (p for p in Path("/proc").glob("[0-9]*/stat") if _alive_in(p, session))
    return [path.with_name("cmdline").read_text().replace("\0", " ") for path in found]


def _alive_in(stat: Path, session: int) -> bool:
    try:
        state, _, _, sid = stat.read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return False
    return int(sid) == session and state != "Z"
