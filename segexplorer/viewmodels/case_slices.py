"""Slices of a case on paper: image, overlays and outlines in mm, in the colours and directions of the window.

A `CaseSlice` is what the window's canvas shows of one plane, without a canvas: rasters with their place in mm,
lines along the faces of voxels, letters at the edges. Pages and figures draw it at any size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.viewmodels import errors, regions
from segexplorer.viewmodels.layer_images import EdgeLetters, Picture, edge_letters
from segexplorer.viewmodels.outlines import Line, Lines, Outlines

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: Mapping[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Plane -> the axis of a (z, y, x) array that it is across."""
RADIOLOGICAL = ("away", "up", "left")
"""Which way the axes point: superior and anterior up, the patient's right on the left."""
OPACITY = {"classes": 0.5, "errors": 0.75, "map": 0.6, "pull": 1.0, "grey": 1.0}
"""Opacity of what is filled, as in the window."""
World = tuple[float, float, float]
"""(z, y, x) in mm."""


@dataclass(frozen=True, eq=False)
class Raster:
    """Pixels with their place.

    Attributes
    ----------
    pixels
        (h, w) uint8 grey values or (h, w, 4) uint8 colours with opacity, the first row at the top.
    left, top, width, height
        Place and size in mm, to the right and downwards.
    """

    pixels: NDArray[np.uint8]
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class CaseSlice:
    """One slice of a case.

    Attributes
    ----------
    plane, index, count
        Which slice, as the viewer counts them from 0, of how many.
    letters
        Which side of the patient is at which edge.
    left, top, width, height
        What is shown, in mm to the right and downwards.
    image
        None where the image is not here.
    overlays
        From the bottom to the top.
    lines
        What a line means -> (n, 2, 2) ends of its segments, (x, y) in the same mm.
    """

    plane: Plane
    index: int
    count: int
    letters: EdgeLetters
    left: float
    top: float
    width: float
    height: float
    image: Raster | None
    overlays: tuple[Raster, ...] = ()
    lines: Mapping[Line, Lines] = field(default_factory=dict)


def case_slice(
    plane: Plane,
    at: World,
    image: Picture | None,
    overlays: Sequence[Picture] = (),
    outlines: Outlines | None = None,
    *,
    rims: bool = False,
) -> CaseSlice | None:
    """Cut a case.

    Parameters
    ----------
    at
        The slice goes through this point.
    image, overlays, outlines
        What is drawn; all in the same mm, each on a grid of its own.
    rims
        Whether errors are outlines, as over a map.

    Returns
    -------
    None where nothing of it is there.
    """
    axis = PLANES[plane]
    base = image if image is not None else next(iter(overlays), None)
    grid: Any = base if base is not None else outlines
    if grid is None:
        return None
    shape = grid.truth.shape if isinstance(grid, Outlines) else grid.data.shape
    index = _index(grid, shape, axis, at[axis])
    if index is None:
        return None
    # overlays of another grid are cut where the image's slice is
    middle = grid.translate[axis] + index * grid.scale[axis]
    left, top, width, height = _frame(grid, shape, axis)
    lines: dict[Line, Lines] = {}
    if outlines is not None and (place := outlines.index(axis, middle)) is not None:
        lines = {k: -v[..., ::-1] for k, v in outlines.lines(axis, place, rims=rims).items()}
    order = (axis, *(a for a in range(3) if a != axis))
    return CaseSlice(
        plane,
        index,
        shape[axis],
        edge_letters(order, RADIOLOGICAL),
        left,
        top,
        width,
        height,
        None if image is None else _raster(image, axis, middle),
        tuple(found for p in overlays if (found := _raster(p, axis, middle)) is not None),
        lines,
    )


def _index(grid: Any, shape: Sequence[int], axis: int, world: float) -> int | None:
    index = round((world - grid.translate[axis]) / grid.scale[axis])
    return index if 0 <= index < shape[axis] else None


def _frame(grid: Any, shape: Sequence[int], axis: int) -> tuple[float, float, float, float]:
    """Return left, top, width and height in mm of a slice; both axes point against those of the page."""
    down, right = (a for a in range(3) if a != axis)
    first = [-(grid.translate[a] + (shape[a] - 0.5) * grid.scale[a]) for a in (right, down)]
    return first[0], first[1], shape[right] * grid.scale[right], shape[down] * grid.scale[down]


def _raster(picture: Picture, axis: int, world: float) -> Raster | None:
    index = _index(picture, picture.data.shape, axis, world)
    if index is None:
        return None
    cut = np.moveaxis(picture.data, axis, 0)[index][::-1, ::-1]
    return Raster(_painted(picture, cut), *_frame(picture, picture.data.shape, axis))


