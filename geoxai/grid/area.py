"""Areas of grid cells, and means weighted by them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.boxes import Region
from geoxai.grid.coordinates import is_rectilinear, spatial_dims
from geoxai.grid.regions import region_mask

EARTH_RADIUS = 6.371e6  # m, the mean radius
# Edges count as equal if they differ by less than this share of a cell: files store them in single precision.
_SPACING_SHARE = 1e-3
# Columns more than this many times the usual spacing apart are not neighbours.
_GAP = 3
EDGES = {"lat": ("lat_south", "lat_north"), "lon": ("lon_west", "lon_east")}
"""Coordinates of the edges of rows and columns, if a file gives bounds: the array of a variable can carry one value
per row, but not CF's pair of bounds."""

CELL_COORDS = ("cell_area", *EDGES["lat"], *EDGES["lon"])
_EDGE_ATTRS = {
    "lat_south": {"units": "degrees_north", "long_name": "southern edge of the row"},
    "lat_north": {"units": "degrees_north", "long_name": "northern edge of the row"},
    "lon_west": {"units": "degrees_east", "long_name": "western edge of the column"},
    "lon_east": {"units": "degrees_east", "long_name": "eastern edge of the column"},
}
_ATTRS = {"units": "m2", "standard_name": "cell_area", "long_name": "cell area on a sphere of 6371 km"}


