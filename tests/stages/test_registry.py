"""Stages of other packages: found by their entry point, refused with a reason."""

import re
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

import geoxai.stages
from geoxai.cli import app
from geoxai.errors import InputError
from geoxai.stages.load import LoadNetcdf
from geoxai.stages.region import CropRegion
from geoxai.stages.stage import Stage


class Mine(CropRegion):
    """A stage of another package."""

    use = "mine"


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Offers entry points ``name=value`` as an installed package would."""

    def offer(**points: str) -> None:
        found = [EntryPoint(name.replace("_", "."), value, "geoxai.stages") for name, value in points.items()]
        monkeypatch.setattr(geoxai.stages, "entry_points", lambda group: found)
        geoxai.stages.discovered.cache_clear()

    yield offer
    geoxai.stages.discovered.cache_clear()


def test_a_stage_of_another_package_is_found(offered: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    offered(mine=f"{__name__}:Mine")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Mine)
    assert geoxai.stages.registry()["mine"] is Mine
    assert geoxai.stages.registry()["load.netcdf"] is LoadNetcdf


class Unnamed(Stage):
    """A stage without `use`."""

    gives = "grid"


class Odd(CropRegion):
    """A stage that gives what no other takes."""

    use = "odd"
    gives = "soup"


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        ("mine", "nowhere:Mine", "the stage 'mine' .nowhere:Mine. is left out: ModuleNotFoundError"),
        ("mine", InputError, "it is not a Stage class"),
        ("mine", CropRegion, "it has 'region' as its `use`, but its entry point is called 'mine'"),
        ("mine", Unnamed, "it has no `use`"),
        ("odd", Odd, "it gives 'soup', which is not a kind\n  fix: the kinds are: grid, labels"),
        ("load_netcdf", LoadNetcdf, "there is a stage 'load.netcdf' already"),
    ],
)
def test_a_broken_one_is_named_and_left_out(
    offered: Callable[..., None], monkeypatch: pytest.MonkeyPatch, name: str, stage: object, message: str
) -> None:
    before = dict(geoxai.stages.registry())
    offered(**{name: stage if isinstance(stage, str) else "my.stages:It"})
    if not isinstance(stage, str):
        monkeypatch.setattr(EntryPoint, "load", lambda self: stage)
    assert geoxai.stages.registry() == before
    (error,) = geoxai.stages.refused()
    assert re.search(message, str(error))


def test_a_broken_one_stops_no_command(offered: Callable[..., None]) -> None:
    offered(mine="nowhere:Mine")
    for arguments in (["stages"], ["stages", "load.netcdf"], ["schema"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0
        assert "warning: the stage 'mine' (nowhere:Mine) is left out: ModuleNotFoundError" in done.stderr
