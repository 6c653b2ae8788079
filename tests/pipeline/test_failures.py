"""Errors of every kind end in words: no traceback unless asked for, which is always in run.log."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from geoxai.config import load
from geoxai.errors import InputError
from geoxai.pipeline import plan, run


@pytest.mark.parametrize(
    ("stage", "method"),
    [
        ("fake.numbers", "fit"),
        ("fake.square", "skeleton"),
        ("fake.square", "compute"),
        ("fake.square", "summarise"),
        ("fake.mean", "partial"),
        ("fake.mean", "merge"),
        ("fake.text", "write"),
    ],
)
def test_an_unexpected_error(
    fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, stage: str, method: str
) -> None:
    def broken(*args: Any) -> None:
        raise ValueError("operands could not be broadcast")

    path = fake()
    with monkeypatch.context() as patch:
        patch.setattr(fake.stages[stage], method, broken)
        result = run(path)
    name = stage.removeprefix("fake.")
    assert result.exit_code == 1
    assert f"stage {name!r}: ValueError: operands could not be broadcast" in result.message
    assert "Traceback" not in result.message
    assert "Traceback" not in capsys.readouterr().err
    assert "in broken" in (fake.run / "run.log").read_text()
    assert json.loads((fake.run / "run.json").read_text())["exit_code"] == 1
    assert run(path).exit_code == 0


@pytest.mark.parametrize("method", ["skeleton", "compute"])
def test_debug_shows_the_traceback(
    fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, method: str
) -> None:
    path = fake()
    monkeypatch.setattr(fake.stages["fake.square"], method, lambda *args: 1 / 0)
    run(path, debug=True)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "1 / 0" in told


def test_out_of_memory_is_reported_with_what_to_lower(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*args: Any) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    path = fake()
    monkeypatch.setattr(fake.stages["fake.square"], "compute", too_large)
    message = run(path).message
    assert message.count("out of memory: Unable to allocate 9 TiB") == 1
    assert "lower the stage's chunk or batch_size, or compute.workers" in message


def test_an_input_error_keeps_its_code_and_fix(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*args: Any) -> None:
        raise InputError("a.nc is truncated", fix="fetch it again")

    path = fake()
    monkeypatch.setattr(fake.stages["fake.square"], "compute", unreadable)
    result = run(path)
    assert result.exit_code == 3
    assert "fetch it again" in result.message


def test_many_failures_fill_the_log_and_not_the_console(fake: Any, capsys: pytest.CaptureFixture) -> None:
    assert run(fake("chunk: 1, fail: [0, 1, 2, 3, 4, 5, 6]")).exit_code == 4
    assert capsys.readouterr().err.count("does not like its numbers") == 3
    assert "unit 6 does not like its numbers" in (fake.run / "run.log").read_text()


def test_a_warning_of_many_units_is_said_once(
    fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    square = fake.stages["fake.square"]
    real = square.compute

    def warning(*args: Any) -> Any:
        logging.getLogger("geoxai.fake").warning("mind the gap")
        return real(*args)

    path = fake()
    monkeypatch.setattr(square, "compute", warning)
    assert run(path).exit_code == 0
    assert capsys.readouterr().err.count("mind the gap") == 1
    assert json.loads((fake.run / "run.json").read_text())["warnings"] == ["mind the gap"]


def test_the_command_to_go_on_is_whole(fake: Any) -> None:
    config = load(fake(), ["stages.square.fail=[1]"])
    message = run(config, only=["square"]).message
    assert message.endswith(f"geoxai run {config.path} --set 'stages.square.fail=[1]' --only square")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_output_dir_that_became_a_file(fake: Any, tmp_path: Path, place: str) -> None:
    config = load(fake(), [f"output.dir={tmp_path / place}"])
    (tmp_path / "file").touch()
    result = run(config)
    assert result.exit_code == 1
    assert result.message.startswith(f"output.dir {tmp_path / place} ")


def test_output_dir_with_spaces_and_umlauts(fake: Any, tmp_path: Path) -> None:
    config = load(fake(), [f"output.dir={tmp_path}/schöne Läufe ☀"])
    assert run(config).exit_code == 0
    assert (tmp_path / "schöne Läufe ☀" / "mean.txt").exists()


def test_a_device_that_is_not_there(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    result = run(load(fake(), ["compute.device=cuda:1"]))
    assert result.exit_code == 2
    assert "compute.device is cuda:1, but torch finds 1 cuda device on this machine" in result.message


def test_plan_names_the_layout_that_run_refuses(fake: Any) -> None:
    run(fake())
    why = {stage.name: stage.why for stage in plan(load(fake("chunk: 4"))).stages}
    assert why["square"].startswith("refused: stored in 4 units of 3 ")
    assert why["mean"] == "done"
