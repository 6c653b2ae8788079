"""Datasets for any reader of Zarr 3 or NetCDF-4: CF attributes, explicit units of time, plain strings."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import xarray as xr
from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning

CONVENTIONS = "CF-1.11"

_EPOCH = "since 1970-01-01"
_CF = {
    "lat": {"standard_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "units": "degrees_east"},
    "time": {"standard_name": "time"},
}


def storable(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset without inherited encodings: variable-length strings, uniform chunks, CF names on coordinates."""
    dataset = dataset.drop_encoding()
    variables: dict[Hashable, xr.Variable] = {}
    for name, variable in dataset.variables.items():
        variable = variable.copy(deep=False)
        if variable.dtype.kind in "UT":
            variable = xr.Variable(variable.dims, variable.values.astype(object), variable.attrs)
        if variable.chunks is not None:
            variable = variable.chunk({dim: max(chunks) for dim, chunks in zip(variable.dims, variable.chunks)})
        if name in _CF:
            variable.attrs = _CF[str(name)] | variable.attrs
        variables[name] = variable
    coords = {name: variables.pop(name) for name in dataset.coords}
    return xr.Dataset(variables, coords, dict(dataset.attrs) | {"Conventions": CONVENTIONS})


def encoding(dataset: xr.Dataset) -> dict[Hashable, dict[str, Any]]:
    """Explicit units of time, so that they never depend on the first value; no fill value on coordinates."""
    found: dict[Hashable, dict[str, Any]] = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "M":
            whole = bool((variable.values.astype("datetime64[us]").astype("int64") % 1_000_000 == 0).all())
            units = f"{'seconds' if whole else 'microseconds'} {_EPOCH}"
            found[name] = {"units": units, "calendar": "proleptic_gregorian", "dtype": "int64"}
        elif variable.dtype.kind == "O" and variable.size and hasattr(first := variable.values.flat[0], "calendar"):
            found[name] = {"units": f"seconds {_EPOCH}", "calendar": first.calendar, "dtype": "int64"}
        elif name in dataset.coords and variable.dtype.kind == "f":
            found[name] = {"_FillValue": None}
    return found


def zarr_encoding(dataset: xr.Dataset) -> dict[Hashable, dict[str, Any]]:
    """The same for Zarr, where every chunk ends with a checksum (CRC-32C) that any reader verifies."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    found = encoding(dataset)
    for name in dataset.variables:
        found.setdefault(name, {})["compressors"] = (ZstdCodec(), Crc32cCodec())
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the warnings of zarr 3 that consolidated metadata and strings are new in its specification."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        yield
