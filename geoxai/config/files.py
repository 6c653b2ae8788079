"""Input files named in a config: made absolute, and looked for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from geoxai.names import closest
from geoxai.paths import expand, split_glob

MAX_BYTES = 255  # of a file name


def is_remote(path: str) -> bool:
    """Whether a path is a URL such as ``s3://bucket/key``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def remote(url: str) -> str:
    """A URL in words, without any part that may be secret: ``a URL (s3://...)``."""
    return f"a URL ({url.partition('://')[0]}://...)"


def absolute(path: str, base: Path) -> str:
    """A path or glob relative to ``base`` made absolute; URLs stay as they are."""
    return path if is_remote(path) else os.path.normpath(base / Path(path).expanduser())


def too_long(path: str, spare: int = 0) -> str | None:
    """That a name in a path is longer than file systems allow, in words; None where none is.

    ``spare`` is the number of further bytes that a name must have room for.
    """
    longest = max(path.split("/"), key=lambda name: len(os.fsencode(name)))
    size = len(os.fsencode(longest))
    if size <= MAX_BYTES - spare:
        return None
    return f"the name {longest[:20]}... has {size} bytes, it can have at most {MAX_BYTES - spare}"


def missing(path: str) -> tuple[str, str] | None:
    """Why no file is at an absolute path or glob, and a remedy; None where there is one."""
    if any(file.exists() for file in expand(path)):
        return None
    message = f"no file matches {path}" if split_glob(path)[1] else f"there is no file {path}"
    folder = Path(path).parent
    while not folder.exists() or split_glob(str(folder))[1]:
        folder = folder.parent
    if folder != Path(path).parent:
        below = Path(path).relative_to(folder).parts[0]
        near = closest(below, (p.name for p in folder.iterdir() if p.is_dir())) if os.access(folder, os.R_OK) else None
        return message, f"{folder} has no folder {below!r}" + (f"; did you mean {near!r}?" if near else "")
    names = sorted(p.name for p in folder.iterdir()) if os.access(folder, os.R_OK) else []
    near = closest(Path(path).name, names)
    if near:
        return message, f"did you mean {near!r}?"
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return message, f"the folder {folder} contains {some or 'nothing'}"
