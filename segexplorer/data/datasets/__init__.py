"""Data sets by kind: `names()`, `spec(kind)`, `recognise(folder)`."""

from __future__ import annotations

from segexplorer.core.plugins import discover
from segexplorer.data.datasets.base import AnyDataset, DatasetSpec, Listing, Recognition, registry
from segexplorer.data.datasets.layout import recognise, recognised_dataset

# Every file of this folder may register kinds, so a new data set is a new file.
discover(__name__, __path__)

names = registry.names
presets = registry.presets
spec = registry.spec
parse = registry.parse

__all__ = [
    "AnyDataset",
    "DatasetSpec",
    "Listing",
    "Recognition",
    "names",
    "parse",
    "presets",
    "recognise",
    "recognised_dataset",
    "registry",
    "spec",
]
