"""The step of a time axis, and the number of each time in steps: months if the calendar says so, else seconds.

A year has 12 months in every calendar, but 360, 365 or 366 days: the date of an annual or seasonal mean may drift by
days, and so may the length of the months in between. Such series have steps of months, whatever the days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import xarray as xr

from geoxai.grid.time import is_monthly, month_position, year_month

ATTRIBUTE = "step"
_MONTHS_OFF = 0.5  # the most that dates of longer steps may deviate from a whole number of steps, in months
_RARE = 0.05  # steps shorter than all but this share are exceptions: 8-day means start anew every 1 January


@dataclass(frozen=True)
class TimeStep:
    """The distance between neighbouring times, such as 1 month, 12 months or 86400 seconds."""

    size: float
    unit: Literal["months", "seconds"]

    def __str__(self) -> str:
        return f"{self.size:.12g} {self.unit}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The step from the text that ``str`` gives."""
        size, unit = text.split()
        return cls(float(size), "months" if unit == "months" else "seconds")


def time_step(time: xr.DataArray) -> TimeStep | None:
    """The smallest distance between consecutive times, apart from rare exceptions; None if there is only one time.

    If no two times share a month, the step is in months: 1, or more (3 for seasons, 12 for years) if all of
    them are a whole number of such steps apart, give or take half a month.
    """
    if np.size(time) < 2:
        return None
    if is_monthly(time):
        apart = np.diff(month_position(time))
        size = max(1.0, float(np.rint(apart.min())))
        regular = np.abs(apart - size * np.rint(apart / size)).max() <= _MONTHS_OFF
        return TimeStep(size if regular else 1.0, "months")
    apart = np.diff(np.unique(_seconds(np.asarray(time))))
    return TimeStep(float(np.quantile(apart, _RARE, method="lower")), "seconds") if apart.size else None


def step_numbers(time: xr.DataArray, step: TimeStep | None) -> np.ndarray:
    """The number of each time's step (int64), counted from the first, so that neighbours differ by one.

    Each is counted from the previous one, so that small irregularities do not add up; different times never share a
    step.
    """
    if step is None:
        return np.zeros(np.size(time), dtype=np.int64)
    if step.unit == "months":
        apart = np.diff(year_month(time)) if step.size == 1 else np.diff(month_position(time)) / step.size
    else:
        apart = np.diff(_seconds(np.asarray(time))) / step.size
    steps = np.rint(apart).astype(np.int64)
    return np.concatenate([[0], np.cumsum(np.where((steps == 0) & (apart > 0), 1, steps))]).astype(np.int64)


def _seconds(times: np.ndarray) -> np.ndarray:
    """Seconds since the first time (float64), in the calendar of the times."""
    if times.dtype.kind == "M":
        return (times - times[0]) / np.timedelta64(1, "s")
    return np.array([(time - times[0]).total_seconds() for time in times])
