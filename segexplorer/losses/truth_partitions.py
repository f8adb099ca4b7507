"""Partitions that follow the truth of a case: regions in the shape of organs, and boxes of equal foreground.

Chen 2023 (section 5) leaves both to future work: regions of other shape than boxes, according to the organ, and a
division that accommodates its size. No published result supports a choice among them. Both are computed once per
prepared case, on the whole volume, and travel with the patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.regions import BoxRegions, Edges, MapRegions, Regions
from segexplorer.losses.partitions import PartitionSpec, registry

IGNORED = 255
"""Value of voxels without truth in label maps."""
ELSEWHERE = 0
"""Number of the region that belongs to no structure."""


class TruthPartition(PartitionSpec):
    """Base of the partitions that need the label of the whole volume; a kind implements `numbers`."""

    follows_truth: ClassVar[bool] = True

    def edges(self, shape: Sequence[int]) -> Edges:
        """Refuse: these regions are not known from a shape.

        Raises
        ------
        SpecError
            Always.
        """
        raise SpecError(
            f"The partition {self.display_name} needs the truth of a volume, not its shape alone.",
            "Evaluate a loss with it, or call divide with the labels.",
        )

    def divide(
        self,
        shape: Sequence[int],
        labels: NDArray[np.uint8] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Regions:
        """Return the regions of a whole volume; one region where there is no label or no foreground."""
        if labels is None:
            return BoxRegions.of([(0, int(n)) for n in shape])
        known = np.where(labels == IGNORED, 0, labels)
        millimetres = np.ones(known.ndim) if spacing is None else np.asarray(spacing, np.float64)
        return MapRegions.of(self.numbers(known, millimetres))

    def numbers(self, labels: NDArray[np.uint8], spacing: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the number of each voxel's region, at least 0.

        Parameters
        ----------
        labels
            Class indices, 0 = background and voxels without truth.
        spacing
            mm along each axis.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own


@registry.register
class Structures(TruthPartition):
    """One region for each connected structure of the truth with a margin around it, and one for the rest.

    Structures are connected voxels of one class, also by edges and corners. Each voxel within the margin belongs to
    the nearest structure, so that regions meet half-way between neighbours.
    """

    display_name: ClassVar[str] = "Structures"
    reference: ClassVar[str] = "Chen 2023, section 5: regions in the shape of the organ"
    kind: Literal["structures"] = "structures"
    margin: float | None = parameter(
        10.0,
        title="Margin",
        description="How far around a structure its region reaches; none: every voxel belongs to a structure.",
        unit="mm",
        scale="log",
        typical=(0.1, 1000),
        ge=0,
        le=1000,
    )
    smallest: int = parameter(
        8,
        title="Smallest structure",
        description="Structures of fewer voxels have no region of their own.",
        unit="voxels",
        ge=1,
    )
    most: int = parameter(
        256,
        title="Most structures",
        description="Of more structures, the largest have regions of their own.",
        scale="log",
        ge=1,
        le=10_000,
        advanced=True,
    )

    def numbers(self, labels: NDArray[np.uint8], spacing: NDArray[np.float64]) -> NDArray[np.int32]:
        """Number the structures from 1, class by class, and give each voxel that of the nearest one."""
        from scipy import ndimage

        seeds = self._structures(labels)
        if not seeds.any():
            return seeds
        part = self._reach(seeds, spacing)
        inside = seeds[part]
        distance, nearest = ndimage.distance_transform_edt(inside == 0, sampling=spacing, return_indices=True)
        found = inside[tuple(nearest)]
        if self.margin is not None:
            found[distance > self.margin] = ELSEWHERE
        seeds[part] = found
        return seeds

    def _structures(self, labels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Return the numbers of the structures that have regions, 0 elsewhere."""
        from scipy import ndimage

        seeds, sizes = np.zeros(labels.shape, np.int32), [0]
        touching = np.ones((3,) * labels.ndim, bool)
        for value in np.unique(labels[labels != 0]):
            pieces, count = ndimage.label(labels == value, touching)
            sizes += np.bincount(pieces.ravel(), minlength=count + 1)[1:].tolist()
            inside = pieces > 0
            seeds[inside] = pieces[inside] + (len(sizes) - 1 - count)
        order = np.argsort(-np.asarray(sizes), kind="stable")[: self.most]
        kept = np.sort(order[np.asarray(sizes)[order] >= self.smallest])
        places = np.zeros(len(sizes), np.int32)
        places[kept] = np.arange(1, len(kept) + 1)
        return places[seeds]

    def _reach(self, seeds: NDArray[np.int32], spacing: NDArray[np.float64]) -> tuple[slice, ...]:
        """Return the part of the volume that lies within the margin of some structure."""
        if self.margin is None:
            return tuple(slice(0, n) for n in seeds.shape)
        part = []
        for axis, (n, step) in enumerate(zip(seeds.shape, spacing, strict=True)):
            met = np.flatnonzero(seeds.any(axis=tuple(a for a in range(seeds.ndim) if a != axis)))
            more = math.ceil(self.margin / step)
            part.append(slice(max(0, int(met[0]) - more), min(n, int(met[-1]) + more + 1)))
        return tuple(part)


