"""What a notebook gives is taken where its meaning is clear, else refused saying what was found and expected."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import geoxai
from geoxai.attribution import attribute, rule_table
from geoxai.errors import GeoxaiError, InputError, OptionError

X = torch.rand(4, 2, 3, 4, generator=torch.Generator().manual_seed(0))
DIMS = ("sample", "channel", "lat", "lon")
COORDS = {"lat": [10.0, 20, 30], "lon": [0.0, 90, 180, 270]}
GRID = xr.DataArray(X.numpy(), dims=DIMS, coords=COORDS)


def dense():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).eval()


def conv():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()


@pytest.mark.parametrize("given", [X, X.numpy(), X.double().requires_grad_()], ids=["tensor", "numpy", "with gradient"])
def test_tensors_and_arrays_are_taken_without_coordinates(given):
    wanted = geoxai.explain(dense(), GRID, target=1, rules="epsilon")
    found = geoxai.explain(dense(), given, target=1, rules="epsilon")
    assert found["relevance"].dims == ("sample", "dim_1", "dim_2", "dim_3")
    assert not found["relevance"].coords
    np.testing.assert_allclose(found["relevance"].values, wanted["relevance"].values, rtol=1e-6, atol=1e-9)


def test_a_tuple_is_several_inputs_as_for_attribute():
    class Two(nn.Module):
        def forward(self, a, b):
            return a.flatten(1).sum(1, keepdim=True) + 2 * b.flatten(1).sum(1, keepdim=True)

    found = geoxai.explain(Two().eval(), (X, X.numpy()[:, :, :1]), target=0, rules="zero")
    np.testing.assert_allclose(found["relevance_0"].values, X.numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["relevance_1"].values, 2 * X.numpy()[:, :, :1], rtol=1e-6)
    named = (GRID.rename("t"), GRID.isel(lat=[0]).rename("p", lat="row"))
    assert set(geoxai.explain(Two().eval(), named, target=0, rules="zero").data_vars) >= {"relevance_t", "relevance_p"}


def test_an_exported_program_is_taken_as_export_gives_it(tmp_path):
    batches = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(dense(), (X,), dynamic_shapes=batches), tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2")
    wanted = attribute(dense(), X, target=1, rules="epsilon").relevance
    torch.testing.assert_close(attribute(program, X, target=1, rules="epsilon").relevance, wanted)
    np.testing.assert_allclose(geoxai.explain(program, GRID, target=1, rules="epsilon")["relevance"], wanted, rtol=1e-5)
    assert len(rule_table(program, X, "epsilon", target=1)) > 0
    local = nn.Conv2d(2, 1, 3).eval()
    assert geoxai.receptive_field(torch.export.export(local, (X,), dynamic_shapes=batches), (1, 2, 3, 4)).axes[
        2
    ].exact == (3,)


def test_a_keras_model_is_taken_as_keras_gives_it(tmp_path):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend here")
    x = torch.rand(3, 6, 6, 2)
    layers = [keras.layers.RandomFlip(), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    keras.Sequential([keras.layers.Input((6, 6, 2)), *layers]).save(tmp_path / "net.keras")
    network = keras.saving.load_model(tmp_path / "net.keras")
    assert network.training
    kernel = network.layers[-1].weights[0].value.detach()[:, 1].reshape(6, 6, 2)
    found = attribute(network, x, target=1, rules="zero")
    torch.testing.assert_close(found.relevance, x * kernel)
    assert type(network) is keras.Sequential
    explained = geoxai.explain(network, x, target=1, rules="zero")
    np.testing.assert_allclose(explained["relevance"], x * kernel, rtol=1e-5)
    a, b = keras.layers.Input((4,)), keras.layers.Input((4,))
    two = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Concatenate()([a, b])))
    weights = two.weights[0].value.detach()[:, 0]
    first, second = attribute(two, (x[:, 0, :2].flatten(1), x[:, 1, :2].flatten(1)), target=0, rules="zero").relevance
    torch.testing.assert_close(first, x[:, 0, :2].flatten(1) * weights[:4])
    torch.testing.assert_close(second, x[:, 1, :2].flatten(1) * weights[4:])


def test_latitude_and_longitude_are_lat_and_lon_for_targets():
    net = nn.Conv2d(2, 1, 3, padding=1).eval()
    long = GRID.rename(lat="latitude", lon="longitude")
    target = {"point": {"lat": 20, "lon": 90}}
    found = geoxai.explain(net, long, target=target, rules="epsilon")
    assert found["relevance"].dims == ("sample", "channel", "latitude", "longitude")
    wanted = geoxai.explain(net, GRID, target=target, rules="epsilon")
    np.testing.assert_array_equal(found["relevance"].values, wanted["relevance"].values)
    with pytest.raises(InputError, match=r"needs the coordinates lat and lon; the inputs have dims .*y, x") as wrong:
        geoxai.explain(net, GRID.rename(lat="y", lon="x"), target=target)
    assert "inputs.rename(y='lat', x='lon')" in wrong.value.fix


REFUSED = {
    "list of tensors": (lambda: attribute(dense(), [X], target=0), "the input is a list, expected a tensor"),
    "list of arrays": (lambda: geoxai.explain(dense(), [GRID], target=0), "the inputs are a list, expected"),
    "nothing": (lambda: geoxai.explain(dense(), None), "the inputs are a NoneType"),
    "channels": (
        lambda: geoxai.explain(conv(), GRID[:, :1], target=0),
        r"does not take an input of shape \(4, 1, 3, 4\).*to have 2 channels",
    ),
    "channels of a tensor": (lambda: attribute(conv(), X[:, :1], target=0), r"of shape \(4, 1, 3, 4\)"),
    "channels of a table": (lambda: rule_table(conv(), X[:, :1], "zero"), r"of shape \(1, 1, 3, 4\)"),
    "channels by gradient": (
        lambda: attribute(conv(), X[:, :1], target=0, method="gradient"), r"of shape \(4, 1, 3, 4\)"
    ),
    "two inputs for one": (lambda: geoxai.explain(conv(), (X, X), target=0), "does not take inputs of shape"),
    "no samples": (lambda: geoxai.explain(dense(), GRID[:0], target=0), "the input has no sample"),
    "no samples in a tensor": (lambda: attribute(dense(), X[:0], target=0), "at least one sample"),
    "no channel": (lambda: geoxai.explain(dense(), GRID[:, :0], target=0), "the input has no channel"),
    "device": (lambda: geoxai.explain(dense(), GRID, target=0, device="gpu"), "unknown device 'gpu'"),
    "no device": (lambda: geoxai.explain(dense(), GRID, target=0, device=None), "unknown device None"),
    "batch of none": (lambda: geoxai.explain(dense(), GRID, target=0, batch_size=0), "positive integer, found 0"),
    "batch of truth": (lambda: attribute(dense(), X, target=0, batch_size=True), "positive integer, found True"),
    "a path": (lambda: geoxai.explain("net.pt2", GRID), "the network is a str, which cannot be called"),
    "a class": (lambda: geoxai.explain(nn.Linear, GRID), "the network is the class Linear"),
    "output in a list": (lambda: attribute(dense(), X, target=0, output=["k"]), r"output is the list \['k'\]"),
    "target of fractions": (lambda: attribute(dense(), X, target=(0.5,)), r"\(0.5,\) is not an index"),
    "valid without dims": (
        lambda: geoxai.explain(dense(), GRID, target=0, valid=np.ones((3, 4), bool)), "valid is a ndarray"
    ),
    "misspelt": (lambda: geoxai.explain(dense(), GRID, target=0, batchsize=3), "did you mean 'batch_size'"),
    "misspelt for gradients": (
        lambda: geoxai.explain(dense(), GRID, method="gradient", layer=["1"]), "did you mean 'layers'"
    ),
    "misspelt in attribute": (lambda: attribute(dense(), X, flat_bellow="1"), "did you mean 'flat_below'"),
    "misspelt rule option": (lambda: attribute(dense(), X, rules="epsilon", epss=1), "did you mean 'eps'"),
    "option of other rules": (lambda: attribute(dense(), X, rules="epsilon", alpha=1), "rules 'epsilon': unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_in_our_words(name):
    call, words = REFUSED[name]
    with pytest.raises(GeoxaiError, match=words):
        call()


def test_an_error_that_is_not_the_networks_is_not_blamed_on_it(monkeypatch):
    from geoxai.attribution.lrp import engine

    def broken(*args, **kwargs):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(engine, "plan", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        attribute(dense(), X, target=0)


@pytest.mark.parametrize("target", [0, 2, (1,), [0, 2]])
def test_one_of_several_values_is_explained_by_its_index(target):
    """Of (N, k) outputs that are no classes: the map of each is that of a network with this output alone."""
    net = dense()
    found = geoxai.explain(net, GRID, target=target, rules="zero", bias="ignore")
    for place, index in enumerate(target if isinstance(target, list) else [target]):
        k = index[0] if isinstance(index, tuple) else index
        alone = found.isel(target=place) if isinstance(target, list) else found
        np.testing.assert_allclose(alone["target_value"], net(X)[:, k].detach(), rtol=1e-5)
        shares = X.numpy() * net[1].weight[k].detach().reshape(2, 3, 4).numpy()
        scale = (alone["target_value"].values / shares.sum((1, 2, 3)))[:, None, None, None]
        np.testing.assert_allclose(alone["relevance"], shares * scale, rtol=1e-4, atol=1e-6)


def test_names_of_the_package_are_seen():
    assert {"explain", "receptive_field", "plot", "run", "open_run"} <= set(dir(geoxai))
    assert set(geoxai.__all__) - {"__version__"} == set(geoxai._LAZY)
    with pytest.raises(AttributeError, match="explian"):
        geoxai.explian  # noqa: B018
    with pytest.raises(OptionError):
        geoxai.explain(dense(), GRID, target=0, expalin=1)
