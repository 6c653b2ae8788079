"""``plot.maps``: figures of maps on coastlines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.stages.stage import Context, OutputStage, Reference, Stage
from geoxai.storage.files import replaced

if TYPE_CHECKING:
    import xarray as xr

    from geoxai.plotting.maps import MapFigure

_MAPPED = ("composite", "relevance", "prediction", "grid", "samples")
_CASES = ("network", "target", "class")
_COUNTS = ("n", "events")
MOST_FIGURES = 20
_LISTED = 12  # values of a coordinate that are listed where one was not found
_DAY = 86400  # seconds
_PREFERRED = ("relevance_mean", "relevance", "prediction", "inputs")

Value = str | int | float
Format = Literal["png", "pdf"]


class Contours(BaseModel):
    """Lines over the maps."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Annotated[str | None, Reference(*_MAPPED)] = Field(
        None,
        alias="from",
        description="Stage whose field is drawn as lines; fields over time are taken at the times of the maps. "
        "Default: the stage of the maps.",
    )
    variable: str | None = Field(
        None, description="Its variable. Default: the mean inputs of a composite, else as for the maps."
    )
    levels: list[float] | Annotated[int, Field(ge=1, le=30)] = Field(
        6, description="The values of the lines, or how many round values at most."
    )


class Maps(OutputStage):
    """Maps with coastlines: panels over one or two dims that share one colour scale.

    The figure is `figures/<stage>.png` (and `.pdf`), its caption `figures/<stage>.txt`; `figures/narrow/` has a copy
    for a phone, one panel below the other. With three dims of panels there is one figure for each value of the first,
    `figures/<stage>.<value>.png`, each with a colour scale of its own. Colours are symmetric about 0 where the field
    has both signs; temperatures that are not anomalies, and decibels, get a sequential scale. Cells without data, such
    as land, are grey. Several retrained networks are averaged unless `networks: each`.
    """

    use: ClassVar[str] = "plot.maps"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "plotting")
    example: ClassVar[str] = "maps: {use: plot.maps, from: composite, contours: {variable: inputs_mean}}"

    from_: Annotated[str | None, Reference(*_MAPPED, nearest=True)] = Field(
        None, alias="from", description="Stage with the field. Default: the nearest one above."
    )
    variable: str | None = Field(
        None,
        description="Variable to draw. Default: the first present of relevance_mean, relevance, prediction, inputs.",
    )
    panels: str | list[str] | None = Field(
        None,
        description="Dim of the panels, or [rows, columns]. Default: every dim with several values except lat and lon; "
        "of three, the first is that of the figures.",
    )
    select: dict[str, Value | list[Value]] = Field(
        {},
        description="Values of dims or of coordinates along them: `{class: el_nino}`, `{time: 1998-05}`, "
        "`{sample: [3, 8]}`.",
    )
    contours: Contours | None = Field(None, description="Lines over the maps, from this or another stage.")
    networks: Literal["mean", "each"] = Field(
        "mean", description="Several retrained networks: their mean, or panels for each."
    )
    projection: Literal["auto", "plate_carree", "polar"] = Field(
        "auto",
        description="auto: seen from above the pole for grids that go round it and stay poleward of 40 degrees, else "
        "plate carree.",
    )
    center_lon: float | Literal["auto"] = Field(
        "auto",
        description="Longitude in the middle of a global map; auto: 180, of a polar one 0. Regional fields are shown "
        "whole.",
    )
    extent: tuple[float, float, float, float] | None = Field(
        None, description="Part to show: [west, east, south, north] in degrees; it may cross 0 or 180."
    )
    limits: Literal["robust", "max"] = Field(
        "robust", description="Whether colours end at the 99.5th percentile of the magnitudes, or at the largest."
    )
    vmin: float | None = Field(None, description="Lower end of the colours; makes them sequential.")
    vmax: float | None = Field(None, description="Upper end of the colours.")
    cmap: str | None = Field(None, description="Name of a matplotlib colour map.")
    title: str | None = Field(None, description="Title of the figure.")
    label: str | None = Field(None, description="Text at the colour bar. Default: long_name and units of the field.")
    columns: int | None = Field(
        None, ge=1, description="Panels side by side. Default: the second of two dims, or what fits a page."
    )
    format: Format | list[Format] = Field("png", description="`png`, `pdf`, or both in a list.")

    @field_validator("cmap")
    @classmethod
    def _known_cmap(cls, cmap: str | None) -> str | None:
        if cmap is not None:
            from matplotlib import colormaps

            if cmap not in colormaps:
                raise ValueError(unknown("colour map", cmap, [n for n in colormaps if not n.endswith("_r")]))
        return cmap

    def skeleton(self, context: Context) -> None:
        """Check the names of variables and dims; there are no values yet."""
        field = self._field(context)
        for name in [self.panels] if isinstance(self.panels, str) else self.panels or []:
            if name not in field.dims or name in _space(field):
                dims = [str(dim) for dim in field.dims if dim not in _space(field)]
                raise OptionError(unknown("panel dim", name, dims or ["none"]), option="panels")
        for name in self.select:
            known = [str(n) for n, c in field.coords.items() if c.ndim == 1 and n not in (*_COUNTS, *_space(field))]
            known += [str(dim) for dim in field.dims if dim not in field.coords]
            if name not in known:
                raise OptionError(unknown("dim to select from", name, known or ["none"]), option=f"select.{name}")
        self._check_sizes(self._sizes_after_select(field))
        if self.contours is not None:
            self._contour_field(context)

    def _sizes_after_select(self, field: xr.DataArray) -> dict[str, int]:
        """The smallest sizes of the dims left with several values, as far as they are known without values."""
        sizes = {str(dim): size for dim, size in field.sizes.items() if dim not in _space(field)}
        for name, wanted in self.select.items():
            dim = name if name in field.dims else str(field[name].dims[0])
            if dim in sizes:
                sizes[dim] = min(sizes[dim], len(wanted) if isinstance(wanted, list) else 1)
        if self.networks == "mean":
            sizes.pop("network", None)
        return {dim: size for dim, size in sizes.items() if size > 1}

    def _check_sizes(self, sizes: dict[str, int]) -> None:
        """Refuse more dims than panels, or figures and panels, can show."""
        panels = [self.panels] if isinstance(self.panels, str) else self.panels
        left = [dim for dim in sizes if dim not in panels] if panels is not None else list(sizes)[:-3]
        first = next(iter(sizes), "")
        if panels is None and len(sizes) == 3 and first != "sample" and sizes[first] > MOST_FIGURES:
            left = [first]  # the number of samples is not known yet
        if left:
            of_each = "" if panels is None else f" beside panels over {', '.join(panels)}"
            told = ", ".join(f"{dim} ({size})" for dim, size in sizes.items())
            raise OptionError(
                f"the maps have several values along {told}: too many to draw{of_each}",
                fix="take one value with " + ", ".join(f"select: {{{dim}: ...}}" for dim in left),
                option="select",
            )

    def write(self, context: Context) -> list[Path]:
        whole = self._field(context)
        field = self._averaged(self._selected(whole, strict=True))
        contours = self._contour_lines(context, field)
        label = self._label(context, field)
        paths: list[Path] = []
        drawn = []
        for end, part in self._by_figure(field).items():
            lines = None if contours is None else _alike(contours, part)
            selected = [str(dim) for dim in whole.dims if dim not in part.dims]
            figure, narrow = (self._figure(part, lines, selected, label, narrow=narrow) for narrow in (False, True))
            drawn.append((end, part, figure, narrow))
        for end, part, figure, narrow in drawn:
            paths += self._written(context, end, figure, narrow, self._caption(context, whole, part, figure))
        return paths

    def _written(self, context: Context, end: str, figure: MapFigure, narrow: MapFigure, caption: str) -> list[Path]:
        """The files of one figure: as asked for, its caption, and its narrow copy."""
        from geoxai.plotting.maps import save_figure

        folder, name = context.run_dir / "figures", f"{context.stage}{end}"
        kinds = dict.fromkeys([self.format] if isinstance(self.format, str) else self.format)
        wanted: list[tuple[Path, MapFigure, Format]] = [(folder / f"{name}.{kind}", figure, kind) for kind in kinds]
        if "png" in kinds:
            wanted.append((folder / "narrow" / f"{name}.png", narrow, "png"))
        content = {}
        for path, drawn, kind in wanted:
            stream = BytesIO()
            save_figure(drawn, stream, kind)
            content[path] = stream.getvalue()
        content[folder / f"{name}.txt"] = f"{caption}\n".encode()
        for path, data in content.items():
            with replaced(path) as file:
                file.write_bytes(data)
        return list(content)

    def _caption(self, context: Context, whole: xr.DataArray, field: xr.DataArray, figure: MapFigure) -> str:
        from geoxai.plotting.captions import caption

        size = whole.sizes.get("network", 1) if "network" not in self.select else 1
        networks = "" if size == 1 else f"mean of {size} networks" if self.networks == "mean" else f"{size} networks"
        title = [f"{self.title}."] if self.title else []
        return caption(field, context.sources["from"].attrs, networks, [*title, *figure.notes])

    def _by_figure(self, field: xr.DataArray) -> dict[str, xr.DataArray]:
        """The field of each figure by the end of the name of its file; one where two dims of panels suffice."""
        import numpy as np

        sizes = {str(dim): field.sizes[dim] for dim in field.dims if dim not in _space(field) and field.sizes[dim] > 1}
        if self.panels is not None or len(sizes) < 3:
            return {"": field}
        self._check_sizes(sizes)
        first = next(iter(sizes))
        if sizes[first] > MOST_FIGURES:
            raise OptionError(
                f"one figure for each of {sizes[first]} values of {first} is more than are drawn ({MOST_FIGURES})",
                fix=f"take some with select: {{{first}: [...]}}",
                option="select",
            )
        if first not in field.coords:
            field = field.assign_coords({first: np.arange(sizes[first])})
        values = [re.sub(r"[^\w-]+", "_", _short(_comparable(value))) for value in field[first].values]
        ends = values if len(set(values)) == len(values) else range(len(values))
        return {f".{end}": field.isel({first: place}) for place, end in enumerate(ends)}

    def _figure(
        self,
        field: xr.DataArray,
        contours: xr.DataArray | None,
        selected: list[str],
        label: str | None,
        narrow: bool = False,
    ) -> MapFigure:
        """One figure; where panels have titles of their own, that of the figure is what was ``selected``."""
        from geoxai.plotting.maps import plot_maps
        from geoxai.plotting.titles import selection_title

        several = any(field.sizes[dim] > 1 for dim in field.dims if dim not in _space(field))
        chosen = selection_title(field, selected) if several else ""
        return plot_maps(
            field,
            panels=self.panels,
            contours=contours,
            levels=self.contours.levels if self.contours else 6,
            projection=self.projection,
            center_lon=self.center_lon,
            extent=self.extent,
            limits=self.limits,
            vmin=self.vmin,
            vmax=self.vmax,
            cmap=self.cmap,
            title=", ".join(filter(None, (self.title, chosen))) or None,
            label=label,
            columns=self.columns,
            narrow=narrow,
        )

    def _label(self, context: Context, field: xr.DataArray) -> str | None:
        """The text at the colour bar; for plain relevance it says what is shared out."""
        from geoxai.plotting.captions import shared_out
        from geoxai.plotting.titles import field_label

        attrs = context.sources["from"].attrs
        plain = str(field.name).startswith("relevance") and field.attrs.get("units", "1") == "1"
        if self.label or not plain or attrs.get("normalize", "none") != "none" or attrs.get("account") == "none":
            return self.label
        shared = shared_out(attrs) if "count" not in str(field.name) and "n_eff" not in str(field.name) else ""
        return f"{field_label(field)} (shares of {shared})" if shared else None

    def _field(self, context: Context) -> xr.DataArray:
        """The field of the maps. A composite also gets the coordinates ``n``, the cases of a class, target and network
        (the most of any cell), and ``events``, how many events they belong to.
        """
        dataset = context.sources["from"]
        field = _variable(dataset, self.variable, _PREFERRED, "variable")
        counts = dataset.get(f"relevance_count{_end(dataset, field)}")
        if counts is not None and field.name != counts.name and "class" in field.dims:
            field = field.assign_coords(n=counts.max([dim for dim in counts.dims if dim not in _CASES]).load())
            if "n_events" in dataset:
                field = field.assign_coords(events=dataset["n_events"].load())
        return _dated(field)

    def _contour_field(self, context: Context) -> xr.DataArray:
        assert self.contours is not None
        dataset = context.sources["from" if self.contours.from_ is None else "contours.from"]
        end = _end(dataset, self._field(context)) if self.contours.from_ is None else ""
        preferred = [f"{name}{end}" for name in ("inputs_mean", *_PREFERRED)]
        return _variable(dataset, self.contours.variable, preferred, "contours.variable")

    def _contour_lines(self, context: Context, field: xr.DataArray) -> xr.DataArray | None:
        """The field of the lines, at the times of the maps where both have times."""
        if self.contours is None:
            return None
        contours = self._contour_field(context)
        if "time" in contours.dims and "time" in field.coords:
            contours = _at_times(contours, field["time"])
        return self._averaged(self._selected(contours, strict=False))

    def _averaged(self, field: xr.DataArray) -> xr.DataArray:
        """The mean over networks; ``n`` and ``events`` become text where they differ between networks."""
        if "network" not in field.dims or self.networks == "each":
            return field
        mean = field.mean("network", keep_attrs=True)
        for name in _COUNTS:
            if name in field.coords and "network" in field[name].dims:
                mean = mean.assign_coords({name: _range(field[name].variable)})
        return mean

    def _selected(self, field: xr.DataArray, *, strict: bool) -> xr.DataArray:
        """The values asked for; a coordinate that the field lacks is passed over unless ``strict``."""
        for name, wanted in self.select.items():
            if name in field.dims and name not in field.coords:
                field = field.isel({name: _places(name, wanted, field.sizes[name])})
            elif name in field.coords and field[name].ndim == 1:
                field = field.isel({field[name].dims[0]: _matches(field[name], wanted)})
            elif strict:
                raise OptionError(
                    f"{field.name} has no dim or coordinate {name} to select from", option=f"select.{name}"
                )
        return field


