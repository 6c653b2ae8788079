"""What is written down about a run: ``run.log`` and ``run.json``. Host, times and paths live here and nowhere else."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from geoxai.pipeline.libraries import libraries_heard
from geoxai.pipeline.workspace import Workspace
from geoxai.storage.files import read_json, write_json
from geoxai.version import version as geoxai_version

_PACKAGES = ("torch", "numpy", "xarray", "dask", "distributed", "zarr", "netCDF4", "pandas", "pydantic")

NOT_ON_CONSOLE = {"on_console": False}  # ``extra`` of a log record that is for ``run.log`` alone


@dataclass
class Record:
    """The account of one run, filled in while it goes on.

    ``earlier`` are the warnings of earlier runs with the same numbers: stages that are done do not repeat theirs.
    """

    workspace: Workspace
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    warnings: list[str] = field(default_factory=list)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    earlier: list[str] | None = None

    def warn(self, message: str) -> None:
        """Keep a warning once, however many units gave it."""
        message = self.workspace.config.masked(message)
        if message not in self.warnings:
            self.warnings.append(message)

    @property
    def all_warnings(self) -> list[str]:
        """The warnings of this run, and those of earlier ones that still hold."""
        return [*(one for one in self.earlier or [] if one not in self.warnings), *self.warnings]

    def write(self, exit_code: int | None, message: str) -> None:
        """Write ``run.json`` as of now; ``exit_code`` is None while the run goes on."""
        config, now = self.workspace.config, datetime.now(UTC)
        if self.earlier is None:
            self.earlier = _warnings_before(self.workspace)
        write_json(
            self.workspace.run_dir / "run.json",
            {
                "name": config.name,
                "exit_code": exit_code,
                "message": config.masked(message),
                "started": self.started.isoformat(timespec="seconds"),
                "updated": now.isoformat(timespec="seconds"),
                "seconds": round((now - self.started).total_seconds(), 1),
                "command": [config.masked_word(word) for word in sys.argv],
                "config": str(config.path),
                "config_hash": self.workspace.science_hash(),
                "run_dir": str(self.workspace.run_dir),
                "directory": os.getcwd(),
                "host": platform.node(),
                "platform": platform.platform(),
                "python": platform.python_version(),
                "versions": {"geoxai": geoxai_version(), **dict(_versions())},
                "torch_build": _torch_build(),
                "compute": config.resolved()["compute"] | {"device": self.workspace.device},
                "stages": self.stages,
                "warnings": self.all_warnings,
            },
        )


def _warnings_before(workspace: Workspace) -> list[str]:
    """The warnings in ``run.json``, if it is of a run that gave the same numbers."""
    before = read_json(workspace.run_dir / "run.json") or {}
    same = before.get("config_hash") == workspace.science_hash()
    return [str(one) for one in before.get("warnings", [])] if same else []


@contextmanager
def run_log(record: Record, debug: bool = False) -> Iterator[None]:
    """Log everything geoxai says to ``run.log``, and keep its warnings for ``run.json`` and the report.

    A warning is said once in a run. With ``debug`` the console shows the tracebacks that else are in ``run.log`` alone.
    """
    root = logging.getLogger("geoxai")
    before = root.level
    root.setLevel(logging.DEBUG)
    path, masked = record.workspace.run_dir / "run.log", record.workspace.config.masked
    handler, libraries = _RunLog(path, masked), _RunLog(path, masked)
    handlers = (handler, _Keeper(record), _Console(debug))
    for one in handlers:
        one.addFilter(_Once())
        root.addHandler(one)
    try:
        with libraries_heard(libraries):
            yield
    finally:
        for one in handlers:
            root.removeHandler(one)
        handler.close()
        libraries.close()
        root.setLevel(before)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Show geoxai's warnings on stderr, each once, and hide those of libraries: for commands without a ``run.log``."""
    root, console = logging.getLogger("geoxai"), _Console(debug=False)
    console.setLevel(logging.WARNING)
    console.addFilter(_Once())
    root.addHandler(console)
    try:
        with libraries_heard(logging.NullHandler()):
            yield
    finally:
        root.removeHandler(console)


class _Masked(logging.Formatter):
    """A line of ``run.log``, or several with a traceback, without secrets."""

    def __init__(self, masked: Callable[[str], str]):
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._masked = masked

    def format(self, record: logging.LogRecord) -> str:
        return self._masked(super().format(record))


class _RunLog(logging.FileHandler):
    """A file that takes what it can: a full disk is reported where it stops the run, not at every line."""

    def __init__(self, path: Path, masked: Callable[[str], str]) -> None:
        super().__init__(path, encoding="utf-8", errors="surrogateescape")
        self.setFormatter(_Masked(masked))

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _Keeper(logging.Handler):
    def __init__(self, record: Record):
        super().__init__(logging.WARNING)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        self._record.warn(record.getMessage())


class _Console(logging.Handler):
    """What is logged, on stderr: everything where nobody watches a progress bar, else warnings."""

    def __init__(self, debug: bool) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING if _watched() else logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "on_console", True):
            return
        word = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        with suppress(OSError, ValueError):  # nobody reads it: no reason to stop
            print(f"{word}{self.format(record)}", file=sys.stderr, flush=True)


def _watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class _Once(logging.Filter):
    """Lets the same warning pass only once, however many units give it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        before = len(self._said)
        self._said.add(record.getMessage())
        return len(self._said) > before


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _torch_build() -> dict[str, str]:
    """What bit-identical results depend on: the build and the instruction set."""
    import torch

    return {"version": torch.__version__, "instruction_set": torch.backends.cpu.get_cpu_capability()}
