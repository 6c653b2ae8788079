"""``load.netcdf``: options to fields."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from geoxai.errors import OptionError
from geoxai.stages.load import LoadNetcdf
from geoxai.stages.stage import Context


def context(tmp_path: Path) -> Context:
    return Context("sst", tmp_path)


def save(path: Path, lon: np.ndarray) -> xr.DataArray:
    lat = np.arange(-20, 21, 10.0)
    time = np.arange("1979-01", "1983-01", dtype="M8[M]").astype("M8[ns]")
    values = np.arange(time.size * lat.size * lon.size, dtype="f4").reshape(time.size, lat.size, lon.size)
    da = xr.DataArray(values, {"time": time, "lat": lat, "lon": lon}, ("time", "lat", "lon"), "tos", {"units": "degC"})
    da.to_netcdf(path)
    return da


def test_variable_unit_time_and_box(tmp_path: Path) -> None:
    da = save(tmp_path / "tos.nc", np.arange(0, 360, 30.0))
    stage = LoadNetcdf.model_validate(
        {
            "path": str(tmp_path / "*.nc"),
            "variables": {"sst": {"name": "tos", "units": "K"}},
            "time": [1980, "1981-06"],
            "lat": [-10, 10],
            "lon": [-30, 60],
        }
    )
    ds = stage.open(context(tmp_path))
    assert list(ds.data_vars) == ["sst"]
    assert ds["sst"].shape == (18, 3, 4)
    assert ds["lon"].values.tolist() == [-30, 0, 30, 60]
    expected = da.sel(time=slice("1980-01", "1981-06"), lat=slice(-10, 10), lon=[330, 0, 30, 60]).values + 273.15
    np.testing.assert_allclose(ds["sst"].values, expected, rtol=1e-6)
    skeleton = stage.skeleton(context(tmp_path))
    assert skeleton.sizes == ds.sizes


def test_anomalies_that_do_not_say_so_are_declared(tmp_path: Path) -> None:
    da = save(tmp_path / "tos.nc", np.arange(0, 360, 30.0))
    for anomaly, offset in ((True, 0), (None, 273.15)):
        variables = {"tos": {"units": "K", "anomaly": anomaly}}
        stage = LoadNetcdf.model_validate({"path": str(tmp_path / "*.nc"), "variables": variables})
        np.testing.assert_allclose(stage.open(context(tmp_path))["tos"].values, da.values + offset, rtol=1e-6)


def test_a_list_of_names_and_no_names(tmp_path: Path) -> None:
    save(tmp_path / "tos.nc", np.arange(0, 360, 30.0))
    for variables in (["tos"], {"tos": None}, None):
        stage = LoadNetcdf.model_validate({"path": str(tmp_path / "tos.nc"), "variables": variables})
        assert list(stage.open(context(tmp_path)).data_vars) == ["tos"]
        again = LoadNetcdf.model_validate(stage.model_dump(mode="json", by_alias=True, round_trip=True))
        assert again == stage


@pytest.mark.parametrize(
    "wrong",
    [{"lat": [10, -10]}, {"variables": {}}, {"variables": {"tos": {"unit": "K"}}}, {"coordinates": {"x": "lon"}}],
)
def test_options_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        LoadNetcdf.model_validate({"path": "a.nc", **wrong})


def test_an_unknown_variable_points_at_its_option(tmp_path: Path) -> None:
    save(tmp_path / "tos.nc", np.arange(0, 360, 30.0))
    stage = LoadNetcdf.model_validate({"path": str(tmp_path / "tos.nc"), "variables": {"sst": {"name": "tas"}}})
    with pytest.raises(OptionError, match="there are: tos") as caught:
        stage.skeleton(context(tmp_path))
    assert caught.value.option == "variables.sst.name"
