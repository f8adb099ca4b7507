"""Exporters: a trained run as something that other programs use, e.g. a MONAI bundle.

Each format is a file here, or comes from another package by entry point. None is part of an experiment:
`export_run` and `segexplorer export` take one when a run is there.
"""

from __future__ import annotations

from segexplorer.core.plugins import discover
from segexplorer.training.exporters.base import ExporterSpec, export_run, registry

discover(__name__, __path__)

names = registry.names
spec = registry.spec

__all__ = ["ExporterSpec", "export_run", "names", "registry", "spec"]
