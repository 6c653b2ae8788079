"""What files say about the origin of their numbers, and whether they may be joined to one series.

The attributes are those of CMIP5 (model_id, experiment_id, realization, ...) and CMIP6 (source_id, variant_label,
grid_label, ...); other files may have some of them, or only ``source`` and ``case``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import xarray as xr

from geoxai.errors import InputError

ASPECTS = ("model", "experiment", "variant", "grid", "table", "frequency")
_ATTRIBUTES = {
    "model": ("source_id", "model_id", "source"),
    "experiment": ("experiment_id", "experiment"),
    "grid": ("grid_label",),
    "frequency": ("frequency",),
}
_VARIANT = (("r", "realization"), ("i", "initialization_method"), ("p", "physics_version"))
_VARIANT_NAMES = ("variant_label", "member_id", "case")


def origin(attrs: Mapping[Any, Any]) -> dict[str, tuple[str, str]]:
    """Aspects of origin that the global attributes of a file state: the attribute and its value."""
    found = {}
    for aspect, names in _ATTRIBUTES.items():
        for name in names:
            if _stated(attrs.get(name)):
                found[aspect] = name, " ".join(str(attrs[name]).split())
                break
    variant = next((name for name in _VARIANT_NAMES if _stated(attrs.get(name))), None)
    if variant is not None:
        found["variant"] = variant, str(attrs[variant]).strip()
    elif _stated(attrs.get("realization")):
        found["variant"] = (
            "realization",
            "".join(f"{k}{attrs[name]}" for k, name in _VARIANT if _stated(attrs.get(name))),
        )
    if _stated(attrs.get("table_id")):
        # CMIP5 writes "Table Amon (12 November 2010) 6e53...": the date of the table does not count
        words = str(attrs["table_id"]).split()
        found["table"] = "table_id", words[1] if words[0] == "Table" and len(words) > 1 else words[0]
    return found


def _stated(value: Any) -> bool:
    return value is not None and str(value).strip().lower() not in ("", "none", "not specified", "unknown", "n/a")


def check_origin(files: Sequence[tuple[Path, xr.Dataset]], join: Sequence[str] = ()) -> None:
    """Refuse files that would follow each other in time but state different origins.

    Parameters
    ----------
    files
        Each with its dataset, which has ``time``.
    join
        Which of ``ASPECTS`` may differ. If the experiment may, each must be the parent of the next if stated.

    What a file does not state is not compared, nor are attributes with different meanings (``source_id`` with
    ``source``).
    """
    first: dict[str, tuple[str, str, Path]] = {}
    for path, data in files:
        differing = {}
        for aspect, (attribute, value) in origin(data.attrs).items():
            before = first.setdefault(aspect, (attribute, value, path))
            if aspect not in join and before[1] != value and _comparable(before[0], attribute):
                differing[aspect] = before, attribute, value
        if differing:
            raise _refused(path, differing)
    if "experiment" in join:
        _check_parents(sorted(files, key=lambda file: file[1]["time"].values[0]))


def _refused(path: Path, differing: Mapping[str, tuple[tuple[str, str, Path], str, str]]) -> InputError:
    (_, _, other), *_ = next(iter(differing.values()))
    stated = ", ".join(f"{attribute} is {before[1]!r} and {value!r}" for before, attribute, value in differing.values())
    return InputError(
        f"{other} and {path} are of different origin and would become one series: {stated}",
        fix=f"narrow the path to one of them, or allow it with join: [{', '.join(differing)}]",
    )


def _comparable(one: str, other: str) -> bool:
    """Whether two attributes mean the same: the name of a model in CMIP5 and CMIP6, but not its description."""
    return one == other or {one, other} <= {"source_id", "model_id"} or {one, other} <= {"variant_label", "member_id"}


def _check_parents(files: Sequence[tuple[Path, xr.Dataset]]) -> None:
    """Refuse a change of experiment in time if the later one says that it continues a different one."""
    for (before, earlier), (path, later) in pairwise(files):
        (_, have), (_, experiment) = (origin(data.attrs).get("experiment", ("", "")) for data in (earlier, later))
        parent = later.attrs.get("parent_experiment_id")
        if have == experiment or not have or not _stated(parent) or str(parent).strip() == have:
            continue
        raise InputError(
            f"{path} does not continue {before}: its parent_experiment_id is {parent!r}, but that file is of {have!r}",
            fix=f"join {experiment} with {parent} only",
        )
