"""Areas against closed forms, masks against a slow search, times in every calendar."""

from pathlib import Path

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.grid.area import EARTH_RADIUS, area_weights, part_in_region, region_mean
from geoxai.grid.boxes import REGIONS, Region
from geoxai.grid.coordinates import orient
from geoxai.grid.masks import mask_onto, require_values
from geoxai.grid.time import (
    decimal_year,
    in_range,
    is_monthly,
    is_yearly,
    match_times,
    resolution,
    select_time,
    time_text,
    year_month,
    yearly_years,
    years,
)
from geoxai.readers.netcdf import open_netcdf

EARTH = 4 * np.pi * EARTH_RADIUS**2


def globe(step: float, offset: float = 0.5) -> xr.DataArray:
    lat, lon = np.arange(-90 + step * offset, 90, step), np.arange(step * offset, 360, step)
    return xr.DataArray(np.zeros((lat.size, lon.size)), {"lat": lat, "lon": lon}, ("lat", "lon"))


@pytest.mark.parametrize("step", [2.5, 5, 30])
def test_areas_of_the_globe_add_up(step: float) -> None:
    assert float(area_weights(globe(step)).sum()) == pytest.approx(EARTH, rel=1e-12)
    moved = orient(globe(step), "descending", "-180..180")
    assert float(area_weights(moved).sum()) == pytest.approx(EARTH, rel=1e-12)


def test_rows_on_the_poles_and_gaussian_rows_add_up() -> None:
    poles = xr.DataArray(
        np.zeros((73, 144)), {"lat": np.linspace(-90, 90, 73), "lon": np.arange(144) * 2.5}, ("lat", "lon")
    )
    assert float(area_weights(poles).sum()) == pytest.approx(EARTH, rel=1e-12)
    gauss = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))
    grid = xr.DataArray(np.zeros((64, 128)), {"lat": gauss, "lon": np.arange(128) * 2.8125}, ("lat", "lon"))
    assert float(area_weights(grid).sum()) == pytest.approx(EARTH, rel=1e-3)


