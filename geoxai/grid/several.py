"""The inputs of a network that takes several: all in one dataset, and each as if it were the only one.

A dataset of several inputs lists them in order in its attribute ``network_inputs``. Variables with channels
carry the name of their input (``inputs_sst``, ``relevance_sst``), and so do the channels (``channel_sst``,
``units_sst``). Rows, columns and their coordinates do so only if the inputs lie on different grids
(``lat_sst``, ``lat_z500``): one dataset cannot hold two latitudes of the same name. What describes samples, such as
time, label or the account, occurs once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import xarray as xr

from geoxai.grid.coordinates import grid_difference

ATTRIBUTE = "network_inputs"
SKETCH = "sketch"  # attribute of samples whose values are not known yet
_CHANNEL = "channel"
_CF = {
    "lat": {"standard_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "units": "degrees_east"},
}

Gridded = TypeVar("Gridded", xr.DataArray, xr.Dataset)


def names_of(dataset: xr.Dataset) -> tuple[str, ...]:
    """The names of several inputs; empty if there is only one."""
    return tuple(str(dataset.attrs.get(ATTRIBUTE, "")).split())


def inputs_of(samples: xr.Dataset) -> xr.DataArray | xr.Dataset:
    """What a network takes: ``inputs``, or a dataset with several by name, in their order."""
    return fields_of(samples, "inputs")


def fields_of(dataset: xr.Dataset, variable: str) -> xr.DataArray | xr.Dataset:
    """A variable that has channels; for several inputs a dataset with one variable per input, in their order."""
    names = names_of(dataset)
    if not names:
        return dataset[variable]
    found = dataset[[f"{variable}_{name}" for name in names]].rename({f"{variable}_{name}": name for name in names})
    return found.assign_attrs({ATTRIBUTE: " ".join(names)})


def dataset_of(fields: xr.DataArray | xr.Dataset, variable: str) -> xr.Dataset:
    """The dataset from which ``fields_of`` gives these fields."""
    if isinstance(fields, xr.DataArray):
        return fields.to_dataset(name=variable)
    names = [str(name) for name in fields.data_vars]
    return fields.rename({name: f"{variable}_{name}" for name in names}).assign_attrs({ATTRIBUTE: " ".join(names)})


def ends_of(dataset: xr.Dataset) -> tuple[str, ...]:
    """The suffix of the variables of each input; empty if there is only one."""
    return tuple(f"_{name}" for name in names_of(dataset)) or ("",)


def each(inputs: xr.DataArray | xr.Dataset) -> dict[str, xr.DataArray]:
    """What ``inputs_of`` gives, by input; the name of a single input is empty."""
    if isinstance(inputs, xr.DataArray):
        return {"": inputs}
    return {str(name): array for name, array in inputs.data_vars.items()}


def parts(dataset: xr.Dataset) -> dict[str, xr.Dataset]:
    """The dataset of each input as if it were the only one; a single input is unchanged, under an empty name."""
    return {name: alone(dataset, name) for name in names_of(dataset) or ("",)}


def alone(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """What belongs to one input, and what describes samples, named as if it were the only input."""
    names = names_of(dataset)
    if not names:
        return dataset
    others = {dim for other in names if other != name for dim in _own_dims(dataset, other)} - _own_dims(dataset, name)
    foreign = [
        key
        for key, variable in dataset.variables.items()
        if others & set(variable.dims) or (not variable.dims and _owner(str(key), names) not in ("", name))
    ]
    found = _renamed(dataset.drop_vars(foreign), name)
    found.attrs = {key: value for key, value in dataset.attrs.items() if key != ATTRIBUTE}
    return found


def plain(array: xr.DataArray) -> xr.DataArray:
    """The array of one of several inputs, its dims and coordinates named as if it were the only input."""
    for dim in map(str, array.dims):
        if dim.startswith(f"{_CHANNEL}_"):
            return _renamed(array, dim.removeprefix(f"{_CHANNEL}_"))
    return array


def together(by_name: Mapping[str, xr.Dataset], like: xr.Dataset | None = None) -> xr.Dataset:
    """One dataset of several inputs, the inverse of ``parts``. What describes samples is taken from the first.

    Whether they share a grid is taken from ``like``, a dataset of the same inputs, or else follows from lat and lon.
    """
    if set(by_name) == {""}:
        return by_name[""]
    if like is not None:
        apart = any(len(_own_dims(like, name)) > 1 for name in by_name)
    else:
        apart = not _on_one_grid(*by_name.values())
    whole: xr.Dataset | None = None
    for name, dataset in by_name.items():
        renamed = _named(dataset, name, apart, by_name)
        if whole is None:
            whole = renamed
        else:
            whole = whole.assign_coords(
                {key: coord for key, coord in renamed.coords.items() if key not in whole.variables}
            ).assign({key: array for key, array in renamed.data_vars.items() if key not in whole.variables})
    assert whole is not None
    return whole.assign_attrs({ATTRIBUTE: " ".join(by_name)})


def _owner(scalar: str, names: tuple[str, ...]) -> str:
    """The input whose name is part of a scalar coordinate's name, if any."""
    return max((name for name in names if scalar.endswith(f"_{name}")), key=len, default="")


def _own_dims(dataset: xr.Dataset, name: str) -> set[Hashable]:
    """The dims whose names end in that of an input."""
    channel = f"{_CHANNEL}_{name}"
    dims = {dim for variable in dataset.variables.values() if channel in variable.dims for dim in variable.dims}
    return {dim for dim in dims if str(dim).endswith(f"_{name}")}


def _renamed(obj: Gridded, name: str) -> Gridded:
    """Removes the name of the input from dims, coordinates and variables with channels."""
    end = f"_{name}"
    variables: Mapping[Hashable, Any] = obj.variables if isinstance(obj, xr.Dataset) else obj.coords
    keys: set[Hashable] = {dim for dim in obj.dims if str(dim).endswith(end)}
    for key, variable in variables.items():
        scalar = isinstance(obj, xr.Dataset) and not variable.dims  # an array has the scalars of all inputs
        if str(key).endswith(end) and (scalar or keys & set(variable.dims)):
            keys = keys | {key}
    return obj.rename({key: str(key).removesuffix(end) for key in keys})


def _named(dataset: xr.Dataset, name: str, apart: bool, by_name: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Adds the name of the input to everything that belongs to it alone."""
    own = {_CHANNEL, *(_horizontal(dataset) if apart else ())}
    keys: set[Hashable] = {dim for dim in own if dim in dataset.dims}
    for key, variable in dataset.variables.items():
        coordinate = key in dataset.coords
        if _CHANNEL in variable.dims or (coordinate and own & set(variable.dims)):
            keys.add(key)
        elif coordinate and not variable.dims:
            alike = all(key in one.coords and one[key].identical(dataset[key]) for one in by_name.values())
            keys |= set() if alike else {key}
    found = dataset.rename({key: f"{key}_{name}" for key in keys})
    for key in ("lat", "lon"):
        if key in keys and key in dataset.coords:
            found[f"{key}_{name}"].attrs = _CF[key] | dataset[key].attrs
    return found


def _horizontal(dataset: xr.Dataset) -> tuple[Hashable, ...]:
    """Rows and columns: the two dims after the channels."""
    for variable in dataset.variables.values():
        if _CHANNEL in variable.dims[:-2]:
            return variable.dims[-2:]
    return ()


def _on_one_grid(first: xr.Dataset, *others: xr.Dataset) -> bool:
    dims = _horizontal(first)
    return all(_horizontal(other) == dims and grid_difference(first, other) is None for other in others)
