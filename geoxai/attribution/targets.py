"""What is explained: targets as linear functionals of the network's output.

A target selects outputs (an index, a mask, weights, one per sample) or a class. Either way it is a coefficient for each
output of each sample, and the explained value is the sum of products. For classes the default score is the contrast
to the runner-up: single logits have an arbitrary offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoxai.errors import OptionError
from geoxai.names import unknown

if TYPE_CHECKING:
    from geoxai.attribution.reference import Reference

SCORES = ("contrast", "logit", "one")
CLASS_TARGETS = ("predicted", "label")


@dataclass(frozen=True)
class Output:
    """A network's output for a batch: ``values`` (N, ...), before a closing function unless asked for, ``raw``
    as returned.
    """

    values: Tensor
    raw: Tensor
    closing: str | None = None


@dataclass(frozen=True)
class Objective:
    """One target of one batch. ``coefficients`` have the output's shape; ``fold`` asks for them in the last
    linear map.
    """

    coefficients: Tensor
    fold: bool = False
    unit: bool = False  # relevance starts at the coefficients themselves, not times the output
    reference: Tensor | None = None  # (N,) float64: what is explained is the value minus this

    def value(self, output: Tensor) -> Tensor:
        """The explained value per sample, float64."""
        weights = self.coefficients.to(torch.float64)
        product = weights if self.unit else weights * output.to(torch.float64)
        total = product.reshape(len(product), -1).sum(1)
        return total if self.reference is None else total - self.reference


@dataclass(frozen=True)
class Question:
    """What a caller asks for: target, score, class names and labels. ``labels`` are those of the batch."""

    target: Any = "predicted"
    score: str = "contrast"
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise OptionError(unknown("score", str(self.score), SCORES), option="score")

    @property
    def several(self) -> bool:
        """Whether the target is a list of targets."""
        return isinstance(self.target, list)

    @property
    def targets(self) -> list[Any]:
        """All targets."""
        return self.target if isinstance(self.target, list) else [self.target]

    def is_classification(self, output: Output) -> bool:
        """Whether the output consists of class scores: (N, classes), or one logit per sample if a sigmoid or
        class names say so.
        """
        if _class_count(output.values) > 1:
            asks_class = any(isinstance(t, str) for t in (self.target if self.several else [self.target]))
            return bool(self.classes) or output.closing in ("softmax", "log_softmax") or asks_class
        return _class_count(output.values) == 1 and (output.closing == "sigmoid" or len(self.classes or ()) == 2)

    def objectives(self, output: Output, rows: slice) -> list[Objective]:
        """The targets of a batch that holds these samples of the caller's; more samples repeat the last one."""
        return [
            self._class_objective(target, output)
            if isinstance(target, str)
            else self._output_objective(target, output.values, rows)
            for target in (self.target if self.several else [self.target])
        ]

    def _output_objective(self, target: Any, values: Tensor, rows: slice) -> Objective:
        coefficients = coefficients_of(target, values, rows)
        if self.reference is None:
            return Objective(coefficients)
        return Objective(coefficients, reference=self.reference.value(coefficients, rows))

    def _class_objective(self, target: str, output: Output) -> Objective:
        values = output.values
        if self.reference is not None:
            raise OptionError(
                f"a reference is for values, not for target {target!r}; for classes use score: contrast",
                fix="name the output to explain, or leave out the reference",
                option="reference",
            )
        if not self.is_classification(output):
            raise OptionError(
                f"target {target!r} needs a classifier, found an output of shape {tuple(values.shape[1:])} per sample",
                fix="name the output to explain: an index such as 0 or (0, 128, 128), a mask, or weights",
                option="target",
            )
        count = _class_count(values)
        chosen = self._chosen_class(target, values, max(count, 2))
        if count == 1:  # one logit f: +f supports class 1, -f supports class 0
            sign = torch.where(chosen == 1, 1.0, -1.0).to(values.dtype).reshape(values.shape)
            return Objective(sign, fold=bool((sign < 0).any()), unit=self.score == "one")
        scores = torch.zeros_like(values).scatter_(1, chosen[:, None], 1.0)
        if self.score == "contrast":
            rivals = values.masked_fill(scores > 0, -torch.inf).argmax(1, keepdim=True)
            return Objective(scores.scatter_add_(1, rivals, -torch.ones_like(scores)), fold=True)
        return Objective(scores, unit=self.score == "one")

    def _chosen_class(self, target: str, values: Tensor, count: int) -> Tensor:
        if target == "predicted":
            return predicted_class(values)
        if target == "label":
            if self.labels is None:
                raise OptionError("target 'label' needs labels, but none were given", option="target")
            missing = int(((self.labels < 0) | (self.labels >= count)).sum())
            if missing:
                raise OptionError(
                    f"target 'label': {missing} samples have no label among the network's {count} classes",
                    fix="drop samples without a label, or use target predicted",
                    option="target",
                )
            return self.labels.to(values.device)
        known = tuple(self.classes or ())
        if target not in known:
            raise OptionError(unknown("target", target, (*CLASS_TARGETS, *known)), option="target")
        if len(known) != count:
            raise OptionError(f"{len(known)} class names were given for a network of {count} classes", option="classes")
        return torch.full((len(values),), known.index(target), device=values.device)


