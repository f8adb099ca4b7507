"""The legend in the dock: what the colours mean that are drawn now, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from segexplorer.core import colours
from segexplorer.viewmodels.errors import LegendEntry

_SIDE, _ROW = 14, 20
_MOST_ROWS = 4
_COLUMN = 170
"""Least width of a column; a narrower dock has one."""


class Legend(QListWidget):  # type: ignore[misc, unused-ignore]
    """Swatches and names in columns; long names are shortened in the middle, and many entries scroll."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Legend")
        self.setFlow(QListWidget.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QListWidget.Shape.NoFrame)
        self.setStyleSheet("QListWidget { background: transparent; } QListWidget::item { padding: 0; }")
        self._entries: tuple[LegendEntry, ...] = ()
        self.draw(())

    @property
    def names(self) -> tuple[str, ...]:
        """What can be read, whole."""
        return tuple(entry.name for entry in self._entries)

    def draw(self, entries: Sequence[LegendEntry]) -> None:
        """Show these entries."""
        if tuple(entries) != self._entries:
            self._entries = tuple(entries)
            self.clear()
            for entry in entries:
                item = QListWidgetItem(QIcon(_swatch(entry)), entry.name)
                item.setToolTip(entry.name)
                item.setFlags(Qt.ItemFlag.ItemIsEnabled)
                self.addItem(item)
            self._arrange()
        self.setVisible(bool(self._entries))

    def resizeEvent(self, event: Any) -> None:
        """Arrange the columns anew."""
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        columns = max(1, min(2, self.width() // _COLUMN))
        rows = -(-len(self._entries) // columns)
        scrolls = rows > _MOST_ROWS
        policy = Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(policy.ScrollBarAlwaysOn if scrolls else policy.ScrollBarAlwaysOff)
        bar = self.verticalScrollBar().sizeHint().width() if scrolls else 0
        size = QSize(max(40, (self.width() - bar - 4) // columns), _ROW)
        self.setGridSize(size)
        for place in range(self.count()):
            self.item(place).setSizeHint(size)
        self.setFixedHeight(max(1, min(rows, _MOST_ROWS)) * _ROW + 4)


def _swatch(entry: LegendEntry) -> QPixmap:
    """Return how an entry is drawn; lines on a grey like that of an image, on which both can be seen."""
    pixmap = QPixmap(_SIDE, _SIDE)
    pixmap.fill(QColor(colours.UNKNOWN) if entry.form == "line" else Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    whole = QRectF(0, 0, _SIDE, _SIDE)
    if entry.form == "fill":
        painter.fillRect(whole, QColor(entry.colour))
    elif entry.form == "outline":
        painter.setPen(QPen(QColor(colours.RIM), 6))
        painter.drawRect(whole.adjusted(2, 2, -2, -2))
        painter.setPen(QPen(QColor(entry.colour), 3))
        painter.drawRect(whole.adjusted(2, 2, -2, -2))
    else:
        painter.fillRect(QRectF(0, _SIDE / 2 - 1.5, _SIDE, 3), QColor(entry.colour))
    painter.end()
    return pixmap
