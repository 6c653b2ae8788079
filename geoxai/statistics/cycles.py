"""The kinds of annual cycle of a climatology: by month, by day within a window, or as harmonics of the year.

A daily cycle follows the calendar of the data. In calendars with leap years 29 February is a day of its own, the
60th of 366, between 28 February and 1 March; others do not have it. Harmonics run with the fraction of the year that
has passed, so that a year is one period however many days it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.time import hours, is_monthly, is_yearly, month_day, months, time_text, year_fraction

Kind = Literal["whole_year", "month", "window", "harmonics"]
Asked = Literal["auto", "month", "harmonics", "window"]
_LEAP = np.cumsum([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30])
_DAYS = {"360_day": 360, "noleap": 365, "365_day": 365}
_SUB_DAILY = 0.9  # days; data with shorter steps have a cycle for every hour of the day


@dataclass(frozen=True)
class Cycle:
    """An annual cycle, and whether every hour of the day has its own.

    ``window`` is the width in days around each day, ``harmonics`` the number of waves in a year, if the kind has
    one.
    """

    kind: Kind
    harmonics: int = 0
    window: int = 0
    hourly: bool = False

    @property
    def dim(self) -> str:
        """The dim of the fit."""
        return {"window": "day", "harmonics": "term"}.get(self.kind, self.kind)

    def attrs(self) -> dict[str, Any]:
        """The attributes that ``of_attrs`` reads."""
        return {"cycle": self.kind, "harmonics": self.harmonics, "window": self.window, "hourly": int(self.hourly)}

    @classmethod
    def of_attrs(cls, attrs: dict[str, Any]) -> Cycle:
        """The cycle of a stored fit."""
        harmonics, window, hourly = (int(attrs[name]) for name in ("harmonics", "window", "hourly"))
        return cls(attrs["cycle"], harmonics, window, bool(hourly))

    def size(self, time: xr.DataArray) -> int:
        """The number of slots, or of terms of harmonics."""
        if self.kind == "window":
            return _DAYS.get(time.dt.calendar, 366)
        return {"month": 12, "harmonics": 1 + 2 * self.harmonics}.get(self.kind, 1)

    def coordinate(self, size: int) -> tuple[str, np.ndarray, dict[str, str]]:
        """The coordinate along the dim."""
        if self.kind == "harmonics":
            waves = [f"{wave} {k}" for k in range(1, self.harmonics + 1) for wave in ("cos", "sin")]
            return "term", np.array(["mean", *waves]), {"long_name": "term of the annual cycle, by waves in a year"}
        names = {"month": "month of year", "window": "day of year; 29 February is the 60th if it exists"}
        return self.dim, np.arange(1, size + 1), {"long_name": names.get(self.kind, "the whole year")}

    def slots(self, time: xr.DataArray) -> np.ndarray:
        """The slot of each time, from 0 (not for harmonics)."""
        if self.kind == "month":
            return months(time) - 1
        if self.kind == "window":
            month, day = month_day(time)
            size = self.size(time)
            starts = {366: _LEAP, 365: _LEAP - (np.arange(12) > 1), 360: 30 * np.arange(12)}[size]
            return starts[month - 1] + day - 1
        return np.zeros(time.size, dtype=np.int64)

    def basis(self, time: xr.DataArray) -> np.ndarray:
        """The terms of the harmonics ``(time, term)``: 1, cos and sin of each number of waves."""
        angle = 2 * np.pi * year_fraction(time)[:, None] * np.arange(1, self.harmonics + 1)
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(time.size, -1)
        return np.concatenate([np.ones((time.size, 1)), waves], axis=1)

    def spread(self, sums: np.ndarray) -> np.ndarray:
        """Sums over slots ``(..., slot, cell)`` as sums over the window around each slot, cyclic in the year."""
        reach = min(self.window, sums.shape[-2]) // 2
        if self.kind != "window" or reach == 0:
            return sums
        round_ = np.concatenate([sums[..., -reach:, :], sums, sums[..., :reach, :]], axis=-2)
        out = np.zeros_like(sums)
        for shift in range(min(2 * reach + 1, sums.shape[-2])):
            out += round_[..., shift : shift + sums.shape[-2], :]
        return out


def cycle_of(time: xr.DataArray, used: np.ndarray, kind: Asked, harmonics: int, window: int) -> Cycle:
    """The cycle for fields at these times, fitted to those at the positions ``used``.

    ``auto``: the whole year for annual data, months for monthly ones, else harmonics, or a window where the fit lacks
    months of the year. Sub-daily data have a cycle for every hour of the day.

    Raises ``OptionError`` for ``cycle`` if harmonics would have to guess months without data, and for ``fit`` if
    data have a month, hour or day that the fit cannot know.
    """
    yearly, monthly = is_yearly(time), is_monthly(time)
    whole = np.unique(months(time[used])).size == 12
    found: Kind
    if kind == "auto":
        found = "whole_year" if yearly else "month" if monthly else "harmonics" if whole else "window"
    else:
        found = kind
    if found == "harmonics" and not whole:
        raise OptionError(
            "harmonics need data in every month of the year, but the years of the fit lack some",
            fix="cycle: window, or cycle: month",
            option="cycle",
        )
    steps = np.diff(_days(time.values)) if not monthly else np.zeros(0)
    cycle = Cycle(
        found,
        harmonics if found == "harmonics" else 0,
        window if found == "window" else 0,
        bool(steps.size) and float(np.median(steps)) < _SUB_DAILY,
    )
    refuse_unknown(time, coverage(time[used], cycle), cycle)
    return cycle


def coverage(time: xr.DataArray, cycle: Cycle) -> np.ndarray:
    """How many of these times are in each slot ``(hour, slot)``, every hour of 24 where hours have their own cycle."""
    hour, slot = _place(time, cycle)
    counts = np.zeros((24 if cycle.hourly else 1, 1 if cycle.kind == "harmonics" else cycle.size(time)))
    np.add.at(counts, (hour, slot), 1)
    return counts


def refuse_unknown(time: xr.DataArray, fitted: np.ndarray, cycle: Cycle) -> None:
    """Refuse times in a month, hour or day of the year for which the fit (its ``coverage``) has no data."""
    hour, slot = _place(time, cycle)
    unknown = np.flatnonzero(cycle.spread(fitted[..., None])[hour, slot, 0] == 0)
    if not unknown.size:
        return
    first = time[unknown[:1]]
    if not fitted[hour[unknown[0]]].any():
        what = f"times at hour {hour[unknown[0]]} of the day"
    elif cycle.kind == "month":
        what = f"month {int(months(first)[0])}"
    else:
        what = f"times such as {time_text(first.values[0])}"
    wider = " or a wider window" if cycle.kind == "window" and fitted[hour[unknown[0]]].any() else ""
    raise OptionError(
        f"the data have {what}, but the years of the fit do not",
        fix=f"choose years of the fit that have them{wider}, or leave these times out when loading",
        option="fit",
    )


def _place(time: xr.DataArray, cycle: Cycle) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(time.size, dtype=np.int64)
    return hours(time) if cycle.hourly else none, none if cycle.kind == "harmonics" else cycle.slots(time)


def _days(times: np.ndarray) -> np.ndarray:
    if times.dtype.kind == "M":
        return (times - times[0]) / np.timedelta64(1, "D")
    return np.array([(time - times[0]).total_seconds() / 86400 for time in times])
