"""A prediction and its truth as class indices on one grid: where `evaluate`, error maps and case tables begin.

The class values are those that were asked for, or those that occur, matched by value or by name
(`metrics.match_classes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import CaseScore, Role
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data.case import ClassMap, Source, integer_labels
from segexplorer.data.geometry import compare
from segexplorer.data.grid import on_one_grid
from segexplorer.data.io import open_volume
from segexplorer.data.sources import Recipe
from segexplorer.data.volume import Volume, value_counts
from segexplorer.metrics import MetricOptions, match_classes, score_case

Classes = Mapping[str, int | Sequence[int]]


@dataclass(frozen=True)
class EncodedPair:
    """A prediction and its truth as uint8 label indices on one grid.

    Attributes
    ----------
    names
        Foreground classes 1, 2, ...
    prediction, truth
        Arrays of one shape; 255 in the truth counts nowhere.
    grid
        The truth's volume, perhaps made larger.
    notes
        What was done to bring the two together.
    scheme
        What the indices mean: those of classes, or of combinations of classes that overlap.
    """

    names: tuple[str, ...]
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    grid: Volume
    notes: tuple[str, ...] = ()
    scheme: LabelScheme = EXCLUSIVE


def encode_pair(
    prediction: Source,
    truth: Source,
    classes: Classes | None = None,
    *,
    resample: bool = False,
    ignored: Sequence[int] = (),
    overlapping: bool = False,
) -> EncodedPair:
    """Open two label volumes, bring them onto one grid, and return their classes.

    Parameters
    ----------
    classes
        Class name -> label value or values; by default every value above 0 that occurs in either.
    resample
        Whether a prediction on another lattice is resampled onto the truth's (nearest voxel).
    ignored
        Label values of the truth that count nowhere.
    overlapping
        Whether classes may share label values.

    Raises
    ------
    DataError
        When a file cannot be read, the two are on different lattices, or name their labels in contradiction.
    """
    predicted, true = open_label_source(prediction), open_label_source(truth)
    if not compare(predicted, true).same:
        predicted = _onto(prediction, predicted, true)
        true = _onto(truth, true, predicted)
    before = predicted.provenance.notes, true.provenance.notes
    predicted, true = on_one_grid(predicted, true, resample=resample)
    if classes is not None:
        mapping = ClassMap.from_classes(
            {name: _values(given) for name, given in classes.items()}, overlapping=overlapping
        )
        mapping = replace(mapping, ignored=(*mapping.ignored, *ignored))
        own = replace(mapping, ignored=())  # only the truth says what does not count
    else:
        own, mapping = _occurring(predicted, true, ignored)
    notes = tuple(f"Prediction: {note}" for note in predicted.provenance.notes if note not in before[0])
    notes += tuple(f"Truth: {note}" for note in true.provenance.notes if note not in before[1])
    encoded = own.encode(predicted.array), mapping.encode(true.array)
    return EncodedPair(mapping.names, *encoded, true, notes, mapping.scheme)


def score_pair(
    prediction: Source,
    truth: Source,
    classes: Classes | None = None,
    *,
    case: str = "",
    role: Role = "test",
    badge: str = "",
    surfaces: bool = True,
    resample: bool = False,
    ignored: Sequence[int] = (),
    metrics: Sequence[str] = (),
    options: MetricOptions | None = None,
) -> tuple[tuple[CaseScore, ...], tuple[str, ...]]:
    """Score a prediction against its truth and return the scores of every class, and notes about the grid.

    Classes that share label values (regions) are scored one after the other, each as the union of its labels.
    Arguments and errors as of `encode_pair` and `metrics.score_case`.
    """
    scores: list[CaseScore] = []
    notes: tuple[str, ...] = ()
    for group in disjoint_groups(classes):
        pair = encode_pair(prediction, truth, group, resample=resample, ignored=ignored)
        notes = pair.notes
        scores += score_case(
            pair.prediction,
            pair.truth,
            pair.names,
            pair.grid.spacing,
            case=case,
            role=role,
            badge=badge,
            surfaces=surfaces,
            metrics=metrics,
            options=options,
        )
    order = {name: place for place, name in enumerate(classes or ())}
    return tuple(sorted(scores, key=lambda score: order.get(score.class_name, 0))), notes


def disjoint_groups(classes: Classes | None) -> list[Classes | None]:
    """Return the classes in groups of which no two classes share a value; one group where none do."""
    if classes is None:
        return [None]
    groups: list[dict[str, int | Sequence[int]]] = []
    for name, given in classes.items():
        values = set(_values(given))
        home = next(
            (g for g in groups if not any(values & set(_values(other)) for other in g.values())), None
        )
        if home is None:
            groups.append(home := {})
        home[name] = given
    return list(groups) or [classes]


def overlap(classes: Classes) -> bool:
    """Return whether two classes share a label value."""
    return len(disjoint_groups(classes)) > 1


def open_label_source(source: Source) -> Volume:
    """Open a label volume of any source, on its own grid."""
    if isinstance(source, Volume):
        return source
    return source.open(label=True) if isinstance(source, Recipe) else open_volume(source, label=True)


def _onto(given: Source, opened: Volume, other: Volume) -> Volume:
    """Return a label that has no grid of its own (DICOM segments, contours) on the other's, if it loses nothing."""
    if not isinstance(given, Path):
        return opened
    moved = open_volume(given, label=True, like=other)
    whole = np.count_nonzero(moved.array) == np.count_nonzero(opened.array)
    return moved if whole and compare(moved, other).same else opened


def _occurring(predicted: Volume, true: Volume, ignored: Sequence[int]) -> tuple[ClassMap, ClassMap]:
    """Return the classes that occur in either volume, with the prediction's values and with the truth's."""
    values = [list(value_counts(integer_labels(volume.array))) for volume in (predicted, true)]
    counted = [[value for value in side if value not in ignored] for side in values]
    found = match_classes(counted[0], counted[1], predicted.label_names, true.label_names)
    names = tuple(match.name for match in found)
    sides = [[m.prediction for m in found], [m.truth for m in found]]
    own, mapping = (ClassMap(names, tuple(() if v is None else (v,) for v in side)) for side in sides)
    return own, replace(mapping, ignored=tuple(ignored))


def _values(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)
