"""DICOM SEG: reading its segments onto a grid by world position, and writing a label as segments.

Reading is our own rather than highdicom's `get_volume`, which refuses segmentations of a tilted gantry, big-endian
files, and files that lost a UID or an index to an anonymiser, with errors of a dozen types. Writing is highdicom's:
a SEG belongs to its patient, and highdicom copies patient and study of the source series into it, as DICOM asks.
Nothing else that Segmentation Explorer writes holds them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, require
from segexplorer.data.formats.dicom import files
from segexplorer.data.formats.dicom.files import Opener, parse, quiet, reading
from segexplorer.data.formats.dicom.header import Frame, Header
from segexplorer.data.formats.dicom.pixels import read_frames
from segexplorer.data.formats.dicom.segments import Mask, Segments
from segexplorer.data.formats.dicom.series import Series, choose
from segexplorer.data.formats.dicom.stack import SAME_PLACE_MM, Stack, affine_of, axes, depths
from segexplorer.data.geometry import Grid, HasGrid, compare
from segexplorer.data.volume import Provenance, Volume

VALUE_TEXT = "label value {}"
"""How the description of a segment keeps its value in the label: DICOM numbers segments 1, 2, 3 ..."""
_WANTED = ("SegmentSequence", "SegmentationType", "MaximumFractionalValue", "SegmentsOverlap")
_STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
"""SOP class of images that lost theirs, by modality."""

# --- reading ---


def read_seg(header: Header, path: Path, *, like: HasGrid | None = None) -> Segments:
    """Return the segments of a DICOM SEG file.

    Parameters
    ----------
    header
        Of the file.
    path
        What the user named: the file, or a folder or archive that holds it.
    like
        The image; the segments are brought onto its grid by world position. Without one they keep their own grid.

    Raises
    ------
    DataError
        When it is damaged, names no segment, or its frames form no grid.
    """
    if header.problem is not None:
        raise header.problem
    contents = contents_of(header)
    frames = header.frames
    if not frames:
        raise DataError(f"{header.place.name} holds no voxels.", "Export the segmentation again.")
    if not all(frame.placed and frame.spacing for frame in frames):
        raise DataError(
            f"{header.place.name} does not say where its frames are.", "Export the segmentation again."
        )
    grid, slices = _own_grid(frames, like)
    notes = []
    fractional = contents.kind == "FRACTIONAL"
    if fractional:
        notes.append("The segments are stored as fractions; those of at least one half count.")
    provenance = Provenance(path, "DICOM SEG", tuple(notes))
    # at least one half of the highest value, which need not be 255
    least = contents.highest / 2 if fractional else 1
    planes = _Frames(frames, tuple(slices), grid.shape, contents.numbers, contents.kind == "LABELMAP", least)
    segments = Segments(contents.names, planes, 2, grid, provenance, contents.may_overlap)
    return segments if like is None else segments.onto(like)


@dataclass(frozen=True)
class Contents:
    """What a file says about its segments.

    Attributes
    ----------
    names, numbers
        Value in a label -> name, and number in the file.
    kind
        BINARY, FRACTIONAL or LABELMAP.
    highest
        The stored value that means a fraction of 1.
    """

    names: dict[int, str]
    numbers: dict[int, int]
    kind: str
    highest: float
    may_overlap: bool

    @classmethod
    def of(cls, data: Any) -> Contents:
        """Take them from a data set."""
        kind = str(data.get("SegmentationType") or "BINARY")
        items = {int(item.SegmentNumber): item for item in data.get("SegmentSequence") or ()}
        if kind == "LABELMAP":
            items.pop(0, None)  # the background may be described as a segment of its own
        values = {number: _value(number, item) for number, item in items.items()}
        if len(set(values.values())) < len(values):
            values = {number: number for number in items}
        return cls(
            {values[n]: str(item.get("SegmentLabel") or f"segment {n}") for n, item in items.items()},
            {value: number for number, value in values.items()},
            kind,
            float(data.get("MaximumFractionalValue") or 255),
            kind != "LABELMAP" and str(data.get("SegmentsOverlap")) != "NO",
        )


def _value(number: int, item: Any) -> int:
    """Return the value that a segment had in the label we wrote it from, else its number."""
    found = re.fullmatch(VALUE_TEXT.format(r"(\d{1,5})"), str(item.get("SegmentDescription") or ""))
    return int(found[1]) if found else number


def contents_of(header: Header) -> Contents:
    """Read what a file says about its segments.

    Raises
    ------
    DataError
        When that is damaged, or does not fit its frames.
    """
    with Opener() as opener:
        parsed = parse(header.place, opener, _WANTED)
    assert parsed is not None
    with reading(f"The list of segments in {header.place.name} is damaged."):
        contents = Contents.of(parsed[0])
    unnamed = {frame.segment for frame in header.frames} - {0, *contents.numbers.values()}
    if unnamed and contents.kind != "LABELMAP":
        raise DataError(
            f"{header.place.name} holds frames of segment {min(unnamed)}, which it does not describe.",
            "Export the segmentation again.",
        )
    if not contents.names:
        raise DataError(f"{header.place.name} describes no segment.", "Export the segmentation again.")
    return contents


def _own_grid(frames: tuple[Frame, ...], like: HasGrid | None) -> tuple[Grid, NDArray[Any]]:
    """Return the smallest grid that holds all frames, and the slice of each.

    Frames without any voxel are usually left out of the file, so gaps are normal; the slice distance is that of the
    image where it is known, else the smallest gap.
    """
    first = frames[0]
    same = all(
        np.allclose(f.across or (), first.across or (), atol=1e-4)
        and np.allclose(f.spacing or (), first.spacing or (), atol=1e-4)
        for f in frames
    )
    depth = depths(frames)
    lowest, highest = int(depth.argmin()), int(depth.argmax())
    span = float(depth[highest] - depth[lowest])
    normal = axes(first)[2]
    image_step = _step_along(like, normal)
    if span < SAME_PLACE_MM:
        along, step = normal, image_step or first.thickness or 1.0
    else:
        ends = np.subtract(frames[highest].position or (), frames[lowest].position or ())
        along = ends / span
        step = _step(np.unique(np.round(depth - depth[lowest], 4)), image_step)
    slices = np.rint((depth - depth[lowest]) / step).astype(int) if step else np.zeros(len(frames), int)
    places = np.asarray([frame.position for frame in frames], float)
    expected = places[lowest] + (depth - depth[lowest])[:, None] * along
    off = float(np.linalg.norm(places - expected, axis=1).max())
    if not same or not step or off > min(first.spacing or (1.0,)) / 2:
        raise DataError(
            f"The frames of {first.place.name} form no grid.", "Export the segmentation on its image's grid."
        )
    affine = affine_of(frames[lowest], along * step)
    shape = (first.encoding.columns, first.encoding.rows, int(slices.max()) + 1)
    if math.prod(shape) > files.MAX_BYTES:
        raise DataError(
            f"The frames of {first.place.name} extend over {span:.3g} mm, which makes too many slices.",
            "Export the segmentation on its image's grid.",
        )
    return Grid(shape, affine), slices


def _step(levels: NDArray[np.float64], image_step: float | None) -> float:
    """Return the distance of which all gaps are multiples: the image's or the smallest gap; 0 if neither fits."""
    gaps = np.diff(levels)
    gaps = gaps[gaps > SAME_PLACE_MM]
    for step in (image_step, float(gaps.min())):
        if step and np.abs(levels / step - np.rint(levels / step)).max() < 0.1:
            return float(levels[-1] / np.rint(levels[-1] / step))
    return 0.0


