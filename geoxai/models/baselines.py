"""What a network is to be compared with: a linear model, the majority class, the mean of the training targets.

A linear model is fitted to the training samples alone, with an l2 penalty. The strength of the penalty is chosen on the
validation samples or, if there are none, on the last fifth of the training samples (neighbours in time are alike: a
random fifth would flatter it); then the model is fitted again to all training samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from geoxai.models.examples import splits_of, truth_of
from geoxai.models.scores import tally

# Strengths of the penalty, relative to the mean squared length of a training input.
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
LARGEST = 5000
LARGEST_BYTES = 4 * 2**30
_COLUMNS = 4096

Model = Callable[[np.ndarray], np.ndarray]


def baselines(samples: xr.Dataset, task: str, classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores per split of what any network should beat.

    Classification: ``majority_class`` and ``linear`` (logistic regression). Values and images: ``climatology`` (the
    mean of the training targets, cell by cell) and ``linear`` (ridge regression on all inputs).
    """
    splits = splits_of(samples, task)
    truth = truth_of(samples, task)
    targets = {split: truth[index] for split, index in splits.items()}
    if task == "classification":
        constant = majority_class(targets["train"])
        simple = "majority_class"
        about: dict[str, Any] = {"class": classes[constant]}
        guesses = {split: np.full(len(target), constant) for split, target in targets.items()}
    else:
        simple, about = "climatology", {}
        known = np.isfinite(targets["train"])
        total = np.where(known, targets["train"], 0).sum(axis=0, dtype=np.float64)
        mean = total / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
        guesses = {split: np.broadcast_to(mean, target.shape) for split, target in targets.items()}
    found = {simple: about | _scores(guesses, targets, task, classes)}
    if reason := _too_large(samples, targets, splits):
        return found | {"linear": {"not_fitted": reason}}
    inputs = {
        split: samples["inputs"].isel(sample=index).values.reshape(len(index), -1) for split, index in splits.items()
    }
    predicted, strength = linear_model(inputs, targets, len(classes) if task == "classification" else None)
    return found | {"linear": {"l2": strength} | _scores(predicted, targets, task, classes)}


def linear_model(
    inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], classes: int | None
) -> tuple[dict[str, np.ndarray], float]:
    """Ridge regression, or multinomial logistic regression with an l2 penalty: predictions per split, and the penalty.

    Parameters
    ----------
    inputs
        ``(sample, feature)`` per split, ``train`` among them, finite.
    targets
        Class indices, or values ``(sample, ...)``, per split; each cell finite throughout, or NaN throughout.
    classes
        Number of classes; None for regression. Then predictions are class indices, otherwise values.
    """
    features = _features(inputs)
    x, y = features["train"], targets["train"]

    def fit(x: np.ndarray, y: np.ndarray, strength: float) -> Model:
        return _ridge(x, y, strength) if classes is None else _logistic(x, y, strength, classes)

    error = _mean_square if classes is None else _cross_entropy
    if "validation" in targets:
        held_x, held_y, fit_x, fit_y = features["validation"], targets["validation"], x, y
    else:
        cut = max(1, len(x) * 4 // 5)
        held_x, held_y, fit_x, fit_y = x[cut:], y[cut:], x[:cut], y[:cut]
    strength = STRENGTHS[0]
    if len(held_x):
        strength = min(STRENGTHS, key=lambda s: error(fit(fit_x, fit_y, s)(held_x), held_y))
    model = fit(x, y, strength)
    outputs = {split: model(values) for split, values in features.items()}
    if classes is not None:
        return {split: scores.argmax(axis=1) for split, scores in outputs.items()}, strength
    return {split: values.reshape(targets[split].shape) for split, values in outputs.items()}, strength


def majority_class(label: np.ndarray) -> int:
    """The most common class of the training labels, the first if several are equally common."""
    return int(np.bincount(label).argmax())


def _scores(
    predicted: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], task: str, classes: tuple[str, ...]
) -> dict[str, Any]:
    scores = {}
    for split, target in targets.items():
        one = tally(task, classes)
        one.add(predicted[split], target)
        scores[split] = one.scores()
    return scores


def _too_large(samples: xr.Dataset, targets: Mapping[str, np.ndarray], splits: Mapping[str, np.ndarray]) -> str | None:
    """The reason why no linear model can be fitted, if there is one."""
    features = int(np.prod(samples["inputs"].shape[1:]))
    if min(len(splits["train"]), features) > LARGEST:
        return f"more than {LARGEST} training samples and more than {LARGEST} inputs each"
    if samples["inputs"].nbytes > LARGEST_BYTES or targets["train"].nbytes * 8 > LARGEST_BYTES:
        return f"samples of more than {LARGEST_BYTES / 2**30:g} GiB"
    there = np.isfinite(targets["train"]).all(axis=0)  # cells that are always missing, such as land, do not matter
    if any((np.isfinite(target) & ~there).any() for target in targets.values()):
        return "targets with missing values that vary in time"
    return None


def _features(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Departures of the inputs from the training mean, float64, in at most as many columns as training samples.

    With an l2 penalty the solution lies in the space that the training samples span, so nothing is lost. Scaled so that
    the mean squared length of a training input is 1.
    """
    train = inputs["train"]
    mean = train.mean(axis=0, dtype=np.float64)
    if train.shape[1] <= train.shape[0]:
        features = {split: values - mean for split, values in inputs.items()}
    else:
        products = {split: np.zeros((len(values), len(train))) for split, values in inputs.items()}
        for start in range(0, train.shape[1], _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            centred = train[:, columns] - mean[columns]
            for split, values in inputs.items():
                products[split] += (values[:, columns] - mean[columns]) @ centred.T
        eigenvalues, vectors = np.linalg.eigh(products["train"])
        kept = eigenvalues > eigenvalues.max(initial=0.0) * 1e-10
        basis = vectors[:, kept] / np.sqrt(eigenvalues[kept])
        features = {split: product @ basis for split, product in products.items()}
    size = np.sqrt(np.square(features["train"]).sum(axis=1).mean()) or 1.0
    return {split: values / size for split, values in features.items()}


def _ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Model:
    """Minimum of mean squared error + strength * sum(w^2), in closed form."""
    flat = y.reshape(len(y), -1).astype(np.float64)
    mean_x, mean_y = x.mean(axis=0), flat.mean(axis=0)
    centred = x - mean_x
    gram = centred.T @ centred + len(x) * strength * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (flat - mean_y))
    return lambda new: (new - mean_x) @ weights + mean_y


def _logistic(x: np.ndarray, y: np.ndarray, strength: float, classes: int) -> Model:
    """Minimum of mean cross-entropy + strength * sum(w^2), by L-BFGS in float64; gives scores ``(sample, class)``."""
    inputs, labels = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.int64))
    weights = torch.zeros((x.shape[1], classes), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs @ weights + bias, labels) + strength * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    fitted, offset = weights.detach().numpy(), bias.detach().numpy()
    return lambda new: new @ fitted + offset


def _mean_square(predicted: np.ndarray, target: np.ndarray) -> float:
    return float(np.nanmean(np.square(predicted - target.reshape(len(target), -1))))


def _cross_entropy(scores: np.ndarray, label: np.ndarray) -> float:
    highest = scores.max(axis=1)
    return float(
        (highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1)) - scores[np.arange(len(label)), label]).mean()
    )
