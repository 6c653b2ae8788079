"""Three tiny stages that exercise every way of doing: lazy with a fit, stored, reduced, output."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from pydantic import Field

from geoxai.errors import GeoxaiError
from geoxai.stages.stage import Context, Layout, LazyStage, OutputStage, ReducedStage, Reference, StoredStage

COMPUTED: list[tuple[str, int]] = []


class Numbers(LazyStage):
    """Numbers minus their mean, which is fitted."""

    use: ClassVar[str] = "fake.numbers"
    gives: ClassVar[str] = "grid"
    fits: ClassVar[bool] = True
    size: int = 10

    def _raw(self) -> xr.Dataset:
        return xr.Dataset({"v": ("time", np.arange(self.size, dtype="float64"))}, {"time": np.arange(self.size)})

    def fit(self, context: Context) -> xr.Dataset:
        return self._raw().mean().rename(v="mean")

    def skeleton(self, context: Context) -> xr.Dataset:
        return self._raw()

    def open(self, context: Context) -> xr.Dataset:
        assert context.fitted is not None
        return self._raw() - context.fitted["mean"]


class Square(StoredStage):
    """Squares."""

    use: ClassVar[str] = "fake.square"
    gives: ClassVar[str] = "samples"
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(None, alias="from")
    chunk: int = 3
    factor: float = 1.0
    fail: tuple[int, ...] = ()
    empty: bool = False

    def layout(self, context: Context) -> Layout:
        source = context.sources["from"]
        n = source.sizes["time"]
        template = xr.Dataset({"square": ("sample", da.zeros(n, chunks=self.chunk))}, {"sample": np.arange(n)})
        return Layout(template, "sample", self.chunk)

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        COMPUTED.append((context.stage, start // self.chunk))
        if start // self.chunk in self.fail:
            raise GeoxaiError(f"unit {start // self.chunk} does not like its numbers", fix="like them")
        values = context.sources["from"]["v"].values[start:stop] ** 2 * self.factor
        return xr.Dataset({"square": ("sample", np.full_like(values, np.nan) if self.empty else values)})

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any]:
        return {"sum": float(result["square"].sum())}


class Mean(ReducedStage):
    """Mean of squares."""

    use: ClassVar[str] = "fake.mean"
    gives: ClassVar[str] = "composite"
    from_: Annotated[str | None, Reference("samples", nearest=True)] = Field(None, alias="from")

    def extent(self, context: Context) -> tuple[int, int]:
        return context.sources["from"].sizes["sample"], 3

    def skeleton(self, context: Context) -> xr.Dataset:
        return xr.Dataset({"mean": 0.0})

    def partial(self, context: Context, start: int, stop: int) -> xr.Dataset:
        COMPUTED.append((context.stage, start // 3))
        block = context.sources["from"]["square"].isel(sample=slice(start, stop)).load()
        return xr.Dataset({"sum": block.sum(), "n": block.size})

    def merge(self, context: Context, partials: Iterable[xr.Dataset]) -> xr.Dataset:
        sums = [(float(p["sum"]), int(p["n"])) for p in partials]
        return xr.Dataset({"mean": sum(s for s, _ in sums) / sum(n for _, n in sums)})


class Text(OutputStage):
    """A text file."""

    use: ClassVar[str] = "fake.text"
    from_: Annotated[str | None, Reference("composite", nearest=True)] = Field(None, alias="from")

    def write(self, context: Context) -> list[Path]:
        COMPUTED.append((context.stage, 0))
        path = context.run_dir / "mean.txt"
        path.write_text(str(float(context.sources["from"]["mean"])))
        return [path]


CONFIG = """version: 1
name: fake
output: {{dir: {run}}}
compute: {{executor: serial}}
stages:
  numbers: {{use: fake.numbers, size: {size}}}
  square: {{use: fake.square{square}}}
  mean: {{use: fake.mean}}
  text: {{use: fake.text}}
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a config of the tiny stages and gives its path; ``fake.run`` is its run folder."""
    known = {stage.use: stage for stage in (Numbers, Square, Mean, Text)}
    monkeypatch.setattr("geoxai.config.loading.registry", lambda: known)
    COMPUTED.clear()

    class Fake:
        run = tmp_path / "run"
        computed = COMPUTED
        stages = known

        def __call__(self, square: str = "", size: int = 10) -> Path:
            path = tmp_path / "fake.yaml"
            path.write_text(CONFIG.format(run=self.run, square=f", {square}" if square else "", size=size))
            COMPUTED.clear()
            return path

    return Fake()
