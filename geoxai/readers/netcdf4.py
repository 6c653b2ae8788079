"""NetCDF-4 files whose variables crash the NetCDF library, detected in a separate process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from geoxai.errors import InputError

_SECONDS = 60
# Prints the name of each variable and reads its first value.
_CHILD = """
import sys, netCDF4
with netCDF4.Dataset(sys.argv[1]) as file:
    for name in sys.argv[2:]:
        print(name, flush=True)
        variable = file.variables[name]
        if variable.size:
            variable[(0,) * variable.ndim]
"""


def check_types(path: Path) -> None:
    """Raise InputError if reading a variable would crash the process.

    HDF5 has types that NetCDF does not have, such as 16-bit floats. The library takes these for text and crashes
    when they are read; text itself is harmless. So any variables of text are first read in another process.
    """
    import netCDF4

    with path.open("rb") as handle:
        if handle.read(4) != b"\x89HDF":
            return
    try:
        with netCDF4.Dataset(path) as file:
            texts = [name for name, variable in file.variables.items() if variable.dtype is str]
    except Exception:  # not readable at all: opening it in earnest says why
        return
    if not texts:
        return
    command = [sys.executable, "-P", "-c", _CHILD, str(path), *texts]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
        ended = done.returncode < 0
        said = done.stdout
    except subprocess.TimeoutExpired as error:
        ended, said = True, error.stdout or b""
    if ended:
        name = (said.decode("utf-8", "replace").splitlines() or texts)[-1]
        raise InputError(
            f"{path}: variable {name!r} has a type that NetCDF does not know, such as 16-bit floats; reading it would "
            "crash the NetCDF library",
            fix=f"write {name} as float32, or leave it out of the file",
        )
