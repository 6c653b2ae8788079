"""The result of an explanation, and batches of results joined."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.lrp.engine import RuleRow


@dataclass(frozen=True)
class Attribution:
    """The result of an explanation. With a list of targets all but ``prediction`` and ``confidence`` have a leading
    target axis.

    Attributes
    ----------
    relevance
        Shaped like the input; a tuple if the network has several.
    prediction
        Class index (N,) of a classifier, else the network's output as returned.
    confidence
        Probability (N,) of the predicted class; None if the network is not a classifier.
    target_value
        The explained value (N,), float64.
    bias, stabiliser, lost
        The account (N,), float64: ``target_value = sum(relevance) + bias + stabiliser + lost``. None if ``account``
        is ``none``.
    nonpositive_target
        Bool (N,): the explained value is not positive although a rule in use presumes positive evidence.
    table
        The rule at every operation that relevance crossed (empty for methods other than lrp).
    notes
        What a reader of the map should know, such as that a closing softmax was stepped over.
    account
        ``closed``, ``none``, or ``approximate`` if products were computed in a shorter type.
    target_output
        The network's output, as it returned it, weighted by the target (N,); None for classifiers.
    preset
        For lrp the preset that ran, ``custom`` for a list: of ``rules: auto`` the one that it chose.
    layers
        Relevance at the outputs of the layers asked for, by module path.
    """

    relevance: Tensor | tuple[Tensor, ...]
    prediction: Tensor
    confidence: Tensor | None
    target_value: Tensor
    bias: Tensor | None
    stabiliser: Tensor | None
    lost: Tensor | None
    nonpositive_target: Tensor
    table: tuple[RuleRow, ...] = ()
    notes: tuple[str, ...] = ()
    account: str = "closed"
    target_output: Tensor | None = None
    preset: str = ""
    layers: dict[str, Tensor] = field(default_factory=dict)


def first_samples(part: Attribution, taken: int, several: bool) -> Attribution:
    """The first ``taken`` samples of a batch that was padded."""

    def cut(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(cut(name, v) for v in value) if name == "relevance" else value
        if isinstance(value, dict):
            return {key: cut(name, v) for key, v in value.items()}
        if not isinstance(value, Tensor):
            return value
        return value[:, :taken] if several and name not in ("prediction", "confidence") else value[:taken]

    return replace(part, **{f.name: cut(f.name, getattr(part, f.name)) for f in fields(part)})


def joined(parts: list[Attribution], several: bool) -> Attribution:
    """Consecutive batches joined; ``several``: with a leading target axis."""
    if len(parts) == 1:
        return parts[0]

    def join(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        axis = 1 if several and name not in ("prediction", "confidence") else 0
        if name == "relevance":
            return tuple(torch.cat(pieces, axis) for pieces in zip(*values))
        if name == "layers":
            return {path: torch.cat([piece[path] for piece in values], axis) for path in values[0]}
        if name == "notes":
            return tuple(dict.fromkeys(note for notes in values for note in notes))
        return torch.cat(values, axis) if isinstance(values[0], Tensor) else values[0]

    return Attribution(**{f.name: join(f.name) for f in fields(Attribution)})


def unaccounted(whole: Attribution) -> Tensor:
    """How far each account is from closing: ``target_value`` minus everything it should be the sum of, as a
    part of the larger of ``|target_value|`` and the sum of ``|relevance|``. Float64, shaped like ``target_value``.
    """
    assert whole.bias is not None
    assert whole.stabiliser is not None
    assert whole.lost is not None
    rest = whole.target_value - whole.bias - whole.stabiliser - whole.lost
    size = torch.zeros_like(rest)
    for relevance in whole.relevance if isinstance(whole.relevance, tuple) else (whole.relevance,):
        axes = tuple(range(rest.ndim, relevance.ndim))
        rest = rest - relevance.sum(axes, dtype=torch.float64)
        size += relevance.abs().sum(axes, dtype=torch.float64)
    return rest.abs() / torch.maximum(size, whole.target_value.abs()).clamp(min=torch.finfo(size.dtype).tiny)


def approximate(whole: Attribution, precision: str) -> Attribution:
    """The attribution with a note of how far its account is from closing."""
    off = float(unaccounted(whole).max())
    note = f"precision: convolutions of the rules in {precision}; the account is off by up to {off:.1e}"
    return replace(whole, account="approximate", notes=(*whole.notes, note))
