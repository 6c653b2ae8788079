"""A config does not replace what another experiment has stored; editing, moving and renaming one's own is free."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geoxai.config import ConfigError, load
from geoxai.pipeline import plan, run


@pytest.fixture
def again(fake: Any, tmp_path: Path) -> Callable:
    """A finished run; then runs its folder again with the config changed and in another file, if wanted."""
    assert run(fake()).exit_code == 0

    def with_changes(*changes: tuple[str, str], file: str = "fake.yaml", **options: Any) -> Any:
        text = fake().read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
        return run(tmp_path / file, **options)

    return with_changes


OTHER_NAME, OTHER_SIZE = ("name: fake", "name: other"), ("size: 10", "size: 7")


def test_another_name_that_would_replace_results_is_refused_at_output_dir(
    again: Callable, fake: Any, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in fake.run.rglob("*") if p.is_file() and p.name != ".lock"}
    result = again(OTHER_NAME, OTHER_SIZE)
    assert result.exit_code == 2
    assert result.message.startswith(
        f"{tmp_path}/fake.yaml:3:15: output.dir {fake.run} holds another experiment, 'fake' of {tmp_path}/fake.yaml; "
        f"'other' of {tmp_path}/fake.yaml would replace its square, mean"
    )
    assert "let those results go with --force square;" in result.message
    assert {p: p.read_bytes() for p in fake.run.rglob("*") if p.is_file() and p.name != ".lock"} == before
    with pytest.raises(ConfigError, match="holds another experiment"):
        plan(load(tmp_path / "fake.yaml"))
    assert again(OTHER_NAME, OTHER_SIZE, force=["square"]).exit_code == 0
    assert again(OTHER_NAME, ("size: 10", "size: 8")).exit_code == 0  # the folder is its own now


def test_the_same_name_in_another_file_with_nothing_in_common_is_refused(again: Callable) -> None:
    assert again(OTHER_SIZE, file="elsewhere/fake.yaml").exit_code == 2
    assert again(OTHER_SIZE, ("fake.square", "fake.square, factor: 2.0"), file="fake.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        pytest.param([OTHER_SIZE], "fake.yaml", id="edited"),
        pytest.param([], "elsewhere/moved.yaml", id="moved"),
        pytest.param([OTHER_NAME], "elsewhere/moved.yaml", id="moved and renamed, all results kept"),
        pytest.param([("  mean: {", "  average: {")], "fake.yaml", id="a stage renamed"),
        pytest.param([("  mean: {use: fake.mean}\n  text: {use: fake.text}\n", "")], "fake.yaml", id="stages removed"),
        pytest.param([("name: fake\n", "")], "fake.yaml", id="the same name by default"),
        pytest.param([("use: fake.text", "use: fake.text, from: mean")], "elsewhere/x.yaml", id="the name is kept"),
    ],
)
def test_ones_own_config_goes_on_without_a_message(again: Callable, changes: list[tuple[str, str]], file: str) -> None:
    assert again(*changes, file=file).exit_code == 0


def test_another_name_that_replaces_nothing_is_fine(again: Callable, fake: Any) -> None:
    renamed = [("  square: {", "  other_square: {"), ("  mean: {", "  other_mean: {")]
    assert again(OTHER_NAME, OTHER_SIZE, *renamed).exit_code == 0
    assert (fake.run / "square.zarr").is_dir()
