"""Editors of specs: a field with its label, a group of fields, and the choice among a registry's kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from magicgui.widgets import PushButton
from psygnal import Signal
from pydantic import BaseModel

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import Parameter, Shape, parameters
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.forms.editors import Editor, Hints, Maker, below
from segexplorer.frontends.forms.formula_view import FormulaView
from segexplorer.frontends.forms.picker import picker_for
from segexplorer.viewmodels import catalogue

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
    """Return what is shown behind a field: its unit, or a short range."""
    if declared.unit:
        return declared.unit
    return (
        declared.range_text
        if declared.shape.form in {"number", "one_of"} and len(declared.range_text) < 9
        else ""
    )


class Field:
    """One declared parameter: label, editor, unit, and under them its problem in red."""

    def __init__(self, declared: Parameter, make: Maker, title: str = "") -> None:
        self.declared = declared
        self.editor = make(declared.shape, Hints.of(declared))
        self._problem = appearance.problem_label()
        self._fold: Fold | None = None
        self.widget = appearance.column(self._arranged(title or declared.title), self._problem)
        self.reset()

    def _arranged(self, title: str) -> Any:
        tooltip, hint = tooltip_of(self.declared), hint_of(self.declared)
        if self.declared.shape.form == "group" and not self.declared.shape.optional:
            self._fold = Fold(title, self.editor.widget, tooltip)
            return self._fold.widget
        label = appearance.title_label(title, tooltip)
        after = [appearance.hint_label(hint)] if hint else []
        if self.declared.shape.form in _BLOCKS:
            label.native.setMaximumWidth(10_000)
            return appearance.column(
                appearance.row(label, *after), appearance.column(self.editor.widget, indent=appearance.INDENT)
            )
        self.editor.widget.tooltip = tooltip
        return appearance.row(label, self.editor.widget, *after)

    def reset(self) -> None:
        """Show the declared default."""
        if not self.declared.required:
            self.editor.set(self.declared.default)

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        """Tell every problem below this field: at its own place, or under this field."""
        shown = self.editor.show_problems(problems)
        rest = [f"{path}: {text}" if path else text for path, text in problems.items() if path not in shown]
        appearance.show_text(self._problem, "; ".join(_sentence(text) for text in rest))
        if self._fold is not None and problems:
            self._fold.open(True)
        return frozenset(problems)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


class Fold:
    """A heading that shows or hides what is below it."""

    def __init__(self, title: str, body: Any, tooltip: str = "", *, opened: bool = False) -> None:
        self._title, self._body = title, body
        self._button = PushButton(text=title, tooltip=tooltip)
        appearance.button_like_text(self._button)
        self._inside = appearance.column(body, indent=appearance.INDENT)
        self.widget = appearance.column(self._button, self._inside)
        self._button.changed.connect(lambda _: self.open(not self.is_open))
        self.open(opened)

    def open(self, opened: bool) -> None:
        """Show or hide the body."""
        self.is_open = opened
        self._inside.visible = opened
        self._button.text = f"{'▾' if opened else '▸'}  {self._title}"


class GroupEditor:
    """The fields of one spec class (`fields`), in the declared order; advanced ones folded under "More"."""

    changed = Signal(str)

    def __init__(self, model: type[BaseModel], make: Maker, exclude: Iterable[str] = ()) -> None:
        hidden = set(exclude)
        self.fields = {p.name: Field(p, make) for p in parameters(model) if p.name not in hidden}
        plain = [f.widget for f in self.fields.values() if not f.declared.advanced]
        advanced = [f.widget for f in self.fields.values() if f.declared.advanced]
        self._more = Fold("More", appearance.column(*advanced)) if advanced else None
        self._problem = appearance.problem_label()
        extra = [self._more.widget] if self._more else []
        self.widget = appearance.column(self._problem, *plain, *extra)
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
            if inner and field.declared.advanced and self._more is not None:
                self._more.open(True)
        appearance.show_text(self._problem, _sentence(problems.get("", "")))
        return frozenset(shown | ({""} & problems.keys()))

    def members(self) -> Mapping[str, Editor]:
        return {name: field.editor for name, field in self.fields.items()}


class KindEditor:
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
        self.picker = picker_for(registry)
        self._note = appearance.note_label()
        self.formula = FormulaView()
        self._rest = appearance.note_label()
        self._body = appearance.column()
        self.widget = appearance.column(self.picker.widget, self._note, self._rest, self._body)
        self.widget.native.layout().insertWidget(2, self.formula)
        first = _first_simple(registry)
        self.picker.show(f"kind:{first}")
        self._show(first)
        self.picker.changed.connect(self._on_pick)

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

    def show_problems(self, problems: Mapping[str, str]) -> frozenset[str]:
        return self._groups[self._kind].show_problems(problems)

    @property
    def fields(self) -> dict[str, Field]:
        """The fields of the chosen kind."""
        return self._groups[self._kind].fields

    def members(self) -> Mapping[str, Editor]:
        return self._groups[self._kind].members()

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
        """Say what the choice is: what it punishes, formula, range, a preset's note, reference."""
        choice = catalogue.choices(self._registry)[self.picker.value]
        sentence = catalogue.punished(choice)
        if choice.is_preset:
            preset = self._registry.presets()[choice.key.partition(":")[2]]
            if not _same(preset.spec, self.get()):
                sentence = f"Changed from the preset. {sentence}"
        rest = (catalogue.range_sentence(self._spec()), choice.preset_note, catalogue.reference(choice))
        shown = "\n".join(line for line in rest if line)
        if self._compact:
            lines = (sentence, catalogue.spoken_formula(choice), shown)
            self.picker.widget.tooltip = "\n".join(line for line in lines if line)
            return
        appearance.show_text(self._note, sentence)
        self.formula.show_formula(catalogue.formula(choice))
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
