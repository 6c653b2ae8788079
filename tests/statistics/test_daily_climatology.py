"""Annual cycles of daily and sub-daily data against explicit computations, known cycles and every calendar."""

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import OptionError
from geoxai.statistics.climatology import anomalies, fit_climatology

CALENDARS = ["standard", "noleap", "360_day", "all_leap"]


def daily(start="1990-01-01", end="1999-12-30", calendar="standard", freq="D"):
    return xr.date_range(start, end, freq=freq, calendar=calendar, use_cftime=calendar != "standard")


def dataset(time, values, chunk=None):
    values = np.asarray(values, dtype=float).reshape(len(time), 1, -1)
    coords = {"time": np.array(time), "lat": [0.0], "lon": np.arange(values.shape[2]) * 5.0}
    ds = xr.Dataset({"t": xr.DataArray(values, coords, ("time", "lat", "lon"), attrs={"units": "K"})})
    return ds if chunk is None else ds.chunk(time=chunk)


def fraction(time):
    """The part of the year that is over, one time after the other."""
    found = []
    for t in time:
        year = [cftime.datetime(y, 1, 1, calendar=t.calendar) for y in (t.year, t.year + 1)]
        found.append((t - year[0]).total_seconds() / (year[1] - year[0]).total_seconds())
    return np.array(found)


def as_cftime(time):
    return [
        t if hasattr(t, "calendar") else cftime.datetime(t.year, t.month, t.day, t.hour, calendar="standard")
        for t in time
    ]


def residuals(x, used, columns):
    design = np.stack(columns, axis=1)
    valid = used & np.isfinite(x)
    return x - design @ np.linalg.lstsq(design[valid], x[valid], rcond=None)[0]


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("detrend", ["none", "linear"])
def test_harmonics_are_an_explicit_least_squares_fit(calendar, detrend):
    rng = np.random.default_rng(0)
    time = as_cftime(daily(calendar=calendar))
    x = rng.normal(280, 3, (len(time), 3))
    x[rng.random(len(time)) < 0.3, 1] = np.nan
    x[:, 2] = np.nan
    years = np.array([t.year for t in time])
    phase = fraction(time)
    columns = [np.ones(len(time))]
    columns += [wave(2 * np.pi * k * phase) for k in (1, 2, 3) for wave in (np.cos, np.sin)]
    columns += [years + phase] if detrend == "linear" else []
    ds = dataset(time, x, chunk=700)
    fitted = fit_climatology(ds, (1991, 1997), detrend, harmonics=3)
    assert fitted["t_climatology"].dims == ("term", "lat", "lon")
    found = anomalies(ds, fitted)["t"].values[:, 0]
    inside = (years >= 1991) & (years <= 1997)
    for cell in (0, 1):
        np.testing.assert_allclose(found[:, cell], residuals(x[:, cell], inside, columns), atol=1e-8)
    assert np.isnan(found[:, 2]).all()


@pytest.mark.parametrize("calendar", CALENDARS)
def test_a_window_is_the_mean_of_the_days_around_in_all_years(calendar):
    rng = np.random.default_rng(1)
    time = as_cftime(daily("1995-01-01", "1998-12-30", calendar))
    x = rng.normal(size=(len(time), 2))
    x[rng.random(len(time)) < 0.5, 1] = np.nan
    days = sorted({(t.month, t.day) for t in time})
    assert ((2, 29) in days) == (calendar != "noleap")
    ds = dataset(time, x, chunk=400)
    found = anomalies(ds, fit_climatology(ds, (1995, 1997), cycle="window", window=11))["t"].values[:, 0]
    place = np.array([days.index((t.month, t.day)) for t in time])
    fit = np.array([t.year <= 1997 for t in time])
    for i in range(0, len(time), 7):
        apart = np.abs(place - place[i])
        near = fit & (np.minimum(apart, len(days) - apart) <= 5)
        np.testing.assert_allclose(found[i], x[i] - np.nanmean(x[near], axis=0), atol=1e-12)


