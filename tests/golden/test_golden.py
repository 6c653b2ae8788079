"""Numbers do not change while revisions stay the same: users' results would be stale and nobody would know."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from geoxai.revisions import LIBRARIES
from geoxai.stages import registry
from tests.test_layers import PACKAGE, imported
from tools import golden
from tools.golden import Result


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return golden.computed(tmp_path_factory.mktemp("golden"))


def test_no_number_moved_without_a_revision(found: dict[str, Result]) -> None:
    wrong = golden.unrevised(golden.stored(), found)
    assert not wrong, "\n".join(["", *wrong.values()])


def test_what_is_stored_is_of_these_revisions(found: dict[str, Result]) -> None:
    late = golden.outdated(golden.stored(), found)
    assert not late, f"stored results of other revisions: {', '.join(late)}; run: python tools/golden.py"


def test_every_stage_that_makes_numbers_is_there() -> None:
    uses = {result.use for result in golden.stored().values()}
    makers = {
        use for use, stage in registry().items() if stage.gives != "files" and stage.__module__.startswith("geoxai.")
    }
    assert makers - uses == {"index.table"}  # a published table, read as it is


A = Result("load.netcdf", "geoxai/stages/load.py", [], {"stage": 1, "readers": 1}, {"a": 1}, {"v": [[2], 0, 1.0, 2.0]})
B = replace(A, use="anomaly", code="geoxai/stages/anomaly.py", above=["a"])


@pytest.mark.parametrize(
    ("change", "wrong", "late"),
    [
        (lambda a: a, [], []),
        (lambda a: replace(a, numbers={"v": [[2], 0, 1.0, 2.00002]}), [], []),
        (lambda a: replace(a, numbers={"v": [[2], 0, 1.0, 2.001]}), ["a"], []),
        (lambda a: replace(a, numbers={"v": [[3], 0, 1.0, 2.0]}), ["a"], []),
        (lambda a: replace(a, numbers={"w": [[2], 0, 1.0, 2.0]}), ["a"], []),
        (lambda a: replace(a, numbers={"v": [[2], 0, 1.0, 3.0]}, revisions={"stage": 2, "readers": 1}), [], ["a"]),
        (lambda a: replace(a, numbers={"v": [[2], 0, 1.0, 3.0]}, revisions={"stage": 1, "readers": 2}), [], ["a"]),
        (lambda a: replace(a, numbers={"v": [[2], 0, 1.0, 3.0]}, options={"a": 2}), [], ["a"]),
        (lambda a: replace(a, numbers={"v": [[2], 0, 1.0, 3.0]}, options={"a": 1, "new": 2}), ["a"], []),
        (lambda a: replace(a, options={"a": 1, "new": 2}), [], []),
        (lambda a: replace(a, revisions={"stage": 2, "readers": 1}), [], ["a"]),
    ],
)
def test_only_a_revision_or_an_option_lets_numbers_move(
    change: Callable[[Result], Result], wrong: list[str], late: list[str]
) -> None:
    old, new = {"a": A, "b": B}, {"a": change(A), "b": B}
    assert list(golden.unrevised(old, new)) == wrong
    assert golden.outdated(old, new) == late


def test_what_is_below_a_revised_stage_may_move() -> None:
    old = {"a": A, "b": B}
    new = {"a": replace(A, revisions={"stage": 2}), "b": replace(B, numbers={"v": [[2], 0, 1.0, 9.0]})}
    assert golden.unrevised(old, new) == {}
    assert golden.outdated(old, new) == ["a", "b"]


def test_the_message_says_which_revision_to_raise() -> None:
    message = golden.unrevised({"a": A}, {"a": replace(A, numbers={"v": [[2], 0, 1.0, 3.0]})})["a"]
    assert "v: [[2], 0, 1.0, 2.0] -> [[2], 0, 1.0, 3.0]" in message
    assert (
        "raise revision (now 1) of load.netcdf in geoxai/stages/load.py, or readers in geoxai/revisions.py" in message
    )


def test_stages_name_the_libraries_that_make_their_numbers() -> None:
    for use, stage in registry().items():
        if stage.__module__.startswith("geoxai."):
            assert set(stage.libraries) == _reached(stage.__module__) & set(LIBRARIES), use


def _reached(module: str) -> set[str]:
    """The parts of geoxai that a module imports, directly or not."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        path = PACKAGE.parent.joinpath(*(name := todo.pop()).split("."))
        file = next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)
        if name not in seen and file is not None and name != "geoxai.stages":
            seen.add(name)
            todo += [other for other in imported(Path(file)) if other.startswith("geoxai.")]
    return {name.split(".")[1] for name in seen if "." in name}
