"""The account: what of the explained value does not end in the input, summed op by op, per sample, in float64.

``target_value = sum(relevance) + bias + stabiliser + lost``. Each term is summed where it arises, never taken as the
remainder, so the equation is a measurement of the whole computation.

Which sample an element belongs to is carried along as an integer tensor that broadcasts to the values: shape (N, 1, 1,
1) for a plain batch, whatever permutes and reshapes make of it later; -1 marks values of no sample, such as the zeros
of a buffer that the network has not written yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geoxai.errors import GeoxaiError

TERMS = ("bias", "stabiliser", "lost")


def sum_per_sample(values: Tensor, sample: Tensor, samples: int) -> Tensor:
    """Float64 sums (samples,) of ``values`` over the elements of each sample; ``sample`` broadcasts to ``values``."""
    axes = [axis for axis in range(values.ndim) if sample.shape[axis] == 1]
    values = _sum(values, axes)
    ids = sample.expand(values.shape).reshape(-1)
    total = torch.zeros(samples + 1, dtype=torch.float64, device=values.device)
    total.index_add_(0, torch.where(ids < 0, samples, ids), values.reshape(-1).to(torch.float64))
    if total[samples] != 0:
        raise GeoxaiError(
            "relevance reached values that belong to no sample; the account of this network cannot be kept"
        )
    return total[:samples]


def _sum(values: Tensor, axes: list[int]) -> Tensor:
    """Float64 sums over ``axes``, kept as axes of size 1. What lies together in memory is summed in its own precision,
    which saves a copy.
    """
    nearest = min(range(values.ndim), key=lambda axis: (values.stride(axis), -axis), default=0)
    if nearest in axes and values.ndim > 2:
        values = values.sum(dim=nearest, keepdim=True)
    return values.sum(dim=axes, keepdim=True, dtype=torch.float64) if axes else values.to(torch.float64)


def _sum_over_channels(values: Tensor, constant: Tensor) -> Tensor | None:
    """``values * constant`` summed over axis 1, for a constant that varies along that axis only; else None."""
    flat = constant.reshape(-1)
    if values.ndim < 3 or constant.ndim < values.ndim - 1 or flat.numel() != values.shape[1]:
        return None
    if constant.shape[1 - values.ndim] != flat.numel() or flat.dtype != values.dtype:
        return None
    return torch.matmul(values.movedim(1, -1), flat).unsqueeze(1)


class Ledger:
    """Sums of ``bias``, ``stabiliser`` and ``lost`` relevance, each (N,) float64."""

    def __init__(self, samples: int, device: torch.device):
        self.samples = samples
        self.bias = torch.zeros(samples, dtype=torch.float64, device=device)
        self.stabiliser = torch.zeros_like(self.bias)
        self.lost = torch.zeros_like(self.bias)

    def add(self, term: str, values: Tensor, sample: Tensor) -> None:
        """Add what ``values`` (of an operation's output shape) sum to in each sample."""
        getattr(self, term).add_(sum_per_sample(values, sample, self.samples))

    def add_product(self, term: str, values: Tensor, constant: Tensor, sample: Tensor) -> None:
        """Add ``values * constant``, summing ``values`` first over the axes along which ``constant`` does not vary."""
        over_channels = _sum_over_channels(values, constant) if sample.shape[1:].numel() == 1 else None
        if over_channels is not None:
            self.add(term, over_channels, sample)
            return
        constant = constant.to(torch.float64)
        axes = [
            axis
            for axis in range(values.ndim)
            if sample.shape[axis] == 1
            and (axis < values.ndim - constant.ndim or constant.shape[axis - values.ndim] == 1)
        ]
        values = _sum(values, axes)
        self.add(term, values * constant, sample)
