"""The case table of result sets: a row per case, worst first, sorted and filtered; and the points of a scatter.

A case is as bad as its metric says; a structure that was missed or made up has no distance, and is worse than any
that has one. Cases that could not be scored are at the end, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.events import CaseScore
from segexplorer.data.checks import Problem
from segexplorer.metrics import ALL_METRICS
from segexplorer.metrics.formatting import rows_to_csv, score_rows
from segexplorer.training.result_scores import ScoredSet

MEAN = "mean of classes"
"""Name of the choice that takes a case's mean over its classes."""
TRUTH_ML, EXTRA_ML, MISSED_ML = "truth_ml", "false_positive_ml", "false_negative_ml"
VOLUMES: Mapping[str, str] = {
    TRUTH_ML: "true volume, ml",
    EXTRA_ML: "extra volume, ml",
    MISSED_ML: "missed volume, ml",
}
"""Quantities of a scatter beside the metrics, in order."""
FAILED = ("missed", "spurious")
"""States in which a structure is on one side only."""


@dataclass(frozen=True)
class CaseRow:
    """One case of one result set.

    Attributes
    ----------
    value
        The sorted metric, of the chosen class or the mean over classes in truth or prediction; NaN where it has
        none.
    classes
        Class -> its score.
    failures
        Classes that were missed or made up.
    problem
        Why the case could not be scored, or has no label; "" for a scored one.
    """

    label: str
    case: str
    value: float
    classes: Mapping[str, CaseScore]
    failures: tuple[str, ...]
    problem: str = ""
    badge: str = ""

    @property
    def scored(self) -> bool:
        """Whether there are scores."""
        return bool(self.classes)

    @property
    def remark(self) -> str:
        """What has to be known beside the numbers: why there are none, what was missed or made up, the badge."""
        if self.problem:
            return self.problem
        texts = [f"{self.classes[name].state}: {name}" for name in self.failures[:3]]
        if len(self.failures) > 3:
            texts.append(f"{len(self.failures) - 3} more")
        return ", ".join([*texts, *([self.badge] if self.badge else [])])


@dataclass(frozen=True)
class Filter:
    """Which rows are shown.

    Attributes
    ----------
    text
        A part of the case's name, in any case.
    labels
        Result sets; none of them named: all.
    low, high
        Ends of the values shown; a case without a value passes where the other end is open.
    failures_only
        Whether only cases with a missed or made-up structure are shown.
    """

    text: str = ""
    labels: frozenset[str] = frozenset()
    low: float = -math.inf
    high: float = math.inf
    failures_only: bool = False

    def passes(self, row: CaseRow) -> bool:
        """Whether a row is shown."""
        if self.text and self.text.casefold() not in row.case.casefold():
            return False
        if self.labels and row.label not in self.labels:
            return False
        if self.failures_only and not row.failures:
            return False
        if math.isnan(row.value):
            return math.isinf(self.low) and math.isinf(self.high)
        return self.low <= row.value <= self.high


