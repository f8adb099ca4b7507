"""Prediction against truth: error codes with legend and volumes, and the list of errors, worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.data.volume import value_counts
from segexplorer.viewmodels.regions import millilitres

IGNORED = 255


class Code(IntEnum):
    """What is drawn in a voxel of the errors layer."""

    NOTHING = 0
    TRUE_POSITIVE = 1
    FALSE_POSITIVE = 2
    FALSE_NEGATIVE = 3
    WRONG_CLASS = 4


@dataclass(frozen=True)
class LegendEntry:
    """One line of the legend."""

    code: Code
    name: str
    colour: str
    outline: bool = False


LEGEND: tuple[LegendEntry, ...] = (
    LegendEntry(Code.FALSE_POSITIVE, "extra (false positive)", colours.FALSE_POSITIVE),
    LegendEntry(Code.FALSE_NEGATIVE, "missed (false negative)", colours.FALSE_NEGATIVE),
    LegendEntry(Code.WRONG_CLASS, "wrong organ", colours.WRONG_CLASS),
    LegendEntry(Code.TRUE_POSITIVE, "correct (outline)", colours.TRUE_POSITIVE, outline=True),
)


def legend(class_index: int | None = None) -> tuple[LegendEntry, ...]:
    """Return the legend; one class against the rest has no wrong organ."""
    return LEGEND if class_index is None else tuple(e for e in LEGEND if e.code != Code.WRONG_CLASS)


def colour_table() -> dict[int, tuple[float, float, float, float]]:
    """Return code -> red, green, blue, opacity; nothing is transparent."""
    return {int(Code.NOTHING): (0.0, 0.0, 0.0, 0.0)} | {int(e.code): colours.rgba(e.colour) for e in LEGEND}


def error_codes(
    prediction: NDArray[Any], truth: NDArray[Any], class_index: int | None = None
) -> NDArray[np.uint8]:
    """Return a `Code` per voxel.

    Parameters
    ----------
    prediction, truth
        uint8 class indices of one shape, 0 = background; where the truth is 255 nothing is drawn.
    class_index
        One class against the rest (background and other classes alike); None for all classes, where an organ
        taken for another is a wrong class.

    Raises
    ------
    DataError
        When the shapes differ or the arrays are not uint8.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}.",
            "Errors need both on the same grid.",
        )
    if prediction.dtype != np.uint8 or truth.dtype != np.uint8:
        raise DataError(
            f"Errors are drawn from uint8 class indices, not {prediction.dtype} and {truth.dtype}.",
            "Encode the labels with the experiment's classes first.",
        )
    # one look-up per voxel in a table over all (truth, prediction) pairs
    codes: NDArray[np.uint8] = _table(class_index)[truth, prediction]
    return codes


def _table(class_index: int | None) -> NDArray[np.uint8]:
    truth, prediction = np.mgrid[0:256, 0:256]
    if class_index is None:
        in_truth, in_prediction = truth > 0, prediction > 0
        wrong = in_truth & in_prediction & (truth != prediction)
    else:
        in_truth, in_prediction = truth == class_index, prediction == class_index
        wrong = np.zeros_like(in_truth)
    codes = np.select(
        [truth == IGNORED, wrong, in_truth & in_prediction, in_prediction, in_truth],
        [
            Code.NOTHING,
            Code.WRONG_CLASS,
            Code.TRUE_POSITIVE,
            Code.FALSE_POSITIVE,
            Code.FALSE_NEGATIVE,
        ],
        Code.NOTHING,
    )
    return codes.astype(np.uint8)


