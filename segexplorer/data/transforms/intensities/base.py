"""What every rule for intensities offers, and the family they are registered in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

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
