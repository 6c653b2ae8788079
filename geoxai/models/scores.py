"""How good predictions are: tallies that grow block by block, and the spread over retrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class ClassTally:
    """Predictions against labels, as a table of counts (label, prediction)."""

    classes: Sequence[str]
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.classes), len(self.classes)), np.int64)

    def add(self, predicted: np.ndarray, label: np.ndarray) -> None:
        """Count samples; ``predicted`` and ``label`` are class indices ``(sample,)``, label -1 where there is none."""
        known = label >= 0
        np.add.at(self.counts, (label[known].astype(int), predicted[known].astype(int)), 1)

    def scores(self) -> dict[str, Any]:
        """Accuracy, and the recall of each class that occurs."""
        total = int(self.counts.sum())
        if not total:
            return {"samples": 0}
        occur = self.counts.sum(axis=1)
        recall = {name: float(self.counts[i, i] / occur[i]) for i, name in enumerate(self.classes) if occur[i]}
        return {"samples": total, "accuracy": float(np.trace(self.counts) / total), "recall": recall}


@dataclass
class ValueTally:
    """Predictions against values or images, as sums of squares; NaN targets are left out."""

    samples: int = 0
    values: int = 0
    squared_error: float = 0.0
    first: float = 0.0
    total: float = 0.0
    square: float = 0.0

    def add(self, predicted: np.ndarray, target: np.ndarray) -> None:
        """Count samples ``(sample, ...)``."""
        known = np.isfinite(target)
        predicted, values = predicted[known].astype(np.float64), target[known].astype(np.float64)
        if not values.size:
            return
        if not self.values:
            self.first = float(values.mean())  # sums of departures from a typical value lose no digits
        self.samples += int(known.reshape(len(known), -1).any(axis=1).sum())
        self.values += values.size
        self.squared_error += float(np.square(predicted - values).sum())
        self.total += float((values - self.first).sum())
        self.square += float(np.square(values - self.first).sum())

    def scores(self) -> dict[str, Any]:
        """RMSE in target units; R2 = 1 - squared errors / squares about the mean, None if targets are constant."""
        if not self.values:
            return {"samples": 0}
        about_mean = self.square - self.total**2 / self.values
        constant = about_mean <= 1e-12 * self.square or about_mean == 0
        r2 = None if constant else 1 - self.squared_error / about_mean
        return {"samples": self.samples, "rmse": float(np.sqrt(self.squared_error / self.values)), "r2": r2}


def tally(task: str, classes: Sequence[str]) -> ClassTally | ValueTally:
    """An empty tally for a task."""
    return ClassTally(classes) if task == "classification" else ValueTally()


def spread(members: Sequence[Mapping[str, Any]], score: str) -> dict[str, float] | None:
    """Mean, standard deviation (n - 1), lowest and highest of a score over networks; None for fewer than two."""
    values = np.array([member[score] for member in members if member.get(score) is not None])
    if len(values) < 2:
        return None
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        "min": float(values.min()),
        "max": float(values.max()),
    }
