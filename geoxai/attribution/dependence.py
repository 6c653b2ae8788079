"""Whether the output of a network depends on one of its inputs at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from geoxai.attribution.reading import Reading


def depends(model: Callable, inputs: Sequence[Tensor], number: int, reading: Reading) -> bool:
    """Whether any output for these samples has a gradient with respect to the input of this number.

    Relevance cannot tell: rules for positive contributions give none to an input whose contributions are negative.
    """
    with torch.enable_grad():
        leaf = inputs[number].detach().requires_grad_()
        # copies, which networks may change in place
        output = reading.run(model, [(leaf if i == number else x).clone() for i, x in enumerate(inputs)])
        if not output.requires_grad:
            return False
        # squares, since the sum of a softmax is constant
        (gradient,) = torch.autograd.grad(output.square().sum(), leaf, allow_unused=True)
    return gradient is not None and bool(gradient.any())
