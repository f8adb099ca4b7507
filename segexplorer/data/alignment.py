"""Bringing a label or a further channel onto the grid of its image: put in order, or resampled if asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.data import geometry
from segexplorer.data.geometry import Affine, Grid, HasGrid
from segexplorer.data.volume import Volume


def same_places(a: HasGrid, b: HasGrid) -> bool:
    """Whether two grids hold the same places, perhaps with the index axes in another order or direction."""
    first = geometry.canonical_grid(a.shape[:3], a.affine)
    second = geometry.canonical_grid(b.shape[:3], b.affine)
    return geometry.compare(first, second).same


def aligned(volume: Volume, like: Volume, *, label: bool, resample: bool = False) -> Volume:
    """Return a volume on the grid of another; its voxels are still read when they are needed.

    The same places in another order of axes (a DICOM image and a NIfTI label of it, often) are put in order, which
    loses nothing. Any other grid is resampled by world position only if `resample` says so (labels: nearest voxel,
    images: linear); else the volume comes back as it is. What was done is a note.
    """
    if geometry.compare(like, volume).same:
        return volume
    if same_places(like, volume):
        axes = f"from {volume.orientation} to {like.orientation}"
        note = f"The axes of the {'label' if label else 'image'} were put in the order of the first image, {axes}."
        voxels: Any = _Reordered(volume, like.affine)
    elif resample:
        what, how = ("label", "nearest voxel") if label else ("image", "linear")
        apart = geometry.compare(like, volume).text
        note = f"The {what} was resampled onto the first image's grid ({how}); before: {apart}."
        voxels = _Resampled(volume, Grid(like.shape, like.affine), 0 if label else 1)
    else:
        return volume
    origin = replace(volume.provenance, notes=(*volume.provenance.notes, note))
    known = volume.modality if volume.loaded and not label else None
    return Volume(like.shape, like.affine, load=voxels, modality=known, provenance=origin)


@dataclass(frozen=True)
class _Reordered:
    """Turns and swaps axes when the voxels are asked for."""

    volume: Volume
    affine: Affine

    def __call__(self) -> NDArray[Any]:
        turned, _ = geometry.canonical(self.volume.array, self.volume.affine)
        return np.asarray(geometry.from_canonical(turned, self.affine))


@dataclass(frozen=True)
class _Resampled:
    """Resamples when the voxels are asked for."""

    volume: Volume
    grid: Grid
    order: int

    def __call__(self) -> NDArray[Any]:
        return self.volume.resampled(self.grid, order=self.order).array
