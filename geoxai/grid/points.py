"""The cell in which a point lies."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError
from geoxai.grid.area import column_edges, row_edges
from geoxai.grid.coordinates import is_rectilinear, spatial_dims

# A point this close to an edge (degrees) lies on it.
_EDGE = 1e-4


def cell_at(cells: xr.DataArray | xr.Dataset, lat: float, lon: float) -> tuple[int, int]:
    """Row and column of the cell in which a point lies; if it lies in several, the one with the nearest centre.

    Parameters
    ----------
    cells
        A grid, rectilinear or with two-dimensional ``lat`` and ``lon``.
    lat, lon
        Degrees north and east, in either convention.

    The outermost rows reach to a pole if no further row would fit in between. On a curvilinear grid a cell reaches half
    a diagonal from its centre. Raises ``GeoxaiError`` if the point lies in no cell.
    """
    if not (abs(lat) <= 90 and -360 <= lon <= 540):
        raise GeoxaiError(
            f"latitude {lat:g}, longitude {lon:g} is not a place", fix="give degrees north, -90 to 90, and degrees east"
        )
    return _rectilinear(cells, lat, lon) if is_rectilinear(cells) else _curvilinear(cells, lat, lon)


def _rectilinear(cells: xr.DataArray | xr.Dataset, lat: float, lon: float) -> tuple[int, int]:
    south, north = row_edges(cells)
    height = north - south
    top, bottom = int(north.argmax()), int(south.argmin())
    north[top] = 90.0 if 90 - north[top] < height[top] else north[top]
    south[bottom] = -90.0 if 90 + south[bottom] < height[bottom] else south[bottom]
    west, east = column_edges(cells)
    rows = (south - _EDGE <= lat) & (lat <= north + _EDGE)
    columns = np.mod(lon - west + _EDGE, 360) <= east - west + 2 * _EDGE
    if not (rows.any() and columns.any()):
        axis, low, high = ("longitude", west, east) if rows.any() else ("latitude", south, north)
        raise _outside(lat, lon, f"the cells reach from {axis} {low.min():g} to {high.max():g}")
    from_row = np.where(rows, np.abs(cells["lat"].values - lat), np.inf)
    from_column = np.abs(np.mod(cells["lon"].values - lon + 180, 360) - 180)
    return int(from_row.argmin()), int(np.where(columns, from_column, np.inf).argmin())


def _curvilinear(cells: xr.DataArray | xr.Dataset, lat: float, lon: float) -> tuple[int, int]:
    dims = spatial_dims(cells)
    rows, columns = (np.radians(cells[name].transpose(*dims).values.astype(float)) for name in ("lat", "lon"))
    distance = _distance(rows, columns, np.radians(lat), np.radians(lon))
    row, column = (int(i) for i in np.unravel_index(int(np.nanargmin(distance)), distance.shape))
    around = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
    apart = _distance(rows[around], columns[around], rows[row, column], columns[row, column])
    if distance[row, column] > np.nanmax(apart) / 2 + np.radians(_EDGE):  # the farthest neighbour is on a diagonal
        degrees = np.degrees([distance[row, column], np.nanmax(apart)])
        raise _outside(
            lat, lon, f"the nearest centre is {degrees[0]:.2g} degrees away, its neighbours {degrees[1]:.2g}"
        )
    return row, column


def _distance(lat: np.ndarray, lon: np.ndarray, at_lat: float, at_lon: float) -> np.ndarray:
    """Great circle distances, all in radians (haversine formula)."""
    half = np.sin((lat - at_lat) / 2) ** 2 + np.cos(lat) * np.cos(at_lat) * np.sin((lon - at_lon) / 2) ** 2
    return 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def _outside(lat: float, lon: float, why: str) -> GeoxaiError:
    return GeoxaiError(
        f"latitude {lat:g}, longitude {lon:g} lies outside the grid: {why}", fix="name a place inside the grid"
    )
