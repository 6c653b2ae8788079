"""A small way through everything, on the sample data, cut into many units."""

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
