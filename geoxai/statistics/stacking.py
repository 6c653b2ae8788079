"""Fields of several datasets as one stack: variables become channels on one grid and one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from geoxai.errors import InputError, OptionError
from geoxai.grid.coordinates import grid_difference, spatial_dims
from geoxai.grid.steps import ATTRIBUTE, time_step
from geoxai.grid.time import match_times, time_text

READ_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Join:
    """How many times each side of a join had, and how many they have in common."""

    left: str
    right: str
    sizes: tuple[int, int]
    common: int

    def __str__(self) -> str:
        dropped = [size - self.common for size in self.sizes]
        sides = [
            f"{n} of {size} times of {name}" for n, size, name in zip(dropped, self.sizes, (self.left, self.right))
        ]
        return f"{self.left} and {self.right} have {self.common} times in common; left out: {' and '.join(sides)}"

    @property
    def dropped(self) -> bool:
        """Whether times were left out on either side."""
        return any(size > self.common for size in self.sizes)


@dataclass(frozen=True)
class Stack:
    """Variables ``(time, row, column)`` of one grid, and for each the positions of the times that all have.

    ``time`` (dim ``sample``) holds the dates of the first dataset, and its attribute ``step`` how far they are
    apart there.
    """

    names: tuple[str, ...]
    variables: tuple[xr.DataArray, ...]
    positions: np.ndarray  # (channel, sample)
    time: xr.DataArray
    joins: tuple[Join, ...] = ()

    def take(self, which: np.ndarray) -> Stack:
        """The samples of a mask or of positions."""
        return replace(self, positions=self.positions[:, which], time=self.time[which])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Fields ``(sample, channel, row, column)`` of a range of samples, in the dtype of the data."""
        fields = [v.isel(time=p[start:stop]).values for v, p in zip(self.variables, self.positions)]
        return np.stack(fields, axis=1)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All fields in blocks of about 64 MiB, each with the number of its first sample."""
        cells = sum(v[0].size for v in self.variables)
        size = max(1, READ_BYTES // (8 * cells))
        for start in range(0, self.time.size, size):
            yield start, self.read(start, start + size)

    @property
    def grid(self) -> xr.DataArray:
        """The first variable without time: the dims and horizontal coordinates of every channel."""
        first = self.variables[0].isel(time=0, drop=True)
        keep = [name for name, c in first.coords.items() if set(c.dims) <= set(first.dims)]
        return first.reset_coords(drop=True).assign_coords({name: first[name].compute() for name in keep})


def stack_fields(datasets: Sequence[xr.Dataset], names: Sequence[str], option: str = "inputs") -> Stack:
    """The variables over time of several datasets, at the times that all of them have.

    Parameters
    ----------
    datasets, names
        Grids ``(time, lat, lon)`` or ``(time, y, x)``, and what to call each in messages. If two of them have
        variables of the same name, the channels are called ``name.variable``.
    option
        The option to blame if they do not fit together.

    Raises
    ------
    OptionError
        No variable over time, dims beyond time and two horizontal ones, grids that differ, no common time.
    InputError
        A time axis out of order.
    """
    channels: list[tuple[str, str, xr.DataArray]] = []
    for name, dataset in zip(names, datasets):
        found = _fields(name, dataset, option)
        channels += [(name, variable, dataset[variable]) for variable in found]
    _require_one_grid(channels, option)
    first = channels[0][2]["time"]
    places = [match_times(first, variable["time"]) for _, _, variable in channels]
    common = np.all([place >= 0 for place in places], axis=0)
    if not common.any():
        raise OptionError(f"{' and '.join(dict.fromkeys(names))} have no time in common", option=option)
    own = {name: place for (name, _, _), place in zip(channels, places)}  # the variables of a dataset share its times
    joins = [
        Join(channels[0][0], name, (first.size, dataset["time"].size), int((own[name] >= 0).sum()))
        for name, dataset in list(zip(names, datasets))[1:]
    ]
    variables = [variable for _, variable, _ in channels]
    return Stack(
        names=tuple(v if variables.count(v) == 1 else f"{n}.{v}" for n, v, _ in channels),
        variables=tuple(array.transpose("time", *spatial_dims(array)) for _, _, array in channels),
        positions=np.stack([place[common] for place in places]),
        time=xr.DataArray(first.values[common], dims="sample", attrs=first.attrs | _step_of(first)),
        joins=tuple(joins),
    )


def _step_of(time: xr.DataArray) -> dict[str, str]:
    """The attribute that gives samples the step of the record they are taken from."""
    step = time_step(time)
    return {} if step is None else {ATTRIBUTE: str(step)}


def refuse_empty(stack: Stack, start: int, fields: np.ndarray) -> None:
    """Refuse, naming variable and time, a field (from ``Stack.blocks``) in which every cell is missing."""
    empty = ~np.isfinite(fields).any(axis=(2, 3))
    if empty.any():
        sample, channel = np.argwhere(empty)[0]
        raise InputError(
            f"{stack.names[channel]} has no value at all at {time_text(stack.time.values[start + sample])}",
            fix="remove this time from the file, or leave its year out of the split",
        )


def never(stack: Stack) -> np.ndarray:
    """Cells ``(channel, row, column)`` that never have data; refuses a field in which every cell is missing."""
    found = np.zeros((len(stack.names), *stack.grid.shape), dtype=bool)
    for start, fields in stack.blocks():
        refuse_empty(stack, start, fields)
        found |= np.isfinite(fields).any(axis=0)
    return ~found


def check_gaps(stack: Stack, empty: np.ndarray, missing: str) -> None:
    """Refuse missing values that the option ``missing`` of ``samples`` does not allow; ``empty`` as ``never`` gives."""
    if missing == "refuse":
        _refuse_gaps(stack, None, "allow it with missing: constant, or fill these cells first")
    elif missing == "constant":
        _refuse_gaps(stack, empty, "allow it with missing: varying, or fill or mask these cells first")


def _refuse_gaps(stack: Stack, land: np.ndarray | None, fix: str) -> None:
    """Refuse, naming variable and first time, missing values outside ``land`` (channel, row, column)."""
    for start, fields in stack.blocks():
        gaps = ~np.isfinite(fields) & (True if land is None else ~land)
        if gaps.any():
            sample, channel = np.argwhere(gaps.any(axis=(2, 3)))[0]
            where = "" if land is None else " in cells that have data at other times"
            raise InputError(
                f"{stack.names[channel]} has {gaps[sample, channel].sum()} missing values at "
                f"{time_text(stack.time.values[start + sample])}{where}",
                fix=fix,
            )


def _fields(name: str, dataset: xr.Dataset, option: str) -> list[str]:
    if "time" not in dataset.dims:
        raise OptionError(f"{name} has no time; its dims are {', '.join(map(str, dataset.sizes))}", option=option)
    horizontal = spatial_dims(dataset)
    found = [str(v) for v, array in dataset.data_vars.items() if {"time", *horizontal} <= set(array.dims)]
    if not found:
        raise OptionError(f"{name} has no variable over time and {' and '.join(map(str, horizontal))}", option=option)
    for variable in found:
        extra = set(dataset[variable].dims) - {"time", *horizontal}
        if extra:
            raise OptionError(
                f"{variable} of {name} has the dim {sorted(map(str, extra))[0]!r} besides time and {horizontal[0]}, "
                f"{horizontal[1]}",
                fix="select one index of it first",
                option=option,
            )
    _require_order(name, dataset["time"].values, option)
    return found


def _require_order(name: str, times: np.ndarray, option: str) -> None:
    if times.size == 0:
        raise OptionError(f"{name} has no times", option=option)
    back = np.flatnonzero(times[1:] <= times[:-1])
    if back.size:
        raise InputError(
            f"the times of {name} are out of order: {time_text(times[back[0]])} is followed by "
            f"{time_text(times[back[0] + 1])}",
            fix="sort the file along time and remove duplicate times",
        )


def _require_one_grid(channels: Sequence[tuple[str, str, xr.DataArray]], option: str) -> None:
    name, variable, first = channels[0]
    for other, its, array in channels[1:]:
        difference = grid_difference(first, array)
        if difference:
            raise OptionError(
                f"{variable} of {name} and {its} of {other} are on different grids: {difference}",
                fix="bring them to one grid first, with the same latitude direction and longitude convention",
                option=option,
            )
