"""What a stage is: its options, the kinds it takes and gives, and what it does.

A stage is one pydantic model. Its fields are the options that a config may set and their descriptions are the manual;
its methods are what it does. There are four kinds of stage, and the pipeline knows no others:

- ``LazyStage``: opens a lazy dataset in any process; nothing is stored except what it fits.
- ``StoredStage``: a store filled by independent units of work, each a block of whole chunks.
- ``ReducedStage``: partial results per unit, merged in unit order into one store.
- ``OutputStage``: files for people, written by the main process.

Option models import neither torch nor xarray: methods import what they need, so that ``check`` and ``schema`` start at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import xarray as xr

KINDS = ("grid", "labels", "samples", "network", "prediction", "pixels", "relevance", "composite", "files")


@dataclass(frozen=True)
class Reference:
    """Marks an option that names another stage: ``Annotated[str | None, Reference("grid", nearest=True)]``.

    ``kinds`` are the kinds accepted; with ``nearest`` an omitted option means the nearest stage above that gives one.
    """

    kinds: tuple[str, ...]
    nearest: bool = False

    def __init__(self, *kinds: str, nearest: bool = False):
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "nearest", nearest)


@dataclass(frozen=True)
class InputPath:
    """Marks an option that holds input files: a path or glob, or a list of them, relative to the current directory.

    The config makes them absolute and checks that they exist; fingerprints use the content of the files, not the path.
    With ``later`` they may be created between the check and the run. ``within`` are patterns for the files of a folder
    that count, where not all of them do.
    """

    later: bool = False
    within: tuple[str, ...] = ()


# Called in a unit with the steps done, all its steps, and a note such as "epoch 3 of 100, loss 0.42".
Report = Callable[[int, int, str], None]


def unreported(done: int, total: int, note: str) -> None:
    """A report that nobody hears."""


@dataclass(frozen=True)
class Context:
    """What a stage sees of a run.

    ``sources`` maps each reference option (``from``, ``labels``, ``model``, ...) to what that stage's ``open``
    returned, a list where the option is a list, None where it is unset. While planning they are skeletons. ``fitted``
    is what the stage's own ``fit`` returned. ``experiment`` is the name of the config, ``fingerprint`` the hash of
    everything that determines the stage's result. ``report`` may be called, as often as the stage likes, with how far
    a unit has come.
    """

    stage: str
    run_dir: Path
    sources: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    fitted: xr.Dataset | None = None
    experiment: str = ""
    fingerprint: str = ""
    report: Report = unreported

    @property
    def store(self) -> Path:
        """The stage's Zarr store."""
        return self.run_dir / f"{self.stage}.zarr"

    @property
    def folder(self) -> Path:
        """The stage's folder for files that are not Zarr, such as network weights."""
        return self.run_dir / self.stage


@dataclass(frozen=True)
class Layout:
    """A store before it is filled: a template, and how it is cut into units.

    Variables of ``template`` that are dask arrays are filled unit by unit; the rest, and every coordinate, is written
    when the store is created. Unit ``i`` covers ``[i * block, (i + 1) * block)`` along ``dim``, which is also the chunk
    of every variable with that dim. Other dims are not chunked.
    """

    template: xr.Dataset
    dim: str
    block: int


