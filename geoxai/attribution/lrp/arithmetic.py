"""The rules' arithmetic: relevance of a linear map's output to relevance of its input.

Notation: input ``a``, ``z`` the map's output with bias ``b``, ``R`` the relevance of the output, ``s = R /
denominator``. A rule is a few linear maps of its own, so for fixed ``a`` everything is linear in ``R``. What stays
with the bias or the stabiliser, and what has no denominator, goes to the ledger. Formulas: Bach et al. 2015; Montavon
et al. 2017, 2019; Andeol et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.maps import LinearMap, elements, per_channel
from geoxai.attribution.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Pass, Rule, WSquare, ZBox, Zero, ZPlus
from geoxai.errors import OptionError


@dataclass
class Crossing:
    """One linear map crossed by one forward pass, with what the rules ask of it, each computed once."""

    map: LinearMap
    a: Tensor
    z: Tensor
    sample: Tensor  # of the output, see ``ledger``
    nonnegative: bool = False  # known so without looking
    channels: int = 0  # of the network's input, for bounds per channel
    channel_axis: int = 1
    kept: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def is_nonnegative(self) -> bool:
        """Whether no input is negative, which halves the work of rules that tell signs apart."""
        return self.nonnegative or bool((self.a >= 0).all())

    @cached_property
    def signed_parts(self) -> tuple[Tensor, Tensor]:
        """Positive and negative part of the input."""
        return self.a.clamp(min=0), self.a.clamp(max=0)

    def sum_of(self, sign: str) -> Tensor:
        """Sum of the contributions of one sign (``positive`` or ``negative``), per output."""
        if sign not in self.kept:
            other = "negative" if sign == "positive" else "positive"
            if self.is_nonnegative:
                part = self.map.apply(self.a, sign) if self._has(sign) else torch.zeros_like(self.z)
            else:
                plus, minus = self.signed_parts
                part = self.map.apply(plus if self._has(sign) else minus, sign if self._has(sign) else "positive")
                if self._has(sign) and self._has(other):
                    part = part + self.map.apply(minus, other)
            self.kept[sign] = part
        return self.kept[sign]

    def share_of(self, sign: str, s: Tensor) -> Tensor:
        """``sum_j z_ij s_j`` over contributions of one sign, per input."""
        other = "negative" if sign == "positive" else "positive"
        if self.is_nonnegative:
            return self.a * self.map.transpose(s, sign) if self._has(sign) else torch.zeros_like(self.a)
        if not self._has("negative"):
            plus, minus = self.signed_parts
            return (plus if sign == "positive" else minus) * self.map.transpose(s, "positive")
        return self.a * torch.where(self.a >= 0, self.map.transpose(s, sign), self.map.transpose(s, other))

    def _has(self, sign: str) -> bool:
        return sign == "positive" or self.map.signed

    @cached_property
    def connected(self) -> Tensor:
        """Number of inputs connected to each output (weights summed, for averages)."""
        return self.map.apply(torch.ones_like(self.a[:1] if self._alike else self.a), "ones")

    @cached_property
    def _alike(self) -> bool:
        """Whether all samples see the same weights and the sample axis leads, so that one stands for all."""
        return self.a.ndim > 1 and self.sample.ndim == self.z.ndim == self.a.ndim and self.sample.numel() == len(self.z)


def propagate(rule: Rule, crossing: Crossing, relevance: Tensor, ledger: Ledger) -> Tensor:
    """Relevance of the input, shaped like ``crossing.a``; the rest is entered in ``ledger``."""
    if isinstance(rule, Zero):
        return _epsilon(crossing, relevance, 0.0, rule.bias, ledger)
    if isinstance(rule, Epsilon):
        return _epsilon(crossing, relevance, rule.eps, rule.bias, ledger)
    if isinstance(rule, Gamma):
        return _gamma(crossing, relevance, rule.gamma, rule.bias, ledger)
    if isinstance(rule, AlphaBeta):
        return _alpha_beta(crossing, relevance, rule.alpha, rule.beta, rule.bias, ledger)
    if isinstance(rule, ZPlus):
        return _alpha_beta(crossing, relevance, 1.0, 0.0, rule.bias, ledger)
    if isinstance(rule, Flat):
        return crossing.map.transpose(_divide(crossing, relevance, crossing.connected, ledger), "ones")
    if isinstance(rule, WSquare):
        ones = torch.ones_like(crossing.a[:1] if crossing._alike else crossing.a)
        s = _divide(crossing, relevance, crossing.map.apply(ones, "square"), ledger)
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


def _divide(crossing: Crossing, relevance: Tensor, denominator: Tensor, ledger: Ledger) -> Tensor:
    """``R / denominator``, 0 where the denominator is 0; the relevance there is lost."""
    s = relevance / denominator
    if bool(torch.isfinite(s.sum())):  # one pass finds 0/0 and overflow alike
        return s
    tiny = torch.finfo(denominator.dtype).tiny * 1e8  # below it the quotient overflows
    none = (denominator.abs() <= tiny).expand_as(relevance)
    ledger.add("lost", relevance * none, crossing.sample)
    return s.masked_fill_(none, 0)


def _absorb(crossing: Crossing, terms: dict[str, Tensor | None], bias: str, ledger: Ledger) -> Tensor | None:
    """Enter what bias and stabiliser took, or, with ``distribute``, give it back to the inputs in equal parts."""
    present = {name: values for name, values in terms.items() if values is not None}
    if bias != "distribute":
        for name, values in present.items():
            ledger.add(name, values, crossing.sample)
        return None
    if not present:
        return None
    total = torch.stack([values.expand_as(crossing.z) for values in present.values()]).sum(0)
    return crossing.map.transpose(_divide(crossing, total, crossing.connected, ledger), "ones")


def _epsilon(crossing: Crossing, relevance: Tensor, eps: float, bias: str, ledger: Ledger) -> Tensor:
    b = crossing.map.bias
    z, b = (crossing.z - b, None) if b is not None and bias == "ignore" else (crossing.z, b)
    if eps == 0:
        stabiliser, s = None, _divide(crossing, relevance, z, ledger)
    else:  # the denominator is never 0
        stabiliser = torch.copysign(z.new_tensor(eps), z)  # a z of -0.0 has no contributions, its sign does not matter
        s = z + stabiliser
        torch.div(relevance, s, out=s)
        stabiliser.mul_(s)
    taken = None if b is None or bias != "distribute" else s * b
    if bias == "absorb" and b is not None:
        ledger.add_product("bias", s, b, crossing.sample)
    back = crossing.map.transpose(s) * crossing.a
    extra = _absorb(crossing, {"bias": taken, "stabiliser": stabiliser}, bias, ledger)
    return back if extra is None else back + extra


def _gamma(crossing: Crossing, relevance: Tensor, gamma: float, bias: str, ledger: Ledger) -> Tensor:
    b = crossing.map.bias
    z, b = (crossing.z - b, None) if b is not None and bias == "ignore" else (crossing.z, b)
    positive, negative = z > 0, z < 0
    sums = crossing.sum_of("positive")
    plus_bias = 0 if b is None else b.clamp(min=0)
    minus_bias = 0 if b is None else b.clamp(max=0)
    # N = (sum of all) - P does not cancel where it is used: there z < 0, so |N| > P or the bias is < 0.
    without_bias = z if b is None else z - b
    favoured = torch.where(positive, sums + plus_bias, without_bias - sums + minus_bias)
    denominator = torch.where(z == 0, 0, z + gamma * favoured)
    s = _divide(crossing, relevance, denominator, ledger)
    up, down = s * positive, s * negative
    back = crossing.a * crossing.map.transpose(s) + gamma * crossing.share_of("positive", up)
    if bool(down.any()):  # below a ReLU there is no relevance where z < 0
        back = back + gamma * crossing.share_of("negative", down)
    if b is not None:
        taken = s * b + gamma * (up * plus_bias + down * minus_bias)
        extra = _absorb(crossing, {"bias": taken}, bias, ledger)
        back = back if extra is None else back + extra
    return back


def _alpha_beta(crossing: Crossing, relevance: Tensor, alpha: float, beta: float, bias: str, ledger: Ledger) -> Tensor:
    back, taken = None, None
    for sign, weight in (("positive", alpha), ("negative", -beta)):
        if weight == 0:
            continue
        b = None
        if crossing.map.bias is not None and bias != "ignore":
            b = crossing.map.bias.clamp(min=0) if sign == "positive" else crossing.map.bias.clamp(max=0)
        sums = crossing.sum_of(sign)
        s = _divide(crossing, relevance if weight == 1 else relevance * weight, sums if b is None else sums + b, ledger)
        share = crossing.share_of(sign, s)
        back = share if back is None else back + share
        if b is None:
            continue
        if bias == "distribute":
            taken = s * b if taken is None else taken + s * b
        else:
            ledger.add_product("bias", s, b, crossing.sample)
    extra = None if taken is None else _absorb(crossing, {"bias": taken}, bias, ledger)
    assert back is not None  # alpha is at least 1
    return back if extra is None else back + extra


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
    s = _divide(
        crossing, relevance, crossing.map.apply(above, "positive") + crossing.map.apply(below, "negative"), ledger
    )
    return above * crossing.map.transpose(s, "positive") + below * crossing.map.transpose(s, "negative")
