"""Writing DICOM SEG: a label as named binary segments that refer to the slices of the series it was made from.

A SEG belongs to its patient: highdicom copies the patient and study of the source series into it, as DICOM asks.
Nothing else that Segmentation Explorer writes holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, require
from segexplorer.data.geometry import Grid, compare
from segexplorer.data.readers.dicom_files import Opener
from segexplorer.data.readers.dicom_parsing import parse, quiet, reading
from segexplorer.data.readers.dicom_seg import VALUE_TEXT
from segexplorer.data.readers.dicom_series import Series, choose
from segexplorer.data.readers.whole_file import write_whole

if TYPE_CHECKING:
    from segexplorer.data.readers.dicom_stack import Stack
    from segexplorer.data.volume import Volume

_STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}


def write_seg(
    volume: Volume,
    path: Path,
    *,
    integer: bool = True,
    source: Path | None = None,
    series: int | None = None,
    names: Mapping[int, str] | None = None,
) -> Path:
    """Write a label as DICOM SEG; the file is whole or not there.

    Parameters
    ----------
    volume
        The label, on the grid of its image.
    integer
        False is refused: a SEG holds labels.
    source, series
        The DICOM image (folder, archive or file) and its number there; by default the one the volume came from.
    names
        Label value -> name; by default the volume's own, or "label 5".

    Raises
    ------
    DataError
        When the volume is no label, did not come from a DICOM series, or lies on another grid.
    MissingExtraError
        When highdicom is not installed: its decoder of JPEG-LS has no wheels for Python 3.14 yet.
    """
    if not integer or volume.array.dtype.kind not in "iub":
        raise DataError(
            f"{path.name}: only labels are written as DICOM SEG.", "Write an image as .nii.gz, .nrrd or .mha."
        )
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}.", "Create it, or choose another one.")
    chosen = _source(volume, path, source, series)
    stack = chosen.stack()
    verdict = compare(Grid(stack.shape, stack.affine), volume)
    if not verdict.same:
        raise DataError(
            f"The label lies on another grid than the series it would refer to: {verdict.text}.",
            "Resample it onto the image first (nearest voxel).",
        )
    names = names or volume.provenance.header.get("label_names") or {}
    values = sorted({int(v) for v in np.unique(volume.array)} | {int(v) for v in names} - {0})
    values = [value for value in values if value > 0]
    if not values:
        raise DataError("The label marks nothing, so there is no segment to write.", "Write it as .nii.gz.")
    data = _segmentation(chosen, stack, volume.array, {v: str(names.get(v, f"label {v}")) for v in values})
    write_whole(path, partial(_save, data))
    return path


def _source(volume: Volume, path: Path, source: Path | None, series: int | None) -> Series:
    known: Mapping[str, Any] = volume.provenance.header.get("dicom") or {}
    if source is None and not known:
        raise DataError(
            f"{path.name}: a DICOM SEG refers to a DICOM series, and this volume came from none.",
            "Name the series, or write .nii.gz, .nrrd or .mha.",
        )
    place = Path(known["path"]) if source is None else source
    number = known.get("series") if source is None else series
    if not place.exists():
        raise DataError(f"The DICOM series {place} is not there any more.", "Put it back, or write .nii.gz.")
    return choose(place, select=number)


def _segmentation(chosen: Series, stack: Stack, label: NDArray[Any], names: Mapping[int, str]) -> Any:
    """Return the SEG data set; slices that were filled in have no image to refer to and are left out."""
    highdicom = require("highdicom", "", "Writing DICOM SEG")
    at = {mix.first: k for k, mix in enumerate(stack.mixes) if mix.weight == 0}
    used = [i for i in range(len(stack.frames)) if i in at]
    sources = _source_images(stack, used)
    if len(sources) == 1 and stack.frames[0].encoding.frames > 1:
        # one multi-frame image: all its frames, in its own order
        used.sort(key=lambda i: stack.frames[i].index)
        if len(used) != stack.frames[0].encoding.frames:
            raise DataError(
                "The image is a part of a multi-frame file, which a DICOM SEG cannot refer to.",
                "Write .nii.gz.",
            )
    numbers = np.zeros(max(int(label.max()), max(names)) + 1, np.uint8 if len(names) < 256 else np.uint16)
    for number, value in enumerate(names, start=1):
        numbers[value] = number
    pixels = np.stack([numbers[np.maximum(label[:, :, at[i]], 0)].T for i in used])
    with reading(
        "The DICOM series lacks what a DICOM SEG must repeat of it.", "Write .nii.gz, .nrrd or .mha."
    ) as pydicom:
        return highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _described(n, v, name) for n, (v, name) in enumerate(names.items(), start=1)
            ],
            series_instance_uid=pydicom.uid.generate_uid(),
            series_number=max(1, chosen.headers[0].series_number + 1000),
            sop_instance_uid=pydicom.uid.generate_uid(),
            instance_number=1,
            manufacturer="Segmentation Explorer",
            manufacturer_model_name="segexplorer",
            software_versions=_version(),
            device_serial_number="0",
            content_label="SEGMENTATION",
        )


def _described(number: int, value: int, name: str) -> Any:
    import pydicom

    highdicom = require("highdicom", "", "Writing DICOM SEG")
    code = pydicom.sr.coding.Code
    tissue = code("85756007", "SCT", "Tissue")
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=tissue,
        segmented_property_type=tissue,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="Segmentation Explorer",
            family=code("123110", "DCM", "Artificial Intelligence"),
            version=_version(),
        ),
    )
    described.SegmentDescription = VALUE_TEXT.format(value)
    return described


def _source_images(stack: Stack, used: list[int]) -> list[Any]:
    """Return the headers of the source files in the order of the slices, each once."""
    import pydicom

    places = dict.fromkeys(stack.frames[i].place for i in used)
    sources = []
    with Opener() as opener:
        for place in places:
            parsed = parse(place, opener, None)
            assert parsed is not None
            sources.append(parsed[0])
    seed = [str(source.get("FrameOfReferenceUID", "")) for source in sources[:1]]
    for source in sources:
        meta = source.file_meta
        # files that lost identifiers get those of their file header, or new ones that are the same for all slices
        for word, made in (
            ("SOPClassUID", meta.get("MediaStorageSOPClassUID") or _STORAGE.get(source.get("Modality", ""))),
            ("SOPInstanceUID", meta.get("MediaStorageSOPInstanceUID")),
            ("StudyInstanceUID", pydicom.uid.generate_uid(entropy_srcs=["study", *seed])),
            ("SeriesInstanceUID", pydicom.uid.generate_uid(entropy_srcs=["series", *seed])),
            ("FrameOfReferenceUID", pydicom.uid.generate_uid(entropy_srcs=["frame", *seed])),
        ):
            if not source.get(word):
                setattr(source, word, made or pydicom.uid.generate_uid())
        for word in (
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "AccessionNumber",
            "StudyID",
        ):
            if word not in source:
                setattr(source, word, "")
        if not source.get("SpecificCharacterSet"):
            source.SpecificCharacterSet = "ISO_IR 100"
        for word in ("StudyDate", "StudyTime", "ReferringPhysicianName"):
            if word not in source:
                setattr(source, word, None)
    return sources


def _save(data: Any, file: IO[bytes]) -> None:
    with quiet():
        data.save_as(file, enforce_file_format=True)


def _version() -> str:
    return version("segexplorer")
