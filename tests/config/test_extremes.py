"""Configs that would exhaust the stack, the memory or the file system: a place, a sentence, exit code 2."""

import json
import time
import tracemalloc
from pathlib import Path

import pytest
import torch

from geoxai.config import ConfigError, load
from geoxai.paths import expand
from geoxai.stages.samples import Samples
from geoxai.statistics.conditions import parse_condition
from tests.integration.fields import field, geoxai_, write_fields

STAGE = "  sst: {use: load.netcdf, path: sst.nc}\n"


def config(folder: Path, more: str = "", stages: str = STAGE) -> str:
    path = folder / "c.yaml"
    path.write_text(f"version: 1\n{more}stages:\n{stages}")
    return str(path)


def doubled(n: int, form: str) -> str:
    """Variables that hold the one before twice."""
    lines = [f"  v{i}: {form.format(f'${{vars.v{i - 1}}}')}" for i in range(1, n)]
    return "\n".join(["vars:", "  v0: [x]" if "[" in form else "  v0: xxxxxxxxxx", *lines, ""])


DEEP = {
    "flow": ("vars: {x: " + "[" * 900 + "]" * 900 + "}\n", "c.yaml:2:"),
    "never closed": ("vars: {x: " + "[" * 900 + "\n", "c.yaml:2:"),
    "mappings": ("vars: " + "{a: " * 900 + "1" + "}" * 900 + "\n", "c.yaml:2:"),
    "blocks": ("vars:\n" + "".join(" " * (i + 1) + "a:\n" for i in range(300)), "c.yaml:"),
    "sequences": ("vars:\n  x:\n    " + "- " * 900 + "1\n", "c.yaml:4:"),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_has_a_place(tmp_path, name):
    text, place = DEEP[name]
    with pytest.raises(ConfigError, match=r"nested more than|never closed") as wrong:
        load(config(tmp_path, text))
    assert wrong.value.exit_code == 2
    assert place in str(wrong.value)


@pytest.mark.parametrize("form", ["{0}{0}", "'a {0} b {0}'", "['{0}', '{0}']", "{{k: '{0}', l: ['{0}']}}"])
def test_variables_that_double_are_refused_before_they_fill_the_memory(tmp_path, form):
    form = form if form[0] in "'[{" and form[:2] != "{0" else f"'{form}'"
    path = config(tmp_path, doubled(38, form))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"longer than 100000 characters|which is too much") as wrong:
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert wrong.value.exit_code == 2
    assert "c.yaml:" in str(wrong.value)
    assert peak < 3e8
    assert time.monotonic() - began < 60


def test_a_long_chain_of_variables_is_refused(tmp_path):
    lines = "".join(f"  v{i}: '${{vars.v{i - 1}}}'\n" for i in range(899, 0, -1))
    with pytest.raises(ConfigError, match="more than 40 variables are defined by one another here"):
        load(
            config(
                tmp_path, f"vars:\n{lines}  v0: x\n  w: '${{vars.v899}}'\n", STAGE.replace("sst.nc", "'${vars.v899}'")
            )
        )


def test_a_variable_that_is_used_often_is_fine(tmp_path):
    (tmp_path / "sst.nc").touch()
    some = f"vars: {{d: {tmp_path}}}\n"
    stages = "".join(f"  s{i}: {{use: load.netcdf, path: '${{vars.d}}/sst.nc'}}\n" for i in range(200))
    assert len(load(config(tmp_path, some, stages)).stages) == 200


@pytest.mark.parametrize(
    "text", ["not " * 5000 + "a", "(" * 500 + "a" + ")" * 500, "not " * 300 + "a", "a > " + "-" * 900 + "1"]
)
def test_conditions_nested_too_deep_say_so(text):
    with pytest.raises(
        ValueError, match=r"nested more than 50 deep|at most 10000 characters|is not a condition"
    ) as wrong:
        parse_condition(text)
    assert len(str(wrong.value)) < 2000
    assert parse_condition(" and ".join(f"a{i} > {i}" for i in range(300))).names


