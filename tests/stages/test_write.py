"""write.zarr and write.netcdf: what comes back is what went in, whole, and readable by plain xarray."""

import warnings
import weakref

import cftime
import dask.array
import netCDF4
import numpy as np
import pytest
import xarray as xr

from geoxai.errors import OptionError
from geoxai.stages.stage import Context
from geoxai.stages.write import WriteNetcdf, WriteZarr

WRITERS = [WriteZarr, WriteNetcdf]


@pytest.fixture
def relevance() -> xr.Dataset:
    random = np.random.default_rng(0)
    return xr.Dataset(
        {
            "relevance": (
                ("sample", "channel", "lat", "lon"),
                random.standard_normal((10, 2, 3, 4)).astype("float32"),
                {"units": "1", "long_name": "relevance"},
            ),
            "nonpositive_target": (("sample",), random.random(10) > 0.5),
            "label": (
                ("sample",),
                random.integers(-1, 2, 10).astype("int16"),
                {"flag_values": np.array([-1, 0, 1], "int16"), "flag_meanings": "none la_nina el_nino"},
            ),
        },
        coords={
            "sample": np.arange(10),
            "time": ("sample", np.arange("2000-01", "2000-11", dtype="datetime64[M]").astype("datetime64[ns]")),
            "channel": np.array(["sst", "sst_lag1"], dtype=object),
            "units": ("channel", np.array(["degC", "degC"])),
            "lat": np.array([10.0, 0, -10]),
            "lon": np.array([0.0, 90, 180, 270]),
        },
        attrs={"account": "closed", "rules": ["epsilon", "alpha_beta"], "options": {"eps": 1e-6}},
    ).chunk(sample=4)


@pytest.fixture
def anomaly() -> xr.Dataset:
    time = [cftime.Datetime360Day(2000, month, 30) for month in range(1, 6)]
    return xr.Dataset({"sst": (("time", "lat"), np.full((5, 2), np.nan))}, coords={"time": time, "lat": [0.0, 1.0]})


def opened(path, group=None):
    if path.suffix == ".nc":
        return xr.open_dataset(path, group=group)
    return xr.open_zarr(path, group=group, consolidated=False)


@pytest.mark.parametrize("writer", WRITERS)
def test_one_stage_is_flat_and_comes_back(writer, relevance, tmp_path):
    stage = writer.model_validate({"from": "relevance"})
    context = Context("result", tmp_path, {"from": relevance})
    stage.skeleton(context)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (path,) = stage.write(context)
        with opened(path) as back:
            back.load()
    assert path == tmp_path / f"result{stage.suffix}"
    xr.testing.assert_equal(back, relevance)
    assert back["relevance"].dtype == "float32"
    assert back["nonpositive_target"].dtype == bool
    assert back["lat"].attrs["units"] == "degrees_north"
    assert back["lon"].attrs["standard_name"] == "longitude"
    assert back["relevance"].attrs["long_name"] == "relevance"
    assert back["label"].attrs["flag_meanings"] == "none la_nina el_nino"
    assert list(back["label"].attrs["flag_values"]) == [-1, 0, 1]
    assert back.attrs["account"] == "closed"
    assert back.attrs["Conventions"].startswith("CF-")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("writer", WRITERS)
def test_several_stages_are_groups(writer, relevance, anomaly, tmp_path):
    stage = writer.model_validate({"from": ["relevance", "anomaly"], "path": f"sub/enso{writer.suffix}"})
    (path,) = stage.write(Context("result", tmp_path, {"from": [relevance, anomaly]}))
    assert path == tmp_path / "sub" / f"enso{writer.suffix}"
    with opened(path, "relevance") as back:
        xr.testing.assert_equal(back.load(), relevance)
    with opened(path, "anomaly") as back:
        xr.testing.assert_equal(back.load(), anomaly)
        assert back["time"].values[0].calendar == "360_day"
    kwargs = {"engine": "zarr", "consolidated": False} if writer is WriteZarr else {}
    with xr.open_datatree(path, **kwargs) as tree:
        assert set(tree.children) == {"relevance", "anomaly"}


