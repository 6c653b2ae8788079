"""Train a network, so that a training killed midway ends with the same weights as one that was not.

Everything random (initial weights, order of batches) comes from one generator per network; torch's global seed is
neither used nor moved. A checkpoint holds that generator, the optimiser and the curves, and says what it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from geoxai.errors import OptionError
from geoxai.models.architectures import weighted_layers
from geoxai.models.checkpoints import Checkpoint, Curves, State, identity
from geoxai.models.divergence import refuse_divergence
from geoxai.names import unknown

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
LAYER_NAMES = (*ORDINALS, "last", "all")


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    l2
        Factor per layer name (``first``, ``second``, ..., ``last``, ``all`` for those not named): ``l2 * sum(w^2)`` of
        the layer's weights, not its biases, is added to the loss. ``weight_decay`` of torch's SGD is twice that.
    class_weights
        Weight of each class in the loss; None leaves them equal.
    patience
        Stop when the validation loss has not fallen by more than ``min_delta`` for this many epochs, and keep the best
        weights. None trains all epochs and keeps the last weights.
    checkpoint_every
        Epochs between checkpoints.
    """

    epochs: int = 100
    batch_size: int = 32
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = True
    l2: Mapping[str, float] = field(default_factory=dict)
    class_weights: tuple[float, ...] | None = None
    patience: int | None = None
    min_delta: float = 0.0
    checkpoint_every: int = 10


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs as the network takes them, float32, sample first, and the targets it should give.

    Targets are class indices (int64), values or images (float32).
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: str) -> Examples:
        return Examples(self.inputs.to(device), self.targets.to(device))