def test_names_too_long_for_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sst.nc").touch()
    long = "a" * 256
    for more, stages in (
        (f"name: {long}\n", STAGE),
        (f"output: {{dir: {tmp_path}/{long}}}\n", STAGE),
        ("", STAGE.replace("sst:", f"{long}:", 1)),
        ("", STAGE.replace("sst.nc", f"{long}.nc")),
        ("", STAGE.replace("sst.nc", f"{long}*.nc")),
        ("", STAGE + f"  out: {{use: write.netcdf, path: {long}.nc}}\n"),
    ):
        with pytest.raises(ConfigError, match=r"characters|bytes") as wrong:
            load(config(tmp_path, more, stages))
        assert "File name too long" not in str(wrong.value)
        assert wrong.value.exit_code == 2


@pytest.mark.parametrize("text", ['path: "a\\0b"', '"pa\\0th": x.nc'])
def test_the_character_nul_is_refused_at_its_place(tmp_path, text):
    with pytest.raises(ConfigError, match=r"c\.yaml:3:\d+: this text contains the character NUL") as wrong:
        load(config(tmp_path, "", f"  sst: {{use: load.netcdf, {text}}}\n"))
    assert wrong.value.exit_code == 2


def test_overrides_are_held_to_the_same(tmp_path):
    (tmp_path / "sst.nc").touch()
    path = config(tmp_path)
    for override, message in (
        (f"vars.x={'[' * 900}", "deep|never closed"),
        (".".join(["vars", *["a"] * 900]) + "=1", "has 901 parts"),
        ('vars.x="a\\0"', "NUL"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path, [override])


@pytest.mark.parametrize("number", ["9" * 399, "9" * 5000, "1e400", "-" + "9" * 4400])
def test_huge_numbers_are_refused_or_numbers(tmp_path, number):
    with pytest.raises(ConfigError) as wrong:
        load(config(tmp_path, f"compute: {{seed: x, workers: {number}}}\n"))
    assert "c.yaml:2:" in str(wrong.value)


def test_a_class_named_twice_is_refused_at_its_place(tmp_path):
    stages = (
        STAGE + "  samples: {use: samples, inputs: [sst], labels: l, classes: [cold, warm, cold]}\n"
        "  l: {use: labels.table, path: l.csv, classes: [a, a]}\n  m: {use: model, path: m.pt2, classes: [b, b, c]}\n"
    )
    with pytest.raises(ConfigError) as wrong:
        load(config(tmp_path, "", stages))
    text = str(wrong.value)
    assert wrong.value.exit_code == 2
    assert "stages.samples.classes: 'cold' is named 2 times" in text
    assert "stages.l.classes: 'a' is named 2 times" in text
    assert "stages.m.classes: 'b' is named 2 times" in text
    Samples.model_validate({"labels": "l", "classes": ["cold", "warm"]})


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path, monkeypatch):
    folder = tmp_path / "br[1]ck"
    (folder / "in[a]").mkdir(parents=True)
    (tmp_path / "br1ck").mkdir()
    (tmp_path / "br1ck" / "x9.nc").touch()
    for name in ("x1.nc", "x2.nc", "in[a]/y.nc"):
        (folder / name).touch()
    assert [p.name for p in expand(str(folder / "x*.nc"))] == ["x1.nc", "x2.nc"]
    assert [p.name for p in expand(str(folder / "in[a]" / "*.nc"))] == ["y.nc"]
    assert [p.name for p in expand(str(tmp_path / "br[0-9]ck" / "*.nc"))] == ["x9.nc"]
    assert [p.name for p in expand(str(folder / "**" / "*.nc"))] == ["y.nc", "x1.nc", "x2.nc"]
    monkeypatch.chdir(folder)
    assert load(config(folder, "", STAGE.replace("sst.nc", "x*.nc"))).stages
    with pytest.raises(ConfigError, match=r"no file matches .*br\[1\]ck/z\*\.nc") as wrong:
        load(config(folder, "", STAGE.replace("sst.nc", "z*.nc")))
    assert wrong.value.exit_code == 3


SECRET = "hunter2hunter2"


