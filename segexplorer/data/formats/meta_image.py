"""MetaImage, in one file (.mha) or two (.mhd beside .raw or .zraw): read, and written as .mha.

Definition: itk.org/Wiki/MetaIO/Documentation. Positions are in LPS, as in ITK; the tag AnatomicalOrientation is
ignored, because programs write it whatever the orientation is.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError
from segexplorer.data.formats.registry import Format, formats
from segexplorer.data.formats.text_header import (
    LPS_TO_RAS,
    TextHeader,
    affine_from,
    read_start,
    unit_in_mm,
    write_voxels,
)
from segexplorer.data.formats.voxels import Encoding, Frame, RawArray, choose_frame, to_store
from segexplorer.data.geometry import Affine, spacing
from segexplorer.data.grid import grid_notes
from segexplorer.data.volume import Provenance, Select, Volume

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    # a long has 4 bytes in this format, whatever the machine
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {kind: name for name, kind in reversed(_TYPES.items())}
_MAX_AXES = 10  # of MetaIO itself
_LAST = re.compile(rb"(?:^|\n)[ \t]*ElementDataFile[ \t]*=[^\n]*(?:\n|$)")
_COMPRESSION = 4


# --- reading ---


def read_meta_image(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read a MetaImage header and return a lazy volume.

    Parameters
    ----------
    label
        Whether the voxels must be whole numbers and become integers.
    select
        Which frame or channel, by number.

    Raises
    ------
    DataError
        For anything but one volume with a usable geometry: what is wrong and what to do.
    """
    header = _read_header(path)
    sizes = _sizes(header)
    channels = _count(header, "ElementNumberOfChannels", 1)
    stored = _stored(header, sizes if channels == 1 else (channels, *sizes), path)
    stored.check()
    affine, notes = _geometry(header, len(sizes))
    if len(sizes) == 2:
        notes.append("It is a single slice of unknown thickness; 1 mm was assumed.")
    beyond = sizes[3:]
    chosen = choose_frame(beyond if channels == 1 else (channels, *beyond), select, path.name)
    space: tuple[int | None, ...] = (None,) * min(3, len(sizes))
    index = (*space, *chosen) if channels == 1 else (chosen[0], *space, *chosen[1:])
    facts = {"place": _numbers(header, "Offset", "Position", "Origin") is not None}
    provenance = Provenance(path, "MetaImage", (*notes, *grid_notes(affine)), facts)
    return Volume(
        (*sizes, 1)[:3],
        affine,
        load=Frame(stored, index, label),
        modality="unknown" if label else None,
        provenance=provenance,
    )


# --- header ---


def _read_header(path: Path) -> TextHeader:
    """Read the tags up to ElementDataFile, which ends a header.

    Raises
    ------
    DataError
        When there is no such header, or a tag has no value or two.
    """
    start = read_start(path)
    last = _LAST.search(start)
    if last is None or b"NDims" not in start[: last.start()]:
        raise DataError(
            f"{path.name} is not a readable MetaImage file (it has no header, or one without an end).",
            "Check that it is an image and was copied whole.",
        )
    header = TextHeader(path.name, {}, last.end())
    for line in start[: last.end()].decode("utf-8", "replace").splitlines():
        tag, equals, value = line.partition("=")
        if not line.strip():
            continue
        if not equals or tag.strip() in header.fields:
            raise header.refusal("has a line that does not belong to MetaImage")
        header.fields[tag.strip()] = value.strip()
    return header


def _numbers(header: TextHeader, *tags: str) -> NDArray[np.float64] | None:
    """Return the numbers of the first of these tags that is there."""
    for tag in tags:
        if tag in header.fields:
            try:
                return np.array([float(word) for word in header.fields[tag].split()])
            except ValueError as error:
                raise header.refusal(f"gives no numbers for {tag}") from error
    return None


def _count(header: TextHeader, tag: str, default: int) -> int:
    """Return a whole number above 0."""
    text = header.fields.get(tag, str(default))
    if not text.isdecimal() or int(text[:18]) < 1:
        raise header.refusal(f"gives no count for {tag}")
    return int(text[:18])


def _truth(header: TextHeader, tag: str, default: bool) -> bool:
    """Return a truth value, written True, true, T or 1."""
    return header.fields.get(tag, str(default))[:1].lower() in ("t", "y", "1")


def _sizes(header: TextHeader) -> tuple[int, ...]:
    """Return the voxels along each axis, two or more."""
    dimension = _count(header, "NDims", 3)
    words = header.fields.get("DimSize", "").split()
    if len(words) != dimension or not all(word.isdecimal() for word in words):
        raise header.refusal(f"gives no size for each of its {dimension} axes")
    sizes = tuple(int(word[:18]) for word in words)
    if not 2 <= dimension <= _MAX_AXES or min(sizes) < 1:
        text = " × ".join(str(n) for n in sizes)
        raise DataError(f"{header.name} is no volume ({text} voxels).", "Export it again.")
    return sizes


