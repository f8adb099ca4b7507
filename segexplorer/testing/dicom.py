"""DICOM files for tests and benchmarks: a series, compressed or not, an enhanced multi-frame image, contours.

Every file carries the patient `PATIENT`, so that a test can look for it where it must not be.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from segexplorer.data.formats.dicom.files import quiet

PATIENT = {
    "PatientName": "Planted^Name",
    "PatientID": "PLANTED-0815",
    "PatientBirthDate": "19010203",
    "PatientSex": "O",
    "OtherPatientIDs": "PLANTED-OTHER",
    "PatientAddress": "Planted Street 1",
    "PatientComments": "planted comment",
}
CT, MR, ENHANCED_MR, RTSTRUCT = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.481.3",
)
_EXPLICIT = "1.2.840.10008.1.2.1"
COMPRESSIONS = {
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG lossless": "1.2.840.10008.1.2.4.57",
    "JPEG lossless SV1": "1.2.840.10008.1.2.4.70",
    "JPEG 2000 lossless": "1.2.840.10008.1.2.4.90",
    "RLE": "1.2.840.10008.1.2.5",
}
"""Transfer syntaxes that `compress` writes; the first one loses, and takes 8 bits."""
Change = Callable[[Any, int], None]


def write_series(
    folder: Path,
    stored: NDArray[Any],
    *,
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    across: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (0.75, 0.5),
    step: Sequence[float] = (0.0, 0.0, 2.0),
    at: Sequence[float] | None = None,
    slope: float = 1,
    intercept: float = -1024,
    series: str = "",
    number: int = 1,
    change: Change | None = None,
) -> list[Path]:
    """Write a CT series, one file per slice, and return the files in the order of the slices.

    Parameters
    ----------
    stored
        (slices, rows, columns) integers as stored.
    origin, across, step
        LPS mm: first voxel, directions of a row and of a column, from one slice to the next.
    spacing
        mm between (rows, columns).
    at
        Position of each slice, in steps from the origin; default 0, 1, 2 ...
    series
        Its UID; new by default.
    number
        Its number; also in the names of the files.
    change
        Called with each data set and its number, right before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = series or pydicom.uid.generate_uid()
    study, frame = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    paths = []
    for k, plane in enumerate(stored):
        data = _data_set(CT, "CT")
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, uid, frame
        data.SeriesNumber, data.InstanceNumber = number, k + 1
        place = np.asarray(origin, float) + np.asarray(step, float) * (k if at is None else at[k])
        data.ImagePositionPatient = [_decimal(v) for v in place]
        data.ImageOrientationPatient = [_decimal(v) for v in across]
        data.PixelSpacing = [_decimal(v) for v in spacing]
        data.SliceThickness = _decimal(float(np.linalg.norm(step)))
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        _pixels(data, plane)
        if change is not None:
            change(data, k)
        # names in another order than the slices
        path = folder / f"{number}-{(k * 37 + 11) % 997:03d}.dcm"
        save(data, path)
        paths.append(path)
    return paths


def write_enhanced(
    path: Path,
    stored: NDArray[Any],
    places: Sequence[Sequence[float]],
    *,
    across: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (0.75, 0.5),
    scales: Sequence[tuple[float, float]] = (),
    times: Sequence[int] = (),
) -> Path:
    """Write an enhanced multi-frame MR.

    Parameters
    ----------
    stored
        (frames, rows, columns).
    places
        LPS mm of each frame's first voxel.
    scales
        Slope and intercept of each frame.
    times
        Temporal position of each frame.
    """
    data = _data_set(ENHANCED_MR, "MR")
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = _uids(3)
    data.SeriesNumber, data.InstanceNumber, data.NumberOfFrames = 1, 1, len(stored)
    _pixels(data, stored)
    shared = _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=list(across))],
        PixelMeasuresSequence=[_item(PixelSpacing=list(spacing), SliceThickness=2.0)],
    )
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k, place in enumerate(places):
        content = _item(TemporalPositionIndex=times[k]) if times else _item()
        group = _item(
            PlanePositionSequence=[_item(ImagePositionPatient=list(place))], FrameContentSequence=[content]
        )
        if scales:
            slope, intercept = scales[k]
            scale = _item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
            group.PixelValueTransformationSequence = [scale]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    save(data, path)
    return path


