"""How far a run is: log lines, one a minute, and on a terminal bars as well.

The lines are the same with bars and without, so that ``run.log`` is; the console shows them where there are no bars.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

log = logging.getLogger("geoxai.pipeline")

_EVERY_SECONDS = 60.0


class Progress(Protocol):
    """What is said of the progress of a run. Calls may come from several threads, and late."""

    def units(self, stage: str, done: int, total: int) -> None:
        """Units of a stage that are done, of all its units."""

    def inside(self, stage: str, unit: int, done: int, total: int, note: str) -> None:
        """How far one unit is, in steps of its own, and what it says of that."""

    def ended(self, stage: str, unit: int) -> None:
        """A unit is no longer computed."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress shown the way the surroundings allow."""
    lines = Lines(time.monotonic)
    if sys.stderr is not None and sys.stderr.isatty():
        with _bars() as bars:
            yield _Both(lines, bars)
    else:
        yield lines


class Lines:
    """A log line when a stage ends, and one a minute before that, with the time that remains at this pace."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._started: dict[str | tuple[str, int], tuple[float, int]] = {}
        self._said: dict[str, float] = {}
        self._several: dict[str, bool] = {}

    def units(self, stage: str, done: int, total: int) -> None:
        self._several[stage] = total > 1
        left = self._left(stage, done, total)
        if done == total or self._is_time(stage):
            self._said[stage] = self._clock()
            log.info("%s: %d of %d units%s", stage, done, total, left)

    def inside(self, stage: str, unit: int, done: int, total: int, note: str) -> None:
        left = self._left((stage, unit), done, total)
        if self._is_time(stage):
            self._said[stage] = self._clock()
            which = f"{stage}, unit {unit}" if self._several.get(stage) else stage
            log.info("%s: %s%s", which, note, left)

    def ended(self, stage: str, unit: int) -> None:
        self._started.pop((stage, unit), None)

    def _is_time(self, stage: str) -> bool:
        now = self._clock()
        return now - self._said.setdefault(stage, now) >= _EVERY_SECONDS

    def _left(self, what: str | tuple[str, int], done: int, total: int) -> str:
        """The time that remains, where the pace is known."""
        now = self._clock()
        begun, done_before = self._started.setdefault(what, (now, done))
        fresh = done - done_before
        seconds = (now - begun) / fresh * (total - done) if fresh > 0 else 0.0
        return f", about {duration(seconds)} left" if fresh > 0 and done < total else ""


class _Bars:
    """A bar for every stage, and below them one for every unit that says how far it is."""

    def __init__(self, shown: Any):
        self._shown = shown
        self._stages: dict[str, Any] = {}
        self._units: dict[tuple[str, int], Any] = {}
        self._ended: set[tuple[str, int]] = set()

    def units(self, stage: str, done: int, total: int) -> None:
        if stage not in self._stages:
            self._stages[stage] = self._shown.add_task(stage, total=total)
            self._ended = {one for one in self._ended if one[0] != stage}
        self._shown.update(self._stages[stage], completed=done, total=total)

    def inside(self, stage: str, unit: int, done: int, total: int, note: str) -> None:
        if (stage, unit) in self._ended:  # said by a worker before its last word, and heard after that
            return
        if (stage, unit) not in self._units:
            self._units[stage, unit] = self._shown.add_task("", total=total)
        self._shown.update(self._units[stage, unit], completed=done, description=f"  {unit}: {note}")

    def ended(self, stage: str, unit: int) -> None:
        self._ended.add((stage, unit))
        if (task := self._units.pop((stage, unit), None)) is not None:
            self._shown.remove_task(task)


class _Both:
    def __init__(self, *each: Progress):
        self._each = each

    def units(self, stage: str, done: int, total: int) -> None:
        for one in self._each:
            one.units(stage, done, total)

    def inside(self, stage: str, unit: int, done: int, total: int, note: str) -> None:
        for one in self._each:
            one.inside(stage, unit, done, total, note)

    def ended(self, stage: str, unit: int) -> None:
        for one in self._each:
            one.ended(stage, unit)


@contextmanager
def _bars() -> Iterator[_Bars]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Shown

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Shown(*columns, console=Console(stderr=True)) as shown:
        yield _Bars(shown)


def duration(seconds: float) -> str:
    """A time in words, to the second below a minute and to the minute above."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
