"""Editors of specs: a field with its label, a group of fields, and the choice among a registry's kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psygnal import Signal
from pydantic import BaseModel
from qtpy.QtWidgets import QWidget

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import Parameter, Shape, parameters
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.forms.editors import BaseEditor, Editor, Hints, Maker, below
from segexplorer.frontends.forms.formula_view import FormulaView
from segexplorer.frontends.forms.picker import picker_for
from segexplorer.viewmodels import catalogue
from segexplorer.viewmodels.sliders import slider_of

_BLOCKS = frozenset({"list", "mapping", "one_of", "kind", "group"})
"""Forms shown below their label over the whole width, since they are more than one line high."""


def tooltip_of(declared: Parameter) -> str:
    """Return meaning, range, paper's name and whether it may change during a run, as rich text."""
    lines = [declared.description]
    if declared.range_text:
        lines.append(f"Range: {declared.range_text}{' ' + declared.unit if declared.unit else ''}.")
    if declared.called:
        lines.append(f"Called {declared.called}.")
    if declared.live:
        lines.append("May be changed while training runs.")
    return "<qt>" + "<br>".join(line.replace("<", "&lt;") for line in lines if line) + "</qt>"


def hint_of(declared: Parameter) -> str:
    """Return what is shown behind a field: its unit, or a short range that no slider shows."""
    if declared.unit:
        return declared.unit
    if slider_of(declared) is not None:
        return ""
    return (
        declared.range_text
        if declared.shape.form in {"number", "one_of"} and len(declared.range_text) < 9
        else ""
    )


class Field:
    """One declared parameter: label, editor, unit, and under them its problem in red.

    Parameters
    ----------
    declared
        The parameter.
    make
        Makes its editor.
    title
        Its label, where another than the declared one is wanted.
    owner
        Name of the spec class it belongs to; folded sections are remembered by it.
    compact
        Whether it is inside the frame of an entry.
    """

    def __init__(
        self, declared: Parameter, make: Maker, title: str = "", *, owner: str = "", compact: bool = False
    ) -> None:
        self.declared, self.title = declared, title or declared.title
        self.editor = make(declared.shape, Hints.of(declared, compact=compact))
        self._problem = appearance.problem_label()
        self._compact, self._key = compact, f"{owner}.{declared.name}" if owner else ""
        self.section: appearance.Section | None = None
        self.widget = appearance.column(self._arranged(), self._problem)
        self.editor.changed.connect(lambda _: self._summarise())
        self.reset()

    def _arranged(self) -> Any:
        tooltip, hint = tooltip_of(self.declared), hint_of(self.declared)
        form, shape = self.declared.shape.form, self.declared.shape
        folds = form == "group" or (form == "kind" and not self._compact)
        if folds and not shape.optional:
            body = self.editor.widget.native
            opened = form == "kind"
            self.section = appearance.Section(
                self.title, body, key=self._key, opened=opened, bold=opened, tooltip=tooltip
            )
            place = appearance.column()
            place.native.layout().addWidget(self.section)
            return place
        label = appearance.title_label(self.title, tooltip)
        after = [appearance.hint_label(hint)] if hint else []
        if form in _BLOCKS:
            label.native.setMaximumWidth(10_000)
            indent = 0 if self._compact else appearance.INDENT
            return appearance.column(
                appearance.row(label, *after), appearance.column(self.editor.widget, indent=indent)
            )
        self.editor.entry.tooltip = tooltip
        self.editor.widget.tooltip = tooltip
        edited = appearance.row(self.editor.widget, *after) if after else self.editor.widget
        room = self.editor.room + (after[0].native.sizeHint().width() + 4 if after else 0)
        return appearance.field_row(label, edited, room)

    def name_controls(self, name: str) -> None:
        """Give the field's controls another accessible name, e.g. with what the field belongs to."""
        for control in self.editor.widget.native.findChildren(QWidget) or [self.editor.widget.native]:
            if control.accessibleName():
                control.setAccessibleName(control.accessibleName().replace(self.declared.title, name, 1))

    def _summarise(self) -> None:
        """Say in the heading of a folded section what was chosen in it."""
        if self.section is not None:
            self.section.describe(self.title, getattr(self.editor, "kind_title", ""))

    def reset(self) -> None:
        """Show the declared default."""
        if not self.declared.required:
            self.editor.set(self.declared.default)
        self._summarise()

    def reveal(self) -> None:
        """Unfold what the field itself folds away."""
        if self.section is not None:
            self.section.open()

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        """Show every problem below this field: at its own place, or under this field."""
        shown = self.editor.show_problems(problems)
        rest = [f"{path}: {text}" if path else text for path, text in problems.items() if path not in shown]
        appearance.show_text(self._problem, "; ".join(_sentence(text) for text in rest))
        if problems:
            self.reveal()
        return frozenset(problems)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


