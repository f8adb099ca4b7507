"""The frames of a DICOM file, one by one: how their voxels are stored, and where they lie in the patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.data.readers.dicom_files import Place

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}
"""Transfer syntaxes whose pixels are not compressed: implicit, explicit, big endian, GE's private one."""
BIG_ENDIAN = {"1.2.840.10008.1.2.2", "1.2.840.113619.5.2"}


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

    @property
    def placed(self) -> bool:
        """Whether it says where it lies."""
        return self.position is not None and self.across is not None


def frames_of(place: Place, data: Any, encoding: Encoding) -> tuple[Frame, ...]:
    """Return the frames of a data set: of a classic slice, an enhanced file, or a classic file of many frames.

    Raises
    ------
    DataError
        When the file tells the place of some frames only.
    """
    number = int(data.get("InstanceNumber") or 0)
    groups = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    shared = data.get("SharedFunctionalGroupsSequence") or []
    common = shared[0] if len(shared) else None
    if groups and len(groups) < encoding.frames:
        raise DataError(
            f"{place.name} holds {encoding.frames} frames but tells the place of {len(groups)}.",
            "Export it again.",
        )
    if groups or common is not None or encoding.frames == 1:
        per_frame = groups[: encoding.frames] or [None] * encoding.frames
        return tuple(
            _frame(place, encoding, i, number, (own, common, data)) for i, own in enumerate(per_frame)
        )
    return _evenly(_frame(place, encoding, 0, number, (None, None, data)), data)


def _evenly(first: Frame, data: Any) -> tuple[Frame, ...]:
    """Return the frames of a classic file, which tells where the first lies and how the others follow (dose)."""
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
    own, data = where[0], where[2]
    content = _item(own, "FrameContentSequence")
    segment = _value(where, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    slope = _number(where, "PixelValueTransformationSequence", "RescaleSlope")
    slope = _number((data,), "", "DoseGridScaling") if slope is None else slope
    intercept = _number(where, "PixelValueTransformationSequence", "RescaleIntercept")
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
