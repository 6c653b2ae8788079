"""How far a run is: a bar on a terminal, a log line a minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("geoxai.pipeline")

# Called with a stage, its units done and all its units.
Report = Callable[[str, int, int], None]

_EVERY_SECONDS = 60.0


@contextmanager
def progress() -> Iterator[Report]:
    """Progress shown the way the surroundings allow."""
    if sys.stderr is not None and sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield lines(time.monotonic)


@contextmanager
def _bars() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def lines(clock: Callable[[], float]) -> Report:
    """A log line when a stage ends, and one a minute before that, with the time that remains at this pace."""
    started: dict[str, tuple[float, int]] = {}
    said: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = clock()
        begun, done_before = started.setdefault(stage, (now, done))
        if done < total and now - said.setdefault(stage, now) < _EVERY_SECONDS:
            return
        said[stage] = now
        fresh = done - done_before
        left = f", about {_duration((now - begun) / fresh * (total - done))} left" if fresh and done < total else ""
        log.info("%s: %d of %d units%s", stage, done, total, left)

    return report


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
