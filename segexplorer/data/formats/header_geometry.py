"""From what a text header says of its axes to an affine in RAS mm, and back; shared by NRRD and MetaImage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.geometry import Affine

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
MILLIMETRES = {
    "mm": 1.0,
    "millimeter": 1.0,
    "millimeters": 1.0,
    "um": 1e-3,
    "µm": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "cm": 10.0,
    "m": 1000.0,
    "meter": 1000.0,
}


def affine_from(
    columns: NDArray[np.float64], origin: NDArray[np.float64], signs: NDArray[np.float64], name: str
) -> Affine:
    """Return voxel index -> RAS mm.

    Parameters
    ----------
    columns
        (3, 3): a step along each index axis, in the header's own world, mm.
    origin
        (3,): the centre of the first voxel there.
    signs
        (3,): +1 or -1 per axis of that world, to RAS.

    Raises
    ------
    DataError
        When different voxels would lie at one place.
    """
    affine = np.eye(4)
    # adding 0 turns -0 into 0
    affine[:3, :3] = columns * signs[:, np.newaxis] + 0.0
    affine[:3, 3] = origin * signs + 0.0
    if geometry.is_singular(affine):
        raise DataError(
            f"{name} has no usable geometry: its axes put different voxels at one place.",
            "Correct its header, or export it again.",
        )
    return affine


def fill_third(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return three steps (3, 3) for one or more: a slice gets a step of 1 mm across."""
    steps = list(columns)
    if len(steps) == 2:
        across = np.cross(steps[0], steps[1])
        length = np.linalg.norm(across)
        steps.append(across / length if length > 0 else across)
    return np.stack(steps, axis=1)


def unit_in_mm(unit: str, name: str) -> float:
    """Return how many mm a unit is.

    Raises
    ------
    DataError
        When nobody knows it.
    """
    if not unit:
        return 1.0
    if unit.lower() not in MILLIMETRES:
        raise DataError(
            f"{name} gives its positions in {unit!r}, which is no known unit of length.",
            "Correct its header, e.g. to mm.",
        )
    return MILLIMETRES[unit.lower()]


def unit_notes(factor: float, unit: str) -> tuple[str, ...]:
    """Return what is told of positions that were not in mm."""
    return () if factor == 1 else (f"Positions are stored in {unit} and were converted to mm.",)
