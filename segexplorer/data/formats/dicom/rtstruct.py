"""RTSTRUCT: contours of radiotherapy, filled on the grid of the image they were drawn on.

A voxel belongs to a structure when its centre is inside the contours of its slice, or on one of them; contours
inside others cut holes (XOR, even-odd). Programs that trace masks put their points on the centres of the
outermost voxels of a structure, of a hole too, and write them rounded: what is within a hundredth of a voxel is
on the contour. A contour belongs to the slice nearest to it; where several planes of contours fall on one slice,
as on an image with thicker slices, the nearest plane counts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom.files import Opener, parse, reading
from segexplorer.data.formats.dicom.header import Header
from segexplorer.data.formats.dicom.segments import Mask, Segments
from segexplorer.data.geometry import SAME_VOXELS, Affine, Grid, HasGrid
from segexplorer.data.volume import Provenance

_WANTED = ("StructureSetROISequence", "ROIContourSequence")
_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}
_FLAT = 0.2
"""How much of a slice distance the points of one contour may leave its plane."""
Contour = NDArray[np.float64]


@dataclass(frozen=True)
class Structure:
    """One region of interest: closed contours (points, 3) in RAS mm; `others` counts points and open lines."""

    name: str
    contours: tuple[Contour, ...]
    others: int


def read_structures(header: Header, path: Path, like: HasGrid) -> Segments:
    """Return the structures of an RTSTRUCT file on the grid of their image.

    Parameters
    ----------
    path
        What the user named: the file, or a folder or archive that holds it.

    Raises
    ------
    DataError
        When it is damaged, holds no closed contour, or they are not parallel to slices of the image.
    """
    structures = read_contours(header)
    grid = Grid(tuple(like.shape), np.asarray(like.affine))
    axis = _slice_axis(structures, grid.affine, header.place.name)
    filled = {value: _Planes.of(one, grid, axis) for value, one in structures.items()}
    if not any(planes.polygons for planes in filled.values()):
        raise DataError(
            f"The contours in {header.place.name} are outside the image.",
            "Choose the image they were drawn on.",
        )
    notes = _notes(structures, filled)
    names = {value: one.name for value, one in structures.items()}
    return Segments(names, _Filled(grid.shape, axis, filled), axis, grid, Provenance(path, "RTSTRUCT", notes))


def read_contours(header: Header) -> dict[int, Structure]:
    """Return the structures by number, in the order of the file.

    Raises
    ------
    DataError
        When a list is damaged, or there is no structure.
    """
    with Opener() as opener:
        parsed = parse(header.place, opener, _WANTED)
    assert parsed is not None
    with reading(f"The contours in {header.place.name} are damaged."):
        structures = _structures(parsed[0])
    if not structures:
        raise DataError(f"{header.place.name} holds no structure.", "Export the structures again.")
    return structures


def _structures(data: Any) -> dict[int, Structure]:
    names = {
        int(item.ROINumber): str(item.get("ROIName") or f"structure {int(item.ROINumber)}")
        for item in data.get("StructureSetROISequence") or ()
    }
    found: dict[int, Structure] = {}
    for item in data.get("ROIContourSequence") or ():
        number = int(item.ReferencedROINumber)
        contours, others = [], 0
        for contour in item.get("ContourSequence") or ():
            points = _points(contour)
            if str(contour.get("ContourGeometricType")) in _CLOSED and len(points) >= 3:
                contours.append(points)
            else:
                others += 1
        found[number] = Structure(names.get(number, f"structure {number}"), tuple(contours), others)
    numbers = [number for number in names if number in found]
    if all(0 < number < 2**16 for number in numbers):
        return {number: found[number] for number in numbers}
    return {n: found[number] for n, number in enumerate(numbers, start=1)}


def _points(contour: Any) -> Contour:
    # the raw text: pydicom would make an object of every one of a million numbers
    raw = contour.get_item("ContourData").value
    numbers = raw.split(b"\\") if isinstance(raw, bytes) else raw
    points = np.asarray([float(v) for v in numbers], float).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError("not finite")
    return points * (-1, -1, 1)


def _slice_axis(structures: dict[int, Structure], affine: Affine, name: str) -> int:
    """Return the index axis of the image along which all contours are flat."""
    inverse = np.linalg.inv(affine)[:3, :3]
    spreads = [np.ptp(contour @ inverse.T, axis=0) for one in structures.values() for contour in one.contours]
    if not spreads:
        raise DataError(f"{name} holds no closed contour.", "Export the structures with their contours.")
    worst = np.percentile(np.asarray(spreads), 95, axis=0)
    axis = int(worst.argmin())
    if worst[axis] > _FLAT:
        raise DataError(
            f"The contours in {name} are not parallel to slices of the image.",
            "Choose the image they were drawn on.",
        )
    return axis


@dataclass(frozen=True)
class _Planes:
    """Polygons (points, 2) in voxels of each slice, and what did not fit."""

    polygons: dict[int, tuple[NDArray[np.float64], ...]]
    outside: int
    between: int
    farthest: float

    @classmethod
    def of(cls, structure: Structure, grid: Grid, axis: int) -> _Planes:
        inverse = np.linalg.inv(grid.affine)
        rest = [i for i in range(3) if i != axis]
        planes: dict[int, dict[float, list[NDArray[np.float64]]]] = {}
        outside = 0
        for contour in structure.contours:
            index = contour @ inverse[:3, :3].T + inverse[:3, 3]
            height = float(np.median(index[:, axis]))
            number = round(height)
            if not 0 <= number < grid.shape[axis]:
                outside += 1
                continue
            same = planes.setdefault(number, {}).setdefault(round(height, 2), [])
            polygon = index[:, rest]
            # one drawn twice would cut itself out
            if not any(np.array_equal(polygon, other) for other in same):
                same.append(polygon)
        nearest = {n: min(heights, key=lambda h, n=n: abs(h - n)) for n, heights in planes.items()}  # type: ignore[misc]
        off = max((abs(h - n) for n, h in nearest.items()), default=0.0)
        skipped = sum(len(heights) - 1 for heights in planes.values())
        return cls({n: tuple(planes[n][h]) for n, h in sorted(nearest.items())}, outside, skipped, off)

    @property
    def crossing(self) -> bool:
        """Whether contours of a slice cross."""
        return any(len(polygons) > 1 and _cross(polygons) for polygons in self.polygons.values())

    @property
    def left_out(self) -> int:
        """Slices without a contour between those that have one."""
        return max(self.polygons) - min(self.polygons) + 1 - len(self.polygons) if self.polygons else 0


@dataclass(frozen=True)
class _Filled:
    """Fills the contours of one structure, slice by slice; picklable."""

    shape: tuple[int, ...]
    axis: int
    planes: dict[int, _Planes]

    def __call__(self, value: int) -> Iterator[tuple[int, Mask]]:
        from skimage.draw import polygon2mask

        shape = tuple(n for axis, n in enumerate(self.shape) if axis != self.axis)
        for number, polygons in self.planes[value].polygons.items():
            inside = np.zeros(shape, bool, order="F")
            border = np.concatenate([_on_contour(points) for points in polygons])
            for points in polygons:
                low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, shape)
                high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, 0, shape)
                if (high > low).all():
                    box = inside[low[0] : high[0], low[1] : high[1]]
                    box ^= polygon2mask(tuple(high - low), points - low)
            border = border[((border >= 0) & (border < shape)).all(axis=1)]
            inside[border[:, 0], border[:, 1]] = True
            yield number, inside


def _on_contour(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the voxels (n, 2) whose centres are on a closed polygon, up to a hundredth of a voxel.

    Every edge is followed along the axis on which it is longer, from voxel to voxel; where the other coordinate is
    almost whole, too, it meets a centre.
    """
    ends = np.roll(points, -1, axis=0)
    along = np.abs(ends - points).argmax(axis=1)
    rows = np.arange(len(points))
    first, last = points[rows, along], ends[rows, along]
    low = np.ceil(np.minimum(first, last) - SAME_VOXELS).astype(np.int64)
    counts = np.maximum(np.floor(np.maximum(first, last) + SAME_VOXELS).astype(np.int64) - low + 1, 0)
    edge = np.repeat(rows, counts)
    steps = low[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = (last - first)[edge]
    share = np.divide(steps - first[edge], length, out=np.zeros(len(edge)), where=length != 0)
    start, end = points[edge, 1 - along[edge]], ends[edge, 1 - along[edge]]
    other = start + np.clip(share, 0, 1) * (end - start)
    met = np.abs(other - np.rint(other)) <= SAME_VOXELS
    found = np.empty((int(met.sum()), 2), np.int64)
    found[np.arange(len(found)), along[edge][met]] = steps[met]
    found[np.arange(len(found)), 1 - along[edge][met]] = np.rint(other[met]).astype(np.int64)
    return found


def _cross(polygons: Sequence[NDArray[np.float64]]) -> bool:
    """Whether two polygons of a slice cross: points of one are both inside and outside of the other."""
    from skimage.measure import points_in_poly

    for one, other in itertools.permutations(polygons, 2):
        apart = (one.max(axis=0) < other.min(axis=0)) | (other.max(axis=0) < one.min(axis=0))
        if apart.any():
            continue
        # points on the contour of the other are neither inside nor outside of it
        near = _distances(one, other) > 0.5
        within = points_in_poly(one[near], other)
        if within.any() and not within.all():
            return True
    return False


def _distances(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance (n,) of points to the nearest edge of a polygon, voxels."""
    starts, steps = polygon, np.roll(polygon, -1, axis=0) - polygon
    lengths = np.maximum((steps**2).sum(axis=1), 1e-12)
    found = np.full(len(points), np.inf)
    for index, point in enumerate(points):
        share = np.clip(((point - starts) * steps).sum(axis=1) / lengths, 0, 1)
        found[index] = np.sqrt(((point - starts - share[:, np.newaxis] * steps) ** 2).sum(axis=1).min())
    return found


def _notes(structures: dict[int, Structure], filled: dict[int, _Planes]) -> tuple[str, ...]:
    notes = []
    total: Counter[str] = Counter()
    for value, one in structures.items():
        planes = filled[value]
        total.update(others=one.others, outside=planes.outside, between=planes.between)
        if planes.left_out:
            notes.append(
                f"{one.name} has no contour on {_count(planes.left_out, 'slice')} between others, "
                "which therefore stay empty."
            )
        elif not planes.polygons:
            notes.append(f"{one.name} has no closed contour in the image; it is empty.")
    if total["others"]:
        notes.append(f"Points or open lines ({total['others']}) enclose nothing and were left out.")
    if total["outside"]:
        number = _count(total["outside"], "contour")
        notes.append(f"Beyond the first or last slice, {number} had to be left out.")
    if crossing := [one.name for value, one in structures.items() if filled[value].crossing]:
        some = ", ".join(crossing[:3]) + (f" and {len(crossing) - 3} more" if len(crossing) > 3 else "")
        notes.append(f"Contours of {some} cross each other in a slice; where two overlap, they cut a hole.")
    if total["between"]:
        number = _count(total["between"], "plane")
        notes.append(f"Between slices, {number} of contours had to give way to nearer ones.")
    off = max((planes.farthest for planes in filled.values()), default=0.0)
    if off > _FLAT:
        notes.append(
            f"Contours are up to {off:.2g} of a slice distance away from the slice they were assigned to."
        )
    return tuple(notes)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
