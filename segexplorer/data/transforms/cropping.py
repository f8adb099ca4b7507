"""Cropping to what there is to see: decided for each case from its image alone, undone by `restore`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from scipy import ndimage

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data import geometry
from segexplorer.data.case import Case, ClassMap
from segexplorer.data.checks import Problem
from segexplorer.data.geometry import Grid
from segexplorer.data.volume import Volume

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First voxel and the one after the last, along x, y, z of the closest-canonical RAS order."""

_COARSE_MM = 4.0
"""Sampling at which a body is looked for: it is large, and a 512 x 512 x 500 CT then takes a second."""
_THIN_MM = 6.0
"""What is thinner than twice this (the shell of a table, sheets, tubes) is taken off the body."""
_SHARE = 0.2
"""Of the largest part that another has to have to be kept: the second leg is, an arm or a headrest is not."""


class Cropping(Spec):
    """Which part of an image is kept. A name alone is enough: `crop: body`."""

    display_name = "Cropping"

    to: Literal["none", "nonzero", "body"] = parameter(
        "none",
        title="Crop to",
        description="None: the whole image. Nonzero: the box around what is not 0 in any of the images (as in "
        "skull-stripped MR). Body: the box around the patient in the first image, CT in HU, without table and air. "
        "Statistics over training images are taken before, those of each image after cropping.",
    )
    margin: float = parameter(
        5.0,
        title="Margin",
        description="Kept around the box, within the image.",
        unit="mm",
        ge=0,
        le=500,
    )
    above: float = parameter(
        -300.0,
        title="Body above",
        description="Smallest value that counts as the patient, for the body. Air is -1000, fat -100.",
        unit="HU",
        advanced=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"to": value} if isinstance(value, str) else value

    def box(self, case: Case) -> Box:
        """Return the part of a case that is kept; the whole where nothing is found (all air, all zero)."""
        grid = geometry.canonical_grid(case.images[0].shape, case.images[0].affine)
        if self.to == "none":
            return whole(grid.shape)
        if self.to == "nonzero":
            found = [_box_around(_canonical(image) != 0) for image in case.images]
        else:
            spacing = geometry.spacing(grid.affine)
            found = [_body(_canonical(case.images[0]), spacing, self.above)]
        boxes = [box for box in found if box is not None]
        return _widened(boxes, grid, self.margin) if boxes else whole(grid.shape)


def whole(shape: Sequence[int]) -> Box:
    """Return the box that cuts nothing off."""
    x, y, z = shape
    return (0, x), (0, y), (0, z)


def slices(box: Box) -> tuple[slice, slice, slice]:
    """Return a box as an index."""
    x, y, z = (slice(first, end) for first, end in box)
    return x, y, z


def part(grid: Grid, box: Box) -> Grid:
    """Return the grid of a box of a grid."""
    affine = np.array(grid.affine, np.float64)
    first = np.array([begin for begin, _ in box], float)
    affine[:3, 3] += affine[:3, :3] @ first
    return Grid(tuple(end - begin for begin, end in box), affine)


def cropped(case: Case, box: Box) -> Case:
    """Return a case cut to a box, in closest-canonical order; the case itself where nothing is cut off."""
    first = case.images[0]
    if box == whole(geometry.canonical_grid(first.shape, first.affine).shape):
        return case
    images = tuple(_cut(image, box) for image in case.images)
    return dataclasses.replace(
        case, images=images, label=None if case.label is None else _cut(case.label, box)
    )


def cut_off(case: Case, crop: Cropping, classes: ClassMap) -> Problem | None:
    """Return a warning when a label sticks out of the box that its image is cropped to, or None.

    Nothing is hidden by cropping: whole-volume scores count what was cut off as missed.
    """
    if case.label is None or crop.to == "none":
        return None
    return outside(case, crop.box(case), classes)


def outside(case: Case, box: Box, classes: ClassMap) -> Problem | None:
    """Return a warning when a label sticks out of a box, with the volume of each class that does, or None."""
    assert case.label is not None
    indices = classes.encode(_canonical(case.label))
    beyond = np.ones(indices.shape, bool)
    beyond[slices(box)] = False
    found = np.bincount(indices[beyond], minlength=256)
    counts = classes.scheme.class_counts(found, len(classes.names))
    lost = [
        f"{count * case.label.voxel_ml:.3g} ml of {name}"
        for name, count in zip(classes.names, counts[1:], strict=False)
        if count
    ]
    if not lost:
        return None
    return Problem(
        "warning",
        "cut_off",
        f"Cropping cuts off {' and '.join(lost)}, which training then does not see and scores count as missed.",
        "Raise preprocessing.crop.margin, or set preprocessing.crop: none.",
        case.id,
    )


def _canonical(volume: Volume) -> NDArray[Any]:
    return geometry.canonical(np.asarray(volume.array), volume.affine)[0]


def _cut(volume: Volume, box: Box) -> Volume:
    grid = part(geometry.canonical_grid(volume.shape, volume.affine), box)
    piece = _canonical(volume)[slices(box)]
    return Volume(grid.shape, grid.affine, array=piece, modality=volume.modality)


def _box_around(mask: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box around what is marked, or None where nothing is."""
    found = []
    for axis in range(3):
        marked = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(marked):
            return None
        found.append((int(marked[0]), int(marked[-1]) + 1))
    return found[0], found[1], found[2]


def _body(image: NDArray[Any], spacing: Sequence[float], above: float) -> Box | None:
    """Return the box around the patient in a CT (x, y, z), or None where none is found.

    Voxels above the threshold, worn down so that the table comes loose, and let grow back a little further, since a
    chin is as thin at its tip; of that the large parts. The edge of the image counts as body, so that a patient who
    is cut by it is not worn down there.
    """
    steps = [max(1, int(_COARSE_MM / mm)) for mm in spacing]
    coarse = [step * mm for step, mm in zip(steps, spacing, strict=True)]
    tissue = np.asarray(image[tuple(slice(None, None, step) for step in steps)] > above)
    core = _distance(tissue, coarse) > _THIN_MM
    body = tissue & (_distance(~core, coarse) <= 2 * _THIN_MM) if core.any() else tissue
    parts, count = ndimage.label(body)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.flatnonzero(sizes >= _SHARE * sizes.max()) + 1
    box = _box_around(np.isin(parts, kept))
    assert box is not None
    # a sample represents all voxels up to its neighbours
    x, y, z = (
        (max(0, (first - 1) * step + 1), min(n, end * step))
        for (first, end), step, n in zip(box, steps, image.shape, strict=True)
    )
    return x, y, z


def _distance(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the distance of every marked voxel to the closest that is not, mm; infinite where all are marked."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing))


def _widened(boxes: Sequence[Box], grid: Grid, margin: float) -> Box:
    """Return the box around boxes and a margin (mm), within the grid."""
    found = []
    for axis, (n, mm) in enumerate(zip(grid.shape, geometry.spacing(grid.affine), strict=True)):
        more = int(np.ceil(margin / mm - 1e-6))
        first = min(box[axis][0] for box in boxes) - more
        end = max(box[axis][1] for box in boxes) + more
        found.append((max(0, first), min(n, end)))
    return found[0], found[1], found[2]
