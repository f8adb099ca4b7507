"""The case table of result sets in the window: rows, a scatter of any two quantities, and sets side by side.

They draw a `CaseTable` and say what is clicked; what is sorted and filtered is decided there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from psygnal import Signal
from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, QSignalBlocker, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.colours import ClassColours
from segexplorer.frontends.napari.panels import widgets
from segexplorer.metrics import ALL_METRICS
from segexplorer.metrics.formatting import value_text
from segexplorer.study.result_comparison import SetComparison
from segexplorer.viewmodels.caption import elided
from segexplorer.viewmodels.case_table import (
    MEAN,
    TRUTH_ML,
    VOLUMES,
    CaseRow,
    CaseTable,
    Point,
    quantity,
    quantity_title,
)
from segexplorer.viewmodels.tables import Table, sets_sentences, sets_table

MOST_CLASSES, MOST_METRICS = 24, 6
"""Columns of single classes and of further metrics; files hold all."""
MOST_DOTS = 20_000
_ROW = 24
_NAME = 140
"""Of a class below the scatter plot, in pixels; a longer name is shortened in the middle."""
_SYMBOLS = ("o", "s", "t", "d", "p", "h")
_STATES = {"missed": "x", "spurious": "+"}
_WORDS = {"missed": ", missed", "spurious": ", made up"}


@dataclass(frozen=True)
class _Column:
    """What a column holds: "case", "results", "value", "class", "metric", "volume" or "remark", and of what."""

    kind: str
    title: str
    of: str = ""
    tip: str = ""


def columns_of(table: CaseTable) -> list[_Column]:
    """Return the columns: the sorted metric, the same of each class, and further metrics of one that is chosen."""
    metric = ALL_METRICS[table.metric]
    found = [_Column("case", "Case")]
    names = table.class_names
    one = table.class_name != MEAN or len(names) == 1
    what = f"{metric.display_name} ({table.class_name if len(names) > 1 else names[0] if names else MEAN})"
    tip = f"{what} = {metric.definition}; {metric.better_text}. Click to turn the order round."
    found.append(_Column("value", metric.display_name if one else f"{metric.display_name}, mean", "", tip))
    if len(names) > 1:
        sort = "Click to sort by this class"
        found += [_Column("class", name, name, f"{name}: {sort}") for name in names[:MOST_CLASSES]]
    if one:
        others = [name for name in table.metrics if name != table.metric][:MOST_METRICS]
        found += [
            _Column("metric", ALL_METRICS[n].display_name, n, ALL_METRICS[n].definition) for n in others
        ]
        found.append(_Column("volume", "True ml", TRUTH_ML, VOLUMES[TRUTH_ML]))
    if len(table.labels) > 1:  # beside the case, but a narrow table has to show the values
        found.insert(2, _Column("results", "Results"))
    return [*found, _Column("remark", "Remarks")]


class CaseTableModel(QAbstractTableModel):  # type: ignore[misc, unused-ignore]
    """The rows of a `CaseTable`, for Qt."""

    def __init__(self) -> None:
        super().__init__()
        self.table: CaseTable | None = None
        self.rows: list[CaseRow] = []
        self.columns: list[_Column] = []
        self._colours = ClassColours()

    def show(self, table: CaseTable | None) -> None:
        """Take over another table."""
        self.beginResetModel()
        self.table = table
        self.rows = [] if table is None else table.rows()
        self.columns = [] if table is None else columns_of(table)
        self._colours = ClassColours(() if table is None else table.class_names)
        self.endResetModel()

    def place(self, label: str, case: str) -> int:
        """Return the row of a case; -1 where it is not shown."""
        return next((n for n, row in enumerate(self.rows) if (row.label, row.case) == (label, case)), -1)

    def rowCount(self, parent: Any = None) -> int:
        """Return the number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: Any = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what Qt asks for of a cell."""
        row, column = self.rows[index.row()], self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self.text(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return (
                f"{row.case}, {column.title}: {self.text(row, column)}"
                if column.of
                else self.text(row, column)
            )
        if role == Qt.ItemDataRole.TextAlignmentRole and column.kind not in ("case", "results", "remark"):
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return title, tool tip and colour of a column."""
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(self.columns):
            return None
        column = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            if column.kind != "value" or self.table is None:
                return column.title
            return f"{column.title} {'▲' if self.table.worst_first else '▼'}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.tip or column.title
        if role == Qt.ItemDataRole.DecorationRole and column.kind == "class":
            swatch = QPixmap(10, 10)
            swatch.fill(QColor(self._colours.colour(column.of)))
            return swatch
        if role == Qt.ItemDataRole.FontRole and column.kind == "value":
            font = QFont()
            font.setBold(True)
            return font
        return None

    def text(self, row: CaseRow, column: _Column) -> str:
        """Return the text of a cell."""
        assert self.table is not None
        if column.kind == "case":
            return row.case
        if column.kind == "results":
            return row.label
        if column.kind == "remark":
            return row.remark
        if column.kind == "value":
            return value_text(row.value, self.table.metric) if row.scored else ""
        name = column.of if column.kind == "class" else self._one_class()
        score = row.classes.get(name)
        if score is None or score.state == "absent":
            return ""
        if column.kind == "volume":
            return f"{quantity(score, column.of):.3g}"
        metric = self.table.metric if column.kind == "class" else column.of
        return value_text(score.metrics.get(metric, math.nan), metric)

    def _one_class(self) -> str:
        assert self.table is not None
        names = self.table.class_names
        return names[0] if self.table.class_name == MEAN and len(names) == 1 else self.table.class_name


