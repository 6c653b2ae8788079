"""Files that are whole or not there: atomic text, atomic folders, and clear words when a disk says no."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoxai.errors import GeoxaiError

_PART = ".part"


def write_text(path: Path, text: str) -> None:
    """Write a file whole: to a neighbour first, then renamed over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{_PART}")
    try:
        part.write_text(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, keys in the order given."""
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, None where there is no whole one."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A neighbour to write a file or folder to; on success it takes the place of ``path``, otherwise it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    remove(part)
    try:
        yield part
        remove(path)
        part.replace(path)
    finally:
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        # renamed first, so that a kill while deleting never leaves half a store under its name
        doomed = path if path.name.endswith(_PART) else path.with_name(f".{path.name}.{os.getpid()}.old{_PART}")
        if doomed != path:
            path.replace(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a run folder."""
    for left in [*folder.glob(f"*{_PART}"), *folder.glob(f".*{_PART}"), *(folder / "ledger").rglob(f"*{_PART}")]:
        remove(left)


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "the operation is not permitted",
}


class DiskError(GeoxaiError):
    """The output folder cannot be written: nothing further can be stored, what was stored stays."""


def disk_error(error: BaseException, folder: Path) -> DiskError | None:
    """The sentence for an error that says the disk is full or not writable; None for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskError):
            return seen
        if isinstance(seen, OSError) and seen.errno in _DISK:
            what = seen.filename or folder
            free = _free(folder)
            return DiskError(
                f"cannot write {what}: {_DISK[seen.errno]}{f' ({free / 1e6:.1f} MB free)' if free is not None else ''}",
                fix="free space or permission there, or choose another output.dir; the same command then goes on where "
                "this one stopped",
            )
        seen = seen.__cause__ or seen.__context__
    return None


def _free(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
