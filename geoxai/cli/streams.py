"""The standard streams of the command line, such that a line that cannot be written ends nothing."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def steady_streams() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that survive whoever reads them.

    A reader that has gone (``| head``), a closed stream or a terminal that hung up swallow what is written. A full disk
    is an error on stdout alone, once: there the output may be all that was asked for. Characters outside the stream's
    encoding are written as escapes.
    """
    sys.stdout = _steady(sys.stdout, swallows_all=False)
    sys.stderr = _steady(sys.stderr, swallows_all=True)


def _steady(stream: Any, *, swallows_all: bool) -> Any:
    if stream is None:  # closed by whoever started this program
        return open(os.devnull, "w", encoding="utf-8")
    try:
        raw = _Swallowing(stream.fileno(), swallows_all)
    except (OSError, ValueError):  # not a file: a test's or a notebook's
        return stream
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=True, write_through=True)


class _Swallowing(io.RawIOBase):
    """A file descriptor to write to, as far as that goes."""

    def __init__(self, number: int, swallows_all: bool):
        self._number = number
        self._swallows_all = swallows_all
        self._broken = False

    def write(self, data: Any) -> int:
        if self._broken:
            return len(data)
        try:
            return os.write(self._number, data)
        except (BrokenPipeError, BlockingIOError):
            self._broken = True
        except OSError:
            self._broken = True
            if not self._swallows_all:
                raise
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)
