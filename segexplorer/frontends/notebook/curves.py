"""Curves of a run as a plotly figure, drawn from the `Curves` of a display; it holds nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segexplorer.core.colours import HERE, ClassColours
from segexplorer.core.errors import SpecError, did_you_mean, require
from segexplorer.viewmodels.curves import PLOTS, Curves, Plot, line_colour

INK = "#7A7A7A"
"""Of text, sums and means: as readable on a white page as on a dark one, which the kernel does not know."""
_GRID = "rgba(128,128,128,.25)"
DEFAULT_PLOTS = ("loss", "weights", "dice", "error_volume")
_ROW_PX, _BOTTOM_PX, _TITLE_PX, _LINE_PX, _PAD_PX = 84, 34, 20, 20, 10
_LEGEND_PX = 330
"""What a line of a legend holds on a laptop, beside the planes."""
_MISSED = ", missed"
_MARKS = {"change": "#B35900", "best": "#808080"}


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


def keep_traces(figure: Any) -> None:
    """Put all traces of a figure into the state that a browser reads when it begins to draw.

    New traces are messages, which a browser that still loads plotly's code never hears. plotly itself puts them
    into the state only for a figure that is the output of a cell by itself, not for one inside another widget.
    """
    figure._repr_mimebundle_()


class CurvesFigure:
    """The figure: one pair of axes for each plot, with its own legend beside it.

    Attributes
    ----------
    widget
        A `plotly.graph_objects.FigureWidget`.
    seen
        Whether a browser has said that it draws the figure. One that needs more than two seconds for plotly's 5 MB
        never does, since anywidget gives up then: over a slow line, or on a busy computer.
    """

    def __init__(self, plots: Sequence[str] = DEFAULT_PLOTS) -> None:
        require("anywidget", "notebook", "Live figures in a notebook")
        graph = require("plotly.graph_objects", "notebook", "Live figures in a notebook")
        self._scatter = graph.Scatter
        self._plots = plots_named(plots)
        self._lines: dict[tuple[str, str], int] = {}
        self._drawn: tuple[int, int | None] = (-1, None)
        self.widget = graph.FigureWidget(layout={**self._layout(), "xaxis_range": [0, 10]})
        self.widget._config = {"displaylogo": False, "responsive": True}
        self.seen = False
        self.widget.observe(self._on_seen, "_js2py_traceDeltas")

    def _on_seen(self, _: Any) -> None:
        self.seen = True

    def _layout(self) -> dict[str, Any]:
        return {
            "autosize": True,
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
        rows = len(self._plots)
        inner = rows * _ROW_PX + sum(heads[1:]) + (rows - 1) * _PAD_PX
        layout: dict[str, Any] = {
            "height": heads[0] + inner + _BOTTOM_PX,
            "margin": {"l": 44, "r": 8, "t": heads[0], "b": _BOTTOM_PX},
        }
        top = 1.0
        titles: list[dict[str, Any]] = []
        for row, plot in enumerate(self._plots):
            suffix = "" if row == 0 else str(row + 1)
            last = row == rows - 1
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
            dashes = ", dashed: missed" if plot.key == "error_volume" else ""
            titles.append(
                {
                    "text": f"<b>{plot.title}</b> ({plot.domain}{dashes})",
                    "showarrow": False,
                    "xref": "paper",
                    "yref": "paper",
                    "x": 0,
                    "y": top,
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "yshift": _LINE_PX * self._legend_lines(plot),
                }
            )
            layout[f"legend{suffix}"] = {
                "orientation": "h",
                "y": top,
                "x": 0,
                "xanchor": "left",
                "yanchor": "bottom",
                "font": {"size": 10},
                "bgcolor": "rgba(0,0,0,0)",
            }
            if not last:
                top -= (_ROW_PX + _PAD_PX + heads[row + 1]) / inner
        layout["annotations"] = titles
        return layout

    def _legend_lines(self, plot: Plot) -> int:
        """Return how many lines the legend of a plot takes beside the planes on a laptop."""
        names = [name.partition(", ")[0] for key, name in self._lines if key == plot.key]
        if not names or not self._is_listed(plot, names[0]):
            return 1 if not names else 0
        widest = 42 + 6 * max(map(len, names))
        names = list(dict.fromkeys(names))
        return -(-len(names) // max(1, _LEGEND_PX // widest))

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
        if (curves.revision, cursor) == self._drawn:
            return
        known = len(self._lines)
        with self.widget.batch_update():
            if curves.revision != self._drawn[0]:
                self._draw_lines(curves, ClassColours(tuple(classes)))
            self.widget.layout.shapes = self._shapes(curves, cursor)
        if len(self._lines) > known:
            keep_traces(self.widget)
        self._drawn = (curves.revision, cursor)

    def _draw_lines(self, curves: Curves, palette: ClassColours) -> None:
        last, known = 1.0, len(self._lines)
        for row, plot in enumerate(self._plots):
            for name, (steps, values) in curves.series(plot.key).items():
                trace = self._trace(plot, name, row, palette)
                trace.update(x=np.asarray(steps, np.float32), y=np.asarray(values, np.float32))
                last = max(last, float(steps[-1]) if len(steps) else 0.0)
        # without this, plotly begins the axis wherever a curve does, and plots above each other do not agree
        self.widget.layout.xaxis.range = [0, last * 1.02]
        if len(self._lines) > known:
            self.widget.update_layout(**self._placed())

    def _trace(self, plot: Plot, name: str, row: int, palette: ClassColours) -> Any:
        if (plot.key, name) not in self._lines:
            place = sum(key == plot.key for key, _ in self._lines)
            self._lines[plot.key, name] = len(self.widget.data)
            suffix = "" if row == 0 else str(row + 1)
            whole = plot.domain == "whole volumes"
            self.widget.add_trace(
                self._scatter(
                    name=name,
                    # a line through one validation is nothing to be seen
                    showlegend=self._is_listed(plot, name),
                    mode="lines+markers" if whole else "lines",
                    marker={"size": 5},
                    line={
                        "color": line_colour(name, place, palette) or INK,
                        "width": 1.5,
                        "dash": "dash" if name.endswith(_MISSED) else "solid",
                    },
                    xaxis=f"x{suffix}",
                    yaxis=f"y{suffix}",
                    legend=f"legend{suffix}",
                )
            )
        return self.widget.data[self._lines[plot.key, name]]

    def _shapes(self, curves: Curves, cursor: int | None) -> list[dict[str, Any]]:
        """Return vertical lines: changes, the best checkpoint, and the step of the picture."""
        lines = [
            (mark.step, _MARKS[mark.kind], "dot", mark.text if mark.kind == "change" else "best")
            for mark in curves.marks()
        ]
        if cursor is not None:
            lines.append((cursor, HERE, "solid", ""))
        return [
            {
                "type": "line",
                "x0": step,
                "x1": step,
                "y0": 0,
                "y1": 1,
                "xref": "x",
                "yref": "paper",
                "line": {"color": colour, "width": 1.5, "dash": dash},
                "label": {"text": text, "font": {"size": 9, "color": colour}, "textposition": "end"},
            }
            for step, colour, dash, text in lines
        ]
