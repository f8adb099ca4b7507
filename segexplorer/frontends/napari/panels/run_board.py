"""*Watch runs…*: a board of the runs in a folder, whoever trains them, below the canvas; kept up to date.

A double click shows a run: one that another process trains as it goes on, any other as it was recorded. The folder
is read by a worker; the table draws rows that `viewmodels.board` has sorted and filtered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QMainWindow,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.printable import printable
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.napari import theme
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.viewmodels.board import COLUMNS, Board, BoardRow, BoardView, Column, columns_with

NAME = "Runs (Segmentation Explorer)"
"""With what tells it apart in front: the end of a narrow tab's title is cut off."""
EVERY_MS = 2000
_RIGHT = {"progress", "best", "loss", "left", "updated"}
_WIDTHS: dict[Column, int] = {
    "state": 84,
    "progress": 124,
    "best": 72,
    "loss": 64,
    "left": 72,
    "updated": 104,
}
_LEAST: dict[Column, int] = {"name": 84, "problem": 120}
"""Of columns that take what the others leave."""
_RANKS: tuple[Column, ...] = ("name", "state", "progress", "best", "problem", "left", "updated", "loss")
"""Columns by their importance; those at the end go where the table is narrow, and stay in the tool tip."""
_HEIGHT = 300
_TROUBLE = {"failed", "interrupted", "unreadable"}


