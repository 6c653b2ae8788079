"""Load networks trained elsewhere, without running code from the file unless the user trusts it."""

from __future__ import annotations

import logging
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geoxai.errors import InputError, OptionError
from geoxai.models.archives import check_whole, code_in_program
from geoxai.models.arguments import arguments_of
from geoxai.models.keras_files import as_called, read_keras
from geoxai.models.networks import digest_of, frozen
from geoxai.source_code import importable_here

EXPORTED = (".pt2",)
WEIGHTS = (".pt", ".pth", ".bin", ".ckpt")
KERAS = (".keras", ".h5", ".hdf5")
LARGEST_WEIGHT = 1e15
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network from a file: the module, notes on how it was loaded, its digest, its fixed batch size if any, the
    number of its inputs if the file says so, and the names of its arguments if they are known.
    """

    module: nn.Module
    kind: str
    digest: str
    fixed_batch: int | None = None
    notes: tuple[str, ...] = ()
    inputs: int | None = None
    arguments: tuple[str, ...] = ()


def load_network(
    path: str | Path,
    *,
    architecture: str | None = None,
    args: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Loaded:
    """Load a network; the ending of the file name says of which kind it is.

    Parameters
    ----------
    path
        ``.pt2``: a ``torch.export`` program. ``.pt .pth .bin .ckpt``: a state dict (with ``architecture``) or a
        pickled module (with ``trust``). ``.keras .h5 .hdf5``: a Keras 3 file, run on Keras' torch backend.
    architecture
        ``package.module:callable`` that builds the module a state dict belongs to; ``args`` are its keyword arguments.
    trust
        The file may run code when it is loaded: needed for pickled modules, exported programs that hold pickles or
        custom objects, and Keras files with Lambda layers. An ``architecture`` is the user's own code and runs in
        any case.

    Raises
    ------
    InputError
        The file is missing, damaged, or not what its name says.
    OptionError
        The weights do not fit the architecture, or the file needs ``trust`` or another form.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no network file {path}")
    suffix = path.suffix.lower()
    if suffix not in (*EXPORTED, *WEIGHTS, *KERAS):
        known = ", ".join((*EXPORTED, *WEIGHTS, *KERAS))
        raise OptionError(f"{path.name}: unknown kind of network; names must end in {known}", option="path")
    check_whole(path)
    loaded = _loaded(path, suffix, architecture, args or {}, trust)
    _check_weights(loaded.module, path)
    return loaded


def _loaded(path: Path, suffix: str, architecture: str | None, args: Mapping[str, Any], trust: bool) -> Loaded:
    if suffix in KERAS:
        return _load_keras(path, trust)
    _refuse_torchscript(path)
    if suffix in EXPORTED:
        return _load_exported(path, trust)
    if architecture is not None:
        return _load_state(path, architecture, args)
    return _load_pickled(path, trust)


def _check_weights(module: nn.Module, path: Path) -> None:
    """Refuse weights that no training produces: a file without checksums, such as .h5, may be damaged unnoticed."""
    for name, weight in module.named_parameters():
        if not weight.is_floating_point():
            continue
        largest = float(weight.detach().abs().max()) if weight.numel() else 0.0  # NaN where any is
        if not largest <= LARGEST_WEIGHT:
            found = f"up to {largest:.3g}" if math.isfinite(largest) else "NaN or infinite"
            raise InputError(
                f"{path}: the weights {name} are {found}: the file is damaged, or its training diverged",
                fix="copy or save it again, and state in expect the scores that the network is known to reach",
            )


