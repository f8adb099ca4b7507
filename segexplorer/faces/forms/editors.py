"""Editors of single values: flag, integer, number, text, path, choice.

An editor owns a magicgui widget and speaks plain values. It never judges a value: what cannot be read as a
number is handed on as the text it is, and the spec's own validation says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from magicgui.widgets import CheckBox, ComboBox, FileEdit, LineEdit, SpinBox
from psygnal import Signal, SignalInstance

from segexplorer.core.fields import Parameter, PathRole
from segexplorer.faces.forms import look

_LARGEST = 2**53
"""Widest range of a spin box without bounds: whole numbers that YAML, JSON and float64 keep exactly."""


@dataclass(frozen=True)
class Hints:
    """What a declaration says beyond the shape; members of tuples and lists get the empty one."""

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    step: float | None = None
    path: PathRole = ""
    compact: bool = False
    """Inside a list or mapping, where formulas and references go into tooltips."""

    @classmethod
    def of(cls, declared: Parameter) -> Hints:
        """Take over bounds, step and path role of a declaration."""
        return cls(
            declared.minimum,
            declared.maximum,
            declared.exclusive_minimum,
            declared.exclusive_maximum,
            declared.step,
            declared.path,
        )


class Editor(Protocol):
    """Edits one value. `changed` carries the path of what changed below the editor, "" for its own value."""

    @property
    def widget(self) -> Any:
        """The magicgui widget to place."""

    @property
    def changed(self) -> SignalInstance:
        """Emitted on the main thread after the user or `set` changed a value."""

    def get(self) -> Any:
        """Return the plain value as it stands, valid or not."""

    def set(self, value: Any) -> None:
        """Show a value."""

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        """Tell each problem (path below the editor -> sentence) at its field; return those told."""


class ValueEditor:
    """What the editors of single values share: one widget, its `changed` passed on, no place for problems."""

    changed = Signal(str)

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        look.elastic(widget)
        widget.changed.connect(self._emit)

    def _emit(self, _: Any = None) -> None:
        self.changed.emit("")

    def get(self) -> Any:
        return self.widget.value

    def set(self, value: Any) -> None:
        self.widget.value = value

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return frozenset()  # the row around the editor tells its problem


class FlagEditor(ValueEditor):
    """A check box."""

    def __init__(self) -> None:
        super().__init__(CheckBox(text=""))

    def set(self, value: Any) -> None:
        self.widget.value = bool(value)


class IntegerEditor(ValueEditor):
    """A spin box with the declared bounds; exclusive ones are moved in by one."""

    def __init__(self, hints: Hints) -> None:
        low = -_LARGEST if hints.minimum is None else int(hints.minimum) + int(hints.exclusive_minimum)
        high = _LARGEST if hints.maximum is None else int(hints.maximum) - int(hints.exclusive_maximum)
        first = min(max(0, low), high)
        super().__init__(SpinBox(value=first, min=low, max=high, step=int(hints.step or 1)))
        look.guard_wheel(self.widget)

    def set(self, value: Any) -> None:
        self.widget.value = 0 if value is None else int(value)


class NumberEditor(ValueEditor):
    """A line of text that holds a number exactly: a spin box would round 3e-4 away."""

    def __init__(self) -> None:
        super().__init__(LineEdit(value=""))

    def get(self) -> Any:
        text = str(self.widget.value).strip()
        try:
            return float(text)
        except ValueError:
            return text

    def set(self, value: Any) -> None:
        # untouched when the text already means this number: never rewrite what somebody is typing
        if self.get() != value or self.widget.value == "":
            self.widget.value = number_text(value)


def number_text(value: Any) -> str:
    """Return the shortest text that reads back to the same number: 0.001, 3e-04 as 0.0003, 1e-07, 2."""
    if value is None:
        return ""
    number = float(value)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    if 1e-4 <= abs(number) < 1e15:
        return repr(number)
    mantissa, _, exponent = repr(number).partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


class TextEditor(ValueEditor):
    """A line of text."""

    def __init__(self) -> None:
        super().__init__(LineEdit(value=""))

    def set(self, value: Any) -> None:
        text = "" if value is None else str(value)
        if self.widget.value != text:
            self.widget.value = text


class PathEditor:
    """A line of text with a button that opens a file dialog; the text is kept as it is typed (`${VAR}/x`)."""

    changed = Signal(str)

    def __init__(self, role: PathRole) -> None:
        self.widget = FileEdit(mode="d" if role == "folder" else "r")
        self.widget.choose_btn.text = "…"
        self.widget.choose_btn.tooltip = "Choose a folder" if role == "folder" else "Choose a file"
        look.small(self.widget.choose_btn)
        look.elastic(self.widget.line_edit)
        look.elastic(self.widget)
        self.widget.line_edit.changed.connect(lambda _: self.changed.emit(""))

    def get(self) -> Any:
        return self.widget.line_edit.value

    def set(self, value: Any) -> None:
        text = "" if value is None else str(value)
        if self.widget.line_edit.value != text:
            self.widget.line_edit.value = text

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return frozenset()


class ChoiceEditor(ValueEditor):
    """A combo box of the allowed values."""

    def __init__(self, choices: tuple[Any, ...]) -> None:
        super().__init__(ComboBox(choices=list(zip(look.texts(choices), choices, strict=True))))
        look.guard_wheel(self.widget)


class SeriesEditor(ValueEditor):
    """A list of numbers in one line of text, separated by commas: "2, 3"."""

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        super().__init__(LineEdit(value="", tooltip="Numbers separated by commas"))

    def get(self) -> Any:
        parts = [part.strip() for part in str(self.widget.value).replace(";", ",").split(",")]
        return [self._read(part) for part in parts if part]

    def set(self, value: Any) -> None:
        items = [value] if isinstance(value, (int, float)) else list(value or ())
        if self.get() != items:
            self.widget.value = ", ".join(str(v) if self._whole else number_text(v) for v in items)

    def _read(self, text: str) -> Any:
        try:
            return int(text) if self._whole else float(text)
        except ValueError:
            return text
