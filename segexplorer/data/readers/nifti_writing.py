"""Writing NIfTI: the geometry as it came, no text of the input, and a file that is whole or not there."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import nibabel as nib

from segexplorer.data.readers.nifti_geometry import write_geometry
from segexplorer.data.readers.storable import to_store
from segexplorer.data.readers.whole_file import write_whole

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
    array = to_store(volume.array, integer=integer)
    facts = volume.provenance.header
    long = facts.get("nifti2", False) or max(volume.shape) > _NIFTI1_LONGEST
    kind = nib.Nifti2Image if long else nib.Nifti1Image
    header = kind.header_class()
    header.set_data_dtype(array.dtype)
    write_geometry(header, volume.shape, volume.affine, facts)
    # get_best_affine is in the header's own unit, so nibabel finds nothing to correct
    image = kind(array, header.get_best_affine(), header, dtype=array.dtype)
    _write(image, path)
    return path


def _write(image: Any, path: Path) -> None:
    def write(file: IO[bytes]) -> None:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(file)
            return
        # neither name nor time in the gzip header: equal volumes make equal files
        with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed:
            image.to_stream(packed)

    write_whole(path, write)
