"""Targets and references as written in a config, and as resolved for a block of samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.stages.options import Latitude, Latitudes, Longitude, Longitudes
from geoxai.stages.stage import Context, InputPath, Reference

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

PLACES = ("box", "polygon", "mask", "point", "pixels")


class Box(BaseModel):
    """A box in degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lat: Latitudes = Field(description="South and north edge.")
    lon: Longitudes = Field(description="West and east edge, going eastwards, either convention.")


class Polygon(BaseModel):
    """Corners in order, in degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lat: list[Latitude] = Field(min_length=3, description="Latitudes of the corners.")
    lon: list[Longitude] = Field(min_length=3, description="Longitudes of the corners, either convention.")


class Point(BaseModel):
    """A place in degrees; its nearest cell is taken, and must contain it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lat: Latitude = Field(description="Latitude.")
    lon: Longitude = Field(description="Longitude, either convention.")


class Place(BaseModel):
    """Outputs of an image network by where they lie: one of box, polygon, mask, point and pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    box: Box | str | None = Field(
        None,
        description="`{lat: [south, north], lon: [west, east]}`, or the name of a region such as `nino34`. A cell on "
        "its edge counts with the part inside.",
    )
    polygon: Polygon | None = Field(None, description="`{lat: [...], lon: [...]}`, corners in order.")
    mask: Annotated[str | None, InputPath()] = Field(
        None, description="NetCDF file with a mask, on this or another grid (nearest cell); nonzero means inside."
    )
    variable: str | None = Field(None, description="Variable of the mask, where its file has several.")
    point: Point | None = Field(
        None, description="`{lat: 40, lon: 260}`: the nearest cell; outside the grid is an error."
    )
    pixels: Annotated[str | None, Reference("pixels")] = Field(
        None, description="A `select.pixels` stage: pixels of each sample; several pixels are several targets."
    )
    channel: int | str | None = Field(None, description="Output channel, by name or number, where there are several.")
    step: int | None = Field(None, description="Time step of the output, where it has several.")
    reduce: Literal["mean", "sum"] = Field(
        "mean", description="Whether the area-weighted mean or the sum of a box, polygon or mask is explained."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Place:
        given = [name for name in PLACES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(PLACES)}, not {', '.join(given) or 'none'}")
        return self


class Compared(BaseModel):
    """What an explained value is compared with: one of value, climatology and sample."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = Field(None, description="A number in units of the network's output.")
    climatology: Literal["all", "train", "validation", "test"] | None = Field(
        None, description="The output for the mean input over the samples of this split."
    )
    sample: int | None = Field(None, description="The output for the sample of this number (coordinate `sample`).")

    @model_validator(mode="after")
    def _one_reference(self) -> Compared:
        if sum(given is not None for given in (self.value, self.climatology, self.sample)) != 1:
            raise ValueError("give exactly one of value, climatology, sample")
        return self


Target = str | int | Place
Targets = Target | Sequence[Target | list[int]]


@dataclass(frozen=True)
class Resolved:
    """Targets for ``geoxai.explain``; ``missing`` (target, sample) where a sample has no such pixel."""

    targets: list[Any]
    several: bool
    missing: np.ndarray

    @property
    def asked(self) -> Any:
        """A list where there are several targets, else the target itself."""
        return self.targets if self.several else self.targets[0]

    def without_missing(self, found: xr.Dataset) -> xr.Dataset:
        """The explanation, missing where the target is."""
        import xarray as xr

        if not self.missing.any():
            return found
        sample = found["target_value"].dims[-1]
        there = xr.DataArray(~self.missing, dims=("target", sample))
        there = there if self.several else there.isel(target=0)

        def kept(values: xr.DataArray) -> xr.DataArray:
            if not set(there.dims) <= set(values.dims):
                return values
            if values.dtype == bool:
                return (values & there).transpose(*values.dims)
            return values.where(there).transpose(*values.dims)

        return found.map(kept, keep_attrs=True)


