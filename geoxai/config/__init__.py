"""YAML text to validated objects; every error carries its place, a snippet and a remedy."""

from geoxai.config.config import Config
from geoxai.config.diagnostic import ConfigError, Diagnostic, Place
from geoxai.config.document import dump
from geoxai.config.loading import load, load_resolved
from geoxai.config.markers import marked
from geoxai.config.schema import json_schema

__all__ = ["Config", "ConfigError", "Diagnostic", "Place", "dump", "json_schema", "load", "load_resolved", "marked"]
