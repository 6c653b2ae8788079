"""Scaling of network inputs: which cells have data, and their mean and spread in the training samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxai.errors import InputError
from geoxai.grid.coordinates import grid_difference, is_rectilinear, orient, orientation
from geoxai.names import unknown
from geoxai.statistics.moments import Moments, merge, moments, pool


@dataclass(frozen=True)
class Survey:
    """Results of one pass over the fields ``(channel, y, x)`` of all samples.

    ``training`` has the moments over training samples, ``lowest`` and ``highest`` the range there (inf and -inf where a
    cell has no data). ``present`` counts the samples with data in each cell, out of ``samples``.
    """

    samples: int
    present: np.ndarray
    training: Moments
    lowest: np.ndarray
    highest: np.ndarray

    @property
    def always(self) -> np.ndarray:
        """Cells that have data in every sample."""
        return self.present == self.samples

    @property
    def never(self) -> np.ndarray:
        """Cells that have data in no sample, such as land in a field of the ocean."""
        return self.present == 0

    @property
    def constant(self) -> np.ndarray:
        """Cells that have data but do not vary in the training samples."""
        return (self.training.count > 0) & (self.lowest == self.highest)


def survey(blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Survey:
    """Read fields once, block by block: ``(fields (n, channel, y, x), training (n,) bool)``. At least one block."""
    total: Survey | None = None
    for fields, training in blocks:
        finite = np.isfinite(fields)
        block = Survey(
            samples=len(fields),
            present=finite.sum(axis=0),
            training=moments(fields[training]),
            lowest=np.where(finite, fields, np.inf)[training].min(axis=0, initial=np.inf),
            highest=np.where(finite, fields, -np.inf)[training].max(axis=0, initial=-np.inf),
        )
        total = block if total is None else _together(total, block)
    assert total is not None
    return total


def _together(a: Survey, b: Survey) -> Survey:
    return Survey(
        samples=a.samples + b.samples,
        present=a.present + b.present,
        training=merge(a.training, b.training),
        lowest=np.minimum(a.lowest, b.lowest),
        highest=np.maximum(a.highest, b.highest),
    )


def channel_scaling(found: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(channel,)`` over all training samples and cells with data, equally weighted."""
    pooled = pool(found.training, axis=(1, 2))
    return pooled.mean[:, 0, 0], np.sqrt(pooled.variance(0)[:, 0, 0])


def pooled_mean(found: Survey) -> np.ndarray:
    """Mean ``(channel,)`` over all training samples and cells with data."""
    return channel_scaling(found)[0]


def cell_scaling(found: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``(channel, y, x)`` of each cell over the training samples.

    The standard deviation is exactly 0 where a cell does not vary; both are NaN where it has no data.
    """
    missing = found.training.count == 0
    sd = np.where(found.constant, 0.0, np.sqrt(found.training.variance(0)))
    return np.where(missing, np.nan, found.training.mean), np.where(missing, np.nan, sd)


def scaling_of(
    dataset: xr.Dataset, like: xr.DataArray, channels: Sequence[str], source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation from the ``scaling_mean`` and ``scaling_sd`` of a dataset.

    Both have the dims ``(channel,)`` or ``(channel, row, column)``.

    The dataset may have a different latitude direction or longitude convention from the grid ``like``. Without a
    channel dim it applies to every channel.

    Raises
    ------
    InputError
        A variable is missing or has other dims, a channel is missing, or the fields are on another grid.
    """
    arrays = []
    for name in ("scaling_mean", "scaling_sd"):
        if name not in dataset:
            raise InputError(f"{source} has {unknown('variable', name, map(str, dataset.data_vars))}")
        array = dataset[name]
        if "channel" not in array.dims:
            array = array.expand_dims(channel=list(channels))
        for channel in channels:
            if channel not in array["channel"].values:
                raise InputError(
                    f"{name} of {source} has {unknown('channel', channel, map(str, array['channel'].values))}"
                )
        arrays.append(_on_grid(array.sel(channel=list(channels)), like, source))
    mean, sd = xr.broadcast(*arrays)
    return mean.values.astype(np.float64), sd.values.astype(np.float64)


def _on_grid(array: xr.DataArray, like: xr.DataArray, source: str) -> xr.DataArray:
    if array.dims == ("channel",):
        return array
    if set(array.dims) != {"channel", *like.dims}:
        raise InputError(
            f"{array.name} of {source} has dims {', '.join(map(str, array.dims))}, expected channel or the grid's"
        )
    if is_rectilinear(like):
        array = orient(array, *orientation(like))
    difference = grid_difference(like, array)
    if difference:
        raise InputError(f"{array.name} of {source} is on a different grid from the inputs: {difference}")
    return array.transpose("channel", *like.dims).drop_vars([c for c in array.coords if c != "channel"])


def scaled(fields: np.ndarray, mean: np.ndarray, sd: np.ndarray, valid: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """``(fields - mean) / sd`` as float32, ``fill`` (channel,) where not ``valid``.

    ``fields`` (n, channel, y, x); ``mean`` and ``sd`` (channel,) or (channel, y, x); ``valid`` (channel, y, x) or
    with n.
    """
    if mean.ndim == 1:
        mean, sd = mean[:, None, None], sd[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (fields.astype(np.float64) - mean) / sd
    return np.where(valid, values, fill[:, None, None]).astype(np.float32)
