"""Reorderings change the order of rows and columns and nothing else, for every way a grid can be written."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.boxes import REGIONS, Region, region
from geoxai.grid.coordinates import (
    grid_difference,
    latitude_direction,
    longitude_convention,
    orient,
    orientation,
    orientation_order,
    same_grid,
)
from geoxai.grid.regions import polygon_mask, region_mask, select_box

directions = st.sampled_from(["ascending", "descending"])
conventions = st.sampled_from(["0..360", "-180..180"])


def place(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """A value that belongs to a place on Earth, however it is written."""
    return np.round(lat, 6)[:, None] * 1000 + np.round(np.mod(lon, 360), 6)[None, :]


@st.composite
def grids(draw: st.DrawFn) -> xr.DataArray:
    """A global or partial grid in any direction, convention and offset; its values say where they belong."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(2, 24))
    step = draw(st.sampled_from([360 / columns, 5.0, 0.7]))
    step = min(step, 360 / columns)
    first = draw(st.integers(-1800, 3600)) / 10
    lat = np.linspace(-80, 80, rows) if rows > 1 else np.array([12.5])
    lon = first + step * np.arange(columns)
    convention = draw(conventions)
    west = 0 if convention == "0..360" else -180
    lon = np.sort(np.mod(lon - west, 360) + west)
    if draw(directions) == "descending":
        lat = lat[::-1]
    da = xr.DataArray(place(lat, lon), {"lat": lat, "lon": lon}, ("lat", "lon"), "where")
    return da.expand_dims(time=2).copy() if draw(st.booleans()) else da


def belongs(da: xr.DataArray) -> bool:
    values = da.values if da.ndim == 2 else da.values[0]
    return bool(np.abs(values - place(da["lat"].values, da["lon"].values)).max() < 1e-5)


@given(grids(), directions, conventions)
@settings(max_examples=150, deadline=None)
def test_orient_moves_every_value_with_its_place(da: xr.DataArray, lat: str, lon: str) -> None:
    moved = orient(da, lat=lat, lon=lon)
    assert belongs(moved)
    if da.sizes["lat"] > 1:
        assert latitude_direction(moved["lat"].values) == lat
    if not (moved["lon"].min() >= 0 and moved["lon"].max() <= 180):  # such longitudes are the same in both
        assert longitude_convention(moved["lon"].values) == lon
    assert np.array_equal(np.sort(moved.values, axis=None), np.sort(da.values, axis=None))


@given(grids(), directions, conventions)
@settings(max_examples=150, deadline=None)
def test_there_and_back_is_exact(da: xr.DataArray, lat: str, lon: str) -> None:
    rows, columns, longitudes = orientation_order(da, lat, lon)
    moved = da.isel(lat=rows, lon=columns)
    assert np.array_equal(moved.values, orient(da, lat, lon).values)
    assert np.array_equal(orient(da, lat, lon)["lon"].values, longitudes)
    back = moved.isel(lat=np.argsort(rows), lon=np.argsort(columns))
    xr.testing.assert_identical(back, da)


