"""One writer per run folder: a kernel lock that ends with its process, also when that is killed."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    try:
        mark(run_dir)
        handle = open(run_dir / ".lock", "a+")  # noqa: SIM115 - closed below, together with the lock
    except FileExistsError:
        raise GeoxaiError(f"output.dir {run_dir} is a file", fix="choose a folder as output.dir") from None
    except OSError as error:
        raise _told(error, run_dir) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise GeoxaiError(
                f"{run_dir} is in use by {holder}", fix="wait for it to end, stop it, or set another output.dir"
            ) from None
        except OSError as error:
            raise GeoxaiError(
                f"output.dir {run_dir} cannot be locked: {error.strerror}", fix="choose a folder on another file system"
            ) from None
        try:
            handle.seek(0)
            handle.truncate()
            handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            handle.flush()
        except OSError as error:
            raise _told(error, run_dir) from None
        yield


def _told(error: OSError, run_dir: Path) -> GeoxaiError:
    return disk_error(error, run_dir) or GeoxaiError(
        f"output.dir {run_dir} cannot be made: {(error.strerror or str(error)).lower()}",
        fix="choose another output.dir",
    )
