"""Which variables of a file are the latitude and longitude of its fields; unsupported grids are refused by name.

A field has the coordinates of its own dims, those that its attribute ``coordinates`` or its grid mapping names (CF
conventions 1.11, chapter 5), and those that lie on its dims. Nothing else in a file describes the field: the
subpoint of a satellite is not the latitude of its image.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import xarray as xr

from geoxai.errors import InputError

NAMES = {
    "lat": ("lat", "latitude", "lats", "nav_lat", "xlat", "yt_ocean", "geolat", "tlat"),
    "lon": ("lon", "longitude", "lons", "long", "nav_lon", "xlong", "xt_ocean", "geolon", "tlong"),
    "time": ("time", "times", "t", "valid_time", "date", "datetime", "month_time"),
}
STANDARD = {"lat": "latitude", "lon": "longitude", "time": "time"}
_UNITS = {
    "lat": ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"),
    "lon": ("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"),
}
_OTHER = (  # standard names of horizontal coordinates other than latitude and longitude
    "grid_latitude", "grid_longitude", "projection_x_coordinate", "projection_y_coordinate",
    "projection_x_angular_coordinate", "projection_y_angular_coordinate",
)  # fmt: skip
_ROTATED = ("rlat", "rlon", "grid_latitude", "grid_longitude")
_UNSTRUCTURED_DIMS = ("ncells", "ncell", "cell", "cells", "ncol", "node", "nodes", "nod2", "face", "nmesh2d_face")
_CALLED = {
    "geostationary": "a geostationary grid",
    "rotated_latitude_longitude": "a rotated grid",
    "healpix": "an unstructured grid (HEALPix)",
}
_REGRID = "regrid it to a latitude-longitude grid first"
_ADD_ARRAYS = f"add two-dimensional lat and lon to the file, or {_REGRID}"

Pair = tuple[Hashable, Hashable]


def fields_of(ds: xr.Dataset, wanted: Iterable[str] = ()) -> list[Hashable]:
    """The variables whose coordinates count: those wanted that exist, else all numeric ones with dims."""
    asked: list[Hashable] = [name for name in wanted if name in ds.variables]
    return asked or [
        name
        for name, variable in ds.data_vars.items()
        if variable.ndim and variable.dtype.kind in "fiub" and not _is_horizontal(ds, name)
    ]


def latitude_longitude(
    ds: xr.Dataset, source: str, fields: Sequence[Hashable], given: Mapping[str, str], *, required: bool
) -> tuple[Hashable | None, Hashable | None]:
    """The latitude and longitude of the fields.

    Parameters
    ----------
    ds
        As opened.
    source
        The file, for messages.
    fields
        Variables, see ``fields_of``.
    given
        What the user names as ``lat`` or ``lon``.
    required
        Whether there must be a grid; otherwise the result may be empty.

    Raises ``InputError`` if the fields have none, or lie on several grids or on a grid of an unsupported kind.
    """
    pairs: dict[Pair, Hashable] = {}
    for field in fields:
        lat, lon = (_given(ds, field, given.get(axis)) or axis_of(ds, field, axis, source) for axis in ("lat", "lon"))
        if lat is not None and lon is not None:
            pairs.setdefault((lat, lon), field)
    grids = {pair: field for pair, field in pairs.items() if _is_grid(ds, *pair)}
    if len(grids) == 1:
        ((lat, lon),) = grids
        _require_degrees(ds, source, (lat, lon))
        return lat, lon
    if len(grids) > 1:
        raise _several(ds, source, grids)
    if not required:
        return None, None
    if pairs:
        raise _places(ds, source, *next(iter(pairs)))
    raise _no_grid(ds, source, fields)


def axis_of(ds: xr.Dataset, field: Hashable, axis: str, source: str) -> Hashable | None:
    """The variable that is an axis (``lat``, ``lon`` or ``time``) of a field: by units, standard name or name."""
    variable = ds[field].variable
    dims = [dim for dim in variable.dims if dim in ds.variables]
    listed = _listed(ds, field)
    lying = [
        name
        for name, other in ds.variables.items()
        if name != field and 1 <= other.ndim <= 2 and set(other.dims) <= set(variable.dims)
    ]
    most = 1 if axis == "time" else 2
    for test in (declared, named):
        for group in (dims, listed, lying):
            usable = [n for n in dict.fromkeys(group) if test(ds, n, axis) and ds[n].ndim <= most and n != field]
            if axis == "lat" or axis == "lon":
                usable = [name for name in usable if str(name) not in _ROTATED]
            if usable:
                return _one(usable, axis, source)
    return None


def _listed(ds: xr.Dataset, field: Hashable) -> list[Hashable]:
    """The variables that the attributes of a field name as its coordinates."""
    variable = ds[field].variable
    keys = ("coordinates", "grid_mapping")
    said = " ".join(str(variable.encoding.get(key, variable.attrs.get(key, ""))) for key in keys)
    return [name for name in said.split() if name in ds.variables]


def _given(ds: xr.Dataset, field: Hashable, name: str | None) -> str | None:
    """The user's latitude or longitude, if it can be that of a field: on its dims, or named by it."""
    if name is None or name in _listed(ds, field):
        return name
    dims = ds[name].dims
    return name if dims and set(dims) <= set(ds[field].dims) else None


