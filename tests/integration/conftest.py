"""A small way through everything, on the sample data, cut into many units."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """version: 1
name: small
output: {{dir: {run}}}
compute: {{executor: {executor}, workers: {workers}}}
stages:
  sst: {{use: load.netcdf, path: "{data}", variables: {{sst: {{units: degC}}}}}}
  anomaly: {{use: anomaly, fit: [1951, 1985]}}
  enso: {{use: index.oni, from: sst}}
  samples:
    use: samples
    inputs: [anomaly]
    labels: enso
    classes: [la_nina, el_nino]
    split: {{train: [1951, 1985], test: [1987, 2022]}}
    scale: none
    chunk: 48
  network:
    use: train
    architecture: {{mlp: {{hidden: [8, 8]}}}}
    l2: {{first: 1}}
    epochs: {epochs}
    checkpoint_every: 5
    seeds: 2
  forecast: {{use: predict, chunk: 64}}
  relevance: {{use: explain.lrp, subset: test, batch_size: 16, chunk: 32}}
  composite: {{use: composite, by: enso, where: correct, chunk: 32, regions: [nino34, tropical_pacific]}}
  result: {{use: write.zarr, from: [relevance, composite], path: out.zarr}}
  maps: {{use: plot.maps, from: composite}}
"""

STAGES = '''
import logging, os, signal, time, warnings
from typing import Annotated, ClassVar
import dask.array as da, numpy as np, xarray as xr
from pydantic import Field
from geoxai.stages.stage import Layout, LazyStage, Reference, StoredStage

class Numbers(LazyStage):
    """Numbers."""
    use: ClassVar[str] = "my.numbers"
    gives: ClassVar[str] = "grid"
    def open(self, context):
        return xr.Dataset({"v": ("time", np.arange(8.0))})

class Work(StoredStage):
    """Units that do as they are told."""
    use: ClassVar[str] = "my.work"
    gives: ClassVar[str] = "samples"
    from_: Annotated[str | None, Reference("grid", nearest=True)] = Field(None, alias="from")
    kill: tuple[int, ...] = ()
    kill_once: tuple[int, ...] = ()
    seconds: float = 0.0
    raw: str = ""
    def layout(self, context):
        return Layout(xr.Dataset({"w": ("sample", da.zeros(8, chunks=1))}), "sample", 1)
    def compute(self, context, start, stop):
        before = context.run_dir / f"died-{start}"
        if start in self.kill or (start in self.kill_once and not before.exists()):
            before.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        if self.raw:
            warnings.warn(f"warned of {self.raw}")
            logging.getLogger("torch.export").warning("logged of %s", self.raw)
        return xr.Dataset({"w": ("sample", context.sources["from"]["v"].values[start:stop])})
'''


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small config and gives its path; ``run`` is the name of the run folder in ``tmp_path``."""

    def write(
        run: str = "run",
        data: str = str(ROOT / "data_samples" / "sst_*.nc"),
        executor: str = "serial",
        workers: int = 1,
        epochs: int = 10,
    ) -> Path:
        path = tmp_path / f"{run.replace('/', '-')}.yaml"
        path.write_text(CONFIG.format(run=tmp_path / run, data=data, executor=executor, workers=workers, epochs=epochs))
        return path

    return write


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a config of stages that an installed package offers: its code and its metadata are on the path."""
    (tmp_path / "my_stages.py").write_text(STAGES)
    metadata = tmp_path / "my_stages-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-stages\nVersion: 1.0\n")
    points = "[geoxai.stages]\nmy.numbers = my_stages:Numbers\nmy.work = my_stages:Work\n"
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))

    def write(work: str, executor: str = "local") -> Path:
        path = tmp_path / "my.yaml"
        compute = f"{{executor: {executor}, workers: 2, device: cpu}}"
        stages = f"{{numbers: {{use: my.numbers}}, work: {{use: my.work, {work}}}}}"
        path.write_text(f"version: 1\noutput: {{dir: {tmp_path / 'run'}}}\ncompute: {compute}\nstages: {stages}\n")
        return path

    return write
