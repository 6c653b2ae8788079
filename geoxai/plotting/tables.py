"""Tables and curves from a JSON summary of any structure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from geoxai.grid.places import words

_CURVE_FROM = 9  # numbers: shorter lists are written out
_WIDE = 7  # columns: a wider table is transposed if that makes it narrower
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True)
class Table:
    """Rows under a header; without a header the first column names the second."""

    kind: ClassVar[str] = "table"
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its name, its colour, its points in SVG notation, and its last and smallest values."""

    name: str
    color: str
    points: str
    last: str
    lowest: str


@dataclass(frozen=True)
class Chart:
    """Series of numbers against their position in the list, on one vertical scale."""

    kind: ClassVar[str] = "chart"
    title: str
    curves: tuple[Curve, ...]
    length: int
    low: str
    high: str


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    kind: ClassVar[str] = "section"
    title: str
    blocks: tuple[Block, ...]


Block = Table | Chart | Section


def blocks_of(summary: Mapping[str, Any], title: str = "") -> tuple[Block, ...]:
    """Lay out a nested mapping: scalars as one table, similar mappings side by side, long series as curves.

    A list ``networks`` and a mapping ``baselines`` become one table: every score is shown beside those of simpler
    models. A number ``networks`` says that lists of that many numbers are over networks: they are shown as their
    mean and range.
    """
    if type(networks := summary.get("networks")) is int and networks > 1:
        told = {"networks": f"{networks}; numbers are means over them, with lowest and highest"}
        return blocks_of(
            {key: told.get(key) or over_networks(value, networks) for key, value in summary.items()}, title
        )
    if isinstance(summary.get("networks"), list) and isinstance(summary.get("baselines"), Mapping):
        rest = {key: value for key, value in summary.items() if key not in ("networks", "baselines")}
        return (*blocks_of(rest, title), _beside_baselines(summary["networks"], summary["baselines"]))
    plain = {str(key): value for key, value in summary.items() if _is_plain(value)}
    found: list[Block] = []
    if plain:
        found.append(Table(title, (), tuple((words(key), show(value)) for key, value in plain.items())))
    for key, value in summary.items():
        if key not in plain:
            found.append(_block(words(str(key)), value))
    return tuple(found)


