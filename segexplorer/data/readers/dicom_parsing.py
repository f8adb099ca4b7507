"""One DICOM file through pydicom, quietly: no warning repeats a value, and only the tags asked for are read."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from segexplorer.core.errors import DataError
from segexplorer.data.readers.dicom_files import BROKEN, Opener, Place, looks_like_dicom

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
"""What pydicom raises on bytes that are not DICOM, beside its own errors."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEAD = 4096
_PIXELS = {0x7FE00010: "", 0x7FE00008: "f4", 0x7FE00009: "f8"}
_LONG_FORM = {"OB", "OW", "OF", "OD", "UN", "OL", "OV"}
_lock = threading.RLock()


@contextmanager
def quiet() -> Iterator[Any]:
    """Give pydicom with its warnings off: they repeat values, which may be a patient's."""
    import pydicom

    with _lock, warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield pydicom


@contextmanager
def reading(message: str, remedy: str = "Copy or export it again.") -> Iterator[Any]:
    """Give pydicom quietly; whatever it raises on damaged bytes becomes one sentence.

    Raises
    ------
    DataError
        With this message; its own errors pass.
    """
    with quiet() as pydicom:
        try:
            yield pydicom
        except DataError:
            raise
        except (*UNREADABLE, pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException) as error:
            raise DataError(message, remedy) from error


class _Bounded:
    """A file that never makes room for more bytes than it has, whatever length a header claims."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._read, self._size = file.read, size
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """Read as a file does."""
        return self._read(min(count, self._size))


def parse(
    place: Place, opener: Opener, wanted: Sequence[str] | None
) -> tuple[Any, tuple[int, int, int, str]] | None:
    """Read the data set of a file up to its pixels; None when it is not DICOM.

    Parameters
    ----------
    wanted
        Keywords that are read; None reads all, the patient module included.

    Returns
    -------
    The data set, and of the pixel element: begin, begin and length of its value, type of float pixels.

    Raises
    ------
    DataError
        When it begins as DICOM and cannot be read on.
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
                f"{place.name} is stored deflated as a whole, which is not read.",
                "Convert it, e.g. with dcmconv +te of DCMTK.",
            )
        file.seek(0)
        tags = None if wanted is None else [pydicom.tag.Tag(word) for word in wanted]
        bounded = _Bounded(file, place.size)
        data = pydicom.filereader.read_partial(bounded, stop, force=True, specific_tags=tags)
        begin = file.tell()
    if not pixels:
        return data, (begin, begin, 0, "")
    tag, vr, length = pixels[0]
    value = begin + (12 if vr in _LONG_FORM else 8)
    return data, (begin, value, -1 if length == 0xFFFFFFFF else length, _PIXELS[tag])
