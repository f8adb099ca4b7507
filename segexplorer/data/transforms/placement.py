"""Small rotations, scalings and shifts as one affine, applied while a patch is cut so that no edge is invented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.case import IGNORED

Matrix = NDArray[np.float64]


class Placement(Spec):
    """How far patches are turned, scaled and shifted."""

    display_name = "Rotation and scale"
    probability: float = parameter(0.3, title="Chance", meaning="Share of the patches that vary.", ge=0, le=1)
    rotation: float = parameter(
        10.0, title="Rotation", meaning="Largest angle about each axis.", unit="degrees", ge=0, le=180
    )
    scaling: float = parameter(
        0.1, title="Scaling", meaning="Largest change of size: 0.1 is 10 % up or down.", ge=0, lt=0.9
    )
    translation: float = parameter(
        0.0, title="Shift", meaning="Largest shift along each axis.", unit="voxels", ge=0
    )

    def draw(self, rng: np.random.Generator, spacing: Sequence[float]) -> Matrix | None:
        """Return a (3, 4) map from offsets to the patch's centre to offsets in the volume (voxels), or None.

        Angles are true angles in the patient: `spacing` (mm) makes up for voxels that are no cubes.
        """
        varies = rng.random() < self.probability
        angles = np.radians(rng.uniform(-self.rotation, self.rotation, 3))
        size = np.exp(rng.uniform(np.log1p(-self.scaling), -np.log1p(-self.scaling)))
        shift = rng.uniform(-self.translation, self.translation, 3)
        if not varies:
            return None
        mm = np.diag(np.asarray(spacing, float))
        linear = np.linalg.inv(mm) @ rotation(angles) @ mm / size
        return np.column_stack([linear, shift])


def rotation(angles: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """Return the rotation matrix about x, then y, then z; angles in radians."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def cut(
    array: NDArray[Any],
    origin: Sequence[int],
    shape: Sequence[int],
    *,
    fill: float,
    matrix: Matrix | None = None,
    order: Literal[0, 1] = 1,
) -> NDArray[Any]:
    """Cut a patch out of a volume, turned by `matrix` about its centre; what lies outside is `fill`.

    Parameters
    ----------
    array
        (x, y, z) volume.
    origin, shape
        First voxel (may be negative) and size of the patch.
    order
        1 linear, 0 nearest; without a matrix voxels are copied.
    """
    if matrix is not None:
        centre = (np.asarray(shape, float) - 1) / 2
        linear, shift = matrix[:, :3], matrix[:, 3]
        start = np.asarray(origin, float) + centre + shift - linear @ centre
        turned = ndimage.affine_transform(
            array, linear, start, tuple(shape), order=order, mode="constant", cval=fill, prefilter=False
        )
        return np.asarray(turned)
    patch = np.full(tuple(shape), fill, array.dtype)
    source, target = [], []
    for first, wanted, there in zip(origin, shape, array.shape, strict=True):
        begin, end = max(first, 0), min(first + wanted, there)
        source.append(slice(begin, max(end, begin)))
        target.append(slice(begin - first, max(end, begin) - first))
    patch[tuple(target)] = array[tuple(source)]
    return patch


def cut_label(
    label: NDArray[np.uint8], origin: Sequence[int], shape: Sequence[int], matrix: Matrix | None
) -> NDArray[np.uint8]:
    """Cut class indices, nearest neighbour; outside is `IGNORED`."""
    return np.asarray(cut(label, origin, shape, fill=IGNORED, matrix=matrix, order=0), np.uint8)
