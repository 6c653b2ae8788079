"""The coast is drawn at its place, wherever the map is cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.plotting.coastlines import coastlines, coastlines_within, on_land


@pytest.mark.parametrize("resolution", ["110m", "50m"])
def test_no_step_of_the_coast_crosses_the_map(resolution):
    for line in coastlines(resolution):
        assert np.abs(np.diff(line, axis=0)).max() < 15


@pytest.mark.parametrize("resolution", ["110m", "50m"])
def test_the_date_line_and_the_south_pole_are_not_coast(resolution):
    for line in coastlines(resolution):
        on_edge = np.abs(np.abs(line[:, 0]) - 180) < 1e-3
        assert not (on_edge[:-1] & on_edge[1:]).any()
        assert line[:, 1].min() > -89.9


@settings(deadline=None, max_examples=25)
@given(west=st.floats(-400, 400), width=st.floats(1, 360), south=st.floats(-90, 80), height=st.floats(1, 100))
def test_lines_stay_inside_the_extent(west, width, south, height):
    north = min(90.0, south + height)
    for line in coastlines_within((west, west + width, south, north)):
        assert line[:, 0].min() >= west - 1e-6
        assert line[:, 0].max() <= west + width + 1e-6
        assert line[:, 1].min() >= south - 1e-6
        assert line[:, 1].max() <= north + 1e-6


def test_cutting_keeps_the_whole_length():
    whole = sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in coastlines())
    for west in (-180.0, -33.3, 0.0, 123.4):
        cut = coastlines_within((west, west + 360, -90, 90))
        assert sum(np.hypot(*np.diff(line, axis=0).T).sum() for line in cut) == pytest.approx(whole, rel=1e-9)


def test_known_places_are_land_or_sea():
    places = {
        "Kansas": (38.0, 262.0, True),
        "Siberia": (65.0, 100.0, True),
        "Chukotka, past the date line": (67.0, -176.0, True),
        "South Pole": (-89.0, 40.0, True),
        "Australia": (-25.0, 134.0, True),
        "Nino 3.4": (0.0, -145.0, False),
        "Arctic": (88.0, 10.0, False),
        "Caspian Sea": (42.0, 51.0, False),
        "Drake Passage": (-59.0, 295.0, False),
    }
    for name, (lat, lon, land) in places.items():
        assert on_land(np.array([lat]), np.array([lon]))[0, 0] == land, name


def test_share_of_land_is_that_of_the_earth():
    lat, lon = np.arange(-89.0, 90, 2), np.arange(1.0, 360, 2)
    weights = np.cos(np.deg2rad(lat))
    share = (on_land(lat, lon).mean(axis=1) * weights).sum() / weights.sum()
    assert share == pytest.approx(0.29, abs=0.01)
