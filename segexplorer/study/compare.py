"""Compare runs honestly: seeds and cases as samples, intervals, corrected tests, and counts beside every mean.

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
    choose,
    distributions,
    spec,
    values_by_case,
)
from segexplorer.metrics.formatting import WITHOUT_INTERVAL
from segexplorer.study.caveats import caveats
from segexplorer.study.comparison import SIGNIFICANT, Comparison, ConditionSummary, Difference
from segexplorer.study.designs import Design, withheld
from segexplorer.study.fairness import Allowance, check_fairness, incompatibility
from segexplorer.study.ranking import Ranking, pairs_of, rank_conditions
from segexplorer.study.runs import (
    Condition,
    RunScores,
    ScoredSplit,
    balanced,
    grouped,
    read_run,
)
from segexplorer.study.statistics import (
    Pairs,
    SpuriousClasses,
    fill_absent_with_best,
    holm,
    median_of_finite,
    n_nonzero,
    over_runs,
    paired,
    paired_interval,
    score_table,
    spurious_classes,
    valued_keys,
    wilcoxon_signed_rank,
)
from segexplorer.training.scores import DEFAULT_WEIGHTS, Weights

METRICS = ("dice", "f2", "sensitivity", "precision", "hd95", "hd95_penalised")
"""What a comparison shows by default."""


def compare(
    runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]],
    *,
    checkpoint: Weights = DEFAULT_WEIGHTS,
    split: ScoredSplit = "validation",
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare run folders; torch is not needed.

    Parameters
    ----------
    runs
        Run folders; those that differ only in seed and split are taken together. Or label -> run folders.
    checkpoint
        "best": scores of the weights of the best validation, which predictions are made with, too; on validation
        cases they flatter, since those chose them. "last": scores at the end of training.
    split
        "validation", or "test": the test cases, as `segexplorer evaluate RUN --split test` recorded them.
    metrics
        Names of `segexplorer.metrics`; a task or a protocol stands for its metrics.
    reference
        Label of the condition that the others are compared with, the name of one of its runs, or the folder of one;
        by default the first.
    allow
        Differences that are intended, see `fairness.check_fairness`.
    margins
        Metric -> margin in its unit, greater than 0: the difference up to which conditions count as equivalent.
        Only who makes a study can say what does not matter, so there is no default.

    Raises
    ------
    SpecError
        When there are not two conditions, or splits, steps or networks differ and that is not allowed.
    DataError
        When a folder is not a run folder, or the data differ.
    """
    conditions = _conditions(runs, checkpoint, split)
    if len(conditions) < 2:
        raise SpecError(
            "There are not two conditions to compare: these runs differ in nothing but seed and split.",
            "Name runs with different losses, networks or settings.",
        )
    return compare_conditions(
        conditions, checkpoint=checkpoint, metrics=metrics, reference=reference, allow=allow, margins=margins
    )


