"""What a network was trained on, and whether other samples match it: channels, grid, scaling and classes.

What has a name is brought into the network's order: channels and orientation by the adapter, classes and
target channels here. Another grid or another scaling is refused: a network takes any numbers of the right
shape, and its maps look plausible whatever they mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.coordinates import LONGITUDES, grid_difference, is_rectilinear, orientation, spacing
from geoxai.grid.several import SKETCH
from geoxai.models.adapter import Adapter

_SAME = 1e-5  # of the standard deviation: scalings closer than this are the same
_LIKE = "in the samples stage, scale: {like: ...} with the stage or run whose samples the network was trained on"


@dataclass(frozen=True, eq=False)
class Origin:
    """One input as it was in the samples the network was trained on.

    ``cells`` has the horizontal coordinates. ``mean`` and ``sd``, dims ``(channel[, row, column])``, and ``valid``
    ``(channel, row, column)`` are None if they are unknown or do not matter: a network that scales physical
    values itself takes samples of any scaling.
    """

    channels: tuple[str, ...]
    units: tuple[str, ...]
    cells: xr.Dataset
    mean: xr.DataArray | None = None
    sd: xr.DataArray | None = None
    valid: xr.DataArray | None = None

    def scaled_by_itself(self) -> Origin:
        """The same for a network that brings its own scaling of physical values."""
        return replace(self, mean=None, sd=None)


def origin_of(samples: xr.Dataset) -> Origin:
    """The origin that samples define, or one of their inputs as ``geoxai.grid.several.parts`` gives it."""
    inputs, known = samples["inputs"], SKETCH not in samples.attrs
    names = [name for name in ("lat", "lon") if name in samples.coords]
    units = samples["units"].values if "units" in samples.coords else np.full(inputs.sizes["channel"], "")
    valid = samples.get("valid") if known else None
    return Origin(
        channels=tuple(map(str, inputs["channel"].values)),
        units=tuple(map(str, units)),
        cells=xr.Dataset(coords={name: samples[name].compute() for name in names}),
        mean=_loaded(samples.get("scaling_mean")) if known else None,
        sd=_loaded(samples.get("scaling_sd")) if known else None,
        valid=None if valid is None or "sample" in valid.dims else _loaded(valid),
    )


def pinned(adapter: Adapter, origin: Origin) -> Adapter:
    """The adapter of a network trained on these samples, which brings other samples into their order.

    Longitudes of a region are left as they are: changing their convention could cut it in two.
    """
    lat, lon = adapter.lat, adapter.lon
    if is_rectilinear(origin.cells):
        try:
            direction, convention = orientation(origin.cells)
        except GeoxaiError:
            return adapter
        lat = lat or direction
        lon = lon or (convention if _around(origin.cells) and convention in LONGITUDES else None)
    return replace(adapter, lat=lat, lon=lon, channels=adapter.channels or origin.channels)


def refuse_other(origin: Origin, samples: xr.Dataset, adapter: Adapter, *, any_grid: bool = False) -> None:
    """Refuse samples with another grid or scaling than the origin, or with data in cells where the origin had none.

    Raises
    ------
    OptionError
        For ``from``, naming both sides.
    """
    these = origin_of(samples)
    difference = _grid_difference(origin.cells, these.cells, adapter)
    if difference and not any_grid:
        raise OptionError(
            f"the samples are on a different grid from those the network was trained on: {difference}",
            fix="regrid them; if the network only looks at neighbourhoods and takes any grid, set any_grid: true",
            option="from",
        )
    same_cells = difference is None
    if same_cells or all(one is None or one.ndim == 1 for one in (origin.sd, these.sd)):
        _refuse_scaling(origin, these, adapter)
    if same_cells and origin.valid is not None and these.valid is not None:
        known, there = (
            _as_network(valid, one, adapter) for valid, one in ((origin.valid, origin), (these.valid, these))
        )
        if new := int((there & ~known).sum()):
            raise OptionError(
                f"the samples have data in {new} cells where those the network was trained on had none",
                fix="mask them in these samples too, such as with a region stage",
                option="from",
            )


def with_classes(samples: xr.Dataset, classes: tuple[str, ...], option: str = "from") -> xr.Dataset:
    """Samples whose labels are numbered as the network's classes, by their names.

    Raises
    ------
    OptionError
        The samples have a class that the network does not know.
    """
    if "label" not in samples.variables or not classes:
        return samples
    label = samples["label"]
    names = tuple(str(label.attrs.get("flag_meanings", "")).split())
    numbers = np.atleast_1d(label.attrs.get("flag_values", np.arange(len(names))))
    if not names or (names == classes and list(numbers) == list(range(len(names)))):
        return samples
    strange = [name for name in names if name not in classes]
    if strange:
        raise OptionError(
            f"the network's classes are {', '.join(classes)}, those of the samples are {', '.join(names)}: "
            f"the network does not know {strange[0]!r}",
            fix=f"set classes: [{', '.join(classes)}] in the samples stage",
            option=option,
        )
    values = np.full(label.shape, -1, dtype=np.int16)
    for name, number in zip(names, numbers):
        values[label.values == number] = classes.index(name)
    attrs = label.attrs | {
        "flag_values": np.arange(len(classes), dtype=np.int16),
        "flag_meanings": " ".join(classes),
    }
    renumbered = label.copy(data=values).assign_attrs(attrs)
    return samples.assign_coords(label=renumbered) if "label" in samples.coords else samples.assign(label=renumbered)


def with_target_channels(samples: xr.Dataset, channels: tuple[str, ...]) -> xr.Dataset:
    """Samples whose target maps are in the order of the network's, by their names; others are refused."""
    if "target" not in samples.variables or "target_channel" not in samples["target"].coords:
        return samples
    names = tuple(map(str, samples["target_channel"].values))
    if names == channels:
        return samples
    if sorted(names) != sorted(channels):
        raise OptionError(
            f"the network gives images of {', '.join(channels)}, but the samples hold images of {', '.join(names)}",
            fix="give the samples stage images of the same variables",
            option="from",
        )
    return samples.isel(target_channel=[names.index(name) for name in channels])


