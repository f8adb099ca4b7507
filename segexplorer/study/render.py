r"""Comparisons as text: the words and numbers of every table, and CSV, Markdown and LaTeX files.

The terminal uses the same captions and numbers. CSV holds everything; Markdown and LaTeX hold what a paper
shows. The LaTeX tables are made for `\input` and need the package booktabs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from segexplorer.metrics import ALL_CLASSES, ALL_METRICS
from segexplorer.metrics.formatting import (
    NONE,
    interval_text,
    mean_text,
    rows_to_csv,
    value_text,
)
from segexplorer.study.comparison import Comparison, ConditionSummary, Difference
from segexplorer.study.ranking import Ranking
from segexplorer.study.statistics import CROSSED_INTERVAL, INTERVAL
from segexplorer.training.plan import counted

# ---- words and numbers


def title(metric: str) -> str:
    """Return a metric's short column head with its unit; what is near 1 by volume says so."""
    declared = ALL_METRICS[metric]
    return f"{declared.head}, {declared.unit}" if declared.unit else declared.head


def signed(value: float, metric: str) -> str:
    """Return a difference with its sign."""
    text = value_text(value, metric)
    return f"+{text}" if value > 0 and float(text) else text


def p_text(p: float) -> str:
    """Return a p value as it is printed."""
    if not math.isfinite(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def significant_figures(value: float) -> str:
    """Return a positive number with three figures."""
    return f"{value:.3g}" if math.isfinite(value) else NONE


def seeds_text(seeds: tuple[int, ...]) -> str:
    """Return "seed 0" or "seeds 0, 1, 2"."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def means_caption(comparison: Comparison, class_name: str) -> str:
    """Return what a table of means is a table of."""
    cases = [c.n_cases for c in comparison.conditions]
    seeds = {c.seeds for c in comparison.conditions}
    runs = f"{seeds_text(seeds.pop())}, averaged per case" if len(seeds) == 1 else "seeds averaged per case"
    lows = [c.distribution(m, class_name).low for c in comparison.conditions for m in comparison.metrics]
    noun = f"{comparison.split} case"
    return (
        f"Mean over {_range(cases, noun)} ({class_name}; {runs}){_intervals(lows, INTERVAL)}. "
        "Bold: best mean of its column, which is no statement of significance. "
        f"{_star(comparison, class_name)} "
        "Missed: of the structures in the truth, over all runs; they count as 0 in overlaps, and in distances only "
        "where those are penalised."
    )


def differences_caption(comparison: Comparison, class_name: str) -> str:
    """Return what a table of differences is a table of."""
    rows = [d for metric in comparison.metrics for d in comparison.differences_of(metric, class_name)]
    lows = [d.low for d in rows]
    tests = [d.n_tests for d in rows if d.n_tests]
    head = f"Difference from {comparison.reference}, paired by case ({class_name})"
    if not tests:
        return f"{head}. One seed, or too few cases: there is neither interval nor p."
    return (
        f"{head}{_intervals(lows, CROSSED_INTERVAL)}, and p, two-sided, with seeds and cases as crossed random "
        f"factors, Holm-adjusted over {_range(tests, 'comparison')} per metric."
    )


def _star(comparison: Comparison, class_name: str) -> str:
    """Return what a star means, or that there cannot be one."""
    rows = [d for metric in comparison.metrics for d in comparison.differences_of(metric, class_name)]
    if rows and all(d.withheld for d in rows):
        return "No differences are marked: the design allows no star."
    return f"* Holm-adjusted p < 0.05 against {comparison.reference}, over other cases and other trainings."


def _intervals(lows: Sequence[float], kind: str) -> str:
    """Return the explanation of brackets, "" without intervals."""
    return f" [{kind}]" if any(map(math.isfinite, lows)) else ""


def _range(numbers: Sequence[int], noun: str) -> str:
    """Return "1 case", "3 cases" or "3 to 5 cases"."""
    fewest, most = min(numbers), max(numbers)
    return counted(most, noun) if fewest == most else f"{fewest} to {counted(most, noun)}"


ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}


# ---- CSV


def csv_table(comparisons: Sequence[Comparison], alone: Sequence[ConditionSummary] = ()) -> str:
    """Return every distribution and difference as rows of one table.

    `row` says what a line is: "mean", "seed mean", "difference" or "rank" (mean rank over cases, and the share of
    resamples in which the condition takes the first, second ... rank); `group` which comparison it is of, counted
    from 1, conditions without a comparison after them. What has no value is an empty cell.
    """
    lines: list[dict[str, object]] = []
    for group, comparison in enumerate(comparisons, start=1):
        head = {
            "group": group,
            "checkpoint": comparison.checkpoint,
            "split": comparison.split,
            "reference": comparison.reference,
        }
        lines += [{**head, **row} for c in comparison.conditions for row in _rows(c)]
        lines += [{**head, "row": "difference", **_flat(d)} for d in comparison.differences]
        lines += [{**head, "row": "rank", **row} for r in comparison.rankings for row in _rank_rows(r)]
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


def _rank_rows(ranking: Ranking) -> list[dict[str, object]]:
    return [
        {
            "condition": label,
            "metric": ranking.metric,
            "n": ranking.n_cases,
            "mean_rank": mean,
            "rank_shares": " ".join(f"{share:.4f}" for share in shares),
            "friedman_p": ranking.friedman_p,
        }
        for label, mean, shares in zip(ranking.conditions, ranking.mean_ranks, ranking.shares, strict=True)
    ]


def _seeds(seeds: Iterable[int]) -> str:
    return " ".join(map(str, seeds))


# ---- the two tables of a comparison, as text


def means_cells(comparison: Comparison, class_name: str) -> list[list[tuple[str, bool, bool]]]:
    """Return a row per condition: for each metric the text, whether its mean is best, whether it is significant.

    Significant is a difference from the reference whose Holm-adjusted p is below 0.05, of a design that may have
    stars.
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
    """Return one row per condition and metric: condition, metric, n, difference, interval, adjusted p.

    Behind p is a star, or ~ where p is below 0.05 by a design that may have no star.
    """
    return [
        (
            d.condition,
            title(metric),
            str(d.n_pairs),
            signed(d.mean, metric),
            interval_text(d.low, d.high, metric),
            p_text(d.p_holm) + (" *" if d.marked else " ~" if d.significant else ""),
        )
        for metric in comparison.metrics
        for d in comparison.differences_of(metric, class_name)
    ]


# ---- Markdown


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


# ---- LaTeX

LATEX_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "zero": r" $\to 0$"}
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def escaped(text: str) -> str:
    """Return text as LaTeX prints it, character by character, so that no escape is escaped again."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def latex_tables(comparison: Comparison, class_name: str = "") -> str:
    """Return a table of means and one of differences, with captions; notes as comments above."""
    name = class_name or comparison.class_names[-1]
    heads = ["", *(escaped(title(m)) + LATEX_ARROWS[ALL_METRICS[m].better] for m in comparison.metrics)]
    heads.append("Missed")
    rows = [
        [escaped(condition.label), *(_cell(*cell) for cell in cells), missed(condition, name)]
        for condition, cells in zip(comparison.conditions, means_cells(comparison, name), strict=True)
    ]
    differences = [
        [escaped(condition), escaped(metric), n, _signed(difference), escaped(between), escaped(p)]
        for condition, metric, n, difference, between, p in differences_cells(comparison, name)
    ]
    notes = [f"% {note}" for note in ("\\usepackage{booktabs}", *comparison.notes)]
    return "\n".join(
        [
            *notes,
            _table(heads, "l" + "c" * len(comparison.metrics) + "r", rows, means_caption(comparison, name)),
            _table(
                ["", "Metric", "$n$", "Difference", r"95\,\% CI", "$p$ (Holm)"],
                "llrrcr",
                differences,
                differences_caption(comparison, name),
            ),
        ]
    )


def _cell(text: str, best: bool, star: bool) -> str:
    shown = escaped(text)
    return (rf"\textbf{{{shown}}}" if best else shown) + (r"$^{*}$" if star else "")


def _signed(difference: str) -> str:
    """Return a number with a minus that is one, not a hyphen."""
    return f"${difference}$" if difference[-1].isdigit() else escaped(difference)


def _table(heads: Sequence[str], columns: str, rows: Sequence[Sequence[str]], caption: str) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *(" & ".join(_unbracketed(row)) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _unbracketed(row: Sequence[str]) -> list[str]:
    r"""Protect a cell that begins with "[", or \\ before it would read it as its own option."""
    return [f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in row]
