"""Input files as options name them: a path, a glob, or a list of either."""

import glob
from collections.abc import Iterable
from pathlib import Path


def expand(value: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files and folders that a path, a glob or a list of them names, each once, sorted within a glob.

    A path without wildcards is returned whether it exists or not; a glob that matches nothing gives nothing.
    """
    names = [value] if isinstance(value, str | Path) else value
    found: dict[Path, None] = {}
    for name in names:
        text = str(name)
        matches = (
            sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) and not Path(text).exists() else [text]
        )
        found.update(dict.fromkeys(Path(match) for match in matches))
    return list(found)