def _class_count(values: Tensor) -> int:
    """Number of class scores per sample; 0 if the output is not a vector of scores."""
    if values.ndim == 1:
        return 1
    return values.shape[1] if values.ndim == 2 else 0


def predicted_class(values: Tensor) -> Tensor:
    """Index (N,) of the top class; a single logit means class 1 if it is positive."""
    if _class_count(values) == 1:
        return (values.reshape(-1) > 0).long()
    return values.argmax(1)


def confidence(output: Output) -> Tensor:
    """Probability (N,) of the predicted class."""
    values = output.values.to(torch.float64)
    if output.values is output.raw and output.closing is None and _looks_like_probabilities(values):
        return values.amax(1)
    if _class_count(values) == 1:
        return torch.sigmoid(values.reshape(-1).abs())
    return torch.softmax(values, 1).amax(1)


def _looks_like_probabilities(values: Tensor) -> bool:
    """Whether a network asked for its output (``start: output``) already gives probabilities."""
    return _class_count(values) > 1 and bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < 1e-4).all())


def coefficients_of(target: Any, values: Tensor, rows: slice) -> Tensor:
    """Coefficients (N, *output) of an index, mask, weights, or arrays of them per sample."""
    shape, samples = tuple(values.shape[1:]), len(values)
    if isinstance(target, bool):
        raise OptionError(f"target {target!r} is neither an index nor a mask", option="target")
    if isinstance(target, int | np.integer):
        return _at(values, [(int(target),)] * samples)
    if isinstance(target, tuple):
        if not all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in target):
            raise OptionError(
                f"target {target!r} is not an index: it holds more than whole numbers",
                fix="several targets are a list, [a, b]; one index is a tuple of whole numbers",
                option="target",
            )
        return _at(values, [tuple(int(i) for i in target)] * samples)
    if not isinstance(target, np.ndarray | Tensor):
        raise OptionError(
            f"target {target!r} is of type {type(target).__name__}",
            fix="give an index, an index tuple, a mask or weights of the output's shape, a class, or a list of these",
            option="target",
        )
    array = torch.as_tensor(np.asarray(target.detach().cpu() if isinstance(target, Tensor) else target))
    whole_number = not array.is_floating_point() and array.dtype != torch.bool
    per_sample_shapes = ([()] if len(shape) <= 1 else []) + [(max(len(shape), 1),)]
    if whole_number and array.ndim and tuple(array.shape[1:]) in per_sample_shapes:
        return _at(values, [tuple(row.reshape(-1).tolist()) for row in _rows(array, rows, samples)])
    if tuple(array.shape) == shape:
        return _weights(array, values).expand_as(values)
    if tuple(array.shape[1:]) == shape:
        return _weights(_rows(array, rows, samples), values)
    raise OptionError(
        f"target of shape {tuple(array.shape)} fits neither one sample's output {shape} nor an index per sample",
        option="target",
    )


def _at(values: Tensor, indices: Sequence[tuple[int, ...]]) -> Tensor:
    shape = tuple(values.shape[1:]) or (1,)
    coefficients = torch.zeros(len(values), *shape, dtype=values.dtype, device=values.device)
    for sample, index in enumerate(indices):
        if len(index) != len(shape) or any(not -size <= i < size for i, size in zip(index, shape)):
            shown = index[0] if len(index) == 1 else index
            raise OptionError(
                f"target {shown} is outside one sample's output, whose shape is {tuple(values.shape[1:])}",
                fix=f"give {len(shape)} indices, each below the size of its axis",
                option="target",
            )
        coefficients[(sample, *index)] = 1
    return coefficients.reshape(values.shape)


def _weights(array: Tensor, values: Tensor) -> Tensor:
    weights = array.to(values.dtype).to(values.device)
    if not bool((weights != 0).any()):
        raise OptionError("the target mask is empty: it picks no output", option="target")
    if not bool(torch.isfinite(weights).all()):
        raise OptionError("the target weights hold NaN or infinite values", option="target")
    return weights


def _rows(array: Tensor, rows: slice, samples: int) -> Tensor:
    """The rows of an array of targets for one batch, the last one repeated if the batch was padded."""
    taken = array[rows]
    if len(taken) != rows.stop - rows.start:
        raise OptionError(
            f"target of shape {tuple(array.shape)} has fewer rows than there are samples", option="target"
        )
    return torch.cat([taken, taken[-1:].expand(samples - len(taken), *taken.shape[1:])])
