"""Checkpoints of a training: complete or absent, and only resumed by the training they belong to."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoxai.models.networks import digest_of
from geoxai.storage.files import replaced

log = logging.getLogger("geoxai.train")

_DIGEST_BYTES = 32  # at the end of the file: torch itself does not notice a flipped bit


@dataclass(frozen=True)
class Curves:
    """One number per epoch: mean training loss while the weights moved; l2 penalty and validation loss at its end.

    Losses are without the penalty. ``best_epoch`` counts from 1: the epoch whose weights were kept.
    """

    training_loss: tuple[float, ...] = ()
    penalty: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()
    best_epoch: int = 0

    @property
    def epochs(self) -> int:
        return len(self.training_loss)


@dataclass
class State:
    """A training under way: what must be kept so that it can continue elsewhere with the same bits."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    curves: Curves
    best_loss: float
    best_weights: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file and the ``identity`` of the training it is for; without a path nothing is kept."""

    path: Path | None
    belongs_to: str

    def save(self, state: State) -> None:
        if self.path is None:
            return
        kept = {
            "belongs_to": self.belongs_to,
            "curves": asdict(state.curves),
            "best_loss": state.best_loss,
            "best_weights": state.best_weights,
            "weights": state.module.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "generator": state.generator.get_state(),
        }
        stream = BytesIO()
        torch.save(kept, stream)
        content = stream.getvalue()
        with replaced(self.path) as part:
            part.write_bytes(content + _digest(content))

    def restore(self, state: State) -> None:
        """Bring a training to the state of the checkpoint, if there is one and it belongs to this training.

        One that is damaged, or of another training, is ignored with a warning: the training starts again.
        """
        if self.path is None or not self.path.is_file():
            return
        whole = self.path.read_bytes()
        content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
        if _digest(content) != digest:
            log.warning("the checkpoint %s is damaged: the training starts again from the beginning", self.path)
            return
        found = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        if found["belongs_to"] != self.belongs_to:
            log.warning("the checkpoint %s is of another training: this one starts from the beginning", self.path)
            return
        state.module.load_state_dict(found["weights"])
        state.optimiser.load_state_dict(found["optimiser"])
        state.generator.set_state(found["generator"])
        stored = found["curves"]
        state.curves = Curves(
            tuple(stored["training_loss"]),
            tuple(stored["penalty"]),
            tuple(stored["validation_loss"]),
            stored["best_epoch"],
        )
        state.best_loss, state.best_weights = found["best_loss"], found["best_weights"]


def identity(module: nn.Module, data: Iterable[Tensor], generator: torch.Generator, settings: Any) -> str:
    """What defines a training: initial weights, data, order of batches, settings (as text), version of torch."""
    digest = hashlib.sha256(f"{digest_of([module])} {settings} {torch.__version__}".encode())
    digest.update(generator.get_state().numpy().tobytes())
    for tensor in data:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def save_whole(value: Any, path: Path) -> None:
    """``torch.save``, complete or not at all."""
    with replaced(path) as part, part.open("wb") as handle:
        torch.save(value, handle)
