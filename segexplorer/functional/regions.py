"""Partitions of a volume into boxes, and sums over them without a loop over boxes.

`grid` cuts an axis of S voxels into min(G, S) boxes by the rule of `numpy.array_split` (the first S mod G are one
voxel larger); `box_size` cuts boxes of that many voxels, the last one smaller where it does not divide S.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor

from segexplorer.core.errors import SpecError

Sizes = int | Sequence[int]


@dataclass(frozen=True)
class Boxes:
    """A partition into boxes, the last axis running fastest.

    Attributes
    ----------
    edges
        Box edges per spatial axis, e.g. ((0, 8, 16), (0, 8, 12)).
    """

    edges: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return tuple(e[-1] for e in self.edges)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of boxes along each axis."""
        return tuple(len(e) - 1 for e in self.edges)

    @property
    def count(self) -> int:
        """Number of boxes, R."""
        return math.prod(self.counts)

    def sizes(self, axis: int) -> tuple[int, ...]:
        """Lengths of the boxes along a spatial axis, in voxels."""
        edges = self.edges[axis]
        return tuple(b - a for a, b in pairwise(edges))

    def sum(self, volume: Tensor) -> Tensor:
        """Return the sum over each box: (..., *spatial) -> (..., R)."""
        rank = len(self.edges)
        # slowest axis first: whole rows are added up, several times as fast as neighbours along the last axis
        for axis in range(rank):
            volume = _sum_along(volume, axis - rank, self.sizes(axis))
        return volume.flatten(-rank)

    def paint(self, values: Tensor) -> Tensor:
        """Return each box's value on all of its voxels: (..., R) -> (..., *spatial)."""
        rank = len(self.edges)
        painted = values.reshape(*values.shape[:-1], *self.counts)
        for axis in reversed(range(rank)):  # the last repetition, the largest, then copies whole slabs
            sizes = self.sizes(axis)
            repeats = sizes[0] if len(set(sizes)) == 1 else torch.tensor(sizes, device=values.device)
            if set(sizes) != {1}:
                painted = painted.repeat_interleave(repeats, dim=axis - rank)
        return painted


def _sum_along(volume: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    """Sum boxes along one axis: one reshape per run of equal lengths, of which there are at most two."""
    parts, start = [], 0
    for size, run in groupby(sizes):
        count = len(list(run))
        piece = volume.narrow(axis, start, count * size)
        parted: Tensor = piece.unflatten(axis, (count, size))  # type: ignore[no-untyped-call]
        parts.append(parted.sum(axis))
        start += count * size
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def partition(shape: Sequence[int], *, grid: Sizes | None = None, box_size: Sizes | None = None) -> Boxes:
    """Cut a spatial shape into boxes, by their number per axis (`grid`) or their size in voxels.

    Raises
    ------
    SpecError
        When neither or both are given, when they have another number of axes, or a number is below 1.
    """
    if (grid is None) == (box_size is None):
        raise SpecError("A partition needs a grid or a box size.", "Give exactly one of the two.")
    name, given = ("grid", grid) if grid is not None else ("box_size", box_size)
    assert given is not None
    numbers = (given,) * len(shape) if isinstance(given, int) else tuple(given)
    if len(numbers) != len(shape) or min(numbers) < 1:
        raise SpecError(
            f"{name} is {list(numbers)} for {len(shape)} spatial axes.",
            "Give one number, or one per axis, each at least 1.",
        )
    cut = _split if grid is not None else _chop
    return Boxes(tuple(cut(int(s), int(n)) for s, n in zip(shape, numbers, strict=True)))


def _split(length: int, count: int) -> tuple[int, ...]:
    count = min(count, length)
    size, larger = divmod(length, count)
    return tuple(accumulate([size + 1] * larger + [size] * (count - larger), initial=0))


def _chop(length: int, size: int) -> tuple[int, ...]:
    return (*range(0, length, size), length)
