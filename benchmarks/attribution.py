"""How long explanations take, and how much memory: geoxai, a plain gradient, and other LRP libraries.

    python benchmarks/attribution.py [--quick] [--only gremlin,mlp] [--rounds 5] [--no-memory]

Everything runs interleaved in one process with one thread, round after round, so that a busy machine slows all alike;
the table gives medians of processor time as ratios to forward + input gradient of the same round. Peak memory is what
a fresh process per case holds at most above what it held before the call (VmHWM - VmRSS of Linux), as a ratio to the
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
    """What is measured, by library and rules."""
    found: dict[tuple[str, str], Run] = {("torch", "gradient"): gradient}
    for rules in RULES:
        found["geoxai", rules] = geoxai(rules)
        found[SHORT, rules] = geoxai(rules, "bfloat16")
        found |= {(name, rules): peer(rules) for name, peer in PEERS.items() if peer(rules) is not None}
    return found


def difference(run: Run, rules: str, case: Case, dtype: torch.dtype = torch.float64) -> float | None:
    """Largest difference of a map to geoxai's own, relative to its largest value; None if a peer refuses."""
    network, x = case.build(dtype, bias=False)
    wanted = geoxai(rules)(network, x[:1], case)
    try:
        got = run(network, x[:1], case)
    except Exception:
        return None
    return float((got - wanted).abs().max() / wanted.abs().max())


def seconds(run: Run, network: nn.Module, x: Tensor, case: Case) -> float:
    """Processor time of one call."""
    begin = time.process_time()
    run(network, x, case)
    return time.process_time() - begin


def peak(name: str, quick: bool, key: tuple[str, str]) -> float:
    """Peak memory of one call in a fresh process, MiB above what it held before."""
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


def measure(name: str, case: Case, rounds: int, quick: bool, memory: bool) -> list[str]:
    """Rows of the table for one network."""
    network, x = case.build()
    every = runs()
    gaps = {key: difference(run, key[1], case) for key, run in every.items() if key[0] in PEERS}
    gaps |= {
        key: difference(run, key[1], case, torch.float32)
        for key, run in every.items()
        if key[0] == SHORT and any(isinstance(layer, CONVOLUTION) for layer in network.modules())
    }
    every = {key: run for key, run in every.items() if key[0] != SHORT or key in gaps}
    every = {key: run for key, run in every.items() if gaps.get(key, 0.0) is not None}
    for run in every.values():
        run(network, x[:1], case)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in every}
    begin = time.perf_counter()
    while len(times["torch", "gradient"]) < rounds and time.perf_counter() - begin < MOST_SECONDS:
        for key, run in every.items():
            times[key].append(seconds(run, network, x, case))
    base = times["torch", "gradient"]
    held = {key: peak(name, quick, key) for key in every if memory and key[0] in ("torch", "geoxai")}
    rows = [
        f"| {name} | gradient | torch | {median(base):.3f} s | | {_memory(held, ('torch', 'gradient'))} |"
        f" {len(base)} rounds |"
    ]
    for (library, rules), values in times.items():
        if library == "torch":
            continue
        ratio = median(value / one for value, one in zip(values, base))
        gap = gaps.get((library, rules))
        judged = "" if gap is None else f"{gap:.0e}" + ("" if gap < SAME or library == SHORT else " differs")
        rows.append(
            f"| {name} | {rules} | {library} | {median(values):.3f} s | {ratio:.2f} |"
            f" {_memory(held, (library, rules))} | {judged} |"
        )
    rows += [
        f"| {name} | {rules} | {library} | refuses | | | |" for (library, rules), gap in gaps.items() if gap is None
    ]
    return rows


def _memory(held: dict[tuple[str, str], float], key: tuple[str, str]) -> str:
    if key not in held:
        return ""
    return f"{held[key]:.0f} MiB" if key[0] == "torch" else f"{held[key] / held['torch', 'gradient']:.2f}"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--only", default="", help="networks whose name starts so, comma-separated")
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
    lines = [
        f"torch {torch.__version__}, {platform.machine()}, one thread, peers: {', '.join(PEERS) or 'none installed'}",
        "",
        "| network | rules | library | time | x gradient | memory | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    out = options.out or Path(__file__).parent / "results" / f"attribution{'-quick' if options.quick else ''}.md"
    out.parent.mkdir(exist_ok=True)
    print("\n".join(lines), flush=True)
    for name, case in cases.items():
        if name.startswith(tuple(options.only.split(","))):
            rows = measure(name, case, options.rounds, options.quick, not options.no_memory)
            print("\n".join(rows), flush=True)
            lines += rows
            out.write_text("\n".join(lines) + "\n")  # what is measured is kept if the rest is interrupted


if __name__ == "__main__":
    main()
