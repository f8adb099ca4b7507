"""The voxels of DICOM frames: read, decompressed, rescaled, and put together as one array.

Uncompressed frames are read straight from the file. Compressed ones are cut out of it by pydicom, checked, and
decoded one at a time:

* JPEG 2000 and RLE by `pydicom.pixels`, with Pillow (OpenJPEG) and pydicom itself as decoders;
* JPEG and JPEG-LS by SimpleITK (GDCM), which is given the codestream in a small file that names no patient.

A decoder believes the codestream it is given: sizes that differ from the header's, or a precision that does not
exist, have crashed GDCM and made OpenJPEG ask for gigabytes. What a header of a codestream promises is therefore
compared with the header of the file first. Damage inside the compressed values themselves cannot be seen, since
none of these formats has a checksum; where a decoder notices it, the frame is refused.
"""

from __future__ import annotations

import itertools
import struct
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom.files import BROKEN, UNREADABLE, Opener, Place, quiet
from segexplorer.data.formats.dicom.header import BIG_ENDIAN, JPEG_2000, JPEG_LS, RLE, Encoding, Frame
from segexplorer.data.formats.dicom.stack import SliceSource, Stack

# --- a stack of frames ---


@dataclass(frozen=True)
class StackVoxels:
    """Reads the voxels of a stack; picklable, so that a lazy volume is too."""

    stack: Stack

    def __call__(self) -> NDArray[Any]:
        """Return (columns, rows, slices), rescaled, in the smallest type that holds every value exactly.

        Raises
        ------
        DataError
            When a file is missing, cut off or damaged, or the series does not fit into memory.
        """
        try:
            return self._read()
        except MemoryError as error:
            raise DataError("The series does not fit into memory.", "Crop or resample it first.") from error

    def _read(self) -> NDArray[Any]:
        columns, rows, count = self.stack.shape
        frames, sources = self.stack.frames, self.stack.sources
        kept = {one.first: k for k, one in enumerate(sources) if one.weight == 0}
        # frames that are only interpolated between come after the volume, in the same array
        extra = (i for i in range(len(frames)) if i not in kept)
        row_of = kept | {i: count + n for n, i in enumerate(extra)}
        out = np.empty((max(row_of.values()) + 1, rows, columns), narrowest_type(frames))
        for i, stored in read_frames(frames):
            if out.dtype.kind == "i":
                out = _widen(out, _bounds(stored, frames[i]))
            _rescale(stored, frames[i], out[row_of[i]])
        for k, one in enumerate(sources):
            if one.weight:
                padding = (
                    _padding_values(frames[one.first], out.dtype),
                    _padding_values(frames[one.second], out.dtype),
                )
                _interpolate(one, out[row_of[one.first]], out[row_of[one.second]], padding, out[k])
        return out[:count].transpose(2, 1, 0)


Range = tuple[float, float]


def _padding_values(frame: Frame, dtype: np.dtype[Any]) -> Range | None:
    """Return the range that padding has after rescaling; None where a file names none that its voxels can hold."""
    if frame.padding is None or frame.encoding.floating:
        return None
    least = -(1 << frame.encoding.allocated - 1)
    if not all(least <= value < 1 << frame.encoding.allocated for value in frame.padding):
        return None
    ends = np.empty(2, np.float64 if dtype.kind == "i" else dtype)
    _rescale(np.array(frame.padding, np.int64), frame, ends)
    return float(ends.min()), float(ends.max())


def _interpolate(
    source: SliceSource,
    first: NDArray[Any],
    second: NDArray[Any],
    padding: tuple[Range | None, Range | None],
    out: NDArray[Any],
) -> None:
    """Mix two slices; where one holds padding, which is no intensity, the nearer of the two counts alone."""
    mixed = (1 - source.weight) * first.astype(np.float64) + source.weight * second
    padded = np.zeros(first.shape, bool)
    for values, ends in zip((first, second), padding, strict=True):
        if ends is not None:
            padded |= (values >= ends[0]) & (values <= ends[1])
    np.copyto(mixed, second if source.weight > 0.5 else first, where=padded)
    out[...] = mixed if out.dtype.kind == "f" else np.rint(mixed)


