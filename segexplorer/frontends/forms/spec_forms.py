"""Forms printed from specs: `SpecForm` edits a whole spec, `LiveForm` what may change while a run goes on.

One table says which editor shows which shape of value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from magicgui.widgets import PushButton
from psygnal import Signal
from pydantic import ValidationError

from segexplorer.core.errors import SpecError, validation_problems
from segexplorer.core.fields import Shape
from segexplorer.core.spec import Spec, get_value, live_parameters, owner_of, replace_value, replace_values
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.forms.editors import (
    ChoiceEditor,
    Editor,
    FlagEditor,
    Hints,
    IntegerEditor,
    ListEditor,
    MappingEditor,
    NumberEditor,
    OneOfEditor,
    OptionalEditor,
    PathEditor,
    SeriesEditor,
    TextEditor,
    TupleEditor,
)
from segexplorer.frontends.forms.spec_editors import Field, GroupEditor, KindEditor


def editor_for(shape: Shape, hints: Hints) -> Editor:
    """Return an editor for a shape; whatever a spec may declare has one."""
    if shape.optional:
        return OptionalEditor(shape, hints, editor_for)
    if shape.form == "kind":
        return KindEditor(shape.registry, hints, editor_for)
    if shape.form == "group":
        assert shape.spec is not None
        return GroupEditor(shape.spec, editor_for, compact=hints.compact)
    if shape.form == "tuple":
        return TupleEditor(shape.items, hints, editor_for)
    if shape.form == "mapping":
        key, value = shape.items
        return MappingEditor(key, value, hints, editor_for)
    if shape.form == "one_of":
        return OneOfEditor(shape.items, hints, editor_for)
    if shape.form == "list":
        return _list_editor(shape.items[0], hints)
    return _value_editor(shape, hints)


def _list_editor(member: Shape, hints: Hints) -> Editor:
    if member.form in {"integer", "number"} and not member.optional:
        return SeriesEditor(whole=member.form == "integer", title=hints.title)
    return ListEditor(member, hints, editor_for)


def _value_editor(shape: Shape, hints: Hints) -> Editor:
    if shape.form == "flag":
        return FlagEditor(hints.title)
    if shape.form == "integer":
        return IntegerEditor(hints)
    if shape.form == "number":
        return NumberEditor(hints)
    if shape.form == "choice":
        return ChoiceEditor(shape.choices, hints.title)
    return PathEditor(hints.path, hints.title) if hints.path else TextEditor(hints.title)


S = TypeVar("S", bound=Spec)


class SpecForm(Generic[S]):
    """Edit a spec; never changes the one it was given.

    Parameters
    ----------
    spec
        What to show, or a spec class to show with its defaults.
    exclude
        Settings of the top level that somebody else edits. Those of `spec` are kept; `value` has them too.

    Attributes
    ----------
    changed
        psygnal signal with the dotted path of what changed, "" for the whole; emitted on the main thread,
        after problems were shown under their fields.
    problems
        (dotted path, sentence fragment) of everything that keeps `value` from being read; excluded settings
        are none of this form's problems.
    """

    changed = Signal(str)

    def __init__(self, spec: S | type[S], *, exclude: Iterable[str] = ()) -> None:
        self._model: type[S] = spec if isinstance(spec, type) else type(spec)
        self._excluded = frozenset(exclude)
        self._kept: dict[str, Any] = {}
        self._group = GroupEditor(self._model, editor_for, self._excluded)
        self._rest = appearance.problem_label()
        self.widget = appearance.column(self._group.widget, self._rest)
        self.problems: tuple[tuple[str, str], ...] = ()
        self._setting = False
        self._group.changed.connect(self._on_change)
        if isinstance(spec, Spec):
            self.set(spec)
        else:
            self._check()

    @property
    def native(self) -> Any:
        """The toolkit's own widget, for a panel to place."""
        return self.widget.native

    @property
    def value(self) -> S:
        """The spec as the form is filled in.

        Raises
        ------
        SpecError
            One sentence naming every field at fault.
        """
        return self._model.of({**self._kept, **self.plain()})

    def plain(self) -> dict[str, Any]:
        """Return what the form shows as plain data, valid or not, without excluded settings."""
        return self._group.get()

    def set(self, spec: S) -> None:
        """Show another spec; what cannot be seen of the old one is gone."""
        self._setting = True
        try:
            self._kept = {name: getattr(spec, name) for name in self._excluded}
            self._group.set(spec)
        finally:
            self._setting = False
        self._on_change("")

    def editor_at(self, path: str) -> Any:
        """Return the editor of a setting by its dotted path, through lists, mappings and the chosen kinds.

        Raises
        ------
        KeyError
            When nothing of that name is shown.
        """
        editor: Editor = self._group
        for name in path.split(".") if path else ():
            editor = editor.members()[name]
        return editor

    def widget_for(self, path: str) -> Any:
        """Return the magicgui widget in which a setting is edited: `form.widget_for("loss.alpha").value = 0.7`."""
        return self.editor_at(path).entry

    def label(self, path: str) -> str:
        """Return a setting's labels as they are on the screen: "Loss › Terms › 2. Cross entropy › Weight"."""
        return " › ".join(title for _, title in self._way(path) if title)

    def focus(self, path: str) -> bool:
        """Unfold what hides a setting, scroll to it, and give it the keyboard.

        Parameters
        ----------
        path
            Its dotted path, e.g. "loss.alpha"; of one that is not shown, the nearest setting above it.

        Returns
        -------
        bool
            False where not even the first part of the path is shown.
        """
        way = self._way(path)
        above: Editor = self._group
        for name, _ in way:
            above.reveal(name)
            above = above.members()[name]
        return bool(way) and appearance.focus_inside(above.widget.native)

    def _way(self, path: str) -> list[tuple[str, str]]:
        """Return (name, title) of the editors that lead to a setting, as far as they are shown."""
        editor: Editor = self._group
        found = []
        for name in path.split(".") if path else ():
            if name not in editor.members():
                break
            found.append((name, editor.title_of(name)))
            editor = editor.members()[name]
        return found

    def problem_sentence(self) -> str:
        """Return the problems in one sentence, by the labels of their fields; "" where there are none."""
        said = (f"{self.label(path)} {text}".strip() for path, text in self.problems)
        return f"{'; '.join(said)}." if self.problems else ""

    def row_for(self, path: str) -> Any:
        """Return the magicgui widget of all that belongs to a setting: label, editor, unit, and its problem."""
        group, _, name = path.rpartition(".")
        return self.editor_at(group).fields[name].widget

    def _on_change(self, path: str) -> None:
        if self._setting:
            return
        self._check()
        self.changed.emit(path)

    def _check(self) -> None:
        """Validate what is typed and show each problem under its field."""
        found: list[tuple[str, str]] = []
        try:
            self._model.model_validate({**self._kept, **self.plain()})
        except ValidationError as error:
            found = [p for p in validation_problems(error) if p[0].partition(".")[0] not in self._excluded]
        self.problems = tuple(found)
        problems = dict(found)
        shown = self._group.show_problems(problems)
        appearance.show_text(
            self._rest, "; ".join(f"{p}: {t}" if p else t for p, t in found if p not in shown)
        )


