"""``predict``: what networks say about samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from geoxai.stages.fitting import ANY_GRID, advise_scaling, fitted_together
from geoxai.stages.options import Chunk
from geoxai.stages.stage import Context, Layout, Reference, Stage, StoredStage

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from geoxai.models.networks import Networks

CHUNK_BYTES = 16 * 2**20


class Predict(StoredStage):
    """Predictions of a network for every sample.

    Classifiers give `prediction` (the class), `probability` of each class and `confidence`, the highest of them; other
    networks give values or images in target units. Results keep the samples' coordinates, and have a dim `network`
    where there are several. Scores per split and network are in `<stage>.json`, under `all` where there is no split.
    """

    use: ClassVar[str] = "predict"
    gives: ClassVar[str] = "prediction"
    libraries: ClassVar[tuple[str, ...]] = ("grid", "models", "readers")
    example: ClassVar[str] = "forecast: {use: predict, from: samples, model: network}"

    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, alias="from", description="Samples to predict for, all splits."
    )
    model: Annotated[str | None, Reference("network", nearest=True)] = Field(None, description="Network that predicts.")
    any_grid: bool = Field(False, description=ANY_GRID)
    batch_size: int = Field(64, ge=1, description="Samples per forward pass.")
    chunk: Chunk = Field(
        "auto",
        description=(
            "Samples in one unit of work and one chunk of the store, rounded up to whole batches; auto: "
            "about 16 MiB of inputs."
        ),
    )

    def advise(self, name: str, stages: Mapping[str, Stage]) -> Iterator[tuple[str, str, str]]:
        """Warn of samples that are not scaled like those the network was trained on."""
        return advise_scaling(name, self.from_, self.model, stages)

    def skeleton(self, context: Context) -> xr.Dataset:
        from geoxai.grid.several import inputs_of
        from geoxai.models.networks import check_inputs, refuse_steps

        samples, networks = self._sources(context)
        refuse_steps(networks, check_inputs(networks, inputs_of(samples)))
        return self.layout(context).template

    def layout(self, context: Context) -> Layout:
        from geoxai.grid.several import inputs_of
        from geoxai.models.networks import predictions_template

        samples, networks = self._sources(context)
        inputs = inputs_of(samples)
        template = predictions_template(networks, inputs.assign_coords(beside(samples)))
        return Layout(template, "sample", sample_block(inputs, self.chunk, self.batch_size))

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        from geoxai.grid.several import inputs_of
        from geoxai.models.networks import predict

        samples, networks = self._sources(context)
        block = inputs_of(samples).isel(sample=slice(start, stop))
        return predict(networks, block, self.batch_size, context.device)

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any] | None:
        """Scores per network and split; None where the samples have nothing to compare with."""
        from geoxai.models.examples import evaluate

        samples, networks = self._sources(context)
        if ("label" if networks.task == "classification" else "target") not in samples.variables:
            return None

        def predicted(index: np.ndarray) -> np.ndarray:
            found = result["prediction"].isel(sample=index).values
            return found if networks.dims else found[None]

        scores = evaluate(samples, networks.task, networks.classes, predicted, len(networks.modules), "all")
        return {"task": networks.task, "classes": list(networks.classes)} | scores

    def _sources(self, context: Context) -> tuple[xr.Dataset, Networks]:
        return fitted_together(context.sources["model"], context.sources["from"], self.any_grid)


def sample_block(inputs: xr.DataArray | xr.Dataset, chunk: int | str, batch_size: int) -> int:
    """Samples per unit: whole batches, so that the chunk changes no batch, and so no bit of a result."""
    if isinstance(chunk, int):
        wanted = chunk
    else:
        wanted = max(1, CHUNK_BYTES // max(1, inputs.nbytes // max(1, inputs.sizes["sample"])))
    return -(-wanted // batch_size) * batch_size


def beside(samples: xr.Dataset) -> dict[str, xr.DataArray]:
    """Coordinates for what is computed from samples: labels, splits and true values of the target.

    The values of a regression are called ``value``, like those of labels.
    """
    found = {name: samples[name] for name in ("label", "split") if name in samples.data_vars}
    if "target" in samples.data_vars and samples["target"].dims == ("sample",):
        found["value"] = samples["target"]
    return found


STAGES: tuple[type[Stage], ...] = (Predict,)