def _load_exported(path: Path, trust: bool) -> Loaded:
    _refuse_code(path, trust)
    try:
        with _unlogged():
            program = torch.export.load(path)
            module = program.module()
    except Exception as error:  # unzipping and parsing in torch raise errors of many types
        raise InputError(
            f"{path} is not a readable torch.export program: {_first_line(error)}",
            fix="write it with torch.export.save(torch.export.export(model.eval(), (example,)), path)",
        ) from error
    names = program.graph_signature.user_inputs
    entries = {n.name: n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in names}
    for name, value in entries.items():
        if not getattr(value, "shape", ()):
            raise OptionError(
                f"input {name} of {path.name} is not a batch of samples but a single value", option="path"
            )
    batch = next(iter(entries.values())).shape[0]
    fixed = batch if isinstance(batch, int) else None
    notes = (f"exported for batches of exactly {fixed}; the last one is padded",) if fixed else ()
    return Loaded(frozen(module), "exported program", digest_of([module]), fixed, notes, len(names), tuple(names))


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep torch from logging tracebacks of errors that are raised here anyway, with an explanation."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _refuse_code(path: Path, trust: bool) -> None:
    """Refuse a program that holds code, unless it is trusted."""
    if trust or not zipfile.is_zipfile(path):
        return
    try:
        found = code_in_program(path)
    except (ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable torch.export program: {_first_line(error)}") from error
    if found is not None:
        raise OptionError(
            f"{path.name} holds {found}: loading it could run code",
            fix="trust: true if you know where it comes from; better to export it again, with plain tensors as "
            "example inputs and constants",
            option="trust",
        )


def _load_state(path: Path, architecture: str, args: Mapping[str, Any]) -> Loaded:
    state = _read_safely(path)
    if state is None:
        raise OptionError(
            f"{path.name} holds more than weights, so loading it could run code",
            fix="save only the weights: torch.save(model.state_dict(), path)",
            option="path",
        )
    for wrapper in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise OptionError(f"{path.name} holds a {type(state).__name__}, not a state dict of tensors", option="path")
    module = _construct(architecture, args)
    _assign(module, dict(state), path, architecture)
    return Loaded(frozen(module), "state dict", digest_of([module]), arguments=arguments_of(module))


def _load_pickled(path: Path, trust: bool) -> Loaded:
    if (state := _read_safely(path)) is not None:
        raise OptionError(
            f"{path.name} holds weights only ({type(state).__name__}); the network they belong to must be named",
            fix="architecture: package.module:callable, and args: {...} for what it takes",
            option="architecture",
        )
    if not trust:
        raise OptionError(
            f"{path.name} is a pickled object: loading it runs whatever code is in it",
            fix="trust: true if you know where it comes from; better to save it with torch.export, or as a state dict",
            option="trust",
        )
    try:
        module = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"{path.name} needs code that cannot be imported: {error}",
            fix="install the package the network was defined in, or put it on PYTHONPATH",
            option="path",
        ) from error
    except Exception as error:
        raise InputError(f"{path} cannot be read as a pickled module: {_first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise OptionError(f"{path.name} holds a {type(module).__name__}, not a torch module", option="path")
    notes = ("pickled module, loaded because trust: true",)
    return Loaded(frozen(module), "pickled module", digest_of([module]), notes=notes, arguments=arguments_of(module))


def _load_keras(path: Path, trust: bool) -> Loaded:
    module, notes = read_keras(path, trust)
    taken, batch = len(module.inputs), module.inputs[0].shape[0]
    return Loaded(
        frozen(as_called(module)),
        "keras",
        digest_of([module]),
        batch,
        notes,
        taken,
        tuple(str(tensor.name) for tensor in module.inputs),
    )


def _read_safely(path: Path) -> Any | None:
    """The contents of the file if they are plain weights, None if loading it would run code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as handle:
            is_pickle = zipfile.is_zipfile(path) or handle.read(1) == pickle.PROTO
        if is_pickle:
            return None
        raise InputError(f"{path} is not a torch file") from error
    except Exception as error:  # a broken zip archive, an end of file, ...
        raise InputError(f"{path} is not a readable torch file: {_first_line(error)}") from error


def _refuse_torchscript(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        scripted = any("/code/" in name for name in archive.namelist()) and any(
            name.endswith("/constants.pkl") for name in archive.namelist()
        )
    if scripted:
        raise OptionError(
            f"{path.name} is TorchScript, which torch has deprecated and whose operations cannot be explained",
            fix=(
                "export the original module: torch.export.save(torch.export.export(model.eval(), (example,)), "
                "'network.pt2')"
            ),
            option="path",
        )


def _construct(architecture: str, args: Mapping[str, Any]) -> nn.Module:
    where, _, name = architecture.partition(":")
    if not where or not name:
        raise OptionError(
            f"architecture must be package.module:callable, found {architecture!r}", option="architecture"
        )
    try:
        with importable_here():  # a module beside the config
            target: Any = import_module(where)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"architecture {architecture!r} cannot be imported: {error}",
            fix="install its package, or start geoxai in the folder of the module",
            option="architecture",
        ) from error
    try:
        module = target(**args)
    except Exception as error:  # whatever the user's code raises
        raise OptionError(f"{architecture} does not accept these args: {_first_line(error)}", option="args") from error
    if not isinstance(module, nn.Module):
        raise OptionError(f"{architecture} gave a {type(module).__name__}, not a torch module", option="architecture")
    return module


def _assign(module: nn.Module, state: dict[str, torch.Tensor], path: Path, architecture: str) -> None:
    own = module.state_dict()
    missing, surplus = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [
        f"{k} is {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the network"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if missing or surplus or shapes:
        problems = (
            [f"lacks {_some(missing)}"] * bool(missing)
            + [f"has {_some(surplus)} too many"] * bool(surplus)
            + shapes[:1]
        )
        raise OptionError(
            f"{path.name} does not fit {architecture}: the file {', '.join(problems)}",
            fix="give the args that the network was trained with",
            option="architecture",
        )
    module.load_state_dict(state)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
