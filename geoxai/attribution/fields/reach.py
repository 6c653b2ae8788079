"""Interval arithmetic along one axis: which inputs of an operation its outputs read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Interval = tuple[int, int]  # first and last index


@dataclass(frozen=True)
class Reach:
    """Output ``o`` of an operation reads the inputs from ``(num * o + low) // den`` to ``(num * o + high) // den``.

    ``border`` says what is beyond the ends of the axis: ``edge`` (nothing, a constant or the outermost value),
    ``reflect`` or ``circular``. Shifting the input by ``num`` shifts the output by ``den``.
    """

    num: int = 1
    den: int = 1
    low: int = 0
    high: int = 0
    border: str = "edge"

    def rescaled(self, scale: Fraction) -> Fraction:
        """The scale of the outputs, from that of the inputs."""
        return scale if self.num == self.den else scale * Fraction(self.den, self.num)

    @property
    def growth(self) -> Fraction:
        """By how many inputs the receptive field of one output is longer than one."""
        return Fraction(max(self.high - self.low, 0), self.den)

    def beyond(self, outputs: Interval) -> Interval:
        """What the outputs read, as if the axis had no ends."""
        return (self.num * outputs[0] + self.low) // self.den, (self.num * outputs[1] + self.high) // self.den

    def read(self, outputs: Interval, size: int) -> Interval:
        """What the outputs read from an axis of this size."""
        low, high = self.beyond(outputs)
        if low >= 0 and high < size:
            return low, high
        if self.border == "circular":
            return 0, size - 1
        first, last = max(low, 0), min(high, size - 1)
        if self.border == "reflect":
            first, last = min(first, 2 * (size - 1) - high), max(last, -low)
        return max(min(first, size - 1), 0), min(max(last, 0), size - 1)


def union(a: Interval | None, b: Interval) -> Interval:
    """The shortest interval that contains both."""
    return b if a is None else (min(a[0], b[0]), max(a[1], b[1]))