def test_curvilinear_areas_match_those_of_the_same_grid_written_in_one_dimension() -> None:
    flat = globe(2.0)
    lon, lat = np.meshgrid(flat["lon"], flat["lat"])
    bent = xr.DataArray(flat.values, {"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)}, ("y", "x"))
    inner = slice(2, -2)
    np.testing.assert_allclose(
        area_weights(bent).values[inner, 1:-1], area_weights(flat).values[inner, 1:-1], rtol=2e-3
    )


@given(st.floats(-80, 60), st.floats(1, 20), st.floats(-180, 360), st.floats(1, 359), st.sampled_from([2.5, 5.0, 7.5]))
@settings(max_examples=100, deadline=None)
def test_parts_of_cells_add_up_to_the_box(south: float, height: float, west: float, width: float, step: float) -> None:
    box = Region((south, south + height), (west, west + width))
    expected = EARTH_RADIUS**2 * np.deg2rad(width) * np.diff(np.sin(np.deg2rad(box.lat)))[0]
    for grid in (globe(step), globe(step, 0.0), orient(globe(step), "descending", "-180..180")):
        inside = part_in_region(grid, box)
        assert float(inside.sum()) == pytest.approx(expected, rel=1e-9)
        assert bool((inside <= area_weights(grid) * (1 + 1e-12)).all())


def test_a_region_mean_leaves_out_missing_cells() -> None:
    grid = globe(5)
    values = xr.where(np.abs(grid["lat"]) < 3, 2.0, 4.0).broadcast_like(grid)
    weights = part_in_region(grid, REGIONS["nino34"]).values
    assert float(region_mean(values, REGIONS["nino34"])) == pytest.approx(
        (weights * values.values).sum() / weights.sum()
    )
    assert float(region_mean(values.where(values == 4), REGIONS["nino34"]).fillna(-1)) == -1  # both rows near 2.5 are 2
    with pytest.raises(GeoxaiError, match="no cell in"):
        region_mean(values.sel(lat=slice(40, 60)), REGIONS["nino34"])


@given(st.sampled_from([1.0, 3.0, 7.0]), st.floats(0, 1), st.booleans(), st.booleans(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_masks_come_from_the_nearest_cell(step: float, offset: float, flip: bool, wrap: bool, seed: int) -> None:
    mask = globe(5).copy(data=np.random.default_rng(seed).integers(0, 5, (36, 72)))
    grid = globe(step * 5, offset)
    written = orient(mask, "descending" if flip else None, "-180..180" if wrap else None)
    found = mask_onto(written, grid)
    for i, lat in enumerate(grid["lat"].values):
        rows = np.abs(mask["lat"].values - lat)
        for j, lon in enumerate(grid["lon"].values):
            columns = np.abs(np.mod(mask["lon"].values - lon + 180, 360) - 180)
            near = mask.values[np.ix_(rows <= rows.min() + 1e-4, columns <= columns.min() + 1e-4)]
            assert found.values[i, j] in near
    assert np.array_equal(found.values, mask_onto(mask, grid).values)


def test_masks_that_do_not_reach_are_refused() -> None:
    mask = globe(5).sel(lat=slice(-30, 30))
    with pytest.raises(GeoxaiError, match=r"does not cover the grid: its lat runs from -27\.5 to 27\.5"):
        mask_onto(mask, globe(5))


def test_the_published_mask_on_the_ersst_grid(shared_data: Path) -> None:
    mask = open_netcdf(shared_data / "natural_earth/landsea.nc")["LSMASK"]
    sst = open_netcdf(shared_data / "sst_ersstv5_global_5deg/*.nc")
    assert float((mask_onto(mask, sst) == 1).mean()) == pytest.approx(0.27, abs=0.01)
    bipolar = open_netcdf(shared_data / "cmip_samples/tos_ocean_bipolar_grid.nc")["tos"]
    land = bipolar.isel(time=0).isnull()
    agree = (mask_onto(mask, bipolar) == 1) == land
    assert float(agree.mean()) > 0.95


def test_empty_fields_name_variable_and_time() -> None:
    da = globe(30).expand_dims(time=np.array(["1997-01-01", "1997-02-01", "1997-03-01T06:00"], "M8[ns]")).copy()
    require_values(da, "sst")
    require_values(da.where(da["lat"] > 0), "sst")
    da[2] = np.nan
    with pytest.raises(InputError, match=r"'sst' has no value in any cell at 1997-03-01 06:00 \(1 of 3 fields"):
        require_values(da.chunk(time=1), "sst")
    with pytest.raises(InputError, match=r"'sst' has no value in any cell\n"):
        require_values(da[2].drop_vars("time"), "sst")


def monthly(calendar: str, day: int = 15) -> xr.DataArray:
    times = [cftime.datetime(1980 + i // 12, i % 12 + 1, day, calendar=calendar) for i in range(36)]
    return xr.DataArray(np.arange(36), {"time": times}, ("time",))


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "julian"])
def test_times_of_every_calendar(calendar: str) -> None:
    da = monthly(calendar)
    assert is_monthly(da["time"])
    assert years(da["time"]).tolist() == np.repeat([1980, 1981, 1982], 12).tolist()
    assert decimal_year(da["time"])[0] == pytest.approx(1980 + 0.5 / 12)
    assert select_time(da, 1981, "1981-02").values.tolist() == [12, 13]
    assert select_time(da, "1982-11-15", None).values.tolist() == [34, 35]
    assert select_time(da, "1982-11-16", None).values.tolist() == [35]
    assert in_range(da["time"], None, 1980).sum() == 12
    assert time_text(da["time"].values[1]) == "1980-02-15"
    with pytest.raises(OptionError, match="the data run from 1980-01-15 to 1982-12-15"):
        select_time(da, 1990, 1991)
    with pytest.raises(OptionError, match="is not a date"):
        select_time(da, "1980-13", None)


def test_months_match_across_calendars_and_days() -> None:
    standard = xr.DataArray(
        np.arange(40), {"time": np.arange("1979-11", "1983-03", dtype="M8[M]").astype("M8[ns]")}, ("time",)
    )
    places = match_times(monthly("360_day", 30)["time"], standard["time"])
    assert places.tolist() == list(range(2, 38))
    assert match_times(standard["time"], monthly("noleap")["time"]).tolist()[:4] == [-1, -1, 0, 1]
    assert (year_month(standard["time"].values) == year_month(standard["time"])).all()
    daily = np.arange("1980-01-01", "1980-01-05", dtype="M8[D]").astype("M8[ns]")
    assert not is_monthly(daily)
    assert match_times(daily, daily[2:]).tolist() == [-1, -1, 0, 1]
    scans = daily[0] + np.array([0, 500, 1500], "m8[ms]")
    assert match_times(scans, scans).tolist() == [0, 1, 2]


def test_annual_times_match_by_year_and_nothing_else_does() -> None:
    years = xr.DataArray(np.array([f"{y}-07-02" for y in range(2000, 2005)], "datetime64[ns]"), dims="time")
    ends = xr.DataArray(np.array([f"{y}-12-31" for y in range(2002, 2008)], "datetime64[ns]"), dims="time")
    months = xr.DataArray(np.arange("2000-01", "2008-01", dtype="M8[M]").astype("M8[ns]"), dims="time")
    assert match_times(years, ends).tolist() == [-1, -1, 0, 1, 2]
    assert match_times(years, months).tolist() == [6, 18, 30, 42, 54]
    assert match_times(years[:1], ends[:1]).tolist() == [-1]  # one time alone is of no known step
    drifting = [cftime.datetime(2000 + i, 6 + i % 2, 30 - 29 * (i % 2), calendar="noleap") for i in range(4)]
    assert match_times(drifting, years).tolist() == [0, 1, 2, 3]


def test_annual_stamps_may_drift_across_new_year() -> None:
    """Years of 365 days, without their calendar, that begin on 1 January: two stamps lie in 1892, none in 1893."""
    drifting = np.datetime64("1890-01-01", "ns") + 365 * np.arange(60) * np.timedelta64(1, "D")
    assert (np.diff(drifting.astype("M8[Y]").astype(int)) == 0).any()
    assert is_yearly(drifting)
    assert yearly_years(drifting).tolist() == list(range(1890, 1950))
    noleap = np.array([cftime.datetime(year, 7, 1, calendar="noleap") for year in range(1880, 1960)])
    assert match_times(drifting, noleap).tolist() == list(range(10, 70))
    assert not is_yearly(np.array(["1990-12-01", "1991-01-01", "1992-01-01"], "M8[ns]"))


def test_annual_data_are_dated_by_year_though_their_stamps_drift() -> None:
    midyear = np.datetime64("1890-07-11", "ns") + 365 * np.arange(110) * np.timedelta64(1, "D")
    assert np.unique(midyear.astype("M8[M]").astype(int) % 12).size == 2
    assert resolution(midyear) == "year"
    assert resolution(np.array(["1990-01-01", "1991-02-01"], "M8[ns]")) == "month"
