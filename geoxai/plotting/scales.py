"""Colour scales and contour levels that panels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DIVERGING = "RdBu_r"
SEQUENTIAL = "YlOrRd"
_ROBUST_PERCENT = 99.5


@dataclass(frozen=True)
class Scale:
    """The colours of all panels: limits, colour map, and which ends of the colour bar values go beyond."""

    vmin: float
    vmax: float
    cmap: str
    extend: Literal["neither", "min", "max", "both"]


def color_scale(
    values: np.ndarray,
    limits: Literal["robust", "max"] = "robust",
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | None = None,
) -> Scale:
    """One scale for all values: symmetric about 0 where they have both signs, else from one end to the other.

    ``robust`` ends at the 99.5th percentile of the magnitudes that are not 0, ``max`` at the largest. Values of one
    sign begin at 0 unless all lie far from it (temperatures in kelvin); ``vmin`` makes any scale a sequential one.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    signed = vmin is None and low < 0 < high
    top, bottom = high, low
    if limits == "robust" and finite[finite != 0].size:
        if signed:
            top = float(np.percentile(np.abs(finite[finite != 0]), _ROBUST_PERCENT))
        else:
            bottom, top = np.percentile(finite, [100 - _ROBUST_PERCENT, _ROBUST_PERCENT]).tolist()
            if 0 <= low < high / 2:
                top = float(np.percentile(finite[finite != 0], _ROBUST_PERCENT))
    elif signed:
        top = max(high, -low)
    if signed:
        top = top if vmax is None else vmax
        bottom = -top
    else:
        if 0 <= low < high / 2:
            bottom = 0.0
        elif low / 2 < high <= 0:
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
    return Scale(bottom, top, chosen, extend)


def contour_levels(values: np.ndarray, levels: int | Sequence[float] = 6) -> np.ndarray:
    """Contour levels, ascending: those given, or up to so many round ones without 0; none where values do not vary."""
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
