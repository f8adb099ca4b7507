"""A question on opening a folder of several DICOM series: which of them? Facts only, no patient data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segexplorer.data.formats.dicom.series import Series

_COLUMNS = ("series", "kind", "modality", "voxels", "spacing mm", "orientation", "files", "notes")


class SeriesPicker(QDialog):  # type: ignore[misc, unused-ignore]
    """A table of series, of which one or more are chosen; the largest that can be opened at first.

    Parameters
    ----------
    series
        What there is to choose from.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        super().__init__(QApplication.activeWindow())
        self.setWindowTitle("Segmentation Explorer: several series")
        self._series = tuple(series)
        self.table = QTableWidget(len(self._series), len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        for row, one in enumerate(self._series):
            for column, name in enumerate(_COLUMNS):
                item = QTableWidgetItem(one.facts[name])
                if one.problem is not None:
                    item.setFlags(Qt.ItemFlag.NoItemFlags)
                self.table.setItem(row, column, item)
        self.table.resizeColumnsToContents()
        self.table.horizontalHeader().setSectionResizeMode(
            len(_COLUMNS) - 1, QHeaderView.ResizeMode.ResizeToContents
        )
        self.table.doubleClicked.connect(self.accept)
        best = max(range(len(self._series)), key=self._voxels)
        self.table.selectRow(best)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel("There are several series here. Choose one, or more with Ctrl."))
        layout.addWidget(self.table)
        layout.addWidget(buttons)
        self.resize(760, 320)

    def _voxels(self, row: int) -> int:
        one = self._series[row]
        count = 1
        for n in one.shape:
            count *= n
        return 0 if one.problem is not None else count

    def chosen(self) -> tuple[int, ...]:
        """Return the numbers of the chosen series, in their order."""
        rows = sorted(index.row() for index in self.table.selectionModel().selectedRows())
        return tuple(self._series[row].number for row in rows if self._series[row].problem is None)


def ask(series: Sequence[Series]) -> tuple[int, ...] | None:
    """Ask the user; () when the question was waved away, None where nobody can be asked (no window)."""
    if QApplication.instance() is None:
        return None
    picker = SeriesPicker(series)
    try:
        return picker.chosen() if picker.exec() == QDialog.DialogCode.Accepted else ()
    finally:
        picker.deleteLater()
