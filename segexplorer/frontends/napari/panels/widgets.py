"""Small parts that the panels share: a heading, guidance, a row, a column that scrolls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.printable import printable
from segexplorer.frontends.forms.appearance import Section, Tone, set_tone

RED: Tone = "red"
AMBER: Tone = "amber"
GREY: Tone = "grey"
DENSE_ROW = 22
"""Height of a row in tables of small letters, in pixels."""
_NAME_PX = 100
"""From this width on a name that is shortened in its middle can be told from its neighbours, swatch included."""


def heading(text: str) -> QLabel:
    """Return the heading of a section."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold; margin-top: 6px;")
    return label


def section(title: str, *widgets: QWidget, key: str) -> Section:
    """Return widgets below a heading that folds them away; whether it does is remembered under `key`."""
    body = QWidget()
    layout = QVBoxLayout(body)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    return Section(title, body, key=key, bold=True, indent=0)


def guidance(text: str = "", tone: Tone = GREY) -> QLabel:
    """Return text that wraps, in small print; hidden while it is empty."""
    label = QLabel(text)
    label.setWordWrap(True)
    set_tone(label, tone)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setVisible(bool(text))
    return label


def say(label: QLabel, text: str, tone: Tone = GREY, *, rich: bool = False) -> None:
    """Put a text into a guidance label, or hide it; plain unless `rich`, since it may quote a name from a file."""
    label.setTextFormat(Qt.TextFormat.RichText if rich else Qt.TextFormat.PlainText)
    label.setText(printable(text, lines=True))
    set_tone(label, tone)
    label.setVisible(bool(text))
    label.updateGeometry()  # with its first appearance it gets padding, which Qt's layouts do not notice


class ElidedLabel(QLabel):  # type: ignore[misc, unused-ignore]
    """One line of small print, shortened in its middle where it does not fit; the tool tip says all of it."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        set_tone(self, GREY)
        self.hide()

    def text(self) -> str:
        """Return the whole text."""
        return self._whole

    def setText(self, text: str) -> None:
        """Show another text."""
        self._whole = text
        self.setToolTip(text)
        self._fit()

    def resizeEvent(self, event: object) -> None:
        """Shorten the text anew."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        room = max(20, self.width() - 10)  # the style sheet pads labels
        middle = Qt.TextElideMode.ElideMiddle
        super().setText(self.fontMetrics().elidedText(self._whole, middle, room))


def enable(button: QPushButton, enabled: bool, what: str, why_not: str) -> None:
    """Enable or disable a button; its tool tip says what it does, or why it cannot be pressed now."""
    button.setEnabled(enabled)
    button.setToolTip(what if enabled else why_not)


def row(*widgets: QWidget) -> QWidget:
    """Return the widgets side by side, equally wide where they may be."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1 if widget.sizePolicy().expandingDirections() else 0)
    return made


def scrolled(*widgets: QWidget) -> QScrollArea:
    """Return the widgets in a column that scrolls up and down, never sideways."""
    inside = QWidget()
    layout = QVBoxLayout(inside)
    layout.setContentsMargins(8, 4, 8, 8)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inside)
    return area


def bring_to_front(widget: QWidget) -> None:
    """Bring the tab that a widget is in to the front."""
    inner, outer = widget, widget.parentWidget()
    while outer is not None:
        if isinstance(outer, QTabWidget):
            outer.setCurrentWidget(inner)
            return
        if not isinstance(outer, QStackedWidget):  # a tab widget keeps its pages in one
            inner = outer
        outer = outer.parentWidget()


def prepare_table(table: QTableWidget, name: str) -> QTableWidget:
    """Let a table be left with Tab, shorten long texts in the middle, and give it an accessible name."""
    table.setTabKeyNavigation(False)
    table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    table.setWordWrap(False)
    table.verticalHeader().setVisible(False)
    table.setAccessibleName(name)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return table


def has_room_for_names(table: QTableWidget, columns: Mapping[int, int]) -> bool:
    """Whether names in the first column of a table are whole or wide enough to be told apart beside others.

    Parameters
    ----------
    columns
        Column -> its width in pixels.
    """
    room = table.viewport().width() - sum(columns.values())
    return bool(room >= min(table.sizeHintForColumn(0), _NAME_PX))


def text_item(text: str, tooltip: str = "") -> QTableWidgetItem:
    """Return a cell whose tool tip is its whole text, or what is said instead."""
    item = QTableWidgetItem(text)
    item.setToolTip(tooltip or text)
    return item


def number_item(text: str, tooltip: str = "") -> QTableWidgetItem:
    """Return a cell with a number, aligned to the right."""
    item = text_item(text, tooltip)
    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item


class ElidedComboBox(QComboBox):  # type: ignore[misc, unused-ignore]
    """A combo box of long names: it shrinks, shortens its text in the middle, and shows all of it as a tool tip."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setMinimumContentsLength(8)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)

    def event(self, event: Any) -> bool:
        """Show the whole text as the tool tip: that of now, also where it was chosen without a signal."""
        if event.type() == QEvent.Type.ToolTip and not self.toolTip():
            QToolTip.showText(event.globalPos(), self.currentText(), self)
            return True
        return bool(super().event(event))

    def paintEvent(self, event: object) -> None:
        """Draw the text shortened in the middle, where the style would cut it off."""
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        room = max(20, field.width() - 6)
        option.currentText = self.fontMetrics().elidedText(
            self.currentText(), Qt.TextElideMode.ElideMiddle, room
        )
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
