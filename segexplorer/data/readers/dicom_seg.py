"""Reading DICOM SEG: each segment on the grid of its frames, which often is a part of the image's; names kept."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.geometry import Grid, HasGrid
from segexplorer.data.readers import dicom_files
from segexplorer.data.readers.dicom_files import Opener
from segexplorer.data.readers.dicom_frames import Frame
from segexplorer.data.readers.dicom_header import Header
from segexplorer.data.readers.dicom_parsing import parse, reading
from segexplorer.data.readers.dicom_pixels import read_frames
from segexplorer.data.readers.dicom_segments import Mask, Segments
from segexplorer.data.readers.dicom_stack import SAME_PLACE_MM, affine_of, axes, depths
from segexplorer.data.volume import Provenance

VALUE_TEXT = "label value {}"
"""How the description of a segment keeps the value it had in our label: DICOM numbers segments 1, 2, 3 ..."""
_WANTED = ("SegmentSequence", "SegmentationType", "MaximumFractionalValue", "SegmentsOverlap")


def read_seg(header: Header, path: Path, *, like: HasGrid | None = None) -> Segments:
    """Return the segments of a DICOM SEG file.

    Parameters
    ----------
    header
        Of the file.
    path
        What the user named: the file, or a folder or archive that holds it.
    like
        The image; the segments are brought onto its grid by world position. Without one they lie on their own.

    Raises
    ------
    DataError
        When it is damaged, names no segment, or its frames form no grid.
    """
    if header.problem is not None:
        raise header.problem
    contents = contents_of(header)
    frames = header.frames
    if not all(frame.placed and frame.spacing for frame in frames):
        raise DataError(
            f"{header.place.name} does not say where its frames lie.", "Export the segmentation again."
        )
    grid, slices = _own_grid(frames, like)
    notes = []
    fractional = contents.kind == "FRACTIONAL"
    if fractional:
        notes.append("The segments are stored as fractions; those of at least one half count.")
    provenance = Provenance(path, "DICOM SEG", tuple(notes))
    least = contents.full / 2 if fractional else 1
    planes = _Frames(frames, tuple(slices), grid.shape, contents.numbers, contents.kind == "LABELMAP", least)
    segments = Segments(contents.names, planes, 2, grid, provenance, contents.may_overlap)
    return segments if like is None else segments.onto(like)


@dataclass(frozen=True)
class Contents:
    """What a file says about its segments; `numbers` are theirs in the file, by value."""

    names: dict[int, str]
    numbers: dict[int, int]
    kind: str
    full: float
    may_overlap: bool

    @classmethod
    def of(cls, data: Any) -> Contents:
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

    Frames without any voxel are usually left out of the file, so gaps are no fault; the slice distance is the
    image's where it is known, else the smallest gap.
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
    if math.prod(shape) > dicom_files.MAX_BYTES:
        raise DataError(
            f"The frames of {first.place.name} lie {span:.3g} mm apart, which makes too many slices.",
            "Export the segmentation on its image's grid.",
        )
    return Grid(shape, affine), slices


def _step(levels: NDArray[np.float64], image_step: float | None) -> float:
    """Return the distance of which all gaps are multiples: the image's, else the smallest gap; 0 where none is."""
    gaps = np.diff(levels)
    gaps = gaps[gaps > SAME_PLACE_MM]
    for step in (image_step, float(gaps.min())):
        if step and np.abs(levels / step - np.rint(levels / step)).max() < 0.1:
            return float(levels[-1] / np.rint(levels[-1] / step))
    return 0.0


def _step_along(like: HasGrid | None, normal: NDArray[np.float64]) -> float | None:
    """Return the slice distance of an image along a normal (LPS), None where its slices do not face it."""
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
        """The values (slices, rows, columns) of a label map, which holds all segments in one."""
        columns, rows, count = self.shape
        values = np.zeros((count, rows, columns), np.uint16)
        for n, raw in read_frames(self.frames):
            values[self.slices[n]] = raw
        return values
