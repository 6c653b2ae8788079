"""Stores created at full size and filled block by block: alignment is checked before any byte is written."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from geoxai.errors import GeoxaiError
from geoxai.stages.stage import Layout
from geoxai.storage.encoding import quiet, storable, zarr_encoding
from geoxai.storage.files import replaced


def chunks_of(layout: Layout) -> dict[str, list[int]]:
    """The chunk shape of every variable that units fill."""
    return {str(name): list(_chunk(layout, variable)) for name, variable in _filled(layout).items()}


def create(path: Path, layout: Layout, attrs: Mapping[str, Any]) -> None:
    """Make the store of a template at full size, with every coordinate and no block filled yet.

    It appears under its name only when it is complete.
    """
    coords = {name: coord.load() for name, coord in layout.template.coords.items()}  # lazy where taken from a store
    template = storable(layout.template.assign_coords(coords).assign_attrs(attrs))
    filled = _filled(layout)
    encodings = zarr_encoding(template)
    for name, variable in filled.items():
        encodings.setdefault(name, {})["chunks"] = _chunk(layout, variable)
        template[name] = template[name].chunk(dict(zip(variable.dims, _chunk(layout, variable))))
    with replaced(path) as part, quiet():
        template.to_zarr(part, mode="w", compute=False, consolidated=True, encoding=encodings)


def write_block(path: Path, layout: Layout, unit: int, block: xr.Dataset) -> list[Path]:
    """Fill the block of one unit, whole chunks only; returns their files. A chunk without any value has none.

    Raises
    ------
    GeoxaiError
        The block's variables, dims or lengths are not those of the template.
    """
    start = unit * layout.block
    stop = min(start + layout.block, layout.template.sizes[layout.dim])
    filled = _filled(layout)
    missing = sorted(map(str, set(filled) - set(block.data_vars)))
    if missing:
        raise GeoxaiError(f"unit {unit} of {path.name} gave no {', '.join(missing)}")
    out = xr.Dataset()
    for name, variable in filled.items():
        expected = {**variable.sizes, layout.dim: stop - start}
        given = block[name]
        if dict(given.sizes) != expected:
            raise GeoxaiError(
                f"unit {unit} of {path.name}: {name} has {dict(given.sizes)}, the store expects {expected}"
            )
        out[name] = given.variable.transpose(*variable.dims).astype(variable.dtype)
        out[name].attrs = dict(variable.attrs)
    with quiet():
        out.to_zarr(path, region={layout.dim: slice(start, stop)}, consolidated=False, mode="r+")
    chunks = [
        path.joinpath(str(name), "c", *(str(unit) if dim == layout.dim else "0" for dim in variable.dims))
        for name, variable in filled.items()
    ]
    return [chunk for chunk in chunks if chunk.exists()]


def sweep_chunks(path: Path) -> None:
    """Remove chunks that a killed process left half written. Nobody else may be writing there."""
    for left in path.rglob("*.partial"):  # as zarr calls them until they are renamed
        left.unlink()


def write_whole(path: Path, dataset: xr.Dataset, attrs: Mapping[str, Any]) -> None:
    """Write a dataset as one store that is either complete or absent."""
    dataset = storable(dataset.assign_attrs(attrs))
    with replaced(path) as part, quiet():
        dataset.to_zarr(part, mode="w", consolidated=True, encoding=zarr_encoding(dataset))


def _filled(layout: Layout) -> dict[Hashable, xr.DataArray]:
    """The variables that units fill: those of the template that are dask arrays."""
    return {n: v for n, v in layout.template.data_vars.items() if v.chunks is not None}


def _chunk(layout: Layout, variable: xr.DataArray) -> tuple[int, ...]:
    return tuple(min(layout.block, size) if dim == layout.dim else size for dim, size in variable.sizes.items())
