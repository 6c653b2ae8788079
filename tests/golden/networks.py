"""Small networks of many operations, whose relevance is among the golden results."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def set_waves(module: nn.Module) -> nn.Module:
    """Give a module weights that are the same on every machine: sine waves, small ones for biases."""
    with torch.no_grad():
        for number, (name, tensor) in enumerate(module.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * (2.1 + 0.37 * number) + number)
            if name.endswith("running_var"):
                values = 1.2 + wave
            elif tensor.ndim < 2:  # biases, and the scales of norms
                values = (0.1 if "bias" in name or "mean" in name else 1.0) * (1 + 0.3 * wave) * torch.sign(wave)
            else:
                values = 1.5 * wave / tensor[0].numel() ** 0.5
            tensor.copy_(values.reshape(tensor.shape))
    return module.eval()


class Residual(nn.Module):
    """Convolutions with norms, GELU and SiLU, a sum beside them, a gate on the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm, self.gate, self.last = nn.GroupNorm(2, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.gelu(self.first(x))
        y = y + nn.functional.silu(self.norm(self.second(y)))
        gate = torch.sigmoid(self.gate(y.mean((2, 3))))
        return self.last((y * gate[..., None, None]).amax(3).mean(2))


class Attention(nn.Module):
    """One layer of a transformer on four tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 8)
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.reshape(-1, 4, 12))
        z = self.norm(y)
        y = y + self.attention(z, z, z, need_weights=False)[0]
        return self.last(y.mean(1))


class Memory(nn.Module):
    """A sequence through an LSTM and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(12, 6, batch_first=True), nn.GRU(6, 5, batch_first=True)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x.reshape(-1, 4, 12))
        y, _ = self.gru(torch.relu(y))
        return self.last(y[:, -1])


class Up(nn.Module):
    """Down and up again: pooling, transposed convolution, interpolation, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 2, 2)
        self.last = nn.Linear(168, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.first(x))
        coarse = nn.functional.interpolate(nn.functional.max_pool2d(y, 2), scale_factor=2.0, mode="bilinear")
        joined = torch.cat([y, self.up(nn.functional.avg_pool2d(y, 2))], 1) + coarse.mean((1, 2, 3), keepdim=True)
        return self.last(torch.flatten(joined, 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "attention": Attention,
    "memory": Memory,
    "up": Up,
}
RULES = ("alpha1_beta0", "alpha2_beta1", "epsilon", "epsilon_plus", "epsilon_gamma", "z_plus", "w_square", "attnlrp")
METHODS = ("gradient", "gradient_squared", "gradient_x_input")


def inputs() -> Tensor:
    """Five samples (sample, channel, lat, lon)."""
    return torch.sin(torch.arange(5 * 2 * 4 * 6, dtype=torch.float32) * 1.7).reshape(5, 2, 4, 6) + 0.2
