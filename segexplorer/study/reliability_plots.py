"""Reliability diagrams of scored cases for papers, as SVG, PNG and PDF; they need matplotlib (the extra `plots`).

A diagram compares the probability that the network states with the share of voxels that are right, bin by bin. Bars
on the dashed diagonal mean a calibrated network; the error of a bin is drawn from the diagonal. The histogram below
shows how many voxels each bin has, on a logarithmic axis, since most voxels are in the first or the last bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from segexplorer.core.colours import BLUE, VERMILLION
from segexplorer.core.errors import require
from segexplorer.core.events import CalibrationRegion, Reliability
from segexplorer.metrics.calibration import (
    ANY_CLASS,
    BINS,
    MARGIN_MM,
    REGIONS,
    brier_score,
    diagram,
    ece,
    negative_log_likelihood,
)
from segexplorer.study.plots import GREY, INK, PALE, PANELS_IN_A_ROW, STYLE, WIDTH, Format, caption, content

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WHERE: dict[CalibrationRegion, str] = {
    "box": f"Voxels in the box around the truth's foreground, {MARGIN_MM:g} mm wider.",
    "all": "All voxels; most are easy background, so the figures are near 0 by volume.",
}


def write_reliability(
    curves: Sequence[Reliability], about: str = "", formats: Sequence[Format] = ("svg",)
) -> Iterator[tuple[str, bytes]]:
    """Yield file names and contents: a figure for each region, with one diagram per class.

    Parameters
    ----------
    about
        What was scored, for the caption.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    matplotlib = require("matplotlib", "plots", "A reliability diagram")
    with matplotlib.rc_context(dict(STYLE)):
        for region in REGIONS:
            shown = [curve for curve in curves if curve.region == region and curve.voxels]
            shown.sort(key=lambda curve: curve.class_name != ANY_CLASS)
            if shown:
                figure = reliability(shown, f"{about} {_WHERE[region]}".strip())
                for suffix in formats:
                    yield f"reliability_{region}.{suffix}", content(figure, suffix)


def reliability(curves: Sequence[Reliability], about: str) -> Figure:
    """Draw one diagram per curve, with the number of voxels per bin below it."""
    columns = min(PANELS_IN_A_ROW, len(curves))
    rows = -(-len(curves) // columns)
    figure: Figure = require("matplotlib.figure", "plots", "A plot").Figure((WIDTH, 1.0 + 2.9 * rows))
    figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.05)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[3, 1] * rows)
    for number, curve in enumerate(curves):
        row, column = divmod(number, columns)
        above = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column], sharex=above)
        _diagram(above, curve)
        _voxels(below, curve)
        if column:
            above.tick_params(labelleft=False)
        else:
            above.set_ylabel("share right")
            below.set_ylabel("voxels")
        below.set_xlabel("probability")
    caption(
        figure,
        about,
        f"{BINS} bins of equal width. Bars: share of right voxels; orange: from the mean probability of the bin; "
        "dashed: calibrated. Any class: the predicted one.",
    )
    return figure


def _diagram(axes: Axes, curve: Reliability) -> None:
    bars = diagram(curve)
    low, high = np.array([b.low for b in bars]), np.array([b.high for b in bars])
    confidence, right = np.array([b.confidence for b in bars]), np.array([b.right for b in bars])
    axes.bar(low, right, width=high - low, align="edge", color="#CFE3F1", edgecolor=BLUE, linewidth=0.8)
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    axes.vlines(confidence, confidence, right, color=VERMILLION, linewidth=1.8, zorder=3)
    axes.plot(confidence, right, ".", color=INK, markersize=4, zorder=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.tick_params(labelbottom=False)
    axes.set_title(curve.class_name, loc="left", pad=26)
    figures = (
        f"ECE {ece(curve):.3g} (mass {ece(curve, 'mass'):.3g})\n"
        f"Brier {brier_score(curve):.3g}, NLL {negative_log_likelihood(curve):.3g}"
    )
    axes.text(0, 1.03, figures, transform=axes.transAxes, va="bottom", fontsize=7.5, color=INK)


def _voxels(axes: Axes, curve: Reliability) -> None:
    places = np.arange(BINS) / BINS
    axes.bar(places, curve.counts, width=1 / BINS, align="edge", color=PALE, edgecolor=GREY, linewidth=0.6)
    axes.set_yscale("log")
    axes.set_ylim(0.8, 3 * max(curve.counts))
