"""Sums over the regions of a volume without a loop over regions, and the partitions into boxes.

`Boxes` divide what they are given, the same for every sample. `BatchRegions` are the parts of the regions of whole
volumes that the patches of a batch see: each sample has its own, and not equally many. `grid` cuts an axis of S
voxels into min(G, S) boxes by the rule of `numpy.array_split` (the first S mod G are one voxel larger); `box_size`
cuts boxes of that many voxels, the last one smaller where it does not divide S.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from segexplorer.core.errors import SpecError
from segexplorer.core.regions import BoxRegions, MapRegions, PatchRegions
from segexplorer.functional.transfer import sent

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

    @property
    def complete(self) -> bool:
        """Whether every voxel belongs to a box, as it always does."""
        return True

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
            if set(sizes) != {1}:
                painted = _repeated(painted, axis - rank, sizes)
        return painted

    @cached_property
    def _slabs(self) -> _BoxSlabs:
        return _BoxSlabs(self.shape, self.edges)

    def add_slab(self, values: Tensor, sample: int, start: int, into: Tensor) -> None:
        """Add the values of a slab of voxels to the sums of their boxes: (C, n) into (C, R).

        A slab is n voxels from `start` on, in the order of memory: whole planes, or whole rows of one plane.
        """
        self._slabs.add(values, start, into)

    def paint_slab(self, values: Tensor, sample: int, start: int, stop: int) -> Tensor:
        """Return each box's value on the voxels of a slab: (C, R) -> (C, n)."""
        return self._slabs.paint(values, start, stop)


@dataclass(frozen=True)
class _Meeting:
    """What a slab has of a grid of boxes.

    Attributes
    ----------
    planes, rows
        Its planes, and rows of each.
    first, sizes
        The first box along the rows, and how many rows the slab has of it and of those after it.
    margins
        Rows before and after them that belong to no box.
    runs
        (box or None, from, to) of planes one after the other that belong to the same box along the first axis.
    boxes
        Those boxes, in order.
    """

    planes: int
    rows: int
    first: int
    sizes: tuple[int, ...]
    margins: tuple[int, int]
    runs: tuple[tuple[int | None, int, int], ...]
    boxes: tuple[int, ...]


