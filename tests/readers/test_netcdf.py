"""Small files in true formats, and the real ones: what is read must be what was written."""

import os
import pickle
import shutil
from pathlib import Path

import cftime
import netCDF4
import numpy as np
import pytest
import xarray as xr

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.readers.netcdf import Wanted, open_dataset, open_netcdf

LAT = np.array([-10.0, 0.0, 10.0])
LON = np.array([0.0, 90.0, 180.0, 270.0])


def write(
    path: Path,
    values: np.ndarray,
    times: np.ndarray,
    *,
    lat: np.ndarray = LAT,
    lon: np.ndarray = LON,
    units: str | None = "K",
    time_units: str = "days since 2000-01-01",
    calendar: str = "standard",
    name: str = "tas",
    form: str = "NETCDF4",
    dims: tuple[str, str, str] = ("time", "lat", "lon"),
    attrs: dict | None = None,
    **storage,
) -> Path:
    """A file as a model centre would write it."""
    with netCDF4.Dataset(path, "w", format=form) as ds:
        for dim, size in zip(dims, (None, len(lat), len(lon))):
            ds.createDimension(dim, size)
        t = ds.createVariable(dims[0], "f8", (dims[0],))
        t.units, t.calendar = time_units, calendar
        for dim, axis, unit in ((dims[1], lat, "degrees_north"), (dims[2], lon, "degrees_east")):
            variable = ds.createVariable(dim, "f8", (dim,))
            variable[:], variable.units = axis, unit
        data_type = storage.pop("dtype", "f4")
        fill = storage.pop("fill_value", None)
        v = ds.createVariable(name, data_type, dims, fill_value=fill, **storage)
        v.set_auto_maskandscale(False)
        if units:
            v.units = units
        v.setncatts(attrs or {})
        t[:], v[:] = times, values
    return path


