"""Targets of explain: places on the grid, pixels of each sample, several at once; references; layers."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import geoxai
from geoxai.config import load
from geoxai.errors import OptionError
from geoxai.models.adapter import Adapter
from geoxai.models.networks import Networks
from geoxai.stages.explain import Gradient, Lrp
from geoxai.stages.pixels import SelectPixels
from geoxai.stages.targets import Place
from tests.stages.network_samples import context, filled, samples

CELLS = ("channel", "lat", "lon")


class Net(nn.Module):
    """Two images from two channels; knows its grid north to south, 0..360."""

    def __init__(self, seed=0, outputs=2):
        super().__init__()
        torch.manual_seed(seed)
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, outputs, 3, padding=1)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


class ChannelsLast(Net):
    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


ADAPTERS = {
    "as it is": (Net, Adapter()),
    "turned": (Net, Adapter(lat="descending", lon="-180..180")),
    "channels last": (ChannelsLast, Adapter(("sample", "lat", "lon", "channel"), lat="descending")),
}


def image_networks(kind="as it is", count=1):
    build, adapter = ADAPTERS[kind]
    modules = tuple(build(seed).eval() for seed in range(count))
    return Networks(modules, adapter, "image", digest="abc", target_channels=("refl", "flash"), units="dBZ")


def data(n=10):
    store = samples(n, kind="none")
    return store.assign(valid=(CELLS, np.ones((2, 6, 8), bool))).drop_vars("target", errors="ignore")


def outputs(networks, store, member=0):
    """Predictions on the samples' grid, dims (sample, target_channel, lat, lon)."""
    from geoxai.models.networks import predict

    found = predict(networks.for_samples(store), store["inputs"])["prediction"]
    return found.isel(network=member) if networks.dims else found


def closed(store):
    total = store["relevance"].astype(float).sum(CELLS)
    parts = store["bias_relevance"] + store["stabiliser_relevance"] + store["lost_relevance"]
    size = np.maximum(abs(store["target_value"]), abs(store["relevance"]).sum(CELLS))
    assert ((abs(total + parts - store["target_value"]) <= 1e-5 * size) | store["target_value"].isnull()).all()


