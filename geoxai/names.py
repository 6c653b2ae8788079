"""Did-you-mean: the known names closest to an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when nothing is close."""
    known = list(known)
    folded = {k.lower(): k for k in known}
    matches = get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A sentence for an unknown name, with the closest known name and the list of all."""
    known = sorted(known)
    best = closest(name, known)
    hint = f"did you mean {best!r}? " if best else ""
    return f"unknown {what} {name!r}; {hint}there are: {', '.join(known)}"
