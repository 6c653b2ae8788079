"""Explained outputs in words: classes, regions, places and indices as people write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from geoxai.grid.boxes import REGIONS

_PROPER = {"el_nino": "El Niño", "la_nina": "La Niña"} | {name: box.title for name, box in REGIONS.items() if box.title}


def words(name: str) -> str:
    """A name of a class, a region or a key as people write it: ``El Niño``, ``Niño 3.4``, ``central pacific``."""
    return _PROPER.get(name) or name.replace("_", " ")


def lon_label(degrees: float) -> str:
    """``120°E``, ``180°``, ``120°W``, ``0°`` for any longitude on the circle."""
    value = round((degrees + 180) % 360 - 180, 4)
    if value in (0, -180):
        return f"{abs(value):g}°"
    return f"{abs(value):g}°{'E' if value > 0 else 'W'}"


def lat_label(degrees: float) -> str:
    """``30°S``, ``0°``, ``30°N``."""
    value = round(degrees, 4)
    return f"{abs(value):g}°{'' if value == 0 else 'N' if value > 0 else 'S'}"


def target_words(target: str) -> str:
    """An explained output as stores name it, in words.

    Examples
    --------
    >>> target_words('{"point": {"lat": 0.0, "lon": 220.0}}')
    '0°, 140°W'
    >>> target_words('{"box": "nino34", "channel": "rain"}')
    'rain, Niño 3.4'
    >>> target_words("[0, 128, 128]")
    'output (0, 128, 128)'
    >>> target_words("el_nino")
    'El Niño'
    """
    try:
        given = json.loads(target)
    except ValueError:
        return words(target)
    if isinstance(given, Mapping):
        return _place(given)
    if isinstance(given, list):
        return f"output ({', '.join(map(str, given))})"
    return words(given) if isinstance(given, str) else f"output {given}"


def _place(given: Mapping[str, Any]) -> str:
    parts = []
    if "channel" in given:
        channel = given["channel"]
        parts.append(words(channel) if isinstance(channel, str) else f"channel {channel}")
    if "point" in given:
        parts.append(f"{lat_label(given['point']['lat'])}, {lon_label(given['point']['lon'])}")
    elif "box" in given:
        box = given["box"]
        parts.append(words(box) if isinstance(box, str) else f"{_range(box['lat'], 0)}, {_range(box['lon'], 1)}")
    elif "polygon" in given:
        lat = given["polygon"]["lat"]
        parts.append(f"polygon of {len(lat)} corners, {_range([min(lat), max(lat)], 0)}")
    elif "mask" in given:
        parts.append(f"mask {given['mask']}")
    elif "pixels" in given:
        parts.append(f"pixels of {given['pixels']}")
    if "step" in given:
        parts.append(f"step {given['step']}")
    if given.get("reduce") == "sum":
        parts.append("summed")
    return ", ".join(parts)


def _range(ends: Sequence[float], axis: int) -> str:
    label = (lat_label, lon_label)[axis]
    return f"{label(ends[0])} to {label(ends[1])}"