# --- types and rescaling ---


def narrowest_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    """Return the type to begin with: floating where rescaling needs it, else narrow until a value needs more."""
    encodings = {frame.encoding for frame in frames}
    bits = max(encoding.stored for encoding in encodings)
    whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    if not whole or any(encoding.floating for encoding in encodings):
        return np.dtype(np.float64 if bits > 16 else np.float32)
    if bits <= 8 and all((f.slope, f.intercept, f.encoding.signed) == (1, 0, False) for f in frames):
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if bits <= 16 else np.int32)


def _bounds(stored: NDArray[Any], frame: Frame) -> tuple[float, float]:
    """Return the lowest and highest value of a slice after rescaling."""
    ends = [int(stored.min()), int(stored.max())]
    if frame.encoding.photometric == "MONOCHROME1":
        ends = [_inversion_sum(frame.encoding) - v for v in ends]
    values = [frame.slope * v + frame.intercept for v in ends]
    return min(values), max(values)


def _widen(out: NDArray[Any], bounds: tuple[float, float]) -> NDArray[Any]:
    """Return the array, in a wider integer type where its own does not hold the bounds."""
    for kind in (out.dtype, np.dtype(np.int32), np.dtype(np.int64)):
        info = np.iinfo(kind)
        if info.min <= bounds[0] and bounds[1] <= info.max:
            return out.astype(kind, copy=False)
    return out.astype(np.float64)


def _inversion_sum(encoding: Encoding) -> int:
    """Return the sum of a stored value and its MONOCHROME1 counterpart: lowest plus highest that the bits hold."""
    return -1 if encoding.signed else (1 << encoding.stored) - 1


def _rescale(stored: NDArray[Any], frame: Frame, out: NDArray[Any]) -> None:
    """Write `slope * stored + intercept`; MONOCHROME1 is inverted first, so that bright is high."""
    encoding = frame.encoding
    if encoding.photometric == "MONOCHROME1" and not encoding.floating:
        stored = _inversion_sum(encoding) - stored.astype(np.int64)
    if frame.slope == 1 and stored.dtype.kind in "iu" and stored.dtype.itemsize == out.dtype.itemsize == 2:
        # `_widen` has seen that the sum fits, and 16-bit integers wrap around: adding in 16 bits gives the same
        # bits as adding in a wider type, in a third of the time
        shift = np.array(int(frame.intercept) % 2**16, np.uint16).view(out.dtype)[()]
        np.add(stored.view(out.dtype), shift, out=out)
    elif (frame.slope, frame.intercept) == (1, 0):
        out[...] = stored
    else:
        out[...] = stored.astype(np.float64) * frame.slope + frame.intercept


# --- frames as they are stored ---


