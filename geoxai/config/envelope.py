"""The fixed part of a config: the settings of the run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_LATER = {
    "slurm": "local inside one job, or serial",
    "address": "local for this machine",
}


def _built(executor: Any) -> Any:
    if isinstance(executor, str) and executor in _LATER:
        raise ValueError(f"executor {executor!r} is not part of this version of geoxai; use {_LATER[executor]}")
    return executor


MAX_NAME = 100  # characters: names become those of files and folders, with something before and after them
_NAME = r"^\w[\w .+-]*$"
_DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"


def _a_name(name: str | None) -> str | None:
    if name is not None and not re.match(_NAME, name):
        raise ValueError(f"{name!r} must start with a letter or digit and contain only those, spaces and . + - _")
    if name is not None and len(name) > MAX_NAME:
        raise ValueError(f"a name has at most {MAX_NAME} characters, this one has {len(name)}")
    return name


def _a_device(device: str) -> str:
    if not re.match(_DEVICE, device):
        raise ValueError(f"unknown device {device!r}; there are: auto, cpu, cuda, cuda:<number>, mps")
    return device


class Output(BaseModel):
    """Where a run is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dir: str = Field(
        default="",
        description="Folder of the run, relative to the current directory: a new one, an empty one, or that of an "
        "earlier run. Everything a run writes is in it, except outputs with `outside: true`. Default: runs/<name>.",
    )


class Compute(BaseModel):
    """How a run is computed. None of it changes the results except `seed` and, in the last digits, `device`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Annotated[Literal["serial", "local"], BeforeValidator(_built)] = Field(
        default="local",
        description="serial: one unit after another in this process; local: worker processes on this machine.",
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto",
        description="Worker processes; auto: the cores this process may use, divided by threads_per_worker.",
    )
    threads_per_worker: int = Field(default=1, ge=1, description="Threads of torch and BLAS in each worker.")
    device: Annotated[str, AfterValidator(_a_device)] = Field(
        default="auto",
        json_schema_extra={"pattern": _DEVICE},
        description="Where networks run: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.",
    )
    fsync: bool = Field(
        default=True,
        description="Wait until the files of a unit are on the disk before it counts as done, so that it also survives "
        "a power failure.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of everything random: initial weights, shuffling, sampling.")


class Envelope(BaseModel):
    """A geoxai experiment: settings of the run, and a mapping of named stages for the science."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(description="Version of the config format: 1.")
    name: Annotated[str | None, AfterValidator(_a_name)] = Field(
        default=None,
        json_schema_extra={"pattern": _NAME},
        description="Name of the experiment, used in titles. Default: the name of the config file.",
    )
    output: Output = Field(default=Output(), description="Where the run is written.")
    compute: Compute = Field(default=Compute(), description="How the run is computed.")
    vars: dict[str, Any] = Field(
        default_factory=dict, description="Values to use elsewhere in the config as ${vars.name}."
    )
    stages: dict[str, Any] = Field(
        min_length=1,
        description="The stages by name. `use` picks what a stage does; `geoxai stages` lists them.",
    )
