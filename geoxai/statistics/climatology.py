"""Climatologies, linear trends, and anomalies from both."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.time import (
    decimal_year,
    hours,
    in_range,
    is_monthly,
    is_yearly,
    time_text,
    year_fraction,
    yearly_years,
)
from geoxai.grid.time import years as calendar_years
from geoxai.statistics.cycles import Asked, Cycle, coverage, cycle_of, refuse_unknown
from geoxai.statistics.least_squares import SlotSums, TermSums

log = logging.getLogger("geoxai.statistics")

Detrend = Literal["none", "linear"]
READ_BYTES = 64 * 2**20
_ONE_YEAR = 1 - 1e-6  # 365 days in a row span less: within one year a line is part of the cycle


def fit_times(time: xr.DataArray, years: tuple[int, int] | None, detrend: Detrend) -> np.ndarray:
    """Positions of the times of a fit; ``OptionError`` for ``fit`` if there are none, or too few for a trend."""
    inside = in_range(time, *years) if years is not None else np.ones(time.size, dtype=bool)
    used = np.flatnonzero(inside)
    if not used.size:
        assert years is not None
        raise OptionError(
            f"no time in the fit years {years[0]} to {years[1]}: the data run from {time_text(time.values[0])} "
            f"to {time_text(time.values[-1])}",
            option="fit",
        )
    if detrend == "linear" and np.ptp(elapsed_years(time)[used]) < _ONE_YEAR:
        raise OptionError("a linear trend needs more than one year of data in the years of the fit", option="fit")
    return used


def elapsed_years(time: xr.DataArray) -> np.ndarray:
    """Time in years (float64), for trends: whole years for annual data, the middle of its month for monthly data."""
    if is_yearly(time):
        return yearly_years(time).astype(np.float64)
    return decimal_year(time) if is_monthly(time) else calendar_years(time) + year_fraction(time)


def fit_climatology(
    ds: xr.Dataset,
    years: tuple[int, int] | None = None,
    detrend: Detrend = "none",
    *,
    cycle: Asked = "auto",
    harmonics: int = 4,
    window: int = 31,
) -> xr.Dataset:
    """The annual cycle of every cell and, if asked for, its linear trend.

    Parameters
    ----------
    ds
        Grid with a ``time`` dim; NaN is left out cell by cell. Variables without time are ignored.
    years
        First and last year of the fit, both included; None takes all times.
    detrend
        ``linear`` fits trend and cycle together by least squares, x(t) = cycle(t) + trend * (t - t0), so that an annual
        cycle on a straight line is fitted exactly, whatever times are missing. t is in years, for monthly data the
        middle of the month; t0, the mean time of the fit, is the coordinate ``reference_year``.
    cycle
        ``month``: the mean of every month of the year. ``harmonics``: a mean and sine waves with periods of a year
        and its fractions. ``window``: the mean of all values within a window around each day of the year (its trend:
        least squares on departures from it, Speckman 1988, doi:10.1111/j.2517-6161.1988.tb01738.x). ``auto``: see
        ``cycles.cycle_of``.
    harmonics, window
        Number of waves; width of the window in days, an odd number.

    Returns
    -------
    Dataset in memory, float64: ``<name>_climatology([hour,] month | day | term | whole_year, ...)`` in the units of the
    variable and, with a trend, ``<name>_trend(...)`` per year; attributes say which cycle it is. NaN where a cell has
    no value in that month or window of the fit or, with harmonics, a gap in the year that they cannot bridge.

    Raises ``OptionError`` for ``fit`` when no time lies in these years, there is less than a year for a trend, or the
    data have a month, day or hour that the fit does not have; for ``cycle`` if months needed for harmonics are missing.
    """
    used = fit_times(ds["time"], years, detrend)
    found = cycle_of(ds["time"], used, cycle, harmonics, window)
    covered = calendar_years(ds["time"])
    if years is not None and (years[0] < covered[0] or years[1] > covered[-1]):
        log.warning(
            "the fit of %d to %d reaches beyond the data, which run from %d to %d", *years, covered[0], covered[-1]
        )
    elapsed = elapsed_years(ds["time"])
    reference = float(elapsed[used].mean())
    fitted = xr.Dataset(coords=_coordinates(found, ds["time"]))
    if detrend == "linear":
        fitted = fitted.assign_coords(
            reference_year=((), reference, {"long_name": "mean time of the fit", "units": "year"})
        )
    for name, da in ds.data_vars.items():
        if "time" not in da.dims:
            continue
        units = da.attrs.get("units")
        climatology, trend = _fit(da, used, found, elapsed - reference if detrend == "linear" else None)
        fitted[f"{name}_climatology"] = climatology
        fitted[f"{name}_climatology"].attrs = _attrs(da, "climatology", units)
        if trend is not None:
            fitted[f"{name}_trend"] = trend
            fitted[f"{name}_trend"].attrs = _attrs(da, "linear trend", f"{units} year-1" if units else None)
    fitted["times_of_fit"] = (("hour_of_fit", "slot_of_fit"), coverage(ds["time"][used], found).astype(np.int32))
    fitted["times_of_fit"].attrs = {"long_name": "times of the fit by hour of the day and slot of the cycle"}
    time = ds["time"].values[used]
    fitted.attrs = {"fit_start": time_text(time[0]), "fit_end": time_text(time[-1]), "detrend": detrend}
    return fitted.assign_attrs(found.attrs())


def anomalies(ds: xr.Dataset, fitted: xr.Dataset) -> xr.Dataset:
    """Departures from a fitted climatology and trend, lazily; dims, dtype and units are those of ``ds``.

    Computed in float64, returned in the dtype of the variable. Raises ``OptionError`` for ``fit`` if the data have a
    month, day or hour that the fit does not have.
    """
    cycle = Cycle.of_attrs(fitted.attrs)
    time = ds["time"]
    refuse_unknown(time, fitted["times_of_fit"].values, cycle)
    hour = xr.DataArray(hours(time) if cycle.hourly else np.zeros(time.size, dtype=np.int64), dims="time")
    elapsed = elapsed_years(time) - float(fitted["reference_year"]) if "reference_year" in fitted else None
    fitted = fitted.drop_vars("reference_year", errors="ignore")  # belongs to the fit, not to the field
    if cycle.hourly:
        fitted = fitted.reindex(hour=np.arange(24))
    part = _part_of_cycle(cycle, time)
    part_of = xr.DataArray(part, dims=("time", "term")[: part.ndim])
    result = anomaly_skeleton(ds)
    for name, da in ds.data_vars.items():
        if "time" not in da.dims:
            continue
        climatology = fitted[f"{name}_climatology"]
        climatology = climatology if cycle.hourly else climatology.expand_dims("hour")
        arguments = [da.transpose("time", ...), hour, part_of, climatology.chunk({"hour": -1, cycle.dim: -1})]
        core: list[list[Hashable]] = [[], [], list(part_of.dims[1:]), ["hour", cycle.dim]]
        if not climatology.chunks:
            arguments[3] = climatology
        if f"{name}_trend" in fitted:
            arguments += [xr.DataArray(elapsed, dims="time"), fitted[f"{name}_trend"]]
            core += [[], []]
        dtype = result[name].dtype
        departure = xr.apply_ufunc(
            partial(_subtract, dtype=dtype),
            *arguments,
            input_core_dims=core,
            dask="parallelized",
            output_dtypes=[dtype],
            join="override",
        )
        departure = departure.transpose(*da.dims)
        departure.attrs = result[name].attrs
        result[name] = departure
    return result


def anomaly_skeleton(ds: xr.Dataset) -> xr.Dataset:
    """``ds`` with the dtypes and attributes of its anomalies: what ``anomalies`` gives, except for the values."""
    result = ds.copy()
    for name, da in ds.data_vars.items():
        if "time" not in da.dims:
            continue
        attrs = {key: value for key, value in da.attrs.items() if key != "standard_name"}
        result[name] = da.astype(np.result_type(da.dtype, np.float32))
        result[name].attrs = {**attrs, "long_name": f"{_title(da)} anomaly"}
    return result


def _fit(
    da: xr.DataArray, used: np.ndarray, cycle: Cycle, elapsed: np.ndarray | None
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Climatology and trend of one variable; ``elapsed`` (time) in years since the reference."""
    time = da["time"]
    hour = hours(time) if cycle.hourly else np.zeros(time.size, dtype=np.int64)
    known = np.unique(hour[used])
    group, part = np.searchsorted(known, hour), _part_of_cycle(cycle, time)
    da = da.transpose("time", ...)
    cells = da.isel(time=0, drop=True)
    kind = TermSums if cycle.kind == "harmonics" else SlotSums
    sums = kind(known.size, cycle, cycle.size(time), int(np.prod(cells.shape)), trend=elapsed is not None)
    for _ in range(sums.passes):
        for where, block in _blocks(da, used):
            sums.add(block, group[where], part[where], None if elapsed is None else elapsed[where])
        if sums.complete():
            break
    coefficients, trend = sums.solve()
    coords = {name: c for name, c in cells.coords.items() if name not in ("month", "day", "term", "hour")}
    if not cycle.hourly:
        coefficients, dims = coefficients[0], (cycle.dim, *cells.dims)
    else:
        dims = ("hour", cycle.dim, *cells.dims)
    shape = (*coefficients.shape[:-1], *cells.shape)
    climatology = xr.DataArray(coefficients.reshape(shape), coords, dims)
    return climatology, None if trend is None else xr.DataArray(trend.reshape(cells.shape), coords, cells.dims)


