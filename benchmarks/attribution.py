"""How long explanations take, and how much memory: geoxai, a plain gradient, and other LRP libraries.

    python benchmarks/attribution.py [--quick] [--only gremlin,mlp] [--rounds 5] [--no-memory]

Everything runs interleaved in one process with one thread, round after round, so that a busy machine slows all equally;
the table gives medians of processor time as ratios to forward + input gradient of the same round. Peak memory is what
a fresh process per case uses at most beyond what it used before the call (VmHWM - VmRSS of Linux), as a ratio to the
gradient's. Whether a peer gives the same map is judged on one sample, without biases, in float64: the largest
difference to geoxai's map over that map's largest value, which geoxai's own tests compare with an explicit loop. A
map that differs may follow another convention: captum's alpha1_beta0 and gamma ignore the signs of inputs, autolrp
shares pools evenly, and neither zennit (without a canonizer of the network's own) nor captum follows a residual sum.
"""

from __future__ import annotations

import argparse
import logging
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests" / "peers")]
from benchmarks.networks import CASES, QUICK, Case  # noqa: E402
from benchmarks.peers import CONVOLUTION, PEERS  # noqa: E402
from geoxai.attribution import attribute  # noqa: E402

RULES = ("epsilon", "alpha1_beta0", "epsilon_plus", "alpha2_beta1", "gamma")
SHORT = "geoxai bfloat16"
SAME = 1e-3
MOST_SECONDS = 240  # per network, after which no further round begins
Run = Callable[[nn.Module, Tensor, Case], Tensor]


def gradient(network: nn.Module, x: Tensor, case: Case) -> Tensor:
    """Forward and input gradient."""
    leaf = x.detach().requires_grad_()
    output = network(leaf)
    return torch.autograd.grad(output, leaf, case.coefficients(output))[0]


def geoxai(rules: str, precision: str = "full") -> Run:
    """LRP by this package."""

    def run(network: nn.Module, x: Tensor, case: Case) -> Tensor:
        target = torch.ones(case.dense) if case.dense else 0
        return attribute(network, x, rules=rules, target=target, precision=precision).relevance

    return run


def runs() -> dict[tuple[str, str], Run]:
    """The calls to measure, by library and rules."""
    found: dict[tuple[str, str], Run] = {("torch", "gradient"): gradient}
    for rules in RULES:
        found["geoxai", rules] = geoxai(rules)
        found[SHORT, rules] = geoxai(rules, "bfloat16")
        found |= {(name, rules): peer(rules) for name, peer in PEERS.items() if peer(rules) is not None}
    return found


def difference(run: Run, library: str, rules: str, case: Case) -> float | None:
    """Largest difference of a map to geoxai's own, relative to its largest value; None if a peer refuses."""
    network, x = case.build(torch.float32 if library == SHORT else torch.float64, bias=False)
    wanted = geoxai(rules)(network, x[:1], case)
    try:
        got = run(network, x[:1], case)
    except Exception as refusal:  # peers raise errors of any type; an error of geoxai is a fault here
        if library not in PEERS:
            raise
        print(f"{library} {rules}: {type(refusal).__name__}: {refusal}", file=sys.stderr)
        return None
    return float((got - wanted).abs().max() / wanted.abs().max())


def seconds(run: Run, network: nn.Module, x: Tensor, case: Case) -> float:
    """Processor time of one call."""
    begin = time.process_time()
    run(network, x, case)
    return time.process_time() - begin


def peak(name: str, quick: bool, key: tuple[str, str]) -> float:
    """Peak memory of one call in a fresh process, in MiB above its use before."""
    command = [sys.executable, __file__, "--measure-memory", name, *key, *(["--quick"] if quick else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def measure_memory(case: Case, key: tuple[str, str]) -> None:
    """Print the peak memory of one call in this process."""
    network, x = case.build()
    run = runs()[key]
    run(network, x[:1], case)  # what is loaded on first use does not count
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")
    before = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])
    run(network, x, case)
    print((int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) - before) / 1024)


@dataclass(frozen=True)
class Row:
    """The measurements of one library with one set of rules; ratios are to the gradient's."""

    network: str
    rules: str
    library: str
    seconds: float | None = None  # None: it refuses the network
    ratio: float = 1.0
    memory: float | None = None  # MiB
    gap: float | None = None
    rounds: int = 0

    @property
    def differs(self) -> bool:
        """Whether its map differs from geoxai's."""
        return self.library != SHORT and self.gap is not None and self.gap >= SAME


