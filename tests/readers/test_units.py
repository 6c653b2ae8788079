"""Unit conversions against their definitions."""

import numpy as np
import pytest
import xarray as xr

from geoxai.errors import OptionError
from geoxai.readers.units import canonical_unit, conversion, to_units


@pytest.mark.parametrize(
    ("value", "have", "want", "expected"),
    [
        (0.0, "degrees_C", "K", 273.15),
        (300.0, "kelvin", "Celsius", 26.85),
        (212.0, "degF", "degC", 100.0),
        (101325.0, "Pa", "millibar", 1013.25),
        (1.0, "kg m-2 s-1", "mm/day", 86400.0),
        (0.0246, "m", "mm", 24.6),
        (3.0, "kg m**-2", "mm", 3.0),
        (36.0, "km/h", "m s**-1", 10.0),
        (1.0, "kt", "m/s", 0.514444),
        (25.0, "percent", "1", 0.25),
        (1.0, "radians", "degrees", 57.29578),
    ],
)
def test_known_conversions(value: float, have: str, want: str, expected: float) -> None:
    change = conversion(have, want)
    assert change is not None
    assert value * change[0] + change[1] == pytest.approx(expected, rel=1e-6)
    back = conversion(want, have)
    assert back is not None
    assert expected * back[0] + back[1] == pytest.approx(value, rel=1e-5, abs=1e-9)


def test_spellings_of_one_unit() -> None:
    assert len({canonical_unit(text) for text in ("m s-1", "m/s", "m s**-1", "m.s-1", "m s^-1")}) == 1
    assert len({canonical_unit(text) for text in ("degC", "degree_C", "Celsius", "°C", "C", "degrees celsius")}) == 1


def test_an_anomaly_changes_scale_without_the_offset() -> None:
    da = xr.DataArray(np.array([1.5]), dims="x", name="sst", attrs={"long_name": "SST anomaly", "units": "K"})
    assert float(to_units(da, "degC", "K")[0]) == 1.5
    assert float(to_units(da, "degF", "K")[0]) == pytest.approx(2.7)
    plain = da.assign_attrs(long_name="SST")
    assert float(to_units(plain, "degC", "K")[0]) == pytest.approx(1.5 - 273.15)
    assert float(to_units(plain, "degC", "K", difference=True)[0]) == 1.5
    assert float(to_units(da, "degC", "K", difference=False)[0]) == pytest.approx(1.5 - 273.15)


def test_unknown_conversions_name_variable_and_units() -> None:
    da = xr.DataArray(np.zeros(1), dims="x", name="pr")
    with pytest.raises(OptionError, match=r"'pr' is in 'm s-1' and no conversion to 'mm day-1'"):
        to_units(da, "mm day-1", "m s-1")


@pytest.mark.parametrize(
    ("want", "hint"), [("Celcius", "degC"), ("Farenheit", "degF"), ("Kelvn", "K"), ("degc.", "degC")]
)
def test_a_misspelt_unit_is_recognised(want: str, hint: str) -> None:
    field = xr.DataArray([280.0], dims="time", attrs={"units": "K"}, name="t")
    with pytest.raises(OptionError, match=f"did you mean '{hint}'"):
        to_units(field, want, "K")


@pytest.mark.parametrize(("have", "meant"), [("Celcius", "degC"), ("Kelvn", "K")])
def test_a_unit_that_the_file_misspells_is_mended_as_the_remedy_says(have: str, meant: str) -> None:
    field = xr.DataArray([280.0], dims="x", name="tas")
    with pytest.raises(OptionError) as caught:
        to_units(field, "degF", have)
    assert f"file_units: {meant}" in str(caught.value.fix)
    to_units(field, "degF", meant)
