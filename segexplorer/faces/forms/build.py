"""Which editor shows which shape: the one table of forms."""

from __future__ import annotations

from segexplorer.core.fields import Shape
from segexplorer.faces.forms.compound import (
    ListEditor,
    MappingEditor,
    OneOfEditor,
    OptionalEditor,
    TupleEditor,
)
from segexplorer.faces.forms.editors import (
    ChoiceEditor,
    Editor,
    FlagEditor,
    Hints,
    IntegerEditor,
    NumberEditor,
    PathEditor,
    SeriesEditor,
    TextEditor,
)
from segexplorer.faces.forms.nested import GroupEditor, KindEditor


def editor_for(shape: Shape, hints: Hints) -> Editor:
    """Return an editor for a shape; whatever a spec may declare has one."""
    if shape.optional:
        return OptionalEditor(shape, hints, editor_for)
    if shape.form == "kind":
        return KindEditor(shape.registry, hints, editor_for)
    if shape.form == "group":
        assert shape.spec is not None
        return GroupEditor(shape.spec, editor_for)
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
        return SeriesEditor(whole=member.form == "integer")
    return ListEditor(member, hints, editor_for)


def _value_editor(shape: Shape, hints: Hints) -> Editor:
    if shape.form == "flag":
        return FlagEditor()
    if shape.form == "integer":
        return IntegerEditor(hints)
    if shape.form == "number":
        return NumberEditor()
    if shape.form == "choice":
        return ChoiceEditor(shape.choices)
    return PathEditor(hints.path) if hints.path else TextEditor()
