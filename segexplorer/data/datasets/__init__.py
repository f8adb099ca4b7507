"""Data sets: kinds and presets; importing this registers the built-in ones, in the order they are recognised."""

from __future__ import annotations

from segexplorer.data.datasets import (  # noqa: F401  (registers them)
    acdc,
    bids,
    brats,
    btcv,
    decathlon,
    folder,
    kits,
    lits,
    msseg2,
    nnunet,
    pairs,
    pancreas_ct,
    phantom,
    side_by_side,
    structure_files,
)

from segexplorer.data.datasets import auto, case_list  # isort: skip # noqa: F401
from segexplorer.data.datasets.base import AnyDataset, DatasetSpec, Listing, Recognition, registry
from segexplorer.data.datasets.detection import described, recognise

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
