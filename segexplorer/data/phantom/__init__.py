"""Phantoms: seeded synthetic volumes with exact labels, for demos, teaching and tests. Not patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.data.phantom import ct_abdomen, mr_brain
from segexplorer.data.volume import Modality

Anatomy = Literal["ct_abdomen", "mr_brain"]
CLASSES: Mapping[Anatomy, tuple[str, ...]] = {"ct_abdomen": ct_abdomen.CLASSES, "mr_brain": mr_brain.CLASSES}
MODALITIES: Mapping[Anatomy, Modality] = {"ct_abdomen": "CT", "mr_brain": "MR"}
_EXTENTS = {"ct_abdomen": ct_abdomen.EXTENT, "mr_brain": mr_brain.EXTENT}


@dataclass(frozen=True)
class Phantom:
    """Voxels of a phantom: image, and label with value k for `CLASSES[anatomy][k - 1]`."""

    image: NDArray[Any]
    label: NDArray[np.uint8]


def phantom_affine(anatomy: Anatomy, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return the affine (voxel index -> RAS mm); the same field of view is cut into any number of voxels."""
    extent = np.asarray(_EXTENTS[anatomy])
    spacing = extent / np.asarray(shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -extent / 2 + spacing / 2
    return affine


def render(anatomy: Anatomy, shape: Sequence[int], seed: int | Sequence[int]) -> Phantom:
    """Render a phantom; equal arguments give equal voxels.

    Parameters
    ----------
    shape
        Voxels along x, y and z.
    seed
        One number, or several such as (data set, case).
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    if anatomy == "ct_abdomen":
        return Phantom(*ct_abdomen.render_ct(shape, rng))
    return Phantom(*mr_brain.render_mr(shape, rng))
