"""The examples that end the manual of each stage: all are there, valid, and run."""

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

import geoxai
from geoxai.cli import app
from geoxai.cli.example import example, example_files
from geoxai.cli.listing import manual
from geoxai.config import load
from geoxai.stages import registry
from geoxai.stages.stage import LazyStage

DATA = Path(__file__).parents[2] / "data_samples"
SHIPPED = [use for use, stage in registry().items() if stage.__module__.startswith("geoxai.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `geoxai init` writes there, and what the examples say how to make."""
    there = tmp_path_factory.mktemp("examples")
    shutil.copytree(DATA, there / "data_samples", ignore=shutil.ignore_patterns("*.csv", "*.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(there)
        for stage in registry().values():
            exec(stage.example_files, {})
    return there


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("use", SHIPPED)
def test_every_stage_ends_with_a_valid_one(use: str) -> None:
    shown = CliRunner().invoke(app, ["stages", use]).stdout
    text = textwrap.dedent(re.split(r"an example that runs .*:\n", shown)[1].split("\nwith files")[0])
    Path("c.yaml").write_text(text)
    config = load("c.yaml")
    last = list(config.stages)[-1]
    assert config.stages[last].use == use
    assert config.warnings == ()
    read = {source for name in config.stages for source in _sources(config, name)}
    assert set(config.stages) - read == {last}  # nothing that the example does not need


@pytest.mark.slow
def test_they_run_one_after_the_other() -> None:
    """All in one config: what an example reads is what the example of that stage makes."""
    stages = registry()
    entries = "\n".join(textwrap.indent(stages[use].example, "  ") for use in SHIPPED)
    Path("all.yaml").write_text(
        f"version: 1\noutput: {{dir: all}}\ncompute: {{executor: serial}}\nstages:\n{entries}\n"
    )
    result = geoxai.run("all.yaml", set={"stages.network.epochs": 3, "stages.unet.epochs": 1})
    assert (result.exit_code, result.message) == (0, f"done: {Path('all').resolve()}")


class Doubled(LazyStage):
    """Twice the field."""

    use: ClassVar[str] = "my.double"
    gives: ClassVar[str] = "grid"


def test_a_stage_of_another_package_may_lack_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {**registry(), "my.double": Doubled}
    monkeypatch.setattr("geoxai.config.schema.registry", lambda: stages)
    assert example("my.double", stages) == example_files("my.double", stages) == ""
    assert "example" not in manual("my.double", stages)


def test_one_that_names_no_source_gets_those_nearest() -> None:
    class Forecast(registry()["predict"]):  # type: ignore[misc]
        use: ClassVar[str] = "my.forecast"
        example: ClassVar[str] = "mine: {use: my.forecast}"

    text = example("my.forecast", {**registry(), "my.forecast": Forecast})
    assert re.findall(r"^  (\w+):", text, re.M) == ["sst", "anomaly", "enso", "samples", "network", "mine"]


def _sources(config: geoxai.config.Config, name: str) -> Iterator[str]:
    for value in config.sources(name).values():
        yield from [value] if isinstance(value, str) else value or []
