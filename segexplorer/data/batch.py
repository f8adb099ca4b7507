"""A batch of patches, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Patches of a training step.

    Attributes
    ----------
    images
        (B, C, *S) float32.
    labels
        (B, 1, *S) int64 class indices, 255 = ignored (padding among it).
    cases
        Case id of each patch.
    origins, volume_shapes
        (B, D) voxel index of each patch in its prepared volume (negative in padding), and that volume's shape.
    spacings
        (B, D) mm.
    maps
        Name -> (B, C, *S) float32: distance maps of the whole volumes, cut with the patches.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    cases: tuple[str, ...]
    origins: NDArray[np.int64]
    volume_shapes: NDArray[np.int64]
    spacings: NDArray[np.float64]
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
