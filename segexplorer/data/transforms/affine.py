"""Small rotations, scalings and shifts as one affine, applied while a patch is cut so that no edge is invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core.fields import parameter
from segexplorer.core.label_scheme import IGNORED
from segexplorer.core.spec import Spec

Matrix = NDArray[np.float64]


class Placement(Spec):
    """How far patches are turned, scaled and shifted."""

    display_name = "Rotation and scale"
    probability: float = parameter(
        0.3, title="Chance", description="Share of the patches that vary.", ge=0, le=1
    )
    rotation: float = parameter(
        10.0, title="Rotation", description="Largest angle about each axis.", unit="degrees", ge=0, le=180
    )
    scaling: float = parameter(
        0.1, title="Scaling", description="Largest change of size: 0.1 is 10 % up or down.", ge=0, lt=0.9
    )
    translation: float = parameter(
        0.0, title="Shift", description="Largest shift along each axis.", unit="voxels", ge=0
    )

    def draw(self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Matrix | None:
        """Return a (3, 4) map from offsets to the patch's centre to offsets in the volume (voxels), or None.

        Angles are true angles in the patient: `spacing` (mm) makes up for voxels that are no cubes. A patch of
        `shape` that is one voxel thick is a slice and stays in its plane.
        """
        varies = rng.random() < self.probability
        angles = np.radians(rng.uniform(-self.rotation, self.rotation, 3))
        size = np.exp(rng.uniform(np.log1p(-self.scaling), -np.log1p(-self.scaling)))
        shift = rng.uniform(-self.translation, self.translation, 3)
        if not varies:
            return None
        thin = np.asarray(shape) == 1
        shift[thin] = 0
        if thin.any():  # about the axis across the slice alone; a line is not turned at all
            angles[~thin if thin.sum() == 1 else slice(None)] = 0
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
    """Cut a patch out of a volume, turned by `matrix` about its centre; voxels outside are `fill`.

    Parameters
    ----------
    array
        (x, y, z) volume.
    origin, shape
        First voxel (may be negative) and size of the patch.
    order
        1 linear, 0 nearest; without matrix voxels are copied.
    """
    if matrix is not None:
        linear, start = _from_patch(origin, shape, matrix)
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


@dataclass(frozen=True)
class Reading:
    """What a patch reads of a volume: a box, and how the patch is cut out of it.

    Of a volume in a file, only the box has to be read. Volumes in memory are cut in the same way, so that where a
    volume is kept changes no bit of a patch.

    Attributes
    ----------
    box
        The part of the volume that the patch depends on; at least one voxel.
    origin, shape
        First voxel of the patch within the box, and its size.
    matrix
        How it is turned, or None.
    places
        (3, *shape) where in the box each voxel is read, of a deformed patch; or None.
    """

    box: tuple[slice, slice, slice]
    origin: tuple[int, ...]
    shape: tuple[int, ...]
    matrix: Matrix | None = None
    places: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        volume_shape: Sequence[int],
        origin: Sequence[int],
        shape: Sequence[int],
        matrix: Matrix | None = None,
        field: NDArray[np.float64] | None = None,
    ) -> Reading:
        """Return what a patch reads.

        Parameters
        ----------
        volume_shape
            (x, y, z) voxels of the volume.
        origin, shape, matrix, field
            As for `cut`; `field` is a (3, *shape) displacement in the patch, voxels, before it is turned.
        """
        places = None
        if field is not None:
            places = _displaced(origin, shape, matrix, field)
            lows, highs = places.min(axis=(1, 2, 3)), places.max(axis=(1, 2, 3))
        elif matrix is not None:
            linear, start = _from_patch(origin, shape, matrix)
            ends = np.stack(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij"), -1).reshape(-1, 3)
            corners = ends @ linear.T + start
            lows, highs = corners.min(axis=0), corners.max(axis=0)
        else:
            lows, highs = np.asarray(origin, float), np.asarray(origin, float) + np.asarray(shape) - 1
        # a voxel more on either side: interpolation reads the neighbours, and positions are rounded
        margin = 0 if matrix is None and field is None else 1
        size = np.asarray(volume_shape)
        firsts = np.clip(np.floor(lows).astype(np.int64) - margin, 0, size - 1)
        lasts = np.clip(np.ceil(highs).astype(np.int64) + 1 + margin, firsts + 1, size)
        if places is not None:
            places -= firsts[
                :, np.newaxis, np.newaxis, np.newaxis
            ]  # exact: whole numbers below the positions
        x, y, z = (slice(int(a), int(b)) for a, b in zip(firsts, lasts, strict=True))
        return cls(
            (x, y, z),
            tuple(int(o - a) for o, a in zip(origin, firsts, strict=True)),
            tuple(map(int, shape)),
            matrix,
            places,
        )

    def cut(self, part: NDArray[Any], *, fill: float, order: Literal[0, 1] = 1) -> NDArray[Any]:
        """Return the patch, cut out of the box of a volume: (x, y, z) voxels; outside the volume it is `fill`."""
        if self.places is None:
            return cut(part, self.origin, self.shape, fill=fill, matrix=self.matrix, order=order)
        warped = ndimage.map_coordinates(
            part, self.places, order=order, mode="constant", cval=fill, prefilter=False
        )
        return np.asarray(warped)

    def label(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return class indices, nearest neighbour; outside is `IGNORED`."""
        return np.asarray(self.cut(part, fill=IGNORED, order=0), np.uint8)


def _from_patch(origin: Sequence[int], shape: Sequence[int], matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Return the linear part (3, 3) and the start (3,) of the map from voxels of the patch to the volume's."""
    centre = (np.asarray(shape, float) - 1) / 2
    linear, shift = matrix[:, :3], matrix[:, 3]
    return linear, np.asarray(origin, float) + centre + shift - linear @ centre


def _displaced(
    origin: Sequence[int], shape: Sequence[int], matrix: Matrix | None, field: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where in the volume every voxel of a patch is read, (3, *shape)."""
    inside = np.indices(tuple(shape), float) + field
    linear, start = _from_patch(origin, shape, np.eye(3, 4) if matrix is None else matrix)
    return np.asarray(np.tensordot(linear, inside, 1) + start[:, np.newaxis, np.newaxis, np.newaxis])
