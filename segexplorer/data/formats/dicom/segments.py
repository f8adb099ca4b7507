"""Named masks that may overlap, and how one label is made of them; common to DICOM SEG and RTSTRUCT."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.data import geometry
from segexplorer.data.geometry import Grid, HasGrid
from segexplorer.data.grid import touch
from segexplorer.data.volume import Provenance, Volume

Mask = NDArray[np.bool_]
Planes = Callable[[int], Iterator[tuple[int, Mask]]]
"""Reads the voxels of one value, slice by slice, empty slices left out: number of the slice, and its voxels."""


@dataclass(frozen=True)
class Segments:
    """The segments of one file on one grid.

    Attributes
    ----------
    names
        Value in a label -> name, in the file's order.
    planes, axis
        Reads one value slice by slice; along which index axis of the grid the slices follow each other.
    grid
        Their grid; the image's where one was given.
    may_overlap
        False where the file says that no voxel belongs to two.
    """

    names: Mapping[int, str]
    planes: Planes
    axis: int
    grid: Grid
    provenance: Provenance
    may_overlap: bool = True

    def mask(self, which: int | str) -> Mask:
        """Return the voxels (i, j, k) of one segment, by value or name.

        Raises
        ------
        DataError
            When there is none of that name.
        """
        mask = np.zeros(self.grid.shape, bool, order="F")
        slices = np.moveaxis(mask, self.axis, 0)
        for number, plane in self.planes(self.value_of(which)):
            slices[number] |= plane
        return mask

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
        # packed, for a hundred segments of a large CT would not fit otherwise
        packed = {value: np.packbits(self.mask(value)) for value in self.names}
        for a, b in itertools.combinations(packed, 2):
            if count := int(np.unpackbits(packed[a] & packed[b]).sum(dtype=np.int64)):
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
            raise DataError(f"A segment is named twice in {', '.join(map(str, order))}.", "Name each once.")
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
        """Return the segments on another grid, found by world position, nearest voxel.

        Raises
        ------
        DataError
            When the two grids do not touch.
        """
        target = Grid(tuple(like.shape), np.asarray(like.affine))
        if geometry.compare(self.grid, target).same:
            return self
        if not touch(target, self.grid):
            raise DataError(
                "The segments are outside of the image.", "Choose the image that they were drawn on."
            )
        place = geometry.placement(self.grid, target)
        if place is not None and place.in_order:
            moved: Planes = _Shifted(self.planes, self.axis, place.start, target.shape)
            return replace(self, planes=moved, grid=target)
        return replace(self, planes=_Resampled(self, target), axis=2, grid=target)


@dataclass(frozen=True)
class _Merged:
    """Reads one label of several segments; picklable as the segments are."""

    segments: Segments
    chosen: tuple[int, ...]

    def __call__(self) -> NDArray[Any]:
        own = self.segments
        values = {chosen: n for n, chosen in enumerate(self.chosen, start=1)} or {v: v for v in own.names}
        order = list(self.chosen)
        if not order:
            sizes = {value: sum(int(plane.sum()) for _, plane in own.planes(value)) for value in own.names}
            order = sorted(sizes, key=lambda value: -sizes[value])
        top = max(values.values(), default=0)
        kind = np.uint8 if top < 2**8 else np.uint16 if top < 2**16 else np.int32
        label = np.zeros(own.grid.shape, kind, order="F")
        slices = np.moveaxis(label, own.axis, 0)
        for value in order:
            for number, plane in own.planes(value):
                slices[number][plane] = values[value]
        return label


@dataclass(frozen=True)
class _Shifted:
    """Slices on a grid that differs by whole voxels: voxel i there is voxel i + shift here."""

    planes: Planes
    axis: int
    shift: tuple[int, ...]
    shape: tuple[int, ...]

    def __call__(self, value: int) -> Iterator[tuple[int, Mask]]:
        rest = [i for i in range(3) if i != self.axis]
        shift, shape = np.asarray(self.shift)[rest], np.asarray(self.shape)[rest]
        for number, plane in self.planes(value):
            there = number - self.shift[self.axis]
            if not 0 <= there < self.shape[self.axis]:
                continue
            if plane.shape == tuple(shape) and not shift.any():
                yield there, plane
                continue
            moved = np.zeros(shape, bool, order="F")
            begin, end = np.maximum(0, -shift), np.minimum(shape, np.asarray(plane.shape) - shift)
            if (end > begin).all():
                (i, j), (a, b), (u, v) = begin, end, shift
                moved[i:a, j:b] = plane[i + u : a + u, j + v : b + v]
                yield there, moved


@dataclass(frozen=True)
class _Resampled:
    """Slices on any other grid, found by world position."""

    segments: Segments
    target: Grid

    def __call__(self, value: int) -> Iterator[tuple[int, Mask]]:
        mask, source = self.segments.mask(value).view(np.uint8), self.segments.grid.affine
        moved = geometry.resample(mask, source, self.target, 0, fill=0.0)
        for number in np.flatnonzero(moved.any(axis=(0, 1))):
            yield int(number), moved[:, :, number].astype(bool)
