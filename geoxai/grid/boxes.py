"""Named boxes of the globe: a table without numpy and xarray, so that ``check`` knows the names."""

from __future__ import annotations

from dataclasses import dataclass

from geoxai.errors import OptionError
from geoxai.names import unknown


@dataclass(frozen=True)
class Region:
    """A box in degrees: south to north, and from west eastwards to east (either convention, across any seam)."""

    lat: tuple[float, float]
    lon: tuple[float, float]
    title: str = ""
    source: str = ""


_CPC = "NOAA Climate Prediction Center, SST index regions"
_SAJI = "Saji et al. 1999, Nature 401, 360"
_CONVENTION = "convention of geoxai"

REGIONS: dict[str, Region] = {
    "nino12": Region((-10, 0), (-90, -80), "Niño 1+2", _CPC),
    "nino3": Region((-5, 5), (-150, -90), "Niño 3", _CPC),
    "nino34": Region((-5, 5), (-170, -120), "Niño 3.4", _CPC),
    "nino4": Region((-5, 5), (160, -150), "Niño 4", _CPC),
    "tropical_pacific": Region((-20, 20), (120, -80), "tropical Pacific", _CONVENTION),
    "north_pacific": Region((20, 65), (120, -100), "North Pacific", _CONVENTION),
    "tropics": Region((-20, 20), (-180, 180), "tropics", _CONVENTION),
    "northern_extratropics": Region((20, 90), (-180, 180), "northern extratropics", _CONVENTION),
    "southern_extratropics": Region((-90, -20), (-180, 180), "southern extratropics", _CONVENTION),
    "arctic": Region((66.5, 90), (-180, 180), "Arctic", "polar circle"),
    "north_atlantic": Region((0, 60), (-80, 0), "North Atlantic", "AMO index of Trenberth and Shea 2006, GRL 33"),
    "tropical_atlantic": Region((-20, 20), (-60, 15), "tropical Atlantic", _CONVENTION),
    "iod_west": Region((-10, 10), (50, 70), "Indian Ocean dipole, western box", _SAJI),
    "iod_east": Region((-10, 0), (90, 110), "Indian Ocean dipole, eastern box", _SAJI),
    "tropical_indian": Region((-20, 20), (40, 100), "tropical Indian Ocean", _CONVENTION),
    "north_america": Region((15, 72), (-170, -50), "North America", _CONVENTION),
    "europe": Region((35, 72), (-25, 45), "Europe", _CONVENTION),
    "global": Region((-90, 90), (-180, 180), "globe", ""),
}


def known_region(name: str) -> str:
    """The name as in ``REGIONS``; other spellings such as ``Nino 3.4`` or ``nino3.4`` are accepted."""
    plain = name.lower().replace("ñ", "n").replace("+", "").replace(".", "").replace("-", "_")
    for key in (plain.replace(" ", "_"), plain.replace(" ", "").replace("_", "")):
        if key in REGIONS:
            return key
    raise ValueError(unknown("region", name, REGIONS))


def region(name: str) -> Region:
    """The region with a name, spelled as ``known_region`` allows."""
    try:
        return REGIONS[known_region(name)]
    except ValueError as error:
        raise OptionError(str(error), option="region") from None
