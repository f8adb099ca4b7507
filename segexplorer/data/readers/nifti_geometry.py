"""Where a NIfTI header puts its voxels, told with what was assumed, and the same written back to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.geometry import Affine, Grid
from segexplorer.data.verdict import grid_notes

TO_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_NAMES = {"meter": "metres", "micron": "micrometres"}
_FIELDS = (
    "sform_code",
    "qform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)


def world_affine(image: Any, shape: tuple[int, int, int], name: str) -> tuple[Affine, tuple[str, ...]]:
    """Return voxel index -> RAS mm of a nibabel image, and the notes of how it was found.

    The sform comes first, then the qform, as in nibabel; with neither, nibabel's centred LAS grid is assumed.

    Raises
    ------
    DataError
        When the form that counts is singular or not finite.
    """
    header = image.header
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform > 0 and geometry.is_singular(header.get_sform()):
        raise DataError(
            f"The sform of {name} is singular: it puts different voxels at one place.",
            "Correct its header, e.g. copy the geometry from the original image.",
        )
    affine = np.array(image.affine, dtype=np.float64)
    notes = _form_notes(header, shape, sform, qform)
    unit = _unit(header)
    if unit in _NAMES:
        affine[:3] *= TO_MM[unit]
        notes.append(f"Positions are stored in {_NAMES[unit]} and were converted to mm.")
    if geometry.is_singular(affine):
        remedy = "Export it again."
        raise DataError(f"{name} has no usable geometry (a zero or non-finite voxel size).", remedy)
    return affine, (*notes, *grid_notes(affine))


def _form_notes(header: Any, shape: tuple[int, int, int], sform: int, qform: int) -> list[str]:
    if sform <= 0 and qform <= 0:
        return [
            "The file does not say where it lies; left-anterior-superior axes (LAS) were assumed, centred."
        ]
    if sform <= 0 or qform <= 0:
        return []
    apart = _forms_apart(header, shape)
    if apart <= geometry.TOLERANCE_MM:
        return []
    how_far = f"by up to {apart:.3g} mm" if math.isfinite(apart) else "(the qform is broken)"
    return [f"sform and qform disagree {how_far}; the sform was used."]


def _forms_apart(header: Any, shape: tuple[int, int, int]) -> float:
    try:
        qform = header.get_qform()
    except (HeaderDataError, ValueError):
        return math.inf
    if geometry.is_singular(qform):
        return math.inf
    return geometry.compare(Grid(shape, header.get_sform()), Grid(shape, qform)).distance_mm


def _unit(header: Any) -> str:
    """Return the unit of length by nibabel's name; "unknown" also for a code that the standard has not."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def geometry_facts(header: Any) -> dict[str, Any]:
    """Return the geometry of a header as plain values: forms, codes, voxel size, unit. No text fields."""
    facts: dict[str, Any] = {name: header[name].tolist() for name in _FIELDS}
    facts["pixdim"] = header["pixdim"][:4].tolist()
    facts["units"] = _unit(header)
    return facts


def write_geometry(
    header: Any, shape: tuple[int, ...], affine: NDArray[np.float64], facts: Mapping[str, Any]
) -> None:
    """Put shape and geometry into a new header: the facts of the file where they give this affine, else both forms.

    So a prediction lies on its image in every program, also where those disagree about which form counts.
    """
    header.set_data_shape(shape)
    if "pixdim" in facts:
        for name in _FIELDS:
            header[name] = facts[name]
        header["pixdim"][:4] = facts["pixdim"]
        header.set_xyzt_units(facts["units"])
        as_written = np.array(header.get_best_affine())
        as_written[:3] *= TO_MM.get(facts["units"], 1.0)
        if geometry.compare(Grid(tuple(shape), as_written), Grid(tuple(shape), affine)).same:
            return
    header.set_xyzt_units("mm")
    # a qform cannot hold a shear, so none is written then
    header.set_qform(affine, 0 if geometry.is_sheared(affine) else 1)
    header.set_sform(affine, 1)
