"""NRRD, attached and detached (.nrrd, .nhdr), and the segmentations of 3D Slicer (.seg.nrrd): read and written.

Definition: teem.sourceforge.net/nrrd/format.html, sections 3 to 5.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, shorten
from segexplorer.data.formats.registry import Format, formats
from segexplorer.data.formats.seg_nrrd import Layers, Segment, pairs_of, segments_of
from segexplorer.data.formats.text_header import (
    LPS_TO_RAS,
    TextHeader,
    affine_from,
    read_start,
    unit_in_mm,
    write_voxels,
)
from segexplorer.data.formats.voxels import Encoding, Frame, RawArray, choose_frame, to_store
from segexplorer.data.grid import grid_notes
from segexplorer.data.volume import Provenance, Select, Volume

_MAGIC = re.compile(rb"NRRD000[1-6]\r?\n")
_REQUIRED = ("dimension", "type", "sizes", "encoding")
_SYNONYMS = {
    "centerings": "centers",
    "datafile": "data file",
    "byteskip": "byte skip",
    "lineskip": "line skip",
}
_MAX_AXES = 16  # of the format itself
_COMPRESSION = 4

# the first name of each type is the one that programs on ITK write
_NAMES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("unsigned char", "uchar", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("unsigned int", "uint", "uint32", "uint32_t"),
    "i8": (
        "long long int",
        "longlong",
        "long long",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    "u8": ("unsigned long long int", "ulonglong", "unsigned long long", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPES = {name: kind for kind, names in _NAMES.items() for name in names}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    "gzip": "deflate",
    "gz": "deflate",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "txt": "text",
    "text": "text",
    "ascii": "text",
}
_SPACES = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
}
_NOT_SPACE = {
    "list",
    "vector",
    "covariant-vector",
    "normal",
    "point",
    "time",
    "stub",
    "scalar",
    "none",
    "???",
}


# --- reading ---


def read_nrrd(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read a NRRD header and return a lazy volume.

    Parameters
    ----------
    label
        Whether the voxels must be whole numbers and become integers.
    select
        Which frame or channel, by number; of a segmentation whose segments overlap also which segments, by name and
        in the order in which the later one counts, e.g. "liver, spleen".

    Raises
    ------
    DataError
        For anything but one volume with a usable geometry: what is wrong and what to do.
    """
    header = _read_header(path)
    sizes = _sizes(header)
    stored = _stored(header, sizes, path)
    axes = _axes(header, len(sizes))
    steps = [step for step in axes.steps if step is not None]
    if len(steps) not in (2, 3):
        raise DataError(
            f"{path.name} has {len(steps)} axes of space; a volume has three.", "Export it as a volume."
        )
    affine = affine_from(steps, axes.origin, axes.signs, path.name)
    notes = list(axes.notes)
    if len(steps) == 2:
        notes.append("It is a single slice of unknown thickness; 1 mm was assumed.")
    inside = [i for i, step in enumerate(axes.steps) if step is not None]
    extra = [i for i in range(len(sizes)) if i not in inside]
    segments = segments_of(header.pairs, len(extra) == 1)
    facts: dict[str, Any] = {"nrrd_space": axes.space, "place": axes.placed}
    load: Any
    if segments and len(extra) <= 1 and _by_segment(segments, select, bool(extra)):
        layers = Layers.choose(stored, extra[0] if extra else None, segments, select, path.name)
        facts["label_names"], load = layers.names, layers
        notes.append(
            "Its segments are numbered 1, 2, ... in order; where they overlap, the later one counts."
        )
        label = True
    else:
        chosen = dict(zip(extra, choose_frame([sizes[i] for i in extra], select, path.name), strict=True))
        stored.check()
        load = Frame(stored, tuple(chosen.get(i) for i in range(len(sizes))), label)
        layer = next(iter(chosen.values()), 0)
        if names := {segment.value: segment.name for segment in segments if segment.layer == layer}:
            facts["label_names"] = names
    shape = (*(sizes[i] for i in inside), 1)[:3]
    provenance = Provenance(path, "NRRD", (*notes, *grid_notes(affine)), facts)
    return Volume(shape, affine, load=load, modality="unknown" if label else None, provenance=provenance)


