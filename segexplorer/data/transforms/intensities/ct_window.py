"""CT windows: a range of Hounsfield units by the name radiologists use, or by its ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.data.transforms.intensities.base import IntensitySpec, Numbers, registry
from segexplorer.data.volume import Volume

WINDOWS = {
    "abdomen": (40.0, 400.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Name -> (level, width), HU; the settings in common clinical use."""


@registry.register
class CTWindow(IntensitySpec):
    """Clip to a window, then scale: to 0..1 or -1..1, or by mean and deviation of the training images in it."""

    display_name = "CT window"
    kind: Literal["ct_window"] = "ct_window"
    window: Literal["abdomen", "mediastinum", "lung", "bone", "brain", "custom"] = parameter(
        "abdomen", title="Window", meaning="Level and width by name; custom uses the two ends below."
    )
    low: float = parameter(-160.0, title="Lower end", meaning="Darkest value, for custom.", unit="HU")
    high: float = parameter(240.0, title="Upper end", meaning="Brightest value, for custom.", unit="HU")
    scale: Literal["unit", "symmetric", "standard"] = parameter(
        "unit",
        title="Scale",
        meaning="Unit: 0..1; symmetric: -1..1; standard: mean 0 and deviation 1 over the training images.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> CTWindow:
        if self.window == "custom" and self.low >= self.high:
            raise ValueError("the lower end of the window must lie below the upper one")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Lower and upper end, HU."""
        if self.window == "custom":
            return self.low, self.high
        level, width = WINDOWS[self.window]
        return level - width / 2, level + width / 2

    def fit(self, volumes: Sequence[Volume]) -> dict[str, float]:
        """Return mean and deviation of what lies strictly inside the window (air and bone left out)."""
        if self.scale != "standard":
            return {}
        low, high = self.ends
        count = total = squares = 0.0
        for volume in volumes:
            inside = volume.array[(volume.array > low) & (volume.array < high)].astype(np.float64)
            count, total, squares = count + inside.size, total + inside.sum(), squares + (inside**2).sum()
        if count == 0:
            return {"mean": (low + high) / 2, "deviation": (high - low) / 4}
        mean = total / count
        return {
            "mean": float(mean),
            "deviation": float(max(np.sqrt(max(squares / count - mean**2, 0)), 1e-3)),
        }

    def apply(self, array: NDArray[Any], numbers: Numbers) -> NDArray[np.float32]:
        """Return the windowed image."""
        low, high = self.ends
        clipped = np.clip(array.astype(np.float32), low, high)
        if self.scale == "unit":
            return np.asarray((clipped - low) / (high - low), np.float32)
        if self.scale == "symmetric":
            return np.asarray(2 * (clipped - low) / (high - low) - 1, np.float32)
        return np.asarray((clipped - numbers["mean"]) / numbers["deviation"], np.float32)
