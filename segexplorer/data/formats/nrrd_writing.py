"""Writing NRRD, and label maps as segmentations of 3D Slicer with the names of their classes."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import write_whole
from segexplorer.data.formats.header_geometry import LPS_TO_RAS
from segexplorer.data.formats.nrrd_header import escape
from segexplorer.data.formats.seg_nrrd import pairs_of
from segexplorer.data.formats.voxels import to_store
from segexplorer.data.volume import Volume

_COMPRESSION = 4
_NAMES = {
    "i1": "signed char",
    "u1": "unsigned char",
    "i2": "short",
    "u2": "unsigned short",
    "i4": "int",
    "u4": "unsigned int",
    "i8": "long long int",
    "u8": "unsigned long long int",
    "f4": "float",
    "f8": "double",
}
"""numpy's types to those that programs on ITK write."""


def write_nrrd(
    volume: Volume, path: Path, *, integer: bool = False, names: Mapping[int, str] | None = None
) -> Path:
    """Write a volume as NRRD (.nrrd, .seg.nrrd), gzipped, with its affine to the last bit.

    Parameters
    ----------
    integer
        Whether the voxels are labels: stored in the smallest integer type that holds them.
    names
        Names of label values; written as the segments of 3D Slicer.

    Raises
    ------
    DataError
        When a label is no whole number, or the folder is full or may not be written; what was there before stays.
    """
    array = to_store(volume.array, integer=integer)
    header = _header(volume, array)
    if integer and (names or path.name.lower().endswith(".seg.nrrd")):
        named = names or {int(v): f"label {v}" for v in np.unique(array) if v != 0}
        header += [f"{key}:={escape(text)}" for key, text in pairs_of(named, volume.shape).items()]
    text = "\n".join(header) + "\n\n"

    def write(file: IO[bytes]) -> None:
        file.write(text.encode())
        # neither name nor time in the gzip header: equal volumes make equal files
        with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed:
            write_voxels(packed, array)

    write_whole(path, write)
    return path


def write_voxels(file: Any, array: NDArray[Any]) -> None:
    """Write voxels little-endian, the first index fastest, slice by slice."""
    stored = array.dtype.newbyteorder("<")
    for k in range(array.shape[-1]):
        file.write(np.ascontiguousarray(array[..., k].T, dtype=stored).data)


def _header(volume: Volume, array: NDArray[Any]) -> list[str]:
    space = str(volume.provenance.header.get("nrrd_space", "left-posterior-superior"))
    ras = space.startswith("r")
    signs = np.ones(3) if ras else LPS_TO_RAS
    matrix = volume.affine[:3] * signs[:, np.newaxis] + 0.0
    kind = _NAMES[array.dtype.newbyteorder("<").str[1:]]
    return [
        "NRRD0005",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {kind}",
        "dimension: 3",
        f"space: {'right-anterior-superior' if ras else 'left-posterior-superior'}",
        f"sizes: {' '.join(str(n) for n in volume.shape)}",
        f"space directions: {' '.join(_vector(matrix[:, k]) for k in range(3))}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        'space units: "mm" "mm" "mm"',
        f"space origin: {_vector(matrix[:, 3])}",
    ]


def _vector(numbers: NDArray[np.float64]) -> str:
    """Return "(x,y,z)" with as many digits as give the numbers back."""
    return f"({','.join(repr(float(n)) for n in numbers)})"
