"""The rule by modality: a window for CT, robust z-scores for the rest."""

from __future__ import annotations

from typing import Literal

from segexplorer.data.transforms.intensities.base import IntensitySpec, registry
from segexplorer.data.transforms.intensities.ct_window import CTWindow
from segexplorer.data.transforms.intensities.z_score import ZScore
from segexplorer.data.volume import Modality


@registry.register
class Auto(IntensitySpec):
    """CT: the abdomen window. Anything else: z-scores after clipping outliers."""

    display_name = "By modality"
    kind: Literal["auto"] = "auto"

    def resolve(self, modality: Modality) -> IntensitySpec:
        """Return the concrete rule."""
        return CTWindow() if modality == "CT" else ZScore()