class CaseTableView(QTableView):  # type: ignore[misc, unused-ignore]
    """The table; arrow keys go from case to case.

    Attributes
    ----------
    chosen
        psygnal signal (label, case): a row was clicked or gone to.
    sort_asked
        psygnal signal (class): a header was clicked; "" turns the order round.
    """

    chosen = Signal(str, str)
    sort_asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.cells = CaseTableModel()
        self.setModel(self.cells)
        self.setAccessibleName("Cases, the worst first")
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setStyleSheet("QTableView, QHeaderView { font-size: 11px; }")
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(_ROW)
        header = self.horizontalHeader()
        header.setSectionsClickable(True)
        header.setHighlightSections(False)
        header.setStretchLastSection(True)
        header.sectionClicked.connect(self._on_header)
        self._quiet = False
        self._widths: tuple[str, ...] = ()
        self.selectionModel().currentRowChanged.connect(self._on_row)
        self.clicked.connect(self._on_clicked)

    def show_table(self, table: CaseTable | None, shown: tuple[str, str] | None) -> None:
        """Draw a table; the case that the viewer shows is marked and stays in sight."""
        self._quiet = True
        scroll = self.verticalScrollBar().value()
        self.cells.show(table)
        titles = tuple(column.title for column in self.cells.columns)
        if titles != self._widths:
            self._widths = titles
            self._fit()
        self._quiet = False
        self.verticalScrollBar().setValue(scroll)
        self.mark(shown)

    def mark(self, shown: tuple[str, str] | None) -> None:
        """Mark the row of the case that the viewer shows."""
        row = -1 if shown is None else self.cells.place(*shown)
        self._quiet = True
        if row < 0:
            self.clearSelection()
        elif self.currentIndex().row() != row or not self.selectionModel().hasSelection():
            index = self.cells.index(row, 0)
            flags = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
            self.selectionModel().setCurrentIndex(index, flags)
        self._quiet = False

    def _fit(self) -> None:
        """Give columns the width of what they hold, names as much as there is room for."""
        metrics = self.fontMetrics()
        bold = QFont(self.font())
        bold.setBold(True)
        for place, column in enumerate(self.cells.columns):
            texts = [self.cells.text(row, column) for row in self.cells.rows[:200]]
            wanted = max([metrics.horizontalAdvance(text) for text in (*texts, column.title)], default=40)
            if column.kind == "value":  # whose title has to be read as a whole: it says what is sorted
                wanted = max(wanted, QFontMetrics(bold).horizontalAdvance(f"{column.title} ▲") + 8)
            swatch = 16 if column.kind == "class" else 0
            most = {"case": 170, "results": 150, "value": 200}.get(column.kind, 130)
            self.setColumnWidth(place, min(most, max(44, wanted + swatch + 14)))

    def _on_header(self, section: int) -> None:
        column = self.cells.columns[section]
        if column.kind == "value":
            self.sort_asked.emit("")
        elif column.kind == "class":
            self.sort_asked.emit(column.of)

    def _on_row(self, now: QModelIndex, before: QModelIndex) -> None:
        if not self._quiet and now.isValid():
            self._choose(now.row())

    def _on_clicked(self, index: QModelIndex) -> None:
        """A click on the row that is current already asks for it again: another case may be shown meanwhile."""
        if index.isValid():
            self._choose(index.row())

    def _choose(self, place: int) -> None:
        row = self.cells.rows[place]
        self.chosen.emit(row.label, row.case)


