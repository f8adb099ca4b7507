"""The one UI vocabulary: how a parameter of a spec is declared, and how frontends read the declaration.

A parameter is declared once, with `parameter(...)`. Form, command line, YAML, JSON schema and docs are printed
from what `parameters(model)` returns; no frontend keeps a second list.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import annotated_types
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

_KEY = "segexplorer"
Form = Literal[
    "flag", "integer", "number", "text", "choice", "tuple", "list", "mapping", "group", "kind", "one_of"
]
PathRole = Literal["", "file", "folder"]
Scale = Literal["linear", "log"]
ResumeRule = Literal["refuse", "announce", "extend", "free"]
"""What another value of a setting means to a run that goes on: "refuse": it would be another run; "announce": it
goes on, and its figures say so; "extend": a larger number makes the run longer; "free": no result depends on it."""


def parameter(
    default: Any = ...,
    *,
    title: str,
    description: str,
    unit: str = "",
    live: bool = False,
    step: float | None = None,
    scale: Scale = "linear",
    typical: tuple[float, float] | None = None,
    called: str = "",
    advanced: bool = False,
    path: PathRole = "",
    resume: ResumeRule | None = None,
    default_factory: Callable[[], Any] | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Any:
    """Declare a parameter of a spec.

    Parameters
    ----------
    title
        Label in forms, in sentence case, without unit.
    description
        One or two sentences: what it does and which way it pushes; the tooltip.
    unit
        Unit shown behind the value, e.g. "mm", "voxels", "epochs".
    live
        Whether it may be changed while a run goes on.
    step
        Increment of a spin box and of a slider; None lets the form choose from the range.
    scale
        How a slider spreads its range: "linear", or "log" for what is chosen by its order of magnitude.
    typical
        The ends of a slider, where the allowed range is open or much wider than what is usual. Every allowed value
        can be typed all the same.
    called
        What a paper calls it where the letters differ, e.g. "beta in Abraham 2019".
    advanced
        Shown folded away under "More" in forms.
    path
        "file" or "folder" for text that names a place on the disk; relative ones resolve against the YAML file.
    resume
        Whether a run may go on with another value than it was begun with. Where it is not declared, a `live`
        setting may change, a place on the disk is free, and everything else is refused. What is declared for a
        group holds for all that is inside.
    """
    extra: dict[str, Any] = {
        _KEY: {
            "unit": unit,
            "live": live,
            "step": step,
            "scale": scale,
            "typical": typical,
            "called": called,
            "advanced": advanced,
            "path": path,
            "resume": resume,
        }
    }
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt, "min_length": min_length, "max_length": max_length}
    given: dict[str, Any] = {k: v for k, v in bounds.items() if v is not None}
    if default_factory is not None:
        return Field(
            default_factory=default_factory,
            title=title,
            description=description,
            json_schema_extra=extra,
            **given,
        )
    return Field(default, title=title, description=description, json_schema_extra=extra, **given)


@dataclass(frozen=True)
class Shape:
    """What kind of value a parameter takes, as frontends need to know it.

    Attributes
    ----------
    form
        Which of the few forms of value it is; "kind" is a choice among a registry's specs, "group" a nested spec.
    items
        Member shapes of a tuple, list (one), mapping (key, value) or one_of.
    choices
        Allowed values of a choice.
    spec
        The nested spec class of a group, or the base class of a kind.
    registry
        The registry whose kinds may be chosen (a `core.registry.Registry`), for form "kind".
    optional
        Whether None is allowed.
    """

    form: Form
    items: tuple[Shape, ...] = ()
    choices: tuple[Any, ...] = ()
    spec: type[BaseModel] | None = None
    registry: Any = None
    optional: bool = False


@dataclass(frozen=True)
class Parameter:
    """One declared parameter, as forms, command line and docs print it. Bounds are None where open."""

    name: str
    title: str
    description: str
    unit: str
    live: bool
    step: float | None
    scale: Scale
    typical: tuple[float, float] | None
    called: str
    advanced: bool
    path: PathRole
    resume: ResumeRule | None
    default: Any
    required: bool
    shape: Shape
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    exclusive_maximum: bool

    @property
    def range_text(self) -> str:
        """The range as people write it, e.g. "0 to 1", "more than 0", or empty."""
        low, high = self.minimum, self.maximum
        if low is not None and high is not None:
            note = {(True, True): ", both excluded", (True, False): f", {_number(low)} excluded"}
            note[(False, True)] = f", {_number(high)} excluded"
            excluded = note.get((self.exclusive_minimum, self.exclusive_maximum), "")
            return f"{_number(low)} to {_number(high)}{excluded}"
        if low is not None:
            return f"more than {_number(low)}" if self.exclusive_minimum else f"at least {_number(low)}"
        if high is not None:
            return f"less than {_number(high)}" if self.exclusive_maximum else f"at most {_number(high)}"
        return ""


def _number(value: float) -> str:
    """Return a number as people write it; whole numbers with all their digits."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"


