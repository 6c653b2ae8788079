"""A config that can be run: its stages, what each reads, and where everything is in the file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from geoxai.config.diagnostic import Diagnostic, Place
from geoxai.config.document import Document, parse
from geoxai.config.envelope import Compute, Output
from geoxai.config.markers import marked
from geoxai.config.secrets import masked, masked_data, masked_word, masked_yaml, secrets_in
from geoxai.errors import GeoxaiError
from geoxai.stages.stage import Reference, Stage


@dataclass(frozen=True)
class Config:
    """A config that can be run.

    ``stages`` are in dependency order, every reference filled in, input files and ``output.dir`` absolute. ``text`` is
    the file as given and ``overrides`` what ``--set`` changed; ``warnings`` are findings that do not stop a run.
    """

    path: Path
    text: str
    name: str
    output: Output
    compute: Compute
    stages: dict[str, Stage]
    overrides: tuple[str, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    _document: Document = field(repr=False, compare=False, default_factory=lambda: Document("", ""))

    @property
    def run_dir(self) -> Path:
        """The folder of the run."""
        return Path(self.output.dir)

    def sources(self, stage: str) -> dict[str, str | list[str] | None]:
        """The stages that a stage reads, by the option that names them; None where an optional one is unset."""
        return dict(marked(self.stages[stage], Reference))

    def place(self, dotted: str) -> Place:
        """Where an option is (``stages.sst.path``); the nearest thing around it where it was left out."""
        path, rest = self._document.find(dotted)
        if rest or (len(path) == 2 and path[0] == "stages"):
            return self._document.key_place(path)
        return self._document.value_place(path)

    def locate(self, stage: str, option: str | None, error: GeoxaiError) -> Diagnostic:
        """An error that a stage raised at run time, shown at the option at fault."""
        place = self.place(f"stages.{stage}.{option}" if option else f"stages.{stage}")
        return Diagnostic(place, f"stage {stage!r}: {error.message}", error.fix, exit_code=error.exit_code)

    def masked(self, text: str) -> str:
        """A text without the secrets of this config: what may be written to a file."""
        return masked(text, self.secrets)

    def masked_data(self, data: Any) -> Any:
        """Plain data without the secrets of this config."""
        return masked_data(data, self.secrets)

    def masked_word(self, word: str) -> str:
        """A word of a command line without the secrets of this config."""
        return masked_word(word, self.secrets)

    def masked_file(self) -> str:
        """The file as given, without its secrets."""
        return masked_yaml(self.text, self.secrets)

    @cached_property
    def secrets(self) -> frozenset[str]:
        """The texts that are masked; those in the file too where ``--set`` replaced them."""
        return secrets_in(self._document.data, parse(self.text, str(self.path)).data)

    def advised(self) -> Config:
        """The same with the warnings that its stages have to give, each at the option it is about."""
        warnings = [
            Diagnostic(self.place(f"stages.{name}.{option}"), f"stage {name!r}: {message}", fix, severity="warning")
            for name, stage in self.stages.items()
            for option, message, fix in stage.advise(name, self.stages)
        ]
        return replace(self, warnings=tuple(sorted(warnings, key=lambda w: (w.place.line, w.place.column))))

    def resolved(self) -> dict[str, Any]:
        """The whole config as plain data, defaults filled in: what ``load_resolved`` reads."""
        return {
            "version": 1,
            "name": self.name,
            "output": self.output.model_dump(mode="json"),
            "compute": self.compute.model_dump(mode="json"),
            "stages": {name: {"use": stage.use, **plain(stage)} for name, stage in self.stages.items()},
        }


def plain(stage: Stage) -> dict[str, Any]:
    """The options of a stage as plain data, by their YAML names, defaults filled in."""
    return stage.model_dump(mode="json", by_alias=True, round_trip=True)
