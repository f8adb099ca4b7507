"""Compare runs honestly: paired cases, intervals, corrected tests, and counts beside every mean."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_CLASSES, ALL_METRICS, Distribution, distributions, spec, values_by_case
from segexplorer.study.conditions import Condition, grouped
from segexplorer.study.fairness import Allowance, check_fairness
from segexplorer.study.pairing import paired
from segexplorer.study.records import MEANING, Which, read_run
from segexplorer.study.statistics import FEWEST_PAIRS, holm, paired_interval, wilcoxon_signed_rank

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("dice", "f2", "sensitivity", "precision", "hd95", "hd95_penalised")
"""What a comparison shows unless told otherwise."""


@dataclass(frozen=True)
class ConditionSummary:
    """One condition's means.

    Attributes
    ----------
    runs
        Names of its run folders.
    n_cases
        Cases that validate in any of its runs.
    seed_sd
        Metric -> standard deviation over seeds of the mean of cases; NaN with one seed.
    minutes
        Training and validation, mean of its runs.
    distributions
        One per class and metric, the mean of classes last; cases that several runs validated on count once, with
        the mean of their values.
    """

    label: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    n_cases: int
    minutes: float
    seed_sd: Mapping[str, float]
    distributions: tuple[Distribution, ...]

    def distribution(self, metric: str, class_name: str = "") -> Distribution:
        """Return the row of a metric and class, by default of the mean of classes (or the only class)."""
        rows = [d for d in self.distributions if d.metric == metric]
        return next(d for d in rows if d.class_name == class_name) if class_name else rows[-1]


@dataclass(frozen=True)
class Difference:
    """One condition against the reference, on the same cases.

    Attributes
    ----------
    n_pairs, n_unpaired
        Cases in the difference; (case, class) pairs for which only one side has a value.
    n_missed, n_missed_reference, n_spurious, n_spurious_reference
        Of all (case, class, run) scores on either side.
    mean, low, high
        Mean paired difference, condition minus reference, with its 95 % bootstrap interval over cases.
    p, p_holm, n_tests
        Wilcoxon signed rank, two-sided; Holm-adjusted over `n_tests`: all comparisons of this metric by the mean of
        classes, or all comparisons of this metric by single classes.
    better
        "condition", "reference" or "" where the interval includes zero.
    """

    condition: str
    reference: str
    class_name: str
    metric: str
    n_pairs: int
    n_unpaired: int
    n_missed: int
    n_missed_reference: int
    n_spurious: int
    n_spurious_reference: int
    mean: float
    low: float
    high: float
    p: float
    p_holm: float = math.nan
    n_tests: int = 0
    better: str = ""


@dataclass(frozen=True)
class Comparison:
    """Conditions side by side; `notes` are sentences that belong beside every figure of it."""

    checkpoint: Which
    reference: str
    metrics: tuple[str, ...]
    conditions: tuple[ConditionSummary, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "checkpoint_meaning": MEANING[self.checkpoint]}

    def to_csv(self) -> str:
        """Return every distribution and difference as rows of one table; `row` says which a line is."""
        text = io.StringIO()
        rows = [
            {"row": "mean", "condition": c.label, **asdict(d)}
            for c in self.conditions
            for d in c.distributions
        ] + [{"row": "difference", **asdict(d)} for d in self.differences]
        lines = [{"checkpoint": self.checkpoint, **row} for row in rows]
        names = dict.fromkeys(name for line in lines for name in line)
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def frame(self) -> pd.DataFrame:
        """Return one row per condition, class and metric."""
        import pandas as pd

        return pd.DataFrame(
            [{"condition": c.label, **asdict(d)} for c in self.conditions for d in c.distributions]
        )

    def difference_frame(self) -> pd.DataFrame:
        """Return one row per comparison, class and metric."""
        import pandas as pd

        return pd.DataFrame([asdict(d) for d in self.differences])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{note}</p>" for note in self.notes)
        tables = [self.frame(), self.difference_frame()]
        return "".join(t.to_html(index=False, float_format="{:.4f}".format) for t in tables) + notes


def compare(
    runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]],
    *,
    checkpoint: Which = "last",
    metrics: Sequence[str] = METRICS,
    reference: str = "",
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
        Label of the condition that the others are compared with; by default the first.
    allow
        Differences that are meant, see `fairness.check_fairness`.

    Raises
    ------
    SpecError
        When there are not two conditions, or splits, steps or networks differ and that is not allowed.
    DataError
        When a folder is no run folder, or the data differ.
    """
    chosen = tuple(spec(name).name for name in metrics)
    conditions = _conditions(runs, checkpoint)
    if len(conditions) < 2:
        raise SpecError(
            "There are not two conditions to compare: these runs differ in nothing but seed and split.",
            "Name runs with different losses, networks or settings.",
        )
    notes = check_fairness(conditions, allow)
    labels = [condition.label for condition in conditions]
    if reference and reference not in labels:
        raise SpecError(f"There is no condition {reference!r}.", did_you_mean(reference, labels))
    base = conditions[labels.index(reference)] if reference else conditions[0]
    differences = [
        row for other in conditions if other is not base for row in _differences(other, base, chosen)
    ]
    return Comparison(
        checkpoint=checkpoint,
        reference=base.label,
        metrics=chosen,
        conditions=tuple(_summary(condition, chosen) for condition in conditions),
        differences=tuple(_adjusted(differences)),
        notes=(*_notes(conditions, checkpoint, differences), *notes),
    )


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


