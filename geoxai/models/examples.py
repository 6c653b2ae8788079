"""What a samples store holds for a network: its task, splits, targets, and the arrays of some of its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import xarray as xr

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.several import inputs_of
from geoxai.models.adapter import Adapter
from geoxai.models.scores import spread, tally
from geoxai.models.training import Examples

SPLITS = ("train", "validation", "test")
_BLOCK_BYTES = 64 * 2**20


def task_of(samples: xr.Dataset, target: str | None = None) -> str:
    """``classification``, ``regression`` or ``image``, from what the samples hold and, if they hold more, from
    ``target``.

    ``target`` is ``class``, ``value`` or ``image``. Without it a target takes precedence over a label.
    """
    has_label, has_target = "label" in samples.variables, "target" in samples.variables
    found = "class" if has_label else None
    if has_target:
        found = "image" if samples["target"].ndim > 1 else "value"
    if found is None:
        raise OptionError(
            "the samples have neither labels nor targets",
            fix="give the samples stage labels or an image",
            option="from",
        )
    if target is not None and target != found:
        if target != "class" or not has_label:
            raise OptionError(f"target {target!r} is not in the samples; they hold a {found}", option="target")
        found = target
    return {"class": "classification", "value": "regression", "image": "image"}[found]


def classes_of(samples: xr.Dataset) -> tuple[str, ...]:
    """Names of the classes in the order of their numbers, which must be 0, 1, 2, ..."""
    label = samples["label"]
    names = tuple(str(label.attrs.get("flag_meanings", "")).split())
    values = np.atleast_1d(label.attrs.get("flag_values", np.arange(len(names))))
    if not names or list(values) != list(range(len(names))):
        raise GeoxaiError(
            f"label must number its classes 0, 1, 2, ... in flag_values and name them in flag_meanings; found "
            f"{list(values)}, {names}"
        )
    return names


def target_channels_of(samples: xr.Dataset) -> tuple[str, ...]:
    """Names of the channels of image targets."""
    target = samples["target"]
    if "target_channel" in target.coords:
        return tuple(str(name) for name in target["target_channel"].values)
    return tuple(str(i) for i in range(target.shape[1]))


def units_of(samples: xr.Dataset, task: str) -> str:
    """Units of the target, empty for classes or where none are known."""
    return "" if task == "classification" else str(samples["target"].attrs.get("units", ""))


def splits_of(samples: xr.Dataset, task: str, unsplit: str = "train") -> dict[str, np.ndarray]:
    """Sample indices of each split that has any; samples without a target are left out.

    Without any split, all samples are under ``unsplit``.
    """
    n = samples.sizes["sample"]
    known = np.ones(n, bool)
    if task == "classification":
        known = samples["label"].values >= 0
    elif task == "regression":
        known = np.isfinite(samples["target"].values)
    split = samples["split"].values if "split" in samples.variables else np.full(n, -1)
    if (split < 0).all():
        return {unsplit: np.flatnonzero(known)} if known.any() else {}
    members = {name: np.flatnonzero(known & (split == i)) for i, name in enumerate(SPLITS)}
    return {name: index for name, index in members.items() if index.size}


def truth_of(samples: xr.Dataset, task: str) -> np.ndarray:
    """Class indices, values or images ``(sample, target_channel, lat, lon)``."""
    return samples["label"].values if task == "classification" else samples["target"].values


def examples(samples: xr.Dataset, index: np.ndarray, adapter: Adapter, task: str) -> Examples:
    """The samples at ``index`` in memory, as the network takes them; image targets in its orientation."""
    chosen = samples.isel(sample=index)
    inputs = chosen["inputs"].compute()
    x = adapter.to_network(inputs)
    if not np.isfinite(x).all():
        bad = chosen["sample"].values[~np.isfinite(x).reshape(len(x), -1).all(axis=1)][0]
        raise GeoxaiError(f"inputs of sample {bad} are not finite", fix="check the fill policy of the samples stage")
    truth = truth_of(chosen, task)
    if task == "image":
        truth = adapter.targets_to_network(truth, inputs)
    kind = np.int64 if task == "classification" else np.float32
    return Examples(torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(truth.astype(kind))))


def evaluate(
    samples: xr.Dataset,
    task: str,
    classes: tuple[str, ...],
    predicted: Callable[[np.ndarray], np.ndarray],
    networks: int,
    unsplit: str = "train",
) -> dict[str, Any]:
    """Scores of every network on every split, and their spread.

    ``predicted`` gives the predictions ``(network, sample, ...)`` of the samples at some indices; ``unsplit`` as in
    ``splits_of``.
    """
    members: list[dict[str, Any]] = [{} for _ in range(networks)]
    for split, index in splits_of(samples, task, unsplit).items():
        tallies = [tally(task, classes) for _ in range(networks)]
        for block in blocks(samples, index):
            truth = truth_of(samples.isel(sample=block), task)
            for one, prediction in zip(tallies, predicted(block)):
                one.add(prediction, truth)
        for member, one in zip(members, tallies):
            member[split] = one.scores()
    scores = ("accuracy",) if task == "classification" else ("rmse", "r2")
    over = {
        split: {score: found for score in scores if (found := spread([member[split] for member in members], score))}
        for split in members[0]
    }
    return {"networks": members} | ({"spread": over} if networks > 1 else {})


def blocks(samples: xr.Dataset, index: np.ndarray) -> Iterator[np.ndarray]:
    """``index`` in pieces of about 64 MiB of inputs."""
    each = max(1, inputs_of(samples).nbytes // max(1, samples.sizes["sample"]))
    size = max(1, _BLOCK_BYTES // each)
    for start in range(0, len(index), size):
        yield index[start : start + size]
