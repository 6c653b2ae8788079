"""The command line in processes of its own, and what it stored."""

import os
import subprocess
import sys
from pathlib import Path


def geoxai(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(), check=False, **options
    )


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "geoxai", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "MPLBACKEND": "Agg"}


def stored(run_dir: Path) -> dict[str, bytes]:
    """Every byte of every store of a run."""
    files = (p for p in run_dir.rglob("*") if p.is_file() and ".zarr/" in str(p.relative_to(run_dir)))
    return {str(p.relative_to(run_dir)): p.read_bytes() for p in files if "ledger" not in p.parts}