BOX = {"box": {"lat": (0, 30), "lon": (90, 180)}, "channel": "flash"}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_places_are_where_they_are_whatever_the_network_wants(tmp_path, kind):
    store, networks = data(), image_networks(kind)
    target = [
        Place(**BOX),
        Place(box=BOX["box"], channel=1, reduce="sum"),
        Place(point={"lat": 28, "lon": -91}, channel="refl"),
        Place(polygon={"lat": [-20, 0, 60, -20], "lon": [-100, -140, -40, -40]}, channel="refl", reduce="sum"),
        Place(box="tropics", channel=0),
    ]
    explained = filled(Lrp(target=target, rules="epsilon"), context(tmp_path, from_=store, model=networks)).load()
    assert explained["relevance"].dims == ("target", "sample", *CELLS)
    y = outputs(networks, store)
    flash, refl = y[:, 1], y[:, 0]
    # cells of 20 x 45 degrees around -50, -30, ... 50 and 0, 45, ... 315: those on an edge count with their part inside
    band = np.diff(np.sin(np.radians([0, 20, 30])))
    whole = np.diff(np.sin(np.radians([0, 20, 40])))
    columns = np.array([0.5, 1, 0.5])
    box = flash.values[:, [3, 4]][:, :, [2, 3, 4]]
    weights = band[:, None] * columns
    expected = [
        (box * weights).sum((1, 2)) / weights.sum(),
        (box * (band / whole)[:, None] * columns).sum((1, 2)),
        refl.sel(lat=30, lon=270).values,
    ]
    for number, values in enumerate(expected):
        np.testing.assert_allclose(explained["target_value"][number], values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(explained["prediction"], explained["target_value"], rtol=1e-5, atol=1e-6)
    closed(explained)
    assert json.loads(str(explained["target"].values[0]))["channel"] == "flash"
    # a window of 5 x 5 cells around the point, in the samples' own orientation
    point = explained["relevance"][2]
    near = (abs(point["lat"] - 30) <= 45) & (abs((point["lon"] - 90) % 360 - 180) <= 95)
    assert float(abs(point.where(~near)).sum()) == 0
    assert float(abs(point.sel(lat=30, lon=270)).sum()) > 0


def test_a_mask_from_a_file_in_a_config(tmp_path, monkeypatch):
    store, networks = data(4), image_networks("turned")
    mask = xr.DataArray(
        np.zeros((12, 16)), {"lat": np.linspace(50, -50, 12), "lon": np.arange(0, 360, 22.5)}, ("lat", "lon")
    )
    mask[5:8, 4:9] = 1
    mask.rename("storm").to_netcdf(tmp_path / "mask.nc")
    target = Place(mask=str(tmp_path / "mask.nc"), channel=0, reduce="sum")
    explained = filled(Lrp(target=target), context(tmp_path, from_=store, model=networks)).load()
    from geoxai.grid.masks import mask_onto

    inside = mask_onto(mask, store).values > 0
    assert 0 < inside.sum() < 12
    np.testing.assert_allclose(
        explained["target_value"], outputs(networks, store)[:, 0].values[:, inside].sum(1), rtol=1e-4, atol=1e-5
    )


def test_pixels_of_each_sample_and_network(tmp_path):
    from geoxai.models.networks import predict

    store, networks = data(12), image_networks("turned", count=2)
    predicted = predict(networks.for_samples(store), store["inputs"])
    chosen = SelectPixels(channel="flash", count=2, separation=3, where="prediction > 0.3")
    pixels = filled(chosen, context(tmp_path, "pixels", from_=predicted, samples=store))
    assert (pixels["row"] < 0).any()
    assert (pixels["row"] >= 0).any()
    stage = Lrp(target=Place(pixels="pixels", channel="flash"), rules="epsilon", subset="test", batch_size=2)
    sources = {"from": store, "model": networks, "target.pixels": pixels}
    explained = filled(stage, context(tmp_path, **sources), block=4).load()
    test = pixels.isel(sample=slice(9, 12)).load()
    assert explained["relevance"].dims == ("network", "target", "sample", *CELLS)
    assert list(explained["target"].values) == ["pixels 0", "pixels 1"]
    np.testing.assert_allclose(
        explained["target_value"].transpose("network", "sample", "target"), test["value"], rtol=1e-4, atol=1e-5
    )
    gone = (test["row"] < 0).values.transpose(0, 2, 1)
    np.testing.assert_array_equal(explained["relevance"].isnull().all(CELLS).values, gone)
    closed(explained)


def test_references(tmp_path):
    store, networks = data(), image_networks()
    place = Place(point={"lat": 10, "lon": 90}, channel=0)
    y = outputs(networks, store)[:, 0].sel(lat=10, lon=90)
    mean = store["inputs"].isel(sample=slice(0, 5)).mean("sample", dtype="float64").astype("float32")
    with torch.no_grad():
        at_mean = networks.modules[0](torch.as_tensor(mean.values)[None])[0, 0, 3, 2].item()
    for given, number in (
        (20, 20),
        ({"value": -1.5}, -1.5),
        ({"sample": 3}, float(y[3])),
        ({"climatology": "train"}, at_mean),
    ):
        stage = Lrp(target=place, reference=given, rules="epsilon")
        where = context(tmp_path, from_=store, model=networks)
        assert stage.fits == (given == {"climatology": "train"})
        if stage.fits:
            stage.skeleton(where)
            where = context(tmp_path, from_=store, model=networks, fitted=stage.fit(where))
        explained = filled(stage, where).load()
        np.testing.assert_allclose(explained["target_value"], y - number, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(explained["prediction"], y, rtol=1e-4, atol=1e-5)
        closed(explained)
    plain = filled(Gradient(target=place, reference=1.0), context(tmp_path, from_=store, model=networks)).load()
    np.testing.assert_allclose(plain["target_value"], y - 1, rtol=1e-4, atol=1e-5)


def test_layers_and_depth(tmp_path):
    store, networks = data(), image_networks(count=2)
    stage = Lrp(target=[[0, 2, 3], [1, 4, 4]], rules="epsilon", layers=["one"], flat_below="one", batch_size=3)
    explained = filled(stage, context(tmp_path, from_=store, model=networks)).load()
    assert explained["relevance_at_one"].shape == (2, 2, 10, 4, 6, 8)
    axes = [f"relevance_at_one_axis{i}" for i in (1, 2, 3)]
    np.testing.assert_allclose(
        explained["relevance"].sum(CELLS), explained["relevance_at_one"].sum(axes), rtol=1e-4, atol=1e-5
    )


def test_the_window_changes_nothing(tmp_path):
    store, networks = data(), image_networks("turned")
    place = [Place(point={"lat": 50, "lon": 0}, channel=0)]
    both = [
        filled(Lrp(target=place, window=window), context(tmp_path / window, from_=store, model=networks)).load()
        for window in ("auto", "never")
    ]
    xr.testing.assert_allclose(*both, rtol=1e-5, atol=1e-7)
    assert both[0].attrs == both[1].attrs


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Lrp(target=Place(box="nino99", channel=0)), "unknown region 'nino99'"),
        (Lrp(target=Place(box="arctic", channel=0)), "the box contains no cell"),
        (Lrp(target=Place(point={"lat": 61, "lon": 0}, channel=0)), "latitude 61, longitude 0 lies outside the grid"),
        (Lrp(target=Place(box="tropics")), "the network's output has 2 channels"),
        (Lrp(target=Place(box="tropics", channel="rain")), "unknown output channel 'rain'"),
        (Lrp(target=Place(box="tropics", channel=2)), "target channel 2: the network's output has 2 channels"),
        (Lrp(target=Place(box="tropics", channel=0, step=1)), "no time steps"),
        (Lrp(target=[0, 1, 1], reference={"sample": 99}), "no sample 99"),
        (Lrp(target=[0, 1, 1], layers=["three"]), "unknown layer 'three'"),
    ],
)
def test_mistakes_are_reported_before_anything_is_computed(tmp_path, stage, message):
    with pytest.raises(OptionError, match=message):
        stage.skeleton(context(tmp_path, from_=data(), model=image_networks()))


