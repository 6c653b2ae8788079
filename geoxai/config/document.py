"""YAML text to plain data, with the position of every key and value.

The dialect is JSON that looks like YAML. Everything but ``null``, ``true``, ``false`` and decimal numbers is text:
``1e-3`` is a number; ``010``, ``12:30:00``, ``on``, ``no`` and dates are text. Duplicate keys, anchors, tags and second
documents are errors. Keys are always text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from geoxai.config.diagnostic import Diagnostic, Place
from geoxai.names import closest

_TAG = "tag:yaml.org,2002:"
_INTEGER = r"[-+]?(?:0|[1-9][0-9]*)"
_RESOLVERS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _INTEGER, list("-+0123456789")),
    (
        "float",
        rf"{_INTEGER}\.[0-9]*(?:[eE][-+]?[0-9]+)?|{_INTEGER}[eE][-+]?[0-9]+|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)

MAX_DEPTH = 40  # of lists and mappings in each other; PyYAML, pydantic and JSON recurse

_CLOSING = {"[": "]", "{": "}"}

Path_ = tuple[str, ...]


@dataclass(frozen=True)
class Spot:
    """Where a key and its value are; ``text`` is a scalar as written, ``quoted`` whether it was in quotes."""

    key: Place
    value: Place
    text: str | None = None
    quoted: bool = False


@dataclass
class Document:
    """Data, the spot of every path in it, and what the text itself got wrong.

    ``unresolved`` are the paths whose variables could not be replaced: nothing more can be said about their values.
    """

    file: str
    text: str
    data: Any = None
    spots: dict[Path_, Spot] = field(default_factory=dict)
    findings: list[Diagnostic] = field(default_factory=list)
    unresolved: set[Path_] = field(default_factory=set)

    def value_place(self, path: Path_) -> Place:
        """Where a value is: its key where it starts a block below the key, the nearest ancestor's where absent."""
        spot = self.spots.get(path)
        if spot is None:
            return self.key_place(path[:-1])
        return spot.value if spot.value.line == spot.key.line else spot.key

    def key_place(self, path: Path_) -> Place:
        """Where a key is, or that of its nearest ancestor where it is absent."""
        while path and path not in self.spots:
            path = path[:-1]
        return self.spots[path].key if path else Place(self.file, 1, 1, (self.text.splitlines() or [""])[0])

    def find(self, dotted: str) -> tuple[Path_, Path_]:
        """The path of dotted text as far as it exists, and the keys that do not; keys may contain dots themselves."""
        path: Path_ = ()
        rest = tuple(dotted.split("."))
        while rest:
            known = (n for n in range(1, len(rest) + 1) if (*path, ".".join(rest[:n])) in self.spots)
            count = next(known, None)
            if count is None:
                break
            path, rest = (*path, ".".join(rest[:count])), rest[count:]
        return path, rest


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  none of YAML 1.1's
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "depth", event.start_mark)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.composer.ComposerError(None, None, "anchor", event.start_mark)
        if event.tag not in (None, "!"):
            raise yaml.composer.ComposerError(None, None, "tag", event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    """Quotes text that this dialect or YAML 1.1 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def dump(data: Any) -> str:
    """YAML text that ``parse`` reads back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read(path: Path | str) -> Document:
    """The document in a file; a file that is missing or not text is a finding, not an exception."""
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = closest(file.name, (p.name for p in file.parent.glob("*.y*ml"))) if file.parent.is_dir() else None
        fix = f"did you mean {str(file.parent / near)!r}?" if near else "geoxai init writes a config to start from"
        return Document(str(path), "", findings=[Diagnostic(Place(str(path)), "there is no such config file", fix)])
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        place = Place(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        return Document(str(path), "", findings=[Diagnostic(place, "is not UTF-8 text", "save the file as UTF-8")])
    except OSError as error:
        message = f"the config cannot be read: {error.strerror}"
        return Document(str(path), "", findings=[Diagnostic(Place(str(path)), message)])
    return parse(text, str(path))


def parse(text: str, file: str, fixed: Place | None = None) -> Document:
    """The document in a text; with ``fixed`` every key and value is at that place (a value from ``--set``)."""
    document = Document(file, text)
    lines = text.splitlines()

    def place(mark: yaml.Mark) -> Place:
        if fixed:
            return fixed
        line = min(mark.line, max(len(lines) - 1, 0))
        column = mark.column if line == mark.line else len(lines[line]) if lines else 0
        return Place(file, line + 1, column + 1, lines[line] if lines else "")

    loader = None
    try:
        loader = _Loader(text)
        node: Any = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = yaml.Mark(file, error.position, before.count("\n"), len(before) - before.rfind("\n") - 1, None, 0)
        message = f"the character {chr(int(error.character))!r} is not allowed in YAML"
        document.findings.append(Diagnostic(place(mark), message, "remove it"))
        return document
    except yaml.MarkedYAMLError as error:
        spot, message, fix = _explain(error, text)
        document.findings.append(Diagnostic(place(spot), message, fix))
        return document
    finally:
        if loader is not None:
            loader.dispose()
    if node is not None:
        _Reading(document, place).node(node, (), place(node.start_mark))
    return document


class _Reading:
    """One walk over the nodes of a document."""

    def __init__(self, document: Document, place: Any):
        self.document, self.place = document, place

    def node(self, node: yaml.Node, path: Path_, key: Place) -> None:
        self.document.data = self.value(node, path, key)

    def value(self, node: yaml.Node, path: Path_, key: Place) -> Any:
        here = self.place(node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            self.document.spots[path] = Spot(key, here, node.value, node.style is not None)
            self.plain(node)
            return self.scalar(node, here)
        self.document.spots[path] = Spot(key, here)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, str(i)), self.place(item.start_mark)) for i, item in enumerate(node.value)]
        return self.mapping(node, path)

    def mapping(self, node: yaml.Node, path: Path_) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            here = self.place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or (key_node.value == "" and key_node.style is None):
                message = "a key must be a single word or text"
                fix = 'put text that contains { or [ in quotes, such as "${vars.data}/*.nc"'
                self.document.findings.append(Diagnostic(here, message, fix))
            elif "\0" in key_node.value:
                self.plain(key_node)
            elif key_node.value in found:
                first = self.document.spots[(*path, key_node.value)].key
                message = f"duplicate key {key_node.value!r}, first given on line {first.line}"
                self.document.findings.append(Diagnostic(here, message, "remove or rename one of the two"))
            else:
                found[key_node.value] = self.value(value_node, (*path, key_node.value), here)
        return found

    def plain(self, node: yaml.ScalarNode) -> None:
        """Complain of a NUL, which no file name or text can contain."""
        if "\0" in node.value:
            self.document.findings.append(
                Diagnostic(self.place(node.start_mark), "this text contains the character NUL", "remove the \\0")
            )

    def scalar(self, node: yaml.ScalarNode, here: Place) -> Any:
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return node.value.lower() == "true"
            case "int" if len(node.value) < 400:
                return int(node.value)
            case "int" | "float":
                number = float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
                if math.isinf(number) and "inf" not in node.value.lower():
                    shown = node.value if len(node.value) < 40 else f"{node.value[:20]}..."
                    message = f"bad number {shown!r}: too large for a 64-bit float"
                    self.document.findings.append(Diagnostic(here, message, "write .inf for infinity"))
                return number
        return node.value


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[yaml.Mark, str, str | None]:
    """Where and what a syntax error is, in words."""
    problem, context = error.problem or "", error.context or ""
    at = error.problem_mark or error.context_mark
    assert at is not None
    opened = error.context_mark
    if problem == "anchor":
        return at, "anchors and aliases (& and *) are not used here", "put the value in vars and write ${vars.name}"
    if problem == "tag":
        return at, "tags (!) are not used here", "write the plain value"
    if problem == "depth":
        return at, f"lists and mappings are nested more than {MAX_DEPTH} deep here", "nest them less"
    if "expected a single document" in context or problem == "but found another document":
        return at, "a second YAML document starts here", "keep one experiment per file"
    if "flow" in context and opened is not None:
        return _explain_brackets(problem, opened, at, text)
    if "quoted scalar" in context and opened is not None:
        return opened, "this quote is never closed", "close the quote, or double a quote that belongs to the text"
    if "'\\t'" in problem or "found character '\t'" in problem:
        return at, "a tab cannot indent YAML", "use spaces"
    if "cannot start any token" in problem:
        return (
            at,
            f"{problem.removeprefix('found character ').split(' that')[0]} cannot start a value",
            "put it in quotes",
        )
    if "mapping values are not allowed" in problem:
        return (
            at,
            "a second ': ' on one line, or a key indented too far",
            "put text that contains ': ' in quotes, or align the keys",
        )
    if "but found ']'" in problem or "but found '}'" in problem:
        return at, "this bracket closes nothing", "remove it, or open it first"
    if "expected <block end>" in problem or "could not find expected ':'" in problem:
        if "expected ':'" in problem and opened is not None:
            at = opened
        return at, "this line does not fit the lines above it", "align it with its neighbours; a key ends with ': '"
    return at, f"not valid YAML: {problem}" + (f" {context}" if context else ""), None


