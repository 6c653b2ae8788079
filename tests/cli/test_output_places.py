"""Where a run may write: its own folder, nobody else's files; ``check`` reports the line at fault."""

import os
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import CliRunner

from geoxai.cli import app
from geoxai.config.run_folder import mark, unfit

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""\
version: 1
name: places
output: {{dir: out}}
compute: {{executor: serial}}
stages:
  sst: {{use: load.netcdf, path: "{ROOT}/data_samples/sst_*.nc"}}
  anomaly: {{use: anomaly}}
  samples: {{use: samples, inputs: [anomaly]}}
  first: {{use: write.zarr, from: samples}}
  second: {{use: write.netcdf, from: sst, path: sst.nc}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


def geoxai_(*words):
    return CliRunner().invoke(app, list(words))


def check(old="", new=""):
    assert old in CONFIG
    Path("c.yaml").write_text(CONFIG.replace(old, new))
    return geoxai_("check", "c.yaml")


class TestRunFolder:
    def test_a_folder_of_other_files_is_refused_at_its_line(self):
        Path("out").mkdir()
        for name in ("config.yaml", "report.html", "run.json"):
            (Path("out") / name).write_text("mine")
        for command in ("check", "plan", "run"):
            result = geoxai_(command, "c.yaml")
            assert result.exit_code == 2
            assert result.stderr.startswith(
                f"c.yaml:3:15: output.dir {Path.cwd()}/out is not empty and is not the folder"
            )
            assert "config.yaml, report.html, run.json" in result.stderr
        assert {p.name: p.read_text() for p in Path("out").iterdir()} == dict.fromkeys(
            ["config.yaml", "report.html", "run.json"], "mine"
        )

    def test_the_current_folder_with_its_config_is_refused(self):
        result = check("dir: out", "dir: .")
        assert result.exit_code == 2
        assert "it contains c.yaml" in result.stderr

    @pytest.mark.parametrize("place", ["c.yaml", "c.yaml/below", "c.yaml/further/below"])
    def test_a_path_that_is_or_lies_inside_a_file(self, place):
        result = check("dir: out", f"dir: {place}")
        assert result.exit_code == 2
        told = "is a file" if place == "c.yaml" else f"lies inside {Path.cwd()}/c.yaml, which is not a folder"
        assert result.stderr.startswith(f"c.yaml:3:15: output.dir {Path.cwd()}/{place} {told}")

    def test_a_dangling_link_is_refused(self):
        Path("out").symlink_to("nowhere")
        assert geoxai_("check", "c.yaml").exit_code == 2

    @pytest.mark.parametrize("url", ["s3://bucket/run", "gs://bucket/run", "https://key@host/run", "file:///tmp/run"])
    def test_a_url_is_refused_and_nothing_is_made(self, url):
        result = check("dir: out", f'dir: "{url}"')
        assert result.exit_code == 2
        scheme = url.partition("://")[0]
        assert f"c.yaml:3:15: output.dir is a URL ({scheme}://...), which is not supported yet" in result.stderr
        assert sorted(os.listdir()) == ["c.yaml"]

    @pytest.mark.parametrize("place", ["locked", "locked/below"])
    def test_a_place_that_cannot_be_written(self, place, monkeypatch):
        Path("locked").mkdir()
        locked = str(Path("locked").resolve())
        real = os.access  # the tests may run as root, who may write anywhere
        monkeypatch.setattr(os, "access", lambda path, how: str(path) != locked and real(path, how))
        result = check("dir: out", f"dir: {place}")
        assert result.exit_code == 2
        assert f"c.yaml:3:15: output.dir {Path.cwd()}/{place} cannot be written" in result.stderr

    def test_new_empty_and_hidden_files_are_fine(self):
        assert geoxai_("check", "c.yaml").exit_code == 0
        Path("out").mkdir()
        assert geoxai_("check", "c.yaml").exit_code == 0
        (Path("out") / ".gitignore").touch()
        assert geoxai_("check", "c.yaml").exit_code == 0

    def test_a_run_is_known_from_its_first_moment(self, tmp_path):
        mark(tmp_path / "first")
        (tmp_path / "first" / "run.log").touch()
        assert unfit(str(tmp_path / "first")) is None
        assert geoxai_("run", "c.yaml", "--only", "samples").exit_code == 0
        assert geoxai_("run", "c.yaml", "--only", "samples").exit_code == 0


class TestOutputs:
    @pytest.mark.parametrize(
        ("path", "told"),
        [
            ("samples.zarr", "is where the run keeps stage 'samples'"),
            ("./x/../samples.zarr", "is where the run keeps stage 'samples'"),
            ("Samples.zarr", "is where the run keeps stage 'samples'"),
            ("samples.fit.zarr", "is where the run keeps stage 'samples'"),
            ("anomaly.fit.zarr", "is where the run keeps stage 'anomaly'"),
            ("samples/x.zarr", "is where the run keeps stage 'samples'"),
            ("samples.zarr/x.zarr", "is where the run keeps stage 'samples'"),
            ("ledger/x.zarr", "is where the run keeps the ledger"),
            ("figures/x.zarr", "is where the run keeps the figures"),
            ("run.json", "is where the run keeps the record of the run"),
            (".", "is the run folder itself or a folder around it"),
            ("../x.zarr", "leaves the run folder"),
            ("/tmp/x.zarr", "leaves the run folder"),
            ("~/x.zarr", "leaves the run folder"),
            ("s3://key:secret@bucket/x.zarr", "path is a URL (s3://...), which is not supported yet"),
            ("sst.nc", "is where stage 'first' writes"),
            ("sst.nc/x.zarr", "is where stage 'first' writes"),
        ],
    )
    def test_a_path_that_meets_something_is_refused_at_its_line(self, path, told):
        result = check("from: samples}", f'from: samples, path: "{path}"}}')
        assert result.exit_code == 2
        (line,) = (line for line in result.stderr.splitlines() if told in line)
        assert line.startswith(f"c.yaml:{10 if 'first' in told else 9}:")

    def test_names_that_meet_nothing_are_fine(self):
        for path in ("samples.out.zarr", "anomaly.zarr", "sub/samples.zarr", "x/../y.zarr"):
            assert check("from: samples}", f"from: samples, path: {path}}}").exit_code == 0, path

    def test_outside_is_an_option(self, tmp_path):
        for path in ("../x.zarr", tmp_path / "x.zarr"):
            assert check("from: samples}", f"from: samples, path: {path}, outside: true}}").exit_code == 0
        around = check("from: samples}", "from: samples, path: .., outside: true}")
        assert "is the run folder itself or a folder around it" in around.stderr


class TestOutsideOutputs:
    """Files that several runs can write."""

    @staticmethod
    def run(name, *, path="../shared.nc", keep="[2001, 2002]", folder="out"):
        Path(f"{name}-{folder}.yaml").write_text(f"""\
version: 1
name: {name}
output: {{dir: {folder}/{name}}}
compute: {{executor: serial}}
stages:
  sst: {{use: load.netcdf, path: "{ROOT}/data_samples/sst_*.nc", time: {keep}}}
  shared: {{use: write.netcdf, from: sst, path: {path}, outside: true}}
""")
        return geoxai_("run", f"{name}-{folder}.yaml")

    def test_what_another_experiment_wrote_is_not_replaced(self):
        assert self.run("one").exit_code == 0
        whole = Path("out/shared.nc").read_bytes()
        other = self.run("two", keep="[2003, 2004]")
        assert other.exit_code == 2
        assert "shared.nc was written by the experiment 'one', this one is 'two'; it is not replaced" in other.stderr
        assert Path("out/shared.nc").read_bytes() == whole
        assert self.run("one", keep="[2003, 2004]").exit_code == 0  # its own it may replace
        assert Path("out/shared.nc").read_bytes() != whole

    def test_a_run_is_not_done_where_another_run_of_its_name_has_written(self):
        assert self.run("one", path="../../shared.nc", folder="a").exit_code == 0
        assert self.run("one", path="../../shared.nc", folder="b", keep="[2003, 2004]").exit_code == 0
        again = self.run("one", path="../../shared.nc", folder="a")
        assert again.exit_code == 0
        assert "shared: 1 of 1 units" in again.stderr
        with xr.open_dataset("shared.nc") as shared:
            assert set(shared["time"].dt.year.values) == {2001, 2002}

    def test_a_stranger_is_not_replaced_nor_a_file_of_another_kind(self):
        Path("out").mkdir()
        Path("out/shared.nc").write_text("mine")
        refused = self.run("one")
        assert refused.exit_code == 2
        assert "shared.nc exists and was not written by geoxai" in refused.stderr
        assert Path("out/shared.nc").read_text() == "mine"
