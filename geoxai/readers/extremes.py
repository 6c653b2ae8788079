"""Implausible values: undeclared fill values, temperatures at or below absolute zero, isolated outliers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoxai.errors import InputError

log = logging.getLogger("geoxai.readers")

LARGEST = 1e15
"""Larger values are taken for fill values: 1e20 and NetCDF's 9.97e36 are common."""

OUTLIER_SD = 1e4
_COLDEST = {"K": -273.15, "degC": -273.15, "degF": -459.67}
"""Neither a temperature in degC or degF, nor a difference of two temperatures on Earth, is below these."""

_ABSOLUTE = 100.0  # K; data that reach this are temperatures, not differences of temperatures
_CENTRAL = (0.05, 99.95)  # percent; the spread is that of the values in between, so that outliers do not widen it
_SAMPLE = 20_000


@dataclass(frozen=True)
class Expected:
    """Which values of a variable are plausible.

    ``variable`` is its name in the config; ``temperature`` the unit of the values (only K, degC and degF matter);
    ``kelvin`` says whether they are absolute temperatures in K.
    """

    variable: str
    kelvin: bool = False
    temperature: str = ""


def check_values(values: np.ndarray, path: Path, name: str, expected: Expected) -> None:
    """Refuse a block with values beyond ``LARGEST`` or colder than possible; warn of isolated outliers.

    The remedies are options of ``load.netcdf``. Costs one pass for the extremes; wrong values are only counted if they
    occur. An outlier is more than 1e4 standard deviations of the central 99.9 % of the values from their median.
    """
    if not values.size:
        return
    floats = values.dtype.kind == "f"
    low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
    if floats and (high > LARGEST or low < -LARGEST):
        raise _impossible(values, np.abs(values) > LARGEST, f"beyond {LARGEST:g}", path, name, expected)
    if expected.kelvin and low <= 0 and high > _ABSOLUTE:
        where, what = (values < 0, "below 0 K") if low < 0 else (values == 0, "of 0 K")
        raise _impossible(values, where, what, path, name, expected)
    coldest = _COLDEST.get(expected.temperature, -np.inf)
    if low < coldest:
        what = f"below {coldest:g} {expected.temperature}"
        raise _impossible(values, values < np.float32(coldest), what, path, name, expected)
    if floats and high > low:
        _warn_of_outliers(values, low, high, path, name, expected)


def _impossible(
    values: np.ndarray, where: np.ndarray, what: str, path: Path, name: str, expected: Expected
) -> InputError:
    found, counts = np.unique(values[where], return_counts=True)
    common = float(found[counts.argmax()])
    return InputError(
        f"variable {name!r} of {path} has {int(where.sum())} of {values.size} values {what}, such as {common:g}",
        fix=f"if they mean missing: variables: {{{expected.variable}: {{missing: [{_yaml(common)}]}}}}; if they are "
        f"right: implausible: keep",
    )


def _warn_of_outliers(values: np.ndarray, low: float, high: float, path: Path, name: str, expected: Expected) -> None:
    flat = values.ravel()
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    sample = sample[np.isfinite(sample)].astype(float)
    if sample.size < 100:
        return
    ends = np.percentile(sample, _CENTRAL)
    central = sample[(sample >= ends[0]) & (sample <= ends[1])]
    middle, spread = float(np.median(central)), float(central.std())
    reach = OUTLIER_SD * spread
    if not spread > 0 or (high - middle <= reach and middle - low <= reach):
        return
    far = np.abs(values - middle) > reach
    worst = high if high - middle > middle - low else low
    log.warning(
        "%s: %d of %d values of %s lie more than %g standard deviations from the others, such as %g; if they mean "
        "missing: variables: {%s: {missing: [%s]}}; if they are right: implausible: keep",
        path, int(far.sum()), values.size, name, OUTLIER_SD, worst, expected.variable, _yaml(worst),
    )  # fmt: skip


def _yaml(value: float) -> str:
    """A number as YAML reads it, as short as single precision allows."""
    if np.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    short = f"{value:g}"
    return short if np.float32(float(short)) == np.float32(value) else f"{value:.9g}"
