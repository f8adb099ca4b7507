"""Forms of ipywidgets, printed from the same declarations as those of the window, command line and YAML.

Numbers, choices and switches have widgets of their own, kinds a picker with the form of the chosen kind below it;
everything else is typed as it would be in the YAML file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import ipywidgets as w
import yaml
from pydantic import BaseModel

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import Parameter, Shape, parameters
from segexplorer.core.spec import Spec, get_value, live_parameters, owner_of
from segexplorer.frontends.notebook import html
from segexplorer.viewmodels.catalogue import choices
from segexplorer.viewmodels.sliders import Slider, slider_of

S = TypeVar("S", bound=Spec)
Changed = Callable[[], object]
_FULL = {"width": "98%"}
ITEM_STYLE = {"description_width": "150px"}
"""Of the name beside a value; a long one goes over several lines (`planes.css`)."""


class Field:
    """The editor of one value.

    Attributes
    ----------
    widget
        What is placed.
    """

    widget: Any

    def get(self) -> Any:
        """Return the value as plain data."""
        raise NotImplementedError

    def set(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError


def _titled(declared: Parameter) -> dict[str, Any]:
    unit = f" ({declared.unit})" if declared.unit else ""
    known = f" Called {declared.called}." if declared.called else ""
    ranged = f" {declared.range_text.capitalize()}." if declared.range_text else ""
    return {
        "description": f"{declared.title}{unit}",
        "tooltip": f"{declared.description}{ranged}{known}",
        "description_allow_html": False,
        "style": ITEM_STYLE,
        "layout": _FULL,
    }


class ValueField(Field):
    """A value that one ipywidget holds as it is: a switch, a choice, a number."""

    def __init__(self, widget: Any, changed: Changed) -> None:
        self.widget = widget
        self._setting = False
        widget.observe(lambda _: None if self._setting else changed(), "value")

    def get(self) -> Any:
        return self.widget.value

    def set(self, value: Any) -> None:
        self._setting = True
        try:
            self.widget.value = value
        finally:
            self._setting = False


class SliderField(ValueField):
    """A number at the stops of a slider; a value between two of them becomes a stop of its own."""

    def __init__(self, slider: Slider, titled: Mapping[str, Any], changed: Changed, value: float) -> None:
        self._stops = slider.stops
        options = self._options(value)
        super().__init__(
            w.SelectionSlider(options=options, value=value, continuous_update=False, **titled), changed
        )

    def _options(self, value: float) -> list[tuple[str, float]]:
        return [(f"{stop:g}", stop) for stop in sorted({*self._stops, value})]

    def set(self, value: Any) -> None:
        self._setting = True
        try:
            if value not in dict(map(reversed, self.widget.options)):
                self.widget.options = self._options(value)
            self.widget.value = value
        finally:
            self._setting = False


class YamlField(Field):
    """Anything, as it is written in YAML."""

    def __init__(self, titled: Mapping[str, Any], changed: Changed, value: Any) -> None:
        self.widget = w.Text(value=_written(value), continuous_update=False, **titled)
        self.widget.observe(lambda _: changed(), "value")

    def get(self) -> Any:
        try:
            return yaml.safe_load(self.widget.value)
        except yaml.YAMLError as error:
            raise SpecError(f"{self.widget.description} is no YAML.", "Write e.g. [1, 2, 3].") from error

    def set(self, value: Any) -> None:
        self.widget.value = _written(value)


def _written(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.plain()
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


class OptionalField(Field):
    """A value that may be left out."""

    def __init__(
        self, inner: Callable[[Any], Field], declared: Parameter, changed: Changed, value: Any
    ) -> None:
        self._make, self._inner = inner, None if value is None else inner(value)
        self._changed = changed
        self._use = w.Checkbox(value=value is not None, indent=False, **_titled(declared))
        self.widget = w.VBox([self._use])
        self._use.observe(self._on_use, "value")
        self._place()

    def _on_use(self, _: Any) -> None:
        if self._use.value and self._inner is None:
            self._inner = self._make(None)
        self._place()
        self._changed()

    def _place(self) -> None:
        shown = [self._inner.widget] if self._use.value and self._inner is not None else []
        self.widget.children = [self._use, *shown]

    def get(self) -> Any:
        return self._inner.get() if self._use.value and self._inner is not None else None

    def set(self, value: Any) -> None:
        if value is not None:
            if self._inner is None:
                self._inner = self._make(value)
            self._inner.set(value)
        self._use.value = value is not None


class GroupField(Field):
    """The settings of a spec, one below the other; the advanced ones folded away."""

    def __init__(self, value: BaseModel, changed: Changed, exclude: Iterable[str] = ()) -> None:
        left_out = frozenset(exclude)
        self.model = type(value)
        self.fields: dict[str, Field] = {}
        plain: list[Any] = []
        more: list[Any] = []
        for declared in parameters(self.model):
            if declared.name in left_out:
                continue
            field = field_for(declared, getattr(value, declared.name), changed)
            self.fields[declared.name] = field
            (more if declared.advanced else plain).append(field.widget)
        if more:
            folded = w.Accordion([w.VBox(more)], titles=["More"], selected_index=None)
            plain.append(folded)
        self.widget = w.VBox(plain)
        self._kind = getattr(value, "kind", None)

    def get(self) -> Any:
        found = {name: field.get() for name, field in self.fields.items()}
        return found if self._kind is None else {"kind": self._kind, **found}

    def set(self, value: Any) -> None:
        for name, field in self.fields.items():
            field.set(getattr(value, name))


class KindField(Field):
    """A choice among the kinds of a registry, with the form of the chosen one below."""

    def __init__(self, registry: Any, declared: Parameter, changed: Changed, value: Any) -> None:
        self._registry, self._changed = registry, changed
        self._choices = choices(registry)
        self._spec = registry.parse(value)
        # what cannot be made without being told more, such as a weighted sum of terms, is written in YAML
        able = {key: one for key, one in self._choices.items() if one.spec is not None}
        self._choices = able | {self._key(): self._choices[self._key()]}
        options = [(one.title, key) for key, one in self._choices.items()]
        self._picker = w.Dropdown(options=options, value=self._key(), **_titled(declared))
        self._body = GroupField(self._spec, changed)
        self.widget = w.VBox([self._picker, w.VBox([self._body.widget], layout={"padding": "0 0 0 16px"})])
        self._setting = False
        self._picker.observe(self._on_pick, "value")

    def _key(self) -> str:
        preset = next((n for n, p in self._registry.presets().items() if p.spec == self._spec), None)
        key = f"preset:{preset}" if preset is not None else f"kind:{self._spec.kind}"
        return key if key in self._choices else f"kind:{self._spec.kind}"

    def _on_pick(self, change: Any) -> None:
        if not self._setting:
            sort, _, name = change["new"].partition(":")
            presets = self._registry.presets()
            self._show(presets[name].spec if sort == "preset" else self._registry.parse(name))
            self._changed()

    def _show(self, spec: Any) -> None:
        self._spec, old = spec, self._body
        self._body = GroupField(spec, self._changed)
        self.widget.children[1].children = [self._body.widget]
        close_all(old.widget)

    def get(self) -> Any:
        return self._body.get()

    def set(self, value: Any) -> None:
        self._show(self._registry.parse(value))
        self._setting = True
        try:
            self._picker.value = self._key()
        finally:
            self._setting = False


class SectionField(Field):
    """A group, folded under its title; made when it is opened, since every widget is a message to the browser."""

    def __init__(
        self, declared: Parameter, value: Any, changed: Changed, make: Callable[[Any], Field]
    ) -> None:
        self._value, self._make = value, make
        self._inner: Field | None = None
        self._changed = changed
        self._box = w.VBox([])
        self.widget = w.Accordion([self._box], titles=[declared.title], selected_index=None)
        self.widget.observe(self._on_open, "selected_index")

    def _on_open(self, _: Any) -> None:
        self.open()

    def open(self) -> Field:
        """Make what is inside."""
        if self._inner is None:
            self._inner = self._make(self._value)
            self._box.children = [self._inner.widget]
        return self._inner

    def get(self) -> Any:
        return _plain(self._value) if self._inner is None else self._inner.get()

    def set(self, value: Any) -> None:
        self._value = value
        if self._inner is not None:
            self._inner.set(value)


def field_for(declared: Parameter, value: Any, changed: Changed) -> Field:
    """Return the editor of a declared parameter with its value."""
    if declared.shape.optional:
        return OptionalField(lambda v: _field(declared, declared.shape, v, changed), declared, changed, value)
    return _field(declared, declared.shape, value, changed)


def _field(declared: Parameter, shape: Shape, value: Any, changed: Changed) -> Field:
    titled = _titled(declared)
    if shape.form == "kind":
        return KindField(
            shape.registry, declared, changed, value if value is not None else shape.registry.names()[0]
        )
    if shape.form == "group" and shape.spec is not None:
        group = value if value is not None else shape.spec()
        return SectionField(declared, group, changed, lambda v: GroupField(v, changed))
    if shape.form == "flag":
        titled["style"] = {"description_width": "0px"}
        return ValueField(w.Checkbox(value=bool(value), **titled), changed)
    if shape.form == "choice":
        options = [(str(c).replace("_", " "), c) for c in shape.choices]
        chosen = value if value in shape.choices else shape.choices[0]
        return ValueField(w.Dropdown(options=options, value=chosen, **titled), changed)
    if shape.form in {"integer", "number"}:
        return _number(declared, shape, value, changed, titled)
    return YamlField(titled, changed, value)


def _number(
    declared: Parameter, shape: Shape, value: Any, changed: Changed, titled: Mapping[str, Any]
) -> Field:
    if value is None:
        value = declared.typical[0] if declared.typical else (declared.minimum or 0)
    slider = slider_of(declared)
    if slider is not None and len(slider.stops) <= 300:
        return SliderField(slider, titled, changed, value)
    widget = w.IntText if shape.form == "integer" else w.FloatText
    return ValueField(widget(value=value, continuous_update=False, **titled), changed)


class SpecForm(Generic[S]):
    """Edits a spec; never changes the one that it was given.

    Parameters
    ----------
    spec
        What to show.
    changed
        Called after every change of a field, whether the whole is valid or not.
    exclude
        Settings of the top level that are not shown; they stay as they are.
    """

    def __init__(self, spec: S, changed: Changed = lambda: None, *, exclude: Iterable[str] = ()) -> None:
        self._spec, self._excluded = spec, frozenset(exclude)
        self._group = GroupField(spec, changed, self._excluded)
        self.widget = self._group.widget

    @property
    def value(self) -> S:
        """The spec as the form is filled in.

        Raises
        ------
        SpecError
            One sentence naming every field at fault.
        """
        kept = {name: getattr(self._spec, name) for name in self._excluded}
        return type(self._spec).of({**kept, **self._group.get()})

    def set(self, spec: S) -> None:
        """Show another spec."""
        self._spec = spec
        self._group.set(spec)

    def field(self, path: str) -> Field:
        """Return the editor of a setting by its dotted path, opening what is folded.

        Raises
        ------
        KeyError
            When nothing of that name is shown.
        """
        found: Field = self._group
        for name in path.split("."):
            found = _opened(found)
            if not isinstance(found, GroupField):
                raise KeyError(path)
            found = found.fields[name]
        return found


def _opened(field: Field) -> Field:
    if isinstance(field, SectionField):
        return _opened(field.open())
    return _opened(field._body) if isinstance(field, KindField) else field


class LiveForm:
    """What may be changed while a run goes on; a change is asked for when a slider is let go.

    Parameters
    ----------
    ask
        Called with (dotted path, value).
    """

    def __init__(self, experiment: Spec, ask: Callable[[str, Any], object]) -> None:
        self.fields: dict[str, Field] = {}
        declared = live_parameters(experiment)
        ordered = sorted(declared, key=lambda path: not path.startswith("loss"))
        for path in ordered:
            one = declared[path]
            if one.shape.form in {"flag", "choice", "integer", "number"} and not one.shape.optional:
                self.fields[path] = _live(path, one, get_value(experiment, path), ask, self.fields)
        body = under_owners(experiment, {path: field.widget for path, field in self.fields.items()})
        self.widget = w.VBox(body or [w.Label("Nothing of this experiment can be changed during a run.")])

    def set(self, experiment: Spec) -> None:
        """Show the settings in effect."""
        for path, field in self.fields.items():
            value = get_value(experiment, path)
            if field.get() != value:
                field.set(value)


def _live(
    path: str, declared: Parameter, value: Any, ask: Callable[[str, Any], object], fields: Mapping[str, Field]
) -> Field:
    return _field(declared, declared.shape, value, lambda: ask(path, fields[path].get()))


def under_owners(spec: Spec, widgets: Mapping[str, Any]) -> list[Any]:
    """Return widgets of settings under the names of what they belong to, e.g. "Optimiser", "2. Cross entropy"."""
    body: list[Any] = []
    heading = ""
    for path, widget in widgets.items():
        owner = owner_of(spec, path)
        if owner and owner != heading:
            body.append(w.HTML(f"<b>{html.text(owner)}</b>"))
        heading = owner
        body.append(widget)
    return body


def close_all(widget: Any) -> None:
    """Close a widget with everything inside it, so that no comm is left."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for name in ("style", "layout"):
        part = getattr(widget, name, None)
        if isinstance(part, w.Widget):
            part.close()
    widget.close()
