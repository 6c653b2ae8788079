"""Small networks that stand for the architectures of the field, with weights of a seed."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def seeded(network, seed=0, dtype=torch.float64):
    """The network in eval mode with random weights and batch norm statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        with torch.no_grad():
            if "running_var" in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim > 1:
                fan_in = tensor[0].numel()
                tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            elif not name.endswith("weight"):
                tensor.normal_(0, 0.1, generator=generator)
    return network.to(dtype).eval()


class Mlp(nn.Sequential):
    def __init__(self, inputs=12, classes=3, bias=True):
        super().__init__(
            nn.Flatten(), nn.Linear(inputs, 16, bias=bias), nn.ReLU(), nn.Linear(16, 8, bias=bias), nn.ReLU(),
            nn.Linear(8, classes, bias=bias),
        )  # fmt: skip


class ConvNet(nn.Module):
    """Convolutions with batch norm, in-place ReLU, both poolings and dropout."""

    def __init__(self, channels=2, classes=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.AvgPool2d(2), nn.Dropout(0.5),
        )  # fmt: skip
        self.head = nn.Linear(8 * 2 * 2, classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class UNet(nn.Module):
    """Encoder and decoder with skips by concatenation, one upsampled and one transposed step."""

    def __init__(self, channels=3):
        super().__init__()
        self.down1 = nn.Conv2d(channels, 4, 3, padding=1)
        self.down2 = nn.Conv2d(4, 6, 3, padding=1)
        self.bottom = nn.Conv2d(6, 8, 3, padding=1)
        self.up2 = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.merge2 = nn.Conv2d(12, 6, 3, padding=1)
        self.merge1 = nn.Conv2d(10, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        one = F.relu(self.down1(x))
        two = F.relu(self.down2(F.max_pool2d(one, 2)))
        bottom = F.elu(self.bottom(F.max_pool2d(two, 2)))
        two = F.relu(self.merge2(torch.cat([self.up2(bottom), two], dim=1)))
        up = F.interpolate(two, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(F.relu(self.merge1(torch.cat((up, one), 1))))


class Residual(nn.Module):
    """Residual sums written as ``+`` and ``+=``, and a global average."""

    def __init__(self, channels=2, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = self.act(x + self.conv1(x))
        y = self.conv2(x)
        y += x
        return self.head(self.act(y).mean(dim=(2, 3)))


class ConvNet3d(nn.Module):
    """Frames as the third axis, adaptive pooling at the end."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 3, 3, padding=1)
        self.conv2 = nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.conv1(x))
        x = F.leaky_relu(self.conv2(x), 0.1)
        return self.head(F.adaptive_avg_pool3d(x, 1).flatten(1))


def inputs(*shape, seed=0, dtype=torch.float64):
    """Inputs of both signs."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


NETWORKS = {
    "mlp": (Mlp, (4, 3, 2, 2), "predicted"),
    "conv net": (ConvNet, (4, 2, 8, 8), "predicted"),
    "u-net": (UNet, (3, 3, 8, 8), (0, 3, 4)),
    "residual": (Residual, (4, 2, 8, 8), "predicted"),
    "conv net 3d": (ConvNet3d, (3, 1, 3, 6, 6), "predicted"),
}
