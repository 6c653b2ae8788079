"""The commands as a user types them: what they print and the exit code they end with."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from typer.testing import CliRunner

import geoxai
from geoxai.cli import app
from geoxai.config import load
from geoxai.config.document import parse
from geoxai.errors import GeoxaiError, InputError
from geoxai.stages import discovered, registry
from geoxai.stages.stage import LazyStage

CONFIG = """\
version: 1
stages:
  sst: {use: load.netcdf, path: sst.nc}
  again: {use: load.netcdf, path: sst.nc}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sst.nc").touch()
    Path("c.yaml").write_text(CONFIG)


@pytest.fixture
def pipeline(monkeypatch):
    """A pipeline whose functions a test sets."""
    import geoxai.pipeline

    return lambda **functions: [monkeypatch.setattr(geoxai.pipeline, *item) for item in functions.items()]


def geoxai_(*words):
    return CliRunner().invoke(app, list(words))


class TestCheck:
    def test_fine(self):
        result = geoxai_("check", "c.yaml")
        assert (result.exit_code, result.stdout) == (0, "c.yaml: fine, 2 stages: sst, again\n")

    def test_bad_config_is_2_and_reported_on_stderr(self):
        Path("c.yaml").write_text(CONFIG.replace("path", "pth", 1))
        result = geoxai_("check", "c.yaml")
        assert result.exit_code == 2
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert lines[0].startswith("c.yaml:3:3: stages.sst needs 'path'")
        assert "c.yaml:3:27: unknown option 'pth' in stages.sst" in lines

    def test_missing_file_is_3(self):
        Path("sst.nc").unlink()
        result = geoxai_("check", "c.yaml")
        assert result.exit_code == 3
        assert "c.yaml:3:33: there is no file" in result.stderr

    def test_missing_config_is_2(self):
        result = geoxai_("check", "d.yaml")
        assert result.exit_code == 2
        assert result.stderr == "d.yaml: there is no such config file\n  did you mean 'c.yaml'?\n"

    def test_set(self):
        assert geoxai_("check", "c.yaml", "--set", "stages.sst.path=other.nc").exit_code == 3
        assert geoxai_("check", "c.yaml", "--set", "compute.workers=0").exit_code == 2
        assert geoxai_("check", "c.yaml", "--set", "compute.workers=3", "--set", "compute.seed=1").exit_code == 0


