"""The store of relevance before it is filled, and the account of it in numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from geoxai.models.adapter import Adapter
    from geoxai.models.networks import Networks

# Attributes that say what was explained, how and of which samples; composites keep them.
EXPLAINED = ("method", "rules", "rules_chosen", "target", "score", "reference", "subset")

ACCOUNT = {
    "bias_relevance": "relevance that biases keep",
    "stabiliser_relevance": "relevance that stabilisers of the rules keep",
    "lost_relevance": "relevance that neither inputs, biases nor stabilisers hold, with that on filled cells",
}


ABSOLUTE = {"absolute_relevance": "sum of the relevance of all inputs without its signs"}


def template(
    samples: xr.Dataset, networks: Networks, tried: xr.Dataset, targets: list[str], closed: bool
) -> xr.Dataset:
    """The store before it is filled: dims and coordinates of the inputs, without values yet.

    ``tried`` is the explanation of one batch for one network; ``targets`` are the names of the targets where it has
    several; with ``closed`` there is an account.
    """
    import dask.array
    import numpy as np

    from geoxai.explained import quantity, units_of
    from geoxai.grid.several import inputs_of, parts

    store = inputs_of(samples).coords.to_dataset().compute()
    members = (len(networks.modules),) if networks.dims else ()
    if members:
        store = store.assign_coords(
            network=("network", np.arange(members[0]), {"long_name": "network trained from its own seed"})
        )
    if "target" in tried.dims:
        names = np.array(targets, dtype=object)
        store = store.assign_coords(target=("target", names, {"long_name": "what is explained"}))
    unit = networks.units or ("1" if networks.task == "classification" else "")
    units = {"units": unit} if unit else {}

    def add(name: str, dtype: Any, attrs: dict[str, Any]) -> None:
        sizes: dict[Hashable, int] = {**tried[name].sizes, "sample": samples.sizes["sample"]}
        zeros = dask.array.zeros((*members, *sizes.values()), dtype=dtype, chunks=-1)
        store[name] = ((*networks.dims, *sizes), zeros, attrs)

    method = str(tried.attrs.get("method", "lrp"))
    what_of_maps = quantity(method)
    comment = "a sum over inputs" if what_of_maps == "relevance" else "of each input as the network takes it"
    for name, part in parts(samples).items():
        taken = units_of(method, unit, _input_units(part, networks.adapters[name]))
        attrs = {"long_name": what_of_maps, "comment": f"{comment}: do not weight by area"}
        add(f"relevance_{name}" if name else "relevance", np.float32, attrs | ({"units": taken} if taken else {}))
    if networks.task == "classification":
        flags = {
            "flag_values": np.arange(len(networks.classes), dtype=np.int16),
            "flag_meanings": " ".join(networks.classes),
        }
        add("prediction", np.int16, {"long_name": "predicted class"} | flags)
        add("confidence", np.float32, {"long_name": "probability of the predicted class", "units": "1"})
    else:
        what = "prediction" if networks.task == "regression" else "prediction at the target"
        add("prediction", np.float32, {"long_name": what} | units)
    add("target_value", np.float64, {"long_name": "explained value"} | units)
    if closed:
        for name, text in (ACCOUNT | ABSOLUTE).items():
            add(name, np.float64, {"long_name": text} | units)
    on_filled = {"long_name": f"{what_of_maps} on filled cells, masked in the maps"}
    add("filled_relevance", np.float64, on_filled | (units if what_of_maps == "relevance" else {}))
    add("nonpositive_target", bool, {"long_name": "explained value not positive where the rules presume it"})
    for name in map(str, tried.data_vars):
        if name.startswith("relevance_at_"):
            add(name, np.float32, {"long_name": f"{what_of_maps} at a layer"} | units)
    return store


def _input_units(samples: xr.Dataset, adapter: Adapter) -> str:
    """Units of what a network takes: 1 where it is scaled, else those of the channels where they share one."""
    scaling = samples.get("scaling_sd")
    units = {str(unit) for unit in samples["units"].values} if "units" in samples.coords else set()
    if adapter.scaling is not None or scaling is None or (scaling != 1).any() or len(units) != 1:
        return "1"
    return units.pop()


def unaccounted(block: xr.Dataset, maps: Iterable[xr.DataArray]) -> xr.DataArray:
    """What the account of each value leaves open, relative to the larger of ``|target_value|`` and the sum of
    ``|relevance|``; NaN where nothing was explained. ``maps`` are the relevance of every input.
    """
    import xarray as xr

    of_value = block["target_value"].dims
    rest, size = block["target_value"].astype("float64"), abs(block["target_value"])
    inner = xr.zeros_like(rest)
    for name in ACCOUNT:
        rest = rest - block[name]
    for array in maps:
        cells = [dim for dim in array.dims if dim not in of_value]
        rest = rest - array.sum(cells, dtype="float64")
        inner = inner + abs(array).sum(cells, dtype="float64")
    return abs(rest) / size.where(size > inner, inner).clip(min=1e-300)


def open_account(block: xr.Dataset, maps: Iterable[xr.DataArray]) -> str | None:
    """The first value of some relevance whose account does not close though its store says that it does, in words."""
    import numpy as np

    from geoxai.explaining import OFF_WARNED

    if block.attrs.get("account") != "closed" or not {"target_value", *ACCOUNT} <= set(block.variables):
        return None
    off = unaccounted(block, maps).transpose("sample", ...)
    wrong = np.argwhere(~(off.values <= OFF_WARNED) & np.isfinite(block["target_value"].transpose(*off.dims).values))
    if not len(wrong):
        return None
    at = dict(zip(off.dims, wrong[0]))
    first = block.isel(at)
    where = [f"{dim} {first[dim].item() if dim in first.coords else place}" for dim, place in at.items()]
    share = float(off.isel(at))
    return f"the account of {', '.join(where)} does not close, by {share:.1e} of its relevance"


def account_summary(store: xr.Dataset) -> dict[str, Any]:
    """How many values were explained, and the terms of the account as shares of them: median and range over samples
    and networks, by target where there are several, and by split.
    """
    found = ["target_value", *ACCOUNT, "filled_relevance", "nonpositive_target", "prediction"]
    scalars = store[found].load()
    networks = {"networks": scalars.sizes["network"]} if scalars.sizes.get("network", 1) > 1 else {}
    numbers = {"values": _by_split(scalars, _counts), "shares_of_value": _by_split(scalars, _shares)}
    return networks | numbers | {"account": _by_predicted_class(scalars)}


def _by_predicted_class(scalars: xr.Dataset) -> dict[str, Any]:
    """The terms of the account as shares of the explained values summed over the samples of each predicted class, or
    over all where there are no classes; a list over networks.
    """
    from geoxai.statistics.flags import flag_classes

    if "target" in scalars.dims:
        names = map(str, scalars["target"].values)
        return {name: _by_predicted_class(scalars.isel(target=place)) for place, name in enumerate(names)}
    classes = flag_classes(scalars["prediction"]) if "flag_values" in scalars["prediction"].attrs else {"all": None}
    found = {}
    for name, number in classes.items():
        members = scalars if number is None else scalars.where(scalars["prediction"] == number)
        value = members["target_value"].sum("sample")
        sums = {term: members[term].sum("sample") / value.where(value != 0) for term in ACCOUNT}
        found[name] = {term.removesuffix("_relevance"): _listed(share.values) for term, share in sums.items()}
    return found


def _listed(values: Any) -> Any:
    """A number, or a list of them over networks; None where it is NaN."""
    numbers = [float(value) if value == value else None for value in values.reshape(-1)]
    return numbers if values.ndim else numbers[0]


def _by_split(scalars: xr.Dataset, told: Callable[[xr.Dataset], dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    from geoxai.statistics.flags import flag_classes

    if "target" in scalars.dims:
        names = map(str, scalars["target"].values)
        return {name: _by_split(scalars.isel(target=place), told) for place, name in enumerate(names)}
    if "split" not in scalars.coords or (scalars["split"] < 0).all():
        return {"all": told(scalars)}
    split = scalars["split"].values
    names_of = {number: name for name, number in flag_classes(scalars["split"]).items()}
    found = {names_of.get(number, "none"): np.flatnonzero(split == number) for number in sorted(set(split.tolist()))}
    return {name: told(scalars.isel(sample=places)) for name, places in found.items()}


def _counts(scalars: xr.Dataset) -> dict[str, int]:
    return {
        "explained": int(scalars["target_value"].notnull().sum()),
        "nonpositive": int(scalars["nonpositive_target"].sum()),
    }


def _shares(scalars: xr.Dataset) -> dict[str, dict[str, float]]:
    import numpy as np

    value, found = scalars["target_value"].values, {}
    for name in (*ACCOUNT, "filled_relevance"):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = scalars[name].values / value + 0.0  # no negative zeros
        share = share[np.isfinite(share)]
        if share.size:
            numbers = {"median": float(np.median(share)), "lowest": float(share.min()), "highest": float(share.max())}
            found[name.removesuffix("_relevance")] = numbers
    return found
