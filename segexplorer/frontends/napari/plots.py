"""The plot dock below the canvas: two plots side by side, of curves over steps, regions or probabilities."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from psygnal import Signal
from pyqtgraph.exporters import ImageExporter, SVGExporter
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QFont, QFontMetricsF
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QScrollArea,
    QWidget,
)

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.core.events import Event, Planned, WatchedDone
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.lull import Frames, PatientTimer
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.race_views import LEAST_CONTRAST, RacePlot
from segexplorer.training.step_columns import events_of
from segexplorer.viewmodels.caption import elided
from segexplorer.viewmodels.curves import (
    EMPTY,
    PLOTS,
    Curves,
    Mark,
    Plot,
    has_lone_point,
    line_colour,
    line_title,
)
from segexplorer.viewmodels.race import RaceShown
from segexplorer.viewmodels.regions import BalanceHistogram
from segexplorer.viewmodels.reliability import ReliabilityDiagram, WatchedCalibration
from segexplorer.viewmodels.watched_case import Seen

KEY_WIDTH = 118
_LEAST_WIDTH = 120
"""Of a pane, in pixels."""
_BOTH_FROM = 380
"""Width of the plots from which both panes are shown; on a screen of 1024 pixels, napari's controls leave less."""
_KEY_FROM = 270
"""Width of a pane from which there is room for the legend beside the plot; otherwise it is below the picker."""
_KEY_LINES = 3
"""Of a legend below the picker; more of them scroll."""
BALANCE = "balance_histogram"
BALANCE_TITLE = "Balance of the regions (histogram)"
NO_BALANCE = "Losses with regions show their balance here"
RELIABILITY = "reliability"
RELIABILITY_TITLE = "Reliability of the probabilities (diagram)"
NO_RELIABILITY = "Appears with the prediction of a watched case that has a label"
_LONG_KEY = 26
_BEYOND_AXIS = 16
"""So far, in pixels, the title of an axis may be longer than the axis."""


