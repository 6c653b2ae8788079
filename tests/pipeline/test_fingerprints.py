"""What makes the numbers of a stage counts in its fingerprint, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from geoxai.config import load
from geoxai.errors import InputError
from geoxai.pipeline import fingerprints
from geoxai.pipeline.workspace import bind
from geoxai.revisions import LIBRARIES
from geoxai.stages.stage import InputPath, LazyStage, OutputStage, Reference

CONFIG = """version: 1
output: {dir: DIR}
vars: {unused: 1}
compute: {executor: serial, workers: 1}
stages:
  data: {use: file, path: PATH}
  both: {use: two, a: data, b: data}
  shown: {use: show, from: both}
"""


class File(LazyStage):
    use: ClassVar[str] = "file"
    gives: ClassVar[str] = "grid"
    path: Annotated[str, InputPath()]
    chunk: int = 1
    scale: float = 1.0


class Two(LazyStage):
    use: ClassVar[str] = "two"
    gives: ClassVar[str] = "grid"
    a: Annotated[str, Reference("grid")]
    b: Annotated[str, Reference("grid")]


class Show(OutputStage):
    use: ClassVar[str] = "show"
    from_: Annotated[str, Reference("grid")] = Field(alias="from")
    title: str = ""


@pytest.fixture
def prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Fingerprints of the stages, then the hash of the config, with texts of the config replaced."""
    monkeypatch.setattr("geoxai.config.loading.registry", lambda: {s.use: s for s in (File, Two, Show)})
    (tmp_path / "a.nc").write_text("data")

    def made(*replaced: tuple[str, str]) -> list[str]:
        text = CONFIG.replace("DIR", str(tmp_path / "run")).replace("PATH", str(tmp_path / "a.nc"))
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "c.yaml"
        path.write_text(text)
        workspace = bind(load(path))
        return [*map(workspace.fingerprint, workspace.config.stages), workspace.science_hash()]

    return made


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("workers: 1", "workers: 5"),
        ("executor: serial", "executor: local"),
        ("workers: 1", "threads_per_worker: 2"),
        ("/run}", "/elsewhere}"),
        ("unused: 1", "unused: 2"),
        ("use: file,", "use: file, chunk: 7,"),
    ],
)
def test_what_changes_no_number(prints: Callable[..., list[str]], old: str, new: str) -> None:
    assert prints((old, new)) == prints()


def test_an_option_an_input_and_the_seed_count_downstream(prints: Callable[..., list[str]], tmp_path: Path) -> None:
    before = prints()
    for change in [("use: file,", "use: file, scale: 2.0,"), ("workers: 1", "seed: 1"), ("workers: 1", "device: cuda")]:
        assert not set(prints(change)) & set(before), change
    (tmp_path / "a.nc").write_text("other")
    assert not set(prints()) & set(before)


def test_a_new_version_counts(prints: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    before = prints()
    monkeypatch.setattr(fingerprints, "versions", lambda: {"torch": "99"})
    assert not set(prints()) & set(before)


def test_a_revision_counts_downstream(prints: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    before = prints()
    monkeypatch.setattr(File, "revision", 2)
    assert not set(prints()) & set(before)


def test_the_revision_of_a_library_counts_where_it_is_used(
    prints: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Two, "libraries", ("statistics",))
    data, *below = prints()
    monkeypatch.setitem(LIBRARIES, "statistics", LIBRARIES["statistics"] + 1)
    same, *moved = prints()
    assert same == data
    assert not set(moved) & set(below)


def test_the_place_of_an_input_does_not_count(prints: Callable[..., list[str]], tmp_path: Path) -> None:
    before = prints()
    (tmp_path / "b.nc").write_text("data")
    assert prints(("a.nc", "b.nc")) == before


def test_names_count_only_where_people_read_them(prints: Callable[..., list[str]]) -> None:
    *lazy, shown, whole = prints()
    *renamed_lazy, renamed_shown, renamed_whole = prints(
        ("both", "zz"), ("a: data, b: data", "a: aa, b: aa"), ("  data", "  aa")
    )
    assert (renamed_lazy, renamed_whole) == (lazy, whole)
    assert renamed_shown != shown


def test_how_results_are_shown_does_not_count_as_science(prints: Callable[..., list[str]]) -> None:
    assert prints(("from: both", "from: both, title: x"))[-1] == prints()[-1]


def test_stages_that_share_what_is_above_them_cost_no_more(prints: Callable[..., list[str]]) -> None:
    chain = "".join(f"  s{i}: {{use: two, a: s{i - 1}, b: s{i - 1}}}\n" for i in range(1, 41))
    assert (
        len(
            prints(
                ("  both: {use: two, a: data, b: data}", f"  s0: {{use: two, a: data, b: data}}\n{chain}"),
                ("from: both", "from: s40"),
            )
        )
        == 44
    )


def test_an_input_that_is_gone_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.nc cannot be read: no such file"):
        fingerprints.digest_paths(str(tmp_path / "gone" / "a.nc"))
