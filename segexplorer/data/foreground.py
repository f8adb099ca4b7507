"""Where the classes of a case are: voxels to place patches on, a bounded number of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import IGNORED

VOXELS_PER_CLASS = 50_000
"""Of a class with more voxels, these many are kept, evenly spread."""


class Places(Protocol):
    """Flat voxel indices, in memory or in a file."""

    def __getitem__(self, key: slice, /) -> NDArray[np.uint32]:
        """Return some of them."""


@dataclass(frozen=True, eq=False)
class Foreground:
    """Voxels of each class that is present, and of what is annotated.

    Attributes
    ----------
    counts
        How many voxels are kept of each class present, in the order of the classes.
    annotated
        How many voxels are kept of all that count, of sparse labels; 0 where every voxel counts.
    places
        Flat indices of all these voxels, one class after the other; the annotated ones last.
    """

    counts: tuple[int, ...]
    annotated: int
    places: Places
    nbytes: int = 0

    @classmethod
    def of(cls, label: NDArray[np.uint8] | None) -> Foreground:
        """Find the voxels in a label (x, y, z); none without a label."""
        if label is None:
            return cls((), 0, np.zeros(0, np.uint32))
        flat = label.ravel()
        marked = np.flatnonzero((flat != 0) & (flat != IGNORED))
        kinds = flat[marked]
        sizes = np.bincount(kinds, minlength=256)
        # stable, so that the voxels of a class stay in order
        ordered = marked[np.argsort(kinds, kind="stable")]
        found = [_thinned(part) for part in np.split(ordered, np.cumsum(sizes)[:-1]) if len(part)]
        counts = tuple(map(len, found))
        ignored = int((flat == IGNORED).sum())
        annotated = _thinned(np.flatnonzero(flat != IGNORED)) if 0 < ignored < flat.size else marked[:0]
        places = np.concatenate([*found, annotated]).astype(np.uint32)
        return cls(counts, len(annotated), places, places.nbytes)

    def choose(self, choice: Sequence[float], *, balanced: bool) -> int:
        """Return the flat index of a voxel of some class.

        Parameters
        ----------
        choice
            Two numbers from 0 to 1, which decide the class and the voxel.
        balanced
            Whether every class has the same chance, whatever its size.
        """
        if balanced:
            chosen = int(choice[0] * len(self.counts))
        else:
            shares = np.cumsum(self.counts)
            chosen = int(np.searchsorted(shares, choice[0] * shares[-1], side="right"))
        return self._at(sum(self.counts[:chosen]) + int(choice[1] * self.counts[chosen]))

    def choose_annotated(self, choice: Sequence[float]) -> int:
        """Return the flat index of a voxel that counts, of sparse labels."""
        return self._at(sum(self.counts) + int(choice[1] * self.annotated))

    def _at(self, place: int) -> int:
        return int(self.places[place : place + 1][0])


def _thinned(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    return indices[:: -(-len(indices) // VOXELS_PER_CLASS)] if len(indices) else indices
