"""Comparisons as files: CSV with everything, Markdown with what a paper shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from segexplorer.metrics import ALL_CLASSES, ALL_METRICS
from segexplorer.metrics.table import rows_to_csv
from segexplorer.metrics.wording import interval_text, mean_text
from segexplorer.study.comparison import Comparison, ConditionSummary, Difference
from segexplorer.study.wording import (
    differences_caption,
    means_caption,
    p_text,
    signed,
    title,
)

ARROWS = {"higher": "↑", "lower": "↓"}


def csv_table(comparisons: Sequence[Comparison], alone: Sequence[ConditionSummary] = ()) -> str:
    """Return every distribution and difference as rows of one table.

    `row` says what a line is: "mean", "seed mean" or "difference"; `group` which comparison it is of, counted from
    1, conditions without a comparison after them. What has no value is an empty cell.
    """
    lines: list[dict[str, object]] = []
    for group, comparison in enumerate(comparisons, start=1):
        head = {"group": group, "checkpoint": comparison.checkpoint, "reference": comparison.reference}
        lines += [{**head, **row} for c in comparison.conditions for row in _rows(c)]
        lines += [{**head, "row": "difference", **_flat(d)} for d in comparison.differences]
    for group, condition in enumerate(alone, start=len(comparisons) + 1):
        lines += [{"group": group, **row} for row in _rows(condition)]
    return rows_to_csv(lines)


def _rows(condition: ConditionSummary) -> list[dict[str, object]]:
    facts = {
        "condition": condition.label,
        "runs": len(condition.runs),
        "steps": condition.steps,
        "batch_size": condition.batch_size,
        "gradient_norm": condition.gradient_norm,
        "minutes": condition.minutes,
    }
    means = [
        {"row": "mean", **facts, "seeds": _seeds(condition.seeds), **asdict(d)}
        for d in condition.distributions
    ]
    by_seed = [
        {
            "row": "seed mean",
            **facts,
            "seeds": seed,
            "class_name": condition.distribution(metric).class_name,
            "metric": metric,
            "mean": mean,
        }
        for metric, values in condition.seed_means.items()
        for seed, mean in values.items()
    ]
    return [*means, *by_seed]


def _flat(difference: Difference) -> dict[str, object]:
    row = asdict(difference)
    by_seed = row.pop("seed_means")
    return {**row, "seeds": _seeds(by_seed), "by_seed": " ".join(f"{v:.6g}" for v in by_seed.values())}


def _seeds(seeds: Iterable[int]) -> str:
    return " ".join(map(str, seeds))


def means_cells(comparison: Comparison, class_name: str) -> list[list[tuple[str, bool, bool]]]:
    """Return a row per condition: for each metric the text, whether its mean is best, whether it is significant.

    Significant is a difference from the reference whose Holm-adjusted p is below 0.05 and that has the same sign in
    every seed.
    """
    best = comparison.best_means(class_name)
    marked = {
        (d.condition, d.metric)
        for metric in comparison.metrics
        for d in comparison.differences_of(metric, class_name)
        if d.marked
    }
    rows = []
    for condition in comparison.conditions:
        cells = []
        for metric in comparison.metrics:
            d = condition.distribution(metric, class_name)
            text = mean_text(d.mean, d.low, d.high, metric)
            cells.append((text, condition.label in best.get(metric, ()), (condition.label, metric) in marked))
        rows.append(cells)
    return rows


def missed(condition: ConditionSummary, class_name: str) -> str:
    """Return how many structures that are there were missed, of all in all runs."""
    row = condition.distribution(condition.distributions[0].metric, class_name)
    classes = len({d.class_name for d in condition.distributions} - {ALL_CLASSES})
    of = condition.n_scores if class_name == ALL_CLASSES else condition.n_scores // classes
    return f"{row.n_missed}/{of - row.n_absent - row.n_spurious}"


def differences_cells(comparison: Comparison, class_name: str) -> list[tuple[str, str, str, str, str, str]]:
    """Return one row per condition and metric: condition, metric, n, difference, interval, adjusted p."""
    return [
        (
            d.condition,
            title(metric),
            str(d.n_pairs),
            signed(d.mean, metric),
            interval_text(d.low, d.high, metric),
            p_text(d.p_holm),
        )
        for metric in comparison.metrics
        for d in comparison.differences_of(metric, class_name)
    ]


def markdown_tables(comparison: Comparison, class_name: str = "") -> str:
    """Return the means and the differences as two Markdown tables, captions and notes below them."""
    name = class_name or comparison.class_names[-1]
    heads = ["Condition", *(f"{title(m)} {ARROWS[ALL_METRICS[m].better]}" for m in comparison.metrics)]
    heads.append("Missed")
    rows = []
    for condition, cells in zip(comparison.conditions, means_cells(comparison, name), strict=True):
        texts = [_marked(_safe(text), best, star) for text, best, star in cells]
        rows.append([_safe(condition.label), *texts, missed(condition, name)])
    differences = [[_safe(cell) for cell in row] for row in differences_cells(comparison, name)]
    return "\n\n".join(
        [
            _markdown(heads, rows),
            _safe(means_caption(comparison, name)),
            _markdown(["Condition", "Metric", "n", "Difference", "95 % CI", "p (Holm)"], differences),
            _safe(differences_caption(comparison, name)),
            "\n".join(f"- {_safe(note)}" for note in comparison.notes),
        ]
    )


def _marked(text: str, best: bool, star: bool) -> str:
    return (f"**{text}**" if best else text) + ("\\*" if star else "")


def _safe(text: str) -> str:
    """Escape what Markdown would read as a table's border, emphasis or markup."""
    for character in "\\`*_|<>":
        text = text.replace(character, "\\" + character)
    return text


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *(["---:"] * (len(heads) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