def test_secrets_are_masked_in_what_a_run_leaves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    text = (
        "# https://me:pass_in_url@example.org/data?token=query_secret\n"
        "version: 1\nvars: {api_key: 'key_in_file', words: 'https://x.org/?X-Amz-Signature=signed_secret&a=1'}\n"
        "compute: {executor: serial}\nstages:\n" + STAGE + "  out: {use: write.netcdf, from: sst, path: out.nc}\n"
    )
    Path("c.yaml").write_text(text)
    argv = ["geoxai", "run", "c.yaml", "--set", f"vars.token={SECRET}", f"--set=vars.password={SECRET}2"]
    monkeypatch.setattr("sys.argv", argv)
    done = geoxai_(*argv[1:])
    assert done.exit_code == 0, done.output
    left = {p: p.read_text() for p in Path("runs").rglob("*") if p.suffix in (".json", ".log", ".yaml", ".html")}
    assert {p.name for p in left} >= {"run.json", "run.log", "config.yaml", "config.resolved.yaml", "report.html"}
    for path, content in left.items():
        for secret in (SECRET, "pass_in_url", "query_secret", "key_in_file", "signed_secret"):
            assert secret not in content, path
    assert "vars.token=***" in (Path("runs/c/run.json")).read_text()
    assert "https://***@example.org/data?token=***" in Path("runs/c/config.yaml").read_text()


def test_secrets_are_not_in_the_command_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    path = config(tmp_path, "compute: {executor: serial}\n", STAGE + "  out: {use: write.netcdf, path: out.nc}\n")
    whole = Path("sst.nc").read_bytes()
    Path("sst.nc").write_bytes(whole[: len(whole) // 2])
    done = geoxai_("run", path, "--set", f"vars.token={SECRET}")
    assert done.exit_code == 3
    assert SECRET not in done.output


NETWORK = """
from torch import nn
class Net(nn.Module):
    def __init__(self, token):
        super().__init__()
        assert len(token) > 20, f"{token} is too short"
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(96, 2))
    def forward(self, x):
        return self.body(x)
"""
STAGES = """\
  sst: {use: load.netcdf, path: sst.nc}
  labels: {use: labels.table, path: labels.csv}
  samples: {use: samples, inputs: [sst], labels: labels, classes: [cold, warm], scale: none, chunk: 8}
  network: {use: model, path: net.pt, architecture: "own_net:Net", args: {token: "${vars.token}"}}
  relevance: {use: explain.lrp, rules: epsilon, chunk: 8}
"""
HARD = 'it\'s "hard" \\to & <quote>: ö'


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_secrets_that_a_stage_is_given_reach_it_and_no_file(tmp_path, monkeypatch, executor):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    Path("own_net.py").write_text(NETWORK)
    torch.save({"body.1.weight": torch.ones(2, 96), "body.1.bias": torch.zeros(2)}, "net.pt")
    more = f"compute: {{executor: {executor}, workers: 2}}\nvars: {{token: replaced_in_file, pin_token: q9z}}\n"
    path = config(tmp_path, more, STAGES)
    argv = ["geoxai", "run", path, "--set", f"vars.token={json.dumps(HARD)}", "--set=vars.dbPwd=84628462"]
    monkeypatch.setattr("sys.argv", argv)
    done = geoxai_(*argv[1:])
    assert done.exit_code == 0, done.output
    left = {
        p: p.read_text("utf-8", "replace") for p in Path("runs").rglob("*") if p.is_file() and "c" not in p.parts[2:]
    }
    assert any(p.name == "stage.json" for p in left)
    for path, content in left.items():
        for secret in (HARD, HARD[:8], '"hard', "quote>", "quote&gt;", "replaced_in_file", "84628462", "q9z"):
            assert secret not in content, (path, secret)
    assert Path("runs/c/config.yaml").read_text().count("'***'") == 2
    assert load("runs/c/config.yaml", ["vars.token=another"]).stages["network"].args == {"token": "another"}
    done = geoxai_("run", "c.yaml", "--set", "vars.token=SHORT_ONE")  # counts: the network is built anew, and fails
    assert done.exit_code == 2
    assert "SHORT_ONE" not in "".join(p.read_text("utf-8", "replace") for p in left if p.is_file())


def test_words_that_only_look_like_secrets_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path, sst=field("sst", 0))
    more = (
        "vars: {tokens: 123456, tokenizer: words, cls_token: true, key: 1234567, token: '${vars.words}', words: abcd}\n"
    )
    config(tmp_path, more + "compute: {executor: serial}\n", STAGE + "  out: {use: write.netcdf, path: out.nc}\n")
    assert geoxai_("run", "c.yaml").exit_code == 0
    assert Path("runs/c/config.yaml").read_text() == Path("c.yaml").read_text().replace("abcd", "***")
