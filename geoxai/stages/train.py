"""``train``: networks trained on samples."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from geoxai.errors import GeoxaiError, OptionError
from geoxai.names import unknown
from geoxai.stages.architecture import Architecture
from geoxai.stages.stage import Context, Layout, Reference, Stage, StoredStage

if TYPE_CHECKING:
    import torch
    import xarray as xr
    from torch import nn

    from geoxai.models.adapter import Adapter
    from geoxai.models.checkpoints import Curves
    from geoxai.models.networks import Networks
    from geoxai.models.training import Recipe

log = logging.getLogger("geoxai.train")

LayerName = Literal[
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "last", "all"
]
Penalty = Annotated[float, Field(ge=0)]


class EarlyStopping(BaseModel):
    """Stop when the validation loss stops falling, and keep the best weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patience: int = Field(10, ge=1, description="Epochs without a lower validation loss before training stops.")
    min_delta: float = Field(0.0, ge=0, description="A drop in the loss of no more than this does not count.")


class Train(StoredStage):
    """Train a built-in network on the training samples, once or from several seeds.

    The samples decide the task: classes, one value, or images. Internally networks have latitude ascending and, on a
    global grid, longitude 0 to 360, so that the way the data are stored does not change what is learnt. Values and
    images are standardised for training, and the scaling is folded into the last layer, so that outputs are in target
    units.

    Weights are in `<stage>/network-<i>.pt` (state dicts). `<stage>.zarr` has loss curves, and what the networks learnt
    from: grid, scaling, channels and their units, classes. Other samples must match these to be predicted or explained;
    classes, channels and orientation are matched by name. Scores per network and split, beside a linear model and the
    majority class or the climatology, are in `<stage>.json`. A training that was killed goes on from its last
    checkpoint and ends with the same weights. With `seeds` above 1 every later result has a dim `network`; network i
    uses the run's seed + i.
    """

    use: ClassVar[str] = "train"
    gives: ClassVar[str] = "network"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "models")
    example: ClassVar[str] = """\
network:
  use: train
  from: samples
  architecture: {mlp: {hidden: [8, 8]}}
  l2: {first: 25, second: 0.01}
  epochs: 30
  seeds: 2"""

    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, alias="from", description="Samples to train on; their train split, or all where they have no split."
    )
    architecture: Architecture = Field(
        default_factory=lambda: Architecture.model_validate({"mlp": {}}),
        description="One of mlp, cnn and unet, with its options: `{mlp: {hidden: [8, 8]}}`.",
    )
    target: Literal["class", "value", "image"] | None = Field(
        None,
        description=(
            "What to learn where the samples hold both a class and a target. Default: the target, else the class."
        ),
    )
    one_logit: bool = Field(False, description="Two classes from one output: positive means the second class.")
    epochs: int = Field(100, ge=1, description="Passes over the training samples.")
    batch: int = Field(32, ge=1, description="Training samples per step.")
    optimiser: Literal["sgd", "adam"] = Field("adam", description="Stochastic gradient descent, or Adam.")
    learning_rate: float = Field(1e-3, gt=0, description="Step size.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(True, description="Nesterov momentum (sgd).")
    init: Literal["default", "he", "glorot"] = Field(
        "he",
        description="Initial weights: he (normal, variance 2 / inputs), glorot (uniform, variance 2 / (inputs + "
        "outputs)), both with biases 0, or torch's default.",
    )
    l2: Penalty | dict[LayerName, Penalty] = Field(
        0.0,
        description="Ridge: l2 * sum(w^2) over a layer's weights (not biases) is added to the loss; torch's "
        "weight_decay is twice l2. One number for all layers, or by layer: `{first: 25, second: 0.01, last: 0, all: "
        "1e-4}`, where `all` means the layers not named.",
    )
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description=(
            "Weight of each class in the loss: `balanced` (the inverse of its frequency in training), or class: weight."
        ),
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="Stop early on the loss of the validation split, which must exist. Default: train all epochs."
    )
    seeds: int = Field(1, ge=1, description="Number of networks, trained in the same way from different seeds.")
    checkpoint_every: int = Field(10, ge=1, description="Epochs between checkpoints.")

    def skeleton(self, context: Context) -> Networks:
        """Untrained networks of the right shapes."""
        samples = context.sources["from"]
        modules = tuple(self._initial(context, samples, i)[0] for i in range(self.seeds))
        self._check(samples, modules[0])
        return self._networks(samples, modules, notes=("not trained yet",))

    def layout(self, context: Context) -> Layout:
        import dask.array as da
        import numpy as np
        import xarray as xr

        unit = {"units": "1"}
        zeros = da.zeros((self.seeds, self.epochs), chunks=(1, -1))
        count = da.zeros(self.seeds, dtype=np.int32, chunks=1)
        curve = ("network", "epoch")
        template = xr.Dataset(
            {
                "training_loss": (
                    curve,
                    zeros,
                    {"long_name": "mean training loss while the weights moved, without penalty"} | unit,
                ),
                "validation_loss": (curve, zeros, {"long_name": "validation loss at the end of the epoch"} | unit),
                "penalty": (curve, zeros, {"long_name": "l2 penalty at the end of the epoch"} | unit),
                "epochs_run": ("network", count, {"long_name": "epochs until training ended"} | unit),
                "best_epoch": ("network", count, {"long_name": "epoch whose weights were kept"} | unit),
            },
            coords={
                "network": ("network", np.arange(self.seeds), {"long_name": "network trained from its own seed"}),
                "epoch": ("epoch", np.arange(1, self.epochs + 1), {"long_name": "epoch"}),
            },
        )
        return Layout(self._with_origin(context, template), "network", 1)

    def _with_origin(self, context: Context, template: xr.Dataset) -> xr.Dataset:
        """The store, with what the networks learn from: grid, scaling, channels, classes and units of targets."""
        from geoxai.models.origin import stored_origin

        networks = self.skeleton(context)
        known = stored_origin(networks.origins)
        attrs = {"task": networks.task, "classes": " ".join(networks.classes), "target_units": networks.units}
        attrs["target_channels"] = " ".join(networks.target_channels)
        return (template if known is None else template.merge(known)).assign_attrs(attrs)

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        import numpy as np
        import xarray as xr

        blocks = []
        for i in range(start, stop):
            curves = self._train(context, i)
            padding = (np.nan,) * (self.epochs - curves.epochs)
            named = {
                name: (*getattr(curves, name), *padding) for name in ("training_loss", "validation_loss", "penalty")
            }
            block = xr.Dataset({name: (("network", "epoch"), np.array([values])) for name, values in named.items()})
            block["epochs_run"] = ("network", np.array([curves.epochs], np.int32))
            block["best_epoch"] = ("network", np.array([curves.best_epoch], np.int32))
            blocks.append(block)
        return xr.concat(blocks, "network")

    def files(self, context: Context, start: int, stop: int) -> list[Path]:
        return [weights_path(context, i) for i in range(start, stop)]

    def open(self, context: Context) -> Networks:
        import torch

        samples = context.sources["from"]
        modules = []
        for i in range(self.seeds):
            module, _ = self._initial(context, samples, i)
            path = weights_path(context, i)
            if not path.is_file():
                raise GeoxaiError(
                    f"the weights {path} are missing, though the training is complete",
                    fix=f"train again with --force {context.stage}",
                )
            module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            modules.append(module)
        return self._networks(samples, tuple(modules))

    def summarise(self, context: Context, result: Networks) -> dict[str, Any]:
        """Scores per network and split, their spread, and what simpler models reach."""
        import numpy as np
        import xarray as xr

        from geoxai.models.baselines import baselines
        from geoxai.models.examples import evaluate
        from geoxai.models.networks import predict

        samples = context.sources["from"]

        def predicted(index: np.ndarray) -> np.ndarray:
            found = predict(result, samples["inputs"].isel(sample=index), device=context.device)["prediction"].values
            return found if result.dims else found[None]

        scores = evaluate(samples, result.task, result.classes, predicted, self.seeds)
        with xr.open_zarr(context.store, consolidated=False) as curves:
            for i, member in enumerate(scores["networks"]):
                scores["networks"][i] = {
                    "seed": context.seed + i,
                    "epochs": int(curves["epochs_run"][i]),
                    "best_epoch": int(curves["best_epoch"][i]),
                } | member
        simple = baselines(samples, result.task, result.classes)
        return {"task": result.task, "classes": list(result.classes)} | scores | {"baselines": simple}

    def _train(self, context: Context, i: int) -> Curves:
        """Train network ``i`` and store its weights; the loss curves."""
        from geoxai.models.checkpoints import save_whole
        from geoxai.models.examples import examples, splits_of, task_of
        from geoxai.models.training import rescale_outputs, standardised, target_scale, train

        samples = context.sources["from"]
        module, generator = self._initial(context, samples, i)
        task, adapter = task_of(samples, self.target), inside_adapter(samples)
        splits = splits_of(samples, task)
        self._check_splits(samples, splits)
        training = examples(samples, splits["train"], adapter, task)
        validation = None
        if "validation" in splits:
            validation = examples(samples, splits["validation"], adapter, task)
        scale = None
        if task != "classification":
            scale = target_scale(training.targets)
            training = standardised(training, scale)
            validation = None if validation is None else standardised(validation, scale)
        checkpoint = context.folder / f"checkpoint-{i}.pt"
        curves = train(
            module,
            training,
            self._recipe(samples, training.targets),
            generator,
            task=task,
            validation=validation,
            device=context.device,
            checkpoint=checkpoint,
            on_epoch=lambda epoch, loss: context.report(
                epoch, self.epochs, f"epoch {epoch} of {self.epochs}, loss {loss:.4g}"
            ),
        )
        if scale is not None:
            rescale_outputs(module, scale)
        save_whole(module.state_dict(), weights_path(context, i))
        checkpoint.unlink(missing_ok=True)
        return curves

    def _recipe(self, samples: xr.Dataset, targets: torch.Tensor) -> Recipe:
        from geoxai.models.training import Recipe

        stopping = self.early_stopping
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch,
            optimiser=self.optimiser,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            l2=self._l2,
            class_weights=self._class_weights(samples, targets),
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
            checkpoint_every=self.checkpoint_every,
        )

    @property
    def _l2(self) -> dict[str, float]:
        return {str(name): l2 for name, l2 in self.l2.items()} if isinstance(self.l2, dict) else {"all": self.l2}

    def _class_weights(self, samples: xr.Dataset, targets: torch.Tensor) -> tuple[float, ...] | None:
        from geoxai.models.examples import classes_of

        if self.class_weights is None:
            return None
        classes = classes_of(samples)
        if isinstance(self.class_weights, dict):
            return tuple(self.class_weights.get(name, 1.0) for name in classes)
        counts = targets.bincount(minlength=len(classes)).clamp(min=1).double()
        return tuple((len(targets) / (len(classes) * counts)).tolist())

    def _initial(self, context: Context, samples: xr.Dataset, i: int) -> tuple[nn.Module, torch.Generator]:
        """Network ``i`` before training, and the generator that then orders its batches."""
        import torch

        from geoxai.models.architectures import build
        from geoxai.models.examples import classes_of, target_channels_of, task_of

        if "inputs" not in samples.variables:
            raise OptionError(
                "the networks that train builds take one input, these samples have several",
                fix="train a network of your own, and bring it with use: model",
                option="from",
            )
        inputs, task = samples["inputs"], task_of(samples, self.target)
        grid = (inputs.shape[2], inputs.shape[3])
        outputs: tuple[int, ...] = (1,)
        if task == "classification":
            classes = classes_of(samples)
            if self.one_logit and len(classes) != 2:
                raise OptionError(
                    f"one_logit needs two classes, there are {len(classes)}: {', '.join(classes)}", option="one_logit"
                )
            outputs = (1,) if self.one_logit else (len(classes),)
        elif task == "image":
            outputs = (len(target_channels_of(samples)), *grid)
        name, options = self.architecture.chosen
        generator = torch.Generator().manual_seed(context.seed + i)
        module = build(
            name,
            options,
            channels=inputs.sizes["channel"],
            grid=grid,
            outputs=outputs,
            init=self.init,
            generator=generator,
        )
        return module, generator

    def _networks(self, samples: xr.Dataset, modules: tuple[nn.Module, ...], notes: tuple[str, ...] = ()) -> Networks:
        from geoxai.models.examples import classes_of, target_channels_of, task_of, units_of
        from geoxai.models.networks import Networks, digest_of, frozen
        from geoxai.models.origin import origin_of

        task = task_of(samples, self.target)
        return Networks(
            modules=tuple(frozen(module) for module in modules),
            adapter=inside_adapter(samples),
            task=task,
            classes=classes_of(samples) if task == "classification" else (),
            digest=digest_of(modules),
            notes=notes,
            units=units_of(samples, task),
            target_channels=target_channels_of(samples) if task == "image" else (),
            origins={"": origin_of(samples)},
        )

    def _check(self, samples: xr.Dataset, module: nn.Module) -> None:
        """Check what can be wrong with the options before anything is trained."""
        from geoxai.models.examples import SPLITS, classes_of, task_of
        from geoxai.models.training import penalised_weights

        penalised_weights(module, self._l2)
        if isinstance(self.class_weights, dict):
            if task_of(samples, self.target) != "classification":
                raise OptionError("class_weights need classes, the samples hold values", option="class_weights")
            classes = classes_of(samples)
            for name in self.class_weights:
                if name not in classes:
                    raise OptionError(unknown("class", name, classes), option=f"class_weights.{name}")
        split = samples.get("split")
        if self.early_stopping is not None and (
            split is None or not (split.values == SPLITS.index("validation")).any()
        ):
            raise OptionError(
                "early stopping needs a validation split, the samples have none",
                fix="give the samples a validation split cut from the training years, or leave early_stopping out",
                option="early_stopping",
            )

    def _check_splits(self, samples: xr.Dataset, splits: dict[str, Any]) -> None:
        """Check what only the values show: that there are training samples of every class."""
        if "train" not in splits:
            raise GeoxaiError(
                "no sample of the train split has a target",
                fix="check the years of the split and the labels",
                option="from",
            )
        if "split" not in samples.variables or (samples["split"].values < 0).all():
            log.warning(
                "the samples have no split: the network is trained on all of them and its scores say nothing of new "
                "data"
            )
        if "label" in samples.variables and self.target in (None, "class") and "target" not in samples.variables:
            from geoxai.models.examples import classes_of

            present = set(samples["label"].values[splits["train"]].tolist())
            for number, name in enumerate(classes_of(samples)):
                if number not in present:
                    log.warning("class %s has no training sample", name)


def weights_path(context: Context, i: int) -> Path:
    """Where the weights of network ``i`` are stored."""
    return context.folder / f"network-{i}.pt"


def inside_adapter(samples: xr.Dataset) -> Adapter:
    """The orientation networks are trained in."""
    from geoxai.models.origin import origin_of, trained_adapter

    return trained_adapter(origin_of(samples))


STAGES: tuple[type[Stage], ...] = (Train,)
