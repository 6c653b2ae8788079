"""A correct config: its content, the position of everything in it, and that it survives being written."""

import pickle
from pathlib import Path
from typing import ClassVar

import pytest

from geoxai.config import ConfigError, dump, load, load_resolved, marked
from geoxai.errors import InputError, OptionError
from geoxai.stages.stage import InputPath, Reference, Stage


def test_omitted_references_are_the_nearest_above(write, good):
    config = load(write(good))
    assert config.sources("enso") == {"from": "sst"}
    assert config.sources("samples") == {"inputs": ["anomaly"], "labels": "enso"}
    assert config.sources("relevance") == {"from": "samples", "baselines": []}
    assert config.stages["enso"].from_ == "sst"


def test_stages_come_in_dependency_order(write, good):
    lines = good.splitlines(keepends=True)
    moved = lines[:6] + lines[-1:] + lines[6:-1]
    assert "result" in moved[6]
    config = load(write("".join(moved)))
    assert list(config.stages) == ["sst", "enso", "anomaly", "samples", "relevance", "result"]


def test_paths_are_absolute_and_outputs_below_the_run(write, good):
    config = load(write(good))
    assert config.stages["sst"].path == str(Path.cwd() / "data" / "sst_*.nc")
    assert config.run_dir == Path.cwd() / "runs" / "enso"
    assert config.stages["result"].path == "enso.zarr"


def test_name_and_output_have_defaults(write, good):
    config = load(write(good.replace("name: enso\n", "").replace("output: {dir: runs/enso}\n", "")))
    assert config.name == "c"
    assert config.run_dir == Path.cwd() / "runs" / "c"


def test_variables_keep_their_type_alone_and_their_spelling_in_text(write, good):
    text = good.replace("fit: [1951, 1994]", 'fit: "${vars.years}"')
    text = text.replace("path: enso.zarr", 'path: "a${vars.first}-${vars.eps}-$${vars.x}.zarr"')
    text = text.replace("eps: 1e-3", 'eps: "${vars.eps}"').replace("vars: {", "vars: {eps: 1e-3, ")
    config = load(write(text))
    assert config.stages["anomaly"].years == (1951, 1980)
    assert config.stages["relevance"].rules[1].eps == 1e-3
    assert config.stages["result"].path == "a1951-1e-3-${vars.x}.zarr"


def test_variables_may_use_variables(write, good):
    text = good.replace("vars: {data: data", 'vars: {here: "${vars.root}", root: data, data: "${vars.here}"')
    assert load(write(text)).stages["sst"].path.endswith("/data/sst_*.nc")


def test_a_wrong_variable_is_reported_where_it_is_used(write, good):
    with pytest.raises(ConfigError, match=r"c.yaml:12:10: stages.anomaly.fit must have at most 2 item"):
        load(write(good.replace("[1951, 1994]", '"${vars.years}"').replace("[1951, 1980]", "[1, 2, 3]")))


class TestSet:
    def test_values_are_yaml(self, write, good):
        config = load(
            write(good),
            [
                "compute.workers=5",
                "stages.relevance.rules.1.eps=1e-4",
                'stages.anomaly.fit=["${vars.first}", 1990]',
                "stages.anomaly.detrend=linear",
                "vars.first=1960",
            ],
        )
        assert config.compute.workers == 5
        assert config.stages["relevance"].rules[1].eps == 1e-4
        assert config.stages["anomaly"].years == (1960, 1990)
        assert config.stages["anomaly"].detrend == "linear"
        assert config.overrides[0] == "compute.workers=5"

    def test_sections_left_out_are_made(self, write, good):
        config = load(write(good.replace("compute: {workers: 2, seed: 7}\n", "")), ["compute.seed=3"])
        assert config.compute.seed == 3

    @pytest.mark.parametrize(
        ("assignment", "told"),
        [
            ("stages.enzo.from=sst", "--set stages.enzo.from=sst: there is no stage 'enzo'\n  did you mean 'enso'?"),
            ("stages.sst.pth=x", "--set stages.sst.pth=x: unknown option 'pth' in stages.sst\n  did you mean 'path'?"),
            ("compute.wokers=2", "--set compute.wokers=2: unknown key 'wokers' in compute\n  did you mean 'workers'?"),
            ("compute.workers=x", "--set compute.workers=x: compute.workers must be 'auto' or a whole number"),
            ("name.x=1", "--set name.x=1: name is a single value and has no key 'x'"),
            ("stages.anomaly.fit.2=1", "--set stages.anomaly.fit.2=1: stages.anomaly.fit is a list of 2 items"),
            ("stages.anomaly.fit=[1", "--set stages.anomaly.fit=[1: the value '[1' is wrong: this '[' is never closed"),
            ("seed", "--set seed: is not of the form key=value"),
            ("vars.data=no", "c.yaml:7:33: no file matches"),
        ],
    )
    def test_mistakes_name_the_assignment(self, assignment, told, write, good):
        with pytest.raises(ConfigError) as raised:
            load(write(good), [assignment])
        assert str(raised.value).startswith(told)
        assert len(raised.value.diagnostics) == 1


