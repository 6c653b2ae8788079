"""Words on a figure, taken from coordinates and attributes."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geoxai.grid.boxes import REGIONS

_PROPER = {"el_nino": "El Niño", "la_nina": "La Niña"} | {name: box.title for name, box in REGIONS.items() if box.title}


def words(name: str) -> str:
    """A name of a class, a region or a key as people write it: ``El Niño``, ``Nino 3.4``, ``central pacific``."""
    return _PROPER.get(name) or name.replace("_", " ")


def field_label(data: xr.DataArray) -> str:
    """What a field is, with its units: ``sea surface temperature (degC)``; nothing where they are 1.

    Inputs of a network may have their units per channel, in a coordinate ``units``.
    """
    name = data.attrs.get("long_name") or str(data.name or "").replace("_", " ")
    units = data.attrs.get("units")
    if units is None and "units" in data.coords and str(data.name).startswith("inputs"):
        each = {str(one) for one in data["units"].values.ravel()}
        units = each.pop() if len(each) == 1 else None
    return f"{name} ({units})" if units not in (None, "", "1") else str(name)


def panel_titles(data: xr.DataArray, dims: tuple[str, ...]) -> list[str]:
    """A title for each panel, last dim fastest: the values of its coordinates, how many cases it stands for, and of how
    many events.
    """
    titles = []
    for index in np.ndindex(*(data.sizes[d] for d in dims)):
        at = dict(zip(dims, index))
        parts = [_along(data, dim, place) for dim, place in at.items()]
        parts += [
            tell(data.coords[name].isel({d: at[str(d)] for d in data.coords[name].dims}))
            for name, tell in _COUNTS.items()
            if name in data.coords and set(data.coords[name].dims) <= set(dims)
        ]
        titles.append(", ".join(parts))
    return titles


def scalar_title(data: xr.DataArray) -> str:
    """The title of a single panel: what was selected to get it."""
    parts = []
    for name, coordinate in data.coords.items():
        if coordinate.ndim or name in ("lat", "lon", "units", *_COUNTS):
            continue
        dated = coordinate.dtype.kind == "M" or hasattr(coordinate.values[()], "calendar")
        if dated and name != "time":  # such as the start of a forecast: one date says when
            continue
        if coordinate.dtype.kind in "OUTM" or name in ("sample", "network", "member"):
            parts.append(_value(str(name), coordinate.values[()]))
    counts = [tell(data[name]) for name, tell in _COUNTS.items() if name in data.coords and not data[name].dims]
    return ", ".join([*parts, *counts][: 4 + len(counts)])


def selection_title(data: xr.DataArray, dims: Sequence[str]) -> str:
    """What was selected along dims that the data no longer have: a date where samples have one, else the value."""
    names = ["time" if dim == "sample" and "time" in data.coords else dim for dim in dims]
    return ", ".join(_value(name, data[name].values[()]) for name in names if name in data.coords)


def _along(data: xr.DataArray, dim: str, place: int) -> str:
    time = data.coords.get("time")
    if dim == "sample" and time is not None and time.dims == (dim,):  # a date says more than a number
        return _value("time", time.values[place])
    if dim in data.coords:
        return _value(dim, data[dim].values[place])
    return f"{dim} {place}"


def _cases(count: xr.DataArray) -> str:
    return f"n = {count.item()}"


def _events(count: xr.DataArray) -> str:
    number = count.item()
    return f"{number} event{'' if number == 1 else 's'}"


def _value(name: str, value: Any) -> str:
    if isinstance(value, str):
        return words(value)
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime.datetime) or hasattr(value, "calendar"):
        day = f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
        return day if (value.hour, value.minute) == (0, 0) else f"{day} {value.hour:02d}:{value.minute:02d}"
    if isinstance(value, float | np.floating):
        return f"{name} {value:g}"
    return f"{name} {value}"


_COUNTS: dict[str, Callable[[xr.DataArray], str]] = {"n": _cases, "events": _events}