class Pane(QWidget):  # type: ignore[misc, unused-ignore]
    """One pair of axes, with a picker of what is drawn in it.

    Parameters
    ----------
    plots
        Curves to choose from.
    first
        Key of the one shown at first.
    prediction
        Whether what belongs to the shown prediction can be chosen too: the histogram of the balance, and the
        reliability diagram.

    Attributes
    ----------
    step_dragged
        psygnal signal (step): the user drags the line that marks the prediction shown.
    """

    step_dragged = Signal(float)

    def __init__(self, plots: tuple[Plot, ...], first: str, *, prediction: bool = False) -> None:
        super().__init__()
        self._plots = {plot.key: plot for plot in plots}
        self.domain = plots[0].domain
        self.picker = widgets.ElidedComboBox("Plot")
        for plot in plots:
            self.picker.addItem(plot.title, plot.key)
        if prediction:
            self.picker.addItem(BALANCE_TITLE, BALANCE)
            self.picker.addItem(RELIABILITY_TITLE, RELIABILITY)
        self._balance: BalanceHistogram | None = None
        self._reliability: ReliabilityDiagram | None = None
        self._shapes: list[Any] = []
        self.picker.setCurrentIndex(list(self._plots).index(first))
        self.canvas = pg.PlotWidget(antialias=False)
        self.canvas.setMenuEnabled(False)
        self.canvas.setMinimumSize(110, 110)
        for side in ("left", "bottom"):
            self.canvas.getAxis(side).enableAutoSIPrefix(False)
        # fewer numbers than pyqtgraph's own limits allow, so that none touches the next
        self.canvas.getAxis("bottom").setStyle(textFillLimits=[(0, 0.5), (2, 0.4), (4, 0.3), (6, 0.2)])
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setStyleSheet("font-size: 11px;")
        key = self._key = QScrollArea()
        key.setWidget(self.legend)
        key.setWidgetResizable(True)
        key.setFrameShape(QScrollArea.Shape.NoFrame)
        key.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.legend.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.legend.setWordWrap(True)
        self._curves: dict[str, Any] = {}
        self.marks: list[Any] = []
        self._marked: tuple[Mark, ...] = ()
        self._keys: list[str] = []
        self._lines: tuple[str, ...] = ()
        self._titles = ("", "")
        self.partial = pg.ScatterPlotItem()
        self.canvas.addItem(self.partial)
        # the uppermost and the last label of the axes reach beyond them
        self.canvas.getPlotItem().setContentsMargins(0, 8, 8, 0)
        self.cursor = pg.InfiniteLine(0, angle=90, movable=True)
        self.cursor.setVisible(False)
        self.cursor.sigDragged.connect(lambda line: self.step_dragged.emit(float(line.value())))
        self.canvas.getPlotItem().vb.addItem(self.cursor, ignoreBounds=True)
        self.empty_text = pg.TextItem(EMPTY[self.domain], anchor=(0.5, 0.5))
        self.canvas.getPlotItem().vb.addItem(self.empty_text, ignoreBounds=True)
        self._ink, self._background = "#ffffff", "#000000"
        self._palette = ClassColours()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.picker, 0, 0, 1, 2)
        layout.addWidget(self.canvas, 2, 0)
        self.setMinimumWidth(_LEAST_WIDTH)
        layout.setColumnStretch(0, 1)
        layout.setRowStretch(2, 1)
        self._beside: bool | None = None
        self._arranged = ("", -1)
        self._write_legend()
        self.canvas.getPlotItem().vb.sigResized.connect(lambda box: self._on_canvas())
        self._title()
        self._range()

    @property
    def key(self) -> str:
        """Key of what is drawn now."""
        return str(self.picker.currentData())

    @property
    def plot(self) -> Plot | None:
        """The curves drawn now; None for what belongs to the shown prediction."""
        return self._plots.get(self.key)

    @property
    def drawn(self) -> dict[str, Any]:
        """Curve name -> pyqtgraph item."""
        return dict(self._curves)

    @property
    def is_empty(self) -> bool:
        """Whether a sentence is shown in place of curves, as there are none."""
        return bool(self.empty_text.isVisible())

    def set_colours(self, background: str, ink: str) -> None:
        """Follow napari's theme; the colours of the curves are the same in every theme."""
        self._background, self._ink = background, ink
        self.canvas.setBackground(background)
        for side in ("left", "bottom"):
            axis = self.canvas.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)
        self.empty_text.setColor(ink)
        self.cursor.setPen(pg.mkPen(ink, width=1, style=Qt.PenStyle.DashLine))
        self.cursor.setHoverPen(pg.mkPen(ink, width=3))
        self.forget()
        self._title()

    def set_classes(self, names: tuple[str, ...]) -> None:
        """Take the colours of the classes from the experiment's palette."""
        self._palette = ClassColours(names)

    def forget(self) -> None:
        """Take every curve and mark away."""
        for item in self._curves.values():
            self.canvas.removeItem(item)
        for mark in self.marks:
            self.canvas.removeItem(mark)
        for shape in self._shapes:
            self.canvas.removeItem(shape)
        self._curves, self.marks, self._keys, self._shapes = {}, [], [], []
        self._marked = ()
        self.partial.clear()
        self._write_legend()

    def redraw(self, curves: Curves) -> None:
        """Draw the curves as they are now."""
        if self.plot is None:
            self._draw_of_prediction()
            return
        series = curves.series(self.plot.key)
        if set(self._curves) - set(series):
            self.forget()
        for name, (steps, values) in series.items():
            item = self._curves.get(name)
            if item is None:
                pen = self._pen(name, series)
                item = self._curves[name] = self.canvas.plot(
                    pen=pen, shadowPen=self._rim(pen), name=name, symbolPen=None, symbolSize=6
                )
                self._add_key(name, item.opts["pen"])
            symbol = "o" if has_lone_point(values) else None
            item.setData(steps, values, connect="finite", symbol=symbol, symbolBrush=item.opts["pen"].color())
        self._draw_partial(curves.partial(self.plot.key))
        self._tell(curves.remark(self.plot.key))
        empty = curves.why_empty(self.plot)
        if empty:
            self.empty_text.setText(empty)
        self.empty_text.setVisible(bool(empty))
        self._draw_marks(curves)
        self._place_empty()
        # otherwise the axes follow in the middle of painting, and the window is painted a second time for them
        self.canvas.scene().prepareForPaint()

    def _draw_partial(self, marked: dict[str, tuple[Any, Any]]) -> None:
        """Cross the points whose mean leaves structures out."""
        spots = [
            {"pos": pos, "pen": pg.mkPen(self._curves[name].opts["pen"].color(), width=2)}
            for name, points in marked.items()
            for pos in zip(*points, strict=True)
        ]
        self.partial.setData(spots=spots, symbol="x", size=9, brush=None)

    def _tell(self, remark: str) -> None:
        """Write a remark below the key."""
        self._write_legend(*self._keys, *([f"<i>{escape(remark)}</i>"] if remark else []))

    def show_prediction(
        self, balance: BalanceHistogram | None, reliability: ReliabilityDiagram | None
    ) -> None:
        """Take what belongs to another prediction; drawn where it is chosen."""
        self._balance, self._reliability = balance, reliability
        if self.plot is None:
            self._draw_of_prediction()

    def _draw_of_prediction(self) -> None:
        self.forget()
        of_balance = self.key == BALANCE
        found = self._balance if of_balance else self._reliability
        self.empty_text.setText(NO_BALANCE if of_balance else NO_RELIABILITY)
        self.empty_text.setVisible(found is None)
        self._place_empty()
        if isinstance(found, BalanceHistogram):
            self._draw_balance(found)
        elif found is not None:
            self._draw_reliability(found)

    def _draw_balance(self, found: BalanceHistogram) -> None:
        centres = (found.edges[1:] + found.edges[:-1]) / 2
        brushes = [pg.mkBrush(*(int(255 * c) for c in colour)) for colour in np.asarray(found.colours)]
        bars = pg.BarGraphItem(
            x=centres, height=found.error_ml, width=0.94 * np.diff(found.edges), brushes=brushes, pen=None
        )
        self._add_shape(bars)
        lines = [
            found.class_name,
            f"{found.regions} regions with error",
            *([found.scope] if found.scope else []),
        ]
        self._write_legend(*map(escape, lines))

    def _draw_reliability(self, found: ReliabilityDiagram) -> None:
        """Draw the share of right voxels per bin, and how far it is from the diagonal at the mean probability."""
        low, high, confidence, right = np.array(
            [[b.low, b.high, b.confidence, b.right] for b in found.bars]
        ).T
        share = np.array([bar.voxels for bar in found.bars], float)
        # from a ten-thousandth of the voxels, almost transparent, to all of them
        depth = np.clip(1 + np.log10(share / share.sum()) / 4, 0, 1)
        brushes = []
        for value in depth:
            fill = pg.mkColor(colours.BLUISH_GREEN)  # the voxels that are right
            fill.setAlpha(int(30 + 190 * value))
            brushes.append(pg.mkBrush(fill))
        self._add_shape(pg.BarGraphItem(x0=low, x1=high, y0=0, height=right, brushes=brushes, pen=None))
        ink = pg.mkPen(self._ink, width=1, style=Qt.PenStyle.DashLine)
        self._add_shape(pg.PlotCurveItem([0, 1], [0, 1], pen=ink))
        gaps = np.column_stack([confidence, confidence]), np.column_stack([confidence, right])
        gap_pen = pg.mkPen(colours.VERMILLION, width=2)
        self._add_shape(pg.PlotCurveItem(gaps[0].ravel(), gaps[1].ravel(), connect="pairs", pen=gap_pen))
        self._add_shape(pg.ScatterPlotItem(confidence, right, size=6, brush=pg.mkBrush(self._ink), pen=None))
        lines = (f"<b>{escape(found.class_name)}</b>", *map(escape, found.figures), escape(found.verdict))
        gap = f'<span style="color:{colours.VERMILLION}">┃</span> error of a bin'
        self._write_legend(*lines, gap, "pale: few voxels")

    def _add_shape(self, shape: Any) -> None:
        self._shapes.append(shape)
        self.canvas.addItem(shape)

    def show_step(self, step: float | None) -> None:
        """Mark the step whose prediction the viewer shows; None marks nothing."""
        self.cursor.setVisible(step is not None and self.plot is not None)
        if step is not None and not self.cursor.moving:  # while it is dragged, it is where the mouse is
            self.cursor.setValue(step)

    def _pen(self, name: str, names: Iterable[str]) -> Any:
        colour = line_colour(name, names, self._palette)
        if colour is None:
            return pg.mkPen(self._ink, width=2)
        style = Qt.PenStyle.DashLine if name.endswith(", missed") else Qt.PenStyle.SolidLine
        return pg.mkPen(colour, width=1, style=style)

    def _rim(self, pen: Any) -> Any:
        """Return the pen of a rim that sets off a colour too near to the background; None where none is needed."""
        if colours.contrast(pen.color().name(), self._background[:7]) >= LEAST_CONTRAST:
            return None
        return pg.mkPen(self._ink, width=pen.width() + 2)

    def _add_key(self, name: str, pen: Any) -> None:
        stroke = "╌╌" if pen.style() == Qt.PenStyle.DashLine else "━━"
        line = f'<span style="color:{pen.color().name()}">{stroke}</span> {escape(line_title(name, self._palette))}'
        self._keys.append(line)

    def export(self, path: Path) -> None:
        """Write what is drawn, with a legend inside, as PNG or SVG by the ending."""
        item = self.canvas.getPlotItem()
        legend = item.addLegend()
        for name, curve in self._curves.items():
            legend.addItem(curve, line_title(name, self._palette))
        try:
            kind = SVGExporter if path.suffix == ".svg" else ImageExporter
            kind(item).export(str(path))
        finally:
            legend.scene().removeItem(legend)
            item.legend = None

    def _draw_marks(self, curves: Curves) -> None:
        if curves.marks() == self._marked:
            return
        for mark in self.marks:
            self.canvas.removeItem(mark)
        self.marks, self._marked = [], curves.marks()
        for mark in self._marked:
            change = mark.kind == "change"
            line = pg.InfiniteLine(
                mark.step,
                angle=90,
                pen=pg.mkPen(self._ink, style=Qt.PenStyle.DashDotLine if change else Qt.PenStyle.DotLine),
            )
            line.setToolTip(f"step {mark.step}: {mark.text}")
            self.canvas.addItem(line, ignoreBounds=True)
            self.marks.append(line)

    def _title(self) -> None:
        plot = self.plot
        if plot is None:
            left, bottom = (
                ("error volume in ml", "balance: -1 all missed, 1 all extra; watched case")
                if self.key == BALANCE
                else ("share of right voxels", "probability; watched case")
            )
            self._label(left, bottom)
            self.canvas.setLogMode(y=False)
            return
        self._label(plot.y_title.removesuffix(f" ({plot.domain})"), f"{plot.x_title}; {plot.domain}")
        self.canvas.setLogMode(y=plot.logarithmic)
        self.empty_text.setText(EMPTY[plot.domain])

    def _label(self, left: str, bottom: str) -> None:
        self._titles = left, bottom
        self._fit_titles()

    def _fit_titles(self) -> None:
        """Write the titles of the axes as far as there is room for them; the whole ones are tool tips."""
        for side, text in zip(("left", "bottom"), self._titles, strict=True):
            axis = self.canvas.getAxis(side)
            room = float(axis.height() if side == "left" else axis.width()) + _BEYOND_AXIS
            font = QFont(axis.label.font())
            font.setPointSize(8)
            shown = fitting(text, room, QFontMetricsF(font).horizontalAdvance)
            if (shown, self._ink) != (axis.labelText, axis.labelStyle.get("color")):
                self.canvas.setLabel(side, shown, color=self._ink, **{"font-size": "8pt"})
                axis.resizeEvent()  # pyqtgraph centres a title only when its axis changes its size
            axis.setToolTip(text if shown != text else "")

    def _on_canvas(self) -> None:
        self._place_empty()
        self._fit_titles()

    def _range(self) -> None:
        """Let the axes follow what is drawn; ratios are shown from 0 to 1 whatever their values."""
        self.canvas.enableAutoRange()
        if self.key == RELIABILITY:
            self.canvas.setXRange(0, 1, padding=0.02)
            self.canvas.setYRange(0, 1, padding=0.02)
        elif self.plot is None:
            self.canvas.setXRange(-1, 1, padding=0.02)
        elif self.plot.limits is not None:
            self.canvas.setYRange(*self.plot.limits, padding=0.02)

    def change(self, curves: Curves) -> None:
        """Draw what the picker names now."""
        self.forget()
        self._title()
        self._range()
        self.cursor.setVisible(self.cursor.isVisible() and self.plot is not None)
        self.redraw(curves)

    def _write_legend(self, *lines: str) -> None:
        """Write the legend; without one, the plot has all the room."""
        self._lines = lines
        self._arrange_legend()

    def _arrange_legend(self) -> None:
        """Put the legend beside a wide plot, line by line, or above a narrow one, line behind line."""
        beside = self.width() >= _KEY_FROM
        layout: Any = self.layout()
        if beside != self._beside:
            self._beside = beside
            layout.addWidget(self._key, *((2, 1) if beside else (1, 0, 1, 2)))
            self._key.setMinimumWidth(KEY_WIDTH if beside else 0)
            self._key.setMaximumWidth(KEY_WIDTH if beside else 10_000)
        text = "<br>".join(self._lines) if beside else "&ensp; ".join(map(unbroken, self._lines))
        if (text, self.width()) == self._arranged:  # a scroll area that is arranged is painted, too
            return
        self._arranged = (text, self.width())
        if text != self.legend.text():
            self.legend.setText(text)
        if beside:
            self._key.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
            self._key.setMinimumHeight(0)
            self._key.setMaximumHeight(10_000)
        else:
            most = _KEY_LINES * self.legend.fontMetrics().lineSpacing() + 6
            wanted = self.legend.heightForWidth(max(40, self.width()))
            self._key.setFixedHeight(min(most, max(1, wanted)))
            policy = Qt.ScrollBarPolicy
            self._key.setVerticalScrollBarPolicy(
                policy.ScrollBarAsNeeded if wanted > most else policy.ScrollBarAlwaysOff
            )
        self._key.setVisible(bool(self._lines))

    def resizeEvent(self, event: Any) -> None:
        """Put the legend where there is room for it."""
        super().resizeEvent(event)
        self._arrange_legend()

    def _place_empty(self) -> None:
        """Put the sentence of an empty plot into its middle, on lines that fit."""
        if not self.empty_text.isVisible():
            return
        (left, right), (low, high) = self.canvas.viewRange()
        self.empty_text.setTextWidth(max(40.0, self.canvas.getPlotItem().vb.width() - 8))
        self.empty_text.setPos((left + right) / 2, (low + high) / 2)


