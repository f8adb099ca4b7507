"""The table of metrics: one row per class, and a mean that says what it is a mean of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from segexplorer.core.events import CaseScore
from segexplorer.metrics.overlap import METRICS
from segexplorer.metrics.summary import ClassSummary, summarise

_SHOWN = {"dice": "Dice", "f2": "F2", "sensitivity": "Sens.", "precision": "Prec."}
COLUMNS = ("Class", *_SHOWN.values(), "FP ml", "FN ml", "Found")
_STATES = {"scored": "yes", "absent": "absent", "missed": "missed", "spurious": "not there"}
_ROW = 24


class ScoreTable(QTableWidget):  # type: ignore[misc, unused-ignore]
    """Scores of one case or of many; a mean is over the pairs that are there, never silently over fewer."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setHorizontalHeaderLabels(COLUMNS)
        self.verticalHeader().setVisible(False)
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setStyleSheet("QTableWidget { font-size: 11px; } QHeaderView { font-size: 11px; }")
        header = self.horizontalHeader()
        header.setMinimumSectionSize(36)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, metric in enumerate(_SHOWN, start=1):
            declared = METRICS[metric]
            self.horizontalHeaderItem(column).setToolTip(f"{declared.display_name} = {declared.definition}")
        self._fit()

    def show_scores(self, scores: Sequence[CaseScore]) -> None:
        """Show scores; several cases are summarised per class."""
        summary = summarise(scores)
        single = {s.class_name: s.state for s in scores} if summary.n_cases == 1 else {}
        self.setRowCount(len(summary.per_class) + bool(scores))
        for row, (name, of_class) in enumerate(summary.per_class.items()):
            found = _STATES[single[name]] if name in single else _found(of_class)
            self._fill(row, name, of_class, found)
        if scores:
            overall = summary.overall
            self._fill(self.rowCount() - 1, "Mean", overall, _found(overall))
        self._fit()

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
            item.setToolTip(f"{name}: {COLUMNS[column]} {text}")
            self.setItem(row, column, item)
        self.setRowHeight(row, _ROW)

    def _fit(self) -> None:
        self.setFixedHeight(_ROW * (1 + min(max(self.rowCount(), 1), 12)) + 6)


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
