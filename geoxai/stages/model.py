"""``model``: a network that was trained elsewhere."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geoxai.errors import GeoxaiError, OptionError
from geoxai.stages.fitting import fitted_together
from geoxai.stages.options import Distinct
from geoxai.stages.stage import Context, InputPath, LazyStage, Reference, Stage

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from geoxai.models.adapter import Adapter
    from geoxai.models.networks import Networks
    from geoxai.models.origin import Trained

log = logging.getLogger("geoxai.model")

Axis = Literal["sample", "channel", "lat", "lon", "y", "x"]


class Scaling(BaseModel):
    """What a network sees of one channel: (physical value - offset) / factor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    offset: float = Field(0.0, description="Subtracted from the physical value, in its units.")
    factor: float = Field(1.0, description="Divides what is left, in the same units; a negative one flips the sign.")

    @model_validator(mode="after")
    def _divides(self) -> Scaling:
        if self.factor == 0:
            raise ValueError("factor cannot be 0")
        return self


class Wanted(BaseModel):
    """What the network expects of one of several inputs; what is left out is as for all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: Literal["flat"] | list[Axis] | dict[Literal["flat"], list[Axis]] | None = Field(
        None, description="Axes as the network expects them."
    )
    lat: Literal["ascending", "descending"] | None = Field(None, description="Latitudes as the network expects them.")
    lon: Literal["0..360", "-180..180"] | None = Field(None, description="Longitudes as the network expects them.")
    channels: Distinct = Field(None, description="Channels of this input in the network's order.")
    scaling: dict[str, Scaling] | None = Field(None, description="Per channel, what the network sees.")


class Expect(BaseModel):
    """What the network is known to reach on these samples; anything else stops the run before anything is explained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of samples classified as labelled. It does not change where a wrong scaling changes no "
        "class: `predictions` says more.",
    )
    rmse: float | None = Field(None, ge=0, description="Root mean square error in target units.")
    predictions: Annotated[str | None, InputPath()] = Field(
        None,
        description="File of the network's own predictions, in the order of the samples: .npy, or .csv with a header "
        "line. One column: class names, class numbers from 0, or values. One column per class: probabilities. Images: "
        ".npy (sample, target_channel, lat, lon) in the orientation of the samples.",
    )
    tolerance: float | None = Field(
        None,
        ge=0,
        description="Largest difference allowed. Default: 0.01 for accuracy, 1 % of rmse, and 1e-3 for predictions "
        "(times the largest value where they are values).",
    )
    subset: Literal["train", "validation", "test", "all"] = Field(
        "test", description="Split that the numbers refer to; all samples where there is no split."
    )


