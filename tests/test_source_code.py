"""The code behind a module: what it imports, wherever; by source outside site-packages, by version inside."""

import importlib
import pickle
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import nn

from geoxai.errors import GeoxaiError
from geoxai.source_code import code_of, modules_in_keras, modules_in_pickle


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes modules to the current folder by path and text; those that a test loads are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(**texts: str) -> None:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def test_imports_are_followed_wherever_they_are(files) -> None:
    files(
        qa_net="import qa_plain\nfrom qa_pkg import name, sub\n\ndef forward():\n    import qa_lazy\n",
        qa_plain="try:\n    import qa_gone\nexcept ImportError:\n    from qa_other import thing\n",
        qa_other="thing = 1",
        qa_lazy="class A:\n    def f(self):\n        __import__('qa_named')\n",
        qa_named="import importlib\nimportlib.import_module('qa_space.deep')",
        qa_pkg__in__init="",
        qa_pkg__in____init__="name = 1",
        qa_pkg__in__sub="from . import beside\nfrom .below import leaf",
        qa_pkg__in__beside="",
        qa_pkg__in__below__in____init__="",
        qa_pkg__in__below__in__leaf="from ..above import x",
        qa_pkg__in__above="x = 1",
        qa_space__in__deep="",
        qa_unused="",
    )
    found = code_of(["qa_net"])
    assert [name for name in found if name.startswith("qa_")] == [
        "qa_lazy",
        "qa_named",
        "qa_net",
        "qa_other",
        "qa_pkg",
        "qa_pkg.above",
        "qa_pkg.below",
        "qa_pkg.below.leaf",
        "qa_pkg.beside",
        "qa_pkg.sub",
        "qa_plain",
        "qa_space.deep",
    ]
    assert all(value.startswith("source ") for name, value in found.items() if name.startswith("qa_"))


def test_the_digest_is_of_the_source_and_not_of_its_place(files, tmp_path, monkeypatch) -> None:
    files(qb_net="A = 1\n", other__in__qb_net="A = 1\n")
    here = code_of(["qb_net"])
    del sys.modules["qb_net"]
    monkeypatch.chdir(tmp_path / "other")
    assert code_of(["qb_net"]) == here
    Path("qb_net.py").write_text("A = 2\n")
    assert code_of(["qb_net"]) != here


def test_what_is_installed_counts_by_version(files) -> None:
    files(qc_net="import os, yaml\nfrom torch import nn\nimport geoxai.attribution\nfrom xarray.core import dataset\n")
    found = code_of(["qc_net"])
    assert found.pop("qc_net").startswith("source ")
    assert found == {name: version(name) for name in ("PyYAML", "torch", "xarray")}
    assert code_of(["torch.nn"]) == {"torch": version("torch")}


def test_where_a_name_is_computed_all_beside_it_counts(files) -> None:
    files(
        qd_pkg__in____init__="from pkgutil import *\nfor m in iter_modules(__path__): __import__('qd_pkg.' + m.name)",
        qd_pkg__in__a="",
        qd_pkg__in__b="import qd_far",
        qd_far="",
        qd_beside="",
    )
    assert list(code_of(["qd_pkg"])) == ["qd_far", "qd_pkg", "qd_pkg.a", "qd_pkg.b"]


def test_a_path_that_a_module_adds_is_known(files, tmp_path) -> None:
    files(qe_net="import sys\nsys.path.append('lib')\nimport qe_hidden\n", lib__in__qe_hidden="X = 1")
    try:
        assert set(code_of(["qe_net"])) == {"qe_net", "qe_hidden"}
    finally:
        sys.path.remove("lib")


def test_circles_end_and_broken_files_count_by_their_text(files) -> None:
    files(qf_a="import qf_b", qf_b="import qf_a\nimport qf_c", qf_c="def broken(:")
    assert set(code_of(["qf_a"])) == {"qf_a", "qf_b", "qf_c"}
    assert code_of(["qf_nowhere", "qf_nowhere.inside", "qf_a.inside", "sys", "json", "math"]) == {}


def test_a_changed_module_is_loaded_anew_with_all_that_uses_it(files) -> None:
    files(qg_net="from qg_part import X\nY = X", qg_part="X = 1")
    first = code_of(["qg_net"])
    files(qg_part="X = 22")
    second = code_of(["qg_net"])
    assert importlib.import_module("qg_net").Y == 22
    assert {name for name in first if first[name] != second[name]} == {"qg_part"}


def test_a_changed_module_that_cannot_be_loaded_again_is_refused(files) -> None:
    files(qh_net="X = 1")
    code_of(["qh_net"])
    files(qh_net="raise ValueError")
    with pytest.raises(GeoxaiError, match="the source of qh_net has changed since this process loaded it"):
        code_of(["qh_net"])
    assert sys.modules["qh_net"].X == 1
    files(qh_net="X = 3")
    with pytest.raises(GeoxaiError, match="has changed"):
        code_of(["qh_net"], reload=False)


def test_a_module_without_a_file_is_refused(files, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "qi_net", type(sys)("qi_net"))
    with pytest.raises(GeoxaiError, match="qi_net is not in a file"):
        code_of(["qi_net"])


class Custom(nn.Module):
    """Something that a pickle names."""


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_modules_that_a_pickle_needs(tmp_path: Path, protocol: int, zipped: bool) -> None:
    module = nn.Sequential(nn.Linear(1, 1), Custom())
    torch.save(module, tmp_path / "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert {Custom.__module__, "torch.nn.modules.linear"} <= set(modules_in_pickle(tmp_path / "a.pt"))


def test_a_file_that_is_not_a_pickle_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"nothing of the kind")
    (tmp_path / "b.pt").write_bytes(pickle.dumps([1, 2])[:-1])
    assert modules_in_pickle(tmp_path / "a.pt") == modules_in_pickle(tmp_path / "b.pt") == ()
    assert modules_in_pickle(tmp_path / "gone.pt") == modules_in_keras(tmp_path / "a.pt") == ()


def test_modules_of_custom_keras_layers(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        config = '{"module": "keras.layers", "config": {"layers": [{"module": "mylayers.deep", "class_name": "L"}]}}'
        archive.writestr("config.json", config)
    assert modules_in_keras(tmp_path / "a.keras") == ("mylayers.deep",)
