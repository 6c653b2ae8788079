"""Whether a network performs on these samples as it is known to, a check of scaling, order and orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.models.examples import truth_of
from geoxai.models.networks import Networks
from geoxai.models.scores import tally

_REMEDY = (
    "check layout, lat, lon, channels (their order), scaling and classes of the network, and the years of the samples"
)


def compare_score(
    score: str,
    expected: float,
    tolerance: float | None,
    predictions: xr.Dataset,
    samples: xr.Dataset,
    networks: Networks,
    subset: str,
) -> float:
    """The measured ``accuracy`` or ``rmse``; the tolerance is 0.01 for accuracy and 1 % of an rmse unless given.

    Raises
    ------
    GeoxaiError
        It differs from what was expected by more than the tolerance, in either direction.
    """
    if (score == "accuracy") != (networks.task == "classification"):
        raise OptionError(f"expect.{score} does not fit a network for {networks.task}", option=f"expect.{score}")
    name = "label" if networks.task == "classification" else "target"
    if name not in samples.variables:
        raise OptionError(f"expect.{score} needs samples with a {name}", option=f"expect.{score}")
    allowed = tolerance if tolerance is not None else 0.01 if score == "accuracy" else 0.01 * expected
    one = tally(networks.task, networks.classes)
    one.add(predictions["prediction"].values, truth_of(samples, networks.task))
    scores = one.scores()
    found = scores.get(score)
    if found is None:
        raise GeoxaiError(f"no sample of subset {subset} has a {name} to check the network on", option="expect.subset")
    if abs(found - expected) > allowed:
        raise GeoxaiError(
            f"the network's {score} on {scores['samples']} samples of subset {subset} is {found:.4g}, "
            f"expected {expected:.4g} within {allowed:.2g}",
            fix=_REMEDY,
            option=f"expect.{score}",
        )
    return float(found)


def compare_predictions(path: str, tolerance: float | None, predictions: xr.Dataset, networks: Networks) -> float:
    """The largest difference from the predictions in a file; for classes the share of samples that differ.

    The tolerance is 1e-3 unless given: for values and images of the largest value in the file.

    Raises
    ------
    InputError
        The file cannot be read, or has another number of samples.
    GeoxaiError
        The difference is larger than the tolerance.
    """
    n = predictions.sizes["sample"]
    reference = _read(Path(path), networks)
    if len(reference) != n:
        raise InputError(
            f"{path} has predictions for {len(reference)} samples, the network was run on {n}",
            fix="set expect.subset to the samples that the file describes",
            option="expect.predictions",
        )
    found, what = predictions["prediction"].values, "prediction"
    allowed = 1e-3 if tolerance is None else tolerance
    if networks.task == "classification":
        if reference.ndim == 2:
            found, what = predictions["probability"].values, "probability"
    elif tolerance is None:
        allowed *= float(np.nanmax(np.abs(reference), initial=0.0)) or 1.0
    if found.shape != reference.shape:
        raise InputError(
            f"{path} has the shape {reference.shape}, the network's {what} {found.shape}", option="expect.predictions"
        )
    if networks.task == "classification" and reference.ndim == 1:
        difference = float((found != reference).mean())
        wrong = f"{difference:.1%} of {n} predicted classes differ from those in {path}, expected at most {allowed:.2%}"
    else:
        errors = np.abs(found.astype(np.float64) - reference).reshape(n, -1).max(axis=1)
        difference = float(errors.max(initial=0.0))
        worst = int(errors.argmax())
        wrong = (
            f"the network's {what} differs from {path} by up to {difference:.3g} (row {worst}), "
            f"expected at most {allowed:.2g}"
        )
    if not difference <= allowed:
        raise GeoxaiError(wrong, fix=_REMEDY, option="expect.predictions")
    return difference


def _read(path: Path, networks: Networks) -> np.ndarray:
    """Predictions as an array: class numbers, probabilities, values or images."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".csv":
            table = pd.read_csv(path)
            if networks.task == "classification" and set(networks.classes) <= set(table.columns):
                table = table[list(networks.classes)]
            column = table.iloc[:, 0]
            if table.shape[1] == 1 and not pd.api.types.is_numeric_dtype(column):
                names = [str(name) for name in column]
                if stray := sorted(set(names) - set(networks.classes)):
                    raise InputError(
                        f"{path} names the class {stray[0]!r}, but the network knows {', '.join(networks.classes)}"
                    )
                return np.array([networks.classes.index(name) for name in names])
            values = table.to_numpy(dtype=np.float64)
            return values[:, 0] if values.shape[1] == 1 else values
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as predictions: {error}", option="expect.predictions") from error
    raise OptionError(f"{path.name}: predictions must be a .npy or .csv file", option="expect.predictions")
