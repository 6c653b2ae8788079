"""Conservation at every node: relevance goes on, stays with a bias or stabiliser, or is lost, and is entered.

``relevance in = relevance out + bias + stabiliser + lost``, per sample and node, up to rounding. The account of a whole
network can close although two nodes err in opposite ways; here the first faulty node is named. It costs a few sums
per node, so it only runs on request: in tests of the engine, and in ``geoxai run --debug``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geoxai.attribution.lrp.graph import Node, Value
from geoxai.attribution.lrp.ledger import TERMS, Ledger, per_sample
from geoxai.errors import GeoxaiError

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of all relevance at the node, without signs; else 0.05
ROUNDING = 8 * torch.finfo(torch.float64).eps  # of what was entered so far, whose sums are compared


class Conservation:
    """Follows one pass back and compares both sides of the equation at each node."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._arrived: dict[Node | None, tuple[Tensor, Tensor]] = {}  # sums, and what they may be off by
        self._before = self._entered()

    def arrives(self, value: Value, relevance: Tensor) -> None:
        """Relevance is given to ``value``."""
        sums = self._sums(value, relevance)
        before = self._arrived.get(value.node)
        self._arrived[value.node] = sums if before is None else (before[0] + sums[0], before[1] + sums[1])

    def starts(self, node: Node) -> None:
        """``node`` is about to distribute what arrived at it."""
        self._before = self._entered()

    def ends(self, node: Node, relevances: Sequence[Tensor | None]) -> None:
        """``node`` gave ``relevances`` to its inputs. Raises GeoxaiError if they and what it entered in the ledger
        are not what arrived.
        """
        arrived, allowed = self._arrived.pop(node)
        left = self._entered() - self._before
        allowed = allowed + ROUNDING * torch.stack([self._ledger.sums[term].abs() for term in TERMS]).sum(0)
        for value, relevance in zip(node.inputs, relevances):
            if relevance is not None:
                given, rounding = self._sums(value, relevance)
                left, allowed = left + given, allowed + rounding
        over = (arrived - left).abs() - allowed
        if not torch.isfinite(over).all():
            return  # values that are not finite are reported at the end
        worst = int(over.argmax())
        if over[worst] > 0:
            where = node.path or "the network itself"
            raise GeoxaiError(
                f"relevance is not conserved at {node.op} at {where}, input shape {tuple(node.input_shape)}: sample"
                f" {worst}: {float(arrived[worst]):.6g} came in, {float(left[worst]):.6g} is accounted for",
                fix="this is a fault of geoxai: please report the network's code around this operation",
            )

    def _sums(self, value: Value, relevance: Tensor) -> tuple[Tensor, Tensor]:
        sample = value.sample.reshape((1,) * (relevance.ndim - value.sample.ndim) + value.sample.shape)
        sums, sizes = (per_sample(r, sample, self._ledger.samples) for r in (relevance, relevance.abs()))
        return sums, sizes * TOLERANCE.get(relevance.dtype, 0.05)

    def _entered(self) -> Tensor:
        return torch.stack([self._ledger.sums[term] for term in TERMS]).sum(0)
