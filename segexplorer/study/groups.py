"""Runs of any sort, compared where they can be: conditions in groups inside which a comparison is honest."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segexplorer.metrics import spec
from segexplorer.metrics.wording import WITHOUT_INTERVAL
from segexplorer.study.compare import METRICS, compare_conditions, find_reference, meant, summary
from segexplorer.study.comparison import Comparison, ConditionSummary
from segexplorer.study.conditions import Condition, grouped
from segexplorer.study.fairness import Allowance, obstacle
from segexplorer.study.records import Which, read_run


@dataclass(frozen=True)
class GroupedComparison:
    """Comparisons, one per group of conditions that are alike in all but what is compared.

    Attributes
    ----------
    comparisons
        Groups of at least two conditions.
    alone
        Conditions that no other one can be compared with: their means, and no difference.
    notes
        Why the groups are apart, how to compare across them all the same, and why a condition that is alone has no
        interval.
    """

    comparisons: tuple[Comparison, ...]
    alone: tuple[ConditionSummary, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "comparisons": [c.plain() for c in self.comparisons],
            "alone": [asdict(c) for c in self.alone],
            "notes": list(self.notes),
        }


def compare_groups(
    runs: Sequence[str | Path],
    *,
    checkpoint: Which = "last",
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
) -> GroupedComparison:
    """Compare run folders group by group; arguments as of `compare`.

    Runs of different networks, steps, batches, splits or data fall into different groups. In each group the others
    are compared with the reference, or with the group's first condition where the reference is in another group.

    Raises
    ------
    SpecError
        When the reference is unknown.
    DataError
        When a folder is no run folder, or has no scored validation.
    """
    conditions = grouped([read_run(folder, checkpoint) for folder in runs])
    if isinstance(reference, str):
        find_reference(conditions, reference)
    groups, reasons = partition(conditions, allow)
    chosen = tuple(dict.fromkeys(spec(name).name for name in metrics))
    alone = tuple(summary(group[0], chosen) for group in groups if len(group) == 1)
    if not all(math.isfinite(d.low) for condition in alone for d in condition.distributions):
        reasons.append(WITHOUT_INTERVAL)
    return GroupedComparison(
        comparisons=tuple(
            compare_conditions(
                group,
                checkpoint=checkpoint,
                metrics=chosen,
                reference=reference if meant(group, reference) else "",
                allow=allow,
            )
            for group in groups
            if len(group) > 1
        ),
        alone=alone,
        metrics=chosen,
        notes=tuple(reasons),
    )


def partition(
    conditions: Sequence[Condition], allow: Collection[Allowance] = ()
) -> tuple[list[list[Condition]], list[str]]:
    """Return groups of conditions that can be compared, in order of appearance, and why the groups are apart."""
    groups: list[list[Condition]] = []
    reasons: list[str] = []
    for condition in conditions:
        hindrances = [obstacle([*group, condition], allow) for group in groups]
        home = next((g for g, (why, _) in zip(groups, hindrances, strict=True) if not why), None)
        if home is not None:
            home.append(condition)
            continue
        if hindrances:
            why, what = hindrances[0]
            reasons.append(
                f"Not compared: {why}{f' To compare all the same: --allow {what}.' if what else ''}"
            )
        groups.append([condition])
    return groups, reasons