def _blocks(da: xr.DataArray, used: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The used fields ``(time, cell)`` in float64 chunk by chunk, each with the positions of its times."""
    sizes = da.variable.chunksizes.get("time")
    if sizes is None:
        step = max(1, READ_BYTES // (8 * max(1, da[0].size)))
        sizes = (step,) * -(-da.sizes["time"] // step)
    start = 0
    for size in sizes:
        where = used[(used >= start) & (used < start + size)]
        start += size
        if where.size:
            values = da.isel(time=where).values
            yield where, values.reshape(where.size, -1).astype(np.float64)


def _part_of_cycle(cycle: Cycle, time: xr.DataArray) -> np.ndarray:
    """Slots ``(time,)``, or the terms of harmonics ``(time, term)``."""
    return cycle.basis(time) if cycle.kind == "harmonics" else cycle.slots(time)


def _coordinates(cycle: Cycle, time: xr.DataArray) -> dict[str, Any]:
    coords: dict[str, Any] = {cycle.dim: cycle.coordinate(cycle.size(time))}
    if cycle.hourly:
        coords["hour"] = ("hour", np.unique(hours(time)), {"long_name": "hour of the day"})
    return coords


def _subtract(
    x: np.ndarray,
    hour: np.ndarray,
    part: np.ndarray,
    climatology: np.ndarray,
    elapsed: np.ndarray | None = None,
    trend: np.ndarray | None = None,
    *,
    dtype: np.dtype[Any],
) -> np.ndarray:
    """One block, time first, minus the cycle (hours and its parts last) at each time and, if given, the trend."""
    of_hour = np.moveaxis(climatology, (-2, -1), (0, 1))
    if np.issubdtype(part.dtype, np.integer):
        expected = of_hour[hour.ravel(), part.ravel()]
    else:
        terms, groups = part.reshape(-1, part.shape[-1]), hour.ravel()
        expected = np.zeros((groups.size, *of_hour.shape[2:]))
        for number in np.unique(groups):
            rows = groups == number
            for wave, coefficient in zip(terms[rows].T, of_hour[number]):  # a product's bits depend on the block
                expected[rows] += np.multiply.outer(wave, coefficient)
    departure = x - expected
    if elapsed is not None and trend is not None:
        departure = departure - elapsed * trend
    return departure.astype(dtype)


def _attrs(da: xr.DataArray, what: str, units: str | None) -> dict[str, str]:
    return {"long_name": f"{what} of {_title(da)}"} | ({"units": units} if units else {})


def _title(da: xr.DataArray) -> str:
    return str(da.attrs.get("long_name") or da.attrs.get("standard_name", da.name)).removesuffix(" anomaly")
