"""``explain.lrp`` and ``explain.gradient``: relevance maps of samples."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from geoxai.attribution.lrp.presets import MATCHES, PRESET_ADVICE, PRESET_NAMES, parse_rules
from geoxai.attribution.lrp.rules import RULES, papers
from geoxai.errors import OptionError
from geoxai.names import unknown
from geoxai.stages.fitting import ANY_GRID, advise_scaling, fitted_together
from geoxai.stages.options import Chunk
from geoxai.stages.predict import beside, sample_block
from geoxai.stages.relevance import account_summary, template
from geoxai.stages.stage import Context, Layout, Reference, Stage, StoredStage
from geoxai.stages.targets import Compared, Place, Target, described, names_of, resolved, targets_in

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from geoxai.attribution import RuleRow
    from geoxai.models.networks import Networks

log = logging.getLogger("geoxai.explain")

SPLITS = ("train", "validation", "test")
_ADVICE = {name: rule.advice for name, rule in RULES.items()} | PRESET_ADVICE
RULES_MANUAL = (
    "Name of a preset, or a list of lines, of which the first that matches an operation wins: "
    "`[{match: first, rule: z_box, low: 0, high: 1}, {match: all, rule: epsilon, eps: 1e-6}]`. "
    f"Presets: {', '.join(PRESET_NAMES)}. "
    "The attribute `rules_chosen` says which preset auto took. "
    f"Rules in lines: {', '.join(RULES)}. "
    f"`match` is one of {', '.join(MATCHES)}; `path` beside it is a pattern for the module path, such as `encoder.*`. "
    "first and last are the weighted operations next to the input and the output, weighted means linear and conv; "
    "product and softmax take only uniform and taylor. "
    "A line `{preset: epsilon_plus}` stands for the lines of that preset, with options such as `eps` or `bias` for all "
    "its rules. `norm: pass` in it, or a line `{match: norm, rule: pass}`, lets relevance through norms; `fold` makes "
    "a batch norm one map with the layer right before it. `geoxai rules` shows which line matched where. "
    f"When to use which: {'; '.join(f'`{name}` for {advice}' for name, advice in _ADVICE.items())}. "
    f"Papers: {papers(_ADVICE.values())}."
)


class Explain(StoredStage):
    """What the explanation methods have in common."""

    gives: ClassVar[str] = "relevance"
    revision: ClassVar[int] = 3
    libraries: ClassVar[tuple[str, ...]] = ("attribution", "grid", "models", "readers", "statistics")
    account: ClassVar[str]

    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(
        None, alias="from", description="Samples to explain."
    )
    model: Annotated[str | None, Reference("network", nearest=True)] = Field(
        None, description="Network to explain; of several (seeds) each is explained, along a dim `network`."
    )
    subset: Literal["all", "train", "validation", "test"] = Field(
        "all", description="The split to explain, or all samples."
    )
    target: Target | list[Target | list[int]] = Field(
        "predicted",
        description="What is explained. Classifiers: `predicted`, `label` or the name of a class. Any network: an "
        "output, as its index into what the network itself returns for one sample (`0`, `[0, 128, 128]`), in the "
        "network's own axes and orientation, whatever those of the samples. Image networks: a place on the grid of the "
        "samples, such as `{box: {lat: [30, 40], lon: [250, 260]}}` or `{pixels: my_pixels}`. A list of these (indices "
        "as lists) means several targets, explained with one forward pass, along a dim `target`.",
    )
    reference: float | Compared | None = Field(
        None,
        description="Explain the value minus this, for outputs that are not classes: a number, `{climatology: train}` "
        "(the output for the mean input) or `{sample: 17}`. The reference acts as a bias of the last layer: the "
        "account closes for the difference, the map alone only where biases are ignored.",
    )
    score: Literal["contrast", "logit", "one"] = Field(
        "contrast",
        description="For classes: the logit minus that of the runner-up; the logit itself; or relevance that starts "
        "at 1.",
    )
    start: Literal["logit", "output"] = Field(
        "logit", description="Whether a softmax or sigmoid that ends the network is skipped (logit) or explained too."
    )
    any_grid: bool = Field(False, description=ANY_GRID)
    batch_size: int = Field(64, ge=1, description="Samples per forward and backward pass.")
    window: Literal["auto", "never"] = Field(
        "auto",
        description="auto: where the network is local, only the part of a large field that can reach the explained "
        "outputs is computed; the maps are the same.",
    )
    chunk: Chunk = Field(
        "auto",
        description="Samples in one unit of work and one chunk of the store, rounded up to whole batches; auto: "
        "about 16 MiB of inputs.",
    )

    def advise(self, name: str, stages: Mapping[str, Stage]) -> Iterator[tuple[str, str, str]]:
        """Warn of samples that are not scaled like those the network was trained on."""
        return advise_scaling(name, self.from_, self.model, stages)

    def skeleton(self, context: Context) -> xr.Dataset:
        from geoxai.grid.several import inputs_of
        from geoxai.models.networks import check_inputs

        samples, networks = self._sources(context)
        self._require_target(networks, samples)
        outputs = check_inputs(networks, inputs_of(samples))
        self._require_output(networks, 1 if outputs.ndim == 1 else outputs.shape[1])
        return self.layout(context).template

    @property
    def fits(self) -> bool:  # type: ignore[override]
        """A mean input is computed once."""
        return isinstance(self.reference, Compared) and self.reference.climatology is not None

    def fit(self, context: Context) -> xr.Dataset:
        from geoxai.grid.several import dataset_of, inputs_of

        assert isinstance(self.reference, Compared)
        assert self.reference.climatology is not None
        samples, _ = self._sources(context)
        chosen = inputs_of(samples).isel(
            sample=_positions(samples, self.reference.climatology, "reference.climatology")
        )
        mean = chosen.mean("sample", dtype="float64").astype("float32")
        return dataset_of(mean.assign_attrs(long_name="mean input"), "inputs").compute()

    def layout(self, context: Context) -> Layout:
        from geoxai.grid.several import fields_of

        samples, networks = self._sources(context)
        chosen = samples.isel(sample=self._positions(samples))
        tried = self._tried(context, samples, networks)
        targets = names_of(self.target, context) if "target" in tried.dims else []
        store = template(chosen, networks, tried, targets, self.account == "closed")
        store = store.assign_attrs(tried.attrs, subset=self.subset, score=self.score)
        batch_size = networks.fixed_batch or self.batch_size
        return Layout(store, "sample", sample_block(fields_of(store, "relevance"), self.chunk, batch_size))

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        import xarray as xr

        samples, networks = self._sources(context)
        block = samples.isel(sample=self._positions(samples)[start:stop])
        block = _whole_batches(block, networks.fixed_batch).load()
        with _unheard("geoxai.explain.doubts"):  # said in the end, of all units at once
            members = [
                self._explain(context, networks, number, block, self.window).drop_vars("target", errors="ignore")
                for number in range(len(networks.modules))
            ]
        whole = xr.concat(members, "network", join="exact") if networks.dims else members[0]
        return whole.isel(sample=slice(0, stop - start))

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any] | None:
        """The terms of the account as shares of the explained value, by split; None where there is no account. Warns
        of maps that say little although their account closes.
        """
        if self.account != "closed":
            return None
        from geoxai.soundness import unsound

        if (doubt := unsound(result)) is not None:
            log.warning("%s: %s", context.stage, doubt)
        return account_summary(result)

    def _method_options(self) -> dict[str, Any]:
        """The method and its options for ``geoxai.explain``."""
        raise NotImplementedError

    def _explain(
        self, context: Context, networks: Networks, number: int, samples: xr.Dataset, window: str
    ) -> xr.Dataset:
        """One network's relevance for samples in memory."""
        from geoxai.explaining import explain
        from geoxai.grid.several import inputs_of, names_of

        names = names_of(samples)
        targets = resolved(self.target, context, samples, number)
        options = self._method_options() | ({} if networks.head is None else {"output": networks.head})
        found = explain(
            networks.modules[number].to(context.device),
            inputs_of(samples),
            target=targets.asked,
            batch_size=networks.fixed_batch or self.batch_size,
            score=self.score,
            start=self.start,
            valid={name: samples[f"valid_{name}"] for name in names} if names else samples["valid"],
            labels=samples["label"].values if "label" in targets_in(self.target) else None,
            classes=networks.classes or None,
            adapter=networks.adapter,
            device=context.device,
            reference=self._reference(context, samples),
            output_channels=networks.target_channels,
            window=window,
            **options,
        )
        return targets.without_missing(found)

    def _reference(self, context: Context, samples: xr.Dataset) -> Any:
        from geoxai.grid.several import inputs_of

        if not isinstance(self.reference, Compared):
            return self.reference
        if self.reference.value is not None:
            return self.reference.value
        if self.reference.sample is not None:
            everything = context.sources["from"]
            numbers = everything["sample"].values
            if self.reference.sample not in numbers:
                raise OptionError(f"there is no sample {self.reference.sample}", option="reference.sample")
            place = int((numbers == self.reference.sample).argmax())
            return {"sample": inputs_of(everything).isel(sample=place).load()}
        if context.fitted is None:  # while planning
            return {"climatology": inputs_of(samples).isel(sample=0) * 0}
        return {"climatology": inputs_of(context.fitted).load()}

    def _tried(self, context: Context, samples: xr.Dataset, networks: Networks) -> xr.Dataset:
        """The explanation of an empty sample. Its attributes are what determines the numbers: the rule at every
        operation of the whole field, notes, dtype.

        Nobody needs to know what an empty sample gives: its warnings are not passed on.
        """
        with _unheard("geoxai.attribution", "geoxai.explain", "geoxai.explain.doubts"):
            found = self._explain(context, networks, 0, _empty(samples, networks), "never")
        found.attrs["notes"] = json.dumps([*networks.notes, *json.loads(found.attrs["notes"])])
        found.attrs["target"] = described(self.target)
        found.attrs.pop("reference", None)
        return found.assign_attrs(model_digest=networks.digest)

    def _sources(self, context: Context) -> tuple[xr.Dataset, Networks]:
        samples, networks = fitted_together(context.sources["model"], context.sources["from"], self.any_grid)
        return samples.assign_coords(beside(samples)), networks

    def _positions(self, samples: xr.Dataset) -> np.ndarray:
        """Positions of the samples of the subset."""
        return _positions(samples, self.subset, "subset")

    def _require_output(self, networks: Networks, values: int) -> None:
        """Refuse the index of a value that the network does not have."""
        for target in targets_in(self.target) if networks.task == "regression" else ():
            if isinstance(target, int) and not -values <= target < values:
                raise OptionError(
                    f"target {target} is outside the network's output, which has {values} value"
                    f"{'' if values == 1 else 's'} per sample",
                    fix=f"0 to {values - 1}" if values > 1 else "target: 0",
                    option="target",
                )

    def _require_target(self, networks: Networks, samples: xr.Dataset) -> None:
        """Refuse, before anything is computed, a target that this network does not have."""
        for target in targets_in(self.target):
            if isinstance(target, Place) and networks.task != "image":
                classifier = networks.task == "classification"
                raise OptionError(
                    f"target is a place, but the network{_of_head(networks)} gives {_OUTPUT[networks.task]}",
                    fix=("name a class, predicted or label" if classifier else "name the output, such as 0")
                    + ("" if networks.head is None else ", or another head"),
                    option="target",
                )
            if not isinstance(target, str):
                continue
            if networks.task != "classification":
                raise OptionError(
                    f"target {target!r} is for classifiers, but the network{_of_head(networks)} gives "
                    f"{_OUTPUT[networks.task]}",
                    fix=_OTHER_TARGETS[networks.task],
                    option="target",
                )
            if target == "label" and "label" not in samples.coords:
                raise OptionError("target 'label' needs samples with labels", option="target")
            if target not in ("predicted", "label", *networks.classes):
                raise OptionError(unknown("target", target, ("predicted", "label", *networks.classes)), option="target")


