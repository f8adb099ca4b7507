"""Where volumes are in the world: a report for people, and bringing a label or image onto another image's grid.

`describe` gives the facts and sentences that the window and `segexplorer check` show. `aligned` reorders the
axes of a label or further channel, or resamples it where that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.geometry import Affine, Grid, GridComparison, HasGrid, Placement
from segexplorer.data.volume import Volume

_PLAUSIBLE_MM = 1e-4, 200.0
_OBLIQUE_DEGREES = 0.5


@dataclass(frozen=True)
class GeometryReport:
    """Where a volume is in the world, and how certain that is.

    Attributes
    ----------
    shape, spacing, orientation
        Voxels, mm and closest anatomical direction along each index axis.
    oblique_degrees
        Largest angle between an index axis and the closest axis of the patient.
    sheared
        Whether the index axes are not at right angles (gantry tilt).
    left_handed
        Whether the index axes form a left-handed system, as in LAS.
    extent_mm
        Length of the field of view along each index axis.
    centre
        World position of its middle, RAS mm.
    assumed
        What the reader assumed or noticed, and what is odd, as sentences; empty where all is plain. A tilt is
        in `text` and `facts` only.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    orientation: str
    oblique_degrees: float
    sheared: bool
    left_handed: bool
    extent_mm: tuple[float, float, float]
    centre: tuple[float, float, float]
    assumed: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict as one line, e.g. "RAS, 3 × 3 × 3 mm, oblique by 19 degrees (shown along ...)"."""
        return ", ".join(
            part for part in (self.orientation, f"{_times(self.spacing)} mm", self._tilt()) if part
        )

    def facts(self) -> dict[str, str]:
        """Return label -> text, for a table."""
        table = {
            "Size": f"{_times(self.shape)} voxels, {_times(self.extent_mm)} mm",
            "Spacing": f"{_times(self.spacing)} mm",
            "Orientation": self.orientation + (" (left-handed)" if self.left_handed else ""),
            "Tilt": self._tilt() or "along the axes of the patient",
            "Centre": f"{', '.join(f'{c:.1f}' for c in self.centre)} mm (right, front, head)",
        }
        for number, note in enumerate(self.assumed, start=1):
            table["Assumed" if len(self.assumed) == 1 else f"Assumed {number}"] = note
        return table

    def _tilt(self) -> str:
        if self.sheared:
            return (
                f"sheared by {self.oblique_degrees:.1f} degrees (gantry tilt: positions exact, shown upright)"
            )
        if self.oblique_degrees > _OBLIQUE_DEGREES:
            return f"oblique by {self.oblique_degrees:.0f} degrees (shown along the closest axes)"
        return ""


def describe(volume: Volume) -> GeometryReport:
    """Return the geometry verdict of a volume; reads no voxels."""
    affine, shape = volume.affine, volume.shape
    size = geometry.spacing(affine)
    middle = (np.asarray(shape[:3]) - 1) / 2
    centre = affine[:3, :3] @ middle + affine[:3, 3]
    tilt, notes = _tilt_notes(affine), (*volume.provenance.notes, *_size_notes(affine))
    return GeometryReport(
        shape=shape,
        spacing=size,
        orientation=geometry.orientation(affine),
        oblique_degrees=geometry.obliqueness(affine),
        sheared=geometry.is_sheared(affine),
        left_handed=bool(np.linalg.det(affine[:3, :3]) < 0),
        extent_mm=(shape[0] * size[0], shape[1] * size[1], shape[2] * size[2]),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        assumed=tuple(note for note in dict.fromkeys(notes) if note not in tilt),
    )


def compare_grids(image: HasGrid, label: HasGrid) -> tuple[GridComparison, str]:
    """Compare the grid of a label with that of its image; where they differ, say what can be done about it.

    `aligned` brings it there.
    """
    verdict = geometry.compare(image, label)
    if fits(image, label, label=True):
        return verdict, ""
    if not touch(image, label):
        return verdict, APART
    return verdict, (
        f"The label covers {share_text(image, label)} of the image; it can be resampled onto the image's grid by "
        "world position (nearest voxel)."
    )


APART = "They do not touch anywhere: one of them belongs to something else."


def touch(a: HasGrid, b: HasGrid) -> bool:
    """Whether two grids have a place in common, however small the one is beside the other.

    Each is a parallelepiped of voxels, so that a common place is a solution of linear inequalities.
    """
    from scipy.optimize import linprog  # a second to import, and needed here alone

    sides, ends = [], []
    for grid in (a, b):
        back = np.linalg.inv(np.asarray(grid.affine, float))
        size = np.asarray(grid.shape[:3], float)
        # -1/2 <= index <= size - 1/2, the index being an affine function of the place
        sides += [back[:3, :3], -back[:3, :3]]
        ends += [size - 0.5 - back[:3, 3], 0.5 + back[:3, 3]]
    found = linprog(np.zeros(3), A_ub=np.vstack(sides), b_ub=np.concatenate(ends), bounds=(None, None))
    return bool(found.status == 0)


def share_text(image: HasGrid, other: HasGrid) -> str:
    """Return how much of an image's field of view the other grid covers, as a text: "50 %"."""
    share = 100 * overlap_fraction(image, other)
    return f"{share:.0f} %" if share >= 1 else "less than 1 %"


