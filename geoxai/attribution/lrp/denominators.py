"""Denominators that are mere rounding: the relevance of such neurons is lost, and entered as lost.

A neuron's relevance is shared out by its terms ``t_i`` (its contributions and its bias) over a denominator: their sum
(zero, epsilon), or the sum of those of one sign (alpha_beta, z_plus). Computed in a precision ``u`` (2.2e-16 in double,
1.2e-7 in single), a sum that is smaller than a few ``u`` times ``sum |t_i|`` has no correct digit, and shares by it
could be arbitrarily large and wrong. So wherever ::

    |denominator| <= 8 u sum_i |t_i|    or    |denominator| <= (smallest normal number) / u

the relevance of the neuron counts as lost. Sums by sign are compared at no cost: with P and N the sums of the positive
and of the negative terms and z = P + N, ``sum |t_i| = 2 P - z = z - 2 N``. For plain sums a bound is enough almost
everywhere, ``sum |t_i| <= ||a|| ||w_j|| + |b_j|``; the few outputs below it are examined one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from geoxai.attribution.lrp.arithmetic import Crossing
    from geoxai.attribution.lrp.ledger import Ledger


def share_of_rounding(dtype: torch.dtype) -> float:
    """The share of the sum of |terms| up to which a denominator is rounding."""
    return 8 * torch.finfo(dtype).eps


def smallest(dtype: torch.dtype) -> float:
    """The size up to which a denominator is 0 for the rules: quotients by it would overflow."""
    return torch.finfo(dtype).tiny / torch.finfo(dtype).eps


def only_where_positive(values: Tensor, condition: Tensor, above: float = 0.0) -> Tensor:
    """``values`` where ``condition`` > ``above``, else 0; many times faster than with masks."""
    return torch.ops.aten.threshold_backward(values, condition, above)


def holds(values: Tensor) -> bool:
    """Whether any of ``values``, which are overwritten, differs from 0; faster than comparing."""
    return bool(values.abs_().amax() > 0)


def divide(
    relevance: Tensor, denominator: Tensor, sample: Tensor, ledger: Ledger, positive: bool = False,
    limit: float = 0.0, margin: Callable[[], Tensor | None] | None = None,
) -> Tensor:  # fmt: skip
    """``R / denominator``, 0 where the denominator is; the relevance there is lost. R is overwritten.

    ``positive``: no denominator is negative where it matters, and they may be overwritten, too. Where some are no
    larger than ``limit``, ``margin`` gives what is above rounding, None for all.
    """
    size = denominator if positive else denominator.abs()
    least = smallest(size.dtype)
    lowest = float(size.amin())
    if lowest > least and lowest > limit:
        return relevance.div_(denominator)
    above = None if margin is None else margin()
    if above is None and lowest > least:
        return relevance.div_(denominator)
    there = only_where_positive(relevance, size, least)
    if above is not None:
        there = only_where_positive(there, above)
    ledger.add("lost", relevance.sub_(there), sample)
    size.clamp_(min=least)
    return there.div_(size if positive else size.copysign_(denominator))


def margin_of_sign(sums: Tensor, z: Tensor, sign: str) -> Tensor:
    """What is left of the sums of one sign, as sizes, above their share of rounding: <= 0 where they are none."""
    share = share_of_rounding(sums.dtype)
    if sign == "positive":
        return z.clamp(max=0).mul_(share).add_(sums)
    return z.clamp(min=0).mul_(-share).sub_(sums)


def limit_of(crossing: Crossing, bias: Tensor | None) -> float:
    """A size up to which denominators may be rounding; infinite if the map has no bound on its terms."""
    reach = crossing.map.reach()
    if reach is None:
        return torch.inf
    norm = crossing.norm if crossing.norm is not None else float(torch.linalg.vector_norm(crossing.a))
    bound = norm * reach + (0.0 if bias is None or not bias.numel() else float(bias.abs().amax()))
    return share_of_rounding(crossing.z.dtype) * bound


def large_enough(crossing: Crossing, relevance: Tensor) -> bool:
    """Whether all relevance arrives where ``z``, as a ReLU left it, is above any rounding."""
    limit = limit_of(crossing, crossing.map.bias)
    return limit < torch.inf and not holds(only_where_positive(relevance, crossing.z, limit).sub_(relevance))


def without_rounding(
    crossing: Crossing, relevance: Tensor, denominator: Tensor, bias: Tensor | None, ledger: Ledger
) -> Tensor:
    """Relevance without that of outputs whose plain sum is rounding, which is entered as lost. May be overwritten."""
    if not crossing.map.signed and bias is None and crossing.is_nonnegative:
        return relevance
    limit, share = limit_of(crossing, bias), share_of_rounding(denominator.dtype)
    size = denominator.abs()
    if limit == torch.inf:
        terms = crossing.map.apply(crossing.a.abs(), "absolute")
        terms = terms if bias is None else terms + bias.abs()
        places = _where(only_where_positive(relevance, size - share * terms).sub_(relevance))
    else:
        places = _where(only_where_positive(relevance, size, limit).sub_(relevance))
    if places is None:
        return relevance
    if limit == torch.inf:
        terms = terms.expand(size.shape)[places]
    else:
        terms = crossing.map.magnitudes(crossing.a, places)
        terms = terms if bias is None else terms + bias.expand(size.shape)[places].abs()
    # where all terms are 0 there is no rounding: that is the rule's business
    rounding = tuple(axis[size[places] < share * terms] for axis in places)
    if len(rounding[0]):
        lost = torch.zeros_like(relevance)
        lost[rounding] = relevance[rounding]
        ledger.add("lost", lost, crossing.sample)
        relevance[rounding] = 0
    return relevance


def _where(values: Tensor) -> tuple[Tensor, ...] | None:
    """The places of ``values``, which are overwritten, that differ from 0; None if there are none. They are few."""
    order = sorted(range(values.ndim), key=values.stride, reverse=True)  # along memory, whatever the layout
    along = values.abs_().permute(order)
    rows = along.amax(-1)
    if not bool(rows.amax() > 0):
        return None
    of_row = rows.nonzero(as_tuple=True)
    row, last = along[of_row].nonzero(as_tuple=True)
    found = (*(axis[row] for axis in of_row), last)
    return tuple(found[order.index(axis)] for axis in range(values.ndim))
