"""Times of any calendar: years and months, ranges, monthly steps, matches by year and month."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.coordinates import Gridded

_DATE = re.compile(r"^(\d{1,6})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2})(?::(\d{2})(?::(\d{2}))?)?)?)?)?$")
_PARTS = ("year", "month", "day", "hour", "minute", "second")

TimeResolution = Literal["year", "month", "day", "minute"]


def _accessor(time: Any) -> Any:
    array = time if isinstance(time, xr.DataArray) else xr.DataArray(np.asarray(time), dims="time")
    return array.variable if array.ndim == 0 else xr.DataArray(array.values, dims="time")


def _part(time: Any, name: str) -> np.ndarray:
    array = _accessor(time)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    return getattr(array.dt, name).values.astype(np.int64)


def _day_fraction(time: Any) -> np.ndarray:
    """The fraction of the day that has passed (float64)."""
    return ((_part(time, "hour") * 60 + _part(time, "minute")) * 60 + _part(time, "second")) / 86400


def years(time: Any) -> np.ndarray:
    """Year of every time (int64), numpy or cftime."""
    return _part(time, "year")


def months(time: Any) -> np.ndarray:
    """Month of every time, 1 to 12 (int64)."""
    return _part(time, "month")


def hours(time: Any) -> np.ndarray:
    """Hour of the day of every time, 0 to 23 (int64)."""
    return _part(time, "hour")


def month_day(time: Any) -> tuple[np.ndarray, np.ndarray]:
    """Month and day of the month of every time (int64)."""
    return _part(time, "month"), _part(time, "day")


def year_fraction(time: Any) -> np.ndarray:
    """The fraction of the year that has passed at every time, from 0 to below 1 (float64), in the times' calendar."""
    if np.size(time) == 0:
        return np.zeros(0)
    return (_part(time, "dayofyear") - 1 + _day_fraction(time)) / _part(time, "days_in_year")


def year_month(time: Any) -> np.ndarray:
    """Months since year 0, ``12 * year + month - 1`` (int64): equal for the same month in every calendar."""
    return 12 * years(time) + months(time) - 1


def decimal_year(time: Any) -> np.ndarray:
    """Time in years (float64): the middle of the month for monthly data, so that the day does not matter."""
    if is_monthly(time):
        return years(time) + (months(time) - 0.5) / 12
    return years(time) + (months(time) - 1 + (_part(time, "day") - 1 + _day_fraction(time)) / 31) / 12


def month_position(time: Any) -> np.ndarray:
    """Months since year 0, with the fraction of the month that has passed (float64)."""
    if np.size(time) == 0:
        return np.zeros(0)
    return year_month(time) + (_part(time, "day") - 1 + _day_fraction(time)) / _part(time, "days_in_month")


def is_monthly(time: Any) -> bool:
    """Whether no two times share a month and all are in order: such data are matched by year and month."""
    return bool((np.diff(year_month(time)) > 0).all())


def is_yearly(time: Any) -> bool:
    """Whether there is at most one time per year: whole years apart, except for a drift of up to a month.

    At least two times are needed to tell. Dates may drift across New Year, as years of 365 days do from 1 January.
    """
    if np.size(time) < 2:
        return False
    month = year_month(time) - year_month(time)[0]
    near = np.rint(month / 12).astype(np.int64)
    return bool((np.diff(near) > 0).all() and (np.abs(month - 12 * near) <= 1).all())


def yearly_years(time: Any) -> np.ndarray:
    """The year of each time of annual data (int64): the calendar year or, if dates drift across New Year, the year
    that is about to begin or has just begun.
    """
    found = years(time)
    return found if (np.diff(found) > 0).all() else (year_month(time) + 1) // 12


def is_every_month(time: Any) -> bool:
    """Whether times are monthly, most of them one month after the previous one: not seasons, not years."""
    steps = np.diff(year_month(time))
    return bool((steps > 0).all()) and steps.size > 0 and float(np.median(steps)) == 1


