"""Reading DICOM: one volume from a folder, a zip archive or a file; its voxels are read when they are needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom import files
from segexplorer.data.formats.dicom.header import Header
from segexplorer.data.formats.dicom.pixels import StackVoxels, narrowest_type
from segexplorer.data.formats.dicom.rtstruct import read_contours, read_structures
from segexplorer.data.formats.dicom.seg import contents_of, read_seg
from segexplorer.data.formats.dicom.segments import Segments
from segexplorer.data.formats.dicom.series import Series, choose
from segexplorer.data.formats.dicom.stack import Stack
from segexplorer.data.formats.voxels import as_labels
from segexplorer.data.geometry import HasGrid
from segexplorer.data.volume import Modality, Provenance, Select, Volume

_MODALITIES: dict[str, Modality] = {"CT": "CT", "MR": "MR"}


def read_dicom(
    path: Path, *, label: bool = False, select: Select = None, like: HasGrid | None = None
) -> Volume:
    """Read the headers of a series and return a lazy volume.

    Voxels are indexed (column, row, slice), slices along their normal; rescaled, so that a CT is in HU.

    Parameters
    ----------
    path
        A folder (subfolders included), a zip archive, or one file.
    label
        Whether a label is wanted: a DICOM SEG, an RTSTRUCT, or an image series that holds labels.
    select
        Which series, by its number in `list_series`; of segments or structures also which, by name or number in the
        order in which the later one counts, e.g. "liver, spleen" or "2: liver, spleen".
    like
        The image that a DICOM SEG or RTSTRUCT belongs to; it is brought onto that grid.

    Raises
    ------
    DataError
        For anything but one volume: what is wrong and what to do.
    """
    number, names = split_select(select)
    series = choose(path, label=label, select=number)
    if series.kind in ("segmentation", "structures"):
        return _segments(series, path, like).label(names)
    if names:
        raise DataError(
            f"{path.name} is an image; it has no segments to choose from.", "Give the number of a series."
        )
    if series.problem is not None:
        raise series.problem
    return image_volume(series, path, label=label)


def read_segments(path: Path, *, like: HasGrid | None = None, select: int | None = None) -> Segments:
    """Return the segments of a DICOM SEG or the structures of an RTSTRUCT one by one, overlaps kept.

    Parameters
    ----------
    path, select, like
        As for `read_dicom`; an RTSTRUCT needs `like`.

    Raises
    ------
    DataError
        When there are none, or they are damaged.
    """
    return _segments(choose(path, label=True, select=select), path, like)


def names_of(series: Series) -> dict[int, str]:
    """Return value -> name of the segments or structures of a listed series; empty for images.

    Raises
    ------
    DataError
        When its list of segments is damaged.
    """
    header = series.headers[0]
    if series.kind == "segmentation":
        return dict(contents_of(header).names)
    if series.kind == "structures":
        return {value: structure.name for value, structure in read_contours(header).items()}
    return {}


def _segments(series: Series, path: Path, like: HasGrid | None) -> Segments:
    header = series.headers[0]
    if series.kind == "segmentation":
        return _with_frame_note(read_seg(header, path, like=like), header, like)
    if series.kind != "structures":
        raise DataError(f"{path.name} holds no segments.", "Name a DICOM SEG or RTSTRUCT file.")
    if like is None:
        raise DataError(
            f"{path.name} holds contours (RTSTRUCT), which have no voxels of their own.",
            "Open it as the label of its image.",
        )
    return _with_frame_note(read_structures(header, path, like), header, like)


def _with_frame_note(segments: Segments, header: Header, like: HasGrid | None) -> Segments:
    """Return the segments, with a note if they name another frame of reference than the image."""
    known = like.provenance.header.get("dicom", {}).get("space") if isinstance(like, Volume) else ""
    if not known or not header.space or known == header.space:
        return segments
    note = "It names another frame of reference than the image; check that the two belong together."
    origin = replace(segments.provenance, notes=(*segments.provenance.notes, note))
    return replace(segments, provenance=origin)


def image_volume(series: Series, path: Path, *, label: bool = False) -> Volume:
    """Return the lazy volume of an image series.

    Raises
    ------
    DataError
        When its slices form no grid, or it is too large.
    """
    stack = series.stack()
    _check_limit(stack, path)
    notes = stack.notes
    if path.is_file() and len(stack.frames) == 1 and len(series.headers) == 1:
        notes = (*notes, "This is one slice; name its folder to open the whole series.")
    facts = {"dicom": {"path": str(path), "series": series.number, "space": series.headers[0].space}}
    modality = "unknown" if label else _MODALITIES.get(series.modality)
    load = _LabelVoxels(StackVoxels(stack), path.name) if label else StackVoxels(stack)
    return Volume(
        stack.shape,
        stack.affine,
        load=load,
        modality=modality,
        provenance=Provenance(path, "DICOM", notes, facts),
    )


def split_select(select: Select) -> tuple[int | None, tuple[str, ...]]:
    """Return the number of a series and the names of segments that a `select` holds.

    `2`, `"2"`, `"liver, spleen"` and `"2: liver, spleen"` are understood.
    """
    if select is None or isinstance(select, int):
        return select, ()
    first, colon, rest = select.partition(":")
    if colon and first.strip().isdigit():
        return int(first), _names(rest)
    if select.strip().isdigit():
        return int(select), ()
    return None, _names(select)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _check_limit(stack: Stack, path: Path) -> None:
    columns, rows, slices = stack.shape
    size = columns * rows * slices * narrowest_type(stack.frames).itemsize
    limit = files.MAX_BYTES
    if size > limit:
        raise DataError(
            f"{path.name} holds {size / 2**30:.0f} GiB of voxels; the limit is {limit / 2**30:.0f} GiB.",
            "Crop or resample it first.",
        )


@dataclass(frozen=True)
class _LabelVoxels:
    """Reads the voxels of a stack as whole numbers; picklable."""

    load: StackVoxels
    name: str

    def __call__(self) -> NDArray[Any]:
        return as_labels(self.load(), self.name)
