"""From slices anywhere in the patient to one grid: order, spacing, tilt, gaps. Pure geometry; no file is read.

What is done with imperfect series, with a note each time:

* positions that scatter by less than 5 % of the slice distance (or 0.05 mm) are taken as even;
* missing slices (the gaps are multiples of one distance) are filled by linear interpolation, at most four in a row
  and at most as many as there are; the slices that exist keep their voxels and their positions;
* otherwise uneven slices are interpolated linearly onto even ones at their median distance, in the same range;
* a gantry tilt is kept as it is: a sheared affine, exact at every voxel.

Larger gaps, and slices that are shifted sideways, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom.header import Frame
from segexplorer.data.geometry import Affine

SAME_PLACE_MM = 1e-3
"""Slices closer than this are at the same position."""
SCATTER_PART, SCATTER_MM = 0.05, 0.05
"""How far positions may be from even ones: part of the slice distance, or mm, whichever is more."""
LONGEST_GAP = 4
"""Most missing slices in a row that are filled."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TILT_DEGREES = 0.05
"""A tilt below this is rounding."""


@dataclass(frozen=True)
class SliceSource:
    """What a slice of the grid is made from: `(1 - weight) * first + weight * second`, numbers of sorted frames."""

    first: int
    second: int
    weight: float


@dataclass(frozen=True)
class Stack:
    """Frames in order on one grid.

    Attributes
    ----------
    affine
        (columns, rows, slices) index -> RAS mm.
    sources
        What each slice of the grid is made from.
    notes
        What was assumed or corrected, as sentences.
    """

    frames: tuple[Frame, ...]
    affine: Affine
    sources: tuple[SliceSource, ...]
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(columns, rows, slices)."""
        encoding = self.frames[0].encoding
        return encoding.columns, encoding.rows, len(self.sources)


def axes(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit directions of a frame's columns index, rows index and normal, LPS.

    Raises
    ------
    DataError
        When the two directions are not of length one and at right angles.
    """
    across = np.asarray(frame.across or (1, 0, 0, 0, 1, 0), float)
    row, column = across[:3], across[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(n - 1) for n in lengths) > 0.01 or abs(row @ column) > 0.01:
        raise DataError(
            f"The orientation in {frame.place.name} is damaged: its axes are not at right angles or not of "
            "length one.",
            "Export it again.",
        )
    row, column = row / lengths[0], column / lengths[1]
    return row, column, np.cross(row, column)


