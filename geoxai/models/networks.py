"""Networks ready to use, with what they expect and what they return, and their predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from geoxai.errors import GeoxaiError, OptionError
from geoxai.grid.several import alone, each, names_of, plain
from geoxai.models.adapter import Adapter
from geoxai.models.heads import Head, head_text, pick
from geoxai.models.origin import Origin, refuse_other, with_classes, with_target_channels

TASKS = ("classification", "regression", "image")


@dataclass(frozen=True, eq=False)
class Networks:
    """One network, or the same network trained from several seeds.

    Parameters
    ----------
    modules
        In evaluation mode, with frozen weights; output ``(sample, class)`` logits, ``(sample, 1)`` or ``(sample)``
        one logit or value, ``(sample, value)`` several values, or images.
    adapter
        From samples to what the modules take, and back; for modules with several inputs one per input, by the name that
        the samples give it, in the order of the modules' arguments.
    task
        ``classification``, ``regression`` (one value per sample, or several that are explained by index) or ``image``.
    classes
        Names of the classes in the order of the outputs; two for a network of one logit, the second for positive
        logits.
    digest
        SHA-256 of the weights by content.
    notes
        What a reader of results should know about how the network was loaded.
    fixed_batch
        The fixed batch size of an exported program; the last batch is padded.
    output
        ``logits``, or ``probabilities`` if the network ends in a softmax or sigmoid (classification only).
    units
        Units of values and images.
    target_channels
        Names of the channels of image outputs.
    head
        Which output counts if the modules return several: an index of a tuple, a key of a dict, or a tuple of these.
    origins
        What the network was trained on, by the name of the input (empty for a single one); samples must match it.
    """

    modules: tuple[nn.Module, ...]
    adapter: Adapter | Mapping[str, Adapter]
    task: str
    classes: tuple[str, ...] = ()
    digest: str = ""
    notes: tuple[str, ...] = ()
    fixed_batch: int | None = None
    output: str = "logits"
    units: str = ""
    target_channels: tuple[str, ...] = ()
    head: Head | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def dims(self) -> tuple[str, ...]:
        """``("network",)`` if there are several, else nothing."""
        return ("network",) if len(self.modules) > 1 else ()

    def for_samples(self, samples: xr.Dataset, *, any_grid: bool = False) -> Networks:
        """The same networks for other samples of the same kind; ``any_grid`` allows another grid.

        Raises
        ------
        OptionError
            The samples lack an input or a channel, or differ in grid or scaling from those the network was trained on.
        """
        names = names_of(samples) or ("",)
        if names != tuple(self.adapters):
            own, theirs = (", ".join(some) or "one without a name" for some in (self.adapters, names))
            raise OptionError(f"the network takes the inputs {own}, but the samples have {theirs}", option="from")
        adapters = {}
        for name, adapter in self.adapters.items():
            part = alone(samples, name)
            adapters[name] = adapter.for_samples(part)
            if name in self.origins:
                refuse_other(self.origins[name], part, adapter, any_grid=any_grid)
        return replace(self, adapter=adapters[""] if isinstance(self.adapter, Adapter) else adapters)

    def matched(self, samples: xr.Dataset) -> xr.Dataset:
        """Samples whose labels and target maps are numbered as the network's, by their names; others are refused."""
        if self.task == "classification":
            return with_classes(samples, self.classes)
        return with_target_channels(samples, self.target_channels) if self.task == "image" else samples

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The adapter of every input by its name; a single input has an empty name."""
        return {"": self.adapter} if isinstance(self.adapter, Adapter) else dict(self.adapter)

    def taken(self, inputs: xr.DataArray | xr.Dataset) -> dict[str, np.ndarray]:
        """What the modules take, one input at a time in the order of their arguments."""
        arrays = each(inputs)
        return {name: adapter.to_network(arrays[name]) for name, adapter in self.adapters.items()}


def digest_of(modules: Iterable[nn.Module]) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            value = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def frozen(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, with weights that need no gradients."""
    with suppress(NotImplementedError):  # an exported program has one mode only
        module.eval()
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(False)
    return module


def predict(
    networks: Networks, inputs: xr.DataArray | xr.Dataset, batch_size: int = 64, device: str = "cpu"
) -> xr.Dataset:
    """Predictions for samples.

    Parameters
    ----------
    inputs
        ``(sample, channel, lat, lon)`` as a samples store holds them; a dataset of several, as
        ``geoxai.grid.several.inputs_of`` gives them.
    batch_size
        Samples per forward pass; a network with a fixed batch size uses its own.

    Returns
    -------
    Dataset
        Dims ``([network,] sample)``, coordinates of the samples. Classification: ``prediction`` (index of the class),
        ``probability`` over ``class``, ``confidence`` (the highest probability). Regression: ``prediction`` in units
        of the target. Image: ``prediction([network,] sample, target_channel, lat, lon)`` in the orientation of the
        inputs.
    """
    members = [member_outputs(networks, module, inputs, batch_size, device) for module in networks.modules]
    refuse_steps(networks, members[0])
    outputs = np.stack(members) if networks.dims else members[0]
    if networks.task != "classification":
        return _dataset(networks, inputs, {"prediction": outputs})
    probability = probabilities(outputs, networks.output)
    return _dataset(
        networks,
        inputs,
        {
            "prediction": probability.argmax(axis=-1).astype(np.int16),
            "probability": probability.astype(np.float32),
            "confidence": probability.max(axis=-1).astype(np.float32),
        },
    )


