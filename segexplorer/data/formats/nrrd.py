"""Reading NRRD, attached and detached (.nrrd, .nhdr), and the segmentations of 3D Slicer (.seg.nrrd)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from segexplorer.data.formats.nrrd_header import TYPES, NrrdHeader, read_header
from segexplorer.data.formats.seg_nrrd import Layers, Segment, segments_of
from segexplorer.data.formats.voxels import Encoding, Frame, RawArray, choose_frame
from segexplorer.data.grid import grid_notes
from segexplorer.data.volume import Provenance, Select, Volume

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
_MAX_AXES = 16  # of the format itself


@dataclass(frozen=True)
class _Axes:
    """Where the axes of a file lie: steps in its own world per axis, None for those that are none of space."""

    steps: tuple[NDArray[np.float64] | None, ...]
    origin: NDArray[np.float64]
    signs: NDArray[np.float64]
    notes: tuple[str, ...]
    space: str


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
    header = read_header(path)
    sizes = _sizes(header, path.name)
    stored = _stored(header, sizes, path)
    axes = _axes(header, sizes, path.name)
    inside = [i for i, step in enumerate(axes.steps) if step is not None]
    if len(inside) not in (2, 3):
        raise DataError(
            f"{path.name} has {len(inside)} axes of space; a volume has three.", "Export it as a volume."
        )
    columns = fill_third([step for step in axes.steps if step is not None])
    affine = affine_from(columns, axes.origin, axes.signs, path.name)
    notes = list(axes.notes)
    if len(inside) == 2:
        notes.append("It is a single slice of unknown thickness; 1 mm was assumed.")
    extra = [i for i in range(len(sizes)) if i not in inside]
    shape = (*(sizes[i] for i in inside), 1)[:3]
    segments = segments_of(header.pairs, len(extra) == 1)
    facts: dict[str, Any] = {"nrrd_space": axes.space}
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
        index = tuple(chosen.get(i) for i in range(len(sizes)))
        stored.check()
        load = Frame(stored, index, label)
        layer = next(iter(chosen.values()), 0)
        names = {segment.value: segment.name for segment in segments if segment.layer == layer}
        if names:
            facts["label_names"] = names
    provenance = Provenance(path, "NRRD", (*notes, *grid_notes(affine)), facts)
    return Volume(shape, affine, load=load, modality="unknown" if label else None, provenance=provenance)


def _by_segment(segments: tuple[Segment, ...], select: Select, layered: bool) -> bool:
    """Whether segments are chosen, all or by name, rather than a layer by its number."""
    if select is None:
        return layered
    if isinstance(select, int):
        return False
    return not select.strip().isdecimal() or select.strip() in {segment.name for segment in segments}


def _sizes(header: NrrdHeader, name: str) -> tuple[int, ...]:
    words, dimension = header.words("sizes"), header.fields["dimension"]
    if not dimension.isdecimal() or not all(word.isdecimal() for word in words):
        raise DataError(f"The header of {name} has a size that is no number.", "Copy or export it again.")
    if len(words) != int(dimension[:4]) or not 1 <= len(words) <= _MAX_AXES:
        raise DataError(
            f"The header of {name} gives {len(words)} sizes for {dimension[:4]} axes.", "Export it again."
        )
    sizes = tuple(int(word[:18]) for word in words)
    if min(sizes) < 1:
        raise DataError(f"{name} has no voxels ({' × '.join(str(n) for n in sizes)}).", "Export it again.")
    return sizes


def _stored(header: NrrdHeader, sizes: tuple[int, ...], path: Path) -> RawArray:
    kind = TYPES.get(header.fields["type"].lower())
    encoding = _ENCODINGS.get(header.fields["encoding"].lower())
    if kind is None or encoding is None:
        what = f"type {header.fields['type']}" if kind is None else f"encoding {header.fields['encoding']}"
        raise DataError(
            f"{path.name} has voxels of {what}, which cannot be read.",
            "Export it with plain numbers and gzip.",
        )
    endian = header.fields.get("endian", "").lower()
    if endian not in ("little", "big") and kind[1] != "1" and encoding != "text":
        raise DataError(
            f"{path.name} does not say the byte order of its voxels (endian).", "Export it again."
        )
    data, offset = _data_file(header, path)
    dtype = (">" if endian == "big" else "<") + kind
    return RawArray(data, path.name, offset, encoding, dtype, sizes)


def _data_file(header: NrrdHeader, path: Path) -> tuple[Path, int | None]:
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
    before = int(skip)
    if before == -1:
        if header.fields["encoding"].lower() != "raw":
            raise DataError(f"{path.name} skips bytes of packed data.", "Export it again.")
        return (path.parent / named if named else path), None
    if named is None:
        return path, header.end + before
    return path.parent / named, before


def _axes(header: NrrdHeader, sizes: tuple[int, ...], name: str) -> _Axes:
    directions = header.fields.get("space directions")
    if directions is None:
        return _by_spacing(header, sizes, name)
    space = header.fields.get("space", "").lower()
    steps = _vectors(directions, name)
    if len(steps) != len(sizes):
        raise DataError(
            f"The header of {name} gives {len(steps)} directions for {len(sizes)} axes.", "Export it again."
        )
    units = header.words("space units")
    unit = units[0] if units else ""
    factor = unit_in_mm(unit, name)
    notes = list(unit_notes(factor, unit))
    short = space.removesuffix("-time").removesuffix("t") if space.endswith(("-time", "t")) else space
    signs = np.array(_SPACES.get(short, tuple(LPS_TO_RAS)))
    if short not in _SPACES:
        said = f"only says {space}" if space else "does not say which way they point"
        notes.append(f"The file gives directions but {said}; left, posterior, superior (LPS) were assumed.")
    found = _vectors(header.fields.get("space origin", ""), name)
    origin = found[0] if found and found[0] is not None else None
    if origin is None:
        notes.append("The file does not say where its first voxel lies; the origin was assumed.")
        origin = np.zeros(3)
    return _Axes(
        tuple(None if step is None else factor * step for step in _of_space(steps, header, name)),
        factor * _three(origin, name),
        signs,
        tuple(notes),
        short if short in _SPACES else "left-posterior-superior",
    )


def _of_space(
    steps: list[NDArray[np.float64] | None], header: NrrdHeader, name: str
) -> list[NDArray[np.float64] | None]:
    """Return 3D steps; a step along the fourth direction of a 4D space is none of space."""
    kinds = header.words("kinds")
    result: list[NDArray[np.float64] | None] = []
    for i, step in enumerate(steps):
        kind = kinds[i].lower() if i < len(kinds) else ""
        only_fourth = step is not None and len(step) == 4 and not step[:3].any()
        result.append(None if step is None or only_fourth or kind == "time" else _three(step, name))
    return result


def _three(vector: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if len(vector) in (3, 4) and not vector[3:].any():
        return vector[:3]
    raise DataError(
        f"The header of {name} gives directions of {len(vector)} numbers; a place has three.",
        "Export it as a volume.",
    )


def _by_spacing(header: NrrdHeader, sizes: tuple[int, ...], name: str) -> _Axes:
    """Return the axes of a file that has no directions: along LPS, with its spacings."""
    kinds = [kind.lower() for kind in header.words("kinds")]
    apart = {i for i, kind in enumerate(kinds) if kind in _NOT_SPACE or "-" in kind or "matrix" in kind}
    inside = [i for i in range(len(sizes)) if i not in apart][:3]
    spacings = header.words("spacings") or ["nan"] * len(sizes)
    if len(spacings) != len(sizes):
        raise DataError(
            f"The header of {name} gives {len(spacings)} spacings for {len(sizes)} axes.", "Export it again."
        )
    notes = ["The file does not say where it lies; left, posterior, superior (LPS) were assumed."]
    steps: list[NDArray[np.float64] | None] = [None] * len(sizes)
    unknown = False
    for k, i in enumerate(inside):
        size = _number(spacings[i], name)
        unknown |= not np.isfinite(size)
        step = np.zeros(3)
        step[k] = abs(size) if np.isfinite(size) else 1.0
        steps[i] = step
    if unknown:
        notes.append("The file does not give its spacing; 1 mm was assumed.")
    return _Axes(tuple(steps), np.zeros(3), LPS_TO_RAS, tuple(notes), "left-posterior-superior")


def _vectors(text: str, name: str) -> list[NDArray[np.float64] | None]:
    """Return the vectors of a field such as "(1,0,0) (0,1,0) none"."""
    found: list[NDArray[np.float64] | None] = []
    for inner, word in re.findall(r"\(([^()]*)\)|(\S+)", text):
        if word:
            if word.lower() != "none":
                raise DataError(f"The header of {name} has a vector that is none.", "Export it again.")
            found.append(None)
        else:
            numbers = np.array([_number(part, name) for part in inner.split(",")])
            found.append(None if np.isnan(numbers).all() else numbers)
    return found


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"The header of {name} holds {text.strip()[:20]!r} where a number belongs.", "Export it again."
        ) from error
