"""A config bound to its run folder: opens stages, in the main process and in workers alike.

Nothing is shipped between processes: a worker rebuilds all this from ``config.resolved.yaml`` and the stored stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from geoxai.config import Config, ConfigError, Diagnostic, dump, load_resolved
from geoxai.config.run_folder import RESOLVED
from geoxai.errors import GeoxaiError
from geoxai.pipeline import fingerprints
from geoxai.pipeline.ledger import Ledger
from geoxai.stages.stage import Context, LazyStage, OutputStage, Stage
from geoxai.storage.files import disk_error, write_text

_TRACE_FIX = "--debug shows where it came from, and so does run.log"
MEMORY_FIX = "lower the stage's chunk or batch_size, or compute.workers"


@dataclass(frozen=True)
class Workspace:
    """A run: its config, its folder, its device, and what has been opened so far in this process."""

    config: Config
    run_dir: Path
    device: str
    anew: set[str] = field(default_factory=set)  # stages to compute again although they are done
    _opened: dict[str, Any] = field(default_factory=dict, repr=False)
    _prints: dict[str, str] = field(default_factory=dict, repr=False)
    _made_of: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _code: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def stage(self, name: str) -> Stage:
        return self.config.stages[name]

    def context(self, name: str, *, planning: bool = False, fitting: bool = False) -> Context:
        """What a stage sees: its sources, opened on first use, as skeletons while planning; what it fitted."""
        has_fitted = self.stage(name).fits and not planning and not fitting
        fitted = self.once(f"fit of {name}", lambda: _open_store(fit_store(self.run_dir, name))) if has_fitted else None
        look = self.skeleton if planning else self.open
        return Context(
            stage=name,
            run_dir=self.run_dir,
            sources=_Sources(self.config.sources(name), look),
            seed=self.config.compute.seed,
            device=self.device,
            fitted=fitted,
            experiment=self.config.name,
            fingerprint=self.fingerprint(name),
        )

    def open(self, name: str) -> Any:
        """What a stage gives, opened once per process."""
        return self.once(name, lambda: self.stage(name).open(self.context(name)))

    def skeleton(self, name: str) -> Any:
        """What a stage will give; what it does give where it is complete already."""

        def made() -> Any:
            read = with_upstream(self.config, [name])  # a stage may be complete when one that it opens no longer is
            if not isinstance(self.stage(name), OutputStage) and all(map(self.complete, read)):
                return self.open(name)
            return self.stage(name).skeleton(self.context(name, planning=True))

        return self.once(f"skeleton of {name}", made)

    def once(self, what: str, make: Callable[[], Any]) -> Any:
        """Something about this run that is computed once per process, until it is forgotten."""
        if what not in self._opened:
            self._opened[what] = make()
        return self._opened[what]

    def complete(self, name: str) -> bool:
        """Whether a stage, and all that a lazy one reads, can be opened with what the run folder has."""
        stage = self.stage(name)
        self.fingerprint(name)  # before anything is opened: what then is loaded is the code that it is about
        if name in self.anew:
            return False
        if stage.fits and not is_done(self, f"{name}.fit", self.fingerprint(name)):
            return False
        if isinstance(stage, OutputStage | LazyStage):
            return all(self.complete(source) for source in upstream(self.config, name))
        return is_done(self, name, self.fingerprint(name))

    def fingerprint(self, name: str) -> str:
        """The short hash of everything that determines a stage's numbers."""
        if name not in self._prints:
            self.ingredients(name)
        return self._prints[name]

    def ingredients(self, name: str) -> dict[str, Any]:
        """What the fingerprint of a stage is made of, as it was when first asked: code that was loaded stays loaded.

        Secrets count in the fingerprint, and are left out here.
        """
        if name not in self._made_of:
            outside = self.code(name)
            made_of = fingerprints.ingredients(self.config, name, self.device, self.fingerprint, outside)
            self._prints[name] = fingerprints.short_hash(made_of)
            self._made_of[name] = self.config.masked_data(made_of)
        return self._made_of[name]

    def code(self, name: str) -> dict[str, str]:
        """What identifies the code outside geoxai that a stage's numbers depend on, as it was when first asked."""
        if name not in self._code:
            self._code[name] = fingerprints.code(self.stage(name))
        return self._code[name]

    def code_hash(self, name: str) -> str:
        """The hash of the code outside geoxai that the numbers of a stage and of those it reads depend on; no data file
        is read for it.
        """
        return fingerprints.short_hash([self.code(one) for one in with_upstream(self.config, [name])])

    def science_hash(self) -> str:
        """The hash of everything in the config that determines numbers."""
        return fingerprints.science_hash(self.config, self.fingerprint)

    def forget(self, name: str) -> None:
        """Drop what was opened of a stage, after its store changed."""
        for what in (name, f"skeleton of {name}", f"layout of {name}", f"fit of {name}"):
            self._opened.pop(what, None)

    def forget_all(self) -> None:
        """Drop everything that was opened."""
        self._opened.clear()


