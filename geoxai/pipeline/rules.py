"""The rule that runs at every operation of a network, before anything is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoxai.config import Config
from geoxai.errors import OptionError
from geoxai.pipeline.workspace import bind

if TYPE_CHECKING:
    from geoxai.attribution import RuleRow


def rules(config: Config) -> str:
    """A table per ``explain.lrp`` stage: operation, module, shapes, rule and why it matched."""
    workspace = bind(config)
    parts = []
    for name, stage in config.stages.items():
        if hasattr(stage, "rule_table"):
            parts.append(f"{name}\n{_table(stage.rule_table(workspace.context(name, planning=True)))}")
    if not parts:
        raise OptionError(f"{config.path} has no stage that explains by rules (explain.lrp)")
    return "\n\n".join(parts)


def _table(rows: tuple[RuleRow, ...]) -> str:
    header = ("op", "module", "in", "out", "rule", "why")
    cells = [header, *((r.op, r.path, str(r.input_shape), str(r.output_shape), r.rule, r.why) for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)
