"""The voxels of DICOM frames: read straight from the file where they are not compressed, else through SimpleITK.

SimpleITK (GDCM) decodes JPEG, JPEG-LS, JPEG 2000 and RLE. It is given a small file of its own, with the pixel
element and what describes it: so it returns the values as stored and knows no patient, and all are rescaled alike.

Compressed pixels are looked through before a decoder sees them, which trusts lengths and may take long.

A compressed pixel element is a row of fragments, each with its length (DICOM PS3.5, A.4). JPEG, JPEG-LS and
JPEG 2000 begin with the size of their picture; run lengths (PS3.5, G) make at most 64 bytes of one.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom.files import BROKEN, Opener, Place
from segexplorer.data.formats.dicom.header import BIG_ENDIAN, Encoding, Frame
from segexplorer.data.formats.dicom.stack import Mix, Stack


@dataclass(frozen=True)
class StackVoxels:
    """Reads the voxels of a stack; picklable, so that a lazy volume is too."""

    stack: Stack

    def __call__(self) -> NDArray[Any]:
        """Return (columns, rows, slices), rescaled, in the smallest type that holds every value exactly.

        Raises
        ------
        DataError
            When a file is gone, cut off or damaged.
        """
        try:
            return self._read()
        except MemoryError as error:
            raise DataError("The series does not fit into memory.", "Crop or resample it first.") from error

    def _read(self) -> NDArray[Any]:
        columns, rows, count = self.stack.shape
        frames, mixes = self.stack.frames, self.stack.mixes
        kept = {mix.first: k for k, mix in enumerate(mixes) if mix.weight == 0}
        # frames that only serve to interpolate others stand behind the volume
        at = kept | {i: count + n for n, i in enumerate(i for i in range(len(frames)) if i not in kept)}
        out = np.empty((max(at.values()) + 1, rows, columns), narrowest_type(frames))
        for i, raw in read_frames(frames):
            if out.dtype.kind == "i":
                out = _widened(out, _bounds(raw, frames[i]))
            _rescale(raw, frames[i], out[at[i]])
        for k, mix in enumerate(mixes):
            if mix.weight:
                _blend(mix, out[at[mix.first]], out[at[mix.second]], out[k])
        return out[:count].transpose(2, 1, 0)


def _blend(mix: Mix, first: NDArray[Any], second: NDArray[Any], out: NDArray[Any]) -> None:
    mixed = (1 - mix.weight) * first.astype(np.float64) + mix.weight * second
    out[...] = mixed if out.dtype.kind == "f" else np.rint(mixed)


def narrowest_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    """Return the type to begin with: floating where rescaling asks for it, else narrow until a value needs more."""
    encodings = {frame.encoding for frame in frames}
    bits = max(encoding.stored for encoding in encodings)
    whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    if not whole or any(encoding.kind for encoding in encodings):
        return np.dtype(np.float64 if bits > 16 else np.float32)
    if bits <= 8 and all((f.slope, f.intercept, f.encoding.signed) == (1, 0, False) for f in frames):
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if bits <= 16 else np.int32)


def _bounds(raw: NDArray[Any], frame: Frame) -> tuple[float, float]:
    """Return the lowest and highest value of a slice after rescaling."""
    ends = [int(raw.min()), int(raw.max())]
    if frame.encoding.photometric == "MONOCHROME1":
        ends = [_turned(frame.encoding) - v for v in ends]
    values = [frame.slope * v + frame.intercept for v in ends]
    return min(values), max(values)


def _widened(out: NDArray[Any], bounds: tuple[float, float]) -> NDArray[Any]:
    """Return the array, in a wider integer type where its own does not hold the bounds."""
    for kind in (out.dtype, np.dtype(np.int32), np.dtype(np.int64)):
        info = np.iinfo(kind)
        if info.min <= bounds[0] and bounds[1] <= info.max:
            return out.astype(kind, copy=False)
    return out.astype(np.float64)


def _turned(encoding: Encoding) -> int:
    """Return what a stored value and its MONOCHROME1 counterpart add up to."""
    return -1 if encoding.signed else (1 << encoding.stored) - 1


def _rescale(raw: NDArray[Any], frame: Frame, out: NDArray[Any]) -> None:
    """Write `slope * stored + intercept`; MONOCHROME1 is turned over first, so that bright is high."""
    encoding = frame.encoding
    if encoding.photometric == "MONOCHROME1" and not encoding.kind:
        raw = _turned(encoding) - raw.astype(np.int64)
    if frame.slope == 1 and raw.dtype.kind in "iu" and raw.dtype.itemsize == out.dtype.itemsize == 2:
        # the sum fits, and integers wrap: the same bits as in a wider type, in a third of the time
        shift = np.array(int(frame.intercept) % 2**16, np.uint16).view(out.dtype)[()]
        np.add(raw.view(out.dtype), shift, out=out)
    elif (frame.slope, frame.intercept) == (1, 0):
        out[...] = raw
    else:
        out[...] = raw.astype(np.float64) * frame.slope + frame.intercept


def read_frames(frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the number and the stored values (rows, columns) of each frame, file by file.

    Raises
    ------
    DataError
        When a file is gone, cut off or damaged.
    """
    order = sorted(range(len(frames)), key=lambda i: (frames[i].place, frames[i].index))
    decoded: tuple[Place | None, NDArray[Any]] = (None, np.empty(0))
    with Opener() as opener:
        for i in order:
            frame = frames[i]
            if frame.encoding.native:
                yield i, _native(frame, opener)
                continue
            if decoded[0] != frame.place:
                decoded = frame.place, _decoded(frame, opener)
            yield i, decoded[1][frame.index]


