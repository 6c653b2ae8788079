"""``--set a.b=c``: one value of a config replaced from the command line."""

from __future__ import annotations

from geoxai.config.diagnostic import Diagnostic, Place, suggestion
from geoxai.config.document import MAX_DEPTH, Document, parse

_LIST = "items count from 0; set the whole list to change its length"


def override(document: Document, assignment: str) -> Diagnostic | None:
    """Sets ``a.b=value`` in a document, the value read as YAML. What it cannot place is returned as a finding.

    A key that is absent is added, so that an option left at its default can be set; whether the option exists is for
    the validation to say. A stage or list item that is absent is an error.
    """
    place = Place(f"--set {assignment}")
    dotted, equals, text = assignment.partition("=")
    if not equals or not all(dotted.split(".")):
        return Diagnostic(place, "is not of the form key=value", "write for example --set stages.network.epochs=50")
    if dotted.count(".") > MAX_DEPTH:
        return Diagnostic(place, f"the key has {dotted.count('.') + 1} parts, more than {MAX_DEPTH}", "shorten it")
    value = parse(text, str(place), fixed=place)
    if value.findings:
        return Diagnostic(place, f"the value {text!r} is wrong: {value.findings[0].message}", value.findings[0].fix)
    path, rest = document.find(dotted)
    keys = path + rest
    here = document.data
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth])
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                return Diagnostic(place, f"{where} is a list of {len(here)} items and has no item {key!r}", _LIST)
        elif not isinstance(here, dict):
            return Diagnostic(place, f"{where} is a single value and has no key {key!r}", f"set {where} itself")
        elif key not in here and where == "stages" and len(keys) > 2:
            return Diagnostic(place, f"there is no stage {key!r}", suggestion(key, here))
        if depth < len(keys) - 1:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
    here[int(keys[-1]) if isinstance(here, list) else keys[-1]] = value.data
    for path in [path for path in document.spots if path[: len(keys)] == keys]:
        del document.spots[path]
    document.spots.update({keys + path: spot for path, spot in value.spots.items()})
    return None
