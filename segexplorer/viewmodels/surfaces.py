"""Smooth surfaces of truth, prediction and errors for 3D views, made by a worker within a budget of triangles.

A mask is averaged onto a grid of equal sides whose size follows from the budget, smoothed, and its surface found by
marching cubes (Lewiner 2003, scikit-image). The level is the one that keeps the volume of the mask, so that thin
vessels neither vanish nor swell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.data.geometry import DisplayGrid
from segexplorer.data.volume import Volume
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels import errors

Part = Literal["truth", "prediction", "errors"]
MOST_TRIANGLES = 60_000
"""Of one part, about: the main thread gives so many to the graphics card in some tens of milliseconds."""
LEAST_ERROR_ML = 0.05
"""Errors smaller than this are not drawn; they are not listed either."""
OPACITIES: Mapping[Part, float] = {"truth": 0.25, "prediction": 0.6, "errors": 1.0}
ORDER: tuple[Part, ...] = ("errors", "prediction", "truth")
"""In which order they are drawn: what is clear comes after what is seen through it."""
Vertices = NDArray[np.float32]
Faces = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SurfacePicture:
    """One surface layer to be.

    Attributes
    ----------
    key, name
        What it is within its case, and the name of the layer.
    part
        What it is of.
    vertices
        (N, 3) z, y, x in mm, RAS.
    faces
        (M, 3) places in `vertices`.
    colours
        (N, 4) of each vertex, as it is lit.
    """

    key: str
    name: str
    part: Part
    vertices: Vertices
    faces: Faces
    colours: NDArray[np.float32]


def surfaces_of(
    snapshot: WatchedSnapshot, class_index: int | None, wanted: Sequence[Part], title: str
) -> dict[Part, SurfacePicture]:
    """Return the surfaces of a watched case, without those that have nothing to show.

    Parameters
    ----------
    class_index
        One class; None for all.
    wanted
        Which parts.
    title
        Of which case and step, for the names of the layers.
    """
    grid = DisplayGrid.of(Volume.from_array(snapshot.prediction, affine=snapshot.affine))
    scale, translate = np.asarray(grid.scale, float), np.asarray(grid.translate, float)
    found: dict[Part, SurfacePicture] = {}
    for part in wanted:
        labels, inks = _labels_of(snapshot, class_index, part)
        if labels is None:
            continue
        least = LEAST_ERROR_ML if part == "errors" else 0.0
        pieces = mesh(grid.to_display(labels), scale, tuple(inks), least_ml=least)
        if pieces:
            found[part] = _joined(part, pieces, inks, translate, title)
    return found


def _labels_of(
    snapshot: WatchedSnapshot, class_index: int | None, part: Part
) -> tuple[NDArray[np.uint8] | None, dict[int, str]]:
    """Return a label map and the colour of each of its values that is drawn."""
    indices = range(1, len(snapshot.class_names) + 1) if class_index is None else (class_index,)
    if part == "prediction":
        palette = ClassColours(tuple(snapshot.class_names))
        return shown_class(snapshot, snapshot.prediction, class_index), {
            i: palette.colour(i) for i in indices
        }
    if snapshot.truth is None:
        return None, {}
    if part == "truth":
        truth = shown_class(snapshot, snapshot.truth, class_index)
        return truth, dict.fromkeys(indices, colours.TRUTH_SURFACE)
    codes = errors.error_codes(snapshot.prediction, snapshot.truth, class_index, snapshot.scheme)
    return codes, {int(code): errors.COLOURS[code] for code in errors.NAMES}


def shown_class(
    snapshot: WatchedSnapshot, labels: NDArray[np.uint8], class_index: int | None
) -> NDArray[np.uint8]:
    """Return class indices to be drawn: of classes that overlap, the chosen one whole, or the topmost ones."""
    scheme = snapshot.scheme
    if class_index is None or not scheme.overlapping:
        return scheme.topmost(labels)
    return np.asarray(scheme.mask(labels, class_index) * np.uint8(class_index))


_LIGHTS = ((np.array([0.5, 0.8, 0.35]), 0.55), (np.array([0.2, -0.9, -0.4]), 0.35))
"""Directions (z, y, x) to two lights, in front and behind, and their strengths."""
_AMBIENT = 0.45


def light(points: Vertices, triangles: Faces) -> NDArray[np.float32]:
    """Return (N,) how bright each vertex of a closed surface is, from 0 to 1.

    The lights stand still around the patient. Those of napari 0.9 follow the camera, but stay dark where an axis
    points up or to the left, as all of ours do; and its normals are computed on the main thread.
    """
    a, b, c = (points[triangles[:, place]].astype(np.float64) for place in range(3))
    faces = np.cross(b - a, c - a)
    if np.einsum("ij,ij->", a - points.mean(axis=0), faces) < 0:
        faces = -faces  # outward
    normals = np.stack(
        [
            sum(np.bincount(triangles[:, place], faces[:, axis], len(points)) for place in range(3))
            for axis in range(3)
        ],
        axis=1,
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    bright = _AMBIENT + sum(
        strength * np.maximum(normals @ (way / np.linalg.norm(way)), 0) for way, strength in _LIGHTS
    )
    lit: NDArray[np.float32] = np.minimum(bright, 1).astype(np.float32)
    return lit


def _joined(
    part: Part,
    pieces: Mapping[int, tuple[Vertices, Faces]],
    inks: Mapping[int, str],
    translate: NDArray[np.float64],
    title: str,
) -> SurfacePicture:
    vertices, faces, painted, before = [], [], [], 0
    for value, (points, triangles) in pieces.items():
        vertices.append(points + translate.astype(np.float32))
        faces.append(triangles + before)
        ink = np.tile(np.array(colours.rgba(inks[value]), np.float32), (len(points), 1))
        ink[:, :3] *= light(points, triangles)[:, np.newaxis]
        painted.append(ink)
        before += len(points)
    return SurfacePicture(
        key=f"surface/{part}",
        name=f"{part} in 3D ({title})",
        part=part,
        vertices=np.concatenate(vertices),
        faces=np.concatenate(faces),
        colours=np.concatenate(painted),
    )


def mesh(
    labels: NDArray[np.uint8],
    spacing: Sequence[float] | NDArray[np.float64],
    values: Sequence[int],
    *,
    most: int = MOST_TRIANGLES,
    least_ml: float = 0.0,
) -> dict[int, tuple[Vertices, Faces]]:
    """Return the surface of each value of a label map: vertices in mm from the first voxel's centre, and faces.

    Parameters
    ----------
    labels
        Array with three axes.
    spacing
        mm per voxel along each.
    values
        Which values; those that do not occur have no surface.
    most
        How many triangles, about, all together.
    least_ml
        Pieces with less volume are left out.
    """
    sides = np.asarray(spacing, float)
    boxes = ndimage.find_objects(labels, max_label=max(values, default=0))
    there = {v: boxes[v - 1] for v in values if v <= len(boxes) and boxes[v - 1] is not None}
    area = sum(_area(labels[box] == value, sides) for value, box in there.items())
    # marching cubes makes some 2.5 triangles per face of a cell that the surface goes through
    common = max(float(sides.min()), float(np.sqrt(2.5 * area / most)))
    found: dict[int, tuple[Vertices, Faces]] = {}
    for value, box in there.items():
        extent = min((s.stop - s.start) * side for s, side in zip(box, sides, strict=True))
        side = min(common, max(float(sides.min()), extent / 4))
        surface = _surface(labels[box] == value, sides, side, least_ml)
        if surface is not None:
            first = np.array([s.start for s in box]) * sides
            found[value] = (surface[0] + first.astype(np.float32), surface[1])
    return found


def _area(mask: NDArray[np.bool_], sides: NDArray[np.float64]) -> float:
    """Return the surface in mm2: two thirds of the faces of voxels, as for a ball."""
    total = 0.0
    for axis in range(3):
        changes = np.count_nonzero(np.diff(mask, axis=axis))
        ends = np.count_nonzero(mask.take(0, axis)) + np.count_nonzero(mask.take(-1, axis))
        total += (changes + ends) * float(np.prod(np.delete(sides, axis)))
    return total * 2 / 3


def _surface(
    mask: NDArray[np.bool_], sides: NDArray[np.float64], side: float, least_ml: float
) -> tuple[Vertices, Faces] | None:
    """Return the surface of one mask on a grid of cells with this side, in mm from the mask's first voxel."""
    from skimage.measure import marching_cubes

    steps = np.maximum(1, np.floor(side / sides + 1e-6)).astype(int)
    cells = _averaged(mask, steps)
    cell = sides * steps
    margin = 2
    padded = np.pad(cells, margin)
    smooth = ndimage.gaussian_filter(padded, 0.7 * np.minimum(1.5, side / cell))
    ratio = side / cell
    if (
        np.abs(ratio - 1) > 0.2
    ).any():  # slices thicker than pixels: cells of equal sides make even triangles
        shape = tuple(int(n) for n in np.floor((np.array(smooth.shape) - 1) / ratio) + 1)
        smooth = ndimage.affine_transform(smooth, ratio, output_shape=shape, order=1)
    else:
        ratio = np.ones(3)
    grid = cell * ratio
    volume = np.count_nonzero(mask) * float(np.prod(sides))
    kept = int(np.clip(round(volume / float(np.prod(grid))), 1, smooth.size - 1))
    # between the last cell inside and the first outside, where the surface of a small structure is
    level = float(np.partition(smooth.ravel(), (-kept - 1, -kept))[-kept - 1 : smooth.size - kept + 1].mean())
    level = min(max(level, 0.05), 0.6, 0.95 * float(smooth.max()))
    if least_ml:
        smooth = _without_small(smooth, level, least_ml * 1000 / float(np.prod(grid)))
    if not smooth.max() > level:
        return None
    points, triangles, *_ = marching_cubes(smooth, level, spacing=tuple(grid))
    # centres of the first padded cell, and of the first averaged one, seen from the first voxel
    first = -margin * cell + (steps - 1) * sides / 2
    return (points + first).astype(np.float32), triangles.astype(np.int32)


def _averaged(mask: NDArray[np.bool_], steps: NDArray[Any]) -> NDArray[np.float32]:
    """Return which part of each block of voxels is in the mask."""
    if (steps == 1).all():
        return mask.astype(np.float32)
    missing = [(0, -n % step) for n, step in zip(mask.shape, steps, strict=True)]
    whole = np.pad(mask, missing)
    blocks = whole.reshape([m for n, step in zip(whole.shape, steps, strict=True) for m in (n // step, step)])
    averaged: NDArray[np.float32] = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    return averaged


def _without_small(smooth: NDArray[np.float32], level: float, least: float) -> NDArray[np.float32]:
    """Return the field without pieces above the level that have fewer cells."""
    pieces, _ = ndimage.label(smooth > level, ndimage.generate_binary_structure(3, 3))
    small = np.bincount(pieces.ravel()) < least
    small[0] = False
    return np.where(small[pieces], np.float32(0), smooth)
