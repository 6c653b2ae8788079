"""One output pixel of a GREMLIN-shaped network (science 3c), through its window and through the whole field.

    python benchmarks/window.py [samples] [threads]

Runs are interleaved, medians of five; the difference is the largest of a map over the largest relevance of the field's.
"""

import statistics
import sys
import time

import torch
from torch import nn

from geoxai.attribution import attribute


def gremlin() -> nn.Sequential:
    """The published layer list: 47,457 weights."""
    layers: list[nn.Module] = []
    channels = 4
    for closing in [nn.MaxPool2d(2)] * 3 + [nn.Upsample(scale_factor=2)] * 3:
        layers += [nn.Conv2d(channels, 32, 3, padding="same"), nn.ReLU(), closing]
        channels = 32
    return nn.Sequential(*layers, nn.Conv2d(32, 1, 1)).eval()


def timed(network: nn.Module, x: torch.Tensor, rules: str, window: str) -> tuple[float, torch.Tensor]:
    """Seconds of one explanation of pixel (131, 133), and its map."""
    begin = time.perf_counter()
    found = attribute(network, x, target=(0, 131, 133), rules=rules, window=window)
    return time.perf_counter() - begin, found.relevance


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    torch.manual_seed(0)
    network, x = gremlin(), torch.rand(samples, 4, 256, 256)
    timed(network, x[:1], "epsilon", "auto")
    print(f"{samples} x 4 x 256 x 256, {torch.get_num_threads()} thread(s)")
    for rules in ("alpha1_beta0", "epsilon", "alpha2_beta1"):
        seconds: dict[str, list[float]] = {"auto": [], "never": []}
        maps = {}
        for _ in range(5):
            for window, taken in seconds.items():
                each, maps[window] = timed(network, x, rules, window)
                taken.append(each)
        window_s, field_s = (statistics.median(taken) for taken in seconds.values())
        difference = float((maps["auto"] - maps["never"]).abs().max() / maps["never"].abs().max())
        print(
            f"{rules:14} window {window_s:.4f} s, field {field_s:.3f} s, {field_s / window_s:5.1f} x, {difference:.1e}"
        )


if __name__ == "__main__":
    main()
