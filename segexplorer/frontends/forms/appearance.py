"""How forms look: measures, colours, and the one place that touches the toolkit below magicgui.

A text knows only its tone ("problem", "note" ...). The window that holds it sets one style sheet for all
tones, and replaces it when its theme changes, so that texts stay readable on dark and on light backgrounds.
What a user folded away is kept in the settings of the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from magicgui.widgets import Container, Label, PushButton
from qtpy.QtCore import QEvent, QObject, QSettings, Qt
from qtpy.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

LABEL_WIDTH = 124
"""Pixels of the label column; with it a form reads well in a dock of 320 to 420 pixels."""
INDENT = 10
"""Pixels by which the settings of a nested spec are moved in."""
NUMBER_WIDTH = 74
"""Pixels of a number beside its slider: eight digits."""
_SMALL = "font-size: 11px;"
_LABEL_LINES = 2
"""A title that needs more lines than these in the label column is written above its field."""


def row(*widgets: Any) -> Any:
    """Return the widgets side by side, without margins."""
    return _tight(Container(widgets=list(widgets), layout="horizontal", labels=False))


def column(*widgets: Any, indent: int = 0) -> Any:
    """Return the widgets below each other, without margins, moved in by `indent` pixels."""
    made = _tight(Container(widgets=list(widgets), layout="vertical", labels=False))
    made.margins = (indent, 0, 0, 0)
    return made


def field_row(label: Any, editor: Any, room: int) -> Any:
    """Return a label beside its editor, or above it where that leaves the editor less than `room` pixels."""
    made = row(label, editor)
    made.native.installEventFilter(_Wrapping(made.native, label.native, room))
    return made


def _tight(container: Any) -> Any:
    container.margins = (0, 0, 0, 0)
    layout = container.native.layout()
    if layout is not None:
        layout.setSpacing(4)
    container.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    return container


class _Wrapping(QObject):  # type: ignore[misc, unused-ignore]
    """Event filter of a row that puts the label above the field when the row is narrow."""

    def __init__(self, row: QWidget, label: QLabel, room: int) -> None:
        super().__init__(row)
        self._label, self._room = label, room
        self._stacked: bool | None = None

    def eventFilter(self, watched: Any, event: Any) -> bool:
        if event.type() in {QEvent.Type.Resize, QEvent.Type.Show}:
            self._arrange(watched)
        return False

    def _arrange(self, row: QWidget) -> None:
        lines = self._label.heightForWidth(LABEL_WIDTH) / max(1, self._label.fontMetrics().lineSpacing())
        stacked = row.width() < LABEL_WIDTH + 4 + self._room or lines > _LABEL_LINES + 0.5
        if stacked == self._stacked:
            return
        self._stacked = stacked
        layout: Any = row.layout()
        ways = QBoxLayout.Direction
        layout.setDirection(ways.TopToBottom if stacked else ways.LeftToRight)
        layout.setSpacing(1 if stacked else 4)
        self._label.setMinimumWidth(0 if stacked else LABEL_WIDTH)
        self._label.setMaximumWidth(10_000 if stacked else LABEL_WIDTH)


def title_label(text: str, tooltip: str) -> Any:
    """Return the label of a field; long titles wrap."""
    label = Label(value=text, tooltip=tooltip)
    label.native.setWordWrap(True)
    label.native.setMaximumWidth(LABEL_WIDTH)
    label.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    return label


def group_label(text: str) -> Any:
    """Return the small heading of the settings below it."""
    label = Label(value=text, visible=bool(text))
    label.native.setStyleSheet("font-weight: bold;")
    _wrap(label.native)
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


def small(button: Any) -> None:
    """Keep a button as narrow as its text."""
    button.native.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    button.native.setStyleSheet("padding: 2px 6px;")


def small_button(text: str, meaning: str) -> Any:
    """Return a narrow button of one sign; what it does is its tool tip and its accessible name."""
    button = PushButton(text=text, tooltip=meaning)
    button.native.setAccessibleName(meaning)
    small(button)
    return button


def elastic(widget: Any) -> None:
    """Let a field shrink below the width of its longest text, and take the room that is left."""
    native = widget.native
    native.setMinimumWidth(60)
    native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def elide_button(widget: Any) -> None:
    """Let a push button shorten its text in the middle where it does not fit; set its text by `set_button_text`."""
    native: QPushButton = widget.native
    native.installEventFilter(_Eliding(native))


def set_button_text(widget: Any, text: str) -> None:
    """Give an `elide_button` its whole text."""
    native: QPushButton = widget.native
    native.setProperty("whole", text)
    native.setAccessibleDescription(text)
    _Eliding.fit(native)


class _Eliding(QObject):  # type: ignore[misc, unused-ignore]
    """Event filter that shortens the text of a button to its width."""

    MARGINS = 20

    def eventFilter(self, watched: Any, event: Any) -> bool:
        if event.type() in {QEvent.Type.Resize, QEvent.Type.Show, QEvent.Type.FontChange}:
            self.fit(watched)
        return False

    @classmethod
    def fit(cls, button: QPushButton) -> None:
        whole = str(button.property("whole") or "")
        room = max(40, button.width() - cls.MARGINS)
        shown = button.fontMetrics().elidedText(whole, Qt.TextElideMode.ElideMiddle, room)
        if button.text() != shown:
            button.setText(shown)


def guard_wheel(widget: Any) -> None:
    """Keep the mouse wheel from changing a field that nobody has clicked: a form is scrolled with it."""
    native: QWidget = widget if isinstance(widget, QWidget) else widget.native
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


def focus_inside(native: QWidget) -> bool:
    """Scroll to a widget and give the focus to the first control in it; False where it has none."""
    inside = [native, *native.findChildren(QWidget)]
    controls = (w for w in inside if w.focusPolicy() & Qt.FocusPolicy.TabFocus and w.isVisibleTo(native))
    control = next(controls, None)
    place = native.parentWidget()
    while place is not None:
        if isinstance(place, QScrollArea):
            layout = place.widget().layout()
            if layout is not None:
                layout.activate()  # what was unfolded a moment ago has its height only now
            place.ensureWidgetVisible(control or native, 20, 60)
            break
        place = place.parentWidget()
    if control is not None:
        control.setFocus(Qt.FocusReason.OtherFocusReason)
    return control is not None


# ---- sections that fold


def settings() -> QSettings:
    """Return what the window keeps from one time to the next."""
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "segexplorer", "window")


class Section(QWidget):  # type: ignore[misc, unused-ignore]
    """A heading that folds what is below it, by a click or with the space bar; what was folded is remembered.

    Parameters
    ----------
    title
        The heading.
    body
        What is below it.
    key
        Name under which its state is kept; "" keeps none.
    opened
        Whether it is open where nothing is kept.
    bold
        Whether it is the heading of a tab's section, rather than of a group of settings.
    tooltip
        Shown over the heading.

    Attributes
    ----------
    button
        The heading.
    """

    def __init__(
        self,
        title: str,
        body: QWidget,
        *,
        key: str = "",
        opened: bool = True,
        bold: bool = False,
        tooltip: str = "",
        indent: int = INDENT,
        buttons: Sequence[QWidget] = (),
    ) -> None:
        super().__init__()
        self._title, self._body, self._tooltip = title, body, tooltip
        self._key = f"sections/{key}" if key else ""
        self._summary = ""
        self.button = QPushButton()
        weight = "bold" if bold else "normal"
        self.button.setStyleSheet(
            "QPushButton { text-align: left; border: 1px solid transparent; background: transparent;"
            f" padding: 3px 0; font-weight: {weight}; }}"
        )
        self.button.setMinimumWidth(40)
        self.button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.button.installEventFilter(_Eliding(self.button))
        self.button.clicked.connect(lambda _=False: self._toggle())
        head = QHBoxLayout()
        head.setContentsMargins(0, 0, 0, 0)
        head.setSpacing(2)
        head.addWidget(self.button, 1)
        for button in buttons:
            head.addWidget(button)
        place = QVBoxLayout()
        place.setContentsMargins(indent, 0, 0, 0)
        place.addWidget(body)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addLayout(place)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        kept = str(settings().value(self._key, "")) if self._key else ""
        self.open(kept == "open" if kept in {"open", "folded"} else opened)

    @property
    def is_open(self) -> bool:
        """Whether the body is shown."""
        return self._open

    @property
    def title(self) -> str:
        """The heading without its summary."""
        return self._title

    def open(self, opened: bool = True) -> None:
        """Show or hide the body; only what a user does is remembered."""
        self._open = opened
        self._body.setVisible(opened)
        if opened:
            # with its first appearance a text gets padding from the style sheet, which Qt's layouts do not notice
            for label in self._body.findChildren(QLabel):
                label.updateGeometry()
        self._label()

    def describe(self, title: str, summary: str = "") -> None:
        """Give it another heading, and what it says of its body while that is folded away."""
        if (title, summary) != (self._title, self._summary):
            self._title, self._summary = title, summary
            self._label()

    def _label(self) -> None:
        sign = "▾" if self._open else "▸"
        rest = f":  {self._summary}" if self._summary and not self._open else ""
        self.button.setProperty("whole", f"{sign}  {self._title}{rest}")
        self.button.setAccessibleName(f"{self._title}, {'open' if self._open else 'folded'}")
        whole = f"{self._title}{f': {self._summary}' if self._summary else ''}"
        self.button.setToolTip(self._tooltip or whole)
        _Eliding.fit(self.button)

    def _toggle(self) -> None:
        self.open(not self._open)
        if self._key:
            settings().setValue(self._key, "open" if self._open else "folded")


class Card(QFrame):  # type: ignore[misc, unused-ignore]
    """A frame around one entry of a list, with its title and buttons at the top.

    Attributes
    ----------
    section
        The heading and what it folds.
    """

    def __init__(self, body: QWidget, buttons: Sequence[QWidget]) -> None:
        super().__init__()
        self.setProperty("card", True)
        self.section = Section("", body, indent=0, bold=True, buttons=buttons)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 6)
        layout.addWidget(self.section)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)


Tone = Literal["grey", "amber", "red", "green"]
_COLOURS: Mapping[Tone, tuple[str, str]] = {
    "grey": ("#a3a9b1", "#5b6068"),
    "amber": ("#e6b450", "#805300"),
    "red": ("#ff7b68", "#b3261e"),
    "green": ("#5fc08a", "#1a6e44"),
}
"""On dark, on light: each at least 4.5 to 1 against napari's backgrounds (WCAG 2.1, 1.4.3)."""
_FRAMES, _FOCUS = ("#5a626c", "#8a8783"), ("#8fa8ff", "#2f55c8")
"""Frames of cards and the ring around what has the focus: at least 3 to 1 (1.4.11) for the ring."""


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
    """Return the style sheet for a window that holds texts with tones, cards, and controls that have the focus."""
    which = 0 if dark else 1
    rules = [f'QLabel[tone="{tone}"] {{ color: {colour(tone, dark=dark)}; }}' for tone in _COLOURS]
    rules.append(f'QFrame[card="true"] {{ border: 1px solid {_FRAMES[which]}; border-radius: 4px; }}')
    focused = ", ".join(
        f"{kind}:focus" for kind in ("QPushButton", "QComboBox", "QLineEdit", "QAbstractSpinBox", "QCheckBox")
    )
    rules.append(f"{focused} {{ border: 1px solid {_FOCUS[which]}; }}")
    rules.append(f"QSlider:focus {{ border: 1px solid {_FOCUS[which]}; border-radius: 3px; }}")
    return "\n".join(rules)
