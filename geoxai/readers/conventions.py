"""Canonical names: the coordinates of a file's fields as ``lat``, ``lon`` and ``time``, by CF or common names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import xarray as xr

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.readers.horizontal import axis_of, declared, fields_of, latitude_longitude, named

_KEPT = ("long_name", "axis", "bounds")
_ATTRS = {
    "lat": {"units": "degrees_north", "standard_name": "latitude"},
    "lon": {"units": "degrees_east", "standard_name": "longitude"},
    "time": {"standard_name": "time"},
}


def canonical_names(
    ds: xr.Dataset,
    source: str,
    given: Mapping[str, str] | None = None,
    *,
    required: bool = True,
    wanted: Iterable[str] = (),
) -> xr.Dataset:
    """The dataset with ``lat``, ``lon`` and ``time`` under these names, with CF attributes and unchanged values.

    Parameters
    ----------
    ds
        As opened, times decoded.
    source
        The file, for messages.
    given
        Which variable of the file is ``lat``, ``lon`` or ``time`` if the file does not make it clear.
    required
        Whether the file must have latitude and longitude.
    wanted
        The variables, by their names in the file, whose coordinates count; default: all.

    One-dimensional latitude and longitude become the dims ``lat`` and ``lon``; two-dimensional ones keep their dims
    under the names ``y`` and ``x``. A file may have no time. Raises ``InputError`` if the fields have no
    latitude or longitude or several variables could be it.
    """
    given = dict(given or {})
    for axis, said in given.items():
        if said not in ds.variables:
            raise OptionError(
                f"{source}: {unknown('variable', said, map(str, ds.variables))}", option=f"coordinates.{axis}"
            )
    fields = fields_of(ds, wanted)
    lat, lon = latitude_longitude(ds, source, fields, given, required=required)
    found = {"lat": lat, "lon": lon, "time": given.get("time") or _time(ds, fields, source)}
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


def _time(ds: xr.Dataset, fields: Sequence[Hashable], source: str) -> Hashable | None:
    """The time of the fields, or else the only scalar time in the file, such as that of a single image."""
    for field in fields:
        time = axis_of(ds, field, "time", source)
        if time is not None:
            return time
    for test in (declared, named):
        scalars = [name for name, variable in ds.variables.items() if not variable.ndim and test(ds, name, "time")]
        if len(scalars) == 1:
            return scalars[0]
    return None


def _as_dim(ds: xr.Dataset, axis: str, name: Hashable) -> xr.Dataset:
    """A zero- or one-dimensional coordinate as a dim with its canonical name."""
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
    clash = {new: f"{new}_in_file" for new in names.values() if new in ds.variables and new not in ds["lat"].dims}
    return ds.rename(clash).rename(names)
