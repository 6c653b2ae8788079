"""A network of the user's own: every form it may come in, and every mistake about it stopped before explaining."""

import numpy as np
import pytest
import torch
from torch import nn

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.grid.coordinates import orient
from geoxai.models import predict
from geoxai.stages.model import Model
from tests.stages.network_samples import LAT, LON, MEAN, SD, Signal, context, samples


def exported(module, path, batch=None, shape=(2, LAT.size, LON.size)):
    example = torch.zeros(batch or 3, *shape)
    dynamic = None if batch else ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=dynamic), path)
    return str(path)


class Physical(nn.Module):
    """Wants (sst - 10) / 4 and (slp - 900) / 100, north first, longitudes from -180, channels last, slp first."""

    def __init__(self):
        super().__init__()
        self.rows, self.columns = LAT.size, LON.size

    def forward(self, x):
        sst = x[..., 1] * 4 + 10
        north_first = sst.flip(1)
        from_greenwich = torch.roll(north_first, self.columns // 2, dims=2)
        signal = ((from_greenwich[:, 2, 3:6] - 20) / 2).sum(dim=1)
        return torch.stack([torch.zeros_like(signal), signal], dim=1)


PHYSICAL = {
    "layout": ["sample", "lat", "lon", "channel"],
    "lat": "descending",
    "lon": "-180..180",
    "channels": ["slp", "sst"],
    "scaling": {"sst": {"offset": 10, "factor": 4}, "slp": {"offset": 900, "factor": 100}},
}


@pytest.fixture(scope="module")
def physical(tmp_path_factory):
    return exported(Physical(), tmp_path_factory.mktemp("net") / "net.pt2", shape=(LAT.size, LON.size, 2))


@pytest.mark.parametrize(("lat", "lon"), [(None, None), ("descending", "-180..180")])
def test_a_network_gets_what_it_declares(tmp_path, physical, lat, lon):
    data = orient(samples(), lat=lat, lon=lon)
    stage = Model(path=physical, expect={"accuracy": 1.0}, **PHYSICAL)
    where = context(tmp_path, from_=data)
    assert float(stage.fit(where)["accuracy"]) == 1.0
    found = predict(stage.open(where), data["inputs"])
    assert np.array_equal(found["prediction"], data["label"])


@pytest.mark.parametrize(
    "mistake",
    [
        {"lat": "ascending"},
        {"lon": "0..360"},
        {"channels": ["sst", "slp"]},
        {"scaling": None},
        {"scaling": {"sst": {"offset": 0, "factor": 4}, "slp": {}}},
    ],
    ids=["lat", "lon", "channel order", "no scaling", "wrong offset"],
)
def test_expect_catches_what_would_still_give_maps(tmp_path, physical, mistake):
    stage = Model(path=physical, expect={"accuracy": 1.0}, output="logits", **{**PHYSICAL, **mistake})
    where = context(tmp_path, from_=samples())
    stage.skeleton(where)
    with pytest.raises(
        GeoxaiError, match=r"accuracy on 30 samples of subset test is 0\.\d+, expected 1 within 0.01"
    ) as error:
        stage.fit(where)
    assert error.value.option == "expect.accuracy"
    assert error.value.exit_code == 1


def test_a_program_of_fixed_batch_gets_that_batch_and_the_last_one_padded(tmp_path):
    path = exported(Signal(), tmp_path / "net.pt2", batch=7)
    networks = Model(path=path).open(context(tmp_path, from_=samples()))
    assert networks.fixed_batch == 7
    free = Model(path=exported(Signal(), tmp_path / "free.pt2")).open(context(tmp_path, from_=samples()))
    assert free.fixed_batch is None
    data = samples(16)["inputs"]
    assert np.allclose(predict(networks, data)["probability"], predict(free, data)["probability"], rtol=1e-6)
    assert networks.digest == free.digest


def test_a_state_dict_comes_with_its_architecture(tmp_path, monkeypatch):
    torch.save(Signal(channel=1).state_dict(), tmp_path / "net.pt")
    stage = Model(path=str(tmp_path / "net.pt"), architecture="tests.stages.network_samples:Signal", args={"rows": [4]})
    networks = stage.open(context(tmp_path, from_=samples()))
    assert torch.equal(networks.modules[0].linear.weight, Signal(channel=1).linear.weight)
    assert not any(p.requires_grad for p in networks.modules[0].parameters())


@pytest.mark.parametrize(
    ("options", "option", "told"),
    [
        ({}, "architecture", "weights only"),
        ({"architecture": "tests.stages.network_samples.Signal"}, "architecture", "package.module:callable"),
        ({"architecture": "no_such_module:Net"}, "architecture", "no_such_module"),
        ({"architecture": "tests.stages.network_samples:Signle"}, "architecture", "Signle"),
        ({"architecture": "tests.stages.network_samples:Signal", "args": {"depth": 3}}, "args", "depth"),
        ({"architecture": "tests.stages.network_samples:samples"}, "architecture", "Dataset"),
        (
            {"architecture": "torch.nn:Linear", "args": {"in_features": 2, "out_features": 2}},
            "architecture",
            "too many",
        ),
    ],
)
def test_weights_that_do_not_find_their_network_say_why(tmp_path, options, option, told):
    torch.save(Signal().state_dict(), tmp_path / "net.pt")
    with pytest.raises(OptionError, match=told) as error:
        Model(path=str(tmp_path / "net.pt"), **options).open(context(tmp_path, from_=samples()))
    assert error.value.option == option


def test_an_architecture_of_other_sizes_is_named(tmp_path):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "net.pt")
    stage = Model(
        path=str(tmp_path / "net.pt"), architecture="torch.nn:Linear", args={"in_features": 4, "out_features": 2}
    )
    with pytest.raises(OptionError, match=r"weight is \(2, 3\) in the file, \(2, 4\) in the network"):
        stage.open(context(tmp_path, from_=samples()))


