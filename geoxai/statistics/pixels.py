"""Pixels of a field that stand out: the highest or lowest, apart from each other and from the border."""

from __future__ import annotations

import numpy as np


def top_pixels(
    score: np.ndarray, allowed: np.ndarray, count: int = 1, separation: float = 0.0, border: int = 0
) -> np.ndarray:
    """The ``count`` pixels of each field with the largest score.

    Parameters
    ----------
    score
        Fields (sample, row, column); NaN is never taken.
    allowed
        Boolean of the same shape: where a pixel may be.
    count
        Number of pixels per field.
    separation
        Minimum distance in cells between two pixels of one field, from centre to centre.
    border
        Minimum number of cells between a pixel and the border.

    Returns
    -------
    Integers (sample, count, 2): row and column, best first, ties in memory order; -1 where a field has
    no more.
    """
    rows, columns = np.ogrid[: score.shape[1], : score.shape[2]]
    inside = (
        (rows >= border) & (rows < score.shape[1] - border) & (columns >= border) & (columns < score.shape[2] - border)
    )
    left = np.where(allowed & inside & ~np.isnan(score), score.astype(np.float64), -np.inf)
    found = np.full((len(score), count, 2), -1)
    for sample, field in enumerate(left):
        for rank in range(count):
            row, column = np.unravel_index(int(field.argmax()), field.shape)
            if field[row, column] == -np.inf:
                break
            found[sample, rank] = row, column
            near = (rows - row) ** 2 + (columns - column) ** 2 < max(separation, 1) ** 2
            field[near] = -np.inf
    return found