def stored_origin(origins: Mapping[str, Origin]) -> xr.Dataset | None:
    """What is stored beside the weights of a network with one input; None for several."""
    origin = origins.get("")
    if origin is None:
        return None
    found = origin.cells.assign_coords(
        channel=("channel", np.array(origin.channels, dtype=object), {"long_name": "variable of the input"}),
        units=("channel", np.array(origin.units, dtype=object), {"long_name": "units of the channel before scaling"}),
    )
    for name, array in (("scaling_mean", origin.mean), ("scaling_sd", origin.sd), ("valid", origin.valid)):
        if array is not None:
            found[name] = array.reset_coords(drop=True)
    return found


@dataclass(frozen=True, eq=False)
class Trained:
    """The origin in the store beside weights that geoxai trained."""

    origin: Origin
    classes: tuple[str, ...]
    adapter: Adapter


def beside_weights(path: Path) -> Trained | None:
    """What is stored beside ``<run>/<stage>/network-<i>.pt``, in ``<run>/<stage>.zarr``; None for other files."""
    store = path.parent.with_name(f"{path.parent.name}.zarr")
    if not re.fullmatch(r"network-\d+\.pt", path.name) or not store.is_dir():
        return None
    stored = xr.open_zarr(store, consolidated=False)
    if stored.attrs.get("geoxai_use") != "train" or "scaling_mean" not in stored:
        return None
    origin = _read_origin(stored.drop_dims(["network", "epoch"], errors="ignore").load())
    return Trained(origin, tuple(str(stored.attrs.get("classes", "")).split()), trained_adapter(origin))