def test_every_hour_of_the_day_has_a_cycle_of_its_own():
    rng = np.random.default_rng(2)
    time = as_cftime(daily("1990-01-01", "1991-12-31", freq="6h"))
    phase, hour = fraction(time), np.array([t.hour for t in time])
    diurnal = (5 + 3 * np.cos(2 * np.pi * phase)) * np.cos(2 * np.pi * hour / 24)
    x = 10 * np.sin(2 * np.pi * np.floor(phase * 365) / 365) + diurnal + rng.normal(size=len(time))
    ds = dataset(time, x, chunk=500)
    fitted = fit_climatology(ds)
    assert fitted["hour"].values.tolist() == [0, 6, 12, 18]
    found = anomalies(ds, fitted)["t"].values.ravel()
    for h in (0, 6, 12, 18):
        rows = hour == h
        waves = [wave(2 * np.pi * k * phase[rows]) for k in (1, 2, 3, 4) for wave in (np.cos, np.sin)]
        everything = np.ones(rows.sum(), bool)
        expected = residuals(x[rows], everything, [np.ones(rows.sum()), *waves])
        np.testing.assert_allclose(found[rows], expected, atol=1e-9)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("cycle", ["harmonics", "window"])
def test_no_annual_cycle_is_left_at_the_ends_of_months(calendar, cycle):
    """A cycle of 15 K on the true length of the year, as the sun gives it: monthly means leave up to 4 K of it."""
    time = daily("1980-01-01", "1999-12-30", calendar)
    year = {"noleap": 365, "360_day": 360, "all_leap": 366}.get(calendar, 365.2425)
    x = 285 + 15 * np.cos(2 * np.pi * np.arange(len(time)) / year)
    ds = dataset(as_cftime(time), x)
    left = np.abs(anomalies(ds, fit_climatology(ds, (1980, 1989), cycle=cycle))["t"]).max()
    assert left < (0.25 if cycle == "harmonics" else 0.45)  # a leap year is up to 0.75 days off; 31 days flatten 1.2 %
    by_month = np.abs(anomalies(ds, fit_climatology(ds, (1980, 1989), cycle="month"))["t"]).max()
    assert by_month > 3


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=9, max_size=9),
    st.floats(-1, 1),
    st.sampled_from(CALENDARS),
    st.integers(0, 9),
)
def test_harmonics_on_a_straight_line_leave_nothing_on_29_february_either(terms, slope, calendar, seed):
    time = as_cftime(daily("1995-01-01", "2000-12-30", calendar))
    phase = fraction(time)
    waves = [wave(2 * np.pi * k * phase) for k in (1, 2, 3, 4) for wave in (np.cos, np.sin)]
    x = np.stack([np.ones(len(time)), *waves], axis=1) @ np.array(terms)
    x = x + slope * (np.array([t.year for t in time]) + phase)
    x = np.where(np.random.default_rng(seed).random(len(time)) < 0.1, np.nan, x)
    ds = dataset(time, x)
    found = anomalies(ds, fit_climatology(ds, (1995, 1998), "linear"))["t"].values
    np.testing.assert_allclose(found[np.isfinite(found)], 0, atol=1e-7)
    assert (np.isnan(found).ravel() == np.isnan(x)).all()


def test_a_window_finds_the_trend_beside_the_cycle():
    time = as_cftime(daily("1980-01-01", "1999-12-31"))
    phase, years = fraction(time), np.array([t.year for t in time])
    x = 10 * np.cos(2 * np.pi * phase) + 0.5 * (years + phase)
    fitted = fit_climatology(dataset(time, x), (1980, 1989), "linear", cycle="window")
    assert float(fitted["t_trend"].max()) == pytest.approx(0.5, rel=1e-3)
    assert fitted["t_trend"].attrs["units"] == "K year-1"


def test_the_kind_of_cycle_follows_from_the_times():
    def kind(time, **options):
        ds = dataset(as_cftime(time), np.random.default_rng(0).normal(size=len(time)))
        return fit_climatology(ds, **options).attrs["cycle"]

    assert kind(daily("1990-01-01", "1995-12-01", freq="MS")) == "month"
    assert kind(daily()) == "harmonics"
    assert kind(daily("1990-01-01", "1999-12-30", freq="YS")) == "whole_year"
    winter = [t for t in daily() if t.month in (12, 1, 2)]
    assert kind(winter) == "window"
    with pytest.raises(OptionError, match="every month of the year") as caught:
        kind(winter, cycle="harmonics")
    assert caught.value.option == "cycle"


