"""Which stage reads which: references resolved, kinds checked, cycles found, stages put in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from geoxai.config.diagnostic import Diagnostic
from geoxai.config.document import Document, Path_
from geoxai.config.markers import Mark, marks
from geoxai.names import closest
from geoxai.stages.stage import Reference, Stage


@dataclass
class Links:
    """References of a config: what to fill in for those left out, the stages each one reads, and what is wrong."""

    filled: dict[str, dict[Path_, str | list[str]]] = field(default_factory=dict)
    reads: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Diagnostic] = field(default_factory=list)


def link(stages: Mapping[str, Stage | None], document: Document) -> Links:
    """Follows the references of all stages, given in the order of the file; None is a stage of unknown type."""
    links = Links()
    for name, stage in stages.items():
        links.filled[name], links.reads[name] = {}, []
        for mark in marks(stage, Reference) if stage else ():
            _follow(name, mark, stages, document, links)
    for cycle in cycles(links.reads):
        message = f"stages read each other in a cycle: {' -> '.join([*cycle, cycle[0]])}"
        place = document.key_place(("stages", cycle[0]))
        links.findings.append(Diagnostic(place, message, "let one of them read another stage"))
    return links


def _follow(name: str, mark: Mark, stages: Mapping[str, Stage | None], document: Document, links: Links) -> None:
    """One reference of one stage."""
    path = ("stages", name, *mark.path)
    kinds, option = mark.marker.kinds, ".".join(mark.path)
    if mark.value == [] and mark.marker.nearest and path in document.spots:
        message = f"{option} of stage {name!r} is an empty list"
        fix = "name stages, or leave it out for the nearest one above"
        links.findings.append(Diagnostic(document.value_place(path), message, fix))
        return
    if not mark.value:
        if mark.marker.nearest:
            above = _above(name, stages)
            nearest = next((n for n in reversed(above) if (s := stages[n]) and s.gives in kinds), None)
            if nearest is not None:
                links.filled[name][mark.path] = [nearest] if mark.listed else nearest
                links.reads[name].append(nearest)
            elif all(stages[n] for n in above):
                message = f"stage {name!r} takes {_or(kinds)}, and no stage above it gives that"
                fix = f"add such a stage above, or name one below it with {option}: ..."
                links.findings.append(Diagnostic(document.key_place(path[:2]), message, fix))
        return
    items = mark.value if isinstance(mark.value, list) else [mark.value]
    for i, source in enumerate(items):
        item = (*path, str(i)) if isinstance(mark.value, list) else path
        if any(item[: len(p)] == p for p in document.unresolved):
            continue
        fitting = [n for n, s in stages.items() if s and s.gives in kinds and n != name]
        if source not in stages:
            best = closest(source, fitting) or closest(source, stages)
            fix = f"did you mean {best!r}? " if best else ""
            fix += f"stages that give {_or(kinds)}: {', '.join(fitting) or 'none'}"
            links.findings.append(Diagnostic(document.value_place(item), f"there is no stage {source!r}", fix))
            continue
        given = stages[source]
        if given and given.gives not in kinds:
            message = f"{option} of stage {name!r} takes {_or(kinds)}, but stage {source!r} gives {given.gives}"
            fix = f"stages that give {_or(kinds)}: {', '.join(fitting) or 'none'}"
            links.findings.append(Diagnostic(document.value_place(item), message, fix))
        links.reads[name].append(source)


def _above(name: str, stages: Iterable[str]) -> list[str]:
    names = list(stages)
    return names[: names.index(name)]


def _or(words: Iterable[str]) -> str:
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def cycles(reads: Mapping[str, list[str]]) -> list[list[str]]:
    """Each cycle once, from its first stage in the order of the file back along what it reads."""
    found: list[list[str]] = []
    for start in reads:
        if any(start in cycle for cycle in found):
            continue
        ways = [[start]]
        seen: set[str] = set()
        while ways:
            way = ways.pop(0)
            if start in reads[way[-1]]:
                found.append(way)
                break
            for source in reads[way[-1]]:
                if source not in seen:
                    seen.add(source)
                    ways.append([*way, source])
    return found


def dependency_order(reads: Mapping[str, list[str]]) -> list[str]:
    """Stage names so that each comes after all it reads, otherwise as in the file; there must be no cycle."""
    order: list[str] = []
    while len(order) < len(reads):
        order.append(next(n for n in reads if n not in order and all(source in order for source in reads[n])))
    return order
