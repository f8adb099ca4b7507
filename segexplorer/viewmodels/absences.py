"""Overlays that are on but draw nothing in the slice that is looked at, and the nearest slice in which they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from segexplorer.data.geometry import DisplayGrid, Grid
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.layer_images import Picture

_WHAT = {
    "errors": "error",
    "prediction": "prediction",
    "balance": "box",
    "alpha": "box",
    "beta": "box",
    "patch": "box of the last patch",
}
"""Overlay -> what of it is missing."""


@dataclass(frozen=True)
class Absence:
    """One overlay that draws nothing here.

    Attributes
    ----------
    overlay
        Its key.
    text
        What is not there, and the number of the nearest slice where it is.
    axis, world
        Where that slice is: across which axis (0 = z, 1 = y, 2 = x), at how many mm; None where there is none.
    """

    overlay: str
    text: str
    axis: int
    world: float | None = None


def absences(
    snapshot: WatchedSnapshot, pictures: Iterable[Picture], class_name: str, axis: int, world: float
) -> tuple[Absence, ...]:
    """Return which of the pictures draw nothing in a slice.

    Parameters
    ----------
    snapshot
        The case, whose slices are numbered.
    class_name
        What the pictures are of.
    axis, world
        Across which axis the slice is, and where, in mm.
    """
    found = []
    for picture in pictures:
        there = np.flatnonzero(picture.filled[axis]) if picture.filled else np.arange(0)
        place = (world - picture.translate[axis]) / picture.scale[axis]
        if there.size and round(place) in there:
            continue
        what = _WHAT.get(picture.key, picture.key)
        of = "" if class_name == "all classes" else f"{class_name} "
        if not there.size:
            found.append(Absence(picture.key, f"No {of}{what} in this case.", axis))
            continue
        nearest = int(there[np.abs(there - place).argmin()])
        there_mm = picture.translate[axis] + nearest * picture.scale[axis]
        grid = DisplayGrid.of(Grid(snapshot.prediction.shape, snapshot.affine))
        number = round((there_mm - float(grid.translate[axis])) / float(grid.scale[axis]))
        found.append(Absence(picture.key, f"No {of}{what} in this slice; nearest: {number}", axis, there_mm))
    return tuple(found)
