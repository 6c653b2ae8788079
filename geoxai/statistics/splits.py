"""Training, validation and test samples, separated in time so that no split has seen another's weather."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
NO_SPLIT = -1
Years = tuple[int, int]


def assign_splits(
    years: np.ndarray, months: np.ndarray, split: Mapping[str, Sequence[Years]], gap: int = 0
) -> np.ndarray:
    """The split of each time (int8, a position in ``SPLITS``, -1 for none).

    Parameters
    ----------
    years, months
        The year of each time, and its month counted from any origin (fractions allowed).
    split
        The ranges of years of each split, both ends included.
    gap
        Whole months that must lie between two splits. Validation times that are closer to a test time, and then
        training times that are closer to a test or validation time, belong to no split.
    """
    result = np.full(len(years), NO_SPLIT, dtype=np.int8)
    for name, ranges in split.items():
        for first, last in ranges:
            result[(years >= first) & (years <= last)] = SPLITS.index(name)
    if gap > 0:
        for number in (1, 0):
            later = np.sort(months[result > number])
            close = (result == number) & (_distance(months, later) <= gap)
            result[close] = NO_SPLIT
    return result


def _distance(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance from each value to the nearest of ``others`` (sorted), infinite if there are none."""
    if others.size == 0:
        return np.full(len(values), np.inf)
    place = np.searchsorted(others, values)
    below = np.abs(values - others[np.maximum(place - 1, 0)])
    above = np.abs(others[np.minimum(place, others.size - 1)] - values)
    return np.minimum(below, above)
