"""Networks of Keras 2 compute what they computed there, and are explained so."""

import json
import zipfile

import numpy as np
import pytest
import torch

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

from geoxai.attribution import attribute  # noqa: E402
from geoxai.errors import GeoxaiError  # noqa: E402
from geoxai.models.load import load_network  # noqa: E402
from tests.attribution.test_account import gap  # noqa: E402
from tests.models.keras2_files import aged, as_keras2  # noqa: E402

pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="keras runs on another backend here")
layers = keras.layers
LATER = {  # layers of Keras 2 that are refused as yet
    "attention", "conv2dT_same", "conv2dT_valid", "conv3dT_same", "convT_3_1_same", "convT_4_2_same", "convT_5_3_same",
    "custom_layer_circular", "dwconv2d", "lambda", "locallyconnected", "nested", "sepconv2d", "slicing_op", "tf_pad",
    "tfop", "unet_transposed_2x2",
}  # fmt: skip


def hard_sigmoid(x):
    """As the documentation of Keras 2 has it."""
    return np.clip(0.2 * x + 0.5, 0, 1)


def values(network):
    return [np.asarray(variable.value.detach()).astype(np.float64) for variable in network.weights]


def wide(network, seed=1):
    """The network with weights large enough to reach the ends of a hard sigmoid."""
    generator = np.random.default_rng(seed)
    for variable in network.weights:
        variable.assign(generator.normal(0, 1.2, variable.shape))
    return network


def outputs(path, x):
    with torch.no_grad():
        return load_network(path).module(torch.tensor(x, dtype=torch.float32)).numpy()


def lstm(x, kernel, recurrent, bias, units):
    """Keras' LSTM cell over time with hard gates: gates in the order input, forget, cell, output."""
    h = c = np.zeros((len(x), units))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        h = hard_sigmoid(o) * np.tanh(c)
    return h


X = np.random.default_rng(0).normal(0, 2, (3, 6, 4))


@pytest.mark.parametrize("kind", ["activation", "layer", "wrapped"])
def test_the_hard_sigmoid_of_a_dense_layer(tmp_path, kind):
    dense = layers.Dense(5, activation="hard_sigmoid")
    stack = {
        "activation": [dense],
        "layer": [layers.Dense(5), layers.Activation("hard_sigmoid")],
        "wrapped": [layers.TimeDistributed(dense)],
    }[kind]
    network = wide(keras.Sequential([layers.Input((6, 4)), *stack]))
    kernel, bias = values(network)
    wanted = hard_sigmoid(X @ kernel + bias)
    assert (wanted == 0).any()
    assert (wanted == 1).any()
    np.testing.assert_allclose(outputs(aged(network, tmp_path / "old.h5"), X), wanted, atol=1e-5)


@pytest.mark.parametrize("wrapped", [False, True])
def test_hard_gates_of_an_lstm(tmp_path, wrapped):
    cell = layers.LSTM(3, recurrent_activation="hard_sigmoid")
    network = wide(keras.Sequential([layers.Input((6, 4)), layers.Bidirectional(cell) if wrapped else cell]))
    weights = values(network)
    wanted = lstm(X, *weights[:3], 3)
    if wrapped:
        wanted = np.concatenate([wanted, lstm(X[:, ::-1], *weights[3:], 3)], axis=1)
    np.testing.assert_allclose(outputs(aged(network, tmp_path / "old.h5"), X), wanted, atol=1e-5)


