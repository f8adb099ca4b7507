"""Where voxels are in the world: the only place that flips, permutes or resamples.

World coordinates are RAS millimetres (x to the patient's right, y to the front, z to the head). An affine is a
(4, 4) float64 matrix from voxel indices to world coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TOLERANCE_MM = 1e-3
SAME_VOXELS = 0.01
"""Fraction of a voxel up to which two voxels are at the same place: headers round their cosines and spacings."""
Affine = NDArray[np.float64]
VerdictKind = Literal["same", "reordered", "lattice", "shape", "shifted", "different"]


class HasGrid(Protocol):
    """Anything with a grid: a volume, a grid, a prepared case."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> Affine: ...


@dataclass(frozen=True)
class Grid:
    """A shape and the affine of its voxels."""

    shape: tuple[int, ...]
    affine: Affine


def spacing(affine: Affine) -> tuple[float, float, float]:
    """Return the voxel size along each index axis, mm."""
    size = np.sqrt((np.asarray(affine, float)[:3, :3] ** 2).sum(axis=0))
    return float(size[0]), float(size[1]), float(size[2])


def orientation(affine: Affine) -> str:
    """Return the closest anatomical axes, e.g. "LPS": towards what each index grows."""
    from nibabel import orientations  # nibabel imports pydicom, which what only lists kinds does not need

    return "".join(orientations.aff2axcodes(affine))


def obliqueness(affine: Affine) -> float:
    """Return the largest angle between an index axis and the closest world axis, degrees."""
    cosines = np.abs(np.asarray(affine)[:3, :3] / np.asarray(spacing(affine)))
    return float(np.degrees(np.arccos(np.clip(cosines.max(axis=0), 0, 1))).max())


def is_sheared(affine: Affine, tolerance: float = 1e-4) -> bool:
    """Whether the index axes are not at right angles (gantry tilt)."""
    directions = np.asarray(affine)[:3, :3] / np.asarray(spacing(affine))
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() > tolerance)


def is_singular(affine: Affine) -> bool:
    """Whether the affine maps different voxels to one place, or is not finite."""
    matrix = np.asarray(affine, float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return True
    with np.errstate(all="ignore"):
        size = np.asarray(spacing(matrix))
        if not np.isfinite(size).all() or (size <= 0).any():
            return True
        return bool(abs(np.linalg.det(matrix[:3, :3] / size)) < 1e-6)


def corners(shape: Sequence[int], affine: Affine) -> NDArray[np.float64]:
    """Return the world positions (8, 3) of the centres of a grid's corner voxels."""
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]], indexing="ij")).reshape(3, -1)
    return np.asarray((affine[:3, :3] @ ends + affine[:3, 3:]).T)