@dataclass(frozen=True)
class CaseTable:
    """Rows of all result sets by one metric and class; methods return another table.

    Attributes
    ----------
    metric, class_name
        What is sorted by; `class_name` is a class or `MEAN`.
    worst_first
        Whether the worst are at the top, else the best.
    """

    sets: tuple[ScoredSet, ...]
    metric: str = "dice"
    class_name: str = MEAN
    worst_first: bool = True
    filter: Filter = field(default_factory=Filter)

    @property
    def labels(self) -> tuple[str, ...]:
        """The result sets."""
        return tuple(one.label for one in self.sets)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of all sets, in order of first appearance."""
        return tuple(dict.fromkeys(score.class_name for one in self.sets for score in one.scores))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that any score has, in the order of tables."""
        there = {name for one in self.sets for score in one.scores for name in score.metrics}
        return tuple(name for name in ALL_METRICS if name in there)

    def sorted_by(self, metric: str, class_name: str = MEAN, *, worst_first: bool = True) -> Self:
        """Return the table by another metric or class.

        Raises
        ------
        SpecError
            When no score has that metric or class.
        """
        if metric not in self.metrics and self.metrics:
            raise SpecError(f"No score has the metric {metric}.", did_you_mean(metric, self.metrics))
        if class_name != MEAN and class_name not in self.class_names:
            raise SpecError(
                f"No case has the class {class_name}.", did_you_mean(class_name, self.class_names)
            )
        return replace(self, metric=metric, class_name=class_name, worst_first=worst_first)

    def filtered(self, chosen: Filter) -> Self:
        """Return the table with another filter."""
        return replace(self, filter=chosen)

    def rows(self) -> list[CaseRow]:
        """Return the rows that pass the filter, in order; cases without scores last."""
        rows = [row for one in self.sets for row in self._rows_of(one) if self.filter.passes(row)]
        return sorted(rows, key=self._place)

    def _rows_of(self, one: ScoredSet) -> list[CaseRow]:
        by_case: dict[str, list[CaseScore]] = {}
        for score in one.scores:
            by_case.setdefault(score.case, []).append(score)
        reasons = _reasons(one.problems)
        rows = []
        for case in one.listing.cases:
            scores = by_case.get(case.id, [])
            reason = "" if scores else reasons.get(case.id, "Not scored yet.")
            rows.append(
                CaseRow(
                    one.label,
                    case.id,
                    self._value(scores),
                    {score.class_name: score for score in scores},
                    tuple(s.class_name for s in scores if s.state in FAILED and self._counts(s)),
                    reason,
                    case.badge,
                )
            )
        predicted = {case.id for case in one.listing.cases}
        rows += [
            CaseRow(one.label, case, math.nan, {}, (), reason)
            for case, reason in reasons.items()
            if case and case not in predicted
        ]
        return rows

    def _counts(self, score: CaseScore) -> bool:
        return self.class_name in (MEAN, score.class_name)

    def _value(self, scores: Sequence[CaseScore]) -> float:
        values = [
            value
            for score in scores
            if self._counts(score) and score.state != "absent"
            if math.isfinite(value := score.metrics.get(self.metric, math.nan))
        ]
        return math.fsum(values) / len(values) if values else math.nan

    def _place(self, row: CaseRow) -> tuple[int, int, float, str, str]:
        """Return the key of the order: failures without a value are worst, absent classes and unscored last."""
        if not row.scored:
            return (2, 0, 0.0, row.case, row.label)
        valueless = [
            name
            for name in row.failures
            if not math.isfinite(row.classes[name].metrics.get(self.metric, math.nan))
        ]
        sign = 1.0 if self.worst_first else -1.0
        if valueless:
            return (0, -int(sign) * len(valueless), sign * self._merit(row.value), row.case, row.label)
        if math.isnan(row.value):
            return (1, 0, 0.0, row.case, row.label)
        return (0, 0, sign * self._merit(row.value), row.case, row.label)

    def _merit(self, value: float) -> float:
        return float(ALL_METRICS[self.metric].merit(value)) if math.isfinite(value) else -math.inf

    # -- scatter --------------------------------------------------------------------------------------------

    def points(self, across: str, up: str) -> list[Point]:
        """Return a dot per shown case (and per class, unless one is chosen), for two quantities.

        Parameters
        ----------
        across, up
            Names of metrics, or of `VOLUMES`.

        Raises
        ------
        SpecError
            When there is no such quantity.
        """
        for name in (across, up):
            if name not in VOLUMES and name not in ALL_METRICS:
                raise SpecError(
                    f"There is no quantity {name}.", did_you_mean(name, [*VOLUMES, *self.metrics])
                )
        found = []
        for row in self.rows():
            for name, score in row.classes.items():
                if not self._counts(score) or score.state == "absent":
                    continue
                x, y = quantity(score, across), quantity(score, up)
                if math.isfinite(x) and math.isfinite(y):
                    found.append(Point(row.label, row.case, name, x, y, score.state))
        return found

    # -- files ----------------------------------------------------------------------------------------------

    def csv(self) -> str:
        """Return a line per set, case and class of what is shown, all metrics, in the order of the rows."""
        lines: list[dict[str, Any]] = []
        for row in self.rows():
            if row.scored:
                lines += [{"results": row.label, **line} for line in score_rows(row.classes.values())]
            else:
                lines.append(
                    {"results": row.label, "case": row.case, "state": "not scored", "problem": row.problem}
                )
        return rows_to_csv(lines)

    def plain(self) -> dict[str, Any]:
        """Return what is shown as plain data for JSON."""
        return {
            "metric": self.metric,
            "class": self.class_name,
            "order": "worst first" if self.worst_first else "best first",
            "cases": [
                {
                    "results": row.label,
                    "case": row.case,
                    "value": row.value,
                    "failures": list(row.failures),
                    "problem": row.problem,
                    "badge": row.badge,
                    "classes": {name: _plain(score) for name, score in row.classes.items()},
                }
                for row in self.rows()
            ],
            "problems": [
                {
                    "results": one.label,
                    "case": p.case,
                    "severity": p.severity,
                    "code": p.code,
                    "message": p.message,
                    "remedy": p.remedy,
                }
                for one in self.sets
                for p in one.problems
            ],
            "notes": {one.label: list(one.listing.notes) for one in self.sets if one.listing.notes},
        }


@dataclass(frozen=True)
class Point:
    """A dot of the scatter: one class in one case of one set."""

    label: str
    case: str
    class_name: str
    x: float
    y: float
    state: str


def quantity(score: CaseScore, name: str) -> float:
    """Return a metric of a score, or one of its volumes; NaN where it has no value."""
    return float(getattr(score, name)) if name in VOLUMES else float(score.metrics.get(name, math.nan))


def quantity_title(name: str) -> str:
    """Return what an axis says of a quantity."""
    return VOLUMES[name] if name in VOLUMES else ALL_METRICS[name].title


def _plain(score: CaseScore) -> dict[str, Any]:
    volumes = {name: quantity(score, name) for name in VOLUMES}
    return {"state": score.state, **volumes, "metrics": dict(score.metrics)}


def _reasons(problems: Sequence[Problem]) -> dict[str, str]:
    """Return case -> its first problem as a sentence."""
    found: dict[str, str] = {}
    for problem in problems:
        if problem.severity != "note":
            found.setdefault(problem.case, problem.message)
    return found


def problem_texts(found: Sequence[ScoredSet]) -> list[str]:
    """Return a sentence per result set and kind of problem, with the first cases that have it."""
    texts: list[str] = []
    for one in found:
        groups: dict[tuple[str, str], list[str]] = {}
        for problem in one.problems:
            if problem.severity != "note":
                groups.setdefault((problem.message, problem.remedy), []).append(problem.case)
        for (message, remedy), cases in groups.items():
            named = [case for case in cases if case]
            whom = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
            texts.append(f"{one.label}: {f'{whom}: ' if whom else ''}{message} {remedy}".rstrip())
    return texts
