"""Numbers that cannot be, ranges that files call valid, factors that unpack nothing."""

from pathlib import Path

import netCDF4
import numpy as np
import pytest

from geoxai.errors import InputError
from geoxai.readers.netcdf import Wanted, open_netcdf
from tests.readers.test_netcdf import field, write


def bad(tmp_path: Path, number: float, *, units: str = "K", count: int = 3, dtype: str = "f4", times: int = 40) -> Path:
    values = field(times).astype(dtype)
    values.reshape(-1)[5 : 5 + count] = number
    folder = tmp_path / f"{units}_{number:g}_{dtype}"  # a file that is still open is not written over
    folder.mkdir()
    return write(folder / "bad.nc", values, np.arange(times), units=units, dtype=dtype)


@pytest.mark.parametrize(("number", "dtype"), [(1e20, "f4"), (9.96921e36, "f4"), (-1e30, "f8"), (np.inf, "f4")])
def test_undeclared_fill_values_are_refused_with_the_remedy_that_works(
    tmp_path: Path, number: float, dtype: str
) -> None:
    path = bad(tmp_path, number, dtype=dtype)
    ds = open_netcdf(path, {"t2m": Wanted("tas")})
    with pytest.raises(InputError, match=r"variable 'tas' of .*bad\.nc has 3 of 480 values beyond 1e\+15") as caught:
        ds.load()
    assert f"variables: {{t2m: {{missing: [{'.inf' if np.isinf(number) else f'{number:g}'}]}}}}" in str(caught.value)
    read = open_netcdf(path, {"tas": Wanted(missing=(number,))})["tas"].values
    assert int(np.isnan(read).sum()) == 3
    kept = open_netcdf(path, {"tas": Wanted(implausible="keep")})["tas"].values
    assert int((np.abs(kept) > 1e15).sum()) == 3


def test_single_precision_fill_values_in_double_precision_are_named(tmp_path: Path) -> None:
    path = bad(tmp_path, float(np.float32(1e20)), dtype="f8")
    with pytest.raises(InputError, match="beyond") as caught:
        open_netcdf(path).load()
    assert "missing: [1e+20]" in str(caught.value)
    assert int(open_netcdf(path, {"tas": Wanted(missing=(1e20,))})["tas"].isnull().sum()) == 3


def test_temperatures_below_absolute_zero_are_refused_and_anomalies_are_not(tmp_path: Path) -> None:
    path = bad(tmp_path, -999)
    with pytest.raises(InputError, match=r"3 of 480 values below 0 K, such as -999"):
        open_netcdf(path, {"tas": Wanted(units="degC")}).load()
    assert int(open_netcdf(path, {"tas": Wanted(missing=(-999,))})["tas"].isnull().sum()) == 3
    open_netcdf(bad(tmp_path, -999, units="hPa")).load()
    anomalies = write(tmp_path / "anomaly.nc", field() - 280, np.arange(4))
    assert float(open_netcdf(anomalies)["tas"].min()) < 0
    open_netcdf(bad(tmp_path, -150), {"tas": Wanted(anomaly=True)}).load()


@pytest.mark.parametrize(("units", "anomaly"), [("degC", None), ("degC", True), ("degF", None), ("K", True)])
def test_no_temperature_or_difference_of_temperatures_is_below_absolute_zero(
    tmp_path: Path, units: str, anomaly: bool | None
) -> None:
    """-999 is a hundred standard deviations off, no more: nothing else would notice it."""
    path = bad(tmp_path, -999, units=units)
    with pytest.raises(InputError, match=rf"3 of 480 values below -\d+\.\d+ {units}, such as -999") as caught:
        open_netcdf(path, {"tas": Wanted(anomaly=anomaly)}).load()
    assert "missing: [-999]" in str(caught.value.fix)
    assert int(open_netcdf(path, {"tas": Wanted(missing=(-999,), anomaly=anomaly)})["tas"].isnull().sum()) == 3
    open_netcdf(path, {"tas": Wanted(anomaly=anomaly, implausible="keep")}).load()


def test_zeros_among_absolute_temperatures_are_refused(tmp_path: Path) -> None:
    path = bad(tmp_path, 0)
    with pytest.raises(InputError, match=r"3 of 480 values of 0 K, such as 0"):
        open_netcdf(path).load()
    assert int(open_netcdf(path, {"tas": Wanted(missing=(0,))})["tas"].isnull().sum()) == 3
    open_netcdf(path, {"tas": Wanted(anomaly=True)}).load()


