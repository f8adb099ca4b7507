"""File formats: which function reads a file, which one writes it, and how the format is recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import DataError
from segexplorer.core.registry import Declarations

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format.

    Attributes
    ----------
    name
        As users call it.
    suffixes
        Of the files that are read, in lower case; the longest one that a file name ends with decides.
    reader
        `(path, *, label, select) -> Volume`. It reads the header, leaves the voxels for later, and raises
        `DataError` for a file that it cannot read. None where the format is only written.
    writer, writes
        `(volume, path, *, integer) -> Path`, and the suffixes that it writes.
    library
        What reads it, for the table in the documentation.
    named
        Whether the writer also takes `names` (label value -> name), because files have a place for them.
    like
        Whether the reader also takes `like`, the image whose grid a label belongs to.
    folders
        Whether a folder is one volume, or several, of this format.
    picture
        Whether the files are everyday pictures, which other programs open as well.
    beside
        `(path) -> files` that hold a part of the volume besides the named file, as voxels beside a header. It may
        raise `DataError`. None where a file is always whole.
    magic
        (offset, bytes) by which a file is recognised when its suffix is unknown.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    reader: Callable[..., Volume] | None = None
    writer: Callable[..., Path] | None = None
    writes: tuple[str, ...] = ()
    library: str = "own"
    named: bool = False
    like: bool = False
    folders: bool = False
    picture: bool = False
    beside: Callable[[Path], tuple[Path, ...]] | None = None
    magic: tuple[int, bytes] | None = None

    @property
    def title(self) -> str:
        """What people call it: its name."""
        return self.name

    @property
    def summary(self) -> str:
        """Which files are read and written."""
        parts = (("reads", self.suffixes), ("writes", self.writes))
        return ", ".join(f"{verb} {' '.join(suffixes)}" for verb, suffixes in parts if suffixes)

    def facts(self) -> Mapping[str, Any]:
        """Return all that the format declares."""
        return {
            "name": self.name,
            "title": self.title,
            "reads": list(self.suffixes),
            "writes": list(self.writes),
            "label names": "kept" if self.named else "left out",
            "folders": "read" if self.folders else "",
            "library": self.library,
        }


class FormatRegistry(Declarations[Format]):
    """The file formats; a suffix is read by one of them and written by one."""

    def _check(self, member: Format) -> None:
        for known in self._known():
            claims = (member.suffixes, known.suffixes, "read"), (member.writes, known.writes, "written")
            for suffixes, taken, verb in claims:
                if known.name != member.name and (shared := set(suffixes) & set(taken)):
                    raise TypeError(
                        f"{', '.join(sorted(shared))} is {verb} by the format {known.name} already"
                    )


formats = FormatRegistry("formats", "file format")
"""Every format that is read or written; each is declared in the file that holds its reader."""


def format_of(path: Path) -> Format | None:
    """Return the format of a file by its name, or by its first bytes when its suffix is unknown."""
    suffix = suffix_of(path)
    for known in formats.values():
        if suffix in known.suffixes:
            return known
    return next(
        (known for known in formats.values() if known.magic and _starts_with(path, *known.magic)), None
    )


def files_of_volume(path: Path) -> tuple[Path, ...]:
    """Return a file and those beside it that hold a part of its volume, e.g. the voxels of a header (.mhd)."""
    suffix = suffix_of(path)
    known = next((known for known in formats.values() if suffix in known.suffixes), None)
    if known is None or known.beside is None:
        return (path,)
    try:
        return (path, *known.beside(path))
    except (DataError, OSError):  # which reading it will say
        return (path,)


def suffix_of(path: Path) -> str:
    """Return the suffix that decides the format, e.g. ".nii.gz"; of an unknown one the last part."""
    name = path.name.lower()
    fits = [suffix for suffix in (*readable_suffixes(), *writable_suffixes()) if name.endswith(suffix)]
    return max(fits, key=len, default=path.suffix.lower())


def readable_suffixes() -> tuple[str, ...]:
    """Return every suffix that is read."""
    return tuple(suffix for known in formats.values() if known.reader for suffix in known.suffixes)


def writable_suffixes() -> tuple[str, ...]:
    """Return every suffix that is written."""
    return tuple(suffix for known in formats.values() for suffix in known.writes)


def readable(path: Path) -> bool:
    """Whether a file is of a known format, by its name or its first bytes."""
    return format_of(path) is not None


def _starts_with(path: Path, offset: int, expected: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(len(expected)) == expected
    except OSError:
        return False