class CaseScatter(QWidget):  # type: ignore[misc, unused-ignore]
    """A dot per case and class, of any two quantities; a click opens the case.

    Attributes
    ----------
    chosen
        psygnal signal (label, case): a dot was clicked.
    across, up
        Choose the quantities.
    log
        Whether the horizontal axis is logarithmic.
    """

    chosen = Signal(str, str)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._table: CaseTable | None = None
        self._shown: tuple[str, str] | None = None
        self.points: list[Point] = []
        self.across, self.up = widgets.ElidedComboBox("Across"), widgets.ElidedComboBox("Up")
        for box in (self.across, self.up):
            box.setMinimumWidth(64)
        self.log = QCheckBox("Log")
        self.log.setToolTip("Logarithmic scale across")
        self.canvas = pg.PlotWidget(antialias=True)
        self.canvas.setMenuEnabled(False)
        self.canvas.setMinimumSize(160, 56)
        self.canvas.setAccessibleName("Scatter of the cases")
        for side in ("left", "bottom"):
            self.canvas.getAxis(side).enableAutoSIPrefix(False)
        self.dots = pg.ScatterPlotItem(size=8, hoverable=True, hoverSize=11, tip=self._tip)
        self.ring = pg.ScatterPlotItem(size=15, brush=None)
        self.canvas.addItem(self.dots)
        self.canvas.addItem(self.ring)
        self.dots.sigClicked.connect(self._on_clicked)
        self.key = QLabel()
        self.key.setStyleSheet("font-size: 11px;")
        self.key.setWordWrap(True)  # one long line would hold the whole window wide
        for box in (self.up, self.across):
            box.currentIndexChanged.connect(lambda _: self.redraw())
        self.log.toggled.connect(lambda _: self.redraw())
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        # the axes are named here, which leaves the dots more of a low dock
        row.addWidget(self.up, 1)
        row.addWidget(self.log)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.canvas, 1)
        layout.addWidget(self.across)
        layout.addWidget(self.key)
        self.follow_theme()

    def follow_theme(self) -> None:
        """Take background and ink from napari's theme."""
        chosen = get_theme(self._viewer.theme)
        self._ink = chosen.text.as_hex()
        self.canvas.setBackground(chosen.background.as_hex())
        for side in ("left", "bottom"):
            axis = self.canvas.getAxis(side)
            axis.setPen(self._ink)
            axis.setTextPen(self._ink)
        self.redraw()

    def show_table(self, table: CaseTable | None, shown: tuple[str, str] | None) -> None:
        """Draw the shown cases of a table."""
        before = None if self._table is None or not self._table.metrics else self._table.metric
        changed = table is not None and bool(table.metrics) and table.metric != before
        self._table, self._shown = table, shown
        names = [] if table is None else [*VOLUMES, *table.metrics]
        self._fill(self.across, names, TRUTH_ML)
        self._fill(self.up, names, table.metric if table is not None else "", anew=changed)
        self.redraw()

    def mark(self, shown: tuple[str, str] | None) -> None:
        """Mark the dots of the case that the viewer shows."""
        if shown != self._shown:
            self._shown = shown
            self._draw_ring()

    def _fill(self, box: Any, names: Sequence[str], first: str, *, anew: bool = False) -> None:
        with QSignalBlocker(box):
            if [box.itemData(i) for i in range(box.count())] != list(names):
                kept = box.currentData() or first
                box.clear()
                for name in names:
                    box.addItem(quantity_title(name), name)
                box.setCurrentIndex(max(0, box.findData(kept)))
            if anew and first:
                box.setCurrentIndex(max(0, box.findData(first)))

    def redraw(self) -> None:
        """Draw the dots of the quantities that are chosen."""
        table, across, up = self._table, self.across.currentData(), self.up.currentData()
        points = [] if table is None or not across or not up else table.points(across, up)
        left = len(points) - MOST_DOTS
        points = points[:MOST_DOTS]
        if self.log.isChecked():
            points = [point for point in points if point.x > 0]
        self.points = points
        self.canvas.getAxis("bottom").setLogMode(self.log.isChecked())
        if table is None:
            self.dots.clear()
        else:
            self._draw_dots(table)
        self._draw_key(table, left)
        self._draw_ring()

    def _x(self, point: Point) -> float:
        return math.log10(point.x) if self.log.isChecked() else point.x

    def _draw_dots(self, table: CaseTable) -> None:
        palette = ClassColours(table.class_names)
        brushes = {name: pg.mkBrush(palette.colour(name)) for name in table.class_names}
        pens = {name: pg.mkPen(palette.colour(name), width=1.6) for name in table.class_names}
        symbols = {label: _SYMBOLS[n % len(_SYMBOLS)] for n, label in enumerate(table.labels)}
        failed = [point.state in _STATES for point in self.points]
        self.dots.setData(
            x=np.array([self._x(p) for p in self.points], float),
            y=np.array([p.y for p in self.points], float),
            data=list(range(len(self.points))),
            brush=[brushes[p.class_name] for p in self.points],
            pen=[pens[p.class_name] if bad else None for p, bad in zip(self.points, failed, strict=True)],
            symbol=[_STATES.get(p.state, symbols[p.label]) for p in self.points],
        )

    def _draw_ring(self) -> None:
        own = [p for p in self.points if (p.label, p.case) == self._shown]
        self.ring.setData(
            x=[self._x(p) for p in own], y=[p.y for p in own], pen=pg.mkPen(self._ink, width=2), brush=None
        )

    def _draw_key(self, table: CaseTable | None, left: int) -> None:
        names = [] if table is None else list(dict.fromkeys(p.class_name for p in self.points))
        palette = ClassColours(() if table is None else table.class_names)
        shown = [
            f'<span style="color:{palette.colour(name)}">●</span>&nbsp;{_html(self._short(name))}'
            for name in names[:6]
        ]
        if len(names) > 6:
            shown.append(f"and {len(names) - 6} more")
        if any(p.state in _STATES for p in self.points):
            shown.append("× missed, + made up")
        if left > 0:
            shown.append(f"{left} more dots are left out: choose a class")
        self.key.setText("&nbsp; ".join(shown))

    def _short(self, name: str) -> str:
        return elided(name, _NAME, self.key.fontMetrics().horizontalAdvance)

    def _tip(self, x: float, y: float, data: Any) -> str:
        point = self.points[int(data)]
        of = f" ({point.label})" if self._table is not None and len(self._table.labels) > 1 else ""
        numbers = ", ".join(f"{value:.3g}" for value in (point.y, point.x))
        return f"{point.case}{of}, {point.class_name}{_WORDS.get(point.state, '')}: {numbers}"

    def _on_clicked(self, _: Any, points: Sequence[Any], event: Any = None) -> None:
        if len(points):
            point = self.points[int(points[0].data())]
            self.chosen.emit(point.label, point.case)


