"""Mean and variance that can be computed block by block and merged without loss of precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations from the mean, cell by cell, float64 (``count`` int64).

    A cell without data has count, mean and ``m2`` of 0.
    """

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray

    def variance(self, ddof: int) -> np.ndarray:
        """Variance with ``count - ddof`` in the denominator; NaN where that is not positive."""
        enough = self.count > ddof
        return np.where(enough, self.m2 / np.where(enough, self.count - ddof, 1), np.nan)


def moments(values: np.ndarray) -> Moments:
    """Moments along the first axis, leaving out what is not finite. ``values`` (n, ...), any n including 0."""
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    some = np.maximum(count, 1)
    mean = np.where(finite, values, 0.0).sum(axis=0) / some
    deviation = np.where(finite, values - mean, 0.0)
    mean = mean + deviation.sum(axis=0) / some  # second pass: rounding of the first mean
    deviation = np.where(finite, values - mean, 0.0)
    return Moments(count, np.where(count > 0, mean, 0.0), (deviation**2).sum(axis=0))


def merge(first: Moments, second: Moments) -> Moments:
    """Moments of two blocks together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    count = first.count + second.count
    some = np.maximum(count, 1)
    difference = second.mean - first.mean
    mean = first.mean + difference * (second.count / some)
    # a block without data in a cell contributes nothing there: its mean of 0 is not a value
    mean = np.where(second.count == 0, first.mean, np.where(first.count == 0, second.mean, mean))
    m2 = first.m2 + second.m2 + difference**2 * (first.count * second.count / some)
    return Moments(count, mean, m2)


def pool(cells: Moments, axis: tuple[int, ...]) -> Moments:
    """Moments of all values of several cells together; ``axis`` are the axes of the cells, kept with length 1."""
    count = cells.count.sum(axis=axis, keepdims=True)
    some = np.maximum(count, 1)
    mean = (cells.count * cells.mean).sum(axis=axis, keepdims=True) / some
    m2 = (cells.m2 + cells.count * (cells.mean - mean) ** 2).sum(axis=axis, keepdims=True)
    return Moments(count, mean, m2)
