"""Where volumes are in the world: a report for people, and bringing a label or image onto another image's grid.

`describe` gives the facts and sentences that the window and `segexplorer check` show. `aligned` reorders the
axes of a label or further channel, or resamples it where that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.data import geometry
from segexplorer.data.geometry import Affine, Grid, GridComparison, HasGrid
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

    `label.resampled(image, order=0)` brings it there by world position.
    """
    verdict = geometry.compare(image, label)
    if verdict.same:
        return verdict, ""
    overlap = overlap_fraction(image, label)
    if overlap == 0:
        return verdict, "They do not touch anywhere: one of them belongs to something else."
    return verdict, (
        f"The label covers {100 * overlap:.0f} % of the image; it can be resampled onto the image's grid by world "
        "position (nearest voxel)."
    )


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
    first = geometry.canonical_grid(a.shape[:3], a.affine)
    second = geometry.canonical_grid(b.shape[:3], b.affine)
    return geometry.compare(first, second).same


def aligned(volume: Volume, like: Volume, *, label: bool, resample: bool = False) -> Volume:
    """Return a volume on the grid of another; its voxels are still read when they are needed.

    The same places in another order of axes (a DICOM image and a NIfTI label of it, often) are put in order, which
    loses nothing. Any other grid is resampled by world position only if `resample` says so (labels: nearest voxel,
    images: linear); else the volume comes back as it is. What was done is a note.
    """
    if geometry.compare(like, volume).same:
        return volume
    if same_places(like, volume):
        axes = f"from {volume.orientation} to {like.orientation}"
        note = f"The axes of the {'label' if label else 'image'} were put in the order of the first image, {axes}."
        voxels: Any = _Reordered(volume, like.affine)
    elif resample:
        what, how = ("label", "nearest voxel") if label else ("image", "linear")
        difference = geometry.compare(like, volume).text
        note = f"The {what} was resampled onto the first image's grid ({how}); before: {difference}."
        voxels = _Resampled(volume, Grid(like.shape, like.affine), 0 if label else 1)
    else:
        return volume
    origin = replace(volume.provenance, notes=(*volume.provenance.notes, note))
    known = volume.modality if volume.loaded and not label else None
    return Volume(like.shape, like.affine, load=voxels, modality=known, provenance=origin)


@dataclass(frozen=True)
class _Reordered:
    """Turns and swaps axes when the voxels are asked for."""

    volume: Volume
    affine: Affine

    def __call__(self) -> NDArray[Any]:
        turned, _ = geometry.canonical(self.volume.array, self.volume.affine)
        return np.asarray(geometry.from_canonical(turned, self.affine))


@dataclass(frozen=True)
class _Resampled:
    """Resamples when the voxels are asked for."""

    volume: Volume
    grid: Grid
    order: int

    def __call__(self) -> NDArray[Any]:
        return self.volume.resampled(self.grid, order=self.order).array
