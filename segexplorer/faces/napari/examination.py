"""What a pair of image and label looks like, for the Cases tab: pure functions that a worker calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.data.geometry import compare
from segexplorer.data.volume import Volume
from segexplorer.faces.napari.pictures import whole

MOST_VALUES = 1000
"""A label map with more different values is taken for an image chosen by mistake."""


@dataclass(frozen=True)
class Examination:
    """One pair, looked at.

    Attributes
    ----------
    severity
        "error" keeps the pair from training.
    verdict
        A short sentence on the geometry, or what is wrong.
    remedy
        What to do, where something is wrong.
    volumes_ml
        Label value (0 left out) -> volume in ml.
    total_ml
        Volume of the whole picture in ml, for imbalance.
    """

    severity: Literal["ok", "note", "error"]
    verdict: str
    remedy: str = ""
    volumes_ml: Mapping[int, float] | None = None
    total_ml: float = 0.0

    @property
    def values(self) -> tuple[int, ...]:
        """Label values that occur, 0 left out."""
        return tuple(self.volumes_ml or ())


def examine(image: Volume, label: Volume) -> Examination:
    """Compare the grids of a pair and measure its labels; whatever is wrong with them becomes the verdict."""
    try:
        values, counts = np.unique(whole(label).array, return_counts=True)
    except DataError as error:
        return Examination("error", error.message, error.remedy)
    if len(values) > MOST_VALUES:
        return Examination(
            "error", f"The label has {len(values)} different values.", "Is it an image, chosen by mistake?"
        )
    voxel_ml = abs(float(np.linalg.det(label.affine[:3, :3]))) / 1000
    volumes = {int(v): float(n) * voxel_ml for v, n in zip(values, counts, strict=True) if v != 0}
    total = float(counts.sum()) * voxel_ml
    grid = compare(image, label)
    if not grid.same:
        return Examination(
            "error", grid.text, "Choose both above and bring the label onto the image's grid.", volumes, total
        )
    if not volumes:
        return Examination(
            "error", "The label is empty: every voxel is 0.", "Choose another label.", {}, total
        )
    notes = tuple(dict.fromkeys((*image.provenance.notes, *label.provenance.notes)))
    if notes:  # what reading assumed: forms that disagree, units converted, a tilted grid
        return Examination("note", f"same grid; {' '.join(notes)}", "", volumes, total)
    return Examination("ok", "same grid", "", volumes, total)


def offered_classes(volumes: Mapping[int, float], names: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """Return the classes that a label offers at first: one per value, under its name where it has one.

    One value alone, such as the 255 of a mask stored as {0, 255}, is offered as one class "structure".
    """
    if len(volumes) == 1:
        (value,) = volumes
        return {names.get(value, "structure"): (value,)}
    offered: dict[str, tuple[int, ...]] = {}
    for value in sorted(volumes):
        name = names.get(value, f"label {value}")
        offered[name] = (*offered.get(name, ()), value)
    return offered


def class_volume(volumes: Mapping[int, float], values: tuple[int, ...]) -> float:
    """Return the volume of a class in ml."""
    return sum(volumes.get(value, 0.0) for value in values)