class _BoxSlabs:
    """Sums over boxes, and values painted on them, of slabs of whole planes or of whole rows of one plane.

    Parameters
    ----------
    shape
        Voxels of the grid along 1 to 3 axes.
    edges
        Box edges per axis, which need not reach the faces of the grid; voxels outside belong to no box.
    """

    def __init__(self, shape: Sequence[int], edges: Sequence[Sequence[int]]) -> None:
        missing = 3 - len(shape)
        self.shape = (*(1,) * missing, *shape)
        self.edges = (*((0, 1),) * missing, *(tuple(axis) for axis in edges))
        self.counts = tuple(max(0, len(axis) - 1) for axis in self.edges)
        inside = [(k, z) for k, (a, b) in enumerate(pairwise(self.edges[0])) for z in range(a, b)]
        self.box_of_plane = {z: k for k, z in inside}
        self.widths = tuple(b - a for a, b in pairwise(self.edges[2]))
        self._known: dict[tuple[int, int], _Meeting] = {}

    def add(self, values: Tensor, start: int, into: Tensor) -> None:
        at = self._meeting(start, start + values.shape[1])
        if not at.sizes or not at.boxes:
            return
        volume = values.view(-1, at.planes, at.rows, self.shape[2])
        if at.margins != (0, 0):
            volume = volume.narrow(2, at.margins[0], sum(at.sizes))
        volume = _sum_along(volume, -2, at.sizes)
        left, right = self.edges[2][0], self.edges[2][-1]
        if right - left < self.shape[2]:
            volume = volume.narrow(3, left, right - left)
        volume = _sum_along(volume, -1, self.widths)
        target = into.view(-1, *self.counts)
        for box, begin, end in at.runs:
            if box is not None:
                target[:, box, at.first : at.first + len(at.sizes)].add_(volume[:, begin:end].sum(1))

    def paint(self, values: Tensor, start: int, stop: int) -> Tensor:
        at = self._meeting(start, stop)
        if not at.sizes or not at.boxes:
            return values.new_zeros(len(values), stop - start)
        low = at.boxes[0]  # a slab meets few of the boxes along the first axis
        boxes = values.reshape(-1, *self.counts)[
            :, low : at.boxes[-1] + 1, at.first : at.first + len(at.sizes)
        ]
        before, after = self.edges[2][0], self.shape[2] - self.edges[2][-1]
        row = _repeated(boxes, 3, self.widths)
        row = pad(row, [before, after]) if before or after else row
        found = values.new_empty(len(values), at.planes, at.rows, self.shape[2])
        for box, begin, end in at.runs:
            part = found[:, begin:end]
            if box is None:
                part.zero_()
                continue
            plane = _repeated(row[:, box - low], 1, at.sizes)
            plane = pad(plane, [0, 0, *at.margins]) if any(at.margins) else plane
            part.copy_(plane.unsqueeze(1))
        return found.flatten(1)

    def _meeting(self, start: int, stop: int) -> _Meeting:
        """Return which boxes a slab meets; known once asked for, since every map of a slab asks."""
        if (start, stop) not in self._known:
            planes, rows = self._span(start, stop)
            first, sizes = self._cut(1, rows)
            top = max(self.edges[1][0] - rows.start, 0)
            runs, begin = list[tuple[int | None, int, int]](), 0
            for box, run in groupby(self.box_of_plane.get(z) for z in planes):
                end = begin + len(list(run))
                runs.append((box, begin, end))
                begin = end
            whole = all(self.counts)
            self._known[start, stop] = _Meeting(
                planes=len(planes),
                rows=len(rows),
                first=first,
                sizes=tuple(sizes) if whole else (),
                margins=(top, len(rows) - top - sum(sizes)),
                runs=tuple(runs),
                boxes=tuple(box for box, _, _ in runs if box is not None) if whole else (),
            )
        return self._known[start, stop]

    def _span(self, start: int, stop: int) -> tuple[range, range]:
        """Return the planes of a slab, and the rows that it has of each."""
        row, plane = self.shape[2], self.shape[1] * self.shape[2]
        if stop - start >= plane:
            return range(start // plane, stop // plane), range(self.shape[1])
        begin = start % plane // row
        return range(start // plane, start // plane + 1), range(begin, begin + (stop - start) // row)

    def _cut(self, axis: int, span: range) -> tuple[int, list[int]]:
        """Return the first box that a span of an axis meets, and how much it has of each."""
        pieces = [
            (k, min(b, span.stop) - max(a, span.start)) for k, (a, b) in enumerate(pairwise(self.edges[axis]))
        ]
        met = [(k, size) for k, size in pieces if size > 0]
        return (met[0][0] if met else 0), [size for _, size in met]


def _repeated(values: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    """Return values repeated along an axis, each as often as its size says."""
    if len(set(sizes)) == 1:
        return values.repeat_interleave(sizes[0], dim=axis)
    parts, start = [], 0
    for size, run in groupby(sizes):  # runs of equal sizes: no table of repetitions goes to the device
        count = len(list(run))
        parts.append(values.narrow(axis, start, count).repeat_interleave(size, dim=axis))
        start += count
    return torch.cat(parts, axis)


class BatchRegions:
    """The regions that each patch of a batch sees; a sample with fewer than R of them has empty ones at its end.

    Parameters
    ----------
    samples
        Of each sample; all of one grid.
    device
        Where maps of regions are kept.
    """

    def __init__(self, samples: Sequence[PatchRegions], device: torch.device | str = "cpu") -> None:
        self.samples = tuple(samples)
        self.count = max(1, *(len(sample.patch.ids) for sample in self.samples))
        self.complete = all(sample.patch.complete for sample in self.samples)
        self._device = device
        parts = [sample.patch for sample in self.samples]
        self._parts = [_Inner(p) if isinstance(p, BoxRegions) else _Mapped(p, device) for p in parts]

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the patches in voxels."""
        return self.samples[0].patch.shape

    def without_axis(self, axis: int) -> BatchRegions:
        """Return the regions of patches that are one voxel thick along an axis, without that axis."""
        samples = [PatchRegions(sample.patch.without_axis(axis), sample.volume) for sample in self.samples]
        return BatchRegions(samples, self._device)

    def sum(self, volume: Tensor) -> Tensor:
        """Return the sum over each region: (B, ..., *spatial) -> (B, ..., R); 0 for empty ones."""
        sums = [part.sum(of_sample) for part, of_sample in zip(self._parts, volume, strict=True)]
        return torch.stack([pad(s, (0, self.count - s.shape[-1])) for s in sums])

    def paint(self, values: Tensor) -> Tensor:
        """Return each region's value on all of its voxels: (B, ..., R) -> (B, ..., *spatial); 0 outside."""
        return torch.stack([part.paint(row) for part, row in zip(self._parts, values, strict=True)])

    def add_slab(self, values: Tensor, sample: int, start: int, into: Tensor) -> None:
        """Add the values of a slab of a sample to the sums of its regions, as `Boxes.add_slab`."""
        part = self._parts[sample]
        part.add_slab(values, start, into[:, : part.count])

    def paint_slab(self, values: Tensor, sample: int, start: int, stop: int) -> Tensor:
        """Return each region's value on the voxels of a slab, 0 outside: (C, R) -> (C, n)."""
        part = self._parts[sample]
        return part.paint_slab(values[:, : part.count], start, stop)


class _Inner:
    """Boxes of one sample, which need not reach the faces of its patch."""

    def __init__(self, regions: BoxRegions) -> None:
        self.shape, self.rank = regions.shape, len(regions.shape)
        self.spans = [(e[0], e[-1]) if e else (0, 0) for e in regions.edges]
        self.empty = not len(regions.ids)
        self.boxes = Boxes(tuple(tuple(e - axis[0] for e in axis) for axis in regions.edges))
        self.count = len(regions.ids)
        self._slabs = _BoxSlabs(regions.shape, regions.edges)

    def add_slab(self, values: Tensor, start: int, into: Tensor) -> None:
        self._slabs.add(values, start, into)

    def paint_slab(self, values: Tensor, start: int, stop: int) -> Tensor:
        return self._slabs.paint(values, start, stop)

    def sum(self, volume: Tensor) -> Tensor:
        if self.empty:
            return volume.new_zeros(*volume.shape[: -self.rank], 0)
        for axis, (begin, end) in enumerate(self.spans):
            volume = volume.narrow(axis - self.rank, begin, end - begin)
        return self.boxes.sum(volume)

    def paint(self, values: Tensor) -> Tensor:
        if self.empty:
            return values.new_zeros(*values.shape[:-1], *self.shape)
        painted = self.boxes.paint(values[..., : self.boxes.count])
        margins = [(begin, n - end) for (begin, end), n in zip(self.spans, self.shape, strict=True)]
        if not any(map(any, margins)):
            return painted
        return pad(painted, [m for margin in reversed(margins) for m in margin])


class _Mapped:
    """Regions of any shape of one sample."""

    def __init__(self, regions: MapRegions, device: torch.device | str) -> None:
        self.shape, self.count = regions.shape, len(regions.ids)
        # voxels without a region are added to one region more, which is dropped
        places = np.where(regions.labels < 0, self.count, regions.labels).ravel()
        small = places.astype(np.int16 if self.count < 2**15 else np.int32)  # as few bytes as can be to send
        self.places = sent(torch.from_numpy(small), device).long()

    def add_slab(self, values: Tensor, start: int, into: Tensor) -> None:
        places = self.places[start : start + values.shape[1]]
        for row, target in zip(values, into, strict=True):
            sums = target.new_zeros(self.count + 1).index_add_(0, places, row.to(target.dtype))
            target.add_(sums[: self.count])

    def paint_slab(self, values: Tensor, start: int, stop: int) -> Tensor:
        return pad(values, (0, 1)).index_select(1, self.places[start:stop])

    def sum(self, volume: Tensor) -> Tensor:
        rank = len(self.shape)
        rows = volume.reshape(-1, self.places.numel())
        # in float64: a float32 counter of more than 2^24 voxels stays there, since 16777216 + 1 rounds back
        sums = [
            row.new_zeros(self.count + 1, dtype=torch.float64).index_add(0, self.places, row.double())
            for row in rows
        ]
        total = torch.stack(sums)[:, : self.count].to(volume.dtype)
        return total.reshape(*volume.shape[:-rank], self.count)

    def paint(self, values: Tensor) -> Tensor:
        known = pad(values[..., : self.count], (0, 1))
        painted: Tensor = known.index_select(-1, self.places)
        return painted.reshape(*values.shape[:-1], *self.shape)


Divided = Boxes | BatchRegions
"""Regions of a batch, at most R in a sample: what overlaps are summed over."""


def anchored(
    partition: Any, origins: Any, volume_shapes: Any, shape: Sequence[int], device: torch.device | str
) -> Divided:
    """Return the regions of whole volumes that patches see which were cut from them as they are.

    Parameters
    ----------
    partition
        Divides the volumes.
    origins, volume_shapes
        (B, D) first voxel of each patch in its volume, and that volume's shape.
    shape
        Spatial shape of the patches.
    """
    samples = []
    for origin, volume in zip(np.asarray(origins).tolist(), np.asarray(volume_shapes).tolist(), strict=True):
        whole = partition.divide(tuple(volume))
        samples.append(PatchRegions(whole.patch(origin, shape), whole))
    if all(tuple(s.volume.shape) == tuple(shape) and s.patch.complete for s in samples):
        boxes: Boxes = partition.boxes(shape)  # whole volumes: the same for all samples
        return boxes
    return BatchRegions(samples, device)


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
