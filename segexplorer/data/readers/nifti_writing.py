"""Writing NIfTI: the geometry as it came, no text of the input, and a file that is whole or not there."""

from __future__ import annotations

import errno
import gzip
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.readers.nifti_geometry import write_geometry

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume

_NIFTI1_LONGEST = 32767
_COMPRESSION = 4
"""Of gzip. Measured on a CT: a tenth larger than 9 makes it, in a thirtieth of the time."""


def write_nifti(volume: Volume, path: Path, *, integer: bool = False) -> Path:
    """Write a volume as NIfTI with its affine, form codes and units.

    Parameters
    ----------
    integer
        Whether the voxels are labels: stored in the smallest integer type that holds them.

    Raises
    ------
    DataError
        When a label is no whole number, or the folder is full or may not be written; what was there before stays.
    """
    array = smallest_integers(volume.array) if integer else _storable(volume.array)
    facts = volume.provenance.header
    long = facts.get("nifti2", False) or max(volume.shape) > _NIFTI1_LONGEST
    kind = nib.Nifti2Image if long else nib.Nifti1Image
    header = kind.header_class()
    header.set_data_dtype(array.dtype)
    write_geometry(header, volume.shape, volume.affine, facts)
    # get_best_affine is in the header's own unit, so nibabel finds nothing to correct
    image = kind(array, header.get_best_affine(), header, dtype=array.dtype)
    _write_whole(image, path)
    return path


def smallest_integers(array: NDArray[Any]) -> NDArray[Any]:
    """Return label values in the smallest integer type that every reader of NIfTI knows.

    Raises
    ------
    DataError
        When a value is no whole number, or too large.
    """
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise DataError(
            "The voxels to be written as labels are not all whole numbers.",
            "Save them as an image, or threshold them first.",
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return array.astype(kind, copy=False)
    raise DataError(f"Label values from {low} to {high} do not fit a NIfTI label.", "Renumber the labels.")


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type that NIfTI has and other programs read."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        info = np.iinfo(np.int32)
        if info.min <= int(array.min()) and int(array.max()) <= info.max:
            return array.astype(np.int32)
    if array.dtype.kind not in "iuf":
        raise DataError(
            f"Voxels of type {array.dtype} cannot be stored as NIfTI.", "Convert them to numbers."
        )
    return array


def _write_whole(image: Any, path: Path) -> None:
    """Write beside the target and rename, so that a full disk or a crash leaves what was there."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        try:
            with part.open("xb") as file:
                if path.name.lower().endswith(".gz"):
                    # neither name nor time in the gzip header: equal volumes make equal files
                    with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed:
                        image.to_stream(packed)
                else:
                    image.to_stream(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "there is no space left" if full else f"the folder cannot be written ({error.strerror})"
        raise DataError(
            f"{path.name} was not written: {why}.",
            "Free some space or choose another folder; what was there before is unchanged.",
        ) from error