@dataclass(frozen=True)
class Placement:
    """Where the voxels of one grid are among those of another, both on one lattice: nothing has to be resampled.

    Attributes
    ----------
    axes
        For each axis of the target, the axis of the source along it.
    flips
        For each axis of the target, whether the source counts the other way.
    start
        Index in the target of the source's first voxel along each axis of the target; negative where the source
        begins before the target does.
    shape
        Shape of the source in the target's order of axes.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    start: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def in_order(self) -> bool:
        """Whether the axes of both are the same."""
        return self.axes == (0, 1, 2) and not any(self.flips)

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether the source holds every voxel of a target of this shape."""
        ends = (s + n for s, n in zip(self.start, self.shape, strict=True))
        return max(self.start) <= 0 and all(end >= n for end, n in zip(ends, shape, strict=False))

    def inside(self, shape: Sequence[int]) -> bool:
        """Whether a target of this shape holds every voxel of the source."""
        ends = (s + n for s, n in zip(self.start, self.shape, strict=True))
        return min(self.start) >= 0 and all(end <= n for end, n in zip(ends, shape, strict=False))

    def touches(self, shape: Sequence[int]) -> bool:
        """Whether the source and a target of this shape have a voxel in common."""
        return all(s < n and s + m > 0 for s, m, n in zip(self.start, self.shape, shape, strict=False))

    def turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a source array (i, j, k) in the target's order and direction of axes."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(self.axes)[steps]

    def put(self, array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Return a source array (i, j, k) on a target of this shape, 0 where the source has no voxel."""
        turned = self.turned(array)
        if not any(self.start) and self.shape == tuple(shape):
            return turned
        target = np.zeros(tuple(shape), array.dtype, order="F")
        into, out = [], []
        for start, length, room in zip(self.start, self.shape, shape, strict=True):
            first, last = max(start, 0), max(min(start + length, room), 0)
            into.append(slice(first, max(first, last)))
            out.append(slice(first - start, max(first, last) - start))
        target[tuple(into)] = turned[tuple(out)]
        return target


def placement(target: HasGrid, source: HasGrid) -> Placement | None:
    """Return where the voxels of a grid are among those of another; None where they are not on one lattice.

    They are where every voxel of the source is within a hundredth of a voxel of one of the target, or of one that
    the target would have if it went on.
    """
    matrix = np.linalg.inv(np.asarray(target.affine, float)) @ np.asarray(source.affine, float)
    turn, shift = np.rint(matrix[:3, :3]), np.rint(matrix[:3, 3])
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    # the difference is affine, so that it is largest at a corner
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in source.shape[:3]], indexing="ij")).reshape(3, -1)
    off = (matrix[:3, :3] - turn) @ ends + (matrix[:3, 3] - shift)[:, np.newaxis]
    if not np.abs(off).max() <= SAME_VOXELS:
        return None
    x, y, z = (int(axis) for axis in np.abs(turn).argmax(axis=1))
    flips = [bool(turn[row, axis] < 0) for row, axis in enumerate((x, y, z))]
    shape = [int(source.shape[axis]) for axis in (x, y, z)]
    start = [int(s) - (n - 1 if flip else 0) for s, n, flip in zip(shift, shape, flips, strict=True)]
    return Placement((x, y, z), (flips[0], flips[1], flips[2]), (*start,), (*shape,))  # type: ignore[arg-type]


@dataclass(frozen=True)
class GridComparison:
    """Whether two grids are one.

    Attributes
    ----------
    same
        Equal shape, and every voxel within a hundredth of a voxel.
    kind
        "same"; "reordered" (the same places, axes in another order); "lattice" (cropped or padded by whole voxels);
        else what differs: "shape" (number of voxels), "shifted" (only the origin) or "different".
    text
        The verdict as a sentence.
    distance_mm
        Largest distance between corresponding corners.
    placement
        Where the voxels of the second are among those of the first, for the first three kinds.
    """

    same: bool
    kind: VerdictKind
    text: str
    distance_mm: float
    placement: Placement | None = None


def compare(a: HasGrid, b: HasGrid) -> GridComparison:
    """Compare two grids at their corners, in voxels, so that a rounded header does not count as another grid."""
    moved = corners(b.shape, b.affine) - corners(a.shape, a.affine)
    distance = float(np.linalg.norm(moved, axis=1).max())
    shapes, axes = tuple(a.shape[:3]), f"{orientation(a.affine)} and {orientation(b.affine)}"
    sizes = f"{shape_text(a.shape)} and {shape_text(b.shape)} voxels"
    found = placement(a, b)
    if found is not None and found.touches(shapes):
        if any(found.start) or found.shape != shapes:
            text = f"{sizes} of one lattice, cropped, padded or moved by whole voxels"
            return GridComparison(False, "lattice", text, distance, found)
        if found.in_order:
            return GridComparison(True, "same", "the same grid", distance, found)
        text = f"the same places, but with the axes in another order ({axes})"
        return GridComparison(False, "reordered", text, distance, found)
    if shapes != tuple(b.shape[:3]):
        text = f"{sizes}, corners up to {distance:.3g} mm apart"
        return GridComparison(False, "shape", text, distance)
    if float(np.linalg.norm(moved - moved.mean(axis=0), axis=1).max()) <= SAME_VOXELS * min(
        spacing(a.affine)
    ):
        return GridComparison(False, "shifted", f"shifted by {distance:.3g} mm", distance)
    return GridComparison(False, "different", f"{axes}, corners up to {distance:.3g} mm apart", distance)


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as people read it, e.g. "512 × 512 × 300"."""
    return " × ".join(str(n) for n in shape)


def _to_canonical(affine: Affine) -> NDArray[Any]:
    """Return nibabel's orientation transform to the closest RAS axes."""
    from nibabel import orientations

    return np.asarray(orientations.io_orientation(affine))


def canonical(array: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """Return a view in the closest RAS axis order and its affine; leading axes beyond three stay in front.

    Parameters
    ----------
    array
        (..., i, j, k) voxels.
    """
    transform = _to_canonical(affine)
    return _apply(array, transform), canonical_grid(array.shape[-3:], affine).affine


def canonical_grid(shape: Sequence[int], affine: Affine) -> Grid:
    """Return the grid that `canonical` brings an array of this shape and affine to."""
    known = np.ascontiguousarray(affine, float)
    grid = _canonical_grid(tuple(int(n) for n in shape), known.tobytes())
    return Grid(grid.shape, grid.affine.copy())


@lru_cache(maxsize=256)
def _canonical_grid(shape: tuple[int, ...], affine: bytes) -> Grid:
    """The window asks for the grid of its case with every movement of the mouse."""
    from nibabel import orientations

    known = np.frombuffer(affine).reshape(4, 4)
    transform = _to_canonical(known)
    inverse = orientations.inv_ornt_aff(transform, shape)
    new_shape = [0, 0, 0]
    for source, (target, _) in enumerate(transform):
        new_shape[int(target)] = shape[source]
    return Grid((new_shape[0], new_shape[1], new_shape[2]), known @ inverse)


def from_canonical(array: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """Undo `canonical`: `affine` is that of the original array."""
    from nibabel import orientations

    target = _to_canonical(affine)
    back = orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), target)
    return _apply(array, back)


def _apply(array: NDArray[Any], transform: NDArray[Any]) -> NDArray[Any]:
    extra = array.ndim - 3
    order = [0, 0, 0]
    flips: list[slice] = [slice(None)] * extra
    for source, (target, flip) in enumerate(transform):
        order[int(target)] = source
        flips.append(slice(None, None, int(flip)))
    flipped = array[tuple(flips)]
    return flipped.transpose([*range(extra), *[extra + o for o in order]])


@dataclass(frozen=True)
class DisplayGrid:
    """How a volume is shown: array axes (z, y, x) of the closest RAS grid, in mm.

    Attributes
    ----------
    shape
        Displayed shape (z, y, x).
    affine
        Of the original array, in its own index order.
    scale, translate
        (z, y, x), mm; what is oblique beyond the closest axes is left out (napari cannot slice it) and kept
        in `affine`.
    """

    shape: tuple[int, int, int]
    affine: Affine
    canonical_affine: Affine
    scale: tuple[float, float, float]
    translate: tuple[float, float, float]

    @classmethod
    def of(cls, volume: HasGrid, within: HasGrid | None = None) -> DisplayGrid:
        """Return the display grid of a volume.

        `within` is the volume that this one is a part of, a patch say: then it is shown at its place in that
        one, which matters where both are oblique.
        """
        grid = canonical_grid(volume.shape[:3], volume.affine)
        size = spacing(grid.affine)
        if within is None:
            origin = _shown_origin(grid)
        else:
            whole = cls.of(within)
            index = whole.world_to_display(grid.affine[:3, 3].tolist())
            z0, y0, x0 = np.asarray(whole.translate) + index * np.asarray(whole.scale)
            origin = float(x0), float(y0), float(z0)
        x, y, z = grid.shape
        return cls((z, y, x), np.asarray(volume.affine), grid.affine, size[::-1], origin[::-1])

    def to_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view (..., z, y, x) of an array (..., i, j, k) in the file's own order."""
        turned, _ = canonical(array, self.affine)
        return turned.swapaxes(-1, -3)

    def from_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """Undo `to_display`."""
        return from_canonical(array.swapaxes(-1, -3), self.affine)

    def display_to_world(self, index: Sequence[float]) -> NDArray[np.float64]:
        """Return the true world position (x, y, z) of a displayed voxel index (z, y, x)."""
        z, y, x = index
        return np.asarray((self.canonical_affine @ np.array([x, y, z, 1.0]))[:3])

    def world_to_display(self, world: Sequence[float]) -> NDArray[np.float64]:
        """Return the displayed voxel index (z, y, x), fractional, of a world position (x, y, z)."""
        inverse = np.linalg.inv(self.canonical_affine)
        return np.asarray((inverse @ np.array([*world, 1.0]))[2::-1])


def _shown_origin(grid: Grid) -> tuple[float, float, float]:
    """Return where voxel 0 is shown: such that the volume's centre is where it really is."""
    centre = (np.asarray(grid.shape) - 1) / 2
    world = grid.affine[:3, :3] @ centre + grid.affine[:3, 3]
    origin = world - centre * np.asarray(spacing(grid.affine))
    return float(origin[0]), float(origin[1]), float(origin[2])


def resampled_grid(shape: Sequence[int], affine: Affine, new_spacing: Sequence[float]) -> Grid:
    """Return the grid over the same field of view with another voxel size, mm."""
    old = np.asarray(spacing(affine))
    new = np.asarray(new_spacing, float)
    new_shape = tuple(int(max(1, round(n * o / s))) for n, o, s in zip(shape, old, new, strict=True))
    # the outer borders of the two grids coincide, so the actual spacing is rounded to fit
    factor = np.asarray(shape, float) / np.asarray(new_shape)
    scaled = np.array(affine, float)
    scaled[:3, :3] = affine[:3, :3] * factor
    scaled[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factor - 1) / 2)
    return Grid(new_shape, scaled)


