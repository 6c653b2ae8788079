"""Killed anywhere, or with files taken away or damaged: the same command again puts everything right, and no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from geoxai.pipeline import run, running, stores, units
from geoxai.pipeline.ledger import Ledger
from geoxai.storage.files import sweep

EXPECTED = float(np.mean((np.arange(10) - 4.5) ** 2))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the pipeline may catch it."""


def whole(run_dir: Path) -> None:
    """Everything is there and agrees."""
    square = xr.open_zarr(run_dir / "square.zarr", consolidated=False)["square"]
    np.testing.assert_array_equal(square, (np.arange(10) - 4.5) ** 2)
    assert json.loads((run_dir / "square.json").read_text()) == {"sum": float(square.sum())}
    assert float(xr.open_zarr(run_dir / "mean.zarr", consolidated=False)["mean"]) == EXPECTED
    assert float((run_dir / "mean.txt").read_text()) == EXPECTED


@pytest.mark.parametrize(
    ("place", "name", "call", "computed"),
    [
        pytest.param(stores, "create", 1, 4, id="before the store is there"),
        pytest.param(Ledger, "begin", 1, 4, id="between the store and its ledger"),
        pytest.param(Ledger, "finish", 3, 2, id="a block is stored, its entry is not"),
        pytest.param(running, "_summarise", 1, 0, id="all units are done, the summary is missing"),
        pytest.param(running, "write_json", 1, 0, id="while the summary is written"),
        pytest.param(units, "_merge", 1, 0, id="all partials are there, the merge is not"),
        pytest.param(Ledger, "drop_partials", 1, 0, id="merged, the partials still there"),
        pytest.param(running, "_output", 1, 0, id="before the files for people"),
    ],
)
def test_killed_at_every_seam(
    fake: Any, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, call: int, computed: int
) -> None:
    run(fake("factor: 3.0"))  # results of other numbers are in the way
    path, real, calls = fake(), getattr(place, name), []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == call:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with pytest.raises(Killed):
            run(path)
    fake.computed.clear()
    assert run(path).exit_code == 0
    assert len([stage for stage, _ in fake.computed if stage == "square"]) == computed
    whole(fake.run)
    assert not list((fake.run / "ledger").rglob("*.partial.zarr"))


@pytest.mark.parametrize(
    ("lost", "computed"),
    [
        ("numbers.fit.zarr", set()),
        ("square.zarr", {"square"}),
        ("square.json", set()),
        ("mean.zarr", {"mean"}),
        ("mean.txt", {"text"}),
        ("ledger/square", {"square"}),
        ("ledger/square/stage.json", {"square"}),
        ("ledger/mean/000004.json", {"mean"}),
    ],
)
def test_what_is_deleted_is_made_again(fake: Any, lost: str, computed: set[str]) -> None:
    run(fake())
    path = fake.run / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(fake()).exit_code == 0
    assert {stage for stage, _ in fake.computed} == computed
    whole(fake.run)


@pytest.mark.parametrize("damage", ["", '{"fingerprint"', "[1]", "{}", "null", '{"cause": 1}'])
@pytest.mark.parametrize("file", ["stage.json", "000001.json"])
def test_a_damaged_ledger_counts_as_not_done(fake: Any, file: str, damage: str) -> None:
    run(fake())
    (fake.run / "ledger" / "square" / file).write_text(damage)
    assert run(fake()).exit_code == 0
    assert {unit for stage, unit in fake.computed if stage == "square"} == ({1} if file[0] == "0" else {0, 1, 2, 3})
    whole(fake.run)


def test_a_lost_partial_is_computed_again_before_the_merge(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake()
    with monkeypatch.context() as patch:
        patch.setattr(units, "_merge", lambda *args: 1 / 0)
        assert run(path).exit_code == 1
    shutil.rmtree(Ledger(fake.run, "mean").partial(2))
    fake.computed.clear()
    assert run(path).exit_code == 0
    assert [unit for stage, unit in fake.computed if stage == "mean"] == [2]
    whole(fake.run)


def test_a_summary_of_other_numbers_does_not_stay(fake: Any) -> None:
    run(fake())
    assert run(fake("factor: 2.0, fail: [1]")).exit_code == 4
    assert not (fake.run / "square.json").exists()


def test_a_config_that_cannot_run_costs_no_result(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run(fake())
    with monkeypatch.context() as patch:
        patch.setattr(fake.stages["fake.square"], "skeleton", lambda *args: 1 / 0)
        result = run(fake(), force=["square"])
    assert result.exit_code == 1
    assert "stage 'square': ZeroDivisionError" in result.message
    assert run(fake()).exit_code == 0
    assert fake.computed == []


def test_force_computes_a_stage_and_what_reads_it(fake: Any) -> None:
    run(fake())
    assert run(fake(), force=["square"]).exit_code == 0
    assert {stage for stage, _ in fake.computed} == {"square", "mean", "text"}
    fake.computed.clear()
    assert run(fake(), force=["mean"]).exit_code == 0
    assert {stage for stage, _ in fake.computed} == {"mean", "text"}
    whole(fake.run)


def test_only_sweeps_what_it_made_itself(fake: Any) -> None:
    run(fake())
    mine, left = fake.run / "film.mkv.part", fake.run / ".mean.zarr.4711.old.part"
    mine.touch()
    left.mkdir()
    assert run(fake()).exit_code == 0
    assert mine.exists()
    assert not left.exists()


def test_a_renamed_stage_is_made_anew_and_files_carry_its_name(fake: Any) -> None:
    run(fake())
    path = fake()
    path.write_text(path.read_text().replace("mean: {", "average: {"))
    assert run(path).exit_code == 0
    assert {stage for stage, _ in fake.computed} == {"average", "text"}


def test_leftovers_of_one_file_alone(tmp_path: Path) -> None:
    for name in (".a.zarr.12.part", ".b.zarr.12.part", ".a.zarr.part", "a.zarr.12.part"):
        (tmp_path / name).touch()
    sweep(tmp_path, "a.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.zarr.part", ".b.zarr.12.part", "a.zarr.12.part"]


def test_chunks_left_half_written_are_removed(fake: Any) -> None:
    run(fake())
    left = fake.run / "square.zarr" / "square" / "c" / "2.0123456789abcdef.partial"
    left.write_bytes(b"half")
    (Ledger(fake.run, "square").folder / "000002.json").unlink()
    assert run(fake()).exit_code == 0
    assert not left.exists()