def train(
    module: nn.Module,
    training: Examples,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    task: str,
    validation: Examples | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Curves:
    """Train ``module`` in place, from the last checkpoint of this training if there is one.

    Parameters
    ----------
    module
        Network with its initial weights.
    generator
        CPU generator that orders the batches.
    task
        ``classification`` (cross-entropy; binary for one logit), ``regression`` or ``image`` (mean squared error over
        targets that are not NaN).
    checkpoint
        File for checkpoints; written completely or not at all.
    on_epoch
        Called with the epochs done and the training loss after each epoch and its checkpoint.

    Raises
    ------
    OptionError
        ``patience`` without validation samples, or an l2 for a layer that the network lacks.
    GeoxaiError
        The loss is no longer finite, or grows without bound; see ``divergence``.
    """
    if recipe.patience is not None and validation is None:
        raise OptionError(
            "early stopping needs validation samples and there are none",
            fix="give the samples a validation split cut from the training years, or leave early_stopping out",
            option="early_stopping",
        )
    penalties = penalised_weights(module, recipe.l2)
    data = [tensor for one in (training, validation) if one is not None for tensor in (one.inputs, one.targets)]
    settings = replace(recipe, checkpoint_every=0)  # how often one is written does not change what it holds
    kept = Checkpoint(checkpoint, identity(module, data, generator, (task, settings)))
    module.to(device).train()
    loss = _loss(task, recipe.class_weights, device)
    state = State(module, _optimiser(module, recipe), generator, Curves(), math.inf)
    kept.restore(state)
    training, held_out = training.to(device), None if validation is None else validation.to(device)
    while state.curves.epochs < recipe.epochs and not _stalled(state.curves, recipe):
        mean = _epoch(state, training, recipe.batch_size, loss, penalties)
        penalty = float(_penalty(penalties).item()) if penalties else 0.0
        held = _evaluate(module, held_out, recipe.batch_size, loss)
        losses = {"training": mean} | ({} if held_out is None else {"validation": held})
        first = state.curves.training_loss[0] if state.curves.epochs else mean
        refuse_divergence(state.curves.epochs + 1, losses, first, training.inputs, training.targets)
        _advance(state, mean, penalty, held, recipe)
        if state.curves.epochs % recipe.checkpoint_every == 0:
            kept.save(state)
        if on_epoch is not None:
            on_epoch(state.curves.epochs, mean)
    if state.best_weights is not None:
        module.load_state_dict(state.best_weights)
    module.to("cpu").eval()
    return state.curves


def penalised_weights(module: nn.Module, l2: Mapping[str, float]) -> list[tuple[Tensor, float]]:
    """The weights of each layer that an l2 names, and its factor.

    A position takes precedence over ``last``, and ``last`` over ``all``.
    """
    layers = [layer for _, layer in weighted_layers(module)]
    for name in l2:
        if name not in LAYER_NAMES:
            raise OptionError(unknown("layer", name, LAYER_NAMES), option="l2")
        if name in ORDINALS and ORDINALS.index(name) >= len(layers):
            raise OptionError(f"l2 names the {name} layer, but the network has {len(layers)}", option=f"l2.{name}")
    found = []
    for i, layer in enumerate(layers):
        names = [ORDINALS[i]] if i < len(ORDINALS) else []
        names += ["last"] * (i == len(layers) - 1) + ["all"]
        factor = next((float(l2[name]) for name in names if name in l2), 0.0)
        if factor:
            found.append((layer.weight, factor))
    return found


@dataclass(frozen=True, eq=False)
class TargetScale:
    """Mean and standard deviation of training targets, one of each per target channel, float64."""

    mean: Tensor
    sd: Tensor

    def shaped(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1,) if targets.ndim == 1 else (1, -1, 1, 1)
        return self.mean.reshape(shape), self.sd.reshape(shape)


def target_scale(targets: Tensor) -> TargetScale:
    """Scale of targets ``(sample)`` or ``(sample, target_channel, lat, lon)``.

    NaN is left out; a constant target has sd 1.
    """
    values = targets.double()
    columns = values.reshape(1, -1) if values.ndim == 1 else values.transpose(0, 1).flatten(1)
    known = torch.isfinite(columns)
    count = known.sum(dim=1).clamp(min=1)
    mean = torch.where(known, columns, 0.0).sum(dim=1) / count
    about = torch.where(known, columns - mean[:, None], 0.0)
    sd = (about.square().sum(dim=1) / count).sqrt()
    return TargetScale(mean, torch.where(sd > 0, sd, 1.0))


def standardised(examples: Examples, scale: TargetScale) -> Examples:
    """The examples with targets of mean 0 and standard deviation 1."""
    mean, sd = scale.shaped(examples.targets)
    return Examples(examples.inputs, ((examples.targets.double() - mean) / sd).float())


def rescale_outputs(module: nn.Module, scale: TargetScale) -> None:
    """Fold ``sd * y + mean`` into the last linear map.

    Outputs, and relevance with them, are then in target units.
    """
    _, layer = weighted_layers(module)[-1]
    assert layer.bias is not None
    each = layer.weight.shape[0] // len(scale.mean)
    mean, sd = (values.repeat_interleave(each) for values in (scale.mean, scale.sd))
    with torch.no_grad():
        weight = layer.weight.double() * sd.reshape(-1, *[1] * (layer.weight.ndim - 1))
        layer.weight.copy_(weight)
        layer.bias.copy_(layer.bias.double() * sd + mean)


def _epoch(
    state: State,
    examples: Examples,
    batch_size: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    penalties: list[tuple[Tensor, float]],
) -> float:
    """One pass over the training samples in random order; their mean loss while the weights changed."""
    order = torch.randperm(len(examples), generator=state.generator).to(examples.inputs.device)
    total = 0.0
    for batch in order.split(batch_size):
        state.optimiser.zero_grad(set_to_none=True)
        error = loss(state.module(examples.inputs[batch]), examples.targets[batch])
        (error + _penalty(penalties) if penalties else error).backward()
        state.optimiser.step()
        total += float(error.item()) * len(batch)
    return total / len(examples)


def _penalty(penalties: list[tuple[Tensor, float]]) -> Tensor:
    return torch.stack([factor * weight.square().sum() for weight, factor in penalties]).sum()


def _evaluate(
    module: nn.Module, examples: Examples | None, batch_size: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    if examples is None:
        return math.nan
    module.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in zip(examples.inputs.split(batch_size), examples.targets.split(batch_size)):
            total += float(loss(module(x), y).item()) * len(x)
    module.train()
    return total / len(examples)


def _advance(state: State, mean: float, penalty: float, validation: float, recipe: Recipe) -> None:
    """Enter an epoch into the state, and keep its weights where early stopping may come back to them."""
    curves = state.curves
    state.curves = replace(
        curves,
        training_loss=(*curves.training_loss, mean),
        penalty=(*curves.penalty, penalty),
        validation_loss=(*curves.validation_loss, validation),
    )
    if recipe.patience is None:
        state.curves = replace(state.curves, best_epoch=state.curves.epochs)
    elif validation < state.best_loss - recipe.min_delta or state.best_weights is None:
        state.best_loss = validation
        state.best_weights = {name: value.detach().clone() for name, value in state.module.state_dict().items()}
        state.curves = replace(state.curves, best_epoch=state.curves.epochs)


def _stalled(curves: Curves, recipe: Recipe) -> bool:
    return recipe.patience is not None and curves.epochs - curves.best_epoch >= recipe.patience > 0


def _loss(task: str, class_weights: tuple[float, ...] | None, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    weights = None if class_weights is None else torch.tensor(class_weights, device=device)

    def classification(output: Tensor, target: Tensor) -> Tensor:
        if output.shape[1] > 1:
            return nn.functional.cross_entropy(output, target, weight=weights)
        each = None if weights is None else weights[target]
        error = nn.functional.binary_cross_entropy_with_logits(
            output[:, 0], target.to(output.dtype), each, reduction="sum"
        )
        return error / (len(target) if each is None else each.sum())

    def squares(output: Tensor, target: Tensor) -> Tensor:
        known = torch.isfinite(target)
        difference = torch.where(known, output.reshape(target.shape) - target, 0.0)
        return difference.square().sum() / known.sum().clamp(min=1)

    return classification if task == "classification" else squares


def _optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "adam":
        return torch.optim.Adam(module.parameters(), lr=recipe.learning_rate)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            module.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
        )
    raise OptionError(unknown("optimiser", recipe.optimiser, ("adam", "sgd")), option="optimiser")
