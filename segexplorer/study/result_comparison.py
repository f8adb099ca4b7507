"""Result sets side by side: paired over the cases that all of them have, and what that does and does not say.

A set of predictions comes from one training of each method (or from the folds of one cross-validation), so there
are no seeds to sample trainings by. What can be said is about cases: how far these networks would differ on other
cases like these. It is said with an interval over cases and Wilcoxon's test, adjusted by Holm. It says nothing of
another training of the same method, so there is no star (`study/designs.py`), however small p is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_CLASSES, ALL_METRICS, Distribution, choose, distributions
from segexplorer.study.designs import Design, withheld
from segexplorer.study.statistics import (
    FEWEST_PAIRS,
    Pairs,
    SpuriousClasses,
    fill_absent_with_best,
    holm,
    n_nonzero,
    paired,
    paired_interval,
    spurious_classes,
    wilcoxon_signed_rank,
)
from segexplorer.training.result_scores import ScoredSet

METRICS = ("dice", "sensitivity", "precision", "hd95_penalised")
"""What is compared by default: metrics that have a value for missed structures, too."""


@dataclass(frozen=True)
class SetDifference:
    """One set against the reference, on the same cases.

    Attributes
    ----------
    n_cases, n_nonzero
        Cases with a difference, and those where it is not zero, which is what p is over.
    n_dropped
        (case, class) pairs without a value on one side or both, e.g. a distance to a missed structure.
    mean, low, high
        Mean paired difference, set minus reference, and its 95 % bootstrap interval over cases; NaN below six.
    p_cases, p_holm, n_tests
        Wilcoxon's signed rank over cases; adjusted over the comparisons of this metric. NaN below five cases.
    n_better, n_worse
        Cases where the set is better, and worse, than the reference.
    """

    label: str
    reference: str
    class_name: str
    metric: str
    n_cases: int
    n_nonzero: int
    n_dropped: int
    mean: float
    low: float
    high: float
    p_cases: float
    n_better: int
    n_worse: int
    p_holm: float = math.nan
    n_tests: int = 0


@dataclass(frozen=True)
class SetComparison:
    """Result sets side by side.

    Attributes
    ----------
    reference
        Label of the set that the others are compared with.
    cases
        Those that every set has a score of; all figures are over these.
    distributions
        Label -> one row per class and metric.
    differences
        One per further set, class and metric.
    notes
        Sentences that belong beside the figures.
    """

    reference: str
    cases: tuple[str, ...]
    metrics: tuple[str, ...]
    distributions: Mapping[str, tuple[Distribution, ...]]
    differences: tuple[SetDifference, ...]
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def compare_sets(
    sets: Sequence[ScoredSet], metrics: Sequence[str] = METRICS, reference: str = ""
) -> SetComparison:
    """Compare sets of results over the cases that all of them have.

    Parameters
    ----------
    reference
        Label of the set that the others are compared with; by default the first.

    Raises
    ------
    SpecError
        When there are not two sets, they share no case, or there is no set of that name.
    """
    if len(sets) < 2:
        raise SpecError("There are not two sets of results to compare.", "Open several folders.")
    labels = [one.label for one in sets]
    if reference and reference not in labels:
        raise SpecError(f"There is no set of results {reference!r}.", did_you_mean(reference, labels))
    base = next(one for one in sets if one.label == (reference or labels[0]))
    shared = [case for case in base.cases if all(case in one.cases for one in sets)]
    if not shared:
        raise SpecError(
            "These sets of results have no case in common.",
            "A comparison needs the same cases on every side.",
        )
    chosen = choose(metrics)
    kept = {one.label: [s for s in one.scores if s.case in set(shared)] for one in sets}
    spurious = spurious_classes(score for scores in kept.values() for score in scores)
    # a class that one set knows and another does not would make their means of different things
    classes = [
        name
        for name in dict.fromkeys(s.class_name for s in kept[base.label])
        if all(any(s.class_name == name for s in scores) for scores in kept.values())
    ]
    kept = {label: [s for s in scores if s.class_name in classes] for label, scores in kept.items()}
    rows = [
        _difference(one.label, base.label, kept, name, metric, spurious)
        for metric in chosen
        for name in ([ALL_CLASSES] if len(classes) > 1 else []) + classes
        for one in sets
        if one is not base
    ]
    return SetComparison(
        base.label,
        tuple(shared),
        chosen,
        {
            label: tuple(distributions(fill_absent_with_best(scores, spurious), chosen))
            for label, scores in kept.items()
        },
        tuple(_adjusted(rows)),
        tuple(_notes(sets, shared, classes, rows, kept)),
    )


def _difference(
    label: str,
    reference: str,
    kept: Mapping[str, Sequence[CaseScore]],
    class_name: str,
    metric: str,
    spurious: SpuriousClasses,
) -> SetDifference:
    sides = [
        {0: [s for s in kept[side] if class_name in (s.class_name, ALL_CLASSES)]}
        for side in (label, reference)
    ]
    pairs: Pairs = paired(sides[0], sides[1], metric, spurious)
    values = list(pairs.by_case.values())
    interval = paired_interval(values)
    better = ALL_METRICS[metric].better
    # for a metric that is best at 0 the sign of a difference does not say which side is nearer
    wins = 0 if better == "zero" else 1 if better == "higher" else -1
    return SetDifference(
        label=label,
        reference=reference,
        class_name=class_name,
        metric=metric,
        n_cases=len(values),
        n_nonzero=n_nonzero(values),
        n_dropped=pairs.n_dropped,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        p_cases=wilcoxon_signed_rank(values) if len(values) >= FEWEST_PAIRS else math.nan,
        n_better=sum(value * wins > 1e-12 for value in values),
        n_worse=sum(value * wins < -1e-12 for value in values),
    )


def _adjusted(rows: Sequence[SetDifference]) -> list[SetDifference]:
    """Adjust p by Holm within each metric: single classes together, the mean of classes by itself."""
    several = any(row.class_name == ALL_CLASSES for row in rows)
    families: dict[tuple[str, bool], list[int]] = {}
    for index, row in enumerate(rows):
        families.setdefault((row.metric, several and row.class_name != ALL_CLASSES), []).append(index)
    found = list(rows)
    for indices in families.values():
        values = holm([rows[i].p_cases for i in indices])
        tests = sum(not math.isnan(value) for value in values)
        for index, value in zip(indices, values, strict=True):
            found[index] = replace(rows[index], p_holm=value, n_tests=tests)
    return found


def _notes(
    sets: Sequence[ScoredSet],
    shared: Sequence[str],
    classes: Sequence[str],
    rows: Sequence[SetDifference],
    kept: Mapping[str, Sequence[CaseScore]],
) -> list[str]:
    """Return what belongs beside the figures: what they are over, and what they do not say."""
    why = withheld(Design(cases=len(shared), seeds=1))
    notes = [
        f"Over the {len(shared)} cases that every set has, paired by case.",
        "Interval and p are over cases alone: these networks on other cases like these. How far another training "
        f"of the same method would differ is not known, so no difference has a star ({why}).",
    ]
    for one in sets:
        if left := [case for case in one.cases if case not in shared]:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            notes.append(
                f"Left out of the comparison, since not every set has them: {', '.join(left[:3])}{more} "
                f"({one.label})."
            )
    every = dict.fromkeys(s.class_name for one in sets for s in one.scores)
    if other := [name for name in every if name not in classes]:
        notes.append(f"Left out, since not every set has the class: {', '.join(other)}.")
    if len(shared) < FEWEST_PAIRS:
        notes.append(f"Differences have no p below {FEWEST_PAIRS} cases, and no interval below six.")
    if other_truths := _other_truths(kept):
        notes.append(
            f"The labels differ between the sets ({', '.join(other_truths[:3])}"
            f"{' ...' if len(other_truths) > 3 else ''}): the volume of the truth is not the same, so a part of "
            "the differences is one of labels."
        )
    if trained := [one.label for one in sets if any(score.badge for score in one.scores)]:
        notes.append(f"Scores of training cases, which flatter: {', '.join(trained)}.")
    if dropped := sum(row.n_dropped for row in rows):
        notes.append(
            f"{dropped} pairs of a case and a class have no value on a side and are in no difference."
        )
    return notes


def _other_truths(kept: Mapping[str, Sequence[CaseScore]]) -> list[str]:
    """Return the cases whose true volumes are not the same in all sets."""
    volumes: dict[tuple[str, str], set[float]] = {}
    for scores in kept.values():
        for score in scores:
            volumes.setdefault((score.case, score.class_name), set()).add(round(score.truth_ml, 6))
    return list(dict.fromkeys(case for (case, _), found in volumes.items() if len(found) > 1))
