"""Cells of grids with two-dimensional coordinates that go round the globe or have cells without a place, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.area import cell_steps
from geoxai.plotting.window import Extent, checked_extent, shape_of

_ROUND = 5.0  # degrees: grids with no wider gap in longitude go round the globe
_NARROW = 180.0  # degrees: wider cells, with a pole inside, are a few of very many and cannot be drawn flat


@dataclass(frozen=True)
class Patches:
    """The cells of a grid as quadrilaterals within an extent.

    ``corners`` (cell, 4, 2) are degrees east and north; ``index`` (cell) says which value of a field (y, x), flattened,
    each one has. A cell across the sides of the map is there on both. ``x_centres`` and ``y_centres`` are (y, x).
    """

    extent: Extent
    corners: np.ndarray
    index: np.ndarray
    x_centres: np.ndarray
    y_centres: np.ndarray

    @property
    def shape(self) -> float:
        """Height of the map over its width."""
        return shape_of(self.extent)

    def values(self, field: np.ndarray) -> np.ndarray:
        """The value of each quadrilateral, of a field (y, x)."""
        return np.asarray(field, dtype="float64").ravel()[self.index]

    def lines(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Longitudes, latitudes and values of a field at the centres of cells; none where the map ends between two."""
        x, y = self.x_centres, self.y_centres
        apart = np.zeros(x.shape, dtype=bool)
        for axis in (0, 1):
            far = np.abs(np.diff(x, axis=axis)) > _NARROW
            apart |= np.pad(far, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
        placed = np.isfinite(x) & np.isfinite(y)
        values = np.where(placed & ~apart, np.asarray(field, dtype="float64"), np.nan)
        return np.where(placed, x, self.extent[0]), np.where(placed, y, self.extent[2]), values


def patches_of(
    lat: xr.DataArray, lon: xr.DataArray, center_lon: float | str = "auto", extent: Extent | None = None
) -> Patches:
    """The cells of a grid with lat and lon (y, x), NaN where a cell has no place; corners lie between four centres.

    Raises ``OptionError`` where fewer than two rows or columns have a place.
    """
    north, east = (np.asarray(one, dtype="float64") for one in (lat, lon))
    placed = np.isfinite(north) & np.isfinite(east)
    if min(placed.any(axis=1).sum(), placed.any(axis=0).sum()) < 2:
        raise OptionError("a grid with two-dimensional lat and lon needs two rows and two columns with a place")
    y, x = _corners(north, east)
    middle = _middle(east[placed], center_lon) if extent is None else sum(checked_extent(extent)[:2]) / 2
    centre = middle + (east - middle + 180) % 360 - 180
    beside = (x - centre[..., None] + 180) % 360 - 180
    flat = placed & np.isfinite(x).all(-1) & (np.ptp(beside, axis=-1) < _NARROW)
    corners, index = np.stack([centre[..., None] + beside, y], axis=-1)[flat], np.flatnonzero(flat)
    shown = _bounds(corners, middle) if extent is None else checked_extent(extent)
    turned = [(corners + np.array([turn, 0.0]), index) for turn in (-360.0, 0.0, 360.0)]
    inside = [_touches(c, shown) for c, _ in turned]
    if not any(there.any() for there in inside):
        raise OptionError(
            f"extent {shown[0]:g} to {shown[1]:g} E, {shown[2]:g} to {shown[3]:g} N has no cell of the grid",
            fix="give (west, east, south, north) in degrees",
            option="extent",
        )
    return Patches(
        shown,
        np.concatenate([c[there] for (c, _), there in zip(turned, inside)]),
        np.concatenate([i[there] for (_, i), there in zip(turned, inside)]),
        centre,
        north,
    )


def _touches(corners: np.ndarray, extent: Extent) -> np.ndarray:
    (west, south), (east, north) = corners.min(axis=1).T, corners.max(axis=1).T
    found: np.ndarray = (east > extent[0]) & (west < extent[1]) & (north > extent[2]) & (south < extent[3])
    return found


def _bounds(corners: np.ndarray, middle: float) -> Extent:
    """As far as the cells reach, at most once round the globe."""
    west, east = corners[..., 0].min(), corners[..., 0].max()
    if east - west > 360 - _ROUND:
        west, east = middle - 180, middle + 180
    return float(west), float(east), float(corners[..., 1].min()), float(corners[..., 1].max())


def _middle(east: np.ndarray, center_lon: float | str) -> float:
    """The longitude in the middle: as asked, else that opposite of the widest gap, 180 where there is none."""
    if center_lon != "auto":
        return float(center_lon)
    there = np.unique(np.round(east % 360, 3))
    gaps = np.diff(there, append=there[0] + 360)
    if gaps.max() < _ROUND:
        return 180.0
    first = there[(int(gaps.argmax()) + 1) % there.size]
    return float((first + (360 - gaps.max()) / 2 + 90) % 360 - 90)


def _corners(north: np.ndarray, east: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees north and east of the corners (y, x, 4) of cells, in order around each.

    The middle, on the sphere, of the four centres around; where one of these has no place, and at the outermost
    cells, those of the parallelogram whose area ``geoxai.grid.area.area_weights`` gives.
    """
    lat, lon = np.deg2rad(north), np.deg2rad(east)
    position = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    along, across = cell_steps(position, 0) / 2, cell_steps(position, 1) / 2
    padded = np.pad(position, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    middle = (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]) / 4
    places = []
    for row, column in ((0, 0), (0, 1), (1, 1), (1, 0)):
        between = middle[row : row + north.shape[0], column : column + north.shape[1]]
        own = position + (2 * row - 1) * along + (2 * column - 1) * across
        places.append(np.where(np.isfinite(between), between, own))
    x, y, z = np.moveaxis(np.stack(places, axis=-2), -1, 0)
    return np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))
