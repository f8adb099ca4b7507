"""Plots of a comparison for papers, as SVG, PNG and PDF; they need matplotlib, which the extra `plots` installs.

- boxes: the cases of each condition, with quartiles (as figures 3 to 5 of HyTver, Perera et al. 2025)
- pairs: every case under the reference and under a condition, joined by a line
- differences: mean difference from the reference with its interval and star
- ranks: how often each condition takes each rank, were cases and seeds drawn again
- critical_difference: mean ranks on a line; bars join what is not distinguished (Demšar 2006)

Colours are Okabe and Ito's, and nothing is said by colour alone. Figures are 1280 pixels wide as PNG.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segexplorer.core.colours import BLUE, BLUISH_GREEN, VERMILLION
from segexplorer.core.errors import require
from segexplorer.metrics import ALL_METRICS
from segexplorer.study.comparison import Comparison
from segexplorer.study.ranking import Ranking
from segexplorer.study.render import p_text, seeds_text
from segexplorer.study.statistics import CROSSED_INTERVAL
from segexplorer.training.plan import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")

WIDTH = 8.0
"""Inches; times 160 pixels an inch."""
PIXELS_PER_INCH = 160
LABEL_WIDTH = 24
"""Characters of a label in one line."""
PANELS_IN_A_ROW = 4
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"

STYLE: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "svg.hashsalt": "segexplorer",
    "pdf.fonttype": 42,
}


def write_plots(comparison: Comparison, formats: Sequence[Format] = ("svg",)) -> Iterator[tuple[str, bytes]]:
    """Yield file names and contents: every plot of every metric, in every format.

    Metrics without a value have no plot, and conditions that cannot be ranked no plot of ranks.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    matplotlib = require("matplotlib", "plots", "A plot of a comparison")
    with matplotlib.rc_context(dict(STYLE)):
        for metric in comparison.metrics:
            for name, draw in PLOTS.items():
                figure = draw(comparison, metric)
                if figure is None:
                    continue
                for suffix in formats:
                    yield f"{metric}_{name}.{suffix}", content(figure, suffix)


def content(figure: Figure, suffix: Format) -> bytes:
    """Return a figure as a file."""
    # without a date, so that the same figures give the same file
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, dpi=PIXELS_PER_INCH, facecolor="white", metadata=undated[suffix])
    return stream.getvalue()


def _figure(height: float) -> Figure:
    figure: Figure = require("matplotlib.figure", "plots", "A plot").Figure((WIDTH, height))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    return figure


def _p(p: float) -> str:
    text = p_text(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def _wrapped(label: str, width: int = LABEL_WIDTH) -> str:
    """Break a condition's label between its words, or at underscores of long ones."""
    pieces = re.sub(r"_(?=.)", "_\u200b", label)
    lines = textwrap.wrap(pieces.replace("\u200b", " \u200b"), width)
    return "\n".join(line.replace(" \u200b", "").replace("\u200b", "") for line in lines)


def _axis_title(comparison: Comparison, metric: str) -> str:
    declared = ALL_METRICS[metric]
    unit = f" in {declared.unit}" if declared.unit else ""
    return f"{declared.display_name}{unit}, {comparison.class_names[-1]}; {declared.better_text}"


def caption(figure: Figure, *sentences: str) -> None:
    """Write sentences below a figure."""
    text = textwrap.fill(" ".join(s for s in sentences if s), 130)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color=GREY)


def _about(comparison: Comparison, metric: str) -> str:
    cases = max(len(c.case_means[metric]) for c in comparison.conditions)
    seeds = {c.seeds for c in comparison.conditions}
    of = f", each the mean of {seeds_text(seeds.pop())}" if len(seeds) == 1 else ", each a mean over seeds"
    several = any(len(c.seeds) > 1 for c in comparison.conditions)
    return f"{counted(cases, 'case')}{of if several else ', one seed'}."


# ---- cases


def boxes(comparison: Comparison, metric: str) -> Figure | None:
    """Draw the cases of each condition as dots, with their quartiles as a box and their mean as a diamond."""
    values = [list(c.case_means[metric].values()) for c in comparison.conditions]
    if not any(values):
        return None
    count = len(values)
    figure = _figure(1.3 + 0.55 * count)
    axes = figure.subplots()
    places = np.arange(count)
    for place, of_cases in zip(places, values, strict=True):
        if of_cases:
            _box(axes, float(place), np.array(of_cases))
    axes.set_yticks(places, [_wrapped(c.label) for c in comparison.conditions])
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlabel(_axis_title(comparison, metric))
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    missing = _without_value(comparison, metric)
    caption(
        figure,
        _about(comparison, metric),
        "Box: quartiles; line: median; whiskers: farthest case within 1.5 interquartile ranges; diamond: mean.",
        missing,
    )
    return figure


