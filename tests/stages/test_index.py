"""``index.*``: labels from fields and tables."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from geoxai.errors import InputError, OptionError
from geoxai.stages.index import IndexNino34, IndexOni, IndexTable
from geoxai.stages.stage import Context


def source(level: float = 0.0) -> xr.Dataset:
    """A field that is the same everywhere: three warm years, then cold ones."""
    time = np.arange("1980-01", "2015-01", dtype="M8[M]").astype("M8[ns]")
    cycle = np.sin(np.arange(420) * 2 * np.pi / 60) + level
    values = np.broadcast_to(cycle[:, None, None], (420, 5, 72)).copy()
    coords = {"time": time, "lat": np.arange(-10.0, 11, 5), "lon": np.arange(0, 360, 5.0)}
    da = xr.DataArray(values, coords, ("time", "lat", "lon"), attrs={"units": "degC"})
    return da.to_dataset(name="sst").chunk(time=100)


def stored(tmp_path: Path, stage: IndexNino34 | IndexOni, ds: xr.Dataset) -> xr.Dataset:
    """What later stages see: fitted, written, opened."""
    context = Context("enso", tmp_path, {"from": ds})
    stage.fit(context).to_zarr(context.store, mode="w", consolidated=False)
    return stage.open(Context("enso", tmp_path, {"from": ds}, fitted=xr.open_zarr(context.store, consolidated=False)))


@pytest.mark.parametrize("stage", [IndexNino34, IndexOni])
def test_labels_and_values_have_the_shape_that_the_skeleton_promised(tmp_path: Path, stage: type) -> None:
    made = stage.model_validate({})
    labels = stored(tmp_path, made, source())
    skeleton = made.skeleton(Context("enso", tmp_path, {"from": source()}))
    assert set(labels.data_vars) == set(skeleton.data_vars) == {"value", "label"}
    for name in ("value", "label"):
        assert skeleton[name].chunks is not None
        assert labels[name].dims == skeleton[name].dims == ("time",)
        assert labels[name].dtype == skeleton[name].dtype
    assert labels["label"].attrs["flag_meanings"] == "la_nina neutral el_nino"
    assert np.asarray(labels["label"].attrs["flag_values"]).dtype == np.int16
    assert labels["value"].attrs["units"] == "degC"


def test_nino34_of_a_uniform_field_is_the_field(tmp_path: Path) -> None:
    labels = stored(tmp_path, IndexNino34.model_validate({}), source())
    cycle = source()["sst"].values[:, 0, 0]
    np.testing.assert_allclose(labels["value"], cycle, atol=1e-12)
    np.testing.assert_array_equal(labels["label"], np.where(cycle >= 0.5, 2, np.where(cycle <= -0.5, 0, 1)))


def test_temperatures_make_no_classes_but_an_oni(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"27\.0 on average: these are temperatures"):
        IndexNino34.model_validate({}).fit(Context("enso", tmp_path, {"from": source(27)}))
    values = stored(tmp_path, IndexNino34.model_validate({"thresholds": None}), source(27))
    assert list(values.data_vars) == ["value"]
    absolute = stored(tmp_path, IndexOni.model_validate({}), source(27))
    anomalous = stored(tmp_path, IndexOni.model_validate({}), source())
    np.testing.assert_allclose(absolute["value"], anomalous["value"], atol=1e-9)
    assert np.isnan(absolute["value"].values[[0, -1]]).all()
    assert absolute["label"].values[0] == -1


def test_fields_that_cannot_give_an_index(tmp_path: Path) -> None:
    def fit(ds: xr.Dataset, stage: type = IndexOni, **options: object) -> None:
        stage.model_validate(options).fit(Context("enso", tmp_path, {"from": ds}))

    two = source().assign(tas=source()["sst"])
    with pytest.raises(OptionError, match="several variables"):
        fit(two)
    fit(two, variable="tas")
    with pytest.raises(OptionError, match="did you mean 'sst'"):
        fit(source(), variable="ssts")
    with pytest.raises(OptionError, match="monthly"):
        fit(source().isel(time=[0, 0, 1]))
    with pytest.raises(InputError, match="'sst' has no value in any cell at 1980-01-01"):
        fit(source().where(False))
    with pytest.raises(InputError, match="no value in 5S-5N"):
        fit(source().where(source()["lon"] < 100), IndexNino34)


@pytest.mark.parametrize("stage", [IndexNino34, IndexOni])
def test_fields_elsewhere_are_refused_while_planning(tmp_path: Path, stage: type) -> None:
    elsewhere = source().isel(lon=slice(0, 20))
    with pytest.raises(OptionError, match="no cell in -5 to 5 north, -170 to -120 east: sst lies in") as caught:
        stage.model_validate({}).skeleton(Context("enso", tmp_path, {"from": elsewhere}))
    assert caught.value.option == "from"


@pytest.mark.parametrize("step", [3, 12])
def test_seasons_and_years_make_no_oni(tmp_path: Path, step: int) -> None:
    sparse = source().isel(time=slice(None, None, step))
    with pytest.raises(OptionError, match="month after month; these are of 1980-01-01"):
        IndexOni.model_validate({}).skeleton(Context("enso", tmp_path, {"from": sparse}))
    IndexNino34.model_validate({}).skeleton(Context("enso", tmp_path, {"from": sparse}))


@pytest.mark.parametrize("stage", [IndexNino34, IndexOni])
def test_an_index_is_not_called_by_the_standard_name_of_its_field(tmp_path: Path, stage: type) -> None:
    field = source()
    field["sst"].attrs |= {"standard_name": "sea_surface_temperature", "cell_methods": "time: mean"}
    attrs = stored(tmp_path, stage.model_validate({}), field)["value"].attrs
    assert set(attrs) == {"units", "long_name"}


def test_tables(tmp_path: Path, shared_data: Path) -> None:
    context = Context("enso", tmp_path)
    oni = IndexTable.model_validate({"path": str(shared_data / "enso_indices/oni.ascii.txt")})
    labels = oni.open(context)
    assert labels["label"].sel(time="1997-12").item() == 2
    assert labels["label"].sel(time="1988-12").item() == 0
    xr.testing.assert_identical(oni.skeleton(context), labels)
    long = {"path": str(shared_data / "enso_indices/nino34.long.anom.data.txt"), "thresholds": None}
    assert IndexTable.model_validate(long).open(context).sizes["time"] == 149 * 12 + 1


@pytest.mark.parametrize("wrong", [{"thresholds": [0.5, -0.5]}, {"classes": ["a", "a", "b"]}, {"min_seasons": 0}])
def test_options_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        IndexOni.model_validate(wrong)
