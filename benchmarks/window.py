"""One output pixel of a GREMLIN-shaped network (science 3c), through its window and through the whole field.

    python -m benchmarks.window [threads]

For 1 and 16 samples and three rules: processor time of the first explanation of a network never seen (cold: it is
traced at the field's size and at the window's), of later ones (warm: the traces are checked by running the network's
code without values), and of the whole field; how much faster the warm and the cold window are; and the largest
difference of the maps over the largest relevance. Runs are interleaved, medians of seven. Arithmetic of a single window
is small: what remains is the cost of Python and of starting torch's operations, some 0.3 ms for each layer.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.networks import gremlin
from geoxai.attribution import Attribution, attribute

RUNS = 7
PIXELS = ((131, 133), (129, 135))  # windows of 56 x 56 and 48 x 48: an output among pools of 8 sees 54 or 46 cells
RULES = ("alpha1_beta0", "epsilon", "alpha2_beta1")


def timed(explain: Callable[[], Attribution]) -> tuple[float, torch.Tensor]:
    """Seconds of one explanation, and its map."""
    begin = time.process_time()
    found = explain()
    return time.process_time() - begin, found.relevance


def measured(network: nn.Module, x: torch.Tensor, rules: str, pixel: tuple[int, int]) -> str:
    """One line of the table."""

    def explain(model: nn.Module, window: str) -> Attribution:
        return attribute(model, x, target=(0, *pixel), rules=rules, window=window)

    seconds: dict[str, list[float]] = {"cold": [], "warm": [], "field": []}
    maps = {}
    explain(network, "auto")
    for _ in range(RUNS):
        never_seen = copy.deepcopy(network)
        for name, model, window in (
            ("cold", never_seen, "auto"),
            ("warm", network, "auto"),
            ("field", network, "never"),
        ):
            taken, maps[name] = timed(lambda model=model, window=window: explain(model, window))
            seconds[name].append(taken)
    cold, warm, field = (statistics.median(taken) for taken in seconds.values())
    difference = max(float((maps[name] - maps["field"]).abs().max()) for name in ("cold", "warm"))
    difference /= float(maps["field"].abs().max())
    times = f"{cold * 1e3:8.1f} {warm * 1e3:8.1f} {field * 1e3:9.1f}"
    return f"{len(x):7} {rules:14} {pixel!s:10} {times} {field / warm:7.1f} {field / cold:7.1f}  {difference:.1e}"


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    torch.manual_seed(0)
    network = gremlin().eval()
    print(f"4 x 256 x 256, {torch.get_num_threads()} thread(s), milliseconds")
    print("samples rules          pixel          cold     warm     field    /warm   /cold  difference")
    for samples in (1, 16):
        x = torch.rand(samples, 4, 256, 256)
        for rules in RULES:
            for pixel in PIXELS:
                print(measured(network, x, rules, pixel), flush=True)


if __name__ == "__main__":
    main()
