"""Maps for notebooks, of a field, a dataset of a run, or the path of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from geoxai.errors import InputError, OptionError
from geoxai.grid.several import plain
from geoxai.names import unknown
from geoxai.plotting.maps import MapFigure, plot_maps

# The variable of a dataset that is drawn by default: the first of these that it has.
PREFERRED = ("relevance_mean", "relevance", "prediction", "inputs_mean", "inputs")
_AXES = ("lat", "lon", "y", "x")
_SHORT = {"latitude": "lat", "longitude": "lon"}


def plot(data: xr.DataArray | xr.Dataset | str | Path, variable: str | None = None, **options: Any) -> MapFigure:
    """Draw maps with coastlines, as the stage ``plot.maps`` does.

    Parameters
    ----------
    data
        A field on latitudes and longitudes, a dataset with one (what ``geoxai.explain`` gives, or a store of a run), or
        the path of a Zarr store or NetCDF file.
    variable
        Which variable of a dataset. Default: mean relevance, relevance, the prediction, or the only one with lat and
        lon.
    options
        As for ``geoxai.plotting.maps.plot_maps``: ``panels``, ``contours``, ``projection``, ``extent``, ``cmap``,
        ``title``, ...

    Returns
    -------
    MapFigure
        A matplotlib figure, displayed in a notebook; ``figure.savefig("maps.png")`` writes it. Of several
        networks, the mean is drawn.

    Raises
    ------
    InputError
        There is no such store, or ``data`` is of another type.
    OptionError
        No variable or several could be meant, or the field has more than two dims besides lat and lon: reduce it with
        ``data.isel(sample=0)`` or ``data.mean("sample")``.

    Examples
    --------
    >>> geoxai.plot("runs/enso-demo/composite.zarr", title="Where the evidence lies")  # doctest: +SKIP
    """
    if isinstance(data, str | Path):
        data = _opened(Path(data))
    if not isinstance(data, xr.DataArray | xr.Dataset):
        raise InputError(f"data is a {type(data).__name__}, expected a DataArray, a Dataset or the path of a store")
    data = data.rename({long: short for long, short in _SHORT.items() if long in data.coords})
    field = data if isinstance(data, xr.DataArray) else plain(data[_chosen(data, variable)])
    if "network" in field.dims:
        field = field.mean("network", keep_attrs=True)
    return plot_maps(field.load(), **options)


def _opened(path: Path) -> xr.Dataset:
    if not path.exists():
        raise InputError(f"there is no store or file {path}")
    try:
        return xr.open_zarr(path, consolidated=False) if path.is_dir() else xr.open_dataset(path)
    except Exception as error:  # errors of the Zarr, NetCDF and HDF5 libraries have no common base
        raise InputError(f"{path} is neither a Zarr store nor a NetCDF file: {error}") from error


def _chosen(data: xr.Dataset, variable: str | None) -> str:
    """The name of the variable to draw."""
    maps = [str(name) for name, field in data.data_vars.items() if {"lat", "lon"} <= set(plain(field).coords)]
    if variable is not None:
        if variable not in maps:
            raise OptionError(unknown("variable", variable, maps or ["none with lat and lon"]), option="variable")
        return variable
    found = next((name for name in PREFERRED if name in maps), maps[0] if len(maps) == 1 else None)
    if found is None:
        there = f"several variables could be drawn: {', '.join(maps)}" if maps else "no variable has lat and lon"
        raise OptionError(there, fix="name one with variable" if maps else None, option="variable")
    return found