def depths(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Return the position of each frame along the normal of the first, mm."""
    normal = axes(frames[0])[2]
    return np.asarray([np.asarray(frame.position or (0, 0, 0), float) @ normal for frame in frames])


def ordered(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return frames in order along their normal; by number where they give no position."""
    if not all(frame.placed for frame in frames):
        return tuple(sorted(frames, key=lambda frame: (frame.number, frame.place, frame.index)))
    order = np.lexsort((np.asarray([frame.number for frame in frames]), depths(frames)))
    return tuple(frames[i] for i in order)


def collisions(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """Return the pairs of neighbours, by number, that are at the same position."""
    if not all(frame.placed for frame in frames):
        return []
    gaps = np.diff(depths(frames))
    return [(int(i), int(i) + 1) for i in np.flatnonzero(gaps < SAME_PLACE_MM)]


def stacked(frames: Sequence[Frame]) -> Stack:
    """Put frames of one volume on one grid.

    Raises
    ------
    DataError
        When two are at the same position, when they are shifted sideways, or when too many are missing.
    """
    frames = ordered(frames)
    if not all(frame.placed for frame in frames):
        return _placeless(frames)
    if twice := collisions(frames):
        raise DataError(
            f"{len(twice)} slices of the series are at the same position as another one but differ.",
            "Keep one acquisition in the folder.",
        )
    if len(frames) == 1:
        return _single(frames)
    places = np.asarray([frame.position for frame in frames], float)
    depth = depths(frames)
    along = (places[-1] - places[0]) / (depth[-1] - depth[0])
    notes = _sideways(frames, places, depth - depth[0], along)
    sources, step, more = _even(depth)
    # `along` advances 1 mm along the normal, so its length is 1 / cos(tilt)
    tilt = math.degrees(math.acos(min(1.0, 1 / float(np.linalg.norm(along)))))
    if tilt > _TILT_DEGREES:
        notes.append(f"The gantry was tilted by {tilt:.1f} degrees, so the grid is sheared.")
    affine = affine_of(frames[0], along * step)
    return Stack(frames, affine, sources, (*notes, *more))


def affine_of(frame: Frame, step: NDArray[np.float64]) -> Affine:
    """Return (column, row, slice) index -> RAS mm of a stack that begins with this frame; `step` LPS mm.

    Raises
    ------
    DataError
        When the frame has no pixel size.
    """
    row, column, _ = axes(frame)
    between = frame.spacing or (1.0, 1.0)
    if min(between) <= 0:
        raise DataError(f"{frame.place.name} gives a pixel spacing of 0.", "Export it again.")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * between[1], column * between[0], step
    lps[:3, 3] = frame.position or (0.0, 0.0, 0.0)
    return np.asarray(_LPS_TO_RAS @ lps)


def _single(frames: tuple[Frame, ...]) -> Stack:
    frame = frames[0]
    notes = _assumed(frame)
    if frame.thickness is None:
        notes.append("The slice does not say how thick it is; 1 mm was assumed.")
    affine = affine_of(frame, axes(frame)[2] * (frame.thickness or 1.0))
    return Stack(frames, affine, (SliceSource(0, 0, 0.0),), tuple(notes))


def _placeless(frames: tuple[Frame, ...]) -> Stack:
    frame = frames[0]
    step = frame.thickness or 1.0
    notes = [
        "The file does not say where it is in space; axial slices from feet to head in the order of their "
        f"numbers were assumed, {step:.4g} mm apart.",
        *_assumed(frame),
    ]
    sources = tuple(SliceSource(i, i, 0.0) for i in range(len(frames)))
    return Stack(frames, affine_of(frame, axes(frame)[2] * step), sources, tuple(notes))


def _assumed(frame: Frame) -> list[str]:
    notes = []
    if frame.spacing is None:
        notes.append("The file gives no pixel spacing; 1 mm was assumed.")
    if frame.flat:
        notes.append(
            "The file gives a rescale slope of 0, which would make every voxel equal; 1 was assumed."
        )
    return notes


def _sideways(
    frames: tuple[Frame, ...], places: NDArray[Any], depth: NDArray[Any], along: NDArray[Any]
) -> list[str]:
    """Check that the first voxels are on one line: true of a tilted stack, not of slices with other centres."""
    off = float(np.linalg.norm(places - places[0] - depth[:, None] * along, axis=1).max())
    pixel = min(frames[0].spacing or (1.0, 1.0))
    if off > max(SCATTER_MM, 0.5 * pixel):
        raise DataError(
            f"The slices of the series are shifted against each other by up to {off:.3g} mm, so they form no grid.",
            "Export them with one centre, or resample them first.",
        )
    return _assumed(frames[0])


def _even(depth: NDArray[np.float64]) -> tuple[tuple[SliceSource, ...], float, list[str]]:
    """Return how evenly spaced slices are made of those at these depths, their distance, and notes."""
    count, span = len(depth), float(depth[-1] - depth[0])
    step = span / (count - 1)
    off = float(np.abs(depth - depth[0] - step * np.arange(count)).max())
    if off <= _scatter(step):
        note = f"The slice positions scatter by up to {off:.2g} mm about even ones, which were taken."
        return tuple(SliceSource(i, i, 0.0) for i in range(count)), step, [note] if off > 0.01 * step else []
    return _filled(depth) or _interpolated(depth)


def _scatter(step: float) -> float:
    return min(max(SCATTER_PART * step, SCATTER_MM), 0.25 * step)


def _filled(depth: NDArray[np.float64]) -> tuple[tuple[SliceSource, ...], float, list[str]] | None:
    """Fill missing slices where all gaps are multiples of the smallest; None where they are not."""
    gaps = np.diff(depth)
    times = np.rint(gaps / gaps.min()).astype(int)
    step = float((depth[-1] - depth[0]) / times.sum())
    steps = np.concatenate([[0], np.cumsum(times)])
    if np.abs(depth - depth[0] - step * steps).max() > _scatter(step):
        return None
    missing = int(times.sum()) + 1 - len(depth)
    longest = int(times.argmax())
    if times.max() - 1 > LONGEST_GAP or missing > len(depth):
        raise DataError(
            f"{missing} slices of the series are missing, {times.max() - 1} of them in a row "
            f"({gaps[longest]:.4g} mm after slice {longest + 1} of {len(depth)}).",
            "Get the whole series, or keep one connected part of it in a folder.",
        )
    sources = [SliceSource(0, 0, 0.0)]
    for i, n in enumerate(times):
        sources += [SliceSource(i, i + 1, k / int(n)) for k in range(1, int(n))] + [
            SliceSource(i + 1, i + 1, 0.0)
        ]
    where = ", ".join(str(i + 1) for i in np.flatnonzero(times > 1)[:5])
    is_or_are = "slice is" if missing == 1 else "slices are"
    note = (
        f"{missing} {is_or_are} missing (after slice {where} of {len(depth)}); filled by interpolation between "
        f"neighbours, so that slices are {step:.4g} mm apart."
    )
    return tuple(sources), step, [note]


def _interpolated(depth: NDArray[np.float64]) -> tuple[tuple[SliceSource, ...], float, list[str]]:
    """Return slices at the median distance over the same range, each interpolated between its neighbours."""
    gaps = np.diff(depth)
    middle = float(np.median(gaps))
    span = float(depth[-1] - depth[0])
    count = max(2, round(span / middle) + 1)
    if gaps.max() > (LONGEST_GAP + 1) * middle or count > 2 * len(depth):
        raise DataError(
            f"The slices are uneven, {gaps.min():.4g} to {gaps.max():.4g} mm apart, with gaps too large to fill.",
            "Get the whole series, or keep one connected part of it in a folder.",
        )
    step = span / (count - 1)
    wanted = depth[0] + step * np.arange(count)
    below = np.clip(np.searchsorted(depth, wanted, side="right") - 1, 0, len(depth) - 2)
    weights = np.clip((wanted - depth[below]) / gaps[below], 0, 1)
    note = (
        f"The slices are uneven, {gaps.min():.4g} to {gaps.max():.4g} mm apart; they were interpolated onto even "
        f"ones {step:.4g} mm apart."
    )
    weights = np.where(np.abs(weights - np.rint(weights)) < 1e-6, np.rint(weights), weights)
    sources = tuple(
        SliceSource(int(i), int(i) + 1, float(w)) if 0 < w < 1 else SliceSource(int(i + w), int(i + w), 0.0)
        for i, w in zip(below, weights, strict=True)
    )
    return sources, step, [note]
