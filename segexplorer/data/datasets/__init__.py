"""Data sets: kinds and presets; importing this registers the built-in ones."""

from __future__ import annotations

from segexplorer.data.datasets import (  # noqa: F401  (registers them)
    benchmarks,
    bids,
    folder,
    lists,
    nnunet,
    phantom,
    structure_files,
)
from segexplorer.data.datasets.base import AnyDataset, DatasetSpec, Listing, Recognition, registry
from segexplorer.data.datasets.layout import described, recognise

names = registry.names
presets = registry.presets
spec = registry.spec
parse = registry.parse

__all__ = [
    "AnyDataset",
    "DatasetSpec",
    "Listing",
    "Recognition",
    "described",
    "names",
    "parse",
    "presets",
    "recognise",
    "registry",
    "spec",
]