class Lrp(Explain):
    """Layer-wise relevance propagation: the explained value is shared out to the inputs, operation by operation.

    The explained value equals the sum of the map, of what biases and stabilisers keep, and of what was lost. These
    parts are stored for every sample, and `<stage>.json` has their shares of the value. Cells that were filled are NaN
    in the maps. The rule that ran at each operation is kept in the attribute `rule_table`.
    """

    use: ClassVar[str] = "explain.lrp"
    example: ClassVar[str] = "relevance: {use: explain.lrp, from: samples, model: network, subset: test}"
    account: ClassVar[str] = "closed"

    rules: str | list[dict[str, Any]] = Field("auto", description=RULES_MANUAL)
    layers: list[str] = Field(
        [], description="Paths of modules, such as `features.3`, at whose outputs relevance is stored too."
    )
    flat_below: str | None = Field(
        None,
        description="Path of a module: below its output, relevance spreads evenly over the inputs it is connected to, "
        "so that the maps have its resolution.",
    )
    precision: Literal["full", "bfloat16"] = Field(
        "full",
        description="`bfloat16`: convolutions that the rules add to the network's own are computed in this type, which "
        "is faster where the processor supports it. Maps differ by up to about a percent of their largest value; the "
        "attribute `account` is then `approximate`, and `notes` gives by how much it is off for the first sample.",
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _known_rules(cls, rules: Any) -> Any:
        parse_rules(rules)
        return rules

    def rule_table(self, context: Context) -> tuple[RuleRow, ...]:
        """The rule that runs at every operation of the network."""
        from geoxai.attribution import RuleRow

        samples, networks = self._sources(context)
        self._require_target(networks, samples)
        rows = json.loads(self._tried(context, samples, networks).attrs["rule_table"])
        return tuple(
            RuleRow(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})
            for row in rows
        )

    def _method_options(self) -> dict[str, Any]:
        return {
            "method": "lrp",
            "rules": self.rules,
            "layers": self.layers,
            "flat_below": self.flat_below,
            "precision": self.precision,
        }


