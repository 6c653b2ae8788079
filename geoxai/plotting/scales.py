"""Colour scales and contour levels that panels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

DIVERGING = "RdBu_r"
SEQUENTIAL = "YlOrRd"
ABSOLUTE = "viridis"
_DECIBELS = ("dbz", "db")
_TEMPERATURES = ("degc", "celsius", "degree_celsius", "degrees_celsius", "deg_c", "c", "degf", "k", "kelvin")
_DEPARTURES = (
    *("anomal", "departure", "deviation", "difference", "change", "trend", "tendency", "gradient", "sensitivity"),
    *("relevance", "contribution", "bias", "error", "increment", "minus"),
)
_ROBUST_PERCENT = 99.5


@dataclass(frozen=True)
class Scale:
    """The colours of all panels: limits, colour map, beyond which ends of the colour bar values go, and how far.

    ``clipped`` is a sentence about it; it is empty if colours show every value.
    """

    vmin: float
    vmax: float
    cmap: str
    extend: Literal["neither", "min", "max", "both"]
    clipped: str = ""


def color_scale(
    values: np.ndarray,
    limits: Literal["robust", "max"] = "robust",
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | None = None,
    absolute: bool = False,
) -> Scale:
    """One scale for all values: symmetric about 0 if they have both signs, else from the lowest to the highest.

    ``robust`` ends at the 99.5th percentile of the magnitudes that are not 0, ``max`` at the largest. Values of one
    sign begin at 0 unless all are far from it (temperatures in kelvin); the sign of values below a thousandth of the
    others does not count. ``vmin``, and ``absolute`` fields, for which 0 has no special meaning (temperatures
    in degC, dBZ), make any scale sequential.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low < 0 < high and min(-low, high) < 1e-3 * np.percentile(np.abs(finite[finite != 0]), _ROBUST_PERCENT):
        finite = finite[finite >= 0] if high > -low else finite[finite <= 0]
        low, high = float(finite.min()), float(finite.max())
    signed = vmin is None and low < 0 < high and not absolute
    top, bottom = high, low
    if limits == "robust" and finite[finite != 0].size:
        if signed:
            top = float(np.percentile(np.abs(finite[finite != 0]), _ROBUST_PERCENT))
        else:
            bottom, top = np.percentile(finite, [100 - _ROBUST_PERCENT, _ROBUST_PERCENT]).tolist()
            if 0 <= low < high / 2 and not absolute:
                top = float(np.percentile(finite[finite != 0], _ROBUST_PERCENT))
    elif signed:
        top = max(high, -low)
    if signed:
        top = top if vmax is None else vmax
        bottom = -top
    else:
        if 0 <= low < high / 2 and not absolute:
            bottom = 0.0
        elif low / 2 < high <= 0 and not absolute:
            top = 0.0
        bottom = bottom if vmin is None else vmin
        top = top if vmax is None else vmax
    if top <= bottom:
        top = bottom + (abs(bottom) or 1.0)
    slack = 1e-9 * (top - bottom)
    below, above = low < bottom - slack, high > top + slack
    extend: Literal["neither", "min", "max", "both"] = (
        "both" if below and above else "min" if below else "max" if above else "neither"
    )
    negative = not signed and vmin is None and high <= 0 and low < 0
    chosen = cmap or (DIVERGING if signed else f"{SEQUENTIAL}_r" if negative else SEQUENTIAL)
    chosen = cmap or (ABSOLUTE if absolute else chosen)
    robust = limits == "robust" and vmin is None and vmax is None
    return Scale(bottom, top, chosen, extend, _clipped(bottom, top, low, high, extend, robust))


def is_absolute(data: xr.DataArray) -> bool:
    """Whether 0 is an arbitrary point of a field's scale: temperatures and decibels, but not their anomalies."""
    units = str(data.attrs.get("units", "")).strip()
    if units.lower() in _DECIBELS:
        return "relevance" not in str(data.name) and not _is_departure(data)
    named = f"{data.attrs.get('standard_name', '')} {data.attrs.get('long_name', '')}".lower()
    return units.lower() in _TEMPERATURES and "temperature" in named and not _is_departure(data)


def _is_departure(data: xr.DataArray) -> bool:
    named = f"{data.name} {data.attrs.get('standard_name', '')} {data.attrs.get('long_name', '')}".lower()
    return any(word in named for word in _DEPARTURES)


def _clipped(bottom: float, top: float, low: float, high: float, extend: str, robust: bool) -> str:
    """Which values the colours do not distinguish, as a sentence."""
    if extend == "neither":
        return ""
    ends = f"±{_plain(top)}" if bottom == -top else f"{_plain(bottom)} and {_plain(top)}"
    which = f"the {_ROBUST_PERCENT:g}th percentile"
    if extend in ("min", "max") and bottom != -top:
        ends = _plain(bottom if extend == "min" else top)
        which = f"the {100 - _ROBUST_PERCENT:g}th percentile" if extend == "min" else which
    elif bottom != -top:
        which = f"the {100 - _ROBUST_PERCENT:g}th and the {_ROBUST_PERCENT:g}th percentile"
    beyond = {"min": f"values go down to {_plain(low)}", "max": f"values go up to {_plain(high)}"}
    words = beyond.get(extend) or f"values go from {_plain(low)} to {_plain(high)}"
    return f"Colours end at {ends}{', ' + which if robust else ''}; {words}."


def _plain(value: float) -> str:
    """A number to four digits as people write it: 5637, 0.0586; the very large and small with an exponent."""
    text = f"{value:.4g}" if not 1e4 <= abs(value) < 1e6 else f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def contour_levels(values: np.ndarray, levels: int | Sequence[float] = 6) -> np.ndarray:
    """Contour levels, ascending: those given, or up to that many round ones without 0; none if values do not vary."""
    finite = values[np.isfinite(values)]
    if not isinstance(levels, int):
        return np.unique(np.asarray(levels, dtype="float64"))
    if not finite.size or finite.min() == finite.max():
        return np.array([])
    low, high = float(finite.min()), float(finite.max())
    coarsest = 10.0 ** np.ceil(np.log10(high - low))
    found = np.array([(low + high) / 2])
    for step in coarsest * np.outer(10.0 ** -np.arange(4), [1, 0.5, 0.25, 0.2]).ravel():
        finer = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        finer = finer[(finer > low) & (finer < high) & ~np.isclose(finer, 0, atol=step / 2)]
        if len(finer) > levels:
            break
        found = finer if len(finer) else found
    return found
