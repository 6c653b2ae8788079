"""Trainings that diverge: a loss that is not finite or grows without bound stops them, saying what to look at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geoxai.errors import GeoxaiError

GROWN = 1e4
"""A training loss this many times that of the first epoch counts as growing without bound."""

# Scaled inputs are of order one; beyond this they hold something other than weather.
_EXTREME = 100.0


def refuse_divergence(epoch: int, losses: dict[str, float], first: float, inputs: Tensor, targets: Tensor) -> None:
    """Stop a training that diverges.

    Parameters
    ----------
    epoch
        The epoch just done, from 1.
    losses
        ``training`` and, if there is one, ``validation``: means over the epoch.
    first
        The training loss of the first epoch.
    inputs, targets
        The training samples, whose range the message gives.

    Raises ``GeoxaiError`` naming the epoch, the losses and the extremes of the data.
    """
    wrong = next((name for name, loss in losses.items() if not math.isfinite(loss)), None)
    if wrong is not None:
        what = f"the {wrong} loss of epoch {epoch} is {'infinite' if math.isinf(losses[wrong]) else 'not a number'}"
    elif losses["training"] > GROWN * first > 0:
        what = f"the training loss grew from {first:.3g} in epoch 1 to {losses['training']:.3g} in epoch {epoch}"
    else:
        return
    extremes = f"inputs run from {_range(inputs)}"
    if targets.is_floating_point():
        extremes += f", targets from {_range(targets)}"
    finite = inputs[torch.isfinite(inputs)]
    data = "the inputs are far outside the usual range: look for fill values (missing: [...]) and check the scaling"
    step = "a smaller learning_rate, or a smaller l2 (learning_rate * 2 * l2 must stay well below 1), or scaled inputs"
    extreme = finite.numel() < inputs.numel() or bool((finite.abs() > _EXTREME).any())
    raise GeoxaiError(f"training diverged: {what}; {extremes}", fix=f"{data}; or {step}" if extreme else step)


def _range(values: Tensor) -> str:
    finite = values[torch.isfinite(values)]
    if not finite.numel():
        return "nothing finite"
    return f"{float(finite.min()):.4g} to {float(finite.max()):.4g}"