@dataclass(frozen=True)
class Hole:
    """A gap in a time axis: ``missing`` steps of ``step``, a number of months or a duration, between two times."""

    before: str
    after: str
    missing: int
    step: str

    def __str__(self) -> str:
        return f"{self.before} is followed by {self.after}, {self.missing} x {self.step} missing"


def holes(time: Any) -> list[Hole]:
    """Where steps are missing in a time axis in order, of any calendar.

    Steps of a month and more are counted in calendar months, so that neither their days nor a date that drifts within
    the month or year matters; shorter ones by their duration. A gap that recurs every year between the same months, as
    in data of winters only, is not a hole.
    """
    values = np.asarray(time)
    if values.size < 3:
        return []
    month = year_month(values)
    monthly = np.diff(month)
    usual = float(np.median(monthly))
    if usual >= 1:
        steps, least, name = monthly.astype(float), usual, "1 month" if usual == 1 else f"{usual:g} months"
        if usual > 1:  # dates of seasons and years may stray by a month or two
            least = 1.5 * usual
    else:
        steps = _seconds(np.diff(values))
        usual = float(np.median(steps))
        least, name = 1.5 * usual, _duration(usual)
    wide = np.flatnonzero(steps > least * (1 + 1e-9))
    seasons = _recurring(month, wide)
    return [
        Hole(time_text(values[i]), time_text(values[i + 1]), max(1, round(float(steps[i] / usual)) - 1), name)
        for i in wide.tolist()
        if i not in seasons
    ]


