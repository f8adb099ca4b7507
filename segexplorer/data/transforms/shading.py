"""Random contrast, brightness, gamma and noise of a patch; labels are untouched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec


class Shading(Spec):
    """How far intensities vary, relative to the patch's own spread."""

    display_name = "Intensities"
    probability: float = parameter(
        0.3, title="Chance", description="Chance of each of the changes.", ge=0, le=1
    )
    contrast: float = parameter(0.2, title="Contrast", description="Largest change of contrast.", ge=0, lt=1)
    brightness: float = parameter(
        0.1, title="Brightness", description="Largest shift, in deviations of the patch.", ge=0
    )
    gamma: float = parameter(
        0.2, title="Gamma", description="Largest change of the gamma exponent.", ge=0, lt=1
    )
    noise: float = parameter(
        0.05, title="Noise", description="Largest deviation of added noise, in deviations of the patch.", ge=0
    )
    blur: float = parameter(0.0, title="Blur", description="Largest blur.", unit="voxels", ge=0, le=3)

    def draw(self, rng: np.random.Generator) -> DrawnShading:
        """Return one random change; five switches are drawn first, then their strengths."""
        on = rng.random(5) < self.probability
        contrast, brightness, gamma = (
            rng.uniform(-1, 1, 3) * (self.contrast, self.brightness, self.gamma) * on[:3]
        )
        noise, blur = rng.uniform(0, 1, 2) * (self.noise, self.blur) * on[3:]
        return DrawnShading(
            float(contrast),
            float(brightness),
            float(gamma),
            float(noise),
            float(blur),
            int(rng.integers(2**63)),
        )


@dataclass(frozen=True)
class DrawnShading:
    """One random change of intensities; `seed` is that of its noise."""

    contrast: float
    brightness: float
    gamma: float
    noise: float
    blur: float
    seed: int

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the changed image, (C, x, y, z); a constant channel is left alone."""
        return np.stack([self._channel(c, k) for k, c in enumerate(image)]) if self._changes else image

    @property
    def _changes(self) -> bool:
        return any((self.contrast, self.brightness, self.gamma, self.noise, self.blur))

    def _channel(self, values: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        spread = float(values.std())
        if spread == 0:
            return values
        out = values
        if self.blur > 0.2:
            out = ndimage.gaussian_filter(out, self.blur, truncate=2)
        if self.gamma:
            low, high = float(out.min()), float(out.max())
            scaled = (out - low) / max(high - low, 1e-6)
            out = np.power(scaled, np.float32(1 + self.gamma)) * (high - low) + low
        mean = float(out.mean())
        out = (out - mean) * np.float32(1 + self.contrast) + np.float32(mean + self.brightness * spread)
        if self.noise:
            rng = np.random.default_rng([self.seed, channel])
            out = out + rng.standard_normal(out.shape, np.float32) * np.float32(self.noise * spread)
        return np.asarray(out, np.float32)
