"""The list of errors in the tab Inspect: kinds told apart, sorted, filtered and searched; flying there; verdicts.

It draws its part of a `Screen` and asks `Display`; nothing of what is listed, chosen or said is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QPointF, QRectF, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPalette, QPen, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QMenu,
    QPushButton,
    QTableWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core import colours
from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.colours import ClassColours
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.label_painting import LabelPainter
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.verdicts import JUDGEMENTS, ErrorKind, Judgement
from segexplorer.viewmodels import errors
from segexplorer.viewmodels.error_navigator import (
    ORDERS,
    STATES,
    ErrorEntry,
    Filter,
    Moment,
    Order,
    State,
    csv_text,
    records,
)
from segexplorer.viewmodels.error_pieces import KIND_CODES, KINDS
from segexplorer.viewmodels.screen import Screen

COLUMNS: Mapping[str, Order] = {
    "Class": "class",
    "Kind": "kind",
    "ml": "volume",
    "mm": "depth",
    "Where": "place",
    "Said": "state",
}
"""Titles of the columns, and the order that a click on one asks for."""
SHORT_KINDS: Mapping[ErrorKind, str] = {
    "missed_object": "missed",
    "spurious_object": "spurious",
    "too_little": "too little",
    "too_much": "too much",
    "wrong_organ": "wrong",
}
"""What a kind is called in a narrow column."""
SHORT_STATES: Mapping[State, str] = {
    "open": "",
    "done": "✓",
    "true_error": "true",
    "label_error": "label",
    "unclear": "?",
}
HINT = "N and P: next and previous error. In the list, Enter ticks off; T, L, U: true error, label error, unclear."
_FEWEST_ROWS = 4
_WIDTHS = (0, 80, 42, 32, 82, 34)
"""Of the columns, in pixels: a number that is elided would be another number."""
_SAID_COLUMN = list(COLUMNS).index("Said")
_LINE = {Qt.Key.Key_N: 1, Qt.Key.Key_P: -1}
_SAID: Mapping[Any, Judgement] = {
    Qt.Key.Key_T: "true_error",
    Qt.Key.Key_L: "label_error",
    Qt.Key.Key_U: "unclear",
}
_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)


class ErrorTable(QTableWidget):  # type: ignore[misc, unused-ignore]
    """The rows: class, kind, volume, depth, place, and what was said.

    Parameters
    ----------
    display
        What the window displays.
    """

    def __init__(self, display: Display) -> None:
        super().__init__(0, len(COLUMNS))
        self.display = display
        self._entries: tuple[ErrorEntry, ...] = ()
        self._most_rows = 8
        widgets.prepare_table(self, "Errors")
        self.setHorizontalHeaderLabels(list(COLUMNS))
        for column, order in enumerate(COLUMNS.values()):
            self.horizontalHeaderItem(column).setToolTip(f"Sort: {ORDERS[order]}")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setIconSize(QSize(12, 12))
        self.setStyleSheet("QTableWidget { font-size: 11px; } QHeaderView { font-size: 11px; }")
        self.setToolTip(HINT)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(30)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, width in enumerate(_WIDTHS[1:], start=1):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.setColumnWidth(column, width)
        header.setSectionsClickable(True)
        header.sectionClicked.connect(self._on_header)
        self.cellClicked.connect(lambda row, _: self.choose(row))
        self._fit()

    @property
    def numbers(self) -> list[int]:
        """Numbers of the listed errors, in order."""
        return [entry.number for entry in self._entries]

    def texts(self, row: int) -> list[str]:
        """Return the texts of a row."""
        return [self.item(row, column).text() for column in range(self.columnCount())]

    def choose(self, row: int) -> None:
        """Look at the error of a row, and go there."""
        if 0 <= row < len(self._entries):
            self.display.look_at_error(self._entries[row].number)

    def draw(self, screen: Screen) -> None:
        """List what the screen lists."""
        navigator = screen.navigator
        self._entries = navigator.shown
        palette = ClassColours(screen.class_names)
        with QSignalBlocker(self):
            self.setRowCount(len(self._entries))
            for row, entry in enumerate(self._entries):
                self._fill(row, entry, palette)
            numbers = self.numbers
            if navigator.chosen in numbers:
                row = numbers.index(navigator.chosen)
                self.setCurrentCell(row, max(0, self.currentColumn()))
                self.scrollToItem(self.item(row, 0))
            else:
                self.clearSelection()
                self.setCurrentCell(-1, -1)
        self._fit()
        self._fit_columns()

    def resizeEvent(self, event: object) -> None:
        """Leave the column of verdicts out where the names of the classes need its room."""
        super().resizeEvent(event)
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Leave the column of verdicts out as long as none is there and names are cut."""
        said = [self.item(row, _SAID_COLUMN) for row in range(self.rowCount())]
        silent = not any(item is not None and item.text() for item in said)
        cut = not widgets.has_room_for_names(self, dict(enumerate(_WIDTHS)))
        self.setColumnHidden(_SAID_COLUMN, silent and cut)

    def _fill(self, row: int, entry: ErrorEntry, palette: ClassColours) -> None:
        piece = entry.piece
        told = f"{piece.sentence}\n{piece.place.words}; {piece.depth_mm:.1f} mm deep"
        if entry.since is not None:
            told += f"; there since step {entry.since}"
        if entry.state != "open":
            told += f"\n{STATES[entry.state]}"
        if entry.verdict is not None and entry.verdict.note:
            told += f"\nNote: {entry.verdict.note}"
        name = widgets.text_item(piece.class_name, told)
        name.setIcon(swatch(palette.colour(piece.class_index), "square"))
        kind = widgets.text_item(SHORT_KINDS[piece.kind], told)
        kind.setIcon(kind_icon(piece.kind))
        noted = "*" if entry.verdict is not None and entry.verdict.note else ""
        items = (
            name,
            kind,
            widgets.number_item(_short(piece.volume_ml), told),
            widgets.number_item(f"{piece.depth_mm:.0f}", told),
            widgets.text_item(piece.place.short, told),
            widgets.text_item(f"{SHORT_STATES[entry.state]}{noted}", told),
        )
        for column, item in enumerate(items):
            self.setItem(row, column, item)
        self.setRowHeight(row, widgets.DENSE_ROW)

    def set_most_rows(self, rows: int) -> None:
        """Show at most so many rows at once; more of them scroll."""
        self._most_rows = rows
        self._fit()

    def _fit(self) -> None:
        rows = min(max(self.rowCount(), _FEWEST_ROWS), self._most_rows)
        self.setFixedHeight(widgets.DENSE_ROW * (rows + 1) + 8)

    def _on_header(self, column: int) -> None:
        order = list(COLUMNS.values())[column]
        self.display.issue("arrange_errors", replace(self.display.screen.displayed.listing, order=order))

    def keyPressEvent(self, event: Any) -> None:
        """N, P and the arrows go from error to error, Enter ticks off, T, L and U say what it is."""
        key = event.key()
        if event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            super().keyPressEvent(event)
        elif key in _LINE:
            self.display.look_at_next_error(_LINE[key])
        elif key in _ENTER:
            tick_off(self.display)
        elif key in _SAID:
            self.display.review.judge(_SAID[key])
        else:
            before = self.currentRow()
            super().keyPressEvent(event)
            if self.currentRow() != before:
                self.choose(self.currentRow())


