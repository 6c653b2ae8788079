"""Which times of one dataset are those of another."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import xarray as xr

from geoxai.grid.time import is_monthly, year_month

_PARTS = ("year", "month", "day", "hour", "minute", "second", "microsecond")


def match_times(wanted: xr.DataArray, have: xr.DataArray) -> np.ndarray:
    """For every wanted time its place in ``have``, -1 where there is none.

    Where both are monthly by year and month, since files date a month by its first, middle or last day in different
    calendars; otherwise by the full date and time of day.
    """
    keys = _months if is_monthly(wanted) and is_monthly(have) else _dates
    place = {key: index for index, key in enumerate(keys(have))}
    return np.array([place.get(key, -1) for key in keys(wanted)], dtype=np.int64)


def _months(time: xr.DataArray) -> list[Hashable]:
    return list(year_month(time).tolist())


def _dates(time: xr.DataArray) -> list[Hashable]:
    return list(zip(*(getattr(time.dt, part).values.tolist() for part in _PARTS)))
