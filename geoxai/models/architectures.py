"""Small built-in networks that are easy to explain: ReLU and average pooling by default.

All take ``(sample, channel, lat, lon)``. A vector output is ``(sample, output)``: one logit per class, a single logit,
or one value. An image output is ``(sample, target_channel, lat, lon)`` on the grid of the input. The last operation is
always a linear map without activation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from geoxai.errors import OptionError
from geoxai.names import unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
INITIALISATIONS = ("default", "he", "glorot")


class CyclicConv2d(nn.Conv2d):
    """A convolution that keeps the size of maps and is cyclic in longitude: it continues across the date line."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(inputs, outputs, kernel, padding=(kernel // 2, 0))
        self.halo = kernel // 2

    def forward(self, input: Tensor) -> Tensor:
        if self.halo:
            input = torch.cat([input[..., -self.halo :], input, input[..., : self.halo]], dim=-1)
        return super().forward(input)


class MLP(nn.Module):
    """Fully connected network on the flattened input.

    Parameters
    ----------
    channels, grid
        Number of channels, and (lat, lon) lengths of the input.
    outputs
        Shape of one sample's output: ``(k,)`` or ``(target_channel, lat, lon)``.
    hidden
        Neurons of each hidden layer; without any the network is linear.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        outputs: tuple[int, ...],
        *,
        hidden: Sequence[int] = (8, 8),
        activation: str = "relu",
    ):
        super().__init__()
        self.outputs = tuple(outputs)
        widths = [channels * grid[0] * grid[1], *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), _activation(activation)]
        layers.append(nn.Linear(widths[-1], int(torch.Size(self.outputs).numel())))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(torch.flatten(x, 1))
        return y if len(self.outputs) == 1 else torch.reshape(y, (-1, *self.outputs))


class CNN(nn.Module):
    """Convolutions with pooling, then dense layers: classes or values from maps.

    Parameters
    ----------
    channels, grid, outputs
        As for ``MLP``; the output is a vector.
    filters
        Filters of each convolution; each is followed by the activation and a pooling.
    kernel
        Side of the (odd) square kernels.
    pool, pool_size
        ``avg`` or ``max``, and its side; a side of 1 means no pooling.
    hidden
        Neurons of the dense layers after the convolutions.
    head
        ``flatten`` keeps the position of each feature, ``global`` averages it over the map first.
    longitude
        ``zeros`` pads every border with zeros, ``cyclic`` continues a global map across the date line.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        outputs: tuple[int, ...],
        *,
        filters: Sequence[int] = (16, 32),
        kernel: int = 3,
        pool: str = "avg",
        pool_size: int = 2,
        hidden: Sequence[int] = (16,),
        head: str = "flatten",
        activation: str = "relu",
        longitude: str = "zeros",
        batch_norm: bool = False,
    ):
        super().__init__()
        if len(outputs) != 1:
            raise OptionError("architecture cnn gives classes or values, the targets are images", fix="use unet or mlp")
        lat, lon = grid
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([channels, *filters], filters):
            _check_cyclic(longitude, kernel, lon)
            layers += _convolution(fan_in, fan_out, kernel, activation, longitude, batch_norm)
            if pool_size > 1:
                layers.append(POOLINGS[pool](pool_size))
                lat, lon = lat // pool_size, lon // pool_size
        if lat < 1 or lon < 1:
            raise OptionError(
                f"architecture cnn pools {len(filters)} times by {pool_size}, too often for maps of {grid[0]} x "
                f"{grid[1]}",
                fix="fewer filters, or a smaller pool_size",
            )
        if head == "global":
            layers.append(nn.AvgPool2d((lat, lon)))
            lat = lon = 1
        self.features = nn.Sequential(*layers)
        width = filters[-1] if filters else channels
        self.head = MLP(width, (lat, lon), outputs, hidden=hidden, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class UNet(nn.Module):
    """Encoder-decoder with skip connections by concatenation: maps from maps.

    A grid whose sides are not multiples of 2 to the number of poolings is padded with zeros (south and east as seen by
    the network), and the output is cropped.

    Parameters
    ----------
    channels, grid, outputs
        As for ``MLP``; the output is an image on the same grid.
    filters
        Filters of each level; the last level is the bottom, so there is one pooling fewer than levels.
    convolutions
        Convolutions per level and side.
    skip
        False gives a plain encoder-decoder without skip connections.
    upsample
        ``nearest`` or ``bilinear``.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        outputs: tuple[int, ...],
        *,
        filters: Sequence[int] = (16, 32, 64),
        kernel: int = 3,
        convolutions: int = 1,
        pool: str = "avg",
        upsample: str = "nearest",
        skip: bool = True,
        activation: str = "relu",
        longitude: str = "zeros",
        batch_norm: bool = False,
    ):
        super().__init__()
        if len(outputs) != 3 or tuple(outputs[1:]) != tuple(grid):
            raise OptionError(
                f"architecture unet gives images on the input grid of {grid[0]} x {grid[1]}, "
                f"but a sample's target has the shape {tuple(outputs)}",
                fix="use mlp or cnn for classes and values",
            )
        multiple = 2 ** (len(filters) - 1)
        self.grid = tuple(grid)
        self.padding = ((-grid[0]) % multiple, (-grid[1]) % multiple)
        _check_cyclic(longitude, kernel, (grid[1] + self.padding[1]) // multiple)
        self.skip = skip

        def level(fan_in: int, fan_out: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for i in range(convolutions):
                layers += _convolution(
                    fan_in if i == 0 else fan_out, fan_out, kernel, activation, longitude, batch_norm
                )
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(level(a, b) for a, b in zip([channels, *filters], filters))
        self.pools = nn.ModuleList(POOLINGS[pool](2) for _ in filters[1:])
        align = {"align_corners": False} if upsample == "bilinear" else {}
        self.ups = nn.ModuleList(nn.Upsample(scale_factor=2, mode=upsample, **align) for _ in filters[1:])
        upward = list(reversed(filters))
        self.up = nn.ModuleList(level(below + (here if skip else 0), here) for below, here in pairwise(upward))
        self.last = nn.Conv2d(filters[0], outputs[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        padded = any(self.padding)
        if padded:
            x = nn.functional.pad(x, (0, self.padding[1], 0, self.padding[0]))
        levels = [self.down[0](x)]
        for pool, convolve in zip(self.pools, self.down[1:]):
            levels.append(convolve(pool(levels[-1])))
        y = levels.pop()
        for upsample, convolve in zip(self.ups, self.up):
            beside = levels.pop()
            y = upsample(y)
            y = convolve(torch.cat([beside, y], dim=1) if self.skip else y)
        y = self.last(y)
        return y[..., : self.grid[0], : self.grid[1]] if padded else y


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "unet": UNet}


def build(
    architecture: str,
    options: Mapping[str, Any],
    *,
    channels: int,
    grid: tuple[int, int],
    outputs: tuple[int, ...],
    init: str = "default",
    generator: torch.Generator,
) -> nn.Module:
    """A built-in network with its initial weights.

    All randomness comes from ``generator``: torch's global seed is neither used nor moved.
    """
    if architecture not in ARCHITECTURES:
        raise OptionError(unknown("architecture", architecture, ARCHITECTURES), option="architecture")
    try:
        with torch.device("meta"):
            module = ARCHITECTURES[architecture](channels, tuple(grid), tuple(outputs), **options)
    except OptionError as error:
        raise OptionError(error.message, fix=error.fix, option=f"architecture.{architecture}") from None
    module.to_empty(device="cpu")
    initialise(module, init, generator)
    return module


def initialise(module: nn.Module, init: str, generator: torch.Generator) -> None:
    """Draw new weights for every linear and convolution layer.

    ``he``: normal, variance 2 / fan_in (He et al. 2015), biases 0. ``glorot``: uniform, variance 2 / (fan_in + fan_out)
    (Glorot and Bengio 2010), biases 0. ``default``: torch's own, uniform within 1 / sqrt(fan_in), biases too.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()  # ones and zeros, nothing drawn
        elif isinstance(part, nn.Linear | nn.Conv2d):
            bound = part.weight[0].numel() ** -0.5
            if init == "he":
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            elif init == "glorot":
                nn.init.xavier_uniform_(part.weight, generator=generator)
            elif init == "default":
                nn.init.uniform_(part.weight, -bound, bound, generator=generator)
            else:
                raise OptionError(unknown("initialisation", init, INITIALISATIONS), option="init")
            if part.bias is not None:
                if init == "default":
                    nn.init.uniform_(part.bias, -bound, bound, generator=generator)
                else:
                    nn.init.zeros_(part.bias)


def weighted_layers(module: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """Linear and convolution layers with their module paths, from input to output."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]


def _convolution(
    fan_in: int, fan_out: int, kernel: int, activation: str, longitude: str, batch_norm: bool
) -> list[nn.Module]:
    if kernel % 2 == 0:
        raise OptionError(f"kernel must be odd so that maps keep their size, found {kernel}")
    convolve: nn.Module
    if longitude == "cyclic":
        convolve = CyclicConv2d(fan_in, fan_out, kernel)
    else:
        convolve = nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2)
    return [convolve, *([nn.BatchNorm2d(fan_out)] if batch_norm else []), _activation(activation)]


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise OptionError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]()


def _check_cyclic(longitude: str, kernel: int, width: int) -> None:
    if longitude == "cyclic" and kernel // 2 > width:
        raise OptionError(
            f"a cyclic kernel of {kernel} is wider than the {width} longitudes it sees after pooling",
            fix="a smaller kernel, fewer levels, or longitude: zeros",
        )
