"""The voxels of a file, shared by the readers: where they are, which of several volumes, and of which type.

`RawArray` is an array of a file (raw, packed or text), whose size is checked before anything is allocated and whose
checksum is verified. `choose_frame` picks one volume of a file with more than three axes. `to_store` gives the type
in which voxels are written.
"""

from __future__ import annotations

import bz2
import itertools
import math
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, shorten
from segexplorer.data.volume import Select

MAX_BYTES = 16 * 2**30
"""Largest volume that is read, as stored."""
MAX_RATIO = 1032
"""Deflate cannot do better than this; a header that claims more is wrong."""
Encoding = Literal["raw", "deflate", "bzip2", "text"]
_PIECE = 2**16
"""Bytes that are unpacked at once, packed: at most 66 MB unpacked."""
_MORE = 2**24
"""Bytes beyond the voxels up to which a checksum is looked for."""
# the stubs of isal call its class of errors an error
_DEFLATE_ERROR = cast(type[Exception], isal_zlib.error)
_BROKEN = (OSError, EOFError, _DEFLATE_ERROR, ValueError, OverflowError)


# --- arrays of a file ---


@dataclass(frozen=True)
class RawArray:
    """The values of an array in a file, not read yet.

    Attributes
    ----------
    path
        The file; of a detached header not the one that the user named.
    name
        What the user named, for sentences.
    offset
        Bytes before the values; None where the values end the file.
    encoding
        "deflate" is gzip or zlib.
    dtype
        As numpy writes it, byte order included, e.g. ">i2".
    shape
        Values along each axis, the fastest first.
    inner
        Bytes before the values in the unpacked stream.
    followed
        Whether other things may come after the values; else too much of them shows a wrong header.
    """

    path: Path
    name: str
    offset: int | None
    encoding: Encoding
    dtype: str
    shape: tuple[int, ...]
    inner: int = 0
    followed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all values, unpacked."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def check(self) -> None:
        """Compare what the header promises with a limit and with the file.

        Raises
        ------
        DataError
            When the file is missing, is none, or cannot hold as much; or when it is too large.
        """
        try:
            found = self.path.stat()
        except (OSError, ValueError) as error:
            own = self.path.name == self.name
            what = self.name if own else f"The data file {shorten(self.path.name)} of {self.name}"
            remedy = "Was it moved?" if own else "Keep the two files together."
            raise DataError(f"{what} is missing.", remedy) from error
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{self.name} names no file for its voxels.", "Export it again.")
        self._check_held(found.st_size - (self.offset or 0))
        if self.size > MAX_BYTES:
            raise DataError(
                f"{self.name} holds {self.size / 2**30:.0f} GiB of voxels; the limit is "
                f"{MAX_BYTES / 2**30:.0f} GiB.",
                "Crop or resample it first.",
            )

    def _check_held(self, held: int) -> None:
        count, least = math.prod(self.shape), ""
        if self.encoding == "raw":
            fits = held >= self.size
        elif self.encoding == "text":
            fits = held >= 2 * count - 1
        else:
            # nothing is known of bzip2, which packs a block of one value into next to nothing
            fits = held * MAX_RATIO >= self.size if self.encoding == "deflate" else held > 0
            least = "packed "
        if not fits:
            raise DataError(
                f"{self.name} is cut off: its header promises {self.size:,} bytes of voxels, "
                f"the file holds {max(held, 0):,} {least}bytes.",
                "Copy or download it again.",
            )

    def read(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Return `count` values from the `first` on, (count,), in native byte order.

        Raises
        ------
        DataError
            When the file is cut off or damaged, holds more than the header says, or does not fit into memory.
        """
        self.check()
        count = math.prod(self.shape) - first if count is None else count
        try:
            with self.path.open("rb") as file:
                return self._read(file, first, count)
        except DataError:
            raise
        except MemoryError as error:
            raise DataError(f"{self.name} does not fit into memory.", "Crop or resample it first.") from error
        except _BROKEN as error:
            what = (
                error.strerror if isinstance(error, OSError) and error.strerror else "its voxels are broken"
            )
            if isinstance(error, EOFError):
                what = "it ends too early"
            raise DataError(
                f"{self.name} is cut off or damaged ({what}).", "Copy or download it again."
            ) from error

    def _read(self, file: IO[bytes], first: int, count: int) -> NDArray[Any]:
        dtype = np.dtype(self.dtype)
        end = file.seek(0, 2)
        offset = end - self.size if self.offset is None else self.offset
        self._refuse_more(end - offset)
        file.seek(offset)
        if self.encoding == "text":
            return _from_text(file, dtype, math.prod(self.shape))[first : first + count]
        array = np.empty(count, dtype)
        wanted = array.view(np.uint8).data
        if self.encoding == "raw":
            file.seek(offset + first * dtype.itemsize)
            if file.readinto(wanted) != len(wanted):  # type: ignore[attr-defined]
                raise EOFError
        else:
            self._unpack(file, self.inner + first * dtype.itemsize, wanted)
        # swapped in place, for a second array would double the memory
        return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))

    def _refuse_more(self, held: int) -> None:
        """A file with a slice or more beyond what its header says has a wrong header."""
        slice_size = self.size // self.shape[-1]
        if self.encoding == "raw" and not self.followed and held - self.size >= max(slice_size, 2):
            raise self._too_much()

    def _too_much(self) -> DataError:
        return DataError(
            f"{self.name} holds more voxels than its header says ({self.size:,} bytes).",
            "Its header is damaged or belongs to another file; export it again.",
        )

    def _unpack(self, file: IO[bytes], skip: int, wanted: memoryview) -> None:
        """Fill `wanted` from byte `skip` of the unpacked stream on, and read on to its checksum."""
        pieces = _deflated(file) if self.encoding == "deflate" else _bunzipped(file)
        position, end = 0, self.inner + self.size
        for piece in pieces:
            start, stop = max(position, skip), min(position + len(piece), skip + len(wanted))
            if start < stop:
                wanted[start - skip : stop - skip] = piece[start - position : stop - position]
            position += len(piece)
            if position > end + _MORE:
                break
        if position < end:
            raise EOFError
        if not self.followed and position - end >= max(self.size // self.shape[-1], 2):
            raise self._too_much()


def _deflated(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a gzip or zlib stream, and gzip streams that follow it, in pieces; its checksum is verified."""
    rest = file.read(_PIECE)
    while rest:
        # twice as fast as zlib; 32 + 15 means either header
        unpacker = isal_zlib.decompressobj(wbits=47)
        while not unpacker.eof:
            if not rest:
                rest = file.read(_PIECE)
                if not rest:
                    raise EOFError
            # all of it, for what is left over for later would be copied each time
            piece = unpacker.decompress(rest)
            rest = b""
            if piece:
                yield piece
        rest = unpacker.unused_data
        if not rest.startswith(b"\x1f\x8b"):  # padding behind the stream
            return


def _bunzipped(file: IO[bytes]) -> Iterator[bytes]:
    unpacker = bz2.BZ2Decompressor()
    while not unpacker.eof:
        data = file.read(_PIECE) if unpacker.needs_input else b""
        if not data and unpacker.needs_input:
            raise EOFError
        piece = unpacker.decompress(data, _PIECE)
        if piece:
            yield piece


def _from_text(file: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    words = file.read().split()
    if len(words) < count:
        raise EOFError
    numbers = np.array(words[:count]).astype(np.float64 if dtype.kind == "f" else np.int64)
    return numbers.astype(dtype)


@dataclass(frozen=True)
class Frame:
    """Reads one volume out of a `RawArray`; picklable, so that a lazy volume is too.

    Attributes
    ----------
    index
        Of each stored axis: its position, or None where it is an axis of space.
    label
        Whether the voxels must be whole numbers.
    """

    stored: RawArray
    index: tuple[int | None, ...]
    label: bool

    def __call__(self) -> NDArray[Any]:
        shape = self.stored.shape
        space = tuple(n for n, i in zip(shape, self.index, strict=True) if i is None)
        behind = [i for i in self.index[len(space) :] if i is not None]
        if len(behind) == len(shape) - len(space):
            # the axes of space come first, so that the volume is one piece
            number = int(np.ravel_multi_index(behind, shape[len(space) :], order="F")) if behind else 0
            volume = self.stored.read(number * math.prod(space), math.prod(space)).reshape(space, order="F")
        else:
            everything = self.stored.read().reshape(shape, order="F")
            picked = everything[tuple(slice(None) if i is None else i for i in self.index)]
            volume = np.array(picked, order="F")
        while volume.ndim < 3:
            volume = volume[..., np.newaxis]
        return as_labels(volume, self.stored.name) if self.label else volume


def as_labels(array: NDArray[Any], name: str, within: float = 1e-3) -> NDArray[Any]:
    """Return label voxels as integers.

    Parameters
    ----------
    within
        How far a value may be from a whole number.

    Raises
    ------
    DataError
        When a value is no whole number, or too large for a label.
    """
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    rounded = np.rint(array)
    if not np.isfinite(array).all() or np.abs(array - rounded).max(initial=0) > within:
        raise DataError(
            f"{name} holds values that are no whole numbers, so it is not a label.",
            "Was the image chosen as its label? Probability maps need a threshold first.",
        )
    if rounded.size and (rounded.max() > 2**31 - 1 or rounded.min() < -(2**31)):
        raise DataError(f"{name} holds label values beyond 2 billion.", "Renumber its labels.")
    return np.asarray(rounded, dtype=np.int32)


# --- one volume of several ---


class SeveralVolumesError(DataError):
    """A file that holds several volumes, of which none was chosen.

    Attributes
    ----------
    counts
        How many there are along each axis beyond the three of space; lengths of 1 left out.
    """

    def __init__(self, message: str, remedy: str = "", counts: Sequence[int] = ()) -> None:
        super().__init__(message, remedy)
        self.counts = tuple(counts)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.remedy, self.counts)

    def choices(self) -> list[str]:
        """Return every `select` there is, the first axis fastest."""
        ranges = [range(n) for n in reversed(self.counts)]
        return [", ".join(str(i) for i in reversed(index)) for index in itertools.product(*ranges)]


def choose_frame(extra: Sequence[int], select: Select, name: str) -> tuple[int, ...]:
    """Return the index along each axis beyond the three of space.

    Parameters
    ----------
    extra
        Lengths of these axes; those of length 1 need no choice.
    select
        A number from 0, or for several axes one number each, e.g. "2, 0"; see `open_volume`.

    Raises
    ------
    SeveralVolumesError
        When there is a choice and none was made.
    DataError
        When the choice is none of those.
    """
    several = [n for n in extra if n > 1]
    if select is None:
        if not several:
            return (0,) * len(extra)
        count = math.prod(several)
        what = (
            f"holds {count} volumes" if len(several) == 1 else f"has {3 + len(extra)} axes, {count} volumes"
        )
        text = f"{name} {what}; a single 3D volume is needed."
        raise SeveralVolumesError(text, how_to_choose(several), several)
    chosen = _numbers(select)
    wanted = [n for n in extra if n > 1] if len(chosen) == len(several) else list(extra)
    if not wanted and chosen == [0]:
        return (0,) * len(extra)
    if (
        not chosen
        or len(chosen) != len(wanted)
        or any(not 0 <= index < n for index, n in zip(chosen, wanted, strict=False))
    ):
        remedy = how_to_choose(several) if several else "It holds one volume; choose nothing."
        raise DataError(f"{name} has no frame {select}.", remedy)
    if len(wanted) == len(extra):
        return tuple(chosen)
    rest = iter(chosen)
    return tuple(next(rest) if n > 1 else 0 for n in extra)


def how_to_choose(several: Sequence[int]) -> str:
    """Return the remedy: which numbers there are and how one is given."""
    ranges = " and ".join(f"from 0 to {n - 1}" for n in several)
    example = ", ".join("0" for _ in several)
    given = example if len(several) == 1 else f'"{example}"'
    return f"Choose one by its number, {ranges}, with select={given} or --select {given}."


def _numbers(select: int | str) -> list[int]:
    if isinstance(select, int):
        return [select]
    parts = select.split(",")
    return [int(part) for part in parts] if all(part.strip().isdecimal() for part in parts) else []


# --- types that are written ---


def smallest_integers(array: NDArray[Any]) -> NDArray[Any]:
    """Return label values in the smallest integer type that programs read.

    Raises
    ------
    DataError
        When a value is no whole number, or too large.
    """
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise DataError(
            "The voxels to be written as labels are not all whole numbers.",
            "Save them as an image, or threshold them first.",
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return array.astype(kind, copy=False)
    raise DataError(f"Label values from {low} to {high} do not fit a label.", "Renumber the labels.")


def storable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a type that image formats have and programs read.

    Raises
    ------
    DataError
        When the voxels are no numbers.
    """
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        info = np.iinfo(np.int32)
        if info.min <= int(array.min()) and int(array.max()) <= info.max:
            return array.astype(np.int32)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise DataError(
            f"Voxels of type {array.dtype} cannot be stored in an image file.", "Convert them to numbers."
        )
    return array


def to_store(array: NDArray[Any], *, integer: bool) -> NDArray[Any]:
    """Return the voxels as they are written: labels as small as they can be, images as they are."""
    return smallest_integers(array) if integer else storable(array)
