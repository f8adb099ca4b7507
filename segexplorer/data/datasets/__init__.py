"""Data sets: kinds and presets; importing this registers the built-in ones."""

from __future__ import annotations

from segexplorer.data.datasets import decathlon, folder, pairs, phantom  # noqa: F401  (registers them)
from segexplorer.data.datasets.base import AnyDataset, DatasetSpec, registry

names = registry.names
presets = registry.presets
spec = registry.spec
parse = registry.parse

__all__ = ["AnyDataset", "DatasetSpec", "names", "parse", "presets", "registry", "spec"]
