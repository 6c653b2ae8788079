"""Longitudes as files write them: whatever the convention, the same meridians in the same columns, or words."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.errors import GeoxaiError
from geoxai.grid.area import area_weights, attach_edges, part_in_region
from geoxai.grid.boxes import Region
from geoxai.grid.coordinates import orient
from geoxai.grid.degrees import check_latitudes, tidy_longitudes


@st.composite
def columns(draw: st.DrawFn) -> np.ndarray:
    """Distinct meridians eastwards from anywhere, once round the globe at most."""
    start = draw(st.integers(-180, 359))
    steps = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    return start + np.concatenate([[0], np.cumsum(steps)]).astype(float)


@given(columns(), st.booleans(), st.data())
@settings(max_examples=200, deadline=None)
def test_every_way_to_write_longitudes_gives_the_same_meridians(
    lon: np.ndarray, west: bool, data: st.DataObject
) -> None:
    turns = data.draw(st.lists(st.integers(-3, 3), min_size=lon.size, max_size=lon.size))
    written = lon + 360 * np.array(turns)
    if west:
        written = written[::-1]
    tidy, _ = tidy_longitudes(written)
    np.testing.assert_allclose(np.mod(tidy - written + 180, 360) - 180, 0, atol=1e-9)
    runs_on = (np.diff(tidy) > 0).all() or (np.diff(tidy) < 0).all()
    in_a_convention = (tidy.min() >= 0 and tidy.max() <= 360) or (tidy.min() >= -180 and tidy.max() <= 180)
    assert in_a_convention or (runs_on and np.ptp(tidy) < 360)
    grid = xr.DataArray(np.zeros((2, lon.size)), {"lat": [-10.0, 10.0], "lon": tidy}, ("lat", "lon"))
    plain = grid.assign_coords(lon=lon[::-1] if west else lon)
    box = Region((-20, 20), (data.draw(st.integers(-180, 180)), data.draw(st.integers(181, 300))))
    np.testing.assert_allclose(part_in_region(grid, box), part_in_region(plain, box), rtol=1e-9, atol=1)


@given(columns(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_doubled_meridian_or_swapped_columns_are_refused(lon: np.ndarray, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, lon.size - 1))
    doubled = np.insert(lon, data.draw(st.integers(0, lon.size)), lon[place] + 360 * data.draw(st.integers(-1, 1)))
    with pytest.raises(GeoxaiError, match="are both at longitude"):
        tidy_longitudes(doubled)
    if lon.size >= 4:
        swapped = lon.copy()
        swapped[[1, 2]] = swapped[[2, 1]]
        with pytest.raises(GeoxaiError, match=r"do not follow each other around the globe: .* at column"):
            tidy_longitudes(swapped)


@pytest.mark.parametrize(
    ("lon", "kept"),
    [((0, 90, 180, 270), True), ((-180, -90, 0, 90), True), ((0, 90, 180, -90), True), ((270, 180, 90, 0), True),
     ((-280, -190, -100, -10), True), ((30, 120, 210, 300, 380), True), ((0, 90, 200, -100), False),
     ((720, 810, 900, 990), False)],
)  # fmt: skip
def test_common_conventions_are_kept_and_others_said(lon: tuple[float, ...], kept: bool) -> None:
    tidy, said = tidy_longitudes(np.array(lon, float))
    assert (said is None) == kept
    np.testing.assert_array_equal(tidy, lon if kept else np.mod(lon, 360))


def test_latitudes_beyond_the_poles_are_counted() -> None:
    check_latitudes(np.array([-90.00001, 0, 90, np.nan]))
    with pytest.raises(GeoxaiError, match=r"1 of 3 latitudes lie beyond the poles; they run from -10 to 95"):
        check_latitudes(np.array([-10.0, 0, 95]))
    with pytest.raises(GeoxaiError) as caught:
        check_latitudes(np.array([0.0, 120, 240]), np.array([-10.0, 0, 10]))
    assert "swapped" in str(caught.value)


@given(
    st.sampled_from(["ascending", "descending"]),
    st.sampled_from(["0..360", "-180..180"]),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_edges_from_bounds_follow_the_cells_through_every_orientation(
    lat: str, lon: str, share: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    rows, columns = np.sort(random.uniform(-90, 90, 6)), np.sort(random.uniform(0, 360, 8))
    edges = np.append(columns, columns[0] + 360)
    centres = {"lat": rows[:-1] + share * np.diff(rows), "lon": edges[:-1] + share * np.diff(edges)}
    grid = xr.Dataset({"a": (("lat", "lon"), random.normal(size=(5, 8)))}, centres)
    grid = attach_edges(grid, "lat", np.stack([rows[1:], rows[:-1]], 1))
    assert grid is not None
    grid = attach_edges(grid, "lon", np.mod(np.stack([edges[:-1], edges[1:]], 1), 360))
    assert grid is not None
    moved = orient(grid, lat, lon) if np.unique(np.mod(centres["lon"], 360)).size == 8 else grid
    band = np.diff(np.sin(np.deg2rad(rows)))
    expected = 6.371e6**2 * np.outer(band, np.deg2rad(np.diff(edges)))
    np.testing.assert_allclose(
        np.sort(area_weights(moved["a"]).values, axis=None), np.sort(expected, axis=None), rtol=1e-6
    )
    box = Region((-30, 40), (-50, 100))
    inside = part_in_region(moved["a"], box)
    assert float(inside.sum()) <= expected.sum()
    np.testing.assert_allclose(float(inside.sum()), float(part_in_region(grid["a"], box).sum()), rtol=1e-9)


@pytest.mark.parametrize(("first", "last"), [(120, 280), (60, 340), (-30, 60)])
def test_a_region_across_a_seam_has_the_cells_it_has_without_one(first: int, last: int) -> None:
    lon = np.arange(first, last + 1, 5.0)
    plain = xr.DataArray(np.zeros((2, lon.size)), {"lat": [-10.0, 10.0], "lon": lon}, ("lat", "lon"))
    assert float(area_weights(plain).max()) == pytest.approx(float(area_weights(plain).min()))
    for convention in ("0..360", "-180..180"):
        for lat in ("ascending", "descending"):
            written = orient(plain, lat, convention)
            assert float(area_weights(written).sum()) == pytest.approx(float(area_weights(plain).sum()), rel=1e-12)
            backwards = written.isel(lon=slice(None, None, -1))
            np.testing.assert_allclose(area_weights(backwards), area_weights(plain).values[:, ::-1], rtol=1e-9)