def _by_segment(segments: tuple[Segment, ...], select: Select, layered: bool) -> bool:
    """Whether segments are chosen, all or by name, rather than a layer by its number."""
    if select is None:
        return layered
    if isinstance(select, int):
        return False
    return not select.strip().isdecimal() or select.strip() in {segment.name for segment in segments}


# --- header ---


def _read_header(path: Path) -> TextHeader:
    """Read fields and key/value pairs.

    Raises
    ------
    DataError
        When the file is no NRRD, its header has no end, or lacks a field that every NRRD has.
    """
    start = read_start(path)
    if not _MAGIC.match(start):
        raise DataError(
            f"{path.name} is not a readable NRRD file (it does not begin with NRRD000).",
            "Check that it is an image and was copied whole.",
        )
    blank = re.search(rb"\r?\n(\r?\n)", start)
    # a header of its own (.nhdr) may end with the file
    end = blank.end() if blank else len(start)
    header = TextHeader(path.name, {}, end)
    for line in start[: blank.start() if blank else end].decode("utf-8", "replace").splitlines()[1:]:
        if not line.startswith("#") and line.strip():
            _add_line(header, line)
    for field in _REQUIRED:
        if field not in header.fields:
            raise header.refusal(f"does not give its {field}", "Copy or export it again.")
    if blank is None and "data file" not in header.fields:
        raise header.refusal("has no end", "Copy or export it again.")
    return header


def _add_line(header: TextHeader, line: str) -> None:
    """Add a field ("key: value") or a key/value pair ("key:=value")."""
    key, colon, value = line.partition(":")
    if not colon:
        raise header.refusal("has a line that does not belong to NRRD", "Copy or export it again.")
    if value.startswith("="):
        header.pairs[_unescape(key)] = _unescape(value[1:])
        return
    field = key.strip().lower()
    field = _SYNONYMS.get(field, field)
    if field in header.fields:
        raise header.refusal(f"gives {shorten(field)!r} twice", "Correct it, or export it again.")
    header.fields[field] = value.strip()


def _unescape(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda found: "\n" if found[1] == "n" else "\\", text)


def _sizes(header: TextHeader) -> tuple[int, ...]:
    words, dimension = header.words("sizes"), header.fields["dimension"]
    if not dimension.isdecimal() or not all(word.isdecimal() for word in words):
        raise header.refusal("has a size that is no number", "Copy or export it again.")
    if len(words) != int(dimension[:4]) or not 1 <= len(words) <= _MAX_AXES:
        raise header.refusal(f"gives {len(words)} sizes for {dimension[:4]} axes")
    sizes = tuple(int(word[:18]) for word in words)
    if min(sizes) < 1:
        raise DataError(f"{header.name} has no voxels ({' × '.join(map(str, sizes))}).", "Export it again.")
    return sizes


def _stored(header: TextHeader, sizes: tuple[int, ...], path: Path) -> RawArray:
    kind = _TYPES.get(header.fields["type"].lower())
    encoding = _ENCODINGS.get(header.fields["encoding"].lower())
    if kind is None or encoding is None:
        wrong = "type" if kind is None else "encoding"
        raise DataError(
            f"{path.name} has voxels of {wrong} {header.quote(wrong)}, which cannot be read.",
            "Export it with plain numbers and gzip.",
        )
    endian = header.fields.get("endian", "").lower()
    if endian not in ("little", "big") and kind[1] != "1" and encoding != "text":
        raise DataError(
            f"{path.name} does not say the byte order of its voxels (endian).", "Export it again."
        )
    data, offset = _data_file(header, path)
    return RawArray(data, path.name, offset, encoding, (">" if endian == "big" else "<") + kind, sizes)


