"""Splits in time: the gap is where it is said to be."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxai.statistics.splits import assign_splits

MONTHS = np.arange(1990 * 12, 2010 * 12)


def test_splits_by_years():
    split = assign_splits(MONTHS // 12, MONTHS, {"train": [(1990, 1992), (1995, 1995)], "test": [(2000, 2001)]})
    expected = [0 if y in (1990, 1991, 1992, 1995) else 2 if y in (2000, 2001) else -1 for y in MONTHS // 12]
    assert split.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(gap=st.integers(0, 30), order=st.permutations(["train", "validation", "test"]), length=st.integers(1, 6))
def test_splits_are_a_gap_apart_and_test_is_whole(gap, order, length):
    ranges = {name: [(1990 + i * length, 1989 + (i + 1) * length)] for i, name in enumerate(order)}
    split = assign_splits(MONTHS // 12, MONTHS, ranges, gap)
    assert (split == 2).sum() == 12 * length
    for a in range(3):
        for b in range(a):
            one, other = MONTHS[split == a], MONTHS[split == b]
            if one.size and other.size:
                assert np.abs(one[:, None] - other).min() - 1 >= gap
    dropped = MONTHS[(split == -1) & ((1990 + 3 * length) * 12 > MONTHS)]
    kept = MONTHS[split >= 1]
    if dropped.size:
        assert all(np.abs(kept - month).min() <= gap for month in dropped)
