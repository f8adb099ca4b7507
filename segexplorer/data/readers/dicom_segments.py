"""Named masks that may overlap, and how one label is made of them; common to DICOM SEG and RTSTRUCT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.data import geometry
from segexplorer.data.geometry import Grid, HasGrid
from segexplorer.data.volume import Provenance, Volume

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Segments:
    """The segments of one file on one grid.

    Attributes
    ----------
    names
        Value in a label -> name, in the file's order.
    masks
        Reads the voxels of one value: (i, j, k) of the grid.
    grid
        Where they lie; the image's where one was given.
    may_overlap
        False where the file says that no voxel belongs to two.
    """

    names: Mapping[int, str]
    masks: Callable[[int], Mask]
    grid: Grid
    provenance: Provenance
    may_overlap: bool = True

    def mask(self, which: int | str) -> Mask:
        """Return the voxels of one segment, by value or name.

        Raises
        ------
        DataError
            When there is none of that name.
        """
        return self.masks(self.value_of(which))

    def value_of(self, which: int | str) -> int:
        """Return the value of a segment given by name or value.

        Raises
        ------
        DataError
            When there is none, or several have that name.
        """
        found = [value for value, name in self.names.items() if which in (value, name, str(value))]
        exact = [value for value in found if self.names[value] == which] or found
        if len(exact) != 1:
            known = [f"{name} ({value})" for value, name in self.names.items()]
            several = "several segments" if exact else "no segment"
            raise DataError(
                f"There are {several} called {which!r}.", did_you_mean(str(which), known) or "Use its number."
            )
        return exact[0]

    def overlaps(self) -> dict[tuple[int, int], int]:
        """Return how many voxels each pair of segments shares, pairs without any left out."""
        shared: dict[tuple[int, int], int] = {}
        values = list(self.names)
        masks = {value: self.masks(value) for value in values}
        for i, a in enumerate(values):
            for b in values[i + 1 :]:
                if count := int(np.count_nonzero(masks[a] & masks[b])):
                    shared[a, b] = count
        return shared

    def label(self, order: Sequence[int | str] = ()) -> Volume:
        """Return one label, read when it is needed.

        Parameters
        ----------
        order
            The segments to take, by name or value; where they overlap the later one counts. They get the values
            1, 2, ... in this order, so that cases agree whose files number them differently. By default all keep
            their own values, and where they overlap the smaller one counts.

        Raises
        ------
        DataError
            When a name is not there.
        """
        chosen = tuple(self.value_of(which) for which in order)
        if len(set(chosen)) < len(chosen):
            raise DataError(f"A segment stands twice in {', '.join(map(str, order))}.", "Name each once.")
        names = {n: self.names[value] for n, value in enumerate(chosen, start=1)} or dict(self.names)
        notes = list(self.provenance.notes)
        if self.may_overlap and len(names) > 1 and not chosen:
            notes.append(
                "Where its segments overlap the smaller one counts; select them by name for another order, "
                "the last on top."
            )
        facts = {**self.provenance.header, "label_names": names}
        provenance = Provenance(self.provenance.path, self.provenance.format, tuple(notes), facts)
        load = _Merged(self, chosen)
        return Volume(self.grid.shape, self.grid.affine, load=load, modality="unknown", provenance=provenance)

    def onto(self, like: HasGrid) -> Segments:
        """Return the segments on another grid, found by world position, nearest voxel."""
        target = Grid(tuple(like.shape), np.asarray(like.affine))
        if geometry.compare(self.grid, target).same:
            return self
        moved = _Moved(self.masks, self.grid, target)
        return Segments(self.names, moved, target, self.provenance, self.may_overlap)


@dataclass(frozen=True)
class _Merged:
    """Reads one label of several segments; picklable as the segments are."""

    segments: Segments
    chosen: tuple[int, ...]

    def __call__(self) -> NDArray[Any]:
        own = self.segments
        values = dict(zip(self.chosen, range(1, len(self.chosen) + 1), strict=True)) or {
            v: v for v in own.names
        }
        order = list(self.chosen)
        masks: dict[int, Mask] = {}
        if not order:
            masks = {value: own.masks(value) for value in own.names}
            order = sorted(masks, key=lambda value: -int(np.count_nonzero(masks[value])))
        top = max(values.values(), default=0)
        label = np.zeros(
            own.grid.shape, np.uint8 if top < 256 else np.uint16 if top < 65536 else np.int32, order="F"
        )
        for value in order:
            label[masks.pop(value) if value in masks else own.masks(value)] = values[value]
        return label


@dataclass(frozen=True)
class _Moved:
    """Masks on another grid."""

    masks: Callable[[int], Mask]
    source: Grid
    target: Grid

    def __call__(self, value: int) -> Mask:
        mask = self.masks(value)
        matrix = np.linalg.inv(self.source.affine) @ self.target.affine
        shift = np.rint(matrix[:3, 3])
        corner = np.append(np.asarray(self.target.shape, float) - 1, 1)
        off = np.abs(matrix @ corner - np.append(corner[:3] + shift, 1)).max()
        if off < 1e-2 and np.abs(matrix[:3, 3] - shift).max() < 1e-2:
            return _shifted(mask, shift.astype(int), self.target.shape)
        moved = geometry.resample(mask.view(np.uint8), self.source.affine, self.target, 0, fill=0.0)
        return moved.astype(bool)


def _shifted(mask: Mask, shift: NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """Return `mask[i + shift]` on a grid of this shape, False outside: two grids that differ by whole voxels."""
    out = np.zeros(shape, bool, order="F")
    begin = np.maximum(0, -shift)
    end = np.minimum(shape, np.asarray(mask.shape) - shift)
    if (end > begin).all():
        inside = tuple(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True))
        source = tuple(slice(int(b + s), int(e + s)) for b, e, s in zip(begin, end, shift, strict=True))
        out[inside] = mask[source]
    return out
