"""The xarray face: coordinates in, coordinates out, and what is stored with the maps."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import geoxai
from geoxai.attribution import attribute
from geoxai.errors import InputError, OptionError
from tests.attribution.networks import ConvNet, UNet, inputs, seeded

FLAGS = {"flag_values": np.array([0, 1, 2], np.int16), "flag_meanings": "la_nina neutral el_nino"}


@pytest.fixture
def samples():
    values = inputs(6, 2, 8, 8, dtype=torch.float32).numpy()
    return xr.DataArray(
        values,
        dims=("sample", "channel", "lat", "lon"),
        coords={
            "sample": np.arange(10, 16),
            "time": ("sample", pd.date_range("1997-11", periods=6, freq="MS")),
            "label": ("sample", np.array([0, 1, 2, 0, 1, 2], np.int16), FLAGS),
            "channel": ["sst", "slp"],
            "units": ("channel", ["degC", "hPa"]),
            "lat": ("lat", np.linspace(70, -70, 8), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 45.0, {"units": "degrees_east"}),
            "crs": 0,
        },
        name="inputs",
    )


@pytest.fixture
def network():
    return seeded(ConvNet(), dtype=torch.float32)


def closes(result):
    relevance = result.relevance.astype("float64").sum(("channel", "lat", "lon"))
    rest = result.target_value - relevance - result.bias_relevance - result.stabiliser_relevance - result.lost_relevance
    size = np.maximum(abs(result.target_value), abs(result.relevance).sum(("channel", "lat", "lon")))
    return bool((abs(rest) <= 1e-5 * size).all())


def test_relevance_keeps_dims_coordinates_and_dtype(network, samples):
    result = geoxai.explain(network, samples)
    assert result.relevance.dims == samples.dims
    assert result.relevance.dtype == np.float32
    for name, coord in samples.coords.items():
        xr.testing.assert_identical(result.relevance.coords[name], coord)
    assert result.attrs["account"] == "closed"
    assert {"prediction", "confidence", "target_value", "nonpositive_target"} <= set(result.data_vars)
    assert closes(result)
    direct = attribute(network, torch.as_tensor(samples.values))
    np.testing.assert_array_equal(result.relevance.values, direct.relevance.numpy())
    rows = json.loads(result.attrs["rule_table"])
    assert rows[0]["op"] == "conv2d"
    assert rows[0]["path"] == "features.0"
    assert "alpha_beta" in rows[0]["rule"]


def test_filled_cells_are_masked_counted_and_warned_of(network, samples, caplog):
    valid = xr.DataArray(np.ones((2, 8, 8), bool), dims=("channel", "lat", "lon"))
    valid[:, :, 3] = False
    plain = geoxai.explain(network, samples, rules="epsilon")
    assert not caplog.records
    result = geoxai.explain(network, samples, rules="epsilon", valid=valid)
    assert bool(result.relevance.isel(lon=3).isnull().all())
    assert int(result.relevance.isnull().sum()) == 6 * 2 * 8
    on_filled = plain.relevance.isel(lon=3).sum(("channel", "lat"), dtype="float64")
    np.testing.assert_allclose(result.filled_relevance, on_filled, rtol=1e-6)
    np.testing.assert_allclose(result.lost_relevance, plain.lost_relevance + on_filled, rtol=1e-6)
    assert closes(result)
    assert [r.name for r in caplog.records] == ["geoxai.explain"]
    per_sample = valid.expand_dims(sample=6).copy()
    per_sample[0] = True
    result = geoxai.explain(network, samples, rules="epsilon", valid=per_sample)
    assert not bool(result.relevance[0].isnull().any())
    with pytest.raises(InputError, match="valid has sizes"):
        geoxai.explain(network, samples, valid=valid.isel(lat=slice(4)))


def test_adapter_turns_relevance_back(network, samples):
    class SouthFirstChannelsLast:
        def to_network(self, array):
            return array.sortby("lat").transpose("sample", "lat", "lon", "channel").values

        def to_samples(self, relevance, like):
            stored = xr.DataArray(
                relevance, dims=("sample", "lat", "lon", "channel"), coords={"lat": np.sort(like.lat)}
            )
            return stored.sel(lat=like.lat).transpose(*like.dims).values

    def adapted(x):
        return network(x.permute(0, 3, 1, 2).flip(2))

    plain = geoxai.explain(network, samples)
    turned = geoxai.explain(adapted, samples, adapter=SouthFirstChannelsLast())
    np.testing.assert_array_equal(turned.relevance.values, plain.relevance.values)
    several = geoxai.explain(adapted, samples, target=[0, 1], adapter=SouthFirstChannelsLast())
    np.testing.assert_array_equal(
        several.relevance.sel(target="1"), geoxai.explain(network, samples, target=1).relevance
    )


def test_result_does_not_depend_on_how_samples_are_cut(network, samples):
    whole = geoxai.explain(network, samples, batch_size=2)
    parts = [geoxai.explain(network, samples[i : i + 2], batch_size=2) for i in (0, 2, 4)]
    xr.testing.assert_identical(whole, xr.concat(parts, "sample", data_vars="all"))


def test_labels_and_class_names_come_from_the_coordinates(network, samples):
    label = geoxai.explain(network, samples, target="label", score="logit")
    with torch.no_grad():
        logits = network(torch.as_tensor(samples.values)).numpy()
    np.testing.assert_allclose(label.target_value, logits[np.arange(6), samples.label], rtol=1e-6)
    named = geoxai.explain(network, samples, target="el_nino", score="logit")
    np.testing.assert_allclose(named.target_value, logits[:, 2], rtol=1e-6)
    with pytest.raises(OptionError, match="did you mean 'el_nino'"):
        geoxai.explain(network, samples, target="el_ninjo")


def test_dense_output_and_units(samples):
    network = seeded(UNet(channels=2), dtype=torch.float32)
    result = geoxai.explain(network, samples, target=[(0, 2, 3), (0, 5, 5)], units="dBZ")
    assert result.relevance.dims == ("target", *samples.dims)
    with torch.no_grad():
        field = network(torch.as_tensor(samples.values))[:, 0].numpy()
    np.testing.assert_allclose(result.prediction.sel(target="(0, 2, 3)"), field[:, 2, 3], rtol=1e-6)
    assert result.relevance.attrs["units"] == result.target_value.attrs["units"] == "dBZ"
    assert "confidence" not in result


def test_methods_without_an_account_say_so(network, samples):
    result = geoxai.explain(network, samples, method="gradient")
    assert result.attrs["account"] == "none"
    assert "bias_relevance" not in result
    assert "lost_relevance" not in result


def test_nan_and_too_few_dims_are_refused(network, samples):
    with pytest.raises(InputError, match="NaN"):
        geoxai.explain(network, samples.where(samples > 0))
    with pytest.raises(InputError, match="sample dim and at least one more"):
        geoxai.explain(network, samples[:, 0, 0, 0])


def test_store_round_trip(network, samples, tmp_path):
    result = geoxai.explain(network, samples)
    result.to_zarr(tmp_path / "relevance.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "relevance.zarr", consolidated=False).load()
    xr.testing.assert_allclose(back.drop_vars("units"), result.drop_vars("units"))
    assert back.attrs == result.attrs