def read_frames(frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the number and the stored values (rows, columns) of each frame, file by file.

    Raises
    ------
    DataError
        When a file is missing, cut off or damaged.
    """
    order = sorted(range(len(frames)), key=lambda i: (frames[i].place, frames[i].index))
    with Opener() as opener:
        for place, group in itertools.groupby(order, key=lambda i: frames[i].place):
            numbers = list(group)
            encoding = frames[numbers[0]].encoding
            if encoding.native:
                for i in numbers:
                    yield i, _read_uncompressed(frames[i], opener)
            else:
                codestreams = _read_codestreams(place, encoding, opener)
                for i in numbers:
                    yield i, _decode(codestreams[frames[i].index], encoding, place)


def _read_uncompressed(frame: Frame, opener: Opener) -> NDArray[Any]:
    """Return the values of a frame that are stored one after the other."""
    encoding = frame.encoding
    # frames of one bit a voxel follow each other without padding, so one may begin inside a byte
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
        # the first voxel is the lowest bit of the first byte
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[first_bit % 8 :][: encoding.frame_bits].reshape(shape)
    order = ">" if encoding.syntax in BIG_ENDIAN else "<"
    if encoding.floating:
        return np.frombuffer(data, f"{order}f{encoding.allocated // 8}").reshape(shape)
    kind = f"{order}{'i' if encoding.signed else 'u'}{encoding.allocated // 8}"
    cells = np.frombuffer(data, kind).reshape(shape)
    return _extract_value_bits(cells.astype(cells.dtype.newbyteorder("="), copy=False), encoding)


def _extract_value_bits(cells: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """Return the bits of each cell that belong to its value; in old files the spare ones hold overlays."""
    spare = encoding.allocated - encoding.stored
    if spare == 0:
        return cells
    # Up, so that the highest bit of the value is the highest of the cell, which drops what is above; then down,
    # which drops what is below and repeats the sign.
    return np.asarray((cells << (encoding.allocated - 1 - encoding.high)) >> spare)


def _damaged(place: Place) -> DataError:
    return DataError(f"The voxels of {place.name} are cut off or damaged.", "Copy or export it again.")


# --- compressed frames ---


class CodestreamError(ValueError):
    """Compressed data that cannot be what the header of the file promises."""


def _read_codestreams(place: Place, encoding: Encoding, opener: Opener) -> list[bytes]:
    """Return the compressed data of each frame of a file."""
    try:
        with opener.open(place) as file, quiet() as pydicom:
            _check_fragments(file, encoding, place.size)
            file.seek(encoding.offset)
            streams = pydicom.encaps.generate_frames(file, number_of_frames=encoding.frames)
            found = list(itertools.islice(streams, encoding.frames))
    except MemoryError:
        raise
    except UNREADABLE as error:
        raise _damaged(place) from error
    if len(found) < encoding.frames:
        raise _damaged(place)
    return found


def _check_fragments(file: IO[bytes], encoding: Encoding, size: int) -> None:
    """Walk over the fragments of an open file of `size` bytes; pydicom would take a cut off one as it is.

    A compressed pixel element is a sequence of items, each with a tag and a length (DICOM PS3.5, A.4). The first is
    a table of offsets, which may be empty; a frame has one item or more.

    Raises
    ------
    CodestreamError
        When an item extends beyond the file, or there are fewer than frames.
    """
    count, at = 0, encoding.offset
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise CodestreamError("the end of the sequence is missing")
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000) or at + 8 + length > size:
            raise CodestreamError("a fragment is cut off")
        count += 1
        at += 8 + length
    if count < 1 + encoding.frames:
        raise CodestreamError("fragments are missing")


def _decode(stream: bytes, encoding: Encoding, place: Place) -> NDArray[Any]:
    """Return the values (rows, columns) of one compressed frame."""
    try:
        _check_codestream(stream, encoding)
        if encoding.syntax in JPEG_2000 or encoding.syntax == RLE:
            values = _decode_with_pydicom(stream, encoding)
        else:
            values = _decode_with_simpleitk(stream, encoding)
        return values.reshape(encoding.rows, encoding.columns)
    except MemoryError:
        raise
    except (*UNREADABLE, UserWarning) as error:
        raise _damaged(place) from error


def _decode_with_pydicom(stream: bytes, encoding: Encoding) -> NDArray[Any]:
    with quiet() as pydicom:
        # pydicom warns where it leaves something out, such as values behind the end of an RLE segment: damage
        warnings.simplefilter("error", UserWarning)
        values, _ = pydicom.pixels.get_decoder(encoding.syntax).as_array(
            pydicom.encaps.encapsulate([stream], has_bot=False),
            # one decoder each, for pydicom would try all it finds installed
            decoding_plugin="pydicom" if encoding.syntax == RLE else "pillow",
            raw=True,
            allow_excess_frames=False,
            correct_unused_bits=False,
            number_of_frames=1,
            rows=encoding.rows,
            columns=encoding.columns,
            samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=encoding.allocated,
            bits_stored=encoding.stored,
            pixel_representation=int(encoding.signed),
            pixel_keyword="PixelData",
        )
    # RLE packs cells with their spare bits; a JPEG 2000 codestream holds values
    return _extract_value_bits(values, encoding) if encoding.syntax == RLE else values


def _decode_with_simpleitk(stream: bytes, encoding: Encoding) -> NDArray[Any]:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryDirectory(prefix="segexplorer-") as scratch:
        path = Path(scratch, "frame.dcm")
        with quiet() as pydicom:
            file = pydicom.Dataset()
            file.file_meta = pydicom.dataset.FileMetaDataset()
            file.file_meta.TransferSyntaxUID = encoding.syntax
            file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, "1.2"
            file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
            file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
            file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
            file.Rows, file.Columns = encoding.rows, encoding.columns
            file.BitsAllocated, file.BitsStored, file.HighBit = (
                encoding.allocated,
                encoding.stored,
                encoding.high,
            )
            file.PixelRepresentation = int(encoding.signed)
            file.add_new("PixelData", "OB", pydicom.encaps.encapsulate([stream], has_bot=False))
            file["PixelData"].is_undefined_length = True
            file.save_as(path, enforce_file_format=True)
        return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")))


# --- what a codestream promises ---

_LONGEST_RUN = 64
"""Most values that one byte of RLE can encode: two bytes repeat one value 128 times (PS3.5, G.3.1)."""
_SIZE_OF_J2K = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and the marker of its size, which must follow; a JP2 header may come before."""
_FRAME_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3}
"""SOF0 to SOF3: sequential, extended and progressive JPEG, and JPEG lossless."""
_JPEG_LS_FRAME = 0xF7
_SCAN = 0xDA
_OTHER_MARKERS = {0xC4, 0xDB, 0xDD, 0xF8, 0xFE, *range(0xE0, 0xF0)}
"""Segments before a scan: Huffman and quantisation tables, restarts, presets of JPEG-LS, comments, applications."""