def field(times: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(280, 5, (times, 3, 4)).astype("f4")


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4"])
def test_values_coordinates_and_attributes_come_back(tmp_path: Path, form: str) -> None:
    values = field()
    path = write(tmp_path / "a.nc", values, np.arange(4) * 30, form=form, dims=("Time", "latitude", "longitude"))
    ds = open_netcdf(path)
    assert ds["tas"].dims == ("time", "lat", "lon")
    np.testing.assert_array_equal(ds["tas"].values, values)
    np.testing.assert_array_equal(ds["lat"], LAT)
    assert ds["tas"].dtype == np.float32
    assert ds["tas"].chunks is not None
    assert (ds["tas"].attrs["units"], ds["lat"].attrs["units"]) == ("K", "degrees_north")
    assert ds["lon"].attrs["standard_name"] == "longitude"
    assert str(ds["time"].values[1])[:10] == "2000-01-31"


def test_descending_latitudes_stay_descending(tmp_path: Path) -> None:
    values = field()
    ds = open_netcdf(write(tmp_path / "a.nc", values, np.arange(4), lat=LAT[::-1]), lat=(-10, 0))
    np.testing.assert_array_equal(ds["lat"], [0, -10])
    np.testing.assert_array_equal(ds["tas"].values, values[:, 1:])


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
def test_other_calendars_stay_cftime_and_ranges_are_taken_in_them(tmp_path: Path, calendar: str) -> None:
    path = write(tmp_path / "a.nc", field(24), np.arange(24) * 30.0, calendar=calendar)
    ds = open_netcdf(path, time=(2001, "2001-03"))
    assert all(isinstance(t, cftime.datetime) and t.calendar == calendar for t in ds["time"].values)
    assert {(t.year, t.month) for t in ds["time"].values} <= {(2001, 1), (2001, 2), (2001, 3)}
    whole = open_netcdf(path)["time"].values
    assert ds.sizes["time"] == sum(t.year == 2001 and t.month <= 3 for t in whole)


def test_packed_integers_are_unpacked_to_float32_where_that_is_exact(tmp_path: Path) -> None:
    packed = np.arange(48, dtype="i2").reshape(4, 3, 4) * 1300 - 32000
    packed[0, 0, 0] = -32767
    attrs = {"scale_factor": 0.0018, "add_offset": 263.9, "missing_value": np.int16(-32767)}
    path = write(tmp_path / "a.nc", packed, np.arange(4), dtype="i2", fill_value=-32767, attrs=attrs)
    for units, shift in (("K", 0), ("degC", -273.15)):
        da = open_netcdf(path, {"tas": Wanted(units=units)})["tas"]
        assert da.dtype == np.float32
        expected = packed * 0.0018 + 263.9 + shift
        assert np.isnan(da.values[0, 0, 0])
        np.testing.assert_allclose(da.values.ravel()[1:], expected.ravel()[1:], atol=0.0018 / 20)
    wide = {"scale_factor": 1e-7, "add_offset": 250.0}
    path = write(tmp_path / "b.nc", packed.astype("i4") * 10000, np.arange(4), dtype="i4", attrs=wide)
    da = open_netcdf(path)["tas"]
    assert da.dtype == np.float64
    np.testing.assert_allclose(da.values, packed.astype("i4") * 10000 * 1e-7 + 250.0, rtol=1e-14)


def test_fill_and_further_missing_values_become_nan(tmp_path: Path) -> None:
    values = field()
    values[1, 2, 3], values[2, 0, 0] = 1e20, -999
    path = write(tmp_path / "a.nc", values, np.arange(4), fill_value=1e20)
    da = open_netcdf(path, {"tas": Wanted(missing=(-999,))})["tas"]
    missing = np.isnan(da.values)
    assert missing.sum() == 2
    assert missing[1, 2, 3]
    assert missing[2, 0, 0]
    assert da.attrs["units"] == "K"


def test_units_convert_or_are_refused_with_words(tmp_path: Path) -> None:
    values = field()
    path = write(tmp_path / "a.nc", values, np.arange(4))
    np.testing.assert_allclose(
        open_netcdf(path, {"t": Wanted("tas", units="degC")})["t"].values, values - 273.15, atol=1e-4
    )
    with pytest.raises(OptionError, match=r"'t' is in 'K' and no conversion to 'hPa'") as caught:
        open_netcdf(path, {"t": Wanted("tas", units="hPa")})
    assert caught.value.option == "variables.t.units"
    bare = write(tmp_path / "b.nc", values, np.arange(4), units=None)
    with pytest.raises(OptionError, match="no units attribute"):
        open_netcdf(bare, {"tas": Wanted(units="degC")})
    given = open_netcdf(bare, {"tas": Wanted(units="degC", file_units="K")})["tas"]
    np.testing.assert_allclose(given.values, values - 273.15, atol=1e-4)
    assert given.attrs["units"] == "degC"


def test_files_follow_each_other_in_time_whatever_their_names(tmp_path: Path) -> None:
    values = field(6)
    write(tmp_path / "z.nc", values[:3], np.arange(3) * 30)
    write(tmp_path / "a.nc", values[3:], np.arange(3) * 30, time_units="days since 2000-04-15")
    ds = open_netcdf(str(tmp_path / "*.nc"))
    np.testing.assert_array_equal(ds["tas"].values, values)
    assert (np.diff(ds["time"].values) > np.timedelta64(0)).all()


def test_variables_of_one_grid_come_from_different_files(tmp_path: Path) -> None:
    a = write(tmp_path / "a.nc", field(seed=1), np.arange(4))
    b = write(tmp_path / "b.nc", field(seed=2), np.arange(4), name="psl", units="Pa")
    ds = open_netcdf([a, b], {"tas": Wanted(), "psl": Wanted(units="hPa")})
    np.testing.assert_allclose(ds["psl"].values, field(seed=2) / 100, rtol=1e-6)
    c = write(tmp_path / "c.nc", field(3, seed=2), np.arange(3), name="psl", units="Pa")
    with pytest.raises(InputError, match="different times"):
        open_netcdf([a, c])


def test_overlapping_files_name_both(tmp_path: Path) -> None:
    write(tmp_path / "a.nc", field(), np.arange(4) * 30)
    write(tmp_path / "b.nc", field(), 90 + np.arange(4) * 30)
    with pytest.raises(InputError, match=r"b\.nc overlaps .*a\.nc: it begins at 2000-03-31") as caught:
        open_netcdf(str(tmp_path / "*.nc"))
    assert "narrow the path" in str(caught.value)


@pytest.mark.parametrize(
    ("times", "message"),
    [([0, 30, 20, 90], r"a\.nc: the time axis is out of order: 2000-01-21 at step 3 of 4 follows 2000-01-31"),
     ([0, 30, 30, 90], r"a\.nc: time 2000-01-31 occurs twice, at steps 2 and 3 of 4")],
)  # fmt: skip
def test_wrong_time_axes_name_file_and_step(tmp_path: Path, times: list[int], message: str) -> None:
    path = write(tmp_path / "a.nc", field(), np.array(times))
    with pytest.raises(InputError, match=message) as caught:
        open_netcdf(path)
    assert caught.value.exit_code == 3
    assert caught.value.fix


def test_times_that_are_not_dates(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", field(), np.arange(4), time_units="months since 1960-01-01")
    with pytest.raises(InputError, match="months since 1960-01-01"):
        open_netcdf(path)


@pytest.mark.parametrize("other", [{"lat": LAT + 1}, {"lon": LON[:3]}, {"calendar": "noleap"}])
def test_files_that_do_not_fit_each_other(tmp_path: Path, other: dict) -> None:
    write(tmp_path / "a.nc", field(), np.arange(4))
    size = len(other.get("lon", LON))
    write(tmp_path / "b.nc", field()[:, :, :size], 10 + np.arange(4), **other)
    with pytest.raises(InputError, match=r"a\.nc") as caught:
        open_netcdf(str(tmp_path / "*.nc"))
    assert "b.nc" in caught.value.message


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.999])
def test_truncated_files_are_never_read(tmp_path: Path, form: str, share: float) -> None:
    path = write(tmp_path / "a.nc", field(200), np.arange(200), form=form)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(InputError, match=r"a\.nc"):
        open_netcdf(path)


