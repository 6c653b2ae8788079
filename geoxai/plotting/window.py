"""Which cells of a grid a plate carree map shows, and where, for any longitude convention and latitude direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxai.errors import OptionError

Extent = tuple[float, float, float, float]
_CYCLIC_GAP = (
    1.5  # times the usual spacing: a wider gap between neighbours means that the grid does not go round the globe
)


_REGION = 300.0  # degrees: wider grids with two-dimensional coordinates go round the globe, or nearly


@dataclass(frozen=True)
class Window:
    """The part of the globe that a map shows, and the cells of a rectilinear grid inside it.

    ``extent`` is (west, east, south, north), with longitudes beyond 180 if the map crosses it. ``x_edges``
    (column + 1) and ``y_edges`` (row + 1) ascend and end at the extent; ``columns`` and ``rows`` say which lon and lat
    index lies between them, -1 where the grid has no cell. ``line_columns`` and ``line_lons`` are the columns and
    their centres for lines drawn between centres: one more on each side, if there is one, to reach the frame.
    """

    extent: Extent
    x_edges: np.ndarray
    columns: np.ndarray
    y_edges: np.ndarray
    rows: np.ndarray
    line_columns: np.ndarray
    line_lons: np.ndarray
    line_lats: np.ndarray

    def cells(self, field: np.ndarray) -> np.ndarray:
        """The values (lat, lon) of a field in the order of the edges, NaN where the grid has no cell."""
        return _take(field, self.rows, self.columns)

    def lines(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Longitudes, latitudes and values of a field (lat, lon) at the centres of cells, to draw lines through."""
        return self.line_lons, self.line_lats, _take(field, self.rows, self.line_columns)

    @property
    def shape(self) -> float:
        """Height of the map over its width."""
        return shape_of(self.extent)


def window_of(
    lat: xr.DataArray, lon: xr.DataArray, center_lon: float | str = "auto", extent: Extent | None = None
) -> Window:
    """The window that shows a grid: the whole globe centred at ``center_lon``, or the extent of the grid.

    Parameters
    ----------
    lat, lon
        One-dimensional coordinates in degrees. A cyclic point (both 0 and 360) is left out.
    center_lon
        Longitude in the middle of a map of a grid that goes round the globe; ``auto`` is 180, the middle of the
        Pacific. A regional grid is shown whole, across 0 or 180 degrees alike.
    extent
        (west, east, south, north) to show instead.
    """
    index, left, right = cells_east(lon)
    cyclic = right[-1] - left[0] > 360 - 1e-6
    row_index, bottom, top = cells_north(lat)
    if lat.size == 1 < lon.size:  # a row of cells is as high as these are wide, a column as wide as high
        half = float(np.median(right - left)) / 2
        bottom, top = np.clip(bottom + 0.5 - half, -90, 90), np.clip(top - 0.5 + half, -90, 90)
    elif lon.size == 1 < lat.size:
        half = float(np.median(top - bottom)) / 2
        left, right = left + 0.5 - half, right - 0.5 + half
    if extent is not None:
        west, east, south, north = checked_extent(extent)
    else:
        south, north = bottom[0], top[-1]
        west, east = left[0], right[-1]
        if cyclic:
            center = 180.0 if center_lon == "auto" else float(center_lon)
            west, east = center - 180, center + 180
    columns, edges = _columns(index, left, right, west, east)
    shown = (top > south) & (bottom < north)
    if not shown.any() or (columns < 0).all():
        raise OptionError(
            f"extent {west:g} to {east:g} E, {south:g} to {north:g} N has no cell of the grid",
            fix="give (west, east, south, north) in degrees",
            option="extent",
        )
    cell = float(np.median(right - left))
    line_columns, line_edges = _columns(index, left, right, west - cell, east + cell)
    y_edges = np.clip(np.append(bottom[shown], top[shown][-1]), south, north)
    return Window(
        extent=(west, east, south, north),
        x_edges=np.clip(edges, west, east),
        columns=columns,
        y_edges=y_edges,
        rows=row_index[shown],
        line_columns=line_columns,
        line_lons=(line_edges[:-1] + line_edges[1:]) / 2,
        line_lats=np.asarray(lat, dtype="float64")[row_index[shown]],
    )


