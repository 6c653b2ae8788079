"""The relevance rules as data: frozen, hashable, printable, picklable.

For a linear map ``z_j = sum_i z_ij + b_j`` with contributions ``z_ij = a_i w_ij`` a rule says which share of the
relevance ``R_j`` each input gets. This module defines the rules, the values of their options and ``advice``: when to
use a rule, and the paper it comes from. The computation is in ``arithmetic``.

All rules have the option ``bias``, which says what happens to the share of the bias term. ``absorb``: it stays with the
bias and is reported as bias relevance. ``ignore``: the rule uses the sum without the bias. ``distribute``: the share of
the bias (and of the stabiliser) is spread evenly over the inputs connected to the neuron (Arras et al. 2017,
doi:10.18653/v1/W17-5221). It makes no difference to rules without a bias term (``flat``, ``w_square``, ``z_box``,
``pass``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from geoxai.errors import OptionError
from geoxai.names import unknown

BIAS_POLICIES = ("absorb", "ignore", "distribute")

PAPERS = {
    "Bach et al. 2015": "doi:10.1371/journal.pone.0130140",
    "Montavon et al. 2017": "doi:10.1016/j.patcog.2016.11.008",
    "Lapuschkin et al. 2019": "doi:10.1038/s41467-019-08987-4",
    "Montavon et al. 2019": "doi:10.1007/978-3-030-28954-6_10",
    "Kohlbrenner et al. 2020": "doi:10.1109/IJCNN48605.2020.9206975",
    "Achtibat et al. 2024": "arXiv:2402.05602",
}


@dataclass(frozen=True)
class Rule:
    """Base of all rules; ``bias`` is one of ``absorb``, ``ignore``, ``distribute``."""

    name: ClassVar[str]
    advice: ClassVar[str]
    presumes_positive: ClassVar[bool] = False
    of_linear_maps: ClassVar[bool] = True

    bias: str = "absorb"

    def __post_init__(self) -> None:
        if self.bias not in BIAS_POLICIES:
            raise OptionError(unknown("bias policy", str(self.bias), BIAS_POLICIES), option="bias")

    def __str__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) is not None]
        return f"{self.name}({', '.join(given)})"


@dataclass(frozen=True)
class Zero(Rule):
    """LRP-0: ``z_ij / z_j`` (Bach et al. 2015). Where ``z_j`` is 0 the relevance is lost."""

    name: ClassVar[str] = "zero"
    advice: ClassVar[str] = (
        "comparison: in ReLU networks without biases it is gradient x input, noisy if deep (Bach et al. 2015)"
    )


@dataclass(frozen=True)
class Epsilon(Rule):
    """LRP-epsilon: ``z_ij / (z_j + eps * sign(z_j))`` with sign(0) = +1; ``eps`` is absolute (Bach et al. 2015)."""

    name: ClassVar[str] = "epsilon"
    advice: ClassVar[str] = (
        "dense layers, and networks with activations of both signs; a larger eps gives less noise (Bach et al. 2015)"
    )

    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_number(self, "eps", minimum=0.0)


@dataclass(frozen=True)
class Gamma(Rule):
    """Generalised LRP-gamma (Montavon et al. 2019; for mixed signs Andeol et al. 2021, arXiv:2106.04923).

    Contributions with the sign of ``z_j`` have ``1 + gamma`` times the weight of the others; the bias is treated as one
    more contribution. Where ``z_j`` is 0 the relevance is lost.
    """

    name: ClassVar[str] = "gamma"
    advice: ClassVar[str] = (
        "convolutions, where positive contributions are to count more than negative ones (Montavon et al. 2019)"
    )

    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_number(self, "gamma", minimum=0.0)


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """LRP-alpha-beta with ``alpha - beta = 1`` (Bach et al. 2015).

    ``alpha z_ij+ / (P_j + b_j+) - beta z_ij- / (N_j + b_j-)`` with P and N the sums of the positive and negative
    contributions, whatever the signs of the inputs and weights.
    """

    name: ClassVar[str] = "alpha_beta"
    advice: ClassVar[str] = (
        "ReLU networks, alpha 1 with beta 0 to show only what supports the output, alpha 2 with beta 1 also what "
        "opposes it (Bach et al. 2015)"
    )
    presumes_positive: ClassVar[bool] = True

    alpha: float = 1.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_number(self, "alpha")
        _require_number(self, "beta")
        alpha, beta = self.alpha, self.beta
        if abs(alpha - beta - 1) <= 1e-9 and beta >= 0:
            return
        fix = "alpha 1 with beta 0, or alpha 2 with beta 1, are the usual choices"
        if abs(alpha + beta - 1) <= 1e-9 and beta <= 0:
            fix = f"this is the convention alpha + beta = 1: write alpha: {alpha:g}, beta: {-beta:g}"
        elif alpha <= 0 and abs(beta + alpha - 1) <= 1e-9:
            fix = f"this is the convention (1 + beta, -beta): write alpha: {beta:g}, beta: {-alpha:g}"
        raise OptionError(
            f"alpha_beta needs alpha - beta = 1 with beta >= 0, found alpha {alpha:g} and beta {beta:g}",
            fix=fix,
            option="beta",
        )


@dataclass(frozen=True)
class ZPlus(Rule):
    """LRP-z+: positive contributions only, ``z_ij+ / (P_j + b_j+)``; the same as alpha 1, beta 0."""

    name: ClassVar[str] = "z_plus"
    advice: ClassVar[str] = "layers of ReLU networks that take non-negative inputs (Montavon et al. 2017)"
    presumes_positive: ClassVar[bool] = True


@dataclass(frozen=True)
class Flat(Rule):
    """The same share ``1 / n_j`` for each of the ``n_j`` inputs connected to the neuron (padding is not an input).

    Source: Lapuschkin et al. 2019.
    """

    name: ClassVar[str] = "flat"
    advice: ClassVar[str] = (
        "the first layer, for a smooth map that does not depend on the values of the input (Lapuschkin et al. 2019)"
    )


@dataclass(frozen=True)
class WSquare(Rule):
    """``w_ij^2 / sum_i w_ij^2``: for a first layer with inputs of any sign (Montavon et al. 2017)."""

    name: ClassVar[str] = "w_square"
    advice: ClassVar[str] = "the first layer, where the inputs may have any sign and size (Montavon et al. 2017)"


@dataclass(frozen=True)
class ZBox(Rule):
    """z^B: for a first layer whose inputs lie in a box ``low <= a <= high`` that contains 0 (Montavon et al. 2017).

    ``low`` and ``high`` are numbers, or one number per channel.
    """

    name: ClassVar[str] = "z_box"
    advice: ClassVar[str] = "the first layer, where the inputs have known bounds (Montavon et al. 2017)"

    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in ("low", "high"):
            value = getattr(self, side)
            if value is None:
                raise OptionError(
                    f"z_box needs {side!r}", fix="give low and high, the bounds of the network's input", option=side
                )
            if hasattr(value, "tolist"):  # numpy and torch arrays
                value = value.tolist()
            sequence = isinstance(value, Sequence) and not isinstance(value, str)
            bounds = tuple(value) if sequence else (value,)
            if not bounds or any(isinstance(v, bool) or not isinstance(v, int | float) for v in bounds):
                raise OptionError(
                    f"z_box needs a number, or one per channel, for {side!r}, found {value!r}", option=side
                )
            object.__setattr__(self, side, tuple(map(float, bounds)) if sequence else float(bounds[0]))
        if max(_bounds(self.low)) > 0 or min(_bounds(self.high)) < 0:
            raise OptionError(
                f"z_box needs low <= 0 <= high, found low {self.low} and high {self.high}",
                fix="shift the inputs so that 0 lies in the box, or use rule w_square",
                option="low" if max(_bounds(self.low)) > 0 else "high",
            )


@dataclass(frozen=True)
class Pass(Rule):
    """Relevance passes unchanged; only for operations whose input and output have the same shape."""

    name: ClassVar[str] = "pass"
    advice: ClassVar[str] = "norms and other operations without a change of shape, to let relevance through unchanged"


@dataclass(frozen=True)
class Fold(Rule):
    """For batch norm in eval mode right after a dense layer or convolution: both are one map with the layer's rule."""

    name: ClassVar[str] = "fold"
    advice: ClassVar[str] = (
        "batch norm after a dense layer or convolution, to explain the network as if its weights were merged"
    )
    of_linear_maps: ClassVar[bool] = False


