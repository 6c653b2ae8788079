"""Training as a user meets it: options, weights that survive a kill, networks that learn, numbers beside baselines."""

import logging
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.coordinates import orient
from geoxai.models import training
from geoxai.models.architectures import ACTIVATIONS, ARCHITECTURES
from geoxai.models.networks import predict
from geoxai.stages.architecture import Activation, Architecture
from geoxai.stages.train import LayerName, Train
from tests.stages.network_samples import context, filled, samples, stored

QUICK = {"epochs": 60, "batch": 20, "learning_rate": 0.01}


def weights(path):
    return torch.load(path, weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_an_mlp_learns_and_its_scores_are_beside_the_baselines(tmp_path):
    data = stored(samples(800), tmp_path / "samples.zarr")
    stage = Train(architecture={"mlp": {"hidden": [8]}}, seeds=2, l2={"first": 0.01}, epochs=20, learning_rate=0.01)
    where = context(tmp_path, "network", seed=5, from_=data)
    networks = filled(stage, where)
    assert networks.dims == ("network",)
    assert networks.task == "classification"
    assert networks.classes == ("cold", "warm")
    summary = stage.summarise(where, networks)
    assert [member["seed"] for member in summary["networks"]] == [5, 6]
    for member in summary["networks"]:
        assert member["epochs"] == member["best_epoch"] == 20
        assert (member["train"]["samples"], member["validation"]["samples"], member["test"]["samples"]) == (
            400,
            200,
            200,
        )
        assert member["train"]["accuracy"] > 0.95
    found = predict(networks, data["inputs"])["prediction"].values
    test = data["split"].values == 2
    by_hand = [(found[i] == data["label"].values)[test].mean() for i in range(2)]
    assert [member["test"]["accuracy"] for member in summary["networks"]] == pytest.approx(by_hand)
    assert summary["spread"]["test"]["accuracy"]["mean"] == pytest.approx(np.mean(by_hand))
    label, split = data["label"].values, data["split"].values
    commonest = np.bincount(label[split == 0]).argmax()
    majority = summary["baselines"]["majority_class"]
    assert majority["class"] == ("cold", "warm")[commonest]
    assert majority["test"]["accuracy"] == pytest.approx((label[test] == commonest).mean())
    assert summary["baselines"]["linear"]["test"]["accuracy"] > 0.8


def test_loss_curves_are_stored_with_their_epochs(tmp_path):
    stage = Train(seeds=2, epochs=5, l2=0.1)
    where = context(tmp_path, from_=samples())
    filled(stage, where)
    import xarray as xr

    curves = xr.open_zarr(where.store, consolidated=False)
    assert curves["training_loss"].dims == ("network", "epoch")
    assert curves["epoch"].values.tolist() == [1, 2, 3, 4, 5]
    assert np.isfinite(curves["validation_loss"]).all()
    assert (curves["penalty"] > 0).all()
    assert (curves["training_loss"].values[0] != curves["training_loss"].values[1]).all()


class Killed(Exception):
    pass


@pytest.mark.parametrize("options", [{"optimiser": "adam"}, {"optimiser": "sgd", "early_stopping": {"patience": 30}}])
def test_a_training_killed_midway_ends_with_the_same_bits(tmp_path, monkeypatch, options):
    data = samples()
    stage = Train(epochs=12, checkpoint_every=3, **options)
    whole = context(tmp_path / "whole", from_=data)
    curves = stage.compute(whole, 0, 1)
    killed = context(tmp_path / "killed", from_=data)
    original, calls = training._epoch, []

    def dies_in_the_eighth(*args):
        calls.append(1)
        if len(calls) == 8:
            raise Killed
        return original(*args)

    monkeypatch.setattr(training, "_epoch", dies_in_the_eighth)
    with pytest.raises(Killed):
        stage.compute(killed, 0, 1)
    assert not (killed.folder / "network-0.pt").exists()
    again = stage.compute(killed, 0, 1)
    assert len(calls) == 8 + 6, "it must go on from epoch 6, not begin anew"
    assert same(weights(whole.folder / "network-0.pt"), weights(killed.folder / "network-0.pt"))
    assert again.identical(curves)
    assert sorted(p.name for p in killed.folder.iterdir()) == ["network-0.pt"]


def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path, monkeypatch):
    where = context(tmp_path, from_=samples())
    fresh = context(tmp_path / "fresh", from_=samples(seed=1))
    original = training._epoch
    count = []

    def dies(*args):
        count.append(1)
        if len(count) == 5:
            raise Killed
        return original(*args)

    stage = Train(epochs=6, checkpoint_every=2)
    monkeypatch.setattr(training, "_epoch", dies)
    with pytest.raises(Killed):
        stage.compute(where, 0, 1)
    assert (where.folder / "checkpoint-0.pt").exists()
    other = context(tmp_path, from_=samples(seed=1))
    stage.compute(other, 0, 1)
    stage.compute(fresh, 0, 1)
    assert same(weights(other.folder / "network-0.pt"), weights(fresh.folder / "network-0.pt"))


