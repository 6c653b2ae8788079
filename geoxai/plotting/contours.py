"""Contour lines over the panels of a figure, and their description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.transforms import Bbox

from geoxai.errors import OptionError
from geoxai.grid.coordinates import grid_difference
from geoxai.plotting.panels import Panels, with_positions
from geoxai.plotting.patches import Patches
from geoxai.plotting.polar import Polar
from geoxai.plotting.scales import contour_levels
from geoxai.plotting.titles import field_label
from geoxai.plotting.window import Curvilinear, Window

_HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.0, foreground="white")]
_ROOM = 1.5  # a line must be this many times as long as its label to carry one


@dataclass(frozen=True)
class Contours:
    """Contour lines over the panels: values (panel dims, y, x), shared levels, and their description."""

    values: np.ndarray
    levels: np.ndarray
    legend: str

    @classmethod
    def of(cls, contours: xr.DataArray, panels: Panels, levels: int | Sequence[float]) -> Contours:
        """The lines of a field over panels; if it lacks one of their dims, panels along it have the same lines."""
        label = field_label(contours)
        contours, space = with_positions(contours)
        extra = [d for d in contours.dims if d not in space and d not in panels.dims]
        if any(contours.sizes[d] > 1 for d in extra):
            raise OptionError(
                f"the contours have dims {', '.join(map(str, extra))}, which the panels do not have",
                fix="select one value of them",
                option="contours",
            )
        contours = contours.squeeze(extra, drop=True)
        difference = grid_difference(panels.data, contours)
        if difference is not None:
            raise OptionError(f"the contours are on a different grid from the field: {difference}", option="contours")
        along = [d for d in panels.dims if d in contours.dims]
        try:
            aligned = contours.sel(
                {d: panels.data[d] for d in along if d in contours.coords and d in panels.data.coords}
            )
        except KeyError as error:
            raise OptionError(
                f"the contours lack panels of the field along {', '.join(along)}: {error.args[0]}",
                fix="draw contours that have these panels, or select what both have",
                option="contours",
            ) from None
        shape = panels.data.isel(dict.fromkeys(space, 0))
        values = aligned.transpose(*along, *space).values
        for position, dim in enumerate(panels.dims):
            if dim not in along:
                values = np.expand_dims(values, position)
        values = np.broadcast_to(values, (*shape.shape, *values.shape[-2:]))
        found = contour_levels(values, levels)
        return cls(values, found, _legend(label, found))

    def draw(
        self, axes: Axes, window: Window | Curvilinear | Patches | Polar, index: tuple[int, ...], *, inline: bool
    ) -> None:
        """The lines of one panel, with their values on them where there is room."""
        x, y, found = window.lines(self.values[index])
        field = np.ma.masked_invalid(found)
        inside = self.levels[(self.levels >= field.min()) & (self.levels <= field.max())] if field.count() else []
        if len(inside) == 0 or min(field.shape) < 2:
            return
        drawn = axes.contour(
            x,
            y,
            field,
            levels=inside,
            colors="black",
            linewidths=0.8,
            linestyles=["dashed" if level < 0 else "solid" for level in inside],
            zorder=4,
        )
        if isinstance(window, Polar):
            drawn.set_clip_path(axes.patches[0])
        if inline:
            _label(axes, drawn)


def _label(axes: Axes, drawn: object) -> None:
    """Values on the lines, with a white halo; none on a line that is too short, or where it would cover another.

    Outer lines come first: they are long, and inner lines can be read from them.
    """
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = axes.clabel(drawn, fontsize=6, inline=False, fmt=number, zorder=6)  # type: ignore[arg-type]
    lengths = {}
    for level, path in zip(drawn.levels, drawn.get_paths()):  # type: ignore[attr-defined]
        pieces = [axes.transData.transform(piece) for piece in path.to_polygons(closed_only=False)]
        lengths[number(level)] = max((np.hypot(*np.diff(p, axis=0).T).sum() for p in pieces), default=0.0)
    shown: list[Bbox] = []
    for text in sorted(texts, key=lambda t: -lengths.get(t.get_text(), 0.0)):
        box = text.get_window_extent(renderer)
        too_short = lengths.get(text.get_text(), 0.0) < _ROOM * 2 * (box.width + box.height)
        frame = axes.get_window_extent(renderer)
        outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
        if too_short or outside or any(box.overlaps(other) for other in shown):
            text.remove()
            continue
        text.set_path_effects(_HALO)
        shown.append(box)


def _legend(label: str, levels: np.ndarray) -> str:
    if len(levels) == 0:
        return f"contours: {label} (none within the data)"
    listed = ", ".join(map(number, levels))
    return f"contours: {label} at {listed}{'; negative dashed' if (levels < 0).any() else ''}"


def number(value: float) -> str:
    """A number as short as it can be written, with a true minus sign."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
