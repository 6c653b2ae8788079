"""Plain derivatives of the explained value: gradient, squared gradient, gradient x input. They have no account."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geoxai.attribution.closing import Closing
from geoxai.attribution.reading import PLAIN, Reading
from geoxai.attribution.targets import Output
from geoxai.errors import GeoxaiError

TRANSFORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradient": lambda gradient, x: gradient,
    "gradient_squared": lambda gradient, x: gradient.square(),
    "gradient_x_input": lambda gradient, x: gradient * x,
}


def forward(
    model: Callable, inputs: tuple[Tensor, ...], start: str, reading: Reading = PLAIN
) -> tuple[list[Tensor], Output]:
    """Run the network on copies of its inputs that require grad; returns these and the output."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    copies = [leaf.clone() for leaf in leaves]  # a network may change its input in place, but not a leaf
    mode = Closing()
    with torch.enable_grad(), mode:
        raw = reading.run(model, copies)
    closing = mode.before(raw) if start == "logit" else None
    output = Output(raw, raw) if closing is None else Output(closing[1], raw, closing[0])
    if not output.values.requires_grad:
        raise GeoxaiError(
            "the network's output has no gradient",
            fix="remove no_grad and detach from its forward: gradients do not pass through them",
        )
    return leaves, output


def derivative(leaves: list[Tensor], output: Tensor, coefficients: Tensor) -> list[Tensor]:
    """Derivative of ``sum(coefficients * output)`` with respect to each input; no gradients of weights are computed."""
    try:
        gradients = torch.autograd.grad(output, leaves, coefficients, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise GeoxaiError(
            "the network overwrites values in place that its gradient needs",
            fix="write them out of place",
        ) from error
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients)]
