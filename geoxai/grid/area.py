"""Areas of grid cells, and means weighted by them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.boxes import Region
from geoxai.grid.coordinates import is_rectilinear, spatial_dims

EARTH_RADIUS = 6.371e6  # m, the mean radius
_ATTRS = {"units": "m2", "standard_name": "cell_area", "long_name": "cell area on a sphere of 6371 km"}


def area_weights(obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Area of every cell in m2, dims ``(lat, lon)`` or those of two-dimensional coordinates; not normalised.

    A coordinate ``cell_area`` is taken as it is. On a rectilinear grid cells reach halfway to their neighbours, as far
    beyond the outermost centres, and never beyond a pole; the area is exact for such cells. On a curvilinear grid it
    is the parallelogram spanned by the centred differences of the cell positions.
    """
    if "cell_area" in obj.coords:
        return obj["cell_area"]
    if not is_rectilinear(obj):
        return _curvilinear_area(obj)
    south, north = row_edges(obj["lat"].values)
    west, east = column_edges(obj["lon"].values)
    return _rectilinear(obj, south, north, east - west)


def part_in_region(obj: xr.DataArray | xr.Dataset, box: Region) -> xr.DataArray:
    """Area in m2 of the part of every cell that lies inside a box, dims ``(lat, lon)``, rectilinear grids only.

    A cell halfway over an edge counts with the part inside, so that the result does not hang on where the centres lie.
    """
    if not is_rectilinear(obj):
        raise GeoxaiError("parts of cells in a box are known for one-dimensional lat and lon only")
    south, north = row_edges(obj["lat"].values)
    west, east = column_edges(obj["lon"].values)
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


def region_mean(da: xr.DataArray, box: Region) -> xr.DataArray:
    """Area-weighted mean over a box; cells without a value are left out, cells on an edge count with their part inside.

    Dims: those of ``da`` without lat and lon; dtype float64, NaN where no cell has a value.
    """
    require_cells(da, box)
    weights = part_in_region(da, box)
    rows = np.flatnonzero((weights > 0).any("lon").values)
    columns = np.flatnonzero((weights > 0).any("lat").values)
    weights = weights.isel(lat=rows, lon=columns)
    return da.isel(lat=rows, lon=columns).astype("float64").weighted(weights).mean(("lat", "lon"))


def require_cells(da: xr.DataArray, box: Region) -> None:
    """Refuse, as an option ``from``, a grid of which no cell reaches into a box."""
    if float(part_in_region(da, box).sum()) > 0:
        return
    lat, lon = da["lat"].values, da["lon"].values
    raise OptionError(
        f"the grid has no cell in {box.lat[0]:g} to {box.lat[1]:g} north, {box.lon[0]:g} to {box.lon[1]:g} east: "
        f"{da.name} lies in {lat.min():g} to {lat.max():g} north, {lon.min():g} to {lon.max():g} east",
        fix="load fields that cover this box",
        option="from",
    )


def row_edges(lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Southern and northern edge of every row in degrees."""
    low, high = _edges(lat)
    return np.clip(low, -90, 90), np.clip(high, -90, 90)


def column_edges(lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Western and eastern edge of every column in degrees, each in the turn of its centre."""
    unwrapped = np.rad2deg(np.unwrap(np.deg2rad(lon.astype(float))))
    low, high = _edges(unwrapped)
    turn = lon - unwrapped
    if np.ptp(unwrapped) < 360 < high.max() - low.min():  # uneven columns all around: no cell may lap the first
        excess = high.max() - low.min() - 360
        low = np.where(low == low.min(), low + excess / 2, low)
        high = np.where(high == high.max(), high - excess / 2, high)
    return low + turn, high + turn


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
    along, across = np.gradient(position, axis=0), np.gradient(position, axis=1)
    area = EARTH_RADIUS**2 * np.linalg.norm(np.cross(along, across), axis=-1)
    return xr.DataArray(area, {"lat": obj["lat"], "lon": obj["lon"]}, (rows, columns), "cell_area", _ATTRS)