class Model(LazyStage):
    """A network trained elsewhere, read from a file; what it expects is stated, never guessed.

    The kind of file follows from its name: `.pt2` (torch.export; the preferred form), `.pt` or `.pth` (a state dict
    with `architecture`, or a pickled module with `trust: true`), `.keras` or `.h5` (Keras 3, run on its torch
    backend). TorchScript is refused: export the module instead.

    A network file runs no code unless `trust: true` allows it: pickles, custom objects and Keras Lambda layers are
    refused by name before they are loaded. A config is another matter: one with `architecture`, or with stages of
    installed plugins, runs the code it names, so read a stranger's config as you would read a program.

    Archives (`.pt2`, `.pt`, `.keras`) are compared with their checksums. An `.h5` file has none: it is first read in a
    process of its own, and weights that are not finite or beyond 1e15 are refused. A slightly damaged weight goes
    unnoticed, except by `expect`.

    `expect` states what the network is known to give on these samples; anything else stops the run. Give `predictions`
    if you can, the network's own for these very samples: a wrong scaling, channel order or orientation still gives maps
    that look plausible, but it changes the predictions. `accuracy` and `rmse` catch only what changes the score: where
    classes are easy to tell apart, it is the same at half the scale.
    """

    use: ClassVar[str] = "model"
    gives: ClassVar[str] = "network"
    revision: ClassVar[int] = 2
    fits: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("grid", "models", "readers")
    example: ClassVar[str] = "own: {use: model, from: samples, path: network.pt2}"
    example_files: ClassVar[str] = """\
import torch
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(45 * 72, 2)).eval()
inputs = torch.zeros(2, 1, 45, 72)  # sample, channel, lat, lon
exported = torch.export.export(network, (inputs,), dynamic_shapes=({0: torch.export.Dim("sample")},))
torch.export.save(exported, "network.pt2")"""

    path: Annotated[str, InputPath()] = Field(description="Network file.")
    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, alias="from", description="Samples that the network must fit, and that `expect` refers to."
    )
    architecture: str | None = Field(
        None,
        description=(
            "`package.module:callable` that builds the module of a state dict; the current folder is searched too."
        ),
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of `architecture`.")
    trust: bool = Field(
        False, description="The file may run code when loaded (pickles, custom objects, Keras Lambda layers)."
    )
    layout: Literal["flat"] | list[Axis] | dict[Literal["flat"], list[Axis]] = Field(
        ["sample", "channel", "lat", "lon"],
        description="Axes as the network expects them: `[sample, channel, lat, lon]`, `[sample, lat, lon, channel]`, "
        "`[sample, lat, lon]` for one channel, `flat` (channel, lat, lon in one axis, lon fastest), or "
        "`{flat: [lat, lon, channel]}`.",
    )
    lat: Literal["ascending", "descending"] | None = Field(
        None, description="Latitudes as the network expects them. Default: as the samples have them."
    )
    lon: Literal["0..360", "-180..180"] | None = Field(
        None, description="Longitudes as the network expects them. Default: as the samples have them."
    )
    channels: Distinct = Field(
        None,
        description=(
            "Channels of the samples in the network's order; others are left out. Default: all, as in the samples."
        ),
    )
    scaling: dict[str, Scaling] | None = Field(
        None,
        description="Per channel, what the network sees: (physical - offset) / factor, whatever scaling the samples "
        "have. Cells that were filled in the samples keep the fill value. Default: the samples as they are.",
    )
    inputs: dict[str, Wanted] = Field(
        {},
        description="For a network of several inputs, by their names in the samples: the layout, lat, lon, channels "
        "and scaling of one, such as `{z500: {lat: descending}}`, where they differ from what is stated for all. The "
        "network takes its inputs in the order of the samples stage.",
    )
    task: Literal["classification", "regression", "image"] | None = Field(
        None, description="What the network gives. Default: image, value or class, whichever the samples hold."
    )
    classes: Distinct = Field(
        None,
        description="Class names in the order of the network's outputs (one logit: the second class is the positive "
        "one); samples may have theirs in another order. Default: those of the samples, in their order.",
    )
    output: Literal["logits", "probabilities"] | None = Field(
        None,
        description="What a classifier's outputs are; probabilities where it ends in a softmax or sigmoid. Default: "
        "logits, refused where all outputs lie between 0 and 1.",
    )
    head: int | str | list[int | str] | None = Field(
        None,
        description="Which output to use, of a network that returns several: its index in a tuple or list, its key in "
        "a dict, or a list of these where they are nested. This output is predicted, explained and compared with "
        "`expect`.",
    )
    expect: Expect | None = Field(None, description="What the network is known to reach; anything else stops the run.")

    def code(self) -> tuple[str, ...]:
        """The module of the architecture, the modules that a pickled module needs, or Keras and its custom layers.

        These modules are imported, so those that a file names are included only where the file is trusted.
        """
        from geoxai.models.load import KERAS, WEIGHTS
        from geoxai.source_code import modules_in_keras, modules_in_pickle

        suffix = Path(self.path).suffix.lower()
        if suffix in KERAS:
            from geoxai.models.keras_files import choose_torch

            choose_torch()
            named = modules_in_keras(Path(self.path))
            return ("keras", *(module for module in named if self.trust or module in sys.modules))
        if self.architecture is not None:
            return (self.architecture.partition(":")[0],)
        return modules_in_pickle(Path(self.path)) if self.trust and suffix in WEIGHTS else ()

    def skeleton(self, context: Context) -> Networks:
        return self.open(context)

    def open(self, context: Context) -> Networks:
        from geoxai.grid.several import inputs_of, names_of, parts
        from geoxai.models.arguments import pairing
        from geoxai.models.load import load_network
        from geoxai.models.networks import Networks, check_inputs
        from geoxai.models.origin import beside_weights, origin_of, pinned

        samples = context.sources["from"]
        if samples is None:
            raise OptionError("model needs samples to be checked against, and no stage above gives any", option="from")
        loaded = load_network(self.path, architecture=self.architecture, args=self.args, trust=self.trust)
        names, parts_of = names_of(samples), parts(samples)
        self._check_inputs_named(names, loaded.inputs)
        task = self._task(samples)
        known = None if names else beside_weights(Path(self.path))
        origins = {name: origin_of(part) if known is None else known.origin for name, part in parts_of.items()}
        adapters = {name: pinned(self._adapter(name or None, known), origin) for name, origin in origins.items()}
        networks = Networks(
            modules=(loaded.module,),
            adapter=adapters if names else adapters[""],
            origins={n: o.scaled_by_itself() if adapters[n].scaling else o for n, o in origins.items()},
            task=task,
            classes=self._classes(samples, known) if task == "classification" else (),
            digest=loaded.digest,
            notes=(loaded.kind, *loaded.notes, *pairing(names, loaded.arguments)),
            fixed_batch=loaded.fixed_batch,
            output=self.output or "logits",
            head=tuple(self.head) if isinstance(self.head, list) else self.head,
            **_described(samples, task),
        )
        networks = fitted_together(networks, samples, any_grid=False)[1]
        check_inputs(networks, inputs_of(samples))
        return networks

    def fit(self, context: Context) -> xr.Dataset:
        """The check of the network on real samples, done once: its scores, or an error where it falls short."""
        import xarray as xr

        networks = self.open(context)
        samples = networks.matched(context.sources["from"])
        if networks.task == "classification" and self.output is None:
            self._refuse_hidden_probabilities(networks, samples, context.device)
        found = self._meet_expectations(networks, samples, context.device) if self.expect else {}
        return xr.Dataset(found, attrs={"model_digest": networks.digest, "notes": "; ".join(networks.notes)})

    def _check_inputs_named(self, names: tuple[str, ...], taken: int | None) -> None:
        """Refuse inputs that the samples or the network do not have."""
        for name in self.inputs:
            if name not in names:
                known = names or ("one input without a name",)
                raise OptionError(f"the samples have {', '.join(known)}, not {name!r}", option=f"inputs.{name}")
        if taken is not None and taken != max(1, len(names)):
            raise OptionError(
                f"the network takes {taken} input{'' if taken == 1 else 's'}, the samples have "
                f"{', '.join(names) or 'one'}",
                fix="name as many in inputs of the samples stage, in the network's order: "
                "inputs: {first: [...], second: [...]}",
                option="from",
            )

    def _adapter(self, name: str | None, known: Trained | None) -> Adapter:
        """Between samples and network, for one of several inputs or the only one."""
        from geoxai.models.adapter import Adapter, parse_layout

        said = self.inputs.get(name or "", Wanted.model_validate({}))
        option = f"inputs.{name}.layout" if said.layout is not None else "layout"
        try:
            layout, flat = parse_layout(said.layout or self.layout)
        except OptionError as error:
            raise OptionError(error.message, fix=error.fix, option=option) from None
        channels, scaling = said.channels or self.channels, said.scaling or self.scaling
        trained = known.adapter if known else Adapter()
        return Adapter(
            layout=layout,
            flat=flat,
            lat=said.lat or self.lat or trained.lat,
            lon=said.lon or self.lon or trained.lon,
            channels=trained.channels if channels is None else tuple(channels),
            scaling=None if scaling is None else {key: (one.offset, one.factor) for key, one in scaling.items()},
        )

    def _task(self, samples: xr.Dataset) -> str:
        from geoxai.models.examples import task_of

        if self.task is not None:
            return self.task
        try:
            return task_of(samples)
        except OptionError:
            raise OptionError(
                "the samples hold no labels or targets, so the task of the network must be stated",
                fix="task: classification, regression or image",
                option="task",
            ) from None

    def _classes(self, samples: xr.Dataset, known: Trained | None) -> tuple[str, ...]:
        """Names of the classes in the order of the outputs: as stated, as trained, or those of the samples."""
        from geoxai.models.examples import classes_of
        from geoxai.models.origin import with_classes

        trained = known.classes if known else ()
        stated = tuple(self.classes or ())
        if stated and trained and stated != trained:
            raise OptionError(
                f"the network was trained on the classes {', '.join(trained)}, here they are {', '.join(stated)}",
                fix="leave classes out: they are known from the training",
                option="classes",
            )
        if stated or trained:
            with_classes(samples, stated or trained, option="classes")
            return stated or trained
        if "label" not in samples.variables:
            raise OptionError(
                "the samples name no classes", fix="classes: [...] in the order of the outputs", option="classes"
            )
        return classes_of(samples)

    def _refuse_hidden_probabilities(self, networks: Networks, samples: xr.Dataset, device: str) -> None:
        """Logits that all lie in [0, 1] are probably not logits, and their threshold would be in the wrong place."""
        from geoxai.grid.several import inputs_of
        from geoxai.models.networks import member_outputs

        some = inputs_of(samples).isel(sample=slice(0, 256))
        outputs = member_outputs(networks, networks.modules[0], some, device=device)
        if ((outputs >= 0) & (outputs <= 1)).all() and (
            outputs.shape[1] == 1 or abs(outputs.sum(axis=1) - 1).max() < 1e-4
        ):
            raise OptionError(
                "all outputs lie between 0 and 1: the network seems to end in a softmax or sigmoid",
                fix="output: probabilities (or output: logits if they are)",
                option="output",
            )

    def _meet_expectations(self, networks: Networks, samples: xr.Dataset, device: str) -> dict[str, Any]:
        """The numbers measured on the subset; raises where one is not as expected."""
        from geoxai.grid.several import inputs_of
        from geoxai.models.expectations import compare_predictions, compare_score
        from geoxai.models.networks import predict

        expect = self.expect
        assert expect is not None
        index = self._subset(samples, networks.task, needs_truth=expect.accuracy is not None or expect.rmse is not None)
        chosen = samples.isel(sample=index)
        predictions = predict(networks, inputs_of(chosen), device=device)
        found: dict[str, Any] = {}
        for score, wanted in (("accuracy", expect.accuracy), ("rmse", expect.rmse)):
            if wanted is not None:
                found[score] = compare_score(
                    score, wanted, expect.tolerance, predictions, chosen, networks, expect.subset
                )
        if expect.predictions is not None:
            found["largest_difference"] = compare_predictions(
                expect.predictions, expect.tolerance, predictions, networks
            )
        _tell_met(expect, found)
        return found

    def _subset(self, samples: xr.Dataset, task: str, needs_truth: bool) -> np.ndarray:
        import numpy as np

        from geoxai.models.examples import SPLITS, splits_of

        assert self.expect is not None
        everything = np.arange(samples.sizes["sample"])
        if "split" not in samples.variables or (samples["split"].values < 0).all() or self.expect.subset == "all":
            return (
                np.concatenate(sorted(splits_of(samples, task).values(), key=lambda i: i[0]))
                if needs_truth
                else everything
            )
        if needs_truth:
            index = splits_of(samples, task).get(self.expect.subset, everything[:0])
        else:
            index = everything[samples["split"].values == SPLITS.index(self.expect.subset)]
        if not index.size:
            raise GeoxaiError(
                f"no sample in subset {self.expect.subset} to check the network on", option="expect.subset"
            )
        return index


def _tell_met(expect: Expect, found: dict[str, Any]) -> None:
    """Say what was expected and what was found, and what a score alone does not show."""
    for score, value in found.items():
        wanted = getattr(expect, score, None)
        if wanted is None:
            log.info("the network gives the predictions of %s: largest difference %.3g", expect.predictions, value)
        else:
            log.info("the network meets what was expected: %s %.4g, found %.4g", score, wanted, value)
    if expect.predictions is None:
        log.info("a score does not show every wrong scaling or order: expect its predictions to be sure")


def _described(samples: xr.Dataset, task: str) -> dict[str, Any]:
    """Units and image channels of the targets, where the samples hold them."""
    from geoxai.models.examples import target_channels_of, units_of

    if task == "classification" or "target" not in samples.variables:
        return {"target_channels": ("0",)} if task == "image" else {}
    channels = target_channels_of(samples) if task == "image" else ()
    return {"units": units_of(samples, task), "target_channels": channels}


STAGES: tuple[type[Stage], ...] = (Model,)
