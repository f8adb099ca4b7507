"""What a run shows of the volume: snapshots in numpy, handed over through latest-wins slots."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import RegionReport, Role
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme

T = TypeVar("T")


@dataclass(frozen=True)
class WatchedSnapshot:
    """A watched case predicted whole.

    Attributes
    ----------
    case, role, step, index, badge
        Case id, "train" or "validation", optimiser steps done, frame in the history, badge or "".
    class_names
        Foreground classes for indices 1, 2, ...; 0 is background.
    affine
        (4, 4) voxel -> RAS mm of the case's own grid.
    prediction, truth
        (x, y, z) uint8 label indices in the case's own grid and index order; `truth` is None without a label,
        255 in it marks ignored voxels.
    scheme
        What the label indices mean: class indices, or combinations of classes that overlap.
    probabilities
        (C, x, y, z) uint8 (255 = 1) in the same grid; None where they were not kept.
    probability_classes
        Class indices that `probabilities` are of, where those of all classes took too much; None: all classes.
    regions, regions_affine
        Per-region numbers of the loss over the whole case and the (4, 4) affine of the training grid of their
        boxes (closest-canonical RAS); None where the loss has no regions.
    loss
        The loss over the whole case.
    logits, logits_affine
        (C, x, y, z) float16 on the training grid, and its (4, 4) voxel -> RAS mm; None where they were not kept.
    loss_state
        What had adapted or was learned in the loss, by the names of its `state_dict`.
    partial
        Whether only the slab around a slice was predicted anew (after Step).
    """

    case: str
    role: Role
    step: int
    index: int
    class_names: tuple[str, ...]
    affine: NDArray[np.float64]
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None = None
    probabilities: NDArray[np.uint8] | None = None
    probability_classes: tuple[int, ...] | None = None
    regions: RegionReport | None = None
    regions_affine: NDArray[np.float64] | None = None
    loss: float = float("nan")
    logits: NDArray[np.float16] | None = None
    logits_affine: NDArray[np.float64] | None = None
    loss_state: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    badge: str = ""
    partial: bool = False
    scheme: LabelScheme = EXCLUSIVE

    @property
    def all_probabilities(self) -> NDArray[np.uint8] | None:
        """(C, x, y, z) probabilities of all classes, or None where they were not kept."""
        return self.probabilities if self.probability_classes is None else None


@dataclass(frozen=True)
class PatchSnapshot:
    """The last training patch: where it was in its case, and what the loss did in the regions it saw.

    `origin` and `shape` are in voxels of the training grid whose (4, 4) affine is given, without what was padding.
    `regions` are those of the volume within that box, each with the number that the patch had for it; a patch that
    was mirrored, rotated or deformed for training is therefore drawn at its place in the anatomy. `case_shape` and
    `case_affine` are the case's own grid.
    """

    case: str
    step: int
    origin: tuple[int, ...]
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    case_shape: tuple[int, ...]
    case_affine: NDArray[np.float64]
    regions: RegionReport
    class_names: tuple[str, ...] = field(default_factory=tuple)


class LatestValues(Generic[T]):
    """Newest value per name; a slow reader misses the ones between, never the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fresh: dict[str, T] = {}
        self._last: dict[str, T] = {}

    def put(self, name: str, value: T) -> None:
        """Replace the value of a name."""
        with self._lock:
            self._fresh[name] = value
            self._last[name] = value

    def take(self) -> dict[str, T]:
        """Return what is new since the last take, by name."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            return fresh

    def last(self, name: str) -> T | None:
        """Return the newest value under a name, taken or not."""
        with self._lock:
            return self._last.get(name)
