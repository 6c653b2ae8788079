"""Which rules suit which networks: how much is lost, how large maps are, and whether they say what the network does.

    OMP_NUM_THREADS=2 python -m benchmarks.rules

Writes ``benchmarks/results/rules.md``. Every network of ``benchmarks/styles.py`` is explained in float64 as it begins
(weights at random) and, in the second half of the table, after a short training to tell whether a bump is on the left
or on the right. Measured over samples, by the logit of the second class:

- lost: median of ``|lost| / |f|``;
- size: median of ``sum |R| / |f|``;
- LRP-0: correlation of the map with LRP-0 by gradient x input of the network with gates detached, which is computed
  without geoxai's engine (``tests/attribution/detached.py``);
- occlusion: correlation of the map with how much the value falls when one place of the input is set to 0.

LRP-0 is kin of epsilon, so that occlusion is the fairer judge; neither is the truth.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.styles import STYLES
from geoxai.attribution import attribute
from tests.attribution.detached import relevance as lrp_zero

RULES: dict[str, Any] = {
    "alpha1_beta0": "alpha1_beta0",
    "epsilon_plus": "epsilon_plus",
    "zero": "zero",
    "epsilon": "epsilon",
    "epsilon 0.01": [{"match": "all", "rule": "epsilon", "eps": 0.01}],
    "epsilon 0.25": [{"match": "all", "rule": "epsilon", "eps": 0.25}],
    "gamma": "gamma",
    "epsilon_gamma": "epsilon_gamma",
    "attnlrp": "attnlrp",
}
SAMPLES, STEPS = 12, 150


def bumps(shape: tuple[int, ...], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise with a bump in the first or second half of the last axis, and in which."""
    x = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 2, (count,), generator=generator)
    half = shape[-1] // 2
    for sample, side in enumerate(label.tolist()):
        x[sample, ..., side * half + 1 : side * half + 3] += 1.0
    return x, label


def trained(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The network after a short training."""
    generator = torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    network.train()
    for _ in range(STEPS):
        x, label = bumps(shape, 32, generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), label).backward()
        optimiser.step()
    return network.eval()


def occluded(network: nn.Module, x: Tensor) -> Tensor:
    """How much the second logit falls when a place of the input, with all its channels, is 0: (N, places)."""
    places = places_of(x)
    with torch.no_grad():
        value = network(x)[:, 1]
        falls = []
        for place in places.unique().tolist():
            falls.append(value - network(torch.where(places == place, 0.0, x))[:, 1])
    return torch.stack(falls, 1)


def places_of(x: Tensor) -> Tensor:
    """The number of the place of every value of one sample: images have channels second, movies third."""
    shape = x.shape[1:]
    if len(shape) == 2:
        return torch.arange(shape.numel()).reshape(shape)
    frames = shape[0] if len(shape) == 4 else 1
    cells = torch.arange(frames * shape[-1] * shape[-2]).reshape(frames, 1, *shape[-2:])
    return (cells if len(shape) == 4 else cells[0]).expand(shape)


def correlation(one: Tensor, other: Tensor) -> float:
    """Median over samples."""
    one, other = (t - t.mean(1, keepdim=True) for t in (one.flatten(1), other.flatten(1)))
    return float(((one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1)).clamp(min=1e-300)).median())


def measured(network: nn.Module, x: Tensor, rules: Any) -> tuple[float, float, Tensor]:
    """Median share lost, median size, and the map."""
    found = attribute(network, x, rules=rules, target=1, score="logit", start="output")
    value = found.target_value.abs()
    size = found.relevance.abs().flatten(1).sum(1)
    return float((found.lost.abs() / value).median()), float((size / value).median()), found.relevance


def rows(name: str, network: nn.Module, shape: tuple[int, ...]) -> dict[str, list[float]]:
    """What each rule gives for one network."""
    x, _ = bumps(shape, SAMPLES, torch.Generator().manual_seed(9))
    coefficients = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(SAMPLES, 2)
    wanted = lrp_zero(network, x, coefficients)
    falls, places = occluded(network, x), places_of(x)
    table = {}
    for label, rules in RULES.items():
        lost, size, relevance = measured(network, x, rules)
        by_place = relevance.new_zeros(SAMPLES, falls.shape[1])
        by_place.index_add_(1, places.flatten(), relevance.flatten(1))
        table[label] = [lost, size, correlation(relevance, wanted), correlation(by_place, falls)]
        print(f"{name:32} {label:14} " + "  ".join(f"{number:9.3g}" for number in table[label]), flush=True)
    return table


def markdown(states: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """A table for each thing measured, and the medians."""
    measures = ("lost", "size", "LRP-0", "occlusion")
    text = ["# Rules on networks of many styles\n\nMade by `python -m benchmarks.rules`, which says what is measured."]
    for number, measure in enumerate(measures):
        text.append(f"\n## {measure}\n\n| network | {' | '.join(RULES)} |\n|---|{'---|' * len(RULES)}")
        for state, networks in states.items():
            for name, table in networks.items():
                cells = " | ".join(f"{table[label][number]:.2g}" for label in RULES)
                text.append(f"| {name}, {state} | {cells} |")
            others = [table for name, table in networks.items() if "ReLU" not in name or "leaky" in name]
            for word, of in (("median", median), ("highest" if number < 2 else "lowest", max if number < 2 else min)):
                cells = " | ".join(f"{of([table[label][number] for table in others]):.2g}" for label in RULES)
                text.append(f"| **{word} of all but ReLU, {state}** | {cells} |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rules.md")
    output = parser.parse_args().output
    logging.disable(logging.WARNING)
    states: dict[str, dict[str, dict[str, list[float]]]] = {"random": {}, "trained": {}}
    prepared: dict[str, Callable[[nn.Module, tuple[int, ...]], nn.Module]] = {
        "random": lambda network, shape: network.eval(),
        "trained": trained,
    }
    for state, networks in states.items():
        for name, (build, shape) in STYLES.items():
            torch.manual_seed(1)
            try:
                networks[name] = rows(f"{name}, {state}", prepared[state](build().double(), shape), shape)
            except Exception as error:
                print(f"{name}, {state}: {type(error).__name__}: {error}", file=sys.stderr)
    output.write_text(markdown(states), encoding="utf-8")


if __name__ == "__main__":
    main()
