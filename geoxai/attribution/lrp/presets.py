"""Which rule at which operation: first-match lists, by name (presets) or as a user writes them.

A list is read from the top; the first line that matches an operation gives its rule. ``match`` is

- ``first``, ``last``: weighted maps with no weighted map before them (towards the input) or after them; a step of a
  recurrent layer, which sees its own past, is never first,
- ``linear`` (dense layers, matrix products, einsum, steps of recurrent layers), ``conv`` (also transposed), ``norm``
  (batch norm in eval; layer, group, instance norm), ``average`` (average pooling, mean, sum, cumsum, values mixed by
  attention), ``upsample`` (linear and bicubic interpolation), ``sum`` (a + b, a - b, adding a constant),
- ``weighted`` (linear and conv), ``all``,
- ``product`` (of two factors that both depend on the input), ``softmax`` (inside the network), only with the rules
  ``uniform`` and ``taylor``. Without such lines one factor is a gate: it is held constant and the other takes all,

and ``path``, if given, is a pattern of the module path (``encoder.*``). If several modules form one map, a sum of
layers (``cell.x + cell.h``) or a layer and the norm folded into it (``conv > norm``), any of their paths may match.

Batch norm in eval is a diagonal map with its own bias, unless a line ``{match: norm, rule: pass}`` lets relevance
through, or ``{match: norm, rule: fold}`` makes it one map with the layer right before it, as in a network with merged
weights. Activations, max pooling, products with gates and index operations leave no choice of rule and are not
matched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from geoxai.attribution.lrp.rules import (
    RULES,
    AlphaBeta,
    Epsilon,
    Flat,
    Fold,
    Gamma,
    Rule,
    Taylor,
    Uniform,
    WSquare,
    Zero,
    ZPlus,
    make_rule,
)
from geoxai.errors import OptionError
from geoxai.names import unknown

MATCHES = (
    "first",
    "last",
    "linear",
    "conv",
    "norm",
    "average",
    "upsample",
    "sum",
    "product",
    "softmax",
    "weighted",
    "all",
)


@dataclass(frozen=True)
class Line:
    """One line of a rule list."""

    match: str
    rule: Rule
    path: str | None = None

    def matches(self, groups: frozenset[str], path: str) -> bool:
        """Whether the line is for an operation of these groups at this module path."""
        if self.match not in groups:
            return False
        return self.path is None or any(fnmatchcase(one, self.path) for one in re.split(" [+>] ", path))

    def __str__(self) -> str:
        return f"match {self.match}" + (f", path {self.path}" if self.path else "")


@dataclass(frozen=True)
class RuleList:
    """A first-match list; ``name`` is its preset name or ``custom``."""

    name: str
    lines: tuple[Line, ...]

    def folds(self, path: str) -> bool:
        """Whether a batch norm at this path is to be one map with the layer before it."""
        line = self.find(frozenset({"norm", "all"}), path)
        return line is not None and isinstance(line.rule, Fold)

    def explains(self, group: str, path: str) -> bool:
        """Whether relevance crosses products (``product``) or softmaxes (``softmax``) at this path by a rule."""
        return self.find(frozenset({group}), path) is not None

    def find(self, groups: frozenset[str], path: str) -> Line | None:
        """The first line that matches."""
        return next((line for line in self.lines if line.matches(groups, path)), None)


@dataclass(frozen=True)
class Automatic(RuleList):
    """``auto``: ``nonnegative`` for networks whose activations cannot be below 0, such as those with ReLU, ``signed``
    for all others; ``automatic.decided`` chooses. ``lines`` are those of ``nonnegative``, which record what ``signed``
    records.

    ``alpha1_beta0`` (Bach et al. 2015, doi:10.1371/journal.pone.0130140) shares out by positive contributions. Where
    activations are non-negative these are what excites a neuron, and maps of positive evidence are easy to read. Where
    they have both signs (GELU, SiLU, ELU, leaky ReLU, tanh, layer norms, residual sums, recurrent layers, attention) a
    negative value times a negative weight is one of them too, and maps have little to do with what the network does.

    ``benchmarks/results/rules.md`` has the measurements behind ``epsilon``. Over 22 such networks after a short
    training the median correlation of maps with occlusion is 0.11 for alpha1_beta0 (0.00 before training), 0.59 for
    epsilon_plus, 0.82 for epsilon_gamma, 0.86 for gamma, and 0.94 for zero, epsilon and attnlrp. Epsilon loses nothing,
    its ``sum |R|`` is 2.9 times ``|f|`` (26 at most, before training), and its stabiliser of 1e-6 is not seen: one of
    0.25 takes most of the value. It is taken before zero, whose relevance has no bound where a sum is 0, and before
    attnlrp, which is the same but for attention. In deep networks without norms or residual sums maps of epsilon can
    be far larger than the value; this is warned of, and gamma keeps them small.
    """

    nonnegative: RuleList = field(kw_only=True)
    signed: RuleList = field(kw_only=True)


def _lines(*pairs: tuple[str, Rule]) -> tuple[Line, ...]:
    return tuple(Line(match, rule) for match, rule in pairs)


# Sums, averages and norms have one or few contributions per output. Rules that distinguish signs share relevance among
# the positive ones: a beta would double the relevance of every sum without a negative term.
PRESETS: dict[str, tuple[Line, ...]] = {
    "zero": _lines(("all", Zero())),
    "epsilon": _lines(("all", Epsilon())),
    "gamma": _lines(("all", Gamma())),
    "z_plus": _lines(("all", ZPlus())),
    "alpha_beta": _lines(("weighted", AlphaBeta()), ("all", ZPlus())),
    "alpha1_beta0": _lines(("weighted", AlphaBeta(alpha=1, beta=0)), ("all", ZPlus())),
    "alpha2_beta1": _lines(("weighted", AlphaBeta(alpha=2, beta=1)), ("all", ZPlus())),
    "alpha3_beta2": _lines(("weighted", AlphaBeta(alpha=3, beta=2)), ("all", ZPlus())),
    "flat": _lines(("all", Flat())),
    "w_square": _lines(("weighted", WSquare()), ("all", Flat())),
    "epsilon_plus": _lines(("linear", Epsilon()), ("all", ZPlus())),
    "epsilon_plus_flat": _lines(("first", Flat()), ("linear", Epsilon()), ("all", ZPlus())),
    "epsilon_gamma": _lines(("linear", Epsilon()), ("conv", Gamma()), ("all", ZPlus())),
    "epsilon_alpha2_beta1": _lines(("linear", Epsilon()), ("conv", AlphaBeta(alpha=2, beta=1)), ("all", ZPlus())),
    "epsilon_alpha2_beta1_flat": _lines(
        ("first", Flat()), ("linear", Epsilon()), ("conv", AlphaBeta(alpha=2, beta=1)), ("all", ZPlus())
    ),
    "attnlrp": _lines(("softmax", Taylor()), ("product", Uniform()), ("all", Epsilon())),
    "deep_taylor": _lines(("first", WSquare(bias="ignore")), ("all", ZPlus(bias="ignore"))),
}
# When to use the presets that combine rules; the others are named after their rule.
AUTO = "auto"
CHOICES = ("alpha1_beta0", "epsilon")  # of auto: for activations that are not negative, and for all others
PRESET_ADVICE = {
    "auto": f"any network: {CHOICES[0]} if activations cannot be negative (ReLU), else {CHOICES[1]} (Bach et al. 2015)",
    "epsilon_plus": "ReLU networks of convolutions and dense layers (Kohlbrenner et al. 2020)",
    "epsilon_plus_flat": "the same networks, with a smooth map in the first layer (Kohlbrenner et al. 2020)",
    "epsilon_gamma": "the same networks, with negative contributions of convolutions counted (Montavon et al. 2019)",
    "epsilon_alpha2_beta1": "the same networks, to show what opposes the output too (Kohlbrenner et al. 2020)",
    "epsilon_alpha2_beta1_flat": "the same networks, with both of these (Kohlbrenner et al. 2020)",
    "attnlrp": "transformers, and other networks with attention or products (Achtibat et al. 2024)",
    "deep_taylor": "ReLU networks with a positive output; low and high for bounded inputs (Montavon et al. 2017)",
}
BOUNDED = ("z_box", "deep_taylor")  # take low and high, the bounds of the network's input
PRESET_NAMES = (AUTO, *PRESETS, "z_box", "pass")


def parse_rules(spec: Any, **options: Any) -> RuleList:
    """A rule list from what a user writes in YAML or Python.

    ``spec`` is a preset or rule name; a Rule; a RuleList; or a list of lines, each a Line or a mapping such as
    ``{match: conv, rule: alpha_beta, alpha: 2, beta: 1, bias: absorb}``, or ``{preset: epsilon_plus}``, which means
    the lines of that preset. ``options`` (``eps=``, ``bias=``, ``low=``, ...) set options of a named preset in every
    line whose rule has them; ``norm="pass"`` or ``"fold"`` gives its norms that rule. Raises OptionError for anything
    that does not fit.
    """
    if isinstance(spec, str):
        return _named(spec, options)
    if options:
        raise OptionError(
            f"{', '.join(options)} cannot be combined with a list of rules", fix="set it in the lines of the list"
        )
    if isinstance(spec, RuleList):
        return spec
    if isinstance(spec, Rule):
        return RuleList("custom", (Line("all", spec),))
    if not isinstance(spec, Sequence) or not spec:
        raise OptionError(
            f"rules must be a preset name or a list of lines, found {_yaml(spec)}",
            fix=_as_list(spec) if isinstance(spec, Mapping) else f"presets are: {', '.join(PRESET_NAMES)}",
            option="rules",
        )
    return RuleList("custom", tuple(line for number, given in enumerate(spec) for line in _entry(number, given)))


def _entry(number: int, spec: Any) -> tuple[Line, ...]:
    """The lines of one entry of a list: one, or those of a preset."""
    if not isinstance(spec, Mapping) or "preset" not in spec:
        return (_line(number, spec),)
    values = dict(spec)
    if values["preset"] == AUTO:
        raise OptionError(
            f"line {number + 1} of rules: auto chooses between presets for a whole network, and cannot be a line",
            fix=f"write rules: {AUTO} alone, or name the preset: {' or '.join(CHOICES)}",
            option=f"rules.{number}.preset",
        )
    try:
        return _named(str(values.pop("preset")), values).lines
    except OptionError as error:
        option = f"rules.{number}.{error.option or 'preset'}" if error.option != "rules" else f"rules.{number}.preset"
        raise OptionError(f"line {number + 1} of rules: {error.message}", fix=error.fix, option=option) from None


def _named(name: str, options: dict[str, Any]) -> RuleList:
    if name not in PRESET_NAMES:
        raise OptionError(unknown("rule or preset", name, PRESET_NAMES), option="rules")
    if name == AUTO:
        return _automatic(options)
    bounds = {key: options.pop(key) for key in ("low", "high") if name in BOUNDED and key in options}
    if name == "pass":
        lines: tuple[Line, ...] = (Line("all", make_rule("pass")),)
    elif name == "z_box":
        lines = (Line("first", make_rule("z_box", **bounds)), Line("all", ZPlus()))
    elif bounds:
        lines = (Line("first", make_rule("z_box", bias="ignore", **bounds)), *PRESETS[name][1:])
    else:
        lines = PRESETS[name]
    if "norm" in options:
        lines = (Line("norm", make_rule(options.pop("norm"))), *lines)
    for option in options:
        known = _options_of(lines)
        if option not in known:
            raise OptionError(f"rules {name!r}: {unknown('option', option, known)}", option=option)
    return RuleList(name, tuple(Line(line.match, _with_options(line.rule, options), line.path) for line in lines))


def _automatic(options: Mapping[str, Any]) -> Automatic:
    """Both lists of ``auto``, each with the options that its rules have."""
    known = {name: _options_of(PRESETS[name]) for name in CHOICES}
    for option in options:
        if not any(option in of_one for of_one in known.values()):
            raise OptionError(
                f"rules {AUTO!r}: {unknown('option', option, sorted(set().union(*known.values())))}", option=option
            )
    nonnegative, signed = (_named(name, {k: v for k, v in options.items() if k in known[name]}) for name in CHOICES)
    return Automatic(AUTO, nonnegative.lines, nonnegative=nonnegative, signed=signed)


def _options_of(lines: tuple[Line, ...]) -> set[str]:
    return {f.name for line in lines for f in fields(line.rule)} | {"norm"}


def _with_options(rule: Rule, options: Mapping[str, Any]) -> Rule:
    values = {f.name: getattr(rule, f.name) for f in fields(rule)}
    return type(rule)(**{key: options.get(key, value) for key, value in values.items()})


def _as_list(spec: Mapping[Any, Any]) -> str:
    """How to write what was given as one mapping."""
    alone = f"rules: {spec['preset']}, or " if list(spec) == ["preset"] else ""
    return f"write {alone}rules: [{_yaml(spec)}]"


def _as_line(spec: Any) -> str:
    """How to write what was given instead of a line."""
    if isinstance(spec, str) and spec not in RULES and spec in PRESET_NAMES:
        return f"{{preset: {spec}}}, or the preset alone: rules: {spec}"
    return f"{{match: all, rule: {spec if isinstance(spec, str) and spec in RULES else 'epsilon'}}}"


def _yaml(spec: Any) -> str:
    """Plain values as written in a config."""
    if isinstance(spec, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(value)}' for key, value in spec.items())}}}"
    return f"[{', '.join(map(_yaml, spec))}]" if isinstance(spec, list | tuple) else str(spec)


def _line(number: int, spec: Any) -> Line:
    where = f"rules.{number}"
    if isinstance(spec, Line):
        return spec
    if not isinstance(spec, Mapping):
        raise OptionError(
            f"line {number + 1} of rules must be a mapping, found {_yaml(spec)}",
            fix=f"write it as {_as_line(spec)}",
            option=where,
        )
    values = dict(spec)
    path, match = values.pop("path", None), values.pop("match", "all")
    if match not in MATCHES:
        raise OptionError(
            f"line {number + 1} of rules: {unknown('match', str(match), MATCHES)}", option=f"{where}.match"
        )
    if "rule" not in values:
        raise OptionError(f"line {number + 1} of rules names no rule; there are: {', '.join(RULES)}", option=where)
    name = values.pop("rule")
    try:
        rule = name if isinstance(name, Rule) else make_rule(name, **values)
    except OptionError as error:
        option = f"{where}.{error.option}" if error.option else where
        raise OptionError(f"line {number + 1} of rules: {error.message}", fix=error.fix, option=option) from None
    return Line(match, rule, path)
