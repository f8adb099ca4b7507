"""How forms look: the few measures and colours, and the one place that touches the toolkit below magicgui."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import Container, Label
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget

from segexplorer.faces.forms.tones import set_tone

LABEL_WIDTH = 124
"""Pixels of the label column; with it a form reads well in a dock of 320 to 420 pixels."""
INDENT = 10
"""Pixels by which the settings of a nested spec are moved in."""
_SMALL = "font-size: 11px;"


def row(*widgets: Any) -> Any:
    """Return the widgets side by side, without margins."""
    return _tight(Container(widgets=list(widgets), layout="horizontal", labels=False))


def column(*widgets: Any, indent: int = 0) -> Any:
    """Return the widgets below each other, without margins, moved in by `indent` pixels."""
    made = _tight(Container(widgets=list(widgets), layout="vertical", labels=False))
    made.margins = (indent, 0, 0, 0)
    return made


def _tight(container: Any) -> Any:
    container.margins = (0, 0, 0, 0)
    layout = container.native.layout()
    if layout is not None:
        layout.setSpacing(4)
    container.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    return container


def title_label(text: str, tooltip: str) -> Any:
    """Return the label of a field; long titles wrap within the label column."""
    label = Label(value=text, tooltip=tooltip)
    label.native.setWordWrap(True)
    label.native.setFixedWidth(LABEL_WIDTH)
    return label


def hint_label(text: str) -> Any:
    """Return small grey text: a unit, a range."""
    label = Label(value=text)
    label.native.setStyleSheet(_SMALL)
    set_tone(label.native, "grey")
    label.native.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
    return label


def note_label(text: str = "") -> Any:
    """Return small grey text that wraps over the whole width, selectable; hidden while it is empty."""
    label = Label(value=text, visible=bool(text))
    label.native.setStyleSheet(_SMALL)
    set_tone(label.native, "grey")
    _wrap(label.native)
    label.native.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def problem_label() -> Any:
    """Return the (hidden) place under a field where its problem is told in red."""
    label = Label(value="", visible=False)
    label.native.setStyleSheet(_SMALL)
    set_tone(label.native, "red")
    _wrap(label.native)
    return label


def tell(label: Any, text: str) -> None:
    """Show a text in a label, or hide the label when there is nothing to say."""
    if label.value != text:
        label.value = text
    if label.visible != bool(text):
        label.visible = bool(text)


def button_like_text(button: Any, *, bold: bool = False) -> None:
    """Make a push button look like a heading that can be clicked."""
    weight = "bold" if bold else "normal"
    button.native.setStyleSheet(
        f"QPushButton {{ text-align: left; border: none; background: transparent; padding: 3px 0;"
        f" font-weight: {weight}; }}"
    )


def small(button: Any) -> None:
    """Keep a button as narrow as its text."""
    button.native.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    button.native.setStyleSheet("padding: 2px 6px;")


def elastic(widget: Any) -> None:
    """Let a field shrink below the width of its longest text, and take the room that is left."""
    native = widget.native
    native.setMinimumWidth(60)
    native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def guard_wheel(widget: Any) -> None:
    """Keep the mouse wheel from changing a field that nobody has clicked: a form is scrolled with it."""
    native: QWidget = widget.native
    native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    guard = _WheelGuard(native)
    native.installEventFilter(guard)


def _wrap(native: Any) -> None:
    native.setWordWrap(True)
    native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)


class _WheelGuard(QObject):  # type: ignore[misc, unused-ignore]
    """Event filter that sends wheel events on to the parent while the field has no focus."""

    def eventFilter(self, watched: Any, event: Any) -> bool:
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


def texts(values: Sequence[Any]) -> list[str]:
    """Return choices as people read them: underscores become spaces, None becomes "none"."""
    return ["none" if v is None else str(v).replace("_", " ") for v in values]
