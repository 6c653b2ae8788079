"""Samples: which times of a stack of fields a network learns from, with what label, in which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from geoxai.errors import OptionError
from geoxai.grid.coordinates import grid_difference
from geoxai.grid.steps import ATTRIBUTE
from geoxai.grid.time import decimal_year, is_monthly, match_times, year_month, years
from geoxai.names import unknown
from geoxai.statistics.flags import NO_CLASS, flag_attrs, flag_classes, renumber
from geoxai.statistics.splits import NO_SPLIT, SPLITS, Years, assign_splits
from geoxai.statistics.stacking import Join, Stack

DROP = "drop"


@dataclass(frozen=True)
class Choice:
    """Samples in time order.

    For each: ``split`` (-1 none), ``label`` (position in ``classes``, -1 none), ``value``.
    ``target`` is what a network learns: ``class``, ``value``, ``image`` or None. ``others`` are further inputs of a
    network that takes several. ``joins`` says how many times each join left out.
    """

    stack: Stack
    split: np.ndarray
    image: Stack | None = None
    label: np.ndarray | None = None
    value: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    value_attrs: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    others: tuple[Stack, ...] = ()
    joins: tuple[Join, ...] = ()

    @property
    def size(self) -> int:
        return self.stack.time.size

    def each(self) -> tuple[Choice, ...]:
        """The same samples for each of several inputs; the image belongs to the first."""
        alone = replace(self, others=())
        time = self.stack.time
        return alone, *(replace(alone, stack=replace(other, time=time), image=None) for other in self.others)

    def take(self, which: np.ndarray) -> Choice:
        """The samples selected by a mask or positions."""
        return replace(
            self,
            stack=self.stack.take(which),
            split=self.split[which],
            image=None if self.image is None else self.image.take(which),
            label=None if self.label is None else self.label[which],
            value=None if self.value is None else self.value[which],
            others=tuple(other.take(which) for other in self.others),
        )


def every_time(stack: Stack, *others: Stack) -> Choice:
    """Each time of a stack, or each time common to several, as a sample without class and split."""
    places = [match_times(stack.time, other.time) for other in others]
    joins = [join for each in (stack, *others) for join in each.joins]
    joins += [
        _join("the first input", "a further input", place, other.time.size) for place, other in zip(places, others)
    ]
    if places:
        common = np.all([place >= 0 for place in places], axis=0)
        if not common.any():
            raise OptionError("the inputs have no time in common", option="inputs")
        stack, others = stack.take(common), tuple(o.take(place[common]) for o, place in zip(others, places))
    return Choice(stack, np.full(stack.time.size, NO_SPLIT, np.int8), others=others, joins=tuple(joins))


def with_image(choice: Choice, image: Stack) -> Choice:
    """The samples that have target maps; ``image`` must lie on the grid of the inputs."""
    difference = grid_difference(choice.stack.grid, image.grid)
    if difference:
        raise OptionError(f"inputs and target maps are on different grids: {difference}", option="image")
    places = match_times(choice.stack.time, image.time)
    if not (places >= 0).any():
        raise OptionError("inputs and target maps have no time in common", option="image")
    joins = (*choice.joins, _join("inputs", "target maps", places, image.time.size))
    return replace(choice.take(places >= 0), image=image.take(places[places >= 0]), target="image", joins=joins)


def with_labels(
    choice: Choice,
    labels: xr.Dataset,
    *,
    target: str | None,
    classes: Sequence[str] | None = None,
    other: str | None = None,
    values_known: bool = True,
) -> Choice:
    """The samples that have labels, with their class and value.

    Parameters
    ----------
    labels
        ``label`` with flag attributes, ``value``, or both, over ``time`` or over ``sample`` (the number of the time
        in the first dataset of the stack, from 0).
    target
        ``class`` or ``value``: samples without it are left out. None: the class if there is one, else the value.
        ``image``: the maps of ``with_image``; no sample is left out because of its labels.
    classes, other
        As the options of the stage ``samples``.
    values_known
        False while labels are only sketched: then no sample is left out because of its class or value.

    Raises
    ------
    OptionError
        No common time, an unknown class, or labels that lack what the target needs.
    """
    places = _places(choice, labels)
    if not (places >= 0).any():
        raise OptionError("inputs and labels have no time in common", option="labels")
    known = flag_classes(labels["label"]) if "label" in labels else {}
    target = target or ("class" if known else "value")
    size = labels.sizes["time"] if "time" in labels.dims else labels.sizes["sample"]
    joins = (*choice.joins, _join("inputs", "labels", places, size))
    choice, places = replace(choice.take(places >= 0), target=target, joins=joins), places[places >= 0]
    if target == "class" and not known:
        raise OptionError("the labels have no classes", fix="use target: value", option="target")
    if target == "value" and "value" not in labels:
        raise OptionError("the labels have no values", fix="use target: class", option="target")
    if known:
        number, names = _classes(labels["label"].values[places], known, classes, other)
        choice = replace(choice, label=number, classes=names)
    elif classes or other:
        raise OptionError("the labels have no classes", option="classes" if classes else "other")
    if "value" in labels:
        value = labels["value"].values[places].astype(np.float64)
        choice = replace(choice, value=value, value_attrs=_described(labels["value"]))
    if not values_known:
        return choice
    if choice.label is not None and (other == DROP or (other is None and (target == "class" or classes))):
        if (choice.label == NO_CLASS).all():
            raise OptionError(
                f"none of the {choice.size} times of the inputs has a label of class {', '.join(choice.classes)}",
                fix="check the labels, or name the class of all others with other",
                option="labels",
            )
        choice = choice.take(choice.label != NO_CLASS)
    if target == "value" and choice.value is not None:
        if not np.isfinite(choice.value).any():
            raise OptionError(f"none of the {choice.size} times of the inputs has a value", option="labels")
        choice = choice.take(np.isfinite(choice.value))
    return choice


def with_split(choice: Choice, split: Mapping[str, Sequence[Years]], gap: int) -> Choice:
    """The samples of the splits; see ``splits.assign_splits``."""
    time = choice.stack.time
    months = year_month(time) if is_monthly(time) else 12 * decimal_year(time)
    assigned = assign_splits(years(time), months, split, gap)
    return replace(choice, split=assigned).take(assigned != NO_SPLIT)


def refuse_outside(choice: Choice, split: Mapping[str, Sequence[Years]], record: str) -> None:
    """Refuse years of a split of which there is no time at all; ``record`` says whose times they are.

    Raises
    ------
    OptionError
        Names the years that there are.
    """
    there = years(choice.stack.time)
    for name, ranges in split.items():
        for first, last in ranges:
            if there.size and not ((there >= first) & (there <= last)).any():
                span = f"{there.min()} to {there.max()}" if there.min() < there.max() else f"{there.min()} alone"
                raise OptionError(
                    f"the {name} split {first} to {last} lies outside the record: {record} have {span}",
                    fix="choose years that there are",
                    option=f"split.{name}",
                )


def sample_coords(choice: Choice) -> xr.Dataset:
    """Where and when the samples are: a dataset of coordinates without variables.

    ``sample, time, channel``, ``units`` of the channels (empty for one without) where any has them, ``split`` and
    ``label`` with flag attributes, ``value`` if it is not the target, and the horizontal coordinates.
    """
    stack = choice.stack
    units = np.array([unit_of(variable) for variable in stack.variables], dtype=object)
    coords: dict[str, Any] = {
        "sample": ("sample", np.arange(choice.size), {"long_name": "number of the sample"}),
        "time": ("sample", stack.time.values, _time_attrs(stack.time)),
        "channel": ("channel", np.array(stack.names, dtype=object), {"long_name": "variable of the input"}),
        "split": ("sample", choice.split, {"long_name": "split"} | flag_attrs(SPLITS)),
    }
    if any(units):
        coords["units"] = ("channel", units, {"long_name": "units of the channel before scaling"})
    if choice.label is not None:
        coords["label"] = ("sample", choice.label, {"long_name": "class"} | flag_attrs(choice.classes))
    if choice.value is not None and choice.target != "value":
        coords["value"] = ("sample", choice.value, dict(choice.value_attrs))
    return xr.Dataset(coords=coords | dict(stack.grid.coords))


def unit_of(variable: xr.DataArray) -> str:
    """The units of a variable, empty if its source has none."""
    return str(variable.attrs.get("units", "")).strip()


def remember(choice: Choice) -> xr.Dataset:
    """A choice as a small dataset, from which ``recall`` gives it back."""
    dataset = sample_coords(choice)
    dataset["position"] = (("channel", "sample"), choice.stack.positions)
    if choice.image is not None:
        dataset["image_position"] = (("target_channel", "sample"), choice.image.positions)
    if choice.value is not None:
        dataset["value"] = ("sample", choice.value, dict(choice.value_attrs))
    return dataset.assign_attrs({"target": choice.target} if choice.target else {})


def recall(inputs: Stack, image: Stack | None, remembered: xr.Dataset) -> Choice:
    """The choice from such a dataset, on stacks of the same variables."""
    time = xr.DataArray(remembered["time"].values, dims="sample", attrs=_time_attrs(remembered["time"]))
    stack = replace(inputs, positions=remembered["position"].values, time=time)
    if image is not None:
        image = replace(image, positions=remembered["image_position"].values, time=time)
    label, value = (remembered.get(name) for name in ("label", "value"))
    return Choice(
        stack,
        split=remembered["split"].values,
        image=image,
        label=None if label is None else label.values,
        value=None if value is None else value.values,
        classes=() if label is None else tuple(flag_classes(label)),
        value_attrs={} if value is None else _described(value),
        target=remembered.attrs.get("target"),
    )


def template(choice: Choice, valid: np.ndarray, mean: np.ndarray, sd: np.ndarray, varying: bool) -> xr.Dataset:
    """The samples store before it is filled: dask-backed where values are yet to be computed.

    ``valid`` (channel, row, column); ``mean`` and ``sd`` (channel,) or (channel, row, column).
    """
    dataset, stack = sample_coords(choice), choice.stack
    cells = ("channel", *map(str, stack.grid.dims))
    shape = (choice.size, len(stack.names), *stack.grid.shape)
    dataset["inputs"] = (("sample", *cells), dask.array.zeros(shape, dtype=np.float32, chunks=-1), _inputs_attrs(stack))
    flags = {"long_name": "cell has data", "comment": "where false, inputs are filled"}
    if varying:
        dataset["valid"] = (("sample", *cells), dask.array.zeros(shape, dtype=bool, chunks=-1), flags)
    else:
        dataset["valid"] = (cells, valid, flags)
    physical = "physical value = inputs * scaling_sd + scaling_mean, in the units of the channel"
    for name, values in (("scaling_mean", mean), ("scaling_sd", sd)):
        dataset[name] = (cells[: values.ndim], values, {"comment": physical})
    if choice.image is not None:
        image = choice.image
        names = np.array(image.names, dtype=object)
        dataset = dataset.assign_coords(
            target_channel=("target_channel", names, {"long_name": "variable of the target"})
        )
        maps = dask.array.zeros((choice.size, len(image.names), *shape[2:]), dtype=np.float32, chunks=-1)
        attrs = _described(image.variables[0]) if len(image.names) == 1 else {}
        dataset["target"] = (("sample", "target_channel", *cells[1:]), maps, attrs)
    elif choice.target == "value":
        dataset["target"] = ("sample", choice.value, dict(choice.value_attrs))
    return dataset


def _time_attrs(time: xr.DataArray) -> dict[str, str]:
    step = {ATTRIBUTE: time.attrs[ATTRIBUTE]} if ATTRIBUTE in time.attrs else {}
    return {"standard_name": "time", "long_name": "time of the sample"} | step


def _join(left: str, right: str, places: np.ndarray, size: int) -> Join:
    return Join(left, right, (places.size, size), int((places >= 0).sum()))


def _places(choice: Choice, labels: xr.Dataset) -> np.ndarray:
    """The position of every sample in the labels, -1 if they do not have it."""
    if "time" in labels.dims:
        return match_times(choice.stack.time, labels["time"])
    place = {int(number): index for index, number in enumerate(labels["sample"].values)}
    return np.array([place.get(number, -1) for number in choice.stack.positions[0].tolist()])


def _classes(
    values: np.ndarray, known: Mapping[str, int], classes: Sequence[str] | None, other: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Positions in the classes used, and their names; ``other`` names the class of all other labels."""
    for name in classes or ():
        if name not in known and name != other:
            raise OptionError(unknown("class", name, known), option="classes")
    names = tuple(classes or known)
    if other not in (None, DROP, *names):
        names = (*names, str(other))
    number = renumber(values, known, names)
    if other not in (None, DROP):
        number[number == NO_CLASS] = names.index(str(other))
    return number, names


def _described(variable: xr.DataArray) -> dict[str, Any]:
    return {name: variable.attrs[name] for name in ("units", "standard_name", "long_name") if name in variable.attrs}


def _inputs_attrs(stack: Stack) -> dict[str, Any]:
    attrs = {"long_name": "network inputs", "units": "1", "comment": "scaled and filled, as the network sees them"}
    if "grid_mapping" in stack.variables[0].attrs:
        attrs["grid_mapping"] = stack.variables[0].attrs["grid_mapping"]
    return attrs
