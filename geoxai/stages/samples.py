"""``samples``: fields become the inputs of a network."""

from __future__ import annotations

import logging
from itertools import pairwise
from re import fullmatch
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from geoxai.errors import OptionError
from geoxai.stages.options import Chunk, Distinct
from geoxai.stages.scaling import Scale, declared, measured, scaling_like, taken
from geoxai.stages.stage import Context, InputPath, Layout, Reference, Stage, StoredStage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    import xarray as xr

    from geoxai.statistics.sampling import Choice
    from geoxai.statistics.scaling import Survey
    from geoxai.statistics.stacking import Stack

log = logging.getLogger("geoxai.samples")

CHUNK_BYTES = 16 * 2**20

Years = tuple[int, int]


class Samples(StoredStage):
    """Samples for a network: channels stacked, times joined with labels, split in time, scaled, gaps filled.

    Every variable of the input stages that has a time becomes a channel; all those of one input must be on one grid.
    Times that some input lacks are left out, and their number is logged; annual data are matched by year, monthly data
    by year and month, all other data by exact time. Samples are in order of time. Latitude direction and longitude
    convention of the inputs are kept.

    ``inputs`` are stored as the network sees them, in float32; ``inputs * scaling_sd + scaling_mean`` gives physical
    values again. Scaling is fitted on training samples alone.

    A network that takes several inputs gets them by name, `inputs: {sst: [anomaly], z500: [heights]}`, and they may be
    on different grids. Each is a variable `inputs_<name>` with channels of its own, `channel_<name>`, and with
    `lat_<name>` and `lon_<name>` where the grids differ.
    """

    use: ClassVar[str] = "samples"
    gives: ClassVar[str] = "samples"
    fits: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grid", "readers", "statistics")
    example: ClassVar[str] = """\
samples:
  use: samples
  inputs: [anomaly]
  labels: enso
  classes: [la_nina, el_nino]
  split: {train: [1951, 1985], validation: [1987, 1994], test: [1996, 2022]}
  gap: 12"""

    inputs: Annotated[str | list[str] | dict[str, str | list[str]] | None, Reference("grid", nearest=True)] = Field(
        None,
        description="Stages whose variables become channels, in this order; for a network of several inputs, such a "
        "list for each input by name: `{sst: [anomaly], z500: [heights]}`.",
    )
    labels: Annotated[str | None, Reference("labels")] = Field(
        None, description="Stage with a class or value for each time. Times it does not have are left out."
    )
    image: Annotated[str | None, Reference("grid")] = Field(
        None,
        description="Stage whose variables are the target maps of an image-to-image network, on the same grid (that of "
        "the first of several inputs).",
    )
    target: Literal["class", "value", "image"] | None = Field(
        None,
        description="What the network learns: the class or the value of `labels`, or the maps of `image`. "
        "Default: image where `image` is set, else the class where the labels have one, else the value.",
    )
    classes: Distinct = Field(
        None, description="Classes used, in the order of the network's outputs. Default: all classes of the labels."
    )
    other: str | None = Field(
        None,
        description="What to do with times without a class, or with one not in `classes`: `drop`, or the name of the "
        "class that they then belong to. Default: drop where the class is the target or `classes` is set, else keep "
        "them without a class.",
    )
    split: dict[Literal["train", "validation", "test"], Years | list[Years]] | None = Field(
        None,
        description="Years of each split, first and last included: `train: [1951, 1985]`, or a list of such ranges. "
        "A year in two splits is an error. Times in no split are left out. Without `split`, samples belong to none.",
    )
    gap: int = Field(
        0,
        ge=0,
        description="Whole months between two splits. Validation samples too close to a test sample, and then training "
        "samples too close to either, are left out.",
    )
    scale: Scale = Field(
        "standard",
        description="`standard`: subtract the mean of the training samples (of all samples where there is no split) "
        "and divide by their standard deviation; `none`; constants `channel: [offset, factor]`, inputs = (field - "
        "offset) / factor; "
        "or `{like: stage}`, the scaling of other samples, such as those a network was trained on, and "
        "`{like: runs/other}`, that of another run.",
    )
    per: Literal["channel", "cell"] = Field(
        "channel",
        description="Whether `standard` fits one mean and standard deviation per channel, for all cells alike, or one "
        "per cell, which masks cells that do not vary in the training samples.",
    )
    scale_file: Annotated[str | None, InputPath()] = Field(
        None,
        description="NetCDF file with variables `scaling_mean` and `scaling_sd`, dims ([channel,] lat, lon) or "
        "(channel), to use instead of fitting. Cells where scaling_sd is 0 or missing are masked.",
    )
    missing: Literal["constant", "varying", "refuse"] = Field(
        "constant",
        description="Which missing values are allowed: in the same cells at all times, such as land; in cells that "
        "vary with time (the mask `valid` then has a sample dim); or none. The same holds for target maps, whose "
        "missing cells stay missing and do not count in the loss.",
    )
    fill: float | Literal["mean"] = Field(
        0.0, description="What the network sees in masked cells: a scaled value, or the training mean of the channel."
    )
    chunk: Chunk = Field(
        "auto", description="Samples in one unit of work and one chunk of the store; auto: about 16 MiB of inputs."
    )

    @field_validator("inputs")
    @classmethod
    def _inputs_named(cls, inputs: Any) -> Any:
        if isinstance(inputs, dict):
            if len(inputs) < 2:
                raise ValueError("several inputs need names, a single one is a list of stages")
            for name in inputs:
                if not fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
                    raise ValueError(
                        f"{name!r} cannot be the name of an input: use letters, digits and _, starting with a letter"
                    )
        return inputs

    @field_validator("split")
    @classmethod
    def _one_split_a_year(cls, split: dict[str, Any] | None) -> dict[str, Any] | None:
        claimed: dict[int, str] = {}
        shared: dict[tuple[str, str], list[int]] = {}
        for name, ranges in _ranges(split or {}).items():
            for first, last in ranges:
                if first > last:
                    raise ValueError(f"{name}: {first} to {last} runs backwards")
                for year in range(first, last + 1):
                    if claimed.setdefault(year, name) != name:
                        shared.setdefault((claimed[year], name), []).append(year)
        for (a, b), years in shared.items():
            shown = ", ".join(map(str, years[:6])) + (f" and {len(years) - 6} more" if len(years) > 6 else "")
            raise ValueError(f"{a} and {b} share {shown}; each year may be in one split only")
        return split

    @model_validator(mode="after")
    def _options_fit(self) -> Samples:
        if self.target in ("class", "value") and self.labels is None:
            raise ValueError(f"target: {self.target} needs labels")
        if (self.target == "image" and self.image is None) or (
            self.image is not None and self.target not in (None, "image")
        ):
            raise ValueError("target: image and image: STAGE belong together")
        if self.labels is None and (self.classes or self.other):
            raise ValueError("classes and other need labels")
        if self.scale_file is not None and self.scale != "standard":
            raise ValueError("scale and scale_file are mutually exclusive")
        return self

    def advise(self, name: str, stages: Mapping[str, Stage]) -> Iterator[tuple[str, str, str]]:
        """Warn where one split begins as another ends: neighbouring months are not independent."""
        if self.gap:
            return
        spans = [(first, last, part) for part, ranges in _ranges(self.split or {}).items() for first, last in ranges]
        spans.sort()
        for (_, last, part), (first, _, other) in pairwise(spans):
            if first == last + 1 and part != other:
                yield "split", f"{part} ends in {last} and {other} begins in {first}, without a gap", "set gap: 12"

    def fit(self, context: Context) -> xr.Dataset:
        """Which times become samples, their classes and splits, the mask and the scaling."""
        from geoxai.grid.several import together

        choice, like = self._choose(context, labels_known=True), scaling_like(self, context)
        _tell(choice, self)
        channels = [name for one in choice.each() for name in one.stack.names]
        fitted = together(
            {name: self._fitted(one, channels, name, like) for name, one in self._by_input(choice).items()}
        )
        return fitted.assign_attrs(joins=[str(join) for join in choice.joins if join.dropped])

    def _fitted(self, choice: Choice, channels: list[str], name: str, like: dict[str, xr.Dataset] | None) -> xr.Dataset:
        """What is fitted for one input."""
        import numpy as np

        from geoxai.statistics.sampling import remember
        from geoxai.statistics.scaling import pooled_mean

        found = self._survey(choice)
        scaling = declared(self, choice.stack, channels) if like is None else taken(like, name, choice.stack)
        mean, sd = scaling or measured(self, choice.stack, found)
        valid = ~found.never
        pooled = mean.ndim == 1 and like is None  # elsewhere the mean is that of the scaling, or close to it
        level = (pooled_mean(found) - mean) / sd if pooled else np.zeros(len(mean))
        if mean.ndim > 1:
            valid &= np.isfinite(mean) & np.isfinite(sd) & (sd != 0)
        fitted = remember(choice)
        cells = ("channel", *choice.stack.grid.dims)
        fitted["valid"] = (cells, valid)
        fitted["scaling_mean"], fitted["scaling_sd"] = (cells[: mean.ndim], mean), (cells[: mean.ndim], sd)
        fitted["fill"] = ("channel", level if self.fill == "mean" else np.full(len(mean), float(self.fill)))
        return fitted

    def layout(self, context: Context) -> Layout:
        from geoxai.grid.several import SKETCH, parts, together

        if context.fitted is None:
            choices = self._by_input(self._choose(context, labels_known=False))
            channels = [channel for one in choices.values() for channel in one.stack.names]
            like = scaling_like(self, context, planning=True)
            found = {name: self._sketched(one, channels, name, like) for name, one in choices.items()}
            sketch = together(found).assign_attrs({SKETCH: "values are not known yet"})
            return Layout(sketch, "sample", self._block(choices.values()))
        choices = self._recall(context)
        fitted = parts(context.fitted)
        found = {name: self._template(one, fitted[name]) for name, one in choices.items()}
        return Layout(together(found), "sample", self._block(choices.values()))

    def _sketched(
        self, choice: Choice, channels: list[str], name: str, like: dict[str, xr.Dataset] | None
    ) -> xr.Dataset:
        """The store of one input before anything is fitted."""
        import numpy as np

        from geoxai.statistics.sampling import template

        shape = (len(choice.stack.names), *choice.stack.grid.shape)
        unknown_yet = np.ones(shape if self.per == "cell" and self.scale == "standard" else shape[:1])
        scaling = declared(self, choice.stack, channels) if like is None else taken(like, name, choice.stack)
        mean, sd = scaling or (unknown_yet, unknown_yet)
        return template(choice, np.ones(shape, dtype=bool), mean, sd, varying=self.missing == "varying")

    def _template(self, choice: Choice, fitted: xr.Dataset) -> xr.Dataset:
        """The store of one input before it is filled."""
        from geoxai.statistics.sampling import template

        valid, mean, sd = (fitted[name].values for name in ("valid", "scaling_mean", "scaling_sd"))
        return template(choice, valid, mean, sd, varying=self.missing == "varying")

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        from geoxai.grid.several import parts, together

        assert context.fitted is not None
        fitted = parts(context.fitted)
        blocks = {
            name: self._filled(choice, fitted[name], start, stop) for name, choice in self._recall(context).items()
        }
        return together(blocks, like=context.fitted)

    def _filled(self, choice: Choice, fitted: xr.Dataset, start: int, stop: int) -> xr.Dataset:
        """One block of one input."""
        import numpy as np
        import xarray as xr

        from geoxai.statistics.scaling import scaled

        fields = choice.stack.read(start, stop)
        valid = fitted["valid"].values
        if self.missing == "varying":
            valid = valid & np.isfinite(fields)
        dims = ("sample", "channel", *choice.stack.grid.dims)
        values = scaled(
            fields, fitted["scaling_mean"].values, fitted["scaling_sd"].values, valid, fitted["fill"].values
        )
        block = xr.Dataset({"inputs": (dims, values)})
        if self.missing == "varying":
            block["valid"] = (dims, valid)
        if choice.image is not None:
            maps = choice.image.read(start, stop).astype(np.float32)
            block["target"] = (("sample", "target_channel", *dims[2:]), maps)
        return block

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any]:
        """Number of samples in all, by split and by class."""
        from geoxai.grid.several import parts
        from geoxai.statistics.flags import flag_classes

        split = result["split"].values
        splits = {name: split == number for name, number in flag_classes(result["split"]).items()} if self.split else {}
        channels = {name: [str(channel) for channel in part["channel"].values] for name, part in parts(result).items()}
        summary: dict[str, Any] = {"samples": len(split), "channels": channels.get("", channels)}
        if context.fitted is not None and (joins := context.fitted.attrs.get("joins")):
            summary["joins"] = [joins] if isinstance(joins, str) else list(joins)
        if splits:
            summary["splits"] = {name: int(members.sum()) for name, members in splits.items()}
        if "label" in result.coords:
            label = result["label"].values
            summary["classes"] = {
                name: {"samples": int((label == number).sum())}
                | {part: int((members & (label == number)).sum()) for part, members in splits.items()}
                for name, number in flag_classes(result["label"]).items()
            }
        return summary

    def _stacks(self, context: Context) -> tuple[list[Stack], Stack | None]:
        """The inputs and the target maps, each over all times it has."""
        from geoxai.statistics.stacking import stack_fields

        inputs = []
        for name, stages in (self.inputs if isinstance(self.inputs, dict) else {"": self.inputs}).items():
            option = f"inputs.{name}" if name else "inputs"
            sources = context.sources[option]
            sources = sources if isinstance(sources, list) else [sources]
            given = [stages] if isinstance(stages, str) else stages
            inputs.append(stack_fields(sources, given or [f"input {i + 1}" for i in range(len(sources))], option))
        if self.image is None:
            return inputs, None
        return inputs, stack_fields([context.sources["image"]], [self.image], option="image")

    def _by_input(self, choice: Choice) -> dict[str, Choice]:
        """The samples of each input by its name; that of a single one is empty."""
        return dict(zip(self.inputs if isinstance(self.inputs, dict) else ("",), choice.each()))

    def _choose(self, context: Context, labels_known: bool) -> Choice:
        """The samples there will be; an upper bound while the values of the labels are not known yet."""
        from geoxai.statistics.sampling import every_time, refuse_outside, with_image, with_labels, with_split

        inputs, image = self._stacks(context)
        choice = every_time(*inputs)
        if image is not None:
            choice = with_image(choice, image)
        split = _ranges(self.split or {})
        refuse_outside(choice, split, "the inputs" if image is None else "inputs and image")
        if self.labels is not None:
            choice = with_labels(
                choice,
                context.sources["labels"],
                target="image" if image is not None else self.target,
                classes=self.classes,
                other=self.other,
                values_known=labels_known,
            )
            if not labels_known:  # else a range may lack no year, only the classes
                refuse_outside(choice, split, "inputs and labels together")
        if self.split is not None:
            choice = with_split(choice, split, self.gap)
        if choice.size == 0:
            raise OptionError("no sample is left: inputs, labels and split have no time in common", option="split")
        return choice

    def _recall(self, context: Context) -> dict[str, Choice]:
        """The samples of each input as ``fit`` chose them."""
        from geoxai.grid.several import parts
        from geoxai.statistics.sampling import recall

        assert context.fitted is not None
        inputs, image = self._stacks(context)
        images = [image, *(None for _ in inputs[1:])]
        found = zip(parts(context.fitted).items(), inputs, images)
        return {name: recall(stack, maps, fitted) for (name, fitted), stack, maps in found}

    def _survey(self, choice: Choice) -> Survey:
        """One pass over all fields: where data are, and statistics of training samples. Refuses undeclared gaps."""
        from geoxai.statistics.scaling import survey
        from geoxai.statistics.splits import SPLITS
        from geoxai.statistics.stacking import check_gaps, never, refuse_empty

        stack, training = choice.stack, choice.split == SPLITS.index("train")
        if self.split is None:
            training[:] = True

        def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start, fields in stack.blocks():
                refuse_empty(stack, start, fields)
                yield fields, training[start : start + len(fields)]

        found = survey(blocks())
        allowed = found.always if self.missing == "refuse" else found.always | found.never
        if not allowed.all():  # reads the fields again, to name the first gap
            check_gaps(stack, found.never, self.missing)
        if choice.image is not None:
            check_gaps(choice.image, never(choice.image), self.missing)
        return found

    def _block(self, choices: Iterable[Choice]) -> int:
        stacks = [choice.stack for choice in choices]
        size = stacks[0].time.size
        if self.chunk != "auto":
            return min(self.chunk, size)
        bytes_per_sample = sum(4 * len(stack.names) * stack.grid.size for stack in stacks)
        return max(1, min(CHUNK_BYTES // bytes_per_sample, size))


def _ranges(split: Mapping[Any, Any]) -> dict[str, list[Years]]:
    """Every split as a list of ranges of years."""
    return {name: [years] if isinstance(years[0], int) else list(years) for name, years in split.items()}


def _tell(choice: Choice, options: Samples) -> None:
    """Warn of what a reader of the result should know."""
    from geoxai.statistics.sampling import unit_of
    from geoxai.statistics.splits import SPLITS

    for join in choice.joins:
        if join.dropped:
            log.info("%s", join)
    if options.split is None and options.scale == "standard" and options.scale_file is None:
        log.warning("there is no split: the scaling is fitted on all samples")
    variables = [pair for one in choice.each() for pair in zip(one.stack.names, one.stack.variables)]
    bare = [name for name, variable in variables if not unit_of(variable)]
    if bare:
        log.warning(
            "%s: the units are not known, and none are written; state them with file_units of load.netcdf",
            ", ".join(bare),
        )
    if choice.label is not None and options.split is not None:
        training = choice.label[choice.split == SPLITS.index("train")]
        for number, name in enumerate(choice.classes):
            if training.size and not (training == number).any():
                log.warning("class %r has no training sample", name)


STAGES: tuple[type[Stage], ...] = (Samples,)
