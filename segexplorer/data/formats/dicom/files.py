"""DICOM files: where they are, how one is parsed, and whose they are.

A file is found on the disk, in a folder with its subfolders, or in a zip archive, which is never unpacked. It is
parsed by pydicom, quietly: warnings are off, since they repeat values, and only the elements asked for are read.
Cases of one patient are recognised by a salted hash of the patient number, which itself is never kept.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Self

from segexplorer.core.errors import DataError

MAX_FILES = 200_000
"""Most files that are looked at in one folder or archive."""
MAX_BYTES = 16 * 2**30
"""Largest series that is read, as stored; also the most that the members of one archive may unpack to."""
MAX_RATIO = 1032
"""The highest ratio that deflate reaches; a member that claims more is a bomb."""
BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, ValueError)
"""What opening or reading a damaged file or member raises."""
UNREADABLE = (
    *BROKEN,
    AttributeError,
    KeyError,
    TypeError,
    IndexError,
    struct.error,
    ArithmeticError,
    AssertionError,
    MemoryError,
)
"""What pydicom raises on bytes that are not DICOM, besides its own errors."""

# --- where files are ---


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
    """Opens files one after another; a context manager, since it keeps an archive open between its members."""

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
            When it no longer exists.
        """
        if not place.member:
            return place.path.open("rb")
        if place.path not in self._archives:
            self._archives[place.path] = zipfile.ZipFile(place.path)
        return self._archives[place.path].open(place.member)


def is_archive(path: Path) -> bool:
    """Whether a path names a zip archive."""
    return path.suffix.lower() == ".zip"


def find(path: Path) -> Iterator[Place]:
    """Yield every file of a folder (with its subfolders) or archive that may be DICOM, or the file itself.

    Hidden files and those that macOS adds are skipped.

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
            except OSError:  # a link to nowhere
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
            f"{path.name} would unpack to more than {MAX_BYTES / 2**30:.0f} GiB.",
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
                f"{path.name} holds a file that claims to unpack to more than {MAX_RATIO} times its size.",
                "Do not trust it; ask for it again.",
            )
        yield Place(path, info.filename, info.file_size)


# --- parsing ---

_BEGINNINGS = (
    b"\x02\x00\x00\x00",
    b"\x08\x00\x00\x00",
    b"\x08\x00\x05\x00",
    b"\x08\x00\x08\x00",
    b"\x08\x00\x16\x00",
)
"""The first tag of old files without preamble: group 2 or 8, little endian."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEAD = 4096
_PIXELS = {0x7FE00010: 0, 0x7FE00008: 32, 0x7FE00009: 64}
"""Tags of the pixel element, and the bits of its floating-point numbers; 0 for integers."""
_LONG_FORM = {"OB", "OW", "OF", "OD", "UN", "OL", "OV"}
"""Explicit types whose length has four bytes after two reserved ones, not two (PS3.5, 7.1.2)."""
_lock = threading.RLock()


@dataclass(frozen=True)
class PixelElement:
    """Where the value of the pixel element is in its file.

    Attributes
    ----------
    offset, length
        Bytes; length -1 where the value is a sequence of compressed fragments.
    float_bits
        32 or 64 for floating-point numbers, 0 for integers.
    """

    offset: int
    length: int
    float_bits: int


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a DICOM file, with or without the 128-byte preamble."""
    return head[128:132] == b"DICM" or head[:4] in _BEGINNINGS


@contextmanager
def quiet() -> Iterator[Any]:
    """Yield pydicom with its warnings and its log off: they repeat values, which may be a patient's."""
    import pydicom

    # filters of warnings belong to the process, so that one thread at a time may change them
    with _lock, warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        log, propagates = pydicom.config.logger, pydicom.config.logger.propagate
        log.propagate = False
        try:
            yield pydicom
        finally:
            log.propagate = propagates


@contextmanager
def reading(message: str, remedy: str = "Copy or export it again.") -> Iterator[Any]:
    """Yield pydicom quietly; whatever it raises on damaged bytes becomes one sentence.

    Raises
    ------
    DataError
        With this message; a `DataError` from inside passes unchanged.
    """
    with quiet() as pydicom:
        try:
            yield pydicom
        except DataError:
            raise
        except (*UNREADABLE, pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException) as error:
            raise DataError(message, remedy) from error


class _Bounded:
    """A file that never allocates more bytes than it has, whatever length a header claims."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._read, self._size = file.read, size
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """Read as a file does."""
        return self._read(min(count, self._size))


def parse(
    place: Place, opener: Opener, wanted: Sequence[str] | None
) -> tuple[Any, PixelElement | None] | None:
    """Return the data set of a file up to its pixels, and where those are; None when it is not DICOM.

    Parameters
    ----------
    wanted
        Keywords of the elements that are read; None reads all, the patient module included.

    Raises
    ------
    DataError
        When the file begins as DICOM but is damaged.
    """
    pixels: list[tuple[int, str | None, int]] = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            pixels.append((int(tag), vr, length))
        elif length != 0xFFFFFFFF and length > place.size:
            raise EOFError
        return bool(pixels)

    with reading(f"{place.name} is not a readable DICOM file.") as pydicom, opener.open(place) as file:
        head = file.read(_HEAD)
        if not looks_like_dicom(head):
            return None
        if _DEFLATED in head[:1024]:
            raise DataError(
                f"{place.name} is deflated as a whole, and such files are not read.",
                "Convert it, e.g. with dcmconv +te of DCMTK.",
            )
        file.seek(0)
        tags = None if wanted is None else [pydicom.tag.Tag(word) for word in wanted]
        bounded = _Bounded(file, place.size)
        data = pydicom.filereader.read_partial(bounded, stop, force=True, specific_tags=tags)
        begin = file.tell()
    if not pixels:
        return data, None
    tag, vr, length = pixels[0]
    offset = begin + (12 if vr in _LONG_FORM else 8)
    return data, PixelElement(offset, -1 if length == 0xFFFFFFFF else length, _PIXELS[tag])


# --- patients ---


_SALT = secrets.token_bytes(32)
"""New in every process, so that keys reveal nothing elsewhere: a short number could be guessed from a bare hash."""


def patient_key(path: Path, salt: bytes = _SALT) -> str:
    """Return a key that is equal for files of one patient (PatientID and its issuer); "" where no patient is named.

    Parameters
    ----------
    path
        A folder, archive or file; its first DICOM file decides.
    salt
        Keys with the same salt can be compared; by default those of one process.

    Raises
    ------
    DataError
        When there is no readable DICOM file.
    """
    with Opener() as opener:
        for place in find(path):
            parsed = parse(place, opener, ("PatientID", "IssuerOfPatientID"))
            if parsed is None:
                continue
            with reading(f"The patient number in {place.name} is damaged."):
                number = str(parsed[0].get("PatientID") or "").strip()
                issuer = str(parsed[0].get("IssuerOfPatientID") or "").strip()
            text = f"{issuer}\0{number}".encode()
            return hmac.new(salt, text, hashlib.sha256).hexdigest()[:16] if number else ""
    raise DataError(f"{path.name} holds no DICOM file.", "Name the folder of a series.")
