"""The rules' arithmetic: from relevance of a linear map's output to relevance of its input.

Notation: input ``a``, ``z`` the map's output with bias ``b``, ``R`` the relevance of the output, ``s = R /
denominator``. A rule is a few linear maps of its own, so for fixed ``a`` everything is linear in ``R``. What stays
with the bias or the stabiliser, and what has no denominator, goes to the ledger. Formulas: Bach et al. 2015; Montavon
et al. 2017, 2019; Andeol et al. 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from geoxai.attribution.lrp.convolution import Convolution
from geoxai.attribution.lrp.denominators import (
    divide,
    holds,
    large_enough,
    limit_of,
    margin_of_sign,
    only_where_positive,
    without_rounding,
)
from geoxai.attribution.lrp.dense import Dense
from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.maps import Fixed, LinearMap, elements, own_memory, per_channel, room_like
from geoxai.attribution.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Pass, Rule, WSquare, ZBox, Zero, ZPlus
from geoxai.attribution.lrp.weights import Signs, favoured, opposite
from geoxai.errors import OptionError

BLOCK = 2**18  # elements of a block of samples, per thread: a few of them fit a processor's cache
CANCELS = 2**-5  # a sum by sign below this share of the sum of magnitudes is not computed as a difference


@dataclass
class Crossing:
    """One linear map crossed by one forward pass, with what the rules need of it."""

    map: LinearMap
    a: Tensor
    z: Tensor
    sample: Tensor  # of the output, see ``ledger``
    nonnegative: bool = False  # known without looking at the values
    channels: int = 0  # of the network's input, for bounds per channel
    channel_axis: int = 1
    rectified: bool = False  # z is kept as a ReLU left it: 0 means any z <= 0
    room: Tensor | None = None  # where the relevance of ``a`` may be written
    norm: float | None = None  # at least the Euclidean norm of ``a``, if known
    relative: bool = False  # rules that distinguish signs use the sign of the output, see ``_by_sign``

    @cached_property
    def is_nonnegative(self) -> bool:
        """Whether no input is negative, which halves the work of rules that distinguish signs."""
        return self.nonnegative or bool(self.a.amin() >= 0)

    def exact_z(self, relevance: Tensor) -> Tensor:
        """``z``, computed again if it was kept rectified and relevance arrives where the ReLU was shut."""
        if self.rectified and holds(only_where_positive(relevance, self.z).sub_(relevance)):
            self.z = self.map.apply(self.a)
            if self.map.bias is not None:
                self.z = self.z + self.map.bias
            self.rectified = False
        return self.z

    def sums(self, signs: Sequence[str], relevance: Tensor, alone: bool) -> Tensor:
        """Sums of the contributions of each sign (``positive`` or ``negative``), per output, stacked along the map's
        own axis where there are several. The caller may overwrite them. ``relevance`` tells which outputs matter;
        ``alone`` is said by a caller that divides by them as they are, without the bias.
        """
        if not self.map.signed:
            (sign,) = signs
            if not self.is_nonnegative:
                return self.map.apply(self.a.clamp(min=0) if sign == "positive" else self.a.clamp(max=0))
            if sign == "negative":
                return torch.zeros_like(self.z)
            part = self.z if self.map.bias is None else self.map.apply(self.a)
            return part.clone() if self.map.bias is None or part.data_ptr() == self.a.data_ptr() else part
        if not self.is_nonnegative and isinstance(self.map, Dense | Convolution):
            found = self._by_magnitude(signs, relevance, alone)
            if found is not None:
                return found
        return self.map.sums(self.a, [(sign, opposite(sign)) for sign in signs], not self.is_nonnegative)

    def _by_magnitude(self, signs: Sequence[str], relevance: Tensor, alone: bool) -> Tensor | None:
        """Sums by sign as half of what the sum of magnitudes and the plain sum have together, or apart: one map
        instead of two. None where that cancels.
        """
        z = self.exact_z(relevance)
        b = self.map.bias
        # where z > 0, P + b+ is over half of the magnitude
        rectified = self.rectified and list(signs) == ["positive"] and (b is None or not alone)
        if not rectified and not isinstance(self.map, Dense):
            return None
        plain, magnitude = z if b is None else z - b, self.map.apply(self.a.abs(), "absolute")
        sums = [(plain + magnitude if sign == "positive" else plain - magnitude).mul_(0.5) for sign in signs]
        if not rectified:
            enough = CANCELS * (magnitude if b is None else magnitude + b.abs())  # z - b has the rounding of b, too
            if any(bool(((found.abs() < enough) & (relevance != 0)).any()) for found in sums):
                return None
        return _joined(sums, self.map.stacks)

    def shares(self, signs: Sequence[str], s: Tensor, gamma: float | None = None, room: Tensor | None = None) -> Tensor:
        """``sum_j z_ij s_j`` over contributions of one sign, per input, added up over ``signs`` as ``sums`` stacks
        them, in ``room`` if there is some. With ``gamma`` over all contributions, those of that sign ``1 + gamma``
        times.
        """
        if self.map.signed:
            parts: list[Signs] = [(sign, opposite(sign)) for sign in signs]
            if gamma is not None:
                parts = [(favoured(sign, gamma), favoured(opposite(sign), gamma)) for sign in signs]
            return self.map.shares(s, self.a, parts, not self.is_nonnegative, room)
        (sign,) = signs
        of_sign = self.a.clamp(min=0) if sign == "positive" else self.a.clamp(max=0)
        return self.map.share(s, of_sign if gamma is None else self.a.add(of_sign, alpha=gamma), room)

    @cached_property
    def connected(self) -> Tensor:
        """Number of inputs connected to each output (weights summed, for averages)."""
        one = self.alike and not isinstance(self.map, Fixed)  # that may depend on each sample's own positions
        return self.map.apply(torch.ones_like(self.a[:1] if one else self.a), "ones")

    @property
    def alike(self) -> bool:
        """Whether all samples see the same weights and the sample axis leads, so that one stands for all."""
        return self.a.ndim == self.z.ndim > 1 and self.sample.shape == (
            len(self.z),
            *[1] * (self.z.ndim - 1),
        )

    def blocks(self) -> list[Crossing]:
        """The crossing in blocks of samples that fit a processor's cache, or as it is if it cannot be split."""
        size = BLOCK * torch.get_num_threads()
        largest = max(self.a.numel(), self.z.numel())
        if largest <= size or self.a.device.type != "cpu" or not self.alike:
            return [self]
        step = max(size * len(self.z) // largest, self.map.fewest_rows(self.a.shape))
        number = max(1, len(self.z) // step)
        edges = [len(self.z) * i // number for i in range(number + 1)]
        found = []
        for rows in map(slice, edges, edges[1:]):
            linear = self.map.of_rows(rows, self.z.ndim)
            if linear is None:
                return [self]
            a, z, sample = self.a[rows], self.z[rows], self.sample[rows]
            found.append(replace(self, map=linear, a=a, z=z, sample=sample))
        return found


def propagate(rule: Rule, crossing: Crossing, relevance: Tensor, ledger: Ledger) -> Tensor:
    """Relevance of the input, shaped like ``crossing.a``; the rest is entered in ``ledger``. ``relevance`` is
    overwritten.

    Rules that see one sample at a time work block by block, so that their steps need no fresh memory.
    """
    if not crossing.a.numel() or not relevance.numel():
        ledger.add("bias", relevance, crossing.sample)
        return torch.zeros_like(crossing.a)
    cut = isinstance(rule, Zero | Epsilon | Gamma | AlphaBeta | ZPlus) and rule.bias != "distribute"
    blocks = crossing.blocks() if cut else [crossing]
    if len(blocks) == 1:
        return _propagate(rule, crossing, relevance, ledger)
    a = crossing.a
    alike = relevance.shape == a.shape and relevance.stride() == a.stride() and relevance.dtype == a.dtype
    back = relevance if alike and own_memory(relevance) else room_like(a)
    begin = 0
    for block in blocks:
        rows = slice(begin, begin + len(block.z))
        block.room = back[rows]
        part = _propagate(rule, block, relevance[rows], ledger)
        if part is not block.room:
            back[rows] = part
        begin = rows.stop
    return back


def _propagate(rule: Rule, crossing: Crossing, relevance: Tensor, ledger: Ledger) -> Tensor:
    if relevance.stride() != crossing.z.stride():  # steps on tensors of different layouts are slow
        relevance = torch.empty_like(crossing.z).copy_(relevance)
    if isinstance(rule, Zero):
        return _epsilon(crossing, relevance, 0.0, rule.bias, ledger)
    if isinstance(rule, Epsilon):
        return _epsilon(crossing, relevance, rule.eps, rule.bias, ledger)
    if isinstance(rule, Gamma):
        return _gamma(crossing, relevance, rule.gamma, rule.bias, ledger)
    if isinstance(rule, AlphaBeta):
        return _by_sign(crossing, relevance, rule.alpha, rule.beta, rule.bias, ledger)
    if isinstance(rule, ZPlus):
        return _by_sign(crossing, relevance, 1.0, 0.0, rule.bias, ledger)
    if isinstance(rule, Flat):
        return crossing.map.transpose(divide(relevance, crossing.connected, crossing.sample, ledger), "ones")
    if isinstance(rule, WSquare):
        ones = torch.ones_like(crossing.a[:1] if crossing.alike else crossing.a)
        s = divide(relevance, crossing.map.apply(ones, "square"), crossing.sample, ledger)
        return crossing.map.transpose(s, "square")
    if isinstance(rule, ZBox):
        return _z_box(crossing, relevance, rule, ledger)
    if isinstance(rule, Pass) and crossing.a.shape == relevance.shape:
        return relevance
    raise OptionError(
        f"rule {rule.name!r} needs an operation that keeps the shape, found input {tuple(crossing.a.shape)} and output"
        f" {tuple(relevance.shape)}",
        option="rules",
    )


def _absorb(crossing: Crossing, terms: dict[str, Tensor | None], bias: str, ledger: Ledger) -> Tensor | None:
    """Enter what bias and stabiliser took or, with ``distribute``, return it to the inputs in equal parts."""
    present = {name: values for name, values in terms.items() if values is not None}
    if bias != "distribute":
        for name, values in present.items():
            ledger.add(name, values, crossing.sample)
        return None
    if not present:
        return None
    total = torch.stack([values.expand_as(crossing.z) for values in present.values()]).sum(0)
    return crossing.map.transpose(divide(total, crossing.connected, crossing.sample, ledger), "ones")


def _epsilon(crossing: Crossing, relevance: Tensor, eps: float, bias: str, ledger: Ledger) -> Tensor:
    b = crossing.map.bias
    settled = crossing.rectified and (b is None or bias != "ignore") and large_enough(crossing, relevance)
    z = crossing.z if settled else crossing.exact_z(relevance)
    if b is not None and bias == "ignore":
        z, b = z - b, None
    stabiliser = None
    if eps == 0:
        kept = relevance if settled else without_rounding(crossing, relevance, z, b, ledger)
        s = divide(kept, z, crossing.sample, ledger)
    elif crossing.rectified and z is crossing.z:  # where relevance is, z is positive
        stable = z + eps
        s = (relevance if settled else without_rounding(crossing, relevance, stable, b, ledger)).div_(stable)
        stabiliser = s * eps
    else:
        stabiliser = torch.copysign(
            z.new_tensor(eps), z
        )  # a z of -0.0 has no contributions, so its sign does not matter
        stable = z + stabiliser  # never 0
        s = without_rounding(crossing, relevance, stable, b, ledger).div_(stable)
        stabiliser.mul_(s)
    taken = None if b is None or bias != "distribute" else s * b
    if bias == "absorb" and b is not None:
        ledger.add_product("bias", s, b, crossing.sample)
    extra = _absorb(crossing, {"bias": taken, "stabiliser": stabiliser}, bias, ledger)
    back = crossing.map.share(s, crossing.a, crossing.room)
    return back if extra is None else back.add_(extra)


def _gamma(crossing: Crossing, relevance: Tensor, gamma: float, bias: str, ledger: Ledger) -> Tensor:
    b = crossing.map.bias
    z = crossing.exact_z(relevance)
    if b is not None and bias == "ignore":
        z, b = z - b, None
    plus, minus = (0, 0) if b is None else (b.clamp(min=0), b.clamp(max=0))
    denominator = crossing.sums(["positive"], relevance, False)
    # under a ReLU there is no relevance where z < 0
    below = not (crossing.rectified and z is crossing.z) and holds(only_where_positive(relevance, -z))
    if below:
        # N = (sum of all) - P does not cancel where it is used: there z < 0, so |N| > P or the bias is < 0.
        others = z - (0 if b is None else b) - denominator + minus
        denominator.add_(plus)
        denominator = only_where_positive(denominator, z).add_(only_where_positive(others, -z))
    else:
        denominator.add_(plus)
    denominator.mul_(gamma).add_(z).mul_(z.sign().abs_())
    s = divide(relevance, denominator, crossing.sample, ledger)
    parts = {"positive": (s, plus)}
    if below:
        parts = {"positive": (only_where_positive(s, z), plus), "negative": (only_where_positive(s, -z), minus)}
    taken = None
    for of_sign, bias_part in parts.values():
        if b is not None and bias == "distribute":
            taken = of_sign * (b + gamma * bias_part) + (0 if taken is None else taken)
        elif b is not None:
            ledger.add_product("bias", of_sign, b + gamma * bias_part, crossing.sample)
    back, groups = None, _together(crossing, list(parts))
    for together in groups:
        of_signs = _joined([parts[sign][0] for sign in together], crossing.map.stacks)
        share = crossing.shares(together, of_signs, gamma, crossing.room if len(groups) == 1 else None)
        back = share if back is None else back.add_(share)
    extra = None if taken is None else _absorb(crossing, {"bias": taken}, bias, ledger)
    assert back is not None
    return back if extra is None else back.add_(extra)


def _by_sign(crossing: Crossing, relevance: Tensor, alpha: float, beta: float, bias: str, ledger: Ledger) -> Tensor:
    """Alpha-beta: for weighted maps by the sign of contributions, else by their sign relative to the output's.

    With ``s_j = sign(z_j)``, ``sign(0) = +1``, and the parts ``(s_j z_ij)+``, ``(s_j z_ij)-`` that speak for and
    against the output, of a sum, average or norm ::

        R_i = sum_j (alpha (s_j z_ij)+ / sum_i (s_j z_ij)+  -  beta (s_j z_ij)- / sum_i (s_j z_ij)-) R_j,

    the bias in the sums as always. For outputs >= 0 that is alpha-beta of Bach et al. 2015; a negative output, to which
    only its negative terms lead, does not lose everything. With alpha 1 it is generalised gamma (Andeol et al. 2021)
    for gamma to infinity; the denominator is at least half of the sum of |terms|.
    """
    forward, backward = {"positive": alpha, "negative": -beta}, {"negative": alpha, "positive": -beta}
    if not crossing.relative or (not crossing.map.signed and crossing.map.bias is None and crossing.is_nonnegative):
        return _alpha_beta(crossing, relevance, forward, bias, ledger)
    z = crossing.exact_z(relevance)
    if crossing.map.bias is not None and bias == "ignore":
        z = z - crossing.map.bias
    elif crossing.rectified:  # where relevance is, z > 0
        return _alpha_beta(crossing, relevance, forward, bias, ledger, "positive")
    below = only_where_positive(relevance, -z)
    if not bool((below != 0).any()):
        return _alpha_beta(crossing, relevance, forward, bias, ledger, "positive")
    above = relevance.sub_(below)
    apart = replace(crossing, room=None)
    back = _alpha_beta(apart, below, backward, bias, ledger, "negative")
    return _alpha_beta(apart, above, forward, bias, ledger, "positive").add_(back)


def _alpha_beta(
    crossing: Crossing, relevance: Tensor, weights: dict[str, float], bias: str, ledger: Ledger, outputs: str = ""
) -> Tensor:
    """Shares of the contributions of each sign, times ``weights``; ``outputs`` is the sign of all, where it is one."""
    signs = [sign for sign, weight in weights.items() if weight != 0]
    axis = crossing.map.stacks
    back, taken = None, None
    groups = _together(crossing, signs)
    for together in groups:
        sums = crossing.sums(together, relevance, bias == "ignore")
        r = relevance
        if signs != ["positive"] or weights["positive"] != 1:
            r = _joined([relevance * weights[sign] for sign in together], axis)
        b = crossing.map.bias
        if b is not None and bias != "ignore":
            b = b if axis is None else _along(b, crossing.z, axis)
            b = _joined([b.clamp(min=0) if sign == "positive" else b.clamp(max=0) for sign in together], axis)
            sums.add_(b)
        limit, margin = 0.0, None
        if together != [outputs]:  # else these sums are over half of all
            limit = limit_of(crossing, None if bias == "ignore" else crossing.map.bias)
            margin = partial(_margin, crossing, sums, together, relevance, bias)
        s = divide(r, sums, crossing.sample, ledger, together == ["positive"], limit, margin)
        if b is not None and bias == "distribute":
            for of_sign in (s * b).chunk(len(together), axis or 0):
                taken = of_sign if taken is None else taken + of_sign
        elif b is not None and bias == "absorb":
            ledger.add_product("bias", s, b, crossing.sample)
        share = crossing.shares(together, s, None, crossing.room if len(groups) == 1 else None)
        back = share if back is None else back.add_(share)
    extra = None if taken is None else _absorb(crossing, {"bias": taken}, bias, ledger)
    assert back is not None  # alpha is at least 1
    return back if extra is None else back.add_(extra)


def _margin(crossing: Crossing, sums: Tensor, signs: list[str], relevance: Tensor, bias: str) -> Tensor | None:
    """Sizes of sums by sign above rounding, stacked as they are; None if none can be below."""
    if not crossing.map.signed and crossing.is_nonnegative and crossing.map.bias is None:
        return None
    z, b = crossing.exact_z(relevance), crossing.map.bias
    if signs == ["positive"] and crossing.rectified and (b is None or bias != "ignore"):
        return None  # where relevance is, z > 0: these sums are over half of all
    if b is not None and bias == "ignore":
        z = z - b
    parts = sums.chunk(len(signs), crossing.map.stacks or 0)
    return _joined([margin_of_sign(*each) for each in zip(parts, [z] * len(signs), signs)], crossing.map.stacks)


def _together(crossing: Crossing, signs: list[str]) -> list[list[str]]:
    """The signs that the map can take at once."""
    return [signs] if crossing.map.stacks is not None and crossing.map.signed else [[sign] for sign in signs]


def _joined(tensors: list[Tensor], axis: int | None) -> Tensor:
    return tensors[0] if len(tensors) == 1 or axis is None else torch.cat(tensors, axis)


def _along(bias: Tensor, z: Tensor, axis: int) -> Tensor:
    """A bias with one value for each output along ``axis`` of ``z``."""
    whole = bias.reshape((1,) * (z.ndim - bias.ndim) + bias.shape)
    return whole.expand([z.shape[a] if a == z.ndim + axis else n for a, n in enumerate(whole.shape)])


def _z_box(crossing: Crossing, relevance: Tensor, rule: ZBox, ledger: Ledger) -> Tensor:
    a = crossing.a
    assert rule.low is not None
    assert rule.high is not None
    low = per_channel(rule.low, a, crossing.channels, crossing.channel_axis)
    high = per_channel(rule.high, a, crossing.channels, crossing.channel_axis)
    outside = int(((a < low) | (a > high)).sum())
    if outside:
        raise OptionError(
            f"z_box: {outside} of {elements(a.shape)} inputs lie outside [{rule.low}, {rule.high}]; they range from"
            f" {float(a.min()):.6g} to {float(a.max()):.6g}",
            fix="give bounds that hold for all inputs, after scaling",
            option="low" if bool((a < low).any()) else "high",
        )
    above, below = a - low, a - high  # all contributions of both maps are >= 0
    sums = crossing.map.apply(above, "positive") + crossing.map.apply(below, "negative")
    s = divide(relevance, sums, crossing.sample, ledger)
    return above * crossing.map.transpose(s, "positive") + below * crossing.map.transpose(s, "negative")
