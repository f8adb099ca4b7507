"""Readers and writers by suffix: a table of plain functions from a path to a `Volume` and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """One file format; its functions are imported at first use.

    Attributes
    ----------
    name
        As users call it.
    suffixes
        Of the files that are read, small letters; the longest that fits a name decides.
    reader
        "module:function" in this package: `(path, *, label, select) -> Volume`. It reads the header, leaves the
        voxels for later and raises `DataError` in one sentence.
    writer, writes
        "module:function": `(volume, path, *, integer) -> Path`, and the suffixes it writes.
    library
        What reads it, for the table in the documentation.
    named
        Whether the writer also takes `names` (label value -> name), for the format has a place for them.
    like
        Whether the reader also takes `like`, the grid of the image that a label belongs to.
    folders
        Whether a folder is one volume or several of this format.
    magic
        (offset, bytes) that identify a file whose suffix nobody knows.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: str
    writer: str = ""
    writes: tuple[str, ...] = ()
    library: str = "own"
    named: bool = False
    like: bool = False
    folders: bool = False
    magic: tuple[int, bytes] | None = None


FORMATS: tuple[Format, ...] = (
    Format(
        "NIfTI",
        (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz"),
        "nifti:read_nifti",
        "nifti:write_nifti",
        (".nii", ".nii.gz"),
        "nibabel",
    ),
    Format(
        "NRRD",
        (".nrrd", ".nhdr", ".seg.nrrd"),
        "nrrd:read_nrrd",
        "nrrd:write_nrrd",
        (".nrrd", ".seg.nrrd"),
        named=True,
    ),
    Format(
        "MetaImage",
        (".mha", ".mhd"),
        "meta_image:read_meta_image",
        "meta_image:write_meta_image",
        (".mha",),
    ),
    Format("MGH", (".mgz", ".mgh", ".mgh.gz"), "mgh:read_mgz", library="nibabel (header)"),
    Format(
        "picture",
        (".png", ".jpg", ".jpeg", ".tif", ".tiff"),
        "pictures:read_picture",
        library="Pillow, tifffile",
    ),
    Format(
        "DICOM",
        (".dcm", ".dicom", ".ima", ".zip"),
        "dicom.reader:read_dicom",
        "dicom.seg:write_seg",
        (".dcm",),
        "pydicom, SimpleITK, Pillow, highdicom",
        named=True,
        like=True,
        folders=True,
        magic=(128, b"DICM"),
    ),
)
"""Every format that is read or written."""


def format_of(path: Path) -> Format | None:
    """Return the format of a file by its name, or by its first bytes when the name says nothing."""
    suffix = suffix_of(path)
    for known in FORMATS:
        if suffix in known.suffixes:
            return known
    return next((known for known in FORMATS if known.magic and _starts_like(path, *known.magic)), None)


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format, e.g. ".nii.gz"; of an unknown one the last part."""
    name = path.name.lower()
    fits = [suffix for suffix in (*readable_suffixes(), *writable_suffixes()) if name.endswith(suffix)]
    return max(fits, key=len, default=path.suffix.lower())


def readable_suffixes() -> tuple[str, ...]:
    """Return every suffix that a reader knows."""
    return tuple(suffix for known in FORMATS for suffix in known.suffixes)


def writable_suffixes() -> tuple[str, ...]:
    """Return every suffix that a writer knows."""
    return tuple(suffix for known in FORMATS for suffix in known.writes)


def readable(path: Path) -> bool:
    """Whether a reader knows a file's name (or its first bytes)."""
    return format_of(path) is not None


def _starts_like(path: Path, offset: int, expected: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(len(expected)) == expected
    except OSError:
        return False
