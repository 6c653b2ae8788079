"""Any file of a run damaged in any way: reported once and recomputed, or reported by ``verify``; never counted done."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from geoxai.errors import InputError
from geoxai.pipeline import plan, run, verify
from geoxai.pipeline.ledger import Ledger
from geoxai.storage import recorded

OF_THE_RUN = {"run.json", "run.log", "report.html", "config.yaml", "config.resolved.yaml", ".lock", ".geoxai"}


def results(run_dir: Path) -> dict[str, bytes]:
    files = (p for p in run_dir.rglob("*") if p.is_file() and p.name not in OF_THE_RUN and "ledger" not in p.parts)
    return {str(p.relative_to(run_dir)): p.read_bytes() for p in files}


def flip_first(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def flip_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture
def finished(fake: Any) -> tuple[Path, dict[str, bytes]]:
    path = fake()
    assert run(path).exit_code == 0
    return path, results(fake.run)


@pytest.mark.parametrize("how", [Path.unlink, empty, truncate, flip_first, flip_middle])
def test_every_file_of_a_run(
    fake: Any, finished: tuple[Path, dict[str, bytes]], how: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, good = finished
    files = [p.relative_to(fake.run) for p in sorted(fake.run.rglob("*")) if p.is_file() and p.name not in OF_THE_RUN]
    files = [file for file in files if "partial" not in str(file)]
    assert len(files) > 25
    shutil.copytree(fake.run, tmp_path / "good")
    for file in files:
        capsys.readouterr()
        how(fake.run / file)
        assert run(path).exit_code == 0, file
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if results(fake.run) == good and verify(fake.run).problems == ():
            # without an entry nothing was ever done; a flip in what is noted beside the files, such as seconds, is none
            if not (file.parts[0] == "ledger" and how in (Path.unlink, flip_first, flip_middle)):
                assert said.count("warning: damaged") == 1, file
                assert str(file) in said
            continue
        assert how in (flip_first, flip_middle), file  # in chunks of units: compared when they are read
        (problem,) = verify(fake.run).problems
        assert "is not what was written (square, unit " in problem
        assert str(file) in problem or file.parts[:2] == ("ledger", "square")
        shutil.rmtree(fake.run)
        shutil.copytree(tmp_path / "good", fake.run)


@pytest.mark.parametrize("how", [Path.unlink, truncate, flip_middle])
def test_damage_is_noticed_while_it_is_read_and_healed_at_once(
    fake: Any, finished: tuple[Path, dict[str, bytes]], how: Callable, capsys: pytest.CaptureFixture
) -> None:
    path, good = finished
    how(fake.run / "square.zarr" / "square" / "c" / "1")
    fake.computed.clear()
    capsys.readouterr()
    assert run(path, force=["mean"]).exit_code == 0
    said = capsys.readouterr().err
    assert said.count("damaged, and computed anew: square.zarr/square/c/1 ") == 1
    assert "(square, unit 1)" in said
    assert "error" not in said
    assert [unit for stage, unit in fake.computed if stage == "square"] == [1]
    assert results(fake.run) == good


@pytest.mark.parametrize("method", ["summarise", "merge"])
def test_damage_that_comes_while_a_run_goes_on(
    fake: Any, monkeypatch: pytest.MonkeyPatch, method: str, capsys: pytest.CaptureFixture
) -> None:
    path = fake()
    stage = fake.stages["fake.square" if method == "summarise" else "fake.mean"]
    real, target = getattr(stage, method), "square.zarr/square/c/2"
    if method == "merge":
        target = "ledger/mean/000001.partial.zarr/sum/c"

    def damaging(self: Any, *args: Any) -> Any:
        if not (fake.run / "damaged").exists():
            (fake.run / "damaged").touch()
            flip_middle(fake.run / target)
        return real(self, *args)

    monkeypatch.setattr(stage, method, damaging)
    assert run(path).exit_code == 0
    assert capsys.readouterr().err.count(f"damaged, and computed anew: {target} is not what was written") == 1
    assert verify(fake.run).problems == ()
    assert float((fake.run / "mean.txt").read_text()) == 8.25


@pytest.mark.parametrize("times", [2, 99])
def test_damage_that_comes_again_and_again(
    fake: Any, monkeypatch: pytest.MonkeyPatch, times: int, capsys: pytest.CaptureFixture
) -> None:
    path, real, left = fake(), fake.stages["fake.mean"].partial, [times]

    def damaging(self: Any, context: Any, start: int, stop: int) -> Any:
        if left[0]:
            left[0] -= 1
            empty(fake.run / "square.zarr" / "square" / "c" / str(start // 3))
        return real(self, context, start, stop)

    monkeypatch.setattr(fake.stages["fake.mean"], "partial", damaging)
    result = run(path)
    if times == 2:
        assert result.exit_code == 0, result.message
        assert float((fake.run / "mean.txt").read_text()) == 8.25
        assert capsys.readouterr().err.count("damaged, and computed anew") == 2
    else:
        assert result.exit_code == 1
        assert result.message.startswith("what mean reads is damaged each time that it is computed anew")


def test_an_error_without_damage_stays_an_error(
    fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(fake.stages["fake.mean"], "partial", lambda *args: 1 / 0)
    result = run(fake())
    assert result.exit_code == 1
    assert "division by zero" in result.message
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '"x"', "{}", '{"fingerprint": 3}', "[" * 10_000])
@pytest.mark.parametrize(
    "entry", ["square/stage.json", "square/000001.json", "square/summary.json", "text/000000.json"]
)
def test_entries_that_are_not_of_a_ledger(
    fake: Any, finished: tuple[Path, dict[str, bytes]], entry: str, text: str, capsys: pytest.CaptureFixture
) -> None:
    path, good = finished
    (fake.run / "ledger" / entry).write_text(text)
    capsys.readouterr()
    assert run(path).exit_code == 0
    assert f"damaged, and computed anew: ledger/{entry} is not what was written" in capsys.readouterr().err
    assert results(fake.run) == good


@pytest.mark.parametrize(
    "changed",
    [
        {"size": "ten"}, {"block": 0}, {"chunks": 3}, {"files": ["x"]}, {"files": {"a": 3}}, {"ingredients": None},
        {"more": 1}, {"files": {"square.zarr/zarr.json": ["x", 1]}},
    ],
)  # fmt: skip
def test_a_stage_entry_with_values_of_the_wrong_kind(
    fake: Any, finished: tuple[Path, dict[str, bytes]], changed: dict[str, Any]
) -> None:
    path, good = finished
    entry = fake.run / "ledger" / "square" / "stage.json"
    entry.write_text(json.dumps(json.loads(entry.read_text()) | changed))
    assert run(path).exit_code == 0
    assert results(fake.run) == good
    assert verify(fake.run).problems == ()


def test_plan_says_what_is_damaged_and_changes_nothing(fake: Any, finished: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = finished
    truncate(fake.run / "square.zarr" / "square" / "c" / "1")
    before = {p: p.read_bytes() for p in fake.run.rglob("*") if p.is_file()}
    stages = {stage.name: stage for stage in plan_of(path)}
    assert re.fullmatch(r"damaged: square.zarr/square/c/1 has \d+ bytes of \d+", stages["square"].why)
    assert (stages["square"].units, stages["square"].done) == (4, 3)
    assert {p: p.read_bytes() for p in fake.run.rglob("*") if p.is_file()} == before


def test_damage_that_planning_meets(
    fake: Any, monkeypatch: pytest.MonkeyPatch, finished: tuple[Path, dict[str, bytes]], capsys: pytest.CaptureFixture
) -> None:
    path, good = finished

    def reading(self: Any, context: Any) -> xr.Dataset:
        return xr.Dataset({"mean": context.sources["from"]["square"].isel(sample=4).load() * 0})

    monkeypatch.setattr(fake.stages["fake.mean"], "skeleton", reading)
    flip_middle(fake.run / "square.zarr" / "square" / "c" / "1")
    Ledger(fake.run, "mean").clear()
    why = {stage.name: stage.why for stage in plan_of(path)}
    assert why["square"] == "damaged: square.zarr/square/c/1 is not what was written"
    capsys.readouterr()
    assert run(path).exit_code == 0
    assert capsys.readouterr().err.count("damaged, and computed anew: square.zarr/square/c/1") == 1
    assert results(fake.run) == good


def plan_of(path: Path) -> Any:
    from geoxai.config import load

    return plan(load(path)).stages


def test_verify_names_strangers_and_what_is_not_complete(fake: Any, finished: tuple[Path, dict[str, bytes]]) -> None:
    assert verify(fake.run).render().endswith("all as written")
    shutil.copy(fake.run / "square.zarr" / "square" / "c" / "0", fake.run / "square.zarr" / "square" / "c" / "9")
    (problem,) = verify(fake.run).problems
    assert problem == "square.zarr/square/c/9 was not written by this run (square)"
    assert "geoxai run CONFIG --force square" in verify(fake.run).render()
    (Ledger(fake.run, "square").folder / "000002.json").unlink()
    assert verify(fake.run).problems == ()
    assert verify(fake.run).unfinished == ("square",)


def test_verify_of_something_else(tmp_path: Path) -> None:
    for place, why in [(tmp_path, "is not the folder of a geoxai run"), (tmp_path / "gone", "is not a folder")]:
        with pytest.raises(InputError, match=why):
            verify(place)


def test_chunks_without_values_are_not_listed_nor_missed(fake: Any) -> None:
    path = fake("empty: true")
    assert run(path).exit_code == 0
    fake.computed.clear()
    assert run(path).exit_code == 0
    assert fake.computed == []
    assert verify(fake.run).problems == ()


def test_every_chunk_has_a_checksum_that_readers_compare(fake: Any, finished: tuple[Path, dict[str, bytes]]) -> None:
    for array in fake.run.rglob("zarr.json"):
        found = json.loads(array.read_text())
        assert found["node_type"] == "group" or found["codecs"][-1]["name"] == "crc32c", array
    flip_middle(fake.run / "square.zarr" / "square" / "c" / "1")
    with pytest.raises(ValueError, match="checksum"):
        xr.open_zarr(fake.run / "square.zarr")["square"].load()


@pytest.mark.parametrize("wanted", [True, False])
def test_files_are_on_the_disk_before_their_entry(fake: Any, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    events: list[Any] = []
    fsync, finish = os.fsync, Ledger.finish

    def noted(descriptor: int) -> None:
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def entered(self: Ledger, unit: int, fingerprint: str, files: Any, **notes: Any) -> None:
        events.append((self.folder.name, unit, files))
        finish(self, unit, fingerprint, files, **notes)

    monkeypatch.setattr(recorded.os, "fsync", noted)
    monkeypatch.setattr(Ledger, "finish", entered)
    text = fake().read_text().replace("executor: serial", f"executor: serial, fsync: {str(wanted).lower()}")
    fake().write_text(text)
    assert run(fake.run.parent / "fake.yaml").exit_code == 0
    synced: set[str] = set()
    for event in events:
        if isinstance(event, str):
            synced.add(event)
        else:
            assert event[2]
            for file in event[2]:
                path = fake.run / file
                assert ({str(path), str(path.parent)} <= synced) is wanted, event
