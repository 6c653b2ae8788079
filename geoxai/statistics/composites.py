"""Class composites of relevance maps, computed block by block.

``partial_sums`` reduces one block of samples, ``merge_sums`` combines blocks in their order, ``composite`` turns
the sums into means, spreads and effective counts. Any division into blocks gives the same numbers up to rounding in
float64; the same division gives the same bits.

Relevance is a sum over inputs: nothing here is weighted by area.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from geoxai.statistics.events import effective_fraction, find_events, lag_counts
from geoxai.statistics.moments import Moments, merge, moments

_LAG = ("lag_count", "lag_product", "lag_first", "lag_second")


def partial_sums(
    maps: xr.DataArray, group: xr.DataArray, used: xr.DataArray, steps: np.ndarray, classes: int,
    inputs: xr.DataArray | None = None,
) -> xr.Dataset:  # fmt: skip
    """Sums of one block by class.

    Parameters
    ----------
    maps
        ``([network,] sample, *cells)``, normalised, NaN where a cell has no relevance.
    group
        ``([network,] sample)`` position of each sample's class, -1 for none.
    used
        ``([network,] sample)`` whether a sample counts.
    steps
        ``(sample,)`` number of each sample's time step (``events.time_steps``).
    classes
        Number of classes.
    inputs
        ``(sample, *cells)`` in physical units, NaN where there are no data.

    Returns
    -------
    Sums over ``(network, class, *cells)`` in float64, ``used``, and the first and last map of the block (NaN where that
    sample is not used), which the merge needs for pairs across blocks. The dim ``network`` is always there.
    """
    maps = _with_network(maps)
    series, cells = maps.shape[:2], maps.dims[2:]
    of_class, counts = (np.broadcast_to(_with_network(a).values, series) for a in (group, used))
    values = np.where(counts.reshape(series + (1,) * len(cells)), maps.values, np.nan)
    groups = np.where(counts, of_class, -1)
    fields = None if inputs is None else inputs.values
    networks = [
        _network_sums(maps_, group_, find_events(all_, steps), classes, fields)
        for maps_, group_, all_ in zip(values, groups, of_class)
    ]
    dims = ("network", "class", *cells)
    sums = xr.Dataset({name: (dims, np.stack([one[name] for one in networks])) for name in networks[0]})
    sums["used"] = (("network", "sample"), groups >= 0)
    sums["first"] = (("network", *cells), values[:, 0])
    sums["last"] = (("network", *cells), values[:, -1])
    return sums


def merge_sums(partials: Iterable[xr.Dataset], group: np.ndarray, event: np.ndarray) -> xr.Dataset:
    """Sums of all blocks, which are given in their order.

    ``group`` and ``event`` are ``(network, sample)`` over all samples of all blocks.
    """
    total: xr.Dataset | None = None
    last, used, done = np.empty(0), [], 0
    for part in partials:
        part = part.compute()  # a copy, so that not all blocks stay in memory
        if total is None:
            total = part.drop_vars(["used", "first", "last"])
        else:
            total = _together(total, part)
            total = _across(total, last, part["first"].values, group[:, done], event[:, done - 1], event[:, done])
        last = part["last"].values
        used.append(part["used"].values)
        done += part.sizes["sample"]
    assert total is not None
    return total.assign(used=(("network", "sample"), np.concatenate(used, axis=1)))


def composite(sums: xr.Dataset, group: np.ndarray, event: np.ndarray, steps: np.ndarray) -> xr.Dataset:
    """Means, spreads, sign agreement and effective counts ``(network, class, *cells)`` from the sums of all blocks.

    ``relevance_std`` has n - 1 in its denominator. ``relevance_sign_agreement`` is the fraction of samples whose
    relevance has the sign of the mean; NaN where the mean is 0. ``relevance_n_eff`` is the count times
    ``events.effective_fraction``; NaN where no sample has relevance, such as on land. ``n_events`` ``(network, class)``
    counts the events with at least one used sample.
    """
    count = sums["count"]
    some = count > 0
    mean = sums["mean"].where(some)
    agreeing = sums["positive"].where(mean > 0, sums["negative"]).where(some & (mean != 0))
    spread = Moments(count.values, sums["mean"].values, sums["m2"].values).variance(1)
    lag1 = _lag_correlation(sums)
    fraction, events = np.empty(lag1.shape), np.zeros(lag1.shape[:2], dtype=np.int32)
    for network, class_ in np.ndindex(events.shape):
        used = sums["used"].values[network] & (group[network] == class_)
        events[network, class_] = len(np.unique(event[network][used]))
        fraction[network, class_] = effective_fraction(lag_counts(event[network], steps, used), lag1[network, class_])
    result = xr.Dataset(
        {
            "relevance_mean": mean,
            "relevance_std": (mean.dims, np.sqrt(spread)),
            "relevance_count": count.astype(np.int32),
            "relevance_n_eff": (mean.dims, np.where(some.values, count.values * fraction, np.nan)),
            "relevance_sign_agreement": agreeing / count.where(some),
            "n_events": (mean.dims[:2], events),
        }
    )
    if "inputs_mean" in sums:
        result["inputs_mean"] = sums["inputs_mean"].where(sums["inputs_count"] > 0)
    return result


def _with_network(array: xr.DataArray) -> xr.DataArray:
    array = array if "network" in array.dims else array.expand_dims("network")
    return array.transpose("network", "sample", ...)


def _network_sums(
    values: np.ndarray, group: np.ndarray, event: np.ndarray, classes: int, inputs: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Sums of one network: arrays ``(class, *cells)``. ``group`` is -1 for samples that are not used."""
    follows = np.zeros(len(group), dtype=bool)  # a used sample right after a used sample of its event
    follows[1:] = (event[1:] == event[:-1]) & (group[1:] >= 0) & (group[1:] == group[:-1])
    rows = []
    for class_ in range(classes):
        members = values[group == class_]
        of = moments(members)
        second = np.flatnonzero(follows & (group == class_))
        row = {
            "count": of.count,
            "mean": of.mean,
            "m2": of.m2,
            "positive": (members > 0).sum(axis=0),
            "negative": (members < 0).sum(axis=0),
            **_pair_sums(values[second - 1], values[second]),
        }
        if inputs is not None:
            fields = moments(inputs[group == class_])
            row["inputs_count"], row["inputs_mean"] = fields.count, fields.mean
        rows.append(row)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _pair_sums(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Sums over pairs of maps ``(pair, *cells)`` that are one time step apart."""
    both = np.isfinite(first) & np.isfinite(second)
    a, b = np.where(both, first, 0.0), np.where(both, second, 0.0)
    return dict(zip(_LAG, (both.sum(axis=0), (a * b).sum(axis=0), a.sum(axis=0), b.sum(axis=0))))


def _together(a: xr.Dataset, b: xr.Dataset) -> xr.Dataset:
    out = a.copy()
    both = merge(*(Moments(s["count"].values, s["mean"].values, s["m2"].values) for s in (a, b)))
    for name, merged in (("count", both.count), ("mean", both.mean), ("m2", both.m2)):
        out[name] = (a["count"].dims, merged)
    for name in ("positive", "negative", *_LAG):
        out[name] = a[name] + b[name]
    if "inputs_mean" in a:
        zero = np.zeros(a["inputs_mean"].shape)
        both = merge(*(Moments(s["inputs_count"].values, s["inputs_mean"].values, zero) for s in (a, b)))
        out["inputs_count"], out["inputs_mean"] = (a["count"].dims, both.count), (a["count"].dims, both.mean)
    return out


def _across(
    sums: xr.Dataset, last: np.ndarray, first: np.ndarray, group: np.ndarray, before: np.ndarray, after: np.ndarray
) -> xr.Dataset:
    """Add the pair that straddles two blocks; a map that is not used is NaN and adds nothing."""
    for network in np.flatnonzero((before == after) & (after >= 0)):
        pair = _pair_sums(last[network][None], first[network][None])
        for name, value in pair.items():
            sums[name].values[network, group[network]] += value
    return sums


def _lag_correlation(sums: xr.Dataset) -> np.ndarray:
    """Lag-1 autocorrelation of deviations from the class mean, over pairs within events.

    NaN where there are no pairs or no variance.
    """
    pairs, mean = sums["lag_count"].values, sums["mean"].values
    variance = Moments(sums["count"].values, mean, sums["m2"].values).variance(0)
    covariance = (
        sums["lag_product"].values - mean * (sums["lag_first"].values + sums["lag_second"].values) + pairs * mean**2
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((pairs > 0) & (variance > 0), covariance / (pairs * variance), np.nan)
