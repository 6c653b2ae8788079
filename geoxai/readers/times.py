"""The time axis of files: in order, without duplicates, in one calendar."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoxai.errors import InputError
from geoxai.grid.time import holes, time_text

log = logging.getLogger("geoxai.readers")

_SHOWN = 3


def check_time_axis(path: Path, time: xr.DataArray) -> None:
    """Refuse a time axis with missing, repeated or descending times, naming the file and the first wrong step."""
    if time.dtype.kind != "M" and not is_calendar(time):
        units = time.attrs.get("units")
        raise InputError(
            f"{path}: the time axis cannot be read as dates: its units are {units!r}",
            fix="give the file units such as 'days since 1850-01-01' and a calendar",
        )
    missing = np.flatnonzero(time.isnull().values)
    if missing.size:
        raise InputError(f"{path}: time step {missing[0] + 1} of {time.size} has no date", fix="repair the time axis")
    values = time.values
    wrong = np.flatnonzero(~(values[1:] > values[:-1])) + 1
    if not wrong.size:
        return
    step = int(wrong[0])
    before, here = time_text(values[step - 1]), time_text(values[step])
    if values[step] == values[step - 1]:
        raise InputError(
            f"{path}: time {here} occurs twice, at steps {step} and {step + 1} of {values.size}",
            fix="keep one of them, for instance with xarray: ds.drop_duplicates('time')",
        )
    raise InputError(
        f"{path}: the time axis is out of order: {here} at step {step + 1} of {values.size} follows {before}",
        fix="sort the file along time, for instance with xarray: ds.sortby('time')",
    )


def is_calendar(time: xr.DataArray) -> bool:
    """Whether times are cftime objects."""
    return time.dtype == object and time.size > 0 and hasattr(time.values.flat[0], "calendar")


def calendar(time: xr.DataArray) -> str:
    """The CF name of the calendar."""
    return str(time.dt.calendar)


def in_time_order(files: Sequence[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """Files, each with an object that has a checked ``time``, sorted by their first time.

    Refuses files that differ in calendar or overlap, naming both.
    """
    first_path, first = files[0]
    for path, data in files[1:]:
        if calendar(data["time"]) != calendar(first["time"]):
            raise InputError(
                f"{path}: calendar {calendar(data['time'])!r} differs from {calendar(first['time'])!r} of {first_path}",
                fix="load files of different calendars in stages of their own",
            )
    ordered = sorted(files, key=lambda item: item[1]["time"].values[0])
    for (before, earlier), (path, later) in pairwise(ordered):
        if later["time"].values[0] <= earlier["time"].values[-1]:
            raise InputError(
                f"{path} overlaps {before}: it begins at {time_text(later['time'].values[0])}, but that file ends at "
                f"{time_text(earlier['time'].values[-1])}",
                fix="give every time only once: narrow the path so that only one of the two files is read",
            )
    return ordered


def warn_of_holes(source: str, time: xr.DataArray) -> None:
    """Warn of times missing between the first and the last, saying where and how many."""
    found = holes(time)
    if not found:
        return
    listed = "; ".join(str(hole) for hole in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    count = "a hole" if len(found) == 1 else f"{len(found)} holes"
    log.warning("%s: the time axis has %s: %s%s", source, count, listed, more)
