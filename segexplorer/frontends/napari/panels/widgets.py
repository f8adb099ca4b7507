"""Small parts that the panels share: a heading, guidance, a row, a column that scrolls."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from segexplorer.core.printable import printable
from segexplorer.frontends.forms.appearance import Tone, set_tone

RED: Tone = "red"
AMBER: Tone = "amber"
GREY: Tone = "grey"


def heading(text: str) -> QLabel:
    """Return the heading of a section."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold; margin-top: 6px;")
    return label


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
