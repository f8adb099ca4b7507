"""Preprocessing, which is fitted and undone, and augmentation, which is drawn."""

from __future__ import annotations

from segexplorer.data.transforms.augmentation import Augmentation, Variation, augment, draw
from segexplorer.data.transforms.cropping import Cropping
from segexplorer.data.transforms.fitted import FittedPreprocessing
from segexplorer.data.transforms.prepared import CaseGrid, Prepared
from segexplorer.data.transforms.preprocessing import Preprocessing, fit

__all__ = [
    "Augmentation",
    "CaseGrid",
    "Cropping",
    "FittedPreprocessing",
    "Prepared",
    "Preprocessing",
    "Variation",
    "augment",
    "draw",
    "fit",
]
