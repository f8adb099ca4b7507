"""Preprocessing, which is fitted and undone, and augmentation, which is drawn."""

from __future__ import annotations

from segexplorer.data.transforms.augmentation import Augmentation, Variation, augment, draw
from segexplorer.data.transforms.cropping import Cropping
from segexplorer.data.transforms.preprocessing import (
    CaseGrid,
    FittedPreprocessing,
    Prepared,
    Preprocessing,
    fit,
)

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