def _range(counts: xr.Variable) -> tuple[tuple[Any, ...], Any]:
    """Counts of each network as their number, or as text from the fewest to the most."""
    import numpy as np

    fewest, most = counts.min("network"), counts.max("network")
    shown = [low if low == high else f"{low} to {high}" for low, high in zip(fewest.values.flat, most.values.flat)]
    numbers = np.empty(len(shown), dtype=object)
    numbers[:] = shown
    return fewest.dims, numbers.reshape(fewest.shape)


def _end(dataset: xr.Dataset, field: xr.DataArray) -> str:
    """What the name of a field ends with, where it is of one of several inputs."""
    from geoxai.grid.several import ends_of

    return next((end for end in ends_of(dataset) if end and str(field.name).endswith(end)), "")


def _variable(dataset: xr.Dataset, wanted: str | None, preferred: Sequence[str], option: str) -> xr.DataArray:
    """A variable with lat and lon: the one named, else the first preferred, else the only one.

    Its long_name says of which input it is, where there are several.
    """
    from geoxai.grid.several import ends_of, plain

    fields = {str(name): plain(array) for name, array in dataset.data_vars.items()}
    maps = [name for name, field in fields.items() if {"lat", "lon"} <= set(field.coords)]
    found = wanted or next((name for name in preferred if name in maps), None) or (maps[0] if len(maps) == 1 else None)
    if found is None:
        raise OptionError(
            f"several variables could be drawn: {', '.join(maps)}" if maps else "there is no variable with lat and lon",
            fix=f"name one with {option}" if maps else "use another stage",
            option=option,
        )
    if found not in maps:
        raise OptionError(unknown("variable", found, maps or ["none with lat and lon"]), option=option)
    field = fields[found]
    ends = [end for end in ends_of(dataset) if f"channel{end}" in dataset[found].dims and end]
    if ends and "long_name" in field.attrs:
        field = field.assign_attrs(long_name=f"{ends[0].removeprefix('_')}: {field.attrs['long_name']}")
    return field


