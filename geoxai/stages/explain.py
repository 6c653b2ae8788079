"""``explain.lrp`` and ``explain.gradient``: relevance maps of samples."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.stages.predict import beside, sample_block
from geoxai.stages.stage import Context, Layout, Reference, Stage, StoredStage

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from torch import nn

    from geoxai.attribution.lrp.engine import RuleRow
    from geoxai.models.networks import Networks

SPLITS = ("train", "validation", "test")
ACCOUNT = {
    "bias_relevance": "relevance that biases keep",
    "stabiliser_relevance": "relevance that stabilisers of the rules keep",
    "lost_relevance": "relevance that neither inputs, biases nor stabilisers hold, with that on filled cells",
}


class Explain(StoredStage):
    """What the explanation methods have in common."""

    gives: ClassVar[str] = "relevance"
    account: ClassVar[str]

    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, alias="from", description="Samples to explain."
    )
    model: Annotated[str | None, Reference("network", nearest=True)] = Field(
        None, description="Network to explain; with several (seeds) each is explained, along a dim `network`."
    )
    subset: Literal["all", "train", "validation", "test"] = Field(
        "all", description="The split that is explained, or all samples."
    )
    target: str | int | list[int] = Field(
        "predicted",
        description="What is explained. Classifiers: `predicted`, `label` or the name of a class. Any network: an "
        "output, as its index into one sample's output (`0`, `[0, 128, 128]`).",
    )
    score: Literal["contrast", "logit", "one"] = Field(
        "contrast",
        description="For classes: the logit minus that of the runner-up; the logit itself; or relevance that starts "
        "at 1.",
    )
    start: Literal["logit", "output"] = Field(
        "logit", description="Whether a softmax or sigmoid that closes the network is stepped over or explained too."
    )
    batch_size: int = Field(64, ge=1, description="Samples per forward and backward pass.")
    chunk: int | Literal["auto"] = Field(
        "auto",
        description="Samples in one unit of work and one chunk of the store, rounded up to whole batches; auto: "
        "about 16 MiB of inputs.",
    )

    @field_validator("chunk")
    @classmethod
    def _some_samples(cls, chunk: int | str) -> int | str:
        if isinstance(chunk, int) and chunk < 1:
            raise ValueError("a chunk has at least one sample")
        return chunk

    def skeleton(self, context: Context) -> xr.Dataset:
        from geoxai.models.networks import check_inputs

        samples, networks = self._sources(context)
        self._require_target(networks, samples)
        check_inputs(networks, samples["inputs"])
        return self.layout(context).template

    def layout(self, context: Context) -> Layout:
        samples, networks = self._sources(context)
        chosen = samples.isel(sample=self._positions(samples))
        template = self._template(chosen, networks).assign_attrs(self._attrs(context, samples, networks))
        batch_size = networks.fixed_batch or self.batch_size
        return Layout(template, "sample", sample_block(template["relevance"], self.chunk, batch_size))

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        import xarray as xr

        samples, networks = self._sources(context)
        block = samples.isel(sample=self._positions(samples)[start:stop])
        block = _whole_batches(block, networks.fixed_batch).load()
        members = [self._explain(context, networks, module, block) for module in networks.modules]
        whole = xr.concat(members, "network", join="exact") if networks.dims else members[0]
        return whole.isel(sample=slice(0, stop - start))

    def _method_options(self) -> dict[str, Any]:
        """The method and its options for ``geoxai.explain``."""
        raise NotImplementedError

    def _explain(self, context: Context, networks: Networks, module: nn.Module, samples: xr.Dataset) -> xr.Dataset:
        """One network's relevance for samples in memory."""
        from geoxai.explaining import explain

        return explain(
            module.to(context.device),
            samples["inputs"],
            target=tuple(self.target) if isinstance(self.target, list) else self.target,
            batch_size=networks.fixed_batch or self.batch_size,
            score=self.score,
            start=self.start,
            valid=samples["valid"],
            labels=samples["label"].values if self.target == "label" else None,
            classes=networks.classes or None,
            adapter=networks.adapter,
            device=context.device,
            **self._method_options(),
        )

    def _attrs(self, context: Context, samples: xr.Dataset, networks: Networks) -> dict[str, Any]:
        """What determines the numbers, found by explaining an empty sample: the rule at every operation, notes, dtype.

        What an empty sample gives is no news to anyone: its warnings are not passed on.
        """
        with _unheard("geoxai.attribution", "geoxai.explain"):
            found = self._explain(context, networks, networks.modules[0], _empty(samples, networks)).attrs
        found["notes"] = json.dumps([*networks.notes, *json.loads(found["notes"])])
        return found | {"model_digest": networks.digest}

    def _sources(self, context: Context) -> tuple[xr.Dataset, Networks]:
        samples, networks = context.sources["from"], context.sources["model"]
        return samples.assign_coords(beside(samples)), networks.for_samples(samples)

    def _positions(self, samples: xr.Dataset) -> np.ndarray:
        """Positions of the samples of the subset."""
        import numpy as np

        size = samples.sizes["sample"]
        if self.subset == "all":
            return np.arange(size)
        split = samples["split"].values if "split" in samples.coords else np.full(size, -1)
        positions = np.flatnonzero(split == SPLITS.index(self.subset))
        if positions.size == 0:
            raise OptionError(
                f"no sample is in the split {self.subset!r}",
                fix=f"give the samples stage a split {self.subset}, or explain another",
                option="subset",
            )
        return positions

    def _require_target(self, networks: Networks, samples: xr.Dataset) -> None:
        """Refuse, before anything is computed, a target that this network does not have."""
        target = self.target
        if isinstance(target, str):
            if networks.task != "classification":
                raise OptionError(
                    f"target {target!r} is one of classifiers, this network gives {_OUTPUT[networks.task]}",
                    fix="name the output to explain, such as 0 or [0, 64, 64]",
                    option="target",
                )
            if target == "label" and "label" not in samples.coords:
                raise OptionError("target 'label' needs samples with labels", option="target")
            if target not in ("predicted", "label", *networks.classes):
                raise OptionError(unknown("target", target, ("predicted", "label", *networks.classes)), option="target")

    def _template(self, samples: xr.Dataset, networks: Networks) -> xr.Dataset:
        """The store before it is filled: dims and coordinates of the inputs, all values to come."""
        import dask.array
        import numpy as np

        inputs = samples["inputs"]
        template = inputs.coords.to_dataset().compute()
        members = (len(networks.modules),) if networks.dims else ()
        if members:
            template = template.assign_coords(
                network=("network", np.arange(members[0]), {"long_name": "network trained from its own seed"})
            )
        classifier = networks.task == "classification"
        units = {"units": networks.units} if networks.units else {"units": "1"}

        def add(name: str, like: xr.DataArray, dtype: Any, attrs: dict[str, Any]) -> None:
            zeros = dask.array.zeros((*members, *like.shape), dtype=dtype, chunks=-1)
            template[name] = ((*networks.dims, *like.dims), zeros, attrs)

        relevance = {"long_name": "relevance", "comment": "a sum over inputs: do not weight by area"} | units
        add("relevance", inputs, np.float32, relevance)
        number = samples["sample"]
        if classifier:
            flags = {
                "flag_values": np.arange(len(networks.classes), dtype=np.int16),
                "flag_meanings": " ".join(networks.classes),
            }
            add("prediction", number, np.int16, {"long_name": "predicted class"} | flags)
            add("confidence", number, np.float32, {"long_name": "probability of the predicted class", "units": "1"})
        else:
            what = "prediction" if networks.task == "regression" else "prediction at the target"
            add("prediction", number, np.float32, {"long_name": what} | units)
        add("target_value", number, np.float64, {"long_name": "explained value"} | units)
        if self.account == "closed":
            for name, text in ACCOUNT.items():
                add(name, number, np.float64, {"long_name": text} | units)
        add(
            "filled_relevance",
            number,
            np.float64,
            {"long_name": "relevance on filled cells, masked in the maps"} | units,
        )
        add(
            "nonpositive_target", number, bool, {"long_name": "explained value not positive where the rules presume it"}
        )
        return template


