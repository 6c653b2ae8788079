"""How numbers are stored: checks of scale factor and offset, and the valid range that a file states."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoxai.errors import InputError

log = logging.getLogger("geoxai.readers")


def check_packing(path: Path, ds: xr.Dataset, wanted: Iterable[str] = ()) -> None:
    """Refuse a ``scale_factor`` or ``add_offset`` that is not a finite number, or a factor of 0.

    If any are ``wanted``, only these of the data variables are checked. ``ds`` as opened, decoded or not.
    """
    asked = set(wanted)
    for name, variable in ds.variables.items():
        if asked and name in ds.data_vars and name not in asked:
            continue
        for key in ("scale_factor", "add_offset"):
            value = variable.encoding.get(key, variable.attrs.get(key))
            if value is None or (_is_number(value) and (key != "scale_factor" or float(value) != 0)):
                continue
            raise InputError(
                f"{path}: {key} of variable {str(name)!r} is {np.asarray(value).tolist()!r}, expected a number"
                + (" other than 0" if key == "scale_factor" else ""),
                fix=f"correct it in the file, for instance: ncatted -a {key},{name},o,d,VALUE {path.name}",
            )


def _is_number(value: Any) -> bool:
    array = np.asarray(value)
    return array.size == 1 and array.dtype.kind in "fiu" and bool(np.isfinite(array).all())


def valid_limits(path: Path, name: str, da: xr.DataArray) -> tuple[float, float] | None:
    """The least and greatest valid value of a variable as decoded, or None if the file states no range.

    ``valid_range`` overrides ``valid_min`` and ``valid_max`` (CF conventions 1.11, section 2.5.1). Those of packed
    data are packed numbers, unsigned if the data are; they are unpacked values only if their type is that of the
    scale factor and wider than that of the packed data (NetCDF User's Guide, attribute conventions). Limits that are
    not numbers, or are the wrong way round, are ignored with a warning.
    """
    given = [da.attrs.get(key) for key in ("valid_range", "valid_min", "valid_max")]
    if all(value is None for value in given):
        return None
    pair = given[0]
    if pair is None:
        pair = [-math.inf if given[1] is None else given[1], math.inf if given[2] is None else given[2]]
    numbers = [value for value in np.ravel(np.asarray(pair, dtype=object)) if _is_number_or_infinite(value)]
    low_high = _unpacked(numbers, da.encoding) if len(numbers) == 2 and np.size(pair) == 2 else None
    if low_high is None or not low_high[0] <= low_high[1]:
        log.warning("%s: the valid range of %s, %s, is not a pair of numbers and is ignored", path, name, pair)
        return None
    return low_high


def _is_number_or_infinite(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, float) and math.isinf(value))


def _unpacked(limits: list[Any], encoding: dict[Any, Any]) -> tuple[float, float]:
    """Limits as values, widened by half a packing step so that rounding excludes no valid value."""
    stored = np.dtype(encoding.get("dtype", float))
    low, high = (float(value) for value in limits)
    if stored.kind not in "iu" or any(isinstance(value, np.floating) for value in limits):
        return low, high
    if str(encoding.get("_Unsigned", "")).lower() == "true" and stored.kind == "i":
        low, high = (value + 2.0 ** (8 * stored.itemsize) * (value < 0) for value in (low, high))
    scale, offset = float(encoding.get("scale_factor", 1.0)), float(encoding.get("add_offset", 0.0))
    ends = sorted((low * scale + offset, high * scale + offset))
    return ends[0] - abs(scale) / 2, ends[1] + abs(scale) / 2


def within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Floats, with those outside the limits missing."""
    outside = (values < limits[0]) | (values > limits[1])
    return np.where(outside, np.asarray(np.nan, values.dtype), values) if outside.any() else values
