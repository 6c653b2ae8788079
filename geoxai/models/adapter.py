"""From samples to a network and back: layout, orientation, channels and scaling, as declared, never guessed.

Everything but the scaling only reorders indices, so relevance returns to exactly the cells it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.coordinates import orientation_order
from geoxai.grid.several import plain
from geoxai.names import unknown

_AXES = ("sample", "channel", "lat", "lon")
_ALIASES = {"y": "lat", "x": "lon", "latitude": "lat", "longitude": "lon"}


@dataclass(frozen=True, eq=False)
class Adapter:
    """The form in which a network expects its inputs.

    Parameters
    ----------
    layout
        Order of its axes, sample first: ``sample, channel, lat, lon``, channels last ``sample, lat, lon, channel``, or
        without ``channel`` if there is only one.
    flat
        All axes but the sample are flattened into one, in the order of ``layout``, the last varying fastest.
    lat, lon
        ``ascending`` or ``descending``; ``0..360`` or ``-180..180``. None takes them as the samples have them.
    channels
        Names of its channels in its order; None takes all in the order of the samples.
    scaling
        Per channel ``(offset, factor)``: the network sees ``(physical - offset) / factor``. None: the samples are
        already as the network expects them. Filled cells (land) keep their fill value.
    sample_mean, sample_sd
        How the samples were scaled, ``physical = inputs * sd + mean``, dims ``(channel)`` or ``(channel, lat, lon)``;
        only used together with ``scaling``. ``for_samples`` sets them.
    sample_valid
        True where the samples hold data, False where a fill value is, dims ``([sample,] channel, lat, lon)``; only used
        together with ``scaling``. ``for_samples`` sets it.
    """

    layout: tuple[str, ...] = _AXES
    flat: bool = False
    lat: str | None = None
    lon: str | None = None
    channels: tuple[str, ...] | None = None
    scaling: Mapping[str, tuple[float, float]] | None = None
    sample_mean: xr.DataArray | None = None
    sample_sd: xr.DataArray | None = None
    sample_valid: xr.DataArray | None = None

    def for_samples(self, samples: xr.Dataset) -> Adapter:
        """The same adapter for samples with this scaling.

        Raises
        ------
        OptionError
            The network needs channels that the samples lack, or several although its layout has no channel axis.
        """
        adapter = replace(
            self,
            sample_mean=samples.get("scaling_mean"),
            sample_sd=samples.get("scaling_sd"),
            sample_valid=samples.get("valid"),
        )
        adapter._channel_index(samples["inputs"])
        return adapter

    def to_network(self, inputs: xr.DataArray) -> np.ndarray:
        """Inputs ``(sample, channel, lat, lon)`` as float32 in the network's own layout, orientation and scaling."""
        inputs = _with_axes(inputs)
        values = self._rescaled(inputs).astype(np.float32, copy=False)
        channel, lat, lon = self._channel_index(inputs), *self._cell_index(inputs)
        values = values[:, channel][:, :, lat][:, :, :, lon]
        values = self._arranged(values)
        return np.ascontiguousarray(values.reshape(len(values), -1) if self.flat else values)

    def to_samples(self, relevance: np.ndarray, like: xr.DataArray) -> np.ndarray:
        """Relevance in the network's layout back on the cells of ``like``: the inverse index map, nothing rescaled.

        Channels that the network never saw get zero.
        """
        like = _with_axes(like)
        channel, lat, lon = self._channel_index(like), *self._cell_index(like)
        maps = self._unarranged(relevance, len(channel), lat.size, lon.size)
        out = np.zeros((len(maps), *like.shape[1:]), maps.dtype)
        out[:, channel] = _scattered(maps, lat, lon)
        return out

    def outputs_to_samples(self, outputs: np.ndarray, like: xr.DataArray) -> np.ndarray:
        """Images from the network as ``(sample, target_channel, lat, lon)``, oriented as ``like``.

        Time steps, an axis between the sample axis and the others, stay where they are.
        """
        if outputs.ndim == len(_AXES) + 1:
            folded = self.outputs_to_samples(outputs.reshape(-1, *outputs.shape[2:]), like)
            return folded.reshape(*outputs.shape[:2], *folded.shape[1:])
        lat, lon = self._cell_index(plain(like))
        if outputs.ndim == len(_AXES) and self.flat:
            maps = outputs
        elif outputs.ndim == len(_AXES) - 1 and not self.flat:
            maps = replace(self, layout=tuple(a for a in self.layout if a != "channel"))._unarranged(
                outputs, 1, lat.size, lon.size
            )
        else:
            full = replace(
                self, layout=self.layout if "channel" in self.layout else ("sample", "channel", *self.layout[1:])
            )
            maps = full._unarranged(outputs, -1, lat.size, lon.size)
        return _scattered(maps, lat, lon)

    def targets_to_network(self, targets: np.ndarray, like: xr.DataArray) -> np.ndarray:
        """Weights or masks ``(..., lat, lon)`` on the grid of ``like`` in the orientation of the network."""
        lat, lon = self._cell_index(plain(like))
        return np.ascontiguousarray(targets[..., lat, :][..., lon])

    def cell_order(self, cells: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """The orders in which the network expects the rows and columns of a rectilinear grid."""
        if self.lat is None and self.lon is None:
            return np.arange(cells["lat"].size), np.arange(cells["lon"].size)
        rows, columns, _ = orientation_order(cells, self.lat, self.lon)
        return rows, columns

    def _channel_index(self, inputs: xr.DataArray) -> list[int]:
        available = [str(name) for name in inputs["channel"].values]
        wanted = available if self.channels is None else list(self.channels)
        for name in wanted:
            if name not in available:
                raise OptionError(
                    f"the network asks for an {unknown('channel', name, available)}",
                    fix="name the channels of the samples in the order the network expects them",
                    option="channels",
                )
        if "channel" not in self.layout and len(wanted) != 1:
            raise OptionError(
                f"layout {', '.join(self.layout)} has no channel, the samples have {len(wanted)}: {', '.join(wanted)}",
                fix="say in channels which one the network takes",
                option="layout",
            )
        return [available.index(name) for name in wanted]

    def _cell_index(self, inputs: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
        """Which latitude and longitude index of ``inputs`` comes at each place of the network's order."""
        rows, columns = (np.arange(inputs.sizes[dim]) for dim in inputs.dims[-2:])
        if self.lat is None and self.lon is None:
            return rows, columns
        if not {"lat", "lon"} <= set(inputs.dims):
            raise OptionError(
                f"lat and lon can be reoriented on rectilinear grids only; these inputs have dims "
                f"{', '.join(map(str, inputs.dims))}",
                fix="leave out lat and lon, and give the samples in the orientation the network expects",
                option="lat" if self.lat else "lon",
            )
        rows, columns, _ = orientation_order(inputs, self.lat, self.lon)
        return rows, columns

    def _rescaled(self, inputs: xr.DataArray) -> np.ndarray:
        values = inputs.values
        if self.scaling is None:
            return values
        offset, factor = self._constants(inputs)
        mean = _field(self.sample_mean, inputs, 0.0)
        sd = _field(self.sample_sd, inputs, 1.0)
        rescaled = (values.astype(np.float64) * sd + mean - offset) / factor
        # cells without a physical value keep the fill value
        physical = np.isfinite(mean) & np.isfinite(sd) & self._valid(inputs)
        return np.where(physical, rescaled, values)

    def _valid(self, inputs: xr.DataArray) -> np.ndarray:
        """Where ``inputs`` hold data, broadcast against them."""
        if self.sample_valid is None:
            return np.ones((1, 1, 1), dtype=bool)
        valid = self.sample_valid.sel(channel=inputs["channel"].values)
        if "sample" in valid.dims:
            valid = valid.sel(sample=inputs["sample"].values)
        return valid.transpose(*(dim for dim in inputs.dims if dim in valid.dims)).values.astype(bool)

    def _constants(self, inputs: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
        assert self.scaling is not None
        names = [str(name) for name in inputs["channel"].values]
        for name in self.scaling:
            if name not in names:
                raise OptionError(unknown("channel", name, names), option=f"scaling.{name}")
        wanted = names if self.channels is None else self.channels
        if missing := [name for name in wanted if name not in self.scaling]:
            raise OptionError(
                f"scaling has no constants for channel {missing[0]!r}",
                fix="give offset and factor for every channel (0 and 1 leave physical values)",
                option="scaling",
            )
        pairs = [self.scaling.get(name, (0.0, 1.0)) for name in names]
        offset, factor = (np.array(column, np.float64)[:, None, None] for column in zip(*pairs))
        return offset, factor

    def _arranged(self, maps: np.ndarray) -> np.ndarray:
        """From (sample, channel, lat, lon) to the layout."""
        if "channel" not in self.layout:
            maps = maps[:, 0]
            return maps.transpose([("sample", "lat", "lon").index(axis) for axis in self.layout])
        return maps.transpose([_AXES.index(axis) for axis in self.layout])

    def _unarranged(self, array: np.ndarray, channels: int, lat: int, lon: int) -> np.ndarray:
        """From the layout to (sample, channel, lat, lon)."""
        sizes = {"sample": len(array), "channel": channels, "lat": lat, "lon": lon}
        array = array.reshape([sizes[axis] for axis in self.layout])
        if "channel" not in self.layout:
            return array.transpose([self.layout.index(axis) for axis in ("sample", "lat", "lon")])[:, None]
        return array.transpose([self.layout.index(axis) for axis in _AXES])


def parse_layout(layout: str | Sequence[str] | Mapping[Any, Sequence[str]]) -> tuple[tuple[str, ...], bool]:
    """The axes and whether they are flattened, from what a user writes.

    ``flat`` is channel, lat, lon flattened with lon fastest; ``{flat: [lat, lon, channel]}`` another order; a list
    names the axes one by one.
    """
    if layout == "flat":
        return _AXES, True
    axes: Sequence[Any]
    if isinstance(layout, Mapping):
        if set(layout) != {"flat"}:
            raise OptionError(f"layout takes the key 'flat', found {', '.join(map(str, layout))}", option="layout")
        axes, flat = ["sample", *layout["flat"]], True
    elif isinstance(layout, str):
        raise OptionError(f"layout is 'flat' or a list of axes, found {layout!r}", option="layout")
    else:
        axes, flat = layout, False
    named = tuple(_ALIASES.get(str(axis), str(axis)) for axis in axes)
    if named[:1] != ("sample",) or sorted(named) not in (sorted(_AXES), sorted(set(_AXES) - {"channel"})):
        raise OptionError(
            f"layout must name sample first, then channel, lat and lon in any order; found {', '.join(map(str, axes))}",
            fix="[sample, channel, lat, lon], [sample, lat, lon, channel], [sample, lat, lon] or flat",
            option="layout",
        )
    return named, flat


def _with_axes(inputs: xr.DataArray) -> xr.DataArray:
    """Inputs with their axes named as if they were the only input."""
    inputs = plain(inputs)
    if inputs.dims[:2] != ("sample", "channel") or inputs.ndim != len(_AXES):
        raise OptionError(
            f"inputs have the dims {', '.join(map(str, inputs.dims))}, expected sample, channel, lat, lon (or y, x)"
        )
    return inputs


def _field(constant: xr.DataArray | None, inputs: xr.DataArray, default: float) -> np.ndarray:
    """A scaling constant or field, broadcast against one sample of the inputs."""
    if constant is None:
        return np.full((inputs.sizes["channel"], 1, 1), default)
    constant = constant.sel(channel=inputs["channel"].values)
    values = constant.transpose("channel", *[dim for dim in inputs.dims[2:] if dim in constant.dims]).values
    return values.astype(np.float64).reshape(values.shape if values.ndim == 3 else (-1, 1, 1))


def _scattered(maps: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Maps in the network's order put back where they came from."""
    return maps[:, :, np.argsort(lat)][:, :, :, np.argsort(lon)]