class GroupEditor(BaseEditor):
    """The fields of one spec class (`fields`), in the declared order; advanced ones folded under "More".

    Inside the frame of a list's entry (`compact`), single lines come before what is higher: the weight of a term
    before its loss.
    """

    changed = Signal(str)

    def __init__(
        self, model: type[BaseModel], make: Maker, exclude: Iterable[str] = (), *, compact: bool = False
    ) -> None:
        hidden = set(exclude)
        self.fields = {
            p.name: Field(p, make, owner=model.__name__, compact=compact)
            for p in parameters(model)
            if p.name not in hidden
        }
        plain = [f for f in self.fields.values() if not f.declared.advanced]
        if compact:
            plain.sort(key=lambda f: f.declared.shape.form in _BLOCKS)
        folded = [f for f in self.fields.values() if f.declared.advanced]
        self._more: appearance.Section | None = None
        self._problem = appearance.problem_label()
        self.widget = appearance.column(self._problem, *(f.widget for f in plain))
        if folded:
            body = appearance.column(*(f.widget for f in folded))
            self._more = appearance.Section("More", body.native, key=f"{model.__name__}.more", opened=False)
            self._more.describe("More", ", ".join(f.title[:1].lower() + f.title[1:] for f in folded))
            self._advanced = body  # magicgui deletes what nobody holds
            self.widget.native.layout().addWidget(self._more)
        for name, field in self.fields.items():
            field.editor.changed.connect(lambda path, n=name: self.changed.emit(f"{n}.{path}".rstrip(".")))

    def get(self) -> dict[str, Any]:
        return {name: field.editor.get() for name, field in self.fields.items()}

    def set(self, value: Any) -> None:
        for name, field in self.fields.items():
            if isinstance(value, BaseModel):
                field.editor.set(getattr(value, name))
            elif isinstance(value, Mapping) and name in value:
                field.editor.set(value[name])
            else:
                field.reset()

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        shown: set[str] = set()
        for name, field in self.fields.items():
            inner = below(problems, name)
            field.show_problems(inner)
            shown |= {f"{name}.{path}" if path else name for path in inner}
            if inner:
                self.reveal(name)
        appearance.show_text(self._problem, _sentence(problems.get("", "")))
        return frozenset(shown | ({""} & problems.keys()))

    def members(self) -> Mapping[str, Editor]:
        return {name: field.editor for name, field in self.fields.items()}

    def title_of(self, name: str) -> str:
        return self.fields[name].title if name in self.fields else ""

    def reveal(self, name: str) -> None:
        field = self.fields.get(name)
        if field is None:
            return
        if field.declared.advanced and self._more is not None:
            self._more.open()
        field.reveal()


