"""Input files as given in options: a path, a glob, or a list of either."""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path


def expand(value: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files and folders that a path, a glob or a list of them names, each once, sorted within a glob.

    A path without wildcards is returned whether it exists or not; a glob that matches nothing gives nothing. Folders
    that exist under exactly the name written are taken literally, whatever characters it holds: ``br[1]ck/*.nc``.
    """
    names = [value] if isinstance(value, str | Path) else value
    found: dict[Path, None] = {}
    for name in names:
        text = str(name)
        literal, pattern = split_glob(text)
        matches = sorted(glob.glob(f"{glob.escape(literal)}{pattern}", recursive=True)) if pattern else [text]
        found.update(dict.fromkeys(Path(match) for match in matches))
    return list(found)


def split_glob(text: str) -> tuple[str, str]:
    """A path as its literal part and the pattern after it, empty if there is none.

    The literal part ends before the first name that has wildcards and does not exist as written.
    """
    if not glob.has_magic(text) or os.path.exists(text):
        return text, ""
    literal = ""
    for part in re.findall(r"[^/]*/+|[^/]+$", text.replace(os.sep, "/")):
        if glob.has_magic(part) and not os.path.exists(literal + part):
            break
        literal += part
    return literal, text[len(literal) :]
