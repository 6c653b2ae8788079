"""Least squares of a cycle and a trend for very many cells at once, from sums over blocks of time.

The trend is fitted to departures from the cycle (Frisch and Waugh 1933, doi:10.2307/1907330): the time and the values
are both freed of the cycle, and the rest of the values is regressed on the rest of the time.
"""

from __future__ import annotations

import numpy as np

from geoxai.statistics.cycles import Cycle

_LEAST_SPREAD = 1e-9  # of the time freed of the cycle, in years squared: below it there is no trend to fit
_LEAST_EIGENVALUE = 0.02  # of the mean product of terms: below it a gap in the year is not bridged (full years: 0.5)


class SlotSums:
    """Means in slots, such as months, or in windows around days: sums ``(hour, slot, cell)``."""

    passes = 1

    def __init__(self, hours: int, cycle: Cycle, size: int, cells: int, *, trend: bool):
        self.cycle = cycle
        shape = (hours, size, cells)
        self.count, self.x = np.zeros(shape), np.zeros(shape)
        self.trend = trend
        self.t, self.tt, self.xt = (np.zeros(shape if trend else 0) for _ in range(3))

    def add(self, x: np.ndarray, hour: np.ndarray, slot: np.ndarray, t: np.ndarray | None) -> None:
        """Add fields ``(time, cell)``, NaN left out."""
        valid = np.isfinite(x)
        x = np.where(valid, x, 0.0)
        for g, s in np.unique(np.stack([hour, slot]), axis=1).T:
            rows = (hour == g) & (slot == s)
            self.count[g, s] += valid[rows].sum(axis=0)
            self.x[g, s] += x[rows].sum(axis=0)
            if t is not None:
                elapsed = t[rows, None]
                self.t[g, s] += (valid[rows] * elapsed).sum(axis=0)
                self.tt[g, s] += (valid[rows] * elapsed**2).sum(axis=0)
                self.xt[g, s] += (x[rows] * elapsed).sum(axis=0)

    def complete(self) -> bool:
        return True

    def solve(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The cycle ``(hour, slot, cell)`` and the trend ``(cell)``; NaN where there are no values."""
        count = self.cycle.spread(self.count)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(count > 0, self.cycle.spread(self.x) / count, np.nan)
            if not self.trend:
                return mean, None
            mean_t = np.where(count > 0, self.cycle.spread(self.t) / count, 0.0)
            level = np.where(count > 0, mean, 0.0)
            covariance = self.xt - mean_t * self.x - level * self.t + self.count * mean_t * level
            variance = self.tt - 2 * mean_t * self.t + self.count * mean_t**2
            covariance, variance = covariance.sum(axis=(0, 1)), variance.sum(axis=(0, 1))
            trend = np.where(variance > _LEAST_SPREAD, covariance / variance, np.nan)
        return mean - trend * mean_t, trend


class TermSums:
    """Harmonics: sums of products with the terms ``(hour, term, cell)``.

    Cells with a value at every time share the products of the terms with each other; only those with gaps need
    products of their own, in a second pass.
    """

    passes = 2

    def __init__(self, hours: int, cycle: Cycle, size: int, cells: int, *, trend: bool):
        self.trend, self.size = trend, size
        self.products = np.zeros((hours, size, size))
        self.total, self.count = np.zeros(hours), np.zeros((hours, cells))
        self.ax = np.zeros((hours, size, cells))
        self.at, self.own_at = np.zeros((hours, size)), np.zeros((hours, size, 0))
        self.tt, self.xt, self.own_tt = 0.0, np.zeros(cells), np.zeros(0)
        self.gaps: np.ndarray | None = None
        self.own = np.zeros((hours, 0, size, size))

    def add(self, x: np.ndarray, hour: np.ndarray, terms: np.ndarray, t: np.ndarray | None) -> None:
        """Add fields ``(time, cell)`` with the terms ``(time, term)`` of their times; NaN left out."""
        t = np.zeros(len(x)) if t is None else t
        if self.gaps is not None:
            self._add_gaps(np.isfinite(x[:, self.gaps]), hour, terms, t)
            return
        valid = np.isfinite(x)
        x = np.where(valid, x, 0.0)
        self.tt += float(t @ t)
        self.xt += t @ x
        for g in np.unique(hour):
            rows = hour == g
            a = terms[rows]
            self.total[g] += rows.sum()
            self.count[g] += valid[rows].sum(axis=0)
            self.products[g] += a.T @ a
            self.ax[g] += a.T @ x[rows]
            self.at[g] += a.T @ t[rows]

    def complete(self) -> bool:
        """Whether every cell has values at all times or at none; if not, the next pass sums those with gaps."""
        if self.gaps is None:
            some = (self.count > 0).any(axis=0)
            self.gaps = np.flatnonzero(some & (self.count < self.total[:, None]).any(axis=0))
            cells, hours = self.gaps.size, len(self.total)
            self.own = np.zeros((hours, cells, self.size, self.size))
            self.own_at, self.own_tt = np.zeros((hours, self.size, cells)), np.zeros(cells)
            return not cells
        return True

    def _add_gaps(self, valid: np.ndarray, hour: np.ndarray, terms: np.ndarray, t: np.ndarray) -> None:
        weights = valid.astype(np.float64)
        self.own_tt += (t**2) @ weights
        for g in np.unique(hour):
            rows = hour == g
            a, w = terms[rows], weights[rows]
            pairs = (a[:, :, None] * a[:, None, :]).reshape(len(a), -1)
            self.own[g] += (w.T @ pairs).reshape(-1, self.size, self.size)
            self.own_at[g] += (a * t[rows, None]).T @ w

    def solve(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The terms ``(hour, term, cell)`` and the trend ``(cell)``; NaN where the values do not determine them."""
        assert self.gaps is not None
        cells = self.count.shape[1]
        none = self.count.sum(axis=0) == 0
        ax, at = np.empty_like(self.ax), np.empty_like(self.ax)
        for g in range(len(self.total)):
            known = self._inverse(self.products[g][None], self.total[g : g + 1])[0]
            ax[g], at[g] = known @ self.ax[g], (known @ self.at[g])[:, None]
            if self.gaps.size:
                own = self._inverse(self.own[g], self.count[g, self.gaps])
                ax[g][:, self.gaps] = np.einsum("cpq,qc->pc", own, self.ax[g][:, self.gaps])
                at[g][:, self.gaps] = np.einsum("cpq,qc->pc", own, self.own_at[g])
        ax[:, :, none] = np.nan
        if not self.trend:
            return ax, None
        moments, spread = np.broadcast_to(self.at[:, :, None], self.ax.shape).copy(), np.full(cells, self.tt)
        moments[:, :, self.gaps], spread[self.gaps] = self.own_at, self.own_tt
        covariance = self.xt - np.nansum(moments * ax, axis=(0, 1))
        variance = spread - np.nansum(moments * at, axis=(0, 1))
        unknown = none | (np.isnan(ax[:, 0]) & (self.count > 0)).any(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            trend = np.where((variance > _LEAST_SPREAD) & ~unknown, covariance / variance, np.nan)
        return ax - trend * at, trend

    @staticmethod
    def _inverse(products: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Inverses of matrices ``(cell, term, term)``; NaN where the values leave a gap too long to bridge."""
        mean = products / np.maximum(count, 1.0)[:, None, None]
        lowest = np.linalg.eigvalsh(mean)[:, 0]
        fine = lowest > _LEAST_EIGENVALUE
        inverse = np.full(products.shape, np.nan)
        inverse[fine] = np.linalg.inv(products[fine])
        return inverse