def _at_times(contours: xr.DataArray, time: xr.DataArray) -> xr.DataArray:
    """A field over time at the times of some maps: along their dim, or a single one where the maps have one time."""
    from geoxai.grid.time import match_times, time_text

    places = match_times(time.values.reshape(-1), contours["time"])
    if (places < 0).any():
        absent = time_text(time.values.reshape(-1)[places < 0][0])
        raise OptionError(f"the maps have the time {absent}, but the contours do not", option="contours")
    if not time.dims:
        return contours.isel(time=int(places[0]), drop=True)
    (dim,) = time.dims
    taken = contours.isel(time=places).drop_vars("time").swap_dims(time=dim)
    return taken.assign_coords({dim: time[dim]} if dim in time.coords else {})


def _alike(contours: xr.DataArray, field: xr.DataArray) -> xr.DataArray:
    """Contours at the values at which the field was taken, along dims that both had."""
    for dim in contours.dims:
        if dim in field.coords and not field[dim].dims and dim in contours.indexes:
            (place,) = contours.indexes[dim].get_indexer([field[dim].item()])
            contours = contours if place < 0 else contours.isel({dim: int(place)})
    return contours


def _dated(field: xr.DataArray) -> xr.DataArray:
    """The field, its time with the resolution of the whole record, so that a month has no day in a title.

    Samples know the step of the record they are taken from.
    """
    from geoxai.grid.steps import ATTRIBUTE, TimeStep
    from geoxai.grid.time import resolution

    if "time" not in field.coords or not field["time"].ndim:
        return field
    time = field["time"].load()
    found = resolution(time)
    if ATTRIBUTE in time.attrs:  # samples of one month of the year alone are of monthly, or daily, data all the same
        step = TimeStep.parse(time.attrs[ATTRIBUTE])
        if step.unit == "seconds" and found in ("year", "month"):
            found = "day" if step.size >= _DAY else "minute"
        elif found == "year" and step.size < 12:
            found = "month"
    return field.assign_coords(time=time.assign_attrs(resolution=found))