def _native(frame: Frame, opener: Opener) -> NDArray[Any]:
    encoding = frame.encoding
    first_bit = frame.index * encoding.frame_bits
    begin, end = first_bit // 8, -(-(first_bit + encoding.frame_bits) // 8)
    try:
        with opener.open(frame.place) as file:
            file.seek(encoding.offset + begin)
            data = file.read(end - begin)
    except BROKEN as error:
        raise _damaged(frame.place) from error
    if len(data) < end - begin:
        raise _damaged(frame.place)
    shape = encoding.rows, encoding.columns
    if encoding.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[first_bit % 8 :][: encoding.frame_bits].reshape(shape)
    order = ">" if encoding.syntax in BIG_ENDIAN else "<"
    if encoding.kind:
        return np.frombuffer(data, order + encoding.kind).reshape(shape)
    raw = np.frombuffer(data, f"{order}{'i' if encoding.signed else 'u'}{encoding.allocated // 8}").reshape(
        shape
    )
    return _own_bits(raw.astype(raw.dtype.newbyteorder("="), copy=False), encoding)


def _own_bits(raw: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """Take the bits that belong to the value; in old files the others hold drawings."""
    spare = encoding.allocated - encoding.stored
    if spare == 0:
        return raw
    # up to the top, then down, which repeats the sign
    return np.asarray((raw << (encoding.allocated - 1 - encoding.high)) >> spare)


def _decoded(frame: Frame, opener: Opener) -> NDArray[Any]:
    """Return all frames (frames, rows, columns) of a compressed file."""
    encoding = frame.encoding
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory(prefix="segexplorer-") as scratch:
        bare = Path(scratch, "pixels.dcm")
        try:
            with opener.open(frame.place) as file, bare.open("wb") as target:
                check_fragments(file, encoding, frame.place.size)
                file.seek(encoding.element)
                _write_bare(encoding, file, target)
        except BROKEN as error:
            raise _damaged(frame.place) from error
        try:
            array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(bare), imageIO="GDCMImageIO"))
        except RuntimeError as error:
            raise _damaged(frame.place) from error
    shape = encoding.frames, encoding.rows, encoding.columns
    if array.ndim not in (2, 3) or array.shape[-3:] not in (shape, shape[1:]):
        raise _damaged(frame.place)
    return np.asarray(array.reshape(shape))


