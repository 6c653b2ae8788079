"""Whether numbers can be the latitudes and longitudes of a grid; longitudes in a single convention."""

from __future__ import annotations

import numpy as np

from geoxai.errors import GeoxaiError

POLE = 90 + 1e-4
"""Latitudes beyond this are wrong; slightly beyond 90 is rounding in single precision."""

# Longitudes between these are left as written: files that begin at 30 or at -280 are common.
_WEST, _EAST = -360.0, 540.0
# Two columns closer than this are the same meridian.
_SAME = 1e-6


def check_latitudes(lat: np.ndarray, lon: np.ndarray | None = None) -> None:
    """Refuse latitudes beyond a pole; NaN is ignored. ``lon`` is only used for the advice."""
    beyond = np.abs(lat) > POLE
    if not beyond.any():
        return
    swapped = lon is not None and bool((np.abs(lon) <= POLE).all())
    raise GeoxaiError(
        f"{int(beyond.sum())} of {lat.size} latitudes lie beyond the poles; they run from {np.nanmin(lat):g} to "
        f"{np.nanmax(lat):g}",
        fix="latitude and longitude seem to be swapped; rename them"
        if swapped
        else "correct the latitudes, in degrees from -90 to 90",
    )


def tidy_longitudes(lon: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Longitudes of columns in a single convention, and a note on what was changed, or None.

    Parameters
    ----------
    lon
        ``(column,)``, in degrees east, going round the globe at most once, eastwards or westwards.

    Kept as they are: 0..360 and -180..180, also with the seam inside the grid (0 to 175, then -180 to -5), and any
    sequence without a jump between -360 and 540. Mixtures such as 0, 90, 200, -100 and values beyond become 0..360.

    Raises ``GeoxaiError`` if a meridian occurs twice, or the columns do not follow each other around the globe.
    """
    values = lon.astype(float)
    _refuse_doubled(values)
    if values.size > 1:
        _refuse_disorder(values)
    low, high = values.min(), values.max()
    steps = np.diff(values)
    runs_on = bool((steps > 0).all() or (steps < 0).all()) and high - low < 360
    if (runs_on and low >= _WEST and high <= _EAST) or (low >= 0 and high <= 360) or (low >= -180 and high <= 180):
        return lon, None
    moved = np.round(np.mod(values, 360), 10) % 360
    what = "are whole turns away" if runs_on else "mix conventions"
    return moved, f"longitudes {low:g} to {high:g} {what}; they become 0..360"


def _refuse_doubled(values: np.ndarray) -> None:
    """Refuse two columns on the same meridian."""
    wrapped = np.mod(values, 360)
    order = np.argsort(wrapped, kind="stable")
    axis = np.append(wrapped[order], wrapped[order[0]] + 360)
    close = np.flatnonzero(np.diff(axis) < _SAME)
    if values.size == 1 or not close.size:
        return
    first, second = sorted((order[close[0]], order[(close[0] + 1) % values.size]))
    turn = " (they cover more than a whole turn)" if np.ptp(values) > 360 else ""
    raise GeoxaiError(
        f"columns {first + 1} and {second + 1} of {values.size} are both at longitude {values[first]:g}"
        + (f", written {values[first]:g} and {values[second]:g}{turn}" if values[first] != values[second] else ""),
        fix="keep each meridian only once",
    )


def _refuse_disorder(values: np.ndarray) -> None:
    """Refuse columns that do not follow each other around the globe."""
    steps = np.mod(np.diff(values), 360)  # eastward
    if steps.sum() < 360 - _SAME or (360 - steps).sum() < 360 - _SAME:
        return
    eastwards = np.median(steps) < 180
    back = np.flatnonzero(steps >= 180 if eastwards else steps < 180)
    at = int(back[0]) if back.size else int(np.argmax(steps if eastwards else 360 - steps))
    raise GeoxaiError(
        f"longitudes do not follow each other around the globe: {values[at + 1]:g} comes after {values[at]:g} at "
        f"column {at + 2} of {values.size}",
        fix="sort the file along longitude",
    )