def tick_off(display: Display) -> None:
    """Tick the chosen error off and go to the next one; one that is ticked off already is open again."""
    entry = display.screen.navigator.entry
    if entry is None:
        display.look_at_next_error()
        return
    done = entry.verdict is not None and entry.verdict.done
    display.review.judge(done=not done)
    if not done:
        display.look_at_next_error()


class Sparkline(QWidget):  # type: ignore[misc, unused-ignore]
    """What became of an error: the Dice of its class around it, over the recorded predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: tuple[Moment, ...] = ()
        self._step: int | None = None
        self.setFixedHeight(34)
        self.setAccessibleName("Dice around the error over the steps")
        self.hide()

    def draw(self, moments: tuple[Moment, ...], step: int | None) -> None:
        """Show moments, and mark the step that is looked at."""
        self.moments, self._step = moments, step
        self.setVisible(len(moments) > 1)
        points = ", ".join(f"step {m.step}: {m.dice:.2f}" for m in moments)
        self.setToolTip(f"Dice of the class around the error. {points}")
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw a line from 0 to 1, filled where the error is there."""
        if len(self.moments) < 2:
            return
        text = self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(text)
        faint.setAlpha(70)
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            metrics = painter.fontMetrics()
            room = QRectF(metrics.horizontalAdvance("Dice 1 "), 3, 0, self.height() - 6.0)
            room.setRight(self.width() - metrics.horizontalAdvance("0.00") - 8.0)
            painter.setPen(QPen(faint, 1))
            for level in (room.top(), room.bottom()):
                painter.drawLine(QPointF(room.left(), level), QPointF(room.right(), level))
            painter.setPen(text)
            painter.drawText(QPointF(0, room.top() + metrics.ascent() - 3), "Dice 1")
            painter.drawText(QPointF(0, room.bottom()), "0")
            points = [self._point(moment, room) for moment in self.moments]
            painter.setPen(QPen(text, 1.5))
            painter.drawPolyline(points)
            for moment, point in zip(self.moments, points, strict=True):
                there = moment.wrong >= 0.5
                painter.setPen(QPen(text, 1))
                painter.setBrush(text if there else QColor(0, 0, 0, 0))
                painter.drawEllipse(point, 2.5, 2.5)
                if moment.step == self._step:
                    painter.setPen(QPen(QColor(colours.HERE), 2))
                    painter.setBrush(QColor(0, 0, 0, 0))
                    painter.drawEllipse(point, 5, 5)
            painter.setPen(text)
            end = points[-1]
            low = min(end.y() + 4, self.height() - 3.0)
            painter.drawText(QPointF(room.right() + 8, low), f"{self.moments[-1].dice:.2f}")

    def _point(self, moment: Moment, room: QRectF) -> QPointF:
        first, last = self.moments[0].step, self.moments[-1].step
        x = (moment.step - first) / max(1, last - first)
        return QPointF(room.left() + x * room.width(), room.bottom() - moment.dice * room.height())