def grey(values: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Return values as uint8 from black to white; what is no number is black."""
    low, high = limits
    scaled = (np.nan_to_num(values.astype(np.float32), nan=low) - low) / max(high - low, 1e-12)
    return np.asarray(np.round(255 * scaled.clip(0, 1)), np.uint8)


def _painted(picture: Picture, cut: NDArray[Any]) -> NDArray[np.uint8]:
    if picture.colours == "grey":
        return grey(cut, picture.contrast_limits or (float(cut.min()), float(cut.max())))
    if picture.colours == "pull":
        limit = picture.colour_scale.limit
        table = colours.pull(255)
        places = np.rint((colours.pull_strength(cut / limit) + 1) / 2 * 254).astype(np.intp)
    else:
        table, places = _table(picture), cut.astype(np.intp)
    found = table[places]
    found[..., 3] *= OPACITY[picture.colours]
    return np.asarray(np.round(255 * found), np.uint8)


def _table(picture: Picture) -> NDArray[np.float32]:
    if picture.colours == "map":
        return regions.map_colours(picture.colour_scale.quantity)
    if picture.colours == "errors":
        known = {
            code: rgba for code, rgba in errors.colour_table().items() if code != errors.Code.TRUE_POSITIVE
        }
    else:
        palette = ClassColours.of_values(picture.values)
        known = {value: colours.rgba(c) for value, c in palette.values(picture.values).items()}
    table = np.zeros((256, 4), np.float32)
    for value, rgba in known.items():
        table[value] = rgba
    return table


# ---- a case through time


@dataclass(frozen=True, eq=False)
class Film:
    """The recorded predictions of a case in axial slices, for scrubbing where there is no segexplorer.

    Attributes
    ----------
    class_names
        Foreground classes.
    slices, count
        Numbers of the slices, from 0, ascending, of how many.
    steps
        Optimiser steps of the frames.
    image
        (n, h, w) uint8 grey values, the first row at the top; None where the image is not here.
    truth
        (n, h, w) uint8 label indices, 255 ignored; None without a label.
    predictions
        A frame each: (n, h, w) uint8 label indices.
    pixel_mm
        Height and width of a pixel.
    letters
        At the edges of every slice.
    scheme
        What the label indices mean.
    """

    class_names: tuple[str, ...]
    slices: tuple[int, ...]
    count: int
    steps: tuple[int, ...]
    image: NDArray[np.uint8] | None
    truth: NDArray[np.uint8] | None
    predictions: tuple[NDArray[np.uint8], ...]
    pixel_mm: tuple[float, float]
    letters: EdgeLetters
    scheme: LabelScheme = EXCLUSIVE


def spread(first: int, last: int, most: int) -> tuple[int, ...]:
    """Return at most so many whole numbers from first to last, both of them, evenly."""
    count = min(most, last - first + 1)
    return tuple(int(i) for i in np.unique(np.linspace(first, last, max(1, count)).round()))


def film(
    steps: Sequence[int],
    predictions: Sequence[NDArray[np.uint8]],
    truth: NDArray[np.uint8] | None,
    image: Picture | None,
    class_names: Sequence[str],
    scale: Sequence[float],
    scheme: LabelScheme = EXCLUSIVE,
    *,
    most_slices: int,
    most_pixels: int = 512,
) -> Film:
    """Cut a case's predictions, (z, y, x) on its display grid, into the slices in which there is anything.

    Parameters
    ----------
    scale
        mm per voxel, (z, y, x).
    scheme
        What the label indices mean.
    most_slices
        So many slices at most, evenly spread.
    most_pixels
        Of larger slices every second voxel is taken, or every third ...
    """
    there = np.zeros(predictions[0].shape[0], bool)
    for volume in (*predictions, *([] if truth is None else [np.where(truth == errors.IGNORED, 0, truth)])):
        there |= (volume != 0).any(axis=(1, 2))
    filled = np.flatnonzero(there)
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, len(there) - 1)
    slices = spread(max(0, first - 1), min(len(there) - 1, last + 1), most_slices)
    stride = -(-max(predictions[0].shape[1:]) // most_pixels)

    def cut(volume: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(volume[list(slices), ::-stride, ::-stride])

    fits = image is not None and image.data.shape == predictions[0].shape
    return Film(
        tuple(class_names),
        slices,
        len(there),
        tuple(steps),
        None if not fits or image is None else grey(cut(image.data), image.contrast_limits or (0.0, 1.0)),
        None if truth is None else cut(truth),
        tuple(cut(p) for p in predictions),
        (scale[1] * stride, scale[2] * stride),
        edge_letters((0, 1, 2), RADIOLOGICAL),
        scheme,
    )
