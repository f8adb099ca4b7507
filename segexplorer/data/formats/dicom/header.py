"""What the header of a DICOM file says about its voxels: how they are stored, and where each frame is.

Nothing of the patient module is read. A file is a classic slice, an enhanced multi-frame file, whose functional
groups describe each frame, or a classic file of many frames at even distances (dose).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom import files
from segexplorer.data.formats.dicom.files import Opener, PixelElement, Place, parse, reading

# --- how voxels are stored ---

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}
"""Transfer syntaxes whose pixels are not compressed: implicit, explicit, big endian, GE's private one."""
BIG_ENDIAN = {"1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}
"""Of these, the ones that store the high byte first; GE's private one does so in the pixels alone."""
JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55, 57, 70)}
"""Baseline, extended, two retired progressive processes, and lossless with any and with the first predictor."""
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
RLE = "1.2.840.10008.1.2.5"
_READ = NATIVE | JPEG | JPEG_LS | JPEG_2000 | {RLE}


@dataclass(frozen=True)
class Encoding:
    """How a file stores its voxels.

    Attributes
    ----------
    syntax
        UID of the transfer syntax.
    allocated, stored, high
        Bits of a cell, bits of the value in it, and number of the value's highest bit.
    floating
        Whether the values are floating-point numbers.
    offset, length
        Of the pixel element's value, in bytes; length -1 where it is a sequence of compressed fragments.
    """

    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    photometric: str
    floating: bool
    offset: int
    length: int

    @property
    def native(self) -> bool:
        """Whether the voxels are stored one after the other, uncompressed."""
        return self.syntax in NATIVE

    @property
    def frame_bits(self) -> int:
        """Bits of one frame, as stored when uncompressed."""
        return self.rows * self.columns * self.samples * self.allocated


@dataclass(frozen=True)
class Frame:
    """One slice: where its voxels are stored, and where they are in the patient.

    Attributes
    ----------
    index
        Of the frame in its file.
    position, across
        LPS mm of the first voxel's centre; directions (row, column) as six cosines; None where the file gives none.
    spacing
        mm between (rows, columns), or None.
    thickness
        mm to the next slice as the header gives it, or None.
    phase
        What distinguishes volumes at one position: time, echo, b-value, ...
    segment
        Of a segmentation: the segment's number; 0 elsewhere.
    padding
        Lowest and highest value that stand for "no voxel here", as stored, or None.
    flat
        Whether its rescale slope is 0, under which every voxel would be equal; `slope` is 1 then.
    """

    place: Place
    encoding: Encoding
    index: int
    number: int
    position: tuple[float, ...] | None
    across: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    phase: tuple[str, ...]
    segment: int = 0
    padding: tuple[float, float] | None = None
    flat: bool = False

    @property
    def placed(self) -> bool:
        """Whether it says where it is."""
        return self.position is not None and self.across is not None


# --- one file ---

SEGMENTATION = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_WITH_VOXELS = SEGMENTATION | {
    f"1.2.840.10008.5.1.4.1.1.{kind}"
    for kind in ("1", "2", "2.1", "4", "4.1", "6.1", "7", "12.1", "20", "128")
}
"""Radiography, CT, MR, ultrasound, secondary capture, angiography, nuclear medicine, PET."""
STRUCTURES = {"1.2.840.10008.5.1.4.1.1.481.3"}
_WANTED = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "GridFrameOffsetVector",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "DoseGridScaling",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "LossyImageCompression",
    "TemporalPositionIdentifier",
    "EchoTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "TriggerTime",
    "AcquisitionTime",
    "ContentTime",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True)
class Header:
    """What one file is, and its frames.

    Attributes
    ----------
    space
        Hash of its frame of reference: files with the same one share coordinates; "" where none is named.
    problem
        Why its voxels cannot be read, or None; such a file has no frames.
    description
        Of its series, to choose it by; never shown, for it may hold a name.
    """

    place: Place
    modality: str
    sop_class: str
    series: str
    series_number: int
    lossy: bool
    space: str
    frames: tuple[Frame, ...]
    problem: DataError | None = None
    description: str = field(default="", repr=False)


def read_header(place: Place, opener: Opener) -> Header | None:
    """Return what a file is and where its frames are; None when it is not DICOM.

    Raises
    ------
    DataError
        When its header is damaged.
    """
    parsed = parse(place, opener, _WANTED)
    if parsed is None:
        return None
    data, pixels = parsed
    with reading(f"The header of {place.name} is damaged: a value in it cannot be read."):
        return _header(place, data, pixels)


