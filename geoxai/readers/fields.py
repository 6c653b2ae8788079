"""A variable of one file as a lazy array whose read errors name the file, the variable and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoxai.errors import InputError
from geoxai.readers.extremes import Expected, check_values
from geoxai.readers.packing import within

_CHUNK_BYTES = 2**25
# A packed value keeps its integer if unpacking rounds by less than this share of the packing step.
_STEP_SHARE = 1 / 20


@dataclass(frozen=True)
class Meaning:
    """What the numbers of a variable mean: which are missing, and which others are plausible (None: all)."""

    missing: tuple[float, ...] = ()
    valid: tuple[float, float] | None = None
    expected: Expected | None = None

    def of(self, dtype: np.dtype) -> np.dtype:
        """The dtype of numbers once read: a float if some may be missing."""
        if dtype.kind == "f" or not (self.missing or self.valid):
            return dtype
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


class StoredField:
    """A variable of a file, read piece by piece on dask's request; each piece is checked as it is read."""

    def __init__(self, variable: xr.Variable, path: Path, name: str, meaning: Meaning):
        self.variable = variable
        self.path = path
        self.name = name
        self.meaning = meaning
        self.shape = variable.shape
        self.dtype = meaning.of(variable.dtype)
        self.ndim = variable.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        try:
            values = np.asarray(self.variable[key].values).astype(self.dtype, copy=False)
        except MemoryError:
            raise
        except Exception as error:  # errors of the NetCDF, HDF5 and Zarr libraries have no common base
            raise explain_read_error(self.path, self.name, error) from error
        for number in self.meaning.missing:
            # a double-precision file may hold the single-precision number
            values = np.where(
                (values == number) | (values == np.float32(number)), np.asarray(np.nan, self.dtype), values
            )
        if self.meaning.valid is not None:
            values = within(values, self.meaning.valid)
        if self.meaning.expected is not None:
            check_values(values, self.path, self.name, self.meaning.expected)
        return values

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        stat = self.path.stat()
        told = (self.name, self.shape, str(self.dtype), repr(self.meaning))
        return str(self.path), stat.st_mtime_ns, stat.st_size, *told


def explain_read_error(path: Path, variable: str | None, error: BaseException) -> InputError:
    """The error for a user when a file, or a variable in it, cannot be read."""
    if isinstance(error, InputError):
        return error
    what = f"variable {variable!r} of {path}" if variable else str(path)
    if isinstance(error, FileNotFoundError):
        return InputError(f"{what} no longer exists" if variable else f"{what} does not exist", fix="check the path")
    if isinstance(error, PermissionError):
        return InputError(f"{what} cannot be read (permission denied)", fix="make the file readable for this user")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(
        f"{what} cannot be read: {reason}",
        fix="the file is damaged or was cut short while copying; fetch it again and compare its size with the source",
    )


def lazy_field(da: xr.DataArray, path: Path, meaning: Meaning) -> xr.DataArray:
    """The field on dask, chunked along time only, in pieces of about 32 MiB made of whole chunks of the file."""
    import dask.array

    step = math.prod(size for dim, size in da.sizes.items() if dim != "time") * da.dtype.itemsize
    stored = da.encoding.get("preferred_chunks", {}).get("time") or _stored_time_chunk(da)
    block = max(1, _CHUNK_BYTES // max(step, 1))
    block = max(stored, block // stored * stored)
    chunks = tuple(min(block, size) if dim == "time" else size for dim, size in da.sizes.items())
    field = StoredField(da.variable, path, str(da.name), meaning)
    meta = np.empty((0,) * da.ndim, dtype=field.dtype)
    data = dask.array.from_array(field, chunks=chunks, inline_array=True, meta=meta)
    return da.copy(data=data)


def _stored_time_chunk(da: xr.DataArray) -> int:
    sizes = da.encoding.get("chunksizes")
    if not sizes or "time" not in da.dims or len(sizes) != da.ndim:
        return 1
    return int(sizes[da.get_axis_num("time")])


def float32_is_exact_enough(encoding: dict[Any, Any], factor: float = 1.0) -> bool:
    """Whether float32 can distinguish all values of a packed integer variable.

    True if the rounding of the largest unpacked value is below a twentieth of the packing step; ``factor`` is the
    largest factor by which a change of unit increases the value relative to the step.
    """
    stored = encoding.get("dtype")
    if (
        stored is None
        or np.dtype(stored).kind not in "iu"
        or not ("scale_factor" in encoding or "add_offset" in encoding)
    ):
        return False
    scale, offset = float(encoding.get("scale_factor", 1.0)), float(encoding.get("add_offset", 0.0))
    limits = np.iinfo(np.dtype(stored))
    largest = max(abs(limits.min * scale + offset), abs(limits.max * scale + offset)) * factor
    return scale != 0 and largest * 2.0**-24 <= abs(scale) * _STEP_SHARE
