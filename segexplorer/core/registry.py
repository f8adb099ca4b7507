"""Registries: every kind of loss, network, data set ... under its `kind`, and the field type that chooses one.

A field annotated `Annotated[LossSpec, registry.late_bound]` accepts whatever is registered when a value is
validated, dumps the real class, and shows up in the JSON schema as a reference to the family. Nothing has to be
rebuilt when a plug-in registers a kind later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from segexplorer.core import plugins
from segexplorer.core.errors import SpecError, UnknownKindError, did_you_mean, explain_validation
from segexplorer.core.spec import PLACEHOLDER, Spec

S = TypeVar("S", bound=Spec)
C = TypeVar("C", bound=Spec)

_families: dict[str, Registry[Any]] = {}
_lock = threading.RLock()


def families() -> Mapping[str, Registry[Any]]:
    """Return every registry made so far by its family name ("losses", "networks" ...)."""
    return dict(_families)


@dataclass(frozen=True)
class Preset(Generic[S]):
    """A named, complete spec, e.g. the training loss of a paper."""

    name: str
    display_name: str
    spec: S
    group: str = ""
    note: str = ""


class Registry(Generic[S]):
    """The kinds of one family.

    Parameters
    ----------
    family
        Plural, lower case, as in `segexplorer list <family>`.
    base
        Base class of the family's specs.
    noun
        Singular for messages, e.g. "loss".
    """

    def __init__(self, family: str, base: type[S], noun: str) -> None:
        self.family, self.base, self.noun = family, base, noun
        self._specs: dict[str, type[S]] = {}
        self._presets: dict[str, Preset[S]] = {}
        self.late_bound = LateBound(self)
        _families[family] = self

    def register(self, spec: type[C]) -> type[C]:
        """Register a spec class under the default of its `kind` field; usable as a decorator.

        Raises
        ------
        TypeError
            When the class has no `kind: Literal["name"] = "name"`, or another class has that kind already.
        """
        field = spec.model_fields.get("kind")
        kinds = get_args(field.annotation) if field is not None else ()
        if field is None or len(kinds) != 1 or field.default != kinds[0]:
            raise TypeError(f'{spec.__name__} needs a field kind: Literal["its_name"] = "its_name"')
        kind = kinds[0]
        fits: bool = issubclass(spec, self.base)
        if not fits:
            raise TypeError(f"{spec.__name__} is no {self.base.__name__}; it cannot be a kind of {self.noun}")
        with _lock:
            other = self._specs.get(kind)
            if other is not None and (other.__module__, other.__qualname__) != (
                spec.__module__,
                spec.__qualname__,
            ):
                raise TypeError(f"{self.noun} {kind!r} is registered already, by {other.__module__}")
            self._specs[kind] = spec  # type: ignore[assignment]
        return spec

    def register_preset(
        self, name: str, display_name: str, spec: S, *, group: str = "", note: str = ""
    ) -> Preset[S]:
        """Give a complete spec a name that YAML, command line and pickers accept in place of a kind."""
        preset = Preset(name, display_name, spec, group, note)
        with _lock:
            if name in self._specs or name in self._presets:
                raise TypeError(f"{self.noun} {name!r} is registered already")
            self._presets[name] = preset
        return preset

    def unregister(self, kind: str) -> None:
        """Forget a kind or preset (a plug-in that is switched off; tests)."""
        with _lock:
            self._specs.pop(kind, None)
            self._presets.pop(kind, None)

    def names(self) -> list[str]:
        """Return the kinds in order of registration, plug-ins included."""
        return list(self.specs())

    def specs(self) -> dict[str, type[S]]:
        """Return kind -> spec class, plug-ins included."""
        plugins.load()
        with _lock:
            return dict(self._specs)

    def presets(self) -> dict[str, Preset[S]]:
        """Return name -> preset, plug-ins included."""
        plugins.load()
        with _lock:
            return dict(self._presets)

    def spec(self, kind: str) -> type[S]:
        """Return the spec class of a kind.

        Raises
        ------
        UnknownKindError
            With the nearest names.
        """
        known = self.specs()
        if kind in known:
            return known[kind]
        raise UnknownKindError(
            f"There is no {self.noun} {kind!r}.", did_you_mean(kind, [*known, *self.presets()])
        )

    def parse(self, value: Any) -> S:
        """Turn friendly input into a spec: an instance, a kind, a preset's name, or a mapping with `kind`.

        Raises
        ------
        SpecError
            In one sentence; `UnknownKindError` where the kind is unknown.
        """
        if isinstance(value, str) and value not in self.presets():
            self.spec(value)
        try:
            return self._validate(value)
        except ValidationError as error:
            raise explain_validation(error) from error
        except PydanticCustomError as error:
            raise SpecError(f"A {self.noun} {error.message()}.") from error

    def create(self, kind: str | S, **params: Any) -> Any:
        """Build a kind (or preset, or spec) with the given parameters: `registry.create("tversky", alpha=.7)`."""
        if isinstance(kind, str) and kind in self.presets() and not params:
            spec = self.presets()[kind].spec
        elif isinstance(kind, str):
            spec = self.spec(kind).of(params, f"{self.noun} {kind}")
        else:
            spec = kind
        return spec.build()  # type: ignore[attr-defined]

    def _validate(self, value: Any) -> S:
        if isinstance(value, self.base):
            return value
        if isinstance(value, str):
            presets = self.presets()
            return presets[value].spec if value in presets else self._class_of(value)()
        if isinstance(value, Mapping):
            if "kind" not in value:
                raise PydanticCustomError(
                    "no_kind", "needs a kind, one of {names}", {"names": ", ".join(self.names())}
                )
            return self._class_of(str(value["kind"])).model_validate(dict(value))
        raise PydanticCustomError(
            "no_kind",
            "must be a kind (a name) or a mapping with a kind, one of {names}",
            {"names": ", ".join(self.names())},
        )

    def _class_of(self, kind: str) -> type[S]:
        try:
            return self.spec(kind)
        except UnknownKindError as error:
            raise PydanticCustomError(
                "unknown_kind", "is unknown: {text}", {"text": f"{error.message} {error.remedy}"}
            ) from error


class LateBound:
    """Annotation that makes a field a choice among a registry's kinds, looked up when a value arrives."""

    def __init__(self, registry: Registry[Any]) -> None:
        self.late_bound_registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.late_bound_registry._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # pydantic refuses references to definitions it did not write; core.spec.json_schema resolves this one
        return {PLACEHOLDER: self.late_bound_registry.family}

    def __repr__(self) -> str:
        return f"LateBound({self.late_bound_registry.family})"


def _dump(value: Spec, info: core_schema.SerializationInfo) -> dict[str, Any]:
    mode: Callable[..., dict[str, Any]] = value.model_dump
    data = mode(
        mode=info.mode,
        exclude_unset=info.exclude_unset,
        exclude_defaults=info.exclude_defaults,
        exclude_none=info.exclude_none,
        by_alias=info.by_alias,
    )
    # the kind is a default, yet without it nobody could read the rest back
    return {"kind": type(value).model_fields["kind"].default, **data}
