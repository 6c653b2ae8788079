"""The rules' arithmetic: relevance of a linear map's output to relevance of its input.

Notation: input ``a``, ``z`` the map's output with bias ``b``, ``R`` the relevance of the output, ``s = R /
denominator``. A rule is a few linear maps of its own, so for fixed ``a`` everything is linear in ``R``. What stays
with the bias or the stabiliser, and what has no denominator, goes to the ledger. Formulas: Bach et al. 2015; Montavon
et al. 2017, 2019; Andeol et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.maps import LinearMap, blocks, elements, favoured, per_channel
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
    rectified: bool = False  # z is kept as a ReLU left it: 0 stands for any z <= 0

    @cached_property
    def is_nonnegative(self) -> bool:
        """Whether no input is negative, which halves the work of rules that tell signs apart."""
        return self.nonnegative or bool(self.a.amin() >= 0)

    def exact_z(self, relevance: Tensor) -> Tensor:
        """``z``, computed again if it was kept rectified and relevance arrives where the ReLU was shut."""
        if self.rectified and any(_meet(zeros(self.z[rows]), relevance[rows]) for rows in blocks(relevance)):
            self.z = self.map.apply(self.a)
            if self.map.bias is not None:
                self.z = self.z + self.map.bias
            self.rectified = False
        return self.z

    def sum_of(self, sign: str) -> Tensor:
        """Sum of the contributions of one sign (``positive`` or ``negative``), per output. The caller may overwrite
        it.
        """
        other = "negative" if sign == "positive" else "positive"
        if not self.map.signed:
            if not self.is_nonnegative:
                return self.map.apply(self.a.clamp(min=0) if sign == "positive" else self.a.clamp(max=0))
            part = self.map.apply(self.a)
            if sign == "negative":
                return torch.zeros_like(part)
            return part.clone() if part.data_ptr() == self.a.data_ptr() else part
        if self.is_nonnegative:
            return self.map.apply(self.a, sign)
        return self.map.apply_by_sign(self.a, sign, other)

    def share_of(self, sign: str, s: Tensor, gamma: float | None = None) -> Tensor:
        """``sum_j z_ij s_j`` over contributions of one sign, per input. With ``gamma`` over all contributions, those
        of that sign ``1 + gamma`` times.
        """
        own, other = (sign, "negative" if sign == "positive" else "positive") if gamma is None else (
            favoured(sign, gamma), favoured("negative" if sign == "positive" else "positive", gamma)
        )  # fmt: skip
        if self.map.signed:
            if self.is_nonnegative:
                return self.map.share(s, self.a, own)
            return self.map.share_by_sign(s, self.a, own, other)
        strong, weak = (1.0, 0.0) if gamma is None else (1 + gamma, 1.0)
        if sign == "negative":
            strong, weak = weak, strong
        back = self.map.share(s, self.a)
        if self.is_nonnegative:
            return back if strong == 1 else back.mul_(strong)
        strong_of, weak_of = back.new_tensor(strong), back.new_tensor(weak)  # plain numbers would be rounded to float32
        return back.mul_(torch.where(self.a >= 0, strong_of, weak_of))

    @cached_property
    def connected(self) -> Tensor:
        """Number of inputs connected to each output (weights summed, for averages)."""
        return self.map.apply(torch.ones_like(self.a[:1] if self._alike else self.a), "ones")

    @cached_property
    def _alike(self) -> bool:
        """Whether all samples see the same weights and the sample axis leads, so that one stands for all."""
        return self.a.ndim > 1 and self.sample.ndim == self.z.ndim == self.a.ndim and self.sample.numel() == len(self.z)


def part_of_rows(values: Tensor, rows: slice, ndim: int) -> Tensor:
    """The rows of a block of what broadcasts to a tensor of ``ndim`` axes."""
    return values[rows] if values.ndim == ndim and len(values) > 1 else values


def propagate(rule: Rule, crossing: Crossing, relevance: Tensor, ledger: Ledger) -> Tensor:
    """Relevance of the input, shaped like ``crossing.a``; the rest is entered in ``ledger``. ``relevance`` is
    overwritten.
    """
    if relevance.stride() != crossing.z.stride():  # steps on tensors of different layouts are slow
        relevance = torch.empty_like(crossing.z).copy_(relevance)
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
    """``R / denominator`` in the memory of R, 0 where the denominator is 0; the relevance there is lost."""
    for rows in blocks(relevance):
        r, d = relevance[rows], part_of_rows(denominator, rows, relevance.ndim)
        none = zeros(d)
        if bool(none.amax() > 0):
            lost = r * none
            ledger.add("lost", lost, part_of_rows(crossing.sample, rows, relevance.ndim))
            r.sub_(lost)
            d = none.add_(d)
        r.div_(d)
    return relevance


def zeros(values: Tensor) -> Tensor:
    """1 where ``values`` are 0, else 0, as numbers of their type: arithmetic on these is many times faster than on
    masks.
    """
    return values.sign().abs_().neg_().add_(1)


def _meet(one: Tensor, other: Tensor) -> bool:
    """Whether both differ from 0 anywhere at once."""
    return bool((one.sign() * other.sign()).abs_().amax() > 0)


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
    z = crossing.exact_z(relevance)
    if b is not None and bias == "ignore":
        z, b = z - b, None
    stabiliser = None
    if eps == 0:
        s = _divide(crossing, relevance, z, ledger)
    else:
        s, stabiliser = _stabilised(crossing, relevance, z, eps, bias == "distribute", ledger)
    taken = None if b is None or bias != "distribute" else s * b
    if bias == "absorb" and b is not None:
        ledger.add_product("bias", s, b, crossing.sample)
    back = crossing.map.share(s, crossing.a)
    extra = _absorb(crossing, {"bias": taken, "stabiliser": stabiliser}, bias, ledger)
    return back if extra is None else back.add_(extra)


def _stabilised(
    crossing: Crossing, relevance: Tensor, z: Tensor, eps: float, kept: bool, ledger: Ledger
) -> tuple[Tensor, Tensor | None]:
    """``s = R / (z + eps * sign(z))`` in the memory of R. What the stabiliser takes is entered, or returned if
    ``kept``.
    """
    taken = []
    small = z.new_tensor(eps)
    for rows in blocks(relevance):
        r, d = relevance[rows], part_of_rows(z, rows, relevance.ndim)
        stabiliser = torch.copysign(small, d)  # a z of -0.0 has no contributions, its sign does not matter
        r.div_(d + stabiliser)  # never 0
        stabiliser.mul_(r)
        if kept:
            taken.append(stabiliser)
        else:
            ledger.add("stabiliser", stabiliser, part_of_rows(crossing.sample, rows, relevance.ndim))
    return relevance, torch.cat(taken) if kept else None


def _gamma(crossing: Crossing, relevance: Tensor, gamma: float, bias: str, ledger: Ledger) -> Tensor:
    b = crossing.map.bias
    z = crossing.exact_z(relevance)
    if b is not None and bias == "ignore":
        z, b = z - b, None
    plus, minus = (0, 0) if b is None else (b.clamp(min=0), b.clamp(max=0))
    denominator = crossing.sum_of("positive")
    below = False  # under a ReLU there is no relevance where z < 0
    for rows in blocks(relevance):
        zs, d = part_of_rows(z, rows, relevance.ndim), denominator[rows]
        of_b, up, down = (part_of_rows(t, rows, z.ndim) if isinstance(t, Tensor) else 0 for t in (b, plus, minus))
        if _meet(zs.clamp(max=0), relevance[rows]):
            below, negative = True, zs < 0
            # N = (sum of all) - P does not cancel where it is used: there z < 0, so |N| > P or the bias is < 0.
            torch.where(negative, zs - of_b - d + down, d + up, out=d)
        else:
            d.add_(up)
        d.mul_(gamma).add_(zs).mul_(zs.sign().abs_())
    s = _divide(crossing, relevance, denominator, ledger)
    del denominator
    parts = [("positive", s * (z > 0), plus), ("negative", s * (z < 0), minus)] if below else [("positive", s, plus)]
    back, taken = None, None
    for sign, of_sign, bias_part in parts:
        if b is not None and bias == "distribute":
            taken = of_sign * (b + gamma * bias_part) + (0 if taken is None else taken)
        elif b is not None:
            ledger.add_product("bias", of_sign, b + gamma * bias_part, crossing.sample)
        share = crossing.share_of(sign, of_sign, gamma)
        back = share if back is None else back.add_(share)
    extra = None if taken is None else _absorb(crossing, {"bias": taken}, bias, ledger)
    assert back is not None
    return back if extra is None else back.add_(extra)


def _alpha_beta(crossing: Crossing, relevance: Tensor, alpha: float, beta: float, bias: str, ledger: Ledger) -> Tensor:
    back, taken = None, None
    for sign, weight in (("positive", alpha), ("negative", -beta)):
        if weight == 0:
            continue
        b = None
        sums = crossing.sum_of(sign)
        if crossing.map.bias is not None and bias != "ignore":
            b = crossing.map.bias.clamp(min=0) if sign == "positive" else crossing.map.bias.clamp(max=0)
            sums.add_(b)
        own = relevance if beta == 0 or sign == "negative" else relevance.clone()
        s = _divide(crossing, own if weight == 1 else own.mul_(weight), sums, ledger)
        del sums
        if b is not None and bias == "distribute":
            taken = s * b if taken is None else taken.add_(s * b)
        elif b is not None:
            ledger.add_product("bias", s, b, crossing.sample)
        share = crossing.share_of(sign, s)
        back = share if back is None else back.add_(share)
    extra = None if taken is None else _absorb(crossing, {"bias": taken}, bias, ledger)
    assert back is not None  # alpha is at least 1
    return back if extra is None else back.add_(extra)


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
