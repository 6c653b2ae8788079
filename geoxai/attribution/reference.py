"""Explaining an output relative to a reference: why 45 dBZ rather than 20?

What is explained is ``f - f_ref``. The reference enters as a bias of the last weighted map, whose output becomes
``z - f_ref`` (Letzgus et al. 2022 restructure the top of the network in the same way); below it all rules are as usual.

What is conserved: ``f - f_ref = sum(relevance) + bias + stabiliser + lost``, exactly as without a reference. What is
not: the sum of the map alone equals ``f - f_ref`` only if no bias keeps relevance (``bias: ignore`` or
``distribute``). With LRP-0 and epsilon and an absorbed bias, contributions do not depend on the reference:
the map is that of ``f``, and the reference is part of ``bias``. Rules for positive evidence (alpha1_beta0) share
``f - f_ref`` among the positive contributions, and keep the part that the bias has above the reference. A reference
input only gives the number ``f_ref``: relevance is not a decomposition of differences of inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoxai.attribution import gradients
from geoxai.attribution.reading import PLAIN, Reading
from geoxai.errors import InputError, OptionError

FORMS = "a number, an array of one number per sample, or {input: one sample's input}"


@dataclass(frozen=True)
class Reference:
    """``values`` (N,) of all samples, or the ``output`` (1 or N, ...) for inputs to compare with."""

    values: Tensor | None = None
    output: Tensor | None = None

    def value(self, coefficients: Tensor, rows: slice) -> Tensor:
        """The reference (N,) float64 of a target with these coefficients, for the samples ``rows``."""
        samples = len(coefficients)
        if self.output is not None:
            output = self.output if len(self.output) == 1 else _rows(self.output, rows, samples)
            return (coefficients.to(torch.float64) * output.to(torch.float64)).reshape(samples, -1).sum(1)
        assert self.values is not None
        return _rows(self.values, rows, samples).to(coefficients.device)


def reference_of(
    reference: Any, model: Callable, inputs: tuple[Tensor, ...], start: str, reading: Reading = PLAIN
) -> Reference | None:
    """The reference that a caller gives.

    Raises OptionError if it has none of ``FORMS``, InputError if a reference input does not fit.
    """
    if reference is None:
        return None
    if isinstance(reference, Mapping):
        (form, given), *more = reference.items() or [(None, None)]
        if more or form not in ("value", "input"):
            raise OptionError(f"reference must be {FORMS}, found {reference!r}", option="reference")
        return _of_input(given, model, inputs, start, reading) if form == "input" else _of_values(given, len(inputs[0]))
    return _of_values(reference, len(inputs[0]))


def _of_values(given: Any, samples: int) -> Reference:
    try:
        values = torch.as_tensor(np.asarray(given), dtype=torch.float64)
    except (TypeError, ValueError):
        raise OptionError(f"reference must be {FORMS}, found {given!r}", option="reference") from None
    if values.ndim > 1 or (values.ndim == 1 and len(values) != samples):
        raise OptionError(
            f"reference of shape {tuple(values.shape)} is not one number for each of {samples} samples",
            option="reference",
        )
    if not bool(torch.isfinite(values).all()):
        raise OptionError("the reference holds NaN or infinite values", option="reference")
    return Reference(values=values.expand(samples))


def _of_input(given: Any, model: Callable, inputs: tuple[Tensor, ...], start: str, reading: Reading) -> Reference:
    pieces = given if isinstance(given, tuple) else (given,)
    found = []
    for piece, like in zip(pieces, inputs):
        tensor = torch.as_tensor(piece).to(like)
        tensor = tensor[None] if tensor.shape == like.shape[1:] else tensor
        if tensor.shape[1:] != like.shape[1:] or len(tensor) not in (1, len(like)):
            raise InputError(
                f"the reference input has shape {tuple(tensor.shape)}, expected {tuple(like.shape[1:])} or one for"
                f" each of {len(like)} samples"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError("the reference input holds NaN or infinite values", fix="fill them as the samples' are")
        found.append(tensor)
    if len(found) != len(inputs):
        raise InputError(f"the reference has {len(found)} inputs, but the network takes {len(inputs)}")
    _, output = gradients.forward(model, tuple(found), start, reading)
    return Reference(output=output.values.detach())


def _rows(values: Tensor, rows: slice, samples: int) -> Tensor:
    """The rows of one batch, the last one repeated if the batch was padded."""
    taken = values[rows]
    return torch.cat([taken, taken[-1:].expand(samples - len(taken), *taken.shape[1:])])
