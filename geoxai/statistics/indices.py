"""Nino3.4, the Oceanic Nino Index, and the classes made from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError
from geoxai.grid.area import region_mean
from geoxai.grid.boxes import REGIONS
from geoxai.grid.time import is_monthly, year_month
from geoxai.statistics.flags import NO_CLASS, flag_attrs

log = logging.getLogger("geoxai.statistics")

ENSO_CLASSES = ("la_nina", "neutral", "el_nino")
BASE_YEARS = 30
BASE_STEP = 5


def nino34(sst: xr.DataArray) -> xr.DataArray:
    """Area-weighted mean of SST or its anomalies over 5S-5N, 170W-120W; dims are those of ``sst`` without lat and lon.

    A cell that lies partly in the box counts with the area of that part; a cell without a value does not count.
    Source of the box: Trenberth 1997, BAMS 78, 2771.
    """
    mean = region_mean(sst, REGIONS["nino34"])
    return _described(mean, "Nino 3.4 SST (5S-5N, 170W-120W)")


def base_period(year: int, first: int, last: int) -> tuple[int, int] | None:
    """The 30-year base period of the ONI of a year, given the complete years of the record.

    NOAA CPC: centred base periods updated every five years, 1936-1965 for 1951-1955, 1941-1970 for 1956-1960, and so
    on. If the record does not reach that far, the nearest such period that it covers; None if it covers none.
    """
    phase = 1  # base periods begin in 1936, 1941, ...
    lowest = first + (phase - first) % BASE_STEP
    highest = last - BASE_YEARS + 1
    highest -= (highest - phase) % BASE_STEP
    if highest < lowest:
        return None
    block = year - (year - phase) % BASE_STEP
    start = min(max(block - BASE_YEARS // 2, lowest), highest)
    return start, start + BASE_YEARS - 1


def oni(monthly: xr.DataArray) -> xr.DataArray:
    """Oceanic Nino Index of a monthly Nino3.4 series: sliding 30-year bases, then a centred three-month mean.

    Parameters
    ----------
    monthly
        ``(time,)``, absolute temperatures or anomalies against anything that repeats every year.

    Each month is measured against the mean of its month of the year over the base period of its year
    (``base_period``); the mean of three months is assigned to the middle one, NaN if one of the three is missing. A
    record without a complete 30-year base is measured against all of its years, with a warning.
    Source: NOAA CPC, "Description of changes to ONI".
    """
    if not is_monthly(monthly["time"]):
        raise GeoxaiError("the ONI needs monthly data in time order, one value per month")
    first_month = int(year_month(monthly["time"])[0])
    position = year_month(monthly["time"]) - first_month
    values = np.full(position[-1] + 1, np.nan)  # every month of the record, including missing ones
    values[position] = monthly.values.astype(float)
    month = np.arange(values.size) + first_month
    anomaly = values - _base_means(values, month)
    mean = np.full(values.size, np.nan)
    mean[1:-1] = (anomaly[:-2] + anomaly[1:-1] + anomaly[2:]) / 3
    index = monthly.copy(data=mean[position])
    return _described(index, "Oceanic Nino Index, three-month mean against sliding 30-year bases")


def _described(index: xr.DataArray, title: str) -> xr.DataArray:
    """An index as ``value`` with its units and title, without the standard name and cell methods of the field."""
    index = index.rename("value")
    index.attrs = {key: value for key, value in index.attrs.items() if key == "units"} | {"long_name": title}
    return index


def _base_means(values: np.ndarray, month: np.ndarray) -> np.ndarray:
    """For every month the mean of its month of the year over the base period of its year."""
    year = month // 12
    first = int(year[0] + (month[0] % 12 > 0))
    last = int(year[-1] - (month[-1] % 12 < 11))
    result = np.empty(values.size)
    short = False
    for this in np.unique(year):
        base = base_period(int(this), first, last)
        short |= base is None
        inside = (year >= base[0]) & (year <= base[1]) if base else np.ones(values.size, dtype=bool)
        for where in np.flatnonzero(year == this):
            sample = values[inside & (month % 12 == month[where] % 12)]
            sample = sample[~np.isnan(sample)]
            result[where] = sample.mean() if sample.size else np.nan
    if short:
        log.warning(
            "the ONI is measured against the mean of all %d-%d: the record contains no base period of %d years",
            year[0], year[-1], BASE_YEARS,
        )  # fmt: skip
    return result


def round_half_away(values: np.ndarray, decimals: int) -> np.ndarray:
    """Decimal rounding with halves away from zero (0.45 to 0.5, -0.45 to -0.5), as index tables are read by people.

    Values within 1e-6 of a half count as the half, since 0.45 has no exact binary form.
    """
    scaled = np.abs(values) * 10.0**decimals
    return np.copysign(np.floor(scaled + 0.5 + 1e-6), values) / 10.0**decimals


def classify(
    values: xr.DataArray,
    thresholds: tuple[float, float] = (-0.5, 0.5),
    *,
    decimals: int | None = 1,
    min_seasons: int = 5,
    classes: Sequence[str] = ENSO_CLASSES,
) -> xr.DataArray:
    """Cold, neutral and warm months of an index as ``label(time)``, int16 with CF flags.

    Parameters
    ----------
    values
        ``(time,)``; NaN gives -1, no class.
    thresholds
        At or below the first is cold, at or above the second is warm.
    decimals
        Values are first rounded to this many decimals (halves away from zero); None compares them as they are.
    min_seasons
        A run of cold or warm months (consecutive in the calendar) shorter than this is neutral. A run cut by the
        start or end of the record counts only the months it has.
    classes
        Names of cold, neutral, warm.
    """
    low, high = thresholds
    if not low < high:
        raise GeoxaiError(f"thresholds {low:g} and {high:g}: the first must be the lower one")
    index = values.values.astype(float)
    if decimals is not None:
        index = round_half_away(index, decimals)
    label = np.where(index <= low, 0, np.where(index >= high, 2, 1)).astype(np.int16)
    label[np.isnan(index)] = NO_CLASS
    month = year_month(values["time"])
    starts = np.flatnonzero(np.r_[True, (np.diff(label) != 0) | (np.diff(month) != 1)])
    for start, stop in zip(starts, np.r_[starts[1:], label.size]):
        if label[start] in (0, 2) and stop - start < min_seasons:
            label[start:stop] = 1
    attrs = {**flag_attrs(classes), "long_name": f"class of the index: {low:g} and below, between, {high:g} and above"}
    return xr.DataArray(label, {"time": values["time"]}, ("time",), "label", attrs)


def looks_absolute(values: xr.DataArray) -> bool:
    """Whether an index is far from zero on average, as temperatures are and anomalies are not."""
    return bool(abs(float(values.mean())) > 5)
