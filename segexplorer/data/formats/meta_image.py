"""Reading MetaImage, in one file (.mha) or two (.mhd beside .raw or .zraw).

Definition: itk.org/Wiki/MetaIO/Documentation. Positions are in LPS, as in ITK; the tag AnatomicalOrientation is not
believed, for programs write it without meaning it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.header_geometry import (
    LPS_TO_RAS,
    affine_from,
    fill_third,
    unit_in_mm,
    unit_notes,
)
from segexplorer.data.formats.voxels import Encoding, Frame, RawArray, choose_frame
from segexplorer.data.grid import grid_notes
from segexplorer.data.volume import Provenance, Select, Volume

MAX_HEADER = 2**20
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
"""Types of voxels, to numpy's; a long has 4 bytes in this format, whatever the machine."""
_MAX_AXES = 10  # of MetaIO itself
_LAST = re.compile(rb"(?:^|\n)[ \t]*ElementDataFile[ \t]*=[^\n]*(?:\n|$)")


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
    header = _Header.read(path)
    sizes = header.sizes()
    channels = header.count("ElementNumberOfChannels", 1)
    stored = _stored(header, sizes if channels == 1 else (channels, *sizes), path)
    stored.check()
    columns, origin, notes = _geometry(header, len(sizes))
    affine = affine_from(columns, origin, LPS_TO_RAS, path.name)
    if len(sizes) == 2:
        notes.append("It is a single slice of unknown thickness; 1 mm was assumed.")
    beyond = sizes[3:]
    extra = beyond if channels == 1 else (channels, *beyond)
    chosen = choose_frame(extra, select, path.name)
    space: tuple[int | None, ...] = (None,) * min(3, len(sizes))
    index = (*space, *chosen) if channels == 1 else (chosen[0], *space, *chosen[1:])
    provenance = Provenance(path, "MetaImage", (*notes, *grid_notes(affine)))
    shape = (*sizes, 1)[:3]
    load = Frame(stored, index, label)
    return Volume(shape, affine, load=load, modality="unknown" if label else None, provenance=provenance)


class _Header:
    """The tags of one file, and where its voxels begin."""

    def __init__(self, tags: dict[str, str], end: int, name: str) -> None:
        self.tags = tags
        self.end = end
        self.name = name

    @classmethod
    def read(cls, path: Path) -> _Header:
        try:
            with path.open("rb") as file:
                start = file.read(MAX_HEADER)
        except OSError as error:
            raise DataError(
                f"{path.name} cannot be read ({error.strerror}).", "Check the path and its permissions."
            ) from error
        if not start:
            raise DataError(f"{path.name} is empty.", "Copy or download it again.")
        last = _LAST.search(start)
        if last is None or b"NDims" not in start[: last.start()]:
            raise DataError(
                f"{path.name} is not a readable MetaImage file (it has no header, or one without an end).",
                "Check that it is an image and was copied whole.",
            )
        tags: dict[str, str] = {}
        for line in start[: last.end()].decode("utf-8", "replace").splitlines():
            tag, separator, value = line.partition("=")
            if not line.strip():
                continue
            if not separator or tag.strip() in tags:
                raise DataError(
                    f"The header of {path.name} has a line that is none of MetaImage.", "Export it again."
                )
            tags[tag.strip()] = value.strip()
        return cls(tags, last.end(), path.name)

    def numbers(self, *tags: str) -> NDArray[np.float64] | None:
        """Return the numbers of the first of these tags that is there."""
        for tag in tags:
            if tag in self.tags:
                try:
                    return np.array([float(word) for word in self.tags[tag].split()])
                except ValueError as error:
                    raise DataError(
                        f"The header of {self.name} gives no numbers for {tag}.", "Export it again."
                    ) from error
        return None

    def count(self, tag: str, default: int) -> int:
        """Return a whole number above 0."""
        text = self.tags.get(tag, str(default))
        if not text.isdecimal() or int(text[:18]) < 1:
            raise DataError(f"The header of {self.name} gives no count for {tag}.", "Export it again.")
        return int(text[:18])

    def whether(self, tag: str, default: bool) -> bool:
        """Return a truth value, written True, true, T or 1."""
        return self.tags.get(tag, str(default))[:1].lower() in ("t", "y", "1")

    def sizes(self) -> tuple[int, ...]:
        """Return the voxels along each axis, two or more."""
        dimensions = self.count("NDims", 3)
        words = self.tags.get("DimSize", "").split()
        if len(words) != dimensions or not all(word.isdecimal() for word in words):
            raise DataError(
                f"The header of {self.name} gives no size for each of its {dimensions} axes.",
                "Export it again.",
            )
        sizes = tuple(int(word[:18]) for word in words)
        if not 2 <= dimensions <= _MAX_AXES or min(sizes) < 1:
            text = " × ".join(str(n) for n in sizes)
            raise DataError(f"{self.name} is no volume ({text} voxels).", "Export it again.")
        return sizes


