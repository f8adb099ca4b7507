"""Registries: every kind of loss, network, data set, metric, file format ... under its name.

A registry is filled by importing the files of a folder (`plugins.discover`) and the plug-ins of other packages.
There are two sorts of it: a `Registry` holds spec classes, which have parameters, under their `kind`; a
`Declarations` holds finished objects under their `name`, e.g. a metric with its definition and its function.

A field annotated `Annotated[LossSpec, registry.late_bound]` accepts whatever is registered when a value is
validated, dumps the real class, and shows up in the JSON schema as a reference to the family. Nothing has to be
rebuilt when a plug-in registers a kind later.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from segexplorer.core import plugins
from segexplorer.core.errors import SpecError, UnknownKindError, did_you_mean, explain_validation, nearest
from segexplorer.core.spec import PLACEHOLDER, Spec, walk


class Declared(Protocol):
    """What an object has to say of itself to be registered and listed."""

    @property
    def name(self) -> str:
        """Under which it is found."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def summary(self) -> str:
        """What it is, in one line."""

    def facts(self) -> Mapping[str, Any]:
        """Return all that it declares, as plain data under readable names."""


T = TypeVar("T")
S = TypeVar("S", bound=Spec)
C = TypeVar("C", bound=Spec)
D = TypeVar("D", bound=Declared)
E = TypeVar("E", bound=Declared)

_families: dict[str, Registry[Any]] = {}
_declarations: dict[str, Declarations[Any]] = {}
_lock = threading.RLock()


def families() -> Mapping[str, Registry[Any]]:
    """Return every registry of specs made so far by its family name ("losses", "networks" ...)."""
    return dict(_families)


def declared_families() -> Mapping[str, Declarations[Any]]:
    """Return every registry of declared objects made so far by its family name ("metrics", "formats")."""
    return dict(_declarations)


@dataclass(frozen=True)
class Preset(Generic[S]):
    """A named, complete spec, e.g. the training loss of a paper."""

    name: str
    display_name: str
    spec: S
    group: str = ""
    note: str = ""


class _Members(Generic[T]):
    """Members of one family by name, each with the module that registered it.

    Their order is that of reading: our own files by name and each from top to bottom, then the plug-ins by the
    names of theirs. It does not depend on which file happened to be imported first.
    """

    def __init__(self, family: str, noun: str) -> None:
        self.family, self.noun = family, noun
        self._entries: dict[str, tuple[T, str]] = {}

    def _add(self, name: str, member: T, module: str) -> None:
        with _lock:
            known = self._entries.get(name)
            if known is not None and not self._is_again(known, member, module):
                raise TypeError(f"{self.noun} {name!r} is registered already, by {known[1]}")
            self._entries[name] = member, module

    def _is_again(self, known: tuple[T, str], member: T, module: str) -> bool:
        """Whether a member is the known one from a file that was imported twice, maybe by another path."""
        return _same_file(known[1], module)

    def _members(self) -> dict[str, T]:
        plugins.load()
        with _lock:
            entries = sorted(self._entries.items(), key=lambda entry: _place(entry[1][1]))
        return {name: member for name, (member, _) in entries}

    def names(self) -> list[str]:
        """Return the names, file by file; those of plug-ins last."""
        return list(self._members())

    def package_of(self, name: str) -> str:
        """Return the installed package whose plug-in registered a member; "" for our own and unknown ones."""
        with _lock:
            entry = self._entries.get(name)
        return "" if entry is None else plugins.package_of(entry[1])


def _place(module: str) -> tuple[bool, str]:
    return not module.startswith("segexplorer."), module


def _same_file(one: str, other: str) -> bool:
    if one == other:
        return True
    files = [getattr(sys.modules.get(module), "__file__", None) for module in (one, other)]
    return files[0] is not None and files[0] == files[1]


class Declarations(_Members[D], Mapping[str, D]):
    """The declared objects of one family: a mapping from name to object that grows with every plug-in.

    Parameters
    ----------
    family
        Plural, lower case, as in `segexplorer list <family>`.
    noun
        Singular for messages, e.g. "metric".
    note
        What a reader of the list should know.
    """

    def __init__(self, family: str, noun: str, note: str = "") -> None:
        super().__init__(family, noun)
        self.note = note
        _declarations[family] = self

    def register(self, member: E) -> E:
        """Register an object under its name and return it; the calling module counts as its home.

        Raises
        ------
        TypeError
            When another one has that name.
        """
        self._check(member)  # type: ignore[arg-type]
        home = sys._getframe(1).f_globals.get("__name__", "")
        self._add(member.name, member, home)  # type: ignore[arg-type]
        return member

    def unregister(self, name: str) -> None:
        """Forget a member (a plug-in that is switched off; tests)."""
        with _lock:
            self._entries.pop(name, None)

    def spec(self, name: str) -> D:
        """Return a member by name.

        Raises
        ------
        UnknownKindError
            With the nearest names.
        """
        if name in self._entries:
            return self[name]
        known = self._members()
        in_lower_case = {own.casefold(): own for own in known}
        own = in_lower_case.get(name.casefold())
        if own is not None:
            return known[own]
        near = (in_lower_case[like] for like in nearest(name.casefold(), in_lower_case))
        raise UnknownKindError(f"There is no {self.noun} {name!r}.", did_you_mean(next(near, name), known))

    def of(self, kind: type[E]) -> Mapping[str, E]:
        """Return a view of the members of one class, which grows with the registry."""
        return _View(self, kind)

    def _known(self) -> list[D]:
        """Return the members so far; plug-ins are not asked for."""
        with _lock:
            return [member for member, _ in self._entries.values()]

    def _check(self, member: D) -> None:
        """Raise a `TypeError` where a member contradicts another one."""

    def __getitem__(self, name: str) -> D:
        if name in self._entries:  # plug-ins are imported only when asked for something that is not there yet
            return self._entries[name][0]
        return self._members()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __len__(self) -> int:
        return len(self._members())


