"""Units, ledger, resume and endings, on tiny stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from geoxai.pipeline import run
from geoxai.pipeline.ledger import Ledger
from geoxai.pipeline.lock import locked

EXPECTED = np.mean((np.arange(10) - 4.5) ** 2)


def test_a_run_fits_stores_reduces_and_writes(fake: Any) -> None:
    result = run(fake())
    assert (result.exit_code, result.run_dir) == (0, fake.run)
    stored = xr.open_zarr(fake.run / "square.zarr", consolidated=False)
    np.testing.assert_array_equal(stored["square"], (np.arange(10) - 4.5) ** 2)
    assert float(xr.open_zarr(fake.run / "mean.zarr", consolidated=False)["mean"]) == EXPECTED
    assert float((fake.run / "mean.txt").read_text()) == EXPECTED
    assert json.loads((fake.run / "square.json").read_text()) == {"sum": float(stored["square"].sum())}
    for name in ("config.yaml", "config.resolved.yaml", "run.json", "run.log", "report.html"):
        assert (fake.run / name).stat().st_size, name


def test_the_same_command_again_computes_nothing(fake: Any) -> None:
    run(fake())
    assert run(fake()).exit_code == 0
    assert fake.computed == []


def test_only_missing_units_are_computed(fake: Any) -> None:
    run(fake())
    (Ledger(fake.run, "square").folder / "000002.json").unlink()
    assert run(fake()).exit_code == 0
    assert fake.computed == [("square", 2)]


def test_blocks_of_nothing_but_nan_count_as_done(fake: Any) -> None:
    assert run(fake("empty: true")).exit_code == 0
    run(fake("empty: true"))
    assert fake.computed == []


def test_a_changed_option_recomputes_its_stage_and_what_reads_it(fake: Any) -> None:
    run(fake())
    assert run(fake("factor: 2.0")).exit_code == 0
    assert [unit for stage, unit in fake.computed if stage == "square"] == [0, 1, 2, 3]
    assert float((fake.run / "mean.txt").read_text()) == 2 * EXPECTED


def test_another_chunk_layout_is_refused_with_both_shown(fake: Any) -> None:
    run(fake())
    result = run(fake("chunk: 4"))
    assert result.exit_code == 1
    assert "units of 3" in result.message
    assert "units of 4" in result.message
    assert "--force square" in result.message
    assert fake.computed == []
    assert run(fake("chunk: 4"), force=["square"]).exit_code == 0
    assert ("square", 2) in fake.computed
    assert float((fake.run / "mean.txt").read_text()) == pytest.approx(EXPECTED, rel=1e-15)


def test_a_failed_unit_is_recorded_and_the_rest_goes_on(fake: Any) -> None:
    result = run(fake("fail: [1]"))
    assert result.exit_code == 4
    assert "unit 1 does not like its numbers" in result.message
    assert "go on with: geoxai run" in result.message
    assert [unit for stage, unit in fake.computed if stage == "square"] == [0, 1, 2, 3]
    assert not any(stage == "mean" for stage, _ in fake.computed)
    assert "does not like" in Ledger(fake.run, "square").failures()[1]
    record = json.loads((fake.run / "run.json").read_text())
    assert record["exit_code"] == 4
    assert record["stages"]["square"]["failed"] == 1
    assert record["stages"]["mean"]["state"] == "not run"


def test_all_units_failed_is_a_failure(fake: Any) -> None:
    assert run(fake("fail: [0, 1, 2, 3]")).exit_code == 1


def test_only_runs_a_stage_and_what_it_needs(fake: Any) -> None:
    assert run(fake(), only=["square"]).exit_code == 0
    assert (fake.run / "square.zarr").exists()
    assert not (fake.run / "mean.zarr").exists()


def test_unknown_stage_for_only(fake: Any) -> None:
    result = run(fake(), only=["sqare"])
    assert result.exit_code == 2
    assert "did you mean 'square'" in result.message


def test_a_second_writer_is_refused(fake: Any) -> None:
    path = fake()
    with locked(fake.run):
        result = run(path)
    assert result.exit_code == 1
    assert "in use by process" in result.message
    assert run(path).exit_code == 0


def test_stores_hold_nothing_of_when_and_where(fake: Any, tmp_path: Path) -> None:
    run(fake())
    first = {p.relative_to(fake.run): p.read_bytes() for p in fake.run.glob("*.zarr/**/*") if p.is_file()}
    type(fake).run = tmp_path / "elsewhere"
    run(fake())
    second = {p.relative_to(fake.run): p.read_bytes() for p in fake.run.glob("*.zarr/**/*") if p.is_file()}
    assert first == second
    assert not any(str(tmp_path).encode() in content for content in first.values())


def test_what_a_killed_process_left_is_swept(fake: Any) -> None:
    path = fake()
    left = fake.run / ".square.zarr.123.part"
    left.mkdir(parents=True)
    (left / "zarr.json").write_text("{}")
    assert run(path).exit_code == 0
    assert not left.exists()


def test_how_a_run_ended_is_in_its_log(fake: Any) -> None:
    run(fake())
    assert (fake.run / "run.log").read_text().splitlines()[-1].endswith(f"INFO geoxai.pipeline: done: {fake.run}")