@dataclass(frozen=True)
class Uniform(Rule):
    """For a product of two factors that depend on the input: half of the relevance for each (Achtibat et al. 2024).

    In a sum of products each product's share is ``a b / (z + eps * sign(z))``.
    """

    name: ClassVar[str] = "uniform"
    advice: ClassVar[str] = (
        "products of two factors that depend on the input, such as queries and keys of attention (Achtibat et al. 2024)"
    )
    of_linear_maps: ClassVar[bool] = False

    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_number(self, "eps", minimum=0.0)


@dataclass(frozen=True)
class Taylor(Rule):
    """For a softmax inside the network: its Taylor expansion at the scores, ``x_i (R_i - s_i sum_j R_j)`` (Achtibat et
    al. 2024, proposition 3.1). The constant of the expansion keeps the rest as bias relevance.
    """

    name: ClassVar[str] = "taylor"
    advice: ClassVar[str] = "a softmax inside the network, such as that of attention (Achtibat et al. 2024)"
    of_linear_maps: ClassVar[bool] = False


RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (Zero, Epsilon, Gamma, AlphaBeta, ZPlus, Flat, WSquare, ZBox, Pass, Fold, Uniform, Taylor)
}


def make_rule(name: Any, **options: Any) -> Rule:
    """The rule of that name. Raises OptionError for an unknown name, option or value."""
    if not isinstance(name, str) or name not in RULES:
        raise OptionError(unknown("rule", str(name), RULES), option="rule")
    kind = RULES[name]
    known = [f.name for f in fields(kind)]
    for option in options:
        if option not in known:
            raise OptionError(f"rule {name!r}: {unknown('option', option, known)}", option=option)
    return kind(**options)


def papers(advice: Iterable[str]) -> str:
    """The papers that some advice cites, with their DOIs."""
    cited = list(advice)
    return "; ".join(f"{paper}, {doi}" for paper, doi in PAPERS.items() if any(paper in words for words in cited))


def _bounds(value: Any) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _require_number(rule: Rule, option: str, minimum: float | None = None) -> None:
    value = getattr(rule, option)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise OptionError(f"rule {rule.name!r} needs a number for {option!r}, found {value!r}", option=option)
    if minimum is not None and value < minimum:
        raise OptionError(f"rule {rule.name!r} needs {option} >= {minimum:g}, found {value:g}", option=option)
    object.__setattr__(rule, option, float(value))
