"""Where DICOM files lie: a file, a folder with folders in it, or a zip archive, which is never unpacked."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from segexplorer.core.errors import DataError

MAX_FILES = 200_000
"""Most files that are looked at in one folder or archive."""
MAX_BYTES = 16 * 2**30
"""Largest series that is read, as stored; also the most that the members of one archive may unfold to."""
MAX_RATIO = 1032
"""Deflate cannot do better; a member that claims more is a bomb."""
_MAGIC_AT = 128
_BARE = (
    b"\x02\x00\x00\x00",
    b"\x08\x00\x00\x00",
    b"\x08\x00\x05\x00",
    b"\x08\x00\x08\x00",
    b"\x08\x00\x16\x00",
)
"""How old files without preamble begin: group 2 or 8, little endian."""


@dataclass(frozen=True, order=True)
class Place:
    """One DICOM file: on the disk, or a member of an archive."""

    path: Path
    member: str = ""
    size: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """Its own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name


class Opener:
    """Opens places one after the other; a context, because it keeps an archive open between its members."""

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._archives.values():
            archive.close()

    def open(self, place: Place) -> IO[bytes]:
        """Return the file, to be closed by the caller.

        Raises
        ------
        OSError, zipfile.BadZipFile
            When it is not there any more.
        """
        if not place.member:
            return place.path.open("rb")
        if place.path not in self._archives:
            self._archives[place.path] = zipfile.ZipFile(place.path)
        return self._archives[place.path].open(place.member)


BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, ValueError)
"""What opening or reading a damaged file or member raises."""


def is_archive(path: Path) -> bool:
    """Whether a path names a zip archive."""
    return path.suffix.lower() == ".zip"


def find(path: Path) -> Iterator[Place]:
    """Yield every file of a folder (with its subfolders) or archive that may be DICOM; or the file itself.

    Hidden files and those that macOS adds are left out.

    Raises
    ------
    DataError
        When an archive is broken, encrypted or a bomb, or there are too many files.
    """
    if is_archive(path) and path.is_file():
        yield from _members(path)
    elif path.is_dir():
        yield from _walk(path)
    else:
        yield Place(path, "", path.stat().st_size)


def _walk(root: Path) -> Iterator[Place]:
    count = 0
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if name.startswith(".") or name.upper() == "DICOMDIR":
                continue
            count += 1
            if count > MAX_FILES:
                raise DataError(
                    f"{root.name} holds more than {MAX_FILES:,} files.", "Name the folder of one examination."
                )
            file = Path(folder, name)
            try:
                size = file.stat().st_size
            except OSError:  # a link to nowhere is no DICOM file
                continue
            yield Place(file, "", size)


def _members(path: Path) -> Iterator[Place]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable zip archive.", "Copy or download it again."
        ) from error
    if len(infos) > MAX_FILES:
        raise DataError(f"{path.name} holds more than {MAX_FILES:,} files.", "Pack one examination alone.")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise DataError(
            f"{path.name} would unfold to more than {MAX_BYTES / 2**30:.0f} GiB.",
            "Pack one examination alone.",
        )
    for info in sorted(infos, key=lambda info: info.filename):
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        name = parts[-1] if parts else ""
        if info.is_dir() or name.startswith(".") or "__MACOSX" in parts or name.upper() == "DICOMDIR":
            continue
        if ".." in parts or info.filename.startswith(("/", "\\")) or ":" in parts[0]:
            raise DataError(
                f"{path.name} holds a file that points out of the archive.",
                "Do not trust it; ask for it again.",
            )
        if info.flag_bits & 1:
            raise DataError(f"{path.name} is encrypted.", "Unpack it with its password and open the folder.")
        if info.file_size > MAX_RATIO * max(1, info.compress_size):
            raise DataError(
                f"{path.name} holds a file that claims to unfold more than {MAX_RATIO} times.",
                "Do not trust it; ask for it again.",
            )
        yield Place(path, info.filename, info.file_size)


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a DICOM file, with or without the 128-byte preamble."""
    return head[_MAGIC_AT : _MAGIC_AT + 4] == b"DICM" or head[:4] in _BARE
