"""The standard streams of the command line, made such that a line that cannot be written stops nothing."""

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
        descriptor = io.FileIO(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # not a file: a test's or a notebook's
        return stream
    buffered = _Swallowing(descriptor, swallows_all)
    return io.TextIOWrapper(buffered, stream.encoding, "backslashreplace", line_buffering=True, write_through=True)


class _Swallowing(io.BufferedWriter):
    """A buffer before a file descriptor that becomes the null device where it cannot be written."""

    def __init__(self, descriptor: io.FileIO, swallows_all: bool):
        super().__init__(descriptor)
        self._swallows_all = swallows_all

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self._fail(error)
            return len(data)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        if not (self._swallows_all or isinstance(error, BrokenPipeError | BlockingIOError)):
            raise error
