"""The table of classes: colour, name, label values, volume, and a bar that shows how unequal they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.colours import ClassColours
from segexplorer.core.errors import SpecError
from segexplorer.frontends.napari.panels import widgets
from segexplorer.viewmodels.layer_images import class_volume
from segexplorer.viewmodels.regions import millilitres

_NAME, _VALUES, _VOLUME, _BAR = range(1, 5)


class ClassTable(QWidget):  # type: ignore[misc, unused-ignore]
    """Rows of classes in the order of their indices 1, 2, ...

    Attributes
    ----------
    changed
        psygnal signal, after the user changed a class.
    table
        Columns: colour, name, label values, volume, share.
    keep_button
        Keeps the selected rows alone.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._volumes: Mapping[int, float] = {}
        self._total = 0.0
        self._filling = False
        self._editable = True
        self.table = widgets.prepare_table(QTableWidget(0, 5), "Classes")
        self.table.setHorizontalHeaderLabels(["", "Class", "Values", "Volume", "Share"])
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in ((0, 22), (_VALUES, 48), (_VOLUME, 66), (_BAR, 46)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.table.setColumnWidth(column, width)
        self.table.itemChanged.connect(self._on_edit)
        add, remove = QPushButton("Add class"), QPushButton("Remove")
        self.keep_button = keep = QPushButton("Keep only selected")
        self.table.itemSelectionChanged.connect(self._on_selection)
        add.clicked.connect(self._add)
        remove.clicked.connect(self._remove)
        keep.clicked.connect(self._keep)
        self._buttons = QWidget()
        buttons = QHBoxLayout(self._buttons)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(add)
        buttons.addWidget(remove)
        buttons.addWidget(keep)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addWidget(self._buttons)
        self.set_classes({})
        self._on_selection()

    def classes(self) -> dict[str, tuple[int, ...]]:
        """Return name -> label values.

        Raises
        ------
        SpecError
            When a name is empty or double, or a value is no whole number.
        """
        found: dict[str, tuple[int, ...]] = {}
        for row in range(self.table.rowCount()):
            name = self._text(row, _NAME)
            if not name:
                raise SpecError(f"Class {row + 1} has no name.", "Type one into the table of classes.")
            if name in found:
                raise SpecError(f"Two classes are called {name!r}.", "Give each its own name.")
            found[name] = _values(name, self._text(row, _VALUES))
        return found

    def set_classes(
        self,
        classes: Mapping[str, tuple[int, ...]],
        volumes: Mapping[int, float] | None = None,
        total: float = 0,
    ) -> None:
        """Show classes, with the volume of each label value in ml where it is known, and of the whole picture."""
        self._volumes, self._total = dict(volumes or {}), total
        self._filling = True
        self.table.setRowCount(0)
        for name, values in classes.items():
            self._append(name, values)
        self._filling = False
        self._measure()

    def set_editable(self, editable: bool) -> None:
        """Let the classes be changed, or only be looked at: those of a data set are changed in its form."""
        self._editable = editable
        self._buttons.setVisible(editable)
        triggers = QAbstractItemView.EditTrigger
        self.table.setEditTriggers(
            triggers.DoubleClicked | triggers.EditKeyPressed | triggers.AnyKeyPressed
            if editable
            else triggers.NoEditTriggers
        )

    def measure(self, volumes: Mapping[int, float], total: float) -> None:
        """Show the volumes of another case, or of all; the classes stay."""
        self._volumes, self._total = dict(volumes), total
        self._measure()

    def _append(self, name: str, values: tuple[int, ...]) -> None:
        row = self.table.rowCount()
        self.table.insertRow(row)
        swatch = widgets.text_item("", f"Colour of class {row + 1}")
        colour = ClassColours().colour(row + 1)
        swatch.setBackground(QColor(colour))
        swatch.setFlags(Qt.ItemFlag.NoItemFlags)
        self.table.setItem(row, 0, swatch)
        self.table.setItem(row, _NAME, widgets.text_item(name))
        self.table.setItem(row, _VALUES, widgets.number_item(", ".join(map(str, values))))
        volume = widgets.number_item("")
        volume.setFlags(Qt.ItemFlag.ItemIsEnabled)
        self.table.setItem(row, _VOLUME, volume)
        bar = QProgressBar()
        bar.setTextVisible(False)
        bar.setStyleSheet(
            "QProgressBar { margin: 7px 3px; border: none; max-height: 12px; }"
            f"QProgressBar::chunk {{ background: {colour}; }}"
        )
        self.table.setCellWidget(row, _BAR, bar)

    def _measure(self) -> None:
        """Write volumes and bars; a bar's length is logarithmic: a lesion of 0.1 ml beside a liver is seen."""
        self._filling = True
        for row in range(self.table.rowCount()):
            try:
                values = _values("", self._text(row, _VALUES))
            except SpecError:
                values = ()
            volume = class_volume(self._volumes, values)
            self.table.item(row, _VOLUME).setText(millilitres(volume) if self._volumes else "")
            self.table.item(row, _NAME).setToolTip(self._text(row, _NAME))
            self.table.item(row, _VALUES).setToolTip(self._text(row, _VALUES))
            bar: Any = self.table.cellWidget(row, _BAR)
            share = volume / self._total if self._total else 0.0
            bar.setValue(bar_length(share))
            told = f"{100 * share:.3g} % of the picture; the bar is logarithmic"
            bar.setToolTip(told)
            bar.setAccessibleName(f"{self._text(row, _NAME)}: {told}")
        self.table.setVisible(self.table.rowCount() > 0)
        self.table.setFixedHeight(28 + 26 * max(2, min(8, self.table.rowCount())))
        for row in range(self.table.rowCount()):
            self.table.setRowHeight(row, 26)
        self._filling = False

    def _on_edit(self, _: Any) -> None:
        if not self._filling:
            self._measure()
            self.changed.emit()

    def _add(self) -> None:
        taken = {value for row in range(self.table.rowCount()) for value in _whole(self._text(row, _VALUES))}
        free = next((value for value in self._volumes if value not in taken), max(taken, default=0) + 1)
        self._filling = True
        self._append(f"label {free}", (free,))
        self._filling = False
        self._measure()
        self.changed.emit()

    def _selected(self) -> set[int]:
        return {index.row() for index in self.table.selectionModel().selectedRows()}

    def _remove(self) -> None:
        gone = self._selected() or {self.table.rowCount() - 1}
        self._keep_rows(set(range(self.table.rowCount())) - gone)

    def _on_selection(self) -> None:
        widgets.enable(
            self.keep_button,
            bool(self._selected()),
            "Of many labels, keep the rows that are selected.",
            "Select the rows to keep first; Ctrl-click selects several.",
        )

    def _keep(self) -> None:
        if self._selected():
            self._keep_rows(self._selected())

    def _keep_rows(self, rows: set[int]) -> None:
        kept = [(self._text(row, _NAME), tuple(_whole(self._text(row, _VALUES)))) for row in sorted(rows)]
        self.set_classes(dict(kept), self._volumes, self._total)
        self.changed.emit()

    def _text(self, row: int, column: int) -> str:
        item = self.table.item(row, column)
        return item.text().strip() if item is not None else ""


def shared_value(classes: Mapping[str, tuple[int, ...]]) -> str:
    """Return which label value two classes have, as a sentence; "" where no two share one."""
    owner: dict[int, str] = {}
    for name, values in classes.items():
        for value in values:
            if value in owner:
                return f"The label value {value} is of both {owner[value]} and {name}."
            owner[value] = name
    return ""


def bar_length(share: float) -> int:
    """Return 0 to 100 for a share of the picture: 100 is all of it, 0 a millionth or less."""
    return round(100 * max(0.0, 1 + math.log10(share) / 6)) if share > 0 else 0


def _whole(text: str) -> list[int]:
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    return [int(part) for part in parts if part.lstrip("-").isdigit()]


def _values(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    values = tuple(_whole(text))
    if not values or len(values) != len(parts):
        raise SpecError(f"Class {name!r} has the label values {text!r}.", "Write whole numbers, e.g. 2, 3.")
    return values
