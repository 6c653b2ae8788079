"""Events, and how many independent samples a class really has.

An event is a run of samples of one class without a gap of a time step: six El Nino months in a row are one event.
Samples of one event resemble each other; samples of different events are taken as independent.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from geoxai.grid.steps import ATTRIBUTE, TimeStep, step_numbers, time_step


def time_steps(time: xr.DataArray | None, size: int) -> np.ndarray:
    """The number of each sample's time step (int64), so that neighbours in time differ by one.

    The step is that of the record the samples were taken from, if their time states it in its attribute ``step``;
    otherwise it is inferred from their times. Without a time no sample has a neighbour.
    """
    if time is None:
        return 2 * np.arange(size, dtype=np.int64)
    known = time.attrs.get(ATTRIBUTE)
    return step_numbers(time, TimeStep.parse(known) if known else time_step(time))


def find_events(group: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The number of the event each sample belongs to, -1 for samples without a class. Samples are in time order."""
    size = len(group)
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.ones(size, dtype=bool)
    starts[1:] = (group[1:] != group[:-1]) | (np.diff(steps) != 1)
    return np.where(group >= 0, np.cumsum(starts) - 1, -1)


def lag_counts(event: np.ndarray, steps: np.ndarray, used: np.ndarray) -> np.ndarray:
    """``counts[k]``: pairs of used samples of one event that are k time steps apart; ``counts[0]`` is their number."""
    counts = np.zeros(1, dtype=np.int64)
    for number in np.unique(event[used & (event >= 0)]):
        members = steps[used & (event == number)]
        presence = np.zeros(members.max() - members.min() + 1, dtype=np.int64)
        presence[members - members.min()] = 1
        pairs = np.correlate(presence, presence, mode="full")[len(presence) - 1 :]
        longer = max(len(counts), len(pairs))
        counts = np.pad(counts, (0, longer - len(counts))) + np.pad(pairs, (0, longer - len(pairs)))
    return counts


def effective_fraction(counts: np.ndarray, lag1: np.ndarray) -> np.ndarray:
    """Effective number of samples over their number, cell by cell, from the lag-1 autocorrelation within events.

    With autocorrelation r^k at lag k inside events and independence between them, the variance of the mean of n samples
    is ``(s^2 / n^2) (n + 2 sum_k N_k r^k)``, ``N_k`` the pairs k steps apart in one event: ``n_eff / n = n / (n + 2
    sum_k N_k r^k)``. It is 1 for r = 0; for r = 1 and events of equal length it makes n_eff the number of events. A
    negative r counts as 0, so that n_eff never exceeds n; where r is unknown (NaN) it counts as 1.
    """
    r = np.clip(np.where(np.isfinite(lag1), lag1, 1.0), 0.0, 1.0)
    total = np.zeros_like(r)
    for pairs in counts[:0:-1]:  # Horner: ((N_K r + N_{K-1}) r + ...) r
        total = (total + pairs) * r
    number = max(int(counts[0]), 1)
    return number / (number + 2.0 * total)