def _data_file(header: TextHeader, path: Path) -> tuple[Path, int | None]:
    """Return the file of the voxels and the bytes before them; None: they end the file."""
    named = header.fields.get("data file")
    if named is not None and (not named or named.upper().startswith("LIST") or "%" in named):
        raise DataError(
            f"{path.name} spreads its voxels over several files.", "Export it as one file, e.g. as .nrrd."
        )
    skip = header.fields.get("byte skip", "0")
    if not re.fullmatch(r"-1|\d{1,15}", skip) or header.fields.get("line skip", "0") != "0":
        raise DataError(
            f"{path.name} skips a part of its data file in an unknown way.", "Export it as .nrrd."
        )
    if skip == "-1" and header.fields["encoding"].lower() != "raw":
        raise DataError(f"{path.name} skips bytes of packed data.", "Export it again.")
    data, begin = (path, header.end) if named is None else (path.parent / named, 0)
    return data, None if skip == "-1" else begin + int(skip)


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the file of the voxels, unless it is the header's own."""
    data, _ = _data_file(_read_header(path), path)
    return () if data == path else (data,)


# --- geometry ---


@dataclass(frozen=True)
class _Axes:
    """The step along each axis in the world of the file, mm, or None for an axis outside space."""

    steps: list[NDArray[np.float64] | None]
    origin: NDArray[np.float64]
    signs: NDArray[np.float64]
    notes: list[str]
    space: str = "left-posterior-superior"
    placed: bool = True


def _axes(header: TextHeader, dimension: int) -> _Axes:
    if "space directions" not in header.fields:
        return _by_spacing(header, dimension)
    steps = _vectors(header, "space directions")
    if len(steps) != dimension:
        raise header.refusal(f"gives {len(steps)} directions for {dimension} axes")
    unit = next(iter(header.words("space units")), "")
    factor, notes = unit_in_mm(unit, header.name)
    space = header.fields.get("space", "").lower()
    # a space with time has a fourth axis: "left-posterior-superior-time", "LPST"
    short = space.removesuffix("-time").removesuffix("t") if space.endswith(("-time", "t")) else space
    if short not in _SPACES:
        said = f"only says {header.quote('space')}" if space else "does not say which way they point"
        notes.append(f"The file gives directions but {said}; left, posterior, superior (LPS) were assumed.")
        short = "left-posterior-superior"
    found = _vectors(header, "space origin")
    placed = bool(found) and found[0] is not None
    if placed and found[0] is not None:
        origin = _three(header, found[0])
    else:
        notes.append("The file does not give the position of its first voxel; the origin was assumed.")
        origin = np.zeros(3)
    kinds = header.words("kinds")
    result: list[NDArray[np.float64] | None] = []
    for i, step in enumerate(steps):
        time = i < len(kinds) and kinds[i].lower() == "time"
        if step is None or time or (len(step) == 4 and not step[:3].any()):
            result.append(None)
        else:
            result.append(factor * _three(header, step))
    return _Axes(result, factor * origin, np.array(_SPACES[short]), notes, short, placed)


def _by_spacing(header: TextHeader, dimension: int) -> _Axes:
    """Return the axes of a file that has no directions: along LPS, with its spacings or the ends of its axes."""
    spacings = _per_axis(header, "spacings", dimension)
    inside = _in_space(header, dimension, spacings)
    low, high = _per_axis(header, "axis mins", dimension), _per_axis(header, "axis maxs", dimension)
    sizes = np.array([float(word) for word in header.words("sizes")])
    # samples are in the middle of cells, or at nodes from one end to the other
    cells = np.array(
        [word.lower() == "cell" for word in (*header.words("centers"), *[""] * dimension)][:dimension]
    )
    ranges = np.abs(high - low) / np.maximum(np.where(cells, sizes, sizes - 1), 1)
    given = np.where(np.isfinite(spacings) & (spacings != 0), np.abs(spacings), ranges)
    notes = ["The file does not say where it is in space; left, posterior, superior (LPS) were assumed."]
    if not (np.isfinite(given[inside]) & (given[inside] > 0)).all():
        notes.append("The file does not give its spacing; 1 mm was assumed.")
    given = np.where(np.isfinite(given) & (given > 0), given, 1.0)
    steps: list[NDArray[np.float64] | None] = [None] * dimension
    origin = np.zeros(3)
    for k, i in enumerate(inside):
        step = np.zeros(3)
        # an axis whose end is below its beginning runs the other way
        step[k] = -given[i] if high[i] < low[i] else given[i]
        steps[i] = step
        if np.isfinite(low[i]):
            origin[k] = low[i] + (step[k] / 2 if cells[i] else 0.0)
    return _Axes(steps, origin, LPS_TO_RAS, notes, placed=False)