class Lrp(Explain):
    """Layer-wise relevance propagation: the explained value is shared out to the inputs, operation by operation.

    The explained value equals the sum of a map and of what biases and stabilisers keep and what was lost; the parts
    are stored for every sample. Cells that were filled are NaN in the maps. The rule that ran at each operation is
    kept in the attribute `rule_table`.
    """

    use: ClassVar[str] = "explain.lrp"
    account: ClassVar[str] = "closed"

    rules: str | list[dict[str, Any]] = Field(
        "alpha1_beta0",
        description="Name of a rule or preset, or a list of lines, the first that matches an operation wins: "
        "`[{match: first, rule: z_box, low: 0, high: 1}, {match: all, rule: epsilon, eps: 1e-6}]`.",
    )

    @field_validator("rules")
    @classmethod
    def _known_rules(cls, rules: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        from geoxai.attribution.lrp.presets import parse_rules

        parse_rules(rules)
        return rules

    def rule_table(self, context: Context) -> tuple[RuleRow, ...]:
        """The rule that runs at every operation of the network."""
        import torch

        from geoxai.attribution import rule_table

        samples, networks = self._sources(context)
        one = networks.adapter.to_network(_empty(samples, networks)["inputs"])
        module = networks.modules[0]
        kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
        return rule_table(module, torch.as_tensor(one, dtype=next(kinds, torch.float32)), self.rules, start=self.start)

    def _method_options(self) -> dict[str, Any]:
        return {"method": "lrp", "rules": self.rules}


class Gradient(Explain):
    """The gradient of the explained value with respect to the inputs: plain, squared, or times the input.

    Plain says where a small change would matter; times the input says what the values that are there contribute to a
    locally linear network. Neither decomposes the explained value in general: `account` is none.
    """

    use: ClassVar[str] = "explain.gradient"
    account: ClassVar[str] = "none"

    variant: Literal["plain", "squared", "times_input"] = Field("plain", description="What is made of the gradient.")

    def _method_options(self) -> dict[str, Any]:
        return {"method": _GRADIENTS[self.variant]}


_GRADIENTS = {"plain": "gradient", "squared": "gradient_squared", "times_input": "gradient_x_input"}
_OUTPUT = {"regression": "one value per sample", "image": "images"}


def _whole_batches(samples: xr.Dataset, size: int | None) -> xr.Dataset:
    """The samples, the last one repeated until they fill whole batches of a network of fixed batch."""
    import numpy as np

    count = samples.sizes["sample"]
    if size is None or count % size == 0:
        return samples
    return samples.isel(sample=np.minimum(np.arange(-(-count // size) * size), count - 1))


def _empty(samples: xr.Dataset, networks: Networks) -> xr.Dataset:
    """One batch of samples of zeros, in memory."""
    import numpy as np
    import xarray as xr

    some = samples.isel(sample=np.zeros(networks.fixed_batch or 1, dtype=int))
    some = some.assign(inputs=xr.zeros_like(some["inputs"]))
    if "label" in some.coords:
        some = some.assign_coords(label=xr.zeros_like(some["label"]))
    return some[["inputs", "valid"]].compute()


@contextmanager
def _unheard(*names: str) -> Iterator[None]:
    """Without what these loggers say."""

    def silent(record: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(silent)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(silent)


STAGES: tuple[type[Stage], ...] = (Lrp, Gradient)
