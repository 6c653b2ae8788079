"""Digests of whole files, each read only once: they are cached for the user by path, size, times and inode."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from functools import lru_cache
from pathlib import Path

log = logging.getLogger("geoxai.storage")

_SMALLEST = 2**20  # bytes: reading a smaller file costs no more than looking it up
_SETTLED = (
    2 * 10**9
)  # ns: a file may be written again within the resolution of its times, so recent ones are not cached
_KEPT = 50_000  # entries; the oldest are dropped
_LARGE = 2**30  # bytes: reading this much takes seconds, and is announced


def file_digest(path: Path) -> str:
    """The first 16 hex digits of the SHA-256 of a file's content, whatever its size.

    A large file that was read before, and has the same path, size, times and inode, is not read again: its digest comes
    from ``digests.jsonl`` in the folder ``geoxai`` of the user's cache (``XDG_CACHE_HOME``). Any number of processes
    may use that file at once; if it cannot be written or is damaged, files are read.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    """
    before = _stamp(path)
    if before[0] < _SMALLEST:
        return _read(path)
    key: list[str | int] = [str(path.resolve()), *before]
    known = _known(_cache())
    if (found := known.get(_line_key(key))) is not None:
        return found
    if before[0] > _LARGE:
        log.info("reading %s (%.1f GB) for its digest, once", path, before[0] / 1e9)
    started = time.time_ns()
    digest = _read(path)
    if _stamp(path) == before and max(before[1:3]) < started - _SETTLED:
        known[_line_key(key)] = digest
        _keep(_cache(), key, digest)
    return digest


def _read(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int, int, int, int]:
    """Size, times of change of content and inode in ns, device and inode: what identifies a file without reading it."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino


def _cache() -> Path:
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "geoxai" / "digests.jsonl"


@lru_cache(maxsize=4)
def _known(cache: Path) -> dict[str, str]:
    """The contents of the cache; a line that is incomplete or was changed does not count."""
    known: dict[str, str] = {}
    try:
        lines = cache.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return known
    for line in lines:
        try:
            key, digest, check = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(key, list) and isinstance(digest, str) and check == _check(key, digest):
            known[_line_key(key)] = digest
    if len(lines) > 2 * _KEPT:
        _compact(cache, known)
    return known


def _keep(cache: Path, key: list[str | int], digest: str) -> None:
    """Add one line in a single write, so that lines of several processes do not mix."""
    line = _line(key, digest)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(cache, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, ("\n" + line if _torn(cache) else line).encode())
        finally:
            os.close(handle)
    except OSError as error:
        log.debug("the digest of %s is not kept: %s", key[0], error)


def _torn(cache: Path) -> bool:
    """Whether the last line is incomplete: its process was killed, or the disk was full."""
    with cache.open("rb") as handle:
        if not handle.seek(0, os.SEEK_END):
            return False
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) != b"\n"


def _compact(cache: Path, known: dict[str, str]) -> None:
    """Keep the newest entries; what another process adds in the meantime may be lost, and is then read again."""
    for old in list(known)[: max(0, len(known) - _KEPT)]:
        del known[old]
    lines = [_line(json.loads(key), digest) for key, digest in known.items()]
    part = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        part.write_text("".join(lines), encoding="utf-8")
        part.replace(cache)
    except OSError as error:
        log.debug("%s is not made shorter: %s", cache, error)


def _line(key: list[str | int], digest: str) -> str:
    return json.dumps([key, digest, _check(key, digest)]) + "\n"


def _line_key(key: list[str | int]) -> str:
    return json.dumps(key)


def _check(key: list[str | int], digest: str) -> str:
    return hashlib.sha256(f"{_line_key(key)} {digest}".encode()).hexdigest()[:8]
