"""Canonical names: which coordinates of a file are latitude, longitude and time, after CF or by their common names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import xarray as xr

from geoxai.errors import InputError, OptionError
from geoxai.names import unknown

_NAMES = {
    "lat": ("lat", "latitude", "lats", "nav_lat", "xlat", "yt_ocean", "geolat", "tlat"),
    "lon": ("lon", "longitude", "lons", "long", "nav_lon", "xlong", "xt_ocean", "geolon", "tlong"),
    "time": ("time", "times", "t", "valid_time", "date", "datetime", "month_time"),
}
_UNITS = {
    "lat": ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"),
    "lon": ("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"),
}
_STANDARD = {"lat": "latitude", "lon": "longitude", "time": "time"}
_KEPT = ("long_name", "axis")
_ATTRS = {
    "lat": {"units": "degrees_north", "standard_name": "latitude"},
    "lon": {"units": "degrees_east", "standard_name": "longitude"},
    "time": {"standard_name": "time"},
}
_ROTATED = ("rlat", "rlon", "grid_latitude", "grid_longitude")


def canonical_names(
    ds: xr.Dataset, source: str, given: Mapping[str, str] | None = None, *, required: bool = True
) -> xr.Dataset:
    """The dataset with ``lat``, ``lon`` and ``time`` under these names, CF attributes set, values untouched.

    Parameters
    ----------
    ds
        As opened, times decoded.
    source
        The file, for messages.
    given
        Which variable of the file is ``lat``, ``lon`` or ``time`` where the file does not make it clear.
    required
        Whether the file must have latitude and longitude.

    One-dimensional latitude and longitude become the dims ``lat`` and ``lon``; two-dimensional ones keep their dims
    under the names ``y`` and ``x``. A file without time is left without. Raises ``InputError`` where latitude or
    longitude cannot be found or several variables could be it.
    """
    given = dict(given or {})
    found: dict[str, Hashable | None] = {
        axis: given.get(axis) or _find(ds, axis, source) for axis in ("lat", "lon", "time")
    }
    for axis, said in given.items():
        if said not in ds.variables:
            raise OptionError(
                f"{source}: {unknown('variable', said, map(str, ds.variables))}", option=f"coordinates.{axis}"
            )
    for axis in ("lat", "lon"):
        if found[axis] is None and required:
            raise _missing(ds, axis, source)
    ds = ds.set_coords([name for name in found.values() if name is not None])
    for axis, name in found.items():
        if name is None:
            continue
        ds = _as_dim(ds, axis, name) if ds[name].ndim < 2 else ds.rename({name: axis} if name != axis else {})
    if "lat" in ds.coords and ds["lat"].ndim == 2:
        ds = _rows_and_columns(ds)
    for axis, attrs in _ATTRS.items():
        if axis in ds.coords:
            kept = {key: value for key, value in ds[axis].attrs.items() if key in _KEPT}
            ds[axis].attrs = {**kept, **attrs}
    return ds


def _find(ds: xr.Dataset, axis: str, source: str) -> Hashable | None:
    """The variable that is an axis: by units and standard name, else by its name."""
    by_attrs = [name for name, variable in ds.variables.items() if _declared(variable, axis)]
    by_name = [name for name in [*ds.variables] if str(name).lower() in _NAMES[axis]]
    for candidates in (by_attrs, by_name):
        most = 1 if axis == "time" else 2
        usable = [name for name in candidates if ds[name].ndim <= most and str(name) not in _ROTATED]
        dimension = [name for name in usable if name in ds.dims]
        if len(dimension) == 1:
            return dimension[0]
        if len(usable) == 1:
            return usable[0]
        if len(usable) > 1:
            named = [name for name in usable if str(name).lower() in _NAMES[axis][:2]]
            if len(named) == 1:
                return named[0]
            raise InputError(
                f"{source}: several variables could be {_STANDARD[axis]}: {', '.join(map(str, usable))}",
                fix=f"say which with coordinates: {{{axis}: {usable[0]}}}",
            )
    return None


def _declared(variable: xr.Variable, axis: str) -> bool:
    attrs = variable.attrs
    if axis == "time":
        decoded = variable.dtype.kind == "M" or _is_cftime(variable)
        return decoded and (attrs.get("standard_name") == "time" or attrs.get("axis") == "T")
    units = str(attrs.get("units", "")).lower()
    return units in _UNITS[axis] or attrs.get("standard_name") == _STANDARD[axis]


def _is_cftime(variable: xr.Variable) -> bool:
    return variable.dtype == object and variable.size > 0 and hasattr(variable.values.flat[0], "calendar")


def _as_dim(ds: xr.Dataset, axis: str, name: Hashable) -> xr.Dataset:
    """A zero- or one-dimensional coordinate as the dim of its canonical name."""
    if ds[name].ndim == 0:
        ds = ds.expand_dims(name)
    (dim,) = ds[name].dims
    if dim != name:
        ds = ds.swap_dims({dim: name})
    if name == axis:
        return ds
    clash = {axis: f"{axis}_in_file"} if axis in ds.variables or axis in ds.dims else {}
    return ds.rename(clash).rename({name: axis})


def _rows_and_columns(ds: xr.Dataset) -> xr.Dataset:
    rows, columns = ds["lat"].dims
    if ds["lon"].dims != (rows, columns):
        ds["lon"] = ds["lon"].transpose(rows, columns)
    names = {old: new for old, new in ((rows, "y"), (columns, "x")) if old != new}
    return ds.rename(names)


def _missing(ds: xr.Dataset, axis: str, source: str) -> InputError:
    rotated = [name for name in ds.variables if str(name) in _ROTATED]
    if rotated:
        return InputError(
            f"{source}: a rotated grid ({', '.join(map(str, rotated))}) without arrays of latitude and longitude",
            fix="add two-dimensional lat and lon to the file, or regrid it to latitudes and longitudes",
        )
    shapes = ", ".join(f"{name}({', '.join(map(str, v.dims))})" for name, v in ds.variables.items())
    return InputError(
        f"{source}: no {_STANDARD[axis]} among its variables: {shapes}",
        fix=f"say which variable it is with coordinates: {{{axis}: NAME}}",
    )
