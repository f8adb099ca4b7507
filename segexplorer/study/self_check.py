"""The same condition under other seeds, from a user's own runs: how often a comparison finds what is not there.

The seeds of one condition are split into two sides that are compared as if they were two conditions. Single seeds
show what a study with one seed would report; halves show what the crossed test does with the seeds that there are.
Splits share seeds, so their rates are rougher than their number suggests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segexplorer.core.errors import SpecError
from segexplorer.metrics import spec
from segexplorer.study.compare import METRICS, design_of, overall_class, scores_of, why_withheld
from segexplorer.study.comparison import SIGNIFICANT
from segexplorer.study.runs import Condition
from segexplorer.study.statistics import paired, spurious_classes, wilcoxon_signed_rank

MOST_SPLITS = 200


@dataclass(frozen=True)
class SelfCheck:
    """How often a condition differs from itself by one metric.

    Attributes
    ----------
    seeds, seeds_per_side, splits
        Seeds of the condition; those on either side of a split; splits that were compared: all, or 200 at random.
    over_cases
        Share of splits in which Wilcoxon's p over cases alone is below 0.05.
    crossed
        Share in which p over cases and trainings is; NaN with one seed on a side.
    starred
        Share that would have had a star.
    withheld
        Why no split of this size can have one; "" if it can.
    """

    condition: str
    metric: str
    n_cases: int
    seeds: int
    seeds_per_side: int
    splits: int
    over_cases: float
    crossed: float
    starred: float
    withheld: str


def self_check(conditions: Sequence[Condition], metrics: Sequence[str] = METRICS) -> list[SelfCheck]:
    """Compare every condition of at least two seeds with itself: single seeds, then halves of its seeds.

    Raises
    ------
    SpecError
        When no condition has two seeds.
    """
    chosen = tuple(dict.fromkeys(spec(name).name for name in metrics))
    checks = [
        _check(condition, metric, size)
        for condition in conditions
        for size in dict.fromkeys((1, len(condition.seeds) // 2))
        if size >= 1 and len(condition.seeds) > 1
        for metric in chosen
    ]
    if not checks:
        raise SpecError(
            "No condition has two seeds, so none can be compared with itself.",
            "Train one loss with six seeds or more, e.g. matrix: {seed: [0, 1, 2, 3, 4, 5]}.",
        )
    return checks


def _check(condition: Condition, metric: str, size: int) -> SelfCheck:
    scores = scores_of(condition, overall_class(condition))
    spurious = spurious_classes(score for these in scores.values() for score in these)
    over_cases, crossed, starred, reasons, cases = [], [], [], [], 0
    for one, other in _splits(condition.seeds, size):
        pairs = paired({s: scores[s] for s in one}, {s: scores[s] for s in other}, metric, spurious)
        states = [score.state for s in (*one, *other) for score in scores[s]]
        why = why_withheld(pairs, design_of(pairs, states, condition), condition, condition)
        estimate = pairs.estimate()
        p = float(estimate.p) if estimate else math.nan
        over_cases.append(wilcoxon_signed_rank(list(pairs.by_case.values())) < SIGNIFICANT)
        crossed.append(p < SIGNIFICANT)
        starred.append(p < SIGNIFICANT and not why)
        reasons.append(why)
        cases = max(cases, len(pairs.by_case))
    return SelfCheck(
        condition=condition.label,
        metric=metric,
        n_cases=cases,
        seeds=len(condition.seeds),
        seeds_per_side=size,
        splits=len(starred),
        over_cases=float(np.mean(over_cases)),
        crossed=float(np.mean(crossed)) if size > 1 else math.nan,
        starred=float(np.mean(starred)),
        withheld=reasons[0] if all(reasons) else "",
    )


def _splits(seeds: Sequence[int], size: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield two disjoint sets of seeds, each pair of sets once; a random choice where there are very many."""
    count = math.comb(len(seeds), size) * math.comb(len(seeds) - size, size) // 2
    if count <= MOST_SPLITS:
        for one in itertools.combinations(seeds, size):
            rest = [s for s in seeds if s not in one]
            for other in itertools.combinations(rest, size):
                if one < other:
                    yield one, other
        return
    rng = np.random.default_rng(0)
    found: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    while len(found) < MOST_SPLITS:
        drawn = [int(s) for s in rng.permutation(seeds)[: 2 * size]]
        one, other = sorted((tuple(sorted(drawn[:size])), tuple(sorted(drawn[size:]))))
        found.add((one, other))
    yield from sorted(found)
