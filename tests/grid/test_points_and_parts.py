"""The cell in which a point lies, and shares of cells inside a box."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import GeoxaiError
from geoxai.grid.area import area_weights, part_in_region, region_mean, region_parts
from geoxai.grid.boxes import REGIONS, Region
from geoxai.grid.coordinates import orient
from geoxai.grid.points import cell_at
from geoxai.statistics.shares import region_shares


def grid(lat: np.ndarray, lon: np.ndarray) -> xr.DataArray:
    return xr.DataArray(np.zeros((lat.size, lon.size)), {"lat": lat, "lon": lon}, ("lat", "lon"))


TROPICS = grid(np.arange(-30.0, 31, 5), np.arange(120.0, 281, 5))
GLOBE = grid(np.arange(-87.5, 90, 5), np.arange(2.5, 360, 5))


@pytest.mark.parametrize(
    ("lat", "lon", "inside"),
    [(0, 180, True), (32.4, 180, True), (32.6, 180, False), (60, 200, False), (-32.6, 200, False), (0, 117.6, True),
     (0, 117.4, False), (0, -77.6, True), (0, -77.4, False), (0, 0, False), (95, 200, False), (0, 999, False)],
)  # fmt: skip
def test_a_place_beyond_half_a_cell_of_a_regional_grid_is_refused(lat: float, lon: float, inside: bool) -> None:
    for cells in (TROPICS, orient(TROPICS, "descending", "-180..180")):
        if inside:
            row, column = cell_at(cells, lat, lon)
            assert abs(float(cells["lat"][row]) - lat) <= 2.5
            assert abs((float(cells["lon"][column]) - lon + 180) % 360 - 180) <= 2.5
        else:
            with pytest.raises(GeoxaiError, match=r"lies outside the grid|is not a place"):
                cell_at(cells, lat, lon)


@given(st.floats(-90, 90), st.floats(-180, 360), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.5]))
@settings(max_examples=200, deadline=None)
def test_every_place_is_in_a_cell_of_a_global_grid(
    lat: float, lon: float, down: bool, west: bool, offset: float
) -> None:
    cells = grid(np.linspace(-90, 90, 37) if offset == 0 else GLOBE["lat"].values, np.arange(360 / 5) * 5 + offset * 5)
    cells = orient(cells, "descending" if down else None, "-180..180" if west else None)
    row, column = cell_at(cells, lat, lon)
    assert abs(float(cells["lat"][row]) - lat) <= 2.5 + 1e-3
    assert abs((float(cells["lon"][column]) - lon + 180) % 360 - 180) <= 2.5 + 1e-3


def test_the_outermost_rows_of_a_gaussian_grid_reach_the_poles() -> None:
    lat = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))
    cells = grid(lat, np.arange(128) * 2.8125)
    assert cell_at(cells, 90, 17)[0] == 63
    assert cell_at(cells, -90, -170)[0] == 0
    with pytest.raises(GeoxaiError, match="latitude 90"):
        cell_at(cells.isel(lat=slice(10, 50)), 90, 17)


def test_the_nearest_cell_by_bounds_of_the_file() -> None:
    cells = TROPICS.assign_coords(
        lat_south=("lat", TROPICS["lat"].values - 0.5), lat_north=("lat", TROPICS["lat"].values + 0.5)
    )
    assert cell_at(cells, 0.4, 180) == cell_at(TROPICS, 0, 180)
    with pytest.raises(GeoxaiError, match="outside"):
        cell_at(cells, 2, 180)


def test_places_on_a_curvilinear_grid() -> None:
    y, x = np.mgrid[0:20, 0:30].astype(float)
    lat, lon = 30 + y + 0.1 * x, 200 + 1.2 * x - 0.1 * y
    lat[0, 0] = lon[0, 0] = np.nan
    cells = xr.DataArray(np.zeros(lat.shape), {"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)}, ("y", "x"))
    for row, column in ((5, 7), (19, 29), (0, 1)):
        assert cell_at(cells, lat[row, column] + 0.2, lon[row, column] - 360 - 0.2) == (row, column)
    for place in ((60, 215), (40, 150), (-40, 215)):
        with pytest.raises(GeoxaiError, match="outside the grid: the nearest centre is"):
            cell_at(cells, *place)


@given(st.floats(-80, 60), st.floats(1, 20), st.floats(-180, 360), st.floats(1, 400), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_parts_are_shares_of_the_cells(
    south: float, height: float, west: float, width: float, down: bool, turned: bool
) -> None:
    box = Region((south, south + height), (west, west + width))
    cells = orient(GLOBE, "descending" if down else None, "-180..180" if turned else None)
    parts = region_parts(cells, box)
    assert float(parts.min()) >= 0
    assert float(parts.max()) <= 1
    np.testing.assert_allclose(
        (parts * area_weights(cells)).values, part_in_region(cells, box).values, rtol=1e-9, atol=1
    )


@pytest.mark.parametrize("step", [1.0, 2.5, 5.0, 7.5])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_shares_of_nino34_are_those_of_the_index(step: float, offset: float) -> None:
    lat = np.arange(-90 + step * offset, 90.1 - step * offset, step)
    cells = grid(lat, np.arange(step * offset, 360, step))
    box = REGIONS["nino34"]
    values = cells + np.random.default_rng(0).uniform(0, 1, cells.shape)
    area = area_weights(cells)
    shares = region_shares((values * area).expand_dims("channel"), region_parts(cells, box), area)
    inside = part_in_region(cells, box)
    assert float(shares["area_share"]) == pytest.approx(float(inside.sum() / area.sum()))
    share = np.sin(np.deg2rad(5)) * 50 / 360  # of the sphere
    assert float(shares["area_share"]) == pytest.approx(share, rel=1e-6)
    mean = float(region_mean(values.rename("v"), box))
    assert float(shares["relevance_share"]) == pytest.approx(mean * float(inside.sum()) / float((values * area).sum()))
