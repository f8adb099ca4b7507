"""How figures of a comparison are written, the same in the terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segexplorer.metrics import ALL_METRICS
from segexplorer.metrics.wording import NONE, WITHOUT_INTERVAL, value_text
from segexplorer.study.comparison import Comparison
from segexplorer.study.statistics import INTERVAL


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
    return (
        f"Mean over {_counted(cases, 'validation case')} ({class_name}; {runs}){_intervals(lows)}. "
        "Bold: best mean of its column, which is no statement of significance. "
        f"* Holm-adjusted p < 0.05 against {comparison.reference}{_also(comparison)}. "
        "Missed: of the structures in the truth, over all runs; they count as 0 in overlaps, and in distances only "
        "where those are penalised."
    )


def differences_caption(comparison: Comparison, class_name: str) -> str:
    """Return what a table of differences is a table of."""
    rows = [d for metric in comparison.metrics for d in comparison.differences_of(metric, class_name)]
    lows = [d.low for d in rows]
    tests = [d.n_tests for d in rows if d.n_tests]
    adjusted = f", Holm-adjusted over {_counted(tests, 'comparison')} per metric" if tests else ""
    return (
        f"Difference from {comparison.reference}, paired by case ({class_name}){_intervals(lows)}, and p of "
        f"Wilcoxon's signed-rank test over cases, two-sided{adjusted}. {_dashes(lows)}"
    ).rstrip()


def _also(comparison: Comparison) -> str:
    several = any(len(d.seed_means) > 1 for d in comparison.differences)
    return " and the same sign in every seed" if several else ""


def _intervals(lows: Sequence[float]) -> str:
    """Say what stands in brackets, if anything does."""
    return f" [{INTERVAL}]" if any(map(math.isfinite, lows)) else ""


def _dashes(lows: Sequence[float]) -> str:
    return "" if all(map(math.isfinite, lows)) else WITHOUT_INTERVAL


def _counted(numbers: Sequence[int], noun: str) -> str:
    """Return "1 case", "3 cases" or "3 to 5 cases"."""
    fewest, most = min(numbers), max(numbers)
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{count} {noun}{'' if most == 1 else 's'}"