def parameters(model: type[BaseModel]) -> tuple[Parameter, ...]:
    """Return the declared parameters of a spec class in order; the discriminator `kind` is left out."""
    return tuple(_read(name, info) for name, info in model.model_fields.items() if name != "kind")


def _read(name: str, info: FieldInfo) -> Parameter:
    raw = info.json_schema_extra
    extra: dict[str, Any] = dict(raw.get(_KEY, {})) if isinstance(raw, dict) else {}  # type: ignore[arg-type]
    low, high, low_open, high_open = _bounds(info.metadata)
    required = info.is_required()
    return Parameter(
        name=name,
        title=info.title or name.replace("_", " ").capitalize(),
        description=info.description or "",
        unit=extra.get("unit", ""),
        live=extra.get("live", False),
        step=extra.get("step"),
        scale=extra.get("scale", "linear"),
        typical=extra.get("typical"),
        called=extra.get("called", ""),
        advanced=extra.get("advanced", False),
        path=extra.get("path", ""),
        resume=extra.get("resume"),
        default=None if required else info.get_default(call_default_factory=True, validated_data={}),
        required=required,
        shape=shape_of(info.annotation, tuple(info.metadata)),
        minimum=low,
        maximum=high,
        exclusive_minimum=low_open,
        exclusive_maximum=high_open,
    )


def _bounds(metadata: list[Any]) -> tuple[float | None, float | None, bool, bool]:
    low: Any = None
    high: Any = None
    low_open = high_open = False
    for item in metadata:
        if isinstance(item, annotated_types.Ge):
            low, low_open = item.ge, False
        elif isinstance(item, annotated_types.Gt):
            low, low_open = item.gt, True
        elif isinstance(item, annotated_types.Le):
            high, high_open = item.le, False
        elif isinstance(item, annotated_types.Lt):
            high, high_open = item.lt, True
    return low, high, low_open, high_open


_PLAIN: dict[Any, Form] = {bool: "flag", int: "integer", float: "number", str: "text", Path: "text"}


def shape_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Shape:
    """Return the shape of an annotation.

    Raises
    ------
    TypeError
        For an annotation that no form could show; a spec with such a field is a programming error.
    """
    for item in metadata:
        if hasattr(item, "late_bound_registry"):
            return Shape("kind", spec=item.late_bound_registry.base, registry=item.late_bound_registry)
    if annotation in _PLAIN:
        return Shape(_PLAIN[annotation])
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return shape_of(args[0], tuple(args[1:]))
    if origin is Literal:
        return Shape("choice", choices=args)
    if origin in (typing.Union, types.UnionType):
        members = tuple(shape_of(a) for a in args if a is not type(None))
        optional = type(None) in args
        inner = members[0] if len(members) == 1 else Shape("one_of", items=members)
        return replace(inner, optional=optional)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return Shape("list", items=(shape_of(args[0]),))
    if origin is tuple:
        return Shape("tuple", items=tuple(shape_of(a) for a in args))
    if origin is list:
        return Shape("list", items=(shape_of(args[0]),))
    if isinstance(origin, type) and issubclass(origin, typing.Mapping):
        return Shape("mapping", items=(shape_of(args[0]), shape_of(args[1])))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape("group", spec=annotation)
    raise TypeError(f"no form can show a field of type {annotation!r}")