def _write_bare(encoding: Encoding, source: IO[bytes], target: IO[bytes]) -> None:
    """Write a DICOM file (secondary capture) around the pixel element that `source` stands at."""
    secondary, syntax = b"1.2.840.10008.5.1.4.1.1.7\0", encoding.syntax.encode()
    meta = b"".join(
        (
            _element(0x0002, 0x0001, b"OB", b"\0\1"),
            _element(0x0002, 0x0002, b"UI", secondary),
            _element(0x0002, 0x0003, b"UI", b"1.2\0"),
            _element(0x0002, 0x0010, b"UI", syntax + b"\0" * (len(syntax) % 2)),
        )
    )
    target.write(b"\0" * 128 + b"DICM" + _element(0x0002, 0x0000, b"UL", struct.pack("<I", len(meta))) + meta)
    target.write(_element(0x0008, 0x0016, b"UI", secondary) + _element(0x0008, 0x0018, b"UI", b"1.2\0"))
    target.write(_short(0x0002, encoding.samples))
    target.write(_element(0x0028, 0x0004, b"CS", b"MONOCHROME2 "))
    if encoding.frames > 1:
        frames = str(encoding.frames).encode()
        target.write(_element(0x0028, 0x0008, b"IS", frames + b" " * (len(frames) % 2)))
    for element, value in (
        (0x0010, encoding.rows),
        (0x0011, encoding.columns),
        (0x0100, encoding.allocated),
        (0x0101, encoding.stored),
        (0x0102, encoding.high),
        (0x0103, int(encoding.signed)),
    ):
        target.write(_short(element, value))
    while block := source.read(2**20):
        target.write(block)


def _short(element: int, value: int) -> bytes:
    return _element(0x0028, element, b"US", struct.pack("<H", value))


def _element(group: int, element: int, kind: bytes, value: bytes) -> bytes:
    length = struct.pack("<HI", 0, len(value)) if kind == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", group, element) + kind + length + value


def _damaged(place: Place) -> DataError:
    return DataError(f"The voxels of {place.name} are cut off or damaged.", "Copy or export it again.")


_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_RLE = "1.2.840.10008.1.2.5"
_LONGEST_RUN = 64
_J2K_START, _J2K_SIZE = b"\xff\x4f", b"\xff\x51"
_JPEG_START = b"\xff\xd8"
_JPEG_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header: SOF0 to SOF15 without tables, and SOF55 of JPEG-LS."""
_HEAD = 4096


class BrokenFragments(ValueError):
    """Fragments that cannot be what the header promises."""


def check_fragments(file: IO[bytes], encoding: Encoding, size: int) -> None:
    """Look through the pixel element of an open file of `size` bytes.

    Raises
    ------
    BrokenFragments
        When a fragment reaches beyond the file, there are too few, or their picture has another size.
    """
    sizes: list[int] = []
    heads: list[bytes] = []
    at = encoding.offset
    while True:
        file.seek(at)
        tag = file.read(8)
        if len(tag) < 8:
            raise BrokenFragments("the last fragment is missing")
        group, element, length = struct.unpack("<HHI", tag)
        if (group << 16 | element) == _END:
            break
        if (group << 16 | element) != _ITEM or at + 8 + length > size:
            raise BrokenFragments("a fragment is cut off")
        sizes.append(length)
        heads.append(file.read(min(length, _HEAD)))
        at += 8 + length
    # the first item is a table of offsets, which may be empty
    if len(sizes) < 1 + encoding.frames:
        raise BrokenFragments("fragments are missing")
    if encoding.syntax == _RLE:
        if encoding.frame_bits * encoding.frames > 8 * _LONGEST_RUN * sum(sizes[1:]):
            raise BrokenFragments("the runs are too short")
    elif len(sizes) == 1 + encoding.frames:
        for head in heads[1:]:
            _check_picture(head, encoding)
    else:
        _check_picture(heads[1], encoding)


def _check_picture(head: bytes, encoding: Encoding) -> None:
    told = None
    if head[:2] == _J2K_START:
        told = _j2k_size(head)
    elif head[:2] == _JPEG_START:
        told = _jpeg_size(head)
    if told is not None and told != (encoding.rows, encoding.columns):
        raise BrokenFragments("the picture has another size")


def _j2k_size(head: bytes) -> tuple[int, int]:
    """Return (rows, columns) of a JPEG 2000 codestream, ISO/IEC 15444-1 A.5.1."""
    if head[2:4] != _J2K_SIZE or len(head) < 24:
        raise BrokenFragments("there is no size")
    right, bottom, left, top = struct.unpack(">4I", head[8:24])
    return bottom - top, right - left


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a JPEG or JPEG-LS picture, ITU T.81 B.2.2; None where its header is very long."""
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            raise BrokenFragments("a marker is missing")
        marker = head[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker in _JPEG_SIZES:
            rows, columns = struct.unpack(">HH", head[at + 5 : at + 9])
            return rows, columns
        at += 2 + struct.unpack(">H", head[at + 2 : at + 4])[0]
    return None