def overlap_fraction(image: HasGrid, other: HasGrid, samples: int = 24) -> float:
    """Return the fraction of the image's field of view inside the other grid.

    Measured at up to `samples` positions along each axis of the image, including the borders of the other grid.
    """
    axes = [np.linspace(0, n - 1, min(n, samples)) for n in image.shape[:3]]
    index = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    world = image.affine[:3, :3] @ index + image.affine[:3, 3:]
    back = np.linalg.inv(other.affine)
    there = back[:3, :3] @ world + back[:3, 3:]
    size = np.asarray(other.shape[:3])[:, np.newaxis]
    inside = ((there > -0.5 - 1e-6) & (there < size - 0.5 + 1e-6)).all(axis=0)
    return float(inside.mean())


def grid_notes(affine: Affine) -> tuple[str, ...]:
    """Return what is odd in an affine, as sentences: the voxel size, a shear, an oblique grid."""
    return (*_size_notes(affine), *_tilt_notes(affine))


def _size_notes(affine: Affine) -> tuple[str, ...]:
    size = geometry.spacing(affine)
    if min(size) < _PLAUSIBLE_MM[0] or max(size) > _PLAUSIBLE_MM[1]:
        return (f"Voxels of {_times(size)} mm are implausible; check its units.",)
    return ()


def _tilt_notes(affine: Affine) -> tuple[str, ...]:
    angle = geometry.obliqueness(affine)
    if geometry.is_sheared(affine):
        text = f"The axes are not at right angles (gantry tilt or shear, {angle:.0f} degrees off); "
        return (f"{text}positions are exact, the picture is shown upright.",)
    if angle > _OBLIQUE_DEGREES:
        return (f"The axes are {angle:.0f} degrees oblique; the picture is shown along the closest axes.",)
    return ()


def _times(numbers: Any) -> str:
    return " × ".join(f"{n:.4g}" for n in numbers)


def same_places(a: HasGrid, b: HasGrid) -> bool:
    """Whether two grids hold the same places, perhaps with the index axes in another order or direction."""
    return geometry.compare(a, b).kind in ("same", "reordered")


def fits(like: HasGrid, volume: HasGrid, *, label: bool) -> bool:
    """Whether a volume comes onto the grid of another without loss: the same voxels in any order, or a part.

    A label may be cropped or padded by whole voxels, for there is background beyond it; an image must cover the
    other. Both must say where they are, or their first voxels need not be at one place.
    """
    verdict = geometry.compare(like, volume)
    if verdict.placement is None:
        return False
    if verdict.kind != "lattice":
        return True
    return (label or verdict.placement.covers(like.shape)) and _has_place(like) and _has_place(volume)


def _has_place(grid: HasGrid) -> bool:
    """Whether a volume says where it is: its reader assumed nothing, and its affine was set by somebody."""
    facts = grid.provenance.header if isinstance(grid, Volume) else {}
    # the identity, in the axes of either convention, is what programs write that know of no place
    return bool(facts.get("place", True)) and not np.array_equal(np.abs(grid.affine), np.eye(4))


