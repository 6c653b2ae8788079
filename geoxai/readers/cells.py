"""The cells of a file's grid: plausible degrees, edges if the file gives bounds, cells without a position."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError, InputError
from geoxai.grid.area import attach_edges, polygon_area
from geoxai.grid.coordinates import is_rectilinear, latitude_direction, spacing, with_longitudes
from geoxai.grid.degrees import check_latitudes, tidy_longitudes

log = logging.getLogger("geoxai.readers")

# Numbers beyond this are undeclared fill values, such as NetCDF's own 9.97e36.
_FILL = 1e15


def checked_cells(path: Path, ds: xr.Dataset, bounds: dict[str, np.ndarray]) -> xr.Dataset:
    """The dataset with a plausible grid; ``bounds`` of ``lat`` and ``lon`` as in the file.

    On a rectilinear grid longitudes get a single convention and a last column that repeats the first is left out, each
    with a warning. Fill values in two-dimensional coordinates become NaN in both. Bounds become coordinates, see
    ``geoxai.grid.area``. Raises ``InputError`` naming the file.
    """
    if not {"lat", "lon"} <= set(ds.coords):
        return ds
    for axis in ("lat", "lon"):
        if not ds[axis].size or ds[axis].dtype.kind not in "fiu":
            what = "is empty" if not ds[axis].size else f"holds {_kind(ds[axis])}, expected degrees"
            raise InputError(f"{path}: {axis} {what}", fix="store numbers in degrees in the file")
    try:
        return _rectilinear(path, ds, bounds) if is_rectilinear(ds) else _curvilinear(path, ds, bounds)
    except InputError:
        raise
    except GeoxaiError as error:
        raise InputError(f"{path}: {error.message}", fix=error.fix) from None


def _kind(axis: xr.DataArray) -> str:
    return "text" if axis.dtype.kind in "OSUT" else str(axis.dtype)


def _rectilinear(path: Path, ds: xr.Dataset, bounds: dict[str, np.ndarray]) -> xr.Dataset:
    for axis in ("lat", "lon"):
        values = ds[axis].values.astype(float)
        if not np.isfinite(values).all() or (np.abs(values) > _FILL).any():
            raise InputError(f"{path}: {axis} has missing or infinite values", fix="correct it in the file")
    lon = ds["lon"].values.astype(float)
    check_latitudes(ds["lat"].values.astype(float), lon)
    latitude_direction(ds["lat"].values)
    for axis, found in bounds.items():
        with_edges = attach_edges(ds, axis, found)
        if with_edges is None:
            log.warning(
                "%s: the bounds of %s do not enclose it; cells reach halfway to their neighbours instead", path, axis
            )
        ds = ds if with_edges is None else with_edges
    if lon.size > 2 and abs(abs(lon[-1] - lon[0]) - 360) < 1e-3 * spacing(lon):
        log.warning("%s: the last column (%g) repeats the first (%g); it is left out", path, lon[-1], lon[0])
        ds = ds.isel(lon=slice(0, -1))
    longitudes, changed = tidy_longitudes(ds["lon"].values)
    if changed:
        log.warning("%s: %s", path, changed)
        ds = with_longitudes(ds, longitudes)
    return ds


def _curvilinear(path: Path, ds: xr.Dataset, bounds: dict[str, np.ndarray]) -> xr.Dataset:
    lat, lon = (ds[axis].values.astype(float) for axis in ("lat", "lon"))
    missing = ~(np.abs(lat) < _FILL) | ~(np.abs(lon) < _FILL)
    if missing.all():
        raise InputError(f"{path}: no cell has a latitude and a longitude", fix="correct the coordinates in the file")
    lat, lon = np.where(missing, np.nan, lat), np.where(missing, np.nan, lon)
    check_latitudes(lat, lon)
    if (np.abs(lon) > 720).any():
        raise GeoxaiError(
            f"longitudes run from {np.nanmin(lon):g} to {np.nanmax(lon):g}", fix="correct them, in degrees east"
        )
    if missing.any():
        log.warning(
            "%s: %s of %s cells have no latitude or longitude; they count as missing", path, missing.sum(), missing.size
        )
        ds = ds.assign_coords({name: ds[name].copy(data=values) for name, values in (("lat", lat), ("lon", lon))})
    if len(bounds) == 2 and all(found.shape == (*lat.shape, 4) for found in bounds.values()):
        area = np.where(missing, np.nan, polygon_area(bounds["lat"], bounds["lon"]))
        if np.isfinite(area[~missing]).all() and (area[~missing] > 0).any():
            ds = ds.assign_coords(cell_area=(ds["lat"].dims, area, {"units": "m2", "standard_name": "cell_area"}))
    return ds


def has_places(da: xr.DataArray) -> xr.DataArray | None:
    """True where a cell has a latitude and longitude, over the horizontal dims; None if all have them."""
    known = da["lat"].notnull() & da["lon"].notnull() if da["lat"].ndim == 2 else None
    if known is None or bool(known.all()):
        return None
    return known.drop_vars(known.coords)