def _per_axis(header: TextHeader, field: str, dimension: int) -> NDArray[np.float64]:
    """Return one number per axis; NaN where the file gives none."""
    words = header.words(field) or ["nan"] * dimension
    if len(words) != dimension:
        raise header.refusal(f"gives {len(words)} {field} for {dimension} axes")
    return np.array([_number(header, word) for word in words])


def _in_space(header: TextHeader, dimension: int, spacings: NDArray[np.float64]) -> list[int]:
    """Return the axes of space of a file without directions.

    Raises
    ------
    DataError
        When it has more than three axes and does not say which: its voxels would come out as another shape.
    """
    kinds = [kind.lower() for kind in header.words("kinds")]
    other = {i for i, kind in enumerate(kinds) if kind in _NOT_SPACE or "-" in kind or "matrix" in kind}
    inside = [i for i in range(dimension) if i not in other]
    if len(inside) > 3:
        # "spacings: nan 1 1 2": what is no length is no axis of space
        measured = [i for i in inside if np.isfinite(spacings[i])]
        if len(measured) == 3:
            return measured
        if segments_of(header.pairs, layered=True) and dimension == 4:
            return [1, 2, 3]
        raise header.refusal(
            f"has {len(inside)} axes and does not say which are those of space",
            "Give its kinds, or export it as a volume.",
        )
    return inside


def _vectors(header: TextHeader, field: str) -> list[NDArray[np.float64] | None]:
    """Return the vectors of a field such as "(1,0,0) (0,1,0) none"."""
    found: list[NDArray[np.float64] | None] = []
    for inner, word in re.findall(r"\(([^()]*)\)|(\S+)", header.fields.get(field, "")):
        if word and word.lower() != "none":
            raise header.refusal("has a vector that cannot be read")
        numbers = np.array([_number(header, part) for part in inner.split(",")] if not word else [np.nan])
        found.append(None if np.isnan(numbers).all() else numbers)
    return found


def _three(header: TextHeader, vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector of space; a fourth number, of time, must be 0."""
    if len(vector) in (3, 4) and not vector[3:].any():
        return vector[:3]
    raise header.refusal(
        f"gives directions of {len(vector)} numbers; a position has three", "Export it as a volume."
    )


def _number(header: TextHeader, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise header.refusal(f"holds {shorten(text)!r} where a number belongs") from error


# --- writing ---


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
    lines = _header_lines(volume, array)
    if integer and (names or path.name.lower().endswith(".seg.nrrd")):
        named = names or {int(v): f"label {v}" for v in np.unique(array) if v != 0}
        pairs = pairs_of(named, volume.shape)
        lines += [f"{key}:={_escape(text)}" for key, text in pairs.items()]
    text = "\n".join(lines) + "\n\n"

    def write(file: IO[bytes]) -> None:
        file.write(text.encode())
        # neither name nor time in the gzip header: equal volumes make equal files
        with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed:
            write_voxels(packed, array)

    atomic_write(path, write)
    return path


def _header_lines(volume: Volume, array: NDArray[Any]) -> list[str]:
    ras = str(volume.provenance.header.get("nrrd_space", "")).startswith("r")
    matrix = volume.affine[:3] * (np.ones(3) if ras else LPS_TO_RAS)[:, np.newaxis] + 0.0
    # repr gives as many digits as give the number back
    vectors = [f"({','.join(repr(float(n)) for n in column)})" for column in matrix.T]
    return [
        "NRRD0005",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_NAMES[array.dtype.newbyteorder('<').str[1:]][0]}",
        "dimension: 3",
        f"space: {'right-anterior-superior' if ras else 'left-posterior-superior'}",
        f"sizes: {' '.join(str(n) for n in volume.shape)}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        'space units: "mm" "mm" "mm"',
        f"space origin: {vectors[3]}",
    ]


def _escape(text: str) -> str:
    """Return a text as it is written in a key/value pair."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")


formats.register(
    Format(
        name="NRRD",
        suffixes=(".nrrd", ".nhdr", ".seg.nrrd"),
        reader=read_nrrd,
        writer=write_nrrd,
        writes=(".nrrd", ".seg.nrrd"),
        named=True,
        beside=_beside,
    )
)
