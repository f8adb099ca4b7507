"""Z-scores per image, for modalities whose scale means nothing, such as MR."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.fields import parameter
from segexplorer.data.transforms.intensities.base import IntensitySpec, Numbers, registry


@registry.register
class ZScore(IntensitySpec):
    """Subtract the centre of an image's own intensities and divide by their spread."""

    display_name = "Z-score"
    kind: Literal["z_score"] = "z_score"
    robust: Literal["off", "percentiles", "median"] = parameter(
        "percentiles",
        title="Outliers",
        meaning="Off: mean and deviation. Percentiles: after clipping at 0.5 and 99.5 %. "
        "Median: median and interquartile range.",
    )
    nonzero: bool = parameter(
        False,
        title="Leave out zeros",
        meaning="Take the statistics where the image is not 0 (skull-stripped).",
    )
    scale: Literal["standard", "unit"] = parameter(
        "standard",
        title="Scale",
        meaning="Standard: mean 0 and deviation 1. Unit: then brought to 0..1, lowest to highest (Yeung 2022).",
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