def _explain_brackets(problem: str, opened: yaml.Mark, at: yaml.Mark, text: str) -> tuple[yaml.Mark, str, str | None]:
    """A list or mapping in brackets that went wrong: never closed (reported where it opens), or a comma missing."""
    unclosed = _unclosed(text)
    if unclosed is not None:
        opened = opened if text[opened.index : opened.index + 1] in ("[", "{") else unclosed
        bracket = text[opened.index]
        return opened, f"this '{bracket}' is never closed", f"close it with '{_CLOSING[bracket]}'"
    fix = 'text that contains { [ , or } must be in quotes, such as "${vars.data}/*.nc"'
    if "expected ','" not in problem:
        return at, "not valid YAML inside these brackets", fix
    return at, f"a ',' or '{_CLOSING[text[opened.index]]}' is missing before this", fix


def _unclosed(text: str) -> yaml.Mark | None:
    """The bracket, outside quotes and comments, that is never closed: the innermost one at the first mismatch."""
    opens: list[yaml.Mark] = []
    try:
        for token in yaml.scan(text, Loader=_Loader):
            mark = token.start_mark
            if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
                opens.append(mark)
            elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken) and opens:
                last = opens.pop()
                if _CLOSING[text[last.index]] != text[mark.index]:
                    return last
    except yaml.MarkedYAMLError:
        pass  # the parser reports what stopped the scan; the brackets before it still count
    return opens[-1] if opens else None
