"""Predictions brought back to a case's own grid while they are made, from tiles of logits on the training grid.

The result is that of `FittedPreprocessing.restore`: labels as they are where the spacing was kept, the likeliest
class of linearly interpolated probabilities where it was changed, background where the preprocessing cropped. But
only a tile's probabilities are in memory, unless those of all voxels are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data import geometry
from segexplorer.data.geometry import Grid
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.data.transforms.cropping import part, slices
from segexplorer.metrics.calibration import CalibrationCounts
from segexplorer.training.sliding_window import Range, Tile, likeliest

if TYPE_CHECKING:
    import torch

HALO = 1
"""Voxels by which tiles must reach beyond their core where the spacing was changed: a neighbour to interpolate."""

Receive = Callable[[tuple[slice, ...], NDArray[np.float32]], None]


class OwnGrid:
    """Labels of a case in its own grid, and what is to be known of its probabilities there.

    Parameters
    ----------
    fitted, grid
        The preprocessing of the network, and `Prepared.grid` of the case.
    classes
        Their number, background included.
    scheme
        How logits become probabilities and label indices.
    keep
        Class indices whose probabilities are kept in 8 bits.
    everything
        Whether all probabilities are kept in float32.
    receive
        Is given each piece of the case's own grid, in closest-canonical order: its place, and its (C, ...)
        probabilities; what is cropped off is given to nobody.
    calibration, truth
        Where the probabilities are counted, and the (x, y, z) class indices of the case in its own index order.
    """

    def __init__(
        self,
        fitted: FittedPreprocessing,
        grid: Grid,
        classes: int,
        scheme: LabelScheme = EXCLUSIVE,
        *,
        keep: Sequence[int] = (),
        everything: bool = False,
        receive: Receive | None = None,
        calibration: CalibrationCounts | None = None,
        truth: NDArray[np.uint8] | None = None,
    ) -> None:
        self._own, self._way, self._scheme = grid, fitted.way_back(grid), scheme
        shape = self._way.full.shape
        self._labels = np.zeros(shape, np.uint8)
        self._keep = tuple(keep)
        self._kept = np.zeros((len(self._keep), *shape), np.uint8)
        self._all = np.zeros((classes, *shape), np.float32) if everything else None
        for row, index in enumerate(self._keep):
            if index == 0:
                self._kept[row] = 255  # background for certain where nothing was predicted
        if self._all is not None:
            self._all[0] = 1
        self._receive = receive
        self._calibration = None
        if calibration is not None and truth is not None:
            canonical, affine = geometry.canonical(truth, grid.affine)
            self._calibration = calibration.case(canonical, geometry.spacing(affine))
            for beside in self._cropped_off():
                self._calibration.add_background(beside, classes)
        self._layer: torch.Tensor | None = None
        self._next = 0
        self._steps = [self._step(axis) for axis in range(3)]

    @property
    def halo(self) -> int:
        """What tiles must reach beyond their core."""
        return HALO if self._way.resampled else 0

    @property
    def needs_means(self) -> bool:
        """Whether logits are needed as they are, and not their order alone."""
        return self._way.resampled or self._needs_probabilities

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self._labels.nbytes + self._kept.nbytes + (0 if self._all is None else self._all.nbytes)

    def add(self, tile: Tile) -> None:
        """Take the next tile of `stream_logits`, in its order."""
        if self._way.resampled:
            self._add_interpolated(tile)
            return
        logits = tile.core_logits[0]
        labels = likeliest(logits, self._scheme).cpu().numpy()
        probabilities = None
        if self._needs_probabilities:
            probabilities = self._scheme.probabilities(logits).cpu().numpy()
        self._put([s.start for s in tile.place], labels, probabilities)

    @property
    def _needs_probabilities(self) -> bool:
        counted = self._calibration is not None or self._receive is not None
        return bool(self._keep) or self._all is not None or counted

    def _add_interpolated(self, tile: Tile) -> None:
        import torch

        layers = self._scheme.probabilities(tile.logits[0]).cpu()
        first, end = tile.start[0], tile.start[0] + tile.core[0]
        if first == 0:  # a new column
            self._layer, self._next = None, 0
        elif self._layer is not None:
            layers, first = torch.cat([self._layer, layers], 1), first - 1
        self._layer = layers[:, -1:].clone()
        whole = self._way.training.shape
        rows = self._next, self._reached(end, whole[0])
        self._next = rows[1]
        spans = [rows, *(self._within(axis, tile) for axis in (1, 2))]
        if any(a >= b for a, b in spans):
            return
        corner = np.eye(4)
        corner[:3, 3] = first, *tile.start[1:]
        target = part(self._way.kept, (spans[0], spans[1], spans[2]))
        found = geometry.resample(layers.numpy(), self._way.training.affine @ corner, target, 1)
        self._put([a for a, _ in spans], self._scheme.decide(found), found)

    def _step(self, axis: int) -> tuple[float, float]:
        """Return the position on the training grid of own voxel 0, and the way from one to the next."""
        matrix = np.linalg.inv(self._way.training.affine) @ self._way.kept.affine
        return float(matrix[axis, 3]), float(matrix[axis, axis])

    def _reached(self, end: int, whole: int) -> int:
        """Return how many own layers lie between training layers that are there, of which `end` is the end."""
        own = self._way.kept.shape[0]
        return own if end == whole else min(own, self._before(0, end - 1) + 1)

    def _within(self, axis: int, tile: Tile) -> Range:
        """Return the own voxels along an axis that lie in the core of a tile."""
        own, whole = self._way.kept.shape[axis], self._way.training.shape[axis]
        first, end = tile.start[axis], tile.start[axis] + tile.core[axis]
        low = 0 if first == 0 else self._before(axis, first) + 1
        high = own if end == whole else self._before(axis, end) + 1
        return low, min(high, own)

    def _before(self, axis: int, position: int) -> int:
        """Return the last own voxel that lies at a position of the training grid or before it."""
        offset, step = self._steps[axis]
        return math.floor((position - offset) / step + 1e-9)

    def _put(
        self, start: Sequence[int], labels: NDArray[np.uint8], probabilities: NDArray[np.float32] | None
    ) -> None:
        corner = [s + first for s, (first, _) in zip(start, self._way.box, strict=True)]
        place = tuple(slice(a, a + n) for a, n in zip(corner, labels.shape, strict=True))
        self._labels[place] = labels
        if probabilities is None:
            return
        for row, index in enumerate(self._keep):
            self._kept[row][place] = np.round(probabilities[index] * 255)
        if self._all is not None:
            self._all[(slice(None), *place)] = probabilities
        if self._calibration is not None:
            self._calibration.add(place, probabilities, labels)
        if self._receive is not None:
            self._receive(place, probabilities)

    def _cropped_off(self) -> list[tuple[slice, ...]]:
        """Return boxes that together are everything outside the part that was prepared."""
        shape, inside = self._way.full.shape, slices(self._way.box)
        found: list[tuple[slice, ...]] = []
        for axis, n in enumerate(shape):
            for side in (slice(0, inside[axis].start), slice(inside[axis].stop, n)):
                if side.start < side.stop:
                    found.append((*inside[:axis], side, *(slice(0, m) for m in shape[axis + 1 :])))
        return found

    # ---- results, in the case's own index order

    @property
    def training_labels(self) -> NDArray[np.uint8]:
        """(x, y, z) labels on the training grid, where the spacing was kept."""
        assert not self._way.resampled
        return self._labels[slices(self._way.box)]

    def labels(self) -> NDArray[np.uint8]:
        """Return (x, y, z) label indices."""
        return self._back(self._labels)

    def kept(self) -> NDArray[np.uint8] | None:
        """Return (classes that are kept, x, y, z) probabilities, 255 for 1; None where none are kept."""
        return self._back(self._kept) if self._keep else None

    def probabilities(self) -> NDArray[np.float32] | None:
        """Return (C, x, y, z) probabilities, where all were asked for."""
        if self._all is None:
            return None
        return np.ascontiguousarray(geometry.from_canonical(self._all, self._own.affine))

    def _back(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(geometry.from_canonical(array, self._own.affine))
