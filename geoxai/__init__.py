"""geoxai: explainable AI for gridded geoscience data.

The public API is small: ``explain``, ``receptive_field``, ``plot``, ``run`` and ``open_run``. They are imported on
first use, so that ``import geoxai`` and the command line start without loading torch or xarray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoxai.attribution.fields.receptive import receptive_field
    from geoxai.explaining import explain
    from geoxai.pipeline import open_run, run
    from geoxai.plotting.drawing import plot

    __version__: str

_LAZY = {
    "explain": "geoxai.explaining",
    "receptive_field": "geoxai.attribution.fields.receptive",
    "plot": "geoxai.plotting.drawing",
    "run": "geoxai.pipeline",
    "open_run": "geoxai.pipeline",
}
__all__ = ["__version__", "explain", "open_run", "plot", "receptive_field", "run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("geoxai.version").version()
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'geoxai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
