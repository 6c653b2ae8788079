"""``composite``: the mean relevance map of each class, and how much stands behind it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from geoxai.errors import OptionError
from geoxai.stages.options import Chunk
from geoxai.stages.stage import Context, ReducedStage, Reference, Stage

if TYPE_CHECKING:
    import xarray as xr

    from geoxai.statistics.selection import Selection

log = logging.getLogger("geoxai.composite")

FEW_EVENTS = 10


class Composite(ReducedStage):
    """Class composites of relevance: mean, spread, sign agreement, counts and effective counts.

    Each map is normalised by its own size before it is averaged, so that samples with a large output do not decide
    alone. Maps of zeros, and samples whose explained value is not positive under a rule that presumes it, are left
    out and counted. Relevance is a sum over inputs and is never weighted by area.

    An event is a run of samples of one class without a gap in time. `relevance_n_eff` is the number of independent
    samples with the same variance of the mean, for relevance that is autocorrelated within events (lag-1
    autocorrelation of each cell, estimated over pairs within events) and independent between them: between the number
    of events and of samples.

    `<stage>.json` has counts for each class, shares of regions beside their shares of valid cells and area, and the
    circular centroid longitude of |relevance|.
    """

    use: ClassVar[str] = "composite"
    gives: ClassVar[str] = "composite"

    from_: Annotated[str | None, Reference("relevance", nearest=True)] = Field(
        None, alias="from", description="Stage with relevance maps."
    )
    samples: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, description="Stage with the samples that were explained, for the mean inputs of each class."
    )
    by: Annotated[str | None, Reference("labels")] = Field(
        None, description="Stage with the classes, joined on time. Default: the variable `by_variable`."
    )
    by_variable: str = Field(
        "label",
        description="Where `by` is not set: the variable of the relevance store that holds the classes, such as "
        "`label`, `prediction` or `split`; `all` puts all samples in one class, and so does `label` where there is "
        "none.",
    )
    where: str | list[str] | None = Field(
        None,
        description="Which samples count: `correct` (predicted class = label), `confident` (see `confidence`), "
        "`all`, and conditions on the coordinates and scalars of the samples, such as `split == 'test' and year >= "
        "1990`; all of a list must hold. Default: correct for classifiers whose samples have labels, else all.",
    )
    confidence: float = Field(
        0.9, ge=0, le=1, description="The least probability of the predicted class that is `confident`."
    )
    normalize: Literal["max", "l1", "percent", "sum", "target", "none"] = Field(
        "max",
        description="What each map is divided by: its largest |relevance|, the sum of |relevance| (`percent`: in "
        "percent of it), its sum (refused where relevance has both signs), the explained value, or nothing.",
    )
    regions: list[str] = Field([], description="Named regions whose shares of relevance are reported.")
    chunk: Chunk = Field("auto", description="Samples in one unit of work; auto: the chunks of the relevance.")

    @field_validator("where")
    @classmethod
    def _conditions_read(cls, where: str | list[str] | None) -> str | list[str] | None:
        from geoxai.statistics.conditions import parse_condition

        for condition in [where] if isinstance(where, str) else where or []:
            if condition not in ("all", "correct", "confident"):
                parse_condition(condition)
        return where

    @field_validator("regions")
    @classmethod
    def _known_regions(cls, names: list[str]) -> list[str]:
        from geoxai.grid.boxes import known_region

        return [known_region(name) for name in names]

    @model_validator(mode="after")
    def _one_grouping(self) -> Composite:
        if self.by is not None and self.by_variable != "label":
            raise ValueError("by and by_variable exclude each other")
        return self

    def skeleton(self, context: Context) -> xr.Dataset:
        import dask.array
        import numpy as np

        relevance = self._relevance(context)
        maps, classes = relevance["relevance"], self._select(context, relevance).classes
        dims = [*(dim for dim in maps.dims if dim == "network"), "class", *self._cells(maps)]
        shape = [len(classes) if dim == "class" else maps.sizes[dim] for dim in dims]
        template = maps.coords.to_dataset().drop_dims("sample").compute().assign_coords(self._class_coordinate(classes))
        for name, attrs in self._variables(maps, physical=self._samples(context) is not None).items():
            dtype = np.int32 if name == "relevance_count" else np.float64
            template[name] = (dims, dask.array.zeros(shape, dtype=dtype, chunks=-1), attrs)
        return template

    def extent(self, context: Context) -> tuple[int, int]:
        maps = self._relevance(context)["relevance"]
        if self.chunk != "auto":
            return maps.sizes["sample"], min(self.chunk, maps.sizes["sample"])
        return maps.sizes["sample"], maps.variable.chunksizes.get("sample", (maps.sizes["sample"],))[0]

    def partial(self, context: Context, start: int, stop: int) -> xr.Dataset:
        from geoxai.statistics.composites import partial_sums
        from geoxai.statistics.normalize import normalize

        block = self._relevance(context).isel(sample=slice(start, stop))
        selection = self._select(context, block)
        maps, empty = normalize(block["relevance"].load(), self.normalize, block.get("target_value"))
        used = selection.wanted & ~empty
        fields = self._fields(context, block)
        return partial_sums(maps, selection.group, used, selection.steps, len(selection.classes), fields)

    def merge(self, context: Context, partials: Iterable[xr.Dataset]) -> xr.Dataset:
        import numpy as np

        from geoxai.statistics.composites import composite, merge_sums
        from geoxai.statistics.events import find_events

        relevance = self._relevance(context)
        selection = self._select(context, relevance)
        maps = relevance["relevance"]
        networks = maps.sizes.get("network", 1)
        group = np.atleast_2d(selection.group.transpose(..., "sample").values)
        group = np.broadcast_to(group, (networks, group.shape[1]))
        event = np.stack([find_events(row, selection.steps) for row in group])
        sums = merge_sums(partials, group, event)
        result = composite(sums, group, event, selection.steps).assign(selection.counts(sums["used"]))
        return self._described(result, maps, selection)

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any]:
        """Counts, effective counts, shares of regions and centroids, by class; a list over networks where several."""
        from geoxai.grid.area import area_weights
        from geoxai.grid.regions import region_mask
        from geoxai.statistics.shares import summary_of_maps

        mean = result["relevance_mean"].load()
        masks = {name: region_mask(mean, name) for name in self.regions}
        counts = sorted(name for name in map(str, result.data_vars) if name.startswith("n_"))
        numbers = result[counts].reset_coords(drop=True)
        n_eff = result["relevance_n_eff"]
        numbers["n_eff_median"] = n_eff.median([dim for dim in n_eff.dims if dim not in ("network", "class")])
        numbers = numbers.merge(summary_of_maps(mean, masks, area_weights(mean))).load()
        _warn(numbers)
        networks = {"networks": mean.sizes["network"]} if "network" in mean.dims else {}
        return {"normalize": self.normalize, "where": result.attrs["where"], **networks, "classes": _by_class(numbers)}

    def _relevance(self, context: Context) -> xr.Dataset:
        return context.sources["from"]

    def _samples(self, context: Context) -> xr.Dataset | None:
        return context.sources.get("samples")

    @staticmethod
    def _cells(maps: xr.DataArray) -> list[str]:
        return [str(dim) for dim in maps.dims if dim not in ("network", "sample")]

    def _select(self, context: Context, relevance: xr.Dataset) -> Selection:
        """Which samples of the relevance count, and for which class."""
        from geoxai.statistics.selection import select_samples

        scalars = relevance[[name for name, v in relevance.variables.items() if set(v.dims) <= {"network", "sample"}]]
        where = [self.where] if isinstance(self.where, str) else self.where
        labels = None if self.by is None else context.sources["by"]
        return select_samples(scalars.load(), labels, self.by_variable, where, self.confidence)

    def _fields(self, context: Context, block: xr.Dataset) -> xr.DataArray | None:
        """The inputs of a block in physical units, NaN where filled."""
        samples = self._samples(context)
        if samples is None:
            return None
        places = samples.indexes["sample"].get_indexer(block["sample"].values)
        same = (places >= 0).all() and (
            "time" not in block or (samples["time"].values[places] == block["time"].values).all()
        )
        if not same:
            raise OptionError(
                "the relevance is not of these samples", fix="name the stage that was explained", option="samples"
            )
        taken = samples.isel(sample=places)
        physical = taken["inputs"].astype("float64") * taken["scaling_sd"] + taken["scaling_mean"]
        return physical.where(taken["valid"]).transpose("sample", *self._cells(block["relevance"])).load()

    def _described(self, result: xr.Dataset, maps: xr.DataArray, selection: Selection) -> xr.Dataset:
        """The composite with coordinates and attributes, without classes that no sample has."""
        import numpy as np

        present = (result["n_all"] > 0).any("network").values
        coords = maps.coords.to_dataset().drop_dims("sample").compute().coords
        result = result.assign_coords(coords | self._class_coordinate(selection.classes))
        result = result.isel({"class": np.flatnonzero(present)})
        if "network" not in maps.dims:
            result = result.isel(network=0, drop=True)
        for name, attrs in self._variables(maps, physical="inputs_mean" in result).items():
            result[name].attrs = attrs
        result["n_events"].attrs = {"long_name": "events with a sample in the composite", "units": "1"}
        return result.assign_attrs(
            normalize=self.normalize,
            where=" and ".join(selection.conditions),
            n_eff="n^2 / (n + 2 sum_k N_k r^k); N_k pairs k steps apart in one event, r autocorrelation at lag 1",
        )

    @staticmethod
    def _class_coordinate(classes: tuple[str, ...]) -> dict[str, Any]:
        import numpy as np

        return {"class": ("class", np.array(classes, dtype=object), {"long_name": "class of the samples"})}

    def _variables(self, maps: xr.DataArray, physical: bool) -> dict[str, dict[str, str]]:
        """Names and attributes of the maps of the composite."""
        units = {"percent": "%", "none": str(maps.attrs.get("units", "1"))}.get(self.normalize, "1")
        unweighted = {"comment": "relevance is a sum over inputs; it is not weighted by area"}
        each = _NORMALIZED[self.normalize]
        variables = {
            "relevance_mean": {"long_name": f"mean relevance{each}", "units": units} | unweighted,
            "relevance_std": {"long_name": f"standard deviation over samples of relevance{each}", "units": units},
            "relevance_count": {"long_name": "number of samples", "units": "1"},
            "relevance_n_eff": {"long_name": "effective number of independent samples", "units": "1"},
            "relevance_sign_agreement": {"long_name": "fraction of samples with the sign of the mean", "units": "1"},
        }
        if physical:
            variables["inputs_mean"] = {"long_name": "mean input", "comment": "physical values, units of the channel"}
            of_channels = {str(unit) for unit in maps["units"].values} if "units" in maps.coords else set()
            if len(of_channels) == 1:
                variables["inputs_mean"]["units"] = of_channels.pop()
        return variables


_NORMALIZED = {
    "max": ", each map divided by its largest |relevance|",
    "l1": ", each map divided by its sum of |relevance|",
    "percent": ", each map in percent of its sum of |relevance|",
    "sum": ", each map divided by its sum",
    "target": ", each map divided by its explained value",
    "none": "",
}


def _by_class(numbers: xr.Dataset) -> dict[str, Any]:
    """Numbers of each class as plain data: regions and channels by name, a list where there are several networks."""
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
    """A number, None where it is NaN; a list over networks; a mapping over channels."""
    if "channel" in array.dims:
        return {str(name): _plain(array.sel(channel=name, drop=True)) for name in array["channel"].values}
    numbers = [value if value == value else None for value in array.values.reshape(-1).tolist()]
    return numbers if array.ndim else numbers[0]


def _warn(numbers: xr.Dataset) -> None:
    """Tell which classes rest on few events, and how many maps were left out."""
    for name in numbers["class"].values:
        of_class = numbers.sel({"class": name})
        events = int(of_class["n_events"].min())
        if int(of_class["n_used"].min()) == 0:
            log.warning("no sample is left for the composite of %s%s", name, _of_network(of_class))
        elif events < FEW_EVENTS:
            log.warning("the composite of %s rests on %d events: too few to generalise", name, events)
        for key, reason in (("n_nonpositive", "explained value not positive"), ("n_empty", "no relevance at all")):
            if int(of_class[key].max()):
                counts = ", ".join(map(str, of_class[key].values.reshape(-1)))
                log.warning("left out of the composite of %s: %s maps (%s)", name, counts, reason)


def _of_network(of_class: xr.Dataset) -> str:
    """Which networks have no sample, in words; empty where there is one network only."""
    if "network" not in of_class.dims:
        return ""
    empty = of_class["network"].values[of_class["n_used"].values == 0]
    return f" in network {', '.join(map(str, empty))}"


STAGES: tuple[type[Stage], ...] = (Composite,)