def _check_codestream(stream: bytes, encoding: Encoding) -> None:
    """Compare what a codestream says about itself with the header of its file.

    Raises
    ------
    CodestreamError
        When its head is damaged, or its picture has another size.
    """
    if encoding.syntax == RLE:
        if encoding.frame_bits > 8 * _LONGEST_RUN * len(stream):
            raise CodestreamError("it is too short")
        return
    size = _j2k_size(stream) if encoding.syntax in JPEG_2000 else _jpeg_size(stream, encoding)
    if size != (encoding.rows, encoding.columns):
        raise CodestreamError("its picture has another size")


def _j2k_size(stream: bytes) -> tuple[int, int]:
    """Return (rows, columns) of a JPEG 2000 codestream, ISO/IEC 15444-1 A.5.1."""
    start = stream[:4096].find(_SIZE_OF_J2K)
    if start < 0 or len(stream) < start + 24:
        raise CodestreamError("it gives no size")
    right, bottom, left, top = struct.unpack(">4I", stream[start + 8 : start + 24])
    return bottom - top, right - left


def _jpeg_size(stream: bytes, encoding: Encoding) -> tuple[int, int]:
    """Return (rows, columns) of a JPEG or JPEG-LS picture, all segments before its scan looked at (ITU T.81, B).

    Raises
    ------
    CodestreamError
        When a segment is cut off, unknown or repeated, or when the picture is not of one number per voxel that fits
        into the cells of the file.
    """
    wanted = {_JPEG_LS_FRAME} if encoding.syntax in JPEG_LS else _FRAME_MARKERS
    size: tuple[int, int] | None = None
    if stream[:2] != b"\xff\xd8":
        raise CodestreamError("it does not begin as JPEG")
    at = 2
    while True:
        if at + 4 > len(stream) or stream[at] != 0xFF:
            raise CodestreamError("a marker is missing")
        marker = stream[at + 1]
        if marker == 0xFF:  # a fill byte before a marker
            at += 1
            continue
        length = int.from_bytes(stream[at + 2 : at + 4], "big")  # counts its own two bytes
        if length < 2 or at + 2 + length > len(stream):
            raise CodestreamError("a segment is cut off")
        if marker == _SCAN:
            break
        if marker in wanted:
            if size is not None or length != 11:
                raise CodestreamError("its frame header is damaged")
            precision, rows, columns, components = struct.unpack(">BHHB", stream[at + 4 : at + 10])
            # a precision that no JPEG has makes GDCM write beyond its memory
            if components != 1 or not 2 <= precision <= min(16, encoding.allocated):
                raise CodestreamError("its precision does not fit the file")
            size = rows, columns
        elif marker not in _OTHER_MARKERS:
            raise CodestreamError("a segment is unknown")
        at += 2 + length
    if size is None:
        raise CodestreamError("it gives no size")
    return size