@given(grids(), st.integers(-90, 80), st.integers(0, 120), st.integers(-180, 360), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_a_box_holds_exactly_its_cells(da: xr.DataArray, south: int, height: int, west: int, width: int) -> None:
    north, east = min(south + height, 90), west + width
    lat, lon = da["lat"].values, da["lon"].values
    rows = (lat >= south - 1e-4) & (lat <= north + 1e-4)
    columns = np.array([any(west - 1e-4 <= x + 360 * k <= east + 1e-4 for k in range(-4, 5)) for x in lon])
    if not rows.any() or not columns.any():
        with pytest.raises(OptionError):
            select_box(da, (south, north), (west, east))
        return
    box = select_box(da, (south, north), (west, east))
    assert box.sizes["lat"] == rows.sum()
    assert box.sizes["lon"] == columns.sum()
    assert belongs(box)
    steps = np.diff(box["lon"].values)
    assert (steps > 0).all()
    if box.sizes["lat"] > 1:
        assert latitude_direction(box["lat"].values) == latitude_direction(lat)
    mask = region_mask(da, Region((south, north), (west, east)))
    assert int(mask.sum()) == rows.sum() * columns.sum()


@given(st.integers(-180, 360), st.integers(10, 350), conventions, directions)
@settings(max_examples=150, deadline=None)
def test_a_box_is_the_same_from_both_conventions(west: int, width: int, convention: str, direction: str) -> None:
    lat, lon = np.arange(-87.5, 90, 5), np.arange(0, 360, 5.0)
    da = xr.DataArray(place(lat, lon), {"lat": lat, "lon": lon}, ("lat", "lon"))
    one = select_box(da, (-30, 40), (west, west + width))
    other = orient(select_box(orient(da, direction, convention), (-30, 40), (west, west + width)), "ascending")
    assert np.array_equal(np.sort(one.values, axis=None), np.sort(other.values, axis=None))
    if width < 350:  # where the box does not nearly close on itself both come west to east
        ordered = [np.roll(b.values, -int(np.argmin(np.mod(b.lon.values - west, 360))), axis=1) for b in (one, other)]
        assert np.array_equal(*ordered)


def test_a_box_across_the_seam_comes_in_one_piece() -> None:
    lat, lon = np.array([0.0]), np.arange(0, 360, 30.0)
    da = xr.DataArray(place(lat, lon), {"lat": lat, "lon": lon}, ("lat", "lon"))
    assert select_box(da, lon=(-60, 60))["lon"].values.tolist() == [-60, -30, 0, 30, 60]
    west = orient(da, lon="-180..180")
    assert west["lon"].values.tolist() == list(range(-180, 180, 30))
    assert select_box(west, lon=(120, -120))["lon"].values.tolist() == [120, 150, 180, 210, 240]
    assert select_box(da, lon=(120, 240))["lon"].values.tolist() == [120, 150, 180, 210, 240]
    assert select_box(da, lon=(-180, 180)).sizes["lon"] == 12


def test_attributes_and_integer_longitudes_stay() -> None:
    da = xr.DataArray(np.zeros((1, 4)), {"lat": [0], "lon": ("lon", [0, 90, 180, 270], {"units": "degrees_east"})},
                      ("lat", "lon"), attrs={"units": "K"})  # fmt: skip
    moved = orient(da, lon="-180..180")
    assert moved["lon"].values.tolist() == [-180, -90, 0, 90]
    assert moved["lon"].dtype.kind == "i"
    assert moved["lon"].attrs == {"units": "degrees_east"}
    assert moved.attrs == {"units": "K"}


def test_orientation_and_refusals() -> None:
    da = xr.DataArray(np.zeros((2, 3)), {"lat": [10, 0], "lon": [-90, 0, 90]}, ("lat", "lon"))
    assert orientation(da) == ("descending", "-180..180")
    with pytest.raises(GeoxaiError, match="neither increase nor decrease"):
        orientation(da.assign_coords(lat=[5, 5]))
    with pytest.raises(GeoxaiError, match="the same meridian twice"):
        orient(da.assign_coords(lon=[0, 90, 360]), lon="-180..180")
    with pytest.raises(OptionError, match="did you mean 'nino34'"):
        region("nino34x")
    with pytest.raises(OptionError, match="south first"):
        select_box(da, lat=(10, -10))


def test_same_grid_forgives_single_precision_and_names_differences() -> None:
    a = xr.DataArray(np.zeros((3, 4)), {"lat": [-0.7, 0, 0.7], "lon": [0.1, 0.8, 1.5, 2.2]}, ("lat", "lon"))
    assert same_grid(a, a.assign_coords(lat=a.lat.astype("f4"), lon=a.lon.astype("f4")))
    assert grid_difference(a, a.isel(lat=slice(2))) == "lat has 3 against 2 points"
    assert "lat runs from -0.7 to 0.7 against 0.7 to -0.7" in str(grid_difference(a, a.isel(lat=slice(None, None, -1))))
    bent = a.assign_coords(lon=[0.1, 0.8, 1.6, 2.2])
    assert str(grid_difference(a, bent)).endswith("differs at point 2: 1.5 against 1.6")


def test_named_regions_are_where_they_should_be() -> None:
    assert region("Nino 3.4") is REGIONS["nino34"]
    assert region("Niño 1+2") is REGIONS["nino12"]
    lat, lon = np.arange(-89.5, 90), np.arange(0.5, 360)
    da = xr.DataArray(np.zeros((180, 360)), {"lat": lat, "lon": lon}, ("lat", "lon"))
    sizes = {name: int(region_mask(da, name).sum()) for name in ("nino12", "nino3", "nino34", "nino4", "global")}
    assert sizes == {"nino12": 100, "nino3": 600, "nino34": 500, "nino4": 500, "global": 64800}
    centre = region_mask(da, "nino34")
    assert (float(lon[centre.any("lat").values].min()), float(lon[centre.any("lat").values].max())) == (190.5, 239.5)


def test_polygons_across_seams_and_their_corners():
    for lon in (np.arange(0.5, 360), np.arange(-179.5, 180)):
        grid = xr.Dataset(coords={"lat": np.arange(-89.5, 90), "lon": lon})
        for west, east in ((170, -150), (-20, 30), (100, 120)):
            box = region_mask(grid, Region((-10, 25), (west, east)))
            sides = polygon_mask(grid, [-10, -10, 25, 25], [west, east, east, west])
            xr.testing.assert_equal(box.transpose("lat", "lon"), sides.transpose("lat", "lon"))
        triangle = polygon_mask(grid, [0, 40, 0], [160, 180, -160])  # half of a box of 40 x 40
        assert int(triangle.sum()) == 800
        assert bool(triangle.sel(lat=30.5, lon=grid["lon"][int(abs((grid["lon"] - 180.5) % 360).argmin("lon"))]))
    with pytest.raises(OptionError, match="at least three corners"):
        polygon_mask(grid, [0, 1], [0, 1])