@registry.register
class EqualForeground(TruthPartition):
    """Boxes that hold about equally many foreground voxels: small ones in organs, large ones elsewhere.

    The box with most foreground is cut across its longest side (mm) at the median of its foreground, until there
    are enough boxes or none can be cut.
    """

    display_name: ClassVar[str] = "Equal foreground"
    reference: ClassVar[str] = "k-d tree (Bentley 1975); Chen 2023, section 5: regions by the size of organs"
    kind: Literal["equal_foreground"] = "equal_foreground"
    count: int = parameter(
        64, title="Boxes", description="How many boxes a volume is cut into.", scale="log", ge=1, le=4096
    )
    smallest: int = parameter(
        4,
        title="Smallest edge",
        description="No box is cut to fewer voxels along an axis.",
        unit="voxels",
        ge=1,
    )

    def numbers(self, labels: NDArray[np.uint8], spacing: NDArray[np.float64]) -> NDArray[np.int32]:
        """Cut the volume and number its boxes."""
        voxels = np.argwhere(labels != 0)
        boxes: list[tuple[tuple[tuple[int, int], ...], NDArray[np.int64]]]
        boxes = [(tuple((0, n) for n in labels.shape), voxels)]
        while len(boxes) < self.count:
            order = sorted(range(len(boxes)), key=lambda k: -len(boxes[k][1]))
            cuts = ((k, self._cut(*boxes[k], spacing)) for k in order)
            place, cut = next(((k, cut) for k, cut in cuts if cut is not None), (0, None))
            if cut is None:
                break
            span, inside = boxes[place]
            axis, at = cut
            below = inside[:, axis] < at
            low, high = list(span), list(span)
            low[axis], high[axis] = (span[axis][0], at), (at, span[axis][1])
            boxes[place] = (tuple(low), inside[below])
            boxes.append((tuple(high), inside[~below]))
        result = np.zeros(labels.shape, np.int32)
        for number, (span, _) in enumerate(boxes):
            result[tuple(slice(a, b) for a, b in span)] = number
        return result

    def _cut(
        self, span: Sequence[tuple[int, int]], inside: NDArray[np.int64], spacing: NDArray[np.float64]
    ) -> tuple[int, int] | None:
        """Return the axis across which to cut a box, and the first voxel of its upper half; None: do not."""
        if len(inside) < 2:
            return None
        edges = [b - a for a, b in span]
        lengths = [n * mm if n >= 2 * self.smallest else 0.0 for n, mm in zip(edges, spacing, strict=True)]
        axis = int(np.argmax(lengths))
        if lengths[axis] == 0:
            return None
        first, last = span[axis]
        middle = int(np.ceil(np.median(inside[:, axis])))
        return axis, min(max(middle, first + self.smallest), last - self.smallest)
