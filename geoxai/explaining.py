"""Explain a network on xarray inputs: the relevance keeps every dimension and coordinate of the inputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr

from geoxai.attribution import Attribution, attribute
from geoxai.attribution.checks import check_model, check_names, check_options, check_output
from geoxai.attribution.dependence import depends
from geoxai.attribution.fields.windows import traced
from geoxai.attribution.networks import as_callable, blamed
from geoxai.attribution.reading import PLAIN, Reading
from geoxai.attribution.result import unaccounted
from geoxai.attribution.targets import CLASS_TARGETS
from geoxai.errors import InputError, OptionError
from geoxai.explained import ATTRS, at_layers, attributes, described, per_sample, quantity, units_of
from geoxai.grid.several import plain
from geoxai.models.outputs import output_grid, place_on_output
from geoxai.soundness import unsound

log = logging.getLogger("geoxai.explain")
DOUBTS = "geoxai.explain.doubts"  # the logger of what a caller with parts of the samples had better say of them all

CELLS_PER_BATCH = 2**20
FILLED_SHARE_WARNED = 0.01
OFF_WARNED = 1e-4  # far above rounding in single precision


class Adapter(Protocol):
    """Converts between samples as stored and the layout, orientation and scaling that a network expects."""

    def to_network(self, inputs: xr.DataArray) -> np.ndarray:
        """The network's input."""

    def to_samples(self, relevance: np.ndarray, like: xr.DataArray) -> np.ndarray:
        """An array with the shape of the network's input, back in the order of ``like``."""


Array = xr.DataArray | np.ndarray | torch.Tensor
Inputs = Array | xr.Dataset | tuple[Array, ...]
_SHORT = {"latitude": "lat", "longitude": "lon"}