def declared(ds: xr.Dataset, name: Hashable, axis: str) -> bool:
    """Whether the attributes of a variable say that it is an axis."""
    variable = ds.variables[name]
    standard = variable.attrs.get("standard_name")
    if axis == "time":
        decoded = variable.dtype.kind == "M" or _is_cftime(variable)
        return decoded and (standard == "time" or variable.attrs.get("axis") == "T")
    if standard == STANDARD[axis] or standard in _OTHER:
        return standard == STANDARD[axis]
    return str(variable.attrs.get("units", "")).lower() in _UNITS[axis]


def named(ds: xr.Dataset, name: Hashable, axis: str) -> bool:
    """Whether a variable has a common name for an axis, and its attributes do not contradict it."""
    return str(name).lower() in NAMES[axis] and ds.variables[name].attrs.get("standard_name") not in _OTHER


def _is_horizontal(ds: xr.Dataset, name: Hashable) -> bool:
    return any(declared(ds, name, axis) or named(ds, name, axis) for axis in ("lat", "lon"))


def _one(usable: Sequence[Hashable], axis: str, source: str) -> Hashable:
    """The only candidate, or the one with the canonical name."""
    plain = [name for name in usable if str(name).lower() in NAMES[axis][:2]]
    for candidates in (usable, plain):
        if len(candidates) == 1:
            return candidates[0]
    raise InputError(
        f"{source}: several variables could be {STANDARD[axis]}: {', '.join(map(str, usable))}",
        fix=f"say which with coordinates: {{{axis}: {usable[0]}}}",
    )


def _is_cftime(variable: xr.Variable) -> bool:
    return variable.dtype == object and variable.size > 0 and hasattr(variable.values.flat[0], "calendar")


def _is_grid(ds: xr.Dataset, lat: Hashable, lon: Hashable) -> bool:
    """Whether latitude and longitude span rows and columns."""
    a, b = ds[lat], ds[lon]
    if a.ndim == b.ndim == 2:
        return set(a.dims) == set(b.dims)
    return a.ndim <= 1 and b.ndim <= 1 and not set(a.dims) & set(b.dims)


def _require_degrees(ds: xr.Dataset, source: str, pair: Pair) -> None:
    for name in pair:
        units = str(ds[name].attrs.get("units", "")).lower()
        if units.startswith("rad"):
            raise InputError(
                f"{source}: {name} is in {ds[name].attrs['units']!r}, expected degrees",
                fix="convert it to degrees in the file",
            )


def _several(ds: xr.Dataset, source: str, grids: Mapping[Pair, Hashable]) -> InputError:
    """Fields on more than one grid; with nearly the same shape they lie at different positions of the same cells."""
    shapes = [tuple(size for name in pair for size in ds[name].shape) for pair in grids]
    near = all(len(s) == len(shapes[0]) and max(abs(a - b) for a, b in zip(s, shapes[0])) <= 1 for s in shapes)
    what = "a staggered grid" if near else "several grids"
    placed = "; ".join(f"{field} on {lat}, {lon}" for (lat, lon), field in grids.items())
    fields = list(grids.values())
    return InputError(
        f"{source}: {what}: {placed}",
        fix=f"load the variables of each in a stage of its own, such as variables: [{fields[0]}]",
    )


