"""Tables as data: scores, and comparisons with the sentences that belong to them; every face draws these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segexplorer.core.colours import ClassColours
from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_METRICS, distributions
from segexplorer.metrics.formatting import NONE, interval_text, mean_text, value_text
from segexplorer.study.render import (
    ARROWS,
    differences_caption,
    differences_cells,
    means_caption,
    means_cells,
    missed,
    p_text,
    signed,
    title,
)
from segexplorer.study.statistics import INTERVAL
from segexplorer.viewmodels.regions import millilitres

if TYPE_CHECKING:
    from segexplorer.study.comparison import Comparison, Difference
    from segexplorer.study.result_comparison import SetComparison, SetDifference
    from segexplorer.viewmodels.race import RaceView


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    words
        So many columns from the left are words, the others numbers.
    colours
        Of the swatches of its rows; "" for none.
    bold
        Places (row, column) of cells that stand out.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    words: int = 1
    colours: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()


SCORED = ("dice", "hd95", "sensitivity", "precision")
"""What tables of a run show of each class, as far as it was measured."""


# ---- scores


def mean_scores_table(scores: Sequence[CaseScore], class_names: Sequence[str], about: str) -> Table:
    """Return means over cases with intervals, quartiles, missed structures, and the worst and the best case."""
    measured = [m for m in SCORED if any(m in s.metrics for s in scores)]
    palette = ClassColours(tuple(class_names))
    rows, swatches = [], []
    for d in distributions(scores, measured):
        rows.append(
            (
                d.class_name,
                title(d.metric),
                value_text(d.mean, d.metric),
                interval_text(d.low, d.high, d.metric),
                value_text(d.median, d.metric),
                _case_value(d.worst, d.worst_case, d.metric),
                _case_value(d.best, d.best_case, d.metric),
                str(d.n),
                str(d.n_missed),
            )
        )
        swatches.append(palette.colour(d.class_name) if d.class_name in palette.names else "")
    heads = ("Class", "Metric", "Mean", "95 % CI", "Median", "Worst case", "Best case", "n", "Missed")
    return Table(heads, tuple(rows), about, words=2, colours=tuple(swatches))


def _case_value(value: float, case: str, metric: str) -> str:
    text = value_text(value, metric)
    return text if text == NONE or not case else f"{text} ({case})"


def class_means_table(scores: Sequence[CaseScore], class_names: Sequence[str], about: str) -> Table:
    """Return a row per class: its means over cases with their intervals, and how often it was missed."""
    measured = [m for m in SCORED if any(m in s.metrics for s in scores)]
    rows = distributions(scores, measured)
    palette = ClassColours(tuple(class_names))
    found, swatches = [], []
    for name in dict.fromkeys(d.class_name for d in rows):
        own = {d.metric: d for d in rows if d.class_name == name}
        means = (mean_text(own[m].mean, own[m].low, own[m].high, m) for m in measured)
        first = own[measured[0]]
        found.append((name, *means, str(first.n), str(first.n_missed)))
        swatches.append(palette.colour(name) if name in palette.names else "")
    heads = ("Class", *map(title, measured), "n", "Missed")
    brackets = f" [{INTERVAL}]" if any(math.isfinite(d.low) for d in rows) else ""
    return Table(heads, tuple(found), f"{about}: mean over cases{brackets}", colours=tuple(swatches))


def case_scores_table(scores: Sequence[CaseScore], class_names: Iterable[str]) -> Table:
    """Return the scores of one case: a row per class."""
    palette = ClassColours(tuple(class_names))
    measured = [m for m in SCORED if any(m in s.metrics for s in scores)]
    heads = [title(m) for m in measured]
    rows = tuple(
        (
            s.class_name,
            *(value_text(s.metrics.get(m, math.nan), m) for m in measured),
            millilitres(s.truth_ml),
            millilitres(s.false_positive_ml),
            millilitres(s.false_negative_ml),
            "" if s.state == "scored" else s.state,
        )
        for s in scores
    )
    swatches = tuple(palette.colour(s.class_name) for s in scores)
    return Table(("Class", *heads, "Truth", "Extra", "Missed", ""), rows, colours=swatches)


def every_score_table(scores: Sequence[CaseScore]) -> Table:
    """Return every metric that was measured of one case: a row per metric, a column per class."""
    rows = [
        (
            f"{m.display_name}, {m.unit}" if m.unit else m.display_name,
            *(value_text(s.metrics.get(name, math.nan), name) for s in scores),
        )
        for name, m in ALL_METRICS.items()
        if any(name in s.metrics for s in scores)
    ]
    for head, part in (
        ("Truth", "truth_ml"),
        ("Extra", "false_positive_ml"),
        ("Missed", "false_negative_ml"),
    ):
        rows.append((head, *(millilitres(getattr(s, part)) for s in scores)))
    if any(s.state != "scored" for s in scores):
        rows.append(("State", *(s.state for s in scores)))
    cases = ", ".join(dict.fromkeys(s.case for s in scores))
    return Table(("Metric", *(s.class_name for s in scores)), tuple(rows), cases)


# ---- conditions of a study


def means_table(comparison: Comparison, class_name: str) -> Table:
    """Return the means of the conditions, the best of each column in bold."""
    heads = (f"{title(m)} {ARROWS[ALL_METRICS[m].better]}" for m in comparison.metrics)
    cells = means_cells(comparison, class_name)
    bold = frozenset(
        (row, column)
        for row, texts in enumerate(cells)
        for column, (_, best, _) in enumerate(texts, start=1)
        if best
    )
    rows = tuple(
        (
            condition.label,
            *(f"{text} *" if star else text for text, _, star in texts),
            missed(condition, class_name),
        )
        for condition, texts in zip(comparison.conditions, cells, strict=True)
    )
    return Table((class_name, *heads, "Missed"), rows, means_caption(comparison, class_name), bold=bold)


def differences_table(comparison: Comparison, class_name: str) -> Table:
    """Return the differences from the reference, with intervals and p."""
    return Table(
        ("Condition", "Metric", "n", "Difference", "95 % CI", "p (Holm)"),
        tuple(differences_cells(comparison, class_name)),
        differences_caption(comparison, class_name),
        words=2,
    )


def study_sentences(comparison: Comparison) -> list[str]:
    """Say of each condition and the first metric what its difference from the reference shows."""
    return [_study_sentence(row) for row in comparison.differences_of(comparison.metrics[0])]


def _study_sentence(row: Difference) -> str:
    head = f"{row.condition} against {row.reference}: {title(row.metric)} {signed(row.mean, row.metric)}"
    if not math.isfinite(row.low):
        return f"{head}; how far other trainings and cases would differ is not known."
    known = f"{head}, 95 % interval {interval_text(row.low, row.high, row.metric)}"
    if row.marked:
        said = {"condition": "better", "reference": "worse", "": "a difference"}[row.better]
        p = p_text(row.p_holm)
        return f"{known}, p {p.replace('<', '< ') if p.startswith('<') else f'= {p}'}: {said}."
    if row.equivalent:
        return f"{known}: equivalent within ±{row.margin:g}."
    if row.significant:
        return f"{known}: no star, since {row.withheld}."
    return f"{known}: no difference is shown, which does not show that there is none."


# ---- sets of results


def sets_table(found: SetComparison) -> Table:
    """Return a row per metric and set, over all classes: mean, difference from the reference, its interval."""
    rows: list[tuple[str, ...]] = []
    for metric in found.metrics:
        for place, (label, of_set) in enumerate(found.distributions.items()):
            mean = [d for d in of_set if d.metric == metric][-1]
            difference = _difference_of(found, metric, label)
            told: tuple[str, ...] = ("reference" if label == found.reference else "", "", "", "")
            if difference is not None:
                told = (
                    signed(difference.mean, metric),
                    interval_text(difference.low, difference.high, metric),
                    f"{difference.p_holm:.3g}" if math.isfinite(difference.p_holm) else NONE,
                    f"{difference.n_better} / {difference.n_worse}",
                )
            rows.append((title(metric) if place == 0 else "", label, value_text(mean.mean, metric), *told))
    heads = ("Metric", "Results", "Mean", "Difference", "95 % CI over cases", "p, Holm", "Better / worse")
    return Table(heads, tuple(rows), words=2)


def sets_sentences(found: SetComparison) -> list[str]:
    """Say of each set and the first metric how it differs from the reference, and on how many cases."""
    metric = found.metrics[0]
    rows = [_difference_of(found, metric, label) for label in found.distributions]
    return [_set_sentence(row) for row in rows if row is not None]


def _set_sentence(row: SetDifference) -> str:
    head = f"{row.label} against {row.reference}: {title(row.metric)} {signed(row.mean, row.metric)}"
    if math.isfinite(row.low):
        head += f", 95 % interval over cases {interval_text(row.low, row.high, row.metric)}"
    return f"{head}; better in {row.n_better} of {row.n_cases} cases, worse in {row.n_worse}."


def _difference_of(found: SetComparison, metric: str, label: str) -> SetDifference | None:
    """Return the difference of a set over all its classes; None of the reference."""
    over = [d for d in found.distributions[label] if d.metric == metric][-1].class_name
    rows = (d for d in found.differences if (d.metric, d.label, d.class_name) == (metric, label, over))
    return next(rows, None)


# ---- lanes of a race


def race_table(view: RaceView) -> Table:
    """Return a row per lane: what it trains, and its Dice of every class at the newest step that all have."""
    steps = view.steps()
    at = max(steps, default=0)
    known = {name: view.curves(name).at(at) if steps else {} for name in view.class_names}
    rows = tuple(
        (lane.replace("_", " "), what, *(value_text(known[n].get(lane, math.nan), "dice") for n in known))
        for lane, what in view.lanes.items()
    )
    caption = f"Dice of one watched case at step {at}" if steps else "No frame is complete in every lane yet."
    return Table(("Lane", "Trains", *view.class_names), rows, caption, words=2)
