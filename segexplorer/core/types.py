"""Small shared nouns: run states, roles of cases, and the plain-number summaries that cross the walls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RunState = Literal["idle", "preparing", "running", "paused", "stopping", "stopped", "finished", "failed"]
Role = Literal["train", "validation", "test"]
Terms = Mapping[str, tuple[float, float]]
"""Name of a loss term -> (value, weight); the products add up to the loss."""


@dataclass(frozen=True)
class EpochSummary:
    """What a loss or schedule may adapt to at the end of an epoch.

    Attributes
    ----------
    epoch, epochs
        The epoch that ended, counted from 1, and how many there will be.
    terms
        Term name -> sample-weighted mean of its value over the epoch's training steps.
    class_dice
        Class index (0 = background) -> hard Dice over the validation set, accumulated from one confusion
        matrix; 0 where a class was never predicted or never present; empty when nothing was validated.
    """

    epoch: int
    epochs: int
    terms: Mapping[str, float] = field(default_factory=dict)
    class_dice: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RegionReport:
    """Per-region numbers of one volume or patch, on the CPU, as events and histories carry them.

    Attributes
    ----------
    values
        Name ("alpha", "beta", "fp", "fn", "loss", "share") -> float32 array (C, R), NaN where the class is
        absent or the loss skips the pair. `fp` and `fn` are soft volumes in voxels.
    edges
        Box edges per spatial axis, e.g. ((0, 8, 16), (0, 8, 16), (0, 8)): R = product of the interval counts,
        the last axis running fastest.
    """

    values: Mapping[str, NDArray[np.float32]]
    edges: tuple[tuple[int, ...], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of boxes along each axis."""
        return tuple(len(e) - 1 for e in self.edges)

    def paint(self, name: str) -> NDArray[np.float32]:
        """Return the values as voxels, (C, *spatial); boxes are repeated, never interpolated."""
        array = self.values[name]
        painted = array.reshape(array.shape[0], *self.counts)
        for axis, edges in enumerate(self.edges, start=1):
            painted = np.repeat(painted, np.diff(edges), axis=axis)
        return painted
