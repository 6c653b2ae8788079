"""Stages of other packages: found by their entry point, refused in words."""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import pytest

import geoxai.stages
from geoxai.errors import GeoxaiError
from geoxai.stages.load import LoadNetcdf
from geoxai.stages.region import CropRegion


class Mine(CropRegion):
    """A stage of another package."""

    use = "mine"


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Offers entry points ``name=value`` as an installed package would."""

    def offer(**points: str) -> None:
        found = [EntryPoint(name.replace("_", "."), value, "geoxai.stages") for name, value in points.items()]
        monkeypatch.setattr(geoxai.stages, "entry_points", lambda group: found)
        geoxai.stages.registry.cache_clear()

    yield offer
    geoxai.stages.registry.cache_clear()


def test_a_stage_of_another_package_is_found(offered: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    offered(mine=f"{__name__}:Mine")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Mine)
    assert geoxai.stages.registry()["mine"] is Mine
    assert geoxai.stages.registry()["load.netcdf"] is LoadNetcdf


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"mine": "nowhere:Mine"}, "the stage 'mine' .nowhere:Mine. cannot be loaded: ModuleNotFoundError"),
        ({"mine": "geoxai.errors:InputError"}, "it is no Stage class with that name"),
        ({"mine": "geoxai.stages.region:CropRegion"}, "it is no Stage class with that name"),
        ({"load_netcdf": "geoxai.stages.load:LoadNetcdf"}, "there is a stage 'load.netcdf' already"),
    ],
)
def test_a_broken_one_is_named(offered: Callable[..., None], points: dict[str, str], message: str) -> None:
    offered(**points)
    with pytest.raises(GeoxaiError, match=message):
        geoxai.stages.registry()
