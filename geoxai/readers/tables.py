"""Text tables: NOAA's ENSO indices as published, and CSV tables of labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from geoxai.errors import InputError, OptionError
from geoxai.grid.time import parse_date, time_text
from geoxai.names import unknown
from geoxai.readers.fields import explain_read_error

SEASONS = ("DJF", "JFM", "FMA", "MAM", "AMJ", "MJJ", "JJA", "JAS", "ASO", "SON", "OND", "NDJ")
INDEX_FORMATS = ("oni", "nino34_long")
_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?([eE][-+]?\d+)?$")
_MISSING_BELOW = -99.0
_TIME_NAMES = ("time", "date", "month", "year_month", "yearmonth")
_CLASS_NAMES = ("class", "label", "category", "phase")
_VALUE_NAMES = ("value", "index", "target")
_BLANK = ("", "nan", "na", "none", "null", "-")


def read_index_table(path: Path, kind: str = "auto") -> xr.DataArray:
    """A published monthly index as ``value(time)``, float64 in degC, time the first day of the month.

    ``kind``: ``oni`` (see ``read_oni``), ``nino34_long`` (see ``read_nino34_long``), or ``auto`` by the first line.
    """
    lines = _lines(path)
    if kind == "auto":
        kind = "oni" if lines[0][1].upper().split()[:2] == ["SEAS", "YR"] else "nino34_long"
    return read_oni(path) if kind == "oni" else read_nino34_long(path)


def read_oni(path: Path) -> xr.DataArray:
    """NOAA CPC's ``oni.ascii.txt``: columns SEAS YR TOTAL ANOM, a row per overlapping three-month season.

    The value (ANOM) belongs to the middle month of its season: DJF 1998 to January 1998. Raises ``InputError`` naming
    the line that is not such a row.
    """
    months, values = [], []
    for number, text in _lines(path):
        words = text.split()
        if words[0].upper() == "SEAS":
            continue
        if len(words) != 4 or words[0].upper() not in SEASONS or not all(_NUMBER.match(word) for word in words[1:]):
            raise InputError(f"{path}, line {number}: expected a row 'SEAS YR TOTAL ANOM', found {text.strip()!r}")
        months.append(12 * int(words[1]) + SEASONS.index(words[0].upper()))
        values.append(float(words[3]))
    return _monthly(path, months, values, "Oceanic Nino Index", "NOAA CPC, oni.ascii.txt")


def read_nino34_long(path: Path) -> xr.DataArray:
    """NOAA PSL's ``nino34.long`` tables: a row per year with twelve months, missing -99.99.

    A first line of two years and closing lines of text, as PSL publishes, are skipped. Missing months at either end
    are left out, others are NaN. Raises ``InputError`` naming a line with another number of months.
    """
    months: list[int] = []
    values: list[float] = []
    for number, text in _lines(path):
        words = text.split()
        if not re.fullmatch(r"\d{4}", words[0]) or len(words) == 2:
            continue
        if len(words) != 13 or not all(_NUMBER.match(word) for word in words):
            raise InputError(f"{path}, line {number}: expected a year and twelve numbers, found {len(words)} columns")
        months.extend(12 * int(words[0]) + month for month in range(12))
        values.extend(float(word) if float(word) > _MISSING_BELOW else np.nan for word in words[1:])
    table = _monthly(path, months, values, "Nino 3.4 SST anomaly", "NOAA PSL, nino34.long")
    there = np.flatnonzero(table.notnull().values)
    if not there.size:
        raise InputError(f"{path}: every month is missing")
    return table.isel(time=slice(int(there[0]), int(there[-1]) + 1))


def _monthly(path: Path, months: Sequence[int], values: Sequence[float], title: str, source: str) -> xr.DataArray:
    if not months:
        raise InputError(f"{path} has no row of the expected table ({source})", fix="check the path and the format")
    steps = np.diff(months)
    if (steps <= 0).any():
        first = int(np.argmax(steps <= 0)) + 1
        raise InputError(f"{path}: row {first + 1} ({_month_text(months[first])}) is not later than the row before it")
    time = (np.array(months) - 12 * 1970).astype("datetime64[M]").astype("datetime64[ns]")
    attrs = {"units": "degC", "long_name": title, "source": source}
    return xr.DataArray(
        np.array(values), {"time": ("time", time, {"standard_name": "time"})}, ("time",), "value", attrs
    )


def _month_text(month: int) -> str:
    return f"{month // 12}-{month % 12 + 1:02d}"


def _lines(path: Path) -> list[tuple[int, str]]:
    """Line numbers and lines, without blank lines and comments."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file ({error.reason})", fix="give the table as plain text") from None
    except OSError as error:
        raise explain_read_error(path, None, error) from error
    lines = [
        (i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise InputError(f"{path} is empty")
    return lines


@dataclass(frozen=True)
class LabelTable:
    """Rows of a label table: ``keys`` are times (datetime64) or sample numbers; the others are None if not given."""

    dim: str
    keys: np.ndarray
    classes: tuple[str | None, ...] | None
    values: np.ndarray | None


def read_label_table(
    path: Path,
    *,
    time: str | None = None,
    sample: str | None = None,
    class_: str | None = None,
    value: str | None = None,
) -> LabelTable:
    """A CSV table with a header: a column of times or samples, and one of classes, of values, or both.

    Parameters
    ----------
    path
        Separated by commas, semicolons or tabs; lines that begin with ``#`` are skipped. Blank cells mean no label.
    time, sample, class_, value
        Names of the columns; where omitted, columns called time, date or month, else year and month, else sample;
        class or label; value or index.

    Times are written YYYY-MM or YYYY-MM-DD; a month means its first day. Rows are returned in order of time or
    sample. Raises ``InputError`` naming the line with a bad date or number or a repeated key, ``OptionError`` for a
    column that does not exist.
    """
    lines = _lines(path)
    separator = max(",;\t", key=lines[0][1].count)
    rows = list(csv.reader((text for _, text in lines), delimiter=separator, skipinitialspace=True))
    header = [name.strip() for name in rows[0]]
    for (number, _), row in zip(lines, rows):
        if len(row) != len(header):
            raise InputError(f"{path}, line {number}: {len(row)} columns, the header has {len(header)}")
    columns = {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(header)}
    numbers = [number for number, _ in lines[1:]]
    if not numbers:
        raise InputError(f"{path} has a header but no rows")

    dim, keys = _keys(path, columns, numbers, time, sample)
    class_name = _column(path, columns, class_, _CLASS_NAMES, "class")
    value_name = _column(path, columns, value, _VALUE_NAMES, "value")
    if class_name is None and value_name is None:
        raise InputError(
            f"{path} has neither a class nor a value column; its columns are {', '.join(header)}",
            fix="name the column with class: or value:",
        )
    order = np.argsort(keys, kind="stable")
    repeated = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if repeated.size:
        first, second = order[repeated[0]], order[repeated[0] + 1]
        which = time_text(keys[first]) if dim == "time" else keys[first]
        raise InputError(f"{path}: lines {numbers[first]} and {numbers[second]} are both for {dim} {which}")
    classes = values = None
    if class_name is not None:
        texts = columns[class_name]
        classes = tuple(None if texts[i].lower() in _BLANK else texts[i] for i in order)
    if value_name is not None:
        values = np.array([_number(path, n, text, value_name) for n, text in zip(numbers, columns[value_name])])[order]
    return LabelTable(dim, keys[order], classes, values)


def _column(
    path: Path, columns: dict[str, list[str]], given: str | None, usual: Sequence[str], option: str
) -> str | None:
    """The column asked for, or else the one with a common name."""
    if given is not None:
        if given not in columns:
            raise OptionError(f"{path}: {unknown('column', given, columns)}", option=option)
        return given
    return next((name for name in columns if name.lower() in usual), None)


def _keys(
    path: Path, columns: dict[str, list[str]], numbers: Sequence[int], time: str | None, sample: str | None
) -> tuple[str, np.ndarray]:
    lower = {name.lower(): name for name in columns}
    year_and_month = "year" in lower and "month" in lower and time is None
    time_name = None if year_and_month else _column(path, columns, time, _TIME_NAMES, "time")
    if sample is not None or (time_name is None and not year_and_month and "sample" in lower):
        name = _column(path, columns, sample, ("sample",), "sample")
        assert name is not None
        return "sample", np.array([int(_number(path, n, t, name, whole=True)) for n, t in zip(numbers, columns[name])])
    if year_and_month:
        texts = [f"{y}-{m}" for y, m in zip(columns[lower["year"]], columns[lower["month"]])]
    elif time_name is not None:
        texts = columns[time_name]
    else:
        raise InputError(
            f"{path} has no column of times or samples; its columns are {', '.join(columns)}",
            fix="name the column with time: or sample:",
        )
    return "time", np.array([_date(path, n, text) for n, text in zip(numbers, texts)], dtype="datetime64[ns]")


def _date(path: Path, number: int, text: str) -> np.datetime64:
    try:
        year, month, *rest = parse_date(text)
        day, hour, minute, second = (*rest, *(1, 0, 0, 0)[len(rest) :])
        return np.datetime64(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}", "ns")
    except (OptionError, ValueError):
        raise InputError(f"{path}, line {number}: {text!r} is not a date such as 1997-12 or 1997-12-01") from None


def _number(path: Path, number: int, text: str, column: str, *, whole: bool = False) -> float:
    if text.lower() in _BLANK and not whole:
        return np.nan
    try:
        result = float(text)
    except ValueError:
        result = np.nan
    if np.isnan(result) or (whole and result != int(result)):
        raise InputError(f"{path}, line {number}: {text!r} in column {column!r} is not a {'whole ' * whole}number")
    return result
