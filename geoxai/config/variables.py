"""``vars`` and ``${vars.x}``: the only reuse in a config, resolved before validation with positions kept."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from geoxai.config.diagnostic import Diagnostic, Place, suggestion
from geoxai.config.document import MAX_DEPTH, Document, Path_

MAX_TEXT, MAX_ITEMS, MAX_CHAIN = 100_000, 100_000, 40  # of one value after substitution; doubling exceeds any limit

_PATTERN = re.compile(r"(?P<escape>\$\$\{)|\$\{(?P<name>[^{}]*)\}|(?P<open>\$\{)")


def substitute(document: Document) -> None:
    """Replaces every ``${vars.x}`` in the data of a document; what cannot be is added to its findings.

    Text that is one variable and nothing else becomes the variable's value, of any type; inside longer text a variable
    must be a single value and appears as it was written. ``$${`` is a plain ``${``.
    """
    work = _Substitution(document)
    document.data = {key: work.value((key,), value) for key, value in document.data.items()}


class _Variable(NamedTuple):
    value: Any
    text: str | None


class _Substitution:
    def __init__(self, document: Document):
        self.document = document
        self.done: dict[Path_, Any] = {}
        self.under_way: list[Path_] = []
        self.sizes: dict[int, tuple[Any, int, int]] = {}  # by id, with the value itself, which keeps the id its own

    def value(self, path: Path_, value: Any) -> Any:
        """The value at a path with its variables replaced."""
        if isinstance(value, dict):
            return {key: self.value((*path, key), item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value((*path, str(i)), item) for i, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if path not in self.done:
            self.under_way.append(path)
            self.done[path] = self.text(path, value)
            self.under_way.pop()
        return self.done[path]

    def text(self, path: Path_, text: str) -> Any:
        whole = _PATTERN.fullmatch(text)
        if whole and whole["name"] is not None:
            found = self.variable(path, whole)
            if found is None:
                return text
            items, depth = self.size(found.value)
            if items > MAX_ITEMS or depth > MAX_DEPTH:
                much = f"{items} items" if items > MAX_ITEMS else f"lists {depth} deep"
                self.complain(path, whole, f"{whole[0]} becomes {much}, which is too much", "simplify it")
                return text
            return found.value
        pieces, length, end = [], 0, 0
        for match in _PATTERN.finditer(text):
            pieces += [text[end : match.start()], self.piece(path, match)]
            length, end = length + len(pieces[-1]), match.end()
            if length > MAX_TEXT:
                message = f"this text becomes longer than {MAX_TEXT} characters with its variables filled in"
                self.complain(path, match, message, "a variable that uses another twice doubles it; simplify them")
                return text
        return "".join([*pieces, text[end:]])

    def size(self, value: Any) -> tuple[int, int]:
        """The number of items in a value, repeated ones counted each time, and how deeply they are nested."""
        if not isinstance(value, dict | list):
            return 1, 0
        if id(value) not in self.sizes:
            inner = [self.size(item) for item in (value.values() if isinstance(value, dict) else value)]
            items, depth = sum(count for count, _ in inner) + 1, max((deep for _, deep in inner), default=0) + 1
            self.sizes[id(value)] = (value, items, depth)
        return self.sizes[id(value)][1:]

    def piece(self, path: Path_, match: re.Match) -> str:
        """The text that replaces one match inside a longer text: a number as it was written."""
        if match["escape"]:
            return "${"
        found = self.variable(path, match)
        if found is None:
            return match[0]
        if isinstance(found.value, dict | list):
            kind = "a mapping" if isinstance(found.value, dict) else "a list"
            self.complain(path, match, f"{match[0]} is {kind} and cannot be part of a text", "use it alone")
        if isinstance(found.value, str):
            return found.value
        return found.text if found.text is not None and "$" not in found.text else json.dumps(found.value)

    def at(self, path: Path_) -> Any:
        """The value as given at a path."""
        here = self.document.data
        for key in path:
            here = here[int(key)] if isinstance(here, list) else here[key]
        return here

    def variable(self, path: Path_, match: re.Match) -> _Variable | None:
        """The variable that a match names, or None after a complaint."""
        name = (match["name"] or "").strip()
        found, rest = self.document.find(name)
        problem: tuple[str, str] | None = None
        if match["open"]:
            problem = "'${' is never closed", "write ${vars.name}, or $${ for a plain ${"
        elif not name.startswith("vars."):
            problem = f"unknown variable {match[0]}", "only ${vars.name} is replaced; $${ is a plain ${"
        elif rest:
            known = [".".join(path[1:]) for path in self.document.spots if path[:1] == ("vars",) and len(path) == 2]
            problem = f"unknown variable {name!r}", suggestion(name.removeprefix("vars."), known)
        elif any(found == active[: len(found)] for active in self.under_way):
            problem = f"the variable {name!r} is defined by itself", "give it a plain value"
        elif len(self.under_way) > MAX_CHAIN:
            problem = f"more than {MAX_CHAIN} variables are defined by one another here", "give them plain values"
        if problem:
            self.complain(path, match, *problem)
            return None
        value = self.value(found, self.at(found))
        if found in self.document.unresolved:
            self.document.unresolved.add(path)
        return _Variable(value, self.document.spots[found].text)

    def complain(self, path: Path_, match: re.Match, message: str, fix: str) -> None:
        spot = self.document.spots.get(path)
        place = spot.value if spot else self.document.value_place(path)
        column = place.snippet.find(match[0], max(place.column - 1, 0)) + 1 if place.line else 0
        if column:
            place = Place(place.file, place.line, column, place.snippet)
        self.document.findings.append(Diagnostic(place, message, fix))
        self.document.unresolved.add(path)
