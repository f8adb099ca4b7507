"""Editors of values: flag, integer, number, text, path, choice; and optional, tuple, list, mapping made of them.

An editor owns a magicgui widget and speaks plain values. It never judges a value: what cannot be read as a
number is passed on as the text it is, and the spec's own validation says what is wrong with it. Editors of
containers get `make(shape, hints)`, the builder of `spec_forms`, so that their members may be anything a form
shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from magicgui.widgets import CheckBox, ComboBox, FileEdit, LineEdit, PushButton, SpinBox
from psygnal import Signal, SignalInstance
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QSlider

from segexplorer.core.fields import Parameter, PathRole, Shape
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import appearance
from segexplorer.viewmodels.sliders import Slider, slider_of

_LARGEST = 2**53
"""Widest range of a spin box without bounds: whole numbers that YAML, JSON and float64 keep exactly."""
_SLIDER_ROOM = 170
"""Pixels that a slider and its number need."""


@dataclass(frozen=True)
class Hints:
    """What a declaration says beyond the shape; members of tuples and lists get a title alone."""

    title: str = ""
    """What the control is called, also by screen readers."""
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    step: float | None = None
    path: PathRole = ""
    slider: Slider | None = None
    compact: bool = False
    """Inside a list or mapping, where references go into tooltips."""

    @classmethod
    def of(cls, declared: Parameter, *, compact: bool = False) -> Hints:
        """Take over title, bounds, step, slider and path role of a declaration."""
        return cls(
            declared.title,
            declared.minimum,
            declared.maximum,
            declared.exclusive_minimum,
            declared.exclusive_maximum,
            declared.step,
            declared.path,
            slider_of(declared),
            compact,
        )

    def member(self, name: str) -> Hints:
        """Return the hints of a member: a tuple's second number, a mapping's value."""
        return Hints(title=f"{self.title}, {name}" if self.title else name, compact=True)


class Editor(Protocol):
    """Edits one value. `changed` carries the path of what changed below the editor, "" for its own value."""

    @property
    def widget(self) -> Any:
        """The magicgui widget to place."""

    @property
    def entry(self) -> Any:
        """The magicgui widget whose `value` is edited: that of a number without its slider."""

    @property
    def room(self) -> int:
        """Pixels that it needs to be used in comfort."""

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

    def title_of(self, name: str) -> str:
        """Return what the screen calls a member; "" where it has no title of its own."""

    def reveal(self, name: str) -> None:
        """Unfold what hides a member."""


class BaseEditor:
    """What editors are unless they say otherwise: without members, wide, their widget their entry."""

    widget: Any
    room: int = 150

    @property
    def entry(self) -> Any:
        return self.widget

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return frozenset()  # the row around the editor shows its problem

    def members(self) -> Mapping[str, Editor]:
        return {}

    def title_of(self, name: str) -> str:
        return ""

    def reveal(self, name: str) -> None:
        return None


class ValueEditor(BaseEditor):
    """What the editors of single values share: one widget, its `changed` passed on, no place for problems."""

    changed = Signal(str)

    def __init__(self, widget: Any, title: str = "") -> None:
        self.widget = self._entry = widget
        appearance.elastic(widget)
        if title:
            widget.native.setAccessibleName(title)
        widget.changed.connect(self._emit)

    @property
    def entry(self) -> Any:
        return self._entry

    def _emit(self, _: Any = None) -> None:
        self.changed.emit("")

    def get(self) -> Any:
        return self.entry.value

    def set(self, value: Any) -> None:
        self.entry.value = value


class FlagEditor(ValueEditor):
    """A check box."""

    room = 20

    def __init__(self, title: str = "") -> None:
        super().__init__(CheckBox(text=""), title)

    def set(self, value: Any) -> None:
        self.widget.value = bool(value)


class _SliderRow(BaseEditor):
    """A slider before a number; the number is the value, and the slider follows it.

    A number between two stops, or beyond the slider's ends, stays as it was typed.
    """

    def __init__(self, slider: Slider, title: str, show: Callable[[float], None], entry: Any) -> None:
        self._scale, self._show = slider, show
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, len(slider.stops) - 1)
        self.slider.setPageStep(max(1, len(slider.stops) // 10))
        self.slider.setMinimumWidth(60)
        self.slider.setAccessibleName(f"{title}, slider" if title else "slider")
        appearance.guard_wheel(self.slider)
        self.slider.valueChanged.connect(lambda position: self._show(self._scale.stops[position]))
        self.widget = appearance.row(entry)
        self.widget.native.layout().insertWidget(0, self.slider, 1)

    def follow(self, value: Any) -> None:
        """Move to the stop nearest to a value, without changing it."""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            self.slider.blockSignals(True)
            self.slider.setValue(self._scale.nearest(float(value)))
            self.slider.blockSignals(False)


class IntegerEditor(ValueEditor):
    """A spin box with the declared bounds, exclusive ones moved in by one, and a slider where there is a range."""

    def __init__(self, hints: Hints, *, buttons: bool = True) -> None:
        low = -_LARGEST if hints.minimum is None else int(hints.minimum) + int(hints.exclusive_minimum)
        high = _LARGEST if hints.maximum is None else int(hints.maximum) - int(hints.exclusive_maximum)
        first = min(max(0, low), high)
        box = SpinBox(value=first, min=low, max=high, step=int(hints.step or 1))
        super().__init__(box, hints.title)
        appearance.guard_wheel(box)
        if not buttons or hints.slider is not None:
            box.native.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
            width = appearance.NUMBER_WIDTH - 10 if hints.slider is not None else 32
            box.native.setStyleSheet(f"padding: 1px 4px; min-width: {width}px;")
            self.room = 44
        self._slider = None
        if hints.slider is not None:
            box.native.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            box.native.setFixedWidth(appearance.NUMBER_WIDTH)
            self._slider = _SliderRow(hints.slider, hints.title, self._slide, box)
            self.widget, self.room = self._slider.widget, _SLIDER_ROOM
            box.changed.connect(self._slider.follow)
            self._slider.follow(first)

    def _slide(self, value: float) -> None:
        self.entry.value = int(value)

    def set(self, value: Any) -> None:
        self.entry.value = 0 if value is None else int(value)


class NumberEditor(ValueEditor):
    """A line of text that holds a number exactly, a slider before it where there is a range.

    A spin box would round 3e-4 away.
    """

    def __init__(self, hints: Hints) -> None:
        line = LineEdit(value="")
        super().__init__(line, hints.title)
        line.native.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._slider = None
        if hints.slider is not None:
            line.native.setFixedWidth(appearance.NUMBER_WIDTH)
            self._slider = _SliderRow(hints.slider, hints.title, self._slide, line)
            self.widget, self.room = self._slider.widget, _SLIDER_ROOM
            line.changed.connect(self._follow)

    def get(self) -> Any:
        text = str(self.entry.value).strip()
        try:
            return float(text)
        except ValueError:
            return text

    def set(self, value: Any) -> None:
        # untouched when the text already means this number: never rewrite what somebody is typing
        if self.get() != value or self.entry.value == "":
            self.entry.value = number_text(value)
            native = self.entry.native
            if self._slider is not None:
                wanted = native.fontMetrics().horizontalAdvance(native.text()) + 14
                native.setFixedWidth(min(max(appearance.NUMBER_WIDTH, wanted), 150))
            native.setCursorPosition(0)

    def _slide(self, value: float) -> None:
        self.entry.value = number_text(value)

    def _follow(self, _: Any) -> None:
        assert self._slider is not None
        self._slider.follow(self.get())


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
    """A line of text; the whole of a long one is its tool tip."""

    def __init__(self, title: str = "") -> None:
        super().__init__(LineEdit(value=""), title)

    def set(self, value: Any) -> None:
        text = "" if value is None else str(value)
        if self.widget.value != text:
            self.widget.value = text
            self.widget.native.setCursorPosition(0)


class PathEditor(BaseEditor):
    """A line of text with a button that opens a file dialog; the text is kept as it is typed (`${VAR}/x`)."""

    changed = Signal(str)

    def __init__(self, role: PathRole, title: str = "") -> None:
        self.widget = FileEdit(mode="d" if role == "folder" else "r")
        self.widget.choose_btn.text = "…"
        meaning = "Choose a folder" if role == "folder" else "Choose a file"
        self.widget.choose_btn.tooltip = meaning
        self.widget.choose_btn.native.setAccessibleName(f"{title}: {meaning.lower()}" if title else meaning)
        self.widget.line_edit.native.setAccessibleName(title or meaning)
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


class ChoiceEditor(ValueEditor):
    """A combo box of the allowed values."""

    def __init__(self, choices: tuple[Any, ...], title: str = "") -> None:
        box = ComboBox(choices=list(zip(appearance.texts(choices), choices, strict=True)))
        super().__init__(box, title)
        self.room = min(box.native.sizeHint().width(), 240)
        appearance.guard_wheel(self.widget)


class SeriesEditor(ValueEditor):
    """A list of numbers in one line of text, separated by commas: "2, 3"."""

    def __init__(self, *, whole: bool, title: str = "") -> None:
        self._whole = whole
        super().__init__(LineEdit(value="", tooltip="Numbers separated by commas"), title)

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


class OptionalEditor(BaseEditor):
    """A check box (`tick`) before an editor; unticked means none, and keeps what was typed."""

    changed = Signal(str)

    def __init__(self, shape: Shape, hints: Hints, make: Maker) -> None:
        self._inner = make(replace(shape, optional=False), hints)
        stacked = shape.form in {"list", "mapping", "group", "kind"}
        self.tick = CheckBox(text="given" if stacked else "", value=True, tooltip="Unticked: none")
        self.tick.native.setAccessibleName(f"{hints.title}, given" if hints.title else "given")
        if not stacked:
            self.tick.native.setFixedWidth(20)
        arrange = appearance.column if stacked else appearance.row
        self.widget = arrange(self.tick, self._inner.widget)
        self.room = self._inner.room + (0 if stacked else 24)
        self.tick.changed.connect(self._on_tick)
        self._inner.changed.connect(self.changed.emit)

    def _on_tick(self, ticked: bool) -> None:
        self._inner.widget.enabled = ticked
        self.changed.emit("")

    @property
    def entry(self) -> Any:
        return self._inner.entry

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

    def title_of(self, name: str) -> str:
        return self._inner.title_of(name)

    def reveal(self, name: str) -> None:
        self._inner.reveal(name)


class TupleEditor(BaseEditor):
    """A fixed number of editors side by side, e.g. one per axis."""

    changed = Signal(str)

    def __init__(self, shapes: Sequence[Shape], hints: Hints, make: Maker) -> None:
        numbered = [hints.member(str(number)) for number in range(1, len(shapes) + 1)]
        self._members: list[Editor] = [
            IntegerEditor(_bounded(hint, hints), buttons=False)
            if shape.form == "integer" and not shape.optional
            else make(shape, hint)
            for shape, hint in zip(shapes, numbered, strict=True)
        ]
        self.widget = appearance.row(*(member.widget for member in self._members))
        self.room = 50 * len(shapes)
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


def _bounded(member: Hints, whole: Hints) -> Hints:
    return replace(
        member,
        minimum=whole.minimum,
        maximum=whole.maximum,
        exclusive_minimum=whole.exclusive_minimum,
        exclusive_maximum=whole.exclusive_maximum,
    )


class _Entry:
    """One row of a list: its editor, what stands around it, and its buttons."""

    def __init__(self, editor: Editor, around: Any, buttons: Sequence[Any], card: Any = None) -> None:
        self.editor, self.around, self.card = editor, around, card
        self.up, self.down, self.remove = buttons


class ListEditor(BaseEditor):
    """Any number of entries that can be added, removed and moved; specs are framed and titled, values are rows.

    Attributes
    ----------
    add_button
        Adds an entry with its defaults at the end.
    """

    changed = Signal(str)

    def __init__(self, shape: Shape, hints: Hints, make: Maker) -> None:
        self._shape, self._hints, self._make = shape, hints, make
        self._framed = shape.form in {"group", "kind", "mapping", "list"}
        self._entries: list[_Entry] = []
        self.add_button = PushButton(text="Add")
        self.add_button.native.setAccessibleName(f"{hints.title}: add" if hints.title else "Add")
        appearance.small(self.add_button)
        self.add_button.changed.connect(lambda _: self._append())
        self._body = appearance.column()
        self.widget = appearance.column(self._body, self.add_button)

    def get(self) -> Any:
        return [entry.editor.get() for entry in self._entries]

    def set(self, value: Any) -> None:
        items = list(value or ())
        while len(self._entries) > len(items):
            self._drop(len(self._entries) - 1)
        for entry, item in zip(self._entries, items, strict=False):
            entry.editor.set(item)
        for item in items[len(self._entries) :]:
            self._insert().editor.set(item)
        self._number()
        self.changed.emit("")

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        for name in self.members():
            if self._framed and below(problems, name):
                self.reveal(name)
        return pass_on(self.members(), problems)

    def members(self) -> Mapping[str, Editor]:
        return {str(i): entry.editor for i, entry in enumerate(self._entries)}

    def title_of(self, name: str) -> str:
        """Return "2. Cross entropy": the number of an entry, and what it is called."""
        index = int(name)
        called = entry_title(self._entries[index].editor)
        return f"{index + 1}. {called}" if called else f"number {index + 1}"

    def reveal(self, name: str) -> None:
        card = self._entries[int(name)].card if name.isdigit() and int(name) < len(self._entries) else None
        if card is not None:
            card.section.open()

    def buttons_of(self, index: int) -> tuple[Any, Any, Any]:
        """Return the buttons of an entry: up, down, remove."""
        entry = self._entries[index]
        return entry.up, entry.down, entry.remove

    def remove(self, index: int) -> None:
        """Take an entry away, as its button does."""
        self._drop(index)
        self._number()
        self.changed.emit("")

    def move(self, index: int, way: int) -> None:
        """Move an entry up (-1) or down (1), as its buttons do; its editor and what was folded in it come along."""
        target = index + way
        if not 0 <= target < len(self._entries):
            return
        entry = self._entries.pop(index)
        self._entries.insert(target, entry)
        # the entry's own widget is moved within the layout, so that the button that was pressed keeps the focus
        layout = self._body.native.layout()
        layout.removeWidget(entry.around.native)
        layout.insertWidget(target, entry.around.native)
        self._number()
        self.changed.emit("")

    def _append(self) -> None:
        entry = self._insert()
        self._number()
        self.changed.emit("")
        appearance.focus_inside(entry.editor.widget.native)

    def _insert(self) -> _Entry:
        editor = self._make(self._shape, self._hints.member("entry"))
        signs = (("▲", "Move up"), ("▼", "Move down"), ("✕", "Remove"))
        up, down, remove = buttons = [appearance.small_button(sign, meaning) for sign, meaning in signs]
        card = None
        if self._framed:
            card = appearance.Card(editor.widget.native, [button.native for button in buttons])
            around = appearance.column()
            around.native.layout().addWidget(card)
        else:
            around = appearance.row(editor.widget, *buttons)
        entry = _Entry(editor, around, buttons, card)
        self._entries.append(entry)
        self._body.append(around)
        up.changed.connect(lambda _: self.move(self._entries.index(entry), -1))
        down.changed.connect(lambda _: self.move(self._entries.index(entry), 1))
        remove.changed.connect(lambda _: self.remove(self._entries.index(entry)))
        editor.changed.connect(lambda path: self._on_change(entry, path))
        return entry

    def _number(self) -> None:
        """Title the entries anew, and enable the ways that they can be moved."""
        last = len(self._entries) - 1
        for index, entry in enumerate(self._entries):
            title = self.title_of(str(index))
            entry.up.native.setEnabled(index > 0)
            entry.down.native.setEnabled(index < last)
            for button, meaning in (
                (entry.up, "Move up"),
                (entry.down, "Move down"),
                (entry.remove, "Remove"),
            ):
                button.native.setAccessibleName(f"{meaning}: {title}")
                button.tooltip = f"{meaning}: {title}"
            if entry.card is not None:
                entry.card.section.describe(title, entry_summary(entry.editor))

    def _on_change(self, entry: _Entry, path: str) -> None:
        if entry in self._entries:
            self._number()
            self.changed.emit(f"{self._entries.index(entry)}.{path}".rstrip("."))

    def _drop(self, index: int) -> None:
        around = self._entries.pop(index).around
        self._body.remove(around)
        around.native.deleteLater()


def entry_title(editor: Editor) -> str:
    """Return what an entry of a list is called: by its own name, else by the kind that it holds."""
    members = editor.members()
    named = members.get("name")
    if named is not None and str(named.get() or "").strip():
        return str(named.get()).strip()
    for candidate in (editor, *members.values()):
        title = getattr(candidate, "kind_title", "")
        if title:
            return str(title)
    return ""


def entry_summary(editor: Editor) -> str:
    """Return the numbers of an entry in words, for its heading while it is folded: "weight 0.5"."""
    shown = []
    for name, member in editor.members().items():
        title = editor.title_of(name)
        value = member.get()
        if title and isinstance(member, (NumberEditor, IntegerEditor)) and value != "":
            shown.append(f"{title.lower()} {number_text(value) if isinstance(value, float) else value}")
    return ", ".join(shown) if len(shown) <= 2 else ""


class MappingEditor(BaseEditor):
    """Rows of a name and a value, e.g. classes and their label values; `add_button` below."""

    changed = Signal(str)

    def __init__(self, key: Shape, value: Shape, hints: Hints, make: Maker) -> None:
        self._key, self._value, self._hints, self._make = key, value, hints, make
        self._rows: list[tuple[Any, Editor, Any]] = []
        self.add_button = PushButton(text="Add")
        self.add_button.native.setAccessibleName(f"{hints.title}: add" if hints.title else "Add")
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
            name.native.setCursorPosition(0)
            editor.set(item)
        self.changed.emit("")

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return pass_on(self.members(), problems)

    def members(self) -> Mapping[str, Editor]:
        return {str(name.value): editor for name, editor, _ in self._rows}

    def title_of(self, name: str) -> str:
        return name

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
        name.native.setAccessibleName(f"{self._hints.title}: name" if self._hints.title else "name")
        editor = self._make(self._value, self._hints.member("value"))
        editor.widget.native.setMaximumWidth(120)
        remove = appearance.small_button("✕", f"Remove {key}")
        around = appearance.row(name, editor.widget, remove)
        entry = (name, editor, around)
        self._rows.append(entry)
        self._body.append(around)
        name.changed.connect(lambda text: self._on_name(text, entry, remove))
        self._on_name(key, entry, remove)
        editor.changed.connect(lambda path: self.changed.emit(f"{name.value}.{path}".rstrip(".")))
        remove.changed.connect(lambda _: self._remove(entry))

    def _on_name(self, text: str, entry: tuple[Any, Editor, Any], remove: Any) -> None:
        """Let tool tips say the whole of a long name, and whose value and button it is."""
        name, editor, _ = entry
        name.tooltip = text
        remove.tooltip = f"Remove {text}"
        remove.native.setAccessibleName(f"Remove {text}")
        editor.entry.native.setAccessibleName(f"{self._hints.title}: {text}" if self._hints.title else text)
        self.changed.emit("")

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


class OneOfEditor(BaseEditor):
    """A small combo box of shapes ("one number", "3 numbers") before the editor of the chosen one."""

    changed = Signal(str)

    def __init__(self, shapes: Sequence[Shape], hints: Hints, make: Maker) -> None:
        self._shapes, self._hints, self._make = tuple(shapes), hints, make
        self._editors: dict[int, Editor] = {}
        names = [(shape_name(shape), index) for index, shape in enumerate(self._shapes)]
        self._choice = ComboBox(choices=names)
        self._choice.native.setAccessibleName(f"{hints.title}, form" if hints.title else "form")
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

    def title_of(self, name: str) -> str:
        return self._editors[self._choice.value].title_of(name)

    def reveal(self, name: str) -> None:
        self._editors[self._choice.value].reveal(name)

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