def with_outline(
    codes: NDArray[np.uint8], prediction: NDArray[Any], axes: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Return the codes with true positives only where they border on something else.

    Parameters
    ----------
    codes, prediction
        Error codes and the class indices they came from, of one shape; touching organs keep their border.
    axes
        Axes along which a border counts: the two of the slice that is looked at. None for all.
    """
    correct = codes == Code.TRUE_POSITIVE
    marks = np.where(correct, prediction, 0)
    border = np.zeros_like(correct)
    for axis in range(codes.ndim) if axes is None else axes:
        low = [slice(None)] * codes.ndim
        high = [slice(None)] * codes.ndim
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        change = marks[tuple(low)] != marks[tuple(high)]
        border[tuple(low)] |= change
        border[tuple(high)] |= change
    outlined = codes.copy()
    outlined[correct & ~border] = Code.NOTHING
    return outlined


def volumes_ml(codes: NDArray[np.uint8], spacing: Sequence[float]) -> Mapping[Code, float]:
    """Return the volume of every code but nothing, in ml; `spacing` in mm. Take codes without outline."""
    counts = value_counts(codes)
    millilitres = float(np.prod(np.asarray(spacing, dtype=float))) / 1000
    return {code: counts.get(int(code), 0) * millilitres for code in Code if code is not Code.NOTHING}


@dataclass(frozen=True)
class ErrorPiece:
    """One connected piece of error of one class.

    Attributes
    ----------
    kind
        "extra" (false positive of the class) or "missed" (false negative).
    class_index, class_name
        The class.
    volume_ml, voxels
        Its size.
    voxel
        The voxel of the piece nearest to its centroid, in array indices.
    world
        That voxel's centre through the affine, mm.
    instead
        The organ that most of the piece was taken for, or was taken from; "" where that is background.
    """

    kind: Literal["extra", "missed"]
    class_index: int
    class_name: str
    volume_ml: float
    voxels: int
    voxel: tuple[int, ...]
    world: tuple[float, ...]
    instead: str = ""

    @property
    def sentence(self) -> str:
        """The line of the list, e.g. "3.1 ml of spleen missed (called liver)"."""
        text = f"{millilitres(self.volume_ml)} of {self.class_name} {self.kind}"
        if not self.instead:
            return text
        return f"{text} ({'called' if self.kind == 'missed' else 'is'} {self.instead})"


@dataclass(frozen=True)
class _Found:
    kind: Literal["extra", "missed"]
    class_index: int
    size: int
    corner: tuple[int, ...]
    mask: NDArray[np.bool_]


def error_pieces(
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    class_names: Sequence[str],
    affine: NDArray[np.float64],
    *,
    minimum_ml: float = 0.05,
    limit: int = 200,
    class_index: int | None = None,
) -> tuple[ErrorPiece, ...]:
    """List the connected pieces of error, the largest first.

    Pieces connect through faces, edges and corners. A voxel of one organ taken for another is in two pieces:
    missed of the true class, extra of the predicted one. Voxels whose truth is 255 are no error.

    Parameters
    ----------
    prediction, truth
        uint8 class indices of one shape.
    class_names
        Foreground classes for indices 1, 2, ...
    affine
        (D + 1, D + 1) voxel -> world, mm.
    minimum_ml
        Smaller pieces are left out.
    limit
        Most pieces returned.
    class_index
        One class only; None for all.

    Raises
    ------
    DataError
        When the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}.",
            "Errors need both on the same grid.",
        )
    d = prediction.ndim
    voxel_ml = abs(float(np.linalg.det(affine[:d, :d]))) / 1000
    fewest = max(1, int(np.ceil(minimum_ml / voxel_ml - 1e-9)))
    classes = range(1, len(class_names) + 1) if class_index is None else [class_index]
    found = [f for index in classes for f in _pieces_of(prediction, truth, index, fewest)]
    found.sort(key=lambda f: -f.size)
    return tuple(_described(f, prediction, truth, class_names, affine, voxel_ml) for f in found[:limit])


def _pieces_of(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], index: int, fewest: int
) -> Iterator[_Found]:
    predicted, true = prediction == index, truth == index
    kinds: tuple[tuple[Literal["extra", "missed"], NDArray[np.bool_]], ...] = (
        ("extra", predicted & ~true & (truth != IGNORED)),
        ("missed", true & ~predicted),
    )
    for kind, mask in kinds:
        window = _bounding_box(mask)
        if window is None:
            continue
        labelled, _ = ndimage.label(mask[window], structure=np.ones((3,) * mask.ndim))
        sizes = np.bincount(labelled.ravel())
        boxes = ndimage.find_objects(labelled)
        for label in np.flatnonzero(sizes[1:] >= fewest) + 1:
            box = boxes[label - 1]
            corner = tuple(w.start + b.start for w, b in zip(window, box, strict=True))
            yield _Found(kind, index, int(sizes[label]), corner, labelled[box] == label)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    window = []
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not line.size:
            return None
        window.append(slice(int(line[0]), int(line[-1]) + 1))
    return tuple(window)


def _described(
    found: _Found,
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    class_names: Sequence[str],
    affine: NDArray[np.float64],
    voxel_ml: float,
) -> ErrorPiece:
    places = np.argwhere(found.mask) + np.array(found.corner)
    d = places.shape[1]
    # distances in mm, so that thick slices do not count as thin ones
    offsets = (places - places.mean(axis=0)) @ affine[:d, :d].T
    voxel = places[int((offsets**2).sum(axis=1).argmin())]
    other: NDArray[Any] = (truth if found.kind == "extra" else prediction)[tuple(places.T)]
    mostly = int(np.bincount(other).argmax())
    return ErrorPiece(
        kind=found.kind,
        class_index=found.class_index,
        class_name=class_names[found.class_index - 1],
        volume_ml=found.size * voxel_ml,
        voxels=found.size,
        voxel=tuple(int(v) for v in voxel),
        world=tuple(float(v) for v in affine[:d, :d] @ voxel + affine[:d, d]),
        instead=class_names[mostly - 1] if 0 < mostly <= len(class_names) else "",
    )
