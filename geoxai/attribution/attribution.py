"""One call for every method: which inputs led to the network's output?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoxai.attribution import gradients
from geoxai.attribution.checks import (
    check_depth,
    check_finite,
    check_inputs,
    check_labels,
    check_model,
    check_names,
    check_options,
    check_output,
    check_precision,
    check_values,
)
from geoxai.attribution.fields.windowed import PER_VALUE, explain_windows
from geoxai.attribution.fields.windows import Windows, find_windows, picks_of
from geoxai.attribution.lrp import engine, parse_rules
from geoxai.attribution.lrp.engine import RuleRow
from geoxai.attribution.lrp.layers import layer_output
from geoxai.attribution.lrp.ledger import Ledger
from geoxai.attribution.lrp.presets import RuleList
from geoxai.attribution.lrp.weights import WeightCache
from geoxai.attribution.networks import as_callable, blamed
from geoxai.attribution.reading import PLAIN, Reading
from geoxai.attribution.reference import Reference, reference_of
from geoxai.attribution.result import Attribution, approximate, first_samples, joined
from geoxai.attribution.steady import check_steady
from geoxai.attribution.targets import (
    Objective,
    Output,
    Question,
    coefficients_of,
    confidence,
    predicted_class,
)
from geoxai.errors import OptionError
from geoxai.names import unknown

log = logging.getLogger("geoxai.attribution")


@torch.inference_mode(False)  # whatever the caller is in
def attribute(
    model: Callable,
    x: Tensor | np.ndarray | tuple,
    *,
    method: str = "lrp",
    rules: Any = "auto",
    target: Any = "predicted",
    score: str = "contrast",
    start: str = "logit",
    labels: Any = None,
    classes: Sequence[str] | None = None,
    batch_size: int | None = None,
    fixed_batch: bool = False,
    output: int | str | tuple[int | str, ...] | None = None,
    sample_axis: int = 0,
    window: str = "auto",
    reference: Any = None,
    layers: Sequence[str] = (),
    flat_below: str | None = None,
    precision: str = "full",
    **options: Any,
) -> Attribution:
    """Explain a network's output by its input.

    Parameters
    ----------
    model
        A ``torch.nn.Module`` in eval mode, an exported program or its module, a Keras model on its torch backend, or
        any function of torch operations.
    x
        Input (N, ...) of floats, samples first; a tuple for a network of several inputs. Weights are used as they are:
        ``x`` must be on their device.
    method
        ``lrp``, ``gradient``, ``gradient_squared`` or ``gradient_x_input``.
    rules
        For lrp: a preset or rule name, or a list of lines (see ``lrp.parse_rules``). ``auto`` is ``alpha1_beta0`` for
        networks whose activations cannot be negative, such as those with ReLU, and ``epsilon`` for all others; what it
        chose is in ``Attribution.preset`` and in the table. ``options`` such as ``eps=1e-4``
        or ``bias="ignore"`` set those of a named preset.
    target
        An index or index tuple into one sample's output; a boolean mask or weights of its shape; an integer array (N,)
        or (N, k) or an array (N, *output) for one target per sample; ``predicted``, ``label`` or a class name for
        classifiers; a list of these for several targets.
    score
        For class targets: ``contrast`` (logit minus the runner-up's), ``logit``, or ``one`` (relevance starts at 1).
    start
        ``logit`` steps over a closing softmax, log-softmax or sigmoid; ``output`` explains what the network returns.
    labels, classes
        Class index per sample, for target ``label``; names of the classes.
    batch_size
        Samples per forward pass, all at once by default. With ``fixed_batch`` the last batch is padded with its
        last sample.
    output
        Which output to explain if the network returns several: an index of a tuple, a key of a dict, or a tuple of
        these for nested ones.
    sample_axis
        Axis of the samples inside the network, such as 1 for (time, sample, feature). ``x``, targets and
        relevance have samples first in any case.
    window
        ``auto``: if the network is local and targets are few outputs of a large field, only the parts of the input
        that can reach them are computed, and ``prediction`` is NaN at all other outputs; ``never``: always the
        whole field. Cut only for modules of one input and one output without forward hooks, and only along axes
        where every operation is known to be local and no constant varies; both ways give the same maps. With
        ``layers``, ``output``, ``sample_axis`` or ``fixed_batch`` the whole field is computed.
    reference
        Explain the value minus this: a number, one number per sample, or ``{"input": x0}``, an input sample whose
        output is the reference. For what is conserved see ``geoxai.attribution.reference``.
    layers
        For lrp: module paths at whose outputs relevance is wanted as well (``Attribution.layers``).
    flat_below
        For lrp: a module path; below its output relevance spreads evenly over the inputs it is connected to, which
        stops the decomposition at this depth. Max pooling keeps its winner.
    precision
        ``bfloat16``, for lrp: convolutions that the rules add to the network's own forward pass are computed in this
        type, in half the time if the processor supports it. Maps then differ by up to about a percent of their largest
        value and the account does not close: ``account`` is ``approximate`` and a note states by how much it is off.

    Raises
    ------
    OptionError
        An option does not fit, or the network is in training mode.
    InputError
        The input is not of a floating type, is empty, or holds NaN.
    GeoxaiError
        Relevance would have to cross an operation without a rule; the message names operation, module, shape and
        remedy.
    """
    check_names(options, attribute)
    check_options(method, start, batch_size)
    check_output(output)
    inputs = check_inputs(x)
    norms = check_finite(inputs)
    model = as_callable(model)
    check_model(model)
    check_depth(method, window, layers, flat_below)
    check_precision(method, precision)
    rule_list = parse_rules(rules, **options) if method == "lrp" else None
    if rule_list is None and options:
        raise OptionError(f"method {method!r}: {unknown('option', next(iter(options)), ['target', 'score', 'start'])}")
    label_array = check_labels(labels, len(inputs[0]))
    reading = Reading(output, sample_axis)
    with blamed(model, inputs, sample_axis):
        compared = reference_of(reference, model, inputs, start, reading)
    question = Question(target, score, None, None if classes is None else tuple(classes), compared)
    depth = Depth(tuple(layers), flat_below)
    windows = None
    if window == "auto" and not fixed_batch and not layers and reading == PLAIN:
        windows = find_windows(model, inputs, question.targets)
    batch = batch_size or len(inputs[0])
    cache = WeightCache(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    parts = []

    def explain(inputs: tuple[Tensor, ...], question: Question, rows: slice) -> Attribution:
        return _explain_batch(model, inputs, method, rule_list, question, rows, start, cache, reading, depth, norms)

    for begin in range(0, len(inputs[0]), batch):
        rows = slice(begin, min(begin + batch, len(inputs[0])))
        piece = tuple(_filled(a[rows], batch) if fixed_batch else a[rows] for a in inputs)
        asked = question if label_array is None else replace(question, labels=_filled(label_array[rows], len(piece[0])))

        with blamed(model, piece, sample_axis):
            part = None if windows is None else _explain_windows(windows, piece[0], question, rows, explain)
            if part is None:
                part = explain(piece, asked, rows)
        parts.append(first_samples(part, rows.stop - rows.start, question.several))
        cache.forget_computed()
    whole = joined(parts, question.several)
    if precision != "full":
        whole = approximate(whole, precision)
    if bool(whole.nonpositive_target.any()):
        log.warning(
            "%d of %d explained values are not positive, which the rules presume; they are flagged nonpositive_target",
            int(whole.nonpositive_target.sum()),
            whole.nonpositive_target.numel(),
        )
    return replace(whole, relevance=whole.relevance if isinstance(x, tuple) else whole.relevance[0])


@torch.inference_mode(False)
def rule_table(
    model: Callable,
    x: Tensor | np.ndarray | tuple,
    rules: Any,
    *,
    target: Any = None,
    start: str = "logit",
    output: int | str | tuple[int | str, ...] | None = None,
    sample_axis: int = 0,
    **options: Any,
) -> tuple[RuleRow, ...]:
    """The rule LRP would use at every operation, in forward order, from one forward pass of the first sample of ``x``.

    Without ``target`` relevance starts at all outputs. Raises as ``attribute`` does.
    """
    check_names(options, rule_table)
    check_output(output)
    inputs = tuple(a[:1] for a in check_inputs(x))
    check_finite(inputs)
    model = as_callable(model)
    check_model(model)
    rule_list = parse_rules(rules, **options)
    with blamed(model, inputs, sample_axis):
        recorded = engine.forward(model, inputs, WeightCache(), start, rule_list, Reading(output, sample_axis))
    if target is None:
        target = torch.ones(recorded.output.values.shape[1:])
    (objective, *_) = Question(target).objectives(recorded.output, slice(0, 1))
    return engine.table(recorded, engine.plan(recorded, objective, rule_list))


@dataclass(frozen=True)
class Depth:
    """Layers whose relevance is kept, and the layer below which it is spread evenly."""

    layers: tuple[str, ...] = ()
    flat_below: str | None = None


def _explain_windows(
    windows: Windows,
    x: Tensor,
    question: Question,
    rows: slice,
    explain: Callable[[tuple[Tensor, ...], Question, slice], Attribution],
) -> Attribution | None:
    """The attribution of one batch through windows, None if they cannot be cut for its targets."""
    picks = picks_of(question.targets, windows.output_shape, rows)
    cuts = None if picks is None else windows.cuts(picks)
    if cuts is None:
        return None
    compared = question.reference
    references = None
    if compared is not None:
        template = torch.zeros(1, dtype=torch.float64, device=x.device).expand(len(x), *windows.output_shape)
        found = (compared.value(coefficients_of(target, template, rows), rows) for target in question.targets)
        references = torch.stack(list(found))

    def explain_pieces(pieces: Tensor, weights: Tensor, references: Tensor | None) -> Attribution:
        asked = Question(weights, reference=None if references is None else Reference(references))
        return explain((pieces,), asked, slice(0, len(pieces)))

    whole = explain_windows(windows, cuts, x, len(question.targets), explain_pieces, references)
    if question.several:
        return whole
    alone: dict[str, Any] = {name: None if (v := getattr(whole, name)) is None else v[0] for name in PER_VALUE}
    return replace(whole, relevance=(whole.relevance[0][0],), **alone)


def _explain_batch(
    model: Callable,
    inputs: tuple[Tensor, ...],
    method: str,
    rules: RuleList | None,
    question: Question,
    rows: slice,
    start: str,
    cache: WeightCache,
    reading: Reading,
    depth: Depth,
    norms: tuple[float, ...],
) -> Attribution:
    """The attribution of one batch, with a leading target axis if several are asked."""
    if rules is None:
        leaves, output = gradients.forward(model, inputs, start, reading)
        check_steady(model, inputs, output.raw, reading)
    else:
        recorded = engine.forward(model, inputs, cache, start, rules, reading, norms)
        output = recorded.output
    objectives = question.objectives(_detached(output), rows)
    results: list[_TargetResult] = []
    for number, objective in enumerate(objectives):
        value = objective.value(output.values.detach())
        returned = Objective(objective.coefficients).value(output.raw.detach())
        if rules is None:
            found = gradients.derivative(leaves, output.values, objective.coefficients)
            found = [gradients.TRANSFORMS[method](g, leaf.detach()) for g, leaf in zip(found, leaves)]
            check_values(value, found)
            results.append(_TargetResult(tuple(found), value, None, False, (), (), {}, returned, ""))
            continue
        planned = engine.plan(recorded, objective, rules, depth.flat_below)
        table = engine.table(recorded, planned)
        outputs = {path: layer_output(planned.nodes(recorded.tape), path, "layers") for path in depth.layers}
        kept = {node: output.values.new_zeros(node.output_shapes[0]) for node in outputs.values()}
        ledger = Ledger(len(inputs[0]), inputs[0].device)
        found = engine.backward(recorded, planned, ledger, number == len(objectives) - 1, kept)
        check_values(value, found)
        positive = any(rule.presumes_positive for rule, _ in planned.rules.values())
        notes = (*recorded.tape.notes, *planned.notes)
        maps = tuple(r.contiguous() for r in found)
        at_layers = {path: kept[node] for path, node in outputs.items()}
        result = _TargetResult(maps, value, ledger, positive, table, notes, at_layers, returned, planned.preset)
        results.append(result)
    return _stacked(results, question, output, len(inputs))


@dataclass(frozen=True)
class _TargetResult:
    relevance: tuple[Tensor, ...]
    value: Tensor
    ledger: Ledger | None
    presumes_positive: bool
    table: tuple[RuleRow, ...]
    notes: tuple[str, ...]
    layers: dict[str, Tensor]
    output: Tensor
    preset: str


def _stacked(results: list[_TargetResult], question: Question, output: Output, inputs: int) -> Attribution:
    def over_targets(values: list[Tensor]) -> Tensor:
        return torch.stack(values) if question.several else values[0]

    ledgers = [r.ledger for r in results if r.ledger is not None]
    account = {
        term: over_targets([getattr(ledger, term) for ledger in ledgers]) if ledgers else None
        for term in ("bias", "stabiliser", "lost")
    }
    detached = _detached(output)
    classifier = question.is_classification(detached)
    notes = dict.fromkeys(note for r in results for note in r.notes)
    if output.closing is not None:
        notes[f"start: the closing {output.closing} was stepped over; what is explained are the values before it"] = (
            None
        )
    return Attribution(
        relevance=tuple(over_targets([r.relevance[i] for r in results]) for i in range(inputs)),
        prediction=predicted_class(detached.values) if classifier else detached.raw,
        confidence=confidence(detached) if classifier else None,
        target_value=over_targets([r.value for r in results]),
        nonpositive_target=over_targets([(r.value <= 0) & r.presumes_positive for r in results]),
        table=results[0].table,
        notes=tuple(notes),
        account="closed" if ledgers else "none",
        target_output=None if classifier else over_targets([r.output for r in results]),
        preset=results[0].preset,
        layers={path: over_targets([r.layers[path] for r in results]) for path in results[0].layers},
        **account,
    )


def _detached(output: Output) -> Output:
    values = output.values.detach()
    return Output(values, values if output.raw is output.values else output.raw.detach(), output.closing)


def _filled(rows: Tensor, length: int) -> Tensor:
    """``rows`` with the last one repeated up to ``length``."""
    missing = length - len(rows)
    return rows if missing <= 0 else torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
