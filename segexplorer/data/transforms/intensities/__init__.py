"""Rules for intensities; importing this registers the built-in ones."""

from __future__ import annotations

from segexplorer.data.transforms.intensities.automatic import Auto
from segexplorer.data.transforms.intensities.base import AnyIntensity, IntensitySpec, registry
from segexplorer.data.transforms.intensities.ct_window import WINDOWS, CTWindow
from segexplorer.data.transforms.intensities.percentile import Percentile
from segexplorer.data.transforms.intensities.z_score import ZScore

__all__ = ["WINDOWS", "AnyIntensity", "Auto", "CTWindow", "IntensitySpec", "Percentile", "ZScore", "registry"]
