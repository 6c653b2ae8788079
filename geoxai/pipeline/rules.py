"""The rule that runs at every operation of a network, before anything is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoxai.config import Config, ConfigError, Diagnostic
from geoxai.errors import OptionError
from geoxai.pipeline.record import warnings_shown
from geoxai.pipeline.workspace import bind, check_skeletons, plain_error, upstream, with_upstream

if TYPE_CHECKING:
    from geoxai.attribution import RuleRow


@dataclass(frozen=True)
class RuleTables:
    """The tables as text, and for stages without one what is wrong, each at its place in the config."""

    text: str
    error: ConfigError | None


def rules(config: Config) -> RuleTables:
    """A table per ``explain.lrp`` stage: operation, module, shapes, rule and why it matched; then advice on its rules.

    Raises
    ------
    OptionError
        No stage explains by rules.
    """
    workspace = bind(config)
    tables = {name: stage.rule_table for name, stage in config.stages.items() if hasattr(stage, "rule_table")}
    if not tables:
        raise OptionError(f"{config.path} has no stage that explains by rules (explain.lrp)")
    parts: list[str] = []
    findings: dict[Diagnostic, Exception] = {}
    for name, table in tables.items():
        try:
            with warnings_shown():
                check_skeletons(workspace, with_upstream(config, upstream(config, name)))
            rows = table(workspace.context(name, planning=True))
            parts.append(f"{name}\n{_table(rows)}\n\n{_advice(rows)}")
        except ConfigError as error:  # of a stage that this one reads
            findings |= dict.fromkeys(error.diagnostics, error)
        except Exception as error:
            told = plain_error(error, workspace.run_dir)
            findings[config.locate(name, told.option, told)] = error
    wrong = ConfigError(findings) if findings else None
    if wrong is not None:
        wrong.__cause__ = next(iter(findings.values()))  # what --debug shows
    return RuleTables("\n\n".join(parts), wrong)


def _table(rows: tuple[RuleRow, ...]) -> str:
    header = ("op", "module", "in", "out", "rule", "why")
    cells = [header, *((r.op, r.path, str(r.input_shape), str(r.output_shape), r.rule, r.why) for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)


def _advice(rows: tuple[RuleRow, ...]) -> str:
    """When to use each rule of a table, and the papers they come from."""
    from geoxai.attribution.lrp.rules import RULES, papers

    used = {name: RULES[name].advice for row in rows if (name := row.rule.split("(")[0]) in RULES}
    lines = [f"{name}: for {advice}" for name, advice in used.items()]
    return "\n".join([*lines, papers(used.values())]).rstrip()
