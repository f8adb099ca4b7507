"""Percentile scaling per image: a fixed share of dark and bright voxels is clipped, the rest becomes 0..1."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.data.transforms.intensities.base import IntensitySpec, Numbers, registry


@registry.register
class Percentile(IntensitySpec):
    """Scale between two percentiles of the image's own intensities."""

    display_name = "Percentiles"
    kind: Literal["percentile"] = "percentile"
    low: float = parameter(0.5, title="Lower percentile", meaning="Becomes 0.", unit="%", ge=0, le=100)
    high: float = parameter(99.5, title="Upper percentile", meaning="Becomes 1.", unit="%", ge=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError("the lower percentile must lie below the upper one")
        return self

    def apply(self, array: NDArray[Any], numbers: Numbers) -> NDArray[np.float32]:
        """Return the scaled image; a constant image becomes 0."""
        low, high = np.percentile(array, (self.low, self.high))
        clipped = np.clip(array.astype(np.float32), low, high)
        return np.asarray((clipped - low) / (high - low if high > low else 1.0), np.float32)
