"""The extensions between a NIfTI header and its voxels: nobody reads them here, but nibabel does, unasked.

nibabel reserves whatever length an extension claims, so that length is compared with the file first.
Definition: nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields/nifti1fields_pages/extension.html.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import IO, Any, Literal

from segexplorer.core.errors import DataError
from segexplorer.data.readers.stored import MAX_RATIO

_HEADER_SIZES = (348, 540)
_LEAST = 8
"""Bytes of an extension's own length and code."""


def check_extensions(path: Path) -> None:
    """Follow the extensions of a file from one to the next.

    Raises
    ------
    DataError
        When one claims to be longer than the file.
    OSError, EOFError, zlib.error
        When the file cannot be read.
    """
    packed = path.name.lower().endswith(".gz")
    held = path.stat().st_size * (MAX_RATIO if packed else 1)
    with gzip.open(path) if packed else path.open("rb") as opened:
        file: Any = opened
        start = file.read(4)
        order: Literal["little", "big"] = "little"
        size = int.from_bytes(start, order)
        if size not in _HEADER_SIZES:
            order = "big"
            size = int.from_bytes(start, order)
        if size not in _HEADER_SIZES:
            return  # no NIfTI; told by who reads the header
        header = start + file.read(size - 4)
        flags = file.read(4)
        if len(header) == size and flags[:1] not in (b"", b"\0"):
            _follow(file, order, size + 4, _voxels_begin(header, order), held, path.name)


def _voxels_begin(header: bytes, order: Literal["little", "big"]) -> float:
    """Return where the extensions end: where voxels begin, or with the file where those lie in another."""
    sign = "<" if order == "little" else ">"
    if len(header) == _HEADER_SIZES[0]:
        magic, begin = header[344:348], struct.unpack_from(f"{sign}f", header, 108)[0]
    else:
        magic, begin = header[4:8], struct.unpack_from(f"{sign}q", header, 168)[0]
    return float(begin) if magic.startswith(b"n+") else math.inf


def _follow(
    file: IO[bytes],
    order: Literal["little", "big"],
    position: int,
    end: float,
    held: int,
    name: str,
) -> None:
    while position < end and len(begin := file.read(_LEAST)) == _LEAST:
        length = int.from_bytes(begin[:4], order, signed=True)
        if length < _LEAST:
            return
        if position + length > held:
            raise DataError(
                f"{name} is damaged: an extension of its header claims {length:,} bytes.",
                "Copy or download it again.",
            )
        if not file.seek(length - _LEAST, 1):
            return
        position += length
