"""Writing MetaImage in one file (.mha)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import write_whole
from segexplorer.data.formats.header_geometry import LPS_TO_RAS
from segexplorer.data.formats.meta_image import TYPES
from segexplorer.data.formats.nrrd_writing import write_voxels
from segexplorer.data.formats.voxels import to_store
from segexplorer.data.geometry import spacing
from segexplorer.data.volume import Volume

_COMPRESSION = 4
_NAMES = {kind: name for name, kind in reversed(TYPES.items())}


def write_meta_image(volume: Volume, path: Path, *, integer: bool = False) -> Path:
    """Write a volume as a packed .mha with its affine.

    A shear is kept in the matrix; programs on ITK read it so.

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
    packer = _Packer()
    write_voxels(packer, array)
    packed = packer.finish()
    size = np.asarray(spacing(volume.affine))
    matrix = volume.affine[:3] * LPS_TO_RAS[:, np.newaxis] + 0.0
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(sum(len(piece) for piece in packed)),
        # each row is the direction of one index axis
        "TransformMatrix": _numbers((matrix[:, :3] / size).T.ravel()),
        "Offset": _numbers(matrix[:, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(size),
        "DimSize": " ".join(str(n) for n in volume.shape),
        "ElementType": _NAMES[array.dtype.newbyteorder("<").str[1:]],
        "ElementDataFile": "LOCAL",
    }

    def write(file: IO[bytes]) -> None:
        file.write("".join(f"{tag} = {value}\n" for tag, value in header.items()).encode())
        file.writelines(packed)

    write_whole(path, write)
    return path


class _Packer:
    """Collects what is written, packed: the header before it gives the packed size."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(_COMPRESSION)
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._pieces.append(self._packer.compress(data))

    def finish(self) -> list[bytes]:
        return [*self._pieces, self._packer.flush()]


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value)) for value in values)
