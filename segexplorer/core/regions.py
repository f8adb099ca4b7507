"""How a grid of voxels is divided into regions: boxes by their edges, or regions of any shape by a map.

A partition divides a whole prepared volume. A patch sees parts of some of its regions: it knows them by the numbers
that they have in the volume, so that the same region has the same number wherever it is seen. Voxels outside the
volume (padding) belong to no region.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Edges = tuple[tuple[int, ...], ...]
"""Box edges in voxels per spatial axis, both ends included: ((0, 8, 16), (0, 8, 12))."""
Numbers = NDArray[np.int64]
NOWHERE = -1
"""What maps hold on voxels that belong to no region."""


@dataclass(frozen=True, eq=False)
class BoxRegions:
    """Boxes within a grid, the last axis running fastest.

    Attributes
    ----------
    shape
        Voxels of the grid along each axis.
    edges
        Box edges per axis, increasing, from 0 to `shape` at most. Voxels before the first and after the last edge
        belong to no region.
    ids
        (R,) number of each box in the whole volume.
    """

    shape: tuple[int, ...]
    edges: Edges
    ids: Numbers

    @classmethod
    def of(cls, edges: Sequence[Sequence[int]]) -> BoxRegions:
        """Return the boxes of a whole volume, numbered from 0."""
        given = tuple(tuple(int(e) for e in axis) for axis in edges)
        counts = [len(axis) - 1 for axis in given]
        return cls(tuple(axis[-1] for axis in given), given, np.arange(math.prod(counts), dtype=np.int64))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of boxes along each axis."""
        return tuple(max(0, len(axis) - 1) for axis in self.edges)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.ids.nbytes

    @property
    def complete(self) -> bool:
        """Whether every voxel of the grid belongs to a region."""
        return all(e[:1] == (0,) and e[-1] == n for e, n in zip(self.edges, self.shape, strict=True))

    def patch(self, origin: Sequence[int], shape: Sequence[int]) -> BoxRegions:
        """Return what a patch sees of these boxes: those that it meets, cut off at its faces."""
        edges, kept = [], []
        for first, length, axis in zip(origin, shape, self.edges, strict=True):
            met = [k for k, (a, b) in enumerate(pairwise(axis)) if a < first + length and b > first]
            ends = [axis[met[0]], *(axis[k + 1] for k in met)] if met else []
            edges.append(tuple(min(max(int(e) - int(first), 0), int(length)) for e in ends))
            kept.append(met)
        ids = self.ids.reshape(self.counts)[np.ix_(*kept)].ravel()
        return BoxRegions(tuple(int(n) for n in shape), tuple(edges), ids)

    def mirrored(self, flips: Sequence[bool]) -> BoxRegions:
        """Return these boxes in a grid that is mirrored along some axes."""
        edges = tuple(
            tuple(n - e for e in reversed(axis)) if flipped else axis
            for axis, n, flipped in zip(self.edges, self.shape, flips, strict=True)
        )
        turned = self.ids.reshape(self.counts)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        return BoxRegions(self.shape, edges, np.ascontiguousarray(turned).ravel())

    def read(self, reader: Callable[[NDArray[Any]], NDArray[Any]]) -> MapRegions:
        """Return the regions that a patch reads from this volume.

        Parameters
        ----------
        reader
            Reads a (*shape,) array of whole numbers as the patch reads its label, with `NOWHERE` outside.
        """
        found: NDArray[Any] | None = None
        for axis, (edges, count) in enumerate(zip(self.edges, self.counts, strict=True)):
            own = np.searchsorted(edges, np.arange(self.shape[axis]), side="right").astype(np.int32) - 1
            own[(own < 0) | (own >= count)] = NOWHERE
            along = own.reshape([-1 if a == axis else 1 for a in range(len(self.shape))])
            # a view of one line: the array of the volume's size is never made
            part = reader(np.broadcast_to(along, self.shape)).astype(np.int64)
            outside = part < 0
            found = part if found is None else np.where(outside | (found < 0), NOWHERE, found * count + part)
        assert found is not None
        return MapRegions.of(found, self.ids)

    def without_axis(self, axis: int) -> BoxRegions:
        """Return the boxes of a grid that is one voxel thick along an axis, without that axis."""
        keep = [a for a in range(len(self.shape)) if a != axis]
        edges = [self.edges[a] for a in keep]
        if not self.counts[axis]:  # in padding: no box at all
            edges[0] = ()
        return BoxRegions(tuple(self.shape[a] for a in keep), tuple(edges), self.ids)

    def numbers(self) -> NDArray[np.int32]:
        """Return (*shape,) the place of each voxel's region in `ids`, `NOWHERE` for voxels without one."""
        inside = np.arange(math.prod(self.counts), dtype=np.int32).reshape(self.counts)
        return _boxed(inside, self.edges, self.shape, NOWHERE)

    def paint(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return each region's value on its voxels: (..., R) -> (..., *shape); NaN where there is no region."""
        rows = values.reshape(-1, *self.counts)
        painted = [_boxed(row, self.edges, self.shape, np.nan) for row in rows]
        return np.stack(painted).reshape(*values.shape[:-1], *self.shape)

    def region_at(self, voxel: Sequence[int]) -> int | None:
        """Return the place in `ids` of the region that a voxel is in; None outside."""
        flat = 0
        for of_axis, position in zip(self.edges, voxel, strict=True):
            index = int(np.searchsorted(of_axis, position, side="right")) - 1
            if not 0 <= index < len(of_axis) - 1:
                return None
            flat = flat * (len(of_axis) - 1) + index
        return flat


@dataclass(frozen=True, eq=False)
class MapRegions:
    """Regions of any shape within a grid.

    Attributes
    ----------
    labels
        (*shape,) int32: place of each voxel's region in `ids`, `NOWHERE` for voxels without one.
    ids
        (R,) number of each region in the whole volume.
    """

    labels: NDArray[np.int32]
    ids: Numbers

    @classmethod
    def of(cls, numbers: NDArray[np.integer[Any]], ids: Numbers | None = None) -> MapRegions:
        """Return the regions that occur in a map of their numbers.

        Parameters
        ----------
        numbers
            (*shape,) whole numbers, negative on voxels without a region.
        ids
            What the numbers are places in; None: the numbers themselves are the regions' numbers in the volume.
        """
        top = int(numbers.max(initial=NOWHERE)) + 1
        if top <= 4 * numbers.size:
            present = np.flatnonzero(np.bincount(np.maximum(numbers, NOWHERE).ravel() + 1, minlength=1)[1:])
            places = np.full(top + 1, NOWHERE, np.int32)
            places[present] = np.arange(len(present), dtype=np.int32)
            labels = places[np.maximum(numbers, NOWHERE)]  # NOWHERE is the last entry, which holds NOWHERE
        else:  # few voxels of a volume with very many regions
            found, inverse = np.unique(np.maximum(numbers, NOWHERE), return_inverse=True)
            outside = int(found[0] == NOWHERE)
            present = found[outside:]
            labels = (inverse.reshape(numbers.shape) - outside).astype(np.int32)
        own = present.astype(np.int64)
        return cls(labels, own if ids is None else ids[own])

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the grid along each axis."""
        return tuple(self.labels.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.labels.nbytes + self.ids.nbytes

    @property
    def complete(self) -> bool:
        """Whether every voxel of the grid belongs to a region."""
        return bool((self.labels >= 0).all())

    def patch(self, origin: Sequence[int], shape: Sequence[int]) -> MapRegions:
        """Return what a patch sees of these regions."""
        numbers = np.full(tuple(shape), NOWHERE, np.int32)
        source, target = [], []
        for first, wanted, there in zip(origin, shape, self.shape, strict=True):
            begin, end = max(int(first), 0), min(int(first + wanted), there)
            source.append(slice(begin, max(end, begin)))
            target.append(slice(begin - int(first), max(end, begin) - int(first)))
        numbers[tuple(target)] = self.labels[tuple(source)]
        return MapRegions.of(numbers, self.ids)

    def mirrored(self, flips: Sequence[bool]) -> MapRegions:
        """Return these regions in a grid that is mirrored along some axes."""
        steps = tuple(slice(None, None, -1 if flipped else 1) for flipped in flips)
        return MapRegions(np.ascontiguousarray(self.labels[steps]), self.ids)

    def read(self, reader: Callable[[NDArray[Any]], NDArray[Any]]) -> MapRegions:
        """Return the regions that a patch reads from this volume (`BoxRegions.read`)."""
        return MapRegions.of(reader(self.labels), self.ids)

    def without_axis(self, axis: int) -> MapRegions:
        """Return the regions of a grid that is one voxel thick along an axis, without that axis."""
        return MapRegions(self.labels.squeeze(axis), self.ids)

    def numbers(self) -> NDArray[np.int32]:
        """Return (*shape,) the place of each voxel's region in `ids`, `NOWHERE` for voxels without one."""
        return self.labels

    def paint(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return each region's value on its voxels: (..., R) -> (..., *shape); NaN where there is no region."""
        padded = np.concatenate([values, np.full_like(values[..., :1], np.nan)], axis=-1, dtype=values.dtype)
        if not values.shape[-1]:
            padded = np.full((*values.shape[:-1], 1), np.nan, values.dtype)
        return padded[..., self.labels]

    def region_at(self, voxel: Sequence[int]) -> int | None:
        """Return the place in `ids` of the region that a voxel is in; None outside."""
        if any(not 0 <= v < n for v, n in zip(voxel, self.shape, strict=True)):
            return None
        found = int(self.labels[tuple(int(v) for v in voxel)])
        return None if found < 0 else found


Regions = BoxRegions | MapRegions


@dataclass(frozen=True, eq=False)
class PatchRegions:
    """The regions that a patch sees, in its own grid, and those of the volume that it was cut from."""

    patch: Regions
    volume: Regions


class Partition(Hashable, Protocol):
    """A way to divide volumes, as the sampler and the cache of prepared cases ask for it."""

    @property
    def follows_truth(self) -> bool:
        """Whether the regions depend on a case's label, and not on its shape alone."""

    def divide(
        self,
        shape: Sequence[int],
        labels: NDArray[np.uint8] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Regions:
        """Return the regions of a whole prepared volume.

        Parameters
        ----------
        shape
            Voxels along each axis.
        labels
            (*shape,) class indices, 255 = ignored; None for a case without label.
        spacing
            mm along each axis.

        Raises
        ------
        SpecError
            When the partition does not fit such a volume.
        """


def _boxed(inside: NDArray[Any], edges: Edges, shape: tuple[int, ...], outside: float) -> NDArray[Any]:
    """Repeat one value per box over the voxels of the boxes; `outside` elsewhere."""
    for axis, of_axis in enumerate(edges):
        inside = np.repeat(inside, np.diff(of_axis) if len(of_axis) else [], axis=axis)
    spans = [(e[0], e[-1]) if e else (0, 0) for e in edges]
    if all(span == (0, n) for span, n in zip(spans, shape, strict=True)):
        return inside
    result = np.full(shape, outside, inside.dtype)
    result[tuple(slice(a, b) for a, b in spans)] = inside
    return result
