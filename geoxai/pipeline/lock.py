"""One writer per run folder: a lock of the operating system that ends with its process, even when that is killed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from geoxai.config.run_folder import mark
from geoxai.errors import GeoxaiError
from geoxai.storage.files import disk_error


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process, making it if need be.

    Raises
    ------
    GeoxaiError
        Another process holds it, or it cannot be written.
    """
    lock, holder = FileLock(run_dir / ".lock", timeout=0), run_dir / ".lock.holder"
    try:
        mark(run_dir)
        lock.acquire()
    except FileExistsError:
        raise GeoxaiError(f"output.dir {run_dir} is a file", fix="choose a folder as output.dir") from None
    except Timeout:
        raise GeoxaiError(
            f"{run_dir} is in use by {_named(holder)}", fix="wait for it to end, stop it, or set another output.dir"
        ) from None
    except NotImplementedError:
        raise GeoxaiError(
            f"output.dir {run_dir} cannot be locked: its file system has no locks",
            fix="choose a folder on another file system",
        ) from None
    except OSError as error:
        raise _told(error, run_dir) from None
    try:
        try:
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        except OSError as error:
            raise _told(error, run_dir) from None
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str:
    """The process that holds the lock; in a file of its own, since some systems let nobody read a locked one."""
    with suppress(OSError):
        return holder.read_text(encoding="utf-8").strip() or "another process"
    return "another process"


def _told(error: OSError, run_dir: Path) -> GeoxaiError:
    return disk_error(error, run_dir) or GeoxaiError(
        f"output.dir {run_dir} cannot be made: {(error.strerror or str(error)).lower()}",
        fix="choose another output.dir",
    )