def test_places_are_checked_when_read():
    with pytest.raises(ValueError, match="give exactly one of box"):
        Place(box="tropics", point={"lat": 1, "lon": 2})
    for point, message in (({"lat": 95, "lon": 0}, "beyond a pole"), ({"lat": 0, "lon": 999}, "more than a turn away")):
        with pytest.raises(ValueError, match=message):
            Place(point=point)
    with pytest.raises(ValueError, match="beyond a pole"):
        Place(box={"lat": [80, 95], "lon": [0, 10]})
    with pytest.raises(ValueError, match="give south first"):
        Place(box={"lat": [10, -10], "lon": [0, 10]})
    with pytest.raises(ValueError, match="give exactly one of value"):
        Lrp(target=0, reference={"value": 1, "sample": 2})


def test_explain_takes_places_in_a_notebook():
    store = data(3)
    found = geoxai.explain(
        Net().eval(), store["inputs"], target=[{"box": "tropics", "channel": 1}, (0, 1, 1)], rules="epsilon",
        reference={"climatology": store["inputs"].mean("sample")},
    )  # fmt: skip
    assert found["relevance"].dims == ("target", *store["inputs"].dims)
    assert found.attrs["reference"].startswith('{"climatology"')
    with pytest.raises(OptionError, match="unknown target 'boxx'; did you mean 'box'"):
        geoxai.explain(Net().eval(), store["inputs"], target={"boxx": "tropics"})


CONFIG = """
version: 1
name: pixels
output: {dir: out}
stages:
  sst: {use: load.netcdf, path: none.nc}
  samples: {use: samples, inputs: [sst], image: sst}
  network: {use: train, from: samples, architecture: {cnn: {}}}
  predicted: {use: predict}
  storms: {use: select.pixels, where: "prediction > 35 and target > 35", count: 3, separation: 10, border: 5}
  maps:
    use: explain.lrp
    from: samples
    model: network
    target: [{pixels: storms}, [0, 4, 4], {box: {lat: [30, 40], lon: [-110, -100]}}]
    reference: {value: 20}
"""


def test_a_config_names_pixels_inside_a_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.nc").touch()
    (tmp_path / "config.yaml").write_text(CONFIG)
    config = load(tmp_path / "config.yaml")
    assert config.sources("maps")["target.0.pixels"] == "storms"
    assert config.stages["maps"].reference.value == 20
    assert config.stages["maps"].target[2].box.lat == (30, 40)
