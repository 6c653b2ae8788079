"""Attribution: torch in, torch out.

``attribute`` explains a network, ``rule_table`` lists the rule that runs at every operation. They are imported on
first use, so that rules can be checked without torch.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "METHODS": "checks",
    "Attribution": "result",
    "RuleRow": "lrp.engine",
    "attribute": "attribution",
    "rule_table": "attribution",
}
__all__ = ["METHODS", "Attribution", "RuleRow", "attribute", "rule_table"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