def test_annual_means_depart_from_one_mean_whatever_month_their_stamp_drifts_to():
    time = [cftime.datetime(1990 + i, 6 + i % 2, 30 - 29 * (i % 2), calendar="noleap") for i in range(10)]
    x = np.arange(10.0)
    found = anomalies(dataset(time, x), fit_climatology(dataset(time, x)))["t"].values.ravel()
    np.testing.assert_allclose(found, x - x.mean())
    straight = anomalies(dataset(time, x), fit_climatology(dataset(time, x), (1990, 1994), "linear"))["t"].values
    np.testing.assert_allclose(straight, 0, atol=1e-12)


def test_hours_and_days_that_the_fit_has_not_are_refused():
    time = as_cftime(daily("1990-01-01", "1992-12-31", freq="12h"))
    x = np.random.default_rng(0).normal(size=len(time))
    noons = np.array([t.hour == 12 or t.year > 1991 for t in time])
    with pytest.raises(OptionError, match="hour 0 of the day, but the years of the fit do not"):
        fit_climatology(dataset(np.array(time)[noons], x[noons]), (1990, 1991))
    early = np.array([t.month not in (6, 7) or t.year > 1991 for t in time])
    with pytest.raises(OptionError, match="times such as 1992-06-16"):
        fit_climatology(dataset(np.array(time)[early], x[early]), (1990, 1991))
    whole = fit_climatology(dataset(np.array(time)[early], x[early]), (1990, 1991), window=91, cycle="window")
    assert whole.attrs["window"] == 91


@pytest.mark.parametrize("cycle", ["harmonics", "window", "month"])
def test_one_year_of_days_has_no_trend(cycle):
    time = as_cftime(daily("1990-01-01", "1992-12-31"))
    ds = dataset(time, np.random.default_rng(0).normal(size=len(time)))
    with pytest.raises(OptionError, match="more than one year"):
        fit_climatology(ds, (1991, 1991), "linear", cycle=cycle)
    assert "t_trend" in fit_climatology(ds, (1991, 1992), "linear", cycle=cycle)


def test_a_29_february_that_the_fit_has_not_is_refused_with_what_helps():
    time = as_cftime(daily("1989-01-01", "1992-12-31"))
    ds = dataset(time, np.arange(float(len(time))))
    with pytest.raises(OptionError, match="times such as 1992-02-29") as caught:
        fit_climatology(ds, (1989, 1991), cycle="window", window=1)
    assert "wider window" in str(caught.value.fix)
    assert "t_climatology" in fit_climatology(ds, (1989, 1991), cycle="window", window=3)


def test_a_cell_with_a_gap_that_harmonics_do_not_bridge_is_missing_and_a_window_keeps_it():
    time = as_cftime(daily())
    x = np.random.default_rng(0).normal(size=(len(time), 2))
    x[[t.month not in (6, 7, 8) for t in time], 0] = np.nan
    ds = dataset(time, x)
    found = anomalies(ds, fit_climatology(ds, detrend="linear"))["t"].values[:, 0]
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()
    kept = anomalies(ds, fit_climatology(ds, detrend="linear", cycle="window"))["t"].values[:, 0, 0]
    assert (np.isfinite(kept) == np.isfinite(x[:, 0])).all()


@pytest.mark.parametrize("cycle", ["harmonics", "window", "month"])
def test_chunks_and_storage_do_not_matter(tmp_path, cycle):
    time = as_cftime(daily("1990-01-01", "1993-12-30", freq="12h"))
    x = np.random.default_rng(3).normal(size=(len(time), 4))
    ds = dataset(time, x)
    fitted = fit_climatology(ds, (1990, 1992), "linear", cycle=cycle)
    fitted.to_zarr(tmp_path / "fit.zarr", consolidated=False)
    stored = xr.open_zarr(tmp_path / "fit.zarr", consolidated=False)
    expected = anomalies(ds, fitted)["t"].values
    lazy = anomalies(ds.chunk(time=97, lon=3), stored)["t"]
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.values, expected)
    again = fit_climatology(ds.chunk(time=97, lon=3), (1990, 1992), "linear", cycle=cycle)
    np.testing.assert_allclose(anomalies(ds, again)["t"].values, expected, atol=1e-12)