def area_weights(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Area of every cell in m2, dims ``(lat, lon)`` or those of two-dimensional coordinates; not normalised.

    A coordinate ``cell_area`` is used as it is. On a rectilinear grid cells have the edges of ``row_edges`` and
    ``column_edges``, and the area is exact for them. On a curvilinear grid it is the parallelogram spanned by the
    differences between the positions of the neighbouring cells, NaN where a cell has no position or no neighbour.
    """
    if "cell_area" in obj.coords:
        return obj["cell_area"]
    if not is_rectilinear(obj):
        return _curvilinear_area(obj)
    south, north = row_edges(obj)
    west, east = column_edges(obj)
    return _rectilinear(obj, south, north, east - west)


def part_in_region(obj: xr.DataArray | xr.Dataset, box: Region) -> xr.DataArray:
    """Area in m2 of the part of every cell that lies inside a box, dims ``(lat, lon)``, rectilinear grids only.

    A cell across an edge counts with the part inside, so that the result does not depend on where the centres lie.
    """
    if not is_rectilinear(obj):
        raise GeoxaiError("parts of cells in a box are only defined for one-dimensional lat and lon")
    south, north = row_edges(obj)
    west, east = column_edges(obj)
    width = box.lon[1] - box.lon[0]
    if width >= 360:
        inside = east - west
    else:
        start = np.mod(west - box.lon[0], 360)
        stop = start + (east - west)
        # a cell starts in [0, 360) east of the box's west edge and may reach into the box again after a whole turn
        inside = sum(
            np.clip(np.minimum(stop, turn + width % 360) - np.maximum(start, turn), 0, None) for turn in (0, 360)
        )
    return _rectilinear(obj, np.clip(south, *box.lat), np.clip(north, *box.lat), inside)


def region_parts(obj: xr.DataArray | xr.Dataset, box: Region) -> xr.DataArray:
    """The share of every cell, from 0 to 1, that lies inside a box; dims those of ``lat`` and ``lon``.

    On a curvilinear grid the share is 1 if the centre of the cell is inside, else 0.
    """
    if not is_rectilinear(obj):
        return region_mask(obj, box).astype(float)
    south, north = row_edges(obj)
    west, east = column_edges(obj)
    whole = _rectilinear(obj, south, north, east - west)
    parts = (part_in_region(obj, box) / whole.where(whole > 0)).fillna(0).clip(0, 1)
    return parts.rename("region").assign_attrs(units="1", long_name="share of the cell inside the region")


def region_mean(da: xr.DataArray, box: Region) -> xr.DataArray:
    """Area-weighted mean over a box; cells without a value are left out, cells on an edge count with the part inside.

    Dims are those of ``da`` without lat and lon; dtype float64, NaN where no cell has a value.
    """
    require_cells(da, box)
    weights = part_in_region(da, box)
    rows = np.flatnonzero((weights > 0).any("lon").values)
    columns = np.flatnonzero((weights > 0).any("lat").values)
    weights = weights.isel(lat=rows, lon=columns)
    return da.isel(lat=rows, lon=columns).astype("float64").weighted(weights).mean(("lat", "lon"))


def require_cells(da: xr.DataArray, box: Region) -> None:
    """Refuse, blaming the option ``from``, a grid without a cell that overlaps a box."""
    if float(part_in_region(da, box).sum()) > 0:
        return
    lat, lon = da["lat"].values, da["lon"].values
    raise OptionError(
        f"the grid has no cell in {box.lat[0]:g} to {box.lat[1]:g} north, {box.lon[0]:g} to {box.lon[1]:g} east: "
        f"{da.name} lies in {lat.min():g} to {lat.max():g} north, {lon.min():g} to {lon.max():g} east",
        fix="load fields that cover this box",
        option="from",
    )


def row_edges(obj: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Southern and northern edge of every row in degrees.

    From the coordinates ``lat_south`` and ``lat_north``; without them rows reach halfway to their neighbours, as far
    beyond the outermost centres, and never beyond a pole.
    """
    low, high = _carried(obj, "lat") or _edges(obj["lat"].values)
    return np.clip(low, -90, 90), np.clip(high, -90, 90)


def column_edges(obj: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Western and eastern edge of every column in degrees, in the same turn of longitude as its centre.

    Taken from the coordinates ``lon_west`` and ``lon_east``; without them columns reach halfway to their neighbours.
    """
    lon = obj["lon"].values
    carried = _carried(obj, "lon")
    if carried is not None:
        west, east = carried
        turn = 360 * np.round((lon - (west + east) / 2) / 360)
        return west + turn, east + turn
    columns, unwrapped = _eastwards(lon.astype(float))
    low, high = _edges(unwrapped)
    excess = high[-1] - low[0] - 360
    if np.ptp(unwrapped) < 360 and excess > 0:  # uneven columns all around: no cell may overlap the first
        low[0], high[-1] = low[0] + excess / 2, high[-1] - excess / 2
    west, east = np.empty(lon.size), np.empty(lon.size)
    turn = lon[columns] - unwrapped
    west[columns], east[columns] = low + turn, high + turn
    return west, east


def _eastwards(lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns from west to east, and their longitudes without a jump.

    They begin at the first column, or east of a gap in the grid: a region across the date line, written
    -180 to -80 and 120 to 180, is one piece from 120 to 280.
    """
    steps = np.mod(np.diff(lon), 360)
    columns = np.arange(lon.size) if steps.sum() <= (360 - steps).sum() else np.arange(lon.size)[::-1]
    if lon.size > 2:
        gaps = np.mod(np.diff(lon[columns]), 360)
        closing = (lon[columns[0]] - lon[columns[-1]]) % 360
        if gaps.max() > max(closing, _GAP * np.median(gaps)):
            columns = np.roll(columns, -int(gaps.argmax()) - 1)
    return columns, lon[columns[0]] + np.concatenate([[0], np.cumsum(np.mod(np.diff(lon[columns]), 360))])


def attach_edges(ds: xr.Dataset, axis: str, bounds: np.ndarray) -> xr.Dataset | None:
    """The dataset with the bounds ``(row or column, 2)`` of ``lat`` or ``lon`` as coordinates of their edges.

    Unchanged if the edges are those it has without bounds; None if the bounds do not enclose the centres.
    """
    centres = ds[axis].values.astype(float)
    if bounds.shape != (centres.size, 2) or not np.isfinite(bounds).all():
        return None
    low, high = bounds.min(axis=1), bounds.max(axis=1)
    if axis == "lon":  # a file may write the edges in other turns of longitude than the centre, and either first
        low, high = _around(centres, bounds)
    tolerance = _SPACING_SHARE * (high - low)
    if not ((low - tolerance <= centres) & (centres <= high + tolerance) & (high > low)).all():
        return None
    have = row_edges(ds) if axis == "lat" else column_edges(ds)
    if all((np.abs(a - b) <= tolerance).all() for a, b in zip(have, (low, high))):
        return ds
    names = EDGES[axis]
    return ds.assign_coords({name: (axis, edge, _EDGE_ATTRS[name]) for name, edge in zip(names, (low, high))})


def _around(centres: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Western and eastern edges in the turn of longitude of the centres: of both ways round the narrower cell."""
    ways = []
    for west, east in (bounds.T, bounds.T[::-1]):
        to_west, to_east = (np.mod(step + 1e-6, 360) - 1e-6 for step in (centres - west, east - centres))
        ways.append((to_west + to_east, centres - to_west, centres + to_east))
    (first, *edges), (second, *others) = ways
    low, high = (np.where(first <= second, a, b) for a, b in zip(edges, others))
    return low, high


def polygon_area(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Area in m2 of spherical polygons whose corners, in degrees and in order, are the last axis.

    Each is split into triangles from its first corner; the excess of a triangle follows Eriksson 1990, Math. Mag. 63.
    """
    north, east = np.deg2rad(lat), np.deg2rad(lon)
    corner = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    first, total = corner[..., 0], np.zeros(lat.shape[:-1])
    for i in range(1, lat.shape[-1] - 1):
        second, third = corner[..., i], corner[..., i + 1]
        triple = (first * np.cross(second, third, axis=0)).sum(0)
        total += 2 * np.arctan2(triple, 1 + (first * second).sum(0) + (second * third).sum(0) + (third * first).sum(0))
    return EARTH_RADIUS**2 * np.abs(total)


def _carried(obj: xr.DataArray | xr.Dataset, axis: str) -> tuple[np.ndarray, np.ndarray] | None:
    low, high = EDGES[axis]
    if low not in obj.coords or high not in obj.coords:
        return None
    return obj[low].values.astype(float), obj[high].values.astype(float)


def _edges(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centres = centres.astype(float)
    if centres.size == 1:
        return centres - 0.5, centres + 0.5
    middle = (centres[1:] + centres[:-1]) / 2
    edges = np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
    return np.minimum(edges[1:], edges[:-1]), np.maximum(edges[1:], edges[:-1])


def _rectilinear(
    obj: xr.DataArray | xr.Dataset, south: np.ndarray, north: np.ndarray, width: np.ndarray
) -> xr.DataArray:
    band = np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))
    area = EARTH_RADIUS**2 * np.outer(band, np.deg2rad(width))
    return xr.DataArray(area, {"lat": obj["lat"], "lon": obj["lon"]}, ("lat", "lon"), "cell_area", _ATTRS)


def _curvilinear_area(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    rows, columns = spatial_dims(obj)
    lat, lon = np.deg2rad(obj["lat"].values.astype(float)), np.deg2rad(obj["lon"].values.astype(float))
    if min(lat.shape) < 2:
        raise GeoxaiError("areas of a curvilinear grid need at least two rows and two columns")
    position = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    along, across = cell_steps(position, 0), cell_steps(position, 1)
    area = EARTH_RADIUS**2 * np.linalg.norm(np.cross(along, across), axis=-1)
    return xr.DataArray(area, {"lat": obj["lat"], "lon": obj["lon"]}, (rows, columns), "cell_area", _ATTRS)


def cell_steps(position: np.ndarray, axis: int) -> np.ndarray:
    """Step from cell to cell along an axis of positions ``(y, x, 3)``: half that between both neighbours, or that to
    the only neighbour with a position.
    """
    outside = np.full_like(position.take([0], axis), np.nan)
    step = np.diff(position, axis=axis)
    to_next, from_last = np.concatenate([step, outside], axis), np.concatenate([outside, step], axis)
    both = np.stack([to_next, from_last])
    known = np.isfinite(both).sum(axis=0)
    return np.where(known > 0, np.where(np.isfinite(both), both, 0).sum(axis=0) / np.maximum(known, 1), np.nan)
