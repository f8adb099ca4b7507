"""The table of scores of the Inspect tab: metrics per class, with the counts behind each mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtWidgets import (
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.colours import ClassColours
from segexplorer.core.events import CaseScore
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.error_list import swatch
from segexplorer.metrics.overlap import METRICS
from segexplorer.metrics.summary import ClassSummary, summarise
from segexplorer.viewmodels.displayed import ScoreSource
from segexplorer.viewmodels.screen import Screen

_NONE = "Scores come with the first validation."
_SOURCES: dict[ScoreSource, str] = {
    "validation": "All validation cases, whole volumes",
    "watched": "The watched case, whole volume",
    "test": "Test cases, as recorded",
}


class Scores(QWidget):  # type: ignore[misc, unused-ignore]
    """A table, what it was measured on, and how many cases count; draws what it is given.

    Attributes
    ----------
    chosen
        psygnal signal (`ScoreSource`): the user asks for other scores.
    class_chosen
        psygnal signal (name of a class): the user clicks on its row; "" for the mean of all.
    """

    chosen = Signal(str)
    class_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.source = widgets.ElidedComboBox("Scores of")
        self._offer(tuple(_SOURCES))
        self.source.currentIndexChanged.connect(lambda _: self.chosen.emit(self.source.currentData()))
        self.table = ScoreTable()
        self.table.cellClicked.connect(lambda row, _: self.class_chosen.emit(self.table.class_of(row)))
        self.counts = widgets.guidance(_NONE)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        title = widgets.heading("Scores")
        title.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        for widget in (widgets.row(title, self.source), self.table, self.counts):
            layout.addWidget(widget)

    def draw(self, screen: Screen) -> None:
        """Show the scores of the screen, and what they were measured on."""
        with QSignalBlocker(self.source):
            self._offer(screen.score_sources)
            self.source.setCurrentIndex(self.source.findData(screen.scored_on))
        self.table.show_scores(screen.scores, screen.class_names)
        self.table.setVisible(bool(screen.scores))
        badges = {score.badge for score in screen.scores if score.badge}
        shown = (counts_sentence(screen.scores), screen.scores_of, *sorted(badges))
        widgets.say(self.counts, "; ".join(t for t in shown if t) or _NONE)

    def _offer(self, sources: tuple[ScoreSource, ...]) -> None:
        if sources != tuple(self.source.itemData(i) for i in range(self.source.count())):
            self.source.clear()
            for source in sources:
                self.source.addItem(_SOURCES[source], source)


_SHOWN = {"dice": "Dice", "f2": "F2", "sensitivity": "Sens.", "precision": "Prec."}
COLUMNS = ("Class", *_SHOWN.values(), "FP ml", "FN ml", "Found")
_STATES = {"scored": "yes", "absent": "absent", "missed": "missed", "spurious": "not there"}
_F2_FROM = 420
"""Width of the table, in pixels, from which there is room for F2."""
MEAN = "Mean"
_FOUND = COLUMNS.index("Found")


class ScoreTable(QTableWidget):  # type: ignore[misc, unused-ignore]
    """Scores of one case or of many; a mean is over the pairs that are there, never silently over fewer."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self._most_rows = 5
        self.setHorizontalHeaderLabels(COLUMNS)
        widgets.prepare_table(self, "Scores")
        self.setIconSize(QSize(12, 12))
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.setStyleSheet("QTableWidget { font-size: 11px; } QHeaderView { font-size: 11px; }")
        header = self.horizontalHeader()
        header.setMinimumSectionSize(36)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, metric in enumerate(_SHOWN, start=1):
            declared = METRICS[metric]
            self.horizontalHeaderItem(column).setToolTip(f"{declared.display_name} = {declared.definition}")
        self._fit()

    def show_scores(self, scores: Sequence[CaseScore], class_names: Sequence[str] = ()) -> None:
        """Show scores; several cases are summarised per class. Names of the run's classes have their colour."""
        palette, names = ClassColours(tuple(class_names)), list(class_names)
        summary = summarise(scores)
        single = {s.class_name: s.state for s in scores} if summary.n_cases == 1 else {}
        self.setRowCount(len(summary.per_class) + bool(scores))
        for row, (name, of_class) in enumerate(summary.per_class.items()):
            found = _STATES[single[name]] if name in single else _found(of_class)
            self._fill(row, name, of_class, found)
            if name in names:
                self.item(row, 0).setIcon(swatch(palette.colour(names.index(name) + 1), "square"))
        if scores:
            overall = summary.overall
            self._fill(self.rowCount() - 1, MEAN, overall, _found(overall))
        self._fit()
        self._fit_columns()

    def resizeEvent(self, event: object) -> None:
        """Leave columns out where the names of the classes need their room."""
        super().resizeEvent(event)
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Leave F2 out of a narrow table, and "Found", which the tool tip of a class says too, for long names."""
        self.setColumnHidden(COLUMNS.index("F2"), self.width() < _F2_FROM)
        header = self.horizontalHeader()
        shown = [c for c in range(1, len(COLUMNS)) if c == _FOUND or not self.isColumnHidden(c)]
        widths = {c: max(self.sizeHintForColumn(c), header.sectionSizeHint(c)) for c in shown}
        self.setColumnHidden(_FOUND, not widgets.has_room_for_names(self, widths))

    def class_of(self, row: int) -> str:
        """Return the name of the class in a row, "" for the mean of all."""
        last = row == self.rowCount() - 1
        return "" if last else self.item(row, 0).text()

    def row_texts(self, row: int) -> list[str]:
        """Return the texts of a row."""
        return [self.item(row, column).text() for column in range(len(COLUMNS))]

    def _fill(self, row: int, name: str, summary: ClassSummary, found: str) -> None:
        values = [_number(summary.mean.get(metric, math.nan)) for metric in _SHOWN]
        texts = (
            name,
            *values,
            _volume(summary.false_positive_ml),
            _volume(summary.false_negative_ml),
            found,
        )
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            if 0 < column < len(texts) - 1:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            said = COLUMNS[_FOUND] if column == 0 else COLUMNS[column]
            item.setToolTip(f"{name}: {said} {found if column == 0 else text}")
            self.setItem(row, column, item)
        self.setRowHeight(row, widgets.DENSE_ROW)

    def set_most_rows(self, rows: int) -> None:
        """Show at most so many rows at once; more of them scroll."""
        self._most_rows = rows
        self._fit()

    def _fit(self) -> None:
        self.setFixedHeight(widgets.DENSE_ROW * (1 + min(max(self.rowCount(), 1), self._most_rows)) + 8)


def counts_sentence(scores: Sequence[CaseScore]) -> str:
    """Return what the mean is over, e.g. "Mean over 23 of 24 (case, class) pairs: 1 absent, 2 missed"."""
    if not scores:
        return ""
    overall = summarise(scores).overall
    n = overall.n_used + overall.n_absent
    return (
        f"Mean over {overall.n_used} of {n} (case, class) pairs: "
        f"{overall.n_absent} absent, {overall.n_missed} missed (counted 0)"
    )


def _found(summary: ClassSummary) -> str:
    n = summary.n_used - summary.n_missed - summary.n_spurious
    return f"{n} of {summary.n_used}" if summary.n_used else "absent"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _volume(value: float) -> str:
    return (
        f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.1 or value == 0 else f"{value:.2f}"
    )