def resample(
    array: NDArray[Any], affine: Affine, target: HasGrid, order: int, *, fill: float | None = None
) -> NDArray[Any]:
    """Resample an array onto another grid by world position.

    Parameters
    ----------
    array
        (..., i, j, k); leading axes are resampled one by one.
    target
        Grid of the result.
    order
        0 nearest (labels), 1 linear.
    fill
        Value outside the array; None repeats the edge.

    Returns
    -------
    Array (..., *target.shape) of the same dtype (float32 for linear).
    """
    if array.ndim > 3:
        flat = array.reshape(-1, *array.shape[-3:])
        parts = [resample(part, affine, target, order, fill=fill) for part in flat]
        return np.stack(parts).reshape(*array.shape[:-3], *target.shape)
    matrix = np.linalg.inv(affine) @ target.affine
    source = array if order == 0 else array.astype(np.float32, copy=False)
    # "constant" would call a point outside that rounding put 1e-15 beyond the first voxel
    mode = "nearest" if fill is None else "grid-constant"
    kwargs: dict[str, Any] = {"output_shape": tuple(target.shape), "order": order, "mode": mode}
    linear = matrix[:3, :3]
    diagonal = np.diag(linear)
    # a diagonal transform separates into axes, which scipy does many times faster
    step = diagonal if np.allclose(linear, np.diag(diagonal), atol=1e-9) else linear
    return np.asarray(
        ndimage.affine_transform(source, step, matrix[:3, 3], cval=0.0 if fill is None else fill, **kwargs)
    )
