"""A case as training sees it, and the grid that its predictions go back to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segexplorer.data.geometry import Grid, canonical_grid
from segexplorer.data.transforms.cropping import Box


@dataclass(frozen=True)
class CaseGrid(Grid):
    """A case's own grid, in its own index order, and the part of it that was prepared.

    Attributes
    ----------
    box
        In closest-canonical order; outside it a prediction is background.
    """

    box: Box

    @classmethod
    def of(cls, own: Grid, prepared: Grid) -> CaseGrid:
        """Return a case's own grid with the box that a prepared grid covers: their outer faces coincide."""
        canonical = canonical_grid(own.shape, own.affine)
        matrix = np.linalg.inv(canonical.affine) @ prepared.affine
        size = np.asarray(prepared.shape, float)
        ends = np.stack([np.full(3, -0.5), size - 0.5])
        first, last = np.rint(ends @ matrix[:3, :3].T + matrix[:3, 3] + 0.5).astype(int).tolist()
        x, y, z = zip(first, last, strict=True)
        return cls(tuple(own.shape), own.affine, (x, y, z))


@dataclass(frozen=True)
class Prepared:
    """A case as training sees it.

    Attributes
    ----------
    image
        (C, x, y, z) float32 in closest-canonical RAS order at the training spacing.
    label
        (x, y, z) uint8 class indices, or None.
    affine, spacing
        Of the prepared voxels, mm.
    grid
        The case's own grid, in its own index order; it always becomes a `CaseGrid`.
    resampled
        Whether the spacing was changed; otherwise going back is exact.
    notes
        What a user should know of how this case was prepared, as sentences.
    """

    case: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    grid: Grid
    resampled: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # which part was prepared follows from where it lies, so that a cache cannot tell otherwise
        prepared = Grid(self.image.shape[1:], self.affine)
        object.__setattr__(self, "grid", CaseGrid.of(self.grid, prepared))

    @property
    def nbytes(self) -> int:
        """Memory of the voxels."""
        return self.image.nbytes + (0 if self.label is None else self.label.nbytes)
