"""``geoxai.plot`` draws fields, datasets and stores as the stage does."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geoxai
from geoxai.errors import InputError, OptionError
from geoxai.plotting.maps import plot_maps


def field(*dims: str) -> xr.DataArray:
    sizes = {"network": 2, "class": 2, "lat": 6, "lon": 8}
    values = np.random.default_rng(0).normal(size=[sizes[dim] for dim in (*dims, "lat", "lon")]).astype(np.float32)
    coords = {"lat": np.linspace(-50, 50, 6), "lon": np.arange(0, 360, 45.0)}
    return xr.DataArray(values, coords, (*dims, "lat", "lon"), attrs={"long_name": "evidence"})


def pixels(figure: object) -> bytes:
    return figure._repr_png_()  # type: ignore[attr-defined]


def test_a_field_is_drawn_as_by_plot_maps() -> None:
    assert pixels(geoxai.plot(field("class"), title="a")) == pixels(plot_maps(field("class"), title="a"))
    named = field().rename(lat="latitude", lon="longitude")
    assert pixels(geoxai.plot(named)) == pixels(plot_maps(field()))


def test_of_a_store_the_relevance_is_drawn_and_of_networks_the_mean(tmp_path: Path) -> None:
    dataset = xr.Dataset({"relevance_mean": field("network", "class"), "relevance_count": field("class")})
    dataset.to_zarr(tmp_path / "a.zarr", consolidated=False)
    dataset.to_netcdf(tmp_path / "a.nc")
    mean = pixels(plot_maps(dataset["relevance_mean"].mean("network", keep_attrs=True)))
    for given in (dataset, tmp_path / "a.zarr", str(tmp_path / "a.nc")):
        assert pixels(geoxai.plot(given)) == mean
    assert pixels(geoxai.plot(dataset, "relevance_count")) == pixels(plot_maps(dataset["relevance_count"]))


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store"):
        geoxai.plot(tmp_path / "none.zarr")
    (tmp_path / "text.nc").write_text("no")
    with pytest.raises(InputError, match="neither a Zarr store nor a NetCDF file"):
        geoxai.plot(tmp_path / "text.nc")
    with pytest.raises(InputError, match="data is a ndarray"):
        geoxai.plot(np.zeros((3, 4)))
    with pytest.raises(OptionError, match="several variables could be drawn: a, b"):
        geoxai.plot(xr.Dataset({"a": field(), "b": field()}))
    with pytest.raises(OptionError, match="did you mean 'relevance'"):
        geoxai.plot(xr.Dataset({"relevance": field()}), "relevanze")
    with pytest.raises(OptionError, match="no variable has lat and lon"):
        geoxai.plot(xr.Dataset({"a": ("x", [1.0])}))
