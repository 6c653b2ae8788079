"""Stores: full-size templates, whole chunks, explicit time encoding."""

import warnings

import cftime
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from geoxai.errors import GeoxaiError
from geoxai.pipeline.stores import create, write_block, write_whole
from geoxai.stages.stage import Layout


def layout(n: int = 7, block: int = 3) -> Layout:
    time = [cftime.Datetime360Day(2000, 1 + i, 30) for i in range(n)]
    template = xr.Dataset(
        {"a": (("sample", "lat"), da.zeros((n, 2), dtype="float32", chunks=(block, 2)), {"units": "K"})},
        {"time": ("sample", time), "lat": ("lat", [10.0, 20.0]), "name": ("lat", ["ä", "long name"])},
    )
    return Layout(template, "sample", block)


def test_blocks_fill_a_store_of_full_size(tmp_path) -> None:
    made, path = layout(), tmp_path / "a.zarr"
    create(path, made, {"made_by": "test"})
    for unit in (2, 0, 1):
        n = min(3, 7 - unit * 3)
        write_block(path, made, unit, xr.Dataset({"a": (("sample", "lat"), np.full((n, 2), unit, "float64"))}))
    back = xr.open_zarr(path, consolidated=False)
    np.testing.assert_array_equal(back["a"][:, 0], [0, 0, 0, 1, 1, 1, 2])
    assert back["a"].dtype == "float32"
    assert back["a"].attrs["units"] == "K"
    assert back["a"].encoding["chunks"] == (3, 2)
    assert list(back["time"].values) == list(made.template["time"].values)
    assert list(back["name"].values) == ["ä", "long name"]
    assert back.attrs["made_by"] == "test"


def test_coordinates_that_come_lazily_from_a_store_are_written(tmp_path) -> None:
    made = layout()
    lazy = Layout(made.template.assign_coords(n=("sample", da.arange(7, chunks=2))), "sample", 3)
    create(tmp_path / "a.zarr", lazy, {})
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "a.zarr", consolidated=False)["n"], np.arange(7))


def test_a_block_of_another_length_is_refused(tmp_path) -> None:
    made, path = layout(), tmp_path / "a.zarr"
    create(path, made, {})
    with pytest.raises(GeoxaiError, match="the store expects"):
        write_block(path, made, 0, xr.Dataset({"a": (("sample", "lat"), np.zeros((4, 2)))}))
    with pytest.raises(GeoxaiError, match="gave no a"):
        write_block(path, made, 0, xr.Dataset())


def test_times_of_any_step_survive(tmp_path) -> None:
    times = np.array(["2020-01-01T00:00", "2020-01-02T06:30:00.250"], "datetime64[ns]")
    write_whole(tmp_path / "t.zarr", xr.Dataset(coords={"time": times}), {})
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "t.zarr", consolidated=False)["time"], times)


def test_a_failed_write_leaves_the_old_store(tmp_path, monkeypatch) -> None:
    path = tmp_path / "w.zarr"
    write_whole(path, xr.Dataset({"a": 1.0}), {})

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_zarr", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, xr.Dataset({"a": 2.0}), {})
    monkeypatch.undo()
    assert float(xr.open_zarr(path, consolidated=False)["a"]) == 1.0
    assert list(tmp_path.iterdir()) == [path]


def test_plain_open_zarr_has_nothing_to_warn_of(tmp_path) -> None:
    made = layout()
    create(tmp_path / "a.zarr", made, {})
    for unit, n in enumerate((3, 3, 1)):
        write_block(tmp_path / "a.zarr", made, unit, xr.Dataset({"a": (("sample", "lat"), np.full((n, 2), unit))}))
    write_whole(tmp_path / "b.zarr", xr.Dataset({"b": 1.0}), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(xr.open_zarr(tmp_path / "a.zarr")["a"].sum()) == 2 * (3 + 2)
        assert float(xr.open_zarr(tmp_path / "b.zarr")["b"]) == 1.0