class SideBySide(QWidget):  # type: ignore[misc, unused-ignore]
    """Result sets beside each other, with what the numbers say and do not say."""

    def __init__(self) -> None:
        super().__init__()
        self.table = widgets.prepare_table(QTableWidget(0, 0), "Results side by side")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setStyleSheet("QTableWidget, QHeaderView { font-size: 11px; }")
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.notes = widgets.guidance()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 0, 0, 0)
        layout.addWidget(widgets.scrolled(self.table, self.notes))

    def show_comparison(self, found: SetComparison | None, why: str = "") -> None:
        """Draw a comparison, or say why there is none."""
        shown = Table((), ()) if found is None else sets_table(found)
        rows = shown.rows
        self.table.setRowCount(len(rows))
        self.table.setColumnCount(len(shown.heads))
        self.table.setHorizontalHeaderLabels(shown.heads)
        for place, row in enumerate(rows):
            for column, text in enumerate(row):
                make = widgets.text_item if column < shown.words else widgets.number_item
                self.table.setItem(place, column, make(text))
        self.table.setVisible(bool(rows))
        head = self.table.horizontalHeader().sizeHint().height()
        bar = self.table.horizontalScrollBar().sizeHint().height()  # a narrow table scrolls
        self.table.setFixedHeight(head + _ROW * len(rows) + bar + 4)
        widgets.say(self.notes, why if found is None else "\n".join([*sets_sentences(found), *found.notes]))


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
