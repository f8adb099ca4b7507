"""Scores of one case, class by class: overlap always, surface distances and further metrics when asked for.

Before that, `match_classes` finds out which label value of a prediction and which of its truth are one class, when
nobody has said so; after it, `complete` adds the classes that a case was not scored for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore, Role
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.metrics.base import Metric, registry
from segexplorer.metrics.options import MetricOptions
from segexplorer.metrics.structure import LabelPair
from segexplorer.metrics.surface import SurfaceMetric
from segexplorer.metrics.tasks import choose

NUMBERED = "label "
"""Begins the name of a class that nothing names but its value."""
MOST = 254
"""Label values of a volume: class indices are bytes, and 255 is what does not count."""

BYTES_PER_VOXEL = 28
"""What scoring a case by the default metrics holds at most, whatever was predicted: 4 for the two volumes and their
border voxels, 4 for masks and files, 4 for the distance transform, and 8 for every distance of a class and back, of
which there are as many as voxels in the worst case. A good prediction takes 3."""


class CaseScores(tuple[CaseScore, ...]):
    """Scores of a case, one per class; a notebook shows them as a table."""

    __slots__ = ()


@dataclass(frozen=True)
class MatchedClass:
    """A class and its label value in the prediction and in the truth; None where that file has no such value."""

    name: str
    prediction: int | None
    truth: int | None


def match_classes(
    prediction: Collection[int],
    truth: Collection[int],
    prediction_names: Mapping[int, str],
    truth_names: Mapping[int, str],
) -> tuple[MatchedClass, ...]:
    """Match the label values that occur in a prediction and in its truth.

    Equal values are one class, unless the files name their labels and one name has different values: then names
    decide, for programs number the segments of a DICOM SEG or .seg.nrrd as they please. A mask of 0 and 255 means
    the 1 of the other.

    Parameters
    ----------
    prediction, truth
        Values that occur; 0 and below are background.
    prediction_names, truth_names
        Label value -> name, as far as the files name them, of values that do not occur too.

    Returns
    -------
    tuple of MatchedClass
        In the order of the truth's values, then of the prediction's; called "label 3" where nothing names them.

    Raises
    ------
    DataError
        When the names of the two contradict each other, or a volume holds more values than a label has.
    """
    found, true = (sorted({v for v in values if v > 0}) for values in (prediction, truth))
    for noun, values in (("prediction", found), ("truth", true)):
        if len(values) > MOST:
            raise DataError(
                f"The {noun} holds {len(values)} label values from {values[0]} to {values[-1]}.",
                "Is it an image? Else choose labels, e.g. --classes '{liver: 5}'.",
            )
    if sorted({*found, *true}) == [1, 255] and len(found) == len(true) == 1:
        return (MatchedClass(truth_names.get(true[0], f"{NUMBERED}1"), found[0], true[0]),)
    named = {v: n for v, n in prediction_names.items() if v}, {v: n for v, n in truth_names.items() if v}
    where = {_plain(name): value for value, name in named[1].items()}
    if any(where.get(_plain(name), value) != value for value, name in named[0].items()):
        return _by_name(found, true, *named)
    for value in sorted({*found, *true}):
        mine, theirs = named[0].get(value), named[1].get(value)
        if mine and theirs and _plain(mine) != _plain(theirs):
            raise DataError(
                f"The prediction calls the label value {value} {mine!r}, the truth {theirs!r}.",
                f"Say which values are one class, e.g. --classes '{{{theirs}: {value}}}'.",
            )
    names = {**named[0], **named[1]}
    return tuple(
        MatchedClass(names.get(v, f"{NUMBERED}{v}"), v if v in found else None, v if v in true else None)
        for v in sorted({*found, *true})
    )


def _by_name(
    found: Sequence[int], true: Sequence[int], found_names: Mapping[int, str], true_names: Mapping[int, str]
) -> tuple[MatchedClass, ...]:
    sides: list[dict[str, int]] = []
    titles: dict[str, str] = {}
    for noun, values, names in (("truth", true, true_names), ("prediction", found, found_names)):
        side: dict[str, int] = {}
        for value in values:
            name = names.get(value, "")
            if not name or _plain(name) in side:
                text = f"has no name for the label value {value}" if not name else f"has two labels {name!r}"
                raise DataError(
                    f"Prediction and truth give their labels different values, and the {noun} {text}.",
                    "Save both with the same values, and name them with --classes.",
                )
            side[_plain(name)] = value
            titles.setdefault(_plain(name), name)
        sides.append(side)
    return tuple(MatchedClass(titles[key], sides[1].get(key), sides[0].get(key)) for key in titles)


def _number(name: str) -> int:
    number = name.removeprefix(NUMBERED)
    return int(number) if name.startswith(NUMBERED) and number.isdecimal() else 0


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def complete(scores: Iterable[CaseScore], cases: Iterable[str]) -> list[CaseScore]:
    """Return scores with a row for every case and class: a class that a case was not asked for is absent there.

    Classes are in the order of their first score, those that are called by a number last, in its order. Where
    classes are the values that occur, a case without one has no score of it, and counts of absent structures would
    depend on which files happen to hold it.
    """
    pairs = list(scores)
    classes = sorted(dict.fromkeys(score.class_name for score in pairs), key=_number)
    there = {(score.case, score.class_name): score for score in pairs}
    there_are = [m for m in registry.values() if any(m.name in s.metrics for s in pairs)]
    nothing = {m.name: math.nan if isinstance(m.absent, str) else m.absent for m in there_are}
    return [
        there.get((case, name))
        or CaseScore(
            case=case,
            class_name=name,
            role="test",
            state="absent",
            metrics=nothing,
            false_positive_ml=0.0,
            false_negative_ml=0.0,
            truth_ml=0.0,
        )
        for case in dict.fromkeys(cases)
        for name in classes
    ]


def score_case(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    class_names: Sequence[str],
    spacing: Sequence[float],
    *,
    case: str = "",
    role: Role = "validation",
    badge: str = "",
    surfaces: bool = False,
    metrics: Iterable[str] = (),
    options: MetricOptions | None = None,
    scheme: LabelScheme = EXCLUSIVE,
) -> tuple[CaseScore, ...]:
    """Score one predicted volume against the truth, class by class.

    Parameters
    ----------
    prediction, truth
        Integer label indices of one shape, in the case's own grid; 0 is background; voxels whose truth is 255
        are left out.
    class_names
        Names of the foreground classes, for the values 1, 2, ...
    spacing
        Voxel size along each axis, mm.
    case, role, badge
        Passed on into the scores.
    surfaces
        Whether distances between surfaces are measured too: about a second for an organ in a CT of
        300x512x512 voxels, milliseconds for small volumes.
    metrics
        Further metrics beside the default ones: names of metrics, tasks ("lesions") or protocols ("coactseg").
    options
        How lesions are matched, the tolerance of surfaces ...
    scheme
        What the label indices mean: classes, or combinations of classes that overlap.

    Returns
    -------
    tuple of CaseScore
        One per foreground class, in their order.

    Raises
    ------
    DataError
        When shapes differ or a class index is out of range.
    UnknownKindError
        When a metric does not exist.
    """
    pair = LabelPair(prediction, truth, class_names, spacing, options, scheme)
    chosen = metrics_to_compute(metrics, surfaces=surfaces)
    millilitres = pair.voxel_mm3 / 1000.0
    return tuple(
        CaseScore(
            case=case,
            class_name=structure.name,
            role=role,
            state=structure.state,
            metrics={metric.name: metric.compute(structure) for metric in chosen},
            false_positive_ml=structure.counts.fp * millilitres,
            false_negative_ml=structure.counts.fn * millilitres,
            truth_ml=(structure.counts.tp + structure.counts.fn) * millilitres,
            badge=badge,
        )
        for structure in pair.structures()
    )


def metrics_to_compute(further: Iterable[str] = (), *, surfaces: bool = False) -> tuple[Metric, ...]:
    """Return the metrics of a case: the default ones, and those that are named, each once and in order of tables.

    Parameters
    ----------
    further
        Names of metrics, tasks or protocols.
    surfaces
        Whether the default distances between surfaces are among them.
    """
    named = set(choose(further))
    return tuple(
        metric
        for name, metric in registry.items()
        if name in named or (metric.default and (surfaces or not isinstance(metric, SurfaceMetric)))
    )
