"""Recurrent layers and cells, which torch runs as one call, taken apart step by step (Arras et al. 2017, 2019).

Gates are held constant without relevance. The candidate of a step is one linear map of its input and hidden state,
so that a rule sees the whole pre-activation with both biases; cell states are sums of two products with gates. A state
that does not depend on the input, such as the first, adds a constant: a bias, behind the reset gate of a GRU as
elsewhere (signal-take-all: the gate before it takes nothing). Cells written by hand give the same maps (``joining``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.dense import Dense
from geoxai.attribution.lrp.further_maps import RecurrentStep
from geoxai.attribution.lrp.graph import Refusal
from geoxai.attribution.lrp.maps import LinearMap
from geoxai.attribution.lrp.nodes import record_map
from geoxai.attribution.lrp.operators import ALONE, Call, operator

PACKED = "its sequences are packed", "give the layer padded sequences and pick the last valid step of each"

State = tuple[Tensor, ...]
Cell = Callable[[Call, Tensor, State, Sequence[Any]], State]


@operator("lstm gru rnn_tanh rnn_relu")
def recurrent_layers(call: Call) -> Any:
    """Layers of LSTM, GRU or plain recurrent units over a sequence, in one direction or both."""

    def parameters(
        input: Tensor, hx: Any, params: Any, has_biases: Any, num_layers: Any, dropout: Any, train: Any,
        bidirectional: Any, batch_first: Any = None, *_: Any,
    ) -> tuple:  # fmt: skip
        return input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first

    x, states, weights, biases, layers, dropout, train, both, batch_first = call.bind(parameters)
    if isinstance(states, Tensor) and isinstance(weights, tuple | list) and not isinstance(biases, bool):
        raise Refusal(*PACKED)
    if train and dropout > 0:
        raise Refusal("dropout is in training mode", "call model.eval() first")
    cell = CELLS[call.name]
    time = 1 if batch_first else 0
    before = [call.through(torch.unbind, s, 0) for s in (states if call.name == "lstm" else (states,))]
    directions = 2 if both else 1
    each = len(weights) // (layers * directions)
    after: list[State] = []
    for layer in range(layers):
        steps = call.through(torch.unbind, x, time)
        found = []
        for direction in range(directions):
            place = layer * directions + direction
            own = _with_biases(weights[place * each : (place + 1) * each], biases)
            state: State = tuple(s[place] for s in before)
            outputs = []
            for step in reversed(steps) if direction else steps:
                state = cell(call, step, state, own)
                outputs.append(state[0])
            found.append(call.through(torch.stack, outputs[::-1] if direction else outputs, time))
            after.append(state)
        x = found[0] if directions == 1 else call.through(torch.cat, found, -1)
    return (x, *(call.through(torch.stack, list(ends), 0) for ends in zip(*after)))


@operator("_pack_padded_sequence _pad_packed_sequence")
def packed_sequence(call: Call) -> Any:
    """Sequences of different lengths on one axis: not followed."""
    raise Refusal(*PACKED)


@operator("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
def recurrent_cell(call: Call) -> Any:
    """One step."""

    def parameters(input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> tuple:
        return input, hx, (w_ih, w_hh, b_ih, b_hh)

    x, state, weights = call.bind(parameters)
    states = tuple(state) if call.name == "lstm_cell" else (state,)
    after = CELLS[call.name.removesuffix("_cell")](call, x, states, weights)
    return after if call.name == "lstm_cell" else after[0]


def _with_biases(weights: Sequence[Tensor], biases: bool) -> Sequence[Any]:
    """Weights and biases of one layer as ``w_ih, w_hh, b_ih, b_hh[, w_hr]``."""
    return weights if biases else (*weights[:2], None, None, *weights[2:])


def _lstm(call: Call, x: Tensor, state: State, weights: Sequence[Any]) -> State:
    """``c' = f c + i g``, ``h' = o tanh(c')``; a fifth weight projects ``h'``."""
    h, c = state
    w_ih, w_hh, b_ih, b_hh, *projection = weights
    size = w_hh.shape[0] // 4
    sums = F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)
    i, f, o = (sums[..., k * size : (k + 1) * size].sigmoid() for k in (0, 1, 3))
    part = slice(2 * size, 3 * size)
    g = call.through(torch.tanh, _candidate(call, x, h, weights, part, None, sums[..., part].clone()))
    new = _plus(call, call.through(torch.mul, c, f), call.through(torch.mul, g, i))
    out = call.through(torch.mul, call.through(torch.tanh, new), o)
    return (call.through(F.linear, out, projection[0]) if projection else out), new


def _gru(call: Call, x: Tensor, state: State, weights: Sequence[Any]) -> State:
    """``h' = (1 - z) n + z h`` with ``n = tanh(W x + b + r (U h + c))``."""
    (h,) = state
    w_ih, w_hh, b_ih, b_hh = weights
    size = w_hh.shape[0] // 3
    of_x, of_h = F.linear(x, w_ih, b_ih), F.linear(h, w_hh, b_hh)
    r, z = ((of_x + of_h)[..., k * size : (k + 1) * size].sigmoid() for k in (0, 1))
    part = slice(2 * size, 3 * size)
    n = call.through(torch.tanh, _candidate(call, x, h, weights, part, r, of_x[..., part] + r * of_h[..., part]))
    return (_plus(call, call.through(torch.mul, h, z), call.through(torch.mul, n, 1 - z)),)


def _plain(activation: Callable) -> Cell:
    def step(call: Call, x: Tensor, state: State, weights: Sequence[Any]) -> State:
        (h,) = state
        w_ih, w_hh, b_ih, b_hh = weights
        z = F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)
        return (call.through(activation, _candidate(call, x, h, weights, slice(None), None, z)),)

    return step


CELLS: dict[str, Cell] = {
    "lstm": _lstm, "gru": _gru, "rnn_tanh": _plain(torch.tanh), "rnn_relu": _plain(torch.relu),
}  # fmt: skip


def _candidate(
    call: Call, x: Tensor, h: Tensor, weights: Sequence[Any], part: slice, gate: Tensor | None, z: Tensor
) -> Tensor:
    """The pre-activation ``z`` of a step's candidate as one linear map of ``[x, h]``."""
    if any(isinstance(w, Tensor) and call.value(w) for w in weights):
        raise Refusal("its weights depend on the input", "only recurrent layers with constant weights can be crossed")
    (w_ih, w_hh), (b_ih, b_hh) = (w[part] for w in weights[:2]), (None if b is None else b[part] for b in weights[2:4])
    bias = None if b_ih is None or b_hh is None else b_ih + (b_hh if gate is None else gate * b_hh)
    step: LinearMap
    if call.value(h) is None:  # a first state adds a constant
        of_h = F.linear(h, w_hh)
        of_h = of_h if gate is None else gate * of_h
        bias = of_h if bias is None else bias + of_h
        signal, step = x, Dense(w_ih, bias, call.tape.cache)
    else:
        signal, step = call.through(torch.cat, (x, h), -1), RecurrentStep(w_ih, w_hh, gate, bias, call.tape.cache)
    value = call.value(signal)
    if value is None:
        return z
    if value.sample.shape[-1] > 1:
        raise Refusal("it mixes samples, so there is no relevance of one sample", f"keep samples apart, {ALONE}")
    z = record_map(call.tape, call.name, "linear", signal, step, z, value.sample)
    call.tape.nodes[-1].recurs = True
    return z


def _plus(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """``a + b``; a state of zeros, as sequences start with, adds nothing."""
    return b if call.value(a) is None and not bool(a.any()) else call.through(torch.add, a, b)
