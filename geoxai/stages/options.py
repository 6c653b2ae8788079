"""Kinds of options that several stages have."""

from typing import Annotated, Literal

from pydantic import AfterValidator


def _some_samples(chunk: int | str) -> int | str:
    if isinstance(chunk, int) and chunk < 1:
        raise ValueError("a chunk has at least one sample")
    return chunk


def _south_first(edges: tuple[float, float]) -> tuple[float, float]:
    if edges[0] > edges[1]:
        raise ValueError("give south first, then north")
    return edges


Chunk = Annotated[int | Literal["auto"], AfterValidator(_some_samples)]
"""Samples in one unit of work and one chunk of a store, or ``auto``."""

Latitudes = Annotated[tuple[float, float], AfterValidator(_south_first)]
"""South and north edge of a box, in degrees."""
