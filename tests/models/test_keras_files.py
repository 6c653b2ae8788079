"""Files of Keras 2 are mended and loaded; what cannot be read says why."""

import json

import numpy as np
import pytest
import torch

from geoxai.errors import InputError
from geoxai.models.keras2 import mended
from geoxai.models.load import load_network
from tests.models.keras2_files import aged

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="keras runs on another backend here")


def same_outputs(network, loaded, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    with torch.no_grad():
        np.testing.assert_allclose(loaded.module(torch.tensor(x)).numpy(), network(x).detach().numpy(), rtol=1e-5)


def test_a_sequential_of_keras_2_is_mended(tmp_path):
    keras.utils.set_random_seed(1)
    network = keras.Sequential([
        keras.layers.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, padding="same", kernel_initializer="he_normal", kernel_regularizer="l2"),
        keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.MaxPooling2D(),
        keras.layers.UpSampling2D(), keras.layers.Conv2D(1, 1),
    ])  # fmt: skip
    path = aged(network, tmp_path / "old.h5")
    with pytest.raises((AttributeError, TypeError, ValueError)):
        keras.saving.load_model(path, compile=False)
    loaded = load_network(path)
    same_outputs(network, loaded, (2, 8, 8, 3))
    assert loaded.fixed_batch is None
    assert any("2.4.0" in note for note in loaded.notes)


def test_a_recurrent_network_of_keras_2_is_mended(tmp_path):
    network = keras.Sequential([keras.layers.Input((5, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
    path = aged(network, tmp_path / "old.h5")
    with pytest.raises((AttributeError, TypeError, ValueError)):
        keras.saving.load_model(path, compile=False)
    same_outputs(network, load_network(path), (2, 5, 3))


def test_mending_a_published_file_changes_names_only(shared_data):
    with h5py.File(shared_data / "pretrained_keras_cc0" / "sub-sevir-unet-class-2d.h5") as file:
        config = json.loads(file.attrs["model_config"])
    after = mended(config)
    assert [layer["name"] for layer in after["config"]["layers"]] == [
        layer["name"] for layer in config["config"]["layers"]
    ]
    assert after["config"]["layers"][0]["config"]["batch_shape"] == [None, 48, 48, 4]
    assert mended(after) == after


def test_files_without_a_network_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with pytest.raises(InputError, match="is not an HDF5 file"):
        load_network(tmp_path / "text.h5")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(InputError, match="holds weights but no network"):
        load_network(tmp_path / "weights.h5")
    (tmp_path / "broken.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"is not a \.keras file"):
        load_network(tmp_path / "broken.keras")
