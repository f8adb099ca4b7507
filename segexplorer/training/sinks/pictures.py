"""A picture of a watched case for loggers: one axial slice as image, truth, prediction and errors, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme
from segexplorer.data import geometry

SIDE = 256
"""Pixels along the longer side of a panel at most: a log of hundreds of pictures should stay small."""
OPACITY = 0.5
GAP = 2
Mask = tuple[str, NDArray[np.bool_]]
"""A colour, and the pixels that it paints."""


@dataclass(frozen=True)
class PlaneView:
    """One slice of a case, and how predictions are cut and drawn there.

    Attributes
    ----------
    grey
        (h, w) uint8 image: anterior up, the patient's right at the left of the picture.
    truth
        (h, w) uint8 label indices, or None.
    affine, plane
        (4, 4) of the case's own grid, and the slice's number along its foot-to-head axis.
    scheme
        What the label indices mean.
    """

    grey: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    plane: int
    scheme: LabelScheme = EXCLUSIVE

    @classmethod
    def of(
        cls,
        image: NDArray[Any],
        truth: NDArray[np.uint8] | None,
        affine: NDArray[np.float64],
        scheme: LabelScheme = EXCLUSIVE,
    ) -> Self:
        """Choose the axial slice with most label, the middle one among equals or without a label.

        Parameters
        ----------
        image, truth
            (x, y, z) in the case's own grid and index order, as in a `WatchedSnapshot`.
        """
        depth = geometry.canonical_grid(image.shape, affine).shape[2]
        plane = depth // 2
        if truth is not None:
            upright = geometry.canonical(truth, affine)[0]
            labelled = ((upright != 0) & (upright != IGNORED)).sum((0, 1))
            best = np.flatnonzero(labelled == labelled.max())
            plane = int(best[np.abs(best - depth // 2).argmin()])
        cut = None if truth is None else _slice(truth, affine, plane)
        return cls(_grey(_slice(image, affine, plane)), cut, affine, plane, scheme)

    def picture(self, prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8: image, truth, prediction and errors; without a truth, image and prediction.

        Parameters
        ----------
        prediction
            (x, y, z) uint8 class indices in the case's own grid.
        """
        predicted = _slice(prediction, self.affine, self.plane)
        panels = [_painted(self.grey, [])]
        if self.truth is not None:
            panels.append(self._classes(self.truth))
        panels.append(self._classes(predicted))
        if self.truth is not None:
            panels.append(_painted(self.grey, _error_masks(predicted, self.truth, self.scheme)))
        gap = np.full((self.grey.shape[0], GAP, 3), 255, np.uint8)
        return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)

    def _classes(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the slice with its classes; where they overlap, the border of each is drawn over all of them."""
        painted = _painted(self.grey, _class_masks(self.scheme.topmost(labels)))
        if not self.scheme.overlapping:
            return painted
        rings = []
        for index, colour in ClassColours().indices(range(1, self.scheme.classes + 1)).items():
            mask = self.scheme.mask(labels, index)
            rings.append((colour, mask & ~ndimage.binary_erosion(mask)))
        return _painted(painted, rings, opacity=1.0)


def _slice(array: NDArray[Any], affine: NDArray[np.float64], plane: int) -> NDArray[Any]:
    """Return an axial slice as pixels: square ones, at most `SIDE` along a side, by the nearest voxel."""
    upright, canonical = geometry.canonical(array, affine)
    voxels = upright[:, :, plane].T[::-1, ::-1]  # rows from anterior, columns from the patient's right
    width, height = (n * s for n, s in zip(upright.shape[:2], geometry.spacing(canonical)[:2], strict=True))
    size = min(SIDE, max(voxels.shape)) / max(width, height)
    rows, columns = max(1, round(height * size)), max(1, round(width * size))
    at = np.ix_(_nearest(rows, voxels.shape[0]), _nearest(columns, voxels.shape[1]))
    return np.ascontiguousarray(voxels[at])


def _nearest(pixels: int, voxels: int) -> NDArray[np.intp]:
    return ((np.arange(pixels) + 0.5) * voxels / pixels).astype(np.intp)


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(values, (0.5, 99.5))
    scaled = (values.astype(np.float64) - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.asarray(np.round(255 * scaled.clip(0, 1)), np.uint8)


def _class_masks(labels: NDArray[np.uint8]) -> list[Mask]:
    indices = [int(index) for index in np.unique(labels) if index != IGNORED]
    return [(colour, labels == index) for index, colour in ClassColours().indices(indices).items()]


def _error_masks(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], scheme: LabelScheme) -> list[Mask]:
    extra, missed = (table[truth, prediction] & (truth != IGNORED) for table in scheme.comparison()[:2])
    return [
        (colours.FALSE_POSITIVE, extra & ~missed),
        (colours.FALSE_NEGATIVE, missed & ~extra),
        (colours.WRONG_CLASS, extra & missed),
    ]


def _painted(picture: NDArray[np.uint8], masks: list[Mask], opacity: float = OPACITY) -> NDArray[np.uint8]:
    """Return (h, w, 3) of grey values or colours with masks painted over them."""
    found = np.repeat(picture[..., np.newaxis], 3, axis=2) if picture.ndim == 2 else picture
    found = found.astype(np.float64)
    for colour, mask in masks:
        paint = 255 * np.array(colours.rgba(colour)[:3])
        found[mask] = (1 - opacity) * found[mask] + opacity * paint
    return np.asarray(np.round(found), np.uint8)
