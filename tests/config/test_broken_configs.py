"""Every mistake in a config is reported at its place, in one line, with a remedy."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoxai.config import ConfigError, Diagnostic, Place, dump, load
from geoxai.config.document import parse

# What to replace in the good config, and the lines expected: place and message, then (if given) part of the remedy.
BROKEN = {
    "unknown stage type": (
        [("use: anomaly\n", "use: anomly\n")],
        [("c.yaml:10:10: unknown stage type 'anomly'", "did you mean 'anomaly'?")],
    ),
    "unknown option points at the key": (
        [("fit: [1951, 1994]", "fitt: [1951, 1994]")],
        [("c.yaml:12:5: unknown option 'fitt' in stages.anomaly", "did you mean 'fit'? there are: from, fit, detrend")],
    ),
    "unknown option of a nested model": (
        [("units: degC", "unit: degC")],
        [("c.yaml:7:76: unknown option 'unit' in stages.sst.variables.sst", "did you mean 'units'?")],
    ),
    "python name of an aliased option": (
        [("from: sst", "from_: sst")],
        [("c.yaml:11:5: unknown option 'from_' in stages.anomaly", "did you mean 'from'?")],
    ),
    "unknown key of the envelope": (
        [("seed: 7", "sead: 7")],
        [("c.yaml:4:23: unknown key 'sead' in compute", "did you mean 'seed'?")],
    ),
    "unknown top-level key": (
        [("vars:", "var:"), ("${vars.data}", "data")],
        [("c.yaml:5:1: unknown key 'var'", "did you mean 'vars'?")],
    ),
    "number as text": (
        [("1e-3", '"1e-3"')],
        [("c.yaml:18:42: stages.relevance.rules.1.eps must be a number, not the text '1e-3'", "without quotes: 1e-3")],
    ),
    "leading zero": (
        [("1951, 1994", "01951, 1994")],
        [("c.yaml:12:11: stages.anomaly.fit.0 must be a whole number, not the text '01951'", "no leading zero: 1951")],
    ),
    "clock time for a number": (
        [("seed: 7", "seed: 12:30:00")],
        [("c.yaml:4:29: compute.seed must be a whole number, not the text '12:30:00'", "plain text here")],
    ),
    "on for true": (
        [("variables:", "decode: on, variables:")],
        [("c.yaml:7:66: stages.sst.decode must be true or false, not the text 'on'", "write true")],
    ),
    "number for text": (
        [("path: enso.zarr", "path: 1e-3")],
        [("c.yaml:19:54: stages.result.path must be text, not 1e-3", 'put it in quotes: "1e-3"')],
    ),
    "fraction for a whole number": (
        [("seed: 7", "seed: 7.5")],
        [("c.yaml:4:29: compute.seed must be a whole number, not 7.5", None)],
    ),
    "alternatives of a union in one line": (
        [("workers: 2", "workers: many")],
        [("c.yaml:4:20: compute.workers must be 'auto' or a whole number, not the text 'many'", None)],
    ),
    "right branch of a union, wrong value": (
        [("workers: 2", "workers: 0")],
        [("c.yaml:4:20: compute.workers must be at least 1, not 0", None)],
    ),
    "model inside a union": (
        [("labels: enso", "scale: {fil: data/land.nc}")],
        [
            ("c.yaml:13:27: stages.samples.scale needs 'file'", "file: NetCDF file."),
            ("c.yaml:13:35: unknown option 'fil' in stages.samples.scale", "did you mean 'file'?"),
        ],
    ),
    "list inside a union": (
        [("labels: enso", "scale: [1, a]")],
        [("c.yaml:13:38: stages.samples.scale.1 must be a number, not the text 'a'", None)],
    ),
    "word inside a union": (
        [("labels: enso", "scale: trainig")],
        [
            (
                "c.yaml:13:34: stages.samples.scale must be 'training', 'none', a mapping (key: value) or a list, "
                "not the text 'trainig'",
                "did you mean 'training'?",
            )
        ],
    ),
    "missing option": (
        [(", path: enso.zarr", "")],
        [("c.yaml:19:3: stages.result needs 'path'", "path: Where, below output.dir.")],
    ),
    "too few and too many": (
        [("[1951, 1994]", "[1951]"), ("variables:", "time: [1, 2, 3], variables:")],
        [
            ("c.yaml:7:64: stages.sst.time must have at most 2 item(s), not 3", None),
            ("c.yaml:12:10: stages.anomaly.fit has 1 item(s), which is too few", None),
        ],
    ),
    "wrong key of a mapping with fixed keys": (
        [("variables:", "split: {tran: 1}, variables:")],
        [("c.yaml:7:66: unknown key 'tran' in stages.sst.split", "did you mean 'train'?")],
    ),
    "a validator of the stage": (
        [("[1951, 1994]", "[1999, 1994]")],
        [("c.yaml:12:10: stages.anomaly.fit: the first year is after the last", "swap them")],
    ),
    "executor of a later version": (
        [("workers: 2", "executor: slurm")],
        [("c.yaml:4:21: compute.executor: executor 'slurm' is not part of this version of geoxai; use local", None)],
    ),
    "unknown device": (
        [("workers: 2", "device: gpu")],
        [("c.yaml:4:19: compute.device: unknown device 'gpu'; there are: auto, cpu, cuda", None)],
    ),
    "version": (
        [("version: 1", "version: 2")],
        [("c.yaml:1:10: version must be 1, not 2", None)],
    ),
    "dangling reference": (
        [("from: sst", "from: sts")],
        [("c.yaml:11:11: there is no stage 'sts'", "did you mean 'sst'? stages that give grid: sst")],
    ),
    "dangling reference in a list": (
        [("[relevance]", "[samples, relevanse]")],
        [("c.yaml:19:45: there is no stage 'relevanse'", "did you mean 'relevance'?")],
    ),
    "no stage in a list": (
        [("labels: enso", "labels: enso, inputs: []")],
        [("c.yaml:13:49: inputs of stage 'samples' is an empty list", "leave it out for the nearest one above")],
    ),
    "reference of the wrong kind": (
        [("from: sst", "from: enso")],
        [("c.yaml:11:11: from of stage 'anomaly' takes grid, but stage 'enso' gives labels", "give grid: sst")],
    ),
    "nothing above to take": (
        [("  samples: {use: samples, labels: enso}\n", "")],
        [("c.yaml:13:3: stage 'relevance' takes samples, and no stage above it gives that", "add such a stage above")],
    ),
    "cycle at its first stage": (
        [("{use: index.oni}", "{use: anomaly, from: anomaly}"), ("from: sst", "from: enso"), (", labels: enso", "")],
        [("c.yaml:8:3: stages read each other in a cycle: enso -> anomaly -> enso", None)],
    ),
    "stage that reads itself": (
        [("from: sst", "from: anomaly")],
        [("c.yaml:9:3: stages read each other in a cycle: anomaly -> anomaly", None)],
    ),
    "duplicate key": (
        [("from: sst\n", "from: sst\n    use: anomaly\n")],
        [("c.yaml:12:5: duplicate key 'use', first given on line 10", "remove or rename")],
    ),
    "duplicate stage and a mistake elsewhere": (
        [("  enso:", "  sst: {use: index.oni}\n  enso:"), ("seed: 7", "seed: x")],
        [
            ("c.yaml:4:29: compute.seed must be a whole number, not the text 'x'", None),
            ("c.yaml:8:3: duplicate key 'sst', first given on line 7", None),
        ],
    ),
    "unclosed bracket where it opens": (
        [("[1951, 1994]", "[1951, 1994")],
        [("c.yaml:12:10: this '[' is never closed", "close it with ']'")],
    ),
    "unclosed brace among closed ones": (
        [("degC}}}", "degC}}")],
        [("c.yaml:7:8: this '{' is never closed", "close it with '}'")],
    ),
    "variable without quotes inside braces": (
        [('"${vars.data}/sst_*.nc"', "${vars.data}/sst_*.nc")],
        [("c.yaml:7:34: a ',' or '}' is missing before this", "must be in quotes")],
    ),
    "no space after the colon": (
        [("{use: index.oni}", "{use:index.oni}")],
        [("c.yaml:8:3: stage 'enso' needs 'use'", "write a space after the colon: use: index.oni")],
    ),
    "tab": (
        [("    from: sst", "\tfrom: sst")],
        [("c.yaml:11:1: a tab cannot indent YAML", "use spaces")],
    ),
    "indentation": (
        [("    from: sst", "   from: sst")],
        [("c.yaml:11:4: this line does not fit the lines above it", "align")],
    ),
    "alias": (
        [("from: sst", "from: *sst")],
        [("c.yaml:11:11: anchors and aliases (& and *) are not used here", "${vars.name}")],
    ),
    "unknown variable": (
        [("${vars.data}", "${vars.dat}")],
        [("c.yaml:7:34: unknown variable 'vars.dat'", "did you mean 'data'? there are: data, first, name, years")],
    ),
    "variable defined by itself": (
        [("data: data", 'data: "${vars.first}", first: "${vars.data}"'), ("first: 1951, ", "")],
        [("c.yaml:5:39: the variable 'vars.data' is defined by itself", None)],
    ),
    "list inside text": (
        [("${vars.data}", "${vars.years}")],
        [("c.yaml:7:34: ${vars.years} is a list and cannot be part of a text", None)],
    ),
    "environment variable": (
        [("${vars.data}", "${HOME}")],
        [("c.yaml:7:34: unknown variable ${HOME}", "only ${vars.name} is replaced")],
    ),
    "stage names": (
        [("  enso:", "  run:"), (", labels: enso", ""), ("  result:", "  my result:")],
        [
            ("c.yaml:8:3: a stage cannot be called 'run': the run folder uses that name", None),
            ("c.yaml:19:3: 'my result' cannot be the name of a stage", "it becomes a file name"),
        ],
    ),
    "stage that is no mapping": (
        [("{use: index.oni}", "index.oni")],
        [("c.yaml:8:9: stage 'enso' must be a mapping with the key 'use'", "enso: {use: ...}")],
    ),
    "bad option and dangling reference in one stage": (
        [("from: sst", "from: sts\n    detrend: liner")],
        [
            ("c.yaml:11:11: there is no stage 'sts'", None),
            ("c.yaml:12:14: stages.anomaly.detrend must be 'linear' or 'none', not the text 'liner'", "'linear'?"),
        ],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mistakes_are_reported_at_their_place(name, good, write):
    changes, expected = BROKEN[name]
    for old, new in changes:
        assert old in good
        good = good.replace(old, new)
    with pytest.raises(ConfigError) as raised:
        load(write(good))
    told = [finding.render().split("\n") for finding in raised.value.diagnostics]
    assert [lines[0][: len(line)] for lines, (line, _) in zip(told, expected, strict=True)] == [e[0] for e in expected]
    for lines, (_, fix) in zip(told, expected, strict=True):
        assert fix is None or fix in lines[-1]
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "c.yaml:1:1: the config is empty"),
        ("# nothing\n", "c.yaml:1:1: the config is empty"),
        ("- a\n", "c.yaml:1:1: a config is a mapping"),
        ("version: 1\nstages:\n", "c.yaml:2:8: stages must be a mapping (key: value), but is empty"),
        ("version: 1\nstages: {}\n", "c.yaml:2:9: stages must have at least 1 item(s), not 0"),
        ("stages: {a: {use: load.netcdf, path: data}}\n", "c.yaml:1:1: the config needs 'version'"),
        ("a: 'x\n", "c.yaml:1:4: this quote is never closed"),
        ("a: 1\n---\nb: 2\n", "c.yaml:2:1: a second YAML document starts here"),
        ("a: 1e999\n", "c.yaml:1:4: bad number '1e999': too large for a 64-bit float"),
        ("a: [1, 2]]\n", "c.yaml:1:10: this bracket closes nothing"),
        ("a: b\0\n", "c.yaml:1:5: the character '\\x00' is not allowed in YAML"),
    ],
)
def test_files_that_are_not_configs(text, line, write):
    with pytest.raises(ConfigError) as raised:
        load(write(text))
    assert any(finding.render().startswith(line) for finding in raised.value.diagnostics)
    assert raised.value.exit_code == 2


def test_latin_1_text(write):
    write("")
    Path("c.yaml").write_bytes(b"version: 1\nname: Ni\xf1o\n")
    with pytest.raises(ConfigError, match=r"c.yaml:2:9: is not UTF-8 text"):
        load("c.yaml")


def test_missing_config_names_the_nearest(write, good):
    write(good)
    with pytest.raises(ConfigError, match=r"cc\.yaml: there is no such config file\n  did you mean 'c.yaml'") as raised:
        load("cc.yaml")
    assert raised.value.exit_code == 2


def test_snippet_and_caret_stand_below(write, good):
    with pytest.raises(ConfigError) as raised:
        load(write(good.replace("from: sst", "from: sts")))
    assert str(raised.value) == (
        "c.yaml:11:11: there is no stage 'sts'\n"
        "    from: sts\n"
        "          ^\n"
        "  did you mean 'sst'? stages that give grid: sst"
    )


def test_a_terminal_gets_the_same_words(write, good):
    with pytest.raises(ConfigError) as raised:
        load(write(good.replace("from: sst", "from: sts")))
    (finding,) = raised.value.diagnostics
    assert finding.styled().plain == finding.render().replace("c.yaml:11:11: ", "c.yaml:11:11: error: ")


def test_long_lines_are_cut_around_the_caret():
    finding = Diagnostic(Place("c.yaml", 1, 301, "a" * 300 + "B" + "c" * 300), "wrong")
    _, line, caret = finding.render().split("\n")
    assert len(line) < 130
    assert line[caret.index("^")] == "B"


class TestMissingFiles:
    def test_exit_code_3_where_only_files_are_missing(self, write, good):
        text = good.replace("sst_*", "st_*").replace("labels: enso", "labels: enso, scale: {file: data/lnd.nc}")
        with pytest.raises(ConfigError) as raised:
            load(write(text))
        first, second = (finding.render() for finding in raised.value.diagnostics)
        assert first.startswith(f"c.yaml:7:33: no file matches {Path.cwd() / 'data'}/st_*.nc\n")
        assert second.startswith(f"c.yaml:13:55: there is no file {Path.cwd() / 'data'}/lnd.nc\n")
        assert second.endswith("did you mean 'land.nc'?")
        assert raised.value.exit_code == 3

    def test_exit_code_2_where_something_else_is_wrong_too(self, write, good):
        with pytest.raises(ConfigError) as raised:
            load(write(good.replace("sst_*", "st_*").replace("seed: 7", "seed: x")))
        assert len(raised.value.diagnostics) == 2
        assert raised.value.exit_code == 2

    def test_missing_folder_is_named(self, write, good):
        with pytest.raises(ConfigError, match=r"has no folder 'dta'; did you mean 'data'\?"):
            load(write(good.replace("data: data", "data: dta")))

    @pytest.mark.parametrize("url", ["s3://key:secret@bucket/sst_*.nc", "gs://b/a.nc", "https://x.y/a.nc", "file:///a"])
    def test_urls_are_refused_by_name(self, write, good, url):
        scheme = url.partition("://")[0]
        with pytest.raises(ConfigError) as raised:
            load(write(good.replace("${vars.data}/sst_*.nc", url)))
        (finding,) = raised.value.diagnostics
        assert finding.message == f"stages.sst.path is a URL ({scheme}://...), which is not supported yet"
        assert raised.value.exit_code == 2

    def test_words_of_an_option_are_not_files(self, write, good):
        assert load(write(good)).stages["samples"].mask == "auto"
        with pytest.raises(ConfigError, match=r"there is no file .*outo"):
            load(write(good.replace("labels: enso", "mask: outo")))


SCALARS = st.sampled_from([None, True, 0, -1.5, float("nan"), 10**400, "", "x", "${vars.x}", "${", "010"])
COLLECTIONS = st.sampled_from([[], ["a"], [[1]], {}, {"a": 1}, {"use": "x"}])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_anything_wrong_is_a_finding_at_a_place(data, good, write):
    """Any value of the good config replaced by anything: read, or reported in one line, never another exception."""
    if not Path("c.yaml").exists():
        write(good)
    document = parse(good, "c.yaml")
    path = data.draw(st.sampled_from(sorted(path for path in document.spots if path)))
    here = document.data
    for key in path[:-1]:
        here = here[int(key)] if isinstance(here, list) else here[key]
    here[int(path[-1]) if isinstance(here, list) else path[-1]] = data.draw(SCALARS | COLLECTIONS)
    Path("c.yaml").write_text(dump(document.data))
    findings = findings_of("c.yaml")
    assert all(finding.place.line > 0 and "\n" not in finding.message for finding in findings)


def findings_of(path):
    try:
        return load(path).warnings
    except ConfigError as error:
        return error.diagnostics