class Gradient(Explain):
    """The gradient of the explained value with respect to the inputs: plain, squared, or times the input.

    Plain shows where a small change would matter; times the input shows what the actual values contribute to a locally
    linear network. Neither decomposes the explained value in general, so `account` is none.
    """

    use: ClassVar[str] = "explain.gradient"
    example: ClassVar[str] = (
        "gradient: {use: explain.gradient, from: samples, model: network, subset: test, variant: times_input}"
    )
    account: ClassVar[str] = "none"

    variant: Literal["plain", "squared", "times_input"] = Field("plain", description="Which form of the gradient.")

    def _method_options(self) -> dict[str, Any]:
        return {"method": _GRADIENTS[self.variant]}


_GRADIENTS = {"plain": "gradient", "squared": "gradient_squared", "times_input": "gradient_x_input"}
_OUTPUT = {"classification": "classes", "regression": "values", "image": "images"}
_OTHER_TARGETS = {
    "regression": "name the output to explain: target: 0",
    "image": "name a place: target: {box: {lat: [30, 40], lon: [250, 260]}}, {point: {lat: 35, lon: 255}} or "
    "{pixels: stage}",
}


def _of_head(networks: Networks) -> str:
    """The head that counts, in brackets, where there are several."""
    from geoxai.models.heads import head_text

    return "" if networks.head is None else f" (head {head_text(networks.head)})"


def _positions(samples: xr.Dataset, split: str, option: str) -> np.ndarray:
    """Positions of the samples of a split, or of all."""
    import numpy as np

    size = samples.sizes["sample"]
    if split == "all":
        return np.arange(size)
    given = samples["split"].values if "split" in samples.coords else np.full(size, -1)
    positions = np.flatnonzero(given == SPLITS.index(split))
    if positions.size == 0:
        raise OptionError(
            f"there is no sample in the split {split!r}",
            fix=f"give the samples stage a split {split}, or explain another",
            option=option,
        )
    return positions


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

    from geoxai.grid.several import ends_of

    some = samples.isel(sample=np.zeros(networks.fixed_batch or 1, dtype=int))
    names = [f"inputs{end}" for end in ends_of(samples)]
    some = some.assign({name: xr.zeros_like(some[name]) for name in names})
    if "label" in some.coords:
        some = some.assign_coords(label=xr.zeros_like(some["label"]))
    return some[[*names, *(f"valid{end}" for end in ends_of(samples))]].compute()


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
