"""Composites target by target, and their numbers for readers: ``<stage>.json`` and warnings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

log = logging.getLogger("geoxai.composite")

FEW_EVENTS = 10
LEADING = ("network", "target")
_LEFT_OUT = {
    "n_nonpositive": "explained value not positive",
    "n_absent": "no pixel met `where`",
    "n_empty": "a map of zeros",
}


def by_target(dataset: xr.Dataset) -> list[xr.Dataset]:
    """What belongs to each target, or everything where there is only one."""
    if "target" not in dataset.dims:
        return [dataset]
    return [dataset.isel(target=number) for number in range(dataset.sizes["target"])]


def over_targets(found: list[xr.Dataset], relevance: xr.Dataset) -> xr.Dataset:
    """Results of each target along a dim ``target``, where the relevance has one."""
    import xarray as xr

    if "target" not in relevance.dims:
        return found[0]
    return xr.concat(found, "target", data_vars="all", coords="minimal", compat="override", join="override")


def numbers_of(result: xr.Dataset, regions: list[str], stage: str, input_: str = "") -> xr.Dataset:
    """Effective counts, shares and centroids of one input; regions that it does not reach are warned of, not shared."""
    from geoxai.grid.area import area_weights, region_parts
    from geoxai.grid.boxes import region
    from geoxai.statistics.shares import summary_of_maps

    mean = result["relevance_mean"].load()
    masks = {name: region_parts(mean, region(name)) for name in regions}
    for name in [name for name, parts in masks.items() if not bool((parts > 0).any())]:
        maps = f"the maps of {input_}" if input_ else "the maps"
        log.warning("%s: region %s contains no cell of %s and is left out", stage, name, maps)
        del masks[name]
    n_eff = result["relevance_n_eff"]
    median = n_eff.median([dim for dim in n_eff.dims if dim not in (*LEADING, "class")])
    numbers = median.to_dataset(name="n_eff_median").reset_coords(drop=True)
    return numbers.merge(summary_of_maps(mean, masks, area_weights(mean))).load()


def with_shares(numbers: dict[str, xr.Dataset], result: xr.Dataset) -> dict[str, xr.Dataset]:
    """The numbers of several inputs, with the share of |relevance| that each of them has."""
    import xarray as xr

    from geoxai.grid.several import parts

    means = {name: part["relevance_mean"].reset_coords(drop=True) for name, part in parts(result).items()}
    sizes = {
        name: abs(mean).sum([dim for dim in mean.dims if dim not in (*LEADING, "class")])
        for name, mean in means.items()
    }
    whole = sum(sizes.values(), start=xr.zeros_like(next(iter(sizes.values()))))
    whole = whole.where(whole > 0)  # a class without a sample has no shares
    return {name: found.assign(input_share=sizes[name] / whole) for name, found in numbers.items()}


def by_class(numbers: xr.Dataset, what: str = "relevance") -> dict[str, Any]:
    """Numbers of each class as plain data: regions and channels by name, a list where there are several networks.

    Shares are called after ``what`` the maps hold: ``relevance_share``, ``gradient_share``.
    """
    share = f"{what.split(' of ')[0].replace(' ', '_')}_share"
    numbers = numbers.rename({"relevance_share": share} if "relevance_share" in numbers else {})
    classes = {}
    for name in numbers["class"].values:
        of_class = numbers.sel({"class": name}, drop=True)
        entry: dict[str, Any] = {}
        for key, array in of_class.data_vars.items():
            if "region" not in array.dims:
                entry[str(key)] = _plain(array)
                continue
            for region in array["region"].values:
                of_region = entry.setdefault("regions", {}).setdefault(str(region), {})
                of_region[str(key).removesuffix("_inside")] = _plain(array.sel(region=region, drop=True))
        classes[str(name)] = entry
    return classes


def _plain(array: xr.DataArray) -> Any:
    """A number, None where it is NaN; a list over networks; a mapping over targets and channels."""
    if "target" in array.dims:
        return {
            str(name): _plain(array.isel(target=place, drop=True)) for place, name in enumerate(array["target"].values)
        }
    if "channel" in array.dims:
        return {str(name): _plain(array.sel(channel=name, drop=True)) for name in array["channel"].values}
    numbers = [value if value == value else None for value in array.values.reshape(-1).tolist()]
    return numbers if array.ndim else numbers[0]


def warn(counts: xr.Dataset, stage: str) -> None:
    """Warn of classes that rest on few events, and of maps that were left out."""
    for name in counts["class"].values:
        for of_class in by_target(counts.sel({"class": name})):
            which = f"{name}{_of_target(of_class)}"
            there = of_class["n_used"].values > 0
            if not there.all():
                log.warning("%s: no sample is left for the composite of %s%s", stage, which, _of_network(of_class))
            if there.any() and (events := of_class["n_events"].values[there]).min() < FEW_EVENTS:
                log.warning("%s: the composite of %s rests on %s: too few to generalise", stage, which, _number(events))
            for key, reason in _LEFT_OUT.items():
                if key in of_class and int(of_class[key].max()):
                    left = ", ".join(map(str, of_class[key].values.reshape(-1)))
                    log.warning("%s: left out of the composite of %s: %s maps (%s)", stage, which, left, reason)


def _number(events: np.ndarray) -> str:
    """``3 events``, ``1 event``, or the range where networks differ."""
    low, high = int(events.min()), int(events.max())
    return (
        f"{low} event{'' if low == 1 else 's'}" if low == high else f"{low} to {high} events, depending on the network"
    )


def _of_target(of_class: xr.Dataset) -> str:
    """For which target, in words; empty where there is only one."""
    from geoxai.grid.places import target_words

    return f" for target {target_words(str(of_class['target'].item()))}" if "target" in of_class.coords else ""


def _of_network(of_class: xr.Dataset) -> str:
    """Which networks have no sample, in words; empty where there is only one network."""
    if "network" not in of_class.dims:
        return ""
    empty = of_class["network"].values[of_class["n_used"].values == 0]
    return f" in network {', '.join(map(str, empty))}"
