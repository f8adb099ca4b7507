"""Curves of a run as a plotly figure, drawn from the `Curves` of a display; it holds nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segexplorer.core.colours import HERE, ClassColours
from segexplorer.core.errors import SpecError, did_you_mean, require
from segexplorer.viewmodels.curves import PLOTS, Curves, Plot, line_colour

INK = "#2A3F5F"
"""plotly's own colour of text, for sums and means."""
DEFAULT_PLOTS = ("loss", "weights", "dice", "error_volume")
_ROW_PX, _TOP_PX, _BOTTOM_PX, _GAP_PX = 110, 58, 36, 74
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


class CurvesFigure:
    """The figure: one pair of axes for each plot, with its own legend beside it.

    Attributes
    ----------
    widget
        A `plotly.graph_objects.FigureWidget`.
    """

    def __init__(self, plots: Sequence[str] = DEFAULT_PLOTS) -> None:
        require("anywidget", "notebook", "Live figures in a notebook")
        graph = require("plotly.graph_objects", "notebook", "Live figures in a notebook")
        self._scatter = graph.Scatter
        self._plots = plots_named(plots)
        self._lines: dict[tuple[str, str], int] = {}
        self._drawn: tuple[int, int | None] = (-1, None)
        self.widget = graph.FigureWidget(layout=self._layout())
        self.widget._config = {"displaylogo": False, "responsive": True}

    def _layout(self) -> dict[str, Any]:
        rows = len(self._plots)
        height = _TOP_PX + _BOTTOM_PX + rows * _ROW_PX + (rows - 1) * _GAP_PX
        inner = height - _TOP_PX - _BOTTOM_PX
        layout: dict[str, Any] = {
            "height": height,
            "autosize": True,
            "margin": {"l": 44, "r": 8, "t": _TOP_PX, "b": _BOTTOM_PX},
            "font": {"size": 11},
            "hovermode": "x unified",
            "showlegend": True,
            "template": "plotly_white",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "uirevision": "kept",  # a zoom of the reader's stays while the run goes on
        }
        for row, plot in enumerate(self._plots):
            top = 1 - row * (_ROW_PX + _GAP_PX) / inner
            suffix = "" if row == 0 else str(row + 1)
            last = row == rows - 1
            layout[f"yaxis{suffix}"] = {
                "domain": [max(0.0, top - _ROW_PX / inner), top],
                "anchor": f"x{suffix}",
                "type": "log" if plot.logarithmic else "linear",
                "range": None if plot.limits is None else list(plot.limits),
                "rangemode": "tozero" if plot.limits is None and not plot.logarithmic else "normal",
                "nticks": 5,
            }
            layout[f"xaxis{suffix}"] = {
                "anchor": f"y{suffix}",
                "matches": None if row == 0 else "x",
                "title": {"text": plot.x_title, "standoff": 4} if last else None,
                "showticklabels": last,
                "range": [0, 10],
                "rangemode": "tozero",
            }
            layout[f"legend{suffix}"] = {
                # the title belongs to the legend, so that neither covers the other
                "title": {"text": f"<b>{plot.title}</b> ({plot.domain})", "side": "top"},
                "orientation": "h",
                "y": top,
                "x": 0,
                "xanchor": "left",
                "yanchor": "bottom",
                "font": {"size": 10},
                "bgcolor": "rgba(0,0,0,0)",
            }
        return layout

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
        with self.widget.batch_update():
            if curves.revision != self._drawn[0]:
                self._draw_lines(curves, ClassColours(tuple(classes)))
            self.widget.layout.shapes = self._shapes(curves, cursor)
        self._drawn = (curves.revision, cursor)

    def _draw_lines(self, curves: Curves, palette: ClassColours) -> None:
        last = 1.0
        for row, plot in enumerate(self._plots):
            for name, (steps, values) in curves.series(plot.key).items():
                trace = self._trace(plot, name, row, palette)
                trace.update(x=np.asarray(steps, np.float32), y=np.asarray(values, np.float32))
                last = max(last, float(steps[-1]) if len(steps) else 0.0)
        # without this, plotly begins the axis wherever a curve does, and plots above each other do not agree
        self.widget.layout.xaxis.range = [0, last * 1.02]

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
                    mode="lines+markers" if whole else "lines",
                    marker={"size": 5},
                    line={
                        "color": line_colour(name, place, palette) or INK,
                        "width": 1.5,
                        "dash": "dash" if name.endswith(", missed") else "solid",
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
