"""Masks from another grid, and fields without any value."""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError, InputError
from geoxai.grid.coordinates import is_rectilinear, spacing, spatial_dims
from geoxai.grid.time import time_text


def mask_onto(mask: xr.DataArray, grid: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The values of a mask at the cells of another grid, each from the mask cell with the nearest centre.

    Parameters
    ----------
    mask
        Dims ``(lat, lon)``, one-dimensional coordinates, any direction and longitude convention.
    grid
        The target grid, rectilinear or with two-dimensional ``lat`` and ``lon``.

    Halfway between two centres, the southern or western one is taken, however either grid is oriented. Raises
    ``GeoxaiError`` if the grid extends more than one mask cell beyond the mask.
    """
    if not is_rectilinear(mask) or set(mask.dims) != {"lat", "lon"}:
        raise GeoxaiError(
            f"a mask needs dims (lat, lon) with one-dimensional coordinates, this one has {tuple(mask.dims)}"
        )
    lat, lon = grid["lat"], grid["lon"]
    rows, off_rows = _nearest(mask["lat"].values, lat.values)
    columns, off_columns = _nearest(mask["lon"].values, lon.values, period=360)
    for name, off, have, want in (("lat", off_rows, mask["lat"], lat), ("lon", off_columns, mask["lon"], lon)):
        if off > spacing(have.values) * (1 + 1e-6):
            raise GeoxaiError(
                f"the mask does not cover the grid: its {name} runs from {float(have.min()):g} to "
                f"{float(have.max()):g}, the grid needs {float(want.min()):g} to {float(want.max()):g}"
            )
    values = mask.transpose("lat", "lon").values
    if is_rectilinear(grid):
        return xr.DataArray(values[np.ix_(rows, columns)], {"lat": lat, "lon": lon}, ("lat", "lon"), mask.name)
    dims = spatial_dims(grid)
    return xr.DataArray(values[rows, columns], {"lat": lat, "lon": lon}, dims, mask.name)


def _nearest(centres: np.ndarray, wanted: np.ndarray, period: float | None = None) -> tuple[np.ndarray, float]:
    """Index of the nearest centre for every wanted coordinate (halfway: the lower), and the largest distance."""
    centres, target = centres.astype(float), wanted.astype(float)
    order = np.argsort(np.mod(centres, period) if period else centres, kind="stable")
    axis = centres[order]
    if period:
        axis, target = np.mod(axis, period), np.mod(target, period)
        axis = np.concatenate([[axis[-1] - period], axis, [axis[0] + period]])
        order = np.concatenate([[order[-1]], order, [order[0]]])
    above = np.clip(np.searchsorted(axis, target), 1, max(axis.size - 1, 1))
    if axis.size == 1:
        return np.zeros(target.shape, dtype=int), float(np.nanmax(np.abs(target - axis[0])))
    to_lower, to_upper = np.abs(target - axis[above - 1]), np.abs(axis[above] - target)
    # single-precision centres are slightly off the middle: within 1e-5 degrees it is a tie
    take_lower = to_lower <= to_upper + 1e-5
    index = np.where(take_lower, above - 1, above)
    return order[index], float(np.nanmax(np.minimum(to_lower, to_upper)))


def require_values(da: xr.DataArray, name: str) -> None:
    """Refuse a field that is missing everywhere.

    Parameters
    ----------
    da
        ``lat`` and ``lon`` (or ``y`` and ``x``) and any leading dims such as time; read if lazy, so pass what is
        in memory or about to be.
    name
        The variable, for the message.

    Raises ``InputError`` naming the variable and the first time (or index) at which every cell is NaN.
    """
    if not np.issubdtype(da.dtype, np.floating):
        return
    empty = da.isnull().all(spatial_dims(da)).compute()
    if not bool(empty.any()):
        return
    count = f"{int(empty.sum())} of {empty.size}"
    where = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(empty.values)))
    place = []
    for dim, index in zip(empty.dims, where):
        label = empty[dim].values[index] if dim in empty.coords else index
        place.append(time_text(label) if dim == "time" else f"{dim} {label}")
    at = f" at {', '.join(place)} ({count} fields are empty)" if place else ""
    raise InputError(
        f"variable {name!r} has no value in any cell{at}",
        fix="leave these times out of the time range, or check the fill value, unit and mask",
    )
