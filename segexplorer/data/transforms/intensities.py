"""Rules that turn stored intensities into what a network sees; importing this registers the built-in ones.

A window for CT, percentiles and z-scores per image for modalities whose scale means nothing, such as MR, and
`auto`, which chooses by modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.data.volume import Modality, Volume

Numbers = Mapping[str, float]


class IntensitySpec(Spec):
    """Base of the rules that turn stored intensities into what a network sees."""

    def resolve(self, modality: Modality) -> IntensitySpec:
        """Return the rule for images of a modality; most are the same for all."""
        return self

    def fit(self, volumes: Sequence[Volume]) -> dict[str, float]:
        """Return the statistics of the training images of one channel that `apply` needs; often none."""
        return {}

    def apply(self, array: NDArray[Any], numbers: Numbers) -> NDArray[np.float32]:
        """Return the scaled intensities, float32, of an image of any shape."""
        raise NotImplementedError


registry: Registry[IntensitySpec] = Registry("intensities", IntensitySpec, "intensity rule")
AnyIntensity = Annotated[IntensitySpec, registry.late_bound]

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
        "abdomen", title="Window", description="Level and width by name; custom uses the two ends below."
    )
    low: float = parameter(-160.0, title="Lower end", description="Darkest value, for custom.", unit="HU")
    high: float = parameter(240.0, title="Upper end", description="Brightest value, for custom.", unit="HU")
    scale: Literal["unit", "symmetric", "standard"] = parameter(
        "unit",
        title="Scale",
        description="Unit: 0..1; symmetric: -1..1; standard: mean 0 and deviation 1 over the training images.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> CTWindow:
        if self.window == "custom" and self.low >= self.high:
            raise ValueError("the lower end of the window must be below the upper one")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Lower and upper end, HU."""
        if self.window == "custom":
            return self.low, self.high
        level, width = WINDOWS[self.window]
        return level - width / 2, level + width / 2

    def fit(self, volumes: Sequence[Volume]) -> dict[str, float]:
        """Return mean and deviation of the values strictly inside the window (air and bone left out)."""
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


@registry.register
class Percentile(IntensitySpec):
    """Scale between two percentiles of the image's own intensities."""

    display_name = "Percentiles"
    kind: Literal["percentile"] = "percentile"
    low: float = parameter(0.5, title="Lower percentile", description="Becomes 0.", unit="%", ge=0, le=100)
    high: float = parameter(99.5, title="Upper percentile", description="Becomes 1.", unit="%", ge=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError("the lower percentile must be below the upper one")
        return self

    def apply(self, array: NDArray[Any], numbers: Numbers) -> NDArray[np.float32]:
        """Return the scaled image; a constant image becomes 0."""
        low, high = np.percentile(array, (self.low, self.high))
        clipped = np.clip(array.astype(np.float32), low, high)
        return np.asarray((clipped - low) / (high - low if high > low else 1.0), np.float32)


@registry.register
class ZScore(IntensitySpec):
    """Subtract the centre of an image's own intensities and divide by their spread."""

    display_name = "Z-score"
    kind: Literal["z_score"] = "z_score"
    robust: Literal["off", "percentiles", "median"] = parameter(
        "percentiles",
        title="Outliers",
        description="Off: mean and deviation. Percentiles: after clipping at 0.5 and 99.5 %. "
        "Median: median and interquartile range.",
    )
    nonzero: bool = parameter(
        False,
        title="Leave out zeros",
        description="Take the statistics where the image is not 0 (skull-stripped).",
    )
    scale: Literal["standard", "unit"] = parameter(
        "standard",
        title="Scale",
        description="Standard: mean 0 and deviation 1. Unit: then brought to 0..1, lowest to highest (Yeung 2022).",
    )

    def apply(self, array: NDArray[Any], numbers: Numbers) -> NDArray[np.float32]:
        """Return the z-scores; a constant image becomes 0."""
        values = array.astype(np.float32)
        basis = values[values != 0] if self.nonzero and values.any() else values
        if self.robust == "median":
            lower, centre, upper = np.percentile(basis, (25, 50, 75))
            spread = (
                upper - lower
            ) / 1.349  # the interquartile range of a normal distribution, in deviations
            spread = spread if spread > 0 else float(basis.std(dtype=np.float64))
        else:
            if self.robust == "percentiles":
                low, high = np.percentile(basis, (0.5, 99.5))
                values, basis = np.clip(values, low, high), np.clip(basis, low, high)
            centre, spread = float(basis.mean(dtype=np.float64)), float(basis.std(dtype=np.float64))
        scores = (values - centre) / (spread if spread > 0 else 1.0)
        if self.scale == "unit":
            least, most = float(scores.min()), float(scores.max())
            scores = (scores - least) / (most - least if most > least else 1.0)
        return np.asarray(scores, np.float32)


@registry.register
class Auto(IntensitySpec):
    """CT: the abdomen window. Anything else: z-scores after clipping outliers."""

    display_name = "By modality"
    kind: Literal["auto"] = "auto"

    def resolve(self, modality: Modality) -> IntensitySpec:
        """Return the concrete rule."""
        return CTWindow() if modality == "CT" else ZScore()


__all__ = ["WINDOWS", "AnyIntensity", "Auto", "CTWindow", "IntensitySpec", "Percentile", "ZScore", "registry"]