def fitting(title: str, room: float, measure: Callable[[str], float]) -> str:
    """Return the title of an axis, or the longest part of it that fits: it loses words before letters."""
    brief = title.removeprefix("optimiser ")
    shorter = (title, brief, brief.replace("training, ", ""), brief.partition(";")[0])
    found = next((one for one in shorter if measure(one) <= room), None)
    return elided(shorter[-1], room, measure) if found is None else found


def unbroken(line: str) -> str:
    """Return a line of rich text that is not broken at its spaces, unless it is long."""
    words = re.sub("<[^>]*>", "", line)
    return line if len(words) > _LONG_KEY else re.sub(r" (?![^<]*>)", "&nbsp;", line)


INTERVAL_MS = 100
_TRAINING = tuple(plot for plot in PLOTS if plot.domain == "training, patches")
_WHOLE = tuple(plot for plot in PLOTS if plot.domain == "whole volumes")
FORMATS = {"PNG picture": "png", "SVG drawing": "svg", "CSV of all curves": "csv"}


class PlotDock(QWidget):  # type: ignore[misc, unused-ignore]
    """Curves of the current run, drawn at most ten times a second and only while they can be seen.

    Parameters
    ----------
    viewer
        The napari viewer, whose theme is followed.
    bridge
        Where the run's events come from.
    frames
        Slices, which are drawn before curves.

    Attributes
    ----------
    step_dragged
        psygnal signal (step): the user drags the line that marks the prediction shown.
    """

    step_dragged = Signal(float)

    def __init__(self, viewer: Any, bridge: RunBridge, frames: Frames | None = None) -> None:
        super().__init__()
        self.viewer = viewer
        self.curves = Curves()
        self.calibration = WatchedCalibration()
        self._drawn: list[int | None] = [None, None]
        self._run: Any = None
        self._seen: Seen | None = None
        self.panes = (Pane(_TRAINING, "loss"), Pane(_WHOLE, "dice", prediction=True))
        self.race = RacePlot()
        self.race.hide()
        self._export = QPushButton("Export…")
        menu = QMenu(self._export)
        for title, ending in FORMATS.items():
            menu.addAction(title).triggered.connect(lambda _=False, e=ending: self._choose_export(e))
        self._export.setMenu(menu)
        self.setMinimumSize(_LEAST_WIDTH + 100, 160)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 0, 4, 4)
        for pane in self.panes:
            layout.addWidget(pane, 1)
            pane.picker.currentIndexChanged.connect(lambda _, p=pane: p.change(self.curves))
            pane.step_dragged.connect(self.step_dragged.emit)
        layout.addWidget(self.race, 1)
        self.race.step_dragged.connect(self.step_dragged.emit)
        layout.addWidget(self._export, 0, Qt.AlignmentFlag.AlignTop)
        self._timer = PatientTimer(self.refresh, INTERVAL_MS, frames, parent=self)
        self.follow_theme()
        viewer.events.theme.connect(self.follow_theme)
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.ended.connect(self._on_ended)

    def resizeEvent(self, event: Any) -> None:
        """Show the right pane where there is room for two."""
        super().resizeEvent(event)
        self.panes[1].setVisible(self.width() >= _BOTH_FROM and self.race.isHidden())
        QTimer.singleShot(0, self, self.refresh)  # what came while it was hidden, once it has its place

    def sizeHint(self) -> Any:
        """Prefer little height: the canvas above matters more."""
        hint = super().sizeHint()
        hint.setHeight(210)
        return hint

    def follow_theme(self, _: Any = None) -> None:
        """Take background and ink from napari's theme."""
        chosen = get_theme(self.viewer.theme)
        background, ink = chosen.background.as_hex(), chosen.text.as_hex()
        self.race.set_colours(background, ink)
        for pane in self.panes:
            pane.set_colours(background, ink)
            pane.redraw(self.curves)

    def show_race(self, shown: RaceShown | None) -> None:
        """Show the curves of a race in the place of those of the run; None: those of the run."""
        self.race.draw(shown)
        self.race.setVisible(shown is not None)
        self.panes[0].setVisible(shown is None)
        self.panes[1].setVisible(shown is None and self.width() >= _BOTH_FROM)
        self._export.setVisible(shown is None)
        QTimer.singleShot(0, self, self.refresh)

    def show_step(self, step: float | None) -> None:
        """Mark the step whose prediction the viewer shows."""
        for pane in self.panes:
            pane.show_step(step)

    def show_prediction(self, seen: Seen | None) -> None:
        """Take the balance of the regions and the reliability of the prediction shown; None takes them away."""
        self._seen = seen
        if seen is None:
            for pane in self.panes:
                pane.show_prediction(None, None)
            return
        snapshot, index = seen.snapshot, seen.wanted.class_index
        name = snapshot.class_names[index - 1] if index else ""
        reliability = self.calibration.diagram(snapshot.role, snapshot.index, name)
        for pane in self.panes:
            pane.show_prediction(seen.balance, reliability)

    def refresh(self) -> None:
        """Draw what has changed, in the panes that can be seen."""
        if not self.isVisible():
            return
        for place, pane in enumerate(self.panes):
            revision = self.curves.revision_of(pane.domain)
            if self._drawn[place] != revision and not pane.visibleRegion().isEmpty():
                self._drawn[place] = revision
                pane.redraw(self.curves)

    def export(self, path: Path) -> tuple[Path, ...]:
        """Write the curves: .csv holds all points of all plots; .png and .svg make one file per visible plot."""
        if path.suffix == ".csv":
            path.write_text(self.curves.to_csv(), encoding="utf-8")
            return (path,)
        written = []
        for pane in self.panes:
            target = path.with_name(f"{path.stem}-{pane.key}{path.suffix}")
            pane.export(target)
            written.append(target)
        return tuple(written)

    def _choose_export(self, ending: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the curves", f"curves.{ending}", f"*.{ending}")
        if path:
            self.export(Path(path).with_suffix(f".{ending}"))

    def _on_begun(self, run: Any) -> None:
        if run is not self._run:
            self._run = run
            self.curves, self.calibration, self._seen = Curves(), WatchedCalibration(), None
            for pane in self.panes:
                pane.change(self.curves)
        self._drawn = [None, None]
        self._timer.start()

    def _on_events(self, events: Sequence[Event]) -> None:
        self.curves.extend(events)
        self.calibration.extend(events)
        if self._seen is not None and events_of(events, WatchedDone):
            self.show_prediction(self._seen)  # the picture may have come before the event
        for event in events_of(events, Planned):
            for pane in self.panes:
                pane.set_classes(event.classes)

    def _on_ended(self, _: Any) -> None:
        self._timer.stop()
        self.refresh()

    def showEvent(self, event: Any) -> None:
        """Draw what came while hidden."""
        super().showEvent(event)
        self.refresh()

    def closing(self) -> None:
        """Let go of the viewer."""
        self._timer.stop()
        self.viewer.events.theme.disconnect(self.follow_theme)
