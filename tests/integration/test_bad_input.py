"""Bad data and bad disks: one clear sentence, the right exit code, nothing lost or half written."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from geoxai.cli import app
from tests.integration.conftest import ROOT
from tests.integration.running import geoxai, stored

SST = ROOT / "data_samples" / "sst_2000-2022.nc"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the sample files, for spoiling one of them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in sorted((ROOT / "data_samples").glob("sst_*.nc")):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def one_sentence(stderr: str) -> None:
    assert "Traceback" not in stderr
    assert "unexpected error" not in stderr


def test_a_truncated_file(small: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    spoilt = data / SST.name
    spoilt.write_bytes(spoilt.read_bytes()[: spoilt.stat().st_size // 2])
    done = geoxai("run", small(data=f"{data}/sst_*.nc"))
    assert done.returncode == 3
    one_sentence(done.stderr)
    assert spoilt.name in done.stderr
    spoilt.write_bytes(SST.read_bytes())
    assert geoxai("run", small(data=f"{data}/sst_*.nc")).returncode == 0


def test_damage_inside_a_file_is_reported_with_its_variable(small: Callable[..., Path], data: Path) -> None:
    spoilt = data / SST.name
    content = bytearray(spoilt.read_bytes())
    content[len(content) // 3 : 2 * len(content) // 3] = bytes(len(content) // 3)
    spoilt.write_bytes(content)
    done = geoxai("run", small(data=f"{data}/sst_*.nc"))
    assert done.returncode == 3
    one_sentence(done.stderr)
    assert spoilt.name in done.stderr


def test_a_field_without_any_value(small: Callable[..., Path], data: Path) -> None:
    with netCDF4.Dataset(data / SST.name, "a") as file:
        file["sst"][100] = np.ma.masked
    done = geoxai("run", small(data=f"{data}/sst_*.nc"))
    assert done.returncode == 3
    one_sentence(done.stderr)
    assert "sst" in done.stderr
    assert "2008-05" in done.stderr


def test_a_time_axis_out_of_order(small: Callable[..., Path], data: Path) -> None:
    with netCDF4.Dataset(data / SST.name, "a") as file:
        file["time"][10:12] = file["time"][10:12][::-1]
    done = geoxai("run", small(data=f"{data}/sst_*.nc"))
    assert done.returncode == 3
    one_sentence(done.stderr)
    assert SST.name in done.stderr
    assert "time" in done.stderr


def test_an_unknown_variable_lists_those_there_are(small: Callable[..., Path]) -> None:
    config = small()
    config.write_text(config.read_text().replace("variables: {sst:", "variables: {sts:"))
    done = geoxai("run", config)
    assert done.returncode == 2
    one_sentence(done.stderr)
    assert f"{config}:6:" in done.stderr
    assert "sst" in done.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system; skipped where this user may not."""
    mounted = []

    def mount(options: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir(exist_ok=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"cannot mount a file system: {made.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_loses_nothing(
    small: Callable[..., Path], tmp_path: Path, tiny_disk: Callable[[str], Path]
) -> None:
    assert geoxai("run", small("whole")).returncode == 0
    disk = tiny_disk("size=5m")
    config = small("disk/run")
    done = geoxai("run", config)
    assert done.returncode == 1
    one_sentence(done.stderr)
    assert "the disk is full" in done.stderr
    assert str(disk) in done.stderr
    kept = {p: p.read_bytes() for p in (disk / "run" / "ledger").glob("*/[0-9]*.json")}
    assert kept
    subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
    assert geoxai("run", config).returncode == 0
    assert {p: p.read_bytes() for p in kept} == kept
    assert stored(disk / "run") == stored(tmp_path / "whole")


def test_a_read_only_folder(small: Callable[..., Path], tiny_disk: Callable[[str], Path]) -> None:
    disk = tiny_disk("size=50m")
    config = small("disk/run")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = geoxai("run", config)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert str(disk) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_run_that_became_read_only_is_reported_clearly(
    small: Callable[..., Path], tiny_disk: Callable[[str], Path]
) -> None:
    disk = tiny_disk("size=200m")
    config = small("disk/run", epochs=2)
    assert geoxai("run", config).returncode == 0
    before = stored(disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = geoxai("run", config)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert stored(disk / "run") == before
    with xr.open_zarr(disk / "run" / "composite.zarr", consolidated=False) as composite:
        assert "relevance_mean" in composite
    assert os.access(disk, os.R_OK)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_split_outside_the_record_names_the_years_there_are(
    small: Callable[..., Path], tmp_path: Path, command: str
) -> None:
    path = small()
    path.write_text(path.read_text().replace("test: [1987, 2022]", "test: [2050, 2060]"))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "2050" in text)
    done = CliRunner().invoke(app, [command, str(path)])
    assert done.exit_code == 2
    assert f"{path}:{line}:" in done.stderr
    assert "the test split 2050 to 2060 lies outside the record: the inputs have 1950 to 2022" in done.stderr
    assert not list((tmp_path / "run").glob("*.zarr"))
