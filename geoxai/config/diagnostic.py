"""What is wrong and where: places in a config file, findings about them, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from geoxai.errors import GeoxaiError
from geoxai.names import closest

if TYPE_CHECKING:
    from rich.text import Text

SNIPPET_WIDTH = 110


@dataclass(frozen=True)
class Place:
    """A place in a file, lines and columns counted from 1; line 0 where the source is not a file (``--set a=b``)."""

    file: str
    line: int = 0
    column: int = 0
    snippet: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Diagnostic:
    """One finding: its place, one sentence, and what to do about it.

    ``exit_code`` is the code that an error leads to: 2 the config is wrong, 3 a file is missing.
    """

    place: Place
    message: str
    fix: str | None = None
    severity: Literal["error", "warning"] = "error"
    exit_code: int = 2

    def render(self) -> str:
        """One plain line ``file:line:column: message``; the snippet and the remedy below it."""
        word = "warning: " if self.severity == "warning" else ""
        lines = [f"{self.place}: {word}{self.message}", *(f"    {line}" for line in _marked_snippet(self.place))]
        if self.fix:
            lines.append(f"  {self.fix}")
        return "\n".join(lines)

    def styled(self) -> Text:
        """The same for a terminal."""
        from rich.text import Text

        colour = "yellow" if self.severity == "warning" else "red"
        text = Text.assemble((str(self.place), "bold"), ": ", (self.severity, f"bold {colour}"), f": {self.message}")
        for line in _marked_snippet(self.place):
            text.append(f"\n    {line}", style=f"bold {colour}" if line.strip() == "^" else "dim")
        if self.fix:
            text.append(f"\n  {self.fix}", style="green")
        return text


class ConfigError(GeoxaiError):
    """A config that cannot be run. ``exit_code`` is 2 if anything in it is wrong, 3 if only files are missing."""

    def __init__(self, diagnostics: Iterable[Diagnostic]):
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(finding.render() for finding in self.diagnostics))
        codes = {finding.exit_code for finding in self.diagnostics if finding.severity == "error"}
        self.exit_code = next((code for code in (2, 3) if code in codes), 1)

    def __reduce__(self) -> tuple:
        return ConfigError, (self.diagnostics,)


def suggestion(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest known one, and those there are."""
    known = list(known)
    best = closest(name, known)
    there_are = f"there are: {', '.join(known)}" if known else "there are none"
    return f"did you mean {best!r}? {there_are}" if best else there_are


def _marked_snippet(place: Place) -> list[str]:
    """The source line and a caret below the column, cut to a readable width around it."""
    if not place.snippet:
        return []
    line = "".join(character if character.isprintable() else " " for character in place.snippet)
    caret = place.column - 1
    indent = min(len(line) - len(line.lstrip()), caret)
    line, caret = line[indent:], caret - indent
    if len(line) > SNIPPET_WIDTH:
        start = max(0, caret - SNIPPET_WIDTH // 2)
        head = "..." if start else ""
        tail = "..." if start + SNIPPET_WIDTH < len(line) else ""
        line, caret = head + line[start : start + SNIPPET_WIDTH] + tail, caret - start + len(head)
    return [line, " " * caret + "^"]
