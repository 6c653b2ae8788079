"""Predictions keep their coordinates, do not depend on how work is cut, and their scores agree with a count by hand."""

import dataclasses

import numpy as np
import pytest

from geoxai.errors import GeoxaiError, OptionError
from geoxai.models import Adapter, Networks
from geoxai.models.networks import frozen
from geoxai.stages.predict import Predict, sample_block
from tests.stages.network_samples import CLASSES, Signal, context, filled, samples, stored


def networks(*modules, task="classification", **options):
    classes = CLASSES if task == "classification" else ()
    return Networks(tuple(frozen(m) for m in modules), Adapter(), task, classes, **options)


def test_predictions_of_several_networks_keep_coordinates_and_flags(tmp_path):
    data = stored(samples(), tmp_path / "samples.zarr")
    stage = Predict()
    where = context(tmp_path, from_=data, model=networks(Signal(), Signal(rows=(0,))))
    result = filled(stage, where)
    assert result["prediction"].dims == ("network", "sample")
    assert result["prediction"].dtype == np.int16
    assert result["prediction"].attrs["flag_meanings"] == "cold warm"
    assert result["probability"].dims == ("network", "sample", "class")
    assert result["class"].values.tolist() == list(CLASSES)
    for name in ("sample", "time", "split", "label"):
        assert np.array_equal(result[name].values, data[name].values), name
    assert result["label"].attrs["flag_meanings"] == "cold warm"
    logit = data["inputs"].values[:, 0, 2, 3:6].sum(axis=1, dtype=np.float64)
    warm = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(result["probability"][0, :, 1], warm, rtol=1e-6)
    np.testing.assert_allclose(result["confidence"][0], np.maximum(warm, 1 - warm), rtol=1e-6)
    summary = stage.summarise(where, result)
    assert summary["networks"][0]["test"] == {"samples": 30, "accuracy": 1.0, "recall": {"cold": 1.0, "warm": 1.0}}
    second = result["prediction"].values[1][data["split"].values == 2]
    label = data["label"].values[data["split"].values == 2]
    assert summary["networks"][1]["test"]["accuracy"] == pytest.approx((second == label).mean())


def test_a_single_network_has_no_network_dim(tmp_path):
    result = filled(Predict(), context(tmp_path, from_=samples(), model=networks(Signal())))
    assert result["prediction"].dims == ("sample",)
    assert result["probability"].dims == ("sample", "class")


def test_true_values_are_beside_predicted_ones(tmp_path):
    import torch

    class Value(torch.nn.Module):
        def forward(self, x):
            return x[:, 0, 0, :1]

    data = samples(kind="value")
    result = filled(Predict(), context(tmp_path, from_=data, model=networks(Value(), task="regression")))
    np.testing.assert_array_equal(result["value"], data["target"])


@pytest.mark.parametrize("chunk", [1, 16, 40, "auto"])
def test_the_chunk_changes_no_bit(tmp_path, chunk):
    whole = filled(
        Predict(batch_size=16, chunk=1000), context(tmp_path / "a", from_=samples(), model=networks(Signal()))
    )
    cut = filled(
        Predict(batch_size=16, chunk=chunk), context(tmp_path / "b", from_=samples(), model=networks(Signal()))
    )
    assert whole.identical(cut)


def test_units_are_whole_batches_of_about_16_mib():
    inputs = samples(10)["inputs"]
    assert sample_block(inputs, 100, 64) == 128
    assert sample_block(inputs, 3, 64) == 64
    each = inputs.nbytes / 10
    assert 16 * 2**20 <= sample_block(inputs, "auto", 64) * each < 16 * 2**20 + 64 * each


def test_one_logit_is_the_log_odds_of_the_second_class(tmp_path):
    import torch

    class One(torch.nn.Module):
        def forward(self, x):
            return x[:, 0, 0, :1]

    data = samples()
    result = filled(Predict(), context(tmp_path, from_=data, model=networks(One())))
    logit = data["inputs"].values[:, 0, 0, 0]
    assert np.array_equal(result["prediction"].values, (logit > 0).astype(np.int16))
    np.testing.assert_allclose(result["probability"][:, 1], 1 / (1 + np.exp(-logit)), rtol=1e-6)


def test_images_lie_on_the_grid_of_the_samples(tmp_path):
    import torch

    class Sum(torch.nn.Module):
        def forward(self, x):
            return x.sum(dim=1, keepdim=True)

    data = samples(kind="image")
    model = networks(Sum(), task="image", target_channels=("refl",), units="dBZ")
    model = dataclasses.replace(model, adapter=Adapter(lat="descending", lon="-180..180"))
    stage = Predict()
    where = context(tmp_path, from_=data, model=model)
    result = filled(stage, where)
    assert result["prediction"].dims == ("sample", "target_channel", "lat", "lon")
    assert result["prediction"].attrs["units"] == "dBZ"
    np.testing.assert_allclose(result["prediction"][:, 0], data["inputs"].values.sum(axis=1), rtol=1e-5, atol=1e-6)
    error = result["prediction"].values.astype(float) - data["target"].values
    test = data["split"].values == 2
    assert stage.summarise(where, result)["networks"][0]["test"]["rmse"] == pytest.approx(
        np.sqrt((error[test] ** 2).mean())
    )


def test_samples_without_labels_are_predicted_without_scores(tmp_path):
    data = samples().drop_vars("label")
    stage = Predict()
    where = context(tmp_path, from_=data, model=networks(Signal()))
    assert stage.summarise(where, filled(stage, where)) is None


def test_scores_without_a_split_are_of_all_samples(tmp_path):
    data = samples()
    for unsplit in (data.drop_vars("split"), data.assign(split=data["split"] * 0 - 1)):
        where = context(tmp_path, from_=unsplit, model=networks(Signal()))
        (scores,) = Predict().summarise(where, Predict().compute(where, 0, data.sizes["sample"]))["networks"]
        assert list(scores) == ["all"]
        assert scores["all"]["samples"] == data.sizes["sample"]


def test_samples_a_network_does_not_take_are_reported_while_planning(tmp_path):
    small = samples().isel(lat=slice(0, 4))
    with pytest.raises(OptionError, match=r"4 lat.*8 lon"):
        Predict().skeleton(context(tmp_path, from_=small, model=networks(Signal())))


def test_an_output_that_is_not_finite_names_its_sample(tmp_path):
    data = samples()
    data["inputs"][7, 0, 0, 0] = np.nan
    with pytest.raises(GeoxaiError, match="sample 7"):
        Predict().compute(context(tmp_path, from_=data, model=networks(Signal())), 0, 64)