def test_zarr_strings_have_variable_length_and_chunks_are_kept(relevance, tmp_path):
    import zarr

    (path,) = WriteZarr.model_validate({"from": "relevance"}).write(Context("result", tmp_path, {"from": relevance}))
    store = zarr.open_group(path, mode="r")
    assert store["relevance"].chunks == (4, 2, 3, 4)
    for name in ("channel", "units"):
        assert store[name].dtype.kind in "OT"
    assert store["time"].dtype == "int64"
    assert store["time"].attrs["units"] == "seconds since 1970-01-01"
    assert store.metadata.zarr_format == 3


def test_netcdf_is_compressed_and_flags_have_the_type_of_their_variable(relevance, tmp_path):
    relevance["label"].attrs["flag_values"] = [-1, 0, 1]  # as a Zarr store gives them back
    (path,) = WriteNetcdf.model_validate({"from": "relevance"}).write(Context("result", tmp_path, {"from": relevance}))
    with netCDF4.Dataset(path) as file:
        assert file["relevance"].filters()["zlib"]
        assert file["relevance"].chunking() == [4, 2, 3, 4]
        assert file["label"].flag_values.dtype == np.int16
        assert file.options == '{"eps": 1e-06}'
        assert "_FillValue" not in file["lat"].ncattrs()


@pytest.mark.parametrize("writer", WRITERS)
def test_uneven_chunks_are_written(writer, relevance, tmp_path):
    uneven = relevance.chunk(sample=(3, 5, 2))
    (path,) = writer.model_validate({"from": "relevance"}).write(Context("result", tmp_path, {"from": uneven}))
    with opened(path) as back:
        xr.testing.assert_equal(back.load(), relevance)


@pytest.mark.parametrize("writer", WRITERS)
def test_writing_goes_chunk_by_chunk(writer, tmp_path):
    made, most = [], 0

    def block(block_info=None):
        nonlocal most
        values = np.zeros((10, 5))
        made.append(weakref.ref(values))
        most = max(most, sum(one() is not None for one in made))
        return values

    field = dask.array.map_blocks(block, chunks=((10,) * 20, (5,)), dtype=float)
    dataset = xr.Dataset({"field": (("sample", "lat"), field)})
    writer.model_validate({"from": "a"}).write(Context("result", tmp_path, {"from": dataset}))
    assert len(made) >= 20
    assert most <= 4


@pytest.mark.parametrize("writer", WRITERS)
def test_a_failure_keeps_what_was_there(writer, relevance, tmp_path):
    stage = writer.model_validate({"from": "relevance"})
    (path,) = stage.write(Context("result", tmp_path, {"from": relevance}))

    def fail(block):
        raise OSError(28, "No space left on device")

    broken = relevance.assign(
        relevance=relevance["relevance"].copy(data=relevance["relevance"].data.map_blocks(fail, dtype="f4"))
    )
    with pytest.raises(OSError, match="No space"):
        stage.write(Context("result", tmp_path, {"from": broken}))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with opened(path) as back:
        xr.testing.assert_equal(back.load(), relevance)


@pytest.mark.parametrize("writer", WRITERS)
def test_writing_again_replaces(writer, relevance, tmp_path):
    stage = writer.model_validate({"from": "relevance"})
    for factor in (1, 2):
        (path,) = stage.write(Context("result", tmp_path, {"from": relevance * factor}))
    with opened(path) as back:
        np.testing.assert_array_equal(back["relevance"], 2 * relevance["relevance"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("writer", WRITERS)
def test_stages_and_strangers_are_not_overwritten(writer, relevance, tmp_path):
    context = Context("result", tmp_path, {"from": relevance})
    for name in ("network", "mine"):
        xr.Dataset({"mine": 1}).to_netcdf(tmp_path / f"{name}.nc")
        xr.Dataset({"mine": 1}).to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
    (tmp_path / "ledger" / "network").mkdir(parents=True)
    with pytest.raises(OptionError, match="keeps stage 'network'") as error:
        writer.model_validate({"from": "relevance", "path": f"network{writer.suffix}"}).skeleton(context)
    assert error.value.option == "path"
    with pytest.raises(OptionError, match="was not written by geoxai"):
        writer.model_validate({"from": "relevance", "path": f"mine{writer.suffix}"}).write(context)
    with pytest.raises(OptionError, match="does not end in"):
        writer.model_validate({"from": "relevance", "path": "enso.txt"}).skeleton(context)
