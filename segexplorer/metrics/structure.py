"""The two volumes of a case, and one class in them: what all metrics share, computed at most once.

A `LabelPair` counts the voxels of all classes in one pass and finds the border voxels of each, and so its box, in
another. Its `structures()` are the classes, each cropped to the box around its two masks; surfaces, connected
components and skeletons are computed when the first metric asks for them, and forgotten with the structure. Nothing
outside the box belongs to either mask, so the crop changes no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.metrics.base import IGNORED
from segexplorer.metrics.centreline import centreline
from segexplorer.metrics.detection import Matching, match_components
from segexplorer.metrics.options import MetricOptions
from segexplorer.metrics.overlap import class_counts, confusion_matrix
from segexplorer.metrics.surface import (
    Borders,
    Box,
    Surfaces,
    border,
    border_distances,
    find_borders,
    image_diagonal,
)
from segexplorer.metrics.surface_dice import SurfaceAgreement, surface_agreement

Mask = NDArray[np.bool_]


class LabelPair:
    """A predicted volume and the truth on one grid.

    Parameters
    ----------
    prediction, truth
        Integer label indices of one shape, 2 or 3 axes; 0 is background; voxels whose truth is 255 are left out.
    class_names
        Names of the foreground classes, for the values 1, 2, ...
    spacing
        Voxel size along each axis, mm.
    options
        How components are matched, tolerances ...
    scheme
        What the label indices mean, where classes overlap.

    Raises
    ------
    DataError
        When shapes differ, values are no integers, or a class index is out of range.
    """

    def __init__(
        self,
        prediction: NDArray[Any],
        truth: NDArray[Any],
        class_names: Sequence[str],
        spacing: Sequence[float],
        options: MetricOptions | None = None,
        scheme: LabelScheme = EXCLUSIVE,
    ) -> None:
        self.scheme = scheme
        self.prediction, self.truth = np.asarray(prediction), np.asarray(truth)
        self.class_names, self.spacing = tuple(class_names), tuple(map(float, spacing))
        self.options = options or MetricOptions()
        matrix = confusion_matrix(self.prediction, self.truth, scheme.indices(len(self.class_names)))
        self.counts = class_counts(matrix, scheme)[1:]
        self.diagonal = image_diagonal(self.truth.shape, self.spacing)
        self.voxel_mm3 = float(np.prod(self.spacing))

    @cached_property
    def _flat(self) -> tuple[NDArray[Any], NDArray[Any], tuple[float, ...]]:
        """Both volumes and their spacing, without axes of one voxel: a single slice is the picture that it is.

        Its contour is its surface then, not all of the mask.
        """
        shape = self.truth.shape
        thick = [axis for axis, size in enumerate(shape) if size > 1] or [0]
        flat = tuple(axis for axis in range(len(shape)) if axis not in thick)
        prediction, truth = self.prediction.squeeze(flat), self.truth.squeeze(flat)
        ignored = truth == IGNORED
        if ignored.any():
            prediction = np.where(ignored, prediction.dtype.type(0), prediction)
        return prediction, truth, tuple(self.spacing[axis] for axis in thick)

    @cached_property
    def _borders(self) -> tuple[Borders, Borders]:
        """The border voxels of all label indices in prediction and truth."""
        prediction, truth, _ = self._flat
        n_indices = self.scheme.indices(len(self.class_names)) - 1
        return find_borders(prediction, n_indices), find_borders(truth, n_indices)

    @cached_property
    def _boxes(self) -> list[Box | None]:
        """The box around both masks of every class; None where neither has a voxel."""
        of_indices = [_around(both) for both in zip(*(side.boxes for side in self._borders), strict=True)]
        if not self.scheme.overlapping:
            return of_indices
        of_classes = self.scheme.table[1 : len(of_indices) + 1, 1:].T
        return [_around(compress(of_indices, own)) for own in of_classes]

    def structures(self) -> Iterator[Structure]:
        """Yield the classes 1, 2, ... one by one; keep none of them longer than it is needed."""
        for index in range(1, len(self.class_names) + 1):
            yield Structure(self, index)


def _around(boxes: Iterable[Box | None]) -> Box | None:
    """Return the box around boxes; None without any."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    return tuple(
        slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in zip(*there, strict=True)
    )


class Structure:
    """One class in one case: its counts, its two masks, and what is computed from them.

    Attributes
    ----------
    name, counts
        Of the class.
    voxel_mm3, diagonal
        Volume of a voxel, and the diagonal of the image, mm.
    options
        Of the metrics.
    """

    def __init__(self, pair: LabelPair, index: int) -> None:
        self._pair, self._index = pair, index
        self.name, self.counts, self.options = (
            pair.class_names[index - 1],
            pair.counts[index - 1],
            pair.options,
        )
        self.voxel_mm3, self.diagonal = pair.voxel_mm3, pair.diagonal

    @property
    def state(self) -> Literal["scored", "absent", "missed", "spurious"]:
        """Whether the class is in truth and prediction, neither, only the truth, only the prediction."""
        return self.counts.state

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size along the axes of the masks, mm; axes of one voxel are left out of masks and spacing."""
        return self._pair._flat[2]

    @cached_property
    def masks(self) -> tuple[Mask, Mask]:
        """Prediction and truth within the box around both; of no voxels where the class is absent."""
        prediction, truth, spacing = self._pair._flat
        box = self._pair._boxes[self._index - 1]
        if box is None:
            nothing = np.zeros((0,) * len(spacing), bool)
            return nothing, nothing
        mask = self._pair.scheme.mask
        return mask(prediction[box], self._index), mask(truth[box], self._index)

    @cached_property
    def surfaces(self) -> Surfaces | None:
        """Distances between the border voxels; None where the class is not in both volumes."""
        return self._distances(self.spacing) if self.state == "scored" else None

    @cached_property
    def voxel_surfaces(self) -> Surfaces | None:
        """The same distances in voxels, as if all voxels were cubes of 1 mm."""
        unit = (1.0,) * len(self.spacing)
        if self.state != "scored" or self.spacing == unit:
            return self.surfaces
        return self._distances(unit)

    def _distances(self, spacing: tuple[float, ...]) -> Surfaces:
        return border_distances(*self._border_masks(), spacing)

    def _border_masks(self) -> tuple[Mask, Mask]:
        """The border voxels of both masks, within the box."""
        if self._pair.scheme.overlapping:
            prediction, truth = (border(mask) for mask in self.masks)
            return prediction, truth
        box = self._pair._boxes[self._index - 1]
        assert box is not None
        prediction, truth = (found.labels[box] == self._index for found in self._pair._borders)
        return prediction, truth

    @cached_property
    def surface_agreement(self) -> SurfaceAgreement:
        """Areas of the two surfaces, in all and within the tolerance of this class."""
        return surface_agreement(*self.masks, self.spacing, self.options.tolerance(self.name))

    @cached_property
    def matching(self) -> Matching:
        """The connected components of both masks, and which of them overlap."""
        return match_components(*self.masks, self.options)

    @cached_property
    def skeletons(self) -> tuple[Mask, Mask]:
        """Centrelines of prediction and truth (Zhang and Suen 1984 in 2D, Lee et al. 1994 in 3D)."""
        prediction, truth = (centreline(mask) for mask in self.masks)
        return prediction, truth