def _summary(condition: Condition, metrics: Sequence[str]) -> ConditionSummary:
    by_seed = {
        seed: [s for run in condition.runs if run.experiment.seed == seed for s in run.scores]
        for seed in condition.seeds
    }
    return ConditionSummary(
        label=condition.label,
        runs=tuple(run.name for run in condition.runs),
        seeds=condition.seeds,
        n_cases=len({score.case for score in condition.scores}),
        minutes=float(np.mean([run.seconds for run in condition.runs])) / 60,
        seed_sd={metric: _sd_of_means(by_seed, metric) for metric in metrics},
        distributions=tuple(distributions(condition.scores, metrics)),
    )


def _sd_of_means(by_seed: Mapping[int, Sequence[CaseScore]], metric: str) -> float:
    means = [float(np.mean(list(v.values()))) for s in by_seed.values() if (v := values_by_case(s, metric))]
    return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def _differences(condition: Condition, base: Condition, metrics: Sequence[str]) -> list[Difference]:
    classes = list(dict.fromkeys(score.class_name for score in base.scores))
    rows = [*([ALL_CLASSES] if len(classes) > 1 else []), *classes]
    return [_difference(condition, base, name, metric) for metric in metrics for name in rows]


def _difference(condition: Condition, base: Condition, class_name: str, metric: str) -> Difference:
    ours, theirs = (
        [s for s in side.scores if class_name in (s.class_name, ALL_CLASSES)] for side in (condition, base)
    )
    pairs = paired(ours, theirs, metric)
    values = list(pairs.by_case.values())
    interval = paired_interval(values)
    sign = 1 if ALL_METRICS[metric].better == "higher" else -1
    better = ""
    if sign * interval.low > 0 and sign * interval.high > 0:
        better = "condition"
    elif sign * interval.low < 0 and sign * interval.high < 0:
        better = "reference"
    return Difference(
        condition=condition.label,
        reference=base.label,
        class_name=class_name,
        metric=metric,
        n_pairs=len(values),
        n_unpaired=pairs.n_unpaired,
        n_missed=sum(s.state == "missed" for s in ours),
        n_missed_reference=sum(s.state == "missed" for s in theirs),
        n_spurious=sum(s.state == "spurious" for s in ours),
        n_spurious_reference=sum(s.state == "spurious" for s in theirs),
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        p=wilcoxon_signed_rank(values),
        better=better,
    )


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
            adjusted[index] = Difference(**{**asdict(rows[index]), "p_holm": value, "n_tests": tests})
    return adjusted


def _notes(conditions: Sequence[Condition], checkpoint: Which, rows: Sequence[Difference]) -> list[str]:
    notes = [f'Checkpoint "{checkpoint}": {MEANING[checkpoint]}.']
    steps = {run.steps for c in conditions for run in c.runs}
    if len(steps) == 1:
        notes.append(f"Every run took {steps.pop()} optimiser steps.")
    fewest = min((row.n_pairs for row in rows), default=0)
    if fewest < FEWEST_PAIRS:
        notes.append(
            f"Some comparisons have {fewest} paired cases; below {FEWEST_PAIRS} no p can fall under 0.05."
        )
    counts = {len(c.runs) for c in conditions}
    if len(counts) > 1:
        texts = [f"{c.label} {len(c.runs)}" for c in conditions]
        notes.append(f"The numbers of runs differ: {', '.join(texts)}.")
    return notes