def explain(
    model: Callable,
    inputs: Inputs,
    method: str = "lrp",
    rules: Any = "auto",
    target: Any = "predicted",
    batch_size: int | None = None,
    *,
    valid: xr.DataArray | Mapping[str, xr.DataArray] | None = None,
    labels: Any = None,
    classes: Sequence[str] | None = None,
    adapter: Adapter | Mapping[str, Adapter] | None = None,
    device: str = "cpu",
    units: str | None = None,
    reference: Any = None,
    output_channels: Sequence[str] = (),
    **options: Any,
) -> xr.Dataset:
    """Explain a network's output by its input, cell by cell.

    Parameters
    ----------
    model
        A torch module in eval mode on ``device``, an exported program as ``torch.export.load`` gives it, or a Keras
        model on its torch backend.
    inputs
        First dimension the sample; values as the network sees them, NaN filled. A Dataset for a network of several
        inputs, in the order of its arguments; if they lie on different grids, with dims of different names. Tensors
        and numpy arrays are accepted too, as a tuple for several inputs; their dims are ``sample``, ``dim_1``, ...
        and have no coordinates.
    method, rules, options
        As in ``geoxai.attribution.attribute``, such as ``output``, ``window``, ``layers`` and ``flat_below``; the
        attribute ``rules_chosen`` says which preset ``auto`` chose.
    target
        As there, and for dense outputs on the inputs' grid a mapping, or several of them in a list: ``{"box": {"lat":
        [s, n], "lon": [w, e]}}`` or ``{"box": "nino34"}``, ``{"polygon": {"lat": [...], "lon": [...]}}``, ``{"mask":
        DataArray}``, ``{"point": {"lat": y, "lon": x}}``, ``{"pixels": rows and columns (sample, 2)}``; with
        ``channel`` and ``step`` if the output has several, and ``reduce: mean`` (area weighted, default) or ``sum``.
    batch_size
        Samples per forward pass; by default about a million input cells.
    valid
        True where ``inputs`` holds data, False where it is filled; dims are some of the inputs' dims. A mapping by the
        names of several inputs.
    labels, classes
        Class index per sample (by default the coordinate ``label``) and class names (by default its
        ``flag_meanings``), for class targets.
    adapter
        Maps inputs to the network's layout and relevance back; without it the array is passed as is. A mapping by the
        names of several inputs.
    units
        Units of the explained value; relevance is a share of it. Default: 1 for classifiers, else none are written.
    reference
        Explain the value minus this: a number, ``{"value": number}``, ``{"sample": label}`` (the output for that one
        of ``inputs``) or ``{"sample": field}``, ``{"climatology": field}`` (the output for a field, such as a mean).
        What is conserved: see ``geoxai.attribution.reference``.
    output_channels
        Names of the output's channels, for targets that name one.

    Returns
    -------
    xarray.Dataset
        ``relevance`` with the dims and coordinates of ``inputs`` (``relevance_<name>`` for several inputs; a leading
        dim ``target`` for a list of targets), NaN where not ``valid``; ``relevance_at_<layer>`` for layers; per sample
        ``prediction``, ``target_value``, ``confidence`` for classifiers, ``nonpositive_target``, ``filled_relevance``
        if ``valid`` is given, and the account: ``target_value = sum(relevance) + bias_relevance +
        stabiliser_relevance + lost_relevance``, with ``absolute_relevance``, the sum of ``|relevance|``. Where
        more than half is lost, or that sum is more than 100 times ``|target_value|``, a warning is logged.
        Attribute ``account`` is ``closed``, ``none`` for methods that do not decompose, or ``approximate`` (see
        ``precision``). ``prediction`` is the class index, the value of a scalar output, or the output at the
        target of a dense one.

    Raises
    ------
    OptionError, InputError, GeoxaiError
        As ``attribute``; InputError also if the inputs hold NaN or a dimension does not fit.
    """
    check_names(options, attribute, explain)
    check_options(method, options.get("start", "logit"), batch_size)
    check_output(options.get("output"))
    model = as_callable(model)
    check_model(model)
    arrays = _arrays(inputs)
    first = next(iter(arrays.values()))
    dtype = _dtype(model, device)
    adapters = _by_input(adapter, arrays)
    tensors = tuple(_to_network(array, adapters[name], dtype, device) for name, array in arrays.items())
    labels, classes = _labels_and_classes(first, labels, classes, target)
    if batch_size is None:
        batch_size = max(1, CELLS_PER_BATCH // max(1, *(t[0].numel() for t in tensors)))
    reading = Reading(options.get("output"), options.get("sample_axis", 0))
    result = attribute(
        model,
        tensors,
        method=method,
        rules=rules,
        target=_on_output(
            target, model, tensors, plain(first), next(iter(adapters.values())), output_channels, batch_size, reading
        ),
        reference=_reference(reference, arrays, adapters, dtype, device),
        labels=labels,
        classes=classes,
        batch_size=batch_size,
        **options,
    )
    _check_account(result, dtype)
    several = isinstance(target, list)
    maps = {
        name: _to_samples(relevance, array, adapters[name], several)
        for (name, array), relevance in zip(arrays.items(), result.relevance)
    }
    _warn_unread(maps, model, tensors, batch_size, reading)
    variables, filled = _masked(maps, arrays, _by_input(valid, arrays), several, result.account)
    variables.update(per_sample(result, first, several, filled))
    variables.update(at_layers(result, first, several))
    dataset = xr.Dataset(variables)
    if several:
        dataset = dataset.assign_coords(target=("target", [described(t) for t in target]))
    dataset.attrs = attributes(result, method, rules, target, dtype, device, options)
    if reference is not None:
        dataset.attrs["reference"] = described(reference)
    if (doubt := unsound(dataset)) is not None:
        logging.getLogger(DOUBTS).warning("%s", doubt)
    units = units or ("1" if result.confidence is not None else None)
    for name, variable in dataset.data_vars.items():
        is_map = str(name).startswith("relevance")
        known = ATTRS.get("relevance" if is_map else str(name), {})
        variable.attrs.update(known)
        if (is_map or name == "filled_relevance") and quantity(method) != "relevance":
            variable.attrs["long_name"] = f"{quantity(method)}{'' if is_map else ' on cells that hold no data'}"
            unit = units_of(method, units or "", "1")
            variable.attrs |= {"units": unit} if unit else {}
        elif units and known and "units" not in known and name != "nonpositive_target":
            variable.attrs["units"] = units
    return dataset


def _check_account(result: Attribution, dtype: torch.dtype) -> None:
    """Warn if the parts do not add up to the explained value: then some of the relevance is wrong."""
    if result.account != "closed" or dtype not in (torch.float32, torch.float64):
        return
    off = unaccounted(result)
    if bool((off > OFF_WARNED).any()):
        log.warning(
            "the account of %d of %d explained values does not close, by up to %.1e of their relevance: the maps are"
            " not to be trusted; please report the network's operations, which geoxai rules lists",
            int((off > OFF_WARNED).sum()),
            off.numel(),
            float(off.max()),
        )


def _arrays(inputs: Inputs) -> dict[str, xr.DataArray]:
    """The network's inputs by the names of their relevances."""
    if isinstance(inputs, xr.Dataset):
        arrays = {f"relevance_{name}": array for name, array in inputs.data_vars.items()}
    elif isinstance(inputs, tuple):
        named = [_named(one, f"_{place}") for place, one in enumerate(inputs)]
        arrays = {f"relevance_{one.name or place}": one for place, one in enumerate(named)}
        if len(arrays) < len(named):
            raise InputError(f"two of the inputs have the same name: {', '.join(str(one.name) for one in named)}")
    else:
        arrays = {"relevance": _named(inputs)}
    if not arrays:
        raise InputError("the inputs are empty: a Dataset without variables, or an empty tuple")
    for name, array in arrays.items():
        label = "the input" if name == "relevance" else f"input {name.removeprefix('relevance_')!r}"
        if array.ndim < 2:
            raise InputError(f"{label} has dims {array.dims}, expected the sample dim and at least one more")
        for dim, size in array.sizes.items():
            if not size:
                raise InputError(f"{label} has no {dim}: its sizes are {dict(array.sizes)}", fix="give at least one")
    return arrays


def _named(inputs: Any, end: str = "") -> xr.DataArray:
    """One input with dims; an array without names gets ``sample``, ``dim_1``, ... and no coordinates."""
    if isinstance(inputs, xr.DataArray):
        return inputs
    if isinstance(inputs, torch.Tensor):
        inputs = inputs.detach().cpu().numpy()
    if not isinstance(inputs, np.ndarray):
        raise InputError(
            f"the inputs are a {type(inputs).__name__}, expected a DataArray, a Dataset, a tensor or an array",
            fix="give several inputs as a Dataset, or as a tuple" if isinstance(inputs, list) else None,
        )
    return xr.DataArray(inputs, dims=("sample", *(f"dim_{axis}{end}" for axis in range(1, inputs.ndim)))[: inputs.ndim])


def _dtype(model: Callable, device: str) -> torch.dtype:
    """The floating dtype of the network's weights, which must be on ``device``."""
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise OptionError(
            f"unknown device {device!r}", fix="there are: cpu, cuda, cuda:<number>, mps", option="device"
        ) from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise OptionError("device is 'cuda', but torch finds no GPU here", fix="device='cpu'", option="device")
    weights = [*model.parameters(), *model.buffers()] if isinstance(model, torch.nn.Module) else []
    weights = [w for w in weights if w.is_floating_point()]
    if not weights:
        return torch.float32
    if weights[0].device.type != wanted.type:
        raise OptionError(
            f"the network is on {weights[0].device}, not on {device}",
            fix=f"move it: model.to({device!r})",
            option="device",
        )
    return weights[0].dtype


def _by_input(given: Any, arrays: dict[str, xr.DataArray]) -> dict[str, Any]:
    """What is given for all inputs, or for each by name, by the names of the relevances."""
    by_name = isinstance(given, Mapping)
    return {name: given.get(name.removeprefix("relevance_")) if by_name else given for name in arrays}


def _to_network(array: xr.DataArray, adapter: Adapter | None, dtype: torch.dtype, device: str) -> torch.Tensor:
    values = np.asarray(array.values) if adapter is None else adapter.to_network(array)
    if values.dtype.kind not in "fiub":
        raise InputError(f"{array.name or 'the input'} has dtype {values.dtype}, expected numbers")
    return torch.as_tensor(np.ascontiguousarray(values)).to(device=device, dtype=dtype)


def _to_samples(relevance: torch.Tensor, like: xr.DataArray, adapter: Adapter | None, several: bool) -> np.ndarray:
    dtype = like.dtype if like.dtype.kind == "f" else np.dtype("float32")
    maps = relevance.cpu().numpy()
    if adapter is not None:
        maps = np.stack([adapter.to_samples(m, like) for m in maps]) if several else adapter.to_samples(maps, like)
    return maps.astype(dtype, copy=False)


def _warn_unread(
    maps: dict[str, np.ndarray], model: Callable, tensors: tuple[torch.Tensor, ...], batch: int, reading: Reading
) -> None:
    """Warn about any of several inputs that has no relevance because the output does not depend on it."""
    unread = [number for number, values in enumerate(maps.values()) if not values.any() and tensors[number].any()]
    for number in unread if len(maps) > 1 and any(values.any() for values in maps.values()) else ():
        if not depends(model, [t[:batch] for t in tensors], number, reading):
            log.warning(
                "input %r does not reach the explained output; if the program was exported with one example tensor for"
                " two arguments, export it again with two different ones",
                list(maps)[number].removeprefix("relevance_"),
            )


def _masked(
    maps: dict[str, np.ndarray],
    arrays: dict[str, xr.DataArray],
    valids: dict[str, xr.DataArray | None],
    several: bool,
    account: str,
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Relevance variables, NaN in filled cells, and the relevance (sample,) or (target, sample) that was there."""
    variables: dict[str, Any] = {}
    filled, everything, anything = None, 0.0, 0.0
    for name, values in maps.items():
        like = arrays[name]
        dims = ("target", *like.dims) if several else like.dims
        valid = valids[name]
        if valid is not None and not isinstance(valid, xr.DataArray):
            raise InputError(
                f"valid is a {type(valid).__name__}, expected a DataArray with some of the dims "
                f"{', '.join(map(str, like.dims))}"
            )
        if valid is not None:
            extra = set(valid.dims) - set(like.dims)
            if extra or any(valid.sizes[d] != like.sizes[d] for d in valid.dims):
                raise InputError(f"valid has sizes {dict(valid.sizes)}, the inputs have {dict(like.sizes)}")
            # by position: valid and inputs are from one store; matching coordinates could fail by rounding
            shape = [valid.sizes.get(d, 1) for d in like.dims]
            order = [d for d in like.dims if d in valid.dims]
            empty = ~valid.transpose(*order).values.astype(bool).reshape(shape)
            empty = np.broadcast_to(empty, values.shape)
            axes = tuple(range(2 if several else 1, values.ndim))
            there = np.where(empty, values, 0).sum(axis=axes, dtype=np.float64)
            filled = there if filled is None else filled + there
            everything += float(np.abs(values).sum(dtype=np.float64))
            anything += float(np.abs(np.where(empty, values, 0)).sum(dtype=np.float64))
            values = np.where(empty, np.asarray(np.nan, values.dtype), values)
        coords = {key: coord for key, coord in like.coords.items() if set(coord.dims) <= set(like.dims)}
        variables[name] = xr.DataArray(values, dims=dims, coords=coords)
    if account != "none" and everything and anything / everything > FILLED_SHARE_WARNED:
        log.warning(
            "%.1f %% of the relevance is on filled cells; it is masked and counted as lost, but the network does use"
            " the fill value",
            100 * anything / everything,
        )
    return variables, filled


def _on_output(
    target: Any,
    model: Callable,
    tensors: tuple[torch.Tensor, ...],
    like: xr.DataArray,
    adapter: Any,
    channels: Sequence[str],
    batch: int,
    reading: Reading,
) -> Any:
    """Targets on the grid as indices and weights of the network's own output; other targets unchanged."""
    targets = target if isinstance(target, list) else [target]
    if not any(isinstance(t, Mapping) for t in targets):
        return target
    like = _with_degrees(like, [t for t in targets if isinstance(t, Mapping)])
    with blamed(model, tensors, reading.sample_axis):
        shape = _output_shape(model, tensors, batch, reading)
    grid = output_grid(shape, like, adapter, channels)
    placed = [place_on_output(t, grid) if isinstance(t, Mapping) else t for t in targets]
    return placed if isinstance(target, list) else placed[0]


def _with_degrees(like: xr.DataArray, targets: Sequence[Mapping]) -> xr.DataArray:
    """The inputs, whose cells must have ``lat`` and ``lon`` if a target needs them."""
    like = like.rename(
        {long: short for long, short in _SHORT.items() if long in like.coords and short not in like.coords}
    )
    needs = any(kind in target for target in targets for kind in ("point", "box", "polygon"))
    if needs and not {"lat", "lon"} <= set(like.coords):
        dims = ", ".join(map(str, like.dims))
        raise InputError(
            f"a target in degrees needs the coordinates lat and lon; the inputs have dims {dims} and coordinates "
            f"{', '.join(map(str, like.coords)) or 'none'}",
            fix="name them: inputs.rename(y='lat', x='lon') if y and x are degrees; or give the pixel's index",
        )
    return like


def _output_shape(model: Callable, tensors: tuple[torch.Tensor, ...], batch: int, reading: Reading) -> tuple[int, ...]:
    """Shape of one sample's output, if possible without computing it."""
    alone = len(tensors) == 1 and reading == PLAIN
    found = traced(model, tuple(tensors[0].shape[1:]), tensors[0].dtype) if alone else None
    if found is not None and found.output is not None:
        return found.output.shape[1:]
    with torch.no_grad():
        return tuple(reading.run(model, [t[:batch] for t in tensors]).shape[1:])


def _reference(
    reference: Any,
    arrays: dict[str, xr.DataArray],
    adapters: dict[str, Adapter | None],
    dtype: torch.dtype,
    device: str,
) -> Any:
    """The reference as ``attribute`` takes it; fields in the network's own layout."""
    if not isinstance(reference, Mapping) or "value" in reference:
        return reference
    (form, given), *more = reference.items() or [("", None)]
    if more or form not in ("sample", "climatology"):
        raise OptionError(
            f"reference must be a number or one of value, climatology, sample; found {', '.join(map(str, reference))}",
            option="reference",
        )
    fields = []
    for name, array in arrays.items():
        field = given[name.removeprefix("relevance_")] if isinstance(given, xr.Dataset) else given
        if not isinstance(field, xr.DataArray):
            sample = array.dims[0]
            if form != "sample" or sample not in array.coords or field not in array[sample].values:
                raise OptionError(f"reference {form}: {field!r} is not one of the inputs", option=f"reference.{form}")
            field = array.sel({sample: field})
        if set(field.dims) != set(array.dims[1:]):
            raise InputError(f"the reference has dims {field.dims}, expected {array.dims[1:]}")
        field = field.transpose(*array.dims[1:]).expand_dims(array.dims[0])
        fields.append(_to_network(field, adapters[name], dtype, device))
    return {"input": tuple(fields)}


def _labels_and_classes(
    inputs: xr.DataArray, labels: Any, classes: Sequence[str] | None, target: Any
) -> tuple[Any, Sequence[str] | None]:
    """Labels and class names as given, or else those of the inputs, if the target needs them."""
    asked = {t for t in (target if isinstance(target, list) else [target]) if isinstance(t, str)}
    carried = inputs.coords.get("label")
    if labels is None and "label" in asked and carried is not None:
        labels = carried
    if classes is None and asked - set(CLASS_TARGETS) and carried is not None and "flag_meanings" in carried.attrs:
        values = np.atleast_1d(carried.attrs.get("flag_values", ()))
        names = str(carried.attrs["flag_meanings"]).split()
        classes = [name for value, name in zip(values, names) if value >= 0] if len(values) == len(names) else names
    return (None if labels is None else np.asarray(labels)), classes
