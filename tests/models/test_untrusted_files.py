"""Files that would run code when loaded: refused by name before anything of them runs, unless trusted."""

import io
import json
import os
import pickle
import zipfile
from contextlib import suppress

import pytest
import torch
from torch import nn

from geoxai.errors import GeoxaiError, InputError, OptionError
from geoxai.models.load import load_network
from tests.integration.fields import field, geoxai_, write_fields


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(mark):
    buffer = io.BytesIO()
    torch.save({"a": Touch(mark)}, buffer)
    return buffer.getvalue()


def exported(path, dynamic=True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8 * 12, 2)).eval()
    shapes = ({0: torch.export.Dim("n")},) if dynamic else None
    torch.export.save(torch.export.export(net, (torch.rand(2, 1, 8, 12),), dynamic_shapes=shapes), path)
    return path


def changed(path, **members):
    """The archive with some members replaced or added; a function changes what is there."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(content)).split("/")[0]
    for name, value in members.items():
        name = f"{root}/{name}"
        content[name] = value(content[name]) if callable(value) else value
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def with_config(folder, entry):
    def change(content):
        config = json.loads(content)
        config["config"].update(entry)
        return json.dumps(config).encode()

    return {f"data/{folder}/model_{folder}_config.json": change}


def replaced_expression(mark):
    def change(content):
        text = content.decode()
        start = text.index('"expr_str": "') + len('"expr_str": "')
        code = f"__import__('os').mkdir('{mark}') or 3"
        return (text[:start] + code + text[text.index('"', start) :]).encode()

    return change


def programs(mark):
    """Members of a program that run code when torch loads it, by what they are."""
    entry = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
    return {
        "a pickle that is more than tensors": {"data/sample_inputs/model.pt": pickled(mark)},
        "a pickle in place of a tensor": {
            **with_config("weights", {"1.weight": entry}),
            "data/weights/weight_0": pickled(mark),
        },
        "a pickled object": {
            **with_config("constants", {"c": {**entry, "path_name": "opaque_obj_0", "is_param": False}}),
            "data/constants/opaque_obj_0": pickle.dumps(Touch(mark)),
        },
        "a script object": {
            **with_config("constants", {"c": {**entry, "path_name": "custom_obj_0", "is_param": False}}),
            "data/constants/custom_obj_0": pickle.dumps(Touch(mark)),
        },
        "text that would be evaluated as Python": {"models/model.json": replaced_expression(mark)},
        "compiled code": {"data/aotinductor/model/net.so": b"\x7fELF"},
    }


@pytest.mark.parametrize("what", programs("mark"))
def test_a_program_that_holds_code_is_refused(tmp_path, what):
    mark = tmp_path / "mark"
    path = changed(exported(tmp_path / "net.pt2"), **programs(mark)[what])
    with pytest.raises(OptionError, match=what) as refused:
        load_network(path)
    assert refused.value.option == "trust"
    assert not mark.exists()


@pytest.mark.parametrize("what", ["a pickle that is more than tensors", "text that would be evaluated as Python"])
def test_what_is_refused_does_run_when_trusted(tmp_path, what):
    """Else the test above would prove nothing."""
    mark = tmp_path / "mark"
    path = changed(exported(tmp_path / "net.pt2"), **programs(mark)[what])
    with suppress(GeoxaiError):  # the code ran, the rest of the file fits no more
        load_network(path, trust=True)
    assert mark.exists()


def test_programs_of_older_versions_are_looked_into_too(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.14")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled(mark))
    with pytest.raises(OptionError, match="a pickle that is more than tensors"):
        load_network(path)
    assert not mark.exists()


@pytest.mark.parametrize("dynamic", [True, False])
def test_ordinary_programs_are_not_refused(tmp_path, dynamic):
    assert load_network(exported(tmp_path / "net.pt2", dynamic)).kind == "exported program"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("architecture", [None, "torch.nn:Linear"])
def test_pickles_beside_weights_are_refused(tmp_path, architecture, legacy):
    mark, path = tmp_path / "mark", tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(2, 3), "x": Touch(mark)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(OptionError, match=r"more than weights|pickled object"):
        load_network(path, architecture=architecture, args={"in_features": 3, "out_features": 2})
    path.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(GeoxaiError):
        load_network(path, architecture=architecture, args={"in_features": 3, "out_features": 2})
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["Lambda", "TorchModuleWrapper"])
def test_keras_layers_that_hold_code_are_refused(tmp_path, suffix, name):
    keras = pytest.importorskip("keras")
    h5py = pytest.importorskip("h5py")
    path = tmp_path / f"net{suffix}"
    layer = keras.layers.Lambda(lambda x: x + 1)
    keras.Sequential([keras.layers.Input((3,)), layer]).save(path)
    if suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = file.attrs["model_config"].replace('"Lambda"', f'"{name}"')
    else:
        with zipfile.ZipFile(path) as archive:
            content = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, value in content.items():
                archive.writestr(member, value.replace(b'"Lambda"', f'"{name}"'.encode()))
    with pytest.raises(OptionError, match=f"holds a {name} layer, which is code") as refused:
        load_network(path)
    assert refused.value.option == "trust"
    if name == "Lambda":
        assert load_network(path, trust=True).module(torch.zeros(1, 3)).tolist() == [[1.0] * 3]


def test_check_plan_and_run_load_nothing_that_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    mark = tmp_path / "mark"
    changed(exported(tmp_path / "net.pt2"), **programs(mark)["a pickle that is more than tensors"])
    (tmp_path / "c.yaml").write_text("""\