class LiveForm:
    """Show the live parameters of an experiment; `Apply` sends those that were changed.

    Attributes
    ----------
    applied
        psygnal signal (dotted path -> new value), once for all changed settings, which are valid together and
        are one change. The form goes on comparing with the spec of the last `set`: call `set` with the effective
        experiment when the run says `ParameterApplied`.
    apply_button, revert_button
        Enabled while something differs, the former only while all of it is valid together.
    """

    applied = Signal(dict)

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._fields: dict[str, Field] = {}
        self._body = appearance.column()
        self.apply_button = PushButton(text="Apply", enabled=False)
        self.revert_button = PushButton(text="Revert", enabled=False)
        self._problem = appearance.problem_label()
        self._empty = appearance.note_label()
        self.widget = appearance.column(
            self._empty, self._body, self._problem, appearance.row(self.apply_button, self.revert_button)
        )
        self._setting = False
        self.apply_button.changed.connect(lambda _: self.apply())
        self.revert_button.changed.connect(lambda _: self.set(self._spec))
        self.set(spec)

    @property
    def native(self) -> Any:
        """The toolkit's own widget, for a panel to place."""
        return self.widget.native

    @property
    def paths(self) -> tuple[str, ...]:
        """Dotted paths of what is shown."""
        return tuple(self._fields)

    @property
    def changes(self) -> dict[str, Any]:
        """Dotted path -> value of what differs from the spec, valid or not."""
        typed = {path: field.editor.get() for path, field in self._fields.items()}
        return {path: value for path, value in typed.items() if not self._is_same(path, value)}

    def set(self, spec: Spec) -> None:
        """Show the effective spec; what was typed and not applied is gone."""
        declared = live_parameters(spec)
        self._setting = True
        try:
            if tuple(declared) != self.paths:
                self._rebuild(spec)
            self._spec = spec
            for path, field in self._fields.items():
                field.editor.set(get_value(spec, path))
        finally:
            self._setting = False
        appearance.show_text(
            self._empty, "" if declared else "Nothing of this experiment can be changed during a run."
        )
        self._judge()

    def apply(self) -> None:
        """Emit `applied` with all changes, if they are valid together; else show the problems."""
        changes = self.changes
        if self._judge():
            self.applied.emit(changes)

    def edit(self, path: str, value: Any) -> None:
        """Type a value into a field."""
        self._fields[path].editor.set(value)

    def widget_for(self, path: str) -> Any:
        """Return the magicgui widget in which a live setting is edited, by its dotted path."""
        return self._fields[path].editor.entry

    def label(self, path: str) -> str:
        """Return what the screen calls a live setting: "Optimiser: Learning rate"; "" where it is none."""
        if path not in self._fields:
            return ""
        owner, title = owner_of(self._spec, path), self._fields[path].title
        return f"{owner}: {title}" if owner else title

    def focus(self, path: str) -> bool:
        """Scroll to a live setting and give it the keyboard; False where it is none."""
        field = self._fields.get(path)
        return field is not None and appearance.focus_inside(field.editor.widget.native)

    def _rebuild(self, spec: Spec) -> None:
        """Make the fields anew: under the name of what they belong to, e.g. "Optimiser", "Tversky"."""
        self._body.clear()
        self._fields = {}
        heading = ""
        for path, declared in live_parameters(spec).items():
            owner = owner_of(spec, path)
            if owner != heading:
                heading = owner
                self._body.append(appearance.group_label(owner))
            field = Field(declared, editor_for, compact=True)
            field.name_controls(f"{owner}: {declared.title}" if owner else declared.title)
            field.editor.changed.connect(lambda _: self._on_edit())
            self._fields[path] = field
            self._body.append(field.widget)

    def _on_edit(self) -> None:
        if not self._setting:
            self._judge()

    def _judge(self) -> bool:
        """Tell the problems of the changes under their fields; return whether they can be applied."""
        changes = self.changes
        single = {path: _problem(self._spec, path, value) for path, value in changes.items()}
        for path, field in self._fields.items():
            field.show_problems({"": single[path]} if single.get(path) else {})
        together = ""
        if changes and not any(single.values()):
            together = _problem_of(self._spec, changes)
        appearance.show_text(self._problem, together)
        sound = bool(changes) and not any(single.values()) and not together
        self.apply_button.enabled = sound
        self.revert_button.enabled = bool(changes)
        why_not = "Correct what is marked in red first." if changes else "Nothing has been changed."
        self.apply_button.tooltip = "Takes effect before the next training step" if sound else why_not
        self.revert_button.tooltip = "Show the settings that are in effect" if changes else why_not
        return sound

    def _is_same(self, path: str, typed: Any) -> bool:
        present = get_value(self._spec, path)
        if isinstance(present, tuple) and isinstance(typed, list):
            return list(present) == typed
        return bool(present == typed) and (typed is None) == (present is None)


def _problem(spec: Spec, path: str, value: Any) -> str:
    """Return what is wrong with one value alone, without the path that its sentence starts with."""
    try:
        replace_value(spec, path, value)
    except SpecError as error:
        text = str(error)
        # a rule that joins two settings may hold again when both have changed: judged together, not here
        return text.removeprefix(f"{path} ") if text.startswith(f"{path} ") else ""
    return ""


def _problem_of(spec: Spec, changes: dict[str, Any]) -> str:
    try:
        replace_values(spec, changes)
    except SpecError as error:
        return str(error)
    return ""
