"""NetCDF files and Zarr stores as one lazy dataset with canonical names, units and order of times."""

from __future__ import annotations

import datetime
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoxai.errors import InputError, OptionError
from geoxai.grid.area import CELL_COORDS
from geoxai.grid.coordinates import grid_difference, spatial_dims
from geoxai.grid.regions import select_box
from geoxai.grid.time import select_time
from geoxai.names import unknown
from geoxai.paths import expand
from geoxai.readers.cells import checked_cells, has_places
from geoxai.readers.conventions import canonical_names
from geoxai.readers.extremes import Expected
from geoxai.readers.fields import Meaning, explain_read_error, float32_is_exact_enough, lazy_field
from geoxai.readers.netcdf3 import expected_size
from geoxai.readers.netcdf4 import check_types
from geoxai.readers.origin import check_origin
from geoxai.readers.packing import check_packing, valid_limits
from geoxai.readers.times import check_time_axis, in_time_order, warn_of_holes
from geoxai.readers.units import canonical_unit, conversion, is_difference, to_units

log = logging.getLogger("geoxai.readers")

Date = int | str | datetime.date
_KEPT_ATTRS = ("units", "standard_name", "long_name", "cell_methods", "positive", "flag_values", "flag_meanings")
_KEPT_GLOBAL = ("title", "institution", "source", "references", "license")
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")


@dataclass(frozen=True)
class Wanted:
    """What to read of one variable, and how.

    ``name``: its name in the files. ``units``: the unit wanted. ``file_units``: the unit of the numbers in the files
    if these do not say it or say it wrong. ``missing``: further values that mean missing. ``anomaly``: whether they are
    differences; None asks the attributes of the file. ``valid_range``: whether values outside of the range that the
    file calls valid are missing. ``implausible``: ``refuse`` or ``keep`` implausible values, see ``extremes``.
    """

    name: str | None = None
    units: str | None = None
    file_units: str | None = None
    missing: tuple[float, ...] = ()
    anomaly: bool | None = None
    valid_range: bool = True
    implausible: str = "refuse"


@dataclass(frozen=True)
class _File:
    path: Path
    data: xr.Dataset