def targets_in(target: Targets) -> list[Any]:
    """The targets one by one. A list of numbers is one index, given as a tuple."""
    if not isinstance(target, list):
        return [target]
    if all(isinstance(item, int) for item in target):
        return [tuple(target)]
    return [tuple(item) if isinstance(item, list) else item for item in target]


def names_of(target: Targets, context: Context) -> list[str]:
    """A name for each target of a store."""
    names = []
    for option, item in _with_options(target):
        if isinstance(item, Place) and item.pixels is not None:
            names += [f"{item.pixels} {rank}" for rank in range(_pixels(context, option).sizes["pixel"])]
        elif isinstance(item, Place):
            names.append(json.dumps(_options_of(item)))
        else:
            names.append(str(list(item) if isinstance(item, tuple) else item))
    return names


def described(target: Targets) -> str:
    """The targets as text for the attributes of a store, files by name only."""
    items = [_options_of(item) if isinstance(item, Place) else item for item in targets_in(target)]
    return json.dumps(items if isinstance(target, list) and len(items) == len(target) else items[0])


def _options_of(item: Place) -> dict[str, Any]:
    options = item.model_dump(mode="json", exclude_defaults=True)
    return options | ({"mask": PurePath(item.mask).name} if item.mask is not None else {})


def resolved(target: Targets, context: Context, samples: xr.Dataset, network: int) -> Resolved:
    """The targets of a block of samples, for one network."""
    import numpy as np

    targets: list[Any] = []
    missing: list[Any] = []
    count = samples.sizes["sample"]
    for option, item in _with_options(target):
        if not isinstance(item, Place):
            targets.append(item)
            missing.append(np.zeros(count, bool))
            continue
        where = {"channel": item.channel, "step": item.step, "reduce": item.reduce}
        where = {key: value for key, value in where.items() if value is not None}
        if item.pixels is None:
            targets.append({**_place(item, option), **where})
            missing.append(np.zeros(count, bool))
            continue
        pixels = _pixels(context, option).isel(network=network, missing_dims="ignore")
        places = pixels.indexes["sample"].get_indexer(samples["sample"].values)
        if (places < 0).any():
            raise OptionError("the pixels were not selected in these samples", option=f"{option}.pixels")
        rows, columns = (pixels[name].values[places] for name in ("row", "column"))
        for rank in range(rows.shape[1]):
            cells = np.stack([rows[:, rank], columns[:, rank]], axis=1)
            targets.append({"pixels": np.maximum(cells, 0), **where})
            missing.append(rows[:, rank] < 0)
    several = isinstance(target, list) and not all(isinstance(item, int) for item in target)
    return Resolved(targets, several or len(targets) > 1, np.stack(missing))


def _with_options(target: Targets) -> list[tuple[str, Any]]:
    """Each target with the dotted path of its option."""
    items = targets_in(target)
    listed = isinstance(target, list) and len(items) == len(target)
    return [(f"target.{i}" if listed else "target", item) for i, item in enumerate(items)]


def _pixels(context: Context, option: str) -> xr.Dataset:
    return context.sources[f"{option}.pixels"]


def _place(item: Place, option: str) -> dict[str, Any]:
    """A place as ``geoxai.explain`` takes it."""
    if item.mask is not None:
        return {"mask": _mask(item, option)}
    given = item.model_dump(include=set(PLACES), exclude_none=True)
    return {name: given[name] for name in PLACES if name in given}


def _mask(item: Place, option: str) -> xr.DataArray:
    """The mask of a file in memory."""
    from geoxai.readers.netcdf import open_netcdf

    assert item.mask is not None
    fields = open_netcdf(item.mask)
    names = [str(name) for name in fields.data_vars]
    if item.variable is None and len(names) > 1:
        raise OptionError(
            f"{item.mask} has several variables: {', '.join(names)}", fix="name one", option=f"{option}.variable"
        )
    if item.variable is not None and item.variable not in names:
        raise OptionError(f"{item.mask}: {unknown('variable', item.variable, names)}", option=f"{option}.variable")
    field = fields[item.variable or names[0]]
    return (field.isel(time=0, drop=True) if "time" in field.dims else field).load()