version: 1
compute: {executor: serial}
stages:
  sst: {use: load.netcdf, path: sst.nc}
  labels: {use: labels.table, path: labels.csv}
  samples: {use: samples, inputs: [sst], labels: labels, classes: [cold, warm], scale: none}
  network: {use: model, path: net.pt2}
  relevance: {use: explain.lrp}
""")
    assert geoxai_("check", "c.yaml").exit_code == 0
    for command in ("plan", "run", "rules"):
        done = geoxai_(command, "c.yaml")
        assert done.exit_code == 2, done.output
        assert "c.yaml:7:" in done.output
        assert "loading it could run code" in done.output
        assert not mark.exists()


def test_modules_that_a_keras_file_names_are_imported_only_where_it_is_trusted(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    (tmp_path / "beside.py").write_text(
        "import os, keras\nos.mkdir('mark')\n"
        "@keras.saving.register_keras_serializable('beside')\nclass Own(keras.layers.Flatten): pass\n"
    )
    keras.Sequential([keras.layers.Input((8, 12)), keras.layers.Flatten(), keras.layers.Dense(2)]).save("net.keras")
    with zipfile.ZipFile("net.keras") as archive:
        content = {member: archive.read(member) for member in archive.namelist()}
    config = json.loads(content["config.json"])
    flatten = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Flatten")
    flatten.update(module="beside", class_name="Own", registered_name="beside>Own")
    with zipfile.ZipFile("net.keras", "w") as archive:
        for member, value in (content | {"config.json": json.dumps(config)}).items():
            archive.writestr(member, value)
    write_config = """\
version: 1
compute: {executor: serial}
stages:
  sst: {use: load.netcdf, path: sst.nc}
  labels: {use: labels.table, path: labels.csv}
  samples: {use: samples, inputs: [sst], labels: labels, classes: [cold, warm], scale: none}
  network: {use: model, path: net.keras, layout: [sample, lat, lon]TRUST}
  relevance: {use: explain.lrp}
"""
    (tmp_path / "c.yaml").write_text(write_config.replace("TRUST", ""))
    for command in ("check", "plan", "run", "rules"):
        done = geoxai_(command, "c.yaml")
        assert command == "check" or done.exit_code == 2, done.output
        assert command == "check" or "net.keras needs layers of beside" in done.stderr
        assert not (tmp_path / "mark").exists(), command
    with pytest.raises(OptionError, match="needs layers of beside"):
        load_network("net.keras")
    (tmp_path / "c.yaml").write_text(write_config.replace("TRUST", ", trust: true"))
    done = geoxai_("rules", "c.yaml")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_nested_too_deep_says_so(tmp_path, suffix):
    keras = pytest.importorskip("keras")
    h5py = pytest.importorskip("h5py")
    path, deep = tmp_path / f"net{suffix}", "[" * 20000 + "]" * 20000
    keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)]).save(path)
    if suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = deep
    else:
        with zipfile.ZipFile(path) as archive:
            content = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, value in (content | {"config.json": deep}).items():
                archive.writestr(member, value)
    with pytest.raises(InputError):
        load_network(path)