def predictions_template(networks: Networks, inputs: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """The result of ``predict`` as dask zeros: dims, coordinates, types and attributes."""
    import dask.array as da

    members = (len(networks.modules),) if networks.dims else ()
    n = inputs.sizes["sample"]
    if networks.task == "classification":
        k = len(networks.classes)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "prediction": ((n,), np.int16),
            "probability": ((n, k), np.float32),
            "confidence": ((n,), np.float32),
        }
    elif networks.task == "regression":
        shapes = {"prediction": ((n,), np.float32)}
    else:
        shapes = {"prediction": ((n, len(networks.target_channels), *_grid_of(inputs).shape[2:]), np.float32)}
    arrays = {name: da.zeros((*members, *shape), dtype=kind) for name, (shape, kind) in shapes.items()}
    return _dataset(networks, inputs, arrays)


def member_outputs(
    networks: Networks,
    module: nn.Module,
    inputs: xr.DataArray | xr.Dataset,
    batch_size: int = 64,
    device: str = "cpu",
) -> np.ndarray:
    """One network's raw outputs: ``(sample, output)`` float64 logits or probabilities, values, or images.

    Values come as ``(sample)``, or ``(sample, value)`` if a sample has several; images as ``(sample[, step],
    target_channel, lat, lon)`` in the orientation of the first input.

    Raises
    ------
    OptionError
        The network does not take inputs of this shape, or gives outputs of another.
    GeoxaiError
        An output is not finite.
    """
    module = module.to(device)
    kind = _dtype(module)
    batches = []
    with torch.no_grad():
        for batch in _batches(inputs, networks.fixed_batch or batch_size):
            taken = [torch.as_tensor(values, dtype=kind) for values in networks.taken(batch).values()]
            tensors = [_padded(x, networks.fixed_batch).to(device) for x in taken]
            output = _forward(networks, module, tensors, batch)[: batch.sizes["sample"]]
            batches.append(_checked(networks, output.to(torch.float64).cpu().numpy(), _grid_of(batch)))
    return np.concatenate(batches) if batches else np.zeros(0)


def check_inputs(networks: Networks, inputs: xr.DataArray | xr.Dataset) -> np.ndarray:
    """Raise an error if the networks do not take a sample of these inputs, or give outputs of another shape.

    Returns the output of the first of them for a sample of zeros.
    """
    return member_outputs(networks, networks.modules[0], xr.zeros_like(inputs.isel(sample=slice(0, 1))))


def refuse_steps(networks: Networks, outputs: np.ndarray) -> None:
    """Refuse outputs, as ``member_outputs`` gives them, that predictions cannot hold: time steps of images, and
    several values of a sample.
    """
    if networks.task == "regression" and outputs.ndim == 2:
        raise OptionError(
            f"the network has {outputs.shape[1]} values per sample; these can be explained (target: 0, 1, ...) but not "
            "stored as predictions or compared with targets, which are one value per sample",
            fix="return only the value that counts, or explain without predicting",
            option="model",
        )
    if outputs.ndim == 5:
        raise OptionError(
            f"the network gives {outputs.shape[1]} time steps of images; these can be explained (target with a step) "
            "but not stored as predictions",
            fix="take one step in the network, or let steps be channels of its output",
            option="model",
        )