class TestRun:
    def test_passes_its_options_on(self, pipeline):
        calls = []

        def run(config, only, force, debug):
            calls.append((list(config.stages), config.compute.seed, only, force, debug))
            return SimpleNamespace(exit_code=0, message="done")

        pipeline(run=run)
        result = geoxai_("run", "c.yaml", "--only", "sst", "--force", "again", "--set", "compute.seed=4")
        assert (result.exit_code, result.stdout) == (0, "done\n")
        assert calls == [(["sst", "again"], 4, ("sst",), ("again",), False)]

    @pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130, 143])
    def test_exit_code_is_that_of_the_run(self, pipeline, code):
        pipeline(run=lambda config, **_: SimpleNamespace(exit_code=code, message="so it ended"))
        result = geoxai_("run", "c.yaml")
        assert result.exit_code == code
        assert "so it ended" in result.output

    @pytest.mark.parametrize("option", ["--only", "--force"])
    def test_unknown_stage(self, option):
        result = geoxai_("run", "c.yaml", option, "agian")
        assert result.exit_code == 2
        assert f"{option}: unknown stage 'agian'; did you mean 'again'?" in result.stderr

    @pytest.mark.parametrize(
        ("error", "code", "told"),
        [
            (
                InputError("sst.nc is truncated", fix="fetch it again"),
                3,
                "error: sst.nc is truncated\n  fetch it again\n",
            ),
            (GeoxaiError("stopped"), 1, "error: stopped\n"),
            (OSError(28, "No space left on device", "/runs/x"), 1, "error: No space left on device: /runs/x\n"),
            (KeyError("oops"), 1, "unexpected error: KeyError: 'oops'\n  --debug shows where it came from\n"),
            (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on where it stopped\n"),
        ],
    )
    def test_no_traceback(self, pipeline, error, code, told):
        def run(config, **_):
            raise error

        pipeline(run=run)
        result = geoxai_("run", "c.yaml")
        assert (result.exit_code, result.stderr) == (code, told)

    def test_debug_shows_the_traceback(self, pipeline):
        def run(config, **_):
            raise KeyError("oops")

        pipeline(run=run)
        assert isinstance(geoxai_("run", "c.yaml", "--debug").exception, KeyError)

    def test_sigterm_ends_with_143(self):
        code = (
            "import sys, time, types, geoxai.cli\n"
            "def run(config, **_):\n"
            "    try: print('ready', flush=True); time.sleep(30)\n"
            "    finally: print('closed', flush=True)\n"
            "sys.modules['geoxai.pipeline'] = types.SimpleNamespace(run=run)\n"
            "geoxai.pipeline = sys.modules['geoxai.pipeline']\n"
            "sys.argv = ['geoxai', 'run', 'c.yaml']\n"
            "geoxai.cli.main()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (143, "closed\n")
        assert err == "terminated; run the same command again to go on where it stopped\n"


def test_plan_and_rules_print_what_the_pipeline_says(pipeline):
    pipeline(
        plan=lambda config: SimpleNamespace(render=lambda: f"plan of {config.name}"),
        rules=lambda config: SimpleNamespace(text="op by op", error=None),
    )
    assert geoxai_("plan", "c.yaml").stdout == "plan of c\n"
    assert geoxai_("rules", "c.yaml").stdout == "op by op\n"


def test_the_manual_of_rules_names_them_all():
    from geoxai.attribution.lrp import MATCHES, PRESET_NAMES, RULES

    words = set(geoxai_("stages", "explain.lrp").stdout.translate(str.maketrans(",.;:", "    ")).split())
    assert words >= {*MATCHES, *PRESET_NAMES, *RULES}


@pytest.mark.parametrize(
    ("given", "column", "fix"),
    [
        ("{preset: attnlrp}", 32, "write rules: attnlrp, or rules: [{preset: attnlrp}]"),
        ("{preset: attnlrp, norm: pass}", 32, "write rules: [{preset: attnlrp, norm: pass}]"),
        ("[attnlrp]", 33, "write it as {preset: attnlrp}, or the preset alone: rules: attnlrp"),
        ("[z_plus]", 33, "write it as {match: all, rule: z_plus}"),
    ],
)
def test_rules_of_another_form_are_shown_as_they_should_be(given, column, fix):
    more = "  samples: {use: samples, inputs: [sst], image: sst}\n  network: {use: train, architecture: {cnn: {}}}\n"
    Path("c.yaml").write_text(CONFIG + more + f"  a: {{use: explain.lrp, rules: {given}}}\n")
    told = geoxai_("check", "c.yaml")
    assert told.exit_code == 2
    assert f"c.yaml:7:{column}: stages.a.rules" in told.stderr
    assert told.stderr.endswith(f"  {fix}\n")


def test_schema_accepts_the_starter():
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema (extra test)")
    result = geoxai_("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert geoxai_("schema", "-o", "s.json").exit_code == 0
    assert json.loads(Path("s.json").read_text()) == schema
    assert geoxai_("init", "start").exit_code == 0
    data = parse(Path("start.yaml").read_text(), "start.yaml").data
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(data)) == []


class TestInit:
    def test_writes_a_config_that_checks(self):
        result = geoxai_("init", "nino")
        assert result.exit_code == 0
        assert Path("nino.yaml").read_text().startswith("# yaml-language-server: $schema=geoxai.schema.json\n")
        assert "EXPERIMENT" not in Path("nino.yaml").read_text()
        assert json.loads(Path("geoxai.schema.json").read_text())["title"]
        assert geoxai_("check", "nino.yaml").exit_code == 0
        config = load("nino.yaml")
        assert (config.name, config.run_dir) == ("nino", Path.cwd() / "runs" / "nino")
        assert config.warnings == ()

    def test_does_not_overwrite(self):
        Path("enso.yaml").write_text("mine")
        result = geoxai_("init")
        assert result.exit_code == 2
        assert (
            result.stderr == "error: enso.yaml exists already\n  choose another name, or use --force to overwrite it\n"
        )
        assert Path("enso.yaml").read_text() == "mine"
        assert geoxai_("init", "--force").exit_code == 0
        assert Path("enso.yaml").read_text() != "mine"

    def test_data_and_schema_that_are_there_stay(self):
        Path("data_samples").mkdir()
        Path("data_samples/sst_mine.nc").write_text("mine")
        Path("geoxai.schema.json").write_text("mine")
        result = geoxai_("init")
        assert result.exit_code == 0
        assert result.stdout.startswith("wrote enso.yaml\n")
        assert [path.name for path in Path("data_samples").iterdir()] == ["sst_mine.nc"]
        assert Path("data_samples/sst_mine.nc").read_text() == Path("geoxai.schema.json").read_text() == "mine"

    def test_a_file_where_the_data_go_is_refused_before_anything_is_written(self):
        Path("data_samples").write_text("mine")
        result = geoxai_("init")
        assert result.exit_code == 2
        assert "data_samples is a file" in result.stderr
        assert not Path("enso.yaml").exists()

    @pytest.mark.slow
    def test_what_it_writes_runs_at_once(self):
        assert geoxai_("init").exit_code == 0
        quick = ["compute.executor=serial", "stages.network.seeds=1", "stages.network.epochs=5"]
        result = geoxai_("run", "enso.yaml", *(word for value in quick for word in ("--set", value)))
        assert result.exit_code == 0, result.output
        assert Path("runs/enso/report.html").exists()

    def test_unknown_template(self):
        result = geoxai_("init", "--template", "ensoo")
        assert result.exit_code == 2
        assert "unknown template 'ensoo'; did you mean 'enso'?" in result.stderr


class TestStages:
    def test_list(self):
        result = geoxai_("stages")
        assert [line.split()[0] for line in result.stdout.splitlines()] == list(registry())

    def test_one_with_its_options(self):
        text = geoxai_("stages", "samples").stdout
        options = [field.alias or name for name, field in registry()["samples"].model_fields.items()]
        assert all(f"\n  {option}: " in text for option in options)

    def test_every_stage_can_be_shown_and_describes_every_option(self):
        for use, stage in registry().items():
            assert geoxai_("stages", use).exit_code == 0
            assert stage.__doc__
            assert all(field.description for field in stage.model_fields.values()), use

    def test_unknown(self):
        result = geoxai_("stages", "sample")
        assert result.exit_code == 2
        assert "unknown stage 'sample'; did you mean 'samples'?" in result.stderr


def test_stages_of_other_packages_are_found(monkeypatch):
    class Doubled(LazyStage):
        """Twice the field."""

        use: ClassVar[str] = "my.double"
        gives: ClassVar[str] = "grid"

    monkeypatch.setitem(sys.modules, "my_stages", SimpleNamespace(Doubled=Doubled))
    point = EntryPoint(name="my.double", value="my_stages:Doubled", group="geoxai.stages")
    monkeypatch.setattr("geoxai.stages.entry_points", lambda group: [point] if group == "geoxai.stages" else [])
    discovered.cache_clear()
    try:
        Path("c.yaml").write_text(CONFIG + "  twice: {use: my.double}\n")
        assert geoxai_("check", "c.yaml").exit_code == 0
        assert "my.double" in geoxai_("stages").stdout
    finally:
        discovered.cache_clear()


def test_version():
    assert geoxai_("--version").stdout == f"geoxai {geoxai.__version__}\n"


def test_unknown_command_is_2():
    assert geoxai_("rnu").exit_code == 2


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["--version"], ["check", "c.yaml"], ["schema"], ["stages"]]
)
def test_starts_at_once_and_without_the_heavy_libraries(words):
    code = (
        "import sys; sys.argv = ['geoxai', *sys.argv[1:]]\n"
        "import geoxai.cli\n"
        "heavy = {'torch', 'xarray', 'dask', 'matplotlib', 'numpy', 'pandas', 'zarr'}\n"
        "try: geoxai.cli.main()\n"
        "finally: print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert seconds < 5  # a second on a quiet machine; this one may be shared


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "geoxai", "check", "d.yaml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("d.yaml: there is no such config file")
    assert "Traceback" not in done.stderr


def test_debug_checks_every_node_of_lrp():
    """In this process and those it starts, and not beyond the command."""
    from geoxai.attribution.lrp.checking import nodes_are_checked
    from geoxai.cli.failures import plainly

    before = nodes_are_checked()
    with plainly(True):
        assert nodes_are_checked()
    with plainly(False):
        assert nodes_are_checked() == before