def _header(place: Place, data: Any, pixels: PixelElement | None) -> Header:
    meta = data.file_meta
    sop_class = _text(data, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    frames: tuple[Frame, ...] = ()
    problem: DataError | None = None
    if pixels is not None and sop_class not in STRUCTURES:
        try:
            encoding = _encoding(place, data, pixels)
            _refuse_other_compression(place, encoding)
            if sop_class not in SEGMENTATION:
                _refuse_colours(place, encoding)
            check_size(place, encoding)
            _refuse_mosaic(place, data)
            frames = frames_of(place, data, encoding)
        except DataError as error:
            problem = error
    elif data.get("Rows") or sop_class in _WITH_VOXELS or not sop_class:
        problem = DataError(f"{place.name} is cut off before its voxels.", "Copy or export it again.")
        if not _text(data, "SeriesInstanceUID"):
            raise problem
    return Header(
        place,
        _text(data, "Modality"),
        sop_class,
        _text(data, "SeriesInstanceUID"),
        int(data.get("SeriesNumber") or 0),
        _text(data, "LossyImageCompression") == "01",
        _space(data),
        frames,
        problem,
        _text(data, "SeriesDescription"),
    )


def _encoding(place: Place, data: Any, pixels: PixelElement) -> Encoding:
    allocated = int(data.get("BitsAllocated") or pixels.float_bits or 16)
    stored = int(data.get("BitsStored") or allocated)
    high = int(data.get("HighBit") or stored - 1)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= high + 1 <= allocated:
        raise DataError(
            f"{place.name} says that its voxels are {stored} bits up to bit {high} of {allocated}, "
            "which DICOM does not allow.",
            "Export it again.",
        )
    if pixels.float_bits and (allocated, stored) != (pixels.float_bits, pixels.float_bits):
        raise DataError(
            f"{place.name} holds floating-point voxels of {pixels.float_bits} bits, but says that they are "
            f"{stored} bits of {allocated}.",
            "Export it again.",
        )
    return Encoding(
        # without a transfer syntax, implicit little endian is the default of DICOM
        _text(data.file_meta, "TransferSyntaxUID")
        or ("1.2.840.10008.1.2" if data.original_encoding[0] else "1.2.840.10008.1.2.1"),
        int(data.get("Rows") or 0),
        int(data.get("Columns") or 0),
        max(1, int(data.get("NumberOfFrames") or 1)),
        int(data.get("SamplesPerPixel") or 1),
        allocated,
        stored,
        high,
        bool(data.get("PixelRepresentation") or 0),
        _text(data, "PhotometricInterpretation") or "MONOCHROME2",
        pixels.float_bits > 0,
        pixels.offset,
        pixels.length,
    )


def _refuse_other_compression(place: Place, encoding: Encoding) -> None:
    if encoding.syntax not in _READ:
        from pydicom.uid import UID

        syntax = UID(encoding.syntax)
        # a UID that pydicom does not know has no name, and may hold anything
        name = syntax.name if syntax.is_transfer_syntax and syntax.name != syntax else "an unknown form"
        raise DataError(
            f"{place.name} stores its voxels as {name}, which is not read.",
            "Convert it, e.g. with gdcmconv --raw.",
        )


def _refuse_colours(place: Place, encoding: Encoding) -> None:
    if encoding.samples != 1 or encoding.photometric not in _GREY:
        raise DataError(
            f"{place.name} holds colours, not one number for each voxel.",
            "Convert it to grey values first, or export its frames as pictures.",
        )


def _refuse_mosaic(place: Place, data: Any) -> None:
    """Siemens scanners put all slices of a time point into one picture, and their positions into private tags."""
    if "MOSAIC" in str(data.get("ImageType") or ""):
        raise DataError(
            f"{place.name} is a mosaic of many slices in one picture.",
            "Convert the series, e.g. with dcm2niix.",
        )


def check_size(place: Place, encoding: Encoding) -> None:
    """Compare the size that a header promises with the limit and with the file, before anything is allocated.

    Raises
    ------
    DataError
        When it promises too much or nothing.
    """
    promised = math.ceil(encoding.frame_bits * encoding.frames / 8)
    if promised == 0:
        raise DataError(f"{place.name} has no voxels.", "Export it again.")
    if promised > files.MAX_BYTES:
        raise DataError(
            f"{place.name} promises {promised / 2**30:.0f} GiB of voxels; "
            f"the limit is {files.MAX_BYTES / 2**30:.0f} GiB.",
            "Crop or resample it first.",
        )
    held = place.size - encoding.offset
    if encoding.native:
        held = min(held, encoding.length) if encoding.length >= 0 else 0
    if held < (promised if encoding.native else 1):
        raise DataError(
            f"{place.name} is cut off: its header promises {promised:,} bytes of voxels, "
            f"it holds {max(0, held):,}.",
            "Copy or export it again.",
        )


def _space(data: Any) -> str:
    referred = data.get("ReferencedFrameOfReferenceSequence") or [data]
    uid = _text(data, "FrameOfReferenceUID") or _text(referred[0], "FrameOfReferenceUID")
    return hashlib.sha256(uid.encode()).hexdigest()[:16] if uid else ""


def _text(data: Any, keyword: str) -> str:
    return str(data.get(keyword) or "").strip("\0 ")


# --- frames ---


def frames_of(place: Place, data: Any, encoding: Encoding) -> tuple[Frame, ...]:
    """Return the frames of a data set: of a classic slice, an enhanced file, or a classic file of many frames.

    Raises
    ------
    DataError
        When the file describes more or fewer frames than it holds.
    """
    number = int(data.get("InstanceNumber") or 0)
    groups = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    shared = data.get("SharedFunctionalGroupsSequence") or []
    common = shared[0] if len(shared) else None
    if groups and len(groups) != encoding.frames:
        raise DataError(
            f"{place.name} holds {encoding.frames} frames but describes {len(groups)}.",
            "Export it again.",
        )
    if groups or common is not None or encoding.frames == 1:
        per_frame = groups or [None] * encoding.frames
        return tuple(
            _frame(place, encoding, i, number, (own, common, data)) for i, own in enumerate(per_frame)
        )
    return _evenly(_frame(place, encoding, 0, number, (None, None, data)), data)


def _evenly(first: Frame, data: Any) -> tuple[Frame, ...]:
    """Return the frames of a classic file, which gives the position of the first and the steps to others (dose)."""
    count = first.encoding.frames
    offsets = [float(v) for v in data.get("GridFrameOffsetVector") or ()]
    if len(offsets) != count:
        offsets = [k * (first.thickness or 0) for k in range(count)]
    if first.position is None or first.across is None or len(set(offsets)) < count:
        return tuple(replace(first, index=k, number=k + 1, position=None) for k in range(count))
    normal = np.cross(first.across[:3], first.across[3:])
    start = np.asarray(first.position)
    return tuple(
        replace(
            first, index=k, number=k + 1, position=tuple((start + (offset - offsets[0]) * normal).tolist())
        )
        for k, offset in enumerate(offsets)
    )


def _frame(place: Place, encoding: Encoding, index: int, number: int, where: tuple[Any, ...]) -> Frame:
    """Return a frame; `where` holds its own functional group, the shared one, and the data set of the file."""
    own, data = where[0], where[2]
    content = _item(own, "FrameContentSequence")
    segment = _value(where, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    slope = _number(where, "PixelValueTransformationSequence", "RescaleSlope")
    slope = _number((data,), "", "DoseGridScaling") if slope is None else slope
    intercept = _number(where, "PixelValueTransformationSequence", "RescaleIntercept")
    # the distance of slice centres, from which the thickness may differ; some scanners give it a sign
    gap = _number(where, "PixelMeasuresSequence", "SpacingBetweenSlices")
    thick = _number(where, "PixelMeasuresSequence", "SliceThickness")
    return Frame(
        place,
        encoding,
        index,
        number if encoding.frames == 1 else index + 1,
        _numbers(where, "PlanePositionSequence", "ImagePositionPatient", 3),
        _numbers(where, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
        _numbers(where, "PixelMeasuresSequence", "PixelSpacing", 2)
        or _numbers((data,), "", "ImagerPixelSpacing", 2),
        abs(gap) if gap else thick or None,
        slope or 1.0,
        0.0 if intercept is None else intercept,
        _phase(where, content),
        int(segment or 0),
        _padding(data),
        slope == 0,
    )


def _padding(data: Any) -> tuple[float, float] | None:
    """Return the range of stored values that stand for padding (C.7.5.1.1.2), or None."""
    value = _number((data,), "", "PixelPaddingValue")
    if value is None:
        return None
    limit = _number((data,), "", "PixelPaddingRangeLimit")
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def _phase(where: tuple[Any, ...], content: Any) -> tuple[str, ...]:
    """Return time point, echo, b-value, image type, acquisition, and three times, as texts; "" where not given."""
    data = where[2]
    temporal = (None if content is None else content.get("TemporalPositionIndex")) or data.get(
        "TemporalPositionIdentifier"
    )
    echo = _number(where, "MREchoSequence", "EffectiveEchoTime") or data.get("EchoTime")
    weighting = _number(where, "MRDiffusionSequence", "DiffusionBValue")
    rest = ("ImageType", "AcquisitionNumber", "TriggerTime", "AcquisitionTime", "ContentTime")
    values = (temporal, echo, weighting, *(data.get(word) for word in rest))
    return tuple("" if value is None else str(value) for value in values)


def _item(holder: Any, sequence: str) -> Any:
    items = None if holder is None else holder.get(sequence)
    return items[0] if items else None


def _value(where: Sequence[Any], sequence: str, keyword: str) -> Any:
    """Return a value of the frame's own group, else of the shared one, else of the file.

    In a functional group it is inside a sequence; some writers put it beside.
    """
    for holder in where:
        item = _item(holder, sequence) if sequence else None
        for candidate in (item, holder):
            if candidate is not None and (value := candidate.get(keyword)) not in (None, ""):
                return value
    return None


def _number(where: Sequence[Any], sequence: str, keyword: str) -> float | None:
    value = _value(where, sequence, keyword)
    return None if value is None else _finite(value)


def _numbers(where: Sequence[Any], sequence: str, keyword: str, count: int) -> tuple[float, ...] | None:
    value = _value(where, sequence, keyword)
    if value is None or isinstance(value, (str, bytes)) or len(value) != count:
        return None
    return tuple(_finite(v) for v in value)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number
