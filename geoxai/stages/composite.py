"""``composite``: the mean relevance map of each class, and how much data it rests on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from geoxai.errors import DamageError, OptionError
from geoxai.stages.composite_summary import LEADING, by_class, by_target, numbers_of, over_targets, warn, with_shares
from geoxai.stages.options import Chunk
from geoxai.stages.relevance import EXPLAINED, open_account
from geoxai.stages.stage import Context, ReducedStage, Reference, Stage

if TYPE_CHECKING:
    import xarray as xr

    from geoxai.statistics.selection import Selection


log = logging.getLogger("geoxai.composite")


class Composite(ReducedStage):
    """Class composites of relevance: mean, spread, sign agreement, counts and effective counts.

    Each map is normalised by its own size before it is averaged, so that samples with a large output do not dominate.
    Maps of zeros, and samples whose explained value is not positive under a rule that presumes it, are left out and
    counted. Relevance is a sum over inputs and is never weighted by area.

    An event is a run of samples of one class without a gap in time, in steps of the record they were taken from:
    months, or years for annual means. `relevance_n_eff` is the number of independent samples with the same variance of
    the mean, for relevance that is autocorrelated within events (lag-1 autocorrelation of each cell, estimated over
    pairs within events) and independent between them. It lies between the numbers of events and of samples.

    Several targets are normalised and composited separately, along a dim `target`. The inputs of a network that takes
    several are normalised together, so that their composites can be compared.

    `<stage>.json` has counts for each class, shares of regions beside their shares of valid cells and area, and the
    circular centroid longitude of |relevance|.
    """

    use: ClassVar[str] = "composite"
    gives: ClassVar[str] = "composite"
    libraries: ClassVar[tuple[str, ...]] = ("attribution", "grid", "models", "statistics")
    example: ClassVar[str] = (
        "composite: {use: composite, from: relevance, samples: samples, by: enso, where: correct, regions: [nino34]}"
    )

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
        0.9, ge=0, le=1, description="The lowest probability of the predicted class that counts as `confident`."
    )
    normalize: Literal["max", "l1", "percent", "sum", "target", "none"] = Field(
        "max",
        description="What each map is divided by: its largest |relevance| (`max`), its sum of |relevance| (`l1`; "
        "`percent`: as a percentage of it), its sum (refused where relevance has both signs), the explained value "
        "(`target`), or nothing.",
    )
    regions: list[str] = Field(
        [],
        description="Named regions whose shares of relevance are reported. A cell on an edge counts with the part "
        "inside, as in `index.nino34`.",
    )
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
            raise ValueError("by and by_variable are mutually exclusive")
        return self

    def skeleton(self, context: Context) -> xr.Dataset:
        from geoxai.grid.several import parts, together

        relevance = self._relevance(context)
        classes, physical = self._select(context, relevance).classes, self._samples(context) is not None
        found = {
            name: self._sketched(part["relevance"], classes, physical, bool(name))
            for name, part in parts(relevance).items()
        }
        return together(found, like=relevance)

    def _sketched(self, maps: xr.DataArray, classes: tuple[str, ...], physical: bool, several: bool) -> xr.Dataset:
        """The composite of one input, or one of ``several``, without values."""
        import dask.array
        import numpy as np

        dims = [*(dim for dim in maps.dims if dim in LEADING), "class", *self._cells(maps)]
        shape = [len(classes) if dim == "class" else maps.sizes[dim] for dim in dims]
        template = maps.coords.to_dataset().drop_dims("sample").compute().assign_coords(self._class_coordinate(classes))
        for name, attrs in self._variables(maps, physical, several).items():
            dtype = np.int32 if name == "relevance_count" else np.float64
            template[name] = (dims, dask.array.zeros(shape, dtype=dtype, chunks=-1), attrs)
        return template

    def extent(self, context: Context) -> tuple[int, int]:
        from geoxai.grid.several import each, fields_of

        maps = next(iter(each(fields_of(self._relevance(context), "relevance")).values()))
        if self.chunk != "auto":
            return maps.sizes["sample"], min(self.chunk, maps.sizes["sample"])
        return maps.sizes["sample"], maps.variable.chunksizes.get("sample", (maps.sizes["sample"],))[0]

    def partial(self, context: Context, start: int, stop: int) -> xr.Dataset:
        block = self._relevance(context).isel(sample=slice(start, stop))
        fields = self._fields(context, block)
        return over_targets([self._sums(context, one, fields) for one in by_target(block)], block)

    def _sums(self, context: Context, block: xr.Dataset, fields: dict[str, xr.DataArray]) -> xr.Dataset:
        """The partial result of one block for one target."""
        from geoxai.grid.several import parts, together
        from geoxai.statistics.composites import partial_sums
        from geoxai.statistics.normalize import normalize_together

        selection = self._select(context, block)
        relevance = {name: part["relevance"].load() for name, part in parts(block).items()}
        if wrong := open_account(block, relevance.values()):
            raise DamageError(
                f"{self.from_}.zarr: {wrong}, though the store says that it does: the maps cannot be trusted",
                fix=f"compute them anew with --force {self.from_}",
                option="from",
            )
        value = block.get("target_value")
        maps, empty = normalize_together(relevance, self.normalize, value)
        used = selection.wanted & ~empty
        sums = {
            name: partial_sums(array, selection.group, used, selection.steps, len(selection.classes), fields.get(name))
            for name, array in maps.items()
        }
        return together(sums, like=block)

    def merge(self, context: Context, partials: Iterable[xr.Dataset]) -> xr.Dataset:
        from geoxai.grid.several import parts, together

        relevance = self._relevance(context)
        selection = self._select(context, relevance)
        if selection.unknown:
            size = relevance.sizes["sample"]
            log.info("%s: %d of %d samples have no time in the labels", context.stage, selection.unknown, size)
        blocks = zip(*(by_target(part) for part in partials))
        merged = [self._merged(context, one, part) for one, part in zip(by_target(relevance), blocks)]
        found = {}
        for name, part in parts(relevance).items():
            of_input = over_targets([result[name] for result in merged], relevance)
            found[name] = self._described(of_input, part["relevance"], selection, bool(name))
        explained = {key: relevance.attrs[key] for key in EXPLAINED if key in relevance.attrs}
        return together(found, like=relevance).assign_attrs(explained)

    def _merged(self, context: Context, relevance: xr.Dataset, partials: Iterable[xr.Dataset]) -> dict[str, xr.Dataset]:
        """The whole result for one target, input by input, always with a dim ``network``."""
        import numpy as np

        from geoxai.grid.several import alone, parts
        from geoxai.statistics.composites import composite, merge_sums
        from geoxai.statistics.events import find_events

        selection, partials = self._select(context, relevance), list(partials)
        networks = relevance.sizes.get("network", 1)
        group = np.atleast_2d(selection.group.transpose(..., "sample").values)
        group = np.broadcast_to(group, (networks, group.shape[1]))
        event = np.stack([find_events(row, selection.steps) for row in group])
        found = {}
        for name in parts(relevance):
            sums = merge_sums((alone(one, name) for one in partials), group, event)
            found[name] = composite(sums, group, event, selection.steps).assign(selection.counts(sums["used"]))
        return found

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any]:
        """Counts, effective counts, shares of regions and centroids, by class; a list over networks where several."""
        from geoxai.grid.several import names_of, parts

        counts = result[sorted(name for name in map(str, result.data_vars) if name.startswith("n_"))]
        counts = counts.drop_vars([name for name in counts.coords if name not in (*LEADING, "class")]).load()
        warn(counts, context.stage)
        what = _what(next(iter(parts(self._relevance(context)).values()))["relevance"])
        numbers = {name: numbers_of(part, self.regions, context.stage, name) for name, part in parts(result).items()}
        if not names_of(result):
            classes = by_class(counts.merge(numbers[""]), what)
        else:
            classes = by_class(counts)
            for name, found in with_shares(numbers, result).items():
                for class_, entry in by_class(found, what).items():
                    classes[class_].setdefault("inputs", {})[name] = entry
        networks = {"networks": result.sizes["network"]} if "network" in result.dims else {}
        return {"normalize": self.normalize, "where": result.attrs["where"], **networks, "classes": classes}

    def _relevance(self, context: Context) -> xr.Dataset:
        """The relevance, with the time step of the record in its time: the same in every block."""
        from geoxai.grid.steps import ATTRIBUTE, time_step

        relevance: xr.Dataset = context.sources["from"]
        if "time" not in relevance.coords or ATTRIBUTE in relevance["time"].attrs:
            return relevance
        time = relevance["time"].load()
        step = time_step(time)
        return relevance if step is None else relevance.assign_coords(time=time.assign_attrs({ATTRIBUTE: str(step)}))

    def _samples(self, context: Context) -> xr.Dataset | None:
        return context.sources.get("samples")

    @staticmethod
    def _cells(maps: xr.DataArray) -> list[str]:
        return [str(dim) for dim in maps.dims if dim not in (*LEADING, "sample")]

    def _select(self, context: Context, relevance: xr.Dataset) -> Selection:
        """Which samples of the relevance count, and for which class."""
        from geoxai.statistics.selection import select_samples

        scalars = relevance[[name for name, v in relevance.variables.items() if set(v.dims) <= {"network", "sample"}]]
        where = [self.where] if isinstance(self.where, str) else self.where
        labels = None if self.by is None else context.sources["by"]
        return select_samples(scalars.load(), labels, self.by_variable, where, self.confidence)

    def _fields(self, context: Context, block: xr.Dataset) -> dict[str, xr.DataArray]:
        """The inputs of a block in physical units by name, NaN where filled; empty without samples."""
        from geoxai.grid.several import names_of, parts

        samples = self._samples(context)
        if samples is None:
            return {}
        places = samples.indexes["sample"].get_indexer(block["sample"].values)
        same = (places >= 0).all() and (
            "time" not in block or (samples["time"].values[places] == block["time"].values).all()
        )
        same = same and names_of(samples) == names_of(block)
        if not same:
            raise OptionError(
                "the relevance was not computed from these samples",
                fix="name the samples stage that was explained",
                option="samples",
            )
        found = {}
        for name, taken in parts(samples.isel(sample=places)).items():
            physical = taken["inputs"].astype("float64") * taken["scaling_sd"] + taken["scaling_mean"]
            found[name] = physical.where(taken["valid"]).transpose(*taken["inputs"].dims).load()
        return found

    def _described(self, result: xr.Dataset, maps: xr.DataArray, selection: Selection, several: bool) -> xr.Dataset:
        """The composite with coordinates and attributes, without classes that no sample has."""
        import numpy as np

        present = (result["n_all"] > 0).any([dim for dim in LEADING if dim in result["n_all"].dims]).values
        coords = maps.coords.to_dataset().drop_dims("sample").compute().coords
        result = result.assign_coords(coords | self._class_coordinate(selection.classes))
        result = result.isel({"class": np.flatnonzero(present)})
        if "network" not in maps.dims:
            result = result.isel(network=0, drop=True)
        if "target" in maps.dims:
            result = result.transpose(*(dim for dim in maps.dims if dim in LEADING), "class", ...)
        for name, attrs in self._variables(maps, "inputs_mean" in result, several).items():
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

        return {"class": ("class", np.array(classes, dtype=str), {"long_name": "class of the samples"})}

    def _variables(self, maps: xr.DataArray, physical: bool, several: bool) -> dict[str, dict[str, str]]:
        """Names and attributes of the maps of the composite."""
        unit = {"percent": "%", "none": str(maps.attrs.get("units", ""))}.get(self.normalize, "1")
        units = {"units": unit} if unit else {}
        what = _what(maps)
        unweighted = {"comment": f"{what} belongs to inputs; it is not weighted by area"}
        each = _NORMALIZED[self.normalize].format(what) + (
            " over all inputs" if several and self.normalize in _OVER_INPUTS else ""
        )
        variables = {
            "relevance_mean": {"long_name": f"mean {what}{each}"} | units | unweighted,
            "relevance_std": {"long_name": f"standard deviation over samples of {what}{each}"} | units,
            "relevance_count": {"long_name": "number of samples", "units": "1"},
            "relevance_n_eff": {"long_name": "effective number of independent samples", "units": "1"},
            "relevance_sign_agreement": {"long_name": "fraction of samples with the sign of the mean", "units": "1"},
        }
        if physical:
            variables["inputs_mean"] = {"long_name": "mean input", "comment": "physical values, units of the channel"}
            of_channels = {str(unit) for unit in maps["units"].values} if "units" in maps.coords else set()
            if len(of_channels) == 1 and "" not in of_channels:
                variables["inputs_mean"]["units"] = of_channels.pop()
        return variables


def _what(maps: xr.DataArray) -> str:
    """What the maps hold, in words: relevance, or a gradient."""
    return str(maps.attrs.get("long_name", "relevance"))


_NORMALIZED = {
    "max": ", each map divided by its largest |{}|",
    "l1": ", each map divided by its sum of |{}|",
    "percent": ", each map in percent of its sum of |{}|",
    "sum": ", each map divided by its sum",
    "target": ", each map divided by its explained value",
    "none": "",
}
_OVER_INPUTS = ("max", "l1", "percent", "sum")


STAGES: tuple[type[Stage], ...] = (Composite,)