def _space(field: xr.DataArray) -> set[Any]:
    return {*field["lat"].dims, *field["lon"].dims}


def _places(name: str, wanted: Value | list[Value], size: int) -> int | list[int]:
    """Places along a dim without a coordinate."""
    for value in wanted if isinstance(wanted, list) else [wanted]:
        if not isinstance(value, int) or not 0 <= value < size:
            raise OptionError(f"{name} has places 0 to {size - 1}, not {value!r}", option=f"select.{name}")
    return wanted  # type: ignore[return-value]


def _matches(coordinate: xr.DataArray, wanted: Value | list[Value]) -> int | list[int]:
    """Where a coordinate has the values wanted: one place where one value is found once, else a list."""
    values = [_comparable(value) for value in coordinate.values]
    places: list[int] = []
    for value in wanted if isinstance(wanted, list) else [wanted]:
        found = [i for i, there in enumerate(values) if _equal(there, value)]
        if not found:
            name = str(coordinate.name)
            if len(values) > _LISTED:
                message = f"{name} has no {value}: it runs from {_short(values[0])} to {_short(values[-1])}"
            else:
                message = unknown(name, str(value), dict.fromkeys(map(_short, values)))
            raise OptionError(message, option=f"select.{name}")
        places += found
    return places[0] if len(places) == 1 and not isinstance(wanted, list) else places


def _short(value: Value) -> str:
    """A value in a message, dates without the zeros of their time of day."""
    return re.sub(r"(T00:00:00)?(\.0+)?$", "", value) if isinstance(value, str) else str(value)


def _comparable(value: Any) -> Value:
    """A coordinate value as a config can write it: text, a number, or a date as ISO text."""
    if hasattr(value, "calendar"):
        return str(value.isoformat())
    if getattr(value, "dtype", None) is not None:
        return str(value) if value.dtype.kind == "M" else value.item()
    return value if isinstance(value, str | int | float) else str(value)


def _equal(there: Value, wanted: Value) -> bool:
    if isinstance(there, str):  # 1998-05 means every time within that month
        text = str(wanted)
        return there == text or (there[:4].isdigit() and len(text) >= 4 and there.startswith((f"{text}-", f"{text}T")))
    return not isinstance(wanted, str) and abs(there - wanted) <= 1e-6 * max(1.0, abs(there))


STAGES: tuple[type[Stage], ...] = (Maps,)