def _stored(header: TextHeader, shape: tuple[int, ...], path: Path) -> RawArray:
    kind = _TYPES.get(header.fields.get("ElementType", "").removesuffix("_ARRAY"))
    if kind is None:
        raise DataError(
            f"{path.name} has voxels of type {header.quote('ElementType')}, which cannot be read.",
            "Export it with plain numbers.",
        )
    slope = _numbers(header, "ElementToIntensityFunctionSlope")
    offset = _numbers(header, "ElementToIntensityFunctionOffset")
    if (slope is not None and slope.tolist() != [1]) or (offset is not None and offset.tolist() != [0]):
        raise DataError(
            f"{path.name} asks to rescale its voxels, which only some programs do.", "Export it rescaled."
        )
    big = _truth(header, "BinaryDataByteOrderMSB", _truth(header, "ElementByteOrderMSB", False))
    encoding: Encoding = "raw" if _truth(header, "BinaryData", True) else "text"
    if _truth(header, "CompressedData", False):
        encoding = "deflate"
    data, begin = _data_file(header, path)
    return RawArray(data, path.name, begin, encoding, (">" if big else "<") + kind, shape)


def _data_file(header: TextHeader, path: Path) -> tuple[Path, int | None]:
    """Return the file of the voxels and the bytes before them; None: they end the file."""
    named = header.fields["ElementDataFile"]
    if not named or named.upper().startswith("LIST") or "%" in named:
        raise DataError(
            f"{path.name} spreads its voxels over several files.", "Export it as one file, e.g. as .mha."
        )
    if named.upper() == "LOCAL":
        return path, header.end
    skip = header.fields.get("HeaderSize", "0")
    if not re.fullmatch(r"-1|\d{1,15}", skip):
        raise header.refusal("gives no count for HeaderSize")
    return path.parent / named, None if skip == "-1" else int(skip)


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the file of the voxels, unless it is the header's own."""
    data, _ = _data_file(_read_header(path), path)
    return () if data == path else (data,)


def _geometry(header: TextHeader, dimension: int) -> tuple[Affine, list[str]]:
    """Return the affine and what was assumed."""
    notes = []
    size = _numbers(header, "ElementSpacing", "ElementSize")
    if size is None:
        size = np.ones(dimension)
        notes.append("The file does not give its spacing; 1 mm was assumed.")
    origin = _numbers(header, "Offset", "Position", "Origin")
    matrix = _numbers(header, "TransformMatrix", "Rotation", "Orientation")
    if origin is None and matrix is None:
        notes.append(
            "The file does not say where it is in space; left, posterior, superior (LPS) were assumed."
        )
    origin = np.zeros(dimension) if origin is None else origin
    matrix = np.eye(dimension).ravel() if matrix is None else matrix
    if (len(size), len(origin), len(matrix)) != (dimension, dimension, dimension**2):
        raise DataError(f"The geometry of {header.name} is not that of {dimension} axes.", "Export it again.")
    unit = header.fields.get("DistanceUnits", "")
    factor, converted = unit_in_mm("" if unit == "?" else unit, header.name)
    # each row of the file's matrix is the direction of one index axis
    with np.errstate(all="ignore"):  # what is not finite is refused as singular
        steps = matrix.reshape(dimension, dimension) * size[:, np.newaxis] * factor
    if dimension > 3 and (steps[:3, 3:].any() or steps[3:, :3].any()):
        raise DataError(f"The axes of {header.name} mix space with time.", "Export it as volumes.")
    axes = min(dimension, 3)
    columns = [np.pad(step[:axes], (0, 3 - axes)) for step in steps[:axes]]
    start = np.pad(origin[:axes], (0, 3 - axes)) * factor
    return affine_from(columns, start, LPS_TO_RAS, header.name), notes + converted


# --- writing ---


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
    tags = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(sum(len(piece) for piece in packed)),
        # each row is the direction of one index axis
        "TransformMatrix": _text((matrix[:, :3] / size).T.ravel()),
        "Offset": _text(matrix[:, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _text(size),
        "DimSize": " ".join(str(n) for n in volume.shape),
        "ElementType": _NAMES[array.dtype.newbyteorder("<").str[1:]],
        "ElementDataFile": "LOCAL",
    }

    def write(file: IO[bytes]) -> None:
        file.write("".join(f"{tag} = {value}\n" for tag, value in tags.items()).encode())
        file.writelines(packed)

    atomic_write(path, write)
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


def _text(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value)) for value in values)


formats.register(
    Format(
        name="MetaImage",
        suffixes=(".mha", ".mhd"),
        reader=read_meta_image,
        writer=write_meta_image,
        writes=(".mha",),
        beside=_beside,
    )
)