def test_a_pickled_module_needs_trust(tmp_path):
    torch.save(Signal(), tmp_path / "net.pt")
    with pytest.raises(OptionError, match="runs whatever code") as error:
        Model(path=str(tmp_path / "net.pt")).open(context(tmp_path, from_=samples()))
    assert error.value.option == "trust"
    networks = Model(path=str(tmp_path / "net.pt"), trust=True).open(context(tmp_path, from_=samples()))
    assert np.array_equal(predict(networks, samples()["inputs"])["prediction"], samples()["label"])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_torchscript_is_refused_with_the_way_out(tmp_path):
    torch.jit.trace(Signal(), torch.zeros(1, 2, 6, 8)).save(tmp_path / "net.pt")
    with pytest.raises(OptionError, match="TorchScript") as error:
        Model(path=str(tmp_path / "net.pt"), trust=True).open(context(tmp_path, from_=samples()))
    assert "torch.export.save" in error.value.fix


@pytest.mark.parametrize("name", ["net.pt2", "net.pt", "net.h5"])
def test_a_file_that_is_not_a_network_is_unreadable(tmp_path, name):
    if name == "net.h5":
        pytest.importorskip("keras")
    (tmp_path / name).write_bytes(b"not a network at all")
    with pytest.raises(InputError, match=name):
        Model(path=str(tmp_path / name)).open(context(tmp_path, from_=samples()))


