"""Editors of values: flag, integer, number, text, path, choice; and optional, tuple, list, mapping made of them.

An editor owns a magicgui widget and speaks plain values. It never judges a value: what cannot be read as a
number is passed on as the text it is, and the spec's own validation says what is wrong with it. Editors of
containers get `make(shape, hints)`, the builder of `spec_forms`, so that their members may be anything a form
shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from magicgui.widgets import CheckBox, ComboBox, FileEdit, LineEdit, PushButton, SpinBox
from psygnal import Signal, SignalInstance

from segexplorer.core.fields import Parameter, PathRole, Shape
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import appearance

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
        """Return the plain value as typed, valid or not."""

    def set(self, value: Any) -> None:
        """Show a value."""

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        """Show each problem (path below the editor -> sentence) at its field; return those shown."""

    def members(self) -> Mapping[str, Editor]:
        """Return the editors below this one by the names that paths have for them: "depth", "0", "kidneys"."""


class ValueEditor:
    """What the editors of single values share: one widget, its `changed` passed on, no place for problems."""

    changed = Signal(str)

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        appearance.elastic(widget)
        widget.changed.connect(self._emit)

    def _emit(self, _: Any = None) -> None:
        self.changed.emit("")

    def get(self) -> Any:
        return self.widget.value

    def set(self, value: Any) -> None:
        self.widget.value = value

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return frozenset()  # the row around the editor shows its problem

    def members(self) -> Mapping[str, Editor]:
        return {}


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
        appearance.guard_wheel(self.widget)

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
        appearance.small(self.widget.choose_btn)
        appearance.elastic(self.widget.line_edit)
        appearance.elastic(self.widget)
        self.widget.line_edit.changed.connect(lambda _: self.changed.emit(""))

    def get(self) -> Any:
        return self.widget.line_edit.value

    def set(self, value: Any) -> None:
        text = "" if value is None else str(value)
        if self.widget.line_edit.value != text:
            self.widget.line_edit.value = text

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return frozenset()

    def members(self) -> Mapping[str, Editor]:
        return {}


class ChoiceEditor(ValueEditor):
    """A combo box of the allowed values."""

    def __init__(self, choices: tuple[Any, ...]) -> None:
        super().__init__(ComboBox(choices=list(zip(appearance.texts(choices), choices, strict=True))))
        appearance.guard_wheel(self.widget)


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


Maker = Callable[[Shape, Hints], Editor]


def below(problems: Mapping[str, str], head: str) -> dict[str, str]:
    """Return the problems under one member, by the path below it."""
    found = {path[len(head) + 1 :]: text for path, text in problems.items() if path.startswith(f"{head}.")}
    return found | ({"": problems[head]} if head in problems else {})


def pass_on(editors: Mapping[str, Editor], problems: Mapping[str, str]) -> frozenset[str]:
    """Hand each member its problems; return the paths that were shown."""
    shown: set[str] = set()
    for head, editor in editors.items():
        inner = editor.show_problems(below(problems, head))
        shown |= {f"{head}.{path}" if path else head for path in inner}
    return frozenset(shown)


class OptionalEditor:
    """A check box (`tick`) before an editor; unticked means none, and keeps what was typed."""

    changed = Signal(str)

    def __init__(self, shape: Shape, hints: Hints, make: Maker) -> None:
        self._inner = make(replace(shape, optional=False), hints)
        self.tick = CheckBox(text="", value=True, tooltip="Unticked: none")
        self.tick.native.setFixedWidth(20)
        stacked = shape.form in {"list", "mapping", "group", "kind"}
        arrange = appearance.column if stacked else appearance.row
        self.widget = arrange(self.tick, self._inner.widget)
        self.tick.changed.connect(self._on_tick)
        self._inner.changed.connect(self.changed.emit)

    def _on_tick(self, ticked: bool) -> None:
        self._inner.widget.enabled = ticked
        self.changed.emit("")

    def get(self) -> Any:
        return self._inner.get() if self.tick.value else None

    def set(self, value: Any) -> None:
        if value is not None:
            self._inner.set(value)
        self.tick.value = value is not None
        self._inner.widget.enabled = value is not None

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return self._inner.show_problems(problems)

    def members(self) -> Mapping[str, Editor]:
        return self._inner.members()


class TupleEditor:
    """A fixed number of editors side by side, e.g. one per axis."""

    changed = Signal(str)

    def __init__(self, shapes: Sequence[Shape], hints: Hints, make: Maker) -> None:
        self._members = [make(shape, replace(hints, path="")) for shape in shapes]
        self.widget = appearance.row(*(member.widget for member in self._members))
        for index, member in enumerate(self._members):
            member.widget.native.setMinimumWidth(40)
            member.changed.connect(lambda path, i=index: self.changed.emit(f"{i}.{path}".rstrip(".")))

    def get(self) -> Any:
        return [member.get() for member in self._members]

    def set(self, value: Any) -> None:
        for member, item in zip(self._members, value or (), strict=False):
            member.set(item)

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return pass_on(self.members(), problems)

    def members(self) -> Mapping[str, Editor]:
        return {str(i): member for i, member in enumerate(self._members)}


class ListEditor:
    """Any number of rows, each with a button that removes it; `add_button` below."""

    changed = Signal(str)

    def __init__(self, shape: Shape, hints: Hints, make: Maker) -> None:
        self._shape, self._hints, self._make = shape, hints, make
        self._rows: list[tuple[Editor, Any]] = []
        self.add_button = PushButton(text="Add")
        appearance.small(self.add_button)
        self.add_button.changed.connect(lambda _: self._append())
        self._body = appearance.column()
        self.widget = appearance.column(self._body, self.add_button)

    def get(self) -> Any:
        return [editor.get() for editor, _ in self._rows]

    def set(self, value: Any) -> None:
        items = list(value or ())
        while len(self._rows) > len(items):
            self._drop(len(self._rows) - 1)
        for (editor, _), item in zip(self._rows, items, strict=False):
            editor.set(item)
        for item in items[len(self._rows) :]:
            self._insert().set(item)
        self.changed.emit("")

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return pass_on(self.members(), problems)

    def members(self) -> Mapping[str, Editor]:
        return {str(i): editor for i, (editor, _) in enumerate(self._rows)}

    def remove(self, index: int) -> None:
        """Take a row away, as its button does."""
        self._drop(index)
        self.changed.emit("")

    def _append(self) -> None:
        self._insert()
        self.changed.emit("")

    def _insert(self) -> Editor:
        editor = self._make(self._shape, replace(self._hints, path="", compact=True))
        remove = PushButton(text="✕", tooltip="Remove")
        appearance.small(remove)
        if self._shape.form in {"group", "kind", "mapping", "list"}:
            around = appearance.column(editor.widget, remove)
        else:
            around = appearance.row(editor.widget, remove)
        entry = (editor, around)
        self._rows.append(entry)
        self._body.append(around)
        remove.changed.connect(lambda _: self.remove(self._rows.index(entry)))
        editor.changed.connect(lambda path: self._on_change(entry, path))
        return editor

    def _on_change(self, entry: tuple[Editor, Any], path: str) -> None:
        if entry in self._rows:
            self.changed.emit(f"{self._rows.index(entry)}.{path}".rstrip("."))

    def _drop(self, index: int) -> None:
        _, around = self._rows.pop(index)
        self._body.remove(around)
        around.native.deleteLater()


class MappingEditor:
    """Rows of a name and a value, e.g. classes and their label values; `add_button` below."""

    changed = Signal(str)

    def __init__(self, key: Shape, value: Shape, hints: Hints, make: Maker) -> None:
        self._key, self._value, self._hints, self._make = key, value, hints, make
        self._rows: list[tuple[Any, Editor, Any]] = []
        self.add_button = PushButton(text="Add")
        appearance.small(self.add_button)
        self.add_button.changed.connect(lambda _: self._append())
        self._body = appearance.column()
        self.widget = appearance.column(self._body, self.add_button)

    def get(self) -> Any:
        read = int if self._key.form == "integer" else str
        return {_read_key(name.value, read): editor.get() for name, editor, _ in self._rows}

    def set(self, value: Any) -> None:
        items = list(dict(value or {}).items())
        while len(self._rows) > len(items):
            self._drop(len(self._rows) - 1)
        while len(self._rows) < len(items):
            self._insert("")
        for (name, editor, _), (key, item) in zip(self._rows, items, strict=True):
            name.value = str(key)
            editor.set(item)
        self.changed.emit("")

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return pass_on(self.members(), problems)

    def members(self) -> Mapping[str, Editor]:
        return {str(name.value): editor for name, editor, _ in self._rows}

    def _append(self) -> None:
        taken = {name.value for name, _, _ in self._rows}
        number = len(self._rows) + 1
        while f"class {number}" in taken:
            number += 1
        self._insert(str(number) if self._key.form == "integer" else f"class {number}")
        self.changed.emit("")

    def _insert(self, key: str) -> None:
        name = LineEdit(value=key)
        appearance.elastic(name)
        editor = self._make(self._value, replace(self._hints, path="", compact=True))
        remove = PushButton(text="✕", tooltip="Remove")
        appearance.small(remove)
        around = appearance.row(name, editor.widget, remove)
        entry = (name, editor, around)
        self._rows.append(entry)
        self._body.append(around)
        name.changed.connect(lambda _: self.changed.emit(""))
        editor.changed.connect(lambda path: self.changed.emit(f"{name.value}.{path}".rstrip(".")))
        remove.changed.connect(lambda _: self._remove(entry))

    def _remove(self, entry: tuple[Any, Editor, Any]) -> None:
        self._drop(self._rows.index(entry))
        self.changed.emit("")

    def _drop(self, index: int) -> None:
        _, _, around = self._rows.pop(index)
        self._body.remove(around)
        around.native.deleteLater()


def _read_key(text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError:
        return text  # validation names it


class OneOfEditor:
    """A small combo box of shapes ("one number", "3 numbers") before the editor of the chosen one."""

    changed = Signal(str)

    def __init__(self, shapes: Sequence[Shape], hints: Hints, make: Maker) -> None:
        self._shapes, self._hints, self._make = tuple(shapes), hints, make
        self._editors: dict[int, Editor] = {}
        names = [(shape_name(shape), index) for index, shape in enumerate(self._shapes)]
        self._choice = ComboBox(choices=names)
        appearance.elastic(self._choice)
        appearance.guard_wheel(self._choice)
        self._body = appearance.column()
        self.widget = appearance.column(self._choice, self._body)
        self._show(0)
        self._choice.changed.connect(self._on_choice)

    def get(self) -> Any:
        return self._editors[self._choice.value].get()

    def set(self, value: Any) -> None:
        index = next((i for i, shape in enumerate(self._shapes) if fits(shape, value)), 0)
        self._show(index)
        self._editors[index].set(value)
        self._choice.value = index

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return self._editors[self._choice.value].show_problems(problems)

    def members(self) -> Mapping[str, Editor]:
        return self._editors[self._choice.value].members()

    def _on_choice(self, index: int) -> None:
        self._show(index)
        self.changed.emit("")

    def _show(self, index: int) -> None:
        if index not in self._editors:
            editor = self._make(self._shapes[index], self._hints)
            editor.changed.connect(self.changed.emit)
            self._editors[index] = editor
            self._body.append(editor.widget)
        for other, editor in self._editors.items():
            editor.widget.visible = other == index


_ONE = {"integer": "one number", "number": "one number", "flag": "yes or no", "text": "text"}
_MANY = {"integer": "numbers", "number": "numbers", "text": "texts"}


def shape_name(shape: Shape) -> str:
    """Return what the combo box of a `one_of` calls a shape."""
    if shape.form == "tuple":
        return f"{len(shape.items)} {_MANY.get(shape.items[0].form, 'values')}"
    if shape.form == "list":
        return f"a list of {_MANY.get(shape.items[0].form, 'values')}"
    if shape.form == "choice":
        return ", ".join(appearance.texts(shape.choices))
    return _ONE.get(shape.form, shape.form)


def fits(shape: Shape, value: Any) -> bool:
    """Whether a validated value has this shape."""
    if value is None:
        return shape.optional
    if shape.form == "tuple":
        members = isinstance(value, (list, tuple)) and len(value) == len(shape.items)
        return members and all(fits(s, v) for s, v in zip(shape.items, value, strict=True))
    if shape.form == "list":
        return isinstance(value, (list, tuple)) and all(fits(shape.items[0], v) for v in value)
    if shape.form in {"group", "kind"}:
        return isinstance(value, Spec)
    if shape.form == "choice":
        return any(value == choice and type(value) is type(choice) for choice in shape.choices)
    types = {"flag": bool, "integer": int, "number": float, "text": str, "mapping": Mapping}
    return isinstance(value, types[shape.form]) and (shape.form == "flag" or not isinstance(value, bool))
