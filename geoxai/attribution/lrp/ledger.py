"""The account: the part of the explained value that does not reach the input, summed per sample in float64.

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


def _sum(values: Tensor, axes: list[int]) -> Tensor:
    """Float64 sums over ``axes``, kept as axes of size 1. All but the first are summed in the values' own precision
    (pairwise, as torch does), which saves a copy.
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.to(torch.float32)
    if len(axes) > 1:
        values = values.sum(dim=axes[1:], keepdim=True)
    return values.sum(dim=axes[:1], keepdim=True, dtype=torch.float64) if axes else values.to(torch.float64)


def per_sample(values: Tensor, sample: Tensor, samples: int) -> Tensor:
    """Float64 sums (samples + 1,) of ``values`` in each sample; the last one is of values of no sample. ``sample``
    broadcasts to ``values``.
    """
    axes = [axis for axis in range(values.ndim) if sample.shape[axis] == 1]
    values = _sum(values, axes)
    places = sample.expand(values.shape).reshape(-1).remainder(samples + 1)
    sums = torch.zeros(samples + 1, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, places, values.reshape(-1))


class Ledger:
    """Sums of ``bias``, ``stabiliser`` and ``lost`` relevance, each (N,) float64."""

    def __init__(self, samples: int, device: torch.device):
        self.samples = samples
        # one place more, for values of no sample
        self.sums = {term: torch.zeros(samples + 1, dtype=torch.float64, device=device) for term in TERMS}

    @property
    def bias(self) -> Tensor:
        """What stayed with biases and constants."""
        return self.sums["bias"][:-1]

    @property
    def stabiliser(self) -> Tensor:
        """What stabilisers took."""
        return self.sums["stabiliser"][:-1]

    @property
    def lost(self) -> Tensor:
        """Relevance without a receiver."""
        return self.sums["lost"][:-1]

    def add(self, term: str, values: Tensor, sample: Tensor) -> None:
        """Add what ``values`` (of an operation's output shape) sum to in each sample; ``sample`` broadcasts to them."""
        self.sums[term] += per_sample(values, sample, self.samples)

    def add_product(self, term: str, values: Tensor, constant: Tensor, sample: Tensor) -> None:
        """Add ``values * constant``, summing ``values`` first over the axes along which ``constant`` does not vary."""
        constant = constant.to(torch.float64)
        axes = [
            axis
            for axis in range(values.ndim)
            if sample.shape[axis] == 1
            and (axis < values.ndim - constant.ndim or constant.shape[axis - values.ndim] == 1)
        ]
        values = _sum(values, axes)
        self.add(term, values * constant, sample)

    def close(self) -> None:
        """Raise GeoxaiError if relevance reached values that belong to no sample."""
        if any(bool(sums[-1] != 0) for sums in self.sums.values()):
            raise GeoxaiError(
                "relevance reached values that belong to no sample; the account of this network cannot be kept"
            )