def test_damage_inside_a_file_names_file_and_variable_when_it_is_computed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nc", field(400), np.arange(400), fletcher32=True, chunksizes=(100, 3, 4))
    content = bytearray(path.read_bytes())
    place = content.index(field(400)[250].tobytes())
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    ds = open_netcdf(path)
    with pytest.raises(InputError, match=r"variable 'tas' of .*a\.nc cannot be read"):
        ds["tas"].values  # noqa: B018


def test_missing_and_unknown_things(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file matches .*\*\.nc"):
        open_netcdf(str(tmp_path / "*.nc"))
    with pytest.raises(InputError, match=r"gone\.nc does not exist"):
        open_netcdf(tmp_path / "gone.nc")
    with pytest.raises(InputError, match="not a Zarr store"):
        open_netcdf(tmp_path)
    path = write(tmp_path / "a.nc", field(), np.arange(4))
    with pytest.raises(OptionError, match="did you mean 'tas'") as caught:
        open_netcdf(path, {"tasx": Wanted()})
    assert caught.value.option == "variables.tasx"
    with pytest.raises(OptionError, match="no time from 1990"):
        open_netcdf(path, time=(1990, 1991))
    (tmp_path / "text.nc").write_text("not a NetCDF file at all")
    with pytest.raises(InputError, match=r"text\.nc cannot be read"):
        open_netcdf(tmp_path / "text.nc")


def test_files_without_recognisable_axes_say_so_and_axes_can_be_named(tmp_path: Path) -> None:
    values = field()
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as ds:
        for dim, size in (("time", 4), ("rows", 3), ("cols", 4)):
            ds.createDimension(dim, size)
        t = ds.createVariable("time", "f8", ("time",))
        t[:], t.units = np.arange(4), "days since 2000-01-01"
        for dim, axis in (("rows", LAT), ("cols", LON)):
            ds.createVariable(dim, "f8", (dim,))[:] = axis
        ds.createVariable("tas", "f4", ("time", "rows", "cols"))[:] = values
    with pytest.raises(InputError, match=r"no latitude among the coordinates of its fields; .*rows\(rows\)"):
        open_netcdf(tmp_path / "a.nc")
    ds = open_netcdf(tmp_path / "a.nc", coordinates={"lat": "rows", "lon": "cols"})
    np.testing.assert_array_equal(ds["tas"].values, values)


def test_coordinates_that_are_not_dims_and_dims_of_length_one(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {"z": (("time", "level", "j", "i"), field()[:, None])},
        {"time": np.array(["2000-01-01", "2000-02-01", "2000-03-01", "2000-04-01"], "M8[ns]"), "level": [500.0],
         "latitude": ("j", LAT, {"units": "degrees_north"}), "longitude": ("i", LON, {"units": "degrees_east"})},
    )  # fmt: skip
    ds.to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    read = open_netcdf(tmp_path / "a.nc")
    assert read["z"].dims == ("time", "lat", "lon")
    assert float(read["level"]) == 500
    np.testing.assert_array_equal(read["z"].values, field())


def test_a_repeated_meridian_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.concatenate([field(), field()[:, :, :1]], axis=2)
    ds = open_netcdf(write(tmp_path / "a.nc", values, np.arange(4), lon=np.append(LON, 360.0)))
    np.testing.assert_array_equal(ds["tas"].values, field())
    assert "repeats the first" in caplog.text


def test_a_zarr_store_reads_like_a_file(tmp_path: Path) -> None:
    source = open_netcdf(write(tmp_path / "a.nc", field(), np.arange(4)))
    source.to_zarr(tmp_path / "a.zarr", consolidated=False)
    xr.testing.assert_identical(open_netcdf(tmp_path / "a.zarr").load(), source.load())


def test_lazy_fields_travel_to_other_processes(tmp_path: Path) -> None:
    ds = open_netcdf(write(tmp_path / "a.nc", field(), np.arange(4)))
    copy = pickle.loads(pickle.dumps(ds))
    np.testing.assert_array_equal(copy["tas"].values, field())


def test_a_file_without_a_grid_opens_as_it_is(tmp_path: Path) -> None:
    xr.Dataset({"scaling_mean": ("channel", [1.0])}, {"channel": ["sst"]}).to_netcdf(tmp_path / "a.nc")
    with open_dataset(tmp_path / "a.nc") as ds:
        assert float(ds["scaling_mean"][0]) == 1


def test_real_files(shared_data: Path, tmp_path: Path) -> None:
    ersst = open_netcdf(shared_data / "sst_ersstv5_global_5deg/*.nc", {"sst": Wanted("tos", units="degC")})
    assert ersst["sst"].shape == (468, 24, 72)
    assert ersst["time"].dt.calendar == "360_day"
    assert float(ersst["sst"].min()) == pytest.approx(-5.9735, abs=1e-4)
    had = open_netcdf(shared_data / "sst_hadisst_tropics_5deg/*.nc", {"sst": Wanted(units="K", file_units="C")})
    assert float(had["sst"].max()) == pytest.approx(31.253 + 273.15, abs=1e-3)
    assert float(had["sst"].isnull().mean()) == pytest.approx(0.308, abs=1e-3)
    era = open_netcdf(shared_data / "reanalysis_packed/*.nc", {"t2m": Wanted(), "sp": Wanted(units="hPa")})
    assert era["sp"].dtype == era["t2m"].dtype == np.float32
    assert float(era["sp"].min()) == pytest.approx(519.86, abs=0.01)
    assert float(era["t2m"].max()) == pytest.approx(310.81, abs=0.01)
    height = open_netcdf(shared_data / "eofs_examples/hgt_djf.nc")
    assert height["z"].dims == ("time", "lat", "lon")
    assert str(height["time"].values[0])[:10] == "1948-01-15"
    ocean = open_netcdf(shared_data / "cmip_samples/tos_ocean_bipolar_grid.nc")
    assert ocean["tos"].dims == ("time", "y", "x")
    assert float(ocean["tos"].isnull().mean()) == pytest.approx(0.347, abs=1e-3)
    with pytest.raises(InputError, match="rotated"):
        open_netcdf(shared_data / "cmip_samples/tas_rotated_grid_EUR11.nc")
    cut = tmp_path / "cut.nc"
    shutil.copyfile(next((shared_data / "sst_ersstv5_global_5deg").glob("*.nc")), cut)
    os.truncate(cut, 3_000_000)
    with pytest.raises(GeoxaiError, match="cut short"):
        open_netcdf(cut)


def test_a_type_that_crashes_the_netcdf_library_is_refused_by_name(tmp_path: Path) -> None:
    """16-bit floats of HDF5 end the process with a segmentation fault when netCDF-C reads them."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "half.nc", "w") as file:
        file["sst"] = np.ones((3, 4), "f2")
        file["names"] = np.array(["a", "b"], dtype=h5py.string_dtype())
    with pytest.raises(InputError, match="variable 'sst' has a type that NetCDF does not know, such as 16-bit floats"):
        open_dataset(tmp_path / "half.nc")
    with h5py.File(tmp_path / "text.nc", "w") as file:
        file["names"] = np.array(["a", "b"], dtype=h5py.string_dtype())
    assert open_dataset(tmp_path / "text.nc")["names"].values.tolist() == ["a", "b"]
