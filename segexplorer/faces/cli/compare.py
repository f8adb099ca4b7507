"""`segexplorer compare`: conditions side by side, then their paired differences, with every count beside."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from segexplorer.core.errors import SpecError
from segexplorer.faces.cli.output import print_json, results
from segexplorer.metrics import ALL_METRICS
from segexplorer.study import ALLOWANCES, Allowance, Comparison, Difference, compare
from segexplorer.study.compare import METRICS

if TYPE_CHECKING:
    from segexplorer.study.records import Which


def run_compare(
    runs: Sequence[Path],
    *,
    checkpoint: Which,
    reference: str,
    metrics: str,
    allow: Sequence[str],
    by_class: bool,
    as_json: bool,
    table: Path | None,
) -> None:
    """Compare run folders, or the runs of study folders, and print the tables."""
    from segexplorer.study.study import runs_of

    comparison = compare(
        runs_of(runs),
        checkpoint=checkpoint,
        reference=reference,
        metrics=[m.strip() for m in metrics.split(",") if m.strip()] or METRICS,
        allow=allowances(allow),
    )
    if table is not None:
        table.write_text(comparison.to_csv(), encoding="utf-8")
    if as_json:
        print_json(comparison.plain())
    else:
        print_comparison(comparison, by_class=by_class)


def allowances(given: Collection[str]) -> list[Allowance]:
    """Return what may differ.

    Raises
    ------
    SpecError
        For a word that is none of `ALLOWANCES`.
    """
    for word in given:
        if word not in ALLOWANCES:
            raise SpecError(f"--allow {word} is not known.", f"Known: {', '.join(ALLOWANCES)}.")
    return [known for known in ALLOWANCES if known in given]


def print_comparison(comparison: Comparison, *, by_class: bool = False) -> None:
    """Print a comparison as two tables and its notes."""
    out = results()
    out.print("[bold]Means over cases[/bold], with the 95 % bootstrap interval", soft_wrap=True)
    classes = list(dict.fromkeys(d.class_name for d in comparison.conditions[0].distributions))
    for name in classes if by_class else classes[-1:]:
        if len(classes) > 1:
            out.print(f"[italic]{escape(name)}[/italic]")
        out.print(_means(comparison, name))
    out.print(f"[bold]Differences from {escape(comparison.reference)}[/bold], paired by case", soft_wrap=True)
    out.print(_differences(comparison, by_class=by_class))
    for note in comparison.notes:
        out.print(note, markup=False, soft_wrap=True)


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for position, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if position < left else "right", overflow="fold")
    return table


def _means(comparison: Comparison, class_name: str) -> Table:
    titles = [title(metric) for metric in comparison.metrics]
    several = any(len(c.seeds) > 1 for c in comparison.conditions)
    spread = ["sd of seeds"] if several else []
    table = _table("condition", "runs", "cases", *titles, *spread, "missed", "spurious", "min")
    best = _best(comparison, class_name)
    for condition in comparison.conditions:
        rows = [condition.distribution(m, class_name) for m in comparison.metrics]
        cells = []
        for metric, row in zip(comparison.metrics, rows, strict=True):
            text = f"{number(row.mean, metric)}\n{between(row.low, row.high, metric)}"
            cells.append(
                f"[bold]{escape(text)}[/bold]" if best.get(metric) == condition.label else escape(text)
            )
        first = comparison.metrics[0]
        table.add_row(
            escape(condition.label),
            str(len(condition.runs)),
            str(condition.n_cases),
            *cells,
            *([number(condition.seed_sd[first], first)] if several else []),
            str(rows[0].n_missed),
            str(rows[0].n_spurious),
            f"{condition.minutes:.1f}",
        )
    return table


def _best(comparison: Comparison, class_name: str) -> Mapping[str, str]:
    """Return metric -> label of the condition with the best mean."""
    found = {}
    for metric in comparison.metrics:
        means = {c.label: c.distribution(metric, class_name).mean for c in comparison.conditions}
        finite = {label: m for label, m in means.items() if math.isfinite(m)}
        if finite:
            pick = max if ALL_METRICS[metric].better == "higher" else min
            found[metric] = pick(finite, key=lambda label: finite[label])
    return found


def _differences(comparison: Comparison, *, by_class: bool) -> Table:
    table = _table(
        "condition", "class", "metric", "n", "difference", "95 % CI", "p", "p (Holm)", "missed", left=3
    )
    shown = comparison.differences
    if not by_class:
        overall = shown[0].class_name
        shown = tuple(row for row in shown if row.class_name == overall)
    for row in shown:
        table.add_row(*_cells(row))
    tests = {row.n_tests for row in shown}
    table.caption = f"Wilcoxon signed rank, Holm over {', '.join(map(str, sorted(tests)))} tests per metric"
    table.caption_justify = "left"
    return table


def _cells(row: Difference) -> tuple[str, ...]:
    pairs = f"{row.n_pairs} (+{row.n_unpaired} unpaired)" if row.n_unpaired else str(row.n_pairs)
    sign = "+" if row.mean > 0 else ""
    return (
        escape(row.condition),
        escape(row.class_name),
        title(row.metric),
        pairs,
        sign + number(row.mean, row.metric),
        escape(between(row.low, row.high, row.metric)),
        p_text(row.p),
        p_text(row.p_holm),
        f"{row.n_missed} vs {row.n_missed_reference}",
    )


def title(metric: str) -> str:
    """Return a metric's column head."""
    return (
        ALL_METRICS[metric].title.replace("Sensitivity (recall)", "Sensitivity").replace("Dice (DSC)", "Dice")
    )


def number(value: float, metric: str) -> str:
    """Return a value with the digits that its metric deserves; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f}" if ALL_METRICS[metric].unit else f"{value:.3f}"


def between(low: float, high: float, metric: str) -> str:
    """Return an interval, or nothing."""
    if not math.isfinite(low):
        return ""
    return f"[{number(low, metric)}, {number(high, metric)}]"


def p_text(p: float) -> str:
    """Return a p value as it is printed."""
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