def test_lone_outliers_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_netcdf(bad(tmp_path, 1e7, units="hPa", count=1, times=400)).load()
    assert "bad.nc: 1 of 4800 values of tas lie more than 10000 standard deviations from the others" in caplog.text
    assert "missing: [1e+07]" in caplog.text
    caplog.clear()
    open_netcdf(bad(tmp_path, 2000, units="hPa", count=1, times=400)).load()
    rain = np.random.default_rng(0).gamma(0.05, 1e-6, (400, 3, 4)) * (
        np.random.default_rng(1).random((400, 3, 4)) > 0.7
    )
    open_netcdf(write(tmp_path / "rain.nc", rain, np.arange(400), units="kg m-2 s-1")).load()
    assert not caplog.text


@pytest.mark.parametrize(
    "attrs", [{"valid_range": np.array([270, 290], "f4")}, {"valid_min": np.float32(270), "valid_max": np.float32(290)}]
)
def test_values_outside_the_valid_range_are_missing(
    tmp_path: Path, attrs: dict, caplog: pytest.LogCaptureFixture
) -> None:
    values = field(40)
    path = write(tmp_path / "a.nc", values, np.arange(40), attrs=attrs)
    read = open_netcdf(path)["tas"].values
    np.testing.assert_array_equal(np.isnan(read), (values < 270) | (values > 290))
    assert "values of tas outside its valid range, 270 to 290, are missing" in caplog.text
    np.testing.assert_array_equal(open_netcdf(path, {"tas": Wanted(valid_range=False)})["tas"].values, values)


def test_valid_limits_of_packed_data_are_packed_numbers(tmp_path: Path) -> None:
    packed = np.arange(48, dtype="i2").reshape(4, 3, 4)
    attrs = {"scale_factor": 0.1, "add_offset": 250.0, "valid_min": np.int16(10), "valid_max": np.int16(20)}
    read = open_netcdf(write(tmp_path / "a.nc", packed, np.arange(4), dtype="i2", attrs=attrs))["tas"].values
    np.testing.assert_array_equal(np.isnan(read), (packed < 10) | (packed > 20))
    attrs |= {"valid_min": 251.0, "valid_max": 252.0}  # of the type of the scale factor: values
    read = open_netcdf(write(tmp_path / "b.nc", packed, np.arange(4), dtype="i2", attrs=attrs))["tas"].values
    np.testing.assert_array_equal(np.isnan(read), (packed < 10) | (packed > 20))


def test_valid_limits_of_unsigned_packed_data_as_the_goes_files_write_them(tmp_path: Path) -> None:
    packed = np.array([0, 100, 32767, -32768, -6, -5, -2, 7, 8, 9, 10, 11], "i2").reshape(1, 3, 4)
    attrs = {"scale_factor": 0.01, "add_offset": 0.0, "_Unsigned": "true", "valid_range": np.array([0, -6], "i2")}
    read = open_netcdf(write(tmp_path / "a.nc", packed, np.arange(1), dtype="i2", attrs=attrs, units="1"))["tas"].values
    np.testing.assert_array_equal(np.isnan(read), packed.view("u2") > 65530)


def test_integers_without_a_scale_have_valid_ranges_too(tmp_path: Path) -> None:
    values = np.arange(48, dtype="i2").reshape(4, 3, 4)
    path = write(tmp_path / "a.nc", values, np.arange(4), dtype="i2", attrs={"valid_range": np.array([0, 40], "i2")})
    read = open_netcdf(path)["tas"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(read.values), values > 40)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({"scale_factor": "abc"}, "scale_factor of variable 'tas' is 'abc', expected a number other than 0"),
     ({"scale_factor": 0.0}, "scale_factor of variable 'tas' is 0.0"),
     ({"add_offset": "x"}, "add_offset of variable 'tas' is 'x'"),
     ({"scale_factor": np.array([1.0, 2.0])}, r"scale_factor of variable 'tas' is \[1.0, 2.0\]")],
)  # fmt: skip
def test_factors_that_are_not_numbers_are_refused(tmp_path: Path, attrs: dict, message: str) -> None:
    path = write(tmp_path / "a.nc", np.ones((4, 3, 4), "i2"), np.arange(4), dtype="i2", attrs=attrs)
    with pytest.raises(InputError, match=message) as caught:
        open_netcdf(path)
    assert "a.nc" in caught.value.message


def test_a_factor_of_the_latitude_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", field(), np.arange(4))
    with netCDF4.Dataset(path, "a") as ds:
        ds["lat"].setncattr("scale_factor", "x")
    with pytest.raises(InputError, match=r"a\.nc: scale_factor of variable 'lat' is 'x'"):
        open_netcdf(path)
