"""The facts of one DICOM file that its voxels and their place need; nothing of the patient module is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segexplorer.core.errors import DataError
from segexplorer.data.readers import dicom_files
from segexplorer.data.readers.dicom_files import Opener, Place
from segexplorer.data.readers.dicom_parsing import parse, reading

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}
"""Transfer syntaxes whose pixels are not compressed: implicit, explicit, big endian, GE's private one."""
BIG_ENDIAN = {"1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}
SEGMENTATION = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_WITH_VOXELS = SEGMENTATION | {
    f"1.2.840.10008.5.1.4.1.1.{kind}"
    for kind in ("1", "2", "2.1", "4", "4.1", "6.1", "7", "12.1", "20", "128")
}
"""Radiography, CT, MR, ultrasound, secondary capture, angiography, nuclear medicine, PET."""
STRUCTURES = {"1.2.840.10008.5.1.4.1.1.481.3"}
_WANTED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
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
class Encoding:
    """How a file stores its voxels.

    Attributes
    ----------
    offset, length
        Of the pixel element's value in bytes; length -1 where it is cut into compressed fragments.
    element
        Where the pixel element begins, its tag included.
    kind
        "f4" or "f8" for float pixels, else "".
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
    element: int
    offset: int
    length: int
    kind: str

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
    """One slice: where its voxels are stored and where they are in the patient.

    Attributes
    ----------
    index
        Of the frame in its file.
    position, across
        LPS mm of the first voxel's centre; directions (row, column) as six cosines; None where not told.
    spacing
        mm between (rows, columns), or None.
    thickness
        mm to the next slice as far as the header says, or None.
    phase
        What tells volumes apart that lie at one place: time, echo, b-value, ...
    segment
        Of a segmentation: the segment's number; 0 elsewhere.
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


@dataclass(frozen=True)
class Header:
    """What one file is, and its frames; none, and the `problem`, where its voxels cannot be what it promises."""

    place: Place
    modality: str
    sop_class: str
    instance: str
    series: str
    series_number: int
    lossy: bool
    frames: tuple[Frame, ...]
    problem: DataError | None = None


def read_header(place: Place, opener: Opener) -> Header | None:
    """Read what a file is and where its frames lie; None when it is not DICOM.

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


def _header(place: Place, data: Any, pixels: tuple[int, int, int, str]) -> Header:
    meta = data.file_meta
    sop_class = _text(data, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")
    frames: tuple[Frame, ...] = ()
    problem: DataError | None = None
    if pixels[1] != pixels[0] and sop_class not in STRUCTURES:
        try:
            encoding = _encoding(place, data, pixels)
            check_size(place, encoding)
            frames = _frames(place, data, encoding)
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
        _text(data, "SOPInstanceUID") or _text(meta, "MediaStorageSOPInstanceUID"),
        _text(data, "SeriesInstanceUID"),
        int(data.get("SeriesNumber") or 0),
        _text(data, "LossyImageCompression") == "01",
        frames,
        problem,
    )


def _encoding(place: Place, data: Any, pixels: tuple[int, int, int, str]) -> Encoding:
    allocated = int(data.get("BitsAllocated") or 16)
    stored = int(data.get("BitsStored") or allocated)
    high = int(data.get("HighBit") or stored - 1)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= high + 1 <= allocated:
        raise DataError(
            f"{place.name} says that it stores {stored} of {allocated} bits per voxel, which no DICOM file does.",
            "Export it again.",
        )
    begin, value, length, kind = pixels
    return Encoding(
        # without one, implicit little endian is the default of DICOM
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
        begin,
        value,
        length,
        kind,
    )


def check_size(place: Place, encoding: Encoding) -> None:
    """Compare what a header promises with the limit and with the file, before anything is allocated.

    Raises
    ------
    DataError
        When it promises too much or nothing.
    """
    promised = math.ceil(encoding.frame_bits * encoding.frames / 8)
    if promised == 0:
        raise DataError(f"{place.name} has no voxels.", "Export it again.")
    if promised > dicom_files.MAX_BYTES:
        raise DataError(
            f"{place.name} promises {promised / 2**30:.0f} GiB of voxels; "
            f"the limit is {dicom_files.MAX_BYTES / 2**30:.0f} GiB.",
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


def _frames(place: Place, data: Any, encoding: Encoding) -> tuple[Frame, ...]:
    number = int(data.get("InstanceNumber") or 0)
    groups = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    shared = data.get("SharedFunctionalGroupsSequence") or []
    common = shared[0] if len(shared) else None
    if groups and len(groups) < encoding.frames:
        raise DataError(
            f"{place.name} holds {encoding.frames} frames but tells the place of {len(groups)}.",
            "Export it again.",
        )
    per_frame = groups[: encoding.frames] if groups else [None] * encoding.frames
    return tuple(_frame(place, encoding, i, number, (own, common, data)) for i, own in enumerate(per_frame))


def _frame(place: Place, encoding: Encoding, index: int, number: int, where: tuple[Any, ...]) -> Frame:
    own, data = where[0], where[2]
    # a classic multi-frame file gives one position for all of its frames
    told = own is not None or encoding.frames == 1
    content = _item(own, "FrameContentSequence")
    segment = _value(where, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    slope = _number(where, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _number(where, "PixelValueTransformationSequence", "RescaleIntercept")
    gap = _number(where, "PixelMeasuresSequence", "SpacingBetweenSlices")
    thick = _number(where, "PixelMeasuresSequence", "SliceThickness")
    return Frame(
        place,
        encoding,
        index,
        number if encoding.frames == 1 else index + 1,
        _numbers(where, "PlanePositionSequence", "ImagePositionPatient", 3) if told else None,
        _numbers(where, "PlaneOrientationSequence", "ImageOrientationPatient", 6) if told else None,
        _numbers(where, "PixelMeasuresSequence", "PixelSpacing", 2)
        or _numbers((data,), "", "ImagerPixelSpacing", 2),
        abs(gap) if gap else thick or None,
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        _phase(where, content),
        int(segment or 0),
    )


def _phase(where: tuple[Any, ...], content: Any) -> tuple[str, ...]:
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
    """Return a value of the frame's own group, else of the shared one, else of the file."""
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


def _text(data: Any, keyword: str) -> str:
    return str(data.get(keyword) or "").strip("\0 ")