class TestPlaces:
    @pytest.mark.parametrize(
        ("dotted", "place"),
        [
            ("stages.sst", "c.yaml:7:3"),
            ("stages.sst.variables.sst.units", "c.yaml:7:83"),
            ("stages.sst.time", "c.yaml:7:3"),
            ("stages.anomaly.fit.1", "c.yaml:12:17"),
            ("stages.relevance.rules", "c.yaml:16:5"),
            ("stages.relevance.rules.1.eps", "c.yaml:18:42"),
            ("compute.seed", "c.yaml:4:29"),
        ],
    )
    def test_place(self, dotted, place, write, good):
        assert str(load(write(good)).place(dotted)) == place

    def test_keys_may_hold_dots(self, write, good):
        config = load(write(good.replace("{sst: {units: degC}}", "{a.b: {units: degC}}")))
        assert str(config.place("stages.sst.variables.a.b.units")) == "c.yaml:7:83"

    def test_errors_of_a_run_are_shown_at_their_option(self, write, good):
        config = load(write(good), ["stages.anomaly.detrend=linear"])
        error = OptionError("no years 1951-1994 in the data", option="fit", fix="choose others")
        finding = config.locate("anomaly", error.option, error)
        assert finding.render().startswith("c.yaml:12:10: stage 'anomaly': no years 1951-1994 in the data\n")
        assert ConfigError([finding]).exit_code == 2
        error = InputError("truncated", option="path")
        assert ConfigError([config.locate("sst", "path", error)]).exit_code == 3
        assert str(config.locate("sst", None, error).place) == "c.yaml:7:3"
        assert config.locate("anomaly", "detrend", error).render().startswith("--set stages.anomaly.detrend=linear: ")


def test_advice_becomes_a_warning_at_its_option(write, good):
    assert load(write(good)).warnings == ()
    (warning,) = load(write(good.replace("1994", "2004"))).warnings
    assert warning.render().startswith("c.yaml:12:10: warning: stage 'anomaly': fit years meet test years\n")


def test_resolved_config_is_the_same_from_anywhere(write, good, tmp_path, monkeypatch):
    text = good.replace("path: enso.zarr", 'path: "a$${vars.x}"').replace("eps: 1e-3", "eps: .inf")
    config = load(write(text))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("config.resolved.yaml").write_text(dump(config.resolved()))
    again = load_resolved("config.resolved.yaml")
    assert again.stages == config.stages
    assert list(again.stages) == list(config.stages)
    assert (again.name, again.compute, again.run_dir) == (config.name, config.compute, config.run_dir)
    assert again.resolved() == config.resolved()
    (tmp_path / "data" / "land.nc").unlink()
    assert load_resolved("config.resolved.yaml").stages == config.stages


def test_config_and_errors_survive_pickling(write, good):
    config = pickle.loads(pickle.dumps(load(write(good))))
    assert config.sources("enso") == {"from": "sst"}
    with pytest.raises(ConfigError) as raised:
        load(write(good.replace("seed: 7", "seed: x")))
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.exit_code) == (str(raised.value), 2)


def test_a_reference_left_out_takes_the_list_or_the_name(stages, write, good, monkeypatch):
    from typing import Annotated

    class Both(Stage):
        """Takes one stage or several."""

        use: ClassVar[str] = "both"
        gives: ClassVar[str] = "grid"
        inputs: Annotated[str | list[str] | None, Reference("grid", nearest=True)] = None

    monkeypatch.setitem(stages, "both", Both)
    config = load(write(good + "  both: {use: both}\n"))
    assert config.sources("both") == {"inputs": "anomaly"}


def test_marked_finds_nested_options(write, good):
    text = good.replace("labels: enso", "labels: enso, scale: {file: data/land.nc}")
    stages = load(write(text)).stages
    assert dict(marked(stages["samples"], InputPath)) == {"scale.file": str(Path.cwd() / "data" / "land.nc")}
    assert dict(marked(stages["sst"], InputPath)) == {"path": str(Path.cwd() / "data" / "sst_*.nc")}
    assert dict(marked(stages["sst"], Reference)) == {}