@dataclass(frozen=True)
class Curvilinear:
    """A grid with two-dimensional lat and lon: cell corners (y + 1, x + 1), their centres and the extent shown."""

    extent: Extent
    x_edges: np.ndarray
    y_edges: np.ndarray
    x_centres: np.ndarray
    y_centres: np.ndarray

    def cells(self, field: np.ndarray) -> np.ndarray:
        """The values (y, x) of a field."""
        return np.asarray(field, dtype="float64")

    def lines(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Longitudes, latitudes and values of a field at the centres of cells, all (y, x)."""
        return self.x_centres, self.y_centres, self.cells(field)

    @property
    def shape(self) -> float:
        """Height of the map over its width."""
        return shape_of(self.extent)


def shape_of(extent: Extent) -> float:
    """Height over width such that a degree north is as long as one east in the middle of a region; at most 1 : 7."""
    west, east, south, north = extent
    middle = np.clip(abs(south + north) / 2, 0, 75)
    stretch = 1 / np.cos(np.deg2rad(middle)) if north - south < 90 else 1.0
    return float(np.clip((north - south) * stretch / (east - west), 1 / 7, 7))


def curvilinear_window(lat: xr.DataArray, lon: xr.DataArray, extent: Extent | None = None) -> Curvilinear | None:
    """The window that shows a regional grid with lat and lon (y, x); cell corners lie halfway between centres.

    None where the grid goes round the globe or a pole, has cells without a place, or a single row or column.
    """
    north, east = np.asarray(lat, dtype="float64"), np.asarray(lon, dtype="float64")
    if min(north.shape) < 2 or not (np.isfinite(north).all() and np.isfinite(east).all()):
        return None
    east = np.unwrap(np.unwrap(east, period=360, axis=0), period=360, axis=1)
    if np.ptp(east) > _REGION or max(np.abs(np.diff(east, axis=axis)).max() for axis in (0, 1)) > 90:
        return None
    x, y = _corners(east), np.clip(_corners(north), -90, 90)
    shown = (x.min(), x.max(), y.min(), y.max()) if extent is None else checked_extent(extent)
    turn = 360.0 * np.round((shown[0] + shown[1] - x.min() - x.max()) / 720)
    return Curvilinear(tuple(map(float, shown)), x + turn, y, east + turn, north)  # type: ignore[arg-type]


def _corners(centres: np.ndarray) -> np.ndarray:
    padded = np.pad(centres, 1, mode="reflect", reflect_type="odd")
    return (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]) / 4


def _take(field: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    taken = np.asarray(field, dtype="float64")[np.ix_(rows, columns)]
    taken[:, columns < 0] = np.nan
    return taken


def cells_east(lon: xr.DataArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, west and east edge of each column, going east from the widest gap of the circle."""
    values = np.asarray(lon, dtype="float64")
    wrapped = np.round(values % 360, 6) % 360  # 360 and -1e-9 are 0
    _, index = np.unique(wrapped, return_index=True)
    wrapped = wrapped[index]
    if len(index) == 1:
        half = 0.5
        return index, wrapped - half, wrapped + half
    gaps = np.diff(wrapped, append=wrapped[0] + 360)
    usual = float(np.median(gaps))
    cyclic = gaps.max() < _CYCLIC_GAP * usual
    first = 0 if cyclic else (int(np.argmax(gaps)) + 1) % len(gaps)
    order = np.roll(np.arange(len(index)), -first)
    centre = np.where(np.arange(len(index)) < len(index) - first, wrapped[order], wrapped[order] + 360)
    if cyclic:
        after = np.append(centre[1:], centre[0] + 360)
        right = (centre + after) / 2
        return index[order], np.append(right[-1] - 360, right[:-1]), right
    between = (centre[:-1] + centre[1:]) / 2
    left = np.append(2 * centre[0] - between[0], between)
    right = np.append(between, 2 * centre[-1] - between[-1])
    turn = 360.0 if left[0] >= 180 else 0.0  # a box from 340 E to 20 E is shown as -20 to 20
    return index[order], left - turn, right - turn


def cells_north(lat: xr.DataArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, south and north edge of each row, going north; no edge lies beyond a pole."""
    values = np.asarray(lat, dtype="float64")
    index = np.argsort(values, kind="stable")
    centre = values[index]
    if len(centre) == 1:
        between, half = centre[:0], 0.5
    else:
        between, half = (centre[:-1] + centre[1:]) / 2, 0.0
    first = 2 * centre[0] - between[0] if len(between) else centre[0] - half
    last = 2 * centre[-1] - between[-1] if len(between) else centre[-1] + half
    return index, np.clip(np.append(first, between), -90, 90), np.clip(np.append(between, last), -90, 90)


def _columns(
    index: np.ndarray, left: np.ndarray, right: np.ndarray, west: float, east: float
) -> tuple[np.ndarray, np.ndarray]:
    """Columns that reach into [west, east] and their edges; -1 where there is none between two."""
    turns = np.arange(np.floor((west - right.max()) / 360), np.ceil((east - left.min()) / 360) + 1) * 360
    lefts, rights = (left + turns[:, None]).ravel(), (right + turns[:, None]).ravel()
    indices = np.tile(index, len(turns))
    shown = (rights > west + 1e-9) & (lefts < east - 1e-9)
    columns: list[int] = []
    edges: list[float] = []
    for column, start, stop in zip(indices[shown], lefts[shown], rights[shown]):
        if edges and start > edges[-1] + 1e-6:
            columns.append(-1)
            edges.append(float(start))
        elif not edges:
            edges.append(float(start))
        columns.append(int(column))
        edges.append(float(stop))
    return np.array(columns, dtype=int), np.array(edges)


def checked_extent(extent: Extent) -> Extent:
    """An extent with its east after its west; refused where it is none."""
    west, east, south, north = map(float, extent)
    if east <= west:
        east += 360
    if not (0 < east - west <= 360 and -90 <= south < north <= 90):
        raise OptionError(
            f"extent {extent} is not (west, east, south, north) in degrees",
            fix="for the tropical Pacific write [120, 290, -30, 30]",
            option="extent",
        )
    return west, east, south, north
