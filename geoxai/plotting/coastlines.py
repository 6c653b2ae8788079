"""Coastlines that ship with the package: Natural Earth, never downloaded while drawing (see NOTICE)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np

Resolution = Literal["110m", "50m"]


@cache
def coastlines(resolution: Resolution = "110m") -> tuple[np.ndarray, ...]:
    """The coastlines of the world as read-only arrays (point, 2) of degrees east (-180 to 180) and degrees north.

    ``110m`` and ``50m`` are the map scales of Natural Earth, 1:110 and 1:50 million.
    """
    with (
        (files("geoxai.plotting") / "data" / f"coast_{resolution}.npz").open("rb") as stream,
        np.load(stream) as stored,
    ):
        points, lengths = stored["points"].astype("float64"), stored["lengths"]
    points.flags.writeable = False
    return tuple(np.split(points, np.cumsum(lengths)[:-1]))


def coastlines_within(extent: tuple[float, float, float, float], resolution: Resolution = "110m") -> list[np.ndarray]:
    """The coastlines that touch ``extent`` (west, east, south, north), in its longitudes, clipped at its four sides.

    ``extent`` may be anywhere on the circle and up to 360 degrees wide: (120, 480, -90, 90) is the world seen from
    120 E on. No line runs across the map where the coast crosses its seam.
    """
    west, east, south, north = extent
    lines = []
    for line in coastlines(resolution):
        for turn in range(int(np.floor((west - 180) / 360)), int(np.ceil((east + 180) / 360)) + 1):
            shifted = line + np.array([360.0 * turn, 0.0])
            (left, bottom), (right, top) = shifted.min(axis=0), shifted.max(axis=0)
            if right < west or left > east or top < south or bottom > north:
                continue
            pieces = [shifted]
            for axis, low, high in ((0, west, east), (1, south, north)):
                pieces = [part for piece in pieces for part in _between(piece, axis, low, high)]
            lines += pieces
    return lines


def on_land(lat: np.ndarray, lon: np.ndarray, resolution: Resolution = "110m") -> np.ndarray:
    """Which points of a grid lie on land, (lat, lon) bool: those an odd number of coasts away from the north pole.

    Lakes that Natural Earth leaves out of its land, such as the Caspian Sea, are water.
    """
    meridians = (
        (np.asarray(lon, dtype="float64") + 180) % 360 - 180 + 1e-6
    )  # off the vertices, which sit on round values
    crossings = np.zeros((len(lat), len(meridians)), dtype=int)
    for line in coastlines(resolution):
        x, y = line.T
        step, meridian = np.nonzero((x[:-1, None] <= meridians) != (x[1:, None] <= meridians))
        share = (meridians[meridian] - x[step]) / (x[step + 1] - x[step])
        at = y[step] + share * (y[step + 1] - y[step])
        for column, crossed in zip(meridian, at):
            crossings[:, column] += crossed > np.asarray(lat)
    return crossings % 2 == 1


def _between(line: np.ndarray, axis: int, low: float, high: float) -> list[np.ndarray]:
    """The parts of a line whose coordinate ``axis`` lies in [low, high], with new points where it is cut."""
    values = line[:, axis]
    if low <= values.min() and values.max() <= high:
        return [line]
    starts, steps = line[:-1], np.diff(line, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_low, to_high = (low - starts[:, axis]) / steps[:, axis], (high - starts[:, axis]) / steps[:, axis]
    flat = steps[:, axis] == 0
    inside = (starts[:, axis] >= low) & (starts[:, axis] <= high)
    enter = np.where(flat, np.where(inside, 0.0, 2.0), np.clip(np.fmin(to_low, to_high), 0, None))
    leave = np.where(flat, np.where(inside, 1.0, -1.0), np.clip(np.fmax(to_low, to_high), None, 1))
    pieces: list[list[np.ndarray]] = []
    joined = False
    for start, step, first, last in zip(starts, steps, enter, leave):
        if first >= last:
            joined = False
            continue
        if not joined or first > 0:
            pieces.append([start + first * step])
        pieces[-1].append(start + last * step)
        joined = last == 1
    return [np.array(piece) for piece in pieces]
