"""Where a network's outputs lie on the grid of its samples, and weights for boxes, polygons, masks and pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.area import area_weights, region_parts
from geoxai.grid.boxes import Region, region
from geoxai.grid.coordinates import grid_difference
from geoxai.grid.masks import mask_onto
from geoxai.grid.points import cell_at
from geoxai.grid.regions import polygon_mask
from geoxai.names import unknown

PLACES = ("box", "polygon", "mask", "point", "pixels")
KEYS = (*PLACES, "channel", "step", "reduce")


class Images(Protocol):
    """An adapter that gives images from a network the orientation of the samples."""

    def outputs_to_samples(self, outputs: np.ndarray, like: xr.DataArray) -> np.ndarray:
        """Images (sample, target_channel, lat, lon)."""


@dataclass(frozen=True, eq=False)
class OutputGrid:
    """The outputs of one sample on the grid of its inputs.

    ``index`` (..., lat, lon) holds, for every place, the position in the network's own output of shape ``shape``,
    flattened; ``cells`` has the coordinates, dims (lat, lon) or (y, x); ``channels`` names the axis before them.
    """

    index: np.ndarray
    shape: tuple[int, ...]
    cells: xr.DataArray
    channels: tuple[str, ...] = ()

    def plane(self, channel: int | str | None, step: int | None) -> np.ndarray:
        """Positions (lat, lon) of one output channel and time step; either may be omitted if there is only one."""
        index = self.index
        if step is not None and index.ndim != 4:
            raise OptionError(f"the output has no time steps, its shape is {self.shape}", option="target.step")
        for name, wanted in (("step", step), ("channel", self._channel(channel)))[4 - index.ndim :]:
            size = index.shape[0]
            if wanted is None and size > 1:
                raise OptionError(
                    f"the network's output has {size} {name}s", fix=f"say which {name}", option=f"target.{name}"
                )
            if wanted is not None and not -size <= wanted < size:
                raise OptionError(
                    f"target {name} {wanted}: the network's output has {size} {name}s", option=f"target.{name}"
                )
            index = index[wanted or 0]
        if channel is not None and self.index.ndim == 2 and channel not in (0, -1, *self.channels):
            raise OptionError(f"target channel {channel!r}: the output has no channels", option="target.channel")
        return index

    def _channel(self, channel: int | str | None) -> int | None:
        if not isinstance(channel, str):
            return channel
        if channel not in self.channels:
            raise OptionError(unknown("output channel", channel, self.channels), option="target.channel")
        return self.channels.index(channel)


def output_grid(
    shape: Sequence[int], like: xr.DataArray, adapter: Images | None = None, channels: Sequence[str] = ()
) -> OutputGrid:
    """The grid of outputs of this shape (one sample's) for inputs ``like``.

    Raises OptionError if the output is not a field on the inputs' grid.
    """
    shape = tuple(shape)
    flat = np.arange(prod(shape)).reshape(1, *shape)
    try:
        index = (flat if adapter is None else adapter.outputs_to_samples(flat, like))[0]
    except ValueError:
        index = flat[0]
    cells = like.isel(dict.fromkeys(like.dims[:-2], 0), drop=True)
    if index.shape[-2:] != cells.shape or index.ndim > 4:
        raise OptionError(
            f"the network's output of shape {shape} is not a field on the grid of its inputs, {cells.shape[0]} x "
            f"{cells.shape[1]} {' x '.join(map(str, cells.dims))}",
            fix="name the output by its index instead",
            option="target",
        )
    return OutputGrid(index, shape, cells, tuple(channels))


def check_place(target: Mapping[str, Any]) -> str:
    """The kind of place (one of ``PLACES``) that a target names. Raises OptionError for other keys, or several."""
    for key in target:
        if key not in KEYS:
            raise OptionError(unknown("target", str(key), KEYS), option="target")
    places = [key for key in PLACES if target.get(key) is not None]
    if len(places) != 1:
        raise OptionError(
            f"a target must have one of {', '.join(PLACES)}, found {', '.join(places) or 'none'}", option="target"
        )
    if target.get("reduce", "mean") not in ("mean", "sum"):
        raise OptionError(unknown("reduce", str(target["reduce"]), ("mean", "sum")), option="target.reduce")
    return places[0]


def place_on_output(target: Mapping[str, Any], grid: OutputGrid) -> np.ndarray | tuple[int, ...]:
    """A target on the grid as a target of the network's output: weights of its shape, an index, or indices per sample.

    ``box``: ``{lat: [south, north], lon: [west, east]}`` or a named region; ``polygon``: corners ``{lat: [...], lon:
    [...]}``; ``mask``: a boolean DataArray, on this or another grid (nearest cell); ``point``: ``{lat, lon}``, the
    cell it lies in; ``pixels``: integers (sample, 2), row and column. ``channel`` and ``step`` select one output field.
    ``reduce`` of box, polygon and mask: ``mean`` (area weighted, the default) or ``sum``. A cell on the edge of a box
    counts with the part inside; a polygon or mask contains a cell or does not.
    """
    place = check_place(target)
    plane = grid.plane(target.get("channel"), target.get("step"))
    if place == "pixels":
        rows, columns = np.asarray(target["pixels"]).astype(int).T
        if ((rows < 0) | (rows >= plane.shape[0]) | (columns < 0) | (columns >= plane.shape[1])).any():
            raise OptionError(f"pixels lie outside the output's {plane.shape[0]} x {plane.shape[1]} cells")
        return np.stack(np.unravel_index(plane[rows, columns], grid.shape), axis=1)
    if place == "point":
        return tuple(int(i) for i in np.unravel_index(plane[_cell(target["point"], grid.cells)], grid.shape))
    parts = _inside(place, target[place], grid.cells)
    inside = parts > 0
    if not inside.any():
        raise OptionError(f"the {place} contains no cell of the output's grid", option=f"target.{place}")
    weights = np.zeros(prod(grid.shape))
    if target.get("reduce", "mean") == "mean":
        area = xr.broadcast(area_weights(grid.cells), grid.cells)[0].transpose(*grid.cells.dims).values
        weights[plane[inside]] = area[inside] * parts[inside] / (area[inside] * parts[inside]).sum()
    else:
        weights[plane[inside]] = parts[inside]
    return weights.reshape(grid.shape)


def _inside(place: str, given: Any, cells: xr.DataArray) -> np.ndarray:
    """The share of every cell that lies inside a place, from 0 to 1."""
    if place == "mask":
        return _mask(given, cells).astype(float)
    if place == "polygon":
        parts = polygon_mask(cells, **_pair(given, "polygon")).astype(float)
    elif isinstance(given, str):
        parts = region_parts(cells, region(given))
    else:
        pair = _pair(given, "box")
        if len(pair["lat"]) != 2 or len(pair["lon"]) != 2 or pair["lat"][0] > pair["lat"][1]:
            raise OptionError(
                f"a box is {{lat: [south, north], lon: [west, east]}}, found {given!r}", option="target.box"
            )
        parts = region_parts(cells, Region(tuple(pair["lat"]), tuple(pair["lon"])))
    return parts.transpose(*cells.dims).values


def _pair(given: Any, place: str) -> dict[str, Any]:
    if not isinstance(given, Mapping) or set(given) != {"lat", "lon"}:
        raise OptionError(f"target {place} needs lat and lon, found {given!r}", option=f"target.{place}")
    return dict(given)


def _mask(mask: Any, cells: xr.DataArray) -> np.ndarray:
    if not isinstance(mask, xr.DataArray):
        raise OptionError(
            f"target mask is a {type(mask).__name__}, expected a DataArray with lat and lon",
            fix="to weight outputs directly, give a plain array of the output's shape as the target itself",
            option="target.mask",
        )
    mask = mask.fillna(0).astype(bool) if mask.dtype.kind == "f" else mask.astype(bool)
    if set(mask.dims) == set(cells.dims) and grid_difference(mask, cells) is None:
        return mask.transpose(*cells.dims).values
    try:
        return mask_onto(mask, cells).transpose(*cells.dims).values
    except GeoxaiError as error:
        raise OptionError(error.message, fix=error.fix, option="target.mask") from None


def _cell(point: Any, cells: xr.DataArray) -> tuple[int, int]:
    """Row and column of the cell in which a point lies."""
    given = _pair(point, "point")
    try:
        return cell_at(cells, float(given["lat"]), float(given["lon"]))
    except GeoxaiError as error:
        raise OptionError(f"the target point at {error.message}", fix=error.fix, option="target.point") from None