def _recurring(month: np.ndarray, wide: np.ndarray) -> set[int]:
    """The gaps from one month of the year to another, equally long, that occur in at least half of the years."""
    gaps = [(int(month[i] % 12), int(month[i + 1] - month[i])) for i in wide]
    least = max(2.0, (month[-1] // 12 - month[0] // 12) / 2)
    counts = Counter(gaps)
    return {int(i) for i, gap in zip(wide, gaps) if counts[gap] >= least}


def _seconds(steps: np.ndarray) -> np.ndarray:
    if steps.dtype.kind == "m":
        return steps / np.timedelta64(1, "s")
    return np.array([step.total_seconds() for step in steps])


def _duration(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = round(seconds / size, 2)
            return f"{count:g} {name}" + "s" * (count != 1)
    return f"{seconds:g} seconds"


def resolution(time: Any) -> TimeResolution:
    """How finely times must be written: to the year, month or day if that suffices and all have the same time of day.

    A single time is written to the day, or to the minute if it is not midnight.
    """
    if np.ndim(time) == 0:
        time = np.asarray(time).reshape(1)
    steps = np.diff(np.sort(year_month(time)))
    steps = steps[steps > 0] if steps.size and (steps > 0).any() else steps
    if steps.size and np.unique(year_month(time)).size == np.unique(_moment(time)).size:
        same = np.unique(months(time)).size == 1
        drifting = (
            np.size(time) > 2 and is_yearly(np.sort(np.asarray(time))) and np.unique(years(time)).size == np.size(time)
        )
        return "year" if drifting or (same and (steps >= 12).all()) else "month"
    clock = _part(time, "hour") * 60 + _part(time, "minute")
    return "day" if not clock.any() or (clock.size > 1 and np.unique(clock).size == 1) else "minute"


def time_text(value: Any) -> str:
    """A time as people write it: ``1997-03-01``, with hour and minute if it is not midnight."""
    array = xr.DataArray(np.asarray([value]), dims="time")
    year, month, day, hour, minute = (int(getattr(array.dt, part).values[0]) for part in _PARTS[:5])
    date = f"{year:04d}-{month:02d}-{day:02d}"
    return f"{date} {hour:02d}:{minute:02d}" if hour or minute else date


def parse_date(value: int | str | datetime.date) -> tuple[int, ...]:
    """Year, month, day, ... as far as given: ``1997``, ``"1997-03"``, ``"1997-03-01T06"``."""
    if isinstance(value, datetime.datetime):
        return value.year, value.month, value.day, value.hour, value.minute, value.second
    if isinstance(value, datetime.date):
        return value.year, value.month, value.day
    match = _DATE.match(str(value).strip())
    if not match:
        raise OptionError(f"{value!r} is not a date; write a year, 'YYYY-MM' or 'YYYY-MM-DD'", option="time")
    parts = tuple(int(part) for part in match.groups() if part is not None)
    limits = (None, 12, 31, 24, 59, 59)
    if any(limit is not None and part > limit for part, limit in zip(parts, limits)) or 0 in parts[1:3]:
        raise OptionError(f"{value!r} is not a date: month or day out of range", option="time")
    return parts


def _rank(parts: list[np.ndarray]) -> np.ndarray:
    """One number per time that sorts like the parts (year, month, day, ...)."""
    base = np.array([1, 13, 32, 25, 60, 60])[: len(parts)]
    rank = np.zeros_like(parts[0])
    for part, size in zip(parts, base):
        rank = rank * size + part
    return rank


def _moment(time: Any) -> np.ndarray:
    """One number per time, to the microsecond, the same for a date and time of day in every calendar."""
    return _rank([_part(time, name) for name in _PARTS]) * 1_000_000 + _part(time, "microsecond")


def in_range(time: Any, start: int | str | datetime.date | None, end: int | str | datetime.date | None) -> np.ndarray:
    """Boolean per time: not before ``start`` and not after ``end``, both included completely.

    A year means the whole year, ``"1997-03"`` the whole month, so the answer is the same in every calendar.
    """
    inside = np.ones(np.size(time), dtype=bool)
    for limit, after in ((start, True), (end, False)):
        if limit is None:
            continue
        wanted = parse_date(limit)
        have = _rank([_part(time, name) for name in _PARTS[: len(wanted)]])
        edge = _rank([np.array(part) for part in wanted])
        inside &= have >= edge if after else have <= edge
    return inside


def select_time(
    obj: Gridded,
    start: int | str | datetime.date | None = None,
    end: int | str | datetime.date | None = None,
) -> Gridded:
    """The times from ``start`` to ``end``, both included completely; years or dates, any calendar.

    Raises ``OptionError`` for ``time`` if nothing is left.
    """
    if start is None and end is None:
        return obj
    if start is not None and end is not None:
        first, last = parse_date(start), parse_date(end)
        shared = min(len(first), len(last))
        if first[:shared] > last[:shared]:
            raise OptionError(f"the times from {start} to {end} run backwards", option="time")
    inside = in_range(obj["time"], start, end)
    if not inside.any():
        raise OptionError(
            f"no time from {start if start is not None else 'the start'} to {end if end is not None else 'the end'}: "
            f"the data run from {time_text(obj['time'].values[0])} to {time_text(obj['time'].values[-1])}",
            option="time",
        )
    return obj if inside.all() else obj.isel(time=np.flatnonzero(inside))


def match_times(wanted: Any, have: Any) -> np.ndarray:
    """The position of every wanted time in ``have``, -1 if it is not there.

    If both are annual they are matched by year, if both are monthly by year and month, since files date a year or
    a month by its first, middle or last day in different calendars; otherwise by full date and time of day, whatever
    the calendar.
    """
    if is_yearly(wanted) and is_yearly(have):
        left, right = yearly_years(wanted), yearly_years(have)
    elif is_monthly(wanted) and is_monthly(have):
        left, right = year_month(wanted), year_month(have)
    else:
        left, right = (_moment(time) for time in (wanted, have))
    place = {value: index for index, value in enumerate(right.tolist())}
    return np.array([place.get(value, -1) for value in left.tolist()], dtype=np.int64)
