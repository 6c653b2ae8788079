"""Boxes cut out of a grid, also across 0 and 180 degrees, and masks of them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.boxes import Region, region
from geoxai.grid.coordinates import Gridded, longitude_convention, require_rectilinear, with_longitudes

# A cell centre this close to an edge (degrees) lies on it: the error of single-precision coordinates is smaller.
EDGE = 1e-4


def select_box(obj: Gridded, lat: tuple[float, float] | None = None, lon: tuple[float, float] | None = None) -> Gridded:
    """The cells whose centres lie in a closed box.

    Parameters
    ----------
    obj
        Rectilinear grid.
    lat
        South and north edges in degrees, or None for all rows. The direction of the file is kept.
    lon
        West and east edges in degrees, either convention, going eastwards: ``(170, -120)`` crosses 180, ``(-20, 30)``
        crosses 0; 360 or more apart, or None, means all columns. If the box crosses the seam of the file, its
        columns come in one piece from west to east, with longitudes that continue without a jump (-30 to 30 from a
        0..360 file, 120 to 280 from a -180..180 file); otherwise order and values are those of the file.

    No value changes. Raises ``OptionError`` for ``lat`` or ``lon`` if the box contains no cell.
    """
    require_rectilinear(obj, "a box")
    if lat is not None:
        obj = _select_rows(obj, *lat)
    if lon is not None and lon[1] - lon[0] < 360:
        obj = _select_columns(obj, *lon)
    return obj


def _select_rows(obj: Gridded, south: float, north: float) -> Gridded:
    if south > north:
        raise OptionError(f"latitudes {south:g} to {north:g} run from north to south; give south first", option="lat")
    values = obj["lat"].values
    inside = (values >= south - EDGE) & (values <= north + EDGE)
    if not inside.any():
        raise OptionError(
            f"no row between {south:g} and {north:g} degrees north: the grid has {values.min():g} to {values.max():g}",
            option="lat",
        )
    return obj if inside.all() else obj.isel(lat=np.flatnonzero(inside))


def _select_columns(obj: Gridded, west: float, east: float) -> Gridded:
    values = obj["lon"].values
    eastward = _eastward(values, west)
    columns = np.flatnonzero(eastward <= (east - west) % 360 + EDGE)
    if not columns.size:
        raise OptionError(
            f"no column from {west:g} eastwards to {east:g} degrees: the grid has {values.min():g} to {values.max():g}",
            option="lon",
        )
    steps = np.diff(eastward[columns])
    if (steps > 0).all() or (steps < 0).all():
        return obj if columns.size == values.size else obj.isel(lon=columns)
    columns = columns[np.argsort(eastward[columns], kind="stable")]
    first = float(values[columns[0]])
    if longitude_convention(values) == "0..360":
        first -= 360 * (first >= 180)
    longitudes = np.round(first + eastward[columns] - eastward[columns[0]], 10)
    return with_longitudes(obj.isel(lon=columns), longitudes)


def _eastward(lon: np.ndarray, west: float) -> np.ndarray:
    """Degrees east of ``west``, in [0, 360); marginally west of it counts as 0."""
    distance = np.mod(lon.astype(float) - west, 360)
    return np.where(distance > 360 - EDGE, 0.0, distance)


def region_mask(obj: xr.DataArray | xr.Dataset, box: Region | str) -> xr.DataArray:
    """True where a cell's centre lies in the box; dims those of ``lat`` and ``lon``, one- or two-dimensional."""
    box = region(box) if isinstance(box, str) else box
    lat, lon = obj["lat"], obj["lon"]
    rows = (lat >= box.lat[0] - EDGE) & (lat <= box.lat[1] + EDGE)
    if box.lon[1] - box.lon[0] >= 360:
        columns = xr.ones_like(lon, dtype=bool)
    else:
        east = lon.copy(data=_eastward(lon.values, box.lon[0]))
        columns = east <= (box.lon[1] - box.lon[0]) % 360 + EDGE
    return (rows & columns).rename("region")


def polygon_mask(
    obj: xr.DataArray | xr.Dataset, lat: list[float] | tuple[float, ...], lon: list[float] | tuple[float, ...]
) -> xr.DataArray:
    """True where a cell's centre lies inside a polygon; dims those of ``lat`` and ``lon``, one- or two-dimensional.

    Parameters
    ----------
    lat, lon
        Corners in order, in degrees; the last is joined to the first. Sides are straight in latitude and longitude,
        take the shorter way round, and may cross any seam. No polygon contains a pole.

    Raises ``OptionError`` if there are fewer than three corners, or not as many latitudes as longitudes.
    """
    if len(lat) != len(lon) or len(lat) < 3:
        raise OptionError(
            f"a polygon needs at least three corners, found {len(lat)} latitudes and {len(lon)} longitudes",
            option="polygon",
        )
    rows, columns = xr.broadcast(obj["lat"], obj["lon"])
    y, corners_y = rows.values.astype(float), np.asarray(lat, float)
    steps = np.mod(np.diff(np.asarray(lon, float)) + 180, 360) - 180
    corners_x = np.concatenate([[0.0], np.cumsum(steps)])  # degrees east of the first corner
    west = corners_x.min()
    x = np.mod(columns.values.astype(float) - float(lon[0]) - west, 360) + west
    inside = np.zeros(y.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(zip(corners_x, corners_y), zip(np.roll(corners_x, -1), np.roll(corners_y, -1))):
        if y0 == y1:
            continue
        between = (y0 > y) != (y1 > y)
        inside ^= between & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return rows.copy(data=inside).rename("region")
