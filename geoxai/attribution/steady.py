"""Whether a network gives the same output for the same input: random numbers and state make maps meaningless.

Checked once per network and shape of its input, before anything is explained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from geoxai.attribution.reading import PLAIN, Reading
from geoxai.errors import GeoxaiError

ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}  # of the largest output; else 0.02

# networks in use: the shapes and types of input for which they were checked
_KNOWN: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


def is_known(model: Callable, inputs: Sequence[Tensor], kind: str) -> bool:
    """Whether ``remember`` was called for this network and shape of inputs, however many samples they had."""
    try:
        return _key(inputs, kind) in _KNOWN.get(model, ())
    except TypeError:  # a network that cannot be a key
        return False


def remember(model: Callable, inputs: Sequence[Tensor], kind: str) -> None:
    """Note that the network was checked for inputs of this shape."""
    try:
        _KNOWN.setdefault(model, set()).add(_key(inputs, kind))
    except TypeError:
        return


def _key(inputs: Sequence[Tensor], kind: str) -> Any:
    return (kind, *((tuple(x.shape[1:]), x.dtype, x.device) for x in inputs))


def check_steady(model: Callable, inputs: Sequence[Tensor], output: Tensor, reading: Reading = PLAIN) -> None:
    """Run the network once more unless it was checked before. Raises GeoxaiError if it does not repeat ``output``."""
    if is_known(model, inputs, "steady"):
        return
    with torch.no_grad():
        again = reading.run(model, [x.clone() for x in inputs])
    if differ(output, again):
        with torch.no_grad():
            refuse_unsteady(model, lambda: reading.run(model, [x.clone() for x in inputs]))
    remember(model, inputs, "steady")


def differ(one: Tensor, other: Tensor, times: float = 1.0) -> bool:
    """Whether two outputs differ by more than rounding, or by more than a multiple of it."""
    if one.shape != other.shape:
        return True
    if not one.numel():
        return False
    allowed = times * ROUNDING.get(other.dtype, 0.02)
    one, other = (t.detach().to(torch.float64).nan_to_num(0.0) for t in (one, other))
    return bool((one - other).abs().amax() > allowed * one.abs().amax())


def refuse_unsteady(model: Callable, run: Callable[[], Tensor]) -> Tensor:
    """The output of the network, run twice. Raises GeoxaiError if the two differ, naming what has changed in it."""
    before = _versions(model)
    one = run()
    after = _versions(model)
    if not differ(one, run()):
        return one
    changed = [name for name, state in after.items() if before.get(name) != state]
    if changed:
        raise GeoxaiError(
            "the network's output changes from call to call: its forward pass changes "
            + ", ".join(map(repr, changed[:3]))
            + (" and others" if len(changed) > 3 else ""),
            fix="call model.eval(), and keep state that is updated out of the forward pass",
        )
    raise GeoxaiError(
        "the network gives a different output for the same input: it draws random numbers or keeps a state",
        fix="call model.eval(), and switch off dropout, noise and states kept between calls in its forward pass",
    )


def _versions(model: Callable) -> dict[str, tuple[int, int]]:
    """Marks by which to see whether a network's own tensors were written to or replaced, by name."""
    if not isinstance(model, torch.nn.Module):
        return {}
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: (id(t), 0 if t.is_inference() else t._version) for name, t in named}
