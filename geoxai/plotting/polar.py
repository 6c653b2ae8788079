"""Maps seen from above a pole, for grids that go round it: equal-area, with the pole in the middle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle

from geoxai.grid.places import lat_label, lon_label
from geoxai.plotting.coastlines import coastlines_within
from geoxai.plotting.window import cells_east, cells_north

POLEWARD_OF = 40.0  # degrees: a grid round the globe that stays poleward of this is drawn from above its pole
_STRAIGHT = 3.0  # degrees of longitude that a straight line may cross


@dataclass(frozen=True)
class Polar:
    """A grid round a pole in Lambert's azimuthal equal-area projection, radius 1 at ``edge`` degrees of latitude.

    ``x_edges`` and ``y_edges`` (row + 1, column + 1) are the corners of cells; ``x_centres`` and ``y_centres`` their
    centres, closed to a ring. ``north`` says which pole, ``middle`` which meridian runs from it straight down (north)
    or up (south).
    """

    north: bool
    edge: float
    middle: float
    rows: np.ndarray
    columns: np.ndarray
    x_edges: np.ndarray
    y_edges: np.ndarray
    x_centres: np.ndarray
    y_centres: np.ndarray

    shape = 1.0

    def cells(self, field: np.ndarray) -> np.ndarray:
        """The values (lat, lon) of a field in the order of the corners."""
        return np.asarray(field, dtype="float64")[np.ix_(self.rows, self.columns)]

    def lines(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions and values of a field (lat, lon) at the centres of cells, the first column repeated at the end."""
        _, first = np.unique(self.columns, return_index=True)
        columns = self.columns[np.sort(first)]
        closed = np.append(columns, columns[0])
        return self.x_centres, self.y_centres, np.asarray(field, dtype="float64")[np.ix_(self.rows, closed)]

    def project(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions on the map, from degrees north and east."""
        beyond = np.sin(np.deg2rad(90 - abs(self.edge)) / 2)
        radius = np.sin(np.deg2rad(90 - lat if self.north else 90 + lat) / 2) / beyond
        angle = np.deg2rad(np.asarray(lon) - self.middle)
        return radius * np.sin(angle), radius * np.cos(angle) * (-1 if self.north else 1)


def polar_of(lat: xr.DataArray, lon: xr.DataArray, center_lon: float | str = "auto") -> Polar | None:
    """The polar map of a grid with one-dimensional ``lat`` and ``lon`` in degrees; None if it is not polar.

    ``center_lon`` is the meridian from the pole down (northern) or up (southern); ``auto`` is 0.
    """
    if lat.ndim != 1 or lat.size < 2 or lon.size < 4:
        return None
    columns, left, right = cells_east(lon)
    rows, bottom, top = cells_north(lat)
    north = bool(bottom[0] >= POLEWARD_OF)
    if right[-1] - left[0] < 360 - 1e-6 or not (north or top[-1] <= -POLEWARD_OF):
        return None
    middle = 0.0 if center_lon == "auto" else float(center_lon)
    empty = np.zeros((0, 0))
    edge = float(bottom[0] if north else top[-1])
    frame = Polar(north, edge, middle, rows, columns, empty, empty, empty, empty)
    pieces = int(np.ceil(np.max(right - left) / _STRAIGHT))
    cut = np.arange(pieces) / pieces
    edges = np.append((left[:, None] + (right - left)[:, None] * cut).ravel(), right[-1])
    x, y = frame.project(*np.meshgrid(np.append(bottom, top[-1]), edges, indexing="ij"))
    centres = (left + right) / 2
    centres = np.append(centres, centres[0] + 360)
    x_centres, y_centres = frame.project(*np.meshgrid((bottom + top) / 2, centres, indexing="ij"))
    return Polar(north, edge, middle, rows, np.repeat(columns, pieces), x, y, x_centres, y_centres)


def draw_polar_frame(axes: Axes, window: Polar, no_data: str) -> None:
    """Coastlines, parallels and meridians of one panel within a circle."""
    axes.set_xlim(-1.14, 1.14)
    axes.set_ylim(-1.14, 1.14)
    axes.set_aspect("equal")
    axes.set_axis_off()
    rim = Circle((0, 0), 1.0, facecolor=no_data, edgecolor="none", zorder=0)
    axes.add_patch(rim)
    south, north = (window.edge, 90.0) if window.north else (-90.0, window.edge)
    coast = [
        np.column_stack(window.project(line[:, 1], line[:, 0]))
        for line in coastlines_within((-180.0, 180.0, south, north), "50m")
    ]
    lines = LineCollection(coast, colors="0.15", linewidths=0.6, zorder=3)
    lines.set_gid("coastlines")
    axes.add_collection(lines, autolim=False)
    step = 10 if north - south <= 40 else 20
    parallels = [lat for lat in range(-80, 90, step) if south + 2 < lat < north - 2]
    for lat in parallels:
        radius = float(np.hypot(*window.project(np.array(float(lat)), np.array(0.0))))
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="0.4", linewidth=0.3, alpha=0.6, zorder=2))
        x, y = window.project(np.array(float(lat)), np.array(window.middle + 135))
        axes.text(float(x), float(y), lat_label(lat), fontsize=6, ha="center", va="center", zorder=5, color="0.2")
    for lon in range(-180, 180, 60):
        inner, outer = window.project(np.array([north, south] if window.north else [south, north]), np.full(2, lon))
        axes.plot(inner, outer, color="0.4", linewidth=0.3, alpha=0.6, zorder=2)
        x, y = inner[-1] * 1.08, outer[-1] * 1.08
        axes.text(float(x), float(y), lon_label(lon), fontsize=7, ha="center", va="center")
    axes.add_patch(Circle((0, 0), 1.0, fill=False, edgecolor="black", linewidth=0.6, zorder=4))
