"""Latitude and longitude: their direction and convention, and pure reorderings between these.

Grids here have canonical names: ``lat`` and ``lon``, one-dimensional on a rectilinear grid, or two-dimensional over
``(y, x)``. Nothing in this module changes a value of the data, only the order of rows and columns and the whole turns
of 360 degrees with which longitudes are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError

if TYPE_CHECKING:
    from collections.abc import Hashable

Gridded = TypeVar("Gridded", xr.DataArray, xr.Dataset)

LATITUDES = ("ascending", "descending")
LONGITUDES = ("0..360", "-180..180")

# Two coordinates count as equal if they differ by less than this share of the grid spacing: files store them in single
# and in double precision.
_SPACING_SHARE = 1e-3


def is_rectilinear(obj: xr.DataArray | xr.Dataset) -> bool:
    """Whether ``lat`` and ``lon`` are one-dimensional."""
    return "lat" in obj.coords and "lon" in obj.coords and obj["lat"].ndim == 1 and obj["lon"].ndim == 1


def spatial_dims(obj: xr.DataArray | xr.Dataset) -> tuple[Hashable, Hashable]:
    """The row and column dims: ``("lat", "lon")``, or those of the two-dimensional coordinates."""
    if is_rectilinear(obj):
        return "lat", "lon"
    if "lat" in obj.coords and obj["lat"].ndim == 2:
        rows, columns = obj["lat"].dims
        return rows, columns
    raise GeoxaiError(f"no lat and lon on a grid of dims {tuple(obj.dims)}")


def require_rectilinear(obj: xr.DataArray | xr.Dataset, what: str) -> None:
    """Refuse, on behalf of ``what``, a grid whose ``lat`` and ``lon`` are not one-dimensional."""
    if not is_rectilinear(obj):
        raise GeoxaiError(
            f"{what} needs one-dimensional lat and lon; this grid has dims {tuple(obj.dims)}",
            fix="put the data on a regular latitude-longitude grid first",
        )


def latitude_direction(lat: np.ndarray) -> str:
    """``ascending`` or ``descending``; one row counts as ascending. Raises an error if the rows are not in order."""
    steps = np.diff(lat)
    if (steps > 0).all():
        return "ascending"
    if (steps < 0).all():
        return "descending"
    raise GeoxaiError("latitudes neither increase nor decrease throughout", fix="sort the file along latitude")


def longitude_convention(lon: np.ndarray) -> str:
    """``0..360``, ``-180..180``, or the range itself (``-280..80``) if it is neither.

    Longitudes that fit both (all between 0 and 180) count as ``0..360``.
    """
    low, high = float(np.min(lon)), float(np.max(lon))
    if low >= 0 and high <= 360:
        return "0..360"
    if low >= -180 and high <= 180:
        return "-180..180"
    return f"{low:g}..{high:g}"


def orientation(obj: xr.DataArray | xr.Dataset) -> tuple[str, str]:
    """How a rectilinear grid is written: latitude direction and longitude convention."""
    require_rectilinear(obj, "an orientation")
    return latitude_direction(obj["lat"].values), longitude_convention(obj["lon"].values)


def wrap_longitudes(lon: np.ndarray, west: float) -> np.ndarray:
    """Longitudes in ``[west, west + 360)``, by whole turns.

    Rounded to 1e-10 degrees where a turn was added, so that going there and back gives the numbers in the file.
    """
    turns = np.floor((lon - west) / 360).astype(int)
    if not turns.any():
        return lon
    moved = lon - 360 * turns
    return moved if np.issubdtype(moved.dtype, np.integer) else np.where(turns == 0, lon, np.round(moved, 10))


def orientation_order(
    obj: xr.DataArray | xr.Dataset, lat: str | None = None, lon: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The permutation of rows and of columns that gives an orientation, and the longitudes after it.

    ``obj.isel(lat=rows, lon=columns)`` is the reordered grid; ``np.argsort(rows)`` undoes it.
    """
    if lat not in (*LATITUDES, None):
        raise ValueError(f"lat must be one of {LATITUDES} or None, not {lat!r}")
    if lon not in (*LONGITUDES, None):
        raise ValueError(f"lon must be one of {LONGITUDES} or None, not {lon!r}")
    have_lat, have_lon = orientation(obj)
    rows = np.arange(obj.sizes["lat"])
    if lat is not None and lat != have_lat:
        rows = rows[::-1].copy()
    longitudes = obj["lon"].values
    columns = np.arange(longitudes.size)
    if lon is not None and lon != have_lon:
        wrapped = wrap_longitudes(longitudes, 0 if lon == "0..360" else -180)
        if np.unique(wrapped).size < wrapped.size:
            raise GeoxaiError("the grid has the same meridian twice", fix="drop the repeated column")
        columns = np.argsort(wrapped, kind="stable")
        longitudes = wrapped[columns]
    return rows, columns, longitudes


