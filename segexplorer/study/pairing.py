"""Pairs of the same case and class under two conditions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_METRICS

Key = tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """Paired differences of one metric.

    Attributes
    ----------
    by_case
        Case -> condition minus reference; over several classes their mean, so that the case stays the unit.
    n_unpaired
        (case, class) pairs that one side has a value for and the other has not, e.g. HD95 of a missed structure.
    """

    by_case: dict[str, float]
    n_unpaired: int


def paired(scores: Sequence[CaseScore], reference: Sequence[CaseScore], metric: str) -> Pairs:
    """Pair the scores of two conditions by case and class.

    Values of several runs (seeds) of a pair are averaged first. A class that the truth does not have and one side
    rightly leaves out has no metric there; where the other side found it nevertheless, the right side counts as
    perfect, or the mistake would be dropped with the pair.
    """
    ours, theirs = _by_pair(scores), _by_pair(reference)
    differences: dict[str, list[float]] = {}
    unpaired = 0
    for key in ours.keys() & theirs.keys():
        truth_is_empty = all(s.state in ("absent", "spurious") for s in (*ours[key], *theirs[key]))
        if truth_is_empty and all(s.state == "absent" for s in (*ours[key], *theirs[key])):
            continue
        one, other = (_value(side[key], metric, truth_is_empty) for side in (ours, theirs))
        if math.isnan(one) and math.isnan(other):
            continue
        if math.isnan(one) or math.isnan(other):
            unpaired += 1
            continue
        differences.setdefault(key[0], []).append(one - other)
    return Pairs(
        {case: math.fsum(values) / len(values) for case, values in sorted(differences.items())}, unpaired
    )


def _by_pair(scores: Iterable[CaseScore]) -> dict[Key, list[CaseScore]]:
    found: dict[Key, list[CaseScore]] = {}
    for score in scores:
        found.setdefault((score.case, score.class_name), []).append(score)
    return found


def _value(scores: Sequence[CaseScore], metric: str, truth_is_empty: bool) -> float:
    values = []
    for score in scores:
        if score.state == "absent":
            if truth_is_empty:
                values.append(ALL_METRICS[metric].best)
        else:
            values.append(score.metrics.get(metric, math.nan))
    finite = [v for v in values if math.isfinite(v)]
    return math.fsum(finite) / len(finite) if finite else math.nan