def _step_along(like: HasGrid | None, normal: NDArray[np.float64]) -> float | None:
    """Return the slice distance of an image along a normal (LPS); None where its slices have another normal."""
    if like is None:
        return None
    columns = np.asarray(like.affine)[:3, :3]
    ras = normal * (-1, -1, 1)
    along = np.abs(ras @ columns)
    across = [i for i in range(3) if along[i] < 1e-3 * np.linalg.norm(columns[:, i])]
    return float(along.max()) if len(across) == 2 else None


@dataclass(frozen=True)
class _Frames:
    """Reads the frames of one segment; picklable."""

    frames: tuple[Frame, ...]
    slices: tuple[int, ...]
    shape: tuple[int, ...]
    numbers: dict[int, int]
    labelmap: bool
    least: float

    def __call__(self, value: int) -> Iterator[tuple[int, Mask]]:
        if self.labelmap:
            for number, plane in enumerate(self._values):
                if (inside := plane == self.numbers[value]).any():
                    yield number, inside.T
            return
        own = [i for i, frame in enumerate(self.frames) if frame.segment == self.numbers[value]]
        for n, raw in read_frames([self.frames[i] for i in own]):
            yield self.slices[own[n]], (raw >= self.least).T

    @cached_property
    def _values(self) -> NDArray[Any]:
        """The values (slices, rows, columns) of a label map, whose frames hold all segments at once."""
        columns, rows, count = self.shape
        values = np.zeros((count, rows, columns), np.uint16)
        for n, raw in read_frames(self.frames):
            values[self.slices[n]] = raw
        return values


# --- writing ---


def write_seg(
    volume: Volume,
    path: Path,
    *,
    integer: bool = True,
    source: Path | None = None,
    series: int | None = None,
    names: Mapping[int, str] | None = None,
) -> Path:
    """Write a label as DICOM SEG, atomically.

    Parameters
    ----------
    volume
        The label, on the grid of its image.
    integer
        False is refused: a SEG holds labels.
    source, series
        The DICOM image (folder, archive or file) and its number there; by default the one that the volume is from.
    names
        Label value -> name; by default the volume's own, or "label 5".

    Raises
    ------
    DataError
        When the volume is no label, is not from a DICOM series, or is on another grid than the series.
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
            f"The label is on another grid than the series it would refer to: {verdict.text}.",
            "Resample it onto the image first (nearest voxel).",
        )
    names = names or volume.provenance.header.get("label_names") or {}
    values = sorted({int(v) for v in np.unique(volume.array)} | {int(v) for v in names} - {0})
    values = [value for value in values if value > 0]
    if not values:
        raise DataError("The label marks nothing, so there is no segment to write.", "Write it as .nii.gz.")
    data = _segmentation(chosen, stack, volume.array, {v: str(names.get(v, f"label {v}")) for v in values})
    atomic_write(path, partial(_save, data))
    return path


def _source(volume: Volume, path: Path, source: Path | None, series: int | None) -> Series:
    known: Mapping[str, Any] = volume.provenance.header.get("dicom") or {}
    if source is None and not known:
        raise DataError(
            f"{path.name}: a DICOM SEG refers to a DICOM series, and this volume is not from one.",
            "Name the series, or write .nii.gz, .nrrd or .mha.",
        )
    place = Path(known["path"]) if source is None else source
    number = known.get("series") if source is None else series
    if not place.exists():
        raise DataError(f"The DICOM series {place} no longer exists.", "Put it back, or write .nii.gz.")
    return choose(place, select=number)


def _segmentation(chosen: Series, stack: Stack, label: NDArray[Any], names: Mapping[int, str]) -> Any:
    """Return the SEG data set; slices that were filled in have no image to refer to and are left out."""
    highdicom = require("highdicom", "", "Writing DICOM SEG")
    at = {source.first: k for k, source in enumerate(stack.sources) if source.weight == 0}
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
