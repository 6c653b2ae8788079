"""Networks like those used in the field, for benchmarks: seeded random weights, inputs that resemble anomalies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def vgg16(width: int = 64, side: int = 224) -> nn.Sequential:
    """VGG16's layers (Simonyan and Zisserman 2014); ``width`` scales all of them."""
    layers: list[nn.Module] = []
    channels = 3
    for step in (1, 1, "pool", 2, 2, "pool", 4, 4, 4, "pool", 8, 8, 8, "pool", 8, 8, 8, "pool"):
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, step * width, 3, padding=1), nn.ReLU()]
            channels = step * width
    cells = channels * (side // 32) ** 2
    dense = [nn.Linear(cells, 64 * width), nn.ReLU(), nn.Linear(64 * width, 64 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(64 * width, 1000))


def gremlin() -> nn.Sequential:
    """The layers of GREMLIN (Hilburn et al. 2021): satellite channels to radar reflectivity, image to image."""
    layers: list[nn.Module] = []
    for channels in (4, 32, 32):
        layers += [nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)]
    return nn.Sequential(*layers, nn.Conv2d(32, 1, 1))


def mlp(inputs: int = 16020) -> nn.Sequential:
    """The dense network of Toms et al. 2020 on a 2 degree grid."""
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


class Block(nn.Module):
    """Two convolutions with batch norm around a skip."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Identity() if inputs == outputs and stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


def residual() -> nn.Sequential:
    """A residual classifier of six blocks."""
    stages = [(32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    blocks = [Block(*stage) for stage in stages]
    stem = [nn.Conv2d(4, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class UNet(nn.Module):
    """Encoder and decoder of three levels with skips by concatenation, image to image."""

    def __init__(self) -> None:
        super().__init__()

        def double(inputs: int, outputs: int) -> nn.Sequential:
            first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
            return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

        self.down1, self.down2, self.bottom = double(4, 16), double(16, 32), double(32, 64)
        self.up2, self.merge2 = nn.ConvTranspose2d(64, 32, 2, stride=2), double(64, 32)
        self.up1, self.merge1 = nn.ConvTranspose2d(32, 16, 2, stride=2), double(32, 16)
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        three = self.bottom(F.max_pool2d(two, 2))
        two = self.merge2(torch.cat([self.up2(three), two], 1))
        return self.out(self.merge1(torch.cat([self.up1(two), one], 1)))


def convolution3d() -> nn.Sequential:
    """A classifier of volumes (level, lat, lon)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((4, 16), (16, 32), (32, 32)):
        layers += [nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 5))


@dataclass(frozen=True)
class Case:
    """A network and the shape of its input. Output 0 of each sample is explained or, if ``dense`` gives the shape
    of one sample's output, all outputs.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    dense: tuple[int, ...] = ()

    def build(self, dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[nn.Module, Tensor]:
        """The network in eval mode and an input of mixed signs; without ``bias`` all biases are 0."""
        torch.manual_seed(0)
        network = self.make()
        with torch.no_grad():
            for name, tensor in network.named_parameters():
                if tensor.ndim > 1:
                    nn.init.kaiming_uniform_(tensor, nonlinearity="relu")
                elif name.endswith("bias"):
                    tensor.uniform_(-0.05, 0.05).mul_(bias)
        return network.to(dtype).eval().requires_grad_(False), torch.randn(self.shape, dtype=dtype)

    def coefficients(self, output: Tensor) -> Tensor:
        """The explained outputs: all, or output 0 of each sample."""
        if self.dense:
            return torch.ones_like(output)
        return torch.zeros_like(output).index_fill_(1, torch.tensor([0], device=output.device), 1.0)


CASES = {
    "vgg16 8x3x224x224": Case(vgg16, (8, 3, 224, 224)),
    "gremlin 16x4x256x256": Case(gremlin, (16, 4, 256, 256), (1, 256, 256)),
    "mlp 624x16020": Case(mlp, (624, 16020)),
    "residual 16x4x96x96": Case(residual, (16, 4, 96, 96)),
    "unet 8x4x128x128": Case(UNet, (8, 4, 128, 128), (1, 128, 128)),
    "conv3d 8x4x16x48x48": Case(convolution3d, (8, 4, 16, 48, 48)),
}
QUICK = {
    "vgg16/8 2x3x64x64": Case(lambda: vgg16(8, 64), (2, 3, 64, 64)),
    "gremlin 2x4x64x64": Case(gremlin, (2, 4, 64, 64), (1, 64, 64)),
    "mlp 32x2000": Case(lambda: mlp(2000), (32, 2000)),
    "residual 2x4x32x32": Case(residual, (2, 4, 32, 32)),
    "unet 2x4x32x32": Case(UNet, (2, 4, 32, 32), (1, 32, 32)),
    "conv3d 2x4x8x16x16": Case(convolution3d, (2, 4, 8, 16, 16)),
}