def orient(obj: Gridded, lat: str | None = None, lon: str | None = None) -> Gridded:
    """The same field written in another orientation.

    Parameters
    ----------
    obj
        Rectilinear grid.
    lat
        ``ascending`` or ``descending``; None keeps the direction.
    lon
        ``0..360`` or ``-180..180``; None keeps the convention. Columns are sorted by longitude if the
        convention changes, and stay in place if it does not.

    Rows and columns are permuted and whole turns added to longitudes; no data value changes.
    """
    rows, columns, longitudes = orientation_order(obj, lat, lon)
    moved = obj
    if (np.diff(rows) != 1).any():
        moved = moved.isel(lat=rows)
    if (np.diff(columns) != 1).any():
        moved = moved.isel(lon=columns)
    if not np.array_equal(moved["lon"].values, longitudes):
        moved = with_longitudes(moved, longitudes)
    return moved


def with_longitudes(obj: Gridded, longitudes: np.ndarray) -> Gridded:
    """The same grid with new longitudes, attributes kept."""
    return obj.assign_coords(lon=("lon", longitudes, obj["lon"].attrs))


def grid_difference(a: xr.DataArray | xr.Dataset, b: xr.DataArray | xr.Dataset) -> str | None:
    """How two grids differ, as the end of a sentence, or None if they are the same.

    Grids are the same if rows and columns are in the same order and coordinates agree to a thousandth of the spacing.
    """
    for name in ("lat", "lon"):
        if (name in a.coords) != (name in b.coords):
            return f"only one of them has {name}"
        if name not in a.coords:
            continue
        first, second = a[name].values, b[name].values
        if first.shape != second.shape:
            return f"{name} has {_shape(first)} against {_shape(second)} points"
        if first.size == 0:
            continue
        if not np.allclose(first, second, rtol=0, atol=_tolerance(first), equal_nan=True):
            return (
                f"{name} runs from {first.flat[0]:g} to {first.flat[-1]:g} against "
                f"{second.flat[0]:g} to {second.flat[-1]:g}" + _first_difference(first, second)
            )
    return None


def same_grid(a: xr.DataArray | xr.Dataset, b: xr.DataArray | xr.Dataset) -> bool:
    """Whether two objects lie on the same cells in the same order."""
    return grid_difference(a, b) is None


def spacing(values: np.ndarray) -> float:
    """Median distance between neighbouring coordinates in degrees; 1 if there is only one."""
    steps = np.abs(np.diff(np.asarray(values, dtype=float), axis=-1))
    steps = steps[steps > 0]
    return float(np.median(steps)) if steps.size else 1.0


def _tolerance(values: np.ndarray) -> float:
    return _SPACING_SHARE * spacing(values)


def _shape(values: np.ndarray) -> str:
    return " x ".join(str(n) for n in values.shape)


def _first_difference(first: np.ndarray, second: np.ndarray) -> str:
    """Where two axes with the same ends first differ."""
    tolerance = _tolerance(first)
    if not np.allclose(first.flat[[0, -1]], second.flat[[0, -1]], rtol=0, atol=tolerance):
        return ""
    where = int(np.argmax(np.abs(first - second).ravel() > tolerance))
    return f", and differs at point {where}: {first.flat[where]:g} against {second.flat[where]:g}"
