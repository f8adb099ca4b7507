"""Frozen specs: plans that accept friendly input, refuse unknown keys and come back unchanged from YAML.

Also what live edits, `--set` and forms share: reading and replacing a value by its dotted path
("loss.terms.0.loss.alpha").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from segexplorer.core.errors import SpecError, did_you_mean, explain_validation
from segexplorer.core.fields import Parameter, parameters

S = TypeVar("S", bound="Spec")
PLACEHOLDER = "x-registry"
"""Key in place of a late-bound field in pydantic's own schema until `json_schema` resolves it."""


class Spec(BaseModel):
    """Base of every plan: frozen, refusing unknown keys with the nearest name, equal by value."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=False,
    )

    display_name: ClassVar[str] = ""
    """What pickers call it."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = list(cls.model_fields)
            for key in data:
                if key not in known:
                    raise PydanticCustomError(
                        "unknown_key",
                        "has no setting {key}. {hint}",
                        {"key": repr(str(key)), "hint": did_you_mean(str(key), known)},
                    )
            return cls._with_default_kinds(data)
        return data

    @classmethod
    def _with_default_kinds(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return data in which a section without a kind has that of its default: `schedule: {epochs: 2}`."""
        filled = dict(data)
        for name, field in cls.model_fields.items():
            given = filled.get(name)
            if not isinstance(given, Mapping) or "kind" in given:
                continue
            registry = next((m for m in map(_registry, field.metadata) if m is not None), None)
            default = field.get_default(call_default_factory=True)
            if registry is None or not isinstance(default, str | Spec):
                continue
            preset = registry.presets().get(default) if isinstance(default, str) else None
            whole = preset.spec if preset is not None else default
            start = whole.plain() if isinstance(whole, Spec) else {"kind": whole}
            filled[name] = {**start, **given}
        return filled

    @classmethod
    def of(cls, data: Any, where: str = "") -> Self:
        """Validate friendly input (a mapping or an instance).

        Raises
        ------
        SpecError
            One sentence naming every field at fault and what it must be.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise explain_validation(error, where) from error

    def plain(self) -> dict[str, Any]:
        """Return plain data (dict, list, str, numbers) that YAML and JSON take and `of` reads back."""
        return self.model_dump(mode="json")


def _registry(metadata: Any) -> Any:
    """Return the registry of a late-bound field; `core.registry` declares it on top of this module."""
    return getattr(metadata, "late_bound_registry", None)


def get_value(spec: BaseModel, path: str) -> Any:
    """Return the value at a dotted path; list entries by their index.

    Raises
    ------
    SpecError
        When the path leads nowhere; the sentence names the nearest setting.
    """
    value: Any = spec
    walked: list[str] = []
    for part in path.split("."):
        value = _child(value, part, walked)
        walked.append(part)
    return value


def _child(value: Any, part: str, walked: Sequence[str]) -> Any:
    where = ".".join(walked) or "the experiment"
    if isinstance(value, BaseModel):
        if part in type(value).model_fields:
            return getattr(value, part)
        raise SpecError(f"{where} has no setting {part!r}.", did_you_mean(part, type(value).model_fields))
    if isinstance(value, Mapping):
        if part in value:
            return value[part]
        raise SpecError(f"{where} has no entry {part!r}.", did_you_mean(part, [str(k) for k in value]))
    if isinstance(value, (list, tuple)):
        if part.isdigit() and int(part) < len(value):
            return value[int(part)]
        raise SpecError(f"{where} has {len(value)} entries, counted from 0; there is no {part!r}.")
    raise SpecError(f"{where} is a single value; it has no setting {part!r}.")


def replace_value(spec: S, path: str, value: Any) -> S:
    """Return a new, validated spec with the value at a dotted path replaced.

    Raises
    ------
    SpecError
        When the path leads nowhere or the new value is not allowed there.
    """
    return replace_values(spec, {path: value})


def replace_values(spec: S, changes: Mapping[str, Any]) -> S:
    """Return a new, validated spec with several dotted paths replaced at once, e.g. both of two that depend.

    A path below an earlier one ("loss", then "loss.alpha") is replaced within the earlier one's new value, and
    settings beside a "kind" are those of the new kind.

    Raises
    ------
    SpecError
        When a path leads nowhere or a new value is not allowed there.
    """
    together: dict[str, Any] = {}
    for path, value in changes.items():
        if any(path.startswith(f"{earlier}.") for earlier in together):
            spec, together = _replaced(spec, together), {}
        together[path] = value
    return _replaced(spec, together)


def _replaced(spec: S, changes: Mapping[str, Any]) -> S:
    data = spec.plain()
    switched: set[str] = set()
    for path, value in sorted(changes.items(), key=lambda change: not change[0].endswith(".kind")):
        parts = path.split(".")
        section = ".".join(parts[:-1])
        parent = get_value(spec, section) if section else spec
        if section not in switched:  # of a new kind the validator knows the settings
            _check_settable(parent, parts)
        target: Any = data
        for part in parts[:-1]:
            target = target[int(part)] if isinstance(target, list) else target[part]
        plain = value.plain() if isinstance(value, Spec) else value
        if parts[-1] == "kind" and isinstance(parent, Spec) and plain != getattr(parent, "kind", plain):
            _switch_kind(parent, target, str(plain))
            switched.add(section)
            continue
        if isinstance(target, list):
            target[int(parts[-1])] = plain
        else:
            target[parts[-1]] = plain
    return type(spec).of(data)


def _switch_kind(parent: Spec, target: dict[str, Any], kind: str) -> None:
    """Make a section one of another kind: what was set stays where that has it, all else takes its own defaults."""
    from segexplorer.core.registry import families, kept_settings  # which is built on this module

    registry = next(r for r in families().values() if isinstance(parent, r.base))
    given = {key: target[key] for key in parent.model_fields_set if key != "kind"}
    target.clear()
    target.update({"kind": kind, **kept_settings(registry, kind, given)})


def _check_settable(parent: Any, parts: Sequence[str]) -> None:
    if isinstance(parent, Mapping):
        return  # a new entry of a mapping is allowed; the validator judges it
    _child(parent, parts[-1], parts[:-1])


def walk(spec: BaseModel, prefix: str = "") -> Iterator[tuple[str, Parameter, Any]]:
    """Yield (dotted path, declaration, value) of every parameter, nested specs and list entries included."""
    for declared in parameters(type(spec)):
        path = f"{prefix}{declared.name}"
        value = getattr(spec, declared.name)
        yield path, declared, value
        yield from _walk_value(value, path)


def _walk_value(value: Any, path: str) -> Iterator[tuple[str, Parameter, Any]]:
    if isinstance(value, BaseModel):
        yield from walk(value, f"{path}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk_value(item, f"{path}.{index}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk_value(item, f"{path}.{key}")


def live_parameters(spec: BaseModel) -> dict[str, Parameter]:
    """Return what may be changed while a run goes on: dotted path -> declaration."""
    return {path: declared for path, declared, _ in walk(spec) if declared.live}


def owner_of(spec: BaseModel, path: str) -> str:
    """Return what a setting belongs to: "Optimiser", "Tversky", "Terms › 2. Cross entropy"; "" at the top."""
    model: Any = spec
    names: list[str] = []
    for part in path.split(".")[:-1]:
        fields = getattr(type(model), "model_fields", {})
        if part in fields:
            names.append(fields[part].title or part)
        elif not part.isdigit():
            names.append(part)
        model = get_value(model, part)
        called = _called(model)
        if part.isdigit():
            names[-1] = f"{int(part) + 1}. {called}" if called else f"{names[-1]} {int(part) + 1}"
        elif called and len(names) > 1 and names[-2][:1].isdigit():
            names.pop()  # the loss of a term that is called by it
        elif called:
            names[-1] = f"{names[-1]}: {called}"
    return " › ".join(names[-2:])


def _called(spec: Any) -> str:
    """Return what people call a term or a kind: its own name, or its loss's display name."""
    own = getattr(spec, "name", "") or getattr(type(spec), "display_name", "")
    return str(own or getattr(type(getattr(spec, "loss", None)), "display_name", ""))


def differences(before: BaseModel, after: BaseModel) -> dict[str, tuple[Any, Any]]:
    """Return the dotted paths of leaf settings whose values differ, with (before, after).

    A changed kind, or a list or mapping whose keys changed, is one difference at its own path.
    """
    return dict(_differences(before, after, ""))


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    inside = f"{path}." if path else ""
    if isinstance(a, BaseModel) and type(a) is type(b):
        for name in type(a).model_fields:
            yield from _differences(getattr(a, name), getattr(b, name), f"{inside}{name}")
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and _holds_specs(a):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, f"{inside}{index}")
    elif a != b:
        yield path, (a, b)


def _holds_specs(values: tuple[Any, ...]) -> bool:
    return any(isinstance(v, BaseModel) for v in values)
