"""``region``: crops, masks, areas."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from geoxai.errors import OptionError
from geoxai.grid.area import EARTH_RADIUS
from geoxai.stages.load import LoadNetcdf
from geoxai.stages.region import CropRegion
from geoxai.stages.stage import Context


def source() -> xr.Dataset:
    lat, lon = np.arange(-87.5, 90, 5), np.arange(2.5, 360, 5)
    values = np.random.default_rng(0).normal(size=(2, 36, 72)).astype("f4")
    time = np.array(["2000-01-01", "2000-02-01"], "M8[ns]")
    da = xr.DataArray(values, {"time": time, "lat": lat, "lon": lon}, ("time", "lat", "lon"), attrs={"units": "K"})
    return da.to_dataset(name="sst").chunk(time=1)


def run(tmp_path: Path, options: dict, **others: xr.Dataset) -> xr.Dataset:
    stage = CropRegion.model_validate(options)
    return stage.open(Context("box", tmp_path, {"from": source(), "mask.from": None, **others}))


def test_a_named_region_is_cut_out(tmp_path: Path) -> None:
    ds = run(tmp_path, {"region": "nino34"})
    assert (ds.sizes["lat"], ds.sizes["lon"]) == (2, 10)
    assert (float(ds["lon"].min()), float(ds["lon"].max())) == (192.5, 237.5)
    xr.testing.assert_equal(ds, run(tmp_path, {"lat": [-5, 5], "lon": [190, 240]}))
    xr.testing.assert_equal(ds, run(tmp_path, {"region": "Nino 3.4"}))
    with pytest.raises(ValidationError, match="did you mean 'nino34'"):
        run(tmp_path, {"region": "nino34x"})


def test_a_mask_from_a_file_on_another_grid_empties_cells(tmp_path: Path) -> None:
    lat, lon = np.arange(-89.5, 90), np.arange(-179.5, 180)
    land = xr.DataArray(np.zeros((180, 360), "i1"), {"lat": lat, "lon": lon}, ("lat", "lon"), "LSMASK")
    land.loc[{"lon": slice(0, 60)}] = 1
    land.to_netcdf(tmp_path / "land.nc")
    ds = run(tmp_path, {"mask": {"path": str(tmp_path / "land.nc"), "keep": [0]}})
    east = (ds["lon"] > 0) & (ds["lon"] < 60)
    assert bool(ds["sst"].isnull().all(("time", "lat")).equals(east.rename("sst")))
    assert ds["sst"].dtype == np.float32
    assert ds["sst"].attrs["units"] == "K"
    with pytest.raises(OptionError, match="keeps no cell") as caught:
        run(tmp_path, {"mask": {"path": str(tmp_path / "land.nc"), "keep": [7]}})
    assert caught.value.option == "mask.keep"
    with pytest.raises(OptionError, match="unknown variable"):
        run(tmp_path, {"mask": {"path": str(tmp_path / "land.nc"), "keep": [0], "variable": "mask"}})


def test_a_mask_from_another_stage(tmp_path: Path) -> None:
    other = source().where(source()["lat"] > 0)
    ds = run(tmp_path, {"mask": {"from": "other", "keep": "valid"}}, **{"mask.from": other})
    np.testing.assert_array_equal(ds["sst"].notnull().all(("time", "lon")), ds["lat"] > 0)
    small = other.sel(lat=slice(0, 20))
    with pytest.raises(OptionError, match="does not cover the grid"):
        run(tmp_path, {"mask": {"from": "other", "keep": "valid"}}, **{"mask.from": small})


def test_areas_are_attached_as_cf_cell_measure(tmp_path: Path) -> None:
    ds = run(tmp_path, {"area_weights": True})
    assert float(ds["cell_area"].sum()) == pytest.approx(4 * np.pi * EARTH_RADIUS**2)
    assert ds["sst"].attrs["cell_measures"] == "area: cell_area"
    assert "cell_measures" not in source()["sst"].attrs


@pytest.mark.parametrize(
    "wrong",
    [{"region": "nino34", "lat": [0, 5]}, {"mask": {"keep": [0]}}, {"mask": {"path": "a", "from": "b", "keep": [0]}},
     {"mask": {"path": "a"}}, {"lat": [5, 0]}],
)  # fmt: skip
def test_options_that_exclude_each_other(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        CropRegion.model_validate(wrong)


def test_the_filled_land_of_ersst_is_masked(shared_data: Path, tmp_path: Path) -> None:
    load = LoadNetcdf.model_validate({"path": str(shared_data / "sst_ersstv5_global_5deg" / "*.nc")})
    ersst = load.open(Context("sst", tmp_path))
    assert not ersst["tos"].isnull().any()
    mask = {"path": str(shared_data / "natural_earth/landsea.nc"), "keep": [0]}
    stage = CropRegion.model_validate({"mask": mask})
    missing = stage.open(Context("ocean", tmp_path, {"from": ersst}))["tos"].isnull()
    assert 0.25 < float(missing.mean()) < 0.30
    assert bool(missing.sel(lat=20, lon=10).all())  # Sahara
    assert not bool(missing.sel(lat=0, lon=200).any())  # Pacific