def _stored(header: _Header, shape: tuple[int, ...], path: Path) -> RawArray:
    kind = TYPES.get(header.tags.get("ElementType", "").removesuffix("_ARRAY"))
    if kind is None:
        raise DataError(
            f"{path.name} has voxels of type {header.tags.get('ElementType', 'unknown')}, which cannot be read.",
            "Export it with plain numbers.",
        )
    slope = header.numbers("ElementToIntensityFunctionSlope")
    offset = header.numbers("ElementToIntensityFunctionOffset")
    if (slope is not None and slope.tolist() != [1]) or (offset is not None and offset.tolist() != [0]):
        raise DataError(
            f"{path.name} asks to rescale its voxels, which programs do or do not.", "Export it rescaled."
        )
    big = header.whether("BinaryDataByteOrderMSB", header.whether("ElementByteOrderMSB", False))
    packed = header.whether("CompressedData", False)
    text = not header.whether("BinaryData", True)
    named = header.tags["ElementDataFile"]
    if not named or named.upper().startswith("LIST") or "%" in named:
        raise DataError(
            f"{path.name} spreads its voxels over several files.", "Export it as one file, e.g. as .mha."
        )
    local = named.upper() == "LOCAL"
    begin: int | None = header.end if local else 0
    if not local and "HeaderSize" in header.tags:
        skip = header.tags["HeaderSize"]
        if not re.fullmatch(r"-1|\d{1,15}", skip):
            raise DataError(f"The header of {path.name} gives no count for HeaderSize.", "Export it again.")
        begin = None if skip == "-1" else int(skip)
    data = path if local else path.parent / named
    encoding: Encoding = "deflate" if packed else "text" if text else "raw"
    return RawArray(data, path.name, begin, encoding, (">" if big else "<") + kind, shape)


def _geometry(header: _Header, dimensions: int) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return the steps (3, 3) and the origin (3,), LPS mm, and what was assumed."""
    notes = []
    size = header.numbers("ElementSpacing", "ElementSize")
    if size is None:
        size = np.ones(dimensions)
        notes.append("The file does not give its spacing; 1 mm was assumed.")
    origin = header.numbers("Offset", "Position", "Origin")
    matrix = header.numbers("TransformMatrix", "Rotation", "Orientation")
    if origin is None and matrix is None:
        notes.append("The file does not say where it lies; left, posterior, superior (LPS) were assumed.")
    origin = np.zeros(dimensions) if origin is None else origin
    matrix = np.eye(dimensions).ravel() if matrix is None else matrix
    if (len(size), len(origin), len(matrix)) != (dimensions, dimensions, dimensions**2):
        raise DataError(
            f"The geometry of {header.name} is not that of {dimensions} axes.", "Export it again."
        )
    unit = header.tags.get("DistanceUnits", "")
    factor = unit_in_mm("" if unit == "?" else unit, header.name)
    # each row of the file's matrix is the direction of one index axis
    with np.errstate(all="ignore"):  # what is not finite is refused as singular
        steps = matrix.reshape(dimensions, dimensions) * size[:, np.newaxis] * factor
    if dimensions > 3 and (steps[:3, 3:].any() or steps[3:, :3].any()):
        raise DataError(f"The axes of {header.name} mix space with time.", "Export it as volumes.")
    axes = min(dimensions, 3)
    columns = fill_third([np.pad(step[:axes], (0, 3 - axes)) for step in steps[:axes]])
    notes += unit_notes(factor, unit)
    return columns, np.pad(origin[:axes], (0, 3 - axes)) * factor, notes
