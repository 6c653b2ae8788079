"""Serial, one worker, two workers: the same bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import geoxai, stored


@pytest.mark.slow
def test_executors_agree_bit_for_bit(small: Callable[..., Path], tmp_path: Path) -> None:
    runs = {"serial": ("serial", 1), "one": ("local", 1), "two": ("local", 2)}
    for name, (executor, workers) in runs.items():
        done = geoxai("run", small(name, executor=executor, workers=workers))
        assert done.returncode == 0, done.stderr
    expected = stored(tmp_path / "serial")
    assert len(expected) > 50
    assert stored(tmp_path / "one") == expected
    assert stored(tmp_path / "two") == expected