def probabilities(outputs: np.ndarray, output: str = "logits") -> np.ndarray:
    """Class probabilities ``(..., class)`` from logits or probabilities ``(..., output)``.

    A single output describes two classes.
    """
    if outputs.shape[-1] == 1:
        second = outputs if output == "probabilities" else _sigmoid(outputs)
        return np.concatenate([1 - second, second], axis=-1)
    if output == "probabilities":
        return outputs
    shifted = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _grid_of(inputs: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The input on whose grid images lie: the first."""
    return plain(next(iter(each(inputs).values())))


def _batches(inputs: xr.DataArray | xr.Dataset, size: int) -> Iterator[Any]:
    for start in range(0, inputs.sizes["sample"], size):
        yield inputs.isel(sample=slice(start, start + size)).compute()


def _padded(x: torch.Tensor, size: int | None) -> torch.Tensor:
    if size is None or len(x) == size:
        return x
    return torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])])


def _dtype(module: nn.Module) -> torch.dtype:
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(kinds, torch.float32)


def _forward(
    networks: Networks, module: nn.Module, tensors: Sequence[torch.Tensor], batch: xr.DataArray | xr.Dataset
) -> torch.Tensor:
    try:
        output = module(*tensors)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        arrays = each(batch).values()
        grids = [" x ".join(f"{a.sizes[dim]} {dim}" for dim in a.dims[1:]) for a in map(plain, arrays)]
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OptionError(
            f"the network does not take inputs of shape {shapes} (samples have {' and '.join(grids)}): {reason}",
            fix="check layout, channels and the grid of the samples against the network"
            + (", and the order of inputs" if len(tensors) > 1 else ""),
            option="layout",
        ) from error
    return pick(output, networks.head)


def _checked(networks: Networks, output: np.ndarray, batch: xr.DataArray) -> np.ndarray:
    """The output in its canonical shape; raises an error that says what is wrong with it."""
    if networks.task == "image":
        output = _image(networks, output, batch)
    else:
        if output.ndim > 2 and min(output.shape[-2:]) > 1:
            _refuse_image(networks, output)
        output = output.reshape(len(output), -1)
        width, k = output.shape[1], len(networks.classes)
        if networks.task == "classification" and width != k and not (width == 1 and k == 2):
            raise OptionError(
                f"the network has {width} output{'s' if width != 1 else ''}, but there are {k} classes: "
                f"{', '.join(networks.classes)}",
                fix="name the classes in the order of the network's outputs",
                option="classes",
            )
        if networks.task == "regression":
            output = output[:, 0] if width == 1 else output
    finite = np.isfinite(output).reshape(len(output), -1).all(axis=1)
    if not finite.all():
        worst = batch["sample"].values[~finite][0] if "sample" in batch.coords else int(np.argmin(finite))
        raise GeoxaiError(
            f"the network's output is not finite for sample {worst}",
            fix="check the weights, the scaling, and the samples for values that are not finite",
        )
    return output


def _refuse_image(networks: Networks, output: np.ndarray) -> None:
    """Refuse an image where classes or a value are expected, unless it has as many numbers as these."""
    size = output[0].size
    if size == 1 or (networks.task == "classification" and size == len(networks.classes)):
        return
    wanted = f"there are {len(networks.classes)} classes: {', '.join(networks.classes)}"
    if networks.task == "regression":
        wanted = "a regression has one value per sample"
    raise OptionError(
        f"{_speaker(networks)} gives a {' x '.join(map(str, output.shape[1:]))} image, but {wanted}",
        fix=f"{_other_head(networks)}set image in the samples stage, so that images are what is predicted",
        option="task" if networks.head is None else "head",
    )


def _speaker(networks: Networks) -> str:
    return "the network" if networks.head is None else f"head {head_text(networks.head)}"


def _other_head(networks: Networks) -> str:
    return "" if networks.head is None else "take another head, or "


def _image(networks: Networks, output: np.ndarray, batch: xr.DataArray) -> np.ndarray:
    channels, (lat, lon) = len(networks.target_channels), batch.shape[2:]
    steps = output.shape[1] if output.ndim == 5 else 1
    if output[0].size != steps * channels * lat * lon:
        raise OptionError(
            f"{_speaker(networks)} gives {tuple(output.shape[1:])} per sample, expected {channels} image"
            f"{'s' if channels != 1 else ''} of {lat} x {lon}",
            fix=f"{_other_head(networks)}set task, or give the samples labels or values instead of an image",
            option="task" if networks.head is None else "head",
        )
    return next(iter(networks.adapters.values())).outputs_to_samples(output, batch)


def _dataset(networks: Networks, inputs: xr.DataArray | xr.Dataset, arrays: Mapping[str, Any]) -> xr.Dataset:
    """Prediction variables with the samples' coordinates and CF attributes."""
    inputs = _grid_of(inputs)
    kept = {"sample", *inputs.dims[2:]} if networks.task == "image" else {"sample"}
    coords: dict[Hashable, Any] = {
        name: coord.compute() for name, coord in inputs.coords.items() if set(coord.dims) <= kept
    }
    units = {"units": networks.units} if networks.units else {}
    dims: dict[str, tuple[Hashable, ...]] = dict.fromkeys(arrays, ("sample",))
    attrs: dict[str, dict[str, Any]] = {"prediction": {"long_name": "prediction", **units}}
    if networks.task == "classification":
        coords["class"] = ("class", np.array(networks.classes, dtype=str), {"long_name": "class"})
        dims["probability"] = ("sample", "class")
        attrs["prediction"] = {
            "long_name": "predicted class",
            "flag_values": np.arange(len(networks.classes), dtype=np.int16),
            "flag_meanings": " ".join(networks.classes),
        }
        attrs["probability"] = {"long_name": "probability of each class", "units": "1"}
        attrs["confidence"] = {"long_name": "probability of the predicted class", "units": "1"}
    elif networks.task == "image":
        names = np.array(networks.target_channels, dtype=object)
        coords["target_channel"] = ("target_channel", names, {"long_name": "variable of the target"})
        dims["prediction"] = ("sample", "target_channel", *inputs.dims[2:])
    if networks.dims:
        coords["network"] = (
            "network",
            np.arange(len(networks.modules)),
            {"long_name": "network trained from its own seed"},
        )
    variables = {
        name: (
            (*networks.dims, *dims[name]),
            array.astype(np.float32) if array.dtype == np.float64 else array,
            attrs[name],
        )
        for name, array in arrays.items()
    }
    return xr.Dataset(variables, coords=coords)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
