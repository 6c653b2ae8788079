"""The folder of a run: what may become one, and how one is recognised."""

from __future__ import annotations

import os
from pathlib import Path

from geoxai.config.files import is_remote, remote, too_long

# Written before anything else, so that a run that was interrupted at once is recognised.
MARK = ".geoxai"
RESOLVED = "config.resolved.yaml"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, however far it got."""
    return any((folder / name).is_file() for name in (MARK, RESOLVED))


def mark(folder: Path) -> None:
    """Make the folder of a run, if need be, and mark it as one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARK).exists():
        (folder / MARK).write_text("geoxai keeps a run in this folder, and replaces files in it.\n", encoding="utf-8")


def unfit(folder: str) -> tuple[str, str] | None:
    """Why a run cannot be written to an absolute path, and a remedy; None where it can.

    A folder with files of other origin is refused, since a run replaces files such as ``config.yaml`` there; hidden
    files do not count, since a run never touches them.
    """
    if is_remote(folder):
        return f"output.dir is {remote(folder)}, which is not supported yet", "choose a folder on this machine"
    if long := too_long(folder):
        return f"output.dir: {long}", "shorten it"
    path = Path(folder)
    there = path
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        what = "is a file" if there == path else f"lies inside {there}, which is not a folder"
        return f"output.dir {path} {what}", "choose a folder as output.dir"
    if not os.access(there, os.W_OK | os.X_OK):
        where = "" if there == path else f": {there} is not writable"
        return f"output.dir {path} cannot be written{where}", "choose another output.dir, or get write permission"
    if there != path or not os.access(path, os.R_OK) or is_run(path):
        return None
    if others := sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")):
        some = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        return (
            f"output.dir {path} is not empty and is not the folder of a geoxai run (it contains {some})",
            "choose a new or empty folder, for example one inside it: a run replaces files in its folder",
        )
    return None
