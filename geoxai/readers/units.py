"""Units: a small set of known conversions, and a clear error for all others."""

from __future__ import annotations

import re
from typing import Any

import xarray as xr

from geoxai.errors import OptionError
from geoxai.names import closest

# A value times the first number plus the second is the value in the base unit of its family.
_FAMILIES: dict[str, dict[str, tuple[float, float]]] = {
    "temperature": {"K": (1, 0), "degC": (1, 273.15), "degF": (5 / 9, 459.67 * 5 / 9)},
    "pressure": {"Pa": (1, 0), "hPa": (100, 0), "kPa": (1000, 0)},
    "length": {"m": (1, 0), "mm": (1e-3, 0), "cm": (1e-2, 0), "km": (1e3, 0)},
    "water column": {"kg m-2": (1, 0), "mm": (1, 0), "cm": (10, 0), "m": (1000, 0)},
    "water flux": {
        "kg m-2 s-1": (1, 0),
        "mm s-1": (1, 0),
        "mm h-1": (1 / 3600, 0),
        "mm day-1": (1 / 86400, 0),
        "kg m-2 day-1": (1 / 86400, 0),
    },
    "speed": {"m s-1": (1, 0), "km h-1": (1 / 3.6, 0), "knot": (1852 / 3600, 0)},
    "fraction": {"1": (1, 0), "%": (1e-2, 0), "kg kg-1": (1, 0), "g kg-1": (1e-3, 0)},
    "angle": {"degree": (1, 0), "radian": (57.29577951308232, 0)},
}

_SPELLINGS = {
    "kelvin": "K", "kelvins": "K", "k": "K", "degk": "K", "deg_k": "K", "degree_k": "K", "degrees_k": "K",
    "degree_kelvin": "K", "degrees_kelvin": "K",
    "c": "degC", "degc": "degC", "deg_c": "degC", "deg c": "degC", "°c": "degC", "celsius": "degC",
    "degree_c": "degC", "degrees_c": "degC", "degree_celsius": "degC", "degrees_celsius": "degC",
    "degree celsius": "degC", "degrees celsius": "degC", "degree c": "degC", "degrees c": "degC",
    "f": "degF", "degf": "degF", "deg_f": "degF", "°f": "degF", "fahrenheit": "degF", "degree_fahrenheit": "degF",
    "pa": "Pa", "pascal": "Pa", "hpa": "hPa", "mb": "hPa", "mbar": "hPa", "millibar": "hPa", "millibars": "hPa",
    "kpa": "kPa", "meter": "m", "meters": "m", "metre": "m", "metres": "m", "millimeter": "mm", "millimeters": "mm",
    "percent": "%", "fraction": "1", "(0 - 1)": "1", "none": "1", "dimensionless": "1", "knots": "knot", "kt": "knot",
    "degrees": "degree", "radians": "radian", "rad": "radian",
    "mm d-1": "mm day-1", "mm hr-1": "mm h-1", "mm hour-1": "mm h-1", "mm sec-1": "mm s-1", "m sec-1": "m s-1",
    "kg m-2 d-1": "kg m-2 day-1", "km hr-1": "km h-1",
}  # fmt: skip

_KNOWN = sorted({unit for family in _FAMILIES.values() for unit in family})


def canonical_unit(text: str) -> str:
    """The canonical spelling of a unit (``degrees_C`` is ``degC``, ``m/s`` and ``m s**-1`` are ``m s-1``)."""
    plain = re.sub(r"\s+", " ", text.strip().replace("**", "").replace("^", ""))
    plain = re.sub(r"(?<=[a-zA-Z0-9])[.*](?=[a-zA-Z])", " ", plain)
    head, *divisors = plain.split("/")
    if divisors and all(re.fullmatch(r"\s*[a-zA-Z]+\d?\s*", divisor) for divisor in divisors):
        parts = [re.fullmatch(r"([a-zA-Z]+)(\d?)", divisor.strip()) for divisor in divisors]
        plain = " ".join([head.strip(), *(f"{part[1]}-{part[2] or 1}" for part in parts if part)])
    return _SPELLINGS.get(plain.lower(), plain)


def differ(one: str, other: str) -> bool:
    """Whether two units are both known and differ, however they are spelled; 1 may mean an unknown unit."""
    known = one not in ("", "1") and other not in ("", "1")
    return known and canonical_unit(one) != canonical_unit(other)


def conversion(have: str, want: str) -> tuple[float, float] | None:
    """Factor and offset that take values from one unit to another, or None if no conversion is known."""
    have, want = canonical_unit(have), canonical_unit(want)
    if have == want:
        return 1.0, 0.0
    for family in _FAMILIES.values():
        if have in family and want in family:
            (factor, offset), (to_factor, to_offset) = family[have], family[want]
            return factor / to_factor, (offset - to_offset) / to_factor
    return None


def is_difference(attrs: dict[Any, Any]) -> bool:
    """Whether a variable is marked as an anomaly: differences are converted without the offset between the scales."""
    return any("anomal" in str(attrs.get(key, "")).lower() for key in ("standard_name", "long_name", "cell_methods"))


def to_units(
    da: xr.DataArray, want: str, have: str, *, difference: bool | None = None, option: str | None = None
) -> xr.DataArray:
    """The field in another unit, lazily.

    Parameters
    ----------
    da
        Any field.
    want, have
        The unit wanted and the one the values are in. ``units`` of the result is spelled as in ``want``.
    difference
        Whether the values are differences (1 K is 1 degC); None: if the field is marked as an anomaly.
    option
        Option to blame in the ``OptionError`` raised if the conversion is unknown.
    """
    change = conversion(have, want)
    if change is None:
        near = closest(want, [*_KNOWN, *_SPELLINGS])
        hint = near and canonical_unit(near)
        meant = closest(have, [*_KNOWN, *_SPELLINGS]) if canonical_unit(have) not in _KNOWN else None
        meant = canonical_unit(meant) if meant and conversion(meant, want) else None
        instead = f"if that means {meant!r}, say file_units: {meant}" if meant else f"ask for {have!r}"
        raise OptionError(
            f"variable {da.name!r} is in {have!r} and no conversion to {want!r} is known"
            + (f"; did you mean {hint!r}?" if hint and conversion(have, hint) else ""),
            fix=f"{instead}, or convert the file; units that convert: {', '.join(_KNOWN)}",
            option=option,
        )
    factor, offset = change
    if is_difference(da.attrs) if difference is None else difference:
        offset = 0.0
    attrs = {**da.attrs, "units": want}
    if factor != 1.0:
        da = da * factor
    if offset != 0.0:
        da = da + offset
    return da.assign_attrs(attrs)