class BoardModel(QAbstractTableModel):  # type: ignore[misc, unused-ignore]
    """The rows of a board for a Qt table; asks nothing of the folder."""

    def __init__(self, is_dark: Callable[[], bool]) -> None:
        super().__init__()
        self._is_dark = is_dark
        self.rows: list[BoardRow] = []
        self._cells: list[dict[Column, str]] = []
        self._columns = list(COLUMNS)

    def show_rows(self, rows: list[BoardRow]) -> None:
        """Show rows; the view keeps its place where only numbers have changed."""
        now = time.time()
        cells = [row.cells(now) for row in rows]
        if [r.folder for r in rows] == [r.folder for r in self.rows]:
            self.rows, self._cells = rows, cells
            if rows:
                self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(self._columns) - 1))
            return
        self.beginResetModel()
        self.rows, self._cells = rows, cells
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008  Qt's signature
        """Return the number of runs."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008  Qt's signature
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self._columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell's text, alignment, colour or tool tip."""
        if not index.isValid():
            return None
        column, cells = self._columns[index.column()], self._cells[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return printable(cells[column])
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(f"{COLUMNS[c]}: {printable(text)}" for c, text in cells.items() if text)
        if role == Qt.ItemDataRole.TextAlignmentRole and column in _RIGHT:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        trouble = column in ("state", "problem") and self.rows[index.row()].state in _TROUBLE
        if role == Qt.ItemDataRole.ForegroundRole and trouble:
            return QColor(appearance.colour("red", dark=self._is_dark()))
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the heading of a column."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[self._columns[section]]
        return None


class RunBoard(QWidget):  # type: ignore[misc, unused-ignore]
    """A table of runs that follows a folder.

    Parameters
    ----------
    is_dark
        Whether the window is dark now.

    Attributes
    ----------
    run_chosen
        psygnal signal (Path): the user wants to see this run.
    table, filter, summary
        What is drawn, for those who drive the window.
    view
        How it is looked at now.
    """

    run_chosen = Signal(object)

    def __init__(self, is_dark: Callable[[], bool] = lambda: True) -> None:
        super().__init__()
        self.board: Board | None = None
        self.view = BoardView()
        self._before_look: Callable[[], None] | None = None
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Words that name, state or problem contains")
        self.filter.setAccessibleName("Filter of the runs")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self._on_filter)
        choose = QPushButton("Folder…")
        choose.setToolTip("Watch another folder of runs")
        choose.clicked.connect(lambda _=False: self.ask())
        self.show_button = QPushButton("Show run")
        self.show_button.setToolTip("Show the chosen run: curves, predictions and errors, as it goes on")
        self.show_button.clicked.connect(lambda _=False: self._show_chosen())
        self.summary = widgets.guidance("No folder is watched yet: choose one with Folder…")
        self.problem = widgets.guidance("", widgets.AMBER)
        self.model = BoardModel(is_dark)
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setAccessibleName("Runs")
        self.table.setTabKeyNavigation(False)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setWordWrap(False)
        self.table.verticalHeader().setVisible(False)
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.activated.connect(lambda _: self._show_chosen())
        header = self.table.horizontalHeader()
        header.setSectionsClickable(True)
        header.setSortIndicatorShown(True)
        header.sectionClicked.connect(self._on_header)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for number, column in enumerate(COLUMNS):
            if column in _WIDTHS:
                self.table.setColumnWidth(number, _WIDTHS[column])
            else:
                header.setSectionResizeMode(number, QHeaderView.ResizeMode.Stretch)
        top = QHBoxLayout()
        for widget, share in ((self.filter, 1), (choose, 0), (self.show_button, 0)):
            top.addWidget(widget, share)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(top)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.summary)
        layout.addWidget(self.problem)
        self._looking = LatestWork(self._on_looked, self._on_failed, newest_only=True)
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self.look)
        self._used: list[Column] = list(COLUMNS)
        self.show_view(self.view)

    def resizeEvent(self, event: Any) -> None:
        """Show the columns that have room."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Hide the least important columns of those with something in them until the rest has room."""
        room = self.table.viewport().width()
        shown: list[Column] = []
        for column in (rank for rank in _RANKS if rank in self._used):
            needed = _LEAST.get(column) or _WIDTHS[column]
            if not shown or needed <= room:
                shown.append(column)
                room -= needed
        for number, column in enumerate(COLUMNS):
            self.table.setColumnHidden(number, column not in shown)

    def ask(self) -> None:
        """Ask for a folder and watch it."""
        start = str(self.board.folder) if self.board is not None else ""
        folder = QFileDialog.getExistingDirectory(self, "A folder of runs, or a study", start)
        if folder:
            self.watch(Path(folder))

    def watch(self, folder: Path, before_look: Callable[[], None] | None = None) -> None:
        """Follow a folder; `before_look` brings it up to date where it is a copy, in the worker."""
        self.board, self._before_look = Board(folder), before_look
        widgets.say(self.summary, f"Looking for runs in {folder}…")
        self.look()
        self._timer.start()

    def look(self) -> None:
        """Read again what has changed, in the worker."""
        board, before = self.board, self._before_look
        if board is None or self._looking.busy:
            return

        def work() -> tuple[Board, str]:
            problem = ""
            try:
                if before is not None:
                    before()
            except SegExplorerError as error:  # the other computer may answer again
                problem = str(error)
            board.refresh()
            return board, problem

        self._looking.send(work)

    def show_view(self, view: BoardView) -> None:
        """Sort and filter as a view says."""
        self.view = view
        columns = list(COLUMNS)
        order = Qt.SortOrder.DescendingOrder if view.backwards else Qt.SortOrder.AscendingOrder
        self.table.horizontalHeader().setSortIndicator(columns.index(view.by), order)
        if self.board is not None:
            chosen = self.chosen
            rows = view.rows(self.board)
            self.model.show_rows(rows)
            self._used = columns_with(rows, time.time()) if rows else columns
            self._fit()
            if chosen is not None:
                self._choose(chosen.folder)

    @property
    def chosen(self) -> BoardRow | None:
        """The row that is selected."""
        rows = self.table.selectionModel().selectedRows()
        return self.model.rows[rows[0].row()] if rows and rows[0].row() < len(self.model.rows) else None

    def _choose(self, folder: Path) -> None:
        at = next((n for n, row in enumerate(self.model.rows) if row.folder == folder), None)
        if at is not None:
            self.table.selectRow(at)

    def _show_chosen(self) -> None:
        row = self.chosen
        if row is None:
            widgets.say(self.problem, "Choose a run in the table first.", widgets.AMBER)
            return
        self.run_chosen.emit(row.folder)

    def _on_looked(self, answer: tuple[Board, str]) -> None:
        board, problem = answer
        if board is not self.board:
            return
        self.show_view(self.view)
        widgets.say(self.summary, f"{board.folder}: {board.summary()}")
        widgets.say(self.problem, problem, widgets.AMBER)

    def _on_failed(self, error: SegExplorerError) -> None:
        widgets.say(self.problem, str(error), widgets.RED)

    def _on_filter(self, text: str) -> None:
        self.show_view(replace(self.view, text=text))

    def _on_header(self, section: int) -> None:
        self.show_view(self.view.sorted_by(list(COLUMNS)[section]))

    def closing(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._looking.close()
        self.run_chosen.disconnect()


def _make_room(board: RunBoard) -> None:
    """Give a table that has just come a third of the window, which is more than the plots beside it ask for."""
    main, holder = board.window(), board.parent()
    if isinstance(main, QMainWindow):

        def settle() -> None:
            if board.parent() is holder:
                main.resizeDocks([holder], [_HEIGHT], Qt.Orientation.Vertical)

        QTimer.singleShot(0, board, settle)


class BoardButton(QPushButton):  # type: ignore[misc, unused-ignore]
    """Opens the board below the canvas, and asks for the first folder.

    Parameters
    ----------
    viewer
        The napari viewer.
    show_run
        Shows the run of a folder.
    """

    def __init__(self, viewer: Any, show_run: Callable[[Path], None]) -> None:
        super().__init__("Watch runs…")
        self.setToolTip(
            "A board of the runs in a folder, whoever trains them: state, progress, best, problems"
        )
        self._viewer, self._show_run = viewer, show_run
        self.board: RunBoard | None = None
        self.clicked.connect(lambda _=False: self.ask())

    def ask(self) -> None:
        """Show the board, and ask for a folder where none is watched."""
        board = self.show_board()
        if board.board is None:
            board.ask()

    def show_board(self) -> RunBoard:
        """Show the board below the canvas, also after its dock was closed."""
        if self.board is None:
            self.board = RunBoard(lambda: theme.is_dark(self._viewer))
            self.board.run_chosen.connect(self._show_run)
        board = self.board
        if board.parent() is None:
            self._viewer.window.add_dock_widget(
                board, name=NAME, area="bottom", add_vertical_stretch=False, tabify=True
            )
            _make_room(board)
        dock = board.parentWidget()
        if dock is not None:
            dock.show()
            dock.raise_()
        return board

    def closing(self) -> None:
        """Look no more."""
        if self.board is not None:
            self.board.closing()