def write_structures(
    path: Path, structures: Mapping[str, Sequence[NDArray[Any]]], kind: str = "CLOSED_PLANAR"
) -> Path:
    """Write an RTSTRUCT: name -> contours (points, 3) in LPS mm."""
    data = _data_set(RTSTRUCT, "RTSTRUCT")
    data.StudyInstanceUID, data.SeriesInstanceUID = _uids(2)
    data.SeriesNumber = 1
    data.StructureSetROISequence = [
        _item(ROINumber=n, ROIName=name) for n, name in enumerate(structures, start=1)
    ]
    data.ROIContourSequence = [
        _item(
            ReferencedROINumber=n,
            ContourSequence=[
                _item(
                    ContourGeometricType=kind,
                    NumberOfContourPoints=len(points),
                    ContourData=[_decimal(v) for v in np.asarray(points, float).ravel()],
                )
                for points in contours
            ],
        )
        for n, contours in enumerate(structures.values(), start=1)
    ]
    save(data, path)
    return path


def compress(data: Any, syntax: str) -> None:
    """Compress the pixels of a data set with unsigned values, one codestream for each frame.

    Parameters
    ----------
    syntax
        One of `COMPRESSIONS`.
    """
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    if syntax == COMPRESSIONS["RLE"]:
        encoder = pydicom.pixels.get_encoder(syntax)
        streams = [encoder.encode(data, index=k, encoding_plugin="pydicom") for k in range(len(frames))]
    elif syntax in (COMPRESSIONS["JPEG lossless"], COMPRESSIONS["JPEG lossless SV1"]):
        streams = [_jpeg_lossless(frame) for frame in frames]
    elif syntax == COMPRESSIONS["JPEG 2000 lossless"]:
        streams = [_by_pillow(frame, "JPEG2000", irreversible=False, no_jp2=True) for frame in frames]
    else:
        streams = [_by_pillow(frame, "JPEG", quality=95) for frame in frames]
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate(streams)
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True


def _by_pillow(frame: NDArray[Any], form: str, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, form, **options)
    return stream.getvalue()


def _jpeg_lossless(frame: NDArray[Any]) -> bytes:
    import SimpleITK

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "frame.dcm")
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.SetFileName(str(path))
        writer.Execute(SimpleITK.GetImageFromArray(frame))
        return bytes(
            next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
        )


def save(data: Any, path: Path) -> None:
    """Write a data set with the transfer syntax that its file header names."""
    with quiet():
        data.save_as(path, enforce_file_format=True)


def _data_set(sop_class: str, modality: str) -> Any:
    data = pydicom.dataset.Dataset()
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = _EXPLICIT, sop_class
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = (
        sop_class,
        meta.MediaStorageSOPInstanceUID,
        modality,
    )
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20200101", "120000", "", ""
    data.ReferringPhysicianName = "Planted^Doctor"
    data.InstitutionName = "Planted Hospital"
    for word, value in PATIENT.items():
        setattr(data, word, value)
    return data


def _pixels(data: Any, stored: NDArray[Any]) -> None:
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * stored.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(stored).tobytes()
    data["PixelData"].VR = "OW"


def _decimal(value: float) -> str:
    """Return a number in the 16 letters that DICOM has for it."""
    return f"{round(float(value), 10):.10g}"


def _item(**values: Any) -> Any:
    item = pydicom.dataset.Dataset()
    for word, value in values.items():
        setattr(item, word, value)
    return item


def _uids(count: int) -> list[Any]:
    return [pydicom.uid.generate_uid() for _ in range(count)]
