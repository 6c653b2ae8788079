"""Normalise relevance maps before they are averaged: otherwise samples with large outputs dominate the mean."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add

import numpy as np
import xarray as xr

from geoxai.errors import OptionError

NORMALIZATIONS = ("max", "l1", "percent", "sum", "target", "none")
SAMPLE_DIMS = ("network", "sample")


def normalize(
    relevance: xr.DataArray, how: str, target_value: xr.DataArray | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Divide each map by its own size.

    Parameters
    ----------
    relevance
        ``([network,] sample, ...)``; a map is all values of one sample and network, all channels together. Cells that
        are NaN stay NaN and do not count.
    how
        ``max``: by the largest absolute value. ``l1``: by the sum of absolute values. ``percent``: as ``l1``, in
        percent. ``sum``: by the sum; refused for maps with negative relevance, whose sum says nothing about their
        size. ``target``: by the explained value. ``none``: not at all.
    target_value
        ``([network,] sample)``, needed for ``target``.

    Returns
    -------
    The maps in float64, and a boolean ``([network,] sample)``, true where there was nothing to divide by (a map of
    zeros, a target of zero): those maps are all NaN. With ``none`` no map is left out.

    Raises
    ------
    OptionError
        ``sum`` of signed maps, ``target`` without explained values, or an unknown ``how``.
    """
    maps, empty = normalize_together({"": relevance}, how, target_value)
    return maps[""], empty


def normalize_together(
    relevance: Mapping[str, xr.DataArray], how: str, target_value: xr.DataArray | None = None
) -> tuple[dict[str, xr.DataArray], xr.DataArray]:
    """The same for the maps of several inputs of a network: a map is all values of one sample, all inputs together."""
    if how not in NORMALIZATIONS:
        raise OptionError(f"unknown normalisation {how!r}; there are: {', '.join(NORMALIZATIONS)}", option="normalize")
    maps = {name: array.astype(np.float64) for name, array in relevance.items()}
    dims = {name: [dim for dim in array.dims if dim not in SAMPLE_DIMS] for name, array in maps.items()}
    if how == "none":
        name, first = next(iter(maps.items()))
        return maps, xr.zeros_like(first.isel(dict.fromkeys(dims[name], 0), drop=True), dtype=bool)
    if how == "max":
        size = reduce(_larger, [abs(array).max(dims[name]) for name, array in maps.items()])
    elif how == "target":
        if target_value is None:
            raise OptionError("normalisation by target needs the explained values", option="normalize")
        size = target_value.astype(np.float64)
    elif how == "sum":
        if any(bool((array < 0).any()) for array in maps.values()):
            raise OptionError(
                "relevance has both signs: positive and negative parts cancel in a sum, which then says nothing about "
                "the size of a map",
                fix="use normalize: l1 (sum of absolute values) or max",
                option="normalize",
            )
        size = reduce(add, [array.sum(dims[name]) for name, array in maps.items()])
    else:
        size = reduce(add, [abs(array).sum(dims[name]) for name, array in maps.items()])
        size = size / (100.0 if how == "percent" else 1.0)
    empty = size.isnull() | (abs(size) == np.inf) | (size == 0)
    return {name: array / size.where(~empty) for name, array in maps.items()}, empty


def _larger(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(np.fmax, a, b)
