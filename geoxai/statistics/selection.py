"""Which explained samples count in a statistic, and in which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.time import match_times, months, years
from geoxai.names import unknown
from geoxai.statistics.conditions import evaluate, parse_condition
from geoxai.statistics.events import time_steps
from geoxai.statistics.flags import flag_classes, renumber

ALL = "all"


@dataclass(frozen=True)
class Selection:
    """Samples in time order; arrays over ``([network,] sample)``.

    ``group``: position in ``classes``, -1 none. ``where``: the conditions hold. ``nonpositive``: the explained value
    is not positive under a rule that presumes it. ``absent``: there is no explained value, as the sample has no such
    pixel (None if the values are not known). ``correct``: the predicted class is the label (None if that has no
    meaning). ``steps`` (sample,): ``events.time_steps``. ``conditions``: the conditions as text. ``unknown``: samples
    whose time is not in the labels.
    """

    classes: tuple[str, ...]
    group: xr.DataArray
    where: xr.DataArray
    nonpositive: xr.DataArray
    absent: xr.DataArray | None
    correct: xr.DataArray | None
    steps: np.ndarray
    conditions: tuple[str, ...]
    unknown: int = 0

    @property
    def wanted(self) -> xr.DataArray:
        """Samples that count unless their map is empty."""
        wanted = (self.group >= 0) & self.where & ~self.nonpositive
        return wanted if self.absent is None else wanted & ~self.absent

    def counts(self, used: xr.DataArray) -> dict[str, xr.DataArray]:
        """Number of samples ``(network, class)``: all; correct; nonpositive, absent, empty among the chosen; used."""
        chosen = {
            "n_all": (xr.ones_like(self.where), "samples of the class"),
            "n_nonpositive": (self.where & self.nonpositive, "selected samples left out: explained value not positive"),
            "n_empty": (self.wanted & ~used, "selected samples left out: nothing to normalise by"),
            "n_used": (used, "samples in the composite"),
        }
        if self.absent is not None:
            chosen["n_absent"] = (self.where & self.absent, "selected samples left out: they have no such pixel")
        if self.correct is not None:
            chosen["n_correct"] = (self.correct, "samples of the class predicted correctly")
        counts = {name: self._count(which, used) for name, (which, _) in chosen.items()}
        for name, count in counts.items():
            count.attrs = {"long_name": chosen[name][1], "units": "1"}
        return counts

    def _count(self, which: xr.DataArray, used: xr.DataArray) -> xr.DataArray:
        members = [(which & (self.group == position)).sum("sample") for position in range(len(self.classes))]
        counts = xr.concat(members, "class").astype(np.int32)
        counts = counts if "network" in counts.dims else counts.expand_dims(network=used.sizes["network"])
        return counts.transpose("network", "class")


def select_samples(
    scalars: xr.Dataset,
    labels: xr.Dataset | None,
    by_variable: str,
    where: Sequence[str] | None,
    confidence: float,
) -> Selection:
    """Select samples of a relevance store.

    Parameters
    ----------
    scalars
        Its variables over ``([network,] sample)``.
    labels
        Classes over ``time``, instead of ``by_variable``.
    by_variable, where, confidence
        As the options of the stage ``composite``.

    Raises
    ------
    OptionError
        An unknown variable or class, a condition that has no meaning here, or a variable without classes.
    """
    group, classes = _group(scalars, labels, by_variable)
    correct = _correct(scalars)
    conditions = tuple(where) if where is not None else ("correct",) if correct is not None else (ALL,)
    variables = _variables(scalars)
    holds = xr.ones_like(group, dtype=bool)
    for condition in conditions:
        holds = holds & _holds(condition, scalars, variables, correct, confidence)
    nonpositive = scalars["nonpositive_target"] if "nonpositive_target" in scalars else xr.zeros_like(group, dtype=bool)
    time = scalars["time"] if "time" in scalars.coords else None
    return Selection(
        classes=classes,
        group=group.reset_coords(drop=True),
        where=holds.reset_coords(drop=True),
        nonpositive=nonpositive.astype(bool).reset_coords(drop=True),
        absent=scalars["target_value"].isnull().reset_coords(drop=True) if "target_value" in scalars else None,
        correct=None if correct is None else correct.reset_coords(drop=True),
        steps=time_steps(time, scalars.sizes["sample"]),
        unknown=0 if labels is None else int((match_times(scalars["time"], labels["time"]) < 0).sum()),
        conditions=tuple(f"confidence >= {confidence:g}" if c == "confident" else c for c in conditions),
    )


def _group(scalars: xr.Dataset, labels: xr.Dataset | None, by_variable: str) -> tuple[xr.DataArray, tuple[str, ...]]:
    if labels is not None:
        return _joined(scalars, labels)
    if by_variable == ALL or (by_variable == "label" and "label" not in scalars.variables):
        return xr.zeros_like(scalars["sample"], dtype=np.int16), (ALL,)
    if by_variable not in scalars.variables:
        raise OptionError(unknown("variable", by_variable, map(str, scalars.variables)), option="by_variable")
    variable = scalars[by_variable]
    known = flag_classes(variable)
    if not known:
        raise OptionError(f"{by_variable} holds no classes: it has no flag_meanings", option="by_variable")
    return variable.copy(data=renumber(variable.values, known, tuple(known))), tuple(known)


def _joined(scalars: xr.Dataset, labels: xr.Dataset) -> tuple[xr.DataArray, tuple[str, ...]]:
    known = flag_classes(labels["label"]) if "label" in labels else {}
    if not known:
        raise OptionError("these labels have no classes", option="by")
    if "time" not in labels.dims or "time" not in scalars.coords:
        raise OptionError("labels can only be joined on time, but the labels or the samples have none", option="by")
    places = match_times(scalars["time"], labels["time"])
    number = renumber(labels["label"].values, known, tuple(known))
    found = np.where(places >= 0, number[places], np.int16(-1))
    return xr.DataArray(found, dims="sample"), tuple(known)


def _correct(scalars: xr.Dataset) -> xr.DataArray | None:
    """Where the predicted class is the label; None for regressions and samples without labels."""
    if "prediction" not in scalars or "label" not in scalars.variables:
        return None
    predicted, known = flag_classes(scalars["prediction"]), flag_classes(scalars["label"])
    if not predicted or not known:
        return None
    names = tuple(known)
    prediction, label = (
        v.copy(data=renumber(v.values, flags, names))
        for v, flags in ((scalars["prediction"], predicted), (scalars["label"], known))
    )
    return (prediction == label) & (label >= 0)


def _variables(scalars: xr.Dataset) -> dict[str, xr.DataArray]:
    """The variables that conditions may name: everything over samples, and the year and month of each."""
    variables = {str(name): scalars[name] for name in scalars.variables if "sample" in scalars[name].dims}
    if "time" in variables:
        time = variables.pop("time")
        variables["year"] = xr.DataArray(years(time), dims="sample")
        variables["month"] = xr.DataArray(months(time), dims="sample")
    return {name: variable.reset_coords(drop=True) for name, variable in variables.items()}


def _holds(
    condition: str,
    scalars: xr.Dataset,
    variables: dict[str, xr.DataArray],
    correct: xr.DataArray | None,
    confidence: float,
) -> xr.DataArray:
    if condition == ALL:
        return xr.ones_like(scalars["sample"], dtype=bool)
    if condition == "correct":
        if correct is None:
            raise OptionError("correct needs predicted classes and labels of the samples", option="where")
        return correct
    if condition == "confident":
        if "confidence" not in scalars:
            raise OptionError("confident needs the confidence of a classifier", option="where")
        return scalars["confidence"] >= confidence
    try:
        return evaluate(parse_condition(condition), variables)
    except OptionError as error:
        raise OptionError(error.message, fix=error.fix, option="where") from None
