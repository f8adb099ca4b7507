"""The text headers of NRRD and MetaImage: what both have in common (first bytes, units, world, voxels behind them).

SimpleITK does not read these headers, because files come from other people. SimpleITK 2.5.7 writes beyond its
buffers at a field of some hundred characters or at a wrong number of axes and crashes the process, and it returns
damaged voxels of a packed MetaImage without an error. The counts are in docs/reference/formats.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, shorten
from segexplorer.data import geometry
from segexplorer.data.geometry import Affine

MAX_HEADER = 4 * 2**20
"""Bytes; segmentations of many structures have headers of 100 kB."""
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


@dataclass(frozen=True)
class TextHeader:
    """The header of one file.

    Attributes
    ----------
    name
        Of the file, for sentences.
    fields
        Name of a field or tag -> text, as written.
    end
        Bytes up to the voxels that follow the header in its own file.
    pairs
        Key -> value of the key/value pairs of NRRD.
    """

    name: str
    fields: dict[str, str]
    end: int
    pairs: dict[str, str] = field(default_factory=dict)

    def words(self, field: str) -> list[str]:
        """Return the words of a field, quoted ones whole; none where it is absent."""
        return [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', self.fields.get(field, ""))]

    def quote(self, field: str) -> str:
        """Return the text of a field for a sentence, cut where it is long; "unknown" where it is absent."""
        return shorten(self.fields.get(field) or "unknown")

    def refusal(self, what: str, remedy: str = "Export it again.") -> DataError:
        """Return the error that says what is wrong with the header."""
        return DataError(f"The header of {self.name} {what}.", remedy)


def read_start(path: Path) -> bytes:
    """Return the first bytes of a file, all that a header may take.

    Raises
    ------
    DataError
        When the file cannot be read or is empty.
    """
    try:
        with path.open("rb") as file:
            start = file.read(MAX_HEADER)
    except OSError as error:
        raise DataError(
            f"{path.name} cannot be read ({error.strerror}).", "Check the path and its permissions."
        ) from error
    if not start:
        raise DataError(f"{path.name} is empty.", "Copy or download it again.")
    return start


def affine_from(
    columns: Sequence[NDArray[np.float64]],
    origin: NDArray[np.float64],
    signs: NDArray[np.float64],
    name: str,
) -> Affine:
    """Return voxel index -> RAS mm.

    Parameters
    ----------
    columns
        A step (3,) along each of two or three index axes, in the header's own world, mm. A slice gets a third step
        of 1 mm across.
    origin
        (3,): the centre of the first voxel there.
    signs
        (3,): +1 or -1 per axis of that world, to RAS.

    Raises
    ------
    DataError
        When different voxels would be at one place.
    """
    steps = list(columns)
    if len(steps) == 2:
        across = np.cross(steps[0], steps[1])
        length = np.linalg.norm(across)
        steps.append(across / length if length > 0 else across)
    affine = np.eye(4)
    # adding 0 turns -0 into 0
    affine[:3, :3] = np.stack(steps, axis=1) * signs[:, np.newaxis] + 0.0
    affine[:3, 3] = origin * signs + 0.0
    if geometry.is_singular(affine):
        raise DataError(
            f"{name} has no usable geometry: its axes put different voxels at one place.",
            "Correct its header, or export it again.",
        )
    return affine


def unit_in_mm(unit: str, name: str) -> tuple[float, list[str]]:
    """Return how many mm a unit is, "" being mm, and the note that positions were converted.

    Raises
    ------
    DataError
        When the unit is unknown.
    """
    if not unit:
        return 1.0, []
    if unit.lower() not in MILLIMETRES:
        raise DataError(
            f"{name} gives its positions in {shorten(unit)!r}, which is no known unit of length.",
            "Correct its header, e.g. to mm.",
        )
    factor = MILLIMETRES[unit.lower()]
    return factor, [] if factor == 1 else [f"Positions are stored in {unit} and were converted to mm."]


def write_voxels(file: Any, array: NDArray[Any]) -> None:
    """Write voxels little-endian, the first index fastest, slice by slice."""
    stored = array.dtype.newbyteorder("<")
    for k in range(array.shape[-1]):
        file.write(np.ascontiguousarray(array[..., k].T, dtype=stored).data)
