"""The explain stages: relevance of samples, at the places of their inputs."""

import json
import logging

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from geoxai.errors import OptionError
from geoxai.explaining import explain
from geoxai.models.adapter import Adapter
from geoxai.models.networks import Networks
from geoxai.stages.explain import Gradient, Lrp
from geoxai.stages.stage import Context

CLASSES = ("la_nina", "neutral", "el_nino")
LAT, LON = np.array([30.0, 10.0, -10.0, -30.0]), np.array([0.0, 60.0, 120.0, 180.0, 240.0, 300.0])


def samples(count=20, seed=0):
    """A samples store as it is opened: values and coordinates still on disk."""
    rng = np.random.default_rng(seed)
    shape = (count, 2, 4, 6)
    valid = np.ones(shape[1:], bool)
    valid[0, 1, 2] = False
    inputs = np.where(valid, rng.normal(size=shape), 0).astype(np.float32)
    flags = {"flag_values": [0, 1, 2], "flag_meanings": " ".join(CLASSES)}
    split = np.repeat([0, 2], [count // 2, count - count // 2]).astype(np.int8)
    cells = ("channel", "lat", "lon")
    store = xr.Dataset(
        {
            "inputs": (("sample", *cells), inputs),
            "valid": (cells, valid),
            "scaling_mean": ("channel", [0.0, 0.0]),
            "scaling_sd": ("channel", [1.0, 1.0]),
        },
        {
            "sample": np.arange(count),
            "time": ("sample", np.datetime64("2000-01", "ns") + np.arange(count) * np.timedelta64(31, "D")),
            "label": ("sample", rng.integers(0, 3, count).astype(np.int16), flags),
            "split": ("sample", split, {"flag_values": [0, 1, 2], "flag_meanings": "train validation test"}),
            "channel": np.array(["sst", "slp"], dtype=object),
            "lat": ("lat", LAT, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
        },
    ).chunk(sample=5)
    return store.assign_coords({name: store[name].chunk() for name in ("time", "label", "split")})


class Cnn(nn.Module):
    """Classifier of one convolution; ``turned`` knows its grid south to north."""

    def __init__(self, seed, outputs=3):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(96, outputs)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).flatten(1))


def networks(count=1, adapter=None, task="classification", outputs=3, **options):
    modules = tuple(Cnn(seed, outputs).eval() for seed in range(count))
    classes = CLASSES if task == "classification" else ()
    return Networks(modules, adapter or Adapter(), task, classes, digest="abc", **options)


def build(tmp_path, stage, data, model):
    context = Context("relevance", tmp_path, {"from": data, "model": model})
    stage.skeleton(context)
    layout = stage.layout(context)
    assert all(c.chunks is None for c in layout.template.coords.values())
    size = layout.template.sizes["sample"]
    parts = [stage.compute(context, s, min(s + layout.block, size)) for s in range(0, size, layout.block)]
    filled = xr.concat(parts, "sample", coords="minimal", compat="override")
    store = layout.template.copy()
    for name, variable in layout.template.data_vars.items():
        assert dict(filled[name].sizes) == dict(variable.sizes), name
        store[name] = filled[name].transpose(*variable.dims).astype(variable.dtype).assign_attrs(variable.attrs)
    return store


@pytest.mark.parametrize("count", [1, 3])
def test_relevance_is_on_the_grid_of_the_inputs_and_the_account_closes(tmp_path, count):
    data = samples()
    store = build(tmp_path, Lrp(rules="epsilon", target="el_nino", score="logit"), data, networks(count))
    assert store["relevance"].dims == (("network",) if count > 1 else ()) + data["inputs"].dims
    for name in ("sample", "time", "lat", "lon", "channel", "label", "split"):
        xr.testing.assert_identical(store[name].drop_vars(store[name].coords), data[name].drop_vars(data[name].coords))
    assert store["relevance"].isel(channel=0, lat=1, lon=2).isnull().all()
    assert store["relevance"].isnull().sum() == 20 * count
    cells = ("channel", "lat", "lon")
    total = store["relevance"].astype(float).sum(cells)
    parts = store["bias_relevance"] + store["stabiliser_relevance"] + store["lost_relevance"]
    size = np.maximum(abs(store["target_value"]), abs(store["relevance"]).sum(cells))
    assert (abs(total + parts - store["target_value"]) <= 1e-5 * size).all()
    assert store.attrs["account"] == "closed"
    assert [
        row["rule"].split("(")[0] for row in json.loads(store.attrs["rule_table"]) if row["op"] in ("linear", "conv2d")
    ]


def test_a_shorter_precision_changes_little_and_says_so(tmp_path):
    options = {"target": "el_nino", "score": "logit"}
    full, short = (build(tmp_path, Lrp(precision=p, **options), samples(), networks()) for p in ("full", "bfloat16"))
    off = float(abs(short["relevance"] - full["relevance"]).max() / abs(full["relevance"]).max())
    assert 0 < off < 0.03
    np.testing.assert_array_equal(short["target_value"], full["target_value"])
    assert (full.attrs["account"], short.attrs["account"]) == ("closed", "approximate")
    assert "convolutions of the rules in bfloat16" in short.attrs["notes"]


def test_networks_and_subset_are_those_asked_for(tmp_path):
    data, several = samples(), networks(2)
    store = build(tmp_path, Lrp(subset="test"), data, several)
    assert store["sample"].values.tolist() == list(range(10, 20))
    for k, module in enumerate(several.modules):
        alone = explain(module, data["inputs"].isel(sample=slice(10, 20)).load(), classes=CLASSES)
        got = store["relevance"].isel(network=k)
        np.testing.assert_allclose(
            got.where(got.notnull(), alone["relevance"]), alone["relevance"], rtol=1e-5, atol=1e-7
        )
        np.testing.assert_array_equal(store["prediction"].isel(network=k), alone["prediction"])
    assert store["prediction"].attrs["flag_meanings"] == " ".join(CLASSES)


@pytest.mark.parametrize("chunk", [3, 8, 100])
def test_units_of_any_size_give_the_same_bits(tmp_path, chunk):
    a = build(tmp_path, Lrp(batch_size=4, chunk=1), samples(), networks())
    b = build(tmp_path, Lrp(batch_size=4, chunk=chunk), samples(), networks())
    xr.testing.assert_identical(a, b)


@pytest.mark.parametrize("variant", ["plain", "squared", "times_input"])
def test_gradients(tmp_path, variant):
    data, model = samples(), networks()
    store = build(tmp_path, Gradient(variant=variant, target="el_nino", score="logit"), data, model)
    x = torch.tensor(data["inputs"].values, requires_grad=True)
    model.modules[0](x)[:, 2].sum().backward()
    g, x = x.grad.numpy(), x.detach().numpy()
    expected = {"plain": g, "squared": g**2, "times_input": g * x}[variant]
    got = store["relevance"].values
    np.testing.assert_allclose(got[np.isfinite(got)], expected[np.isfinite(got)], rtol=1e-5, atol=1e-7)
    assert store.attrs["account"] == "none"
    assert "bias_relevance" not in store


def test_a_network_that_knows_another_orientation_gives_the_same_relevance_at_the_same_place(tmp_path):
    data = samples()
    turned = data.isel(lat=slice(None, None, -1), lon=[3, 4, 5, 0, 1, 2])
    turned = turned.assign_coords(lon=[-180.0, -120, -60, 0, 60, 120])
    model = networks(adapter=Adapter(lat="ascending", lon="-180..180"))
    a, b = (build(tmp_path, Lrp(), one, model)["relevance"] for one in (data, turned))
    assert (b["lat"].values == turned["lat"].values).all()
    back = b.assign_coords(lon=b["lon"] % 360).sortby("lon").sortby("lat", ascending=False)
    np.testing.assert_array_equal(a.values, back.values)


def test_a_fixed_batch_is_filled_up(tmp_path):
    class Fixed(Cnn):
        def forward(self, x):
            assert x.shape[0] == 6
            return super().forward(x)

    torch.manual_seed(0)
    model = Networks((Fixed(0).eval(),), Adapter(), "classification", CLASSES, fixed_batch=6)
    fixed, free = (build(tmp_path, Lrp(), samples(), m) for m in (model, networks()))
    np.testing.assert_allclose(fixed["relevance"], free["relevance"], rtol=1e-5, atol=1e-7)


def test_regression_needs_its_output_named(tmp_path):
    model = networks(task="regression", outputs=1, units="degC")
    with pytest.raises(OptionError, match="for classifiers, but the network gives values") as error:
        build(tmp_path, Lrp(), samples(), model)
    assert error.value.option == "target"
    store = build(tmp_path, Lrp(target=0, rules="epsilon"), samples(), model)
    assert store["relevance"].attrs["units"] == "degC"
    store = build(tmp_path, Lrp(target=0, rules="epsilon"), samples(), networks(task="regression", outputs=1))
    assert not any("units" in store[name].attrs for name in ("relevance", "target_value", "prediction"))
    np.testing.assert_allclose(store["prediction"], store["target_value"], rtol=1e-5)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("epsilonn", "did you mean 'epsilon'"),
        ([{"match": "all", "rule": "alpha_beta", "alpha": 3, "beta": 1}], "alpha"),
    ],
)
def test_rules_are_checked_without_a_network(rules, message):
    with pytest.raises(OptionError, match=message):
        Lrp(rules=rules)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Lrp(target="el_ninio"), "unknown target 'el_ninio'; did you mean 'el_nino'"),
        (Lrp(subset="validation"), "there is no sample in the split 'validation'"),
        (Lrp(target=[0, 7]), "outside one sample"),
        (Lrp(target=3), "outside one sample"),
    ],
)
def test_mistakes_are_reported_before_anything_is_computed(tmp_path, stage, message):
    with pytest.raises(OptionError, match=message):
        stage.skeleton(Context("relevance", tmp_path, {"from": samples(), "model": networks()}))