def open_netcdf(
    paths: str | Path | Iterable[str | Path],
    variables: Mapping[str, Wanted] | None = None,
    *,
    time: tuple[Date | None, Date | None] = (None, None),
    lat: tuple[float, float] | None = None,
    lon: tuple[float, float] | None = None,
    coordinates: Mapping[str, str] | None = None,
    join: Sequence[str] = (),
) -> xr.Dataset:
    """Open files as one lazy dataset.

    Parameters
    ----------
    paths
        NetCDF files, globs of them, or a Zarr store. Several files follow each other in time, in any order of names,
        or hold different variables.
    variables
        By the name they are to have; None takes every variable on the grid as it is.
    time
        First and last time, years or dates, both included completely, in the calendar of the files.
    lat, lon
        Box in degrees, see ``geoxai.grid.regions.select_box``.
    coordinates
        Names of ``lat``, ``lon`` and ``time`` in the files if they are not clear.
    join
        In what respect consecutive files may differ, see ``geoxai.readers.origin``.

    Returns
    -------
    Dataset of dask arrays with dims ``([time,] ..., lat, lon)`` (``y, x`` with two-dimensional ``lat`` and ``lon``),
    chunked along time only. Dims of length one are dropped and kept as scalar coordinates. Longitude convention,
    latitude direction and calendar are those of the files. Packed integers become float32 if that keeps all packed
    values distinct, else float64.

    Raises
    ------
    InputError
        A file is missing, unreadable or cut short; its grid or times do not fit; time is out of order, has duplicates,
        or files overlap; files of different origin would be joined. A damaged piece of a file, or one with values that
        cannot be, raises it when that piece is computed.
    OptionError
        An unknown variable (``variables.NAME``), a unit that does not convert (``variables.NAME.units``), or a box or
        time range without data.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    found = expand(paths)
    if not found:
        raise InputError(f"no file matches {', '.join(map(str, paths))}", fix="check the path", option="path")
    names = [spec.name or name for name, spec in (variables or {}).items()]
    files = [_File(path, open_dataset(path, coordinates, grid=True, wanted=names)) for path in found]
    wanted = _all_variables(files) if variables is None else variables
    if not wanted:
        raise InputError(f"{found[0]} has no variable on its latitudes and longitudes")
    fields = {name: _variable(files, name, spec, join) for name, spec in wanted.items()}
    ds = _together(fields)
    ds.attrs = {key: files[0].data.attrs[key] for key in _KEPT_GLOBAL if key in files[0].data.attrs}
    if "time" in ds.dims:
        ds = select_time(ds, *time)
        warn_of_holes(", ".join(map(str, paths)), ds["time"])
    elif time != (None, None):
        raise OptionError(f"{found[0]} has no time axis from which to take a range", option="time")
    return select_box(ds, lat, lon) if lat is not None or lon is not None else ds


def open_dataset(
    path: str | Path,
    coordinates: Mapping[str, str] | None = None,
    *,
    grid: bool = False,
    wanted: Iterable[str] = (),
) -> xr.Dataset:
    """One NetCDF file or Zarr store as it is, with canonical names; variables stay on disk until they are used.

    With ``grid``, latitude and longitude must exist: those of the variables ``wanted``, else of all. Raises
    ``InputError`` if the file is missing, unreadable or cut short, its grid is implausible, or its time axis is
    out of order. Close it, or use it as a context manager.
    """
    path = Path(path)
    engine = _engine(path)
    if path.is_file():
        check_types(path)
    try:
        with warnings.catch_warnings():
            # times beyond the range of numpy become cftime, and several fill values all apply: both are wanted
            warnings.simplefilter("ignore", xr.SerializationWarning)
            ds = xr.open_dataset(path, cache=False, decode_timedelta=False, **engine)
    except MemoryError:
        raise
    except Exception as error:  # what the NetCDF, HDF5 and Zarr libraries raise has no common base
        raise _undecodable(path, engine, error) from error
    check_packing(path, ds, wanted)
    raw = ds
    ds = canonical_names(ds.drop_vars(_bounds(ds)), str(path), coordinates, required=grid, wanted=wanted)
    for name in ("lat", "lon", "time"):
        if name in ds.coords:
            try:
                ds[name].load()
            except Exception as error:
                raise explain_read_error(path, name, error) from error
    if "time" in ds.dims:
        if not ds.sizes["time"]:
            raise InputError(f"{path} has no time step: its time axis is empty")
        check_time_axis(path, ds["time"])
    return checked_cells(path, ds, _bounds_of(path, raw, ds))


def _bounds_of(path: Path, raw: xr.Dataset, ds: xr.Dataset) -> dict[str, np.ndarray]:
    """The bounds of latitude and longitude in a file, by axis; removes the attribute that names them."""
    found = {}
    for axis in ("lat", "lon"):
        name = ds[axis].attrs.pop("bounds", None) if axis in ds.coords else None
        if name in raw.variables and raw[name].dtype.kind == "f" and raw[name].ndim == ds[axis].ndim + 1:
            try:
                found[axis] = raw[name].values.astype(float)
            except Exception as error:  # what the NetCDF, HDF5 and Zarr libraries raise has no common base
                raise explain_read_error(path, str(name), error) from error
    if "time" in ds.coords:
        ds["time"].attrs.pop("bounds", None)
    return found


def _bounds(ds: xr.Dataset) -> set[str]:
    """Variables that hold the cell bounds of others."""
    named = {
        str(place["bounds"]) for v in ds.variables.values() for place in (v.attrs, v.encoding) if "bounds" in place
    }
    return {name for name in named if name in ds.variables}


def _engine(path: Path) -> dict[str, Any]:
    """How xarray opens a path; refuses what is missing, unreadable, or shorter than its header says."""
    if not path.exists():
        raise InputError(f"{path} does not exist", fix="check the path", option="path")
    if path.is_dir():
        if any((path / mark).exists() for mark in _ZARR_MARKS):
            return {"engine": "zarr", "consolidated": False}
        raise InputError(f"{path} is a folder, not a Zarr store", fix="give files, such as folder/*.nc", option="path")
    try:
        size, needed = path.stat().st_size, expected_size(path)
    except EOFError:
        size, needed = path.stat().st_size, None
        raise explain_read_error(path, None, OSError(f"its header is cut short or broken ({size} bytes)")) from None
    except OSError as error:
        raise explain_read_error(path, None, error) from error
    if size == 0:
        raise InputError(f"{path} is empty", fix="fetch the file again")
    if needed is not None and size < needed:
        raise InputError(
            f"{path} is cut short: it has {size} bytes, but its header says {needed}",
            fix="fetch the file again; the copy is incomplete",
        )
    return {"engine": "netcdf4"}


def _undecodable(path: Path, engine: dict[str, Any], error: Exception) -> InputError:
    """The error for a file that opens only without decoding its numbers; for another cause, that error itself."""
    try:
        with xr.open_dataset(path, decode_cf=False, **engine) as raw:
            check_packing(path, raw)
            told = [
                f"{name} has units {v.attrs['units']!r}, calendar {v.attrs.get('calendar', 'standard')!r}"
                for name, v in raw.variables.items()
                if " since " in str(v.attrs.get("units", ""))
            ]
    except InputError as packing:
        return packing
    except Exception:
        return explain_read_error(path, None, error)
    if not isinstance(error, ValueError):
        return explain_read_error(path, None, error)
    reason = "; ".join(told) or " ".join(str(error).split())[:200]
    return InputError(
        f"{path}: the time axis cannot be read as dates: {reason}",
        fix="give the file units such as 'days since 1850-01-01' (months have no fixed length) and a CF calendar",
    )


def _on_grid(ds: xr.Dataset, name: object) -> bool:
    return set(spatial_dims(ds)) <= set(ds[name].dims) and ds[name].dtype.kind in "fiub"


def _all_variables(files: Sequence[_File]) -> dict[str, Wanted]:
    names = [str(name) for file in files for name in file.data.data_vars if _on_grid(file.data, name)]
    return dict.fromkeys(names, Wanted())


def _variable(files: Sequence[_File], name: str, wanted: Wanted, join: Sequence[str]) -> xr.DataArray:
    """One variable from all files that hold it."""
    stored = wanted.name or name
    holding = [file for file in files if stored in file.data.data_vars]
    option = f"variables.{name}" + (".name" if wanted.name else "")
    if not holding:
        known = {str(v) for file in files for v in file.data.data_vars if _on_grid(file.data, v)}
        where = str(files[0].path) if len(files) == 1 else f"{files[0].path} and {len(files) - 1} more"
        raise OptionError(f"{where}: {unknown('variable', stored, known)}", option=option)
    for file in holding:
        if not _on_grid(file.data, stored):
            raise OptionError(
                f"{file.path}: variable {stored!r} has dims {file.data[stored].dims}, not latitude and longitude",
                option=option,
            )
        difference = grid_difference(holding[0].data, file.data)
        if difference:
            raise InputError(f"{file.path} is on a different grid from {holding[0].path}: {difference}")
    if len(holding) == 1:
        return _field(holding[0], name, wanted)
    for file in holding:
        if "time" not in file.data[stored].dims:
            raise InputError(
                f"variable {stored!r} is in {len(holding)} files but has no time in {file.path}",
                fix="narrow the path so that one file holds it",
            )
    check_origin([(file.path, file.data) for file in holding], join)
    ordered = in_time_order([(file.path, _field(file, name, wanted)) for file in holding])
    parts = [_like(ordered[0], item) for item in ordered]
    return xr.concat(parts, "time", coords="minimal", compat="override", join="exact", combine_attrs="override")


def _like(first: tuple[Path, xr.DataArray], item: tuple[Path, xr.DataArray]) -> xr.DataArray:
    """A field ready to follow the first one: with the same dims, unit and exactly the same coordinates."""
    (first_path, a), (path, b) = first, item
    if a.dims != b.dims or a.shape[1:] != b.shape[1:]:
        raise InputError(f"{path}: {b.name!r} has dims {dict(b.sizes)}, in {first_path} {dict(a.sizes)}")
    if a.attrs.get("units") != b.attrs.get("units"):
        raise InputError(
            f"{path}: {b.name!r} is in {b.attrs.get('units')!r}, in {first_path} in {a.attrs.get('units')!r}",
            fix="state the wanted units, so that every file is converted",
        )
    coords = {key: value for key, value in a.coords.items() if "time" not in value.dims}
    return b.assign_coords(coords)


def _field(file: _File, name: str, wanted: Wanted) -> xr.DataArray:
    """One variable of one file: on dask, with its unit, extra dims of length one dropped."""
    stored = wanted.name or name
    da = file.data[stored]
    rows, columns = spatial_dims(da)
    if "time" in da.coords and "time" not in da.dims and da["time"].ndim == 0:
        da = da.expand_dims("time")
    single = [dim for dim, size in da.sizes.items() if size == 1 and dim not in ("time", rows, columns)]
    da = da.squeeze(single)
    encoding = da.encoding
    da = lazy_field(da, file.path, _meaning(da, file.path, name, wanted))
    if da.dtype.kind == "b":
        da = da.astype("int8")
    places = has_places(da)
    if places is not None:
        da = da.where(places)
    da, grown = _with_units(da, file.path, name, wanted)
    if da.dtype == np.float64 and float32_is_exact_enough(encoding, grown):
        da = da.astype(np.float32)
    scalars = [key for key, value in da.coords.items() if value.ndim == 0]
    da = da.drop_vars([key for key in da.coords if key not in {"lat", "lon", "time", *CELL_COORDS, *da.dims, *scalars}])
    da = da.assign_coords({key: da[key].load() for key in scalars})
    da.attrs = {key: value for key, value in da.attrs.items() if key in _KEPT_ATTRS}
    da.encoding = {}
    leading = ("time",) if "time" in da.dims else ()
    return da.rename(name).transpose(*leading, ..., rows, columns)


def _meaning(da: xr.DataArray, path: Path, name: str, wanted: Wanted) -> Meaning:
    """What the numbers of a variable in a file mean."""
    if da.dtype.kind == "b":
        return Meaning()
    limits = valid_limits(path, str(da.name), da) if wanted.valid_range else None
    if limits is not None:
        log.warning("%s: values of %s outside its valid range, %g to %g, are missing", path, da.name, *limits)
    if wanted.implausible == "keep":
        return Meaning(wanted.missing, limits)
    units = wanted.file_units or str(da.attrs.get("units", ""))
    difference = is_difference(da.attrs) if wanted.anomaly is None else wanted.anomaly
    unit = canonical_unit(units)
    return Meaning(wanted.missing, limits, Expected(name, unit == "K" and not difference, unit))


def _with_units(da: xr.DataArray, path: Path, name: str, wanted: Wanted) -> tuple[xr.DataArray, float]:
    """The field in the unit wanted, and by how much the change can increase a value relative to its packing step."""
    said = da.attrs.get("units")
    have = wanted.file_units or (str(said).strip() if said is not None else "")
    if wanted.file_units and said and conversion(str(said), wanted.file_units) != (1.0, 0.0):
        log.warning("%s: %s says units %r; taken as %r, as file_units states", path, name, said, wanted.file_units)
    if wanted.units is None:
        return (da.assign_attrs(units=have) if have else da), 1.0
    if not have:
        raise OptionError(
            f"{path}: variable {wanted.name or name!r} has no units attribute and is wanted in {wanted.units!r}",
            fix=f"state the unit of its numbers, for instance file_units: {wanted.units}",
            option=f"variables.{name}.units",
        )
    change = conversion(have, wanted.units)
    difference = is_difference(da.attrs) if wanted.anomaly is None else wanted.anomaly
    option = f"variables.{name}.units"
    converted = to_units(da.rename(name), wanted.units, have, difference=difference, option=option)
    # the offset of a unit (273.15) adds to the value but not to the step: a factor of two covers K and degC
    return converted, 2.0 if change and change[1] and not difference else 1.0


def _together(fields: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Variables on one grid and one time axis as a dataset."""
    (first, a), *others = fields.items()
    for name, b in others:
        difference = grid_difference(a, b)
        if difference:
            raise InputError(
                f"variables {first!r} and {name!r} are on different grids: {difference}",
                fix="load them in stages of their own",
            )
        if ("time" in a.dims) and ("time" in b.dims) and not a["time"].equals(b["time"]):
            raise InputError(
                f"variables {first!r} and {name!r} have different times: {a.sizes['time']} and {b.sizes['time']} steps",
                fix="load them in stages of their own; samples joins monthly data by year and month",
            )
    return xr.Dataset({name: da.assign_coords(lat=a["lat"], lon=a["lon"]) for name, da in fields.items()})