def test_a_file_of_another_name_is_not_guessed_at(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(OptionError, match=r"net.onnx.*\.pt2") as error:
        Model(path=str(tmp_path / "net.onnx")).open(context(tmp_path, from_=samples()))
    assert error.value.option == "path"


@pytest.mark.parametrize(
    ("options", "change", "option", "told"),
    [
        ({}, lambda d: d.isel(lat=slice(0, 5)), "layout", r"\(1, 2, 5, 8\)"),
        ({"channels": ["sst", "slt"]}, None, "channels", "unknown channel 'slt'"),
        ({"channels": ["sst"]}, None, "layout", "take inputs of shape"),
        ({"layout": ["sample", "lat", "lon"]}, None, "layout", "sst, slp"),
        ({"layout": ["lat", "sample", "lon"]}, None, "layout", "sample first"),
        ({"classes": ["warm", "hot"]}, None, "classes", "warm, hot, those of the samples are cold, warm"),
        ({"scaling": {"sst": {"factor": 2}}}, None, "scaling", "'slp'"),
        ({"scaling": {"sst": {"factor": 2}, "slp": {}, "tas": {}}}, None, "scaling.tas", "tas"),
    ],
)
def test_a_network_that_does_not_fit_its_samples_is_reported_while_planning(tmp_path, options, change, option, told):
    data = samples() if change is None else change(samples())
    stage = Model(path=exported(Signal(), tmp_path / "net.pt2"), **options)
    with pytest.raises(OptionError, match=told) as error:
        stage.skeleton(context(tmp_path, from_=data.chunk()))
    assert error.value.option == option


def test_too_many_classes_for_the_outputs(tmp_path):
    data = samples()
    data["label"].attrs = {"flag_values": np.arange(3, dtype=np.int16), "flag_meanings": "cold neutral warm"}
    with pytest.raises(OptionError, match=r"2 outputs, but there are 3 classes: cold, neutral, warm") as error:
        Model(path=exported(Signal(), tmp_path / "net.pt2")).skeleton(context(tmp_path, from_=data))
    assert error.value.option == "classes"


def test_a_closing_softmax_must_be_declared(tmp_path):
    path = exported(nn.Sequential(Signal(), nn.Softmax(dim=1)), tmp_path / "net.pt2")
    where = context(tmp_path, from_=samples())
    with pytest.raises(OptionError, match="between 0 and 1") as error:
        Model(path=path).fit(where)
    assert error.value.option == "output"
    stage = Model(path=path, output="probabilities", expect={"accuracy": 1})
    stage.fit(where)
    logits = Model(path=exported(Signal(), tmp_path / "logits.pt2")).open(where)
    inputs = samples()["inputs"]
    ours, theirs = (predict(n, inputs)["probability"] for n in (stage.open(where), logits))
    assert np.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("form", ["names.csv", "numbers.npy", "probabilities.csv"])
def test_reference_predictions_are_compared_sample_by_sample(tmp_path, form):
    path, data = exported(Signal(), tmp_path / "net.pt2"), samples()
    where = context(tmp_path, from_=data)
    found = predict(Model(path=path).open(where), data["inputs"]).isel(sample=data["split"].values == 2)
    probability = found["probability"].values.astype(float)

    def write(changed):
        number = probability.argmax(axis=1)
        values = probability.copy()
        if changed:
            number[3], values[3] = 1 - number[3], values[3][::-1]
        if form == "names.csv":
            text = "\n".join(["prediction", *(("cold", "warm")[i] for i in number)])
            (tmp_path / form).write_text(text)
        elif form == "numbers.npy":
            np.save(tmp_path / form, number)
        else:
            np.savetxt(tmp_path / form, values[:, ::-1], delimiter=",", header="warm,cold", comments="")

    stage = Model(path=path, expect={"predictions": str(tmp_path / form)})
    write(changed=False)
    assert float(stage.fit(where)["largest_difference"]) < 1e-6
    write(changed=True)
    with pytest.raises(GeoxaiError, match=r"expected at most") as error:
        stage.fit(where)
    assert error.value.option == "expect.predictions"


def test_a_file_for_other_samples_is_reported(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros(120))
    stage = Model(path=exported(Signal(), tmp_path / "net.pt2"), expect={"predictions": str(tmp_path / "all.npy")})
    with pytest.raises(InputError, match="120 samples, the network was run on 30"):
        stage.fit(context(tmp_path, from_=samples()))


class Value(nn.Module):
    def forward(self, x):
        return 280 + 5 * x[:, 0, 2, 3:6].mean(dim=1)


def test_rmse_is_expected_of_values_within_a_percent(tmp_path):
    data = samples(kind="value")
    data["target"] = data["target"] + 2.0
    path = exported(Value(), tmp_path / "net.pt2")
    where = context(tmp_path, from_=data)
    assert float(Model(path=path, expect={"rmse": 2.01, "subset": "all"}).fit(where)["rmse"]) == pytest.approx(
        2, abs=1e-5
    )
    with pytest.raises(GeoxaiError, match=r"rmse.* is 2, expected 1.9 within"):
        Model(path=path, expect={"rmse": 1.9}).fit(where)
    with pytest.raises(OptionError, match="accuracy does not fit"):
        Model(path=path, expect={"accuracy": 1}).fit(where)
    assert Model(path=path).open(where).units == "K"


def test_land_keeps_its_fill_value_where_the_samples_have_no_scaling(tmp_path):
    data = samples(land=True)
    mean = np.broadcast_to(MEAN[:, None, None], (2, LAT.size, LON.size)).copy()
    sd = np.broadcast_to(SD[:, None, None], mean.shape).copy()
    mean[:, 0, :2] = np.nan
    data["scaling_mean"], data["scaling_sd"] = (("channel", "lat", "lon"), mean), (("channel", "lat", "lon"), sd)
    scaling = {"sst": {"offset": 20, "factor": 1}, "slp": {"offset": 1000, "factor": 1}}
    stage = Model(path=exported(Signal(), tmp_path / "net.pt2"), scaling=scaling, expect={"accuracy": 1})
    where = context(tmp_path, from_=data)
    stage.fit(where)
    seen = stage.open(where).adapter.to_network(data["inputs"])
    assert (seen[:, :, 0, :2] == 0).all()
    np.testing.assert_allclose(seen[:, 1, 3], data["inputs"].values[:, 1, 3] * 50, rtol=1e-5)


def test_a_keras_network_reaches_the_samples_as_it_was_trained(tmp_path):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another backend here")
    inputs = keras.Input((LAT.size, LON.size, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "net.keras")
    data = samples()
    stage = Model(path=str(tmp_path / "net.keras"), layout=["sample", "lat", "lon", "channel"])
    networks = stage.open(context(tmp_path, from_=data))
    logits = model.predict(np.moveaxis(data["inputs"].values, 1, -1), verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predict(networks, data["inputs"])["probability"], expected, rtol=1e-4, atol=1e-5)
