"""The experiments in configs/: each validates, and those whose data are here come out as docs/ say."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geoxai.config import ConfigError, load
from tests.integration.conftest import ROOT
from tests.integration.running import geoxai

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_validates(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    mistakes = ""
    try:
        mistakes = str(load(path).warnings or "")
    except ConfigError as error:
        if error.exit_code != 3:  # 3: only files that this machine does not have
            mistakes = str(error)
    assert not mistakes


def shares(run_dir: Path, stage: str, name: str, region: str) -> list[float]:
    """Share of relevance of a class in a region, network by network."""
    classes = json.loads((run_dir / f"{stage}.json").read_text())["classes"]
    return [share for share in classes[name]["regions"][region]["relevance_share"] if share is not None]


def test_the_demo(tmp_path: Path) -> None:
    done = geoxai("run", "configs/enso_demo.yaml", "--set", f"output.dir={tmp_path}", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "network.json").read_text())
    assert scores["spread"]["test"]["accuracy"]["min"] > 0.9
    assert scores["baselines"]["linear"]["test"]["accuracy"] > 0.9
    for name in ("la_nina", "el_nino"):
        assert min(shares(tmp_path, "composite", name, "tropical_pacific")) > 2 * 0.22
    for figure in ("maps.png", "maps.pdf"):
        assert (tmp_path / "figures" / figure).stat().st_size > 10_000
    report = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64" in report


@pytest.mark.slow
def test_el_nino_in_real_temperatures(shared_data: Path, tmp_path: Path) -> None:
    arguments = ["--set", f"vars.data={shared_data}", "--set", f"output.dir={tmp_path}"]
    done = geoxai("run", "configs/enso.yaml", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for network in ("ridge", "plain"):
        scores = json.loads((tmp_path / f"{network}.json").read_text())
        assert scores["spread"]["test"]["accuracy"]["mean"] > 0.95
        assert scores["baselines"]["linear"]["test"]["accuracy"] > 0.95
        assert scores["baselines"]["majority_class"]["test"]["accuracy"] < 0.6
    for name in ("la_nina", "el_nino"):
        ridge, plain = (shares(tmp_path, f"composite_{n}", name, "tropical_pacific") for n in ("ridge", "plain"))
        assert min(ridge) > 0.5 > max(plain), (name, ridge, plain)

    relevance = xr.open_zarr(tmp_path / "relevance_ridge.zarr", consolidated=False).load()
    assert relevance.lat.attrs["units"] == "degrees_north"
    assert relevance.lon.attrs["units"] == "degrees_east"
    assert relevance.time.dt.calendar == "360_day"
    cells = ["channel", "lat", "lon"]
    told = relevance.relevance.astype("float64").sum(cells)
    told += relevance.bias_relevance + relevance.stabiliser_relevance + relevance.lost_relevance
    size = np.maximum(abs(relevance.target_value), abs(relevance.relevance).sum(cells))
    assert float((abs(relevance.target_value - told) / size).max()) < 1e-5
    land = np.isnan(relevance.relevance.isel(network=0, sample=0, channel=0))
    assert 0.25 < float(land.mean()) < 0.3


def test_a_fit_that_meets_test_years_is_reported_everywhere(small: Callable[..., Path], tmp_path: Path) -> None:
    config = small()
    config.write_text(config.read_text().replace("fit: [1951, 1985]", "fit: [1951, 2000]"))
    told = "the climatology is fitted on 1951 to 2000, which overlaps the test years"
    checked = geoxai("check", config)
    assert checked.returncode == 0
    assert f"{config}:7:" in checked.stderr
    assert told in checked.stderr
    assert geoxai("run", config, "--only", "samples").returncode == 0
    assert told in json.loads((tmp_path / "run" / "run.json").read_text())["warnings"][0]
    assert told in (tmp_path / "run" / "report.html").read_text()


def test_without_data_make_says_which_files_are_wanted() -> None:
    lines = (ROOT / "configs" / "enso.yaml").read_text().splitlines()
    assert any(line.startswith("# wanted: ") and "oni.ascii.txt" in line for line in lines)
    done = geoxai("check", "configs/enso.yaml", "--set", "vars.data=/nowhere", cwd=ROOT)
    assert done.returncode == 3
    assert "/nowhere/enso_indices/oni.ascii.txt" in done.stderr
