"""The frame of a map panel: coastlines, degree ticks, and the position of panels on a page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from geoxai.grid.places import lat_label, lon_label
from geoxai.plotting.coastlines import Resolution, coastlines_within
from geoxai.plotting.window import Extent

_STEPS = (90, 60, 30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_LETTER = 0.062  # inches, of degree labels
_APART = 0.06  # inches between the labels of two panels
_FINE_BELOW = 70.0  # degrees of longitude: narrower maps use the 1:50 million coastline


@dataclass(frozen=True)
class Page:
    """Sizes in inches of a figure of equal panels, with a colour bar below them and ``notes`` below that.

    ``title`` and ``headings`` are the lines of text over the figure and over each panel.
    """

    rows: int
    columns: int
    panel_width: float
    panel_height: float
    title: int
    headings: int = 1
    notes: tuple[int, ...] = (1,)

    left = 0.55
    right = 0.3
    gap_x = 0.18
    bar_above_notes = 0.26
    bar_below_panels = 0.48
    line = 0.15

    @property
    def top(self) -> float:
        """Room above the panels."""
        return 0.12 + (0.12 + 0.18 * self.title if self.title else 0.0) + self.over_panel

    @property
    def over_panel(self) -> float:
        """Room for the heading of a panel."""
        return 0.1 + 0.14 * self.headings if self.headings else 0.0

    @property
    def gap_y(self) -> float:
        """Room between rows of panels."""
        return 0.1 + max(self.over_panel, 0.14)

    @property
    def bottom(self) -> float:
        """Room below the panels."""
        return 0.1 + sum(self.notes) * self.line + 0.05 * len(self.notes) + self.bar_above_notes + self.bar_below_panels

    @property
    def inner(self) -> float:
        """Width of all panels."""
        return self.columns * (self.panel_width + self.gap_x) - self.gap_x

    @property
    def width(self) -> float:
        return max(self.left + self.inner + self.right, 3.6)

    @property
    def height(self) -> float:
        return self.top + self.rows * (self.panel_height + self.gap_y) - self.gap_y + self.bottom

    @property
    def middle(self) -> float:
        """Middle of the panels in fractions of the width."""
        return (self.left + self.inner / 2) / self.width if self.width > 3.6 else 0.5

    def panel(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Position of a panel in fractions of the figure: left, bottom, width, height."""
        x = self.middle * self.width - self.inner / 2 + column * (self.panel_width + self.gap_x)
        y = self.height - self.top - (row + 1) * self.panel_height - row * self.gap_y
        return x / self.width, y / self.height, self.panel_width / self.width, self.panel_height / self.height

    def color_bar(self) -> tuple[float, float, float, float]:
        """Position of the colour bar in fractions of the figure."""
        length = min(max(self.inner * 0.6, 2.6), self.width - 0.8)
        y = self.bottom - self.bar_below_panels
        return self.middle - length / self.width / 2, y / self.height, length / self.width, 0.13 / self.height

    def note_heights(self) -> list[float]:
        """Top of each note in fractions of the figure."""
        y = self.bottom - self.bar_below_panels - self.bar_above_notes
        heights = []
        for lines in self.notes:
            heights.append(y / self.height)
            y -= lines * self.line + 0.05
        return heights


def draw_frame(axes: Axes, extent: Extent, page: Page, *, left: bool, bottom: bool, last: bool) -> None:
    """Coastlines, limits and degree ticks of one panel; labels only if ``left`` and ``bottom`` ask for them.

    A label at a side that would collide with that of the next panel is left out; the ``last`` has no right neighbour.
    """
    west, east, south, north = extent
    width = page.panel_width
    resolution: Resolution = "50m" if east - west < _FINE_BELOW else "110m"
    lines = LineCollection(coastlines_within(extent, resolution), colors="0.15", linewidths=0.6, zorder=3)
    lines.set_gid("coastlines")
    axes.add_collection(lines, autolim=False)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    x_ticks = ticks(west, east, max(2, int(width / 0.62)))
    y_ticks = ticks(south, north, max(2, int(page.panel_height / 0.3)))
    names = [lon_label(x) for x in x_ticks]
    for place, (x, name) in enumerate(zip(x_ticks, names)):
        to_side = (east - x) / (east - west) * width
        if not last and len(name) * _LETTER / 2 > to_side + page.gap_x / 2 - _APART / 2:
            names[place] = ""
        to_side = (x - west) / (east - west) * width
        if not left and len(name) * _LETTER / 2 > to_side + page.gap_x / 2 - _APART / 2:
            names[place] = ""
    axes.set_xticks(x_ticks, names if bottom else [""] * len(x_ticks))
    axes.set_yticks(y_ticks, [lat_label(y) for y in y_ticks] if left else [""] * len(y_ticks))
    axes.tick_params(labelsize=7, length=2.5, width=0.6, color="0.3")
    axes.grid(color="0.4", linewidth=0.3, alpha=0.4, zorder=2)
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)


def ticks(low: float, high: float, most: int) -> np.ndarray:
    """Round degrees within [low, high], as many as possible up to ``most``; at least one."""
    best = np.array([round((low + high) / 2, 3)])
    for step in _STEPS:
        found = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
        if len(found) > most:
            break
        if len(found):
            best = found
    return best
