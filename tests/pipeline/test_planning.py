"""The plan says what would be done, and why."""

from typing import Any

from geoxai.config import load
from geoxai.pipeline import plan, run


def by_name(path: Any) -> dict[str, Any]:
    return {stage.name: stage for stage in plan(load(path)).stages}


def test_before_the_first_run(fake: Any) -> None:
    stages = by_name(fake())
    assert stages["numbers"].why == "to be fitted once"
    assert stages["square"].why == "not computed yet"
    assert stages["square"].shape == "sample=10"
    assert stages["square"].size == 80
    assert fake.computed == []
    assert not fake.run.exists()


def test_after_a_run_and_after_a_change(fake: Any) -> None:
    run(fake())
    stages = by_name(fake())
    assert (stages["square"].units, stages["square"].done, stages["square"].why) == (4, 4, "done")
    assert stages["numbers"].why == "fit is stored"
    stages = by_name(fake("factor: 2.0"))
    assert stages["square"].why == "options.factor: 1.0 -> 2.0"
    assert (stages["square"].units, stages["square"].done) == (4, 0)
    assert stages["mean"].why == "stages above.from changed"


def test_after_a_failure(fake: Any) -> None:
    run(fake("fail: [1]"))
    square = by_name(fake("fail: [1]"))["square"]
    assert (square.units, square.done) == (4, 3)
    assert square.why == "1 failed: unit 1 does not like its numbers"


def test_the_table_is_plain_text(fake: Any) -> None:
    text = plan(load(fake())).render()
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["stage", "numbers", "square", "mean", "text"]
    assert "80 B" in text
