"""Pairs: the same case, class and seed under two conditions.

A case is the unit of every statistic. Its runs with several seeds are no further patients, and its classes are no
further patients either: both are averaged before anything is tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_METRICS

Key = tuple[str, str]
"""Case and class."""
Seeded = Mapping[int, Sequence[CaseScore]]
"""Seed -> scores of its runs."""


@dataclass(frozen=True)
class Pairs:
    """Paired differences of one metric.

    Attributes
    ----------
    by_case
        Case -> condition minus reference: paired within each seed, then averaged over seeds, then over classes.
    by_seed
        Seed -> mean over its cases of the same difference; empty where the sides share no seed.
    n_unpaired
        (case, class, seed) triples that one side has a value for and the other has not, e.g. HD95 of a missed
        structure.
    """

    by_case: dict[str, float]
    by_seed: dict[int, float]
    n_unpaired: int


def shared_seeds(scores: Seeded, reference: Seeded) -> tuple[int, ...]:
    """Return the seeds that both sides have."""
    return tuple(sorted(scores.keys() & reference.keys()))


def paired(scores: Seeded, reference: Seeded, metric: str) -> Pairs:
    """Pair the scores of two conditions by case, class and seed.

    Only seeds that both sides have are used: the same seed means the same initial weights and patches. Where no
    seed is shared, each side's seeds are averaged first.

    A class that the truth does not have and one side rightly leaves out has no metric there; where the other side
    found it nevertheless, the right side counts as perfect, or the mistake would be dropped with the pair.
    """
    seeds = shared_seeds(scores, reference)
    blocks = [_block(scores[s], reference[s], metric) for s in seeds] or [
        _block(_flat(scores), _flat(reference), metric)
    ]
    over_seeds: dict[Key, list[float]] = {}
    for differences, _ in blocks:
        for key, value in differences.items():
            over_seeds.setdefault(key, []).append(value)
    return Pairs(
        by_case=_by_case({key: _mean(values) for key, values in over_seeds.items()}),
        by_seed={
            seed: _mean(list(_by_case(differences).values()))
            for seed, (differences, _) in zip(seeds, blocks, strict=False)
            if differences
        },
        n_unpaired=sum(unpaired for _, unpaired in blocks),
    )


def over_runs(scores: Iterable[CaseScore]) -> list[CaseScore]:
    """Return one score per case and class: metrics averaged over the runs that have a value.

    A class that is in neither truth nor prediction has no value; it is "absent" only if it is so in every run.
    """
    averaged = []
    for members in _by_pair(scores).values():
        present = [s for s in members if s.state != "absent"]
        if len(members) == 1 or not present:
            averaged.append(members[0])
            continue
        names = dict.fromkeys(name for s in present for name in s.metrics)
        means = {name: _mean_of_finite([s.metrics.get(name, math.nan) for s in present]) for name in names}
        averaged.append(replace(present[0], metrics=means))
    return averaged


def _block(
    ours: Iterable[CaseScore], theirs: Iterable[CaseScore], metric: str
) -> tuple[dict[Key, float], int]:
    """Return the differences of all pairs of one seed, and how many pairs have a value on one side alone."""
    one_side, other_side = _by_pair(ours), _by_pair(theirs)
    differences: dict[Key, float] = {}
    unpaired = 0
    for key in sorted(one_side.keys() & other_side.keys()):
        states = {s.state for s in (*one_side[key], *other_side[key])}
        truth_is_empty = states <= {"absent", "spurious"}
        if states == {"absent"}:
            continue
        one, other = (_value(side[key], metric, truth_is_empty) for side in (one_side, other_side))
        if math.isnan(one) or math.isnan(other):
            unpaired += math.isnan(one) != math.isnan(other)
            continue
        differences[key] = one - other
    return differences, unpaired


def _by_case(differences: Mapping[Key, float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for (case, _), value in sorted(differences.items()):
        found.setdefault(case, []).append(value)
    return {case: _mean(values) for case, values in found.items()}


def _flat(seeded: Seeded) -> list[CaseScore]:
    return [score for scores in seeded.values() for score in scores]


def _by_pair(scores: Iterable[CaseScore]) -> dict[Key, list[CaseScore]]:
    found: dict[Key, list[CaseScore]] = {}
    for score in scores:
        found.setdefault((score.case, score.class_name), []).append(score)
    return found


def _value(scores: Sequence[CaseScore], metric: str, truth_is_empty: bool) -> float:
    return _mean_of_finite(
        [
            (ALL_METRICS[metric].best if truth_is_empty else math.nan)
            if score.state == "absent"
            else score.metrics.get(metric, math.nan)
            for score in scores
        ]
    )


def _mean_of_finite(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return _mean(finite) if finite else math.nan


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
