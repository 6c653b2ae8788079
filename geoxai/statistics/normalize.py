"""Relevance maps made comparable before they are averaged: otherwise the samples with large outputs are the average."""

from __future__ import annotations

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
        ``([network,] sample, ...)``; a map is everything of one sample and network, all channels together. Cells that
        are NaN stay so and count for nothing.
    how
        ``max``: by the largest absolute value. ``l1``: by the sum of absolute values. ``percent``: as ``l1``, in
        percent. ``sum``: by the sum; refused for maps with negative relevance, whose sum says nothing about their
        size. ``target``: by the explained value. ``none``: not at all.
    target_value
        ``([network,] sample)``, needed for ``target``.

    Returns
    -------
    The maps in float64, and ``([network,] sample)`` where there was nothing to divide by (a map of zeros, a target of
    zero): those maps are all NaN. With ``none`` no map is left out.

    Raises
    ------
    OptionError
        ``sum`` of signed maps, ``target`` without explained values, or an unknown way.
    """
    if how not in NORMALIZATIONS:
        raise OptionError(f"unknown normalisation {how!r}; there are: {', '.join(NORMALIZATIONS)}", option="normalize")
    maps = relevance.astype(np.float64)
    dims = [dim for dim in maps.dims if dim not in SAMPLE_DIMS]
    if how == "none":
        return maps, xr.zeros_like(maps.isel(dict.fromkeys(dims, 0), drop=True), dtype=bool)
    if how == "max":
        size = abs(maps).max(dims)
    elif how == "target":
        if target_value is None:
            raise OptionError("normalisation by target needs the explained values", option="normalize")
        size = target_value.astype(np.float64)
    elif how == "sum":
        if bool((maps < 0).any()):
            raise OptionError(
                "relevance has both signs: positive and negative parts cancel in a sum, which then says nothing about "
                "the size of a map",
                fix="use normalize: l1 (sum of absolute values) or max",
                option="normalize",
            )
        size = maps.sum(dims)
    else:
        size = abs(maps).sum(dims) / (100.0 if how == "percent" else 1.0)
    empty = size.isnull() | (abs(size) == np.inf) | (size == 0)
    return maps / size.where(~empty), empty