def measure(name: str, case: Case, rounds: int, quick: bool, memory: bool) -> list[Row]:
    """The costs of one network."""
    network, x = case.build()
    every = runs()
    convolves = any(isinstance(layer, CONVOLUTION) for layer in network.modules())
    every = {key: run for key, run in every.items() if key[0] != SHORT or convolves}
    gaps = {key: difference(run, *key, case) for key, run in every.items() if key[0] not in ("torch", "geoxai")}
    refused = [Row(name, rules, library) for (library, rules), gap in gaps.items() if gap is None]
    every = {key: run for key, run in every.items() if gaps.get(key, 0.0) is not None}
    for run in every.values():
        run(network, x[:1], case)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in every}
    begin = time.perf_counter()
    base = times["torch", "gradient"]
    while len(base) < rounds and time.perf_counter() - begin < MOST_SECONDS:
        for key, run in every.items():
            times[key].append(seconds(run, network, x, case))
    rows = []
    for (library, rules), values in times.items():
        ratio = median(value / one for value, one in zip(values, base))
        held = peak(name, quick, (library, rules)) if memory and library in ("torch", "geoxai") else None
        rows.append(Row(name, rules, library, median(values), ratio, held, gaps.get((library, rules)), len(base)))
    return rows + refused


def table(rows: list[Row]) -> list[str]:
    """All measurements as a table."""
    lines = [
        "| network | rules | library | time | x gradient | memory | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    base: Row | None = None
    for row in rows:
        if row.library == "torch":
            base = row
            held = "" if row.memory is None else f"{row.memory:.0f} MiB"
            lines.append(f"| {row.network} | gradient | torch | {row.seconds:.3f} s | | {held} | {row.rounds} rounds |")
            continue
        if row.seconds is None:
            lines.append(f"| {row.network} | {row.rules} | {row.library} | refuses | | | |")
            continue
        held = f"{row.memory / base.memory:.2f}" if row.memory and base is not None and base.memory else ""
        gap = "" if row.gap is None else f"{row.gap:.0e}{' differs' if row.differs else ''}"
        time_taken = f"{row.seconds:.3f} s | {row.ratio:.2f}"
        lines.append(f"| {row.network} | {row.rules} | {row.library} | {time_taken} | {held} | {gap} |")
    return lines


def summary(rows: list[Row]) -> list[str]:
    """By network: geoxai's time over the gradient's, the fastest peer's whose map is the same in brackets, and the
    largest peak memory.
    """
    lines = [f"| network | {' | '.join(RULES)} | memory |", "| --- " * (len(RULES) + 2) + "|"]
    for name in dict.fromkeys(row.network for row in rows):
        cells = []
        for rules in RULES:
            of_rules = [row for row in rows if (row.network, row.rules) == (name, rules) and row.seconds is not None]
            own = next(row.ratio for row in of_rules if row.library == "geoxai")
            right = [row for row in of_rules if row.library in PEERS and not row.differs]
            best = min(right, key=lambda row: row.ratio, default=None)
            cells.append(f"{own:.2f}" + ("" if best is None else f" ({best.library} {best.ratio:.1f})"))
        held = [row.memory for row in rows if row.network == name and row.memory is not None]
        cells.append(f"{max(held[1:]) / held[0]:.2f}" if held else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--only", default="", help="networks whose names start like this, comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--measure-memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("geoxai").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = QUICK if options.quick else CASES
    if options.measure_memory:
        name, *key = options.measure_memory
        measure_memory(cases[name], tuple(key))
        return
    title = (
        f"torch {torch.__version__}, {platform.machine()}, one thread, peers: {', '.join(PEERS) or 'none installed'}"
    )
    out = options.out or Path(__file__).parent / "results" / f"attribution{'-quick' if options.quick else ''}.md"
    out.parent.mkdir(exist_ok=True)
    rows: list[Row] = []
    for name, case in cases.items():
        if name.startswith(tuple(options.only.split(","))):
            rows += measure(name, case, options.rounds, options.quick, not options.no_memory)
            print("\n".join(summary(rows)), flush=True)
            # results so far are kept if the rest is interrupted
            out.write_text("\n".join([title, "", *summary(rows), "", *table(rows)]) + "\n")


if __name__ == "__main__":
    main()