class _Sources(Mapping[str, Any]):
    """The stages that the options of a stage name, opened on first use."""

    def __init__(self, names: Mapping[str, str | list[str] | None], look: Any):
        self._names = names
        self._look = look

    def __getitem__(self, option: str) -> Any:
        name = self._names[option]
        if isinstance(name, list):
            return [self._look(one) for one in name]
        return None if name is None else self._look(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _open_store(path: Path) -> Any:
    import xarray as xr

    return xr.open_zarr(path, consolidated=False)


def fit_store(run_dir: Path, name: str) -> Path:
    """Where what a stage fits is stored."""
    return run_dir / f"{name}.fit.zarr"


def is_done(workspace: Workspace, ledger_name: str, fingerprint: str) -> bool:
    """Whether every unit of a stage (or fit) is in the ledger with this fingerprint."""
    ledger = Ledger(workspace.run_dir, ledger_name)
    entry = ledger.read()
    return (
        entry is not None
        and entry.fingerprint == fingerprint
        and (workspace.run_dir / f"{ledger_name}.zarr").exists()
        and ledger.done(fingerprint) >= set(range(entry.all_units))
    )


def check_skeletons(workspace: Workspace, names: Iterable[str]) -> None:
    """Check stages against what they will get, before anything is computed.

    Raises
    ------
    ConfigError
        With every mistake found, each at its place in the config. A stage that reads a mistaken one is not checked.
    """
    findings: list[Diagnostic] = []
    mistaken: set[str] = set()
    first: Exception | None = None
    for name in names:
        if mistaken & set(upstream(workspace.config, name)):
            mistaken.add(name)
            continue
        try:
            workspace.skeleton(name)
        except Exception as error:
            mistaken.add(name)
            told = plain_error(error, workspace.run_dir)
            findings.append(workspace.config.locate(name, told.option, told))
            first = first or error
    if findings:
        raise ConfigError(findings) from first


def plain_error(error: Exception, folder: Path) -> GeoxaiError:
    """An error as one sentence for users, whoever raised it; ``folder`` is where it was to write."""
    if told := disk_error(error, folder):
        return told
    if isinstance(error, GeoxaiError):
        return error
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        words = " ".join(str(error).split())
        return GeoxaiError(f"out of memory{f': {words}' if words else ''}", fix=MEMORY_FIX)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return GeoxaiError(f"{error.filename}: {error.strerror.lower()}", fix=_TRACE_FIX)
    return GeoxaiError(f"{type(error).__name__}: {error}", fix=_TRACE_FIX)


def check_device(config: Config) -> None:
    """Refuse a device that this machine does not have.

    Raises
    ------
    ConfigError
        At ``compute.device``.
    """
    import torch

    device = config.compute.device
    kind, _, number = device.partition(":")
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind in there and there[kind] <= int(number or 0):
        count = f"{there[kind] or 'no'} {kind} device{'' if there[kind] == 1 else 's'}"
        message = f"compute.device is {device}, but torch finds {count} on this machine"
        raise ConfigError([Diagnostic(config.place("compute.device"), message, "use auto or cpu")])


def upstream(config: Config, name: str) -> list[str]:
    """The stages that a stage names, each once."""
    found: dict[str, None] = {}
    for value in config.sources(name).values():
        found.update(dict.fromkeys([value] if isinstance(value, str) else value or []))
    return list(found)


def with_upstream(config: Config, names: Iterable[str]) -> list[str]:
    """The named stages and all that they read, directly or not, in the order in which they run."""
    wanted: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in wanted:
            wanted.add(name)
            stack += upstream(config, name)
    return [name for name in config.stages if name in wanted]


def bind(config: Config, run_dir: Path | None = None) -> Workspace:
    """The workspace of a config; ``device: auto`` becomes the device there is."""
    return Workspace(config, config.run_dir if run_dir is None else run_dir, resolve_device(config.compute.device))


def resolve_device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def save_config(workspace: Workspace) -> None:
    """Store the config as given and as resolved in the run folder, without secrets."""
    config, resolved = workspace.config, _resolved(workspace)
    write_text(workspace.run_dir / "config.yaml", config.masked_file())
    write_text(workspace.run_dir / RESOLVED, dump(config.masked_data(resolved)))


def left_out(workspace: Workspace) -> str | None:
    """The resolved config where the file in the run folder lacks secrets of it; workers need them."""
    config, resolved = workspace.config, _resolved(workspace)
    secrets = sorted(config.secrets)  # workers mask what they write of them
    return None if config.masked_data(resolved) == resolved else dump(resolved | {"vars": {"secret": secrets}})


def _resolved(workspace: Workspace) -> dict[str, Any]:
    resolved = workspace.config.resolved()
    resolved["compute"]["device"] = workspace.device
    return resolved


def rebuild(run_dir: Path, resolved: str | None = None) -> Workspace:
    """The workspace of a run folder, as a worker sees it; one per process and version of the resolved config.

    ``resolved`` is what ``left_out`` gave.
    """
    path = run_dir / RESOLVED
    return _rebuild(run_dir, path.stat().st_mtime_ns, resolved)


@lru_cache(maxsize=2)
def _rebuild(run_dir: Path, mtime_ns: int, resolved: str | None) -> Workspace:
    return bind(load_resolved(run_dir / RESOLVED, resolved), run_dir)