def show(value: Any) -> str:
    """A value as text: four significant digits, an en dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}")
    if isinstance(value, Mapping):
        return ", ".join(f"{words(str(key))} {show(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(show(item) for item in value)
    return str(value)


def over_networks(value: Any, networks: int, key: str = "") -> Any:
    """A summary in which every list of ``networks`` numbers is text: their mean and range, or the one number of all.

    The mean of longitudes is taken on the circle.
    """
    if isinstance(value, Mapping):
        return {name: over_networks(item, networks, str(name)) for name, item in value.items()}
    if not isinstance(value, list) or len(value) != networks or not all(map(_is_number, value)):
        return value
    known = [item for item in value if item is not None]
    if not known or (len(set(known)) == 1 and len(known) == networks):
        return known[0] if known else None
    west = 0 if min(known) >= 0 else -180
    if "longitude" in key:
        known = [known[0] + (item - known[0] + 180) % 360 - 180 for item in known]
    told = [sum(known) / len(known), min(known), max(known)]
    if "longitude" in key:
        told = [(item - west) % 360 + west for item in told]
    missing = "" if len(known) == networks else f", {networks - len(known)} without"
    mean, lowest, highest = map(show, told)
    return f"{mean} ({lowest} to {highest}{missing})"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _block(title: str, value: Any) -> Block:
    if isinstance(value, Mapping):
        if value and all(_is_series(item) for item in value.values()):
            return _chart(title, {words(str(key)): item for key, item in value.items()})
        if len(value) > 1 and all(_is_record(item) for item in value.values()):
            return _side_by_side(title, [words(str(key)) for key in value], list(value.values()))
        if value and all(isinstance(item, Mapping) for item in value.values()) and _turnable(value):
            return _side_by_side(title, [words(str(key)) for key in value], list(value.values()))
        inner = blocks_of(value)
        if len(inner) == 1 and isinstance(inner[0], Table) and not inner[0].title:
            return Table(title, inner[0].header, inner[0].rows)
        return Section(title, inner)
    if _is_series(value):
        return _chart(title, {title: value})
    if all(isinstance(item, Mapping) for item in value):
        return _side_by_side(title, [str(number) for number in range(1, len(value) + 1)], list(value))
    if all(_is_series(item) for item in value):
        return _chart(title, {str(number): item for number, item in enumerate(value, 1)})
    return Table(title, (), tuple((str(number), show(item)) for number, item in enumerate(value, 1)))


def _beside_baselines(networks: list[Mapping[str, Any]], baselines: Mapping[str, Mapping[str, Any]]) -> Table:
    names = ["network"] if len(networks) == 1 else [f"network {number}" for number in range(len(networks))]
    columns = dict(zip(names, networks)) | {words(name): record for name, record in baselines.items()}
    return _side_by_side("networks and simpler models", list(columns), list(columns.values()))


def _side_by_side(title: str, names: list[str], records: list[Mapping[str, Any]]) -> Table:
    """One row per record, or one column per record if the rows would be long."""
    flat = [dict(_leaves(record)) for record in records]
    keys = list(dict.fromkeys(key for record in flat for key in record))
    if len(keys) > _WIDE and len(names) < len(keys):
        rows = tuple((key, *(show(record.get(key)) for record in flat)) for key in keys)
        return Table(title, ("", *names), rows)
    return Table(title, ("", *keys), tuple((n, *(show(r.get(k)) for k in keys)) for n, r in zip(names, flat)))


def _leaves(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        name = f"{before}{words(str(key))}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}: ")
        else:
            yield name, value


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return False
    if isinstance(value, Sequence) and not isinstance(value, str):
        return len(value) < _CURVE_FROM and not any(isinstance(item, Mapping | list | tuple) for item in value)
    return True


def _is_series(value: Any) -> bool:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence) or len(value) < _CURVE_FROM:
        return False
    return all(map(_is_number, value))


def _is_record(value: Any) -> bool:
    """A mapping of plain values, one of which may itself be a mapping of plain values."""
    if not isinstance(value, Mapping):
        return False
    inner = [item for item in value.values() if not _is_plain(item)]
    return all(isinstance(item, Mapping) and all(map(_is_plain, item.values())) for item in inner) and len(inner) < 2


def _turnable(value: Mapping[str, Any]) -> bool:
    """Whether several mappings have the same plain leaves, so that they can be compared line by line at any depth."""
    leaves = [dict(_leaves(item)) for item in value.values()]
    alike = len(leaves) > 1 and len(set(leaves[0]).intersection(*leaves[1:])) >= 2
    return alike and all(_is_plain(item) for record in leaves for item in record.values()) and not _has_tables(value)


def _has_tables(value: Mapping[str, Any]) -> bool:
    """Whether a mapping inside holds two or more similar records, which are better shown as a table of their own."""
    for item in value.values():
        for part in item.values():
            if isinstance(part, Mapping):
                records = [p for p in part.values() if isinstance(p, Mapping)]
                if len(records) > 1 and all(set(r) == set(records[0]) for r in records):
                    return True
    return False


def _chart(title: str, series: Mapping[str, Sequence[float | None]]) -> Chart:
    """Curves in a box of 100 by 30, logarithmic if values span more than two orders of magnitude."""
    values = [v for line in series.values() for v in line if v is not None and math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    logarithmic = low > 0 and high > 100 * low
    scale = math.log if logarithmic else float
    bottom, span = scale(low), (scale(high) - scale(low)) or 1.0
    longest = max(len(line) for line in series.values())
    curves = []
    for number, (name, line) in enumerate(series.items()):
        kept = [(i, v) for i, v in enumerate(line) if v is not None and math.isfinite(v)]
        points = " ".join(f"{100 * i / (longest - 1):.2f},{30 - 30 * (scale(v) - bottom) / span:.2f}" for i, v in kept)
        last, lowest = (show(float(kept[-1][1])), show(float(min(v for _, v in kept)))) if kept else ("–", "–")
        curves.append(Curve(name, _COLORS[number % len(_COLORS)], points, last, lowest))
    note = f"{title}, logarithmic" if logarithmic else title
    return Chart(note, tuple(curves), longest, show(float(low)), show(float(high)))
