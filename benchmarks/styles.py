"""Small networks in the styles people use, with inputs: what ``benchmarks/rules.py`` compares rules on."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 12
IMAGE, TOKENS, MOVIE = (2, 12, 12), (6, 8), (4, 2, 8, 8)


class Residual(nn.Module):
    """``x + inner(x)``."""

    def __init__(self, *inner: nn.Module):
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate that is a function of their means."""

    def __init__(self, channels: int):
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.silu(self.down(x.mean((2, 3))))))[:, :, None, None]


class Attention(nn.Module):
    """Self-attention with a norm before it, as a residual."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


class Windows(nn.Module):
    """Attention inside windows of 3 x 3 patches, the second time on shifted ones."""

    def __init__(self, width: int, shift: int):
        super().__init__()
        self.attention, self.shift = Attention(width), shift

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = torch.roll(x, (-self.shift, -self.shift), (2, 3))
        x = x.reshape(n, c, h // 3, 3, w // 3, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 9, c)
        x = self.attention(x).reshape(n, h // 3, w // 3, 3, 3, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return torch.roll(x, (self.shift, self.shift), (2, 3))


class Tokens(nn.Module):
    """Patches as tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class UNet(nn.Module):
    """Down and up again with skips, group norms and SiLU; the mean of what it draws."""

    def __init__(self, norm: bool, act: Callable[[], nn.Module]):
        super().__init__()

        def block(taken: int, given: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(taken, given, 3, padding=1), nn.GroupNorm(2, given) if norm else nn.Identity(), act()
            )

        self.one, self.two, self.up = block(2, 8), block(8, WIDTH), block(WIDTH + 8, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = F.interpolate(self.two(F.avg_pool2d(one, 2)), scale_factor=2.0, mode="bilinear")
        return self.out(self.up(torch.cat([one, two], 1))).mean((2, 3))


class Recurrent(nn.Module):
    """The last state of a recurrent layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][:, -1])


class ConvLSTM(nn.Module):
    """One convolutional LSTM over the frames of a movie."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2 + 6, 24, 3, padding=1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 6, *x.shape[3:])
        for frame in x.unbind(1):
            i, f, g, o = self.conv(torch.cat([frame, h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h.mean((2, 3)))


def mlp(act: Callable[[], nn.Module], norm: Callable[[], nn.Module] = nn.Identity) -> nn.Module:
    size = TOKENS[0] * TOKENS[1]
    inner = [layer for _ in range(3) for layer in (nn.Linear(24, 24), norm(), act())]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 24), act(), *inner, nn.Linear(24, 2))


def cnn(act: Callable[[], nn.Module], norm: Callable[[], nn.Module] = nn.Identity, depth: int = 3) -> nn.Module:
    layers: list[nn.Module] = []
    for taken in (2, *[WIDTH] * (depth - 1)):
        layers += [nn.Conv2d(taken, WIDTH, 3, padding=1), norm(), act()]
    return nn.Sequential(*layers, *head())


def head() -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * WIDTH, 2)


def feed(width: int) -> nn.Module:
    return Residual(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def convnext() -> nn.Module:
    blocks = [
        Residual(
            nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH), ChannelNorm(WIDTH),
            nn.Conv2d(WIDTH, 2 * WIDTH, 1), nn.GELU(), nn.Conv2d(2 * WIDTH, WIDTH, 1),
        )
        for _ in range(3)
    ]  # fmt: skip
    return nn.Sequential(nn.Conv2d(2, WIDTH, 2, 2), ChannelNorm(WIDTH), *blocks, *head())


def preactivated(
    act: Callable[[], nn.Module], post: Callable[[], nn.Module] = nn.Identity, depth: int = 3
) -> nn.Module:
    blocks: list[nn.Module] = []
    for _ in range(depth):
        inner = [nn.BatchNorm2d(WIDTH), act(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)]
        blocks += [Residual(*inner, nn.BatchNorm2d(WIDTH), act(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)), post()]
    return nn.Sequential(nn.Conv2d(2, WIDTH, 3, padding=1), *blocks, *head())


def squeezed() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(2, WIDTH, 3, padding=1), nn.SiLU()]
    for _ in range(2):
        layers.append(Residual(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU(), SqueezeExcite(WIDTH)))
    return nn.Sequential(*layers, *head())


def vit() -> nn.Module:
    blocks = [layer for _ in range(3) for layer in (Attention(WIDTH), feed(WIDTH))]
    last = nn.Sequential(nn.LayerNorm(WIDTH), nn.Flatten(), nn.Linear(16 * WIDTH, 2))
    return nn.Sequential(nn.Conv2d(2, WIDTH, 3, 3), Tokens(), *blocks, last)


def swin() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, WIDTH, 2, 2), Windows(WIDTH, 0), Windows(WIDTH, 1), ChannelNorm(WIDTH), *head())


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(TOKENS[1], 2, 24, activation="gelu", batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 3), nn.Flatten(), nn.Linear(TOKENS[0] * TOKENS[1], 2))


def batch_norm() -> nn.Module:
    return nn.BatchNorm2d(WIDTH)


def group_norm() -> nn.Module:
    return nn.GroupNorm(3, WIDTH)


STYLES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), TOKENS),
    "ReLU MLP": (lambda: mlp(nn.ReLU), TOKENS),
    "ReLU CNN, batch norm": (lambda: cnn(nn.ReLU, batch_norm), IMAGE),
    "ResNet (ReLU after sums)": (lambda: preactivated(nn.ReLU, nn.ReLU), IMAGE),
    "U-Net, ReLU": (lambda: UNet(False, nn.ReLU), IMAGE),
    "ResNet, pre-activation": (lambda: preactivated(nn.ReLU), IMAGE),
    "leaky ReLU MLP": (lambda: mlp(nn.LeakyReLU), TOKENS),
    "leaky ReLU CNN": (lambda: cnn(nn.LeakyReLU, batch_norm), IMAGE),
    "ELU CNN": (lambda: cnn(nn.ELU), IMAGE),
    "tanh MLP": (lambda: mlp(nn.Tanh), TOKENS),
    "GELU MLP": (lambda: mlp(nn.GELU), TOKENS),
    "GELU MLP, layer norm": (lambda: mlp(nn.GELU, lambda: nn.LayerNorm(24)), TOKENS),
    "SiLU CNN": (lambda: cnn(nn.SiLU), IMAGE),
    "SiLU CNN, group norm": (lambda: cnn(nn.SiLU, group_norm), IMAGE),
    "ResNet, SiLU, pre-activation": (lambda: preactivated(nn.SiLU), IMAGE),
    "SiLU CNN, group norm, 12 layers": (lambda: cnn(nn.SiLU, group_norm, 12), IMAGE),
    "ResNet, SiLU, pre-activation, 12 blocks": (lambda: preactivated(nn.SiLU, depth=12), IMAGE),
    "squeeze-excite": (squeezed, IMAGE),
    "U-Net, SiLU, group norm": (lambda: UNet(True, nn.SiLU), IMAGE),
    "ConvNeXt-like": (convnext, IMAGE),
    "ViT": (vit, IMAGE),
    "Swin-like": (swin, IMAGE),
    "transformer": (transformer, TOKENS),
    "LSTM": (lambda: Recurrent(nn.LSTM(TOKENS[1], WIDTH, batch_first=True)), TOKENS),
    "GRU": (lambda: Recurrent(nn.GRU(TOKENS[1], WIDTH, batch_first=True)), TOKENS),
    "ConvLSTM": (ConvLSTM, MOVIE),
}