def _box(axes: Axes, place: float, values: np.ndarray) -> None:
    axes.boxplot(
        values,
        positions=[place],
        orientation="horizontal",
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": "#CFE3F1", "edgecolor": BLUE, "linewidth": 1.0},
        medianprops={"color": BLUE, "linewidth": 2.0},
        whiskerprops={"color": BLUE, "linewidth": 1.0},
        capprops={"color": BLUE, "linewidth": 1.0},
    )
    axes.scatter(values, place + _spread(values), s=12, color=INK, alpha=0.65, linewidths=0, zorder=3)
    axes.plot(
        [values.mean()],
        [place],
        "D",
        color="white",
        markeredgecolor=VERMILLION,
        markeredgewidth=1.6,
        zorder=4,
    )


def _spread(values: np.ndarray) -> np.ndarray:
    """Return small shifts by which dots do not hide each other, the same for the same values."""
    shifts: np.ndarray = 0.15 * np.sin(
        2.4 * np.argsort(np.argsort(values))
    )  # the golden angle spreads evenly
    return shifts


def _without_value(comparison: Comparison, metric: str) -> str:
    """Name the conditions in which some case has no value, e.g. HD95 where a structure was missed."""
    counts = {c.label: len(c.case_means[metric]) for c in comparison.conditions}
    most = max(counts.values())
    short = [f"{label} {count}" for label, count in counts.items() if count < most]
    missed = sum(c.distribution(metric).n_missed for c in comparison.conditions)
    parts = [f"Cases with a value: {', '.join(short)} of {most}." if short else ""]
    parts.append(f"Structures missed, over all runs: {missed}." if missed else "")
    return " ".join(filter(None, parts))


