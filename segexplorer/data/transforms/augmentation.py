"""Augmentation: everything random is drawn first, then applied; patches are never read before their draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.fields import parameter
from segexplorer.core.regions import NOWHERE, Regions
from segexplorer.core.spec import Spec
from segexplorer.data.case import IGNORED
from segexplorer.data.transforms.affine import Matrix, Placement, cut, cut_label, nearest_reader
from segexplorer.data.transforms.distance_maps import as_numbers
from segexplorer.data.transforms.elastic import DrawnElastic, Elastic
from segexplorer.data.transforms.flips import Flips
from segexplorer.data.transforms.shading import DrawnShading, Shading


class Augmentation(Spec):
    """Random variation of training patches."""

    display_name = "Augmentation"

    enabled: bool = parameter(True, title="Augment", description="Vary training patches randomly.")
    flips: Flips = parameter(default_factory=Flips, title="Mirroring", description="Mirrored patches.")
    placement: Placement = parameter(
        default_factory=Placement,
        title="Rotation and scale",
        description="Rotated, scaled and shifted patches.",
    )
    elastic: Elastic = parameter(
        default_factory=Elastic, title="Elastic deformation", description="Smooth deformation of the tissue."
    )
    shading: Shading = parameter(
        default_factory=Shading, title="Intensities", description="Contrast, brightness, gamma, noise."
    )


@dataclass(frozen=True)
class Variation:
    """One drawn augmentation of one patch."""

    flips: tuple[bool, bool, bool]
    matrix: Matrix | None
    shading: DrawnShading | None
    elastic: DrawnElastic | None = None

    def patch(
        self,
        image: NDArray[np.float32],
        label: NDArray[np.uint8] | None,
        origin: Sequence[int],
        shape: Sequence[int],
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Cut the patch out of a prepared case and vary it.

        Outside the volume the image is its darkest value and the label `IGNORED`; a case without label is
        ignored everywhere.
        """
        matrix, field = self.matrix, self._field(shape)
        channels = [cut(c, origin, shape, fill=float(c.min()), matrix=matrix, field=field) for c in image]
        pixels = np.stack(channels)
        if label is None:
            indices = np.full(tuple(shape), IGNORED, np.uint8)
        else:
            indices = cut_label(label, origin, shape, matrix, field)
        steps = tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)
        pixels, indices = pixels[(slice(None), *steps)], indices[steps]
        if self.shading is not None:
            pixels = self.shading.apply(pixels)
        return np.ascontiguousarray(pixels), np.ascontiguousarray(indices)

    def map(
        self, name: str, stored: NDArray[np.int16], origin: Sequence[int], shape: Sequence[int]
    ) -> NDArray[np.float32]:
        """Cut a distance map (C, x, y, z) as the patch; linear where it is turned or deformed, 0 outside."""
        matrix, field = self.matrix, self._field(shape)
        wide: Any = stored if matrix is None and field is None else stored.astype(np.float32)
        cut_out = np.stack([cut(c, origin, shape, fill=0.0, matrix=matrix, field=field) for c in wide])
        steps = tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)
        return np.ascontiguousarray(as_numbers(name, cut_out[(slice(None), *steps)]))

    def regions(self, volume: Regions, origin: Sequence[int], shape: Sequence[int]) -> Regions:
        """Return which of a volume's regions each voxel of the patch was read from, as its label is read.

        Where nothing is turned or deformed, boxes stay boxes, which are summed over faster.
        """
        matrix, field = self.matrix, self._field(shape)
        if matrix is None and field is None:
            return volume.patch(origin, shape).mirrored(self.flips)
        reader = nearest_reader(origin, shape, fill=NOWHERE, matrix=matrix, field=field)
        return volume.read(reader).mirrored(self.flips)

    @property
    def moves(self) -> bool:
        """Whether voxels of the patch come from elsewhere than their place in it says."""
        return any(self.flips) or self.matrix is not None or self.elastic is not None

    def _field(self, shape: Sequence[int]) -> NDArray[np.float64] | None:
        return None if self.elastic is None else self.elastic.field(shape)


STILL = Variation((False, False, False), None, None)
"""The variation that changes nothing."""


def draw(
    spec: Augmentation,
    rng: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Variation:
    """Draw one augmentation of patches of a shape; equal generators give equal variations."""
    if not spec.enabled:
        return STILL
    flips = spec.flips.draw(rng)
    matrix = spec.placement.draw(rng, shape, spacing)
    elastic = spec.elastic.draw(rng, shape, spacing)
    return Variation(flips, matrix, spec.shading.draw(rng), elastic)


def augment(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    rng: np.random.Generator,
    spec: Augmentation,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return an augmented copy of an image (C, x, y, z) and its class indices (x, y, z)."""
    return draw(spec, rng, label.shape, spacing).patch(image, label, (0, 0, 0), label.shape)
