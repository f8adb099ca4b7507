"""Augmentation: everything random is drawn first, then applied; patches are never read before their draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.fields import parameter
from segexplorer.core.label_scheme import IGNORED
from segexplorer.core.regions import NOWHERE, Regions
from segexplorer.core.spec import Spec
from segexplorer.data.transforms.affine import Matrix, Placement, Reading
from segexplorer.data.transforms.distance_maps import as_numbers
from segexplorer.data.transforms.elastic import DrawnElastic, Elastic
from segexplorer.data.transforms.flips import Flips
from segexplorer.data.transforms.shading import DrawnShading, Shading


class Voxels(Protocol):
    """What patches are cut from: an array in memory, or voxels in a file, which are read when they are indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; the last three axes are x, y, z."""

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Return a box, by slices."""


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
    _last: list[tuple[Any, Reading]] = field(default_factory=list, compare=False, repr=False)

    def patch(
        self,
        image: Voxels,
        label: Voxels | None,
        origin: Sequence[int],
        shape: Sequence[int],
        darkest: Sequence[float] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Cut the patch out of a prepared case and vary it; of voxels in a file, only its surroundings are read.

        Outside the volume the image is its darkest value and the label `IGNORED`; a case without label is
        ignored everywhere.

        Parameters
        ----------
        image, label
            (C, x, y, z) and (x, y, z).
        darkest
            Lowest value of each channel, where it is known.
        """
        reading = self._reading(image.shape[1:], origin, shape)
        if darkest is None:
            darkest = [float(channel.min()) for channel in np.asarray(image)]
        part = image[(slice(None), *reading.box)]
        pixels = np.stack([reading.cut(c, fill=low) for c, low in zip(part, darkest, strict=True)])
        nothing = np.full(tuple(shape), IGNORED, np.uint8)
        indices = nothing if label is None else reading.label(label[reading.box])
        steps = tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)
        pixels, indices = pixels[(slice(None), *steps)], indices[steps]
        if self.shading is not None:
            pixels = self.shading.apply(pixels)
        return np.ascontiguousarray(pixels), np.ascontiguousarray(indices)

    def map(
        self, name: str, stored: Voxels, origin: Sequence[int], shape: Sequence[int]
    ) -> NDArray[np.float32]:
        """Cut a distance map (C, x, y, z) as the patch; linear where it is turned or deformed, 0 outside."""
        reading = self._reading(stored.shape[1:], origin, shape)
        steps = tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)
        result = np.empty((stored.shape[0], *shape), np.float32)
        for channel in range(stored.shape[0]):
            part = stored[(channel, *reading.box)]
            if self.matrix is not None or self.elastic is not None:
                part = part.astype(np.float32)
            result[channel] = as_numbers(name, reading.cut(part, fill=0.0)[steps])
        return result

    def regions(self, volume: Regions, origin: Sequence[int], shape: Sequence[int]) -> Regions:
        """Return which of a volume's regions each voxel of the patch was read from, as its label is read.

        Where nothing is turned or deformed, boxes stay boxes, which are summed over faster.
        """
        if self.matrix is None and self.elastic is None:
            return volume.patch(origin, shape).mirrored(self.flips)
        reading = self._reading(volume.shape, origin, shape)

        def read(array: NDArray[Any]) -> NDArray[Any]:
            return reading.cut(array[reading.box], fill=NOWHERE, order=0)

        return volume.read(read).mirrored(self.flips)

    @property
    def moves(self) -> bool:
        """Whether voxels of the patch come from elsewhere than their place in it says."""
        return any(self.flips) or self.matrix is not None or self.elastic is not None

    def placement(self, origin: Sequence[int], shape: Sequence[int]) -> NDArray[np.float64] | None:
        """Return the (4, 4) map from voxels of the patch to the volume's; None where it is turned or deformed."""
        if self.matrix is not None or self.elastic is not None:
            return None
        found = np.eye(4)
        for axis, (first, length, flipped) in enumerate(zip(origin, shape, self.flips, strict=True)):
            found[axis, axis] = -1 if flipped else 1
            found[axis, 3] = first + (length - 1 if flipped else 0)
        return found

    def _reading(self, volume_shape: Sequence[int], origin: Sequence[int], shape: Sequence[int]) -> Reading:
        """Return what the patch reads of a volume; the last one is kept, since several arrays share it."""
        key = (tuple(volume_shape), tuple(origin), tuple(shape))
        for known, reading in tuple(self._last):
            if known == key:
                return reading
        field = None if self.elastic is None else self.elastic.field(shape)
        reading = Reading.of(volume_shape, origin, shape, self.matrix, field)
        self._last[:] = [(key, reading)]
        return reading


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