def test_hard_gates_of_a_gru(tmp_path):
    network = wide(keras.Sequential([layers.Input((6, 4)), layers.GRU(3, recurrent_activation="hard_sigmoid")]))
    kernel, recurrent, (bias, bias_recurrent) = values(network)
    h = np.zeros((3, 3))
    for step in range(6):
        of_x, of_h = np.split(X[:, step] @ kernel + bias, 3, 1), np.split(h @ recurrent + bias_recurrent, 3, 1)
        z, r = (hard_sigmoid(a + b) for a, b in zip(of_x[:2], of_h[:2]))
        h = z * h + (1 - z) * np.tanh(of_x[2] + r * of_h[2])
    np.testing.assert_allclose(outputs(aged(network, tmp_path / "old.h5"), X), h, atol=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_hard_gates_are_the_default_of_a_convlstm(tmp_path, named):
    """A kernel of 1 x 1 makes each cell of the grid an LSTM of its own."""
    network = wide(
        keras.Sequential([layers.Input((6, 2, 2, 4)), layers.ConvLSTM2D(3, 1, recurrent_activation="hard_sigmoid")])
    )
    kernel, recurrent, bias = values(network)
    path = aged(network, tmp_path / "old.h5")
    if not named:
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            del config["config"]["layers"][0]["config"]["recurrent_activation"]
            file.attrs["model_config"] = json.dumps(config)
    x = np.broadcast_to(X[:, :, None, None], (3, 6, 2, 2, 4)).copy()
    wanted = lstm(X, kernel[0, 0], recurrent[0, 0], bias, 3)
    np.testing.assert_allclose(outputs(path, x)[:, 1, 0], wanted, atol=1e-5)


def test_an_archive_of_keras_2_is_mended_too(tmp_path):
    """Keras 2.12 to 2.15 wrote .keras archives; here one of Keras 3 with the configuration of Keras 2."""
    network = wide(keras.Sequential([layers.Input((6, 4)), layers.Dense(5, activation="hard_sigmoid")]))
    network.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                content = json.dumps(as_keras2(json.loads(content), modules=True))
            if name == "metadata.json":
                content = json.dumps({"keras_version": "2.14.0"})
            old.writestr(name, content)
    kernel, bias = values(network)
    np.testing.assert_allclose(outputs(tmp_path / "old.keras", X), hard_sigmoid(X @ kernel + bias), atol=1e-5)


def test_the_hard_sigmoid_of_keras_3_stays_what_it_is(tmp_path):
    network = wide(keras.Sequential([layers.Input((6, 4)), layers.Dense(5, activation="hard_sigmoid")]))
    kernel, bias = values(network)
    for name in ("net.keras", "net.h5"):
        network.save(tmp_path / name)
        wanted = np.clip((X @ kernel + bias) / 6 + 0.5, 0, 1)
        np.testing.assert_allclose(outputs(tmp_path / name, X), wanted, atol=1e-5)


def test_average_pooling_is_of_the_cells_that_are_there(tmp_path):
    """Padding same puts one more cell after than before; Keras on torch counts cells of the edge twice instead."""
    network = keras.Sequential([layers.Input((8, 10, 2)), layers.AveragePooling2D(3, 2, padding="same")])
    x = np.random.default_rng(3).normal(size=(2, 8, 10, 2))
    rows, columns = ([slice(2 * i, 2 * i + 3) for i in range(n)] for n in (4, 5))
    wanted = np.stack([np.stack([x[:, r, c].mean((1, 2)) for c in columns], 1) for r in rows], 1)
    path = aged(network, tmp_path / "old.h5")
    np.testing.assert_allclose(outputs(path, x), wanted, atol=1e-6)
    got = attribute(load_network(path).module, torch.tensor(x).float(), rules="zero", target=(3, 4, 1))
    mask = np.zeros((8, 10, 2))
    mask[6:, 8:, 1] = 1 / 4
    np.testing.assert_allclose(got.relevance.numpy(), x * mask, atol=1e-6)


def test_layers_that_act_at_random_in_training_do_not_here(tmp_path):
    network = keras.Sequential([layers.Input((8, 10, 2)), layers.RandomFlip(), layers.Dropout(0.5)])
    network.save(tmp_path / "net.keras")
    x = np.random.default_rng(3).normal(size=(4, 8, 10, 2)).astype(np.float32)
    np.testing.assert_array_equal(outputs(tmp_path / "net.keras", x), x)


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (lambda: layers.UpSampling2D(interpolation="bicubic"), r"up_sampling2d\w*' \(UpSampling2D\) has .*bicubic"),
        (lambda: layers.Resizing(4, 4, interpolation="lanczos3"), "Resizing.*interpolation lanczos3"),
        (lambda: layers.Softmax(axis=[1, 2]), "Softmax.*axes 1, 2"),
    ],
)
def test_what_keras_3_computes_otherwise_is_refused_by_name(tmp_path, layer, found):
    path = aged(keras.Sequential([layers.Input((8, 10, 2)), layer()]), tmp_path / "old.h5")
    with pytest.raises(GeoxaiError, match=found):
        load_network(path)


def test_relevance_through_a_mended_activation_equals_the_sums_by_hand(tmp_path):
    network = wide(
        keras.Sequential([layers.Input((4,)), layers.Dense(5, activation="hard_sigmoid", use_bias=False),
                          layers.Dense(2, use_bias=False)])
    )  # fmt: skip
    first, second = values(network)
    x = X[:, 0]
    got = attribute(
        load_network(aged(network, tmp_path / "old.h5")).module, torch.tensor(x).float(), rules="zero", target=1
    )
    z = x @ first
    upper = hard_sigmoid(z) * second[:, 1]
    wanted = x[:, :, None] * first * (upper / z)[:, None]
    np.testing.assert_allclose(got.relevance.numpy(), wanted.sum(-1), rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_relevance_through_hard_gates_equals_gradients_with_the_gates_detached(tmp_path):
    """LRP-0 of a gated cell is gradient x input where gates are constants and tanh the line to its value."""
    cell = layers.LSTM(3, recurrent_activation="hard_sigmoid", use_bias=False)
    network = wide(keras.Sequential([layers.Input((6, 4)), cell, layers.Dense(1, use_bias=False)]))
    kernel, recurrent, head = (torch.tensor(a) for a in values(network))
    x = torch.tensor(X, requires_grad=True)
    h = c = torch.zeros(3, 3, dtype=torch.float64)

    def gate(z):
        return (0.2 * z + 0.5).clamp(0, 1).detach()

    def line(z):
        return z * torch.where(z == 0, 1.0, torch.tanh(z) / z).detach()

    for step in range(6):
        i, f, g, o = torch.chunk(x[:, step] @ kernel + h @ recurrent, 4, dim=1)
        c = gate(f) * c + gate(i) * line(g)
        h = gate(o) * line(c)
    y = (h @ head)[:, 0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    got = attribute(
        load_network(aged(network, tmp_path / "old.h5")).module, torch.tensor(X).float(), rules="zero", target=0
    )
    wanted = (gradient * x).detach()
    np.testing.assert_allclose(got.relevance.numpy(), wanted, rtol=2e-3, atol=2e-4 * float(wanted.abs().max()))
    np.testing.assert_allclose(got.target_value.numpy(), y.detach(), atol=1e-4)
    assert gap(got) < 1e-5


def test_every_layer_of_keras_2_gives_its_numbers_or_is_refused(shared_data):
    """Files of Keras 2.14 with its own predictions, a layer kind each."""
    folder = shared_data / "keras2_layers"
    refused = []
    for path in sorted(folder.glob("*.h5")):
        stored = np.load(path.with_suffix(".npz"))
        try:
            network = load_network(path).module
        except GeoxaiError:
            refused.append(path.stem)
            continue
        with torch.no_grad():
            y = network(*(torch.tensor(stored[name]) for name in stored.files if name.startswith("x"))).numpy()
        assert abs(y - stored["y"]).max() <= 1e-5 * abs(stored["y"]).max(), path.stem
    assert set(refused) <= LATER