def aligned(
    volume: Volume, like: HasGrid, *, label: bool, resample: bool = False, whose: str = "the first image's"
) -> Volume:
    """Return a volume on the grid of another; its voxels are still read when they are needed.

    What loses nothing is done without being asked for: the same places in another order of axes (a DICOM image
    and a NIfTI label of it, often) are put in order, and a label on the same lattice that was cropped or padded
    by whole voxels (3D Slicer writes such labels) is placed; so is an image that covers the other. Any other grid
    is resampled by world position only if `resample` says so (labels: nearest voxel, images: linear); else the
    volume comes back as it is. What was done is a note, which calls the other grid by `whose`.
    """
    verdict = geometry.compare(like, volume)
    if verdict.same:
        return volume
    what, place = "label" if label else "image", verdict.placement
    if verdict.kind == "reordered":
        axes = f"from {volume.orientation} to {geometry.orientation(like.affine)}"
        note = f"The axes of the {what} were put in {whose} order, {axes}."
    elif place is not None and fits(like, volume, label=label):
        sizes = f"{geometry.shape_text(volume.shape)} on {geometry.shape_text(like.shape)} voxels"
        beyond = (
            ""
            if place.inside(like.shape) or not label
            else "; what it marks outside of the image is left out"
        )
        note = f"The {what} was placed on {whose} grid without resampling, {sizes}{beyond}."
    elif resample:
        how = "nearest voxel" if label else "linear"
        note = f"The {what} was resampled onto {whose} grid ({how}); before: {verdict.text}."
        place = None
    else:
        return volume
    voxels: Any = (
        _Resampled(volume, Grid(like.shape, like.affine), 0 if label else 1)
        if place is None
        else _Placed(volume, place, like.shape)
    )
    origin = replace(volume.provenance, notes=(*volume.provenance.notes, note))
    known = volume.modality if volume.loaded and not label else None
    return Volume(like.shape[:3], like.affine, load=voxels, modality=known, provenance=origin)


def on_one_grid(prediction: Volume, truth: Volume, *, resample: bool = False) -> tuple[Volume, Volume]:
    """Return two labels on one grid, for scores and error maps; no voxel of either is left out.

    The grid is that of the truth, made larger by whole voxels where the prediction reaches beyond it.

    Parameters
    ----------
    resample
        Whether a prediction on another lattice is resampled onto the truth's grid (nearest voxel).

    Raises
    ------
    DataError
        When they are on different lattices and resampling was not asked for, or do not touch.
    """
    verdict = geometry.compare(truth, prediction)
    place = verdict.placement
    if place is not None and fits(truth, prediction, label=True):
        low = np.minimum(place.start, 0)
        high = np.maximum(np.add(place.start, place.shape), truth.shape)
        affine = np.array(truth.affine, float)
        affine[:3, 3] += affine[:3, :3] @ low
        like = Grid(tuple((high - low).tolist()), affine)
        return (
            aligned(prediction, like, label=True, whose="the truth's"),
            aligned(truth, like, label=True, whose="a larger"),
        )
    if not touch(truth, prediction):
        raise DataError("The prediction and the truth are at different places in the world.", APART)
    if not resample:
        raise DataError(
            f"The prediction and the truth have different grids: {verdict.text}.",
            "Add --resample, or bring one onto the other's grid: "
            "segexplorer regrid PREDICTION --like TRUTH -o OUT.",
        )
    return aligned(prediction, truth, label=True, resample=True, whose="the truth's"), truth


@dataclass(frozen=True)
class _Placed:
    """Turns, crops and pads by whole voxels when the voxels are asked for."""

    volume: Volume
    placement: Placement
    shape: tuple[int, ...]

    def __call__(self) -> NDArray[Any]:
        return self.placement.put(np.asarray(self.volume.array), self.shape)


@dataclass(frozen=True)
class _Resampled:
    """Resamples when the voxels are asked for."""

    volume: Volume
    grid: Grid
    order: int

    def __call__(self) -> NDArray[Any]:
        return self.volume.resampled(self.grid, order=self.order).array
