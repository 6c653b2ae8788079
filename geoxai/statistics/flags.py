"""Classes as CF flags: an integer variable with ``flag_values`` and ``flag_meanings``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

NO_CLASS = -1


def flag_attrs(classes: Sequence[str]) -> dict[str, Any]:
    """Attributes of a variable that holds the position of a class in ``classes``."""
    return {"flag_values": np.arange(len(classes), dtype=np.int16), "flag_meanings": " ".join(classes)}


def flag_classes(variable: xr.DataArray) -> dict[str, int]:
    """Class name to flag value; empty if the variable has no flags."""
    meanings = str(variable.attrs.get("flag_meanings", "")).split()
    values = np.atleast_1d(variable.attrs.get("flag_values", np.arange(len(meanings))))
    return {name: int(value) for name, value in zip(meanings, values)}


def renumber(values: np.ndarray, known: Mapping[str, int], classes: Sequence[str]) -> np.ndarray:
    """Flag values as positions in ``classes`` (int16), ``NO_CLASS`` for every other value."""
    result = np.full(np.shape(values), NO_CLASS, dtype=np.int16)
    for position, name in enumerate(classes):
        if name in known:
            result[np.asarray(values) == known[name]] = position
    return result