def trained_adapter(origin: Origin) -> Adapter:
    """The orientation that networks are trained in, the same however the samples are stored.

    Longitudes of a region are left as they are: changing their convention could cut it in two.
    """
    if not is_rectilinear(origin.cells):
        return Adapter(channels=origin.channels)
    return Adapter(lat="ascending", lon="0..360" if _around(origin.cells) else None, channels=origin.channels)


def _around(cells: xr.Dataset) -> bool:
    """Whether the longitudes go once round the globe."""
    lon = cells["lon"].values
    return bool(lon.size > 1 and np.isclose(lon.size * spacing(lon), 360, rtol=1e-3))


def _read_origin(stored: xr.Dataset) -> Origin:
    """The origin that ``stored_origin`` kept."""
    names = [name for name in ("lat", "lon") if name in stored.coords]
    return Origin(
        channels=tuple(map(str, stored["channel"].values)),
        units=tuple(map(str, stored["units"].values)),
        cells=xr.Dataset(coords={name: stored[name] for name in names}),
        mean=stored.get("scaling_mean"),
        sd=stored.get("scaling_sd"),
        valid=stored.get("valid"),
    )


def _loaded(array: xr.DataArray | None) -> xr.DataArray | None:
    return None if array is None else array.compute()


def _grid_difference(own: xr.Dataset, other: xr.Dataset, adapter: Adapter) -> str | None:
    """How two grids differ once both have the network's orientation; whole turns of longitude do not count."""
    if not (is_rectilinear(own) and is_rectilinear(other)):
        return grid_difference(own, other)
    first, second = ((cells["lat"].values[rows], cells["lon"].values[columns]) for cells in (own, other)
                     for rows, columns in (adapter.cell_order(cells),))  # fmt: skip
    lon = second[1]
    if first[1].size == lon.size:
        lon = first[1] + (lon - first[1] + 180) % 360 - 180
    grids = [xr.Dataset(coords={"lat": lat, "lon": lon}) for lat, lon in (first, (second[0], lon))]
    return grid_difference(*grids)


def _as_network(array: xr.DataArray, of: Origin, adapter: Adapter) -> np.ndarray:
    """``(channel, row, column)`` or ``(channel, 1, 1)`` in the network's order of channels and cells."""
    places = [of.channels.index(name) for name in adapter.channels or of.channels]
    dims = [dim for dim in array.dims if dim != "channel"]
    values: np.ndarray = array.transpose("channel", *dims).values[places]
    if values.ndim == 1:
        return values[:, None, None]
    if not is_rectilinear(of.cells):
        return values
    rows, columns = adapter.cell_order(of.cells)
    return values[:, rows][:, :, columns]


def _refuse_scaling(origin: Origin, these: Origin, adapter: Adapter) -> None:
    if origin.mean is None or origin.sd is None or these.mean is None or these.sd is None:
        return
    mean, sd = (_as_network(one, origin, adapter) for one in (origin.mean, origin.sd))
    its_mean, its_sd = (_as_network(one, these, adapter) for one in (these.mean, these.sd))
    with np.errstate(invalid="ignore"):
        used, its = (np.isfinite(m) & np.isfinite(s) & (s != 0) for m, s in ((mean, sd), (its_mean, its_sd)))
        near = _SAME * np.abs(np.where(used, sd, 1.0))
        same = (np.abs(mean - its_mean) <= near) & (np.abs(sd - its_sd) <= near)
    wrong = (used != its) | (used & ~same)
    if not wrong.any():
        return
    at = tuple(np.argwhere(wrong)[0])
    a, b, c, d = (np.broadcast_to(one, wrong.shape)[at] for one in (mean, sd, its_mean, its_sd))
    where = "" if wrong[0].size == 1 else f" in the first of {int(wrong.sum())} cells that differ"
    raise OptionError(
        f"the network was trained on {(adapter.channels or origin.channels)[at[0]]!r} as (value - {a:.6g}) / {b:.6g}, "
        f"but these samples have it as (value - {c:.6g}) / {d:.6g}{where}",
        fix=_LIKE,
        option="from",
    )