def compare_conditions(
    conditions: Sequence[Condition],
    *,
    checkpoint: Weights = DEFAULT_WEIGHTS,
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare conditions that were read already; arguments and errors as of `compare`."""
    chosen = choose(metrics)
    _check_margins(margins or {}, chosen)
    notes = check_fairness(conditions, allow)
    base_label = find_reference(conditions, reference).label
    conditions, left_out = balanced(conditions)
    split = conditions[0].runs[0].scored_split
    base = next(c for c in conditions if c.label == base_label)
    spurious = spurious_classes(score for condition in conditions for score in condition.scores)
    differences = [
        row
        for other in conditions
        if other is not base
        for row in _differences(other, base, chosen, spurious, margins or {})
    ]
    rows = _adjusted(differences)
    return Comparison(
        checkpoint=checkpoint,
        split=split,
        reference=base.label,
        metrics=chosen,
        conditions=tuple(summary(condition, chosen, spurious) for condition in conditions),
        differences=tuple(rows),
        rankings=tuple(
            ranking for metric in chosen if (ranking := _ranking(conditions, metric, spurious)) is not None
        ),
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
    runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]],
    checkpoint: Weights,
    split: ScoredSplit,
) -> list[Condition]:
    if isinstance(runs, Mapping):
        return [
            Condition(label, tuple(read_run(folder, checkpoint, split) for folder in folders))
            for label, folders in runs.items()
            if folders
        ]
    return grouped([read_run(folder, checkpoint, split) for folder in runs])


def summary(
    condition: Condition, metrics: Sequence[str], spurious: SpuriousClasses | None = None
) -> ConditionSummary:
    """Return a condition's means over cases, and their spread over seeds.

    `spurious` are the classes that any compared condition predicted though the truth lacks them, so that all means
    are over the same cases; by default those of its own runs.
    """
    known = spurious_classes(condition.scores) if spurious is None else spurious
    seed_means = {metric: _seed_means(condition, metric, known) for metric in metrics}
    averaged = over_runs(condition.scores, known)
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
        case_means={metric: values_by_case(averaged, metric) for metric in metrics},
        distributions=tuple(
            _count_over_runs(row, condition.scores) for row in distributions(averaged, metrics)
        ),
    )


def _count_over_runs(row: Distribution, scores: Sequence[CaseScore]) -> Distribution:
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
    condition: Condition,
    base: Condition,
    metrics: Sequence[str],
    spurious: SpuriousClasses,
    margins: Mapping[str, float],
) -> list[Difference]:
    classes = list(dict.fromkeys(score.class_name for score in base.scores))
    rows = [*([ALL_CLASSES] if len(classes) > 1 else []), *classes]
    return [
        _difference(condition, base, name, metric, spurious, margins.get(metric, math.nan))
        for metric in metrics
        for name in rows
    ]


def overall_class(condition: Condition) -> str:
    """Return the name of the mean of classes, or of the only class."""
    classes = {score.class_name for score in condition.scores}
    return ALL_CLASSES if len(classes) > 1 else classes.pop()


def _check_margins(margins: Mapping[str, float], metrics: Sequence[str]) -> None:
    for name, margin in margins.items():
        metric = spec(name).name
        if metric not in metrics:
            raise SpecError(
                f"There is a margin of equivalence for {metric}, which is not compared.",
                "Add it to the metrics.",
            )
        if not margin > 0 or math.isinf(margin):
            raise SpecError(
                f"The margin of equivalence of {metric} is {margin:g}.",
                "Give a number greater than 0, e.g. 0.02.",
            )


def _ranking(conditions: Sequence[Condition], metric: str, spurious: SpuriousClasses) -> Ranking | None:
    """Rank conditions over the cases and classes that all of them have a value of; None where there are none."""
    name = overall_class(conditions[0])
    sides = {c.label: scores_of(c, name) for c in conditions}
    keys = sorted(set.intersection(*(valued_keys(side, metric, spurious) for side in sides.values())))
    cases = sorted({case for case, _ in keys})
    if not cases:
        return None
    tables = {label: score_table(side, metric, spurious, keys, cases) for label, side in sides.items()}
    tests: list[tuple[frozenset[str], float, str]] = []
    for one, other in pairs_of(conditions):
        pairs = paired(sides[one.label], sides[other.label], metric, spurious)
        states = [s.state for c in (one, other) for scores in sides[c.label].values() for s in scores]
        why = why_withheld(pairs, design_of(pairs, states, one), one, other)
        estimate = pairs.estimate()
        p = float(estimate.p) if estimate else math.nan
        tests.append((frozenset((one.label, other.label)), p, why))
    adjusted = holm([p for _, p, _ in tests])
    stars = [pair for (pair, _, why), p in zip(tests, adjusted, strict=True) if p < SIGNIFICANT and not why]
    return rank_conditions(metric, tables, stars)


def _difference(
    condition: Condition,
    base: Condition,
    class_name: str,
    metric: str,
    spurious: SpuriousClasses,
    margin: float,
) -> Difference:
    ours, theirs = scores_of(condition, class_name), scores_of(base, class_name)
    pairs = paired(ours, theirs, metric, spurious)
    values = list(pairs.by_case.values())
    over_cases = paired_interval(values)
    estimate = pairs.estimate()
    half = float(estimate.half_width()) if estimate else math.nan
    states, states_of_base = (
        [s.state for scores in side.values() for s in scores] for side in (ours, theirs)
    )
    design = design_of(pairs, [*states, *states_of_base], base)
    return Difference(
        condition=condition.label,
        reference=base.label,
        class_name=class_name,
        metric=metric,
        n_pairs=len(values),
        n_nonzero=n_nonzero(values),
        n_unpaired=pairs.n_unpaired,
        n_dropped=pairs.n_dropped,
        n_missed=states.count("missed"),
        n_missed_reference=states_of_base.count("missed"),
        n_spurious=states.count("spurious"),
        n_spurious_reference=states_of_base.count("spurious"),
        n_seeds=design.seeds,
        n_folds=design.folds,
        mean=over_cases.mean,
        low=over_cases.mean - half,
        high=over_cases.mean + half,
        standard_error=float(estimate.standard_error) if estimate else math.nan,
        df=float(estimate.df) if estimate else math.nan,
        seed_means=pairs.by_seed,
        seed_sd=_sd(pairs.by_seed.values()),
        p=float(estimate.p) if estimate else math.nan,
        p_cases=wilcoxon_signed_rank(values),
        low_cases=over_cases.low,
        high_cases=over_cases.high,
        withheld=why_withheld(pairs, design, condition, base),
        margin=margin,
        p_equivalence=float(estimate.p_outside(margin)) if estimate and margin > 0 else math.nan,
    )


def scores_of(condition: Condition, class_name: str) -> dict[int, list[CaseScore]]:
    """Return seed -> scores of a class, or of all classes for the mean of classes."""
    return {
        seed: [s for s in scores if class_name in (s.class_name, ALL_CLASSES)]
        for seed, scores in condition.by_seed.items()
    }


def design_of(pairs: Pairs, states: Sequence[str], base: Condition) -> Design:
    """Return the design of a difference; `states` are of all scores on both sides."""
    return Design(
        cases=len(pairs.by_case),
        seeds=min(len(pairs.ours), len(pairs.theirs)),
        # every training scores all test cases, whatever fold it validated on
        folds=len({run.split for run in base.runs}) if base.runs[0].scored_split == "validation" else 1,
        failing=sum(state in ("missed", "spurious") for state in states) / max(1, len(states)),
    )


def why_withheld(pairs: Pairs, design: Design, condition: Condition, base: Condition) -> str:
    """Return why a difference has no star whatever its p, "" if it may have one."""
    if reason := withheld(design):
        return reason
    if any(len(set(cases)) > 1 for cases in (_cases_by_seed(condition), _cases_by_seed(base))):
        return "its seeds were scored on different cases"
    if pairs.n_dropped or not pairs.crossed:
        return "pairs were dropped because a structure was missed or made up"
    return ""


def _cases_by_seed(condition: Condition) -> list[frozenset[str]]:
    return [frozenset(score.case for score in scores) for scores in condition.by_seed.values()]


def _adjusted(rows: Sequence[Difference]) -> list[Difference]:
    """Adjust p by Holm within each metric: single classes together, the mean of classes by itself."""
    several = any(row.class_name == ALL_CLASSES for row in rows)
    families: dict[tuple[str, bool], list[int]] = {}
    for index, row in enumerate(rows):
        families.setdefault((row.metric, several and row.class_name != ALL_CLASSES), []).append(index)
    adjusted = list(rows)
    for indices in families.values():
        values = holm([rows[i].p for i in indices])
        equivalence = holm([rows[i].p_equivalence for i in indices])
        tests = sum(not math.isnan(v) for v in values)
        for index, value, within in zip(indices, values, equivalence, strict=True):
            row = replace(rows[index], p_holm=value, n_tests=tests, p_equivalence_holm=within)
            adjusted[index] = replace(row, better=_better(row))
    return adjusted


def _better(row: Difference) -> Literal["condition", "reference", ""]:
    """Return the side of a star; neither without one."""
    if not row.marked or not row.mean:
        return ""
    better = ALL_METRICS[row.metric].better
    if better == "zero":  # the sign of a difference does not say which of the two is nearer to 0
        return ""
    return "condition" if (row.mean > 0) == (better == "higher") else "reference"


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
    checkpoint: Weights = DEFAULT_WEIGHTS,
    split: ScoredSplit = "validation",
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
    margins: Mapping[str, float] | None = None,
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
    return compare_runs(
        [read_run(folder, checkpoint, split) for folder in runs],
        checkpoint=checkpoint,
        metrics=metrics,
        reference=reference,
        allow=allow,
        margins=margins,
    )


def compare_runs(
    runs: Sequence[RunScores],
    *,
    checkpoint: Weights = DEFAULT_WEIGHTS,
    metrics: Sequence[str] = METRICS,
    reference: str | Path = "",
    allow: Collection[Allowance] = (),
    margins: Mapping[str, float] | None = None,
) -> GroupedComparison:
    """Compare runs that were read already; arguments and errors as of `compare_groups`."""
    conditions = grouped(runs)
    if isinstance(reference, str):
        find_reference(conditions, reference)
    groups, reasons = partition(conditions, allow)
    chosen = choose(metrics)
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
                margins=margins,
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
