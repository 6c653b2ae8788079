"""LRP at the level of torch operations: rules, operators, presets and the mode that follows the explained input."""

from geoxai.attribution.lrp.presets import MATCHES, PRESET_NAMES, PRESETS, RuleList, parse_rules
from geoxai.attribution.lrp.rules import BIAS_POLICIES, RULES, Rule, make_rule

__all__ = [
    "BIAS_POLICIES",
    "MATCHES",
    "PRESETS",
    "PRESET_NAMES",
    "RULES",
    "Rule",
    "RuleList",
    "make_rule",
    "parse_rules",
]
