"""Curves of a run as a plotly figure, drawn from the `Curves` of a display; it holds nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as w
import numpy as np

from segexplorer.core.colours import HERE, ClassColours
from segexplorer.core.errors import SpecError, did_you_mean, require
from segexplorer.frontends.notebook.figure import FigureWidget
from segexplorer.frontends.notebook.marks import badges_of, changes_html, colour_of
from segexplorer.viewmodels.curves import PLOTS, Curves, Plot, line_colour, line_title

INK = "#7A7A7A"
"""Of text, sums and means: as readable on a white page as on a dark one, which the kernel does not know."""
_GRID = "rgba(128,128,128,.25)"
DEFAULT_PLOTS = ("loss", "weights", "dice", "error_volume")
_ROW_PX, _BOTTOM_PX, _TITLE_PX, _LINE_PX, _PAD_PX = 84, 34, 20, 20, 10
_LEGEND_PX = 330
"""What a line of a legend holds on a laptop, beside the planes."""
_MISSED = ", missed"
_LEFT_PX = 44
"""Of the numbers of an axis."""
_EMPTY_PX = 140
"""Height of a figure without a line."""
NOTHING_YET = "Curves begin with the first step."
_BADGE_PX = 14
"""Above the uppermost plot, for the numbers of changes."""


def plots_named(keys: Sequence[str]) -> tuple[Plot, ...]:
    """Return plots by their keys.

    Raises
    ------
    SpecError
        For a plot that is not known, or none.
    """
    known = {plot.key: plot for plot in PLOTS}
    for key in keys:
        if key not in known:
            raise SpecError(f"There is no plot '{key}'.", did_you_mean(key, list(known)))
    if not keys:
        raise SpecError("No plot is chosen.", f"Known: {', '.join(known)}.")
    return tuple(known[key] for key in keys)


class CurvesFigure:
    """The figure: one pair of axes for each plot, with its own legend beside it.

    Attributes
    ----------
    widget
        The figure, with the list of changes below it.
    figure
        A `plotly.graph_objects.Figure`.
    """

    def __init__(self, plots: Sequence[str] = DEFAULT_PLOTS) -> None:
        graph = require("plotly.graph_objects", "notebook", "Figures in a notebook")
        self._scatter = graph.Scatter
        self._plots = plots_named(plots)
        self._lines: dict[tuple[str, str], int] = {}
        self._drawn: tuple[Any, ...] = ()
        self.figure = graph.Figure(layout={**self._layout(), "xaxis_range": [0, 10]})
        self.view = FigureWidget(self.figure)
        self.changes = w.HTML()
        self.widget = w.VBox([self.view, self.changes])

    def _layout(self) -> dict[str, Any]:
        return {
            "font": {"size": 11, "color": INK},
            "hovermode": "x unified",
            "showlegend": True,
            "template": "plotly_white",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "uirevision": "kept",  # a zoom of the reader's stays while the run goes on
            **self._placed(),
        }

    def _placed(self) -> dict[str, Any]:
        """Return where axes and legends are: below each other, each with the room that its legend takes."""
        heads = [_TITLE_PX + _LINE_PX * self._legend_lines(plot) for plot in self._plots]
        heads[0] += _BADGE_PX
        rows = len(self._plots)
        inner = rows * _ROW_PX + sum(heads[1:]) + (rows - 1) * _PAD_PX
        layout: dict[str, Any] = {
            "height": heads[0] + inner + _BOTTOM_PX,
            "margin": {"l": _LEFT_PX, "r": 8, "t": heads[0], "b": _BOTTOM_PX},
        }
        top = 1.0
        for row, plot in enumerate(self._plots):
            suffix = "" if row == 0 else str(row + 1)
            last = row == rows - 1
            above = _BADGE_PX if row == 0 else 0
            layout[f"yaxis{suffix}"] = {
                "domain": [max(0.0, top - _ROW_PX / inner), top],
                "anchor": f"x{suffix}",
                "type": "log" if plot.logarithmic else "linear",
                "range": None if plot.limits is None else list(plot.limits),
                "rangemode": "tozero" if plot.limits is None and not plot.logarithmic else "normal",
                "nticks": 4,
                "gridcolor": _GRID,
                "zerolinecolor": _GRID,
            }
            layout[f"xaxis{suffix}"] = {
                "anchor": f"y{suffix}",
                "matches": None if row == 0 else "x",
                "title": {"text": plot.x_title, "standoff": 4} if last else None,
                "showticklabels": last,
                "rangemode": "tozero",
                "gridcolor": _GRID,
                "zerolinecolor": _GRID,
            }
            layout[f"legend{suffix}"] = {
                "orientation": "h",
                "y": top + above / inner,
                "x": 0,
                "xanchor": "left",
                "yanchor": "bottom",
                "font": {"size": 10},
                "bgcolor": "rgba(0,0,0,0)",
            }
            if not last:
                top -= (_ROW_PX + _PAD_PX + heads[row + 1]) / inner
        return layout

    def _titles(self) -> list[dict[str, Any]]:
        """Return the title of each plot, above its legend."""
        found = []
        for row, plot in enumerate(self._plots):
            of = "ml per case, dashed: missed" if plot.key == "error_volume" else plot.domain
            axis = self.figure.layout["yaxis" if row == 0 else f"yaxis{row + 1}"]
            found.append(
                {
                    "text": f"<b>{plot.title}</b> ({of})",
                    "showarrow": False,
                    "xref": "paper",
                    # of the paper: axes without a line are not there, and plotly would put it on the first
                    "yref": "paper",
                    "x": 0,
                    "y": axis.domain[1],
                    "xanchor": "left",
                    # at the left edge of the figure: at the right one plotly's buttons appear
                    "xshift": 4 - _LEFT_PX,
                    "yanchor": "bottom",
                    "yshift": _LINE_PX * self._legend_lines(plot) + (_BADGE_PX if row == 0 else 0),
                }
            )
        return found

    def _badges(self, curves: Curves, end: float) -> list[dict[str, Any]]:
        """Return what is written above the lines of changes."""
        return [
            {
                "text": text,
                "showarrow": False,
                "x": step,
                "y": 1,
                "yref": "y domain",
                "yanchor": "bottom",
                "borderpad": 0,
                "font": {"size": 10, "color": colour},
            }
            for step, text, colour in badges_of(curves, end)
        ]

    def _legend_lines(self, plot: Plot) -> int:
        """Return how many lines the legend of a plot takes beside the planes on a laptop."""
        names = [name.partition(", ")[0] for key, name in self._lines if key == plot.key]
        if not names or not self._is_listed(plot, names[0]):
            return 1 if not names else 0
        names = list(dict.fromkeys(names))
        widths = [42 + 6 * len(name) for name in names]
        if sum(widths) <= _LEGEND_PX:
            return 1
        # plotly gives all columns the width of the widest name once they need several lines
        return -(-len(names) // max(1, _LEGEND_PX // max(widths)))

    def _is_listed(self, plot: Plot, name: str) -> bool:
        """Whether a line is in the legend: the classes of error volumes are in that of Dice already."""
        if name.endswith(_MISSED):
            return False
        return plot.key != "error_volume" or all(other.key != "dice" for other in self._plots)

    def draw(self, curves: Curves, classes: Sequence[str] = (), cursor: int | None = None) -> None:
        """Draw what has changed.

        Parameters
        ----------
        classes
            Foreground classes of the run, in order, for their colours.
        cursor
            The step of the prediction that is shown.
        """
        wanted = (curves.revision, tuple(classes), cursor)
        if wanted == self._drawn:
            return
        last = self._draw_lines(curves, ClassColours(tuple(classes)))
        layout = self.figure.layout
        layout.update(**self._placed(), xaxis_range=[0, last * 1.02])
        # lists are set, since an update would keep what the old one has more
        layout.shapes = self._shapes(curves, cursor)
        begun = bool(self._lines)
        layout.update(xaxis_visible=begun, yaxis_visible=begun)
        if not begun:
            layout.height = _EMPTY_PX
        noted = [*self._titles(), *self._badges(curves, last * 1.02)]
        layout.annotations = noted if begun else [_nothing_yet()]
        self.changes.value = changes_html(curves)
        self._drawn = wanted
        self.view.draw()

    def _draw_lines(self, curves: Curves, palette: ClassColours) -> float:
        """Draw the lines, and return the last step of any."""
        last = 1.0
        for row, plot in enumerate(self._plots):
            series = curves.series(plot.key)
            for name, (steps, values) in series.items():
                trace = self._trace(plot, name, row)
                # classes may become known after the first line of theirs
                ink = line_colour(name, series, palette) or INK
                trace.update(
                    name=line_title(name, palette),
                    x=np.asarray(steps, np.float32),
                    y=np.asarray(values, np.float32),
                    line_color=ink,
                )
                last = max(last, float(steps[-1]) if len(steps) else 0.0)
        # plotly would begin the axis wherever a curve does, and plots above each other would not agree
        return last

    def _trace(self, plot: Plot, name: str, row: int) -> Any:
        if (plot.key, name) not in self._lines:
            self._lines[plot.key, name] = len(self.figure.data)
            suffix = "" if row == 0 else str(row + 1)
            whole = plot.domain == "whole volumes"
            self.figure.add_trace(
                self._scatter(
                    # a line through one validation is nothing to be seen
                    showlegend=self._is_listed(plot, name),
                    mode="lines+markers" if whole else "lines",
                    marker={"size": 5},
                    line={"width": 1.5, "dash": "dash" if name.endswith(_MISSED) else "solid"},
                    xaxis=f"x{suffix}",
                    yaxis=f"y{suffix}",
                    legend=f"legend{suffix}",
                )
            )
        return self.figure.data[self._lines[plot.key, name]]

    def _shapes(self, curves: Curves, cursor: int | None) -> list[dict[str, Any]]:
        """Return vertical lines: changes, the best checkpoint, and the step of the picture."""
        # several settings may change at one step
        lines = list(dict.fromkeys((mark.step, colour_of(mark), "dot") for mark in curves.marks()))
        if cursor is not None:
            lines.append((cursor, HERE, "solid"))
        return [
            {
                "type": "line",
                "x0": step,
                "x1": step,
                "y0": 0,
                "y1": 1,
                "xref": "x",
                "yref": f"{_axis(row)} domain",
                "line": {"color": colour, "width": 1.5, "dash": dash},
            }
            for step, colour, dash in lines
            for row, plot in enumerate(self._plots)
            if any(key == plot.key for key, _ in self._lines)
        ]


def _nothing_yet() -> dict[str, Any]:
    """Return what is written in place of empty axes."""
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "xshift": 4 - _LEFT_PX}
    return {"text": NOTHING_YET, "showarrow": False, "xanchor": "left", "yanchor": "top", **place}


def _axis(row: int) -> str:
    """Return plotly's name of the vertical axis of a row."""
    return "y" if row == 0 else f"y{row + 1}"
