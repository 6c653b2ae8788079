"""Maps of any field with lat and lon, on coastlines, as panels that share one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import IO, Any, Literal

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from geoxai.errors import OptionError
from geoxai.plotting.contours import Contours
from geoxai.plotting.frame import Page, draw_frame
from geoxai.plotting.panels import Panels
from geoxai.plotting.patches import Patches, patches_of
from geoxai.plotting.polar import Polar, draw_polar_frame, polar_of
from geoxai.plotting.scales import Scale, color_scale, is_absolute
from geoxai.plotting.titles import field_label
from geoxai.plotting.window import Curvilinear, Extent, Window, curvilinear_window, window_of

NO_DATA = "0.82"
_RASTER_CELLS = 20_000  # larger meshes are drawn as pixels, not paths, in a PDF
_LISTED = 8  # panels that the notes name one by one

MapWindow = Window | Curvilinear | Patches | Polar
Projection = Literal["auto", "plate_carree", "polar"]


class MapFigure(Figure):
    """A figure that is displayed in a notebook without pyplot and its global state.

    ``notes`` are its sentences for a caption: what its panels, contours and colours show.
    """

    notes: tuple[str, ...] = ()

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def plot_maps(
    data: xr.DataArray,
    *,
    panels: str | Sequence[str] | None = None,
    contours: xr.DataArray | None = None,
    levels: int | Sequence[float] = 6,
    projection: Projection = "auto",
    center_lon: float | Literal["auto"] = "auto",
    extent: Extent | None = None,
    limits: Literal["robust", "max"] = "robust",
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | None = None,
    mask: xr.DataArray | None = None,
    title: str | None = None,
    label: str | None = None,
    columns: int | None = None,
    narrow: bool = False,
) -> MapFigure:
    """Draw a field as maps with coastlines, one panel per value of one or two dims.

    Parameters
    ----------
    data
        Dims ``lat`` and ``lon`` (or ``y`` and ``x`` with two-dimensional ``lat`` and ``lon``) and up to two more
        with several values. Latitudes may run either way and longitudes may follow any convention. NaN is drawn grey.
        Coordinates ``n`` and ``events`` along panel dims are shown as the numbers of cases behind a panel.
    panels
        The dim of the panels, or (rows, columns); None takes every dim but lat and lon.
    contours
        A field drawn as contour lines over the panels; its dims besides lat and lon are among the panel dims. Negative
        levels are dashed. ``levels`` gives the levels, or the maximum number of round ones.
    projection
        ``auto`` is ``polar`` (Lambert's azimuthal equal-area) for grids that go round a pole and stay poleward of 40
        degrees, else plate carree.
    center_lon
        Longitude in the middle of a map that goes round the globe; ``auto`` is 180, of polar maps 0. A regional field
        is shown whole.
    extent
        (west, east, south, north) in degrees to show instead of the whole field.
    limits, vmin, vmax, cmap
        Colours, shared by all panels: symmetric about 0 for a field of both signs, else sequential; up to the 99.5th
        percentile (``robust``) or the largest value (``max``) unless set. ``vmin`` makes any scale a sequential one,
        and so do temperatures that are not anomalies, and decibels.
    mask
        Only cells where it is true are drawn; the others are grey.
    title, label
        Text above the figure, and at the colour bar (default: ``long_name`` and ``units`` of the data).
    columns
        Panels side by side. Default: from the second of two dims, or such that the figure is neither strip nor tower.
    narrow
        For a phone: one panel below the other, none wider than 3.3 inches.

    Raises
    ------
    OptionError
        The field has no lat and lon, a dim is unknown or left over, there are more than 60 panels, or ``polar`` is
        asked for on a grid that does not go round a pole.
    """
    chosen = Panels.of(data if mask is None else data.where(mask), panels)
    window = _window(chosen.data, projection, center_lon, extent)
    values = chosen.data.values
    scale = color_scale(values, limits, vmin, vmax, cmap, absolute=is_absolute(data))
    lines = None if contours is None else Contours.of(contours, chosen, levels)
    below = [label if label is not None else field_label(data), *([lines.legend] if lines is not None else [])]
    rows, across = _grid_of(chosen, 1 if narrow else columns, window.shape)
    headings = chosen.titles()
    page, headings, title, below = _page(rows, across, window.shape, title, headings, below, 3.3 if narrow else 6.6)

    figure = MapFigure(figsize=(page.width, page.height), facecolor="white")
    FigureCanvasAgg(figure)
    norm = Normalize(scale.vmin, scale.vmax)
    for number, (index, heading) in enumerate(zip(chosen.indices(), headings)):
        row, column = divmod(number, across)
        axes = figure.add_axes(page.panel(row, column))
        bottom = number + across >= chosen.count
        _draw_frame(axes, window, page, left=column == 0, bottom=bottom, last=column == across - 1)
        _draw_cells(axes, window, values[index], scale, norm)
        if lines is not None:
            lines.draw(axes, window, index, inline=chosen.count <= 6)
        axes.set_title(heading, fontsize=8.5, pad=4)
    _draw_key(figure, page, scale, norm, below)
    if title is not None:
        figure.suptitle(title, fontsize=10.5, y=1 - 0.12 / page.height, va="top")
    figure.notes = _notes(chosen, lines, scale, values)
    return figure


def save_figure(figure: Figure, target: Path | IO[bytes], kind: Literal["png", "pdf"] = "png", dpi: int = 150) -> None:
    """Write a figure with no date or version in it: equal figures are equal files."""
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None}
    figure.savefig(target, format=kind, dpi=dpi, metadata=metadata)


def _window(
    data: xr.DataArray, projection: Projection, center_lon: float | Literal["auto"], extent: Extent | None
) -> MapWindow:
    polar = None
    if projection == "polar" or (projection == "auto" and extent is None):
        polar = polar_of(data["lat"], data["lon"], center_lon)
    if polar is not None:
        return polar
    if projection == "polar":
        raise OptionError(
            "a polar map needs a grid with one-dimensional lat and lon that goes round a pole and stays poleward of "
            "40 degrees",
            fix="cut the grid at 40 degrees or beyond, or leave out projection",
            option="projection",
        )
    if data["lat"].ndim == 2:
        found = curvilinear_window(data["lat"], data["lon"], extent)
        return found if found is not None else patches_of(data["lat"], data["lon"], center_lon, extent)
    return window_of(data["lat"], data["lon"], center_lon, extent)


def _grid_of(panels: Panels, columns: int | None, shape: float) -> tuple[int, int]:
    """Rows and columns of panels: given by the two dims, or such that the figure is neither a strip nor a tower."""
    if columns is None and len(panels.dims) == 2:
        return panels.shape[0], panels.shape[1]
    if columns is None and shape < 1 / 3:
        columns = 1 if panels.count <= 4 else 2 if panels.count <= 12 else 4
    elif columns is None:
        columns = 2 if panels.count in (2, 4) else 3 if panels.count <= 12 else 4
    columns = max(1, min(columns, panels.count))
    return -(-panels.count // columns), columns


def _page(
    rows: int, columns: int, shape: float, title: str | None, headings: list[str], below: list[str], most: float
) -> tuple[Page, list[str], str | None, list[str]]:
    """The page, with headings, title and the notes below wrapped to its width."""
    width = {1: 6.6, 2: 4.3, 3: 3.3}.get(columns, 2.6)
    width = min(max(min(width, {1: 5.6}.get(rows, 4.2) / shape), 1.6), most)
    page = Page(rows, columns, width, width * shape, 0)
    headings = [_wrapped(heading, width, 8.5) for heading in headings]
    title = None if title is None else _wrapped(title, page.width, 10.5)
    below = [_wrapped(note, page.width, 8.5) for note in below]
    tallest = max((heading.count("\n") + 1 for heading in headings if heading), default=0)
    lines = tuple(note.count("\n") + 1 for note in below)
    page = replace(page, title=0 if title is None else title.count("\n") + 1, headings=tallest, notes=lines)
    return page, headings, title, below


def _draw_frame(axes: Axes, window: MapWindow, page: Page, *, left: bool, bottom: bool, last: bool) -> None:
    if isinstance(window, Polar):
        draw_polar_frame(axes, window, NO_DATA)
    else:
        axes.set_facecolor(NO_DATA)
        draw_frame(axes, window.extent, page, left=left, bottom=bottom, last=last)


def _draw_cells(axes: Axes, window: MapWindow, field: np.ndarray, scale: Scale, norm: Normalize) -> None:
    colors = matplotlib.colormaps[scale.cmap].with_extremes(bad=NO_DATA)
    limits = axes.get_xlim(), axes.get_ylim()
    if isinstance(window, Patches):
        values = np.ma.masked_invalid(window.values(field))
        drawn = PolyCollection(
            list(window.corners), array=values, cmap=colors, norm=norm, antialiased=False, rasterized=True, zorder=1
        )
        axes.add_collection(drawn, autolim=False)
    else:
        cells = np.ma.masked_invalid(window.cells(field))
        axes.pcolormesh(
            window.x_edges,
            window.y_edges,
            cells,
            cmap=colors,
            norm=norm,
            shading="flat",
            rasterized=cells.size > _RASTER_CELLS,
            zorder=1,
        )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _draw_key(figure: Figure, page: Page, scale: Scale, norm: Normalize, notes: Sequence[str]) -> None:
    """The colour bar with its label, and below it the description of the contours."""
    mappable = ScalarMappable(norm, matplotlib.colormaps[scale.cmap])
    bar = figure.colorbar(
        mappable, cax=figure.add_axes(page.color_bar()), orientation="horizontal", extend=scale.extend, extendfrac=0.03
    )
    bar.ax.tick_params(labelsize=7, length=2.5, width=0.6)
    bar.outline.set_linewidth(0.6)
    bar.ax.xaxis.get_offset_text().set_fontsize(7)
    for note, height in zip(notes, page.note_heights()):
        figure.text(page.middle, height, note, fontsize=8, ha="center", va="top")


def _notes(panels: Panels, lines: Contours | None, scale: Scale, values: np.ndarray) -> tuple[str, ...]:
    """What a caption says about the panels, the contours and the colours."""
    titles = [title for title in panels.titles() if title]
    if len(titles) > _LISTED:
        titles = [f"{titles[0]}, to {titles[-1]}"]
    notes = ["; ".join(titles) + "."] if titles else []
    if lines is not None:
        notes.append(f"{lines.legend[0].upper()}{lines.legend[1:]}.")
    if scale.clipped:
        notes.append(scale.clipped)
    if np.isnan(values).any():
        notes.append("Grey: no data.")
    return tuple(notes)


def _wrapped(text: str, width: float, size: float) -> str:
    """Text broken into lines of ``width`` inches at ``size`` points."""
    return "\n".join(wrap(text, max(int(width * 72 / (0.58 * size)), 8)))
