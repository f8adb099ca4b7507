"""How forms look: measures, colours, and the one place that touches the toolkit below magicgui.

A text knows only its tone ("problem", "note" ...). The window that holds it sets one style sheet for all
tones, and replaces it when its theme changes, so that texts stay readable on dark and on light backgrounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from magicgui.widgets import Container, Label
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget

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
    """Return the (hidden) place under a field where its problem is shown in red."""
    label = Label(value="", visible=False)
    label.native.setStyleSheet(_SMALL)
    set_tone(label.native, "red")
    _wrap(label.native)
    return label


def show_text(label: Any, text: str) -> None:
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


Tone = Literal["grey", "amber", "red", "green"]
_COLOURS: Mapping[Tone, tuple[str, str]] = {
    "grey": ("#a3a9b1", "#5b6068"),
    "amber": ("#e6b450", "#805300"),
    "red": ("#ff7b68", "#b3261e"),
    "green": ("#5fc08a", "#1a6e44"),
}
"""On dark, on light: each at least 4.5 to 1 against napari's backgrounds (WCAG 2.1, 1.4.3)."""


def set_tone(native: Any, tone: Tone) -> None:
    """Give a Qt label its tone; drawn anew where it had another."""
    if native.property("tone") == tone:
        return
    native.setProperty("tone", tone)
    style = native.style()
    style.unpolish(native)
    style.polish(native)


def colour(tone: Tone, *, dark: bool) -> str:
    """Return the colour of a tone, "#RRGGBB"."""
    return _COLOURS[tone][0 if dark else 1]


def style_sheet(*, dark: bool) -> str:
    """Return the style sheet for a window that holds texts with tones."""
    rules = (f'QLabel[tone="{tone}"] {{ color: {colour(tone, dark=dark)}; }}' for tone in _COLOURS)
    return "\n".join(rules)
