"""Networks: load them, build and train small ones, adapt samples to them, predict."""

from geoxai.models.adapter import Adapter, parse_layout
from geoxai.models.networks import Networks, predict

__all__ = ["Adapter", "Networks", "parse_layout", "predict"]