class _View(Mapping[str, E]):
    """The members of a registry that are of one class."""

    def __init__(self, registry: Declarations[Any], kind: type[E]) -> None:
        self._registry, self._kind = registry, kind

    def __getitem__(self, name: str) -> E:
        member = self._registry[name]
        if not isinstance(member, self._kind):
            raise KeyError(name)
        return member

    def __iter__(self) -> Iterator[str]:
        return (name for name, member in self._registry.items() if isinstance(member, self._kind))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Registry(_Members[type[S]]):
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
        super().__init__(family, noun)
        self.base = base
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
        fits: bool = issubclass(spec, self.base)
        if not fits:
            raise TypeError(f"{spec.__name__} is no {self.base.__name__}; it cannot be a kind of {self.noun}")
        self._add(kinds[0], spec, spec.__module__)  # type: ignore[arg-type]
        return spec

    def _is_again(self, known: tuple[type[S], str], member: type[S], module: str) -> bool:
        return known[0].__qualname__ == member.__qualname__ and super()._is_again(known, member, module)

    def register_preset(
        self, name: str, display_name: str, spec: S, *, group: str = "", note: str = ""
    ) -> Preset[S]:
        """Give a complete spec a name that YAML, command line and pickers accept in place of a kind."""
        preset = Preset(name, display_name, spec, group, note)
        with _lock:
            if name in self._entries or name in self._presets:
                raise TypeError(f"{self.noun} {name!r} is registered already")
            self._presets[name] = preset
        return preset

    def unregister(self, kind: str) -> None:
        """Forget a kind or preset (a plug-in that is switched off; tests)."""
        with _lock:
            self._entries.pop(kind, None)
            self._presets.pop(kind, None)

    def specs(self) -> dict[str, type[S]]:
        """Return kind -> spec class in the order of `names`."""
        return self._members()

    def presets(self) -> dict[str, Preset[S]]:
        """Return name -> preset in order of registration, plug-ins included."""
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
        """Build a kind (or preset, or spec) with the given parameters: `registry.create("tversky", alpha=.7)`.

        Of a preset, parameters replace its own.
        """
        if isinstance(kind, str) and kind in self.presets():
            preset = self.presets()[kind].spec
            spec = type(preset).of({**preset.plain(), **params}, f"{self.noun} {kind}") if params else preset
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
            if "kind" not in value:  # `Spec` has filled in that of the field's default, where there is one
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


def section_class(base: type[Spec], data: Any, parts: Sequence[str]) -> Registry[Any] | None:
    """Return the registry of the section that a dotted path names in raw data; None where it is no choice of kinds.

    Parameters
    ----------
    base, data
        The spec's class, and what is to become one.
    """
    declared: type[Spec] = base
    found: Registry[Any] | None = None
    for part in parts:
        field = declared.model_fields.get(part)
        if field is None:
            return None
        data = data.get(part) if isinstance(data, Mapping) else None
        found = registry_of(field)
        if found is None:
            inner: Any = field.annotation
            if not (isinstance(inner, type) and issubclass(inner, Spec)):
                return None
            declared = inner
            continue
        kind = data if isinstance(data, str) else data.get("kind") if isinstance(data, Mapping) else None
        known = found.specs().get(str(kind))
        if known is None:
            default = field.get_default(call_default_factory=True)
            preset = found.presets().get(str(kind or default))
            known = type(preset.spec) if preset is not None else found.specs().get(str(default))
        if known is None:
            return found if part == parts[-1] else None
        declared = known
    return found


def registry_of(field: FieldInfo) -> Registry[Any] | None:
    """Return the registry among whose kinds a field chooses, or None."""
    return next((m.late_bound_registry for m in field.metadata if isinstance(m, LateBound)), None)


def kept_settings(registry: Registry[Any], kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that another kind of the same family has, too; all of them for an unknown kind."""
    specs, presets = registry.specs(), registry.presets()
    spec = specs.get(kind) or (type(presets[kind].spec) if kind in presets else None)
    if spec is None:
        return dict(given)
    return {key: value for key, value in given.items() if key in spec.model_fields}


def plugin_kinds(spec: BaseModel) -> dict[str, list[str]]:
    """Return the kinds in a spec that plug-ins registered, for a record: package -> ["losses my_loss", ...]."""
    found: dict[str, list[str]] = {}
    for _, _, value in walk(spec):
        for part in value if isinstance(value, tuple) else (value,):
            for family, registry in families().items():
                kind = getattr(part, "kind", "")
                if isinstance(part, registry.base) and (package := registry.package_of(kind)):
                    kinds = found.setdefault(package, [])
                    kinds += [entry] if (entry := f"{family} {kind}") not in kinds else []
    return found


def require_plugins(needed: Mapping[str, Iterable[str]]) -> None:
    """Refuse a record of `plugin_kinds` whose packages do not offer these kinds here.

    Raises
    ------
    UnknownKindError
        Naming the kind and the package.
    """
    for package, kinds in needed.items():
        for family, _, kind in (entry.partition(" ") for entry in kinds):
            registry = families().get(family)
            if registry is None or kind in registry.specs():
                continue
            installed = any(report.package == package for report in plugins.load())
            raise UnknownKindError(
                f"The {registry.noun} {kind} comes from the package {package}, which "
                + ("does not offer it here." if installed else "is not installed."),
                "Run: segexplorer plugins" if installed else "Install it if you know where it is from.",
            )


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
        # pydantic refuses references to definitions it did not write; core.schema.json_schema resolves this one
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