def test_a_network_of_another_grid_is_refused(tmp_path):
    data = samples().isel(lon=slice(0, 5))
    with pytest.raises(OptionError, match="does not take inputs of shape"):
        Lrp().skeleton(Context("relevance", tmp_path, {"from": data, "model": networks()}))


def test_planning_warns_of_nothing_and_gives_rules(tmp_path, caplog):
    context = Context("relevance", tmp_path, {"from": samples(), "model": networks()})
    with caplog.at_level(logging.WARNING):
        Lrp(target="la_nina", score="logit").skeleton(context)
    assert not caplog.records
    assert {row.op for row in Lrp().rule_table(context)} >= {"conv2d", "linear"}


def test_maps_that_say_little_are_warned_of_once_for_all_units(tmp_path, caplog):
    several = networks(2)
    for module in several.modules:  # the last layer sees values below 0 alone, with weights above 0
        with torch.no_grad():
            module.conv.weight.mul_(0.01)
            module.conv.bias.fill_(-0.5)
            module.out.weight.abs_()
            module.out.bias.zero_()
        module.forward = lambda x, own=module: own.out(nn.functional.gelu(own.conv(x)).flatten(1))
    stage = Lrp(rules="alpha1_beta0", target="el_nino", score="logit", chunk=7, batch_size=7)
    with caplog.at_level(logging.WARNING):
        store = build(tmp_path, stage, samples(), several)
        assert not [r for r in caplog.records if "say little" in r.getMessage()]
        stage.summarise(Context("relevance", tmp_path, {}), store)
    (told,) = [r.getMessage() for r in caplog.records if "say little" in r.getMessage()]
    assert told.startswith(
        "relevance: with rules alpha1_beta0 more than half of the explained value is lost in 40 of 40"
    )


def test_the_rules_that_auto_chose_are_in_the_store_its_table_and_captions(tmp_path):
    from geoxai.plotting.captions import method_words

    store = build(tmp_path, Lrp(), samples(), networks(2))
    assert (store.attrs["rules"], store.attrs["rules_chosen"]) == ("auto", "alpha1_beta0")
    assert "alpha1_beta0, chosen by auto" in store.attrs["rule_table"]
    assert method_words(store.attrs) == "layer-wise relevance propagation, rules alpha1_beta0 (chosen by auto)"
    same = build(tmp_path, Lrp(rules="alpha1_beta0"), samples(), networks(2))
    assert "rules_chosen" not in same.attrs
    xr.testing.assert_equal(store, same)
