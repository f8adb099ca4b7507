"""The tables of the Inspect tab: metrics per class with the counts behind each mean, and the list of errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QHeaderView,
    QListWidget,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.events import CaseScore, ValidationDone
from segexplorer.frontends.napari.panels import widgets
from segexplorer.metrics.overlap import METRICS
from segexplorer.metrics.summary import ClassSummary, summarise
from segexplorer.training.scores import SplitScores
from segexplorer.viewmodels.displayed import Seen
from segexplorer.viewmodels.errors import ErrorPiece

_NONE = "Scores come with the first validation."
_NOT_TESTED = (
    "The test cases have not been scored. When every choice is made: segexplorer evaluate RUN --split test"
)


class Scores(QWidget):  # type: ignore[misc, unused-ignore]
    """A table, what it was measured on, and how many cases count."""

    def __init__(self) -> None:
        super().__init__()
        self._validations: dict[int, ValidationDone] = {}
        self._tests: tuple[SplitScores, ...] = ()
        self._seen: Seen | None = None
        self._newest = True
        self.source = QComboBox()
        self.source.addItem("All validation cases, whole volumes", "validation")
        self.source.addItem("The watched case, whole volume", "watched")
        self.source.addItem("Test cases, as recorded", "test")
        self.source.currentIndexChanged.connect(lambda _: self._draw())
        self.table = ScoreTable()
        self.counts = widgets.guidance(_NONE)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.source, self.table, self.counts):
            layout.addWidget(widget)

    def forget(self) -> None:
        """Forget the validations of a run."""
        self._validations, self._tests, self._seen = {}, (), None
        self._draw()

    def add(self, validations: Iterable[ValidationDone]) -> None:
        """Take over validations of the run."""
        self._validations |= {event.step: event for event in validations}
        self._draw()

    def show_recorded(self, tests: tuple[SplitScores, ...]) -> None:
        """Take over what is recorded of the test cases."""
        self._tests = tests
        self._draw()

    def show_seen(self, seen: Seen, *, newest: bool) -> None:
        """Follow what the viewer shows: the newest prediction, or an earlier one and its validation."""
        self._seen, self._newest = seen, newest
        self._draw()

    def _draw(self) -> None:
        chosen = self.source.currentData()
        if chosen == "test" and not self._tests:
            self.table.show_scores(())
            widgets.say(self.counts, _NOT_TESTED)
            return
        of_source = {"watched": self._of_watched, "test": self._of_tests, "validation": self._of_all}
        scores, where = of_source[chosen]()
        self.table.show_scores(scores)
        badges = {score.badge for score in scores if score.badge}
        shown = (counts_sentence(scores), where, *badges)
        widgets.say(self.counts, "; ".join(t for t in shown if t) or _NONE)

    def _of_watched(self) -> tuple[tuple[CaseScore, ...], str]:
        if self._seen is None:
            return (), ""
        return self._seen.scores, f"{self._seen.snapshot.case}, step {self._seen.snapshot.step}"

    def _of_tests(self) -> tuple[tuple[CaseScore, ...], str]:
        record = self._tests[-1]
        times = "once" if record.number == 1 else f"{record.number} times"
        return (
            record.scores,
            f"{record.checkpoint} weights, step {record.step}; {record.when}; scored {times}",
        )

    def _of_all(self) -> tuple[tuple[CaseScore, ...], str]:
        limit = None if self._newest or self._seen is None else self._seen.snapshot.step
        steps = [step for step in self._validations if limit is None or step <= limit]
        if not steps:
            return (), ""
        return self._validations[max(steps)].scores, f"step {max(steps)}"


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


_SOME = "Pieces of error, the largest first; click one, or press N or P, to go there."
_KEYS = {"n": 1, "p": -1}
"""Keys that fly to the next and the previous piece of error."""


class ErrorList(QWidget):  # type: ignore[misc, unused-ignore]
    """Lists pieces of error and moves the viewer to them.

    Parameters
    ----------
    viewer
        The viewer that flies.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self._pieces: tuple[ErrorPiece, ...] = ()
        self.note = widgets.guidance(_SOME)
        self.rows = QListWidget()
        self.rows.setMinimumHeight(120)
        self.rows.itemClicked.connect(lambda _: self.fly(self.rows.currentRow()))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.note)
        layout.addWidget(self.rows)
        for key, way in _KEYS.items():
            viewer.bind_key(key, lambda _, w=way: self.fly_on(w), overwrite=True)

    def show_pieces(self, pieces: tuple[ErrorPiece, ...], *, labelled: bool) -> None:
        """List pieces; where there are none, say why."""
        chosen = self.rows.currentRow()
        self._pieces = pieces
        self.rows.clear()
        self.rows.addItems([piece.sentence for piece in pieces])
        if 0 <= chosen < len(pieces):
            self.rows.setCurrentRow(chosen)
        none = "No error of 0.05 ml or more." if labelled else "This case has no label."
        widgets.say(self.note, _SOME if pieces else none)

    def fly(self, row: int) -> None:
        """Move the viewer to a piece of error."""
        if not 0 <= row < len(self._pieces):
            return
        z_y_x = self._pieces[row].world[::-1]
        for axis, position in enumerate(z_y_x, start=self.viewer.dims.ndim - 3):
            self.viewer.dims.set_point(axis, position)
        self.viewer.scene.camera.center = z_y_x

    def fly_on(self, way: int) -> None:
        """Fly to the next (1) or previous (-1) piece of error in the list."""
        count = self.rows.count()
        if count == 0:
            return
        chosen = self.rows.currentRow()
        row = (0 if way > 0 else count - 1) if chosen < 0 else (chosen + way) % count
        self.rows.setCurrentRow(row)
        self.fly(row)

    def closing(self) -> None:
        """Give the keys back."""
        for key in _KEYS:
            self.viewer.bind_key(key, None, overwrite=True)
