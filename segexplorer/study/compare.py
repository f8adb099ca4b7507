"""Compare runs honestly: paired cases, intervals, corrected tests, and counts beside every mean.

`compare` refuses runs that differ in more than what is compared. `compare_groups` takes any runs, sorts
conditions into groups inside which a comparison is honest, and compares within each.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.events import CaseScore
from segexplorer.metrics import (
    ALL_CLASSES,
    ALL_METRICS,
    Distribution,
    Interval,
    distributions,
    spec,
    values_by_case,
)
from segexplorer.metrics.formatting import WITHOUT_INTERVAL
from segexplorer.study.caveats import caveats
from segexplorer.study.comparison import Comparison, ConditionSummary, Difference
from segexplorer.study.fairness import Allowance, check_fairness, incompatibility
from segexplorer.study.runs import Condition, Which, balanced, grouped, read_run
from segexplorer.study.statistics import (
    FEWEST_PAIRS,
    SpuriousClasses,
    fill_absent_with_best,
    holm,
    median_of_finite,
    n_nonzero,
    over_runs,
    paired,
    paired_interval,
    spurious_classes,
    wilcoxon_signed_rank,
)

METRICS = ("dice", "f2", "sensitivity", "precision", "hd95", "hd95_penalised")
"""What a comparison shows by default."""


def compare(
    runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]],
    *,
    checkpoint: Which = "last",
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
) -> Comparison:
    """Compare run folders; torch is not needed.

    Parameters
    ----------
    runs
        Run folders; those that differ only in seed and split are taken together. Or label -> run folders.
    checkpoint
        "last": scores at the end of training. "best": those of the best validation, chosen on the same cases.
    metrics
        Names of `segexplorer.metrics`.
    reference
        Label of the condition that the others are compared with, the name of one of its runs, or the folder of one;
        by default the first.
    allow
        Differences that are intended, see `fairness.check_fairness`.

    Raises
    ------
    SpecError
        When there are not two conditions, or splits, steps or networks differ and that is not allowed.
    DataError
        When a folder is not a run folder, or the data differ.
    """
    conditions = _conditions(runs, checkpoint)
    if len(conditions) < 2:
        raise SpecError(
            "There are not two conditions to compare: these runs differ in nothing but seed and split.",
            "Name runs with different losses, networks or settings.",
        )
    return compare_conditions(
        conditions, checkpoint=checkpoint, metrics=metrics, reference=reference, allow=allow
    )


def compare_conditions(
    conditions: Sequence[Condition],
    *,
    checkpoint: Which,
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
) -> Comparison:
    """Compare conditions that were read already; arguments and errors as of `compare`."""
    chosen = tuple(dict.fromkeys(spec(name).name for name in metrics))
    notes = check_fairness(conditions, allow)
    base_label = find_reference(conditions, reference).label
    conditions, left_out = balanced(conditions)
    base = next(c for c in conditions if c.label == base_label)
    spurious = spurious_classes(score for condition in conditions for score in condition.scores)
    differences = [
        row
        for other in conditions
        if other is not base
        for row in _differences(other, base, chosen, spurious)
    ]
    rows = _adjusted(differences)
    return Comparison(
        checkpoint=checkpoint,
        reference=base.label,
        metrics=chosen,
        conditions=tuple(summary(condition, chosen, spurious) for condition in conditions),
        differences=tuple(rows),
        notes=(
            *caveats(conditions, base, checkpoint, rows, left_out),
            *notes,
        ),
    )


def find_reference(conditions: Sequence[Condition], reference: str | Path = "") -> Condition:
    """Return a condition by its label, a run's name or folder, or the beginning of a single label.

    Raises
    ------
    SpecError
        When none is; the sentence names those that there are.
    """
    if not reference:
        return conditions[0]
    if found := match_condition(conditions, reference):
        return found
    labels = [c.label for c in conditions]
    words = [did_you_mean(str(reference), labels), f"Known: {', '.join(labels)}."]
    raise SpecError(f"There is no condition {str(reference)!r} to refer to.", " ".join(dict.fromkeys(words)))


def match_condition(conditions: Sequence[Condition], reference: str | Path) -> Condition | None:
    """Return the condition of `find_reference`; None where no condition fits, or several do."""
    if isinstance(reference, Path):
        return next((c for c in conditions if any(run.folder == reference for run in c.runs)), None)
    exact = [c for c in conditions if c.label == reference]
    exact += [c for c in conditions if any(run.name == reference for run in c.runs)]
    beginning = [c for c in conditions if reference and c.label.startswith(reference)]
    return exact[0] if exact else beginning[0] if len(beginning) == 1 else None


def _conditions(
    runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]], checkpoint: Which
) -> list[Condition]:
    if isinstance(runs, Mapping):
        return [
            Condition(label, tuple(read_run(folder, checkpoint) for folder in folders))
            for label, folders in runs.items()
            if folders
        ]
    return grouped([read_run(folder, checkpoint) for folder in runs])


def summary(
    condition: Condition, metrics: Sequence[str], spurious: SpuriousClasses | None = None
) -> ConditionSummary:
    """Return a condition's means over cases, and their spread over seeds.

    `spurious` are the classes that any compared condition predicted though the truth lacks them, so that all means
    are over the same cases; by default those of its own runs.
    """
    known = spurious_classes(condition.scores) if spurious is None else spurious
    seed_means = {metric: _seed_means(condition, metric, known) for metric in metrics}
    return ConditionSummary(
        label=condition.label,
        runs=tuple(run.name for run in condition.runs),
        seeds=condition.seeds,
        n_cases=len({score.case for score in condition.scores}),
        n_scores=len(condition.scores),
        minutes=float(np.mean([run.seconds for run in condition.runs])) / 60,
        gradient_norm=median_of_finite([run.gradient_norm for run in condition.runs]),
        steps=condition.runs[0].steps,
        batch_size=condition.experiment.sampling.batch_size,
        seed_means=seed_means,
        seed_sd={metric: _sd(means.values()) for metric, means in seed_means.items()},
        distributions=tuple(
            _counted(row, condition.scores)
            for row in distributions(over_runs(condition.scores, known), metrics)
        ),
    )


def _counted(row: Distribution, scores: Sequence[CaseScore]) -> Distribution:
    """Count over all runs: a structure that one of three seeds missed is one miss, not none."""
    states = [s.state for s in scores if row.class_name in (s.class_name, ALL_CLASSES)]
    return replace(
        row,
        n_absent=states.count("absent"),
        n_missed=states.count("missed"),
        n_spurious=states.count("spurious"),
    )


def _seed_means(condition: Condition, metric: str, spurious: SpuriousClasses) -> dict[int, float]:
    values = {
        seed: values_by_case(fill_absent_with_best(scores, spurious), metric)
        for seed, scores in condition.by_seed.items()
    }
    return {seed: float(np.mean(list(v.values()))) for seed, v in values.items() if v}


def _sd(values: Collection[float]) -> float:
    return float(np.std(list(values), ddof=1)) if len(values) > 1 else math.nan


def _differences(
    condition: Condition, base: Condition, metrics: Sequence[str], spurious: SpuriousClasses
) -> list[Difference]:
    classes = list(dict.fromkeys(score.class_name for score in base.scores))
    rows = [*([ALL_CLASSES] if len(classes) > 1 else []), *classes]
    return [_difference(condition, base, name, metric, spurious) for metric in metrics for name in rows]


def _difference(
    condition: Condition, base: Condition, class_name: str, metric: str, spurious: SpuriousClasses
) -> Difference:
    ours, theirs = (
        {
            seed: [s for s in scores if class_name in (s.class_name, ALL_CLASSES)]
            for seed, scores in side.by_seed.items()
        }
        for side in (condition, base)
    )
    pairs = paired(ours, theirs, metric, spurious)
    values = list(pairs.by_case.values())
    interval = paired_interval(values)
    states, states_of_base = (
        [s.state for scores in side.values() for s in scores] for side in (ours, theirs)
    )
    return Difference(
        condition=condition.label,
        reference=base.label,
        class_name=class_name,
        metric=metric,
        n_pairs=len(values),
        n_nonzero=n_nonzero(values),
        n_unpaired=pairs.n_unpaired,
        n_missed=states.count("missed"),
        n_missed_reference=states_of_base.count("missed"),
        n_spurious=states.count("spurious"),
        n_spurious_reference=states_of_base.count("spurious"),
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        seed_means=pairs.by_seed,
        seed_sd=_sd(pairs.by_seed.values()),
        p=wilcoxon_signed_rank(values),
        better=_better(interval, metric),
    )


def _better(interval: Interval, metric: str) -> Literal["condition", "reference", ""]:
    """Return the side that the interval is on; neither where it includes zero, or is of too few pairs."""
    if interval.n < FEWEST_PAIRS or not interval.low * interval.high > 0:
        return ""
    higher = ALL_METRICS[metric].better == "higher"
    return "condition" if (interval.low > 0) == higher else "reference"


def _adjusted(rows: Sequence[Difference]) -> list[Difference]:
    """Adjust p by Holm within each metric: single classes together, the mean of classes by itself."""
    several = any(row.class_name == ALL_CLASSES for row in rows)
    families: dict[tuple[str, bool], list[int]] = {}
    for index, row in enumerate(rows):
        families.setdefault((row.metric, several and row.class_name != ALL_CLASSES), []).append(index)
    adjusted = list(rows)
    for indices in families.values():
        values = holm([rows[i].p for i in indices])
        tests = sum(not math.isnan(v) for v in values)
        for index, value in zip(indices, values, strict=True):
            adjusted[index] = replace(rows[index], p_holm=value, n_tests=tests)
    return adjusted


# ---- groups of conditions


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
        When a folder is not a run folder, or has no scored validation.
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
                reference=reference if match_condition(group, reference) else "",
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
        obstacles = [incompatibility([*group, condition], allow) for group in groups]
        home = next((g for g, (why, _) in zip(groups, obstacles, strict=True) if not why), None)
        if home is not None:
            home.append(condition)
            continue
        if obstacles:
            why, what = obstacles[0]
            reasons.append(
                f"Not compared: {why}{f' To compare all the same: --allow {what}.' if what else ''}"
            )
        groups.append([condition])
    return groups, reasons
