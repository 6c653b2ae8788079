"""Maps of any field with lat and lon, on coastlines, as panels that share one colour scale."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from geoxai.errors import OptionError
from geoxai.grid.coordinates import grid_difference
from geoxai.names import unknown
from geoxai.plotting.frame import Page, draw_frame
from geoxai.plotting.scales import Scale, color_scale, contour_levels
from geoxai.plotting.titles import field_label, panel_titles, scalar_title
from geoxai.plotting.window import Curvilinear, Extent, Window, curvilinear_window, window_of

NO_DATA = "0.82"
MOST_PANELS = 60
_RASTER_CELLS = 20_000  # meshes above this are pixels, not paths, in a PDF


class MapFigure(Figure):
    """A figure that shows itself in a notebook, without pyplot and its global state."""

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
) -> Figure:
    """Draw a field as plate carree maps with coastlines, one panel per value of one or two dims.

    Parameters
    ----------
    data
        Dims ``lat`` and ``lon`` (or ``y`` and ``x`` with two-dimensional ``lat`` and ``lon``) and up to two more
        with several values. Latitudes may run either way and longitudes follow any convention. NaN is drawn grey. A
        coordinate ``n`` along panel dims is shown as the number of cases behind a panel, ``events`` as their events.
    panels
        The dim of the panels, or (rows, columns); None takes every dim but lat and lon.
    contours
        A field drawn as lines over the panels; its dims besides lat and lon are among the panel dims. Negative
        levels are dashed. ``levels`` are the levels, or at most how many round ones.
    center_lon
        Longitude in the middle of a map that goes round the globe; ``auto`` is 180. A regional field is shown whole.
    extent
        (west, east, south, north) in degrees to show instead of the whole field.
    limits, vmin, vmax, cmap
        Colours, shared by all panels: symmetric about 0 for a field of both signs, else sequential; up to the 99.5th
        percentile (``robust``) or the largest value (``max``) unless set. ``vmin`` makes any scale a sequential one.
    mask
        Only cells where it is true are drawn; the others are grey.
    title, label
        Over the figure, and beside the colour bar (default: ``long_name`` and ``units`` of the data).
    columns
        Panels side by side where they come from one dim.

    Raises
    ------
    OptionError
        The field has no lat and lon, a dim is unknown or left over, or there are more than 60 panels.
    """
    fields = _Fields.of(data if mask is None else data.where(mask), panels)
    window = _window(fields.data, center_lon, extent)
    values = fields.data.values
    scale = color_scale(values, limits, vmin, vmax, cmap)
    lines = None if contours is None else _Contours.of(contours, fields, levels)
    notes = [label if label is not None else field_label(data)]
    if lines is not None:
        notes.append(lines.legend)
    rows, across = _grid_of(fields, columns, window.extent)
    headings = fields.titles()
    page, wrapped = _page(rows, across, window.extent, title is not None, any(headings), notes)

    figure = MapFigure(figsize=(page.width, page.height), facecolor="white")
    FigureCanvasAgg(figure)
    norm = Normalize(scale.vmin, scale.vmax)
    for number, (index, heading) in enumerate(zip(fields.indices(), headings)):
        row, column = divmod(number, across)
        axes = figure.add_axes(page.panel(row, column))
        _draw_cells(axes, window, values[index], scale, norm)
        if lines is not None and isinstance(window, Window):
            lines.draw(axes, window, index, inline=fields.count <= 6)
        last = number + across >= fields.count
        draw_frame(axes, window.extent, left=column == 0, bottom=last, width=page.panel_width)
        axes.set_title(_fit(heading, page.panel_width, 8.5), fontsize=8.5, pad=4)
    _draw_key(figure, page, scale, norm, wrapped)
    if title is not None:
        figure.suptitle(_fit(title, page.width, 10.5), fontsize=10.5, y=1 - 0.12 / page.height, va="top")
    return figure


def save_figure(figure: Figure, target: Path | IO[bytes], kind: Literal["png", "pdf"] = "png", dpi: int = 150) -> None:
    """Write a figure with no date or version in it: equal figures are equal files."""
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None}
    figure.savefig(target, format=kind, dpi=dpi, metadata=metadata)


@dataclass(frozen=True)
class _Fields:
    """The fields of the panels: in memory, dims (panel dims, y, x)."""

    data: xr.DataArray
    dims: tuple[str, ...]

    @classmethod
    def of(cls, data: xr.DataArray, panels: str | Sequence[str] | None) -> _Fields:
        data, space = _with_positions(data)
        wanted = [panels] if isinstance(panels, str) else panels
        for name in wanted or ():
            if name not in data.dims or name in space:
                others = [str(d) for d in data.dims if d not in space]
                raise OptionError(unknown("panel dim", name, others or ["none"]), option="panels")
        keep = (
            list(wanted) if wanted is not None else [str(d) for d in data.dims if d not in space and data.sizes[d] > 1]
        )
        left = [str(d) for d in data.dims if d not in space and d not in keep and data.sizes[d] > 1]
        if left or len(keep) > 2:
            sizes = ", ".join(f"{d} ({data.sizes[d]})" for d in (left or keep))
            raise OptionError(
                f"panels cannot be drawn over {sizes}: one or two dims are possible, (rows, columns)",
                fix="select one value of the others",
                option="select" if left else "panels",
            )
        data = data.squeeze([d for d in data.dims if d not in space and d not in keep])
        data = data.transpose(*keep, *space)
        count = int(np.prod([data.sizes[d] for d in keep]))
        if count > MOST_PANELS:
            raise OptionError(
                f"{count} panels over {', '.join(keep)} are more than a figure holds ({MOST_PANELS})",
                fix="select some values of them",
                option="select",
            )
        return cls(data.compute(), tuple(keep))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.sizes[d] for d in self.dims)

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    def indices(self) -> Iterator[tuple[int, ...]]:
        return iter(np.ndindex(*self.shape))

    def titles(self) -> list[str]:
        return panel_titles(self.data, self.dims) if self.dims else [scalar_title(self.data)]


@dataclass(frozen=True)
class _Contours:
    """Lines over the panels: values (panel dims, lat, lon), shared levels, and what they are in words."""

    values: np.ndarray
    levels: np.ndarray
    legend: str

    @classmethod
    def of(cls, contours: xr.DataArray, fields: _Fields, levels: int | Sequence[float]) -> _Contours:
        label = field_label(contours)
        contours, space = _with_positions(contours)
        extra = [d for d in contours.dims if d not in space and d not in fields.dims]
        if any(contours.sizes[d] > 1 for d in extra):
            raise OptionError(
                f"the contours have dims {', '.join(map(str, extra))}, which the panels have not",
                fix="select one value of them",
                option="contours",
            )
        contours = contours.squeeze(extra, drop=True)
        difference = grid_difference(fields.data, contours)
        if difference is not None:
            raise OptionError(f"the contours are on another grid than the field: {difference}", option="contours")
        along = [d for d in fields.dims if d in contours.dims]
        try:
            aligned = contours.sel(
                {d: fields.data[d] for d in along if d in contours.coords and d in fields.data.coords}
            )
        except KeyError as error:
            raise OptionError(
                f"the contours lack panels of the field along {', '.join(along)}: {error.args[0]}",
                fix="draw contours that have them, or select what both have",
                option="contours",
            ) from None
        shape = fields.data.isel(dict.fromkeys(space, 0))
        values = aligned.transpose(*along, *space).values
        for position, dim in enumerate(fields.dims):
            if dim not in along:
                values = np.expand_dims(values, position)
        values = np.broadcast_to(values, (*shape.shape, *values.shape[-2:]))
        found = contour_levels(values, levels)
        return cls(values, found, _legend(label, found))

    def draw(self, axes: Axes, window: Window, index: tuple[int, ...], *, inline: bool) -> None:
        """The lines of one panel, with their values on them where there is room."""
        field = np.ma.masked_invalid(window.line_values(self.values[index]))
        inside = self.levels[(self.levels >= field.min()) & (self.levels <= field.max())] if field.count() else []
        if len(inside) == 0 or min(field.shape) < 2:
            return
        drawn = axes.contour(
            window.line_lons,
            window.line_lats,
            field,
            levels=inside,
            colors="black",
            linewidths=0.8,
            linestyles=["dashed" if level < 0 else "solid" for level in inside],
            zorder=4,
        )
        if inline:
            axes.clabel(drawn, fontsize=6, inline_spacing=2, fmt=_number)


def _legend(label: str, levels: np.ndarray) -> str:
    if len(levels) == 0:
        return f"contours: {label} (none within the data)"
    listed = ", ".join(map(_number, levels))
    return f"contours: {label} at {listed}{'; negative dashed' if (levels < 0).any() else ''}"


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _with_positions(data: xr.DataArray) -> tuple[xr.DataArray, tuple[str, str]]:
    """The data with coordinates named lat and lon, and its two spatial dims (y, x)."""
    names: dict[Hashable, str] = {}
    for name, coordinate in data.coords.items():
        standard = coordinate.attrs.get("standard_name")
        for wanted, others in (("lat", ("latitude",)), ("lon", ("longitude",))):
            if wanted not in data.coords and (name in others or standard in others):
                names[name] = wanted
    data = data.rename(names)
    if "lat" not in data.coords or "lon" not in data.coords:
        raise OptionError(
            f"a map needs coordinates lat and lon; {data.name or 'the data'} has "
            f"{', '.join(map(str, data.coords)) or 'no coordinates'} along ({', '.join(map(str, data.dims))})",
            option="variable",
        )
    lat, lon = data["lat"], data["lon"]
    if lat.ndim == lon.ndim == 1:
        return data, (str(lat.dims[0]), str(lon.dims[0]))
    if lat.ndim == 2 and lon.dims == lat.dims:
        return data, (str(lat.dims[0]), str(lat.dims[1]))
    raise OptionError(
        f"lat {lat.dims} and lon {lon.dims} are neither two axes nor two fields of one grid", option="variable"
    )


def _window(data: xr.DataArray, center_lon: float | Literal["auto"], extent: Extent | None) -> Window | Curvilinear:
    if data["lat"].ndim == 2:
        return curvilinear_window(data["lat"], data["lon"], extent)
    return window_of(data["lat"], data["lon"], center_lon, extent)


def _grid_of(fields: _Fields, columns: int | None, extent: Extent) -> tuple[int, int]:
    """Rows and columns of panels: as the two dims say, else so that the figure is neither a strip nor a tower."""
    if len(fields.dims) == 2:
        return fields.shape[0], fields.shape[1]
    west, east, south, north = extent
    if columns is None:
        wide = (east - west) / (north - south)
        if wide > 3:
            columns = 1 if fields.count <= 4 else 2 if fields.count <= 12 else 4
        else:
            columns = 2 if fields.count in (2, 4) else 3 if fields.count <= 12 else 4
    columns = max(1, min(columns, fields.count))
    return -(-fields.count // columns), columns


def _page(
    rows: int, columns: int, extent: Extent, title: bool, headings: bool, notes: Sequence[str]
) -> tuple[Page, list[str]]:
    """The page, and the notes wrapped to its width; a degree north is as long as one east in the middle of a region."""
    west, east, south, north = extent
    middle = np.clip(abs(south + north) / 2, 0, 75)
    stretch = 1 / np.cos(np.deg2rad(middle)) if north - south < 90 else 1.0
    shape = float((north - south) * stretch / (east - west))
    width = {1: 6.6, 2: 4.3, 3: 3.3}.get(columns, 2.6)
    width = max(min(width, {1: 5.6}.get(rows, 4.2) / shape), 1.2)
    page = Page(rows, columns, width, width * shape, title, headings)
    wrapped = ["\n".join(wrap(note, int(page.width * 15))) for note in notes]
    return replace(page, notes=tuple(note.count("\n") + 1 for note in wrapped)), wrapped


def _draw_cells(axes: Axes, window: Window | Curvilinear, field: np.ndarray, scale: Scale, norm: Normalize) -> None:
    axes.set_facecolor(NO_DATA)
    cells = np.ma.masked_invalid(window.cells(field))
    colors = matplotlib.colormaps[scale.cmap].with_extremes(bad=NO_DATA)
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


def _draw_key(figure: Figure, page: Page, scale: Scale, norm: Normalize, notes: Sequence[str]) -> None:
    """The colour bar with its label, and below it what the contours are."""
    mappable = ScalarMappable(norm, matplotlib.colormaps[scale.cmap])
    bar = figure.colorbar(
        mappable, cax=figure.add_axes(page.color_bar()), orientation="horizontal", extend=scale.extend, extendfrac=0.03
    )
    bar.ax.tick_params(labelsize=7, length=2.5, width=0.6)
    bar.outline.set_linewidth(0.6)
    bar.ax.xaxis.get_offset_text().set_fontsize(7)
    for note, height in zip(notes, page.note_heights()):
        figure.text(page.middle, height, note, fontsize=8, ha="center", va="top")


def _fit(text: str, width: float, size: float) -> str:
    """Text cut to what fits into ``width`` inches at ``size`` points."""
    most = int(width * 72 / (0.52 * size))
    return text if len(text) <= most else f"{text[: most - 1]}…"
