"""A small set of stages to write configs for, so that these tests do not change when the real stages do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from geoxai.errors import OptionError
from geoxai.stages.stage import InputPath, OutputStage, Reference, Stage


class Wanted(BaseModel):
    """How a variable is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    units: str | None = Field(None, description="Units to convert to.")
    scale: float = Field(1.0, gt=0, description="Factor.")


class Load(Stage):
    """Opens files.

    More about files.
    """

    use: ClassVar[str] = "load.netcdf"
    gives: ClassVar[str] = "grid"
    path: Annotated[str | list[str], InputPath()] = Field(description="Files, globs or a Zarr store.")
    variables: dict[str, Wanted] = Field(default_factory=dict, description="Variables to read.")
    time: tuple[int, int] | None = Field(None, description="First and last year.")
    split: dict[Literal["train", "test"], int] = Field(default_factory=dict, description="Years of each split.")
    decode: bool = Field(True, description="Whether to unpack.")


class Anomaly(Stage):
    """Departures from a climatology."""

    use: ClassVar[str] = "anomaly"
    gives: ClassVar[str] = "grid"
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(None, alias="from", description="The data.")
    years: tuple[int, int] = Field((1951, 1980), alias="fit", description="Years of the climatology.")
    detrend: Literal["linear", "none"] = Field("none", description="Trend to remove.")

    @model_validator(mode="after")
    def _years_ascend(self) -> Anomaly:
        if self.years[0] > self.years[1]:
            raise OptionError("the first year is after the last", option="fit", fix="swap them")
        return self

    def advise(self, name: str, stages: Mapping[str, Stage]) -> Iterable[tuple[str, str, str]]:
        if self.years[1] > 2000:
            yield "fit", "fit years meet test years", "end them earlier"


class Oni(Stage):
    """El Nino labels."""

    use: ClassVar[str] = "index.oni"
    gives: ClassVar[str] = "labels"
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(None, alias="from", description="The data.")


class Fields(BaseModel):
    """Scaling fields in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[str, InputPath()] = Field(description="NetCDF file.")


class Samples(Stage):
    """Network inputs."""

    use: ClassVar[str] = "samples"
    gives: ClassVar[str] = "samples"
    inputs: Annotated[list[str], Reference("grid", nearest=True)] = Field(default_factory=list, description="Channels.")
    labels: Annotated[str | None, Reference("labels")] = Field(None, description="Labels.")
    scale: Literal["training", "none"] | Fields | list[float] = Field("training", description="Scaling.")
    mask: Annotated[Literal["auto"] | str, InputPath()] = Field("auto", description="Mask file.")


class Rule(BaseModel):
    """One rule of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field(description="Which operations.")
    rule: Literal["epsilon", "z_box"] = Field(description="The rule.")
    eps: float = Field(1e-6, ge=0, description="Stabiliser.")


class Explain(Stage):
    """Relevance."""

    use: ClassVar[str] = "explain.lrp"
    gives: ClassVar[str] = "relevance"
    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(None, alias="from", description="Samples.")
    rules: str | list[Rule] = Field("epsilon", description="Rules.")
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field("auto", description="Samples at once.")
    baselines: list[Annotated[str, Reference("grid", "samples")]] = Field(default_factory=list, description="Others.")


class Write(OutputStage):
    """A store for other programs."""

    use: ClassVar[str] = "write.zarr"
    from_: Annotated[list[str], Reference("relevance", "samples")] = Field(alias="from", description="What to write.")
    path: str = Field(description="Where, below output.dir.")


STAGES: tuple[type[Stage], ...] = (Load, Anomaly, Oni, Samples, Explain, Write)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Stage]]:
    """The registry holds the stages above and no other."""
    found = {stage.use: stage for stage in STAGES}
    for module in ("geoxai.stages", "geoxai.config.loading", "geoxai.config.schema"):
        monkeypatch.setattr(f"{module}.registry", lambda: found)
    return found


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: dict) -> Callable[[str], str]:
    """Writes ``c.yaml`` beside two data files and makes its folder the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("sst_1.nc", "sst_2.nc", "land.nc"):
        (tmp_path / "data" / name).touch()

    def to_file(text: str) -> str:
        Path("c.yaml").write_text(text)
        return "c.yaml"

    return to_file


_GOOD = """\
version: 1
name: enso
output: {dir: runs/enso}
compute: {workers: 2, seed: 7}
vars: {data: data, first: 1951, name: land.nc, years: [1951, 1980]}
stages:
  sst: {use: load.netcdf, path: "${vars.data}/sst_*.nc", variables: {sst: {units: degC}}}
  enso: {use: index.oni}
  anomaly:
    use: anomaly
    from: sst
    fit: [1951, 1994]
  samples: {use: samples, labels: enso}
  relevance:
    use: explain.lrp
    rules:
      - {match: first, rule: z_box}
      - {match: all, rule: epsilon, eps: 1e-3}
  result: {use: write.zarr, from: [relevance], path: enso.zarr}
"""


@pytest.fixture
def good() -> str:
    """A config without mistakes, for tests to break."""
    return _GOOD
