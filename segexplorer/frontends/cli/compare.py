"""`segexplorer compare`: every condition's means, their paired differences, and the evidence for both."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SpecError, require
from segexplorer.frontends.cli.terminal import print_json, remarks, results
from segexplorer.metrics import ALL_METRICS
from segexplorer.metrics.formatting import interval_text, value_text
from segexplorer.study import ALLOWANCES, Allowance, compare, compare_groups
from segexplorer.study.compare import METRICS
from segexplorer.study.plan import runs_of
from segexplorer.study.plots import FORMATS, Format, write_plots
from segexplorer.study.ranking import RESAMPLES
from segexplorer.study.render import (
    csv_table,
    latex_tables,
    markdown_tables,
    p_text,
    signed,
    significant_figures,
    title,
)
from segexplorer.study.runs import checkpoint_description, read_run, repeats
from segexplorer.study.runs import grouped as gather
from segexplorer.study.self_check import self_check

if TYPE_CHECKING:
    from segexplorer.study import Comparison, ConditionSummary, GroupedComparison
    from segexplorer.study.runs import ScoredSplit
    from segexplorer.study.self_check import SelfCheck
    from segexplorer.training.scores import Weights


WIDE = 100
"""Columns from which on tables have room for more."""


def print_groups(grouped: GroupedComparison, *, by_class: bool = False, out: Console | None = None) -> None:
    """Print every comparison, then the conditions that nothing can be compared with."""
    out = out or results()
    total = len(grouped.comparisons) + bool(grouped.alone)
    for place, comparison in enumerate(grouped.comparisons, start=1):
        if total > 1:
            out.rule(f"Group {place}: {len(comparison.conditions)} conditions", align="left", style="none")
        print_comparison(comparison, by_class=by_class, out=out)
    if grouped.alone:
        if total > 1:
            out.rule("Not compared with any other", align="left", style="none")
        _print_alone(grouped.alone, grouped.metrics, out)
        out.print(_runs(grouped.alone, None, out))
    say(grouped.notes, out)


def print_comparison(comparison: Comparison, *, by_class: bool = False, out: Console | None = None) -> None:
    """Print a comparison: means, differences metric by metric, what the runs took, and its notes."""
    out = out or results()
    names = comparison.class_names if by_class else comparison.class_names[-1:]
    out.print(f"[bold]Means over {comparison.split} cases[/bold] (bold: best mean, significant or not)")
    for name in names:
        out.print()
        out.print(_means(comparison, name, out))
    out.print()
    out.print(f"[bold]Differences from {escape(comparison.reference)}[/bold], paired by case")
    if any(d.n_tests for d in comparison.differences):
        out.print("CI and p over other cases and other trainings; p adjusted by Holm, * below 0.05")
    for name in names:
        shown: dict[str, str] = {}
        for metric in comparison.metrics:
            twin = next((t for t in shown if _alike(comparison, metric, t, name)), None)
            out.print()
            if twin is not None:
                out.print(f"{title(metric)}: the same as {title(twin)}", markup=False)
                continue
            shown[metric] = name
            out.print(_differences(comparison, metric, name, out))
    out.print()
    out.print(_ranks(comparison, out))
    out.print()
    out.print(_runs(comparison.conditions, comparison, out))
    out.print()
    say(comparison.notes, out)


def _alike(comparison: Comparison, metric: str, other: str, class_name: str) -> bool:
    """Whether two metrics have the same figures, e.g. penalised distances where nothing was missed."""
    figures = [
        (
            [c.distribution(m, class_name).mean for c in comparison.conditions],
            [(d.mean, d.low, d.high, d.p_holm) for d in comparison.differences_of(m, class_name)],
        )
        for m in (metric, other)
    ]
    return figures[0] == figures[1]


def say(notes: Sequence[str], out: Console) -> None:
    """Print notes: wrapped between words in a terminal, one line each in a file."""
    for note in notes:
        out.print(note, markup=False, soft_wrap=not out.is_terminal)


def _table(out: Console, *columns: str) -> Table:
    gap = 2 if out.width >= WIDE else 1
    table = Table(box=None, header_style="bold", padding=(0, gap, 0, 0), pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(
            escape(column),
            justify="right" if position else "left",
            overflow="fold",
            no_wrap=bool(position),
        )
    return table


def _means(comparison: Comparison, class_name: str, out: Console) -> Table:
    """One line per condition: the means alone, since the files have the intervals, and differences say more."""
    table = _table(out, class_name, *(title(metric) for metric in comparison.metrics))
    best = comparison.best_means(class_name)
    for condition in comparison.conditions:
        cells = [
            _bold(
                value_text(condition.distribution(m, class_name).mean, m), condition.label in best.get(m, ())
            )
            for m in comparison.metrics
        ]
        table.add_row(escape(condition.label), *cells)
    return table


def _bold(text: str, bold: bool) -> str:
    return f"[bold]{escape(text)}[/bold]" if bold else escape(text)


def _differences(comparison: Comparison, metric: str, class_name: str, out: Console) -> Table:
    """Return one metric's table: the reference's mean first, then each condition against it.

    Where there is room, also the spread of the means over seeds and the unadjusted p.
    """
    rows = comparison.differences_of(metric, class_name)
    wide = out.width >= WIDE
    margin = rows[0].margin
    seeds = any(len(c.seeds) > 1 for c in comparison.conditions)
    counts = {row.n_pairs for row in rows}
    unpaired = any(row.n_unpaired for row in rows)
    heads = [title(metric), "mean", *(["SD seeds"] if seeds else []), "diff.", "95 % CI"]
    heads += [*(["p"] if wide else []), "p Holm"]
    heads += [f"p > ±{margin:g}"] if math.isfinite(margin) else []
    heads += [*(["n"] if len(counts) > 1 else []), *(["unpaired"] if unpaired else [])]
    table = _table(out, *heads)
    about = [
        class_name,
        ALL_METRICS[metric].better_text,
        f"Holm over {rows[0].n_tests} test{'s' if rows[0].n_tests != 1 else ''}",
    ]
    about += [f"n = {rows[0].n_pairs} cases"] if len(counts) == 1 else []
    table.caption, table.caption_justify, table.caption_style = "; ".join(about), "left", "dim"
    base = comparison.condition(comparison.reference)
    own = _own(base, metric, class_name, seeds=seeds)
    table.add_row(*own, *[""] * (len(heads) - len(own)))
    for row in rows:
        cells = _own(comparison.condition(row.condition), metric, class_name, seeds=seeds)
        cells += [signed(row.mean, metric), escape(interval_text(row.low, row.high, metric))]
        cells += [p_text(row.p)] if wide else []
        mark = "*" if row.marked else "~" if row.significant else " "
        cells += [f"{p_text(row.p_holm)} {mark}"]
        if math.isfinite(margin):
            cells += [f"{p_text(row.p_equivalence_holm)} {'=' if row.equivalent else ' '}"]
        cells += [str(row.n_pairs)] if len(counts) > 1 else []
        cells += [str(row.n_unpaired)] if unpaired else []
        table.add_row(*cells)
    return table


def _ranks(comparison: Comparison, out: Console) -> Table:
    """How often each condition would be first, were cases and seeds drawn again."""
    table = _table(out, "first of ranks", *(title(metric) for metric in comparison.metrics))
    for condition in comparison.conditions:
        shares = [r.shares[r.conditions.index(condition.label)][0] for r in comparison.rankings]
        table.add_row(escape(condition.label), *(f"{100 * share:.0f} %" for share in shares))
    several = any(len(c.seeds) > 1 for c in comparison.conditions)
    about = f"share of {RESAMPLES:,} resamples of cases{' and seeds' if several else ''} with the best mean"
    table.caption, table.caption_justify, table.caption_style = about, "left", "dim"
    return table


def print_self_check(checks: Sequence[SelfCheck], out: Console | None = None, *, weights: str = "") -> None:
    """Print how often each condition differs from itself, single seeds first; `weights` says what was scored."""
    out = out or results()
    out.print("[bold]Self-check[/bold]: seeds of one condition against other seeds of the same condition")
    if weights:
        out.print(f"Scored: {weights}.", markup=False)
    for (label, size), members in _by_size(checks).items():
        first = members[0]
        sides = "single seeds" if size == 1 else f"{size} seeds against {size}"
        out.print()
        table = _table(
            out, f"{label}, {sides}", "p cases < 0.05", *(["p < 0.05", "star"] if size > 1 else [])
        )
        for check in members:
            rates = [check.over_cases, *([check.crossed, check.starred] if size > 1 else [])]
            table.add_row(title(check.metric), *(f"{100 * rate:.0f} %" for rate in rates))
        about = f"{first.splits} splits of {first.seeds} seeds; n = {first.n_cases} cases"
        table.caption, table.caption_justify, table.caption_style = about, "left", "dim"
        out.print(table)
    out.print()
    say(_explained(checks), out)


def _by_size(checks: Sequence[SelfCheck]) -> dict[tuple[str, int], list[SelfCheck]]:
    found: dict[tuple[str, int], list[SelfCheck]] = {}
    for check in checks:
        found.setdefault((check.condition, check.seeds_per_side), []).append(check)
    return found


def _explained(checks: Sequence[SelfCheck]) -> list[str]:
    notes = [
        "Everything counted here is a false alarm. p cases: Wilcoxon over cases alone, which a study with one seed "
        "would report; p: over other cases and other trainings. Splits share seeds, so the shares are rough."
    ]
    reasons = dict.fromkeys(
        (check.condition, check.withheld) for check in checks if check.seeds_per_side > 1 and check.withheld
    )
    return notes + [f"No star for {condition}: {reason}." for condition, reason in reasons]


def _own(condition: ConditionSummary, metric: str, class_name: str, *, seeds: bool) -> list[str]:
    mean = value_text(condition.distribution(metric, class_name).mean, metric)
    # the spread over seeds is of the overall means
    whole = condition.distribution(metric).class_name == class_name
    spread = value_text(condition.seed_sd[metric], metric) if whole else ""
    return [escape(condition.label), mean, *([spread] if seeds else [])]


def _runs(conditions: Sequence[ConditionSummary], comparison: Comparison | None, out: Console) -> Table:
    """The evidence for the figures: runs, missed structures, time, and the scale of the gradient."""
    ratio = ["ratio"] if comparison else []
    table = _table(out, "runs", "n", "cases", "missed", "spurious", "steps", "min", "gradient", *ratio)
    for c in conditions:
        row = c.distributions[-1]
        there = c.n_scores - row.n_absent - row.n_spurious
        table.add_row(
            escape(c.label),
            str(len(c.runs)),
            str(c.n_cases),
            f"{row.n_missed}/{there}",
            str(row.n_spurious),
            str(c.steps),
            f"{c.minutes:.1f}",
            significant_figures(c.gradient_norm),
            *([significant_figures(comparison.gradient_ratio(c.label))] if comparison else []),
        )
    about = "missed: of the structures in the truth, all runs; gradient: norm, median over steps"
    table.caption, table.caption_justify, table.caption_style = about, "left", "dim"
    return table


def _print_alone(conditions: Sequence[ConditionSummary], metrics: Sequence[str], out: Console) -> None:
    table = _table(out, "means over cases", "metric", "mean", "95 % CI", "SD seeds", "cases")
    for condition in conditions:
        for metric in metrics:
            d = condition.distribution(metric)
            table.add_row(
                escape(condition.label) if metric == metrics[0] else "",
                title(metric),
                value_text(d.mean, metric),
                escape(interval_text(d.low, d.high, metric)),
                value_text(condition.seed_sd[metric], metric),
                str(d.n),
            )
    out.print(table)
    out.print()


STANDARD_OUTPUT = Path("-")


def run_compare(
    runs: Sequence[Path],
    *,
    checkpoint: Weights,
    split: ScoredSplit,
    reference: str,
    metrics: str,
    allow: Sequence[str],
    by_class: bool,
    as_json: bool,
    csv: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    equivalence: Sequence[str] = (),
    check_itself: bool = False,
    plots: Path | None = None,
    formats: str = "svg",
) -> None:
    """Compare run folders, or the runs of study folders, and print the tables; of one condition alone, its means.

    Raises
    ------
    SpecError, DataError
        When there are several conditions of which no two can be compared, a table of differences is wanted of only
        one, a file cannot be at its place, or as `compare_groups` says.
    """
    allowed = allowances(allow)
    for path in (csv, markdown, latex):
        _check_place(path)
    suffixes = plot_formats(plots, formats)
    chosen = [m.strip() for m in metrics.split(",") if m.strip()] or METRICS
    found = runs_of(runs, unfinished="unfinished" in allowed)
    if found.left_out:
        text = f"Left out, not finished: {', '.join(found.left_out)} (--allow unfinished takes them in)."
        remarks().print(text, markup=False, soft_wrap=True)
    if check_itself:
        read = [read_run(folder, checkpoint, split) for folder in found.folders]
        checks = self_check(gather(read), chosen)
        if as_json:
            print_json({"checkpoint": checkpoint, "self_check": [asdict(check) for check in checks]})
        else:
            print_self_check(checks, weights=f"{checkpoint} weights, {split} cases")
        return
    base = reference or found.reference or ""
    margins = parse_margins(equivalence)
    grouped = compare_groups(
        found.folders,
        checkpoint=checkpoint,
        split=split,
        reference=base,
        metrics=chosen,
        allow=allowed,
        margins=margins,
    )
    if not grouped.comparisons and len(grouped.alone) > 1:
        compare(
            found.folders, checkpoint=checkpoint, split=split, metrics=chosen, allow=allowed
        )  # refuses by name
    if (markdown or latex or plots) and not grouped.comparisons:
        raise SpecError(
            "These runs are one condition, so there is no comparison to make a table or a plot of.",
            "--csv holds its means and every seed's; or name runs of another loss or setting.",
        )
    texts: list[tuple[Path | None, Callable[[], str]]] = [
        (csv, lambda: csv_table(grouped.comparisons, grouped.alone)),
        (markdown, lambda: "\n\n".join(markdown_tables(c) for c in grouped.comparisons) + "\n"),
        (latex, lambda: "\n".join(latex_tables(c) for c in grouped.comparisons)),
    ]
    for path, write in texts:
        if path == STANDARD_OUTPUT:
            sys.stdout.write(write())
        elif path is not None:
            atomic_write(path, write().encode())
    if plots is not None:
        _write_plots(grouped.comparisons, plots, suffixes)
    to_be_read = STANDARD_OUTPUT not in (csv, markdown, latex) and not as_json
    if to_be_read:
        print_groups(grouped, by_class=by_class)
    elif as_json and STANDARD_OUTPUT not in (csv, markdown, latex):
        print_json(grouped.plain())
    if not grouped.comparisons:
        say(_of_one_condition(found.folders, checkpoint, split), results() if to_be_read else remarks())


def _of_one_condition(folders: Sequence[Path], checkpoint: Weights, split: ScoredSplit) -> list[str]:
    """Say that nothing was compared, and what its means hold."""
    (condition,) = gather([read_run(folder, checkpoint, split) for folder in folders])
    runs = "This run is" if len(condition.runs) == 1 else f"These {len(condition.runs)} runs are"
    return [
        f"Nothing is compared: {runs} one condition, {condition.label}; name runs of another loss, network or "
        "setting, too.",
        f'Checkpoint "{checkpoint}": {checkpoint_description(checkpoint, split)}.',
        *repeats(condition),
    ]


def plot_formats(folder: Path | None, formats: str) -> list[Format]:
    """Return the formats to write plots in; refuse what cannot be written before the work."""
    if folder is None:
        return []
    require("matplotlib", "plots", "A plot of a comparison")
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"{folder} is a file.", "Name a folder to write the plots into.")
    words = [word.strip().lower() for word in formats.split(",") if word.strip()]
    if unknown := [word for word in words if word not in FORMATS]:
        raise SpecError(f"Plots are not written as {unknown[0]}.", f"Known: {', '.join(FORMATS)}.")
    return [known for known in FORMATS if known in words] or ["svg"]


def _write_plots(comparisons: Sequence[Comparison], folder: Path, suffixes: Sequence[Format]) -> None:
    count = 0
    for number, comparison in enumerate(comparisons, start=1):
        group = f"group{number}_" if len(comparisons) > 1 else ""
        for name, content in write_plots(comparison, suffixes):
            atomic_write(folder / f"{group}{name}", content)
            count += 1
    remarks().print(f"{count} plots in {folder}.", markup=False, soft_wrap=True)


def _check_place(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work."""
    if path is None or path == STANDARD_OUTPUT:
        return
    if path.is_dir():
        raise SpecError(f"{path} is a folder.", "Name a file to write, e.g. comparison.csv.")
    above = next((parent for parent in path.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise SpecError(f"{above} is a file, so {path} cannot be in it.", "Name another folder.")


def parse_margins(given: Sequence[str]) -> dict[str, float]:
    """Return metric -> margin from words like "dice=0.02".

    Raises
    ------
    SpecError
        For a word of another form.
    """
    margins = {}
    for word in given:
        name, _, number = word.partition("=")
        try:
            margins[name.strip()] = float(number)
        except ValueError:
            raise SpecError(
                f"--equivalence {word} names no margin.",
                "Write a metric and a number, e.g. --equivalence dice=0.02.",
            ) from None
    return margins


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