class ErrorList(QWidget):  # type: ignore[misc, unused-ignore]
    """The list with its filters, the error that is looked at, and the buttons of verdicts.

    Parameters
    ----------
    display
        What the window displays.

    Attributes
    ----------
    table, search, verdicts, note
        The rows, the field of the search, the buttons by judgement ("done" ticks off), the field of the note.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.display = display
        self.painter = LabelPainter(display)
        self._exporting = LatestWork(self._on_exported, lambda error: show_error(str(error)))
        self.summary = widgets.guidance()
        self.table = ErrorTable(display)
        self.missing = widgets.guidance()
        self.about = widgets.guidance()
        self.life = Sparkline()
        self._build_filters()
        self._build_verdicts()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        head = QWidget()
        line = QHBoxLayout(head)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(widgets.heading("Errors"))
        line.addWidget(self.summary, 1, Qt.AlignmentFlag.AlignBottom)
        line.addWidget(self.export_button)
        for widget in (
            head,
            self._filters,
            self.table,
            self.missing,
            self.about,
            self.life,
            self._verdicts,
            self._painting,
            self.note,
        ):
            layout.addWidget(widget)
        for key, way in (("n", 1), ("p", -1)):
            display.viewer.bind_key(key, lambda _, w=way: display.look_at_next_error(w), overwrite=True)
        self.draw(display.screen)

    # -- making -------------------------------------------------------------------------------------------

    def _build_filters(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search the errors")
        self.search.setToolTip("Words of kind, class, place, verdict or note")
        self.search.textEdited.connect(lambda text: self._filter(text=text))
        self.kinds = _menu_button("Kinds", "Which kinds of error are listed")
        self.states = _menu_button("Verdicts", "Errors with which verdicts are listed")
        self.orders = _menu_button("Sort", "In which order")
        for kind, title in KINDS.items():
            action = self._choice(self.kinds, title, partial(self._filter_by, "kinds", kind))
            action.setIcon(kind_icon(kind))
        for state, title in STATES.items():
            self._choice(self.states, title, partial(self._filter_by, "states", state))
        for order, title in ORDERS.items():
            self._choice(self.orders, title, partial(self._order_by, order))
        self.export_button = QToolButton()
        self.export_button.setText("CSV…")
        self.export_button.setToolTip("Save the listed errors with their verdicts as a table")
        self.export_button.clicked.connect(lambda _=False: self._on_export())
        self._filters = QWidget()
        row = QHBoxLayout(self._filters)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(self.search, 1)
        for button in (self.kinds, self.states, self.orders):
            row.addWidget(button)

    def _choice(self, button: QToolButton, title: str, asked: Callable[[bool], None]) -> Any:
        action = button.menu().addAction(title)
        action.setCheckable(True)
        action.triggered.connect(lambda _=False: asked(action.isChecked()))
        return action

    def _build_verdicts(self) -> None:
        self.verdicts: dict[str, QPushButton] = {}
        titles = {
            "true_error": ("True error", "The prediction is wrong (T)"),
            "label_error": (
                "Label error",
                "The label is wrong: it is opened for painting (L in the list only says so)",
            ),
            "unclear": ("Unclear", "Nobody can say (U)"),
        }
        assert titles.keys() == JUDGEMENTS.keys()
        self._verdicts = QWidget()
        row = QHBoxLayout(self._verdicts)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        for name, (title, tip) in (
            titles | {"done": ("Tick off", "Seen; on to the next one (Enter)")}
        ).items():
            button = self.verdicts[name] = QPushButton(title)
            button.setToolTip(tip)
            button.setCheckable(True)
            row.addWidget(button, 1)
            if name == "done":
                button.clicked.connect(lambda _=False: tick_off(self.display))
            else:
                button.clicked.connect(lambda _=False, n=name: self._on_verdict(n))
            button.setStyleSheet("QPushButton { font-size: 11px; padding: 3px 2px; }")
        self._painting = QWidget()
        line = QHBoxLayout(self._painting)
        line.setContentsMargins(0, 0, 0, 0)
        self.painting_text = widgets.guidance("", widgets.AMBER)
        self.save_button, self.close_button = QPushButton("Save as new version"), QPushButton("Close")
        self.save_button.setToolTip(
            "Nothing that is there is overwritten; who, when and from which file is kept"
        )
        self.save_button.clicked.connect(lambda _=False: self.painter.save())
        self.close_button.setToolTip("Close the label without saving it")
        self.close_button.clicked.connect(lambda _=False: self.painter.close())
        line.addWidget(self.painting_text, 1)
        line.addWidget(self.save_button)
        line.addWidget(self.close_button)
        self.note = QLineEdit()
        self.note.setPlaceholderText("Note on this error")
        self.note.setAccessibleName("Note on the error")
        self.note.editingFinished.connect(self._on_note)

    # -- drawing ------------------------------------------------------------------------------------------

    def draw(self, screen: Screen) -> None:
        """Show the list of the screen, and the error that is looked at."""
        navigator, listing = screen.navigator, screen.displayed.listing
        self.table.draw(screen)
        there = bool(navigator.entries)
        for part in (self._filters, self.table, self.export_button):
            part.setVisible(there)
        widgets.say(self.summary, navigator.summary if there else "")
        widgets.say(self.missing, screen.errors_note)
        if self.search.text() != listing.filter.text:
            self.search.setText(listing.filter.text)
        _tick(self.kinds, [kind in listing.filter.kinds for kind in KINDS])
        _tick(self.states, [state in listing.filter.states for state in STATES])
        _tick(self.orders, [order == listing.order for order in ORDERS])
        widgets.say(self.about, screen.error_text)
        self.life.draw(screen.error_life, None if screen.seen is None else screen.seen.snapshot.step)
        self._draw_verdict(screen)

    def _draw_verdict(self, screen: Screen) -> None:
        entry = screen.navigator.entry
        shown = screen.displayed.error is not None
        for part in (self._verdicts, self.note):
            part.setVisible(shown)
            part.setEnabled(screen.verdict.enabled)
        verdict = None if entry is None else entry.verdict
        for name, button in self.verdicts.items():
            on = verdict is not None and (verdict.done if name == "done" else verdict.judgement == name)
            button.setChecked(on)
        self._verdicts.setToolTip(screen.verdict.why)
        widgets.say(self.painting_text, screen.painting, widgets.AMBER)
        self._painting.setVisible(bool(screen.painting))
        text = "" if verdict is None else verdict.note
        if not self.note.hasFocus() or not self.note.isModified():
            self.note.setText(text)
        self.note.setModified(self.note.isModified() and self.note.text() != text)

    def _on_verdict(self, judgement: Judgement) -> None:
        """Keep a verdict; a label that is wrong is opened for painting."""
        entry = self.display.screen.navigator.entry
        known = None if entry is None or entry.verdict is None else entry.verdict.judgement
        self.display.review.judge(judgement)
        if judgement == "label_error" and known != judgement:
            self.painter.open()

    # -- asking -------------------------------------------------------------------------------------------

    def _arrange(self, **changes: Any) -> None:
        listing = self.display.screen.displayed.listing
        self.display.issue("arrange_errors", replace(listing, **changes))

    def _order_by(self, order: Order, _: bool) -> None:
        self._arrange(order=order)

    def _filter(self, **changes: Any) -> None:
        found: Filter = self.display.screen.displayed.listing.filter
        self._arrange(filter=replace(found, **changes))

    def _filter_by(self, part: str, value: str, on: bool) -> None:
        before = getattr(self.display.screen.displayed.listing.filter, part)
        self._filter(**{part: before | {value} if on else before - {value}})

    def _on_note(self) -> None:
        if self.note.isModified():
            self.note.setModified(False)
            self.display.review.judge(note=self.note.text())

    def _on_export(self) -> None:
        screen = self.display.screen
        name = f"errors of {screen.displayed.case or 'case'}.csv"
        path, _ = QFileDialog.getSaveFileName(self, "Save the errors as a table", name, "Tables (*.csv)")
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the listed errors as CSV, as `segexplorer errors --csv` does."""
        screen = self.display.screen
        if screen.seen is None:
            return
        navigator, snapshot = screen.navigator, screen.seen.snapshot
        run = Path(screen.displayed.run or "").name

        def work() -> Path:
            atomic_write(path.absolute(), csv_text(records(navigator, snapshot, run)).encode())
            return path

        self._exporting.send(work)

    def _on_exported(self, path: Path) -> None:
        show_info(f"The errors were saved as {path}.")

    def closing(self) -> None:
        """Give the keys back."""
        self._exporting.close()
        self.painter.closing()
        for key in ("n", "p"):
            self.display.viewer.bind_key(key, None, overwrite=True)