def _places(ds: xr.Dataset, source: str, lat: Hashable, lon: Hashable) -> InputError:
    """Latitude and longitude that do not span rows and columns: a list of points."""
    a, b = ds[lat], ds[lon]
    kind = str(ds.attrs.get("featureType") or ds.attrs.get("cdm_data_type") or "").lower()
    if a.dims != b.dims:
        return InputError(
            f"{source}: latitude {lat}({', '.join(map(str, a.dims))}) and longitude {lon}"
            f"({', '.join(map(str, b.dims))}) do not span a grid",
            fix=_REGRID,
        )
    what = (
        f"{kind} data"
        if kind in ("point", "trajectory", "station", "timeseries", "profile")
        else "an unstructured grid"
    )
    along = ", ".join(map(str, a.dims))
    return InputError(
        f"{source}: {what}: {lat} and {lon} both lie along {along}, and there are no rows and columns",
        fix="count or average the points on a grid first" if what.endswith("data") else _REGRID,
    )


def _no_grid(ds: xr.Dataset, source: str, fields: Sequence[Hashable]) -> InputError:
    """The error for a file whose fields have no latitude or no longitude, naming the kind of its grid if known."""
    for field in fields:
        mapping = str(ds[field].encoding.get("grid_mapping", ds[field].attrs.get("grid_mapping", ""))).split(":")[0]
        name = ds.variables[mapping].attrs.get("grid_mapping_name") if mapping in ds.variables else None
        if name is not None and name != "latitude_longitude":
            what = _CALLED.get(str(name), f"a projected grid ({name})")
            fix = _REGRID if "unstructured" in what else _ADD_ARRAYS
            return InputError(f"{source}: {what} ({mapping}) without arrays of latitude and longitude", fix=fix)
    dims = {str(dim): None for field in fields for dim in ds[field].dims}
    standard = {str(variable.attrs.get("standard_name")) for variable in ds.variables.values()}
    rotated = [str(name) for name in ds.variables if str(name) in _ROTATED]
    if rotated or standard & {"grid_latitude", "grid_longitude"}:
        names = ", ".join(rotated) or "grid_latitude, grid_longitude"
        return InputError(
            f"{source}: a rotated grid ({names}) without arrays of latitude and longitude", fix=_ADD_ARRAYS
        )
    if "projection_x_angular_coordinate" in standard:
        return InputError(f"{source}: a geostationary grid without arrays of latitude and longitude", fix=_ADD_ARRAYS)
    mesh = [field for field in fields if "mesh" in ds[field].attrs or "CDI_grid_type" in ds[field].attrs]
    cells = [dim for dim in dims if dim.lower() in _UNSTRUCTURED_DIMS]
    if mesh or cells:
        return InputError(f"{source}: an unstructured grid ({', '.join(cells or map(str, mesh))})", fix=_REGRID)
    staggered = [str(field) for field in fields if ds[field].attrs.get("stagger") or _stag(ds[field])]
    if staggered:
        return InputError(
            f"{source}: a staggered grid: {', '.join(staggered)} on cell edges, without latitude or longitude there",
            fix="average it to the cell centres first",
        )
    moving = [name for name, variable in ds.variables.items() if variable.ndim == 3 and _is_horizontal(ds, name)]
    if moving:
        place, over = moving[0], ", ".join(map(str, ds[moving[0]].dims))
        return InputError(
            f"{source}: {place}({over}) changes with {ds[place].dims[0]}: a moving grid",
            fix=f"if it does not move, keep one: ds[{str(place)!r}].isel({ds[place].dims[0]}=0), as coordinates",
        )
    for axis in ("lat", "lon"):
        if not any(axis_of(ds, field, axis, source) for field in fields):
            break
    shapes = ", ".join(f"{name}({', '.join(map(str, v.dims))})" for name, v in ds.variables.items() if v.ndim)
    return InputError(
        f"{source}: no {STANDARD[axis]} among the coordinates of its fields; its variables: {shapes}",
        fix=f"say which variable it is with coordinates: {{{axis}: NAME}}",
    )


def _stag(field: xr.DataArray) -> bool:
    return any(str(dim).endswith("_stag") for dim in field.dims)
