"""Climatologies by month of year, linear trends, and anomalies from both."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.time import decimal_year, in_range, months, time_text
from geoxai.grid.time import years as calendar_years

log = logging.getLogger("geoxai.statistics")

Detrend = Literal["none", "linear"]


def fit_times(time: xr.DataArray, years: tuple[int, int] | None, detrend: Detrend) -> np.ndarray:
    """Positions of the times of a fit; ``OptionError`` for ``fit`` where there are none or too few for a trend."""
    inside = in_range(time, *years) if years is not None else np.ones(time.size, dtype=bool)
    used = np.flatnonzero(inside)
    if not used.size:
        assert years is not None
        raise OptionError(
            f"no time in the fit years {years[0]} to {years[1]}: the data run from {time_text(time.values[0])} "
            f"to {time_text(time.values[-1])}",
            option="fit",
        )
    if detrend == "linear" and np.ptp(decimal_year(time)[used]) < 1:
        raise OptionError("a linear trend needs more than one year of data in the years of the fit", option="fit")
    return used


def fit_climatology(ds: xr.Dataset, years: tuple[int, int] | None = None, detrend: Detrend = "none") -> xr.Dataset:
    """Mean of every month of the year, and the linear trend beside it, for every cell.

    Parameters
    ----------
    ds
        Grid with a ``time`` dim; NaN is left out cell by cell. Variables without time are ignored.
    years
        First and last year of the fit, both included; None takes all times.
    detrend
        ``linear`` fits trend and climatology together by least squares, x(t) = climatology(month) + trend * (t - t0),
        so that any annual cycle on any straight line is fitted exactly, whatever months are missing. t is in years,
        for monthly data the middle of the month; t0, the mean time of the fit, is the coordinate ``reference_year``.

    Returns
    -------
    Dataset in memory, float64: ``<name>_climatology(month, ...)`` in the units of the variable and, with a trend,
    ``<name>_trend(...)`` per year. NaN where a cell has no value in that month of the fit.

    Raises ``OptionError`` for ``fit`` when no time lies in these years, or less than two years for a trend.
    """
    import dask

    used = fit_times(ds["time"], years, detrend)
    time = ds["time"].values[used]
    covered = calendar_years(ds["time"])
    if years is not None and (years[0] < covered[0] or years[1] > covered[-1]):
        log.warning(
            "the fit of %d to %d reaches beyond the data, which run from %d to %d", *years, covered[0], covered[-1]
        )
    month, t = months(time), decimal_year(ds["time"])[used]
    reference = float(t.mean())
    sums = {
        name: _monthly_sums(da.isel(time=used), month, t - reference, detrend == "linear")
        for name, da in ds.data_vars.items()
        if "time" in da.dims
    }
    (sums,) = dask.compute(sums)
    fitted = xr.Dataset(coords={"month": ("month", np.unique(month), {"long_name": "month of year"})})
    if detrend == "linear":
        fitted = fitted.assign_coords(
            reference_year=((), reference, {"long_name": "mean time of the fit", "units": "year"})
        )
    for name, parts in sums.items():
        units = ds[name].attrs.get("units")
        climatology, trend = _solve(parts)
        fitted[f"{name}_climatology"] = climatology
        fitted[f"{name}_climatology"].attrs = _attrs(ds[name], "monthly climatology", units)
        if trend is not None:
            per_year = f"{units} year-1" if units else None
            fitted[f"{name}_trend"] = trend
            fitted[f"{name}_trend"].attrs = _attrs(ds[name], "linear trend", per_year)
    fitted.attrs = {"fit_start": time_text(time[0]), "fit_end": time_text(time[-1]), "detrend": detrend}
    return fitted


def anomalies(ds: xr.Dataset, fitted: xr.Dataset) -> xr.Dataset:
    """Departures from a fitted climatology and trend, lazily; dims, dtype and units those of ``ds``.

    Computed in float64 and given in the dtype of the variable. Raises ``OptionError`` for ``fit`` where the data have a
    month of the year that the fit has not.
    """
    month = months(ds["time"])
    known = fitted["month"].values
    absent = sorted(set(month.tolist()) - set(known.tolist()))
    if absent:
        raise OptionError(f"the data have month {absent[0]}, the years of the fit have not", option="fit")
    position = xr.DataArray(np.searchsorted(known, month), dims="time")
    elapsed = decimal_year(ds["time"]) - float(fitted["reference_year"]) if "reference_year" in fitted else None
    fitted = fitted.drop_vars("reference_year", errors="ignore")  # a fact of the fit, not a place of the field
    result = anomaly_skeleton(ds)
    for name, da in ds.data_vars.items():
        if "time" not in da.dims:
            continue
        climatology = fitted[f"{name}_climatology"]
        arguments = [
            da.transpose("time", ...),
            position,
            climatology.chunk(month=-1) if climatology.chunks else climatology,
        ]
        core: list[list[Hashable]] = [[], [], ["month"]]
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
    """``ds`` with the dtypes and attributes of its anomalies: what ``anomalies`` gives, but for the values."""
    result = ds.copy()
    for name, da in ds.data_vars.items():
        if "time" not in da.dims:
            continue
        attrs = {key: value for key, value in da.attrs.items() if key != "standard_name"}
        result[name] = da.astype(np.result_type(da.dtype, np.float32))
        result[name].attrs = {**attrs, "long_name": f"{_title(da)} anomaly"}
    return result


def _monthly_sums(da: xr.DataArray, month: np.ndarray, t: np.ndarray, trend: bool) -> dict[str, xr.DataArray]:
    """Per month and cell: how many values, their sum and, for a trend, the sums of t, t squared and x t; lazy."""
    pieces: dict[str, list[xr.DataArray]] = {}
    for number in np.unique(month):
        where = np.flatnonzero(month == number)
        x = da.isel(time=where).drop_vars("time").astype("float64")
        valid = x.notnull()
        x = x.fillna(0.0)
        pieces.setdefault("n", []).append(valid.sum("time"))
        pieces.setdefault("x", []).append(x.sum("time"))
        if trend:
            elapsed = xr.DataArray(t[where], dims="time")
            pieces.setdefault("t", []).append((valid * elapsed).sum("time"))
            pieces.setdefault("tt", []).append((valid * elapsed**2).sum("time"))
            pieces.setdefault("xt", []).append((x * elapsed).sum("time"))
    return {key: xr.concat(parts, "month", coords="minimal", compat="override") for key, parts in pieces.items()}


def _solve(sums: dict[str, xr.DataArray]) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Climatology and trend from the sums: the trend from departures within each month (Frisch and Waugh 1933)."""
    count = sums["n"].where(sums["n"] > 0)
    mean = sums["x"] / count
    if "t" not in sums:
        return mean, None
    mean_t = sums["t"] / count
    covariance = (sums["xt"] - sums["x"] * mean_t).sum("month")
    variance = (sums["tt"] - sums["t"] * mean_t).sum("month")
    trend = covariance / variance.where(variance > 1e-9)
    return mean - trend * mean_t, trend


def _subtract(
    x: np.ndarray,
    position: np.ndarray,
    climatology: np.ndarray,
    elapsed: np.ndarray | None = None,
    trend: np.ndarray | None = None,
    *,
    dtype: np.dtype[Any],
) -> np.ndarray:
    """One block, time first: less the climatology (months last) of each time's month, less the trend where given."""
    departure = x - np.moveaxis(climatology, -1, 0)[position.ravel()]
    if elapsed is not None and trend is not None:
        departure = departure - elapsed * trend
    return departure.astype(dtype)


def _attrs(da: xr.DataArray, what: str, units: str | None) -> dict[str, str]:
    return {"long_name": f"{what} of {_title(da)}"} | ({"units": units} if units else {})


def _title(da: xr.DataArray) -> str:
    return str(da.attrs.get("long_name") or da.attrs.get("standard_name", da.name)).removesuffix(" anomaly")