def test_neither_torch_s_global_seed_nor_its_state_matters(tmp_path):
    stage = Train(epochs=2)
    torch.manual_seed(1)
    stage.compute(context(tmp_path / "a", from_=samples()), 0, 1)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    stage.compute(context(tmp_path / "b", from_=samples()), 0, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert same(weights(tmp_path / "a/stage/network-0.pt"), weights(tmp_path / "b/stage/network-0.pt"))


@pytest.mark.parametrize(("lat", "lon"), [("descending", "0..360"), ("ascending", "-180..180")])
def test_the_way_samples_are_stored_does_not_change_what_is_learnt(tmp_path, lat, lon):
    data = samples()
    turned = orient(data, lat=lat, lon=lon)
    assert not np.array_equal(turned["inputs"].values, data["inputs"].values)
    stage = Train(epochs=3, architecture={"cnn": {"filters": [4], "hidden": [4]}})
    a, b = (context(tmp_path / name, from_=d) for name, d in (("a", data), ("b", turned)))
    one, two = filled(stage, a), filled(stage, b)
    assert one.digest == two.digest
    assert np.array_equal(predict(one, data["inputs"])["probability"], predict(two, turned["inputs"])["probability"])


@pytest.mark.parametrize("architecture", [{"mlp": {"hidden": [16]}}, {"cnn": {"filters": [8], "pool_size": 1}}])
def test_values_come_out_in_their_own_units(tmp_path, architecture):
    stage = Train(architecture=architecture, **QUICK)
    where = context(tmp_path, from_=samples(200, kind="value"))
    networks = filled(stage, where)
    assert (networks.task, networks.units) == ("regression", "K")
    summary = stage.summarise(where, networks)
    climatology = summary["baselines"]["climatology"]
    assert summary["networks"][0]["train"]["rmse"] < 0.5 * climatology["train"]["rmse"]
    assert climatology["train"]["r2"] == pytest.approx(0, abs=1e-12)
    assert summary["baselines"]["linear"]["test"]["r2"] > 0.99
    assert float(predict(networks, samples(kind="value")["inputs"])["prediction"].mean()) == pytest.approx(280, abs=2)


@pytest.mark.parametrize("longitude", ["zeros", "cyclic"])
def test_a_unet_learns_images_on_a_grid_that_pooling_does_not_divide(tmp_path, longitude):
    stage = Train(architecture={"unet": {"filters": [8, 8, 8], "longitude": longitude}}, **QUICK)
    where = context(tmp_path, from_=samples(kind="image"))
    networks = filled(stage, where)
    assert networks.target_channels == ("refl",)
    summary = stage.summarise(where, networks)
    assert summary["networks"][0]["test"]["r2"] > (0.95 if longitude == "cyclic" else 0.8)
    assert summary["networks"][0]["test"]["rmse"] < summary["baselines"]["climatology"]["test"]["rmse"]
    assert summary["baselines"]["linear"]["train"]["r2"] > 0


def test_one_logit_tells_two_classes_apart(tmp_path):
    stage = Train(one_logit=True, **QUICK)
    where = context(tmp_path, from_=samples())
    networks = filled(stage, where)
    assert networks.modules[0](torch.zeros(1, 2, 6, 8)).shape == (1, 1)
    assert stage.summarise(where, networks)["networks"][0]["train"]["accuracy"] > 0.95


def test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss(tmp_path):
    import xarray as xr

    data = samples(40, seed=3)
    stage = Train(epochs=200, learning_rate=0.02, early_stopping={"patience": 5})
    where = context(tmp_path, from_=data)
    networks = filled(stage, where)
    curves = xr.open_zarr(where.store, consolidated=False).isel(network=0)
    run, best = int(curves["epochs_run"]), int(curves["best_epoch"])
    assert run == best + 5 < 200
    assert best == int(np.nanargmin(curves["validation_loss"].values)) + 1
    assert np.isnan(curves["training_loss"][run:]).all()
    held = data.isel(sample=data["split"].values == 1)
    probability = predict(networks, held["inputs"])["probability"].values
    loss = -np.log(probability[np.arange(10), held["label"].values]).mean()
    assert loss == pytest.approx(float(curves["validation_loss"].min()), rel=1e-4)


def test_untrained_networks_of_the_right_shape_stand_for_the_trained_ones_while_planning(tmp_path):
    stage = Train(seeds=3, architecture={"cnn": {}})
    networks = stage.skeleton(context(tmp_path, from_=samples().chunk()))
    assert len(networks.modules) == 3
    assert predict(networks, samples(4)["inputs"])["prediction"].shape == (3, 4)
    assert list(tmp_path.iterdir()) == []


def test_balanced_class_weights_make_rare_classes_count(tmp_path):
    data = samples()
    stage = Train(class_weights="balanced")
    labels = torch.tensor([0] * 30 + [1] * 10)
    assert stage._class_weights(data, labels) == pytest.approx((40 / 60, 40 / 20))
    named = Train(class_weights={"warm": 3})
    assert named._class_weights(data, labels) == (1.0, 3.0)
    with pytest.raises(OptionError, match="hot") as error:
        Train(class_weights={"hot": 3}).skeleton(context(tmp_path, from_=data))
    assert error.value.option == "class_weights.hot"


@pytest.mark.parametrize(
    ("options", "kind", "option"),
    [
        ({"l2": {"fourth": 1}}, "class", "l2.fourth"),
        ({"one_logit": True, "target": "value"}, "class", "target"),
        ({"architecture": {"unet": {}}}, "class", "architecture.unet"),
        ({"architecture": {"cnn": {}}}, "image", "architecture.cnn"),
        ({"architecture": {"cnn": {"filters": [2, 2, 2, 2]}}}, "class", "architecture.cnn"),
        ({"architecture": {"cnn": {"kernel": 4}}}, "class", "architecture.cnn"),
    ],
)
def test_options_that_do_not_fit_the_samples_are_reported_before_anything_is_computed(tmp_path, options, kind, option):
    with pytest.raises(OptionError) as error:
        Train(**options).skeleton(context(tmp_path, from_=samples(kind=kind)))
    assert error.value.option == option


@pytest.mark.parametrize(
    "options",
    [
        {"architecture": {"mlp": {}, "cnn": {}}},
        {"architecture": {}},
        {"architecture": {"mpl": {}}},
        {"architecture": {"mlp": {"hidden": [0]}}},
        {"l2": {"frist": 1}},
        {"l2": -1},
        {"epochs": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError):
        Train(**options)


def test_early_stopping_without_validation_samples_is_refused(tmp_path):
    data = samples()
    data = data.isel(sample=data["split"].values != 1)
    with pytest.raises(OptionError, match="validation") as error:
        Train(early_stopping={}).compute(context(tmp_path, from_=data), 0, 1)
    assert error.value.option == "early_stopping"
    with pytest.raises(OptionError, match="needs a validation split"):
        Train(early_stopping={}).skeleton(context(tmp_path, from_=data))


def test_a_training_that_diverges_says_so(tmp_path):
    stage = Train(optimiser="sgd", learning_rate=0.1, l2={"first": 25})
    with pytest.raises(GeoxaiError, match="diverged"):
        stage.compute(context(tmp_path, from_=samples()), 0, 1)


def test_without_a_split_all_samples_train_and_the_user_is_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Train(epochs=1).compute(context(tmp_path, from_=samples(split=False)), 0, 1)
    assert "no split" in caplog.text


def test_lost_weights_are_reported(tmp_path):
    where = context(tmp_path, "net", from_=samples())
    stage = Train(epochs=1)
    filled(stage, where)
    (where.folder / "network-0.pt").unlink()
    with pytest.raises(GeoxaiError, match=r"network-0.pt.*missing") as error:
        stage.open(where)
    assert "--force net" in error.value.fix


def test_options_and_library_name_the_same_things():
    assert set(get_args(LayerName)) == set(training.LAYER_NAMES)
    assert set(get_args(Activation)) == set(ACTIVATIONS)
    assert set(Architecture.model_fields) == set(ARCHITECTURES)
