"""Text on a figure, taken from coordinates and attributes."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np
import xarray as xr

from geoxai.grid.places import target_words, words
from geoxai.grid.time import TimeResolution, resolution

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def field_label(data: xr.DataArray) -> str:
    """The name of a field with its units: ``sea surface temperature (degC)``; without units if they are 1.

    Inputs of a network may have their units per channel, in a coordinate ``units``.
    """
    name = data.attrs.get("long_name") or str(data.name or "").replace("_", " ")
    units = data.attrs.get("units")
    if units is None and "units" in data.coords and str(data.name).startswith("inputs"):
        each = {str(one) for one in data["units"].values.ravel()}
        units = each.pop() if len(each) == 1 else None
    return f"{name} ({units})" if units not in (None, "", "1") else str(name)


def panel_titles(data: xr.DataArray, dims: tuple[str, ...]) -> list[str]:
    """A title for each panel, last dim fastest: its letter, the values of its coordinates, and the number of cases it
    shows (coordinates ``n`` and ``events`` along the dims of the panels).
    """
    titles = []
    for number, index in enumerate(np.ndindex(*(data.sizes[d] for d in dims))):
        at = dict(zip(dims, index))
        parts = [_along(data, dim, place) for dim, place in at.items()]
        for name in ("n", "events"):
            counts = data.coords.get(name)
            if counts is not None and set(counts.dims) <= set(dims):
                parts.append(_count(counts.isel({d: at[str(d)] for d in counts.dims})))
        titles.append(", ".join(parts))
        if np.prod([data.sizes[d] for d in dims]) > 1:
            titles[-1] = f"({_letter(number)}) {titles[-1]}"
    return titles


def scalar_title(data: xr.DataArray) -> str:
    """The title of a single panel: what was selected to get it."""
    parts = []
    for name, coordinate in data.coords.items():
        if coordinate.ndim or name in ("lat", "lon", "n", "events", "units"):
            continue
        dated = coordinate.dtype.kind == "M" or hasattr(coordinate.values[()], "calendar")
        if dated and name != "time":  # such as the start of a forecast: one date is enough
            continue
        if coordinate.dtype.kind in "OUTM" or name in ("sample", "network", "member"):
            parts.append(_value(coordinate, coordinate.values[()]))
    for name in ("n", "events"):
        counts = data.coords.get(name)
        if counts is not None and not counts.dims:
            parts.append(_count(counts))
    return ", ".join(parts)


def selection_title(data: xr.DataArray, dims: Sequence[str]) -> str:
    """What was selected along dims that the data no longer have: a date if samples have one, else the value."""
    names = ["time" if dim == "sample" and "time" in data.coords else dim for dim in dims]
    return ", ".join(_value(data[name], data[name].values[()]) for name in names if name in data.coords)


def date_words(value: Any, to: TimeResolution) -> str:
    """A date to the resolution of the data: ``1998``, ``May 1998``, ``3 May 1998``, ``3 May 1998 12:00``."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if to == "year":
        return str(value.year)
    month = f"{_MONTHS[value.month - 1]} {value.year}"
    if to == "month":
        return month
    return f"{value.day} {month}" if to == "day" else f"{value.day} {month} {value.hour:02d}:{value.minute:02d}"


def _letter(number: int) -> str:
    turn, place = divmod(number, len(ascii_lowercase))
    return (ascii_lowercase[turn - 1] if turn else "") + ascii_lowercase[place]


def _along(data: xr.DataArray, dim: str, place: int) -> str:
    time = data.coords.get("time")
    if dim == "sample" and time is not None and time.dims == (dim,):  # a date says more than a number
        return _value(time, time.values[place])
    if dim in data.coords:
        return _value(data[dim], data[dim].values[place])
    return f"{dim} {place}"


def _count(count: xr.DataArray) -> str:
    """``n = 74``, ``n = 74 to 75`` over networks, ``6 events``."""
    value = count.item()
    if count.name == "events":
        return f"{value} event{'' if value == 1 else 's'}"
    return f"n = {value}"


def _value(coordinate: xr.DataArray, value: Any) -> str:
    name = str(coordinate.name)
    if isinstance(value, str):
        return target_words(value) if name == "target" else words(value)
    if isinstance(value, np.datetime64 | datetime.datetime) or hasattr(value, "calendar"):
        return date_words(value, coordinate.attrs.get("resolution") or resolution(coordinate))
    if isinstance(value, float | np.floating):
        return f"{name} {value:g}"
    return f"{name} {value}"
