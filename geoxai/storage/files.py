"""Files and folders that are complete or absent, and clear errors if a disk cannot be written."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoxai.errors import GeoxaiError

_PART = ".part"
_LEFT = re.compile(r"\..+\.\d+(\.old)?\.part")  # the names that replaced() and remove() give


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all: to a temporary neighbour that is then renamed."""
    with replaced(path) as part:
        part.write_text(
            text, encoding="utf-8", errors="surrogateescape"
        )  # such as in paths that the locale cannot encode


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file completely or not at all, keys in the order given."""
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, None if there is no complete one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):
        return None


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary neighbour for a file or folder; on success it replaces ``path``, otherwise it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    remove(part)
    try:
        yield part
        if path.is_dir():
            remove(path)
        part.replace(path)
    finally:
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        # renamed first, so that a kill while deleting never leaves half a store under its name
        doomed = path if path.name.endswith(_PART) else path.with_name(f".{path.name}.{os.getpid()}.old{_PART}")
        if doomed != path:
            path.replace(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what killed processes left half written in a folder, only of one file if a name is given.

    Other files that end in ``.part`` stay. Nobody else may be writing there.
    """
    for left in folder.glob(f".{glob.escape(f'{name}.') if name else ''}*{_PART}"):
        if _LEFT.fullmatch(left.name):
            remove(left)


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "the operation is not permitted",
}


_FULL = 2**18


class DiskError(GeoxaiError):
    """The output folder cannot be written: nothing more can be stored, but what was stored remains."""


def disk_error(error: BaseException, folder: Path) -> DiskError | None:
    """The error for a disk that is full or a folder that is not writable; None for any other error."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, GeoxaiError):
        if isinstance(seen, OSError) and seen.errno in _DISK and _concerns(seen, folder):
            return _told(seen.filename or folder, seen.errno, folder)
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, RuntimeError) and (free := _free(folder)) is not None and free < _FULL:
        return _told(folder, errno.ENOSPC, folder)  # HDF5 does not say why it cannot write
    return seen if isinstance(seen, DiskError) else None


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether an error is about writing to a folder: a permission may also be missing on a file that is read."""
    if error.errno not in (errno.EACCES, errno.EPERM) or not error.filename:
        return True
    path = Path(os.path.abspath(os.fsdecode(error.filename)))
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _told(what: str | Path, number: int, folder: Path) -> DiskError:
    free = _free(folder) if number == errno.ENOSPC else None
    left = f" ({free / 1e6:.1f} MB free)" if free is not None else ""
    return DiskError(
        f"cannot write {what}: {_DISK[number]}{left}",
        fix="free space or permission there, or choose another output.dir; the same command then goes on where this "
        "one stopped",
    )


def _free(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