class Stage(BaseModel):
    """Base of every stage. Subclasses set ``use`` (its name in YAML) and ``gives`` (one of ``KINDS``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    use: ClassVar[str]
    gives: ClassVar[str]
    fits: ClassVar[bool] = False
    # Raise it when the stage gives different numbers (or files) for the same options and inputs: earlier results are
    # then computed again. Not for changes that leave every number as it is, nor for changes to a library that several
    # stages use, which has its own number in geoxai/revisions.py.
    revision: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = ()  # those of geoxai/revisions.py that its numbers depend on
    # For the manual: an entry of ``stages`` in YAML, after any entries that it needs besides the examples of other
    # stages, which it can name. It runs on what ``geoxai init`` writes; ``example_files`` is Python that writes
    # whatever else it reads.
    example: ClassVar[str] = ""
    example_files: ClassVar[str] = ""

    def advise(self, name: str, stages: Mapping[str, Stage]) -> Iterable[tuple[str, str, str]]:
        """What a user should think about before running this stage, as warnings of ``check``.

        Yields (dotted option, one sentence, what to do about it). ``name`` is this stage's own; ``stages`` are all
        those of the config in dependency order, with their references filled in. Reads options only, never files.
        """
        return ()

    def code(self) -> tuple[str, ...]:
        """Modules named by its options whose code its numbers depend on, besides the stage's own."""
        return ()

    def fit(self, context: Context) -> xr.Dataset:
        """What is fitted once and stored before anything reads this stage (only called where ``fits`` is true)."""
        raise NotImplementedError

    def skeleton(self, context: Context) -> Any:
        """What ``open`` will return: dims, coordinates, dtypes and attrs are right, values are placeholders.

        The sample dim is an upper bound where its length depends on values. Raises what a user should know before
        anything is computed: unknown variables, dims that do not fit, a network that does not fit its samples.
        """
        raise NotImplementedError

    def open(self, context: Context) -> Any:
        """What later stages read."""
        raise NotImplementedError


class LazyStage(Stage):
    """A stage whose result is a lazy dataset that any process can open."""

    def skeleton(self, context: Context) -> Any:
        return self.open(context)


class StoredStage(Stage):
    """A stage that fills ``<stage>.zarr`` in units."""

    def layout(self, context: Context) -> Layout:
        """The store before it is filled."""
        raise NotImplementedError

    def compute(self, context: Context, start: int, stop: int) -> xr.Dataset:
        """The dask-backed variables of the template for the block ``[start, stop)``, in memory."""
        raise NotImplementedError

    def files(self, context: Context, start: int, stop: int) -> list[Path]:
        """Files in the stage's folder that, like its part of the store, belong to a block once it is computed."""
        return []

    def summarise(self, context: Context, result: Any) -> dict[str, Any] | None:
        """Numbers for ``<stage>.json`` once the store is complete; ``result`` is what ``open`` returns."""
        return None

    def skeleton(self, context: Context) -> Any:
        return self.layout(context).template

    def open(self, context: Context) -> Any:
        import xarray as xr

        return xr.open_zarr(context.store, consolidated=False)


class ReducedStage(Stage):
    """A stage that merges partial results of blocks into one store."""

    def extent(self, context: Context) -> tuple[int, int]:
        """Number of items to reduce over, and items per unit."""
        raise NotImplementedError

    def partial(self, context: Context, start: int, stop: int) -> xr.Dataset:
        """The partial result of one block, in memory."""
        raise NotImplementedError

    def merge(self, context: Context, partials: Iterable[xr.Dataset]) -> xr.Dataset:
        """The whole result from the partial ones, which come in unit order, their values still on disk."""
        raise NotImplementedError

    def summarise(self, context: Context, result: xr.Dataset) -> dict[str, Any] | None:
        """Numbers for ``<stage>.json``."""
        return None

    def open(self, context: Context) -> Any:
        import xarray as xr

        return xr.open_zarr(context.store, consolidated=False)


class UnreadableError(Exception):
    """A file for people is not in the format that it should be in."""


class OutputStage(Stage):
    """A stage that writes files for people."""

    gives: ClassVar[str] = "files"

    def targets(self, name: str) -> Mapping[str, str]:
        """The files or folders that this stage, called ``name``, writes, by the option that chooses each; relative to
        the run folder. They are checked against everything else that a run writes, so include all that a user names.
        """
        return {}

    @property
    def may_leave(self) -> bool:
        """Whether the user allows targets outside the run folder."""
        return False

    def made_for(self, path: Path) -> str | None:
        """The fingerprint stored inside a file that was written, where its format keeps one.

        Raises
        ------
        UnreadableError
            The file is incomplete.
        """
        return None

    def write(self, context: Context) -> list[Path]:
        """Write the files, each complete or absent, and return their paths."""
        raise NotImplementedError

    def skeleton(self, context: Context) -> None:
        return None

    def open(self, context: Context) -> None:
        return None
