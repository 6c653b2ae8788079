"""The panels of a figure: one field each, in memory, in the order of their dims."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.plotting.titles import panel_titles, scalar_title

MOST_PANELS = 60


@dataclass(frozen=True)
class Panels:
    """The fields of the panels: dims (panel dims, y, x)."""

    data: xr.DataArray
    dims: tuple[str, ...]

    @classmethod
    def of(cls, data: xr.DataArray, panels: str | Sequence[str] | None) -> Panels:
        """The panels of a field over the dims named, or over all but its spatial ones."""
        data, space = with_positions(data)
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
                f"panels cannot be drawn over {sizes}: at most two dims are possible, (rows, columns)",
                fix="select one value of the others",
                option="select" if left else "panels",
            )
        data = data.squeeze([d for d in data.dims if d not in space and d not in keep])
        data = data.transpose(*keep, *space)
        count = int(np.prod([data.sizes[d] for d in keep]))
        if count > MOST_PANELS:
            raise OptionError(
                f"{count} panels over {', '.join(keep)} are more than fit a figure ({MOST_PANELS})",
                fix="select some values of them",
                option="select",
            )
        if 0 in data.shape:
            raise OptionError(f"{data.name or 'the field'} has no cell: {dict(data.sizes)}", option="variable")
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


def with_positions(data: xr.DataArray) -> tuple[xr.DataArray, tuple[str, str]]:
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
