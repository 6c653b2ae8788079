"""Charts of a report as plain HTML boxes and lines: readable without scripts, on a phone and on paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from geoxai.plotting.tables import show

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c8c8c"


@dataclass(frozen=True)
class Row:
    """One line of a comparison, places in percent of the axis: a bar to ``mean``, a line over the spread, a dot for
    each member, and a tick where ``reference`` is; ``text`` says the same in numbers.
    """

    label: str
    mean: float
    spread: tuple[float, float] | None
    dots: tuple[float, ...]
    reference: float | None
    text: str
    color: str


@dataclass(frozen=True)
class Comparison:
    """Numbers, one below the other, on one axis."""

    kind: ClassVar[str] = "comparison"
    title: str
    rows: tuple[Row, ...]
    low: str
    high: str
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar, places in percent of the axis."""

    name: str
    color: str
    left: float
    width: float


@dataclass(frozen=True)
class Stack:
    """One stacked bar with its numbers in words."""

    label: str
    parts: tuple[Part, ...]
    text: str


@dataclass(frozen=True)
class Stacks:
    """Stacked bars on one axis; ``zero`` is the position of 0 and ``whole`` that of 1, in percent."""

    kind: ClassVar[str] = "stacks"
    title: str
    legend: tuple[tuple[str, str], ...]
    bars: tuple[Stack, ...]
    zero: float
    whole: float
    note: str = ""


@dataclass(frozen=True)
class Curves:
    """Lines of one colour: points in SVG notation in a box of 100 by 30, and their last values in words."""

    name: str
    color: str
    lines: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class LineChart:
    """Groups of curves over steps 1 to ``length`` on one axis, from ``low`` to ``high``."""

    kind: ClassVar[str] = "lines"
    title: str
    groups: tuple[Curves, ...]
    length: int
    low: str
    high: str
    note: str = ""


def comparison(
    title: str,
    rows: Sequence[tuple[str, Sequence[float], float | None, str]],
    *,
    percent: bool,
    units: str = "",
    note: str = "",
) -> Comparison:
    """A comparison of (label, values of the members, reference, colour), the axis from 0 to the largest number.

    Fractions are shown in ``percent`` and their axis ends at 100 % if they come near it.
    """
    everything = [v for _, values, reference, _ in rows for v in (*values, *((reference,) if reference else ()))]
    top = max(everything, default=1.0) or 1.0
    top = 1.0 if percent and 0.5 < top <= 1 else _round_up(top)
    found = []
    for label, values, reference, color in rows:
        mean = sum(values) / len(values)
        low, high = min(values), max(values)
        text = _number(mean, percent, units)
        if len(values) > 1:
            text += f" ({_number(low, percent)} to {_number(high, percent)})"
        if reference is not None:
            text += f"; area {_number(reference, percent)}"
        spread = (_place(low, top), _place(high, top)) if len(values) > 1 else None
        dots = tuple(_place(v, top) for v in values) if len(values) > 1 else ()
        at = None if reference is None else _place(reference, top)
        found.append(Row(label, _place(mean, top), spread, dots, at, text, color))
    return Comparison(title, tuple(found), "0", _number(top, percent, units), note)


def stacks(
    title: str,
    bars: Sequence[tuple[str, Mapping[str, float]]],
    colors: Mapping[str, str],
    note: str = "",
) -> Stacks:
    """Stacked bars of (label, share of each part); negative parts go to the left of 0."""
    low = min((sum(v for v in parts.values() if v < 0) for _, parts in bars), default=0.0)
    high = max((sum(v for v in parts.values() if v > 0) for _, parts in bars), default=1.0)
    low, high = min(low, 0.0), max(high, 1.0)
    width = high - low

    def place(value: float) -> float:
        return round(100 * (value - low) / width, 2)

    found = []
    for label, parts in bars:
        right, left, pieces = 0.0, 0.0, []
        for name, value in parts.items():
            start = right if value >= 0 else left + value
            pieces.append(Part(name, colors[name], place(start), round(100 * abs(value) / width, 2)))
            right, left = right + max(value, 0.0), left + min(value, 0.0)
        text = ", ".join(f"{name} {_number(value, True)}" for name, value in parts.items())
        found.append(Stack(label, tuple(pieces), text))
    legend = tuple((name, colors[name]) for name in colors if any(name in parts for _, parts in bars))
    return Stacks(title, legend, tuple(found), place(0.0), place(1.0), note)


def line_chart(title: str, groups: Mapping[str, Sequence[Sequence[float]]], colors: Sequence[str]) -> LineChart | None:
    """Curves in named groups; logarithmic if values span more than two orders of magnitude. None without values."""
    values = [v for lines in groups.values() for line in lines for v in line if math.isfinite(v)]
    if not values:
        return None
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > 100 * low
    scale = math.log if logarithmic else float
    bottom, span = scale(low), (scale(high) - scale(low)) or 1.0
    longest = max(len(line) for lines in groups.values() for line in lines)
    found = []
    for (name, lines), color in zip(groups.items(), colors):
        drawn, last = [], []
        for line in lines:
            kept = [(i, v) for i, v in enumerate(line) if math.isfinite(v)]
            if kept:
                last.append(kept[-1][1])
                drawn.append(
                    " ".join(
                        f"{100 * i / max(longest - 1, 1):.2f},{30 - 30 * (scale(v) - bottom) / span:.2f}"
                        for i, v in kept
                    )
                )
        if drawn:
            ends = show(min(last)) if len(last) == 1 else f"{show(min(last))} to {show(max(last))}"
            found.append(Curves(name, color, tuple(drawn), f"last {ends}"))
    title = f"{title}, logarithmic axis" if logarithmic else title
    return LineChart(title, tuple(found), longest, show(float(low)), show(float(high)))


def _place(value: float, top: float) -> float:
    return round(min(max(100 * value / top, 0.0), 100.0), 2)


def _round_up(value: float) -> float:
    step = 10.0 ** math.floor(math.log10(value))
    return next(step * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * factor >= value * (1 - 1e-9))


def _number(value: float, percent: bool, units: str = "") -> str:
    if not percent:
        return f"{show(float(value))}{f' {units}' if units else ''}"
    share = 100 * value
    digits = 0 if abs(share) >= 99.95 or share == 0 else 1
    return f"{share:.{digits}f} %".replace("-", "\N{MINUS SIGN}")
