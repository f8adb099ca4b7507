"""Outlines of truth and prediction in a slice: lines along the faces of voxels, exactly where the labels change.

A line is drawn once and means one thing: where truth and prediction change in the same place they are correct,
elsewhere the line is the truth's or the prediction's alone. So an error lies between its two lines, whatever the
size of the voxels, and no voxel is covered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data.geometry import DisplayGrid
from segexplorer.data.volume import Volume
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels import errors

Line = Literal["correct", "truth", "prediction", "extra", "missed", "wrong", "here"]
COLOURS: Mapping[Line, str] = {
    "correct": colours.TRUE_POSITIVE,
    "truth": colours.TRUTH_OUTLINE,
    "prediction": colours.PREDICTION_OUTLINE,
    "here": colours.HERE,
    "extra": colours.FALSE_POSITIVE,
    "missed": colours.FALSE_NEGATIVE,
    "wrong": colours.WRONG_CLASS,
}
"""Colour of each line; an error has one of its own only where it is drawn as an outline over a map."""
LINES: tuple[Line, ...] = tuple(COLOURS)
"""In the order in which they are drawn."""
Lines = NDArray[np.float32]
"""(n, 2, 2) ends of line segments in mm: across the rows, along them."""
_NOTHING: Lines = np.zeros((0, 2, 2), np.float32)


@dataclass(frozen=True, eq=False)
class Outlines:
    """What lines are drawn from.

    Attributes
    ----------
    truth, prediction
        (z, y, x) class indices on the display grid; 255 in the truth is ignored.
    class_index
        One class against the rest; None for all.
    scale, translate
        mm per voxel and the centre of the first voxel, (z, y, x).
    scheme
        What the label indices mean. All classes that overlap have the lines between their combinations, so that the
        border of each is drawn, one within the other.
    """

    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    class_index: int | None
    scale: tuple[float, float, float]
    translate: tuple[float, float, float]
    scheme: LabelScheme = EXCLUSIVE

    @classmethod
    def of(cls, snapshot: WatchedSnapshot, class_index: int | None) -> Outlines | None:
        """Return the outlines of a watched case; None where it has no label."""
        if snapshot.truth is None:
            return None
        grid = DisplayGrid.of(Volume.from_array(snapshot.prediction, affine=snapshot.affine))
        scale, translate = (tuple(float(v) for v in part) for part in (grid.scale, grid.translate))
        return cls(
            grid.to_display(snapshot.truth),
            grid.to_display(snapshot.prediction),
            class_index,
            scale,  # type: ignore[arg-type]
            translate,  # type: ignore[arg-type]
            snapshot.scheme,
        )

    def index(self, axis: int, world: float) -> int | None:
        """Return the slice across an axis in which a position in mm is; None outside."""
        found = round((world - self.translate[axis]) / self.scale[axis])
        return found if 0 <= found < self.truth.shape[axis] else None

    def lines(self, axis: int, index: int, *, rims: bool = False) -> dict[Line, Lines]:
        """Return the lines in a slice.

        Parameters
        ----------
        axis, index
            Across which axis (0 = z, 1 = y, 2 = x), and which slice.
        rims
            Whether errors are outlined, as over a map, and not filled between the lines of truth and prediction.
        """
        truth, prediction = (np.moveaxis(a, axis, 0)[index, ...] for a in (self.truth, self.prediction))
        across, along = (a for a in range(3) if a != axis)
        found = self._borders(truth, prediction)
        if rims:  # the lines of truth and prediction are parts of these
            found = {"correct": found["correct"], **_rims(truth, prediction, self.class_index, self.scheme)}
        scale = np.array([self.scale[across], self.scale[along]], np.float32)
        first = np.array([self.translate[across], self.translate[along]], np.float32)
        return {line: (edges - 0.5) * scale + first for line, edges in found.items() if len(edges)}

    def faces(self, *, rims: bool = False) -> tuple[NDArray[np.uint8], ...]:
        """Return for each of three axes the line on the face between a voxel and the next one along it.

        (z, y, x) codes: 0 for none, else 1 + the line's place in `LINES`. It is for viewers that draw any slice by
        themselves; the lines of a slice are those of `lines`, but for faces at the edges of the volume.
        """
        codes = _codes(self.truth, self.prediction, self.class_index, self.scheme) if rims else None
        found = []
        for direction in range(3):
            drawn = np.zeros(self.truth.shape, np.uint8)
            here = _neighbours(drawn, direction)[0]
            for line, marks in self._marks(self.truth, self.prediction, direction).items():
                if line == "correct" or not rims:
                    here[marks] = 1 + LINES.index(line)
            if codes is not None:
                for code, line in _ERROR_LINES.items():
                    one, other = _neighbours(codes == code, direction)
                    here[one != other] = 1 + LINES.index(line)
            found.append(drawn)
        return tuple(found)

    def _borders(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> dict[Line, Lines]:
        parts: dict[Line, list[Lines]] = {}
        for direction in (0, 1):
            for line, marks in self._marks(truth, prediction, direction).items():
                parts.setdefault(line, []).append(_runs(marks, direction))
        return {line: np.concatenate(found) for line, found in parts.items()}

    def _marks(
        self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8], direction: int
    ) -> dict[Line, NDArray[np.bool_]]:
        """Return which line is between which neighbours along a direction."""
        true: NDArray[Any] = np.where(truth == errors.IGNORED, prediction, truth)
        predicted: NDArray[Any] = prediction
        if self.class_index is not None:
            true = self.scheme.mask(true, self.class_index)
            predicted = self.scheme.mask(predicted, self.class_index)
        (t, t_next), (p, p_next) = _neighbours(true, direction), _neighbours(predicted, direction)
        of_truth, of_prediction = t != t_next, p != p_next
        correct = of_truth & (t == p) & (t_next == p_next)
        return {
            "correct": correct,
            "truth": of_truth & ~correct,
            "prediction": of_prediction & ~of_truth,
        }


class MarkOutlines(Outlines):
    """The outline of one error, the one that is looked at: `truth` is the box around it, 1 in its voxels."""

    def lines(self, axis: int, index: int, *, rims: bool = False) -> dict[Line, Lines]:
        """Return the lines around the error in a slice; parameters as of `Outlines`."""
        inside = np.pad(np.moveaxis(self.truth, axis, 0)[index, ...], 1)
        found = []
        for direction in (0, 1):
            one, other = _neighbours(inside, direction)
            found.append(_runs(one != other, direction) - 1)
        across, along = (a for a in range(3) if a != axis)
        scale = np.array([self.scale[across], self.scale[along]], np.float32)
        first = np.array([self.translate[across], self.translate[along]], np.float32)
        edges = np.concatenate(found)
        return {"here": (edges - 0.5) * scale + first} if len(edges) else {}

    def faces(self, *, rims: bool = False) -> tuple[NDArray[np.uint8], ...]:
        """Return the faces around the error, of a box that is one voxel wider on each side; see `Outlines`."""
        inside = np.pad(self.truth, 1)
        found = []
        for direction in range(3):
            drawn = np.zeros(inside.shape, np.uint8)
            one, other = _neighbours(inside, direction)
            _neighbours(drawn, direction)[0][one != other] = 1 + LINES.index("here")
            found.append(drawn)
        return tuple(found)


_ERROR_LINES: Mapping[errors.Code, Line] = {
    errors.Code.FALSE_POSITIVE: "extra",
    errors.Code.FALSE_NEGATIVE: "missed",
    errors.Code.WRONG_CLASS: "wrong",
}


def _codes(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], class_index: int | None, scheme: LabelScheme
) -> NDArray[np.uint8]:
    """Return `errors.error_codes` of arrays that may be views."""
    one, other = np.ascontiguousarray(prediction), np.ascontiguousarray(truth)
    return errors.error_codes(one, other, class_index, scheme)


def _rims(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], class_index: int | None, scheme: LabelScheme
) -> dict[Line, Lines]:
    codes = _codes(truth, prediction, class_index, scheme)
    codes = np.pad(codes, 1)  # around errors at the edge of the slice too
    found: dict[Line, Lines] = {}
    for code, line in _ERROR_LINES.items():
        pairs = [_neighbours(codes == code, direction) for direction in (0, 1)]
        faces = [_runs(one != other, direction) - 1 for direction, (one, other) in enumerate(pairs)]
        found[line] = np.concatenate(faces)
    return found


def _neighbours(labels: NDArray[Any], direction: int) -> tuple[NDArray[Any], NDArray[Any]]:
    along = np.moveaxis(labels, direction, 0)
    return np.moveaxis(along[:-1], 0, direction), np.moveaxis(along[1:], 0, direction)


def _runs(marks: NDArray[np.bool_], direction: int) -> Lines:
    """Return faces between neighbours as segments, those in one line joined, in voxel edges from 0.

    `marks` says between which neighbours along `direction` a face is; the segments run along the other.
    """
    rows = marks if direction == 0 else marks.T
    if not rows.any():
        return _NOTHING
    steps = np.diff(np.pad(rows, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, begin = np.nonzero(steps == 1)
    end = np.nonzero(steps == -1)[1]  # of each row as many as beginnings, in the same order
    level = row + 1
    ends = np.stack([np.stack([level, begin], -1), np.stack([level, end], -1)], axis=1)
    return (ends if direction == 0 else ends[..., ::-1]).astype(np.float32)
