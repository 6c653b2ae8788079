"""Size and digest of files as they were written, by which later damage is detected."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Recorded = dict[str, list[Any]]
"""Size and digest of files by path: relative to a folder for those inside it, else absolute."""


def record(paths: Iterable[Path], folder: Path, *, sync: bool) -> Recorded:
    """Size and digest of files, and of every file in folders, in the order of their names.

    With ``sync`` they and the folders that hold them are on disk when this returns, so that even a machine that loses
    power keeps them.
    """
    found: Recorded = {}
    folders: set[Path] = set()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            with file.open("r+b" if sync else "rb") as handle:  # Windows syncs only what is open for writing
                if sync:
                    _sync(handle.fileno())
                name = (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
                found[name] = [os.fstat(handle.fileno()).st_size, _digest(handle)]
            folders.update(parent for parent in file.parents if parent.is_relative_to(folder) or parent == file.parent)
    if sync:
        for inner in sorted(folders, reverse=True):
            _sync_folder(inner)
    return found


def flaw(path: Path, size: int, digest: str, *, read: bool) -> str | None:
    """What is wrong with a file that had this size and digest; None if nothing is.

    Its content is only compared if it is ``read``.
    """
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes of {size}"
        if read:
            with path.open("rb") as handle:
                if _digest(handle) != digest:
                    return "is not what was written"
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    return None


def _digest(handle: Any) -> str:
    return hashlib.file_digest(handle, "sha256").hexdigest()[:32]


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # folders cannot be opened on every system
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
