"""Kinds of options that several stages have."""

from typing import Annotated, Literal

from pydantic import AfterValidator


def _some_samples(chunk: int | str) -> int | str:
    if isinstance(chunk, int) and chunk < 1:
        raise ValueError("a chunk needs at least one sample")
    return chunk


def _on_the_globe(lat: float) -> float:
    if not -90 <= lat <= 90:
        raise ValueError(f"latitude {lat:g} is beyond a pole; give degrees from -90 to 90")
    return lat


def _within_a_turn(lon: float) -> float:
    if not -360 <= lon <= 540:
        raise ValueError(f"longitude {lon:g} is more than a turn away; give degrees east, -180 to 180 or 0 to 360")
    return lon


def _south_first(edges: tuple[float, float]) -> tuple[float, float]:
    if edges[0] > edges[1]:
        raise ValueError("give south first, then north")
    return edges


Chunk = Annotated[int | Literal["auto"], AfterValidator(_some_samples)]
"""Samples in one unit of work and one chunk of a store, or ``auto``."""

Latitude = Annotated[float, AfterValidator(_on_the_globe)]
"""Degrees north."""

Longitude = Annotated[float, AfterValidator(_within_a_turn)]
"""Degrees east, in either convention."""


def _each_once(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        if names is not None and names.count(name) > 1:
            raise ValueError(f"{name!r} is named {names.count(name)} times")
    return names


Distinct = Annotated[list[str] | None, AfterValidator(_each_once)]
"""Names, each once; or None."""

Latitudes = Annotated[tuple[Latitude, Latitude], AfterValidator(_south_first)]
"""South and north edge of a box, in degrees."""

Longitudes = tuple[Longitude, Longitude]
"""West and east edge of a box, in degrees, going eastwards."""
