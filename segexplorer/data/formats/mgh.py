"""Reading the volumes of FreeSurfer (.mgz, .mgh): nibabel knows the header, `RawArray` the voxels."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.formats.registry import Format, formats
from segexplorer.data.formats.voxels import Frame, RawArray, choose_frame
from segexplorer.data.grid import grid_notes
from segexplorer.data.volume import Provenance, Select, Volume

_DATA_OFFSET = 284
_GOOD_RAS = slice(28, 30)
"""Bytes of the flag that says whether the header knows where the volume is in space."""
_BROKEN = (HeaderDataError, OSError, EOFError, zlib.error, ValueError, KeyError)


def read_mgz(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read a FreeSurfer header and return a lazy volume.

    Parameters
    ----------
    label
        Whether the voxels must be whole numbers and become integers.
    select
        Which frame, by number.

    Raises
    ------
    DataError
        For anything but one volume with a usable geometry: what is wrong and what to do.
    """
    header, placed = _header(path)
    sizes = tuple(int(n) for n in header["dims"])
    if min(sizes) < 1:
        text = " × ".join(str(n) for n in sizes)
        raise DataError(f"{path.name} has no voxels ({text}).", "Export it again.")
    dtype = header.get_data_dtype().newbyteorder(">").str
    # what follows the voxels are parameters of the scan
    stored = (
        RawArray(path, path.name, 0, "deflate", dtype, sizes, inner=_DATA_OFFSET, followed=True)
        if _packed(path)
        else RawArray(path, path.name, _DATA_OFFSET, "raw", dtype, sizes, followed=True)
    )
    stored.check()
    frame = choose_frame(sizes[3:], select, path.name)
    with np.errstate(all="ignore"):  # numbers of a broken header overflow; they are refused below
        affine = np.asarray(header.get_affine(), np.float64) if placed else _default_affine(sizes)
    if geometry.is_singular(affine):
        raise DataError(
            f"{path.name} has no usable geometry (a zero or non-finite voxel size).", "Export it again."
        )
    notes = grid_notes(affine)
    if not placed:
        said = "The file does not say where it is in space; FreeSurfer's coronal axes (LIA) were assumed."
        notes = (said, *notes)
    return Volume(
        sizes[:3],
        affine,
        load=Frame(stored, (None, None, None, *frame), label),
        modality="unknown" if label else None,
        provenance=Provenance(path, "MGH", notes, {"place": placed}),
    )


def _default_affine(sizes: Sequence[int]) -> NDArray[np.float64]:
    """Return the place that FreeSurfer takes for a file without one: coronal, 1 mm, centred.

    nibabel 5.4 turns these axes the other way round (LSP).
    """
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(sizes[:3]) / 2)
    return affine


def _packed(path: Path) -> bool:
    return path.name.lower().endswith((".mgz", ".gz"))


def _header(path: Path) -> tuple[Any, bool]:
    """Return nibabel's header, made of its first bytes alone, and whether it knows where the volume is in space."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty.", "Copy or download it again.")
        with gzip.open(path) if _packed(path) else path.open("rb") as file:
            block = file.read(_DATA_OFFSET)
        if len(block) < _DATA_OFFSET:
            raise EOFError
        header = nib.freesurfer.mghformat.MGHHeader(block)
        header.get_data_dtype()
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable MGH file.", "Check that it is an image and was copied whole."
        ) from error
    return header, int.from_bytes(block[_GOOD_RAS], "big") != 0


formats.register(
    Format(name="MGH", suffixes=(".mgz", ".mgh", ".mgh.gz"), reader=read_mgz, library="nibabel (header)")
)