def _menu_button(title: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(title)
    button.setToolTip(tip)
    button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    button.setStyleSheet("QToolButton { padding-right: 14px; }")
    button.setMenu(QMenu(button))
    return button


def _tick(button: QToolButton, ticks: Sequence[bool]) -> None:
    for action, on in zip(button.menu().actions(), ticks, strict=True):
        action.setChecked(on)


def kind_icon(kind: ErrorKind) -> QIcon:
    """Return the sign of a kind of error: its colour in the picture, filled for objects, open for boundaries."""
    return swatch(errors.COLOURS[KIND_CODES[kind]], "ring" if kind in ("too_little", "too_much") else "disc")


@cache  # a table of errors has a hundred, of a few kinds
def swatch(colour: str, shape: str) -> QIcon:
    """Return a small "square", "disc" or "ring" of a colour."""
    picture = QPixmap(24, 24)
    picture.fill(QColor(0, 0, 0, 0))
    with QPainter(picture) as painter:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(colour), 5) if shape == "ring" else QPen(Qt.PenStyle.NoPen))
        painter.setBrush(QColor(0, 0, 0, 0) if shape == "ring" else QColor(colour))
        if shape == "square":
            painter.drawRect(QRectF(1, 1, 22, 22))
        else:
            painter.drawEllipse(QRectF(3, 3, 18, 18))
    return QIcon(picture)


def _short(volume: float) -> str:
    return f"{volume:.0f}" if volume >= 10 else f"{volume:.1f}" if volume >= 0.1 else f"{volume:.2f}"