class KindEditor(BaseEditor):
    """A picker of kinds and presets; what the choice is and the chosen kind's own fields below it.

    What was typed for a kind is kept when another is chosen, and is back when one returns.

    Attributes
    ----------
    picker
        Its `value` is the choice: "kind:NAME" or "preset:NAME".
    formula
        The formula of the choice, drawn.
    """

    changed = Signal(str)

    def __init__(self, registry: Registry[Any], hints: Hints, make: Maker) -> None:
        self._registry, self._make, self._compact = registry, make, hints.compact
        self._groups: dict[str, GroupEditor] = {}
        self._kind = ""
        self.picker = picker_for(registry, hints.title)
        self._note = appearance.note_label()
        self.formula = FormulaView()
        self._rest = appearance.note_label()
        self._told = appearance.column(self._rest)
        self._about = appearance.Section(
            f"About this {registry.noun}", self._told.native, key=f"about.{registry.family}", opened=False
        )
        self._body = appearance.column()
        self.widget = appearance.column(self.picker.widget, self._note, self._body)
        for position, part in enumerate((self.formula, self._about), 2):
            self.widget.native.layout().insertWidget(position, part)
        first = _first_simple(registry)
        self.picker.show(f"kind:{first}")
        self._show(first)
        self.picker.changed.connect(self._on_pick)

    @property
    def kind_title(self) -> str:
        """What people call the choice."""
        return catalogue.choice(self._registry, self.picker.value).title

    def get(self) -> dict[str, Any]:
        return {"kind": self._kind, **self._groups[self._kind].get()}

    def set(self, value: Any) -> None:
        if value is None:
            return
        spec = self._registry.parse(value)
        kind = type(spec).model_fields["kind"].default
        self._show(kind)
        self._groups[kind].set(spec)
        preset = next((n for n, p in self._registry.presets().items() if p.spec == spec), None)
        self.picker.show(f"preset:{preset}" if preset else f"kind:{kind}")
        self._describe()
        self.changed.emit("")

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return self._groups[self._kind].show_problems(problems)

    @property
    def fields(self) -> dict[str, Field]:
        """The fields of the chosen kind."""
        return self._groups[self._kind].fields

    def members(self) -> Mapping[str, Editor]:
        return self._groups[self._kind].members()

    def title_of(self, name: str) -> str:
        return self._groups[self._kind].title_of(name)

    def reveal(self, name: str) -> None:
        self._groups[self._kind].reveal(name)

    def _on_pick(self, choice: str) -> None:
        family, _, name = choice.partition(":")
        if family == "preset":
            spec = self._registry.presets()[name].spec
            self._show(type(spec).model_fields["kind"].default)
            self._groups[self._kind].set(spec)
        else:
            self._show(name)
        self._describe()
        self.changed.emit("")

    def _show(self, kind: str) -> None:
        self._kind = kind
        if kind not in self._groups:
            group = GroupEditor(self._registry.spec(kind), self._make)
            self._groups[kind] = group
            group.changed.connect(lambda path: self._on_edit(path))
            self._body.append(group.widget)
        for other, group in self._groups.items():
            group.widget.visible = other == kind
        self._describe()

    def _on_edit(self, path: str) -> None:
        self._describe()
        self.changed.emit(path)

    def _spec(self) -> Spec | None:
        """Return what the fields give; None while one of them is not allowed."""
        try:
            found: Spec = self._registry.parse(self.get())
        except SpecError:
            return None
        return found

    def _describe(self) -> None:
        """Say what the choice is: what it penalises and its formula; folded away, range, note and reference.

        Terms of a compound say this for themselves, each in its own frame.
        """
        choice = catalogue.choice(self._registry, self.picker.value)
        sentence, *_ = (*catalogue.about(choice.model), "")
        if choice.is_preset:
            preset = self._registry.presets()[choice.key.partition(":")[2]]
            if not _same(preset.spec, self.get()):
                sentence = f"Changed from the preset. {sentence}"
        rest = (catalogue.range_sentence(self._spec()), choice.preset_note, catalogue.reference(choice))
        shown = "\n".join(line for line in rest if line)
        appearance.show_text(self._note, sentence)
        self.formula.show_formula(catalogue.formula_of(choice.model))
        self.picker.widget.tooltip = "\n".join(line for line in (choice.title, sentence, shown) if line)
        self._about.setVisible(bool(shown) and not self._compact)
        appearance.show_text(self._rest, shown)


def _same(spec: Spec, data: Mapping[str, Any]) -> bool:
    """Whether plain data, valid or not, means the spec."""
    try:
        return type(spec).model_validate(dict(data)) == spec
    except ValueError:
        return False


def _first_simple(registry: Registry[Any]) -> str:
    """Return the first kind that needs nothing filled in and holds none of its own family.

    A form that starts with it never recurses into itself for ever.
    """
    specs: dict[str, type[Spec]] = registry.specs()
    simple = (
        kind
        for kind, spec in specs.items()
        if not any(p.required or _holds(p.shape, registry) for p in parameters(spec))
    )
    return next(simple, next(iter(specs)))


def _holds(shape: Shape, registry: Registry[Any]) -> bool:
    """Whether a value of this shape may contain a kind of the registry."""
    if shape.form == "group" and shape.spec is not None:
        return any(_holds(p.shape, registry) for p in parameters(shape.spec))
    return shape.registry is registry or any(_holds(item, registry) for item in shape.items)
