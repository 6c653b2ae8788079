"""HDF5 files of unknown origin, first read in a process where a crash or endless loop does no harm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from geoxai.errors import InputError

_SECONDS, _BYTES_PER_SECOND = 60, 10e6
_CHILD = Path(__file__).with_name("hdf5_child.py")


def rewritten(path: Path, copy: Path, *, seconds: float | None = None) -> None:
    """Write the contents of an HDF5 file to a new file ``copy``, which is then safe to open.

    A separate process reads the file: a damaged one can crash the HDF5 library or keep it busy for ever. Links to
    other files are left out.

    Parameters
    ----------
    seconds
        How long that may take; by default a minute, and more for large files.

    Raises
    ------
    InputError
        The file is not HDF5, or is damaged.
    """
    if seconds is None:
        seconds = _SECONDS + path.stat().st_size / _BYTES_PER_SECOND
    command = [sys.executable, "-P", str(_CHILD), str(path), str(copy)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{path} keeps the HDF5 library busy without end (stopped after {seconds:.0f} s): it is damaged",
            fix="copy or save it again",
        ) from None
    if done.returncode < 0:
        raise InputError(f"{path} crashes the HDF5 library: it is damaged", fix="copy or save it again")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        reason = lines[-1].removeprefix("OSError: ")
        raise InputError(f"{path} is not an HDF5 file or is damaged: {reason}", fix="copy or save it again")
