"""The facts of one DICOM file that its voxels and their place need; nothing of the patient module is read."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from segexplorer.core.errors import DataError
from segexplorer.data.readers import dicom_files
from segexplorer.data.readers.dicom_files import Opener, Place
from segexplorer.data.readers.dicom_frames import Encoding, Frame, frames_of
from segexplorer.data.readers.dicom_parsing import parse, reading

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
    """What one file is, and its frames; none, and the `problem`, where its voxels cannot be what it promises.

    `space` is a hash of its frame of reference: files of equal ones share coordinates; "" where none is named.
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
    )


def _encoding(place: Place, data: Any, pixels: tuple[int, int, int, str]) -> Encoding:
    allocated = int(data.get("BitsAllocated") or 16)
    stored = int(data.get("BitsStored") or allocated)
    high = int(data.get("HighBit") or stored - 1)
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= high + 1 <= allocated:
        raise DataError(
            f"{place.name} says that its voxels are {stored} bits up to bit {high} of {allocated}, "
            "which no DICOM file does.",
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


def _refuse_colours(place: Place, encoding: Encoding) -> None:
    if encoding.samples != 1 or encoding.photometric not in _GREY:
        raise DataError(
            f"{place.name} holds colours, not one number per voxel.",
            "Convert it to grey values first, or export its frames as pictures.",
        )


def _refuse_mosaic(place: Place, data: Any) -> None:
    """Siemens scanners put all slices of a time point into one picture, and their places into private tags."""
    if "MOSAIC" in str(data.get("ImageType") or ""):
        raise DataError(
            f"{place.name} is a mosaic of many slices in one picture.",
            "Convert the series, e.g. with dcm2niix.",
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


def _space(data: Any) -> str:
    referred = data.get("ReferencedFrameOfReferenceSequence") or [data]
    uid = _text(data, "FrameOfReferenceUID") or _text(referred[0], "FrameOfReferenceUID")
    return hashlib.sha256(uid.encode()).hexdigest()[:16] if uid else ""


def _text(data: Any, keyword: str) -> str:
    return str(data.get(keyword) or "").strip("\0 ")
