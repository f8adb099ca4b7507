"""How figures of a comparison are written, the same in the terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import math

from segexplorer.metrics import ALL_METRICS
from segexplorer.study.comparison import Comparison
from segexplorer.study.statistics import INTERVAL

SHORT = {
    "dice": "Dice",
    "sensitivity": "Sens.",
    "precision": "Prec.",
    "hd95_penalised": "HD95 pen.",
    "specificity": "Spec.",
}
NONE = "–"


def title(metric: str) -> str:
    """Return a metric's short column head with its unit."""
    spec = ALL_METRICS[metric]
    name = SHORT.get(metric, spec.display_name)
    return f"{name}, {spec.unit}" if spec.unit else name


def number(value: float, metric: str) -> str:
    """Return a value with the digits that its metric deserves; a dash where there is none."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.2f}" if ALL_METRICS[metric].unit else f"{value:.3f}"
    return text if float(text) else text.removeprefix("-")


def signed(value: float, metric: str) -> str:
    """Return a difference with its sign."""
    text = number(value, metric)
    return f"+{text}" if value > 0 and float(text) else text


def between(low: float, high: float, metric: str) -> str:
    """Return an interval, or nothing where there is none."""
    return f"[{number(low, metric)}, {number(high, metric)}]" if math.isfinite(low) else ""


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
    cases = {c.n_cases for c in comparison.conditions}
    counts = str(cases.pop()) if len(cases) == 1 else f"{min(cases)} to {max(cases)}"
    seeds = {c.seeds for c in comparison.conditions}
    runs = f"{seeds_text(seeds.pop())}, averaged per case" if len(seeds) == 1 else "seeds averaged per case"
    return (
        f"Mean over {counts} validation cases ({class_name}; {runs}) [{INTERVAL}]. "
        "Bold: best mean of its column, which is no statement of significance. "
        f"* Holm-adjusted p < 0.05 against {comparison.reference}{_also(comparison)}. "
        "Missed: of the structures in the truth, over all runs; they count as 0 in overlaps, and in distances only "
        "where those are penalised."
    )


def _also(comparison: Comparison) -> str:
    several = any(len(d.seed_means) > 1 for d in comparison.differences)
    return " and the same sign in every seed" if several else ""


def differences_caption(comparison: Comparison, class_name: str) -> str:
    """Return what a table of differences is a table of."""
    tests = sorted({d.n_tests for d in comparison.differences_of(comparison.metrics[0], class_name)})
    return (
        f"Difference from {comparison.reference}, paired by case ({class_name}) [{INTERVAL}], and p of Wilcoxon's "
        f"signed-rank test over cases, two-sided, Holm-adjusted over {', '.join(map(str, tests))} comparisons per "
        "metric."
    )