def pairs(comparison: Comparison, metric: str) -> Figure | None:
    """Draw a panel per condition: every case under the reference and under the condition, joined by a line."""
    base = comparison.condition(comparison.reference)
    others = [c for c in comparison.conditions if c is not base]
    shared = [[k for k in base.case_means[metric] if k in c.case_means[metric]] for c in others]
    if not any(shared):
        return None
    columns = min(PANELS_IN_A_ROW, len(others))
    rows = math.ceil(len(others) / columns)
    figure = _figure(0.9 + 2.9 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    merit = ALL_METRICS[metric].merit
    gain, loss = {
        "higher": ("higher", "lower"),
        "lower": ("lower", "higher"),
        "zero": ("nearer to 0", "farther"),
    }[ALL_METRICS[metric].better]
    for axes, condition, cases in zip(panels.flat, others, shared, strict=False):
        ours, theirs = (np.array([c.case_means[metric][k] for k in cases]) for c in (condition, base))
        gained = merit(ours) > merit(theirs)
        for one, other, good in zip(theirs, ours, gained, strict=True):
            colour, line = (BLUE, "-") if good else (VERMILLION, "--")
            axes.plot([0, 1], [one, other], line, color=colour, linewidth=1.0, alpha=0.8)
            axes.plot([0, 1], [one, other], "o", color=colour, markersize=3.5)
        axes.set_title(_wrapped(condition.label), fontsize=10)
        axes.set_xticks([0, 1], ["reference", "condition"])
        axes.set_xlim(-0.25, 1.25)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{gain} in {int(gained.sum())} of {len(cases)}", fontsize=9)
    for axes in panels.flat[len(others) :]:
        axes.set_axis_off()
    # in two lines, since one row of panels is lower than the title is long
    name, _, rest = _axis_title(comparison, metric).rpartition(", ")
    figure.supylabel(f"{name}\n{rest}", fontsize=10)
    caption(
        figure,
        f"Reference: {comparison.reference}. {_about(comparison, metric)}",
        f"Blue, solid: {gain} under the condition; orange, dashed: {loss} or equal.",
    )
    return figure


# ---- differences and ranks


def differences(comparison: Comparison, metric: str) -> Figure | None:
    """Draw the mean difference of each condition with its interval over cases and trainings, and its star."""
    rows = comparison.differences_of(metric)
    if not any(math.isfinite(row.mean) for row in rows):
        return None
    figure = _figure(1.5 + 0.45 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1.0)
    margin = rows[0].margin
    if math.isfinite(margin):
        axes.axvspan(-margin, margin, color=BLUISH_GREEN, alpha=0.15, linewidth=0)
    for place, row in enumerate(rows):
        if math.isfinite(row.low):
            axes.plot([row.low, row.high], [place, place], color=BLUE, linewidth=1.8, solid_capstyle="butt")
        axes.plot(
            [row.mean],
            [place],
            "o",
            color=BLUE if row.marked else "white",
            markeredgecolor=BLUE,
            markersize=7,
        )
        text = _p(row.p_holm) if math.isfinite(row.p_holm) else "no p"
        mark = " *" if row.marked else ""
        axes.annotate(
            text + mark,
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(rows)), [_wrapped(row.condition) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"Difference from {comparison.reference}: {_axis_title(comparison, metric)}")
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    withheld = "" if not all(row.withheld for row in rows) else "The design allows no star."
    caption(
        figure,
        _about(comparison, metric),
        f"Line: {CROSSED_INTERVAL}; p Holm-adjusted; filled and *: below 0.05 by a design that may have stars.",
        withheld,
        f"Green: declared margin of equivalence, ±{margin:g}." if math.isfinite(margin) else "",
    )
    return figure


def ranks(comparison: Comparison, metric: str) -> Figure | None:
    """Draw a table of how often each condition takes each rank, darker the more often."""
    ranking = _ranking(comparison, metric)
    if ranking is None:
        return None
    shares = np.array(ranking.shares)
    count = len(shares)
    figure = _figure(1.5 + 0.5 * count)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(shares.shape):
        share = shares[i, j]
        if share >= 0.005:
            colour = "white" if share > 0.6 else INK
            axes.text(j, i, f"{100 * share:.0f} %", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(count), [str(rank + 1) for rank in range(count)])
    axes.set_yticks(range(count), [_wrapped(label) for label in ranking.conditions])
    axes.set_xlabel(f"Rank by {_axis_title(comparison, metric)}")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    several = any(len(c.seeds) > 1 for c in comparison.conditions)
    what = f"{counted(ranking.n_cases, 'case')}{' and of the seeds' if several else ''}"
    caption(
        figure,
        f"Share of resamples of {what} in which a condition has this rank; empty: below 0.5 %.",
        "" if several else "One seed: another training may rank otherwise.",
    )
    return figure


def critical_difference(comparison: Comparison, metric: str) -> Figure | None:
    """Draw conditions at their mean ranks, best on the left; bars join those of which no two are distinguished."""
    ranking = _ranking(comparison, metric)
    if ranking is None:
        return None
    count = len(ranking.conditions)
    half = math.ceil(count / 2)
    top = 0.6 + 0.34 * len(ranking.groups)
    depth = top + 0.75 * half
    figure = _figure(1.1 + 0.5 * (depth + 0.8))
    axes = figure.subplots()
    axes.set_xlim(1 - 0.62 * (count - 1), count + 0.62 * (count - 1))
    axes.set_ylim(depth, -0.9)
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color=INK, linewidth=1.2)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, -0.18], color=INK, linewidth=1.2)
        axes.text(tick, -0.3, str(tick), ha="center", va="bottom")
    margin = 0.08 * (count - 1)
    for i, (label, rank) in enumerate(zip(ranking.conditions, ranking.mean_ranks, strict=True)):
        left = i < half
        y = top + 0.75 * (i if left else count - 1 - i) + 0.3
        x, side = (1 - margin, "right") if left else (count + margin, "left")
        axes.plot([rank, rank, x], [0, y, y], color=GREY, linewidth=1.0)
        axes.plot([rank], [0], "o", color=BLUE, markersize=5, zorder=3)
        gap = -0.15 * margin if left else 0.15 * margin
        axes.text(x + gap, y, f"{_wrapped(label, 22)} ({rank:.2f})", ha=side, va="center", fontsize=9.5)
    for level, group in enumerate(ranking.groups):
        first, last = ranking.mean_ranks[group[0]], ranking.mean_ranks[group[-1]]
        y = 0.35 + 0.34 * level
        pad = 0.02 * (count - 1)
        axes.plot(
            [first - pad, last + pad],
            [y, y],
            color=VERMILLION,
            linewidth=4.0,
            solid_capstyle="round",
            zorder=2,
        )
    friedman = f"Friedman {_p(ranking.friedman_p)}, over cases alone." if ranking.friedman_p >= 0 else ""
    caption(
        figure,
        f"Mean rank over {counted(ranking.n_cases, 'case')} by {_axis_title(comparison, metric)}. Rank 1 is best.",
        "Bars join conditions of which no two are distinguished by a star (all pairs, Holm-adjusted)."
        if ranking.groups
        else "Every pair is distinguished by a star.",
        friedman,
    )
    return figure


def _ranking(comparison: Comparison, metric: str) -> Ranking | None:
    found = next(r for r in comparison.rankings if r.metric == metric)
    return found if found.n_cases else None


PLOTS: Mapping[str, Callable[[Comparison, str], Figure | None]] = {
    "boxes": boxes,
    "pairs": pairs,
    "differences": differences,
    "ranks": ranks,
    "critical_difference": critical_difference,
}
"""Name in the file -> how it is drawn; None where there is nothing to draw."""
